"""Naive Bayes against scikit-learn, and the exactness of its integer sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB

from jaxgen import data
from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import naive_bayes
from tests.models.contract import Contract

CONTRACT = Contract({}, likelihood="exact", conditional=True, predicts={"label": 10}, layers=False)

BATCH = 100  # 808 training images: eight full batches and one of 8


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", image_size=16)


def counted(config, dataset, batch_size=BATCH):
    """Returns the model and its state after one pass over the training images."""
    model = naive_bayes.make(config, dataset.spec)
    return model, after_a_pass(model, dataset.train, batch_size)


def after_a_pass(model, examples, batch_size):
    state = model.init(jax.random.key(0))
    count = jax.jit(model.phases[0].step)
    for batch in pipeline.batches(examples, batch_size):
        state, _ = count(jax.random.key(1), state, batch)
    return state


def flat(images, binary):
    images = images.reshape(len(images), -1)
    return (images >= 128).astype(np.float64) if binary else images / 255.0


def joint(model, state, images):
    """Joint log p(x, y), [num, classes]."""
    return np.asarray(jax.jit(model.predict["label"])(state, {"image": images}), np.float64)


@pytest.mark.parametrize("size", [8, 16])
def test_bernoulli_equals_scikit_learn(size):
    dataset = data.load("digits", image_size=size)
    model, state = counted(naive_bayes.Config("bernoulli", smoothing=1.0), dataset)
    reference = BernoulliNB(alpha=1.0).fit(flat(dataset.train["image"], True), dataset.train["label"])
    expected = reference.predict_joint_log_proba(flat(dataset.test["image"], True))
    np.testing.assert_allclose(joint(model, state, dataset.test["image"]), expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [1e-9, 1e-3, 100.0])
def test_bernoulli_with_any_smoothing(digits, alpha):
    """Computing log(1 - p) from a rounded p would lose accuracy for pixels that are nearly always on."""
    model, state = counted(naive_bayes.Config("bernoulli", smoothing=alpha), digits)
    reference = BernoulliNB(alpha=alpha, force_alpha=True)
    reference.fit(flat(digits.train["image"], True), digits.train["label"])
    expected = reference.predict_joint_log_proba(flat(digits.test["image"], True))
    np.testing.assert_allclose(joint(model, state, digits.test["image"]), expected, rtol=1e-5)


@pytest.mark.parametrize(("levels", "alpha"), [(16, 1.0), (2, 1e-3), (256, 1.0), (64, 10.0)])
def test_categorical_equals_scikit_learn(digits, levels, alpha):
    """scikit-learn's log-probabilities are those of bins, which divide equally among a bin's levels."""
    model, state = counted(naive_bayes.Config("categorical", smoothing=alpha, levels=levels), digits)
    width = 256 // levels
    train, test = (split["image"].reshape(-1, 256) // width for split in (digits.train, digits.test))
    reference = CategoricalNB(alpha=alpha, min_categories=levels).fit(train, digits.train["label"])
    expected = reference.predict_joint_log_proba(test) - 256 * np.log(width)
    np.testing.assert_allclose(joint(model, state, digits.test["image"]), expected, rtol=1e-5)


def of_two_pixels(levels):
    """Categorical Naive Bayes on images of two pixels, 40 of them counted in three classes."""
    rng = np.random.Generator(np.random.Philox(0))
    examples = {
        "image": rng.integers(0, 256, (40, 1, 2, 1), dtype=np.uint8),
        "label": rng.integers(0, 3, 40, dtype=np.int32),
    }
    spec = Spec({"image": jax.ShapeDtypeStruct((1, 2, 1), np.uint8)}, 40, 3)
    model = naive_bayes.make(naive_bayes.Config("categorical", smoothing=0.5, levels=levels), spec)
    return model, after_a_pass(model, examples, 16), examples


@pytest.mark.parametrize("levels", [4, 256])
def test_categorical_probabilities_of_all_images_sum_to_1(levels):
    """Sums over all 65,536 images of two pixels with 256 levels; one probability is computed by hand."""
    model, state, examples = of_two_pixels(levels)
    image = np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"), -1).astype(np.uint8)
    log_prob = np.asarray(
        jax.jit(model.likelihood.log_prob)(None, state, {"image": image.reshape(-1, 1, 2, 1)}), np.float64
    )
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-5)

    bins, asked, expected = examples["image"].reshape(40, 2) // (256 // levels), np.array([200, 9]), 0
    for label in range(3):
        of = bins[examples["label"] == label]
        same = (of == asked // (256 // levels)).sum(0)
        expected += len(of) / 40 * ((same + 0.5) / (len(of) + 0.5 * levels) * levels / 256).prod()
    assert np.exp(log_prob.reshape(256, 256)[200, 9]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("levels", [4, 256])
def test_categorical_samples_have_their_probabilities(levels):
    """Frequencies of all levels in 200,000 samples of a class, within 5 standard errors."""
    model, state, examples = of_two_pixels(levels)
    num, width = 200_000, 256 // levels
    draw = jax.jit(lambda state: model.sampler.draw(jax.random.key(3), state, num, {"label": np.full(num, 1)}))
    image = draw(state)["image"]
    assert image.dtype == np.uint8
    of = examples["image"].reshape(40, 2)[examples["label"] == 1]
    for pixel in range(2):
        bins = np.bincount(of[:, pixel] // width, minlength=levels)
        expected = np.repeat((bins + 0.5) / (len(of) + 0.5 * levels) / width, width)
        shares = np.bincount(np.asarray(image)[:, 0, pixel, 0], minlength=256) / num
        assert (np.abs(shares - expected) < 5 * np.sqrt(expected / num)).all()


def test_gaussian_equals_scikit_learn(digits):
    model, state = counted(naive_bayes.Config("gaussian", variance_floor=1e-2), digits)
    reference = GaussianNB(var_smoothing=1e-2).fit(flat(digits.train["image"], False), digits.train["label"])
    expected = reference.predict_joint_log_proba(flat(digits.test["image"], False))
    # Log-densities are sums of terms of both signs, some near 0, so float32 errors are relative to the terms' size.
    x = flat(digits.test["image"], False)
    square = ((x[:, None] - reference.theta_) ** 2 / reference.var_).sum(-1) / 2
    terms = square + np.abs(np.log(2 * np.pi * reference.var_)).sum(-1) / 2
    error = np.abs(joint(model, state, digits.test["image"]) - expected)
    assert (error <= 1e-5 * np.abs(expected) + 2e-7 * terms).all()


def test_gaussian_parameters_equal_scikit_learns_at_its_default_floor(digits):
    """Agreement to 1e-6, with a floor of 1e-9 of the largest variance, which hides no lost digit."""
    _, state = counted(naive_bayes.Config("gaussian"), digits)
    reference = GaussianNB().fit(flat(digits.train["image"], False), digits.train["label"])
    n = state.params["examples"][:, None, None, None]
    mean, variance = naive_bayes.gaussian_parameters(n, state.params["pixels"], state.params["squares"])
    np.testing.assert_allclose(np.asarray(mean).reshape(10, -1), reference.theta_, rtol=1e-6, atol=1e-9)
    expected = reference.var_ - reference.epsilon_
    np.testing.assert_allclose(np.asarray(variance).reshape(10, -1), expected, rtol=1e-6, atol=1e-15)


def test_gaussian_parameters_where_float32_sums_fail():
    """Bright pixels hardly vary here: E[x^2] - E[x]^2 in float32 keeps no digit of the variance."""
    n, ones = 200_000, 7  # 254 everywhere but 255 at `ones` places
    total = np.uint32(254 * n + ones)
    squares = np.uint32((254**2 * (n - ones) + 255**2 * ones) % 2**32)
    mean, variance = naive_bayes.gaussian_parameters(jnp.uint32(n), jnp.uint32(total), jnp.uint32(squares))
    share = ones / n
    np.testing.assert_allclose(float(mean) * 255, 254 + share, rtol=1e-7)
    np.testing.assert_allclose(float(variance) * 255**2, share * (1 - share), rtol=1e-5)


@pytest.mark.parametrize("values", [[0, 255], [255], [0], [3, 4, 4, 250], list(range(256))])
def test_gaussian_parameters_are_exact(values):
    values = np.repeat(np.asarray(values, np.int64), 1000)
    total, squares = np.uint32(values.sum()), np.uint32((values**2).sum() % 2**32)
    mean, variance = naive_bayes.gaussian_parameters(*map(jnp.uint32, (len(values), total, squares)))
    np.testing.assert_allclose(float(mean), values.mean() / 255, rtol=2e-7)
    np.testing.assert_allclose(float(variance), values.var() / 255**2, rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_streaming_equals_one_batch(digits, likelihood):
    config = naive_bayes.Config(likelihood)
    _, whole = counted(config, digits, 808)
    for batch_size in (37, 101):
        _, small = counted(config, digits, batch_size)
        jax.tree.map(np.testing.assert_array_equal, small.params, whole.params)
    assert np.asarray(small.params["examples"]).tolist() == np.bincount(digits.train["label"]).tolist()


def test_log_prob_is_the_joint_summed_over_the_classes(digits):
    model, state = counted(naive_bayes.Config("bernoulli"), digits)
    reference = BernoulliNB().fit(flat(digits.train["image"], True), digits.train["label"])
    expected = np.logaddexp.reduce(reference.predict_joint_log_proba(flat(digits.test["image"], True)), axis=1)
    actual = jax.jit(model.likelihood.log_prob)(jax.random.key(0), state, {"image": digits.test["image"]})
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_bins_and_levels_are_of_different_keys():
    """JAX's checker of used keys finds none that is used twice, by the trace alone."""
    model, state, _ = of_two_pixels(4)
    with jax.debug_key_reuse(True):
        jax.eval_shape(
            jax.jit(lambda key: model.sampler.draw(key, state, 5, {"label": np.full(5, 1)})), jax.random.key(0)
        )


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_samples_have_the_moments_of_their_class(digits, likelihood):
    """Pixel means of 4,000 samples of a class, and for Gaussians deviations, within 5 standard errors."""
    model, state = counted(naive_bayes.Config(likelihood), digits)
    num = 4000
    condition = {"label": np.full(num, 3, np.int32)}
    made = jax.jit(lambda state: model.sampler.draw(jax.random.key(5), state, num, condition))(state)
    x = np.asarray(made["image"], np.float64) / 255
    train = flat(digits.train["image"][digits.train["label"] == 3], likelihood == "bernoulli").reshape(-1, 16, 16, 1)
    if likelihood == "bernoulli":
        assert set(np.unique(x)) == {0.0, 1.0}
        expected = (train.sum(0) + 1) / (len(train) + 2)
        error = np.sqrt(expected * (1 - expected) / num)
        assert (np.abs(x.mean(0) - expected) < 5 * error).all()
    else:  # clipped and rounded, like these quantiles of each pixel's distribution
        floor = 0.01 * (digits.train["image"] / 255).var(0).max()
        quantiles = scipy.stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)[:, None, None, None]
        values = np.round(255 * (train.mean(0) + np.sqrt(train.var(0) + floor) * quantiles).clip(0, 1)) / 255
        assert (np.abs(x.mean(0) - values.mean(0)) < 5 * values.std(0) / np.sqrt(num)).all()
        square, expected = (values - values.mean(0)) ** 2, values.var(0)
        assert (np.abs(x.var(0) - expected) < 5 * square.std(0) / np.sqrt(num)).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_examples_of_unknown_label_are_as_left_out(digits, likelihood):
    """Label -1 counts in no class, nor in the metric."""
    model = naive_bayes.make(naive_bayes.Config(likelihood), digits.spec)
    few = {name: entry[:BATCH] for name, entry in digits.train.items()}
    unknown, weight = np.arange(BATCH) % 3 == 0, np.ones(BATCH, np.float32)
    with_unknown = few | {"label": np.where(unknown, -1, few["label"]).astype(np.int32), "weight": weight}
    left_out = few | {"weight": np.where(unknown, 0, weight)}
    start, count = model.init(jax.random.key(0)), jax.jit(model.phases[0].step)
    (found, metrics), (expected, _) = (count(jax.random.key(1), start, batch) for batch in (with_unknown, left_out))
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert int(metrics["examples"]) == (~unknown).sum()
    assert found.params["examples"].tolist() == np.bincount(few["label"][~unknown], minlength=10).tolist()


