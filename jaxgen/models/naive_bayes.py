"""Naive Bayes: pixels independent given the class; section 2.3.1 of the review.

    p(x, y) = p(y) prod_j p(x_j|y),    p(y|x) = p(x, y) / sum_y' p(x, y'),    p(x) = sum_y p(x, y)

Pixels are Bernoulli, or categorical (gray levels in equal bins, a bin's probability spread evenly over its
levels), both with Laplace smoothing; or Gaussian with a floor added to their
variance (as in scikit-learn's GaussianNB: a share of the largest variance of any pixel over all
classes). There is no optimizer: one pass over the data counts, in exact integers.

Exactness. Sums of uint8 pixels and of their squares are kept in uint32, the squares modulo 2^32. With
q the mean's nearest integer and r = sum x - n q, the centered sum sum (x - q)^2 = sum x^2 - q (sum x + r)
is an integer below 2^32 for up to 264,000 examples, hence exact; then var = sum (x - q)^2 / n - (r / n)^2
with |r / n| <= 1/2, which loses no digits in float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_positive
from jaxgen.likelihoods import bits_of, fitting
from jaxgen.model import Array, Key, Likelihood, Model, Phase, Sampler, Space, Spec, State
from jaxgen.nn.image import from_unit, to_binary, to_unit

MOST_EXAMPLES = 264_000


@dataclass(frozen=True)
class Config:
    """Naive Bayes."""

    likelihood: Literal["bernoulli", "gaussian", "categorical"] | None = None  # bits if binarized, else categorical
    smoothing: float = 1.0  # Laplace's alpha: pseudo-examples per class, pixel, value, for bernoulli, categorical
    variance_floor: float = 1e-2  # added to variances, as a share of the largest; for gaussian
    levels: int = 16  # equal bins of the 256 gray levels, a power of two; for categorical


def gaussian_parameters(n: Array, total: Array, squares: Array) -> tuple[Array, Array]:
    """Mean and variance of pixels in [0, 1], from exact sums of uint8 levels; n is at least 1.

    n and total are uint32, squares uint32 modulo 2^32; they are broadcast together.
    """
    q = (total + n // 2) // n
    r = jax.lax.bitcast_convert_type(total - q * n, jnp.int32).astype(jnp.float32)
    centered = (squares - 2 * q * total + q * q * n).astype(jnp.float32)
    n = n.astype(jnp.float32)
    mean, variance = q.astype(jnp.float32) + r / n, centered / n - (r / n) ** 2
    return mean / 255, jnp.maximum(variance, 0) / 255**2


Params = Mapping[str, Array]  # examples uint32 [classes], and the likelihood's sums


class Pixels(NamedTuple):
    """p(x_j|y) of all pixels and classes, from sums over the training images."""

    sums: Mapping[str, tuple[int, ...]]  # shapes of the sums, which start at 0
    add: Callable[[Params, Array, Array, Array], Params]
    """(params, image uint8 [batch, H, W, C], label [batch], counted [batch]) -> the sums including these images."""
    log_likelihood: Callable[[Params, Array], Array]  # (params, image) -> log p(x|y) [batch, classes]
    draw: Callable[[Key, Params, Array], Array]  # (key, params, label [num]) -> uint8 [num, H, W, C]
    measures: tuple[Space, Literal["exact"], str]  # space, kind and note of the likelihood


def class_sums(values: Array, label: Array, counted: Array, classes: int) -> Array:
    """Sums [classes, H, W, C], modulo 2^32, of integers [batch, H, W, C] over each class's counted images."""
    member = (label[:, None] == jnp.arange(classes)) & counted[:, None]
    return jnp.einsum("bk,bhwc->khwc", member.astype(jnp.uint32), values.astype(jnp.uint32))


def log_prior(params: Params) -> Array:
    """Log p(y) [classes]; uniform before any example is counted."""
    n = params["examples"].astype(jnp.float32)
    share = jnp.where(n.sum() > 0, n / jnp.maximum(n.sum(), 1), 1 / len(n))
    return jnp.log(share)


