"""The store of decoded data: reused without the reader, checked, written atomically, and equal however it is read."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from jaxgen.data import store
from jaxgen.data.images import Transform
from jaxgen.data.options import Options
from jaxgen.data.source import BadExampleError, Source
from jaxgen.data.store import Images, decoded, fingerprint
from jaxgen.errors import UserError

RNG = np.random.default_rng(0)
SPLITS = {
    split: {
        "image": RNG.integers(0, 256, (num, 5, 4, 3), np.uint8),
        "label": RNG.integers(0, 2, num, np.int32),
        "caption": np.array([f"{split} {n}" for n in range(num)], object),
    }
    for split, num in (("train", 6), ("validation", 2), ("test", 3))
}
CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Gives each test its own cache folder."""
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@dataclass
class Listed:
    """Records of arrays, some of which cannot be decoded."""

    entries: dict
    bad: tuple = ()

    def __len__(self):
        return len(self.entries["image"])

    def __getitem__(self, index):
        if index in self.bad:
            raise BadExampleError(f"cannot decode {self.name(index)} (empty)")
        return {name: entry[index] for name, entry in self.entries.items()}

    def name(self, index):
        return f"img{index}.png"


@dataclass
class Reader:
    """A reader of given splits that counts its reads."""

    splits: dict = field(default_factory=lambda: SPLITS)
    classes: tuple = CLASSES
    faces: np.ndarray | None = None
    name: str = "1"
    read_so_often: int = 0

    def identity(self, options):
        return self.name

    def read(self, options):
        self.read_so_often += 1
        return Source(self.splits, "made for a test", self.classes, self.faces)


def as_records(splits, **bad):
    return {split: Listed(entries, bad.get(split, ())) for split, entries in splits.items()}


def changed(split, name, change):
    """Returns SPLITS with an entry changed."""
    return SPLITS | {split: SPLITS[split] | {name: change(SPLITS[split][name].copy())}}


def load(reader, **options):
    return decoded(Options("mine", **options), reader, progress=False)


def assert_same(found, expected=SPLITS):
    assert list(found) == list(expected)
    for split, entries in expected.items():
        assert set(found[split]) == set(entries)
        for name, entry in entries.items():
            np.testing.assert_array_equal(found[split][name][np.arange(len(entry))], entry)
            assert found[split][name].dtype == entry.dtype
            assert found[split][name].shape == entry.shape


# Writing and reading again


@pytest.mark.parametrize("splits", [SPLITS, as_records(SPLITS)], ids=["arrays", "records"])
def test_written_once_and_read_again_without_the_reader(splits, folder):
    reader = Reader(splits)
    first, second = load(reader, pipeline="memory"), load(reader, pipeline="memory")
    assert reader.read_so_often == 1
    assert len(list(folder.iterdir())) == 1
    for found in (first, second):
        assert_same(found.splits)
        assert all(isinstance(entry, np.ndarray) for entries in found.splits.values() for entry in entries.values())
        assert found.manifest == first.manifest
        assert (found.manifest.classes, found.manifest.note) == (CLASSES, "made for a test")
        np.testing.assert_allclose(found.mean, SPLITS["train"]["image"].mean(0) / 255, rtol=1e-14)
        assert found.mean.dtype == np.float64
        assert found.faces is None


def test_meshes_keep_their_faces():
    faces = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    meshes = {split: {"mesh": RNG.normal(size=(2, 4, 3)).astype(np.float32)} for split in SPLITS}
    for _ in range(2):
        found = load(Reader(meshes, (), faces))
        assert_same(found.splits, meshes)
        np.testing.assert_array_equal(found.faces, faces)
        assert found.mean is None


def test_what_changes_the_content_has_a_folder_of_its_own(folder):
    """Options for batches or vocabulary do not make a new folder, nor does another path to the same folder.

    Reading other files with the same options removes the folder of the old ones.
    """
    reader = Reader()
    for n, options in enumerate(
        [{}, {"crop": 3}, {"pad": 1}, {"binarize": "threshold"}, {"train_split": "train[:5]"}], 1
    ):
        load(reader, **options)
        assert len(list(folder.iterdir())) == n
    hidden = {"labels": 1, "captions": 1, "subset": 1}
    for options in [{"flip": True}, {"workers": 3}, {"caption_length": 4}, {"vocabulary_size": 9}, hidden]:
        load(reader, **options)
    assert len(list(folder.iterdir())) == 5
    before = set(folder.iterdir())
    load(Reader(name="2"))
    assert len(set(folder.iterdir()) - before) == len(before - set(folder.iterdir())) == 1
    load(reader, data_from="here")
    load(reader, data_from=os.path.abspath("here"))
    assert len(list(folder.iterdir())) == 6
    assert all(re.fullmatch("mine-[0-9a-f]{12}-[0-9a-f]{12}", path.name) for path in folder.iterdir())


