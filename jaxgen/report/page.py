"""The page of a comparison: its verdicts, every seed's numbers, intervals, samples, curves.

`write_report` prepares the numbers, words and pictures; page.html lays them out, with page.css and page.js
inlined. The page runs no tests itself: it shows the verdicts of the comparisons that were declared
beforehand, every seed's value, and the interval of each mean.
"""

import functools
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path

import markupsafe

from jaxgen.errors import UserError
from jaxgen.provenance.keys import Keys
from jaxgen.report import galleries, sealing
from jaxgen.report.plots import curve_panel, finite_values, interval_plot, seed_mark
from jaxgen.report.templates import sha256, templates
from jaxgen.statistics.intervals import mean_interval

MAX_BYTES = 20_000_000
"""Maximum size of a page: a browser on a phone can still open it."""

GROUPS = {"real": "Real data", "trained": "Trained models", "untrained": "Untrained models"}
"""Map from kind of row to its title, in the order of the table; the first and the last are set apart."""

VERDICTS = {
    "better": ("a difference", "there is a difference"),
    "worse": ("a difference", "there is a difference"),
    "different distributions": ("other distributions", "the distributions differ"),
    "no difference can be told": ("no difference told", "no difference can be told"),
    "not enough seeds to tell": ("too few seeds", "there are not enough seeds to tell"),
    "not tested": ("not tested", "there is no test, as seeds trained the same parameters"),
}
"""Map from verdict to its words: beside its sentence, and in the summary of all."""

FOLDER = Path(__file__).parent


def write_report(results: dict, pictures: dict, path, keys: Keys | None = None) -> Path:
    """Writes a comparison as one HTML file that needs no other file and no network.

    The same arguments without keys give the same bytes. If the page would be over 20 MB, it shows fewer of the saved
    steps, evenly chosen, always with the first and the last; if these two are too many, pictures are compressed with
    loss. The page says so.

    Args:
      results: plain Python values, as a JSON file holds them:
        name, title, description (the experiment file's docstring), command (which reproduces it),
        train_seconds, environment ({name: value}), seeds (the training seeds),
        checkpoint: description of the checkpoint scored for each seed,
        tables: one per dataset, {
          label, dataset: {name, options: {...}, note, fingerprint, train, test (numbers of examples)},
          samples: number per seed, scoring: {option: value},
          metrics: the columns, [{key, title, better: "lower" | "higher" | None, digits (decimal places), note (the
            definition)}]; log-likelihoods have a column per space, with keys that begin with "log_prob",
          rows: [{name, kind: "real" | "trained" | "untrained", values: {metric key: list}, and optionally: title
            (the paper), model, steps, seconds, diverged (seeds), digests ({seed: digest}), notes ({metric key:
            note on this row's number, or the reason why there is none}), sampling, config, given (the fields
            of config that are not its defaults), note, samples, run (its folder), doubts ({metric key: why
            this row's number misleads})}]. The values of a trained
            or untrained row are in the order of `seeds`, None if a seed has none; a real row has as many
            values as were measured. A row without a number has no entry, or an empty list.
          extractor, judge: the networks used by metrics, {name, accuracy (or None), digest, note}, or None;
            and optionally warnings: sentences},
        verdicts: of the declared comparisons, in order, [{a, b, metric (title), table (label, or None if it
          is over all tables), paired, verdict (a key of VERDICTS, of a), sentence, p, p_holm, effect, low,
          high, needed (seeds)}],
        across: None, or over all tables [{metric (title), better, rows: [{name, interquartile_mean, low, high,
          n_runs, n_tasks}]}],
        tuning: [{arm, table, metric (title), trials: [{config, value, seconds, steps, chosen}], seconds, runs, split}].
      pictures: {table label: {"real": uint8 [n, H, W, C], "curves": {row name: {metric: {seed: (steps [k], values
        [k])}}}, "rows": {row name: {"progress": {seed: {step: a PNG grid's Path}}, "columns": of the grids, "classes":
        the names of their rows or None, "interpolation": {seed: uint8 [rows, steps, H, W, C]} or None, "path_labels":
        of those rows or None, "nearest": {seed: (samples uint8 [k, H, W, C], their nearest training images)} or
        None, "captioned": {seed: a picture uint8 [H, W, C]} or None}}}}, C 1 or 3. All may be empty. A curve's values
        may be non-finite.
      path: the file; its folder is created if missing, and an existing file is replaced.
      keys: the signer's, by which every picture is signed; no picture is signed if not given.

    Returns:
      The path.

    Raises:
      UserError: the page would still be over 20 MB, or a picture cannot be signed.
      ValueError: a row is of another kind, or does not have one value per seed.
    """
    sign = sealing.signer(keys, results) if keys else None
    html = _fitting(_page(results, pictures), pictures, sign)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(html)
    return path


