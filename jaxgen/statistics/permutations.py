"""Exact tests of two arms' training seeds by permutation, and Holm's correction of many of them."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

SPLITS = 100_000
"""Maximum number of relabelings in a test: all if there are no more, else the observed one and random ones."""

TIE = 1e-9  # share of the values' total deviation within which sums count as equal, up to rounding


class PValue(NamedTuple):
    """A two-sided p value."""

    p: float
    exact: bool  # True if every relabeling was counted


def permutation_test(a, b, *, seed: int = 0) -> PValue:
    """Unpaired test of whether `a` and `b` are seeds of one distribution.

    Under that hypothesis every split of the n + m values into n and m is equally likely. The statistic is
    the difference of the means (for many tasks: its average, each task split independently). p is twice the
    share of the splits at least as extreme, on its side, as the observed one, and at most 1. Each
    direction thus has half of the level for any n and m: a claim that a is better rests on 2.5%.

    With more than SPLITS splits, the observed one and SPLITS - 1 random ones stand for all of them, so
    p is never 0 and the test keeps its level. Sums that agree up to rounding, relative to the values'
    deviation, count as ties; `scipy.stats.permutation_test` judges rounding relative to the observed difference,
    and can miss ties of values that are large compared with it.

    Args:
      a: [n] or [n, tasks], finite.
      b: [m] or [m, tasks]; many tasks must be on one scale, such as ranks.
      seed: seed of the random splits; 0 or more.

    Returns:
      p, and whether it is exact.

    Raises:
      ValueError: no values, not one or two axes, non-finite ones, or different numbers of tasks.

    Source: Fisher 1935, "The design of experiments"; Phipson & Smyth 2010, "Permutation p-values
    should never be zero".
    """
    a, b = _values(a), _values(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"two arms are compared on the same tasks, got {a.shape[1]} and {b.shape[1]}")
    n, m = len(a), len(b)
    pooled = np.concatenate([a, b])
    # with every task's sum 0, the difference of means is a's sum times (1 / n + 1 / m)
    pooled = pooled - pooled.mean(axis=0)
    seen = pooled[:n].sum()
    exact = math.comb(n + m, n) ** a.shape[1] <= SPLITS
    if exact:
        sums = _every_sum((_splits(n, m) @ pooled).T)
    else:
        rng = np.random.Generator(np.random.Philox(seed))
        sums = np.full(SPLITS, seen)
        sums[1:] = sum(rng.permuted(np.tile(task, (SPLITS - 1, 1)), axis=1)[:, :n].sum(axis=1) for task in pooled.T)
    return PValue(_two_sided(sums, seen, TIE * np.abs(pooled).sum()), exact)


def sign_flip_test(differences, *, seed: int = 0) -> PValue:
    """Paired test of whether differences of pairs of seeds are as likely with either sign.

    If the two arms are the same, every choice of the n signs is equally likely. The statistic is the mean
    difference; p, ties and the handling of more than SPLITS choices are as in
    `permutation_test`.

    Args:
      differences: [n], finite; for many tasks, those of all tasks concatenated.
      seed: seed of the random signs; 0 or more.

    Returns:
      p, and whether it is exact.

    Raises:
      ValueError: no differences, not one axis, or non-finite ones.

    Source: Fisher 1935, "The design of experiments", section 21.
    """
    if np.ndim(differences) != 1:
        raise ValueError(f"differences are one a pair, got the shape {np.shape(differences)}")
    differences = _values(differences)[:, 0]
    n, seen = len(differences), differences.sum()
    exact = 2**n <= SPLITS
    if exact:
        sums = _every_sum(np.stack([differences, -differences], axis=1))
    else:
        rng = np.random.Generator(np.random.Philox(seed))
        sums = np.full(SPLITS, seen)
        sums[1:] = rng.choice([-1.0, 1.0], (SPLITS - 1, n)) @ differences
    return PValue(_two_sided(sums, seen, TIE * np.abs(differences).sum()), exact)


def smallest_p(n: int, m: int, *, paired: bool = False, tasks: int = 1) -> float:
    """The smallest p that a test of n against m seeds can reach.

    Unpaired, 2 / C(n + m, n): the split that has the n greatest values on one side is one of
    C(n + m, n), and counts twice, for n = m and n != m alike. Paired, 2 / 2^n, when all differences have one
    sign. With tasks, their numbers of splits multiply. A random test resolves 2 / SPLITS. With tied values
    (of several diverged seeds) p cannot get that small.

    Raises:
      ValueError: fewer than one seed or task, or n differs from m in a paired test.
    """
    if min(n, m, tasks) < 1 or (paired and n != m):
        raise ValueError(f"no {'paired ' if paired else ''}test of {n} against {m} seeds on {tasks} tasks")
    splits = 2**n if paired else math.comb(n + m, n)
    return min(1.0, 2 / min(splits**tasks, SPLITS))


def seeds_needed(comparisons: int, *, paired: bool = False, tasks: int = 1, level: float = 0.05) -> int:
    """Minimum seeds per arm with which one of so many comparisons can reach the level after Holm's correction.

    Raises:
      ValueError: too many comparisons for any number of seeds, since a random test resolves 2 / SPLITS.
    """
    if 2 / SPLITS * comparisons > level:
        raise ValueError(f"{comparisons:,} comparisons are more than a test of {SPLITS:,} splits can correct for")
    return next(n for n in itertools.count(1) if smallest_p(n, n, paired=paired, tasks=tasks) * comparisons <= level)


def holm(p_values) -> np.ndarray:
    """Adjusts p values for their family: claims at a level then have at most that chance of any false one.

    The k-th smallest of n (from 0) is multiplied by n - k, is no smaller than those before it, and at most 1.

    Args:
      p_values: [n], from 0 to 1, one per declared comparison.

    Returns:
      float64 [n], in the same order.

    Raises:
      ValueError: not one axis, or a value outside [0, 1].

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p lie from 0 to 1, one a comparison, got {p_values.tolist()}")
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1)


@functools.lru_cache(maxsize=8)
def _splits(n: int, m: int) -> np.ndarray:
    """Matrix [C(n + m, n), n + m] with one row per split: 1 for the n, 0 for the m."""
    chosen = np.array(list(itertools.combinations(range(n + m), n)))
    splits = np.zeros((len(chosen), n + m))
    np.put_along_axis(splits, chosen, 1, axis=1)
    splits.setflags(write=False)  # shared by all calls
    return splits


def _every_sum(choices: np.ndarray) -> np.ndarray:
    """Sums of one entry from each row of `choices`, for every way to choose them."""
    return functools.reduce(lambda sums, row: np.add.outer(sums, row).ravel(), choices)


def _two_sided(sums: np.ndarray, seen: float, tie: float) -> float:
    greater, less = (sums >= seen - tie).mean(), (sums <= seen + tie).mean()
    return min(1.0, float(2 * min(greater, less)))


def _values(values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"a test needs values [runs] or [runs, tasks], got the shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a test needs finite values; give ranks where a seed diverged")
    return values.reshape(len(values), -1)
