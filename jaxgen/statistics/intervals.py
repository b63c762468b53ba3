"""Statistics of scores over training seeds: means, their intervals, and differences between two arms.

Scores are [runs] on one task, or [runs, tasks]: a row per training seed, a column per dataset (or
another unit that is scored alike). Every metric has a direction, `better`: "higher" or "lower". A score
that is missing (nan) or not finite is that of a diverged seed; jaxgen/comparison/verdicts.py states how
it is treated. Nothing here touches NumPy's global random state.
"""

from typing import NamedTuple

import numpy as np
import scipy
from scipy.special import gammaln


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float  # nan if n is 1
    high: float  # nan if n is 1
    n: int  # number of values it is computed from


def t_interval(values, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean over training seeds: mean -+ t_{n-1} s / sqrt(n).

    A value is one training seed's score; several samplings of one trained model are not
    replicas of its training. With as few seeds as are usual here a percentile bootstrap is too
    narrow: a nominal 95% interval covers the mean 72% of the time at n = 3, 83% at n = 5 and 89% at
    n = 10 (normal values), since resampling n values understates their spread by
    sqrt((n - 1) / n) and lacks the heavier tail. The t interval covers 95% at every n, exactly so
    for normal values. It says how well each mean is known; it is not a test of a difference of two.

    Args:
      values: [n], one finite number per seed.
      confidence: between 0 and 1.

    Returns:
      The mean and the interval; with one value, bounds of nan: one seed says nothing of the spread.

    Raises:
      ValueError: no values, not one axis, a non-finite value, or a confidence outside (0, 1).

    Source: Student 1908, "The probable error of a mean".
    """
    values = _checked(values, confidence)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half_width = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half_width, mean + half_width, n)


def rate_interval(values, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's interval of the probability that a training seed has a property.

    It is exact for a binomial count: its coverage is at least the nominal one at every n above 1. With
    ten seeds of which none has the property it reaches from 0 to .31, where a t interval would be 0 to 0.

    Args:
      values: [n], 1 for a seed that has the property, 0 for one that does not.
      confidence: between 0 and 1.

    Returns:
      The share of ones and the interval; with one value, bounds of nan, as `t_interval`.

    Raises:
      ValueError: as `t_interval`, or a value that is neither 0 nor 1.

    Source: Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    values = _checked(values, confidence)
    if not np.isin(values, (0, 1)).all():
        raise ValueError("a rate needs values of 0 or 1")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    low, high = scipy.stats.binomtest(int(values.sum()), n).proportion_ci(confidence)
    return Interval(mean, float(low), float(high), n)


def mean_interval(
    values, *, rate: bool = False, bounds: tuple[float | None, float | None] = (None, None), confidence: float = 0.95
) -> Interval:
    """The interval of a score's mean over training seeds: `rate_interval` of a rate, else `t_interval`, within bounds.

    A mean of values within bounds lies within them, so an interval cut off there covers it as often.

    Args:
      values: [n], one finite number per seed.
      rate: True if a value is 1 or 0.
      bounds: the smallest and the largest possible value; None for no bound.
      confidence: between 0 and 1.

    Raises:
      ValueError: as `t_interval` and `rate_interval`.
    """
    if rate:
        return rate_interval(values, confidence)
    mean, low, high, n = t_interval(values, confidence)
    least, largest = bounds
    low = low if least is None or np.isnan(low) else max(low, min(least, mean))
    high = high if largest is None or np.isnan(high) else min(high, max(largest, mean))
    return Interval(mean, low, high, n)


def interquartile_mean(scores, better: str) -> float:
    """The mean of the middle half of all scores, runs and tasks together.

    A quarter of them, rounded down, is cut off at each end: unlike a mean, it is not moved by a task that
    all fail or by one lucky run, and it discards less than a median. Tasks must be on one scale.

    Args:
      scores: [runs, tasks] or [runs]. Diverged seeds count as worse than every score.
      better: "higher" or "lower".

    Returns:
      The mean; infinite, on the worse side, if diverged seeds reach into the middle half.

    Raises:
      ValueError: no scores, not one or two axes, or another `better`.

    Source: Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264), section 4.3.
    """
    return _sign(better) * float(scipy.stats.trim_mean(oriented(scores, better), 0.25, axis=None))


def stratified_bootstrap_interval(
    scores, better: str, confidence: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The interquartile mean and its percentile bootstrap interval, runs resampled within each task.

    The tasks are fixed, the runs are drawn: each task's runs are resampled independently of the other
    tasks'. The interval is too narrow for few scores in all; for one task use `t_interval`.

    Args:
      scores: [runs, tasks]. Diverged seeds count as worse than every score.
      better: "higher" or "lower".
      confidence: between 0 and 1.
      resamples: number of resamples of the runs of every task, with replacement.
      seed: seed of the resamples; 0 or more.

    Returns:
      The interquartile mean and its interval, whose n counts the scores; with one run, bounds of
      nan; a bound is infinite if diverged seeds reach into that many middle halves.

    Raises:
      ValueError: as `interquartile_mean`, or a confidence outside (0, 1).

    Source: Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264), section 4.1.
    """
    mean, scores = interquartile_mean(scores, better), _sign(better) * oriented(scores, better)
    _check_confidence(confidence)
    runs, tasks = scores.shape
    if runs == 1:
        return Interval(mean, float("nan"), float("nan"), scores.size)
    rng = np.random.Generator(np.random.Philox(seed))
    chosen = rng.integers(runs, size=(resamples, runs, tasks))
    resampled = np.take_along_axis(scores[None], chosen, axis=1).reshape(resamples, -1)
    return Interval(mean, *_percentiles(scipy.stats.trim_mean(resampled, 0.25, axis=1), confidence), scores.size)


