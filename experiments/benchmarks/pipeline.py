"""Speed of the input pipeline, alone and with a training step, for data in memory or read by grain while training.

    python -m experiments.benchmarks.pipeline
    python -m experiments.benchmarks.pipeline --pipeline grain --workers 2

Batches come from the training loop's own feed. For data in memory, the host draws the order of the examples, and the
chunk program gathers the batches on the device. With grain, a chunk's images are decoded while the device runs the
previous chunk, from PNG files that stay in the system's page cache once read. "Alone" times the feed with a step that
only reads its batch.
"""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxgen.errors import check_positive

from . import timing

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from jaxgen.data import Dataset
    from jaxgen.data.store import Images
    from jaxgen.model import Model
    from jaxgen.training.settings import Settings

DEFAULTS = {
    "memory": {"image_size": 28, "examples": 60_000, "chunk": 50},
    "grain": {"image_size": 64, "examples": 50_000, "chunk": 5},
}
"""Map from pipeline to the options' defaults."""

GOALS = {"memory": 500_000, "grain": 0.95}
"""Images of 28x28 per second, alone; and the rate of training fed by grain as a share of the rate in memory."""

LAST = 10**9
"""Last step of the phase, beyond any timing."""

SHEET = 1024
"""Minimum pixels a side of the sheet from which all pictures are cut."""


@dataclass(frozen=True)
class Options:
    """Time the input pipeline alone and with a DCGAN's training step.

    With data in memory, gray noise images, the goal is 500,000 images of 28x28 per second. With grain, color pictures
    in PNG files, the goal is 95% of the rate of training on the same pictures in memory.
    """

    pipeline: Literal["memory", "grain"] = "memory"  # data in memory, or read while training
    image_size: int | None = None  # pixels a side; if not given 28, with grain 64
    examples: int | None = None  # number of images; if not given 60,000, with grain 50,000
    batch: int = 64  # images a step
    features: int = 64  # channels of the DCGAN's largest hidden map
    chunk: int | None = None  # steps a dispatch, --log-every of a run; if not given 50, with grain 5
    workers: int = 0  # with grain: also time reading by this many processes, besides threads
    rounds: int = 7  # each times every contender once


def measure(options: Options) -> dict[str, Any]:
    """Returns the timings. Raises UserError for an image size that the DCGAN cannot make."""
    defaults = DEFAULTS[options.pipeline]
    given = {name: default for name, default in defaults.items() if getattr(options, name) is None}
    options = dataclasses.replace(options, **given)
    check_positive(options, "image_size", "examples", "batch", "features", "chunk", "rounds")
    result = in_memory(options) if options.pipeline == "memory" else by_grain(options)
    return {"arguments": dataclasses.asdict(options), "goal": GOALS[options.pipeline]} | result


def in_memory(options: Options) -> dict[str, Any]:
    """Times the feed alone and with the training step."""
    import numpy as np

    size = options.image_size
    images = np.random.default_rng(0).integers(0, 256, (options.examples, size, size, 1), dtype=np.uint8)
    data = dataset(images)
    models = {"pipeline": reader(), "training": gan(options, data)}
    with contextlib.ExitStack() as stack:
        runs = {name: stack.enter_context(fed(model, data, settings(options))) for name, model in models.items()}
        timings = timed(runs, options)
    share = timing.ratio(timings["pipeline"].seconds, timings["training"].seconds)
    return {"contenders": described(timings, options), "share_of_training": share}


def by_grain(options: Options) -> dict[str, Any]:
    """Times reading alone, and training with its data in memory and fed by grain."""
    ways = {"threads": settings(options)}
    if options.workers:
        ways[f"{options.workers} processes"] = settings(options, workers=options.workers)
    gan(options, dataset(cut_out(1, options.image_size)))  # raises for an impossible size before files are written
    with tempfile.TemporaryDirectory() as folder:
        timing.say(f"writing {options.examples:,} files")
        pictures = cut_out(options.examples, options.image_size)
        files = dataset(pictures, stored(Path(folder), pictures))
        model = gan(options, files)
        with contextlib.ExitStack() as stack:  # closed before training is timed, so that nothing reads ahead then
            runs = {
                f"reading by {way}": stack.enter_context(fed(reader(), files, chosen)) for way, chosen in ways.items()
            }
            timings = timed(runs, options)
        with contextlib.ExitStack() as stack:
            runs = {"training in memory": stack.enter_context(fed(model, dataset(pictures), settings(options)))}
            for way, chosen in ways.items():
                runs[f"training fed by {way}"] = stack.enter_context(fed(model, files, chosen))
            timings |= timed(runs, options)
    shares = {
        way: timing.ratio(timings["training in memory"].seconds, timings[f"training fed by {way}"].seconds)
        for way in ways
    }
    return {
        "contenders": described(timings, options),
        "share_of_rate_in_memory": shares,
        "kept_fed": {way: share["ratio"] >= GOALS["grain"] for way, share in shares.items()},
    }


