"""Scores of a set of examples of any origin against real ones: one function per family of metrics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data import Dataset
from jaxgen.evaluation.extractor import Extractor
from jaxgen.metrics import captions
from jaxgen.metrics.agreement import class_recall, label_agreement
from jaxgen.metrics.diversity import SIDE, feature_diversity, within_class_diversity
from jaxgen.metrics.frechet import frechet_distance_infinity
from jaxgen.metrics.inception_score import inception_score
from jaxgen.metrics.mesh_errors import box_diagonal, flipped_share, rigid_distances
from jaxgen.metrics.modes import class_modes, point_modes
from jaxgen.metrics.parzen import choose_deviation, parzen_log_likelihood
from jaxgen.metrics.two_sample import two_sample_test
from jaxgen.model import FEW

SURE = 0.9
"""Minimum of a judge's largest class probability for an image to count as recognized."""

K = 5
"""Number of neighbors in precision, recall, density, coverage and class recall."""

CANDIDATES, RETRIEVED = 100, 2000
"""Captions that an image's own is found among, and maximum number of images, in R-precision."""

ROWS = 1024
"""Examples held as floats at once."""

SPLITS = 10
"""Number of splits in the inception score."""

PARZEN_DEVIATIONS = np.logspace(-2.5, 0.5, 31)
"""Candidate widths of Parzen windows, in pixels of [0, 1] or the points' unit; chosen on the validation split."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Images uint8 [num, H, W, C] or points float32 [num, 2], with cached features and probabilities."""

    entry: Any  # the values, or an object that returns them for [:]
    labels: np.ndarray | None  # int32 [num]
    extractor: Extractor | None = None
    judge: Extractor | None = None
    captions: Sequence[str] | None = None  # [num]

    @cached_property
    def values(self) -> np.ndarray:
        """The examples, decoded on first use."""
        return self.entry[:]

    @cached_property
    def features(self) -> np.ndarray:
        """Features by the extractor: float [num, dimensions]."""
        return self.extractor.features(self.values)

    @cached_property
    def flat(self) -> np.ndarray:
        """Pixels in [0, 1], or the points: float32 [num, pixels]."""
        flat = self.values.reshape(len(self.values), -1).astype(np.float32)
        return flat / np.float32(255) if self.values.dtype == np.uint8 else flat

    @cached_property
    def judged(self) -> np.ndarray:
        """Class probabilities by the judge: float32 [num, classes]; what is left of their sum is that of no class."""
        return np.exp(self.judge.log_probabilities(self.values))


class Sides(NamedTuple):
    """Real examples to score others against, and what scoring needs besides."""

    dataset: Dataset
    train: Examples
    validation: Examples
    test: Examples  # the reference of every distance
    learned: Callable[[Examples, np.ndarray], np.ndarray]  # labels of images by a classifier trained on the examples
    seed: int
    similarities: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None = None
    """(images [n, H, W, C], captions [m]) -> cosines of their codes [n, m], by a text encoder of its own training."""


def spread(sides: Sides, fake: Examples) -> float:
    """Variance of the samples over that of the test examples: 0 if all are alike; nan if the test examples are."""
    of_fake, of_real = (_variance(each.values) for each in (fake, sides.test))
    return of_fake / of_real if of_real else math.nan


def _variance(values: np.ndarray) -> float:
    """Sum of the variances of all pixels or coordinates; exactly 0 for equal ones, and without a copy in floats."""
    first, total, squares = values[0].astype(np.float64), 0.0, 0.0
    for start in range(0, len(values), ROWS):
        apart = values[start : start + ROWS] - first  # its mean is near 0 beside its deviation, so nothing cancels
        total, squares = total + apart.sum(axis=0), squares + np.square(apart).sum(axis=0)
    return float(np.sum(squares / len(values) - (total / len(values)) ** 2))


def fd_infinity(sides: Sides, fake: Examples) -> dict[str, float]:
    """Fréchet distance for infinitely many samples, and its standard error."""
    line = frechet_distance_infinity(sides.test.features, fake.features, seed=sides.seed)
    return {"fd_infinity": line.value, "fd_infinity_error": line.error}


def inception(sides: Sides, fake: Examples) -> dict[str, float]:
    """Inception score of the samples in random order, since a model's may come sorted by class."""
    order = np.random.Generator(np.random.Philox(sides.seed)).permutation(len(fake.values))
    return {"inception_score": inception_score(fake.extractor.logits(fake.values)[order], SPLITS).mean}


def recognized(sides: Sides, fake: Examples) -> dict[str, float]:
    """Share that the judge is sure of, and the number of classes among them."""
    sure = fake.judged.max(-1) >= SURE
    return {"recognized": float(sure.mean()), "classes": float(len(set(fake.judged.argmax(-1)[sure])))}


