"""An experiment: which models are compared, on what data, over which seeds."""

import dataclasses
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jaxgen
from jaxgen.errors import UserError
from jaxgen.fields import configured
from jaxgen.training import Settings


@dataclass(frozen=True)
class Arm:
    """One of the things compared: a model with its config."""

    model: str  # a name of `jaxgen models`, or a Python file with `Config` and `make`, from the experiment's folder
    config: Mapping[str, Any] = field(default_factory=dict)  # the Config fields that are not its defaults


@dataclass(frozen=True)
class Experiment:
    """What an experiment file declares, as `experiment`; the file's docstring describes it."""

    title: str
    arms: Mapping[str, Arm]  # by the name their rows have
    settings: Settings  # of all arms: dataset, seeds, steps and the like


class Loaded(NamedTuple):
    """An experiment and the file it came from."""

    name: str
    description: str  # the file's docstring
    path: Path
    experiment: Experiment


def shipped() -> dict[str, Path]:
    """The experiments that come with jaxgen, by name: of the checkout, or of the installed package."""
    package = Path(jaxgen.__file__).parent
    folder = next(f for f in (package / "experiments", package.parent / "experiments") if f.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}


def load_experiment(file: str | Path) -> Loaded:
    """The experiment of a Python file, or of the name of one that comes with jaxgen.

    Raises:
        UserError: no such file or name, or a file that declares no sound `experiment`.
    """
    path = Path(file)
    if not path.is_file():
        names = shipped()
        if str(file) not in names:
            raise UserError(f"no experiment file {file}; those that come with jaxgen: {', '.join(names)}")
        path = names[str(file)]
    module_spec = importlib.util.spec_from_file_location(f"jaxgen_experiment_{path.stem}", path)
    if module_spec is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path} declares no `experiment = Experiment(...)`")
    if not isinstance(experiment.arms, Mapping) or not experiment.arms:
        raise UserError(f"{path}: arms is a dict of at least one Arm by its name")
    if not isinstance(experiment.settings, Settings):
        raise UserError(f"{path}: settings is a Settings(...), not {experiment.settings!r}")
    configured(Settings, dataclasses.asdict(experiment.settings), "settings")  # checks their types
    for name, arm in experiment.arms.items():
        if not isinstance(arm, Arm):
            raise UserError(f"{path}: arm {name!r} is no Arm(model, config)")
        if not isinstance(arm.model, str) or not isinstance(arm.config, Mapping):
            raise UserError(f"{path}: arm {name!r} takes a model's name and a dict of its Config's fields")
        if not isinstance(name, str) or not name or name != Path(name).name or name.startswith("."):
            raise UserError(f"{path}: arm name {name!r} cannot be a folder's name")
    experiment = dataclasses.replace(experiment, arms=_located(experiment.arms, path.parent))
    return Loaded(path.stem, inspect.cleandoc(module.__doc__ or ""), path, experiment)


def _located(arms: Mapping[str, Arm], folder: Path) -> dict[str, Arm]:
    """The arms, with model files found from the experiment's folder wherever the command is given."""
    return {
        name: dataclasses.replace(arm, model=str(folder / arm.model)) if arm.model.endswith(".py") else arm
        for name, arm in arms.items()
    }


def with_settings(experiment: Experiment, **changes: Any) -> Experiment:
    """The experiment with some settings changed; a change of None changes nothing."""
    changes = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(experiment, settings=dataclasses.replace(experiment.settings, **changes))
