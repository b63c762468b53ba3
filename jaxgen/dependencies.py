"""Of which of jaxgen's source files something is made, so that results of changed sources are made anew."""

import ast
import hashlib
from functools import cache
from pathlib import Path

import jaxgen

PACKAGE = Path(jaxgen.__file__).parent


def sources(*modules: str) -> dict[str, str]:
    """sha256 (hex) by file of modules of jaxgen ("jaxgen.models.vae") and of all of jaxgen that they import.

    A module may be the path of a model file of the user's own. Imports are read and not run, so those inside
    functions count too. Files are named as jaxgen/models/vae.py, the user's own model.py, as in a run's folder.
    """
    waiting, found = [_file(module) for module in modules], {}
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path], imports = _read(path)
            waiting += imports
    return {_name(path): found[path] for path in sorted(found)}


def _file(module: str) -> Path:
    if module.endswith(".py"):
        return Path(module)
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else "model.py"


@cache
def _read(path: Path) -> tuple[str, list[Path]]:
    """sha256 of a file, and the files of jaxgen that it imports."""
    content = path.read_bytes()
    files = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "jaxgen":
            # of `from a import b` b is a module, or something in a
            modules = [_file(f"{node.module}.{alias.name}") for alias in node.names]
            files += [file if file.is_file() else _file(node.module) for file in modules]
        elif isinstance(node, ast.Import):
            files += [_file(alias.name) for alias in node.names if alias.name.startswith("jaxgen.")]
    return hashlib.sha256(content).hexdigest(), files
