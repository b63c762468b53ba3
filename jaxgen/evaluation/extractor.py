"""A trained classifier as feature extractor and as judge of what an image shows."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.data import pipeline
from jaxgen.model import Model, State

BATCH = 256


class Extractor(NamedTuple):
    """A classifier with fixed weights. Images are uint8 [num, H, W, C]."""

    name: str
    digest: str  # sha256 of its parameters
    accuracy: float  # on the dataset's test images
    note: str  # how it was trained
    features: Callable[[np.ndarray], np.ndarray]  # images -> float32 [num, dimensions]
    probabilities: Callable[[np.ndarray], np.ndarray]  # images -> float32 [num, classes], rows sum to 1
    test_features: np.ndarray  # float32 [num, dimensions], of the test images: what distances are taken to

    def described(self) -> dict:
        """As reports and results hold it."""
        return {"name": self.name, "accuracy": self.accuracy, "digest": self.digest, "note": self.note}


def extractor(name: str, model: Model, state: State, digest: str, note: str, test: dict[str, np.ndarray]) -> Extractor:
    """An extractor from a model that can `encode` and `classify`; `state` of one seed, without a seed axis.

    `test` holds the images and labels that its accuracy is measured on.
    """
    embed = jax.jit(lambda batch: model.encode(jax.random.key(0), state, batch))
    classify = jax.jit(lambda batch: jax.nn.softmax(model.classify(state, batch)))

    def over(function):
        return lambda images: batched(function, {"image": images})

    right = over(classify)(test["image"]).argmax(-1) == test["label"]
    features = over(embed)
    return Extractor(name, digest, float(right.mean()), note, features, over(classify), features(test["image"]))


def batched(function: Callable, entries: dict[str, np.ndarray]) -> np.ndarray:
    """`function` of every example, over padded batches of one size; its rows [num, ...] on the host."""
    num = len(next(iter(entries.values())))
    rows = [jax.device_get(function(batch)) for batch in pipeline.batches(entries, BATCH)]
    return np.concatenate(rows)[:num]
