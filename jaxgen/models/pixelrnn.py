"""PixelRNN, van den Oord, Kalchbrenner & Kavukcuoglu 2016, https://arxiv.org/abs/1601.06759: Row LSTM, Diagonal BiLSTM.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1}),    pixels in raster order, a pixel's channels R, G, B        (equation 1)

The network is a convolution with mask A, residual layers of LSTMs (figure 5, right), and two 1x1 convolutions:

    [o, f, i, g] = sigma(K_ss * h + K_is * x),    c' = f . c + i . g,    h' = o . tanh(c')        (equation 3)

with tanh for g. In the Row LSTM (section 3.1) a state depends on those of three pixels in the row above, which makes
its context a triangle. In the Diagonal BiLSTM (section 3.2) it depends on those of the pixel above and of the pixel to
the left, or, in the second direction, to the right. The paper shifts the second direction's states down by one row, to
keep them causal; here its input is shifted, so its states begin one empty row above the image.

Even the Diagonal BiLSTM does not see all pixels before. The last pixel of the row above passes mask A only at later
pixels, so it reaches those close to the row's end only (`tests/models/test_pixelrnn.py` has the exact set). Differences
from the paper: initial states are 0, not learned, and the optimizer is Adam with a clipped gradient, not RMSProp.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxgen.autoregressive import abilities, applied_with_cache, check, drawn_in_turn, num_labels, one_hot
from jaxgen.heads import Head, HeadName, make_head
from jaxgen.likelihoods import fitting
from jaxgen.model import Array, Key, Model, Phase, Spec, State
from jaxgen.nn.masked import MaskedConv, Place, Readout, read, shifted_down, written
from jaxgen.nn.optimizer import decaying_rate, descend
from jaxgen.nn.recurrent import lstm, skewed, unskewed


@dataclass(frozen=True)
class Config:
    """A PixelRNN."""

    network: Literal["diagonal", "row"] = "diagonal"  # Diagonal BiLSTM, or Row LSTM
    likelihood: HeadName | None = None  # of a pixel: bits if binarized, else categorical; logistic is a mixture
    levels: int = 256  # of categorical: equal bins of the 256 gray levels, a power of two
    mixtures: int = 10  # of logistic: components
    features: int = 16  # of an LSTM's state; the maps between layers have twice as many
    layers: int = 7  # of LSTMs
    first_kernel: int = 7  # side of the first layer's kernel, odd
    head_features: int = 32  # of the layer before the outputs
    conditional: bool = False  # every layer is given the label: p(x|y), and by Bayes' rule p(y|x)
    dropout: float = 0.0  # share of each layer's states that is left out of the next layer's input in training
    learning_rate: float = 1e-3  # of Adam
    decay_steps: int | None = None  # over which that falls to 0 along a cosine
    clip: float = 1.0  # largest norm of the gradient
    temperature: float = 1.0  # of samples: 1 draws from the model
    top: int = 0  # of categorical, samples are of so many likeliest levels only; 0 is all, which draws from the model


class Recurrent(nn.Module):
    """Base of both layers: residual connection, labels, and states in float32."""

    config: Config
    layer: Any  # `MaskedConv` with groups and dtype given
    directions = 1
    taps = 3  # previous states that a state depends on

    def setup(self):
        """Parameters."""
        h = self.config.features
        self.inputs = self.layer(4 * h, left=1 if self.taps == 3 else 0, pieces=4)
        self.state = self.param(
            "state", nn.initializers.lecun_normal(batch_axis=0, in_axis=(1, 2)), (self.directions, self.taps, h, 4 * h)
        )
        self.label = nn.Dense(4 * h * self.directions, use_bias=False, dtype=self.layer.keywords["dtype"])
        self.up = self.layer(2 * h)
        self.dropout = nn.Dropout(self.config.dropout)

    def of_label(self, y: Array) -> Array:
        """Label's contribution to each direction's gates, [directions, batch, 4 features]."""
        if not y.shape[-1]:
            return jnp.zeros((self.directions, 1, 1))
        return jnp.stack(jnp.split(self.label(y).astype(jnp.float32), self.directions, axis=-1))

    def of_states(self, weights: Array, *states: Array) -> Array:
        """Contribution of previous states [..., features], one per tap, by weights [taps, features, 4 features]."""
        dtype = self.layer.keywords["dtype"]
        return sum(
            (h.astype(dtype) @ w.astype(dtype)).astype(jnp.float32) for h, w in zip(states, weights, strict=True)
        )

    def added(self, x: Array, h: Array, training: bool) -> Array:
        """Layer's output from its input [..., 2 features] and its states [..., features]."""
        return x + self.up(self.dropout(h, deterministic=not training))


