"""Memory of training steps beside PyTorch's, and beside the direct forms of convolutions.

    python -m experiments.benchmarks.memory --model dcgan --image-size 64

Each contender runs in a new process, on the CPU. Its memory is the largest that the process held, less what it held
after the imports: data, parameters, optimizer and the steps' own. jaxgen's programs come compiled from the cache, since
compiling takes memory of its own. "Temporaries" are what XLA's allocation of the chunk program holds beside its
arguments and results.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

JAXGEN, DIRECT = "jaxgen", "jaxgen, direct forms"
TORCH = ("torch contiguous", "torch channels_last")


@dataclass(frozen=True)
class Options:
    """Measure the memory of training steps in new processes. It needs PyTorch, and Linux."""

    model: Literal["dcgan", "vae", "classifier", "gan"] = (
        "dcgan"  # the classifier is a ResNet of 20 layers, the GAN of dense layers
    )
    image_size: int = 64  # pixels a side
    batch: int = 64  # images a step
    features: int = 64  # channels of the largest hidden map; a sixteenth of a dense layer's units
    channels: int = 3  # channels of the images
    steps: int = 3  # training steps of each contender


def measure(options: Options) -> dict[str, Any]:
    """Returns bytes by contender. Raises UserError if not on Linux, without PyTorch, or if a contender fails."""
    check_positive(options, "image_size", "batch", "features", "channels", "steps")
    if not Path("/proc/self/clear_refs").exists():
        raise UserError("memory is measured on Linux only")
    if not importlib.util.find_spec("torch"):
        raise UserError("memory needs PyTorch: pip install torch")
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in (JAXGEN, DIRECT, *TORCH):
            timing.say(name)
            if name in (JAXGEN, DIRECT):
                _apart(name, options, cache)  # compiles
            found[name] = _apart(name, options, cache)
    least = min(found[name]["bytes"] for name in TORCH)
    direct = found[DIRECT]["temporaries"]
    return {
        "contenders": found,
        "headline": {
            "memory_over_torch": found[JAXGEN]["bytes"] / least,
            "temporaries_over_direct": found[JAXGEN]["temporaries"] / direct if direct else None,
        },
    }


def _apart(name: str, options: Options, cache: str) -> dict[str, Any]:
    """Returns what `steps` prints in a new process."""
    code = f"import json, sys; from {__package__} import memory; memory.steps(*map(json.loads, sys.argv[1:]))"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "1",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", code, json.dumps(name), json.dumps(asdict(options))]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        words = ran.stderr.strip().rpartition("\n")[2].removeprefix("jaxgen.errors.UserError: ")
        raise UserError(f"{name}: {words if ran.returncode > 0 and words else f'exit status {ran.returncode}'}")
    return json.loads(ran.stdout.splitlines()[-1])


def steps(name: str, given: dict[str, Any]) -> None:
    """Takes a contender's steps, and prints its bytes as JSON in the last line."""
    options = Options(**given)
    import jax
    import numpy as np

    from jaxgen import models
    from jaxgen.nn import conv

    from . import contenders
    from .scaling import config_of

    module = models.load(options.model)
    if name in TORCH:
        from . import torch_peers

        importlib.import_module("torch._dynamo")  # which PyTorch's first optimizer would import
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from here on
    before = timing.peak_bytes()
    data = contenders.made_up(512, options.image_size, options.channels, options.batch)
    config = module.Config(**config_of(options.model, options.features))
    model, temporaries = module.make(config, data.spec), None
    if name in TORCH:  # with made-up parameters, for which JAX compiles nothing
        rng, shapes = np.random.default_rng(0), jax.eval_shape(model.init, jax.random.key(0)).params
        params = jax.tree.map(lambda leaf: rng.normal(0, 0.02, leaf.shape).astype(np.float32), shapes)
        peer = torch_peers.peer(options.model, config, data, params, name.partition(" ")[2])
        del params
        torch_peers.contender(peer.step, data.indices)(options.steps)
        peak = timing.peak_bytes()
    else:
        direct = mock.patch.object(conv, "best_tile", return_value=None)
        with direct if name == DIRECT else contextlib.nullcontext():
            training = contenders.training(model, data)
            program, (keys, state, *operands) = contenders.scanned(training)
            del training  # as in a run, which has one state
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
            *operands, _ = operands
            jax.block_until_ready(program(keys, state, *operands, np.int32(options.steps)))
            peak = timing.peak_bytes()
            compiled = program.trace(keys, shapes, *operands, np.int32(options.steps)).lower().compile()
            temporaries = compiled.memory_analysis().temp_size_in_bytes
    print(json.dumps({"bytes": peak - before, "imports": before, "temporaries": temporaries}))


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the bytes as a table."""
    from rich.console import Group
    from rich.table import Table

    given = result["arguments"]
    title = f"{given['model']} {given['image_size']}x{given['image_size']}, batch {given['batch']}"
    table = Table("contender", "MiB", "of which temporaries", title=title)
    for name, each in result["contenders"].items():
        own = f"{each['temporaries'] / 2**20:.0f}" if each["temporaries"] is not None else ""
        table.add_row(name, f"{each['bytes'] / 2**20:.0f}", own)
    ratios = result["headline"]
    words = f"{ratios['memory_over_torch']:.2f} times PyTorch's memory"
    if ratios["temporaries_over_direct"]:
        words += f"; {ratios['temporaries_over_direct']:.2f} times the direct forms' temporaries"
    return Group(table, words)


if __name__ == "__main__":
    sys.exit(timing.main("memory", Options, measure, shown))
