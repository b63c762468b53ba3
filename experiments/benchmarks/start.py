"""Start-up time: seconds to the help text, and to the first step of a training run.

    python -m experiments.benchmarks.start

Every timing is of a new process. The first step of `jaxgen train dcgan` is timed from before the process starts until
the program containing the step has been dispatched: first with an empty compilation cache and then, in a second
process, with the cache that the first one filled.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

HELPS = 5

GOALS = {"help": 0.5, "first_step_empty_cache": 12.0, "first_step_warm_cache": 3.0}
"""Upper limits, in seconds."""

DISPATCHED = "first step dispatched at"

DRIVER = f'''
import sys, time
from jaxgen import cli
from jaxgen.training import engine

chunk_program = engine.chunk_program

def told(*args, **kwargs):
    program, calls = chunk_program(*args, **kwargs), []

    def first_told(*operands):
        result = program(*operands)
        if not calls:
            print("{DISPATCHED}", time.time(), flush=True)
        calls.append(None)
        return result

    return first_told

engine.chunk_program = told
sys.exit(cli.main(sys.argv[1:]))
'''
"""Runs `jaxgen` and prints the time when a chunk program's first call returns (dispatch is asynchronous)."""


@dataclass(frozen=True)
class Options:
    """Time `jaxgen --help` and the first step of `jaxgen train dcgan` on digits, each in a new process."""

    image_size: int = 64  # pixels a side
    features: int = 64  # channels of the largest hidden map
    rounds: int = 3  # each trains with an empty compilation cache, then with a warm one


def measure(options: Options) -> dict[str, Any]:
    """Returns the seconds. Raises UserError if training fails."""
    check_positive(options, "image_size", "features", "rounds")
    seconds = {
        "help": [help_seconds() for _ in range(HELPS)],
        "first_step_empty_cache": [],
        "first_step_warm_cache": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        usual = {name: value for name, value in os.environ.items() if not ("JAX" in name and "CACHE" in name)}
        environment = usual | {"JAXGEN_DATA_DIR": str(folder / "data")}
        _run([sys.executable, "-c", "from jaxgen import data; data.load('digits')"], environment)
        for n in range(options.rounds):
            timing.say(f"round {n + 1} of {options.rounds}")
            shutil.rmtree(folder / "data" / "compiled", ignore_errors=True)
            for cache in ("empty", "warm"):
                out = folder / f"{cache}-{n}"
                seconds[f"first_step_{cache}_cache"].append(first_step_seconds(options, out, environment))
    return {
        "seconds": seconds,
        "medians": {name: statistics.median(values) for name, values in seconds.items()},
        "goals": GOALS,
    }


def help_seconds() -> float:
    """Seconds from the start of `jaxgen --help` to its end."""
    start = time.perf_counter()
    _run([sys.executable, "-m", "jaxgen", "--help"], os.environ)
    return time.perf_counter() - start


def first_step_seconds(options: Options, out: Path, environment: dict[str, str]) -> float:
    """Seconds from the start of a training run to the dispatch of its first step."""
    words = ["train", "dcgan", "--image-size", options.image_size, "--features", options.features, "--steps", 1]
    start = time.time()  # a clock shared with the process
    printed = _run([sys.executable, "-c", DRIVER, *map(str, words), "--out", str(out)], environment)
    told = next(line for line in printed.splitlines() if line.startswith(DISPATCHED))
    return float(told.removeprefix(DISPATCHED)) - start


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Returns a process's stdout. Raises UserError with the last line of its stderr if it fails."""
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise UserError(ran.stderr.strip().rpartition("\n")[2].removeprefix("jaxgen: error: "))
    return ran.stdout


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats seconds and goals as a table."""
    from rich.table import Table

    size = result["arguments"]["image_size"]
    table = Table("seconds to", "median", "all", "goal", title=f"start; training is of dcgan {size}x{size}")
    for name, values in result["seconds"].items():
        every = " ".join(f"{value:.2f}" for value in values)
        table.add_row(name.replace("_", " "), f"{result['medians'][name]:.2f}", every, f"{result['goals'][name]:g}")
    return table


if __name__ == "__main__":
    sys.exit(timing.main("start", Options, measure, shown))
