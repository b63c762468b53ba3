"""The model card of a run: what it is, what it was trained on, how it scores, and how it may be used.

`write_card` takes every fact from the run's files; card.md lays them out, below a YAML header as the Hugging Face hub
reads it. Nothing here uses the network.
"""

import contextlib
import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen import data, models
from jaxgen.config import given
from jaxgen.data.options import Options
from jaxgen.errors import UserError
from jaxgen.evaluation.evaluate import EVALUATION
from jaxgen.files import check_writable, expanded, write_new
from jaxgen.provenance import signature
from jaxgen.provenance.keys import trusted_root
from jaxgen.report.page import score_cell
from jaxgen.report.templates import templates
from jaxgen.training import folder, signing
from jaxgen.training.plan import Plan
from jaxgen.training.settings import Training

CARD, RESULTS = "README.md", "results.json"

TEMPLATE = "card.md"

OWN_FILES = ("data_from", "dataset")
"""Options that may be paths of the machine that trained."""


class Scores(NamedTuple):
    """Scores of a run."""

    table: dict[str, Any]  # as `Scorer.results` returns it
    row: dict[str, Any]  # the run's own
    seeds: list[int]
    verdicts: list[str]  # sentences of declared comparisons, if it was compared


def write_card(run: str | Path, comparison: str | Path | None = None, out: str | Path | None = None) -> Path:
    """Writes the model card of a run that has ended.

    Args:
        run: the run folder.
        comparison: results.json of a comparison that trained the run, for the scores; those of evaluation.json in the
            run folder, if there are any, if not given.
        out: the file; README.md in the run folder if not given.

    Returns:
        The file.

    Raises:
        UserError: there is no run or it has not ended, the scores are missing from the comparison or are of other
            parameters, the run was changed since it was signed, or the file exists with other content.
    """
    path = Path(run)
    folder.planned(path)
    file = expanded(out) if out is not None else path / CARD
    check_writable(file)
    write_new(file, rendered(path, comparison).encode())
    return file


def rendered(path: Path, comparison: str | Path | None = None, usage: str | None = None) -> str:
    """The model card of a run; raises UserError as `write_card` does.

    usage: the part on files, if the card is that of an exported folder.
    """
    plan = folder.planned(path)
    if not (path / folder.RESULT).exists():
        raise UserError(f"{path} has not ended: `jaxgen train --resume` ends it")
    result = folder.read_result(path)
    scores = _compared(path, Path(comparison)) if comparison else _evaluated(path / EVALUATION)
    if scores:
        _check_parameters(scores.row, result, comparison or path / EVALUATION)
    made = templates(Path(__file__).parent, html=False)
    made.filters |= {"yaml": _yaml, "cell": _table_cell}
    return made.get_template(TEMPLATE).render(
        name=path.resolve().name,
        run=shlex.quote(path.resolve().name),
        plan=plan,
        entry=models.MODELS.get(plan.model_name),
        task=_task(plan),
        subjects=_subjects(plan),
        data=_data(plan),
        training={name: getattr(plan.settings, name) for name in Training.__dataclass_fields__},
        config={name: plan.described()["config"][name] for name in given(plan.config)},
        environment=folder.read_environment(path),
        result=result,
        scores=_shown(scores) if scores else None,
        signature=_signature(path),
        note=plan.shared(plan.dataset.note),
        usage=usage,
    )


def comparison_of(path: Path) -> Path | None:
    """results.json of the comparison whose folder a run lies in, if it scores the run."""
    for above in path.resolve().parents[:2]:
        with contextlib.suppress(UserError):  # there is none, or a file of the user's own
            if any(run == path.resolve() for run, _, _ in _compared_runs(above / RESULTS)):
                return above / RESULTS
    return None


def own_data(plan: Plan) -> bool:
    """True if a run's data are files of a user's own."""
    return _data(plan)["own"]


# Scores


def _evaluated(file: Path) -> Scores | None:
    """Scores that `jaxgen evaluate` wrote; None if there are none."""
    if not file.exists():
        return None
    table = folder.read_json(file)
    row = next(row for row in table["rows"] if row["kind"] == "trained")
    return Scores(table, row, table["seeds"], [])


def _compared(path: Path, file: Path) -> Scores:
    """Scores of the run at `path` in a comparison; raises UserError if it has none."""
    runs = _compared_runs(file)
    results = folder.read_json(file)
    for run, table, row in runs:
        if run == path.resolve():
            asked = [of for of in results["verdicts"] if of["table"] in (table["label"], None)]
            verdicts = [of["sentence"] for of in asked if row["name"] in (of["a"], of["b"])]
            return Scores(table, row, results["seeds"], verdicts)
    raise UserError(f"{file} has no scores of {path}; it has those of {', '.join(str(run) for run, _, _ in runs)}")


