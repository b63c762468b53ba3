"""Exact log-likelihoods of binarized MNIST: gated PixelCNN, Diagonal BiLSTM, Transformer, beside a VAE's bound.

Every arm sees the same images: 4,500 batches of 16 a seed, 1.3 epochs, of dynamically binarized MNIST and of
Larochelle's fixed bits. The networks are small, so that the whole takes under 2 hours on a CPU. The PixelCNN is narrow
and deep, with kernels of 5x5: how far it sees matters more than its width. The Transformer's tokens are patches of 2x2
bits. All 10,000 test images are scored; the VAE's bound has 1,000 importance samples.

    jaxgen data prepare mnist
    jaxgen data prepare binarized_mnist
    jaxgen compare experiments/autoregressive_mnist.py

Time: under 2 hours on 2 CPU cores (estimated; not run yet). Expected: every exact likelihood above the VAE's bound, and
a gated PixelCNN of at most 84 nats on dynamic bits.

experiments/autoregressive_mnist_short.py has two thirds of the batches, and dynamic bits only; its PixelCNN has 84.6
nats. The papers' networks, as a command for a GPU (their figures, of fixed bits: Diagonal BiLSTM -79.20, van den Oord
et al. 2016, table 4; gated PixelCNN -80.10, Gulrajani et al. 2017, table 1):

    jaxgen train pixelcnn --dataset binarized_mnist --features 128 --layers 10 --batch-size 16 --steps 625000
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
