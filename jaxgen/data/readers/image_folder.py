"""`image_folder`: the PNG and JPEG images below a folder of one's own, decoded as they are asked for.

Images are the files .png, .jpg and .jpeg (in any case) at any depth, in natural order: img2 before img10. What is
hidden (.DS_Store, ._x.png) and other files are passed over. Links are followed, except back to a folder they are in.
There are three layouts:

- flat: all images lie loose in the folder; they have no label;
- class subfolders: all lie in subfolders, whose names are the classes; a label is the index of its class in natural
  order;
- split folders train, validation (or val) and test, each of one of the former layouts and with the same classes. So
  are taken two or more subfolders of these names (in any case), or one that is the only subfolder.

Without split folders, an image's path decides on its split (`_drawn`), so that those added later move no other.

With a file captions.jsonl on top, every image has a caption: one JSON object a line,

    {"file": "cat/1.png", "caption": "a cat on a mat"}

with the image's path from the folder, and exactly one line for each image.
"""

import hashlib
import io
import json
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import SPLITS, BadExampleError, Records, Source
from jaxgen.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
CAPTIONS = "captions.jsonl"

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # the chunk that ends every PNG file


def identity(options: Options) -> str:
    """The sha256 (hex) of path, size and time of change of every image and of captions.jsonl.

    Raises:
      UserError: if there is no such folder, it cannot be read, or it holds no image.
    """
    digest = hashlib.sha256()
    for file in sorted(_files(_folder(options))):
        digest.update(os.fsencode(f"{file.path}\0{file.size}\0{file.modified}\n"))
    return digest.hexdigest()


def read(options: Options) -> Source:
    """The images as records of image uint8 [H, W, C] (`decoded`), and label and caption where there are any.

    Raises:
      UserError: if there is no such folder, it cannot be read, holds too few images or mixes layouts, or if
        captions.jsonl does not give each image one caption.
    """
    folder = _folder(options)
    paths = sorted((file.path for file in _files(folder)), key=_natural)
    images = [path for path in paths if path != CAPTIONS]
    captions = _captions(folder / CAPTIONS, images) if CAPTIONS in paths else None

    tops = sorted({path.partition("/")[0] for path in images if "/" in path})
    named = [top for top in tops if top.casefold() in SPLIT_FOLDERS]
    if len(named) > 1 or named == tops != []:
        splits, classes = _split_folders(folder, images, named)
        how = "in its own split folders"
        depth = 1
    else:
        splits, classes = _drawn(folder, images), _classes(folder, images)
        how = "split about 80/10/10 by a hash of their paths"
        depth = 0

    label = {name: index for index, name in enumerate(classes)}
    return Source(
        splits={
            split: _Images(
                folder=os.path.abspath(folder),
                paths=tuple(splits[split]),
                labels=tuple(label[path.split("/")[depth]] for path in splits[split]) if classes else None,
                captions=tuple(captions[path] for path in splits[split]) if captions is not None else None,
            )
            for split in SPLITS
        },
        note=f"{len(images):,} images of the folder {folder}, {how}",
        classes=classes,
    )


def all_images(folder: Path) -> tuple[Records, list[str]]:
    """All images below a folder in natural order, and of each the subfolder of `folder` that it lies in ("" for none).

    Raises:
      UserError: if the folder cannot be read, or holds no image.
    """
    paths = sorted((file.path for file in _files(folder) if file.path != CAPTIONS), key=_natural)
    return _Images(os.fspath(folder), paths, None, None), [path.rpartition("/")[0].partition("/")[0] for path in paths]


