import hashlib

import numpy as np
import pytest

from jaxgen.data.options import Options
from jaxgen.data.readers.bars import BODY, CLASSES, RADII, bars, faces, identity, read

AROUND = 16
RINGS = 41  # BODY and two of each rounded end


@pytest.fixture(scope="module")
def source():
    return read(Options("bars"))


@pytest.fixture(scope="module")
def meshes(source):
    return np.concatenate([entries["mesh"] for entries in source.splits.values()]).astype(np.float64)


def rings(meshes):
    """Vertices [n, RINGS, AROUND, 3] without the two poles."""
    return meshes[:, 1:-1].reshape(len(meshes), RINGS, AROUND, 3)


def corners(meshes):
    return meshes[:, faces()].transpose(2, 0, 1, 3)  # 3 of [n, F, 3]


def one(joints=((0, 0), (0, 0), (0, 0)), bend=(0, 0), twist=0.0, length=2.0, taper=1.0):
    (mesh,) = bars(*(np.array([value], np.float64) for value in (joints, bend, twist, length, taper)))
    return mesh


# The shape, by hand


def test_the_straight_bar():
    mesh = one()
    phi = 2 * np.pi * np.arange(AROUND) / AROUND
    ellipse = np.stack([0.15 * np.cos(phi), 0 * phi, 0.08 * np.sin(phi)], -1)
    np.testing.assert_allclose(mesh[0], [0, -1.08, 0], atol=1e-12)
    np.testing.assert_allclose(mesh[-1], [0, 1.08, 0], atol=1e-12)
    body = rings(mesh[None])[0, 2:-2]
    assert len(body) == BODY
    for ring, y in zip(body, np.linspace(-1, 1, BODY), strict=True):
        np.testing.assert_allclose(ring, np.add(ellipse, [0, y, 0]), atol=1e-12)
    # the ring at 60 degrees of latitude: half as wide, and sqrt(3)/2 of the way to the pole
    np.testing.assert_allclose(rings(mesh[None])[0, -1], ellipse / 2 + [0, 1 + 0.08 * np.sqrt(3) / 2, 0], atol=1e-12)


