"""The cache of compiled programs: on in commands, in the data folder or a given one; optional in Python."""

import os
import subprocess
import sys

import pytest

from jaxgen import data

# Something is compiled first, as in a notebook.
PROGRAM = """
import jax, jax.numpy as jnp
jnp.arange(3).sum().block_until_ready()
from jaxgen.training import Settings, train
from jaxgen.training.compiled import keep_compiled
keep_compiled()
train("naive_bayes", None, Settings(steps=1), out="run", progress=False)
"""


@pytest.mark.parametrize("told", [False, True])
def test_programs_are_kept_where_they_should_be(told, tmp_path):
    data.load("digits")  # prepared once for all tests
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    root.mkdir()
    (root / "tfds").symlink_to(data.data_dir() / "tfds")
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    env |= {"JAXGEN_DATA_DIR": str(root)} | ({"JAX_COMPILATION_CACHE_DIR": str(elsewhere)} if told else {})
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, check=True)
    kept, not_kept = (elsewhere, root / "compiled") if told else (root / "compiled", elsewhere)
    assert any(file.name.startswith("jit_chunk") for file in kept.iterdir())
    assert any(file.name.startswith("jit_init") for file in kept.iterdir())  # compiled in far less than a second
    assert not not_kept.exists()
