"""Digests of training under different surroundings: which of them change the bits of a run on a CPU.

    python -m experiments.benchmarks.bits --out experiments/results/bits-cpu.json

A few steps of small models on 16x16 digits are trained in a new process for each surrounding: other numbers of cores,
other vector instructions, another hash seed, locale and folder, and other load. Their digests are compared with those
of a reference process. `docs/runs.md` promises what `SURROUNDINGS` says, and a test reads the kept result.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "dcgan": ("dcgan", {"features": 32}),
    "transformer": ("transformer", {"likelihood": "logistic", "dim": 32, "layers": 1}),
    "matrix products": ("gan", {"generator_units": 256, "discriminator_units": 64}),
}
"""Map from a row's name to the model and its config."""

FLAG = "--xla_cpu_max_isa="

INSTRUCTIONS = {"SSE4_2": "sse4_2", "AVX": "avx", "AVX2": "avx2", "AVX512": "avx512f"}
"""Map from XLA's names of instruction sets, the oldest first, to Linux's."""


class Surrounding(NamedTuple):
    """A way to start the process, other than the reference's."""

    cores: int = 2  # that the process may use
    variables: tuple[tuple[str, str], ...] = ()  # of the environment
    folder: str = "runs"  # where it runs, in a temporary one
    load: int = 0  # other processes that compute without pause on the same cores
    instructions: str = ""  # Linux's name of what XLA is limited to; "" if it is not
    like: str = "reference"  # the surrounding that it is compared with
    same: bool | None = None  # True if equal bits are promised, False if other ones are expected, None if it is open


REFERENCE = Surrounding(variables=(("LC_ALL", "C"), ("PYTHONHASHSEED", "0")), same=True)
ONE = REFERENCE._replace(cores=1)

SURROUNDINGS = {
    "reference": REFERENCE,
    "again": REFERENCE,
    "another hash seed": REFERENCE._replace(variables=(("LC_ALL", "C"), ("PYTHONHASHSEED", "4711"))),
    "another locale": REFERENCE._replace(variables=(("LC_ALL", "C.UTF-8"), ("PYTHONHASHSEED", "0"))),
    "another folder": REFERENCE._replace(folder="another folder/with a longer name, é"),
    "other load": REFERENCE._replace(load=2),
    "1 core": ONE._replace(same=False),
    "1 core, again": ONE._replace(like="1 core"),
    **{  # a limit at or above what XLA chooses by itself changes nothing
        f"at most {name}": REFERENCE._replace(
            variables=(*REFERENCE.variables, ("XLA_FLAGS", FLAG + name)), instructions=flag, same=None
        )
        for name, flag in INSTRUCTIONS.items()
    },
    "at most AVX2, again": REFERENCE._replace(
        variables=(*REFERENCE.variables, ("XLA_FLAGS", FLAG + "AVX2")), instructions="avx2", like="at most AVX2"
    ),
}
"""Map from name to surrounding."""

CHILD = """
import json, os, sys
cores, steps, batch, models = json.loads(sys.argv[1])
if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
import jax
import numpy as np
from jaxgen.training import Settings, engine
from jaxgen.training.environment import cores as usable, processor
from jaxgen.training.plan import make_plan

def trained(name, config):
    data = {"dataset": "digits", "image_size": 16, "batch_size": batch}
    plan = make_plan(name, config, Settings(**data, seeds=(0,), steps=steps))
    rows = plan.dataset.train
    batches = {name: rows[name][: steps * batch] for name in plan.model.needs}
    batches = {name: entry.reshape(steps, batch, *entry.shape[1:]) for name, entry in batches.items()}
    batches["weight"] = np.ones((steps, batch), np.float32)
    keys = engine.all_streams((0,))
    state = engine.initial_state(plan.model, keys.init)

    def step(state, batch):
        new, _ = plan.model.phases[0].step(jax.random.fold_in(keys.train[0], state.step), state, batch)
        return new._replace(step=state.step + 1), None

    options = engine.compiler_options("cpu", "float32")
    train = jax.jit(lambda *given: jax.lax.scan(step, *given), compiler_options=options)
    end, _ = train(engine.of_seed(state, 0), batches)
    return engine.digests((0,), jax.tree.map(lambda leaf: leaf[None], end))[0]

digests = {row: trained(name, config) for row, (name, config) in models.items()}
print(json.dumps({"digests": digests, "cores": usable(), **processor()}))
"""
"""Trains the models with the steps of `jaxgen train`, and prints their digests and what the process runs on."""

BUSY = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
while True:
    sum(range(100_000))
"""


@dataclass(frozen=True)
class Options:
    """Train a few steps of small models on digits under different surroundings and compare their bits."""

    steps: int = 4  # of each model
    batch: int = 64  # examples a step


def measure(options: Options) -> dict[str, Any]:
    """Returns the digests under every surrounding that this machine has, and which are equal.

    Raises UserError if the machine has no two cores, or training fails.
    """
    check_positive(options, "steps", "batch")
    from jaxgen.training.environment import cores, instruction_sets

    if cores() < REFERENCE.cores:
        raise UserError(f"digests are compared between 1 and 2 cores, and this process may use {cores()}")
    known, found = instruction_sets(), {}
    for name, surrounding in SURROUNDINGS.items():
        if surrounding.instructions in ("", *known):
            timing.say(name)
            found[name] = digests(options, surrounding) | {"like": surrounding.like, "same": surrounding.same}
    for one in found.values():
        like = found[one["like"]]["digests"]
        one["equal"] = {model: digest == like[model] for model, digest in one["digests"].items()}
    return {"surroundings": found, "instructions": list(known)}


def digests(options: Options, surrounding: Surrounding) -> dict[str, Any]:
    """Digest of each model, trained in a new process, with the cores and instructions that it saw."""
    usual = {name: value for name, value in os.environ.items() if name not in ("LANG", "LC_CTYPE", "XLA_FLAGS")}
    with tempfile.TemporaryDirectory() as temporary, _busy(surrounding):
        folder = Path(temporary, surrounding.folder)
        folder.mkdir(parents=True)
        more = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false", "JAXGEN_DATA_DIR": temporary}
        given = json.dumps([surrounding.cores, options.steps, options.batch, MODELS])
        done = subprocess.run(
            [sys.executable, "-c", CHILD, given],
            cwd=folder,
            env=usual | more | dict(surrounding.variables),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UserError(f"training failed: {last}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _busy(surrounding: Surrounding) -> Iterator[None]:
    """Lets as many other processes compute on the same cores."""
    command = [sys.executable, "-c", BUSY, str(surrounding.cores)]
    others = [subprocess.Popen(command) for _ in range(surrounding.load)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the digests as a table: those of each model, and whether they are equal to those compared with."""
    from rich.table import Table

    given = result["arguments"]
    table = Table("surrounding", "compared with", *MODELS, "promised", title=f"digests after {given['steps']} steps")
    promise = {True: "the same bits", False: "other bits", None: ""}
    for name, one in result["surroundings"].items():
        cells = [f"{one['digests'][model][:8]} {'=' if equal else 'differs'}" for model, equal in one["equal"].items()]
        table.add_row(name, one["like"], *cells, promise[one["same"]])
    return table


if __name__ == "__main__":
    sys.exit(timing.main("bits", Options, measure, shown))
