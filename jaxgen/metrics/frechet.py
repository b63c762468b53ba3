"""The Fréchet distance between two sets of features, each modeled as a Gaussian."""

import math
from typing import NamedTuple

import numpy as np

from jaxgen.metrics import checks


def frechet_distance(real, fake) -> float:
    """The squared Fréchet (2-Wasserstein) distance between the Gaussians fitted to two feature sets.

    With the sample means m1, m2 and the sample covariances S1, S2 (divided by n - 1) it is

        |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2).

    The last trace needs no matrix square root. Let X be the centered features over sqrt(n - 1), so
    that S = X^T X, and X = Q R its QR factors: S1 = R1^T R1 and S2 = R2^T R2. As AB and BA have
    the same non-zero eigenvalues, those of S1 S2 = R1^T (R1 R2^T R2) are those of
    (R1 R2^T) (R1 R2^T)^T, the squared singular values of R1 R2^T. Hence

        tr sqrt(S1 S2) = sum of the singular values of R1 R2^T = |R1 R2^T|_*, its nuclear norm.

    Nothing is squared and then rooted, so rank-deficient covariances (fewer samples than dimensions) lose no
    digits: a set against itself gives 0 to rounding, of either sign, where a matrix square root is
    off by 1e-6 and more.

    The distance is biased upwards, by more for fewer samples and depending on the features:
    compare only distances with the same numbers of samples from the same real set. It is
    called FID only for the features of the Inception-2015 network.

    Args:
      real: [samples, dimensions], any real dtype; computed in float64 on the host.
      fake: [samples, dimensions]; the number of samples may differ from that of `real`.

    Returns:
      The distance, in the features' squared units. Symmetric in its arguments.

    Raises:
      ValueError: an argument is not [samples, dimensions], has fewer than 2 samples or non-finite
        values, or the dimensions differ.

    Source: Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions";
    as a score of generators, Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), equation 6.
    """
    real, fake = checks.features(real, "real", 2), checks.features(fake, "fake", 2)
    checks.same_dimensions(real, fake)
    return _distance(_fitted(real), _fitted(fake))


class FrechetExtrapolation(NamedTuple):
    """Line fitted to the distances of subsets of the fake samples."""

    value: float  # its height at 1 / N = 0
    error: float  # standard error of `value`, over draws of the fake samples and of the subsets
    slope: float  # by 1 / N: N times the bias of N fake samples
    sizes: np.ndarray  # int64 [points], N ascending; the last is all samples
    distances: np.ndarray  # float64 [points]


def frechet_distance_infinity(real, fake, *, points: int = 15, seed: int = 0) -> FrechetExtrapolation:
    """The Fréchet distance extrapolated to infinitely many fake samples.

    Distances of random subsets of N fake samples to all the real ones are fitted by least squares
    with value + slope / N. N takes `points` values, evenly from a tenth of the fake samples (as in
    the paper, 5,000 to 50,000), but from no fewer than dimensions + 1, so that no covariance is
    singular, to all of them.

    The bias of the finite real set remains: real against real converges to that, not to 0, and only
    values with the same real set are comparable. The bias is not quite linear in 1 / N when N is
    near the dimensions.

    Subsets overlap, so the scatter around the line understates the error of its height, by half for normal samples.
    `error` adds to its square that of the distance itself, from the derivative of the distance by the weight of a
    sample x (delta method): with T the map that transports the fitted fake Gaussian to the real one,

        |x - m2|^2 - (x - m2)^T T (x - m2) - 2 (m1 - m2)^T (x - m2),
        T = S1^(1/2) (S1^(1/2) S2 S1^(1/2))^(-1/2) S1^(1/2),

    whose variance over the samples, divided by their number, is that of the distance. The real samples count as fixed.

    Args:
      real: [samples, dimensions], any real dtype; computed in float64 on the host.
      fake: [samples, dimensions]; twice the dimensions + 1 and twice the points, or more.
      points: number of points on the line, 2 or more.
      seed: seed of the subsets, each drawn without replacement; 0 or more.

    Returns:
      The line, in the features' squared units, and the points it was fitted to.

    Raises:
      ValueError: as `frechet_distance`, there are too few fake samples, or fewer than 2 points.

    Source: Chong & Forsyth 2020, "Effectively unbiased FID and Inception score and where to find
    them" (https://arxiv.org/abs/1911.07023). Its Sobol sequences belong to the generator's inputs.
    """
    if points < 2:
        raise ValueError(f"a line needs 2 points or more, got {points}")
    real, fake = checks.features(real, "real", 2), checks.features(fake, "fake")
    checks.same_dimensions(real, fake)
    num, dimensions = fake.shape
    least = 2 * max(dimensions + 1, points)  # so that the sizes span a factor of 2 or more
    if num < least:
        raise ValueError(f"{points} points in {dimensions} dimensions need {least} fake samples or more, got {num}")
    rng = np.random.Generator(np.random.Philox(seed))
    sizes = np.linspace(max(dimensions + 1, num // 10), num, points).astype(np.int64)
    fitted_real = _fitted(real)
    subsets = (fake[rng.choice(num, size, replace=False)] for size in sizes)
    distances = np.array([_distance(fitted_real, _fitted(subset)) for subset in subsets])
    (slope, value), scatter = _line(1 / sizes, distances)
    error = math.hypot(scatter, _influences(real, fake).std(ddof=1) / math.sqrt(num))
    return FrechetExtrapolation(float(value), error, float(slope), sizes, distances)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Slope and height at 0 of the least squares line, and the height's standard error; nan if there are two points."""
    line, center = np.polyfit(x, y, 1), x.mean()
    squares = np.square(y - np.polyval(line, x)).sum()
    freedom, spread = len(x) - 2, np.square(x - center).sum()
    return line, math.sqrt(squares / freedom * (1 / len(x) + center**2 / spread)) if freedom else math.nan


def _influences(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Derivatives of the distance by the weight of each fake sample, [fakes], up to a constant."""
    root = _power(np.cov(real, rowvar=False).reshape(real.shape[1], -1), 0.5)
    covariance = np.cov(fake, rowvar=False).reshape(fake.shape[1], -1)
    transport = root @ _power(root @ covariance @ root, -0.5) @ root
    x = fake - fake.mean(axis=0)
    return (
        np.square(x).sum(1) - np.einsum("nd,nd->n", x @ transport, x) - 2 * x @ (real.mean(axis=0) - fake.mean(axis=0))
    )


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a positive semi-definite matrix; directions without variance stay without it."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    powers = np.where(kept, np.where(kept, values, 1) ** exponent, 0)
    return (vectors * powers) @ vectors.T


def _fitted(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean [dimensions] and R [min(samples, dimensions), dimensions] with R^T R the covariance."""
    mean = features.mean(axis=0)
    # a second pass over the centered features: E[x^2] - E[x]^2 would cancel where the mean is large
    return mean, np.linalg.qr((features - mean) / np.sqrt(len(features) - 1), mode="r")


def _distance(real: tuple[np.ndarray, np.ndarray], fake: tuple[np.ndarray, np.ndarray]) -> float:
    """Distance between two Gaussians, each given as its mean and the factor R of its covariance."""
    (mean_real, factor_real), (mean_fake, factor_fake) = real, fake
    trace_root = np.linalg.svd(factor_real @ factor_fake.T, compute_uv=False).sum()
    # tr S = |R|^2, the sum of R's squared entries
    traces = np.square(factor_real).sum() + np.square(factor_fake).sum()
    return float(np.square(mean_real - mean_fake).sum() + traces - 2 * trace_root)
