"""Attention and its blocks against NumPy, over whole sequences and a few positions at a time."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.special

from jaxgen.nn import attention
from jaxgen.nn.attention import Block, cached_attention, causal_attention, empty_cache


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@contextlib.contextmanager
def in_float64():
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


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
    cache = empty_cache(2, 0, 3, 4, np.dtype("float32")).extended(5).written(keys, values, 0)
    later = cached_attention(queries[:, :2], cache, known, at=2)
    np.testing.assert_allclose(later, by_hand(queries[:, :2], keys, values, known, 2), rtol=1e-5, atol=1e-6)
    none = causal_attention(queries, keys, values, known & (np.arange(5) > 1))
    assert np.isfinite(none).all()


# Lengths of one block and more, which blocks divide or not; scores for loops over one, two or all sequences.
@pytest.mark.parametrize("scores", [1, 2 * 2 * 40 * 157, attention.SCORES])
@pytest.mark.parametrize(("length", "padded"), [(7, False), (131, True), (157, False), (160, True)])
def test_blocks_of_queries_are_the_whole(length, padded, scores, monkeypatch):
    """Attention and its gradients, in float32, equal those of all scores at once in float64."""
    monkeypatch.setattr(attention, "SCORES", scores)
    queries, keys, values, cotangent = (normal(4, length, 2, 3, seed=seed) for seed in range(4))
    known = np.ones((4, length), bool)
    if padded:
        known[1, :3], known[2, 130:] = False, False
    cotangent[1, : 3 if padded else 0] = 0  # queries that see nothing

    def whole(queries, keys, values):
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / np.sqrt(3)
        seen = np.tri(length, dtype=bool) & known[:, None, None]
        weights = jax.nn.softmax(jnp.where(seen, scores, -1e30))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, values)

    def in_blocks(queries, keys, values):
        return attention.blocked_attention(queries, keys, values, known if padded else None)

    with in_float64():
        wide = [jnp.float64(a) for a in (queries, keys, values, cotangent)]
        expected, back = jax.vjp(whole, *wide[:3])
        expected = jax.device_get([expected, *back(wide[3])])
    found, back = jax.vjp(in_blocks, queries, keys, values)
    for name, a, b in zip(("y", "queries", "keys", "values"), [found, *back(cotangent)], expected, strict=True):
        known_only = cotangent[..., :1] != 0 if name == "y" else True
        np.testing.assert_allclose(np.where(known_only, a, 0), np.where(known_only, b, 0), rtol=1e-4, atol=2e-5)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("scores", [1, attention.SCORES])
def test_blocks_see_nothing_that_comes_later(scores, monkeypatch):
    """An output depends, to the bit, on no later position and no other sequence."""
    monkeypatch.setattr(attention, "SHORT", 4)
    monkeypatch.setattr(attention, "SCORES", scores)
    queries, keys, values = (normal(2, 9, 1, 2, seed=seed) for seed in range(3))
    for operand in range(3):
        given = [queries, keys, values]

        def output(a, operand=operand, given=given):
            return attention.blocked_attention(*given[:operand], a, *given[operand + 1 :])

        jacobian = np.abs(jax.jacobian(output)(given[operand])).sum((2, 3, 6, 7))  # [example, query, example, position]
        past = np.tri(9, dtype=bool) if operand else np.eye(9, dtype=bool)
        wanted = np.eye(2, dtype=bool)[:, None, :, None] & past[None, :, None]
        if operand < 2:  # the first position has one weight, which is 1
            wanted[:, 0] = False
        np.testing.assert_array_equal(jacobian != 0, wanted)


def test_blocks_have_derivatives_of_all_orders(monkeypatch):
    monkeypatch.setattr(attention, "SHORT", 4)
    monkeypatch.setattr(attention, "SCORES", 1)
    given = [normal(2, 6, 1, 2, seed=seed) for seed in range(3)]
    jax.test_util.check_grads(attention.blocked_attention, given, 2, atol=2e-2, rtol=2e-2)


def test_blocks_in_bfloat16_have_a_softmax_in_float32():
    """Products and weights are rounded; a sum of 200 weights in bfloat16 would be off by a twentieth and more."""
    queries, keys = (jnp.zeros((1, 200, 1, 8), jnp.bfloat16) for _ in range(2))
    values = jnp.ones((1, 200, 1, 8), jnp.bfloat16)
    found = attention.blocked_attention(queries, keys, values)  # all weights are equal
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(found), 1, rtol=2**-7)
    queries, keys, values = (normal(2, 200, 2, 8, seed=seed).astype(jnp.bfloat16) for seed in range(3))
    found = attention.blocked_attention(queries, keys, values)
    exact = attention.blocked_attention(*(np.float32(a) for a in (queries, keys, values)))
    np.testing.assert_allclose(np.float32(found), exact, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("length", [5, 130])
def test_attention_with_a_bias_is_that_of_each_sequence(length):
    """Long sequences are computed one after the other, with equal derivatives of both orders."""
    given = [normal(3, length, 2, 4, seed=seed) for seed in range(3)] + [normal(2, length, length, seed=3)]

    def by_formula(queries, keys, values, bias):
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / 2 + bias
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), values)

    def penalty(function):
        """Loss with a gradient penalty, as of WGAN-GP."""

        def loss(*given):
            gradients = jax.grad(lambda *a: (function(*a) ** 2).sum(), argnums=(0, 1, 2))(*given)
            return sum((gradient**2).sum() for gradient in gradients) / length

        return loss

    with in_float64():
        wide = [jnp.float64(a) for a in given]
        expected = by_formula(*wide), *jax.grad(penalty(by_formula), argnums=(0, 1, 2, 3))(*wide)
        expected = jax.device_get(expected)
    found = attention.attention(*given), *jax.grad(penalty(attention.attention), argnums=(0, 1, 2, 3))(*given)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


def test_only_a_cpu_divides_a_sequence():
    """Arrays of all scores of a long sequence are in programs for a GPU or a TPU, and not in those for a CPU."""
    given = [jax.ShapeDtypeStruct((2, 784, 4, 8), np.float32)] * 3
    lowered = {
        platform: jax.jit(causal_attention).trace(*given).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    all_scores = "784x784xf32"
    assert [all_scores in lowered[platform] for platform in lowered] == [False, True, True]


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
