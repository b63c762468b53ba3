r"""TransGAN on MNIST of 16x16 pixels, beside DCGANs at equal time: a small one, and one with as many parameters.

    jaxgen data prepare mnist
    jaxgen compare experiments/transgan_mnist.py

Every arm trains its three seeds for half an hour. TransGAN has its networks for small images, 862,000 parameters, with
two updates of D on 32 images each for one of G, without augmentation, at five times the authors' learning rate. Its
average of G has a half-life of 100 updates, as there are few. `dcgan` has 16 maps; `dcgan, as many parameters` has 50,
and 0.8% fewer parameters than TransGAN. An update of TransGAN takes some 65 times the operations of one of `dcgan`, and
seven times those of the larger one.

Time: an estimated hour and three quarters on 2 CPU cores; not run yet. Expected: digits of all ten classes from
TransGAN, of which the judge is sure of 80% or more, at an FD-mnist far below that of its untrained row and above the
DCGANs': without convolutions it has to learn what neighboring pixels have in common, and it takes few updates in the
time. Samples may show a grid of 2x2 or 4x4 blocks, as users of the authors' code found after short training.

The authors' recipe for CIFAR-10, for GPUs (all of the machine share a batch), an estimated 15 hours of one large GPU:

    jaxgen data prepare cifar10
    jaxgen train transgan --dataset cifar10 --steps 500000 --batch-size 256 --generator-batch 128 --flip \
        --precision bfloat16 --out runs/transgan
    jaxgen evaluate runs/transgan --metrics fd --samples 50000
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

MINUTES = 30.0

TRANSGAN = {
    "latent_dim": 64,
    "critic_steps": 2,
    "augment": (),
    "generator_learning_rate": 5e-4,
    "discriminator_learning_rate": 5e-4,
    "average_half_life": 100.0,
}
DCGAN = {"latent_dim": 64, "average": 0.999, "generator_learning_rate": 1e-3, "discriminator_learning_rate": 5e-4}

experiment = Experiment(
    title="TransGAN and DCGAN on MNIST",
    settings=Settings(
        dataset="mnist",
        image_size=16,
        seeds=(0, 1, 2),
        steps=1_000_000,  # never reached
        batch_size=64,
        checkpoint_every=1_000,
        sample_every=250,
    ),
    arms={
        "transgan": Arm("transgan", TRANSGAN),
        "dcgan": Arm("dcgan", {**DCGAN, "features": 16}),
        "dcgan, as many parameters": Arm("dcgan", {**DCGAN, "features": 50}),
    },
    scoring=Scoring(metrics=("fd", "recognized"), samples=5_000),
    minutes=MINUTES,
    comparisons=(
        Comparison("transgan", "dcgan", "fd"),
        Comparison("transgan", "dcgan, as many parameters", "fd"),
        Comparison("transgan", "dcgan, as many parameters", "recognized"),
    ),
)
