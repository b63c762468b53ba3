"""Conversions of images between uint8 and floats, and the pyramid of maps of a convolutional net."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import UserError
from jaxgen.model import BINARY_THRESHOLD, Array, Key


def to_unit(image: Array) -> Array:
    """Converts uint8 images to float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255


def from_unit(x: Array) -> Array:
    """Converts floats in [0, 1] to uint8, rounded; values outside are clipped."""
    return jnp.round(jnp.clip(x, 0, 1) * 255).astype(jnp.uint8)


def to_signed(image: Array) -> Array:
    """Converts uint8 images to float32 in [-1, 1], the range of a generator's tanh."""
    return image.astype(jnp.float32) / 127.5 - 1


def from_signed(x: Array) -> Array:
    """Converts floats in [-1, 1] to uint8, rounded; values outside are clipped."""
    return from_unit((x + 1) / 2)


def to_binary(image: Array) -> Array:
    """Converts uint8 images to float32 0 or 1: 1 where the pixel is at least 128."""
    return (image >= BINARY_THRESHOLD).astype(jnp.float32)


def drawn_bits(key: Key, image: Array) -> Array:
    """Draws uint8 images of 0 and 255, a pixel being 255 with probability level / 255: dynamic binarization."""
    return jnp.where(jax.random.bernoulli(key, to_unit(image)), jnp.uint8(255), jnp.uint8(0))


def logits_of_mean(mean: np.ndarray, least: float = 0.01) -> Array:
    """Logits of a mean image in [0, 1], clipped to [`least`, 1 - `least`]: initial value of a last bias."""
    mean = np.clip(mean, least, 1 - least)
    return jnp.asarray(np.log(mean / (1 - mean)).astype(np.float32))


SMALL = 16
"""Maximum image side, in pixels, that is halved down to 2x2 by default: on a 4x4 map no unit sees the whole of such an
image, and samples combine parts of different ones."""


def pyramid(image_shape: tuple[int, ...], smallest: int | None, model: str) -> tuple[tuple[int, int], int]:
    """Returns ((height, width) of the smallest map, number of halvings down to it).

    The image is halved, by a layer of stride 2 each, while both sides are even and stay at least `smallest`, by default
    2 for images of up to 16 pixels a side and 4 for larger ones. Raises UserError if that does not reach a map with a
    side below 8, as for an odd size, if nothing can be halved, or if `smallest` is above 7.
    """
    if smallest is None:
        smallest = 2 if max(image_shape[:2]) <= SMALL else 4
    if smallest > 7:
        raise UserError(f"smallest must be at most 7, as maps come down to under 8 a side, not {smallest}")
    (height, width, _), depth = image_shape, 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * smallest:
        height, width, depth = height // 2, width // 2, depth + 1
    if depth == 0 and height % 2 == width % 2 == 0:
        most = min(height, width) // 2
        raise UserError(f"smallest must be at most {most}, half a side of images of {height}x{width}, not {smallest}")
    if depth == 0 or min(height, width) > 7:
        raise UserError(
            f"{model} cannot make images of {image_shape[0]}x{image_shape[1]}: halved while even and at least "
            f"{smallest} a side, they must come down to under 8 (as 8, 16, 28, 32, 64 and 128 do)"
        )
    return (height, width), depth
