"""Captions and labels of a folder's images, from the text files beside them.

captions.jsonl on top is one JSON object a line, with an image's path from the folder and its caption:

    {"file": "cat/1.png", "caption": "a cat on a mat"}

metadata.jsonl and metadata.csv, in any folder, follow Hugging Face's ImageFolder: `file_name`, the image's path
from the file's own folder, and `text` (or `caption`), `label`, or both. A label is a text or a whole number, and
replaces the class from the folder's name. Other columns are ignored, and named in the note. If one image has a caption
(or a label), every image needs exactly one.
"""

import csv
import io
import json
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.errors import UserError

CAPTIONS = "captions.jsonl"
METADATA = ("metadata.jsonl", "metadata.csv")

COLUMNS = {"caption": ("text", "caption"), "label": ("label",)}
"""Columns of the metadata files that hold captions and labels."""


class Told(NamedTuple):
    """Captions and labels by image; None if there are none."""

    captions: Mapping[str, str] | None
    labels: Mapping[str, str] | None
    words: str  # part of a note


def captions_and_labels(folder: Path, texts: Sequence[str], images: Sequence[str]) -> Told:
    """Captions and labels of the images from the files `texts`, all by their paths in the folder.

    Raises:
      UserError: a file cannot be read, or an image is not there, or has no caption or label or more than one.
    """
    known = {unicodedata.normalize("NFC", image): image for image in images} | {image: image for image in images}
    found: dict[str, dict[str, str]] = {"caption": {}, "label": {}}
    files: dict[str, list[Path]] = {"caption": [folder / CAPTIONS] if CAPTIONS in texts else [], "label": []}
    others = set()
    for text in sorted(texts):
        path = folder / text
        for where, row in _rows(path):
            name, columns, unread = (_own if text == CAPTIONS else _metadata)(row, where)
            others |= unread
            image = posixpath.normpath(posixpath.join(posixpath.dirname(text), name))
            image = known.get(image) or known.get(unicodedata.normalize("NFC", image), image)
            if image not in known:
                raise UserError(f"{where} is of no image: there is no image {image} in {folder}")
            for kind, value in columns.items():
                if image in found[kind]:
                    raise UserError(f"{where} is a second {kind} of {image}: an image has one")
                found[kind][image] = value
                files[kind].append(path)
    for kind, paths in files.items():
        if paths and (missing := [image for image in images if image not in found[kind]]):
            raise UserError(
                f"{paths[-1]} leaves {missing[0]} an image without {kind}: every image needs a line, or remove it"
            )
    named = " and ".join(f"{kind}s" for kind, paths in files.items() if paths)
    names = sorted({path.name for paths in files.values() for path in paths})
    words = f"{named} from {', '.join(names)}" if named else ""
    if others:
        words += f"{words and ', whose '}columns passed over: {', '.join(sorted(others))}"
    return Told(found["caption"] or None, found["label"] or None, words)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (the line's place for messages, its entries) of each line."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): make it readable, or remove it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    if path.suffix == ".csv":
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in lines:
                if None in row:
                    raise UserError(f"line {lines.line_num} of {path} has more columns than the first line names")
                yield f"line {lines.line_num} of {path}", row
        except csv.Error as error:
            raise UserError(f"line {lines.reader.line_num} of {path} is no CSV ({error})") from error
        return
    keys = ("file", "caption") if path.name == CAPTIONS else ("file_name", "text")
    example = json.dumps(dict(zip(keys, ("a.png", "a cat"), strict=True)))
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"line {number} of {path}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is no JSON: it has to be like {example}") from error
            yield where, row if isinstance(row, dict) else {}


def _own(row: dict[str, Any], where: str) -> tuple[str, dict[str, str], set[str]]:
    """Returns (the image's path, its caption, no ignored columns) of a line of captions.jsonl."""
    if not all(isinstance(row.get(key), str) for key in ("file", "caption")):
        raise UserError(f'{where} lacks a text "file" or "caption": it has to be an object with both')
    return row["file"], {"caption": row["caption"]}, set()


def _metadata(row: dict[str, Any], where: str) -> tuple[str, dict[str, str], set[str]]:
    """Returns (the image's path, its caption and label, the ignored columns) of a line of metadata."""
    if not isinstance(row.get("file_name"), str):
        raise UserError(f'{where} lacks a text "file_name", an image\'s path from the folder that the file is in')
    found = {}
    for kind, columns in COLUMNS.items():
        given = [column for column in columns if row.get(column) is not None]
        if len(given) > 1:
            raise UserError(
                f"{where} has both {' and '.join(given)}: an image has one {kind}, so leave one of them out"
            )
        value = row[given[0]] if given else None
        if kind == "label" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where} has a {given[0]} that is {json.dumps(value)[:40]}, no {kind} in words")
        if value or (value is not None and kind == "caption"):
            found[kind] = value
    return row["file_name"], found, set(row) - {"file_name", *COLUMNS["caption"], *COLUMNS["label"]}
