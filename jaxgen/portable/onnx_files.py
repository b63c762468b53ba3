"""Decoders of a run as ONNX files: z to images, with the weights of a training seed.

The decoder is folded (`jaxgen.portable.folded`): everything that does not depend on z is a constant, and the equations
that are left are written by the table NODES.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.model import State
from jaxgen.portable import programs
from jaxgen.portable.extra import imported
from jaxgen.portable.folded import NotPortable, Program, Value, folded
from jaxgen.portable.weights import folder_of
from jaxgen.training.checkpoints import named
from jaxgen.training.plan import Plan

OPSET, IR = 18, 8
"""Versions of the operators and of the file's form, of 2022, so that older runtimes read it."""

CLOSE = {"float32": 1e-5, "bfloat16": 2e-2}
"""Largest difference from the run's own decoder, relative to its largest number if that is above 1, by the precision
of the run's layers; those of the ONNX file compute in float32."""


def check(plan: Plan) -> None:
    """Raises UserError if the model has no decoder, or a package is not installed."""
    if plan.model.latents is None:
        raise UserError(f"{plan.model_name} does not decode latents, so there is nothing of it in onnx")
    for package in ("onnx", "onnxruntime"):
        imported(package)


def names(described: dict[str, Any], plan: Plan) -> str:
    """Words on the files of an exported folder; "" if it has none."""
    if "onnx" not in described["formats"]:
        return ""
    return ", ".join(f"`{folder_of(seed)}/{_file(num)}`" for seed in described["seeds"] for num in programs.NUMBERS)


def save(folder: Path, plan: Plan, state: State, seed: int) -> None:
    """Writes the decoders of a seed's state into `folder`, and compares each to the run.

    Raises:
        UserError: the decoder needs an operation that is not in the table, or the file gives other images.
    """
    folder.mkdir(exist_ok=True)
    for num in programs.NUMBERS:
        decoder = programs.decoder(plan.model, plan.dataset.spec, num)
        content = written(_program(decoder, state, plan), list(named_inputs(decoder)))
        (folder / _file(num)).write_bytes(content)
        operands = programs.operands_for(decoder, plan, state, seed)
        found = run((folder / _file(num)).read_bytes(), named_inputs(decoder, operands))
        wanted = np.asarray(decoder.run(state, *operands), np.float32)
        most, largest = CLOSE[plan.settings.precision], max(1.0, float(np.abs(wanted).max()))
        if found.shape != wanted.shape or not np.abs(found - wanted).max() <= most * largest:
            raise UserError(f"{folder.name}/{_file(num)} differs from the run by more than {most:g}")


def _file(num: int) -> str:
    return f"decode-{num}.onnx"


def named_inputs(decoder: programs.Program, operands: Any = None) -> dict[str, Any]:
    """Map from an input's name to its shape or, of `operands`, its value: z, or z/NAME of several, label, caption."""
    z, *condition = decoder.operands if operands is None else operands
    return named({"z": z}) | {name: each for entries in condition for name, each in named(entries).items()}


def _program(decoder: programs.Program, state: State, plan: Plan) -> Program:
    try:
        return folded(lambda *operands: decoder.run(state, *operands), *decoder.operands)
    except NotPortable as error:
        raise UserError(f"{plan.model_name} cannot be written in onnx: its decoder needs {error}") from None


def written(program: Program, inputs: list[str]) -> bytes:
    """A program as the content of an ONNX file whose inputs have these names, and whose output is `decoded`."""
    return _Graph(program, inputs).content


