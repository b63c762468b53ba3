"""Description of a run's dataset in its folder, so that the run can be opened without the data.

dataset.json    name, options, fingerprint, note, classes, and the fields of `Spec` other than arrays
dataset.npz     the arrays of `Spec`, if any: mean image, faces, reference mesh, the mixture's centers, bounds
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import data
from jaxgen.data.source import SPLITS
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.errors import UserError
from jaxgen.model import Spec

UNREADABLE = OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error
"""Errors raised on reading JSON and npz files that are damaged or have unexpected content."""

DESCRIPTION, ARRAYS, VOCABULARY = "dataset.json", "dataset.npz", "vocabulary.json"


class LaterSplit(Mapping):
    """A split whose examples are loaded on first use."""

    def __init__(self, names: tuple[str, ...], load: Callable[[], Mapping[str, Any]]):
        self._names, self._load = names, load  # names of the entries are known without loading

    def __getitem__(self, name: str) -> Any:
        return self._load()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def save(folder: Path, dataset: data.Dataset) -> None:
    """Writes the files into `folder`."""
    spec = dataset.spec
    content = {
        "name": dataset.name,
        "options": dataset.options,
        "fingerprint": dataset.fingerprint,
        "note": dataset.note,
        "classes": list(dataset.classes),
        "streamed": dataset.streamed,
        "entries": {name: [list(entry.shape), str(entry.dtype)] for name, entry in spec.entries.items()},
        "num_examples": spec.num_examples,
        "num_classes": spec.num_classes,
        "num_words": spec.num_words,
        "binary": spec.binary,
        "deviation": spec.mixture and float(spec.mixture[1]),
    }
    arrays = {
        "mean": spec.mean,
        "faces": spec.faces,
        "reference": spec.reference,
        "bounds": spec.bounds,
        "centers": spec.mixture and spec.mixture[0],
    }
    arrays = {name: array for name, array in arrays.items() if array is not None}
    (folder / DESCRIPTION).write_text(json.dumps(content | {"sha256": _sha256(content, arrays)}, indent=2) + "\n")
    if arrays:
        np.savez_compressed(folder / ARRAYS, **arrays)
    if dataset.vocabulary:
        dataset.vocabulary.save(folder / VOCABULARY)


def restore(folder: Path, asked: str) -> data.Dataset:
    """Restores the dataset from the files in `folder`; its examples are loaded on first use, by the name `asked`.

    Raises:
        UserError: the files are missing or were changed; later, on use of an example: the data can no longer be
            read, or differ from those that the run was trained on.
    """
    try:
        content = described(folder)
        digest = content.pop("sha256")
        arrays = {}
        if (folder / ARRAYS).exists():
            with np.load(folder / ARRAYS) as file:
                arrays = dict(file.items())
        if _sha256(content, arrays) != digest:
            raise ValueError("not as they were written (sha256)")
        deviation = content["deviation"]
        spec = Spec(
            entries={
                name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
                for name, (shape, dtype) in content["entries"].items()
            },
            num_examples=content["num_examples"],
            num_classes=content["num_classes"],
            mean=arrays.get("mean"),
            binary=content["binary"],
            num_words=content["num_words"],
            faces=arrays.get("faces"),
            reference=arrays.get("reference"),
            bounds=arrays.get("bounds"),
            mixture=None if deviation is None else (arrays["centers"], deviation),
        )
        names, load = tuple(content["entries"]), cache(partial(loaded, folder, content, asked))
        splits: dict[str, Any] = {split: LaterSplit(names, partial(_split, load, split)) for split in SPLITS}
        return data.Dataset(
            name=content["name"],
            options=content["options"],
            spec=spec,
            **splits,
            fingerprint=content["fingerprint"],
            note=content["note"],
            classes=tuple(content["classes"]),
            vocabulary=Vocabulary.load(folder / VOCABULARY) if (folder / VOCABULARY).exists() else None,
            streamed=content["streamed"],
        )
    except UNREADABLE as error:
        raise UserError(f"cannot read what {folder} keeps of its dataset ({DESCRIPTION}, {ARRAYS}): {error}") from None


def described(folder: Path) -> dict[str, Any]:
    """Content of dataset.json; raises UserError if it cannot be read."""
    try:
        return json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {folder / DESCRIPTION}: {error}") from None


def loaded(folder: Path, content: Mapping[str, Any], asked: str) -> data.Dataset:
    """Loads the run's dataset with its examples.

    Args:
        folder: the run's.
        content: that of dataset.json.
        asked: the dataset as the run's settings name it: of a user's own Python file, with its folder.

    Raises:
        UserError: the examples are lost or have changed.
    """
    try:
        found = data.load(asked, progress=False, **content["options"])
    except UserError as error:
        raise UserError(f"the data of {folder} cannot be read: {error}") from None
    if found.fingerprint != content["fingerprint"]:
        raise UserError(f"the data of {folder}, dataset {found.name}, have changed since it was trained (fingerprint)")
    return found


def _split(load: Callable[[], data.Dataset], split: str) -> Mapping[str, Any]:
    return getattr(load(), split)


def _sha256(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
