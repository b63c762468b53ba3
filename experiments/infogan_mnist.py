"""InfoGAN's categorical code as a classifier of MNIST: Chen et al. 2016, https://arxiv.org/abs/1606.03657, section 7.2.

    jaxgen data prepare mnist
    jaxgen compare experiments/infogan_mnist.py
    jaxgen sample runs/infogan_mnist/infogan --kind codes

A quarter of the paper's width, five epochs. Each category stands for the class that it is inferred for most often among
the training images, and errs on test images.

At the paper's widths, on a GPU (50 epochs):

    jaxgen train infogan --dataset mnist --batch-size 128 --steps 21500 --seeds 0 1 2 --out runs/infogan
    jaxgen evaluate runs/infogan --metrics codes fd recognised

Time: 20 minutes on 2 CPU cores, by an estimate. Expected: far above the paper's 5%. Measured: not yet. In short trials
at this width the best two seeds erred 19% and 33%, by test images, with a lambda of .1 and 4,000 steps of 64 images: a
seed's categories settle on merged digits (4 with 9; 3, 5 and 8), while Q tells the categories of G's own images.
"""

from jaxgen.comparison import Arm, Experiment, Scoring
from jaxgen.training import Settings

experiment = Experiment(
    title="InfoGAN's code as a classifier of MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=2_150, batch_size=128),
    arms={"infogan": Arm("infogan", {"features": 16, "dense_units": 256, "information_weight": 0.1})},
    scoring=Scoring(metrics=("codes", "fd", "recognised"), samples=5_000),
)
