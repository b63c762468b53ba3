"""Functions of many examples, applied a part at a time so that they fit in memory."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jaxgen.model import Array


def in_parts(function: Callable, most: int, *entries: Array) -> Array:
    """Applies `function` (number of the part, entries) to at most `most` examples [num, ...] at a time: [num, ...].

    Parts are of one size, the last filled up with the first examples.
    """
    num = len(entries[0])
    parts = -(-num // most)
    if parts == 1:
        return function(0, *entries)
    each = -(-num // parts)
    filled = [jnp.concatenate([entry, entry[: parts * each - num]]) for entry in entries]
    divided = [entry.reshape(parts, each, *entry.shape[1:]) for entry in filled]
    made = lax.map(lambda of_part: function(*of_part), (jnp.arange(parts), *divided))
    return made.reshape(parts * each, *made.shape[2:])[:num]
