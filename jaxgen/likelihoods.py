"""Terms that two or more models share, per example: sums over pixels and latents, never averaged."""

from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import optax

from jaxgen.model import Array, Spec

Choice = TypeVar("Choice", bound=str)


def fitting(likelihood: Choice | None, spec: Spec, *, bits: Choice, levels: Choice) -> Choice:
    """The likelihood that was chosen; where none was, `bits` for binarized images, and `levels` for all others."""
    return likelihood or (bits if spec.binary else levels)


def bits_of(spec: Spec) -> str:
    """Description of the bits that a likelihood is of."""
    return "bits, 1 where a pixel is at least 128" + ("" if spec.binary else "; gray levels are thresholded")


def _event_sum(x: Array) -> Array:
    """The sum over all but the first axis; on CPUs as a product with ones.

    XLA for CPUs fuses a plain sum with the preceding operations into one slow loop: importance sampling took five
    times as long.
    """
    flat = x.reshape(x.shape[0], -1)
    return jax.lax.platform_dependent(
        flat, cpu=lambda flat: flat @ jnp.ones(flat.shape[1], flat.dtype), default=lambda flat: flat.sum(-1)
    )


def bernoulli_log_prob(x: Array, logits: Array) -> Array:
    """Log p(x) of independent bits, nats [batch]; x 0 or 1 (or a probability, for its expectation).

    x l - softplus(l), finite for every finite logit l; both [batch, ...].
    """
    chex.assert_equal_shape([x, logits])  # broadcasting would silently give a wrong likelihood
    return -_event_sum(optax.sigmoid_binary_cross_entropy(logits, x))


def gaussian_log_prob(x: Array, mean: Array, log_variance: Array | float) -> Array:
    """Log density of independent Gaussians, nats [batch]; x and mean [batch, ...]."""
    chex.assert_equal_shape([x, mean])
    log_variance = jnp.broadcast_to(jnp.asarray(log_variance, x.dtype), x.shape)
    square = (x - mean) ** 2 * jnp.exp(-log_variance)
    return -0.5 * _event_sum(square + log_variance + jnp.log(2 * jnp.pi).astype(x.dtype))


def discretized_logistic_log_prob(x: Array, mean: Array, log_scale: Array | float) -> Array:
    """Log p(x) of independent pixels of 256 levels, nats [batch]; x and mean in [0, 1], [batch, ...].

    The sum of `discretized_logistic_log_mass` over the pixels.
    """
    chex.assert_equal_shape([x, mean])
    return _event_sum(discretized_logistic_log_mass(x, mean, log_scale))


def discretized_logistic_log_mass(x: Array, mean: Array, log_scale: Array | float) -> Array:
    """Log-probability of each pixel's level among 256, nats; x and mean in [0, 1], of shapes that broadcast.

    A logistic distribution's mass on each level's interval; the intervals of 0 and 255 are unbounded outwards (Kingma
    et al. 2016, https://arxiv.org/abs/1606.04934, section 4; Salimans et al. 2017). With a and b the interval's ends,

        sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))

    exactly, and b - a = -1 / (255 scale): a sum of logarithms without cancellation, finite wherever a and b are.
    `log_scale` is for pixels in [0, 1]; the standard deviation is pi / sqrt(3) times the scale.
    """
    x, mean, log_scale = jnp.broadcast_arrays(x, mean, jnp.asarray(log_scale, x.dtype))
    per_level = jnp.exp(-log_scale) / 255
    level = jnp.round(x * 255)
    upper, lower = (level + 0.5 - mean * 255) * per_level, (level - 0.5 - mean * 255) * per_level
    below, above = jax.nn.log_sigmoid(upper), jax.nn.log_sigmoid(-lower)  # log P(X < upper), log P(X > lower)
    inside = below + above + jnp.log(-jnp.expm1(-per_level))
    return jnp.where(level == 0, below, jnp.where(level == 255, above, inside))


def gaussian_kl(mean: Array, log_variance: Array) -> Array:
    """KL(N(mean, exp(log_variance)) || N(0, I)), nats [batch]; both [batch, latents].

    Kingma & Welling 2014, appendix B: -1/2 sum(1 + log v - m^2 - v).
    """
    chex.assert_equal_shape([mean, log_variance])
    return 0.5 * _event_sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)
