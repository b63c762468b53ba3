"""MGGAN: Bang & Shim 2018, https://arxiv.org/abs/1804.04391, "Solving Mode Collapse using Manifold Guided Training".

A GAN (the base) with a second discriminator, on the codes of an encoder:

    L_E   = E |x - Dec(E(x~))|_1,  x~ a noisy x                                the autoencoder's, in the first phase
    L_D   = E[-log D(x) - log(1 - D(G(z)))]                                    the base's, of examples
    L_D_m = E[-log D_m(E(x)) - log(1 - D_m(E(G(z))))]                          of the manifold of codes
    L_G   = E[-log D(G(z))] + 1/2 E[-log D_m(E(G(z)))]                         which G minimizes

or another `loss` for both. E belongs to a denoising autoencoder that is trained on all data before G and then frozen,
with BatchNorm in evaluation mode. D_m thus knows where the data's modes lie, and its gradient through E guides G
to them. D and D_m are one discriminator with two heads, each with its own loss.

The base is DCGAN on images and the dense GAN on points, with exactly their nets, optimizers and fields; a field of
the other base is refused. From the paper: salt and pepper on a quarter of the pixels, L1, D_m of two layers of
1024, weight 1/2 of D_m in L_G. Chosen here: the length of a code, the autoencoder's steps, learning rate and nets
(on images E has D's maps with BatchNorm, and the decoder mirrors them), and everything on points, where noise is
Gaussian. Points in the plane need their base's settings (see gan) and

    --manifold-units 128 --code-dim 2
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.adversarial.turns import AdversarialConfig, Turns, passed, turns
from jaxgen.config import given
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.model import Array, Batch, Key, Model, Phase, Spec, State
from jaxgen.models import dcgan, gan
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.dense import perceptron
from jaxgen.nn.image import pyramid
from jaxgen.nn.normalization import NormalizationName, normalized
from jaxgen.nn.optimizer import descend
from jaxgen.nn.stacks import doubled


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """A manifold-guided GAN of images or of points; some fields apply to one of them only."""

    autoencoder_steps: int = 500  # of the first phase, which trains the autoencoder
    autoencoder_learning_rate: float = 1e-3  # of its Adam
    code_dim: int = 64  # dimensions of a code E(x)
    manifold_units: int = 1024  # of D_m's two hidden layers
    manifold_weight: float = 0.5  # of D_m in G's loss; D's is 1
    latent_dim: int = 100  # dimensions of z
    beta1: float = 0.5  # of Adam
    beta2: float = 0.999  # of Adam
    noise: float = 0.25  # of images: share of the autoencoder's input pixels set to black or white
    features: int = 64  # of images: channels of the largest hidden map, doubled at every further halving
    smallest: int | None = None  # of images: side that maps are halved to; default: 2 up to 16 pixels, else 4
    kernel: Literal[4, 5] = 4  # of images: side of the kernels
    normalization: NormalizationName = "batch"  # of images: of D's inner layers; G's is BatchNorm
    generator_learning_rate: float = 2e-4  # of images: of Adam
    discriminator_learning_rate: float = 2e-4  # of images: of Adam
    l2: float = 0.0  # of images: factor of each weight that is added to its gradient
    deviation: float = 0.1  # of points: standard deviation of the noise on the autoencoder's input
    encoder_units: int = 128  # of points: of the autoencoder's hidden layers, two on each side
    prior: Literal["uniform", "gaussian"] = "uniform"  # of points: of z, in (-1, 1), or N(0, 1)
    generator_units: int = 1200  # of points: of each hidden layer of G
    generator_layers: int = 2  # of points: hidden layers of G
    generator_batch_norm: bool = False  # of points: BatchNorm in G's hidden layers
    discriminator_units: int = 240  # of points: of each hidden layer of D
    discriminator_layers: int = 2  # of points: hidden layers of D
    pieces: int = 5  # of points: linear pieces of D's maxout units; 1 for ReLU
    dropout: float = 0.5  # of points: share of D's hidden units that is dropped; two fifths of that for its inputs
    optimizer: Literal["sgd", "adam"] = "sgd"  # of points: as in gan, with its initial weights
    learning_rate: float | None = None  # of points: .1 for SGD (D's is half of it), 2e-4 for Adam if not given
    packing: int = 1  # of points: examples that D judges at once
    unrolled: int = 0  # of points: updates of D that G's loss looks ahead


BASES = {"image": dcgan, "point": gan}
"""Map from kind of examples to the base."""

OWN = {"image": ("noise",), "point": ("deviation", "encoder_units")}
"""Map from kind of examples to the autoencoder's fields that apply to it only."""


