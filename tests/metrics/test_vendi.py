"""The Vendi score against closed forms, and against the eigenvalues of the n x n matrix of cosines."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from jaxgen.metrics.vendi import vendi_score


def normal(seed, n, dimensions):
    return np.random.default_rng(seed).normal(size=(n, dimensions))


@pytest.mark.parametrize(("num", "dimensions"), [(1, 1), (1, 5), (7, 7), (7, 40)])
def test_right_angles_are_all_different(num, dimensions):
    assert vendi_score(3 * np.eye(num, dimensions)) == pytest.approx(num, rel=1e-12)


@pytest.mark.parametrize(("num", "dimensions"), [(2, 1), (50, 3), (3, 50), (1000, 64)])
def test_one_direction_is_one_sample(num, dimensions):
    features = np.linspace(1, 2, num)[:, None] * normal(0, 1, dimensions)
    assert vendi_score(features) == pytest.approx(1, rel=1e-10)
    features[::2] *= -1  # their cosine is -1: the same eigenvalues
    assert vendi_score(features) == pytest.approx(1, rel=1e-10)


def test_groups_count_by_the_entropy_of_their_shares():
    alike = np.repeat(np.eye(2), [10, 10], axis=0)
    assert vendi_score(alike) == pytest.approx(2, rel=1e-12)
    shares = np.array([0.5, 0.3, 0.2])
    groups = np.repeat(np.eye(3), [5, 3, 2], axis=0)
    assert vendi_score(groups) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-12)


@pytest.mark.parametrize("degrees", [0, 10, 60, 90, 135])
def test_two_samples_by_their_angle(degrees):
    """K / 2 = [[1, c], [c, 1]] / 2 has the eigenvalues (1 + c) / 2 and (1 - c) / 2."""
    angle = np.deg2rad(degrees)
    values = [(1 + np.cos(angle)) / 2, (1 - np.cos(angle)) / 2]
    expected = np.exp(-sum(value * np.log(value) for value in values if value > 0))
    assert vendi_score([[2, 0], [np.cos(angle), np.sin(angle)]]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num", "dimensions"), [(60, 8), (8, 60), (30, 29), (30, 30), (30, 31)])
def test_against_scikit_learns_cosines(num, dimensions):
    features = 0.5 + normal(1, num, dimensions)
    values = np.linalg.eigvalsh(cosine_similarity(features) / num)
    values = values[values > 1e-14]
    expected = np.exp(-(values * np.log(values)).sum())
    assert vendi_score(features) == pytest.approx(expected, rel=1e-10)
    assert 2 < expected < min(num, dimensions)


def test_what_does_not_change_it():
    features = 1 + normal(2, 20, 6)
    expected = vendi_score(features)
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(normal(4, 6, 6))
    for alike in (
        rng.permutation(features),
        features @ turn,
        features * rng.uniform(0.1, 10, (20, 1)),
        np.tile(features, (5, 1)),
        1e200 * features,
        1e-200 * features,
    ):
        assert vendi_score(alike) == pytest.approx(expected, rel=1e-10)
    assert vendi_score(np.float32(features)) == pytest.approx(expected, rel=1e-5)
    assert vendi_score(features - 1) > 1.5 * expected  # an offset brings them closer


def test_zeros_are_a_direction_of_their_own():
    assert vendi_score(np.zeros((4, 3))) == pytest.approx(1, rel=1e-12)
    assert vendi_score([[1, 0], [0, 0]]) == pytest.approx(2, rel=1e-12)
    assert vendi_score([[1, 0], [0, 0], [2, 0], [0, 0]]) == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((0, 3)), "1 samples or more are needed; sample features have 0$"),
        (np.ones(3), r"sample features must be \[samples, dimensions\], got the shape \(3,\)$"),
        ([[1.0, np.nan]], "sample features have non-finite values$"),
    ],
)
def test_what_is_refused(features, message):
    with pytest.raises(ValueError, match=message):
        vendi_score(features)
