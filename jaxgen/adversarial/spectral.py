"""Spectral normalization of a net's parameters, Miyato et al. 2018, https://arxiv.org/abs/1802.05957.

    W / sigma(W),  sigma(W) the largest singular value, by power iteration                   (algorithm 1)

It is a function of parameters, not a layer: a turn normalizes once for all its passes through the net (real
images, fake ones, a penalty's), so that it takes one step of the iteration, as in the paper.
"""

import jax
import jax.numpy as jnp

from jaxgen.model import Array, Key, PyTree


def singular_vectors(key: Key, params: PyTree) -> PyTree:
    """Initial vectors of the iteration: a random unit vector [out] per kernel [..., out], None for other leaves."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
        _unit(jax.random.normal(k, leaf.shape[-1:])) if leaf.ndim > 1 else None
        for k, leaf in zip(keys, leaves, strict=True)
    )


def spectrally_normalized(params: PyTree, vectors: PyTree) -> tuple[PyTree, PyTree]:
    """Divides every kernel by its largest singular value; also returns the vectors after one step of the iteration.

    A kernel [..., in, out], float32, is the paper's matrix [out, ... * in], transposed. Biases and gains, which
    have one axis, are unchanged. Gradients flow through sigma = v W u, with v and u held fixed (section 2.3).
    """
    leaves, tree = jax.tree.flatten(params)
    pairs = [_normalized(leaf, u) for leaf, u in zip(leaves, tree.flatten_up_to(vectors), strict=True)]
    normalized, moved = zip(*pairs, strict=True)
    return tree.unflatten(normalized), tree.unflatten(moved)


def _normalized(kernel: Array, u: Array | None) -> tuple[Array, Array | None]:
    if u is None:
        return kernel, None
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = jax.lax.stop_gradient(matrix)
    v = _unit(_product(fixed, u))
    u = _unit(_product(fixed.T, v))
    return kernel / _product(v, _product(matrix, u)), u


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")  # float32 on any device


def _unit(vector: Array) -> Array:
    return vector / jnp.linalg.norm(vector)
