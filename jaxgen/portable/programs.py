"""Samplers and decoders of a run as StableHLO, written by jax.export: they run on CPUs, GPUs and TPUs without jaxgen.

A program is a function of a training seed's weights (`jaxgen.portable.weights`), so that one serves all seeds and is
small, and of a fixed number of images:

sample-NUM    (weights, seed uint32 []) -> NUM samples. With a training seed's weights and the seed itself they are
              those of `jaxgen sample --num NUM` for it, given the same conditions in the same order, and up to the
              rounding of rare pixels if the run has several seeds; any other number gives others.
decode-NUM    (weights, z [NUM, ...]) -> what the model decodes from latents z: images in [0, 1].

A conditional model's programs take a dict of conditions as well: {"label": int32 [NUM]} or {"caption": int32 [NUM,
words]}.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.errors import UserError
from jaxgen.model import Condition, Key, Model, PyTree, Spec
from jaxgen.portable.extra import imported
from jaxgen.portable.weights import as_state
from jaxgen.training import draws, engine
from jaxgen.training.contract import equations
from jaxgen.training.plan import Plan

NUMBERS = (1, 64)
"""Numbers of images for which there are programs."""

PLATFORMS = ("cpu", "cuda", "tpu")

KNOWN_TO_XLA = ("LayoutConstraint",)
"""Custom calls that XLA's compiler removes itself: no library has to offer them where a program runs."""

NONE: Condition = MappingProxyType({})
"""The condition of a model that is not conditional."""

FOLDER, SUFFIX = "programs", ".jaxexport"


class Program(NamedTuple):
    """A function that is exported."""

    kind: str  # sample or decode
    num: int
    function: Callable  # (weights, *operands) -> array [num, ...]
    operands: tuple[PyTree, ...]  # shapes
    run: Callable  # (state, *operands) -> the same by the run's own program

    @property
    def file(self) -> str:
        """Path of the program's file in the exported folder."""
        return f"{FOLDER}/{self.kind}-{self.num}{SUFFIX}"


def programs(plan: Plan) -> list[Program]:
    """Programs of a run's model: its samplers, and its decoders if it has latents."""
    model, spec = plan.model, plan.dataset.spec
    made = [_sampler(model, spec, num) for num in NUMBERS if model.sampler]
    return made + [decoder(model, spec, num) for num in NUMBERS if model.latents]


def lacks(plan: Plan) -> str:
    """Words on why a model has no programs; "" if it has."""
    model, spec = plan.model, plan.dataset.spec
    if model.sampler is None:
        return "draws no samples"
    program = _sampler(model, spec, 1)
    given = jax.eval_shape(model.init, jax.random.key(0))
    called = jax.make_jaxpr(lambda state, *operands: program.run(state, *operands))(given, *program.operands)
    on_host = any(each.primitive.name.endswith("callback") for each in equations(called.jaxpr))
    return "draws with the help of Python on the host" if on_host else ""


def described(program: Program, plan: Plan) -> dict[str, Any]:
    """A program's arguments after the weights, its result, platforms and version, in export.json."""
    spec = plan.dataset.spec
    first, *condition = program.operands
    arguments = ["seed uint32 []"] if program.kind == "sample" else [_words("z", first)]
    arguments += [_words("", each) for each in condition]
    state = jax.eval_shape(plan.model.init, jax.random.key(0))
    result = jax.eval_shape(program.run, state, *program.operands)
    return {
        "arguments": arguments,
        "result": _words(spec.subject, result),
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
    }


def latents_words(plan: Plan) -> str:
    """Words on the latents of a model's decoders; "" if it has none."""
    latents = plan.model.latents
    if latents is None:
        return ""
    kinds = {
        "gaussian": "draws of N(0, 1)",
        "uniform": "uniform in (-1, 1)",
        "discrete": "integers, codes of the model",
    }
    if latents.prior.kind in kinds:
        return kinds[latents.prior.kind]
    parts = [f"{part.size} {part.kind} ({part.name})" for part in latents.prior.parts]
    return f"vectors of parts, in order: {', '.join(parts)}"


def _words(name: str, shapes: PyTree) -> str:
    """An argument in words: z float32 [64, 10], or {"label": int32 [64]}."""
    if isinstance(shapes, Mapping):
        inner = ", ".join(f'"{each}": {_words("", shape)}' for each, shape in shapes.items())
        return f"{name} {{{inner}}}".strip()
    return f"{name} {shapes.dtype} {list(shapes.shape)}".strip()


