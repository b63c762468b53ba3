import math

import jax
import numpy as np
import pytest
import scipy.stats

from jaxgen.comparison.statistics import t_interval


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


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 3.0, [1.0, math.nan], [1.0, math.inf]])
def test_values_refused(values):
    with pytest.raises(ValueError, match="an interval needs"):
        t_interval(values)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_interval([1, 2], confidence)
