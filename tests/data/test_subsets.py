"""Subsets of the training examples that keep their labels or captions."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.data import subsets
from jaxgen.errors import UserError

LABELS = np.repeat([4, 0, 7], [50, 30, 20])


def counts(rows, labels=LABELS):
    return [(labels[rows] == label).sum() for label in (0, 4, 7)]


@pytest.mark.parametrize(("num", "expected"), [(3, [1, 1, 1]), (30, [10, 10, 10]), (60, [20, 20, 20])])
def test_labels_are_kept_of_all_classes_alike(num, expected):
    rows = subsets.kept("label", num, 100, 0, LABELS)
    assert counts(rows) == expected
    assert (np.diff(rows) > 0).all()


def test_a_class_with_too_few_leaves_its_places_to_the_others():
    """90 labels of classes of 30, 50 and 20: the last two have room for 40 and 20, the first for 30."""
    assert counts(subsets.kept("label", 90, 100, 0, LABELS)) == [30, 40, 20]
    assert len(subsets.kept("label", 100, 100, 0, LABELS)) == 100
    assert max(counts(subsets.kept("label", 31, 100, 0, LABELS))) == 11


def test_a_larger_subset_holds_a_smaller_one_and_others_are_independent():
    few, many, other = (set(subsets.kept("label", *of, LABELS)) for of in ((20, 100, 0), (50, 100, 0), (20, 100, 1)))
    assert few < many
    assert len(few & other) < 10  # four expected
    captions = set(subsets.kept("caption", 20, 100))
    assert captions < set(subsets.kept("caption", 21, 100))
    assert len(captions & few) < 10


def test_the_choice_is_a_hash_of_the_position():
    """Added examples change nothing among the first ones; the rows are those of the smallest Philox words."""
    number = np.random.Philox(np.random.SeedSequence([1, 3])).random_raw(100)
    rows = subsets.kept("caption", 10, 100, 3)
    np.testing.assert_array_equal(rows, np.sort(np.argsort(number)[:10]))
    more = subsets.kept("caption", 20, 200, 3)
    first = more[more < 100]
    np.testing.assert_array_equal(subsets.kept("caption", len(first), 100, 3), first)


def test_numbers_that_cannot_be():
    with pytest.raises(UserError, match=r"^labels must be at most 100, the training examples, not 101$"):
        subsets.kept("label", 101, 100, 0, LABELS)
    with pytest.raises(UserError, match=r"^labels must be at least 3, one for each class, not 2$"):
        subsets.kept("label", 2, 100, 0, LABELS)


@pytest.mark.parametrize("pipeline", ["memory", "grain"])
def test_a_dataset_hides_the_other_labels_of_its_training_split(pipeline):
    whole, found = data.load("digits"), data.load("digits", labels=50, subset=2, pipeline=pipeline)
    rows = subsets.kept("label", 50, 808, 2, whole.train["label"])
    expected = np.full(808, -1)
    expected[rows] = whole.train["label"][rows]
    np.testing.assert_array_equal(found.train["label"], expected)
    assert found.train["label"].dtype == np.int32
    np.testing.assert_array_equal(np.bincount(found.train["label"][rows]), np.full(10, 5))
    np.testing.assert_array_equal(found.kept, rows)
    np.testing.assert_array_equal(found.train[subsets.ALL_LABELS], whole.train["label"])
    for split in ("validation", "test"):
        np.testing.assert_array_equal(getattr(found, split)["label"], getattr(whole, split)["label"])
    assert found.spec.entries == whole.spec.entries
    assert (found.fingerprint, found.options["labels"], found.options["subset"]) == (whole.fingerprint, 50, 2)
    digest = hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:12]
    assert found.note == whole.note.removesuffix(".") + (
        f"; labels of 50 of the 808 training examples kept (subset 2, positions' sha256 {digest}...)."
    )
    assert whole.kept is None


def test_a_folder_with_few_captions(tmp_path):
    """The words are those of the kept captions; the other images have none, with one caption or with two."""
    lines = []
    for split, num in (("train", 12), ("test", 1), ("validation", 1)):
        (tmp_path / split).mkdir()
        for n in range(num):
            Image.new("L", (2, 2), 10 * n).save(tmp_path / split / f"{n:02}.png")
            captions = [f"one {n}", f"two {n}"] if n % 2 else f"all {n}"
            lines.append(json.dumps({"file": f"{split}/{n:02}.png", "caption": captions}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    found = data.load("image_folder", data_from=str(tmp_path), captions=4, progress=False)
    rows = subsets.kept("caption", 4, 12)
    assert 0 < sum(n % 2 for n in rows) < 4
    expected = [""] * 12
    for n in rows:
        expected[n] = f"one {n}" if n % 2 else f"all {n}"
    assert found.vocabulary.decode(found.train["caption"]) == expected
    assert set(found.vocabulary.words) == {"all", "one", "two", *map(str, rows)}
    every = [text for n, first in enumerate(expected) for text in [first, *[f"two {n}"] * bool(first and n % 2)]]
    assert found.vocabulary.decode(found.captions.tokens) == every
    assert found.captions.ends.tolist() == np.cumsum([2 if n in rows and n % 2 else 1 for n in range(12)]).tolist()
    assert found.test["caption"].any()
