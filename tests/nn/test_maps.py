"""Pixel shuffle, windows and relative position bias against loops; attention in windows."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.attention import attention
from jaxgen.nn.maps import joined, pixel_shuffle, relative_bias, windows


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_pixel_shuffle_is_pytorchs():
    """The order of channels differs from TensorFlow's depth_to_space; a loop over the output takes each pixel back."""
    x = normal(2, 3, 4, 12)
    made = np.asarray(pixel_shuffle(x))
    assert made.shape == (2, 6, 8, 3)
    back = np.zeros_like(x)
    for h, w, c, i, j in product(range(3), range(4), range(3), range(2), range(2)):
        np.testing.assert_array_equal(made[:, 2 * h + i, 2 * w + j, c], x[:, h, w, 4 * c + 2 * i + j])
        back[:, h, w, 4 * c + 2 * i + j] = made[:, 2 * h + i, 2 * w + j, c]
    np.testing.assert_array_equal(back, x)


def test_windows_are_squares_of_neighbors_and_join_to_the_map():
    x = normal(2, 4, 6, 3)
    parts = np.asarray(windows(x, 2))
    assert parts.shape == (2 * 6, 4, 3)
    for n, row, column in product(range(2), range(2), range(3)):
        square = x[n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(parts[6 * n + 3 * row + column], square.reshape(4, 3))
    np.testing.assert_array_equal(joined(parts, (4, 6)), x)


@pytest.mark.parametrize(("height", "width"), [(3, 2), (1, 4), (4, 4)])
def test_the_bias_depends_on_the_offset_alone(height, width):
    """Every entry of the table is used, by as many pairs as there are for its offset; the gradient counts them."""
    table = normal(2 * height - 1, 2 * width - 1, 2)
    bias, pullback = jax.vjp(jax.jit(relative_bias), table)
    bias = np.asarray(bias)
    pixels = list(product(range(height), range(width)))
    assert bias.shape == (2, len(pixels), len(pixels))
    weights, expected = normal(*bias.shape, seed=1), np.zeros_like(table)
    for (query, (i, j)), (key, (k, m)) in product(enumerate(pixels), enumerate(pixels)):
        np.testing.assert_array_equal(bias[:, query, key], table[i - k + height - 1, j - m + width - 1])
        expected[i - k + height - 1, j - m + width - 1] += weights[:, query, key]
    np.testing.assert_allclose(jax.jit(pullback)(weights)[0], expected, rtol=1e-5, atol=1e-6)
    assert (expected != 0).all()


def attended(x, side, bias=0.0):
    """Attention of the pixels of maps [batch, H, W, heads * 3] within windows; queries, keys and values are equal."""
    parts = windows(x, side)
    heads = parts.reshape(*parts.shape[:2], -1, 3)
    return joined(attention(heads, heads, heads, bias).reshape(parts.shape), x.shape[1:3])


def test_attention_in_one_window_is_that_of_the_map():
    """Both are equal to NumPy's, bias included."""
    x, bias = normal(2, 4, 4, 6), relative_bias(normal(7, 7, 2, seed=1))
    rows = np.float64(x).reshape(2, 16, 2, 3)
    scores = np.exp(np.einsum("bqhd,bkhd->bhqk", rows, rows) / np.sqrt(3) + np.float64(bias))
    expected = np.einsum("bhqk,bkhd->bqhd", scores / scores.sum(-1, keepdims=True), rows).reshape(x.shape)
    np.testing.assert_allclose(attended(x, 4, bias), expected, rtol=1e-5, atol=1e-6)


def test_attention_in_windows_is_block_diagonal():
    """No output of a window depends on an input of another, and each depends on all of its own."""
    x = normal(1, 4, 6, 3)
    slopes = jax.jit(jax.jacrev(lambda x: attended(x, 2).sum(-1)[0]))(x)
    slopes = np.asarray(slopes)[:, :, 0]  # [row, column, row, column, channels]
    for (i, j), (k, m) in product(product(range(4), range(6)), repeat=2):
        same = (i // 2, j // 2) == (k // 2, m // 2)
        assert (slopes[i, j, k, m] != 0).any() == same
    assert np.isfinite(slopes).all()


def test_attention_has_second_derivatives():
    """Derivatives of a gradient's square equal central differences."""
    x, bias = jnp.asarray(normal(1, 4, 2, 3)), jnp.asarray(normal(2, 4, 4, seed=1))

    @jax.jit
    def penalty(x):
        return (jax.grad(lambda x: (attention(x, 2 * x, x, bias) ** 3).sum())(x) ** 2).mean()

    toward, step = normal(1, 4, 2, 3, seed=2), 1e-2
    slope = (np.asarray(jax.jit(jax.grad(penalty))(x)) * toward).sum()
    assert slope == pytest.approx(float(penalty(x + step * toward) - penalty(x - step * toward)) / (2 * step), rel=1e-2)


def test_bfloat16_has_its_softmax_in_float32():
    """Scores of 100 and 100.2, of which bfloat16 would make one, have weights of 1 / (1 + e^.2) and the rest."""
    keys, values = jnp.zeros((1, 2, 1, 1), jnp.bfloat16), jnp.asarray([0, 1], jnp.bfloat16).reshape(1, 2, 1, 1)
    found = attention(keys[:, :1], keys, values, jnp.float32([100, 100.2]))
    assert found.dtype == jnp.bfloat16
    assert float(found[0, 0, 0, 0]) == pytest.approx(1 / (1 + np.exp(-0.2)), rel=2**-8)
