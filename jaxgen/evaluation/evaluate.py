"""Evaluation of a run, and of images that another system made: a table, and a JSON file of it."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import data
from jaxgen.errors import UserError
from jaxgen.evaluation.foreign import read_images
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.scorer import Scorer, finite
from jaxgen.files import check_writable
from jaxgen.training import folder, open_run
from jaxgen.training.environment import environment

EVALUATION = "evaluation.json"


def evaluate(
    run: str | Path,
    scoring: Scoring | None = None,
    checkpoint: str | int = "newest",
    *,
    out: str | Path | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Scores a run's seeds beside real images and the untrained model; writes evaluation.json into the run folder.

    Args:
        run: the run folder.
        scoring: the metrics and their settings.
        checkpoint: as `open_run` takes it.
        out: the JSON file; evaluation.json in the run folder if not given.
        show: is called with the results before they are written.
        progress: show progress on stderr.

    Returns:
        The table, as `Scorer.results` returns it, and the file as "path".

    Raises:
        UserError: there is no run or no checkpoint yet; a metric does not apply to the model, or needs more samples;
            another file than an evaluation is at `out`.
    """
    opened = open_run(run, checkpoint)
    file = Path(out) if out else opened.path / EVALUATION
    _check_place(file)
    scorer = Scorer(opened.plan.dataset, scoring or Scoring(), progress)
    scorer.requested.check([opened.plan])
    with scorer:
        real = scorer.real_rows([opened.plan.model])
        trained, untrained = scorer.model_rows(opened.path.name, opened)
        results = scorer.results([*real, trained, untrained], opened.plan.settings.seeds)
        results["environment"] = environment(opened.plan.dataset)
    return _written(results, file, show)


def evaluate_images(
    images: str | Path,
    dataset: str,
    scoring: Scoring | None = None,
    *,
    out: str | Path | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Scores images (or points) made by any other system beside real ones of a dataset; writes a JSON file.

    Args:
        images: a folder or a zip file of images, or an array, as `read_images` takes it.
        dataset: its name, as `jaxgen.data.load` takes it.
        scoring: the metrics and their settings.
        out: the JSON file; IMAGES.evaluation.json beside the images if not given.
        show: is called with the results before they are written.
        progress: show progress on stderr.
        **options: options of the dataset, the fields of `jaxgen.data.Options`.

    Returns:
        The table, as `Scorer.results` returns it, and the file as "path".

    Raises:
        UserError: the images cannot be read or are unlike the dataset's, a metric does not apply to them, or another
            file than an evaluation is at `out`.
    """
    scoring, path = scoring or Scoring(), Path(os.path.expanduser(images)).resolve()
    out = Path(out) if out else path.with_name(f"{path.name}.evaluation.json")
    _check_place(out)
    loaded = data.load(dataset, progress=progress, **options)
    values, labels, how = read_images(path, loaded)
    if scoring.samples is not None:
        if scoring.samples > len(values):
            raise UserError(f"{path} holds {len(values):,} examples, not the {scoring.samples:,} of samples")
        order = np.random.Generator(np.random.Philox(scoring.sampling_seed)).permutation(len(values))
        chosen = np.sort(order[: scoring.samples])
        values, labels = values[chosen], None if labels is None else labels[chosen]
    scorer = Scorer(loaded, dataclasses.replace(scoring, samples=len(values)), progress)
    scorer.requested.check([], labeled=labels is not None)
    with scorer:
        row = {
            "name": path.name,
            "kind": "given",
            "samples": len(values),
            "values": {key: [finite(value)] for key, value in scorer.of_samples(path.name, values, labels).items()},
            "sampling": how,
            "notes": scorer.requested.absent(None, labels is not None),
        }
        results = scorer.results([*scorer.real_rows([]), row], ()) | {"environment": environment(loaded)}
    return _written(results, out, show)


def _check_place(out: Path) -> None:
    """Raises UserError if the table could not be written, or would replace a file that is no table of an evaluation."""
    check_writable(out)
    if out.exists():
        try:
            earlier = folder.read_json(out)
        except UserError:
            earlier = None
        if not isinstance(earlier, dict) or not {"metrics", "rows"} <= earlier.keys():
            raise UserError(f"{out} exists and is no evaluation; choose another --out")


def _written(results: dict[str, Any], out: Path, show: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
    """The results and the path of the file that they are written to, after they are shown."""
    try:
        if show:
            show(results)
    finally:  # also if the reader of stdout has seen enough
        folder.write_json(out, results)
    return results | {"path": str(out)}
