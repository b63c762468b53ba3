"""Datasets by name: digits against scikit-learn's arrays, the Spec given to models, and users' mistakes."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxgen import data
from jaxgen.data.readers import bars, digits, nlvr, official, shapes
from jaxgen.errors import UserError

PREPARING = importlib.import_module("jaxgen.data.readers.preparing")

# The digits


def rule():
    """The documented split, written out: sorted by class, every second example, minus 90 for validation."""
    labels = load_digits().target
    by_class = sorted(range(len(labels)), key=lambda i: (labels[i], i))
    half = sorted(i for position, i in enumerate(by_class) if position % 2 == 1)
    test = sorted(i for position, i in enumerate(by_class) if position % 2 == 0)
    return {"train": half[:808], "validation": half[808:], "test": test}


def test_the_splits_are_the_stated_ones():
    found, source = data.load("digits"), load_digits()
    for split, rows in rule().items():
        entries = getattr(found, split)
        np.testing.assert_array_equal(entries["label"], source.target[rows])
        assert entries["label"].dtype == np.int32
        assert entries["image"].dtype == np.uint8
        # 0..16 mapped to 0..255, rounded half up in integers
        pixels = (source.images[rows].astype(int) * 255 + 8) // 16
        np.testing.assert_array_equal(entries["image"], pixels[..., None])


def test_the_splits_are_stratified_and_disjoint():
    splits = rule()
    assert [len(rows) for rows in splits.values()] == [808, 90, 899]
    assert sorted(row for rows in splits.values() for row in rows) == list(range(1797))
    found = data.load("digits")
    counts = [np.bincount(getattr(found, split)["label"], minlength=10) for split in splits]
    assert np.abs(counts[0] + counts[1] - counts[2]).max() <= 1
    assert counts[1].min() >= 1


def test_the_first_digits_are_known():
    """scikit-learn's examples begin with 0, 1, 2 ... 9. Sorted by class, with 178, 182, 177, 183, 181, 182, 181, 179,
    174 and 180 a class, the first of each class is at 0, 178, 360, 537, 720, 901, 1083, 1264, 1443, 1617; odd places
    are train's.
    """
    found = data.load("digits")
    assert found.train["label"][:5].tolist() == [3, 5, 6, 8, 9]
    assert found.test["label"][:5].tolist() == [0, 1, 2, 4, 7]
    # scikit-learn's first image begins with the row 0 0 5 13 9 1 0 0; 5 * 255 / 16 = 79.69
    assert found.test["image"][0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


def test_the_digits_have_a_fingerprint():
    """The fingerprint hashes one line per entry, the sha256 of its bytes, dtype and shape."""
    found, lines = data.load("digits"), ""
    for split in ("train", "validation", "test"):
        for name in ("image", "label"):
            entry = getattr(found, split)[name]
            digest = hashlib.sha256(entry.tobytes() + f"{entry.dtype.str} {entry.shape}".encode()).hexdigest()
            lines += f"{split} {name} {digest}\n"
    assert found.fingerprint == digits.FINGERPRINT == hashlib.sha256(lines.encode()).hexdigest()
    assert found.fingerprint == "e3afe938dc7e8f8c1605b975fb8e6f27a5dc85933530e0bfbf39a4166f171ed9"


def test_another_scikit_learn_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    others = load_digits()
    others.images[5, 3, 3] += 1
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: others)
    with pytest.raises(UserError, match=r"^this version of scikit-learn has other digits than 1.5 to 1.9$"):
        data.load("digits")
    assert list(tmp_path.rglob("*.npy")) == []


# What is loaded


def test_spec_describes_the_train_split():
    found = data.load("digits", image_size=12)
    spec = found.spec
    assert spec.entries == {
        "image": jax.ShapeDtypeStruct((12, 12, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    assert (spec.num_examples, spec.num_classes, spec.num_words, spec.faces) == (808, 10, None, None)
    assert spec.mean.shape == (12, 12, 1)
    pixels = found.train["image"][:, 5, 7, 0].astype(float)
    assert spec.mean[5, 7, 0] == pytest.approx(pixels.mean() / 255, abs=1e-12)
    assert found.classes == tuple("0123456789")
    assert not found.streamed


def test_spec_of_points_and_of_meshes():
    points, meshes = data.load("gaussians/grid"), data.load("bars")
    assert points.spec.entries["point"] == jax.ShapeDtypeStruct((2,), np.float32)
    assert (points.spec.num_classes, points.spec.mean, points.spec.faces) == (25, None, None)
    shares = np.bincount(points.train["label"]) / points.spec.num_examples
    np.testing.assert_allclose(shares, np.full(25, 1 / 25), atol=0.003)
    assert meshes.spec.entries["mesh"] == jax.ShapeDtypeStruct((658, 3), np.float32)
    np.testing.assert_array_equal(meshes.spec.faces, bars.faces())
    assert (np.bincount(meshes.train["label"]) / meshes.spec.num_examples).tolist() == [0.25] * 4
    assert meshes.spec.mean is None


@pytest.mark.parametrize(
    ("name", "options", "binary"),
    [
        ("digits", {}, False),
        ("digits", {"image_size": 16, "binarize": "threshold"}, True),
        ("digits", {"binarize": "dynamic"}, True),  # whose training images are kept gray and drawn anew
        ("stacked_digits", {"train_split": "train[:300]"}, False),
        ("gaussians", {}, False),
        ("bars", {}, False),
    ],
)
def test_spec_says_whether_pixels_are_bits(name, options, binary):
    assert data.load(name, **options).spec.binary == binary


@pytest.mark.parametrize("pipeline", ["memory", "grain"])
@pytest.mark.parametrize(
    ("mode", "level", "options", "binary"),
    [
        ("1", 255, {}, True),  # drawings in black and white
        ("RGB", 255, {}, True),
        ("L", 254, {}, False),
        ("L", 255, {"image_size": 3}, False),  # resizing makes grays
        ("L", 254, {"binarize": "threshold"}, True),
    ],
)
def test_images_of_0_and_255_are_bits_however_they_are_read(tmp_path, pipeline, mode, level, options, binary):
    for n in range(12):
        pixels = np.random.default_rng(n).integers(0, 2, (4, 4)).astype(np.uint8) * 255
        pixels[pixels == 255] = level
        Image.fromarray(pixels).convert(mode).save(tmp_path / f"{n}.png")
    given = {"data_from": str(tmp_path), "pipeline": pipeline, **options}
    found = data.load("image_folder", progress=False, **given)
    assert found.streamed == (pipeline == "grain")
    assert found.spec.binary == binary


def test_options_are_recorded_and_load_the_same_again():
    options = [
        {},
        {"image_size": 16},
        {"binarize": "threshold"},
        {"pad": 2, "channels": 3, "crop": 6},
        {"pipeline": "grain"},
    ]
    loaded = [data.load("digits", **chosen) for chosen in options]
    assert len({found.fingerprint for found in loaded}) == 4  # the pipeline does not change the fingerprint
    assert [found.streamed for found in loaded] == [False] * 4 + [True]
    for chosen, found in zip(options, loaded, strict=True):
        assert found.options == {
            name: value for name, value in vars(data.Options(**chosen)).items() if name != "dataset"
        }
        again = data.load(found.name, **json.loads(json.dumps(found.options)))
        assert (again.fingerprint, again.options) == (found.fingerprint, found.options)
    assert data.load("digits", image_size=8).fingerprint == loaded[0].fingerprint


def test_dynamic_binarization_freezes_what_is_scored_and_no_more():
    """Training images stay gray; a test image's bits do not depend on the slice or pipeline."""
    gray = data.load("digits", image_size=16)
    options = {"image_size": 16, "binarize": "dynamic"}
    found = data.load("digits", **options)
    np.testing.assert_array_equal(found.train["image"], gray.train["image"])
    np.testing.assert_array_equal(found.spec.mean, gray.spec.mean)  # of gray images, hence of their bits
    for split in ("validation", "test"):
        bits, levels = getattr(found, split)["image"], getattr(gray, split)["image"]
        assert set(np.unique(bits)) == {0, 255}
        error = np.sqrt((levels / 255 * (1 - levels / 255)).sum())  # standard error of the number of white pixels
        assert abs((bits / 255).sum() - (levels / 255).sum()) < 4 * error
        assert ((bits > 0) != (levels >= 128)).mean() > 0.05  # the bits differ from thresholding
    part = data.load("digits", test_split="test[100:150]", **options)
    np.testing.assert_array_equal(part.test["image"], found.test["image"][100:150])
    assert found.fingerprint not in (
        gray.fingerprint,
        data.load("digits", image_size=16, binarize="threshold").fingerprint,
    )
    assert "binarized dynamically" in found.note


