"""Turns of the players of a GAN, and the options common to all GANs.

A GAN gives its nets as functions (`Nets`); `turns` makes the players' turns from them. Each model's `step` shows the
order of its turns, as its paper defines it.

    earlier_critic_turns   updates D before its last update, each time on its own part of the batch and new fakes
    generate               makes fakes, by one forward pass of G that serves the turns of both players
    discriminator_turn     updates D once: the loss, the penalty on D's gradient, consistency
    generator_turn         updates G once, against D as just updated or as it was before
    finished               updates G's running averages

Goodfellow et al. 2014's algorithm 1, and WGAN's, update D `critic_steps` times for one update of G, each time on new
real examples. One step divides its batch among these updates, so the papers' batch size is `batch_size` /
`critic_steps`.

BatchNorm: real and fake examples are separate batches of D, and update its running averages in this order. With
`batches` joint they are one batch, in G's turn too, so that D is the same function in both. G's turn uses D with its
batch's own statistics and updates neither D's running averages nor its spectral norm's vectors; D's turns do not
update G's. Samples use G's running averages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.adversarial.augmentation import SHIFT, Augmentation, augmented
from jaxgen.adversarial.losses import LOSSES, PENALTIES, LossName, PenaltyName, PenaltyPlace, penalized_at
from jaxgen.adversarial.spectral import singular_vectors, spectrally_normalized
from jaxgen.config import given
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.model import Array, Batch, Key, PyTree, Spec, State
from jaxgen.nn.optimizer import descend


@dataclass(frozen=True)
class AdversarialConfig:
    """Options common to all GANs."""

    loss: LossName = "non_saturating"  # of both players
    penalty: PenaltyName = "none"  # on D's gradient: (norm - 1)^2, as in WGAN-GP, or half its square, as in R1 and R2
    penalty_at: PenaltyPlace = "between"  # on real (R1) or fake (R2) examples, or between a pair of both
    penalty_weight: float = 10.0  # lambda of WGAN-GP, gamma of R1 and R2
    consistency: float = 0.0  # weight of (D(x) - D(T(x)))^2, T a shift by up to an eighth: bCR, arXiv 2002.04724
    drift: float = 0.0  # weight of the square of D's mean output for real examples, which keeps it near 0
    augment: tuple[Augmentation, ...] = ()  # DiffAugment of all images that D sees, in both turns
    translation_ratio: float = SHIFT  # of that: maximum shift, as a share of the image's side
    cutout_probability: float = 1.0  # of that: probability of cutting out, from all images judged at once or none
    spectral_norm: bool = False  # D's kernels are divided by their largest singular values
    batches: Literal["separate", "joint"] = "separate"  # of real and fake examples, for BatchNorm in D
    critic_steps: int = 1  # updates of D per update of G, each on its own equal part of the batch
    clip: float = 0.0  # maximum global norm of a player's gradient; 0 for no bound
    average: float = 0.0  # decay of a running average of G, used for samples; 0 for none
    average_half_life: float = 0.0  # of such an average, in updates of G, in place of its decay; 0 for none
    average_warmup: float = 0.0  # maximum of that half-life, as a share of the updates so far; 0 for no maximum


def check_adversarial(config: Any, spec: Spec, *, batch_norm: bool, layer_norm: bool = False, packing: int = 1) -> None:
    """Raises UserError for invalid or incompatible values.

    batch_norm, layer_norm: True if D has such layers. packing: examples that D judges at once.
    """
    check_positive(config, "penalty_weight", "critic_steps")
    check_not_negative(config, "consistency", "drift", "clip", "average_half_life", "average_warmup")
    check_share(config, "average", "translation_ratio")
    if not 0 < config.cutout_probability <= 1:
        raise UserError(f"cutout_probability must be above 0 and at most 1, not {config.cutout_probability}")
    for name, transformation in (("translation_ratio", "translation"), ("cutout_probability", "cutout")):
        if name in given(config) and transformation not in config.augment:
            raise UserError(f"{name} only applies with --augment {transformation}")
    if config.average and config.average_half_life:
        raise UserError("average and average_half_life are two ways to set one average: choose one")
    if "average_warmup" in given(config) and not config.average_half_life:
        raise UserError("average_warmup only applies with an average_half_life")
    idle = [name for name in ("penalty_at", "penalty_weight") if name in given(config)]
    if config.penalty == "none" and idle:
        raise UserError(f"{idle[0]} only applies with a penalty: choose penalty one_centered or zero_centered")
    bounded = config.spectral_norm or (config.penalty != "none" and config.penalty_at == "between")
    if config.loss == "wasserstein" and not bounded:
        also = ", in a discriminator without BatchNorm (normalization none or layer)" if batch_norm else ""
        raise UserError(
            f"loss wasserstein takes a penalty between real and fake, or spectral_norm{also}: else D is unbounded"
        )
    if config.penalty != "none" and batch_norm:
        raise UserError(
            f"penalty {config.penalty} takes a discriminator without BatchNorm (normalization layer or none): it uses "
            "each example's own gradient, which BatchNorm mixes over the batch"
        )
    if config.spectral_norm and (batch_norm or layer_norm):
        raise UserError("spectral_norm takes normalization none: any other undoes a kernel's scale")
    if config.batches == "joint" and not batch_norm:
        raise UserError("batches joint is for a discriminator with BatchNorm: without it nothing is shared in a batch")
    for name in ("augment", "consistency"):
        if getattr(config, name) and spec.subject != "image":
            raise UserError(f"{name} is for images, which can be shifted: not for {spec.subject}s")
    parts = config.critic_steps * packing
    if spec.batch_size % parts:
        of = " * packing" if packing > 1 else ""
        raise UserError(f"batch_size must be a multiple of {parts} (critic_steps{of}), not {spec.batch_size}")


class Judged(NamedTuple):
    """D's output for examples."""

    logits: Array  # [batch, heads], of being real; one head per discriminator
    codes: PyTree = None  # its inference of the latents, if it makes one


