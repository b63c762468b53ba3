"""MGGAN against its own base, a GAN of the same nets, on the grid of 25 Gaussians.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 jaxgen compare experiments/mggan.py

Bang & Shim 2018 (https://arxiv.org/abs/1804.04391) guide G by a second discriminator on the codes of a denoising
autoencoder, trained beforehand and frozen. The base is what is left without it, every other field alike. The arms of
more noise and of longer codes show what decides: how much of the modes' places the codes keep.

Time: half an hour on 2 CPU cores, by an estimate. Expected: MGGAN covers more modes than its base. Measured, in
mode_collapse_2d.py, whose arms gan and mggan on the grid are `base` and `mggan` here: 15.7 modes against 11.6, a
difference of 4.1 [1.2, 7.0], p .008 and by Holm .047 among its eight. The other two arms: not yet.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

shared = {
    "latent_dim": 2,
    "prior": "gaussian",
    "generator_units": 128,
    "discriminator_units": 128,
    "pieces": 1,
    "dropout": 0.0,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "beta1": 0.8,
}
guide = {**shared, "manifold_units": 128, "code_dim": 2, "autoencoder_steps": 2_000}

experiment = Experiment(
    title="MGGAN and its base on the grid",
    settings=Settings(
        dataset="gaussians/grid",
        seeds=tuple(range(10)),
        steps=25_000,
        batch_size=64,
        log_every=500,
        sample_every=2_500,
        checkpoint_every=5_000,
    ),
    arms={
        "base": Arm("gan", shared),
        "mggan": Arm("mggan", guide),
        "mggan, noise .5": Arm("mggan", {**guide, "deviation": 0.5}),
        "mggan, 16 numbers a code": Arm("mggan", {**guide, "code_dim": 16}),
    },
    scoring=Scoring(metrics=("modes",), samples=2_500),
    comparisons=tuple(
        Comparison(arm, "base", "modes") for arm in ("mggan", "mggan, noise .5", "mggan, 16 numbers a code")
    ),
)
