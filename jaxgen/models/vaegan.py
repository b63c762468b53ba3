"""VAE/GAN: Larsen, Sønderby, Larochelle & Winther 2016, https://arxiv.org/abs/1512.09300; section 2.3.3 of the review.

    q(z|x) = N(mu(x), diag sigma(x)^2),  x~ = Dec(z),  z ~ q(z|x),    x_p = Dec(z_p),  z_p ~ N(0, I)
    L_prior = KL(q(z|x) || N(0, I))                                                              (equation 4)
    L_llike = -log N(Dis_l(x) | Dis_l(x~), I),  Dis_l a hidden layer of the discriminator        (equations 7 and 8)
    L_GAN   = -log Dis(x) - 1/2 log(1 - Dis(x~)) - 1/2 log(1 - Dis(x_p)),  which Dis minimizes here

The reconstruction error is measured in features that the discriminator learns, not in pixels. Three players, each
with its own RMSProp, are updated by (algorithm 1)

    encoder         grad of L_prior + L_llike
    decoder         grad of gamma L_llike - (1 - gamma) L_GAN
    discriminator   grad of L_GAN

so that L_llike does not train the discriminator, nor L_GAN the encoder. The weight 1 - gamma, the halves that
give real and generated images the same weight, and the equilibrium rule are from the authors' code. By that rule a step
does not update the decoder if either half of L_GAN (real images; generated ones) is over .68 + .35, nor the
discriminator if either is under .68 - .35; if neither would be updated, both are. "prior" leaves x~ out of L_GAN.

The default gamma of 1e-2 is for these nets on small images, from short trials on MNIST; the paper's 1e-6 is for its
own, on faces of 64x64. L_llike is a sum over features, so it grows with their number and scale, set by LayerNorm here.

A step passes each net once: the encoder over x, the decoder over z and z_p as one batch, the discriminator over x, x~
and x_p. The first two have the paper's BatchNorm; their pass updates its running averages even if the player is not
updated, and codes, reconstructions and samples use these. The discriminator has LayerNorm instead, so that Dis and
Dis_l are functions of one image: with BatchNorm over real and generated images the decoder can deceive it about the
real ones, by shifting the batch's statistics with images of noise (seen on MNIST), and with separate batches for x and
x~ their features would differ by the statistics of their batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.errors import check_positive, check_share
from jaxgen.likelihoods import gaussian_kl, gaussian_log_prob
from jaxgen.model import Array, Latents, Model, Phase, Prior, Sampler, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.dense import mean_and_log_variance
from jaxgen.nn.image import from_signed, pyramid, to_signed
from jaxgen.nn.normalization import normalized
from jaxgen.nn.optimizer import descend
from jaxgen.nn.stacks import generated

EQUILIBRIUM, MARGIN = 0.68, 0.35
"""Equilibrium of each half of L_GAN and the margin around it, nats; a half is log 2 if Dis cannot discriminate."""


@dataclass(frozen=True)
class Config:
    """A VAE/GAN."""

    latent_dim: int = 16  # dimensions of z; 128 in the paper, for faces
    features: int = 32  # channels of the largest hidden map, doubled at every further halving
    smallest: int | None = None  # side that maps are halved to; default: 2 up to 16 pixels, else 4
    gamma: float = 1e-2  # weight of L_llike in the decoder's loss; that of L_GAN is 1 - gamma
    discriminator_sees: Literal["both", "prior"] = "both"  # reconstructions and prior samples, or the latter only
    moves: Literal["equilibrium", "all"] = "equilibrium"  # players per step: those not too far ahead; or all
    learning_rate: float = 3e-4  # of RMSProp


def convolved(x: Array, training: bool, config: Config, depth: int, dtype: np.dtype, norms: tuple) -> Array:
    """Halves maps [batch, H, W, C] `depth` times; `norms` are the first layer's and the others'. For `nn.compact`."""
    for level in range(depth):
        norm = norms[min(level, 1)]
        x = Conv(config.features << level, (4, 4), strides=(2, 2), use_bias=norm == "none", dtype=dtype)(x)
        x = nn.relu(normalized(x, training, norm))
    return x


class Encoder(nn.Module):
    """q(z|x)."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> tuple[Array, Array]:
        """X [batch, H, W, C] in [-1, 1] -> mean, log-variance [batch, latent_dim]."""
        x = convolved(x, training, self.config, self.depth, self.dtype, ("batch", "batch"))
        x = x.reshape(x.shape[0], -1)
        return mean_and_log_variance(x, self.config.latent_dim, self.dtype)