def base_config(config: Config, subject: str) -> Any:
    """The base's Config, with its fields taken from this one. Raises UserError for a given field of the other kind."""
    other = "point" if subject == "image" else "image"
    own, others = ({field.name for field in fields(BASES[kind].Config)} for kind in (subject, other))
    for name in given(config):
        if name in (others - own) | set(OWN[other]):
            raise UserError(f"{name} does not apply to {subject}s: see `jaxgen train mggan --help`")
    return BASES[subject].Config(**{name: getattr(config, name) for name in own})


class Encoder(nn.Module):
    """E: examples to codes."""

    config: Config
    shape: tuple[int, ...]  # of an example
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> Array:
        """X [batch, *shape], images in (-1, 1) -> codes [batch, code_dim]."""
        config = self.config
        if len(self.shape) == 1:
            x = perceptron(x, config.encoder_units, 2, training, False, self.dtype)
        else:
            for level in range(pyramid(self.shape, config.smallest, "mggan")[1]):
                x = Conv(config.features << level, (4, 4), strides=(2, 2), use_bias=False, dtype=self.dtype)(x)
                x = nn.relu(normalized(x, training))
        return nn.Dense(config.code_dim, dtype=self.dtype)(x.reshape(len(x), -1)).astype(jnp.float32)


class Decoder(nn.Module):
    """Dec: codes to examples."""

    config: Config
    shape: tuple[int, ...]  # of an example
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Codes z [batch, code_dim] -> [batch, *shape], images in (-1, 1)."""
        config = self.config
        if len(self.shape) == 1:
            x = perceptron(z, config.encoder_units, 2, False, False, self.dtype)
            return nn.Dense(*self.shape, dtype=self.dtype)(x).astype(jnp.float32)
        smallest, depth = pyramid(self.shape, config.smallest, "mggan")
        layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), dtype=self.dtype)
        x = doubled(layer, z, smallest, config.features, self.shape[-1], depth, self.dtype)
        return nn.tanh(x.astype(jnp.float32))


class ManifoldDiscriminator(nn.Module):
    """D_m: codes to the logit of belonging to a real example."""

    config: Config
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Concatenated codes z of packs [packs, packing * code_dim] -> logits [packs, 1]."""
        for _ in range(2):
            z = nn.leaky_relu(nn.Dense(self.config.manifold_units, dtype=self.dtype)(z), 0.2)
        return nn.Dense(1, dtype=self.dtype)(z).astype(jnp.float32)


def salted(key: Key, x: Array, share: float) -> Array:
    """Sets a share of the pixels of images [batch, H, W, C] in [-1, 1] to black or white, in all channels at once."""
    u = jax.random.uniform(key, (*x.shape[:-1], 1))
    return jnp.where(u < share / 2, -1.0, jnp.where(u < share, 1.0, x))


def noisy(config: Config, key: Key, x: Array) -> Array:
    """Adds the autoencoder's noise to examples [batch, ...]."""
    if x.ndim == 4:
        return salted(key, x, config.noise)
    return x + config.deviation * jax.random.normal(key, x.shape)


class Players(NamedTuple):
    """The parts of both phases."""

    init: Callable[[Key], State]
    reconstruct: Callable[[Key, State, Batch], tuple[State, dict[str, Array]]]  # updates the autoencoder only
    turns: Turns
    frozen: Callable[[State], State]
    """State for the second phase's turns: its `extra`, which no optimizer updates, holds all of E's variables."""


