"""Experiment files: the models to compare, the data, the seeds, and the comparisons declared beforehand."""

import dataclasses
import inspect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxgen
from jaxgen.config import configured
from jaxgen.errors import UserError
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import COLUMNS, FAMILY_OF, check_scoring
from jaxgen.training import Settings
from jaxgen.user_files import load_file


@dataclass(frozen=True)
class Sweep:
    """Candidate configs of an arm. The best on the validation split is used; all are counted and shown."""

    fields: Mapping[str, Any]  # map from Config field to a tuple of values, Uniform or LogUniform
    metric: str  # the column that decides, by its mean over the sweep's seeds
    draws: int | None = None  # random candidates; every combination of the values (a grid) if not given
    seed: int = 0  # seed of the draws
    seeds: tuple[int, ...] = (1000,)  # training seeds of the candidates; none of the comparison's
    steps: int | None = None  # training steps per candidate; those of the arms if not given


@dataclass(frozen=True)
class Uniform:
    """Uniform distribution from low to high."""

    low: float
    high: float


@dataclass(frozen=True)
class LogUniform:
    """Log-uniform distribution from low to high, both above 0."""

    low: float
    high: float


@dataclass(frozen=True)
class Arm:
    """One side of the comparisons: a model with its config."""

    model: str  # a name from `jaxgen models`, or a Python file of a model, relative to the experiment's folder
    config: Mapping[str, Any] = field(default_factory=dict)  # Config fields that differ from the defaults
    sweep: Sweep | None = None  # over further fields, on each dataset


@dataclass(frozen=True)
class Comparison:
    """A question declared before there are scores: is arm a better than arm b, or than a column of its own row?"""

    a: str
    b: str  # an arm, or a baseline among the metric's columns, as vertex_error_pca, with which a's seeds are pairs
    metric: str  # the key of a column, e.g. fd, iwae, log_prob_binary: `jaxgen metrics` lists them
    dataset: str | None = None  # a name in `datasets`; all of them together if not given
    paired: bool = False  # pair runs by seed, if both arms see a seed's data in the same order


@dataclass(frozen=True)
class Experiment:
    """The value named `experiment` of an experiment file; the file's docstring describes it."""

    title: str
    arms: Mapping[str, Arm]  # by the name of their rows
    settings: Settings  # shared by all arms: dataset, seeds, steps and the like
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Map from the name of a dataset's table to its differing settings; only the dataset of `settings` if empty."""
    scoring: Scoring = field(default_factory=Scoring)  # the metrics and their options
    checkpoint: str | None = None
    """Column that selects each seed's checkpoint, on the validation split; if not given, the last is used."""
    minutes: float | None = None  # time limit of a run's training
    comparisons: tuple[Comparison, ...] = ()  # all that are tested; p is corrected for their number


def candidates(sweep: Sweep) -> list[dict[str, Any]]:
    """Config fields of a sweep's candidates: all combinations, or `draws` random ones."""
    if sweep.draws is None:
        return [dict(zip(sweep.fields, values, strict=True)) for values in itertools.product(*sweep.fields.values())]
    rng = np.random.Generator(np.random.Philox(sweep.seed))
    return [{name: _drawn(rng, values) for name, values in sweep.fields.items()} for _ in range(sweep.draws)]


def _drawn(rng: np.random.Generator, values: Any) -> Any:
    if isinstance(values, LogUniform):
        return float(np.exp(rng.uniform(np.log(values.low), np.log(values.high))))
    if isinstance(values, Uniform):
        return float(rng.uniform(values.low, values.high))
    return values[rng.integers(len(values))]


class Loaded(NamedTuple):
    """An experiment and the file it came from."""

    name: str
    description: str  # the file's docstring
    path: Path
    experiment: Experiment


