"""Galleries of a comparison's page: grids of images as data URIs, with their labels."""

import base64
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.drawing import PADDING, image_grid, legible_scale, to_png

LOSSY = 90  # WebP's quality if pictures cannot be kept lossless
WEBP_SIDE = 16_383  # pixels, the format's maximum
STRIP = 8  # maximum steps in a strip
ACROSS = 10  # pairs per row of nearest images


def saved_steps(pictures: dict) -> list[int]:
    """Steps at which any row of a table has grids."""
    frames = [frames for row in pictures.get("rows", {}).values() for frames in row["progress"].values()]
    return sorted({step for saved in frames for step in saved})


def thinned(items: list, most: int) -> list:
    """Returns at most `most` (2 or more) items, evenly chosen, always with the first and the last."""
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def source(png: bytes, scale: int, lossless: bool, sign: Callable[..., bytes] | None = None, **shown) -> dict:
    """Converts a PNG file for the page: {src, width, height}, with its own bytes or WebP's, whichever are fewer.

    Args:
      png: the file's bytes.
      scale: the side of a pixel in CSS pixels.
      lossless: keep every pixel as it is.
      sign: signs the file that is embedded, as `jaxgen.report.sealing.signer` returns it.
      **shown: what the picture shows, for `sign`: table, gallery, arm, seed and step.
    """
    image = Image.open(io.BytesIO(png))
    kind, data = "png", png
    if max(image.size) <= WEBP_SIDE:
        file = io.BytesIO()
        image.save(file, format="WEBP", lossless=lossless, quality=80 if lossless else LOSSY)
        kind, data = min((kind, data), ("webp", file.getvalue()), key=lambda of: len(of[1]))
    if sign:
        data = sign(data, **shown)
    return {
        "src": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        "width": scale * image.width,
        "height": scale * image.height,
    }


