"""Status of the runs below a folder, and verification of everything that a run has written."""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from jaxgen.config import configured
from jaxgen.errors import UserError
from jaxgen.provenance import signature
from jaxgen.training import dataset_file, folder, signing
from jaxgen.training.checkpoints import Checkpoints, differences
from jaxgen.training.lock import is_locked, owner
from jaxgen.training.plan import Plan, file_digest
from jaxgen.training.record import grid_steps
from jaxgen.training.rows import lacks, lost_rows, read_rows, torn
from jaxgen.training.settings import Settings


class Standing(NamedTuple):
    """Status of one run folder."""

    path: Path
    state: str  # running, done, stopped, diverged or damaged
    step: int | None  # of its newest row or checkpoint
    steps: int | None  # number of steps taken, if it is done; else the maximum
    described: dict[str, Any] | None  # as config.json holds it
    seconds: float | None  # duration, if it is done
    note: str  # who runs it, which seeds diverged, what is damaged


def runs_below(path: str | Path) -> list[Path]:
    """Run folders below `path`, or `path` itself if it is one, sorted. Raises UserError if `path` is not a folder.

    Any two of its parts identify a run folder, so that one that has lost a part is still found.
    """
    path, parts = Path(path), (folder.CONFIG, folder.ENVIRONMENT, folder.METRICS, folder.CHECKPOINTS)
    if not path.is_dir():
        raise UserError(f"{path} is no folder")
    found = Counter(part.parent for name in parts for part in path.rglob(name))
    return sorted(run for run, count in found.items() if count > 1 and not (run / folder.EXPORT).exists())


def standing(path: Path) -> Standing:
    """Returns the status of a run. Reads its checkpoints' records, but not their arrays; `verified` does."""
    described = step = result = None
    try:
        described = folder.read_config(path)
        folder.read_environment(path)
        rows = read_rows(path / folder.METRICS)
        steps = folder.checkpoint_steps(path)
        step = max([row["step"] for row in rows[-1:]] + steps[-1:], default=0)
        with Checkpoints(path / folder.CHECKPOINTS) as checkpoints:
            for each in steps:
                checkpoints.content(each)
        if (path / folder.RESULT).exists():
            result = folder.read_result(path)
    except UserError as error:
        if not is_locked(path):  # otherwise it is being written
            return Standing(path, "damaged", step, _steps(described), described, None, str(error))
    diverged = result["diverged"] if result else _diverged(path)
    note = f"seed{'s'[: len(diverged) > 1]} {', '.join(f'{s} at step {at}' for s, at in diverged.items())}"
    note = f"diverged: {note}" if diverged else ""
    if is_locked(path):
        state, note = "running", "; ".join(filter(None, [owner(path), note]))
    else:
        state = ("diverged" if diverged else "done") if result else "stopped"
    steps, seconds = (result["step"], result["seconds"]) if result else (_steps(described), None)
    return Standing(path, state, step, steps, described, seconds, note)


OK, DAMAGED, UNCHECKED, UNSIGNED = "ok", "DAMAGED", "not checked", "unsigned"


def verified(path: Path, root: bytes | None = None) -> Iterator[tuple[str, str, str]]:
    """Reads all files of a run again: yields (part, description, state) for each part of it.

    `root` is the certificate, in PEM, whose signers are trusted; the signature of anyone else is UNCHECKED, and a run
    that has none is UNSIGNED.

    Checkpoints, the data and a model file are checked by their sha256; rows and pictures for being readable and
    complete up to the newest checkpoint. Data that are missing, or have changed since training, are reported as
    UNCHECKED: they are no part of the run. A run that is training now is not read; of a run with a damaged
    config.json nothing else is read.
    """
    if is_locked(path):
        yield "lock", f"in use by {owner(path)}: to be read when it has ended", OK
        return

    def part(name, read, otherwise=DAMAGED):
        try:
            return name, read(), OK
        except UserError as error:
            return name, str(error), otherwise

    config = part(folder.CONFIG, lambda: folder.read_config(path)["model"])
    yield config
    if config[2] != OK:
        return
    steps = folder.checkpoint_steps(path)
    reached = max(steps, default=0)
    yield part(folder.ENVIRONMENT, lambda: f"jax {folder.read_environment(path)['jax']}")
    planned = part("plan", lambda: folder.planned(path))
    plan = planned[1] if planned[2] == OK else None
    if plan is None:
        yield planned
    else:
        yield part("data", lambda: _data(path, plan.settings.dataset), UNCHECKED)
    if (path / folder.MODEL_FILE).exists():
        yield part(folder.MODEL_FILE, lambda: _model_file(path))
    yield part(folder.METRICS, lambda: _rows(path, reached))
    yield part(folder.SAMPLES, lambda: _pictures(path, reached, plan))
    if not steps:
        yield part(folder.CHECKPOINTS, lambda: _none(path))
    for step in steps:
        yield part(f"{folder.CHECKPOINTS}/{step}", lambda step=step: _checkpoint(path, step))
    if (path / folder.RESULT).exists():
        yield part(folder.RESULT, lambda: _result(path, plan))
    yield _signature(path, root)


