import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from jaxgen.metrics.frechet import _influences, frechet_distance, frechet_distance_infinity


def normal(seed, n, dimensions):
    return np.random.default_rng(seed).normal(size=(n, dimensions))


def whitened(seed, n, dimensions):
    """Draws samples with mean exactly 0 and covariance (n - 1) exactly the identity."""
    x = normal(seed, n, dimensions)
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return q * np.sqrt(n - 1)


def by_matrix_square_root(real, fake):
    covariance_real, covariance_fake = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = scipy.linalg.sqrtm(covariance_real @ covariance_fake)
    shift = real.mean(axis=0) - fake.mean(axis=0)
    return shift @ shift + np.trace(covariance_real + covariance_fake - 2 * root.real)


def test_one_dimension_by_hand():
    # means 1 and 5, variances 2 and 8: (1 - 5)^2 + (sqrt 2 - sqrt 8)^2 = 16 + 2
    assert frechet_distance([[0.0], [2.0]], [[3.0], [7.0]]) == pytest.approx(18, abs=1e-12)


def test_diagonal_covariances():
    # commuting covariances: the sum of (difference of means)^2 + (difference of standard deviations)^2
    mean1, sd1 = np.array([0.0, 1.0, -2.0, 3.0]), np.array([1.0, 0.5, 2.0, 0.0])
    mean2, sd2 = np.array([1.0, 1.0, 0.0, 3.5]), np.array([3.0, 0.25, 0.0, 1.0])
    real, fake = mean1 + whitened(0, 50, 4) * sd1, mean2 + whitened(1, 31, 4) * sd2
    # means 1 + 0 + 4 + .25, sds 4 + .0625 + 4 + 1
    assert frechet_distance(real, fake) == pytest.approx(14.3125, rel=1e-12)


def test_a_shift_alone():
    real = normal(2, 40, 6)
    assert frechet_distance(real, real + np.arange(6)) == pytest.approx(55, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "dimensions"), [(200, 200, 5), (300, 120, 24), (40, 500, 16)])
def test_against_scipy_sqrtm(n, m, dimensions):
    real = normal(3, n, dimensions) @ normal(4, dimensions, dimensions)
    fake = 0.5 + normal(5, m, dimensions) @ normal(6, dimensions, dimensions)
    assert frechet_distance(real, fake) == pytest.approx(by_matrix_square_root(real, fake), rel=1e-9)


@pytest.mark.parametrize(("n", "dimensions"), [(2, 1), (500, 16), (200, 512), (64, 64)])
def test_a_set_against_itself(n, dimensions):
    real = normal(7, n, dimensions)
    assert abs(frechet_distance(real, real[::-1])) < 1e-9


def test_fewer_samples_than_dimensions():
    # variation in only two coordinates of a rotated 30-dimensional space, with 3 samples each
    rotation, _ = np.linalg.qr(normal(8, 30, 30))
    real, fake = np.zeros((3, 30)), np.zeros((3, 30))
    real[:, :2] = whitened(9, 3, 2) * [1, 2]
    fake[:, :2] = whitened(10, 3, 2) * [4, 6] + [0, 1]
    # (1 - 4)^2 + (2 - 6)^2 + 1^2
    assert frechet_distance(real @ rotation, fake @ rotation) == pytest.approx(26, rel=1e-12)


def test_it_is_symmetric():
    real, fake = normal(11, 20, 40), 2 * normal(12, 35, 40)
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-12)


def test_float32_with_a_large_mean_is_exact():
    # multiples of 1/16 around 10,000 are exact in float32, so the shift changes no digit
    real, fake = (np.round(16 * normal(seed, 400, 8)) / 16 for seed in (13, 14))
    shifted = [np.float32(x + 10_000) for x in (real, 1 + fake)]
    assert all(np.array_equal(x - np.float64(10_000), y) for x, y in zip(shifted, (real, 1 + fake), strict=True))
    assert frechet_distance(*shifted) == pytest.approx(frechet_distance(real, 1 + fake), rel=1e-9)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), "real features have 1$"),
        (np.ones((4, 3)), np.ones((0, 3)), "fake features have 0$"),
        (np.ones((4, 3)), np.ones((4, 2)), "real features have 3 dimensions, fake ones 2"),
        (np.ones((4, 3)), np.ones(3), r"fake features must be \[samples, dimensions\]"),
        (np.ones((4, 0)), np.ones((4, 0)), r"real features must be \[samples, dimensions\]"),
        (np.ones((4, 3)), np.full((4, 3), np.nan), "fake features have non-finite values"),
        (np.full((4, 3), np.inf), np.ones((4, 3)), "real features have non-finite values"),
    ],
)
def test_what_is_refused(real, fake, message):
    with pytest.raises(ValueError, match=message) as error:
        frechet_distance(real, fake)
    assert "\n" not in str(error.value)


def to_standard_normal(x):
    """Squared distance between N(0, I) and the Gaussian fitted to x, by the eigenvalues of its covariance."""
    roots = np.sqrt(np.linalg.eigvalsh(np.cov(x, rowvar=False)))
    return np.square(x.mean(axis=0)).sum() + np.square(roots - 1).sum()


def test_the_extrapolation_of_identical_gaussians():
    real, fake = normal(20, 5_000, 64), normal(30, 5_000, 64)
    line = frechet_distance_infinity(real, fake)
    assert line.distances[-1] == pytest.approx(0.44, abs=0.02)
    # with infinitely many fake samples, N(0, I) itself, only the real set's distance to it remains
    assert to_standard_normal(real) == pytest.approx(0.22, abs=0.01)
    # 0.02 is the spread between sets of samples
    assert line.value == pytest.approx(to_standard_normal(real), abs=0.06)


