"""LSTMs, GRUs, and maps skewed so that a diagonal is a column."""

import flax.linen as nn
import jax.numpy as jnp

from jaxgen.model import Array


def lstm(gates: Array, c: Array) -> tuple[Array, Array]:
    """Gates o, f, i, g [..., 4 features] before their nonlinearities, cell states [..., features] -> h, c."""
    o, f, i, g = jnp.split(gates, 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


def gru(gates: Array, own: Array, h: Array) -> Array:
    """Gates r, u, n [..., 3 features] of an input and of the state h [..., features], before nonlinearities -> next h.

    u h + (1 - u) tanh(n of the input + r n of the state), as in PyTorch; Cho et al. 2014, arXiv 1406.1078, equation 7.
    """
    r, u, n = jnp.split(gates, 3, axis=-1)
    own_r, own_u, own_n = jnp.split(own, 3, axis=-1)
    u = nn.sigmoid(u + own_u)
    return u * h + (1 - u) * jnp.tanh(n + nn.sigmoid(r + own_r) * own_n)


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
