"""Functions of JAX as short lists of equations, for interpreters that know no JAX: a page's JavaScript, or ONNX.

`folded` traces a function. Every equation that does not depend on the inputs is evaluated at once, so a decoder's
parameters, masks and running averages become constants. Calls are inlined and loops unrolled. The other equations are
written in the few operations of OPERATIONS, which are NumPy's where NumPy has them:

    add, sub, mul, div, max, min, pow, rem, eq, ne, lt, le, gt, ge, and, or    a, b, broadcast as NumPy does;
                    div and rem of integers round toward 0
    neg, exp, log, tanh, logistic, sqrt, rsqrt, abs, sign, floor, ceil, round, not, sin, cos, erf, log1p, expm1    x;
                    round takes halves to the even number
    where           condition, a where it holds, b elsewhere, broadcast
    cast            x to the result's dtype: floats to integers toward 0
    reshape, broadcast    x to the result's shape; broadcast as NumPy does
    transpose       x by `axes`
    concatenate     any number along `axis`
    slice           x from `start` to `stop` by `step`, a number each per axis
    pad             x by `low` and `high` numbers per axis, none negative, that are `value`
    flip            x along `axes`
    sum, maximum, minimum    x over `axes`, which the result lacks
    argmax          x over `axis`, which the result lacks: the first of the largest
    cumsum          x along `axis`
    take            rows of x [rows, ...] by indices: [*indices, ...]; indices are within x
    matmul          a [..., m, k], b [..., k, n] with the same leading axes
    conv            x [batch, H, W, in], kernel [kh, kw, in, out]: `jaxgen.nn.conv.conv` with `strides`, `padding`
    conv_transpose  x [batch, H', W', out], kernel [kh, kw, in, out]: its adjoint, of size `size`
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxgen.compatibility import scan_counts
from jaxgen.model import PyTree

UNARY = ("neg", "exp", "log", "tanh", "logistic", "sqrt", "rsqrt", "abs", "sign", "floor", "ceil", "round", "not",
         "sin", "cos", "erf", "log1p", "expm1")  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "max", "min", "pow", "rem", "eq", "ne", "lt", "le", "gt", "ge", "and", "or")
ELEMENTWISE = (*UNARY, *BINARY, "where", "cast")
MOVING = ("reshape", "broadcast", "transpose", "concatenate", "slice", "pad", "flip", "take")
REDUCING = ("sum", "maximum", "minimum", "argmax", "cumsum", "matmul", "conv", "conv_transpose")
OPERATIONS = (*ELEMENTWISE, *MOVING, *REDUCING)
"""The operations of a program's equations."""


class NotPortable(Exception):  # noqa: N818
    """A function that cannot be written in OPERATIONS; the message says which primitive it needs."""


class Value(NamedTuple):
    """An array of a program."""

    number: int  # its place among the program's arrays
    shape: tuple[int, ...]
    dtype: str  # "float32", "int32" or "bool"


class Equation(NamedTuple):
    """result = operation(*operands)."""

    operation: str
    operands: tuple[Value, ...]
    result: Value
    params: Mapping[str, Any] = MappingProxyType({})


class Program(NamedTuple):
    """A function of `inputs`, which are numbered first, then the constants, then the equations' results."""

    inputs: tuple[Value, ...]
    constants: tuple[np.ndarray, ...]
    equations: tuple[Equation, ...]  # each one needs only results of earlier ones
    output: Value

    @property
    def size(self) -> int:
        """Number of elements of the constants."""
        return sum(constant.size for constant in self.constants)

    @property
    def products(self) -> int:
        """Number of multiplications of convolutions and matrix products."""
        return sum(_products(equation) for equation in self.equations)


def _products(equation: Equation) -> int:
    if equation.operation == "matmul":
        return int(np.prod(equation.result.shape)) * equation.operands[0].shape[-1]
    kernel = equation.operands[-1].shape
    if equation.operation == "conv":
        return int(np.prod(equation.result.shape)) * int(np.prod(kernel[:3]))
    if equation.operation == "conv_transpose":
        return int(np.prod(equation.operands[0].shape)) * int(np.prod(kernel[:3]))
    return 0


