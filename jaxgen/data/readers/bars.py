"""Bars that bend, twist and taper: procedural meshes of one connectivity, for models of deformation.

A bar is a tube of elliptical cross-section with rounded ends: a closed surface of 658 vertices and 1,312
triangles that face outwards. Its straight form stands along y, about 2 units long. Three joints, at 1/5, 1/2 and 4/5 of
its length, bend it smoothly; it also bends evenly as a whole, and its cross-sections turn about its center line by
up to one and a quarter turns from end to end, more than a rotation matrix can represent. The middle of every bar stays
at the origin, unrotated.

Drawn for each bar, uniformly (angles in degrees):

    label         number of bent joints, 0 to 3, equally frequent; and which joints bend
    joint         40 to 75 at a bent joint, about any axis across the bar
    bend          0 to 40 in all, about any axis across the bar
    twist         -450 to 450 in all
    length        1.8 to 2.2
    taper         the last cross-section's size, 0.5 to 1 of the first's

Rotation-invariant features of meshes are meant for such strong twists (Gao et al. 2016, "Efficient and flexible
deformation representation for data-driven surface modeling"; Tan et al. 2018, "Variational autoencoders for
deforming 3D mesh models").
"""

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import Source

SIZES = {"train": 2000, "validation": 240, "test": 240}
CLASSES = ("straight", "one joint", "two joints", "three joints")
SEED = 0

AROUND = 16  # vertices of a ring
BODY = 37  # rings of the body, evenly along it; the middle one is at the origin
DOME = np.radians([30, 60, 90])  # latitudes of an end's rings; the last is the pole, one vertex
JOINTS = np.array([0.2, 0.5, 0.8])  # positions along the bar
JOINT_LENGTH = 0.3  # length of the bend at a joint, as a fraction of the bar's length
RADII = (0.15, 0.08)  # of the cross-section, along x and z; the second is also a dome's height


def identity(options: Options) -> str:
    """A constant, since the content is always the same."""
    return "bars 1"


def read(options: Options) -> Source:
    """2,000, 240 and 240 bars: mesh float32 [n, 658, 3], within 1.25 of the origin, and label int32 [n]."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    return Source(
        splits={split: _draw(rng, n) for split, n in SIZES.items()},
        note="procedural bars with bent joints, bending, twist and taper, drawn independently for each split",
        classes=CLASSES,
        faces=faces(),
    )


def _draw(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """`n` random bars: mesh and label."""

    def uniform(low, high, *shape):
        return low + (high - low) * rng.random((n, *shape))

    def across(angle):  # rotation vectors about any axis across the bar
        axis = uniform(0, 2 * np.pi, *angle.shape[1:])
        return angle[..., None] * np.stack([np.cos(axis), np.sin(axis)], -1)

    label = np.argsort(rng.random(n)) % len(CLASSES)
    bent = np.argsort(rng.random((n, len(JOINTS)))) < label[:, None]
    mesh = bars(
        joints=across(np.radians(uniform(40, 75, len(JOINTS))) * bent),
        bend=across(np.radians(uniform(0, 40))),
        twist=np.radians(uniform(-450, 450)),
        length=uniform(1.8, 2.2),
        taper=uniform(0.5, 1),
    )
    # rounded, so that the content does not depend on the last bit of a library's sine
    return {"mesh": np.round(mesh, 6).astype(np.float32), "label": label.astype(np.int32)}


def bars(joints, bend, twist, length, taper) -> np.ndarray:
    """The vertices of bars.

    Args:
      joints: float [n, 3, 2], the rotation at each joint: a rotation vector's x and z, radians.
      bend: float [n, 2], the rotation spread evenly from end to end, in the same form.
      twist: float [n], the rotation of the last cross-section about the center line against the first, radians.
      length: float [n], of the center line, without the rounded ends.
      taper: float [n], the last cross-section's size as a fraction of the first's.

    Returns:
      float64 [n, 658, 3]: a pole, the rings from the first end (negative y) to the last, the other pole.
    """
    from scipy.spatial.transform import Rotation

    s = np.linspace(0, 1, BODY)
    # The center line: a joint's curvature is a raised cosine, so its rotation up to s is the integral of one.
    u = np.clip((s[:, None] - JOINTS) / JOINT_LENGTH + 0.5, 0, 1)
    turned = u - np.sin(2 * np.pi * u) / (2 * np.pi)
    angles = np.einsum("sj, njk -> nsk", turned, joints) + s[:, None] * bend[:, None]
    steps = np.insert(np.diff(angles, axis=1), 1, 0, axis=2)  # rotation vectors: nothing about y
    frames = [Rotation.identity(len(length))]  # without twist; y is the tangent
    centers = [np.zeros((len(length), 3))]
    for step in steps.swapaxes(0, 1):
        tangent = (frames[-1] * Rotation.from_rotvec(step / 2)).as_matrix()[:, :, 1]
        centers.append(centers[-1] + length[:, None] / (BODY - 1) * tangent)
        frames.append(frames[-1] * Rotation.from_rotvec(step))
    middle = frames[BODY // 2].inv()
    centers = np.stack([middle.apply(c - centers[BODY // 2]) for c in centers], 1)
    frames = np.stack([(middle * frame).as_matrix() for frame in frames], 1)

    # The cross-sections, in their local frames; domes use the frames of the body's first and last ring.
    latitude = np.concatenate([-DOME[::-1], np.zeros(BODY), DOME])
    place = np.clip(np.arange(len(latitude)) - len(DOME), 0, BODY - 1)
    size = 1 + (taper[:, None] - 1) * s[place]
    phi = 2 * np.pi * np.arange(AROUND) / AROUND
    psi = (twist[:, None] * (s[place] - 0.5))[..., None]
    x = RADII[0] * np.cos(latitude)[:, None] * np.cos(phi)
    z = RADII[1] * np.cos(latitude)[:, None] * np.sin(phi)
    y = np.broadcast_to(RADII[1] * np.sin(latitude)[:, None], x.shape)
    local = np.stack(np.broadcast_arrays(x * np.cos(psi) + z * np.sin(psi), y, z * np.cos(psi) - x * np.sin(psi)), -1)
    rings = centers[:, place, None] + size[..., None, None] * local @ frames[:, place].swapaxes(-1, -2)
    return np.concatenate([rings[:, 0, :1], rings[:, 1:-1].reshape(len(rings), -1, 3), rings[:, -1, :1]], 1)


def faces() -> np.ndarray:
    """The triangles of every bar, int32 [1312, 3], counter-clockwise seen from outside."""
    rings = 1 + np.arange((BODY + 2 * len(DOME) - 2) * AROUND).reshape(-1, AROUND)
    a, b = rings[:-1], rings[1:]  # each pair of rings is a band of quadrilaterals
    a_next, b_next = np.roll(a, -1, 1), np.roll(b, -1, 1)
    first, last = rings[0], rings[-1]
    triangles = [
        (np.zeros_like(first), first, np.roll(first, -1)),
        (a, b, b_next),
        (a, b_next, a_next),
        (np.full_like(last, rings[-1, -1] + 1), np.roll(last, -1), last),
    ]
    return np.concatenate([np.stack(corners, -1).reshape(-1, 3) for corners in triangles]).astype(np.int32)
