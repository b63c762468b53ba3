"""Logistic regression and three convolutional classifiers on MNIST, three epochs each.

    jaxgen data prepare mnist
    jaxgen compare experiments/classifiers.py

The same images in batches of 128, AdamW with the learning rate falling to 0 along a cosine; what differs is the
network, each narrow enough for a CPU: LeNet of 16 and 32 channels, VGG of three pairs of 3x3 convolutions, ResNet-8 of
one block at each of three sizes. Logistic regression is penalised and does without weight decay, so that it has one
optimum; longer training reaches it (tests/models/test_classifier.py, against scikit-learn).

Time: 20 minutes on 2 CPU cores, by an estimate. Expected: logistic regression about 0.925, the three others over 0.985,
LeNet and VGG over 0.990 (medians of the seeds). Measured: not yet.
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
