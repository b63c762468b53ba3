"""Runs a comparison: trains missing runs, scores all beside their baselines, and answers the declared questions."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxgen.comparison import verdicts
from jaxgen.comparison.experiment import Comparison, Experiment, load_experiment, with_settings
from jaxgen.comparison.runs import Context, Plans, best_checkpoint, changes, plans, trained, tuned
from jaxgen.drawing import to_png
from jaxgen.errors import UserError
from jaxgen.evaluation.scorer import Scorer
from jaxgen.evaluation.table import COLUMNS, FAMILY_OF, averaged
from jaxgen.provenance.credentials import Seal
from jaxgen.provenance.keys import Keys, own_keys
from jaxgen.report import contents
from jaxgen.report.page import write_report
from jaxgen.statistics import intervals
from jaxgen.training import Run, folder
from jaxgen.training.environment import environment

RESULTS, REPORT, TUNING = "results.json", "report.html", "tuning"


def compare(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    steps: int | None = None,
    seeds: tuple[int, ...] | None = None,
    sign: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains and scores every arm of an experiment on its datasets, and writes results.json and report.html.

    Existing runs are reused if their content is the same: model, config, seeds, the data's fingerprint, the jaxgen
    source files that they import, versions and kind of device. Missing runs are trained, stopped ones are resumed. If
    an existing run differs from what an arm asks for, it is renamed, and renamed back when it is needed again.

    Args:
        experiment: an experiment file, or the name of one that comes with jaxgen.
        out: the folder; runs/NAME if not given. A comparison begun there is resumed.
        steps, seeds: used instead of the experiment's own.
        sign: sign the page's pictures by the user's own key.
        progress: show progress on stderr.

    Returns:
        The content of results.json, which `write_report` describes, and the page's path as "report".

    Raises:
        UserError: a mistake in the experiment or the arguments, before anything is trained.
    """
    keys = _signing_keys() if sign else None
    loaded = load_experiment(experiment)
    chosen = with_settings(loaded.experiment, steps=steps, seeds=seeds)
    out = Path(out) if out else Path("runs") / loaded.name
    planned = plans(chosen)
    _check_folder(out, planned)
    scorers = {
        label: Scorer(next(iter(arms.values()))[0].dataset, chosen.scoring, progress) for label, arms in planned.items()
    }
    for label, scorer in scorers.items():
        scorer.requested.check([options[0] for options in planned[label].values()])
    _check_columns(chosen, scorers, planned)
    for scorer in scorers.values():
        _ = scorer.networks  # trained, or refused, before any arm

    console = Console(stderr=True, quiet=not progress, highlight=False, soft_wrap=True)
    for line in _foretold(chosen, len(planned)):
        console.print(line)
    context = Context(chosen, console.print, progress)
    tables, pictures, tuning = [], {}, []
    for label, scorer in scorers.items():
        runs = {}
        for name, options in planned[label].items():
            plan = options[0]
            if chosen.arms[name].sweep:
                place = _place(out, planned, label, TUNING) / name
                plan, tried = tuned(name, chosen.arms[name], label, options, place, context)
                tuning.append(tried)
            arm = name if len(planned) == 1 else f"{name} on {label}"
            runs[name] = trained(_place(out, planned, label, name), plan, context, arm)
        if chosen.checkpoint:
            runs = {name: best_checkpoint(run, chosen.checkpoint, context) for name, run in runs.items()}
        tables.append({"label": label, **_table(scorer, runs, chosen, out)})
        pictures[label] = contents.pictures(runs, scorer.dataset)
    results = {
        "name": loaded.name,
        "title": chosen.title,
        "description": loaded.description,
        "command": _command(experiment, out, steps, seeds, sign),
        "seeds": list(chosen.settings.seeds),
        "checkpoint": _rule(chosen.checkpoint, tables),
        "tables": tables,
        "verdicts": _answers(chosen, tables),
        "across": _across(tables) if len(tables) > 1 else None,
        "tuning": tuning,
        "environment": environment(next(iter(scorers.values())).dataset),
        "train_seconds": sum(row.get("seconds") or 0 for table in tables for row in table["rows"]),
    }
    folder.write_json(out / RESULTS, results)
    report = write_report(results, pictures, out / REPORT, keys)
    return results | {"report": str(report)}


# Before anything is trained


def _signing_keys() -> Keys:
    """The user's keys; raises UserError if they are missing or cannot sign a picture."""
    keys = own_keys()
    Seal(keys, {}).signed(to_png(np.zeros((1, 1, 1), np.uint8)))
    return keys


