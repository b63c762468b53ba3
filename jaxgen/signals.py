"""SIGTERM and Ctrl-C: a command ends with one line; a training run saves a checkpoint first."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jaxgen.errors import Stopped

HEEDED = signal.SIGTERM, signal.SIGINT
DROPPING = "__del__", "_xla_gc_callback"
"""Functions out of which Python drops exceptions: an object's `__del__`, and JAX's garbage collection callback."""
AGAIN, PATIENCE = 0.05, 2.0
"""Seconds until a signal that came in one of them is sent again, and until the process exits instead."""
_since: dict[int, float] = {}  # signals sent again, with the time of the first


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs `handler` for the signals; a signal that the process was started to ignore stays ignored.

    Only the main thread can install handlers; in another thread nothing changes.
    """
    main = threading.current_thread() is threading.main_thread()
    heard = [each for each in HEEDED if main and signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, handler) for each in heard}
    try:
        yield
    finally:
        for each, handler_before in before.items():
            signal.signal(each, handler_before)


def end(number: int, frame: FrameType | None) -> None:
    """Signal handler that raises `Stopped`, which ends a command."""
    stopped, running = Stopped("", signal.Signals(number)), []
    while frame:
        running.append(frame.f_code)
        frame = frame.f_back
    dropped = any(code.co_name in DROPPING for code in running)
    if dropped and time.monotonic() - _since.setdefault(number, time.monotonic()) < PATIENCE:
        threading.Timer(AGAIN, _send, (number,)).start()
        return
    if dropped or any(
        code.co_filename.startswith("<frozen importlib") for code in running
    ):  # a C extension would raise something else
        print("jaxgen: stopped", file=sys.stderr, flush=True)
        os._exit(stopped.status)
    _since.pop(number, None)
    raise stopped


def _send(number: int) -> None:
    if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # the command has ended
        _since.pop(number, None)
    else:
        os.kill(os.getpid(), number)


@contextmanager
def heeded(say: Callable[[str], None]) -> Iterator[Callable[[], signal.Signals | None]]:
    """Yields a function that returns the signal that came, or None.

    A second signal ends the process at once, unless Python drops the KeyboardInterrupt of a Ctrl-C.
    """
    came = []

    def note(number: int, _) -> None:
        came.append(signal.Signals(number))
        for each, at_once in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, at_once)
        say(f"{came[0].name}: stopping after the steps up to the next row; once more ends at once, without saving")

    with handled(note):
        yield lambda: came[0] if came else None
