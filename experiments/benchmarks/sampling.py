"""Speed of sampling from autoregressive models with a cache, against a full forward pass per pixel.

    python -m experiments.benchmarks.sampling

Both programs are those of the model: `sampler.draw`, and `likelihood.log_prob`, which is one pass over whole images.
Sampling without a cache takes a pass per pixel; that time is the time of one pass times the number of pixels.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jaxgen.errors import check_positive

from . import timing

if TYPE_CHECKING:
    from rich.console import RenderableType

CACHED, FORWARD = "cached sampling", "one forward pass"

GOALS = {"pixelcnn": 100, "pixelrnn": 100, "transformer": 50}
"""Minimum speed-up of each model at 28x28 pixels."""


@dataclass(frozen=True)
class Options:
    """Time cached sampling against a forward pass per pixel."""

    model: Literal["pixelcnn", "pixelrnn", "transformer"] = "pixelcnn"  # its config has the defaults except for these
    image_size: int = 28  # pixels a side, of binary images
    batch: int = 64  # images drawn at once
    features: int = 32  # of the model's layers; dim of the Transformer
    layers: int = 7  # of the model
    rounds: int = 5  # each times both once


def measure(options: Options) -> dict[str, Any]:
    """Returns the timings of both."""
    check_positive(options, "image_size", "batch", "features", "layers", "rounds")
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgen import models
    from jaxgen.model import Spec

    shape = (options.image_size, options.image_size, 1)
    spec = Spec({"image": jax.ShapeDtypeStruct(shape, np.uint8)}, 1000, binary=True)
    module = models.load(options.model)
    width = "dim" if options.model == "transformer" else "features"
    model = module.make(module.Config(**{width: options.features}, layers=options.layers), spec)
    state = jax.jit(model.init)(jax.random.key(0))
    draw = jax.jit(lambda key: model.sampler.draw(key, state, options.batch, {})["image"])
    score = jax.jit(lambda image: model.likelihood.log_prob(None, state, {"image": image}))
    image = jnp.zeros((options.batch, *shape), jnp.uint8)

    def cached(steps):
        for n in range(steps):
            made = draw(jax.random.key(n))
        made.block_until_ready()

    def forward(steps):
        for _ in range(steps):
            nats = score(image)
        nats.block_until_ready()

    timings = timing.interleaved({CACHED: cached, FORWARD: forward}, options.rounds)
    pixels = options.image_size**2
    uncached = [pixels * seconds for seconds in timings[FORWARD].seconds]
    return {
        "contenders": {name: timed.described() for name, timed in timings.items()},
        "headline": timing.ratio(uncached, timings[CACHED].seconds) | {"goal": GOALS[options.model]},
        "images_a_second": options.batch / timings[CACHED].median,
    }


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the timings and their ratio as a table."""
    from rich.console import Group
    from rich.table import Table

    given, ratio = result["arguments"], result["headline"]
    side = given["image_size"]
    table = Table("", "ms", title=f"{given['model']} {side}x{side}, {given['batch']} images at once")
    for name, contender in result["contenders"].items():
        table.add_row(name, f"{1e3 * contender['median']:.4g}")
    times = f"{ratio['ratio']:.0f} times as fast as a pass per pixel ({ratio['low']:.0f} to {ratio['high']:.0f})"
    return Group(table, f"{times}; the goal is {ratio['goal']}", f"{result['images_a_second']:.0f} images per second")


if __name__ == "__main__":
    sys.exit(timing.main("sampling", Options, measure, shown))
