"""Checks by abstract evaluation alone that a user's model keeps the contract of `jaxgen.model`."""

import traceback
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from jaxgen.config import fits, words
from jaxgen.errors import UserError
from jaxgen.model import Model, Spec, State
from jaxgen.training import engine, rows

FAST = lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))
"""The one layout of convolutions that XLA for CPUs runs fast wherever they stand (`jaxgen.nn.conv`)."""

NUM = 3
"""Number of samples drawn in the check."""


def check_contract(path: str, model: Model, spec: Spec, batch_size: int) -> None:
    """Raises UserError if a model breaks the contract, naming the field of `Model` and what it should return.

    Nothing is computed or compiled. path: the model's file, for the errors.
    """
    if not isinstance(model, Model):
        raise UserError(f"{path}: make must return a jaxgen.model.Model, not {type(model).__name__}")
    _check_fields(path, model)
    if not model.phases:
        raise UserError(f"{path}: phases must hold at least one Phase")
    names = [phase.name for phase in model.phases]
    if len({*names}) < len(names):
        raise UserError(f"{path}: each Phase needs a name of its own, not {', '.join(map(repr, names))}")
    missing = [entry for entry in model.needs if entry not in spec.entries]
    if missing:
        return  # reported by `plan.build`, which knows the dataset
    batch, key = engine.blank_batch(spec, model.needs, batch_size), jax.random.key(0)
    state = _traced(path, "init", model.init, key)
    _check_state(path, "init", state)
    for phase in model.phases:
        where = f"step of phase {phase.name!r}"
        given = _traced(path, where, phase.step, key, state, batch)
        if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)):
            raise UserError(f"{path}: {where} must return (state, metrics), metrics a dict, not {_kind(given)}")
        _check_state(path, where, given[0])
        _check_same(path, where, state, given[0])
        for name, metric in given[1].items():
            if not isinstance(name, str) or name.split() != [name] or name in rows.COLUMNS:
                none = ", ".join(rows.COLUMNS)
                raise UserError(f"{path}: {where}: a metric's name must be a text without spaces, and none of {none}")
            if not hasattr(metric, "shape") or metric.shape != ():
                shape = list(metric.shape) if hasattr(metric, "shape") else _kind(metric)
                raise UserError(f"{path}: {where}: metric {name!r} must be a scalar, not {shape}")
            if not any(jnp.issubdtype(metric.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
                raise UserError(f"{path}: {where}: metric {name!r} must be a real number, not {metric.dtype}")
    if model.sampler:
        conditions = engine.blank_batch(spec, model.sampler.conditions, NUM) if model.sampler.conditions else {}
        asked = {name: conditions[name] for name in model.sampler.conditions}
        draw = model.sampler.draw
        made = _traced(path, "sampler.draw", lambda k, s, a: draw(k, s, NUM, a), key, state, asked)
        _check_entries(path, "sampler.draw", made, spec, exact=True)
        if model.latents:
            sample = model.latents.prior.sample
            z = _traced(path, "latents.prior.sample", lambda k, s: sample(k, s, NUM), key, state)
            decoded = _traced(path, "latents.decode", model.latents.decode, state, z, asked)
            _check_entries(path, "latents.decode", decoded, spec, exact=False)
    if model.likelihood:
        density = _traced(path, "likelihood.log_prob", model.likelihood.log_prob, key, state, batch)
        if getattr(density, "shape", None) != (batch_size,):
            raise UserError(
                f"{path}: likelihood.log_prob must give one number an example, [batch], not {_kind(density)}"
            )
    for name, function in model.predict.items():
        logits = _traced(path, f"predict[{name!r}]", function, state, batch)
        if len(getattr(logits, "shape", ())) != 2 or logits.shape[0] != batch_size:
            raise UserError(f"{path}: predict[{name!r}] must give [batch, ...] logits, not {_kind(logits)}")
        if name == "label" and spec.num_classes not in (None, logits.shape[1]):
            raise UserError(f"{path}: predict['label'] must give {spec.num_classes} logits, not {logits.shape[1]}")


def slow_convolutions(model: Model, spec: Spec, batch_size: int) -> bool:
    """True if a step has two-dimensional convolutions in a layout for which XLA has only slow code on a CPU.

    Those are the gradients of JAX's own convolutions, such as `flax.linen.Conv` uses. Grouped ones do not count, as
    jaxgen has none.
    """
    batch, key = engine.blank_batch(spec, model.needs, batch_size), jax.random.key(0)
    state = jax.eval_shape(model.init, key)
    steps = (jax.make_jaxpr(phase.step)(key, state, batch) for phase in model.phases)
    return any(_is_slow(equation) for step in steps for equation in equations(step.jaxpr))


def _is_slow(equation: core.JaxprEqn) -> bool:
    given = equation.params
    if equation.primitive.name != "conv_general_dilated" or len(given["window_strides"]) != 2:
        return False
    grouped = given["feature_group_count"] > 1 or given["batch_group_count"] > 1
    return not grouped and given["dimension_numbers"] != FAST


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Equations of a jaxpr and of all jaxprs that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda part: hasattr(part, "eqns")):
            if isinstance(part, core.ClosedJaxpr | core.Jaxpr):
                yield from equations(getattr(part, "jaxpr", part))


def made(path: str, make: Callable, *given: Any) -> Model:
    """Calls a user's `make`. Its errors, except UserError and KeyError, become a UserError that names the line."""
    try:
        return make(*given)
    except (UserError, KeyError):  # the latter for an entry that the data do not have
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: make raised {_words(path, error)}") from error


def _traced(path: str, where: str, function: Callable, *given: Any) -> Any:
    """Shapes and dtypes that a function returns."""
    try:
        return jax.eval_shape(function, *given)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: {where} raised {_words(path, error)}") from error


def _words(path: str, error: BaseException) -> str:
    own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == Path(path).name]
    line = f" (line {own[-1].lineno})" if own else ""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}{line}{': ' + first[0][:200] if first else ''}"


