"""Agreement with requested labels, and recall within classes, against loops over all pairs."""

import numpy as np
import pytest

from jaxgen.metrics import class_recall, label_agreement, precision_recall


def normal(seed, n, dimensions=3):
    return np.random.default_rng(seed).normal(size=(n, dimensions))


def recall_of_loops(real, fake, k):
    """Recall by definition: a real sample counts if nearer to some fake than that one's k-th nearest other fake."""
    recalled = 0
    for x in real:
        for i, y in enumerate(fake):
            others = sorted(np.linalg.norm(y - other) for j, other in enumerate(fake) if j != i)
            if np.linalg.norm(x - y) < others[k - 1]:
                recalled += 1
                break
    return recalled / len(real)


def test_agreement_by_hand():
    assert label_agreement([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


def test_class_recall_equals_loops():
    """Classes of 40, 25 and 30 real samples, the third with distant fakes; pooling the classes would change recall."""
    real, fake = normal(0, 95), normal(1, 60)
    real_labels, fake_labels = np.repeat([0, 1, 2], [40, 25, 30]), np.arange(60) % 3
    fake[fake_labels == 2] += 100
    order = np.random.default_rng(2).permutation(60)
    expected = [recall_of_loops(real[real_labels == c], fake[fake_labels == c], 3) for c in range(3)]
    found = class_recall(real, real_labels, fake[order], fake_labels[order], k=3)
    assert found == pytest.approx(np.mean(expected))
    assert expected[2] == 0
    assert 0 < found < 0.9 * precision_recall(real, fake, 3).recall


def test_fakes_of_the_wrong_class_recall_nothing():
    """Two distant clusters: with labels exchanged recall is 0, though both are covered."""
    label = np.arange(200) % 2
    real, fake = normal(0, 200) + 50 * label[:, None], normal(1, 200) + 50 * label[:, None]
    assert class_recall(real, label, fake, label) > 0.8
    assert class_recall(real, label, fake, 1 - label) == 0


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_one_image_a_class_agrees_and_recalls_next_to_nothing(noise):
    label = np.arange(300) % 3
    real = normal(0, 300) + 20 * label[:, None]
    fake = real[:3][label] + noise * normal(1, 300)  # each class's first real sample, almost exactly
    named = np.linalg.norm(fake[:, None] - 20 * np.arange(3)[None, :, None], axis=-1).argmin(1)
    assert label_agreement(named, label) == 1
    assert class_recall(real, label, fake, label) <= 0.01 + 1e-9  # that sample, of the class's 100


def test_a_class_with_too_few_samples_counts_as_0_and_with_too_few_real_ones_not():
    """Class 1 has 5 fakes, and so no 5th other one; class 2 has 5 real samples."""
    real, real_labels = normal(0, 105), np.repeat([0, 1, 2], [50, 50, 5])
    fake, fake_labels = normal(1, 105), np.repeat([0, 2, 1], [50, 50, 5])
    of_0 = precision_recall(real[:50], fake[:50]).recall
    assert class_recall(real, real_labels, fake, fake_labels) == pytest.approx(of_0 / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_agreement([], np.zeros(0, int)), "1 sample or more is needed"),
        (lambda: label_agreement([1.0], [1]), "named labels must be integers"),
        (lambda: label_agreement([1], [-1]), "sampled labels must be 0 or more"),
        (lambda: class_recall(normal(0, 9), np.zeros(8, int), normal(0, 9), np.zeros(9, int)), "real labels must be"),
        (lambda: class_recall(normal(0, 9), np.arange(9), normal(0, 9), np.zeros(9, int)), "6 real samples of a class"),
        (lambda: class_recall(normal(0, 9), [0] * 9, normal(0, 9, 2), [0] * 9), "dimensions"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
