"""Tar files of WebDataset: members, splits, damage; against the same images in a folder."""

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.options import Options
from jaxgen.data.readers import webdataset
from jaxgen.data.source import BadExampleError
from jaxgen.errors import UserError
from tests.data.test_image_files import encoded

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = [0, 0, 1, 1, 2, 2] * 2
NAMES = ["cat", "dog", "eel"]
PNGS = [encoded(image, "PNG") for image in IMAGES]
FILES = ("toy-train-000000.tar", "toy-train-000001.tar", "toy-test-000000.tar")
ROWS = (range(4), range(4, 6), range(6, 12))
"""Examples of each shard."""


def members_of(rows):
    """The members of examples, {name: content}."""
    found = {}
    for i in rows:
        found |= {f"{i:04}.png": PNGS[i], f"{i:04}.cls": f"{LABELS[i]}\n".encode()}
        found |= {f"{i:04}.txt": f"a {NAMES[LABELS[i]]}\n".encode()}
    return found


def save(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path):
    """A dataset of three shards."""
    for name, rows in zip(FILES, ROWS, strict=True):
        save(tmp_path / "shards" / name, members_of(rows))
    return tmp_path / "shards"


def options(folder, **more):
    return Options("webdataset", data_from=str(folder), **more)


def message(folder, **more):
    """The one-line error for a dataset."""
    with pytest.raises(UserError) as caught:
        data.load("webdataset", data_from=str(folder), progress=False, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def row_of(example):
    (row,) = np.flatnonzero((example["image"] == IMAGES).all((1, 2, 3)))
    return int(row)


def test_examples_are_read_as_they_were_written(folder):
    """Labels and captions of .cls and .txt go before those of .json."""
    other = b'{"label": 1, "caption": "no"}'
    save(folder / FILES[0], members_of(ROWS[0]) | {f"{i:04}.json": other for i in ROWS[0]})
    source = webdataset.read(options(folder))
    assert source.classes == ("0", "1", "2")
    assert [row_of(example) for example in source.splits["test"]] == list(range(6, 12))
    rows = []
    for records in source.splits.values():
        for example in pickle.loads(pickle.dumps(records)):
            rows.append(row_of(example))
            assert (example["label"], example["caption"]) == (LABELS[rows[-1]], f"a {NAMES[LABELS[rows[-1]]]}")
    assert sorted(rows) == list(range(12))
    sizes = ", ".join(f"{len(records)} {split}" for split, records in source.splits.items())
    assert source.note == (
        f"12 images of {folder}, in splits that their names tell, about a tenth of train for validation by a hash of "
        f"their names: {sizes}; 3 classes: 0 4, 1 4, 2 4; captions from the shards"
    )


def test_the_same_images_in_a_folder_have_the_same_fingerprint(folder, tmp_path):
    save(folder / "toy-val.tar", members_of(range(6)))
    lines = []
    for split, rows in (("train", range(6)), ("val", range(6)), ("test", range(6, 12))):
        for i in rows:
            path = tmp_path / "images" / split / str(LABELS[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNGS[i])
            lines.append({"file": f"{split}/{LABELS[i]}/{i}.png", "caption": f"a {NAMES[LABELS[i]]}"})
    (tmp_path / "images" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    expected = data.load("image_folder", data_from=str(tmp_path / "images"), image_size=4, progress=False)
    for pipeline in ("memory", "grain"):
        found = data.load("webdataset", data_from=str(folder), image_size=4, progress=False, pipeline=pipeline)
        assert found.fingerprint == expected.fingerprint
        assert found.streamed == (pipeline == "grain")
        np.testing.assert_array_equal(found.train["image"][[5, 0, 3]], expected.train["image"][[5, 0, 3]])
    assert found.vocabulary == expected.vocabulary
    assert "6 of validation are in train too" in found.note


def test_other_members_and_names(tmp_path):
    """Labels by name and captions in .json, keys in folders, members apart; what is not read is counted."""
    members = {"./": b""}
    for i, image in enumerate(PNGS):
        members |= {f"./{LABELS[i]}/img.{i}.PNG": b"not an image of this key", f"./{LABELS[i]}/{i}.PNG": image}
    for i, label in enumerate(LABELS):
        captions = [f"a {NAMES[label]}", "it"] if label else ["a cat"]
        members[f"./{label}/{i}.json"] = json.dumps({"label": NAMES[label], "text": captions, "url": "x"}).encode()
    members |= {"./._1.png": b"of macOS", "0/0.seg.png": b"a mask", "README": b"words"}
    save(tmp_path / "all.tar", members)
    for place in (tmp_path, tmp_path / "all.tar", tmp_path / "a*.tar"):
        source = webdataset.read(options(place))
        assert source.classes == tuple(NAMES)
        assert sum(map(len, source.splits.values())) == 12
        for example in (example for records in source.splits.values() for example in records):
            name = NAMES[LABELS[row_of(example)]]
            assert source.classes[example["label"]] == name
            assert example["caption"] == ("a cat" if name == "cat" else [f"a {name}", "it"])
        assert "split about 80/10/10 by a hash of their names: " in source.note
        assert source.note.endswith("passed over: 1 without suffix, 13 .*.png")


def test_an_example_keeps_its_split_when_others_come(tmp_path):
    save(tmp_path / "0.tar", {f"{i}.png": PNGS[0] for i in range(80)})
    before = webdataset.read(options(tmp_path)).splits
    assert min(map(len, before.values())) > 3
    save(tmp_path / "1.tar", {f"{i}.png": PNGS[0] for i in range(40)})
    after = webdataset.read(options(tmp_path)).splits
    for split in before:
        assert set(before[split].paths) == {path for path in after[split].paths if path.startswith("0.tar/")}
    blocks = webdataset.read(options(tmp_path, split_blocks=40)).splits
    assert [len(records) for records in blocks.values()] == [40, 40, 40]
    for records in blocks.values():
        first = int(records.paths[0].removesuffix(".png").partition("/")[2])
        assert [path.partition("/")[2] for path in records.paths] == [f"{first + i}.png" for i in range(40)]


@pytest.mark.parametrize(
    ("files", "train", "validation", "test"),
    [
        (("train/0.tar", "val/0.tar", "test/0.tar"), [0], [1], [2]),
        (("a-Training-1.tar", "b_dev.tar", "testing.tar"), [0], [1], [2]),
        (("test/x-0.tar", "train/x-0.tar", "x-valid-00.tar"), [1], [2], [0]),
        (("train-0.tar", "extra-0.tar", "train-1.tar", "validation-0.tar", "test-0.tar"), [0, 2], [3], [4]),
        (("train-0-of-2.TAR", "train-1-of-2.tar", "val.tar", "test-0.TAR", "test-1.Tar"), [0, 1], [2], [3, 4]),
    ],
)
def test_splits_by_names_of_shards(files, train, validation, test, tmp_path):
    for i, name in enumerate(files):
        save(tmp_path / name, {"x.png": PNGS[i]})
    source = webdataset.read(options(tmp_path))
    found = {split: [row_of(example) for example in records] for split, records in source.splits.items()}
    assert found == {"train": train, "validation": validation, "test": test}
    assert ("shards of no split, left out: extra" in source.note) == ("extra-0.tar" in files)


def test_images_that_cannot_be_decoded(folder):
    """Messages name the shard and the member, and the images can be left out."""
    save(folder / FILES[2], members_of(range(6, 10)) | {"x/1.png": PNGS[0][:30], "x/1.cls": b"0", "x/1.txt": b"a cat"})
    records = webdataset.read(options(folder)).splits["test"]
    with pytest.raises(BadExampleError, match=rf"^cannot decode {folder / FILES[2]}/x/1.png \("):
        records[4]
    found = data.load("webdataset", data_from=str(folder), skip_bad=True, progress=False)
    np.testing.assert_array_equal(found.test["image"], IMAGES[6:10])
    assert "left out because they cannot be decoded: 1 of test" in found.note
    (folder / FILES[2]).write_bytes((folder / FILES[2]).read_bytes()[:600])
    with pytest.raises(BadExampleError, match=r"the shard was cut short since$"):
        records[2]


def test_a_changed_shard_is_read_anew(folder):
    before = webdataset.identity(options(folder))
    assert webdataset.identity(options(folder)) == before
    save(folder / FILES[1], members_of(range(5, 7)))
    assert webdataset.identity(options(folder)) != before


def damaged(path):
    """Changes a byte of the second header."""
    content = bytearray(path.read_bytes())
    place = content.index(b"0000.cls")
    content[place + 100] ^= 1
    path.write_bytes(content)


def add(**members):
    """Function that saves a shard with members added, or replaced."""
    return lambda path: save(path, members_of(range(4)) | {name.replace("_", "."): x for name, x in members.items()})


def leave_out(name):
    return lambda path: save(path, {each: content for each, content in members_of(range(4)).items() if each != name})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.write_bytes(b""), "{path} is no tar file: it is empty"),
        (lambda path: path.write_bytes(PNGS[0] * 9), "{path} is no tar file: it is of another format or damaged"),
        (
            lambda path: path.write_bytes(gzip.compress(path.read_bytes(), mtime=0)),
            "{path} is compressed, so images cannot be read from their places: decompress it to a plain tar",
        ),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
            "{path} is a Git LFS pointer: `git lfs pull` gets the file",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:700]),
            "{path} is damaged or cut short (unexpected end of da",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:2048]), "{path} is damaged or cut short"),
        (damaged, "{path} is damaged or cut short after "),
        (leave_out("0001.png"), "0001 of {path} has no image, only .cls and .txt"),
        (leave_out("0001.cls"), "{path}/0001.png has no label, and others have: all need one, or none"),
        (leave_out("0002.txt"), "{path}/0002.png has no caption, and others have: all need one, or none"),
        (
            lambda path: save(path, {f"{i}.png": PNGS[i] for i in range(4)}),
            "{folder}/toy-train-000000.tar/0.png has no label, and others have: all need one, or none",
        ),
        (add(**{"0001_jpg": PNGS[1]}), "0001 of {path} has two images"),
        (add(**{"0001_cls": b"-1"}), "labels in {folder} are from -1 to 2, not from 0 to 99,999"),
        (add(**{"0001_cls": b"  "}), 'the label of 0001 of {path} is "", neither a whole number nor a name'),
        (add(**{"0001_cls": b"1" * 5000}), "the label of 0001 of {path} is a number of 5,000 digits"),
        (add(**{"0001_txt": b"\xff\xfe"}), "0001.txt of {path} is no UTF-8 text"),
        (add(**{"0001_json": b"{"}), "the .json of 0001 of {path} is no JSON"),
        (add(**{"0001_json": b"[]"}), 'the .json of 0001 of {path} is no object, as in {{"caption": "a cat"}}'),
        (
            lambda path: save(path, {"1.png": PNGS[0], "1.json": b'{"label": 1.5}'}),
            "the label of 1 of {path} is 1.5, neither a whole number nor a name",
        ),
        (
            lambda path: save(path, {"1.png": PNGS[0], "1.json": b'{"caption": []}'}),
            "the caption of 1 of {path} is [], no text",
        ),
        (
            lambda path: save(path.with_name(FILES[2]), {"a.mp4": b"a film"}),
            "{folder}/toy-test-000000.tar holds no image (",
        ),
        (
            lambda path: save(path.with_name("b-train-0.tar"), members_of(range(4))),
            "{folder} holds b-train and toy-train, which are both for train: name one folder, or a pattern",
        ),
        (
            lambda path: save(path.with_name("toy-train-000003.tar"), members_of(range(4))),
            "{folder} lacks number 2 of the shards toy-train, which end with 3: get it, or name those that there are",
        ),
        (add(**{"0001_png": encoded(IMAGES[0, :3], "PNG")}), "webdataset, "),
    ],
)
def test_what_is_refused(folder, change, expected):
    path = folder / FILES[0]
    change(path)
    assert message(folder).startswith(expected.format(path=path, folder=folder))


def test_places_that_are_refused(folder, tmp_path):
    assert message(folder / "*test*") == f"{folder} holds shards for test, and none for training"
    assert message(tmp_path / "absent").startswith(f"there is no folder or file {tmp_path / 'absent'}: --data-from")
    (tmp_path / "tgz").mkdir()
    (tmp_path / "tgz" / "train.tar.gz").touch()
    assert message(tmp_path / "tgz") == f"{tmp_path / 'tgz'} holds no .tar file: unpack its .gz files"
    with pytest.raises(UserError, match=r"^webdataset needs a folder of \.tar files: name it by --data-from FOLDER"):
        data.load("webdataset")
    save(folder / "toy-val.tar", members_of(range(2)))
    assert message(folder, split_blocks=2) == f"{folder} has splits of its own, so split_blocks is not for it"
