"""`image_folder`: the images below a user's folder, decoded on access.

Images are the files .png, .jpg, .jpeg, .jfif, .webp, .tif and .tiff (in any case) at any depth, in natural order: img2
before img10. Hidden files (.DS_Store, ._x.png) are ignored; other files and folders without images are ignored too, and
counted in the note. Links are followed, except back to a folder they are in. There are three layouts:

- flat: all images lie loose in the folder; they have no label;
- class subfolders: all lie in subfolders, whose names are the classes; a label is the index of its class in natural
  order;
- split folders train, validation and test, by these or the other names in `SPLIT_FOLDERS` (in any case), each in one of
  the former layouts and with the same classes. Subfolders are read as splits if two or more have these names, or if the
  only subfolder has one. A missing validation or test split is taken from train.

A folder that looks like another layout than it would be read as is refused. Without split folders, a hash of an image's
path decides its split (`drawn_splits`), so images added later move no others; with `split_blocks`, the path of the
first of that many consecutive images in one folder decides. Names are compared in Unicode's composed form (NFC).

`jaxgen.data.captions` reads captions and labels beside the images.
"""

import hashlib
import itertools
import os
import posixpath
import re
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.captions import CAPTIONS, METADATA, captions_and_labels
from jaxgen.data.image_files import SUFFIXES, is_image, pixels
from jaxgen.data.options import Options
from jaxgen.data.source import SPLITS, BadExampleError, Records, Source, passed_over
from jaxgen.errors import UserError

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Map from a folder's name to the split it is read as."""

SPLIT_WORDS = SPLIT_FOLDERS | dict.fromkeys(("eval", "evaluation", "holdout", "heldout", "unlabeled", "trainval"), "")
"""Map from a word that split names begin or end with to the split; "" for splits that are not read."""

LAYOUT = "train/cat/1.png, validation/cat/2.png, test/cat/3.png"

SHOWN = 12
"""Largest number of classes whose counts the note lists; for more it gives the least and the greatest count."""


class File(NamedTuple):
    """A file below a folder."""

    path: str  # below the folder, with /
    size: int  # bytes
    modified: int  # nanoseconds


class _Found(NamedTuple):
    """Content of a folder, in no order."""

    images: list[File]
    texts: list[File]  # files of captions and labels
    others: Counter[str]  # number of ignored files by suffix
    bare: list[str]  # the topmost folders without images


def identity(options: Options) -> str:
    """The sha256 (hex) of path, size and modification time of the files that are read, and of what is ignored.

    Raises:
      UserError: if there is no such folder, it cannot be read, or it holds no image.
    """
    digest = hashlib.sha256()
    found = _found(_folder(options))
    for file in sorted(found.images + found.texts):
        digest.update(os.fsencode(f"{file.path}\0{file.size}\0{file.modified}\n"))
    digest.update(os.fsencode(_not_read(found)))
    return digest.hexdigest()


