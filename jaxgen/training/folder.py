"""A run's folder: its files, and how it is opened.

config.json         everything needed to run it again: model, its config, settings
model.py            a copy of the user's own model file, if the model is one
dataset.json, .npz  the dataset's description, for opening the run: name, fingerprint, shapes, classes, mean image
vocabulary.json     the words of the captions by id, if the data have captions
environment.json    versions, source files, device kind and count, XLA flags, commit of a checkout, dataset fingerprint
metrics.jsonl       a row per seed at every logging, sampling and checkpoint step: means since the row before
events/             the same for TensorBoard, a folder per seed
wandb/, wandb.json  W&B's own files, and its run of every seed, if requested
samples/            a PNG grid per seed and sampling step
checkpoints/        by step: the newest ones (two by default) and each seed's best, with the sha256 of every leaf
diverged.json       step and batch (indices of training examples) of seeds that diverged, if any
damaged/            damaged checkpoints, moved here on resuming
lock                the process that trains in the folder, or did last
result.json         written at the end: step, seconds, diverged seeds, digests
imported.json       what `jaxgen import` made the run of, if it did; such a run has no grids of before
"""

import errno
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import models
from jaxgen.config import configured
from jaxgen.errors import UserError
from jaxgen.files import write_whole
from jaxgen.model import State
from jaxgen.training import dataset_file, draws, engine
from jaxgen.training.checkpoints import Checkpoints, DamagedError, best_steps
from jaxgen.training.environment import DEFINING, OF_A_CPU, ROUNDING, jax_settings
from jaxgen.training.lock import LOCK
from jaxgen.training.plan import Plan, make_plan
from jaxgen.training.rows import read_rows
from jaxgen.training.settings import Settings

CONFIG, ENVIRONMENT, METRICS, RESULT = "config.json", "environment.json", "metrics.jsonl", "result.json"
EVENTS, SAMPLES, CHECKPOINTS, MODEL_FILE = "events", "samples", "checkpoints", "model.py"
OWN_NAMES = {MODEL_FILE, EVENTS, SAMPLES, CHECKPOINTS, LOCK, "damaged", "wandb"}
"""Names in a run's folder that files which a model file imports cannot have."""

DAMAGED, DIVERGED, IMPORTED = "damaged", "diverged.json", "imported.json"

EXPORT = "export.json"
"""Description of an exported folder (`jaxgen.portable`), which has most of a run's files but no checkpoints."""


class Restored(NamedTuple):
    """Content of a checkpoint."""

    state: State  # every leaf [seeds, ...]
    step: int
    diverged: dict[int, int]  # seed -> the step it was stopped at
    content: dict[str, Any]  # its metadata, as `Checkpoints` describes it


class Run(NamedTuple):
    """A run folder's content, with the state of a checkpoint."""

    path: Path
    plan: Plan
    state: State  # every leaf [seeds, ...]
    step: int  # of the checkpoint
    diverged: dict[int, int]  # seed -> the step it was stopped at, a metric or parameter not finite
    chosen: tuple[int, ...] = ()  # each seed's checkpoint in `state`, if chosen per seed

    def digests(self) -> dict[int, str]:
        """sha256 of each seed's parameters and its other model state (averages, codebooks)."""
        return engine.digests(self.plan.settings.seeds, self.state)

    def sample(self, num: int, **condition: Any) -> np.ndarray:
        """Samples of every seed, the same ones that `jaxgen sample --num NUM --out FILE.npz` writes seed after seed.

        For a model given labels this holds if num is a multiple of the number of classes: the command draws as many of
        each class, and rounds NUM down.

        Args:
            num: samples of each seed.
            condition: `label`, one or several classes or their numbers, or `caption`, one or several texts, of a model
                that is given them. Each is for an equal share of the samples, in order: sample(6, label=[3, 8]) draws
                three of class 3 and three of class 8. Without `label` they are of all classes.

        Returns:
            Images uint8 [seeds, num, H, W, C], points float32 [seeds, num, 2] or meshes float32 [seeds, num, V, 3]; the
            seeds are those of `plan.settings.seeds`.

        Raises:
            UserError: the model does not sample, or is given something else.
        """
        return draws.samples(self, num, condition)

    def decode(self, z: Any, **condition: Any) -> np.ndarray:
        """Examples of latents z, decoded by every seed.

        Args:
            z: latents [num, ...] that all seeds decode, or [seeds, num, ...], in the form of the model's prior.
            condition: as `sample` takes it, but without defaults.

        Returns:
            Images uint8 [seeds, num, H, W, C], points float32 [seeds, num, 2] or meshes float32 [seeds, num, V, 3].

        Raises:
            UserError: the model does not decode, z is of another form or holds a code that there is not, or the model
                is given something else.
        """
        return draws.decoded_latents(self, z, condition)

    def named_digests(self) -> dict[str, str]:
        """Digests as stored in result.json."""
        return {str(seed): digest for seed, digest in self.digests().items()}


