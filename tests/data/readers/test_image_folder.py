"""Folders of the user's images: layouts, captions, labels, damage."""

import hashlib
import io
import json
import os
import pickle
import re
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.data import captions as captions_files
from jaxgen.data.image_files import decoded
from jaxgen.data.options import Options
from jaxgen.data.readers import image_folder
from jaxgen.data.readers.image_folder import identity, read
from jaxgen.data.source import BadExampleError
from jaxgen.errors import UserError
from tests.data.test_image_files import NOISE, WHOLE, encoded, unpng


def test_real_images():
    """Decodes rows of real PNG files with many filters, against the decoder above."""
    root = os.environ.get("JAXGEN_TEST_DATA")
    if not root:
        pytest.skip("needs JAXGEN_TEST_DATA")
    options = Options("image_folder", str(Path(root) / "cifar10_first4000"))
    source = read(options)
    assert {split: len(source.splits[split]) for split in source.splits} == {"train": 2, "validation": 1, "test": 1}
    assert source.classes == ()
    images = [example["image"] for records in source.splits.values() for example in records]
    assert [image.shape for image in images] == [(1000, 1024, 3)] * 4
    with Image.open(Path(options.data_from) / source.splits["test"].paths[0]) as image:
        part = image.crop((0, 100, 300, 160))
    assert len(set(part.tobytes())) > 200
    file = io.BytesIO()
    part.save(file, "PNG")
    np.testing.assert_array_equal(unpng(file.getvalue()), decoded(file.getvalue(), "part"))
    np.testing.assert_array_equal(unpng(file.getvalue()), source.splits["test"][0]["image"][100:160, :300])


def save(folder, *paths):
    """Saves images of constant gray, counting up from 0."""
    for value, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if path.lower().endswith("png") else "JPEG"
        (folder / path).write_bytes(
            encoded(np.full((2, 3), value), kind, **({"quality": 100} if kind == "JPEG" else {}))
        )


def source(folder):
    return read(Options("image_folder", str(folder)))


def contents(records):
    """The gray level of each image, with its label and caption if it has them."""
    examples = [dict(example) for example in records]
    for example in examples:
        image = example.pop("image")
        assert image.shape == (2, 3, 1)
        assert len(np.unique(image)) == 1
        example["gray"] = int(image[0, 0, 0])
    return [tuple(example[name] for name in ("gray", "label", "caption") if name in example) for example in examples]


def paths(read_source):
    return {split: list(records.paths) for split, records in read_source.splits.items()}


def message(folder):
    """The one-line error for a folder."""
    with pytest.raises(UserError) as caught:
        source(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SPLIT = [f"{split}/{i}.png" for split in ("train", "validation", "test") for i in range(2)]


def test_flat_split_folders(tmp_path):
    save(tmp_path, *SPLIT)
    got = source(tmp_path)
    assert list(got.splits) == ["train", "validation", "test"]
    assert {split: contents(x) for split, x in got.splits.items()} == {
        "train": [(0,), (1,)],
        "validation": [(2,), (3,)],
        "test": [(4,), (5,)],
    }
    assert got.classes == ()
    assert got.note == (
        f"6 images of the folder {tmp_path}, in its own split folders: 2 train, 2 validation, 2 test; no classes"
    )


def test_split_folders_with_classes(tmp_path):
    save(
        tmp_path,
        "TEST/cat/a.png",
        "val/cat/b.JPG",
        "val/dog/c.png",
        "Train/dog/x/d.jpeg",
        "Train/cat/e.PNG",
        "TEST/dog/f.png",
    )
    got = source(tmp_path)
    assert {split: contents(x) for split, x in got.splits.items()} == {
        "train": [(4, 0), (3, 1)],
        "validation": [(1, 0), (2, 1)],
        "test": [(0, 0), (5, 1)],
    }
    assert got.classes == ("cat", "dog")


def test_class_subfolders_in_natural_order(tmp_path):
    save(tmp_path, "10/a.png", "9/b.png", "9/deeper/c.png", "x2/d.png", "x10/e.png", "1/f.png")
    got = source(tmp_path)
    assert got.classes == ("1", "9", "10", "x2", "x10")
    everything = [x for split in got.splits.values() for x in contents(split)]
    assert sorted(everything) == [(0, 2), (1, 1), (2, 1), (3, 3), (4, 4), (5, 0)]


def test_natural_order_of_paths(tmp_path):
    names = ["10.png", "9.png", "09.png", "a10b2.png", "a10b10.png", "a9.png", "b/1.png", "b!.png"]
    save(tmp_path, *(f"train/x/{name}" for name in names), "val/x/0.png", "test/x/0.png")
    order = [path.removeprefix("train/x/") for path in source(tmp_path).splits["train"].paths]
    # folder b sorts before b!.png, and 09 before 9, as strings
    assert order == ["09.png", "9.png", "10.png", "a9.png", "a10b2.png", "a10b10.png", "b/1.png", "b!.png"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train_imagesX", ["train", "images", "x"]),
        ("testLabels-00001-of-2", ["test", "labels", "of"]),
        ("IMG_7", ["img"]),
        ("7", []),
    ],
)
def test_words_of_names(name, words):
    assert image_folder.words_of(name) == words


def test_a_class_may_be_called_as_a_split(tmp_path):
    save(tmp_path, "car/a.png", "plane/b.png", "train/c.png")
    assert source(tmp_path).classes == ("car", "plane", "train")


def share(path):
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") / 2**32


