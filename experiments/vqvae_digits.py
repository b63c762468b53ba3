"""VQ-VAE and VQ-VAE-2 on gray digits beside a VAE: bounds of log p(x), rate and distortion, and samples.

The digits are scikit-learn's (1,797 scans of 8x8 pixels), and nothing is downloaded. Every pixel has one logistic
distribution, discretized to the 256 gray levels, with one learned scale, in all models: their bounds differ by their
latents, 8 numbers of the VAE, 4x4 codes of one level, or 4x4 codes given 2x2 codes above. The rate is what an image's
latents cost by their prior, the distortion what is left of it given them; their sum is minus the bound. The prior of
one level is a Transformer or a gated PixelCNN. Priors learn 808 images by heart in time, so every seed's checkpoint is
the one with the highest bound on the validation images.

    jaxgen compare experiments/vqvae_digits.py

Time: about 10 minutes on 2 CPU cores. Expected: better reconstructions than the VAE's, all codes in use, priors that
need fewer nats a code than the codes' frequencies alone, and a bound below the VAE's: with few training images the
priors' rate costs more than the lower distortion saves.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 3000

NETS = {"features": 32, "residual_features": 16, "num_codes": 64, "code_dim": 8, "learning_rate": 2e-3}
CODES = {"code_steps": STEPS // 2, "dropout": 0.3, "prior_learning_rate": 2e-3, "decay_steps": STEPS // 2}
TRANSFORMER = {"dim": 48, "blocks": 2}

experiment = Experiment(
    title="Vector-quantized autoencoders on gray digits",
    settings=Settings(dataset="digits", seeds=(0, 1, 2, 3, 4), steps=STEPS, batch_size=64),
    arms={
        "vae": Arm("vae", {"likelihood": "logistic", "latent_dim": 8}),
        "vqvae": Arm("vqvae", {**NETS, **CODES, **TRANSFORMER, "halvings": 1}),
        "vqvae_pixelcnn": Arm("vqvae", {**NETS, **CODES, "halvings": 1, "prior": "pixelcnn", "gated_layers": 3}),
        "vqvae2": Arm("vqvae2", {**NETS, **CODES, **TRANSFORMER, "gated_layers": 3}),
    },
    scoring=Scoring(metrics=("log_prob", "rate_distortion", "reconstruction", "fd", "recognized")),
    checkpoint="log_prob_uint8",
    comparisons=(
        Comparison("vqvae", "vae", "mse"),
        Comparison("vqvae", "vae", "fd"),
        Comparison("vqvae", "vqvae_pixelcnn", "log_prob_uint8"),
        Comparison("vqvae2", "vqvae", "mse"),
    ),
)
