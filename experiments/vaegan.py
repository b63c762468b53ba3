"""A VAE and the VAE/GAN on MNIST: errors of pixels, and of features that a discriminator learns.

    jaxgen data prepare mnist
    jaxgen compare experiments/vaegan.py

The VAE's pixels are Gaussian with one learned deviation. The VAE/GAN's discriminator sees reconstructions and prior
samples, as in the paper, or prior samples only, as in the authors' scripts. Latents, channels, batches and steps are
the same in all arms, and gamma is the 1e-2 at which short trials of 1e-3 and 1e-2 went better.

Time: half an hour on 2 CPU cores, by an estimate. Expected: all arms far below their untrained selves in FD-mnist; the
VAE ahead in the pixels' error, which is what it is trained for. Which is ahead in FD-mnist after so few steps is the
question. Measured: not yet.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

shared = {"features": 16, "latent_dim": 10, "learning_rate": 1e-3}

experiment = Experiment(
    title="A VAE and the VAE/GAN on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=1200, batch_size=64),
    arms={
        "vae": Arm("vae", {**shared, "likelihood": "gaussian", "deviation": "learned"}),
        "vaegan": Arm("vaegan", {**shared, "discriminator_sees": "both"}),
        "vaegan_prior": Arm("vaegan", {**shared, "discriminator_sees": "prior"}),
    },
    scoring=Scoring(metrics=("fd", "recognised", "reconstruction"), samples=5_000),
    comparisons=(
        Comparison("vaegan", "vae", "fd"),
        Comparison("vaegan", "vae", "mse"),
        Comparison("vaegan", "vaegan_prior", "fd"),
    ),
)
