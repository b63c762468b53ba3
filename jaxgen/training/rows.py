"""A run's metrics.jsonl: one row per seed at every step at which something is written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen.errors import UserError
from jaxgen.training.settings import Settings

COLUMNS = ("step", "seed", "phase")
"""Columns of every row besides the metrics."""


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Reads the rows of a metrics.jsonl, without a torn last line; none if there is no file.

    Raises:
        UserError: another line is damaged, or is not a row.
    """
    if not file.exists():
        return []
    try:
        rows = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    except ValueError as error:
        raise UserError(f"cannot read {file}: {error}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), int) for name in ("step", "seed")):
            raise UserError(f"line {number} of {file} is no row: it has no step and seed")
    return rows


def torn(file: Path) -> bool:
    """True if a file's last line lacks its newline, as when the process that wrote it was killed."""
    return file.exists() and file.read_bytes()[-1:] not in (b"", b"\n")


def lost_rows(
    rows: list[dict[str, Any]], settings: Settings, reached: int, diverged: Mapping[int, int]
) -> dict[int, list[int]]:
    """Map from seed to the multiples of log_every up to step `reached` without a row; complete seeds are left out.

    diverged: map from seed to the step from which it has no rows.
    """
    seeds, every = settings.seeds, settings.log_every
    there = {(row["seed"], row["step"]) for row in rows}
    wanted = {seed: range(every, min(reached, diverged.get(seed, reached)) + 1, every) for seed in seeds}
    lost = {seed: [step for step in steps if (seed, step) not in there] for seed, steps in wanted.items()}
    return {seed: steps for seed, steps in lost.items() if steps}


def lacks(lost: dict[int, list[int]]) -> str:
    """Description of lost rows, to follow the file's name."""
    count, seed = sum(map(len, lost.values())), min(lost)
    return f"lacks {count:,} rows, the first of seed {seed} at step {lost[seed][0]}"
