"""Preparation of small datasets and of real ones, some of which need TensorFlow."""

import fcntl
import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import itertools
import os
import shutil
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.data.options import Options
from jaxgen.data.readers import idx, official, preparing
from jaxgen.data.readers.preparing import UNZIPPED, prepare
from jaxgen.errors import UserError

VALUES = b"".join(bytes([x]) for x in range(30))  # published gzipped; one image per value
LABELS = b"".join(b"%d\n" % (x % 3) for x in range(30))  # published uncompressed
VALUES_GZ = gzip.compress(VALUES, 9, mtime=1)
URL = "http://files.example/"
NAME = "tfds:jaxgen_test_stripes"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder's files without a word."""

    def log_message(self, *_):
        pass


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="session")
def stripes():
    """A builder registered with TFDS, with files to download and their published checksums."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    class JaxgenTestStripes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.3")
        url_infos: ClassVar = {
            URL + "values.bin.gz": UrlInfo(len(VALUES_GZ), digest(VALUES_GZ), "values.bin.gz"),
            URL + "get?id=7": UrlInfo(len(LABELS), digest(LABELS), "labels.txt"),
        }
        fails = None  # called midway through generation

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {"image": tfds.features.Image(shape=(2, 2, 1)), "label": tfds.features.ClassLabel(num_classes=3)}
                ),
            )

        def _split_generators(self, manager):
            values = manager.download(URL + "values.bin.gz")  # TFDS would extract it with TensorFlow
            labels = manager.download({"labels": URL + "get?id=7"})["labels"]
            return {
                "train": self._generate_examples(values, labels, range(20)),
                "test": self._generate_examples(values, labels, range(20, 30)),
            }

        def _generate_examples(self, values, labels, indices):
            values = gzip.decompress(values.read_bytes()) if values.suffix == ".gz" else values.read_bytes()
            labels = labels.read_text().split()
            for i in indices:
                if i == 10 and self.fails:
                    self.fails()
                content = io.BytesIO()
                Image.fromarray(np.full((2, 2), values[i], np.uint8)).save(content, "PNG")
                content.seek(0)
                yield i, {"image": content, "label": int(labels[i])}

    class JaxgenTestWords(JaxgenTestStripes):
        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

    return JaxgenTestStripes


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch, stripes):
    """The data folder; TensorFlow is reported as installed, but the small dataset does not use it."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: name if name == "tensorflow" else find_spec(name, *rest)
    )
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def given(tmp_path):
    """A folder with the files as published."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "values.bin.gz").write_bytes(VALUES_GZ)
    (folder / "labels.txt").write_bytes(LABELS)
    return folder


def error(name, folder):
    with pytest.raises(UserError) as raised:
        prepare(name, folder, progress=False)
    message = str(raised.value)
    assert "\n" not in message
    return message


def assert_prepared(root):
    source = official.read(Options(NAME))
    examples = [records[i] for records in source.splits.values() for i in range(len(records))]
    assert sorted((int(x["image"][1, 1, 0]), x["label"]) for x in examples) == [(i, i % 3) for i in range(30)]
    assert [len(records) for records in source.splits.values()] == [18, 2, 10]
    assert_nothing_left(root)


def assert_nothing_left(root):
    assert [path.name for path in (root / "tfds" / ".preparing").iterdir()] == ["jaxgen_test_stripes.lock"]
    assert not list(root.rglob("*incomplete*"))


def test_prepares_from_files(root, given, capfd):
    before = {path: path.read_bytes() for path in given.iterdir()}
    folder = prepare(NAME, given, progress=False)
    assert capfd.readouterr() == ("", "")
    assert folder == root / "tfds" / "jaxgen_test_stripes" / "1.2.3"
    assert_prepared(root)
    assert {path: path.read_bytes() for path in given.iterdir()} == before


def test_tells_how_far_it_is_on_stderr(root, given, capfd):
    folder = prepare(NAME, given)
    told = capfd.readouterr()
    assert told.out == ""
    assert "Generating splits" in told.err
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(NAME, None) == folder
    assert capfd.readouterr() == ("", f"{NAME} is prepared already, in {folder}\n")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def unzipped(folder):
    (folder / "values.bin.gz").rename(folder / "values.bin")
    (folder / "values.bin").write_bytes(VALUES)


def zipped_anew(folder):
    (folder / "values.bin.gz").write_bytes(gzip.compress(VALUES, 1, mtime=2))


def both_zipped(folder):
    (folder / "labels.txt").unlink()
    (folder / "labels.txt.gz").write_bytes(gzip.compress(LABELS, mtime=0))


def below(folder):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "values.bin.gz").rename(folder / "a" / "b" / "values.bin.gz")


def among_others(folder):
    """Adds files with the same names and other content, as from another dataset."""
    (folder / "a").mkdir()
    (folder / "z").mkdir()
    for other in ("a/values.bin.gz", "z/values.bin.gz"):
        (folder / other).write_bytes(gzip.compress(b"other", mtime=0))
    (folder / "a" / "labels.txt").write_bytes(b"other")


@pytest.mark.parametrize("change", [unzipped, zipped_anew, both_zipped, below, among_others])
def test_forms_of_the_same_content(root, given, monkeypatch, change):
    monkeypatch.setitem(UNZIPPED, digest(VALUES_GZ), digest(VALUES))
    change(given)
    prepare(NAME, given, progress=False)
    assert_prepared(root)


@pytest.mark.parametrize(
    ("file", "content", "known", "message"),
    [
        ("labels.txt", b"x", True, "labels.txt is not what was published at {url}get?id=7: its sha256 is {x}, not {l}"),
        ("labels.txt.gz", b"x", True, "labels.txt.gz is not what was published at {url}get?id=7: its sha256 is of no"),
        ("values.bin.gz", VALUES_GZ[:-9], True, "values.bin.gz is not what was published at {url}values.bin.gz: its"),
        (
            "values.bin.gz",
            gzip.compress(b"x", mtime=0),
            True,
            "values.bin.gz is not what was published at {url}values.bin.gz",
        ),
        (
            "values.bin.gz",
            gzip.compress(VALUES, 1, mtime=0),
            False,
            "values.bin.gz is not what was published at {url}values",
        ),
        ("values.bin", b"x", True, "values.bin is not what was published at {url}values.bin.gz: its sha256 is {x}, n"),
        (
            "values.bin",
            VALUES,
            False,
            "values.bin cannot be checked: give values.bin.gz, as published at {url}values.bin.gz",
        ),
    ],
)
def test_other_content_is_refused(root, given, monkeypatch, file, content, known, message):
    if known:
        monkeypatch.setitem(UNZIPPED, digest(VALUES_GZ), digest(VALUES))
    for name in ("values.bin.gz", "labels.txt"):
        if file.startswith(name.split(".")[0]):
            (given / name).unlink()
    (given / file).write_bytes(content)
    expected = message.format(url=URL, x=digest(b"x"), l=digest(LABELS))
    assert error(NAME, given).startswith(f"{given}{os.sep}{expected}")
    assert official.prepared("jaxgen_test_stripes") is None
    assert_nothing_left(root)


def test_missing_files_are_listed(given):
    (given / "values.bin.gz").unlink()
    assert error(NAME, given) == f"{given} lacks values.bin.gz (from {URL}values.bin.gz)"
    assert error(NAME, given / "nowhere") == (
        f"{given / 'nowhere'} is no folder: give the one with the downloaded files of {NAME}"
    )


def test_without_tensorflow(monkeypatch, given):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert error("cifar10", given) == (
        'jaxgen data prepare cifar10 needs TensorFlow, to prepare only: pip install "jaxgen[tensorflow]"'
    )


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """A builder as TFDS's of MNIST, which fails where that needs TensorFlow, and the folder of its files.

    Image i of 50 is of level i, with label i % 10; 40 are for training.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.image_classification.mnist import MNIST

    folder = tmp_path_factory.mktemp("published")
    for split, levels in (("train", range(40)), ("t10k", range(40, 50))):
        size = len(levels).to_bytes(4, "big")
        images = b"".join(bytes([level]) * 784 for level in levels)
        contents = {
            "images-idx3": b"\0\0\x08\x03" + size + b"\0\0\0\x1c" * 2 + images,
            "labels-idx1": b"\0\0\x08\x01" + size + bytes(level % 10 for level in levels),
        }
        for name, content in contents.items():
            (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(content, mtime=0))

    class JaxgenTestShades(MNIST):
        VERSION = tfds.core.Version("3.0.1")
        url_infos: ClassVar = {}

        def _split_generators(self, manager):
            generators = super()._split_generators(manager)
            for generator, num in zip(generators, (40, 10), strict=True):
                generator.gen_kwargs["num_examples"] = num
            return generators

        @classmethod
        def publish(cls, url):
            cls.URL = url
            for path in folder.iterdir():
                cls.url_infos[url + path.name] = UrlInfo(path.stat().st_size, digest(path.read_bytes()), path.name)

    JaxgenTestShades.publish(URL)
    return JaxgenTestShades, folder


