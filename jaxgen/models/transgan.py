"""TransGAN: Jiang, Chang & Wang 2021, https://arxiv.org/abs/2102.07074, as its authors' code trains CIFAR-10.

    max_D  E_x[D(x)] - E_z[D(G(z))] - 10 E[(|grad D| - 1)^2] - .001 E_x[D(x)]^2,    min_G  -E_z[D(G(z))]

Both players are Transformers without convolutions. G maps z ~ N(0, 1) to its smallest map by a dense layer. Blocks of
attention and two dense layers follow; between them a pixel shuffle doubles the map and leaves a quarter of the
channels. The image is linear in the last tokens, without a tanh: values beyond black and white are clipped in uint8. D
sees patches of two sizes: blocks on the small ones, whose map is averaged down and joined by the large ones; blocks on
both; a last block with a class token, from which the logit is read. Each map adds learned positions, attention a
learned bias by the offset of two pixels, and D noise to attention's input, by a learned scale that begins at 0.

One update of G follows `critic_steps` of D, each on its part of the batch, and has fakes of its own, `generator_batch`
of them. DiffAugment is part of D, so that the penalty's gradient passes it too. Samples use a running average of G.

The defaults are the authors' for CIFAR-10, except for the batch: their 64 images in each update of D are --batch-size
256 here, beside 128 fakes for G. Half-lives are in updates of G: their 500,000 images are 7812.5 updates of 64, and a
warm-up of .1 of the images that D saw is .4 of the updates. For STL-10 they cut out squares of random sizes, here of
half a side. From 32 pixels on, depths and widths are theirs; those below are smaller, for CPUs. Above 48 pixels the
first doublings are bicubic and keep the channels, and attention on large maps is within windows (grid attention), as in
their code for 256 pixels, whose other changes are left out. Labels (`conditional`), which the paper lacks, choose D's
class token, and a token before G's smallest map.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.adversarial.augmentation import Augmentation, augmented
from jaxgen.adversarial.losses import LossName, PenaltyName
from jaxgen.adversarial.turns import AdversarialConfig, Judged, Nets, Turns, check_adversarial, sampling_note, turns
from jaxgen.errors import UserError, check_positive, check_share
from jaxgen.model import Array, Latents, Model, Phase, Prior, Sampler, Spec
from jaxgen.nn.dense import uniform_within
from jaxgen.nn.image import from_unit, to_signed
from jaxgen.nn.maps import MapAttention, pixel_shuffle, windows

BY_SIZE = "dim", "depths", "discriminator_dim", "discriminator_depth"

SIZES = {
    16: (128, (2, 2, 1), 96, 1),
    31: (256, (3, 2, 1), 192, 2),
    48: (1024, (5, 4, 2), 384, 3),
    64: (1024, (5, 4, 4, 2), 384, 3),
    128: (1024, (5, 4, 4, 4, 2), 384, 3),
}
"""Map from the largest side of images to the values of `BY_SIZE`; larger images have the last."""

SHUFFLES = 2
"""Doublings, the last ones, that are pixel shuffles."""


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """A GAN of two Transformers."""

    loss: LossName = "wasserstein"  # of both players
    penalty: PenaltyName = "one_centered"  # on D's gradient: (norm - 1)^2, as in WGAN-GP, or half its square
    drift: float = 1e-3  # weight of the square of D's mean output for real examples, which keeps it near 0
    augment: tuple[Augmentation, ...] = ("translation", "cutout", "color")  # DiffAugment of all images that D sees
    translation_ratio: float = 0.2  # of that: maximum shift, as a share of the image's side
    cutout_probability: float = 0.3  # of that: probability of cutting out, from all images judged at once or none
    critic_steps: int = 4  # updates of D per update of G, each on its own equal part of the batch
    clip: float = 5.0  # maximum global norm of a player's gradient; 0 for no bound
    average_half_life: float = 7812.5  # of a running average of G, in its updates, used for samples; 0 for none
    average_warmup: float = 0.4  # maximum of that half-life, as a share of the updates so far; 0 for no maximum
    conditional: bool = False  # both players are given the label
    generator_batch: int | None = None  # fakes in G's update, at most batch_size; as many as in one of D's if not given
    latent_dim: int = 256  # dimensions of z
    dim: int | None = None  # of G's tokens on the smallest map; 128 to 1024 by the images' size if not given
    depths: tuple[int, ...] | None = None  # G's blocks on each map, every one twice as large as that before
    discriminator_dim: int | None = None  # of D's tokens, a fourth of it of large patches; 96 to 384 by size
    discriminator_depth: int | None = None  # D's blocks at each of both scales; 1 to 3 by size
    patch: int = 2  # side of D's small patches, half that of the large ones
    heads: int = 4  # of attention
    normalization: Literal["layer", "pixel"] = "layer"  # LayerNorm, or to a root mean square of 1 without gains
    whole: int = 48  # largest side of maps with attention over all pixels; in larger ones it is within windows
    window: int = 16  # side of these windows
    rematerialize: bool = False  # blocks are computed again for their gradients, which takes less memory and more time
    generator_learning_rate: float = 1e-4  # of Adam
    discriminator_learning_rate: float = 1e-4  # of Adam
    beta1: float = 0.0  # of Adam
    beta2: float = 0.99  # of Adam


weights = nn.initializers.normal(0.02)


def initial(player: str, inputs: int) -> dict:
    """Initial weights and biases of a dense layer: PyTorch's default in G; N(0, .02) and 0 in D."""
    if player == "discriminator":
        return {"kernel_init": weights}
    return {"kernel_init": uniform_within(inputs**-0.5), "bias_init": uniform_within(inputs**-0.5)}


