"""Errors of reconstructions of images, pixel by pixel."""

from typing import NamedTuple

import numpy as np

from jaxgen.metrics.diversity import SIDE, image_pairs, ssim


class Reconstruction(NamedTuple):
    """Errors of each image, float64 [n]."""

    mse: np.ndarray  # mean squared error of pixels in [0, 1]
    mae: np.ndarray  # mean absolute error of pixels in [0, 1]
    psnr: np.ndarray  # peak signal-to-noise ratio, dB; inf for equal images
    ssim: np.ndarray  # structural similarity; nan if a side is under 11 pixels


def reconstruction_errors(real, fake) -> Reconstruction:
    """Pixel errors of reconstructions of images.

    With pixels divided by 255, mse and mae are means over all pixels and channels of an image, and
    psnr = -10 log10 mse, so the peak is 1. The mean psnr of images is not the psnr of the mean
    mse, and is inf if one reconstruction is exact. Pixel errors favor blur.

    Args:
      real: uint8 [n, H, W, 1 or 3].
      fake: as real, the reconstruction of each.

    Raises:
      ValueError: the images are anything else, or differ in shape.

    Source: ssim is that of `jaxgen.metrics.diversity`, of Wang et al. 2004.
    """
    real, fake = image_pairs(real, fake, ("real", "fake"))
    difference = real.astype(np.int32) - fake  # integers: the sums are exact
    mse = np.square(difference).mean(axis=(1, 2, 3)) / 255**2
    mae = np.abs(difference).mean(axis=(1, 2, 3)) / 255
    with np.errstate(divide="ignore"):
        psnr = -10 * np.log10(mse)
    similarity = ssim(real, fake) if min(real.shape[1:3]) >= SIDE else np.full(len(real), np.nan)
    return Reconstruction(mse, mae, psnr, similarity)
