"""The pictures of a comparison's page: real images, samples at every saved step, nearest training images, curves."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.data import Dataset
from jaxgen.drawing import spread
from jaxgen.metrics.neighbors import nearest_distances
from jaxgen.model import Condition
from jaxgen.pictures.kinds import Asked, interpolation, written_captions
from jaxgen.pictures.latents import PATHS
from jaxgen.training import Run, engine, folder
from jaxgen.training.record import GRID, grid_condition, pictured
from jaxgen.training.rows import read_rows

PAIRS, STEPS = 4, 8  # rows and columns of a seed's interpolations
NEAREST = 8  # samples per seed (at least one per class) whose nearest training images are shown
STREAM = 2**31 - 1
"""Fold of a seed's `sample` stream for those samples; neither training grids nor `jaxgen sample` use it."""


def pictures(runs: dict[str, Run], dataset: Dataset) -> dict[str, Any]:
    """Pictures of a dataset's runs (by arm) for `write_report`: "real", "rows" by arm, and "curves" by arm."""
    subject, train = dataset.spec.subject, dataset.train
    rows = spread(GRID[subject], dataset.spec.num_examples, train.get("label"))
    real = pictured(dataset, {subject: train[subject][rows][None]})
    return {
        "real": real[0],
        "curves": {name: _curves(run.path) for name, run in runs.items()},
        "rows": {name: _row(run, dataset) for name, run in runs.items() if run.plan.model.sampler},
    }


def _row(run: Run, dataset: Dataset) -> dict[str, Any]:
    _, columns, condition = grid_condition(run.plan.model, dataset)
    return {
        "progress": _saved(run.path / folder.SAMPLES),
        "columns": columns,
        "classes": _words(dataset, condition, columns),
        "interpolation": _interpolation(run),
        "path_labels": ["decoded", "straight"] * PAIRS if dataset.spec.subject == "mesh" else None,
        "captioned": _captioned(run) if "caption" in run.plan.model.predict else None,
        "nearest": _nearest(run, dataset) if dataset.spec.subject == "image" else None,
    }


def _words(dataset: Dataset, condition: Condition, columns: int) -> list[str] | None:
    """What each row of a grid of samples is given: its class, or its caption; None if nothing."""
    if "caption" in condition:
        return dataset.vocabulary.decode(condition["caption"][::columns])
    return list(dataset.classes) or None if "label" in condition else None


def _interpolation(run: Run) -> dict[int, np.ndarray] | None:
    """{seed: images uint8 [rows, steps, H, W, C] between draws of the prior}; None if the model has no such path.

    Below each row of meshes is that of the straight path of vertices between its ends.
    """
    latents, dataset = run.plan.model.latents, run.plan.dataset
    subject = dataset.spec.subject
    if subject == "point" or latents is None or latents.prior.kind not in PATHS:
        return None
    arrays = interpolation(run, Asked(num=PAIRS, steps=STEPS)).arrays
    table = arrays[subject]  # [seeds, rows, steps, ...]
    if subject == "mesh":
        table = np.stack([table, arrays["straight"]], axis=2).reshape(len(table), -1, *table.shape[2:])
    images = pictured(dataset, {subject: table.reshape(len(table), -1, *table.shape[3:])})
    images = images.reshape(*table.shape[:3], *images.shape[2:])
    return dict(zip(run.plan.settings.seeds, images, strict=True))


def _captioned(run: Run) -> dict[int, np.ndarray]:
    """{seed: test images above the captions written of them, one picture uint8 [H, W, C]}."""
    return dict(zip(run.plan.settings.seeds, written_captions(run, Asked()).grids, strict=True))


def _saved(path: Path) -> dict[int, dict[int, Path]]:
    """{seed: {step: grid}} of a run's samples."""
    found: dict[int, dict[int, Path]] = {}
    for file in sorted(path.glob("seed-*/step-*.png")):
        seed, step = (int(re.sub(r"\D", "", part)) for part in (file.parent.name, file.stem))
        found.setdefault(seed, {})[step] = file
    return found


def _nearest(run: Run, dataset: Dataset) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """{seed: (samples, their nearest training images by pixels)}."""
    seeds, train = run.plan.settings.seeds, dataset.train["image"][:]
    keys = jax.vmap(jax.random.fold_in, (0, None))(engine.all_streams(seeds).sample, STREAM)
    num, _, condition = grid_condition(run.plan.model, dataset, NEAREST)
    some = engine.sampler(run.plan.model)(keys, run.state, num, engine.alike(condition, len(seeds)))["image"]
    flat = train.reshape(len(train), -1).astype(np.float32)
    return {
        seed: (each, train[nearest_distances(each.reshape(len(each), -1).astype(np.float32), flat).indices])
        for seed, each in zip(seeds, some, strict=True)
    }


def _curves(path: Path) -> dict[str, dict[int, tuple[list, list]]]:
    """{metric: {seed: (steps, values)}} of a run's rows."""
    curves: dict[str, dict[int, tuple[list, list]]] = {}
    for row in read_rows(path / folder.METRICS):
        for name, value in row.items():
            if name not in ("step", "seed", "phase"):
                steps, values = curves.setdefault(name, {}).setdefault(row["seed"], ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves
