"""Balls and nearest neighbors against loops over all pairs; integer samples have exact distances, including ties."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from jaxgen.metrics.distances import _squared
from jaxgen.metrics.neighbors import (
    _expected_coverage,
    clipped_scores,
    density_coverage,
    memorization,
    nearest_distances,
    nearest_neighbor_error,
    neighbor_scores,
    precision_recall,
)


def normal(seed, n, dimensions, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, dimensions)).astype(dtype)


def squared_distances(a, b):
    """Exact squared distances of integer samples."""
    return np.square(np.int64(a)[:, None] - np.int64(b)).sum(axis=-1)


def scores_from(real_real, fake_fake, real_fake, k):
    """Scores by definition, from full distance matrices."""
    real_radii = np.sort(np.where(np.eye(len(real_real)), np.inf, real_real), axis=1)[:, k - 1]
    fake_radii = np.sort(np.where(np.eye(len(fake_fake)), np.inf, fake_fake), axis=1)[:, k - 1]
    in_real, in_fake = real_fake < real_radii[:, None], real_fake < fake_radii
    return (
        in_real.any(axis=0).mean(),
        in_fake.any(axis=1).mean(),
        in_real.sum() / (k * len(fake_fake)),
        in_real.any(axis=1).mean(),
    )


# Balls


def test_scores_by_hand():
    # radii of real samples 1, 1, 2, 4, 43, of fakes 1.5, 1.5, 2, 1, 1, 1.5
    real = [[0.0], [1.0], [3.0], [7.0], [50.0]]
    fake = [[0.5], [2.0], [4.0], [200.0], [201.0], [202.5]]
    # 0.5 is in the balls of 0 and 1; 2 in that of 3 and on the border of that of 1; 4 in those of 3 and 7.
    # 0 and 1 are in the ball of 0.5, 1 and 3 in that of 2, 3 in that of 4.
    scores = neighbor_scores(real, fake, k=1)
    assert scores == (3 / 6, 3 / 5, 5 / 6, 4 / 5)
    assert scores._fields == ("precision", "recall", "density", "coverage")
    assert precision_recall(real, fake, k=1) == (3 / 6, 3 / 5)
    assert density_coverage(real, fake, k=1) == (5 / 6, 4 / 5)
    # from the fakes to the real samples; no two of the shares above agree by chance
    assert neighbor_scores(fake, real, k=1) == (3 / 5, 3 / 6, 5 / 5, 3 / 6)
    assert density_coverage(real, [[4.0]], k=1) == (2, 2 / 5)


points = st.integers(1, 3).flatmap(
    lambda dimensions: st.tuples(
        *2 * [st.lists(st.tuples(*dimensions * [st.integers(-3, 3)]), min_size=4, max_size=12)]
    )
)


@settings(deadline=None, max_examples=150)
@given(
    sets=points,
    k=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float64, np.int32]),
    offset=st.sampled_from([0, 4096, -(10**6)]),
    outlier=st.sampled_from([0, 2**20]),
    block=st.sampled_from([1, 30, 2**20]),
)
def test_scores_of_whole_numbers_with_ties_and_duplicates(sets, k, dtype, offset, outlier, block):
    real, fake = (np.array(x, dtype) + dtype(offset) for x in sets)
    fake[0, 0] += dtype(outlier)
    pairs = (real, real), (fake, fake), (real, fake)
    expected = scores_from(*(squared_distances(a, b) for a, b in pairs), k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxgen.metrics.distances.BLOCK", block)
        scores = neighbor_scores(real, fake, k)
        assert scores == pytest.approx(expected, rel=1e-12)
        assert precision_recall(real, fake, k) == scores[:2]
        assert density_coverage(real, fake, k) == scores[2:]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m", "dimensions", "k"), [(300, 200, 7, 5), (200, 300, 64, 3), (400, 50, 1, 1)])
def test_scores_against_scipy_distances(n, m, dimensions, k, dtype, monkeypatch):
    monkeypatch.setattr("jaxgen.metrics.distances.BLOCK", 64 * n)
    real, fake = normal(0, n, dimensions, dtype), 0.3 + normal(1, m, dimensions, dtype)
    pairs = (real, real), (fake, fake), (real, fake)
    expected = scores_from(*(cdist(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs), k)
    assert neighbor_scores(real, fake, k) == pytest.approx(expected, rel=1e-12)
    assert 0 < min(expected[:2]) < max(expected[:2]) < 1


@pytest.mark.slow
def test_float32_scores_of_50_000_against_scikit_learn_in_float64():
    mixing = normal(3, 64, 64) / 8
    real, fake = (np.float32(normal(seed, n, 64) @ mixing) for seed, n in ((4, 50_000), (5, 10_000)))
    fake *= np.float32(0.95)

    def radii(features):
        nearest = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(np.float64(features))
        return nearest.kneighbors()[0][:, -1]  # without a query, a sample is not its own neighbor

    real_radii, fake_radii = radii(real), radii(fake)
    in_real, covered, recalled, start = np.zeros(len(fake)), np.zeros(len(real), bool), np.zeros(len(real), bool), 0
    for distances in pairwise_distances_chunked(np.float64(fake), np.float64(real), working_memory=512):
        rows = slice(start, start := start + len(distances))
        in_ball = distances < real_radii
        in_real[rows] = in_ball.sum(axis=1)
        covered |= in_ball.any(axis=0)
        recalled |= (distances < fake_radii[rows, None]).any(axis=0)
    expected = ((in_real > 0).mean(), recalled.mean(), in_real.mean() / 5, covered.mean())
    assert min(expected[:2]) > 0.1
    assert max(expected[:2]) < 0.95
    np.testing.assert_allclose(neighbor_scores(real, fake, 5), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0, 1000])
def test_a_set_against_itself_in_another_order(mean, dtype, monkeypatch):
    """Each fake is in its own ball and in those whose 1st to 4th neighbor it is; for the 5th it is on the border."""
    monkeypatch.setattr("jaxgen.metrics.distances.BLOCK", 7 * 150)
    real = normal(2, 150, 37, dtype) + dtype(mean)
    fake = real[np.random.default_rng(3).permutation(150)]
    assert neighbor_scores(real, fake, k=5) == (1, 1, 1, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_enough_copies_leave_a_ball_empty(dtype):
    once = normal(4, 20, 10, dtype)
    for copies, score in ((5, 1), (6, 0)):
        real = np.tile(once, (copies, 1))
        precision, recall, _, coverage = neighbor_scores(real, real, k=5)
        assert (precision, recall, coverage) == (score, score, score), copies


@pytest.mark.parametrize("exponent", [-70, 70])
def test_the_unit_of_the_features_does_not_matter(exponent):
    """Scores are scale-invariant even where float32 squares underflow or overflow."""
    real, fake = normal(5, 100, 16, np.float32), 0.2 + normal(6, 80, 16, np.float32)
    unit = np.float32(2.0**exponent)
    assert neighbor_scores(real * unit, fake * unit) == neighbor_scores(real, fake)


def test_points_whose_float32_squares_vanish_beside_others():
    """Opposite outliers keep the center at 0 and the scale at 1."""
    outliers = np.array([[1, 0], [-1, 0]])
    real, fake = (np.float32(np.concatenate([2.0**-73 * normal(seed, 60, 2), outliers])) for seed in (5, 6))
    expected = neighbor_scores(np.float64(real), np.float64(fake))
    assert neighbor_scores(real, fake) == expected
    assert expected.precision > 0.8


def test_clusters_that_float32_products_cannot_resolve():
    """Within the ten tight clusters, rounding of the products is as large as the distances."""
    rng = np.random.default_rng(7)
    centers = rng.integers(-50_000, 50_000, (10, 24))
    real, fake = (rng.integers(0, 12, (20, 10, 24)) + centers for _ in range(2))
    real, fake = real.reshape(-1, 24), fake.reshape(-1, 24)
    pairs = (real, real), (fake, fake), (real, fake)
    expected = scores_from(*(squared_distances(a, b) for a, b in pairs), 5)
    assert neighbor_scores(np.float32(real), np.float32(fake)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("collapsed", [False, True])
def test_few_distances_are_summed_directly(collapsed, monkeypatch):
    """Far fewer than all pairs, even with a large mean, or if all fakes are equal."""
    settled, squared = [], _squared
    monkeypatch.setattr(
        "jaxgen.metrics.distances._squared",
        lambda block, row, column: settled.append(len(row)) or squared(block, row, column),
    )
    n, k = 800, 5
    real, fake = (1000 + normal(seed, n, 64, np.float32) for seed in (22, 23))
    neighbor_scores(real, np.repeat(fake[:1], n, axis=0) if collapsed else fake, k)
    assert sum(settled) < 1.1 * 2 * (2 * n * k)  # the k nearest in either set, twice; a fortieth of all pairs


def test_a_perfect_generators_density_and_coverage():
    """Averages over many small sets are within four standard errors of the expectation."""
    n, m, k, repeats = 12, 20, 3, 400
    rng = np.random.default_rng(8)
    scores = [density_coverage(rng.normal(size=(n, 2)), rng.normal(size=(m, 2)), k) for _ in range(repeats)]
    mean, error = np.mean(scores, axis=0), np.std(scores, axis=0) / np.sqrt(repeats)
    expected = 1, 1 - np.prod([(n - i) / (n + m - i) for i in range(1, k + 1)])
    assert (np.abs(mean - expected) < 4 * error).all()
    assert error.max() < 0.02


def test_a_perfect_generators_precision_falls_with_the_dimension():
    for dimensions, precision in ((2, 0.99), (32, 0.79), (256, 0.59)):
        found = precision_recall(normal(9, 2000, dimensions), normal(10, 2000, dimensions))
        assert found == pytest.approx((precision, precision), abs=0.04)


# Nearest neighbors


def test_nearest_by_hand():
    # distances 5 (3, 4, 5), 13 (5, 12, 13), and sqrt 2 to two references, of which the first counts
    references = [[0, 0], [10, 10], [12, 12], [100, 100]]
    distances, indices = nearest_distances([[3, 4], [105, 112], [11, 11]], references)
    np.testing.assert_array_equal(distances, [5, 13, np.sqrt(2)])
    np.testing.assert_array_equal(indices, [0, 3, 1])
    assert distances.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_against_scipy_distances(dtype, monkeypatch):
    monkeypatch.setattr("jaxgen.metrics.distances.BLOCK", 1000)
    monkeypatch.setattr("jaxgen.metrics.distances.PAIRS", 100)
    queries, references = 3 + normal(11, 90, 12, dtype), 3 + normal(12, 300, 12, dtype)
    all_pairs = cdist(queries.astype(np.float64), references.astype(np.float64))
    distances, indices = nearest_distances(queries, references)
    np.testing.assert_array_equal(indices, all_pairs.argmin(axis=1))
    np.testing.assert_allclose(distances, all_pairs.min(axis=1), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_copy_is_found_at_distance_0(dtype):
    references = 1000 + normal(13, 400, 33, dtype)
    order = np.random.default_rng(14).permutation(400)
    distances, indices = nearest_distances(references[order], references)
    np.testing.assert_array_equal(indices, order)
    assert not distances.any()


def test_a_distance_has_the_same_bits_from_either_side(monkeypatch):
    """Holds for different blocks and positions."""
    monkeypatch.setattr("jaxgen.metrics.distances.BLOCK", 500)
    a, b = normal(15, 60, 29, np.float32), normal(16, 45, 29, np.float32)
    forth, back = nearest_distances(a, b), nearest_distances(b, a)
    mutual = np.flatnonzero(back.indices[forth.indices] == np.arange(60))
    assert len(mutual) > 10
    np.testing.assert_array_equal(forth.distances[mutual], back.distances[forth.indices[mutual]])


# Memorization


def test_memorization_by_hand():
    # distances from the training set: test images 1 and 2, fakes 0, 0.5, 1 and 3; of the 8 pairs
    # the fake is closer in 2 + 3, and one is tied
    scores = memorization([[0.0], [10.0]], [[1.0], [12.0]], [[0.0], [10.5], [11.0], [13.0]])
    assert (scores.probability, scores.test_median, scores.fake_median) == (5.5 / 8, 1.5, 0.75)


def test_memorizations_p_value_by_hand():
    # one of 20 ways to choose three of six ranks is as extreme, on either side
    train, test, fake = [[0.0]], [[4.0], [5.0], [6.0]], [[1.0], [2.0], [3.0]]
    scores = memorization(train, test, fake)
    assert (scores.probability, scores.p_value) == (1, pytest.approx(2 / 20))
    scores = memorization(train, fake, test)
    assert (scores.probability, scores.p_value) == (0, pytest.approx(2 / 20))


def test_copies_new_images_and_far_ones():
    train, test, fake = (normal(seed, 300, 8, np.float32) for seed in (17, 18, 19))
    copies = memorization(train, test, train[:200])
    assert (copies.probability, copies.fake_median) == (1, 0)
    assert copies.p_value < 1e-50
    new = memorization(train, test, fake)
    assert new.probability == pytest.approx(0.5, abs=4 * np.sqrt(601 / (12 * 300 * 300)))
    assert new.p_value > 0.01
    assert memorization(train, test, fake + np.float32(5)).probability < 0.01


def test_memorization_where_all_distances_are_equal():
    same = np.ones((9, 2))
    assert memorization(same, same, same) == (0.5, 1, 0, 0)


# Clipped density and coverage


def expected_coverage(n, m, k):
    """f(m) exactly, from the probability that j of the fakes come before the k-th of the n - 1 real samples."""
    others = n - 1
    orders = [comb(k - 1 + j, j) * comb(others - k + m - j, m - j) for j in range(m + 1)]
    assert sum(orders) == comb(others + m, m)
    return Fraction(sum(min(j, k) * count for j, count in enumerate(orders)), k * sum(orders))


def clipped_by_loops(real, fake, k):
    """Clipped density and coverage of lists of whole numbers by definition, in fractions but for the median."""
    n, m = len(real), len(fake)

    def squared(a, b):
        return sum((int(x) - int(y)) ** 2 for x, y in zip(a, b, strict=True))

    radii = [sorted(squared(x, real[j]) for j in range(n) if j != i)[k - 1] for i, x in enumerate(real)]
    low, high = sorted(radii)[(n - 1) // 2], sorted(radii)[n // 2]
    median = low if low == high else (np.sqrt(low) + np.sqrt(high)) ** 2 / 4

    def density(points, own):
        balls = [
            sum(
                squared(y, x) <= min(r, median) for j, (x, r) in enumerate(zip(real, radii, strict=True)) if j != own(i)
            )
            for i, y in enumerate(points)
        ]
        return Fraction(sum(min(count, k) for count in balls), len(points))

    counts = [sum(squared(y, x) < r for y in fake) for x, r in zip(real, radii, strict=True)]
    covered = Fraction(sum(min(count, k) for count in counts), k * n)
    below = sum(expected_coverage(n, some, k) < covered for some in range(m + 1))
    return float(min(1, density(fake, lambda i: None) / density(real, lambda i: i))), below / (m + 1)


def test_clipped_scores_by_hand():
    # radii of real samples 1, 1, 2, 4, 43, whose median is 2: balls to 1, 1, 2, 2, 2
    real = [[0.0], [1.0], [3.0], [7.0], [50.0]]
    # real samples lie in others' balls: 0 in that of 1, 1 in those of 0 and 3 (on its border), 3, 7 and 50 in none;
    # each counts once at most, so real samples have 2 / 5. 0.5 is in the balls of 0 and 1, 2 in those of 1 and 3, 5 in
    # those of 3 and 7, 4 in that of 3, 9.5 and 90 in none: 4 / 6
    fake = [[0.5], [2.0], [5.0], [4.0], [9.5], [90.0]]
    # the balls of coverage are not cut and have no border: that of 50 reaches from 7 to 93. Each holds a fake, so
    # C = 1, and f(m) = m / (4 + m) is below that for all m
    assert clipped_scores(real, fake, k=1) == (1, 1)
    # 2 is in balls of density; of coverage, on the border of 1's, and only 3, 7 and 50 have a fake: C = 3 / 5 > f(4)
    assert clipped_scores(real, [[9.5], [90.0], [2.0], [100.0]], k=1) == ((1 / 4) / (2 / 5), 1)
    # none is in a ball of density; 7 and 50 have a fake in theirs, and f(m) < 2 / 5 for m = 0, 1 and 2 of 0 to 4
    assert clipped_scores(real, [[9.5], [90.0], [200.0], [201.0]], k=1) == (0, 3 / 5)


def test_the_median_radius_of_clipped_density():
    # radii 1, 1, 3 and 3: the median is 2, the root of their mean square 2.24. 8 is on the border of 10's ball; of the
    # real samples, 0 and 1 are in each other's
    real = [[0.0], [1.0], [10.0], [13.0]]
    assert clipped_scores(real, [[7.9], [8.0], [100.0], [200.0]], k=1).clipped_density == (1 / 4) / (2 / 4)
    # all radii are the root of 13, whose square in float64 is less than 13, and all neighbors are on the border
    assert clipped_scores([[0, 0], [2, 3], [4, 6]], [[-2, -3], [9, 9]], k=1).clipped_density == 1 / 2


@settings(deadline=None, max_examples=150)
@given(
    sets=points,
    k=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float64, np.int32]),
    offset=st.sampled_from([0, -(10**6)]),
    block=st.sampled_from([1, 30, 2**20]),
)
def test_clipped_scores_of_whole_numbers_with_ties_and_duplicates(sets, k, dtype, offset, block):
    real, fake = (np.array(x, dtype) + dtype(offset) for x in sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxgen.metrics.distances.BLOCK", block)
        assert clipped_scores(real, fake, k) == pytest.approx(clipped_by_loops(real, fake, k), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "k"), [(2, 3, 1), (6, 9, 5), (7, 40, 5), (40, 7, 5), (300, 200, 5), (100, 300, 20), (50_000, 9, 5)]
)
def test_the_expected_coverage_against_exact_fractions(n, m, k):
    expected = [float(expected_coverage(n, some, k)) for some in range(m + 1)]
    # f(m) is a difference from 1; clipped_scores allows 1e-13
    np.testing.assert_allclose(_expected_coverage(n, m, k), expected, rtol=1e-12, atol=1e-14)


def test_the_expected_coverage_is_that_of_a_perfect_generator():
    """The mean of C over drawn sets, C from loops, within four standard errors."""
    n, m, k, repeats = 12, 8, 3, 600
    rng = np.random.default_rng(24)
    found = []
    for _ in range(repeats):
        real, fake = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        radii = np.sort(cdist(real, real), axis=1)[:, k]
        found.append(np.minimum((cdist(real, fake) < radii[:, None]).sum(axis=1), k).mean() / k)
    error = np.std(found) / np.sqrt(repeats)
    assert error < 0.01
    assert np.mean(found) == pytest.approx(_expected_coverage(n, m, k)[m], abs=4 * error)


# (real samples, fakes, dimensions, k, shift) -> clipped density and coverage by the authors' code,
# github.com/nicolassalvy/ClippedDensityCoverage at 5e477ae
BY_THE_AUTHORS = {
    (200, 150, 3, 5, 0.3): (0.443833104080697, 0.3841059602649007),
    (150, 400, 6, 1, 0.1): (0.582089552238806, 0.513715710723192),
    (301, 300, 8, 10, 0.12): (0.8575772803410995, 0.8073089700996677),
}


def scattered(num, dimensions, start):
    """Features without ties, the same on every machine."""
    whole = np.arange(start, start + num * dimensions, dtype=np.int64)
    return ((whole * whole * 7919 + whole * 104729) % 1000003 / 1000003).reshape(num, dimensions)


@pytest.mark.parametrize(("sizes", "expected"), BY_THE_AUTHORS.items())
def test_clipped_scores_are_those_of_the_authors_code(sizes, expected):
    n, m, dimensions, k, shift = sizes
    found = clipped_scores(scattered(n, dimensions, 1), shift + scattered(m, dimensions, 10**6), k)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_far_fakes_count_as_their_share():
    """Density falls as the share of the others, and coverage stays at the number of them."""
    real, good = normal(25, 300, 4), 0.3 + normal(26, 200, 4)
    density, coverage = clipped_scores(real, good)
    assert 0.5 < density < 1
    assert 0.5 < coverage < 1
    for far in (1, 200, 1800):
        found = clipped_scores(real, np.concatenate([good, 1000 + normal(27, far, 4)]))
        assert found == pytest.approx((density * 200 / (200 + far), coverage * 201 / (201 + far)), rel=1e-12)
    assert clipped_scores(real, good + 1000) == (0, 0)


def test_outliers_of_the_real_samples_change_little():
    """Half of the fakes are far off, in the wide balls of a fiftieth of the real samples: density counts those."""
    real, fake = normal(25, 1000, 4), normal(26, 1000, 4)
    fake[500:] += 1000
    far = real.copy()
    far[:20] = 10_000 * normal(27, 20, 4)
    for samples in (real, far):  # four deviations of a perfect generator's scores
        assert clipped_scores(samples, fake) == pytest.approx((0.5, 0.5), abs=0.1)
    assert density_coverage(far, fake).density > 0.75


def test_clipped_scores_of_collapsed_copied_and_perfect_fakes():
    n = 1000
    real = normal(28, n, 8)
    density, coverage = clipped_scores(real, np.repeat(np.zeros((1, 8)), n, axis=0))  # the mode, drawn again and again
    assert density == 1
    assert coverage < 0.1
    assert clipped_scores(real, real) == (1, 1)
    perfect = [clipped_scores(normal(seed, n, 8), normal(seed + 50, n, 8)) for seed in range(100, 103)]
    assert min(map(min, perfect)) > 0.9


def test_clipped_scores_where_real_samples_are_copies():
    """Radii are 0: closed balls still hold equal fakes, open ones nothing."""
    real = np.tile(np.arange(6.0), 6)[:, None]
    assert clipped_scores(real, real[:10]) == (1, 0)
    assert clipped_scores(real, real[:10] + 0.25) == (0, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipped_scores_do_not_depend_on_unit_place_and_order(dtype):
    real, fake = normal(29, 150, 6, dtype), dtype(0.6) + normal(30, 120, 6, dtype)
    expected = clipped_scores(real, fake)
    assert 0.1 < min(expected) < max(expected) < 0.95
    rng = np.random.default_rng(31)
    assert clipped_scores(rng.permutation(real), rng.permutation(fake)) == expected
    assert clipped_scores(dtype(2.0**-70) * real, dtype(2.0**-70) * fake) == expected
    turn, _ = np.linalg.qr(normal(32, 6, 6))
    assert clipped_scores(real @ turn, fake @ turn) == pytest.approx(expected, rel=1e-12)


# 1-NN error


def test_nearest_neighbor_error_by_hand():
    real, fake = [[0.0], [1.0], [5.0], [9.0]], [[0.4], [4.0], [10.0]]
    # the labels given are 2, 2, 0, 1
    assert nearest_neighbor_error(real, [2, 1, 0, 0], fake, [2, 0, 1]) == 2 / 4


def test_nearest_neighbor_error_against_scikit_learn():
    real, fake = normal(20, 300, 5, np.float32), normal(21, 500, 5, np.float32)
    real_labels, fake_labels = (np.int32(x[:, 0] > 0) + (x[:, 1] > 0) for x in (real, fake))
    accuracy = KNeighborsClassifier(1).fit(fake, fake_labels).score(real, real_labels)
    assert nearest_neighbor_error(real, real_labels, fake, fake_labels) == pytest.approx(1 - accuracy, abs=1e-12)
    assert 0.05 < 1 - accuracy < 0.5


# Errors

THREE, SIX = np.ones((4, 3)), np.arange(18.0).reshape(6, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neighbor_scores(SIX[:5], SIX), "6 samples or more are needed; real features have 5$"),
        (lambda: precision_recall(SIX, SIX[:3], 3), "4 samples or more are needed; fake features have 3$"),
        (lambda: density_coverage(SIX[:5], SIX), "6 samples or more are needed; real features have 5$"),
        (lambda: density_coverage(SIX, SIX[:0]), "1 samples or more are needed; fake features have 0$"),
        (lambda: clipped_scores(SIX[:5], SIX), "6 samples or more are needed; real features have 5$"),
        (lambda: clipped_scores(SIX, SIX[:0]), "1 samples or more are needed; fake features have 0$"),
        (lambda: clipped_scores(SIX, SIX[:, :2]), "real features have 3 dimensions, fake ones 2$"),
        (lambda: clipped_scores(SIX, SIX, 0), "k must be a whole number from 1 on, not 0$"),
        (lambda: neighbor_scores(SIX, SIX, 0), "k must be a whole number from 1 on, not 0$"),
        (lambda: density_coverage(SIX, SIX, 2.0), r"k must be a whole number from 1 on, not 2\.0$"),
        (lambda: neighbor_scores(SIX, SIX[:, :2]), "real features have 3 dimensions, fake ones 2$"),
        (lambda: neighbor_scores(SIX, np.full((6, 3), np.nan)), "fake features have non-finite values$"),
        (lambda: nearest_distances(np.ones(3), THREE), r"query features must be \[samples, dimensions\]"),
        (lambda: nearest_distances(THREE, SIX[:, :1]), "query features have 3 dimensions, reference ones 1$"),
        (lambda: memorization(THREE, THREE[:, :2], THREE), "train features have 3 dimensions, test ones 2$"),
        (lambda: memorization(THREE, THREE, np.full((1, 3), np.inf)), "fake features have non-finite values$"),
        (lambda: memorization(THREE, THREE[:0], THREE), "1 samples or more are needed; test features have 0$"),
        (lambda: nearest_neighbor_error(THREE, [0] * 3, SIX, [0] * 6), r"real labels must be integers \[4\]"),
        (lambda: nearest_neighbor_error(THREE, [0] * 4, SIX, [0.0] * 6), r"fake labels must be integers \[6\]"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
