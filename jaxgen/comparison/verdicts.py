"""Verdicts of comparisons over seeds, declared beforehand, and their wording.

Diverged seeds. A seed that diverged (or whose score is not finite) has no score, but is kept and counted. Tests
treat it as worse than every score, and as equal to other diverged seeds: leaving it out would let a
model gain by failing. Since a mean cannot include such a value, a comparison with a diverged seed
on either side is tested on ranks, with mean ranks for ties: unpaired, the difference of the mean
ranks (the exact Wilcoxon-Mann-Whitney test with ties); paired, the signed ranks of the absolute
differences (Wilcoxon's test with Pratt's zeros), where a pair with one diverged seed differs by more than any
other pair, and a pair of two by 0. Relabeling seeds changes neither which seeds diverged nor the ranks,
so choosing the test by the data keeps it exact. Means, differences and their intervals only use the
seeds that have a score, and state their number.

Means. A permutation test is of equal distributions: with unequal spreads it finds equal means different too often. So
"better" is said of means only if Welch's test (paired, Student's) is significant as well, and otherwise that the
distributions differ.

One training. If all seeds of an arm trained the same parameters, as those of Naive Bayes do, they are no replicas: only
their samples differ, and relabeling them with the other arm's would count one training many times. The mean of such an
arm stands against each seed of the other, as if they were pairs, and Welch's test takes the spread of both. That is
exact if the other arm's scores are symmetric around their mean; of skewed scores it claims too much. Two such arms, or
the two columns of one, are not tested.

Many tasks. Tests use ranks within each task, since scales may differ, and all tasks have equal weight.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy

from jaxgen.statistics import intervals, permutations

LEVEL = 0.05
"""Upper bound of the probability of any false "better" or "worse" among all declared comparisons; with arms of one
training, for symmetric scores."""

BETTER, WORSE, DIFFERENT = "better", "worse", "different distributions"
UNTOLD, TOO_FEW, UNTESTED = "no difference can be told", "not enough seeds to tell", "not tested"


class Comparison(NamedTuple):
    """One question, declared before the scores are seen."""

    a: str  # an arm
    b: str
    metric: str  # the key of its scores; a score compared on each dataset apart has a key for each
    better: str  # "higher", "lower"
    paired: bool = False  # the arms have the same seeds, and a seed gives both the same data order


class Verdict(NamedTuple):
    """The answer to a comparison. Differences are above 0 if a is better; a missing number is None."""

    a: str
    b: str
    metric: str
    better: str
    paired: bool
    tasks: int
    seeds: tuple[int, int]  # of a and b, including diverged ones
    diverged: tuple[int, ...]  # of a and b, number of missing scores, over all tasks
    means: tuple[float | None, ...]  # of a and b, over existing scores; one task only
    difference: float | None  # of the means; if paired, over pairs with both scores
    low: float | None  # its 95% interval
    high: float | None
    hedges_g: float | None
    probability: float  # that a run of a is better than one of b; ties count half, diverged runs count
    probability_low: float | None  # its 95% interval; many tasks only
    probability_high: float | None
    one_training: tuple[str, ...]  # those of a and b whose seeds are no replicas; pairs are tested as they are
    ranks: bool  # whether the test uses ranks, not means
    exact: bool  # whether the test enumerated every relabeling
    p: float
    p_holm: float  # adjusted over the declared comparisons
    p_order: float  # of the means' order, the larger of p and that of Welch's test, adjusted; of ranks, p_holm
    comparisons: int
    seeds_needed: int  # per arm that has replicas, to be able to find a difference with so many comparisons
    verdict: str  # BETTER (a than b), WORSE, DIFFERENT, UNTOLD, TOO_FEW or UNTESTED


def verdicts(
    comparisons: Sequence[Comparison],
    scores: Mapping[str, Mapping[str, Any]],
    seeds: Mapping[str, Sequence[int]] | None = None,
    one_training: Mapping[str, Collection[str]] | None = None,
    *,
    seed: int = 0,
) -> list[Verdict]:
    """Verdicts of all comparisons of an experiment, corrected for multiple testing.

    A comparison is tested by `permutation_test`, or by `sign_flip_test` if paired or if the seeds of one arm trained
    the same parameters, and its p is adjusted by Holm's method over the comparisons. The verdict is "better" or "worse"
    if the adjusted p is at most LEVEL and, where means are compared, that of Welch's test is as well; otherwise it is
    "different distributions". If the smallest p that its seeds can reach, times the number of comparisons, is over
    LEVEL, the verdict is "not enough seeds to tell" whatever the scores, even if Holm's factor would be smaller after
    other rejections. Two arms of one training each are "not tested".

    Args:
      comparisons: all declared comparisons; leaving one out would weaken the correction.
      scores: {metric: {arm: [runs] or [runs, tasks]}}, nan or None for a seed that diverged.
      seeds: {arm: the training seeds of its runs, in their order}; needed for paired comparisons.
      one_training: {metric: the arms whose seeds all trained the same parameters, wherever the metric is taken}.
      seed: seed of random relabelings and of the bootstrap; 0 or more.

    Returns:
      The verdicts, in the comparisons' order. Their `_asdict()` can be written as JSON.

    Raises:
      ValueError: a comparison declared twice or of an arm with itself, a metric without a direction, arms
        without scores or with different tasks, pairs with different seeds, or too many comparisons.
    """
    _check(comparisons, scores, seeds or {})
    results = [
        _compared(
            c,
            scores[c.metric][c.a],
            scores[c.metric][c.b],
            (one_training or {}).get(c.metric, ()),
            len(comparisons),
            seed,
        )
        for c in comparisons
    ]
    adjusted = permutations.holm([result.p for result, _ in results])
    of_order = permutations.holm([result.p_order for result, _ in results])
    return [
        result._replace(p_holm=float(p_holm), p_order=float(p_order), verdict=_verdict(result, lead, p_holm, p_order))
        for (result, lead), p_holm, p_order in zip(results, adjusted, of_order, strict=True)
    ]


def foretold(comparisons: Sequence[Comparison], seeds: int, tasks: Sequence[int]) -> list[str]:
    """Lines that name the comparisons which cannot find a difference with this number of seeds, whatever the scores.

    An arm whose seeds turn out to train the same parameters may need more.

    Args:
      comparisons: all declared comparisons.
      seeds: number of seeds of each arm.
      tasks: number of datasets of each comparison.
    """
    lines = []
    for c, over in zip(comparisons, tasks, strict=True):
        if _too_few((seeds, seeds), len(comparisons), c.paired, over):
            needed = permutations.seeds_needed(len(comparisons), paired=c.paired, tasks=over, level=LEVEL)
            there = f"{_count(seeds, 'pair' if c.paired else 'seed')}{' of seeds' if c.paired else ' each'}"
            declared = _count(len(comparisons), "declared comparison")
            lines.append(f"{TOO_FEW} {c.a} and {c.b} apart by {c.metric}: {there}; {needed} would do for {declared}")
    return lines


def sentence(verdict: Verdict, title: str, digits: int = 2) -> str:
    """A verdict in plain words, with its numbers.

    Args:
      verdict: a result of `verdicts`.
      title: the metric's name in the sentence.
      digits: decimal places of the metric's numbers.
    """
    v = verdict if verdict.verdict != WORSE else _exchanged(verdict)
    missing = f"; {v.diverged[0]} of {v.a}'s and {v.diverged[1]} of {v.b}'s diverged" if any(v.diverged) else ""
    if v.verdict == TOO_FEW:
        of = next((arm for arm in (v.a, v.b) if v.one_training and arm not in v.one_training), "each")
        enough = f"{v.seeds_needed} seeds of {of} would be enough for {_count(v.comparisons, 'declared comparison')}"
        enough += f", as {_same_parameters(v)}" if v.one_training else ""
        lead = f"Not enough seeds to tell {v.a} and {v.b} apart by {title} ({_seeds(v)}{missing}; {enough})"
    elif v.verdict == UNTOLD:
        lead = f"No difference between {v.a} and {v.b} can be told by {title} ({_seeds(v)}{missing})"
    elif v.verdict == UNTESTED:
        return f"{v.a} and {v.b} are not tested by {title}, as {_same_parameters(v)}{missing}: {_effect(v, digits)}."
    elif v.verdict == DIFFERENT:
        lead = f"{v.a} and {v.b} differ in the distribution of {title} ({_seeds(v)})"
    elif v.tasks > 1 or v.ranks:
        where = f" over {v.tasks} tasks" if v.tasks > 1 else ""
        lead = f"{v.a} ranks better by {title} ({v.better} is better) than {v.b}{where} ({_seeds(v)}{missing})"
    else:
        lead = f"{v.a} has a {v.better} {title} than {v.b} ({_seeds(v)})"
    test = "paired sign-flip test" if v.paired else "sign-flip test" if v.one_training else "permutation test"
    how = f"{'exact' if v.exact else 'random'} {test}"
    of = f" of ranks{', diverged seeds last' if any(v.diverged) else ''}" if v.ranks else ""
    if v.one_training and v.verdict != TOO_FEW:
        of += f" against the mean, as {_same_parameters(v)}"
    holm = f", by Holm {v.p_holm:.2g}" if v.comparisons > 1 else ""
    return f"{lead}: {_effect(v, digits)}; {how}{of}, p = {v.p:.2g}{holm}.{_disagreement(v)}"


def _check(comparisons: Sequence[Comparison], scores: Mapping, seeds: Mapping) -> None:
    pairs = [(c.metric, frozenset((c.a, c.b))) for c in comparisons]
    for c, pair in zip(comparisons, pairs, strict=True):
        if c.a == c.b or pairs.count(pair) > 1:
            raise ValueError(f"{c.a} and {c.b} by {c.metric}: a comparison is of two arms, and declared once")
        if lacking := [arm for arm in (c.a, c.b) if arm not in scores.get(c.metric, {})]:
            raise ValueError(f"no scores of {c.metric} for {' and '.join(lacking)}")
        if c.paired:
            of_a, of_b = (list(seeds.get(arm, ())) for arm in (c.a, c.b))
            if not of_a or of_a != of_b or len(set(of_a)) < len(of_a):
                raise ValueError(f"{c.a} and {c.b} pair by the same seeds in one order, got {of_a} and {of_b}")
            if any(len(scores[c.metric][arm]) != len(of_a) for arm in (c.a, c.b)):
                raise ValueError(f"{c.a} and {c.b} by {c.metric}: scores are one a seed, in the order of {of_a}")


def _compared(
    c: Comparison, scores_a, scores_b, same: Collection[str], comparisons: int, seed: int
) -> tuple[Verdict, float]:
    """A comparison's verdict before correction, and the test's statistic, above 0 if a leads.

    `same` are the arms whose seeds trained the same parameters.
    """
    a, b = intervals.oriented_pair(scores_a, scores_b, c.better)
    tasks, finite = a.shape[1], (np.isfinite(a), np.isfinite(b))
    ranks = tasks > 1 or not (finite[0].all() and finite[1].all())
    one_training = tuple(arm for arm in (c.a, c.b) if arm in same)
    if c.paired and len(one_training) == 1:  # pairs are as independent as the other arm's seeds
        one_training = ()
    if len(one_training) == 2:
        test, lead = permutations.PValue(1.0, exact=False), 0.0
    elif c.paired or one_training:
        of_a = np.broadcast_to(_means(a), b.shape) if c.a in one_training else a
        of_b = np.broadcast_to(_means(b), a.shape) if c.b in one_training else b
        differences = _signed_ranks(of_a, of_b) if ranks else of_a - of_b
        test, lead = permutations.sign_flip_test(differences.ravel(), seed=seed), differences.mean()
    else:
        tested_a, tested_b = _ranks(a, b) if ranks else (a, b)
        test, lead = permutations.permutation_test(tested_a, tested_b, seed=seed), tested_a.mean() - tested_b.mean()
    nan = float("nan")
    means, difference, hedges_g = (None, None), (nan, nan, nan), nan
    p_order = test.p if ranks else max(test.p, intervals.welch_p(scores_a, scores_b, paired=c.paired))
    if tasks > 1:
        probability = intervals.probability_of_improvement(scores_a, scores_b, c.better, seed=seed)[:3]
    else:
        probability = (float(intervals.improvements(a, b).mean()), nan, nan)
        sign = 1 if c.better == "higher" else -1
        means = tuple(float(sign * x[has].mean()) if has.any() else None for x, has in zip((a, b), finite, strict=True))
        if None not in means:
            hedges_g = intervals.hedges_g(scores_a, scores_b, c.better)
        if None not in means and (not c.paired or (finite[0] & finite[1]).any()):
            difference = intervals.difference_interval(scores_a, scores_b, c.better, paired=c.paired)[:3]
    difference, low, high = map(_known, difference)
    probability, probability_low, probability_high = map(_known, probability)
    verdict = Verdict(
        *c,
        tasks=tasks,
        seeds=(len(a), len(b)),
        diverged=tuple(int((~has).sum()) for has in finite),
        means=means,
        difference=difference,
        low=low,
        high=high,
        hedges_g=_known(hedges_g),
        probability=probability,
        probability_low=probability_low,
        probability_high=probability_high,
        one_training=one_training,
        ranks=ranks,
        exact=test.exact,
        p=test.p,
        p_holm=test.p,
        p_order=p_order,
        comparisons=comparisons,
        seeds_needed=permutations.seeds_needed(
            comparisons, paired=c.paired or bool(one_training), tasks=tasks, level=LEVEL
        ),
        verdict=UNTOLD,
    )
    return verdict, float(lead)


def _too_few(seeds: tuple[int, int], comparisons: int, paired: bool, tasks: int) -> bool:
    """True if no scores of so many seeds could give a p under the level after Holm's correction."""
    return permutations.smallest_p(*seeds, paired=paired, tasks=tasks) * comparisons > LEVEL


