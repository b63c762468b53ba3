import math

import numpy as np
import pytest
import scipy.stats

from jaxgen.data.readers import gaussians
from jaxgen.metrics.modes import class_modes, point_modes


def expected_kl(n, num_modes):
    """Exact mean of KL(shares, uniform) for n samples that fall on all modes with equal probability."""
    count = np.arange(1, n + 1)
    share = count / n
    probability = scipy.stats.binom.pmf(count, n, 1 / num_modes)
    return num_modes * np.sum(probability * share * np.log(share)) + math.log(num_modes)


def assert_mean(values, expected):
    """Checks that the mean of independent values is within 4 standard errors of the expected value."""
    standard_error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, rel=1e-9, abs=4 * standard_error)


def test_points_by_hand():
    centers = [[0, 0], [10, 0], [0, 10], [10, 10]]
    points = [
        [0.5, 0.5], [-1, 0], [0, 2.9],  # three on the first mode
        [10, 1],  # one on the second
        [0, 7],  # nearest to the third, at exactly 3 deviations: not under 3
        [5.1, 9],  # nearest to the fourth, but far away
    ]  # fmt: skip
    modes, kl, high_quality = point_modes(points, centers, 1)
    assert modes == 2
    # shares 3/4, 1/4 of four modes
    assert kl == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1), rel=1e-12)
    assert high_quality == pytest.approx(4 / 6, rel=1e-12)


def test_distances_are_euclidean():
    # (2.5, 2.5) is within 3 of the center on either axis, but at distance 3.54; (2, 2) is at 2.83
    assert point_modes([[2.5, 2.5]], [[0, 0]], 1).high_quality == 0
    assert point_modes([[2.0, 2.0]], [[0, 0]], 1).high_quality == 1


def test_no_point_near_any_mode():
    modes, kl, high_quality = point_modes([[50.0, 50.0]], [[0, 0], [1, 0]], 1)
    assert (modes, high_quality) == (0, 0)
    assert math.isnan(kl)


def test_classes_by_hand():
    modes, kl, high_quality = class_modes([3, 3, 3, 0], 5)
    assert modes == 2
    assert kl == pytest.approx(math.log(5) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25), rel=1e-12)
    assert math.isnan(high_quality)


def test_the_extremes_of_kl():
    assert class_modes(np.arange(100), 100)[:2] == pytest.approx((100, 0), abs=1e-12)
    assert class_modes([7] * 20, 100)[:2] == pytest.approx((1, math.log(100)), rel=1e-12)


@pytest.mark.parametrize(("n", "modes", "kl"), [(26_000, 1000.0, 0.01934), (2_560, 922.8, 0.2172)])
def test_a_perfect_sampler_of_stacked_mnist(n, modes, kl):
    expected_modes = 1000 * (1 - (1 - 1 / 1000) ** n)
    assert (expected_modes, expected_kl(n, 1000)) == pytest.approx((modes, kl), rel=5e-4)
    rng = np.random.default_rng(0)
    results = [class_modes(rng.integers(1000, size=n), 1000) for _ in range(60)]
    assert_mean([result.kl for result in results], expected_kl(n, 1000))
    assert_mean([result.modes for result in results], expected_modes)


@pytest.mark.parametrize(("config", "kl"), [("ring", 0.0014), ("grid", 0.0048)])
def test_a_perfect_sampler_of_gaussians(config, kl):
    centers, deviation = gaussians.modes(config)
    rng = np.random.default_rng(1)
    results = [
        point_modes(gaussians.draw(rng, centers, deviation, 2_500)["point"], centers, deviation) for _ in range(200)
    ]
    assert {result.modes for result in results} == {len(centers)}
    # in the plane the squared radius is chi-squared with 2 degrees: P(r < 3 sd) = 1 - exp(-9 / 2)
    within = 1 - math.exp(-4.5)
    assert within == pytest.approx(0.9889, abs=5e-5)
    assert_mean([result.high_quality for result in results], within)
    # of about 2,472 points
    expected = expected_kl(round(2_500 * within), len(centers))
    assert expected == pytest.approx(kl, abs=1e-4)
    assert_mean([result.kl for result in results], expected)


def test_a_collapsed_sampler():
    centers, deviation = gaussians.modes("grid")
    rng = np.random.default_rng(2)
    collapsed = gaussians.draw(rng, centers[:5], deviation, 2_500)["point"]
    modes, kl, _ = point_modes(collapsed, centers, deviation)
    assert modes == 5
    # evenly on 5 of 25, up to sampling noise
    assert kl == pytest.approx(math.log(5) + expected_kl(2_472, 5), abs=4e-3)


@pytest.mark.parametrize(
    ("points", "centers", "deviation", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 3)), 1, "points have 2 dimensions, centers 3$"),
        (np.ones((0, 2)), np.ones((4, 2)), 1, "point features have 0$"),
        (np.full((3, 2), np.nan), np.ones((4, 2)), 1, "point features have non-finite values$"),
        (np.ones((3, 2)), np.ones((4, 2)), 0, "a deviation must be above 0 and finite, got 0$"),
        (np.ones((3, 2)), np.ones((4, 2)), np.nan, "a deviation must be above 0 and finite, got nan$"),
    ],
)
def test_points_that_are_refused(points, centers, deviation, message):
    with pytest.raises(ValueError, match=message) as error:
        point_modes(points, centers, deviation)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        (np.zeros(0, int), 5, "there are no labels$"),
        ([5], 5, "sample labels must be under 5, got 5$"),
        ([-1], 5, "sample labels must be 0 or more, got -1$"),
        ([1.0], 5, "sample labels must be integers"),
        ([[1]], 5, "sample labels must be integers"),
        (3, 5, "sample labels must be integers"),
        ([1], 0, "1 class or more is needed, got 0$"),
    ],
)
def test_labels_that_are_refused(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        class_modes(labels, num_classes)
