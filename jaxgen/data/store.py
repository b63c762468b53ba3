"""Cache of decoded data: every dataset, as transformed by a run's options, is stored as arrays.

`data_dir()`/decoded has a folder for each combination of dataset, reader's identity and options, with

    manifest.json              content of `Manifest`
    SPLIT.ENTRY.npy            the arrays; images only if they are kept in memory while training
    SPLIT.caption.json         the captions as text
    mean.npy, faces.npy        the mean training image; the faces of meshes

A folder is written under a temporary name and renamed when complete. A killed process leaves an `incomplete.*`
folder, which is never read and is removed by the next write. If two processes write the same data, the second finds
the name taken and reads the first one's folder.
"""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.images import Transform
from jaxgen.data.options import Options
from jaxgen.data.source import BadExampleError, Records, Source, data_dir, repeated
from jaxgen.errors import UserError

IN_MEMORY = 4 * 2**30
"""Largest decoded size, in bytes over all splits, that `pipeline` auto keeps in memory."""

AT_ONCE = 256
"""Records decoded between two updates of the progress bar."""

LEFT_OUT = ("caption_length", "captions", "flip", "labels", "pipeline", "subset", "vocabulary_size", "workers")
"""Options that do not change what is decoded."""

MANIFEST = "manifest.json"

FORMAT = 2
"""Version of the content; incremented when the code changes what the same files and options decode to."""

DAY = 24 * 60 * 60  # seconds

NEARLY_BLACK = 2**14
"""Threshold of a warning: 16-bit images with all values below it are at most a quarter as bright as white."""


class Manifest(NamedTuple):
    """Metadata of decoded data, stored beside its arrays."""

    note: str  # source, splits and transforms: one sentence without a full stop
    classes: tuple[str, ...]
    fingerprint: str  # sha256 of the decoded content of all splits, in order
    skipped: dict[str, int]  # examples left out because they could not be decoded, by split
    files: bool  # whether the images were decoded from files or records
    fits: bool  # whether `pipeline` auto keeps the images in memory
    records: dict[str, list[int]] | None  # indices of each split's examples; None if images are in memory

    @property
    def live(self) -> tuple[str, ...]:
        """The entries that are decoded while training and not stored."""
        return () if self.records is None else ("image",)


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
        rows = np.asarray(self._rows[index])
        images = [self._transform(self._records[int(row)]["image"]) for row in rows.flat]
        return np.asarray(images, np.uint8).reshape(*rows.shape, *self.shape[1:])  # an array's shape, even if empty


def fingerprint(splits: Mapping[str, Mapping[str, np.ndarray]], faces: np.ndarray | None = None) -> str:
    """The sha256 (hex) of the splits' content, in order, and of meshes' faces."""
    return _whole(_digests(splits) | ({"": _digests({"": {"faces": faces}})[""]} if faces is not None else {}))


def _digests(splits: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, str]]:
    """Map from split and entry to the sha256 of its bytes (captions as JSON), dtype and shape."""
    return {
        split: {name: _finished(_hashed(hashlib.sha256(), entry), entry) for name, entry in entries.items()}
        for split, entries in splits.items()
    }


def _hashed(digest: Any, entry: np.ndarray) -> Any:
    if entry.dtype == object:
        digest.update(json.dumps(entry.tolist()).encode())
    elif entry.size:
        digest.update(np.ascontiguousarray(entry).view(np.uint8))
    return digest


def _finished(digest: Any, entry: np.ndarray | Images) -> str:
    digest.update(f"{entry.dtype.str} {entry.shape}".encode())
    return digest.hexdigest()


