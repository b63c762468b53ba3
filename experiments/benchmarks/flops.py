"""Useful floating-point operations of a function, counted in its jaxpr.

Each multiply-add of a matrix product or convolution counts as two; elementwise operations are not counted. Neither are
multiplications by zeros from a convolution's padding or dilation, so that the count does not depend on how a
convolution is written.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxgen.nn.conv import conv_p, dw_p, dx_p


def useful_flops(function: Callable, *args: Any, trips: int | None = None) -> int:
    """Counts the useful operations of `function(*args)`.

    Args:
        function: any function that `jax.make_jaxpr` can trace.
        args: its arguments, arrays or their shapes.
        trips: trip count of every `while`.

    Raises:
        ValueError: a `while` without `trips`, or a `cond` whose branches differ in their count.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, trips)


def taps(size: int, kernel: int, stride: int, lo: int, outputs: int, *, dilation=1, kernel_dilation=1) -> int:
    """Counts pairs (output p, tap u) along one axis that read a pixel, rather than padding or a gap between pixels.

    Args:
        size: number of pixels.
        kernel: number of taps.
        stride: positions from one output to the next.
        lo: positions of padding before the first pixel; negative crops.
        outputs: number of outputs.
        dilation: positions from one pixel to the next.
        kernel_dilation: positions from one tap to the next.
    """
    place = stride * np.arange(outputs)[:, None] + kernel_dilation * np.arange(kernel) - lo
    return int(((place >= 0) & (place <= (size - 1) * dilation) & (place % dilation == 0)).sum())


def _of_jaxpr(jaxpr: core.Jaxpr, trips: int | None) -> int:
    return sum(_of_equation(equation, trips) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn, trips: int | None) -> int:
    primitive, params = equation.primitive, equation.params
    a, b, *_ = [operand.aval for operand in equation.invars] + [None, None]
    if primitive in (conv_p, dx_p, dw_p):
        return 2 * _bilinear(primitive, a.shape, b.shape, params["geometry"])
    if primitive.name == "conv_general_dilated":
        return 2 * _convolution(a.shape, b.shape, equation.outvars[0].aval.shape, params)
    if primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * math.prod(a.shape[axis] for axis in contracted) * equation.outvars[0].aval.size
    inner = [_of_jaxpr(jaxpr, trips) for jaxpr in _inner(params)]
    if params.get("branches_platforms"):  # of `platform_dependent`, whose default branch comes last
        return inner[-1]
    if primitive.name == "while" and any(inner):
        if trips is None:
            raise ValueError("a while loop in the function: its trip count has to be given")
        return trips * sum(inner)
    if primitive.name == "cond" and len(set(inner)) > 1:
        raise ValueError(f"the branches of a cond differ in their operations: {inner}")
    if primitive.name == "cond":
        return inner[0]
    return (params["length"] if primitive.name == "scan" else 1) * sum(inner)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs in an equation's parameters."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def _bilinear(primitive, a, b, geometry) -> int:
    """Counts multiply-adds of jaxgen's conv, dx or dw, which all have those of the trilinear form T(x, w, g)."""
    seeds, batch, *_ = a
    channels = a[4] * b[4] if primitive is dw_p else b[3] * b[4]  # from x and g; from w
    pairs = math.prod(taps(n, k, s, lo, outputs) for n, k, s, (lo, _), outputs in geometry.axes())
    return seeds * batch * channels * pairs


def _convolution(x, w, y, params) -> int:
    """Counts multiply-adds of `lax.conv_general_dilated`."""
    numbers = params["dimension_numbers"]
    pairs = [
        taps(x[i], w[k], stride, lo, y[o], dilation=dilation, kernel_dilation=kernel_dilation)
        for i, k, o, stride, (lo, _), dilation, kernel_dilation in zip(
            numbers.lhs_spec[2:],
            numbers.rhs_spec[2:],
            numbers.out_spec[2:],
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            strict=True,
        )
    ]
    batch, features, group_channels = y[numbers.out_spec[0]], y[numbers.out_spec[1]], w[numbers.rhs_spec[1]]
    return batch * features * group_channels * math.prod(pairs)
