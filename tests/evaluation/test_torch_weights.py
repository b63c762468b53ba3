import io
import os
import pickle
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.evaluation.torch_weights import MAGIC_NUMBER, read_state_dict

# Files as torch.save writes them, without PyTorch: stubs with the names of its classes and functions stand in.


def _of(module, kind):
    kind.__module__ = module
    return kind


def _function(module, name):
    def function():
        raise AssertionError("pickled by name, never called")

    function.__name__ = function.__qualname__ = name
    return _of(module, function)


STORAGES = {
    dtype: _of("torch", type(f"{name}Storage", (), {}))
    for dtype, name in {
        "float32": "Float",
        "float64": "Double",
        "float16": "Half",
        "int64": "Long",
        "uint8": "Byte",
    }.items()
}
NAMES = {
    "torch": {kind.__name__: kind for kind in STORAGES.values()} | {"load": _function("torch", "load")},
    "torch._utils": {
        name: _function("torch._utils", name)
        for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_sparse_tensor")
    },
}


class Storage:
    def __init__(self, values, view=None):
        self.values, self.view = values, view


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.storage, self.place = storage, (offset, shape, strides)

    def __reduce__(self):
        return NAMES["torch._utils"]["_rebuild_tensor_v2"], (self.storage, *self.place, False, OrderedDict())


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return NAMES["torch._utils"]["_rebuild_parameter"], (self.tensor, True, OrderedDict())


