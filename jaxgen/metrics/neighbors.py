"""Scores from nearest neighbors: precision and recall, density and coverage, copies of training images, 1-NN error."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy

from jaxgen.metrics import checks

BLOCK = 2**25
"""Distances held at once (128 MiB in float32, and three times that for intermediate results)."""

PAIRS = 2**20
"""Features of pairs held at once (8 MiB of differences)."""


class PrecisionRecall(NamedTuple):
    """Shares, 0 to 1."""

    precision: float  # of the fakes, those in the ball of some real sample
    recall: float  # of the real samples, those in the ball of some fake


class DensityCoverage(NamedTuple):
    """Density and coverage of the real samples' balls by the fakes."""

    density: float  # mean number of balls that a fake lies in, over k; may exceed 1
    coverage: float  # share of the real samples with a fake in their ball


class NeighborScores(NamedTuple):
    """`PrecisionRecall` and `DensityCoverage` together."""

    precision: float
    recall: float
    density: float
    coverage: float


class Nearest(NamedTuple):
    """The nearest reference of every query."""

    distances: np.ndarray  # float64 [queries], Euclidean
    indices: np.ndarray  # int64 [queries], into the references


class Memorization(NamedTuple):
    """Test of whether fakes lie closer to the training set than test images do."""

    probability: float  # that a fake lies closer than a test image: 0.5 if they are alike, 1 for copies
    p_value: float  # two-sided, of the probability being 0.5
    test_median: float  # of the distances to the nearest training image
    fake_median: float


def precision_recall(real, fake, k: int = 5) -> PrecisionRecall:
    """Precision and recall of `neighbor_scores`, whose arguments and errors are the same."""
    precision, recall, _, _ = neighbor_scores(real, fake, k)
    return PrecisionRecall(precision, recall)


def density_coverage(real, fake, k: int = 5) -> DensityCoverage:
    """Density and coverage of `neighbor_scores`, whose arguments and errors are the same, but one fake is enough."""
    _check_neighbors(k)
    real, fake = _features(real=(real, k + 1), fake=(fake, 1))
    no_balls = np.zeros(len(fake))  # recall is not used
    _, _, density, coverage = _scores(real, fake, k, _radii(real, k), no_balls)
    return DensityCoverage(density, coverage)


def neighbor_scores(real, fake, k: int = 5) -> NeighborScores:
    """Precision, recall, density and coverage from balls around the samples.

    The ball of a sample holds the points that are closer to it than the k-th nearest of the other
    samples of its own set. With the balls B of the N real and the M fake samples

        precision = share of fakes that lie in some B(real)
        recall    = share of real samples that lie in some B(fake)
        density   = sum over the fakes of the number of B(real) they lie in / (k M)
        coverage  = share of real samples whose B(real) holds a fake.

    Density and coverage of a perfect generator are known for any features: on average

        density 1,   coverage 1 - prod_{i=1..k} (N - i) / (N + M - i)   (0.969 at k = 5, N = M large).

    Its precision and recall are not: they lie well below 1 and fall with the dimension (N = 2,000
    normal samples: 0.99 in 2 dimensions, 0.59 in 256). Print those of real against real beside them.

    The ball excludes its border (< as in the authors' `prdc`; other libraries have <=). This matters
    if samples are equal: a sample with k more copies in its own set has an empty ball, so
    the same fakes may score 0 with < and 1 with <=. Remove duplicates first.

    Args:
      real: [samples, dimensions], any real dtype, more than k samples.
      fake: [samples, dimensions], more than k samples; their number may differ from that of `real`.
      k: which nearest neighbor gives the radius, 1 or more.

    Returns:
      The four scores.

    Raises:
      ValueError: k is under 1, or an argument is not [samples, dimensions], has fewer than k + 1
        samples or non-finite values, or the dimensions differ.

    Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative
    models" (https://arxiv.org/abs/1904.06991), equations 1 and 2; Naeem et al. 2020, "Reliable
    fidelity and diversity metrics for generative models" (https://arxiv.org/abs/2002.09797), section 3.
    """
    _check_neighbors(k)
    real, fake = _features(real=(real, k + 1), fake=(fake, k + 1))
    return _scores(real, fake, k, _radii(real, k), _radii(fake, k))


