"""GAN: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; section 2.3.2 and equation 6 of the review.

    min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))]                                               (equation 1)

The review prints its equation 6 with the players exchanged (min over D, max over G); this is Goodfellow's, with the
generator's non-saturating loss -log D(G(z)) (section 3) unless another `loss` is chosen.

The defaults are the authors' for MNIST, from the paper and its code: z of 100 uniform numbers, scaled to
variance 1; G of two layers of 1200 ReLU and a sigmoid whose bias starts at the data's marginals; D of two layers of
240 maxout units of 5 pieces with dropout (a half of the units, a fifth of the pixels); initial weights uniform in
+-.05 for G and +-.005 for D; SGD with rate .1, divided by 1.000004 every step, D's on half of its loss, and momentum
rising from .5 to .7 over the 250 epochs; batches of 100. With SGD both players are updated at once; with Adam, which
the authors did not use, G is updated after D. With SGD these details are decisive: with Flax's larger initial weights,
marginals clipped to .01, or G's turn after D's, D wins, and G's samples vary little or not at all. The initial bounds
of narrower nets grow with the square root of the ratio of widths. Unlike in the authors' code, G's loss draws D's
dropout anew. Points, which have no bounds, are output without a sigmoid.

For points in the plane a small net and Adam are better:

    --generator-units 128 --discriminator-units 128 --pieces 1 --dropout 0 --optimizer adam --learning-rate 5e-4
    --latent-dim 2 --prior gaussian

Two remedies for mode collapse are options:

    packing     D judges this many examples at once, all real or all fake: Lin et al. 2018 (PacGAN),
                https://arxiv.org/abs/1712.04086. The batch is divided into packs.
    unrolled    G's loss looks this many updates of D ahead, and G's gradient flows through them: Metz et al. 2017,
                https://arxiv.org/abs/1611.02163.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import Initializer

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
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.model import HIGH_QUALITY, Array, Latents, Model, Phase, Prior, Sampler, Spec
from jaxgen.nn.dense import DEFAULT, maxout, perceptron, uniform_within
from jaxgen.nn.image import from_unit, logits_of_mean, to_unit

DECAY, MOMENTUM, MOMENTUM_STEPS = 1 / 1.000004, (0.5, 0.7), 125_000
"""The authors' SGD: factor of the rate per step; first and last momentum, the steps between (250 epochs of 500)."""

LEAST_MEAN = 1e-7
"""The authors' bound on marginals: a pixel that is 0 in all data starts so near to 0 that D cannot notice it."""

BOUNDS = {"generator": (0.05, 1200), "discriminator": (0.005, 240)}
"""Map from player to the bound of the authors' uniform initial weights, and the layers' units that it is for."""


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """A GAN of dense nets, of images or points."""

    latent_dim: int = 100  # dimensions of z
    prior: Literal["uniform", "gaussian"] = "uniform"  # of z: in (-1, 1), or N(0, 1)
    generator_units: int = 1200  # in each hidden layer of G
    generator_layers: int = 2  # hidden layers of G
    generator_batch_norm: bool = False  # BatchNorm in G's hidden layers
    discriminator_units: int = 240  # in each hidden layer of D
    discriminator_layers: int = 2  # hidden layers of D
    pieces: int = 5  # linear pieces of D's maxout units; 1 for ReLU
    dropout: float = 0.5  # share of D's hidden units that is dropped; two fifths of that for its inputs
    optimizer: Literal["sgd", "adam"] = "sgd"  # the authors' SGD and initial weights, or Adam and Flax's weights
    learning_rate: float | None = None  # .1 for SGD (D's is half), 2e-4 for Adam if not given
    beta1: float = 0.5  # of Adam
    beta2: float = 0.999  # of Adam
    packing: int = 1  # examples that D judges at once
    unrolled: int = 0  # updates of D that G's loss looks ahead