class Call:
    """Pickles to a call of the function, made when the pickle is loaded."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def tensor(array):
    return Tensor(Storage(array.ravel()), 0, array.shape, tuple(s // array.itemsize for s in array.strides))


def pickled(value, legacy):
    """Pickles a value; returns the pickle and its storages by key. Bytes are used as the pickle itself."""
    if isinstance(value, bytes):
        return value, {}
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, Storage):
                return None
            key = next((key for key, storage in storages.items() if storage is obj), str(100 + len(storages)))
            storages[key] = obj
            pid = ("storage", STORAGES[obj.values.dtype.name], key, "cuda:0", len(obj.values))
            return (*pid, obj.view) if legacy else pid

    data = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        for module, names in NAMES.items():
            stand_in = types.ModuleType(module)
            vars(stand_in).update(names)
            patch.setitem(sys.modules, module, stand_in)
        Pickler(data, protocol=2).dump(value)
    return data.getvalue(), storages


def save_zip(path, value, byteorder="little"):
    data, storages = pickled(value, legacy=False)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", data)
        archive.writestr("weights/byteorder", byteorder)
        for key, storage in storages.items():
            values = storage.values.astype(storage.values.dtype.newbyteorder("<" if byteorder == "little" else ">"))
            archive.writestr(f"weights/data/{key}", values.tobytes())
        archive.writestr("weights/version", "3\n")


def save_legacy(path, value):
    data, storages = pickled(value, legacy=True)
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with path.open("wb") as file:
        for part in (MAGIC_NUMBER, 1001, machine):
            pickle.dump(part, file, protocol=2)
        file.write(data)
        pickle.dump(sorted(storages), file, protocol=2)
        for key in sorted(storages):
            values = storages[key].values
            file.write(struct.pack("<q", len(values)) + values.astype(values.dtype.newbyteorder("<")).tobytes())


FORMATS = pytest.mark.parametrize("save", [save_zip, save_legacy])


def example():
    """A state dict with everything that is supported, and its arrays."""
    shared = Storage(np.arange(24, dtype=np.float32) / 8)
    grid = shared.values.reshape(2, 3, 4)
    random = np.random.default_rng(0)
    arrays = {
        "kernel": random.normal(size=(5, 4, 3, 2)).astype(np.float32),
        "double": random.normal(size=7),
        "half": random.normal(size=(2, 3)).astype(np.float16),
        "steps": np.array(2**40 + 1),
        "empty": np.zeros((0, 3), np.float32),
        "view": grid,
        "permuted": grid.transpose(2, 0, 1),
        "row": grid[1, 2],
        "every other": grid.reshape(-1)[3::2],
        "expanded": np.broadcast_to(grid[0, 0, :, None], (4, 6)),
        "parameter": random.normal(size=3).astype(np.float32),
    }
    tensors = OrderedDict((name, tensor(arrays[name])) for name in ("kernel", "double", "half", "steps", "empty"))
    tensors["view"] = Tensor(shared, 0, (2, 3, 4), (12, 4, 1))
    tensors["permuted"] = Tensor(shared, 0, (4, 2, 3), (1, 12, 4))
    tensors["row"] = Tensor(shared, 20, (4,), (1,))
    tensors["every other"] = Tensor(shared, 3, (11,), (2,))
    tensors["expanded"] = Tensor(shared, 0, (4, 6), (1, 0))
    tensors["parameter"] = Parameter(tensor(arrays["parameter"]))
    tensors._metadata = OrderedDict({"": {"version": 1}})  # as set by Module.state_dict
    return tensors, arrays


@FORMATS
def test_tensors_come_back_exactly(tmp_path, save):
    tensors, arrays = example()
    save(tmp_path / "w.pth", tensors)
    read = read_state_dict(tmp_path / "w.pth")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name, strict=True)


def test_values_of_a_big_endian_machine(tmp_path):
    tensors, arrays = example()
    save_zip(tmp_path / "w.pth", tensors, byteorder="big")
    read = read_state_dict(tmp_path / "w.pth")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)


@FORMATS
def test_what_is_read_cannot_be_written(tmp_path, save):
    # views of one storage would change together
    save(tmp_path / "w.pth", {"w": tensor(np.ones(3, np.float32))})
    with pytest.raises(ValueError, match="read-only"):
        read_state_dict(tmp_path / "w.pth")["w"][0] = 2


def refused(path):
    """Returns the message of the UserError raised by reading the file."""
    with pytest.raises(UserError) as error:
        read_state_dict(path)
    message = str(error.value)
    assert message.startswith(f"{path} is ")
    assert "\n" not in message
    return message


def save_first(path, value):
    """Writes the value in place of the magic number."""
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_first])
@pytest.mark.parametrize("function", [os.system, eval])
def test_code_is_refused_and_not_run(tmp_path, save, function):
    marker = tmp_path / "ran"
    if function is os.system:
        call, named = Call(os.system, f"mkdir {marker}"), "posix.system"
    else:
        call, named = Call(eval, f"__import__('os').mkdir({str(marker)!r})"), "__builtin__.eval"
    pickle.loads(pickle.dumps(call, protocol=2))
    assert marker.exists()  # shows that the code would run
    marker.rmdir()
    save(tmp_path / "w.pth", call if save is save_first else {"w": call})
    assert f"not a plain state dict: it names '{named}'" in refused(tmp_path / "w.pth")
    assert not marker.exists()


@FORMATS
@pytest.mark.parametrize(
    ("opcodes", "named"),
    [
        (b"ctorch\nload\n.", "torch.load"),
        (b"cjaxgen.evaluation.torch_weights\nread_state_dict\n.", "jaxgen.evaluation.torch_weights.read_state_dict"),
        (b"ccollections\nOrderedDict.fromkeys\n.", "collections.OrderedDict.fromkeys"),
        (b"(iposix\nsystem\n.", "posix.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
    ],
)
def test_nothing_else_is_looked_up(tmp_path, save, opcodes, named):
    save(tmp_path / "w.pth", opcodes)
    assert f"it names {named!r}" in refused(tmp_path / "w.pth")


@FORMATS
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([tensor(np.ones(2))], "a plain state dict: it holds a list"),
        ({"w": tensor(np.ones(2)), "epoch": 3}, "a plain state dict: its entry 'epoch' is no tensor"),
        ({"state_dict": {"w": tensor(np.ones(2))}}, "a plain state dict: its entry 'state_dict' is no tensor"),
        ({7: tensor(np.ones(2))}, "a plain state dict: its entry 7 is no tensor"),
        ({"a\nb": 1}, "a plain state dict: its entry 'a\\nb' is no tensor"),
        ({"w": Storage(np.ones(2))}, "a plain state dict: its entry 'w' is no tensor"),
        ({"w": tensor(np.ones(2, np.uint8))}, "a plain state dict: it names 'torch.ByteStorage'"),
        ({"w": Tensor(Storage(np.ones(4)), 0, (5,), (1,))}, "ends at element 5 of a storage of 4"),
        ({"w": Tensor(Storage(np.ones(4)), 3, (2,), (1,))}, "ends at element 5 of a storage of 4"),
        ({"w": Tensor(Storage(np.ones(4)), 0, (2, 2), (3, 1))}, "ends at element 5 of a storage of 4"),
        ({"w": Tensor(Storage(np.ones(4)), 0, (3,), (2**62,))}, "of a storage of 4"),  # 8 * 2^62 wraps to 0
        ({"w": Tensor(Storage(np.ones(4)), 3, (2,), (-1,))}, "not dense"),
        ({"w": Tensor(Storage(np.ones(4)), -1, (2,), (1,))}, "not dense"),
        ({"w": Tensor(Storage(np.ones(4)), 0, (2.0,), (1,))}, "not dense"),
        ({"w": Tensor(np.float32, 0, (2,), (1,))}, "it names 'numpy.float32'"),
        ({"w": Tensor("float32", 0, (2,), (1,))}, "not dense"),
        ({"w": Tensor(Storage(np.ones(4)), 0, (2, 2), (1,))}, "zip()"),
    ],
)
def test_what_is_no_state_dict(tmp_path, save, value, message):
    save(tmp_path / "w.pth", value)
    assert message in refused(tmp_path / "w.pth")


def test_a_view_of_a_storage_as_before_pytorch_04(tmp_path):
    save_legacy(tmp_path / "w.pth", {"w": Tensor(Storage(np.ones(4), view=("9", 1, 2)), 0, (2,), (1,))})
    assert "it refers to ('storage', 'float64', '100'" in refused(tmp_path / "w.pth")


@FORMATS
def test_every_truncation(tmp_path, save):
    save(tmp_path / "w.pth", {"a": tensor(np.ones(3, np.float32)), "b": tensor(np.ones((2, 2)))})
    data = (tmp_path / "w.pth").read_bytes()
    for length in range(len(data)):
        (tmp_path / "w.pth").write_bytes(data[:length])
        refused(tmp_path / "w.pth")


def test_a_damaged_value_in_a_zip(tmp_path):
    values = np.full(100, 1.5)
    save_zip(tmp_path / "w.pth", {"w": tensor(values)})
    data = bytearray((tmp_path / "w.pth").read_bytes())
    data[data.index(values.tobytes()) + 400] ^= 1
    (tmp_path / "w.pth").write_bytes(data)
    assert "Bad CRC-32" in refused(tmp_path / "w.pth")


def test_a_damaged_memo_index_takes_no_memory(tmp_path):
    # LONG_BINPUT 2^24 would make a table with twice as many entries, 256 MiB
    (tmp_path / "w.pth").write_bytes(b"\x80\x02]r\x00\x00\x00\x01.")
    tracemalloc.start()
    assert "does not begin as one" in refused(tmp_path / "w.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize(
    "data",
    [b"", b"weights\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04", pickle.dumps([1, 2]), bytes(range(256))],
)
def test_foreign_files(tmp_path, data):
    (tmp_path / "w.pth").write_bytes(data)
    assert "no PyTorch file, or a damaged one" in refused(tmp_path / "w.pth")


def test_a_foreign_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("photos/1.png", b"")
    assert "no PyTorch file, or a damaged one" in refused(tmp_path / "w.pth")


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(UserError, match=f"cannot read {path}: "):
            read_state_dict(path)
