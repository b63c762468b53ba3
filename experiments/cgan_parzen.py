"""Parzen log-likelihoods on MNIST of the GAN and the conditional GAN: Mirza & Osindero 2014, table 1.

    jaxgen data prepare mnist
    jaxgen compare experiments/cgan_parzen.py

Nets of maxout units with the papers' optimizer, at a quarter of their widths, for ten epochs. The log-likelihood of
the test images is under Gaussian windows on 10,000 samples, as in both papers (https://arxiv.org/abs/1406.2661,
https://arxiv.org/abs/1411.1784), whose numbers differ in this alone: the conditional GAN's samples have labels. It says
little of quality; whether its samples are of the class asked for, and how varied, stands beside it.

At the papers' widths, on a GPU (250 epochs, in which the momentum rises):

    jaxgen train gan --dataset mnist --batch-size 100 --steps 137500 --seeds 0 1 2 --out runs/gan
    jaxgen train cgan --network maxout --dataset mnist --batch-size 100 --steps 137500 --seeds 0 1 2 --out runs/cgan
    jaxgen evaluate runs/gan --metrics parzen --samples 10000
    jaxgen evaluate runs/cgan --metrics parzen agreement --samples 10000

Time: 19 minutes on one CPU core, 6 of them the scores. Expected: the GAN ahead of the conditional one, both far below
the papers' 225 +- 2 and 132 +- 1.8 nats, which are of whole trainings. Measured (jax 0.10.2), nats by seed; 10,000
training images have 236, untrained models -54 to -56:

    gan     -32    10  -350
    cgan     -9   -21  -288    agreement .18 .13 .10

Three seeds are too few to tell the arms apart. After ten epochs two seeds of each make digits, or parts of them, and
the third has collapsed: D tells over 99% of its fakes. The conditional GAN hardly heeds its labels yet; one that does
is in dcgan_mnist_1nn.py.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

experiment = Experiment(
    title="Parzen log-likelihoods of GAN and conditional GAN on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=5_500, batch_size=100),
    arms={
        "gan": Arm("gan", {"generator_units": 300, "discriminator_units": 60}),
        "cgan": Arm(
            "cgan",
            {"network": "maxout", "generator_units": (50, 250, 300), "discriminator_units": (60, 12, 60)},
        ),
    },
    scoring=Scoring(metrics=("parzen", "agreement"), samples=10_000),
    comparisons=(Comparison("gan", "cgan", "parzen"),),
)
