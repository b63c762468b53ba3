"""Classifiers p(y|x), and the feature extractor of the Fréchet distances; sections 1, 2.1 and 2.2 of the review.

    logistic    p(y|x) = softmax(W x + b) of the pixels: the review's equation 1 for several classes
    lenet       convolution and pooling twice, a dense layer: LeCun et al. 1998, https://doi.org/10.1109/5.726791,
                with the ReLU, max pooling and dropout of Krizhevsky et al. 2012
    vgg         stacks of 3x3 convolutions with pooling between: Simonyan & Zisserman 2015,
                https://arxiv.org/abs/1409.1556, with BatchNorm
    resnet      residual blocks, BatchNorm, global average pooling: He et al. 2016, https://arxiv.org/abs/1512.03385,
                the nets of section 4.2, with the projections of section 3.3 where the shape changes
    strided     convolutions of stride 2 in place of pooling; jaxgen's feature extractors are of this kind

    loss = E[- sum_k q_k log p(k|x)] + l2/2 sum of the kernels' squares,    q = (1 - s) onehot(y) + s/K

with s the label smoothing of Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7. Biases and BatchNorm's
parameters are not penalized; AdamW's decay applies to all parameters. The prediction "features" is the activations
before the last layer; for logistic, the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.model import Array, Model, Phase, PyTree, Spec, State
from jaxgen.nn.conv import Conv
from jaxgen.nn.image import to_unit
from jaxgen.nn.maximum import larger
from jaxgen.nn.optimizer import decaying_rate, descend
from jaxgen.nn.promotion import library_promotion


@dataclass(frozen=True)
class Config:
    """A classifier."""

    network: Literal["strided", "logistic", "lenet", "vgg", "resnet"] = "strided"  # from pixels to logits
    features: int = 32  # channels of the first convolution; doubled once by strided and lenet, else at every halving
    embedding_dim: int = 64  # width of the layer before the logits; of strided, lenet and vgg
    blocks: int = 3  # residual blocks at each of resnet's three sizes: 6 * blocks + 2 layers
    dropout: float = 0.3  # share of that layer's inputs dropped while training; of strided, lenet and vgg
    label_smoothing: float = 0.0  # share of the target that is spread evenly over the classes
    l2: float = 0.0  # penalty in the loss: half of it times the sum of all kernels' squares
    learning_rate: float = 1e-3  # of AdamW
    decay_steps: int | None = None  # steps in which the learning rate falls to 0 along a cosine; constant if None
    weight_decay: float = 1e-4  # of AdamW, of all parameters


def max_pool(x: Array) -> Array:
    """Maps [batch, H, W, channels] -> [batch, H // 2, W // 2, channels]: maxima of 2x2; an odd last row is cut."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = larger(x[:, :, 0], x[:, :, 1])
    return larger(x[:, :, :, 0], x[:, :, :, 1])


def batch_norm(x: Array, training: bool) -> Array:
    """Normalizes maps [batch, H, W, channels] by the batch's statistics, or by running averages if not `training`."""
    with library_promotion():
        return nn.BatchNorm(not training, momentum=0.9, epsilon=1e-5, dtype=x.dtype)(x)


def dense(x: Array, config: Config, dtype: np.dtype, training: bool) -> Array:
    """Maps or vectors [batch, ...] -> [batch, embedding_dim]."""
    x = x.reshape(x.shape[0], -1)
    x = nn.Dropout(config.dropout, deterministic=not training)(x)
    return nn.relu(nn.Dense(config.embedding_dim, dtype=dtype)(x))


# Networks from images in [0, 1] [batch, H, W, C] to embeddings [batch, units]; called within a module's `nn.compact`


def strided(x, config, dtype, training):
    """Three convolutions, the last two of stride 2, and a dense layer."""
    x = nn.relu(Conv(config.features, (5, 5), dtype=dtype)(x))
    x = nn.relu(Conv(config.features * 2, (3, 3), strides=(2, 2), dtype=dtype)(x))
    x = nn.relu(Conv(config.features * 2, (3, 3), strides=(2, 2), dtype=dtype)(x))
    return dense(x, config, dtype, training)


def logistic(x, config, dtype, training):
    """The pixels themselves."""
    return x.reshape(x.shape[0], -1)


def lenet(x, config, dtype, training):
    """Two convolutions, each with pooling, and a dense layer."""
    x = max_pool(nn.relu(Conv(config.features, (5, 5), dtype=dtype)(x)))
    x = max_pool(nn.relu(Conv(config.features * 2, (5, 5), dtype=dtype)(x)))
    return dense(x, config, dtype, training)


def vgg(x, config, dtype, training):
    """Pairs of 3x3 convolutions, pooled while the maps are at least 4 pixels a side, and a dense layer."""
    features = config.features
    while min(x.shape[1:3]) >= 4:
        for _ in range(2):
            x = nn.relu(batch_norm(Conv(features, (3, 3), use_bias=False, dtype=dtype)(x), training))
        x, features = max_pool(x), 2 * features
    return dense(x, config, dtype, training)


def resnet(x, config, dtype, training):
    """A convolution, `blocks` residual blocks at each of three sizes, and the mean of their maps."""

    def convolved(x, features, size=3, stride=1):
        x = Conv(features, (size, size), strides=(stride, stride), use_bias=False, dtype=dtype)(x)
        return batch_norm(x, training)

    x = nn.relu(convolved(x, config.features))
    for level in range(3):
        features = config.features << level
        for block in range(config.blocks):
            stride = 2 if level > 0 and block == 0 else 1
            residual = convolved(nn.relu(convolved(x, features, stride=stride)), features)
            shortcut = x if stride == 1 else convolved(x, features, size=1, stride=stride)
            x = nn.relu(shortcut + residual)
    return x.astype(jnp.float32).mean((1, 2))


NETWORKS: dict[str, Callable] = {
    "strided": strided, "logistic": logistic, "lenet": lenet, "vgg": vgg, "resnet": resnet
}  # fmt: skip


class Classifier(nn.Module):
    """A network and a last dense layer: (logits, embedding)."""

    config: Config
    num_classes: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> tuple[Array, Array]:
        """X in [0, 1] [batch, H, W, C] -> logits [batch, classes], embedding [batch, units]."""
        embedding = NETWORKS[self.config.network](x, self.config, self.dtype, training)
        logits = nn.Dense(self.num_classes, dtype=self.dtype)(embedding)
        return logits.astype(jnp.float32), embedding.astype(jnp.float32)


def cross_entropy(logits: Array, label: Array, smoothing: float) -> Array:
    """- sum_k q_k log p_k, nats [batch], with q = (1 - smoothing) onehot(label) + smoothing / classes."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * nn.log_softmax(logits).mean(-1)
    return loss


def squared_kernels(params: PyTree) -> Array:
    """Sum of the squares of all kernels' numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum((leaf**2).sum() for path, leaf in leaves if path[-1].key == "kernel")


def make(config: Config, spec: Spec) -> Model:
    """The classifier of `spec.num_classes` classes.

    Raises UserError for a value that is invalid or belongs to another network, and for images too small for lenet or
    vgg, below 4 pixels per side.
    """
    check_positive(config, "features", "embedding_dim", "blocks", "learning_rate")
    check_share(config, "dropout", "label_smoothing", "weight_decay")
    check_not_negative(config, "l2")
    pooled = ("features", "embedding_dim", "dropout")
    uses = {"strided": pooled, "lenet": pooled, "vgg": pooled, "resnet": ("features", "blocks")}
    check_idle(config, "network", uses)
    height, width, _ = spec.image_shape
    if config.network in ("lenet", "vgg") and min(height, width) < 4:
        raise UserError(f"{config.network} pools images of at least 4 pixels a side, not {height}x{width}")
    net = Classifier(config, spec.num_classes, spec.compute_dtype)
    optimizer = optax.adamw(decaying_rate(config), weight_decay=config.weight_decay)

    def init(key):
        averages = dict(net.init(key, jnp.zeros((1, *spec.image_shape)), training=False))
        params = averages.pop("params")
        return State(jnp.int32(0), params, optimizer.init(params), averages or ())  # of BatchNorm, if there is one

    def step(key, state, batch):
        def loss(params):
            (logits, _), averages = net.apply(
                {"params": params, **dict(state.extra)},
                to_unit(batch["image"]),
                training=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            known = (batch["label"] >= 0).astype(jnp.float32)
            total = jnp.maximum(known.sum(), 1)
            value = (known * cross_entropy(logits, batch["label"], config.label_smoothing)).sum() / total
            if config.l2:
                value += config.l2 / 2 * squared_kernels(params)
            return value, ((logits.argmax(-1) == batch["label"]).sum().astype(jnp.float32) / total, averages or ())

        (value, (accuracy, averages)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        state = state._replace(params=params, opt_state=opt_state, extra=averages)
        return state, {"loss": value, "accuracy": accuracy}

    def evaluated(state, batch):
        variables = {"params": state.params, **dict(state.extra)}
        return net.apply(variables, to_unit(batch["image"]), training=False)

    def classify(state, batch):
        return evaluated(state, batch)[0]

    def features(state, batch):
        return evaluated(state, batch)[1]

    return Model(
        init,
        (Phase("train", step),),
        needs=("image", "label"),
        predict={"label": classify, "features": features},
    )
