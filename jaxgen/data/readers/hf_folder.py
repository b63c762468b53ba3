"""`hf_folder`: images in the Parquet files of a Hugging Face dataset, decoded on access.

Columns are found by their types, as the `datasets` library writes them: images are structs with `bytes`, labels are
ClassLabels, whose names the file's metadata has. Plain columns are read if a word of their name tells what they hold,
by the words of `array`: whole numbers or texts as labels, texts or lists of texts as captions. The option `columns`
names the columns where there are several of a kind, or names do not tell. `jaxgen.data.readers.shards` finds the files
and their splits.

Labels and captions are held in memory. Images are read by row groups, of which the last two are held in memory.
"""

import contextlib
import functools
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.data.options import Options
from jaxgen.data.readers import shards
from jaxgen.data.readers.array import ENTRIES
from jaxgen.data.readers.image_folder import words_of
from jaxgen.data.readers.shards import Examples, ShardedImages
from jaxgen.data.source import BadExampleError, Source
from jaxgen.errors import UserError, suggest

SUFFIX = ".parquet"

MAGIC = b"PAR1"
"""First bytes of a Parquet file."""

ENTRY_NAMES = ("image", "label", "caption")

_ALONE = threading.Lock()  # held while a row group is read, so that threads do not read the same one


class Column(NamedTuple):
    """A column that is read."""

    name: str
    entry: str  # one of ENTRY_NAMES
    sure: bool  # whether its type alone tells the entry
    classes: tuple[str, ...] = ()  # of a ClassLabel


def identity(options: Options) -> str:
    """The sha256 (hex) of path, size and modification time of the files. Raises UserError if there are none."""
    return shards.identity(options, SUFFIX)


def read(options: Options) -> Source:
    """The images as records of image uint8 [H, W, C], and label and caption if there are any.

    Raises:
      UserError: there are no files, one is damaged, their columns do not tell what they hold or differ, a label or
        caption is missing, or pyarrow is not installed.
    """
    there = shards.found(options, SUFFIX)
    given, first = {}, None
    for split, files in there.splits.items():
        names, places, labels, captions = [], [], [], []
        for file in files:
            path = there.folder / file
            with _opened(path) as parquet:
                columns = _columns(path, parquet.schema_arrow, options.columns)
                first = first or (path, columns, [name for name in parquet.schema_arrow.names if name not in columns])
                if columns != first[1]:
                    raise UserError(f"{path} has other columns or classes than {first[0]}")
                sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
                rows = [(group, row) for group, size in enumerate(sizes) for row in range(size)]
                names += [f"{file}/{number}" for number in range(len(rows))]
                places += [(os.path.abspath(path), *row) for row in rows]
                for entry, values in (("label", labels), ("caption", captions)):
                    values += _values(path, parquet, columns, entry)
        if not names:
            raise UserError(f"{there.folder / files[0]} has no rows")
        given[split] = Examples(names, places, labels or None, captions or None)
    path, columns, unread = first
    of_entry = {column.entry: column for column in columns.values()}
    notes = [f"{entry}s from column {of_entry[entry].name}" for entry in ("label", "caption") if entry in of_entry]
    notes += [f"columns passed over: {', '.join(unread)}"] if unread else []
    classes = of_entry["label"].classes if "label" in of_entry else ()
    for split, examples in given.items():
        if classes and (wrong := sorted(set(examples.labels) - set(range(len(classes))))):
            others = " ".join(column.name for column in columns.values() if column.entry != "label")
            what = "-1, which is of no class" if wrong[0] == -1 else f"{wrong[0]}, of {len(classes)} classes"
            raise UserError(
                f"{options.data_folder} has the label {what}, for {split}: leave labels out, by --columns {others}, or "
                "those files, by a pattern"
            )
    records = functools.partial(_Rows, column=of_entry["image"].name)
    return shards.assembled(options, there, given, records, classes, ", ".join(notes))


@dataclass(frozen=True)
class _Rows(ShardedImages):
    """Records of the images in a column, each at (file, row group, row)."""

    column: str = ""

    def content(self, index: int) -> bytes:
        import pyarrow

        path, group, row = self.places[index]
        try:
            state = os.stat(path)
            with _ALONE:
                value = _group(path, state.st_size, state.st_mtime_ns, group, self.column)[row].as_py()
        except (OSError, pyarrow.ArrowException) as error:
            raise BadExampleError(f"cannot read {self.name(index)} ({_line(error)}): get the file again") from error
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            only = f", only the path {value['path']}" if value and value.get("path") else ""
            raise BadExampleError(f"{self.name(index)} holds no image{only}")
        return content

    def name(self, index: int) -> str:
        file, _, row = self.paths[index].rpartition("/")
        return f"row {row} of {os.path.join(self.folder, file)}"