class RowLSTM(Recurrent):
    """Row LSTM of section 3.1: a recurrence over rows, all pixels of a row in parallel."""

    def above(self, y: Array, place: Place) -> tuple:
        """Nothing: a pixel reads the states of the row above itself."""
        return ()

    def __call__(self, x: Array, link: tuple, y: Array, training: bool, place: Place | None) -> Array:
        """Maps [batch, H, W, 2 features], or one pixel, through the layer."""
        inputs = self.inputs(x, place).astype(jnp.float32) + self.of_label(y)[0][:, None, None]
        size = self.config.features
        if place is not None:
            cache = self.get_variable("cache", "states", jnp.zeros((len(x), 2, place.width + 2, 2 * size)))
            h, c = jnp.split(read(cache, place, range(1, 0, -1), 0, 3), 2, axis=-1)
            h, c = lstm(inputs + self.of_states(self.state[0], *jnp.split(h, 3, axis=2)), c[:, :, 1:2])
            self.put_variable("cache", "states", written(cache, jnp.concatenate([h, c], axis=-1), place, 1))
            return self.added(x, h, training)

        def take_row(carry, row):
            h, c = carry
            wide = jnp.pad(h, ((0, 0), (1, 1), (0, 0)))
            h, c = lstm(row + self.of_states(self.state[0], wide[:, :-2], wide[:, 1:-1], wide[:, 2:]), c)
            return (h, c), h

        start = jnp.zeros((len(x), x.shape[2], size))
        h = lax.scan(take_row, (start, start), jnp.moveaxis(inputs, 1, 0))[1]
        return self.added(x, jnp.moveaxis(h, 0, 1), training)


class DiagonalBiLSTM(Recurrent):
    """Diagonal BiLSTM of section 3.2: two recurrences over diagonals, from the left and from the right."""

    directions = 2
    taps = 2  # the pixel before, the pixel above

    def setup(self):
        """Parameters; the right direction reads the row above, which is known completely, so it has no mask."""
        super().setup()
        self.right_inputs = self.layer(4 * self.config.features, mask=None)

    def above(self, y: Array, place: Place) -> Array:
        """Right direction's states [batch, 1, W, features] for a row, from the cached inputs of the row above."""
        size, width = self.config.features, place.width
        x = self.get_variable("cache", "inputs", jnp.zeros((len(y), 1, width, 2 * size)))
        over = self.get_variable("cache", "right", jnp.zeros((width, len(y), size)))
        inputs = self.right_inputs(x).astype(jnp.float32) + self.of_label(y)[1][:, None, None]

        def take_pixel(carry, inputs):
            (h, c), (gates, over) = carry, inputs
            h, c = lstm(gates + self.of_states(self.state[1], h, over), c)
            return (h, c), h

        start = jnp.zeros((len(y), size))
        h = lax.scan(take_pixel, (start, start), (jnp.moveaxis(inputs[:, 0, ::-1], 1, 0), over))[1]
        self.put_variable("cache", "right", h)
        return jnp.moveaxis(h, 0, 1)[:, None, ::-1]

    def __call__(self, x: Array, link: Array, y: Array, training: bool, place: Place | None) -> Array:
        """Maps [batch, H, W, 2 features], or one pixel with the right direction's state, through the layer."""
        (batch, height, width, _), size, label = x.shape, self.config.features, self.of_label(y)[:, :, None, None]
        left = self.inputs(x).astype(jnp.float32) + label[0]
        if place is not None:
            inputs = self.get_variable("cache", "inputs", jnp.zeros((batch, 1, place.width, 2 * size)))
            self.put_variable("cache", "inputs", written(inputs, x.astype(jnp.float32), place, 0))
            cache = self.get_variable("cache", "states", jnp.zeros((batch, 2, place.width + 1, 2 * size)))
            before, c = jnp.split(read(cache, place, range(1), 0, 1), 2, axis=-1)
            over = read(cache, place, range(1, 0, -1), 1, 1)[..., :size]
            h, c = lstm(left + self.of_states(self.state[0], before, over), c)
            self.put_variable("cache", "states", written(cache, jnp.concatenate([h, c], axis=-1), place, 1))
            return self.added(x, h + link, training)

        right = self.right_inputs(shifted_down(x)).astype(jnp.float32) + label[1]
        inputs = jnp.moveaxis(jnp.stack([skewed(left), skewed(right[:, :, ::-1])]), 3, 0)

        def take_diagonal(carry, inputs):
            h, c = carry
            over = jnp.pad(h, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
            h, c = lstm(inputs + jax.vmap(self.of_states)(self.state, h, over), c)
            return (h, c), h

        start = jnp.zeros((2, batch, height, size))
        h = jnp.moveaxis(lax.scan(take_diagonal, (start, start), inputs)[1], 0, 3)
        left, right = (unskewed(each, width) for each in h)
        return self.added(x, left + right[:, :, ::-1], training)


class PixelRNN(nn.Module):
    """PixelRNN of table 1: images scaled to [-1, 1] -> outputs of the head at every pixel."""

    config: Config
    head: Head
    dtype: np.dtype

    def setup(self):
        """The layers."""
        config, reach = self.config, self.config.first_kernel // 2
        layer = partial(MaskedConv, groups=self.head.groups, dtype=self.dtype)
        self.first = layer(2 * config.features, reach + 1, reach, reach, mask="A", sees_image=True)
        kind = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}[config.network]
        self.stack = [kind(config, layer) for _ in range(config.layers)]
        self.readout = Readout(layer, config.head_features, self.head.groups, self.head.outputs)

    def above(self, y: Array, place: Place) -> list:
        """Each layer's context of a row, computed before its first pixel."""
        return [layer.above(y, place) for layer in self.stack]

    def beside(self, x: Array, links: list, y: Array, training: bool = False, place: Place | None = None) -> Array:
        """Outputs, given the links."""
        x = self.first(x, place)
        for layer, link in zip(self.stack, links, strict=True):
            x = layer(x, link, y, training, place)
        return self.readout(x)

    def __call__(self, x: Array, y: Array, training: bool = False) -> Array:
        """[batch, H, W, C], one-hot y [batch, classes or 0] -> [batch, H, W, groups, outputs]."""
        return self.beside(x, [None] * self.config.layers, y, training)


