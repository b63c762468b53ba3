"""Terms that two or more models share, per example: sums over pixels and latents, never averaged."""

import chex
import jax.numpy as jnp
import optax

from jaxgen.model import Array


def _event_sum(x: Array) -> Array:
    return x.reshape(x.shape[0], -1).sum(-1)


def bernoulli_log_prob(x: Array, logits: Array) -> Array:
    """Log p(x) of independent bits, nats [batch]; x 0 or 1 (or a probability, for its expectation).

    x l - softplus(l), finite for every finite logit l; both [batch, ...].
    """
    chex.assert_equal_shape([x, logits])  # a broadcast would be a wrong likelihood, silently
    return -_event_sum(optax.sigmoid_binary_cross_entropy(logits, x))


def gaussian_log_prob(x: Array, mean: Array, log_variance: Array | float) -> Array:
    """Log density of independent Gaussians, nats [batch]; x and mean [batch, ...]."""
    chex.assert_equal_shape([x, mean])
    log_variance = jnp.broadcast_to(jnp.asarray(log_variance, x.dtype), x.shape)
    square = (x - mean) ** 2 * jnp.exp(-log_variance)
    return -0.5 * _event_sum(square + log_variance + jnp.log(2 * jnp.pi).astype(x.dtype))


def gaussian_kl(mean: Array, log_variance: Array) -> Array:
    """KL(N(mean, exp(log_variance)) || N(0, I)), nats [batch]; both [batch, latents].

    Kingma & Welling 2014, appendix B: -1/2 sum(1 + log v - m^2 - v).
    """
    chex.assert_equal_shape([mean, log_variance])
    return 0.5 * _event_sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)


def discriminator_minimax(real_logits: Array, fake_logits: Array) -> Array:
    """-log D(x) - log(1 - D(G(z))) per pair, nats [batch]; Goodfellow et al. 2014, equation 1.

    From logits [batch], through softplus: never the logarithm of a sigmoid.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return jnp.logaddexp(0, -real_logits) + jnp.logaddexp(0, fake_logits)


def generator_non_saturating(fake_logits: Array) -> Array:
    """-log D(G(z)), nats [batch], from logits [batch]; Goodfellow et al. 2014, section 3."""
    return jnp.logaddexp(0, -fake_logits)
