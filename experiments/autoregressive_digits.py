"""Exact likelihoods of gray digits: Naive Bayes, a VAE, PixelCNN, PixelRNN, Transformer and PixelCNN++ in one table.

The digits are scikit-learn's (1,797 scans of 8x8 pixels), and nothing is downloaded. All log-likelihoods are of the
256 gray levels, in nats per image: log p(x), exact for Naive Bayes and for the autoregressive models, which are given
labels and sum p(x|y) p(y) over them; for the VAE a bound, the ELBO, and a tighter one by 500 importance samples.

The digits have 17 of the 256 levels. A softmax learns which ones; a logistic distribution cannot, and a mixture of ten
does not in so few steps. So those are compared that model a single pixel alike: Naive Bayes, PixelCNN, PixelRNN and
Transformer by a softmax, the VAE and `pixelcnnpp_1` by one logistic distribution.

    jaxgen compare experiments/autoregressive_digits.py

Time: 40 minutes of processor time. Expected: whatever a model leaves out costs it nats. Naive Bayes leaves out all
dependence but that on the label, and the VAE's pixels are independent given 8 latents. The Transformer has to learn
from 808 images that neighbors matter, which convolutions and scans along rows know. PixelCNN++, by Bayes' rule,
recognizes over 95% of the test images; a softmax does not know that levels are ordered, and learns less.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row                log p, 256 levels (nats)     accuracy               FD-digits
    real against real                                                        6.1
    naive_bayes        -116.4, exact                0.897                   99.3 [94.6, 104.1]
    pixelcnn            -85.0 [-85.9, -84.1], exact 0.928 [0.918, 0.938]    81.2 [56.2, 106.2]
    pixelrnn            -86.9 [-88.0, -85.8], exact 0.902 [0.886, 0.918]   113.6 [99.3, 127.9]
    transformer         -90.8 [-91.7, -89.9], exact 0.922 [0.905, 0.938]    46.3 [31.2, 61.4]
    vae                -186.1 [-186.6, -185.6], a bound; -184.7 by IWAE     80.5 [61.6, 99.4]
    pixelcnnpp         -153.0 [-153.3, -152.7], exact 0.979 [0.977, 0.981]  16.2 [13.3, 19.2]
    pixelcnnpp_1       -153.3 [-153.6, -153.0], exact 0.980 [0.975, 0.986]  15.9 [13.5, 18.3]
    untrained          -354.9 = -64 log 256 for a softmax

With five seeds, all three comparisons declared below show a difference (Holm-adjusted p 0.024 each). Naive Bayes is in
none: all its seeds count the same, and five seeds of another model are too few to tell from one number.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

SOFTMAX = {"likelihood": "categorical", "levels": 256}
TRAINING = {"dropout": 0.3, "learning_rate": 3e-3, "decay_steps": 400}
LABELS = {"conditional": True, **TRAINING}
LOGISTIC = {**LABELS, "likelihood": "logistic", "features": 24, "layers": 1}

experiment = Experiment(
    title="Exact likelihoods of gray digits",
    settings=Settings(dataset="digits", seeds=(0, 1, 2, 3, 4), steps=400, batch_size=64),
    arms={
        "naive_bayes": Arm("naive_bayes", {**SOFTMAX, "smoothing": 0.1}),
        "vae": Arm("vae", {"likelihood": "logistic", "latent_dim": 8}),
        "pixelcnn": Arm("pixelcnn", {**SOFTMAX, **LABELS, "layers": 3}),
        "pixelrnn": Arm("pixelrnn", {**SOFTMAX, **LABELS, "layers": 2}),
        "transformer": Arm("transformer", {**SOFTMAX, **TRAINING, "condition": "label", "dim": 48, "layers": 3}),
        "pixelcnnpp": Arm("pixelcnnpp", {**LOGISTIC, "mixtures": 10}),
        "pixelcnnpp_1": Arm("pixelcnnpp", {**LOGISTIC, "mixtures": 1}),
    },
    scoring=Scoring(metrics=("log_prob", "iwae", "accuracy", "fd", "recognized")),
    comparisons=(
        Comparison("pixelcnn", "pixelrnn", "log_prob_uint8"),
        Comparison("pixelcnn", "transformer", "log_prob_uint8"),
        Comparison("pixelcnnpp_1", "vae", "log_prob_uint8"),
    ),
)
