"""Squared maximum mean discrepancies of features: under a cubic kernel (KID), and under CMMD's Gaussian kernel."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgen.metrics import checks

BLOCK = 2**24
"""Kernel values held at once (128 MiB)."""

WIDTH = 10
"""Width of CMMD's Gaussian kernel."""


class KernelDistance(NamedTuple):
    """The estimates of the subsets."""

    value: float  # their mean
    deviation: float  # their standard deviation; the subsets overlap, so it is not a standard error


def kernel_distance(real, fake, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> KernelDistance:
    """The mean of `squared_mmd` over random subsets of both sets.

    Each subset holds `subset_size` real and as many fake samples, drawn without replacement,
    independently of the other subsets. The value is unbiased for any numbers of samples, and may be
    negative. It is called KID only for the features of the Inception-2015 network.

    `deviation` is that over the subsets (divided by their number), as the literature prints it.
    They overlap, so it is not the standard error of the value, and it falls with `subset_size`.
    A set against itself gives less than 0; as a reference, compare two disjoint halves.

    Args:
      real: [samples, dimensions], any real dtype; computed in float64 on the host.
      fake: [samples, dimensions]; the number of samples may differ from that of `real`.
      subsets: number of subsets, 1 or more.
      subset_size: samples of either side in each subset, 2 or more.
      seed: seed of the subsets; 0 or more.

    Returns:
      The mean and the deviation of the estimates.

    Raises:
      ValueError: an argument is not [samples, dimensions], has fewer than `subset_size` samples
        or non-finite values, the dimensions differ, or a number is under its minimum above.

    Source: Bińkowski et al. 2018, "Demystifying MMD GANs" (https://arxiv.org/abs/1801.01401),
    section 4.
    """
    if subsets < 1:
        raise ValueError(f"1 subset or more is needed, got {subsets}")
    if subset_size < 2:
        raise ValueError(f"a subset needs 2 samples or more of either side, got {subset_size}")
    real = checks.features(real, "real", subset_size)
    fake = checks.features(fake, "fake", subset_size)
    checks.same_dimensions(real, fake)
    rng = np.random.Generator(np.random.Philox(seed))
    estimates = [
        squared_mmd(
            real[rng.choice(len(real), subset_size, replace=False)],
            fake[rng.choice(len(fake), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(estimates)), float(np.std(estimates)))


def squared_mmd(real, fake) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy of two sets.

    With the kernel k(x, y) = (x.y / dimensions + 1)^3 it is

        mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    over the real x and the fake y. Without the diagonals its expectation is the distance of the
    distributions at every number of samples, so it can be negative. A cubic kernel sees only
    moments up to the third. Time grows with the square of the number of samples; memory
    does not.

    Args:
      real: [samples, dimensions], any real dtype; computed in float64 on the host.
      fake: [samples, dimensions]; the number of samples may differ from that of `real`.

    Returns:
      The estimate. Symmetric in its arguments.

    Raises:
      ValueError: an argument is not [samples, dimensions], has fewer than 2 samples or non-finite
        values, or the dimensions differ.

    Source: Gretton et al. 2012, "A kernel two-sample test", lemma 6; the kernel is that of
    Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), section 4.
    """
    real = checks.features(real, "real", 2)
    fake = checks.features(fake, "fake", 2)
    checks.same_dimensions(real, fake)
    return _unbiased(real, fake, lambda products: _cube(products / real.shape[1] + 1))


def gaussian_mmd(real, fake) -> float:
    """1,000 times the unbiased estimate of the squared maximum mean discrepancy of two sets of directions.

    It is the distance of CMMD, on features of any network: they are scaled to length 1, and the kernel is

        k(x, y) = exp(-|x - y|^2 / (2 * 10^2)).

    The estimate is that of `squared_mmd`. Directions are at most 2 apart, far less than the width, so the kernel is
    almost linear. It is exp(x.y / 100) / exp(0.01), a series in x.y, so the distance is a sum over moments,

        9.9 |mean x - mean y|^2 + 0.0495 |mean x x^T - mean y y^T|^2 + ...,

    where all but the first term are at most 0.1 together: it hardly sees more than the mean direction.

    The authors' code has the diagonals in both means, which raises the value by up to about 10 / N + 10 / M for N real
    and M fake samples; the estimator of their paper is unbiased, as here. It is called CMMD only for CLIP's features.

    Args:
      real: [samples, dimensions], any real dtype; computed in float64 on the host. A feature of 0 is taken to be at
        right angles to all but zeros.
      fake: [samples, dimensions]; the number of samples may differ from that of `real`.

    Returns:
      The estimate, which may be negative. Symmetric in its arguments.

    Raises:
      ValueError: as `squared_mmd`.

    Source: Jayasumana et al. 2024, "Rethinking FID: towards a better evaluation metric for image generation"
    (https://arxiv.org/abs/2401.09603), section 4.
    """
    real, fake = checks.features(real, "real", 2), checks.features(fake, "fake", 2)
    checks.same_dimensions(real, fake)
    real, fake = checks.directions(real), checks.directions(fake)
    # |x - y|^2 = 2 - 2 x.y; k - 1, whose distance is that of k, loses no digits
    return 1000 * _unbiased(real, fake, lambda products: np.expm1((products - 1) / WIDTH**2))


Kernel = Callable[[np.ndarray], np.ndarray]  # of x.y


def _unbiased(real: np.ndarray, fake: np.ndarray, kernel: Kernel) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy."""
    across = _kernel_sum(real, fake, kernel) / (len(real) * len(fake))
    return _mean_off_diagonal(real, kernel) + _mean_off_diagonal(fake, kernel) - 2 * across


def _mean_off_diagonal(features: np.ndarray, kernel: Kernel) -> float:
    """The mean of k(x_i, x_j) over i != j."""
    num = len(features)
    diagonal = kernel(np.square(features).sum(axis=1)).sum()
    return float(_kernel_sum(features, features, kernel) - diagonal) / (num * (num - 1))


def _kernel_sum(a: np.ndarray, b: np.ndarray, kernel: Kernel) -> float:
    """The sum of k(a_i, b_j) over all i and j, by blocks of rows."""
    rows = max(1, BLOCK // len(b))
    return float(sum(kernel(a[start : start + rows] @ b.T).sum() for start in range(0, len(a), rows)))


def _cube(values: np.ndarray) -> np.ndarray:
    return values * values * values  # ** 3 would call pow for each


SUBSET = 1000
"""Maximum number of samples in a subset of the kernel distance."""


def subset_size(num_real: int, num_fake: int) -> int:
    """Samples in a subset of the kernel distance: 1,000, or half of the smaller set so that subsets can differ."""
    return max(2, min(SUBSET, num_real // 2, num_fake // 2))
