import itertools
import math

import jax
import numpy as np
import pytest
import scipy.stats

from jaxgen.statistics.intervals import (
    difference_interval,
    hedges_g,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    rate_interval,
    stratified_bootstrap_interval,
    t_interval,
)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def quantiles(values, low, high):
    """Returns the smallest values that the shares `low` and `high` of the values do not exceed."""
    values = np.sort(values)
    return [values[math.ceil(share * len(values)) - 1] for share in (low, high)]


def test_five_seeds_by_hand():
    # mean 3, s^2 = 10 / 4, s / sqrt 5 = sqrt 0.5, and t_4 at 97.5% = 2.776445 (printed tables)
    interval = t_interval([1, 2, 3, 4, 5])
    assert interval.n == 5
    assert interval.mean == 3
    assert interval.low == pytest.approx(3 - 2.776445 * math.sqrt(0.5), abs=1e-6)
    assert interval.high == pytest.approx(3 + 2.776445 * math.sqrt(0.5), abs=1e-6)


def test_two_seeds_by_hand():
    # s / sqrt 2 = 1, and t_1 at 97.5% = tan(0.475 pi) = 12.706205
    assert t_interval([0, 2]) == pytest.approx((1, -11.706205, 13.706205, 2), abs=1e-6)


def test_another_confidence():
    # t_1 at 75% is tan(pi / 4) = 1
    assert t_interval([0, 2], confidence=0.5) == pytest.approx((1, 0, 2, 2), abs=1e-9)


def test_against_scipy():
    values = np.float32([3.25, -1.5, 8.0, 2.75])
    low, high = scipy.stats.ttest_1samp(values.astype(float), 0).confidence_interval(0.9)
    assert t_interval(values, 0.9) == pytest.approx((3.125, low, high, 4), rel=1e-12)


def test_one_seed_has_no_bounds():
    mean, low, high, n = t_interval([7.5])
    assert (mean, n) == (7.5, 1)
    assert math.isnan(low)
    assert math.isnan(high)


def test_equal_values():
    assert t_interval([2.5, 2.5, 2.5]) == (2.5, 2.5, 2.5, 3)


def test_coverage_at_five_seeds():
    # 4,000 intervals cover the truth 95% of the time, with a standard error of 0.34%
    values = np.asarray(10 + 3 * jax.random.normal(jax.random.key(0), (4000, 5)))
    intervals = [t_interval(row) for row in values]
    assert 0.93 < np.mean([low <= 10 <= high for _, low, high, _ in intervals]) < 0.97


def test_a_percentile_bootstrap_falls_short_at_five_seeds():
    # nearly normal resamples of sd s sqrt(4 / 5) / sqrt 5: t_4 lies within 1.96 sqrt(4 / 5) with probability 0.845
    values = 10 + 3 * normal(0, 4000, 5)
    rng = np.random.default_rng(1)
    low, high = scipy.stats.bootstrap(
        (values,), np.mean, axis=-1, n_resamples=999, method="percentile", batch=50, rng=rng
    ).confidence_interval
    assert 0.81 < np.mean((low <= 10) & (high >= 10)) < 0.86
    intervals = np.array([t_interval(row)[1:3] for row in values])
    assert 0.93 < np.mean((intervals[:, 0] <= 10) & (intervals[:, 1] >= 10)) < 0.97


