"""PixelCNN, van den Oord, Kalchbrenner & Kavukcuoglu 2016, https://arxiv.org/abs/1601.06759, original and gated.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1}),    pixels in raster order, a pixel's channels R, G, B        (equation 1)

so that log p(x) is exact. The original network (section 3.4) is a convolution with mask A, residual blocks with mask B
(figure 5, left) and two 1x1 convolutions. Its masks leave a blind spot: it does not see some pixels above on the right.

The gated PixelCNN (van den Oord et al. 2016, https://arxiv.org/abs/1606.05328) has no blind spot. A vertical stack sees
all rows above; a horizontal stack sees the pixel's own row and, at every layer, the vertical stack's features:

    y = tanh(W_f * x + V_f^T h) . sigmoid(W_g * x + V_g^T h)                                     (equation 4)

with h the one-hot label of a conditional model. The original network adds V^T h within its blocks.

Differences from the papers: the vertical stack's features are shifted down by one row at its input, not at each link to
the horizontal stack, so a layer reads the features of an empty row above the image where the paper's reads zeros; the
optimizer is Adam with a clipped gradient, not RMSProp.
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
from jaxgen.nn.masked import MaskedConv, Place, Readout, shifted_down
from jaxgen.nn.optimizer import decaying_rate, descend


@dataclass(frozen=True)
class Config:
    """A PixelCNN."""

    network: Literal["gated", "original"] = "gated"  # two stacks without a blind spot, or masked residual blocks
    likelihood: HeadName | None = None  # of a pixel: bits if binarized, else categorical; logistic is a mixture
    levels: int = 256  # of categorical: equal bins of the 256 gray levels, a power of two
    mixtures: int = 10  # of logistic: components
    features: int = 32  # of a stack; the original's blocks have twice as many outside
    layers: int = 7  # gated layers, or residual blocks, after the first layer
    first_kernel: int = 7  # side of the first layer's kernel, odd
    kernel: int = 3  # side of the other layers' kernels, odd
    head_features: int = 32  # of the layer before the outputs
    conditional: bool = False  # every layer is given the label: p(x|y), and by Bayes' rule p(y|x)
    dropout: float = 0.0  # share of each layer's features that is left out in training
    learning_rate: float = 1e-3  # of Adam
    decay_steps: int | None = None  # over which that falls to 0 along a cosine
    clip: float = 1.0  # largest norm of the gradient
    temperature: float = 1.0  # of samples: 1 draws from the model
    top: int = 0  # of categorical, samples are of so many likeliest levels only; 0 is all, which draws from the model


class GatedLayer(nn.Module):
    """Layer of the gated PixelCNN, its figure 2."""

    config: Config
    layer: Any  # `MaskedConv` with groups and dtype given
    first: bool
    last: bool

    def setup(self):
        """Parameters of both stacks."""
        width = self.config.features
        reach = (self.config.first_kernel if self.first else self.config.kernel) // 2
        gates = partial(self.layer, 2 * width, pieces=2, sees_image=self.first)
        self.vertical = gates(rows=reach + 1, left=reach, right=reach, mask=None)
        self.horizontal = gates(left=reach, mask="A" if self.first else "B")
        self.link = self.layer(2 * width, mask=None)
        self.residual, self.skip = self.layer(width), self.layer(width)
        self.label = nn.Dense(4 * width, use_bias=False, dtype=self.layer.keywords["dtype"])
        self.dropout = nn.Dropout(self.config.dropout)

    def gated(self, x: Array, y: Array, half: int, training: bool) -> Array:
        """Gate of features [batch, H, W, 2 width] with the label's bias; half 0 is the vertical stack, 1 the other.

        Y is [batch, classes], or a map [batch, H, W, features] with a bias of its own at each place (equation 5).
        """
        if y.shape[-1]:
            bias = jnp.split(self.label(y), 2, axis=-1)[half]
            x += bias if bias.ndim == x.ndim else bias[:, None, None]
        f, g = jnp.split(x, 2, axis=-1)
        return self.dropout(jnp.tanh(f) * nn.sigmoid(g), deterministic=not training)

    def above(self, v: Array, y: Array, training: bool, place: Place | None) -> tuple[Array, Array]:
        """Vertical stack: (its features, link to the horizontal stack)."""
        v = self.vertical(v, place)
        return self.gated(v, y, 0, training), self.link(v)

    def beside(self, h: Array, link: Array, y: Array, training: bool, place: Place | None) -> tuple[Array, Array]:
        """Horizontal stack: (its features, skip connection to the readout)."""
        a = self.gated(self.horizontal(h, place) + link, y, 1, training)
        if not self.last:  # no layer reads the last one's features
            h = self.residual(a) if self.first else h + self.residual(a)  # the first h is the pixel itself
        return h, self.skip(a)


class Gated(nn.Module):
    """Gated PixelCNN: images scaled to [-1, 1] -> outputs of the head at every pixel."""

    config: Config
    head: Head
    dtype: np.dtype

    def setup(self):
        """The layers."""
        layer = partial(MaskedConv, groups=self.head.groups, dtype=self.dtype)
        self.stack = [
            GatedLayer(self.config, layer, n == 0, n == self.config.layers) for n in range(1 + self.config.layers)
        ]
        self.readout = Readout(layer, self.config.head_features, self.head.groups, self.head.outputs)

    def above(self, x: Array, y: Array, training: bool = False, place: Place | None = None) -> list[Array]:
        """Links of each layer, from images shifted down by one row."""
        links = []
        for layer in self.stack:
            x, link = layer.above(x, y, training, place)
            links.append(link)
        return links

    def beside(
        self, x: Array, links: list[Array], y: Array, training: bool = False, place: Place | None = None
    ) -> Array:
        """Outputs, given the links."""
        if place is not None:  # the horizontal stack reads only the left half of the neighborhood's last row
            x = x[:, -1:, : self.config.first_kernel // 2 + 1]
        skips = 0
        for layer, link in zip(self.stack, links, strict=True):
            x, skip = layer.beside(x, link, y, training, place)
            skips += skip
        return self.readout(skips)

    def __call__(self, x: Array, y: Array, training: bool = False) -> Array:
        """[batch, H, W, C], one-hot y [batch, classes or 0] -> [batch, H, W, groups, outputs]."""
        return self.beside(x, self.above(shifted_down(x), y, training), y, training)


class Original(nn.Module):
    """PixelCNN of table 1: images scaled to [-1, 1] -> outputs of the head at every pixel."""

    config: Config
    head: Head
    dtype: np.dtype

    def above(self, x: Array, y: Array, training: bool = False, place: Place | None = None) -> tuple:
        """Nothing: each layer reads the rows above itself."""
        return ()

    @nn.compact
    def beside(self, x: Array, links: tuple, y: Array, training: bool = False, place: Place | None = None) -> Array:
        """Outputs of the head."""
        config = self.config
        layer = partial(MaskedConv, groups=self.head.groups, dtype=self.dtype)
        width, first, reach = config.features, config.first_kernel // 2, config.kernel // 2
        x = layer(2 * width, first + 1, first, first, mask="A", sees_image=True)(x, place)
        for _ in range(config.layers):
            h = layer(width)(nn.relu(x))
            if y.shape[-1]:
                h += nn.Dense(width, use_bias=False, dtype=self.dtype)(y)[:, None, None]
            h = layer(width, reach + 1, reach, reach)(nn.relu(h), place)
            h = nn.Dropout(config.dropout)(nn.relu(h), deterministic=not training)
            x += layer(2 * width)(h)
        return Readout(layer, config.head_features, self.head.groups, self.head.outputs)(x)

    def __call__(self, x: Array, y: Array, training: bool = False) -> Array:
        """[batch, H, W, C], one-hot y [batch, classes or 0] -> [batch, H, W, groups, outputs]."""
        return self.beside(x, (), y, training)


def drawn(network: Any, params: Any, key: Key, given: Array, rows: int, y: Array) -> tuple[Array, Array]:
    """Draws levels with a network's cache; arguments and results as of `drawn_in_turn`, y as of `GatedLayer.gated`."""
    applied = applied_with_cache(network, params)

    def there(place, columns):
        if y.ndim == 2:
            return y
        return lax.dynamic_slice(y, (0, place.row, place.column, 0), (len(y), 1, columns, y.shape[-1]))

    def above(cache, pixels, place):
        return applied("above", cache, pixels, there(place, place.width), False, place)

    def beside(cache, pixels, links, place):
        return applied("beside", cache, pixels, links, there(place, 1), False, place)

    return drawn_in_turn(key, network.head, above, beside, network.config.first_kernel // 2, given, rows)


def make(config: Config, spec: Spec) -> Model:
    """A PixelCNN over `spec`'s images; raises UserError for an invalid config."""
    shape, classes = spec.image_shape, num_labels(config, spec)
    config = replace(config, likelihood=fitting(config.likelihood, spec, bits="bernoulli", levels="categorical"))
    check(config, shape[-1], "first_kernel", "kernel")
    head = make_head(config.likelihood, shape[-1], config.levels, config.mixtures, config.temperature, config.top)
    network = {"gated": Gated, "original": Original}[config.network](config, head, spec.compute_dtype)
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