def read(options: Options) -> Source:
    """The images as records of image uint8 [H, W, C] (`pixels`), and label and caption if there are any.

    Raises:
      UserError: if there is no such folder, it cannot be read, holds too few images, mixes layouts or looks like
        another layout, or if a file of captions or labels does not give each image one.
    """
    folder = _folder(options)
    found = _found(folder)
    images = sorted((file.path for file in found.images), key=natural)
    told = captions_and_labels(folder, [file.path for file in found.texts], images)

    tops = sorted({path.partition("/")[0] for path in images if "/" in path}, key=natural)
    named = [top for top in tops if top.casefold() in SPLIT_FOLDERS]
    depth = int(len(named) > 1 or named == tops != [])
    if depth:
        splits = _split_folders(folder, images, named)
    else:
        _check_layout(folder, images, tops)
        splits = {"train": images}
    if told.labels is None:
        classes = _common_classes(folder, splits, depth)
        label_of = {path: nfc(path.split("/")[depth]) for path in images} if classes else {}
    else:
        classes, label_of = tuple(sorted(set(told.labels.values()), key=natural)), told.labels
    how = "in its own split folders" if depth else "split about 80/10/10 by a hash of their paths"
    skipped = {}
    if missing := [split for split in SPLITS if split not in splits]:
        if depth:
            how += f", about a tenth of train for {' and another for '.join(missing)} by a hash of their paths"
        blocks = options.split_blocks or 1
        train = posixpath.dirname(splits["train"][0]).partition("/")[0] if depth else ""
        drawn = drawn_splits(folder / train, splits["train"], missing, blocks)
        if options.skip_bad and not all(any(_decodes(folder, path, options) for path in drawn[s]) for s in drawn):
            whole = [path for path in splits["train"] if _decodes(folder, path, options)]
            skipped = {"train": len(splits["train"]) - len(whole)}
            drawn = drawn_splits(folder / train, whole, missing, blocks)
        splits |= drawn
        how += f" in blocks of {blocks}" if blocks > 1 else ""
    elif options.split_blocks:
        raise UserError(f"{folder} has split folders of its own, so split_blocks is not for it")

    splits = {split: splits[split] for split in SPLITS}
    sizes = ", ".join(f"{len(paths):,} {split}" for split, paths in splits.items())
    parts = [f"{len(images):,} images of the folder {folder}, {how}: {sizes}"]
    parts += [counted(classes, Counter(label_of.values())), told.words, _not_read(found)]
    label = {name: index for index, name in enumerate(classes)}
    return Source(
        splits={
            split: ImageFiles(
                folder=os.path.abspath(folder),
                paths=tuple(paths),
                labels=tuple(label[label_of[path]] for path in paths) if classes else None,
                captions=tuple(told.captions[path] for path in paths) if told.captions is not None else None,
                max_pixels=options.max_pixels,
                bits=options.image_bits,
            )
            for split, paths in splits.items()
        },
        note="; ".join(filter(None, parts)),
        classes=classes,
        skipped=skipped,
        compared=True,
    )


def _decodes(folder: Path, path: str, options: Options) -> bool:
    """True if an image can be decoded."""
    try:
        return bool(ImageFiles(os.fspath(folder), [path], max_pixels=options.max_pixels, bits=options.image_bits)[0])
    except BadExampleError:
        return False


def all_images(path: Path, max_pixels: int | None = None) -> tuple[Records, list[str], str]:
    """Returns (records of the images below a folder or in a zip file, in natural order; their paths; ignored content).

    Raises:
      UserError: if the folder or file cannot be read, or holds no image.
    """
    found = _found(path) if path.is_dir() else _found_in_zip(path)
    paths = sorted((file.path for file in found.images), key=natural)
    kind = ImageFiles if path.is_dir() else _Zipped
    return kind(os.fspath(path), paths, max_pixels=max_pixels), paths, _not_read(found)


def nfc(name: str) -> str:
    """A name in Unicode's composed form: macOS may write an é as an e and an accent."""
    return unicodedata.normalize("NFC", name)


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder's name for each class: the class's name, with _ for characters that folders' names cannot have.

    If two names are equal, ignoring case, all are prefixed with the class's index.
    """
    names = [re.sub(r'[\x00-\x1f<>:"/\\|?*]|^\.|[. ]$|^$', "_", nfc(name)) for name in classes]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{label} {name}" for label, name in enumerate(names)]
    return names


@dataclass(frozen=True)
class ImageFiles:
    """Records of image files."""

    folder: str
    paths: Sequence[str]  # below the folder, with /
    labels: Sequence[int] | None = None
    captions: Sequence[str | list[str]] | None = None
    max_pixels: int | None = None
    bits: int | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.name(index)
        try:
            content = self.content(index)
        except OSError as error:
            raise BadExampleError(f"cannot read {name} ({error.strerror}): make it readable, or remove it") from error
        image, highest = pixels(content, name, self.max_pixels, self.bits)
        example = {"image": image}
        if highest is not None:
            example["highest"] = highest
        if self.labels is not None:
            example["label"] = self.labels[index]
        if self.captions is not None:
            example["caption"] = self.captions[index]
        return example

    def content(self, index: int) -> bytes:
        """The bytes of an image's file."""
        with open(self.name(index), "rb") as file:
            return file.read()

    def name(self, index: int) -> str:  # noqa: D102 - as `Records` has it
        return os.path.join(self.folder, self.paths[index])


