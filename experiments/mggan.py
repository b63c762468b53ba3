"""MGGAN against its base, a GAN with the same networks, on the grid of 25 Gaussians.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 jaxgen compare experiments/mggan.py

Bang & Shim 2018 (https://arxiv.org/abs/1804.04391) guide G by a second discriminator on the codes of a denoising
autoencoder, trained beforehand and frozen. The base is the same GAN without it, every other field equal. The arms with
more noise and longer codes test how much the codes' information about the modes' positions matters.

Time: 17 minutes on one CPU core, without the flag. Expected: MGGAN covers more modes than its base. Measured so (jax
0.10.2): means over ten seeds, and p of the difference from the base, unadjusted and Holm-adjusted over the three:

                                 modes   KL    high quality   collapsed          p      Holm
    base                          11.6  1.29       .48       6 [.26, .88]
    mggan                         16.1   .81       .69       0 [0, .31]         .0022    .0065
    mggan, noise .5               15.2   .80       .70       2 [.03, .56]       .023     .047
    mggan, 16 numbers a code      15.6   .87       .65       4 [.12, .74]       .032     .047

All three cover more modes than the base; the noise and the code's length matter little. `base` is the arm gan of
mode_collapse_2d.py, and `mggan` its arm mggan; on two devices XLA rounds the latter differently: 15.7 modes.
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
