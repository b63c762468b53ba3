"""What a run is: the model's config beside the settings that every run has."""

from dataclasses import dataclass
from typing import Literal

from jaxgen.data.options import Options
from jaxgen.errors import UserError


@dataclass(frozen=True)
class Training:
    """How a run is trained."""

    seeds: tuple[int, ...] = (0,)  # training seeds, all trained in one program
    steps: int = 2000  # training steps of each seed, at most: a model that only counts ends after one pass
    batch_size: int = 64  # examples a step
    data_seed: int = 0  # of the order of the data, which all seeds of a run share
    own_order: bool = False  # each seed sees the data in an order of its own; data_seed is then not used
    precision: Literal["float32", "bfloat16"] = "float32"  # of layers; parameters, averages, losses stay float32
    seeds_axis: Literal["auto", "vmap", "map"] = "auto"  # as fits the backend; side by side; in turn


@dataclass(frozen=True)
class Records:
    """What a run writes, and when."""

    log_every: int = 50  # steps between rows of metrics.jsonl, means since the last; grids, checkpoints add rows
    sample_every: int = 500  # steps between sample grids
    checkpoint_every: int = 500  # steps between checkpoints
    keep_checkpoints: int | None = 2  # the newest ones kept; None keeps all
    keep_best: tuple[Literal["lowest", "highest"], str] | None = None  # metric by which each seed's best is kept too


@dataclass(frozen=True)
class Settings(Records, Training, Options):
    """What every run has, whatever its model: its data, its training, what it writes."""

    def check(self) -> None:
        """Raises UserError for a value that cannot be run."""
        super().check()
        for name in ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if not self.seeds:
            raise UserError("seeds must name at least one seed")
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            raise UserError(f"seeds given twice: {' '.join(map(str, twice))}")
        for name, value in [("data_seed", self.data_seed), *(("seeds", seed) for seed in self.seeds)]:
            if not 0 <= value < 2**32:
                raise UserError(f"{name} must lie between 0 and 2^32 - 1, not {value}")