def of_pixels(inputs: int, pixels: int, features: int) -> dict:
    """Initial weights and biases of a layer that is a convolution of `pixels` for the authors: Glorot's, PyTorch's."""
    bound = (6 / (inputs + pixels * features)) ** 0.5
    return {"kernel_init": uniform_within(bound), "bias_init": uniform_within(inputs**-0.5)}


def normalized(x: Array, kind: str) -> Array:
    """Normalizes float32 tokens [..., dim], each alone; within a module's `nn.compact`."""
    if kind == "layer":
        return nn.LayerNorm(epsilon=1e-5)(x)
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-8)


class Block(nn.Module):
    """Attention and two dense layers, each after a norm and added to its input. Sums and norms are float32."""

    config: Config
    player: str
    size: tuple[int, int] | None  # of the map whose pixels are the last tokens; None for tokens without positions
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Float32 [batch, tokens, dim] to the same; D's noise is drawn by the key "noise"."""
        config, dim, start = self.config, x.shape[-1], initial(self.player, x.shape[-1])
        y = normalized(x, config.normalization)
        if self.player == "discriminator":
            scale = self.param("noise", nn.initializers.zeros, ())
            y += scale * jax.random.normal(self.make_rng("noise"), (*x.shape[:2], 1))
        window = config.window if self.size and max(self.size) > config.whole else None
        x += MapAttention(config.heads, self.size, window, self.dtype, weights, **start)(y).astype(jnp.float32)
        y = nn.Dense(4 * dim, dtype=self.dtype, **start)(normalized(x, config.normalization))
        y = nn.Dense(dim, dtype=self.dtype, **initial(self.player, 4 * dim))(nn.gelu(y, approximate=False))
        return x + y.astype(jnp.float32)


class Generator(nn.Module):
    """G: z to images, black -1 and white 1."""

    config: Config
    shape: tuple[int, int, int]  # of an image
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array, y: Array) -> Array:
        """Noise z [batch, latent_dim], one-hot y [batch, classes] if conditional -> [batch, H, W, C]."""
        config, dim, last = self.config, self.config.dim, len(self.config.depths) - 1
        block = partial(nn.remat(Block) if config.rematerialize else Block, config, "generator", dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype)
        height, width = (side >> last for side in self.shape[:2])
        x = dense(height * width * dim, **initial("generator", config.latent_dim))(z).astype(jnp.float32)
        x = x.reshape(-1, height * width, dim)
        for stage, depth in enumerate(config.depths):
            if stage:
                x = x.reshape(-1, height, width, dim)
                height, width = 2 * height, 2 * width
                if stage > last - SHUFFLES:
                    x, dim = pixel_shuffle(x), dim // 4
                else:
                    x = jax.image.resize(x, (len(x), height, width, dim), "bicubic")
                x = x.reshape(-1, height * width, dim)
            x += self.param(f"position_{stage}", weights, (height * width, dim))
            if config.conditional and stage == 0:
                token = dense(dim, use_bias=False, kernel_init=weights, name="token")(y)
                x = jnp.concatenate([token[:, None].astype(jnp.float32), x], axis=1)
            for level in range(depth):
                x = block((height, width), name=f"block_{stage}_{level}")(x)
            x = x[:, -height * width :]
        x = dense(self.shape[-1], **of_pixels(dim, 1, self.shape[-1]))(x)
        return x.reshape(-1, *self.shape).astype(jnp.float32)


