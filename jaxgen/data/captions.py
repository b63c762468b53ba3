"""Captions and labels of a folder's images, from the text files beside them.

captions.jsonl on top is one JSON object a line, with an image's path from the folder and its caption:

    {"file": "cat/1.png", "caption": "a cat on a mat"}

metadata.jsonl and metadata.csv, in any folder, follow Hugging Face's ImageFolder: `file_name`, the image's path
from the file's own folder, and `text` (or `caption`), `label`, or both. A label is a text or a whole number, and
replaces the class from the folder's name. Other columns are ignored, and named in the note. If one image has a label,
every image needs exactly one; if one has a caption, every image needs at least one. An image has several captions by
several lines, or by a list of them in one. In CSV files spaces around a label or a column's name do not count.
"""

import csv
import io
import json
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.errors import UserError

CAPTIONS = "captions.jsonl"
METADATA = ("metadata.jsonl", "metadata.csv")

COLUMNS = {"caption": ("text", "caption"), "label": ("label",)}
"""Columns of the metadata files that hold captions and labels."""


class Told(NamedTuple):
    """Captions and labels by image; None if there are none."""

    captions: Mapping[str, str | list[str]] | None  # a list if an image has several
    labels: Mapping[str, str] | None
    words: str  # part of a note


def captions_and_labels(folder: Path, texts: Sequence[str], images: Sequence[str]) -> Told:
    """Captions and labels of the images from the files `texts`, all by their paths in the folder.

    Raises:
      UserError: a file cannot be read, or an image is not there, or has no caption or label or more than one.
    """
    known = {unicodedata.normalize("NFC", image): image for image in images} | {image: image for image in images}
    found: dict[str, dict[str, list[str]]] = {"caption": {}, "label": {}}
    given_by: dict[tuple[str, str], str] = {}  # by kind and image, the file that has it
    files: dict[str, list[Path]] = {"caption": [folder / CAPTIONS] if CAPTIONS in texts else [], "label": []}
    others = set()
    for text in sorted(texts):
        path = folder / text
        rows = list(_rows(path))
        if not rows:
            raise UserError(f"{path} has no line about an image: fill it in, or remove it")
        for where, row in rows:
            name, columns, unread = (_own if text == CAPTIONS else _metadata)(row, where)
            others |= unread
            image = posixpath.normpath(posixpath.join(posixpath.dirname(text), name))
            image = known.get(image) or known.get(unicodedata.normalize("NFC", image), image)
            if image not in known:
                raise UserError(f"{where} is of no image: there is no image {image} in {folder}")
            for kind, values in columns.items():
                if kind == "label" and image in found[kind]:
                    raise UserError(f"{where} is a second label of {image}: an image has one")
                if (other := given_by.setdefault((kind, image), text)) != text:
                    raise UserError(f"{where} has captions of {image}, as {folder / other} has: keep them in one file")
                found[kind].setdefault(image, []).extend(values)
                files[kind].append(path)
    for kind, paths in files.items():
        if paths and (missing := [image for image in images if image not in found[kind]]):
            raise UserError(
                f"{paths[-1]} leaves {missing[0]} an image without {kind}: every image needs a line, or remove it"
            )
    named = " and ".join(f"{kind}s" for kind, paths in files.items() if paths)
    names = sorted({path.name for paths in files.values() for path in paths})
    words = f"{named} from {', '.join(names)}" if named else ""
    counts = [len(captions) for captions in found["caption"].values()]
    if max(counts, default=1) > 1:
        words += f" ({min(counts)} to {max(counts)} an image, of which each epoch of training draws one)"
    if others:
        words += f"{words and ', whose '}columns passed over: {', '.join(sorted(others))}"
    captions = {image: each if len(each) > 1 else each[0] for image, each in found["caption"].items()}
    return Told(captions or None, {image: label for image, (label,) in found["label"].items()} or None, words)


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
        yield from _csv_rows(path, text)
        return
    keys = ("file", "caption") if path.name == CAPTIONS else ("file_name", "text")
    example = json.dumps(dict(zip(keys, ("a.png", "a cat"), strict=True)))
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"line {number} of {path}"
            try:
                row = json.loads(line, object_pairs_hook=partial(_once, where))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is no JSON: it has to be like {example}") from error
            yield where, row if isinstance(row, dict) else {}


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (the line's place for messages, its entries) of each line after the first, which names the columns."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # else a column of polygons, say, is no CSV
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(lines, [])]
        if names and "file_name" not in names:
            raise UserError(
                f"the first line of {path} names the columns {', '.join(names)[:100]}: it has to name file_name and "
                "text or label, with commas between them"
            )
        twice = [name for name, count in Counter(names).items() if name and count > 1]
        if twice:
            raise UserError(f"the first line of {path} names {twice[0]} twice: leave one of them out")
        for values in lines:
            where = f"line {lines.line_num} of {path}"
            if len(values) > len(names):
                raise UserError(f"{where} has more columns than the first line names")
            if values:
                yield where, {name: value for name, value in zip(names, values, strict=False) if name}
    except csv.Error as error:
        raise UserError(f"line {lines.line_num} of {path} is no CSV ({error})") from error


def _once(where: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of the pairs; raises UserError if it would drop one."""
    entries = {}
    for name, value in pairs:
        if name in entries:
            raise UserError(f"{where} has {name} twice: leave one of them out")
        entries[name] = value
    return entries


def _texts(value: Any) -> list[str] | None:
    """The captions of an entry, a text or a list of texts; None for anything else."""
    values = value if isinstance(value, list) else [value]
    return values if values and all(isinstance(each, str) for each in values) else None


def _own(row: dict[str, Any], where: str) -> tuple[str, dict[str, list[str]], set[str]]:
    """Returns (the image's path, its captions, no ignored columns) of a line of captions.jsonl."""
    captions = _texts(row.get("caption"))
    if not isinstance(row.get("file"), str) or captions is None:
        raise UserError(f'{where} lacks a text "file" or "caption": it has to be an object with both')
    return row["file"], {"caption": captions}, set()


def _metadata(row: dict[str, Any], where: str) -> tuple[str, dict[str, list[str]], set[str]]:
    """Returns (the image's path, its captions and label, the ignored columns) of a line of metadata."""
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
        if kind == "label" and isinstance(value, str):
            value = value.strip()
        values = (_texts(value) if kind == "caption" else [value] * isinstance(value, str)) if given else []
        if given and not values:
            raise UserError(f"{where} has a {given[0]} that is {json.dumps(value)[:40]}, no {kind} in words")
        if values and (kind == "caption" or value):
            found[kind] = values
    return row["file_name"], found, set(row) - {"file_name", *COLUMNS["caption"], *COLUMNS["label"]}
