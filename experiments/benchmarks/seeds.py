"""Speed-up of several seeds in one program over as many runs of one seed, one after another.

    python -m experiments.benchmarks.seeds --model dcgan --image-size 32 --seeds 4

Both ways of running the seed axis are timed; the headline is the one that `jaxgen.training.engine.AXIS` chooses for
this backend. One seed alone is timed too: on a GPU many seeds should take less than twice its time.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jaxgen.errors import check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

IN_TURN, ONE = "in turn", "one seed"


@dataclass(frozen=True)
class Options:
    """Time several seeds in one program against as many runs of one seed, one after another.

    A step is one step of every seed. The data are 1,024 noise images on the device.
    """

    model: Literal["dcgan", "vae"] = "dcgan"  # its config has the defaults except for `features`
    image_size: int = 32  # pixels a side
    batch: int = 64  # images a step
    features: int = 64  # channels of the largest hidden map
    channels: int = 3  # channels of the images
    seeds: int = 4  # number of seeds
    rounds: int = 7  # each times every contender once


def measure(options: Options) -> dict[str, Any]:
    """Returns the timings. Raises UserError for an image size that the model cannot make."""
    check_positive(options, "image_size", "batch", "features", "channels", "seeds", "rounds")
    from jaxgen import models
    from jaxgen.training.engine import axis

    from .contenders import chunk_program, in_scan, made_up, training

    data = made_up(1024, options.image_size, options.channels, options.batch)
    module = models.load(options.model)
    together = training(module.make(module.Config(features=options.features), data.spec), data, options.seeds)
    chosen = axis("auto")
    programs = {how: chunk_program(together, how) for how in ("map", "vmap")}
    alone = [in_scan(together.alone(n), programs[chosen]) for n in range(options.seeds)]

    def in_turn(steps: int) -> None:
        for run in alone:
            run(steps)

    runs = {how: in_scan(together, program) for how, program in programs.items()}
    runs |= {IN_TURN: in_turn, ONE: in_scan(together.alone(0), programs[chosen])}
    timings = timing.interleaved(runs, options.rounds)
    comparisons = [
        {"peer": IN_TURN, "jaxgen": how} | timing.ratio(timings[IN_TURN].seconds, timings[how].seconds)
        for how in programs
    ]
    return {
        "contenders": {name: timed.described() for name, timed in timings.items()},
        "comparisons": comparisons,
        "chosen": chosen,
        "headline": next(one for one in comparisons if one["jaxgen"] == chosen),
        "times_one_seed": timing.ratio(timings[chosen].seconds, timings[ONE].seconds),
    }


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the timings and the ratios as a table."""
    from rich.console import Group
    from rich.table import Table

    given = result["arguments"]
    ratios = {one["jaxgen"]: one for one in result["comparisons"]}
    title = f"{given['seeds']} seeds of {given['model']} {given['image_size']}x{given['image_size']}"
    table = Table("contender", "ms a step", "faster than in turn", "rounds", title=title)
    for name, contender in result["contenders"].items():
        one = ratios.get(name)
        times = (f"{one['ratio']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}") if one else ()
        table.add_row(name, f"{1e3 * contender['median']:.4g}", *times)
    times = result["times_one_seed"]["ratio"]
    return Group(table, f"jaxgen's choice on this backend is {result['chosen']}: {times:.2f} times one seed's time")


if __name__ == "__main__":
    sys.exit(timing.main("seeds", Options, measure, shown))
