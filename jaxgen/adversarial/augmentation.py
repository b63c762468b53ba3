"""Differentiable augmentation: Zhao, Liu, Lin, Zhu & Han 2020, https://arxiv.org/abs/2006.10738, and its code.

Each image has its own draws; images are [batch, H, W, C] in [-1, 1], and pixels shifted in or cut out are 0, as in
the code.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxgen.model import Array, Key

Augmentation = Literal["color", "translation", "cutout"]

SHIFT, CUT = 1 / 8, 1 / 2
"""Maximum shift, and side of the square that is cut out, as shares of the image's side."""


def augmented(
    key: Key, x: Array, policy: tuple[Augmentation, ...], ratio: float = SHIFT, probability: float = 1.0
) -> Array:
    """Applies the transformations of `policy` to images, in this order.

    ratio: of `translation`. probability: of cutting out; all images are, or none is, as in TransGAN's code.
    """
    for name in policy:
        key, k_own = jax.random.split(key)
        if name == "translation":
            x = translation(k_own, x, ratio)
        elif name == "cutout" and probability < 1:
            k_often, k_own = jax.random.split(k_own)
            x = jnp.where(jax.random.bernoulli(k_often, probability), cutout(k_own, x), x)
        else:
            x = {"color": color, "cutout": cutout}[name](k_own, x)
    return x


def color(key: Key, x: Array) -> Array:
    """Changes brightness by up to .5 either way, saturation by a factor of 0 to 2, contrast by one of .5 to 1.5."""
    brightness, saturation, contrast = jax.random.uniform(key, (3, len(x), 1, 1, 1))
    x = x + brightness - 0.5
    gray = x.mean(axis=-1, keepdims=True)
    x = (x - gray) * saturation * 2 + gray
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return (x - mean) * (contrast + 0.5) + mean


def translation(key: Key, x: Array, ratio: float = SHIFT) -> Array:
    """Shifts by up to `ratio` of the side either way, along both sides, by whole pixels."""
    most = [int(side * ratio + 0.5) for side in x.shape[1:3]]
    offsets = [jax.random.randint(k, (len(x),), 0, 2 * m + 1) for k, m in zip(jax.random.split(key), most, strict=True)]
    padded = jnp.pad(x, ((0, 0), *((m, m) for m in most), (0, 0)))
    return jax.vmap(lambda image, i, j: jax.lax.dynamic_slice(image, (i, j, 0), x.shape[1:]))(padded, *offsets)


def cutout(key: Key, x: Array) -> Array:
    """Sets a square of half the side to 0, at any place with its center within the image."""
    kept = []
    for axis, k in zip((1, 2), jax.random.split(key), strict=True):
        side = x.shape[axis]
        size = int(side * CUT + 0.5)
        start = jax.random.randint(k, (len(x), 1), 0, side + (1 - size % 2)) - size // 2
        place = jnp.arange(side)
        kept.append((place < start) | (place >= start + size))
    rows, columns = kept
    return jnp.where((rows[:, :, None] | columns[:, None, :])[..., None], x, 0.0)
