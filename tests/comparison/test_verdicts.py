import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats

from jaxgen.comparison.verdicts import Comparison, foretold, sentence, verdicts
from jaxgen.statistics.intervals import difference_interval, hedges_g, probability_of_improvement
from jaxgen.statistics.permutations import SPLITS


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def verdict(a, b, better="lower", paired=False, one_training=()):
    """Verdict on two arms alone."""
    seeds = {"vae": range(len(a)), "dcgan": range(len(b))}
    question = Comparison("vae", "dcgan", "fd", better, paired)
    [only] = verdicts([question], {"fd": {"vae": a, "dcgan": b}}, seeds, {"fd": one_training})
    return only


def no_more_than(size, simulations):
    """Number of rejections that a test of this size exceeds with probability 1/1,000."""
    return scipy.stats.binom.ppf(0.999, simulations, size)


# One comparison


def test_better_and_worse_by_hand():
    # five separated from five: 2 of 252 splits
    low, high = [1, 2, 3, 4, 5], [7, 8, 9, 10, 11]
    for a, b, better, expected in [
        (low, high, "lower", "better"),
        (low, high, "higher", "worse"),
        (high, low, "lower", "worse"),
        (high, low, "higher", "better"),
    ]:
        v = verdict(a, b, better)
        assert v.verdict == expected
        sign = 1 if expected == "better" else -1
        assert v.p == v.p_holm == pytest.approx(2 / 252, rel=1e-12)
        assert v.means == (np.mean(a), np.mean(b))
        # s^2 / n = 0.5 each, 8 degrees of freedom: 6 -+ 2.306004 * 1
        assert sign * v.difference == 6
        assert sorted((sign * v.low, sign * v.high)) == pytest.approx([6 - 2.306004, 6 + 2.306004], abs=1e-6)
        assert v.low < v.high
        # J(8) = Gamma(4) / (2 Gamma(3.5)) = 0.902704, s = sqrt 2.5
        assert sign * v.hedges_g == pytest.approx(0.902704 * 6 / math.sqrt(2.5), rel=1e-6)
        assert v.probability == (sign + 1) / 2
        assert v.exact
        assert not v.ranks


def test_paired_verdict_by_hand():
    a, b = np.array([1.0, 5, 9, 2, 7, 4]), np.array([2.0, 7, 12, 6, 12, 10])
    v = verdict(a, b, paired=True)
    assert (v.verdict, v.p, v.exact, v.difference) == ("better", 2 / 64, True, 3.5)
    assert (v.low, v.high) == difference_interval(a, b, "lower", paired=True)[1:3]
    # the same scores, unpaired, overlap: 28/6 and 49/6 with wide spreads
    assert verdict(a, b).verdict == "no difference can be told"


def test_verdicts_do_not_depend_on_the_order_of_arms():
    a, b = normal(0, 6), 1 + normal(1, 6)
    for paired in (False, True):
        v, w = verdict(a, b, paired=paired), verdict(b, a, paired=paired)
        assert v.p == w.p
        assert v.difference == pytest.approx(-w.difference)
        assert (v.low, v.high) == pytest.approx((-w.high, -w.low))
        assert v.probability == pytest.approx(1 - w.probability)


def test_five_arms_of_five_seeds_are_not_enough():
    # ten pairs: 10 * 2 / 252 = 0.079 whatever the scores; six seeds would suffice, or nine for pairs
    scores = {"fd": {str(arm): 100 * arm + np.arange(5.0) for arm in range(5)}}
    for paired, needed in ((False, 6), (True, 9)):
        pairs = [Comparison(*pair, "fd", "lower", paired) for pair in itertools.combinations("01234", 2)]
        results = verdicts(pairs, scores, {str(arm): range(5) for arm in range(5)})
        assert {v.verdict for v in results} == {"not enough seeds to tell"}
        assert {v.seeds_needed for v in results} == {needed}
        assert all(v.p_holm > 0.05 for v in results)
        for v in results:
            words = sentence(v, "FD")
            assert words.startswith(f"Not enough seeds to tell {v.a} and {v.b} apart by FD")
            assert f"{needed} seeds of each would be enough for 10 declared comparisons" in words
            assert "better" not in words

    # as many seeds as the message asked for, and one less
    for paired, needed in ((False, 6), (True, 9)):
        for n in (needed - 1, needed):
            scores = {"fd": {str(arm): 100 * arm + np.arange(n) ** 1.5 + arm * np.arange(n) for arm in range(5)}}
            pairs = [Comparison(*pair, "fd", "lower", paired) for pair in itertools.combinations("01234", 2)]
            results = verdicts(pairs, scores, {str(arm): range(n) for arm in range(5)})
            assert {v.verdict for v in results} == {"better" if n == needed else "not enough seeds to tell"}


