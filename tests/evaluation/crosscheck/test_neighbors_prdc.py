"""Scores of nearest neighbors against the implementation by the authors of density and coverage."""

import numpy as np
import pytest

from jaxgen.metrics.neighbors import neighbor_scores

prdc = pytest.importorskip("prdc")


def features(n, m, dimensions):
    """Draws correlated, nonnegative features, like a network's; the fakes vary less."""
    rng = np.random.default_rng(n + m)
    mixing = rng.normal(size=(dimensions, dimensions))
    return tuple(np.abs(scale * rng.normal(size=(num, dimensions)) @ mixing) for scale, num in ((1, n), (0.9, m)))


@pytest.mark.parametrize(
    ("n", "m", "dimensions", "k"), [(500, 400, 16, 5), (300, 1000, 3, 1), (1000, 700, 256, 10), (5000, 2000, 48, 5)]
)
def test_float64_agrees_exactly(n, m, dimensions, k):
    real, fake = features(n, m, dimensions)
    expected = prdc.compute_prdc(real, fake, nearest_k=k)
    found = neighbor_scores(real, fake, k)._asdict()
    # shares are ratios of the same counts; density is a sum divided in another order
    assert found == {name: pytest.approx(score, rel=1e-12) for name, score in expected.items()}
    assert 0.1 < expected["recall"] < 0.9


def test_float32_agrees_exactly_with_float64():
    real, fake = (np.float32(x) for x in features(2000, 1500, 64))
    expected = prdc.compute_prdc(np.float64(real), np.float64(fake), nearest_k=5)
    found = neighbor_scores(real, fake, 5)._asdict()
    assert found == {name: pytest.approx(score, rel=1e-12) for name, score in expected.items()}