def nearest_distances(queries, references) -> Nearest:
    """Euclidean distance from every query to its nearest reference, and that reference's index.

    A query that is among the references is its own nearest, at a distance of exactly 0.

    Args:
      queries: [samples, dimensions], any real dtype.
      references: [samples, dimensions].

    Returns:
      The distances and indices; of references equally near (at a distance above 0), the first.

    Raises:
      ValueError: an argument is not [samples, dimensions], is empty or has non-finite values, or
        the dimensions differ.
    """
    queries, references = _features(query=(queries, 1), reference=(references, 1))
    squared, indices = _nearest(queries, references, 1)
    return Nearest(np.sqrt(squared[:, 0]), indices[:, 0])


def memorization(train, test, fake) -> Memorization:
    """Tests whether fakes lie closer to the training set than test images do: copies do, new images do not.

    With d(x) the distance of x to its nearest training image the score is

        P(d(fake) < d(test)) + P(d(fake) = d(test)) / 2

    over all pairs of a fake and a test image: the Mann-Whitney statistic over their number. It is
    0.5 for fakes as new as the test images, 1 for copies of training images, and below 0.5 if
    the fakes lie far from all real images: bad samples hide copies, so read it beside precision.
    One score for all images can also hide copies in one region behind bad samples in another.

    Args:
      train: [samples, dimensions], any real dtype: the generator's training examples.
      test: [samples, dimensions], of the same distribution but not trained on.
      fake: [samples, dimensions].

    Returns:
      The probability, its p value (Mann-Whitney, two-sided, assuming independent distances)
      and the median distances.

    Raises:
      ValueError: an argument is not [samples, dimensions], is empty or has non-finite values, or
        the dimensions differ.

    Source: Meehan, Chaudhuri & Dasgupta 2020, "A non-parametric test to detect data-copying in
    generative models" (https://arxiv.org/abs/2004.05675), section 3, its global form.
    """
    train, test, fake = _features(train=(train, 1), test=(test, 1), fake=(fake, 1))
    test_squared, fake_squared = (_nearest(queries, train, 1)[0][:, 0] for queries in (test, fake))
    ranks = scipy.stats.mannwhitneyu(test_squared, fake_squared)
    tied = np.ptp(np.concatenate([test_squared, fake_squared])) == 0  # SciPy's p is 1 or nan then, by its version
    return Memorization(
        float(ranks.statistic) / (len(test) * len(fake)),
        1.0 if tied else float(ranks.pvalue),
        float(np.median(np.sqrt(test_squared))),
        float(np.median(np.sqrt(fake_squared))),
    )


def nearest_neighbor_error(real, real_labels, fake, fake_labels) -> float:
    """Error on real samples of the classifier that gives each the label of its nearest fake.

    It rates a class-conditional generator's samples as training data: it is low only if each
    class's samples show that class, and vary. Compare it with the error of as many real training
    samples in place of the fakes; it falls with that number.

    Args:
      real: [samples, dimensions], any real dtype; test images that no generator was trained on.
      real_labels: integers [samples], 0 or more.
      fake: [samples, dimensions].
      fake_labels: integers [samples], the requested classes of the fakes.

    Returns:
      The share of real samples whose nearest fake has another label; of fakes equally near (at a
      distance above 0), the first counts.

    Raises:
      ValueError: features are not [samples, dimensions], are empty or have non-finite values, the
        dimensions differ, or labels are not integers [samples], 0 or more.

    Source: Radford et al. 2015 (https://arxiv.org/abs/1511.06434), table 3, on MNIST.
    """
    real, fake = _features(real=(real, 1), fake=(fake, 1))
    real_labels = checks.labels(real_labels, "real", len(real))
    fake_labels = checks.labels(fake_labels, "fake", len(fake))
    _, indices = _nearest(real, fake, 1)
    return float(np.mean(fake_labels[indices[:, 0]] != real_labels))