def test_too_few_seeds_stay_too_few_where_others_are_rejected():
    # 4 against 4 seeds reach 2 / 70; two comparisons make it 0.057, though Holm's second step asks no more than 0.05
    scores = {"fd": {"a": range(9), "b": range(50, 59)}, "kid": {"a": range(4), "b": range(50, 54)}}
    many, few = verdicts([Comparison("a", "b", "fd", "lower"), Comparison("a", "b", "kid", "lower")], scores)
    assert many.verdict == "better"
    assert few.p_holm == pytest.approx(2 / 70)
    assert (few.verdict, few.seeds_needed) == ("not enough seeds to tell", 5)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("declared", [1, 2, 4])
@pytest.mark.parametrize("tasks", [1, 2])
def test_too_few_seeds_are_foretold(tasks, declared, paired):
    """Just where the verdict on scores that lie far apart is that there are too few."""
    arms = "abcde"
    pairs = [Comparison("a", arm, "fd", "lower", paired) for arm in arms[1 : 1 + declared]]
    for n in range(1, 10):
        scores = {"fd": {arm: np.arange(n * tasks).reshape(n, tasks) + 100 * i for i, arm in enumerate(arms)}}
        lines = foretold(pairs, n, [tasks] * declared)
        found = verdicts(pairs, scores, {arm: range(n) for arm in arms})
        assert len(lines) == sum(v.verdict == "not enough seeds to tell" for v in found)
        assert bool(lines) == (found[0].seeds_needed > n)


def test_what_is_foretold_in_words():
    """Unpaired, 2 / C(6, 3) = 0.1 of three seeds and 2 / C(8, 4) = 0.029 of four; 2 / 2^5 of five pairs."""
    one = [Comparison("vae", "gan", "fd", "lower")]
    line = "not enough seeds to tell vae and gan apart by fd: 3 seeds each; 4 would do for 1 declared comparison"
    assert (foretold(one, 3, [1]), foretold(one, 4, [1])) == ([line], [])
    two = [*one, Comparison("vae", "cgan", "fd", "lower", paired=True)]
    assert foretold(two, 4, [1, 1]) == [
        "not enough seeds to tell vae and gan apart by fd: 4 seeds each; 5 would do for 2 declared comparisons",
        "not enough seeds to tell vae and cgan apart by fd: 4 pairs of seeds; 7 would do for 2 declared comparisons",
    ]
    assert foretold(two, 7, [1, 1]) == foretold([], 1, []) == []
    assert foretold(two, 3, [2, 1])[0].startswith(
        "not enough seeds to tell vae and cgan apart"
    )  # 20^2 splits of a and b


def test_one_seed_says_nothing():
    v = verdict([1.0], [5.0])
    assert (v.verdict, v.p, v.difference, v.low, v.high, v.hedges_g) == (
        "not enough seeds to tell",
        1,
        4,
        None,
        None,
        None,
    )
    assert v.seeds_needed == 4


def test_holm_runs_over_all_declared():
    # five scores all below the others; in the arm "is" one swap (0 for 0.5) is further out: 2 and 4 of 252
    a = np.arange(5.0)
    scores = {"fd": {"a": a, "b": a + 10}, "kid": {"a": a, "b": a + 0.5}, "is": {"a": a, "b": a - 3.5}}
    comparisons = [
        Comparison("a", "b", "fd", "lower"),
        Comparison("a", "b", "kid", "lower"),
        Comparison("a", "b", "is", "higher"),
    ]
    fd, kid, inception = verdicts(comparisons, scores)
    assert fd.p_holm == pytest.approx(3 * 2 / 252)
    assert inception.p_holm == pytest.approx(2 * 4 / 252)
    assert kid.p_holm == kid.p
    assert [v.verdict for v in (fd, kid, inception)] == ["better", "no difference can be told", "better"]
    assert {v.comparisons for v in (fd, kid, inception)} == {3}


# Identical arms


