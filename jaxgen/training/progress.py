"""The line that a run shows while it trains."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from jaxgen.training.run import Plan

SOON = 0.5
"""Seconds within which no rate is taken: what was dispatched ahead comes in all at once."""


class Progress:
    """A bar on stderr: model, steps, images a second, the metrics' means over the seeds, time left."""

    def __init__(self, plan: Plan, shown: bool):
        seeds = len(plan.settings.seeds)
        self._title = f"{plan.model_name}, {seeds} seed{'s' if seeds > 1 else ''}"
        self._images = plan.settings.batch_size * seeds  # a step
        self._bar = Bar(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=10),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True)),
            # The metrics get what is left of the line.
            TextColumn("{task.fields[metrics]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            expand=True,
            console=Console(stderr=True, soft_wrap=False),
            disable=not shown,
        )

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.console.print(line, highlight=False)

    def start(self, step: int, end: int) -> None:
        """The run goes from `step` to `end`."""
        self._task = self._bar.add_task(self._title, total=end, completed=step, rate="compiling", metrics="")
        self._last = step, None

    def advance(self, step: int, metrics: str) -> None:
        """The run has come to `step`. The first stretch has no rate, as it holds the compilation."""
        now, (last, then) = time.monotonic(), self._last
        self._bar.update(self._task, completed=step, metrics=metrics)
        if then is None or now - then > SOON:
            rate = f"{(step - last) * self._images / (now - then):,.0f} images/s" if then else ""
            self._bar.update(self._task, rate=rate)
            self._last = step, now
