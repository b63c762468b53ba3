"""One step of an optax optimizer, and a cosine schedule of the learning rate."""

from typing import Any

import optax

from jaxgen.errors import check_positive
from jaxgen.model import PyTree
from jaxgen.nn.promotion import library_promotion


def descend(
    optimizer: optax.GradientTransformation, gradients: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """Returns (params, opt_state) after one update."""
    with library_promotion():  # adam, adamw and ema mix int32 counters with float32
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state


def decaying_rate(config: Any) -> optax.ScalarOrSchedule:
    """Schedule of a Config's `learning_rate`: falls to 0 along a cosine over `decay_steps`; constant if that is None.

    Raises UserError for a `decay_steps` that is not positive.
    """
    if config.decay_steps is None:
        return config.learning_rate
    check_positive(config, "decay_steps")
    return optax.cosine_decay_schedule(config.learning_rate, config.decay_steps)
