"""Data decoded once: every dataset, as a run's options transform it, is kept in the cache folder as arrays.

Below `data_dir()`/decoded a folder for each dataset, reader's identity and options holds

    manifest.json              content of `Manifest`
    SPLIT.ENTRY.npy            the arrays; of images only where they are kept in memory while training
    mean.npy, faces.npy        the mean training image; the faces of meshes

It is written elsewhere and renamed when all is written: a kill leaves an `incomplete.*` folder, which is never
read, and of two processes that write at once the second finds the name taken and reads what the first wrote.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.images import Transform
from jaxgen.data.options import Options
from jaxgen.data.source import BadExampleError, Records, Source, data_dir
from jaxgen.errors import UserError

IN_MEMORY = 4 * 2**30
"""Bytes of decoded data, of all splits, up to which `pipeline` auto keeps them in memory."""

AT_ONCE = 256
"""Records decoded between two looks at the progress."""

LEFT_OUT = ("caption_length", "flip", "vocabulary_size", "workers")
"""Options that do not change what is decoded."""


class Manifest(NamedTuple):
    """What is known of decoded data beside its arrays."""

    note: str  # source, splits and transforms: one sentence without a full stop
    classes: tuple[str, ...]
    fingerprint: str  # sha256 of the decoded content of all splits, in order
    skipped: dict[str, int]  # examples left out because they could not be decoded, by split
    records: dict[str, list[int]] | None  # of each split, the records that are its examples; None with all in memory


class Decoded(NamedTuple):
    """A dataset's splits, ready to be batched."""

    manifest: Manifest
    splits: dict[str, dict[str, Any]]  # arrays with a leading example axis, or `Images` for `image`
    mean: np.ndarray | None  # float64 [H, W, C] in [0, 1], of the training images
    faces: np.ndarray | None


