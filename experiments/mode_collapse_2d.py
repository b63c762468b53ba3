"""Mode collapse on mixtures of Gaussians in the plane: a GAN and four remedies, ten seeds each.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 jaxgen compare experiments/mode_collapse_2d.py

A ring of 8 modes and a grid of 25 (VEEGAN's, in PacGAN's numbers). All arms have G and D of two layers of 128 ReLU, z
of two Gaussian numbers, Adam with one rate, and batches of 100; a step takes the whole batch in each of them:

    gan        the non-saturating game
    pacgan2    D judges two examples at once: 50 pairs a step
    unrolled   G's loss looks two updates of D ahead
    wgan_gp    Wasserstein with the gradient penalty; four updates of D for one of G, each on 25 examples
    mggan      a second D on the codes of a denoising autoencoder, which 2,000 steps train first

The flag makes two devices of a CPU, each with five seeds: the same bits, in less than half of the time.

PacGAN's own protocol (https://arxiv.org/abs/1712.04086, section 4.1) is for a GPU: `--steps 400000`, batches of 100 and
in `shared` generator_units 400, generator_layers 4, generator_batch_norm True, discriminator_units 200,
discriminator_layers 3, pieces 5, learning_rate 1e-4. Its table: GAN 6.3 and 17.3 modes, PacGAN2 7.9 and 23.8. On an
H200 such an arm took 900 steps a second beside another, so 7 minutes. After 90,000 steps on the grid, and no more were
taken yet: GAN 21.4 [20.4, 22.4] modes, PacGAN2 21.2 [18.1, 24.3].

Time: 52 minutes on 2 CPU cores, beside other work. Expected: PacGAN2 ahead of the GAN in modes on the grid. Measured,
modes on the grid: GAN 14.6, PacGAN2 20.3, unrolled 5.8, WGAN-GP 11.7, MGGAN 18.6; all four differ from the GAN (p by
Holm .0002, .0002, .004, .0004, of these four comparisons). On the ring: GAN 7.2, PacGAN2 8 with every seed, unrolled
5.5, WGAN-GP 4.0, MGGAN 6.8. Collapsed on the grid, to fewer than half of its modes, were of ten seeds all of the
unrolled game [.69, 1], 7 of WGAN-GP [.35, .93], none of the others [0, .31]; on the ring 3, 5 and none. The unrolled
game settles on fewer modes and stays there; of its samples 93% are of high quality on the grid, of the GAN's 62%. The
rate and the momentum, chosen for the GAN and PacGAN2, are too great for the critic of WGAN-GP, whose samples stay
scattered (2%).
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
        batch_size=100,
        log_every=500,
        sample_every=2_500,
        checkpoint_every=5_000,
    ),
    datasets={"ring": {"dataset": "gaussians/ring"}, "grid": {"dataset": "gaussians/grid"}},
    arms={
        "gan": Arm("gan", shared),
        "pacgan2": Arm("gan", {**shared, "packing": 2}),
        "unrolled": Arm("gan", {**shared, "unrolled": 2}),
        "wgan_gp": Arm("gan", {**shared, "loss": "wasserstein", "penalty": "one_centred", "critic_steps": 4}),
        "mggan": Arm("mggan", {**shared, "manifold_units": 128, "code_dim": 2, "autoencoder_steps": 2_000}),
    },
    scoring=Scoring(metrics=("modes",), samples=2_500),
    comparisons=tuple(
        Comparison(other, "gan", "modes", dataset=mixture)
        for mixture in ("ring", "grid")
        for other in ("pacgan2", "unrolled", "wgan_gp", "mggan")
    ),
)
