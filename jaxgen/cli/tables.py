"""Tables for the terminal."""

import math
import re
import textwrap
from typing import Any

import jax
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from jaxgen import data, models
from jaxgen.deformation import KINDS
from jaxgen.evaluation.table import FAMILIES, WEAK, scores_samples
from jaxgen.model import Spec
from jaxgen.statistics.intervals import mean_interval
from jaxgen.training.status import Standing

NAME_WIDTH = 11
"""Maximum width of an arm's name above its column, in characters per line."""

DATASETS_WIDTH = 80
"""Minimum terminal width of the table of datasets, in columns."""

ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
"""Marks of the direction in which a column is better."""


def _fitting(table: Table, console: Console) -> Table | Group:
    """Returns the table, or a paragraph per row if the console is too narrow for its words."""
    wide, least = console.options.update(max_width=10_000), 1
    for column in table.columns:
        cells = [console.measure(cell, options=wide) for cell in (column.header, *column.cells)]
        least += 3 + max(cell.maximum if column.no_wrap else cell.minimum for cell in cells)
    if least <= console.width:
        return table
    (_, names), *others = [(str(column.header), list(column.cells)) for column in table.columns]
    return _paragraphs(names, others)


def _paragraphs(names: list[Any], columns: list[tuple[str, list[Any]]]) -> Group:
    """Paragraphs: for each row its name on an unbroken line, and below it the cells of the other columns."""
    shown: list[Text | Padding] = []
    for row, name in enumerate(names):
        cells = [(header, cells[row]) for header, cells in columns if str(cells[row])]
        cells = [(header, cell if isinstance(cell, Text) else Text(str(cell))) for header, cell in cells]
        facts = [
            Text.assemble((f"{header} " if header else "", "dim"), Text(", ").join(c.split())) for header, c in cells
        ]
        title = Text(str(name), "bold", no_wrap=True, overflow="ignore")
        shown += [title, Padding(Text("; ").join(facts), (0, 0, 0, 4))]
    return Group(*shown)


def _table(*names: str, wraps: str, title: str) -> Table:
    """An empty table whose column `wraps` wraps."""
    return Table(*(Column(name, no_wrap=name != wraps) for name in names), title=title)


def models_table(console: Console) -> Table | Group:
    """The models: paper, needs and abilities, the latter read from the models themselves."""
    table = _table("name", "model", "needs", "can", wraps="model", title="Models")
    image, label = jax.ShapeDtypeStruct((16, 16, 1), np.uint8), jax.ShapeDtypeStruct((), np.int32)
    meshes: dict[str, tuple[int, ...]] = {"mesh": (4, 3), **dict.fromkeys(KINDS, (12,))}
    entries = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in meshes.items()}
    told = {"image": image, "label": label, "caption": jax.ShapeDtypeStruct((8,), np.int32)}
    spec = Spec(told | entries, 1000, 10, np.full((16, 16, 1), 0.5), num_words=40)
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
    return _fitting(table, console)


def datasets_table(console: Console) -> Group:
    """The datasets: for each a line of numbers, and below it the description, configs and license."""
    line = "{:<17}  {:>7}  {:>10}  {:>6}  {:<9}  {:>7}  {}".format
    headers = "dataset", "train", "validation", "test", "shape", "classes", "prepared"
    parts: list[Text | Padding] = [Text(line(*headers), "bold")]
    rows = []
    how = {"made": "on first use", "prepared": "no", "folder": "--data-from"}
    other = data.info("tfds:NAME")._replace(what="any other dataset of TFDS that has images", license="its own")
    for info in (*data.table(), other):
        examples = [f"{count:,}" for count in info.examples] if info.examples else ["varies"] * 3
        shape = "x".join("?" if side is None else str(side) for side in info.shape)
        classes = info.classes if isinstance(info.classes, tuple) else (info.classes,)
        ready = "yes" if info.comes != "folder" and info.prepared else how[info.comes]
        cells = info.name, *examples, shape, " or ".join(f"{n:,}" for n in classes if n) or "-", ready
        about = [
            info.what.rstrip("."),
            "captions" * info.captions,
            f"configs {', '.join(info.configs)}" * bool(info.configs),
        ]
        words = "; ".join(filter(None, [*about, f"license: {info.license}"]))
        row = line(*cells)
        parts += [Text.assemble((row[:17], "bold"), row[17:]), Padding(Text(words), (0, 0, 0, 4))]
        rows.append((*cells, words))
    if console.width < DATASETS_WIDTH:
        names, *columns = zip(*rows, strict=True)
        return _paragraphs(list(names), [(name, list(c)) for name, c in zip((*headers[1:], ""), columns, strict=True)])
    return Group(*parts)


