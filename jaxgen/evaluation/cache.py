"""Cache of scores, keyed by content: a score is not computed twice for the same inputs."""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgen.data import data_dir
from jaxgen.evaluation.extractor import digest


def cached(depends: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the cached result for this key (JSON-able, arrays as their `content`), or computes and caches it."""
    words = json.dumps(depends, sort_keys=True)
    path = data_dir() / "scores" / f"{hashlib.sha256(words.encode()).hexdigest()}.json"
    try:
        scores = json.loads(path.read_text())
        if isinstance(scores, dict):
            return scores
    except (OSError, ValueError):  # missing or damaged
        pass
    scores = compute()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when complete, so that a killed process leaves no partial file.
        part.write_text(json.dumps(scores))
        part.replace(path)
    except OSError:  # an unwritable cache costs time, not scores
        part.unlink(missing_ok=True)
    return scores


def content(**arrays: np.ndarray | None) -> str:
    """sha256 (hex) of named arrays; those that are None are left out."""
    return digest({name: array for name, array in arrays.items() if array is not None})
