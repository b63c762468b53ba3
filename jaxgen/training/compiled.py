"""Cache of compiled programs, shared by processes, so that the next run of a program starts without compiling it."""

import os

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxgen.data import data_dir


def keep_compiled() -> None:
    """Sets JAX's compilation cache to `data_dir()`/compiled, unless it was given another folder.

    JAX takes the folder from the environment variable JAX_COMPILATION_CACHE_DIR, or from its config's
    jax_compilation_cache_dir; JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.
    """
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # JAX's default of one second leaves out many small programs, which take most of the start-up time.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(data_dir() / "compiled"))
        compilation_cache.reset_cache()  # so the folder counts even if something was compiled before
