import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen.metrics.inception_score import inception_score


def naive(logits):
    """The score from probabilities, by SciPy's relative entropy."""
    conditional = scipy.special.softmax(logits, axis=1)
    return np.exp(np.mean([scipy.stats.entropy(row, conditional.mean(axis=0)) for row in conditional]))


def test_two_samples_by_hand():
    # p = (3/4, 1/4) and (1/4, 3/4), the marginal uniform: the mean KL is log 2 - H(3/4)
    logits = np.array([[math.log(3), 0], [0, math.log(3)]])
    expected = 2 * 0.75**0.75 * 0.25**0.25
    assert inception_score(logits, splits=1) == pytest.approx((expected, 0), rel=1e-12)


def test_the_extremes():
    # each sample certain, evenly over 7 classes: the number of classes, even where exp would overflow
    assert inception_score(2000 * np.eye(7), splits=1).mean == pytest.approx(7, rel=1e-12)
    # all certain of one class; then all uncertain
    assert inception_score(2000 * np.eye(7)[[3] * 5], splits=1).mean == pytest.approx(1, rel=1e-12)
    assert inception_score(np.zeros((5, 7)), splits=1).mean == pytest.approx(1, rel=1e-12)


def test_splits_are_consecutive_and_cover_everything():
    # 7 samples in 3 parts: [0, 2), [2, 4), [4, 7), with 2, 1 and 3 classes
    logits = 2000 * np.eye(4)[[0, 1, 2, 2, 0, 1, 3]]
    mean, deviation = inception_score(logits, splits=3)
    assert mean == pytest.approx(2, rel=1e-12)
    assert deviation == pytest.approx(math.sqrt(2 / 3), rel=1e-12)


def test_sorted_samples_must_be_shuffled_first():
    logits = 2000 * np.eye(4)[np.repeat(np.arange(4), 8)]
    assert inception_score(logits, splits=4).mean == pytest.approx(1, rel=1e-12)
    in_turns = logits.reshape(4, 8, 4).swapaxes(0, 1).reshape(32, 4)
    assert inception_score(in_turns, splits=4).mean == pytest.approx(4, rel=1e-12)


@pytest.mark.parametrize("splits", [1, 4, 10])
def test_against_scipys_entropy(splits):
    logits = np.random.default_rng(0).normal(scale=2, size=(103, 12))
    scores = [naive(logits[i * 103 // splits : (i + 1) * 103 // splits]) for i in range(splits)]
    assert inception_score(logits, splits) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-11)


def test_logits_are_only_known_up_to_a_constant():
    logits = np.random.default_rng(1).normal(size=(50, 5))
    shifted = logits + 100 * np.arange(50)[:, None]
    assert inception_score(shifted) == pytest.approx(inception_score(logits), rel=1e-9)


@pytest.mark.parametrize(
    ("logits", "splits", "message"),
    [
        (np.zeros((9, 3)), 10, "10 samples or more are needed; logit features have 9$"),
        (np.zeros((9, 3)), 0, "1 split or more is needed, got 0$"),
        (np.zeros(9), 1, r"logit features must be \[samples, dimensions\]"),
        (np.full((9, 3), -np.inf), 1, "logit features have non-finite values$"),
        (np.float32(scipy.special.softmax(np.eye(3), axis=1)), 1, "these are probabilities, give the logits$"),
    ],
)
def test_what_is_refused(logits, splits, message):
    with pytest.raises(ValueError, match=message) as error:
        inception_score(logits, splits)
    assert "\n" not in str(error.value)
