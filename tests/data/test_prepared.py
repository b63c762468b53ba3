"""Preparing on first use: offline, silent, without TensorFlow, and never half."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.builders.digits import digits_builder
from jaxgen.errors import UserError

FILES = {
    "dataset_info.json",
    "digits-test.array_record-00000-of-00001",
    "digits-train.array_record-00000-of-00001",
    "features.json",
}


def start(code, folder, *arguments):
    """A fresh Python on `code`, warnings being errors, with `folder` as its cache."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        env=os.environ | {"JAXGEN_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files(folder):
    return {path.name for path in (folder / "tfds" / "digits" / "1.0.0").iterdir()}


def test_prepares_offline_in_silence_without_tensorflow(tmp_path):
    code = """
        import importlib.machinery, socket, sys

        find = importlib.machinery.PathFinder.find_spec

        def find_all_but_tensorflow(name, path=None, target=None):
            return None if name.partition(".")[0] == "tensorflow" else find(name, path, target)

        importlib.machinery.PathFinder.find_spec = find_all_but_tensorflow
        attempts = []

        def refuse(*arguments, **options):
            attempts.append(arguments)
            raise OSError("there is no network")

        socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
        socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse

        import jaxgen.data

        first, second = jaxgen.data.load("digits"), jaxgen.data.load("digits")
        assert first.fingerprint == second.fingerprint
        assert not attempts, attempts
        sys.stdout.write(first.fingerprint)
    """
    process = start(code, tmp_path)
    stdout, stderr = process.communicate(timeout=60)
    assert (stdout, stderr, process.returncode) == (digits_builder.FINGERPRINT, "", 0)
    assert files(tmp_path) == FILES


def test_two_processes_prepare_at_once(tmp_path):
    """Each waits in the middle of its writing until the other is there too."""
    code = """
        import pathlib, sys, time
        from jaxgen import data
        from jaxgen.data.builders.digits import digits_builder

        meeting, me = pathlib.Path(sys.argv[1]), sys.argv[2]
        generate = digits_builder.Builder._generate_examples

        def wait(self, split):
            for example in generate(self, split):
                if example[0] == 100:
                    (meeting / me).touch()
                    while len(list(meeting.iterdir())) < 2:
                        time.sleep(0.01)
                yield example

        digits_builder.Builder._generate_examples = wait
        sys.stdout.write(data.load("digits").fingerprint)
    """
    (tmp_path / "meeting").mkdir()
    pair = [start(code, tmp_path / "cache", str(tmp_path / "meeting"), me) for me in ("one", "two")]
    for process in pair:
        stdout, stderr = process.communicate(timeout=60)
        assert (stdout, stderr, process.returncode) == (digits_builder.FINGERPRINT, "", 0)
    assert os.listdir(tmp_path / "cache" / "tfds" / "digits") == ["1.0.0"]  # and no leavings
    assert files(tmp_path / "cache") == FILES


def test_a_kill_in_the_middle_leaves_nothing_that_is_used(tmp_path, monkeypatch):
    code = """
        import os, signal
        from jaxgen import data
        from jaxgen.data.builders.digits import digits_builder

        generate = digits_builder.Builder._generate_examples

        def die(self, split):
            for example in generate(self, split):
                if example[0] == 500:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield example

        digits_builder.Builder._generate_examples = die
        data.load("digits")
    """
    process = start(code, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -9
    (left,) = os.listdir(tmp_path / "tfds" / "digits")
    assert left.startswith("incomplete.")
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    assert not data.table()[0].prepared
    assert data.load("digits").fingerprint == digits_builder.FINGERPRINT


@pytest.fixture
def copy(cache, tmp_path, monkeypatch):
    """A prepared folder to spoil."""
    data.load("digits")
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "copy"))
    folder = tmp_path / "copy" / "tfds" / "digits" / "1.0.0"
    shutil.copytree(cache / "tfds" / "digits" / "1.0.0", folder)
    assert data.load("digits").fingerprint == digits_builder.FINGERPRINT
    return folder


def assert_damage_is_found_and_mended(folder):
    with pytest.raises(UserError) as caught:
        data.load("digits")
    message = f"the prepared data in {folder} was damaged or changed: delete that folder, and it is prepared again"
    assert str(caught.value) == message
    shutil.rmtree(folder)
    assert data.load("digits").fingerprint == digits_builder.FINGERPRINT


@pytest.mark.parametrize("name", ["dataset_info.json", "digits-test.array_record-00000-of-00001"])
@pytest.mark.parametrize("damage", ["deleted", "emptied", "shortened", "flipped"])
def test_damage_is_found(copy, name, damage):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes({"emptied": b"", "shortened": content[:-5000], "flipped": content}[damage])
    assert_damage_is_found_and_mended(copy)


def test_an_empty_folder_is_damage(copy):
    shutil.rmtree(copy)
    copy.mkdir()
    assert_damage_is_found_and_mended(copy)


def test_another_content_is_found(tmp_path, monkeypatch):
    """A whole and readable set, one pixel of which is another."""
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    train, test = digits_builder.original()
    train["image"][3, 4, 5, 0] ^= 1
    with monkeypatch.context() as patch:
        patch.setattr(digits_builder, "original", lambda: (train, test))
        patch.setattr(digits_builder.prepared, "fingerprint", lambda *splits: digits_builder.FINGERPRINT)
        changed = data.load("digits").train["image"]
    assert np.argwhere(changed != digits_builder.original()[0]["image"]).tolist() == [[3, 4, 5, 0]]
    assert_damage_is_found_and_mended(tmp_path / "tfds" / "digits" / "1.0.0")


def test_another_scikit_learn_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    train, test = digits_builder.original()
    monkeypatch.setattr(digits_builder, "original", lambda: (test, train))
    with pytest.raises(UserError, match="this version of scikit-learn has other digits"):
        data.load("digits")
    assert os.listdir(tmp_path / "tfds" / "digits") == []


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError) as caught:
        data.load("digits")
    assert str(caught.value) == (
        f"cannot write the data folder {tmp_path}/file (Not a directory): "
        "set JAXGEN_DATA_DIR to a folder that can be written"
    )


def test_full_disk(tmp_path):
    code = """
        import resource, signal, sklearn.datasets
        from jaxgen import data, errors

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            data.load("digits")
        except errors.UserError as error:
            print(error)
    """
    stdout, stderr = start(code, tmp_path).communicate(timeout=60)
    assert re.fullmatch(rf"cannot write the data folder {tmp_path} \(.*\): set JAXGEN_DATA_DIR to .*\n", stdout)
    assert stderr == ""
    assert os.listdir(tmp_path / "tfds" / "digits") == []


def test_table_names_the_folder_of_the_builder():
    (info,) = data.table()
    assert info.folder == f"tfds/{digits_builder.Builder.name}/{digits_builder.Builder.VERSION}"
