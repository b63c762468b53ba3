"""The runs of a comparison: reuses existing runs, trains missing ones, and selects settings and checkpoints.

Selection only uses validation data. A run is reused if its content is the same: model, config, seeds, the data's
fingerprint, jaxgen's source files, versions, kind of device.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.comparison.experiment import Arm, Experiment, candidates
from jaxgen.errors import UserError
from jaxgen.evaluation.scorer import Scorer
from jaxgen.evaluation.table import COLUMNS, FAMILY_OF
from jaxgen.training import Run, folder, train
from jaxgen.training.environment import OF_A_CPU
from jaxgen.training.folder import environment_changes
from jaxgen.training.plan import Plan, make_plan

Plans = dict[str, dict[str, list[Plan]]]
"""Map from table and arm to the arm's plan, or the plans of all candidates for an arm with a sweep."""


class Context(NamedTuple):
    """Arguments shared by all runs of a comparison."""

    experiment: Experiment
    say: Callable[[str], None]
    progress: bool


def plans(experiment: Experiment) -> Plans:
    """Makes the plans of all runs. Raises UserError, naming arm and table, if an arm cannot run on a dataset."""
    made: Plans = {}
    for label, differing in (experiment.datasets or {experiment.settings.shown: {}}).items():
        settings = dataclasses.replace(experiment.settings, **differing)
        if experiment.checkpoint:  # any of them may be the best
            settings = dataclasses.replace(settings, keep_checkpoints=None)
        made[label] = {}
        for name, arm in experiment.arms.items():
            fields = candidates(arm.sweep) if arm.sweep else [{}]
            try:
                made[label][name] = [make_plan(arm.model, dict(arm.config) | each, settings) for each in fields]
            except UserError as error:
                raise UserError(f"arm {name} on {label}: {error}") from None
    return made


def changes(path: Path, plan: Plan) -> list[str]:
    """Describes how `plan` differs from the run at `path`: content, sources, versions, kind of device."""
    of_environment = (words for name, words in environment_changes(path, plan).items() if name not in OF_A_CPU)
    return folder.differences(path, plan) or list(of_environment)


def trained(path: Path, plan: Plan, context: Context, name: str) -> Run:
    """The run of a plan at `path`: reused, resumed, or trained. `name` begins every line about it.

    If the run there has other content, it is renamed to PATH.aside-N, and renamed back when it is needed again.
    """
    if path.exists() and (found := changes(path, plan)):
        number = 1
        while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
            number += 1
        path.rename(aside)
        words = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
        context.say(f"{path} is trained anew: {words}. The run that was there is now {aside}")
    if not path.exists():
        for aside in sorted(path.parent.glob(f"{path.name}.aside-*")):
            if not changes(aside, plan):
                aside.rename(path)
                context.say(f"{path} is the run that was {aside}")
                break
    return train(
        plan.model_path,
        plan.config,
        plan.settings,
        out=path,
        resume=path.exists(),
        minutes=context.experiment.minutes,
        progress=context.progress,
        name=name,
    )


def tuned(name: str, arm: Arm, label: str, options: list[Plan], place: Path, context: Context):
    """Runs an arm's sweep; returns (the plan of the best candidate, a record of the trials for `write_report`).

    Every candidate is trained for the sweep's seeds, below `place`, and scored on the validation split.

    Raises:
        UserError: every candidate has a seed that diverged.
    """
    sweep, column, family = arm.sweep, COLUMNS[arm.sweep.metric], FAMILY_OF[arm.sweep.metric]
    scoring = dataclasses.replace(context.experiment.scoring, metrics=(family.name,))
    trials = []
    with Scorer(options[0].dataset, scoring, context.progress, split="validation") as scorer:
        (title,) = (each.title for each in scorer.requested.columns({sweep.metric}))
    for i, (plan, fields) in enumerate(zip(options, candidates(sweep), strict=True)):
        steps = min(sweep.steps or plan.settings.steps, plan.settings.steps)
        settings = dataclasses.replace(plan.settings, seeds=tuple(sweep.seeds), steps=steps)
        candidate = f"{name}, candidate {i}"
        run = trained(place / f"{i:03}", make_plan(arm.model, plan.config, settings), context, candidate)
        with scorer:
            values = scorer.values(run.plan, candidate, run.state, set(run.diverged))
        seconds = folder.read_result(run.path)["seconds"]
        scores = values.get(sweep.metric, [None])
        mean = None if None in scores or not np.isfinite(scores).all() else float(np.mean(scores))
        trials.append({"config": fields, "value": mean, "seconds": seconds, "steps": run.step, "chosen": False})
    known = [trial for trial in trials if trial["value"] is not None]  # a diverged seed excludes its candidate
    if not known:
        raise UserError(f"no candidate of arm {name} on {label} has a {title}: in each a seed diverged")
    best = (min if column.better == "lower" else max)(known, key=lambda trial: trial["value"])
    best["chosen"] = True
    return options[trials.index(best)], {
        "arm": name,
        "table": label,
        "metric": title,
        "split": "validation",
        "trials": trials,
        "runs": len(trials) * len(sweep.seeds),
        "seconds": sum(trial["seconds"] for trial in trials),
    }


def best_checkpoint(run: Run, column: str, context: Context) -> Run:
    """The run with each seed at its best checkpoint, by a column on the validation split.

    Of equally good checkpoints the first is used; for a seed without a score (it diverged), the last.
    """
    scoring = dataclasses.replace(context.experiment.scoring, metrics=(FAMILY_OF[column].name,))
    sign = 1 if COLUMNS[column].better == "higher" else -1
    every = run.plan.settings.checkpoint_every  # without those saved on a signal
    steps = [step for step in folder.checkpoint_steps(run.path) if step % every == 0 or step == run.step]
    states, scores = [], []
    with Scorer(run.plan.dataset, scoring, context.progress, split="validation") as scorer:
        for step in steps:
            state = folder.restore(run.path, run.plan, step).state
            values = scorer.values(run.plan, f"{run.path.name}, step {step}", state, set(run.diverged))[column]
            states.append(jax.device_get(state))
            scores.append([-np.inf if value is None or not np.isfinite(value) else sign * value for value in values])
    rows = np.asarray(scores).argmax(axis=0)  # [seeds]
    rows[np.isneginf(scores).all(axis=0)] = len(steps) - 1
    state = folder.of_each_seed([states[row] for row in rows])
    return run._replace(state=state, chosen=tuple(steps[row] for row in rows))
