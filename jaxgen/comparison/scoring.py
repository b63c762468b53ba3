"""Scoring runs: the rows of a table, each beside its nulls (real images, the untrained model)."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from jaxgen import models
from jaxgen.comparison.extractors import extractors
from jaxgen.data import Dataset
from jaxgen.data.images import Transform
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.scores import SPACES, columns, image_scores, model_scores, notes
from jaxgen.model import BINARY_THRESHOLD, Model, State
from jaxgen.training import Run, open_run
from jaxgen.training import run as folder
from jaxgen.training import seeds as seed_axis
from jaxgen.training.run import Plan

EVALUATION = "evaluation.json"


def evaluate(run: str | Path, *, progress: bool = True) -> dict[str, Any]:
    """Scores a run's seeds beside real images and the untrained model; writes evaluation.json into it.

    Returns:
        {"metrics": [...], "rows": [...], "extractor": ..., "judge": ...}, as in `compare`.

    Raises:
        UserError: no run there, or no checkpoint yet.
    """
    opened = open_run(run)
    dataset = opened.plan.dataset
    extractor, judge = extractors(dataset, progress)
    trained, untrained = model_rows(opened.path.name, opened, extractor, judge)
    rows = [*real_rows([opened.plan.model], dataset, extractor, judge), trained, untrained]
    results = {
        "seeds": list(opened.plan.settings.seeds),
        "metrics": [metric._asdict() for metric in columns(rows, dataset)],
        "rows": rows,
        "extractor": extractor.described(),
        "judge": judge.described(),
    }
    folder.write_json(opened.path / EVALUATION, results)
    return results


def real_rows(arms: list[Model], dataset: Dataset, extractor: Extractor, judge: Extractor) -> list[dict[str, Any]]:
    """The training images scored as if a model had made them: what the test images leave to reach.

    Where one of the models draws bits and the data are not bits, the same images as bits too: what a
    perfect sampler of the bits would score.
    """
    train = dataset.train["image"]
    sets = {"real against real": (train, "the training images, which extractor and judge learned from")}
    if not dataset.options["binarize"] and any(m.likelihood and m.likelihood.space == "binary" for m in arms):
        words = f"the same, pixels of at least {BINARY_THRESHOLD} white, the others black"
        sets["real as bits"] = (Transform(binarize=True).all(train[:]), words)
    columns = [*(f"log_prob_{space}" for space in SPACES), "accuracy"]
    return [
        {
            "name": name,
            "kind": "real",
            "values": {key: [v] for key, v in image_scores(images, extractor, judge).items()},
            "note": note,
            "notes": dict.fromkeys(columns, "a score of models"),
        }
        for name, (images, note) in sets.items()
    ]


def model_rows(name: str, run: Run, extractor: Extractor, judge: Extractor) -> tuple[dict, dict]:
    """The rows of a trained model and of the same model before training, a value a seed."""
    plan = run.plan
    entry = models.MODELS.get(plan.model_name)
    shared = {
        "model": plan.model_name,
        "title": f"{entry.title} ({entry.paper})" if entry else plan.model_name,
        "sampling": plan.model.sampling,
        "config": dataclasses.asdict(plan.config),
        "notes": notes(plan.model),
    }
    changes = folder.environment_changes(run.path, plan)
    diverged = set(run.diverged)
    finished = (run.path / folder.RESULT).exists()
    trained = {
        "name": name,
        "kind": "trained",
        "values": _values(plan, run.state, extractor, judge, diverged),
        "steps": run.step,
        "seconds": folder.read_json(run.path / folder.RESULT)["seconds"] if finished else None,
        "diverged": sorted(diverged),
        "note": f"trained in another environment ({changes})" if changes else "",
        "digests": {str(seed): digest for seed, digest in run.digests().items()},
        **shared,
    }
    untrained = {
        "name": f"{name}, untrained",
        "kind": "untrained",
        "values": _values(plan, initial(plan), extractor, judge, set()),
        **shared,
    }
    return trained, untrained


def initial(plan: Plan) -> State:
    """The state of every seed before training."""
    keys = seed_axis.all_streams(plan.settings.seeds).init
    blank = seed_axis.blank_batch(plan.dataset.spec, plan.model.needs, plan.settings.batch_size)
    return seed_axis.initial_state(plan.model, keys, blank)


def _values(
    plan: Plan, state: State, extractor: Extractor, judge: Extractor, diverged: set[int]
) -> dict[str, list[float | None]]:
    """Every score of every seed, in their order; None for a seed that diverged."""
    seeds, dataset = plan.settings.seeds, plan.dataset
    keys = jax.vmap(lambda key: jax.random.split(key))(seed_axis.all_streams(seeds).evaluate)
    values = {}
    if plan.model.sample:
        # As many as there are training images, so that every row of a table has the same number.
        images = seed_axis.sampler(plan.model)(keys[:, 0], state, len(dataset.train["image"]))["image"]
        each = [image_scores(some, extractor, judge) for some in images]
        values = {key: [scores[key] for scores in each] for key in each[0]}
    values |= model_scores(plan.model, keys[:, 1], state, dataset)
    return {
        key: [None if seed in diverged else value for seed, value in zip(seeds, some, strict=True)]
        for key, some in values.items()
    }
