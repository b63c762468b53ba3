"""Datasets by name: `load("digits")` gives decoded arrays, what a model is told of them, and a fingerprint.

`DATASETS` is the literal table of what there is. A row names the module that reads it, with one function,

    arrays(root: Path) -> (train, test)

from the cache folder to two dicts of arrays with a leading example axis, as the source has them. The
module is imported when the dataset is loaded, so that importing `jaxgen.data` costs no more than NumPy.
To add a dataset, write such a module and add a row.
"""

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.model import Spec

__all__ = ["DATASETS", "Dataset", "Info", "data_dir", "load", "table"]


class Dataset(NamedTuple):
    """A dataset, decoded once to arrays in memory."""

    name: str
    options: dict  # JSON-able; `load(name, **options)` gives the same dataset again
    spec: "Spec"  # of the train split
    train: dict[str, np.ndarray]  # image uint8 [examples, height, width, channels], label int32 [examples]
    test: dict[str, np.ndarray]
    fingerprint: str  # sha256 of the decoded content of both splits, `jaxgen.data.prepared.fingerprint`
    note: str  # one sentence: source, split and resampling as applied


class Info(NamedTuple):
    """A row of the table of datasets."""

    name: str
    what: str
    examples: tuple[int, int]  # train, test
    shape: tuple[int, int, int]  # native height, width, channels
    classes: int
    licence: str
    sizes: tuple[int, int]  # the smallest and largest `image_size`
    source: str  # how `Dataset.note` begins: source and split
    module: str  # has `arrays(root) -> (train, test)`
    folder: str  # where it is prepared, below `data_dir()`

    @property
    def prepared(self) -> bool:
        """Whether it lies prepared in the cache folder; if not, the first `load` prepares it."""
        return os.path.isdir(data_dir() / self.folder)  # Path.is_dir raises where it may not look


DATASETS = (
    Info(
        name="digits",
        what="handwritten digits scanned at 8x8, from scikit-learn (no download)",
        examples=(898, 899),
        shape=(8, 8, 1),
        classes=10,
        licence="CC BY 4.0",
        sizes=(8, 128),
        source="scikit-learn's load_digits (UCI optical recognition of handwritten digits, its test set), "
        "0..16 scaled to 0..255, split in fixed stratified halves",
        module="jaxgen.data.builders.digits.digits_builder",
        folder="tfds/digits/1.0.0",
    ),
)


def table() -> tuple[Info, ...]:
    """The datasets there are, a row each."""
    return DATASETS


def data_dir() -> Path:
    """The folder for prepared data: JAXGEN_DATA_DIR, or jaxgen's folder in the platform's cache.

    That is below XDG_CACHE_HOME or ~/.cache on Linux, ~/Library/Caches on macOS, and LOCALAPPDATA on Windows.
    """
    if chosen := os.environ.get("JAXGEN_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "jaxgen"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "jaxgen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxgen"


def load(name: str, *, image_size: int | None = None, binarize: bool = False) -> Dataset:
    """A dataset by name, prepared in `data_dir()` on first use and checked on every later one.

    Args:
      name: a name of `table()`.
      image_size: height and width in pixels; None for the dataset's own. Another size is made by Pillow's
        bicubic resampling of the uint8 images.
      binarize: after resizing, a pixel of 128 or more becomes 255 and any other 0.

    Raises:
      UserError: for an unknown name, a size the dataset has not, a cache folder that cannot be written, or
        prepared data that was damaged or changed.
    """
    from jaxgen.data import images
    from jaxgen.data.prepared import fingerprint

    info = _info(name)
    size = _size(info, image_size)
    splits = importlib.import_module(info.module).arrays(data_dir())

    note = info.source
    if size != info.shape[0]:
        splits = [split | {"image": images.resize(split["image"], size)} for split in splits]
        note += f", resized from {info.shape[0]}x{info.shape[1]} to {size}x{size} (Pillow, bicubic)"
    if binarize:
        splits = [split | {"image": images.binarize(split["image"])} for split in splits]
        note += ", binarised (128 and above is 255, the rest 0)"
    train, test = splits
    return Dataset(
        name=name,
        options={"image_size": size, "binarize": bool(binarize)},
        spec=_spec(train, info.classes),
        train=train,
        test=test,
        fingerprint=fingerprint(train, test),
        note=note + ".",
    )


def _info(name: str) -> Info:
    rows = {info.name: info for info in DATASETS}
    if name not in rows:
        close = difflib.get_close_matches(str(name), rows, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"unknown dataset {name!r}: there are {', '.join(sorted(rows))}{hint}")
    return rows[name]


def _size(info: Info, image_size: int | None) -> int:
    if image_size is None:
        return info.shape[0]
    smallest, largest = info.sizes
    is_integer = isinstance(image_size, (int, np.integer)) and not isinstance(image_size, bool)
    if not is_integer or not smallest <= image_size <= largest:
        raise UserError(
            f"image size {image_size!r}: dataset {info.name!r} has whole sizes from {smallest} to {largest}"
        )
    return int(image_size)


def _spec(train: dict[str, np.ndarray], num_classes: int) -> "Spec":
    import jax

    from jaxgen.model import Spec

    return Spec(
        entries={name: jax.ShapeDtypeStruct(entry.shape[1:], entry.dtype) for name, entry in train.items()},
        num_examples=len(train["label"]),
        num_classes=num_classes,
        class_shares=np.bincount(train["label"], minlength=num_classes) / len(train["label"]),
        mean=train["image"].mean(axis=0, dtype=np.float64) / 255,
    )