def test_drawn_splits(tmp_path):
    """Reading a folder opens no image, so the files can be empty."""
    names = [f"é{i}.png" for i in range(400)]
    for name in names[:300]:
        (tmp_path / name).touch()
    before = paths(source(tmp_path))
    assert before == {
        "train": [name for name in names[:300] if share(name) >= 0.2],
        "validation": [name for name in names[:300] if 0.1 <= share(name) < 0.2],
        "test": [name for name in names[:300] if share(name) < 0.1],
    }
    assert 15 < len(before["test"]) < 45
    for name in names[300:]:
        (tmp_path / name).touch()
    after = paths(source(tmp_path))
    for split in before:
        assert set(before[split]) <= set(after[split])
    counts = ", ".join(f"{len(names)} {split}" for split, names in after.items())
    how = "split about 80/10/10 by a hash of their paths"
    assert source(tmp_path).note == f"400 images of the folder {tmp_path}, {how}: {counts}; no classes"


@pytest.mark.parametrize("count", range(3, 12))
@pytest.mark.parametrize("letter", "abcd")
def test_few_images(tmp_path, count, letter):
    """Each split has at least one image: the smallest hashes are test images, the next validation images."""
    for i in range(count):
        (tmp_path / f"{letter}{i}.png").touch()
    splits = paths(source(tmp_path))
    names = sorted((f"{letter}{i}.png" for i in range(count)), key=share)
    assert sorted(chain(*splits.values())) == sorted(names)
    assert all(splits.values())
    assert [*sorted(splits["test"], key=share), *sorted(splits["validation"], key=share)] == (
        names[: len(splits["test"]) + len(splits["validation"])]
    )


@pytest.mark.parametrize(("low", "high"), [(0, 0.1), (0.1, 0.2), (0.2, 1), (0, 0.2)])
def test_images_of_one_share(tmp_path, low, high):
    names = [name for name in (f"{i}.png" for i in range(200)) if low <= share(name) < high][:3]
    for name in names:
        (tmp_path / name).touch()
    test, validation, train = sorted(names, key=share)
    assert paths(source(tmp_path)) == {"train": [train], "validation": [validation], "test": [test]}


def test_too_few_images(tmp_path):
    save(tmp_path, "a.png")
    needed = "at least 3 are needed, one for each of train, validation, test"
    assert message(tmp_path) == f"{tmp_path} holds 1 image: {needed}"
    save(tmp_path, "a.png", "b.png")
    assert message(tmp_path) == f"{tmp_path} holds 2 images: {needed}"
    save(tmp_path, "a.png", "b.png", "c.png")
    assert [len(x) for x in source(tmp_path).splits.values()] == [1, 1, 1]


def test_no_folder(tmp_path):
    needed = "a folder of images"
    for function in (read, identity):
        with pytest.raises(UserError) as caught:
            function(Options("image_folder"))
        assert str(caught.value) == (
            f"image_folder needs {needed}: name it by --data-from FOLDER (--from in `jaxgen data`)"
        )
    named = f"--data-from (--from in `jaxgen data`) has to name {needed}"
    assert message(tmp_path / "no") == f"there is no folder {tmp_path / 'no'}: {named}"
    (tmp_path / "file.png").touch()
    assert message(tmp_path / "file.png") == f"{tmp_path / 'file.png'} is a file: {named}"
    assert message(tmp_path / "file.png" / "x") == f"there is no folder {tmp_path / 'file.png' / 'x'}: {named}"


def test_no_images(tmp_path):
    expected = f"{tmp_path} holds no image (.png, .jpg, .jpeg, .jfif, .webp, .tif, .tiff), nor do its subfolders"
    assert message(tmp_path) == expected
    (tmp_path / "cat").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".a.png").touch()
    (tmp_path / "captions.jsonl").touch()
    assert message(tmp_path) == expected


def test_mixed_layouts(tmp_path):
    save(tmp_path, "cat/a.png", "dog/b.png", "c.png")
    mends = "put either all or none of the images into class subfolders"
    assert message(tmp_path) == f"{tmp_path} mixes loose images (c.png) and subfolders of images (cat): {mends}"
    inner = tmp_path / "inner"
    save(inner, "train/cat/a.png", "train/b.png", "val/cat/c.png", "test/cat/d.png")
    assert message(inner) == f"{inner / 'train'} mixes loose images (b.png) and subfolders of images (cat): {mends}"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["test/a.png"], "test, and none for training: it is to be called train, and to hold images"),
        (["val/a.png", "Test/b.png"], "Test, val, and none for training: it is to be called train, and to hold images"),
        (
            ["train/a.png", "val/b.png", "validation/c.png", "test/d.png"],
            "test, train, val, validation, of which more than one is for validation: one is needed",
        ),
        (["training/a.png", "train/b.png"], "train, training, of which more than one is for train: one is needed"),
    ],
)
def test_split_folders_without_train_or_twice(tmp_path, names, says):
    save(tmp_path, *names)
    assert message(tmp_path) == f"{tmp_path} has the split folders {says}"


def test_images_beside_split_folders(tmp_path):
    for name in ("a.png", "cat/a.png"):
        save(tmp_path, *SPLIT, name)
        assert message(tmp_path) == (
            f"{tmp_path} has {name} beside the split folders test, train, validation: move it into one of them, or out"
        )
        (tmp_path / name).unlink()


def test_classes_of_splits_differ(tmp_path):
    save(tmp_path, "train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/dog/d.png", "test/cat/e.png")
    assert message(tmp_path) == (
        f"{tmp_path / 'train'} has images of the class dog, {tmp_path / 'test'} has not: "
        "all splits need the same class subfolders"
    )
    save(tmp_path, "test/dog/e.png", "val/eel/f.png")
    assert message(tmp_path) == (
        f"{tmp_path / 'val'} has images of the class eel, {tmp_path / 'train'} has not: "
        "all splits need the same class subfolders"
    )


