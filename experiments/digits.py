"""Naive Bayes, a VAE and a DCGAN on real handwritten digits.

The digits are scikit-learn's (1,797 scans, 8x8), resampled to 16x16; nothing is downloaded. All three models are of the
same gray images. Naive Bayes draws every pixel independently given the class, in 16 levels; the VAE shows means of
p(x|z), which is logistic and discretized to the 256 levels; the DCGAN has no likelihood. The log-likelihoods of Naive
Bayes (exact) and of the VAE (a bound) are of the 256 levels.

    jaxgen compare experiments/digits.py

Time: 3 to 9 minutes on 2 CPU cores, compilation included (420 s of processor time). Expected: by the Fréchet distance
of features and by the distance of patches alike, real images are best, then the DCGAN, the VAE, and Naive Bayes'
speckled digits, all far below the untrained rows.

Measured on a CPU (jax 0.10.2), mean and half of the 95% t interval over the seeds:

    row            FD-digits    SWD         recognized   log p, 256 levels (nats)
    real             6.1        12.7        0.998
    naive_bayes    155.9 6.4    104.9 0.9   0.001        -1126.5, exact
    vae             98.3 13.4    31.9 3.1   0.636         -858.9 2.6, a bound
    dcgan           29.0 8.6     19.2 1.2   0.796

Both comparisons declared below show a difference (Holm-adjusted p 0.016 each). Naive Bayes is in none: all its seeds
count the same, and five seeds of another model are too few to tell from one number. The judge is sure of none of its
samples, whose precision is as high as that of real images all the same: their features are near those of real ones.
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
        Comparison("dcgan", "vae", "fd"),
        Comparison("dcgan", "vae", "sliced_wasserstein"),
    ),
)
