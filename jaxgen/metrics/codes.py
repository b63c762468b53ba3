"""Agreement of a categorical code, inferred from images, with their classes."""

import numpy as np


def code_error(train_codes, train_labels, test_codes, test_labels) -> float:
    """Error rate on test images of a categorical code that is read as a classifier.

    Each category stands for the class most frequent among its training images (in a tie the lowest); two categories
    may stand for one class. A test image whose category has no training images is an error.

    Args:
      train_codes, test_codes: int [num], the category inferred for each image, 0 or more.
      train_labels, test_labels: int [num], their classes, 0 or more.

    Returns:
      A number from 0 to 1.

    Source: Chen et al. 2016 (https://arxiv.org/abs/1606.03657), section 7.2, whose categories are matched with the
    classes by hand.
    """
    train_codes, train_labels, test_codes, test_labels = map(
        np.asarray, (train_codes, train_labels, test_codes, test_labels)
    )
    counts = np.zeros((max(train_codes.max(), test_codes.max()) + 1, train_labels.max() + 1), np.int64)
    np.add.at(counts, (train_codes, train_labels), 1)
    classes = np.where(counts.any(1), counts.argmax(1), -1)
    return float((classes[test_codes] != test_labels).mean())
