"""VQ-VAE and VQ-VAE-2 on gray digits beside a VAE: bounds of log p(x), rate and distortion, and samples.

The digits are scikit-learn's (1,797 scans of 8x8 pixels), and nothing is downloaded. Every pixel has one logistic
distribution, discretized to the 256 gray levels, with one learned scale, in all models: their bounds differ by their
latents, 8 numbers of the VAE, 4x4 codes of one level, or 4x4 codes given 2x2 codes above. The rate is what an image's
latents cost by their prior, the distortion what is left of it given them; their sum is minus the bound. The prior of
one level is a Transformer or a gated PixelCNN. Priors learn 808 images by heart in time, so every seed's checkpoint is
the one with the highest bound on the validation images.

    jaxgen compare experiments/vqvae_digits.py

Time: an estimated 5 minutes on 2 CPU cores. Expected: sharper reconstructions than the VAE's, all codes in use, and
priors that need far fewer nats a code than the codes' frequencies alone.

The three seeds have not been run. One seed of the one-level arms on a CPU (jax 0.10.2), in the last training batches: a
squared error of .0226 of the images' variance, a perplexity of 61.1 of 64 codes, all in use; 2.44 nats a code by the
Transformer and 2.53 by the PixelCNN, where the codes' frequencies alone have log 61.1 = 4.11; a bound of -187.8 and
-189.3 nats, of which -148.8 are log p(x|codes). The VAE's bound in its own last batches is -176.3.

"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 3000

NETS = {"features": 32, "residual_features": 16, "num_codes": 64, "code_dim": 8, "learning_rate": 2e-3}
CODES = {"code_steps": STEPS // 2, "dropout": 0.3, "prior_learning_rate": 2e-3, "decay_steps": STEPS // 2}
TRANSFORMER = {"dim": 48, "blocks": 2}

experiment = Experiment(
    title="Vector-quantized autoencoders on gray digits",
    settings=Settings(dataset="digits", seeds=(0, 1, 2), steps=STEPS, batch_size=64),
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
