"""ONNX files of folded programs, run by onnxruntime, against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.portable import onnx_files
from jaxgen.portable.folded import OPERATIONS, folded
from tests.portable.test_folded import FUNCTIONS

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} comes with the extra export")


def test_every_operation_has_a_node():
    assert set(onnx_files.NODES) == set(OPERATIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_files_give_what_jax_gives(name):
    function, x = FUNCTIONS[name]
    program = folded(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    made = onnx_files.run(onnx_files.written(program, ["x"]), {"x": x})
    wanted = np.asarray(function(jnp.asarray(x)))
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, rtol=2e-5, atol=4e-6)