class Discriminator(nn.Module):
    """D: images to the logit of being real."""

    config: Config
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, y: Array) -> Array:
        """X [batch, H, W, C], y [batch, classes] one-hot or [batch, 1] of ones -> logits [batch, 1]."""
        config, (batch, height, width, channels) = self.config, x.shape
        block = partial(nn.remat(Block) if config.rematerialize else Block, config, "discriminator", dtype=self.dtype)
        dense, dim = partial(nn.Dense, dtype=self.dtype), config.discriminator_dim

        def patches(side, features):
            parts = windows(x, side).reshape(batch, -1, side**2 * channels)
            return dense(features, **of_pixels(parts.shape[-1], side**2, features))(parts).astype(jnp.float32)

        def blocks(scale, tokens, size):
            tokens += self.param(f"position_{scale}", weights, tokens.shape[1:])
            for level in range(config.discriminator_depth):
                tokens = block(size, name=f"block_{scale}_{level}")(tokens)
            return tokens

        size = height // config.patch, width // config.patch
        fine, coarse = patches(config.patch, dim - dim // 4), patches(2 * config.patch, dim // 4)
        fine = blocks(0, fine, size).reshape(batch, *size, -1)
        fine = windows(fine, 2).mean(1).reshape(batch, -1, fine.shape[-1])
        tokens = blocks(1, jnp.concatenate([fine, coarse], axis=-1), (size[0] // 2, size[1] // 2))
        token = dense(dim, use_bias=False, kernel_init=weights, name="token")(y).astype(jnp.float32)
        tokens = block(None, name="block_token")(jnp.concatenate([token[:, None], tokens], axis=1))
        return dense(1, kernel_init=weights)(normalized(tokens[:, 0], config.normalization)).astype(jnp.float32)


def sized(config: Config, spec: Spec) -> Config:
    """Fills in depths and widths by the images' size. Raises UserError for values that do not fit the images."""
    height, width, _ = spec.image_shape
    row = next((row for side, row in SIZES.items() if max(height, width) <= side), SIZES[128])
    missing: dict[str, Any] = {
        name: value for name, value in zip(BY_SIZE, row, strict=True) if getattr(config, name) is None
    }
    config = replace(config, **missing)
    check_positive(config, "latent_dim", "dim", "discriminator_dim", "discriminator_depth", "patch", "heads", "whole")
    check_positive(config, "window", "generator_batch", "generator_learning_rate", "discriminator_learning_rate")
    check_share(config, "beta1", "beta2")
    check_adversarial(config, spec, batch_norm=False)
    if config.spectral_norm:
        raise UserError("transgan takes no spectral_norm: the norms before its layers undo a kernel's scale")
    if config.conditional and spec.num_classes is None:
        raise UserError(f"conditional takes images with labels: the data have {', '.join(spec.entries)}")
    if (config.generator_batch or 0) > spec.batch_size:
        raise UserError(f"generator_batch must be at most batch_size, {spec.batch_size}, not {config.generator_batch}")
    if not config.depths or min(config.depths) < 1:
        raise UserError(f"depths must be numbers above 0, one for each map of G, not {config.depths}")
    last = len(config.depths) - 1
    for name, factor in (("dim", 4 ** min(last, SHUFFLES)), ("discriminator_dim", 4)):
        if getattr(config, name) % (factor * config.heads):
            raise UserError(f"{name} must be a multiple of {factor * config.heads}, {factor} times heads")
    if any(side % (1 << last) or not 2 <= side >> last <= config.whole for side in (height, width)):
        raise UserError(
            f"depths {config.depths} double G's first map, of 2 to {config.whole} a side, {last} times: "
            f"not to {height}x{width}"
        )
    if height % (2 * config.patch) or width % (2 * config.patch):
        raise UserError(f"patch must divide half of each side of images of {height}x{width}, not be {config.patch}")
    for smaller in [1 << level for level in range(last + 1)] + [config.patch, 2 * config.patch]:
        size = height // smaller, width // smaller
        if max(size) > config.whole and (size[0] % config.window or size[1] % config.window):
            raise UserError(f"window must divide maps of over {config.whole} a side, as {config.window} does not")
    return config


def players(config: Config, spec: Spec) -> Turns:
    """The players' turns for `spec`'s images, and labels if conditional; `config` is `sized`."""
    generator = Generator(config, spec.image_shape, spec.compute_dtype)
    discriminator = Discriminator(config, spec.compute_dtype)
    rates = {"generator": config.generator_learning_rate, "discriminator": config.discriminator_learning_rate}

    def init(key):
        k_generator, k_params, k_noise = jax.random.split(key, 3)
        keys, y = {"params": k_params, "noise": k_noise}, jnp.zeros((1, spec.num_classes if config.conditional else 1))
        return {
            "generator": generator.init(k_generator, jnp.zeros((1, config.latent_dim)), y),
            "discriminator": discriminator.init(keys, jnp.zeros((1, *spec.image_shape)), y),
        }

    def given(batch):
        if config.conditional:
            return jax.nn.one_hot(batch["label"], spec.num_classes)
        return jnp.ones((len(batch["image"]), 1))

    def draw(key, batch):
        return draw_prior(config, key, len(batch["image"])), given(batch)

    def generate(params, extra, drawn):
        return generator.apply({"params": params}, *drawn), extra["generator"]

    def discriminate(key, params, extra, x, batch):
        k_augment, k_noise = jax.random.split(key)
        x = augmented(k_augment, x, config.augment, config.translation_ratio, config.cutout_probability)
        logits = discriminator.apply({"params": params}, x, given(batch), rngs={"noise": k_noise})
        return Judged(logits), extra["discriminator"]

    def sample(variables, drawn):
        return generator.apply({"params": variables["params"]}, *drawn)

    nets = Nets(init, lambda batch: to_signed(batch["image"]), draw, generate, discriminate, sample)
    optimizers = {player: optax.adam(rate, config.beta1, config.beta2) for player, rate in rates.items()}
    return turns(replace(config, augment=()), nets, optimizers)  # D augments what it sees itself


def draw_prior(config: Config, key: Array, num: int) -> Array:
    """Noise z [num, latent_dim]."""
    return jax.random.normal(key, (num, config.latent_dim))


def make(config: Config, spec: Spec) -> Model:
    """The TransGAN for `spec`'s images, and labels if conditional. Raises UserError for an invalid value or size."""
    config = sized(config, spec)
    play = players(config, spec)

    def step(key, state, batch):
        state, (k_fakes, k_discriminator, k_generator), part = play.earlier_critic_turns(key, state, batch)
        fakes = play.generate(k_fakes, state, part)
        state, of_discriminator = play.discriminator_turn(k_discriminator, state, part, fakes)
        k_fresh, k_turn = jax.random.split(k_generator)
        number = config.generator_batch or len(part["image"])
        beside = {name: entry[:number] for name, entry in batch.items()}  # whose labels fakes are made of
        fresh = play.generate(k_fresh, state, beside)
        state, of_generator = play.generator_turn(k_turn, state, beside, fresh)
        return play.finished(state, fresh), {**of_discriminator, **of_generator, **play.compared(part, fakes)}

    def decode(state, z, condition):
        y = jax.nn.one_hot(condition["label"], spec.num_classes) if config.conditional else None
        return {"image": jnp.clip((play.sampled(state, (z, y)) + 1) / 2, 0, 1)}

    def draw(key, state, num, condition):
        return {"image": from_unit(decode(state, draw_prior(config, key, num), condition)["image"])}

    condition = ("label",) if config.conditional else ()
    note = sampling_note(config, "G(z|y)" if config.conditional else "G(z)", batch_norm=False)
    return Model(
        play.init,
        (Phase("adversarial", step),),
        needs=("image", *condition),
        sampler=Sampler(draw, conditions=condition, note=note),
        latents=Latents(decode, Prior(lambda key, state, num: draw_prior(config, key, num), "gaussian")),
    )