def _place(out: Path, planned: Plans, label: str, name: str) -> Path:
    """An arm's folder."""
    return out / name if len(planned) == 1 else out / label / name


def _check_folder(out: Path, planned: Plans) -> None:
    """Raises UserError if `out` holds something else, or a run that is already past its steps."""
    places = {_place(out, planned, label, name): planned[label][name] for label in planned for name in planned[label]}
    for path, options in places.items():
        # a sweep's winner, which will run there, is not known yet
        if path.exists() and not changes(path, options[0]) and len(options) == 1:
            folder.check_resume(path, options[0])
    kept = [out / RESULTS, out / TUNING, *(out / label / TUNING for label in planned), *places]
    if out.exists() and not any(path.exists() for path in kept) and any(out.iterdir()):
        raise UserError(f"{out} exists and holds no run of this comparison; choose another --out")


def _check_columns(chosen: Experiment, scorers: dict[str, Scorer], planned: Plans) -> None:
    """Raises UserError if a comparison, sweep or checkpoint column is one that an arm will not have."""
    asked: list[tuple[str, str, tuple[str, ...], str | None]] = [
        (f"the sweep of {name}", arm.sweep.metric, (name,), None) for name, arm in chosen.arms.items() if arm.sweep
    ]
    asked += [("checkpoint", chosen.checkpoint, tuple(chosen.arms), None)] if chosen.checkpoint else []
    asked += [
        (f"the comparison of {q.a} and {q.b}", column, (arm,), q.dataset)
        for q in chosen.comparisons
        for arm, column in _sides(q, chosen).values()
    ]
    for what, key, names, only in asked:
        for label, scorer in scorers.items():
            for name in names if only in (None, label) else ():
                plan = planned[label][name][0]
                if words := scorer.requested.lacks_column(key, plan.model):
                    raise UserError(f"{what} is by {key}, but {name} ({plan.model_name}) has none: {words}")
    for question in chosen.comparisons:
        family = FAMILY_OF[question.metric].name
        for label, scorer in scorers.items():
            if question.dataset in (None, label) and family not in scorer.requested.names:
                raise UserError(
                    f"the comparison of {question.a} and {question.b} is by {question.metric}, but the metrics "
                    f"{f'of {label} ' if len(scorers) > 1 else ''}do not name {family}"
                )


def _sides(question: Comparison, chosen: Experiment) -> dict[str, tuple[str, str]]:
    """Map from the names of a comparison's two sides to the arm and the column of their scores."""
    a, b, metric = question.a, question.b, question.metric
    return {a: (a, metric)} | ({b: (b, metric)} if b in chosen.arms else {f"{a}'s {COLUMNS[b].title}": (a, b)})


def _declared(question: Comparison, key: str, chosen: Experiment) -> verdicts.Comparison:
    """The question to test, of scores that `key` names; a column is paired with the arm's own."""
    a, b = _sides(question, chosen)
    paired = question.paired or question.b not in chosen.arms
    return verdicts.Comparison(a, b, key, COLUMNS[question.metric].better, paired)


def _foretold(chosen: Experiment, tables: int) -> list[str]:
    """A line for each comparison that the seeds are too few for."""
    asked = [_declared(question, question.metric, chosen) for question in chosen.comparisons]
    tasks = [1 if question.dataset else tables for question in chosen.comparisons]
    return verdicts.foretold(asked, len(chosen.settings.seeds), tasks)


# Results


def _table(scorer: Scorer, runs: dict[str, Run], chosen: Experiment, out: Path) -> dict[str, Any]:
    """A dataset's table."""
    with scorer:
        rows = scorer.real_rows([run.plan.model for run in runs.values()])
        for name, run in runs.items():
            trained, untrained = scorer.model_rows(name, run)
            rows += [trained | {"run": str(run.path.relative_to(out))}, untrained]
        rows.sort(key=lambda row: ("real", "trained", "untrained").index(row["kind"]))
        return scorer.results(rows, chosen.settings.seeds)


def _rule(checkpoint: str | None, tables: list[dict[str, Any]]) -> str:
    if checkpoint is None:
        return "the last checkpoint of every seed"
    titles = {metric["title"] for table in tables for metric in table["metrics"] if metric["key"] == checkpoint}
    title = ", ".join(sorted(titles)) or checkpoint
    return f"of every seed the checkpoint that is best by {title} on the validation split"


def _scores(table: dict[str, Any], arm: str, key: str) -> list[float | None]:
    """Scores of an arm's seeds, None for a diverged one. Raises UserError if the arm has no such column."""
    values = next(row["values"] for row in table["rows"] if row["kind"] == "trained" and row["name"] == arm)
    if key not in values:
        raise UserError(f"{arm} has no {key} on {table['label']}, which was asked for")
    return values[key]


