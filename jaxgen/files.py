"""Files and folders that are written whole, and checked before the work whose result they are to hold."""

import contextlib
import errno
import filecmp
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxgen.errors import UserError


def expanded(path: str | Path) -> Path:
    """Path of --out or another option, with ~ as the home folder.

    Raises UserError for an empty path, and for the home of a user who is not known.
    """
    if not str(path):
        raise UserError("--out takes a path, not ''")
    found = Path(os.path.expanduser(path))  # Path.expanduser raises where there is no home
    if found.parts and found.parts[0].startswith("~") and not os.path.lexists(found.parts[0]):
        raise UserError(f"there is no home folder {found.parts[0]}; ./{path} is a path below the current folder")
    return found


def check_writable(path: Path) -> None:
    """Raises UserError if a file at `path`, a place for a result, could not be written. Leaves nothing behind."""
    if os.path.isdir(path):  # Path.is_dir raises where it may not look
        raise UserError(f"{path} is a folder; --out names a file")
    if os.path.exists(path) and not os.path.isfile(path):  # a device, which would be replaced
        raise UserError(f"{path} is no file; --out names one")
    above = next(each for each in Path(os.path.abspath(path)).parents if os.path.exists(each))
    try:
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        _part(above / path.name, b"").unlink()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --out") from None


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, in place of one that is there, whole or not at all."""
    part = _part(path, content)
    part.replace(path)


def write_new(path: Path, content: bytes) -> None:
    """Writes a file whole; raises UserError if a file with other content exists, even one just written."""
    part = _part(path, content)
    try:
        os.link(part, path)
    except FileExistsError:
        if path.read_bytes() != content:
            raise UserError(f"{path} exists with another content; choose another --out") from None
    except OSError:  # a file system without hard links
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes the one at `path` whole or, after an error, not at all.

    Raises UserError if something else exists, or a link; a folder with the same content is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        yield made
        if os.path.lexists(path):
            if _alike(path, made):
                return
            if path.is_symlink() or not path.is_dir() or any(path.iterdir()):
                raise UserError(f"{path} exists with another content; choose another --out")
            path.rmdir()
        made.rename(path)


def files_in(folder: Path) -> list[str]:
    """The relative paths of a folder's files, at any depth, sorted."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, at any depth, by their relative paths."""
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def _alike(one: Path, other: Path) -> bool:
    """True if two folders have the same files, by path and content."""
    names = files_in(one)
    return names == files_in(other) and not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


def _part(path: Path, content: bytes) -> Path:
    """Writes the content into a temporary file beside `path`, whose folder is made if missing, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part
