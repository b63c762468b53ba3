"""A small convolutional classifier p(y|x), and the feature extractor of the Fréchet distances.

LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition",
with ReLU and dropout in place of the paper's squashing functions. Section 2.2 of the review.
`encode` gives the activations before the last layer.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.errors import check_positive, check_share
from jaxgen.model import Array, Model, Phase, Spec, State
from jaxgen.nn.conv import Conv
from jaxgen.nn.image import to_unit
from jaxgen.nn.optimizer import descend


@dataclass(frozen=True)
class Config:
    """A convolutional classifier."""

    features: int = 32  # channels of the first convolution; the others have twice as many
    embedding_dim: int = 64  # width of the layer before the logits
    dropout: float = 0.3  # share of that layer's inputs dropped while training
    learning_rate: float = 1e-3  # of AdamW
    decay_steps: int | None = None  # the learning rate falls to 0 along a cosine over so many steps; constant without
    weight_decay: float = 1e-4  # of AdamW


class Classifier(nn.Module):
    """Three convolutions, the last two of stride 2, and a dense layer; (logits, embedding)."""

    config: Config
    num_classes: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, training: bool) -> tuple[Array, Array]:
        """X in [0, 1] [batch, H, W, C] -> logits [batch, classes], embedding [batch, embedding_dim]."""
        x = nn.relu(Conv(self.config.features, (5, 5), dtype=self.dtype)(x))
        x = nn.relu(Conv(self.config.features * 2, (3, 3), strides=(2, 2), dtype=self.dtype)(x))
        x = nn.relu(Conv(self.config.features * 2, (3, 3), strides=(2, 2), dtype=self.dtype)(x))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.config.dropout, deterministic=not training)(x)
        embedding = nn.relu(nn.Dense(self.config.embedding_dim, dtype=self.dtype)(x))
        logits = nn.Dense(self.num_classes, dtype=self.dtype)(embedding)
        return logits.astype(jnp.float32), embedding.astype(jnp.float32)


def make(config: Config, spec: Spec) -> Model:
    """The classifier of `spec.num_classes` classes."""
    check_positive(config, "features", "embedding_dim", "learning_rate")
    check_share(config, "dropout", "weight_decay")
    rate = config.learning_rate
    if config.decay_steps is not None:
        check_positive(config, "decay_steps")
        rate = optax.cosine_decay_schedule(rate, config.decay_steps)
    net = Classifier(config, spec.num_classes, spec.compute_dtype)
    optimizer = optax.adamw(rate, weight_decay=config.weight_decay)

    def init(key, batch):
        params = net.init(key, to_unit(batch["image"]), training=False)["params"]
        return State(jnp.int32(0), params, optimizer.init(params))

    def step(key, state, batch):
        def loss(params):
            logits, _ = net.apply({"params": params}, to_unit(batch["image"]), training=True, rngs={"dropout": key})
            cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return cross_entropy.mean(), (logits.argmax(-1) == batch["label"]).mean()

        (value, accuracy), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        return state._replace(params=params, opt_state=opt_state), {"loss": value, "accuracy": accuracy}

    def classify(state, batch):
        return net.apply({"params": state.params}, to_unit(batch["image"]), training=False)[0]

    def encode(key, state, batch):
        return net.apply({"params": state.params}, to_unit(batch["image"]), training=False)[1]

    return Model(
        init,
        (Phase("train", step),),
        needs=("image", "label"),
        encode=encode,
        classify=classify,
        precisions=("float32", "bfloat16"),
    )
