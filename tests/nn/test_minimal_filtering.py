"""Minimal filtering against float64, and where it is chosen."""

import re
from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given

from jaxgen.nn import minimal_filtering as minimal
from jaxgen.nn.conv import Conv, conv, conv_transpose
from jaxgen.nn.conv_forms import Geometry, direct_conv, direct_dw, direct_dx
from tests.nn.conv_cases import whole
from tests.nn.test_conv import drawn
from tests.versions import x64

ERROR = {2: 2e-6, 4: 1e-5}
"""Largest error by side of a tile, relative to the largest value."""


@pytest.mark.parametrize("taps", [2, 3])
@pytest.mark.parametrize("outputs", [2, 3, 4])
def test_an_algorithm_is_the_correlation_of_an_axis(outputs, taps):
    of_x, of_kernel, of_g = minimal.algorithm(outputs, taps)
    x, w = np.arange(1.0, outputs + taps) ** 2, np.cos(np.arange(taps))
    np.testing.assert_allclose(of_g.T @ ((of_x @ x) * (of_kernel @ w)), np.correlate(x, w, "valid"), rtol=1e-12)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@drawn(12)
@given(
    size=pairs(5, 11),
    kernel=pairs(2, 5),
    strides=pairs(1, 2),
    padding=st.tuples(pairs(0, 3), pairs(0, 3)),
    tile=st.sampled_from([2, 4]),
    batch=st.integers(1, 3),
    channels=pairs(1, 5),
)
def test_the_operations_equal_the_direct_forms_in_float64(size, kernel, strides, padding, tile, batch, channels):
    geometry = Geometry(size, kernel, strides, padding)
    taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
    assume(min(taps) > 1 and max(taps) <= 3 and min(geometry.output) > 0)
    rng = np.random.default_rng(0)
    shapes = (batch, *size, channels[0]), (*kernel, *channels), (batch, *geometry.output, channels[1])
    x, w, g = (rng.standard_normal(shape) for shape in shapes)
    pairs_of = (x, w), (g, w), (x, g)

    @jax.jit
    def found(pairs_of):
        forms = minimal.minimal_conv, minimal.minimal_dx, minimal.minimal_dw
        return [form(*pair, geometry, tile) for form, pair in zip(forms, pairs_of, strict=True)]

    got = found(jax.tree.map(jnp.float32, pairs_of))
    with x64():
        exact = [
            form(*map(jnp.asarray, pair), geometry)
            for form, pair in zip((direct_conv, direct_dx, direct_dw), pairs_of, strict=True)
        ]
    for one, expected in zip(got, exact, strict=True):
        assert one.shape == expected.shape
        np.testing.assert_allclose(one, expected, rtol=0, atol=ERROR[tile] * np.abs(expected).max())


@pytest.mark.parametrize(("channels", "taps"), [((128, 256), (4, 2)), ((64, 64), (3, 1))], ids=["stride-2", "stride-1"])
@pytest.mark.parametrize("tile", [2, 4])
def test_errors_of_wide_layers_stay_within_what_is_promised(channels, taps, tile):
    """Over sums of 2,048 and 576 products, in chunks."""
    kernel, stride = taps
    geometry = Geometry((9, 9), (kernel, kernel), (stride, stride), ((1, 1), (1, 1)))
    rng = np.random.default_rng(0)
    shapes = (16, 9, 9, channels[0]), (kernel, kernel, *channels), (16, *geometry.output, channels[1])
    x, w, g = (rng.standard_normal(shape) for shape in shapes)
    with x64():
        exact = direct_conv(x, w, geometry), direct_dx(g, w, geometry), direct_dw(x, g, geometry)
    x, w, g = map(jnp.float32, (x, w, g))
    jitted = partial(jax.jit, static_argnums=(2, 3))
    found = (
        jitted(minimal.minimal_conv)(x, w, geometry, tile),
        jitted(minimal.minimal_dx)(g, w, geometry, tile),
        jitted(minimal.minimal_dw)(x, g, geometry, tile),
    )
    for one, expected in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, expected, rtol=0, atol=ERROR[tile] * np.abs(expected).max())


