"""Heads of autoregressive models: distributions of pixels given a network's outputs.

The models factorize p(x) = prod_i p(x_i | x_1, ..., x_{i-1}) in raster order over integer levels, 0 to `levels` - 1. A
head defines the number of conditionals per pixel, the number of outputs for each, and their meaning:

    bernoulli    bits, one logit a channel; or patches of bits, each a level: a softmax over all of them
    categorical  softmax over `levels` equal bins of the 256 gray levels, one channel after the other; the gray levels
                 of a bin are equally likely, so that log p is of the 256 levels for any number of bins
    logistic     mixture of logistic distributions, discretized to the 256 levels, for all channels of a pixel jointly
                 (Salimans et al. 2017, https://arxiv.org/abs/1701.05517, section 2.1)
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import LEAST, MOST, UserError
from jaxgen.likelihoods import bernoulli_log_prob, discretized_logistic_log_mass
from jaxgen.model import BINARY_THRESHOLD, Array, Key, Space

HeadName: TypeAlias = Literal["bernoulli", "categorical", "logistic"]

LEAST_LOG_SCALE = -7.0
"""Lower bound of a logistic component's log-scale, for pixels in [-1, 1]; from the paper's code."""

MOST_BITS = 12
"""Most bits of a patch, which is then one of 4,096."""


class Head(NamedTuple):
    """Distributions of a pixel's channels as integer levels."""

    levels: int
    groups: int  # conditionals per pixel: one per channel, each given the channels before it, or one for all channels
    outputs: int  # number of a network's outputs per conditional
    log_prob: Callable[[Array, Array], Array]
    """(level int32 [batch, H, W, C], outputs [batch, H, W, groups, outputs]) -> log p, nats [batch]."""
    draw: Callable[[Key, Array], Array]
    """(key, outputs [..., outputs]) -> levels int32 [..., C / groups]."""
    space: Space
    note: str  # what p(x) is of
    sampling: str  # note of `jaxgen.model.Sampler`
    patch: int = 1  # side of patches of bits, the pixels of level maps [num, H / patch, W / patch, 1]

    def level(self, image: Array) -> Array:
        """Converts uint8 images to levels, int32."""
        if self.patch > 1:
            bits = _patches(image.astype(jnp.int32) // BINARY_THRESHOLD, self.patch)
            return (bits << jnp.arange(bits.shape[-1])).sum(-1, keepdims=True)
        return image.astype(jnp.int32) // (256 // self.levels)

    def image(self, key: Key, level: Array) -> Array:
        """Converts levels to uint8 images: bits to 0 and 255, a bin to one of its gray levels, drawn uniformly."""
        if self.patch > 1:
            bits = level >> jnp.arange(self.levels.bit_length() - 1) & 1
            return (255 * _unpatched(bits, self.patch)).astype(jnp.uint8)
        if self.levels == 2 and self.space == "binary":
            return (255 * level).astype(jnp.uint8)
        width = 256 // self.levels
        within = jax.random.randint(key, level.shape, 0, width) if width > 1 else 0
        return (width * level + within).astype(jnp.uint8)

    def scaled(self, level: Array) -> Array:
        """Scales levels to a network's input, float32 in [-1, 1]."""
        return level.astype(jnp.float32) * (2 / (self.levels - 1)) - 1


def make_head(
    name: HeadName,
    channels: int,
    levels: int = 256,
    mixtures: int = 10,
    temperature: float = 1.0,
    top: int = 0,
    patch: int = 1,
) -> Head:
    """Returns the head of that name for images with `channels` channels.

    `levels` applies to categorical, `mixtures` to logistic, `patch` to bernoulli. `temperature` and `top` change draws
    but not log p: the temperature divides logits and multiplies the scales of logistic distributions; `top`, if not 0,
    restricts draws of a softmax to that many likeliest levels. At 1 and 0 draws are from the model. Raises UserError
    for invalid values.
    """
    if not LEAST <= temperature <= MOST:
        raise UserError(f"temperature must be above 0 and finite, not {temperature}")
    if top and (name == "logistic" or (name == "bernoulli" and patch == 1)):
        raise UserError(f"top applies to a softmax over levels, which {name} is not")
    if name == "bernoulli":
        head = _bernoulli(channels, temperature) if patch == 1 else _bits(channels, patch, temperature, top)
    elif name == "categorical":
        head = _categorical(channels, levels, temperature, top)
    else:
        head = _logistic(channels, mixtures, temperature)
    cut = f" of the {top} likeliest levels" if top else ""
    return head._replace(sampling="draws" + cut + (f" at temperature {temperature:g}" if temperature != 1 else ""))


def _patches(x: Array, side: int) -> Array:
    """Images [num, H, W, C] as patches: [num, H / side, W / side, side * side * C]."""
    num, height, width, channels = x.shape
    x = x.reshape(num, height // side, side, width // side, side, channels)
    return x.swapaxes(2, 3).reshape(num, height // side, width // side, -1)


def _unpatched(x: Array, side: int) -> Array:
    """Patches as images: the inverse of `_patches`."""
    num, rows, columns, _ = x.shape
    return x.reshape(num, rows, columns, side, side, -1).swapaxes(2, 3).reshape(num, rows * side, columns * side, -1)


def _bernoulli(channels: int, temperature: float) -> Head:
    def log_prob(level, outputs):
        return bernoulli_log_prob(level.astype(jnp.float32), outputs[..., 0])

    def draw(key, outputs):
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs / temperature)).astype(jnp.int32)

    return Head(2, channels, 1, log_prob, draw, "binary", "bits", "")


def _bits(channels: int, patch: int, temperature: float, top: int) -> Head:
    most = int(np.sqrt(MOST_BITS / channels))
    if not 1 <= patch <= most:
        raise UserError(f"patch must lie between 1 and {most}, of at most {MOST_BITS} bits, not {patch}")
    levels = 2 ** (patch**2 * channels)
    log_prob, draw = _softmax(levels, 1, temperature, top)
    return Head(levels, 1, levels, log_prob, draw, "binary", "bits", "", patch)


def _categorical(channels: int, levels: int, temperature: float, top: int) -> Head:
    if levels not in (2, 4, 8, 16, 32, 64, 128, 256):
        raise UserError(f"levels must be a power of two from 2 to 256, the gray levels of an image, not {levels}")
    log_prob, draw = _softmax(levels, 256 // levels, temperature, top)
    note = "the 256 levels" + (f", in {levels} bins of equally likely ones" if levels < 256 else "")
    return Head(levels, channels, levels, log_prob, draw, "uint8", note, "")


def _softmax(levels: int, width: int, temperature: float, top: int) -> tuple[Callable, Callable]:
    """`log_prob` and `draw` of a head whose outputs are logits of the levels, each of `width` equally likely ones."""
    if not 0 <= top <= levels:
        raise UserError(f"top must lie between 0 (all levels) and {levels}, the levels, not {top}")
    log_width = float(np.log(width))

    def log_prob(level, outputs):
        chex.assert_equal_shape([level, outputs[..., 0]])
        chosen = jnp.take_along_axis(outputs, level[..., None], axis=-1)[..., 0]
        each = chosen - jax.nn.logsumexp(outputs, axis=-1) - log_width
        return each.reshape(len(level), -1).sum(-1)

    def draw(key, outputs):
        if top:
            least = jax.lax.top_k(outputs, top)[0][..., -1:]
            outputs = jnp.where(outputs >= least, outputs, -jnp.inf)
        return jax.random.categorical(key, outputs / temperature).astype(jnp.int32)[..., None]

    return log_prob, draw


def _logistic(channels: int, mixtures: int, temperature: float) -> Head:
    """Equations 2 and 3 of Salimans et al. 2017: a channel's mean is linear in the channels before it."""
    if not 1 <= mixtures <= 1000:
        raise UserError(f"mixtures must lie between 1 and 1000, not {mixtures}")
    pairs = [(c, before) for c in range(channels) for before in range(c)]
    # A readout of zeros would make the components equal, with equal gradients for ever: their means begin apart.
    apart = np.linspace(-1, 1, mixtures, dtype=np.float32) if mixtures > 1 else np.zeros(1, np.float32)

    def components(outputs):
        """Logits [..., mixtures]; means, log-scales [..., C, mixtures]; coefficients [..., C (C-1) / 2, mixtures]."""
        outputs = outputs.reshape(*outputs.shape[:-1], -1, mixtures)
        logits, rest = outputs[..., 0, :], outputs[..., 1:, :]
        mean, log_scale, coefficient = jnp.split(rest, [channels, 2 * channels], axis=-2)
        return logits, mean + apart, jnp.maximum(log_scale, LEAST_LOG_SCALE), jnp.tanh(coefficient)

    def shifted(mean, coefficient, c, x):
        """Means [..., mixtures] of channel c, given at least the channels before it, x [..., c or more] in [-1, 1]."""
        terms = [coefficient[..., n, :] * x[..., before, None] for n, (at, before) in enumerate(pairs) if at == c]
        return sum(terms, mean[..., c, :])

    def log_prob(level, outputs):
        logits, mean, log_scale, coefficient = components(outputs[..., 0, :])
        x = level.astype(jnp.float32) / 255
        chex.assert_equal_shape([x, mean[..., 0]])
        log_mass = jax.nn.log_softmax(logits)
        for c in range(channels):  # all channels come from one component: their sum precedes that over components
            center = (shifted(mean, coefficient, c, 2 * x - 1) + 1) / 2  # from [-1, 1] to [0, 1]
            log_mass += discretized_logistic_log_mass(x[..., c, None], center, log_scale[..., c, :] - float(np.log(2)))
        return jax.nn.logsumexp(log_mass, axis=-1).reshape(len(level), -1).sum(-1)

    def draw(key, outputs):
        logits, mean, log_scale, coefficient = components(outputs)
        k_component, *keys = jax.random.split(key, 1 + channels)
        component = jax.random.categorical(k_component, logits / temperature)[..., None]
        drawn = jnp.zeros((*component.shape[:-1], 0))
        for c in range(channels):
            center, scale = shifted(mean, coefficient, c, drawn), temperature * jnp.exp(log_scale[..., c, :])
            center, scale = (jnp.take_along_axis(a, component, axis=-1) for a in (center, scale))
            x = center + scale * jax.random.logistic(keys[c], center.shape)
            # Rounded before the next channel's mean depends on it, because log p is of rounded levels.
            x = jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5) / 127.5 - 1
            drawn = jnp.concatenate([drawn, x], axis=-1)
        return jnp.round((drawn + 1) * 127.5).astype(jnp.int32)

    outputs = mixtures * (1 + 2 * channels + len(pairs))
    return Head(256, 1, outputs, log_prob, draw, "uint8", "the 256 levels", "")
