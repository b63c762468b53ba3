"""VQ-VAE and VQ-VAE-2 on MNIST beside a VAE and a DCGAN: samples, bounds and codes.

    jaxgen data prepare mnist
    jaxgen compare experiments/vqvae_mnist.py

Half of the steps train encoder, decoder and codebook, the other half the priors. One level has 7x7 of 128 codes, with a
Transformer or a gated PixelCNN as their prior; two levels have 7x7 codes above 14x14. In a further arm the prior is
given the label, and agreement is the share of its samples in which the judge sees that label. VAE and DCGAN get as many
steps.

Bounds are of the 256 gray levels, in nats; the rate is what the codes of a test image cost by their prior, and the mean
squared error is that of images decoded from them.

Time: an estimated 40 minutes on 2 CPU cores; not run yet. Expected: nearly all codes used, codes that cost far less
than ln 128 = 4.85 nats each, and an FD below the VAE's.
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
