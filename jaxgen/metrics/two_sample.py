"""The classifier two-sample test: whether a small network can tell fake features from real ones."""

import warnings
from typing import NamedTuple

import numpy as np
import scipy

from jaxgen.metrics import checks

HIDDEN, EPOCHS, BATCH = 20, 100, 32


class TwoSample(NamedTuple):
    """Result of the classifier on the samples that it was not trained on."""

    accuracy: float  # 0.5 if the two cannot be told apart
    p_value: float  # one-sided: of this accuracy or more if both have one distribution
    tested: int  # number of held-out samples, half of them real


def two_sample_test(real, fake, *, seed: int = 0) -> TwoSample:
    """The held-out accuracy of a classifier of real against fake, and its p value.

    The larger set is subsampled to the size of the smaller one. A random half of either side
    trains the classifier; it is tested on the other half. The classifier is the
    paper's: one hidden layer of 20 ReLU units on features standardized with the training half's
    mean and deviation, trained by Adam for 100 epochs (scikit-learn's MLPClassifier; batches of
    32, learning rate 0.001, weight decay 0.0001, no early stopping). Unlike a linear one it sees
    differences of covariance.

    Under the null hypothesis of one distribution the accuracy on n held-out samples is approximated by
    N(1/2, 1 / (4 n)). Since the held-out halves have the same size, its variance is that or less, so
    p values are, if anything, too large. They hold for one trained model, one set of samples
    and one seed; with few samples, not finding a difference says little. Samples
    that occur on both sides, or twice on one, violate the test's assumption of independence.

    Args:
      real: [samples, dimensions], any real dtype; computed in float64 on the host.
      fake: [samples, dimensions]; the number of samples may differ from that of `real`.
      seed: seed of the halves and of the classifier; 0 or more.

    Returns:
      The accuracy, 0 to 1, its p value, and n.

    Raises:
      ValueError: an argument is not [samples, dimensions], has fewer than 2 samples or non-finite
        values, or the dimensions differ.

    Source: Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests"
    (https://arxiv.org/abs/1610.06545), sections 3 and 4.
    """
    # imported here, since importing scikit-learn takes a second
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    real = checks.features(real, "real", 2)
    fake = checks.features(fake, "fake", 2)
    checks.same_dimensions(real, fake)
    rng = np.random.Generator(np.random.Philox(seed))
    num = min(len(real), len(fake))
    real, fake = real[rng.permutation(len(real))[:num]], fake[rng.permutation(len(fake))[:num]]
    half = num // 2
    train = np.concatenate([real[:half], fake[:half]])
    held_out = np.concatenate([real[half:], fake[half:]])
    scaler = StandardScaler().fit(train)
    classifier = MLPClassifier(
        (HIDDEN,),
        batch_size=min(BATCH, len(train)),
        max_iter=EPOCHS,
        tol=0,
        n_iter_no_change=EPOCHS,  # never stops before the last epoch
        random_state=int(rng.integers(2**32)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # warns that all epochs were used
        classifier.fit(scaler.transform(train), np.repeat([0, 1], half))
    predicted = classifier.predict(scaler.transform(held_out))
    accuracy = float((predicted == np.repeat([0, 1], num - half)).mean())
    tested = len(held_out)
    return TwoSample(accuracy, float(scipy.stats.norm.sf(accuracy, 0.5, np.sqrt(0.25 / tested))), tested)
