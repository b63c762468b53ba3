"""Compiles every model's programs for a TPU and reports the compiler's memory and operation counts.

    pip install ".[tpu]"
    python -m experiments.benchmarks.tpu_programs

No TPU is needed. The programs are those of a run on one chip (a case with several devices: on these), at the sizes of
`programs`, so nothing here tells how long a step of a full-size model takes. Numbers are per chip. The compiler counts
the operations of a step including elementwise ones, which the useful operations leave out.
"""

import importlib.metadata
import importlib.util
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxgen.errors import UserError

from . import timing

if TYPE_CHECKING:
    from jax import ShapeDtypeStruct
    from jax.experimental.layout import Layout
    from jax.stages import Lowered
    from numpy.typing import DTypeLike
    from rich.console import RenderableType

    from .programs import Program

TOPOLOGY = "v5e:2x2"

ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # otherwise a second compiling process fails on the first one's lock
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # without these two, libtpu searches for a TPU and logs warnings
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
}
"""Environment variables for libtpu in a process that only compiles."""

MEMORY = ("state", "arguments", "outputs", "temporaries", "code")
"""Columns of memory per chip. `state` is unpadded; `arguments` are all operands as laid out on the chip, and `outputs`
reuse the donated state's memory."""

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")


@dataclass(frozen=True)
class Options:
    """Compile every model's training steps and samplers for a TPU v5e, and report their memory and operations."""

    cases: tuple[str, ...] = ()  # cases of experiments/benchmarks/programs.py; all if not given
    effort: float = 0.0  # compiler effort, from -1 to 1; a run has 0, and -1 compiles in a third of the time


def measure(options: Options) -> dict[str, Any]:
    """Returns the compiler's reports. Raises UserError without libtpu, or for an unknown case."""
    if not -1 <= options.effort <= 1:
        raise UserError(f"effort must lie between -1 and 1, not {options.effort:g}")
    from .programs import BATCH, CASES, SEEDS, programs

    for name in options.cases:
        if name not in CASES:
            raise UserError(f"no case {name}: there are {', '.join(CASES)}")
    if not importlib.util.find_spec("libtpu"):
        raise UserError(f"this needs libtpu, which has the compiler for TPUs: pip install '{wanted_libtpu()}'")
    import jax
    from jax.experimental import topologies

    from jaxgen.training import engine

    from .contenders import no_persistent_cache

    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    chips = topologies.get_topology_desc(TOPOLOGY, "tpu").devices
    with no_persistent_cache(), ThreadPoolExecutor() as threads:
        waiting = {}
        for name in options.cases or CASES:
            devices = engine.mesh(SEEDS, BATCH, chips[: CASES[name].devices])
            for program in programs(CASES[name], engine.AXIS["tpu"], devices):
                timing.say(f"lowering {name}, {program.name}")
                lowered = program.jitted.trace(*program.operands).lower()
                waiting[name, program.name] = threads.submit(stated, program, lowered, options.effort)
        timing.say("compiling")
        found = [{"case": case, "program": name} | future.result() for (case, name), future in waiting.items()]
    return {
        "chip": chips[0].device_kind,
        "libtpu": importlib.metadata.version("libtpu"),
        "programs": found,
    }


def wanted_libtpu() -> str:
    """Returns the libtpu requirement of the installed JAX's extra tpu."""
    requirements = importlib.metadata.requires("jax")
    return next(line.partition(";")[0].strip() for line in requirements if line.startswith("libtpu"))


def stated(program: "Program", lowered: "Lowered", effort: float) -> dict[str, Any]:
    """Compiles a program and returns the compiler's bytes and operations, or {"error": ...} if it does not compile.

    `padded_*` are bytes in the layouts that the compiler chose for the operands.
    """
    import jax

    start = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options={"exec_time_optimization_effort": effort})
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error)}
    seconds = time.perf_counter() - start
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    text = compiled.as_text()
    avals, formats = (jax.tree.leaves(tree) for tree in (lowered.in_avals[0], compiled.input_formats[0]))
    state_avals, state_formats = (jax.tree.leaves(tree[0][1]) for tree in (lowered.in_avals, compiled.input_formats))
    return {
        "seconds": seconds,
        "flops": cost["flops"],
        "useful_flops": program.useful_flops,
        "bytes_accessed": cost["bytes accessed"],
        "state": sum(map(part_bytes, jax.tree.leaves(program.state))),
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "donated": memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "padded_arguments": sum(map(on_chip, avals, formats)),
        "padded_state": sum(map(on_chip, state_avals, state_formats)),
        "collectives": {name: count for name in COLLECTIVES if (count := text.count(f" {name}("))},
    }


def part_bytes(leaf: "ShapeDtypeStruct") -> int:
    """Unpadded bytes of one chip's shard of an array."""
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def on_chip(aval: Any, form: Any) -> int:
    """Bytes of an operand in a chip's memory; 0 if the program does not use it."""
    import jax
    from jax import numpy as jnp

    if form.layout is None:
        return 0
    part = jax.ShapeDtypeStruct(form.sharding.shard_shape(aval.shape), aval.dtype)
    if jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
        part = jax.eval_shape(jax.random.key_data, part)
    return padded_bytes(part.shape, part.dtype, form.layout)


def padded_bytes(shape: tuple[int, ...], dtype: "DTypeLike", layout: "Layout") -> int:
    """Bytes of an array in a TPU's memory, with the minor-most axes of the layout padded to whole tiles."""
    import numpy as np

    tile = layout.tiling[0] if layout.tiling else ()  # an empty array has no tiles
    sides = [1] * (len(tile) - len(shape)) + [shape[axis] for axis in layout.major_to_minor]
    within = len(sides) - len(tile)
    filled = sides[:within] + [-(-side // unit) * unit for side, unit in zip(sides[within:], tile, strict=True)]
    return math.prod(filled) * np.dtype(dtype).itemsize


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the compiler's reports as a table."""
    from rich.table import Table

    title = f"{result['chip']}, libtpu {result['libtpu']}, effort {result['arguments']['effort']:g}; memory in kB"
    table = Table("program", "compiled in s", "Mflop", "useful", *MEMORY, title=title)
    for one in result["programs"]:
        name = f"{one['case']}, {one['program']}"
        if "error" in one:
            table.add_row(name, f"does not compile: {one['error'].splitlines()[0]}")
            continue
        if one["collectives"]:
            name += f" ({', '.join(f'{count} {kind}' for kind, count in one['collectives'].items())})"
        mega = [f"{one[key] / 1e6:.3g}" for key in ("flops", "useful_flops")]
        table.add_row(name, f"{one['seconds']:.1f}", *mega, *(f"{one[key] / 1e3:,.0f}" for key in MEMORY))
    return table


if __name__ == "__main__":
    sys.exit(timing.main("tpu_programs", Options, measure, shown))
