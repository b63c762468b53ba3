"""Transforms of images after reading, in this order: crop, channels, resize, pad, binarize."""

import hashlib
from typing import Literal, NamedTuple

import numpy as np

from jaxgen.data.options import Options
from jaxgen.errors import UserError
from jaxgen.model import BINARY_THRESHOLD

FROZEN = 0
"""Seed for binarizing the images that are scored."""


class Transform(NamedTuple):
    """A function of one image, uint8 [H, W, C] in and out; the fields are those of `Options`."""

    crop: int | None = None
    channels: int | None = None
    image_size: int | None = None
    pad: int = 0
    binarize: Literal["threshold", "dynamic"] | None = None

    @classmethod
    def of(cls, options: Options, split: str = "") -> "Transform":
        """The transform that the options ask for; of a split, the part that is applied when it is read.

        With dynamic binarization, training images stay gray here: each training step samples their bits anew.
        """
        asked = cls(*(getattr(options, name) for name in cls._fields))
        return asked._replace(binarize=None) if (asked.binarize, split) == ("dynamic", "train") else asked

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns the transformed image. Raises UserError if it is smaller than the crop."""
        if self.crop is not None:
            if min(image.shape[:2]) < self.crop:
                height, width = image.shape[:2]
                raise UserError(f"crop {self.crop}: there is an image of {height}x{width}")
            image = _center(image, self.crop)
        if self.channels is not None and image.shape[2] != self.channels:
            image = gray(image) if self.channels == 1 else image.repeat(3, axis=2)
        if self.image_size is not None:
            image = resized(_center(image, min(image.shape[:2])), self.image_size)
        if self.pad:
            image = np.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)))
        if self.binarize == "threshold":
            image = np.where(image >= BINARY_THRESHOLD, np.uint8(255), np.uint8(0))
        elif self.binarize == "dynamic":
            image = frozen(image)
        return image

    def all(self, images: np.ndarray) -> np.ndarray:
        """Transforms images [n, H, W, C]."""
        return images if self == Transform() else np.stack([self(image) for image in images])

    def described(self) -> str:
        """The transform in words, for the end of a sentence."""
        size = self.image_size
        parts = [
            f"the center {self.crop}x{self.crop} cut out" if self.crop else "",
            {1: "in gray", 3: "in color", None: ""}[self.channels],
            f"resized to {size}x{size} (Pillow, bicubic, antialiased)" if size else "",
            f"padded with {self.pad} zeros on every side" if self.pad else "",
            {
                "threshold": "binarized (128 and above is 255, the rest 0)",
                "dynamic": "binarized dynamically (255 with the probability level/255, else 0: training images anew "
                f"each step, the others once, by the seed {FROZEN} and their content)",
                None: "",
            }[self.binarize],
        ]
        return ", ".join(filter(None, parts))


def frozen(image: np.ndarray) -> np.ndarray:
    """Binarizes an image: each pixel is 255 with probability level / 255, else 0, always the same for one image.

    The generator is seeded by the sha256 of the pixels, so an image's bits depend only on its content: they are the
    same in every split, order and model. Different images are binarized independently; copies of an image get the
    same bits.
    """
    words = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), "<u4")
    uniform = np.random.Generator(np.random.Philox(np.random.SeedSequence([FROZEN, *words]))).random(image.shape)
    return np.where(255 * uniform < image, np.uint8(255), np.uint8(0))


def _center(image: np.ndarray, size: int) -> np.ndarray:
    top, left = ((n - size) // 2 for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def gray(image: np.ndarray) -> np.ndarray:
    """The luma of a color image, by ITU-R 601-2: [H, W, 3] -> [H, W, 1]."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """A square image [n, n, C] at `size` by `size` pixels, by Pillow's bicubic resampling, antialiased."""
    from PIL import Image

    if image.shape[0] == size:
        return image
    flat = image[..., 0] if image.shape[2] == 1 else image  # Pillow's gray images have no channel axis
    small = Image.fromarray(flat).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(small).reshape(size, size, image.shape[2])
