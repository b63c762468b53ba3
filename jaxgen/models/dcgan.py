"""DCGAN: Radford, Metz & Chintala 2016, https://arxiv.org/abs/1511.06434.

    min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))]          (Goodfellow et al. 2014, equation 1)

with the generator's non-saturating loss -log D(G(z)) unless another `loss` is chosen.

From the paper's section 3 and 4: z is 100 uniform numbers in (-1, 1), projected to a small map and
upsampled by stride-2 transposed convolutions; BatchNorm everywhere but at G's output and D's input;
ReLU in G with a tanh at its end, leaky ReLU .2 in D; weights N(0, .02), BatchNorm gains N(1, .02);
Adam with learning rate 2e-4 and beta1 .5. Depth follows the image size: the paper's smallest map of 4x4
(up to 7x7, for 28 pixels) is doubled up to the image. Images of 16 pixels need 2x2: with two layers no
unit of D sees the whole image, and samples are patchworks of digits' parts. The paper does not
state its kernel: its code has 5x5; 4x4 here, as is common, since stride 2 divides it evenly. On MNIST
the code also adds 2.5e-5 times each weight to its gradient (`l2`). The width is that of its code for MNIST;
for faces of 64 pixels that code has 128 maps instead of the 64 of `features`.

WGAN-GP (Gulrajani et al. 2017): --loss wasserstein --penalty one_centered --normalization layer
--critic-steps 5, Adam 1e-4, beta1 0, beta2 .9. R1 (Mescheder et al. 2018): --penalty zero_centered
--penalty-at real --normalization none. SN-GAN (Miyato et al. 2018): --loss hinge --spectral-norm
--normalization none.
"""

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
from jaxgen.errors import check_not_negative, check_positive, check_share
from jaxgen.model import Array, Latents, Model, Phase, Prior, Sampler, Spec
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.image import from_signed, pyramid, to_signed
from jaxgen.nn.normalization import NormalizationName, normalized
from jaxgen.nn.stacks import generated


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """A deep convolutional GAN."""

    latent_dim: int = 100  # dimensions of z
    features: int = 64  # channels of the largest hidden map, doubled at every further halving
    smallest: int | None = None  # side that maps are halved to; default: 2 up to 16 pixels, else 4
    kernel: Literal[4, 5] = 4  # side of the kernels
    normalization: NormalizationName = "batch"  # of D's inner layers; G's is BatchNorm
    generator_learning_rate: float = 2e-4  # of Adam
    discriminator_learning_rate: float = 2e-4  # of Adam
    beta1: float = 0.5  # of Adam
    beta2: float = 0.999  # of Adam
    l2: float = 0.0  # factor of each weight that is added to its gradient


weights = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """G: z to images in (-1, 1)."""

    config: Config
    image_shape: tuple[int, int, int]
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array, training: bool) -> Array:
        """Noise z [batch, latent_dim] -> [batch, H, W, C]."""
        (height, width), depth = pyramid(self.image_shape, self.config.smallest, "dcgan")
        config, options = self.config, {"kernel_init": weights, "dtype": self.dtype}
        features = config.features << (depth - 1)
        x = nn.Dense(height * width * features, use_bias=False, **options)(z)
        x = nn.relu(normalized(x.reshape(-1, height, width, features), training))
        layer = partial(ConvTranspose, kernel_size=(config.kernel,) * 2, strides=(2, 2), **options)
        return generated(layer, x, config.features, self.image_shape[-1], depth, training)


class Discriminator(nn.Module):
    """D: images to the logit of being real."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> Array:
        """X [batch, H, W, C] in [-1, 1] -> logits [batch, 1]."""
        kernel = (self.config.kernel,) * 2
        layer = partial(Conv, kernel_size=kernel, strides=(2, 2), kernel_init=weights, dtype=self.dtype)
        for level in range(self.depth):
            norm = "none" if level == 0 else self.config.normalization
            x = layer(self.config.features << level, use_bias=norm == "none")(x)
            x = nn.leaky_relu(normalized(x, training, norm), 0.2)
        return nn.Dense(1, kernel_init=weights, dtype=self.dtype)(x.reshape(x.shape[0], -1)).astype(jnp.float32)


def optimizers(config: Config) -> dict[str, optax.GradientTransformation]:
    """Adam for each player."""
    rates = {"generator": config.generator_learning_rate, "discriminator": config.discriminator_learning_rate}
    return {
        player: optax.chain(
            optax.add_decayed_weights(config.l2) if config.l2 else optax.identity(),
            optax.adam(rate, config.beta1, config.beta2),
        )
        for player, rate in rates.items()
    }


def players(config: Config, spec: Spec) -> Turns:
    """The players' turns for `spec`'s images. Raises UserError for an invalid value or image size."""
    return turns(config, nets(config, spec), optimizers(config))


def nets(config: Config, spec: Spec) -> Nets:
    """The nets for `spec`'s images. Raises UserError as `players` does."""
    check_positive(config, "latent_dim", "features", "smallest")
    check_positive(config, "generator_learning_rate", "discriminator_learning_rate")
    check_share(config, "beta1", "beta2")
    check_not_negative(config, "l2")
    norm = config.normalization
    check_adversarial(config, spec, batch_norm=norm == "batch", layer_norm=norm == "layer")
    _, depth = pyramid(spec.image_shape, config.smallest, "dcgan")
    generator = Generator(config, spec.image_shape, spec.compute_dtype)
    discriminator = Discriminator(config, depth, spec.compute_dtype)

    def init(key):
        k_generator, k_discriminator = jax.random.split(key)
        return {
            "generator": generator.init(k_generator, jnp.zeros((1, config.latent_dim)), training=False),
            "discriminator": discriminator.init(k_discriminator, jnp.zeros((1, *spec.image_shape)), training=False),
        }

    def generate(params, extra, z):
        return passed(generator, params, extra["generator"], z)

    def discriminate(key, params, extra, x, batch):
        logits, averages = passed(discriminator, params, extra["discriminator"], x)
        return Judged(logits), averages

    return Nets(
        init,
        real=lambda batch: to_signed(batch["image"]),
        draw=lambda key, batch: draw_prior(config, key, len(batch["image"])),
        generate=generate,
        discriminate=discriminate,
        sample=lambda variables, z: generator.apply(variables, z, training=False),
    )


def draw_prior(config: Config, key: Array, num: int) -> Array:
    """Noise z [num, latent_dim]."""
    return jax.random.uniform(key, (num, config.latent_dim), minval=-1, maxval=1)


def make(config: Config, spec: Spec) -> Model:
    """The DCGAN for `spec`'s images. Raises UserError for an invalid value or image size."""
    play = players(config, spec)

    def step(key, state, batch):
        state, (k_fakes, k_discriminator, k_generator), batch = play.earlier_critic_turns(key, state, batch)
        fakes = play.generate(k_fakes, state, batch)
        state, of_discriminator = play.discriminator_turn(k_discriminator, state, batch, fakes)
        state, of_generator = play.generator_turn(k_generator, state, batch, fakes)
        return play.finished(state, fakes), {**of_discriminator, **of_generator, **play.compared(batch, fakes)}

    def draw(key, state, num, condition):
        return {"image": from_signed(play.sampled(state, draw_prior(config, key, num)))}

    def decode(state, z, condition):
        return {"image": (play.sampled(state, z) + 1) / 2}

    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=("image",),
        sampler=Sampler(draw, note=sampling_note(config, "G(z)")),
        latents=Latents(decode, Prior(lambda key, state, num: draw_prior(config, key, num), "uniform")),
    )
