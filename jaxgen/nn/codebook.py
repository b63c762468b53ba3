"""Vector quantization: codes of vectors, a codebook of running averages, and finite scalar quantization.

    k = argmin_j |z - e_j|^2,    the decoder is given e_k,    d loss / d z = d loss / d e_k        (straight-through)

van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, equations 1 to 3. The codebook is not trained by gradient
but by their appendix A.1, from the n_j vectors of a batch that are nearest to code j:

    N_j <- g N_j + (1 - g) n_j,    m_j <- g m_j + (1 - g) sum of those vectors,    e_j = m_j / N_j

Codes are chosen by the codebook before its update. A code that is hardly used is replaced by a vector of the batch, in
all three of e, N and m: else its old average would come back. Everything here is float32: a narrower argmin would
choose other codes, and a narrower average would stand still.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.model import Array, Key

SMOOTHING = 1e-5
"""Added to the counts in e = m / N, as in the authors' code, so that a count of 0 does not divide."""

DEAD = 0.05
"""Share of the mean count below which a code is replaced. A replaced one begins at twice this share, with which it
survives 69 batches without a vector at a decay of .99; above that it counts as used."""

SLACK = 1e-3
"""Excess of the bounds of finite scalars, relative to their range, so that the outermost levels can be reached."""


class Codebook(NamedTuple):
    """Codes, and the running averages that they follow; all float32."""

    codes: Array  # e [K, D]
    counts: Array  # N [K], vectors of a batch that are nearest to each code
    sums: Array  # m [K, D], of those vectors; [0] for finite scalars, whose codes do not move


class Quantized(NamedTuple):
    """Vectors and their codes."""

    index: Array  # int32 [...]
    z: Array  # float32 [..., D], the vectors as they are compared with codes
    code: Array  # float32 [..., D], e_k, with the gradient passed on to z


class Quantizer(NamedTuple):
    """A way to assign codes to vectors, as functions."""

    num: int  # K
    dim: int  # D
    start: Callable[[Key], Codebook]
    compared: Callable[[Array], Array]  # vectors [..., D], float32 -> vectors that are compared with codes
    nearest: Callable[[Array, Array], Array]  # (codes [K, D], compared vectors [..., D]) -> int32 [...]
    moved: Callable[[Codebook, Array, Array], Codebook]  # (codebook, vectors [n, D], indices [n]) -> after one update
    learned: bool = True  # False for finite scalars, whose codes are fixed: no commitment, nothing to replace

    def __call__(self, codebook: Codebook, z: Array) -> Quantized:
        """Quantizes vectors [..., D]."""
        z = self.compared(z.astype(jnp.float32))
        codes = lax.stop_gradient(codebook.codes)
        index = self.nearest(codes, lax.stop_gradient(z))
        # z - z is 0, exactly, but its gradient is 1: the decoder gets the same e_k as from codes alone.
        return Quantized(index, z, codes[index] + (z - lax.stop_gradient(z)))

    def commitment(self, found: Quantized) -> Array:
        """Mean of (z - e_k)^2, whose gradient moves z alone; 0 for finite scalars."""
        return ((found.z - lax.stop_gradient(found.code)) ** 2).mean() if self.learned else jnp.float32(0)

    def updated(self, key: Key, codebook: Codebook, found: Quantized, replacing: Array | bool) -> Codebook:
        """Returns the codebook after the batch; dead codes are replaced if `replacing`, bool []."""
        z = lax.stop_gradient(found.z).reshape(-1, self.dim)
        codebook = self.moved(codebook, z, found.index.reshape(-1))
        if not self.learned:
            return codebook
        return jax.tree.map(partial(jnp.where, replacing), replaced(key, codebook, z), codebook)

    def begun(self, key: Key, codebook: Codebook, z: Array) -> Codebook:
        """Returns a codebook of random vectors among z [..., D], each counted once."""
        if not self.learned:
            return codebook
        codes = _drawn(key, self.compared(z.astype(jnp.float32)).reshape(-1, self.dim), self.num)
        return Codebook(codes, jnp.ones(self.num), codes)


def averages(num: int, dim: int, decay: float, cosine: bool = False) -> Quantizer:
    """Codebook of `num` running averages in `dim` dimensions, with g = `decay`.

    With `cosine` vectors and codes have length 1, so that the nearest code is that of the largest cosine (Yu et al.
    2022, https://arxiv.org/abs/2110.04627, section 3.2).
    """

    def start(key):
        codes = jax.random.normal(key, (num, dim)) * dim**-0.5
        codes = unit(codes) if cosine else codes
        return Codebook(codes, jnp.ones(num), codes)

    def update(codebook, z, index):
        codebook = moved(codebook, z, index, decay)
        return codebook._replace(codes=unit(codebook.codes)) if cosine else codebook

    return Quantizer(num, dim, start, unit if cosine else lambda z: z, nearest, update)