def test_hidden_and_other_files_are_passed_over(tmp_path):
    """Hidden files are skipped silently; the note counts other skipped files, and `identity` covers the count."""
    save(tmp_path, "a.png", "b.png", "c.png")

    def found():
        return paths(source(tmp_path)), identity(Options("image_folder", str(tmp_path)))

    before, note = found(), source(tmp_path).note
    for name in (".DS_Store", "._a.png", ".hidden/d.png", "__MACOSX/._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "__MACOSX" / "._a.png").unlink()
    (tmp_path / "__MACOSX").rmdir()
    os.mkfifo(tmp_path / "pipe.png")  # opening it would block
    assert (found(), source(tmp_path).note) == (before, note)
    for name in ("notes.txt", "e.gif", "f.GIF", "png", "x/captions.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert found()[0] == before[0]
    assert found()[1] != before[1]
    told = "folders without images: empty, x; passed over: 1 without suffix, 2 .gif, 1 .jsonl, 1 .txt"
    assert source(tmp_path).note == f"{note}; {told}"


def test_links(tmp_path):
    folder = tmp_path / "folder"
    save(folder, "cat/a.png", "cat/b.png")
    save(tmp_path / "elsewhere", "c.png", "deeper/d.png")
    (folder / "dog").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "loop").symlink_to(folder)
    (tmp_path / "elsewhere" / "deeper" / "loop").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "e.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    got = source(folder)
    assert sorted(chain(*paths(got).values())) == [
        "cat/a.png",
        "cat/b.png",
        "cat/e.png",
        "dog/c.png",
        "dog/deeper/d.png",
    ]
    assert got.classes == ("cat", "dog")
    (folder / "cat" / "f.png").symlink_to(tmp_path / "nothing.png")
    assert message(folder) == (
        f"cannot read {folder / 'cat' / 'f.png'} (No such file or directory): "
        f"make it readable, or move it out of {folder}"
    )


def test_unreadable_folder(tmp_path, monkeypatch):
    save(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png")
    scandir = os.scandir

    def refuse(path):  # works for root too, who may read every folder
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    expected = f"cannot read {tmp_path / 'dog'} (Permission denied): make it readable, or move it out of {tmp_path}"
    assert message(tmp_path) == expected
    with pytest.raises(UserError, match=re.escape(expected)):
        identity(Options("image_folder", str(tmp_path)))


def test_bad_examples_name_their_file(tmp_path):
    save(tmp_path, *SPLIT)
    (tmp_path / "train" / "0.png").write_bytes(b"")
    (tmp_path / "train" / "1.png").write_bytes(WHOLE["jpeg"][:-9])
    (tmp_path / "train" / "2.png").write_bytes(WHOLE["jpeg"])  # the content counts, not the suffix
    train = source(tmp_path).splits["train"]
    mends = "replace it by a whole image, or remove it"
    with pytest.raises(BadExampleError) as caught:
        train[0]
    assert str(caught.value) == f"cannot decode {tmp_path}/train/0.png (empty): {mends}"
    with pytest.raises(BadExampleError, match=r"^cannot decode .*/train/1.png \(image file is truncated .*\): "):
        train[1]
    assert train[2]["image"].shape == NOISE.shape
    (tmp_path / "train" / "2.png").unlink()
    with pytest.raises(BadExampleError) as caught:
        train[2]
    assert str(caught.value) == (
        f"cannot read {tmp_path}/train/2.png (No such file or directory): make it readable, or remove it"
    )


def test_records(tmp_path, monkeypatch):
    """Records support iteration and pickling, and do not depend on the current folder."""
    save(tmp_path / "x", "train/cat/a.png", "val/cat/a.png", "test/cat/a.png")
    monkeypatch.chdir(tmp_path)
    train = source("x").splits["train"]
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(train))
    assert contents(copy) == contents(train) == [(0, 0)]
    assert len(copy) == 1
    assert copy[np.int64(0)]["label"] == 0
    with pytest.raises(IndexError):
        copy[1]


def captions(folder, *lines):
    (folder / "captions.jsonl").write_text("\n".join(lines), "utf-8")


def line(file, caption):
    return json.dumps({"file": file, "caption": caption})


def test_captions(tmp_path):
    save(tmp_path, "train/x/a.png", "val/x/b.png", "test/x/c.png", "train/x/d.png")
    captions(
        tmp_path,
        "\ufeff" + line("test/x/c.png", "see"),
        '{"file": "train/x/a.png", "caption": "\u00e9\u2028 a", "more": 1}\r',
        "",
        line("./train//x/d.png", ""),
        line("val/x/b.png", "bee"),
        "",
    )
    got = source(tmp_path)
    assert {split: contents(x) for split, x in got.splits.items()} == {
        "train": [(0, 0, "é\u2028 a"), (3, 0, "")],
        "validation": [(1, 0, "bee")],
        "test": [(2, 0, "see")],
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{'file': 'c.png'}", '{where} is no JSON: it has to be like {{"file": "a.png", "caption": "a cat"}}'),
        ("[" * 100_000, '{where} is no JSON: it has to be like {{"file": "a.png", "caption": "a cat"}}'),
        ('["c.png", "c"]', '{where} lacks a text "file" or "caption": it has to be an object with both'),
        ('{"file": "c.png"}', '{where} lacks a text "file" or "caption": it has to be an object with both'),
        (
            '{"file": "c.png", "caption": null}',
            '{where} lacks a text "file" or "caption": it has to be an object with both',
        ),
        (line("d.png", "d"), "{where} is of no image: there is no image d.png in {folder}"),
        (line("../c.png", "d"), "{where} is of no image: there is no image ../c.png in {folder}"),
        (
            '{"file": "c.png", "caption": []}',
            '{where} lacks a text "file" or "caption": it has to be an object with both',
        ),
        (
            '{"file": "c.png", "caption": ["c", 7]}',
            '{where} lacks a text "file" or "caption": it has to be an object with both',
        ),
        ("", "{path} leaves c.png an image without caption: every image needs a line, or remove it"),
    ],
)
def test_wrong_captions(tmp_path, wrong, says):
    save(tmp_path, "a.png", "b.png", "c.png")
    captions(tmp_path, line("a.png", "a"), line("b.png", "b"), wrong)
    path = tmp_path / "captions.jsonl"
    assert message(tmp_path) == says.format(path=path, where=f"line 3 of {path}", folder=tmp_path)