def test_note_is_a_sentence_on_source_splits_and_transforms():
    note = data.load("digits", image_size=16, pad=1, train_split="train[:100]").note
    assert note.startswith("scikit-learn's load_digits")
    assert note.endswith(
        "; train is train[:100]; resized to 16x16 (Pillow, bicubic, antialiased), padded with 1 zeros on every side."
    )
    assert data.load("digits").note.endswith("808 train and 90 validation, 899 test.")


def test_splits_of_ones_own():
    whole = data.load("digits")
    found = data.load(
        "digits", train_split="train[:50%]+test[-9:]", validation_split="train[404:]", test_split="test[:10]"
    )
    np.testing.assert_array_equal(
        found.train["image"], np.concatenate([whole.train["image"][:404], whole.test["image"][890:]])
    )
    np.testing.assert_array_equal(found.validation["label"], whole.train["label"][404:])
    np.testing.assert_array_equal(found.test["label"], whole.test["label"][:10])
    assert found.spec.num_examples == 413
    with pytest.raises(UserError) as caught:
        data.load("digits", validation_split="train[700:]")
    assert str(caught.value) == (
        "the splits of digits overlap: train is train and validation is train[700:], with 108 examples in both; "
        "give train_split or validation_split so that they have none"
    )


# A folder of the user's, with captions