class Nets(NamedTuple):
    """A GAN's nets as functions; `extra` is the state's, with the running averages of each player's net."""

    init: Callable[[Key], dict[str, PyTree]]  # -> flax variables by player
    real: Callable[[Batch], Array]  # -> real examples as D sees them, float32 [n, ...]
    draw: Callable[[Key, Batch], PyTree]  # -> latents that G makes examples from, as many as the batch has
    generate: Callable[[PyTree, PyTree, PyTree], tuple[Array, PyTree]]
    """(params, extra, drawn) -> fake examples as D sees them, G's running averages updated by them."""
    discriminate: Callable[[Key, PyTree, PyTree, Array, Batch], tuple[Judged, PyTree]]
    """(key, params, extra, examples, batch) -> D's output, its running averages updated by the examples."""
    sample: Callable[[PyTree, PyTree], Array]
    """(G's flax variables, latents) -> examples [num, ...], with BatchNorm's running averages."""
    information: Callable[[Judged, PyTree], Array] | None = None
    """(D's output for fakes, their latents) -> [batch], nats; both players maximize it."""
    heads: Mapping[str, float] = MappingProxyType({"": 1.0})
    """Map from the prefix of each discriminator's metrics to its weight in G's loss."""
    mismatched: Callable[[Batch], Batch] | None = None
    """(batch) -> the batch with the conditions of other examples. D learns to reject real examples given those, as it
    rejects fakes, each with half the weight; Reed et al. 2016, https://arxiv.org/abs/1605.05396, algorithm 1."""
    regularizer: Callable[[PyTree, PyTree], tuple[Array, dict[str, Array]]] | None = None
    """(G's parameters, latents) -> (what G minimizes beside its loss, metrics)."""
    look: Callable[[Array], dict[str, Array]] = lambda x: {}  # (examples) -> metrics of these examples alone
    signed: bool = True  # True if images as D sees them are in [-1, 1], else in [0, 1]


