"""Samples and decoded latents of a run as arrays, for `Run.sample`, `Run.decode` and pictures."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import models
from jaxgen.data import Dataset
from jaxgen.data.vocabulary import tokenize
from jaxgen.errors import UserError, suggest
from jaxgen.model import SUBJECTS, Array, Condition, Key, Model, State
from jaxgen.nn.image import from_unit
from jaxgen.training import engine

if TYPE_CHECKING:
    from jaxgen.training.folder import Run

AT_ONCE = 256
"""Maximum number of a seed's images or codes processed at once."""

MOST = 1_000_000
"""Maximum number of samples and of --steps; more is a mistake."""

SAMPLES = 0
"""The stream of the keys of samples."""


def stream_keys(run: "Run", stream: int) -> Array:
    """One key per seed of a late fold of the sample stream, whose first folds are those of training's grids."""
    keys = engine.all_streams(run.plan.settings.seeds).sample
    return jax.vmap(late_fold, (0, None))(keys, stream)


def late_fold(key: Key, stream: int) -> Key:
    """A late fold of a seed's sample stream."""
    return jax.random.fold_in(key, 2**31 + stream)


def samples(run: "Run", num: Any, given: dict[str, Any]) -> np.ndarray:
    """Samples of every seed, as `Run.sample` describes them."""
    model, spec = run.plan.model, run.plan.dataset.spec
    _check_able(run, lambda model: model.sampler is not None, "cannot sample")
    asked, num = num, _whole(num)
    if num is None or not 1 <= num <= MOST:
        raise UserError(f"the number of samples must be a whole number from 1 to {MOST:,}, not {asked!r}")
    if "label" in model.conditions and "label" not in given:
        given = {**given, "label": _spread(np.arange(spec.num_classes), num)}
    condition = engine.alike(_condition(run, num, given), len(run.plan.settings.seeds))
    return engine.sampler(model)(stream_keys(run, SAMPLES), run.state, num, condition)[spec.subject]


