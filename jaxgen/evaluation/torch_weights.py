"""Reads the weights in a PyTorch file (.pth) without PyTorch, and without running any code that the file holds."""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import UserError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first object in a file of the format before PyTorch 1.6."""

DTYPES = {"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "LongStorage": "int64"}
"""Map from a readable class of storage to its dtype."""


class Storage(NamedTuple):
    """A flat array that tensors are views of; its values are stored outside the pickle."""

    key: str
    dtype: str


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict as `torch.save` writes it, in the zip format or the one before PyTorch 1.6.

    Both hold a pickle of the names and of each tensor's storage, offset, shape and strides, and beside it the
    storages' bytes. A pickle can call any function while it is loaded. Here it may name only the dict's class,
    the classes of storages and the functions that rebuild a tensor, all of which are replaced by stand-ins.

    Args:
      path: a state dict of dense float16, float32, float64 or int64 tensors, saved from any device.

    Returns:
      The arrays by name, in the file's order; read-only views with the saved shape and layout.

    Raises:
      UserError: the file cannot be read, is damaged, is not a PyTorch file, or holds anything but such tensors.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        tensors, storage = (_read_zip if data.startswith(b"PK") else _read_legacy)(data)
        if not isinstance(tensors, dict):
            raise _NotPlainError(f"it holds a {type(tensors).__name__}")
        for name, tensor in tensors.items():
            if not (isinstance(name, str) and isinstance(tensor, Tensor)):
                raise _NotPlainError(f"its entry {repr(name)[:100]} is no tensor")
        return {name: _view(tensor, storage(tensor.storage)) for name, tensor in tensors.items()}
    except _NotPlainError as error:
        raise UserError(f"{path} is not a plain state dict: {error}") from None
    except Exception as error:  # pickle, zipfile and NumPy each fail in many ways on bytes that are not theirs
        raise UserError(f"{path} is no PyTorch file, or a damaged one: {repr(error)[:200]}") from error


class _NotPlainError(Exception):
    """Raised for a valid file that holds something other than named tensors."""


# Python's own unpickler: the C one can fill memory, up to 64 GiB, when a damaged byte is read as a memo's index.
class _Unpickler(pickle._Unpickler):
    """Unpickles dicts, lists, numbers, strings and Tensors, and nothing else."""

    def __init__(self, file):
        super().__init__(file)
        self.dtypes = {}  # by the storages' keys

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
            case "torch._utils", "_rebuild_parameter":
                return self._parameter
        raise _NotPlainError(f"it names {f'{module}.{name}'[:100]!r}")

    def persistent_load(self, pid: Any) -> Storage:
        # The older format appends an entry: a view at first, None since PyTorch 0.4.
        kind, dtype, key, _location, _size, *view = pid
        if kind != "storage" or dtype not in DTYPES.values() or not isinstance(key, str) or any(view):
            raise _NotPlainError(f"it refers to {repr(pid)[:100]}")
        self.dtypes[key] = dtype
        return Storage(key, dtype)

    def _tensor(self, storage, offset, shape, strides, *_gradient_and_hooks) -> Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise _NotPlainError("it has a tensor that is not dense")
        return Tensor(storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, tensor, *_gradient_and_hooks) -> Any:
        return tensor


def _read_zip(data: bytes) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """Returns the object and a reader of storages, from an archive of one folder: data.pkl, byteorder, data/KEY."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    (file,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    folder = file.removesuffix("data.pkl")
    big_endian = f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") == b"big"

    def storage(of: Storage) -> np.ndarray:
        dtype = np.dtype(of.dtype).newbyteorder(">" if big_endian else "<")
        return np.frombuffer(archive.read(f"{folder}data/{of.key}"), dtype)

    return _Unpickler(io.BytesIO(archive.read(file))).load(), storage


def _read_legacy(data: bytes) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """Returns the same of pickles of a magic number, a version, a machine, the object and the keys; then storages.

    Each storage is its length in elements (8 bytes) followed by its values, all little-endian.
    """
    stream = io.BytesIO(data)
    if _Unpickler(stream).load() != MAGIC_NUMBER:
        raise ValueError("it does not begin as one")
    _version, _machine = _Unpickler(stream).load(), _Unpickler(stream).load()
    unpickler = _Unpickler(stream)
    tensors, keys = unpickler.load(), _Unpickler(stream).load()
    places = {}
    for key in keys:
        (length,) = struct.unpack("<Q", stream.read(8))
        places[key] = length, stream.tell()
        stream.seek(length * np.dtype(unpickler.dtypes[key]).itemsize, io.SEEK_CUR)

    def storage(of: Storage) -> np.ndarray:
        return np.frombuffer(data, np.dtype(of.dtype).newbyteorder("<"), *places[of.key])

    return tensors, storage


def _view(tensor: Tensor, storage: np.ndarray) -> np.ndarray:
    """Returns the tensor as a view of its storage [elements], which is read-only as bytes are."""
    steps = zip(tensor.shape, tensor.strides, strict=True)
    end = tensor.offset + sum((n - 1) * stride for n, stride in steps) + 1 if math.prod(tensor.shape) else 0
    if end > len(storage):
        raise ValueError(f"a tensor ends at element {end} of a storage of {len(storage)}")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides)