@pytest.mark.slow
def test_mnist_is_classified_as_by_scikit_learn(mnist):
    """Trained on the whole training set; accuracy to 0.1% of the test set's 10,000 images."""
    train, test = mnist["train"], mnist["t10k"]
    spec = Spec({"image": jax.ShapeDtypeStruct((28, 28, 1), np.uint8)}, len(train["label"]), 10)
    bins = {name: split["image"].reshape(-1, 784) // 16 for name, split in mnist.items()}
    for likelihood, reference, x, x_test in (
        ("bernoulli", BernoulliNB(alpha=1.0), *(bins[name] >= 8 for name in ("train", "t10k"))),
        ("gaussian", GaussianNB(var_smoothing=1e-2), *(flat(split["image"], False) for split in (train, test))),
        ("categorical", CategoricalNB(alpha=1.0, min_categories=16), bins["train"], bins["t10k"]),
    ):
        model = naive_bayes.make(naive_bayes.Config(likelihood), spec)
        state = after_a_pass(model, train, 1000)
        classify = jax.jit(model.predict["label"])
        found = [classify(state, {"image": part}).argmax(-1) for part in np.split(test["image"], 10)]
        expected = reference.fit(x, train["label"]).score(x_test, test["label"])
        assert (np.concatenate(found) == test["label"]).mean() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("likelihood", "field", "value", "takers"),
    [
        ("bernoulli", "levels", 4, "categorical"),
        ("categorical", "variance_floor", 0.1, "gaussian"),
        ("gaussian", "smoothing", 0.5, "bernoulli or categorical"),
    ],
)
def test_fields_of_another_likelihood_are_refused(digits, likelihood, field, value, takers):
    with pytest.raises(UserError, match=rf"{field} only applies with --likelihood {takers} \(you chose {likelihood}\)"):
        naive_bayes.make(naive_bayes.Config(likelihood, **{field: value}), digits.spec)


@pytest.mark.parametrize("levels", [1, 48, 512])
def test_levels_that_do_not_divide_256(digits, levels):
    with pytest.raises(UserError, match=f"levels must be a power of two from 2 to 256, not {levels}"):
        naive_bayes.make(naive_bayes.Config("categorical", levels=levels), digits.spec)


def test_too_many_examples_to_count_exactly(digits):
    spec = digits.spec._replace(num_examples=264_001)
    with pytest.raises(UserError, match="264000"):
        naive_bayes.make(naive_bayes.Config(), spec)