# The fingerprint


def by_hand(splits):
    """The documented hash: one line per entry, a digest of its bytes, dtype and shape."""
    lines = ""
    for split, entries in splits.items():
        for name in sorted(entries):
            entry = entries[name]
            content = json.dumps(entry.tolist()).encode() if name == "caption" else entry.tobytes()
            digest = hashlib.sha256(content + f"{entry.dtype.str} {entry.shape}".encode())
            lines += f"{split} {name} {digest.hexdigest()}\n"
    return hashlib.sha256(lines.encode()).hexdigest()


def test_the_fingerprint_is_the_stated_hash():
    assert fingerprint(SPLITS) == by_hand(SPLITS)
    swapped = {split: {name: entries[name] for name in reversed(entries)} for split, entries in SPLITS.items()}
    assert fingerprint(swapped) == by_hand(SPLITS)
    strided = {"train": {"image": SPLITS["train"]["image"][::2]}}
    assert fingerprint(strided) == by_hand({"train": {"image": SPLITS["train"]["image"][::2].copy()}})


def test_it_is_the_same_however_the_content_is_read():
    """Arrays or records, decoded before or during training."""
    transforms = {"crop": 4, "channels": 1, "image_size": 3, "pad": 1}
    for options in ({}, transforms):
        found = {
            load(Reader(splits, name=str(n)), pipeline=pipeline, **options).manifest.fingerprint
            for n, splits in enumerate([SPLITS, as_records(SPLITS)])
            for pipeline in ("auto", "memory", "grain")
        }
        transform = Transform(**options)
        done = {split: entries | {"image": transform.all(entries["image"])} for split, entries in SPLITS.items()}
        assert found == {by_hand(done)}


@pytest.mark.parametrize(
    "splits",
    [
        changed("train", "image", lambda image: image[::-1]),
        changed("test", "image", lambda image: image ^ (np.arange(image.size).reshape(image.shape) == 7)),
        changed("validation", "label", lambda label: 1 - label),
        changed("train", "caption", lambda caption: np.where(caption == "train 3", "train 4", caption)),
        {split: entries | {"image": entries["image"].reshape(-1, 4, 5, 3)} for split, entries in SPLITS.items()},
        SPLITS | {"validation": SPLITS["test"], "test": SPLITS["validation"]},
        {split: {"image": entries["image"]} for split, entries in SPLITS.items()},
    ],
    ids=["order", "one bit", "label", "caption", "shape", "splits", "entries"],
)
def test_it_changes_with_the_content(splits):
    original = load(Reader()).manifest.fingerprint
    for n, given in enumerate((splits, as_records(splits))):
        assert load(Reader(given, name=f"other {n}")).manifest.fingerprint == by_hand(splits) != original


# Damage


@pytest.fixture
def kept(folder):
    """The reader and a prepared folder to damage, with images and faces, so that it has every kind of file."""
    reader = Reader(as_records(SPLITS), faces=np.zeros((2, 3), np.int32))
    load(reader, pipeline="memory")
    (made,) = folder.iterdir()
    assert {path.name for path in made.iterdir()} == {
        "manifest.json",
        "mean.npy",
        "faces.npy",
        *(f"{split}.{name}" for split in SPLITS for name in ("image.npy", "label.npy", "caption.json")),
    }
    return reader, made


def assert_damage_is_found_and_mended(reader, made, **options):
    with pytest.raises(UserError) as caught:
        load(reader, **options)
    assert str(caught.value) == (
        f"the prepared data in {made} was damaged or changed: delete that folder, and it is made again"
    )
    shutil.rmtree(made)
    assert_same(load(reader, **options).splits)


def spoil(path, damage):
    content = bytearray(path.read_bytes())
    if damage == "deleted":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "shortened":
        path.write_bytes(content[:-1])
    elif damage == "lengthened":
        path.write_bytes(content + b"\0")
    else:
        place = {"first bit": 0, "middle bit": len(content) // 2, "last bit": len(content) - 1}[damage]
        content[place] ^= 1
        path.write_bytes(content)


DAMAGE = ("deleted", "emptied", "shortened", "first bit", "middle bit", "last bit")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["manifest.json", "train.image.npy", "test.caption.json", "mean.npy", "faces.npy"])
def test_damage_is_found(kept, name, damage):
    spoil(kept[1] / name, damage)
    assert_damage_is_found_and_mended(*kept, pipeline="memory")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["manifest.json", "validation.label.npy", "mean.npy"])