def check_name(path: Path) -> None:
    """Raises UserError if orbax cannot save checkpoints below `path`."""
    if "[" in str(path.absolute()):
        raise UserError(
            f"a run cannot be saved in {path.absolute()}: orbax takes [ for a pattern; choose another --out"
        )
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:  # orbax takes no others
        raise UserError(f"a run cannot be saved in {path}: the name is not UTF-8; choose another --out") from None


def create(path: Path, plan: Plan) -> None:
    """Creates a run folder atomically. Raises UserError if `path` exists or cannot be written."""
    if path.exists() or path.is_symlink():
        way = ", or --resume to continue it" if (path / CONFIG).exists() else ""
        raise UserError(f"{path} exists; choose another --out{way}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=path.name + ".", dir=path.parent) as temporary:
            started = Path(temporary) / "run"
            started.mkdir()
            if plan.model_path.endswith(".py"):
                shutil.copyfile(plan.model_path, started / MODEL_FILE)
                _copy_imports(plan, started)
            write_json(started / ENVIRONMENT, plan.environment())
            write_json(started / CONFIG, plan.described())
            dataset_file.save(started, plan.dataset)
            try:
                started.rename(path)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # another process was faster
                    raise UserError(f"{path} exists; choose another --out") from None
                raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _copy_imports(plan: Plan, folder: Path) -> None:
    """Copies what a model file imports from beside it to beside the run's copy."""
    for name, path in models.imported(plan.model_path).items():
        if name.partition("/")[0] in OWN_NAMES:
            raise UserError(f"{plan.model_path} imports {path}, whose name a run's folder has too: rename it")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


def begun(path: Path) -> bool:
    """True if a run has reached its first row or its first checkpoint."""
    rows = path / METRICS
    return (rows.exists() and rows.stat().st_size > 0) or any((path / CHECKPOINTS).glob("[0-9]*"))


def check_resume(path: Path, plan: Plan) -> None:
    """Raises UserError, naming the difference, if `plan` cannot resume the run at `path`.

    Only the number of steps may change, and not to less than the newest checkpoint's.
    """
    if found := differences(path, plan):
        raise UserError(f"{path} belongs to another run; what differs: {'; '.join(found)}")
    newest = max(checkpoint_steps(path), default=0)
    if newest > plan.settings.steps:
        raise UserError(f"{path} is already at step {newest}; --steps {plan.settings.steps} would go back")


def differences(path: Path, plan: Plan) -> list[str]:
    """Differences of `plan` from the run at `path`: in model, config, settings (except the steps), data."""
    old, new = read_config(path), plan.described()
    if old["model"] != new["model"]:
        return [f"model: {old['model']!r} -> {new['model']!r}"]
    found = [
        f"{'' if part == 'settings' else part + ' '}{name}: {old[part].get(name)!r} -> {value!r}"
        for part in ("config", "settings")
        for name, value in (new[part] | {k: None for k in old[part] if k not in new[part]}).items()
        if old[part].get(name) != value and (part, name) != ("settings", "steps")
    ]
    if found:
        return found
    own = path / MODEL_FILE
    if own.exists() and own.read_bytes() != Path(plan.model_path).read_bytes():
        return [f"{plan.model_path} was changed since"]
    for name, file in models.imported(plan.model_path).items():
        if own.exists() and (not (path / name).is_file() or (path / name).read_bytes() != file.read_bytes()):
            return [f"{file} was changed since"]
    if found := setting_differences(path):
        return found
    past, how = read_environment(path), engine.axis(plan.settings.seeds_axis)
    if past["dataset"]["fingerprint"] != plan.dataset.fingerprint:
        return [f"the content of dataset {plan.dataset.name} (fingerprint)"]
    if past["seeds_axis"] != how:  # auto, on another backend
        return [f"seeds_axis: {past['seeds_axis']!r} -> {how!r}"]
    return []


def setting_differences(path: Path) -> list[str]:
    """Differences between this process and the run at `path` in the settings of JAX that define a run."""
    old = read_environment(path).get("jax_settings", {})
    new = {name: str(value) for name, value in jax_settings(DEFINING).items()}
    return [f"{name.upper()}: {old[name]} -> {value}" for name, value in new.items() if old.get(name, value) != value]


def environment_changes(path: Path, plan: Plan) -> dict[str, str]:
    """Map from name to description of differences from the run's recorded environment that can change its bits."""
    old, new = read_environment(path), plan.environment()
    decisive = ("jaxgen", "jax", "jaxlib", "flax", "optax", "backend", "device", "devices", "mesh", "xla_flags")
    decisive += OF_A_CPU if new["backend"] == "cpu" else ()
    found = {name: f"{name}: {old[name]} -> {new[name]}" for name in decisive if old.get(name, new[name]) != new[name]}
    settings = [environment.get("jax_settings", {}) for environment in (old, new)]
    for name in ROUNDING:
        before, now = (of.get(name) for of in settings)
        if None not in (before, now) and before != now:  # another version of JAX may lack it
            found[name] = f"{name.upper()}: {before} -> {now}"
    files = {name for name, _ in old.get("sources", {}).items() ^ new["sources"].items()}
    return found | {name: f"{name} was changed" for name in sorted(files)}


def open_run(path: str | Path, checkpoint: str | int = "newest") -> Run:
    """Opens a run folder at a checkpoint.

    Args:
        path: the folder.
        checkpoint: newest; a step; or best: each seed's best by the run's `keep_best`, or the newest for a seed
            without a best one (it diverged before its first).

    Raises:
        UserError: there is no run or no such checkpoint, or it is damaged.
    """
    path = Path(path)
    opened = planned(path)
    if found := setting_differences(path):
        raise UserError(f"{path} was trained with other settings of JAX: {'; '.join(found)}")
    steps = checkpoint_steps(path)
    if not steps:
        exported = (path / EXPORT).exists()
        raise UserError(
            f"{path} {'is exported: `jaxgen import` makes a run of it' if exported else 'has no checkpoint yet'}"
        )
    best = opened.settings.keep_best
    if checkpoint == "best" and best is None:
        raise UserError(f"{path} was trained without keep_best; it has checkpoints {', '.join(map(str, steps))}")
    if checkpoint not in ("newest", "best") and str(checkpoint) not in map(str, steps):
        names = ["newest", *(["best"] if best else []), *map(str, steps)]
        raise UserError(f"{path} has no checkpoint {checkpoint}; it has {', '.join(names)}")
    try:
        if checkpoint != "best":
            return Run(
                path, opened, *restore(path, opened, steps[-1] if checkpoint == "newest" else int(checkpoint))[:3]
            )
        with Checkpoints(path / CHECKPOINTS) as checkpoints:
            found = best_steps({step: checkpoints.content(step)["scores"] for step in steps}, best[0])
        chosen = [found.get(str(seed), steps[-1]) for seed in opened.settings.seeds]
        read = {step: restore(path, opened, step) for step in {*chosen, steps[-1]}}
        state = of_each_seed([read[step].state for step in chosen])
        return Run(path, opened, state, steps[-1], read[steps[-1]].diverged, tuple(chosen))
    except DamagedError as damaged:
        if not damaged.checkpoint.exists():  # a training run has removed it meanwhile
            return open_run(path, checkpoint)
        way = ". `jaxgen train --resume` resumes from the one before" if checkpoint == "newest" else ""
        raise UserError(f"{damaged}{way}") from None


def of_each_seed(states: list[State]) -> State:
    """Joins the first seed's part of the first state, the second seed's of the second, and so on, into one state."""
    states = [jax.device_get(state) for state in states]
    return jax.tree.map(lambda *leaves: np.stack([leaf[seed] for seed, leaf in enumerate(leaves)]), *states)


def planned(path: Path) -> Plan:
    """Plan of the run at `path`, from its own files alone; raises UserError if there is none or it is damaged.

    The examples of its dataset are loaded on first use.
    """
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} is no run folder: it has no {CONFIG}")
    described = read_config(path)
    own = path / MODEL_FILE
    settings = configured(Settings, described["settings"], "settings")
    model = str(own) if own.exists() else described["model"]
    dataset = dataset_file.restore(path, settings.dataset)
    return make_plan(model, described["config"], settings, dataset=dataset, name=described["model"])