def metrics_table(console: Console) -> Table | Group:
    """The families of metrics, by the names that `--metrics` takes."""
    table = _table("metric", "of", "what", "needs", "usual", wraps="what", title="Metrics")
    for of_samples in (True, False):
        for name, family in FAMILIES.items():
            if scores_samples(name) == of_samples:
                of = "samples" if of_samples else "a model"
                table.add_row(name, of, family.about, family.needs, "yes" if family.usual else "")
        table.add_section()
    return _fitting(table, console)


def compact_tables(results: dict, console: Console) -> list[Table | Text]:
    """Scores of real examples and of the trained models: a row per metric, mean ± half of the 95% interval.

    Models are side by side as far as the console is wide; lines below the tables describe the scores.
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
    seeds = (
        f"; mean ± half of the 95% interval over {len(results['seeds'])} seed{'s'[: len(results['seeds']) > 1]}"
        if results["seeds"]
        else ""
    )
    notes = [
        f"{names[row['name']]}: {row['note']}" for row in results["rows"] if row["kind"] == "real" and row.get("note")
    ]
    notes += [f"{row['name']}: {len(row['diverged'])} diverged" for row in results["rows"] if row.get("diverged")]
    notes += _left_out(results)
    notes += [f"warning: {words}" for words in results["warnings"]]
    return [*shown, Text("\n".join([counts + seeds, *notes]), "dim")]


def _left_out(results: dict) -> list[str]:
    """A line for each reason why metrics were left out."""
    metrics: dict[str, list[str]] = {}
    for name, reason in results["left_out"].items():
        metrics.setdefault(reason, []).append(name)
    return [f"left out: {', '.join(names)}: {reason}" for reason, names in metrics.items()]


def classifiers_told(results: dict) -> Text:
    """Lines above a table: the accuracy of its extractor and judge on real images, with a warning if it is low."""
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
    """The width of a table without wrapping."""
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def _compact(results: dict, rows: list[dict], names: dict[str, str]) -> Table:
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_column("\n".join(textwrap.wrap(names[row["name"]], NAME_WIDTH)), justify="right", no_wrap=True)
    for metric in results["metrics"]:
        cells = [_short_cell(row["values"].get(metric["key"]), metric) + _mark(row, metric) for row in rows]
        table.add_row(f"{metric['title']}{ARROWS[metric['better']]}", *cells)
    return table


def _mark(row: dict, metric: dict) -> str:
    """A mark on numbers that mislead; a warning below the table says why."""
    return "*" if metric["key"] in row.get("doubts", {}) else ""


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
    """Scores: mean and 95% interval over the seeds, and below it every seed's value; split to the console's width."""
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
    notes += [f"warning: {words}" for words in results["warnings"]]
    tables[-1].caption, tables[-1].caption_justify = "\n".join(notes), "left"
    return tables


def runs_table(standings: list[Standing], console: Console) -> Table | Group:
    """The states of runs: a row per run folder."""
    colors = {"running": "cyan", "done": "green", "stopped": "yellow", "diverged": "magenta", "damaged": "red"}
    table = _table("run", "state", "step", "model", "data", "seeds", "seconds", wraps="state", title="Runs")
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
    return _fitting(table, console)


def runs_lines(standings: list[Standing]) -> list[str]:
    """The states of runs for other programs: a line per run folder, its fields separated by tabs."""
    lines = []
    for each in standings:
        described = each.described or {"model": "", "settings": {}}
        settings = described["settings"]
        seeds = " ".join(map(str, settings.get("seeds", ())))
        seconds = None if each.seconds is None else round(each.seconds)
        fields = [each.path, each.state, each.step, each.steps, described["model"], settings.get("dataset"), seeds]
        cells = ["" if field is None else str(field) for field in (*fields, seconds, each.note)]
        lines.append("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in cells))
    return lines


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
        cells = [_cell(row["values"].get(metric["key"]), metric, _mark(row, metric)) for metric in metrics]
        notes = [f"{row['samples']:,} samples"] if row.get("samples") not in (None, results["samples"]) else []
        notes += [f"{len(row['diverged'])} diverged"] if row.get("diverged") else []
        table.add_row("\n".join([row["name"], *notes]), *cells)
    return table


def _cell(values: list[float | None] | None, metric: dict, mark: str) -> Text:
    digits = metric["digits"]
    known = _finite(values)
    if not known:
        return Text("-" if not values else "not finite")
    if len(values) == 1:
        return Text(f"{known[0]:.{digits}f}{mark}")
    interval = mean_interval(known, rate=metric.get("rate", False), bounds=metric.get("bounds", (None, None)))
    each = " ".join("none" if value is None else f"{value:.{digits}f}" for value in values)
    bounds = f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]" if interval.n > 1 else ""
    return Text.assemble((f"{interval.mean:.{digits}f}{mark}", "bold"), bounds, "\n", (each, "dim"))
