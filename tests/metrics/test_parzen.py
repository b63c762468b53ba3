import math

import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from jaxgen.metrics import parzen
from jaxgen.metrics.parzen import choose_deviation, parzen_log_likelihood


def normal(seed, n, dimensions):
    return np.random.default_rng(seed).normal(size=(n, dimensions))


def test_one_sample_is_a_gaussian():
    # 2 dimensions, |x - s|^2 = 25, sigma 5: -log(2 pi 25) - 1/2
    assert parzen_log_likelihood([[4, 6]], [[1, 2]], 5) == pytest.approx([-math.log(50 * math.pi) - 0.5], rel=1e-14)


def test_two_samples_by_hand():
    # midway between samples at -1 and 1 the two kernels are equal; at 1, one is e^-2 of the other
    values = parzen_log_likelihood([[0], [1]], [[-1], [1]], 1)
    log_constant = 0.5 * math.log(2 * math.pi)
    assert values == pytest.approx([-log_constant - 0.5, -log_constant + math.log((1 + math.exp(-2)) / 2)], rel=1e-14)


@pytest.mark.parametrize("deviation", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("dimensions", [1, 5, 200])
def test_against_scikit_learn(deviation, dimensions):
    test, samples = 3 + normal(0, 70, dimensions), 3 + normal(1, 150, dimensions)
    # a single leaf: its tree's node bounds cancel where kernels are small, and with the default of 40 samples per leaf
    # some values below are wrong in the first digit
    reference = KernelDensity(kernel="gaussian", bandwidth=deviation, leaf_size=len(samples))
    expected = reference.fit(samples).score_samples(test)
    values = parzen_log_likelihood(test, samples, deviation)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_far_away_is_finite():
    # |x - s|^2 = 10^8 at sigma 0.1, where exp is 0
    expected = -0.5 * 1e8 / 0.01 - 0.5 * math.log(2 * math.pi * 0.01)
    assert parzen_log_likelihood([[1e4]], [[0.0]], 0.1) == pytest.approx([expected], rel=1e-14)


def test_a_large_common_offset_loses_no_digits():
    # multiples of 1/16 around 2^24: the shift is exact, the squares are not
    test, samples = (np.round(16 * normal(seed, 40, 8)) / 16 for seed in (2, 3))
    np.testing.assert_allclose(
        parzen_log_likelihood(test + 2**24, samples + 2**24, 0.1), parzen_log_likelihood(test, samples, 0.1), rtol=1e-9
    )


def test_it_is_a_density():
    # its integral over a fine grid, in one dimension
    grid = np.linspace(-20, 20, 40_001)
    density = np.exp(parzen_log_likelihood(grid[:, None], normal(4, 25, 1), 0.5))
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("block", [1, 100, 350])
def test_blocks_change_nothing(monkeypatch, block):
    test, samples = normal(5, 23, 3), normal(6, 50, 3)
    whole = parzen_log_likelihood(test, samples, 0.5)
    monkeypatch.setattr(parzen, "BLOCK", block)
    np.testing.assert_allclose(parzen_log_likelihood(test, samples, 0.5), whole, rtol=1e-12)


def test_the_best_deviation():
    # with one sample at 0 the likelihood of the validation points is largest at sigma^2 = mean of x^2 = 4
    validation = [[2.0], [-2.0], [2.0]]
    assert choose_deviation(validation, [[0.0]], [1, 1.9, 2, 2.1, 4]) == 2
    assert choose_deviation(validation, [[0.0]], [0.5, 1]) == 1
    assert choose_deviation(validation, [[0.0]], [3, 5]) == 3


@pytest.mark.parametrize(
    ("test", "samples", "deviation", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 2)), 0, "a deviation must be above 0 and finite, got 0$"),
        (np.ones((3, 2)), np.ones((3, 2)), np.nan, "a deviation must be above 0 and finite, got nan$"),
        (np.ones((3, 2)), np.ones((3, 2)), np.inf, "a deviation must be above 0 and finite, got inf$"),
        (np.ones((3, 2)), np.ones((3, 4)), 1, "2 dimensions, fake ones 4$"),
        (np.ones((3, 2)), np.ones((0, 2)), 1, "sample features have 0$"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), 1, "test features have non-finite values$"),
    ],
)
def test_what_is_refused(test, samples, deviation, message):
    with pytest.raises(ValueError, match=message) as error:
        parzen_log_likelihood(test, samples, deviation)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("deviations", "message"),
    [([], "one or more"), (1.0, "one or more"), ([[1.0]], "one or more"), ([1, -1], "above 0 and finite, got -1$")],
)
def test_deviations_that_are_refused(deviations, message):
    with pytest.raises(ValueError, match=message):
        choose_deviation(np.ones((3, 2)), np.ones((3, 2)), deviations)
