"""Scoring runs: the rows of a table, each beside its nulls (real images, the untrained model)."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from jaxgen import models
from jaxgen.comparison.extractors import extractors
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.scores import SPACES, columns, image_scores, model_scores, notes
from jaxgen.model import State
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
    rows = [real_row(dataset, extractor, judge), trained, untrained]
    results = {
        "seeds": list(opened.plan.settings.seeds),
        "metrics": [metric._asdict() for metric in columns(rows, dataset)],
        "rows": rows,
        "extractor": extractor.described(),
        "judge": judge.described(),
    }
    folder.write_json(opened.path / EVALUATION, results)
    return results


def real_row(dataset, extractor: Extractor, judge: Extractor) -> dict[str, Any]:
    """The training images scored as if a model had made them: what the test images leave to reach."""
    scores = image_scores(dataset.train["image"], dataset, extractor, judge)
    return {
        "name": "real against real",
        "kind": "real",
        "values": {key: [value] for key, value in scores.items()},
        "note": "the training images against the test images",
        "notes": dict.fromkeys([*(f"log_prob_{space}" for space in SPACES), "accuracy"], "a score of models"),
    }


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
    result = folder.read_json(run.path / folder.RESULT)
    diverged = set(run.diverged)
    trained = {
        "name": name,
        "kind": "trained",
        "values": _values(plan, run.state, extractor, judge, diverged),
        "steps": run.step,
        "seconds": result["seconds"],
        "diverged": sorted(diverged),
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
        each = [image_scores(some, dataset, extractor, judge) for some in images]
        values = {key: [scores[key] for scores in each] for key in each[0]}
    values |= model_scores(plan.model, keys[:, 1], state, dataset)
    return {
        key: [None if seed in diverged else value for seed, value in zip(seeds, some, strict=True)]
        for key, some in values.items()
    }