def _fitting(page: dict, pictures: dict, sign: Callable[..., bytes] | None) -> bytes:
    """Renders the page with as many of the saved steps as fit into `MAX_BYTES`."""
    template = templates(FOLDER, html=True).get_template("page.html")
    saved = {label: galleries.saved_steps(of_table) for label, of_table in pictures.items()}
    for lossless in (True, False):
        encode = functools.cache(functools.partial(galleries.source, lossless=lossless, sign=sign))
        most = max([2, *map(len, saved.values())])
        while True:
            for table in page["tables"]:
                steps = galleries.thinned(saved.get(table["label"], []), most)
                of_table = pictures.get(table["label"], {})
                table["saved"], table["steps"] = len(saved.get(table["label"], [])), steps
                of_this = functools.partial(encode, table=table["label"])
                table["galleries"] = galleries.galleries(of_table, table["diverged"], set(steps), of_this)
            html = template.render(page, lossless=lossless, signed=sign is not None).encode()
            if len(html) <= MAX_BYTES:
                return html
            if most == 2:
                break
            # never fewer than fit, since part of the page's size does not depend on the steps
            most = max(2, min(most - 1, int(most * MAX_BYTES / len(html))))
    raise UserError(
        f"the report would be {len(html) / 1e6:.1f} MB, more than its {MAX_BYTES / 1e6:.0f} MB, with two steps a seed: "
        f"compare fewer arms or seeds, or log the curves less often{', or leave --sign out' if sign else ''}"
    )


def _page(results: dict, pictures: dict) -> dict:
    """Variables of the template, except the pictures."""
    seeds = results["seeds"]
    tables = [_table(table, pictures.get(table["label"], {}), seeds) for table in results["tables"]]
    arms = {row["name"]: row for table in reversed(tables) for row in table["trained"]}
    style, script = (markupsafe.Markup((FOLDER / name).read_text()) for name in ("page.css", "page.js"))
    return {
        **results,
        "tables": tables,
        "arms": arms,
        "paragraphs": _paragraphs(results["description"]),
        "summary": _summary(results["verdicts"]),
        "tags": {verdict: tag for verdict, (tag, _) in VERDICTS.items()},
        "across": _across(results["across"] or []),
        "marks": {seed: seed_mark(i) for i, seed in enumerate(seeds)},
        "style": style,
        "script": script,
        "hashes": {"style": sha256(style), "script": sha256(script)},
        "join": _join,
        "duration": _duration,
        "plain": _plain,
        "significant": _significant,
    }


def _table(table: dict, pictures: dict, seeds: list) -> dict:
    """Returns a table with its rows in groups, its cells and its plots."""
    for row in table["rows"]:
        _check_row(row, seeds)
    trained = [row for row in table["rows"] if row["kind"] == "trained"]
    groups = []
    for kind, title in GROUPS.items():
        rows = [row for row in table["rows"] if row["kind"] == kind]
        shown = [{**row, "cells": [score_cell(row, metric, seeds) for metric in table["metrics"]]} for row in rows]
        groups.append({"kind": kind, "title": title, "rows": shown})
    plots = [interval_plot(metric, i, groups) for i, metric in enumerate(table["metrics"])]
    return {
        **table,
        "trained": trained,
        "diverged": {row["name"]: row["diverged"] for row in trained if row.get("diverged")},
        "groups": [group for group in groups if group["rows"]],
        "plots": [plot for plot in plots if plot],
        "curves": {
            name: [curve_panel(name, metric, lines, seeds) for metric, lines in panels.items()]
            for name, panels in pictures.get("curves", {}).items()
        },
        "configs": {
            row["name"]: json.dumps(row["config"], indent=2, default=str) for row in trained if row.get("config")
        },
    }


def _check_row(row: dict, seeds: list) -> None:
    if row["kind"] not in GROUPS:
        raise ValueError(f"row {row['name']!r} is of kind {row['kind']!r}, none of {', '.join(GROUPS)}")
    for key, values in row["values"].items():
        if row["kind"] != "real" and len(values) not in (0, len(seeds)):
            raise ValueError(f"row {row['name']!r} has {len(values)} values of {key} for {len(seeds)} seeds")


