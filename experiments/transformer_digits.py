"""Image Transformer on gray digits, given labels: exact likelihoods and classes by Bayes' rule, beside Naive Bayes.

The digits are scikit-learn's (1,797 scans of 8x8 pixels), and nothing is downloaded. Both models are exact: log p(x) is
of the 256 gray levels, in nats per image, summed over the labels, and p(x_i) is spread over 16 bins of 16 equally
likely levels each. Naive Bayes has pixels independent given the label; the Transformer gives every pixel all pixels
before it. In these bins no model exceeds -64 log 16 = -177.4 nats, so the numbers are not comparable with those of
`autoregressive_digits`. Dropout of 0.5 limits overfitting on the 808 training images.

    jaxgen compare experiments/transformer_digits.py

Time: 8 minutes of processor time. Expected: the Transformer is better by both measures.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row            log p                      bits/dim               accuracy
    naive_bayes    -276.8 (all seeds)         6.240                  0.8899
    transformer    -261.8 [-265.2, -258.4]    5.901 [5.824, 5.977]   0.9414 [0.9141, 0.9688]
    untrained      -354.9                     8                      0.0990

Three seeds are not enough to tell the two apart by an exact permutation test with Holm's correction; five are.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

BINS = {"likelihood": "categorical", "levels": 16}
STEPS = 1000

experiment = Experiment(
    title="Image Transformer on gray digits",
    settings=Settings(dataset="digits", seeds=(0, 1, 2), steps=STEPS, batch_size=64),
    arms={
        "naive_bayes": Arm("naive_bayes", BINS),
        "transformer": Arm(
            "transformer",
            {**BINS, "condition": "label", "dim": 48, "layers": 3, "dropout": 0.5}
            | {"learning_rate": 2e-3, "decay_steps": STEPS},
        ),
    },
    scoring=Scoring(metrics=("log_prob", "accuracy")),
    comparisons=(
        Comparison("transformer", "naive_bayes", "log_prob_uint8"),
        Comparison("transformer", "naive_bayes", "accuracy"),
    ),
)
