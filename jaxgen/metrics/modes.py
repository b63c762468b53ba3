"""Number of modes that samples cover, and how evenly: ring and grid of Gaussians, Stacked MNIST."""

import math
from typing import NamedTuple

import numpy as np
import scipy

from jaxgen.metrics import checks
from jaxgen.model import HIGH_QUALITY


class Modes(NamedTuple):
    """The modes that samples fall on."""

    modes: int  # number of modes with at least one sample
    kl: float  # KL(p, uniform over all modes) of the samples' share of each, nats; 0 to log(number of modes)
    high_quality: float  # share of high-quality samples, 0 to 1; nan if quality is undefined


def point_modes(points, centers, deviation: float) -> Modes:
    """Modes of a mixture of Gaussians of one deviation on every axis.

    The protocol is VEEGAN's, as implemented by PacGAN: a point belongs to its nearest center, and
    is of high quality if its Euclidean distance to it is under 3 deviations. The modes are
    those with at least one high-quality point; `kl` is that of the high-quality points alone,
    nan if there are none. The usual number of points is 2,500.

    A perfect sampler does not score perfectly: in the plane 1 - exp(-4.5) = 98.89% of its points are
    of high quality, and with n points and K modes `kl` is (K - 1) / (2 n) on average (.0014 on the
    ring, .0048 on the grid at 2,500). Print a row of real points.

    Args:
      points: [n, dimensions], any real dtype.
      centers: [modes, dimensions].
      deviation: of each mode, in the points' units, above 0.

    Raises:
      ValueError: an argument is not [samples, dimensions], is empty or has non-finite values, the
        dimensions differ, or the deviation is not above 0 and finite.

    Source: Srivastava et al. 2017, "VEEGAN" (https://arxiv.org/abs/1705.07761), section 4.1; Lin
    et al. 2018, "PacGAN" (https://arxiv.org/abs/1712.04086), section 4.1 and its code.
    """
    if not 0 < deviation < np.inf:
        raise ValueError(f"a deviation must be above 0 and finite, got {deviation}")
    points, centers = checks.features(points, "point"), checks.features(centers, "center")
    if points.shape[1] != centers.shape[1]:
        raise ValueError(f"points have {points.shape[1]} dimensions, centers {centers.shape[1]}")
    distances = scipy.spatial.distance.cdist(points, centers)
    near = distances.min(axis=1) < HIGH_QUALITY * deviation
    counts = np.bincount(distances.argmin(axis=1)[near], minlength=len(centers))
    return Modes(int((counts > 0).sum()), _kl_from_uniform(counts), float(near.mean()))


def class_modes(labels, num_classes: int) -> Modes:
    """Modes of a dataset whose modes are classes, from the labels a classifier gave the samples.

    For Stacked MNIST, 1,000 classes and 26,000 samples: a perfect sampler has `kl` 0.0193 there on
    average, and at 2,560 samples only 923 modes. A mode counts from one sample on, so the classifier's
    errors add modes (0.5% a digit turn 500 into 657): print its accuracy and a row of real images.

    Args:
      labels: integers [n], 0 to num_classes - 1.
      num_classes: total number of modes, 1 or more.

    Returns:
      The number of distinct labels, KL(their shares, uniform), and nan, since a label has no quality.

    Raises:
      ValueError: the labels are empty, not integers on one axis, or out of range.

    Source: Metz et al. 2017, "Unrolled GANs" (https://arxiv.org/abs/1611.02163), section 3.3;
    26,000 samples as in Srivastava et al. 2017 (https://arxiv.org/abs/1705.07761), section 4.2.
    """
    if num_classes < 1:
        raise ValueError(f"1 class or more is needed, got {num_classes}")
    labels = checks.labels(labels, "sample", np.size(labels), num_classes)
    if len(labels) == 0:
        raise ValueError("1 sample or more is needed, there are no labels")
    counts = np.bincount(labels, minlength=num_classes)
    return Modes(int((counts > 0).sum()), _kl_from_uniform(counts), math.nan)


def _kl_from_uniform(counts: np.ndarray) -> float:
    """sum_k p_k log(p_k K) of the shares p of counts [K]; nan if all are 0."""
    if not counts.any():
        return math.nan
    shares = counts[counts > 0] / counts.sum()
    return float((shares * np.log(shares * len(counts))).sum())
