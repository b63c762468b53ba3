"""Elementwise maximum of two arrays, for pooling and maxout."""

import jax.numpy as jnp

from jaxgen.model import Array


def larger(a: Array, b: Array) -> Array:
    """Returns the larger of a and b, NaN if one is; the gradient goes to that one entirely, in a tie to a.

    `jnp.maximum` and `max` derive the gradient by comparing with the result, which XLA may recompute with other
    rounding: if neither is equal to it, the gradient is lost or 0/0.
    """
    return jnp.where((b > a) | jnp.isnan(b), b, a)