@pytest.mark.parametrize("interval", [t_interval, rate_interval])
@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 3.0, [1.0, math.nan], [1.0, math.inf]])
def test_values_refused(values, interval):
    with pytest.raises(ValueError, match="an interval needs"):
        interval(values)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_refused(confidence):
    for interval in (
        lambda: t_interval([1, 2], confidence),
        lambda: rate_interval([0, 1], confidence),
        lambda: stratified_bootstrap_interval([[1], [2]], "higher", confidence),
        lambda: probability_of_improvement([1, 2], [3, 4], "higher", confidence),
        lambda: difference_interval([1, 2], [3, 4], "higher", confidence=confidence),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            interval()


# Rates


def test_rates_by_closed_forms():
    # none of n: the upper bound p has (1 - p)^n = .025
    assert rate_interval(np.zeros(10)) == pytest.approx((0, 0, 1 - 0.025**0.1, 10), rel=1e-9)
    assert rate_interval(np.ones(10)) == pytest.approx((1, 0.025**0.1, 1, 10), rel=1e-9)
    mean, low, high, n = rate_interval([1, 0, 0, 1, 0, 0, 0, 0], 0.9)
    assert (mean, n) == (0.25, 8)
    # at the lower bound 2 or more, and at the upper 2 or fewer, have probability 5%
    assert [scipy.stats.binom.sf(1, 8, low), scipy.stats.binom.cdf(2, 8, high)] == pytest.approx([0.05, 0.05], rel=1e-9)
    assert np.isnan(rate_interval([1.0])[1:3]).all()


@pytest.mark.parametrize("n", [3, 10])
def test_rates_are_covered_at_every_probability(n):
    bounds = np.array([rate_interval(np.arange(n) < k)[1:3] for k in range(n + 1)])
    for p in np.linspace(0, 1, 101):
        inside = (bounds[:, 0] <= p) & (p <= bounds[:, 1])
        assert scipy.stats.binom.pmf(np.arange(n + 1), n, p)[inside].sum() >= 0.95


def test_a_rate_is_of_ones_and_zeros():
    with pytest.raises(ValueError, match="0 or 1"):
        rate_interval([0, 0.5])


# The interquartile mean


@pytest.mark.parametrize("shape", [(5,), (3, 1), (5, 4), (7, 3), (10, 8)])
def test_interquartile_mean_is_the_trimmed_mean(shape):
    scores = normal(2, *shape)
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert interquartile_mean(scores, "higher") == pytest.approx(expected, rel=1e-12)
    assert interquartile_mean(scores, "lower") == pytest.approx(expected, rel=1e-12)


def test_interquartile_mean_by_hand():
    # sorted 0 1 2 3 4 5 6 100: the middle four are 2 3 4 5
    assert interquartile_mean([[100, 3], [1, 6], [5, 2], [4, 0]], "higher") == 3.5
    # five values lose one at each end, as 5 / 4 is rounded down
    assert interquartile_mean([1, 2, 3, 5, 100], "lower") == pytest.approx(10 / 3)


def test_diverged_seeds_are_the_worst_of_an_interquartile_mean():
    # two of eight are cut with the worst quarter: 3 4 5 6 remain if 7 8 are the best, 1 2 3 4 if they are not
    scores = [[3, 4], [None, 5], [math.nan, 6], [7, 8]]
    assert interquartile_mean(scores, "higher") == 4.5
    assert interquartile_mean(scores, "lower") == 6.5
    assert interquartile_mean([3, 4, math.inf, 5, -math.inf, 6, 7, 8], "higher") == 4.5
    # the third one reaches into the middle half
    assert interquartile_mean([None, None, None, 4, 5, 6, 7, 8], "higher") == -math.inf
    assert interquartile_mean([None, None, None, 4, 5, 6, 7, 8], "lower") == math.inf


def test_stratified_bootstrap_against_all_resamples():
    # two runs of three tasks: each task has four resamples, 64 in all; six values lose one at each end
    scores = np.array([[0.0, 10.0, 2.0], [1.0, 14.0, 2.5]])
    tasks = [list(itertools.product(column, repeat=2)) for column in scores.T]
    means = [np.sort(np.ravel(chosen))[1:5].mean() for chosen in itertools.product(*tasks)]
    mean, low, high, n = stratified_bootstrap_interval(scores, "higher", 0.7)
    assert (mean, n) == (np.sort(scores.ravel())[1:5].mean(), 6)
    assert [low, high] == pytest.approx(quantiles(means, 0.15, 0.85), abs=1e-12)


def test_runs_are_resampled_within_their_task():
    # runs are equal within a task: resampling changes nothing, though tasks differ
    assert stratified_bootstrap_interval([[0, 10, 30, 50]] * 3, "higher") == (20, 20, 20, 12)


def test_stratified_bootstrap_coverage():
    # four tasks of normal scores with one mean: the interval from ten runs each has about the stated coverage
    intervals = [stratified_bootstrap_interval(x, "higher", resamples=400) for x in normal(3, 400, 10, 4)]
    assert 0.90 < np.mean([low <= 0 <= high for _, low, high, _ in intervals]) < 0.98


def test_stratified_bootstrap_of_diverged_seeds():
    interval = stratified_bootstrap_interval([[1, 2], [3, 4], [5, 6], [None, 7]], "higher")
    assert interval.low == -math.inf
    assert math.isfinite(interval.high)
    interval = stratified_bootstrap_interval([[1, 2], [3, 4], [5, 6], [None, 7]], "lower")
    assert interval.high == math.inf
    assert math.isfinite(interval.low)


def test_one_run_has_no_bootstrap():
    for interval in (
        stratified_bootstrap_interval([[1.0, 2.0]], "higher"),
        probability_of_improvement([[1.0, 2.0]], [[0.0, 3.0], [0.5, 2.5]], "higher"),
    ):
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


# The probability of improvement


def test_probability_of_improvement_by_hand():
    # nine pairs: 1 is over none and ties none; 3 is over 2 and ties 3; 5 is over all
    assert probability_of_improvement([1, 3, 5], [2, 3, 4], "higher").mean == pytest.approx((1 + 0.5 + 3) / 9)
    assert probability_of_improvement([1, 3, 6], [2, 3, 4], "lower").mean == pytest.approx((3 + 1.5 + 0) / 9)
    # all won on one task, all lost on the other
    assert probability_of_improvement([[9, 1], [9, 1]], [[5, 5], [5, 5]], "higher") == (0.5, 0.5, 0.5, 8)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 7)])
