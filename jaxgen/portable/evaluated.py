"""Programs of `jaxgen.portable.folded`, run by NumPy in float64, one operation at a time.

It tells how far a program with rounded constants is from JAX, before a page or another format has run it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from jaxgen.portable.folded import Equation, Program

ELEMENTWISE: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "pow": np.power,
    "rem": np.fmod, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not, "where": np.where,
    "neg": np.negative, "exp": np.exp, "log": np.log, "tanh": np.tanh, "logistic": special.expit, "sqrt": np.sqrt,
    "rsqrt": lambda x: x**-0.5, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round,
    "sin": np.sin, "cos": np.cos, "erf": special.erf, "log1p": np.log1p, "expm1": np.expm1,
}  # fmt: skip
"""Map from elementwise operations to NumPy's functions."""

KINDS = {"float32": np.float64, "int32": np.int64, "bool": bool}
"""Map from the dtypes of programs to those in which they are run."""


def _conv(x, kernel, strides, padding):
    """Sums, over the kernel's places, of the pixels that each place meets."""
    (sh, sw), (kh, kw) = strides, kernel.shape[:2]
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    places = [(u, v) for u in range(kh) for v in range(kw)]
    return sum(x[:, u : u + height * sh : sh, v : v + width * sw : sw] @ kernel[u, v] for u, v in places)


def _conv_transpose(x, kernel, strides, padding, size):
    """Adds every pixel, times the kernel, where the convolution would have read it."""
    (sh, sw), (kh, kw), ((top, bottom), (left, right)) = strides, kernel.shape[:2], padding
    batch, height, width, _ = x.shape
    y = np.zeros((batch, size[0] + top + bottom, size[1] + left + right, kernel.shape[2]))
    for u in range(kh):
        for v in range(kw):
            y[:, u : u + height * sh : sh, v : v + width * sw : sw] += x @ kernel[u, v].T
    return y[:, top : top + size[0], left : left + size[1]]


OTHERS: dict[str, Callable] = {
    "transpose": lambda x, axes: x.transpose(axes),
    "concatenate": lambda *parts, axis: np.concatenate(parts, axis),
    "slice": lambda x, start, stop, step: x[tuple(map(slice, start, stop, step))],
    "pad": lambda x, low, high, value: np.pad(x, list(zip(low, high, strict=True)), constant_values=value),
    "flip": lambda x, axes: np.flip(x, axes),
    "sum": lambda x, axes: x.sum(axes),
    "maximum": lambda x, axes: x.max(axes),
    "minimum": lambda x, axes: x.min(axes),
    "argmax": lambda x, axis: x.argmax(axis),
    "cumsum": lambda x, axis: x.cumsum(axis),
    "take": lambda x, indices: x[indices],
    "matmul": np.matmul,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
}


def _applied(equation: Equation, operands: Sequence[np.ndarray]) -> np.ndarray:
    name, result = equation.operation, equation.result
    if name == "reshape":
        return operands[0].reshape(result.shape)
    if name == "broadcast":
        return np.broadcast_to(operands[0], result.shape)
    if name == "cast":
        return operands[0].astype(KINDS[result.dtype])
    if name == "div":
        quotient = operands[0] / operands[1]
        return np.trunc(quotient) if result.dtype == "int32" else quotient
    return ELEMENTWISE[name](*operands) if name in ELEMENTWISE else OTHERS[name](*operands, **equation.params)


def evaluated(program: Program, *inputs) -> np.ndarray:
    """Output of a program: float64, int64 or bool.

    Args:
        program: the program.
        inputs: arrays of the shapes of its inputs.

    Raises:
        ValueError: an operation's result is not of the shape that the program says.
    """
    given = [np.asarray(x, KINDS[value.dtype]) for x, value in zip(inputs, program.inputs, strict=True)]
    arrays = dict(enumerate([*given, *(each.astype(KINDS[str(each.dtype)]) for each in program.constants)]))
    for equation in program.equations:
        made = np.asarray(_applied(equation, [arrays[x.number] for x in equation.operands]))
        if made.shape != equation.result.shape:
            raise ValueError(f"{equation.operation} gives shape {made.shape}, not {equation.result.shape}")
        arrays[equation.result.number] = made.astype(KINDS[equation.result.dtype])
    return arrays[program.output.number]
