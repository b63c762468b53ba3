"""StackGAN: Zhang et al. 2017, https://arxiv.org/abs/1612.03242, text to images in two stages.

    t     code of the caption, from a text encoder that is trained first and then frozen
    c     N(mu(t), diag sigma(t)^2), conditioning augmentation; each stage has its own mu and sigma   (section 3.2)
    L_D = -log D(x, t) - 1/2 log(1 - D(x, t')) - 1/2 log(1 - D(G, t)),  t' of another image     (equations 3 and 5)
    L_G = -log D(G, t) + kl KL(N(mu(t), diag sigma(t)^2) || N(0, I))                            (equations 4 and 6)

or another `loss` for both players. Stage I draws small images, G(z, c). Stage II is given Stage I's image and the
caption once more, but no z, and draws the whole image; Stage I is frozen then, with BatchNorm's running averages.
t' is the code of the next example of the batch: for captions as general as "a red circle" it can be true by chance.

The nets are in `jaxgen.models.stackgan_nets`, and the text encoder, in place of the authors' trained on other data, in
`jaxgen.nn.text`. Images for Stage I are shrunk by means. The authors' weight of KL, 2 on the mean over c's 128
numbers, is 1/64 on their sum.

The paper's sizes, for images of 256x256 with captions in FOLDER:

    jaxgen train stackgan --dataset image_folder --data-from FOLDER --image-size 256 --features 128
        --discriminator-features 64 --scale 4 --word-dim 300 --blocks 4 --halvings 2 --batch-size 64 --steps 500000
        --stage1-steps 80000 --halve-every 7000
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
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
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.model import Latents, Model, Phase, Prior, Sampler, Spec, State
from jaxgen.models.stackgan_nets import SMALLEST, Discriminator, Generator, drawn
from jaxgen.nn.image import from_unit, pyramid, to_signed
from jaxgen.nn.normalization import NormalizationName
from jaxgen.nn.optimizer import descend
from jaxgen.nn.text import Matching, matching_losses

CLIP = 0.25
"""Largest norm of the text encoder's gradient."""


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """A StackGAN."""

    stages: Literal["two", "first", "one"] = "two"  # both; Stage I alone, its images enlarged; one, of whole images
    scale: int = 2  # of Stage II: pixels a side for each of Stage I's; 4 in the paper
    text_steps: int = 2000  # of the text encoder, before the stages
    stage1_steps: int = 10_000  # of stages two: of Stage I, before Stage II
    word_dim: int = 64  # of an embedded word
    text_dim: int = 128  # of a caption's code
    text_learning_rate: float = 2e-3  # of the text encoder's Adam
    latent_dim: int = 100  # of z
    condition_dim: int = 128  # of c
    augmentation: Literal["always", "training", "none"] = "always"  # c drawn; drawn in training only; or mu(t) itself
    kl: float = 1 / 64  # weight of c's divergence from N(0, I), per nat
    wrong_pairs: Literal["half", "none"] = "half"  # real images with captions of others, among those D is to reject
    features: int = 32  # least channels of G's maps but for the last; 128 in the paper
    discriminator_features: int | None = None  # channels of D's largest map; as many if not given, 64 in the paper
    blocks: int = 2  # residual, of Stage II; 4 in the paper
    halvings: int = 1  # of Stage I's image in Stage II, before the blocks; 2 in the paper
    normalization: NormalizationName = "batch"  # of D's inner layers; G's is BatchNorm
    generator_learning_rate: float = 2e-4  # of Adam
    discriminator_learning_rate: float = 2e-4  # of Adam
    halve_every: int | None = None  # steps of a stage after which its learning rates are halved, again and again
    beta1: float = 0.5  # of Adam
    beta2: float = 0.999  # of Adam