class _Zipped(ImageFiles):
    """Records of image files in a zip file."""

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.folder)

    @cached_property
    def _entries(self) -> dict[str, zipfile.ZipInfo]:
        return {_place(info): info for info in self._archive.infolist()}

    def content(self, index: int) -> bytes:
        try:
            return self._archive.read(self._entries[self.paths[index]])
        except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise BadExampleError(f"cannot read {self.name(index)} ({error}): unpack {self.folder} yourself") from error


def _folder(options: Options) -> Path:
    folder = options.data_folder
    what = "a folder of images"
    if folder is None:
        raise UserError(f"image_folder needs {what}: name it by --data-from FOLDER (--from in `jaxgen data`)")
    if not os.path.isdir(folder):  # Path.is_dir raises without permission
        wrong = f"{folder} is a file" if os.path.exists(folder) else f"there is no folder {folder}"
        raise UserError(f"{wrong}: --data-from (--from in `jaxgen data`) has to name {what}")
    return folder


def _found(folder: Path) -> _Found:
    """Lists the content of a folder, at any depth. Raises UserError if there is no image."""
    folders: list[str] = []
    try:
        files = list(walk(os.fspath(folder), "", frozenset(), folders))
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename} ({error.strerror}): make it readable, or move it out of {folder}"
        ) from error
    return _sorted_out(folder, files, folders)


def _found_in_zip(path: Path) -> _Found:
    """Lists the content of a zip file. Raises UserError if there is no image, or if two files have one name."""
    with zipfile.ZipFile(path) as archive:
        sizes = [(_place(info), info.file_size) for info in archive.infolist()]
    sizes = [
        (name, size)
        for name, size in sizes
        if name and not name.startswith("__MACOSX/") and not any(part.startswith(".") for part in name.split("/"))
    ]
    files = [File(name, size, 0) for name, size in sizes if not name.endswith("/")]
    for name, count in Counter(file.path for file in files).items():
        if count > 1:
            raise UserError(f"{path} holds {count} files called {name}: give each a name of its own")
    return _sorted_out(path, files, [name.rstrip("/") for name, _ in sizes if name.endswith("/")])


def _place(info: zipfile.ZipInfo) -> str:
    """A zip entry's path below the archive, with /: Windows may write backslashes, and other tools ./ or a first /."""
    return re.sub(r"^(\.{0,2}/)+", "", info.filename.replace("\\", "/"))


def _sorted_out(folder: Path, files: list[File], folders: list[str]) -> _Found:
    images = [file for file in files if is_image(file.path)]
    if not images:
        raise UserError(f"{folder} holds no image ({', '.join(SUFFIXES)}), nor do its subfolders")
    texts = [file for file in files if file.path == CAPTIONS or posixpath.basename(file.path) in METADATA]
    others = Counter(posixpath.splitext(file.path)[1].lower() for file in set(files) - set(images) - set(texts))
    holding = {""}
    for file in images:
        above = posixpath.dirname(file.path)
        while above not in holding:
            holding.add(above)
            above = posixpath.dirname(above)
    bare = [each for each in folders if each not in holding and posixpath.dirname(each) in holding]
    return _Found(images, texts, others, sorted(bare, key=natural))