@pytest.mark.parametrize(("paired", "n", "size"), [(False, 5, 12 / 252), (True, 6, 2 / 64)])
def test_arms_that_are_the_same_model(paired, n, size):
    results = [verdict(a, b, paired=paired) for a, b in normal(2, 5000, 2, n)]
    told = [v for v in results if v.verdict != "no difference can be told"]
    assert {"better", "worse"} <= {v.verdict for v in told} <= {"better", "worse", "different distributions"}
    assert len(told) <= no_more_than(size, 5000)
    # either direction has half of the size
    assert sum(v.verdict == "better" for v in told) <= no_more_than(size / 2, 5000)
    for v in results[:100]:
        assert sentence(v, "FD").startswith("No difference between vae and dcgan can be told by FD") == (v not in told)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (8, 3)])
def test_equal_means_with_unequal_spreads(n, m):
    """The permutation test finds the spreads different; the means' order is claimed no more often than it should be."""
    arms = [(18.7 * normal(20 + seed, m), 2 * normal(5020 + seed, n)) for seed in range(1000)]
    results = [verdict(a, b) for a, b in arms]
    assert sum(v.p_holm <= 0.05 for v in results) > 75  # 9 and 22% were seen
    assert sum(v.verdict in ("better", "worse") for v in results) <= no_more_than(0.05, 1000)
    for v in results:
        assert (v.verdict == "different distributions") == (v.p_holm <= 0.05 < v.p_order)


def test_families_of_arms_that_are_the_same_model():
    # any false claim among the three pairs of three arms
    pairs = [Comparison(*pair, "fd", "higher") for pair in itertools.combinations("abc", 2)]
    families = [verdicts(pairs, {"fd": dict(zip("abc", arms, strict=True))}) for arms in normal(3, 1000, 3, 5)]
    assert sum(any(v.verdict in ("better", "worse") for v in family) for family in families) <= no_more_than(0.05, 1000)


@pytest.mark.parametrize("paired", [False, True])
def test_size_with_diverged_seeds(paired):
    # both arms diverge equally often; most comparisons have a diverged seed, and use ranks
    scores = normal(4, 1500, 2, 6)
    scores[np.random.default_rng(5).uniform(size=scores.shape) < 0.2] = np.nan
    results = [verdict(a, b, paired=paired) for a, b in scores]
    assert sum(v.ranks for v in results) > 1000
    assert sum(v.verdict in ("better", "worse") for v in results) <= no_more_than(0.05, 1500)


def test_size_of_many_tasks():
    # tasks on different scales; all 20^3 joint splits are enumerated
    scores = normal(6, 300, 2, 3, 3) * [1, 100, 0.01] + [0, 50, 7]
    results = [verdict(a, b) for a, b in scores]
    assert all(v.exact and v.ranks for v in results)
    assert sum(v.verdict in ("better", "worse") for v in results) <= no_more_than(0.05, 300)


# Diverged seeds


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_diverged_seeds_are_the_worst(better):
    # vae's finite scores are better, but half its seeds diverged; ranks from the best: vae 1 2 3, dcgan 4 to 9,
    # and three that share 11: sums 39 and 39
    sign = 1 if better == "lower" else -1
    ahead, behind = sign * np.array([1, 2, 3, np.nan, np.inf, -np.inf]), sign * np.arange(4.0, 10)
    v = verdict(ahead, behind, better)
    assert v.ranks
    assert (v.seeds, v.diverged) == ((6, 6), (3, 0))
    assert (v.p, v.verdict) == (1, "no difference can be told")
    assert v.means == (sign * 2, sign * 6.5)
    assert v.difference == 4.5
    assert v.hedges_g == hedges_g(ahead, behind, better)
    assert v.probability == 0.5
    # without the diverged seeds, it would be a claim
    assert verdict(ahead[:3], behind, better).verdict == "better"


@pytest.mark.parametrize("paired", [False, True])
def test_a_claim_with_diverged_seeds_has_the_direction_of_the_ranks(paired):
    # vae's one finite score is the best of all, so its mean is; seven of its eight seeds diverged
    v = verdict([1] + [np.nan] * 7, [2, 3, 4, 5, 6, 7, 8, 9], "lower", paired)
    assert v.means == (1, 5.5)
    assert v.difference > 0
    assert v.verdict == "worse"


