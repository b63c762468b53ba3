"""A bar on stderr for work of a known length."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar that says what is being done, how much of it is done, and the time left."""

    def __init__(self, shown: bool):
        console = Console(stderr=True)
        self._bar = Bar(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not shown or not console.is_terminal,  # a file would get empty lines of it
        )

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def start(self, title: str, total: int) -> None:
        """Begins work of `total` parts, in place of what was before."""
        for earlier in self._bar.task_ids:
            self._bar.remove_task(earlier)
        self._task, self._total = self._bar.add_task(title, total=total), total

    def more(self, parts: int) -> None:
        """So many parts more are to be done."""
        self._total += parts
        self._bar.update(self._task, total=self._total)

    def say(self, title: str) -> None:
        """What is being done now."""
        self._bar.update(self._task, description=title)

    def advance(self, parts: int = 1) -> None:
        """Some parts are done."""
        self._bar.advance(self._task, parts)

    def over(self, parts: Sequence[Any], title: str) -> Iterator[Any]:
        """The parts, each counted as done when the next is asked for."""
        self.start(title, len(parts))
        for part in parts:
            yield part
            self.advance()