CAPTIONS = {
    "train": ["A red cat.", "a red dog", "one red, red fox"],
    "validation": ["a blue cat and some more"],
    "test": ["zebra"],
}


@pytest.fixture
def folder(tmp_path):
    """Five images in split folders, with captions."""
    lines = []
    for split, captions in CAPTIONS.items():
        (tmp_path / "images" / split).mkdir(parents=True)
        for n, caption in enumerate(captions):
            image = np.full((4, 5, 3), 10 * n + len(split), np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / split / f"{n}.png")
            lines.append(json.dumps({"file": f"{split}/{n}.png", "caption": caption}) + "\n")
    (tmp_path / "images" / "captions.jsonl").write_text("".join(lines))
    return tmp_path / "images"


@pytest.mark.parametrize("pipeline", ["memory", "grain"])
def test_captions_are_words_of_the_training_captions(folder, pipeline):
    """Ids start at 2, by frequency, then alphabet: red (4), a (2), then , . cat dog fox one; 1 is any other word."""
    found = data.load("image_folder", data_from=str(folder), pipeline=pipeline)
    assert found.vocabulary.words == ("red", "a", ",", ".", "cat", "dog", "fox", "one")
    assert found.spec.num_words == 10
    assert found.train["caption"].tolist() == [[3, 2, 6, 5, 0], [3, 2, 7, 0, 0], [9, 2, 4, 2, 8]]
    assert found.validation["caption"].tolist() == [[3, 1, 6, 1, 1]]  # cut to the longest training caption
    assert found.test["caption"].tolist() == [[1, 0, 0, 0, 0]]
    assert found.train["caption"].dtype == np.int32
    assert found.spec.entries["caption"] == jax.ShapeDtypeStruct((5,), np.int32)
    assert found.streamed == (pipeline == "grain")
    assert found.train["image"][1][0, 0].tolist() == [15, 15, 15]
    assert (found.classes, found.spec.num_classes) == ((), None)


def test_caption_length_and_vocabulary_size(folder):
    found = data.load("image_folder", data_from=str(folder), caption_length=3, vocabulary_size=2)
    assert found.vocabulary.words == ("red", "a")
    assert found.spec.num_words == 4
    assert found.train["caption"].tolist() == [[3, 2, 1], [3, 2, 1], [1, 2, 1]]
    assert data.load("image_folder", data_from=str(folder), caption_length=7).test["caption"].tolist() == [
        [1] + [0] * 6
    ]
    # The decoded data are unchanged.
    assert found.fingerprint == data.load("image_folder", data_from=str(folder)).fingerprint