def test_the_test_of_diverged_seeds_is_mann_whitney_with_ties():
    a, b = np.array([3.0, np.nan, 8, np.nan, 9]), np.array([1.0, 2, np.nan, 4, 5])
    # tied worst values, as integers
    pooled = scipy.stats.rankdata([3, 99, 8, 99, 9, 1, 2, 99, 4, 5])
    sums = [sum(chosen) for chosen in itertools.combinations(pooled, 5)]
    seen = sum(pooled[:5])
    expected = 2 * min(np.mean([s >= seen for s in sums]), np.mean([s <= seen for s in sums]))
    assert verdict(a, b, "lower").p == pytest.approx(expected, rel=1e-12)


def test_pairs_of_diverged_seeds_by_hand():
    # dcgan's lead of 1, 2, 4; one pair where vae diverged, one where dcgan did, one where both did.
    # ranks of |difference|: both 1; 1, 2, 4 have 2, 3, 4; the two infinite ones share 5.5
    a, b = [2, 4, 8, None, 1, None], [1, 2, 4, 3, None, None]
    v = verdict(a, b, "lower", paired=True)
    signed = [-2, -3, -4, -5.5, 5.5]
    sums = [sum(s * r for s, r in zip(signs, signed, strict=True)) for signs in itertools.product([1, -1], repeat=5)]
    assert v.p == pytest.approx(2 * np.mean([s <= -9 for s in sums]), rel=1e-12)
    assert (v.ranks, v.diverged) == (True, (2, 2))
    # the pairs with both scores
    assert v.difference == pytest.approx(-7 / 3)
    assert v.means == (15 / 4, 10 / 4)


@pytest.mark.parametrize("paired", [False, True])
def test_an_arm_of_diverged_seeds_alone(paired):
    v = verdict([None] * 6, [1, 2, 3, 4, 5, 6], "higher", paired)
    assert v.verdict == "worse"
    assert v.means == (None, 3.5)
    assert (v.difference, v.low, v.high, v.hedges_g, v.probability) == (None, None, None, None, 0)
    words = sentence(v, "IS")
    assert words.startswith("dcgan ranks better by IS (higher is better) than vae")
    assert "0 of dcgan's and 6 of vae's diverged" in words
    assert "a run of dcgan is ahead of one of vae with probability 1.00" in words
    v = verdict([None] * 6, [None] * 6, "higher", paired)
    assert (v.verdict, v.p, v.probability) == ("no difference can be told", 1, 0.5)


# Many tasks


def test_many_tasks():
    # scales that differ by a thousand; the lead is in every task
    a = normal(7, 4, 5) * [1, 10, 100, 1000, 1]
    b = a[::-1] + np.array([3, 30, 300, 3000, 3])
    v = verdict(a, b, "lower")
    assert (v.verdict, v.tasks, v.ranks, v.exact) == ("better", 5, True, False)
    assert v.p < 0.001
    assert v.means == (None, None)
    assert v.difference is None
    assert (v.probability, v.probability_low, v.probability_high) == probability_of_improvement(a, b, "lower")[:3]
    words = sentence(v, "FD")
    assert words.startswith("vae ranks better by FD (lower is better) than dcgan over 5 tasks (4 seeds each)")
    assert f"probability {v.probability:.2f} [{v.probability_low:.2f}, {v.probability_high:.2f}]" in words


@pytest.mark.parametrize("paired", [False, True])
def test_one_task_does_not_outweigh_the_others(paired):
    # vae is slightly better in four tasks of five, and much worse in one
    a, b = np.zeros((4, 5)), np.ones((4, 5))
    a[:, 4], b[:, 4] = 1e6, 0
    v = verdict(a, b, "lower", paired)
    assert v.verdict == "better"
    assert v.probability == pytest.approx(0.8)
    assert sentence(verdict(b, a, "lower", paired), "FD").startswith("dcgan ranks better")


def test_many_tasks_paired_by_enumeration():
    a, b = normal(8, 3, 2), 0.5 + normal(9, 3, 2)
    differences = b - a
    ranks = np.sign(differences) * np.stack([scipy.stats.rankdata(np.abs(d)) for d in differences.T], axis=1)
    sums = [signs @ np.abs(ranks).ravel() for signs in map(np.array, itertools.product([1, -1], repeat=6))]
    v = verdict(a, b, "lower", paired=True)
    assert v.exact
    assert v.p == pytest.approx(min(1, np.mean(np.abs(sums) >= abs(ranks.sum()))), rel=1e-12)