def test_damage_is_found_where_images_are_read_while_training(folder, name, damage):
    reader = Reader(as_records(SPLITS))
    load(reader, pipeline="grain")
    (made,) = folder.iterdir()
    spoil(made / name, damage)
    assert_damage_is_found_and_mended(reader, made, pipeline="grain")


def test_every_byte_of_the_manifest_counts(kept):
    reader, made = kept
    path = made / "manifest.json"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        spoilt = bytearray(content)
        spoilt[place] ^= 4
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match="was damaged or changed"):
            load(reader, pipeline="memory")
    path.write_bytes(content)
    assert_same(load(reader, pipeline="memory").splits)


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"digests": []}', '{"digests": {}, "fingerprint": 1}'])
def test_another_manifest_is_damage(kept, content):
    (kept[1] / "manifest.json").write_text(content)
    assert_damage_is_found_and_mended(*kept, pipeline="memory")


def test_arrays_of_another_preparation_are_damage(kept, folder, tmp_path):
    """The arrays are complete and readable, but from another preparation."""
    reader, made = kept
    shutil.copytree(made, tmp_path / "first")
    load(Reader(changed("train", "image", lambda image: image[::-1]), name="other"), pipeline="memory")
    (other,) = folder.iterdir()  # which took the first one's place
    shutil.copytree(tmp_path / "first", made)
    shutil.copyfile(other / "train.image.npy", made / "train.image.npy")
    assert_damage_is_found_and_mended(reader, made, pipeline="memory")


def test_an_empty_folder_is_damage(kept):
    shutil.rmtree(kept[1])
    kept[1].mkdir()
    assert_damage_is_found_and_mended(*kept, pipeline="memory")


# Atomic writing


@pytest.mark.parametrize("where", ["identity", "read", "train", "test"])
def test_a_reader_that_fails_leaves_nothing(folder, where):
    class Failing(Reader):
        def identity(self, options):
            return self.fails("identity") or super().identity(options)

        def read(self, options):
            self.fails("read")
            return super().read(options)

        def fails(self, here):
            if here == where:
                raise UserError("no more")

    bad = {where: (len(SPLITS[where]["image"]) - 1,)} if where in SPLITS else {}
    with pytest.raises(UserError, match=r"^no more$|^cannot decode img\d.png \(empty\); --skip-bad"):
        load(Failing(as_records(SPLITS, **bad)))
    assert not folder.exists() or list(folder.iterdir()) == []
    assert_same(load(Reader()).splits)


