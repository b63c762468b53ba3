"""Official datasets read without TensorFlow: tiny ones that TFDS prepares here, and real ones if available."""

import gzip
import hashlib
import io
import json
import multiprocessing
import operator
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.options import Options
from jaxgen.data.readers.official import MANIFEST, OFFICIAL, Official, identity, lookup, prepared, read
from jaxgen.data.readers.preparing import write_manifest
from jaxgen.data.source import BadExampleError
from jaxgen.errors import UserError

SPLITS = ("train", "validation", "test")


def file(pixels, kind="PNG", **options):
    """Encodes pixels, uint8 [H, W] or [H, W, 3], as an image file."""
    content = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(content, kind, **options)
    content.seek(0)
    return content


def gray(value):
    return file(np.full((2, 3), value))


def prepare(root, name, features, splits, version="1.0.0"):
    """Writes a dataset with these features and examples, in this order, as `jaxgen data prepare` does."""
    import tensorflow_datasets as tfds

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Tiny.name = name
    tfds.disable_progress_bar()
    builder = Tiny(data_dir=root / "tfds", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    folder = Path(builder.data_path)
    write_manifest(folder, name)
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def toy(root):
    """tfds:toy, gray images of one value each: 0 to 19 in train, 100 to 104 in test; labels are parities."""
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(2, 3, 1)),
        "label": tfds.features.ClassLabel(names=["even", "odd"]),
    }
    values = {"train": range(20), "test": range(100, 105)}
    splits = {split: [{"image": gray(x), "label": x % 2} for x in known] for split, known in values.items()}
    return prepare(root, "toy", features, splits)


def values(source, split):
    """The value of each gray image of a split."""
    records = source.splits[split]
    return [int(records[i]["image"][0, 0, 0]) for i in range(len(records))]


def error(options, function=read):
    with pytest.raises(UserError) as raised:
        function(options)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_records_are_decoded_images_and_labels(toy):
    source = read(Options("tfds:toy"))
    assert tuple(source.splits) == SPLITS
    assert source.classes == ("even", "odd")
    assert source.note == (
        "TFDS's toy/1.0.0, of which train[:90%] is for training, train[90%:] for validation and test for testing"
    )
    assert [values(source, split) for split in SPLITS] == [[*range(18)], [18, 19], [*range(100, 105)]]
    example = source.splits["train"][7]
    assert set(example) == {"image", "label"}
    assert (example["image"].dtype, example["image"].shape) == (np.uint8, (2, 3, 1))
    assert (example["image"] == 7).all()
    assert (example["label"], type(example["label"])) == (1, int)
    assert source.splits["train"][np.int64(7)]["label"] == 1
    for index in (-1, 18):
        with pytest.raises(IndexError):
            source.splits["train"][index]


def test_records_are_read_in_another_process(toy):
    records = read(Options("tfds:toy")).splits["validation"]
    assert records[0]["label"] == 0  # its files are open now
    assert len(pickle.dumps(records)) < 1000
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        example = pool.submit(operator.getitem, records, 1).result()
    np.testing.assert_array_equal(example["image"], np.full((2, 3, 1), 19))
    assert example["label"] == 1