def folded(function: Callable[..., jax.Array], *inputs: PyTree) -> Program:
    """The program of a function whose every output and parameter is an array.

    Args:
        function: of `inputs`, with one array as its result. Arrays that it closes over become constants.
        inputs: pytrees of arrays or of `jax.ShapeDtypeStruct`. The leaves are the program's inputs, in order.

    Returns:
        The program. Floats are float32, those of narrower dtypes too, integers are int32.

    Raises:
        NotPortable: the function needs another primitive than those that OPERATIONS can express.
    """
    closed, result = jax.make_jaxpr(function, return_shape=True)(*inputs)
    if len(jax.tree.leaves(result)) != 1:
        raise ValueError(f"a portable function returns one array, not {len(jax.tree.leaves(result))}")
    folder = _Folder()
    given = [folder.value(aval.shape, aval.dtype) for aval in closed.in_avals]
    (output,) = folder.run(closed.jaxpr, closed.consts, given)
    return _numbered(given, folder, folder.operand(output))


# Tracing. An array is known (a NumPy or JAX array), or a Value, which depends on the inputs.

INLINED = frozenset(
    (
        "pjit",
        "jit",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "remat",
        "remat2",
        "checkpoint",
    )
)
BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""Names of the parameter with the body of a call, which differ between primitives and versions of JAX."""


def _dtype(dtype) -> str:
    if jax.dtypes.issubdtype(dtype, np.floating):
        return "float32"
    if jax.dtypes.issubdtype(dtype, np.bool_):
        return "bool"
    if jax.dtypes.issubdtype(dtype, np.integer):
        return "int32"
    raise NotPortable(f"arrays of {dtype}")


class _Folder:
    """Collects the equations of a function, and the constants that they take."""

    def __init__(self):
        self.count = 0
        self.equations: list[Equation] = []
        self.made: dict[int, Equation] = {}  # by the number of the result
        self.constants: dict[int, np.ndarray] = {}
        # By identity of arrays, which are kept so that no other one takes it.
        self.operands: dict[int, tuple[Any, Value]] = {}
        self.remembered: dict[tuple, tuple[Sequence[Any], Any]] = {}

    def value(self, shape: Sequence[int], dtype) -> Value:
        self.count += 1
        return Value(self.count - 1, tuple(map(int, shape)), _dtype(dtype))

    def operand(self, x: Any) -> Value:
        """The Value of an array; a known one becomes a constant."""
        if isinstance(x, Value):
            return x
        if id(x) not in self.operands:
            array = np.asarray(x)
            value = self.value(array.shape, array.dtype)
            self.constants[value.number] = np.ascontiguousarray(array, value.dtype).reshape(value.shape)
            self.operands[id(x)] = x, value
        return self.operands[id(x)][1]

    def once(self, what: Any, arrays: Sequence[Any], make: Callable[[], Any]) -> Any:
        """Result of `make`, the same object for the same arrays: an unrolled loop's constants are stored once."""
        key = (what, *map(id, arrays))
        if key not in self.remembered:
            self.remembered[key] = arrays, make()
        return self.remembered[key][1]

    def add(self, operation: str, operands: Sequence[Any], shape: Sequence[int], dtype=np.float32, **params) -> Value:
        """Appends an equation and returns its result; reshapes that cancel are left out."""
        shape = tuple(shape)
        if operation in ("reshape", "broadcast"):
            (x,) = operands
            if x.shape == shape:
                return x
            if operation == "reshape" and x.number in self.made and self.made[x.number].operation == "reshape":
                return self.add("reshape", self.made[x.number].operands, shape, dtype)
        if operation in ELEMENTWISE:
            operands = self.unrepeated(operands, shape)
        result = self.value(shape, dtype)
        params = jax.tree.map(
            lambda part: part.item() if isinstance(part, np.generic) else part, params
        )  # plain numbers
        equation = Equation(operation, tuple(map(self.operand, operands)), result, params)
        self.equations.append(equation)
        self.made[result.number] = equation
        return result

    def unrepeated(self, operands: Sequence[Any], shape: tuple[int, ...]) -> Sequence[Any]:
        """Operands of an elementwise operation, of which known ones lose the axes along which they only repeat."""
        less = [self.once("first", [x], partial(_first, x)) if _repeats(x) else x for x in operands]
        return less if np.broadcast_shapes(*map(_shape, less)) == shape else operands

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Results of a jaxpr, of which those that depend on no Value are known."""
        arrays = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
        for equation in jaxpr.eqns:
            operands = [v.val if isinstance(v, Literal) else arrays[v] for v in equation.invars]
            results = self.results(equation, operands)
            arrays.update(zip(equation.outvars, results, strict=True))
        return [v.val if isinstance(v, Literal) else arrays[v] for v in jaxpr.outvars]

    def results(self, equation: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
        name, params = equation.primitive.name, equation.params
        if name in INLINED:
            body = next(params[each] for each in BODIES if each in params)
            jaxpr, consts = (body.jaxpr, body.consts) if isinstance(body, ClosedJaxpr) else (body, ())
            return self.run(jaxpr, consts, operands)
        if not any(isinstance(x, Value) for x in operands):
            return self.once(id(equation), operands, lambda: _evaluated(equation, operands))
        if name not in LOWERED:
            raise NotPortable(f"the primitive {name}")
        made = LOWERED[name](self, equation, *operands)
        return made if equation.primitive.multiple_results else [made]


def _evaluated(equation: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
    """Results of an equation of known operands."""
    params = equation.params
    extended = jax.dtypes.issubdtype(equation.outvars[0].aval.dtype, jax.dtypes.extended)  # keys of random draws
    if equation.primitive.name == "broadcast_in_dim" and not extended:
        # As a view, so that a constant of an elementwise operation is not stored once per pixel.
        x, shape = np.asarray(operands[0]), params["shape"]
        return [np.broadcast_to(x.reshape(_spread(x.shape, params["broadcast_dimensions"], len(shape))), shape)]
    results = equation.primitive.bind(*operands, **params)
    return results if equation.primitive.multiple_results else [results]


def _spread(shape: Sequence[int], axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """A shape of `rank` axes that has `shape` at `axes`, and 1 elsewhere."""
    spread = [1] * rank
    for axis, length in zip(axes, shape, strict=True):
        spread[axis] = length
    return tuple(spread)


def _repeats(x: Any) -> bool:
    return isinstance(x, np.ndarray) and 0 in x.strides


def _first(x: np.ndarray) -> np.ndarray:
    return x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.strides)]


def _numbered(inputs: Sequence[Value], folder: _Folder, output: Value) -> Program:
    """The program without equations and constants that the output does not need."""
    needed, kept = {output.number}, []
    for equation in reversed(folder.equations):
        if equation.result.number in needed:
            kept.append(equation)
            needed.update(x.number for x in equation.operands)
    kept.reverse()
    constants = [index for index in folder.constants if index in needed]
    order = [*(x.number for x in inputs), *constants, *(equation.result.number for equation in kept)]
    places = {index: place for place, index in enumerate(order)}

    def placed(x):
        return x._replace(number=places[x.number])

    equations = [
        Equation(each.operation, tuple(map(placed, each.operands)), placed(each.result), each.params) for each in kept
    ]
    given = tuple(map(placed, inputs))
    return Program(given, tuple(folder.constants[index] for index in constants), tuple(equations), placed(output))


# Primitives in OPERATIONS: functions of (folder, equation, *operands), of which at least one is a Value.


def _out(equation: JaxprEqn):
    aval = equation.outvars[0].aval
    return aval.shape, aval.dtype


def _shape(x: Any) -> tuple[int, ...]:
    return x.shape if isinstance(x, Value) else np.shape(x)


def _elementwise(operation: str) -> Callable:
    return lambda folder, equation, *operands: folder.add(operation, operands, *_out(equation))


def _logical(operation: str) -> Callable:
    def lowered(folder, equation, *operands):
        if _dtype(_out(equation)[1]) != "bool":
            raise NotPortable("bits of integers")
        return folder.add(operation, operands, *_out(equation))

    return lowered


def _same(folder, equation, x):
    return x


def _reshape(folder, equation, x):
    return folder.add("reshape", [x], *_out(equation))


def _broadcast(folder, equation, x):
    shape, dtype = _out(equation)
    spread = _spread(x.shape, equation.params["broadcast_dimensions"], len(shape))
    return folder.add("broadcast", [folder.add("reshape", [x], spread, dtype)], shape, dtype)


def _select(folder, equation, which, *cases):
    """Chooses case 0 or 1, or False and True, of a known number or element by element."""
    if len(cases) > 2:
        raise NotPortable(f"a choice of {len(cases)} cases")
    if not isinstance(which, Value) and np.size(which) and np.all(np.asarray(which) == np.ravel(which)[0]):
        return cases[int(np.ravel(which)[0])]
    return folder.add("where", [which, cases[1], cases[0]], *_out(equation))


def _clamp(folder, equation, low, x, high):
    return folder.add("min", [folder.add("max", [x, low], *_out(equation)), high], *_out(equation))


def _cast(folder, equation, x):
    shape, dtype = _out(equation)
    return x if _dtype(dtype) == x.dtype else folder.add("cast", [x], shape, dtype)


def _round(folder, equation, x):
    if equation.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise NotPortable("rounding of halves away from 0")
    return folder.add("round", [x], *_out(equation))


def _erfc(folder, equation, x):
    return folder.add("sub", [np.float32(1), folder.add("erf", [x], *_out(equation))], *_out(equation))


def _integer_pow(folder, equation, x):
    """Products; the reciprocal of one for a negative exponent."""
    power, out = equation.params["y"], _out(equation)
    made = x
    for _ in range(abs(power) - 1):
        made = folder.add("mul", [made, x], *out)
    if power == 0:
        return np.ones(*out)
    return made if power > 0 else folder.add("div", [np.float32(1), made], *out)


def _square(folder, equation, x):
    return folder.add("mul", [x, x], *_out(equation))


def _transpose(folder, equation, x):
    return folder.add("transpose", [x], *_out(equation), axes=tuple(map(int, equation.params["permutation"])))


def _concatenate(folder, equation, *operands):
    filled = [x for x in operands if 0 not in _shape(x)]
    if len(filled) == 1:
        return filled[0]
    return folder.add("concatenate", filled, *_out(equation), axis=int(equation.params["dimension"]))


def _slice(folder, equation, x):
    params = equation.params
    steps = params["strides"] or (1,) * len(x.shape)
    return folder.add(
        "slice", [x], *_out(equation), start=params["start_indices"], stop=params["limit_indices"], step=tuple(steps)
    )


def _split(folder, equation, x):
    axis, start, parts = equation.params["axis"], 0, []
    for outvar, size in zip(equation.outvars, equation.params["sizes"], strict=True):
        parts.append(_part(folder, x, axis, start, size, outvar.aval.dtype))
        start += size
    return parts


def _unstack(folder, equation, x):
    """Parts of length 1 along an axis, without it."""
    axis = equation.params["axis"]
    aval = equation.outvars[0].aval
    parts = [_part(folder, x, axis, n, 1, aval.dtype) for n in range(x.shape[axis])]
    return [folder.add("reshape", [part], aval.shape, aval.dtype) for part in parts]


def _stack(folder, equation, *operands):
    shape, dtype = _out(equation)
    axis = equation.params["axis"]
    each = (*shape[:axis], 1, *shape[axis + 1 :])
    rows = [folder.add("reshape", [folder.operand(x)], each, dtype) for x in operands]
    return folder.add("concatenate", rows, shape, dtype, axis=axis)


def _part(folder, x, axis, start, size, dtype):
    first, last = [0] * len(x.shape), list(x.shape)
    first[axis], last[axis] = start, start + size
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    steps = (1,) * len(shape)
    return folder.add("slice", [x], shape, dtype, start=tuple(first), stop=tuple(last), step=steps)


def _dynamic_slice(folder, equation, x, *starts):
    if not isinstance(x, Value) or any(isinstance(start, Value) for start in starts):
        raise NotPortable("a slice at a computed place")
    sizes = equation.params["slice_sizes"]
    first = [min(max(int(a), 0), n - k) for a, n, k in zip(starts, x.shape, sizes, strict=True)]
    last = tuple(a + k for a, k in zip(first, sizes, strict=True))
    return folder.add("slice", [x], *_out(equation), start=tuple(first), stop=last, step=(1,) * len(last))


def _pad(folder, equation, x, value):
    config = equation.params["padding_config"]
    if isinstance(value, Value) or not np.isfinite(value) or any(inner for *_, inner in config):
        raise NotPortable("padding between elements, or of no finite value")
    if any(low < 0 or high < 0 for low, high, _ in config):  # first crop
        start = tuple(max(-low, 0) for low, _, _ in config)
        stop = tuple(n - max(-high, 0) for n, (_, high, _) in zip(x.shape, config, strict=True))
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        x = folder.add("slice", [x], shape, _out(equation)[1], start=start, stop=stop, step=(1,) * len(shape))
    if x.shape == tuple(_out(equation)[0]):
        return x
    low, high = (tuple(max(each[side], 0) for each in config) for side in (0, 1))
    return folder.add("pad", [x], *_out(equation), low=low, high=high, value=np.asarray(value).item())


def _flip(folder, equation, x):
    return folder.add("flip", [x], *_out(equation), axes=tuple(equation.params["dimensions"]))


def _reduced(operation: str) -> Callable:
    return lambda folder, equation, x: folder.add(
        operation, [x], *_out(equation), axes=tuple(map(int, equation.params["axes"]))
    )


def _argmax(folder, equation, x):
    (axis,) = equation.params["axes"]
    return folder.add("argmax", [x], *_out(equation), axis=int(axis))


def _cumsum(folder, equation, x):
    if equation.params["reverse"]:
        raise NotPortable("sums from the end")
    return folder.add("cumsum", [x], *_out(equation), axis=int(equation.params["axis"]))


def _gather(folder, equation, x, indices):
    """Rows of an array by their numbers, as an embedding takes them."""
    numbers, sizes, shape = equation.params["dimension_numbers"], equation.params["slice_sizes"], _shape(x)
    out, dtype = _out(equation)
    rows = tuple(range(len(out) - len(shape) + 1, len(out)))
    plain = (numbers.offset_dims, numbers.collapsed_slice_dims, numbers.start_index_map) == (rows, (0,), (0,))
    if not plain or getattr(numbers, "operand_batching_dims", ()) or tuple(sizes) != (1, *shape[1:]):
        raise NotPortable("a gather other than of rows")
    if isinstance(indices, Value):
        indices = folder.add("reshape", [indices], indices.shape[:-1], np.int32)
    else:
        indices = np.asarray(indices)[..., 0]
    return folder.add("take", [x, indices], out, dtype)


def _dot_general(folder, equation, a, b):
    """Matrix products: batch axes first, then the free axes as one and the contracted ones as one."""
    (of_a, of_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    shape, dtype = _out(equation)
    batch = tuple(_shape(a)[axis] for axis in batch_a)
    contracted = int(np.prod([_shape(a)[axis] for axis in of_a], dtype=int))

    def matrix(x, leading, inner, inner_first):
        free = [axis for axis in range(len(_shape(x))) if axis not in (*leading, *inner)]
        axes = (*leading, *inner, *free) if inner_first else (*leading, *free, *inner)
        moved = tuple(_shape(x)[axis] for axis in axes)
        rest = int(np.prod([_shape(x)[axis] for axis in free], dtype=int))
        final = (*batch, contracted, rest) if inner_first else (*batch, rest, contracted)
        if not isinstance(x, Value):
            return folder.once((axes, final), [x], lambda: np.asarray(x).transpose(axes).reshape(final)), rest
        if axes != tuple(range(len(axes))):
            x = folder.add("transpose", [x], moved, dtype, axes=axes)
        return folder.add("reshape", [x], final, dtype), rest

    (a, m), (b, n) = matrix(a, batch_a, of_a, False), matrix(b, batch_b, of_b, True)
    return folder.add("reshape", [folder.add("matmul", [a, b], (*batch, m, n), dtype)], shape, dtype)


def _convolution(operation: str) -> Callable:
    """One of jaxgen's convolutions, whose operands have a leading axis of seeds."""

    def lowered(folder, equation, x, kernel):
        shape, dtype = _out(equation)
        geometry = equation.params["geometry"]
        if shape[0] != 1:
            raise NotPortable("convolutions of several seeds")
        x, kernel = (
            folder.add("reshape", [a], a.shape[1:], dtype)
            if isinstance(a, Value)
            else folder.once("first seed", [a], partial(_row, folder, a, 0))
            for a in (x, kernel)
        )
        params = {"strides": geometry.strides, "padding": geometry.padding}
        if operation == "conv_transpose":
            params["size"] = geometry.size
        made = folder.add(operation, [x, kernel], shape[1:], dtype, **params)
        return folder.add("reshape", [made], shape, dtype)

    return lowered


