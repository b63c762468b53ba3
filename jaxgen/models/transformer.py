"""Image Transformer, Parmar et al. 2018, https://arxiv.org/abs/1802.05751, over all the tokens of an image.

    p(x|c) = prod_t p(x_t | x_1, ..., x_{t-1}, c)                                                          (section 3)

where tokens are pixels in raster order, each channel after the other (likelihood logistic: all channels at once), or
patches of bits, and c is nothing, a label or a caption: log p(x|c) is exact. A label-conditional model's p(x) is
sum_y p(y) p(x|y), with p(y) from the labels seen in training, and Bayes' rule gives p(y|x).

The network is the decoder-only one of Chen et al. 2020 (Generative Pretraining from Pixels): norms before each layer,
a start token of its own, outputs that begin at 0. The sequence is c, the start, and all tokens but the last. Each
position predicts the token that follows it, and is given the embedded row, column and channel of that token, so that a
token's position does not depend on the length of a caption. No position sees a caption's padding or an unknown label.

Attention is over all earlier tokens; that of Parmar et al. is over blocks of them. Adam with a clipped gradient,
without warm-up.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxgen.autoregressive import abilities, one_hot
from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_positive, check_share
from jaxgen.heads import Head, HeadName, make_head
from jaxgen.likelihoods import fitting
from jaxgen.model import Array, Key, Model, Phase, Spec, State
from jaxgen.nn.attention import SHORT, Block, Cache, empty_cache
from jaxgen.nn.optimizer import decaying_rate, descend
from jaxgen.nn.parts import in_parts

GIB = 2**30


@dataclass(frozen=True)
class Config:
    """A Transformer over pixels."""

    likelihood: HeadName | None = None  # of a token: bits if binarized, else categorical; logistic is a mixture
    levels: int = 256  # of categorical: equal bins of the 256 gray levels, a power of two
    mixtures: int = 10  # of logistic: components
    patch: int = 1  # of bernoulli: side of the patches of bits that are tokens; 1 has a token a pixel and channel
    condition: Literal["none", "label", "caption"] = "none"  # what comes before the image: p(x), p(x|y), p(x|caption)
    dim: int = 64  # of a token
    heads: int = 4  # of attention; they divide dim
    layers: int = 4  # blocks
    dropout: float = 0.0  # share of what each layer adds that is left out in training
    learning_rate: float = 1e-3  # of Adam
    decay_steps: int | None = None  # over which that falls to 0 along a cosine
    clip: float = 1.0  # largest norm of the gradient
    memory: float = 2.0  # GiB a seed: of a layer's attention; of keys and values while images are drawn, part by part
    temperature: float = 1.0  # of samples: 1 draws from the model
    top: int = 0  # of categorical and patches, samples are of so many likeliest levels only; 0 draws from the model


class Decoder(nn.Module):
    """Levels and what they are given -> outputs of the head for every token."""

    config: Config
    head: Head
    grid: tuple[int, int, int]  # rows and columns of pixels or patches, and tokens of each
    channels: int  # of a token
    before: int  # places of what is given: 0, 1 for a label, or a caption's words
    ids: int | None  # of labels or words; 0 is unknown or padding
    dtype: np.dtype

    def setup(self):
        """Embeddings and blocks."""
        dim, depth = self.config.dim, self.config.layers
        self.value = nn.Embed(self.head.levels * self.channels, dim)
        self.start = self.param("start", nn.initializers.normal(dim**-0.5), (dim,))
        self.row, self.column, self.group = (nn.Embed(size, dim) for size in self.grid)
        self.word, self.word_place = nn.Embed(self.ids, dim), nn.Embed(self.before, dim)
        self.blocks = [Block(self.config.heads, depth, self.config.dropout, self.dtype) for _ in range(depth)]
        self.norm = nn.LayerNorm()
        self.readout = nn.Dense(self.head.outputs, kernel_init=nn.initializers.zeros, dtype=self.dtype)

    @property
    def length(self) -> int:
        """Tokens of an image."""
        return math.prod(self.grid)

    def tokens(self, level: Array) -> Array:
        """Levels [..., channels of a token], each channel's embedded by itself: [..., dim]."""
        first = self.head.levels * jnp.arange(level.shape[-1])
        return self.value(level + first).sum(-2)

    def places(self, t: Array) -> Array:
        """Rows, columns and channels of tokens t [n], embedded: [n, dim]."""
        _, columns, groups = self.grid
        return self.row(t // (columns * groups)) + self.column(t // groups % columns) + self.group(t % groups)

    def prefix(self, given: Array) -> tuple[Array, Array | None]:
        """Embeds the ids given [num, before]: ([num, before, dim], mask of the known places of the sequence)."""
        if not self.before:
            return jnp.zeros((len(given), 0, self.config.dim)), None
        known = jnp.concatenate([given > 0, jnp.ones((len(given), self.length), bool)], axis=1)
        return self.word(given) + self.word_place(jnp.arange(self.before)), known

    def through(self, x, known, caches, at: Array | int = 0, training: bool = False) -> tuple[Array, list]:
        """Positions from `at` on through all blocks: [num, n, dim], and the caches with them."""
        made = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, known, cache, at, training)
            made.append(cache)
        return x, made

    def outputs(self, x: Array) -> Array:
        """Maps the last block [..., dim] to the head's outputs, float32 [..., outputs]."""
        return self.readout(self.norm(x)).astype(jnp.float32)

    def __call__(self, level: Array, given: Array, training: bool = False) -> Array:
        """Int32 [num, H, W, C] and what is given, ids int32 [num, before] -> [num, *grid, outputs]."""
        num = len(level)
        earlier = self.tokens(level.reshape(num, self.length, -1)[:, :-1])
        start = jnp.broadcast_to(self.start, (num, 1, self.config.dim))
        x, known = self.prefix(given)
        image = jnp.concatenate([start, earlier], axis=1) + self.places(jnp.arange(self.length))
        x, _ = self.through(jnp.concatenate([x, image], axis=1), known, [None] * len(self.blocks), training=training)
        return self.outputs(x[:, self.before :]).reshape(num, *self.grid, -1)

    def begun(self, given: Array) -> tuple[list[Cache], Array | None]:
        """The blocks' caches of what is given; and which places of the sequence are known."""
        size = (self.before, self.config.heads, self.config.dim // self.config.heads)
        caches = [empty_cache(len(given), *size, self.dtype)] * len(self.blocks)
        x, known = self.prefix(given)
        return (self.through(x, known[:, : self.before], caches)[1] if self.before else caches), known

    def following(self, level: Array, t: Array, known: Array | None, caches: list[Cache]) -> tuple[Array, list[Cache]]:
        """Outputs [num, outputs] for token t, given the one before [num, channels of a token]; the caches with it."""
        x = jnp.where(t == 0, self.start, self.tokens(level)) + self.places(t[None])
        x, caches = self.through(x[:, None], known, caches, self.before + t)
        return self.outputs(x)[:, 0], caches


PARTS = 4
"""Parts that a long sequence is drawn in; the caches are as long as each needs, so that less is read for a token."""


def drawn(net: Decoder, params: Any, key: Key, level: Array, rows: int, given: Array) -> tuple[Array, Array]:
    """Draws levels token by token; returns them and the outputs that they were drawn from, [num, *grid, outputs].

    The first `rows` rows are those of `level` [num, H, W, C]; `given` is as `Decoder` takes it.
    """
    num, length = len(level), net.length
    caches, known = net.apply({"params": params}, given, method="begun")

    def following(known, carry, inputs):
        (caches, before), (t, kept) = carry, inputs
        outputs, caches = net.apply({"params": params}, before, t, known, caches, method="following")
        token = net.head.draw(jax.random.fold_in(key, t), outputs)
        token = jnp.where(t < rows * (length // net.grid[0]), kept, token)
        return (caches, token), (token, outputs)

    kept = jnp.moveaxis(level.reshape(num, length, -1), 1, 0)
    before, parts = kept[0], []
    for t in np.array_split(np.arange(length), PARTS if length > SHORT else 1):
        until = net.before + int(t[-1]) + 1
        caches = [cache.extended(until) for cache in caches]
        take = partial(following, None if known is None else known[:, :until])
        (caches, before), made = lax.scan(take, (caches, before), (jnp.asarray(t), kept[t[0] : t[-1] + 1]))
        parts.append(made)
    token, outputs = (jnp.concatenate(each) for each in zip(*parts, strict=True))
    return jnp.moveaxis(token, 0, 1).reshape(level.shape), jnp.moveaxis(outputs, 0, 1).reshape(num, *net.grid, -1)


def images_at_once(
    config: Config, positions: int, spec: Spec, shorter: str = "image_size, a larger patch of bits"
) -> tuple[int, int]:
    """Numbers of images (scored at once, drawn at once) that fit within `memory`.

    Raises UserError where a training batch, or a single image, does not fit; `shorter` is what would help.
    """
    layer = 4 * config.heads * positions**2
    cache = 2 * config.layers * positions * config.dim * spec.compute_dtype.itemsize
    batch = f"attention of a batch of {spec.batch_size} images"
    attention = (batch, layer, spec.batch_size, "batch_size")
    for what, size, num, less in (attention, ("keys and values of an image", cache, 1, "dim, layers")):
        if (gib := num * size / GIB) > config.memory:
            raise UserError(
                f"{what} of {positions:,} tokens: {gib:,.{1 if gib > 1 else 6}f} GiB, above memory, {config.memory:g}; "
                f"take a smaller {less} or {shorter}, or raise memory"
            )
    return int(config.memory * GIB // layer), int(config.memory * GIB // cache)


def check(config: Config, shape: tuple[int, int, int]) -> None:
    """Raises UserError for values that cannot be, do not go together, or do not fit images of `shape`."""
    check_positive(config, "patch", "dim", "heads", "layers", "learning_rate", "clip", "memory")
    check_share(config, "dropout")
    of_bits = ("patch", "top") if config.patch > 1 else ("patch",)
    uses = {"bernoulli": of_bits, "categorical": ("levels", "top"), "logistic": ("mixtures",)}
    check_idle(config, "likelihood", uses)
    if config.dim % config.heads:
        raise UserError(f"heads must divide dim, {config.dim}, which {config.heads} does not")
    if shape[0] % config.patch or shape[1] % config.patch:
        raise UserError(f"patch must divide images of {shape[0]}x{shape[1]}, which {config.patch} does not")


def make(config: Config, spec: Spec) -> Model:
    """A Transformer over `spec`'s images; raises UserError as `check`, `make_head` and `images_at_once` do."""
    shape, patch, condition = spec.image_shape, config.patch, config.condition
    given = spec.entries[condition].shape if condition != "none" else (0,)
    config = replace(config, likelihood=fitting(config.likelihood, spec, bits="bernoulli", levels="categorical"))
    check(config, shape)
    likelihood = (config.likelihood, shape[-1], config.levels, config.mixtures)
    head = make_head(*likelihood, config.temperature, config.top, patch)
    grid, channels = (shape[0] // patch, shape[1] // patch, head.groups), 1 if patch > 1 else shape[-1] // head.groups
    classes = spec.num_classes if condition == "label" else 0
    before, vocabulary = math.prod(given), 1 + classes if classes else spec.num_words
    scored, at_once = images_at_once(config, before + math.prod(grid), spec)
    net = Decoder(config, head, grid, channels, before, vocabulary, spec.compute_dtype)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(decaying_rate(config)))

    def init(key):
        level = head.level(jnp.zeros((1, *shape), jnp.uint8))
        params = net.init(key, level, jnp.zeros((1, before), jnp.int32))["params"]
        seen = jnp.zeros(classes, jnp.uint32) if classes else ()
        return State(jnp.int32(0), params, optimizer.init(params), seen)

    def ids(y):
        """A one-hot label [num, classes] or a caption as int32 [num, before]: 0 where nothing is known."""
        return jnp.where(y > 0, 1 + jnp.arange(classes), 0).max(-1, keepdims=True) if classes else y.astype(jnp.int32)

    def step(key, state, batch):
        level = head.level(batch["image"])
        y = batch["caption"] if condition == "caption" else one_hot(batch, len(level), classes)

        def loss(params):
            outputs = net.apply({"params": params}, level, ids(y), True, rngs={"dropout": key})
            return -head.log_prob(level, outputs).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        state = state._replace(params=params, opt_state=opt_state)
        if classes:  # labels, for p(y)
            state = state._replace(extra=state.extra + y.sum(0).astype(jnp.uint32))
        return state, {"loss": value}

    def log_likelihood(params, level, y):
        """Log p(x|y), nats [batch]."""

        def of_part(_, level, ids):
            return head.log_prob(level, net.apply({"params": params}, level, ids))

        return in_parts(of_part, scored, level, ids(y))

    def drawn_in_parts(params, key, level, rows, y):
        def of_part(part, level, ids):
            return drawn(net, params, jax.random.fold_in(key, part), level, rows // patch, ids)[0]

        return in_parts(of_part, at_once, level, ids(y)), None

    able = abilities(head, spec, classes, log_likelihood, drawn_in_parts, condition == "caption", patch)
    return Model(init, (Phase("train", step),), **able)
