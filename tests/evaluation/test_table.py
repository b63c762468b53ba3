"""Scores against values computed independently."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from sklearn.naive_bayes import BernoulliNB

from jaxgen import data
from jaxgen.cli.tables import metrics_table
from jaxgen.data import pipeline
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.evaluation import of_models, of_samples
from jaxgen.evaluation.extractor import Extractor, batched, fitted, of_classifier
from jaxgen.evaluation.of_samples import Examples, Sides
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import (
    COLUMNS,
    FAMILIES,
    MODELS,
    SAMPLES,
    SPACES,
    Context,
    averaged,
    columns,
    likelihood_notes,
)
from jaxgen.metrics import clipped_scores, frechet_distance, gaussian_mmd, vendi_score
from jaxgen.metrics.codes import code_error
from jaxgen.model import Latents, Likelihood, Model, Prior, Sampler, State
from jaxgen.models import classifier, dcgan, infogan, naive_bayes, vae


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def brightness(images):
    """A judge's logits by brightness: class 0 on dark images, class 1 on bright ones, and undecided between."""
    mean = images.reshape(len(images), -1).mean(1) / 255
    return 20 * np.stack([0.5 - mean, mean - 0.5], axis=1)


def pixels(images):
    """Two features, the means of the upper and the lower half."""
    halves = images.reshape(len(images), 2, -1).astype(np.float32)
    return halves.mean(2)


JUDGE = Extractor("brightness", "", pixels, brightness)


def examples(images, labels=None):
    return Examples(images, labels, JUDGE, JUDGE)


@pytest.fixture(scope="module")
def sides(digits):
    splits = [examples(each["image"], each["label"]) for each in (digits.train, digits.validation, digits.test)]
    return Sides(digits, *splits, learned=None, seed=0)


def test_recognized_by_hand(sides):
    images = np.zeros((10, 8, 8, 1), np.uint8)
    images[:3] = 255  # 3 confidently class 1
    images[3:5] = 128  # 2 undecided
    assert of_samples.recognized(sides, examples(images)) == {"recognized": pytest.approx(0.8), "classes": 2.0}
    assert of_samples.recognized(sides, examples(np.zeros_like(images))) == {"recognized": 1.0, "classes": 1.0}
    found = of_samples.modes(sides, examples(images[:4]))  # 3 of class 1; the undecided one is brighter than dark
    assert found == {"modes": 1.0, "modes_kl": pytest.approx(np.log(2)), "collapsed": 0.0}  # one of two is half


def test_distances_are_from_the_test_images(sides, digits):
    fake = digits.train["image"][:300]
    assert FAMILIES["fd"].score(sides, examples(fake))["fd"] == frechet_distance(
        pixels(digits.test["image"]), pixels(fake)
    )
    same = FAMILIES["fd"].score(sides, examples(digits.test["image"]))["fd"]
    assert abs(same) < 1e-6
    found = FAMILIES["neighbors"].score(sides, examples(digits.test["image"]))
    assert found == {"precision": 1.0, "recall": 1.0, "density": pytest.approx(1.0, abs=0.5), "coverage": 1.0}


def test_calibrated_and_kernel_scores_take_the_test_images_first_and_vendi_the_samples(sides, digits):
    fake = digits.train["image"][:300]
    real, features = pixels(digits.test["image"]), pixels(fake)
    found = {}
    for name in ("mmd", "clipped", "vendi"):
        found |= FAMILIES[name].score(sides, examples(fake))
    density, coverage = clipped_scores(real, features, 5)
    assert found == {
        "mmd": gaussian_mmd(real, features),
        "clipped_density": density,
        "clipped_coverage": coverage,
        "vendi": vendi_score(features),
    }
    assert clipped_scores(features, real, 5) != (density, coverage)
    assert not any(FAMILIES[name].usual for name in ("mmd", "clipped", "vendi"))


def test_the_width_of_parzen_windows_is_chosen_on_the_validation_examples(sides):
    """One sample: the best width's square is the mean square of the coordinates, .1^2 there, and .5 of the test one."""
    points = {"validation": [[0.1, 0.1]], "test": [[1.0, 0.0]], "fake": [[0.0, 0.0]]}
    some = {name: Examples(np.array(values, np.float32), None) for name, values in points.items()}
    given = sides._replace(validation=some["validation"], test=some["test"])
    expected = -np.log(2 * np.pi * 0.1**2) - 1 / (2 * 0.1**2)
    assert of_samples.parzen(given, some["fake"])["parzen"] == pytest.approx(expected, rel=1e-6)


