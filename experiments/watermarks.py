"""The watermark in pixels: how often it is found after changes, false alarms of one key, and forging.

    python -m experiments.watermarks /path/to/data --out experiments/results/watermarks.json

The folder holds mnist/, fashion_mnist/ (the published files) and cifar10_first4000/ (PNG files of stacked images), as
far as they are there; digits come with scikit-learn. Images of 64x64 pixels are four of CIFAR's in a square. A mark is
found at p < 1e-6, in single images of 8 bits. "Forged" are unmarked images that were given the mean of ten marked
images' features as a mark, of the same strength; "removed" are marked images from which it was taken by the same step.
A key's false alarms are the share of unmarked images with p < 1e-3, over keys: median, 90% and worst of 1,000.

Time: a minute on one core. Expected: next to nothing found at 8x8 and 16x16 pixels, and at 28x28 after binarizing; at
28x28 pixels and 38 dB nearly all, also after JPEG 90; all of 64x64 at 38 dB after JPEG 50; forging and removal succeed.

Measured with 100 images each (--num 100), in %:

    images       n   dB  clean  JPEG 90  75  50  x2  x1/2  noise 5  10  binarized  framed  forged  removed  worst key
    digits      38   34      0        0   0   0   0     0        0   0          0       0       0        -       11.0
    digits-16  136   34      1        0   0   0   0     0        0   0          0       0       0        -       10.0
    mnist      410   34    100      100  95  56 100    18       97  39          0      93     100      100        3.0
    mnist      410   38    100       97  59   9  97     1       63   2          0      72     100      100        3.0
    mnist      410   42     97       71   4   0  93     0        9   0          0      56      97      100        3.0
    fashion    410   38     87       74  22   3  73     1       37   2          0      50      69      100        4.0
    cifar10    528   38     93       91  77  20  88     4       91  81         10      42      86      100        2.0
    cifar10-64 2074  38    100      100 100  99 100    39      100 100         46     100     100      100        2.0
    cifar10-64 2074  42    100      100  96  56 100     4      100 100         17      94      96      100        2.0
"""

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from jaxgen import data
from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.provenance import watermark
from jaxgen.training.folder import write_json

KEY, LEVEL, STOLEN, KEYS = bytes(range(32)), 1e-6, 10, 1000

STRENGTHS = {"digits": (34.0,), "digits-16": (34.0,), "mnist": (34.0, 38.0, 42.0), "fashion_mnist": (38.0,)}
STRENGTHS |= {"cifar10": (38.0,), "cifar10-64": (38.0, 42.0)}
"""Map from images to the strengths of marks, in dB."""


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Images saved as JPEG and read."""
    changed = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
        changed.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.stack(changed)


def resized(images: np.ndarray, factor: float) -> np.ndarray:
    """Images made larger or smaller by a factor, and brought back to their size."""
    height, width = images.shape[1:3]
    size = (round(width * factor), round(height * factor))
    back = (Image.fromarray(image.squeeze()).resize(size, 3).resize((width, height), 3) for image in images)
    return np.stack([np.asarray(each) for each in back]).reshape(images.shape)


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    """Images with Gaussian noise."""
    noise = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def framed(images: np.ndarray) -> np.ndarray:
    """Images with 7% of each side replaced by black."""
    cut = round(0.07 * images.shape[1])
    inside = images[:, cut:-cut, cut:-cut]
    return np.pad(inside, ((0, 0), (cut, cut), (cut, cut), (0, 0)))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda images: images,
    "JPEG 90": lambda images: jpeg(images, 90),
    "JPEG 75": lambda images: jpeg(images, 75),
    "JPEG 50": lambda images: jpeg(images, 50),
    "x2, back": lambda images: resized(images, 2),
    "x1/2, back": lambda images: resized(images, 0.5),
    "noise 5": lambda images: noisy(images, 5),
    "noise 10": lambda images: noisy(images, 10),
    "binarized": lambda images: np.where(images >= 128, 255, 0).astype(np.uint8),
    "framed": framed,
}
"""Map from a column's title to a change of images uint8 [num, H, W, C]."""


