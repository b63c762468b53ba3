"""Progress line and warnings of a run while it trains."""

import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from jaxgen.training.plan import Plan

LASTING = 3
"""Consecutive rows with the same warning before it is shown."""

SOON = 0.5
"""Minimum seconds over which a rate is measured: chunks dispatched ahead arrive all at once."""


class Progress:
    """Progress bar on stderr: model, steps, images per second, means of the metrics over the seeds, time left."""

    def __init__(self, plan: Plan, shown: bool, told: bool = True):
        self._told = told
        seeds = len(plan.settings.seeds)
        self._title = f"{plan.model_name}, {seeds} seed{'s' if seeds > 1 else ''}"
        self._images = plan.settings.batch_size * seeds  # per step
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
            disable=not (shown and told),
        )

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if self._told:
            self._bar.console.print(line, highlight=False, markup=False)  # a name may have brackets

    def start(self, step: int, end: int) -> None:
        """Starts the bar of a run from `step` to `end`."""
        self._task = self._bar.add_task(self._title, total=end, completed=step, rate="compiling", metrics="")
        self._last: tuple[int, float | None] = step, None

    def advance(self, step: int, rows: dict[int, dict[str, float]]) -> None:
        """Moves the bar to `step`, with these metrics by seed. The first stretch, which compiles, has no rate."""
        names = next(iter(rows.values()), {})
        metrics = "  ".join(f"{name} {sum(row[name] for row in rows.values()) / len(rows):.4g}" for name in names)
        now, (last, then) = time.monotonic(), self._last
        self._bar.update(self._task, completed=step, metrics=metrics)
        if then is None or now - then > SOON:
            rate = f"{(step - last) * self._images / (now - then):,.0f} images/s" if then else ""
            self._bar.update(self._task, rate=rate)
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
