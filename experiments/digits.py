"""Naive Bayes, a VAE and a DCGAN on real handwritten digits.

The digits are scikit-learn's (1,797 scans, 8x8), resampled to 16x16; nothing is downloaded. Naive
Bayes draws every pixel on its own, given the class; the VAE shows means of p(x|z); the DCGAN has no
likelihood. The log-likelihoods of Naive Bayes (exact) and of the VAE (a bound) are of the same
binary images.

    jaxgen compare experiments/digits.py
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
