"""One run over several processes, as `jax.distributed` joins them: each holds a part of the devices.

All read the same data and take the same decisions; only the first writes. Functions whose docstring ends with
"(collective)" must be called by every process, in the same order.
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
"""Errors of a collective operation whose other processes are gone."""


def join() -> None:
    """Joins this process to those that a cluster has started, before JAX starts.

    Raises:
        UserError: there is no such cluster, or the others cannot be reached.
    """
    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the other processes: {error}") from None


def is_first() -> bool:
    """True if this process writes the run; a single process does."""
    return jax.process_index() == 0


def allgathered(tree: Any) -> Any:
    """Gathers those arrays of `tree` that are divided among processes, as NumPy arrays (collective)."""

    def fetched(leaf):
        divided = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return multihost_utils.process_allgather(leaf, tiled=True) if divided else leaf

    return jax.tree.map(fetched, tree)


def agreed(number: int) -> int:
    """Returns the largest number of all processes (collective)."""
    return int(np.max(multihost_utils.process_allgather(np.int32(number)))) if jax.process_count() > 1 else number


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Waits until every process has finished the block; an error of one is raised in all (collective).

    The block itself must not call collective functions.

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
    """Returns the error of a process that stops because another one had an error."""
    return UserError("another process of the run had an error; its own words say which")


@contextlib.contextmanager
def peer_failures() -> Iterator[None]:
    """Turns errors of collective operations whose other processes are gone into a UserError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # which of the two depends on the backend
        if jax.process_count() == 1 or not GONE.match(str(error)):
            raise
        words = "another process of the run is gone, or cannot be reached; restart all of them with --resume"
        raise UserError(f"{words} ({str(error)[:200]})") from error