def walk(folder: str, prefix: str, above: frozenset[tuple[int, int]], folders: list[str]) -> Iterator[File]:
    """Yields the files below a folder; `above` has its parents (device, inode), and `folders` collects subfolders."""
    status = os.stat(folder)
    here = status.st_dev, status.st_ino
    if here in above:  # a link to a parent
        return
    if prefix:
        folders.append(prefix[:-1])
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from walk(entry.path, f"{path}/", above | {here}, folders)
            elif entry.is_file() or is_image(path):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield File(path, status.st_size, status.st_mtime_ns)


def _not_read(found: _Found) -> str:
    """Describes what is ignored, as part of a note."""
    bare = f"folders without images: {', '.join(map(_shown, found.bare))}" if found.bare else ""
    return "; ".join(filter(None, [bare, passed_over(found.others)]))


def _shown(name: str) -> str:
    """A name for use in a line of text, escaped if not printable."""
    return name if name.isprintable() else repr(name)


def counted(classes: Sequence[str], counts: Counter[str]) -> str:
    """The classes and the number of their images, as part of a note."""
    if not classes:
        return "no classes"
    head = f"{len(classes):,} class{'es' if len(classes) > 1 else ''}"
    if len(classes) <= SHOWN:
        return f"{head}: {', '.join(f'{_shown(name)} {counts[name]:,}' for name in classes)}"
    return f"{head} of {min(counts.values()):,} to {max(counts.values()):,} images"


