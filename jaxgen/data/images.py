"""What is done to images after they are read, in this order: crop, channels, resize, pad, binarise."""

from typing import NamedTuple

import numpy as np

from jaxgen.data.options import Options
from jaxgen.errors import UserError
from jaxgen.model import BINARY_THRESHOLD


class Transform(NamedTuple):
    """A function of one image, uint8 [H, W, C] in and out; the fields are those of `Options`."""

    crop: int | None = None
    channels: int | None = None
    image_size: int | None = None
    pad: int = 0
    binarize: bool = False

    @classmethod
    def of(cls, options: Options) -> "Transform":
        """What the options ask for."""
        return cls(*(getattr(options, name) for name in cls._fields))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image, transformed. Raises UserError where it is smaller than the crop."""
        if self.crop is not None:
            if min(image.shape[:2]) < self.crop:
                height, width = image.shape[:2]
                raise UserError(f"crop {self.crop}: there is an image of {height}x{width}")
            image = _centre(image, self.crop)
        if self.channels is not None and image.shape[2] != self.channels:
            image = grey(image) if self.channels == 1 else image.repeat(3, axis=2)
        if self.image_size is not None:
            image = resized(_centre(image, min(image.shape[:2])), self.image_size)
        if self.pad:
            image = np.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)))
        if self.binarize:
            image = np.where(image >= BINARY_THRESHOLD, np.uint8(255), np.uint8(0))
        return image

    def all(self, images: np.ndarray) -> np.ndarray:
        """That of images [n, H, W, C]."""
        return images if self == Transform() else np.stack([self(image) for image in images])

    def described(self) -> str:
        """For the end of a sentence: what is done."""
        size = self.image_size
        parts = [
            f"the centre {self.crop}x{self.crop} cut out" if self.crop else "",
            {1: "in grey", 3: "in colour", None: ""}[self.channels],
            f"resized to {size}x{size} (Pillow, bicubic, antialiased)" if size else "",
            f"padded with {self.pad} zeros on every side" if self.pad else "",
            "binarised (128 and above is 255, the rest 0)" if self.binarize else "",
        ]
        return ", ".join(filter(None, parts))


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    top, left = ((n - size) // 2 for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def grey(image: np.ndarray) -> np.ndarray:
    """The luma of a colour image, by ITU-R 601-2: [H, W, 3] -> [H, W, 1]."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """A square image [n, n, C] at `size` by `size` pixels, by Pillow's bicubic resampling, antialiased."""
    from PIL import Image

    if image.shape[0] == size:
        return image
    flat = image[..., 0] if image.shape[2] == 1 else image  # Pillow's grey images have no channel axis
    small = Image.fromarray(flat).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(small).reshape(size, size, image.shape[2])
