"""Tables for the terminal."""

import math
import textwrap

import jax
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from jaxgen import data, models
from jaxgen.evaluation.table import FAMILIES, WEAK, scores_samples
from jaxgen.model import Spec
from jaxgen.statistics.intervals import mean_interval
from jaxgen.training.status import Standing

NAME_WIDTH = 11
"""Characters of a line of an arm's name above its column."""

ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
"""Which way a column is better."""


def _folding(*names: str, title: str) -> Table:
    """A table that breaks a long word (an address) over lines; rich would cut it off."""
    return Table(*(Column(name, overflow="fold") for name in names), title=title)


def models_table() -> Table:
    """The models: paper, what they need, what they can do (asked of the models themselves)."""
    table = _folding("model", "paper", "needs", "can", title="Models")
    image, label = jax.ShapeDtypeStruct((16, 16, 1), np.uint8), jax.ShapeDtypeStruct((), np.int32)
    spec = Spec({"image": image, "label": label}, 1000, 10, np.full((16, 16, 1), 0.5))
    for name, entry in models.MODELS.items():
        module = models.load(name)
        model = module.make(module.Config(), spec)
        given = f" given {', '.join(model.conditions)}" if model.conditions else ""
        likelihood = f"log-likelihood ({model.likelihood.kind})" if model.likelihood else ""
        can = [
            f"sample{given}" if model.sampler else "",
            likelihood,
            "encode" if model.latents and model.latents.encode else "",
            "decode" if model.latents else "",
            *(f"predict {name}" for name in model.predict),
        ]
        paper = Text.assemble(entry.title, "\n", (entry.paper, "dim"), "\n", (entry.url, "dim"))
        table.add_row(name, paper, ", ".join(model.needs), "\n".join(filter(None, can)), end_section=True)
    return table


def datasets_table() -> Group:
    """The datasets: a line of numbers, and below it what it is, its configs and its license."""
    line = "{:<17}  {:>7}  {:>10}  {:>6}  {:<9}  {:>7}  {}".format
    parts: list[Text | Padding] = [
        Text(line("dataset", "train", "validation", "test", "shape", "classes", "prepared"), "bold")
    ]
    how = {"made": "on first use", "prepared": "no", "folder": "--data-from"}
    other = data.info("tfds:NAME")._replace(what="any other dataset of TFDS that has images", license="its own")
    for info in (*data.table(), other):
        examples = [f"{count:,}" for count in info.examples] if info.examples else ["varies"] * 3
        shape = "x".join("?" if side is None else str(side) for side in info.shape)
        classes = info.classes if isinstance(info.classes, tuple) else (info.classes,)
        ready = "yes" if info.comes != "folder" and info.prepared else how[info.comes]
        row = line(info.name, *examples, shape, " or ".join(f"{n:,}" for n in classes if n) or "-", ready)
        about = [
            info.what.rstrip("."),
            "captions" * info.captions,
            f"configs {', '.join(info.configs)}" * bool(info.configs),
        ]
        words = Text("; ".join(filter(None, [*about, f"license: {info.license}"])))
        parts += [Text.assemble((row[:17], "bold"), row[17:]), Padding(words, (0, 0, 0, 4))]
    return Group(*parts)


def metrics_table() -> Table:
    """The families of metrics, by the names that `--metrics` takes."""
    table = Table(Column("metric", no_wrap=True), Column("of", no_wrap=True), "what", "needs", "usual", title="Metrics")
    for of_samples in (True, False):
        for name, family in FAMILIES.items():
            if scores_samples(name) == of_samples:
                of = "samples" if of_samples else "a model"
                table.add_row(name, of, family.about, family.needs, "yes" if family.usual else "")
        table.add_section()
    return table


def compact_tables(results: dict, console: Console) -> list[Table | Text]:
    """Scores of real examples and of the trained models: a row a metric, mean ± half of the 95% interval.

    As many models stand side by side as the console is wide; the lines below say of what the scores are.
    """
    rows = [row for row in results["rows"] if row["kind"] != "untrained"]
    names = {row["name"]: "real" if row["name"] == "real against real" else row["name"] for row in rows}
    shown: list[Table | Text] = []
    while rows:
        count = len(rows)
        while count > 1 and _width(_compact(results, rows[:count], names), console) > console.width:
            count -= 1
        shown.append(_compact(results, rows[:count], names))
        del rows[:count]
    counts = f"{results['samples']:,} samples and {results['dataset']['test']:,} test examples"
    seeds = f"; mean ± half of the 95% interval over {len(results['seeds'])} seeds" if results["seeds"] else ""
    notes = [
        f"{names[row['name']]}: {row['note']}" for row in results["rows"] if row["kind"] == "real" and row.get("note")
    ]
    notes += [f"{row['name']}: {len(row['diverged'])} diverged" for row in results["rows"] if row.get("diverged")]
    notes += _left_out(results)
    return [*shown, Text("\n".join([counts + seeds, *notes]), "dim")]


def _left_out(results: dict) -> list[str]:
    """A line for each reason why metrics were left out."""
    metrics: dict[str, list[str]] = {}
    for name, reason in results["left_out"].items():
        metrics.setdefault(reason, []).append(name)
    return [f"left out: {', '.join(names)}: {reason}" for reason, names in metrics.items()]


