"""SIGTERM and Ctrl-C while a run trains: it saves a checkpoint before it leaves."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEEDED = signal.SIGTERM, signal.SIGINT


@contextmanager
def heeded(say: Callable[[str], None]) -> Iterator[Callable[[], signal.Signals | None]]:
    """Gives the function that tells which of the signals came, if any.

    A second one does what it did before: end the process at once. Only the main thread can heed signals; in another
    one none comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came = []

    def note(number: int, _) -> None:
        came.append(signal.Signals(number))
        restore()
        say(f"{came[0].name}: stopping after the steps up to the next row; once more ends at once, without saving")

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.signal(each, note) for each in HEEDED}
    try:
        yield lambda: came[0] if came else None
    finally:
        restore()