# Sentences


def test_sentence_of_a_claim():
    low, high = [19, 19.2, 19.4, 19.6, 19.8], [45, 45.2, 45.4, 45.6, 45.8]
    comparisons = [Comparison("vae", "dcgan", "fd", "lower"), Comparison("dcgan", "vae", "kid", "higher")]
    fd, kid = verdicts(comparisons, {"fd": {"vae": low, "dcgan": high}, "kid": {"vae": low, "dcgan": high}})
    # s^2 = 0.1: 26 -+ 2.306004 * 0.2
    assert sentence(fd, "FD-digits", 1) == (
        "vae has a lower FD-digits than dcgan (5 seeds each): 19.4 against 45.4, a difference of 26.0 [25.5, 26.5]; "
        "exact permutation test, p = 0.0079, by Holm 0.016."
    )
    assert sentence(kid, "KID") == (
        "dcgan has a higher KID than vae (5 seeds each): 45.40 against 19.40, a difference of 26.00 [25.54, 26.46]; "
        "exact permutation test, p = 0.0079, by Holm 0.016."
    )


def test_a_claim_reads_alike_from_either_side():
    means, eye = np.arange(7.0), np.eye(7)[:, :2]
    for a, b in [(means, 20 + means), ([1, 2, 3, 4, 5, 6, None], [None] * 7), (eye, 5 + eye)]:
        for paired in (False, True):
            one, other = (
                verdicts(
                    [Comparison(*pair, "fd", "lower", paired)], {"fd": {"a": a, "b": b}}, dict.fromkeys("ab", range(7))
                )
                for pair in ("ab", "ba")
            )
            assert (one[0].verdict, other[0].verdict) == ("better", "worse")
            # the bootstrap of many tasks has different draws
            words = [sentence(v[0], "FD").split("with probability")[0] for v in (one, other)]
            assert words[0] == words[1]


def test_sentence_of_no_difference():
    v = verdict([1, 2, 3, 4], [None, 2, 3, 5], "higher")
    # ranks from the worst: None 1, 1 2, 2s 3.5, 3s 5.5, 4 7, 5 8: sums 18 and 18. Of 16 pairs vae wins 7 and ties 2
    assert sentence(v, "IS", 1) == (
        "No difference between vae and dcgan can be told by IS (4 seeds each; 0 of vae's and 1 of dcgan's diverged): "
        "a run of vae is ahead of one of dcgan with probability 0.50; "
        "exact permutation test of ranks, diverged seeds last, p = 1."
    )


def test_sentence_of_too_few_seeds():
    v = verdict([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], paired=True)
    assert sentence(v, "FD", 0) == (
        "Not enough seeds to tell vae and dcgan apart by FD (5 pairs of seeds; 6 seeds of each would be enough for "
        "1 declared comparison): 3 against 8, a difference of 5 [5, 5] (above 0 favors vae); "
        "exact paired sign-flip test, p = 0.062."
    )


def test_sentence_of_different_distributions():
    # every seed of one is ahead, 2 of 252 splits; the other's spread makes Welch's t 11.2 / sqrt(0.5 + 58.34) = 1.46
    scores = {"vae": [10, 11, 12, 13, 14], "dcgan": [-30, 8, 8, 9, 9]}
    other = {"vae": [1, 2, 3, 4, 5], "dcgan": [11, 12, 13, 14, 15]}
    comparisons = [Comparison("vae", "dcgan", "is", "higher"), Comparison("vae", "dcgan", "fd", "lower")]
    v, claimed = verdicts(comparisons, {"is": scores, "fd": other})
    assert (v.verdict, claimed.verdict) == ("different distributions", "better")
    assert v.p_order == scipy.stats.ttest_ind(scores["vae"], scores["dcgan"], equal_var=False).pvalue
    assert sentence(v, "IS", 1) == (
        "vae and dcgan differ in the distribution of IS (5 seeds each): 12.0 against 0.8, a difference of 11.2 "
        "[-10.1, 32.5] (above 0 favors vae); a run of vae is ahead of one of dcgan with probability 1.00; exact "
        "permutation test, p = 0.0079, by Holm 0.016. No order of the means is claimed: Welch's test, corrected for 2 "
        "comparisons, tells none (p = 0.22)."
    )
    # in pairs, the differences are 40, 3, 4, 4, 5 and 4
    paired = verdict([*scores["vae"], 12], [*scores["dcgan"], 8], "higher", paired=True)
    assert (paired.p, paired.verdict) == (2 / 64, "different distributions")
    assert paired.p_order == scipy.stats.ttest_1samp([40, 3, 4, 4, 5, 4], 0).pvalue
    assert "Student's test of the differences tells none" in sentence(paired, "IS")