def _one_training(table: dict[str, Any], arm: str) -> bool:
    """True if all seeds of an arm trained the same parameters."""
    digests = next(row["digests"] for row in table["rows"] if row["kind"] == "trained" and row["name"] == arm)
    return len(set(digests.values())) == 1 < len(digests)


def _whole(baseline: list[float | None]) -> list[float | None]:
    """A baseline's scores, of which a seed that diverged lacks its own: the mean of the others, as it did not fail."""
    known = [value for value in baseline if value is not None]
    return [sum(known) / len(known) if known and value is None else value for value in baseline]


def _answers(chosen: Experiment, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The verdict of every declared comparison."""
    asked, scores, titles = [], {}, {}
    same: dict[str, set[str]] = {}
    for question in chosen.comparisons:
        over = [table for table in tables if question.dataset in (None, table["label"])]
        key = question.metric if question.dataset is None else f"{question.metric} on {question.dataset}"
        asked.append(_declared(question, key, chosen))
        sides = _sides(question, chosen)
        same.setdefault(key, set()).update(
            name for name, (arm, _) in sides.items() if all(_one_training(table, arm) for table in over)
        )
        for name, (arm, column) in sides.items():
            each = [_scores(table, arm, column) for table in over]
            each = each if column == question.metric else [_whole(values) for values in each]
            scores.setdefault(key, {})[name] = np.array(each, np.float64).T  # [seeds, tables]; None becomes nan
        named = {m["title"] for table in over for m in table["metrics"] if m["key"] == question.metric}
        titles[key] = " and ".join(sorted(named)) + (f" on {question.dataset}" if question.dataset else "")
    if not asked:
        return []
    seeds = dict.fromkeys((name for each in scores.values() for name in each), chosen.settings.seeds)
    found = verdicts.verdicts(asked, scores, seeds, same)
    return [
        {
            "a": verdict.a,
            "b": verdict.b,
            "metric": titles[verdict.metric],
            "table": question.dataset or (tables[0]["label"] if len(tables) == 1 else None),
            "sentence": verdicts.sentence(verdict, titles[verdict.metric], COLUMNS[question.metric].digits),
            "effect": verdict.difference,
            **{name: getattr(verdict, name) for name in ("paired", "verdict", "low", "high")},
            **_test(verdict),
        }
        for question, verdict in zip(chosen.comparisons, found, strict=True)
    ]


def _test(verdict: verdicts.Verdict) -> dict[str, Any]:
    """Numbers of a verdict's test, None if there was none."""
    tested = verdict.verdict != verdicts.UNTESTED
    numbers = {"needed": verdict.seeds_needed, "p": verdict.p, "p_holm": verdict.p_holm}
    return {name: number if tested else None for name, number in numbers.items()}


def _across(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Interquartile means over seeds and datasets, of the columns with the same scale on all datasets (fractions)."""
    in_all = set.intersection(*({metric["key"] for metric in table["metrics"]} for table in tables))
    common = [key for key, column in COLUMNS.items() if averaged(column) and key in in_all]
    found = []
    for key in common:
        metric = next(metric for metric in tables[0]["metrics"] if metric["key"] == key)
        rows = []
        for arm in [row["name"] for row in tables[0]["rows"] if row["kind"] == "trained"]:
            trained = [
                row for table in tables for row in table["rows"] if (row["kind"], row["name"]) == ("trained", arm)
            ]
            each = [row["values"].get(key, [None]) for row in trained]
            if any(value is None for values in each for value in values):
                continue  # a score is missing on a dataset, or a seed diverged
            runs, tasks = (scores := np.array(each, np.float64).T).shape
            mean, low, high, _ = intervals.stratified_bootstrap_interval(scores, metric["better"])
            rows.append(
                {"name": arm, "interquartile_mean": mean, "low": low, "high": high, "n_runs": runs, "n_tasks": tasks}
            )
        found.append({"metric": metric["title"], "better": metric["better"], "rows": rows})
    return found


def _command(experiment: str | Path, out: Path, steps: int | None, seeds: tuple[int, ...] | None, sign: bool) -> str:
    """The command that makes this comparison."""
    words = ["jaxgen", "compare", str(experiment)]
    words += ["--steps", str(steps)] if steps is not None else []
    words += ["--seeds", *map(str, seeds)] if seeds is not None else []
    return shlex.join([*words, "--out", str(out), *(["--sign"] if sign else [])])
