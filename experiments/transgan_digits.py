"""TransGAN on scikit-learn's handwritten digits beside a DCGAN, at equal time: a short transgan_mnist.py.

    jaxgen compare experiments/transgan_digits.py

Each arm trains its three seeds for four minutes on 808 images of 8x8 pixels. TransGAN's first map has 2x2 tokens.

Time: 10 minutes on 2 CPU cores. Measured (jax 0.10.2 on a CPU, 3 seeds, 1,300 steps of TransGAN and 58,550 of
DCGAN): FD-digits 52.2, 31.6, 35.4 against 20.4, 19.4, 15.1 (untrained 569 and 2,014; real images 6.1), and the judge
is sure of 65% of the samples against 89%. Both make all ten classes. Three seeds are not enough to tell the two apart
by an exact test (p = .1). Expected of more minutes: more of TransGAN's samples recognized.
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
