"""scikit-learn's handwritten digits as a TFDS builder: 8x8, 10 classes, no download.

The images are the 1,797 of the test set of UCI's Optical Recognition of Handwritten Digits
(https://doi.org/10.24432/C50P49, CC BY 4.0), which come with scikit-learn.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxgen.data import prepared
from jaxgen.errors import UserError

FINGERPRINT = "9a3c81582b0fc02a27121224f617b00787efbc413af1dc678c03c0fd0f0eaade"
"""`prepared.fingerprint` of the two splits, the same in scikit-learn 1.5.0 and 1.9.1."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """image uint8 [8, 8, 1], label int64 in 0..9; splits `train` (898) and `test` (899)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "As scikit-learn 1.5 to 1.9 have them."}  # noqa: RUF012 - as TFDS wants it

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
            disable_shuffling=True,  # keep the order that is stated
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        train, test = original()
        if prepared.fingerprint(train, test) != FINGERPRINT:
            raise UserError("this version of scikit-learn has other digits than 1.5 to 1.9")
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, split: dict[str, np.ndarray]) -> Iterator:
        for index, (image, label) in enumerate(zip(split["image"], split["label"], strict=True)):
            yield index, {"image": image, "label": label}


def arrays(root: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The splits train and test: image uint8 [examples, 8, 8, 1], label int32 [examples]."""
    return prepared.arrays(Builder, root, FINGERPRINT)


def original() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The two splits from scikit-learn's arrays; its values 0..16 become round(value * 255 / 16)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    train, test = split_indices(labels)
    return {"image": images[train], "label": labels[train]}, {"image": images[test], "label": labels[test]}


def split_indices(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The examples of train and test, ascending: the odd and the even of all, sorted by class (stable)."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[1::2]), np.sort(by_class[::2])
