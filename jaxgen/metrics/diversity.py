"""Diversity of the samples of one class: structural similarity of images, distances of features."""

from typing import NamedTuple

import numpy as np
import scipy

from jaxgen.metrics import checks

SIDE, SD = 11, 1.5  # side and standard deviation of the Gaussian window, pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # (K1 L)^2 and (K2 L)^2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, of the scales from fine to coarse
CHUNK = 64
"""Pairs processed at once."""

_WINDOW = np.exp(-np.square(np.arange(SIDE) - SIDE // 2) / (2 * SD**2))
_WINDOW /= _WINDOW.sum()


class Diversity(NamedTuple):
    """Mean and deviation of a quantity of random pairs within each class."""

    classes: np.ndarray  # int64 [classes], those with samples, ascending
    mean: np.ndarray  # float64 [classes]
    deviation: np.ndarray  # float64 [classes], over the pairs (divided by their number)


def within_class_diversity(images, labels, *, pairs: int = 100, seed: int = 0) -> Diversity:
    """The mean MS-SSIM of random pairs of images of one class.

    A high value means little diversity: 1 means that a class is one image. Compare it with that of the
    training images. Noise has low values too, so it says nothing of a model whose samples are
    not recognized. `ms_ssim` states the scales that small images get.

    Args:
      images: uint8 [n, H, W, 1 or 3], 11 pixels or more on each side.
      labels: integers [n], what the images were conditioned on, or are recognized as.
      pairs: drawn in each class, of two different images each; 1 or more.
      seed: of the pairs; 0 or more.

    Raises:
      ValueError: images or labels are anything else, a class has a single image, or `pairs` is
        under 1.

    Source: Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs"
    (https://arxiv.org/abs/1610.09585), section 4.2 (100 pairs a class).
    """
    images = checks.images(images, "sampled")
    labels = checks.labels(labels, "sampled", len(images))
    return _over_pairs(lambda i, j: ms_ssim(images[i], images[j]), labels, pairs, seed)


def feature_diversity(features, labels, *, pairs: int = 1000, seed: int = 0) -> Diversity:
    """The mean Euclidean distance of random pairs of features of one class.

    A high value means much diversity. Its unit is the features', so it is comparable only with that
    of real samples under the same extractor.

    Args:
      features: [n, dimensions], any real dtype; computed in float64.
      labels: integers [n], what the samples were conditioned on, or are recognized as.
      pairs: drawn in each class, of two different samples each; 1 or more.
      seed: of the pairs; 0 or more.

    Raises:
      ValueError: features or labels are anything else, a class has a single sample, or `pairs` is
        under 1.
    """
    features = checks.features(features, "sampled")
    labels = checks.labels(labels, "sampled", len(features))
    return _over_pairs(lambda i, j: np.linalg.norm(features[i] - features[j], axis=1), labels, pairs, seed)


def _over_pairs(quantity, labels: np.ndarray, pairs: int, seed: int) -> Diversity:
    """Mean and deviation of quantity(i, j) [pairs] over random pairs of indices i != j of each class."""
    if pairs < 1:
        raise ValueError(f"1 pair or more is needed, got {pairs}")
    rng = np.random.Generator(np.random.Philox(seed))
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ValueError(f"a pair needs 2 samples of a class; class {classes[counts.argmin()]} has 1")
    values = []
    for label, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        first = rng.integers(count, size=pairs)
        second = (first + rng.integers(1, count, size=pairs)) % count
        values.append(quantity(members[first], members[second]))
    return Diversity(classes, np.mean(values, axis=1), np.std(values, axis=1))


def ms_ssim(a, b, *, scales: int | None = None) -> np.ndarray:
    """The multi-scale structural similarity of pairs of images.

    Each scale but the coarsest contributes the contrast-structure term of `ssim`, the coarsest `ssim`
    itself, each averaged over the windows, with negative means set to 0. The factors are raised to
    their scales' weights and multiplied, and the product is averaged over the channels. From scale to
    scale images are averaged over blocks of 2x2 pixels; an odd side first repeats its last row or column.

    Five scales need 161 pixels per side. Smaller images get as many scales as leave 11 pixels per side
    (28: two, 64: three), with the first weights of the paper scaled to sum to 1. Values with different
    numbers of scales are not comparable.

    Args:
      a: uint8 [pairs, H, W, 1 or 3].
      b: as a.
      scales: 1 to 5; None is as many as fit.

    Returns:
      float64 [pairs], 0 to 1, and 1 for equal images. Symmetric in its arguments.

    Raises:
      ValueError: the images are anything else, differ in shape or have a side under 11 pixels, or
        so many scales do not fit.

    Source: Wang et al. 2003, "Multiscale structural similarity for image quality assessment",
    equation 7; weights of its section 3.2.
    """
    a, b = image_pairs(a, b, ("first", "second"))
    most = _scales_that_fit(a)
    scales = most if scales is None else scales
    if not 1 <= scales <= most:
        raise ValueError(f"images of {a.shape[1]}x{a.shape[2]} pixels allow 1 to {most} scales, got {scales}")
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    return _by_chunks(lambda x, y: _weighted_product(x, y, weights), a, b)


def ssim(a, b) -> np.ndarray:
    """The structural similarity of pairs of images.

        (2 m_a m_b + C1) / (m_a^2 + m_b^2 + C1) * (2 s_ab + C2) / (s_a^2 + s_b^2 + C2),

    the luminance and the contrast-structure term, with the means m, variances s^2 and the covariance
    s_ab of each window of 11x11 pixels under Gaussian weights of deviation 1.5, C1 = (0.01 x 255)^2
    and C2 = (0.03 x 255)^2; averaged over the windows that lie within the image, and the channels.

    Args:
      a: uint8 [pairs, H, W, 1 or 3].
      b: as a.

    Returns:
      float64 [pairs], -1 to 1, and 1 for equal images. Symmetric in its arguments.

    Raises:
      ValueError: the images are anything else, differ in shape or have a side under 11 pixels.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural
    similarity", equation 13.
    """
    a, b = image_pairs(a, b, ("first", "second"))
    _scales_that_fit(a)
    return _by_chunks(lambda x, y: _similarity_and_structure(x, y)[0].mean(axis=-1), a, b)


def image_pairs(first, second, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns two arrays of images uint8 [pairs, H, W, 1 or 3] of one shape; otherwise raises ValueError."""
    first, second = checks.images(first, names[0]), checks.images(second, names[1])
    if first.shape != second.shape:
        raise ValueError(f"{names[0]} images have the shape {first.shape}, {names[1]} ones {second.shape}")
    return first, second


def _scales_that_fit(images: np.ndarray) -> int:
    side = min(images.shape[1:3])
    if side < SIDE:
        raise ValueError(f"images need {SIDE} pixels or more a side, got {images.shape[1]}x{images.shape[2]}")
    scales = 0
    while side >= SIDE and scales < len(WEIGHTS):
        scales, side = scales + 1, (side + 1) // 2
    return scales


def _by_chunks(function, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Applies `function` of float64 pairs -> [pairs] to chunks of uint8 pairs, since windows take much memory."""
    starts = range(0, len(a), CHUNK)
    pieces = ((a[i : i + CHUNK].astype(np.float64), b[i : i + CHUNK].astype(np.float64)) for i in starts)
    return np.concatenate([function(x, y) for x, y in pieces])


def _weighted_product(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """MS-SSIM [pairs] of float64 images on as many scales as there are weights."""
    product = np.ones((a.shape[0], a.shape[-1]))
    for weight in weights[:-1]:
        _, structure = _similarity_and_structure(a, b)
        product *= np.maximum(structure, 0) ** weight
        a, b = _halved(a), _halved(b)
    similarity, _ = _similarity_and_structure(a, b)
    return (product * np.maximum(similarity, 0) ** weights[-1]).mean(axis=-1)


def _similarity_and_structure(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and its contrast-structure term alone, [pairs, channels] each, averaged over the windows."""
    mean_a, mean_b = _windowed(a), _windowed(b)
    variances = _windowed(a * a + b * b) - (mean_a * mean_a + mean_b * mean_b)
    covariance = _windowed(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).mean(axis=(1, 2)), structure.mean(axis=(1, 2))


def _windowed(images: np.ndarray) -> np.ndarray:
    """The weighted mean of every window within the images: [pairs, H - 10, W - 10, C]."""
    margin = slice(SIDE // 2, -(SIDE // 2))
    rows = scipy.ndimage.correlate1d(images, _WINDOW, axis=1)[:, margin]
    return scipy.ndimage.correlate1d(rows, _WINDOW, axis=2)[:, :, margin]


def _halved(images: np.ndarray) -> np.ndarray:
    """The means of blocks of 2x2 pixels; odd sides repeat their last row or column."""
    _, height, width, _ = images.shape
    images = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = images[:, ::2] + images[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4
