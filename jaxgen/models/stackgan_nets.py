"""Networks of both stages of `stackgan`, as in the authors' code (https://github.com/hanzhanggit/StackGAN).

Convolutions without biases, BatchNorm, weights N(0, .02); Stage I has residual blocks of 1x1, 3x3 and 3x3 kernels at
its two smallest sizes, Stage II `blocks` of two 3x3 ones. Different here: leaky ReLU after each layer of D; no maps of
D with more than 8 times its first one's channels; mu and log sigma^2 linear, the latter bounded to (-8, 8); weights of
dense layers N(0, 1 / inputs), since with .02 mu is all but 0 beside sigma, and c tells G no caption for long.

`config` is a `jaxgen.models.stackgan.Config`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.likelihoods import gaussian_kl
from jaxgen.model import Array, Key, PyTree
from jaxgen.nn.conv import Conv
from jaxgen.nn.dense import mean_and_log_variance
from jaxgen.nn.image import pyramid
from jaxgen.nn.normalization import NormalizationName, normalized

SMALLEST = 4
"""Side that maps are halved to."""

DEVIATION = 0.02
"""Standard deviation of convolutions' initial kernels, around 0, and of BatchNorm's initial gains, around 1."""

leaky = partial(nn.leaky_relu, negative_slope=0.2)


def convolved(
    x: Array,
    features: int,
    kernel: int,
    training: bool,
    dtype: np.dtype,
    stride: int = 1,
    norm: NormalizationName = "batch",
) -> Array:
    """Convolution and normalization, for `nn.compact`."""
    conv = Conv(features, (kernel,) * 2, (stride,) * 2, use_bias=norm == "none", dtype=dtype)
    return normalized(conv(x), training, norm)


def bottleneck(layer: Callable, x: Array, activation: Callable) -> Array:
    """X plus three layers of it, the inner ones with a quarter of the channels; for `nn.compact`."""
    inner = max(x.shape[-1] // 4, 1)
    h = activation(layer(activation(layer(x, inner, 1)), inner, 3))
    return activation(x + layer(h, x.shape[-1], 3))


def doubled(x: Array) -> Array:
    """Maps [batch, H, W, C] -> [batch, 2H, 2W, C], each pixel as four."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def beside(x: Array, vectors: Array) -> Array:
    """Maps [batch, H, W, C] with vectors [batch, d] at every pixel: [batch, H, W, C + d]."""
    everywhere = jnp.broadcast_to(vectors[:, None, None], (*x.shape[:3], vectors.shape[1]))
    return jnp.concatenate([x, everywhere.astype(x.dtype)], axis=-1)


def drawn(key: Key, init: Callable[[Key], PyTree]) -> PyTree:
    """Initial variables of a network, all from one draw: a program with a draw for each layer compiles for a minute."""
    shapes = jax.eval_shape(init, key)
    normal = DEVIATION * jax.random.normal(key, (sum(leaf.size for leaf in jax.tree.leaves(shapes)),))
    taken = 0

    def of(path, leaf):
        nonlocal taken
        part, taken = normal[taken : taken + leaf.size].reshape(leaf.shape), taken + leaf.size
        name = path[-1].key
        if name == "kernel" and len(leaf.shape) == 2:
            part /= DEVIATION * leaf.shape[0] ** 0.5
        return {"kernel": part, "scale": 1 + part, "var": jnp.ones_like(part)}.get(name, jnp.zeros_like(part))

    return jax.tree.map_with_path(of, shapes)


class Augmentation(nn.Module):
    """Distribution of the condition c, given a caption's code."""

    dim: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, code: Array) -> tuple[Array, Array]:
        """Code [batch, text_dim] -> mean and log-variance, float32 [batch, dim] each."""
        return mean_and_log_variance(code, self.dim, self.dtype)


class Generator(nn.Module):
    """G of either stage: a caption's code, noise and, in Stage II, an image of Stage I, to images in (-1, 1)."""

    config: Any
    shape: tuple[int, int, int]  # of its images
    dtype: np.dtype

    def setup(self):
        """The augmentation, which `divergence` needs by itself."""
        self.augmentation = Augmentation(self.config.condition_dim, self.dtype)

    def divergence(self, code: Array) -> Array:
        """KL of c's distribution from N(0, I), nats [batch]."""
        return gaussian_kl(*self.augmentation(code))

    @nn.compact
    def __call__(self, code: Array, noise: Array, first: Array | None = None, *, training: bool) -> Array:
        """Code [batch, text_dim], noise [batch, d], image of Stage I [batch, h, w, C] in (-1, 1) -> [batch, H, W, C].

        The noise is epsilon, of c, and in Stage I z before it.
        """
        config = self.config
        layer, least = partial(convolved, training=training, dtype=self.dtype), config.features
        c, log_variance = self.augmentation(code)
        if config.augmentation == "always" or (training and config.augmentation == "training"):
            c += jnp.exp(log_variance / 2) * noise[:, -config.condition_dim :]
        if first is None:
            (height, width), depth = pyramid(self.shape, SMALLEST, "stackgan")
            x = jnp.concatenate([noise[:, : config.latent_dim], c], axis=1)
            x = nn.Dense(height * width * 8 * least, use_bias=False, dtype=self.dtype)(x)
            x = bottleneck(layer, normalized(x.reshape(-1, height, width, 8 * least), training), nn.relu)
            doublings = depth - 1  # another one below
        else:
            x = nn.relu(Conv(least, (3, 3), dtype=self.dtype)(first))
            for level in range(config.halvings):
                x = nn.relu(layer(x, min(2 << level, 4) * least, 4, stride=2))
            x = nn.relu(layer(beside(x, c), 4 * least, 3))
            for _ in range(config.blocks):
                x = nn.relu(x + layer(nn.relu(layer(x, x.shape[-1], 3)), x.shape[-1], 3))
            doublings = (self.shape[0] // x.shape[1]).bit_length() - 1
        for level in range(doublings):
            x = layer(doubled(x), max(x.shape[-1] // 2, 1), 3)
            x = bottleneck(layer, x, nn.relu) if first is None and level == 0 else nn.relu(x)
        x = doubled(x) if first is None else x
        return nn.tanh(Conv(self.shape[-1], (3, 3), dtype=self.dtype)(x).astype(jnp.float32))


class Discriminator(nn.Module):
    """D of either stage: an image and a caption's code to the logit of being real and of fitting each other."""

    config: Any
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, code: Array, training: bool) -> Array:
        """X [batch, H, W, C] in [-1, 1], code [batch, text_dim] -> logits [batch, 1]."""
        config = self.config
        layer = partial(convolved, training=training, dtype=self.dtype)
        size, depth = pyramid(x.shape[1:], SMALLEST, "stackgan")
        features = config.discriminator_features or config.features
        for level in range(depth):
            norm: NormalizationName = config.normalization if level else "none"
            x = leaky(layer(x, features << min(level, 3), 4, stride=2, norm=norm))
        layer = partial(layer, norm=config.normalization)
        x = bottleneck(layer, x, leaky)
        text = leaky(nn.Dense(config.condition_dim, dtype=self.dtype)(code))
        x = leaky(layer(beside(x, text), x.shape[-1], 1))
        return Conv(1, size, padding="VALID", dtype=self.dtype)(x).reshape(-1, 1).astype(jnp.float32)
