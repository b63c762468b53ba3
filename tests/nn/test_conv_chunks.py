"""Convolutions of a batch in chunks, as for large batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxgen.nn import conv as conv_module
from jaxgen.nn.conv import conv
from tests.nn.conv_cases import SOME, arrays, operations, references, some


@pytest.fixture(scope="module", autouse=True)
def a_small_cache():
    """Makes every form split a batch into chunks of one or a few examples, as for large batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_module, "CACHE", 512)
        patch.setattr(conv_module, "LEAST_PIXELS", 1)
        jax.clear_caches()  # otherwise programs traced earlier with the usual cache would run
        yield
    jax.clear_caches()


@some
@pytest.mark.parametrize("batch", [1, 7, 8])
def test_a_batch_in_chunks_equals_a_batch_at_once(case, batch):
    case = case | {"batch": batch}
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
    x, w, _ = arrays(SOME[0] | {"batch": 8})
    shards, everywhere = PartitionSpec("data"), PartitionSpec()

    def loss(w, x):
        return lax.psum(jnp.sum(conv(x, w, strides=(2, 2)) ** 2), "data")

    got = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(everywhere, shards), out_specs=everywhere)(w, x)
    np.testing.assert_array_equal(got, jax.grad(lambda w: jnp.sum(conv(x, w, strides=(2, 2)) ** 2))(w))
