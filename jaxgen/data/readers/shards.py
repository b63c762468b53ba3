"""Datasets in shards, files that hold many images each.

`--data-from` names a folder, in which the shards may lie at any depth, one shard, or a pattern such as 'shards/*.tar'.
A shard's name without its number (train of train-00003-of-00010, or of train/00003) tells its split, by the words of
`image_folder`. Shards of no split are left out if others have one; if none has, all are for training. A missing
validation or test split is taken from train, by a hash of the examples' names (`drawn_splits`).
"""

import glob
import hashlib
import itertools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.readers.array import labeled
from jaxgen.data.readers.image_folder import (
    SPLIT_FOLDERS,
    File,
    ImageFiles,
    counted,
    drawn_splits,
    natural,
    walk,
    words_of,
)
from jaxgen.data.source import SPLITS, Source, passed_over
from jaxgen.errors import UserError

NUMBER = re.compile(r"[-_.]?(?P<part>\d+)(-of-(?P<parts>\d+))?(-[0-9a-f]{16})?$")
"""The end of a shard's name before its suffix: its number, of how many, and a hash."""

HINTS = {
    ".parquet": "hf_folder reads Parquet files",
    ".tar": "webdataset reads tar files",
    ".arrow": "save the dataset as Parquet files, by its method to_parquet",
    ".gz": "unpack its .gz files",
    ".tgz": "unpack its .tgz files, and pack them as .tar",
    ".png": "image_folder reads image files",
    ".jpg": "image_folder reads image files",
}
"""Map from the suffix of files that lie in place of shards to advice."""

POINTER = b"version https://git-lfs"
"""First bytes of the file that Git LFS leaves in place of a large one."""


class Shards(NamedTuple):
    """The shards of a dataset."""

    folder: Path
    splits: dict[str, list[str]]  # paths below the folder, with /, of each split that there is
    told: bool  # whether names tell the splits; else all are of train
    left_out: str  # part of a note


class Examples(NamedTuple):
    """The examples of a split; labels and captions are None if there are none."""

    names: list[str]  # each of its own, SHARD/NAME
    places: list[Any]  # for the records
    labels: Sequence[int | str] | None = None
    captions: Sequence[str | list[str]] | None = None


@dataclass(frozen=True)
class ShardedImages(ImageFiles):
    """Records of the images within shards."""

    places: Sequence[Any] = ()


def identity(options: Options, suffix: str) -> str:
    """The sha256 (hex) of path, size and modification time of the shards, and of what else there is."""
    _, files, others = _files(options, suffix)
    lines = [f"{file.path}\0{file.size}\0{file.modified}\n" for file in files]
    return hashlib.sha256(os.fsencode("".join(lines) + passed_over(others))).hexdigest()


def found(options: Options, suffix: str) -> Shards:
    """The shards and their splits.

    Raises:
      UserError: there are none, or none for training; names of two kinds are of one split; one of a number is missing.
    """
    folder, files, others = _files(options, suffix)
    tags: dict[str, list[str]] = {}
    for file in files:
        tags.setdefault(NUMBER.sub("", file.path[: -len(suffix)]).strip("/"), []).append(file.path)
    split_of = {tag: _split_of(folder, tag) for tag in tags}
    told = any(split_of.values())
    splits: dict[str, list[str]] = {}
    for tag, paths in tags.items():
        split = split_of[tag] if told else "train"
        if split and os.path.isdir(options.data_folder):  # those that a pattern names are what is meant
            if told and split in splits:
                other = next(each for each in tags if split_of[each] == split)
                raise UserError(
                    f"{folder} holds {other} and {tag}, which are both for {split}: name one folder, or a pattern"
                )
            _check_whole(folder, tag, [path[: -len(suffix)] for path in paths])
        if split:
            splits.setdefault(split, []).extend(paths)
    if "train" not in splits:
        raise UserError(f"{folder} holds shards for {' and '.join(splits)}, and none for training")
    odd = [tag or "no name" for tag in tags if told and not split_of[tag]]
    notes = [f"shards of no split, left out: {', '.join(odd)}" if odd else "", passed_over(others)]
    return Shards(folder, {x: splits[x] for x in SPLITS if x in splits}, told, "; ".join(filter(None, notes)))


def _files(options: Options, suffix: str) -> tuple[Path, list[File], Counter[str]]:
    """Returns (the folder; the shards, in natural order; number of other files by suffix)."""
    named = options.data_folder
    if named is None:
        raise UserError(
            f"{options.dataset} needs a folder of {suffix} files: name it by --data-from FOLDER (--from in `jaxgen "
            "data`)"
        )
    try:
        if os.path.isdir(named):
            folder, files = named, list(walk(os.fspath(named), "", frozenset(), []))
        else:
            paths = [named] if os.path.isfile(named) else [Path(path) for path in glob.glob(os.fspath(named))]
            folder = Path(os.path.commonpath([path.parent for path in paths])) if paths else named
            states = [(path.relative_to(folder).as_posix(), path.stat()) for path in paths if os.path.isfile(path)]
            files = [File(path, state.st_size, state.st_mtime_ns) for path, state in states]
    except OSError as error:
        raise UserError(f"cannot read {error.filename} ({error.strerror}): make it readable") from error
    shards = sorted((file for file in files if file.path.lower().endswith(suffix)), key=lambda file: natural(file.path))
    others = Counter(posixpath.splitext(file.path)[1].lower() for file in set(files) - set(shards))
    if not files and not os.path.isdir(named):
        raise UserError(
            f"there is no folder or file {named}: --data-from (--from in `jaxgen data`) has to name {suffix} files"
        )
    if not shards:
        hints = [f": {HINTS[other]}" for other, _ in others.most_common() if other in HINTS]
        raise UserError(f"{named} holds no {suffix} file" + (hints[0] if hints else ""))
    return folder, shards, others


