"""InfoGAN: Chen et al. 2016, https://arxiv.org/abs/1606.03657.

    min_{G, Q} max_D  V(D, G) - lambda L_I(G, Q)                                                     (equation 6)
    L_I = E_{c ~ p(c), x ~ G(z, c)}[log Q(c|x)] + H(c)  <=  I(c; G(z, c))                            (equation 5)

z is noise, and c the codes that the images should reveal: a one-hot categorical code and continuous ones, uniform in
(-1, 1). Q(c|x) is a softmax over the categories and, for each continuous code, a Gaussian of deviation 1, as in the
authors' code; with it L_I of perfectly known codes is log categories - .23 for each continuous one. Q shares all of
D's layers but the last two. As the authors do, lambda L_I is subtracted from both players' losses: D's turn trains Q
and the layers it shares with D, G's turn trains G. The metric `information` is lambda L_I.

From the paper's appendix C.1, for MNIST: 62 numbers of noise, 10 categories, 2 continuous codes; lambda 1 for all of
them; G of dense layers of 1024 and 7x7x128, then 64 maps and the image by 4x4 transposed convolutions of stride 2,
BatchNorm and ReLU in between; D of 64 and 128 maps by 4x4 convolutions of stride 2 and a dense layer of 1024, leaky
ReLU .1, and BatchNorm except in its first layer; Q one more such layer of 128; Adam with learning rate 2e-4 for D and
Q, 1e-3 for G, and beta1 .5. From the authors' code: batches of 128, noise uniform in (-1, 1), initial weights
N(0, .02), BatchNorm's gains N(1, .02), and BatchNorm per unit in G's dense layers. Unlike theirs, depth follows the
image size, as in `dcgan`, and a tanh replaces the sigmoid of pixels in [0, 1].

BatchNorm: real, then fake examples update D's and Q's running averages, with which Q infers codes of images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

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
from jaxgen.config import given
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.likelihoods import gaussian_log_prob
from jaxgen.model import Array, Batch, Latents, Model, Part, Phase, Prior, Sampler, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.image import from_signed, pyramid, to_signed
from jaxgen.nn.normalization import normalized
from jaxgen.nn.stacks import generated


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """An InfoGAN."""

    noise_dim: int = 62  # dimensions of noise in z
    categories: int = 10  # of the categorical code
    continuous: int = 2  # number of codes in (-1, 1)
    information_weight: float = 1.0  # lambda
    features: int = 64  # channels of the largest hidden map, doubled at every further halving
    smallest: int | None = None  # side that maps are halved to; default: 2 up to 16 pixels, else 4
    dense_units: int = 1024  # of G's first layer, and of the last that D and Q share
    code_units: int = 128  # of Q's own layer
    generator_learning_rate: float = 1e-3  # of Adam
    discriminator_learning_rate: float = 2e-4  # of Adam, for Q too
    beta1: float = 0.5  # of Adam


weights = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """G: noise and codes to images in (-1, 1)."""

    config: Config
    image_shape: tuple[int, int, int]
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array, training: bool) -> Array:
        """Noise and codes z [batch, noise_dim + categories + continuous] -> [batch, H, W, C]."""
        (height, width), depth = pyramid(self.image_shape, self.config.smallest, "infogan")
        features = self.config.features << (depth - 1)
        dense = partial(nn.Dense, use_bias=False, kernel_init=weights, dtype=self.dtype)
        x = nn.relu(normalized(dense(self.config.dense_units)(z), training))
        x = nn.relu(normalized(dense(height * width * features)(x), training)).reshape(-1, height, width, features)
        layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), kernel_init=weights, dtype=self.dtype)
        return generated(layer, x, self.config.features, self.image_shape[-1], depth, training)


class Discriminator(nn.Module):
    """D and Q: images to the logit of being real, and to the parameters of Q(c|x)."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> Judged:
        """X [batch, H, W, C] in [-1, 1] -> logits [batch, 1]; codes: logits of the categories, means."""
        layer = partial(Conv, kernel_size=(4, 4), strides=(2, 2), kernel_init=weights, dtype=self.dtype)
        dense = partial(nn.Dense, kernel_init=weights, dtype=self.dtype)

        def activated(x, norm="batch"):
            return nn.leaky_relu(normalized(x, training, norm), 0.1)

        for level in range(self.depth):
            x = layer(self.config.features << level, use_bias=level == 0)(x)
            x = activated(x, "batch" if level else "none")
        x = activated(dense(self.config.dense_units, use_bias=False)(x.reshape(x.shape[0], -1)))
        hidden = activated(dense(self.config.code_units, use_bias=False)(x))
        categories = dense(self.config.categories)(hidden).astype(jnp.float32)
        # Without codes there is no layer, since an empty parameter cannot be saved.
        means = dense(self.config.continuous)(hidden) if self.config.continuous else hidden[:, :0]
        return Judged(dense(1)(x).astype(jnp.float32), (categories, means.astype(jnp.float32)))