def test_probability_of_improvement_is_mann_whitney(n, m):
    a, b = np.round(normal(4, n, 3), 1), np.round(0.5 + normal(5, m, 3), 1)
    expected = scipy.stats.mannwhitneyu(a, b, method="asymptotic").statistic.mean() / (n * m)
    assert probability_of_improvement(a, b, "higher").mean == pytest.approx(expected, rel=1e-12)
    assert probability_of_improvement(a, b, "lower").mean == pytest.approx(1 - expected, rel=1e-12)


def test_probability_of_improvement_counts_diverged_seeds_as_worst():
    # 1 loses to 2; None loses to 2 and ties the other None
    for better in ("higher", "lower"):
        assert probability_of_improvement([None, 1], [2, None], better).mean == pytest.approx(
            {"higher": (0 + 0.5 + 0 + 1) / 4, "lower": (0 + 0.5 + 1 + 1) / 4}[better]
        )


def test_probability_of_improvement_against_all_resamples():
    # two runs of a and three of b on two tasks: 4 * 4 * 27 * 27 resamples
    a, b = np.array([[1.0, 8], [4, 3]]), np.array([[2.0, 5], [3.5, 2], [0.5, 6]])
    columns = [list(itertools.product(column, repeat=len(column))) for column in (*a.T, *b.T)]
    probabilities = [
        np.mean([np.greater.outer(x, y).mean() for x, y in ((a1, b1), (a2, b2))])
        for a1, a2, b1, b2 in itertools.product(*columns)
    ]
    mean, low, high, n = probability_of_improvement(a, b, "higher", 0.86)
    assert (mean, n) == (pytest.approx((1 + 3 + 3 + 1) / 12), 10)
    assert [low, high] == pytest.approx(quantiles(probabilities, 0.07, 0.93), abs=1e-12)


# Differences


def test_welch_interval_is_scipys():
    a, b = 3 + normal(6, 5), 2 * normal(7, 8)
    low, high = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    interval = difference_interval(a, b, "higher", confidence=0.9)
    assert interval == pytest.approx((a.mean() - b.mean(), low, high, 13), rel=1e-12)
    assert difference_interval(a, b, "lower", confidence=0.9)[:3] == pytest.approx(
        (b.mean() - a.mean(), -high, -low), rel=1e-12
    )


def test_welch_interval_by_hand():
    # means 2 and 6, s^2 / n = 1 / 3 each, so 4 degrees of freedom: 4 + 2.776445 sqrt(2 / 3) (printed tables)
    half_width = 2.776445 * math.sqrt(2 / 3)
    interval = difference_interval([1, 2, 3], [5, 6, 7], "lower")
    assert interval == pytest.approx((4, 4 - half_width, 4 + half_width, 6), abs=1e-6)


def test_welch_coverage():
    a, b = normal(8, 2000, 5), 3 * normal(9, 2000, 5)
    intervals = [difference_interval(x, y, "higher") for x, y in zip(a, b, strict=True)]
    assert 0.93 < np.mean([low <= 0 <= high for _, low, high, _ in intervals]) < 0.97


def test_paired_difference_is_the_t_interval_of_the_differences():
    a, b = normal(10, 6), normal(11, 6)
    low, high = scipy.stats.ttest_rel(a, b).confidence_interval()
    expected = (np.mean(a - b), low, high, 6)
    assert difference_interval(a, b, "higher", paired=True) == pytest.approx(expected, rel=1e-12)


def test_differences_are_of_the_scores_that_there_are():
    a, b = [1, None, 3, math.inf], [5, 6, None, 7]
    assert difference_interval(a, b, "lower") == difference_interval([1, 3], [5, 6, 7], "lower")
    mean, low, _, n = difference_interval(a, b, "lower", paired=True)
    assert (mean, n) == (4, 1)
    assert math.isnan(low)


def test_differences_without_spread():
    assert difference_interval([2, 2], [5, 5], "lower") == (3, 3, 3, 4)
    # one arm alone spreads: mean 5, s^2 / n = 1, and t_1 at 97.5%
    expected = (3, 3 - 12.706205, 3 + 12.706205, 4)
    assert difference_interval([2, 2], [4, 6], "lower") == pytest.approx(expected, abs=1e-6)
    assert math.isnan(difference_interval([2], [5, 6], "lower").high)