def newest_whole(path: Path, plan: Plan) -> tuple[Restored | None, list[DamagedError]]:
    """Returns the newest undamaged checkpoint, None if there is none yet, and the errors of damaged newer ones.

    Raises:
        UserError: all checkpoints are damaged or lost, or one belongs to another run.
    """
    damaged = []
    for step in reversed(checkpoint_steps(path)):
        try:
            return restore(path, plan, step), damaged
        except DamagedError as error:
            damaged.append(error)
    more = f"; {len(damaged) - 1} more" if damaged[1:] else ""
    if damaged:
        raise UserError(f"no checkpoint of {path} is left to resume from; {damaged[0]}{more}")
    # Rows beyond two intervals are written only after the first checkpoint.
    reached = max((row["step"] for row in read_rows(path / METRICS)), default=0)
    if (path / RESULT).exists() or reached > 2 * plan.settings.checkpoint_every:
        lost = f"no checkpoint of {path} is left to resume from, though it came to step {reached}"
        raise UserError(f"{lost}; choose another --out to start over")
    return None, []


def set_aside(path: Path, damaged: list[DamagedError]) -> list[str]:
    """Moves damaged checkpoints of the run at `path` into `damaged/`; returns lines that report it."""
    lines = []
    for error in damaged:
        aside = path / DAMAGED / error.checkpoint.name
        while aside.exists():
            aside = aside.with_name(aside.name + "+")
        aside.parent.mkdir(exist_ok=True)
        error.checkpoint.rename(aside)
        lines.append(f"{error}. It is set aside, as {aside}")
    return lines


