"""Fonts for words in pictures: Pillow's own, or one of the system's for letters that it lacks."""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import ImageFont

REGULAR = ("Regular", "Book", "Roman", "Normal", "Medium", "W3")
"""Styles of fonts that are preferred over italic and bold ones."""

NO_LETTER = "\uffff"
"""A code point that is no letter: fonts draw what stands for letters that they lack, usually a box."""


def lettering(words: str, size: int) -> tuple[str, Any]:
    """Returns (the words, a font of so many pixels that has their letters).

    A letter that no installed font has is escaped by its code point, in the font that has most of the others.
    """
    default = ImageFont.load_default(size)
    missing = _lacking(default, frozenset(words))
    if not missing:
        return words, default
    font = _installed(frozenset(words), size) or default
    missing = _lacking(font, frozenset(words))
    escaped = (letter.encode("unicode_escape").decode() if letter in missing else letter for letter in words)
    return "".join(escaped), font


def _lacking(font: Any, letters: frozenset[str]) -> frozenset[str]:
    """Letters that a font has no glyph for."""

    def drawn(letter: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(letter)
        return mask.size, bytes(mask)

    none = drawn(NO_LETTER)
    return frozenset(letter for letter in letters if not letter.isspace() and drawn(letter) == none)


@functools.cache
def _installed(letters: frozenset[str], size: int) -> Any:
    """The installed font that lacks fewest of the letters, a regular one if it can be; None without any font."""
    ranked = []
    for path in sorted(_files()):
        try:
            font = ImageFont.truetype(path, size)
            ranked.append((len(_lacking(font, letters)), font.getname()[1] not in REGULAR, path))
        except (OSError, ValueError):  # no font, or one of bitmaps in other sizes
            continue
        if ranked[-1][:2] == (0, False):  # none is better
            break
    return ImageFont.truetype(min(ranked)[2], size) if ranked else None


@functools.cache
def _files() -> tuple[str, ...]:
    """Paths of the installed fonts."""
    found = (path for folder in _folders() for path in sorted(folder.rglob("*")))
    return tuple(str(path) for path in found if path.suffix.lower() in (".ttf", ".otf", ".ttc"))


def _folders() -> Iterator[Path]:
    """Folders in which the platform keeps fonts."""
    home = Path(os.path.expanduser("~"))  # Path.home() raises where there is none
    if sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        shares = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        yield from (Path(share) / "fonts" for share in shares.split(":"))
        yield from (home / ".local/share/fonts", home / ".fonts")
