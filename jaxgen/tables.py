"""Tables for the terminal."""

import math

import jax
import numpy as np
from rich.table import Column, Table
from rich.text import Text

from jaxgen import data, models
from jaxgen.comparison.statistics import t_interval
from jaxgen.model import Spec


def _folding(*names: str, title: str) -> Table:
    """A table that breaks a long word (an address) over lines; rich would cut it off."""
    return Table(*(Column(name, overflow="fold") for name in names), title=title)


def models_table() -> Table:
    """The models: paper, what they need, what they can do (asked of the models themselves)."""
    table = _folding("model", "paper", "needs", "can", title="Models")
    image, label = jax.ShapeDtypeStruct((16, 16, 1), np.uint8), jax.ShapeDtypeStruct((), np.int32)
    spec = Spec({"image": image, "label": label}, 1000, 10, np.full(10, 0.1), np.full((16, 16, 1), 0.5))
    for name, entry in models.MODELS.items():
        module = models.load(name)
        model = module.make(module.Config(), spec)
        given = f" given {', '.join(model.conditions)}" if model.conditions else ""
        likelihood = f"log-likelihood ({model.likelihood.kind})" if model.likelihood else ""
        can = [
            f"sample{given}" if model.sample else "",
            likelihood,
            *(word for word in ("encode", "decode", "classify") if getattr(model, word)),
        ]
        paper = Text.assemble(entry.title, "\n", (entry.paper, "dim"), "\n", (entry.url, "dim"))
        table.add_row(name, paper, ", ".join(model.needs), "\n".join(filter(None, can)), end_section=True)
    return table


def datasets_table() -> Table:
    """The datasets: examples, shape, classes, licence, and whether they are prepared."""
    columns = (
        Column("dataset", overflow="fold", ratio=1),
        Column("train, validation, test", justify="right", no_wrap=True),
        *(Column(name, no_wrap=True) for name in ("shape", "classes", "prepared")),
    )
    table = Table(*columns, title="Datasets", expand=True)
    how = {"made": "on first use", "prepared": "no", "folder": "--data-from"}
    for info in data.table():
        configs = f"/{', /'.join(info.configs)}" if info.configs else ""
        about = Text.assemble((info.name, "bold"), configs, "\n", info.what, "\n", (f"licence: {info.licence}", "dim"))
        examples = "\n".join(f"{count:,}" for count in info.examples) if info.examples else "varies"
        shape = "x".join("?" if side is None else str(side) for side in info.shape)
        classes = [f"{info.classes:,}"] * bool(info.classes) + ["captions"] * info.captions
        ready = "yes" if info.prepared and info.comes != "folder" else how[info.comes]
        table.add_row(about, examples, shape, "\n".join(classes) or "-", ready, end_section=True)
    table.add_row("tfds:NAME\nany other dataset of TFDS that has images", "varies", "?x?x?", "-", "no")
    return table


def scores_table(results: dict) -> Table:
    """Scores: mean and 95% t interval over the seeds, and below it every seed's value."""
    seeds = " ".join(map(str, results["seeds"]))
    table = Table(title=f"mean [95% t interval over seeds {seeds}], every seed's value below", title_justify="left")
    table.add_column("", overflow="fold")
    for metric in results["metrics"]:
        direction = {"lower": "↓", "higher": "↑", None: ""}[metric["better"]]
        table.add_column(f"{metric['title']} {direction}", justify="right")
    last = None
    for row in results["rows"]:
        if last not in (None, row["kind"]):
            table.add_section()
        last = row["kind"]
        cells = [_cell(row["values"].get(metric["key"]), metric["digits"]) for metric in results["metrics"]]
        name = row["name"] + (f"\n{len(row['diverged'])} diverged" if row.get("diverged") else "")
        table.add_row(name, *cells)
    return table


def _cell(values: list[float | None] | None, digits: int) -> Text:
    known = [value for value in values or [] if value is not None and math.isfinite(value)]
    if not known:
        return Text("-" if not values else "not finite")
    if len(values) == 1:
        return Text(f"{known[0]:.{digits}f}")
    interval = t_interval(known)
    each = " ".join("diverged" if value is None else f"{value:.{digits}f}" for value in values)
    bounds = f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]" if interval.n > 1 else ""
    return Text.assemble((f"{interval.mean:.{digits}f}", "bold"), bounds, "\n", (each, "dim"))
