"""Features of deformations: hand-worked rotations, invariance, and round trips of closed-form and real meshes."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

from jaxgen.data.readers import bars
from jaxgen.deformation import (
    Deformation,
    _half_cotangents,
    aligned,
    edges,
    exp_rotations,
    log_rotations,
    mean_shape,
    neighbors,
    polar,
    size,
)
from jaxgen.errors import UserError

BOTH = ["rimd", "gradients"]

HINGE = np.array([[0, 0, 0], [1, 0, 0], [0.5, -1, 0], [0.5, 1, 0]]), np.array([[0, 2, 1], [0, 1, 3]])
"""Two triangles in the plane z = 0 that share the edge from the origin along x."""

TETRAHEDRON = (
    np.array([[0, 0, 0], [1, 0, 0.1], [0.2, 1.1, 0], [0.1, 0.3, 0.9]]),
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]),
)


def grid(height=0.3, side=5):
    """An open surface: a square grid over x and y, with random heights."""
    y, x = np.divmod(np.arange(side**2), side)
    points = np.stack([x, y, height * np.random.default_rng(0).normal(size=side**2)], 1).astype(float)
    a = np.flatnonzero((x < side - 1) & (y < side - 1))
    return points, np.concatenate([np.stack([a, a + 1, a + side], 1), np.stack([a + 1, a + side + 1, a + side], 1)])


def moved(mesh, seed=0):
    """A mesh after a random rotation and translation."""
    return mesh @ Rotation.random(rng=seed).as_matrix().T + np.random.default_rng(seed).normal(size=3)


def perturbed(mesh, num, seed=0):
    return mesh + 0.15 * np.random.default_rng(seed).normal(size=(num, *mesh.shape))


@pytest.fixture(scope="module")
def bar():
    """A straight bar, the triangles, and eight drawn bars."""
    straight = bars.bars(np.zeros((1, 3, 2)), np.zeros((1, 2)), np.zeros(1), np.full(1, 2.0), np.full(1, 0.75))[0]
    drawn = bars._draw(np.random.Generator(np.random.PCG64(3)), 8)["mesh"]
    return straight, bars.faces(), drawn


# Rotations


@pytest.mark.parametrize("angle", [0, 1e-8, 1e-3, 1, 2, np.pi - 1e-6, np.pi - 1e-9])
def test_the_logarithm_of_a_turn_about_z_is_its_angle(angle):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    np.testing.assert_allclose(log_rotations(turn), [0, 0, angle], atol=1e-12)
    np.testing.assert_allclose(log_rotations(turn.T), [0, 0, -angle], atol=1e-12)
    np.testing.assert_allclose(exp_rotations(np.array([0, 0, angle])), turn, atol=1e-12)


def test_logarithm_and_exponential_are_inverse_at_all_angles_through_pi():
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([np.linspace(0, np.pi, 100), np.pi - np.geomspace(1e-12, 1, 100)])
    rotations = np.stack(
        [scipy.linalg.expm(np.cross(np.eye(3), axis * angle)) for axis, angle in zip(axes, angles, strict=True)]
    )
    np.testing.assert_allclose(exp_rotations(axes * angles[:, None]), rotations, atol=1e-12)
    np.testing.assert_allclose(exp_rotations(log_rotations(rotations)), rotations, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(log_rotations(rotations), axis=1), angles, atol=1e-12)


def test_polar_decomposition_equals_scipys_and_keeps_rotations_of_reflections():
    matrices = np.random.default_rng(1).normal(size=(50, 3, 3))
    rotations, stretches = polar(matrices)
    np.testing.assert_allclose(rotations @ stretches, matrices, atol=1e-12)
    np.testing.assert_allclose(stretches, stretches.swapaxes(1, 2), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    for matrix, rotation in zip(matrices, rotations, strict=True):
        if np.linalg.det(matrix) > 0:
            np.testing.assert_allclose(rotation, scipy.linalg.polar(matrix)[0], atol=1e-10)
    flipped, stretch = polar(np.diag([-1.0, 2, 3]))
    np.testing.assert_allclose(flipped, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(stretch, np.diag([-1, 2, 3]), atol=1e-12)


# Topology and alignment


def test_edges_and_neighbors_of_a_hinge():
    np.testing.assert_array_equal(edges(HINGE[1]), [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3]])
    np.testing.assert_array_equal(neighbors(HINGE[1]), [[0, 1]])
    # 5 edges and 4 vertices; 1 pair and 2 triangles; 4 vertices
    assert [size(HINGE[1], 4, kind) for kind in ("rimd", "gradients", "aligned")] == [39, 15, 12]


def test_half_cotangents_of_a_right_triangle():
    """Angles of 90, 45 and 45 degrees have the cotangents 0, 1 and 1."""
    corners = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]])
    np.testing.assert_allclose(_half_cotangents(corners, np.array([[0, 1, 2]])), [[0, 0.5, 0.5]], atol=1e-15)


def test_alignment_equals_scipys(bar):
    _, _, drawn = bar
    found = aligned(drawn, drawn[0])
    for mesh, placed in zip(drawn, found, strict=True):
        best, _ = Rotation.align_vectors(drawn[0] - drawn[0].mean(0), mesh - mesh.mean(0))
        np.testing.assert_allclose(placed, best.apply(mesh - mesh.mean(0)) + drawn[0].mean(0), atol=1e-6)


def test_the_mean_of_moved_copies_is_the_mesh():
    mesh, _ = TETRAHEDRON
    mean = mean_shape(np.stack([moved(mesh, seed) for seed in range(4)] + [mesh] * 3), 200)
    np.testing.assert_allclose(aligned(mean[None], mesh)[0], mesh, atol=1e-6)


# Features


def test_features_of_a_folded_hinge():
    """The second triangle turns by 0.7 about x, which the first one does not, and both grow to twice their size."""
    mesh, faces = HINGE
    folded = mesh.copy()
    folded[3] = [0.5, np.cos(0.7), np.sin(0.7)]
    feature = Deformation(mesh, faces, "gradients").features(2 * moved(folded)[None])[0]
    # log R_0^T R_1, then the upper triangles of S = 2 I
    np.testing.assert_allclose(feature, [0.7, 0, 0, *[2, 0, 0, 2, 0, 2] * 2], atol=1e-12)


@pytest.mark.parametrize("kind", BOTH)
def test_matrices_of_affine_maps(bar, kind):
    """T of p = A x is A for one-rings, and A on the triangles' planes."""
    straight, faces, _ = bar
    matrix = np.array([[1.2, 0.3, 0], [-0.1, 0.8, 0.4], [0.2, 0, 1.1]])
    found = Deformation(straight, faces, kind).matrices((straight @ matrix.T)[None])[0]
    if kind == "rimd":
        np.testing.assert_allclose(found, np.broadcast_to(matrix, found.shape), atol=1e-10)
    else:
        sides = straight[faces[:, 1:]] - straight[faces[:, :1]]
        np.testing.assert_allclose(np.einsum("sab,skb->ska", found, sides), sides @ matrix.T, atol=1e-12)
        assert np.abs(found - matrix).max() > 0.1  # normals are not mapped by A


