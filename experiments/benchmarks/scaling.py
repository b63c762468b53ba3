"""Speed of jaxgen's training steps against PyTorch's, by batch, image size and width.

    python -m experiments.benchmarks.scaling --out scaling.json --figure scaling.png

jaxgen's steps run in the chunk program of the training loop; PyTorch's are eager, in the faster of its two memory
formats. Each model has base sizes, of which one at a time is changed: batch, image size or features. The figure needs
matplotlib, which comes with `pip install ".[notebook]"`.
"""

import gc
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxgen.errors import UserError, check_positive
from jaxgen.files import check_writable

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST = 1.5
"""Approximate minimum seconds of a timed call: there are many rows."""

VARIED = ("batch", "image_size", "features")


class Sizes(NamedTuple):
    """Sizes of a row."""

    batch: int  # images a step
    image_size: int  # pixels a side
    features: int  # channels of the largest map; a sixteenth of a dense layer's units


class Scale(NamedTuple):
    """A model's base sizes, and the values that each of them takes, the others being the base's."""

    base: Sizes
    batch: tuple[int, ...] = (16, 64, 256)
    image_size: tuple[int, ...] = (16, 32, 64, 128)
    features: tuple[int, ...] = (16, 32, 64, 128)


SCALES = {
    "dcgan": Scale(Sizes(64, 64, 64)),
    "vae": Scale(Sizes(64, 64, 64)),
    "classifier": Scale(Sizes(64, 32, 16), image_size=(16, 32, 64), features=(16, 32, 64)),
    "gan": Scale(Sizes(64, 32, 64)),
}
"""Map from model to its sizes. The classifier is a ResNet of 20 layers, the GAN of dense layers of ReLU."""


@dataclass(frozen=True)
class Options:
    """Time training steps beside PyTorch's over batches, image sizes and widths."""

    models: tuple[str, ...] = tuple(SCALES)  # of dcgan, vae, classifier (a ResNet of 20 layers), gan (dense layers)
    largest: float | None = None  # rows with a size of more than so many times the base's are left out
    channels: int = 3  # channels of the images
    rounds: int = 5  # each times every contender of a row once
    figure: str | None = None  # PNG file of the ratios


def rows(model: str, largest: float | None = None) -> list[Sizes]:
    """A model's rows: its base sizes, then one size changed at a time."""
    base, *values = SCALES[model]
    changed = [
        base._replace(**{name: value})
        for name, each in zip(VARIED, values, strict=True)
        for value in each
        if largest is None or value <= largest * getattr(base, name)
    ]
    return list(dict.fromkeys([base, *changed]))


def measure(options: Options) -> dict[str, Any]:
    """Returns the timings of every row. Raises UserError for unknown models, or if a package is missing."""
    check_positive(options, "largest", "channels", "rounds")
    unknown = [name for name in options.models if name not in SCALES]
    if unknown or not options.models:
        raise UserError(f"models must be of {', '.join(SCALES)}, not {', '.join(unknown) or 'none'}")
    if not importlib.util.find_spec("torch"):
        raise UserError("scaling needs PyTorch: pip install torch")
    if options.figure:
        if not importlib.util.find_spec("matplotlib"):
            raise UserError("the figure needs matplotlib: pip install 'jaxgen[notebook]'")
        if not options.figure.endswith(".png"):
            raise UserError(f"the figure is written as .png, not as {options.figure!r}")
        check_writable(Path(options.figure))
    found = []
    for model in options.models:
        for sizes in rows(model, options.largest):
            timing.say(f"{model}: " + ", ".join(f"{name} {value}" for name, value in sizes._asdict().items()))
            found.append({"model": model, **sizes._asdict(), **_timed(model, sizes, options)})
            gc.collect()  # PyTorch's nets and their gradients refer to each other
            if options.figure:
                draw(found, Path(options.figure))  # of what there is so far
    return {"matmul_gflop_a_second": timing.matmul_rate(), "rows": found}


def _timed(model: str, sizes: Sizes, options: Options) -> dict[str, Any]:
    from jaxgen import models

    from . import contenders, torch_peers

    data = contenders.made_up(max(512, sizes.batch), sizes.image_size, options.channels, sizes.batch)
    module = models.load(model)
    config = module.Config(**config_of(model, sizes.features))
    training = contenders.training(module.make(config, data.spec), data)
    runs = {"jaxgen": contenders.in_scan(training)}
    for layout in torch_peers.FORMATS:
        peer = torch_peers.peer(model, config, data, training.operands[1].params, layout)
        runs[f"torch {layout}"] = torch_peers.contender(peer.step, data.indices)
    timings = timing.interleaved(runs, options.rounds, least=LEAST)
    best = min((name for name in timings if name != "jaxgen"), key=lambda name: timings[name].median)
    return {
        "contenders": {name: timed.described() for name, timed in timings.items()},
        "peer": best,
        **timing.ratio(timings[best].seconds, timings["jaxgen"].seconds),
    }


def config_of(model: str, features: int) -> dict[str, Any]:
    """Fields of a model's Config for a width, that PyTorch's network has too."""
    if model == "classifier":
        return {"network": "resnet", "features": features}
    if model == "gan":
        units = {"generator_units": 16 * features, "discriminator_units": 16 * features}
        return {"optimizer": "adam", "pieces": 1, "dropout": 0.0, **units}
    return {"features": features}


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draws the ratios of every model, one line for each size that is varied."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["model"] for row in found))
    figure = Figure(figsize=(3.4 * len(names), 3.6), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        base = SCALES[name].base
        for varied, marker in zip(VARIED, "osD", strict=True):
            others = [other for other in VARIED if other != varied]
            line = sorted(
                (
                    row
                    for row in found
                    if row["model"] == name and all(row[other] == getattr(base, other) for other in others)
                ),
                key=lambda row: row[varied],
            )
            ratios = [row["ratio"] for row in line]
            spread = [[row["ratio"] - row["low"] for row in line], [row["high"] - row["ratio"] for row in line]]
            values = [row[varied] for row in line]
            panel.errorbar(values, ratios, spread, marker=marker, capsize=2, label=varied.replace("_", " "))
        panel.axhline(1, color="gray", linestyle=":")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:.0f}")
        panel.set_title(name)
        panel.set_xlabel(f"batch {base.batch}, size {base.image_size}, features {base.features}, one changed")
    panels[0, 0].set_ylabel("times as fast as PyTorch")
    panels[0, 0].legend()
    figure.savefig(path, dpi=150)


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the ratios as a table, one row for each model and size."""
    from rich.table import Table

    table = Table(
        "model", "batch", "image", "features", "ms a step", "PyTorch", "times as fast", "rounds",
        title="jaxgen in scan against PyTorch's faster format: over 1 where jaxgen is faster",
    )  # fmt: skip
    for row in result["rows"]:
        ours, theirs = (1e3 * row["contenders"][name]["median"] for name in ("jaxgen", row["peer"]))
        sizes = [str(row[name]) for name in VARIED]
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        table.add_row(row["model"], *sizes, f"{ours:.4g}", f"{theirs:.4g}", f"{row['ratio']:.2f}", spread)
    return table


if __name__ == "__main__":
    sys.exit(timing.main("scaling", Options, measure, shown))
