"""The Vendi score: the effective number of different samples."""

import numpy as np
import scipy

from jaxgen.metrics import checks


def vendi_score(features) -> float:
    """The exponential of the entropy of the eigenvalues of K / n, with the cosines of features as K.

    K holds k(x_i, x_j) = x_i.x_j / (|x_i| |x_j|), so the n eigenvalues w of K / n are 0 or more and have the sum 1:

        score = exp(-sum_i w_i log w_i),   from 1, all features in one direction, to n, all at right angles.

    It is of order q = 1. It uses no real samples: noise can score more than real images, and copies of few images less.
    The value depends on the kernel and on the features: those of a network after a ReLU have no negative entry, so no
    cosine is below 0 and the score is small; and with fewer dimensions than samples it cannot exceed them. So compare
    it only with that of as many real samples.

    Args:
      features: [samples, dimensions], any real dtype; computed in float64 on the host. A feature of 0 has a direction
        of its own: cosine 1 with other zeros, and 0 with the rest.

    Returns:
      The score. Copying every sample equally often, rotating all or scaling each does not change it.

    Raises:
      ValueError: features are not [samples, dimensions], are empty or have non-finite values.

    Source: Friedman & Dieng 2023, "The Vendi score: a diversity evaluation metric for machine learning"
    (https://arxiv.org/abs/2210.02410), definition 3.1, and section 3 for the smaller matrix.
    """
    directions = checks.directions(checks.features(features, "sample"))
    num, dimensions = directions.shape
    # X X^T and X^T X have the same eigenvalues, apart from zeros
    products = directions.T @ directions if dimensions < num else directions @ directions.T
    values = scipy.linalg.eigvalsh(products / num)
    return float(np.exp(scipy.special.entr(np.maximum(values, 0)).sum()))  # rounding takes zeros below 0
