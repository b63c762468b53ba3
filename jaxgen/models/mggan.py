"""MGGAN: Bang & Shim 2018, https://arxiv.org/abs/1804.04391, "Solving Mode Collapse using Manifold Guided Training".

A GAN as it is, with a second discriminator, on what an encoder makes of examples:

    L_E   = E |x - Dec(E(x~))|_1,  x~ of x by noise                            the autoencoder's, in the first phase
    L_D   = E[-log D(x) - log(1 - D(G(z)))]                                    the base's, of examples
    L_D_m = E[-log D_m(E(x)) - log(1 - D_m(E(G(z))))]                          of the manifold of codes
    L_G   = E[-log D(G(z))] + 1/2 E[-log D_m(E(G(z)))]                         what G makes small

or another `loss` of both. E is a denoising autoencoder's, trained on all the data before there is a G, and then frozen,
BatchNorm in evaluation mode: D_m sees where the data's modes lie and is of no use to G but through E, whose gradient
tells G which way they are. D and D_m are the game's one discriminator of two heads, each with a loss of its own.

The base is DCGAN on images and the dense GAN on points, their nets, optimizers and fields exactly; a field that only
the other base has is refused. From the paper: salt and pepper on a quarter of the pixels, L1, D_m of two layers of
1024, G's weight 1/2 of L_D_m. Not from it: the length of a code, the autoencoder's steps and learning rate, its nets
(on images E has D's maps with BatchNorm, and the decoder mirrors them), and all of points, where noise is Gaussian.
Points in the plane want their base's settings (see gan) and

    --manifold-units 128 --code-dim 2
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.fields import given
from jaxgen.game import Game, Nets, game, passed
from jaxgen.model import Array, Batch, Key, Model, Phase, Spec, State
from jaxgen.models import dcgan, gan
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.dense import perceptron
from jaxgen.nn.image import pyramid
from jaxgen.nn.normalization import normalised
from jaxgen.nn.optimizer import descend
from jaxgen.nn.stacks import doubled


@dataclass(frozen=True)
class Config(dcgan.Config, gan.Config):
    """A manifold-guided GAN: of images with the fields of dcgan, of points with those of gan.

    It has both bases' fields, since it is either; a field that both have has one default in both.
    """

    autoencoder_steps: int = 500  # of the first phase, which trains the autoencoder
    autoencoder_learning_rate: float = 1e-3  # of its Adam
    code_dim: int = 64  # numbers of a code E(x)
    encoder_units: int = 128  # of points: of the autoencoder's hidden layers, two on each side
    noise: float = 0.25  # of images: share of the pixels that the autoencoder is shown black or white
    deviation: float = 0.1  # of points: of the noise that the autoencoder is shown them with
    manifold_units: int = 1024  # of D_m's two hidden layers
    manifold_weight: float = 0.5  # of D_m in G's loss, D's being 1


IDLE = {"images": ("encoder_units", "deviation"), "points": ("noise",)}
"""Fields of its own that are of the other kind of data only."""


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
                x = nn.relu(normalised(x, training))
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
    """D_m: codes to the logit of being a real example's."""

    config: Config
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Codes z of packs, one beside the other [packs, packing * code_dim] -> logits [packs, 1]."""
        for _ in range(2):
            z = nn.leaky_relu(nn.Dense(self.config.manifold_units, dtype=self.dtype)(z), 0.2)
        return nn.Dense(1, dtype=self.dtype)(z).astype(jnp.float32)


def salted(key: Key, x: Array, share: float) -> Array:
    """Images [batch, H, W, C] in [-1, 1] with so large a share of pixels black or white, in all channels at once."""
    u = jax.random.uniform(key, (*x.shape[:-1], 1))
    return jnp.where(u < share / 2, -1.0, jnp.where(u < share, 1.0, x))


def noisy(config: Config, key: Key, x: Array) -> Array:
    """What the autoencoder is shown of examples [batch, ...]."""
    if x.ndim == 4:
        return salted(key, x, config.noise)
    return x + config.deviation * jax.random.normal(key, x.shape)


class Guided(NamedTuple):
    """The parts of both phases."""

    init: Callable[[Key, Batch], State]
    reconstruct: Callable[[Key, State, Batch], tuple[State, dict[str, Array]]]  # moves the autoencoder only
    play: Game
    frozen: Callable[[State], State]
    """The state that the game plays with: in `extra`, which no player's optimizer moves, E's variables."""


def base_of(config: Config, spec: Spec) -> tuple[Nets, dict[str, optax.GradientTransformation], dict[str, int | bool]]:
    """The base's nets, its optimizers and its other rules of the game. Raises UserError as `make`."""
    if "image" in spec.entries:
        return dcgan.nets(config, spec), dcgan.optimizers(config), {}
    return gan.nets(config, spec)[0], gan.optimizers(config), gan.rules(config)


