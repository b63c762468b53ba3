"""Decoders that run in a page: the folded program of every seed, the run's own draws, and sliders of their latents."""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import models
from jaxgen.data import Dataset
from jaxgen.model import Condition, Model, Part, State
from jaxgen.pictures import latents
from jaxgen.portable.evaluated import evaluated
from jaxgen.portable.folded import NotPortable, Program, folded
from jaxgen.training.draws import decoded, stream_keys
from jaxgen.training.folder import Run
from jaxgen.training.plan import Plan, build

LARGEST = 3_000_000
"""Maximum size of a page in bytes: a mail carries it."""

SLOWEST = 500_000_000
"""Maximum number of multiplications of an image: about a second on a phone."""

CLOSE = 1e-3
"""Difference from JAX's images in [0, 1] from which on weights are float32; a level of 8 bits is 4e-3."""

SMALL = 256
"""Number of elements below which a constant is float32 in any case: biases and scales need few bytes."""

DRAWS, CHECKED, SLIDERS, CAPTIONS = 32, 2, 8, 6
"""Numbers of draws of a seed, of those that the page compares with JAX, of sliders, and of captions to choose from."""

TRIED, TESTED = 4, 1000
"""Draws around which latents are moved, and test examples that are encoded, to find the active ones."""

STREAM = 2**20 + 1
"""Stream of the draws' keys, another than those of `jaxgen sample`."""


class NotLive(Exception):  # noqa: N818
    """A model that a page cannot run; the message is the reason, as a clause about the model."""


class Choice(NamedTuple):
    """A condition that the page offers: a class or a caption."""

    name: str
    condition: Condition  # entries [1, ...]


def choices(model: Model, dataset: Dataset) -> list[Choice]:
    """The classes, or the first distinct captions of the test images; one without a name if there is no condition."""
    if "label" in model.conditions:
        names = dataset.classes or tuple(map(str, range(dataset.spec.num_classes)))
        return [Choice(name, {"label": np.array([label], np.int32)}) for label, name in enumerate(names)]
    if "caption" in model.conditions:
        captions = np.asarray(dataset.test["caption"])
        first = np.sort(np.unique(captions, axis=0, return_index=True)[1])[:CAPTIONS]
        names = dataset.vocabulary.decode(captions[first])
        return [Choice(name, {"caption": captions[row][None]}) for name, row in zip(names, first, strict=True)]
    return [Choice("", {})]


def seed_names(run: Run) -> list[str]:
    """Names of the run's seeds; a diverged one has the parameters from before that step."""
    return [f"seed {seed}" + (" (diverged)" if seed in run.diverged else "") for seed in run.plan.settings.seeds]


def text_of(array: np.ndarray) -> str:
    """Bytes of an array as base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def live(run: Run) -> dict[str, Any]:
    """Content of a page that runs the run's decoders, as plain values.

    Raises:
        NotLive: the page cannot run them, or would be too large or too slow.
    """
    plan = run.plan
    model = _in_float32(plan)
    if model.latents is None:
        raise NotLive("it has no latents to move")
    if plan.dataset.spec.subject != "image":
        raise NotLive(f"it makes no images but {plan.dataset.spec.subject}es")
    draws = latents.drawn(model, stream_keys(run, STREAM), run.state, DRAWS)
    offered = choices(model, plan.dataset)
    decoders = [_decoder(model, run.state, place) for place in range(len(plan.settings.seeds))]
    programs = [_program(decode, _of(draws, 0, 0), offered[0].condition) for decode in decoders]
    program = programs[0]
    if any(other._replace(constants=()) != program._replace(constants=()) for other in programs):
        raise NotLive("its seeds have decoders of different steps")
    if program.products > SLOWEST:
        raise NotLive(f"its decoder takes {program.products / 1e6:,.0f} million multiplications an image")
    if (size := program.size * 8 // 3) > LARGEST:
        raise NotLive(f"its decoder has {program.size:,} numbers, {size / 1e6:.1f} MB in a page of at most 3")
    examined = [offered[n % len(offered)].condition for n in range(CHECKED)]
    wanted = [_images(decode, draws, place, examined) for place, decode in enumerate(decoders)]
    if not np.isfinite(wanted).all():
        raise NotLive("some of its images are not finite")
    for dtype in ("float16", "float32"):
        differences = [
            _difference(_rounded(each, dtype), draws, place, examined, wanted[place])
            for place, each in enumerate(programs)
        ]
        difference = float(np.max(differences))  # not a number if one of them is not
        if difference < CLOSE:
            break
    else:
        raise NotLive(f"its images differ from JAX's by {difference:.1e}")
    half = ["1" if dtype == "float16" and _is_large(constant) else "0" for constant in program.constants]
    dimensions = _active(run, model, draws, offered[0].condition)
    return {
        "kind": "live",
        "shape": plan.dataset.spec.image_shape,
        "program": _plain(program),
        "half": "".join(half),
        "dtype": dtype,
        "difference": difference,
        "numbers": program.size,
        "seeds": [
            {
                "name": name,
                "weights": _weights(programs[place], half),
                "draws": text_of(_flat(draws, place)),
                "dimensions": dimensions[place],
                "images": text_of(np.round(wanted[place] * 65535).astype(np.uint16)),
            }
            for place, name in enumerate(seed_names(run))
        ],
        "latents": _described(model, program, _of(draws, 0, 0)),
        "choices": [choice.name for choice in offered],
        "conditions": [
            np.concatenate([[], *map(np.ravel, c.condition.values())]).astype(int).tolist() for c in offered
        ],
        "labels": "label" in model.conditions,
        "caption": _words(plan.dataset) if "caption" in model.conditions else None,
    }


def _in_float32(plan: Plan) -> Model:
    """The run's model, computing in float32 as the page does."""
    if plan.settings.precision == "float32":
        return plan.model
    settings = dataclasses.replace(plan.settings, precision="float32")
    return build(models.load(plan.model_path), plan.config, plan.dataset, settings)


