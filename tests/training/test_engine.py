"""What the seed axis is made of."""

import jax
import numpy as np
import pytest

from jaxgen.training.engine import finite


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2048,), (64, 32), (2048, 1), (4, 4, 16, 8)])
def test_one_number_that_is_not_finite_is_found(shape, mapped):
    """In the compiled program, where a compiler might take a product with 0 for 0; of seeds each its own."""
    found = jax.jit(jax.vmap(finite) if mapped else finite)
    numbers = np.random.default_rng(0).uniform(-3e38, 3e38, ((2, *shape) if mapped else shape)).astype(np.float32)
    tree = {"numbers": numbers, "counts": np.full((2,), 7, np.int32)}
    assert np.all(found(tree))
    for place in {0, numbers.size // 2, numbers.size - 1}:
        for bad in (np.nan, np.inf, -np.inf):
            changed = numbers.copy()
            changed.reshape(-1)[place] = bad
            per_seed = changed.reshape(2, -1) if mapped else changed.reshape(1, -1)
            assert np.atleast_1d(found(tree | {"numbers": changed})).tolist() == np.isfinite(per_seed).all(1).tolist()
