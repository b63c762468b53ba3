"""VQ-VAE and VQ-VAE-2 on MNIST beside a VAE and a DCGAN: samples, bounds and codes.

    jaxgen data prepare mnist
    jaxgen compare experiments/vqvae_mnist.py

Half of the steps train encoder, decoder and codebook, the other half the priors. One level has 7x7 of 128 codes, with a
Transformer or a gated PixelCNN as their prior; two levels have 7x7 codes above 14x14. In a further arm the prior is
given the label, and agreement is the share of its samples in which the judge sees that label. VAE and DCGAN get as many
steps.

Bounds are of the 256 gray levels, in nats; the rate is what the codes of a test image cost by their prior, and the mean
squared error is that of images decoded from them.

Time: an estimated 55 minutes on 2 otherwise idle CPU cores; 103 minutes of training were measured beside other work.
Expected: all codes used, codes that cost far less than ln 128 = 4.85 nats each, and an FD below the VAE's.

Results of three seeds: all 128 codes of one level are used, with a perplexity of 111, and 97% and 99% of those of two.
A code costs 2.29 nats by the Transformer and 2.39 by the PixelCNN, where the codes' frequencies alone give ln 111 =
4.71. FD-mnist is 193 for one level (PixelCNN's prior: 251), 259 for two, 210 for the VAE and 266 for the DCGAN, which
all are at the start of what they could learn; with labels it is 105, and of those samples the judge sees 85% as what
was asked for. The mean squared error of reconstructions is .0090 for the VAE, .0046 for one level and .0011 for two.
Bounds are 2.39 bits per dimension for one level, 2.64 for two and 2.34 for the VAE: in 1,500 steps the priors of 49 or
245 codes learn less than the lower distortion saves. Samples of one level are sharp; those of two are sharp and broken,
since two codes in three of an image's rate are the lower level's.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 3000

CODES = {"features": 32, "residual_features": 16, "code_steps": STEPS // 2, "learning_rate": 2e-3}
CODES |= {"decay_steps": STEPS // 2, "prior_learning_rate": 2e-3}
TRANSFORMER = {"dim": 64, "blocks": 3}

experiment = Experiment(
    title="Vector-quantized autoencoders on MNIST",
    settings=Settings(dataset="mnist", seeds=(0, 1, 2), steps=STEPS, batch_size=64),
    arms={
        "vae": Arm("vae", {"likelihood": "logistic"}),
        "dcgan": Arm("dcgan", {"features": 16}),
        "vqvae": Arm("vqvae", {**CODES, **TRANSFORMER}),
        "vqvae_pixelcnn": Arm("vqvae", {**CODES, "prior": "pixelcnn", "gated_layers": 5}),
        "vqvae_labels": Arm("vqvae", {**CODES, **TRANSFORMER, "condition": "label"}),
        "vqvae2": Arm("vqvae2", {**CODES, **TRANSFORMER, "gated_features": 24, "gated_layers": 4}),
    },
    scoring=Scoring(
        metrics=("fd", "recognized", "agreement", "log_prob", "rate_distortion", "reconstruction"), samples=5_000
    ),
    comparisons=(
        Comparison("vqvae", "vae", "fd"),
        Comparison("vqvae", "dcgan", "fd"),
        Comparison("vqvae", "vqvae_pixelcnn", "log_prob_uint8"),
        Comparison("vqvae2", "vqvae", "mse"),
        Comparison("vqvae2", "vqvae", "fd"),
    ),
)
