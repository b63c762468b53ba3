"""TransGAN on scikit-learn's handwritten digits beside a DCGAN, at equal time: a short transgan_mnist.py.

    jaxgen compare experiments/transgan_digits.py

Each arm trains its three seeds for four minutes on 808 images of 8x8 pixels. TransGAN's first map has 2x2 tokens.

Time: an estimated 10 minutes on 2 CPU cores; not run yet. Expected: digits of all ten classes from both, and an
FD-digits far below the untrained rows.
"""

from dataclasses import replace

import transgan_mnist as long

from jaxgen.comparison import Comparison

experiment = replace(
    long.experiment,
    title="TransGAN and DCGAN on handwritten digits",
    settings=replace(long.experiment.settings, dataset="digits", image_size=None),
    arms={name: long.experiment.arms[name] for name in ("transgan", "dcgan")},
    scoring=replace(long.experiment.scoring, metrics=("fd", "recognized"), samples=899),
    minutes=4.0,
    comparisons=(Comparison("transgan", "dcgan", "fd"),),
)
