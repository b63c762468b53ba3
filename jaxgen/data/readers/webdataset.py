"""`webdataset`: images in tar files, the shards of WebDataset, decoded on access.

A member is KEY.SUFFIX, where SUFFIX begins at the first dot of the file's name; members of one key are one example.
Read are an image (the suffixes of `image_folder`); .cls, a label, a whole number from 0 on or a name; .txt, a caption;
and of .json, an object, `label` and `caption` (or `text`, or a list of them) where .cls and .txt give none. Others are
counted in the note. If one example has a label, or a caption, all need one. `jaxgen.data.readers.shards` finds the
shards and their splits.

Names, labels and captions are held in memory; images are read from their place in a shard, which cannot be compressed.
"""

import json
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxgen.data.image_files import SUFFIXES
from jaxgen.data.options import Options
from jaxgen.data.readers import shards
from jaxgen.data.readers.shards import Examples, ShardedImages
from jaxgen.data.source import BadExampleError, Source, passed_over
from jaxgen.errors import UserError

SUFFIX = ".tar"

TEXTS = ("cls", "txt", "json")
"""Suffixes of the members that are read as text."""

BLOCK = 512
"""Bytes of a block of a tar file; one of zeros ends it."""


@dataclass
class _Sample:
    """The members of a key."""

    image: tuple[str, int, int] | None = None  # name, place and size in the shard
    texts: dict[str, str] = field(default_factory=dict)  # by suffix


def identity(options: Options) -> str:
    """The sha256 (hex) of path, size and modification time of the shards. Raises UserError if there are none."""
    return shards.identity(options, SUFFIX)


def read(options: Options) -> Source:
    """The images as records of image uint8 [H, W, C], and label and caption if there are any.

    Raises:
      UserError: there are no shards, one is damaged, or their examples are not alike.
    """
    there = shards.found(options, SUFFIX)
    others: Counter[str] = Counter()
    given = {split: _examples(there.folder, files, others) for split, files in there.splits.items()}
    for entry in ("labels", "captions"):
        having = [split for split, examples in given.items() if getattr(examples, entry) is not None]
        if having and len(having) < len(given):
            lacking = next(split for split in given if split not in having)
            raise UserError(f"{options.data_folder} has {entry} of {having[0]}, and none of {lacking}")
    note = "captions from the shards" if given["train"].captions else ""
    left = "; ".join(filter(None, [there.left_out, passed_over(others)]))
    return shards.assembled(options, there._replace(left_out=left), given, _Members, note=note)


class _Members(ShardedImages):
    """Records of the images in tar files, each at (shard, place, size)."""

    def content(self, index: int) -> bytes:
        file, place, size = self.places[index]
        with open(file, "rb") as stream:
            stream.seek(place)
            content = stream.read(size)
        if len(content) < size:
            raise BadExampleError(f"cannot read {self.name(index)}: the shard was cut short since")
        return content


def _examples(folder: Path, files: list[str], others: Counter[str]) -> Examples:
    """The examples of a split; counts in `others` the members that are not read, by suffix."""
    names, places, labels, captions = [], [], [], []
    for file in files:
        path = folder / file
        for key, sample in _samples(path, others).items():
            where = f"{key} of {path}"
            if sample.image is None:
                raise UserError(f"{where} has no image, only .{' and .'.join(sample.texts)}")
            member, place, size = sample.image
            names.append(f"{file}/{member}")
            places.append((str(path.absolute()), place, size))
            label, caption = _told(where, sample.texts)
            labels.append(label)
            captions.append(caption)
    if not names:
        raise UserError(f"{folder / files[0]} holds no image ({', '.join(SUFFIXES)})")
    for entry, values in (("label", labels), ("caption", captions)):
        lacking = [name for name, value in zip(names, values, strict=True) if value is None]
        if 0 < len(lacking) < len(names):
            raise UserError(f"{folder / lacking[0]} has no {entry}, and others have: all need one, or none")
    return Examples(names, places, None if None in labels else labels, None if None in captions else captions)


def _samples(path: Path, others: Counter[str]) -> Mapping[str, _Sample]:
    """Map from key to the members of a shard, in order."""
    found: dict[str, _Sample] = {}
    try:
        with open(path, "rb") as stream:
            _check_tar(path, stream.read(BLOCK))
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    name = posixpath.normpath(member.name)
                    above, base = posixpath.split(name)
                    if not member.isfile() or any(part.startswith(".") for part in name.split("/")):
                        continue
                    stem, _, suffix = base.partition(".")
                    key, suffix = posixpath.join(above, stem), suffix.lower()
                    if f".{suffix}" not in SUFFIXES and suffix not in TEXTS:
                        others[re.sub(r"^\..*(?=\.)", ".*", f".{suffix}").rstrip(".")] += 1  # .*.png of a.1.png
                        continue
                    sample = found.setdefault(key, _Sample())
                    if suffix in sample.texts or (suffix not in TEXTS and sample.image):
                        raise UserError(f"{key} of {path} has two {'images' if suffix not in TEXTS else f'.{suffix}'}")
                    if suffix in TEXTS:
                        sample.texts[suffix] = tar.extractfile(member).read().decode("utf-8-sig")
                    else:
                        sample.image = name, member.offset_data, member.size
                end = tar.offset  # a damaged header ends the archive too
            stream.seek(end)
            if stream.read(BLOCK) != bytes(BLOCK):
                raise UserError(f"{path} is damaged or cut short after {end:,} bytes: get it again")
    except tarfile.TarError as error:
        raise UserError(f"{path} is damaged or cut short ({error}): get it again") from None
    except UnicodeDecodeError:
        raise UserError(f"{name} of {path} is no UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): make it readable") from None
    return found


def _check_tar(path: Path, head: bytes) -> None:
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise UserError(
            f"{path} is compressed, so images cannot be read from their places: decompress it to a plain tar"
        )
    shards.check_content(path, head, b"ustar", "tar", 257)


def _told(where: str, texts: Mapping[str, str]) -> tuple[int | str | None, str | list[str] | None]:
    """Returns (label, caption or captions) of an example; None where it has none."""
    label: Any = texts["cls"].strip() if "cls" in texts else None
    caption: Any = texts["txt"].strip() if "txt" in texts else None
    if "json" in texts:
        try:
            content = json.loads(texts["json"])
        except (ValueError, RecursionError):
            raise UserError(f"the .json of {where} is no JSON") from None
        if not isinstance(content, dict):
            raise UserError(f'the .json of {where} is no object, as in {{"caption": "a cat"}}')
        label = content.get("label") if label is None else label
        given = [content[name] for name in ("caption", "text") if content.get(name) is not None]
        caption = given[0] if caption is None and given else caption
    if isinstance(label, str) and label.removeprefix("-").isdecimal():
        try:
            label = int(label)
        except ValueError:  # int takes at most 4,300 digits
            raise UserError(f"the label of {where} is a number of {len(label):,} digits") from None
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str) or label == ""):
        raise UserError(f"the label of {where} is {json.dumps(label)[:40]}, neither a whole number nor a name")
    several = caption if isinstance(caption, list) else [caption]
    if caption is not None and (not several or not all(isinstance(each, str) for each in several)):
        raise UserError(f"the caption of {where} is {json.dumps(caption)[:40]}, no text")
    return label, several[0] if len(several) == 1 else several