def sampling_key(seed: Any) -> Key:
    """Key of a seed's samples, as `jaxgen sample` draws them."""
    own = draws.late_fold(engine.streams(seed).sample, draws.SAMPLES)
    return jax.random.fold_in(own, 0)  # of the first part in `engine.sample_parts`


def condition_shapes(model: Model, spec: Spec, num: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the conditions of `num` images; none if the model is not conditional."""
    entries = {name: spec.entries[name] for name in model.conditions}
    return {name: jax.ShapeDtypeStruct((num, *entry.shape), entry.dtype) for name, entry in entries.items()}


def latents_shapes(model: Model, num: int) -> PyTree:
    """Shapes of `num` latents."""
    key = jax.random.key(0)
    return jax.eval_shape(lambda: model.latents.prior.sample(key, model.init(key), num))


def _sampler(model: Model, spec: Spec, num: int) -> Program:
    draw, given = engine.sample_program(model.sampler), condition_shapes(model, spec, num)

    def run(state, seed, condition=NONE):
        of_one = jax.tree.map(lambda leaf: leaf[None], (sampling_key(seed), state, dict(condition)))
        return draw(*of_one[:2], num, of_one[2])[spec.subject][0]

    def sample(weights, *operands):
        return run(as_state(model, weights), *operands)

    operands = (jax.ShapeDtypeStruct((), np.uint32), *([given] if given else []))
    return Program("sample", num, sample, operands, run)


def decoder(model: Model, spec: Spec, num: int) -> Program:
    """The decoder of `num` latents of a model that has latents."""
    given = condition_shapes(model, spec, num)

    @jax.jit
    def run(state, z, condition=NONE):
        return model.latents.decode(state, z, condition)[spec.subject]

    def decode(weights, *operands):
        return run(as_state(model, weights), *operands)

    return Program("decode", num, decode, (latents_shapes(model, num), *([given] if given else [])), run)


def operands_for(program: Program, plan: Plan, state: Any, seed: int) -> tuple[PyTree, ...]:
    """Operands with which a program is compared to the run: the seed or draws of the prior, and conditions in turn."""
    model, spec = plan.model, plan.dataset.spec
    if program.kind == "sample":
        first = np.uint32(seed)
    else:
        first = jax.device_get(model.latents.prior.sample(jax.random.key(seed), state, program.num))
    given = condition_shapes(model, spec, program.num)
    most = {"label": spec.num_classes, "caption": spec.num_words}
    turns = {
        name: np.arange(np.prod(each.shape), dtype=each.dtype).reshape(each.shape) % np.int32(most[name])
        for name, each in given.items()
    }
    return (first, *([turns] if turns else []))


def exported(program: Program, weights: Mapping[str, np.ndarray]) -> bytes:
    """A program as bytes that `jax.export.deserialize` reads; they have no paths of this machine.

    Raises:
        UserError: the program calls the host, or its code has no stable form.
    """
    imported("flatbuffers")
    from jax import export

    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)  # else every operation names its source file
    try:
        checks = [export.DisabledSafetyCheck.custom_call(name) for name in KNOWN_TO_XLA]
        of = export.export(jax.jit(program.function), platforms=PLATFORMS, disabled_checks=checks)
        made = of(shapes, *program.operands)
        return bytes(made.serialize())
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"{program.file} cannot be written: {' '.join(str(error).split())[:200]}") from None
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def check(content: bytes, program: Program, plan: Plan, weights: Mapping[str, np.ndarray], seed: int) -> None:
    """Raises UserError unless a written program gives the same bits as the run's own, for a seed's weights."""
    from jax import export

    state = as_state(plan.model, weights)
    operands = operands_for(program, plan, state, seed)
    made = np.asarray(export.deserialize(bytearray(content)).call(dict(weights), *operands))
    wanted = np.asarray(program.run(state, *operands))
    if made.dtype != wanted.dtype or made.tobytes() != wanted.tobytes():
        least = int((made != wanted).sum()) if made.shape == wanted.shape else made.size
        raise UserError(f"{program.file} differs from the run in {least:,} of {wanted.size:,} numbers of seed {seed}")