def galleries(pictures: dict, diverged: dict, kept: set[int], encode: Callable[..., dict]) -> list[dict]:
    """The galleries of a table, each {key, title, note, arms: [{name, figures}]}.

    A figure is {seed, diverged, frames: [{step, src, width, height, alt}], labels}: the frames share one place,
    where the last is shown at first; the labels stand beside the rows of all frames.

    Args:
      pictures: the table's pictures, as `write_report` takes them.
      diverged: {row name: its diverged seeds}.
      kept: the steps shown, besides the first and the last of every seed.
      encode: `source` with `lossless`, `sign` and `table` bound.
    """
    rows = pictures.get("rows", {})
    real = pictures.get("real")
    has_real = real is not None and len(real) > 0
    shown = {
        name: {seed: _shown_steps(frames, kept) for seed, frames in row["progress"].items()}
        for name, row in rows.items()
    }

    def figure(name, seed, frames, labels=None):
        return {"seed": seed, "diverged": seed in diverged.get(name, ()), "frames": frames, "labels": labels}

    def frame(images, columns, alt, **shown):
        png = to_png(image_grid(images, columns))
        return {"step": None, "alt": alt, **encode(png, legible_scale(images.shape[1]), **shown)}

    def arms(figures_of: Callable[[str, dict], Iterable[dict]]):
        found = ({"name": name, "figures": list(figures_of(name, row))} for name, row in rows.items())
        return [arm for arm in found if arm["figures"]]

    def progress(name, row):
        for seed, frames in row["progress"].items():
            files = [
                {
                    "step": step,
                    "alt": f"samples of {name}, seed {seed}, step {step:,}",
                    # enlarged when it was written
                    **encode(Path(frames[step]).read_bytes(), 1, gallery="samples", arm=name, seed=seed, step=step),
                }
                for step in shown[name][seed]
            ]
            yield figure(name, seed, files, row["classes"])

    def strips(name, row):
        for seed, frames in row["progress"].items():
            steps = thinned(shown[name][seed], STRIP)
            lines = [_line(frames[step], row, real.shape[1:3]) for step in steps] if has_real else []
            if len(lines) > 1 and all(line is not None for line in lines):
                alt = f"{name}, seed {seed}: the same noise, by step"
                strip = frame(np.concatenate(lines), len(lines[0]), alt, gallery="strips", arm=name, seed=seed)
                yield figure(name, seed, [strip], [f"{step:,}" for step in steps])

    def interpolations(name, row):
        for seed, images in (row["interpolation"] or {}).items():
            flat = images.reshape(-1, *images.shape[2:])
            alt = f"interpolations of {name}, seed {seed}"
            paths = frame(flat, images.shape[1], alt, gallery="interpolations", arm=name, seed=seed)
            yield figure(name, seed, [paths], row["path_labels"])

    def nearest(name, row):
        for seed, (samples, neighbors) in (row["nearest"] or {}).items():
            parts = [range(i, min(i + ACROSS, len(samples))) for i in range(0, len(samples), ACROSS)]
            blank = np.full((-len(samples) % len(parts[0]), *samples.shape[1:]), PADDING, np.uint8)
            lines = [images[part] for part in parts for images in (samples, neighbors)]
            lines[-2:] = [np.concatenate([line, blank]) for line in lines[-2:]]
            alt = f"samples of {name}, seed {seed}, and below each its nearest training image"
            pairs = frame(np.concatenate(lines), len(parts[0]), alt, gallery="nearest", arm=name, seed=seed)
            yield figure(name, seed, [pairs], ["sample", "nearest"] * len(parts))

    def captioned(name, row):
        for seed, picture in (row.get("captioned") or {}).items():
            alt = f"test images above the captions that {name}, seed {seed}, writes"
            encoded = encode(to_png(picture), 1, gallery="captioned", arm=name, seed=seed)
            yield figure(name, seed, [{"step": None, "alt": alt, **encoded}])

    samples = arms(progress)
    if has_real:
        columns = next((row["columns"] for row in rows.values()), 8)
        real_images = figure("real", None, [frame(real, columns, f"{len(real)} real examples", gallery="real")])
        samples.insert(0, {"name": "real examples", "figures": [real_images]})
    with_paths = any(row["path_labels"] for row in rows.values())
    with_classes = any(row["classes"] for row in rows.values())
    every = [
        (
            "samples",
            "Samples",
            "The same noise at every step: moving the step shows each sample take shape."
            + (" A row is a class, or a caption, where the model is given one." if with_classes else ""),
            samples,
        ),
        (
            "strips",
            "From the same noise, step by step",
            "A column is one noise, a row a step: the first samples of the grids above"
            + (" (the first of each class or caption)." if with_classes else "."),
            arms(strips),
        ),
        (
            "interpolations",
            "Interpolations",
            "A row leads from one latent to another."
            + (" Below it is the straight path of the vertices between its ends." if with_paths else ""),
            arms(interpolations),
        ),
        (
            "captioned",
            "Written captions",
            "Test images above the captions that the model writes; of scenes of shapes a last line says whether the "
            "caption is true.",
            arms(captioned),
        ),
        (
            "nearest",
            "Nearest training images",
            "Below each sample the training image nearest to it: a copy would show here.",
            arms(nearest),
        ),
    ]
    return [
        {"key": key, "title": title, "note": note if len(found) > has_real else "", "arms": found}
        for key, title, note, found in every
        if found
    ]


def _shown_steps(frames: dict, kept: set) -> list[int]:
    """Steps of a seed that are kept, with its own first and last."""
    steps = sorted(frames)
    return [step for step in steps if step in kept or step in (steps[0], steps[-1])]


def _line(file: Path, row: dict, shape: tuple[int, int]) -> np.ndarray | None:
    """First row of a saved grid, or the first image of each class: uint8 [n, H, W, C].

    The grid may be enlarged by a whole number. None if it is not a grid of such images.
    """
    grid = np.asarray(Image.open(file))
    grid = grid.reshape(*grid.shape[:2], -1)
    height, width = shape
    scale, rest = divmod(grid.shape[1], row["columns"] * (width + 1) - 1)
    if scale == 0 or rest:
        return None
    padded = np.pad(grid[::scale, ::scale], ((0, 1), (0, 1), (0, 0)))
    if padded.shape[0] % (height + 1):
        return None
    cells = padded.reshape(-1, height + 1, row["columns"], width + 1, padded.shape[2]).swapaxes(1, 2)
    cells = cells[:, :, :-1, :-1]
    return cells[:, 0][:ACROSS] if row["classes"] else cells[0]
