"""Plan of a run: its model, settings and dataset, checked together before anything is compiled."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, models
from jaxgen.config import configured, named, plain
from jaxgen.dependencies import own_code, sources
from jaxgen.errors import UserError
from jaxgen.model import Model, Spec
from jaxgen.training import engine
from jaxgen.training.contract import check_contract, equations, made, slow_convolutions
from jaxgen.training.environment import environment
from jaxgen.training.settings import Settings


def file_digest(path: str | Path) -> str:
    """sha256 (hex) of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Plan(NamedTuple):
    """A run that can be trained: everything is checked, nothing compiled or written."""

    model_name: str
    model_path: str  # a name of the table, or a file
    config: Any  # the model's Config
    settings: Settings
    dataset: data.Dataset
    model: Model

    def described(self) -> dict[str, Any]:
        """Description of the run, as stored in config.json."""
        parts = {"config": plain(self.config, self.model_name), "settings": plain(self.settings, "settings")}
        return {"model": self.model_name, **parts}

    def shared(self, content: Any) -> Any:
        """Content of a JSON file, or a text, with the last names of the paths of a user's own data instead of these."""
        given = (self.settings.data_from, self.dataset.options.get("data_from"), self.settings.dataset)
        paths = sorted({each for each in given if each and Path(each).is_absolute()}, key=len, reverse=True)
        if not paths:
            return content
        whole = re.compile(rf"(?<![\w.~-])({'|'.join(map(re.escape, paths))})(?![\w-]|\.\w)")  # /data, not /database

        def renamed(each):
            if isinstance(each, str):
                return whole.sub(lambda match: Path(match[0]).name, each)
            if isinstance(each, list | tuple):
                return [renamed(one) for one in each]
            return {name: renamed(one) for name, one in each.items()} if isinstance(each, dict) else each

        return renamed(content)

    def told(self) -> list[str]:
        """Lines that are said before training: what a folder of the user's own holds, what log p(x) is of."""
        own = self.settings.data_from or self.settings.dataset_name == "array"
        lines = [self.dataset.note] if own else []
        if self.model.likelihood:
            kind = {"exact": "exact", "bound": "a lower bound"}[self.model.likelihood.kind]
            note = self.model.likelihood.note or f"of {self.model.likelihood.space} examples"
            lines.append(f"{self.model_name}: log p(x), {kind}: {note}")
        of_file = self.model_path.endswith(".py") and jax.default_backend() == "cpu"
        if of_file and slow_convolutions(self.model, self.dataset.spec, self.settings.batch_size):
            lines.append(
                f"{self.model_name}: its step differentiates JAX's own convolutions, as in flax.linen.Conv; on a CPU "
                "they can take 36 times as long as those of jaxgen.nn.conv (Conv, ConvTranspose, conv)"
            )
        return lines

    def sources(self) -> dict[str, str]:
        """Map from file to sha256 of the code that determines the run's bits: model, engine, feed and their imports."""
        own = self.model_path.endswith(".py")
        model = self.model_path if own else f"jaxgen.models.{self.model_path}"
        imported = {name: own_code(path) for name, path in models.imported(self.model_path).items()}
        return sources(model, "jaxgen.training.engine", "jaxgen.training.feed") | imported

    def environment(self) -> dict[str, Any]:
        """Environment of this process, as stored in environment.json."""
        mesh = engine.mesh(len(self.settings.seeds), self.settings.batch_size)
        return environment(self.dataset) | {
            "sources": self.sources(),
            "seeds_axis": engine.axis(self.settings.seeds_axis),
            "mesh": dict(mesh.shape),
            "model_imports": {name: file_digest(path) for name, path in models.imported(self.model_path).items()},
            "model_file": self.model_path.endswith(".py") and file_digest(self.model_path),
        }


