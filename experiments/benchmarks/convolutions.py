"""Speed and error of each form of a convolution's three operations, by layer, on a CPU.

    python -m experiments.benchmarks.convolutions

The forms are the direct one and minimal filtering with tiles of 2x2 and 4x4 outputs (`jaxgen.nn.minimal_filtering`).
Each runs in a loop, as in training, with the compiler options of training. An operation's error is the largest
difference from float64, as a share of the largest value. "Chosen" is what `best_tile` takes.
"""

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType


class Layer(NamedTuple):
    """A convolution with "SAME" padding."""

    size: int  # pixels a side of its input
    kernel: int
    stride: int
    channels: int
    features: int


LAYERS = {
    "dcgan-64-1": Layer(64, 4, 2, 3, 64),
    "dcgan-64-2": Layer(32, 4, 2, 64, 128),
    "dcgan-64-3": Layer(16, 4, 2, 128, 256),
    "dcgan-64-4": Layer(8, 4, 2, 256, 512),
    "dcgan-28-2": Layer(14, 4, 2, 64, 128),
    "3x3-32-wide": Layer(28, 3, 1, 32, 32),
    "3x3-128-wide": Layer(8, 3, 1, 128, 128),
    "3x3-stride-2": Layer(32, 3, 2, 32, 64),
    "5x5-stride-2": Layer(32, 5, 2, 32, 64),
}

STEPS = 4
"""Operations in one dispatch."""

LEAST = 0.3
"""Approximate minimum seconds of a timed call: there are many forms."""


@dataclass(frozen=True)
class Options:
    """Time the forms of convolutions on a CPU, and measure their errors."""

    layers: tuple[str, ...] = tuple(LAYERS)  # of those in LAYERS
    batch: int = 64  # images
    rounds: int = 5  # each times every form once


def measure(options: Options) -> dict[str, Any]:
    """Returns each form's timings, rate and error. Raises UserError for unknown layers, or on a GPU or TPU."""
    check_positive(options, "batch", "rounds")
    unknown = [name for name in options.layers if name not in LAYERS]
    if unknown or not options.layers:
        raise UserError(f"layers must be of {', '.join(LAYERS)}, not {', '.join(unknown) or 'none'}")
    import jax

    if jax.default_backend() != "cpu":
        raise UserError(f"the forms are for a CPU, not for a {jax.default_backend()}: set JAX_PLATFORMS=cpu")
    runs, found, chosen = {}, {}, {}
    for name in options.layers:
        timing.say(f"compiling {name}")
        chosen[name] = _prepare(name, LAYERS[name], options.batch, runs, found)
    timings = timing.interleaved(runs, options.rounds, least=LEAST)
    contenders = {
        name: timed.described() | found[name] | {"gflop_a_second": found[name]["gflop"] / timed.median}
        for name, timed in timings.items()
    }
    return {"matmul_gflop_a_second": timing.matmul_rate(), "chosen": chosen, "contenders": contenders}


def _prepare(name: str, layer: Layer, batch: int, runs: dict, found: dict) -> int | None:
    """Adds a layer's forms to `runs`, and their errors and operations to `found`; returns the chosen tile."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from jaxgen.nn import conv_forms, minimal_filtering
    from jaxgen.training.engine import compiler_options

    outputs = -(-layer.size // layer.stride)
    total = max((outputs - 1) * layer.stride + layer.kernel - layer.size, 0)
    pads = (total // 2, total - total // 2)
    geometry = conv_forms.Geometry((layer.size,) * 2, (layer.kernel,) * 2, (layer.stride,) * 2, (pads, pads))
    gflop = 2e-9 * batch * outputs**2 * layer.kernel**2 * layer.channels * layer.features
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, layer.size, layer.size, layer.channels))
    w = rng.standard_normal((layer.kernel, layer.kernel, layer.channels, layer.features))
    g = rng.standard_normal((batch, outputs, outputs, layer.features))
    options = compiler_options("cpu", "float32")
    wanted = _by_definition(x, w, g, layer.stride, pads)
    for operation, pair, exact in zip(("conv", "dx", "dw"), ((x, w), (g, w), (x, g)), wanted, strict=True):
        direct = getattr(conv_forms, f"direct_{operation}")
        minimal = getattr(minimal_filtering, f"minimal_{operation}")
        forms = {"direct": direct}
        if minimal_filtering.computes(geometry):
            forms |= {f"{tile}x{tile}": lambda *a, f=minimal, t=tile: f(*a, t) for tile in minimal_filtering.TILES}
        operands = [jnp.float32(a) for a in pair]
        for form, function in forms.items():
            one = jax.jit(lambda a, b, f=function: f(a, b, geometry), compiler_options=options)
            error = np.abs(np.asarray(one(*operands)) - exact).max() / np.abs(exact).max()

            def again(i, carry, f=function):
                a, b, y = carry
                a = a.at[0, 0, 0, 0].add(1e-30 * y[0, 0, 0, 0])  # so that no step is taken out of the loop
                return a, b, f(a, b, geometry)

            start = (*operands, jnp.zeros(exact.shape, jnp.float32))
            looped = jax.jit(lambda *c, again=again: lax.fori_loop(0, STEPS, again, c)[2], compiler_options=options)

            def run(steps, looped=looped, start=start):
                for _ in range(steps):
                    y = looped(*start)
                y.block_until_ready()

            key = f"{name} {operation} {form}"
            runs[key], found[key] = run, {"error": float(error), "gflop": STEPS * gflop}
    return minimal_filtering.best_tile(geometry, batch, layer.channels, layer.features)


def _by_definition(x, w, g, stride: int, pads: tuple[int, int]):
    """The convolution of x and w, and the gradients by x and by w with the cotangent g, in float64 by NumPy."""
    import numpy as np

    padded = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    y, dx, dw = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(w)
    for u, v in np.ndindex(w.shape[:2]):
        rows, columns = (slice(t, t + (n - 1) * stride + 1, stride) for t, n in ((u, g.shape[1]), (v, g.shape[2])))
        seen = padded[:, rows, columns]
        y += seen @ w[u, v]
        dx[:, rows, columns] += g @ w[u, v].T
        dw[u, v] = np.tensordot(seen, g, axes=((0, 1, 2), (0, 1, 2)))
    low, size = pads[0], x.shape[1]
    return y, dx[:, low : low + size, low : low + size], dw


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the rates and errors as a table, one row for each layer and operation."""
    from rich.console import Group
    from rich.table import Table

    forms = ("direct", "2x2", "4x4")
    rates = Table("layer", "operation", *forms, "chosen", title="useful GFLOP/s")
    errors = Table("layer", "operation", *forms, title="largest error, as a share of the largest value")
    for name, operation in itertools.product(result["chosen"], ("conv", "dx", "dw")):
        rows = [result["contenders"].get(f"{name} {operation} {form}") for form in forms]
        tile = result["chosen"][name]
        chosen = f"{tile}x{tile}" if tile else "direct"
        rates.add_row(name, operation, *(f"{row['gflop_a_second']:.4g}" if row else "" for row in rows), chosen)
        errors.add_row(name, operation, *(f"{row['error']:.1e}" if row else "" for row in rows))
    return Group(rates, errors, f"a matrix product: {result['matmul_gflop_a_second']:.4g} GFLOP/s")


if __name__ == "__main__":
    sys.exit(timing.main("convolutions", Options, measure, shown))