def _check_neighbors(k: int) -> None:
    """Raises ValueError if k is not a whole number of 1 or more."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number from 1 on, not {k!r}")


def _features(**sets) -> list[np.ndarray]:
    """Returns checked features, given by name with their minimum of samples: float32 if all are, else float64."""
    arrays = {name: np.asarray(values) for name, (values, _) in sets.items()}
    dtype = np.float32 if all(values.dtype == np.float32 for values in arrays.values()) else np.float64
    checked = [checks.features(arrays[name], name, least, dtype) for name, (_, least) in sets.items()]
    first, *others = sets
    for name, values in zip(others, checked[1:], strict=True):
        if values.shape[1] != checked[0].shape[1]:
            raise ValueError(f"{first} features have {checked[0].shape[1]} dimensions, {name} ones {values.shape[1]}")
    return checked


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of every sample to the k-th nearest of the others, float64 [samples]."""
    return _nearest(features, features, k, own=True)[0][:, -1]


def _scores(
    real: np.ndarray, fake: np.ndarray, k: int, real_radii: np.ndarray, fake_radii: np.ndarray
) -> NeighborScores:
    """Scores with these squared radii."""
    precise, balls = 0, 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for block in _blocks(fake, real):
        in_real = _closer(block, real_radii)
        precise += np.count_nonzero(in_real.any(axis=1))
        balls += np.count_nonzero(in_real)
        covered |= in_real.any(axis=0)
        recalled |= _closer(block, fake_radii[block.rows, None]).any(axis=0)
    recall, coverage = float(recalled.mean()), float(covered.mean())
    return NeighborScores(float(precise / len(fake)), recall, float(balls / (k * len(fake))), coverage)


# Distances. The matrix product in |a|^2 + |b|^2 - 2ab is fast but cancels if a and b are close, and its rounding
# depends on a pair's place in the matrix: copies would be neither at 0 nor equally far. Here it gives lower bounds,
# which rule out all but few pairs. Those are decided by the sum of (a - b)^2 in float64: the same bits in any place.


class _Block(NamedTuple):
    """All pairs of some queries with all references."""

    rows: slice  # of the queries
    queries: np.ndarray  # [rows, dimensions]
    references: np.ndarray  # [columns, dimensions]
    lower: np.ndarray  # [rows, columns], bounds on the squared distances, in the unit
    query_rounding: np.ndarray  # [rows]; the bounds are loose by twice the pair's sum of both at most
    reference_rounding: np.ndarray  # [columns]
    unit: np.float64  # a squared length


