"""Stacks taken apart: each channel is an image of the source, and the label consists of those images' digits."""

import gzip
import hashlib
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxgen.data
from jaxgen.data.options import Options
from jaxgen.data.readers import stacked
from jaxgen.data.source import SPLITS


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def digits():
    """scikit-learn's digits, divided by index modulo 3 into splits: uint8 [n, 8, 8, 1] and int32 [n]."""
    source = load_digits()
    images, labels = source.images.astype(np.uint8)[..., None], source.target.astype(np.int32)
    return {split: {"image": images[i::3], "label": labels[i::3]} for i, split in enumerate(SPLITS)}


def mnist():
    """The first 10,000 training images of MNIST, divided likewise."""
    folder = Path(os.environ.get("JAXGEN_TEST_DATA", "")) / "mnist"
    if "JAXGEN_TEST_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("JAXGEN_TEST_DATA names no folder with mnist")
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 10_000 * 784), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + 10_000), np.uint8, offset=8).astype(np.int32)
    return {split: {"image": images[i::3], "label": labels[i::3]} for i, split in enumerate(SPLITS)}


def picked(stacks, source):
    """Finds for each stack [num] and channel [3] the set of digits of the source's examples with exactly that image."""
    labels = {}
    for image, label in zip(source["image"][..., 0], source["label"].tolist(), strict=True):
        labels.setdefault(image.tobytes(), set()).add(label)
    return [[labels.get(image[..., c].tobytes()) for c in range(3)] for image in stacks["image"]]


def check(stacks, source):
    for label, (red, green, blue) in zip(stacks["label"].tolist(), picked(stacks, source), strict=True):
        assert label // 100 in red
        assert label // 10 % 10 in green
        assert label % 10 in blue


def test_stack_by_hand():
    """Two examples: a 7 with one dark and one bright pixel, and a 2 with them swapped."""
    images = np.array([[[[0], [9]]], [[[9], [0]]]], np.uint8)
    stacks = stacked.stack(images, np.array([7, 2], np.int32), rng(), 200)
    assert stacks["image"].shape == (200, 1, 2, 3)
    looks = {
        label: {image.tobytes() for image in stacks["image"][stacks["label"] == label]} for label in (777, 722, 272)
    }
    assert looks[777] == {bytes([0, 0, 0, 9, 9, 9])}
    assert looks[722] == {bytes([0, 9, 9, 9, 0, 0])}
    assert looks[272] == {bytes([9, 0, 9, 0, 9, 0])}
    assert set(stacks["label"].tolist()) == {222, 227, 272, 277, 722, 727, 772, 777}


@pytest.mark.parametrize("source", [digits, mnist])
def test_labels_are_those_of_the_images_in_the_channels(source):
    examples = source()["train"]
    stacks = stacked.stack(examples["image"], examples["label"], rng(), 20_000)
    assert stacks["image"].dtype == np.uint8
    assert stacks["image"].shape == (20_000, *examples["image"].shape[1:3], 3)
    assert stacks["label"].dtype == np.int32
    check(stacks, examples)


def test_examples_are_drawn_alike_and_independently_for_the_channels():
    """Each of the 1,000 triples has about 100 of 100,000 stacks, drawn from 10 examples, one of each digit."""
    images = np.arange(10, dtype=np.uint8)[:, None, None, None]
    stacks = stacked.stack(images, np.arange(10, dtype=np.int32), rng(), 100_000)
    counts = np.bincount(stacks["label"], minlength=1000)
    assert len(counts) == 1000
    # chi-squared with 999 degrees of freedom: mean 999, standard deviation 44.7
    assert abs(((counts - 100) ** 2 / 100).sum() - 999) < 4 * 44.7


@pytest.fixture
def loaded(monkeypatch):
    """`jaxgen.data` with the digits above; records the requested names."""
    names = []

    def load(name):
        names.append(name)
        return SimpleNamespace(**digits())

    monkeypatch.setattr(jaxgen.data, "load", load)
    monkeypatch.setattr(jaxgen.data, "identity", lambda name: f"the version of {name}", raising=False)
    return names


def test_splits_are_of_their_own_digits(loaded):
    source = stacked.read(Options("stacked_digits"))
    assert loaded == ["digits"]
    assert tuple(source.splits) == SPLITS
    for (name, split), num in zip(source.splits.items(), (128_000, 10_000, 26_000), strict=True):
        assert len(split["image"]) == len(split["label"]) == num
        first = {entry: x[:3000] for entry, x in split.items()}
        check(first, digits()[name])
    assert len(source.classes) == 1000
    assert source.classes[42] == "042"


def test_all_modes_are_in_training(loaded):
    train = stacked.read(Options("stacked_digits")).splits["train"]
    counts = Counter(train["label"].tolist())
    assert len(counts) == 1000
    assert min(counts.values()) > 60  # 128 expected of each


def test_same_stacks_each_time(loaded):
    first, second = (stacked.read(Options("stacked_digits")).splits["validation"] for _ in range(2))
    np.testing.assert_array_equal(first["image"], second["image"])
    np.testing.assert_array_equal(first["label"], second["label"])


def test_draws_are_the_recorded_ones(loaded):
    """A change of the rule or of NumPy's random streams changes the content; `identity` must then change too."""
    content = hashlib.sha256()
    for split in stacked.read(Options("stacked_digits")).splits.values():
        content.update(split["image"])
        content.update(split["label"].astype("<i4"))
    assert content.hexdigest() == "b67602dece293b03c18b2b4ac3a05e07363c353e909a2f463d885692a41aa17b"


def test_stacked_mnist_is_of_mnist(loaded):
    stacked.read(Options("stacked_mnist"))
    assert loaded == ["mnist"]


def test_identity_follows_the_digits(loaded):
    assert stacked.identity(Options("stacked_mnist")) == "1 of the version of mnist"
    assert stacked.identity(Options("stacked_digits")) == "1 of the version of digits"
