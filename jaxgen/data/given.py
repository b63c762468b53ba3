"""Arrays that a program gives in place of a dataset's name, `Settings(dataset=arrays)`.

Their content names them: array/DIGEST is the same for the same arrays in every process. `jaxgen.data.readers.array`
reads them by that name once for each choice of options; from then on the cache of decoded data has them. A process
keeps the arrays until they are loaded, and those that were loaded last, for loading with other options.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.errors import UserError

DATASET = "array"

KEPT = 2
"""Number of datasets whose arrays are kept after loading."""

_GIVEN: dict[str, dict[str, np.ndarray]] = {}
"""Map from digest to the arrays, of this process."""

_LOADED: list[str] = []
"""Digests of those that are in the cache, the newest last."""


def named(arrays: Any) -> str:
    """The dataset's name of arrays: a dict or NamedTuple of them, or of dicts or NamedTuples, one a split.

    Raises:
      UserError: they are something else.
    """
    found = _flat(arrays, ())
    if found is None:
        raise UserError(
            f"a dataset is a name, a FILE.py, or a dict or NamedTuple of NumPy arrays, not {type(arrays).__name__}"
        )
    digest = _digest(found)
    _GIVEN[digest] = found
    return f"{DATASET}/{digest}"


def arrays_of(digest: str) -> dict[str, np.ndarray]:
    """The arrays by name.

    Raises:
      UserError: this process was not given them, or they were changed since.
    """
    if digest not in _GIVEN:
        raise UserError(
            f"{DATASET}/{digest} is of arrays given in Python, and is not in the cache folder with these options: give "
            "them again, by Settings(dataset=arrays)"
        )
    if _digest(_GIVEN[digest]) != digest:
        raise UserError(f"the arrays of dataset {DATASET}/{digest} were changed since they were given: give them again")
    return _GIVEN[digest]


def release(digest: str) -> None:
    """Drops the arrays of datasets that are in the cache, as `digest` now is, but for the newest."""
    if digest in _LOADED:
        _LOADED.remove(digest)
    _LOADED.append(digest)
    for old in _LOADED[:-KEPT]:
        _LOADED.remove(old)
        _GIVEN.pop(old, None)


def _flat(arrays: Any, names: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    """Map from name to array, of all levels; None if there is neither a dict nor a NamedTuple."""
    arrays = arrays._asdict() if hasattr(arrays, "_asdict") else arrays
    if not isinstance(arrays, Mapping):
        return None
    found = {}
    for name, value in arrays.items():
        path = (*names, str(name))
        below = _flat(value, path)
        found |= {"_".join(path): _array(value, " ".join(path))} if below is None else below
    return found


def _array(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # lists of different lengths, tensors of another device
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} of the dataset cannot be made an array: {reason}") from None
    is_text = array.dtype == object and all(isinstance(each, str) for each in array.flat)
    return array.astype(str) if is_text else array


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        if array.dtype != object:  # refused when it is read
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()[:16]
