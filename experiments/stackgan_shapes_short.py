"""StackGAN's single stage on scenes of one shape with captions, beside real images: are the captions satisfied?

Pictures of 32x32 pixels with one object are drawn by jaxgen (`shapes_32`, `max_objects` 1), and nothing is downloaded.
A caption names the color and the shape, and often the size and the background; a checker tells whether it is true. The
rows of real images are 99.8% for the pictures, 72% if they are shrunk to 16x16, and about 3% with captions of others.

    jaxgen compare experiments/stackgan_shapes_short.py

Time: an estimated 35 minutes on 2 CPU cores, by the processor time of single steps; not run yet. Expected: at least 95%
of the captions satisfied in the median of the three seeds.
"""

from jaxgen.comparison import Arm, Experiment, Scoring
from jaxgen.training import Settings

experiment = Experiment(
    title="StackGAN on scenes of one shape",
    settings=Settings(
        dataset="shapes_32",
        max_objects=1,
        seeds=(0, 1, 2),
        steps=5500,
        batch_size=64,
        log_every=250,
        sample_every=500,
        checkpoint_every=1000,
    ),
    arms={
        "stackgan": Arm(
            "stackgan",
            {"stages": "one", "text_steps": 400, "word_dim": 32, "text_dim": 64, "latent_dim": 32, "condition_dim": 32}
            | {"features": 16, "generator_learning_rate": 4e-4, "discriminator_learning_rate": 4e-4, "average": 0.99},
        )
    },
    scoring=Scoring(metrics=("captions",), samples=2000),
)
