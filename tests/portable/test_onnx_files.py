"""ONNX files of folded programs, run by onnxruntime, against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.conv import conv, conv_transpose
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


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((8, 10), ((0, 0), (0, 0))),  # of stride 3: the last 2 rows and 1 column were reached by no place
        ((9, 11), ((-1, 0), (2, -2))),  # a row and two columns were cut off, and two columns added
    ],
)
def test_adjoints_of_convolutions_that_leave_out_rows(size, padding):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)
    maps = jax.eval_shape(
        lambda x: conv(x, kernel, strides=(3, 3), padding=padding), np.zeros((1, *size, 2), np.float32)
    )
    x = np.random.default_rng(1).normal(size=maps.shape).astype(np.float32)

    def function(x):
        how = {"strides": (3, 3), "padding": padding, "output_size": size}
        return conv_transpose(x, jnp.asarray(kernel), **how)

    wanted = jax.vjp(lambda y: conv(y, jnp.asarray(kernel), strides=(3, 3), padding=padding), jnp.zeros((1, *size, 2)))[
        1
    ]
    program = folded(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    made = onnx_files.run(onnx_files.written(program, ["x"]), {"x": x})
    np.testing.assert_allclose(made, wanted(jnp.asarray(x))[0], atol=1e-5)
    assert (made == 0).all((0, 2, 3)).sum() + (made == 0).all((0, 1, 3)).sum() >= 3
