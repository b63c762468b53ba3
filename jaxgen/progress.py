"""A progress bar on stderr."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar with the current task, the parts done, and the time left."""

    def __init__(self, shown: bool):
        console = Console(stderr=True)
        self._bar = Bar(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not shown or not console.is_terminal,  # in a file it would leave empty lines
        )

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def start(self, title: str, total: int) -> None:
        """Begins a task of `total` parts, replacing the one before."""
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