def _whole(digests: Mapping[str, Mapping[str, str]]) -> str:
    """The sha256 of the lines `SPLIT ENTRY SHA256`, entries by name; without the mean, which depends on the rest."""
    lines = [
        f"{split} {name} {entries[name]}\n"
        for split, entries in digests.items()
        for name in sorted(entries)
        if (split, name) != ("", "mean")
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def decoded(options: Options, reader: Any, *, progress: bool = True) -> Decoded:
    """Loads the dataset of `reader` (`jaxgen.data.source`) from the cache, or decodes it, and checks it.

    Raises:
      UserError: if an example cannot be decoded (without `skip_bad`), two images differ in size or channels, a label
        is out of range, the folder cannot be written, its content was changed, or the files change while they are
        read.
    """
    identity = reader.identity(options)
    kept, streamed = _folders(options, identity)
    folders = {"memory": [kept], "auto": [kept, streamed], "grain": [streamed, kept]}[options.pipeline]
    folder = next((folder for folder in folders if _serves(folder, options)), None)
    folder = folder or _written(kept, streamed, options, reader, progress)
    try:
        found = _opened(folder)
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(_damaged(folder)) from error
    if found.manifest.records is not None:
        source: Mapping[str, Any] = _sliced(reader.read(options), options).splits  # the same records as then
        for split, rows in found.manifest.records.items():
            transform = Transform.of(options, split)
            found.splits[split]["image"] = Images(source[split], rows, transform, found.mean.shape)
    if reader.identity(options) != identity:
        raise UserError(f"the files of dataset {options.dataset} were changed while they were read: start again")
    return found


def _folders(options: Options, identity: str) -> tuple[Path, Path]:
    """Paths of the dataset's cache folders: with its images, and without."""
    from PIL import __version__ as pillow

    given = dataclasses.asdict(options) | {"data_from": options.data_folder and str(options.data_folder.absolute())}
    chosen = json.dumps([FORMAT, {name: given[name] for name in given if name not in LEFT_OUT}])
    words = "".join(letter if letter.isalnum() else "_" for letter in options.shown)
    stem = f"{words}-{hashlib.sha256(chosen.encode()).hexdigest()[:12]}"
    content = hashlib.sha256(identity.encode()).hexdigest()[:12]
    # Another version of Pillow may decode other pixels, so records need its version in their key.
    live = hashlib.sha256(f"{identity} {pillow}".encode()).hexdigest()[:12]
    parent = data_dir() / "decoded"
    return parent / f"{stem}-{content}", parent / f"{stem}-live-{live}"


def _serves(folder: Path, options: Options) -> bool:
    """True if the folder exists and has its images as `pipeline` asks: in memory, read while training, or by size."""
    if not os.path.exists(folder):  # Path.exists raises without permission
        return False
    if options.pipeline == "memory":
        return True
    manifest = _manifest(folder)
    if options.pipeline == "grain":
        return manifest["records"] is not None or not manifest["files"]
    return manifest["fits"] == (manifest["records"] is None)


def _sealed(content: dict[str, Any]) -> str:
    """The text of a manifest, with its own checksum."""
    return json.dumps({"content": content, "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()})


def _manifest(folder: Path) -> dict[str, Any]:
    """Reads a manifest; raises UserError if it is damaged or was changed."""
    try:
        text = (folder / MANIFEST).read_text()
        content = json.loads(text)["content"]
        intact = _sealed(content) == text
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(_damaged(folder)) from error
    if not intact:
        raise UserError(_damaged(folder))
    return content


def _damaged(folder: Path) -> str:
    return f"the prepared data in {folder} was damaged or changed: delete that folder, and it is made again"


def _opened(folder: Path) -> Decoded:
    """Opens a folder and checks its content; arrays are memory-mapped, so processes share their pages."""
    stored = _manifest(folder)
    digests = stored.pop("digests")
    manifest = Manifest(**stored | {"classes": tuple(stored["classes"])})
    entries = {
        split: {name: _loaded(folder / _file(split, name)) for name in names if name not in manifest.live}
        for split, names in digests.items()
    }
    found = _digests(entries)
    if any(digests[split][name] != found[split][name] for split in found for name in found[split]):
        raise UserError(_damaged(folder))
    beside = entries.pop("")
    return Decoded(manifest, entries, beside.get("mean"), beside.get("faces"))


def _file(split: str, name: str) -> str:
    return f"{split}.{name}".lstrip(".") + (".json" if name == "caption" else ".npy")


def _loaded(path: Path) -> np.ndarray:
    if path.suffix == ".json":
        return _captions(json.loads(path.read_text("utf-8")))
    return np.load(path, mmap_mode="r")


def _captions(captions: list[str | list[str]]) -> np.ndarray:
    """An array of objects, one for each image also where an image has several captions."""
    array = np.empty(len(captions), object)
    for i, each in enumerate(captions):  # numpy would take lists of one length for rows
        array[i] = each
    return array


def _save(folder: Path, split: str, entries: Mapping[str, np.ndarray]) -> None:
    for name, entry in entries.items():
        path = folder / _file(split, name)
        if path.suffix == ".json":
            path.write_text(json.dumps(entry.tolist()), "utf-8")
        else:
            np.save(path, entry)


def _written(kept: Path, streamed: Path, options: Options, reader: Any, progress: bool) -> Path:
    """Reads and decodes the dataset; returns the folder written, `kept` or `streamed`."""
    source = _sliced(reader.read(options), options)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{_own()}{os.getpid()}.", dir=kept.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            folder = kept if _write_all(made, source, options, progress) else streamed
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was first
                    raise
        _tidy(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the data folder {data_dir()} ({reason}): set JAXGEN_DATA_DIR to a folder that can be written"
        ) from error
    return folder


def _tidy(folder: Path) -> None:
    """Removes data of the same options from former files, and incomplete folders of killed processes.

    Incomplete folders of other machines, which may share the cache, are removed when a day old.
    """
    stem, _, content = folder.name.rpartition("-")
    old = [path for path in folder.parent.glob(f"{stem}-*") if path.name.count("-") == folder.name.count("-")]
    old = [path for path in old if path.name.rpartition("-")[2] != content]
    for path in folder.parent.glob("incomplete.*"):
        with suppress(OSError):  # its process may have just ended and removed it
            old += [path] if _ended(path) or time.time() - path.stat().st_mtime > DAY else []
    for path in old:
        shutil.rmtree(path, ignore_errors=True)


def _own() -> str:
    """Prefix of this machine's incomplete folders; the process's id follows."""
    return f"incomplete.{platform.node()}."


def _ended(folder: Path) -> bool:
    """True if the process that made the folder ran on this machine and has ended."""
    number = folder.name.removeprefix(_own()).partition(".")[0]
    if not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)  # signal 0 only checks that the process exists
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # another user's process raises PermissionError
    return False


def _write_all(folder: Path, source: Source, options: Options, progress: bool) -> bool:
    """Writes the manifest and the arrays; returns whether the images are among them."""
    files = any(map(_is_records, source.splits.values()))
    fits = not files or _fits(source, Transform.of(options))
    kept = not files or options.pipeline == "memory" or (options.pipeline == "auto" and fits)
    if files and progress and not sys.stderr.isatty():  # where no bar is shown
        count = sum(map(_length, source.splits.values()))
        print(f"decoding {options.dataset}: {count:,} images", file=sys.stderr)
    digests, records, skipped, shape, beside = {}, {}, {}, None, {}
    seen = Seen(source.compared)
    for split, examples in source.splits.items():
        if not _length(examples):
            raise UserError(f"dataset {options.dataset}: split {split} has no examples")
        transform = Transform.of(options, split)
        if isinstance(examples, Mapping):
            entries = _transformed(examples, transform, options)
            digest, rows = _digests({split: entries})[split], range(_length(examples))
            total = entries["image"].sum(axis=0, dtype=np.float64) if "image" in entries else None
        else:
            what = f"{options.dataset}, {split}"
            part = _decode(examples, what, transform, options.skip_bad, kept, shape, progress, seen, split)
            entries, digest, total, rows = part
        shape = None if total is None else total.shape
        left_out = (source.skipped or {}).get(split, 0)
        digests[split], records[split], skipped[split] = digest, list(rows), _length(examples) - len(rows) + left_out
        _check_labels(entries.get("label"), source.classes, f"{options.dataset}, {split}", rows)
        _save(folder, split, entries)
        if split == "train" and total is not None:
            beside["mean"] = total / (255 * len(rows))
    if source.faces is not None:
        beside["faces"] = source.faces
    _save(folder, "", beside)
    digests |= _digests({"": beside})
    parts = [source.note, *seen.told(), Transform.of(options).described()]
    manifest = Manifest(
        note="; ".join(filter(None, parts)),
        classes=tuple(source.classes),
        fingerprint=_whole(digests),
        skipped={split: count for split, count in skipped.items() if count},
        files=files,
        fits=fits,
        records=None if kept else records,
    )
    (folder / MANIFEST).write_text(_sealed(manifest._asdict() | {"digests": digests}))
    return kept


class Seen:
    """Statistics of the images of all splits before they are transformed."""

    def __init__(self, compared: bool):
        self.compared = compared  # whether to report images that are in several splits
        self._contents: dict[str, list[bytes]] = {}  # by split, a digest of each image
        self._deep, self._highest = 0, 0  # number of images with 16 bits a channel, and their highest value

    def see(self, split: str, example: dict[str, Any]) -> None:
        """Removes from an example, and records, its image's digest and the highest value of a 16-bit image."""
        if (content := example.pop("content", None)) is not None:
            self._contents.setdefault(split, []).append(content)
        if (highest := example.pop("highest", None)) is not None:
            self._deep, self._highest = self._deep + 1, max(self._highest, highest)

    def told(self) -> list[str]:
        """The findings, as parts of a note."""
        bits = max(8, self._highest.bit_length())
        dark = f"{self._deep:,} images of 16 bits have no value above {self._highest:,}, and are nearly black: "
        dark += f"--image-bits {bits} spreads gray ones"
        return [repeated(self._contents), dark if self._deep and self._highest < NEARLY_BLACK else ""]


def _is_records(examples: Any) -> bool:
    return not isinstance(examples, Mapping)


def _length(examples: Any) -> int:
    return len(examples if _is_records(examples) else next(iter(examples.values())))


def _fits(source: Source, transform: Transform) -> bool:
    """True if the decoded images of the records take at most IN_MEMORY bytes, estimated from the first."""
    splits: Mapping[str, Any] = source.splits
    for records in splits.values():
        for index in range(len(records)):
            try:
                image = transform(records[index]["image"])
            except UserError:  # reported when all are decoded
                continue
            return image.nbytes * sum(map(len, splits.values())) <= IN_MEMORY
    return True


def _transformed(examples: Mapping[str, np.ndarray], transform: Transform, options: Options) -> dict[str, np.ndarray]:
    examples = {name: entry.astype(object) if name == "caption" else entry for name, entry in examples.items()}
    if "image" in examples:
        return examples | {"image": transform.all(examples["image"])}
    if transform != Transform():
        raise UserError(f"dataset {options.dataset} has no images that could be resized, cropped, padded or the like")
    return examples


def _decode(records, what, transform, skip_bad, kept, shape, progress, seen, split):
    """Returns (entries, their digests, sum of the images, indices of the records that could be decoded)."""
    columns: dict[str, list] = {}
    images, digest, total, rows, bad = None, hashlib.sha256(), 0.0, [], []
    for index, example in _examples(records, what, transform, progress, seen.compared):
        if isinstance(example, BadExampleError):
            if not skip_bad:
                raise UserError(f"{example}; --skip-bad leaves such images out") from example
            bad.append(str(example))
            continue
        seen.see(split, example)
        image = example.pop("image")
        if shape is not None and image.shape != shape:
            raise UserError(
                f"{what}: {records.name(index)} is {_size(image.shape)}, those before it {_size(shape)}; "
                "--image-size (and --channels) make them alike"
            )
        shape = image.shape
        if kept:
            images = np.empty((len(records), *shape), np.uint8) if images is None else images
            images[len(rows)] = image
        rows.append(index)
        _hashed(digest, image)
        total = total + image
        for name, value in example.items():
            columns.setdefault(name, []).append(value)
    if not rows:
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise UserError(f"{what}: no image is left with --skip-bad: {'; '.join(bad[:3])}{more}")
    makers = {"label": lambda labels: np.asarray(labels, np.int32), "caption": _captions}
    entries = {name: makers[name](column) for name, column in columns.items()}
    digests = _digests({"": entries})[""]
    digest.update(f"{np.dtype(np.uint8).str} {(len(rows), *shape)}".encode())
    if kept:
        entries["image"] = images[: len(rows)]
    return entries, digests | {"image": digest.hexdigest()}, np.asarray(total, np.float64), rows


def _examples(
    records: Records, what: str, transform: Transform, progress: bool, compared: bool
) -> Iterator[tuple[int, Any]]:
    """Yields (index, example or BadExampleError) of all records, in order."""
    from jaxgen.progress import Progress

    def one(index: int) -> Any:
        try:
            example = records[index]
        except BadExampleError as error:
            return error
        image = example["image"]
        if compared:
            example["content"] = _hashed(hashlib.sha256(f"{image.shape}".encode()), image).digest()
        try:
            return example | {"image": transform(image)}
        except UserError as error:
            raise UserError(f"{what}: {records.name(index)}: {error}") from error

    with ThreadPoolExecutor() as pool, Progress(progress) as bar:
        bar.start(f"reading {what}", len(records))
        for start in range(0, len(records), AT_ONCE):
            some = range(start, min(start + AT_ONCE, len(records)))
            yield from zip(some, pool.map(one, some), strict=True)
            bar.advance(len(some))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _check_labels(labels: np.ndarray | None, classes: Any, what: str, rows: Any) -> None:
    if labels is None:
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        index, label = rows[wrong[0]], labels[wrong[0]]
        raise UserError(f"{what} example {index}: label {label} is out of range: there are {len(classes)} classes")


def _sliced(source: Source, options: Options) -> Source:
    """The source with the splits that the options ask for, unless its reader has already sliced them."""
    asked = {split: getattr(options, f"{split}_split") for split in source.splits}
    if source.sliced or not any(asked.values()):
        return source
    from jaxgen.data.readers.slices import ranges

    lengths = {split: _length(examples) for split, examples in source.splits.items()}
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
    """Ranges of records, concatenated."""

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