def decoded(content: bytes, name: str) -> np.ndarray:
    """A PNG or JPEG file's image: uint8 [H, W, 1] of grey and black-and-white ones, [H, W, 3] of all others.

    It is turned upright as its EXIF orientation says. What is transparent is blended with white. Palette, CMYK
    and 16-bit grey with alpha become RGB; colour profiles are passed over. 16-bit channels keep their high byte,
    and the grey that is transparent in 16-bit grey is not looked at. Animations give their first image.

    Args:
      content: of the file.
      name: of the file, for messages.

    Raises:
      BadExampleError: if it is empty, cut off, damaged as far as that can be seen, neither PNG nor JPEG, or of more
        pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise ValueError(f"{image.width}x{image.height} pixels are over the {Image.MAX_IMAGE_PIXELS:,} allowed")
            if image.format == "PNG":
                image.verify()  # the checksums, which decoding does not look at
                if PNG_END not in content:
                    raise ValueError("its end is missing")
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            return _pixels(ImageOps.exif_transpose(image))
    except Exception as error:  # damage shows as whatever the decoder stumbles over
        reason = str(error).partition("\n")[0]
        if isinstance(error, UnidentifiedImageError):
            reason = "neither PNG nor JPEG" if content else "empty"
        raise BadExampleError(
            f"cannot decode {name} ({reason}): replace it by a whole PNG or JPEG, or remove it"
        ) from error


def _pixels(image: Any) -> np.ndarray:
    """Of a PIL image, uint8 [H, W, 1 or 3]."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey
        return (np.asarray(image) >> 8).astype(np.uint8)[..., None]
    is_grey = image.mode in ("1", "L", "LA")
    mode = "L" if is_grey else "RGB"
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("LA" if is_grey else "RGBA")
        # White, as on a page: what is drawn on nothing is mostly dark.
        opaque = Image.new(mode, image.size, "white")
        opaque.paste(image.convert(mode), mask=image.getchannel("A"))
        image = opaque
    return np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)


@dataclass(frozen=True)
class _Images:
    """Records of image files."""

    folder: str
    paths: Sequence[str]  # below the folder, with /
    labels: Sequence[int] | None
    captions: Sequence[str] | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.name(index)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise BadExampleError(f"cannot read {path} ({error.strerror}): make it readable, or remove it") from error
        example = {"image": decoded(content, path)}
        if self.labels is not None:
            example["label"] = self.labels[index]
        if self.captions is not None:
            example["caption"] = self.captions[index]
        return example

    def name(self, index: int) -> str:
        return os.path.join(self.folder, self.paths[index])


class _File(NamedTuple):
    path: str  # below the folder, with /
    size: int  # bytes
    modified: int  # nanoseconds


def _folder(options: Options) -> Path:
    folder = options.data_folder
    what = "a folder of PNG or JPEG images"
    if folder is None:
        raise UserError(f"image_folder needs {what}: name it by --data-from FOLDER (--from in `jaxgen data`)")
    if not os.path.isdir(folder):  # Path.is_dir raises where it may not look
        wrong = f"{folder} is a file" if os.path.exists(folder) else f"there is no folder {folder}"
        raise UserError(f"{wrong}: --data-from (--from in `jaxgen data`) has to name {what}")
    return folder


def _files(folder: Path) -> list[_File]:
    """The images at any depth and captions.jsonl, in no order."""
    try:
        files = list(_walk(os.fspath(folder), "", frozenset()))
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename} ({error.strerror}): make it readable, or move it out of {folder}"
        ) from error
    if all(file.path == CAPTIONS for file in files):
        raise UserError(f"{folder} holds no image ({', '.join(SUFFIXES)}), nor do its subfolders")
    return files


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[_File]:
    """Of a folder that lies in the folders `above`, given by device and inode."""
    status = os.stat(folder)
    here = status.st_dev, status.st_ino
    if here in above:  # a link that leads back
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, path + "/", above | {here})
            elif path == CAPTIONS or entry.name.lower().endswith(SUFFIXES):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield _File(path, status.st_size, status.st_mtime_ns)


def _natural(path: str) -> tuple:
    """A key that sorts by folder, and numbers within names by value."""
    parts = [re.split(r"(\d+)", part) for part in path.split("/")]  # each text, digits, text, digits, ...
    return [[int(x) if i % 2 else x for i, x in enumerate(part)] for part in parts], path


