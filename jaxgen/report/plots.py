"""The plots of a comparison's page: intervals and training curves, as coordinates for SVG."""

import math
from typing import Any

import numpy as np

MARKS = 6  # number of colors of seeds' lines; further seeds repeat them, dashed
PANEL_LEFT, PANEL_RIGHT, PANEL_TOP, PANEL_BOTTOM = 48, 276, 8, 126  # a curve's panel, in SVG units


def finite_values(values) -> list[float]:
    """Returns the values that are neither None nor non-finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def round_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Returns at most `most` round numbers from low to high (low < high), with their labels."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor > raw)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    plain = max(abs(low), abs(high)) < 1e5 and places < 5
    return [(tick, f"{tick:.{places}f}" if plain else f"{tick:.3g}") for tick in ticks]


def _widen(low: float, high: float, share: float) -> tuple[float, float]:
    """Adds a margin of that share to a range; a range of one number gets some width."""
    margin = share * (high - low) or max(abs(low), 1.0) * 0.05
    return low - margin, high + margin


def interval_plot(metric: dict, column: int, groups: list[dict]) -> dict | None:
    """Plot with a line per row: a dot per seed, a bar for the interval, x in percent of the plot's width.

    The range is that of the real and trained rows: an untrained model is often so far away that everything
    else would shrink to one point. Values outside are counted in "left" and "right".
    """
    rows = [(group["kind"], row["name"], row["cells"][column]) for group in groups for row in group["rows"]]
    rows = [(kind, name, cell) for kind, name, cell in rows if cell["n"]]
    if not rows:
        return None
    inside = [cell for kind, _, cell in rows if kind != "untrained"] or [cell for _, _, cell in rows]
    numbers = [value for cell in inside for value in finite_values(v["value"] for v in cell["values"])]
    numbers += [bound for cell in inside for bound in cell["bounds"] or ()]
    low, high = _widen(min(numbers), max(numbers), 0.05)

    def x(value):
        return round(100 * (value - low) / (high - low), 2)

    lines = []
    for kind, name, cell in rows:
        finite = [value for value in cell["values"] if finite_values([value["value"]])]
        outside = [v["value"] for v in finite if not low <= v["value"] <= high]
        bar = [min(max(x(bound), 0.0), 100.0) for bound in cell["bounds"] or ()]
        lines.append(
            {
                "kind": kind,
                "name": name,
                "cell": cell,
                "dots": [{**v, "x": x(v["value"])} for v in finite if low <= v["value"] <= high],
                # a bar entirely outside would be a point on the edge
                "bar": bar if bar and bar[0] < bar[2] else None,
                "mean_inside": bool(bar) and 0 < bar[1] < 100,
                "left": sum(value < low for value in outside),
                "right": sum(value > high for value in outside),
            }
        )
    real = [dot["x"] for line in lines if line["kind"] == "real" for dot in line["dots"]]
    ticks = [{"x": x(tick), "text": text} for tick, text in round_ticks(low, high, 6)]
    return {"metric": metric, "lines": lines, "ticks": ticks, "real": real}


def seed_mark(i: int) -> str:
    """CSS classes of the i-th seed's line: colors first, then the same colors dashed."""
    return f"s{i % MARKS}" + (f" d{i // MARKS % 3}" if i >= MARKS else "")


def curve_panel(name: str, metric: str, lines: dict, seeds: list) -> dict:
    """Panel of a metric's curves in SVG units: a line per seed, broken where it is not finite."""
    lines = {
        seed: (np.asarray(steps, np.float64), np.asarray(values, np.float64)) for seed, (steps, values) in lines.items()
    }
    panel: dict[str, Any] = {"name": name, "metric": metric, "seeds": list(lines)}
    panel |= {"lines": [], "y_ticks": [], "x_ticks": []}
    values = np.concatenate([values for _, values in lines.values()] or [np.zeros(0)])
    finite = values[np.isfinite(values)]
    panel["non_finite"] = len(values) - len(finite)
    panel["outside"] = 0
    if not len(finite):
        return panel
    low, high = float(finite.min()), float(finite.max())
    # a few extreme values (a start, a spike, a divergence) must not flatten the rest: the panel extends
    # beyond the middle 98% by at most their width
    low_most, high_most = (float(bound) for bound in np.percentile(finite, [1, 99]))
    if (width := high_most - low_most) > 0:
        low, high = max(low, low_most - width), min(high, high_most + width)
        panel["outside"] = int(((finite < low) | (finite > high)).sum())
    low, high = _widen(low, high, 0.04)
    all_steps = np.concatenate([steps for steps, _ in lines.values()])
    first, last = float(all_steps.min()), float(all_steps.max())

    def x(step):
        share = (step - first) / (last - first) if last > first else 0.5
        return PANEL_LEFT + (PANEL_RIGHT - PANEL_LEFT) * share

    def y(value):
        return PANEL_BOTTOM - (PANEL_BOTTOM - PANEL_TOP) * (value - low) / (high - low)

    for seed, (steps, values) in lines.items():
        steps, values = _thin(steps, values)
        breaks = np.flatnonzero(np.diff(np.isfinite(values).astype(int))) + 1
        segments = [
            # a single point is drawn as a thick line to itself; values far outside are clipped, as SVG needs
            {
                "alone": len(v) == 1,
                "points": " ".join(
                    f"{x(step):.1f},{y(min(max(value, 2 * low - high), 2 * high - low)):.1f}"
                    for step, value in (zip(s, v, strict=True) if len(v) > 1 else [(s[0], v[0])] * 2)
                ),
            }
            for s, v in zip(np.split(steps, breaks), np.split(values, breaks), strict=True)
            if len(v) and np.isfinite(v[0])
        ]
        mark = seed_mark(seeds.index(seed)) if seed in seeds else seed_mark(0)
        panel["lines"].append({"seed": seed, "mark": mark, "segments": segments})
    panel["y_ticks"] = [{"y": round(y(tick), 1), "text": text} for tick, text in round_ticks(low, high, 6)]
    panel["x_ticks"] = [{"x": x(first), "text": f"{first:,.0f}", "anchor": "start" if last > first else "middle"}]
    if last > first:
        panel["x_ticks"].append({"x": PANEL_RIGHT, "text": f"{last:,.0f}", "anchor": "end"})
    return panel


def _thin(steps: np.ndarray, values: np.ndarray, most: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Thins a curve to at most `most` points that look the same: the lowest and the highest of each stretch.

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
