"""Images computed beforehand, for a page whose model only JAX can run: a walk through the latents, or draws."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxgen.drawing import mesh_images, to_png
from jaxgen.model import Condition
from jaxgen.pictures import latents
from jaxgen.pictures.kinds import MESH_SIDE, Asked, drawn_samples
from jaxgen.portable.live import STREAM, choices, seed_names, text_of
from jaxgen.training.draws import decoded, stream_keys
from jaxgen.training.folder import Run

STOPS, STEPS = 8, 8
"""Draws that a walk passes through, and images from each to the next."""


def walk(run: Run) -> Iterator[dict[str, Any]]:
    """Contents of a page of images made by JAX, as plain values: each one has half as many as the one before.

    A model with continuous latents gets a closed walk through draws of the prior; another one gets as many samples. A
    conditional model gets them for each class, or for a few captions, in each case from the same draws.
    """
    plan = run.plan
    offered = choices(plan.model, plan.dataset)
    continuous = plan.model.latents is not None and plan.model.latents.prior.kind != "discrete"
    make = _along if continuous else _drawn
    table = np.stack([make(run, choice.condition) for choice in offered], axis=1)  # [seeds, choices, images, ...]
    table = _pictured(run, table)
    while table.shape[2] > 1:
        yield {
            "kind": "walk",
            "continuous": continuous,
            "shape": table.shape[3:],
            "count": table.shape[2],
            "choices": [choice.name for choice in offered],
            "labels": "label" in plan.model.conditions,
            "seeds": [
                {"name": name, "images": text_of(_sprite(images))}
                for name, images in zip(seed_names(run), table, strict=True)
            ],
        }
        table = table[:, :, ::2]


def _along(run: Run, condition: Condition) -> np.ndarray:
    """A closed walk of every seed: images or meshes [seeds, STOPS * STEPS, ...]."""
    model = run.plan.model
    draws = latents.drawn(model, stream_keys(run, STREAM), run.state, STOPS)
    path = latents.PATHS.get(model.latents.prior.kind, latents.linear)
    shares = np.arange(STEPS) / STEPS
    codes = np.stack([path(of_seed, np.roll(of_seed, -1, axis=0), shares) for of_seed in draws])
    codes = codes.reshape(len(codes), STOPS * STEPS, *codes.shape[3:])
    return decoded(model, run.state, codes, _repeated(condition))


def _drawn(run: Run, condition: Condition) -> np.ndarray:
    """Samples of every seed, [seeds, STOPS * STEPS, ...]."""
    keys = stream_keys(run, STREAM)
    made = drawn_samples(run, Asked(), keys, STOPS * STEPS, _repeated(condition))
    return np.asarray(made[run.plan.dataset.spec.subject])


def _repeated(condition: Condition) -> Condition:
    return jax.tree.map(lambda entry: np.repeat(entry, STOPS * STEPS, axis=0), condition)


def _pictured(run: Run, table: np.ndarray) -> np.ndarray:
    """Images of a table [seeds, choices, images, ...] of images, or of meshes."""
    spec = run.plan.dataset.spec
    if spec.subject == "image":
        return table
    images = mesh_images(table.reshape(-1, *table.shape[3:]), spec.faces, MESH_SIDE)
    return images.reshape(*table.shape[:3], *images.shape[1:])


def _sprite(images: np.ndarray) -> np.ndarray:
    """The PNG file of images [choices, count, H, W, C] side by side, a row per choice, as uint8."""
    rows, columns, height, width, channels = images.shape
    picture = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    return np.frombuffer(to_png(picture), np.uint8)
