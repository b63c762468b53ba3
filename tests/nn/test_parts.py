"""Functions applied a part at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.parts import in_parts


@pytest.mark.parametrize(("most", "sizes"), [(7, [7]), (20, [7]), (3, [3, 3, 3]), (6, [4, 4]), (1, [1] * 7)])
def test_parts_together_are_the_whole(most, sizes):
    """Each part knows its number, and all but a filled-up last one are of the size that divides evenly."""
    seen = []

    def function(part, a, b):
        jax.debug.callback(lambda n: seen.append(n), len(a))
        return jnp.stack([a.sum(-1) * b, jnp.full(len(a), part)], axis=1)

    a, b = np.arange(14).reshape(7, 2), np.arange(7) + 1
    found = np.asarray(in_parts(function, most, jnp.asarray(a), jnp.asarray(b)))
    np.testing.assert_array_equal(found[:, 0], a.sum(-1) * b)
    np.testing.assert_array_equal(found[:, 1], np.repeat(np.arange(len(sizes)), sizes)[:7])
    jax.effects_barrier()
    assert [int(n) for n in seen] == sizes
