"""Arrays of a user's own: names, forms, ranges, splits, and what is refused."""

import os

import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.options import Options
from jaxgen.data.readers import array
from jaxgen.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 6, 3), np.uint8)
GRAY = PIXELS[..., :1]


def options(path, **more):
    return Options("array", data_from=str(path), **more)


@pytest.fixture
def saved(tmp_path):
    """Function that saves arrays as npz, or one array as npy, and returns the path."""

    def save(*single, **arrays):
        path = tmp_path / ("images.npz" if arrays else "images.npy")
        if arrays:
            np.savez(path, **arrays)
        else:
            np.save(path, *single)
        return path

    return save


def together(source):
    """The images of all splits, each as bytes."""
    return sorted(image.tobytes() for examples in source.splits.values() for image in examples["image"])


def each(images):
    return sorted(image.tobytes() for image in images)


@pytest.mark.parametrize(
    ("values", "images", "told"),
    [
        (PIXELS, PIXELS, ""),
        (PIXELS.transpose(0, 3, 1, 2), PIXELS, "channels first"),
        (GRAY[..., 0], GRAY, ""),
        (np.float32(GRAY) / 255, GRAY, "float32 from 0 to 1 as levels"),
        (np.float64(GRAY[..., 0]) / 127.5 - 1, GRAY, "float64 from -1 to 1 as levels"),
        (np.float16(PIXELS), PIXELS, "float16 from 0 to 255 as levels"),
        (np.int64(PIXELS), PIXELS, "int64 from 0 to 255 as levels"),
        (GRAY > 127, np.where(GRAY > 127, 255, 0).astype(np.uint8), "bool from 0 to 1 as levels"),
        (np.concatenate([PIXELS, np.full_like(GRAY, 255)], 3), PIXELS, "opaque"),
    ],
)
def test_images_in_the_usual_forms(values, images, told, saved):
    for path in (saved(values), saved(anything=values)):
        source = array.read(options(path))
        assert together(source) == each(images)
        assert told in source.note
        assert [len(source.splits[split]["image"]) for split in ("train", "validation", "test")] != [20, 0, 0]


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainX", "trainY", "testX", "testY"),
        ("images/train", "targets/train", "images/test", "targets/test"),
    ],
)
def test_names_of_splits(names, saved):
    """A missing validation split is a part of train; test is as given."""
    labels = np.arange(20) % 4
    values = (PIXELS[:15], labels[:15, None], PIXELS[15:], labels[15:, None])
    source = array.read(options(saved(**dict(zip(names, values, strict=True)))))
    np.testing.assert_array_equal(source.splits["test"]["image"], PIXELS[15:])
    np.testing.assert_array_equal(source.splits["test"]["label"], labels[15:])
    assert sum(len(source.splits[split]["image"]) for split in ("train", "validation")) == 15
    for split in ("train", "validation"):
        for image, label in zip(*source.splits[split].values(), strict=True):
            assert label == np.flatnonzero((image == PIXELS).all((1, 2, 3)))[0] % 4
    assert source.classes == ("0", "1", "2", "3")


def test_an_image_keeps_its_split_when_others_are_appended(saved):
    before = array.read(options(saved(images=PIXELS[:12]))).splits
    after = array.read(options(saved(images=PIXELS))).splits
    for split in before:
        assert set(each(before[split]["image"])) <= set(each(after[split]["image"]))


