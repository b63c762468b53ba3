"""Differences between versions of JAX that affect tests."""

from contextlib import AbstractContextManager

import jax


def x64() -> AbstractContextManager:
    """Enables 64-bit numbers within a block."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # before 0.8

    return enable_x64(True)
