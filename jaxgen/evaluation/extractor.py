"""Feature extractors: functions from images to the features and logits that metrics use."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.special

from jaxgen.data import pipeline
from jaxgen.data.images import Transform
from jaxgen.model import Model, State

BATCH = 256


class Extractor(NamedTuple):
    """A network with fixed weights, or any function of images. Images are uint8 [num, H, W, C]."""

    name: str
    digest: str  # sha256 of its weights, or of the file of a user's function
    features: Callable[[np.ndarray], np.ndarray]  # images -> float32 [num, dimensions]
    logits: Callable[[np.ndarray], np.ndarray] | None = None  # images -> float32 [num, classes]
    accuracy: float | None = None  # on its dataset's test images, if it is a classifier
    resizing: str = "none"  # how images are resized first
    note: str = ""  # how it was trained
    fid: bool = False  # True for the Inception-2015 network, whose Fréchet distance is called FID
    rejects: bool = False  # True if its logits are log-probabilities, whose remainder is that of no class
    whole: bool = True  # True if `digest` covers all that the features depend on; a user's file may import more

    def log_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Log-probabilities of the classes, float32 [num, classes]; they sum to less than 1 if images are rejected."""
        logits = self.logits(images)
        return logits if self.rejects else scipy.special.log_softmax(logits, axis=-1)

    def described(self) -> dict[str, Any]:
        """Description stored in reports and results."""
        return {name: getattr(self, name) for name in ("name", "digest", "accuracy", "resizing", "note")}


def of_classifier(model: Model, state: State, *, rejects: bool = False, **about: Any) -> Extractor:
    """Makes an extractor of a model that predicts labels and features; `state` is one seed's, without a seed axis.

    rejects: the last of the model's classes is that of rejected images.
    about: the other fields of `Extractor`.
    """
    embed, classify = (jax.jit(partial(model.predict[name], state)) for name in ("features", "label"))

    def logits(images: np.ndarray) -> np.ndarray:
        rows = batched(classify, {"image": images})
        return scipy.special.log_softmax(rows, axis=-1)[:, :-1] if rejects else rows

    return Extractor(features=lambda images: batched(embed, {"image": images}), logits=logits, rejects=rejects, **about)


def fitted(extractor: Extractor, shape: tuple[int, int, int]) -> Extractor:
    """Extends an extractor to images of any size: other sizes are first resized to `shape`, antialiased.

    An extractor of gray images then takes color images too. The features of the three channels are concatenated; the
    logits are of all combinations of the channels' classes, ordered as labels of stacked digits (the last channel's
    class varies fastest).
    """
    size, channels = shape[0], shape[2]

    def prepared(images: np.ndarray) -> np.ndarray:
        if channels == 3 and images.shape[-1] == 1:
            images = images.repeat(3, axis=-1)
        return images if images.shape[1:3] == shape[:2] else Transform(image_size=size).all(images)

    def over(function: Callable | None, joined: Callable) -> Callable | None:
        def of(images):
            images = prepared(images)
            if images.shape[-1] == channels:
                return function(images)
            return joined([function(images[..., i : i + 1]) for i in range(images.shape[-1])])

        return function and of

    return extractor._replace(
        features=over(extractor.features, lambda parts: np.concatenate(parts, axis=1)),
        logits=over(extractor.logits, _combined),
        resizing=f"to {shape[0]}x{shape[1]} where they have another size (Pillow, bicubic, antialiased)",
    )


def _combined(parts: list[np.ndarray]) -> np.ndarray:
    """Logits [num, classes ** parts] of every combination: log-probabilities of independent choices add up."""
    total = parts[0]
    for part in parts[1:]:
        total = (total[:, :, None] + part[:, None, :]).reshape(len(total), -1)
    return total


def batched(function: Callable, entries: dict[str, np.ndarray]) -> np.ndarray:
    """Applies `function` to all examples in padded batches of one size; returns its rows [num, ...] on the host."""
    num = len(next(iter(entries.values())))
    rows = [jax.device_get(function(batch)) for batch in pipeline.batches(entries, BATCH)]
    return np.concatenate(rows)[:num]


def digest(arrays: dict[str, np.ndarray]) -> str:
    """sha256 (hex) of named arrays: names, dtypes, shapes and bytes, in the names' order."""
    value = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        value.update(f"{name} {array.dtype} {array.shape}\n".encode())
        value.update(array.tobytes())
    return value.hexdigest()
