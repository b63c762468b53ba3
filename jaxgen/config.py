"""Builds frozen dataclasses from dicts and checks each field against its annotation."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from jaxgen.errors import UserError, did_you_mean


def configured(cls: type, values: dict[str, Any], what: str) -> Any:
    """A frozen dataclass from a dict of fields, each checked against its annotation.

    Raises:
        UserError: an unknown field (with the closest known one), or a value of another type.
    """
    fields = annotations(cls, what)
    if not isinstance(values, Mapping):
        raise UserError(f"{what}'s fields are given as a dict, not as {values!r}")
    for name, value in values.items():
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise UserError(f"{what} has no field {name!r}: {hint}it has {', '.join(sorted(fields))}")
        if not fits(value, fields[name]):
            raise UserError(f"{what}'s field {name} takes {words(fields[name])}, not {value!r}")
    return cls(**{name: _as(value, fields[name]) for name, value in values.items()})


def annotations(cls: type, what: str) -> dict[str, Any]:
    """Map from a dataclass's fields to their types. Raises UserError if it is none, or a type cannot be read."""
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{what}: Config is no dataclass")
    try:
        hints = typing.get_type_hints(cls)
    except Exception as error:  # an annotation that is a text can raise anything
        raise UserError(f"{what}: the annotations of {cls.__name__} cannot be read: {error}") from None
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def plain(config: Any, what: str) -> dict[str, Any]:
    """A dataclass as JSON holds it, from which `configured` makes an equal one.

    A Path is its text, an Enum's member its name, a dataclass a dict, and a tuple a list.

    Raises:
        UserError: a field holds what JSON cannot, such as a set, an array or a function.
    """
    fields = {}
    for name, value in ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config)):
        try:
            fields[name] = _plain(value)
        except TypeError:
            raise _unkept(what, name, value) from None
    back = configured(type(config), fields, what)
    for name in fields:
        value = getattr(config, name)
        try:
            kept = bool(getattr(back, name) == value) or value != value  # NaN
        except (TypeError, ValueError):  # of arrays
            kept = False
        if not kept:
            raise _unkept(what, name, value)
    return fields


def _unkept(what: str, name: str, value: Any) -> UserError:
    return UserError(
        f"{what}'s field {name} holds {' '.join(repr(value).split())[:100]}, which a run's config.json cannot keep: a "
        "field is of numbers, texts, paths, enums, or lists, tuples, dicts or dataclasses of them, as annotated"
    )


def named(value: Any) -> Any:
    """A value with names for enums' members and dicts for dataclasses: the same for a module that is loaded twice."""
    if isinstance(value, Enum):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: named(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: named(each) for key, each in value.items()}
    return tuple(map(named, value)) if type(value) in (list, tuple) else value


def _plain(value: Any) -> Any:
    value = named(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(each) for key, each in value.items()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(type(value).__name__)


def given(config: Any) -> list[str]:
    """The names of a dataclass's fields that are not at their defaults."""

    def default(field):
        return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()

    return [field.name for field in dataclasses.fields(config) if getattr(config, field.name) != default(field)]


def check_idle(config: Any, by: str, uses: Mapping[str, tuple[str, ...]]) -> None:
    """Raises UserError for a field that was set but has no effect, since it only applies with another choice.

    Args:
        config: a dataclass.
        by: the field that makes the choice.
        uses: map from choice to the fields that apply; a field listed for no choice applies to all.
    """
    for name in given(config):
        takers = [choice for choice, names in uses.items() if name in names]
        if takers and getattr(config, by) not in takers:
            option = f"--{by.replace('_', '-')} {' or '.join(takers)}"
            raise UserError(f"{name} only applies with {option} (you chose {getattr(config, by)})")


def fits(value: Any, hint: Any) -> bool:
    """True if a value is of an annotated type, or a list or text that JSON has in place of a tuple, Path or Enum."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return any(isinstance(value, type(each)) and value == each for each in arguments)  # an array equals no choice
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return len(value) == len(each) and all(map(fits, value, each))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if _is(hint, Enum) and isinstance(value, str):
        return value in hint.__members__
    if _is(hint, PurePath) and isinstance(value, str):
        return True
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return True  # its own fields are checked where it is made
    return hint is Any or isinstance(value, origin or hint)


def _as(value: Any, hint: Any) -> Any:
    """Converts what JSON spells differently: a list to a tuple, 1 to 1.0, a text to a Path or an Enum's member."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _as(value, next(argument for argument in arguments if fits(value, argument)))
    if origin is tuple:
        each = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return tuple(map(_as, value, each))
    if isinstance(value, list):
        return value if (origin or hint) is list else tuple(value)
    if _is(hint, Enum) and isinstance(value, str):
        return hint[value]
    if _is(hint, PurePath):
        return hint(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return configured(hint, dict(value), hint.__name__)
    return float(value) if hint is float else value


def _is(hint: Any, kind: type) -> bool:
    return isinstance(hint, type) and issubclass(hint, kind)


def words(hint: Any) -> str:
    """An annotated type in words."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("nothing" if one is type(None) else words(one) for one in typing.get_args(hint))
    if _is(hint, Enum):
        return " or ".join(hint.__members__)
    if typing.get_origin(hint) is Callable:
        return "a function"
    return hint.__name__ if isinstance(hint, type) else str(hint)
