"""Real images on a comparison's page."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.report.contents import _words, pictures


@pytest.mark.parametrize("labeled", [True, False])
def test_real_images_are_of_all_classes_where_the_data_are_sorted_by_class(labeled):
    digits = data.load("digits")
    order = np.argsort(digits.train["label"], kind="stable")
    train = {"image": digits.train["image"][order], "label": digits.train["label"][order]}
    label = train["label"]
    if not labeled:
        del train["label"]
    real = pictures({}, digits._replace(train=train))["real"]
    assert real.shape == (64, 8, 8, 1)
    found = [int(np.flatnonzero((train["image"] == image).all((1, 2, 3)))[0]) for image in real]
    assert found == sorted(found)
    counts = np.bincount(label[found], minlength=10)
    assert set(counts) == {6, 7}


def test_rows_of_grids_are_labeled_by_what_they_are_given():
    vocabulary = Vocabulary(("a", "cat", "dog"))
    dataset = SimpleNamespace(classes=("cat", "dog"), vocabulary=vocabulary)
    caption = vocabulary.encode(["a cat", "a cat", "a dog", "a dog"], 3)
    assert _words(dataset, {"caption": caption}, 2) == ["a cat", "a dog"]
    assert _words(dataset, {"label": np.array([0, 0, 1, 1])}, 2) == ["cat", "dog"]
    assert _words(dataset, {}, 2) is None