def stage(config: Config, spec: Spec, shape: tuple[int, int, int], given: tuple[int, int, int] | None) -> Turns:
    """The turns of a stage that makes images of `shape`, in Stage II from Stage I's, of the shape `given`."""
    generator = Generator(config, shape, spec.compute_dtype)
    discriminator = Discriminator(config, spec.compute_dtype)
    factor = spec.image_shape[0] // shape[0]

    def init(key):
        k_generator, k_discriminator = jax.random.split(key)
        code, noise = jnp.zeros((1, config.text_dim)), jnp.zeros((1, config.latent_dim + config.condition_dim))
        first = [jnp.zeros((1, *given))] if given else []
        return {
            "generator": drawn(k_generator, lambda key: generator.init(key, code, noise, *first, training=False)),
            "discriminator": drawn(
                k_discriminator, lambda key: discriminator.init(key, jnp.zeros((1, *shape)), code, training=False)
            ),
        }

    def real(batch):
        x = to_signed(batch["image"])
        blocks = x.reshape(len(x), shape[0], factor, shape[1], factor, shape[2])
        return x if factor == 1 else blocks.mean((2, 4))

    def draw(key, batch):  # the step has drawn the noise already: Stage II's image of Stage I depends on it
        return [batch[name] for name in ("code", "noise", "first") if name in batch]

    def generate(params, extra, given):
        return passed(generator, params, extra["generator"], *given)

    def discriminate(key, params, extra, x, batch):
        logits, averages = passed(discriminator, params, extra["discriminator"], x, batch["code"])
        return Judged(logits), averages

    def sample(variables, given):
        return generator.apply(variables, *given, training=False)

    def mismatched(batch):
        return {**batch, "code": jnp.roll(batch["code"], 1, axis=0)}

    def regularizer(params, given):
        kl = generator.apply({"params": params}, given[0], method="divergence").mean()
        return config.kl * kl, {"kl": kl}

    nets = Nets(
        init,
        real,
        draw,
        generate,
        discriminate,
        sample,
        mismatched=mismatched if config.wrong_pairs == "half" else None,
        regularizer=None if config.augmentation == "none" else regularizer,
    )

    def adam(rate):
        if config.halve_every:
            rate = optax.exponential_decay(rate, config.halve_every, 0.5, staircase=True)
        return optax.adam(rate, config.beta1, config.beta2)

    rates = {"generator": config.generator_learning_rate, "discriminator": config.discriminator_learning_rate}
    return turns(config, nets, {player: adam(rate) for player, rate in rates.items()})


