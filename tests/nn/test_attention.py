"""Attention and its blocks against NumPy, over whole sequences and a few positions at a time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from jaxgen.nn.attention import Block, causal_attention, empty_cache


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_hand(queries, keys, values, known, at):
    """Causal attention in float64, a query at a time, from the keys that it sees."""
    found = np.zeros(queries.shape)
    for example, query, head in np.ndindex(queries.shape[:3]):
        seen = np.flatnonzero(known[example][: at + query + 1])
        scores = np.float64(keys[example, seen, head]) @ queries[example, query, head] / np.sqrt(queries.shape[-1])
        found[example, query, head] = scipy.special.softmax(scores) @ values[example, seen, head]
    return found


def test_attention_is_over_the_known_positions_up_to_the_own():
    queries, keys, values = (normal(2, 5, 3, 4, seed=seed) for seed in range(3))
    known = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
    found = causal_attention(queries, keys, values, known)
    np.testing.assert_allclose(found, by_hand(queries, keys, values, known, 0), rtol=1e-5, atol=1e-6)
    without = causal_attention(queries, keys, values)
    np.testing.assert_allclose(without, by_hand(queries, keys, values, known | True, 0), rtol=1e-5, atol=1e-6)
    later = causal_attention(queries[:, :2], keys, values, known, at=2)
    np.testing.assert_allclose(later, by_hand(queries[:, :2], keys, values, known, 2), rtol=1e-5, atol=1e-6)
    none = causal_attention(queries, keys, values, known & (np.arange(5) > 1))
    assert np.isfinite(none).all()


def test_a_block_equals_numpy():
    x = normal(2, 4, 6)
    block = Block(heads=2, depth=1)
    params = jax.tree.map(
        lambda leaf: normal(*leaf.shape, seed=leaf.size), jax.eval_shape(block.init, jax.random.key(0), x)["params"]
    )
    found, _ = block.apply({"params": params}, x)

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * params[name]["scale"] + params[name]["bias"]

    def dense(name, x):
        return x @ np.float64(params[name]["kernel"]) + params[name]["bias"]

    queries, keys, values = np.moveaxis(dense("Dense_0", norm("LayerNorm_0", x)).reshape(2, 4, 3, 2, 3), 2, 0)
    attended = by_hand(queries, keys, values, np.ones((2, 4), bool), 0).reshape(2, 4, 6)
    x = x + dense("Dense_1", attended)
    h = dense("Dense_2", norm("LayerNorm_1", x))
    h = h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))) / 2
    np.testing.assert_allclose(found, x + dense("Dense_3", h), rtol=1e-4, atol=1e-4)


def test_positions_one_after_the_other_are_the_sequence_at_once():
    """Two positions first, then one each; the second example's first position is padding."""
    x, known = normal(2, 5, 6), np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]], bool)
    block = Block(heads=3, depth=2)
    variables = jax.jit(block.init)(jax.random.key(1), x)
    whole, none = block.apply(variables, x, known)
    assert none is None
    take, parts = jax.jit(partial(block.apply, variables)), []
    cache = empty_cache(2, 5, 3, 2, np.dtype("float32"))
    for at, length in ((0, 2), (2, 1), (3, 1), (4, 1)):
        part, cache = take(x[:, at : at + length], known, cache, jnp.int32(at))
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, 1)[0], whole[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(parts, 1)[1, 1:], whole[1, 1:], rtol=1e-5, atol=1e-6)


def test_what_blocks_add_begins_small():
    """Kernels have a variance of 1 / inputs, or 1 / (2 depth inputs) in the two layers that add to the sums."""
    params = jax.jit(Block(heads=4, depth=8).init)(jax.random.key(0), jnp.zeros((1, 1, 64)))["params"]
    for name, inputs, share in (("Dense_0", 64, 1), ("Dense_1", 64, 16), ("Dense_2", 64, 1), ("Dense_3", 256, 16)):
        assert abs(np.var(params[name]["kernel"]) * inputs * share - 1) < 0.1
