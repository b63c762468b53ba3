"""Subsets of the training examples that keep their labels or captions, for semi-supervised learning.

Each position in the training split has a fixed 64-bit number, a hash of the position. The examples with the smallest
numbers are kept, so that a larger subset holds a smaller one. Of labels, each class's smallest come first.
"""

import hashlib
from typing import Any

import numpy as np

from jaxgen.data.options import Options
from jaxgen.errors import UserError

ALL_LABELS = "all_labels"
"""Entry of a training split with the labels that `labels` hides from models; evaluation uses it."""

STREAMS = {"label": 0, "caption": 1}
"""Map from entry to the first word of its hashes' seed."""


def kept(entry: str, num: int, examples: int, subset: int = 0, labels: np.ndarray | None = None) -> np.ndarray:
    """Positions of the examples that keep an entry, ascending: int [num].

    Args:
      entry: "label" or "caption".
      num: number of examples that keep it.
      examples: number of training examples.
      subset: each number chooses others.
      labels: int [examples]; the classes' shares of the subset then differ by at most one example, unless a class has
        too few.

    Raises:
      UserError: `num` exceeds the examples, or is less than one for each class.
    """
    if num > examples:
        raise UserError(f"{entry}s must be at most {examples}, the training examples, not {num}")
    number = np.random.Philox(np.random.SeedSequence([STREAMS[entry], subset])).random_raw(examples)
    rank = np.zeros(examples, int)  # within the class
    if labels is not None:
        classes = np.unique(labels)
        if num < len(classes):
            raise UserError(f"{entry}s must be at least {len(classes)}, one for each class, not {num}")
        for label in classes:
            members = np.flatnonzero(labels == label)
            rank[members[np.argsort(number[members])]] = np.arange(len(members))
    return np.sort(np.lexsort((number, rank))[:num])


def told(entry: str, rows: np.ndarray, examples: int, subset: int) -> str:
    """The choice as a part of a note: how many, and the sha256 of the positions as int64, little-endian."""
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:12]
    return (
        f"; {entry}s of {len(rows):,} of the {examples:,} training examples kept (subset {subset}, positions' sha256 "
        f"{digest}...)"
    )


def hide(train: dict[str, Any], options: Options) -> tuple[np.ndarray | None, str]:
    """Hides the labels and captions of all training examples but those that `options` keeps, in place.

    A hidden label is -1, a hidden caption has no words.

    Returns:
      positions of the examples that keep a label or a caption, ascending, or None if nothing is hidden; and what was
      kept, as a part of a note.

    Raises:
      UserError: as `kept` does.
    """
    every, note = [], ""
    for entry, num, nothing in (("label", options.labels, -1), ("caption", options.captions, "")):
        if num is not None:
            whole = np.asarray(train[entry], np.int32 if entry == "label" else object)
            rows = kept(entry, num, len(whole), options.subset or 0, whole if entry == "label" else None)
            train[entry] = np.full_like(whole, nothing)
            train[entry][rows] = whole[rows]
            if entry == "label":
                train[ALL_LABELS] = whole
            every.append(rows)
            note += told(entry, rows, len(whole), options.subset or 0)
    return (np.unique(np.concatenate(every)) if every else None), note