def test_hedges_g_by_hand():
    # difference 4, pooled s = 1, 4 degrees of freedom: J = Gamma(2) / (sqrt 2 Gamma(1.5)) = sqrt(2 / pi)
    expected = 4 * math.sqrt(2 / math.pi)
    assert hedges_g([1, 2, 3], [5, 6, 7], "lower") == pytest.approx(expected, rel=1e-12)
    assert hedges_g([1, 2, 3], [5, 6, 7], "higher") == pytest.approx(-expected, rel=1e-12)
    assert hedges_g([1, None, 2, 3], [5, 6, 7], "lower") == pytest.approx(expected, rel=1e-12)


def test_hedges_g_is_unbiased():
    # two normals one standard deviation apart; without J the mean would be 1 / 0.903, seven standard errors away
    a, b = 1 + normal(12, 5000, 5), normal(13, 5000, 5)
    values = np.array([hedges_g(x, y, "higher") for x, y in zip(a, b, strict=True)])
    assert abs(values.mean() - 1) < 3 * values.std() / math.sqrt(5000)


def test_hedges_g_without_a_scale():
    assert math.isnan(hedges_g([1, 1], [2, 2], "higher"))
    assert math.isnan(hedges_g([1, 1.5], [2], "higher"))


# All of them

ESTIMATES = {
    "interquartile": lambda seed: stratified_bootstrap_interval(normal(15, 6, 3), "higher", seed=seed),
    "improvement": lambda seed: probability_of_improvement(
        normal(16, 6, 3), normal(17, 5, 3), "lower", resamples=99, seed=seed
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_only_the_seed_decides(name):
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        first = ESTIMATES[name](3)
        np.random.seed(1)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        assert ESTIMATES[name](3) == first
        assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
        assert ESTIMATES[name](4) != first
    finally:
        np.random.set_state(state)  # noqa: NPY002


@pytest.mark.parametrize("better", [None, "up", 1])
def test_directions_refused(better):
    for estimate in (
        lambda: interquartile_mean([1, 2], better),
        lambda: stratified_bootstrap_interval([1, 2], better),
        lambda: probability_of_improvement([1, 2], [3, 4], better),
        lambda: difference_interval([1, 2], [3, 4], better),
        lambda: hedges_g([1, 2], [3, 4], better),
    ):
        with pytest.raises(ValueError, match='"higher" or "lower" is better'):
            estimate()


@pytest.mark.parametrize("scores", [[], 3.0, np.zeros((2, 0)), np.zeros((2, 2, 2))])
def test_scores_refused(scores):
    with pytest.raises(ValueError, match=r"scores are \[runs\]"):
        interquartile_mean(scores, "higher")
    with pytest.raises(ValueError, match=r"scores are \[runs\]"):
        probability_of_improvement([1.0], scores, "higher")


def test_arms_refused():
    with pytest.raises(ValueError, match="same tasks, got 2 and 3"):
        probability_of_improvement(np.zeros((2, 2)), np.zeros((2, 3)), "higher")
    with pytest.raises(ValueError, match="needs one task, got 2"):
        difference_interval(np.zeros((2, 2)), np.zeros((2, 2)), "higher")
    with pytest.raises(ValueError, match="same seeds, got 2 and 3"):
        difference_interval([1, 2], [1, 2, 3], "higher", paired=True)
    with pytest.raises(ValueError, match="of each arm"):
        difference_interval([1, 2], [None, None], "higher")
    with pytest.raises(ValueError, match="of each arm"):
        hedges_g([None], [1, 2], "higher")
    with pytest.raises(ValueError, match="in one pair"):
        difference_interval([1, None], [None, 1], "higher", paired=True)


def test_an_interval_of_the_mean_stays_within_bounds():
    low, high = t_interval([0.9, 0.99, 0.999])[1:3]
    assert (low, high) == pytest.approx((0.827006, 1.098994), abs=1e-6)
    assert mean_interval([0.9, 0.99, 0.999]) == t_interval([0.9, 0.99, 0.999])
    assert mean_interval([0.9, 0.99, 0.999], bounds=(0, 1))[1:3] == (low, 1)
    assert mean_interval([0.9, 0.99, 0.999], bounds=(0.85, None))[1:3] == (0.85, high)
    assert mean_interval([1, 0, 0], rate=True, bounds=(0, 1)) == rate_interval([1, 0, 0])
    assert np.isnan(mean_interval([0.5], bounds=(0, 1))[1:3]).all()
