"""Heads of autoregressive models against scipy, by enumeration, and by counts of draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from jaxgen.errors import UserError
from jaxgen.heads import make_head
from jaxgen.nn.optimizer import descend


def every(levels, *shape):
    """All images of these levels, int32 [levels^pixels, *shape]."""
    return np.int32(list(itertools.product(range(levels), repeat=int(np.prod(shape))))).reshape(-1, *shape)


def given(head, *shape, scale=2.0, seed=0):
    """Outputs [1, H, W, groups, outputs] of a network."""
    rng = np.random.default_rng(seed)
    return np.float32(rng.normal(0, scale, (1, *shape[:2], head.groups, head.outputs)))


@pytest.mark.parametrize(
    ("name", "fields", "levels", "shape"),
    [
        ("bernoulli", {}, 2, (2, 2, 3)),
        ("bernoulli", {"patch": 2}, 16, (1, 2, 1)),
        ("categorical", {"levels": 4}, 4, (1, 2, 3)),
        ("logistic", {"mixtures": 3}, 256, (1, 1, 2)),
        ("logistic", {"mixtures": 2}, 256, (1, 2, 1)),
    ],
)
def test_probabilities_of_all_images_sum_to_1(name, fields, levels, shape):
    """A bin of 64 gray levels has the probability of one of them, 64 times."""
    head = make_head(name, shape[-1], **fields)
    level = every(levels, *shape)
    outputs = np.broadcast_to(given(head, *shape), (len(level), *shape[:2], head.groups, head.outputs))
    log_prob = np.asarray(jax.jit(head.log_prob)(level, outputs), np.float64)
    images = (256 // levels) ** np.prod(shape) if name == "categorical" else 1
    assert (np.exp(log_prob) * images).sum() == pytest.approx(1, abs=1e-5)
    assert np.ptp(log_prob) > 3


def test_each_head_equals_scipy():
    """A pixel of three channels; that of the mixture by the distribution function of scipy, a channel at a time."""
    rng = np.random.default_rng(1)
    level = rng.integers(0, 2, (4, 2, 2, 3))
    head = make_head("bernoulli", 3)
    logits = np.float32(rng.normal(0, 3, (4, 2, 2, 3, 1)))
    expected = scipy.stats.bernoulli.logpmf(level, scipy.special.expit(logits[..., 0])).sum((1, 2, 3))
    np.testing.assert_allclose(jax.jit(head.log_prob)(level, logits), expected, rtol=1e-5)

    level = rng.integers(0, 8, (4, 2, 2, 3))
    head = make_head("categorical", 3, levels=8)
    logits = np.float32(rng.normal(0, 3, (4, 2, 2, 3, 8)))
    chosen = np.take_along_axis(scipy.special.log_softmax(logits, -1), level[..., None], -1)
    expected = chosen.sum((1, 2, 3, 4)) - 12 * np.log(32)
    np.testing.assert_allclose(jax.jit(head.log_prob)(level, logits), expected, rtol=1e-5)

    level = np.int32([0, 255, 90, 3, 200, 201]).reshape(2, 1, 1, 3)
    head = make_head("logistic", 3, mixtures=2)
    assert (head.groups, head.outputs) == (1, 20)
    outputs = np.float32(rng.normal(0, 1, (2, 1, 1, 1, 20)))
    found = np.asarray(jax.jit(head.log_prob)(level, outputs))
    for image, numbers in zip(level.reshape(2, 3), np.float64(outputs).reshape(2, 10, 2), strict=True):
        x, share = image / 127.5 - 1, scipy.special.softmax(numbers[0])
        mean, scale, c = numbers[1:4] + np.float64([-1, 1]), np.exp(numbers[4:7]), np.tanh(numbers[7:])
        center = [mean[0], mean[1] + c[0] * x[0], mean[2] + c[1] * x[0] + c[2] * x[1]]
        p = share
        for channel in range(3):
            of = scipy.stats.logistic(center[channel], scale[channel])
            below = 0 if image[channel] == 0 else of.cdf(x[channel] - 1 / 255)
            p = p * ((1 if image[channel] == 255 else of.cdf(x[channel] + 1 / 255)) - below)
        at = np.flatnonzero((level.reshape(2, 3) == image).all(1))[0]
        np.testing.assert_allclose(found[at], np.log(p.sum()), rtol=1e-4)


def test_an_untrained_mixture_becomes_one():
    """Components have gradients of their own at outputs of 0, and learn levels that one logistic cannot."""
    level = np.int32([16, 240] * 50).reshape(100, 1, 1, 1)

    def learned(mixtures):
        head = make_head("logistic", 1, mixtures=mixtures)

        def loss(outputs):
            return -head.log_prob(level, jnp.broadcast_to(outputs, (100, 1, 1, 1, head.outputs))).mean()

        adam = optax.adam(0.05)

        def step(carry, _):
            value, gradient = jax.value_and_grad(loss)(carry[0])
            return descend(adam, gradient, carry[1], carry[0]), (value, gradient)

        @jax.jit
        def run(start):
            return jax.lax.scan(step, (start, adam.init(start)), length=501)[1]

        values, gradients = run(np.zeros(head.outputs, np.float32))
        return np.asarray(gradients[0]).reshape(3, mixtures), values[500]

    gradient, mixed = learned(4)
    assert all(len(np.unique(row)) == 4 for row in gradient[1:])
    _, alone = learned(1)
    assert mixed < alone - 2


@pytest.mark.parametrize(
    ("name", "fields", "channels"), [("bernoulli", {}, 1), ("categorical", {"levels": 4}, 1), ("logistic", {}, 2)]
)
def test_draws_have_their_probabilities(name, fields, channels):
    """200,000 draws of a pixel by chi-square; of two channels of 256 levels in 64 cells."""
    head = make_head(name, channels, **fields)
    outputs, num = given(head, 1, 1, scale=1.0, seed=3)[0, 0, 0, 0], 200_000
    drawn = np.asarray(jax.jit(head.draw)(jax.random.key(1), np.broadcast_to(outputs, (num, head.outputs))))
    level = every(head.levels, 1, 1, channels)
    each = np.broadcast_to(outputs, (len(level), 1, 1, 1, head.outputs))
    p = np.exp(jax.jit(head.log_prob)(level, each), dtype=np.float64)
    width = 32 if channels == 2 else 1
    places = (head.levels // width) ** np.arange(channels)
    expected = num * np.bincount((level.reshape(-1, channels) // width) @ places, p / p.sum())
    found = np.bincount((drawn // width) @ places, minlength=len(expected))
    often = expected > 5
    found, expected = (np.append(a[often], a[~often].sum())[: -1 if often.all() else None] for a in (found, expected))
    assert scipy.stats.chisquare(found, expected).pvalue > 1e-3


def test_patches_are_bits_read_in_raster_order():
    """The first bit of the patch at the top right is pixel (0, 2); the last, of weight 8, is pixel (1, 3)."""
    head = make_head("bernoulli", 1, patch=2)
    assert (head.levels, head.groups, head.outputs, head.space) == (16, 1, 16, "binary")
    image = np.uint8([[200, 0, 0, 128], [0, 0, 0, 255], [127, 0, 0, 0], [0, 255, 0, 0]])[None, :, :, None]
    level = head.level(jnp.asarray(image))
    np.testing.assert_array_equal(level[0, :, :, 0], [[1, 2 + 8], [8, 0]])
    np.testing.assert_array_equal(head.image(jax.random.key(0), level), np.where(image >= 128, 255, 0))
    colors = np.random.default_rng(0).choice(np.uint8([0, 255]), (3, 4, 6, 3))
    head = make_head("bernoulli", 3, patch=2)
    assert len(np.unique(head.level(jnp.asarray(colors)))) > 15
    np.testing.assert_array_equal(head.image(None, head.level(jnp.asarray(colors))), colors)


def test_a_channel_is_rounded_before_the_next_depends_on_it():
    """Green's mean is 0.2 of a level above red: of a red of 100, whatever it was before it was rounded."""
    head = make_head("logistic", 2, mixtures=1)
    unit = 2 / 255
    outputs = np.float32([0, 100.4 * unit - 1, 0.2 * unit, -20, -20, 20])  # logit, means, log-scales, coefficient
    drawn = jax.jit(head.draw)(jax.random.key(0), np.broadcast_to(outputs, (20_000, 6)))
    red, green = np.asarray(drawn).T
    of = scipy.stats.logistic(scale=np.exp(-7) * 127.5)  # in levels: the least scale
    assert (red == 100).mean() == pytest.approx(of.cdf(0.1) - of.cdf(-0.9), abs=0.02)
    for level in (100, 101):
        assert (green[red == level] == level).mean() == pytest.approx(of.cdf(0.3) - of.cdf(-0.7), abs=0.02)