def order(split, keys):
    """TFDS's order of a split: by the md5 of the split's name and the key."""
    return sorted(keys, key=lambda key: hashlib.md5(f"{split}{key}".encode()).digest())


@pytest.mark.parametrize("source", ["files", "download"])
def test_idx_files_need_no_tensorflow(shades, source, root, monkeypatch):
    """Files of a folder, or from where TFDS knows them to be published, which is here a server on this machine."""
    builder, folder = shades
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(preparing.READERS, "jaxgen_test_shades", idx.examples)
    if source == "files":
        prepare("tfds:jaxgen_test_shades", folder, progress=False)
    else:
        handler = functools.partial(Quiet, directory=str(folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setattr(builder, "URL", URL)  # restores it
            builder.publish(f"http://127.0.0.1:{server.server_port}/")
            prepare("tfds:jaxgen_test_shades", None, progress=False)
            server.shutdown()
    splits = official.read(Options("tfds:jaxgen_test_shades")).splits
    found = {split: [records[i] for i in range(len(records))] for split, records in splits.items()}
    levels = [int(example["image"][0, 0, 0]) for example in found["train"] + found["validation"]]
    assert levels == order("train", range(40))
    assert [int(example["image"][3, 9, 0]) - 40 for example in found["test"]] == order("test", range(10))
    for example in itertools.chain(*found.values()):
        level = int(example["image"][0, 0, 0])
        np.testing.assert_array_equal(example["image"], np.full((28, 28, 1), level))
        assert example["label"] == level % 10


def test_a_changed_idx_file_is_refused(shades, root, monkeypatch, tmp_path):
    _, folder = shades
    monkeypatch.setitem(preparing.READERS, "jaxgen_test_shades", idx.examples)
    name = "t10k-labels-idx1-ubyte.gz"
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(b"\0\0\x08\x01\0\0\0\x02\x07\x00")
    assert error("tfds:jaxgen_test_shades", tmp_path / "copy").startswith(
        f"{tmp_path / 'copy' / name} is not what was published at {URL}{name}: its sha256 is "
    )
    (tmp_path / "copy" / name).unlink()
    assert error("tfds:jaxgen_test_shades", tmp_path / "copy") == f"{tmp_path / 'copy'} lacks {name} (from {URL}{name})"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "unknown dataset mnits: did you mean mnist"),
        ("tfds:emnits", "TFDS has no dataset emnits: did you mean tfds:emnist"),
        ("tfds:qqqqqqqq", "TFDS has no dataset qqqqqqqq: https://www.tensorflow.org/datasets/catalog lists all"),
        ("tfds:dogs", "TFDS has no dataset dogs: did you mean tfds:cats_vs_dogs or tfds:stanford_dogs?"),
        ("tfds:emnist", "tfds:emnist has configs: give one, as tfds:emnist/byclass; there are byclass, bymerge"),
        ("tfds:emnist/leters", "tfds:emnist has no config leters: did you mean letters?"),
        (NAME + "/x", f"{NAME} has no config x: it is {NAME}"),
        ("tfds:jaxgen_test_words", "tfds:jaxgen_test_words has no images; its features are text"),
    ],
)
def test_names_that_cannot_be_prepared(name, message):
    assert error(name, None).startswith(message)


