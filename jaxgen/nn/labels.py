"""Labels by a linear layer of a code: a softmax, or a support vector machine of each class against the others.

The SVM maximizes a pseudo-likelihood of y = 1 for an example's own class and -1 for the others, which is the hinge
loss and a mixture of Gaussians over lambda (Polson & Scott 2011, https://doi.org/10.1214/11-BA601):

    exp(-2 max(0, 1 - y m)) = integral over lambda > 0 of exp(-(1 + lambda - y m)^2 / (2 lambda)) / sqrt(2 pi lambda)
"""

from typing import Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgen.model import Array

LabelHead: TypeAlias = Literal["softmax", "svm"]


def label_log_prob(head: LabelHead, outputs: Array, label: Array) -> Array:
    """Log p of labels int32 [batch], or their pseudo-likelihood, by outputs [batch, classes]: nats [batch].

    A label of -1, which is unknown, gives 0.
    """
    if head == "softmax":
        log_prob = -optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(label, 0))
    else:
        y = 2 * jax.nn.one_hot(label, outputs.shape[-1]) - 1
        log_prob = -2 * nn.relu(1 - y * outputs).sum(-1)
    return jnp.where(label >= 0, log_prob, 0.0)


def averaged(head: LabelHead, outputs: Array) -> Array:
    """Averages predictions over codes: outputs [codes, batch, classes] -> log of the mean p, or mean margins."""
    return outputs.mean(0) if head == "svm" else jnp.log(nn.softmax(outputs).mean(0))
