"""What autoregressive models of pixels have in common: drawing in raster order, and labels by Bayes' rule.

A network gives, for every pixel and group of a head, the outputs of p(x_i | x_1, ..., x_{i-1}). The draw of a pixel's
group takes the key of its place, so that every sampler here draws the same image from the same key.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.heads import Head
from jaxgen.model import Array, Key
from jaxgen.nn.masked import Place


def drawn_in_turn(
    key: Key,
    head: Head,
    above: Callable[[Any, Array, Place], tuple[Any, Any]],
    beside: Callable[[Any, Array, Any, Place], tuple[Array, Any]],
    reach: int,
    given: Array,
    rows: int = 0,
) -> tuple[Array, Array]:
    """Levels drawn pixel after pixel by a network that remembers what it has seen.

    Args:
        key: of all draws.
        head: the distributions.
        above: (cache, rows above [num, reach + 1, reach + W + reach, C], place of the row) -> links, and the cache. It
            is called before a row is drawn. Links are maps [num, 1, W, ...] that the row's pixels are given.
        beside: (cache, pixels around [num, reach + 1, reach + 1 + reach, C], links [num, 1, 1, ...], place) -> outputs
            [num, 1, 1, groups, outputs], and the cache. Of the pixels those from the own on are not to be seen, but for
            its channels that are drawn. Caches begin as {}.
        reach: rows above and columns to each side that the first layer reads.
        given: levels int32 [num, H, W, C], of which the first `rows` rows are kept.
        rows: of `given`.

    Returns:
        Levels int32 [num, H, W, C], and the outputs that they were drawn by, [num, H, W, groups, outputs].
    """
    num, height, width, channels = given.shape
    each = channels // head.groups

    def around(canvas, row, column, columns):
        return lax.dynamic_slice(canvas, (0, row, column, 0), (num, reach + 1, reach + columns + reach, channels))

    def take_row(carry, inputs):
        row, kept = inputs
        links, cache = above(carry[0], around(carry[1], row, 0, width), Place(row, 0, width))
        links = jax.tree.map(lambda maps: jnp.moveaxis(maps, 2, 0)[:, :, :, None], links)

        def take_pixel(carry, inputs):
            (cache, canvas), (column, links, kept) = carry, inputs
            drawn, outputs = [], None
            for group in range(head.groups):
                pixels = around(canvas, row + 1, column, 1)
                outputs, cache = beside(cache, pixels, links, Place(row, column, width))
                number = (row * width + column) * head.groups + group
                level = head.draw(jax.random.fold_in(key, number), outputs[:, 0, 0, group])
                level = jnp.where(row < rows, kept[:, group * each : (group + 1) * each], level)
                place = (0, row + 1 + reach, column + reach, group * each)
                canvas = lax.dynamic_update_slice(canvas, head.scaled(level)[:, None, None], place)
                drawn.append(level)
            return (cache, canvas), (jnp.concatenate(drawn, axis=-1), outputs[:, 0, 0])

        return lax.scan(take_pixel, (cache, carry[1]), (jnp.arange(width), links, kept))

    canvas = jnp.zeros((num, 1 + reach + height, reach + width + reach, channels))
    empty = jax.eval_shape(lambda: _first_cache(above, beside, canvas, reach, width))
    cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), empty)
    in_turn = (jnp.arange(height), jnp.transpose(given, (1, 2, 0, 3)))
    level, outputs = lax.scan(take_row, (cache, canvas), in_turn)[1]
    return jnp.transpose(level, (2, 0, 1, 3)), jnp.transpose(outputs, (2, 0, 1, 3, 4))


def _first_cache(above, beside, canvas, reach, width):
    """The cache after the first pixel, of zeros where it was not written."""
    links, cache = above({}, canvas[:, : reach + 1], Place(0, 0, width))
    links = jax.tree.map(lambda maps: maps[:, :, :1], links)
    return beside(cache, canvas[:, : reach + 1, : 2 * reach + 1], links, Place(0, 0, width))[1]


def drawn_by_fixed_point(
    key: Key, head: Head, forward: Callable[[Array], Array], given: Array, rows: int = 0
) -> tuple[Array, Array]:
    """Levels that a network's outputs, by the noise of `key`, give again; the passes this took.

    All pixels are drawn at once from the outputs given the last draw, until nothing changes. What depends on settled
    pixels only is settled after the next pass, so that the result is the image drawn in turn, after at most as many
    passes as there are pixels and groups, and mostly far fewer (Song et al. 2021, https://arxiv.org/abs/2002.03629).

    Args:
        key: of all draws.
        head: the distributions.
        forward: scaled images [num, H, W, C] -> outputs [num, H, W, groups, outputs].
        given: levels int32 [num, H, W, C], of which the first `rows` rows are kept.
        rows: of `given`.

    Returns:
        Levels int32 [num, H, W, C], and the number of passes, int32 [].
    """
    num, height, width, _ = given.shape
    numbers = height * width * head.groups
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(numbers))
    kept = (jnp.arange(height) < rows)[:, None, None]

    def drawn(level):
        outputs = forward(head.scaled(level)).reshape(num, numbers, head.outputs)
        made = jax.vmap(head.draw, (0, 1), 1)(keys, outputs).reshape(given.shape)
        return jnp.where(kept, given, made)

    def again(carry):
        level, _, passes = carry
        new = drawn(level)
        return new, (new != level).any(), passes + 1

    start = (jnp.zeros_like(given), jnp.bool_(True), jnp.int32(0))
    level, _, passes = lax.while_loop(lambda carry: carry[1] & (carry[2] <= numbers), again, start)
    return level, passes


def joint(log_likelihood: Callable[[Array], Array], counts: Array) -> Array:
    """Log p(x, y) of every class, nats [batch, classes]: the logits of p(y|x).

    `log_likelihood`: one-hot y [classes] -> log p(x|y) [batch], a class at a time, as all at once might not fit.
    `counts` [classes] are those of p(y), which is uniform while they are 0.
    """
    counts = counts.astype(jnp.float32)
    share = jnp.where(counts.sum() > 0, counts / jnp.maximum(counts.sum(), 1), 1 / len(counts))
    return lax.map(log_likelihood, jnp.eye(len(counts))).T + jnp.log(share)
