"""Stochastic pooling and unpooling: adjoint, of one place each; the gradient of an expectation over places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.nn import unpooling


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


pool, unpool = (jax.jit(function, static_argnums=2) for function in (unpooling.pool, unpooling.unpool))
draw_places = jax.jit(unpooling.draw_places, static_argnums=2)


@pytest.fixture(scope="module")
def places():
    return draw_places(jax.random.key(5), np.zeros((4, 2, 3, 5, 9), np.float32))


def test_blocks_are_squares_row_by_row():
    x = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    found = np.asarray(unpooling.blocks(x, 2))
    assert found.shape == (2, 2, 2, 3, 4)
    for n, i, j, m in np.ndindex(2, 2, 2, 3):
        np.testing.assert_array_equal(found[n, i, j, m], x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, m].ravel())
    np.testing.assert_array_equal(unpooling.unblocked(found, 2), x)


def test_unpooling_is_the_adjoint_of_pooling_which_undoes_it(places):
    c, s = some(4, 6, 9, 5), some(4, 2, 3, 5, seed=1)
    pooled, unpooled = np.asarray(pool(c, places, 3)), np.asarray(unpool(s, places, 3))
    np.testing.assert_allclose((pooled * s).sum(), (c * unpooled).sum(), rtol=1e-5)
    np.testing.assert_array_equal(pool(unpooled, places, 3), s)


def test_one_entry_of_each_block_is_not_zero_and_the_pooled_one_is_there(places):
    s, c = some(4, 2, 3, 5), some(4, 6, 9, 5, seed=2)
    unpooled, pooled = np.asarray(unpool(s, places, 3)), np.asarray(pool(c, places, 3))
    in_blocks = unpooled.reshape(4, 2, 3, 3, 3, 5)
    np.testing.assert_array_equal((in_blocks != 0).sum((2, 4)), 1)
    rows, columns = divmod(np.asarray(places).argmax(-1), 3)
    for n, i, j, m in np.ndindex(4, 2, 3, 5):
        place = n, 3 * i + rows[n, i, j, m], 3 * j + columns[n, i, j, m], m
        assert unpooled[place] == s[n, i, j, m]
        assert pooled[n, i, j, m] == c[place]


def test_places_are_drawn_with_the_probabilities_of_the_softmax():
    logits = np.log(np.float32([0.1, 0.2, 0.3, 0.4]))
    place = np.asarray(draw_places(jax.random.key(0), np.broadcast_to(logits, (20_000, 4))))
    np.testing.assert_array_equal(np.sort(place), np.eye(4)[[3]].repeat(20_000, axis=0))
    np.testing.assert_allclose(place.mean(0), [0.1, 0.2, 0.3, 0.4], atol=4 * np.sqrt(0.25 / 20_000))


def test_straight_through_draws_the_same_places_with_the_softmaxes_gradient():
    """The value is one-hot; the gradient is that of softmax((logits + noise) / temperature)."""
    key, logits, cost = jax.random.key(3), some(6, 4), some(6, 4, seed=1)
    np.testing.assert_allclose(draw_places(key, logits, 0.5), draw_places(key, logits), atol=1e-6)

    def value(logits, temperature):
        return (unpooling.draw_places(key, logits, temperature) * cost).sum()

    def soft(logits):
        return (jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / 0.5) * cost).sum()

    @jax.jit
    def gradients(logits):
        return jax.grad(value)(logits, 0.5), jax.grad(soft)(logits), jax.grad(value)(logits, None)

    found, expected, without = gradients(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert not np.any(without)


def test_kl_to_uniform_by_enumeration_and_at_its_ends():
    """0 at uniform places; log 9 a block at certain ones, whose logits differ by 1,000 and whose gradient is finite."""
    logits = some(2, 3, 1, 2, 9)
    eta = np.exp(np.asarray(logits, np.float64))
    eta /= eta.sum(-1, keepdims=True)
    expected = (eta * np.log(eta * 9)).sum((1, 2, 3, 4))
    np.testing.assert_allclose(unpooling.kl_to_uniform(logits), expected, rtol=1e-5)
    np.testing.assert_allclose(unpooling.kl_to_uniform(jnp.ones((1, 4, 9))), 0, atol=1e-6)
    certain = 1000 * jax.nn.one_hot(jnp.array([[2, 7]]), 9)
    np.testing.assert_allclose(unpooling.kl_to_uniform(certain), 2 * np.log(9), rtol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda x: unpooling.kl_to_uniform(x).sum()))(certain)).all()


def test_log_prob_of_places_is_the_sum_over_blocks():
    logits = jnp.log(jnp.array([[[0.1, 0.9], [0.5, 0.5]], [[0.3, 0.7], [0.2, 0.8]]]))
    place = jax.nn.one_hot(jnp.array([[1, 0], [0, 1]]), 2)
    np.testing.assert_allclose(unpooling.log_prob_of_places(place, logits), np.log([0.9 * 0.5, 0.3 * 0.8]), rtol=1e-5)


@pytest.mark.parametrize("draws", [2, 3])
def test_the_estimated_gradient_is_that_of_the_expectation(draws):
    """A block of 4 whose place pools c and unpools the result, times w, to reconstruct x: sum over places by hand.

    The mean of 10,000 estimates is within 4 standard errors, for the logits and for c and w, which the places also
    pass gradients to. Costs are large, as without a baseline their variance would be; equal costs give no gradient.
    """
    x, num = np.float32([0.3, -1.0, 0.8, 0.1]), 10_000
    params = {"eta": np.float32([0.2, -0.4, 0.7, 0.0]), "c": np.float32([1.0, -0.5, 0.3, 2.0]), "w": np.float32([0.8])}

    def cost(params, place):  # places [..., 4]
        pooled = (params["c"] * place).sum(-1, keepdims=True)
        return ((x - params["w"] * pooled * place) ** 2).sum(-1) + 20

    def expected(params):
        return (jax.nn.softmax(params["eta"]) * cost(params, jnp.eye(4))).sum()

    def estimated(params):
        each = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (draws, *leaf.shape)), params)
        flat = {name: leaf.reshape(draws * num, -1) for name, leaf in each.items()}
        place = unpooling.draw_places(jax.random.key(7), flat["eta"])
        log_prob = unpooling.log_prob_of_places(place, flat["eta"])
        of_draws = (part.reshape(draws, num) for part in (cost(flat, place), log_prob))
        return unpooling.leave_one_out(*of_draws).mean(0).sum()

    @jax.jit
    def both(params):
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), params)
        return jax.value_and_grad(estimated)(copies), jax.value_and_grad(expected)(params)

    (of_copies, found), (value, exact) = both(params)
    for name, gradient in found.items():
        gradient = np.asarray(gradient, np.float64)
        error = gradient.std(0) / np.sqrt(num)
        assert (np.abs(gradient.mean(0) - exact[name]) < 4 * error + 1e-6).all(), name
    assert np.abs(exact["eta"]).max() > 0.3  # tens of errors
    assert np.asarray(found["eta"]).std(0).max() < 2
    np.testing.assert_allclose(of_copies / num, value, rtol=0.01)


def test_layers_by_default():
    """28x28: 8x8 kernels give 21x21, blocks of 3 7x7, and 4x4 kernels 4x4 maps. 8x8: 6x6, 3x3 and 2x2."""
    assert unpooling.layers((28, 28, 1), 2, 3) == ((8, 4), [(7, 7), (4, 4)])
    assert unpooling.layers((8, 8, 1), 2, 2) == ((3, 2), [(3, 3), (2, 2)])
    assert unpooling.layers((32, 32, 3), 2, 3) == ((9, 5), [(8, 8), (4, 4)])
    assert unpooling.layers((64, 64, 3), 3, 3) == ((17, 5, 3), [(16, 16), (4, 4), (2, 2)])
    assert unpooling.layers((28, 22, 1), (8, 3), 3) == ((8, 3), [(7, 5), (5, 3)])


def test_blocks_that_do_not_divide_a_map_are_refused():
    with pytest.raises(UserError) as raised:
        unpooling.layers((28, 28, 1), (4, 4), 3)
    assert str(raised.value) == (
        "blocks of 3x3 (pool) do not divide layer 1's maps from 28x28: its kernels can have a side of 2, 5, 8, 11, 14, "
        "17, 20, 23, 26"
    )
    with pytest.raises(UserError, match=r"layer 2's maps from 7x7: .* of 1, 2, 3, 4, 5, 6, 7$"):
        unpooling.layers((28, 28, 1), (8, 9), 3)
    with pytest.raises(UserError, match=r"layer 1's maps from 2x2: .* nothing: choose another pool$"):
        unpooling.layers((2, 2, 1), 2, 3)
