"""Parzen log-likelihoods on MNIST of the GAN and the conditional GAN: Mirza & Osindero 2014, table 1.

    jaxgen data prepare mnist
    jaxgen compare experiments/cgan_parzen.py

Maxout networks with the papers' optimizer, at a quarter of their widths, for 25 epochs. The log-likelihood of the test
images is that of a Parzen window estimate with Gaussian kernels on 10,000 samples, as in both papers
(https://arxiv.org/abs/1406.2661, https://arxiv.org/abs/1411.1784); the conditional GAN's samples have labels. It says
little about quality, so agreement with the requested label and recall within classes are reported beside it.

At the papers' widths, on a GPU (250 epochs, over which the momentum rises):

    jaxgen train gan --dataset mnist --batch-size 100 --steps 137500 --seeds 0 1 2 --out runs/gan
    jaxgen train cgan --network maxout --dataset mnist --batch-size 100 --steps 137500 --seeds 0 1 2 --out runs/cgan
    jaxgen evaluate runs/gan --metrics parzen --samples 10000
    jaxgen evaluate runs/cgan --metrics parzen agreement --samples 10000

Time: 30 minutes on one CPU core, 7 of them for scoring. Expected: both far below the papers' 225 +- 2 and 132 +- 1.8
nats, which are from full-length training. Measured (jax 0.10.2), nats by seed; 10,000 training images score 236,
untrained models -54 to -56:

    gan      41    54  -501
    cgan     85   135  -194    agreement .85 .84 .11    recall within classes .01 .02 .00

Three seeds are too few to distinguish the arms. Two seeds of each arm make digits, the conditional GAN those of the
requested class, with little variety within it. The third seed has collapsed: D separates its fakes from real images.
dcgan_mnist_1nn.py has a conditional GAN that is both accurate and varied.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

experiment = Experiment(
    title="Parzen log-likelihoods of GAN and conditional GAN on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=13_750, batch_size=100),
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