def _compared_runs(file: Path) -> list[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Runs of a comparison, each with its table and its row there; raises UserError if the file is none."""
    results = folder.read_json(file)
    if not isinstance(results, dict) or "tables" not in results:
        raise UserError(f"{file} is no {RESULTS} of `jaxgen compare`")
    place = file.parent.resolve()
    rows = [(table, row) for table in results["tables"] for row in table["rows"] if row.get("run")]
    return [((place / row["run"]).resolve(), table, row) for table, row in rows]


def _check_parameters(row: dict[str, Any], result: dict[str, Any], file: str | Path) -> None:
    """Raises UserError if scores of the last checkpoint are of other parameters than the run ended with."""
    last = row["steps"] == result["step"] and not row["checkpoints"]
    if last and row["digests"] != result["digests"]:
        raise UserError(f"the scores in {file} are of other parameters than the run's: score it again")


def _shown(scores: Scores) -> dict[str, Any]:
    """Variables of the template: the table's columns and lines, and the metrics of the header."""
    untrained = f"{scores.row['name']}, untrained"
    others = [row for row in scores.table["rows"] if row["kind"] == "real" or row["name"] == untrained]
    rows, metrics, lines = [scores.row, *others], [], []
    for metric in scores.table["metrics"]:
        if not scores.row["values"].get(metric["key"]):
            continue
        cells = [score_cell(row, metric, scores.seeds) for row in rows]
        lines.append({"metric": metric, "cells": cells})
        if cells[0]["order"] is not None:
            low, _, high = cells[0]["bounds"] or (None, None, None)
            metrics.append({"metric": metric, "mean": cells[0]["order"], "low": low, "high": high, "n": cells[0]["n"]})
    elsewhere = tuple(f"{row['name']}: " for row in scores.table["rows"] if row not in rows)
    chosen = scores.row["checkpoints"] or [scores.row["steps"]]
    return {
        **scores._asdict(),
        "columns": ["this model", *(row["name"] for row in others)],
        "lines": lines,
        "metrics": metrics,
        "warnings": [words for words in scores.table.get("warnings", []) if not words.startswith(elsewhere)],
        "checkpoints": sorted(set(chosen)),
    }


# Facts


def _task(plan: Plan) -> str:
    """The hub's name of the model's task."""
    sampler, subject = plan.model.sampler, plan.dataset.spec.subject
    if sampler is None:
        return "image-classification" if "label" in plan.model.predict else "other"
    if subject != "image" or "label" in sampler.conditions:
        return "other"
    return "text-to-image" if "caption" in sampler.conditions else "unconditional-image-generation"


def _subjects(plan: Plan) -> str:
    """Words on the examples that the model draws, and their size."""
    spec = plan.dataset.spec
    if spec.subject == "point":
        return "points of the plane"
    shape = spec.entries[spec.subject].shape
    return f"meshes of {shape[0]} vertices" if spec.subject == "mesh" else f"images of {'x'.join(map(str, shape))}"


def _data(plan: Plan) -> dict[str, Any]:
    """Facts of the dataset: its name on the hub, if it is a public one, its license and the options of its images."""
    name, options = plan.settings.dataset, Options(**plan.dataset.options)
    row = None if name.endswith(".py") else data.info(name)
    own = row is None or row.license == "yours"
    return {
        "name": Path(name).name if own else name,
        "hub": None if own else name.removeprefix("tfds:"),
        "license": None if own else row.license,
        "own": own,
        "options": {each: getattr(options, each) for each in given(options) if each not in OWN_FILES},
    }


def _signature(path: Path) -> str | None:
    """Words on the run's signature; None if it has none. Raises UserError if the run was changed since."""
    if not (path / signature.FILE).exists():
        return None
    try:
        return signing.check(path, trusted_root(None))
    except signature.ChangedError as error:
        raise UserError(f"no card of a run that was changed: {error}") from None
    except UserError as error:  # signed by someone whom this user does not trust
        return str(error)


# Forms


def _yaml(value: Any) -> str:
    """A scalar, or a list of scalars, as YAML; the exponent of a float needs a fraction there."""
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")
    return json.dumps(value, ensure_ascii=False)


def _table_cell(value: Any) -> str:
    """Text of a cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")
