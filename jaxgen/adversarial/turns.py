"""The game of two players that every GAN here plays: what is common to their configs, their turns, their step.

A model gives its nets as functions (`Nets`), and `game` makes the turns and the step of them:

    discriminator   critic_steps times, each on its own part of the batch and new fakes: the loss, the penalty on
                    D's gradient, consistency
    generator       once, on the last fakes, past D as just updated, or before that where both move `at_once`: one
                    forward pass of G serves both turns

Goodfellow et al. 2014's algorithm 1, and WGAN's, update D so often for one update of G, each time on new real
examples. A step here is one such round: it divides its batch among D's updates, so the papers' batch size is
`batch_size` / `critic_steps`.

BatchNorm: real and fake examples are separate batches of D, and real, then fake ones move its running averages.
With `batches` joint they are one batch, in G's turn too, so that D is the same function in both. G's turn sees D with
its batch's own statistics and moves neither D's running averages nor its spectral norm's vectors; D's turns do not
move G's. Samples use G's running averages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgen.adversarial.augmentation import Augmentation, augmented
from jaxgen.adversarial.losses import LOSSES, PENALTIES, LossName, PenaltyName, PenaltyPlace, penalised_at
from jaxgen.adversarial.spectral import singular_vectors, spectrally_normalised
from jaxgen.config import given
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.model import FEW, Array, Batch, Key, PyTree, State
from jaxgen.nn.optimizer import descend


@dataclass(frozen=True)
class GameConfig:
    """What the games of all GANs have."""

    loss: LossName = "non_saturating"  # of both players
    penalty: PenaltyName = "none"  # on D's gradient: (norm - 1)^2, as WGAN-GP, or half its square, as R1 and R2
    penalty_at: PenaltyPlace = "between"  # where: on real (R1) or fake (R2) examples, or between a pair of both
    penalty_weight: float = 10.0  # lambda of WGAN-GP, gamma of R1 and R2
    consistency: float = 0.0  # weight of (D(x) - D(T(x)))^2, T a shift by up to an eighth: bCR, arXiv 2002.04724
    augment: tuple[Augmentation, ...] = ()  # DiffAugment: of all images that D sees, in both turns
    spectral_norm: bool = False  # D's kernels are divided by their largest singular values
    batches: Literal["separate", "joint"] = "separate"  # real and fake examples, for BatchNorm in D
    critic_steps: int = 1  # updates of D for one of G, each on its own equal part of the batch
    clip: float = 0.0  # the largest global norm of a player's gradient; 0 for no bound
    average: float = 0.0  # decay of a running average of G, which samples are then drawn from; 0 for none


def check_game(config: Any, *, images: bool, batch_norm: bool, layer_norm: bool = False) -> None:
    """Raises UserError for values that cannot be run, or do not go together.

    images: whether the examples are. batch_norm, layer_norm: whether D has such layers.
    """
    check_positive(config, "penalty_weight", "critic_steps")
    check_not_negative(config, "consistency", "clip")
    check_share(config, "average")
    idle = [name for name in ("penalty_at", "penalty_weight") if name in given(config)]
    if config.penalty == "none" and idle:
        raise UserError(f"{idle[0]} is of a penalty: choose penalty one_centred or zero_centred")
    bounded = config.spectral_norm or (config.penalty != "none" and config.penalty_at == "between")
    if config.loss == "wasserstein" and not bounded:
        also = ", in a discriminator without BatchNorm (normalization none or layer)" if batch_norm else ""
        raise UserError(
            f"loss wasserstein takes a penalty between real and fake, or spectral_norm{also}: else D only grows"
        )
    if config.penalty != "none" and batch_norm:
        raise UserError(
            f"penalty {config.penalty} takes a discriminator without BatchNorm (normalization layer or none): it is of "
            "each example's own gradient, which BatchNorm mixes over the batch"
        )
    if config.spectral_norm and (batch_norm or layer_norm):
        raise UserError("spectral_norm takes normalization none: any other undoes a kernel's scale")
    if config.batches == "joint" and not batch_norm:
        raise UserError("batches joint is for a discriminator with BatchNorm: without it nothing is shared in a batch")
    for name in ("augment", "consistency"):
        if getattr(config, name) and not images:
            raise UserError(f"{name} is for images, which can be shifted: not for points")


class Judged(NamedTuple):
    """What D puts out of examples."""

    logits: Array  # [batch, heads], of being real: one head, or one for each of several discriminators
    codes: PyTree = None  # what it says of the latents, where it says anything


class Nets(NamedTuple):
    """A model's part of its game; `extra` is the state's, with both nets' running averages by player."""

    init: Callable[[Key, Batch], dict[str, PyTree]]  # -> flax variables by player
    real: Callable[[Batch], Array]  # -> real examples as D sees them, float32 [n, ...]
    draw: Callable[[Key, Batch], PyTree]  # -> what G makes examples of, as many as the batch has
    generate: Callable[[PyTree, PyTree, PyTree], tuple[Array, PyTree]]
    """(params, extra, drawn) -> fake examples as D sees them, G's running averages moved by them."""
    discriminate: Callable[[Key, PyTree, PyTree, Array, Batch], tuple[Judged, PyTree]]
    """(key, params, extra, examples, batch) -> what D puts out, its running averages moved by the examples."""
    information: Callable[[Judged, PyTree], Array] | None = None
    """(what D puts out of fakes, what they were drawn from) -> [batch], nats; what both players make large."""
    heads: Mapping[str, float] = MappingProxyType({"": 1.0})
    """Of D, one or several discriminators in one: what the names of their metrics begin with, weights in G's loss."""
    look: Callable[[Array], dict[str, Array]] = lambda x: {}  # (examples) -> metrics of them alone
    signed: bool = True  # images as D sees them are in [-1, 1], else in [0, 1]