def shipped() -> dict[str, Path]:
    """Map from name to file of the experiments that come with jaxgen, in the checkout or the installed package.

    These are the files that declare an `experiment`; other files in the folder are separate programs.
    """
    package = Path(jaxgen.__file__).parent
    folder = next(f for f in (package / "experiments", package.parent / "experiments") if f.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.py")) if "\nexperiment = " in path.read_text()}


def load_experiment(file: str | Path) -> Loaded:
    """Loads an experiment from a Python file, or by the name of one that comes with jaxgen.

    Raises:
        UserError: no such file or name, or a file that declares no valid `experiment`.
    """
    path = Path(file)
    if not path.is_file():
        names = shipped()
        if str(file) not in names:
            raise UserError(f"no experiment file {file}; those that come with jaxgen: {', '.join(names)}")
        path = names[str(file)]
    module, _ = load_file(path, "experiment")
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path} declares no `experiment = Experiment(...)`")
    if not isinstance(experiment.arms, Mapping) or not experiment.arms:
        raise UserError(f"{path}: arms is a dict of at least one Arm by its name")
    if not isinstance(experiment.settings, Settings):
        raise UserError(f"{path}: settings is a Settings(...), not {experiment.settings!r}")
    configured(Settings, dataclasses.asdict(experiment.settings), "settings")  # checks their types
    if not isinstance(experiment.scoring, Scoring):
        raise UserError(f"{path}: scoring is a Scoring(...), not {experiment.scoring!r}")
    check_scoring(configured(Scoring, dataclasses.asdict(experiment.scoring), "scoring"))
    for name, arm in experiment.arms.items():
        _check_arm(path, name, arm, experiment)
    _check_questions(path, experiment)
    experiment = dataclasses.replace(experiment, arms=_located(experiment.arms, path.parent))
    return Loaded(path.stem, inspect.cleandoc(module.__doc__ or ""), path, experiment)


def _check_name(path: Path, what: str, name: Any) -> None:
    if not isinstance(name, str) or not name or name != Path(name).name or name.startswith("."):
        raise UserError(f"{path}: {what} name {name!r} cannot be a folder's name")


def _check_arm(path: Path, name: Any, arm: Any, experiment: Experiment) -> None:
    if not isinstance(arm, Arm):
        raise UserError(f"{path}: arm {name!r} is no Arm(model, config)")
    if not isinstance(arm.model, str) or not isinstance(arm.config, Mapping):
        raise UserError(f"{path}: arm {name!r} takes a model's name and a dict of its Config's fields")
    _check_name(path, "arm", name)
    if arm.sweep is None:
        return
    sweep, where = arm.sweep, f"{path}: the sweep of arm {name!r}"
    if not isinstance(sweep, Sweep) or not isinstance(sweep.fields, Mapping) or not sweep.fields:
        raise UserError(f"{where} is a Sweep(fields, metric) of at least one field of its Config")
    for key, values in sweep.fields.items():
        if key in arm.config:
            raise UserError(f"{where}: field {key!r} stands in the arm's config too")
        if isinstance(values, Uniform | LogUniform):
            if sweep.draws is None:
                raise UserError(f"{where}: field {key!r} is drawn, so draws has to say how often")
            if not values.low < values.high or (isinstance(values, LogUniform) and values.low <= 0):
                raise UserError(f"{where}: field {key!r} goes from {values.low} to {values.high}, which is no range")
        elif not isinstance(values, tuple | list) or not values:
            raise UserError(
                f"{where}: field {key!r} takes a tuple of values, Uniform(low, high) or LogUniform(low, high)"
            )
    values = {"draws": sweep.draws, "steps": sweep.steps, "seeds": tuple(sweep.seeds), "seed": sweep.seed}
    configured(_SweepNumbers, values, where)
    small = any(number is not None and number < 1 for number in (sweep.draws, sweep.steps))
    if small or not sweep.seeds or sweep.seed < 0:
        raise UserError(f"{where}: draws and steps are at least 1, seed at least 0, and seeds not empty")
    if shared := set(sweep.seeds) & set(experiment.settings.seeds):
        raise UserError(f"{where}: seed {min(shared)} is one of the comparison's; candidates need seeds of their own")


