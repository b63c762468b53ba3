"""Images between uint8 and floats, and the pyramid of maps that a convolutional net needs."""

import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.model import Array

THRESHOLD = 128
"""A pixel of at least this value is 1 wherever images are binarised."""


def to_unit(image: Array) -> Array:
    """uint8 images as float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255


def from_unit(x: Array) -> Array:
    """Floats in [0, 1] as uint8, rounded; values outside are clipped."""
    return jnp.round(jnp.clip(x, 0, 1) * 255).astype(jnp.uint8)


def to_signed(image: Array) -> Array:
    """uint8 images as float32 in [-1, 1], the range of a generator's tanh."""
    return image.astype(jnp.float32) / 127.5 - 1


def from_signed(x: Array) -> Array:
    """Floats in [-1, 1] as uint8, rounded; values outside are clipped."""
    return from_unit((x + 1) / 2)


def to_binary(image: Array) -> Array:
    """uint8 images as float32 0 or 1: 1 where the pixel is at least 128."""
    return (image >= THRESHOLD).astype(jnp.float32)


def pyramid(image_shape: tuple[int, int, int], model: str) -> tuple[tuple[int, int], int]:
    """((height, width) of the smallest map, number of halvings down to it).

    The smallest map's shorter side is 4 to 7, as DCGAN's 4x4; each halving has a stride-2 layer.
    Raises UserError where the image's sides do not halve so, naming the sizes that do.
    """
    height, width, _ = image_shape
    depth, side = 0, min(height, width)
    while side > 7:
        depth, side = depth + 1, side // 2
    if depth == 0 or side < 4 or height % 2**depth or width % 2**depth:
        raise UserError(
            f"{model} cannot make images of {height}x{width}: each side must be 4, 5, 6 or 7 doubled "
            "at least once, with as many doublings for both (8, 16, 28, 32, 64 and 128 will do)"
        )
    return (height >> depth, width >> depth), depth
