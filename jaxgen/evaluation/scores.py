"""The scores of a model's seeds: what `jaxgen evaluate` and the comparisons put in their tables."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.data import Dataset, pipeline
from jaxgen.evaluation.extractor import BATCH, Extractor
from jaxgen.evaluation.frechet import frechet_distance
from jaxgen.model import Array, Model, State

SURE = 0.9
"""A judge recognises an image where its largest class probability is at least this."""

SPACES = {
    "binary": "of the test images as bits (pixels >= 128)",
    "uint8": "of the test images' 256 levels",
    "continuous": "density of the test images with pixels in [0, 1], not dequantised",
}
"""What the log-likelihoods of each space are of."""


class Metric(NamedTuple):
    """A column of a table of scores."""

    key: str
    title: str
    better: str | None  # "lower", "higher"
    digits: int  # printed after the point
    note: str


def metrics(dataset: Dataset) -> list[Metric]:
    """All columns that a row may have, in the order of a table."""
    numbers = f"{len(dataset.train['image'])} images and the {len(dataset.test['image'])} test images"
    return [
        Metric(
            "fd", f"FD-{dataset.name}", "lower", 2,
            f"Fréchet distance between Gaussians fitted to the extractor's features of {numbers}, in every row "
            "alike. It falls with the number of images: compare rows of one table only. It is not FID, which "
            "uses other features.",
        ),
        Metric(
            "recognised", "recognised", "higher", 3,
            f"Share of the images on which the judge, a classifier trained apart from the extractor on real "
            f"images, is at least {SURE:.0%} sure of the class.",
        ),
        Metric("classes", "classes", "higher", 1, "Classes among the recognised images."),
        *(
            Metric(f"log_prob_{space}", f"log p, {space}", "higher", 1, f"Mean log-likelihood in nats, {words}.")
            for space, words in SPACES.items()
        ),
        Metric("accuracy", "accuracy", "higher", 4, "Share of the test images classified rightly."),
    ]  # fmt: skip


def image_scores(images: np.ndarray, extractor: Extractor, judge: Extractor) -> dict[str, float]:
    """Scores of a set of images, uint8 [num, H, W, C], whatever made them, against the test images."""
    sure = judge.probabilities(images)
    recognised = sure.max(-1) >= SURE
    return {
        "fd": frechet_distance(extractor.test_features, extractor.features(images)),
        "recognised": float(recognised.mean()),
        "classes": float(len(set(sure.argmax(-1)[recognised]))),
    }


def model_scores(model: Model, keys: Array, state: State, dataset: Dataset) -> dict[str, list[float]]:
    """Scores that need no samples, a value a seed: test log-likelihood and accuracy where it has them.

    keys [seeds]; every leaf of `state` has a leading seed axis.
    """
    scores = {}
    entries = {name: dataset.test[name] for name in model.needs}
    if model.log_prob:
        log_prob = jax.jit(jax.vmap(model.log_prob, in_axes=(0, 0, None)))
        rows = [
            jax.device_get(log_prob(jax.vmap(jax.random.fold_in, (0, None))(keys, i), state, batch))
            for i, batch in enumerate(pipeline.batches(entries, BATCH))
        ]
        values = np.concatenate(rows, axis=1)[:, : len(dataset.test["image"])].astype(np.float64)
        scores[f"log_prob_{model.likelihood.space}"] = values.mean(axis=1).tolist()
    if model.classify:
        classify = jax.jit(jax.vmap(model.classify, in_axes=(0, None)))
        rows = [jax.device_get(classify(state, batch)) for batch in pipeline.batches(entries, BATCH)]
        labels = np.concatenate(rows, axis=1).argmax(-1)[:, : len(dataset.test["label"])]
        scores["accuracy"] = (labels == dataset.test["label"]).mean(axis=1).tolist()
    return scores


def notes(model: Model) -> dict[str, str]:
    """By column: what a reader of the log-likelihood must know, and why a model has no number."""
    words = {} if model.sample else dict.fromkeys(("fd", "recognised", "classes"), "it makes no images")
    for space in SPACES:
        if model.likelihood is None:
            words[f"log_prob_{space}"] = "it has no likelihood"
        elif model.likelihood.space == space:
            words[f"log_prob_{space}"] = f"{model.likelihood.kind}; {model.likelihood.note}"
        else:
            words[f"log_prob_{space}"] = f"its likelihood is of {model.likelihood.space} images"
    return words if model.classify else words | {"accuracy": "it does not classify"}


def columns(rows: list[dict[str, Any]], dataset: Dataset) -> list[Metric]:
    """The metrics that at least one row has a value of."""
    return [metric for metric in metrics(dataset) if any(metric.key in row["values"] for row in rows)]