def test_one_ring_matrices_minimize_their_energy(bar):
    """Compares with least squares on the edges of single vertices, with clipped cotangent weights."""
    _, faces, drawn = bar
    deformation, p = Deformation(drawn[1], faces, "rimd"), drawn[0].astype(float)
    x = drawn[1].astype(float)
    found = deformation.matrices(p[None])[0]
    for vertex in (0, 5, 300, 657):
        ring, weights = one_ring(x, faces, vertex)
        root = np.sqrt(weights)[:, None]
        expected, *_ = np.linalg.lstsq(root * (x[vertex] - x[ring]), root * (p[vertex] - p[ring]))
        np.testing.assert_allclose(found[vertex], expected.T, rtol=1e-6, atol=1e-8)


def one_ring(x, faces, vertex):
    """Neighbors of a vertex and the clipped weights of the edges, angle by angle."""
    weights = {}
    for face in faces[(faces == vertex).any(1)]:
        for corner in face[face != vertex]:
            (other,) = set(face) - {vertex, corner}
            u, v = x[vertex] - x[other], x[corner] - x[other]
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            weights[int(corner)] = weights.get(int(corner), 0) + 0.5 / np.tan(np.arccos(cosine))
    return np.array(list(weights)), np.maximum(np.array(list(weights.values())), 1e-3)


@pytest.mark.parametrize("kind", BOTH)
def test_features_are_invariant_to_rigid_motion_and_not_to_reflection(bar, kind):
    straight, faces, drawn = bar
    deformation = Deformation(straight, faces, kind)
    features = deformation.features(drawn)
    again = deformation.features(np.stack([moved(mesh.astype(float), seed) for seed, mesh in enumerate(drawn)]))
    np.testing.assert_allclose(again, features, atol=1e-8)
    assert np.abs(deformation.features(drawn[:1] * [1, 1, -1]) - features[:1]).max() > 0.1
    assert features.shape == (8, size(faces, 658, kind)) == (8, deformation.size)
    np.testing.assert_array_equal(deformation.features(drawn[3:4])[0], features[3])


