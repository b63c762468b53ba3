"""Cost of checkpoints: training with periodic checkpoints against training that saves only at the end.

    python -m experiments.benchmarks.checkpoints

Both are whole runs of `jaxgen.training.train` on digits, in alternation. The seconds are the training time stored in a
run's checkpoints, which excludes compilation. A save copies the state to the host and hashes it while the device waits;
writing overlaps with the next steps.
"""

import dataclasses
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

SAVING, NOT = "with checkpoints", "without"

GOAL = 1.05
"""Maximum ratio of the times with and without checkpoints."""


@dataclass(frozen=True)
class Options:
    """Time training with checkpoints against training without."""

    model: Literal["dcgan", "vae"] = "dcgan"  # its config has the defaults except for `features`
    image_size: int = 32  # pixels a side
    batch: int = 64  # images a step
    features: int = 64  # channels of the largest hidden map
    every: int = 100  # steps between checkpoints
    steps: int = 600  # steps of a run; its first chunk, which includes compilation, is not timed
    rounds: int = 5  # each times both once


def measure(options: Options) -> dict[str, Any]:
    """Returns the timings. Raises UserError for an impossible image size, or for `steps` below two checkpoints."""
    check_positive(options, "image_size", "batch", "features", "every", "steps", "rounds")
    if options.steps < 2 * options.every:
        raise UserError(f"steps must be at least {2 * options.every}, two checkpoints, not {options.steps}")
    import jax

    from jaxgen.training import Settings, train
    from jaxgen.training.checkpoints import Checkpoints, Keep

    never = 2 * options.steps
    settings = Settings(
        dataset="digits",
        image_size=options.image_size,
        batch_size=options.batch,
        steps=options.steps,
        log_every=min(50, options.every),
        sample_every=never,
    )
    timings: dict[str, list[float]] = {SAVING: [], NOT: []}
    intervals = {SAVING: options.every, NOT: never}
    with tempfile.TemporaryDirectory() as place:
        for n in range(options.rounds):
            timing.say(f"round {n + 1} of {options.rounds}")
            for name in sorted(intervals, reverse=bool(n % 2)):
                how = dataclasses.replace(settings, checkpoint_every=intervals[name])
                out = Path(place) / f"{n}-{name}"
                run = train(options.model, {"features": options.features}, how, out=out, progress=False)
                with Checkpoints(out / "checkpoints") as checkpoints:
                    seconds = checkpoints.content(run.step)["seconds"]
                timings[name].append(seconds / (options.steps - settings.log_every))
        state = run.state._asdict()
        with Checkpoints(Path(place) / "one", Keep()) as checkpoints:
            start = time.perf_counter()
            checkpoints.save(1, state, {"belongs": {}})
            blocks = time.perf_counter() - start
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return {
        "contenders": {name: {"seconds_a_step": each} for name, each in timings.items()},
        "headline": timing.ratio(timings[SAVING], timings[NOT]) | {"goal": GOAL},
        "save": {"megabytes": size / 1e6, "seconds_waited": blocks},
    }


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the timings and their ratio as a table."""
    from statistics import median

    from rich.console import Group
    from rich.table import Table

    given, ratio, save = result["arguments"], result["headline"], result["save"]
    side = given["image_size"]
    table = Table("training", "ms a step", title=f"{given['model']} {side}x{side}, a checkpoint every {given['every']}")
    for name, contender in result["contenders"].items():
        table.add_row(name, f"{1e3 * median(contender['seconds_a_step']):.4g}")
    times = f"{ratio['ratio']:.3f} times as long ({ratio['low']:.3f} to {ratio['high']:.3f}); the goal is {GOAL}"
    return Group(table, times, f"a save of {save['megabytes']:.0f} MB waits {save['seconds_waited']:.2f} s")


if __name__ == "__main__":
    sys.exit(timing.main("checkpoints", Options, measure, shown))
