"""Images that a file of samples shows, and their places among the run's samples."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxgen.drawing import PADDING, cut, legible_scale
from jaxgen.provenance.credentials import FORMATS
from jaxgen.training.folder import Run

UNREADABLE = (OSError, ValueError, KeyError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error)
UNREADABLE += (Image.DecompressionBombError,)
"""Errors of Pillow and NumPy on files that are damaged or hold something else."""


class Shown(NamedTuple):
    """The images that a file shows."""

    images: np.ndarray | None  # uint8 [num, H, W, C]; None if the file shows none that can be told apart
    places: np.ndarray | None = None  # int [num, 2], the seed and the index of each, if known
    reason: str = ""  # why there are none


def shown_by(content: bytes, described: Mapping[str, Any], run: Run | None) -> Shown:
    """The images of a file: a grid of samples is cut by its description or, without one, by the run's sizes."""
    if described.get("kind", "samples") != "samples":
        return Shown(None, reason=f"a picture of kind {described['kind']}, not of samples")
    try:
        if content.startswith(FORMATS[".npz"][0]):
            return _arrays(content)
        with Image.open(io.BytesIO(content)) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ValueError("it is an animation")
            pixels = np.asarray(picture.convert("L" if picture.mode in ("L", "1", "LA") else "RGB"))
    except UNREADABLE as error:
        return Shown(None, reason=f"no images in it: {' '.join(str(error).split())}")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if (pixels == pixels[..., :1]).all():  # gray, saved as RGB
        pixels = pixels[..., :1]
    if run is not None and run.plan.dataset.spec.subject == "image" and pixels.shape[2] == 1:
        pixels = pixels.repeat(run.plan.dataset.spec.image_shape[2], axis=2)
    if "index" in described:
        return Shown(pixels[None], np.array([[described["seed"], described["index"]]]))
    grid = described.get("grid") or _grid(run)
    try:
        images = cut(pixels, (grid["height"], grid["width"]), grid["scale"], grid["seeds"]) if grid else None
    except ValueError:
        images = None
    if images is None:
        return Shown(pixels[None])
    num = grid.get("num") or images.shape[1] - _blank(images) or images.shape[1]
    seeds = [int(seed) for seed in described["seeds"].split()] if described else run.plan.settings.seeds
    images = images[:, :num].reshape(-1, *images.shape[2:])
    if not described and len(images) == 1:  # any sample, not necessarily the first
        return Shown(images)
    return Shown(images, np.array([(seed, index) for seed in seeds for index in range(num)]))


def _arrays(content: bytes) -> Shown:
    with np.load(io.BytesIO(content)) as arrays:
        images, seeds = arrays["image"], arrays["seed"]
    whole = images.size and seeds.dtype.kind in "iu"
    if not whole or images.dtype != np.uint8 or images.ndim != 4 or seeds.shape != images.shape[:1]:
        raise ValueError("its arrays are not those of samples")
    indices = [int((seeds[:i] == seed).sum()) for i, seed in enumerate(seeds)]
    return Shown(images, np.stack([seeds, indices], axis=1))


def _grid(run: Run | None) -> dict[str, int] | None:
    if run is None or run.plan.dataset.spec.subject != "image":
        return None
    height, width, _ = run.plan.dataset.spec.image_shape
    scale = legible_scale(height)
    return {"height": height, "width": width, "scale": scale, "seeds": len(run.plan.settings.seeds)}


def _blank(images: np.ndarray) -> int:
    """Number of last places [grids, places, ...] that are gray in all grids, up to the errors of compression."""
    gray = np.abs(images.astype(int) - PADDING).mean((0, 2, 3, 4)) < 4
    return int(np.argmin([*gray[::-1], False]))
