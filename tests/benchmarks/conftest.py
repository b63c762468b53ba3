"""Initial training states without compiling `init`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxgen.experiments.benchmarks import contenders


def untrained(model, data):
    """Makes `contenders.training` with parameters drawn by NumPy."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), leaf.dtype), shapes)
    params = jax.tree.map_with_path(
        lambda path, leaf: ("scale" in jax.tree_util.keystr(path)) + rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        state.params,
    )
    keys = jax.random.split(jax.random.key(1), 1)
    return contenders.Training(model.phases[0], keys, state._replace(params=params), data)


@pytest.fixture(name="untrained")
def untrained_fixture():
    return untrained
