"""Naive Bayes, a VAE and a DCGAN on real handwritten digits.

The digits are scikit-learn's (1,797 scans, 8x8), resampled to 16x16; nothing is downloaded. All three models are of the
same gray images. Naive Bayes draws every pixel independently given the class, in 16 levels; the VAE shows means of
p(x|z), which is logistic and discretized to the 256 levels; the DCGAN has no likelihood. The log-likelihoods of Naive
Bayes (exact) and of the VAE (a bound) are of the 256 levels.

    jaxgen compare experiments/digits.py

Time: 3 to 9 minutes on 2 CPU cores, compilation included. Expected: by the Fréchet distance of features and by the
distance of patches alike, real images are best, then the DCGAN, the VAE, and Naive Bayes' speckled digits, all far
below the untrained rows.
"""

from jaxgen.comparison import Arm, Comparison, Experiment
from jaxgen.training import Settings

experiment = Experiment(
    title="Naive Bayes, a VAE and a DCGAN on handwritten digits",
    settings=Settings(dataset="digits", image_size=16, seeds=(0, 1, 2, 3, 4), steps=1500, batch_size=64),
    arms={
        "naive_bayes": Arm("naive_bayes", {"likelihood": "categorical"}),
        # A smallest map of 2x2: on a 4x4 map no unit sees a whole 16-pixel digit, and samples
        # combine parts of different digits.
        "vae": Arm("vae", {"features": 32, "smallest": 2, "latent_dim": 8, "likelihood": "logistic"}),
        "dcgan": Arm("dcgan", {"features": 32, "smallest": 2, "latent_dim": 10, "generator_learning_rate": 1e-3}),
    },
    comparisons=(
        Comparison("vae", "naive_bayes", "fd"),
        Comparison("dcgan", "vae", "fd"),
        Comparison("dcgan", "vae", "sliced_wasserstein"),
    ),
)