def test_the_inception_score_of_samples_sorted_by_class_is_that_of_shuffled_ones(sides):
    """A part of 100 of 10 equally frequent classes has an entropy of log 10 - 9 / 200 (Miller 1955)."""
    certain = Extractor("certain", "", None, lambda images: 100 * np.eye(10)[images[:, 0, 0, 0]])
    images = np.repeat(np.arange(10, dtype=np.uint8), 100).reshape(-1, 1, 1, 1)
    found = of_samples.inception(sides, Examples(images, None, certain))["inception_score"]
    assert found == pytest.approx(10 * np.exp(-9 / 200), abs=0.15)


@pytest.mark.parametrize("name", ["kid", "fd_infinity", "two_sample", "inception_score"])
def test_the_seed_of_scoring_decides_a_metrics_draws(name, sides, digits):
    fake = Examples(digits.train["image"][:300], None, Extractor("own", "", pixels, brightness))
    first, again, other = (FAMILIES[name].score(sides._replace(seed=seed), fake) for seed in (0, 0, 1))
    assert first == again != other


def test_copies_of_training_images_are_told(sides, digits):
    copies = FAMILIES["memorization"].score(sides, examples(digits.train["image"][:200]))["memorization"]
    assert copies > 0.99
    halves = sides._replace(test=examples(digits.test["image"][::2]))  # same distribution as the other half
    new = FAMILIES["memorization"].score(halves, examples(digits.test["image"][1::2]))["memorization"]
    assert abs(new - 0.5) < 0.06  # three standard deviations of .02


def test_nearest_neighbor_and_learned_are_of_the_samples(sides, digits):
    """Samples are the test images with labels shifted by one, so every neighbor has the wrong label."""
    shifted = (digits.test["label"] + 1) % 10
    right = FAMILIES["nearest_neighbor"].score(sides, examples(digits.test["image"], digits.test["label"]))
    wrong = FAMILIES["nearest_neighbor"].score(sides, examples(digits.test["image"], shifted))
    assert right == {"nearest_neighbor": 0.0}
    assert wrong["nearest_neighbor"] == 1.0
    oracle = sides._replace(learned=lambda fake, images: np.full(len(images), fake.labels[0]))
    found = of_samples.classification_accuracy(oracle, examples(digits.test["image"], np.full(899, 3)))
    assert found["classification_accuracy"] == pytest.approx((digits.test["label"] == 3).mean())


def test_agreement_is_of_the_judges_names_and_the_asked_labels(sides, digits):
    """The judge names 4 dark images 0 and 6 bright ones 1, one unlike requested; then one image a class is repeated."""
    images = np.zeros((10, 8, 8, 1), np.uint8)
    images[4:] = 255
    label = np.repeat([0, 1], [4, 6])
    label[0] = 1
    assert of_samples.agreement(sides, examples(images, label))["agreement"] == pytest.approx(0.9)
    real = of_samples.agreement(sides, examples(digits.train["image"], digits.train["label"]))["class_recall"]
    first = digits.train["image"][[np.flatnonzero(digits.train["label"] == each)[0] for each in range(10)]]
    alike = of_samples.agreement(sides, examples(first.repeat(80, axis=0), np.repeat(range(10), 80)))["class_recall"]
    assert alike == 0 < 0.5 < real