def _decoder(model: Model, state: State, place: int):
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf[place]), state)
    return lambda z, condition: model.latents.decode(own, z, condition)["image"]


def _program(decode, z, condition: Condition) -> Program:
    try:
        return folded(decode, z, condition)
    except NotPortable as error:
        raise NotLive(f"its decoder needs {error}") from None


def _of(draws, place: int, number: int):
    """One draw of one seed: leaves [1, ...]."""
    return jax.tree.map(lambda leaf: leaf[place, number : number + 1], draws)


def _flat(draws, place: int) -> np.ndarray:
    """A seed's draws, float32 [DRAWS, elements], in the order of the program's inputs."""
    return np.concatenate([np.float32(leaf[place]).reshape(DRAWS, -1) for leaf in jax.tree.leaves(draws)], axis=1)


def _images(decode, draws, place: int, conditions: Sequence[Condition]) -> np.ndarray:
    """JAX's images of a seed's first draws, clipped to [0, 1]: float64 [CHECKED, H, W, C]."""
    jitted = jax.jit(decode)
    made = [jitted(_of(draws, place, n), condition)[0] for n, condition in enumerate(conditions)]
    return np.clip(np.asarray(made, np.float64), 0, 1)


def _difference(program: Program, draws, place: int, conditions: Sequence[Condition], wanted: np.ndarray) -> float:
    """Largest difference of a program's images from `wanted`."""
    made = [
        evaluated(program, *jax.tree.leaves((_of(draws, place, n), condition)))[0]
        for n, condition in enumerate(conditions)
    ]
    return float(np.abs(np.clip(made, 0, 1) - wanted).max())


def _is_large(constant: np.ndarray) -> bool:
    return constant.size >= SMALL and constant.dtype == np.float32


def _rounded(program: Program, dtype: str) -> Program:
    """The program with its large constants rounded to `dtype`."""
    with np.errstate(over="ignore"):  # an infinite constant shows in the difference
        constants = [c.astype(dtype).astype(np.float32) if _is_large(c) else c for c in program.constants]
    return program._replace(constants=tuple(constants))


def _weights(program: Program, half: Sequence[str]) -> dict[str, str]:
    """The constants as two texts, of those in float32 and of those in float16."""
    parts = {
        name: [c.astype(dtype).ravel() for c, is_half in zip(program.constants, half, strict=True) if is_half == which]
        for name, which, dtype in (("full", "0", np.float32), ("half", "1", np.float16))
    }
    return {name: text_of(np.concatenate(part)) if part else "" for name, part in parts.items()}


