"""Writes a run's metrics.jsonl, TensorBoard events and sample grids, and sends the same to W&B."""

import itertools
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data import Dataset
from jaxgen.drawing import image_grid, legible_scale, mesh_images, point_image, to_png
from jaxgen.model import Condition, Model
from jaxgen.training.folder import DIVERGED, EVENTS, METRICS, SAMPLES, write_json
from jaxgen.training.rows import read_rows
from jaxgen.training.tracking import WandbWriter

GRID = {"image": 64, "point": 1000, "mesh": 16}  # approximate samples per grid
CLOUD_SIDE, MESH_SIDE = 240, 160  # pixels per side of a picture of points, and of one mesh


class Record:
    """Writes a run's rows and pictures; on resuming, first drops the rows after `step`.

    described: the run as config.json holds it. wandb: the W&B project that receives the same, or None.
    """

    def __init__(self, path: Path, described: dict[str, Any], step: int, wandb: str | None):
        self._path, self._seeds, self._described = path, tuple(described["settings"]["seeds"]), described
        self._wandb, self._tracked = wandb, {}
        kept = [row for row in read_rows(path / METRICS) if row["step"] <= step]
        # Written atomically, so that a stop before the next row loses none.
        part = path / (METRICS + ".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in kept))
        part.replace(path / METRICS)
        self._rows = (path / METRICS).open("a")
        self._purge = {"purge_step": step + 1} if (path / EVENTS).exists() else {}

    @cached_property
    def _events(self):
        from tensorboardX import SummaryWriter  # takes a second: it imports PyTorch if it can

        events = {seed: SummaryWriter(str(self._path / EVENTS / f"seed-{seed}"), **self._purge) for seed in self._seeds}
        if not self._purge:
            lines = json.dumps(self._described, indent=2).splitlines()
            for writer in events.values():  # indented: preformatted text in Markdown
                writer.add_text("config", "\n".join("    " + line for line in lines), 0)
        return events

    def _writers(self, seed: int) -> list[Any]:
        return [self._events[seed], *([self._tracked[seed]] if self._tracked else [])]

    def __enter__(self) -> "Record":
        try:
            for seed in self._seeds if self._wandb else ():  # now, so that a refusal by W&B costs no training
                self._tracked[seed] = WandbWriter(self._wandb, self._path, self._described, seed)
        except BaseException:
            self._close(failed=True)
            raise
        return self

    def __exit__(self, kind, *_) -> None:
        self._close(failed=kind is not None)

    def _close(self, failed: bool) -> None:
        self._rows.close()
        if "_events" in vars(self):  # opened by a write
            for writer in self._events.values():
                writer.close()
        for writer in self._tracked.values():
            writer.close(failed)

    def metrics(self, step: int, phase: str, rows: dict[int, dict[str, float]]) -> None:
        """Writes one row per seed, of its `means`."""
        for seed, row in rows.items():
            self._rows.write(json.dumps({"step": step, "seed": seed, "phase": phase, **row}) + "\n")
            for writer, (name, value) in itertools.product(self._writers(seed), row.items()):
                writer.add_scalar(name, value, step)
        self._rows.flush()

    def diverged(self, seeds: dict[int, dict[str, Any]]) -> None:
        """Writes the step and the batch's examples for all seeds that have diverged so far."""
        write_json(self._path / DIVERGED, seeds)

    def samples(self, step: int, images: np.ndarray, columns: int) -> None:
        """Writes one PNG grid per seed; images uint8 [seeds, num, H, W, C]."""
        for seed, some in zip(self._seeds, images, strict=True):
            grid = image_grid(some, columns)
            file = grid_file(self._path, seed, step)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(to_png(grid, legible_scale(some.shape[1])))
            for writer in self._writers(seed):
                writer.add_image("samples", grid, step, dataformats="HWC")


def means(seeds: tuple[int, ...], sums: dict[str, np.ndarray], steps: np.ndarray) -> dict[int, dict[str, float]]:
    """Map from seed to its mean metrics over its `steps` [seeds]; seeds without steps (diverged) are left out."""
    return {
        seed: {name: float(values[i] / steps[i]) for name, values in sums.items()}
        for i, seed in enumerate(seeds)
        if steps[i]
    }


def grid_file(run: Path, seed: int, step: int) -> Path:
    """Path of a run's sample grid of a seed and step."""
    return run / SAMPLES / f"seed-{seed}" / f"step-{step:07d}.png"


def grid_steps(run: Path, seeds: tuple[int, ...]) -> list[int]:
    """Steps, in order, at which a run has the sample grids of all these seeds."""
    files = grid_file(run, seeds[0], 0).parent.glob("step-*.png")
    steps = sorted(int(number) for file in files if (number := file.stem.removeprefix("step-")).isdecimal())
    return [step for step in steps if all(grid_file(run, seed, step).is_file() for seed in seeds)]


def grid_condition(model: Model, dataset: Dataset, num: int | None = None) -> tuple[int, int, Condition]:
    """Returns (number, columns, condition [num]) of a grid of about `num` samples.

    A model conditioned on labels gets one row per class; one conditioned on captions gets one row per caption, for the
    first distinct captions of the test images. Points are all drawn in one picture.
    """
    spec = dataset.spec
    if "caption" in model.conditions:
        columns = max(1, math.isqrt(num or GRID[spec.subject]))
        captions = np.asarray(dataset.test["caption"])
        first = np.sort(np.unique(captions, axis=0, return_index=True)[1])[:columns]
        return len(first) * columns, columns, {"caption": captions[first].repeat(columns, axis=0)}
    if "label" in model.conditions:
        columns = max(1, (num or GRID[spec.subject]) // spec.num_classes)
        labels = np.repeat(np.arange(spec.num_classes, dtype=np.int32), columns)
        return len(labels), columns, {"label": labels}
    num = num or GRID[spec.subject]
    return num, 1 if spec.subject == "point" else int(np.ceil(np.sqrt(num))), {}


def pictured(dataset: Dataset, samples: Mapping[str, np.ndarray]) -> np.ndarray:
    """Samples [seeds, num, ...] of the dataset's subject as images uint8 [seeds, n, H, W, C].

    Points give one image per seed, of the training points' bounding box enlarged by half. Meshes are drawn one by one.
    """
    subject = dataset.spec.subject
    return {"image": _images, "point": _clouds, "mesh": _meshes}[subject](dataset, samples[subject])


def _images(dataset: Dataset, images: np.ndarray) -> np.ndarray:
    return images


def _clouds(dataset: Dataset, clouds: np.ndarray) -> np.ndarray:
    least, largest = dataset.spec.bounds
    around = np.stack([1.25 * least - 0.25 * largest, 1.25 * largest - 0.25 * least])
    return np.stack([[point_image(points, CLOUD_SIDE, around)] for points in clouds])


def _meshes(dataset: Dataset, meshes: np.ndarray) -> np.ndarray:
    return np.stack([mesh_images(some, dataset.spec.faces, MESH_SIDE) for some in meshes])
