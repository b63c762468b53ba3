"""DCGAN: Radford, Metz & Chintala 2016, https://arxiv.org/abs/1511.06434.

    min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))]          (Goodfellow et al. 2014, equation 1)

The review prints its equation 6 with the players exchanged (min over D, max over G); this is
Goodfellow's, with the generator's non-saturating loss -log D(G(z)) unless another `loss` is chosen.

From the paper's section 3 and 4: z is 100 uniform numbers in (-1, 1), projected to a small map and
upsampled by stride-2 transposed convolutions; BatchNorm everywhere but at G's output and D's input;
ReLU in G with a tanh at its end, leaky ReLU .2 in D; weights N(0, .02), BatchNorm gains N(1, .02);
Adam with learning rate 2e-4 and beta1 .5. Depth follows the image size: 4x4, the paper's smallest map
(to 7x7, as 28 pixels have it), doubled to the image. Images of 16 pixels want 2x2: with two layers no
unit of D sees the whole image, and digits come out as patchworks of digits' parts. The paper does not
state its kernel; 4x4 here, as stride 2 divides it evenly.

BatchNorm: real and fake images are separate batches of D. G's turn sees D with its batch's own
statistics and does not move D's running averages, nor its spectral norm's vectors; D's turns do not
move G's. Samples use G's running averages.

Goodfellow's algorithm 1, and WGAN's, update D `critic_steps` times for one update of G, each time on
new real images. A step here is one such round: it divides its batch among D's updates, so the
papers' batch size is `batch_size` / `critic_steps`.

WGAN-GP (Gulrajani et al. 2017): --loss wasserstein --penalty gradient --normalization layer
--critic-steps 5, Adam 1e-4, beta1 0, beta2 .9. SN-GAN (Miyato et al. 2018): --loss hinge
--spectral-norm --normalization none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.adversarial import LOSSES, PENALTIES, LossName, PenaltyName, check_adversarial
from jaxgen.errors import check_positive, check_share
from jaxgen.model import Array, Model, Phase, Prior, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.image import from_signed, pyramid, to_signed
from jaxgen.nn.normalization import NormalizationName, normalised
from jaxgen.nn.optimizer import descend
from jaxgen.nn.spectral import singular_vectors, spectrally_normalised


@dataclass(frozen=True)
class Config:
    """A deep convolutional GAN."""

    latent_dim: int = 100  # dimensions of z
    features: int = 64  # channels of the largest hidden map, doubled at every further halving
    smallest: int = 4  # side of the smallest map: images are halved while they stay at least so large
    generator_learning_rate: float = 2e-4  # of Adam
    discriminator_learning_rate: float = 2e-4  # of Adam
    beta1: float = 0.5  # of Adam
    beta2: float = 0.999  # of Adam
    loss: LossName = "non_saturating"  # of both players
    penalty: PenaltyName = "none"  # on D's gradient: (norm - 1)^2 between real and fake, or half its square on real
    penalty_weight: float = 10.0  # lambda of the gradient penalty, gamma of R1
    critic_steps: int = 1  # updates of D for one of G, each on its own equal part of the batch
    normalization: NormalizationName = "batch"  # of D's inner layers; G's is BatchNorm
    spectral_norm: bool = False  # D's kernels are divided by their largest singular values
    average: float = 0.0  # decay of a running average of G, which samples are then drawn from; 0 for none


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
        features = self.config.features << (depth - 1)
        layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), kernel_init=weights, dtype=self.dtype)
        x = nn.Dense(height * width * features, use_bias=False, kernel_init=weights, dtype=self.dtype)(z)
        x = nn.relu(normalised(x.reshape(-1, height, width, features), training))
        for level in reversed(range(depth - 1)):
            x = nn.relu(normalised(layer(self.config.features << level, use_bias=False)(x), training))
        return nn.tanh(layer(self.image_shape[-1])(x).astype(jnp.float32))


class Discriminator(nn.Module):
    """D: images to the logit of being real."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> Array:
        """X [batch, H, W, C] in [-1, 1] -> logits [batch]."""
        layer = partial(Conv, kernel_size=(4, 4), strides=(2, 2), kernel_init=weights, dtype=self.dtype)
        for level in range(self.depth):
            norm = "none" if level == 0 else self.config.normalization
            x = layer(self.config.features << level, use_bias=norm == "none")(x)
            x = nn.leaky_relu(normalised(x, training, norm), 0.2)
        return nn.Dense(1, kernel_init=weights, dtype=self.dtype)(x.reshape(x.shape[0], -1))[:, 0].astype(jnp.float32)


class Players(NamedTuple):
    """The two players' parts of a step; each turn moves its own player only."""

    init: Callable  # (key, batch) -> State
    prior: Callable  # (key, num) -> z [num, latent_dim]
    generate: Callable  # (key, state, num) -> images, pullback to G's parameters, G's moved averages
    discriminator_turn: Callable  # (key, state, real, fake) -> State, metrics
    generator_loss: Callable  # (state, fake) -> loss, its gradient with respect to the images
    generator_turn: Callable  # (state, fake, pullback) -> State, metrics


def players(config: Config, spec: Spec) -> Players:
    """The players for `spec`'s images. Raises UserError for a value or an image size that will not do."""
    check_positive(config, "latent_dim", "features", "smallest")
    check_positive(config, "generator_learning_rate", "discriminator_learning_rate")
    check_share(config, "beta1", "beta2", "average")
    check_adversarial(config)
    _, depth = pyramid(spec.image_shape, config.smallest, "dcgan")
    generator = Generator(config, spec.image_shape, spec.compute_dtype)
    discriminator = Discriminator(config, depth, spec.compute_dtype)
    losses, penalties = LOSSES[config.loss], PENALTIES[config.penalty]
    optimizers = {
        "generator": optax.adam(config.generator_learning_rate, config.beta1, config.beta2),
        "discriminator": optax.adam(config.discriminator_learning_rate, config.beta1, config.beta2),
    }

    def prior(key, num):
        return jax.random.uniform(key, (num, config.latent_dim), minval=-1, maxval=1)

    def init(key, batch):
        k_generator, k_discriminator, k_vectors = jax.random.split(key, 3)
        z = jnp.zeros((1, config.latent_dim))
        variables = {
            "generator": generator.init(k_generator, z, training=False),
            "discriminator": discriminator.init(k_discriminator, to_signed(batch["image"]), training=False),
        }
        params = {player: v["params"] for player, v in variables.items()}
        opt_state = {player: optimizers[player].init(p) for player, p in params.items()}
        # Without BatchNorm, as at one level of depth, D has no averages.
        extra = {player: v.get("batch_stats", {}) for player, v in variables.items()}
        if config.spectral_norm:
            extra["vectors"] = singular_vectors(k_vectors, params["discriminator"])
        if config.average:
            extra["average"] = variables["generator"]
        return State(jnp.int32(0), params, opt_state, extra)

    def generate(key, state, num):
        z = prior(key, num)

        def images(params):
            variables = {"params": params, "batch_stats": state.extra["generator"]}
            return generator.apply(variables, z, training=True, mutable=["batch_stats"])

        fake, pullback, moved = jax.vjp(images, state.params["generator"], has_aux=True)
        return fake, pullback, moved["batch_stats"]

    def normalised_kernels(params, extra):
        """(D's parameters as its layers use them, `extra` after one step of the spectral norm's iteration)."""
        if not config.spectral_norm:
            return params, extra
        params, vectors = spectrally_normalised(params, extra["vectors"])
        return params, {**extra, "vectors": vectors}

    def discriminate(params, averages, images):
        """(logits [batch], running averages moved by this batch)."""
        logits, moved = discriminator.apply(
            {"params": params, "batch_stats": averages}, images, training=True, mutable=["batch_stats"]
        )
        return logits, moved.get("batch_stats", {})

    def move(player, gradients, state):
        """`state` after one optimizer step of one player."""
        params, opt_state = descend(optimizers[player], gradients, state.opt_state[player], state.params[player])
        return state._replace(params={**state.params, player: params}, opt_state={**state.opt_state, player: opt_state})

    def discriminator_turn(key, state, real, fake):
        def loss(params):
            params, extra = normalised_kernels(params, state.extra)
            real_logits, averages = discriminate(params, extra["discriminator"], real)
            fake_logits, averages = discriminate(params, averages, fake)
            value = losses.discriminator(real_logits, fake_logits).mean()
            penalty = penalties(key, lambda images: discriminate(params, averages, images)[0], real, fake).mean()
            metrics = {
                "discriminator_loss": value,
                "real_score": losses.output(real_logits).mean(),
                "fake_score": losses.output(fake_logits).mean(),
            }
            if config.penalty != "none":
                metrics["penalty"] = penalty
            return value + config.penalty_weight * penalty, (metrics, {**extra, "discriminator": averages})

        gradients, (metrics, extra) = jax.grad(loss, has_aux=True)(state.params["discriminator"])
        return move("discriminator", gradients, state)._replace(extra=extra), metrics

    def generator_loss(state, fake):
        params, _ = normalised_kernels(state.params["discriminator"], state.extra)

        def loss(images):
            return losses.generator(discriminate(params, state.extra["discriminator"], images)[0]).mean()

        return jax.value_and_grad(loss)(fake)

    def generator_turn(state, fake, pullback):
        value, cotangent = generator_loss(state, fake)
        (gradients,) = pullback(cotangent)
        return move("generator", gradients, state), {"generator_loss": value}

    return Players(init, prior, generate, discriminator_turn, generator_loss, generator_turn)