def score_cell(row: dict, metric: dict, seeds: list) -> dict:
    """Cell of a row and a column: the mean, its interval, and all its values."""
    values, digits = row["values"].get(metric["key"], []), metric["digits"]
    finite, diverged = finite_values(values), row.get("diverged") or []
    rate, bounds = metric.get("rate", False), tuple(metric.get("bounds") or (None, None))
    interval = mean_interval(finite, rate=rate, bounds=bounds) if finite else None
    # a real row's values are draws of the same images, not training seeds, so they have no interval
    bounded = interval is not None and interval.n > 1 and row["kind"] != "real"
    labels = seeds if row["kind"] != "real" else [None] * len(values)
    return {
        "order": interval.mean if interval else None,
        "mean": _number(interval.mean, digits) if interval else "—",
        "interval": f"[{_number(interval.low, digits)}, {_number(interval.high, digits)}]" if bounded else "",
        "bounds": (interval.low, interval.mean, interval.high) if bounded else None,
        "missing": not values,
        "left_out": len(values) - len(finite),
        "n": len(finite),
        "values": [
            {"seed": seed, "value": value, "text": _number(value, digits), "diverged": seed in diverged}
            for seed, value in zip(labels, values, strict=False)
        ],
        "note": row.get("notes", {}).get(metric["key"], ""),
        "doubt": row.get("doubts", {}).get(metric["key"], ""),
    }


def _across(aggregates: list[dict]) -> dict:
    """Table of the scores over all tables: interquartile means."""
    names = list(dict.fromkeys(row["name"] for aggregate in aggregates for row in aggregate["rows"]))
    by_name = [{row["name"]: row for row in aggregate["rows"]} for aggregate in aggregates]
    rows = [{"name": name, "cells": [_across_cell(of.get(name)) for of in by_name]} for name in names]
    groups = [{"kind": "trained", "title": GROUPS["trained"], "rows": rows}]
    metrics = [{"title": aggregate["metric"], "better": aggregate["better"], "note": ""} for aggregate in aggregates]
    plots = [interval_plot(metric, i, groups) for i, metric in enumerate(metrics)]
    return {"metrics": metrics, "groups": groups, "plots": [plot for plot in plots if plot]}


def _across_cell(row: dict | None) -> dict:
    low, mean, high = (row[key] if row else None for key in ("low", "interquartile_mean", "high"))
    bounded = len(finite_values((low, mean, high))) == 3
    return {
        "order": mean,
        "mean": _significant(mean),
        "interval": f"[{_significant(low)}, {_significant(high)}]" if low is not None else "",
        "bounds": (low, mean, high) if bounded else None,
        "missing": row is None,
        "left_out": 0,
        "n": row["n_runs"] * row["n_tasks"] if bounded else 0,
        "values": [],
        "note": f"{row['n_runs']} seeds, {row['n_tasks']} datasets" if row else "",
        "doubt": "",
    }


# Words


def _paragraphs(docstring: str) -> list[dict]:
    """Paragraphs of a docstring; those that are indented keep their lines."""
    blocks = inspect.cleandoc(docstring).split("\n\n")
    return [{"code": block.startswith("    "), "text": inspect.cleandoc(block)} for block in blocks if block.strip()]


def _summary(verdicts: list[dict]) -> str:
    """Sentence with the number of each verdict."""
    counts: dict[str, int] = {}
    for verdict in verdicts:
        words = VERDICTS[verdict["verdict"]][1]
        counts[words] = counts.get(words, 0) + 1
    if len(verdicts) == 1:
        return f"One comparison was declared beforehand: {next(iter(counts))}."
    ordered = [words for words in dict.fromkeys(words for _, words in VERDICTS.values()) if words in counts]
    if len(ordered) == 1:
        return f"In all {len(verdicts)} comparisons declared beforehand {ordered[0]}."
    each = "; ".join(f"{words} in {counts[words]}" for words in ordered)
    return f"{len(verdicts)} comparisons were declared beforehand: {each}."


def _join(words) -> str:
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "—"
    if not math.isfinite(value):
        return f"{value:+}" if math.isinf(value) else "nan"
    # adding 0 turns the -0.0 of a rounded negative number into 0.0
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _significant(value: float | None, digits: int = 4) -> str:
    """Formats a number for which no metric defines the decimal places."""
    if value is None:
        return "—"
    return f"{value:,.0f}" if 10**digits <= abs(value) < math.inf else f"{value:#.{digits}g}"


def _plain(value) -> str:
    """Formats a setting's value, or several by their names, as words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(of)}" for name, of in value.items()) or "—"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "—"
    return "—" if value is None or value == "" else str(value)