def test_captions_that_cannot_be_read(tmp_path, monkeypatch):
    save(tmp_path, "a.png", "b.png", "c.png")
    path = tmp_path / "captions.jsonl"
    path.write_bytes(b'{"file": "a.png", "caption": "\xff"}')
    assert message(tmp_path) == f"{path} is not UTF-8 text (byte 30): save it as UTF-8"

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(captions_files, "open", refuse, raising=False)
    assert message(tmp_path) == f"cannot read {path} (Permission denied): make it readable, or remove it"


def test_identity(tmp_path):
    options = Options("image_folder", str(tmp_path / "x"))
    save(tmp_path / "x", "cat/a.png", "cat/b.png", "dog/c.png")
    seen = [identity(options)]

    def has_changed():
        seen.append(identity(options))
        return seen[-1] not in seen[:-1]

    assert not has_changed()
    os.utime(tmp_path / "x" / "cat" / "a.png", ns=(1, 10**18))
    assert has_changed()
    os.utime(tmp_path / "x" / "cat" / "a.png", ns=(1, 10**18 + 1))
    assert has_changed()
    (tmp_path / "x" / "cat" / "a.png").write_bytes(b"other")
    os.utime(tmp_path / "x" / "cat" / "a.png", ns=(1, 10**18 + 1))
    assert has_changed()
    (tmp_path / "x" / "cat").rename(tmp_path / "x" / "cow")
    assert has_changed()
    captions(tmp_path / "x", "{}")
    assert has_changed()
    captions(tmp_path / "x", "{} ")
    assert has_changed()
    (tmp_path / "x" / "dog" / "c.png").unlink()
    assert has_changed()
    # It depends on the content, not on the folder's path.
    (tmp_path / "x").rename(tmp_path / "y")
    assert identity(Options("image_folder", str(tmp_path / "y"))) == seen[-1]


def test_identity_by_hand(tmp_path):
    save(tmp_path, "b10.png", "b9.png")
    for name in ("b10.png", "b9.png"):
        os.utime(tmp_path / name, ns=(7, 7))
    sizes = {name: (tmp_path / name).stat().st_size for name in ("b10.png", "b9.png")}
    lines = "".join("\0".join([name, str(size), "7"]) + "\n" for name, size in sizes.items())
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert identity(Options("image_folder", str(tmp_path))) == expected


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"\xff.png")
    try:
        save(tmp_path, name, "b.png", "c.png")
    except OSError:
        pytest.skip("this file system takes text only")
    assert sorted(chain(*paths(source(tmp_path)).values())) == ["b.png", "c.png", name]
    assert len(identity(Options("image_folder", str(tmp_path)))) == 64


# Splits


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("train", "valid", "test"),
        ("training", "validation", "testing"),
        ("Training", "VALID", "Test"),
        ("train", "dev", "test"),
    ],
)
def test_the_usual_names_of_splits(tmp_path, train, validation, test):
    save(tmp_path, f"{test}/1/a.png", f"{test}/2/b.png", f"{validation}/1/c.png", f"{validation}/2/d.png")
    save(tmp_path, *(f"{train}/{name}/{i}.png" for name in "12" for i in range(2)))
    got = source(tmp_path)
    assert {split: [x[1] for x in contents(records)] for split, records in got.splits.items()} == {
        "train": [0, 0, 1, 1],
        "validation": [0, 1],
        "test": [0, 1],
    }
    assert got.classes == ("1", "2")
    assert {split: {path.split("/")[0] for path in those} for split, those in paths(got).items()} == {
        "train": {train},
        "validation": {validation},
        "test": {test},
    }