def bernoulli(config: Config, spec: Spec) -> Pixels:
    """Pixels as bits, 1 where at least 128."""
    shape = (spec.num_classes, *spec.image_shape)

    def add(params, image, label, counted):
        return {"pixels": params["pixels"] + class_sums(to_binary(image), label, counted, spec.num_classes)}

    def log_probabilities(params):
        """Log p(x_j = 1|y) and log p(x_j = 0|y) [classes, H, W, C], each from its own count."""
        n, ones = params["examples"][:, None, None, None], params["pixels"]
        ones, zeros, n = (count.astype(jnp.float32) for count in (ones, n - ones, n))
        total = jnp.log(n + 2 * config.smoothing)
        return jnp.log(ones + config.smoothing) - total, jnp.log(zeros + config.smoothing) - total

    def log_likelihood(params, image):
        x, (log_one, log_zero) = to_binary(image), log_probabilities(params)
        ones = jnp.einsum("bhwc,khwc->bk", x, log_one, precision="highest")
        return ones + jnp.einsum("bhwc,khwc->bk", 1 - x, log_zero, precision="highest")

    def draw(key, params, label):
        x = jax.random.bernoulli(key, jnp.exp(log_probabilities(params)[0])[label])
        return from_unit(x.astype(jnp.float32))

    return Pixels({"pixels": shape}, add, log_likelihood, draw, ("binary", "exact", f"p(x|y) is of {bits_of(spec)}"))


def gaussian(config: Config, spec: Spec) -> Pixels:
    """Pixels as normally distributed numbers in [0, 1]."""
    shape = (spec.num_classes, *spec.image_shape)

    def add(params, image, label, counted):
        x = image.astype(jnp.uint32)
        values = {"pixels": x, "squares": x * x}
        return {name: params[name] + class_sums(x, label, counted, spec.num_classes) for name, x in values.items()}

    def moments(params):
        """Mean and variance of x_j given y [classes, H, W, C]; those of uniform noise before any example."""
        n = params["examples"][:, None, None, None]
        mean, variance = gaussian_parameters(jnp.maximum(n, 1), params["pixels"], params["squares"])
        mean, variance = jnp.where(n > 0, mean, 0.5), jnp.where(n > 0, variance, 1 / 12)
        share = jnp.exp(log_prior(params))[:, None, None, None]
        overall = (share * (variance + (mean - (share * mean).sum(0)) ** 2)).sum(0)
        return mean, variance + config.variance_floor * overall.max()

    def log_likelihood(params, image):
        x, (mean, variance) = to_unit(image)[:, None], moments(params)
        terms = (x - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance)
        return -0.5 * terms.sum((2, 3, 4))

    def draw(key, params, label):
        mean, variance = moments(params)
        return from_unit(mean[label] + jnp.sqrt(variance[label]) * jax.random.normal(key, mean[label].shape))

    return Pixels(
        {"pixels": shape, "squares": shape},
        add,
        log_likelihood,
        draw,
        ("continuous", "exact", "p(x|y) is of pixels in [0, 1], not dequantized"),
    )


