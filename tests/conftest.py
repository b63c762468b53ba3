"""Shared test setup: strict dtype promotion, the `--slow` option, and a temporary cache folder."""

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

# Lower optimization takes two fifths of the default time to compile, which is most of the tests' work; programs in one
# part take a twentieth less than in many.
QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)


def refusal(flags: str) -> str:
    """Returns XLA's message about unknown flags, which end a process; "" if it knows them all."""
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    asked = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=environment, capture_output=True)
    words = asked.stderr.decode(errors="replace").strip().splitlines()
    return (words[-1] if words else f"exit status {asked.returncode}") if asked.returncode else ""


def pytest_configure(config):
    """Puts the flags of QUICK that this XLA knows into XLA_FLAGS, for the tests and their subprocesses."""
    if hasattr(config, "workerinput"):
        return  # a worker inherits them
    own, known = os.environ.get("XLA_FLAGS", ""), QUICK
    if refusal(" ".join([*QUICK, own])):
        if own and (words := refusal(own)):
            pytest.exit(f"XLA refuses XLA_FLAGS={own}: {words}", returncode=2)
        known = [flag for flag in QUICK if not refusal(flag)]
    os.environ["XLA_FLAGS"] = " ".join([*known, own]).strip()


@pytest.fixture(scope="session", autouse=True)
def hangups():
    """Lets SIGHUP through to the tests' processes, which inherit it ignored under nohup."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def no_lines_of_progress():
    """Keeps stderr free of lines that only a slow machine prints; tests of them set the time of the first."""
    from jaxgen import progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "FIRST", 1e6)
        yield


def pytest_report_header():
    unknown = [flag for flag in QUICK if flag not in os.environ["XLA_FLAGS"]]
    return [f"XLA_FLAGS: {os.environ['XLA_FLAGS']}", *(f"left out, unknown to this XLA: {flag}" for flag in unknown)]


# A background job is started with Ctrl-C ignored, and processes started by tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_dtype_promotion", "strict")

# The tests hold much and leave few cycles: at the default, a twentieth of their time is the search for those.
gc.set_threshold(50_000, 20, 50)


def pytest_make_parametrize_id(val):
    """Names bytes by their number: written out, a compressed file's would hold the time, which workers differ in."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session", autouse=True)
def session_data_dir(tmp_path_factory):
    """Directs prepared data, trained extractors and keys to the session's temporary folder, never to the user's."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers share one
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_DATA_DIR", str(base / "jaxgen-data"))
        patch.setenv("JAXGEN_KEYS_DIR", str(base / "jaxgen-keys"))
        # The compiled program cache is per worker, or shared by all sessions if the variable names a folder. Workers
        # cannot share one: jax writes an entry in place, and a process reading it then warns of a truncated stream.
        kept = os.environ.get("JAX_COMPILATION_CACHE_DIR", tmp_path_factory.getbasetemp() / "compiled")
        compiled = str(Path(kept) / os.environ.get("PYTEST_XDIST_WORKER", "alone"))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", compiled)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        jax.config.update("jax_compilation_cache_dir", compiled)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield base / "jaxgen-data"