class Fakes(NamedTuple):
    """Examples that G made in a step."""

    x: Array  # [n, ...]
    drawn: PyTree  # of what
    pullback: Callable  # (cotangent of x) -> (gradient of G's parameters,)
    averages: PyTree  # G's running averages, moved


class Game(NamedTuple):
    """The parts of a step, and the step."""

    init: Callable[[Key, Batch], State]
    generate: Callable[[Key, State, Batch], Fakes]
    discriminator_turn: Callable  # (key, state, batch, fakes) -> State, metrics; moves D only
    generator_loss: Callable  # (key, state, batch, fakes) -> (loss, what it is made of), gradient of the fakes
    generator_turn: Callable  # (key, state, batch, fakes, past=state) -> State, metrics; moves G only, by D of `past`
    step: Callable[[Key, State, Batch], tuple[State, dict[str, Array]]]


def game(
    config: Any,
    nets: Nets,
    optimizers: dict[str, optax.GradientTransformation],
    unrolled: int = 0,
    at_once: bool = False,
) -> Game:
    """The game of `nets`, by the fields of GameConfig.

    optimizers: of "generator" and "discriminator". unrolled: steps of D that G's loss looks ahead, on this step's
    examples, with G's gradient flowing through them; Metz et al. 2017, https://arxiv.org/abs/1611.02163, equation 10.
    at_once: D's last turn and G's start from the same players, as in the code of Goodfellow et al. 2014; else G's is
    past D as just updated.
    """
    losses = LOSSES[config.loss]
    if config.clip:
        optimizers = {p: optax.chain(optax.clip_by_global_norm(config.clip), o) for p, o in optimizers.items()}

    def init(key, batch):
        k_nets, k_vectors = jax.random.split(key)
        variables = nets.init(k_nets, batch)
        params = {player: v["params"] for player, v in variables.items()}
        # Without BatchNorm a net has no averages.
        extra = {player: v.get("batch_stats", {}) for player, v in variables.items()}
        if config.spectral_norm:
            extra["vectors"] = singular_vectors(k_vectors, params["discriminator"])
        if config.average:
            extra["average"] = {"params": params["generator"], "batch_stats": extra["generator"]}
        opt_state = {player: optimizers[player].init(p) for player, p in params.items()}
        return State(jnp.int32(0), params, opt_state, extra)

    def generate(key, state, batch):
        drawn = nets.draw(key, batch)
        x, pullback, averages = jax.vjp(
            lambda params: nets.generate(params, state.extra, drawn), state.params["generator"], has_aux=True
        )
        return Fakes(x, drawn, pullback, averages)

    def normalised_kernels(params, extra):
        """(D's parameters as its layers use them, `extra` after one step of the spectral norm's iteration)."""
        if not config.spectral_norm:
            return params, extra
        params, vectors = spectrally_normalised(params, extra["vectors"])
        return params, {**extra, "vectors": vectors}

    def altered(key, x, policy):
        """`augmented`, which is of images in [-1, 1]."""
        if not policy:
            return x
        return augmented(key, x, policy) if nets.signed else (augmented(key, 2 * x - 1, policy) + 1) / 2

    def shown(key, real, fake):
        """Examples as D sees them: with `augment`, each altered."""
        return [altered(k, x, config.augment) for k, x in zip(jax.random.split(key), (real, fake), strict=True)]

    def judge(key, params, extra, real, fake, batch):
        """(what D puts out of real and of fake examples, `extra` with its running averages moved)."""
        keys = jax.random.split(key)
        if config.batches == "joint":
            both = jax.tree.map(lambda entry: jnp.concatenate([entry, entry]), batch)
            judged, averages = nets.discriminate(keys[0], params, extra, jnp.concatenate([real, fake]), both)
            of_real, of_fake = (jax.tree.map(lambda out, i=i: jnp.split(out, 2)[i], judged) for i in (0, 1))
        else:
            of_real, averages = nets.discriminate(keys[0], params, extra, real, batch)
            extra = {**extra, "discriminator": averages}
            of_fake, averages = nets.discriminate(keys[1], params, extra, fake, batch)
        return of_real, of_fake, {**extra, "discriminator": averages}

    def discriminator_loss(params, key, state, batch, fakes):
        """(what D makes small, (metrics, `extra` moved))."""
        k_shown, k_judge, k_penalty, k_consistency, k_critic = jax.random.split(key, 5)
        params, extra = normalised_kernels(params, state.extra)
        real, fake = shown(k_shown, nets.real(batch), fakes.x)
        of_real, of_fake, moved = judge(k_judge, params, extra, real, fake, batch)
        value = losses.discriminator(of_real.logits, of_fake.logits).mean(0).sum()
        metrics = {"discriminator_loss": value}
        for name, judged in (("real", of_real), ("fake", of_fake)):
            for head, logits in zip(nets.heads, judged.logits.T, strict=True):
                metrics[f"{head}{name}_score"] = losses.output(logits).mean()
                if losses.boundary is not None:
                    right = (logits > losses.boundary) == (name == "real")
                    metrics[f"{head}{name}_accuracy"] = right.astype(jnp.float32).mean()

        def critic(x):  # one function: of all examples with the same draws of dropout
            return nets.discriminate(k_critic, params, extra, x, batch)[0].logits

        if config.penalty != "none":
            at = penalised_at(k_penalty, config.penalty_at, real, fake)
            penalty = PENALTIES[config.penalty]  # each head has a gradient of its own
            metrics["penalty"] = sum(penalty(lambda x, i=i: critic(x)[:, i], at).mean() for i in range(len(nets.heads)))
            value += config.penalty_weight * metrics["penalty"]
        if config.consistency:
            keys = jax.random.split(k_consistency)
            shifted = [altered(k, x, ("translation",)) for k, x in zip(keys, (real, fake), strict=True)]
            changes = [(critic(x) - critic(y)) ** 2 for x, y in zip((real, fake), shifted, strict=True)]
            metrics["consistency"] = sum(change.sum(1).mean() for change in changes)
            value += config.consistency * metrics["consistency"]
        if nets.information:
            metrics["information"] = nets.information(of_fake, fakes.drawn).mean()
            value -= metrics["information"]
        return value, (metrics, moved)

    def move(player, gradients, state):
        """`state` after one optimizer step of one player."""
        params, opt_state = descend(optimizers[player], gradients, state.opt_state[player], state.params[player])
        return state._replace(params={**state.params, player: params}, opt_state={**state.opt_state, player: opt_state})

    def discriminator_turn(key, state, batch, fakes):
        gradients, (metrics, extra) = jax.grad(discriminator_loss, has_aux=True)(
            state.params["discriminator"], key, state, batch, fakes
        )
        metrics |= {"discriminator_gradient": optax.tree.norm(gradients)}
        return move("discriminator", gradients, state)._replace(extra=extra), metrics

    def generator_loss(key, state, batch, fakes):
        k_shown, k_judge, k_ahead = jax.random.split(key, 3)

        def loss(x):
            these = fakes._replace(x=x)

            def ahead(state, key):
                return discriminator_turn(key, state, batch, these)[0]._replace(extra=state.extra), None

            # Unrolled in the program too: a fifth faster on a CPU than a loop.
            keys = jax.random.split(k_ahead, unrolled)
            later = jax.lax.scan(ahead, state, keys, unroll=True)[0] if unrolled else state
            params, extra = normalised_kernels(later.params["discriminator"], later.extra)
            real, fake = shown(k_shown, nets.real(batch), x)
            if config.batches == "joint":
                judged = judge(k_judge, params, extra, real, fake, batch)[1]
            else:
                judged, _ = nets.discriminate(k_judge, params, extra, fake, batch)
            value = (losses.generator(judged.logits).mean(0) * jnp.array(list(nets.heads.values()))).sum()
            gain = nets.information(judged, fakes.drawn).mean() if nets.information else 0.0
            return value - gain, value

        return jax.value_and_grad(loss, has_aux=True)(fakes.x)

    def generator_turn(key, state, batch, fakes, past=None):
        (_, value), cotangent = generator_loss(key, past or state, batch, fakes)
        (gradients,) = fakes.pullback(cotangent)
        metrics = {"generator_loss": value, "generator_gradient": optax.tree.norm(gradients)}
        return move("generator", gradients, state), metrics

    def step(key, state, batch):
        parts = jax.tree.map(lambda entry: entry.reshape(config.critic_steps, -1, *entry.shape[1:]), dict(batch))
        keys = jax.random.split(key, (config.critic_steps, 3))

        def earlier(state, turn):
            (k_drawn, k_turn, _), part = turn
            return discriminator_turn(k_turn, state, part, generate(k_drawn, state, part))[0], None

        if config.critic_steps > 1:
            state, _ = jax.lax.scan(earlier, state, (keys[:-1], jax.tree.map(lambda entry: entry[:-1], parts)))
        # One forward pass of G serves D's last turn and G's: D learns on these fakes, then G is pulled
        # back through them.
        k_drawn, k_turn, k_generator = keys[-1]
        part = jax.tree.map(lambda entry: entry[-1], parts)
        fakes = generate(k_drawn, state, part)
        before = state
        state, metrics = discriminator_turn(k_turn, state, part, fakes)
        state, of_generator = generator_turn(k_generator, state, part, fakes, before if at_once else state)
        state = state._replace(extra={**state.extra, "generator": fakes.averages})
        if config.average:
            newest = {"params": state.params["generator"], "batch_stats": fakes.averages}
            average = optax.incremental_update(newest, state.extra["average"], 1 - config.average)
            state = state._replace(extra={**state.extra, "average": average})
        real = nets.real(part)
        spread = {}  # one example has none
        if len(real) > 1:
            spread["spread"] = _spread(fakes.x) / jnp.maximum(_spread(real), 1e-8)
        looked = nets.look(fakes.x) | {f"real_{name}": value for name, value in nets.look(real).items()}
        return state, metrics | of_generator | spread | looked

    return Game(init, generate, discriminator_turn, generator_loss, generator_turn, step)