@pytest.mark.parametrize(
    ("own", "carved", "words"),
    [
        (["training", "testing"], ["validation"], "about a tenth of train for validation by a hash of their paths"),
        (["train", "valid"], ["test"], "about a tenth of train for test by a hash of their paths"),
        (["train"], ["validation", "test"], "about a tenth of train for validation and another for test by a hash of "),
    ],
)
def test_missing_splits_are_carved_from_train(tmp_path, own, carved, words):
    """The path's hash decides: a share below 0.1 goes to the last missing split, below 0.2 to the one before."""
    names = {name: [f"{name}/{label}/{i}.png" for label in "ab" for i in range(60)] for name in own}
    for name in chain(*names.values()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    got = source(tmp_path)
    of = {split: [name for name in own if name.startswith(split[:5])] for split in ("train", "validation", "test")}
    expected = {split: names[of[split][0]] for split in of if of[split]}
    train = expected["train"]
    for i, split in enumerate(reversed(carved)):
        expected[split] = [name for name in train if 0.1 * i <= share(name) < 0.1 * (i + 1)]
    expected["train"] = [name for name in train if share(name) >= 0.1 * len(carved)]
    assert paths(got) == {split: expected[split] for split in ("train", "validation", "test")}
    assert all(expected.values())
    assert f", in its own split folders, {words}" in got.note
    assert got.classes == ("a", "b")


def test_a_train_folder_too_small_to_carve_from(tmp_path):
    save(tmp_path, "train/a.png", "test/b.png")
    assert message(tmp_path) == (
        f"{tmp_path / 'train'} holds 1 image: at least 2 are needed, one for each of train, validation"
    )
    save(tmp_path, "train/c.png")
    assert [len(records) for records in source(tmp_path).splits.values()] == [1, 1, 1]


LOOK = [
    ["trainA", "trainB"],
    ["testA", "testB", "trainA", "trainB"],
    ["test2017", "train2017", "val2017"],
    ["test_set", "training_set"],
    ["Test Images", "Train Images"],
    ["testset", "trainset"],
    ["TESTDATA", "TRAINDATA"],
    ["images-test", "images-train"],
    ["cat_test", "cat_train", "dog_test", "dog_train"],
    ["test_images", "train"],
    ["train", "unlabeled"],
    ["train1", "train2", "zebra"],
]


@pytest.mark.parametrize("names", LOOK, ids=" ".join)
def test_folders_that_look_like_splits_are_no_classes(tmp_path, names):
    save(tmp_path, *(f"{name}/{i}.png" for name in names for i in range(2)))
    alike = [name for name in names if name != "zebra"]
    assert message(tmp_path) == (
        f"{tmp_path} has folders that look like splits, not classes ({', '.join(alike)}): name them train, validation "
        "and test, with the classes' folders in them, as in train/cat/1.png, validation/cat/2.png, test/cat/3.png"
    )


@pytest.mark.parametrize(
    "names",
    [
        ["car", "plane", "train"],
        ["bus", "car", "train_interior", "train_station", "tram"],
        ["cat", "test tube", "trainer"],
        ["restrained", "strain", "valley"],
        ["latest", "vale"],
    ],
    ids=" ".join,
)
def test_classes_that_only_sound_like_splits(tmp_path, names):
    save(tmp_path, *(f"{name}/{i}.png" for name in names for i in range(2)))
    assert source(tmp_path).classes == tuple(names)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ["cat/test", "cat/train", "dog/test", "dog/train"],
            "cat (cat/test and cat/train): put the splits on top, as in ",
        ),
        (["data/train/cat", "data/test/cat"], "data (data/test and data/train): name {folder}/data"),
        (["images/train", "images/val"], "images (images/train and images/val): name {folder}/images"),
        (["a/b/training", "a/b/testing"], "a/b (a/b/testing and a/b/training): name {folder}/a/b"),
    ],
)
def test_splits_within_folders_are_no_part_of_classes(tmp_path, names, says):
    save(tmp_path, *(f"{name}/{i}.png" for name in names for i in range(2)))
    begins = f"{tmp_path} has splits within its folder {says.format(folder=tmp_path)}"
    assert message(tmp_path).startswith(begins)


def test_a_folder_around_the_classes_is_no_class(tmp_path):
    save(tmp_path, "data/cat/a.png", "data/dog/b.png", "data/eel/c.png")
    assert message(tmp_path) == (
        f"{tmp_path} has one folder, data, and in it the folders cat, dog, eel, which would be one class: move them up "
        f"into {tmp_path}, or name {tmp_path / 'data'}"
    )
    assert source(tmp_path / "data").classes == ("cat", "dog", "eel")
    save(tmp_path, "data/d.png")  # with images of its own it is one
    assert source(tmp_path).classes == ("data",)
    save(tmp_path / "x", "train/data/cat/a.png", "train/data/dog/b.png", "test/data/cat/c.png", "test/data/dog/d.png")
    assert message(tmp_path / "x").startswith(
        f"{tmp_path / 'x' / 'train'} has one folder, data, and in it the folders cat,"
    )


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["test_1.png", "test_2.png", "train_1.png", "train_2.png"], True),
        (["Train (1).png", "Train (2).png", "Val (1).png"], True),
        (["a-test.png", "b-train.png", "c-train.png", "readme.png"], True),
        (["test1.png", "test2.png", "test3.png"], False),
        (["test1.png", "photo1.png", "photo2.png", "train1.png", "photo3.png"], False),
    ],
)
def test_loose_images_that_look_like_splits(tmp_path, names, refused):
    save(tmp_path, *names)
    if not refused:
        assert sorted(chain(*paths(source(tmp_path)).values())) == sorted(names)
        return
    first, *_, last = names
    assert message(tmp_path) == (
        f"{tmp_path} has images whose names look like splits ({first}, {last}): move them into folders train, "
        "validation and test"
    )


