"""Naive Bayes, a VAE and a DCGAN on real handwritten digits.

The digits are scikit-learn's (1,797 scans, 8x8), resampled to 16x16; nothing is downloaded. Naive
Bayes draws every pixel as a bit, independently given the class; the VAE shows means of p(x|z); the
DCGAN has no likelihood. The log-likelihoods of Naive Bayes (exact) and of the VAE (a bound) are of the
same binary images. FD-digits is computed against the gray images; the row "real as bits" shows what
binarization alone costs.

    jaxgen compare experiments/digits.py

Time: 3 to 9 minutes on 2 CPU cores, compilation included. Expected: real against real lowest in
FD-digits, all three models far below their untrained rows; the judge recognizes at least 80% of the
VAE's and the DCGAN's samples, in all ten classes.

Measured on a CPU (jax 0.12.0), mean and 95% t interval over the seeds:

    row                FD-digits            recognized            log p, binary digits (nats)
    real against real    6.1                1.000
    real as bits        99.4                0.995
    naive_bayes         60.6 [53.6, 67.5]   0.988 [0.986, 0.991]  -72.9, exact
    vae                 74.4 [53.2, 95.6]   0.877 [0.857, 0.896]  -59.9, a bound
    dcgan               23.6 [16.0, 31.2]   0.884 [0.862, 0.906]
    untrained        722, 1911, 2022 (in the models' order)

With five seeds, three of the four comparisons declared below show a difference (Holm-adjusted p 0.032 each): by
FD-digits the DCGAN is best, by log-likelihood the VAE is better than Naive Bayes. FD-digits does not tell those two
apart (p 0.14).
"""

from jaxgen.comparison import Arm, Comparison, Experiment
from jaxgen.training import Settings

experiment = Experiment(
    title="Naive Bayes, a VAE and a DCGAN on handwritten digits",
    settings=Settings(dataset="digits", image_size=16, seeds=(0, 1, 2, 3, 4), steps=1500, batch_size=64),
    arms={
        "naive_bayes": Arm("naive_bayes", {"likelihood": "bernoulli"}),
        # A smallest map of 2x2: on a 4x4 map no unit sees a whole 16-pixel digit, and samples
        # combine parts of different digits.
        "vae": Arm("vae", {"features": 32, "smallest": 2, "latent_dim": 5, "likelihood": "bernoulli"}),
        "dcgan": Arm("dcgan", {"features": 32, "smallest": 2, "latent_dim": 10, "generator_learning_rate": 1e-3}),
    },
    comparisons=(
        Comparison("naive_bayes", "vae", "fd"),
        Comparison("naive_bayes", "dcgan", "fd"),
        Comparison("vae", "dcgan", "fd"),
        Comparison("naive_bayes", "vae", "log_prob_binary"),
    ),
)