def test_blocks_share_a_split(saved):
    source = array.read(options(saved(images=PIXELS), split_blocks=5))
    place = {image.tobytes(): i // 5 for i, image in enumerate(PIXELS)}
    blocks = [{place[image.tobytes()] for image in part["image"]} for part in source.splits.values()]
    assert sorted(block for part in blocks for block in part) == [0, 1, 2, 3]
    assert "in blocks of 5" in source.note


def test_names_of_classes_and_captions_are_loaded_and_cached(saved):
    names = np.array(["dog", "cat", "dog", "class 10", "class 9"] * 4)
    path = saved(images=PIXELS, labels=names, captions=np.array([f"a {name}" for name in names]), comment=np.arange(3))
    found = data.load("array", data_from=str(path), progress=False)
    assert found.classes == ("cat", "class 9", "class 10", "dog")
    whole = [
        (image.tobytes(), found.classes[label], found.vocabulary.decode(caption[None])[0])
        for split in (found.train, found.validation, found.test)
        for image, label, caption in zip(split["image"], split["label"], split["caption"], strict=True)
    ]
    assert sorted((image, name) for image, name, _ in whole) == sorted(
        (image.tobytes(), name) for image, name in zip(PIXELS, names, strict=True)
    )
    assert all(name.split()[0] in caption for _, name, caption in whole)
    assert "passed over: comment" in found.note
    again = data.load("array", data_from=str(path), progress=False)
    assert again.fingerprint == found.fingerprint
    np.savez(path, images=255 - PIXELS)
    assert data.load("array", data_from=str(path), progress=False).fingerprint != found.fingerprint


def test_of_several_arrays_those_without_a_meaning_are_passed_over(saved):
    source = array.read(options(saved(arr_0=PIXELS, arr_1=np.arange(20))))
    assert together(source) == each(PIXELS)
    assert "passed over: arr_1" in source.note


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.float32(GRAY) * 4 - 300}, r"float32 from -300 to .*: scale and clip them"),
        ({"images": np.full((20, 4, 4, 1), np.nan)}, "holds non-finite values"),
        ({"images": PIXELS.reshape(20, -1)}, r"train images of .* are \[20, 72\], not \[num, height, width\]"),
        ({"images": PIXELS, "labels": np.arange(19)}, r"label in .* is \[19\] for 20 images"),
        ({"images": PIXELS, "labels": np.eye(20)}, r"label in .* is \[20, 20\], not \[num\]: take the argmax"),
        ({"images": PIXELS, "labels": np.arange(20) - 1}, r"labels in .* are from -1 to 18"),
        ({"images": PIXELS, "labels": np.arange(20.0)}, "labels in .* are float64, neither whole numbers nor names"),
        ({"images": PIXELS, "captions": np.arange(20)}, "captions in .* are int64, not text"),
        ({"labels": np.arange(20), "captions": np.arange(20)}, "has label and captions without images"),
        ({"images": PIXELS, "x": PIXELS}, "has several arrays of images, x among them"),
        ({"x_train": PIXELS, "y": np.arange(20)}, "has arrays of train and labels of no split: name their split"),
        ({"x_test": PIXELS}, "has no training images, only test: name them train_images"),
        ({"x_train": PIXELS, "x_test": GRAY}, "images of test in .* are 4x6x1, those of train 4x6x3"),
        ({"x_train": PIXELS, "y_train": np.arange(20), "x_test": PIXELS}, "has images of test, but images and labels"),
        ({"weights": PIXELS, "bias": PIXELS}, "has no images; it holds weights, bias: save your images by"),
        ({"images": PIXELS[:2]}, "holds 2 images: at least 3 are needed, one for each of train, validation, test"),
        ({"images": np.concatenate([PIXELS, GRAY], 3)}, "is transparent in places"),
        ({"images": np.array([{}, {}])}, "holds Python objects, which are not loaded"),
    ],
)
def test_what_is_refused(arrays, message, saved):
    with pytest.raises(UserError, match=message) as caught:
        array.read(options(saved(**arrays)))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_arrays(tmp_path):
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4 and no more")
    (tmp_path / "a.pt").write_bytes(b"\x80\x02}q\0.")
    for name, message in {
        "empty.npz": "is no folder, zip, npz or npy file: save your images by",
        "cut.npz": "is no npz or npy file that can be read",
        "a.pt": "is a pickle: save your images by",
        "": r"is a folder \(image_folder reads those\): --data-from",
        "absent.npz": "there is no file .*: --data-from",
    }.items():
        with pytest.raises(UserError, match=message):
            array.read(options(os.path.join(tmp_path, name)))
    with pytest.raises(UserError, match="array needs an npz or npy file: name it by --data-from FILE"):
        array.identity(Options("array"))
