"""Speed of jaxgen's training step against the same model with Flax's layers, and against PyTorch.

    python -m experiments.benchmarks.train_step --model dcgan --image-size 64 --against flax flax-scan torch

jaxgen's step is timed "jitted", one per dispatch, and "in scan", in the chunk program that the training loop runs.
`flax` is compared with jaxgen jitted, `flax-scan` with jaxgen in scan, and PyTorch, in the faster of its two memory
formats, with both. Also reported: the time to trace and compile, and each contender's rate of useful operations as a
share of this machine's matrix-product rate.
"""

import importlib.util
import itertools
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

COMPILATIONS = 3

AGREEMENT = {"float32": 1e-3, "bfloat16": 1e-2}
"""Relative tolerance between the first metrics of jaxgen and of Flax's layers. Adam's first step is the sign of each
gradient, which rounding flips if the gradient is almost zero."""


@dataclass(frozen=True)
class Options:
    """Time a model's training step against the same step with Flax's layers, and in PyTorch.

    The data are 1,024 noise images on the device.
    """

    model: Literal["dcgan", "vae", "pixelcnn", "transformer", "transgan"] = "dcgan"  # defaults, but for `features`
    image_size: int = 64  # pixels a side
    batch: int = 64  # images a step
    features: int = 64  # channels of the largest hidden map, or of each; dim of a Transformer; transgan has its own
    channels: int = 3  # channels of the images
    precision: Literal["float32", "bfloat16"] = "float32"  # dtype of the layers' computation
    against: tuple[Literal["flax", "flax-scan", "torch", "torch-compile"], ...] = ("flax", "torch")  # jaxgen's peers
    rounds: int = 7  # each times every contender once


def measure(options: Options) -> dict[str, Any]:
    """Returns the timings. Raises UserError for an image size that the model cannot make, or if PyTorch is missing."""
    check_positive(options, "image_size", "batch", "features", "channels", "rounds")
    if options.model in ("pixelcnn", "transformer", "transgan") and {"flax", "flax-scan"} & set(options.against):
        raise UserError(f"{options.model} is measured against PyTorch only: --against torch")
    torch_names = [name for name in ("torch", "torch-compile") if name in options.against]
    if torch_names and not importlib.util.find_spec("torch"):
        raise UserError(f"--against {torch_names[0]} needs PyTorch: pip install torch")
    from jaxgen import models

    from . import contenders
    from .flops import useful_flops
    from .stock import stock

    data = contenders.made_up(1024, options.image_size, options.channels, options.batch, options.precision)
    module = models.load(options.model)
    if options.model == "transgan":
        config = module.sized(module.Config(augment=()), data.spec)  # PyTorch's lacks augmentation
    else:
        config = module.Config(**{"dim" if options.model == "transformer" else "features": options.features})
    ours = contenders.training(module.make(config, data.spec), data)
    trainings = {"jaxgen": ours}
    if {"flax", "flax-scan"} & set(options.against):
        trainings["flax"] = ours._replace(phase=stock(options.model).make(config, data.spec).phases[0])

    timing.say("compiling")
    compilation = contenders.compilation(trainings, COMPILATIONS)
    if "flax" in trainings:
        theirs, expected = (contenders.first_metrics(training) for training in (trainings["flax"], ours))
        check_agreement(theirs, expected, AGREEMENT[options.precision])
    gflop = useful_flops(contenders.one_step(ours.phase), *ours.operands) / 1e9
    rate = timing.matmul_rate(options.precision)

    runs = {"jaxgen jitted": contenders.jitted(ours), "jaxgen in scan": contenders.in_scan(ours)}
    if "flax" in options.against:
        runs["flax jitted"] = contenders.jitted(trainings["flax"])
    if "flax-scan" in options.against:
        runs["flax in scan"] = contenders.in_scan(trainings["flax"])
    if torch_names:
        from . import torch_peers

        params = ours.operands[1].params
        for name, layout in itertools.product(torch_names, torch_peers.FORMATS):
            compiled = name == "torch-compile"
            peer = torch_peers.peer(options.model, config, data, params, layout, compiled=compiled)
            runs[f"{name} {layout}"] = torch_peers.contender(peer.step, data.indices)

    timings = timing.interleaved(runs, options.rounds)
    return {
        "useful_gflop_a_step": gflop,
        "matmul_gflop_a_second": rate,
        "contenders": {
            name: timed.described()
            | {"images_a_second": options.batch / timed.median, "share_of_limit": gflop / timed.median / rate}
            for name, timed in timings.items()
        },
        "comparisons": comparisons(timings),
        "compilation": described_compilation(compilation),
    }


