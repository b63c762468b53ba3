"""Parses command-line arguments by tyro, and turns its errors into one line."""

import contextlib
import functools
import io
import re
from collections.abc import Callable
from typing import Any

from jaxgen.errors import UserError

KINDS = {
    "INT": "a whole number",
    "{None}|INT": "a whole number",
    "[INT": "whole numbers with spaces between them",
    "FLOAT": "a number",
    "{None}|FLOAT": "a number",
    "{None}|{{lowest,highest}": "lowest or highest, and a metric's name",
}
"""Map from tyro's name of an option's type to plain words."""


def parse(function: Callable, argv: list[str], prog: str) -> Any:
    """Calls `function` with the arguments parsed from `argv` by tyro. Raises tyro's errors as UserError of one line."""
    import tyro

    @functools.wraps(function)
    def bind(*args, **kwargs):
        return functools.partial(function, *args, **kwargs)

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            call = tyro.cli(bind, prog=prog, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise UserError(_first_words(printed.getvalue())) from None
    return call()


def _first_words(box: str) -> str:
    """The first paragraph of tyro's boxed message, and its suggestion if there is one, as one line.

    The box is drawn with │ and ─ if stdout is UTF-8, else with dashes only, and is colored on a terminal.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│╭╮╰╯ ") for line in plain.splitlines()[1:]]
    paragraphs = " ".join("\n" if set(line) <= {"─", "-"} else line for line in lines).split("\n")
    words = [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()]
    wrong = re.match(r"Error parsing (--\S+): .*?(['\"].*?['\"])(?=[\]. ]).* helptext: \1 (\S+)", " ".join(words))
    if wrong and wrong[3] in KINDS:
        return f"{wrong[1]} takes {KINDS[wrong[3]]}, not {wrong[2]}"
    right = [part for part in words[1:] if part.startswith(("Perhaps you meant", "Argument helptext"))]
    return ". ".join([words[0], *right])
