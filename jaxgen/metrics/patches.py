"""The sliced Wasserstein distance of patches of a Laplacian pyramid: noise and blur by scale, without a network.

Each level of the pyramid is what a blur and halving lose, the last one is what they leave. Patches of all images form
one set a level, whose channels are normalized; its distance is the mean, over random directions, of the Wasserstein
distance of the patches' projections.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import convolve1d

from jaxgen.metrics import checks

SIDE = 7
"""Pixels a side of a patch."""

COARSEST = 16
"""Least pixels a side of a level made by halving."""

PATCHES, DIRECTIONS = 2**14, 128
"""Patches of a level, over all images, and projections of them."""

AT_ONCE = 32
"""Projections held at once."""

BLUR = np.array([1, 4, 6, 4, 1], np.float32) / 16

SCALE = 1000
"""Factor of the distances, as Karras et al. print them."""


def sliced_wasserstein(real, fake, *, seed: int = 0) -> np.ndarray:
    """Distances, times 1,000, from the finest to the coarsest level of the pyramid: float64 [levels].

    A level's halves are even and have 16 pixels a side or more; smaller images have one level, the image itself. Both
    sets have patches at the same places, drawn once, so a set against itself gives 0. Sets of other sizes give other
    values: compare with that of real images of as many.

    Args:
      real: uint8 [n, H, W, 1 or 3], 7 pixels a side or more.
      fake: uint8 [m, H, W, C], of the same size.
      seed: of the places and directions; 0 or more.

    Raises:
      ValueError: images are anything else, too small, or differ in size.

    Source: Karras et al. 2018, "Progressive growing of GANs" (https://arxiv.org/abs/1710.10196), section 5.
    """
    real, fake = checks.images(real, "real"), checks.images(fake, "fake")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real images are {list(real.shape[1:])}, fake ones {list(fake.shape[1:])}")
    if min(real.shape[1:3]) < SIDE:
        raise ValueError(f"images of {SIDE} pixels a side or more are needed, got {list(real.shape[1:3])}")
    rng = np.random.Generator(np.random.Philox(seed))
    order = rng.permutation(PATCHES)
    used, which = zip(
        *(np.unique(np.sort(order % len(images)), return_inverse=True) for images in (real, fake)), strict=True
    )
    distances = []
    for level in zip(_levels(real, used[0]), _levels(fake, used[1]), strict=True):
        height, width, channels = level[0].shape[1:]
        rows, columns = (rng.integers(0, side - SIDE + 1, PATCHES) for side in (height, width))
        directions = rng.normal(size=(DIRECTIONS, SIDE * SIDE * channels)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        of_real, of_fake = (_patches(images, of, rows, columns) for images, of in zip(level, which, strict=True))
        distances.append(SCALE * _distance(of_real, of_fake, directions))
    return np.array(distances)


def _levels(images: np.ndarray, used: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the pyramid of the used images, float32 [num, H, W, C], in [0, 1]."""
    x = images[used].astype(np.float32) / np.float32(255)
    while all(side % 2 == 0 and side // 2 >= COARSEST for side in x.shape[1:3]):
        halved = _blurred(x)[:, ::2, ::2]
        spread = np.zeros_like(x)
        spread[:, ::2, ::2] = halved
        yield x - 4 * _blurred(spread)
        x = halved
    yield x


def _blurred(x: np.ndarray) -> np.ndarray:
    return convolve1d(convolve1d(x, BLUR, 1, mode="mirror"), BLUR, 2, mode="mirror")


def _patches(x: np.ndarray, which: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Patches at these places, their channels with mean 0 and deviation 1 over all: float32 [PATCHES, values]."""
    around = np.arange(SIDE)
    found = x[which[:, None, None], (rows[:, None] + around)[:, :, None], (columns[:, None] + around)[:, None]]
    found = found - found.mean((0, 1, 2), dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.square(found, dtype=np.float64).mean((0, 1, 2)))
    found /= np.where(deviation > 0, deviation, 1).astype(np.float32)
    return found.reshape(len(found), -1)


def _distance(real: np.ndarray, fake: np.ndarray, directions: np.ndarray) -> float:
    """Mean Wasserstein distance of the projections of equally many patches."""
    total = 0.0
    for start in range(0, len(directions), AT_ONCE):
        some = directions[start : start + AT_ONCE]
        one, other = (np.sort(some @ patches.T, axis=1) for patches in (real, fake))
        total += np.abs(one - other).sum(dtype=np.float64)
    return total / (len(real) * len(directions))
