"""The interface of dataset readers: the splits of a source, before any transform.

A reader is a module with two functions of `Options`:

    identity(options) -> str      cheap; changes whenever the content may have changed
    read(options) -> Source       the content

The result of `read` is decoded, transformed and cached (`jaxgen.data.store`) under a key made of the options and
the identity, so the same options and identity must give the same content.
"""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgen.errors import UserError

SPLITS = ("train", "validation", "test")


class BadExampleError(UserError):
    """An example that cannot be decoded; the message names its file or index."""


class Records(Protocol):
    """Examples that are decoded on access; picklable, since worker processes read them too."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Entries of one example: image uint8 [H, W, C], label int, caption str. Raises BadExampleError, naming it."""
        ...

    def name(self, index: int) -> str:
        """Name of an example in messages: its file, or its index."""
        ...


Examples = Mapping[str, np.ndarray] | Records
"""Examples of one split: decoded arrays with a leading example axis (`caption` of str), or records."""


class Source(NamedTuple):
    """A dataset as its reader returns it."""

    splits: Mapping[str, Examples]  # train, validation and test, in this order
    note: str  # source and splits, as a part of a sentence: no full stop
    classes: Sequence[str] = ()  # their names, by label; none where there are no labels
    faces: np.ndarray | None = None  # int32 [faces, 3], the vertices of each triangle; meshes only
    sliced: bool = False  # whether the splits are already those that the options ask for
    skipped: Mapping[str, int] | None = None  # number of examples that the reader left out, by split
    compared: bool = False  # whether to report images that are in several splits, as for a user's own


def repeated(contents: Mapping[str, Sequence[bytes]]) -> str:
    """Counts of the examples that are in two splits, as part of a note; "" if there are none.

    Args:
      contents: map from split to a digest of the content of each of its examples.
    """
    sets = {split: set(those) for split, those in contents.items()}
    found = [
        f"{count:,} of {later} {'is' if count == 1 else 'are'} in {earlier} too"
        for earlier, later in itertools.combinations(contents, 2)
        if (count := sum(each in sets[earlier] for each in contents[later]))
    ]
    return f"duplicates: {', '.join(found)}" if found else ""


def passed_over(others: Counter[str]) -> str:
    """Counts of the files that a reader ignores, by suffix ("" for none, "folder"), as part of a note."""
    counts = [f"{count:,} {suffix or 'without suffix'}" for suffix, count in sorted(others.items())]
    return f"passed over: {', '.join(counts)}" if counts else ""


def data_dir() -> Path:
    """The folder for prepared data: JAXGEN_DATA_DIR, or jaxgen's folder in the platform's cache.

    The cache is XDG_CACHE_HOME or ~/.cache on Linux, ~/Library/Caches on macOS, and LOCALAPPDATA on Windows.
    Raises UserError if the user has no home folder and no variable names another.
    """
    try:
        if chosen := os.environ.get("JAXGEN_DATA_DIR"):
            return Path(chosen).expanduser().absolute()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "jaxgen"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "jaxgen"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxgen"
    except RuntimeError as error:  # the user has no home, as in some containers
        raise UserError(f"no folder for prepared data ({error}): JAXGEN_DATA_DIR names one") from None