def make(config: Config, spec: Spec) -> Model:
    """The DCGAN for `spec`'s images. Raises UserError for a value or an image size that will not do."""
    play = players(config, spec)
    generator = Generator(config, spec.image_shape, spec.compute_dtype)

    def step(key, state, batch):
        parts = to_signed(batch["image"]).reshape(config.critic_steps, -1, *spec.image_shape)
        keys = jax.random.split(key, (config.critic_steps, 2))

        def earlier(state, turn):
            (k_noise, k_penalty), part = turn
            fake, _, _ = play.generate(k_noise, state, len(part))
            return play.discriminator_turn(k_penalty, state, part, fake)[0], None

        if config.critic_steps > 1:
            state, _ = jax.lax.scan(earlier, state, (keys[:-1], parts[:-1]))
        # One forward pass of G serves D's last turn and G's: D learns on these images, then G is pulled
        # back through them, past D as just updated.
        (k_noise, k_penalty), part = keys[-1], parts[-1]
        fake, pullback, averages = play.generate(k_noise, state, len(part))
        state, metrics = play.discriminator_turn(k_penalty, state, part, fake)
        state, generator_metrics = play.generator_turn(state, fake, pullback)
        state = state._replace(extra={**state.extra, "generator": averages})
        if config.average:
            average = optax.incremental_update(newest(state), state.extra["average"], 1 - config.average)
            state = state._replace(extra={**state.extra, "average": average})
        return state, metrics | generator_metrics

    def newest(state):
        return {"params": state.params["generator"], "batch_stats": state.extra["generator"]}

    def images(state, z):
        variables = state.extra["average"] if config.average else newest(state)
        return generator.apply(variables, z, training=False)

    def sample(key, state, num, condition=None):
        return {"image": from_signed(images(state, play.prior(key, num)))}

    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=("image",),
        sample=sample,
        batch_parts=config.critic_steps,
        sampling=("the averaged " if config.average else "") + "G(z) with BatchNorm's running averages",
        decode=lambda state, z: (images(state, z) + 1) / 2,
        prior=Prior(lambda key, state, num: play.prior(key, num), "uniform"),
        precisions=("float32", "bfloat16"),
    )
