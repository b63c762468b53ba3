"""A run's random streams: one root key a seed, split once into named keys.

Every key is typed and used once. The step's key is `fold_in(train, state.step)`, so that resuming
needs no saved generator.
"""

from typing import NamedTuple

import jax

from jaxgen.model import Key


class Streams(NamedTuple):
    """The named keys of one seed, each the root of all randomness of its purpose."""

    init: Key
    data: Key
    train: Key
    sample: Key
    evaluate: Key


def streams(seed: int) -> Streams:
    """The named streams of a seed: its root key, split once."""
    return Streams(*jax.random.split(jax.random.key(seed), len(Streams._fields)))