def modes(sides: Sides, fake: Examples) -> dict[str, float]:
    """Modes found; for images, the classes that the judge names."""
    if fake.values.ndim == 2:
        centers, deviation = sides.dataset.spec.mixture
        found, known = point_modes(fake.values, centers, deviation), len(centers)
    else:
        known = fake.judged.shape[1]
        found = class_modes(fake.judged.argmax(-1), known)
    scores = {"modes": float(found.modes), "modes_kl": found.kl, "collapsed": float(found.modes < FEW * known)}
    return scores if math.isnan(found.high_quality) else {**scores, "high_quality": found.high_quality}


def two_sample(sides: Sides, fake: Examples) -> dict[str, float]:
    """Classifier two-sample test."""
    found = two_sample_test(sides.test.features, fake.features, seed=sides.seed)
    return {"two_sample": found.accuracy, "two_sample_p": found.p_value}


def classification_accuracy(sides: Sides, fake: Examples) -> dict[str, float]:
    """Accuracy on real images of a classifier trained on the samples and their labels."""
    predicted = sides.learned(fake, sides.test.values)
    return {"classification_accuracy": float((predicted == sides.test.labels).mean())}


def agreement(sides: Sides, fake: Examples) -> dict[str, float]:
    """Share on which the judge names the requested label, and recall within the classes."""
    return {
        "agreement": label_agreement(fake.judged.argmax(-1), fake.labels),
        "class_recall": class_recall(sides.test.features, sides.test.labels, fake.features, fake.labels, K),
    }


def parzen(sides: Sides, fake: Examples) -> dict[str, float]:
    """Parzen log-likelihood of the test examples."""
    deviation = choose_deviation(sides.validation.flat, fake.flat, PARZEN_DEVIATIONS)
    return {"parzen": float(parzen_log_likelihood(sides.test.flat, fake.flat, deviation).mean())}


def meshes(sides: Sides, fake: Examples) -> dict[str, float]:
    """Specificity and generalization, in percent of the box diagonal, and the share of flipped triangles.

    Source: Styner et al. 2003, "Evaluation of 3D correspondence methods for model building", section 2.3.
    """
    percent = 100 / box_diagonal(sides.dataset.train["aligned"].mean(0).reshape(-1, 3))
    return {
        "specificity": float(percent * rigid_distances(fake.values, sides.train.values).min(1).mean()),
        "generalization": float(percent * rigid_distances(sides.test.values, fake.values).min(1).mean()),
        "flipped": float(flipped_share(fake.values, sides.dataset.spec.faces).mean()),
    }


def diversity(sides: Sides, fake: Examples) -> dict[str, float]:
    """Diversity within a class, averaged over the classes."""
    labels = fake.labels if fake.labels is not None else fake.judged.argmax(-1)
    kept = np.isin(labels, np.flatnonzero(np.bincount(labels) >= 2))  # a pair takes two
    if not kept.any():
        raise ValueError("2 samples of a class are needed, and there are none")
    labels = labels[kept]
    scores = {"feature_diversity": float(feature_diversity(fake.features[kept], labels, seed=sides.seed).mean.mean())}
    if fake.values.ndim == 4 and min(fake.values.shape[1:3]) >= SIDE:
        scores["ms_ssim"] = float(within_class_diversity(fake.values[kept], labels, seed=sides.seed).mean.mean())
    return scores


def satisfied(sides: Sides, fake: Examples) -> dict[str, float]:
    """Shares of the samples that satisfy their captions: all, by number of objects, and by attribute."""
    return captions.satisfied(fake.values, fake.captions)


def r_precision(sides: Sides, fake: Examples) -> dict[str, float]:
    """Share of evenly spaced samples whose caption is more similar to them than others of the test split.

    Of `shapes`, no other is true of the sample, as `jaxgen.metrics.captions` sees it.

    Source: Xu et al. 2018 (https://arxiv.org/abs/1711.10485), section 4.
    """
    num = min(len(fake.values), RETRIEVED)
    rows = np.arange(num) * len(fake.values) // num
    images, own = fake.values[rows], [fake.captions[row] for row in rows]
    dataset, rng = sides.dataset, np.random.Generator(np.random.Philox(sides.seed))
    others = np.unique(dataset.vocabulary.decode(dataset.test["caption"][:]))
    found = sides.similarities(images, [*own, *others])
    checked = dataset.name in captions.DATASETS
    claims = [captions.parse(other) for other in others] if checked else []
    right = []
    for i, image in enumerate(images):
        seen = captions.see_tolerantly(image) if checked else None
        rivals = []
        for j in rng.permutation(len(others)):
            if others[j] != own[i] and not (checked and captions.is_true(claims[j], seen)):
                rivals.append(j)
            if len(rivals) == CANDIDATES - 1:
                break
        right.append(bool((found[i, i] > found[i, num + np.array(rivals)]).all()))
    return {"r_precision": float(np.mean(right))}
