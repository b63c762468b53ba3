"""1-NN error of labeled samples on MNIST: Radford et al. 2016 (https://arxiv.org/abs/1511.06434), table 3.

    jaxgen data prepare mnist
    jaxgen compare experiments/dcgan_mnist_1nn.py

A conditional DCGAN's samples, with their requested labels, are the training set of a 1-nearest-neighbor classifier on
pixels. Its error is low if each class's samples belong to that class and are varied. The arm is the convolutional
conditional GAN at a quarter of the paper's width and ten times its learning rate, which narrow networks need, with
Adam's beta2 .99, batches of 64, seven and a half epochs and a running average of G. The error is that of 10,000
samples; the row of as many real images is the target. High agreement with the requested labels should come with a
recall within classes near that of real images.

At the paper's width, with 50,000 samples as in its table, on a GPU (25 epochs):

    jaxgen train cgan --dataset mnist --kernel 5 --batch-size 128 --steps 10750 --seeds 0 1 2 --out runs/cgan
    jaxgen evaluate runs/cgan --metrics nearest_neighbor fd agreement --samples 50000

Time: 15 minutes on one core. Expected: an error above that of as many real images, and an agreement of .97 or more. In
the paper, with 50,000 samples: 2.98%, real images 3.1%, a GAN of dense networks 6.28%. Measured with 10,000: an error
of 8.95% [8.67, 9.23], real images 5.28%; agreement .982 [.977, .986]; recall within classes .836, real images .939;
FD-mnist 11.0, real images 3.1.
"""

from jaxgen.comparison import Arm, Experiment, Scoring
from jaxgen.training import Settings

experiment = Experiment(
    title="1-NN error of a conditional DCGAN's samples on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=6_450, batch_size=64),
    arms={"cgan": Arm("cgan", {"features": 16, "learning_rate": 2e-3, "beta2": 0.99, "average": 0.999})},
    scoring=Scoring(metrics=("nearest_neighbor", "fd", "agreement"), samples=10_000),
)