def drawn(network: Any, params: Any, key: Key, given: Array, rows: int, y: Array) -> tuple[Array, Array]:
    """Draws levels with a network's cache; arguments and results as of `drawn_in_turn`, one-hot y [num, classes]."""
    applied = applied_with_cache(network, params)

    def above(cache, pixels, place):
        return applied("above", cache, y, place)

    def beside(cache, pixels, links, place):
        return applied("beside", cache, pixels, links, y, False, place)

    return drawn_in_turn(key, network.head, above, beside, network.config.first_kernel // 2, given, rows)


def make(config: Config, spec: Spec) -> Model:
    """A PixelRNN over `spec`'s images; raises UserError for an invalid config."""
    shape, classes = spec.image_shape, num_labels(config, spec)
    config = replace(config, likelihood=fitting(config.likelihood, spec, bits="bernoulli", levels="categorical"))
    check(config, shape[-1], "first_kernel")
    head = make_head(config.likelihood, shape[-1], config.levels, config.mixtures, config.temperature, config.top)
    network = PixelRNN(config, head, spec.compute_dtype)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(decaying_rate(config)))

    def init(key):
        params = network.init(key, jnp.zeros((1, *shape)), jnp.zeros((1, classes)))["params"]
        seen = jnp.zeros(classes, jnp.uint32) if classes else ()
        return State(jnp.int32(0), params, optimizer.init(params), seen)

    def log_likelihood(params, level, y, **training):
        """Log p(x|y), or log p(x): nats [batch]."""
        return head.log_prob(level, network.apply({"params": params}, head.scaled(level), y, **training))

    def step(key, state, batch):
        level = head.level(batch["image"])
        y = one_hot(batch, len(level), classes)

        def loss(params):
            return -log_likelihood(params, level, y, training=True, rngs={"dropout": key}).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        seen = state.extra + y.sum(0).astype(jnp.uint32) if classes else ()  # labels, for p(y)
        return state._replace(params=params, opt_state=opt_state, extra=seen), {"loss": value}

    return Model(
        init, (Phase("train", step),), **abilities(head, spec, classes, log_likelihood, partial(drawn, network))
    )