def test_levels_and_images_are_each_others_inverse():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    for levels in (2, 16, 256):
        head = make_head("categorical", 1, levels=levels)
        level = head.level(jnp.asarray(image))
        assert (level.min(), level.max()) == (0, levels - 1)
        np.testing.assert_array_equal(np.asarray(level), image // (256 // levels))
        drawn = np.stack([np.asarray(head.image(jax.random.key(k), level)) for k in range(40)])
        assert drawn.dtype == np.uint8
        assert (drawn // (256 // levels) == image // (256 // levels)).all()
        assert len(np.unique(drawn)) == 256
        np.testing.assert_allclose(head.scaled(jnp.int32([0, levels - 1])), [-1, 1])
    head = make_head("bernoulli", 1)
    np.testing.assert_array_equal(np.asarray(head.level(jnp.asarray(image))), image >= 128)
    np.testing.assert_array_equal(np.asarray(head.image(None, jnp.int32([0, 1]))), [0, 255])


def test_temperature_and_cut_change_draws_and_say_so():
    """Logits 0 and log 3: shares 1/4 and 3/4, at temperature 1/2 1/10 and 9/10; the likeliest alone is always 1."""
    logits = np.broadcast_to(np.log(np.float32([1, 3])), (40_000, 2))

    def share(**fields):
        head = make_head("categorical", 1, levels=2, **fields)
        return np.mean(jax.jit(head.draw)(jax.random.key(0), logits)), head.sampling

    for fields, expected, words in (
        ({}, 0.75, "draws"),
        ({"temperature": 0.5}, 0.9, "draws at temperature 0.5"),
        ({"top": 1}, 1.0, "draws of the 1 likeliest levels"),
    ):
        found, sampling = share(**fields)
        assert found == pytest.approx(expected, abs=0.011)
        assert sampling == words
    head = make_head("bernoulli", 1, temperature=0.5)
    bits = jax.jit(head.draw)(jax.random.key(0), np.full((40_000, 1), np.log(3), np.float32))
    assert np.mean(bits) == pytest.approx(0.9, abs=0.01)
    head = make_head("logistic", 1, mixtures=1, temperature=0.1)
    level = np.asarray(jax.jit(head.draw)(jax.random.key(0), np.broadcast_to(np.float32([0, 0, -2]), (40_000, 3))))
    assert level.std() == pytest.approx(0.1 * np.exp(-2) * np.pi / np.sqrt(3) * 127.5, rel=0.03)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("categorical", {"levels": 512}, "levels must be a power of two from 2 to 256"),
        ("categorical", {"levels": 17}, "levels must be a power of two from 2 to 256"),
        ("logistic", {"mixtures": 0}, "mixtures must lie between 1 and 1000, not 0"),
        ("bernoulli", {"temperature": 0.0}, "temperature must be above 0"),
        ("categorical", {"levels": 4, "top": 5}, "top must lie between 0"),
        ("logistic", {"top": 5}, "top applies to a softmax over levels, which logistic is not"),
        ("bernoulli", {"top": 1}, "top applies to a softmax over levels, which bernoulli is not"),
    ],
)
def test_numbers_that_cannot_be(name, fields, words):
    with pytest.raises(UserError, match=words):
        make_head(name, 1, **fields)
