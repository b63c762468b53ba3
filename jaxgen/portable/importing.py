"""Runs made of exported folders, `jaxgen import`: they sample, evaluate and digest as the runs that were exported."""

import glob
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.errors import UserError
from jaxgen.files import expanded, new_folder
from jaxgen.model import State
from jaxgen.portable import weights
from jaxgen.training import dataset_file, engine, folder
from jaxgen.training.checkpoints import Checkpoints, Keep, named
from jaxgen.training.plan import Plan, file_digest

FORMAT = 1
"""Version of the layout of exported folders."""

KINDS = {"format": int, "formats": list, "seeds": list, "step": int, "digests": dict, "checkpoint": dict, "files": dict}
"""Types of the entries of export.json that are read here."""

OF_RUN = (folder.CONFIG, folder.ENVIRONMENT, folder.METRICS, folder.DIVERGED, folder.RESULT, folder.MODEL_FILE)
OF_RUN += (dataset_file.DESCRIPTION, dataset_file.ARRAYS, dataset_file.VOCABULARY)
"""Files that an imported run takes over, as far as they are there, beside those that its model file imports."""


class Exported(NamedTuple):
    """Content of an exported folder."""

    described: dict[str, Any]  # export.json
    plan: Plan
    state: State  # every leaf [seeds, ...]


def import_run(source: str | Path, out: str | Path | None = None, data_from: str | Path | None = None) -> Path:
    """Makes a run of an exported folder.

    Args:
        source: the exported folder. Its model.py is executed, if it has one.
        out: the run folder, which must not exist; runs/NAME, by the exported folder's name, if not given.
        data_from: where this machine has the run's data, if they are files of a user's own: the folder or file that the
            dataset reads, or the dataset's own Python file. Scores, resuming, pictures of test images and
            `jaxgen explore` need them, samples do not.

    Returns:
        The run folder.

    Raises:
        UserError: the folder is not an exported one with weights, is damaged, or is of a model or version that this
            jaxgen does not have; the run folder exists.
    """
    source = expanded(source)
    found = read(source)
    out = expanded(out) if out is not None else Path("runs") / source.resolve().name
    folder.check_name(out)
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists; choose another --out")
    settings, step = found.plan.settings, found.described["step"]
    own = settings.data_from or (settings.dataset if settings.dataset.endswith(".py") else None)
    if data_from is not None and own is None:
        raise UserError(
            f"dataset {found.plan.dataset.name} is not read from files of yours, so data_from is not for it"
        )
    if data_from is not None and not glob.glob(str(expanded(data_from))):
        raise UserError(f"there is no file or folder {data_from}, where --data-from says that the data are")
    with new_folder(out) as made:
        for name in _files_of_run(source):
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, made / name)
        if own is not None:
            _place(made, found.plan, expanded(data_from or Path(own).name).absolute())
        folder.write_json(
            made / folder.IMPORTED, {"from": source.resolve().name, "sha256": file_digest(source / folder.EXPORT)}
        )
        plan = folder.planned(made)
        belongs = folder.belonging(plan.described(), plan.dataset.fingerprint)
        with Checkpoints(made / folder.CHECKPOINTS, Keep()) as checkpoints:
            checkpoints.save(step, found.state._asdict(), {**found.described["checkpoint"], "belongs": belongs})
        if folder.open_run(made).named_digests() != found.described["digests"]:
            raise UserError(f"the run made of {source} has other digests than were exported")
    return out


def _place(made: Path, plan: Plan, place: Path) -> None:
    """Writes where this machine has a run's own data into its files."""
    field = "data_from" if plan.settings.data_from else "dataset"
    described = folder.read_config(made)
    described["settings"][field] = str(place)
    folder.write_json(made / folder.CONFIG, described)
    if field == "data_from":
        dataset = dataset_file.restore(made, plan.settings.dataset)
        dataset_file.save(made, dataset._replace(options=dataset.options | {field: str(place)}))


def read(source: Path) -> Exported:
    """Reads an exported folder, and checks it.

    Raises:
        UserError: it is no exported folder, a file is missing, damaged or changed, or it has no weights.
    """
    if not (source / folder.EXPORT).is_file():
        way = ": it is a run's, which `jaxgen export` exports" if (source / folder.CONFIG).exists() else ""
        raise UserError(f"{source} is no exported folder: it has no {folder.EXPORT}{way}")
    described = _description(source)
    if "safetensors" not in described["formats"]:
        raise UserError(f"{source} has no weights to import: it was exported to {', '.join(described['formats'])} only")
    for name, digest in described["files"].items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{source / folder.EXPORT} names a file outside the folder: {name!r}")
        if not (source / name).is_file():
            raise UserError(f"{source} lacks {name}")
        if file_digest(source / name) != digest:
            raise UserError(f"{source / name} was changed since it was exported (sha256)")
    if unlisted := sorted({*_files_of_run(source)} - described["files"].keys()):
        raise UserError(f"{source / unlisted[0]} is not a file that was exported")
    plan = folder.planned(source)
    if list(plan.settings.seeds) != described["seeds"]:
        raise UserError(f"{source / folder.EXPORT} and {folder.CONFIG} differ in their seeds")
    state = _state(source, plan)
    found = {str(seed): digest for seed, digest in engine.digests(plan.settings.seeds, state).items()}
    if found != described["digests"]:
        raise UserError(f"the weights in {source} have other digests than {folder.EXPORT} has")
    return Exported(described, plan, state)


def _description(source: Path) -> dict[str, Any]:
    described = folder.read_json(source / folder.EXPORT)
    if not isinstance(described, dict) or not isinstance(described.get("format"), int):
        raise UserError(f"{source / folder.EXPORT} does not describe an exported folder")
    if described["format"] > FORMAT:
        raise UserError(f"{source} was exported by a later jaxgen ({described.get('jaxgen')}): update jaxgen")
    if not all(isinstance(described.get(name), kind) for name, kind in KINDS.items()):
        raise UserError(f"{source / folder.EXPORT} does not describe an exported folder")
    return described


def _files_of_run(source: Path) -> list[str]:
    """The files of an exported folder that its run takes over; raises UserError for one that no model file imports."""
    imports = folder.read_environment(source).get("model_imports", {}) if (source / folder.ENVIRONMENT).exists() else {}
    for path in map(Path, imports):
        if path.suffix != ".py" or path.parts[0] in folder.OWN_NAMES:
            raise UserError(f"{source / folder.ENVIRONMENT} names {path}, which no model file can import")
    return [name for name in (*OF_RUN, *imports) if (source / name).is_file()]


def _state(source: Path, plan: Plan) -> State:
    """State of all seeds from their files; raises UserError if they are not the model's."""
    like = jax.eval_shape(plan.model.init, jax.random.key(0))._asdict()
    wanted, states = named(like), []
    for seed in plan.settings.seeds:
        where = source / weights.folder_of(seed)
        found = weights.load(where)
        weights.check_same(found, wanted, where)
        states.append([found[name] for name in wanted])
    stacked = [np.stack(each) for each in zip(*states, strict=True)]
    return State(**jax.tree.unflatten(jax.tree.structure(like), stacked))