def _scan(folder, equation, *operands):
    """A loop, unrolled."""
    params = equation.params
    body, length = params["jaxpr"], params["length"]
    num_consts, num_carry = scan_counts(params)
    consts, carry = operands[:num_consts], list(operands[num_consts : num_consts + num_carry])
    stacked = operands[num_consts + num_carry :]
    rows: list[list[Any]] = [[] for _ in range(length)]
    for step in reversed(range(length)) if params["reverse"] else range(length):
        taken = [_row(folder, x, step) for x in stacked]
        results = folder.run(body.jaxpr, body.consts, [*consts, *carry, *taken])
        carry, rows[step] = results[: len(carry)], results[len(carry) :]
    outs = equation.outvars[len(carry) :]
    return [
        *carry,
        *(_stacked(folder, each, out.aval) for each, out in zip(zip(*rows, strict=True), outs, strict=True)),
    ]


def _row(folder, x, index):
    if not isinstance(x, Value):
        return np.asarray(x)[index]
    return folder.add("reshape", [_part(folder, x, 0, index, 1, x.dtype)], x.shape[1:], x.dtype)


def _stacked(folder, rows, aval):
    if not any(isinstance(x, Value) for x in rows):
        return np.stack(rows)
    rows = [folder.add("reshape", [folder.operand(x)], (1, *aval.shape[1:]), aval.dtype) for x in rows]
    return folder.add("concatenate", rows, aval.shape, aval.dtype, axis=0)


