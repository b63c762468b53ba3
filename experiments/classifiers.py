"""Logistic regression and three convolutional classifiers on MNIST, three epochs each.

    jaxgen data prepare mnist
    jaxgen compare experiments/classifiers.py

All arms see the same images in batches of 128 and use AdamW with cosine decay of the learning rate to 0. They differ in
the network, each narrow enough for a CPU: LeNet with 16 and 32 channels, VGG with three pairs of 3x3 convolutions,
ResNet-8 with one block at each of three sizes. Logistic regression has an L2 penalty in place of weight decay, so that
its optimum is unique; longer training reaches it (tests/models/test_classifier.py, against scikit-learn).

Time: 37 minutes (2,198 s) on 2 shared CPU cores; 20 minutes of processor time. Expected: logistic regression about
0.925, the three others over 0.985, LeNet over 0.990 (median of the seeds).

Measured on a CPU (jax 0.10.2), accuracy on the 10,000 test images: mean and 95% t interval over the seeds, and median:

    logistic   0.9255 [0.9250, 0.9259]   0.9253
    lenet      0.9915 [0.9904, 0.9927]   0.9913
    vgg        0.9923 [0.9916, 0.9931]   0.9926
    resnet     0.9904 [0.9899, 0.9909]   0.9904

With five seeds and Holm's correction, LeNet differs from logistic regression and VGG from ResNet (p 0.032 each). No
difference is shown between VGG and LeNet (0.16) or ResNet and LeNet (0.079).
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 1290  # three epochs

shared = {"decay_steps": STEPS, "embedding_dim": 128}

experiment = Experiment(
    title="Classifiers on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2, 3, 4), steps=STEPS, batch_size=128),
    arms={
        "logistic": Arm(
            "classifier",
            {"network": "logistic", "decay_steps": STEPS, "learning_rate": 1e-2, "l2": 1e-4, "weight_decay": 0.0},
        ),
        "lenet": Arm("classifier", {**shared, "network": "lenet", "features": 16, "learning_rate": 3e-3}),
        "vgg": Arm("classifier", {**shared, "network": "vgg", "features": 8, "learning_rate": 3e-3}),
        "resnet": Arm(
            "classifier",
            {"network": "resnet", "decay_steps": STEPS, "features": 8, "blocks": 1, "learning_rate": 5e-3},
        ),
    },
    scoring=Scoring(metrics=("accuracy",)),
    comparisons=(
        Comparison("lenet", "logistic", "accuracy"),
        Comparison("vgg", "lenet", "accuracy"),
        Comparison("resnet", "lenet", "accuracy"),
        Comparison("resnet", "vgg", "accuracy"),
    ),
)
