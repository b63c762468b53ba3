"""Conditional GAN: Mirza & Osindero 2014, https://arxiv.org/abs/1411.1784; section 2.3.2 of the review.

    min_G max_D  E_x[log D(x|y)] + E_z[log(1 - D(G(z|y)|y))]                                        (equation 2)

with the generator's non-saturating loss -log D(G(z|y)|y) unless another `loss` is chosen. The labels y come from the
training data; D is given the same one with the real image and with the generated one.

Two pairs of nets:

    maxout          the paper's for MNIST (section 4.1). z of 100 uniform numbers and y through layers of 200 and 1000
                    ReLU, both together through 1200, to a sigmoid; in D images and y through maxout layers of 240 and
                    50 units of 5 pieces, both together through 240 of 4. Dropout of a half in both players; SGD with
                    rate .1, divided by 1.00004 every step down to 1e-6, and momentum from .5 to .7; batches of 100.
                    The paper does not state the following, which are as in `gan`: initial weights, a last bias that
                    starts at the data's marginals, D's rate of half of G's, the 125,000 steps of the momentum, both
                    players at once. Unlike in the paper, z has variance 1, not the range of a unit hypercube, and
                    only hidden layers have dropout.
    conv            DCGAN with labels, after the code of Radford, Metz & Chintala 2016 (https://arxiv.org/abs/1511.06434)
                    for the 1-NN errors of their section 5: every layer of both players is given the one-hot label
                    beside its input, as constant maps of 1 or 0; BatchNorm has no scale or shift, and layers no
                    bias, since the label's kernels act as one per class. Unlike theirs: no dense layers of 1024 units,
                    no l2, kernels of 4x4, images in (-1, 1) by tanh. Everything else is as in `dcgan`. The spectral
                    norm applies to an image's kernels and its label's separately.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.adversarial.turns import (
    AdversarialConfig,
    Judged,
    Nets,
    Turns,
    check_adversarial,
    passed,
    sampling_note,
    turns,
)
from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_positive, check_share
from jaxgen.model import Array, Latents, Model, Phase, Prior, Sampler, Spec
from jaxgen.models.dcgan import draw_prior, weights
from jaxgen.models.gan import LEAST_MEAN, annealed_sgd, authors_weights
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.dense import maxout
from jaxgen.nn.image import from_unit, logits_of_mean, pyramid, to_signed, to_unit
from jaxgen.nn.normalization import NormalizationName, normalized

DECAY, LEAST = 1 / 1.00004, 1e-6
"""Factor of maxout's learning rate per step, and its minimum."""

PIECES = (5, 5, 4)
"""Linear pieces of maxout's units in D: for images, for the label, and for both."""


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """A conditional GAN of images."""

    network: Literal["conv", "maxout"] = "conv"  # of both players: as DCGAN's, or the paper's
    latent_dim: int = 100  # dimensions of z
    learning_rate: float | None = None  # 2e-4 for conv's Adam, .1 for maxout's SGD (D's half) if not given
    features: int = 64  # of conv: channels of the largest hidden map, doubled at every further halving
    smallest: int | None = None  # of conv: side that maps are halved to; default: 2 up to 16 pixels, else 4
    kernel: Literal[4, 5] = 4  # of conv: side of the kernels
    normalization: NormalizationName = "batch"  # of conv: of D's inner layers; G's is BatchNorm
    beta1: float = 0.5  # of conv: Adam's
    beta2: float = 0.999  # of conv: Adam's
    generator_units: tuple[int, int, int] = (200, 1000, 1200)  # of maxout: G's for z, for the label, for both
    discriminator_units: tuple[int, int, int] = (240, 50, 240)  # of maxout: D's for images, for the label, for both
    dropout: float = 0.5  # of maxout: share of both players' hidden units that is dropped


USES = {
    "conv": ("features", "smallest", "kernel", "normalization", "beta1", "beta2"),
    "maxout": ("generator_units", "discriminator_units", "dropout"),
}
"""Map from network to the fields that only it uses."""


# Convolutional.


def labeled(layer: Callable, features: int, x: Array, y: Array, name: str) -> Array:
    """Applies a layer to maps [batch, H, W, C] with one-hot y [batch, classes] appended at every pixel: `nn.compact`.

    An appended map of ones adds the same to all images of a class: the layer's output for a map of ones.
    """
    ones, classes = jnp.ones((1, *x.shape[1:3], 1), x.dtype), y.shape[1]
    of_class = layer(classes * features, name=name)(ones)[0]
    of_class = of_class.reshape(*of_class.shape[:2], classes, features)
    return layer(features)(x) + jnp.einsum("bk,hwkf->bhwf", y.astype(of_class.dtype), of_class)


