"""The page of a comparison: what was compared, every seed's numbers, intervals, samples, curves.

`write_report` works the numbers and coordinates out; report.html draws them. The page ranks nothing
and tests nothing: it shows every seed's value, and the interval of each mean.
"""

import base64
import inspect
import json
import math
from pathlib import Path

import jinja2
import numpy as np

from jaxgen.comparison.statistics import t_interval
from jaxgen.errors import UserError
from jaxgen.pictures import image_grid, to_png

MAX_BYTES = 20_000_000
"""The largest page written: one that a browser on a phone still opens."""

GROUPS = {"real": "Real images", "trained": "Trained models", "untrained": "Untrained models"}
"""The kinds of rows, in the order of the table; the first and the last are set apart."""

MARKS = 6  # the colours of a seed's line; further seeds repeat them, dashed
PANEL_LEFT, PANEL_RIGHT, PANEL_TOP, PANEL_BOTTOM = 48, 276, 8, 126  # a curve's panel, in SVG units


def write_report(results: dict, pictures: dict, curves: dict, path) -> Path:
    """Writes a comparison as one HTML file that needs no other file and no network.

    The same arguments give the same bytes.

    Args:
      results: of plain Python values, as a JSON file holds them:
        name, title, description (the experiment file's docstring), command (which reproduces it),
        train_seconds, environment ({name: value}),
        dataset: {name, options: {...}, note, fingerprint, train, test (numbers of examples)},
        seeds: the training seeds,
        metrics: the table's columns, [{key, title, better: "lower" | "higher" | None, digits
          (decimal places), note (the definition, with the number of samples it rests on)}]; log-likelihoods
          have a column a space, with keys that begin with "log_prob",
        rows: [{name, kind: "real" | "trained" | "untrained", values: {metric key: list}, and of
          choice: title (the paper), steps, seconds, diverged (seeds), digests ({seed: digest}),
          notes ({metric key: what to know of this row's number, or why there is none}), sampling,
          config, note}]. The values of a trained or untrained row stand in the order of `seeds`,
          None where a seed has none; those of a real row are as many as were measured. A row without
          a number has no entry, or an empty list.
        extractor, judge: the networks that metrics rest on, {name, accuracy, digest, note}, or None.
      pictures: {"real": uint8 [n, H, W, C], row name: {seed: uint8 [n, H, W, C]}}, C 1 or 3.
      curves: {row name: {metric: {seed: (steps [k], values [k])}}}; values may be non-finite.
      path: the file; its folder is made where missing, and a file there is replaced.

    Returns:
      The path.

    Raises:
      UserError: the page would be over 20 MB.
      ValueError: a row of another kind, or whose values are not one a seed.
    """
    page = _page(results, pictures, curves)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = templates.get_template("report.html").render(page).encode()
    if len(html) > MAX_BYTES:
        raise UserError(
            f"the report would be {len(html) / 1e6:.1f} MB, more than its {MAX_BYTES / 1e6:.0f} MB: "
            "give fewer pictures a seed, or log the curves less often"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(html)
    return path


def _page(results: dict, pictures: dict, curves: dict) -> dict:
    """What the template reads."""
    seeds, metrics = results["seeds"], results["metrics"]
    for row in results["rows"]:
        _check_row(row, seeds)
    trained = [row for row in results["rows"] if row["kind"] == "trained"]
    groups = []
    for kind, title in GROUPS.items():
        rows = [row for row in results["rows"] if row["kind"] == kind]
        shown = [{**row, "cells": [_cell(row, metric, seeds) for metric in metrics]} for row in rows]
        groups.append({"kind": kind, "title": title, "rows": shown})
    plots = [_interval_plot(metric, i, groups) for i, metric in enumerate(metrics)]
    return {
        **results,
        "extractor": results.get("extractor"),
        "judge": results.get("judge"),
        "paragraphs": _paragraphs(results["description"]),
        "options": ", ".join(f"{name} {value}" for name, value in results["dataset"]["options"].items()),
        "trained": trained,
        "training": _training(trained),
        "diverged": {row["name"]: row["diverged"] for row in trained if row.get("diverged")},
        "resolution": _resolution(len(trained), len(seeds)),
        "groups": [group for group in groups if group["rows"]],
        "plots": [plot for plot in plots if plot],
        "galleries": _galleries(results, pictures),
        "curves": {
            name: [_panel(name, metric, lines, seeds) for metric, lines in panels.items()]
            for name, panels in curves.items()
        },
        "marks": {seed: _mark(i) for i, seed in enumerate(seeds)},
        "configs": {
            row["name"]: json.dumps(row["config"], indent=2, default=str) for row in trained if row.get("config")
        },
        "digests": {row["name"]: row["digests"] for row in results["rows"] if row.get("digests")},
        "join": _join,
        "duration": _duration,
    }


def _check_row(row: dict, seeds: list) -> None:
    if row["kind"] not in GROUPS:
        raise ValueError(f"row {row['name']!r} is of kind {row['kind']!r}, none of {', '.join(GROUPS)}")
    for key, values in row["values"].items():
        if row["kind"] != "real" and len(values) not in (0, len(seeds)):
            raise ValueError(f"row {row['name']!r} has {len(values)} values of {key} for {len(seeds)} seeds")


# Words


def _paragraphs(docstring: str) -> list[dict]:
    """A docstring's paragraphs; those that are indented keep their lines."""
    blocks = inspect.cleandoc(docstring).split("\n\n")
    return [{"code": block.startswith("    "), "text": inspect.cleandoc(block)} for block in blocks if block.strip()]


def _join(words) -> str:
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _training(trained: list[dict]) -> str:
    """How many steps the models were trained: "1,500 each", or a number a model."""
    steps = {row["name"]: f"{row['steps']:,}" for row in trained if row.get("steps") is not None}
    if len(steps) == len(trained) > 1 and len(set(steps.values())) == 1:
        return f"{next(iter(steps.values()))} each"
    return _join(f"{number} ({name})" for name, number in steps.items())


def _resolution(models: int, seeds: int) -> dict | None:
    """What a test of all pairs of models on one column could show with so many seeds, at the most.

    The two-sided exact permutation test of two groups of n has 2 / C(2n, n) as its smallest p; Holm's
    first step multiplies it by the number of pairs.
    """
    pairs = math.comb(models, 2)
    if not pairs:
        return None

    def smallest(n):
        return min(1.0, pairs * 2 / math.comb(2 * n, n))

    needed = next(n for n in range(1, 1000) if smallest(n) <= 0.05)
    return {"pairs": pairs, "p": f"{smallest(seeds):.2g}", "enough": seeds >= needed, "needed": needed}


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


# The table


def _finite(values) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _cell(row: dict, metric: dict, seeds: list) -> dict:
    """A row's number in a column: the mean, its interval, and every value that it rests on."""
    values, digits = row["values"].get(metric["key"], []), metric["digits"]
    finite, diverged = _finite(values), row.get("diverged") or []
    interval = t_interval(finite) if finite else None
    # a real row's values are draws of the same images, no training seeds: they have no interval
    bounded = interval is not None and interval.n > 1 and row["kind"] != "real"
    labels = seeds if row["kind"] != "real" else [None] * len(values)
    return {
        "metric": metric,
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
    }


# The plots


def _ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """At most `most` round numbers from low to high (low < high), with their labels."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor > raw)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    plain = max(abs(low), abs(high)) < 1e5 and places < 5
    return [(tick, f"{tick:.{places}f}" if plain else f"{tick:.3g}") for tick in ticks]


def _widen(low: float, high: float, share: float) -> tuple[float, float]:
    """The range with a margin of that share; a range of one number gets some width."""
    margin = share * (high - low) or max(abs(low), 1.0) * 0.05
    return low - margin, high + margin


def _interval_plot(metric: dict, column: int, groups: list[dict]) -> dict | None:
    """A line a row: a dot a seed, a bar for the interval, x in percent of the plot's width.

    The range is that of the real and trained rows: an untrained model is often so far away that all
    else would become one point. What lies outside is said in words.
    """
    rows = [(group["kind"], row["name"], row["cells"][column]) for group in groups for row in group["rows"]]
    rows = [(kind, name, cell) for kind, name, cell in rows if cell["n"]]
    if not rows:
        return None
    inside = [cell for kind, _, cell in rows if kind != "untrained"] or [cell for _, _, cell in rows]
    numbers = [value for cell in inside for value in _finite(v["value"] for v in cell["values"])]
    numbers += [bound for cell in inside for bound in cell["bounds"] or ()]
    low, high = _widen(min(numbers), max(numbers), 0.05)

    def x(value):
        return round(100 * (value - low) / (high - low), 2)

    lines = []
    for kind, name, cell in rows:
        finite = [value for value in cell["values"] if _finite([value["value"]])]
        outside = [v["value"] for v in finite if not low <= v["value"] <= high]
        bar = [min(max(x(bound), 0.0), 100.0) for bound in cell["bounds"] or ()]
        lines.append(
            {
                "kind": kind,
                "name": name,
                "cell": cell,
                "dots": [{**v, "x": x(v["value"])} for v in finite if low <= v["value"] <= high],
                # a bar wholly outside would be a point on the edge
                "bar": bar if bar and bar[0] < bar[2] else None,
                "mean_inside": bool(bar) and 0 < bar[1] < 100,
                "left": sum(value < low for value in outside),
                "right": sum(value > high for value in outside),
            }
        )
    real = [dot["x"] for line in lines if line["kind"] == "real" for dot in line["dots"]]
    ticks = [{"x": x(tick), "text": text} for tick, text in _ticks(low, high, 6)]
    return {"metric": metric, "lines": lines, "ticks": ticks, "real": real}


def _mark(i: int) -> str:
    """The classes of the i-th seed's line: colours first, then the same colours dashed."""
    return f"s{i % MARKS}" + (f" d{i // MARKS % 3}" if i >= MARKS else "")


def _panel(name: str, metric: str, lines: dict, seeds: list) -> dict:
    """A metric's curves, a line a seed, broken where it is not finite; in SVG units."""
    lines = {
        seed: (np.asarray(steps, np.float64), np.asarray(values, np.float64)) for seed, (steps, values) in lines.items()
    }
    panel = {"name": name, "metric": metric, "seeds": list(lines), "lines": [], "y_ticks": [], "x_ticks": []}
    values = np.concatenate([values for _, values in lines.values()] or [np.zeros(0)])
    finite = values[np.isfinite(values)]
    panel["non_finite"] = len(values) - len(finite)
    panel["outside"] = 0
    if not len(finite):
        return panel
    low, high = float(finite.min()), float(finite.max())
    # a few wild values (a start, a spike, a divergence) must not flatten all the others: the panel
    # reaches no further from the middle 98% than these are wide
    low_most, high_most = (float(bound) for bound in np.percentile(finite, [1, 99]))
    if (width := high_most - low_most) > 0:
        low, high = max(low, low_most - width), min(high, high_most + width)
        panel["outside"] = int(((finite < low) | (finite > high)).sum())
    low, high = _widen(low, high, 0.04)
    all_steps = np.concatenate([steps for steps, _ in lines.values()])
    first, last = float(all_steps.min()), float(all_steps.max())

    def x(step):
        return PANEL_LEFT + (PANEL_RIGHT - PANEL_LEFT) * (step - first) / ((last - first) or 1.0)

    def y(value):
        return PANEL_BOTTOM - (PANEL_BOTTOM - PANEL_TOP) * (value - low) / (high - low)

    for seed, (steps, values) in lines.items():
        steps, values = _thin(steps, values)
        breaks = np.flatnonzero(np.diff(np.isfinite(values).astype(int))) + 1
        segments = [
            # a point alone is drawn as a line to itself; far outside, SVG numbers are kept small
            " ".join(
                f"{x(step):.1f},{y(min(max(value, 2 * low - high), 2 * high - low)):.1f}"
                for step, value in (zip(s, v, strict=True) if len(v) > 1 else [(s[0], v[0])] * 2)
            )
            for s, v in zip(np.split(steps, breaks), np.split(values, breaks), strict=True)
            if len(v) and np.isfinite(v[0])
        ]
        mark = _mark(seeds.index(seed)) if seed in seeds else _mark(0)
        panel["lines"].append({"seed": seed, "mark": mark, "segments": segments})
    panel["y_ticks"] = [{"y": round(y(tick), 1), "text": text} for tick, text in _ticks(low, high, 6)]
    panel["x_ticks"] = [{"x": PANEL_LEFT, "text": f"{first:,.0f}", "anchor": "start"}]
    if last > first:
        panel["x_ticks"].append({"x": PANEL_RIGHT, "text": f"{last:,.0f}", "anchor": "end"})
    return panel


def _thin(steps: np.ndarray, values: np.ndarray, most: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points that draw as all would: the lowest and the highest of each stretch.

    A stretch's first non-finite value is kept too, so that the line still breaks there.
    """
    if len(values) <= most:
        return steps, values
    kept = set()
    for stretch in np.array_split(np.arange(len(values)), most // 3):
        finite = stretch[np.isfinite(values[stretch])]
        kept.update(stretch[~np.isfinite(values[stretch])][:1].tolist())
        if len(finite):
            kept.update((int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])))
    kept = np.array(sorted(kept))
    return steps[kept], values[kept]


# The pictures


def _galleries(results: dict, pictures: dict) -> list[dict]:
    """A group a row, in the table's order: a grid a seed, beside one of real images."""
    real = [_picture(pictures["real"], "real images")] if "real" in pictures else []
    diverged = {row["name"]: row.get("diverged") or [] for row in results["rows"]}
    order = [row["name"] for kind in GROUPS for row in results["rows"] if row["kind"] == kind]
    sampling = {row["name"]: row.get("sampling", "") for row in results["rows"]}
    galleries = []
    names = [name for name in pictures if name != "real"]
    for name in sorted(names, key=lambda name: order.index(name) if name in order else len(order)):
        grids = []
        for seed, images in pictures[name].items():
            mark = ", diverged" if seed in diverged.get(name, ()) else ""
            grids.append(_picture(images, f"{name}, seed {seed}{mark}"))
        galleries.append({"name": name, "sampling": sampling.get(name, ""), "pictures": real + grids})
    if not galleries and real:
        galleries.append({"name": "real images", "sampling": "", "pictures": real})
    return galleries


def _picture(images, label: str) -> dict:
    """A grid of up to 350 CSS pixels (a phone's width), each image at least 32 wide where it fits.

    Whole multiples only: each pixel of an image is then a square as large as all the others. Where
    it costs less than half the columns, the last row is full.
    """
    n, _, width, _ = np.shape(images)
    scale = -(-32 // width)
    most = max(1, 350 // (scale * (width + 1)))
    columns = next((number for number in range(most, most // 2, -1) if n % number == 0), most)
    grid = image_grid(images, columns)
    return {
        "label": label,
        "alt": f"{n} images: {label}",
        "data": base64.b64encode(to_png(grid)).decode(),
        "width": scale * grid.shape[1],
        "height": scale * grid.shape[0],
    }