def run(content: bytes, inputs: dict[str, Any]) -> np.ndarray:
    """Output of an ONNX file, by onnxruntime on the CPU."""
    runtime = imported("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(value) for name, value in inputs.items()})[0]


class _Graph:
    """Nodes and constants of a program, whose values are named after their numbers."""

    def __init__(self, program: Program, inputs: list[str]):
        self.onnx = imported("onnx")
        self.program, self.inputs = program, inputs
        self.nodes: list[Any] = []
        self.initial: dict[str, Any] = {}
        first = len(program.inputs)
        self.known = {first + place: constant for place, constant in enumerate(program.constants)}
        for equation in program.equations:
            NODES[equation.operation](self, equation, *map(self.name, equation.operands))
            self.nodes[-1].output[0] = self.name(equation.result)

    def name(self, value: Value) -> str:
        """Name of a value; a constant is added when it is first named."""
        if value.number < len(self.inputs):
            return self.inputs[value.number]
        if value.number in self.known:
            return self.constant(self.known[value.number], f"c{value.number}")
        return f"v{value.number}"

    def constant(self, array: Any, name: str | None = None) -> str:
        """Name of a constant, which is added unless it is there."""
        array = np.asarray(array, order="C")
        name = name or f"k{len(self.initial)}"
        if name not in self.initial:
            self.initial[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def integers(self, numbers: Any) -> str:
        """Name of a constant of shapes, axes or places."""
        return self.constant(np.asarray(numbers, np.int64))

    def node(self, operator: str, *operands: str, out: str | None = None, **attributes) -> str:
        """Adds a node; returns the name of its result."""
        out = out or f"n{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, operands, [out], **attributes))
        return out

    @cached_property
    def content(self) -> bytes:
        """The file."""
        helper = self.onnx.helper
        given = [self._described(name, value) for name, value in zip(self.inputs, self.program.inputs, strict=True)]
        result = self._described("decoded", self.program.output)
        self.node("Identity", self.name(self.program.output), out="decoded")
        graph = helper.make_graph(self.nodes, "decode", given, [result], list(self.initial.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        model.producer_name = "jaxgen"
        self.onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def _described(self, name: str, value: Value) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self.kind(value), value.shape)

    def kind(self, value: Value) -> int:
        """ONNX's number of a value's dtype."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))


# Operations as nodes: functions of (graph, equation, *names of the operands), whose last node is the result


def _plain(operator: str, **attributes) -> Callable:
    return lambda graph, equation, *operands: graph.node(operator, *operands, **attributes)


def _then(first: str, second: str) -> Callable:
    """One operator after another."""
    return lambda graph, equation, *operands: graph.node(second, graph.node(first, *operands))


def _log1p(graph, equation, x):
    return graph.node("Log", graph.node("Add", x, graph.constant(np.float32(1))))


def _expm1(graph, equation, x):
    return graph.node("Sub", graph.node("Exp", x), graph.constant(np.float32(1)))


def _cast(graph, equation, x):
    return graph.node("Cast", x, to=graph.kind(equation.result))


def _shaped(operator: str) -> Callable:
    return lambda graph, equation, x: graph.node(operator, x, graph.integers(equation.result.shape))


def _transpose(graph, equation, x):
    return graph.node("Transpose", x, perm=equation.params["axes"])


def _concatenate(graph, equation, *operands):
    return graph.node("Concat", *operands, axis=equation.params["axis"])


def _slice(graph, equation, x):
    start, stop, step = (equation.params[name] for name in ("start", "stop", "step"))
    return graph.node("Slice", x, *map(graph.integers, (start, stop, range(len(start)), step)))


def _flip(graph, equation, x):
    axes = equation.params["axes"]
    ends = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    return graph.node("Slice", x, *map(graph.integers, (*ends, axes, [-1] * len(axes))))


def _pad(graph, equation, x):
    low, high = equation.params["low"], equation.params["high"]
    value = graph.constant(np.asarray(equation.params["value"], equation.result.dtype))
    return graph.node("Pad", x, graph.integers([*low, *high]), value)


def _reduced(operator: str) -> Callable:
    return lambda graph, equation, x: graph.node(operator, x, graph.integers(equation.params["axes"]), keepdims=0)


def _argmax(graph, equation, x):
    first = graph.node("ArgMax", x, axis=equation.params["axis"], keepdims=0)
    return graph.node("Cast", first, to=graph.kind(equation.result))


def _cumsum(graph, equation, x):
    return graph.node("CumSum", x, graph.integers(equation.params["axis"]))


def _channels_first(graph, x):
    return graph.node("Transpose", x, perm=(0, 3, 1, 2))


def _channels_last(graph, x):
    return graph.node("Transpose", x, perm=(0, 2, 3, 1))


def _conv(graph, equation, x, kernel):
    (top, bottom), (left, right) = equation.params["padding"]
    weights = graph.node("Transpose", kernel, perm=(3, 2, 0, 1))
    how = {"strides": equation.params["strides"], "pads": (top, left, bottom, right)}
    return _channels_last(graph, graph.node("Conv", _channels_first(graph, x), weights, **how))


def _conv_transpose(graph, equation, x, kernel):
    """`output_padding` are rows and columns that no place of the kernel reached."""
    (top, bottom), (left, right) = equation.params["padding"]
    sizes = equation.params["size"], equation.operands[0].shape[1:3], equation.operands[1].shape[:2]
    beyond = [
        size - ((small - 1) * stride + side - sum(pads))
        for size, small, side, stride, pads in zip(
            *sizes, equation.params["strides"], equation.params["padding"], strict=True
        )
    ]
    weights = graph.node("Transpose", kernel, perm=(3, 2, 0, 1))
    how = {"strides": equation.params["strides"], "pads": (top, left, bottom, right), "output_padding": beyond}
    return _channels_last(graph, graph.node("ConvTranspose", _channels_first(graph, x), weights, **how))


SAME = ("add", "sub", "mul", "div", "max", "min", "pow", "and", "or", "not", "neg", "exp", "log", "tanh", "sqrt", "abs")
SAME += ("sign", "floor", "ceil", "round", "sin", "cos", "erf", "where")
"""Operations that are operators of the same name."""

NODES: dict[str, Callable] = {
    **{name: _plain(name.capitalize()) for name in SAME},
    "rem": _plain("Mod", fmod=1),
    "eq": _plain("Equal"),
    "ne": _then("Equal", "Not"),
    "lt": _plain("Less"),
    "le": _plain("LessOrEqual"),
    "gt": _plain("Greater"),
    "ge": _plain("GreaterOrEqual"),
    "logistic": _plain("Sigmoid"),
    "rsqrt": _then("Sqrt", "Reciprocal"),
    "log1p": _log1p,
    "expm1": _expm1,
    "cast": _cast,
    "reshape": _shaped("Reshape"),
    "broadcast": _shaped("Expand"),
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "flip": _flip,
    "pad": _pad,
    "sum": _reduced("ReduceSum"),
    "maximum": _reduced("ReduceMax"),
    "minimum": _reduced("ReduceMin"),
    "argmax": _argmax,
    "cumsum": _cumsum,
    "take": _plain("Gather", axis=0),
    "matmul": _plain("MatMul"),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
}
"""Map from the operations of folded programs to nodes."""
