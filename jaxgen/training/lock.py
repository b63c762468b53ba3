"""A lock that lets one process at a time train in a run folder."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxgen.errors import UserError

LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a run folder for this process.

    The operating system releases the lock when the process ends, however it ends, so no stale lock remains. The file
    names the process that holds it, or held it last.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None
    with file:
        for _ in range(10):  # `is_locked` holds the lock for a moment
            if _taken(file):
                break
            time.sleep(0.05)
        else:
            raise UserError(f"{folder} is in use by {owner(folder)}")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def is_locked(folder: Path) -> bool:
    """True if a process trains in the folder now."""
    try:
        with (folder / LOCK).open() as file:
            return not _taken(file)
    except OSError:
        return False


def owner(folder: Path) -> str:
    """Name of the process that holds a run folder's lock, or held it last."""
    try:
        return (folder / LOCK).read_text(errors="replace").strip()[:100] or "another process"
    except OSError:
        return "another process"


def _taken(file) -> bool:
    """Takes the lock of an open file if it is free; True if taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
