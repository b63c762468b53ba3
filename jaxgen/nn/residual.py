"""Residual blocks, and the strided stacks of VQ-VAE's encoder and decoder.

As in the example of the authors' code (Sonnet, vqvae_example). `config` has their sizes: `features`, the channels of a
stack, `residual_features`, those within a block, and `residual_blocks`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxgen.model import Array
from jaxgen.nn.conv import Conv, ConvTranspose


class Residuals(nn.Module):
    """Residual blocks of a 3x3 and a 1x1 convolution, each after a ReLU, and a ReLU."""

    config: Any
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, h, w, features] -> the same shape."""
        for _ in range(self.config.residual_blocks):
            h = Conv(self.config.residual_features, (3, 3), dtype=self.dtype)(nn.relu(x))
            x += Conv(x.shape[-1], (1, 1), dtype=self.dtype)(nn.relu(h))
        return nn.relu(x)


class Down(nn.Module):
    """Strided convolutions, the first of several with half the channels, and residual blocks."""

    config: Any
    halvings: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, h, w, channels] -> [batch, h >> halvings, w >> halvings, features]."""
        features = self.config.features
        for n in range(self.halvings):
            width = features // 2 if n == 0 and self.halvings > 1 else features
            x = nn.relu(Conv(max(width, 1), (4, 4), (2, 2), dtype=self.dtype)(x))
        return Residuals(self.config, self.dtype)(Conv(features, (3, 3), dtype=self.dtype)(x))


class Up(nn.Module):
    """Residual blocks and transposed convolutions, the last but one with half the channels."""

    config: Any
    halvings: int
    channels: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, h, w, ...] -> float32 [batch, h << halvings, w << halvings, channels]."""
        features = self.config.features
        x = Residuals(self.config, self.dtype)(Conv(features, (3, 3), dtype=self.dtype)(x))
        for n in range(1, self.halvings):
            width = features // 2 if n == self.halvings - 1 else features
            x = nn.relu(ConvTranspose(max(width, 1), dtype=self.dtype)(x))
        return ConvTranspose(self.channels, dtype=self.dtype)(x).astype(jnp.float32)