def players(config: Config, spec: Spec) -> Players:
    """The parts of both phases for `spec`'s images or points. Raises UserError as `make` does."""
    subject, shape = spec.subject, spec.entries[spec.subject].shape
    of_base = base_config(config, subject)
    base, optimizers = BASES[subject].nets(of_base, spec), BASES[subject].optimizers(of_base)
    encoder, decoder = (net(config, shape, spec.compute_dtype) for net in (Encoder, Decoder))
    judge = ManifoldDiscriminator(config, spec.compute_dtype)
    adam = optax.adam(config.autoencoder_learning_rate)

    def examples(batch):
        return base.real(batch).reshape(-1, *shape)  # unpacks the packs of D

    # First the autoencoder.

    def init(key):
        k_gan, k_encoder, k_decoder = jax.random.split(key, 3)
        state = play.init(k_gan)
        of_encoder = encoder.init(k_encoder, jnp.zeros((1, *shape)), training=False)
        of_decoder = decoder.init(k_decoder, jnp.zeros((1, config.code_dim)))
        autoencoder = {"encoder": of_encoder["params"], "decoder": of_decoder["params"]}
        return state._replace(
            params={**state.params, **autoencoder},
            opt_state={**state.opt_state, "autoencoder": adam.init(autoencoder)},
            extra={**state.extra, "encoder": of_encoder.get("batch_stats", {})},
        )

    def reconstruct(key, state, batch):
        def loss(params):
            x = examples(batch)
            z, averages = passed(encoder, params["encoder"], state.extra["encoder"], noisy(config, key, x))
            error = jnp.abs(x - decoder.apply({"params": params["decoder"]}, z))
            return error.reshape(len(x), -1).sum(1).mean(), averages

        old = {net: state.params[net] for net in ("encoder", "decoder")}
        (value, averages), gradients = jax.value_and_grad(loss, has_aux=True)(old)
        new, opt_state = descend(adam, gradients, state.opt_state["autoencoder"], old)
        state = state._replace(
            params={**state.params, **new},
            opt_state={**state.opt_state, "autoencoder": opt_state},
            extra={**state.extra, "encoder": averages},
        )
        return state, {"reconstruction": value}

    # Then the GAN, with E frozen.

    def init_nets(key):
        k_base, k_manifold = jax.random.split(key)
        variables = base.init(k_base)
        of_examples = variables["discriminator"]
        manifold = judge.init(k_manifold, jnp.zeros((1, config.packing * config.code_dim)))
        return variables | {
            "discriminator": {
                "params": {"image": of_examples["params"], "manifold": manifold["params"]},
                "batch_stats": {"image": of_examples.get("batch_stats", {})},
            }
        }

    def discriminate(key, params, extra, x, batch):
        averages_of_d = {"discriminator": extra["discriminator"]["image"]}
        judged, averages = base.discriminate(key, params["image"], averages_of_d, x, batch)
        codes = encoder.apply(extra["encoder"], x.reshape(-1, *shape), training=False)
        logits = judge.apply({"params": params["manifold"]}, codes.reshape(len(x), -1))
        return judged._replace(logits=jnp.concatenate([judged.logits, logits], 1)), {"image": averages}

    def frozen(state):
        variables = {"params": state.params["encoder"], "batch_stats": state.extra["encoder"]}
        return state._replace(extra={**state.extra, "encoder": variables})

    heads = {"": 1.0, "manifold_": config.manifold_weight}
    nets = base._replace(init=init_nets, discriminate=discriminate, heads=heads)
    play = turns(config, nets, optimizers, config.unrolled)
    return Players(init, reconstruct, play, frozen)


def make(config: Config, spec: Spec) -> Model:
    """The MGGAN for `spec`'s images or points. Raises UserError for an invalid value or image size."""
    subject = spec.subject
    if subject not in BASES:
        raise UserError(f"mggan makes images or points: the data have {', '.join(spec.entries)}")
    check_positive(config, "autoencoder_steps", "autoencoder_learning_rate", "code_dim", "encoder_units")
    check_positive(config, "manifold_units")
    check_not_negative(config, "deviation", "manifold_weight")
    check_share(config, "noise")
    if subject == "image":
        pyramid(spec.image_shape, config.smallest, "mggan")  # before the base, whose error would name the base
    init, reconstruct, play, frozen = players(config, spec)
    of_base = base_config(config, subject)
    at_once = subject == "point" and gan.moves_at_once(of_base)

    def step(key, state, batch):
        encoder, state = state.extra["encoder"], frozen(state)
        state, (k_fakes, k_discriminator, k_generator), batch = play.earlier_critic_turns(key, state, batch)
        fakes, before = play.generate(k_fakes, state, batch), state
        state, of_discriminator = play.discriminator_turn(k_discriminator, state, batch, fakes)
        past = before if at_once else state  # the D and D_m that G's turn sees
        state, of_generator = play.generator_turn(k_generator, state, batch, fakes, past)
        state = play.finished(state, fakes)
        state = state._replace(extra={**state.extra, "encoder": encoder})
        return state, {**of_discriminator, **of_generator, **play.compared(batch, fakes)}

    # Samples and latents are the base's, since its G makes them.
    phases = (Phase("autoencoder", reconstruct, steps=config.autoencoder_steps), Phase("adversarial", step))
    return BASES[subject].make(of_base, spec)._replace(init=init, phases=phases)
