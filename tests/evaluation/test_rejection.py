"""Rejection: of several draws of a class, the one that a classifier is surest of, by hand and through a run."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.evaluation import Scoring, evaluate, evaluate_images
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.rejection import rejecting_sampler, rejection_note
from jaxgen.model import Model, Sampler
from jaxgen.pictures import sample
from jaxgen.training import Settings, engine, train

NUM, TIMES = 6, 5
LABELS = np.array([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]], np.int32)


def draw(key, state, num, condition):
    """Images of one random gray level and, so that conditions can be followed, the label in a second entry."""
    level = jax.random.randint(key, (num, 1, 1, 1), 0, 256).astype(jnp.uint8)
    return {"image": jnp.broadcast_to(level + state, (num, 2, 2, 1)).astype(jnp.uint8)}


def logits(images):
    """A judge of three classes: the darker an image, the more it is of class 0; class 2 is bright; 1 is in between."""
    level = images[:, 0, 0, 0].astype(np.float32)
    return np.stack([-level, -np.abs(level - 128), level - 255], axis=-1) / 10


MODEL = Model(None, (), ("image",), Sampler(draw, ("label",)))
JUDGE = Extractor("judge", "", None, logits)


def test_the_best_draw_of_each_sample_is_kept():
    keys, state = jax.random.split(jax.random.key(3), 2), jnp.zeros(2, jnp.uint8)
    kept = rejecting_sampler(MODEL, JUDGE, TIMES)(keys, state, NUM, {"label": LABELS})
    np.testing.assert_array_equal(kept["label"], LABELS)
    assert kept["image"].shape == (2, NUM, 2, 2, 1)
    every = engine.sampler(MODEL)(keys, state, NUM * TIMES, {"label": LABELS.repeat(TIMES, axis=1)})["image"]
    for seed in range(2):
        for n in range(NUM):
            group = every[seed, TIMES * n : TIMES * (n + 1)]
            odds = np.exp(logits(group))
            share = odds[:, LABELS[seed, n]] / odds.sum(1)
            np.testing.assert_array_equal(kept["image"][seed, n], group[np.argmax(share)])


def test_one_draw_is_the_sampler_itself():
    keys, state = jax.random.split(jax.random.key(4), 2), jnp.zeros(2, jnp.uint8)
    alone = rejecting_sampler(MODEL, None, 1)(keys, state, NUM, {"label": LABELS})
    plain = engine.sampler(MODEL)(keys, state, NUM, {"label": LABELS})
    np.testing.assert_array_equal(alone["image"], plain["image"])
    assert rejection_note(1) == ""


@pytest.mark.parametrize(
    ("conditions", "judge", "message"),
    [((), JUDGE, "given labels"), (("label",), None, "a judge"), (("label",), JUDGE._replace(logits=None), "a judge")],
)
def test_what_it_needs(conditions, judge, message):
    model = SimpleNamespace(conditions=conditions, sampler=Sampler(draw, conditions))
    with pytest.raises(UserError, match=message):
        rejecting_sampler(model, judge, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Naive Bayes of digits, given labels."""
    out = tmp_path_factory.mktemp("run") / "nb"
    train("naive_bayes", {}, Settings(dataset="digits", seeds=(0, 1), steps=13), out=out, progress=False)
    return out


def test_samples_of_a_run_are_recognized_more_often(run):
    scored = {
        times: evaluate(run, Scoring(metrics=("recognized",), samples=100, rejection=times), progress=False)
        for times in (1, 8)
    }
    trained = {times: next(row for row in each["rows"] if row["kind"] == "trained") for times, each in scored.items()}
    before, after = (np.mean(trained[times]["values"]["recognized"]) for times in (1, 8))
    assert before < 0.5 < 0.8 < after
    assert "the best of 8 by the judge" in trained[8]["sampling"]
    assert "judge" not in trained[1]["sampling"]
    assert scored[8]["scoring"]["rejection"] == 8


def test_pictures_of_the_best(run, tmp_path):
    files = [sample(run, num=20, out=tmp_path / f"{times}.npz", rejection=times) for times in (1, 4)]
    plain, best = (dict(np.load(file)) for file in files)
    for name in ("label", "seed"):
        np.testing.assert_array_equal(plain[name], best[name])
    assert (plain["image"] != best["image"]).any((1, 2, 3)).mean() > 0.5


def test_bad_input(run, tmp_path):
    with pytest.raises(UserError, match="rejection must be at least 1, not 0"):
        evaluate(run, Scoring(rejection=0), progress=False)
    with pytest.raises(UserError, match="--rejection must be at least 1, not 0"):
        sample(run, rejection=0)
    np.savez(tmp_path / "images.npz", image=np.zeros((40, 8, 8, 1), np.uint8))
    with pytest.raises(UserError, match="rejection applies to models given labels, not to these examples"):
        evaluate_images(tmp_path / "images.npz", "digits", Scoring(rejection=2), progress=False)