def start(code, cache, *arguments):
    """Starts a new Python on `code`, with `cache` as its cache folder."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"JAXGEN_DATA_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_kill_in_the_middle_leaves_nothing_that_is_used(tmp_path, folder):
    """The process is killed when half of the arrays are written."""
    code = """
        import os, signal
        import numpy as np
        from jaxgen import data

        save, saved = np.save, []

        def save_some(path, array):
            if len(saved) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            saved.append(save(path, array))

        np.save = save_some
        data.load("digits")
    """
    process = start(code, tmp_path / "cache")
    process.communicate(timeout=300)
    assert process.returncode == -9
    (left,) = folder.iterdir()
    assert left.name.startswith(f"incomplete.{platform.node()}.{process.pid}.")
    assert len(list(left.rglob("*.npy"))) == 3
    from jaxgen import data

    assert not data.info("digits").prepared
    digits = data.load("digits")
    assert len(digits.train["image"]) == 808
    assert data.info("digits").prepared
    assert not left.exists()


def test_two_processes_write_at_once(tmp_path, folder):
    """Each process writes its arrays, then waits until the other has too."""
    code = """
        import pathlib, sys, time
        from jaxgen import data
        from jaxgen.data import store

        meeting, me = pathlib.Path(sys.argv[1]), sys.argv[2]
        write_all = store._write_all

        def wait(*arguments):
            write_all(*arguments)
            (meeting / me).touch()
            while len(list(meeting.iterdir())) < 2:
                time.sleep(0.01)

        store._write_all = wait
        sys.stdout.write(data.load("digits").fingerprint)
    """
    (tmp_path / "meeting").mkdir()
    pair = [start(code, tmp_path / "cache", tmp_path / "meeting", me) for me in ("one", "two")]
    done = [(*process.communicate(timeout=300), process.returncode) for process in pair]
    assert done[0] == done[1] == (done[0][0], "", 0)
    assert len(done[0][0]) == 64
    (made,) = folder.iterdir()  # and nothing is left over
    assert made.name.startswith("digits-")


def test_another_process_may_be_first(folder):
    """The other process's data are read, and this one's discarded."""

    class Slow(Reader):
        def read(self, options):
            if not self.read_so_often:
                load(Reader())
            return super().read(options)

    assert_same(load(Slow()).splits)
    assert len(list(folder.iterdir())) == 1


def test_files_that_change_while_they_are_read():
    class Changing(Reader):
        def read(self, options):
            self.name = "2"
            return super().read(options)

    with pytest.raises(UserError, match=r"^the files of dataset mine were changed while they were read: start again$"):
        load(Changing())


def test_leavings_of_killed_processes_go(folder):
    """This machine's are removed at once, another's after a day; none while its process may still be writing."""
    ended = start("", folder)
    ended.communicate(timeout=300)
    this, other = platform.node(), f"other.{platform.node()}"
    gone = [f"incomplete.{this}.{ended.pid}.x", f"incomplete.{other}.{ended.pid}.old", "incomplete.old"]
    kept = [f"incomplete.{this}.{os.getppid()}.x", f"incomplete.{other}.{ended.pid}.new", "incomplete.new"]
    for name, hours in (*((name, 25 if "old" in name else 0) for name in gone), *((name, 23) for name in kept)):
        (folder / name / "made").mkdir(parents=True)
        then = time.time() - hours * 3600
        os.utime(folder / name, (then, then))
    (folder / "incomplete.ended").symlink_to("nowhere")
    (folder / "mine").mkdir()  # a user's folder
    load(Reader())
    left = {path.name for path in folder.iterdir()}
    assert {name for name in left if not name.startswith("mine-")} == {*kept, "incomplete.ended", "mine"}
    assert len(left) == 6


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError) as caught:
        load(Reader())
    assert str(caught.value) == (
        f"cannot write the data folder {tmp_path}/file (Not a directory): "
        "set JAXGEN_DATA_DIR to a folder that can be written"
    )


def test_a_full_disk(tmp_path, folder):
    code = """
        import resource, signal
        from jaxgen import data, errors

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            data.load("digits")
        except errors.UserError as error:
            print(error)
    """
    stdout, stderr = start(code, tmp_path / "cache").communicate(timeout=300)
    assert re.fullmatch(rf"cannot write the data folder {tmp_path}/cache \(.*\): set JAXGEN_DATA_DIR to .*\n", stdout)
    assert stderr == ""
    assert list(folder.iterdir()) == []


# Examples that cannot be used


BAD = {"train": (1, 4), "test": (0,)}


@pytest.mark.parametrize("pipeline", ["memory", "grain"])
def test_bad_examples_are_an_error(pipeline):
    with pytest.raises(UserError) as caught:
        load(Reader(as_records(SPLITS, **BAD)), pipeline=pipeline)
    assert str(caught.value) == "cannot decode img1.png (empty); --skip-bad leaves such images out"


@pytest.mark.parametrize("pipeline", ["memory", "grain"])
def test_bad_examples_are_left_out_and_counted(pipeline):
    left = {
        split: {name: np.delete(entry, BAD.get(split, ()), 0) for name, entry in entries.items()}
        for split, entries in SPLITS.items()
    }
    for _ in range(2):
        found = load(Reader(as_records(SPLITS, **BAD)), pipeline=pipeline, skip_bad=True)
        assert_same(found.splits, left)
        assert found.manifest.skipped == {"train": 2, "test": 1}
        assert found.manifest.fingerprint == by_hand(left)
        np.testing.assert_allclose(found.mean, left["train"]["image"].mean(0) / 255, rtol=1e-14)


def test_none_that_can_be_decoded():
    """The error names up to three of the files."""
    with pytest.raises(UserError) as caught:
        load(Reader(as_records(SPLITS, validation=(0, 1))), skip_bad=True)
    each = [f"cannot decode img{n}.png (empty)" for n in range(3)]
    assert str(caught.value) == f"mine, validation: no image is left with --skip-bad: {each[0]}; {each[1]}"
    with pytest.raises(UserError) as caught:
        load(Reader(as_records(SPLITS, train=tuple(range(6)))), skip_bad=True)
    assert str(caught.value) == f"mine, train: no image is left with --skip-bad: {'; '.join(each)}; and 3 more"


@pytest.mark.parametrize("pipeline", ["memory", "grain"])
@pytest.mark.parametrize(
    ("split", "index", "shape", "message"),
    [
        ("train", 3, (5, 6, 3), "mine, train: img3.png is 5x6x3, those before it 5x4x3"),
        ("train", 1, (5, 4, 1), "mine, train: img1.png is 5x4x1, those before it 5x4x3"),
        ("test", 0, (9, 9, 3), "mine, test: img0.png is 9x9x3, those before it 5x4x3"),
    ],
)
def test_images_that_differ_are_named_with_the_remedy(split, index, shape, message, pipeline):
    def odd(images):
        images = list(images)
        images[index] = RNG.integers(0, 256, shape, np.uint8)
        return images

    reader = Reader(as_records(SPLITS | {split: SPLITS[split] | {"image": odd(SPLITS[split]["image"])}}))
    with pytest.raises(UserError) as caught:
        load(reader, pipeline=pipeline)
    assert str(caught.value) == f"{message}; --image-size (and --channels) make them alike"
    found = load(reader, pipeline=pipeline, image_size=4, channels=1)
    assert found.splits[split]["image"].shape == (len(SPLITS[split]["image"]), 4, 4, 1)


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize(("label", "index"), [(2, 4), (-1, 0)])
def test_a_label_out_of_range_is_named(label, index, records):
    def wrong(labels):
        labels[index:] = label
        return labels

    splits = changed("train", "label", wrong)
    with pytest.raises(UserError) as caught:
        load(Reader(as_records(splits) if records else splits))
    assert str(caught.value) == f"mine, train example {index}: label {label} is out of range: there are 2 classes"


def test_the_example_is_the_readers_where_others_were_left_out():
    splits = changed("train", "label", lambda labels: np.full_like(labels, 7))
    with pytest.raises(UserError, match=r"^mine, train example 2: label 7 is out of range: there are 2 classes$"):
        load(Reader(as_records(splits, train=(0, 1))), skip_bad=True)


@pytest.mark.parametrize("records", [False, True])
def test_a_split_without_examples(records):
    splits = SPLITS | {"test": {name: entry[:0] for name, entry in SPLITS["test"].items()}}
    with pytest.raises(UserError, match=r"^dataset mine: split test has no examples$"):
        load(Reader(as_records(splits) if records else splits))


def test_images_only_can_be_transformed():
    points = {split: {"point": np.zeros((2, 2), np.float32)} for split in SPLITS}
    for options in ({"crop": 3}, {"image_size": 9}, {"pad": 1}, {"channels": 3}, {"binarize": "threshold"}):
        with pytest.raises(UserError) as caught:
            load(Reader(points, ()), **options)
        assert str(caught.value) == "dataset mine has no images that could be resized, cropped, padded or the like"


@pytest.mark.parametrize("records", [False, True])
def test_a_crop_larger_than_an_image(records):
    with pytest.raises(UserError, match=r"crop 5: there is an image of 5x4"):
        load(Reader(as_records(SPLITS) if records else SPLITS), crop=5)


# In memory, or read while training


def test_what_is_read_while_training_is_what_is_in_memory():
    reader = Reader(as_records(SPLITS))
    options = {"image_size": 4, "channels": 1, "pad": 1}
    memory, grain = (load(reader, pipeline=pipeline, **options) for pipeline in ("memory", "grain"))
    assert reader.read_so_often == 3  # grain reads to write and again to open
    assert memory.manifest.records is None
    assert grain.manifest.records == {"train": [*range(6)], "validation": [0, 1], "test": [0, 1, 2]}
    np.testing.assert_array_equal(grain.mean, memory.mean)
    assert_same(grain.splits, memory.splits)
    for split in SPLITS:
        images, expected = grain.splits[split]["image"], memory.splits[split]["image"]
        assert isinstance(images, Images)
        assert len(images) == len(expected)
        for index in (
            0,
            -1,
            np.int32(1),
            slice(1, None),
            slice(None, None, -1),
            slice(0),
            [1, 0, 1],
            expected[:, 0, 0, 0] > 99,
        ):
            np.testing.assert_array_equal(images[index], expected[index])
        with pytest.raises(IndexError):
            images[len(images)]


@pytest.mark.parametrize(("most", "streamed"), [(11 * 16 * 3, False), (11 * 16 * 3 - 1, True)])
def test_auto_goes_by_the_size_of_all_images_as_transformed(monkeypatch, most, streamed):
    """The decision uses 11 images of 4x4x3 bytes, the shape of the first that can be decoded."""
    monkeypatch.setattr(store, "IN_MEMORY", most)
    found = load(Reader(as_records(SPLITS, train=(0,))), image_size=4, skip_bad=True)
    assert isinstance(found.splits["train"]["image"], Images) == streamed
    assert (found.manifest.records is not None) == streamed
    memory = load(Reader(as_records(SPLITS, train=(0,))), image_size=4, skip_bad=True, pipeline="memory")
    assert_same(found.splits, memory.splits)
    assert found.manifest.fingerprint == memory.manifest.fingerprint


def test_what_was_decoded_for_one_pipeline_serves_others(folder, monkeypatch):
    """Decoding in memory stores arrays, reading while training stores records; neither replaces the other."""
    reader = Reader(as_records(SPLITS))

    def arrays(pipeline):
        before = set(folder.iterdir()) if folder.exists() else set()
        found = load(reader, pipeline=pipeline).splits["train"]["image"]
        return isinstance(found, np.ndarray), len(set(folder.iterdir()) - before)

    assert arrays("memory") == (True, 1)
    assert arrays("auto") == (True, 0)
    assert arrays("grain") == (False, 1)
    assert [arrays(pipeline) for pipeline in ("memory", "auto", "grain")] == [(True, 0), (True, 0), (False, 0)]
    shutil.rmtree(folder)
    assert arrays("grain") == (False, 1)
    assert arrays("auto") == (True, 1)  # there is room in memory
    shutil.rmtree(folder)
    monkeypatch.setattr(store, "IN_MEMORY", 1)
    assert arrays("auto") == (False, 1)
    assert arrays("grain") == (False, 0)
    assert arrays("memory") == (True, 1)


def test_another_pillow_decodes_anew_what_is_not_kept(monkeypatch):
    """Another version may give other pixels, which the fingerprint must show."""
    reader = Reader(as_records(SPLITS))
    load(reader, pipeline="memory"), load(reader, pipeline="grain")
    assert reader.read_so_often == 3
    monkeypatch.setattr("PIL.__version__", "99.0.0")
    load(reader, pipeline="memory")
    assert reader.read_so_often == 3
    load(reader, pipeline="grain")
    assert reader.read_so_often == 5


def test_arrays_for_grain_stay_on_disk():
    found = load(Reader(), pipeline="grain")
    arrays = [entries[name] for entries in found.splits.values() for name in ("image", "label")]
    assert all(isinstance(entry, np.memmap) for entry in arrays)
    assert_same(found.splits)


# User splits that the reader did not handle


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("pipeline", ["memory", "grain"])
def test_splits_are_sliced(records, pipeline):
    options = {"train_split": "train[4:]+test[:1]", "validation_split": "train[:50%]", "pipeline": pipeline}
    reader = Reader(as_records(SPLITS) if records else SPLITS)
    with pytest.raises(UserError) as caught:
        load(reader, **options)
    assert str(caught.value) == (
        "the splits of mine overlap: train is train[4:]+test[:1] and test is test, with 1 examples in both; "
        "give train_split or test_split so that they have none"
    )
    found = load(reader, **options, test_split="test[1:]")
    train, test = SPLITS["train"], SPLITS["test"]
    expected = {
        "train": {name: np.concatenate([train[name][4:], test[name][:1]]) for name in train},
        "validation": {name: train[name][:3] for name in train},
        "test": {name: test[name][1:] for name in test},
    }
    assert_same(found.splits, expected) if not records else assert_values(found.splits, expected)
    assert found.manifest.note == (
        "made for a test; train is train[4:]+test[:1], validation is train[:50%], test is test[1:]"
    )


def assert_values(found, expected):
    """Compares entries by index; a record's caption is as wide as the longest of its split."""
    for split, entries in expected.items():
        for name, entry in entries.items():
            np.testing.assert_array_equal(found[split][name][np.arange(len(entry))], entry)


def test_an_odd_image_of_joined_records_is_named_by_its_own_file():
    images = [*SPLITS["train"]["image"][:5], np.zeros((9, 9, 3), np.uint8)]
    reader = Reader(as_records(SPLITS | {"train": SPLITS["train"] | {"image": images}}))
    with pytest.raises(UserError, match=r"^mine, train: img5.png is 9x9x3, those before it 5x4x3"):
        load(reader, train_split="validation[:1]+train[3:]", validation_split="validation[1:]")