def read(folder: Path, num: int) -> dict[str, np.ndarray]:
    """Map from name to the images that are there, uint8 [num, H, W, C]."""
    found = {
        "digits": data.load("digits").train["image"],
        "digits-16": data.load("digits", image_size=16).train["image"],
    }
    for name in ("mnist", "fashion_mnist"):
        file = folder / name / "t10k-images-idx3-ubyte.gz"
        if file.exists():
            found[name] = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    files = sorted((folder / "cifar10_first4000").glob("*.png"))
    if files:
        found["cifar10"] = np.concatenate([np.asarray(Image.open(file)).reshape(-1, 32, 32, 3) for file in files])
        squares = found["cifar10"].reshape(-1, 2, 2, 32, 32, 3).swapaxes(2, 3)
        found["cifar10-64"] = squares.reshape(-1, 64, 64, 3)
    return {name: images[:num] for name, images in found.items()}


def share_found(images: np.ndarray) -> float:
    """Share of images in which the key's mark is found."""
    return float(np.mean([watermark.p_value(image[None], KEY) < LEVEL for image in images]))


def stolen(marked: np.ndarray) -> np.ndarray:
    """Direction of the mark as estimated from marked images: the mean of their features, each of length 1."""
    f = watermark.features(marked.astype(np.float64))
    return (f / np.linalg.norm(f, axis=1, keepdims=True)).mean(0)


def false_alarms(images: np.ndarray) -> list[float]:
    """Share of unmarked images with p < 1e-3 by one key: median, 90% and worst over keys."""
    f = watermark.features(images.astype(np.float64))
    patterns = (watermark.pattern(i.to_bytes(32, "big"), f.shape[1]) for i in range(KEYS))
    counts = [np.mean(watermark.p_of_angle(f, u) < 1e-3) for u in patterns]
    return [float(np.quantile(counts, q)) for q in (0.5, 0.9, 1)]


def measure(images: np.ndarray, strength: float) -> dict[str, float | None]:
    """Shares found after each change and of forged images, and of the marks found the share that is removed."""
    marked = watermark.embed(images, KEY, strength)
    shares = {name: share_found(change(marked)) for name, change in CHANGES.items()}
    direction = stolen(marked[:STOLEN])
    forged = watermark.turned(images[STOLEN:], direction, strength)
    removed = watermark.turned(marked[STOLEN:], -direction, strength)
    there = share_found(marked[STOLEN:])
    return shares | {"forged": share_found(forged), "removed": 1 - share_found(removed) / there if there else None}


def compare(folder: Annotated[Path, tyro.conf.Positional], num: int = 300, out: Path | None = None) -> None:
    """The watermark in pixels: how often it is found after changes, false alarms of one key, and forging.

    Args:
        folder: holds mnist/, fashion_mnist/ and cifar10_first4000/
        num: images of each
        out: JSON file for the results
    """
    table = Table("images", "n", "dB", *CHANGES, "forged", "removed", "false alarms")
    rows: list[dict[str, Any]] = []
    for name, images in read(folder, num).items():
        alarms = false_alarms(images)
        for strength in STRENGTHS[name]:
            shares = measure(images, strength)
            size = watermark.size_of_band(*images.shape[1:3])
            rows.append({"images": name, "size": size, "db": strength, **shares, "false_alarms": alarms})
            shown = ["-" if share is None else f"{100 * share:.0f}" for share in shares.values()]
            table.add_row(name, str(size), f"{strength:.0f}", *shown, " / ".join(f"{each:.3f}" for each in alarms))
    Console(width=160).print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {"num": num, "rows": rows})
        print(out)


if __name__ == "__main__":
    try:
        parse(compare, sys.argv[1:], "python -m experiments.watermarks")
    except (UserError, OSError) as error_:  # OSError comes from writing --out
        sys.exit(fail(str(error_)))