class Generator(nn.Module):
    """G: z to images in (0, 1), or to points."""

    config: Config
    shape: tuple[int, ...]  # of an example
    bias: np.ndarray | None  # mean image [H, W, C], the last layer's initial bias; None for points
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array, training: bool) -> Array:
        """Noise z [batch, latent_dim] -> [batch, *shape]."""
        config = self.config
        weights, norm = initial(config, "generator"), config.generator_batch_norm
        z = z * np.sqrt(3, dtype=np.float32) if config.prior == "uniform" else z  # to variance 1, as a Gaussian's
        x = perceptron(z, config.generator_units, config.generator_layers, training, norm, self.dtype, weights)
        last = {"use_bias": self.bias is None, "dtype": self.dtype, "kernel_init": weights}
        x = nn.Dense(int(np.prod(self.shape)), **last)(x).astype(jnp.float32).reshape(-1, *self.shape)
        if self.bias is None:
            return x
        bias = self.param("marginals", lambda key: logits_of_mean(self.bias, LEAST_MEAN))
        return nn.sigmoid(x + bias)


class Discriminator(nn.Module):
    """D: packs of examples to the logit of being real."""

    config: Config
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> Array:
        """X [batch, ...] -> logits [batch, 1]; dropout while training, drawn by the key "dropout"."""
        config, weights = self.config, initial(self.config, "discriminator")
        x = x.reshape(len(x), -1)
        x = nn.Dropout(0.4 * config.dropout, deterministic=not training)(x)
        for _ in range(config.discriminator_layers):
            x = maxout(x, config.discriminator_units, config.pieces, self.dtype, weights)
            x = nn.Dropout(config.dropout, deterministic=not training)(x)
        return nn.Dense(1, dtype=self.dtype, kernel_init=weights)(x).astype(jnp.float32)


def check_dense(config: Config) -> None:
    """Raises UserError for invalid values of a Config."""
    check_positive(config, "latent_dim", "generator_units", "generator_layers", "discriminator_units", "pieces")
    check_positive(config, "discriminator_layers", "packing")
    if config.learning_rate is not None:
        check_positive(config, "learning_rate")
    check_not_negative(config, "unrolled")
    check_share(config, "dropout", "beta1", "beta2")
    if config.packing > 1 and (config.augment or config.consistency):
        raise UserError("packing takes neither augment nor consistency, which apply to single images")
    if config.unrolled and config.clip:
        raise UserError("unrolled takes no clip: where D's gradient is 0, a bound on its norm has no derivative")
    check_idle(config, "optimizer", {"adam": ("beta1", "beta2")})


def optimizers(config: Config) -> dict[str, optax.GradientTransformation]:
    """Map from player to its optimizer."""
    if config.optimizer == "adam":
        # For a gradient of exactly 0, as at an inactive ReLU, the root of its square has no finite derivative.
        eps_root = 1e-16 if config.unrolled else 0.0
        moves = optax.adam(config.learning_rate or 2e-4, config.beta1, config.beta2, eps_root=eps_root)
        return {"generator": moves, "discriminator": moves}
    return annealed_sgd(config.learning_rate or 0.1, DECAY)


def moves_at_once(config: Config) -> bool:
    """True if both players are updated at once, as in the authors' code: with their SGD. Else G's turn follows D's."""
    return config.optimizer == "sgd"


def annealed_sgd(rate: float, decay: float, least: float | None = None) -> dict[str, optax.GradientTransformation]:
    """SGD for each player: its rate is multiplied by `decay` every step, down to `least`, and its momentum rises.

    D's rate is half of `rate`: the authors' D descends half of its loss.
    """

    def sgd(share):
        end = least and share * min(least, rate)
        falling = optax.exponential_decay(share * rate, 1, decay, end_value=end)
        return optax.inject_hyperparams(optax.sgd)(falling, optax.linear_schedule(*MOMENTUM, MOMENTUM_STEPS))

    return {"generator": sgd(1), "discriminator": sgd(0.5)}


def initial(config: Config, player: str) -> Initializer:
    """Initial weights of a net: the authors' with their SGD, Flax's with Adam."""
    return authors_weights(player, getattr(config, f"{player}_units")) if config.optimizer == "sgd" else DEFAULT