def natural(path: str) -> tuple:
    """A key that sorts by folder, then by name with numbers compared by value."""
    parts = [re.split(r"(\d+)", part) for part in nfc(path).split("/")]  # each text, digits, text, digits, ...
    return [[int(x) if i % 2 else x for i, x in enumerate(part)] for part in parts], path


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: train, images and x of train_imagesX."""
    return [word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _split_word(name: str) -> str | None:
    """The word of `SPLIT_WORDS` that a name begins or ends with, as trainA, Test_Set and x-val do."""
    words = words_of(name) or [""]
    ends = [re.sub("(set|data|images?)$", "", words[i]) for i in (0, -1)]
    return next((word for word in ends if word in SPLIT_WORDS), None)


def _check_layout(folder: Path, images: Sequence[str], tops: Sequence[str]) -> None:
    """Raises UserError if folders or images that are not read as splits look like splits."""
    if (alike := [top for top in tops if _split_word(top)]) and len(alike) > 1 and 2 * len(alike) >= len(tops):
        raise UserError(
            f"{folder} has folders that look like splits, not classes ({', '.join(map(_shown, alike[:4]))}): name them "
            f"train, validation and test, with the classes' folders in them, as in {LAYOUT}"
        )
    within = {}  # map from a folder to the split folders in it
    for path in images:
        parts = path.split("/")[:-1]
        for i, part in enumerate(parts[1:], 1):
            if part.casefold() in SPLIT_FOLDERS:
                within.setdefault("/".join(parts[:i]), {})[part] = SPLIT_FOLDERS[part.casefold()]
    for above, names in within.items():
        if len(set(names.values())) > 1:
            found = " and ".join(f"{above}/{name}" for name in sorted(names)[:2])
            mends = f"name {folder / above}" if len(tops) == 1 else f"put the splits on top, as in {LAYOUT}"
            raise UserError(f"{folder} has splits within its folder {above} ({found}): {mends}")
    words = Counter(SPLIT_WORDS[word] for path in images if not tops and (word := _split_word(Path(path).stem)))
    if len(words) > 1 and 2 * words.total() > len(images):
        raise UserError(
            f"{folder} has images whose names look like splits ({images[0]}, {images[-1]}): move them into folders "
            "train, validation and test"
        )


def _classes(folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """The subfolders that the images lie in, in natural order; none if they lie loose in the folder."""
    loose = [path for path in paths if "/" not in path]
    subfolders = {nfc(path.partition("/")[0]) for path in paths if "/" in path}
    if loose and subfolders:
        raise UserError(
            f"{folder} mixes loose images ({loose[0]}) and subfolders of images ({min(subfolders)}): "
            "put either all or none of the images into class subfolders"
        )
    deeper = sorted({path.split("/")[1] for path in paths if path.count("/") > 1}, key=natural)
    if len(subfolders) == 1 < len(deeper) and all(path.count("/") > 1 for path in paths):
        (only,) = subfolders
        raise UserError(
            f"{folder} has one folder, {only}, and in it the folders {', '.join(map(_shown, deeper[:3]))}, which would "
            f"be one class: move them up into {folder}, or name {folder / only}"
        )
    return tuple(sorted(subfolders, key=natural))


def _split_folders(folder: Path, images: Sequence[str], named: Sequence[str]) -> dict[str, list[str]]:
    """The images of each split that has a folder."""
    found = [SPLIT_FOLDERS[name.casefold()] for name in named]
    has = f"{folder} has the split folders {', '.join(named)}"
    if "train" not in found:
        raise UserError(f"{has}, and none for training: it is to be called train, and to hold images")
    if twice := [split for split in SPLITS if found.count(split) > 1]:
        raise UserError(f"{has}, of which more than one is for {twice[0]}: one is needed")
    splits = {split: [] for split in SPLITS if split in found}
    for path in images:
        top = path.partition("/")[0]
        if top not in named:
            raise UserError(
                f"{folder} has {path} beside the split folders {', '.join(named)}: move it into one of them, or out"
            )
        splits[found[named.index(top)]].append(path)
    return splits


def _common_classes(folder: Path, splits: dict[str, list[str]], depth: int) -> tuple[str, ...]:
    """The classes that the splits have in common."""
    name_of = {split: Path(*paths[0].split("/")[:depth]) for split, paths in splits.items()}
    classes = {
        split: _classes(folder / name_of[split], [path.split("/", depth)[depth] for path in paths])
        for split, paths in splits.items()
    }
    for split in splits:
        if classes[split] != classes["train"]:
            (odd, *_) = sorted(set(classes[split]) ^ set(classes["train"]), key=natural)
            has, lacks = (split, "train") if odd in classes[split] else ("train", split)
            raise UserError(
                f"{folder / name_of[has]} has images of the class {odd}, {folder / name_of[lacks]} has not: "
                "all splits need the same class subfolders"
            )
    return classes["train"]


def drawn_splits(folder: Path | str, images: Sequence[str], missing: Sequence[str], size: int) -> dict[str, list[str]]:
    """Divides images among train and the missing splits, by hashing the first path of each block of `size` to [0, 1).

    Blocks below 0.1 form the last missing split, those below 0.2 the one before. So an image keeps its split when
    others come or go, unless a split would be empty: then it gets the block with the nearest hash.
    """
    together = [list(paths) for _, paths in itertools.groupby(images, posixpath.dirname)]
    blocks = [paths[start : start + size] for paths in together for start in range(0, len(paths), size)]
    names = ["train", *missing]
    if len(blocks) < len(names):
        what = f"image{'s'[: len(blocks) > 1]}" if size == 1 else f"block{'s'[: len(blocks) > 1]} of {size} images"
        raise UserError(
            f"{folder} holds {len(blocks)} {what}: at least {len(names)} are needed, one for each of {', '.join(names)}"
        )
    digests = [hashlib.sha256(os.fsencode(nfc(block[0]))).digest() for block in blocks]
    shares = np.array([int.from_bytes(digest[:4], "big") for digest in digests]) / 2**32
    order = np.argsort(shares, kind="stable")
    ends = []
    for i in range(len(missing)):
        end = np.searchsorted(shares[order], 0.1 * (i + 1))
        ends.append(int(np.clip(end, 1 + sum(ends[-1:]), len(blocks) - len(missing) + i)))
    parts = dict(zip(reversed(names), np.split(order, ends), strict=True))
    return {split: [path for i in np.sort(chosen) for path in blocks[i]] for split, chosen in parts.items()}
