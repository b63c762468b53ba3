"""Stochastic pooling and unpooling: of each block of a map one entry, at a place that is drawn.

Pu et al. 2016, "A Deep Generative Deconvolutional Image Model" (https://arxiv.org/abs/1512.07344). Blocks are squares
of one map that do not overlap. A place is a one-hot vector over the entries of its block, row by row; the places of a
map are [batch, h, w, maps, size * size] for h x w blocks. Pooling reads the entry there, unpooling writes it there and
zeros elsewhere: with the same places the two are adjoint, and pooling undoes unpooling.
"""

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.model import Array, Key


def blocks(x: Array, size: int) -> Array:
    """Maps [batch, h * size, w * size, maps] as blocks [batch, h, w, maps, size * size]."""
    batch, height, width, maps = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, maps)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // size, width // size, maps, size * size)


def unblocked(x: Array, size: int) -> Array:
    """Inverse of `blocks`."""
    batch, height, width, maps, _ = x.shape
    x = x.reshape(batch, height, width, maps, size, size).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, height * size, width * size, maps)


def pool(x: Array, place: Array, size: int) -> Array:
    """The entries of maps [batch, h * size, w * size, maps] at the places: [batch, h, w, maps]."""
    return (blocks(x, size) * place.astype(x.dtype)).sum(-1)


def unpool(x: Array, place: Array, size: int) -> Array:
    """Maps [batch, h, w, maps] at the places of blocks that are 0 elsewhere: [batch, h * size, w * size, maps]."""
    return unblocked(x[..., None] * place.astype(x.dtype), size)


def draw_places(key: Key, logits: Array, temperature: float | None = None) -> Array:
    """Draws places from their logits [..., entries]: one-hot, of the same shape.

    Without `temperature` no gradient passes. With it, the gradient is that of the softmax of the same Gumbel noise at
    that temperature (straight-through; Jang et al. 2017, https://arxiv.org/abs/1611.01144), which is biased.
    """
    noisy = logits + jax.random.gumbel(key, logits.shape)
    place = jax.nn.one_hot(noisy.argmax(-1), logits.shape[-1])
    if temperature is None:
        return place
    soft = jax.nn.softmax(noisy / temperature)
    return place + (soft - jax.lax.stop_gradient(soft))


def log_prob_of_places(place: Array, logits: Array) -> Array:
    """Log-probability of all places of each example, nats [batch]; both [batch, ...,  entries]."""
    return (place * jax.nn.log_softmax(logits)).reshape(len(place), -1).sum(-1)


def kl_to_uniform(logits: Array) -> Array:
    """KL(eta || uniform) = log entries + sum eta log eta, summed over all blocks: nats [batch].

    eta is the softmax of logits [batch, ..., entries]; one of 0 adds 0.
    """
    terms = jax.nn.softmax(logits) * (jax.nn.log_softmax(logits) + jnp.log(logits.shape[-1]))
    return terms.reshape(len(logits), -1).sum(-1)


def leave_one_out(cost: Array, log_prob: Array) -> Array:
    """Costs with the gradient of their expectation over discrete draws, by the score function: [draws, batch].

    The gradient of the mean over draws is that of the costs at fixed draws, plus that of log_prob times the cost less
    the mean cost of the example's other draws, which keeps it unbiased (Mnih & Rezende 2016,
    https://arxiv.org/abs/1602.06725, section 2.4).

    Args:
        cost: [draws, batch], of two draws or more.
        log_prob: log-probability of each draw, [draws, batch].
    """
    draws = len(cost)
    advantage = jax.lax.stop_gradient((cost - cost.mean(0)) * (draws / (draws - 1)))
    return cost + advantage * (log_prob - jax.lax.stop_gradient(log_prob))


def layers(
    shape: tuple[int, ...], kernels: tuple[int, ...] | int, size: int
) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """Layers of valid convolutions, each but the last pooled in blocks of `size`.

    Args:
        shape: of an image: height, width and others.
        kernels: side of each layer's kernels; or the number of layers, whose kernels are then about a quarter of a
            map's side, and the last layer's a half.
        size: side of a block.

    Returns:
        (the kernels' sides, (height, width) of each layer's maps, pooled).

    Raises:
        UserError: blocks do not divide the maps.
    """
    given = kernels if isinstance(kernels, tuple) else (0,) * kernels
    height, width, chosen, found = *shape[:2], [], []
    for level, kernel in enumerate(given):
        last, least = level == len(given) - 1, min(height, width)
        fit = [k for k in range(1, least + 1) if last or (height - k + 1) % size == (width - k + 1) % size == 0]
        wanted = least // 2 + 1 if last else max(2, least // 4)
        kernel = kernel or next((k for k in fit if k >= wanted), 0)
        if kernel not in fit:
            raise UserError(
                f"blocks of {size}x{size} (pool) do not divide layer {level + 1}'s maps from {height}x{width}: its "
                f"kernels can have a side of {', '.join(map(str, fit)) or 'nothing: choose another pool'}"
            )
        height, width = ((n - kernel + 1) // (1 if last else size) for n in (height, width))
        chosen.append(kernel)
        found.append((height, width))
    return tuple(chosen), found
