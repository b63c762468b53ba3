import itertools
import math

import numpy as np
import pytest
import scipy.stats

from jaxgen.statistics.permutations import SPLITS, holm, permutation_test, seeds_needed, sign_flip_test, smallest_p


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def two_sided(values, seen):
    """Twice the smaller tail's share, in exact integers."""
    greater, less = sum(value >= seen for value in values), sum(value <= seen for value in values)
    return min(1, 2 * min(greater, less) / len(values))


# Unpaired


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (2, 6), (6, 3), (1, 4), (8, 8)])
def test_permutation_test_is_the_enumeration(n, m):
    # multiples of 1/64: sums are exact
    a, b = np.round(64 * normal(0, n)) / 64 + 0.5, np.round(64 * normal(1, m)) / 64
    pooled = [*a, *b]
    sums = [sum(pooled[i] for i in chosen) for chosen in itertools.combinations(range(n + m), n)]
    assert permutation_test(a, b) == (two_sided(sums, sum(a)), True)
    if n == m:
        # the same as the share of differences of means at least as far from 0
        differences = np.abs(2 * np.array(sums) - sum(pooled))
        assert permutation_test(a, b).p == np.mean(differences >= abs(2 * sum(a) - sum(pooled)))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 5), (3, 7)])
def test_permutation_test_is_scipys(n, m):
    a, b = normal(2, n), 1 + 2 * normal(3, m)
    result = scipy.stats.permutation_test(
        (a, b), lambda a, b, axis: a.mean(axis) - b.mean(axis), vectorized=True, n_resamples=np.inf
    )
    assert permutation_test(a, b) == (pytest.approx(result.pvalue, rel=1e-12), True)


def test_permutation_test_of_ranks_is_mann_whitney():
    a, b = normal(4, 7), 0.5 + normal(5, 8)
    ranks = scipy.stats.rankdata([*a, *b])
    expected = scipy.stats.mannwhitneyu(a, b, method="exact").pvalue
    assert permutation_test(ranks[:7], ranks[7:]).p == pytest.approx(expected, rel=1e-12)


def test_permutation_test_by_hand():
    # of 20 splits, the most extreme one and its mirror
    assert permutation_test([1, 2, 3], [4, 5, 6]) == (2 / 20, True)
    # sums of two of 1 2 4 8: 3 5 9 6 10 12; of these 5 and less are 3 and 5
    assert permutation_test([1, 4], [2, 8]) == (2 * 2 / 6, True)
    # one value against three: 8 is the largest of four, each equally likely to be the single one
    assert permutation_test([8], [1, 2, 4]) == (2 / 4, True)
    assert permutation_test([3, 3], [3, 3, 3]) == (1, True)


def test_ties_of_values_large_beside_their_differences():
    # tenths are not binary fractions: sums of equal tenths differ in their last bits
    tenths = np.random.default_rng(6).integers(0, 6, (40, 8))
    for row in tenths:
        sums = [sum(chosen) for chosen in itertools.combinations(row.tolist(), 4)]
        values = 10_000 + row / 10
        assert permutation_test(values[:4], values[4:]).p == pytest.approx(two_sided(sums, row[:4].sum()), rel=1e-12)


def test_sums_that_differ_by_a_millionth_are_no_ties():
    # of the seven splits, the observed one alone is the least: 0 is below 1e-6
    assert permutation_test([0], [1e-6, 1, 2, 3, 4, 5]).p == pytest.approx(2 / 7, rel=1e-12)
    # of 16 choices of signs, the observed one alone has the greatest sum
    assert sign_flip_test([1e-6, 1, 2, 4]).p == 2 / 16


def test_tasks_are_split_apart():
    # three tasks of 2 against 2: 6^3 joint splits, by their integer sums
    a, b = np.array([[1, 7, 3], [5, 9, 8]]), np.array([[2, 4, 6], [0, 3, 1]])
    tasks = np.concatenate([a, b]).T.tolist()
    sums = [sum(map(sum, c)) for c in itertools.product(*(list(itertools.combinations(t, 2)) for t in tasks))]
    assert len(sums) == 6**3
    assert permutation_test(a, b) == (pytest.approx(two_sided(sums, a.sum()), rel=1e-12), True)


