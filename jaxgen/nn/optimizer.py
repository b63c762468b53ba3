"""One step of an optax optimizer."""

import jax
import optax

from jaxgen.model import PyTree


def descend(
    optimizer: optax.GradientTransformation, gradients: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """(new params, new opt_state) after one update.

    The one place where standard dtype promotion is allowed: optax's adam, adamw and ema mix int32
    counters with float32, which strict promotion refuses.
    """
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state
