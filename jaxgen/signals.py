"""Ctrl-C and a scheduler's or a terminal's signals: a command ends with one line; a training run saves first."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from jaxgen.errors import BY_SCHEDULERS, Stopped

HEEDED = *BY_SCHEDULERS, signal.SIGINT, signal.SIGHUP
DROPPING = "__del__", "_xla_gc_callback"
"""Functions out of which Python drops exceptions: an object's `__del__`, and JAX's garbage collection callback."""
AGAIN, PATIENCE = 0.05, 2.0
"""Seconds until a signal that came in one of them is sent again, and until the process exits instead."""
TOGETHER = 0.3
"""Seconds within which signals count as one: a terminal and `timeout` both pass on a Ctrl-C."""
_since: dict[int, float] = {}  # signals sent again, with the time of the first
_sent: list[int] = []  # signals sent again that `_watch` has not read yet
_watching = False  # True while `_watch` reads


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
            if each != signal.SIGXCPU or signal.getsignal(each) is not signal.SIG_IGN:  # see `_heard`
                signal.signal(each, handler_before)


def end(number: int, frame: FrameType | None) -> None:
    """Signal handler that raises `Stopped`, which ends a command."""
    _heard(number)
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


def _heard(number: int) -> None:
    """Ignores SIGXCPU from now on: beyond its limit of processor time, a process gets one every second."""
    if number == signal.SIGXCPU:
        signal.signal(number, signal.SIG_IGN)


def _send(number: int) -> None:
    if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # the command has ended
        _since.pop(number, None)
    else:
        if _watching:
            _sent.append(number)
        os.kill(os.getpid(), number)


@contextmanager
def watched() -> Iterator[None]:
    """Ends the process at the second signal, also while the main thread waits for XLA, where no handler runs.

    For a process of jaxgen's own: in a notebook it would end the kernel.
    """
    global _watching
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.set_wakeup_fd(before)
        os.close(writing)  # at which the thread ends


def _watch(reading: int) -> None:
    first = None
    while numbers := os.read(reading, 64):
        for number in numbers:
            if number in _sent:
                _sent.remove(number)
            elif number == signal.SIGXCPU:  # comes again every second; while XLA computes, nothing can ignore it
                first = first or time.monotonic()
            elif number in HEEDED:
                first = first or time.monotonic()
                if time.monotonic() - first > TOGETHER:
                    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
                    with suppress(OSError):
                        os.write(2, f"{show_cursor}\njaxgen: ended at the second signal\n".encode())
                    os._exit(Stopped("", signal.Signals(number)).status)
    os.close(reading)


@contextmanager
def heeded(say: Callable[[str], None]) -> Iterator[Callable[[], signal.Signals | None]]:
    """Yields a function that returns the signal that came, or None.

    A second signal ends a process of jaxgen's own at once (`watched`); in another process it gets Python's handler.
    """
    came = []

    def note(number: int, _) -> None:
        came.append(signal.Signals(number))
        for each in HEEDED:
            if not _watching and signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        _heard(number)
        if len(came) > 1:
            return
        say(f"{came[0].name}: stopping after the steps up to the next row; once more ends at once, without saving")

    with handled(note):
        yield lambda: came[0] if came else None
