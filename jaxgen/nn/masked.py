"""Causal convolutions of autoregressive networks, over whole images or one pixel at a time.

A network is written once. For whole images (`place` is None) layers get maps [batch, H, W, features]. While images are
drawn, they get one pixel, [batch, 1, 1, features], or one row, [batch, 1, W, features], at a `Place`, and keep the
inputs that later pixels read in the Flax collection "cache": a few rows per layer. Drawing an image then takes as many
operations as one pass over it.

If the channels of a pixel are drawn one after the other, features are divided into `groups`, one per channel (van den
Oord et al. 2016, https://arxiv.org/abs/1601.06759, section 3.2): feature n is in group n mod groups. At its own pixel
it sees only earlier groups (mask A), or also its own group (mask B).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.model import Array
from jaxgen.nn.conv import conv


class Place(NamedTuple):
    """Position of the pixel that is drawn, or of the row, if the column is 0."""

    row: Array | int
    column: Array | int
    width: int  # of the image


class MaskedConv(nn.Module):
    """Convolution over `rows` rows, the last being the pixel's own, from `left` columns before to `right` after it.

    With a mask it ignores what comes after the pixel, and groups of the pixel itself as mask A or B says. Initial
    weights are normal, with variance one over the number of weights that are not masked.
    """

    features: int
    rows: int = 1
    left: int = 0
    right: int = 0
    mask: Literal["A", "B", None] = "B"
    groups: int = 1
    pieces: int = 1  # equal parts of the features, each with all groups: the halves of a gate, the gates of an LSTM
    sees_image: bool = False  # whether, while images are drawn, its input is the neighborhood that it reads: no cache
    zero: bool = False  # whether weights start at 0
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, place: Place | None = None) -> Array:
        """[batch, H, W, in] -> [batch, H, W, features] in `dtype`; H and W are 1 for a pixel, H is 1 for a row."""
        taps = (self.rows, self.left + 1 + self.right)
        x = x.astype(self.dtype or x.dtype)
        allowed = self._allowed(taps, x.shape[-1])
        deviation = np.zeros(self.features) if self.zero else np.maximum(allowed.sum((0, 1, 2)), 1) ** -0.5

        def start(key, shape):
            return jax.random.normal(key, shape) * jnp.asarray(deviation, jnp.float32)

        kernel = self.param("kernel", start, allowed.shape)
        kernel = (kernel if self.mask is None else kernel * allowed).astype(x.dtype)
        padding = ((self.rows - 1, 0), (self.left, self.right))
        if place is not None:
            padding = "VALID"
            if taps != (1, 1) and not self.sees_image:
                x = self._remembered(x, place)
        if x.shape[1:3] == taps and padding == "VALID":
            y = (x.reshape(len(x), -1) @ kernel.reshape(-1, self.features))[:, None, None]
        else:
            y = conv(x, kernel, padding=padding, local=True)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return y

    def _allowed(self, taps: tuple[int, int], inputs: int) -> np.ndarray:
        """Mask float32 [rows, columns, in, features], 1 for weights that are used and 0 for others."""
        allowed = np.ones((*taps, inputs, self.features), np.float32)
        if self.mask is not None:
            of_input = np.arange(inputs) % self.groups
            of_output = np.tile(np.arange(self.features // self.pieces) % self.groups, self.pieces)
            sees = np.less if self.mask == "A" else np.less_equal
            allowed[-1, self.left] = sees(of_input[:, None], of_output)
            allowed[-1, self.left + 1 :] = 0
        return allowed

    def _remembered(self, x: Array, place: Place) -> Array:
        """Caches x, and returns the inputs that the taps read, [batch, rows, columns, in]."""
        shape = (len(x), self.rows, self.left + place.width + self.right, x.shape[-1])
        inputs = self.variable("cache", "inputs", jnp.zeros, shape, x.dtype)
        inputs.value = written(inputs.value, x, place, self.left)
        return read(inputs.value, place, range(self.rows - 1, -1, -1), 0, x.shape[2] + self.left + self.right)


def written(cache: Array, x: Array, place: Place, pad: int) -> Array:
    """Writes x at a place of `cache` [batch, rows, pad + width + ..., features], whose rows are used in rotation."""
    return lax.dynamic_update_slice(cache, x, (0, place.row % cache.shape[1], place.column + pad, 0))


def read(cache: Array, place: Place, above: range, start: int, columns: int) -> Array:
    """Reads rows at these distances above a place: [batch, len(above), columns, features] from column + `start` on."""
    shape = (len(cache), 1, columns, cache.shape[-1])
    return jnp.concatenate(
        [
            lax.dynamic_slice(cache, (0, (place.row - n) % cache.shape[1], place.column + start, 0), shape)
            for n in above
        ],
        axis=1,
    )


def shifted_down(x: Array) -> Array:
    """Shifts maps [batch, H, W, features] down by one row; the first row is zeros."""
    return jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]


class Readout(nn.Module):
    """Layers from a network's features to a head's outputs: ReLU and 1x1 convolution, twice; the last starts at 0."""

    layer: Callable  # `MaskedConv` with the network's groups and dtype given
    features: int
    groups: int
    outputs: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, H, W, features] -> float32 [batch, H, W, groups, outputs]."""
        x = nn.relu(self.layer(self.features)(nn.relu(x)))
        x = self.layer(self.outputs * self.groups, zero=True)(x).astype(jnp.float32)
        return jnp.swapaxes(x.reshape(*x.shape[:-1], self.outputs, self.groups), -1, -2)
