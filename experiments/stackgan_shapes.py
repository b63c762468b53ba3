r"""StackGAN on scenes of one to three shapes with captions: Stage I, both stages, one stage, and two ablations.

Pictures of 32x32 pixels are drawn by jaxgen (`shapes_32`), and nothing is downloaded. A checker tells for every sample
whether its caption is true of it, and which attributes alone are: background, colors, count, shapes, sizes, relations
(`jaxgen metrics`: captions). `first` is Stage I alone, 16x16 pixels enlarged; `two` has both stages, `one` a single
stage of 32x32 pixels; the ablations are of `one`: D without wrong captions, and c without noise. The floor is the row
of real images with the captions of others, the ceiling real images themselves: 99.8%, of which 53% remain at 16x16.

    jaxgen compare experiments/stackgan_shapes.py

Time: an estimated 2.5 hours on 2 CPU cores, by the processor time of steps; not run yet. Expected: backgrounds and
colors are right most of the time, counts, shapes and relations far less; Stage II corrects shapes and sizes, which 16
pixels cannot show. Exact permutation tests of three seeds against three have no p below .1; --seeds 0 1 2 3 4 has .008.

On a GPU, pictures of 64x64 and networks of the size of the authors':

    jaxgen train stackgan --dataset shapes --features 64 --text-steps 3000 --stage1-steps 30000 --steps 60000 \
        --halve-every 10000 --average 0.999 --seeds 0 1 2 --out runs/stackgan
    jaxgen evaluate runs/stackgan --metrics captions r_precision fd
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

TEXT = {"text_steps": 2000, "word_dim": 32, "text_dim": 64, "latent_dim": 32, "condition_dim": 32}
PLAYERS = {"loss": "hinge", "normalization": "none", "spectral_norm": True, "average": 0.99}
PLAYERS |= {"generator_learning_rate": 4e-4, "discriminator_learning_rate": 8e-4}
NETS = {**TEXT, **PLAYERS, "features": 16, "discriminator_features": 32}
ONE = {**NETS, "stages": "one"}

experiment = Experiment(
    title="StackGAN on scenes of shapes",
    settings=Settings(
        dataset="shapes_32",
        seeds=(0, 1, 2),
        steps=6000,
        batch_size=64,
        log_every=250,
        sample_every=1500,
        checkpoint_every=1500,
    ),
    arms={
        "first": Arm("stackgan", {**NETS, "stages": "first"}),
        "two": Arm("stackgan", {**NETS, "stage1_steps": 2200}),
        "one": Arm("stackgan", ONE),
        "one, no wrong captions": Arm("stackgan", {**ONE, "wrong_pairs": "none"}),
        "one, no augmentation": Arm("stackgan", {**ONE, "augmentation": "none"}),
    },
    scoring=Scoring(metrics=("captions", "r_precision", "fd"), samples=2000),
    comparisons=(
        Comparison("two", "first", "satisfied"),
        Comparison("two", "one", "satisfied"),
        Comparison("one", "one, no wrong captions", "satisfied"),
        Comparison("one", "one, no augmentation", "satisfied"),
    ),
)
