"""Images computed beforehand, for a page whose model only JAX can run: a walk through the latents, or draws."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxgen.drawing import mesh_images, to_png
from jaxgen.model import Condition, Spec
from jaxgen.pictures import latents
from jaxgen.pictures.kinds import MESH_SIDE, Asked, drawn_samples
from jaxgen.portable.live import STREAM, choices, seed_names, text_of
from jaxgen.training.draws import decoded, stream_keys
from jaxgen.training.folder import Run

STOPS, STEPS = 8, 8
"""Draws that a walk passes through, and images from each to the next."""

PACKED = 0.5
"""Bytes of a PNG file for a byte of its pixels, estimated."""


def walk(run: Run, largest: int) -> Iterator[dict[str, Any]]:
    """Contents of a page of images made by JAX, as plain values, each one smaller than the one before.

    A model with continuous latents gets a closed walk through draws of the prior; another one gets as many samples. A
    conditional model gets them for each class, or for a few captions, in each case from the same draws.

    Args:
        run: the run.
        largest: maximum size of the page in bytes; no more images are drawn than should fit into it.
    """
    plan, offered = run.plan, choices(run.plan.model, run.plan.dataset)
    continuous = plan.model.latents is not None and plan.model.latents.prior.kind != "discrete"
    numbers = [*falling(len(plan.settings.seeds), len(offered))]
    fitting = [each for each in numbers if np.prod(each) * _estimated(plan.dataset.spec) <= largest] or numbers[-1:]
    seeds, classes, count = fitting[0]
    drawing, make = _of_first(run, seeds), _along if continuous else _drawn
    made = [make(drawing, _repeated(choice.condition, count), count) for choice in offered[:classes]]
    table = _pictured(run, np.stack(made, axis=1))  # [seeds, choices, images, ...]
    for seeds, classes, count in fitting:
        images = table[:seeds, :classes, :: table.shape[2] // count]
        yield {
            "kind": "walk",
            "continuous": continuous,
            "shape": images.shape[3:],
            "count": count,
            "choices": [choice.name for choice in offered[:classes]],
            "offered": len(offered),
            "labels": "label" in plan.model.conditions,
            "seeds": [
                {"name": name, "images": text_of(_sprite(of_seed))}
                for name, of_seed in zip(seed_names(run), images, strict=False)
            ],
        }


def falling(seeds: int, classes: int) -> Iterator[tuple[int, int, int]]:
    """Numbers of seeds, of choices and of images of each, from all of them to two images."""
    count = STOPS * STEPS
    yield seeds, classes, count
    while seeds > 1 or classes > 1 or count > 2:
        if count > STOPS or seeds == classes == 1:
            count //= 2
        elif classes > 1:
            classes = (classes + 1) // 2
        else:
            seeds -= 1
        yield seeds, classes, count


def _estimated(spec: Spec) -> float:
    """Estimated size of an image in a page, in bytes: three bytes of a PNG file are four of base64."""
    shape = spec.image_shape if spec.subject == "image" else (MESH_SIDE, MESH_SIDE, 3)
    return PACKED * np.prod(shape) * 4 / 3


def _of_first(run: Run, num: int) -> Run:
    """The run with its first seeds alone."""
    settings = dataclasses.replace(run.plan.settings, seeds=run.plan.settings.seeds[:num])
    return run._replace(
        plan=run.plan._replace(settings=settings), state=jax.tree.map(lambda leaf: leaf[:num], run.state)
    )


def _along(run: Run, condition: Condition, num: int) -> np.ndarray:
    """A closed walk of every seed: images or meshes [seeds, num, ...]."""
    model, stops = run.plan.model, min(STOPS, num)
    draws = latents.drawn(model, stream_keys(run, STREAM), run.state, stops)
    path = latents.PATHS.get(model.latents.prior.kind, latents.linear)
    shares = np.arange(num // stops) / (num // stops)
    codes = np.stack([path(of_seed, np.roll(of_seed, -1, axis=0), shares) for of_seed in draws])
    return decoded(model, run.state, codes.reshape(len(codes), num, *codes.shape[3:]), condition)


def _drawn(run: Run, condition: Condition, num: int) -> np.ndarray:
    """Samples of every seed, [seeds, num, ...]."""
    made = drawn_samples(run, Asked(), stream_keys(run, STREAM), num, condition)
    return np.asarray(made[run.plan.dataset.spec.subject])


def _repeated(condition: Condition, num: int) -> Condition:
    return jax.tree.map(lambda entry: np.repeat(entry, num, axis=0), condition)


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
