"""Captions that a deconvolutional network writes of scenes of shapes, and how many are true.

    jaxgen compare experiments/captions_shapes.py

The network of Pu et al. 2016 (https://arxiv.org/abs/1609.08976) encodes pictures of `shapes_32`, and a GRU writes
captions from the code, greedily. It learns from the captions of all 20,000 pictures, or of 2,000, from which half of
every batch is then drawn. `blind` is the same language model without the picture: its caption is grammatical, always
the same, and true by chance. Each caption of a test picture is checked against what the picture shows
(`jaxgen.metrics.captions`, whose tolerant checker accepts 99.8% of the true captions of these pictures): it names all
objects and no others, and each word is right. Beside it stand the share of different captions, and of captions that
say all there is to say, since "a red circle" is easier than "a large red circle on a black background".

Scenes have one object in the tables `one_object`, and up to three in `three_objects`.

Time: under 40 minutes on 2 otherwise idle CPU cores (estimated). Expected: of one object at least 80% of the captions
true, where the blind model's are true by chance (about 1%); nats a word well below the blind model's.

Not run yet.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 1500

network = {
    "predicts": "caption",
    "gradient": "gumbel",
    "draws": 1,
    "decay_steps": STEPS,
    "learning_rate": 3e-3,
    "deviation": 0.1,
}

experiment = Experiment(
    title="Captions of shapes",
    settings=Settings(dataset="shapes_32", steps=STEPS, batch_size=64, log_every=100),
    datasets={
        "one_object": {"max_objects": 1},
        "one_object_2000_captions": {"max_objects": 1, "captions": 2000, "labeled_share": 0.5},
        "three_objects": {},
    },
    arms={
        "dgdn": Arm("dgdn", network),
        "blind": Arm("dgdn", {**network, "blind": True}),
    },
    scoring=Scoring(metrics=("captions", "caption_truth", "reconstruction")),
    comparisons=(
        Comparison("dgdn", "blind", "caption_true"),
        Comparison("dgdn", "blind", "caption_nats"),
    ),
)
