"""What adversarial models share: the players' losses by name, and penalties on D's gradient, per example.

D is a function of images to logits [batch], each example's from that example alone where it is penalised.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgen.errors import UserError, check_positive
from jaxgen.model import Array, Key

LossName = Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"]
PenaltyName = Literal["none", "gradient", "r1"]

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


LOSSES: dict[LossName, Loss] = {
    "minimax": Loss(discriminator_minimax, generator_minimax, nn.sigmoid),
    "non_saturating": Loss(discriminator_minimax, generator_non_saturating, nn.sigmoid),
    "least_squares": Loss(discriminator_least_squares, generator_least_squares, jnp.asarray),
    "hinge": Loss(discriminator_hinge, generator_wasserstein, jnp.asarray),
    "wasserstein": Loss(discriminator_wasserstein, generator_wasserstein, jnp.asarray),
}

# Penalties. `critic`: a function of images [batch, ...] to logits [batch].


def _gradients(critic: Callable[[Array], Array], images: Array) -> Array:
    """Each image's own gradient, as a row [batch, pixels]."""
    return jax.grad(lambda x: critic(x).sum())(images).reshape(len(images), -1)


def gradient_penalty(key: Key, critic: Callable[[Array], Array], real: Array, fake: Array) -> Array:
    """(|grad D(e x + (1 - e) G(z))| - 1)^2 per pair [batch], e uniform in [0, 1); real and fake [batch, ...].

    Two-sided. Where grad D is exactly 0, as with dead units, the value is 1 and its gradient 0.

    Source: Gulrajani et al. 2017, equation 3 and algorithm 1 (weight 10).
    """
    chex.assert_equal_shape([real, fake])
    e = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1), real.dtype)
    norms = optax.safe_norm(_gradients(critic, e * real + (1 - e) * fake), 0.0, axis=1)
    return (norms - 1) ** 2


def r1_penalty(critic: Callable[[Array], Array], real: Array) -> Array:
    """|grad D(x)|^2 / 2 [batch], on real images [batch, ...]; Mescheder et al. 2018, equation 9 (weight 10)."""
    return 0.5 * (_gradients(critic, real) ** 2).sum(1)


PENALTIES: dict[PenaltyName, Callable[..., Array]] = {  # (key, critic, real, fake) -> [batch]
    "none": lambda key, critic, real, fake: jnp.zeros(len(real)),
    "gradient": gradient_penalty,
    "r1": lambda key, critic, real, fake: r1_penalty(critic, real),
}


def check_adversarial(config: Any) -> None:
    """Raises UserError for a `loss`, `penalty`, `normalization` and `spectral_norm` that do not go together."""
    check_positive(config, "penalty_weight", "critic_steps")
    if config.loss == "wasserstein" and config.penalty != "gradient" and not config.spectral_norm:
        raise UserError("loss wasserstein takes penalty gradient or spectral_norm: else D has no bound and only grows")
    if config.penalty != "none" and config.normalization == "batch":
        raise UserError(
            f"penalty {config.penalty} takes normalization layer or none: it is of each image's own gradient, "
            "which BatchNorm mixes over the batch"
        )
    if config.spectral_norm and config.normalization != "none":
        raise UserError(
            f"spectral_norm takes normalization none: {config.normalization} normalization undoes a kernel's scale"
        )