def draw_prior(config: Config, key: Array, num: int) -> Array:
    """Draws noise, a one-hot category, continuous codes: z [num, noise_dim + categories + continuous]."""
    k_noise, k_category, k_continuous = jax.random.split(key, 3)
    noise = jax.random.uniform(k_noise, (num, config.noise_dim), minval=-1, maxval=1)
    category = jax.random.randint(k_category, (num,), 0, config.categories)
    continuous = jax.random.uniform(k_continuous, (num, config.continuous), minval=-1, maxval=1)
    return jnp.concatenate([noise, jax.nn.one_hot(category, config.categories), continuous], axis=1)


def information(config: Config, judged: Judged, z: Array) -> Array:
    """Lambda (log Q(c|x) + H(c)) for images made from z, nats [batch]; its mean is lambda times equation 5."""
    logits, means = judged.codes
    _, category, continuous = jnp.split(z, [config.noise_dim, config.noise_dim + config.categories], axis=1)
    of_category = (jax.nn.log_softmax(logits) * category).sum(1) + math.log(config.categories)
    of_continuous = gaussian_log_prob(continuous, means, 0.0) + config.continuous * math.log(2)
    return config.information_weight * (of_category + of_continuous)


class Players(NamedTuple):
    """The players' turns, and Q's inference."""

    turns: Turns
    infer: Callable[[State, Batch], Array]  # -> logits [batch, categories] of Q(c|x)'s categorical code


def players(config: Config, spec: Spec) -> Players:
    """The players for `spec`'s images. Raises UserError for an invalid value or image size."""
    check_positive(config, "noise_dim", "categories", "features", "smallest", "dense_units", "code_units")
    check_positive(config, "generator_learning_rate", "discriminator_learning_rate")
    check_not_negative(config, "continuous", "information_weight")
    check_share(config, "beta1")
    if config.categories < 2:
        raise UserError(f"categories must be at least 2, so that there is something to tell, not {config.categories}")
    penalized = any(name.startswith("penalty") for name in given(config))
    if penalized or config.spectral_norm or config.loss == "wasserstein":
        raise UserError("infogan's D has BatchNorm, so it takes no penalty, spectral_norm or loss wasserstein")
    check_adversarial(config, spec, batch_norm=True)
    _, depth = pyramid(spec.image_shape, config.smallest, "infogan")
    generator = Generator(config, spec.image_shape, spec.compute_dtype)
    discriminator = Discriminator(config, depth, spec.compute_dtype)

    def init(key):
        k_generator, k_discriminator = jax.random.split(key)
        z = jnp.zeros((1, config.noise_dim + config.categories + config.continuous))
        return {
            "generator": generator.init(k_generator, z, training=False),
            "discriminator": discriminator.init(k_discriminator, jnp.zeros((1, *spec.image_shape)), training=False),
        }

    nets = Nets(
        init,
        real=lambda batch: to_signed(batch["image"]),
        draw=lambda key, batch: draw_prior(config, key, len(batch["image"])),
        generate=lambda params, extra, z: passed(generator, params, extra["generator"], z),
        discriminate=lambda key, params, extra, x, batch: passed(discriminator, params, extra["discriminator"], x),
        sample=lambda variables, z: generator.apply(variables, z, training=False),
        information=partial(information, config),
    )
    rates = {"generator": config.generator_learning_rate, "discriminator": config.discriminator_learning_rate}

    def infer(state, batch):
        variables = {"params": state.params["discriminator"], "batch_stats": state.extra["discriminator"]}
        return discriminator.apply(variables, to_signed(batch["image"]), training=False).codes[0]

    optimizers = {player: optax.adam(rate, config.beta1) for player, rate in rates.items()}
    return Players(turns(config, nets, optimizers), infer)


def make(config: Config, spec: Spec) -> Model:
    """The InfoGAN for `spec`'s images. Raises UserError for an invalid value or image size."""
    play, infer = players(config, spec)

    def step(key, state, batch):
        # Both turns also maximize lambda L_I: D's trains Q and the layers that it shares with D, G's trains G.
        state, (k_fakes, k_discriminator, k_generator), batch = play.earlier_critic_turns(key, state, batch)
        fakes = play.generate(k_fakes, state, batch)
        state, of_discriminator = play.discriminator_turn(k_discriminator, state, batch, fakes)
        state, of_generator = play.generator_turn(k_generator, state, batch, fakes)
        return play.finished(state, fakes), {**of_discriminator, **of_generator, **play.compared(batch, fakes)}

    def prior(key, state, num):
        return draw_prior(config, key, num)

    def decode(state, z, condition):
        return {"image": (play.sampled(state, z) + 1) / 2}

    def draw(key, state, num, condition):
        return {"image": from_signed(play.sampled(state, prior(key, state, num)))}

    parts = [Part("noise", config.noise_dim, "uniform"), Part("category", config.categories, "categorical")]
    if config.continuous:
        parts.append(Part("continuous", config.continuous, "uniform"))
    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=("image",),
        sampler=Sampler(draw, note=sampling_note(config, "G(z, c)")),
        latents=Latents(decode, Prior(prior, "mixed", parts=tuple(parts))),
        predict={"code": infer},
    )