def decoded_latents(run: "Run", z: Any, given: dict[str, Any]) -> np.ndarray:
    """Examples of latents, as `Run.decode` describes them."""
    model, num_seeds = run.plan.model, len(run.plan.settings.seeds)
    _check_able(run, lambda model: model.latents is not None, "does not decode latents")
    first = jax.tree.map(lambda leaf: leaf[0], run.state)
    like = jax.eval_shape(lambda state: model.latents.prior.sample(jax.random.key(0), state, 1), first)
    try:
        z = np.asarray(z) if isinstance(like, jax.ShapeDtypeStruct) else jax.tree.map(np.asarray, z)
    except ValueError as error:
        raise UserError(f"z is no array: {' '.join(str(error).split())[:200]}") from None
    codes = _of_each_seed(z, like, num_seeds)
    if codes is None:
        forms = [_form(like, ("num",)), _form(like, (str(num_seeds), "num"))]
        raise UserError(f"z of {run.plan.model_name} is {forms[0]}, or {forms[1]} of each seed, not {_form(z)}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(codes)):
        raise UserError("z has numbers that are not finite")
    num, num_codes = jax.tree.leaves(codes)[0].shape[1], model.latents.prior.num_codes
    for leaf in jax.tree.leaves(z) if num_codes else ():
        if (wrong := leaf[(leaf < 0) | (leaf >= num_codes)]).size:
            raise UserError(f"codes of {run.plan.model_name} are 0 to {num_codes - 1}, not {wrong[0]}")
    return decoded(model, run.state, codes, _condition(run, num, given))


def decoded(model: Model, state: State, codes: Any, condition: Condition) -> np.ndarray:
    """Examples decoded from codes.

    Args:
        model: a model that decodes.
        state: the model's, [seeds, ...].
        codes: arrays [seeds, num, ...], as the model's prior draws them.
        condition: entries [num, ...], the same for all seeds; empty if the model is not conditional.

    Returns:
        Images uint8 [seeds, num, H, W, C], points float32 [seeds, num, 2] or meshes float32 [seeds, num, V, 3].
    """

    def part_of(tree, start, axis):
        index = (slice(None),) * axis + (slice(start, start + AT_ONCE),)
        return jax.tree.map(lambda leaf: jnp.float32(leaf[index]) if leaf.dtype.kind == "f" else leaf[index], tree)

    decode, num = engine.over_seeds(_decoder(model.latents.decode), (0, 0, None)), jax.tree.leaves(codes)[0].shape[1]
    parts = [
        jax.device_get(decode(state, part_of(codes, start, 1), part_of(dict(condition), start, 0)))
        for start in range(0, num, AT_ONCE)
    ]
    return np.concatenate(parts, axis=1)


def example(decode: Callable, state: State, codes: Any, condition: Condition) -> Array:
    """Images uint8 [num, H, W, C], points float32 [num, 2] or meshes float32 [num, V, 3] of codes, for one seed."""
    entries = decode(state, codes, condition)
    return from_unit(entries["image"]) if "image" in entries else next(entries[x] for x in SUBJECTS if x in entries)


@engine.kept  # the same one again for the same model, so that `engine.over_seeds` has its program
def _decoder(decode: Callable) -> Callable:
    return partial(example, decode)


def caption_tokens(dataset: Dataset, captions: Sequence[str]) -> np.ndarray:
    """Words of captions as the dataset's ids, int32 [captions, words]; raises UserError for one without known words."""
    for caption in captions:
        if set(dataset.vocabulary.unknown(caption)) == set(tokenize(caption)):
            known = ", ".join(dataset.vocabulary.words[:10])
            raise UserError(f"caption {caption!r} has no word of the run's captions, such as {known}")
    return dataset.vocabulary.encode(captions, dataset.spec.entries["caption"].shape[0])


def _check_able(run: "Run", able: Callable[[Model], bool], words: str) -> None:
    if not able(run.plan.model):
        others = ", ".join(models.that_can(able, run.plan.dataset.spec)) or "none"
        raise UserError(f"{run.plan.model_name} {words}; models that can: {others}")


def _spread(values: np.ndarray, num: int) -> np.ndarray:
    """`num` values, in order, as many of each as there can be."""
    return values[np.arange(num) * len(values) // num]


def _condition(run: "Run", num: int, given: dict[str, Any]) -> dict[str, np.ndarray]:
    """The condition's entries [num, ...]; raises UserError for what the model is not given, or what is missing."""
    name, takes, dataset = run.plan.model_name, run.plan.model.conditions, run.plan.dataset
    if unknown := [each for each in given if each not in takes]:
        raise UserError(f"{name} is given {' and '.join(takes) or 'nothing'}, not {unknown[0]}")
    if missing := [each for each in takes if each not in given]:
        example = {"label": "label=0", "caption": "caption='a red circle'"}.get(missing[0], missing[0])
        raise UserError(f"{name} is given {' and '.join(takes)}: name the {missing[0]}, as in {example}")
    found = {}
    for entry, value in given.items():
        values = np.asarray(value, object).reshape(-1).tolist()
        if not 0 < len(values) <= num:
            raise UserError(f"{len(values)} {entry}s are given for {num}: give from 1 to {num}")
        found[entry] = _spread(_labels(dataset, values) if entry == "label" else _captions(dataset, values), num)
    return found


def _labels(dataset: Dataset, values: Sequence[Any]) -> np.ndarray:
    """Labels by number or by the classes' names, int32."""
    found = []
    for value in values:
        if isinstance(value, str) and value not in dataset.classes:
            raise UserError(f"dataset {dataset.name} has no class {value!r}: {suggest(value, dataset.classes)}")
        label = dataset.classes.index(value) if isinstance(value, str) else _whole(value)
        if label is None or not 0 <= label < dataset.spec.num_classes:
            raise UserError(f"a label is a class or its number, 0 to {dataset.spec.num_classes - 1}, not {value!r}")
        found.append(label)
    return np.array(found, np.int32)


def _whole(value: Any) -> int | None:
    """An integer of Python, NumPy or JAX as an int; None if it is none."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _captions(dataset: Dataset, values: Sequence[Any]) -> np.ndarray:
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise UserError(f"a caption is a text, not {wrong[0]!r}")
    return caption_tokens(dataset, values)


def _of_each_seed(z: Any, like: Any, num_seeds: int) -> Any:
    """Codes [seeds, num, ...] of codes [num, ...], or of those of each seed; None if they are not like the prior's."""
    if jax.tree.structure(z) != jax.tree.structure(like):
        return None
    found = []
    for leaf, other in zip(jax.tree.leaves(z), jax.tree.leaves(like), strict=True):
        if leaf.ndim == other.ndim:
            leaf = np.broadcast_to(leaf, (num_seeds, *leaf.shape))
        kinds = "iu" if jnp.issubdtype(other.dtype, jnp.integer) else "fiu"
        if leaf.ndim != other.ndim + 1 or leaf.shape[2:] != other.shape[1:] or leaf.dtype.kind not in kinds:
            return None
        found.append(leaf.astype(other.dtype))
    if {leaf.shape[:2] for leaf in found} != {(num_seeds, found[0].shape[1])} or not found[0].shape[1]:
        return None
    return jax.tree.unflatten(jax.tree.structure(like), found)


def _form(tree: Any, axes: tuple[str, ...] = ()) -> str:
    """Dtypes and shapes in words; `axes` name the first, in place of a shape's own first one."""
    words = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shape = [*axes, *map(str, leaf.shape[1:] if axes else leaf.shape)]
        words.append(f"{jax.tree_util.keystr(path)} {leaf.dtype} [{', '.join(shape)}]".strip())
    return " and ".join(words)