def categorical(config: Config, spec: Spec) -> Pixels:
    """Pixels as one of `levels` bins, each of 256 / levels equally likely gray levels."""
    levels, classes, pixels = config.levels, spec.num_classes, int(np.prod(spec.image_shape))
    if levels not in (2, 4, 8, 16, 32, 64, 128, 256):
        raise UserError(f"levels must be a power of two from 2 to 256, not {levels}")
    width, each = 256 // levels, jnp.arange(pixels)

    def bins(image):
        """Bins of the pixels, [batch, pixels]."""
        return image.reshape(-1, pixels).astype(jnp.int32) // width

    def add(params, image, label, counted):
        place = (label[:, None], each, bins(image))
        return {"levels": params["levels"].at[place].add(counted[:, None].astype(jnp.uint32))}

    def log_probabilities(params):
        """Log p(bin of x_j|y) [classes, pixels, levels]."""
        n, count = (params[name].astype(jnp.float32) for name in ("examples", "levels"))
        return jnp.log(count + config.smoothing) - jnp.log(n + levels * config.smoothing)[:, None, None]

    def log_likelihood(params, image):
        place = bins(image)
        # One class at a time: with 1,000 classes all together would not fit into memory.
        by_class = jax.lax.map(lambda table: table[each, place].sum(1), log_probabilities(params))
        return by_class.T - float(pixels * np.log(width))

    def draw(key, params, label):
        k_bin, k_level = jax.random.split(key)
        cumulative = jnp.exp(log_probabilities(params)).cumsum(-1)
        u, place = jax.random.uniform(k_bin, (len(label), pixels)), jnp.zeros((len(label), pixels), jnp.int32)
        for bit in reversed(range(levels.bit_length() - 1)):  # the number of bins that end at u or below, by bisection
            place += jnp.where(cumulative[label[:, None], each, place + (1 << bit) - 1] <= u, 1 << bit, 0)
        level = place * width + jax.random.randint(k_level, place.shape, 0, width)
        return level.astype(jnp.uint8).reshape(-1, *spec.image_shape)

    return Pixels(
        {"levels": (classes, pixels, levels)},
        add,
        log_likelihood,
        draw,
        ("uint8", "exact", f"p(x|y) is of the 256 levels, in {levels} bins of equally likely ones"),
    )


LIKELIHOODS = {"bernoulli": bernoulli, "gaussian": gaussian, "categorical": categorical}


def make(config: Config, spec: Spec) -> Model:
    """Naive Bayes over `spec`'s images and labels.

    Raises UserError beyond 264,000 training examples, where the integer sums would no longer be exact, and for a
    value that is invalid or belongs to another likelihood.
    """
    config = replace(config, likelihood=fitting(config.likelihood, spec, bits="bernoulli", levels="categorical"))
    check_positive(config, "smoothing", "variance_floor")
    uses = {"bernoulli": ("smoothing",), "gaussian": ("variance_floor",), "categorical": ("smoothing", "levels")}
    check_idle(config, "likelihood", uses)
    if spec.num_examples > MOST_EXAMPLES:
        raise UserError(
            f"naive_bayes counts exactly up to {MOST_EXAMPLES} examples; this dataset has {spec.num_examples}"
        )
    pixels = LIKELIHOODS[config.likelihood](config, spec)

    def init(key):
        zeros = {name: jnp.zeros(shape, jnp.uint32) for name, shape in pixels.sums.items()}
        return State(jnp.int32(0), {"examples": jnp.zeros(spec.num_classes, jnp.uint32), **zeros})

    def count(key, state, batch):
        label, counted = batch["label"], (batch["weight"] > 0) & (batch["label"] >= 0)
        examples = state.params["examples"].at[label].add(counted.astype(jnp.uint32))
        params = {"examples": examples, **pixels.add(state.params, batch["image"], label, counted)}
        return state._replace(params=params), {"examples": counted.sum().astype(jnp.float32)}

    def classify(state, batch):
        """Log p(x, y) [batch, classes]: logits of p(y|x)."""
        return log_prior(state.params) + pixels.log_likelihood(state.params, batch["image"])

    def log_prob(key, state, batch):
        return jax.nn.logsumexp(classify(state, batch), -1)

    def draw(key, state, num, condition):
        return {"image": pixels.draw(key, state.params, condition["label"])}

    return Model(
        init,
        (Phase("count", count, passes=1),),
        needs=("image", "label"),
        sampler=Sampler(draw, ("label",), "draws from p(x|y)"),
        likelihood=Likelihood(log_prob, *pixels.measures),
        predict={"label": classify},
    )
