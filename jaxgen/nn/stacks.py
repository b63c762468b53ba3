"""Stacks of stride-2 convolutions between images and vectors; called within a module's `nn.compact`.

`layer` makes a layer from its number of channels: `Conv` or `ConvTranspose` with all other arguments bound.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxgen.model import Array
from jaxgen.nn.normalization import normalized


def halved(layer: Callable, x: Array, features: int, depth: int) -> Array:
    """Images [batch, H, W, C] -> vectors [batch, units], halved `depth` times; channels double from `features` on."""
    for level in range(depth):
        x = nn.relu(layer(features << level)(x))
    return x.reshape(x.shape[0], -1)


def doubled(
    layer: Callable, z: Array, smallest: tuple[int, int], features: int, channels: int, depth: int, dtype: np.dtype
) -> Array:
    """Vectors [batch, d] -> maps of `smallest` (height, width), doubled `depth` times: [batch, H, W, channels].

    It mirrors `halved`; the last layer has neither bias nor nonlinearity. The first is dense, and computes in dtype.
    """
    first = features << (depth - 1)
    x = nn.relu(nn.Dense(smallest[0] * smallest[1] * first, dtype=dtype)(z)).reshape(-1, *smallest, first)
    for level in reversed(range(depth - 1)):
        x = nn.relu(layer(features << level)(x))
    return layer(channels, use_bias=False)(x)


def generated(layer: Callable, x: Array, features: int, channels: int, depth: int, training: bool) -> Array:
    """Maps [batch, h, w, features << (depth - 1)] -> images in (-1, 1), doubled `depth` times as in DCGAN.

    BatchNorm and ReLU follow the inner layers; a tanh in float32 follows the last.
    """
    for level in reversed(range(depth - 1)):
        x = nn.relu(normalized(layer(features << level, use_bias=False)(x), training))
    return nn.tanh(layer(channels)(x).astype(jnp.float32))