def check(config: Config, spec: Spec) -> None:
    """Raises UserError for invalid values, and for images and batches that they do not fit."""
    check_positive(config, "scale", "text_steps", "stage1_steps", "word_dim", "text_dim", "text_learning_rate")
    check_positive(config, "latent_dim", "condition_dim", "features", "discriminator_features", "blocks", "halve_every")
    check_positive(config, "generator_learning_rate", "discriminator_learning_rate")
    check_not_negative(config, "kl", "halvings")
    check_share(config, "beta1", "beta2")
    check_idle(config, "stages", {"two": ("scale", "stage1_steps", "blocks", "halvings"), "first": ("scale",)})
    check_idle(config, "augmentation", {"always": ("kl",), "training": ("kl",)})
    norm = config.normalization
    check_adversarial(config, spec, batch_norm=norm == "batch", layer_norm=norm == "layer")
    if spec.batch_size < 2 * config.critic_steps:
        raise UserError(
            f"batch_size must be at least {2 * config.critic_steps}, two for each turn of D, not {spec.batch_size}: "
            "wrong captions are those of other images"
        )
    if config.text_dim % 2:
        raise UserError(f"text_dim must be even, half for each direction of reading, not {config.text_dim}")
    height, width, _ = spec.image_shape
    parts = 1 if config.stages == "one" else config.scale
    if config.stages != "one" and (config.scale & (config.scale - 1) or height % parts or width % parts):
        raise UserError(f"scale must be a power of two that divides images of {height}x{width}, not {config.scale}")
    if min(height, width) < 2 * SMALLEST * parts:
        small = f"scale {config.scale} needs" if parts > 1 else "stackgan makes"
        raise UserError(
            f"{small} images of at least {2 * SMALLEST * parts}x{2 * SMALLEST * parts}, not {height}x{width}"
        )
    if config.stages == "two" and (height // parts) % (1 << config.halvings):
        raise UserError(f"halvings must leave maps of Stage I's {height // parts} pixels whole, not {config.halvings}")


def make(config: Config, spec: Spec) -> Model:
    """The StackGAN for `spec`'s images and captions. Raises UserError as `check` does, or for an image size."""
    height, width, channels = spec.image_shape
    words = spec.entries["caption"].shape[0]
    check(config, spec)
    parts = 1 if config.stages == "one" else config.scale
    small = (height // parts, width // parts, channels)
    for shape in (small, spec.image_shape):
        pyramid(shape, SMALLEST, "stackgan")  # refuses a size before anything else
    plays = {"stage1": stage(config, spec, small, None)}
    if config.stages == "two":
        plays["stage2"] = stage(config, spec, spec.image_shape, small)
    text = Matching(spec.num_words, config.word_dim, config.text_dim, config.features, spec.compute_dtype)
    adam = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(config.text_learning_rate))
    noise_dim = config.latent_dim + config.condition_dim * len(plays)

    def init(key):
        k_text, *keys = jax.random.split(key, 1 + len(plays))
        params = text.init(k_text, jnp.zeros((1, words), jnp.int32), jnp.zeros((1, *spec.image_shape)))["params"]
        states = {name: play.init(k) for (name, play), k in zip(plays.items(), keys, strict=True)}
        return State(
            jnp.int32(0),
            {"text": params} | {name: state.params for name, state in states.items()},
            {"text": adam.init(params)} | {name: state.opt_state for name, state in states.items()},
            {name: state.extra for name, state in states.items()},
        )

    # The text encoder.

    def match(key, state, batch):
        def loss(params):
            codes = text.apply({"params": params}, batch["caption"], to_signed(batch["image"]))
            losses, found = matching_losses(*codes, batch["caption"])
            return losses.mean(), found.astype(jnp.float32).mean()

        (value, found), gradients = jax.value_and_grad(loss, has_aux=True)(state.params["text"])
        params, opt_state = descend(adam, gradients, state.opt_state["text"], state.params["text"])
        state = state._replace(params=state.params | {"text": params}, opt_state=state.opt_state | {"text": opt_state})
        return state, {"matching_loss": value, "matched": found}

    def code_of(state, condition):
        return text.apply({"params": state.params["text"]}, condition["caption"], method="text")

    # The stages, each a State of its own within the model's.

    def part(state, name):
        return State(state.step, state.params[name], state.opt_state[name], state.extra[name])

    def given_to(name, code, noise, first):
        """Inputs of a stage's generator, by their names in a batch; `first` is Stage I's image, for Stage II."""
        split = config.latent_dim + config.condition_dim
        if name == "stage1":
            return {"code": code, "noise": noise[:, :split]}
        return {"code": code, "noise": noise[:, split:], "first": first}

    def image_of(name, state, code, noise, first=None):
        """Images in (-1, 1) of a stage's generator as it is used for samples."""
        return plays[name].sampled(part(state, name), [*given_to(name, code, noise, first).values()])

    def adversarial(name):
        play = plays[name]

        def step(key, state, batch):
            k_noise, k_turns = jax.random.split(key)
            code, noise = code_of(state, batch), prior(k_noise, state, len(batch["image"]))
            first = image_of("stage1", state, code, noise) if name == "stage2" else None
            given = {**batch, **given_to(name, code, noise, first)}
            own = part(state, name)
            own, (k_fakes, k_discriminator, k_generator), given = play.earlier_critic_turns(k_turns, own, given)
            fakes = play.generate(k_fakes, own, given)
            own, of_discriminator = play.discriminator_turn(k_discriminator, own, given, fakes)
            own, of_generator = play.generator_turn(k_generator, own, given, fakes)
            own = play.finished(own, fakes)
            state = state._replace(
                params=state.params | {name: own.params},
                opt_state=state.opt_state | {name: own.opt_state},
                extra=state.extra | {name: own.extra},
            )
            return state, {**of_discriminator, **of_generator, **play.compared(given, fakes)}

        return step

    # Samples: of Stage I, enlarged, until Stage II begins.

    def prior(key, state, num):
        return jax.random.normal(key, (num, noise_dim))

    def images(state, z, code):
        first = image_of("stage1", state, code, z)
        x = first.repeat(parts, axis=1).repeat(parts, axis=2)
        if "stage2" in plays:
            begun = state.step > config.text_steps + config.stage1_steps
            x = jnp.where(begun, image_of("stage2", state, code, z, first), x)
        return {"image": (x + 1) / 2}

    def decode(state, z, condition):
        return images(state, z, code_of(state, condition))

    def between(state, z, condition, other, share):
        share = share[:, None]
        return images(state, z, (1 - share) * code_of(state, condition) + share * code_of(state, other))

    def draw(key, state, num, condition):
        return {"image": from_unit(decode(state, prior(key, state, num), condition)["image"])}

    phases = [Phase("text", match, config.text_steps), Phase("stage1", adversarial("stage1"))]
    if "stage2" in plays:
        phases[1] = phases[1]._replace(steps=config.stage1_steps)
        phases.append(Phase("stage2", adversarial("stage2")))
    how = "its mean" if config.augmentation != "always" else "drawn, too"
    return Model(
        init,
        tuple(phases),
        needs=("image", "caption"),
        sampler=Sampler(draw, conditions=("caption",), note=sampling_note(config, f"G(z, c), c {how}")),
        latents=Latents(decode, Prior(prior, "gaussian"), between=between),
    )
