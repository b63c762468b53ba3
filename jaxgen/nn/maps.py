"""Maps whose pixels are the tokens of a Transformer: pixel shuffle, windows of attention, relative position bias."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

from jaxgen.model import Array
from jaxgen.nn.attention import attention


def pixel_shuffle(x: Array) -> Array:
    """Maps [batch, H, W, 4 C] -> [batch, 2 H, 2 W, C], a pixel's channels to 2x2 pixels; Shi et al. 2016, equation 4.

    Channel 4 c + 2 i + j goes to channel c in row i, column j of the four, as in PyTorch.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, channels // 4, 2, 2)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(batch, 2 * height, 2 * width, channels // 4)


def windows(x: Array, side: int) -> Array:
    """Divides maps [batch, H, W, C] into squares, row by row: [batch * windows, side * side, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side * side, channels)


def joined(x: Array, size: tuple[int, int]) -> Array:
    """Joins the windows [batch * windows, side * side, C] of `windows` to maps [batch, H, W, C] of this size."""
    (height, width), side = size, int(x.shape[1] ** 0.5)
    x = x.reshape(-1, height // side, width // side, side, side, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


def relative_bias(table: Array) -> Array:
    """Bias of attention scores by the offset of two pixels of a map: [heads, H * W, H * W], queries before keys.

    With table [2 H - 1, 2 W - 1, heads], the bias of a query in row i, column j for a key in row k, column l is
    table[i - k + H - 1, j - l + W - 1]; Liu et al. 2021, https://arxiv.org/abs/2103.14030, equation 4.
    """
    by_row = _by_difference(table)  # [i, k, 2 W - 1, heads]
    by_both = _by_difference(jnp.moveaxis(by_row, 2, 0))  # [j, l, i, k, heads]
    width, _, height, _, heads = by_both.shape
    return by_both.transpose(4, 2, 0, 3, 1).reshape(heads, height * width, height * width)


def _by_difference(table: Array) -> Array:
    """Expands [2 n - 1, ...] to [n, n, ...], whose element i, k is the table's i - k + n - 1.

    Each row is the reversed table, moved one place further: its derivative is a sum, where that of a look-up would be a
    scatter, which is slow on TPUs and has no fixed order of additions on GPUs.
    """
    n, rest = (len(table) + 1) // 2, table.shape[1:]
    rows = jnp.broadcast_to(table[::-1], (n, 2 * n - 1, *rest))
    rows = jnp.pad(rows, ((0, 0), (0, 1), *((0, 0) for _ in rest))).reshape(2 * n * n, *rest)
    return rows[: n * (2 * n - 1)].reshape(n, 2 * n - 1, *rest)[:, n - 1 :]


class MapAttention(nn.Module):
    """Attention among the pixels of a map, with a relative position bias; a dense layer follows.

    Within windows it is the grid attention of Jiang et al. 2021, https://arxiv.org/abs/2102.07074, section 3.4.
    """

    heads: int
    size: tuple[int, int] | None  # (height, width) of the map; None for tokens without positions, and without the bias
    window: int | None  # side of the windows; None for attention over the whole map
    dtype: np.dtype
    bias_table_init: Initializer
    kernel_init: Initializer
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [batch, tokens, dim] to the same; the last tokens are the pixels, those before them have no position."""
        shape, (batch, _, dim) = x.shape, x.shape
        if self.window:
            x = windows(x.reshape(batch, *self.size, dim), self.window)
        bias = jnp.float32(0)
        if self.size:
            height, width = (self.window, self.window) if self.window else self.size
            table = self.param("bias", self.bias_table_init, (2 * height - 1, 2 * width - 1, self.heads))
            before = x.shape[1] - height * width
            bias = jnp.pad(relative_bias(table), ((0, 0), (before, 0), (before, 0)))
        parts = nn.Dense(3 * dim, use_bias=False, dtype=self.dtype, kernel_init=self.kernel_init)(x)
        queries, keys, values = jnp.moveaxis(parts.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
        x = attention(queries, keys, values, bias).reshape(x.shape)
        x = nn.Dense(dim, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init)(x)
        return joined(x, self.size).reshape(shape) if self.window else x
