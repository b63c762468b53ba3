"""Naive Bayes: pixels independent given the class; section 2.3.1 of the review.

    p(x, y) = p(y) prod_j p(x_j|y),    p(y|x) = p(x, y) / sum_y' p(x, y'),    p(x) = sum_y p(x, y)

Bernoulli pixels with Laplace smoothing, or Gaussian pixels with a floor under their variance (the
floor of scikit-learn's GaussianNB: a share of the largest variance of any pixel over all classes).
No optimizer: one pass over the data counts, in exact integers.

Exactness. Sums of uint8 pixels and of their squares are kept in uint32, the squares modulo 2^32. With
q the mean's nearest integer and r = sum x - n q, the centred sum sum (x - q)^2 = sum x^2 - q (sum x + r)
is an integer below 2^32 up to 264,000 examples, hence exact; then var = sum (x - q)^2 / n - (r / n)^2
with |r / n| <= 1/2, which loses no digits in float32.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError, check_positive
from jaxgen.model import Array, Likelihood, Model, Phase, Spec, State
from jaxgen.nn.image import from_unit, to_binary, to_unit

MOST_EXAMPLES = 264_000


@dataclass(frozen=True)
class Config:
    """Naive Bayes."""

    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"  # p(x_j|y): binary pixels, or levels
    smoothing: float = 1.0  # Laplace's alpha: imagined 0s and 1s a class and pixel, for bernoulli
    variance_floor: float = 1e-2  # added to variances, as a share of the largest; for gaussian


def gaussian_parameters(n: Array, total: Array, squares: Array) -> tuple[Array, Array]:
    """Mean and variance, in [0, 1] and its square, from exact sums; n of at least 1.

    n and total uint32, squares uint32 modulo 2^32, broadcast together.
    """
    q = (total + n // 2) // n
    r = jax.lax.bitcast_convert_type(total - q * n, jnp.int32).astype(jnp.float32)
    centred = (squares - 2 * q * total + q * q * n).astype(jnp.float32)
    n = n.astype(jnp.float32)
    mean, variance = q.astype(jnp.float32) + r / n, centred / n - (r / n) ** 2
    return mean / 255, jnp.maximum(variance, 0) / 255**2


def make(config: Config, spec: Spec) -> Model:
    """Naive Bayes over `spec`'s images and labels.

    Raises UserError beyond 264,000 training examples, where the integer sums would no longer be exact.
    """
    check_positive(config, "smoothing", "variance_floor")
    if spec.num_examples > MOST_EXAMPLES:
        raise UserError(
            f"naive_bayes counts exactly up to {MOST_EXAMPLES} examples; this dataset has {spec.num_examples}"
        )
    binary = config.likelihood == "bernoulli"
    classes = spec.num_classes

    def init(key, batch):
        zeros = jnp.zeros((classes, *spec.image_shape), jnp.uint32)
        sums = {"pixels": zeros} if binary else {"pixels": zeros, "squares": zeros}
        return State(jnp.int32(0), {"examples": jnp.zeros(classes, jnp.uint32), **sums})

    def count(key, state, batch):
        member = (batch["label"][:, None] == jnp.arange(classes)) & (batch["weight"][:, None] > 0)
        member = member.astype(jnp.uint32)  # [batch, classes]
        x = (to_binary(batch["image"]) if binary else batch["image"]).astype(jnp.uint32)
        counts = {"examples": member.sum(0), "pixels": jnp.einsum("bk,bhwc->khwc", member, x)}
        if not binary:
            counts["squares"] = jnp.einsum("bk,bhwc->khwc", member, x * x)
        params = jax.tree.map(jnp.add, state.params, counts)
        return state._replace(params=params), {"examples": params["examples"].sum().astype(jnp.float32)}

    def log_prior(params):
        """Log p(y) [classes]; uniform before any example was counted."""
        n = params["examples"].astype(jnp.float32)
        share = jnp.where(n.sum() > 0, n / jnp.maximum(n.sum(), 1), 1 / classes)
        return jnp.log(share)

    def bernoulli(params):
        """Log p(x_j = 1|y) and log p(x_j = 0|y) [classes, H, W, C], each from its own count."""
        n, ones = params["examples"][:, None, None, None], params["pixels"]
        ones, zeros, n = (count.astype(jnp.float32) for count in (ones, n - ones, n))
        total = jnp.log(n + 2 * config.smoothing)
        return jnp.log(ones + config.smoothing) - total, jnp.log(zeros + config.smoothing) - total

    def gaussian(params):
        """Mean and variance of x_j given y [classes, H, W, C]; of uniform noise before any example."""
        n = params["examples"][:, None, None, None]
        mean, variance = gaussian_parameters(jnp.maximum(n, 1), params["pixels"], params["squares"])
        mean, variance = jnp.where(n > 0, mean, 0.5), jnp.where(n > 0, variance, 1 / 12)
        share = jnp.exp(log_prior(params))[:, None, None, None]
        overall = (share * (variance + (mean - (share * mean).sum(0)) ** 2)).sum(0)
        return mean, variance + config.variance_floor * overall.max()

    def classify(state, batch):
        """Log p(x, y) [batch, classes]: logits of p(y|x)."""
        if binary:
            x, (log_one, log_zero) = to_binary(batch["image"]), bernoulli(state.params)
            ones = jnp.einsum("bhwc,khwc->bk", x, log_one, precision="highest")
            log_likelihood = ones + jnp.einsum("bhwc,khwc->bk", 1 - x, log_zero, precision="highest")
        else:
            x = to_unit(batch["image"])[:, None]
            mean, variance = gaussian(state.params)
            terms = (x - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance)
            log_likelihood = -0.5 * terms.sum((2, 3, 4))
        return log_prior(state.params) + log_likelihood

    def log_prob(key, state, batch):
        return jax.nn.logsumexp(classify(state, batch), -1)

    def sample(key, state, num, condition=None):
        k_label, k_pixel = jax.random.split(key)
        label = (
            jax.random.categorical(k_label, log_prior(state.params), shape=(num,)).astype(jnp.int32)
            if condition is None
            else condition["label"]
        )
        if binary:
            x = jax.random.bernoulli(k_pixel, jnp.exp(bernoulli(state.params)[0])[label]).astype(jnp.float32)
        else:
            mean, variance = gaussian(state.params)
            x = mean[label] + jnp.sqrt(variance[label]) * jax.random.normal(k_pixel, mean[label].shape)
        return {"image": from_unit(x), "label": label}

    return Model(
        init,
        (Phase("count", count, passes=1),),
        needs=("image", "label"),
        sample=sample,
        conditions=("label",),
        sampling="draws from p(x|y)",
        log_prob=log_prob,
        likelihood=Likelihood("binary", "exact", "bits are pixels >= 128")
        if binary
        else Likelihood("continuous", "exact", "pixels in [0, 1], not dequantised"),
        classify=classify,
    )