TOY = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train_split": "train[:10%]"}, ([0, 1], [18, 19], [100, 101, 102, 103, 104])),
        (
            {"train_split": "train[5:7]+test[:2]", "validation_split": "train[-1:]", "test_split": "test[2:]"},
            ([5, 6, 100, 101], [19], [102, 103, 104]),
        ),
        ({"validation_split": "test[:40%]", "test_split": "test[40%:]"}, ([*range(18)], [100, 101], [102, 103, 104])),
    ],
)
def test_splits_in_the_syntax_of_tfds(toy, given, expected):
    source = read(Options("tfds:toy", **given))
    assert [values(source, split) for split in SPLITS] == list(expected)
    for split, count in zip(SPLITS, map(len, expected), strict=True):
        assert len(source.splits[split]) == count
    train, validation, test = (given.get(f"{split}_split", usual) for split, usual in TOY.items())
    assert f"{train} is for training, {validation} for validation and {test} for testing" in source.note


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"train_split": "train"},
            "the splits of tfds:toy overlap: train is train and validation is train[90%:], with 2 examples in both; "
            "give train_split or validation_split so that they have none",
        ),
        ({"train_split": "train[:5]+test[4:]"}, "train is train[:5]+test[4:] and test is test, with 1 examples"),
        ({"test_split": "train[19:]"}, "validation is train[90%:] and test is train[19:], with 1 examples"),
        ({"train_split": "all"}, "train is all and validation is train[90%:], with 2 examples"),
    ],
)
def test_overlapping_splits_are_refused(toy, given, message):
    assert message in error(Options("tfds:toy", **given))


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("training", "Unknown split 'training'. Should be one of ['train', 'test']"),
        ("train[:21]", "Requested slice [:21] incompatible with 20 examples"),
        ("train[", "Unrecognized split format: 'train['"),
        ("train[:1.5]", "invalid literal for int() with base 10: '1.5'"),
        ("all[:3]", "'all' does not support slice"),
    ],
)
def test_wrong_syntax_of_a_split(toy, split, reason):
    assert error(Options("tfds:toy", train_split=split)) == (
        f"train_split {split} of tfds:toy: {reason}; it has train (20) and test (5), "
        "to be sliced as in train[:10%], train[1000:2000] or train+test"
    )


@pytest.mark.parametrize("split", ["train[:0]", "train[5:5]", "train[7:5]", "train[20:]", "train[:1%]"])
def test_empty_splits_are_refused(toy, split):
    assert f"train_split {split} of tfds:toy has an empty part" in error(Options("tfds:toy", train_split=split))


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train",), ("train[:70%]", "train[70%:80%]", "train[80%:]")),
        (("train", "validation"), ("train[:80%]", "validation", "train[80%:]")),
        (("train", "val", "test"), ("train", "val", "test")),
    ],
)
def test_splits_that_are_missing_are_carved_from_train(root, splits, expected):
    import tensorflow_datasets as tfds

    features = {"image": tfds.features.Image(shape=(2, 3, 1))}
    prepare(root, "toy", features, {split: [{"image": gray(x)} for x in range(10)] for split in splits})
    source = read(Options("tfds:toy"))
    train, validation, test = expected
    note = f"of which {train} is for training, {validation} for validation and {test} for testing"
    assert source.note == f"TFDS's toy/1.0.0, {note}"
    assert source.classes == ()
    assert set(source.splits["train"][0]) == {"image"}


def test_features_of_any_dataset(root):
    """The image is used, not the mask or the file's name; a label; the first of several captions, in Unicode."""
    import tensorflow_datasets as tfds

    features = {
        "file_name": tfds.features.Text(),
        "mask": tfds.features.LabeledImage(shape=(None, None, 1), labels=2),
        "photo": tfds.features.Image(shape=(None, None, 3)),
        "breed": tfds.features.ClassLabel(num_classes=3),
        "captions": tfds.features.Sequence({"id": np.int64, "text": np.str_}),
    }
    red = np.zeros((4, 5, 3), np.uint8) + np.uint8([255, 0, 0])
    photos = [
        (file(red), [{"id": 1, "text": "un café"}, {"id": 2, "text": "another"}]),
        (file(np.full((3, 2), 9)), [{"id": 3, "text": "a gray file among colors"}]),
        (file(red, "GIF"), []),
    ]
    splits = ("train", "validation", "test")
    examples = {
        split: [{"file_name": "x.png", "mask": gray(1), "photo": photo, "breed": 2, "captions": captions}]
        for split, (photo, captions) in zip(splits, photos, strict=True)
    }
    prepare(root, "toy", features, examples)
    source = read(Options("tfds:toy"))
    train, validation, test = (source.splits[split][0] for split in splits)
    assert source.classes == ("0", "1", "2")
    np.testing.assert_array_equal(train["image"], red)
    np.testing.assert_array_equal(validation["image"], np.full((3, 2, 3), 9))
    np.testing.assert_array_equal(test["image"], red)
    assert [x["caption"] for x in (train, validation, test)] == ["un café", "a gray file among colors", ""]
    assert {x["label"] for x in (train, validation, test)} == {2}


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (lambda tfds: tfds.features.Text(), "tfds:toy has no images; its features are image"),
        (
            lambda tfds: tfds.features.Image(shape=(2, 3, 4)),
            "the images of tfds:toy are uint8 (2, 3, 4), not uint8 of 1 or 3 channels",
        ),
        (
            lambda tfds: tfds.features.Image(shape=(2, 3, 1), dtype=np.uint16),
            "the images of tfds:toy are uint16 (2, 3, 1), not uint8 of 1 or 3 channels",
        ),
    ],
)
def test_datasets_without_usable_images_are_refused(root, feature, message):
    import tensorflow_datasets as tfds

    made = feature(tfds)
    content = "text" if isinstance(made, tfds.features.Text) else gray(1)
    prepare(root, "toy", {"image": made}, {"train": [{"image": content}] * 10})
    assert error(Options("tfds:toy")) == message