class Fakes(NamedTuple):
    """Examples that G made in a step."""

    x: Array  # [n, ...]
    drawn: PyTree  # latents they were made from
    pullback: Callable  # (cotangent of x) -> (gradient of G's parameters,)
    averages: PyTree  # G's running averages, updated


class Turns(NamedTuple):
    """The parts of a step."""

    init: Callable[[Key], State]
    earlier_critic_turns: Callable[[Key, State, Batch], tuple[State, tuple[Key, Key, Key], Batch]]
    """(key, state, batch) -> state after all updates of D but the last; the keys of `generate` and of both last turns;
    the part of the batch that is left for them, all of it if `critic_steps` is 1."""
    generate: Callable[[Key, State, Batch], Fakes]
    discriminator_turn: Callable  # (key, state, batch, fakes) -> State, metrics; updates D only
    generator_turn: Callable  # (key, state, batch, fakes, past=state) -> State, metrics; updates G only, by D of `past`
    finished: Callable[[State, Fakes], State]  # updates G's running averages, and the average of G
    compared: Callable[[Batch, Fakes], dict[str, Array]]  # metrics of fakes beside real examples
    sampled: Callable[[State, PyTree], Array]  # (state, latents) -> examples by the G used for samples
    generator_loss: Callable  # (key, state, batch, fakes) -> (loss with information, loss), gradient of the fakes