class Decoder(nn.Module):
    """Dec: z to images in (-1, 1)."""

    config: Config
    image_shape: tuple[int, int, int]
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array, training: bool) -> Array:
        """Latents z [batch, latent_dim] -> [batch, H, W, C]."""
        (height, width), depth = pyramid(self.image_shape, self.config.smallest, "vaegan")
        features = self.config.features << (depth - 1)
        x = nn.Dense(height * width * features, use_bias=False, dtype=self.dtype)(z)
        x = nn.relu(normalized(x.reshape(-1, height, width, features), training))
        layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), dtype=self.dtype)
        return generated(layer, x, self.config.features, self.image_shape[-1], depth, training)


class Discriminator(nn.Module):
    """Dis, and its hidden layer Dis_l: the last map of its convolutions."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> tuple[Array, Array]:
        """X [batch, H, W, C] in [-1, 1] -> logits of being real [batch], Dis_l(x) [batch, height, width, channels]."""
        hidden = convolved(x, training, self.config, self.depth, self.dtype, ("none", "layer"))
        x = hidden.reshape(hidden.shape[0], -1)
        x = nn.Dense(self.config.features << self.depth, use_bias=False, dtype=self.dtype)(x)
        x = nn.relu(normalized(x[:, None, None], training, "layer"))[:, 0, 0]
        return nn.Dense(1, dtype=self.dtype)(x)[:, 0].astype(jnp.float32), hidden.astype(jnp.float32)


def equilibrium(real: Array, fake: Array) -> dict[str, Array]:
    """Map from player to whether it is updated, bool [], by Dis's mean losses on real and generated images, nats []."""
    decoder = (real <= EQUILIBRIUM + MARGIN) & (fake <= EQUILIBRIUM + MARGIN)
    discriminator = (real >= EQUILIBRIUM - MARGIN) & (fake >= EQUILIBRIUM - MARGIN)
    neither = ~(decoder | discriminator)
    return {"encoder": jnp.bool(True), "decoder": decoder | neither, "discriminator": discriminator | neither}


def routing(gamma: float) -> dict[str, dict[str, float]]:
    """Weights of the losses in each player's objective."""
    return {
        "encoder": {"prior": 1.0, "similarity": 1.0, "gan": 0.0},
        "decoder": {"prior": 0.0, "similarity": gamma, "gan": gamma - 1},
        "discriminator": {"prior": 0.0, "similarity": 0.0, "gan": 1.0},
    }


class Players(NamedTuple):
    """The parts of a step."""

    init: Callable  # (key) -> State
    encode: Callable  # (state, x) -> mean of q(z|x) [batch, latent_dim]
    decode: Callable  # (state, z) -> images in (-1, 1)
    losses: Callable  # (params, key, averages, x) -> losses by name, (halves of L_GAN, updated averages)
    gradients: Callable  # (key, state, x, routing) -> gradients by player, losses, halves of L_GAN, updated averages
    move: Callable  # (state, gradients, halves of L_GAN) -> State, the players that were updated