def guided(config: Config, spec: Spec) -> Guided:
    """The parts of both phases for `spec`'s images or points. Raises UserError as `make`."""
    base, optimizers, rules = base_of(config, spec)
    shape = spec.entries["image" if "image" in spec.entries else "point"].shape
    encoder, decoder = (net(config, shape, spec.compute_dtype) for net in (Encoder, Decoder))
    judge = ManifoldDiscriminator(config, spec.compute_dtype)
    adam = optax.adam(config.autoencoder_learning_rate)

    def examples(batch):
        return base.real(batch).reshape(-1, *shape)  # where D judges packs, one by one

    # First the autoencoder.

    def init(key, batch):
        k_game, k_encoder, k_decoder = jax.random.split(key, 3)
        state = play.init(k_game, batch)
        of_encoder = encoder.init(k_encoder, examples(batch), training=False)
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

    # Then the game, with E frozen.

    def init_nets(key, batch):
        k_base, k_manifold = jax.random.split(key)
        variables = base.init(k_base, batch)
        image, together = variables["discriminator"], len(examples(batch)) // len(base.real(batch))
        manifold = judge.init(k_manifold, jnp.zeros((1, together * config.code_dim)))
        return variables | {
            "discriminator": {
                "params": {"image": image["params"], "manifold": manifold["params"]},
                "batch_stats": {"image": image.get("batch_stats", {})},
            }
        }

    def discriminate(key, params, extra, x, batch):
        of_base = {**extra, "discriminator": extra["discriminator"]["image"]}
        judged, averages = base.discriminate(key, params["image"], of_base, x, batch)
        codes = encoder.apply(extra["encoder"], x.reshape(-1, *shape), training=False)
        logits = judge.apply({"params": params["manifold"]}, codes.reshape(len(x), -1))
        return judged._replace(logits=jnp.concatenate([judged.logits, logits], 1)), {"image": averages}

    def frozen(state):
        variables = {"params": state.params["encoder"], "batch_stats": state.extra["encoder"]}
        return state._replace(extra={**state.extra, "encoder": variables})

    heads = {"": 1.0, "manifold_": config.manifold_weight}
    nets = base._replace(init=init_nets, discriminate=discriminate, heads=heads)
    play = game(config, nets, optimizers, **rules)
    return Guided(init, reconstruct, play, frozen)


def make(config: Config, spec: Spec) -> Model:
    """The MGGAN for `spec`'s images or points. Raises UserError for a value or an image size that will not do."""
    if not {"image", "point"} & set(spec.entries):
        raise UserError(f"mggan makes images or points: the data have {', '.join(spec.entries)}")
    base, other, kind = (dcgan, gan, "images") if "image" in spec.entries else (gan, dcgan, "points")
    own, others = ({field.name for field in fields(module.Config)} for module in (base, other))
    for name in given(config):
        if name in others - own:
            raise UserError(f"{name} is not for {kind}: their mggan has the fields of {base.__name__.split('.')[-1]}")
        if name in IDLE[kind]:
            raise UserError(f"{name} is not for {kind}: see `jaxgen train mggan --help`")
    check_positive(config, "autoencoder_steps", "autoencoder_learning_rate", "code_dim", "encoder_units")
    check_positive(config, "manifold_units")
    check_not_negative(config, "deviation", "manifold_weight")
    check_share(config, "noise")
    if kind == "images":
        pyramid(spec.image_shape, config.smallest, "mggan")  # before the base, whose error would name the base
    parts = guided(config, spec)

    def step(key, state, batch):
        new, metrics = parts.play.step(key, parts.frozen(state), batch)
        return new._replace(extra={**new.extra, "encoder": state.extra["encoder"]}), metrics

    # G is the base's, and so is all that is made with it.
    return base.make(config, spec)._replace(
        init=parts.init,
        phases=(
            Phase("autoencoder", parts.reconstruct, steps=config.autoencoder_steps),
            Phase("adversarial", step),
        ),
    )