def make_plan(
    model: str,
    config: Any,
    settings: Settings,
    *,
    dataset: data.Dataset | None = None,
    name: str | None = None,
    progress: bool = False,
) -> Plan:
    """Checks that `model` can be trained with these settings, and builds it.

    Args:
        model: a name of the table of models, or the path of a Python file with `Config` and `make`.
        config: its Config; a dict of fields; or None for the defaults.
        settings: the run's settings.
        dataset: the dataset as restored from a run's folder; loaded by the settings if not given.
        name: the model's name in the run, if `model` is the run's copy of a file.
        progress: show the progress of decoding the data on stderr.

    Raises:
        UserError: an unknown model, dataset or field; a size the model cannot make; a batch entry
            that the dataset lacks; a batch size that the model cannot divide into its parts.
    """
    configured(Settings, vars(settings), "settings").check()
    module = models.load(model)
    asked = config
    config = configured(module.Config, {} if asked is None else named(asked), model)
    plain(asked if dataclasses.is_dataclass(asked) else config, model)
    if settings.data_folder is not None:  # a run is opened from any folder
        settings = dataclasses.replace(settings, data_from=str(settings.data_folder.absolute()))
    if settings.dataset.endswith(".py"):
        settings = dataclasses.replace(settings, dataset=str(Path(settings.dataset).expanduser().absolute()))
    dataset = dataset or load(settings, progress)
    own = model if model.endswith(".py") else ""
    built = build(module, config, dataset, settings, own)
    return Plan(name or ("./" + Path(model).name if own else model), model, config, settings, dataset, built)


def load(settings: Settings, progress: bool = False) -> data.Dataset:
    """Loads a run's dataset.

    Raises:
        UserError: as `jaxgen.data.load` does; streamed data meet `own_order` or `labeled_share`; the latter has no
            `labels` or `captions`.
    """
    options = {field.name: getattr(settings, field.name) for field in dataclasses.fields(data.Options)}
    dataset = data.load(options.pop("dataset"), progress=progress, **options)
    if dataset.streamed and settings.own_order:
        raise UserError("own_order needs the data in memory (pipeline memory): what grain reads, all seeds share")
    if settings.labeled_share is not None and dataset.kept is None:
        raise UserError("labeled_share only applies with --labels or --captions")
    if settings.labeled_share is not None and dataset.streamed:
        raise UserError("labeled_share needs the data in memory (pipeline memory)")
    return dataset


def build(module: Any, config: Any, dataset: data.Dataset, settings: Settings, own: str = "") -> Model:
    """Builds the model for a dataset.

    own: the path of the user's file, if the model is one; its contract is then checked. Raises UserError if the
    dataset lacks an entry that the model reads, the contract is broken, or the model does not support the precision.
    """
    name, entries = Path(module.__file__).stem, dataset.spec.entries
    try:
        spec = dataset.spec._replace(batch_size=settings.batch_size, compute_dtype=jnp.dtype(settings.precision))
        if own:
            model = made(own, module.make, config, spec)
            check_contract(own, model, spec, settings.batch_size)
        else:
            model = _made(module, config, spec)
        missing = [entry for entry in model.needs if entry not in entries]
    except KeyError as error:  # `make` reads an entry's shape
        missing = [str(entry) for entry in error.args]
    if missing:
        raise UserError(
            f"{name} needs {' and '.join(missing)}, but dataset {dataset.name} has only {', '.join(entries)}"
        )
    if settings.precision == "bfloat16" and not _has_bfloat16(model, dataset.spec, settings.batch_size):
        raise UserError(f"{name} computes in float32 only, not in bfloat16")
    return model


_MADE: dict[Any, Model] = {}
"""The newest models of the table, so that a run that is opened again is not compiled again."""


def _made(module: Any, config: Any, spec: Spec) -> Model:
    """Makes a model of the table, or returns the one that was made for the same config and an equal spec."""
    leaves, structure = jax.tree.flatten(spec)
    parts = [(leaf.shape, str(leaf.dtype), leaf.tobytes()) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
    key = module.make, config, structure, tuple(parts)
    model = _MADE.pop(key, None) or module.make(config, spec)
    _MADE[key] = model  # the newest is last
    for old in list(_MADE)[: -engine.KEPT]:
        _MADE.pop(old, None)  # another thread may have been here
    return model


def _has_bfloat16(model: Model, spec: Spec, batch_size: int) -> bool:
    """True if a phase's step has a bfloat16 value: traced, not computed."""
    key, batch = jax.random.key(0), engine.blank_batch(spec, model.needs, batch_size)
    state = jax.eval_shape(model.init, key)
    steps = (jax.make_jaxpr(phase.step)(key, state, batch) for phase in model.phases)
    values = (value.aval for step in steps for equation in equations(step.jaxpr) for value in equation.outvars)
    return any(getattr(value, "dtype", None) == jnp.bfloat16 for value in values)
