"""Images that a file of samples shows, and their places among the run's samples."""

import io
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxgen.drawing import PADDING, cut, legible_scale
from jaxgen.provenance.credentials import FORMATS
from jaxgen.training.folder import Run

UNREADABLE = (OSError, ValueError, KeyError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error)
UNREADABLE += (Image.DecompressionBombError, tokenize.TokenError, RuntimeError, MemoryError)
"""Errors of Pillow and NumPy on files that are damaged or hold something else; RuntimeError of encrypted archives."""

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read; Pillow would run another program on some of the others."""

NEARLY_GRAY = 4
"""Mean range of a pixel's channels up to which a picture is gray for a run of gray images: compression adds color."""


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
        pixels = _pixels(content)
    except UnidentifiedImageError:  # its words name an object of Python
        return Shown(None, reason=f"no images in it: cannot identify image file as {', '.join(PICTURES)} or npz")
    except UNREADABLE as error:
        return Shown(None, reason=f"no images in it: {' '.join(str(error).split())}")
    channels = run.plan.dataset.spec.image_shape[2] if run and run.plan.dataset.spec.subject == "image" else 0
    if np.ptp(pixels, axis=2).mean() <= (NEARLY_GRAY if channels == 1 else 0):  # gray, saved as RGB
        pixels = pixels.mean(2, keepdims=True).round().astype(np.uint8)
    if channels and pixels.shape[2] == 1:
        pixels = pixels.repeat(channels, axis=2)
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


def _pixels(content: bytes) -> np.ndarray:
    """Pixels of a picture: uint8 [H, W, 1 or 3]."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=PICTURES) as picture:
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes below the limit
        if getattr(picture, "n_frames", 1) > 1:
            raise ValueError("it is an animation")
        if picture.mode[0] in "IF":
            raise ValueError("its pixels have more than 8 bits")
        if picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError("it is transparent in places, so that what it shows depends on what is behind")
        pixels = np.asarray(picture.convert("L" if picture.mode in ("L", "1", "LA") else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _arrays(content: bytes) -> Shown:
    with np.load(io.BytesIO(content)) as arrays:
        images, seeds = arrays["image"], arrays["seed"]
    if not (isinstance(images, np.ndarray) and isinstance(seeds, np.ndarray)):  # of another form, NumPy gives bytes
        raise ValueError("its members are not arrays")
    whole = images.size and seeds.dtype.kind in "iu"
    if not whole or images.dtype != np.uint8 or images.ndim != 4 or seeds.shape != images.shape[:1]:
        raise ValueError("its arrays are not those of samples")
    seeds = seeds.astype(np.int64)
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
