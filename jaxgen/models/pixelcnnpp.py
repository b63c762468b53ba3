"""PixelCNN++, Salimans, Karpathy, Chen & Kingma 2017, https://arxiv.org/abs/1701.05517.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1}),    pixels in raster order, all channels of a pixel jointly

by a mixture of discretized logistic distributions (section 2.1), whose means are linear in the pixel's earlier channels
(equation 3). Two streams of gated residual layers are causal by shifts, not by masks: u sees the rows above, ul sees
also the pixels to the left. Maps are halved and doubled again, with a shortcut from each layer to its mirror image
(figure 2).

Samples are drawn by repeated passes over whole images (`jaxgen.autoregressive.drawn_by_fixed_point`), and levels are
rounded before later channels depend on them, unlike in the authors' code. Other differences from the paper: weights are
not normalized and not initialized from data, and parameters are not averaged.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.autoregressive import abilities, check, drawn_by_fixed_point, num_labels, one_hot
from jaxgen.errors import UserError, check_positive
from jaxgen.heads import Head, HeadName, make_head
from jaxgen.likelihoods import fitting
from jaxgen.model import Array, Key, Model, Phase, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.masked import shifted_down
from jaxgen.nn.optimizer import decaying_rate, descend
from jaxgen.nn.parts import in_parts

AT_ONCE = 64
"""Most images drawn at once."""


@dataclass(frozen=True)
class Config:
    """A PixelCNN++."""

    likelihood: HeadName | None = None  # of a pixel: bits if binarized, else logistic, a mixture
    levels: int = 256  # of categorical: equal bins of the 256 gray levels, a power of two
    mixtures: int = 10  # of logistic: components
    features: int = 64  # of a stream; the paper has 160
    layers: int = 2  # gated residual layers per scale and stream on the way down; the paper has 5
    scales: int = 3  # sizes of maps, each half of the one before
    conditional: bool = False  # every layer is given the label: p(x|y), and by Bayes' rule p(y|x)
    dropout: float = 0.5  # share of features that each layer leaves out in training
    learning_rate: float = 1e-3  # of Adam, with beta1 0.95 and beta2 0.9995
    decay_steps: int | None = None  # over which that falls to 0 along a cosine
    clip: float = 1.0  # largest norm of the gradient
    temperature: float = 1.0  # of samples: 1 draws from the model
    top: int = 0  # of categorical, samples are of so many likeliest levels only; 0 is all, which draws from the model


def concat_elu(x: Array) -> Array:
    """ELU of x and of -x: [..., features] -> [..., 2 features]."""
    return nn.elu(jnp.concatenate([x, -x], axis=-1))


def shifted_right(x: Array) -> Array:
    """Shifts maps [batch, H, W, features] right by one column; the first column is zeros."""
    return jnp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]


ABOVE = {"kernel_size": (2, 3), "padding": ((1, 0), (1, 1))}
"""Convolution of u: reads its row and the row above, and columns to both sides."""
LEFT = {"kernel_size": (2, 2), "padding": ((1, 0), (1, 0))}
"""Convolution of ul: reads its row and the row above, its column and the column to the left."""


class GatedResidual(nn.Module):
    """Gated residual layer, with a shortcut (section 2.4) and a label."""

    conv: Any  # `Conv` of a stream with its kernel, padding and dtype given
    dropout: float

    @nn.compact
    def __call__(self, x: Array, shortcut: Array | None, y: Array, training: bool) -> Array:
        """Maps [batch, H, W, features] through the layer; `shortcut` has any number of features."""
        features, dtype = x.shape[-1], self.conv.keywords["dtype"]
        h = self.conv(features)(concat_elu(x))
        if shortcut is not None:
            h += Conv(features, (1, 1), dtype=dtype)(concat_elu(shortcut))
        h = nn.Dropout(self.dropout, deterministic=not training)(concat_elu(h))
        h = self.conv(2 * features)(h)
        if y.shape[-1]:
            h += nn.Dense(2 * features, use_bias=False, dtype=dtype)(y)[:, None, None]
        a, b = jnp.split(h, 2, axis=-1)
        return x + a * nn.sigmoid(b)


class PixelCNNPP(nn.Module):
    """Network of figure 2: images scaled to [-1, 1] -> outputs of the head at every pixel."""

    config: Config
    head: Head
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, y: Array, training: bool = False) -> Array:
        """[batch, H, W, C], one-hot y [batch, classes or 0] -> [batch, H, W, 1, outputs]."""
        config, width, dtype = self.config, self.config.features, self.dtype
        conv, transposed = (partial(layer, dtype=dtype, local=True) for layer in (Conv, ConvTranspose))
        above, left = partial(conv, **ABOVE), partial(conv, **LEFT)

        def layer(streams, shortcuts):
            u = GatedResidual(above, config.dropout)(streams[0], shortcuts[0], y, training)
            seen = [u] if shortcuts[1] is None else [u, shortcuts[1]]
            ul = GatedResidual(left, config.dropout)(streams[1], jnp.concatenate(seen, axis=-1), y, training)
            return u, ul

        # A channel of ones tells pixels from padding.
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1).astype(dtype)
        ul = shifted_down(conv(width, (1, 3), padding=((0, 0), (1, 1)))(x))
        ul += shifted_right(conv(width, (2, 1), padding=((1, 0), (0, 0)))(x))
        streams = (shifted_down(above(width)(x)), ul)
        passed = [streams]
        for scale in range(config.scales):
            if scale:
                streams = (above(width, strides=(2, 2))(streams[0]), left(width, strides=(2, 2))(streams[1]))
                passed.append(streams)
            for _ in range(config.layers):
                streams = layer(streams, (None, None))
                passed.append(streams)

        streams = passed.pop()
        for scale in range(config.scales):
            # Where maps were halved there is one more to pass on than layers; the innermost has been taken.
            for _ in range(config.layers if scale == 0 else config.layers + 1):
                streams = layer(streams, passed.pop())
            if scale < config.scales - 1:
                streams = (
                    transposed(width, (2, 3), (2, 2), ((0, 0), (1, 0)))(streams[0]),
                    transposed(width, (2, 2), (2, 2), "VALID")(streams[1]),
                )
        outputs = conv(self.head.outputs, (1, 1), kernel_init=nn.initializers.zeros)(nn.elu(streams[1]))
        return outputs[..., None, :].astype(jnp.float32)


def drawn(network: Any, params: Any, key: Key, given: Array, rows: int, y: Array) -> tuple[Array, Array]:
    """Draws levels by repeated passes; arguments and results as of `drawn_by_fixed_point`, one-hot y [num, classes]."""

    def forward(x):
        return network.apply({"params": params}, x, y)

    return drawn_by_fixed_point(key, network.head, forward, given, rows)


def drawn_in_parts(network: Any, params: Any, key: Key, given: Array, rows: int, y: Array) -> tuple[Array, None]:
    """Draws as `drawn`, at most AT_ONCE images at a time: each part stops when its own images are final."""

    def of_part(part, given, y):
        return drawn(network, params, jax.random.fold_in(key, part), given, rows, y)[0]

    return in_parts(of_part, AT_ONCE, given, y), None


def make(config: Config, spec: Spec) -> Model:
    """A PixelCNN++ over `spec`'s images; raises UserError for an invalid config."""
    (height, width, channels), classes = spec.image_shape, num_labels(config, spec)
    config = replace(config, likelihood=fitting(config.likelihood, spec, bits="bernoulli", levels="logistic"))
    check_positive(config, "scales")
    check(config, 1)
    halved = 2 ** (config.scales - 1)
    if height % halved or width % halved:
        raise UserError(f"{config.scales} scales need sides that {halved} divides, unlike {height}x{width}")
    head = make_head(config.likelihood, channels, config.levels, config.mixtures, config.temperature, config.top)
    if head.groups > 1:
        raise UserError(f"{config.likelihood} fits images of one channel here, not of {channels}: choose logistic")
    network = PixelCNNPP(config, head, spec.compute_dtype)
    adam = optax.adam(decaying_rate(config), b1=0.95, b2=0.9995)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adam)

    def init(key):
        params = network.init(key, jnp.zeros((1, height, width, channels)), jnp.zeros((1, classes)))["params"]
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
        init,
        (Phase("train", step),),
        **abilities(head, spec, classes, log_likelihood, partial(drawn_in_parts, network)),
    )
