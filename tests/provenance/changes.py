"""Changes of images uint8 [num, H, W, C], as files go through on their way."""

import io

import numpy as np
from PIL import Image


def jpeg(images, quality):
    """Saves and reads each image as JPEG."""
    changed = np.empty_like(images)
    for i, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
        changed[i] = np.asarray(Image.open(file)).reshape(image.shape)
    return changed


def binarized(images):
    """Gives every pixel 0 or 255."""
    return np.where(images >= 128, 255, 0).astype(np.uint8)


def noisy(images, deviation):
    """Adds Gaussian noise."""
    noise = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
