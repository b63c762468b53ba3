from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from jaxgen.metrics import kernel
from jaxgen.metrics.kernel import gaussian_mmd, kernel_distance, squared_mmd


def normal(seed, n, dimensions):
    return np.random.default_rng(seed).normal(size=(n, dimensions))


def by_scikit_learn(real, fake):
    def off_diagonal_mean(x):
        values = polynomial_kernel(x, degree=3, coef0=1)  # gamma is 1 / dimensions
        return values[~np.eye(len(x), dtype=bool)].mean()

    return off_diagonal_mean(real) + off_diagonal_mean(fake) - 2 * polynomial_kernel(real, fake, degree=3).mean()


def test_one_dimension_by_hand():
    # k(0, 2) = 1, k(1, 3) = 4^3; between the sets 1, 1, 3^3, 7^3 with mean 93
    assert squared_mmd([[0], [2]], [[1], [3]]) == 1 + 64 - 2 * 93


def test_two_dimensions_by_hand():
    # x.y is halved: k = 1 among real, (4/2 + 1)^3 = 27 among fake; between the sets 1, 1, 27, 1
    assert squared_mmd([[0, 0], [2, 0]], [[2, 2], [0, 2]]) == 1 + 27 - 2 * 7.5


@pytest.mark.parametrize(("n", "m", "dimensions"), [(40, 57, 16), (2, 30, 3), (33, 2, 1)])
def test_against_scikit_learn(n, m, dimensions):
    real, fake = 1 + normal(0, n, dimensions), 2 * normal(1, m, dimensions)
    assert squared_mmd(real, fake) == pytest.approx(by_scikit_learn(real, fake), rel=1e-12)


@pytest.mark.parametrize("block", [1, 100, 57 * 40])
def test_blocks_change_nothing(monkeypatch, block):
    real, fake = normal(2, 57, 4), 0.5 + normal(3, 40, 4)
    monkeypatch.setattr(kernel, "BLOCK", block)
    assert squared_mmd(real, fake) == pytest.approx(by_scikit_learn(real, fake), rel=1e-12)


def test_it_is_symmetric():
    real, fake = normal(4, 20, 5), 1 + normal(5, 31, 5)
    assert squared_mmd(real, fake) == pytest.approx(squared_mmd(fake, real), rel=1e-12)


def test_the_mean_over_all_subsets_is_that_of_the_whole():
    # holds only without the diagonals
    real, fake = normal(6, 5, 2), 1 + normal(7, 6, 2)
    estimates = [
        squared_mmd(real[list(i)], fake[list(j)]) for i in combinations(range(5), 3) for j in combinations(range(6), 2)
    ]
    assert np.mean(estimates) == pytest.approx(squared_mmd(real, fake), rel=1e-12)


def test_its_expectation_is_the_distance_of_the_distributions():
    # E (xy + 1)^3 is a sum over moments: the distance is that of E x^3, plus 3 times those of E x^2 and E x.
    # N(0, 1) has moments 0, 1, 0 and N(1, 1) has 1, 2, 4: 3 * 1 + 3 * 1 + 16
    rng = np.random.default_rng(8)
    estimates = [squared_mmd(rng.normal(size=(20, 1)), rng.normal(1, size=(20, 1))) for _ in range(5000)]
    standard_error = np.std(estimates) / np.sqrt(len(estimates))
    assert standard_error < 0.5
    assert np.mean(estimates) == pytest.approx(22, abs=4 * standard_error)


def test_a_set_against_itself_is_below_zero():
    x = normal(9, 50, 8)
    values = polynomial_kernel(x, degree=3)
    off_diagonal = values[~np.eye(50, dtype=bool)].mean()
    # 2 off-diagonal means minus 2 means with the diagonal
    assert squared_mmd(x, x) == pytest.approx(2 * (off_diagonal - np.trace(values) / 50) / 50, rel=1e-10)
    assert squared_mmd(x, x) < -0.05


def test_subsets_of_everything_are_all_equal():
    real, fake = normal(10, 30, 4), 1 + normal(11, 30, 4)
    value, deviation = kernel_distance(real, fake, subsets=4, subset_size=30)
    assert value == pytest.approx(squared_mmd(real, fake), rel=1e-12)
    assert deviation < 1e-12


