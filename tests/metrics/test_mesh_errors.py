"""Errors and statistics of meshes against values worked by hand and independent implementations."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from jaxgen.metrics import mesh_errors
from tests.test_deformation import TETRAHEDRON, grid, moved

CUBE = trimesh.creation.box()
CORNERS, FACES = np.asarray(CUBE.vertices), np.asarray(CUBE.faces)


def meshes(num, seed=0):
    return CORNERS + 0.3 * np.random.default_rng(seed).normal(size=(num, 8, 3))


def test_box_diagonal_of_the_unit_cube():
    assert mesh_errors.box_diagonal(CORNERS + 5) == pytest.approx(np.sqrt(3))


def test_vertex_errors_by_hand():
    """Motions do not count; of a cube twice as large every corner is half a diagonal away."""
    fake = np.stack([moved(CORNERS), 2 * moved(CORNERS, 1)])
    found = mesh_errors.vertex_errors(np.stack([CORNERS] * 2), fake)
    np.testing.assert_allclose(found, [0, np.sqrt(3) / 2], atol=1e-12)
    with pytest.raises(ValueError, match="real meshes have the shape"):
        mesh_errors.vertex_errors(CORNERS[None], CORNERS[None, :5])


def test_rigid_distances_equal_those_after_alignment_by_scipy(monkeypatch):
    monkeypatch.setattr(mesh_errors, "AT_ONCE", 10)  # two meshes at once
    x, y = meshes(5), meshes(4, 1)
    x[0] = moved(y[2])
    y[3] *= [1, 1, -1]
    found = mesh_errors.rigid_distances(x, y)
    for i, j in np.ndindex(5, 4):
        _, distance = Rotation.align_vectors(x[i] - x[i].mean(0), y[j] - y[j].mean(0))
        assert found[i, j] == pytest.approx(distance / np.sqrt(8), abs=1e-7)
    assert found[0, 2] < 1e-7


def test_pca_equals_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(20, 30)) * np.arange(30), rng.normal(size=(6, 30))
    mean = train.mean(0)
    _, _, axes = np.linalg.svd(train - mean)
    for components in (1, 7):
        expected = mean + (test - mean) @ axes[:components].T @ axes[:components]
        np.testing.assert_allclose(mesh_errors.pca_reconstructed(train, test, components), expected, atol=1e-8)
    # at most 19 components of 20 examples, which hold every training example
    np.testing.assert_allclose(mesh_errors.pca_reconstructed(train, train, 500), train, atol=1e-8)


def test_edges_and_volume_of_a_box():
    """A box of 1 x 2 x 3, with 12 edges and 6 diagonals of its sides; the same inside out; one without a side."""
    box = (CORNERS * [1, 2, 3])[None] + 7
    lengths = np.sort(mesh_errors.edge_lengths(box, FACES)[0])
    np.testing.assert_allclose(lengths, np.sort([1, 2, 3] * 4 + [5**0.5, 10**0.5, 13**0.5] * 2))
    np.testing.assert_allclose(mesh_errors.volumes(box, FACES), [6])
    np.testing.assert_allclose(mesh_errors.volumes(box, FACES[:, ::-1]), [6])
    assert np.isnan(mesh_errors.volumes(box, FACES[2:])).all()
    np.testing.assert_allclose(
        mesh_errors.volumes(TETRAHEDRON[0][None] @ np.diag([2, 1, 1]), TETRAHEDRON[1]),
        [abs(np.linalg.det((TETRAHEDRON[0][1:] - TETRAHEDRON[0][0]) @ np.diag([2, 1, 1]))) / 6],
    )


def test_a_folded_triangle_is_counted():
    """A flat sheet has none; a vertex pulled across its neighbors turns over the triangles that it leaves behind."""
    mesh, faces = grid(0)
    pulled = mesh.copy()
    pulled[12] = [3.5, 2, 0]  # from (2, 2), over the vertex at (3, 2)
    found = mesh_errors.flipped_share(np.stack([mesh, moved(mesh), pulled]), faces)
    np.testing.assert_array_equal(found[:2], 0)
    up = np.cross(*(pulled[faces[:, k]] - pulled[faces[:, 0]] for k in (1, 2)))[:, 2] > 0
    assert 0 < (~up).sum() < 4
    assert found[2] > 0


def test_changes_in_the_middle_by_hand():
    """A cube of side 2.2 between those of 1 and 3: edges are longer by a tenth; volume 10.648 instead of 14."""
    ends = np.stack([CORNERS[None], 3 * moved(CORNERS)[None]])
    edge, volume = mesh_errors.middle_changes(ends, 2.2 * CORNERS[None], FACES)
    np.testing.assert_allclose(edge, [0.1])
    np.testing.assert_allclose(volume, [1 - 2.2**3 / 14])
