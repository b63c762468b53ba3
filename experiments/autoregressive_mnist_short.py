"""Exact log-likelihoods of dynamically binarized MNIST in under 40 minutes: half of experiments/autoregressive_mnist.py.

1,500 batches of 16 images a seed, a third of an epoch; the networks and the scores are the same.

    jaxgen data prepare mnist
    jaxgen compare experiments/autoregressive_mnist_short.py
"""

from dataclasses import replace

import autoregressive_mnist as long

STEPS = 1_500

experiment = replace(
    long.experiment,
    title="Exact log-likelihoods of dynamically binarized MNIST",
    settings=replace(long.experiment.settings, dataset="mnist", binarize="dynamic", steps=STEPS),
    datasets={},
    arms=long.arms(STEPS),
    comparisons=long.comparisons(None),
)
