"""Log-likelihoods of Burda et al. 2016 (https://arxiv.org/abs/1509.00519): VAE and IWAE-50, one stochastic layer.

The setting is that of experiments/vae_mnist_nll.py on the whole schedule of eight stages, 3,280 epochs. The objective
has one importance sample (the ELBO) or 50. The data are MNIST binarized anew for every batch, or Larochelle's fixed
bits, whose 50,000 training images are seen a tenth more often. The bound uses K = 5,000 importance samples on all test
images.

    jaxgen data prepare mnist
    jaxgen data prepare binarized_mnist
    jaxgen compare experiments/vae_mnist_nll_full.py

The same command resumes a stopped run. `--steps 1001000` ends after the first six stages, 364 epochs.

Time: not measured; four runs of 9 million steps with three seeds, for a GPU. Expected, nats: dynamic, VAE -86.8 and
IWAE-50 -84.8 (the paper's, for one seed); static, VAE -89.8 and IWAE-50 -86.8 (as pythae reports).
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

EPOCH = 2_750  # steps: 55,000 images in batches of 20

network = {"network": "mlp", "hidden": (200, 200), "latent_dim": 50, "likelihood": "bernoulli"}
network |= {"adam_epsilon": 1e-4, "stage_steps": EPOCH}

experiment = Experiment(
    title="Log-likelihoods of a VAE and an IWAE on binarized MNIST",
    settings=Settings(
        seeds=(0, 1, 2), steps=3_280 * EPOCH, batch_size=20, log_every=10 * EPOCH, sample_every=100 * EPOCH,
        checkpoint_every=EPOCH,
    ),
    datasets={"dynamic": {"dataset": "mnist", "binarize": "dynamic"}, "static": {"dataset": "binarized_mnist"}},
    arms={"vae": Arm("vae", network), "iwae_50": Arm("vae", {**network, "importance_samples": 50})},
    scoring=Scoring(metrics=("log_prob", "iwae", "rate_distortion", "active_units"), importance_samples=5_000),
    comparisons=(
        Comparison("iwae_50", "vae", "iwae_binary", "dynamic"),
        Comparison("iwae_50", "vae", "iwae_binary", "static"),
    ),
)  # fmt: skip
