"""Time and memory of a mesh VAE on meshes of many vertices: features, a training step, and meshes of features.

    python -m experiments.benchmarks.meshes --features rimd

The meshes are bars of finer rings. Memory is the largest that the process has held up to the end of each part.
"""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

AROUND = 103
"""Vertices of a ring, for round bars of 26,719 vertices: those of ICT FaceKit's heads."""


@dataclass(frozen=True)
class Options:
    """Time a mesh VAE on large meshes."""

    features: Literal["aligned", "rimd", "gradients"] = "rimd"  # of the model
    vertices: int = 26_719  # of a mesh, to within half a ring
    meshes: int = 16  # whose features are computed, and that are reconstructed; the batch of a training step
    rounds: int = 5  # training steps that are timed


def measure(options: Options) -> dict[str, Any]:
    """Returns seconds and peak memory of each part."""
    check_positive(options, "meshes", "rounds")
    if options.vertices < 10 * AROUND:
        raise UserError(f"vertices must be at least {10 * AROUND}, not {options.vertices}")
    import jax
    import numpy as np

    from jaxgen.data.readers import bars
    from jaxgen.deformation import Deformation, aligned
    from jaxgen.model import Spec
    from jaxgen.models import meshvae

    rings = round((options.vertices - 2) / AROUND) - 2 * len(bars.DOME) + 2
    with mock.patch.multiple(bars, AROUND=AROUND, BODY=rings):
        drawn, faces = bars._draw(np.random.default_rng(0), options.meshes)["mesh"], bars.faces()
    parts: dict[str, dict[str, float]] = {}

    def timed(name, function, times=1):
        start = time.perf_counter()
        for _ in range(times):
            made = function()
        seconds = (time.perf_counter() - start) / times
        parts[name] = {"seconds": seconds, "peak_bytes": timing.peak_bytes()}
        return made

    deformation = timed("factorization", lambda: Deformation(drawn[0], faces, options.features))
    features = timed("features, a mesh", lambda: deformation.features(drawn))
    made = timed("meshes of features, a mesh", lambda: deformation.meshes(features))
    for name in ("features, a mesh", "meshes of features, a mesh"):
        parts[name]["seconds"] /= options.meshes
    entries = {
        "mesh": jax.ShapeDtypeStruct(drawn.shape[1:], np.float32),
        options.features: jax.ShapeDtypeStruct(features.shape[1:], np.float32),
    }
    spec = Spec(entries, len(drawn), faces=faces, reference=drawn[0], batch_size=options.meshes)
    model = meshvae.make(meshvae.Config(features=options.features), spec)
    batch = {options.features: np.float32(features), "weight": np.ones(len(features), np.float32)}
    state = jax.jit(model.init)(jax.random.key(0))
    state = model.phases[0].enter(jax.random.key(1), state, [batch])
    step = jax.jit(model.phases[0].step, donate_argnums=1)
    state = jax.block_until_ready(step(jax.random.key(2), state, batch))[0]

    def trained():
        nonlocal state
        state = jax.block_until_ready(step(jax.random.key(3), state, batch))[0]

    timed("training step", trained, options.rounds)
    diagonal = np.linalg.norm(np.ptp(drawn[0], axis=0))
    target = deformation.target

    error = np.linalg.norm(made - aligned(drawn, target), axis=-1).mean() / diagonal
    return {
        "vertices": int(drawn.shape[1]),
        "triangles": len(faces),
        "numbers": int(features.shape[1]),
        "parts": parts,
        "headline": {"error_percent": 100 * float(error)},
    }


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the parts as a table."""
    from rich.console import Group
    from rich.table import Table

    given = result["arguments"]
    title = f"{given['features']}: {result['vertices']:,} vertices, {result['numbers']:,} features a mesh"
    table = Table("", "s", "peak GiB", title=title)
    for name, part in result["parts"].items():
        table.add_row(name, f"{part['seconds']:.3g}", f"{part['peak_bytes'] / 2**30:.2f}")
    return Group(table, f"meshes of features are {result['headline']['error_percent']:.2g}% of the diagonal away")


if __name__ == "__main__":
    sys.exit(timing.main("meshes", Options, measure, shown))