def test_mean_and_deviation_are_those_over_all_possible_subsets():
    # three samples per set, two drawn: 3 x 3 equally likely subsets; with replacement there would be more
    real, fake = normal(12, 3, 2), 1 + normal(13, 3, 2)
    of_two = [list(pair) for pair in combinations(range(3), 2)]
    possible = [squared_mmd(real[i], fake[j]) for i in of_two for j in of_two]
    n = 4000
    value, deviation = kernel_distance(real, fake, subsets=n, subset_size=2, seed=1)
    spread, fourth = np.std(possible), np.mean((np.array(possible) - np.mean(possible)) ** 4)
    assert value == pytest.approx(np.mean(possible), abs=4 * spread / np.sqrt(n))
    # the standard error of a variance is sqrt((fourth moment - variance^2) / n)
    assert deviation**2 == pytest.approx(spread**2, abs=4 * np.sqrt((fourth - spread**4) / n))


def test_the_deviation_divides_by_the_number_of_subsets():
    real, fake = normal(14, 40, 3), 1 + normal(15, 40, 3)
    first, second = (kernel_distance(real, fake, subsets=n, subset_size=10, seed=3) for n in (1, 2))
    # for two estimates with mean m and first one x it is |x - m|; for one it is 0
    assert first.deviation == 0
    assert second.deviation == pytest.approx(abs(first.value - second.value), rel=1e-12)
    assert second.deviation > 0


def test_the_seed_decides():
    real, fake = normal(16, 100, 4), normal(17, 100, 4)
    same = [kernel_distance(real, fake, subsets=3, subset_size=20, seed=5) for _ in range(2)]
    assert same[0] == same[1]
    assert kernel_distance(real, fake, subsets=3, subset_size=20, seed=6).value != same[0].value


# CMMD's Gaussian kernel


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gaussian_by_scikit_learn(real, fake, diagonals=False):
    """1,000 times the squared MMD of unit vectors, gamma 1 / (2 * 10^2), with or without the means' diagonals."""
    real, fake = unit(real), unit(fake)

    def mean(x):
        return rbf_kernel(x, gamma=1 / 200)[np.full(2 * [len(x)], diagonals) | ~np.eye(len(x), dtype=bool)].mean()

    return 1000 * (mean(real) + mean(fake) - 2 * rbf_kernel(real, fake, gamma=1 / 200).mean())


def test_gaussian_mmd_by_hand():
    # right angles are sqrt 2 apart and opposites 2, so their kernels are e^-.01 and e^-.02: the first among real, the
    # second among fake, and between the sets 1, e^-.02, and e^-.01 twice
    real, fake = [[2, 0], [0, 3]], [[5, 0], [-1, 0]]
    near, far = np.exp(-0.01), np.exp(-0.02)
    between = (1 + far + 2 * near) / 4
    assert gaussian_mmd(real, fake) == pytest.approx(1000 * (near + far - 2 * between), rel=1e-12)