def _cond(folder, equation, which, *operands):
    if isinstance(which, Value):
        raise NotPortable("a branch that depends on the inputs")
    branches = equation.params["branches"]
    branch = branches[min(max(int(which), 0), len(branches) - 1)]
    return folder.run(branch.jaxpr, branch.consts, operands)


LOWERED: dict[str, Callable] = {
    **{name: _elementwise(name) for name in (*UNARY, *BINARY)},
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision"), _same),
    **{name: _logical(name) for name in ("and", "or", "not")},
    "add_any": _elementwise("add"),
    "round": _round,
    "broadcast_in_dim": _broadcast,
    "select_n": _select,
    "clamp": _clamp,
    "convert_element_type": _cast,
    "erfc": _erfc,
    "integer_pow": _integer_pow,
    "square": _square,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "unstack": _unstack,
    "stack": _stack,
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "rev": _flip,
    "reduce_sum": _reduced("sum"),
    "reduce_max": _reduced("maximum"),
    "reduce_min": _reduced("minimum"),
    "argmax": _argmax,
    "cumsum": _cumsum,
    "gather": _gather,
    "dot_general": _dot_general,
    "conv": _convolution("conv"),
    "conv_dx": _convolution("conv_transpose"),
    "scan": _scan,
    "cond": _cond,
}
"""Map from JAX's primitives, and those of jaxgen.nn.conv, to how they are written in OPERATIONS."""
