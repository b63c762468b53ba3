"""Differences between the versions of JAX that jaxgen supports: 0.7.2 (Google Colab's) and later."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
from jax import Array, lax, typeof


def varying_axes(a: Array) -> frozenset[str]:
    """The mesh axes of the surrounding `shard_map` over which `a` varies; empty outside one."""
    kind = typeof(a)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return kind.vma  # before 0.10


def made_varying(a: Array, axes: frozenset[str]) -> Array:
    """`a`, marked as varying over `axes`, over which it does not vary yet."""
    if not axes:
        return a
    if hasattr(lax, "pcast"):
        return lax.pcast(a, tuple(axes), to="varying")
    return lax.pvary(a, tuple(axes))  # before 0.9


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """Numbers of constants and of carried arrays, by the parameters of an equation of `lax.scan`."""
    if "ft_in" in params:
        constants, carried, _ = params["ft_in"].unpack()
        return len(constants), len(carried)
    return params["num_consts"], params["num_carry"]  # before 0.12


@cache
def known_to_cpu_compiler(name: str, value: str) -> bool:
    """True if this jaxlib's compiler for CPUs takes this value for an option."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
