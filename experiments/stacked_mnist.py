"""Modes of Stacked MNIST covered by a DCGAN and MGGAN, out of 1,000, counted by a judge's labels of samples.

    jaxgen data prepare mnist
    jaxgen compare experiments/stacked_mnist.py

Both arms have DCGAN's networks at an eighth of the paper's width for faces, and train for one and a half epochs of the
128,000 stacks; modes are counted in 26,000 samples, as in PacGAN. MGGAN's first 300 steps train its autoencoder.

On a GPU, PacGAN's protocol (https://arxiv.org/abs/1712.04086, section 4.2), 50 epochs of 64 stacks:

    jaxgen train dcgan --dataset stacked_mnist --batch-size 64 --steps 100000 --seeds 0 1 2 3 4 --out runs/dcgan
    jaxgen train mggan --dataset stacked_mnist --batch-size 64 --steps 100000 --seeds 0 1 2 3 4 --out runs/mggan
    jaxgen evaluate runs/dcgan --metrics modes --samples 26000
    jaxgen evaluate runs/mggan --metrics modes --samples 26000

Its table has 78.9 modes for that protocol's small DCGAN. The number depends on the discriminator's size, and these
networks differ from the paper's: only arms of one table can be compared.

Time: an estimated 40 minutes on 2 CPU cores. Expected: both arms far above their untrained rows. Measured: not yet.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

shared = {"features": 16, "generator_learning_rate": 5e-4, "discriminator_learning_rate": 5e-4}

experiment = Experiment(
    title="Modes of Stacked MNIST",
    settings=Settings(dataset="stacked_mnist", seeds=(0, 1, 2, 3, 4), steps=1_500, batch_size=128),
    arms={
        "dcgan": Arm("dcgan", shared),
        "mggan": Arm("mggan", {**shared, "manifold_units": 256, "autoencoder_steps": 300}),
    },
    scoring=Scoring(metrics=("modes",), samples=26_000),
    comparisons=(Comparison("mggan", "dcgan", "modes"), Comparison("mggan", "dcgan", "modes_kl")),
)
