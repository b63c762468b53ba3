"""One step of an optax optimizer."""

import optax

from jaxgen.model import PyTree
from jaxgen.nn.promotion import library_promotion


def descend(
    optimizer: optax.GradientTransformation, gradients: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """(new params, new opt_state) after one update."""
    with library_promotion():  # adam, adamw and ema mix int32 counters with float32
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state
