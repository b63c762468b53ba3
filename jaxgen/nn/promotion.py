"""Standard dtype promotion for code of optax and Flax. jaxgen's own code passes strict promotion."""

from contextlib import AbstractContextManager

import jax


def library_promotion() -> AbstractContextManager:
    """Allows two dtypes in one operation, as optax's counters and Flax's BatchNorm in bfloat16 need."""
    return jax.numpy_dtype_promotion("standard")
