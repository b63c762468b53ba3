"""Priors of maps of codes, given those of the levels above, and labels or captions.

    p(codes|y) = p(top|y) ... p(bottom|top, ..., y)

Each is the Transformer of `transformer` or the gated PixelCNN of `pixelcnn`, over codes in place of pixels. Below the
top it is the latter, given the codes above at every layer; `config` is a `jaxgen.models.quantized.QuantizedConfig`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.heads import Head, make_code_head
from jaxgen.likelihoods import discretized_logistic_log_prob
from jaxgen.model import Array, Batch, Key, PyTree, Spec
from jaxgen.models import pixelcnn, transformer
from jaxgen.nn.masked import Place
from jaxgen.nn.optimizer import decaying_rate
from jaxgen.nn.parts import in_parts
from jaxgen.nn.residual import Residuals

Codes = Mapping[str, Array]
"""Map from level to its codes, int32 [batch, h, w]."""


class Given(NamedTuple):
    """Labels or captions as ids; 0 is an unknown label or padding."""

    entry: Literal["none", "label", "caption"]
    places: int  # ids of an example
    num: int  # different ids

    def ids(self, batch: Batch, num: int) -> Array:
        """Returns int32 [num, places]."""
        if self.entry == "none":
            return jnp.zeros((num, 0), jnp.int32)
        return batch["caption"].astype(jnp.int32) if self.entry == "caption" else 1 + batch["label"][:, None]

    def bag(self, ids: Array) -> Array:
        """Returns the numbers of times that ids occur, float32 [num, ids but 0]."""
        return jax.nn.one_hot(ids - 1, self.num - 1).sum(1)


def make_given(config: Any, spec: Spec) -> Given:
    """Returns what the priors are given; raises KeyError if the data do not have it."""
    if config.condition == "none":
        return Given("none", 0, 1)
    shape = spec.entries[config.condition].shape
    num = 1 + spec.num_classes if config.condition == "label" else spec.num_words
    return Given(config.condition, math.prod(shape), num)


class LevelPrior(NamedTuple):
    """Prior of one level's codes, given those `above`, a list of int32 [batch, h', w'], and ids [batch, places]."""

    init: Callable[[Key], PyTree]
    log_prob: Callable[..., Array]  # (params, codes, above, ids, **training) -> nats [batch]
    draw: Callable[[PyTree, Key, list[Array], Array], Array]  # (params, key, above, ids) -> codes


def transformer_prior(config: Any, spec: Spec, head: Head, given: Given, grid: tuple[int, int]) -> LevelPrior:
    """Transformer over codes in raster order, after the label or the words of the caption.

    Raises UserError if a batch does not fit within `memory`.
    """
    own = transformer.Config(
        dim=config.dim, heads=config.heads, layers=config.blocks, dropout=config.dropout, memory=config.memory
    )
    scored, at_once = transformer.images_at_once(own, given.places + math.prod(grid), spec, "more halvings")
    net = transformer.Decoder(own, head, (*grid, 1), 1, given.places, given.num, spec.compute_dtype)

    def init(key):
        return net.init(key, jnp.zeros((1, *grid, 1), jnp.int32), jnp.zeros((1, given.places), jnp.int32))["params"]

    def log_prob(params, codes, above, ids, **training):
        def of_part(_, codes, ids):
            return head.log_prob(codes, net.apply({"params": params}, codes, ids, **training))

        return in_parts(of_part, scored, codes[..., None], ids)

    def draw(params, key, above, ids):
        def of_part(part, level, ids):
            return transformer.drawn(net, params, jax.random.fold_in(key, part), level, 0, ids)[0]

        return in_parts(of_part, at_once, jnp.zeros((len(ids), *grid, 1), jnp.int32), ids)[..., 0]

    return LevelPrior(init, log_prob, draw)


