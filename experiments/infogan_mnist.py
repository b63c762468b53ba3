"""InfoGAN's categorical code as a classifier of MNIST: Chen et al. 2016, https://arxiv.org/abs/1606.03657, section 7.2.

    jaxgen data prepare mnist
    jaxgen compare experiments/infogan_mnist.py
    jaxgen sample runs/infogan_mnist/infogan --kind codes

A quarter of the paper's width, ten epochs. Each category predicts the class for which Q infers it most often among the
training images; the error is measured on test images. Two arms:

    infogan            the paper's codes, 10 categories and 2 continuous ones
    categories alone   20 categories, several of which may stand for one class, and no continuous code

At the paper's widths, on a GPU (50 epochs; one seed, more with --seeds):

    jaxgen train infogan --information-weight .1 --dataset mnist --batch-size 128 --steps 21500 --out runs/infogan
    jaxgen evaluate runs/infogan --metrics codes fd recognized

Time: half an hour on 2 CPU cores, estimated from the time of a step; an arm took 25 minutes on one shared core.
Expected: an error of about 5% with categories alone; 10% to 25% with the paper's codes, which such narrow networks
misuse. Measured: categories alone .041, .068 and .045, a median of .045; the paper's codes .139, .231 and .139.
FD-mnist 23 for both, real images 3.5; 97% and 98% of samples recognized, all ten classes.

The cause: with 10 categories a seed often mixes a pair of classes, mostly 4 and 9, in two categories that differ in
style, and a continuous code or the noise separates 4 from 9. The information's bound is reached all the same, so
training does not undo it: 10 categories without a continuous code had errors of .05, .16 and .14 after 4,300 steps, and
the same after 7,000. In a search on an H200 over learning rates, lambda, noise and dense layers, a quarter of 160 seeds
with the paper's codes came under .08 in 4,300 steps. With 20 categories enough are left to separate the two classes. At
the paper's widths and a lambda of .1, three seeds on an H200 had errors of .038, .041 and .13 after 4,300 steps of 128
images; with the paper's lambda of 1, .12, .11 and .26.
"""

from jaxgen.comparison import Arm, Experiment, Scoring
from jaxgen.training import Settings

shared = {
    "features": 16,
    "dense_units": 256,
    "information_weight": 0.1,
    "generator_learning_rate": 6e-3,
    "discriminator_learning_rate": 3e-4,
}

experiment = Experiment(
    title="InfoGAN's code as a classifier of MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=8_600, batch_size=64),
    arms={
        "infogan": Arm("infogan", shared),
        "categories alone": Arm("infogan", {**shared, "categories": 20, "continuous": 0}),
    },
    scoring=Scoring(metrics=("codes", "fd", "recognized"), samples=5_000),
)
