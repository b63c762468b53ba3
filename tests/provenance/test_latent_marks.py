"""Keyed signs of latents: the prior's own distribution, and an exact test."""

import hashlib

import numpy as np
import pytest
import scipy.stats

from jaxgen.provenance.latent_marks import all_signs, found, keyed, least, p_value, signs

KEY = b"k" * 32


def test_signs_are_bits_of_a_hash():
    """Bits of SHAKE-256, the first the highest; a 1 is +."""
    name = b"jaxgen.latents.1\0" + KEY + (5).to_bytes(8, "big") + (2).to_bytes(8, "big")
    bits = "".join(f"{byte:08b}" for byte in hashlib.shake_256(name).digest(2))
    assert signs(KEY, 5, 2, 11).tolist() == [1 if bit == "1" else -1 for bit in bits[:11]]
    every = all_signs(KEY, 5, 4, 11)
    assert every[2].tolist() == signs(KEY, 5, 2, 11).tolist()
    assert len({tuple(row) for row in [*every, *all_signs(KEY, 3, 4, 11), *all_signs(b"l" * 32, 5, 4, 11)]}) == 12


@pytest.mark.parametrize(("draw", "distribution"), [("normal", "norm"), ("uniform", scipy.stats.uniform(-1, 2).cdf)])
def test_keyed_latents_have_the_priors_distribution(draw, distribution):
    """One fixed draw has the prior's marginals, means and covariances over keys, even where all its signs are +."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 2, 3)) if draw == "normal" else rng.uniform(-1, 1, (500, 2, 3))
    z = np.abs(z).astype(np.float32)
    marked = np.stack([keyed(z, bytes([i]) * 32, 7) for i in range(40)])
    assert (marked.shape, marked.dtype) == ((40, 500, 2, 3), np.float32)
    np.testing.assert_array_equal(np.abs(marked), np.broadcast_to(z, marked.shape))
    for each in marked[:3]:
        assert scipy.stats.kstest(each.reshape(-1), distribution).pvalue > 1e-3
    flat = np.sign(marked.reshape(-1, 6))
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(6), atol=5 / np.sqrt(len(flat)))
    assert abs(flat.mean()) < 5 / np.sqrt(flat.size)


def test_p_values_are_the_binomials():
    every = np.array([[1, 1, -1, 1, -1, -1, 1, 1, -1, 1]])
    for agree in range(11):
        codes = every * np.where(np.arange(10) < agree, 0.3, -2.0)
        assert p_value(codes, every) == pytest.approx(scipy.stats.binom.sf(agree - 1, 10, 0.5), rel=1e-12)
    assert p_value(np.zeros((1, 10)), every) == 1  # a code of 0 agrees with no sign
    assert p_value(np.tile(every, (100, 1)), np.tile(every, (100, 1))) == pytest.approx(2.0**-1000, rel=1e-9)


def test_a_sample_is_searched_among_candidates():
    """Nine of ten signs agree with the third of eight: 11 / 1024, times 8."""
    candidates = all_signs(KEY, 0, 8, 10)
    codes = candidates[2] * np.where(np.arange(10) == 4, -1, 0.1)
    agree = (np.sign(codes) == candidates).sum(1)
    assert agree.tolist().count(9) == 1
    assert found(codes, candidates) == (2, pytest.approx(8 * 11 / 1024))
    assert found(-codes, candidates[2:3]) == (0, pytest.approx(1 - 1 / 1024 * (1 + 0), abs=1e-3))


def test_p_values_of_unmarked_codes_over_keys():
    """Whatever the codes are, p <= a for a share of at most a of the keys."""
    codes = np.random.default_rng(0).exponential(size=16)  # all of one sign
    p = np.array([p_value(codes, signs(i.to_bytes(32, "big"), 0, 0, 16)) for i in range(4000)])
    for level in (0.5, 0.1, 0.01):
        exact = max(q for q in scipy.stats.binom.sf(np.arange(-1, 16), 16, 0.5) if q <= level)
        assert (p <= level).mean() == pytest.approx(exact, abs=4 * np.sqrt(level / 4000))


def test_the_least_p_value():
    assert least(16) == 2**-16
    assert least(4, 10) == 10 / 16
    assert least(2, 10) == 1
