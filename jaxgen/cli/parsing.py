"""Parses command-line arguments by tyro, and turns its errors into one line."""

import contextlib
import functools
import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxgen.errors import UserError
from jaxgen.files import expanded

KINDS = {
    "INT": "a whole number",
    "{None}|INT": "a whole number",
    "[INT": "whole numbers with spaces between them",
    "FLOAT": "a number",
    "PATH": "a path",
    "{None}|PATH": "a path",
    "{None}|FLOAT": "a number",
    "{None}|{{lowest,highest}": "lowest or highest, and a metric's name",
}
"""Map from tyro's name of an option's type to plain words."""


SYNONYMS = {
    "lr": "learning-rate",
    "rate": "learning-rate",
    "epoch": "steps",
    "iteration": "steps",
    "iter": "steps",
    "bs": "batch-size",
    "batch": "batch-size",
    "seed": "seeds",
    "data": "dataset",
    "data-dir": "data-from",
    "data-path": "data-from",
    "size": "image-size",
    "resolution": "image-size",
    "output": "out",
    "output-dir": "out",
    "nz": "latent-dim",
    "z-dim": "latent-dim",
    "latent": "latent-dim",
    "ngf": "features",
    "ndf": "features",
    "channel": "features",
    "width": "features",
    "dtype": "precision",
    "bf16": "precision",
    "fp16": "precision",
    "wd": "weight-decay",
    "ema": "average",
    "n-critic": "critic-steps",
    "metric": "metrics",
    "sample": "samples",
}
"""Names or last words of jaxgen's options by the names that other tools give them, without a plural's s."""


def hint(option: str, known: list[str]) -> str:
    """Suggestion of known options (without dashes) for one that does not exist; "" if none fits."""
    name = option.lstrip("-").partition("=")[0].replace("_", "-").lower()
    forms = [form for each in (name, name.removeprefix("num-")) for form in (each, each.removesuffix("s"))]
    target = next((SYNONYMS[form] for form in forms if form in SYNONYMS), None)
    alike = [target] if target in known else [each for each in known if target and each.endswith(f"-{target}")]
    meant = [f"--{each}" for each in alike]
    if not meant:
        return ""
    why = " (training is counted in steps, each of --batch-size examples)" if "epoch" in name else ""
    return f"did you mean {' or '.join(meant)}?{why}"


def _paths(info: Any) -> Any:
    """Tyro's rule for paths: ~ is the home folder, also in --out=~/x, and "" (an unset variable) is no path."""
    from tyro.constructors import PrimitiveConstructorSpec

    if info.type is not Path:
        return None

    def made(words: list[str]) -> Path:
        if not words[0]:
            raise ValueError("'' is empty")
        return expanded(words[0])

    return PrimitiveConstructorSpec(1, "PATH", made, lambda each: isinstance(each, Path), lambda each: [str(each)])


def parse(function: Callable, argv: list[str], prog: str) -> Any:
    """Calls `function` with the arguments parsed from `argv` by tyro. Raises tyro's errors as UserError of one line.

    The options of a parameter that is a dataclass have their own box in the help.
    """
    import tyro

    @functools.wraps(function)
    def bind(*args, **kwargs):
        return functools.partial(function, *args, **kwargs)

    # tyro keeps the line ends of an argument's help, which a terminal would wrap at its own
    function.__doc__ = re.sub(r"\n {8}", " ", inspect.cleandoc(function.__doc__ or ""))

    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_paths)
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    cli = functools.partial(tyro.cli, bind, prog=prog, config=config, registry=registry)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            call = cli(args=argv)
    except SystemExit as stopped:
        if not stopped.code:
            raise
        words = _first_words(printed.getvalue())
        unknown = [word for word in argv if word.startswith("--") and word in words.partition("options: ")[2]]
        known = _options(cli) if unknown else []
        hints = [f"unknown option {word}: {found}" for word in unknown if (found := hint(word, known))]
        raise UserError(hints[0] if hints else words) from None
    return call()


def _options(cli: Callable) -> list[str]:
    """The names of a command's options, without dashes, as its help lists them."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli(args=["--help"])
    # As it is no terminal, nothing but spaces stands before an option; on a wide one boxes stand side by side.
    return re.findall(r"(?:^|  )--([a-z][a-z0-9-]*)", printed.getvalue(), re.MULTILINE)


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
