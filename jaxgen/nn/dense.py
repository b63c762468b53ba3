"""Nets of dense layers; called within a module's `nn.compact`."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

from jaxgen.model import Array
from jaxgen.nn.maximum import larger
from jaxgen.nn.normalization import normalized

DEFAULT = nn.linear.default_kernel_init
"""Flax's initial weights."""


def uniform_within(bound: float) -> Initializer:
    """Initial weights uniform in (-bound, bound)."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def maxout(x: Array, units: int, pieces: int, dtype: np.dtype, weights: Initializer = DEFAULT) -> Array:
    """Vectors [batch, d] -> [batch, units], each the largest of `pieces` linear units; Goodfellow et al. 2013.

    With one piece, which would be linear, it is a ReLU. `weights` are the initial ones.
    """
    layer = functools.partial(nn.Dense, dtype=dtype, kernel_init=weights)
    if pieces == 1:
        return nn.relu(layer(units)(x))
    x = layer(units * pieces)(x).reshape(*x.shape[:-1], units, pieces)
    return functools.reduce(larger, (x[..., piece] for piece in range(pieces)))


def perceptron(
    x: Array,
    units: int,
    layers: int,
    training: bool,
    batch_norm: bool,
    dtype: np.dtype,
    weights: Initializer = DEFAULT,
) -> Array:
    """Vectors [batch, d] -> [batch, units] through layers of ReLU. `weights` are the initial ones."""
    for _ in range(layers):
        x = nn.Dense(units, use_bias=not batch_norm, dtype=dtype, kernel_init=weights)(x)
        x = nn.relu(normalized(x, training) if batch_norm else x)
    return x


def mean_and_log_variance(x: Array, latent_dim: int, dtype: np.dtype) -> tuple[Array, Array]:
    """Vectors [batch, d] -> mean and log-variance of a q(z|x), float32 [batch, latent_dim] each."""
    mean = nn.Dense(latent_dim, dtype=dtype)(x).astype(jnp.float32)
    log_variance = nn.Dense(latent_dim, dtype=dtype)(x).astype(jnp.float32)
    # Bounded to variances from e^-8 to e^8, so that no early step overflows exp.
    return mean, 8 * jnp.tanh(log_variance / 8)
