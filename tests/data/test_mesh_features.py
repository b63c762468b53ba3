"""Features of meshes as entries of a dataset: computed once, and cached by content."""

import jax
import numpy as np
import pytest

from jaxgen import data
from jaxgen.data import mesh_features
from jaxgen.data.readers import bars
from jaxgen.deformation import KINDS, Deformation, aligned, mean_shape


@pytest.fixture
def split(monkeypatch, tmp_path):
    """Function that makes a split of twelve bars, with a cache of its own."""
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    entries = bars._draw(np.random.Generator(np.random.PCG64(1)), 12)
    reference, target = mesh_features.reference_and_target(entries["mesh"])
    return lambda: mesh_features.Meshes(entries, bars.faces(), reference, target)


def test_features_are_those_of_the_meshes_and_computed_once(split, tmp_path, monkeypatch):
    some = split()
    assert set(some) == {"mesh", "label"}
    reference, target = mesh_features.reference_and_target(some["mesh"])
    for kind in KINDS:
        expected = Deformation(reference, bars.faces(), kind, target).features(some["mesh"])
        assert some[kind].dtype == np.float32
        np.testing.assert_allclose(some[kind], expected, rtol=1e-6, atol=1e-7)
    assert len(list((tmp_path / "features").iterdir())) == 3
    monkeypatch.setattr(mesh_features, "_computed", None)  # a second computation would fail
    np.testing.assert_array_equal(split()["rimd"], some["rimd"])
    with pytest.raises(KeyError, match="curvature"):
        split()["curvature"]


def test_damaged_features_and_those_of_other_meshes_are_computed_again(split, tmp_path):
    before = np.array(split()["aligned"])
    (file,) = (tmp_path / "features").glob("*/features.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    np.testing.assert_array_equal(split()["aligned"], before)
    other = split()
    other["mesh"] = 2 * other["mesh"]
    assert np.abs(other["aligned"] - before).max() > 0.5
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_the_reference_is_the_mesh_closest_to_the_mean(split):
    meshes = split()["mesh"]
    reference, target = mesh_features.reference_and_target(meshes)
    np.testing.assert_allclose(target, mean_shape(meshes), atol=1e-6)
    errors = [np.linalg.norm(aligned(mesh[None], target)[0] - target) for mesh in meshes]
    np.testing.assert_array_equal(reference, meshes[np.argmin(errors)])


def test_bars_describe_their_features():
    """1,968 edges of 658 vertices, and 1,968 pairs of 1,312 triangles."""
    spec = data.load("bars").spec
    sizes = {"rimd": 3 * 1968 + 6 * 658, "gradients": 3 * 1968 + 6 * 1312, "aligned": 3 * 658}
    for kind, size in sizes.items():
        assert spec.entries[kind] == jax.ShapeDtypeStruct((size,), np.float32)
    assert spec.reference.shape == (658, 3)
    assert spec.subject == "mesh"


def test_triangles_that_share_an_edge_by_threes_have_vertices_only():
    assert mesh_features.sizes(np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]), 5) == {"aligned": 15}
