"""The Vendi score against its authors' package."""

import numpy as np
import pytest

from jaxgen.metrics.vendi import vendi_score

vendi = pytest.importorskip("vendi_score.vendi")


@pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")  # of the package, by its SciPy
@pytest.mark.parametrize(("num", "dimensions"), [(500, 16), (100, 400), (200, 200)])
def test_it_is_the_authors(num, dimensions):
    rng = np.random.default_rng(num)
    features = np.abs(rng.normal(size=(num, dimensions)) @ rng.normal(size=(dimensions, dimensions)))
    expected = vendi.score_dual(features)  # of X^T X
    assert vendi_score(features) == pytest.approx(expected, rel=1e-11)
    assert vendi_score(features) == pytest.approx(vendi.score_X(features), rel=1e-11)  # of X X^T
    assert 1.5 < expected < num / 4
