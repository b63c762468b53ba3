"""Hashes of the source files that a run's bits or a score depend on; used to invalidate results.

Only code that can change a number counts: the files in COMPUTING, without comments and docstrings. A changed help text
or progress bar invalidates nothing.
"""

import ast
import contextlib
import hashlib
import inspect
import io
import threading
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

import jaxgen

PACKAGE = Path(jaxgen.__file__).parent

COMPUTING = (
    "model.py",
    "compatibility.py",
    "likelihoods.py",
    "heads.py",
    "autoregressive.py",
    "deformation.py",
    "models/",
    "nn/",
    "adversarial/",
    "metrics/",
    "data/pipeline.py",
    "data/images.py",
    "training/engine.py",
    "training/feed.py",
    "evaluation/extractor.py",
    "evaluation/inception.py",
)
"""Files and folders of the package whose code can change a number."""


def sources(*modules: str) -> dict[str, str]:
    """Map from file to the sha256 (hex) of its code, for modules and all files in COMPUTING that they import.

    A module is a dotted name ("jaxgen.models.vae") or the path of a user's model file. Imports are parsed, not run, so
    those inside functions count too. Files are named like jaxgen/models/vae.py; the user's file is model.py, as in a
    run's folder.
    """
    waiting, found = [_file(module) for module in modules], {}
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path], imports = _read(path)
            waiting += filter(_computes, imports)
    return {_name(path): found[path] for path in sorted(found)}


def own_code(path: Path) -> str:
    """sha256 (hex) of the code of a user's file."""
    return _read(path)[0]


def code_digest(source: str) -> str:
    """The sha256 (hex) of Python code without its comments, docstrings and blank lines. Raises SyntaxError."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):  # of a module, function, constant or field
            lines[value.lineno - 1] = lines[value.lineno - 1][: value.col_offset]  # the text before it is ASCII
            lines[value.lineno : value.end_lineno] = [""] * (value.end_lineno - value.lineno)
    code = "\n".join(stripped for line in lines if (stripped := line.rstrip()))
    return hashlib.sha256(code.encode()).hexdigest()


def function_sources(function: Callable) -> dict[str, str]:
    """The sha256 (hex) of a function's code and constants, and of the files in COMPUTING that it takes names from."""
    assert isinstance(function, FunctionType)
    own, modules = hashlib.sha256(), set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        own.update(repr((code.co_code, code.co_names)).encode())
        nested = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        plain = [constant for constant in code.co_consts if constant not in nested and constant != function.__doc__]
        own.update(repr(plain).encode())
        waiting += nested
        for named in _named(code, function.__globals__):
            module = getattr(named, "__module__", None)
            if not isinstance(named, FunctionType | type):
                own.update(repr(named).encode())
            elif module.startswith("jaxgen.") and _computes(_file(module)):
                modules.add(module)
            elif isinstance(named, FunctionType) and module == function.__module__ and named is not function:
                own.update(repr(function_sources(named)).encode())
    return {"function": own.hexdigest(), **sources(*modules)}


def _named(code: CodeType, scope: dict[str, Any]) -> Iterator[Any]:
    """Yields functions, classes and constants that code names, from its own module or a jaxgen module that it names."""
    of_jaxgen = [each for name in code.co_names if isinstance(each := scope.get(name), ModuleType)]
    places = [scope, *(vars(module) for module in of_jaxgen if module.__name__.startswith("jaxgen."))]
    for name in code.co_names:
        for place in places:
            named = inspect.unwrap(place[name]) if callable(place.get(name)) else place.get(name)  # unwraps jax.jit
            if isinstance(named, FunctionType | type | int | float | str | tuple | np.ndarray):
                yield named


def _file(module: str) -> Path:
    if module.endswith(".py"):
        return Path(module)
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else "model.py"


def _computes(path: Path) -> bool:
    place = path.relative_to(PACKAGE).as_posix()
    return path.name != "__init__.py" and any(place == part or place.startswith(part) for part in COMPUTING)


PARSING = threading.Lock()
"""Held while code is parsed: Python 3.11's parser raises SystemError where two threads use it at once."""

TRIES = 5
"""Attempts to parse a file, since another library may parse in a thread of its own, without the lock."""


@cache
def _read(path: Path) -> tuple[str, list[Path]]:
    """The digest of a file's code, and the files of jaxgen that it imports."""
    source = path.read_text()
    with PARSING:
        for _ in range(TRIES - 1):
            with contextlib.suppress(SystemError):
                return _parsed(source)
        return _parsed(source)


def _parsed(source: str) -> tuple[str, list[Path]]:
    files = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "jaxgen":
            # in `from a import b`, b is a module or a name in a
            modules = [_file(f"{node.module}.{alias.name}") for alias in node.names]
            files += [file if file.is_file() else _file(node.module) for file in modules]
        elif isinstance(node, ast.Import):
            files += [_file(alias.name) for alias in node.names if alias.name.startswith("jaxgen.")]
    return code_digest(source), files