class Images:
    """Images uint8 [n, H, W, C] that are decoded when indexed, by an integer, a slice or integers; picklable."""

    dtype = np.dtype(np.uint8)

    def __init__(self, records: Records, rows: list[int], transform: Transform, shape: tuple[int, int, int]):
        self._records, self._rows, self._transform = records, np.asarray(rows), transform
        self.shape = (len(rows), *shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self._rows[index]
        if rows.ndim == 0:
            return self._transform(self._records[int(rows)]["image"])
        return np.stack([self._transform(self._records[int(row)]["image"]) for row in rows])


def fingerprint(splits: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """The sha256 (hex) of what the splits hold, in order; `_digests` and `_whole` say of which bytes."""
    return _whole(_digests(splits))


def _digests(splits: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, str]]:
    """By split and entry, the sha256 of the bytes, then dtype and shape."""
    return {
        split: {name: _finished(_hashed(hashlib.sha256(), entry), entry) for name, entry in entries.items()}
        for split, entries in splits.items()
    }


def _hashed(digest: Any, entry: np.ndarray) -> Any:
    if entry.size:
        digest.update(np.ascontiguousarray(entry).view(np.uint8))
    return digest


def _finished(digest: Any, entry: np.ndarray | Images) -> str:
    digest.update(f"{entry.dtype.str} {entry.shape}".encode())
    return digest.hexdigest()


def _whole(digests: Mapping[str, Mapping[str, str]]) -> str:
    """The sha256 of a line `SPLIT ENTRY SHA256` for each entry by name, split after split."""
    lines = [f"{split} {name} {entries[name]}\n" for split, entries in digests.items() for name in sorted(entries)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def decoded(options: Options, reader: Any, *, progress: bool = True) -> Decoded:
    """The dataset that `reader` (`jaxgen.data.source`) reads, decoded now or before, and checked.

    Raises:
      UserError: if an example cannot be decoded (and none are to be skipped), two images differ in size or
        channels, a label is out of range, the folder cannot be written, or what lies there was changed.
    """
    folder = _folder(options, reader.identity(options))
    if not os.path.exists(folder):  # Path.exists raises where it may not look
        _write(folder, options, reader, progress)
    try:
        return _opened(folder, options, reader)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(_damaged(folder)) from error


def _folder(options: Options, identity: str) -> Path:
    given = dataclasses.asdict(options) | {"data_from": options.folder and str(options.folder.absolute())}
    depends = json.dumps([identity, {name: given[name] for name in given if name not in LEFT_OUT}])
    words = "".join(letter if letter.isalnum() else "_" for letter in options.dataset)
    return data_dir() / "decoded" / f"{words}-{hashlib.sha256(depends.encode()).hexdigest()[:16]}"


def _damaged(folder: Path) -> str:
    return f"the prepared data in {folder} was damaged or changed: delete that folder, and it is made again"


def _opened(folder: Path, options: Options, reader: Any) -> Decoded:
    stored = json.loads((folder / "manifest.json").read_text())
    digests = stored.pop("digests")
    if _whole(digests) != stored["fingerprint"]:
        raise UserError(_damaged(folder))
    manifest = Manifest(**stored | {"classes": tuple(stored["classes"])})
    lazy = manifest.records is not None
    mode = "r" if options.pipeline == "grain" else None
    splits = {
        split: {
            name: np.load(folder / f"{split}.{name}.npy", mmap_mode=mode)
            for name in names
            if not (lazy and name == "image")
        }
        for split, names in digests.items()
    }
    for split, found in _digests(splits).items():
        if any(digests[split][name] != value for name, value in found.items()):
            raise UserError(_damaged(folder))
    mean, faces = (np.load(path) if (path := folder / name).exists() else None for name in ("mean.npy", "faces.npy"))
    if lazy:
        source, transform = _sliced(reader.read(options), options), Transform.of(options)
        for split, rows in manifest.records.items():
            splits[split]["image"] = Images(source.splits[split], rows, transform, mean.shape)
    return Decoded(manifest, splits, mean, faces)


def _write(folder: Path, options: Options, reader: Any, progress: bool) -> None:
    source = _sliced(reader.read(options), options)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incomplete.", dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            _write_all(made, source, options, progress)
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was first
                    raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the data folder {data_dir()} ({reason}): set JAXGEN_DATA_DIR to a folder that can be written"
        ) from error


def _write_all(folder: Path, source: Source, options: Options, progress: bool) -> None:
    transform = Transform.of(options)
    kept = not any(_is_records(examples) for examples in source.splits.values()) or _fits(source, options, transform)
    digests, records, skipped, shape = {}, {}, {}, None
    for split, examples in source.splits.items():
        if not len(_first_entry(examples)):
            raise UserError(f"dataset {options.dataset}: split {split} has no examples")
        if _is_records(examples):
            part = _decode(examples, f"{options.dataset}, {split}", transform, options.skip_bad, kept, shape, progress)
            entries, digest, total, rows = part
        else:
            entries = _transformed(examples, transform, options)
            digest, rows = _digests({split: entries})[split], range(len(_first_entry(examples)))
            total = entries["image"].sum(axis=0, dtype=np.float64) if "image" in entries else None
        shape = None if total is None else total.shape
        digests[split], records[split], skipped[split] = digest, list(rows), len(_first_entry(examples)) - len(rows)
        _check_labels(entries.get("label"), source.classes, f"{options.dataset}, {split}")
        for name, entry in entries.items():
            np.save(folder / f"{split}.{name}.npy", entry)
        if split == "train" and total is not None:
            np.save(folder / "mean.npy", total / (255 * len(rows)))
    if source.faces is not None:
        np.save(folder / "faces.npy", source.faces)
    what = transform.described()
    manifest = Manifest(
        note=source.note + (f"; {what}" if what else ""),
        classes=tuple(source.classes),
        fingerprint=_whole(digests),
        skipped={split: count for split, count in skipped.items() if count},
        records=None if kept else records,
    )
    (folder / "manifest.json").write_text(json.dumps(manifest._asdict() | {"digests": digests}))


def _is_records(examples: Any) -> bool:
    return not isinstance(examples, Mapping)


def _first_entry(examples: Any) -> Any:
    """Something as long as the split."""
    return examples if _is_records(examples) else next(iter(examples.values()))


def _fits(source: Source, options: Options, transform: Transform) -> bool:
    """Whether all images are to be kept decoded in memory."""
    if options.pipeline != "auto":
        return options.pipeline == "memory"
    for records in source.splits.values():
        for index in range(len(records)):
            try:
                image = transform(records[index]["image"])
            except BadExampleError:
                continue
            return image.nbytes * sum(map(len, source.splits.values())) <= IN_MEMORY
    return True


def _transformed(examples: Mapping[str, np.ndarray], transform: Transform, options: Options) -> dict[str, np.ndarray]:
    if "image" in examples:
        return dict(examples) | {"image": transform.all(examples["image"])}
    if transform != Transform():
        raise UserError(f"dataset {options.dataset} has no images that could be resized, cropped, padded or the like")
    return dict(examples)


def _decode(records, what, transform, skip_bad, kept, shape, progress):
    """(entries, their digests, sum of the images, rows of the records that could be decoded)."""
    columns: dict[str, list] = {}
    digest, total, rows = hashlib.sha256(), 0.0, []
    for index, example in _examples(records, what, transform, progress):
        if isinstance(example, BadExampleError):
            if not skip_bad:
                raise UserError(f"{example}; --skip-bad leaves such images out") from example
            continue
        image = example["image"]
        if shape is not None and image.shape != shape:
            raise UserError(
                f"{what}: {records.name(index)} is {_size(image.shape)}, those before it {_size(shape)}; "
                "--image-size (and --channels) make them alike"
            )
        shape = image.shape
        rows.append(index)
        _hashed(digest, image)
        total = total + image
        for name, value in example.items():
            if kept or name != "image":
                columns.setdefault(name, []).append(value)
    if not rows:
        raise UserError(f"{what}: none of its {len(records)} images can be decoded")
    entries = {name: np.asarray(column, np.int32 if name == "label" else None) for name, column in columns.items()}
    digests = _digests({"": {name: entry for name, entry in entries.items() if name != "image"}})[""]
    digest.update(f"{np.dtype(np.uint8).str} {(len(rows), *shape)}".encode())
    return entries, digests | {"image": digest.hexdigest()}, np.asarray(total, np.float64), rows


def _examples(records: Records, what: str, transform: Transform, progress: bool) -> Iterator[tuple[int, Any]]:
    """(index, example or BadExampleError) of all records, in order."""
    from rich.console import Console
    from rich.progress import Progress

    def one(index: int) -> Any:
        try:
            example = records[index]
        except BadExampleError as error:
            return error
        return example | {"image": transform(example["image"])}

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        task = bar.add_task(f"reading {what}", total=len(records))
        for start in range(0, len(records), AT_ONCE):
            some = range(start, min(start + AT_ONCE, len(records)))
            yield from zip(some, pool.map(one, some), strict=True)
            bar.advance(task, len(some))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _check_labels(labels: np.ndarray | None, classes: Any, what: str) -> None:
    if labels is None:
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        raise UserError(
            f"{what} example {wrong[0]}: label {labels[wrong[0]]} is out of range: there are {len(classes)} classes"
        )


def _sliced(source: Source, options: Options) -> Source:
    """The source with its splits as the options ask, where its reader has not seen to that."""
    asked = {split: getattr(options, f"{split}_split") for split in source.splits}
    if source.sliced or not any(asked.values()):
        return source
    from jaxgen.data.slices import ranges

    lengths = {split: len(_first_entry(examples)) for split, examples in source.splits.items()}
    found = ranges(options.dataset, {split: given or split for split, given in asked.items()}, lengths)
    return source._replace(
        splits={split: _joined([(source.splits[n], a, b) for n, a, b in parts]) for split, parts in found.items()},
        note=f"{source.note}; {', '.join(f'{split} is {given}' for split, given in asked.items() if given)}",
    )


def _joined(parts: list[tuple[Any, int, int]]) -> Any:
    if any(_is_records(examples) for examples, *_ in parts):
        return Joined(tuple(parts))
    return {name: np.concatenate([examples[name][start:end] for examples, start, end in parts]) for name in parts[0][0]}


@dataclasses.dataclass(frozen=True)
class Joined:
    """Stretches of records, one after the other, as records."""

    parts: tuple[tuple[Records, int, int], ...]  # records, first, end

    def __len__(self) -> int:
        return sum(end - start for _, start, end in self.parts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        for records, start, end in self.parts:
            if index < end - start:
                return records[start + index]
            index -= end - start
        raise IndexError(index)

    def name(self, index: int) -> str:  # noqa: D102 - as `Records` has it
        for records, start, end in self.parts:
            if index < end - start:
                return records.name(start + index)
            index -= end - start
        raise IndexError(index)