def test_points_are_their_own_features():
    ring = data.load("gaussians/ring")
    identity = Extractor("points", "", np.asarray)
    splits = [Examples(each["point"], None, identity, None) for each in (ring.train, ring.validation, ring.test)]
    sides = Sides(ring, *splits, learned=None, seed=0)
    found = of_samples.modes(sides, Examples(ring.test["point"][:2500], None, identity, None))
    assert found["modes"] == 8
    assert found["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    half = ring.test["point"][ring.test["label"] < 4]
    fewer = ring.test["point"][ring.test["label"] < 3]
    for points, modes, collapsed in ((half, 4, 0), (fewer, 3, 1)):
        found = of_samples.modes(sides, Examples(points, None, identity, None))
        assert (found["modes"], found["collapsed"]) == (modes, collapsed)


def test_batched_counts_every_example_once(digits):
    """899 test images are not a multiple of the batch size; padding must not count."""
    images = digits.test["image"]
    rows = batched(jax.jit(lambda batch: batch["image"].sum((1, 2, 3), dtype=np.int32)), {"image": images})
    np.testing.assert_array_equal(rows, images.sum((1, 2, 3)))


def test_a_fitted_extractor_resizes_and_takes_channels_in_turn():
    seen = []

    def features(images):
        seen.append(images.shape)
        return images.reshape(len(images), -1).mean(1, keepdims=True)

    def logits(images):
        mean = features(images)
        return np.concatenate([mean, 2 * mean], axis=1)

    made = fitted(Extractor("mean", "", features, logits), (16, 16, 1))
    images = np.zeros((2, 8, 8, 3), np.uint8) + np.array([1, 2, 3], np.uint8)
    np.testing.assert_allclose(made.features(images), [[1, 2, 3]] * 2)
    assert set(seen) == {(2, 16, 16, 1)}
    expected = [a + b + c for a in (1, 2) for b in (2, 4) for c in (3, 6)]  # the last channel's index varies fastest
    np.testing.assert_allclose(made.logits(images), [expected] * 2)
    gray = np.full((1, 16, 16, 1), 7, np.uint8)
    np.testing.assert_allclose(made.features(gray), [[7]])


def seeded(states):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def test_log_likelihood_and_accuracy_equal_scikit_learn(digits):
    """The states of two seeds differ: one has counted all training images, the other half of them."""
    model = naive_bayes.make(naive_bayes.Config("bernoulli"), digits.spec)
    count = jax.jit(model.phases[0].step)

    def counted(num):
        state = model.init(jax.random.key(0))
        for batch in pipeline.batches({name: entry[:num] for name, entry in digits.train.items()}, 128):
            state, _ = count(jax.random.key(0), state, batch)
        return state

    given = model, jax.random.split(jax.random.key(0), 2), seeded([counted(808), counted(404)]), digits, Scoring()
    scores = of_models.log_prob(*given) | of_models.accuracy(*given)
    for i, num in enumerate((808, 404)):
        train = (digits.train["image"][:num].reshape(num, -1) >= 128).astype(float)
        test = (digits.test["image"].reshape(899, -1) >= 128).astype(float)
        reference = BernoulliNB().fit(train, digits.train["label"][:num])
        joint = reference.predict_joint_log_proba(test)
        assert scores["log_prob_binary"][i] == pytest.approx(np.logaddexp.reduce(joint, axis=1).mean(), rel=1e-5)
        assert scores["accuracy"][i] == pytest.approx(reference.score(test, digits.test["label"]), abs=1e-9)


def test_accuracy_leaves_out_what_has_no_label(digits):
    """One seed predicts all classes, the other only those of even digits; every third of 300 images has no label."""
    label = np.where(np.arange(300) % 3 == 0, -1, digits.test["label"][:300]).astype(np.int32)
    given = np.where(label < 0, 0, digits.test["label"][:300]).astype(np.int32)

    def classify(state, batch):  # the image encodes its class
        named = batch["image"][:, 0, 0, 0].astype(jnp.int32)
        return jax.nn.one_hot(jnp.where(named % 2 <= state.params, named, 9 - named), 10)

    image = np.broadcast_to(given[:, None, None, None], (300, 8, 8, 1)).astype(np.uint8)
    some = digits._replace(test={"image": image, "label": label})
    model = Model(init=None, phases=(), needs=("image", "label"), predict={"label": classify})
    state = State(np.zeros(2, np.int32), np.array([1, 0], np.int32))
    found = of_models.accuracy(model, jax.random.split(jax.random.key(3), 2), state, some, Scoring())
    assert found == {"accuracy": [1.0, pytest.approx((label[label >= 0] % 2 == 0).mean())]}


def test_code_error_by_hand():
    """Category 0 maps to class 1, 1 to 0 (tied with 2), 2 to 1 too; no training image has category 3 or 4."""
    train = [0, 0, 0, 1, 1, 2], [1, 1, 2, 2, 0, 1]
    codes, labels = [0, 0, 1, 1, 2, 3, 4], [1, 2, 0, 2, 1, 0, 1]
    assert code_error(*train, codes, labels) == pytest.approx(4 / 7)
    assert code_error(*train, [0, 1, 2], [1, 0, 1]) == 0
    assert code_error([2, 0], [0, 1], [0, 2], [1, 3]) == 0.5  # a class without training images


def test_code_error_of_a_model_is_mapped_by_the_training_images(digits):
    """A seed's category is the label shifted by its state; test images of classes missing in training are errors."""

    def infer(state, batch):
        return jax.nn.one_hot((batch["label"] + state.params) % 10, 10)

    model = Model(init=None, phases=(), needs=("image", "label"), predict={"code": infer})
    given = model, jax.random.split(jax.random.key(3), 2), State(np.zeros(2, np.int32), np.array([0, 3], np.int32))
    assert of_models.codes(*given, digits, Scoring()) == {"code_error": [0.0, 0.0]}
    some = digits._replace(train={name: entry[digits.train["label"] < 5] for name, entry in digits.train.items()})
    wrong = (digits.test["label"] >= 5).mean()
    assert of_models.codes(*given, some, Scoring())["code_error"] == [pytest.approx(wrong)] * 2


def test_each_batch_has_its_key(digits):
    """log_prob returns noise drawn by its key: 899 draws for each seed, all different."""
    draws = Likelihood(lambda key, state, batch: jax.random.normal(key, (len(batch["image"]),)), "continuous", "bound")
    noise = Model(init=None, phases=(), needs=("image",), likelihood=draws)
    keys = jax.random.split(jax.random.key(3), 2)
    state = State(np.zeros(2, np.int32), {})
    scores = of_models.log_prob(noise, keys, state, digits, Scoring())["log_prob_continuous"]
    for key, score in zip(keys, scores, strict=True):
        draws = np.concatenate([jax.random.normal(jax.random.fold_in(key, i), (256,)) for i in range(4)])[:899]
        assert score == pytest.approx(draws.mean(), abs=1e-6)


def test_likelihoods_of_discrete_levels_come_as_bits_too(digits):
    levels = Likelihood(
        lambda key, state, batch: np.full(len(batch["image"]), -64 * np.log(256), np.float32), "uint8", "exact"
    )
    uniform = Model(init=None, phases=(), needs=("image",), likelihood=levels)
    keys = jax.random.split(jax.random.key(3), 1)
    scores = of_models.log_prob(uniform, keys, State(np.zeros(1, np.int32), {}), digits, Scoring())
    assert scores["bits_per_dimension"] == [pytest.approx(8)]


@pytest.fixture(scope="module")
def untrained_vae(digits):
    model = vae.make(vae.Config(network="mlp", hidden=(8,), latent_dim=3, likelihood="bernoulli"), digits.spec)
    state = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(0), 2))
    return model, jax.random.split(jax.random.key(1), 2), state, digits