@pytest.mark.parametrize("block", [2**24, 1, 100])
@pytest.mark.parametrize(("n", "m", "dimensions"), [(40, 57, 16), (2, 30, 3), (33, 2, 2)])
def test_gaussian_mmd_against_scikit_learn(n, m, dimensions, block, monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK", block)
    real, fake = 1 + normal(20, n, dimensions), 2 * normal(21, m, dimensions)
    found = gaussian_mmd(real, fake)
    assert found == pytest.approx(gaussian_by_scikit_learn(real, fake), rel=1e-10)
    assert found == pytest.approx(gaussian_mmd(fake, real), rel=1e-12)
    assert abs(found) > 0.1


def test_gaussian_mmd_with_diagonals_is_that_of_the_authors_code():
    """A value of the formula in google-research/cmmd/distance.py, at 4c42994, in float64."""
    grid = np.arange(1, 61, dtype=np.int64)
    real, fake = (unit((grid * grid * step % 101).reshape(20, 3) / 101 - 0.4) for step in (7, 13))
    with_diagonals = gaussian_by_scikit_learn(real, fake, diagonals=True)
    assert with_diagonals == pytest.approx(0.12446438933189086, rel=1e-10)
    for x in (real, fake):  # the mean with the diagonal of ones is 1 / n of it, and the rest of the mean without
        off = rbf_kernel(x, gamma=1 / 200)[~np.eye(len(x), dtype=bool)].mean()
        with_diagonals -= 1000 * (1 - off) / len(x)
    assert gaussian_mmd(real, fake) == pytest.approx(with_diagonals, rel=1e-10)


def test_gaussian_mmd_is_almost_the_distance_of_the_means():
    """9.9 |mean x - mean y|^2 and at most 0.1 more, of distributions: with many copies, diagonals hardly matter."""
    copies = 300
    one, other = np.repeat([[1.0, 0]], copies, axis=0), np.repeat([[0.6, 0.8]], copies, axis=0)
    means = 9.9 * (0.4**2 + 0.8**2)
    assert means < gaussian_mmd(one, other) < means + 0.1
    assert gaussian_mmd(one, other) == pytest.approx(2000 * (1 - np.exp(-0.8 / 200)), rel=1e-12)
    # e and -e on one axis against those on the other: the means are equal, x x^T differ by [[1, 0], [0, -1]]
    axis = np.repeat([[1.0, 0], [-1.0, 0]], copies, axis=0)
    found, n = gaussian_mmd(axis, axis[:, ::-1]), 2 * copies
    within = ((n / 2 - 1) + n / 2 * np.exp(-0.02)) / (n - 1)
    assert found == pytest.approx(2000 * (within - np.exp(-0.01)), rel=1e-9)
    assert found + 20 / n == pytest.approx(0.0495 * 2, abs=0.001)


def test_gaussian_mmd_has_no_bias_and_no_unit():
    rng = np.random.default_rng(22)
    estimates = [gaussian_mmd(1 + rng.normal(size=(6, 3)), 1 + rng.normal(size=(9, 3))) for _ in range(800)]
    error = np.std(estimates) / np.sqrt(800)
    assert np.mean(estimates) == pytest.approx(0, abs=4 * error)  # the diagonals would add 1.3
    assert error < 0.05
    real, fake = 1 + normal(23, 30, 5), normal(24, 20, 5)
    turn, _ = np.linalg.qr(normal(25, 5, 5))
    lengths = np.random.default_rng(26).uniform(0.1, 10, (30, 1))
    for alike in ((lengths * real, 1e200 * fake), (real @ turn, fake @ turn), (real[::-1], fake[::-1])):
        assert gaussian_mmd(*alike) == pytest.approx(gaussian_mmd(real, fake), rel=1e-10)


def test_gaussian_mmd_of_zeros():
    """Zeros are alike, and at right angles to the rest, in float32 too."""
    zeros, ones = np.zeros((3, 2), np.float32), np.ones((4, 2), np.float32)
    assert gaussian_mmd(zeros, zeros) == 0
    assert gaussian_mmd(ones, zeros) == pytest.approx(2000 * (1 - np.exp(-0.01)), rel=1e-12)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones((1, 2)), np.ones((2, 2)), "2 samples or more are needed; real features have 1$"),
        (np.ones((2, 2)), np.ones((1, 2)), "2 samples or more are needed; fake features have 1$"),
        (np.ones((2, 2)), np.ones((2, 3)), "real features have 2 dimensions, fake ones 3$"),
        (np.ones((2, 2)), np.full((2, 2), np.inf), "fake features have non-finite values$"),
    ],
)
def test_gaussian_mmd_refuses(real, fake, message):
    with pytest.raises(ValueError, match=message):
        gaussian_mmd(real, fake)


# Errors


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (np.ones((999, 2)), np.ones((1000, 2)), {}, "1000 samples or more are needed; real features have 999$"),
        (np.ones((8, 2)), np.ones((7, 2)), {"subset_size": 8}, "8 samples or more are needed; fake features have 7$"),
        (np.ones((8, 2)), np.ones((8, 3)), {"subset_size": 8}, "real features have 2 dimensions, fake ones 3$"),
        (np.ones((8, 2)), np.full((8, 2), np.nan), {"subset_size": 8}, "fake features have non-finite values$"),
        (np.ones((8, 2)), np.ones((8, 2)), {"subset_size": 1}, "a subset needs 2 samples or more"),
        (np.ones((8, 2)), np.ones((8, 2)), {"subset_size": 8, "subsets": 0}, "1 subset or more is needed, got 0$"),
    ],
)
def test_what_is_refused(real, fake, options, message):
    with pytest.raises(ValueError, match=message) as error:
        kernel_distance(real, fake, **options)
    assert "\n" not in str(error.value)


def test_an_mmd_needs_two_samples():
    with pytest.raises(ValueError, match=r"2 samples or more are needed; fake features have 1$"):
        squared_mmd(np.ones((5, 2)), np.ones((1, 2)))
