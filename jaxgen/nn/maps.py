"""Maps whose pixels are the tokens of a Transformer: pixel shuffle, windows of attention, relative position bias."""

import jax.numpy as jnp

from jaxgen.model import Array


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
