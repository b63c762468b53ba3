"""Exact likelihoods of gray digits: Naive Bayes, a VAE, PixelCNN, PixelRNN, Transformer and PixelCNN++ in one table.

The digits are scikit-learn's (1,797 scans of 8x8 pixels), and nothing is downloaded. All log-likelihoods are of the
256 gray levels, in nats per image: log p(x), exact for Naive Bayes and for the autoregressive models, which are given
labels and sum p(x|y) p(y) over them; for the VAE a bound, the ELBO, and a tighter one by 500 importance samples.

The digits have 17 of the 256 levels. A softmax learns which ones, and so can a mixture of ten logistic distributions,
but a single one cannot. So those are compared that model a single pixel alike: Naive Bayes, PixelCNN, PixelRNN and
Transformer by a softmax, the VAE and `pixelcnnpp_1` by one logistic distribution.

    jaxgen compare experiments/autoregressive_digits.py

Time: 18 minutes of processor time. Expected: whatever a model leaves out costs it nats. Naive Bayes leaves out all
dependence but that on the label, and the VAE's pixels are independent given 8 latents. PixelCNN++, by Bayes' rule,
recognizes over 95% of the test images; a softmax does not know that levels are ordered, and learns less of 808 images.

Measured on a CPU (jax 0.10.2), mean and 95% t interval over the seeds:

    row                log p, 256 levels (nats)     accuracy               FD-digits
    real against real                                                        6.1
    naive_bayes        -116.4, exact                0.897                   99.3 [94.6, 104.1]
    pixelcnn            -85.0 [-85.9, -84.2], exact 0.928 [0.918, 0.939]    81.2 [56.2, 106.2]
    pixelrnn            -86.9 [-88.0, -85.8], exact 0.902 [0.886, 0.918]   113.6 [99.3, 127.9]
    vae                -186.1 [-186.6, -185.6], a bound; -184.7 by IWAE     80.5 [61.6, 99.4]
    pixelcnnpp         -153.2 [-153.5, -152.9], exact 0.979 [0.974, 0.984]  16.7 [15.3, 18.2]
    untrained          -354.9 = -64 log 256 for a softmax

With five seeds, all five comparisons declared below show a difference (Holm-adjusted p 0.04 each).
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
        Comparison("pixelcnn", "naive_bayes", "log_prob_uint8"),
        Comparison("pixelrnn", "naive_bayes", "log_prob_uint8"),
        Comparison("pixelcnn", "pixelrnn", "log_prob_uint8"),
        Comparison("pixelcnn", "transformer", "log_prob_uint8"),
        Comparison("pixelcnnpp_1", "vae", "log_prob_uint8"),
        Comparison("pixelcnn", "naive_bayes", "accuracy"),
    ),
)
