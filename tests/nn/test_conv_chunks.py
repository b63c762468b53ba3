"""Convolutions of a batch in chunks, as for large batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxgen.nn import conv_forms
from jaxgen.nn.conv import conv
from tests.nn.conv_cases import NAMES, SOME, arrays, operations, references


@pytest.fixture(scope="module", autouse=True)
def a_small_cache():
    """Makes every form split a batch into chunks of one or a few examples, as for large batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_forms, "CACHE", 512)
        patch.setattr(conv_forms, "LEAST_PIXELS", 1)
        yield


def unique(case, batch):
    """The case with sizes that no other test has: programs traced with the usual cache would run, without loops."""
    return case | {"batch": batch, "channels": tuple(5 + number for number in case["channels"])}


CASES = [pytest.param(case, 8, id=f"{name}-8") for name, case in zip(NAMES, SOME, strict=True)]
CASES += [
    pytest.param(case, batch, id=f"{name}-{batch}", marks=[] if name == "even" else pytest.mark.slow)
    for name, case in zip(NAMES, SOME, strict=True)
    for batch in (7, 1)
]


@pytest.mark.parametrize(("case", "batch"), CASES)
def test_a_batch_in_chunks_equals_a_batch_at_once(case, batch):
    case = unique(case, batch)
    x, w, g = arrays(case)

    def three(convolution, transposed):
        gradient = lambda x, w, g: jax.vjp(convolution, x, w)[1](g)[1]  # noqa: E731
        return lambda x, w, g: convolution(x, w), lambda x, w, g: transposed(g, w), gradient

    ours = three(*operations(case))
    for n, each in enumerate(ours):
        at_once = n == 0 or (n == 2 and case["kernel"] == (1, 1))  # the convolution; a product for one tap
        assert ("stablehlo.while" in jax.jit(each).lower(x, w, g).as_text()) == (batch > 1 and not at_once)

    @jax.jit
    def all_of_them(exact, narrow):
        return [
            (f(*exact), f(*narrow), by_lax(*exact)) for f, by_lax in zip(ours, three(*references(case)), strict=True)
        ]

    narrow = [a.astype(jnp.bfloat16) for a in (x, w, g)]
    for found, narrowed, expected in all_of_them((x, w, g), narrow):
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(narrowed, expected.astype(jnp.bfloat16))


def test_shard_map_sums_the_gradient_of_a_replicated_kernel():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    x, w, _ = arrays(unique(SOME[0], 16))
    shards, everywhere = PartitionSpec("data"), PartitionSpec()

    def loss(w, x):
        return lax.psum(jnp.sum(conv(x, w, strides=(2, 2)) ** 2), "data")

    sharded = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(everywhere, shards), out_specs=everywhere)
    plain = jax.grad(lambda w, x: jnp.sum(conv(x, w, strides=(2, 2)) ** 2))
    for each in (sharded, plain):
        assert "stablehlo.while" in jax.jit(each).lower(w, x).as_text()
    np.testing.assert_array_equal(*jax.jit(lambda *given: (sharded(*given), plain(*given)))(w, x))