def _signature(path: Path, root: bytes | None) -> tuple[str, str, str]:
    if not (path / signature.FILE).exists():
        return signature.FILE, "`jaxgen sign` signs a run", UNSIGNED
    try:
        return signature.FILE, signing.check(path, root), OK
    except signature.ChangedError as error:
        return signature.FILE, str(error), DAMAGED
    except UserError as error:
        return signature.FILE, str(error), UNCHECKED


def _steps(described: dict[str, Any] | None) -> int | None:
    return described["settings"].get("steps") if described else None


def _diverged(path: Path) -> dict[int, int]:
    """Map from seed to the step at which it diverged, for a run that is not done."""
    file = path / folder.DIVERGED
    try:
        return {int(seed): at["step"] for seed, at in folder.read_json(file).items()} if file.exists() else {}
    except (UserError, AttributeError, KeyError, TypeError, ValueError):  # derived data, rewritten on resuming
        return {}


def _data(path: Path, asked: str) -> str:
    found = dataset_file.loaded(path, dataset_file.described(path), asked)
    return f"{found.name}, fingerprint {found.fingerprint[:12]}"


def _model_file(path: Path) -> str:
    found = file_digest(path / folder.MODEL_FILE)
    if found != folder.read_environment(path).get("model_file"):
        raise UserError(f"{path / folder.MODEL_FILE} was changed since the run began (sha256)")
    imported = folder.read_environment(path).get("model_imports", {})
    for name, digest in imported.items():
        if not (path / name).is_file() or file_digest(path / name) != digest:
            raise UserError(f"{path / name} was changed since the run began (sha256)")
    return f"sha256 {found[:12]}{f', and {len(imported)} that it imports' if imported else ''}"


def _none(path: Path) -> str:
    if (path / folder.RESULT).exists():
        raise UserError(f"there is none, though the run is done: {path / folder.RESULT}")
    return "there is none yet"


def _rows(path: Path, reached: int) -> str:
    """Checks that every row's seed is the run's, a seed's steps ascend, and none up to `reached` is missing."""
    file, settings = path / folder.METRICS, configured(Settings, folder.read_config(path)["settings"], str(path))
    rows, last = read_rows(file), dict.fromkeys(settings.seeds, -1)
    for number, row in enumerate(rows, 1):
        if row["seed"] not in last or row["step"] <= last[row["seed"]]:
            raise UserError(f"line {number} of {file} is not a row after those before it")
        last[row["seed"]] = row["step"]
    if torn(file):
        raise UserError(f"the last line of {file} is torn; resuming the run repairs it")
    if lost := lost_rows(rows, settings, reached, _diverged(path)):
        raise UserError(f"{file} {lacks(lost)}")
    return f"{len(rows):,} rows"


def _pictures(path: Path, reached: int, plan: Plan | None) -> str:
    files = sorted((path / folder.SAMPLES).rglob("*.png"))
    for file in files:
        try:
            Image.open(io.BytesIO(file.read_bytes())).load()
        except UnidentifiedImageError:
            raise UserError(f"{file} is no picture") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{file} cannot be decoded: {error}") from None
    if plan and plan.model.sampler and reached and not (path / folder.IMPORTED).exists():
        there, every = grid_steps(path, plan.settings.seeds), plan.settings.sample_every
        if lost := sorted(set(range(0, reached + 1, every)) - set(there)):
            raise UserError(f"{path / folder.SAMPLES} lacks the grids of {len(lost):,} steps, the first {lost[0]}")
    return f"{len(files):,} sample grids"


def _checkpoint(path: Path, step: int) -> str:
    belongs = folder.belonging(folder.read_config(path), folder.read_environment(path)["dataset"]["fingerprint"])
    with Checkpoints(path / folder.CHECKPOINTS) as checkpoints:
        content = checkpoints.verify(step)
    if differing := differences(content["belongs"], belongs):
        raise UserError(f"{path / folder.CHECKPOINTS / str(step)} belongs to another run: {differing[0]}")
    size = sum(file.stat().st_size for file in (path / folder.CHECKPOINTS / str(step)).rglob("*") if file.is_file())
    return f"{len(content['leaves'])} arrays, {size / 1e6:,.1f} MB"


def _result(path: Path, plan: Plan | None) -> str:
    """Checks that the digests are those of the last checkpoint."""
    result = folder.read_result(path)
    if plan is None:
        raise UserError("its digests were not compared: see plan")
    run = folder.open_run(path, result["step"])
    if run.named_digests() != result["digests"]:
        raise UserError(f"{path / folder.RESULT} has other digests than checkpoint {run.step}")
    return f"step {run.step}, {len(result['digests'])} digests"