def test_twist_taper_and_length():
    body = rings(one(twist=np.pi, taper=0.5, length=3)[None])[0, 2:-2]
    straight = rings(one()[None])[0, 2:-2]
    x, _, z = straight[0].T
    # half a turn in total about y (z toward x): a quarter back at the first ring, a quarter forward at the last
    np.testing.assert_allclose(body[0], np.stack([-z, -1.5 + 0 * x, x], -1), atol=1e-12)
    np.testing.assert_allclose(body[-1], np.stack([z, 1.5 + 0 * x, -x], -1) / [2, 1, 2], atol=1e-12)
    np.testing.assert_allclose(body[BODY // 2], straight[BODY // 2] * 0.75, atol=1e-12)


def test_an_even_bend_is_an_arc():
    """A bend of 90 degrees about z turns the center line into a quarter of a circle, here of radius 4 / pi."""
    body = rings(one(bend=(0, np.pi / 2))[None])[0, 2:-2].mean(1)
    angle = np.pi / 2 * np.linspace(-0.5, 0.5, BODY)
    arc = 4 / np.pi * np.stack([np.cos(angle) - 1, np.sin(angle), 0 * angle], -1)
    np.testing.assert_allclose(body, arc, atol=2e-4)  # the steps are chords


@pytest.mark.parametrize(("joint", "place"), [(0, 0.2), (1, 0.5), (2, 0.8)])
def test_a_joint_turns_by_its_angle_where_it_is(joint, place):
    joints = np.zeros((3, 2))
    joints[joint, 0] = 1.2  # about x: from y toward z
    center = rings(one(joints)[None])[0, 2:-2].mean(1)
    tangents = np.diff(center, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    np.testing.assert_allclose(tangents[:, 0], 0, atol=1e-12)
    angle = np.arctan2(tangents[:, 2], tangents[:, 1])
    middle = (np.arange(BODY - 1) + 0.5) / (BODY - 1)
    assert np.ptp(angle[middle < place - 0.165]) < 1e-12
    assert np.ptp(angle[middle > place + 0.165]) < 1e-12
    assert (np.diff(angle) > -1e-12).all()
    np.testing.assert_allclose(angle[-1] - angle[0], 1.2, atol=1e-12)
    np.testing.assert_allclose(np.interp(place, middle, angle) - angle[0], 0.6, atol=1e-2)
    np.testing.assert_allclose(center[BODY // 2], 0, atol=1e-12)


def test_joints_turn_one_after_the_other():
    """A quarter turn about x, then one about the rotated z, puts the end along the composed rotation's y."""
    center = rings(one([[np.pi / 2, 0], [0, 0], [0, np.pi / 2]])[None])[0, 2:-2].mean(1)
    first, middle, last = (center[i + 1] - center[i] for i in (0, BODY // 2, BODY - 2))
    # the middle stays along y; the start is where a turn about x by -90 degrees puts it; the end points to -x
    for step, direction in ((first, [0, 0, -1]), (middle, [0, 1, 0]), (last, [-1, 0, 0])):
        np.testing.assert_allclose(step / np.linalg.norm(step), direction, atol=1e-12)


def test_rings_stay_rigid():
    """Bending and twisting move a cross-section without deforming it."""
    mesh = one([[1, 0.5], [-1.1, 0], [0.2, 0.9]], bend=(0.3, -0.4), twist=7.0)
    distances = [
        np.linalg.norm(r[:, :, None] - r[:, None], axis=-1) for r in (rings(mesh[None])[0], rings(one()[None])[0])
    ]
    np.testing.assert_allclose(*distances, atol=1e-12)


# The surface


def test_the_surface_is_closed_and_oriented():
    f = faces()
    assert f.dtype == np.int32
    assert set(f.ravel()) == set(range(RINGS * AROUND + 2))
    directed = {(int(a), int(b)) for face in f for a, b in zip(face, np.roll(face, -1), strict=True)}
    assert len(directed) == 3 * len(f)  # no edge twice in one direction:
    assert all((b, a) in directed for a, b in directed)  # two faces an edge, in consistent orientation
    vertices, edges = RINGS * AROUND + 2, len(directed) // 2
    assert vertices - edges + len(f) == 2


def test_the_straight_bars_volume():
    """Outward faces give a positive volume: a cylinder over a 16-gon, with ends between a cone and an ellipsoid."""
    a, b, c = corners(one()[None])
    volume = (a * np.cross(b, c)).sum() / 6
    section = AROUND / 2 * np.sin(2 * np.pi / AROUND) * RADII[0] * RADII[1]
    assert section * (2 + 0.16 / 3) < volume < section * (2 + 0.16 * 2 / 3)


# The dataset


def test_splits_and_labels(source):
    assert {split: len(entries["mesh"]) for split, entries in source.splits.items()} == {
        "train": 2000,
        "validation": 240,
        "test": 240,
    }
    for entries in source.splits.values():
        assert entries["mesh"].dtype == np.float32
        assert entries["mesh"].shape[1:] == (658, 3)
        assert entries["label"].dtype == np.int32
        assert len(set(np.bincount(entries["label"], minlength=len(CLASSES)))) == 1
    assert source.classes == CLASSES
    np.testing.assert_array_equal(source.faces, faces())
    assert identity(Options("bars"))


def test_the_label_counts_the_bent_joints(source):
    """The center line shows the label: a joint of 40 degrees turns far more locally than an even bend of 40 does."""
    meshes, labels = source.splits["test"]["mesh"].astype(np.float64), source.splits["test"]["label"]
    center = rings(meshes)[:, 2:-2].mean(2)
    tangents = np.diff(center, axis=1)
    tangents /= np.linalg.norm(tangents, axis=-1, keepdims=True)
    bent = 0
    for place in (0.2, 0.5, 0.8):
        low, high = (round((BODY - 1) * (place + side)) for side in (-0.15, 0.15))
        cosine = (tangents[:, max(low, 0)] * tangents[:, min(high, BODY - 2)]).sum(-1)
        bent = bent + (np.degrees(np.arccos(cosine)) > 22)  # without a joint, bends turn at most 12 degrees here
    np.testing.assert_array_equal(bent, labels)


def test_content_is_the_same_everywhere(source):
    content = hashlib.sha256()
    for entries in source.splits.values():
        content.update(entries["mesh"].astype("<f4").tobytes())
        content.update(entries["label"].astype("<i4").tobytes())
    content.update(source.faces.astype("<i4").tobytes())
    assert content.hexdigest() == "b16364376c840c09125171be58fad977c4388c0702966a02ca69f39870c1ea67"


def test_many_bars_twist_strongly(meshes):
    """The total twist is measured from the vertices alone, as each ring's turn relative to the previous one."""
    body = rings(meshes)[:, 2:-2]
    spoke = body[:, :, 0] - body[:, :, 8]  # across the ring
    tangent = np.diff(body.mean(2), axis=1)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    a, b = (s - (s * tangent).sum(-1, keepdims=True) * tangent for s in (spoke[:, :-1], spoke[:, 1:]))
    turn = np.arctan2((np.cross(a, b) * tangent).sum(-1), (a * b).sum(-1)).sum(1)
    twist = np.degrees(turn)
    assert 440 < np.abs(twist).max() < 470
    assert 0.55 < (np.abs(twist) > 180).mean() < 0.65  # 60% of -450 to 450
    assert abs(twist.mean()) < 20


def test_no_triangle_is_degenerate(meshes):
    a, b, c = corners(meshes)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1) / 2
    longest = np.max([np.linalg.norm(p - q, axis=-1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    assert area.min() > 1e-4  # a tenth of the median
    assert (area / longest**2).min() > 0.07  # 0.43 for an equilateral triangle


def test_bars_keep_clear_of_themselves(meshes):
    """No ring crosses the next one's plane, and distant parts do not touch."""
    body = rings(meshes)[:, 2:-2]
    center = body.mean(2)
    tangent = center[:, 2:] - center[:, :-2]
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    for before, after in ((body[:, :-2], body[:, 1:-1]), (body[:, 1:-1], body[:, 2:])):
        advance = ((after - before) * tangent[:, :, None]).sum(-1)
        assert advance.min() > 0.005
    distance = np.linalg.norm(center[:, :, None] - center[:, None], axis=-1)
    i, j = np.indices((BODY, BODY))
    # two rings that far apart cannot touch: each lies within 0.15 of its center
    assert distance[:, abs(i - j) >= 8].min() > 2 * RADII[0]


def test_the_tightest_bars_have_no_edge_through_a_triangle(meshes):
    center = rings(meshes).mean(2)
    distance = np.linalg.norm(center[:, 8:] - center[:, :-8], axis=-1).min(1)
    f = faces()
    edges = np.unique(np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), axis=1), axis=0)
    for mesh in meshes[np.argsort(distance)[:5]]:
        assert not crossings(mesh, edges, f)


def test_crossings_are_found():
    f = faces()
    edges = np.unique(np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), axis=1), axis=0)
    assert not crossings(one(), edges, f)
    assert crossings(one([[2.2, 0]] * 3), edges, f)  # more than a full turn in one plane


def crossings(mesh, edges, faces):
    """Counts edges that cross a triangle with no shared vertex, by the signs of tetrahedra's volumes."""
    a, b, c = (mesh[faces[:, k]] for k in range(3))
    low, high = (np.min([a, b, c], 0), np.max([a, b, c], 0))
    p, q = mesh[edges[:, 0]], mesh[edges[:, 1]]
    near = ((np.minimum(p, q)[:, None] < high) & (np.maximum(p, q)[:, None] > low)).all(-1)
    near &= ~(edges[:, None, :, None] == faces[None, :, None, :]).any((2, 3))
    e, t = np.nonzero(near)
    p, q, a, b, c = p[e], q[e], a[t], b[t], c[t]

    def side(u, v, w, x):
        return np.sign(((v - u) * np.cross(w - u, x - u)).sum(-1))

    through = side(p, a, b, q) == side(p, b, c, q)
    through &= side(p, b, c, q) == side(p, c, a, q)
    return int((through & (side(a, b, c, p) != side(a, b, c, q))).sum())