def players(config: Config, spec: Spec) -> Players:
    """The players for `spec`'s images. Raises UserError for an invalid value or image size."""
    check_positive(config, "latent_dim", "features", "smallest", "learning_rate")
    check_share(config, "gamma")
    _, depth = pyramid(spec.image_shape, config.smallest, "vaegan")
    nets = {
        "encoder": Encoder(config, depth, spec.compute_dtype),
        "decoder": Decoder(config, spec.image_shape, spec.compute_dtype),
        "discriminator": Discriminator(config, depth, spec.compute_dtype),
    }
    optimizer = optax.rmsprop(config.learning_rate)

    def init(key):
        x = jnp.zeros((1, *spec.image_shape))
        inputs = {"encoder": x, "decoder": jnp.zeros((1, config.latent_dim)), "discriminator": x}
        keys = dict(zip(nets, jax.random.split(key, len(nets)), strict=True))
        variables = {player: net.init(keys[player], inputs[player], training=False) for player, net in nets.items()}
        params = {player: v["params"] for player, v in variables.items()}
        opt_state = {player: optimizer.init(p) for player, p in params.items()}
        return State(
            jnp.int32(0), params, opt_state, {player: v.get("batch_stats", {}) for player, v in variables.items()}
        )

    def losses(params, key, averages, x):
        moved, num = {}, len(x)

        def passed(player, given):
            variables = {"params": params[player], "batch_stats": averages[player]}
            out, new = nets[player].apply(variables, given, training=True, mutable=["batch_stats"])
            moved[player] = new.get("batch_stats", {})
            return out

        k_posterior, k_prior = jax.random.split(key)
        mean, log_variance = passed("encoder", x)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(k_posterior, mean.shape)
        made = passed("decoder", jnp.concatenate([z, jax.random.normal(k_prior, mean.shape)]))
        logits, hidden = passed("discriminator", jnp.concatenate([x, made]))
        made_logits = logits[num:] if config.discriminator_sees == "both" else logits[2 * num :]
        halves = {"real": nn.softplus(-logits[:num]).mean(), "fake": nn.softplus(made_logits).mean()}
        values = {
            "prior": gaussian_kl(mean, log_variance).mean(),
            "similarity": -gaussian_log_prob(hidden[:num], hidden[num : 2 * num], 0.0).mean(),
            "gan": halves["real"] + halves["fake"],
        }
        return values, (halves, moved)

    def gradients(key, state, x, routing):
        values, pullback, (halves, moved) = jax.vjp(
            lambda params: losses(params, key, state.extra, x), state.params, has_aux=True
        )
        taught = {
            player: pullback({name: jnp.float32(weight) for name, weight in row.items()})[0][player]
            for player, row in routing.items()
        }
        return taught, values, halves, moved

    def move(state, gradients, halves):
        moves = equilibrium(**halves) if config.moves == "equilibrium" else dict.fromkeys(nets, jnp.bool(True))
        params, opt_state = {}, {}
        for player, old in state.params.items():
            new = descend(optimizer, gradients[player], state.opt_state[player], old)
            kept = (old, state.opt_state[player])
            params[player], opt_state[player] = jax.tree.map(partial(jnp.where, moves[player]), new, kept)
        return state._replace(params=params, opt_state=opt_state), moves

    def variables(state, player):
        return {"params": state.params[player], "batch_stats": state.extra[player]}

    def encode(state, x):
        return nets["encoder"].apply(variables(state, "encoder"), x, training=False)[0]

    def decode(state, z):
        return nets["decoder"].apply(variables(state, "decoder"), z, training=False)

    return Players(init, encode, decode, losses, gradients, move)


def make(config: Config, spec: Spec) -> Model:
    """The VAE/GAN for `spec`'s images. Raises UserError for an invalid value or image size."""
    play, weights = players(config, spec), routing(config.gamma)

    def step(key, state, batch):
        gradients, values, halves, averages = play.gradients(key, state, to_signed(batch["image"]), weights)
        state, moves = play.move(state, gradients, halves)
        metrics = {name: values[name] for name in ("prior", "similarity")}
        metrics |= {f"{half}_loss": value for half, value in halves.items()}
        if config.moves == "equilibrium":  # means over steps: the share in which a player was updated
            metrics |= {f"{player}_moved": moves[player].astype(jnp.float32) for player in ("decoder", "discriminator")}
        return state._replace(extra=averages), metrics

    def prior(key, state, num):
        return jax.random.normal(key, (num, config.latent_dim))

    def draw(key, state, num, condition):
        return {"image": from_signed(play.decode(state, prior(key, state, num)))}

    def encode(state, batch):
        return play.encode(state, to_signed(batch["image"]))

    def decode(state, z, condition):
        return {"image": (play.decode(state, z) + 1) / 2}

    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=("image",),
        sampler=Sampler(draw, note="Dec(z) with BatchNorm's running averages, z from the prior"),
        latents=Latents(decode, Prior(prior, "gaussian"), encode),
    )