def _split_of(folder: Path, tag: str) -> str:
    """The split that a name without its number tells, by its last part that tells one; "" if none does."""
    for part in reversed(tag.split("/")):
        if splits := list(dict.fromkeys(SPLIT_FOLDERS[word] for word in words_of(part) if word in SPLIT_FOLDERS)):
            if len(splits) > 1:
                raise UserError(f"{folder / tag} is named after {' and '.join(splits)}: name it after one split")
            return splits[0]
    return ""


def _check_whole(folder: Path, tag: str, stems: list[str]) -> None:
    """Raises UserError unless numbered shards are all there: of as many as they say, or without a gap."""
    found = [match for stem in stems if (match := NUMBER.search(stem))]
    numbers = [(int(match["part"]), int(match["parts"])) for match in found if match["parts"]]
    if not numbers:
        there = sorted({int(match["part"]) for match in found})
        gaps = [low + 1 for low, high in itertools.pairwise(there) if high > low + 1]
        if gaps and there[0] in (0, 1):
            raise UserError(
                f"{folder} lacks number {gaps[0]} of the shards {tag or 'in it'}, which end with {there[-1]}: get it, "
                "or name those that there are by a pattern"
            )
        return
    totals, parts = {total for _, total in numbers}, {part for part, _ in numbers}
    if len(totals) > 1 or len(numbers) > len(parts) or len(numbers) < len(stems):
        raise UserError(f"{folder} holds shards of several versions of {tag}: leave one, or name one by a pattern")
    (total,) = totals
    missing = sorted(set(range(total)) - parts)
    if missing and parts != set(range(1, total + 1)):
        raise UserError(
            f"{folder} lacks {len(missing)} of the {total} shards of {tag}, number {missing[0]} first: get them, or "
            "name those that there are by a pattern"
        )


def check_content(path: Path, head: bytes, begins: bytes, what: str, place: int = 0) -> None:
    """Raises UserError for a file that does not hold `begins` at a place."""
    if head.startswith(POINTER):
        raise UserError(f"{path} is a Git LFS pointer: `git lfs pull` gets the file")
    if not head.startswith(begins, place):
        raise UserError(f"{path} is no {what} file: it is {'empty' if not head else 'of another format or damaged'}")


def assembled(
    options: Options,
    shards: Shards,
    given: dict[str, Examples],
    kind: Callable[..., ShardedImages],
    classes: tuple[str, ...] = (),
    note: str = "",
) -> Source:
    """The dataset of the examples of the splits that there are.

    Args:
      options: the dataset's.
      shards: as `found` gives them.
      given: the examples, by split.
      kind: makes the records.
      classes: names of the classes, if labels are their numbers; else they are found from the labels.
      note: where labels and captions come from.

    Raises:
      UserError: labels are no classes, or there are too few examples.
    """
    folder, where = shards.folder, options.data_folder
    labels = {}
    if given["train"].labels is not None:
        arrays = {split: {"label": np.asarray(examples.labels)} for split, examples in given.items()}
        arrays, names = labeled(where, arrays)
        labels, classes = {split: array["label"] for split, array in arrays.items()}, classes or names
    rows = {split: list(range(len(examples.names))) for split, examples in given.items()}
    how = "in splits that their names tell" if shards.told else "split about 80/10/10 by a hash of their names"
    if missing := [split for split in SPLITS if split not in given]:
        if shards.told:
            how += f", about a tenth of train for {' and another for '.join(missing)} by a hash of their names"
        names = given["train"].names
        position = {name: row for row, name in enumerate(names)}
        drawn = drawn_splits(where, names, missing, options.split_blocks or 1)
        rows |= {split: [position[name] for name in some] for split, some in drawn.items()}
        how += f" in blocks of {options.split_blocks}" if options.split_blocks else ""
    elif options.split_blocks:
        raise UserError(f"{where} has splits of its own, so split_blocks is not for it")
    splits = {}
    for split in SPLITS:
        source = split if split in given else "train"
        examples, some = given[source], rows[split]
        splits[split] = kind(
            folder=os.path.abspath(folder),
            paths=tuple(examples.names[row] for row in some),
            labels=None if examples.labels is None else tuple(labels[source][some].tolist()),
            captions=None if examples.captions is None else tuple(examples.captions[row] for row in some),
            max_pixels=options.max_pixels,
            bits=options.image_bits,
            places=tuple(examples.places[row] for row in some),
        )
    counts = Counter(classes[label] for array in labels.values() for label in array.tolist())
    total = sum(len(examples.names) for examples in given.values())
    sizes = ", ".join(f"{len(records):,} {split}" for split, records in splits.items())
    parts = [f"{total:,} images of {where}, {how}: {sizes}", counted(classes, counts), note, shards.left_out]
    return Source(splits, "; ".join(filter(None, parts)), classes, compared=True)