def test_bad_images_left_out_are_counted_in_the_note(folder):
    (folder / "train" / "1.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        data.load("image_folder", data_from=str(folder))
    assert str(caught.value) == (
        f"cannot decode {folder}/train/1.png (empty): replace it by a whole image, or remove it; "
        "--skip-bad leaves such images out"
    )
    found = data.load("image_folder", data_from=str(folder), skip_bad=True)
    assert found.note.endswith("; left out because they cannot be decoded: 1 of train.")
    assert found.vocabulary.words == ("red", ",", ".", "a", "cat", "fox", "one")
    assert found.spec.num_examples == 2


def test_a_changed_folder_is_read_anew(folder):
    before = data.load("image_folder", data_from=str(folder))
    path = folder / "train" / "2.png"
    status = path.stat()
    Image.new("RGB", (5, 4), "white").save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    after = data.load("image_folder", data_from=str(folder))
    assert after.fingerprint != before.fingerprint
    assert after.train["image"][2].min() == 255


def test_progress_is_a_bar_for_terminals_only(folder, capfd):
    """A line is printed when decoding begins if there is no terminal."""
    count = len(list(folder.rglob("*.png")))
    for printed in (f"decoding image_folder: {count} images\n", ""):
        data.load("image_folder", data_from=str(folder), progress=True)
        assert capfd.readouterr() == ("", printed)
    data.load("image_folder", data_from=str(folder), progress=False, pad=1)
    assert capfd.readouterr() == ("", "")


# The table


@pytest.mark.parametrize("name", ["digits", "gaussians", "gaussians/ring", "gaussians/grid", "stacked_digits", "bars"])
def test_the_table_agrees_with_what_is_loaded(name):
    row, found = data.info(name), data.load(name)
    entry = next(entry for key, entry in found.train.items() if key not in ("label", "caption"))
    assert row.examples == tuple(len(getattr(found, split)["label"]) for split in ("train", "validation", "test"))
    assert row.shape == entry.shape[1:]
    config = row.configs.index(name.partition("/")[2] or "ring") if row.configs else 0
    assert np.ravel(row.classes)[config] == len(found.classes) == found.spec.num_classes
    assert row.captions == (found.vocabulary is not None)
    assert data.load(name).fingerprint == found.fingerprint


def test_the_table_agrees_with_shapes():
    row = data.info("shapes")
    assert row.examples == tuple(shapes.EXAMPLES.values())
    assert row.shape == (shapes.IMAGE_SIZE, shapes.IMAGE_SIZE, 3)
    assert row.classes == len(shapes.CLASSES)
    assert row.captions
    small = data.info("shapes_32")
    assert small.shape == (shapes.SMALL_SIZE, shapes.SMALL_SIZE, 3)
    assert small._replace(name="shapes", shape=row.shape, what=row.what) == row


def test_the_table_has_every_official_dataset_and_no_name_twice():
    rows = {row.name: row for row in data.table()}
    assert len(rows) == len(data.table()) == len(data.DATASETS) + len(official.OFFICIAL)
    assert rows["mnist"].examples == (55_000, 5_000, 10_000)
    assert (rows["coco_captions"].captions, rows["mnist"].captions) == (True, False)
    assert {name for name, row in rows.items() if row.comes == "folder"} == {
        *("image_folder", "array", "hf_folder", "webdataset", "mesh_folder")
    }
    assert {name for name, row in rows.items() if row.comes == "prepared"} == {"nlvr", *official.OFFICIAL}
    assert data.info("gaussians/grid") == rows["gaussians"]
    assert data.info("lsun/cat") == rows["lsun"]
    assert data.info("coco_captions") == rows["coco_captions"]  # which has only one config
    assert data.info("tfds:mine").module == "jaxgen.data.readers.official"


def test_prepared_is_what_needs_no_more(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    assert not any(row.prepared for row in data.table())
    data.load("digits")
    assert {row.name for row in data.table() if row.prepared} == {"digits"}
    (tmp_path / "nlvr").mkdir()
    (tmp_path / "tfds" / "mnist" / "3.0.1").mkdir(parents=True)  # incomplete: its manifest is written last
    assert {row.name for row in data.table() if row.prepared} == {"digits", "nlvr"}
    (tmp_path / "tfds" / "mnist" / "3.0.1" / official.MANIFEST).touch()
    assert {row.name for row in data.table() if row.prepared} == {"digits", "nlvr", "mnist"}


def test_identity_is_the_readers():
    assert data.identity("digits") == digits.FINGERPRINT
    assert data.identity("stacked_digits") == f"1 of {digits.FINGERPRINT}"


# Preparing


def test_prepare_by_where_a_dataset_comes_from(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(PREPARING, "prepare", lambda *arguments: asked.append(arguments) or "there")
    monkeypatch.setattr(nlvr, "prepare", lambda *arguments: asked.append(arguments) or "here")
    assert data.prepare("mnist") == "mnist is prepared in there"
    assert data.prepare("tfds:mine/small", str(tmp_path), progress=False) == "tfds:mine/small is prepared in there"
    assert data.prepare("nlvr", tmp_path) == "nlvr is prepared in here"
    assert asked == [("mnist", None, True), ("tfds:mine/small", tmp_path, False), (tmp_path,)]
    assert data.prepare("digits") == f"digits is made: {data.load('digits').note}"


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("digits", ".", "digits is made by jaxgen itself, from no files"),
        ("gaussians/grid", ".", "gaussians/grid is made by jaxgen itself, from no files"),
        (
            "mesh_folder",
            None,
            "mesh_folder needs no preparing: --data-from (--from of `jaxgen data show`) names its files",
        ),
        ("digit", None, "unknown dataset 'digit': did you mean digits?"),
    ],
)
def test_what_cannot_be_prepared(name, folder, message):
    with pytest.raises(UserError) as caught:
        data.prepare(name, folder)
    assert str(caught.value).startswith(message)


# Mistakes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "unknown dataset 'digit': did you mean digits?"),
        ("zzz", "unknown dataset 'zzz': there are digits, shapes, "),
        ("", "unknown dataset '': there are digits, shapes, "),
        ("digits/big", "unknown config 'big' of dataset digits: it has none"),
        ("gaussians/square", "unknown config 'square' of dataset gaussians: there are ring, grid"),
        ("gaussians/", "unknown config '' of dataset gaussians: there are ring, grid"),
        ("lsun/moon", "unknown config 'moon' of dataset lsun: there are classroom, bedroom"),
        ("lsun", "lsun is lsun/CONFIG: there are classroom, bedroom"),
        ("tfds:", "tfds: is no name of a dataset: it is tfds:NAME or tfds:NAME/CONFIG"),
        ("mnist", "mnist is not prepared yet: run jaxgen data prepare mnist"),
        ("stacked_mnist", "mnist is not prepared yet: run jaxgen data prepare mnist"),
        ("tfds:mine", "tfds:mine is not prepared yet: run jaxgen data prepare tfds:mine"),
        ("image_folder", "image_folder needs a folder of images: name it by --data-from FOLDER"),
        ("mesh_folder", "mesh_folder needs a folder of meshes: --data-from FOLDER"),
    ],
)
def test_a_name_that_cannot_be_loaded(name, message):
    with pytest.raises(UserError) as caught:
        data.load(name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *[("image_size", value, "a whole number from 1 on") for value in (0, -8)],
        ("image_size", 4097, "at most 4096"),
        ("crop", 0, "a whole number from 1 on"),
        ("crop", 5000, "at most 4096"),
        ("pad", -1, "a whole number from 0 on"),
        ("caption_length", 0, "a whole number from 1 on"),
        ("vocabulary_size", 0, "a whole number from 1 on"),
        ("workers", -1, "a whole number from 0 on"),
        ("split_blocks", 0, "a whole number from 1 on"),
        ("max_pixels", 0, "a whole number from 1 on"),
        ("image_bits", 7, "a whole number from 8 on"),
        ("image_bits", 17, "at most 16"),
        ("labels", 0, "a whole number from 1 on"),
        ("captions", 0, "a whole number from 1 on"),
        ("subset", -1, "a whole number from 0 on"),
        ("max_objects", 0, "a whole number from 1 on"),
        ("max_objects", 4, "at most 3"),
    ],
)
def test_a_number_that_cannot_be(option, value, message):
    with pytest.raises(UserError) as caught:
        data.load("digits", **{option: value})
    assert str(caught.value) == f"{option.replace('_', ' ')} must be {message}, not {value!r}"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("channels", 2, "1 or 3 or nothing"),
        ("channels", "3", "1 or 3 or nothing"),
        ("pipeline", "fast", "'auto' or 'memory' or 'grain'"),
        *[("image_size", value, "int or nothing") for value in (16.0, "16", True)],
        ("pad", 1.5, "int"),
    ],
)
def test_a_value_of_another_kind(option, value, words):
    with pytest.raises(UserError) as caught:
        data.load("digits", **{option: value})
    assert str(caught.value) == f"a dataset's field {option} takes {words}, not {value!r}"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "digits",
            {"data_from": "here"},
            "dataset digits is not read from files of yours, so data_from is not for it",
        ),
        (
            "tfds:a",
            {"data_from": "here"},
            "dataset tfds:a is not read from files of yours, so data_from is not for it",
        ),
        *[
            ("digits", {option: 3}, f"dataset digits has no captions, so {option} is not for it")
            for option in ("caption_length", "vocabulary_size")
        ],
        (
            "gaussians",
            {"crop": 1},
            "dataset gaussians has no images that could be resized, cropped, padded or the like",
        ),
        ("gaussians", {"flip": True}, "dataset gaussians has no images, so flip is not for it"),
        (
            "digits",
            {"skip_bad": True},
            "dataset digits has no files that could be damaged, so skip_bad is not for it",
        ),
        ("digits", {"captions": 9}, "dataset digits has no captions, so captions is not for it"),
        ("digits", {"labels": 809}, "labels must be at most 808, the training examples, not 809"),
        ("digits", {"labels": 9}, "labels must be at least 10, one for each class, not 9"),
        ("digits", {"subset": 1}, "subset only applies with --labels or --captions"),
        ("digits", {"split_blocks": 4}, "dataset digits has its own splits, so split_blocks is not for it"),
        (
            "digits",
            {"image_bits": 12},
            "dataset digits is not read from image files of yours, so image_bits is not for it",
        ),
        (
            "digits",
            {"drop_duplicates": True},
            "dataset digits is not read from mesh files of yours, so drop_duplicates is not for it",
        ),
        ("digits", {"max_objects": 1}, "dataset digits has no scenes of objects, so max_objects is not for it"),
        (
            "shapes_32",
            {"max_objects": 2, "flip": True},
            "captions of shapes_32 say left and right, which flip would make false: leave it out",
        ),
        ("digits", {"crop": 9}, "crop 9: there is an image of 8x8"),
        (
            "digits",
            {"train_split": "tran"},
            "train_split tran of digits: Unknown split 'tran'. Should be one of ['train', 'validation', 'test']; "
            "it has train (808) and validation (90) and test (899), "
            "to be sliced as in train[:10%], train[1000:2000] or train+test",
        ),
    ],
)
def test_an_option_that_is_not_for_the_dataset(name, options, message):
    with pytest.raises(UserError) as caught:
        data.load(name, **options)
    assert str(caught.value) == message


