"""Exact log-likelihoods of dynamically binarized MNIST: a shorter experiments/autoregressive_mnist.py.

1,500 batches of 16 images a seed, less than half an epoch; the networks and the scores are the same. Time: under 40
minutes on 2 CPU cores (estimated; not run yet). Expected: exact likelihoods above the VAE's bound.

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
)
