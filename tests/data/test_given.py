"""Arrays given from Python as a dataset: content, names, a run's data, and what is refused."""

from typing import NamedTuple

import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.options import Options
from jaxgen.errors import UserError
from jaxgen.evaluation import Scoring, evaluate
from jaxgen.training import Settings, open_run, train

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.integers(0, 256, (30, 8, 8, 1), np.uint8), RNG.integers(0, 256, (10, 8, 8, 1), np.uint8)
LABELS = np.arange(30) % 3


class Part(NamedTuple):
    """A split."""

    images: np.ndarray
    labels: np.ndarray
    captions: list[str]


class Parts(NamedTuple):
    """Two splits."""

    train: Part
    test: Part


WORDS = ["zero", "one", "two"]
PARTS = Parts(
    Part(TRAIN, LABELS, [f"a {WORDS[label]}" for label in LABELS]),
    Part(np.float32(TEST) / 255, LABELS[:10], [f"a {WORDS[label]}" for label in LABELS[:10]]),
)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache folder of the test's own, and a process that was given no arrays yet."""
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(data.given, "_GIVEN", {})
    monkeypatch.setattr(data.given, "_LOADED", [])


def nested(parts):
    return {split: part._asdict() for split, part in parts._asdict().items()}


def flat(parts):
    return {f"{split}/{name}": array for split, part in nested(parts).items() for name, array in part.items()}


@pytest.mark.parametrize("form", [lambda parts: parts, nested, flat])
def test_content_in_every_form(form):
    found = data.load(form(PARTS), progress=False)
    np.testing.assert_array_equal(found.test["image"], TEST)
    np.testing.assert_array_equal(found.test["label"], LABELS[:10])
    captions = found.vocabulary.decode(found.test["caption"])
    assert captions == [f"a {WORDS[label]}" for label in LABELS[:10]]
    rest = np.concatenate([found.train["image"], found.validation["image"]])
    assert sorted(image.tobytes() for image in rest) == sorted(image.tobytes() for image in TRAIN)
    assert found.note.startswith("images given as arrays, a tenth of train for validation by a hash of their positions")
    assert found.classes == ("0", "1", "2")


def test_equal_content_has_one_name_and_other_content_another():
    whole = Options(PARTS).dataset
    assert Options(nested(PARTS)).dataset == whole
    assert Settings(dataset=PARTS).shown == whole
    others = [
        PARTS._replace(train=PARTS.train._replace(images=TRAIN[::-1])),
        PARTS._replace(train=PARTS.train._replace(images=TRAIN[..., 0])),
        PARTS._replace(train=PARTS.train._replace(labels=LABELS.astype(np.uint8))),
        PARTS._replace(train=PARTS.train._replace(captions=["a one"] * 30)),
    ]
    assert len({whole, *(Options(other).dataset for other in others)}) == 5


def test_a_run_keeps_what_it_needs(tmp_path, monkeypatch, capfd):
    """A run is scored and resumed as with any dataset; once the cache is gone, it draws, and says what it lacks."""
    arrays = {"images": TRAIN, "labels": LABELS}
    how = Settings(dataset=arrays, seeds=(0,), steps=2, batch_size=3, log_every=2)
    run = train("naive_bayes", None, how, out=tmp_path / "run")
    assert "images given as arrays" in " ".join(capfd.readouterr().err.split())
    assert run.plan.described()["settings"]["dataset"] == how.dataset

    monkeypatch.setattr(data.given, "_GIVEN", {})  # as in another process
    rows = evaluate(run.path, Scoring(metrics=("modes",), samples=20), progress=False)["rows"]
    assert len(rows) == 3
    assert len(open_run(run.path).plan.dataset.train["image"]) == run.plan.dataset.spec.num_examples

    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "empty"))
    opened = open_run(run.path)
    assert opened.digests() == run.digests()
    with pytest.raises(UserError, match=r"array/\w{16} is of arrays given in Python, and is not in the cache f"):
        opened.plan.dataset.train["image"]
    with pytest.raises(UserError, match=r"give them again, by Settings\(dataset=arrays\)$"):
        train("naive_bayes", None, Settings(**vars(how)), out=run.path, resume=True, progress=False)
    again = Settings(**{**vars(how), "dataset": arrays})
    assert train("naive_bayes", None, again, out=run.path, resume=True, progress=False).digests() == run.digests()
    other = Settings(**{**vars(how), "dataset": arrays | {"labels": LABELS[::-1]}})
    with pytest.raises(UserError, match=r"belongs to another run; what differs: dataset: 'array/"):
        train("naive_bayes", None, other, out=run.path, resume=True, progress=False)


def test_arrays_are_kept_until_others_are_loaded():
    """The two loaded last can be loaded with other options; those that were never loaded are kept."""
    names = [Options({"images": TRAIN ^ number}).dataset for number in range(5)]
    for name in names[:3]:
        data.load(name, progress=False)
    assert data.load(names[1], image_size=4, progress=False).train["image"].shape[1:] == (4, 4, 1)
    data.load(names[3], progress=False)
    assert [f"array/{digest}" for digest in data.given._GIVEN] == [names[1], *names[3:]]
    with pytest.raises(UserError, match="give them again"):
        data.load(names[2], image_size=4, progress=False)
    whole = data.load(names[2], progress=False)  # from the cache
    rows = np.concatenate([split["image"] for split in (whole.train, whole.validation, whole.test)])
    assert sorted(image.tobytes() for image in rows) == sorted(image.tobytes() for image in TRAIN ^ 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (7, r"^a dataset is a name, a FILE\.py, or a dict or NamedTuple of NumPy arrays, not int$"),
        (TRAIN, "or a dict or NamedTuple of NumPy arrays, not ndarray$"),
        ({}, "^dataset array has no images; it holds nothing: save"),
        ({"labels": LABELS}, "^dataset array has labels without images$"),
        ({"images": TRAIN, "labels": LABELS[:9]}, r"^label in dataset array is \[9\] for 30 images$"),
        ({"images": [TRAIN[0], TRAIN[1, 1:]]}, "^images of the dataset cannot be made an array: "),
        ({"images": TRAIN.astype(object)}, "^dataset array holds object, no numbers$"),
        ({"images": TRAIN, "captions": [None] * 30}, "^captions in dataset array are object, not text$"),
        ({"train": {"images": TRAIN}, "test": {"images": TEST[:, 1:]}}, "^images of test in dataset array are 7x8x1"),
        ({"test": {"images": TRAIN}}, "^dataset array has no training images, only test"),
        ({"images": np.float32(TRAIN) * 2}, "^dataset array holds float32 from 0 to 510"),
    ],
)
def test_what_is_refused(arrays, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(arrays, progress=False)
    assert "\n" not in str(caught.value)


def test_arrays_that_were_changed_since():
    images = TRAIN.copy()
    asked = Options({"images": images})
    images[0] ^= 1
    with pytest.raises(UserError, match="were changed since they were given: give them again"):
        data.load(asked.dataset, progress=False)
    with pytest.raises(UserError, match="come from no file: leave data_from out"):
        data.load({"images": TRAIN}, data_from="images.npz", progress=False)
