"""`stacked_mnist` and `stacked_digits`: three random digits as the three colors of an image, 1,000 modes.

The digits a, b and c of red, green and blue make the label 100 a + 10 b + c. Metz et al. 2017 (Unrolled GANs,
https://arxiv.org/abs/1611.02163) and Srivastava et al. 2017 (VEEGAN, https://arxiv.org/abs/1705.07761) count the
modes of a model by these labels. Lin et al. 2018 (PacGAN, https://arxiv.org/abs/1712.04086) train on 128,000 stacks and
count in 26,000 samples, the size of the test split here. They stack digits of all 70,000 of MNIST; here a
split's stacks use only that split's digits, so no digit is in two splits.
"""

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import Source

SOURCES = {"stacked_mnist": "mnist", "stacked_digits": "digits"}

EXAMPLES = {"train": 128_000, "validation": 10_000, "test": 26_000}


def identity(options: Options) -> str:
    """Version of the stacking rule and identity of the digits."""
    from jaxgen import data

    return f"1 of {data.identity(SOURCES[options.dataset_name])}"


def read(options: Options) -> Source:
    """The splits, with `image` uint8 [n, H, W, 3] and `label` int32 [n], 0 to 999.

    Raises:
      UserError: if the digits cannot be loaded.
    """
    from jaxgen import data

    digits = data.load(SOURCES[options.dataset_name])
    splits = {}
    for seed, (split, num) in enumerate(EXAMPLES.items()):
        examples = getattr(digits, split)
        rng = np.random.Generator(np.random.PCG64(seed))
        splits[split] = stack(examples["image"], examples["label"], rng, num)
    note = f"stacks of three digits of {SOURCES[options.dataset_name]}, each split's drawn from its own digits"
    return Source(splits, note, tuple(f"{label:03}" for label in range(1000)))


def stack(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Stacks of three examples each, drawn independently and with replacement.

    Args:
      images: uint8 [n, H, W, 1], of digits.
      labels: integer [n], the digits 0 to 9.
      rng: draws the examples.
      num: number of stacks.

    Returns:
      `image` uint8 [num, H, W, 3] and `label` int32 [num], the digits of the channels in decimal.
    """
    picks = rng.integers(len(images), size=(num, 3))
    stacked = np.empty((num, *images.shape[1:3], 3), images.dtype)
    for channel in range(3):
        stacked[..., channel] = images[picks[:, channel], ..., 0]
    return {"image": stacked, "label": (labels[picks] @ (100, 10, 1)).astype(np.int32)}
