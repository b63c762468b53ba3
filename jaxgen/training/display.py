"""What a run shows while it trains: a bar or, where stderr is no terminal, a line every so often."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from jaxgen.progress import Lines, in_lines
from jaxgen.training.plan import Plan

LASTING = 3
"""Rows in a row that give the same to worry about, before it is said."""

SOON = 0.5
"""Seconds within which no rate is taken: what was dispatched ahead comes in all at once."""

NARROW = 60
"""Columns of a terminal below which there is no room for the bar itself."""


class _Bar(Bar):
    """With a second line, of the metrics."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if metrics := task.fields["metrics"]:
                yield Text(metrics, no_wrap=True, overflow="ellipsis")


class Progress:
    """Model, steps, time left, images a second, and the metrics' means over the seeds, the losses first."""

    def __init__(self, plan: Plan, shown: bool, told: bool = True):
        self._told = told
        seeds = len(plan.settings.seeds)
        self._title = f"{plan.model_name}, {seeds} seed{'s' if seeds > 1 else ''}"
        self._images = plan.settings.batch_size * seeds  # a step
        console = Console(stderr=True, soft_wrap=False)
        whole = Column(no_wrap=True)
        columns: list[ProgressColumn] = [TextColumn("{task.description}", table_column=whole)]
        columns += [BarColumn(bar_width=10)] if console.width >= NARROW else []
        columns += [MofNCompleteColumn(table_column=whole), TimeRemainingColumn(table_column=whole)]
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
            self._lines.say(line)

    def _line(self) -> str:
        """How far the run is; "" before it begins."""
        for task in self._bar.tasks:
            left = task.time_remaining if task.completed < (task.total or 0) else None
            parts = [f"{self._title}: step {int(task.completed):,} of {int(task.total or 0):,}"]
            parts += [f"{timedelta(seconds=int(left))} left" if left else "", task.fields["rate"]]
            return ", ".join(filter(None, [*parts, *task.fields["metrics"].split("  ")]))
        return ""

    def say(self, line: str) -> None:
        """A line above the bar."""
        if self._told:
            console = self._bar.console
            # a name may have brackets
            console.print(line, highlight=False, markup=False, soft_wrap=in_lines(console))

    def start(self, step: int, end: int) -> None:
        """The run goes from `step` to `end`."""
        self._task = self._bar.add_task(self._title, total=end, completed=step, rate="compiling", metrics="")

    def compiled(self, step: int) -> None:
        """A program that begins with `step` has been compiled, and runs: from now on rates are taken."""
        self._bar.update(self._task, rate="")
        self._last = step, time.monotonic()

    def advance(self, step: int, rows: dict[int, dict[str, float]]) -> None:
        """The run has come to `step`, with these metrics of every seed."""
        names = sorted(next(iter(rows.values()), {}), key=lambda name: "loss" not in name)
        metrics = "  ".join(f"{name} {sum(row[name] for row in rows.values()) / len(rows):.4g}" for name in names)
        now, (last, then) = time.monotonic(), self._last
        self._bar.update(self._task, completed=step, metrics=metrics)
        if now - then > SOON:
            self._bar.update(self._task, rate=f"{(step - last) * self._images / (now - then):,.0f} images/s")
            self._last = step, now


class Worries:
    """What rows of metrics give to worry about, said once a seed, when it lasts."""

    def __init__(self):
        self._lasting, self._said = Counter(), set()  # by seed and line, how many rows in a row; which were said

    def heard(self, lines: dict[int, list[str]]) -> dict[str, list[int]]:
        """By line, the seeds for which it is to be said now; `lines` are what the next rows give, by seed."""
        now = {(seed, line) for seed, those in lines.items() for line in those}
        self._lasting = Counter({key: self._lasting[key] + 1 for key in now})
        due = {}
        for seed, line in sorted(now - self._said):
            if self._lasting[seed, line] == LASTING:
                due.setdefault(line, []).append(seed)
                self._said.add((seed, line))
        return due
