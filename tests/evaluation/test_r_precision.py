"""R-precision from similarities that are given."""

from types import SimpleNamespace

import numpy as np

from jaxgen.evaluation import of_samples
from jaxgen.evaluation.of_samples import r_precision

TEXTS = ["a cat", "a dog", "a fox", "a hen"]


def sides(name, rows):
    """Sides whose similarities, of images in the order of their first pixels, are `rows` by the text."""
    dataset = SimpleNamespace(
        name=name,
        test={"caption": np.arange(len(TEXTS))},
        vocabulary=SimpleNamespace(decode=lambda ids: np.array(TEXTS)),
    )

    def similarities(images, texts):
        return np.array([[rows[image[0, 0, 0]][text] for text in texts] for image in images])

    return SimpleNamespace(dataset=dataset, seed=0, similarities=similarities)


def images(num):
    return np.tile(np.arange(num, dtype=np.uint8)[:, None, None, None], (1, 2, 2, 3))


def test_a_sample_counts_if_its_own_caption_is_the_most_similar():
    rows = [
        {"a cat": 0.9, "a dog": 0.8, "a fox": 0.7, "a hen": 0.1},  # the caption itself is no rival
        {"a cat": 0.2, "a dog": 0.1, "a fox": 0.1, "a hen": 0.3},
        {"a cat": 0.5, "a dog": 0.5, "a fox": 0.5, "a hen": 0.5},  # as similar as the others is not enough
        {"a cat": -0.9, "a dog": -0.2, "a fox": -0.8, "a hen": -0.7},
    ]
    fake = SimpleNamespace(values=images(4), captions=["a cat", "a dog", "a cat", "a dog"])
    assert r_precision(sides("mine", rows), fake) == {"r_precision": 0.5}


def test_as_many_rivals_as_the_protocol_has(monkeypatch):
    """One rival is drawn of three, one of which is more similar: a third of the samples fail, but for chance."""
    monkeypatch.setattr(of_samples, "CANDIDATES", 2)
    row = {"a cat": 0.5, "a dog": 0.1, "a fox": 0.1, "a hen": 0.9}
    fake = SimpleNamespace(values=np.zeros((900, 2, 2, 3), np.uint8), captions=["a cat"] * 900)
    found = r_precision(sides("mine", [row]), fake)["r_precision"]
    assert abs(found - 2 / 3) < 4 * (2 / 9 / 900) ** 0.5


def test_captions_that_are_true_of_a_scene_are_no_rivals(monkeypatch):
    """A more similar caption is true of the first image, but not of the second."""
    monkeypatch.setattr(of_samples.captions, "parse", lambda text: text)
    monkeypatch.setattr(of_samples.captions, "see_tolerantly", lambda image: image[0, 0, 0])
    monkeypatch.setattr(of_samples.captions, "is_true", lambda claim, seen: seen == 0 and claim == "a hen")
    row = {"a cat": 0.5, "a dog": 0.1, "a fox": 0.1, "a hen": 0.9}
    fake = SimpleNamespace(values=images(2), captions=["a cat"] * 2)
    assert r_precision(sides("shapes", [row] * 2), fake) == {"r_precision": 0.5}
