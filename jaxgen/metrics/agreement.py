"""Agreement of samples with their requested classes, and how much of each class they cover."""

import numpy as np

from jaxgen.metrics import checks
from jaxgen.metrics.neighbors import precision_recall


def label_agreement(named, labels) -> float:
    """Share of samples that a classifier assigns to their requested class.

    One good image per class is enough for 1: read it beside `class_recall`.

    Args:
      named: integers [num], the classes that the classifier names.
      labels: integers [num], the samples' requested classes.

    Raises:
      ValueError: there are none, or they are not integers [num], 0 or more.
    """
    labels = checks.labels(labels, "sampled", np.size(labels))
    if not len(labels):
        raise ValueError("1 sample or more is needed, there are no labels")
    return float((checks.labels(named, "named", len(labels)) == labels).mean())


def class_recall(real, real_labels, fake, fake_labels, k: int = 5) -> float:
    """Recall of `precision_recall` within each class of the real samples, averaged over the classes.

    A class whose samples are copies of one image has recall 0, as has one with k or fewer samples: a ball needs k
    neighbors. It falls with the number of samples per class: read it beside that of real images.

    Args:
      real: [samples, dimensions], any real dtype.
      real_labels: integers [samples], 0 or more.
      fake: [samples, dimensions].
      fake_labels: integers [samples], the requested classes of the fakes.
      k: which nearest neighbor gives the radius, 1 or more.

    Raises:
      ValueError: features are not [samples, dimensions] or have non-finite values, the dimensions differ, labels are
        not integers [samples], 0 or more, k is under 1, or no class has k + 1 real samples; classes with fewer are
        left out.

    Source: Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991), equation 2, within a class.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    real_labels = checks.labels(real_labels, "real", len(real))
    fake_labels = checks.labels(fake_labels, "fake", len(fake))
    classes = np.flatnonzero(np.bincount(real_labels) > k)
    if not len(classes):
        raise ValueError(f"{k + 1} real samples of a class are needed, and no class has them")
    sets = [(real[real_labels == label], fake[fake_labels == label]) for label in classes]
    return float(np.mean([precision_recall(*pair, k).recall if len(pair[1]) > k else 0.0 for pair in sets]))
