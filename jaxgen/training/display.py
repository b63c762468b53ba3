"""Progress and warnings of a run while it trains: a bar on a terminal, otherwise lines."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from jaxgen.progress import Lines, in_lines, say
from jaxgen.training.plan import Plan

LASTING = 3
"""Consecutive rows with the same warning before it is shown."""

SOON = 0.5
"""Minimum seconds over which a rate is measured: chunks dispatched ahead arrive all at once."""

NARROW = 60
"""Terminal width below which the bar itself is left out, in columns."""


class _Bar(Bar):
    """A bar with the metrics on a second line."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if metrics := task.fields["metrics"]:
                yield Text(metrics, no_wrap=True, overflow="ellipsis")


class _TimeLeft(ProgressColumn):
    """The time left, by a function of the task that gives seconds or None."""

    def __init__(self, left: Callable[[Task], float | None]):
        super().__init__(Column(no_wrap=True))
        self._left = left

    def render(self, task: Task) -> Text:
        left = self._left(task)
        return Text("-:--:--" if left is None else str(timedelta(seconds=int(left))), style="progress.remaining")


class Progress:
    """Progress on stderr: model, steps, time left, images per second, means of the metrics over the seeds."""

    def __init__(self, plan: Plan, shown: bool, told: bool = True, name: str = ""):
        self._told, self._name = told, f"{name}: " if name else ""
        seeds = len(plan.settings.seeds)
        model = plan.model_name if name == plan.model_name else f"{self._name}{plan.model_name}"
        self._title = f"{model}, {seeds} seed{'s' if seeds > 1 else ''}"
        self._images = plan.settings.batch_size * seeds  # a step
        console = Console(stderr=True, soft_wrap=False)
        whole = Column(no_wrap=True)
        columns: list[ProgressColumn] = [TextColumn("{task.description}", table_column=whole)]
        columns += [BarColumn(bar_width=10)] if console.width >= NARROW else []
        columns += [MofNCompleteColumn(table_column=whole), _TimeLeft(self._left)]
        columns += [TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))]
        self._lines = Lines(console, self._line) if shown and told and in_lines(console) else None
        self._bar = _Bar(
            *columns, expand=True, console=console, disable=not (shown and told) or self._lines is not None
        )

    def __enter__(self) -> "Progress":
        (self._lines or self._bar).__enter__()
        return self

    def __exit__(self, *exc) -> None:
        (self._lines or self._bar).__exit__(*exc)
        if self._lines and (line := self._line()):
            say(self._bar.console, line)

    def _line(self) -> str:
        """The progress as one line; "" before the run starts."""
        for task in self._bar.tasks:
            left = self._left(task) if task.completed < (task.total or 0) else None
            parts = [f"{self._title}: step {int(task.completed):,} of {int(task.total or 0):,}"]
            parts += [f"{timedelta(seconds=int(left))} left" if left else "", task.fields["rate"]]
            return ", ".join(filter(None, [*parts, *task.fields["metrics"].split("  ")]))
        return ""

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if self._told:
            say(self._bar.console, self._name + line.removeprefix(self._name))

    def _left(self, task: Task) -> float | None:
        """Seconds left, by the speed so far and the run's limit; None while the speed is unknown."""
        return None if task.time_remaining is None else min(task.time_remaining, max(self._limit(), 0))

    def start(self, step: int, end: int, limit: Callable[[], float] = lambda: math.inf) -> None:
        """Starts the bar of a run from `step` to `end`, which ends earlier when no seconds of its `limit` are left."""
        self._limit = limit
        self._task = self._bar.add_task(self._title, total=end, completed=step, rate="compiling", metrics="")

    def compiled(self, step: int) -> None:
        """Notes that the program that starts at `step` is compiled. Rates are measured from here on."""
        self._bar.update(self._task, rate="")
        self._last = step, time.monotonic()

    def advance(self, step: int, rows: dict[int, dict[str, float]]) -> None:
        """Moves the bar to `step`, with these metrics by seed; losses are shown first."""
        names = sorted(next(iter(rows.values()), {}), key=lambda name: "loss" not in name)
        metrics = "  ".join(f"{name} {sum(row[name] for row in rows.values()) / len(rows):.4g}" for name in names)
        now, (last, then) = time.monotonic(), self._last
        self._bar.update(self._task, completed=step, metrics=metrics)
        if now - then > SOON:
            self._bar.update(self._task, rate=f"{(step - last) * self._images / (now - then):,.0f} images/s")
            self._last = step, now


class Worries:
    """Filters the warnings of rows: each is shown once per seed, when it lasts."""

    def __init__(self):
        self._lasting, self._said = Counter(), set()  # consecutive rows by (seed, line); pairs already shown

    def heard(self, lines: dict[int, list[str]]) -> dict[str, list[int]]:
        """Map from warning to the seeds for which to show it now; `lines`: the next rows' warnings by seed."""
        now = {(seed, line) for seed, those in lines.items() for line in those}
        self._lasting = Counter({key: self._lasting[key] + 1 for key in now})
        due = {}
        for seed, line in sorted(now - self._said):
            if self._lasting[seed, line] == LASTING:
                due.setdefault(line, []).append(seed)
                self._said.add((seed, line))
        return due