def test_random_splits():
    # 11 against 11 have 705,432 splits; for ranks the exact p is Mann-Whitney's
    a, b = normal(7, 11), 0.7 + normal(8, 11)
    ranks = scipy.stats.rankdata([*a, *b])
    p, exact = permutation_test(ranks[:11], ranks[11:])
    expected = scipy.stats.mannwhitneyu(a, b, method="exact").pvalue
    assert not exact
    # twice a share of random splits, within four standard errors
    assert abs(p - expected) < 4 * 2 * math.sqrt(expected / 2 / SPLITS)
    # p is never 0: the observed split is one of those counted
    assert permutation_test(np.arange(20), 100 + np.arange(20)).p == 2 / SPLITS


def test_random_splits_of_tasks():
    # two tasks of 6 against 6 have 924^2 joint splits; the sums of ranks are nearly normal, with the
    # variance n m (n + m + 1) / 12 each
    ranks = np.stack([scipy.stats.rankdata(column) for column in normal(9, 2, 12)], axis=1)
    p, exact = permutation_test(ranks[:6], ranks[6:])
    z = (ranks[:6].sum() - 2 * 39) / math.sqrt(2 * 39)
    assert not exact
    # integer sums: the normal's tail begins half a step nearer
    assert p == pytest.approx(2 * scipy.stats.norm.sf(abs(z) - 0.5 / math.sqrt(78)), abs=0.01)


# Paired


@pytest.mark.parametrize("n", [1, 2, 5, 6, 10])
def test_sign_flip_test_is_the_enumeration(n):
    differences = np.round(64 * normal(10, n)) / 64 + 0.25
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in itertools.product([1, -1], repeat=n)
    ]
    p = sign_flip_test(differences)
    assert p == (two_sided(sums, sum(differences)), True)
    assert p.p == np.mean(np.abs(sums) >= abs(sum(differences)))


def test_sign_flip_test_is_scipys():
    a, b = normal(11, 8), 0.5 + normal(12, 8)
    result = scipy.stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert sign_flip_test(a - b).p == pytest.approx(result.pvalue, rel=1e-12)


def test_sign_flip_test_by_hand():
    assert sign_flip_test([1, 2, 3, 4, 5]) == (2 / 32, True)
    # of 1 2 4 the sums 7, 5, 3, 1 and their opposites: 3 or more are 7, 5, 3
    assert sign_flip_test([1, -2, 4]) == (2 * 3 / 8, True)
    # 0.3 is 0.1 + 0.2 up to the last bit: +-(0.3 - 0.1 - 0.2) count as one sum
    assert sign_flip_test([0.3, -0.1, -0.2]) == (1, True)
    assert sign_flip_test([0, 0, 0]) == (1, True)


def test_sign_flip_test_of_signed_ranks_is_wilcoxons():
    differences = 0.3 + normal(13, 12)
    ranks = np.sign(differences) * scipy.stats.rankdata(np.abs(differences))
    expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert sign_flip_test(ranks).p == pytest.approx(expected, rel=1e-12)


def test_random_signs():
    differences = 0.3 + normal(14, 20)
    ranks = np.sign(differences) * scipy.stats.rankdata(np.abs(differences))
    p, exact = sign_flip_test(ranks)
    expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert not exact
    assert abs(p - expected) < 4 * 2 * math.sqrt(expected / 2 / SPLITS)
    assert sign_flip_test(np.arange(1, 31)).p == 2 / SPLITS


# Size


def test_size_unpaired():
    # 5,000 pairs of identical arms: p <= 0.05 means the 6 most extreme of 252 splits on either side
    rejected = sum(permutation_test(a, b).p <= 0.05 for a, b in normal(15, 5000, 2, 5))
    size = 12 / 252
    assert scipy.stats.binom.ppf(0.001, 5000, size) <= rejected <= scipy.stats.binom.ppf(0.999, 5000, size)


def test_size_paired():
    # of 2^6 choices of signs, the most extreme one on either side
    rejected = sum(sign_flip_test(a - b).p <= 0.05 for a, b in normal(16, 5000, 2, 6))
    size = 2 / 64
    assert scipy.stats.binom.ppf(0.001, 5000, size) <= rejected <= scipy.stats.binom.ppf(0.999, 5000, size)


