"""Naive Bayes against scikit-learn, and the exactness of its integer sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB, GaussianNB

from jaxgen import data
from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.models import naive_bayes

BATCH = 100  # 808 training images: eight full batches and one of 8


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", image_size=16)


def counted(config, dataset, batch_size=BATCH):
    """The model and its state after one pass over the training images."""
    model = naive_bayes.make(config, dataset.spec)
    state = model.init(jax.random.key(0), {})
    count = jax.jit(model.phases[0].step)
    for batch in pipeline.batches(dataset.train, batch_size):
        state, _ = count(jax.random.key(1), state, batch)
    return model, state


def flat(images, binary):
    images = images.reshape(len(images), -1)
    return (images >= 128).astype(np.float64) if binary else images / 255.0


def joint(model, state, images):
    """log p(x, y) [num, classes]."""
    return np.asarray(jax.jit(model.classify)(state, {"image": images}), np.float64)


@pytest.mark.parametrize("size", [8, 16])
def test_bernoulli_equals_scikit_learn(size):
    dataset = data.load("digits", image_size=size)
    model, state = counted(naive_bayes.Config("bernoulli", smoothing=1.0), dataset)
    reference = BernoulliNB(alpha=1.0).fit(flat(dataset.train["image"], True), dataset.train["label"])
    expected = reference.predict_joint_log_proba(flat(dataset.test["image"], True))
    np.testing.assert_allclose(joint(model, state, dataset.test["image"]), expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [1e-9, 1e-3, 100.0])
def test_bernoulli_with_any_smoothing(digits, alpha):
    """log(1 - p) of a rounded p would be lost where a pixel is nearly always on."""
    model, state = counted(naive_bayes.Config("bernoulli", smoothing=alpha), digits)
    reference = BernoulliNB(alpha=alpha, force_alpha=True)
    reference.fit(flat(digits.train["image"], True), digits.train["label"])
    expected = reference.predict_joint_log_proba(flat(digits.test["image"], True))
    np.testing.assert_allclose(joint(model, state, digits.test["image"]), expected, rtol=1e-5)


def test_gaussian_equals_scikit_learn(digits):
    model, state = counted(naive_bayes.Config("gaussian", variance_floor=1e-2), digits)
    reference = GaussianNB(var_smoothing=1e-2).fit(flat(digits.train["image"], False), digits.train["label"])
    expected = reference.predict_joint_log_proba(flat(digits.test["image"], False))
    # Log-densities are sums of terms of both signs, some near 0: float32 is then judged by the terms' size.
    x = flat(digits.test["image"], False)
    square = ((x[:, None] - reference.theta_) ** 2 / reference.var_).sum(-1) / 2
    terms = square + np.abs(np.log(2 * np.pi * reference.var_)).sum(-1) / 2
    error = np.abs(joint(model, state, digits.test["image"]) - expected)
    assert (error <= 1e-5 * np.abs(expected) + 2e-7 * terms).all()


def test_gaussian_parameters_equal_scikit_learns_at_its_default_floor(digits):
    """To 1e-6 where the floor is 1e-9 of the largest variance, so that nothing hides a lost digit."""
    _, state = counted(naive_bayes.Config("gaussian"), digits)
    reference = GaussianNB().fit(flat(digits.train["image"], False), digits.train["label"])
    n = state.params["examples"][:, None, None, None]
    mean, variance = naive_bayes.gaussian_parameters(n, state.params["pixels"], state.params["squares"])
    np.testing.assert_allclose(np.asarray(mean).reshape(10, -1), reference.theta_, rtol=1e-6, atol=1e-9)
    expected = reference.var_ - reference.epsilon_
    np.testing.assert_allclose(np.asarray(variance).reshape(10, -1), expected, rtol=1e-6, atol=1e-15)


def test_gaussian_parameters_where_float32_sums_fail():
    """Many bright pixels that hardly vary: E[x^2] - E[x]^2 in float32 keeps no digit of the variance."""
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


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_streaming_equals_one_batch(digits, likelihood):
    config = naive_bayes.Config(likelihood)
    _, small = counted(config, digits, 37)
    _, whole = counted(config, digits, 808)
    jax.tree.map(np.testing.assert_array_equal, small.params, whole.params)
    assert np.asarray(small.params["examples"]).tolist() == np.bincount(digits.train["label"]).tolist()


def test_log_prob_is_the_joint_summed_over_the_classes(digits):
    model, state = counted(naive_bayes.Config(), digits)
    reference = BernoulliNB().fit(flat(digits.train["image"], True), digits.train["label"])
    expected = np.logaddexp.reduce(reference.predict_joint_log_proba(flat(digits.test["image"], True)), axis=1)
    actual = jax.jit(model.log_prob)(jax.random.key(0), state, {"image": digits.test["image"]})
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_samples_have_the_class_means(digits, likelihood):
    """4,000 samples of a class: every pixel's mean within 5 standard errors of the model's."""
    model, state = counted(naive_bayes.Config(likelihood), digits)
    num = 4000
    label = jnp.full(num, 3, jnp.int32)
    batch = jax.jit(model.sample, static_argnums=2)(jax.random.key(5), state, num, {"label": label})
    assert (np.asarray(batch["label"]) == 3).all()
    x = np.asarray(batch["image"], np.float64) / 255
    train = flat(digits.train["image"][digits.train["label"] == 3], likelihood == "bernoulli").reshape(-1, 16, 16, 1)
    if likelihood == "bernoulli":
        assert set(np.unique(x)) == {0.0, 1.0}
        expected = (train.sum(0) + 1) / (len(train) + 2)
        error = np.sqrt(expected * (1 - expected) / num)
        assert (np.abs(x.mean(0) - expected) < 5 * error).all()
    else:  # pixels far from the bounds, which clip little
        inner = (np.abs(train.mean(0) - 0.5) < 0.1) & (train.std(0) < 0.2)
        assert inner.sum() >= 1
        error = np.sqrt((train.var(0) + 0.01) / num)
        assert (np.abs(x.mean(0) - train.mean(0))[inner] < 5 * error[inner] + 0.01).all()


def test_unconditional_samples_have_the_classes_shares(digits):
    model, state = counted(naive_bayes.Config(), digits)
    label = np.asarray(model.sample(jax.random.key(2), state, 5000, None)["label"])
    shares = np.bincount(label, minlength=10) / 5000
    error = np.sqrt(digits.spec.class_shares * (1 - digits.spec.class_shares) / 5000)
    assert (np.abs(shares - digits.spec.class_shares) < 5 * error).all()


def test_too_many_examples_to_count_exactly(digits):
    spec = digits.spec._replace(num_examples=264_001)
    with pytest.raises(UserError, match="264000"):
        naive_bayes.make(naive_bayes.Config(), spec)
