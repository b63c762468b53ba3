"""What is done to images after they are read: uint8 [images, height, width, channels] in and out."""

import numpy as np

from jaxgen.model import BINARY_THRESHOLD


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """The images at `size` by `size` pixels, by Pillow's bicubic resampling; 1 or 3 channels."""
    from PIL import Image

    channels = images.shape[-1]
    flat = images[..., 0] if channels == 1 else images  # Pillow's grey images have no channel axis
    resized = [np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC)) for x in flat]
    return np.stack(resized).reshape(-1, size, size, channels)


def binarize(images: np.ndarray) -> np.ndarray:
    """The images with 255 where a pixel is at least BINARY_THRESHOLD and 0 elsewhere."""
    return np.where(images >= BINARY_THRESHOLD, np.uint8(255), np.uint8(0))
