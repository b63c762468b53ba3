import numpy as np
import pytest
import scipy.stats

from jaxgen.metrics.two_sample import two_sample_test


def normal(seed, n, dimensions):
    return np.random.default_rng(seed).normal(size=(n, dimensions))


def test_separable_sets_by_hand():
    # all 20 held-out samples correct: (1 - 1/2) / sqrt(1 / 80) = sqrt 20 deviations
    result = two_sample_test(normal(0, 20, 2), 30 + normal(1, 20, 2))
    assert (result.accuracy, result.tested) == (1, 20)
    assert result.p_value == pytest.approx(3.872108e-06, rel=1e-5)


def test_one_distribution_gives_uniform_p_values_or_larger():
    results = [two_sample_test(normal(2 * i, 64, 3), normal(2 * i + 1, 64, 3), seed=i) for i in range(60)]
    assert {result.tested for result in results} == {64}
    p_values = np.array([result.p_value for result in results])
    # if p were uniform, 999 of 1,000 such tests would have at most this many below each level
    for level in (0.01, 0.1, 0.3):
        assert (p_values <= level).sum() <= scipy.stats.binom.ppf(0.999, 60, level)
    z = (np.array([result.accuracy for result in results]) - 0.5) * 2 * np.sqrt(64)
    assert abs(z.mean()) < 3.3 / np.sqrt(60)
    # the null's variance or less; a test on training data would have a mean far above 0
    assert z.var() * 60 < scipy.stats.chi2.ppf(0.999, 60)


def test_what_was_learned_by_heart_does_not_count():
    # 100 samples in 300 dimensions can be memorized; held-out samples of the same distribution cannot
    p_values = [two_sample_test(normal(i, 100, 300), normal(100 + i, 100, 300), seed=i).p_value for i in range(5)]
    assert min(p_values) > 1e-3


def test_a_shifted_mean_is_found():
    result = two_sample_test(normal(3, 400, 4), 1 + normal(4, 400, 4))
    # the best accuracy is that of a threshold along (1, 1, 1, 1), at the distance 1 from both means
    best = scipy.stats.norm.cdf(1)
    assert best - 0.05 < result.accuracy < best + 0.05
    assert result.p_value < 1e-20


def test_another_covariance_with_the_same_mean_is_found():
    # correlation .9 against 0, both with unit variances: no linear classifier can separate them
    real, x = normal(5, 800, 2), normal(6, 800, 2)
    fake = x @ np.linalg.cholesky([[1, 0.9], [0.9, 1]]).T
    result = two_sample_test(real, fake)
    assert result.accuracy > 0.65
    assert result.p_value < 1e-20


def test_the_larger_set_is_cut_to_the_smaller_one():
    # half of an odd number, rounded down, is used for training
    assert two_sample_test(normal(7, 31, 2), normal(8, 400, 2)).tested == 2 * 16
    assert two_sample_test(normal(7, 400, 2), normal(8, 31, 2)).tested == 2 * 16


def test_the_larger_set_is_drawn_from_at_random():
    # sorted: the first 200 fakes alone would be far from the real samples
    fake = np.sort(normal(9, 4000, 1), axis=0)
    assert two_sample_test(normal(10, 200, 1), fake).p_value > 0.01
    assert two_sample_test(normal(10, 200, 1), fake[:200]).p_value < 1e-10


def test_units_do_not_matter():
    real, fake = normal(11, 200, 3), 0.5 + normal(12, 200, 3)
    scale, shift = np.array([1e-6, 1.0, 1e4]), np.array([5.0, -3.0, 1e5])
    assert two_sample_test(real * scale + shift, fake * scale + shift).accuracy == pytest.approx(
        two_sample_test(real, fake).accuracy, abs=0.01
    )


def test_the_seed_decides():
    real, fake = normal(13, 200, 3), 0.3 + normal(14, 200, 3)
    assert two_sample_test(real, fake, seed=4) == two_sample_test(real, fake, seed=4)
    assert len({two_sample_test(real, fake, seed=seed).accuracy for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.ones((1, 2)), np.ones((9, 2)), "2 samples or more are needed; real features have 1$"),
        (np.ones((9, 2)), np.ones((1, 2)), "2 samples or more are needed; fake features have 1$"),
        (np.ones((9, 2)), np.ones((9, 3)), "real features have 2 dimensions, fake ones 3$"),
        (np.ones((9, 2)), np.full((9, 2), np.inf), "fake features have non-finite values$"),
    ],
)
def test_what_is_refused(real, fake, message):
    with pytest.raises(ValueError, match=message) as error:
        two_sample_test(real, fake)
    assert "\n" not in str(error.value)