def probability_of_improvement(
    a, b, better: str, confidence: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The probability that a run of `a` is better than one of `b`, averaged over the tasks.

    On a task it is the share of the pairs of runs in which a's is better, a tie counting half: the
    Mann-Whitney statistic over n m. It needs no common scale. Its interval is the percentile
    bootstrap's, with the runs of each arm and task resampled independently: too narrow for few scores in
    all, and without width if every run of one arm is better than all of the other's.

    Args:
      a: [runs, tasks] or [runs]. Diverged seeds count as worse than every score, and as ties of each other.
      b: the same tasks; the number of runs may differ.
      better: "higher" or "lower".
      confidence: between 0 and 1.
      resamples: number of resamples of the runs of every arm and task, with replacement.
      seed: seed of the resamples; 0 or more.

    Returns:
      The probability, from 0 to 1, and its interval, whose n counts the scores of both; with one run
      of either, bounds of nan.

    Raises:
      ValueError: no scores, not one or two axes, different tasks, another `better`, or a confidence
        outside (0, 1).

    Source: Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264), section 4.3.
    """
    a, b = oriented_pair(a, b, better)
    _check_confidence(confidence)
    wins = improvements(a, b)
    n, m, tasks = wins.shape
    mean, size = float(wins.mean()), a.size + b.size
    if min(n, m) == 1:
        return Interval(mean, float("nan"), float("nan"), size)
    rng = np.random.Generator(np.random.Philox(seed))
    # how often each run was drawn: [tasks, resamples, runs]
    drawn_a = rng.multinomial(n, np.full(n, 1 / n), (tasks, resamples))
    drawn_b = rng.multinomial(m, np.full(m, 1 / m), (tasks, resamples))
    resampled = (drawn_a @ np.moveaxis(wins, -1, 0) * drawn_b).sum((0, 2)) / wins.size
    return Interval(mean, *_percentiles(resampled, confidence), size)


def welch_p(a, b, *, paired: bool = False) -> float:
    """The two-sided p-value of equal means, by Welch's test; paired, by Student's test of the differences.

    It is at most 1 - confidence where `difference_interval` excludes 0. Without any spread it is 0, or 1 if the means
    are equal; with one score on a side it is 1.

    Args:
      a: [runs], finite.
      b: [runs], finite; the same seeds in the same order if paired.
    """
    a, b = (np.asarray(scores, np.float64).ravel() for scores in (a, b))
    parts = (a - b,) if paired else (a, b)
    difference, error, freedom = float(a.mean() - b.mean()), *_standard_error(*parts)
    if np.isnan(error):
        return 1.0
    if error == 0:
        return float(difference == 0)
    return 2 * float(scipy.stats.t.sf(abs(difference) / error, freedom))


def _standard_error(*parts: np.ndarray) -> tuple[float, float]:
    """The standard error of a sum or difference of means, each of one array, and its degrees of freedom by Welch."""
    if min(map(len, parts)) == 1:
        return float("nan"), float("nan")
    squares = [part.var(ddof=1) / len(part) for part in parts]
    whole = sum(squares)
    below = sum(square**2 / (len(part) - 1) for square, part in zip(squares, parts, strict=True))
    return float(np.sqrt(whole)), float(whole**2 / below) if below else float("nan")


def difference_interval(a, b, better: str, *, paired: bool = False, confidence: float = 0.95) -> Interval:
    """The difference of the means of `a` and `b` on one task, positive if `a` is better, with its interval.

    Unpaired, Welch's t interval, which allows the arms different variances; paired, `t_interval` of the
    differences. Both use finite scores only: leaving out diverged seeds flatters the arm that has them,
    so their number belongs beside it.

    Args:
      a: [runs].
      b: [runs]; the same seeds in the same order if paired.
      better: "higher" or "lower".
      paired: True if the seeds are paired; a pair with a diverged seed is left out.
      confidence: between 0 and 1.

    Returns:
      The difference in the metric's units, above 0 if a is better, and the interval, whose n counts
      the scores (paired: the pairs); bounds of nan if an arm has one score.

    Raises:
      ValueError: not one axis each, no pair or an arm without a finite score, different numbers of
        paired runs, another `better`, or a confidence outside (0, 1).

    Source: Welch 1947, "The generalization of Student's problem when several different population
    variances are involved".
    """
    a, b = _one_task(a, b, better)
    _check_confidence(confidence)
    if paired:
        if len(a) != len(b):
            raise ValueError(f"paired arms have the same seeds, got {len(a)} and {len(b)} runs")
        both = np.isfinite(a) & np.isfinite(b)
        if not both.any():
            raise ValueError("a difference needs a finite score of both arms in one pair")
        return t_interval(a[both] - b[both], confidence)
    a, b = _finite(a, b)
    difference, (error, freedom) = float(a.mean() - b.mean()), _standard_error(a, b)
    half_width = error and float(scipy.stats.t.ppf((1 + confidence) / 2, freedom) * error)  # 0 without any spread
    return Interval(difference, difference - half_width, difference + half_width, len(a) + len(b))


def hedges_g(a, b, better: str) -> float:
    """The difference of the means over the pooled standard deviation of the seeds, corrected for few of them.

        g = J(n + m - 2) (mean a - mean b) / s,  J(k) = Gamma(k / 2) / (sqrt(k / 2) Gamma((k - 1) / 2))

    J corrects the bias of dividing by an estimated s: 0.903 at five seeds each. Paired or
    not, the scale is the spread over seeds, so that values are comparable.

    Args:
      a: [runs]; diverged seeds are left out.
      b: [runs].
      better: "higher" or "lower".

    Returns:
      g, above 0 if a is better; nan with under 4 scores in all or if the scores do not vary.

    Raises:
      ValueError: not one axis each, an arm without a finite score, or another `better`.

    Source: Hedges 1981, "Distribution theory for Glass's estimator of effect size and related
    estimators", equation 6e.
    """
    a, b = _finite(*_one_task(a, b, better))
    freedom = len(a) + len(b) - 2
    if freedom < 2:
        return float("nan")
    spread = np.sqrt((np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()) / freedom)
    if spread == 0:
        return float("nan")
    correction = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    return float(correction * (a.mean() - b.mean()) / spread)


def oriented(scores, better: str) -> np.ndarray:
    """Returns scores as float64 [runs, tasks] with greater always better, and -inf for a diverged seed.

    Raises:
      ValueError: no scores, not one or two axes, or another `better` than "higher" or "lower".
    """
    sign, scores = _sign(better), np.asarray(scores, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise ValueError(f"scores are [runs] or [runs, tasks], got the shape {scores.shape}")
    scores = scores.reshape(len(scores), -1)
    return np.where(np.isfinite(scores), sign * scores, -np.inf)


def oriented_pair(a, b, better: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns two arms' scores by `oriented`; raises ValueError if their numbers of tasks differ."""
    a, b = oriented(a, better), oriented(b, better)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"two arms are compared on the same tasks, got {a.shape[1]} and {b.shape[1]}")
    return a, b


def improvements(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns [n, m, tasks] from oriented scores: 1 if a's run is better than b's, 0.5 if they tie, else 0."""
    a, b = a[:, None], b[None]
    return (a > b) + 0.5 * (a == b)


def _sign(better: str) -> int:
    if better not in ("higher", "lower"):
        raise ValueError(f'arms compare where "higher" or "lower" is better, not by a metric with {better!r}')
    return 1 if better == "higher" else -1


def _checked(values, confidence: float) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"an interval needs one value a seed, got the shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, got {values.tolist()}")
    _check_confidence(confidence)
    return values


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, got {confidence}")


def _one_task(a, b, better: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = oriented_pair(a, b, better)
    if a.shape[1] != 1:
        raise ValueError(f"a difference of means needs one task, got {a.shape[1]}")
    return a[:, 0], b[:, 0]


def _finite(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if not (len(a) and len(b)):
        raise ValueError("a difference needs a finite score of each arm")
    return a, b


def _percentiles(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
    """Bounds that contain that share of the resamples; they are resamples themselves, so infinite ones do no harm."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf").tolist()
    return low, high
