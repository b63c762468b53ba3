"""Samples of a finished run, as a picture or as arrays."""

import io
from pathlib import Path

import jax
import numpy as np

from jaxgen import models
from jaxgen.errors import UserError
from jaxgen.pictures import image_grid, legible_scale, to_png
from jaxgen.training import seeds as seed_axis
from jaxgen.training.record import GRID, grid_condition
from jaxgen.training.run import open_run


def sample(run: str | Path, *, num: int = GRID, out: str | Path | None = None) -> Path:
    """Draws `num` samples of every seed of a run into a file; the same call draws the same samples.

    Args:
        run: the run folder.
        num: samples of each seed; rounded down to a whole number a class where the model is
            conditional, and then sorted by class.
        out: a .png (the seeds' grids one below the other, small images enlarged) or .npz file (image uint8
            [seeds * num, H, W, C], seed int64, and the condition's entries); RUN/samples.png if not given.

    Returns:
        The file.

    Raises:
        UserError: a model that cannot sample, a file of another kind, or one that exists with
            another content.
    """
    opened = open_run(run)
    plan = opened.plan
    out = Path(out) if out else opened.path / "samples.png"
    if out.suffix not in (".png", ".npz"):
        raise UserError(f"samples are written as .png or .npz, not as {out.name!r}")
    if plan.model.sample is None:
        able = models.that_can("sample", plan.dataset.spec)
        raise UserError(f"{plan.model_name} cannot sample; models that can: {', '.join(able)}")
    least = plan.dataset.spec.num_classes if "label" in plan.model.conditions else 1
    if num < least:
        raise UserError(f"--num must be at least {least}{', one a class' if least > 1 else ''}, not {num}")

    num, columns, condition = grid_condition(plan.model, plan.dataset.spec, num)
    seeds = plan.settings.seeds
    # The training's grids take the stream's keys themselves.
    keys = jax.vmap(jax.random.fold_in, (0, None))(seed_axis.all_streams(seeds).sample, 2**31)
    batch = seed_axis.sampler(plan.model)(keys, opened.state, num, condition)
    if out.suffix == ".png":
        grids = [image_grid(images, columns) for images in batch["image"]]
        gap = np.zeros((4, *grids[0].shape[1:]), np.uint8)
        rows = [part for grid in grids for part in (grid, gap)][:-1]
        content = to_png(np.concatenate(rows), legible_scale(plan.dataset.spec.image_shape[0]))
    else:
        buffer = io.BytesIO()
        flat = {name: entry.reshape(-1, *entry.shape[2:]) for name, entry in batch.items()}
        np.savez_compressed(buffer, **flat, seed=np.repeat(np.asarray(seeds, np.int64), num))
        content = buffer.getvalue()
    if out.exists() and out.read_bytes() != content:
        raise UserError(f"{out} exists with another content; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(content)
    return out