@pytest.mark.slow
def test_bounds_of_a_vae_agree_with_each_other(untrained_vae):
    """ELBO, IWAE, rate and distortion of one state agree; E[log w] = -(rate + distortion)."""
    scoring = Scoring(importance_samples=300, examples=60, temperatures=30)
    few = (*untrained_vae, scoring)
    iwae, ais = of_models.iwae(*few)["iwae_binary"], of_models.ais(*few)["ais_binary"]
    elbo = of_models.log_prob(*few)["log_prob_binary"]
    both = of_models.rate_distortion(*few)
    for seed in range(2):
        assert -(both["rate"][seed] + both["distortion_binary"][seed]) == pytest.approx(elbo[seed], abs=0.2)
        assert iwae[seed] == pytest.approx(ais[seed], abs=0.2)  # both nearly tight: the posterior is close to the prior
    assert iwae[0] != iwae[1]


def test_bounds_of_some_images_are_of_evenly_spaced_ones(untrained_vae):
    """The density reveals an image's index: of 899 images, 9 at multiples of 899/9, rounded down; and all of them."""
    model, keys, state, digits = untrained_vae
    places = digits._replace(test={"image": np.arange(899, dtype=np.int32).reshape(-1, 1, 1, 1)})
    told = model._replace(
        latents=Latents(
            decode=None,
            prior=Prior(None, "gaussian", lambda state, z: jnp.zeros(len(z))),
            posterior=lambda key, state, batch: (jnp.zeros((len(batch["image"]), 1)), jnp.zeros(len(batch["image"]))),
            log_likelihood=lambda state, batch, z: batch["image"].reshape(-1).astype(jnp.float32),
        )
    )
    for examples, expected in ((9, np.mean([0, 99, 199, 299, 399, 499, 599, 699, 799])), (None, 449), (2000, 449)):
        found = of_models.iwae(told, keys, state, places, Scoring(importance_samples=1, examples=examples))
        assert list(found.values()) == [[pytest.approx(expected, rel=1e-6)] * 2]


