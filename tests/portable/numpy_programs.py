"""Programs of jaxgen.portable.folded, run by NumPy in float64, one operation at a time."""

import numpy as np
from scipy import special

ELEMENTWISE = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "pow": np.power,
    "rem": np.fmod, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not, "where": np.where,
    "neg": np.negative, "exp": np.exp, "log": np.log, "tanh": np.tanh, "logistic": special.expit, "sqrt": np.sqrt,
    "rsqrt": lambda x: x**-0.5, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round,
    "sin": np.sin, "cos": np.cos, "erf": special.erf, "log1p": np.log1p, "expm1": np.expm1,
}  # fmt: skip
KINDS = {"float32": np.float64, "int32": np.int64, "bool": bool}


def conv(x, kernel, strides, padding):
    """Sums, over the kernel's places, of the pixels that each place meets."""
    (sh, sw), (kh, kw) = strides, kernel.shape[:2]
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    places = [(u, v) for u in range(kh) for v in range(kw)]
    return sum(x[:, u : u + height * sh : sh, v : v + width * sw : sw] @ kernel[u, v] for u, v in places)


def conv_transpose(x, kernel, strides, padding, size):
    """Adds every pixel, times the kernel, where the convolution would have read it."""
    (sh, sw), (kh, kw), ((top, bottom), (left, right)) = strides, kernel.shape[:2], padding
    batch, height, width, _ = x.shape
    y = np.zeros((batch, size[0] + top + bottom, size[1] + left + right, kernel.shape[2]))
    for u in range(kh):
        for v in range(kw):
            y[:, u : u + height * sh : sh, v : v + width * sw : sw] += x @ kernel[u, v].T
    return y[:, top : top + size[0], left : left + size[1]]


OTHERS = {
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
    "conv": conv,
    "conv_transpose": conv_transpose,
}


def applied(equation, operands):
    """Result of one equation."""
    name, shape = equation.operation, equation.result.shape
    if name == "reshape":
        return operands[0].reshape(shape)
    if name == "cast":
        return operands[0].astype(KINDS[equation.result.dtype])
    if name == "broadcast":
        return np.broadcast_to(operands[0], shape)
    if name == "div":
        quotient = operands[0] / operands[1]
        return np.trunc(quotient) if equation.result.dtype == "int32" else quotient
    return ELEMENTWISE[name](*operands) if name in ELEMENTWISE else OTHERS[name](*operands, **equation.params)


def run(program, *inputs):
    """The program's output in float64, int64 or bool; every result has the shape that the program says."""
    given = [np.asarray(x, KINDS[value.dtype]) for x, value in zip(inputs, program.inputs, strict=True)]
    kept = [constant.astype(KINDS[str(constant.dtype)]) for constant in program.constants]
    arrays = dict(enumerate([*given, *kept]))
    for equation in program.equations:
        result = np.asarray(applied(equation, [arrays[x.number] for x in equation.operands]))
        assert result.shape == equation.result.shape, equation
        arrays[equation.result.number] = result.astype(KINDS[equation.result.dtype])
    return arrays[program.output.number]
