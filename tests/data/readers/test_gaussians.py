"""Mixtures against their stated means, spread and weights, and the exact distribution of distances."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from jaxgen.data.options import Options
from jaxgen.data.readers import gaussians
from jaxgen.data.source import SPLITS
from jaxgen.errors import UserError

NAMES = {"gaussians": 8, "gaussians/ring": 8, "gaussians/grid": 25}


def test_ring_by_hand():
    means, deviation = gaussians.modes("ring")
    half = 0.5**0.5
    expected = [(1, 0), (half, half), (0, 1), (-half, half), (-1, 0), (-half, -half), (0, -1), (half, -half)]
    np.testing.assert_allclose(means, expected, atol=1e-15)
    assert deviation == 0.01
    assert means.dtype == np.float64


def test_grid_by_hand():
    means, deviation = gaussians.modes("grid")
    np.testing.assert_array_equal(means, [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)])
    assert deviation == 0.05


def test_ring_is_the_default():
    default, ring = gaussians.read(Options("gaussians")), gaussians.read(Options("gaussians/ring"))
    np.testing.assert_array_equal(default.splits["test"]["point"], ring.splits["test"]["point"])
    assert default.classes == ring.classes
    assert ring.classes[1:4] == ("(0.71, 0.71)", "(0, 1)", "(-0.71, 0.71)")


@pytest.mark.parametrize(("name", "num_modes"), NAMES.items())
def test_points_are_of_the_mixture(name, num_modes):
    source = gaussians.read(Options(name))
    means, deviation = gaussians.modes(Options(name).dataset_config)
    assert len(source.classes) == num_modes
    assert tuple(source.splits) == SPLITS
    for split, num in zip(source.splits.values(), (100_000, 10_000, 10_000), strict=True):
        point, label = split["point"], split["label"]
        assert (point.shape, point.dtype) == ((num, 2), np.float32)
        assert (label.shape, label.dtype) == ((num,), np.int32)

        # Each point is nearest to its label's mean.
        distances = np.linalg.norm(point[:, None].astype(float) - means, axis=-1)
        np.testing.assert_array_equal(distances.argmin(axis=1), label)
        # Modes are equally likely.
        assert stats.chisquare(np.bincount(label, minlength=num_modes)).pvalue > 1e-3
        # Both coordinates are normal with the stated deviation, and independent: in each mode, and hence overall, the
        # distance from the mean is Rayleigh distributed and the angle uniform.
        x, y = ((point.astype(float) - means[label]) / deviation).T
        assert stats.kstest(x, "norm").pvalue > 1e-3
        assert stats.kstest(y, "norm").pvalue > 1e-3
        assert stats.kstest(np.hypot(x, y), "rayleigh").pvalue > 1e-3
        assert stats.kstest(np.arctan2(y, x) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
        for mode in range(num_modes):
            assert abs(x[label == mode].mean()) < 4 / np.sqrt(np.sum(label == mode))


@pytest.mark.parametrize("name", NAMES)
def test_splits_have_no_point_in_common(name):
    points = [set(map(bytes, split["point"])) for split in gaussians.read(Options(name)).splits.values()]
    assert len(points[0] & points[1]) == len(points[0] & points[2]) == len(points[1] & points[2]) == 0


def test_unknown_config_is_told():
    with pytest.raises(UserError, match=r"^gaussians has no config 'spiral': there are ring and grid$"):
        gaussians.read(Options("gaussians/spiral"))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("gaussians/ring", "88e55f7f0c3d9597aac623cb17e9ac0b09c0e4944ff9025d6b9739699c28f1ac"),
        ("gaussians/grid", "8f4bf399b0be48651467a43f7a00d38519081cd0f73da5c8056860558d7f1bf9"),
    ],
)
def test_content_is_the_recorded_one(name, digest):
    """A change of the rule or of NumPy's random streams changes the content; `identity` must then change too."""
    content = hashlib.sha256()
    for split in gaussians.read(Options(name)).splits.values():
        content.update(split["point"].astype("<f4"))
        content.update(split["label"].astype("<i4"))
    assert gaussians.identity(Options(name)) == "1"
    assert content.hexdigest() == digest