def _verdict(result: Verdict, lead: float, p_holm: float, p_order: float) -> str:
    if len(result.one_training) == 2:
        return UNTESTED
    of_a, of_b = result.seeds
    if result.one_training:  # as many pairs as the other arm has seeds
        of_a = of_b = of_b if result.a in result.one_training else of_a
    if _too_few((of_a, of_b), result.comparisons, result.paired or bool(result.one_training), result.tasks):
        return TOO_FEW
    if p_holm > LEVEL:
        return UNTOLD
    if p_order > LEVEL and not result.ranks:
        return DIFFERENT
    return BETTER if lead > 0 else WORSE


def _ranks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of oriented scores among both arms' runs, in each task."""
    ranks = scipy.stats.rankdata(np.concatenate([a, b]), axis=0)
    return ranks[: len(a)], ranks[len(a) :]


def _signed_ranks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The ranks of the pairs' absolute differences in each task, with the differences' signs."""
    # two diverged seeds are equal; -inf - -inf would be nan
    differences = np.where(a == b, 0.0, a) - np.where(a == b, 0.0, b)
    return np.sign(differences) * scipy.stats.rankdata(np.abs(differences), axis=0)


def _means(scores: np.ndarray) -> np.ndarray:
    """Means [tasks] of the seeds that have a score, the worst possible where none has."""
    finite = np.isfinite(scores)
    sums, counts = np.where(finite, scores, 0).sum(axis=0), finite.sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number


# Words


def _exchanged(v: Verdict) -> Verdict:
    """The verdict with a and b exchanged."""

    def opposite(number: float | None, whole: float) -> float | None:
        return None if number is None else whole - number

    return v._replace(
        a=v.b,
        b=v.a,
        seeds=v.seeds[::-1],
        diverged=v.diverged[::-1],
        means=v.means[::-1],
        difference=opposite(v.difference, 0),
        low=opposite(v.high, 0),
        high=opposite(v.low, 0),
        hedges_g=opposite(v.hedges_g, 0),
        probability=opposite(v.probability, 1),
        probability_low=opposite(v.probability_high, 1),
        probability_high=opposite(v.probability_low, 1),
        verdict=BETTER,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _same_parameters(v: Verdict) -> str:
    return f"all seeds of {' and all of '.join(v.one_training)} trained the same parameters"


def _disagreement(v: Verdict) -> str:
    """A sentence about a disagreement of test and interval; "" if they agree."""
    corrected = f", corrected for {v.comparisons} comparisons," if v.comparisons > 1 else ""
    if v.verdict == DIFFERENT:
        test = "Student's test of the differences" if v.paired else "Welch's test"
        return f" No order of the means is claimed: {test}{corrected} tells none (p = {v.p_order:.2g})."
    if v.verdict == UNTOLD and v.tasks == 1 and v.low is not None and not v.low <= 0 <= v.high:
        return f" The interval of the means' difference excludes 0; the test{corrected} tells no difference."
    return ""


def _seeds(v: Verdict) -> str:
    if v.paired:
        return f"{_count(v.seeds[0], 'pair')} of seeds"
    return f"{_count(v.seeds[0], 'seed')} each" if v.seeds[0] == v.seeds[1] else f"{v.seeds[0]} and {v.seeds[1]} seeds"


def _effect(v: Verdict, digits: int) -> str:
    if v.ranks or v.difference is None:
        bounds = "" if v.probability_low is None else f" [{v.probability_low:.2f}, {v.probability_high:.2f}]"
        return f"a run of {v.a} is ahead of one of {v.b} with probability {v.probability:.2f}{bounds}"

    def shown(number: float) -> str:
        # adding 0 turns the -0.0 of a rounded negative number into 0.0
        return f"{round(number, digits) + 0.0:.{digits}f}"

    a, b = map(shown, v.means)
    bounds = "" if v.low is None else f" [{shown(v.low)}, {shown(v.high)}]"
    # a claim states the direction; otherwise the sign has to
    sign = "" if v.verdict == BETTER else f" (above 0 favors {v.a})"
    ahead = f"; a run of {v.a} is ahead of one of {v.b} with probability {v.probability:.2f}"
    return f"{a} against {b}, a difference of {shown(v.difference)}{bounds}{sign}{ahead * (v.verdict == DIFFERENT)}"