def test_reconstructions_of_a_vae_of_bits_are_against_bits(untrained_vae):
    model, keys, state, digits = untrained_vae
    perfect = model._replace(
        latents=model.latents._replace(
            encode=lambda state, batch: batch["image"],
            decode=lambda state, z, condition: {"image": (z >= 128).astype(np.float32)},
        )
    )
    assert of_models.reconstruction(perfect, keys, state, digits, Scoring()) == {
        "mse_binary": [0.0, 0.0],
        "psnr_binary": [np.inf, np.inf],
    }


def test_reconstructions_of_a_conditional_model_are_by_its_labels(untrained_vae):
    """Codes carry nothing, and images have one gray level per class, so only the label can reconstruct them."""
    model, keys, state, digits = untrained_vae
    label = digits.test["label"][:50]
    image = np.broadcast_to(20 * label[:, None, None, None], (50, 8, 8, 1)).astype(np.uint8)
    conditional = model._replace(
        needs=("image", "label"),
        sampler=Sampler(None, conditions=("label",)),
        likelihood=None,
        latents=model.latents._replace(
            encode=lambda state, batch: jnp.zeros((len(batch["image"]), 2)),
            decode=lambda state, z, condition: {
                "image": jnp.broadcast_to(
                    20 * condition["label"].astype(jnp.float32)[:, None, None, None] / 255, (len(z), 8, 8, 1)
                )
            },
        ),
    )
    few = digits._replace(test={"image": image, "label": label})
    assert of_models.reconstruction(conditional, keys, state, few, Scoring())["mse"] == [0.0, 0.0]


