"""What all tests share: strict dtype promotion, the `--slow` option, and a cache folder of their own."""

import os

import jax
import pytest

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
        yield base / "jaxgen-data"