def turns(config: Any, nets: Nets, optimizers: dict[str, optax.GradientTransformation], unrolled: int = 0) -> Turns:
    """Makes the turns of `nets` by the fields of AdversarialConfig.

    optimizers: of "generator" and "discriminator". unrolled: updates of D that G's loss looks ahead, on this step's
    examples, with G's gradient flowing through them; Metz et al. 2017, https://arxiv.org/abs/1611.02163, equation 10.
    """
    losses = LOSSES[config.loss]
    if config.clip:
        optimizers = {p: optax.chain(optax.clip_by_global_norm(config.clip), o) for p, o in optimizers.items()}

    def init(key):
        k_nets, k_vectors = jax.random.split(key)
        variables = nets.init(k_nets)
        params = {player: v["params"] for player, v in variables.items()}
        # A net without BatchNorm has no averages.
        extra = {player: v.get("batch_stats", {}) for player, v in variables.items()}
        if config.spectral_norm:
            extra["vectors"] = singular_vectors(k_vectors, params["discriminator"])
        if averages_generator(config):
            extra["average"] = {"params": params["generator"], "batch_stats": extra["generator"]}
        if config.average_half_life:
            extra["updates"] = jnp.int32(0)
        opt_state = {player: optimizers[player].init(p) for player, p in params.items()}
        return State(jnp.int32(0), params, opt_state, extra)

    def generate(key, state, batch):
        drawn = nets.draw(key, batch)
        x, pullback, averages = jax.vjp(
            lambda params: nets.generate(params, state.extra, drawn), state.params["generator"], has_aux=True
        )
        return Fakes(x, drawn, pullback, averages)

    def normalized_kernels(params, extra):
        """Returns (D's parameters as its layers use them, `extra` after one step of the spectral norm's iteration)."""
        if not config.spectral_norm:
            return params, extra
        params, vectors = spectrally_normalized(params, extra["vectors"])
        return params, {**extra, "vectors": vectors}

    def altered(key, x, policy, *strength):
        """Applies a policy of `augmented`, which takes images in [-1, 1]."""
        if not policy:
            return x
        if nets.signed:
            return augmented(key, x, policy, *strength)
        return (augmented(key, 2 * x - 1, policy, *strength) + 1) / 2

    def shown(key, real, fake):
        """Returns examples as D sees them: each altered if there is an `augment`."""
        policy = config.augment, config.translation_ratio, config.cutout_probability
        return [altered(k, x, *policy) for k, x in zip(jax.random.split(key), (real, fake), strict=True)]

    def judge(key, params, extra, real, fake, batch):
        """Returns (D's output by what it judges: real, fake and, if there are any, wrong pairs; `extra` updated)."""
        pairs = {"real": (real, batch), "fake": (fake, batch)}
        if nets.mismatched:
            pairs["wrong"] = real, nets.mismatched(batch)
        keys, judged = jax.random.split(key, len(pairs)), {}
        if config.batches == "joint":
            every = jax.tree.map(lambda *entries: jnp.concatenate(entries), *pairs.values())
            out, averages = nets.discriminate(keys[0], params, extra, *every)
            for i, name in enumerate(pairs):
                judged[name] = jax.tree.map(lambda leaf, i=i: jnp.split(leaf, len(pairs))[i], out)
            return judged, {**extra, "discriminator": averages}
        for key, (name, pair) in zip(keys, pairs.items(), strict=True):
            judged[name], averages = nets.discriminate(key, params, extra, *pair)
            extra = {**extra, "discriminator": averages}
        return judged, extra

    def discriminator_loss(params, key, state, batch, fakes):
        """Returns (the loss that D minimizes, (metrics, `extra` updated))."""
        k_shown, k_judge, k_penalty, k_consistency, k_critic = jax.random.split(key, 5)
        params, extra = normalized_kernels(params, state.extra)
        real, fake = shown(k_shown, nets.real(batch), fakes.x)
        judged, moved = judge(k_judge, params, extra, real, fake, batch)
        rejected = [out.logits for name, out in judged.items() if name != "real"]
        value = sum(losses.discriminator(judged["real"].logits, logits).mean(0).sum() for logits in rejected)
        value /= len(rejected)
        metrics = {"discriminator_loss": value}
        for name, out in judged.items():
            for head, logits in zip(nets.heads, out.logits.T, strict=True):
                metrics[f"{head}{name}_score"] = losses.output(logits).mean()
                if losses.boundary is not None:
                    right = (logits > losses.boundary) == (name == "real")
                    metrics[f"{head}{name}_accuracy"] = right.astype(jnp.float32).mean()

        def critic(x):  # one function of all examples, with the same draws of dropout
            return nets.discriminate(k_critic, params, extra, x, batch)[0].logits

        if config.penalty != "none":
            at = penalized_at(k_penalty, config.penalty_at, real, fake)
            penalty = PENALTIES[config.penalty]  # each head has its own gradient
            metrics["penalty"] = sum(penalty(lambda x, i=i: critic(x)[:, i], at).mean() for i in range(len(nets.heads)))
            value += config.penalty_weight * metrics["penalty"]
        if config.drift:
            metrics["drift"] = (judged["real"].logits.mean(0) ** 2).sum()
            value += config.drift * metrics["drift"]
        if config.consistency:
            keys = jax.random.split(k_consistency)
            shifted = [altered(k, x, ("translation",)) for k, x in zip(keys, (real, fake), strict=True)]
            changes = [(critic(x) - critic(y)) ** 2 for x, y in zip((real, fake), shifted, strict=True)]
            metrics["consistency"] = sum(change.sum(1).mean() for change in changes)
            value += config.consistency * metrics["consistency"]
        if nets.information:
            metrics["information"] = nets.information(judged["fake"], fakes.drawn).mean()
            value -= metrics["information"]
        return value, (metrics, moved)

    def move(player, gradients, state):
        """Returns `state` after one optimizer step of one player."""
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
            params, extra = normalized_kernels(later.params["discriminator"], later.extra)
            real, fake = shown(k_shown, nets.real(batch), x)
            if config.batches == "joint":
                judged = judge(k_judge, params, extra, real, fake, batch)[0]["fake"]
            else:
                judged, _ = nets.discriminate(k_judge, params, extra, fake, batch)
            value = (losses.generator(judged.logits).mean(0) * jnp.array(list(nets.heads.values()))).sum()
            gain = nets.information(judged, fakes.drawn).mean() if nets.information else 0.0
            return value - gain, value

        return jax.value_and_grad(loss, has_aux=True)(fakes.x)

    def generator_turn(key, state, batch, fakes, past=None):
        (_, value), cotangent = generator_loss(key, past or state, batch, fakes)
        (gradients,) = fakes.pullback(cotangent)
        more = {}
        if nets.regularizer:
            own, more = jax.grad(nets.regularizer, has_aux=True)(state.params["generator"], fakes.drawn)
            gradients = jax.tree.map(jnp.add, gradients, own)
        metrics = {"generator_loss": value, "generator_gradient": optax.tree.norm(gradients), **more}
        return move("generator", gradients, state), metrics

    def earlier_critic_turns(key, state, batch):
        parts = jax.tree.map(lambda entry: entry.reshape(config.critic_steps, -1, *entry.shape[1:]), dict(batch))
        keys = jax.random.split(key, (config.critic_steps, 3))

        def earlier(state, turn):
            (k_drawn, k_turn, _), part = turn
            return discriminator_turn(k_turn, state, part, generate(k_drawn, state, part))[0], None

        if config.critic_steps > 1:
            state, _ = jax.lax.scan(earlier, state, (keys[:-1], jax.tree.map(lambda entry: entry[:-1], parts)))
        return state, tuple(keys[-1]), jax.tree.map(lambda entry: entry[-1], parts)

    def finished(state, fakes):
        state = state._replace(extra={**state.extra, "generator": fakes.averages})
        if averages_generator(config):
            newest = {"params": state.params["generator"], "batch_stats": fakes.averages}
            share = share_of_newest(config, state.extra["updates"]) if config.average_half_life else 1 - config.average
            average = optax.incremental_update(newest, state.extra["average"], share)
            state = state._replace(extra={**state.extra, "average": average})
        if config.average_half_life:
            state = state._replace(extra={**state.extra, "updates": state.extra["updates"] + 1})
        return state

    def compared(batch, fakes):
        real = nets.real(batch)
        spread = {}  # a single example has none
        if len(real) > 1:
            spread["spread"] = _spread(fakes.x) / jnp.maximum(_spread(real), 1e-8)
        return spread | nets.look(fakes.x) | {f"real_{name}": value for name, value in nets.look(real).items()}

    def sampled(state, latents):
        newest = {"params": state.params["generator"], "batch_stats": state.extra["generator"]}
        return nets.sample(state.extra["average"] if averages_generator(config) else newest, latents)

    return Turns(
        init,
        earlier_critic_turns,
        generate,
        discriminator_turn,
        generator_turn,
        finished,
        compared,
        sampled,
        generator_loss,
    )


