"""The tests of convolutions again, by minimal filtering wherever it can compute them: of whole numbers, with tiles of
2x2 and up to 3 taps, it is exact."""

import jax
import pytest

from jaxgen.nn import conv as conv_module
from jaxgen.nn import minimal_filtering
from tests.nn.test_conv import (  # noqa: F401
    test_adjoint_identity_against_float64_numpy,
    test_both_operations_and_all_first_derivatives_equal_lax,
    test_gradient_penalty_equals_lax,
    test_in_scan_and_jitted_equals_eager,
    test_nested_vmap_and_gradients_under_vmap_equal_loops,
    test_vmap_equals_a_loop,
)


@pytest.fixture(scope="module", autouse=True)
def always():
    """Takes tiles of 2x2 where there are two or three taps."""

    def tile(geometry, *_):
        taps = [-(-k // s) for k, s in zip(geometry.kernel, geometry.strides, strict=True)]
        return 2 if set(taps) <= {2, 3} else None

    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_module, "best_tile", tile)
        patch.setattr(minimal_filtering, "CACHE", 2_000)  # several chunks
        patch.setattr(minimal_filtering, "LEAST_TILES", 1)
        yield
    jax.clear_caches()
