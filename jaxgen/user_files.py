"""Python files of a user's own: models, experiments and extractors, which may import files beside them."""

import hashlib
import importlib.util
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import machinery
from pathlib import Path
from types import CodeType, ModuleType
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
"""Map from module name to the contents of its files as they were executed, and the module."""

_EXECUTED: dict[Path, bytes] = {}
"""Map from file to its content, of the import that is under way."""


class _Source(machinery.SourceFileLoader):
    """Loader that compiles the file itself: Python's bytecode cache misses an edit of equal size within a second."""

    def get_code(self, fullname: str) -> CodeType:
        """Compiles the file as it is now."""
        content = self.get_data(self.path)
        _EXECUTED[Path(self.path).resolve()] = content
        return self.source_to_code(content, self.path)


@contextmanager
def _sources_below(folder: Path) -> Iterator[None]:
    """Imports files below `folder`, but for installed packages, by `_Source`; the folder is on the path."""
    loaders = (
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (_Source, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )

    def finder(path: str) -> machinery.FileFinder:
        place = Path(path).resolve()
        installed = bool(INSTALLED & set(place.parts)) or place.is_relative_to(STANDARD)
        if installed or not place.is_relative_to(folder) or not place.is_dir():
            raise ImportError(f"{path} is not a user's", path=path)
        return machinery.FileFinder(path, *loaders)

    finders = dict(sys.path_importer_cache)  # kept by path: none of them is used, and none made meanwhile is kept
    sys.path_importer_cache.clear()
    sys.path_hooks.insert(0, finder)
    sys.path.insert(0, str(folder))
    _EXECUTED.clear()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.path_hooks.remove(finder)
        sys.path_importer_cache.clear()
        sys.path_importer_cache.update(finders)


def load_file(path: Path, kind: str) -> Loaded:
    """Imports a Python file of a `kind`, such as "model", once per process unless the file or its imports change.

    The file imports others from its folder. They are imported anew for each file: those of two folders may have the
    same names. An import within a function does not find them.

    Raises:
        UserError: the file cannot be imported.
    """
    place = path.parent.resolve() / path.name
    name = f"jaxgen_{kind}_{path.stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    if path.suffix != ".py":
        raise UserError(f"{path} is no Python file")
    with _ALONE:
        files, loaded = _KNOWN.get(name, ({}, None))
        if loaded is None or files != {file: _content(file) for file in files}:
            loaded = _loaded(path, name)
            files = {file.resolve() for file in (place, *loaded.imported.values())}
            _KNOWN[name] = {file: _EXECUTED.get(file) for file in files}, loaded
        return loaded


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _loaded(path: Path, name: str) -> Loaded:
    folder = path.parent.resolve()
    tops = {each.partition(".")[0] for each in list(sys.modules)}
    tops = {top for top in tops if (folder / f"{top}.py").exists() or (folder / top).is_dir()}
    users = [each for each in list(sys.modules) if each.partition(".")[0] in tops and _own(each)]
    others = {each: sys.modules.pop(each) for each in users}
    earlier = {each: module for each, module in sys.modules.items() if each == name or each.startswith(f"{name}.")}
    before = set(sys.modules)
    loader = _Source(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path, loader=loader))
    sys.modules[name] = module  # dataclasses and tyro look a class's module up by name
    imported = False
    try:
        with _sources_below(folder):
            loader.exec_module(module)
        imported = True
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        found = {each: file for each in set(sys.modules) - before - {name} if (file := _beside(each, folder))}
        for each in found:
            sys.modules[f"{name}.{each}"] = sys.modules.pop(each)
            _rename(sys.modules[f"{name}.{each}"], each, f"{name}.{each}")
        sys.modules.update({each: module for each, module in others.items() if each != name})
        if not imported:  # what was imported before is still in use
            sys.modules.pop(name)
            sys.modules.update(earlier)
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
