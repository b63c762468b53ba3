"""Five losses of a GAN on MNIST: minimax, non-saturating, least squares, hinge, Wasserstein.

    jaxgen data prepare mnist
    jaxgen compare experiments/gan_losses.py

One pair of networks, LayerNorm in D (a gradient penalty rules BatchNorm out), one batch of 60 images a step
and one Adam; what differs is the loss. Wasserstein has what its paper says it needs, the gradient penalty, and
divides its batch among three updates of D for each of G, so that all arms see the same images and cost much
the same.

Time: about half an hour on 2 CPU cores, by an estimate. Expected: all five far below their untrained selves
in FD-mnist, the differences between losses small beside those to the untrained; Lucic et al. 2018 ("Are GANs
created equal?") found none ahead of the others with the same budget.
"""

from jaxgen.comparison import Arm, Comparison, Experiment
from jaxgen.training import Settings

shared = {
    "features": 16,
    "latent_dim": 32,
    "normalization": "layer",
    "generator_learning_rate": 1e-3,
    "discriminator_learning_rate": 5e-4,
    "average": 0.99,
}

experiment = Experiment(
    title="Losses of a GAN on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2, 3, 4), steps=900, batch_size=60),
    arms={
        "minimax": Arm("dcgan", {**shared, "loss": "minimax"}),
        "non_saturating": Arm("dcgan", {**shared, "loss": "non_saturating"}),
        "least_squares": Arm("dcgan", {**shared, "loss": "least_squares"}),
        "hinge": Arm("dcgan", {**shared, "loss": "hinge"}),
        "wasserstein": Arm("dcgan", {**shared, "loss": "wasserstein", "penalty": "gradient", "critic_steps": 3}),
    },
    comparisons=tuple(
        Comparison(other, "non_saturating", "fd") for other in ("minimax", "least_squares", "hinge", "wasserstein")
    ),
)
