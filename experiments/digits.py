"""Naive Bayes, a VAE and a DCGAN on real handwritten digits.

The digits are scikit-learn's (1,797 scans, 8x8), resampled to 16x16; nothing is downloaded. Naive
Bayes draws every pixel on its own, given the class, as a bit; the VAE shows means of p(x|z); the DCGAN
has no likelihood. The log-likelihoods of Naive Bayes (exact) and of the VAE (a bound) are of the same
binary images. FD-digits is taken against the grey images: what turning the real ones into bits alone
costs is a row of its own.

    jaxgen compare experiments/digits.py

Time: about 3 minutes on 2 CPU cores, compilation included. Expected: real against real lowest in
FD-digits, all three models far below their untrained selves; the judge recognises at least 80% of the
VAE's and the DCGAN's samples, all ten classes among them.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row                FD-digits            recognised            log p, binary digits (nats)
    real against real    4.5                0.998
    real as bits        64.6                0.980
    naive_bayes         28.4 [23.9, 32.9]   0.981 [0.978, 0.984]  -72.9, exact
    vae                 45.1 [30.2, 59.9]   0.835 [0.825, 0.846]  -59.9 [-60.4, -59.5], a bound
    dcgan               19.4 [14.7, 24.1]   0.828 [0.812, 0.844]
    untrained        483, 1262, 1474 (in the models' order)
"""

from jaxgen.comparison import Arm, Experiment
from jaxgen.training import Settings

experiment = Experiment(
    title="Naive Bayes, a VAE and a DCGAN on handwritten digits",
    settings=Settings(dataset="digits", image_size=16, seeds=(0, 1, 2, 3, 4), steps=1500, batch_size=64),
    arms={
        "naive_bayes": Arm("naive_bayes"),
        # Down to a 2x2 map: with the usual 4x4 no unit sees the whole of a 16-pixel digit, and parts of
        # digits are put together that do not belong together.
        "vae": Arm("vae", {"features": 32, "smallest": 2, "latent_dim": 5}),
        "dcgan": Arm("dcgan", {"features": 32, "smallest": 2, "latent_dim": 10, "generator_learning_rate": 1e-3}),
    },
)
