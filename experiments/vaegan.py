"""A VAE and the VAE/GAN on MNIST: reconstruction error on pixels against error on a discriminator's features.

    jaxgen data prepare mnist
    jaxgen compare experiments/vaegan.py

The VAE's pixels are Gaussian with one learned deviation. The VAE/GAN's discriminator sees reconstructions and prior
samples, as in the paper, or prior samples only, as in the authors' scripts. Latents, channels, batches and steps are
the same in all arms; gamma is 1e-2, the better of 1e-3 and 1e-2 in short trials.

Time: 8 minutes on 2 CPU cores. Expected: all arms far below their untrained rows in FD-mnist; the VAE lowest in pixel
error, its training objective. The question is which arm is lowest in FD-mnist after so few steps.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row             FD-mnist          recognized            MSE
    vae             825 [794, 856]    0.413 [0.384, 0.441]  0.0182 [0.0181, 0.0183]
    vaegan          243 [182, 304]    0.666 [0.635, 0.698]  0.0302 [0.0289, 0.0315]
    vaegan_prior    232 [128, 336]    0.665 [0.606, 0.724]  0.0312 [0.0301, 0.0322]
    untrained      1951 to 1991       0.000                 0.068 and 0.233

The VAE/GAN has the lower FD-mnist, the VAE the lower MSE (Holm-adjusted p 0.024 each). With five seeds, what the
discriminator sees makes no detectable difference (p 0.83).
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

shared = {"features": 16, "latent_dim": 10, "learning_rate": 1e-3}

experiment = Experiment(
    title="A VAE and the VAE/GAN on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2, 3, 4), steps=1200, batch_size=64),
    arms={
        "vae": Arm("vae", {**shared, "dense_units": 0, "likelihood": "gaussian", "deviation": "learned"}),
        "vaegan": Arm("vaegan", {**shared, "discriminator_sees": "both"}),
        "vaegan_prior": Arm("vaegan", {**shared, "discriminator_sees": "prior"}),
    },
    scoring=Scoring(metrics=("fd", "recognized", "reconstruction"), samples=5_000),
    comparisons=(
        Comparison("vaegan", "vae", "fd"),
        Comparison("vaegan", "vae", "mse"),
        Comparison("vaegan", "vaegan_prior", "fd"),
    ),
)
