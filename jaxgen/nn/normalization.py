"""Normalizations that convolutional players choose between."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.model import Array
from jaxgen.nn.promotion import library_promotion

NormalizationName = Literal["batch", "layer", "none"]


def gains(key, shape, dtype=jnp.float32):
    """Initial gains of BatchNorm, N(1, .02), as in the code of Radford et al. 2016."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def normalized(x: Array, training: bool, kind: NormalizationName = "batch", affine: bool = True) -> Array:
    """Normalizes maps [batch, height, width, channels], with "batch" also vectors; within a module's `nn.compact`.

    "batch": BatchNorm with statistics of the batch, or with running averages if not `training`; Flax's
    momentum is one minus PyTorch's. "layer": over all maps of an image, with a gain and a bias per channel, as
    in the code of Gulrajani et al. 2017. "none": x. Without `affine`, neither has gains or biases.
    """
    if kind == "none":
        return x
    common = {"dtype": x.dtype, "use_scale": affine, "use_bias": affine}
    if kind == "batch":
        norm = nn.BatchNorm(not training, momentum=0.9, epsilon=1e-5, scale_init=gains, **common)
    else:
        norm = nn.LayerNorm(epsilon=1e-5, reduction_axes=(1, 2, 3), **common)
    with library_promotion():
        return norm(x)
