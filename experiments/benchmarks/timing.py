"""Interleaved timings, and the benchmarks' shared command line and output.

A contender is a function that runs a given number of steps and returns when they are done. Contenders are timed in
rounds, so that a slow spell of the machine affects all of them; ratios are computed within a round.
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError

from ..kept import check_kept

if TYPE_CHECKING:  # `--help` needs neither
    from numpy.typing import DTypeLike
    from rich.console import RenderableType

LEAST = 4.0
"""Approximate minimum seconds of a timed call."""

SLOW = 5.0
"""Seconds per step above which a contender is timed with one step per call, in `SLOW_ROUNDS` rounds only."""

SLOW_ROUNDS = 3

Contender = Callable[[int], None]


class Timed(NamedTuple):
    """A contender's timings."""

    steps: int  # per timed call
    seconds: list[float]  # per step, by round; a slow contender has fewer rounds

    @property
    def median(self) -> float:
        """Median seconds per step."""
        return statistics.median(self.seconds)

    def described(self) -> dict[str, Any]:
        """Returns the timings for the JSON file."""
        return {"steps_a_call": self.steps, "seconds_a_step": self.seconds, "median": self.median}


def say(words: str) -> None:
    """Prints progress to stderr."""
    print(words, file=sys.stderr, flush=True)


def interleaved(
    contenders: Mapping[str, Contender],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    least: float | None = None,
) -> dict[str, Timed]:
    """Times every contender once in each round, in an order rotated from round to round.

    Before the first round, each is warmed up and its steps per call are chosen so that a call takes `least` seconds, by
    default `LEAST`.
    """
    least = LEAST if least is None else least
    timings = {}
    for name, run in contenders.items():
        say(f"warming up: {name}")
        timings[name] = Timed(_enough_steps(run, clock, least), [])
    names = list(contenders)
    for n in range(rounds):
        say(f"round {n + 1} of {rounds}")
        turn = n % len(names)
        for name in names[turn:] + names[:turn]:
            steps, seconds = timings[name]
            if n < SLOW_ROUNDS or seconds[0] <= SLOW:
                seconds.append(_seconds(contenders[name], steps, clock) / steps)
    return timings


def _seconds(run: Contender, steps: int, clock: Callable[[], float]) -> float:
    start = clock()
    run(steps)
    return clock() - start


def _enough_steps(run: Contender, clock: Callable[[], float], least: float) -> int:
    """Finds a small number of steps that takes `least` seconds twice in a row; a single call may be slow by chance."""
    run(1)  # compiles
    steps, in_turn = 1, 0
    while in_turn < 2:
        seconds = _seconds(run, steps, clock)
        if steps == 1 and seconds > SLOW:
            break
        in_turn = in_turn + 1 if seconds >= least else 0
        if not in_turn:
            wanted = math.ceil(1.1 * steps * least / max(seconds, 1e-9))
            steps = max(steps + 1, min(10 * steps, wanted))  # a short timing does not extrapolate further
    return steps


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Divides their times by ours within each round; returns the median, lowest and highest ratio.

    Rounds in which only one of them was timed, the other being slow, are left out.
    """
    ratios = [a / b for a, b in zip(theirs, ours, strict=False)]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def matmul_rate(dtype: "DTypeLike" = "float32", size: int | None = None) -> float:
    """GFLOP/s of a jitted product of two square matrices, the median of five timings.

    The default `size` is large enough for the device.
    """
    import jax

    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), dtype) for key in keys)
    product = jax.jit(lambda a, b: a @ b)

    def run(steps):
        for _ in range(steps):
            y = product(a, b)
        y.block_until_ready()

    return 2e-9 * size**3 / interleaved({f"matrix product, {dtype}": run}, 5)[f"matrix product, {dtype}"].median


def peak_bytes() -> int:
    """Returns this process's peak resident memory; not ru_maxrss on Linux, which includes the parent process's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # macOS, whose ru_maxrss is in bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def machine() -> dict[str, Any]:
    """Describes the hardware, versions and flags of this process, on which a timing depends besides the program."""
    import jax

    from jaxgen.training.environment import commit

    packages = ["jax", "jaxlib", "flax", "optax", "numpy", *(["torch"] if "torch" in sys.modules else [])]
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        **{name: importlib.metadata.version(name) for name in packages},
        "torch_threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "commit": commit(),
    }


def _cpu() -> str:
    """Returns the CPU's model name, in words only on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main(
    name: str,
    options: type,
    measure: Callable[[Any], dict[str, Any]],
    shown: Callable[[dict[str, Any]], "RenderableType"],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a benchmark's command and returns its exit status. A user's mistake is one line on stderr and status 2.

    Args:
        name: the benchmark's module.
        options: a frozen dataclass, whose docstring and field comments are the help text.
        measure: maps options to the measurements, for the JSON file.
        shown: formats the result for printing without `--json`.
        argv: command-line arguments; the process's if not given.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        parse(_command(name, options, measure, shown), argv, f"python -m experiments.benchmarks.{name}")
    except SystemExit as stopped:  # --help
        return stopped.code or 0
    except UserError as error:
        return fail(str(error))
    return 0


@dataclass(frozen=True)
class Output:
    """Output options of a benchmark."""

    json: bool = False  # print one JSON object in place of the table
    out: Path | None = None  # file for that object


def _command(name: str, options: type, measure: Callable, shown: Callable) -> Callable[..., None]:
    """Makes the function that tyro turns into the command line."""
    import tyro

    flat = tyro.conf.arg(name="")

    def command(given: Annotated[options, flat], output: Annotated[Output, flat]) -> None:
        if output.out and not output.out.parent.is_dir():  # checked before the measurement, not after
            raise UserError(f"cannot write {output.out}: there is no folder {output.out.parent}")
        check_kept(output.out)
        result = {
            "benchmark": name,
            "arguments": dataclasses.asdict(given),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "load_before": os.getloadavg()[0],  # other processes slow PyTorch's spinning threads the most
        }
        result |= measure(given)
        result["machine"] = machine()
        if output.out:
            from jaxgen.training.folder import write_json

            write_json(output.out, result)
        if output.json:
            print(json.dumps(result, indent=2))
        else:
            from rich.console import Console

            Console().print(shown(result))

    command.__doc__ = options.__doc__
    return command