@pytest.mark.parametrize("size", [1, 3, 25])
def test_blocks_of_images_share_a_split(tmp_path, size):
    """A block of consecutive images in a folder follows the hash of its first path."""
    names = [f"{label}/{i}.png" for label in ("a", "b") for i in range(110)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    got = read(Options("image_folder", str(tmp_path), split_blocks=size))
    blocks = [names[start : min(start + size, end)] for end in (110, 220) for start in range(end - 110, end, size)]
    of = {"test": (0, 0.1), "validation": (0.1, 0.2), "train": (0.2, 1)}
    expected = {split: [n for b in blocks if low <= share(b[0]) < high for n in b] for split, (low, high) in of.items()}
    assert all(expected.values())
    assert paths(got) == expected
    words = f"split about 80/10/10 by a hash of their paths{'' if size == 1 else f' in blocks of {size}'}: "
    assert words in got.note


def test_blocks_that_cannot_be(tmp_path):
    save(tmp_path, *(f"x{i}.png" for i in range(8)))
    with pytest.raises(UserError, match=r"holds 2 blocks of 4 images: at least 3 are needed, one for each of train, "):
        read(Options("image_folder", str(tmp_path), split_blocks=4))
    save(tmp_path / "own", *SPLIT)
    with pytest.raises(UserError, match="own has split folders of its own, so split_blocks is not for it"):
        read(Options("image_folder", str(tmp_path / "own"), split_blocks=4))


# Notes and warnings


def test_classes_and_their_counts_are_told(tmp_path):
    save(tmp_path, *(f"x{label}/{i}.png" for label in range(12) for i in range(label + 1)))
    counts = ", ".join(f"x{label} {label + 1}" for label in range(12))
    assert source(tmp_path).note.endswith(f"; 12 classes: {counts}")
    save(tmp_path, "x12/a.png", "x12/b.png")
    assert source(tmp_path).note.endswith("; 13 classes of 1 to 12 images")


def test_folders_without_images_are_told(tmp_path):
    """The outermost such folders are listed; a folder that holds only unread files is one."""
    save(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png")
    for name in ("eel/x.gif", "fox/1/2/x.heic", "cat/old/x.bmp"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "gnu").mkdir()
    (tmp_path / "a\nb").mkdir()
    told = "folders without images: 'a\\nb', cat/old, eel, fox, gnu; passed over: 1 .bmp, 1 .gif, 1 .heic"
    assert source(tmp_path).note.endswith(f"; 2 classes: cat 2, dog 1; {told}")


def test_images_in_several_splits_are_told(tmp_path):
    """Duplicates are found by their pixels, whatever their files and names."""

    def note():
        return data.load("image_folder", data_from=str(tmp_path), progress=False, image_size=1).note

    save(tmp_path, *SPLIT)
    assert "duplicates" not in note()
    for name, like in (
        ("test/0.png", "train/1.png"),
        ("test/2.png", "validation/1.png"),
        ("test/3.png", "train/0.png"),
    ):
        with Image.open(tmp_path / like) as image:
            image.save(tmp_path / name, compress_level=0)
    save(tmp_path, "train/0.tiff")
    assert "; duplicates: 2 of test are in train too, 1 of test is in validation too; resized to 1x1" in note()


def test_images_of_16_bits_that_are_nearly_black_are_told(tmp_path):
    def load(highest, **options):
        for i in range(6):
            values = np.full((2, 3), highest - 10 * i, np.uint16)
            Image.fromarray(values).save(tmp_path / f"{i}.png")
        return data.load("image_folder", data_from=str(tmp_path), progress=False, **options)

    for highest, bits in ((4095, 12), (1000, 10), (200, 8), (2**14 - 1, 14)):
        told = (
            f"; 6 images of 16 bits have no value above {highest:,}, and are nearly black: --image-bits {bits} spreads"
        )
        assert told in load(highest).note
    assert "nearly black" not in load(2**14).note
    found = load(4095, image_bits=12)
    assert "nearly black" not in found.note
    levels = np.concatenate([found.train["image"], found.validation["image"], found.test["image"]])[:, 0, 0, 0]
    assert sorted(levels) == sorted((4095 - 10 * i) >> 4 for i in range(6))


def test_a_large_photograph(tmp_path):
    """The image exceeds twice Pillow's limit, at which Pillow raises unless the limit is lifted."""
    save(tmp_path, "a.png", "b.png")
    Image.new("1", (20_000, 9_000), 1).save(tmp_path / "c.png")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "c.png")
    options = {"data_from": str(tmp_path), "image_size": 2, "progress": False}
    found = data.load("image_folder", **options)
    images = np.concatenate([getattr(found, split)["image"] for split in ("train", "validation", "test")])
    assert sorted(images.max((1, 2, 3))) == [0, 1, 255]
    with pytest.raises(
        UserError, match=r"c.png: its 20,000x9,000 pixels are more than 1,000; --max-pixels allows others"
    ):
        data.load("image_folder", **options, max_pixels=1000)


@pytest.mark.parametrize("bad", range(5))
def test_a_bad_image_that_is_left_out_moves_no_other(tmp_path, bad):
    save(tmp_path, *(f"{i}.png" for i in range(40)))

    def of(**options):
        found = data.load("image_folder", data_from=str(tmp_path), progress=False, **options)
        return {split: getattr(found, split)["image"][:, 0, 0, 0].tolist() for split in ("train", "validation", "test")}

    before = of()
    (tmp_path / f"{bad * 7}.png").write_bytes(b"")
    assert of(skip_bad=True) == {split: [i for i in those if i != bad * 7] for split, those in before.items()}


# Unicode

COMPOSED, APART = "caf\u00e9", "cafe\u0301"


def test_composed_names_and_others_are_one(tmp_path):
    save(tmp_path, f"train/{COMPOSED}/a.png", f"val/{APART}/b.png", f"test/{COMPOSED}/c.png", f"test/{APART}/d.png")
    got = source(tmp_path)
    assert got.classes == (COMPOSED,)
    assert [contents(records) for records in got.splits.values()] == [[(0, 0)], [(1, 0)], [(2, 0), (3, 0)]]
    captions(
        tmp_path,
        *(
            line(f"{split}/{name}", "c")
            for split, name in (
                ("train", f"{APART}/a.png"),
                ("val", f"{COMPOSED}/b.png"),
                ("test", f"{APART}/d.png"),
                ("test", f"{COMPOSED}/c.png"),
            )
        ),
    )
    assert [x[-1] for x in contents(source(tmp_path).splits["test"])] == ["c", "c"]


def test_an_image_keeps_its_split_however_its_name_is_composed(tmp_path):
    for folder, form in (("a", COMPOSED), ("b", APART)):
        (tmp_path / folder / form).mkdir(parents=True)
        for i in range(100):
            (tmp_path / folder / form / f"{form}{i}.png").touch()
    one, other = (paths(source(tmp_path / folder)) for folder in "ab")
    assert one == {split: [path.replace(APART, COMPOSED) for path in those] for split, those in other.items()}


# Metadata in the format of Hugging Face's ImageFolder


def metadata(folder, *rows, name="metadata.jsonl"):
    """Writes rows as JSON lines, or as CSV with a byte-order mark and fields quoted for commas and line ends."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, rows)), "utf-8")
        return
    lines = [list(rows[0]), *([row[key] for key in rows[0]] for row in rows)]
    text = "\r\n".join(",".join(f'"{str(value).replace(chr(34), 2 * chr(34))}"' for value in line) for line in lines)
    (folder / name).write_text(text, "utf-8-sig")


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_of_captions_and_labels(tmp_path, name):
    save(tmp_path, "train/a.png", "train/x/b.png", "val/c.png", "test/d.png")
    metadata(
        tmp_path / "train",
        {"file_name": "x/b.png", "text": 'a "b", and\nmore', "label": "zebra", "width": 3, "url": "u"},
        {"file_name": "./a.png", "text": "", "label": "ant", "width": 3, "url": "u"},
        name=name,
    )
    metadata(tmp_path / "val", {"file_name": "c.png", "text": "see", "label": "ant", "width": 4}, name=name)
    metadata(tmp_path / "test", {"file_name": "d.png", "text": "dee", "label": "cow"}, name=name)
    got = source(tmp_path)
    assert got.classes == ("ant", "cow", "zebra")
    assert {split: contents(records) for split, records in got.splits.items()} == {
        "train": [(0, 0, ""), (1, 2, 'a "b", and\nmore')],
        "validation": [(2, 0, "see")],
        "test": [(3, 1, "dee")],
    }
    told = f"3 classes: ant 2, cow 1, zebra 1; captions and labels from {name}, whose columns passed over: url, width"
    assert got.note.endswith(told)


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_of_labels_alone_in_place_of_folders(tmp_path, name):
    """Integer labels keep their order, even if some values are unused."""
    files = ["a.png", "b/c.png", "b/d.png", "e.png"]
    save(tmp_path, *files)
    labels = [10, 2, 2, 9]
    metadata(tmp_path, *({"file_name": f, "label": v} for f, v in zip(files, labels, strict=True)), name=name)
    got = source(tmp_path)
    assert got.classes == ("2", "9", "10")
    assert sorted(chain(*map(contents, got.splits.values()))) == [(0, 2), (1, 0), (2, 0), (3, 1)]
    assert got.note.endswith(f"; 3 classes: 2 2, 9 1, 10 1; labels from {name}")


def test_metadata_of_captions_beside_class_folders(tmp_path):
    save(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png")
    metadata(tmp_path, *({"file_name": f"cat/{x}.png", "caption": x} for x in "ab"))
    metadata(tmp_path / "dog", {"file_name": "c.png", "caption": "c"}, name="metadata.csv")
    got = source(tmp_path)
    assert sorted(chain(*map(contents, got.splits.values()))) == [(0, 0, "a"), (1, 0, "b"), (2, 1, "c")]
    assert got.note.endswith("; 2 classes: cat 2, dog 1; captions from metadata.csv, metadata.jsonl")


def test_metadata_that_is_changed_changes_the_identity(tmp_path):
    save(tmp_path, "a.png", "b.png", "c.png")
    seen = {identity(Options("image_folder", str(tmp_path)))}
    for label in ("x", "xy"):
        metadata(tmp_path, *({"file_name": f"{i}.png", "label": label} for i in "abc"))
        seen.add(identity(Options("image_folder", str(tmp_path))))
    assert len(seen) == 3


ROWS = [{"file_name": f"{name}.png", "text": name, "label": "x"} for name in "abc"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROWS[:2], "{path} leaves c.png an image without caption: every image needs a line, or remove it"),
        ([*ROWS, {"file_name": "a.png", "text": [1]}], "line 4 of {path} has a text that is [1], no caption in words"),
        ([*ROWS, {"file_name": "d.png"}], "line 4 of {path} is of no image: there is no image d.png in {folder}"),
        (
            [{"text": "a"}, *ROWS],
            'line 1 of {path} lacks a text "file_name", an image\'s path from the folder that the ',
        ),
        (
            [ROWS[0] | {"caption": "b"}],
            "line 1 of {path} has both text and caption: an image has one caption, so leave ",
        ),
        ([ROWS[0] | {"text": 7}], "line 1 of {path} has a text that is 7, no caption in words"),
        ([ROWS[0] | {"label": 0.5}], "line 1 of {path} has a label that is 0.5, no label in words"),
        ([ROWS[0] | {"label": True}], "line 1 of {path} has a label that is true, no label in words"),
        (
            [ROWS[0] | {"label": None}, *ROWS[1:]],
            "{path} leaves a.png an image without label: every image needs a line",
        ),
        ([7], 'line 1 of {path} lacks a text "file_name", an image\'s path from the folder that the file is in'),
        ([], "{path} has no line about an image: fill it in, or remove it"),
    ],
)
def test_wrong_metadata(tmp_path, rows, says):
    save(tmp_path, "a.png", "b.png", "c.png")
    metadata(tmp_path, *rows)
    assert message(tmp_path).startswith(says.format(path=tmp_path / "metadata.jsonl", folder=tmp_path))


def test_a_csv_file_of_a_spreadsheet(tmp_path):
    """Columns without a name, of empty cells at the right, are no columns."""
    save(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text("file_name,label,,\na.png,cat,,\nb.png,cat,,\nc.png,dog,,\n")
    assert source(tmp_path).note.endswith("; 2 classes: cat 2, dog 1; labels from metadata.csv")


def test_a_zip_of_a_mac(tmp_path):
    """Folders of resource forks are left out; other tools write ./ as an entry."""
    png = io.BytesIO()
    Image.new("L", (4, 4)).save(png, "png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("./", "cat/", "__MACOSX/", "__MACOSX/cat/"):
            archive.writestr(name, b"")
        archive.writestr("__MACOSX/cat/._1.png", b"x")
        for number in range(3):
            archive.writestr(f"cat/{number}.png", png.getvalue())
    found = image_folder._found_in_zip(tmp_path / "a.zip")
    assert [file.path for file in found.images] == [f"cat/{number}.png" for number in range(3)]
    assert (found.bare, dict(found.others)) == ([], {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "file,text\na.png,a\n",
            "the first line of {path} names the columns file, text: it has to name file_name and text or label, with",
        ),
        ("file_name;text\na.png;a\n", "the first line of {path} names the columns file_name;text: it has to name"),
        ("File_Name,text\na.png,a\n", "the first line of {path} names the columns File_Name, text: it has to name"),
        ("file_name,label,label\na.png,x,y\n", "the first line of {path} names label twice: leave one of them out"),
        ("file_name,label, label\na.png,x,y\n", "the first line of {path} names label twice: leave one of them out"),
        ("", "{path} has no line about an image: fill it in, or remove it"),
        ("file_name,label\n", "{path} has no line about an image: fill it in, or remove it"),
        ("file_name,text\na.png,a,b\n", "line 2 of {path} has more columns than the first line names"),
        ('file_name,text\na.png,"a\n', "line 2 of {path} is no CSV (unexpected end of data)"),
        (
            "file_name,label\na.png,x\nb.png,\nc.png,x\n",
            "{path} leaves b.png an image without label: every image needs",
        ),
        ("file_name,text\na.png\nb.png,b\nc.png,\n", "{path} leaves a.png an image without caption: every image needs"),
    ],
)
def test_wrong_csv(tmp_path, text, says):
    save(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text(text)
    assert message(tmp_path).startswith(says.format(path=tmp_path / "metadata.csv"))


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
def test_a_key_that_is_there_twice(tmp_path, name):
    save(tmp_path, "a.png", "b.png", "c.png")
    key = "file" if name == "captions.jsonl" else "file_name"
    (tmp_path / name).write_text(f'{{"{key}": "a.png", "caption": "a", "caption": "b"}}')
    assert message(tmp_path) == f"line 1 of {tmp_path / name} has caption twice: leave one of them out"


def test_spaces_around_labels_and_names_of_columns_make_no_other_class(tmp_path):
    save(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text("file_name, label\na.png, cat\nb.png,cat \n\nc.png,big dog\n")
    assert source(tmp_path).note.endswith("; 2 classes: big dog 1, cat 2; labels from metadata.csv")


def test_columns_of_any_length(tmp_path):
    """The csv module refuses fields above 131,072 characters, such as a polygon of another tool."""
    save(tmp_path, "a.png", "b.png", "c.png")
    lines = (f'{name}.png,{name},"{"0,1," * 50_000}"\n' for name in "abc")
    (tmp_path / "metadata.csv").write_text("file_name,text,polygon\n" + "".join(lines))
    got = source(tmp_path)
    assert sorted(chain(*map(contents, got.splits.values()))) == [(0, "a"), (1, "b"), (2, "c")]


def test_captions_in_two_files(tmp_path):
    save(tmp_path, "a.png", "b.png", "c.png")
    metadata(tmp_path, *ROWS)
    captions(tmp_path, line("a.png", "a"))
    path = tmp_path / "metadata.jsonl"
    where = f"{tmp_path / 'captions.jsonl'} has: keep them in one file"
    assert message(tmp_path) == f"line 1 of {path} has captions of a.png, as {where}"
    captions(tmp_path)
    metadata(tmp_path, *({"file_name": f"{name}.png", "label": name} for name in "abc"))
    assert message(tmp_path) == (f"{tmp_path / 'captions.jsonl'} has no line about an image: fill it in, or remove it")


@pytest.mark.parametrize("whole", ["012", "089", "27", "3456789", "0123456789"])
def test_a_split_has_images_although_those_drawn_for_it_are_bad(tmp_path, whole):
    """Images that cannot be decoded are left out before the splits are drawn, so that no split is empty."""
    save(tmp_path, *(f"{name}.png" for name in "0123456789"))
    for name in set("0123456789") - set(whole):
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    options = {"data_from": str(tmp_path), "skip_bad": True, "progress": False}
    if len(whole) < 3:
        with pytest.raises(UserError, match=rf"{tmp_path} holds 2 images: at least 3 are needed"):
            data.load("image_folder", **options)
        return
    loaded = data.load("image_folder", **options)
    counts = [len(getattr(loaded, split)["image"]) for split in ("train", "validation", "test")]
    assert sum(counts) == len(whole)
    assert min(counts) >= 1
    if len(whole) < 10:
        left_out = loaded.note.partition("left out because they cannot be decoded: ")[2]
        assert sum(map(int, re.findall(r"\d+", left_out))) == 10 - len(whole)
    for name in set("0123456789") - set(whole):  # the same images alone are drawn the same
        (tmp_path / f"{name}.png").unlink()
    alone = data.load("image_folder", **options)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(alone, split)["image"], getattr(loaded, split)["image"])