def restore(path: Path, plan: Plan, step: int) -> Restored:
    """Restores a checkpoint of a run.

    Raises:
        DamagedError: it does not hold what was written.
        UserError: it belongs to another run, or the model's parameters have changed.
    """
    settings = plan.settings
    like = jax.eval_shape(engine.of_all_seeds(plan.model.init), engine.all_streams(settings.seeds).init)
    with Checkpoints(path / CHECKPOINTS) as checkpoints:
        tree, content = checkpoints.restore(step, like._asdict(), belonging(plan.described(), plan.dataset.fingerprint))
    state = State(**tree)
    # A diverged seed was frozen, so its step is below the checkpoint's.
    stopped = {s: int(at) for s, at in zip(settings.seeds, state.step, strict=True) if at < step}
    return Restored(state, step, stopped, content)


def belonging(described: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """Map from name to a value in which a checkpoint must agree with its run: everything but the steps.

    described: the run, as config.json holds it. fingerprint: its data's.
    """
    fields = {name: value for part in ("config", "settings") for name, value in described[part].items()}
    del fields["steps"]
    return fields | {"model": described["model"], "content of the data (fingerprint)": fingerprint}


def checkpoint_steps(path: Path) -> list[int]:
    """Steps of a run's checkpoints, ascending."""
    with Checkpoints(path / CHECKPOINTS) as checkpoints:
        return checkpoints.steps()


def read_environment(path: Path) -> dict[str, Any]:
    """Reads a run's environment.json; raises UserError if it is missing, damaged, or holds something else."""
    past = read_json(path / ENVIRONMENT)
    named = {"seeds_axis", "jax", "dataset"}
    known = isinstance(past, dict) and named <= past.keys() and "fingerprint" in past["dataset"]
    if not (known and isinstance(past.get("model_imports", {}), dict)):
        raise UserError(f"{path / ENVIRONMENT} does not hold a run's environment")
    return past


def read_config(path: Path) -> dict[str, Any]:
    """Reads a run's config.json; raises UserError if it is missing, damaged, or holds something else."""
    described = read_json(path / CONFIG)
    parts = {"model": str, "config": dict, "settings": dict}
    if not isinstance(described, dict) or not all(isinstance(described.get(p), kind) for p, kind in parts.items()):
        raise UserError(f"{path / CONFIG} does not hold a run's model, config and settings")
    configured(Settings, described["settings"], f"{path / CONFIG}: settings").check()
    if not {"seeds", "steps"} <= described["settings"].keys():
        raise UserError(f"{path / CONFIG} does not hold a run's seeds and steps")
    return described


def read_result(path: Path) -> dict[str, Any]:
    """Reads a run's result.json; raises UserError if it is damaged or holds something else."""
    result = read_json(path / RESULT)
    kinds = {"step": int, "seconds": float, "diverged": dict, "digests": dict}
    if not isinstance(result, dict) or not all(isinstance(result.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path / RESULT} does not hold a run's result")
    return result


def result_there(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Reads a run's result.json, None if there is none; if it cannot be read, None and a line that reports it."""
    try:
        return (read_result(path) if (path / RESULT).exists() else None), []
    except UserError as error:
        return None, [f"{error}. It is written anew"]


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def write_json(path: Path, content: Any) -> None:
    """Writes `content` atomically."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
