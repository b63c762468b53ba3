"""The input pipeline for data in memory, alone and beside a training step.

    python -m experiments.benchmarks.pipeline

The order of the examples is drawn on the host, and the chunk program gathers the batches on the device, as the
training loop does both; the step but reads its batch.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxgen.errors import check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .contenders import Contender, Training

GOAL = 500_000
"""Images of 28x28 a second."""


@dataclass(frozen=True)
class Options:
    """Time the input pipeline alone, against a goal of 500,000 images of 28x28 a second, and as a share of training.

    The data are 60,000 grey images of noise, the training is the DCGAN's.
    """

    image_size: int = 28  # pixels a side
    batch: int = 64  # images a step
    features: int = 64  # of the DCGAN: channels of the largest hidden map
    rounds: int = 7  # each times the pipeline and the training once


def measure(options: Options) -> dict[str, Any]:
    """The timings. Raises UserError for an image size that the DCGAN cannot make."""
    check_positive(options, "image_size", "batch", "features", "rounds")
    import jax.numpy as jnp

    from jaxgen.model import Model, Phase, State
    from jaxgen.models import dcgan
    from jaxgen.nn.image import to_unit

    from .contenders import made_up, training

    def read(key, state, batch):
        return state, {"mean": to_unit(batch["image"]).mean()}

    data = made_up(60_000, options.image_size, 1, options.batch)
    gan = dcgan.make(dcgan.Config(features=options.features), data.spec)
    reader = Model(lambda key, batch: State(jnp.int32(0), ()), (Phase("read", read),), needs=("image",))
    runs = {"pipeline": streamed(training(reader, data)), "training": streamed(training(gan, data))}
    timings = timing.interleaved(runs, options.rounds)
    share = timing.ratio(timings["pipeline"].seconds, timings["training"].seconds)
    return {
        "contenders": {
            name: timed.described() | {"images_a_second": options.batch / timed.median}
            for name, timed in timings.items()
        },
        "goal": GOAL,
        "share_of_training": share,
    }


def streamed(training: "Training") -> "Contender":
    """A phase's steps with their batches as the training loop has them: from the stream of shuffled epochs."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgen.keys import streams
    from jaxgen.training import loop, seeds
    from jaxgen.training.settings import Settings

    phase, keys, state, data = training
    state = jax.tree.map(jnp.copy, state)
    settings = Settings(batch_size=len(data.weight))
    program = seeds.chunk_program(phase, seeds.axis(settings.seeds_axis))
    data_key, alive, taken = streams(settings.data_seed).data, jnp.ones(1, bool), 0

    def run(steps: int) -> None:
        nonlocal state, alive, taken
        sums, end = None, taken + steps
        while taken < end:
            stop = min(taken + settings.log_every, end)
            # The loop's own rows, so that what is measured cannot drift from what it does.
            indices, weights = loop.chunk_rows(phase, data_key, len(data.images), settings, 0, taken, stop)
            before, count = sums, np.int32(stop - taken)
            state, alive, *sums = program(keys, state, alive, data.arrays, indices, weights, count)
            jax.device_get(before)  # a chunk's metrics are fetched while the next chunk runs
            taken = stop
        jax.block_until_ready((state, sums))

    return run


def shown(result: dict[str, Any]) -> "RenderableType":
    """The rates, as a table."""
    from rich.console import Group
    from rich.table import Table

    size, share = result["arguments"]["image_size"], result["share_of_training"]
    table = Table(
        "contender", "images/s", title=f"{size}x{size} images in memory, batch {result['arguments']['batch']}"
    )
    for name, contender in result["contenders"].items():
        table.add_row(name, f"{contender['images_a_second']:,.0f}")
    return Group(
        table,
        f"goal: {result['goal']:,} images of 28x28 a second",
        f"the pipeline takes {share['ratio']:.2%} of a training step ({share['low']:.2%} to {share['high']:.2%})",
    )


if __name__ == "__main__":
    sys.exit(timing.main("pipeline", Options, measure, shown))