def check_agreement(metrics: Mapping[str, float], expected: Mapping[str, float], tolerance: float) -> None:
    """Raises RuntimeError if two implementations of one step give different metrics."""
    for name, value in expected.items():
        if not math.isclose(metrics[name], value, rel_tol=tolerance):
            raise RuntimeError(f"not the same model: after one step {name} is {metrics[name]}, not {value}")


def comparisons(timings: Mapping[str, timing.Timed]) -> list[dict[str, Any]]:
    """Returns the ratios of every peer; for PyTorch, those of the memory format with the smaller median time."""
    pairs = [("flax jitted", "jitted"), ("flax in scan", "in scan")]
    for name in ("torch", "torch-compile"):
        layouts = [contender for contender in timings if contender.startswith(f"{name} ")]
        if layouts:
            best = min(layouts, key=lambda layout: timings[layout].median)
            pairs += [(best, "jitted"), (best, "in scan")]
    return [
        {"peer": peer, "jaxgen": how} | timing.ratio(timings[peer].seconds, timings[f"jaxgen {how}"].seconds)
        for peer, how in pairs
        if peer in timings
    ]


def described_compilation(seconds: dict[str, dict[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """Returns the seconds, their medians and, if Flax's layers were compiled too, the ratios of total times."""
    described = {
        "seconds": seconds,
        "medians": {
            layers: {how: {part: statistics.median(values) for part, values in parts.items()}
                     for how, parts in programs.items()}
            for layers, programs in seconds.items()
        },
    }  # fmt: skip
    if "flax" in seconds:
        sums = {
            layers: {how: list(map(sum, zip(*parts.values(), strict=True))) for how, parts in programs.items()}
            for layers, programs in seconds.items()
        }
        described["comparisons"] = [
            {"peer": f"flax {how}", "jaxgen": how} | timing.ratio(sums["flax"][how], sums["jaxgen"][how])
            for how in sums["jaxgen"]
        ]
    return described


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the timings and the ratios as tables."""
    from rich.console import Group
    from rich.table import Table

    given = result["arguments"]
    title = (
        f"{given['model']} {given['image_size']}x{given['image_size']}, batch {given['batch']}, {given['precision']}"
    )
    steps = Table("contender", "ms a step", "images/s", "share of the limit", title=title)
    for name, contender in result["contenders"].items():
        milliseconds = f"{1e3 * contender['median']:.4g}"
        share = f"{contender['share_of_limit']:.1%}"
        steps.add_row(name, milliseconds, f"{contender['images_a_second']:.4g}", share)
    ratios = Table("jaxgen", "is faster than", "times", "rounds", title="ratios: over 1 where jaxgen is faster")
    for one in result["comparisons"]:
        ratios.add_row(one["jaxgen"], one["peer"], f"{one['ratio']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}")
    limit = (
        f"{result['useful_gflop_a_step']:.4g} useful GFLOP a step; the limit, a matrix product: "
        f"{result['matmul_gflop_a_second']:.4g} GFLOP/s"
    )
    compilation = [
        f"{layers} {how}: traced in {median['trace_and_lower']:.2f} s, compiled in {median['compile']:.2f} s"
        for layers, medians in result["compilation"]["medians"].items()
        for how, median in medians.items()
    ]
    return Group(steps, ratios, limit, *compilation)


if __name__ == "__main__":
    sys.exit(timing.main("train_step", Options, measure, shown))
