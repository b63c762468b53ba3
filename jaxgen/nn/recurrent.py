"""LSTMs, and maps skewed so that a diagonal is a column."""

import flax.linen as nn
import jax.numpy as jnp

from jaxgen.model import Array


def lstm(gates: Array, c: Array) -> tuple[Array, Array]:
    """Gates o, f, i, g [..., 4 features] before their nonlinearities, cell states [..., features] -> h, c."""
    o, f, i, g = jnp.split(gates, 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


def skewed(x: Array) -> Array:
    """Maps [batch, H, W, features], row i moved right by i: [batch, H, H + W - 1, features].

    Source: van den Oord et al. 2016 (https://arxiv.org/abs/1601.06759), figure 3.
    """
    batch, height, width, features = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, height), (0, 0))).reshape(batch, height * (width + height), features)
    return x[:, : height * (width + height - 1)].reshape(batch, height, width + height - 1, features)


def unskewed(x: Array, width: int) -> Array:
    """Undoes `skewed`."""
    batch, height, columns, features = x.shape
    x = jnp.pad(x.reshape(batch, height * columns, features), ((0, 0), (0, height), (0, 0)))
    return x.reshape(batch, height, columns + 1, features)[:, :, :width]