def _classes(folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """The subfolders that the images lie in, in natural order; none if they lie loose in the folder."""
    loose = [path for path in paths if "/" not in path]
    subfolders = {path.partition("/")[0] for path in paths if "/" in path}
    if loose and subfolders:
        raise UserError(
            f"{folder} mixes loose images ({loose[0]}) and subfolders of images ({min(subfolders)}): "
            "put either all or none of the images into class subfolders"
        )
    return tuple(sorted(subfolders, key=_natural))


def _split_folders(
    folder: Path, images: Sequence[str], named: Sequence[str]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The images of each split, and the classes that the splits have in common."""
    found = [SPLIT_FOLDERS[name.casefold()] for name in named]
    if sorted(found) != sorted(SPLITS):
        raise UserError(
            f"{folder} has the split folders {', '.join(named)}: "
            "each of train, validation (or val) and test is needed once, with images"
        )
    splits = {split: [] for split in SPLITS}
    for path in images:
        top = path.partition("/")[0]
        if top not in named:
            raise UserError(
                f"{folder} has {path} beside the split folders {', '.join(named)}: move it into one of them, or out"
            )
        splits[found[named.index(top)]].append(path)

    name_of = dict(zip(found, named, strict=True))
    classes = {
        split: _classes(folder / name_of[split], [path.partition("/")[2] for path in paths])
        for split, paths in splits.items()
    }
    for split in SPLITS[1:]:
        if classes[split] != classes["train"]:
            (odd, *_) = sorted(set(classes[split]) ^ set(classes["train"]), key=_natural)
            has, lacks = (split, "train") if odd in classes[split] else ("train", split)
            raise UserError(
                f"{folder / name_of[has]} has images of the class {odd}, {folder / name_of[lacks]} has not: "
                "all splits need the same class subfolders"
            )
    return splits, classes["train"]


def _drawn(folder: Path, images: Sequence[str]) -> dict[str, list[str]]:
    """The images of each split, in order: each path is hashed to a share in [0, 1).

    Those below 0.1 are test images, those below 0.2 validation images. So an image keeps its split when others
    come or go, except where a split would have none: then it has the one whose share is nearest.
    """
    if len(images) < len(SPLITS):
        raise UserError(
            f"{folder} holds {len(images)} image{'s' if len(images) > 1 else ''}: "
            f"at least {len(SPLITS)} are needed, one for each of {', '.join(SPLITS)}"
        )
    digests = [hashlib.sha256(os.fsencode(path)).digest() for path in images]
    shares = np.array([int.from_bytes(digest[:4], "big") for digest in digests]) / 2**32
    order = np.argsort(shares, kind="stable")
    first, second = np.searchsorted(shares[order], [0.1, 0.2])
    first = np.clip(first, 1, len(images) - 2)
    second = np.clip(second, first + 1, len(images) - 1)
    test, validation, train = np.split(order, [first, second])
    indices = {"train": train, "validation": validation, "test": test}
    return {split: [images[i] for i in np.sort(chosen)] for split, chosen in indices.items()}


def _captions(path: Path, images: Sequence[str]) -> Mapping[str, str]:
    """The caption of each image."""
    known = set(images)
    captions = {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = list(file)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): make it readable, or remove it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f'{where} is no JSON: it has to be like {{"file": "a.png", "caption": "a cat"}}') from error
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file", "caption")):
            raise UserError(f'{where} lacks a text "file" or "caption": it has to be an object with both')
        image = posixpath.normpath(entry["file"])
        if image not in known:
            raise UserError(f"{where} is a caption without image: there is no image {image} in {path.parent}")
        if image in captions:
            raise UserError(f"{where} is a second caption of {image}: an image has one")
        captions[image] = entry["caption"]
    if missing := [image for image in images if image not in captions]:
        raise UserError(f"{path} leaves {missing[0]} an image without caption: every image needs a line, or remove it")
    return captions