# Smallest p-values


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 4), (5, 5), (2, 5), (7, 3), (1, 1)])
def test_smallest_p_is_reached_unpaired(n, m):
    assert permutation_test(np.arange(n), 10 + np.arange(m)).p == pytest.approx(smallest_p(n, m), rel=1e-12)
    # nothing is below it, however extreme a single value is
    assert permutation_test([100, *range(n - 1)], 200 + np.arange(m)).p >= smallest_p(n, m) * (1 - 1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_smallest_p_is_reached_paired(n):
    assert sign_flip_test(1 + np.arange(n)).p == smallest_p(n, n, paired=True)


def test_smallest_p_by_hand():
    assert [smallest_p(n, n) for n in (3, 4, 5)] == pytest.approx([0.1, 2 / 70, 2 / 252], rel=1e-12)
    assert [smallest_p(n, n, paired=True) for n in (1, 5, 6)] == [1, 0.0625, 0.03125]
    assert smallest_p(2, 2, tasks=3) == pytest.approx(2 / 216)
    assert smallest_p(3, 3, paired=True, tasks=2) == 2 / 64
    # beyond SPLITS, the resolution of a random test
    assert smallest_p(30, 30) == smallest_p(5, 5, tasks=10) == 2 / SPLITS


def test_seeds_needed_by_hand():
    # ten pairs: 20 / C(10, 5) = 0.079, 20 / C(12, 6) = 0.022; 20 / 2^8 = 0.078, 20 / 2^9 = 0.039
    assert seeds_needed(10) == 6
    assert seeds_needed(10, paired=True) == 9
    # one: 2 / C(6, 3) = 0.1, 2 / C(8, 4) = 0.029; 2 / 2^5 = 0.0625, 2 / 2^6 = 0.031
    assert seeds_needed(1) == 4
    assert seeds_needed(1, paired=True) == 6
    # 2 / C(2, 1)^5 = 0.0625 on five tasks, 2 / C(4, 2)^5
    assert seeds_needed(1, tasks=5) == 2
    assert seeds_needed(1, level=0.1) == 3
    with pytest.raises(ValueError, match="2,501 comparisons are more than"):
        seeds_needed(2501)


# Holm


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and none below the one before it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06], abs=1e-15)
    # .005 * 3, .02 * 2, .6
    assert holm([0.6, 0.005, 0.02]) == pytest.approx([0.6, 0.015, 0.04], abs=1e-15)
    assert holm([0.5, 0.4]).tolist() == [0.8, 0.8]
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []


def test_holm_is_the_closed_test_of_bonferroni():
    # adjusted p is the largest Bonferroni p of the intersections that contain the hypothesis
    for p_values in np.random.default_rng(17).uniform(0, 0.3, (20, 5)):
        subsets = [s for r in range(1, 6) for s in itertools.combinations(range(5), r)]
        expected = [max(min(1, len(s) * min(p_values[list(s)])) for s in subsets if i in s) for i in range(5)]
        assert holm(p_values) == pytest.approx(expected, rel=1e-12)


# All of them


@pytest.mark.parametrize(
    "test", [lambda seed: permutation_test(normal(18, 12), normal(19, 12), seed=seed).p,
             lambda seed: sign_flip_test(normal(20, 20), seed=seed).p]
)  # fmt: skip
def test_only_the_seed_decides(test):
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        first = test(3)
        np.random.seed(1)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        assert test(3) == first
        assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
        assert test(4) != first
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_arguments_are_left_alone():
    a, b = normal(21, 4), normal(22, 4)
    kept = a.copy(), b.copy()
    permutation_test(a, b)
    sign_flip_test(a)
    assert np.array_equal(kept, (a, b))


@pytest.mark.parametrize("values", [[], 1.0, np.zeros((2, 2, 2)), [1, math.nan], [1, math.inf]])
def test_values_refused(values):
    with pytest.raises(ValueError, match="a test needs"):
        permutation_test([1, 2], values)
    with pytest.raises(ValueError, match="a test needs" if np.ndim(values) == 1 else "one a pair"):
        sign_flip_test(values)


def test_arms_refused():
    with pytest.raises(ValueError, match="same tasks, got 1 and 2"):
        permutation_test([1, 2], [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="no paired test of 3 against 4 seeds"):
        smallest_p(3, 4, paired=True)
    with pytest.raises(ValueError, match="no test of 0 against 4 seeds"):
        smallest_p(0, 4)


@pytest.mark.parametrize("p_values", [[0.5, 1.1], [-0.1], [math.nan], [[0.5]]])
def test_p_values_refused(p_values):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm(p_values)
