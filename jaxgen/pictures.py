"""Images to look at: grids and PNG files."""

import io
import math

import numpy as np
from PIL import Image

PADDING = 128
"""Mid-grey: seen between dark images and bright ones, on a light page and a dark one."""


def image_grid(images, columns: int) -> np.ndarray:
    """Lays images out in reading order, with one pixel of grey (128) between them and none around.

    Args:
      images: uint8 [n, H, W, C].
      columns: images a row; a grid of fewer images has as many columns as images. What is left of
        the last row is grey.

    Returns:
      uint8 [rows * (H + 1) - 1, columns * (W + 1) - 1, C].

    Raises:
      ValueError: no images, another dtype or shape, or `columns` below 1.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(f"a grid needs images uint8 [n, H, W, C], n >= 1, got {images.dtype} {list(images.shape)}")
    if columns < 1:
        raise ValueError(f"a grid needs 1 column or more, got {columns}")
    n, height, width, channels = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    # each cell carries its padding below and to the right; the grid's own last ones are cut off
    cells = np.full((rows * columns, height + 1, width + 1, channels), PADDING, np.uint8)
    cells[:n, :height, :width] = images
    cells = cells.reshape(rows, columns, height + 1, width + 1, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), -1, channels)[:-1, :-1]


def to_png(images, scale: int = 1) -> bytes:
    """The bytes of a PNG file; the same pixels always give the same bytes.

    Args:
      images: uint8 [H, W, C], an image or a grid, or uint8 [n, H, W, C], laid out as a grid about as
        many images wide as high. C is 1 (grey) or 3 (RGB).
      scale: each pixel becomes a square of scale * scale pixels.

    Raises:
      ValueError: another dtype, shape or number of channels, or `scale` below 1.
    """
    image = np.asarray(images)
    if image.ndim == 4:
        image = image_grid(image, math.ceil(math.sqrt(len(image))))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise ValueError(f"a PNG needs uint8 [H, W, C] with 1 or 3 channels, got {image.dtype} {list(image.shape)}")
    if scale < 1:
        raise ValueError(f"a PNG's scale is 1 or more, got {scale}")
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def legible_scale(height: int) -> int:
    """The scale of `to_png` that shows images of up to 16 pixels about 32 high, for people to look at."""
    return max(1, 32 // height)