def test_the_extrapolation_is_unbiased_for_the_real_set():
    distances, errors, slopes = [], [], []
    for seed in range(50):
        real, fake = normal(100 + seed, 1_000, 16), normal(200 + seed, 1_000, 16)
        line = frechet_distance_infinity(real, fake, seed=seed)
        distances.append(line.distances[-1])
        errors.append(line.value - to_standard_normal(real))
        slopes.append(line.slope)
    # N samples add |mean|^2 = D / N and the covariance's D (D + 1) / (4 N), on either side
    expected_slope = 16 + 16 * 17 / 4
    assert np.mean(distances) == pytest.approx(2 * expected_slope / 1_000, rel=0.05)
    standard_error = np.std(errors, ddof=1) / np.sqrt(50)
    assert standard_error < 0.05 * np.mean(distances)
    assert abs(np.mean(errors)) < 3 * standard_error
    assert np.mean(slopes) == pytest.approx(expected_slope, rel=0.1)


def test_the_extrapolation_of_a_shift():
    real = whitened(40, 4_000, 8)
    line = frechet_distance_infinity(real, 3 + normal(41, 4_000, 8))
    assert line.value == pytest.approx(8 * 9, rel=0.02)


@pytest.mark.parametrize(("shift", "scale", "dimensions"), [(0.0, 1.0, 8), (0.5, 1.5, 8), (0.3, 0.8, 20)])
def test_the_extrapolations_error_is_the_spread_over_sets_of_samples(shift, scale, dimensions):
    real, lines = normal(60, 500, dimensions), []
    for seed in range(60):
        fake = shift + scale * np.linspace(0.5, 1.5, dimensions) * normal(300 + seed, 600, dimensions)
        lines.append(frechet_distance_infinity(real, fake, seed=seed))
    spread = np.std([line.value for line in lines], ddof=1)  # itself known to 9%
    assert np.mean([line.error for line in lines]) == pytest.approx(spread, rel=0.25)


def test_influences_are_derivatives_of_the_distance():
    """Weighting a sample up by h moves the distance between the weighted Gaussians by h times its influence."""
    real, fake = normal(50, 30, 3), 0.3 + 1.5 * normal(51, 400, 3)

    def distance(weights):
        weights = weights / weights.sum()
        mean = weights @ fake
        covariance = (weights[:, None] * (fake - mean)).T @ (fake - mean) * 400 / 399
        product = np.linalg.eigvals(np.cov(real, rowvar=False) @ covariance)
        trace = np.trace(np.cov(real, rowvar=False)) + np.trace(covariance) - 2 * np.sqrt(product.real).sum()
        return np.square(real.mean(0) - mean).sum() + trace

    h, uniform = 1e-5, np.full(400, 1 / 400)
    found = [(distance(uniform + h * row) - distance(uniform - h * row)) / (2 * h) for row in np.eye(400)]
    influences = _influences(real, fake)
    np.testing.assert_allclose(influences - influences.mean(), found, atol=0.02 * np.std(found))  # 400 / 399


def test_the_line_and_its_points():
    real, fake = normal(42, 300, 6), 2 * normal(43, 400, 6)
    line = frechet_distance_infinity(real, fake, points=5, seed=1)
    assert line.sizes.tolist() == [40, 130, 220, 310, 400]
    assert line.distances[-1] == pytest.approx(frechet_distance(real, fake), rel=1e-12)
    fit = scipy.stats.linregress(1 / line.sizes, line.distances)
    assert (line.value, line.slope) == pytest.approx((fit.intercept, fit.slope), rel=1e-9)
    assert line.error == pytest.approx(np.hypot(fit.intercept_stderr, _influences(real, fake).std(ddof=1) / 20))


def test_no_point_has_a_singular_covariance():
    # a tenth would be 8
    line = frechet_distance_infinity(normal(44, 50, 30), normal(45, 80, 30), points=3)
    assert line.sizes.tolist() == [31, 55, 80]


def test_the_seed_decides_the_extrapolation():
    real, fake = normal(46, 300, 4), normal(47, 300, 4)
    first, again, other = (frechet_distance_infinity(real, fake, seed=seed) for seed in (1, 1, 2))
    assert first.value == again.value
    assert first.distances.tolist() == again.distances.tolist()
    assert first.value != other.value


@pytest.mark.parametrize(
    ("real", "fake", "points", "message"),
    [
        (np.ones((50, 3)), np.ones((29, 3)), 15, "15 points in 3 dimensions need 30 fake samples or more, got 29$"),
        (np.ones((50, 9)), np.ones((19, 9)), 2, "2 points in 9 dimensions need 20 fake samples or more, got 19$"),
        (np.ones((50, 3)), np.ones((50, 3)), 1, "a line needs 2 points or more, got 1$"),
        (np.ones((1, 3)), np.ones((50, 3)), 15, "real features have 1$"),
        (np.ones((50, 3)), np.ones((50, 2)), 15, "real features have 3 dimensions, fake ones 2$"),
        (np.ones((50, 3)), np.full((50, 3), np.nan), 15, "fake features have non-finite values$"),
    ],
)
def test_what_the_extrapolation_refuses(real, fake, points, message):
    with pytest.raises(ValueError, match=message) as error:
        frechet_distance_infinity(real, fake, points=points)
    assert "\n" not in str(error.value)
