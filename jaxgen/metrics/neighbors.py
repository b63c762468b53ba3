"""Scores from nearest neighbors: precision and recall, density and coverage, copies of training images, 1-NN error."""

from typing import NamedTuple

import numpy as np
import scipy

from jaxgen.metrics import checks
from jaxgen.metrics.distances import blocks, closer, nearest, radii


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


class ClippedScores(NamedTuple):
    """Shares, 0 to 1: read as the share of good samples."""

    clipped_density: float
    clipped_coverage: float


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
    _, _, density, coverage = _scores(real, fake, k, radii(real, k), no_balls)
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
    return _scores(real, fake, k, radii(real, k), radii(fake, k))


def clipped_scores(real, fake, k: int = 5) -> ClippedScores:
    """Clipped density and clipped coverage: calibrated so that a share s of good fakes, the others far off, scores s.

    With N real and M fake samples, r_i the distance of the real x_i to the k-th nearest of the others, and R_i the
    smaller of r_i and the median of all r,

        D(y)     = min(k, number of i with |y - x_i| <= R_i) / k, where a real y does not count in its own ball
        density  = min(1, mean of D over the fakes / mean of D over the real samples)
        C        = mean over i of min(k, number of fakes y with |y - x_i| < r_i) / k
        coverage = share of the m in 0, ..., M with f(m) < C.

    f(m) is the expectation of C for m fakes of the real samples' distribution, whatever that is: by distance from x_i,
    the m fakes and N - 1 other real samples come in any order equally likely. With binomial coefficients (a over b)

        f(m) = 1 - sum_{j<k} (1 - j / k) P(j),   P(j) = (k-1+j over j) (N-1-k+m-j over m-j) / (N-1+m over m),

    where P(j) is the probability that j fakes are closer than the k-th real sample. Density has no such formula and is
    calibrated by the real samples themselves.

    The balls of outliers are cut to the median, no fake counts more than once, and no ball more than once: outliers do
    not raise density, nor many fakes in one place coverage. Far fakes score 0. A perfect generator scores a little less
    than 1, since what chance puts above 1 is cut off: 0.98 to 0.99 on average of either at N = M = 1,000 and k = 5.

    The border belongs to the balls of density, since the k-th neighbor lies on it, and not to those of coverage. This
    matters if samples are equal. Where most real samples have k copies, only fakes equal to one have a density, and
    the coverage of those real samples is 0: remove duplicates first.

    The authors' code differs in two cases. If real samples are equally far, it counts k of them in a ball and here all
    up to the border count. It takes f(m) as 0 for m < k, so a coverage from 0 to k / (M + 1) is k / (M + 1) there.

    Args:
      real: [samples, dimensions], any real dtype, more than k samples.
      fake: [samples, dimensions], 1 sample or more.
      k: which nearest neighbor gives the radius, 1 or more.

    Returns:
      Both scores.

    Raises:
      ValueError: as `density_coverage`.

    Source: Salvy, Talbot & Thirion 2025, "Enhanced generative model evaluation with clipped density and coverage"
    (https://arxiv.org/abs/2507.01761).
    """
    _check_neighbors(k)
    real, fake = _features(real=(real, k + 1), fake=(fake, 1))
    squared = radii(real, k)
    closed = np.nextafter(np.minimum(squared, _squared_median(squared)), np.inf)  # < the next number is <= this one
    dense = own = 0
    covered = np.zeros(len(real), np.int64)
    for block in blocks(fake, real):
        dense += np.minimum(closer(block, closed).sum(axis=1), k).sum()
        covered += closer(block, squared).sum(axis=0)
    for block in blocks(real, real):
        own += np.minimum(closer(block, closed).sum(axis=1) - 1, k).sum()  # less the ball of its own
    density = min(1.0, float(dense / len(fake) / (own / len(real))))
    share = np.minimum(covered, k).sum() / (k * len(real))
    expected = _expected_coverage(len(real), len(fake), k)
    # f(m) equal to the share must not be below it by rounding
    return ClippedScores(density, float(np.mean(expected < share - 1e-13)))


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
    squared, indices = nearest(queries, references, 1)
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
    test_squared, fake_squared = (nearest(queries, train, 1)[0][:, 0] for queries in (test, fake))
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
    _, indices = nearest(real, fake, 1)
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


def _squared_median(squared: np.ndarray) -> float:
    """Square of the median of distances, given their squares; of an odd number exactly one of these."""
    low, high = np.sort(squared)[[(len(squared) - 1) // 2, len(squared) // 2]]
    return low if low == high else np.square((np.sqrt(low) + np.sqrt(high)) / 2)


def _expected_coverage(num_real: int, num_fake: int, k: int) -> np.ndarray:
    """f(m) of `clipped_scores` for m = 0, ..., num_fake: float64 [num_fake + 1], ascending."""
    m = np.arange(num_fake + 1)
    probability = np.prod([(num_real - i) / (num_real + m - i) for i in range(1, k + 1)], axis=0)  # of j = 0
    missing = np.zeros(num_fake + 1)
    for j in range(k):
        missing += (1 - j / k) * probability
        left = np.maximum(m - j, 0)
        probability = probability * (k + j) / (j + 1) * left / np.maximum(num_real - 1 - k + left, 1)
    return 1 - missing


def _scores(
    real: np.ndarray, fake: np.ndarray, k: int, real_radii: np.ndarray, fake_radii: np.ndarray
) -> NeighborScores:
    """Scores with these squared radii."""
    precise, balls = 0, 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for block in blocks(fake, real):
        in_real = closer(block, real_radii)
        precise += np.count_nonzero(in_real.any(axis=1))
        balls += np.count_nonzero(in_real)
        covered |= in_real.any(axis=0)
        recalled |= closer(block, fake_radii[block.rows, None]).any(axis=0)
    recall, coverage = float(recalled.mean()), float(covered.mean())
    return NeighborScores(float(precise / len(fake)), recall, float(balls / (k * len(fake))), coverage)
