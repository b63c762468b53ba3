"""Parts of several commands: the first argument, the device of those that only read, printed digests and scores."""

import inspect
import os
from collections.abc import Callable
from typing import Any

from jaxgen.errors import UserError

NAME_FIRST = "{command} needs {what} first, as in `jaxgen {command} {example}`"


def positional(
    argv: list[str], command: str, what: str, example: str, explained: Callable | None = None
) -> tuple[str, list[str]]:
    """Returns (the first argument, the rest); the example is the argument of a --help without one.

    If the options depend on the argument, such a --help prints the docstring of the command, `explained`, and exits.
    """
    if argv and argv[0] in ("-h", "--help"):
        if explained is None:
            return example, argv
        print(f"usage: jaxgen {command} {example} [OPTIONS]\n\n{inspect.getdoc(explained) or ''}")
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        raise UserError(NAME_FIRST.format(command=command, what=what, example=example))
    return argv[0], argv[1:]


def use_cpu() -> None:
    """Chooses the CPU for a command that only reads, as a run may be using the accelerator."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.pop("JAX_PLATFORM_NAME", None)


def print_digests(run) -> None:
    """Prints a line per seed."""
    for seed, digest in run.digests().items():
        print(f"digest {seed} {digest}")


def print_scores(results: dict[str, Any], everything: bool = False) -> None:
    """Prints the tables of scores: the compact ones, or everything."""
    from rich.console import Console

    from jaxgen.cli.tables import classifiers_told, compact_tables, scores_tables

    console = Console()
    console.print(classifiers_told(results), end="")
    for table in (scores_tables if everything else compact_tables)(results, console):
        console.print(table)