def test_features_of_the_reference_are_identities(bar):
    straight, faces, _ = bar
    for kind in BOTH:
        deformation = Deformation(straight, faces, kind)
        turns, stretches = (deformation.features(straight[None])[0][group] for group in deformation.groups)
        np.testing.assert_allclose(turns, 0, atol=1e-9)
        np.testing.assert_allclose(stretches.reshape(-1, 6) - [1, 0, 0, 1, 0, 1], 0, atol=1e-9)


# Round trips


def distance(meshes, others):
    """Largest distance of a vertex after rigid alignment, in diagonals of the box."""
    diagonal = np.linalg.norm(np.ptp(others[0], axis=0))
    placed = np.stack([aligned(a[None], b)[0] for a, b in zip(meshes, others, strict=True)])
    return np.linalg.norm(placed - others, axis=-1).max() / diagonal


@pytest.mark.parametrize("kind", BOTH)
def test_rigid_and_affine_motions_come_back(bar, kind):
    straight, faces, _ = bar
    matrix = np.array([[1.2, 0.3, 0], [-0.1, 0.8, 0.4], [0.2, 0, 1.1]])
    meshes = np.stack([moved(straight), straight @ matrix.T])
    deformation = Deformation(straight, faces, kind)
    assert distance(deformation.meshes(deformation.features(meshes)), meshes) < 1e-10


@pytest.mark.parametrize("surface", [TETRAHEDRON, grid(), grid(0)], ids=["closed", "open", "flat"])
def test_triangles_give_back_any_mesh(surface):
    mesh, faces = surface
    meshes = perturbed(mesh, 5)
    deformation = Deformation(mesh, faces, "gradients")
    assert distance(deformation.meshes(deformation.features(meshes)), meshes) < 1e-10


def test_one_rings_in_a_plane_use_the_normal():
    mesh, faces = grid(0)
    deformation = Deformation(mesh, faces, "rimd")
    bent = mesh.copy()
    bent[:, 0], bent[:, 2] = 4 * np.sin(mesh[:, 0] / 4), 4 - 4 * np.cos(mesh[:, 0] / 4)  # rolled onto a cylinder
    meshes = np.stack([moved(mesh), bent])
    features = deformation.features(meshes)
    back = deformation.meshes(features)
    assert distance(back[:1], meshes[:1]) < 1e-10
    assert distance(back[1:], meshes[1:]) < 0.02
    # neighbors along x turn by 1/4 about -y; the rows in the middle are free of the boundary
    middle = next(k for k, pair in enumerate(deformation.pairs.tolist()) if pair == [11, 12])
    np.testing.assert_allclose(features[1, 3 * middle : 3 * middle + 3], [0, -0.25, 0], atol=1e-3)


@pytest.mark.parametrize("kind", BOTH)
def test_the_fixed_site_and_vertex_do_not_matter(bar, kind):
    """The same mesh with its vertices and triangles in another order."""
    straight, faces, drawn = bar
    rng = np.random.default_rng(0)
    order, rows = rng.permutation(len(straight)), rng.permutation(len(faces))
    other_faces = np.argsort(order)[faces][rows]
    one, other = Deformation(straight, faces, kind), Deformation(straight[order], other_faces, kind)
    back = one.meshes(one.features(drawn[:2]))
    again = other.meshes(other.features(drawn[:2, order]))
    assert distance(again, back[:, order]) < (1e-9 if kind == "gradients" else 1e-3)


def test_bars_come_back(bar):
    straight, faces, drawn = bar
    drawn = drawn.astype(float)
    exact, one_rings = (Deformation(straight, faces, kind) for kind in ("gradients", "rimd"))
    features = exact.features(drawn)
    assert distance(exact.meshes(features), drawn) < 1e-9
    np.testing.assert_allclose(exact.meshes(features[2:3])[0], exact.meshes(features)[2], atol=1e-12)
    back = one_rings.meshes(one_rings.features(drawn))
    errors = np.linalg.norm(back - aligned(drawn, straight), axis=-1).mean() / 2.042
    assert errors < 2e-3  # one-rings do not give back a mesh exactly


# Features of no mesh: both least squares problems by dense matrices


