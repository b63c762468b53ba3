"""Four likelihoods of a VAE on MNIST: Bernoulli, Gaussian (learned or optimal deviation), discretized logistic.

    jaxgen data prepare mnist
    jaxgen compare experiments/vae_likelihoods.py

All arms have the same networks, 16 latents, Adam and order of the data; they differ in p(x|z): Bernoulli on pixels
binarized at 128; Gaussian with one deviation for all pixels, either learned or each batch's root mean squared error
(Rybkin et al. 2021, https://arxiv.org/abs/2006.13202); logistic, discretized to the 256 levels (Kingma et al. 2016,
https://arxiv.org/abs/1606.04934, section 4), with one learned scale.

The arms are compared by FD-mnist of means of p(x|z) against the gray images, one scale for all four. Bernoulli's are
means of bits; the row "real as bits" shows what binarization alone costs. Log-likelihoods have a column for each space:
a probability of bits, a density and a probability of levels cannot be compared, only the two Gaussians with each other.
The same holds for distortions; rates are all in nats of z.

Time: 19 minutes on 2 shared CPU cores, 13 of them training. Expected: all four far below their untrained rows in
FD-mnist; the smaller a Gaussian's deviation becomes, the more nats a code carries, and the farther prior draws lie from
the codes that the decoder has seen.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row                FD-mnist            recognized             rate (nats)   log-likelihood, a bound (nats)
    real against real    3.5               0.998
    real as bits        11.2               0.995
    bernoulli           475 [466, 484]     0.536 [0.527, 0.546]   25.0            -99.6, of bits
    gaussian_learned    796 [776, 816]     0.397 [0.384, 0.409]   43.9            509.3, a density
    gaussian_optimal    930 [907, 952]     0.341 [0.325, 0.357]   48.7            528.5, a density
    logistic            501 [483, 519]     0.524 [0.507, 0.542]   26.3          -1320.9, of 256 levels: 2.431 bits/dim
    untrained          1990

With five seeds, all three comparisons with gaussian_optimal show a difference (Holm-adjusted p 0.024 each): its samples
are the worst of the four, although its density is higher than gaussian_learned's after so few steps.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

NETS = {"features": 16, "dense_units": 0}

experiment = Experiment(
    title="Likelihoods of a VAE on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2, 3, 4), steps=700, batch_size=128),
    arms={
        "bernoulli": Arm("vae", {**NETS, "likelihood": "bernoulli"}),
        "gaussian_learned": Arm("vae", {**NETS, "likelihood": "gaussian", "deviation": "learned"}),
        "gaussian_optimal": Arm("vae", {**NETS, "likelihood": "gaussian", "deviation": "optimal"}),
        "logistic": Arm("vae", {**NETS, "likelihood": "logistic"}),
    },
    scoring=Scoring(metrics=("fd", "recognized", "log_prob", "rate_distortion", "active_units"), samples=5_000),
    comparisons=(
        Comparison("gaussian_optimal", "bernoulli", "fd"),
        Comparison("gaussian_optimal", "gaussian_learned", "fd"),
        Comparison("gaussian_optimal", "logistic", "fd"),
    ),
)
