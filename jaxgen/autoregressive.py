"""Functions shared by autoregressive models of pixels: samplers in raster order, labels by Bayes' rule.

A network gives the outputs of p(x_i | x_1, ..., x_{i-1}) for every pixel, or for every channel of it. The key of each
draw depends on its place only, so that all samplers here draw the same image from the same key, up to rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_positive, check_share
from jaxgen.heads import Head
from jaxgen.likelihoods import bits_of
from jaxgen.model import Array, Batch, Key, Likelihood, Sampler, Spec
from jaxgen.nn.masked import Place


def check(config: Any, channels: int, *sides: str) -> None:
    """Raises UserError for invalid or conflicting fields, and for too few features for the color channels.

    `sides` are the fields that are sides of kernels.
    """
    widths = [name for name in ("features", "head_features") if hasattr(config, name)]
    check_positive(config, *widths, "layers", *sides, "learning_rate", "clip")
    check_share(config, "dropout")
    check_idle(config, "likelihood", {"categorical": ("levels", "top"), "logistic": ("mixtures",)})
    for name in sides:
        if getattr(config, name) % 2 == 0:
            raise UserError(f"{name} must be odd, not {getattr(config, name)}")
        if getattr(config, name) >= 2**15:  # numpy has no arrays of 2^63 bytes, which some larger kernels have
            raise UserError(f"{name} must be below 2^15, not {getattr(config, name)}")
    for name in widths:
        if config.likelihood != "logistic" and getattr(config, name) < channels:
            words = f"{name} must be at least {channels}, one for each color channel"
            raise UserError(f"{words}, not {getattr(config, name)}")


def num_labels(config: Any, spec: Spec) -> int:
    """Number of labels that the network is given, 0 if not conditional; raises KeyError if the data have none."""
    if config.conditional and not spec.num_classes:
        raise KeyError("label")
    return spec.num_classes if config.conditional else 0


def applied_with_cache(network: Any, params: Any) -> Callable[..., tuple[Any, Any]]:
    """Returns a function (method, cache, arguments) -> (the method's output, the cache with what it wrote)."""

    def applied(method, cache, *args):
        made, changed = network.apply({"params": params, "cache": cache}, *args, method=method, mutable=["cache"])
        return made, changed.get("cache", cache)

    return applied


def drawn_in_turn(
    key: Key,
    head: Head,
    above: Callable[[Any, Array, Place], tuple[Any, Any]],
    beside: Callable[[Any, Array, Any, Place], tuple[Array, Any]],
    reach: int,
    given: Array,
    rows: int = 0,
) -> tuple[Array, Array]:
    """Draws levels pixel by pixel with a network that caches what it has seen.

    Args:
        key: of all draws.
        head: the distributions.
        above: (cache, rows above [num, reach + 1, reach + W + reach, C], place of the row) -> (links, cache), called
            before a row is drawn. Links are maps [num, 1, W, ...], passed on to the row's pixels.
        beside: (cache, neighborhood [num, reach + 1, reach + 1 + reach, C], links [num, 1, 1, ...], place) -> (outputs
            [num, 1, 1, groups, outputs], cache). The neighborhood ends with the pixel's own row; its values that are
            not drawn yet must be ignored. The first cache is {}.
        reach: rows above and columns to each side that the first layer reads.
        given: levels int32 [num, H, W, C], of which the first `rows` rows are kept.
        rows: number of rows of `given` to keep.

    Returns:
        (levels int32 [num, H, W, C], the outputs that they were drawn from [num, H, W, groups, outputs]).
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
    """Returns the cache after the first pixel; only its shapes are used."""
    links, cache = above({}, canvas[:, : reach + 1], Place(0, 0, width))
    links = jax.tree.map(lambda maps: maps[:, :, :1], links)
    return beside(cache, canvas[:, : reach + 1, : 2 * reach + 1], links, Place(0, 0, width))[1]


def drawn_by_fixed_point(
    key: Key, head: Head, forward: Callable[[Array], Array], given: Array, rows: int = 0
) -> tuple[Array, Array]:
    """Draws levels by repeated passes over whole images, for networks without a cache.

    Every pass draws all pixels anew with the same noise, from outputs given the previous pass, until nothing changes.
    A pixel is final one pass after all those before it are, so the result is that of drawing in turn, after at most one
    pass per pixel and group and one that changes nothing, usually far fewer (Song et al. 2021,
    https://arxiv.org/abs/2002.03629).

    Args:
        key: of all draws.
        head: the distributions.
        forward: scaled images [num, H, W, C] -> outputs [num, H, W, groups, outputs].
        given: levels int32 [num, H, W, C], of which the first `rows` rows are kept.
        rows: number of rows of `given` to keep.

    Returns:
        (levels int32 [num, H, W, C], the number of passes, int32 []).
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

    start = (jnp.where(kept, given, 0), jnp.bool_(True), jnp.int32(0))
    level, _, passes = lax.while_loop(lambda carry: carry[1] & (carry[2] <= numbers), again, start)
    return level, passes


def abilities(
    head: Head,
    spec: Spec,
    classes: int,
    log_likelihood: Callable[[Any, Array, Array], Array],
    drawn: Callable[[Any, Key, Array, int, Array], tuple[Array, Any]],
    caption: bool = False,
    rows_at_once: int = 1,
) -> dict[str, Any]:
    """Returns a Model's `needs`, `sampler`, `likelihood` and, if it is conditional, `predict` by Bayes' rule.

    For a conditional model p(x) is the sum of p(x|y) p(y) over the labels, with p(y) from the counts of training labels
    in `State.extra`.

    Args:
        head: the distributions.
        spec: the data's.
        classes: number of labels, 0 if the model is not conditional.
        log_likelihood: (params, level int32 [batch, H, W, C], one-hot y [batch, classes]) -> log p(x|y), nats [batch].
        drawn: (params, key, given, rows, y) -> (levels int32 [num, H, W, C], anything). The first `rows` rows of the
            levels are those of `given`.
        caption: True for a model given captions: y is then the caption, int32 [batch, words].
        rows_at_once: rows that are drawn together; `rows` is a multiple of it.
    """

    def told(batch, num):
        """Returns y: the one-hot labels or the captions."""
        return batch["caption"] if caption else one_hot(batch, num, classes)

    def complete(key, state, batch, rows, condition):
        k_levels, k_image = jax.random.split(key)
        given = head.level(batch["image"])
        level = drawn(state.params, k_levels, given, rows, told(condition, len(given)))[0]
        image = head.image(k_image, level)
        if head.space == "binary":
            return {"image": image}
        # The image is drawn within the levels' bins; what is given stays as it is.
        return {"image": jnp.where(jnp.arange(image.shape[1])[:, None, None] < rows, batch["image"], image)}

    def draw(key, state, num, condition):
        return complete(key, state, {"image": jnp.zeros((num, *spec.image_shape), jnp.uint8)}, 0, condition)

    def classify(state, batch):
        """Log p(x, y) [batch, classes], which are logits of p(y|x)."""
        level, seen = head.level(batch["image"]), state.extra.astype(jnp.float32)
        share = jnp.where(seen.sum() > 0, seen / jnp.maximum(seen.sum(), 1), 1 / classes)

        def of_class(y):
            return log_likelihood(state.params, level, jnp.broadcast_to(y, (len(level), classes)))

        # One class at a time: all together might not fit into memory.
        return lax.map(of_class, jnp.eye(classes)).T + jnp.log(share)

    def log_prob(key, state, batch):
        if classes:
            return jax.nn.logsumexp(classify(state, batch), axis=-1)
        level = head.level(batch["image"])
        return log_likelihood(state.params, level, told(batch, len(level)))

    conditions = ("label",) if classes else ("caption",) if caption else ()
    given = "|y" if classes else "|caption" if caption else ""
    note = f"p(x{given}) is of {bits_of(spec) if head.space == 'binary' else head.note}"
    return {
        "needs": ("image", *conditions),
        "sampler": Sampler(draw, conditions, head.sampling, complete, rows_at_once),
        "likelihood": Likelihood(log_prob, head.space, "exact", note),
        "predict": {"label": classify} if classes else {},
    }


def one_hot(batch: Batch, num: int, classes: int) -> Array:
    """Labels as one-hot vectors [num, classes], zeros for unknown labels; [num, 0] without classes."""
    return jax.nn.one_hot(batch["label"], classes) if classes else jnp.zeros((num, 0))
