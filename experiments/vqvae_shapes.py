"""VQ-VAE and VQ-VAE-2 with captions: scenes of shapes drawn from their captions, checked exactly.

    jaxgen compare experiments/vqvae_shapes.py

Images are 64x64. Half of the steps train encoder, decoder and codebook, the other half the priors, which are given the
caption in every layer: a Transformer over 16x16 codes of one level, or over 8x8 above a gated PixelCNN over 16x16. The
share of captions satisfied is what the tolerant checker of `jaxgen.metrics.captions` says of the samples, beside real
images, the same shrunk to half their size and enlarged, and real images with captions of others.

Time: an estimated 60 minutes on 2 CPU cores; not run yet. Expected: sharp scenes; colors and background nearly always
right, counts and relations less often.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 4000

CODES = {"features": 32, "residual_features": 16, "code_steps": STEPS // 2, "learning_rate": 2e-3}
CODES |= {"decay_steps": STEPS // 2, "prior_learning_rate": 2e-3, "condition": "caption", "dim": 64, "blocks": 3}

experiment = Experiment(
    title="Vector-quantized autoencoders of captioned shapes",
    settings=Settings(dataset="shapes", seeds=(0, 1, 2), steps=STEPS, batch_size=32),
    arms={
        "vqvae": Arm("vqvae", CODES),
        "vqvae2": Arm("vqvae2", {**CODES, "gated_features": 24, "gated_layers": 4}),
    },
    scoring=Scoring(metrics=("captions", "log_prob", "rate_distortion", "reconstruction"), samples=1_000),
    comparisons=(Comparison("vqvae2", "vqvae", "satisfied"), Comparison("vqvae2", "vqvae", "mse")),
)
