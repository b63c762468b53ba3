"""The Fréchet distance between two sets of features, each seen as a Gaussian."""

import numpy as np


def frechet_distance(real, fake) -> float:
    """The squared Fréchet (2-Wasserstein) distance between the Gaussians fitted to two feature sets.

    With the sample means m1, m2 and the sample covariances S1, S2 (divided by n - 1) it is

        |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2).

    The last trace needs no matrix square root. Let X be the centred features over sqrt(n - 1), so
    that S = X^T X, and X = Q R its QR factors: S1 = R1^T R1 and S2 = R2^T R2. As AB and BA have
    the same non-zero eigenvalues, those of S1 S2 = R1^T (R1 R2^T R2) are those of
    (R1 R2^T) (R1 R2^T)^T, the squared singular values of R1 R2^T. Hence

        tr sqrt(S1 S2) = sum of the singular values of R1 R2^T = |R1 R2^T|_*, its nuclear norm.

    Nothing is squared and then rooted again, so rank-deficient covariances (fewer samples than
    dimensions) lose no digits: a set against itself gives 0 to rounding, of either sign, where
    a matrix square root is off by 1e-6 and more.

    The distance is biased upwards by few samples, and by how much depends on the features:
    compare only distances taken with the same numbers of samples from the same real set. It is
    called FID only for the features of the Inception-2015 network.

    Args:
      real: [samples, dimensions], any real dtype; worked on in float64 on the host.
      fake: [samples, dimensions]; the number of samples may differ from that of `real`.

    Returns:
      The distance, in the features' squared units. Symmetric in its arguments.

    Raises:
      ValueError: an argument is not [samples, dimensions], has fewer than 2 samples or non-finite
        values, or the dimensions differ.

    Source: Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions";
    as a score of generators, Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), equation 6.
    """
    mean_real, factor_real = _mean_and_factor(real, "real")
    mean_fake, factor_fake = _mean_and_factor(fake, "fake")
    if len(mean_real) != len(mean_fake):
        raise ValueError(f"real features have {len(mean_real)} dimensions, fake ones {len(mean_fake)}")
    trace_root = np.linalg.svd(factor_real @ factor_fake.T, compute_uv=False).sum()
    # tr S = |R|^2, the sum of R's squared entries
    traces = np.square(factor_real).sum() + np.square(factor_fake).sum()
    return float(np.square(mean_real - mean_fake).sum() + traces - 2 * trace_root)


def _mean_and_factor(features, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean [dimensions] and R [min(samples, dimensions), dimensions] with R^T R the covariance."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name} features must be [samples, dimensions], got the shape {features.shape}")
    num_samples = len(features)
    if num_samples < 2:
        raise ValueError(f"a covariance needs 2 samples or more; {name} features have {num_samples}")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} features have non-finite values")
    mean = features.mean(axis=0)
    # a second pass over the centred features: E[x^2] - E[x]^2 would cancel where the mean is large
    return mean, np.linalg.qr((features - mean) / np.sqrt(num_samples - 1), mode="r")
