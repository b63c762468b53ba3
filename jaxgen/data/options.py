"""Data options of a run: the dataset, and the transforms of its examples before a model sees them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxgen.data.given import named
from jaxgen.errors import UserError

LARGEST = 4096
"""Largest `crop` and `image_size`, in pixels a side; more is a mistake."""

MOST_WORKERS = 256
"""Largest `workers`; more processes are a mistake, which could take all memory."""


@dataclass(frozen=True)
class Options:
    """A dataset and how it is read; every field is recorded in a run's config.

    From Python `dataset` may also be arrays (`jaxgen.data.given`); the field then holds their name.
    """

    dataset: str = "digits"  # a name from `jaxgen data list`, with /CONFIG if it has several, tfds:NAME, or FILE.py
    data_from: str | None = None  # the folder or file of yours that image_folder, array and their like read
    columns: tuple[str, ...] | None = None  # of hf_folder: the columns to read, if types and names do not tell
    train_split: str | None = None  # in TFDS's slicing syntax, e.g. train[:10%]; the dataset's own if not given
    validation_split: str | None = None  # the same for the split that selects checkpoints
    test_split: str | None = None  # the same for the split that is scored
    split_blocks: int | None = None  # this many consecutive images or meshes (say, video frames) share a split
    skip_bad: bool = False  # leave out, and count, files that cannot be decoded; an error otherwise
    drop_duplicates: bool = False  # leave out meshes that repeat an earlier one; an error if of different splits
    max_pixels: int | None = None  # pixels of the largest image file accepted; 250,000,000 if not given
    image_bits: int | None = None  # bits used by 16-bit gray images: 12 for values up to 4095; all if not given
    crop: int | None = None  # pixels a side of the center square cut out before resizing
    image_size: int | None = None  # pixels a side, antialiased; of non-square images the center square is used
    pad: int = 0  # rows and columns of zeros added on every side, after resizing
    channels: Literal[1, 3] | None = None  # gray or color; the dataset's own if not given
    binarize: Literal["threshold", "dynamic"] | None = None  # 255 from 128 on, else 0; or sampled by the gray level
    flip: bool = False  # mirror training images left to right with probability 1/2, drawn anew each step
    max_objects: int | None = None  # objects in a scene of shapes or shapes_32, 1 to 3; up to 3 if not given
    caption_length: int | None = None  # words per caption, truncated or padded; the longest in training if not given
    vocabulary_size: int | None = None  # keep the most frequent words of the training captions; all if not given
    labels: int | None = None  # keep this many training examples' labels, of all classes alike; -1 elsewhere
    captions: int | None = None  # keep the captions of this many training examples; the others have no words
    subset: int | None = None  # whose labels and captions are kept: each number chooses others; 0 if not given
    pipeline: Literal["auto", "memory", "grain"] = "auto"  # decoded first, read while training, or by size
    workers: int = 0  # reader processes of pipeline grain; 0 for threads of this process

    def __post_init__(self):
        """Turns arrays given as the dataset into their name."""
        if not isinstance(self.dataset, str):
            object.__setattr__(self, "dataset", named(self.dataset))

    def check(self) -> None:
        """Raises UserError for a value out of range."""
        if self.data_from == "":
            raise UserError("data from must name a folder, not ''")
        least = {"crop": 1, "image_size": 1, "pad": 0, "caption_length": 1, "vocabulary_size": 1, "workers": 0}
        least |= {"split_blocks": 1, "max_pixels": 1, "image_bits": 8, "max_objects": 1}
        least |= {"labels": 1, "captions": 1, "subset": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < smallest):
                raise UserError(f"{name.replace('_', ' ')} must be a whole number from {smallest} on, not {value!r}")
        greatest = {"crop": LARGEST, "image_size": LARGEST, "image_bits": 16, "workers": MOST_WORKERS, "max_objects": 3}
        for name, most in greatest.items():
            if (getattr(self, name) or 0) > most:
                raise UserError(f"{name.replace('_', ' ')} must be at most {most}, not {getattr(self, name)}")
        if self.subset is not None and self.labels is None and self.captions is None:
            raise UserError("subset only applies with --labels or --captions")

    @property
    def dataset_name(self) -> str:
        """The dataset's name, without its config; of a file, without its folder."""
        return Path(self.dataset).name if self.dataset.endswith(".py") else self.dataset.partition("/")[0]

    @property
    def dataset_config(self) -> str:
        """The config after the name's /; "" if there is none."""
        return "" if self.dataset.endswith(".py") else self.dataset.partition("/")[2]

    @property
    def shown(self) -> str:
        """The dataset in words: its name, with its config."""
        return f"{self.dataset_name}/{self.dataset_config}".rstrip("/")

    @property
    def data_folder(self) -> Path | None:
        """`data_from` as a path."""
        return None if self.data_from is None else Path(os.path.expanduser(self.data_from))
