"""The digits against scikit-learn's own arrays and Pillow, and what `load` says to a user's mistake."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxgen import data
from jaxgen.errors import UserError


def rule():
    """The stated split, written out: of the examples sorted by class, every second one is for training."""
    labels = load_digits().target
    by_class = sorted(range(len(labels)), key=lambda i: (labels[i], i))
    train = sorted(i for position, i in enumerate(by_class) if position % 2 == 1)
    test = sorted(i for position, i in enumerate(by_class) if position % 2 == 0)
    return train, test


def test_split_is_the_stated_one():
    digits = data.load("digits")
    source = load_digits()
    for split, indices in zip((digits.train, digits.test), rule(), strict=True):
        np.testing.assert_array_equal(split["label"], source.target[indices])
        assert split["label"].dtype == np.int32
        assert split["image"].dtype == np.uint8
        # 0..16 to 0..255, rounded half up in whole numbers
        pixels = (source.images[indices].astype(int) * 255 + 8) // 16
        np.testing.assert_array_equal(split["image"], pixels[..., None])


def test_split_is_stratified_and_disjoint():
    digits = data.load("digits")
    assert len(digits.train["label"]) == 898
    assert len(digits.test["label"]) == 899
    train, test = rule()
    assert not set(train) & set(test)
    assert len(set(train) | set(test)) == 1797
    difference = np.bincount(digits.train["label"]) - np.bincount(digits.test["label"])
    assert np.abs(difference).max() <= 1


def test_first_digits_are_known():
    """scikit-learn begins 0, 1, 2 ... 9. Its 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180 of a class
    put the first of each at 0, 178, 360, 537, 720, 901, 1083, 1264, 1443, 1617, of which the odd are train's.
    """
    digits = data.load("digits")
    assert digits.train["label"][:5].tolist() == [3, 5, 6, 8, 9]
    assert digits.test["label"][:5].tolist() == [0, 1, 2, 4, 7]
    # the first row of scikit-learn's first image is 0 0 5 13 9 1 0 0; 5 * 255 / 16 = 79.69
    assert digits.test["image"][0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


def test_spec_describes_the_train_split():
    digits = data.load("digits", image_size=12)
    assert digits.spec.entries == {
        "image": jax.ShapeDtypeStruct((12, 12, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    assert digits.spec.num_examples == 898
    assert digits.spec.num_classes == 10
    assert digits.spec.class_shares[4] == np.sum(digits.train["label"] == 4) / 898
    assert digits.spec.class_shares.sum() == pytest.approx(1, abs=1e-12)
    pixels = digits.train["image"][:, 5, 7, 0].astype(float)
    assert digits.spec.mean[5, 7, 0] == pytest.approx(pixels.mean() / 255, abs=1e-12)
    assert digits.spec.mean.shape == (12, 12, 1)


@pytest.mark.parametrize("size", [9, 28, 128])
def test_resize_is_pillows(size):
    native, resized = data.load("digits"), data.load("digits", image_size=size)
    for i in (0, 5, 897):
        expected = Image.fromarray(native.train["image"][i, :, :, 0]).resize((size, size), Image.BICUBIC)
        np.testing.assert_array_equal(resized.train["image"][i, :, :, 0], np.asarray(expected))
    assert resized.test["image"].shape == (899, size, size, 1)
    np.testing.assert_array_equal(resized.test["label"], native.test["label"])


def test_resize_keeps_colours_apart():
    from jaxgen.data import images

    colour = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    grey = [images.resize(colour[..., c : c + 1], 9) for c in range(3)]
    np.testing.assert_array_equal(images.resize(colour, 9), np.concatenate(grey, axis=-1))


def test_binarize_comes_after_resizing():
    grey, binary = data.load("digits", image_size=16), data.load("digits", image_size=16, binarize=True)
    np.testing.assert_array_equal(binary.train["image"], 255 * (grey.train["image"] > 127))
    assert binary.train["image"].dtype == np.uint8
    native = data.load("digits", binarize=True).train["image"]
    # 8 of 16 is stored as 128, the least value that becomes white
    np.testing.assert_array_equal(native[..., 0], 255 * (load_digits().images[rule()[0]] >= 8))


def test_fingerprint_is_the_stated_hash():
    digits = data.load("digits")
    digest = hashlib.sha256()
    for split, examples in ((digits.train, 898), (digits.test, 899)):
        digest.update(f"image |u1 ({examples}, 8, 8, 1)\n".encode() + split["image"].tobytes())
        digest.update(f"label <i4 ({examples},)\n".encode() + split["label"].tobytes())
    assert digits.fingerprint == digest.hexdigest()
    assert digits.fingerprint == "9a3c81582b0fc02a27121224f617b00787efbc413af1dc678c03c0fd0f0eaade"


def test_fingerprint_changes_with_the_options_and_options_load_the_same_again():
    options = [{}, {"image_size": 16}, {"image_size": 17}, {"binarize": True}]
    loaded = [data.load("digits", **chosen) for chosen in options]
    assert len({digits.fingerprint for digits in loaded}) == len(options)
    for digits in loaded:
        again = data.load(digits.name, **json.loads(json.dumps(digits.options)))
        assert again.fingerprint == digits.fingerprint
        assert again.options == digits.options
    assert data.load("digits", image_size=8).fingerprint == loaded[0].fingerprint
    assert loaded[0].options == {"image_size": 8, "binarize": False}


def test_note_says_what_was_done():
    note = data.load("digits", image_size=16, binarize=True).note
    assert "scikit-learn" in note
    assert "8x8 to 16x16 (Pillow, bicubic)" in note
    assert "128" in note
    assert "resized" not in data.load("digits", image_size=8).note


def test_table_agrees_with_what_is_loaded(tmp_path, monkeypatch):
    for info in data.table():
        dataset = data.load(info.name)
        assert info.examples == (len(dataset.train["label"]), len(dataset.test["label"]))
        assert info.shape == dataset.spec.image_shape
        assert info.classes == dataset.spec.num_classes
        assert info.prepared
        with monkeypatch.context() as patch:
            patch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
            assert not info.prepared


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit"}, "unknown dataset 'digit': there are digits; did you mean 'digits'?"),
        ({"name": "imagenet"}, "unknown dataset 'imagenet': there are digits"),
        *[
            (
                {"name": "digits", "image_size": size},
                f"image size {size!r}: dataset 'digits' has whole sizes from 8 to 128",
            )
            for size in (7, 0, -8, 129, 16.0, True, "16")
        ],
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(UserError) as caught:
        data.load(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"JAXGEN_DATA_DIR": "/somewhere/else", "XDG_CACHE_HOME": "/x"}, "/somewhere/else"),
        ("linux", {"JAXGEN_DATA_DIR": "~/data"}, "/home/ada/data"),
        ("linux", {"JAXGEN_DATA_DIR": "", "XDG_CACHE_HOME": "/x"}, "/x/jaxgen"),
        ("linux", {}, "/home/ada/.cache/jaxgen"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/ada/Library/Caches/jaxgen"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/jaxgen"),
    ],
)
def test_data_dir_is_the_platforms(monkeypatch, platform, variables, expected):
    for name in ("JAXGEN_DATA_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables | {"HOME": "/home/ada"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert data.data_dir() == Path(expected)


def test_import_is_light():
    heavy = "{'jax', 'tensorflow_datasets', 'grain', 'sklearn', 'PIL', 'tensorflow'}"
    code = f"import sys, jaxgen.data; jaxgen.data.table()[0].prepared; print({heavy} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"
