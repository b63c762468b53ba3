"""Scores against values worked out apart from them."""

import jax
import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB

from jaxgen import data
from jaxgen.data import pipeline
from jaxgen.evaluation.extractor import Extractor, batched, extractor
from jaxgen.evaluation.frechet import frechet_distance
from jaxgen.evaluation.scores import image_scores, model_scores, notes
from jaxgen.model import Likelihood, Model, State
from jaxgen.models import classifier, dcgan, naive_bayes, vae


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def brightness(images):
    """A judge by brightness: sure of class 0 on dark images, of class 1 on bright ones, of none between."""
    mean = images.reshape(len(images), -1).mean(1) / 255
    return np.stack([1 - mean, mean], axis=1)


def pixels(images):
    """Two features: the means of the upper and the lower half."""
    halves = images.reshape(len(images), 2, -1).astype(np.float32)
    return halves.mean(2)


JUDGE = Extractor("brightness", "", 1.0, "", pixels, brightness, pixels(np.full((5, 8, 8, 1), 9, np.uint8)))


def test_image_scores_by_hand():
    images = np.zeros((10, 8, 8, 1), np.uint8)
    images[:3] = 255  # 3 sure of class 1
    images[3:5] = 128  # 2 unsure
    scores = image_scores(images, JUDGE, JUDGE)
    assert scores["recognised"] == pytest.approx(0.8)
    assert scores["classes"] == 2
    assert scores["fd"] == pytest.approx(frechet_distance(JUDGE.test_features, pixels(images)))


def test_one_class_recognised():
    scores = image_scores(np.zeros((10, 8, 8, 1), np.uint8), JUDGE, JUDGE)
    assert (scores["recognised"], scores["classes"]) == (1.0, 1.0)


def test_batched_counts_every_example_once(digits):
    """899 test images are no multiple of the batch: nothing of the padding may come through."""
    images = digits.test["image"]
    rows = batched(jax.jit(lambda batch: batch["image"].sum((1, 2, 3), dtype=np.int32)), {"image": images})
    np.testing.assert_array_equal(rows, images.sum((1, 2, 3)))


def seeded(states):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def test_log_likelihood_and_accuracy_equal_scikit_learn(digits):
    """Two seeds' states that differ: one counted all training images, the other half of them."""
    model = naive_bayes.make(naive_bayes.Config(), digits.spec)
    count = jax.jit(model.phases[0].step)

    def counted(num):
        state = model.init(jax.random.key(0), {})
        for batch in pipeline.batches({name: entry[:num] for name, entry in digits.train.items()}, 128):
            state, _ = count(jax.random.key(0), state, batch)
        return state

    scores = model_scores(model, jax.random.split(jax.random.key(0), 2), seeded([counted(808), counted(404)]), digits)
    for i, num in enumerate((808, 404)):
        train = (digits.train["image"][:num].reshape(num, -1) >= 128).astype(float)
        test = (digits.test["image"].reshape(899, -1) >= 128).astype(float)
        reference = BernoulliNB().fit(train, digits.train["label"][:num])
        joint = reference.predict_joint_log_proba(test)
        assert scores["log_prob_binary"][i] == pytest.approx(np.logaddexp.reduce(joint, axis=1).mean(), rel=1e-5)
        assert scores["accuracy"][i] == pytest.approx(reference.score(test, digits.test["label"]), abs=1e-9)


def test_each_batch_has_its_key(digits):
    """A log_prob that is its key's noise: 899 draws of every seed, all different."""
    noise = Model(
        init=None, phases=(), needs=("image",), likelihood=Likelihood("continuous", "bound"),
        log_prob=lambda key, state, batch: jax.random.normal(key, (len(batch["image"]),)),
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(3), 2)
    scores = model_scores(noise, keys, State(np.zeros(2, np.int32), {}), digits)["log_prob_continuous"]
    for key, score in zip(keys, scores, strict=True):
        draws = np.concatenate([jax.random.normal(jax.random.fold_in(key, i), (256,)) for i in range(4)])[:899]
        assert score == pytest.approx(draws.mean(), abs=1e-6)


def test_extractor_measures_its_accuracy_on_the_test_images(digits):
    model = classifier.make(classifier.Config(features=4, embedding_dim=8), digits.spec)
    state = jax.jit(model.init)(jax.random.key(0), {"image": digits.train["image"][:2]})
    made = extractor("name", model, state, "digest", "note", digits.test)
    logits = jax.jit(model.classify)(state, {"image": digits.test["image"]})
    expected = (np.asarray(logits).argmax(-1) == digits.test["label"]).mean()
    assert made.accuracy == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(made.probabilities(digits.test["image"]), jax.nn.softmax(logits), atol=1e-6)
    embedding = jax.jit(model.encode)(jax.random.key(0), state, {"image": digits.test["image"]})
    np.testing.assert_allclose(made.features(digits.test["image"]), embedding, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.test_features, made.features(digits.test["image"]))


def test_notes_say_why_there_is_no_number(digits):
    spec = digits.spec
    assert notes(dcgan.make(dcgan.Config(), spec))["log_prob_binary"] == "it has no likelihood"
    assert notes(vae.make(vae.Config(), spec))["log_prob_continuous"] == "its likelihood is of binary images"
    assert notes(vae.make(vae.Config(), spec))["log_prob_binary"].startswith("bound; ELBO")
    assert notes(classifier.make(classifier.Config(), spec))["fd"] == "it makes no images"
    assert "accuracy" not in notes(naive_bayes.make(naive_bayes.Config(), spec))
