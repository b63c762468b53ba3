"""What a run is: the model's config beside the settings that every run has."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxgen.data.options import Options
from jaxgen.errors import UserError


@dataclass(frozen=True)
class Settings(Options):
    """What every run has, whatever its model, beside the options of its data."""

    seeds: tuple[int, ...] = (0,)  # training seeds, all trained in one program
    steps: int = 2000  # training steps of each seed, at most: a model that only counts ends after one pass
    batch_size: int = 64  # examples a step
    data_seed: int = 0  # of the order of the data, which all seeds of a run share
    own_order: bool = False  # each seed sees the data in an order of its own; data_seed is then not used
    precision: Literal["float32", "bfloat16"] = "float32"  # of layers; parameters, averages, losses stay float32
    seeds_axis: Literal["auto", "vmap", "map"] = "auto"  # as fits the backend; side by side; in turn
    log_every: int = 50  # steps between rows of metrics.jsonl
    sample_every: int = 500  # steps between sample grids
    checkpoint_every: int = 500  # steps between checkpoints

    def check(self) -> None:
        """Raises UserError for a value that cannot be run."""
        super().check()
        for name in ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.seeds:
            raise UserError("seeds must name at least one seed")
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            raise UserError(f"seeds given twice: {' '.join(map(str, twice))}")
        for name, value in [("data_seed", self.data_seed), *(("seeds", seed) for seed in self.seeds)]:
            if not 0 <= value < 2**32:
                raise UserError(f"{name} must lie between 0 and 2^32 - 1, not {value}")


def configured(cls: type, values: dict[str, Any], what: str) -> Any:
    """A frozen dataclass from a dict of fields, each checked against its annotation.

    Raises:
        UserError: an unknown field (with the closest known one), or a value of another type.
    """
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{what}: Config is no dataclass")
    if not isinstance(values, Mapping):
        raise UserError(f"{what}'s fields are given as a dict, not as {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls)}
    for name, value in values.items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"{what} has no field {name!r}: {hint}it has {', '.join(sorted(fields))}")
        if not _fits(value, hints[name]):
            raise UserError(f"{what}'s field {name} takes {_words(hints[name])}, not {value!r}")
    return cls(**{name: _as(value, hints[name]) for name, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        inner = arguments[:1] * len(value) if isinstance(value, list | tuple) else ()
        return isinstance(value, list | tuple) and all(map(_fits, value, inner))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def _as(value: Any, hint: Any) -> Any:
    """`value` as JSON and Python spell one thing differently: a list for a tuple, 1 for 1.0."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if hint is float else value


def _words(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)