class CodePixelCNN(nn.Module):
    """Gated PixelCNN over embedded codes; the codes above are a condition of every layer that no mask hides."""

    config: pixelcnn.Config
    stacks: Any  # of the codes above
    head: Head
    grid: tuple[int, int]
    levels: int  # above
    dtype: np.dtype

    def setup(self):
        """Embeddings, stacks and the network."""
        width, num = self.config.features, self.head.levels
        self.code = nn.Embed(num, width, dtype=self.dtype)
        self.embedded_above = [nn.Embed(num, width, dtype=self.dtype) for _ in range(self.levels)]
        self.stack_above = [Residuals(self.stacks, self.dtype) for _ in range(self.levels)]
        self.net = pixelcnn.Gated(self.config, self.head, self.dtype)

    def condition(self, above: list[Array], y: Array) -> Array:
        """Condition of all layers: y [batch, ids] alone, or a map [batch, *grid, width + ids] at a lower level."""
        if not above:
            return y
        each = []
        for embed, stack, codes in zip(self.embedded_above, self.stack_above, above, strict=True):
            x = stack(embed(codes))
            rows, columns = (side // own for side, own in zip(self.grid, codes.shape[1:], strict=True))
            each.append(x.repeat(rows, axis=1).repeat(columns, axis=2))
        maps = jnp.stack(each).sum(0)
        everywhere = jnp.broadcast_to(y[:, None, None], (*maps.shape[:3], y.shape[-1]))
        return jnp.concatenate([maps, everywhere.astype(maps.dtype)], axis=-1)

    def embedded(self, x: Array) -> Array:
        """Embeds codes as `Head.scaled` numbers them [batch, H, W, 1]; 0, outside the map or not drawn yet, is 0."""
        return jnp.where(x > 0, self.code(jnp.maximum(x[..., 0].astype(jnp.int32) - 1, 0)), 0)

    def above(self, x: Array, y: Array, training: bool = False, place: Place | None = None) -> list[Array]:
        """Links of each layer, as of `pixelcnn.Gated`."""
        return self.net.above(self.embedded(x), y, training, place)

    def beside(
        self, x: Array, links: list[Array], y: Array, training: bool = False, place: Place | None = None
    ) -> Array:
        """Outputs, as of `pixelcnn.Gated`."""
        if place is not None:  # of the neighborhood only this much is read
            x = x[:, -1:, : self.config.first_kernel // 2 + 1]
        return self.net.beside(self.embedded(x), links, y, training, place)

    def __call__(self, x: Array, above: list[Array], y: Array, training: bool = False) -> Array:
        """Codes as `Head.scaled` numbers them [batch, H, W, 1], and what is given -> [batch, H, W, 1, K]."""
        return self.net(self.embedded(x), self.condition(above, y), training)


def pixelcnn_prior(
    config: Any, spec: Spec, head: Head, given: Given, grid: tuple[int, int], levels: list[tuple[int, int]]
) -> LevelPrior:
    """Gated PixelCNN over codes, given the label or the caption's words without their order, and the `levels` above."""
    width = config.gated_features
    own = pixelcnn.Config(
        features=width, layers=config.gated_layers, head_features=width, first_kernel=5, dropout=config.dropout
    )
    net = CodePixelCNN(own, config, head, grid, len(levels), spec.compute_dtype)

    def init(key):
        above = [jnp.zeros((1, *level), jnp.int32) for level in levels]
        return net.init(key, jnp.zeros((1, *grid, 1)), above, jnp.zeros((1, given.num - 1)))["params"]

    def log_prob(params, codes, above, ids, **training):
        x = codes[..., None]
        return head.log_prob(x, net.apply({"params": params}, head.scaled(x), above, given.bag(ids), **training))

    def draw(params, key, above, ids):
        y = net.apply({"params": params}, above, given.bag(ids), method="condition")
        blank = jnp.zeros((len(ids), *grid, 1), jnp.int32)
        return pixelcnn.drawn(net, params, key, blank, 0, y)[0][..., 0]

    return LevelPrior(init, log_prob, draw)


class Priors(NamedTuple):
    """Priors of all levels, and the scale of p(x|codes): what the second phase trains."""

    num_codes: int  # of each level
    levels: Mapping[str, LevelPrior]  # from the top down
    sizes: Mapping[str, int]  # numbers of pixels and channels, as "reconstruction", and of each level's codes
    given: Given
    sampling: str  # how codes are drawn, for the samples' note
    optimizer: optax.GradientTransformation

    def init(self, key: Key) -> PyTree:
        """Returns the parameters of each level, and `log_scale`."""
        keys = jax.random.split(key, len(self.levels))
        params = {name: level.init(key) for (name, level), key in zip(self.levels.items(), keys, strict=True)}
        return params | {"log_scale": jnp.float32(0)}

    def terms(
        self, params: PyTree, x: Array, mean: Array, codes: Codes, batch: Batch, dropout: Key | None = None
    ) -> dict[str, Array]:
        """Returns the terms of the bound by name, nats [batch]: log p(x|codes), and log p of each level's codes.

        In training a key for `dropout` is given.
        """
        log_p = {"reconstruction": discretized_logistic_log_prob(x, mean, params["log_scale"])}
        return log_p | self.log_prob(params, codes, self.given.ids(batch, len(x)), dropout)

    def loss(self, terms: Mapping[str, Array]) -> Array:
        """Returns the terms' sum in nats a code or pixel, to be minimized.

        No parameter is in two terms, so all have the bound's optimum, and no term takes the whole clipped gradient.
        """
        return -sum(terms[name].mean() / size for name, size in self.sizes.items())

    def metrics(self, terms: Mapping[str, Array]) -> dict[str, Array]:
        """Returns minus the bound, its terms, and nats a code or pixel as NAME_nats, means over the batch."""
        means = {name: term.mean() for name, term in terms.items()}
        nats = {f"{name}_nats": -means[name] / size for name, size in self.sizes.items()}
        return {"loss": -sum(means.values()), **means, **nats}

    def log_prob(self, params: PyTree, codes: Codes, ids: Array, dropout: Key | None = None) -> dict[str, Array]:
        """Returns log p of each level's codes given those above, nats [batch]; `dropout` as of `terms`."""
        log_p, above = {}, []
        for n, (name, level) in enumerate(self.levels.items()):
            training = {}
            if dropout is not None:
                training = {"training": True, "rngs": {"dropout": jax.random.fold_in(dropout, n)}}
            log_p[name] = level.log_prob(params[name], codes[name], above, ids, **training)
            above.append(codes[name])
        return log_p

    def draw(self, params: PyTree, key: Key, ids: Array) -> dict[str, Array]:
        """Draws codes from the top down, given ids [num, places]."""
        codes, above = {}, []
        for n, (name, level) in enumerate(self.levels.items()):
            codes[name] = level.draw(params[name], jax.random.fold_in(key, n), above, ids)
            above.append(codes[name])
        return codes


def make_priors(config: Any, spec: Spec, num: int, grids: Mapping[str, tuple[int, int]]) -> Priors:
    """Returns the priors over `num` codes of each level's grid, from the top down.

    Raises KeyError for data without the condition, and UserError for a temperature of 0 or too little memory.
    """
    head, given, levels = make_code_head(num, config.temperature), make_given(config, spec), {}
    for name, grid in grids.items():
        above = [grids[each] for each in levels]
        if above or config.prior == "pixelcnn":
            levels[name] = pixelcnn_prior(config, spec, head, given, grid, above)
        else:
            levels[name] = transformer_prior(config, spec, head, given, grid)
    rate = decaying_rate(pixelcnn.Config(learning_rate=config.prior_learning_rate, decay_steps=config.decay_steps))
    sizes = {"reconstruction": math.prod(spec.image_shape), **{name: math.prod(grid) for name, grid in grids.items()}}
    return Priors(
        num, levels, sizes, given, head.sampling, optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    )