def test_arms_without_spread():
    """Seeds of a training without chance have one score: the other arm's spread alone decides."""
    same, apart = [3.0] * 5, [1.0, 2.0, 2.5, 2.0, 1.5]
    v = verdict(same, apart, "higher")
    assert v.p_order == pytest.approx(max(2 / 252, scipy.stats.ttest_1samp(apart, 3).pvalue), rel=1e-12)
    assert verdict(same, [4.0] * 5).p_order == 2 / 252
    assert verdict(same, same).p_order == 1


def test_seeds_of_one_training_are_no_replicas():
    """The mean stands against each seed of the other arm: 2 of 2^n signs."""
    same, sampled = [3.0] * 3, [3.1, 2.9, 3.0]
    apart = [1.0, 2.0, 2.5, 2.0, 1.5, 1.7]
    of_sampled = scipy.stats.ttest_ind(sampled, apart, equal_var=False)
    for vae, test in ((same, scipy.stats.ttest_1samp(apart, 3)), (sampled, of_sampled)):
        v = verdict(vae, apart, "higher", one_training=["vae"])
        assert (v.verdict, v.p, v.exact, v.one_training) == ("better", 2 / 64, True, ("vae",))
        assert v.p_order == pytest.approx(max(v.p, test.pvalue), rel=1e-12)
        assert "sign-flip test against the mean, as all seeds of vae trained the same parameters, p = " in sentence(
            v, "IS"
        )
        turned = verdict(apart, vae, "higher", one_training=["dcgan"])
        assert (turned.verdict, turned.p, turned.p_order) == ("worse", v.p, v.p_order)
    assert verdict(same, apart, "higher").verdict == "better"  # of replicas: 3 and 6 seeds
    # on both sides of the mean: differences of 2, 1, -1, -2, 3, -3, all of whose signs are as likely
    assert verdict(same, [1.0, 2, 4, 5, 0, 6], one_training=["vae"]).p == 1

    # five seeds are too few, of however many of the one training
    few = verdict([3.0] * 9, apart[:5], "higher", one_training=["vae"])
    assert (few.verdict, few.p, few.seeds_needed) == ("not enough seeds to tell", 2 / 32, 6)
    words = (
        "6 seeds of dcgan would be enough for 1 declared comparison, as all seeds of vae trained the same parameters)"
    )
    assert words in sentence(few, "IS")

    # a diverged seed is worse than the mean: signed ranks 1, 2, 3, 4, 5 against 6
    lost = verdict(same, [5.0, 6, 7, 8, 9, None], "higher", one_training=["vae"])
    every = np.array(list(itertools.product((-1, 1), repeat=6))) @ np.arange(1, 7)
    assert lost.p == 2 * np.mean(every <= 6 - 15)
    # two of one training each
    both = verdict([0.97] * 5, [0.98] * 5, one_training=["vae", "dcgan"])
    assert both.verdict == "not tested"
    assert sentence(both, "error") == (
        "vae and dcgan are not tested by error, as all seeds of vae and all of dcgan trained the same parameters: "
        "0.97 against 0.98, a difference of 0.01 [0.01, 0.01] (above 0 favors vae)."
    )
    assert "ranks, diverged seeds last against the mean, as all seeds of vae" in sentence(
        lost._replace(verdict="no difference can be told"), "IS"
    )
    # a seed without a score is left out of the mean
    without = verdict([3.0, 3.0, None], apart, "higher", one_training=["vae"])
    assert (without.verdict, without.p) == ("better", 2 / 64)
    # pairs with one such arm are tested as ever, with two, such as an arm and its own column, not at all
    pairs = verdict(sampled * 2, apart, "higher", True, ["vae"])
    assert pairs == verdict(sampled * 2, apart, "higher", True)
    assert verdict(sampled * 2, apart, "higher", True, ["vae", "dcgan"]).verdict == "not tested"


