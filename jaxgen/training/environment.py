"""Environment of a run or a result: versions, devices and settings that bits depend on."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import jaxgen
from jaxgen import data

DEFINING = (
    "jax_enable_x64",
    "jax_explicit_x64_dtypes",
    "jax_default_dtype_bits",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_safer_randint",
)
"""Settings of JAX that change what a key draws or a number's dtype; a run cannot be resumed under others."""

ROUNDING = (
    "jax_accurate_erf_inv",
    "jax_allow_f16_reductions",
    "jax_compiler_enable_remat_pass",
    "jax_default_matmul_precision",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_memory_fitting_level",
    "jax_optimization_level",
    "jax_softmax_custom_jvp",
    "jax_threefry_gpu_kernel_lowering",
    "jax_use_direct_linearize",
    "jax_use_shardy_partitioner",
)
"""Settings of JAX that can change how a program rounds."""

RECORDED = ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")
"""Settings of JAX under which a program fails or gives the same bits."""


OF_A_CPU = ("cores", "processor", "instructions")
"""Entries of the environment that change the bits of a run on a CPU, not what its results mean."""

VECTORS = ("avx512f", "avx2", "avx", "sse4_2", "sve2", "sve", "asimd")
"""Vector instructions as Linux names them, those first that XLA prefers: of x86, then of ARM."""


def jax_settings(names: tuple[str, ...]) -> dict[str, Any]:
    """Map from these settings to their values; settings that this version of JAX lacks are left out."""
    known = {name: jax.config.values[name] for name in names if name in jax.config.values}
    return {name: getattr(jax.config, name, value) for name, value in known.items()}  # an attribute heeds contexts


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> dict[str, str]:
    """The processor's name, and the vector instructions that XLA compiles for; "" where only Linux tells them."""
    return {
        "processor": _told().get("model name") or platform.processor() or platform.machine(),
        "instructions": next(iter(instruction_sets()), ""),
    }


def instruction_sets() -> tuple[str, ...]:
    """All of `VECTORS` that the processor has; none where only Linux tells them."""
    told = _told()
    flags = (told.get("flags") or told.get("Features", "")).split()
    return tuple(name for name in VECTORS if name in flags)


def _told() -> dict[str, str]:
    """The processor's entries in /proc/cpuinfo; none where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def environment(dataset: data.Dataset) -> dict[str, Any]:
    """Everything that a result depends on besides its config."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
    return {
        "jaxgen": jaxgen.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cores": cores(),
        **processor(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "jax_settings": {name: str(value) for name, value in jax_settings(DEFINING + ROUNDING + RECORDED).items()},
        "dataset": {"name": dataset.name, "options": dataset.options, "fingerprint": dataset.fingerprint},
    }


OF_CODE = ("--", ".", ":(exclude)experiments/results")
"""Git's words for all files of a checkout but the results that its experiments keep."""


def commit() -> str | None:
    """Commit of the jaxgen checkout in use, with + if it has changes but of kept results; None outside a checkout."""
    folder = Path(jaxgen.__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain", *OF_CODE], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changes.stdout else "")
