"""Running a comparison: train every arm, score it beside its nulls, write the table and the page."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.comparison.experiment import load_experiment, with_settings
from jaxgen.comparison.extractors import extractors
from jaxgen.comparison.report import write_report
from jaxgen.comparison.scoring import initial, model_rows, real_rows
from jaxgen.errors import UserError
from jaxgen.evaluation.scores import columns
from jaxgen.model import State
from jaxgen.training import run as folder
from jaxgen.training import seeds as seed_axis
from jaxgen.training import train
from jaxgen.training.record import grid_condition, read_rows
from jaxgen.training.run import Plan

RESULTS, REPORT = "results.json", "report.html"
PICTURES = 60  # images a grid of the page, about


def compare(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    steps: int | None = None,
    seeds: tuple[int, ...] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains and scores every arm of an experiment, and writes results.json and report.html.

    Args:
        experiment: an experiment file, or the name of one that comes with jaxgen.
        out: the folder; runs/NAME if not given. A comparison begun there is gone on with: arms that
            are there must be the same but for their steps, and what is missing is trained.
        steps, seeds: in place of the experiment's own.
        progress: show progress bars on stderr.

    Returns:
        The results, as results.json holds them and `write_report` describes them, and the page as "report".

    Raises:
        UserError: a mistake in the experiment or the arguments, before anything is trained.
    """
    loaded = load_experiment(experiment)
    chosen = with_settings(loaded.experiment, steps=steps, seeds=seeds)
    out = Path(out) if out else Path("runs") / loaded.name
    plans = {name: folder.plan(arm.model, dict(arm.config), chosen.settings) for name, arm in chosen.arms.items()}
    for name, plan in plans.items():
        if (out / name).exists():
            folder.check_resume(out / name, plan)
    if out.exists() and not any((out / name).exists() for name in plans) and any(out.iterdir()):
        raise UserError(f"{out} exists and holds no run of this comparison; choose another --out")

    dataset = next(iter(plans.values())).dataset
    extractor, judge = extractors(dataset, progress)
    rows = real_rows([plan.model for plan in plans.values()], dataset, extractor, judge)
    pictures: dict[str, Any] = {"real": dataset.train["image"][:PICTURES]}
    curves = {}
    for name, arm in chosen.arms.items():
        resume = (out / name).exists()
        run = train(arm.model, dict(arm.config), chosen.settings, out=out / name, resume=resume, progress=progress)
        trained, untrained = model_rows(name, run, extractor, judge)
        for row, state in ((trained, run.state), (untrained, initial(run.plan))):
            rows.append(row)
            if run.plan.model.sample:
                pictures[row["name"]] = _pictures(run.plan, state)
        curves[name] = _curves(run.path)
    rows.sort(key=lambda row: ("real", "trained", "untrained").index(row["kind"]))
    results = {
        "name": loaded.name,
        "title": chosen.title,
        "description": loaded.description,
        "command": _command(experiment, out, steps, seeds),
        "dataset": {
            "name": dataset.name,
            "options": dataset.options,
            "note": dataset.note,
            "fingerprint": dataset.fingerprint,
            "train": len(dataset.train["image"]),
            "test": len(dataset.test["image"]),
        },
        "seeds": list(chosen.settings.seeds),
        "metrics": [metric._asdict() for metric in columns(rows, dataset)],
        "rows": rows,
        "extractor": extractor.described(),
        "judge": judge.described(),
        "environment": folder.environment(dataset),
        "train_seconds": sum(row.get("seconds") or 0 for row in rows),
    }
    folder.write_json(out / RESULTS, results)
    report = write_report(results, pictures, curves, out / REPORT)
    return results | {"report": str(report)}


def _pictures(plan: Plan, state: State) -> dict[int, np.ndarray]:
    """Samples of every seed for the page, a row a class where the model can be asked for one."""
    num, _, condition = grid_condition(plan.model, plan.dataset.spec, PICTURES)
    keys = seed_axis.all_streams(plan.settings.seeds).sample
    images = seed_axis.sampler(plan.model)(keys, state, num, condition)["image"]
    return dict(zip(plan.settings.seeds, images, strict=True))


def _curves(path: Path) -> dict[str, dict[int, tuple[list, list]]]:
    """{metric: {seed: (steps, values)}} of a run's rows."""
    curves: dict[str, dict[int, tuple[list, list]]] = {}
    for row in read_rows(path / folder.METRICS):
        for name, value in row.items():
            if name not in ("step", "seed", "phase"):
                steps, values = curves.setdefault(name, {}).setdefault(row["seed"], ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def _command(experiment: str | Path, out: Path, steps: int | None, seeds: tuple[int, ...] | None) -> str:
    """The command that makes this comparison."""
    words = ["jaxgen", "compare", str(experiment)]
    words += ["--steps", str(steps)] if steps is not None else []
    words += ["--seeds", *map(str, seeds)] if seeds is not None else []
    return shlex.join([*words, "--out", str(out)])
