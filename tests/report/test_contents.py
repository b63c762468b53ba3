"""Real images on a comparison's page."""

import numpy as np
import pytest

from jaxgen import data
from jaxgen.report.contents import pictures


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