class ConvolutionalGenerator(nn.Module):
    """G: z and y to images in (-1, 1)."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, z: Array, y: Array, training: bool) -> Array:
        """Noise z [batch, latent_dim], one-hot y [batch, classes] -> [batch, H, W, C]."""
        config, spec, norm = self.config, self.spec, partial(normalized, training=training, affine=False)
        (height, width), depth = pyramid(spec.image_shape, config.smallest, "cgan")
        unbiased = {"use_bias": False, "kernel_init": weights, "dtype": spec.compute_dtype}
        layer = partial(ConvTranspose, kernel_size=(config.kernel,) * 2, strides=(2, 2), **unbiased)
        features = config.features << (depth - 1)
        x = nn.Dense(height * width * features, **unbiased)(jnp.concatenate([z, y], axis=1))
        x = nn.relu(norm(x.reshape(-1, height, width, features)))
        for level in reversed(range(depth - 1)):
            x = nn.relu(norm(labeled(layer, config.features << level, x, y, f"label_{level + 1}")))
        return nn.tanh(labeled(layer, spec.image_shape[-1], x, y, "label_0").astype(jnp.float32))


class ConvolutionalDiscriminator(nn.Module):
    """D: images and y to the logit of being real."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, x: Array, y: Array, training: bool) -> Array:
        """X [batch, H, W, C] in [-1, 1], one-hot y [batch, classes] -> logits [batch, 1]."""
        config, spec = self.config, self.spec
        _, depth = pyramid(spec.image_shape, config.smallest, "cgan")
        unbiased = {"use_bias": False, "kernel_init": weights, "dtype": spec.compute_dtype}
        layer = partial(Conv, kernel_size=(config.kernel,) * 2, strides=(2, 2), **unbiased)
        for level in range(depth):
            x = labeled(layer, config.features << level, x, y, f"label_{level}")
            norm = "none" if level == 0 else config.normalization
            x = nn.leaky_relu(normalized(x, training, norm, affine=False), 0.2)
        x = jnp.concatenate([x.reshape(len(x), -1), y.astype(x.dtype)], axis=1)
        return nn.Dense(1, **unbiased)(x).astype(jnp.float32)


# Maxout.


class MaxoutGenerator(nn.Module):
    """G: z and y to images in (0, 1)."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, z: Array, y: Array, training: bool) -> Array:
        """Noise z [batch, latent_dim], one-hot y [batch, classes] -> [batch, H, W, C]; dropout by the key "dropout"."""
        config, shape, dtype = self.config, self.spec.image_shape, self.spec.compute_dtype
        weights = authors_weights("generator", config.generator_units[-1])

        def hidden(x, units):
            x = nn.relu(nn.Dense(units, dtype=dtype, kernel_init=weights)(x))
            return nn.Dropout(config.dropout, deterministic=not training)(x)

        z = z * np.sqrt(3, dtype=np.float32)  # scaled to variance 1
        of_z, of_label, of_both = config.generator_units
        x = hidden(jnp.concatenate([hidden(z, of_z), hidden(y, of_label)], axis=1), of_both)
        x = nn.Dense(int(np.prod(shape)), use_bias=False, dtype=dtype, kernel_init=weights)(x)
        x = x.astype(jnp.float32).reshape(-1, *shape)
        return nn.sigmoid(x + self.param("marginals", lambda key: logits_of_mean(self.spec.mean, LEAST_MEAN)))


class MaxoutDiscriminator(nn.Module):
    """D: images and y to the logit of being real."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, x: Array, y: Array, training: bool) -> Array:
        """X [batch, H, W, C] in [0, 1], one-hot y [batch, classes] -> logits [batch, 1]; dropout by "dropout"."""
        config, dtype = self.config, self.spec.compute_dtype
        weights = authors_weights("discriminator", config.discriminator_units[-1])

        def hidden(x, units, pieces):
            return nn.Dropout(config.dropout, deterministic=not training)(maxout(x, units, pieces, dtype, weights))

        of_image, of_label, of_both = zip(config.discriminator_units, PIECES, strict=True)
        x = jnp.concatenate([hidden(x.reshape(len(x), -1), *of_image), hidden(y, *of_label)], axis=1)
        x = hidden(x, *of_both)
        return nn.Dense(1, dtype=dtype, kernel_init=weights)(x).astype(jnp.float32)