def test_a_missing_package_is_named(monkeypatch, stripes, given):
    monkeypatch.setattr(stripes, "fails", lambda self: importlib.import_module("no_such_package"))
    assert error(NAME, given) == (
        f"preparing {NAME} needs no_such_package, which is missing: pip install no_such_package"
    )


def test_an_interrupted_preparation_leaves_nothing(root, given, monkeypatch, stripes):
    def interrupted(self):
        raise KeyboardInterrupt

    def broken(self):
        raise ValueError("the disk\nis on fire")

    monkeypatch.setattr(stripes, "fails", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(NAME, given, progress=False)
    assert_nothing_left(root)
    monkeypatch.setattr(stripes, "fails", broken)
    message = error(NAME, given)
    assert message.startswith(f"TFDS could not prepare {NAME}: ")
    assert "the disk is on fire" in message
    assert_nothing_left(root)
    assert official.prepared("jaxgen_test_stripes") is None
    monkeypatch.setattr(stripes, "fails", None)
    prepare(NAME, given, progress=False)
    assert_prepared(root)


def test_what_a_killed_process_left_is_removed(root, given):
    stale = root / "tfds" / ".preparing" / "jaxgen_test_stripes" / "jaxgen_test_stripes" / "incomplete.ABC_1.2.3"
    stale.mkdir(parents=True)
    (stale / "jaxgen_test_stripes-train.array_record-00000-of-00001").write_bytes(b"half")
    assert official.prepared("jaxgen_test_stripes") is None
    prepare(NAME, given, progress=False)
    assert_prepared(root)


def test_one_process_waits_for_another(root, given, capfd):
    work = root / "tfds" / ".preparing"
    work.mkdir(parents=True)
    with open(work / "jaxgen_test_stripes.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as if another process were preparing
        waiting = threading.Thread(target=prepare, args=(NAME, given))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        assert capfd.readouterr().err == "waiting for another process, which prepares jaxgen_test_stripes\n"
        fcntl.flock(lock, fcntl.LOCK_UN)
        waiting.join(30)
    assert not waiting.is_alive()
    assert_prepared(root)


def test_a_folder_that_is_there_already_is_left_alone(root, given):
    folder = root / "tfds" / "jaxgen_test_stripes" / "1.2.3"
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    assert error(NAME, given) == f"{folder} is there already, but not of jaxgen data prepare: move or delete it"
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_damaged_one_is_not_taken_for_prepared(given):
    folder = prepare(NAME, given, progress=False)
    (folder / "features.json").write_text("{}")
    assert error(NAME, given).endswith(f"delete {folder} and run jaxgen data prepare {NAME} again")
    shutil.rmtree(folder)
    assert prepare(NAME, given, progress=False) == folder


def test_a_data_folder_that_cannot_be_written(given, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(given / "labels.txt" / "data"))
    assert error(NAME, given) == (
        f"cannot write the data folder {given / 'labels.txt' / 'data'} (Not a directory): "
        "set JAXGEN_DATA_DIR to a folder that can be written"
    )


# The real ones, by TFDS's builders. TensorFlow is needed for those that are not in MNIST's format.

needs_files = pytest.mark.skipif(
    not os.environ.get("JAXGEN_TEST_DATA"), reason="JAXGEN_TEST_DATA names no folder of test data"
)
BINARIZED = "d28d18c2d3bdcfd459943a645780d75f77556e4bfadf463bc9c272e9fc5fea87"
"""Fingerprint of binarized_mnist."""

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow, with which TFDS prepares, is not installed"
)


@pytest.fixture
def files():
    return Path(os.environ["JAXGEN_TEST_DATA"])


@needs_files
def test_unzipped_checksums_are_of_the_published_files(files):
    found = {}
    for path in [*files.glob("mnist/*.gz"), *files.glob("fashion_mnist/*.gz")]:
        found[digest(path.read_bytes())] = digest(gzip.decompress(path.read_bytes()))
    assert found == UNZIPPED


@pytest.fixture
def shared(monkeypatch):
    """Prepared datasets go to JAXGEN_PREPARED_DIR if it is set; `test_official.py` reads them there."""
    if folder := os.environ.get("JAXGEN_PREPARED_DIR"):
        monkeypatch.setenv("JAXGEN_DATA_DIR", folder)


@needs_files
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist", "6d526dc62eb80465619905be93813313917eca14099658426b152f49028882f7"),
        ("fashion_mnist", "9ca430c6fee91666b82d15a456e1f9faff915fe85c7e41223232285f70355aa5"),
        ("binarized_mnist", BINARIZED),
    ],
)
def test_real_datasets_without_tensorflow(files, name, expected, shared, monkeypatch, capfd):
    """The fingerprints are those that they have if TFDS's builder reads the files with TensorFlow."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    prepare(name, files, progress=False)  # mnist's and fashion_mnist's files have the same names
    assert capfd.readouterr() == ("", "")
    assert data.load(name, progress=False).fingerprint == expected


@needs_files
@needs_tensorflow
def test_a_real_dataset_by_tensorflow(files, monkeypatch, capfd):
    """The fingerprint of the binarized MNIST as TFDS's builder reads its files with TensorFlow."""
    monkeypatch.delitem(preparing.READERS, "binarized_mnist")
    prepare("binarized_mnist", files, progress=False)
    assert capfd.readouterr() == ("", "")
    records = official.read(Options("binarized_mnist")).splits
    assert tuple(map(len, records.values())) == official.OFFICIAL["binarized_mnist"].examples
    example = records["test"][0]
    assert (example["image"].shape, example["image"].dtype) == ((28, 28, 1), np.uint8)
    assert data.load("binarized_mnist", progress=False).fingerprint == BINARIZED