@dataclass(frozen=True)
class _SweepNumbers:
    """The types of a sweep's numbers."""

    draws: int | None
    steps: int | None
    seeds: tuple[int, ...]
    seed: int


def _check_questions(path: Path, experiment: Experiment) -> None:
    """Checks datasets, comparisons and the checkpoint column, as far as possible without the data."""
    if not isinstance(experiment.datasets, Mapping):
        raise UserError(f"{path}: datasets is a dict of settings by the name of a table")
    for name, changes in experiment.datasets.items():
        _check_name(path, "dataset", name)
        if not isinstance(changes, Mapping):
            raise UserError(f"{path}: dataset {name!r} takes a dict of the settings that differ on it")
        if "seeds" in changes:
            raise UserError(f"{path}: dataset {name!r} has seeds of its own; they are the same on all datasets")
        configured(Settings, dataclasses.asdict(experiment.settings) | dict(changes), f"dataset {name!r}")
    minutes = experiment.minutes
    if minutes is not None and not (isinstance(minutes, int | float) and 0 < minutes < float("inf")):
        raise UserError(f"{path}: minutes must be a number above 0, not {minutes!r}")
    columns = {"checkpoint": experiment.checkpoint} if experiment.checkpoint is not None else {}
    columns |= {f"the sweep of arm {name!r}": arm.sweep.metric for name, arm in experiment.arms.items() if arm.sweep}
    if not isinstance(experiment.comparisons, tuple | list):
        raise UserError(f"{path}: comparisons is a tuple of Comparison(a, b, metric)")
    for i, asked in enumerate(experiment.comparisons, 1):
        if not isinstance(asked, Comparison):
            raise UserError(f"{path}: comparison {i} is no Comparison(a, b, metric)")
        of_columns = asked.b in FAMILY_OF and asked.b not in experiment.arms
        for arm in (asked.a,) if of_columns else (asked.a, asked.b):
            if arm not in experiment.arms:
                raise UserError(f"{path}: comparison {i} names arm {arm!r}; there are {', '.join(experiment.arms)}")
        if asked.b in (asked.a, asked.metric):
            raise UserError(f"{path}: comparison {i} is of {asked.b} with itself")
        if of_columns and (FAMILY_OF[asked.b] is not FAMILY_OF.get(asked.metric) or COLUMNS[asked.b].better):
            raise UserError(f"{path}: comparison {i} is of {asked.metric} with {asked.b}, which is no baseline of it")
        if asked.dataset is not None and asked.dataset not in experiment.datasets:
            known = ", ".join(experiment.datasets) or "none, as datasets names none"
            raise UserError(f"{path}: comparison {i} names dataset {asked.dataset!r}; there are {known}")
        pair = {asked.a, asked.b}, asked.metric, asked.dataset
        if any(({one.a, one.b}, one.metric, one.dataset) == pair for one in experiment.comparisons[: i - 1]):
            raise UserError(f"{path}: comparison {i}, of {asked.a} and {asked.b} by {asked.metric}, is declared twice")
        columns[f"comparison {i}"] = asked.metric
    for where, key in columns.items():
        if key not in COLUMNS:
            raise UserError(f"{path}: {where} is by {key!r}, no column of the table; there are {', '.join(COLUMNS)}")
        if COLUMNS[key].better is None:
            raise UserError(f"{path}: {where} is by {key}, of which neither more nor less is better")
        if COLUMNS[key].incomparable:
            raise UserError(f"{path}: {where} is by {key}, {COLUMNS[key].incomparable}")


def _located(arms: Mapping[str, Arm], folder: Path) -> dict[str, Arm]:
    """The arms, with the paths of model files resolved relative to the experiment's folder."""
    return {
        name: dataclasses.replace(arm, model=str(folder / arm.model)) if arm.model.endswith(".py") else arm
        for name, arm in arms.items()
    }


def with_settings(experiment: Experiment, **changes: Any) -> Experiment:
    """The experiment with some settings changed; a change of None changes nothing."""
    changes = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(experiment, settings=dataclasses.replace(experiment.settings, **changes))
