"""The larger of two, for pooling and for maxout."""

import jax.numpy as jnp

from jaxgen.model import Array


def larger(a: Array, b: Array) -> Array:
    """The larger of a and b, NaN if one is; the gradient is all that one's, where they are equal a's.

    That of `jnp.maximum` and `max` is found by comparing with the result, which XLA may compute anew with other
    rounding: where none is equal to it, nothing gets the gradient, or it is 0/0.
    """
    return jnp.where((b > a) | jnp.isnan(b), b, a)