def _plain(program: Program) -> dict[str, Any]:
    """The program as interpreter.js takes it."""
    constants = [(constant.shape, str(constant.dtype)) for constant in program.constants]
    results = [(each.result.shape, each.result.dtype) for each in program.equations]
    arrays = [*((x.shape, x.dtype) for x in program.inputs), *constants, *results]
    return {
        "inputs": len(program.inputs),
        "shapes": [shape for shape, _ in arrays],
        "kinds": "".join(dtype[0] for _, dtype in arrays),
        "equations": [
            [each.operation, [x.number for x in each.operands], dict(each.params)] for each in program.equations
        ],
        "output": program.output.number,
    }


# Latents


def _parts(model: Model, size: int) -> tuple[Part, ...]:
    prior = model.latents.prior
    return prior.parts or (Part("latent", size, "uniform" if prior.kind == "uniform" else "gaussian"),)


def _described(model: Model, program: Program, z) -> dict[str, Any]:
    """The latents: their parts, or their levels of codes."""
    kind = model.latents.prior.kind
    if kind == "discrete":
        named = z if isinstance(z, dict) else {"codes": z}
        if any(codes.ndim != 3 for codes in named.values()):
            raise NotLive("its codes are not maps of rows and columns")
        levels = [
            {"name": name, "shape": list(codes.shape[1:]), "codes": _num_codes(program, n)}
            for n, (name, codes) in enumerate(sorted(named.items()))
        ]
        return {"kind": kind, "parts": [], "levels": levels, "encodes": False}
    parts = [part._asdict() for part in _parts(model, int(np.prod(z.shape[1:])))]
    return {"kind": kind, "parts": parts, "encodes": model.latents.encode is not None}


def _num_codes(program: Program, level: int) -> int:
    """Number of codes of a level: the rows of the table that its map of codes is looked up in."""
    shape = program.inputs[level].shape
    for each in program.equations:
        if each.operation == "take" and each.operands[1].shape == shape:
            return each.operands[0].shape[0]
    raise NotLive("its decoder does not look codes up in a table")


def _active(run: Run, model: Model, draws, condition: Condition) -> list[list[dict[str, Any]]]:
    """Sliders of each seed: the latents that vary most over the test images or, without an encoder, change images most.

    Codes in parts with other names than noise come first.
    """
    kind = model.latents.prior.kind
    if kind == "discrete":
        return [[] for _ in run.plan.settings.seeds]
    if model.latents.encode:
        examples = {name: run.plan.dataset.test[name][:TESTED] for name in model.needs}
        orders = [latents.active_dimensions(codes) for codes in latents.encoded(model, run.state, examples)]
    else:
        orders = [np.argsort(-effect, kind="stable") for effect in _effects(run, model, draws, condition)]
    movable, start = {}, 0
    for part in _parts(model, orders[0].size):
        if part.kind in latents.RANGE:
            movable |= {start + n: (part, n) for n in range(part.size)}
        start += part.size
    found = []
    for order in orders:
        chosen = sorted((d for d in order.tolist() if d in movable), key=lambda d: movable[d][0].name == "noise")
        sliders = []
        for dimension in chosen[:SLIDERS]:
            part, number = movable[dimension]
            sliders.append({"dimension": dimension, "name": f"{part.name} {number}", "range": latents.RANGE[part.kind]})
        found.append(sliders)
    return found


def _effects(run: Run, model: Model, draws, condition: Condition) -> np.ndarray:
    """Mean change of a pixel when a latent moves through its range, around a few draws: [seeds, latents]."""
    codes = np.asarray(draws[:, :TRIED], np.float32)
    seeds, shape = len(codes), codes.shape[2:]
    size = int(np.prod(shape))
    moved = np.tile(codes.reshape(seeds, TRIED, 1, 1, size), (1, 1, size, 2, 1))
    reach = latents.RANGE["uniform"]
    moved[:, :, np.arange(size), 0, np.arange(size)] = -reach
    moved[:, :, np.arange(size), 1, np.arange(size)] = reach
    num = TRIED * size * 2
    given = {name: np.repeat(entry, num, axis=0) for name, entry in condition.items()}
    images = decoded(model, run.state, moved.reshape(seeds, num, *shape), given)
    images = images.reshape(seeds, TRIED, size, 2, -1).astype(np.float32)
    return np.abs(images[:, :, :, 1] - images[:, :, :, 0]).mean((1, 3))


def _words(dataset: Dataset) -> dict[str, Any]:
    return {"words": list(dataset.vocabulary.words), "length": dataset.spec.entries["caption"].shape[0]}
