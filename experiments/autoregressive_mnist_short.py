"""Exact log-likelihoods of dynamically binarized MNIST: a shorter experiments/autoregressive_mnist.py.

3,000 batches of 16 images a seed, less than one epoch, of dynamic bits only; the networks and the scores are the same.
Time: about 50 minutes on 2 CPU cores (estimated). Expected: every exact likelihood above the VAE's bound.

    jaxgen data prepare mnist
    jaxgen compare experiments/autoregressive_mnist_short.py
"""

from dataclasses import replace

import autoregressive_mnist as long

STEPS = 3_000

experiment = replace(
    long.experiment,
    title="Exact log-likelihoods of dynamically binarized MNIST",
    settings=replace(long.experiment.settings, dataset="mnist", binarize="dynamic", steps=STEPS),
    datasets={},
    arms=long.arms(STEPS),
)
