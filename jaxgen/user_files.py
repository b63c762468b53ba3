"""Python files of a user's own: models, experiments and extractors, which may import files beside them."""

import hashlib
import importlib.util
import sys
import sysconfig
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxgen.errors import UserError

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages, which may lie below a user's folder."""

STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
_ALONE = threading.RLock()  # held while a file is imported, since that changes the process's table of modules


class Loaded(NamedTuple):
    """A user's file as a module."""

    module: ModuleType
    imported: dict[str, Path]  # the files beside it, or in folders there, that it imports; by their relative path


_KNOWN: dict[str, tuple[dict[Path, bytes | None], Loaded]] = {}
"""Map from module name to the contents of its files when it was imported, and the module."""


def load_file(path: Path, kind: str) -> Loaded:
    """Imports a Python file of a `kind`, such as "model", once per process unless the file or its imports change.

    The file imports others from its folder. They are imported anew for each file: those of two folders may have the
    same names. An import within a function does not find them.

    Raises:
        UserError: the file cannot be imported.
    """
    place = path.parent.resolve() / path.name
    name = f"jaxgen_{kind}_{path.stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    with _ALONE:
        files, loaded = _KNOWN.get(name, ({}, None))
        if loaded is None or files != {file: _content(file) for file in files}:
            loaded = _loaded(path, name, spec)
            _KNOWN[name] = {file: _content(file) for file in (place, *loaded.imported.values())}, loaded
        return loaded


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _loaded(path: Path, name: str, spec: ModuleSpec) -> Loaded:
    folder = path.parent.resolve()
    others = {each: sys.modules.pop(each) for each in list(sys.modules) if _of_a_user(each, folder)}
    before = set(sys.modules)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and tyro look a class's module up by name
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file may have been written since the folder was read
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]  # checked above
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(folder))
        found = {each: file for each in set(sys.modules) - before - {name} if (file := _beside(each, folder))}
        for each in found:
            sys.modules[f"{name}.{each}"] = sys.modules.pop(each)
            _rename(sys.modules[f"{name}.{each}"], each, f"{name}.{each}")
        sys.modules.update({each: module for each, module in others.items() if each != name})
    files = [file for file in found.values() if file.suffix == ".py"]
    return Loaded(module, {file.relative_to(folder).as_posix(): file for file in files})


def _rename(space: ModuleType | type, old: str, new: str) -> None:
    """Renames the module of its classes: typing, inspect and tyro look a class's module up by name."""
    for each in list(vars(space).values()):
        if isinstance(each, type) and each.__module__ == old:
            line = vars(each).get("__firstlineno__")
            each.__module__ = new
            if line is not None:  # Python 3.13 forgets it with the module
                each.__firstlineno__ = line  # type: ignore[attr-defined]
            _rename(each, old, new)


def _own(name: str) -> Path | None:
    """The file of a module, or the folder of a package without __init__.py, unless installed, jaxgen's or Python's."""
    module = sys.modules[name]
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if place is None or name.partition(".")[0] in ("__main__", "jaxgen"):
        return None
    path = Path(place).resolve()
    if INSTALLED & set(path.parts) or path.is_relative_to(STANDARD) or path.suffix not in (".py", ""):
        return None
    return path


def _beside(name: str, folder: Path) -> Path | None:
    """The file of a module, if it is a user's own and lies below `folder`."""
    path = _own(name)
    return path if path and path.is_relative_to(folder) else None


def _of_a_user(name: str, folder: Path) -> bool:
    """True if a module is a user's own and a file below `folder` has its name."""
    top = folder / name.partition(".")[0]
    return (top.with_suffix(".py").exists() or top.is_dir()) and _own(name) is not None
