"""Builds frozen dataclasses from dicts and checks each field against its annotation."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from jaxgen.errors import UserError


def configured(cls: type, values: dict[str, Any], what: str) -> Any:
    """A frozen dataclass from a dict of fields, each checked against its annotation.

    Raises:
        UserError: an unknown field (with the closest known one), or a value of another type.
    """
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{what}: Config is no dataclass")
    if not isinstance(values, Mapping):
        raise UserError(f"{what}'s fields are given as a dict, not as {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls)}
    for name, value in values.items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"{what} has no field {name!r}: {hint}it has {', '.join(sorted(fields))}")
        if not _fits(value, hints[name]):
            raise UserError(f"{what}'s field {name} takes {_words(hints[name])}, not {value!r}")
    return cls(**{name: _as(value, hints[name]) for name, value in values.items()})


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


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return len(value) == len(each) and all(map(_fits, value, each))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def _as(value: Any, hint: Any) -> Any:
    """Converts what JSON spells differently: a list to a tuple, 1 to 1.0."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if hint is float else value


def _words(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("nothing" if one is type(None) else _words(one) for one in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) else str(hint)