CHOSEN = {
    "DCGAN-64, second layer": ((32, 32), 4, 2, 64, (64, 128), 4),
    "DCGAN-64, last of four": ((8, 8), 4, 2, 64, (256, 512), 2),
    "three channels": ((64, 64), 4, 2, 64, (3, 64), None),
    "residual block": ((8, 8), 3, 1, 64, (128, 128), 4),
    "one image": ((16, 16), 4, 2, 1, (128, 256), None),
    "one tap": ((16, 16), 1, 1, 64, (128, 128), None),
    "more than three taps": ((16, 16), 5, 1, 64, (128, 128), None),
    "5x5 with stride 2": ((32, 32), 5, 2, 64, (64, 128), 4),
    "3x3 with stride 2": ((32, 32), 3, 2, 64, (32, 64), 4),
    "ResNet-20, first stage": ((32, 32), 3, 1, 64, (16, 16), None),
    "ResNet-20, second stage": ((16, 16), 3, 1, 64, (32, 32), 4),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_tiles_are_chosen_by_cost(name):
    size, kernel, stride, batch, channels, tile = CHOSEN[name]
    geometry = Geometry(size, (kernel, kernel), (stride, stride), ((kernel // 2,) * 2,) * 2)
    assert minimal.best_tile(geometry, batch, *channels) == tile


def convolutions(function, *operands):
    """Number of XLA's convolutions in a program for a CPU."""
    lowered = jax.jit(function).trace(*operands).lower(lowering_platforms=("cpu",))
    return lowered.as_text().count("stablehlo.convolution")


def test_minimal_filtering_is_of_float32_on_a_cpu_and_never_of_local_layers():
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 16, 16, 64), (4, 4, 64, 128)))
    narrow = [jax.ShapeDtypeStruct(a.shape, jnp.bfloat16) for a in (x, w)]

    def both(x, w, **how):
        y, pullback = jax.vjp(lambda x, w: conv(x, w, strides=(2, 2), **how), x, w)
        return pullback(y)

    def transposed(x, w, **how):
        return jax.vjp(lambda x: conv_transpose(x, w, **how), x)[1](jnp.zeros((64, 32, 32, 64)))

    assert convolutions(both, x, w) == 0
    assert convolutions(both, *narrow) == convolutions(partial(both, local=True), x, w) == 2  # dx is a product
    y = jax.ShapeDtypeStruct((64, 16, 16, 128), jnp.float32)
    assert [convolutions(partial(transposed, local=local), y, w) for local in (False, True)] == [0, 1]
    masked = Conv(128, (4, 4), (2, 2), mask=np.ones((4, 4, 1, 1)))
    assert convolutions(masked.apply, {"params": {"kernel": w, "bias": jnp.zeros(128)}}, x) == 1
    other = jax.jit(both).trace(x, w).lower(lowering_platforms=("cuda",)).as_text()
    assert other.count("stablehlo.convolution") == 3


def test_xla_keeps_the_transforms_apart_and_their_results_in_order():
    """Speed: without either, transforms and optimizers' steps take several times as long."""
    x, w = whole(0, 16, 8, 8, 128), whole(1, 3, 3, 128, 128)
    program = jax.jit(lambda x, w: jax.vjp(lambda w: conv(x, w), w)[1](x)).lower(x, w).compile().as_text()
    assert {f"_{name}" for name in ("rows_of_x", "columns_of_x", "kernel_of_taps")} <= set(
        re.findall(r"call\(.*op_name=.*jit\((_\w+)\)", program)
    )
    results = re.findall(r"(\S+) call\(.*jit\(_kernel_of_taps\)", program)
    assert results
    assert all("{5,4,3,2,1,0}" in result for result in results)