# Where data lie, and what loading needs


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"JAXGEN_DATA_DIR": "/somewhere/else", "XDG_CACHE_HOME": "/x"}, "/somewhere/else"),
        ("linux", {"JAXGEN_DATA_DIR": "~/data"}, "/home/ada/data"),
        ("linux", {"JAXGEN_DATA_DIR": "", "XDG_CACHE_HOME": "/x"}, "/x/jaxgen"),
        ("linux", {}, "/home/ada/.cache/jaxgen"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/ada/Library/Caches/jaxgen"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/jaxgen"),
        ("win32", {}, "/home/ada/AppData/Local/jaxgen"),
    ],
)
def test_data_dir_is_the_platforms(monkeypatch, platform, variables, expected):
    for name in ("JAXGEN_DATA_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables | {"HOME": "/home/ada"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert data.data_dir() == Path(expected)


def test_a_relative_data_dir_is_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXGEN_DATA_DIR", "here")
    assert data.data_dir() == tmp_path / "here"


def test_light_to_import_and_loads_offline_in_silence_without_tensorflow(tmp_path):
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

        assert not [row for row in jaxgen.data.table() if row.prepared]
        heavy = {"jax", "tensorflow_datasets", "grain", "sklearn", "PIL", "tensorflow"} & set(sys.modules)
        assert not heavy, heavy

        first, second = jaxgen.data.load("digits"), jaxgen.data.load("digits")
        assert first.fingerprint == second.fingerprint
        jaxgen.data.load("digits", train_split="train[:9]", pipeline="grain")
        assert not attempts, attempts
        sys.stdout.write(first.fingerprint)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=os.environ | {"JAXGEN_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stdout, done.stderr, done.returncode) == (digits.FINGERPRINT, "", 0)
    assert os.listdir(tmp_path) == ["decoded"]
