"""Log-likelihood of a VAE with one stochastic layer on dynamically binarized MNIST.

The architecture and the optimizer of Burda et al. 2016 (https://arxiv.org/abs/1509.00519): encoder and decoder of two
layers of 200 tanh units, 50 latents, Adam with epsilon 1e-4, batches of 20, and a learning rate that falls in stages of
1, 3, 9, ... epochs; here for 100 of the 3,280 epochs of all eight stages. The bound uses K = 5,000 importance samples
on every tenth test image, binarized once for all models and seeds.

    jaxgen data prepare mnist
    jaxgen compare experiments/vae_mnist_nll.py

experiments/vae_mnist_nll_full.py has the whole schedule, for VAE and IWAE-50, dynamic and static, on a GPU.

Time: 36 minutes on 2 otherwise idle CPU cores: 32 of training, 7 ms a step of the three seeds, the rest of scoring.
Expected: IWAE above -92 nats for each seed. Burda et al. report -86.76 for this VAE, trained on the whole schedule and
scored with K = 5,000 on all test images.

Measured on a CPU (jax 0.10.2), nats, mean and 95% t interval over the seeds:

    IWAE, K = 5,000     -90.38 [-90.60, -90.16]   (-90.32, -90.48, -90.33)
    ELBO                -96.0  [-96.3, -95.7]
    rate, distortion     26.3, 69.7; 23 of the 50 units active in each seed
    untrained, IWAE    -209.95 [-210.13, -209.76]
"""

from jaxgen.comparison import Arm, Experiment
from jaxgen.evaluation.options import Scoring
from jaxgen.training import Settings

EPOCH = 2_750  # steps: 55,000 images in batches of 20

experiment = Experiment(
    title="Log-likelihood of a VAE on dynamically binarized MNIST",
    settings=Settings(
        dataset="mnist", binarize="dynamic", seeds=(0, 1, 2), steps=100 * EPOCH, batch_size=20, log_every=EPOCH,
        sample_every=10 * EPOCH, checkpoint_every=10 * EPOCH,
    ),
    arms={
        "vae": Arm(
            "vae",
            {"network": "mlp", "hidden": (200, 200), "latent_dim": 50, "likelihood": "bernoulli"}
            | {"adam_epsilon": 1e-4, "stage_steps": EPOCH},
        ),
    },
    scoring=Scoring(
        metrics=("log_prob", "iwae", "rate_distortion", "active_units"), importance_samples=5_000, examples=1_000
    ),
)  # fmt: skip