def test_pixels_0_and_1_become_0_and_255(root):
    import tensorflow_datasets as tfds

    pixels = np.uint8([[0, 1, 0], [1, 1, 0]])
    features = {"image": tfds.features.Image(shape=(2, 3, 1))}
    prepare(root, "binarized_mnist", features, {split: [{"image": file(pixels)}] for split in SPLITS})
    for dataset in ("binarized_mnist", "tfds:binarized_mnist"):
        source = read(Options(dataset))
        np.testing.assert_array_equal(source.splits["test"][0]["image"][..., 0], pixels * 255)
        assert source.note.endswith("and test for testing; pixels 0 and 1 are read as 0 and 255")


def test_images_without_labels_take_the_labels_away(root):
    import tensorflow_datasets as tfds

    features = {"image": tfds.features.Image(shape=(2, 3, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    labels = {"train": [3] * 5000, "test": [4], "unlabeled": [-1, -1]}
    prepare(
        root,
        "stl10",
        features,
        {split: [{"image": gray(5), "label": x} for x in known] for split, known in labels.items()},
    )
    assert read(Options("stl10")).splits["train"][0]["label"] == 3
    source = read(Options("stl10", train_split="unlabeled"))
    assert source.classes == ()
    assert [set(source.splits[split][0]) for split in SPLITS] == [{"image"}] * 3


def test_an_image_that_cannot_be_decoded_is_named(root):
    import tensorflow_datasets as tfds

    whole = file(np.random.default_rng(0).integers(0, 256, (40, 30, 3))).getvalue()
    test = [whole, b"no image", whole[: len(whole) // 2], whole]
    features = {"image": tfds.features.Image(shape=(None, None, 3))}
    splits = {"train": [whole], "validation": [whole], "test": test}
    prepare(
        root, "toy", features, {split: [{"image": io.BytesIO(x)} for x in known] for split, known in splits.items()}
    )
    records = read(Options("tfds:toy")).splits["test"]
    assert records[0]["image"].shape == records[3]["image"].shape == (40, 30, 3)
    for index, reason in ((1, "cannot identify image file"), (2, "image file is truncated")):
        with pytest.raises(BadExampleError) as raised:
            records[index]
        assert str(raised.value) == f"example {index} of tfds:toy, split test, cannot be decoded: {reason}"


def test_not_prepared_says_what_to_run(root):
    for dataset in ("mnist", "lsun/bedroom", "coco_captions", "tfds:food101", "tfds:emnist/letters"):
        for function in (identity, read):
            message = f"{dataset} is not prepared yet: run jaxgen data prepare {dataset}"
            assert error(Options(dataset), function) == message


def test_a_folder_without_manifest_is_not_prepared(toy):
    (toy / MANIFEST).unlink()
    assert "is not prepared yet" in error(Options("tfds:toy"))


def test_the_newest_version_is_read(toy, root):
    import tensorflow_datasets as tfds

    features = {"image": tfds.features.Image(shape=(2, 3, 1))}
    for version in ("9.0.0", "10.0.0"):
        prepare(root, "toy", features, {"train": [{"image": gray(1)}] * 10}, version)
    assert prepared("toy").name == "10.0.0"
    assert read(Options("tfds:toy")).note.startswith("TFDS's toy/10.0.0")


def damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("change", [damaged, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
@pytest.mark.parametrize("name", ["toy-train.array_record-00000-of-00001", "features.json"])
def test_changes_to_a_prepared_folder_are_found(toy, name, change):
    change(toy / name)
    assert error(Options("tfds:toy")) == (
        f"{toy / name} was damaged or changed after it was prepared: delete {toy} and run jaxgen data prepare toy again"
    )


def test_a_broken_manifest_is_told(toy):
    (toy / MANIFEST).write_text("{")
    for function in (identity, read):
        assert error(Options("tfds:toy"), function) == (
            f"{toy / MANIFEST} cannot be read: delete {toy} and prepare the dataset again"
        )


def test_files_that_vanish_while_they_are_read(toy):
    records = read(Options("tfds:toy")).splits["train"]
    for path in toy.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="can no longer be read") as raised:
        records[0]
    assert not isinstance(raised.value, BadExampleError)  # otherwise every example would be skipped as a bad one


def test_identity_changes_with_the_files_and_the_splits(toy):
    first = identity(Options("tfds:toy"))
    assert identity(Options("tfds:toy")) == first
    assert identity(Options("tfds:toy", image_size=8)) == first  # independent of processing after reading
    assert identity(Options("tfds:toy", train_split="train[:5]")) != first
    path = toy / "toy-train.array_record-00000-of-00001"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = identity(Options("tfds:toy"))
    assert second != first
    path.unlink()
    assert identity(Options("tfds:toy")) not in (first, second)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("mnist", "mnist"),
        ("tfds:mnist", "mnist"),
        ("lsun/church_outdoor", "lsun/church_outdoor"),
        ("coco_captions", "coco_captions/2014"),
        ("coco_captions/2014", "coco_captions/2014"),
        ("tfds:emnist/letters", "emnist/letters"),
    ],
)
def test_names(dataset, name):
    assert lookup(dataset) == (name, OFFICIAL.get(name.partition("/")[0]))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("fashion_minst", "unknown dataset fashion_minst: did you mean fashion_mnist"),
        ("mnist/letters", "mnist has no configs: it is mnist, not mnist/letters"),
        ("lsun", "lsun is lsun/CONFIG: there are classroom, bedroom, bridge"),
        ("lsun/bedrom", "lsun is lsun/CONFIG: did you mean bedroom?"),
        ("coco_captions/2017", "coco_captions is coco_captions/CONFIG: did you mean 2014?"),
        ("tfds:", "tfds: is no name of a dataset: it is tfds:NAME or tfds:NAME/CONFIG"),
        ("tfds:../mnist", "tfds:../mnist is no name of a dataset"),
        ("tfds:emnist/..", "tfds:emnist/.. is no name of a dataset"),
    ],
)
def test_wrong_names(root, dataset, message):
    for function in (identity, read):
        assert error(Options(dataset), function).startswith(message)


@pytest.mark.parametrize("name", OFFICIAL)
def test_rows_agree_with_the_builders_of_tfds(name):
    """The table agrees with the builders' features, classes and configs, which need no data."""
    import tensorflow_datasets as tfds

    row = OFFICIAL[name]
    assert type(row) is Official
    assert row.description.endswith(".")
    try:
        builder = tfds.builder("/".join([name, *row.configs[:1]]), data_dir="nowhere", try_gcs=False)
    except ImportError as missing:
        pytest.skip(f"TFDS's builder of {name} is made with TensorFlow only: {missing.name or 'it'} is missing")
    features = builder.info.features
    assert type(features[row.image]) is tfds.features.Image
    assert features[row.image].shape == row.shape
    assert set(builder.builder_configs) == set(row.configs)
    if row.label:
        assert features[row.label].num_classes == row.classes
    if row.caption:
        outer, inner = row.caption.split("/")
        assert features[outer].feature[inner].np_dtype == np.object_
    assert bool(row.label) == bool(row.classes)


# The real datasets. `tests/data/test_prepare.py` prepares them if TensorFlow is installed.

needs_prepared = pytest.mark.skipif(
    not os.environ.get("JAXGEN_PREPARED_DIR"), reason="JAXGEN_PREPARED_DIR names no data folder with prepared datasets"
)
needs_files = pytest.mark.skipif(
    not os.environ.get("JAXGEN_TEST_DATA"), reason="JAXGEN_TEST_DATA names no folder of test data"
)


@pytest.fixture
def real(monkeypatch):
    folder = os.environ["JAXGEN_PREPARED_DIR"]
    monkeypatch.setenv("JAXGEN_DATA_DIR", folder)

    def decoded(name):
        if prepared(name) is None:
            pytest.skip(f"{name} is not prepared in {folder}")
        source = read(Options(name))
        return source, {kind: [records[i] for i in range(len(records))] for kind, records in source.splits.items()}

    return decoded


def hashes(images, labels):
    """Sorted sha256 digests of each image with its label: equal exactly if the examples are, in any order."""
    return sorted(
        hashlib.sha256(np.ascontiguousarray(image).tobytes() + bytes([label])).hexdigest()
        for image, label in zip(images, labels, strict=True)
    )


def idx(name):
    """Content of an idx file, uint8, with the shape in its header: two zeros, type, number of axes, lengths."""
    content = gzip.decompress((Path(os.environ["JAXGEN_TEST_DATA"]) / name).read_bytes())
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    assert content[:3] == b"\0\0\x08"
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


@needs_prepared
@needs_files
@pytest.mark.parametrize(
    ("name", "first", "means"),
    [
        # The first labels in TFDS's published order, and the commonly used pixel means.
        ("mnist", [4, 1, 0, 7, 8, 1, 2, 7, 1, 6], (0.1306605, 0.1325146)),
        ("fashion_mnist", [2, 1, 8, 4, 1, 9, 2, 2, 0, 2], (0.2860406, 0.2868493)),
    ],
)
def test_mnist_is_what_was_published(real, name, first, means):
    source, splits = real(name)
    assert tuple(map(len, splits.values())) == OFFICIAL[name].examples == (55_000, 5_000, 10_000)
    assert [x["label"] for x in splits["train"][:10]] == first
    assert len(source.classes) == 10
    both = {"train": splits["train"] + splits["validation"], "t10k": splits["test"]}
    for (split, examples), mean in zip(both.items(), means, strict=True):
        images, labels = idx(f"{name}/{split}-images-idx3-ubyte.gz"), idx(f"{name}/{split}-labels-idx1-ubyte.gz")
        found = np.stack([x["image"] for x in examples])
        assert found.shape == (*images.shape, 1)
        assert hashes(found, [x["label"] for x in examples]) == hashes(images, labels)
        assert found.mean() / 255 == pytest.approx(mean, abs=1e-7)


@needs_prepared
@needs_files
def test_binarized_mnist_is_what_was_published(real):
    source, splits = real("binarized_mnist")
    assert tuple(map(len, splits.values())) == OFFICIAL["binarized_mnist"].examples == (50_000, 10_000, 10_000)
    assert source.classes == ()
    folder = Path(os.environ["JAXGEN_TEST_DATA"]) / "binarized_mnist"
    for split, file_name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        text = gzip.decompress((folder / f"binarized_mnist_{file_name}.amat.gz").read_bytes())
        bits = np.frombuffer(text, np.uint8)[::2].reshape(-1, 28, 28) - ord("0")  # each digit is followed by a blank
        assert set(np.unique(bits)) == {0, 1}
        images = np.stack([x["image"] for x in splits[split]])
        assert hashes(images, [0] * len(images)) == hashes(bits * np.uint8(255), [0] * len(bits))
        assert [set(x) for x in splits[split][:1]] == [{"image"}]


def test_the_manifest_is_plain(toy):
    """The manifest is plain text, so that a folder can be checked with other tools."""
    manifest = json.loads((toy / MANIFEST).read_text())
    assert manifest["dataset"] == "toy"
    assert manifest["examples"] == {"train": 20, "test": 5}
    assert set(manifest["files"]) == {path.name for path in toy.iterdir()} - {MANIFEST}
    for name, (size, digest) in manifest["files"].items():
        content = (toy / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