def _spread(x: Array) -> Array:
    """The variance of examples [n, ...] over the batch, summed over their numbers."""
    return ((x - x.mean(0)) ** 2).mean(0).sum()


def passed(module: nn.Module, params: PyTree, averages: PyTree, *given: Any, key: Key | None = None) -> tuple:
    """(a net's output while training, its running averages moved); `key` draws its dropout."""
    out, moved = module.apply(
        {"params": params, "batch_stats": averages},
        *given,
        training=True,
        mutable=["batch_stats"],
        rngs=None if key is None else {"dropout": key},
    )
    return out, moved.get("batch_stats", {})


def sampled_from(config: GameConfig, state: State) -> PyTree:
    """The variables of G that samples are drawn with."""
    newest = {"params": state.params["generator"], "batch_stats": state.extra["generator"]}
    return state.extra["average"] if config.average else newest


def sampled_by(config: GameConfig, draw: str, batch_norm: bool = True) -> str:
    """How samples are drawn, for people: `draw` is G of what, e.g. G(z). batch_norm: whether G has such layers."""
    averaged = "the averaged " if config.average else ""
    return averaged + draw + (" with BatchNorm's running averages" if batch_norm else "")


def worries(metrics: dict[str, float]) -> list[str]:
    """What a row's means give to worry about, a line each: `Model.worries` of every GAN."""
    found = []
    for head in [name.removesuffix("real_accuracy") for name in metrics if name.endswith("real_accuracy")]:
        if min(metrics[f"{head}{name}_accuracy"] for name in ("real", "fake")) > SURE:
            which = f"{head.replace('_', ' ')}discriminator"
            found.append(f"the {which} has won: it tells over 99% of real and of fake examples apart")
    if metrics.get("spread", 1.0) < ALIKE:
        found.append("the samples have collapsed: they vary less than a twentieth as much as real ones")
    elif metrics.get("modes", 1.0) < FEW * metrics.get("real_modes", 1.0):
        found.append("modes are missing: samples fall on fewer than half as many as real examples")
    return found


SURE, ALIKE = 0.99, 0.05
"""D's accuracy over which it has won; of real examples' variance, the share under which G has collapsed."""
