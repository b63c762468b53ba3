"""What all tests share: strict dtype promotion, the `--slow` option, and a cache folder of their own."""

import os
import signal
from pathlib import Path

import jax
import pytest

# Before a backend starts, here and in subprocesses: to compile, most of the tests' work, takes two fifths of the
# processors' time that it does by default.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

# A job in the background is started to ignore Ctrl-C, and so would be what the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session", autouse=True)
def session_data_dir(tmp_path_factory):
    """Prepared data and trained extractors go to the session's temporary folder, never to the user's cache."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers share one
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_DATA_DIR", str(base / "jaxgen-data"))
        # The same program is compiled once for a worker's tests and subprocesses, or once for all sessions where the
        # variable names a folder. Workers cannot share: jax writes an entry in place, and another process that reads
        # it then warns of a truncated stream.
        kept = os.environ.get("JAX_COMPILATION_CACHE_DIR", tmp_path_factory.getbasetemp() / "compiled")
        compiled = str(Path(kept) / os.environ.get("PYTEST_XDIST_WORKER", "alone"))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", compiled)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        jax.config.update("jax_compilation_cache_dir", compiled)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield base / "jaxgen-data"
