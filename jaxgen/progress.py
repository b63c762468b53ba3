"""Progress on stderr: a bar on a terminal, and otherwise a line from time to time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

FIRST, LAST = 10.0, 320.0
"""Seconds before the first line, and maximum between two lines: each wait is twice the one before."""


def in_lines(console: Console) -> bool:
    """True if progress is written as lines: stderr is neither a terminal nor a notebook's."""
    return not console.is_terminal and not console.is_jupyter


def say(console: Console, line: str) -> None:
    """Prints a line, which is wrapped on a terminal only."""
    console.print(line, highlight=False, markup=False, soft_wrap=in_lines(console))  # a name may have brackets


class Lines:
    """Prints what `line` returns from time to time, unless that is empty; as a context manager."""

    def __init__(self, console: Console, line: Callable[[], str]):
        self._console, self._line, self._ended = console, line, threading.Event()

    def __enter__(self) -> "Lines":
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        wait = FIRST
        while not self._ended.wait(wait):
            if line := self._line():
                say(self._console, line)
            wait = min(2 * wait, LAST)


class Progress:
    """A bar, or lines, with the current task, the parts done, and the time left."""

    def __init__(self, shown: bool):
        console = Console(stderr=True)
        self._lines = Lines(console, self._line) if shown and in_lines(console) else None
        self._bar = Bar(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not shown or self._lines is not None,
        )

    def __enter__(self) -> "Progress":
        (self._lines or self._bar).__enter__()
        return self

    def __exit__(self, *exc) -> None:
        (self._lines or self._bar).__exit__(*exc)

    def _line(self) -> str:
        task = next(iter(self._bar.tasks), None)
        if task is None or task.total == 0:
            return ""
        return task.description + (f": {int(task.completed)} of {int(task.total)}" if task.total else "")

    def start(self, title: str, total: int | None = None) -> None:
        """Begins a task of `total` parts, or of an unknown number, replacing the one before."""
        for earlier in self._bar.task_ids:
            self._bar.remove_task(earlier)
        self._task, self._total = self._bar.add_task(title, total=total), total

    def more(self, parts: int) -> None:
        """Adds `parts` to the total."""
        self._total += parts
        self._bar.update(self._task, total=self._total)

    def say(self, title: str) -> None:
        """Shows `title` as the current task."""
        self._bar.update(self._task, description=title)

    def advance(self, parts: int = 1) -> None:
        """Counts `parts` as done."""
        self._bar.advance(self._task, parts)

    def over(self, parts: Sequence[Any], title: str) -> Iterator[Any]:
        """Yields the parts, each counted as done when the next one is requested."""
        self.start(title, len(parts))
        for part in parts:
            yield part
            self.advance()