def _blocks(queries: np.ndarray, references: np.ndarray) -> Iterator[_Block]:
    """The pairs of every query with every reference, by blocks of queries."""
    center = references.mean(axis=0, dtype=np.float64)
    # scales the largest coordinate to 1, so that float32 products neither overflow nor vanish
    scale = max(np.maximum(x.max(axis=0) - center, center - x.min(axis=0)).max() for x in (queries, references)) or 1.0
    right, reference_rounding = _bounding(references, center, scale)
    num = max(1, BLOCK // len(references))
    for start in range(0, len(queries), num):
        rows = slice(start, start + num)
        left, query_rounding = _bounding(queries[rows], center, scale)
        left[:, :-2] *= -2
        left[:, -2:] = left[:, :-3:-1]  # each side's square meets the other's 1
        lower = left @ right.T
        yield _Block(rows, queries[rows], references, lower, query_rounding, reference_rounding, np.square(scale))


def _bounding(features: np.ndarray, center: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """[samples, dimensions + 2]: centered features a, |a|^2 less what rounding may add to a distance, and 1.

    The rounding, [samples], plus that of the other sample bounds all rounding errors from the
    features to a comparison: of centering, of a product of dimensions + 2 terms (at most that many
    half-units in the last place of |a|^2 + |b|^2 + 2 |a| |b|), of the limit compared with, and of
    the direct sum in float64.
    """
    num, dimensions = features.shape
    bounding = np.ones((num, dimensions + 2), features.dtype)
    centered = bounding[:, :dimensions]
    np.subtract(features, center, out=centered, casting="same_kind")
    centered /= scale
    squares = np.einsum("nd,nd->n", centered, centered, dtype=np.float64)
    of_type, of_double = np.finfo(features.dtype), np.finfo(np.float64)
    share = (dimensions + 16) * of_type.eps + 2 * dimensions * of_double.eps
    rounding = share * squares + dimensions * of_type.tiny
    bounding[:, dimensions] = squares - rounding
    return bounding, rounding.astype(features.dtype)


def _limits(block: _Block, squared: np.ndarray) -> np.ndarray:
    """Converts squared distances to limits for the lower bounds; nothing is closer than 0."""
    return np.where(squared > 0, squared / block.unit, -np.inf).astype(block.lower.dtype)


def _closer(block: _Block, squared: np.ndarray) -> np.ndarray:
    """Mask of pairs closer than these squared distances, [columns] or [rows, 1]: bool [rows, columns]."""
    limits = _limits(block, squared)
    closer = block.lower < limits
    loose = 2 * np.add.outer(block.query_rounding, block.reference_rounding)
    row, column = _pairs(closer & (block.lower >= limits - loose))
    closer[row, column] = _squared(block, row, column) < np.broadcast_to(squared, closer.shape)[row, column]
    return closer


def _nearest(queries: np.ndarray, references: np.ndarray, k: int, own: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest references of every query, the nearest first: squared distances [queries, k] and indices.

    With `own` the queries are the references, and none is its own neighbor.
    """
    found = []
    for block in _blocks(queries, references):
        rows = np.arange(len(block.lower))
        itself = (rows, block.rows.start + rows) if own else ([], [])
        near = block.lower <= _small(block.lower, k + own)
        near[itself] = False
        # any k of these give an upper limit of the k-th nearest distance; bounds beyond it are ruled out
        row, column = _pairs(near)
        some = np.searchsorted(row, rows)[:, None] + np.arange(k)
        limits = _squared(block, row[some].ravel(), column[some].ravel()).reshape(-1, k).max(axis=1, keepdims=True)
        near = block.lower < _limits(block, limits)
        near[itself] = False
        near[row[some], column[some]] = True
        found.append(_smallest(block, near, k))
    squared, indices = zip(*found, strict=True)
    return np.concatenate(squared), np.concatenate(indices)


def _small(lower: np.ndarray, k: int) -> np.ndarray:
    """Value [rows, 1] that k or a few more entries of each row do not exceed.

    It is the k-th smallest of the minima of 256 k groups of columns: far fewer to sort.
    """
    rows, columns = lower.shape
    size = max(1, columns // (256 * k))
    groups = columns // size
    minima = lower[:, : size * groups].reshape(rows, size, groups).min(axis=1)
    return np.partition(minima, k - 1, axis=1)[:, k - 1 : k]


def _smallest(block: _Block, near: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest squared distances of each row and their columns, [rows, k], among the pairs marked by `near`."""
    row, column = _pairs(near)
    squared = _squared(block, row, column)
    order = np.lexsort((squared, row))  # stable: of equal distances the first column
    first = np.searchsorted(row, np.arange(len(near)))
    chosen = order[first[:, None] + np.arange(k)]
    return squared[chosen], column[chosen]


def _pairs(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a matrix's true entries: twenty times as fast as np.nonzero."""
    return np.divmod(np.flatnonzero(marked), marked.shape[1])


def _squared(block: _Block, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Squared distances of these pairs, float64 [pairs]."""
    squared = np.empty(len(row))
    num = max(1, PAIRS // block.references.shape[1])
    for start in range(0, len(row), num):
        some = slice(start, start + num)
        difference = np.subtract(block.queries[row[some]], block.references[column[some]], dtype=np.float64)
        np.einsum("nd,nd->n", difference, difference, out=squared[some])
    return squared
