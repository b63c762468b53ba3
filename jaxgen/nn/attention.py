"""Attention, and blocks of causal Transformers over whole sequences or a few positions at a time.

A causal network is written once. Over a whole sequence a block is given all positions, each of which sees itself and
those before it. While a sequence is drawn a block is given the next positions only, and a `Cache` of the keys and
values of those before, so that a new position costs one row of the attention and not the whole sequence.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.model import Array
from jaxgen.nn.promotion import library_promotion


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


def empty_cache(batch: int, positions: int, heads: int, head_dim: int, dtype: np.dtype) -> Cache:
    """Cache of no position yet."""
    return Cache(*(jnp.zeros((batch, heads, positions, head_dim), dtype) for _ in range(2)))


def attention(queries: Array, keys: Array, values: Array, bias: Array | float = 0.0) -> Array:
    """softmax(Q K^T / sqrt(head_dim) + bias) V over all positions, the softmax in float32.

    It is written out: the kernels behind `jax.nn.dot_product_attention` may lack the second derivatives that a
    gradient penalty takes.

    Args:
        queries: [batch, queries, heads, head_dim].
        keys: [batch, positions, heads, head_dim].
        values: as the keys.
        bias: of the scores, float32, broadcast to [batch, heads, queries, positions].

    Returns:
        [batch, queries, heads, head_dim].
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys).astype(jnp.float32) * queries.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores + bias).astype(values.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values)


def causal_attention(
    queries: Array, keys: Array, values: Array, known: Array | None = None, at: Array | int | None = None
) -> Array:
    """softmax(Q K^T / sqrt(head_dim)) V over the positions up to each query's own (Vaswani et al. 2017, section 3.2.1).

    `jax.nn.dot_product_attention` computes it, by the kernel that it has for the platform, its softmax in float32.

    Args:
        queries: [batch, queries, heads, head_dim].
        keys: [batch, positions, heads, head_dim].
        values: as the keys.
        known: bool [batch, positions], False for positions that none sees, such as padding; None where all are known.
        at: position of the first query; None where queries and positions are the same.

    Returns:
        [batch, queries, heads, head_dim]; finite, and meaningless, for a query that sees no position.
    """
    mask = None if known is None else known[:, None, None]
    if at is not None:
        seen = jnp.arange(keys.shape[1]) <= at + jnp.arange(queries.shape[1])[:, None]
        mask = seen[None, None] if mask is None else seen & mask
    product = partial(jax.nn.dot_product_attention, is_causal=at is None)
    # The gradient computes the weights again: those of all layers, kept, would fill memory.
    with library_promotion():  # bfloat16 scores meet float32 in the softmax
        return jax.checkpoint(product)(queries, keys, values, mask=mask)


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
            y = causal_attention(queries, cache.keys.swapaxes(1, 2), cache.values.swapaxes(1, 2), known, at)
        x += added(y.reshape(batch, length, dim))
        x += added(nn.gelu(nn.Dense(4 * dim, dtype=self.dtype)(nn.LayerNorm()(x))))
        return x, cache