def test_extractor_of_a_classifier(digits):
    model = classifier.make(classifier.Config(features=4, embedding_dim=8), digits.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    made = of_classifier(model, state, name="name", digest="digest", note="note")
    predict = jax.jit(lambda state, batch: {name: function(state, batch) for name, function in model.predict.items()})
    expected = predict(state, {"image": digits.test["image"]})
    np.testing.assert_allclose(made.logits(digits.test["image"]), expected["label"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(made.features(digits.test["image"]), expected["features"], rtol=1e-5, atol=1e-6)


def test_what_a_model_cannot_have(digits):
    def there(module):
        return Context(digits, JUDGE, JUDGE, module.make(module.Config(), digits.spec))

    assert FAMILIES["iwae"].lacks(there(dcgan)) == "it has no densities of latents"
    assert FAMILIES["log_prob"].lacks(there(dcgan)) == "it has no likelihood"
    assert FAMILIES["accuracy"].lacks(there(vae)) == "it does not classify"
    for name in ("iwae", "ais", "active_units", "rate_distortion", "reconstruction"):
        assert not FAMILIES[name].lacks(there(vae))
    of_vae = there(vae).model

    def with_latents(**changed):
        return there(vae)._replace(model=of_vae._replace(latents=of_vae.latents._replace(**changed)))

    for name in ("iwae", "ais", "active_units", "rate_distortion"):
        without = with_latents(prior=of_vae.latents.prior._replace(log_prob=None))
        assert FAMILIES[name].lacks(without) == "it has no densities of latents"
    for name in ("iwae", "active_units", "rate_distortion"):
        assert FAMILIES[name].lacks(with_latents(posterior=None)) == "it infers no distribution of latents"
    assert not FAMILIES["ais"].lacks(with_latents(posterior=None, encode=None))
    discrete = with_latents(prior=of_vae.latents.prior._replace(kind="discrete"))
    for name in ("iwae", "ais", "active_units"):
        assert FAMILIES[name].lacks(discrete) == "its latents are discrete"
    assert not FAMILIES["rate_distortion"].lacks(discrete)
    assert FAMILIES["active_units"].lacks(with_latents(encode=None)) == "it does not encode"
    points = there(vae)._replace(dataset=data.load("gaussians"))
    assert FAMILIES["reconstruction"].lacks(points) == "it reconstructs no images"
    assert not FAMILIES["modes"].lacks(points)
    assert FAMILIES["recognized"].lacks(points) == "the data are not images, which a judge needs"
    assert FAMILIES["codes"].lacks(there(vae)) == "it infers no categorical code"
    assert not FAMILIES["codes"].lacks(there(infogan))
    unlabeled = digits.spec._replace(entries={"image": digits.spec.entries["image"]})
    without = there(infogan)._replace(dataset=digits._replace(spec=unlabeled))
    assert FAMILIES["codes"].lacks(without) == "the data have no labels"
    assert (
        FAMILIES["nearest_neighbor"].lacks(Context(digits, JUDGE, JUDGE, labeled=False)) == "its samples have no labels"
    )
    assert FAMILIES["agreement"].lacks(Context(digits, JUDGE, JUDGE, labeled=False)) == "its samples have no labels"
    assert not FAMILIES["agreement"].lacks(Context(digits, JUDGE, JUDGE))
    no_judge = Context(digits, JUDGE._replace(logits=None), None)
    assert FAMILIES["recognized"].lacks(no_judge)
    assert FAMILIES["agreement"].lacks(no_judge)
    assert FAMILIES["inception_score"].lacks(no_judge)
    assert likelihood_notes(dcgan.make(dcgan.Config(), digits.spec))["log_prob_binary"] == "it has no likelihood"
    notes = likelihood_notes(vae.make(vae.Config(likelihood="bernoulli"), digits.spec))
    assert notes["log_prob_continuous"] == "its likelihood is of binary images"
    assert notes["log_prob_binary"].startswith("bound; ELBO")


ELSEWHERE = (
    *("meshes", "vertex_error", "mesh_paths"),  # tests/evaluation/test_mesh_scores.py
    *("written_captions", "caption_truth"),  # tests/metrics/test_written_captions.py
    *("captions", "r_precision"),  # test_scorer.py and test_r_precision.py here
)


@pytest.fixture(scope="module")
def scored(sides, digits):
    """Function from images, as many as there are to train on, to their scores by the family's name."""
    sides = sides._replace(learned=lambda fake, images: np.zeros(len(images)))

    def of(images, without=ELSEWHERE):
        fake = examples(images, digits.train["label"])
        return {family.name: family.score(sides, fake) for family in SAMPLES if family.name not in without}

    return of


@pytest.fixture(scope="module")
def of_train(scored, digits):
    return scored(digits.train["image"])


def test_every_score_has_a_column(of_train, untrained_vae, digits):
    """Every key that a metric returns has a column, and every column is returned by a metric."""
    given = {key for scores in of_train.values() for key in scores}
    scoring = Scoring(importance_samples=2, examples=20, temperatures=2)
    for family in MODELS:
        if family.name not in ("accuracy", "codes", "log_prob", *ELSEWHERE):
            given |= set(family.score(*untrained_vae, scoring))
    # of other models, spaces and larger images
    given |= {
        "accuracy",
        "code_error",
        "high_quality",
        "ms_ssim",
        "bits_per_dimension",
        "ssim_binary",
        "mse",
        "psnr",
        "ssim",
    }
    given |= {column.key for name in ELSEWHERE for column in FAMILIES[name].columns}
    given |= {f"{name}_{space}" for name in ("log_prob", "iwae", "ais", "distortion") for space in SPACES}
    found = columns(Context(digits, JUDGE, JUDGE), scoring, 808, given)
    assert {metric.key for metric in found} == given
    assert found[0].title == "FD-brightness"
    fid = columns(Context(digits, JUDGE._replace(fid=True), JUDGE), scoring, 808, given)
    assert [metric.title for metric in fid][:4] == ["FID", "FID ∞", "FID ∞ error", "KID"]
    assert all("808" in metric.note for metric in fid[:4])


def test_bounds_hold_of_what_is_given(scored, of_train, digits):
    """A score lies within its column's bounds, for equal sets and for one repeated image."""
    image = digits.train["image"]
    without = ("kid", "parzen", "diversity", *ELSEWHERE)
    for scores in (of_train, scored(np.repeat(image[:1], len(image), axis=0), without)):
        for name in scores.keys() - set(without):
            for key, score in scores[name].items():
                least, largest = COLUMNS[key].bounds
                assert least is None or score >= least - 1e-9, key
                assert largest is None or score <= largest + 1e-9, key


def test_which_captions_are_scored(digits):
    spec = digits.spec._replace(entries={**digits.spec.entries, "caption": jax.ShapeDtypeStruct((5,), np.int32)})
    shapes = digits._replace(name="shapes_32", spec=spec)
    color = shapes._replace(
        spec=spec._replace(entries={**spec.entries, "image": jax.ShapeDtypeStruct((8, 8, 3), "u1")})
    )
    for dataset, *words in (
        (digits, "the data have no captions", "the data have no captions"),
        (shapes._replace(name="mine"), "captions can be checked of shapes and shapes_32 only", ""),
        (shapes, "the images have no colors", ""),
        (color, "", ""),
    ):
        assert [FAMILIES[name].lacks(Context(dataset, None, None)) for name in ("captions", "r_precision")] == words
    none = Context(color, None, None, captioned=False)
    assert FAMILIES["captions"].lacks(none) == FAMILIES["r_precision"].lacks(none) == "its samples have no captions"


TEST_CAPTIONS = ["a red circle", "a red circle on a black background", "a blue star", "a small blue star"]


@pytest.mark.parametrize(("name", "expected"), [("mine", 1 / 3), ("shapes", 2 / 3)])
def test_r_precision_by_hand(name, expected):
    """The first of three images is more similar to a caption that is true of it too, the last to a false one.

    Similarities are stated for each image, in the order of own captions and then of the test split's, sorted.
    """
    y, x = np.mgrid[:64, :64] - 32
    disk = (np.hypot(x, y) < 10)[..., None] * np.array([255, 0, 0], np.uint8)
    vocabulary = Vocabulary.of(TEST_CAPTIONS)
    test = {"caption": vocabulary.encode(TEST_CAPTIONS, 7)}
    own = ["a red circle", "a red circle", "a red circle"]

    def similarities(images, captions):
        np.testing.assert_array_equal(images, [disk] * 3)
        assert captions == own + sorted(TEST_CAPTIONS)  # a blue star, a red circle, ... background, a small blue star
        return np.array([[0.5, 0, 0, 0.2, 0.5, 0.9, 0.1], [0, 0.5, 0, 0.2, 0.5, 0.3, 0.1], [0, 0, 0.5, 0.7, 0.5, 0, 0]])

    sides = Sides(SimpleNamespace(name=name, vocabulary=vocabulary, test=test), None, None, None, None, 0, similarities)
    fake = Examples(np.stack([disk] * 3), None, captions=own)
    assert of_samples.r_precision(sides, fake) == {"r_precision": pytest.approx(expected)}


def test_which_columns_are_averaged_over_datasets():
    shares = {key for key, column in COLUMNS.items() if averaged(column)}
    assert {"precision", "recall", "coverage", "recognized", "agreement", "accuracy", "code_error"} <= shares
    assert {"clipped_density", "clipped_coverage"} <= shares
    assert not {"fd", "density", "modes", "collapsed", "two_sample_p", "memorization", "log_prob_binary"} & shares
    assert not {"mmd", "vendi"} & shares


def test_every_metric_says_what_it_needs():
    """The table that `jaxgen metrics` prints says it; metrics that need samples alone can be had without networks."""
    table = metrics_table(Console(width=200))
    needs = dict(zip(table.columns[0].cells, table.columns[3].cells, strict=True))
    assert [column.header for column in table.columns] == ["metric", "of", "what", "needs", "usual"]
    assert needs.keys() == FAMILIES.keys()
    assert all(needs.values())
    of_features = {name for name, words in needs.items() if words in ("features", "logits")}
    neighbors, others = {"neighbors", "clipped"}, {"vendi", "two_sample", "inception_score"}
    assert of_features == {"fd", "fd_infinity", "kid", "mmd"} | neighbors | others
    spec = SimpleNamespace(subject="image", mixture=None, entries={}, image_shape=(7, 8, 1))
    unlabeled = Context(SimpleNamespace(spec=spec), None, None)
    possible = {family.name for family in SAMPLES if not family.lacks(unlabeled)}
    assert possible == {name for name, words in needs.items() if words == "samples"}
    spec.image_shape = (8, 6, 1)
    assert FAMILIES["sliced_wasserstein"].lacks(unlabeled) == "the images are smaller than 7x7"
