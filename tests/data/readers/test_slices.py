"""TFDS's slicing syntax against ranges by hand, and one-line errors."""

import itertools

import pytest

from jaxgen.data.readers.slices import ranges
from jaxgen.errors import UserError

KNOWN = {"train": 1000, "val": 20, "test": 7}
HAS = "train (1,000) and val (20) and test (7)"
HOW = "to be sliced as in train[:10%], train[1000:2000] or train+test"


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", [("train", 0, 1000)]),
        ("train[:10%]", [("train", 0, 100)]),
        ("train[10%:]", [("train", 100, 1000)]),
        ("train[-5:]", [("train", 995, 1000)]),
        ("train[:-5]", [("train", 0, 995)]),
        ("train[-20%:-10%]", [("train", 800, 900)]),
        ("train[30:70]", [("train", 30, 70)]),
        ("test[:33%]", [("test", 0, 2)]),  # 2.31, rounded to nearest
        ("test[:36%]", [("test", 0, 3)]),  # 2.52
        ("train+test", [("train", 0, 1000), ("test", 0, 7)]),
        ("test[4:]+train[:3]+val", [("test", 4, 7), ("train", 0, 3), ("val", 0, 20)]),
        ("all", [("train", 0, 1000), ("val", 0, 20), ("test", 0, 7)]),
    ],
)
def test_the_parts_of_a_split(split, expected):
    assert ranges("digits", {"train": split}, KNOWN) == {"train": expected}


@pytest.mark.parametrize(("count", "least"), [(7, 8), (100, 1), (999, 1)])
def test_complementary_shares_never_overlap_and_leave_nothing(count, least):
    for percent in range(least, 101 - least):
        wanted = {"train": f"train[:{percent}%]", "test": f"train[{percent}%:]"}
        found = ranges("digits", wanted, {"train": count})
        ((_, first, cut),), ((_, same, end),) = found.values()
        assert (first, same, end) == (0, cut, count)
        assert abs(cut - count * percent / 100) <= 0.5


OVERLAPS = {
    ("train[:50]", "train[49:]"): 1,
    ("train", "train"): 1000,
    ("train[:2]+test", "val+test[5:]+train[1:4]"): 3,  # 5 and 6 of test, 1 of train
    ("train[:10]+train[15:20]", "train[7:18]"): 6,  # counted in each part
}


@pytest.mark.parametrize(("train", "test"), OVERLAPS)
def test_splits_that_share_examples(train, test):
    with pytest.raises(UserError) as caught:
        ranges("mine", {"train": train, "test": test}, KNOWN)
    assert str(caught.value) == (
        f"the splits of mine overlap: train is {train} and test is {test}, with {OVERLAPS[train, test]:,} examples "
        "in both; give train_split or test_split so that they have none"
    )


def test_neighbors_share_nothing():
    for train, validation in itertools.pairwise(["train[:10]", "train[10:20]", "train[20:]+test", "val", "train[:20]"]):
        ranges("mine", {"train": train, "validation": validation}, KNOWN)


@pytest.mark.parametrize("split", ["train[5:5]", "train[20:10]", "train[:0%]", "test[:1%]", "train+val[20:]"])
def test_an_empty_part(split):
    with pytest.raises(UserError) as caught:
        ranges("mine", {"test": split}, KNOWN)
    assert str(caught.value) == f"test_split {split} of mine has an empty part: it must have examples of {HAS}"


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("tran", "Unknown split 'tran'. Should be one of ['train', 'val', 'test']"),
        ("train[5]", "Absolute or percent only support slice syntax"),
        ("train[:2000]", "Requested slice [:2000] incompatible with 1000 examples"),
        ("train[-2000:]", "Requested slice [-2000:1000] incompatible with 1000 examples"),
        ("train[a:b]", "Unrecognized split format: 'train[a:b]'"),
        ("train[", "Unrecognized split format: 'train['"),
        ("train[::2]", "Unrecognized split format: 'train[::2]'"),
        ("", "Unrecognized split format: ''"),
        ("train[:2shard]", "examples are not counted in shards"),
    ],
)
def test_what_is_no_split(split, reason):
    with pytest.raises(UserError) as caught:
        ranges("mine", {"validation": split}, KNOWN)
    assert str(caught.value) == f"validation_split {split} of mine: {reason}; it has {HAS}, {HOW}"


def test_a_split_with_examples_twice():
    with pytest.raises(UserError, match=r"^train_split train\[:3\]\+train\[1:2\] of digits has examples twice$"):
        ranges("digits", {"train": "train[:3]+train[1:2]"}, KNOWN)
