"""Settings that every run has, besides its model's config."""

from dataclasses import dataclass
from typing import Literal

from jaxgen.data.options import Options
from jaxgen.errors import UserError


@dataclass(frozen=True)
class Training:
    """Settings of training."""

    seeds: tuple[int, ...] = (0,)  # training seeds, all trained in one program
    steps: int = 2000  # maximum training steps per seed; a model that only counts ends after one pass
    batch_size: int = 64  # examples per step
    data_seed: int = 0  # seed of the data's order, shared by all seeds of a run
    labeled_share: float | None = None  # share of a batch from the examples that keep a label or caption, else from all
    own_order: bool = False  # each seed has its own order of the data; data_seed is then unused
    precision: Literal["float32", "bfloat16"] = "float32"  # of layers; parameters, averages, losses stay float32
    seeds_axis: Literal["auto", "vmap", "map"] = "auto"  # by backend; side by side; one after the other


@dataclass(frozen=True)
class Records:
    """Settings of what a run writes, and when."""

    log_every: int = 50  # steps between rows (means) in metrics.jsonl; grids and checkpoints add rows
    sample_every: int = 500  # steps between sample grids
    checkpoint_every: int = 500  # steps between checkpoints
    keep_checkpoints: int | None = 2  # number of newest checkpoints to keep; None keeps all
    keep_best: tuple[Literal["lowest", "highest"], str] | None = None  # also keep each seed's best by this metric


@dataclass(frozen=True)
class Settings(Records, Training, Options):
    """Settings of a run of any model: its data, its training and what it writes."""

    def check(self) -> None:
        """Raises UserError for an invalid value."""
        super().check()
        for name in ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
            if value is not None and value >= 2**31:  # steps are counted in int32
                raise UserError(f"{name} must be below 2^31, not {value}")
        share = self.labeled_share
        if share is not None and not (0 < share <= 1 and round(share * self.batch_size)):
            words = f"at most 1 and at least one example of a batch of {self.batch_size}"
            raise UserError(f"labeled_share must be {words}, not {share}")
        if not self.seeds:
            raise UserError("seeds must name at least one seed")
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            raise UserError(f"seeds given twice: {' '.join(map(str, twice))}")
        for name, value in [("data_seed", self.data_seed), *(("seeds", seed) for seed in self.seeds)]:
            if not 0 <= value < 2**32:
                raise UserError(f"{name} must lie between 0 and 2^32 - 1, not {value}")
