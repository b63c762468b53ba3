"""What adversarial models share: the players' losses by name, and penalties on D's gradient, per example.

Losses take logits of any shape, number by number: [batch], or [batch, heads]. Where it is penalized, D is a function of
examples [batch, ...] to logits [batch], each example's from that example alone.
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

# Losses. From logits, through softplus: never the logarithm of a sigmoid.


def discriminator_minimax(real_logits: Array, fake_logits: Array) -> Array:
    """-log D(x) - log(1 - D(G(z))) per pair, nats [batch]; Goodfellow et al. 2014, equation 1."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return jnp.logaddexp(0, -real_logits) + jnp.logaddexp(0, fake_logits)


def generator_minimax(fake_logits: Array) -> Array:
    """log(1 - D(G(z))), nats [batch]; Goodfellow et al. 2014, equation 1. Flat where D is sure of a fake."""
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
    """D(G(z)) - D(x) per pair [batch], D the logit, to be kept 1-Lipschitz; Arjovsky et al. 2017, section 3."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return fake_logits - real_logits


def generator_wasserstein(fake_logits: Array) -> Array:
    """-D(G(z)) [batch], D the logit; Arjovsky et al. 2017, section 3. The hinge's too."""
    return -fake_logits


class Loss(NamedTuple):
    """What each player makes small, and what D puts out: a probability or the logit itself."""

    discriminator: Callable[[Array, Array], Array]  # (real_logits, fake_logits) -> [batch]
    generator: Callable[[Array], Array]  # fake_logits -> [batch]
    output: Callable[[Array], Array]  # logits -> D's output
    boundary: float | None  # the logit over which D takes an example for real; None where it says no such thing


LOSSES: dict[LossName, Loss] = {
    "minimax": Loss(discriminator_minimax, generator_minimax, nn.sigmoid, 0.0),
    "non_saturating": Loss(discriminator_minimax, generator_non_saturating, nn.sigmoid, 0.0),
    "least_squares": Loss(discriminator_least_squares, generator_least_squares, jnp.asarray, 0.5),
    "hinge": Loss(discriminator_hinge, generator_wasserstein, jnp.asarray, 0.0),
    "wasserstein": Loss(discriminator_wasserstein, generator_wasserstein, jnp.asarray, None),
}

# Penalties on the gradient of `critic`, a function of examples [batch, ...] to logits [batch].


def penalized_at(key: Key, place: PenaltyPlace, real: Array, fake: Array) -> Array:
    """The examples [batch, ...] at which D's gradient is penalized: real, fake, or e x + (1 - e) G(z) of each pair.

    e is uniform in [0, 1), one number a pair; Gulrajani et al. 2017, algorithm 1.
    """
    chex.assert_equal_shape([real, fake])
    if place != "between":
        return real if place == "real" else fake
    e = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1), real.dtype)
    return e * real + (1 - e) * fake


def _gradients(critic: Callable[[Array], Array], x: Array) -> Array:
    """Each example's own gradient, as a row [batch, numbers]."""
    return jax.grad(lambda x: critic(x).sum())(x).reshape(len(x), -1)


def one_centered(critic: Callable[[Array], Array], x: Array) -> Array:
    """(|grad D(x)| - 1)^2 [batch], two-sided. Where grad D is exactly 0, as with dead units, its own gradient is 0.

    Between real and fake examples with weight 10 it is WGAN-GP's; Gulrajani et al. 2017, equation 3.
    """
    return (optax.safe_norm(_gradients(critic, x), 0.0, axis=1) - 1) ** 2


def zero_centered(critic: Callable[[Array], Array], x: Array) -> Array:
    """|grad D(x)|^2 / 2 [batch].

    On real examples R1, on fake ones R2, with weight gamma 10; Mescheder et al. 2018, equations 9 and 10. Between
    both, at twice their lambda, that of Thanh-Tung et al. 2019 (https://arxiv.org/abs/1902.03984).
    """
    return 0.5 * (_gradients(critic, x) ** 2).sum(1)


PENALTIES: dict[PenaltyName, Callable[[Callable[[Array], Array], Array], Array]] = {
    "one_centered": one_centered,
    "zero_centered": zero_centered,
}
