"""One run over several processes, as `jax.distributed` joins them: each holds a part of the devices.

All read the same data and take the same decisions; the first alone writes. Functions here that say "all" are to be
called by every process, in the same order.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgen.errors import UserError

GONE = re.compile(r"UNKNOWN: .*Gloo|INTERNAL: .*NCCL|UNAVAILABLE: |ABORTED: |DEADLINE_EXCEEDED: |CANCELLED: ")
"""What a collective operation says whose other processes are gone."""


def join() -> None:
    """Makes this process one of those that a cluster has started, before JAX starts.

    Raises:
        UserError: there is no such cluster, or the others cannot be reached.
    """
    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the other processes: {error}") from None


def is_first() -> bool:
    """Whether this process writes the run; the only one does."""
    return jax.process_index() == 0


def allgathered(tree: Any) -> Any:
    """All: `tree`, with those of its arrays that are divided among processes whole, as NumPy's."""

    def fetched(leaf):
        divided = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return multihost_utils.process_allgather(leaf, tiled=True) if divided else leaf

    return jax.tree.map(fetched, tree)


def agreed(number: int) -> int:
    """All: the largest number that a process gives."""
    return int(np.max(multihost_utils.process_allgather(np.int32(number)))) if jax.process_count() > 1 else number


@contextlib.contextmanager
def together() -> Iterator[None]:
    """All: goes on when each is through; an error of one is raised in all. Nothing within is for all.

    Raises:
        UserError: another process had an error.
    """
    failed = None
    try:
        yield
    except Exception as error:
        failed = error
    if agreed(failed is not None):
        raise failed or other_failed()


def other_failed() -> UserError:
    """What a process says that leaves since another one had an error."""
    return UserError("another process of the run had an error; its own words say which")


@contextlib.contextmanager
def peer_failures() -> Iterator[None]:
    """What a collective operation says whose other processes are gone, as a UserError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # which of the two depends on the backend
        if jax.process_count() == 1 or not GONE.match(str(error)):
            raise
        words = "another process of the run is gone, or cannot be reached; started again, all go on with --resume"
        raise UserError(f"{words} ({str(error)[:200]})") from error