@pytest.mark.parametrize("kind", BOTH)
def test_inconsistent_features_solve_both_least_squares_problems(kind):
    mesh, faces = TETRAHEDRON
    deformation = Deformation(mesh, faces, kind)
    feature = deformation.features(mesh[None])[0] + 0.2 * np.random.default_rng(5).normal(size=deformation.size)
    turns = exp_rotations(feature[deformation.groups[0]].reshape(-1, 3))
    system, right = [], []
    for (s, t), turn in zip(deformation.pairs, turns, strict=True):
        for column in range(3):  # a column of R_t - R_s turn, row by row of R
            for row in range(3):
                equation = np.zeros((4, 3, 3))
                equation[t, row, column] += 1
                equation[s, row] -= turn[:, column]
                system.append(equation[1:].ravel())
                right.append(-equation[0][np.eye(3, dtype=bool)].sum())
    found = np.linalg.lstsq(np.array(system), np.array(right))[0].reshape(3, 3, 3)
    expected = np.stack([np.eye(3), *(scipy.linalg.polar(each)[0] for each in found)])
    np.testing.assert_allclose(deformation.rotations(turns), expected, atol=1e-10)

    numbers = feature[deformation.groups[1]].reshape(-1, 6)
    stretch = numbers[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    system, right = [], []
    for vertex in range(4):  # the edges at each site, with their weights
        for face in faces[(faces == vertex).any(1)]:
            for corner in face[face != vertex]:
                (other,) = set(face.tolist()) - {vertex, int(corner)}
                u, v = mesh[vertex] - mesh[other], mesh[corner] - mesh[other]
                weight = 0.5 * u @ v / np.linalg.norm(np.cross(u, v))
                site = vertex if kind == "rimd" else int(np.flatnonzero((faces == face).all(1))[0])
                # each edge of a triangle is met from both of its ends
                weight = weight if kind == "rimd" else weight / 2
                equation = np.zeros(4)
                equation[[vertex, corner]] = [1, -1]
                system.append(np.sqrt(weight) * equation)
                right.append(np.sqrt(weight) * (expected[site] @ stretch[site] @ (mesh[vertex] - mesh[corner])))
    solved = np.linalg.lstsq(np.array(system), np.array(right))[0]
    assert distance(deformation.meshes(feature[None]), solved[None]) < 1e-10


# Meshes that have no features


@pytest.mark.parametrize(
    ("mesh", "faces", "words"),
    [
        (np.vstack([TETRAHEDRON[0]] * 2), np.vstack([TETRAHEDRON[1], TETRAHEDRON[1] + 4]), "the mesh has 2 pieces"),
        (np.vstack([TETRAHEDRON[0], [[9, 9, 9]]]), TETRAHEDRON[1], "vertex 4 belongs to no triangle"),
        (np.vstack([HINGE[0], [[0.5, 0, 1]]]), np.vstack([HINGE[1], [[0, 1, 4]]]), "the edge of vertices 0 and 1"),
        (HINGE[0] * [1, 0, 0], HINGE[1], r"triangle 0, of vertices \[0, 2, 1\], has no area"),
    ],
)
@pytest.mark.parametrize("kind", BOTH)
def test_meshes_without_features_are_named(mesh, faces, words, kind):
    with pytest.raises(UserError, match=words):
        Deformation(mesh, faces, kind)
    Deformation(mesh, faces, "aligned")


# Real meshes


@pytest.fixture(scope="module", params=["pcow", "horse-gallop", "horse-poses"])
def real(request):
    path = Path(os.environ.get("JAXGEN_TEST_DATA", "nowhere")) / "meshes" / f"{request.param}.npz"
    if not path.is_file():
        pytest.skip("JAXGEN_TEST_DATA names no folder with meshes/")
    with np.load(path) as file:
        return file["verts"].astype(float), file["faces"]


def test_real_meshes_come_back(real):
    meshes, faces = real
    some = meshes[:: len(meshes) // 2][:2]
    exact, one_rings = (Deformation(meshes[0], faces, kind) for kind in ("gradients", "rimd"))
    features = exact.features(some)
    assert distance(exact.meshes(features), some) < 1e-9
    np.testing.assert_allclose(exact.features(np.stack([moved(each) for each in some])), features, atol=1e-8)
    back = one_rings.meshes(one_rings.features(some[1:]))[0]
    diagonal = np.linalg.norm(np.ptp(meshes[0], axis=0))
    assert np.linalg.norm(back - aligned(some[1:], meshes[0])[0], axis=1).mean() < 2.5e-3 * diagonal
