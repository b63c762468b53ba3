"""Deformation features of meshes as further entries of a split, computed on first use and cached by content.

`data_dir()`/features has a folder for each kind of features of a split's meshes, named by their content:

    features.npy    float32 [n, size]
    sha256          of that file; features that do not match it are computed again
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.source import data_dir
from jaxgen.deformation import KINDS, Deformation, aligned, mean_shape, size
from jaxgen.errors import UserError
from jaxgen.progress import Progress

FORMAT = 1
"""Version of the features; incremented when the code computes others from the same meshes."""

LOOKED_AT = 100
"""Maximum number of training meshes that the reference is chosen from."""

AT_ONCE = 16
"""Meshes between two updates of the progress bar."""


class Meshes(dict):
    """A split whose meshes have features: entries named by their kind, computed when first read.

    Iteration has the stored entries only, so nothing is computed unasked.
    """

    def __init__(self, entries: dict[str, Any], faces: np.ndarray, reference: np.ndarray, target: np.ndarray):
        super().__init__(entries)
        self._faces, self._reference, self._target = faces, reference, target

    def __missing__(self, kind: str) -> np.ndarray:
        """Features of a kind, float32 [n, size]; raises UserError if the meshes have none."""
        if kind not in KINDS:
            raise KeyError(kind)
        self[kind] = _cached(self["mesh"], Deformation(self._reference, self._faces, kind, self._target))
        return self[kind]


def sizes(faces: np.ndarray, vertices: int) -> dict[str, int]:
    """Map from kind to number of features; without a kind that no mesh of these faces has."""
    found: dict[str, int] = {}
    for kind in KINDS:
        try:
            found[kind] = size(faces, vertices, kind)
        except UserError:  # three triangles at an edge
            continue
    return found


def reference_and_target(meshes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh that features are relative to, and the one that meshes are aligned to; float32 [V, 3] each.

    The target is the mean shape of evenly spaced training meshes, which may have no shape of its own where they are
    strongly deformed. The reference is the one of them that is closest to it.
    """
    some = np.asarray(meshes[np.unique(np.linspace(0, len(meshes) - 1, LOOKED_AT).astype(int))], np.float64)
    target = mean_shape(some)
    distances = ((aligned(some, target) - target) ** 2).sum((1, 2))
    return some[np.argmin(distances)].astype(np.float32), target.astype(np.float32)


def _cached(meshes: np.ndarray, deformation: Deformation) -> np.ndarray:
    digest = hashlib.sha256(f"{FORMAT} {deformation.kind} {meshes.shape}".encode())
    for array in (deformation.faces, deformation.reference, deformation.target, meshes):
        digest.update(np.ascontiguousarray(array))
    folder = data_dir() / "features" / digest.hexdigest()[:24]
    if (found := _stored(folder)) is None:
        _write(folder, _computed(meshes, deformation))
        found = _stored(folder)
    return found


def _computed(meshes: np.ndarray, deformation: Deformation) -> np.ndarray:
    found = np.empty((len(meshes), deformation.size), np.float32)
    with Progress(True) as bar:
        for start in bar.over(range(0, len(meshes), AT_ONCE), f"{deformation.kind} features of {AT_ONCE} meshes each"):
            found[start : start + AT_ONCE] = deformation.features(meshes[start : start + AT_ONCE])
    return found


def _stored(folder: Path) -> np.ndarray | None:
    """The features in a folder, memory-mapped; None if they are missing or damaged."""
    try:
        with (folder / "features.npy").open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == (folder / "sha256").read_text()
        return np.load(folder / "features.npy", mmap_mode="r") if whole else None
    except (OSError, ValueError):
        return None


def _write(folder: Path, features: np.ndarray) -> None:
    """Writes the files one after the other, each whole, so that a killed process leaves no wrong pair."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incomplete.", dir=folder) as temporary:
            part = Path(temporary) / "features.npy"
            np.save(part, features)
            with part.open("rb") as file:
                (Path(temporary) / "sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())
            for name in ("features.npy", "sha256"):
                os.replace(Path(temporary) / name, folder / name)
    except OSError as error:
        raise UserError(
            f"cannot write the data folder {data_dir()} ({error.strerror or error}): set JAXGEN_DATA_DIR to a folder "
            "that can be written"
        ) from error
