"""The inception score: a classifier's confidence in each sample, and the variety of the classes."""

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp

from jaxgen.metrics import checks


class InceptionScore(NamedTuple):
    """The scores of the splits."""

    mean: float
    deviation: float  # their standard deviation (divided by their number); not a standard error of the mean


def inception_score(logits, splits: int = 10) -> InceptionScore:
    """exp(mean_x KL(p(y|x), p(y))), taken over consecutive parts of the samples.

    p(y|x) is the softmax of a sample's logits and p(y) its mean over the part; with `splits`
    parts, part i holds the samples from i n / splits to (i + 1) n / splits, rounded down. It is
    computed on logarithms in float64. A score lies between 1 and the number of classes; that of n
    samples cannot exceed n.

    It is biased upwards by few samples and depends on the splits: state both. Samples are not
    shuffled here: shuffle them first if they come sorted by class. It uses no real data, and is
    called Inception score only for the logits of the Inception-2015 network.

    Args:
      logits: [samples, classes], any real dtype; not probabilities.
      splits: number of parts into which the samples are cut, 1 or more.

    Returns:
      The mean and the deviation of the parts' scores.

    Raises:
      ValueError: the logits are not [samples, classes], are fewer than `splits`, have non-finite
        values or are probabilities, or `splits` is under 1.

    Source: Salimans et al. 2016, "Improved techniques for training GANs"
    (https://arxiv.org/abs/1606.03498), section 4; on its pitfalls, Barratt & Sharma 2018
    (https://arxiv.org/abs/1801.01973).
    """
    if splits < 1:
        raise ValueError(f"1 split or more is needed, got {splits}")
    logits = checks.features(logits, "logit", splits)
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise ValueError("every row is 0 or more and sums to 1: these are probabilities, give the logits")
    log_conditional = log_softmax(logits, axis=1)
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [_score(log_conditional[bounds[i] : bounds[i + 1]]) for i in range(splits)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_conditional: np.ndarray) -> float:
    """The score of log p(y|x) [samples, classes]."""
    log_marginal = logsumexp(log_conditional, axis=0) - np.log(len(log_conditional))
    kl = (np.exp(log_conditional) * (log_conditional - log_marginal)).sum(axis=1)
    return float(np.exp(kl.mean()))