@functools.lru_cache(maxsize=2)
def _group(path: str, size: int, modified: int, group: int, column: str) -> Any:
    """A row group's column of images, of the file of this size and modification time (ns)."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as parquet:
        return parquet.read_row_group(group, columns=[column]).column(0)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a Parquet file; raises UserError if it cannot be read, there or in the block."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError('Parquet files are read by pyarrow, which is missing: pip install "jaxgen[parquet]"') from None
    try:
        with open(path, "rb") as stream:
            shards.check_content(path, stream.read(512), MAGIC, "Parquet")
        with pyarrow.parquet.ParquetFile(path) as parquet:
            yield parquet
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} is damaged, cut short or cannot be read ({_line(error)}): get it again") from None


def _line(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]


def _columns(path: Path, schema: Any, chosen: tuple[str, ...] | None) -> dict[str, Column]:
    """The columns that are read, by name: one of images and at most one each of labels and captions."""
    features = _features(schema)
    every = {field.name: _column(field, features.get(field.name) or {}) for field in schema}
    told = [f"{field.name} ({_type_name(field, features.get(field.name) or {})})" for field in schema]
    if chosen:
        if unknown := [name for name in chosen if name not in every]:
            raise UserError(f"{path} has no column {unknown[0]!r}: {suggest(unknown[0], list(every))}")
        if unread := [name for name in chosen if every[name] is None]:
            of = told[list(every).index(unread[0])]
            raise UserError(f"column {of} of {path} holds no images, labels or captions")
        every = {name: every[name]._replace(sure=True) for name in chosen}
    found = {}
    for entry in ENTRY_NAMES:
        some = [column for column in every.values() if column and column.entry == entry]
        some = [column for column in some if column.sure] or [x for x in some if _by_name(x.name) == entry]
        if len(some) > 1:
            names = [column.name for column in some]
            raise UserError(
                f"{path} has several columns of {entry}s, {', '.join(names)}: name those to read, as in --columns "
                + " ".join([*found, names[0]])
            )
        found |= {column.name: column for column in some}
    if not any(column.entry == "image" for column in found.values()):
        raise UserError(f"{path} has no column of images to read; it has {', '.join(told)[:300]}")
    return found


def _features(schema: Any) -> dict[str, Any]:
    """The features of the `datasets` library by column, {} if the file has none."""
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    return {}


def _column(field: Any, feature: dict[str, Any]) -> Column | None:
    """The entry that a column can be by its type, and by its name where the type is of two; None if of none."""
    from pyarrow import types

    kind = feature.get("_type")
    plain = field.type.value_type if types.is_dictionary(field.type) else field.type
    several = types.is_list(plain) or types.is_large_list(plain)
    text = plain.value_type if several else plain
    is_text = types.is_string(text) or types.is_large_string(text)
    if kind == "Image" or (types.is_struct(plain) and plain.get_field_index("bytes") >= 0):
        return Column(field.name, "image", sure=True)
    if types.is_binary(plain) or types.is_large_binary(plain):
        return Column(field.name, "image", sure=not feature)
    if kind == "ClassLabel" and types.is_integer(plain):
        names = tuple(map(str, feature.get("names") or ()))
        if len(set(names)) < len(names):
            raise UserError(f"column {field.name} has several classes of one name, {max(names, key=names.count)!r}")
        return Column(field.name, "label", True, names)
    if types.is_integer(plain):
        return Column(field.name, "label", sure=False)
    if is_text:
        is_label = not several and _by_name(field.name) == "label"
        return Column(field.name, "label" if is_label else "caption", sure=False)
    return None


def _by_name(name: str) -> str:
    """The entry that a word of a column's name tells; "" if none does."""
    return next((ENTRIES[word] for word in words_of(name) if word in ENTRIES), "")


def _type_name(field: Any, feature: dict[str, Any]) -> str:
    kind = feature.get("_type")
    return kind if kind and kind != "Value" else str(field.type)


def _values(path: Path, parquet: Any, columns: dict[str, Column], entry: str) -> list[Any]:
    """The labels or captions of a file; [] if it has no such column."""
    names = [column.name for column in columns.values() if column.entry == entry]
    if not names:
        return []
    values = parquet.read(columns=names).column(0).to_pylist()
    none = ([], "") if entry == "label" else ([],)
    lacking = [
        row
        for row, value in enumerate(values)
        if value is None or value in none or (isinstance(value, list) and None in value)
    ]
    if lacking:
        raise UserError(f"row {lacking[0]} of {path} has no {entry} in column {names[0]}")
    return [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
