"""Parzen-window log-likelihoods, the score of the first GAN papers: of historical interest only.

Their protocol: 10,000 samples of the model, the deviation chosen by cross-validation on images
held out of training, the mean over the test images, pixels in [0, 1]. Theis et al. 2016
(https://arxiv.org/abs/1511.01844) show why it must not rank models: in the dimensions
of images the estimate is far from the likelihood for any feasible number of samples, and k-means
centroids of the training data score better than the data's own distribution.
"""

import numpy as np

from jaxgen.metrics import checks

BLOCK = 2**20
"""Distances held at once (8 MiB): few enough to stay in the processor's cache."""


def parzen_log_likelihood(test, samples, deviation: float) -> np.ndarray:
    """The log density of a mixture of Gaussians of one deviation around each sample.

        log mean_j N(x; s_j, deviation^2 I)

    for each x of `test` over all s_j of `samples`, by log-sum-exp in float64.

    Args:
      test: [n, dimensions], real examples, any real dtype.
      samples: [samples, dimensions], of the model.
      deviation: sigma of the Gaussians, in the features' units, above 0.

    Returns:
      float64 [n], nats.

    Raises:
      ValueError: an argument is not [samples, dimensions], is empty or has non-finite values, the
        dimensions differ, or the deviation is not above 0 and finite.

    Source: Parzen 1962; as a score, Breuleux et al. 2011 and Goodfellow et al. 2014
    (https://arxiv.org/abs/1406.2661), section 5.
    """
    return _log_densities(test, samples, np.array([deviation], np.float64))[0]


def _log_densities(test, samples, deviations: np.ndarray) -> np.ndarray:
    """Log densities for each deviation, float64 [deviations, n]; the distances, which take the time, are shared."""
    for deviation in deviations:
        if not 0 < deviation < np.inf:
            raise ValueError(f"a deviation must be above 0 and finite, got {deviation:g}")
    test, samples = checks.features(test, "test"), checks.features(samples, "sample")
    checks.same_dimensions(test, samples)
    center = samples.mean(axis=0)  # around which |x|^2 + |s|^2 - 2 x.s loses the fewest digits
    test, samples = test - center, samples - center
    num_samples, dimensions = samples.shape
    squared_norms = np.square(samples).sum(axis=1)
    rows = max(1, BLOCK // num_samples)
    log_sums = []
    for start in range(0, len(test), rows):
        x = test[start : start + rows]
        squared = np.maximum(np.square(x).sum(axis=1, keepdims=True) + squared_norms - 2 * x @ samples.T, 0)
        nearest = squared.min(axis=1, keepdims=True)
        squared -= nearest
        # The largest term of the log-sum-exp is known, so that each deviation costs only an exp.
        scales = -0.5 / deviations**2
        log_sums.append([np.log(np.exp(scale * squared).sum(axis=1)) + scale * nearest[:, 0] for scale in scales])
    log_constants = np.log(num_samples) + dimensions / 2 * np.log(2 * np.pi * deviations**2)
    return np.concatenate(log_sums, axis=1) - log_constants[:, None]


def choose_deviation(validation, samples, deviations) -> float:
    """Returns the one of `deviations` with the largest mean log-likelihood of the validation examples.

    In a tie it is the first. A choice at an end of the list means that the list is too short.

    Args:
      validation: [n, dimensions], real examples that are neither training nor test data.
      samples: [samples, dimensions], of the model.
      deviations: [deviations], above 0, e.g. np.logspace(-1, 0, 10) for pixels in [0, 1].

    Raises:
      ValueError: as `parzen_log_likelihood`, or there are no deviations, or they are not one axis.
    """
    deviations = np.asarray(deviations, dtype=np.float64)
    if deviations.ndim != 1 or len(deviations) == 0:
        raise ValueError(f"deviations must be a list of one or more, got the shape {deviations.shape}")
    return float(deviations[_log_densities(validation, samples, deviations).mean(axis=1).argmax()])
