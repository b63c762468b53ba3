"""Naive Bayes on MNIST with three likelihoods of a pixel: bits, densities, gray levels.

    jaxgen data prepare mnist
    jaxgen compare experiments/naive_bayes_mnist.py

One pass over the training images counts; what differs is p(x_j|y): Bernoulli, of pixels turned into bits at 128;
Gaussian, of pixels in [0, 1], with a floor under the variances; categorical, of 16 bins of the 256 levels. Seeds count
the same, so that accuracy and log-likelihood have no spread; their samples differ. Each log-likelihood is exact, and
of a space of its own: no two of them can be compared. The accuracies are those of scikit-learn's BernoulliNB,
GaussianNB and CategoricalNB to 0.1% (tests/models/test_naive_bayes.py).

What is compared is FD-mnist, of draws from p(x|y) against the gray images; what bits cost real images stands in a row
of its own.

Time: 2 to 3 minutes on 2 CPU cores. Expected: accuracies of 0.79 to 0.85; every arm well below its untrained self in
FD-mnist, and far above real images: pixels drawn independently make speckled digits.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row                  FD-mnist          accuracy    log p
    real against real    3.5
    real as bits          11
    bernoulli            773 [769, 776]    0.8436       -168.9 of bits
    categorical          874 [873, 875]    0.8475      -2653.5 of levels
    gaussian             969 [967, 971]    0.7891        787.9, a density
    untrained           1464 to 1590

All three differences in FD-mnist can be told (p by Holm 0.024 each).
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

experiment = Experiment(
    title="Likelihoods of Naive Bayes on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2, 3, 4), steps=430, batch_size=128),
    arms={
        "bernoulli": Arm("naive_bayes", {"likelihood": "bernoulli"}),
        "gaussian": Arm("naive_bayes", {"likelihood": "gaussian"}),
        "categorical": Arm("naive_bayes", {"likelihood": "categorical", "levels": 16}),
    },
    scoring=Scoring(metrics=("fd", "recognized", "log_prob", "accuracy"), samples=5_000),
    comparisons=(
        Comparison("categorical", "bernoulli", "fd"),
        Comparison("categorical", "gaussian", "fd"),
        Comparison("bernoulli", "gaussian", "fd"),
    ),
)