def cut_out(count: int, size: int) -> "np.ndarray":
    """Cuts pictures, uint8 [count, size, size, 3], out of one sheet of noise with amplitude frequency**-1.25.

    PNG compresses them to three quarters of their size; small photographs compress to two thirds.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    side = max(SHEET, 2 * size)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf  # no mean
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3, side, side))) / frequency**1.25, (side, side))
    sheet = np.clip(128 + 64 * noise / noise.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    corners = rng.integers(0, side - size, (count, 2))
    return np.stack([sheet[top : top + size, left : left + size] for top, left in corners])


def stored(folder: Path, pictures: "np.ndarray") -> "Images":
    """Writes the pictures to PNG files and returns them as the dataset image_folder does: decoded when indexed."""
    from PIL import Image

    from jaxgen.data import Options
    from jaxgen.data.images import Transform
    from jaxgen.data.readers import image_folder
    from jaxgen.data.store import Images

    def write(path: str, picture: "np.ndarray") -> None:
        Image.fromarray(picture).save(folder / path)

    for split in ("train", "validation", "test"):
        (folder / split).mkdir()
        write(f"{split}/0.png", pictures[0])  # no split may be empty
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, [f"train/{n}.png" for n in range(len(pictures))], pictures))
    records = image_folder.read(Options(dataset="image_folder", data_from=str(folder))).splits["train"]
    return Images(records, list(range(len(records))), Transform(), pictures.shape[1:])


def dataset(pictures: "np.ndarray", files: "Images | None" = None) -> "Dataset":
    """Makes a dataset of pictures, in memory or streamed from `files`, which hold the same pictures."""
    import jax
    import numpy as np

    from jaxgen.data import Dataset
    from jaxgen.model import Spec

    entries = {"image": jax.ShapeDtypeStruct(pictures.shape[1:], pictures.dtype)}
    spec = Spec(entries, len(pictures), mean=pictures.mean(0, dtype=np.float64) / 255)
    train = {"image": pictures if files is None else files}
    return Dataset("made up", {}, spec, train, {}, {}, fingerprint="", note="", streamed=files is not None)


def gan(options: Options, data: "Dataset") -> "Model":
    """Makes the DCGAN that is trained."""
    from jaxgen.models import dcgan

    return dcgan.make(dcgan.Config(features=options.features), data.spec._replace(batch_size=options.batch))


def reader() -> "Model":
    """Makes a model whose step only reads its batch."""
    import jax.numpy as jnp

    from jaxgen.model import Model, Phase, State
    from jaxgen.nn.image import to_unit

    def read(key, state, batch):
        return state, {"mean": to_unit(batch["image"]).mean()}

    return Model(lambda key: State(jnp.int32(0), ()), (Phase("read", read),), needs=("image",))


def settings(options: Options, workers: int = 0) -> "Settings":
    """Returns the settings of a run."""
    from jaxgen.training.settings import Settings

    chosen = Settings(batch_size=options.batch, log_every=options.chunk, workers=workers)
    chosen.check()
    return chosen


@contextlib.contextmanager
def fed(model: "Model", data: "Dataset", settings: "Settings") -> Iterator[timing.Contender]:
    """Yields a model's training as a function of the number of chunks of `log_every` steps, ordered as in the loop.

    The operands of a call's first chunk were taken from the feed at the end of the previous call, as in mid-run.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgen.training import engine
    from jaxgen.training.feed import Feed

    phase, devices = model.phases[0], engine.mesh(len(settings.seeds), settings.batch_size)
    keys = engine.all_streams(settings.seeds)
    state, alive = engine.initial_state(model, keys.init), jnp.ones(len(settings.seeds), bool)
    program = engine.chunk_program(phase, engine.axis(settings.seeds_axis), settings.precision, devices)
    feed, every = Feed(data, model.needs, settings, devices), settings.log_every

    def stop_after(step: int) -> int:
        return min(step + feed.most, step - step % every + every)

    with feed.phase(phase, 0, 0, LAST) as take:
        step, stop = 0, stop_after(0)
        given = take(step, stop)

        def run(chunks: int) -> None:
            nonlocal state, alive, step, stop, given
            sums, end = None, step + chunks * every
            while step < end:
                before = sums
                state, alive, *sums = program(keys.train, state, alive, *given, np.int32(stop - step))
                jax.device_get(before)  # a chunk's metrics are fetched while the next chunk runs
                step, stop = stop, stop_after(stop)
                given = take(step, stop)
            jax.block_until_ready((state, sums))

        yield run


def timed(runs: Mapping[str, timing.Contender], options: Options) -> dict[str, timing.Timed]:
    """Times functions of a number of chunks, in seconds per step."""
    return {
        name: timing.Timed(chunks * options.chunk, [second / options.chunk for second in seconds])
        for name, (chunks, seconds) in timing.interleaved(runs, options.rounds).items()
    }


def described(timings: Mapping[str, timing.Timed], options: Options) -> dict[str, Any]:
    """Returns the timings for the JSON file."""
    return {
        name: timed.described() | {"images_a_second": options.batch / timed.median} for name, timed in timings.items()
    }


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the rates as a table."""
    from rich.console import Group
    from rich.table import Table

    given, goal = result["arguments"], result["goal"]
    size, how = given["image_size"], {"memory": "in memory", "grain": "in PNG files"}[given["pipeline"]]
    table = Table("contender", "images/s", title=f"{size}x{size} images {how}, batch {given['batch']}")
    for name, contender in result["contenders"].items():
        table.add_row(name, f"{contender['images_a_second']:,.0f}")
    if given["pipeline"] == "memory":
        share = result["share_of_training"]
        lines = [
            f"goal: {goal:,} images of 28x28 a second",
            f"the pipeline takes {share['ratio']:.2%} of a training step ({share['low']:.2%} to {share['high']:.2%})",
        ]
    else:
        lines = [f"goal: {goal:.0%} of the rate in memory"]
        for way, share in result["share_of_rate_in_memory"].items():
            kept = "kept fed" if result["kept_fed"][way] else "not kept fed"
            lines.append(f"by {way} {share['ratio']:.1%} ({share['low']:.1%} to {share['high']:.1%}): {kept}")
    return Group(table, *lines)


if __name__ == "__main__":
    sys.exit(timing.main("pipeline", Options, measure, shown))