NETWORKS = {
    "conv": (ConvolutionalGenerator, ConvolutionalDiscriminator),
    "maxout": (MaxoutGenerator, MaxoutDiscriminator),
}


def check(config: Config, spec: Spec) -> None:
    """Raises UserError for invalid values, and for data that are not images with classes."""
    if not {"image", "label"} <= set(spec.entries) or spec.num_classes is None:
        raise UserError(f"cgan makes images of classes, from labels: the data have {', '.join(spec.entries)}")
    check_positive(config, "latent_dim", "features", "smallest")
    check_idle(config, "network", USES)
    if config.learning_rate is not None:
        check_positive(config, "learning_rate")
    check_share(config, "beta1", "beta2", "dropout")
    for name in ("generator_units", "discriminator_units"):
        units = getattr(config, name)
        if len(units) != 3 or min(units) < 1:
            raise UserError(f"{name} must be three numbers above 0, not {units}")
    norm = config.normalization if config.network == "conv" else "none"
    check_adversarial(config, spec, batch_norm=norm == "batch", layer_norm=norm == "layer")
    if config.network == "conv":
        pyramid(spec.image_shape, config.smallest, "cgan")


def optimizers(config: Config) -> dict[str, optax.GradientTransformation]:
    """Map from player to its optimizer."""
    if config.network == "maxout":
        return annealed_sgd(config.learning_rate or 0.1, DECAY, LEAST)
    adam = optax.adam(config.learning_rate or 2e-4, config.beta1, config.beta2)
    return {"generator": adam, "discriminator": adam}


def players(config: Config, spec: Spec) -> Turns:
    """The players' turns for `spec`'s images and labels. Raises UserError as `check` does."""
    check(config, spec)
    generator, discriminator = (net(config, spec) for net in NETWORKS[config.network])

    def one_hot(batch):
        return jax.nn.one_hot(batch["label"], spec.num_classes)

    def init(key):
        k_generator, k_discriminator = jax.random.split(key)
        z, x = jnp.zeros((1, config.latent_dim)), jnp.zeros((1, *spec.image_shape))
        y = jnp.zeros((1, spec.num_classes))
        return {
            "generator": generator.init(k_generator, z, y, training=False),
            "discriminator": discriminator.init(k_discriminator, x, y, training=False),
        }

    def real(batch):
        return to_unit(batch["image"]) if config.network == "maxout" else to_signed(batch["image"])

    def draw(key, batch):
        k_noise, k_dropout = jax.random.split(key)
        return draw_prior(config, k_noise, len(batch["image"])), one_hot(batch), k_dropout

    def generate(params, extra, drawn):
        z, y, k_dropout = drawn
        return passed(generator, params, extra["generator"], z, y, key=k_dropout)

    def discriminate(key, params, extra, x, batch):
        logits, averages = passed(discriminator, params, extra["discriminator"], x, one_hot(batch), key=key)
        return Judged(logits), averages

    def sample(variables, drawn):
        return generator.apply(variables, *drawn, training=False)

    nets = Nets(init, real, draw, generate, discriminate, sample, signed=config.network == "conv")
    return turns(config, nets, optimizers(config))


def make(config: Config, spec: Spec) -> Model:
    """The conditional GAN for `spec`'s images and labels. Raises UserError as `check` does."""
    play, at_once = players(config, spec), config.network == "maxout"

    def step(key, state, batch):
        state, (k_fakes, k_discriminator, k_generator), batch = play.earlier_critic_turns(key, state, batch)
        fakes, before = play.generate(k_fakes, state, batch), state
        state, of_discriminator = play.discriminator_turn(k_discriminator, state, batch, fakes)
        past = before if at_once else state  # the D that G's turn sees
        state, of_generator = play.generator_turn(k_generator, state, batch, fakes, past)
        return play.finished(state, fakes), {**of_discriminator, **of_generator, **play.compared(batch, fakes)}

    def prior(key, state, num):
        return draw_prior(config, key, num)

    def decode(state, z, condition):
        x = play.sampled(state, (z, jax.nn.one_hot(condition["label"], spec.num_classes)))
        return {"image": x if config.network == "maxout" else (x + 1) / 2}

    def draw(key, state, num, condition):
        return {"image": from_unit(decode(state, prior(key, state, num), condition)["image"])}

    note = sampling_note(config, "G(z|y)", batch_norm=config.network == "conv")
    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=("image", "label"),
        sampler=Sampler(draw, conditions=("label",), note=note),
        latents=Latents(decode, Prior(prior, "uniform")),
    )