def classifiers_told(results: dict) -> Text:
    """How often the networks that scores depend on are right on real images: the line above a table, if any."""
    told = Text()
    for role in ("extractor", "judge"):
        network = results[role]
        if not network or network["accuracy"] is None:
            continue
        told.append(f"{role}: {network['name']}, {network['accuracy']:.1%} of real test images right\n", "dim")
        if network["accuracy"] < WEAK:
            whose = "distances and neighbors by its features say" if role == "extractor" else "what it recognizes says"
            told.append(f"warning: a classifier right on fewer than {WEAK:.0%} is weak: {whose} little\n", "yellow")
    return told


def _width(table: Table, console: Console) -> int:
    """The width that a table takes where it has room."""
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def _compact(results: dict, rows: list[dict], names: dict[str, str]) -> Table:
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_column("\n".join(textwrap.wrap(names[row["name"]], NAME_WIDTH)), justify="right", no_wrap=True)
    for metric in results["metrics"]:
        cells = [_short_cell(row["values"].get(metric["key"]), metric) for row in rows]
        table.add_row(f"{metric['title']}{ARROWS[metric['better']]}", *cells)
    return table


def _short_cell(values: list[float | None] | None, metric: dict) -> str:
    known = _finite(values)
    if not known:
        return "-" if not values else "not finite"
    digits = metric["digits"]
    interval = mean_interval(known, rate=metric.get("rate", False))
    if interval.n == 1:
        return f"{interval.mean:.{digits}f}"
    if metric.get("rate"):
        return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{interval.mean:.{digits}f} ± {(interval.high - interval.low) / 2:.{digits}f}"


def _finite(values: list[float | None] | None) -> list[float]:
    return [value for value in values or [] if value is not None and math.isfinite(value)]


def scores_tables(results: dict, console: Console) -> list[Table]:
    """Scores: mean and 95% interval over the seeds, and below it every seed's value; as wide as the console."""
    metrics, tables = list(results["metrics"]), []
    while metrics:
        count = len(metrics)
        while count > 1 and _width(_scores(results, metrics[:count]), console) > console.width:
            count -= 1
        tables.append(_scores(results, metrics[:count]))
        del metrics[:count]
    title = f"{results['samples']:,} samples and {results['dataset']['test']:,} test examples"
    if results["seeds"]:
        seeds = " ".join(map(str, results["seeds"]))
        title += f"; mean [95% interval over seeds {seeds}], every seed's value below"
    tables[0].title, tables[0].title_justify = title, "left"
    notes = [f"{row['name']}: {row['note']}" for row in results["rows"] if row["kind"] == "real" and row.get("note")]
    notes += _left_out(results)
    tables[-1].caption, tables[-1].caption_justify = "\n".join(notes), "left"
    return tables


def runs_table(standings: list[Standing]) -> Table:
    """A row a run folder, as it stands."""
    colors = {"running": "cyan", "done": "green", "stopped": "yellow", "diverged": "magenta", "damaged": "red"}
    table = _folding("run", "state", "step", "model", "data", "seeds", "seconds", title="Runs")
    for each in standings:
        settings = each.described["settings"] if each.described else {}
        words = Text(each.state, colors[each.state])
        if each.note:
            words.append(f"\n{each.note}", "dim")
        step = f"{each.step:,} of {each.steps:,}" if each.step is not None and each.steps else ""
        model = each.described["model"] if each.described else ""
        seconds = f"{each.seconds:,.0f}" if each.seconds is not None else ""
        seeds = " ".join(map(str, settings.get("seeds", ())))
        table.add_row(Text(str(each.path)), words, step, model, str(settings.get("dataset", "")), seeds, seconds)
    return table


def _scores(results: dict, metrics: list[dict]) -> Table:
    table = Table()
    table.add_column("", overflow="fold")
    for metric in metrics:
        table.add_column(f"{metric['title']}{ARROWS[metric['better']]}", justify="right")
    last = None
    for row in results["rows"]:
        if last not in (None, row["kind"]):
            table.add_section()
        last = row["kind"]
        cells = [_cell(row["values"].get(metric["key"]), metric) for metric in metrics]
        notes = [f"{row['samples']:,} samples"] if row.get("samples") not in (None, results["samples"]) else []
        notes += [f"{len(row['diverged'])} diverged"] if row.get("diverged") else []
        table.add_row("\n".join([row["name"], *notes]), *cells)
    return table


def _cell(values: list[float | None] | None, metric: dict) -> Text:
    digits = metric["digits"]
    known = _finite(values)
    if not known:
        return Text("-" if not values else "not finite")
    if len(values) == 1:
        return Text(f"{known[0]:.{digits}f}")
    interval = mean_interval(known, rate=metric.get("rate", False), bounds=metric.get("bounds", (None, None)))
    each = " ".join("none" if value is None else f"{value:.{digits}f}" for value in values)
    bounds = f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]" if interval.n > 1 else ""
    return Text.assemble((f"{interval.mean:.{digits}f}", "bold"), bounds, "\n", (each, "dim"))