def authors_weights(player: str, units: int) -> Initializer:
    """Initial weights of a net with this many units per layer: the authors' for their number of units.

    In nets of other widths sums in hidden layers have the same scale as theirs; those in the first layer are larger by
    the root of theirs over `units`.
    """
    bound, theirs = BOUNDS[player]
    return uniform_within(bound * (theirs / units) ** 0.5)


def draw_prior(config: Config, key: Array, num: int) -> Array:
    """Noise z [num, latent_dim]."""
    shape = (num, config.latent_dim)
    return jax.random.normal(key, shape) if config.prior == "gaussian" else jax.random.uniform(key, shape, minval=-1)


def seen_modes(spec: Spec, points: Array) -> dict[str, Array]:
    """Share of a known mixture's modes that points [n, 2] fall on, and share of the points near a center."""
    if spec.mixture is None:
        return {}
    centers, deviation = spec.mixture
    # Coordinate by coordinate: on CPUs XLA's norm over an axis of two takes a tenth of a small GAN's step.
    coordinates = zip(points.T, jnp.asarray(centers, jnp.float32).T, strict=True)
    squares = sum((of_point[:, None] - of_center) ** 2 for of_point, of_center in coordinates)
    near = squares < (HIGH_QUALITY * deviation) ** 2  # near at most one center, as modes lie farther apart
    return {"modes": near.any(0).astype(jnp.float32).mean(), "high_quality": near.any(1).astype(jnp.float32).mean()}


def players(config: Config, spec: Spec) -> Turns:
    """The players' turns for `spec`'s images or points. Raises UserError as `make` does."""
    return turns(config, nets(config, spec), optimizers(config), config.unrolled)


def nets(config: Config, spec: Spec) -> Nets:
    """The nets for `spec`'s images or points. Raises UserError as `make` does."""
    subject = spec.subject
    if subject not in ("image", "point"):
        raise UserError(f"gan makes images or points: the data have {', '.join(spec.entries)}")
    shape, images = spec.entries[subject].shape, subject == "image"
    check_dense(config)
    check_adversarial(config, spec, batch_norm=False, packing=config.packing)
    generator = Generator(config, shape, spec.mean if images else None, spec.compute_dtype)
    discriminator = Discriminator(config, spec.compute_dtype)

    def packed(x):
        return x.reshape(-1, config.packing, *shape) if config.packing > 1 else x

    def init(key):
        k_generator, k_discriminator = jax.random.split(key)
        pack = packed(jnp.zeros((config.packing, *shape)))
        return {
            "generator": generator.init(k_generator, jnp.zeros((1, config.latent_dim)), training=False),
            "discriminator": discriminator.init(k_discriminator, pack, training=False),
        }

    def real(batch):
        return packed(to_unit(batch["image"]) if images else batch["point"])

    def draw(key, batch):
        return draw_prior(config, key, len(batch[subject]))

    def generate(params, extra, z):
        x, averages = passed(generator, params, extra["generator"], z)
        return packed(x), averages

    def discriminate(key, params, extra, x, batch):
        logits, averages = passed(discriminator, params, extra["discriminator"], x, key=key)
        return Judged(logits), averages

    def sample(variables, z):
        return generator.apply(variables, z, training=False)

    def look(x):
        return seen_modes(spec, x.reshape(-1, *shape))

    return Nets(init, real, draw, generate, discriminate, sample, look=look, signed=False)


def make(config: Config, spec: Spec) -> Model:
    """The GAN for `spec`'s images or points. Raises UserError for an invalid value."""
    play, at_once, subject = players(config, spec), moves_at_once(config), spec.subject

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
        return {subject: play.sampled(state, z)}

    def draw(key, state, num, condition):
        x = play.sampled(state, prior(key, state, num))
        return {subject: from_unit(x) if subject == "image" else x}

    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=(subject,),
        sampler=Sampler(draw, note=sampling_note(config, "G(z)", batch_norm=config.generator_batch_norm)),
        latents=Latents(decode, Prior(prior, config.prior)),
    )
