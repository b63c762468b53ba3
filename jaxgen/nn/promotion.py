"""Where standard dtype promotion is allowed: in the code of optax and Flax. jaxgen's own passes strict promotion."""

from contextlib import AbstractContextManager

import jax


def library_promotion() -> AbstractContextManager:
    """Allows two dtypes in one operation, as optax's counters and Flax's BatchNorm in bfloat16 need it."""
    return jax.numpy_dtype_promotion("standard")
