"""Tests here share a cache folder of their session, never the user's."""

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("jaxgen-data")


@pytest.fixture(autouse=True)
def data_folder(cache, monkeypatch):
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(cache))
