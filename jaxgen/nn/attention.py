"""Attention, and blocks of causal Transformers over whole sequences or a few positions at a time.

A causal network is written once. Over a whole sequence a block is given all positions, each of which sees itself and
those before it. While a sequence is drawn a block is given the next positions only, and a `Cache` of the keys and
values of those before, so that a new position costs one row of the attention and not the whole sequence.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.model import Array
from jaxgen.nn.promotion import library_promotion

SCORES = 5 * 2**17
"""Scores at once on a CPU. Those of 2.5 MB stay in its cache: with a gradient, 16 sequences of 784 positions and 4
heads take a sixth of the time that all scores at once take, and sequences of 196 positions two fifths."""

SHORT, LEAST_BLOCKS, MOST_BLOCKS = 128, 4, 16
"""Positions of a sequence that a CPU computes at once with others; fewest and most blocks of queries of a longer causal
one. Blocks spare the scores of positions that no query sees, and each is compiled apart."""

UNSEEN = -1e30
"""Score of a position that a query does not see; its exponential is 0, and finite if there is no other."""


class Cache(NamedTuple):
    """Keys and values of one layer, [batch, heads, positions, head_dim] each; 0 where none is written yet.

    With heads before positions a query's products read consecutive memory: drawing takes a quarter of the time on CPUs.
    """

    keys: Array
    values: Array

    def written(self, keys: Array, values: Array, at: Array | int) -> "Cache":
        """Writes keys and values [batch, length, heads, head_dim] at consecutive positions from `at` on."""
        pairs = zip(self, (keys, values), strict=True)
        return Cache(*(lax.dynamic_update_slice_in_dim(old, new.swapaxes(1, 2), at, axis=2) for old, new in pairs))

    def extended(self, positions: int) -> "Cache":
        """The cache with room for so many positions."""
        return Cache(*(jnp.pad(old, ((0, 0), (0, 0), (0, positions - old.shape[2]), (0, 0))) for old in self))


def empty_cache(batch: int, positions: int, heads: int, head_dim: int, dtype: np.dtype) -> Cache:
    """Cache of no position yet."""
    return Cache(*(jnp.zeros((batch, heads, positions, head_dim), dtype) for _ in range(2)))


def _attended(queries: Array, keys: Array, values: Array, bias: Array) -> Array:
    """Attention of [batch, heads, positions, head_dim], with heads first; the softmax is in float32."""
    wide = jnp.float32 if jnp.finfo(values.dtype).bits < 32 else values.dtype
    scores = jnp.einsum("bhqd,bhkd->bhqk", queries, keys).astype(wide) * queries.shape[-1] ** -0.5 + bias.astype(wide)
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    y = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(values.dtype), values).astype(wide)
    return (y / weights.sum(-1, keepdims=True)).astype(values.dtype)


def attention(queries: Array, keys: Array, values: Array, bias: Array | float = 0.0) -> Array:
    """softmax(Q K^T / sqrt(head_dim) + bias) V over all positions, the softmax in float32.

    It is written out: the kernels behind `jax.nn.dot_product_attention` may lack the second derivatives that a
    gradient penalty takes. On a CPU long sequences are computed one after the other.

    Args:
        queries: [batch, queries, heads, head_dim].
        keys: [batch, positions, heads, head_dim].
        values: as the keys.
        bias: of the scores, float32, broadcast to [heads, queries, positions].

    Returns:
        [batch, queries, heads, head_dim].
    """

    def in_turn(queries, keys, values, bias):
        def one(sequence):
            return _attended(*(a[None] for a in sequence), bias)[0]

        # Weights computed again take less time than weights read from memory.
        return lax.map(jax.checkpoint(one), (queries, keys, values))

    given = (*(a.swapaxes(1, 2) for a in (queries, keys, values)), jnp.asarray(bias))
    if given[-1].ndim > 3:
        raise ValueError(f"a bias is [heads, queries, positions], not {given[-1].shape}")
    short = keys.shape[1] <= SHORT
    y = _attended(*given) if short else lax.platform_dependent(*given, cpu=in_turn, default=_attended)
    return y.swapaxes(1, 2)


def causal_attention(queries: Array, keys: Array, values: Array, known: Array | None = None) -> Array:
    """softmax(Q K^T / sqrt(head_dim)) V over the positions up to each query's own (Vaswani et al. 2017, section 3.2.1).

    `jax.nn.dot_product_attention` computes it, in the form that it has for the platform, or on a CPU
    `blocked_attention`. The softmax is in float32.

    Args:
        queries: [batch, positions, heads, head_dim].
        keys: as the queries.
        values: as the queries.
        known: bool [batch, positions], False for positions that none sees, such as padding; None where all are known.

    Returns:
        [batch, positions, heads, head_dim]; finite, and meaningless, for a query that sees no position.
    """

    # The gradient computes the weights again: those of all layers, kept, would fill memory.
    @jax.checkpoint
    def by_jax(queries, keys, values, *_):
        mask = None if known is None else known[:, None, None]
        with library_promotion():  # bfloat16 scores meet float32 in the softmax
            return jax.nn.dot_product_attention(queries, keys, values, mask=mask, is_causal=True)

    given = (queries, keys, values) if known is None else (queries, keys, values, known)
    return lax.platform_dependent(*given, cpu=blocked_attention, default=by_jax)


def cached_attention(queries: Array, cache: Cache, known: Array | None, at: Array | int) -> Array:
    """`causal_attention` of the queries from position `at` on, with the keys and values of a cache."""
    seen = jnp.arange(cache.keys.shape[2]) <= at + jnp.arange(queries.shape[1])[:, None]
    if known is not None:
        seen = seen & known[:, None, None]
    bias = jnp.where(seen, jnp.float32(0), UNSEEN)
    return _attended(queries.swapaxes(1, 2), cache.keys, cache.values, bias).swapaxes(1, 2)


def blocked_attention(queries: Array, keys: Array, values: Array, known: Array | None = None) -> Array:
    """`causal_attention` of whole sequences, some sequences and a block of queries at a time."""
    batch, length, heads, _ = queries.shape
    blocks = 1 if length <= SHORT else min(max(LEAST_BLOCKS, heads * length**2 // SCORES), MOST_BLOCKS)
    size = -(-length // blocks)
    fit = max(SCORES // (heads * size * length), 1)
    at_once = max(n for n in range(1, batch + 1) if batch % n == 0 and n <= fit) if batch else 1

    def attended(sequence):
        queries, keys, values, *known = sequence
        parts = []
        for first in range(0, length, size):
            last = min(first + size, length)
            seen = jnp.arange(last) <= jnp.arange(first, last)[:, None]
            if known:
                seen = seen & known[0][:, None, None, :last]
            # The gradient computes the weights again, as do other platforms'.
            block = jax.checkpoint(_attended)
            bias = jnp.where(seen, jnp.float32(0), UNSEEN)
            parts.append(block(queries[:, :, first:last], keys[:, :, :last], values[:, :, :last], bias))
        return jnp.concatenate(parts, axis=2)

    given = tuple(a.swapaxes(1, 2) for a in (queries, keys, values)) + (() if known is None else (known,))
    if at_once == batch:
        y = attended(given)
    else:
        split = jax.tree.map(lambda a: a.reshape(-1, at_once, *a.shape[1:]), given)
        y = lax.map(attended, split).reshape(batch, heads, length, -1)
    return y.swapaxes(1, 2)


class Block(nn.Module):
    """Attention and two dense layers, each after a LayerNorm and added to its input (Radford et al. 2019, section 2.3).

    Sums and norms are float32, products in `dtype`.
    """

    heads: int
    depth: int  # of the network, in blocks: the two layers that add to the sums begin 1 / sqrt(2 depth) as large
    dropout: float = 0.0  # share of what they add that is left out in training
    dtype: np.dtype = np.dtype("float32")

    @nn.compact
    def __call__(
        self,
        x: Array,
        known: Array | None = None,
        cache: Cache | None = None,
        at: Array | int = 0,
        training: bool = False,
    ) -> tuple[Array, Cache | None]:
        """Maps float32 [batch, length, dim] to the same, and the cache to one with these positions.

        Without a cache the positions are a whole sequence; with one they are those from `at` on of a sequence as long
        as the cache. `known` is bool [batch, positions of the whole], None where all are known.
        """
        batch, length, dim = x.shape
        small = nn.initializers.variance_scaling(1 / (2 * self.depth), "fan_in", "truncated_normal")

        def added(y):
            y = nn.Dense(dim, kernel_init=small, dtype=self.dtype)(y)
            return nn.Dropout(self.dropout)(y.astype(jnp.float32), deterministic=not training)

        y = nn.Dense(3 * dim, dtype=self.dtype)(nn.LayerNorm()(x))
        queries, keys, values = jnp.moveaxis(y.reshape(batch, length, 3, self.heads, -1), 2, 0)
        if cache is None:
            y = causal_attention(queries, keys, values, known)
        else:
            cache = cache.written(keys, values, at)
            y = cached_attention(queries, cache, known, at)
        x += added(y.reshape(batch, length, dim))
        x += added(nn.gelu(nn.Dense(4 * dim, dtype=self.dtype)(nn.LayerNorm()(x))))
        return x, cache