def _spread(x: Array) -> Array:
    """Variance of examples [n, ...] over the batch, summed over their numbers."""
    return ((x - x.mean(0)) ** 2).mean(0).sum()


def averages_generator(config: AdversarialConfig) -> bool:
    """True if samples come from a running average of G."""
    return bool(config.average or config.average_half_life)


def share_of_newest(config: AdversarialConfig, updates: Array) -> Array:
    """Weight of the newest G in its average after so many earlier updates: 1 - 2^(-1 / half-life).

    The half-life is at most `average_warmup` of these updates, so that the first ones are soon forgotten.
    """
    half_life = jnp.float32(config.average_half_life)
    if config.average_warmup:
        half_life = jnp.minimum(half_life, config.average_warmup * updates.astype(jnp.float32))
    return -jnp.expm1(-np.float32(np.log(2)) / half_life)


def passed(module: nn.Module, params: PyTree, averages: PyTree, *given: Any, key: Key | None = None) -> tuple:
    """Returns (a net's output while training, its running averages updated); `key` draws its dropout."""
    out, moved = module.apply(
        {"params": params, "batch_stats": averages},
        *given,
        training=True,
        mutable=["batch_stats"],
        rngs=None if key is None else {"dropout": key},
    )
    return out, moved.get("batch_stats", {})


def sampling_note(config: AdversarialConfig, draw: str, batch_norm: bool = True) -> str:
    """Description of how samples are drawn; `draw` is, e.g., "G(z)". batch_norm: True if G has such layers."""
    averaged = "the averaged " if averages_generator(config) else ""
    return averaged + draw + (" with BatchNorm's running averages" if batch_norm else "")
