"""scikit-learn's handwritten digits: 8x8, 10 classes, no download.

The images are the 1,797 of the test set of UCI's Optical Recognition of Handwritten Digits
(https://doi.org/10.24432/C50P49, CC BY 4.0), which come with scikit-learn.
"""

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import Source
from jaxgen.errors import UserError

FINGERPRINT = "e3afe938dc7e8f8c1605b975fb8e6f27a5dc85933530e0bfbf39a4166f171ed9"


def identity(options: Options) -> str:
    """The sha256 of the splits, the same in scikit-learn 1.5.0 and 1.9.1."""
    return FINGERPRINT


def read(options: Options) -> Source:
    """Images as `image` uint8 [n, 8, 8, 1] (values 0..16 become round(value * 255 / 16)), label int32 [n] in 0..9.

    There are two halves, stratified by class: one is test (899); of the other the first 808 are train and the last 90
    validation.

    Raises:
      UserError: if scikit-learn's digits are not those of its versions 1.5 to 1.9.
    """
    from sklearn.datasets import load_digits

    from jaxgen.data.store import fingerprint

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    by_class = np.argsort(labels, kind="stable")
    half, test = np.sort(by_class[1::2]), np.sort(by_class[::2])
    splits = {
        split: {"image": images[rows], "label": labels[rows]}
        for split, rows in (("train", half[:-90]), ("validation", half[-90:]), ("test", test))
    }
    if fingerprint(splits) != FINGERPRINT:
        raise UserError("this version of scikit-learn has other digits than 1.5 to 1.9")
    return Source(
        splits=splits,
        note="scikit-learn's load_digits (UCI optical recognition of handwritten digits, its test set), 0..16 scaled "
        "to 0..255, in fixed halves stratified by class: 808 train and 90 validation, 899 test",
        classes=[str(digit) for digit in range(10)],
    )
