"""LSTMs and skewed maps by hand."""

import jax.numpy as jnp
import numpy as np

from jaxgen.nn import recurrent


def test_skewing_moves_rows_and_is_undone():
    """Row i to the right by i: figure 3."""
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4, 1)
    skewed = recurrent.skewed(jnp.asarray(x))
    expected = [[1, 2, 3, 4, 0, 0], [0, 5, 6, 7, 8, 0], [0, 0, 9, 10, 11, 12]]
    np.testing.assert_array_equal(skewed[0, :, :, 0], expected)
    np.testing.assert_array_equal(recurrent.unskewed(skewed, 4), x)


def test_an_lstm_by_hand():
    """Gates of log 3 open by 3/4: c' = 3/4 c + 3/4 tanh(1), h = 3/4 tanh(c')."""
    log3 = np.log(3)
    h, c = recurrent.lstm(jnp.float32([[log3, log3, log3, 1]]), jnp.float32([[2]]))
    expected = 0.75 * 2 + 0.75 * np.tanh(1)
    np.testing.assert_allclose((h[0, 0], c[0, 0]), (0.75 * np.tanh(expected), expected), rtol=1e-6)


def test_a_gru_by_hand():
    """Gates of log 3 open by 3/4: h' = 3/4 h + 1/4 tanh(1 + 3/4 (-2))."""
    log3 = np.log(3)
    gates, own = jnp.float32([[log3 - 1, log3 + 2, 1]]), jnp.float32([[1, -2, -2]])
    np.testing.assert_allclose(recurrent.gru(gates, own, jnp.float32([[5]]))[0, 0], 3.75 - np.tanh(0.5) / 4, rtol=1e-6)
