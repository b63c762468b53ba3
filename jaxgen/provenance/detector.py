"""A detector of images unlike a reference set, fitted on real images alone, with conformal p-values.

Features of an image are shares of its gray levels, its radial spectrum, quantiles of its differences, its principal
components and what they leave. The score is the Mahalanobis distance to one half of the reference set; the p-value is
the rank of the score among those of the other half. If an image is exchangeable with the reference, P(p <= a) <= a,
whatever the features are.

Anything of another source is unlike the reference, too: another camera, a JPEG file, another way to resize. It is not
the probability that an image was generated, and no proof. Detectors that learn from generated images are not offered:
on models that they were not trained on they are wrong with confidence (`experiments/detectors.py`).

Sources: Bates et al. 2023, Testing for Outliers with Conformal p-values (https://arxiv.org/abs/2104.08279); for several
images, twice the mean of their p-values, Vovk & Wang 2020 (https://arxiv.org/abs/1212.4966).
"""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

UNLIKE, NOTHING, CANNOT_TELL = "unlike real", "nothing found", "cannot tell"
"""The three answers."""

LEVEL = 0.01
"""Largest p-value of the answer UNLIKE."""

LEVELS = (0, 1, 4, 16, 64, 128, 192, 240, 255)
"""Lowest gray level of each class."""

QUANTILES = (0.5, 0.75, 0.9, 0.97)

COMPONENTS = 60

SMALLEST = 8
"""Smallest side of an image in pixels: of fewer there are hardly any frequencies and differences."""

MOST = 6000
"""Reference images used."""


class Detector(NamedTuple):
    """A fitted detector."""

    shape: tuple[int, ...]  # of an image
    components: PCA
    mean: np.ndarray  # of the features
    precision: np.ndarray  # inverse of their covariance
    ranked: np.ndarray  # ascending scores of the images held out


def fit(images: np.ndarray) -> Detector:
    """Fits a detector to reference images uint8 [num, H, W, C], of which every second one is held out for the ranks."""
    used, held_out = images[:MOST:2], images[1:MOST:2]
    flat = used.reshape(len(used), -1) / 255
    count = max(1, min(COMPONENTS, len(used) // 4, flat.shape[1] // 2))
    components = PCA(count, svd_solver="randomized", random_state=0).fit(flat)
    values = features(used, components)
    covariance = np.cov(values.T)
    size = len(covariance)
    precision = np.linalg.inv(covariance + 1e-6 * np.trace(covariance) / size * np.eye(size))
    fitted = Detector(images.shape[1:], components, values.mean(0), precision, np.zeros(0))
    return fitted._replace(ranked=np.sort(scores(fitted, held_out)))


def scores(detector: Detector, images: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances of images uint8 [num, H, W, C], float64 [num]."""
    away = features(images, detector.components) - detector.mean
    return np.einsum("ni,ij,nj->n", away, detector.precision, away)


def p_values(detector: Detector, images: np.ndarray) -> np.ndarray:
    """The share of held out images, and the image itself, that score at least as high: float64 [num]."""
    higher = len(detector.ranked) - np.searchsorted(detector.ranked, scores(detector, images))
    return (1 + higher) / (1 + len(detector.ranked))


def answer(detector: Detector, images: np.ndarray) -> tuple[str, float | None, str]:
    """One of the three answers for all images together.

    Returns:
        (answer, p-value or None, a reason if it is CANNOT_TELL). The p-value of several images is twice their mean.
    """
    if images.shape[1:] != detector.shape:
        sizes = ["x".join(map(str, shape)) for shape in (images.shape[1:], detector.shape)]
        return CANNOT_TELL, None, f"images of {sizes[0]} pixels, and a reference of {sizes[1]}"
    if (1 + len(detector.ranked)) * LEVEL < 1:
        return CANNOT_TELL, None, f"{len(detector.ranked)} reference images held out give no p-value of {LEVEL}"
    if len(np.unique(images)) <= 2:
        return CANNOT_TELL, None, "at most two levels: what is measured is statistics of gray levels"
    p = p_values(detector, images)
    together = float(p[0] if len(p) == 1 else min(1.0, 2 * p.mean()))
    return (UNLIKE if together <= LEVEL else NOTHING), together, ""


def features(images: np.ndarray, components: PCA) -> np.ndarray:
    """Features of images uint8 [num, H, W, C], float64 [num, features]."""
    flat = images.reshape(len(images), -1) / 255
    projected = components.transform(flat)
    left = ((flat - components.inverse_transform(projected)) ** 2).sum(1, keepdims=True)
    return np.concatenate(
        [histogram(images), spectrum(images), differences(images), projected, np.log(left + 1e-6)], axis=1
    )


def histogram(images: np.ndarray) -> np.ndarray:
    """Shares of the pixels in each class of gray levels: [num, 9]."""
    of_level = np.searchsorted(LEVELS, np.arange(256), side="right") - 1
    classes = of_level[images]
    return np.stack([(classes == each).mean((1, 2, 3)) for each in range(len(LEVELS))], axis=1)


def spectrum(images: np.ndarray) -> np.ndarray:
    """Mean log power of each frequency's ring, up to 0.65 of the shorter side: [num, rings]."""
    x = images.mean(-1) / 255
    height, width = x.shape[1:]
    power = np.log(np.abs(np.fft.fft2(x - x.mean((1, 2), keepdims=True))) ** 2 + 1e-4)
    side = min(height, width)
    ring = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * side
    ring = ring.round().astype(int)
    return np.stack([power[:, ring == radius].mean(1) for radius in range(1, int(0.65 * side) + 1)], axis=1)


def differences(images: np.ndarray) -> np.ndarray:
    """Quantiles of the absolute first differences along both axes, and of the Laplacian: [num, 12]."""
    x = images.mean(-1) / 255
    middle = x[:, 1:-1, 1:-1]
    laplacian = 4 * middle - x[:, :-2, 1:-1] - x[:, 2:, 1:-1] - x[:, 1:-1, :-2] - x[:, 1:-1, 2:]
    parts = [np.diff(x, axis=2), np.diff(x, axis=1), laplacian]
    return np.concatenate([np.quantile(np.abs(part), QUANTILES, axis=(1, 2)).T for part in parts], axis=1)