def finite_scalars(levels: Sequence[int], decay: float) -> Quantizer:
    """Codes of a fixed grid: each number of a vector is bounded and rounded to one of its `levels`.

    Finite scalar quantization, Mentzer et al. 2023, https://arxiv.org/abs/2309.15505, section 3.1. Numbers are scaled
    to [-1, 1], and the last one changes fastest along the codes. The codebook keeps counts alone.
    """
    levels = np.asarray(levels, np.int32)
    num, dim = int(levels.prod()), len(levels)
    half = (levels // 2).astype(np.float32)
    bound = (levels - 1) / 2 * (1 + SLACK)
    offset = np.where(levels % 2 == 0, 0.5, 0.0)  # so that an even number of levels has integers
    shift, bound, offset = (np.float32(each) for each in (np.arctanh(offset / bound), bound, offset))
    place = np.int32(num // np.cumprod(levels))
    grid = np.stack(np.unravel_index(np.arange(num), levels), axis=-1)
    codes = (grid - half) / half

    def start(key):
        return Codebook(jnp.asarray(codes, jnp.float32), jnp.ones(num), jnp.zeros(0))

    def compared(z):
        return (jnp.tanh(z + shift) * bound - offset) / half

    def nearest_on_grid(codes, z):
        return ((jnp.round(z * half) + half).astype(jnp.int32) * place).sum(-1)

    def update(codebook, z, index):
        hits = jnp.zeros(num).at[index].add(1)
        return codebook._replace(counts=decay * codebook.counts + (1 - decay) * hits)

    return Quantizer(num, dim, start, compared, nearest_on_grid, update, learned=False)


def unit(z: Array) -> Array:
    """Scales vectors [..., D] to length 1; one of length 0 stays 0."""
    return z * lax.rsqrt((z**2).sum(-1, keepdims=True) + jnp.finfo(jnp.float32).tiny)


def nearest(codes: Array, z: Array) -> Array:
    """Indices int32 [...] of the codes [K, D] nearest to vectors [..., D]; the lowest of several equally near.

    The vector's own length is left out of the distance: it is the same for all codes, and would cost digits.
    """
    distance = (codes**2).sum(-1) - 2 * jnp.matmul(z, codes.T, precision="highest")
    return distance.argmin(-1).astype(jnp.int32)


def moved(codebook: Codebook, z: Array, index: Array, decay: float, smoothing: float = SMOOTHING) -> Codebook:
    """Moves the averages by vectors z [n, D] of codes `index` int32 [n]; the smoothed counts are not kept."""
    num = len(codebook.codes)
    hits = jax.nn.one_hot(index, num)
    counts = decay * codebook.counts + (1 - decay) * hits.sum(0)
    sums = decay * codebook.sums + (1 - decay) * jnp.matmul(hits.T, z, precision="highest")
    total = counts.sum()
    smoothed = (counts + smoothing) / (total + num * smoothing) * total
    return Codebook(sums / smoothed[:, None], counts, sums)


def replaced(key: Key, codebook: Codebook, z: Array, share: float = DEAD) -> Codebook:
    """Replaces codes whose count is below `share` of the mean by random vectors among z [n, D], in e, N and m."""
    least = share * codebook.counts.mean()
    dead = codebook.counts < least
    codes = _drawn(key, z, len(dead))
    return Codebook(
        jnp.where(dead[:, None], codes, codebook.codes),
        jnp.where(dead, 2 * least, codebook.counts),
        jnp.where(dead[:, None], 2 * least * codes, codebook.sums),
    )


def _drawn(key: Key, z: Array, num: int) -> Array:
    """Random vectors among z [n, D], with replacement: [num, D]."""
    return z[jax.random.randint(key, (num,), 0, len(z))]


def perplexity(counts: Array) -> Array:
    """exp(entropy) of counts [K]: K where all are equal, 1 where one code has them all."""
    return jnp.exp(jax.scipy.special.entr(counts / counts.sum()).sum())


def used(counts: Array) -> Array:
    """Share of the codes with a count above twice `DEAD` of the mean count [K]."""
    return (counts > 2 * DEAD * counts.mean()).mean(dtype=jnp.float32)
