"""Losses of adversarial players by name, and penalties on D's gradient, per example.

Losses act elementwise on logits of any shape: [batch], or [batch, heads]. For penalties, D is a function from
examples [batch, ...] to logits [batch], each from its own example alone.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgen.model import Array, Key

LossName = Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"]
PenaltyName = Literal["none", "one_centered", "zero_centered"]
PenaltyPlace = Literal["between", "real", "fake"]

# Losses, from logits by softplus, never by the logarithm of a sigmoid.


def discriminator_minimax(real_logits: Array, fake_logits: Array) -> Array:
    """-log D(x) - log(1 - D(G(z))) per pair, nats [batch]; Goodfellow et al. 2014, equation 1."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return jnp.logaddexp(0, -real_logits) + jnp.logaddexp(0, fake_logits)


def generator_minimax(fake_logits: Array) -> Array:
    """log(1 - D(G(z))), nats [batch]; Goodfellow et al. 2014, equation 1. It saturates where D is sure of a fake."""
    return -jnp.logaddexp(0, fake_logits)


def generator_non_saturating(fake_logits: Array) -> Array:
    """-log D(G(z)), nats [batch]; Goodfellow et al. 2014, section 3."""
    return jnp.logaddexp(0, -fake_logits)


def discriminator_least_squares(real_logits: Array, fake_logits: Array) -> Array:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2 per pair [batch], D the logit; Mao et al. 2017, coded 0 and 1."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return 0.5 * (real_logits - 1) ** 2 + 0.5 * fake_logits**2


def generator_least_squares(fake_logits: Array) -> Array:
    """(D(G(z)) - 1)^2 / 2 [batch], D the logit; Mao et al. 2017, coded 0 and 1."""
    return 0.5 * (fake_logits - 1) ** 2


def discriminator_hinge(real_logits: Array, fake_logits: Array) -> Array:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) per pair [batch], D the logit; Lim & Ye 2017, Miyato et al. 2018."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return nn.relu(1 - real_logits) + nn.relu(1 + fake_logits)


def discriminator_wasserstein(real_logits: Array, fake_logits: Array) -> Array:
    """D(G(z)) - D(x) per pair [batch], D the logit, which must be 1-Lipschitz; Arjovsky et al. 2017, section 3."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return fake_logits - real_logits


def generator_wasserstein(fake_logits: Array) -> Array:
    """-D(G(z)) [batch], D the logit; Arjovsky et al. 2017, section 3. The hinge loss uses it too."""
    return -fake_logits


class Loss(NamedTuple):
    """Loss of each player, and D's output: a probability or the logit itself."""

    discriminator: Callable[[Array, Array], Array]  # (real_logits, fake_logits) -> [batch]
    generator: Callable[[Array], Array]  # fake_logits -> [batch]
    output: Callable[[Array], Array]  # logits -> D's output
    boundary: float | None  # logit above which D classifies an example as real; None if there is none


LOSSES: dict[LossName, Loss] = {
    "minimax": Loss(discriminator_minimax, generator_minimax, nn.sigmoid, 0.0),
    "non_saturating": Loss(discriminator_minimax, generator_non_saturating, nn.sigmoid, 0.0),
    "least_squares": Loss(discriminator_least_squares, generator_least_squares, jnp.asarray, 0.5),
    "hinge": Loss(discriminator_hinge, generator_wasserstein, jnp.asarray, 0.0),
    "wasserstein": Loss(discriminator_wasserstein, generator_wasserstein, jnp.asarray, None),
}

# Penalties on the gradient of `critic`, a function of examples [batch, ...] to logits [batch].


def penalized_at(key: Key, place: PenaltyPlace, real: Array, fake: Array) -> Array:
    """Examples [batch, ...] at which D's gradient is penalized: real, fake, or e x + (1 - e) G(z) of each pair.

    e is uniform in [0, 1), one number per pair; Gulrajani et al. 2017, algorithm 1.
    """
    chex.assert_equal_shape([real, fake])
    if place != "between":
        return real if place == "real" else fake
    e = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1), real.dtype)
    return e * real + (1 - e) * fake


def _gradients(critic: Callable[[Array], Array], x: Array) -> Array:
    """Gradient of D's logit with respect to each example, flattened: [batch, numbers]."""
    return jax.grad(lambda x: critic(x).sum())(x).reshape(len(x), -1)


def one_centered(critic: Callable[[Array], Array], x: Array) -> Array:
    """(|grad D(x)| - 1)^2 [batch], two-sided. If grad D is exactly 0, as with dead units, the penalty's gradient is 0.

    Between real and fake examples, with weight 10, it is WGAN-GP's; Gulrajani et al. 2017, equation 3.
    """
    return (optax.safe_norm(_gradients(critic, x), 0.0, axis=1) - 1) ** 2


def zero_centered(critic: Callable[[Array], Array], x: Array) -> Array:
    """|grad D(x)|^2 / 2 [batch].

    On real examples it is R1, on fake ones R2, with weight gamma 10; Mescheder et al. 2018, equations 9 and 10. Between
    both, at twice their lambda, it is that of Thanh-Tung et al. 2019 (https://arxiv.org/abs/1902.03984).
    """
    return 0.5 * (_gradients(critic, x) ** 2).sum(1)


PENALTIES: dict[PenaltyName, Callable[[Callable[[Array], Array], Array], Array]] = {
    "one_centered": one_centered,
    "zero_centered": zero_centered,
}
