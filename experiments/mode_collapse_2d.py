"""Mode collapse on mixtures of Gaussians in the plane: a GAN and four remedies, ten seeds each.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 jaxgen compare experiments/mode_collapse_2d.py

A ring of 8 modes and a grid of 25 (VEEGAN's mixtures, with PacGAN's parameters). In all arms G and D have two layers of
128 ReLU units, z is a 2-dimensional Gaussian, and Adam has one learning rate; in every arm a step uses a batch of 64:

    gan        the non-saturating game
    pacgan2    D judges two examples at once: 32 pairs a step
    unrolled   G's loss looks two updates of D ahead
    wgan_gp    Wasserstein with the gradient penalty; four updates of D for one of G, each on 16 examples
    mggan      a second D on the codes of a denoising autoencoder, which is trained first, for 2,000 steps

The flag splits a CPU into two devices, each with five seeds, which takes less than half the time. The arm gan has the
same bits there; XLA rounds mggan differently.

PacGAN's own protocol (https://arxiv.org/abs/1712.04086, section 4.1) is for a GPU: `--steps 400000`, batches of 100 and
in `shared` generator_units 400, generator_layers 4, generator_batch_norm True, discriminator_units 200,
discriminator_layers 3, pieces 5, learning_rate 1e-4. Its table: GAN 6.3 and 17.3 modes, PacGAN2 7.9 and 23.8. On an
H200 such an arm ran at 900 steps a second beside another one: 7 minutes. Measured there after 90,000 steps on the grid
only: GAN 21.4 [20.4, 22.4] modes, PacGAN2 21.2 [18.1, 24.3].

Time: 33 minutes on 2 CPU cores, shared in part. Expected: PacGAN2 covers more modes of the grid than the GAN. Measured
(jax 0.10.2): means over ten seeds; `collapsed` is the number of seeds with fewer than half of the modes, and the
Clopper-Pearson interval of their share:

               grid: modes  KL    high quality  collapsed         ring: modes  KL    high quality  collapsed
    gan              11.6  1.29       .48       6  [.26, .88]          6.7    .33       .89        0  [0, .31]
    pacgan2          20.9   .67       .49       0  [0, .31]            7.9    .14       .73        0  [0, .31]
    unrolled          9.3  1.40       .87       8  [.44, .97]          7.2    .31       .85        0  [0, .31]
    wgan_gp          12.1  1.24       .02       6  [.26, .88]          2.6   1.38*      .09        8  [.44, .97]
    mggan            15.7   .85       .68       1  [.00, .45]          6.0    .46       .90        2  [.03, .56]

    * over the eight seeds that have one

Of the eight comparisons of modes with the GAN's, two show a difference (Holm-adjusted p): on the grid PacGAN2 has 9.3
[6.4, 12.2] more (.0008), on the ring WGAN-GP has fewer (.02). A third shows other distributions: on the grid MGGAN has
4.1 [1.2, 7.0] more (.047), but Welch's test, corrected for eight comparisons, tells no order of the means. On
the grid the unrolled GAN ends on few modes, with most samples of high quality. The learning rate and momentum, chosen
for the GAN and PacGAN2, are too large for the critic of WGAN-GP: its samples stay scattered.
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

experiment = Experiment(
    title="Mode collapse in the plane",
    settings=Settings(
        dataset="gaussians/ring",
        seeds=tuple(range(10)),
        steps=25_000,
        batch_size=64,
        log_every=500,
        sample_every=2_500,
        checkpoint_every=5_000,
    ),
    datasets={"ring": {"dataset": "gaussians/ring"}, "grid": {"dataset": "gaussians/grid"}},
    arms={
        "gan": Arm("gan", shared),
        "pacgan2": Arm("gan", {**shared, "packing": 2}),
        "unrolled": Arm("gan", {**shared, "unrolled": 2}),
        "wgan_gp": Arm("gan", {**shared, "loss": "wasserstein", "penalty": "one_centered", "critic_steps": 4}),
        "mggan": Arm("mggan", {**shared, "manifold_units": 128, "code_dim": 2, "autoencoder_steps": 2_000}),
    },
    scoring=Scoring(metrics=("modes",), samples=2_500),
    comparisons=tuple(
        Comparison(other, "gan", "modes", dataset=mixture)
        for mixture in ("ring", "grid")
        for other in ("pacgan2", "unrolled", "wgan_gp", "mggan")
    ),
)
