"""Checks of metrics' arguments; each failure raises a ValueError of one line."""

import numpy as np


def features(values, name: str, least: int = 1, dtype=np.float64) -> np.ndarray:
    """Returns features as `dtype` [samples, dimensions], finite, with at least `least` samples.

    Raises:
      ValueError: they are anything else; the message calls them `name`.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"{name} features must be [samples, dimensions], got the shape {values.shape}")
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} features must be real numbers, got {values.dtype}")
    if len(values) < least:
        raise ValueError(f"{least} samples or more are needed; {name} features have {len(values)}")
    values = values.astype(dtype, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} features have non-finite values")
    return values


def same_dimensions(real: np.ndarray, fake: np.ndarray) -> None:
    """Raises ValueError if real and fake features [samples, dimensions] differ in their dimensions."""
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real features have {real.shape[1]} dimensions, fake ones {fake.shape[1]}")


def directions(features: np.ndarray) -> np.ndarray:
    """Features [samples, dimensions] scaled to length 1, and a last dimension that is 1 for those that are 0.

    So every sample has a direction, and zeros are alike and at right angles to all others.
    """
    largest = np.abs(features).max(axis=1, keepdims=True)  # a square neither overflows nor vanishes beside 1
    scaled = np.concatenate([features / np.where(largest == 0, 1, largest), largest == 0], axis=1)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


def labels(values, name: str, num: int, num_classes: int | None = None) -> np.ndarray:
    """Returns labels as int64 [num], at least 0, and at most num_classes - 1 if that is given.

    Raises:
      ValueError: they are anything else; the message calls them `name`.
    """
    values = np.asarray(values)
    if values.shape != (num,) or values.dtype.kind not in "iu":
        raise ValueError(f"{name} labels must be integers [{num}], got {values.dtype} {values.shape}")
    values = values.astype(np.int64)
    if num and values.min() < 0:
        raise ValueError(f"{name} labels must be 0 or more, got {values.min()}")
    if num_classes is not None and num and values.max() >= num_classes:
        raise ValueError(f"{name} labels must be under {num_classes}, got {values.max()}")
    return values


def images(values, name: str) -> np.ndarray:
    """Returns images as uint8 [num, H, W, C], with C 1 or 3 and num 1 or more.

    Raises:
      ValueError: they are anything else; the message calls them `name`.
    """
    values = np.asarray(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{name} images have non-finite values")
    if values.dtype != np.uint8:
        raise ValueError(f"{name} images must be uint8, 0 to 255, got {values.dtype}")
    if values.ndim != 4 or 0 in values.shape or values.shape[-1] not in (1, 3):
        raise ValueError(f"{name} images must be [num, H, W, 1 or 3], got the shape {values.shape}")
    return values