def _check_fields(path: str, part: Any, where: str = "") -> None:
    """Checks the types of the fields of a model, and of the named tuples in them."""
    for name, hint in typing.get_type_hints(type(part)).items():
        value = getattr(part, name)
        if not fits(value, hint):
            shown = repr(value) if isinstance(value, str | int | float) else type(value).__name__
            raise UserError(f"{path}: {where}{name} must be {words(hint)}, not {shown}")
        for each in value if type(value) in (list, tuple) else (value,):
            if hasattr(each, "_fields") and type(each).__module__ == Model.__module__:
                _check_fields(path, each, f"{where}{name}.")


def _check_state(path: str, where: str, state: Any) -> None:
    if not isinstance(state, State):
        raise UserError(f"{path}: {where} must give a jaxgen.model.State, not {_kind(state)}")
    if (state.step.shape, state.step.dtype) != ((), jnp.int32):
        raise UserError(f"{path}: {where}: State.step must be an int32 scalar, not {_kind(state.step)}")


def _check_same(path: str, where: str, before: State, after: State) -> None:
    """Checks that a step keeps the state's structure, shapes and dtypes, since training repeats it."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise UserError(f"{path}: {where} must keep the structure of the state that init gives")
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (place, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise UserError(
                f"{path}: {where} changes state{jax.tree_util.keystr(place)} from {_kind(old)} to {_kind(new)}"
            )


def _check_entries(path: str, where: str, entries: Any, spec: Spec, *, exact: bool) -> None:
    """Checks that entries are the data's, with their shapes and, for samples (`exact`), their dtypes."""
    if not isinstance(entries, dict):
        raise UserError(f"{path}: {where} must give a dict of entries, such as image, not {_kind(entries)}")
    for name, entry in entries.items():
        if name not in spec.entries:
            raise UserError(f"{path}: {where} gives {name!r}, which is no entry of the data: {', '.join(spec.entries)}")
        wanted = spec.entries[name]
        if entry.shape != (NUM, *wanted.shape) or (exact and entry.dtype != wanted.dtype):
            kind = f"{wanted.dtype} " if exact else ""
            raise UserError(f"{path}: {where}: {name} must be {kind}{['num', *wanted.shape]}, not {_kind(entry)}")


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__
