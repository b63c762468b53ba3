"""Images that show no class, or less of it: what a judge learns to reject, and the rungs of a ladder for metrics.

Every function takes a NumPy generator first and returns new images; images are uint8 [num, H, W, C].
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

SHARE, MOST = 4, 20_000
"""A judge learns from one rejected image for so many real ones, and from so many at most."""


def gaussian_noise(rng: Generator, images: np.ndarray, deviation: float) -> np.ndarray:
    """Adds noise of a deviation in gray levels, 0 to 255."""
    return np.clip(images + np.rint(rng.normal(scale=deviation, size=images.shape)), 0, 255).astype(np.uint8)


def salt_and_pepper(rng: Generator, images: np.ndarray, share: float) -> np.ndarray:
    """Replaces a share of the pixels by black or white, equally often."""
    extreme = np.where(rng.random(images.shape[:3]) < 0.5, 0, 255).astype(np.uint8)[..., None]
    return np.where(rng.random(images.shape[:3])[..., None] < share, extreme, images)


def blur(rng: Generator, images: np.ndarray, deviation: float) -> np.ndarray:
    """Blurs by a Gaussian of a deviation in pixels; nothing is drawn."""
    return np.rint(gaussian_filter(images.astype(np.float32), (0, deviation, deviation, 0))).astype(np.uint8)


def independent_pixels(rng: Generator, images: np.ndarray, labels: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Replaces a share of the pixels by those at the same place of other images of the class, each of another image.

    With a share of 1 the pixels are independent given the class, as those that Naive Bayes draws.
    """
    mixed = images.copy()
    for label in np.unique(labels):
        of = np.flatnonzero(labels == label)
        donors = rng.choice(of, (len(of), *images.shape[1:3]))
        taken = images[donors, np.arange(images.shape[1])[:, None], np.arange(images.shape[2])]
        chosen = rng.random(donors.shape) < share
        mixed[of] = np.where(chosen[..., None], taken, images[of])
    return mixed


def shuffled_places(rng: Generator, images: np.ndarray) -> np.ndarray:
    """Permutes the pixels of each image."""
    flat = images.reshape(len(images), -1, images.shape[3])
    return np.take_along_axis(flat, rng.random(flat.shape[:2]).argsort(axis=1)[..., None], axis=1).reshape(images.shape)


def shuffled_quarters(rng: Generator, images: np.ndarray) -> np.ndarray:
    """Puts the upper left quarter of each image to the lower right and so on, and mirrors each."""
    height, width = images.shape[1] // 2, images.shape[2] // 2
    turned = np.roll(images, (height, width), axis=(1, 2))
    for rows in (slice(None, height), slice(height, None)):
        for columns in (slice(None, width), slice(width, None)):
            mirrored = rng.random(len(images))[:, None, None, None] < 0.5
            quarter = turned[:, rows, columns]
            turned[:, rows, columns] = np.where(mirrored, quarter[:, ::-1, ::-1], quarter)
    return turned


def blends(rng: Generator, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Means of each image and one of another class; with one class only, of any other image."""
    partners = rng.integers(0, len(images), (8, len(images)))
    different = labels[partners] != labels
    chosen = partners[different.argmax(axis=0), np.arange(len(images))]  # the first of eight that is of another class
    for row in np.flatnonzero(~different.any(axis=0)):
        others = np.flatnonzero(labels != labels[row])
        others = others if len(others) else np.delete(np.arange(len(images)), row)
        chosen[row] = rng.choice(others) if len(others) else row
    return ((images.astype(np.uint16) + images[chosen] + 1) // 2).astype(np.uint8)


def flat(rng: Generator, images: np.ndarray) -> np.ndarray:
    """Images of one level each."""
    return np.broadcast_to(rng.integers(0, 256, (len(images), 1, 1, 1), np.uint8), images.shape)


def uniform_noise(rng: Generator, images: np.ndarray) -> np.ndarray:
    """Independent levels, all equally likely."""
    return rng.integers(0, 256, images.shape, np.uint8)


def fair_coins(rng: Generator, images: np.ndarray) -> np.ndarray:
    """Independent pixels, black or white."""
    return np.where(rng.random(images.shape) < 0.5, 0, 255).astype(np.uint8)


def _between(function: Callable, low: float, high: float) -> Callable:
    """The function with a strength drawn for all images of a call."""
    return lambda rng, images, labels: function(rng, images, rng.uniform(low, high))


REJECTED: tuple[Callable[[Generator, np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda rng, images, labels: uniform_noise(rng, images),
    lambda rng, images, labels: fair_coins(rng, images),
    lambda rng, images, labels: flat(rng, images),
    lambda rng, images, labels: shuffled_places(rng, images),
    lambda rng, images, labels: shuffled_quarters(rng, images),
    independent_pixels,
    blends,
    _between(salt_and_pepper, 0.2, 0.5),
    _between(gaussian_noise, 80, 160),
)
"""Kinds of images that a judge learns to reject: functions of a generator, images and labels."""


def rejected(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Images of no class, of all kinds of `REJECTED` in turn: uint8 [1 for each `SHARE` images, at most `MOST`].

    Args:
      images: uint8 [num, H, W, C], or an object that returns them for indices.
      labels: integers [num].
      seed: of all that is drawn.
    """
    rng = Generator(np.random.Philox(seed))
    num = min(max(len(labels) // SHARE, 1), MOST)
    rows = np.sort(rng.permutation(len(labels))[:num])
    some, of = images[rows], labels[rows]
    made = np.empty_like(some)
    for i, kind in enumerate(REJECTED):
        these = slice(i, None, len(REJECTED))
        if len(of[these]):
            made[these] = kind(rng, some[these], of[these])
    return made