@pytest.mark.parametrize("n", [6, 8])
@pytest.mark.parametrize("draw", ["normal", "uniform", "coarse"])
def test_size_with_an_arm_of_one_training(n, draw):
    """Symmetric scores around that arm's are told from it no more often than the level says."""
    rng = np.random.default_rng(14)
    rejected = 0
    for _ in range(1_000):
        scores = {"normal": rng.normal, "uniform": rng.uniform, "coarse": lambda size: rng.integers(-1, 2, size)}[draw]
        shift = 0.5 if draw == "uniform" else 0.0
        v = verdict([1.0] * 5, 1 - shift + scores(size=n), one_training=["vae"])
        rejected += v.verdict in ("better", "worse")
    assert rejected <= no_more_than(0.05, 1_000)


def test_a_rank_test_is_decided_by_its_own_p():
    """Arm a loses to b by ranks, 4 of 252 splits on its side, whatever Welch's test finds of c and d."""
    a, b = [None, 20, 21, 22, 9.5], [7, 8, 9, 10, 11]
    c, d = [1, 2, 3, 4, 5], [10, 10.1, 9.9, 10.2, 300]
    scores = {"fd": {"a": a, "b": b, "c": c, "d": d}}
    ranked, means = verdicts([Comparison("a", "b", "fd", "lower"), Comparison("c", "d", "fd", "lower")], scores)
    assert (means.verdict, means.p) == ("different distributions", 2 / 252)
    assert (ranked.verdict, ranked.p, ranked.p_holm) == ("worse", 8 / 252, 8 / 252)
    assert "a run of b is ahead" in sentence(ranked, "FD")
    assert "Welch" not in sentence(ranked, "FD")


# All of them


def test_verdicts_are_json():
    scores = {"fd": {"a": [1, 2, None, 3], "b": [4, 5, 6, 7]}, "many": {"a": normal(10, 1, 4), "b": normal(11, 1, 4)}}
    comparisons = [Comparison("a", "b", "fd", "lower"), Comparison("a", "b", "many", "lower")]
    for v in verdicts(comparisons, scores):
        again = json.loads(json.dumps(v._asdict(), allow_nan=False))
        assert again == {key: list(value) if isinstance(value, tuple) else value for key, value in v._asdict().items()}


def test_only_the_seed_decides():
    scores = {"fd": {"a": normal(12, 6, 8), "b": 0.3 + normal(13, 6, 8)}}
    comparisons = [Comparison("a", "b", "fd", "lower")]
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        first = verdicts(comparisons, scores, seed=3)
        np.random.seed(1)  # noqa: NPY002
        assert verdicts(comparisons, scores, seed=3) == first
        assert verdicts(comparisons, scores, seed=4) != first
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_comparisons_refused():
    scores = {"fd": {"a": [1, 2], "b": [3, 4], "c": [[1, 2], [3, 4]], "d": [1, 2, 3]}}

    def refused(match, *comparisons, seeds=None):
        with pytest.raises(ValueError, match=match):
            verdicts(comparisons, scores, seeds)

    refused("of two arms", Comparison("a", "a", "fd", "lower"))
    refused("declared once", Comparison("a", "b", "fd", "lower"), Comparison("b", "a", "fd", "lower"))
    refused("no scores of fd for e", Comparison("a", "e", "fd", "lower"))
    refused("no scores of kid for a and b", Comparison("a", "b", "kid", "lower"))
    refused('"higher" or "lower" is better, not by a metric with None', Comparison("a", "b", "fd", None))
    refused("same tasks, got 1 and 2", Comparison("a", "c", "fd", "lower"))
    pair = Comparison("a", "b", "fd", "lower", paired=True)
    refused("the same seeds", pair)
    refused("the same seeds", pair, seeds={"a": [0, 1], "b": [1, 0]})
    refused("the same seeds", pair, seeds={"a": [0, 0], "b": [0, 0]})
    refused("the same seeds", pair, seeds={"a": [0, 1]})
    refused("one a seed", pair, seeds={"a": [0, 1, 2], "b": [0, 1, 2]})
    refused("one a seed", Comparison("a", "d", "fd", "lower", True), seeds={"a": [0, 1], "d": [0, 1]})


def test_too_many_comparisons_refused():
    number = SPLITS // 40 + 1
    scores = {str(metric): {"a": [1, 2], "b": [3, 4]} for metric in range(number)}
    with pytest.raises(ValueError, match="more than a test of"):
        verdicts([Comparison("a", "b", metric, "lower") for metric in scores], scores)
    assert verdicts([], {}) == []