@needs_files
@pytest.mark.slow
def test_real_files_unzipped_and_zipped_anew(files, tmp_path):
    """The order of the examples is kept for any compression of the files."""
    for number, path in enumerate(sorted((files / "mnist").glob("*.gz"))):
        content = gzip.decompress(path.read_bytes())
        if number % 2:
            (tmp_path / path.stem).write_bytes(content)
        else:
            (tmp_path / path.name).write_bytes(gzip.compress(content, 1, mtime=0))
    prepare("mnist", tmp_path, progress=False)
    assert data.load("mnist", progress=False).fingerprint == (
        "6d526dc62eb80465619905be93813313917eca14099658426b152f49028882f7"
    )


@needs_files
@needs_tensorflow
@pytest.mark.parametrize(
    ("name", "folder", "missing"),
    [
        ("omniglot", "omniglot_small", ["images_background.zip", "images_evaluation.zip"]),
        ("cifar10", "cifar10_first4000", ["cifar-10-binary.tar.gz"]),
    ],
)
def test_real_datasets_of_which_files_are_missing(files, name, folder, missing):
    message = error(name, files / folder)
    assert message.startswith(f"{files / folder} lacks ")
    assert sorted(word for word in message.split() if word.endswith((".zip", ".gz"))) == missing
    assert message.count("(from https://") == len(missing)
