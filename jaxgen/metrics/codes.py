"""How well a categorical code that a model infers of images tells their classes."""

import numpy as np


def code_error(train_codes, train_labels, test_codes, test_labels) -> float:
    """The error rate on test images of a categorical code that is read as a classifier.

    Each category stands for the class most frequent among the training images that have it, the lowest of several;
    two categories may stand for one class. A test image of a category that no training image has is an error.

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
