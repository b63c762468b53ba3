"""`nlvr`: pictures of colored shapes in three gray boxes, each with a written sentence that is true or false of them.

The Cornell Natural Language Visual Reasoning corpus (Suhr, Lewis, Yeh and Artzi, "A Corpus of Natural Language for
Visual Reasoning", ACL 2017), CC BY 4.0. Its parts dev, test (public) and hidden (released in 2022) are read: 2,964
scenes with a sentence, each drawn six times, with its boxes in every order, which gives 17,784 pictures. Its training
part is not read.

These parts cannot serve as splits for scoring a generative model: 465 of their 16,546 different pictures and a tenth of
their sentences are in more than one part. So the parts are merged and split again, about 80/10/10 by a hash, such that
no picture and no sentence (ignoring case and punctuation) is in two splits. Thus the six pictures of a scene, and the
up to four scenes with one sentence that a writer saw together, are in one split too.

Prepared data are the concatenated PNG files (images.bin), the caption, label and position of each (examples.json), and
the checksums of these two files (manifest.json).
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.data.image_files import decoded
from jaxgen.data.options import Options
from jaxgen.data.source import SPLITS, BadExampleError, Source, data_dir
from jaxgen.errors import UserError

SCENES = {"dev": 989, "test": 990, "hidden": 985}
"""Number of scenes in each of NLVR's parts."""

ORDERS = 6  # orders of a scene's boxes, one picture for each
SHAPE = (100, 400, 3)
CLASSES = ("false", "true")

IMAGES, EXAMPLES, MANIFEST = "images.bin", "examples.json", "manifest.json"
COMMAND = "jaxgen data prepare nlvr --from FOLDER"

# dev/dev.json and dev/images/0/dev-1373-0-5.png, for dev at any depth
_FILE = re.compile(rf"(?:.*/)?({'|'.join(SCENES)})/(?:images/\d+/)?(\1\.json|\1-\d+-\d+-\d+\.png)")


class _Scene(NamedTuple):
    """A line of dev.json, test.json or hidden.json."""

    name: str  # prefix of its pictures' names
    sentence: str
    label: int

    @property
    def pictures(self) -> list[str]:
        return [f"{self.name}-{order}.png" for order in range(ORDERS)]


def prepare(folder: Path | None) -> Path:
    """Prepares NLVR, unless it is prepared already and intact.

    Args:
      folder: holds NLVR's folders dev, test and hidden, or its folder nlvr, or an archive nlvr*.tar.gz of them.

    Returns:
      The prepared folder.

    Raises:
      UserError: if no folder is given, it lacks some of NLVR's 17,784 pictures and their sentences, the data folder
        cannot be written, or data prepared before were changed.
    """
    place = data_dir() / "nlvr"
    if os.path.isdir(place):
        _check(place)
        return place
    if folder is None:
        raise UserError(
            f"nlvr is prepared from a folder: git clone https://github.com/lil-lab/nlvr, and give it: {COMMAND}"
        )
    files = _files(folder)
    scenes = _scenes(files, folder)
    pixels = _pixels(files, scenes)

    contents, start = [], 0
    examples = {split: [] for split in SPLITS}
    for scene, split in zip(scenes, _splits(scenes, pixels), strict=True):
        for picture in scene.pictures:
            contents.append(files[picture])
            examples[split].append(_Example(start, len(files[picture]), picture, scene.sentence, scene.label))
            start += len(files[picture])
    _write(place, {IMAGES: b"".join(contents), EXAMPLES: json.dumps(examples).encode()})
    return place


def identity(options: Options) -> str:
    """The sha256 (hex) of the manifest, and of the size and modification time of its files.

    Raises:
      UserError: if NLVR is not prepared, or one of its files is missing.
    """
    place = _prepared()
    try:
        digest = hashlib.sha256((place / MANIFEST).read_bytes())
        for name in (IMAGES, EXAMPLES):
            status = os.stat(place / name)
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    except OSError as error:
        raise _damaged(Path(error.filename)) from error
    return digest.hexdigest()


def read(options: Options) -> Source:
    """Records of image uint8 [100, 400, 3], caption (the sentence) and label: 1 if it is true, else 0.

    Raises:
      UserError: if NLVR is not prepared, or was changed since.
    """
    place = _prepared()
    _check(place)
    examples = json.loads((place / EXAMPLES).read_bytes())
    return Source(
        splits={
            split: _Records(str(place / IMAGES), [_Example(*example) for example in examples[split]])
            for split in SPLITS
        },
        note="NLVR's dev, test and hidden parts (Suhr et al. 2017) put together, "
        "split about 80/10/10 such that no sentence and no picture is in two splits",
        classes=CLASSES,
    )


class _Example(NamedTuple):
    """A picture's position in images.bin, its name, caption and label."""

    start: int  # offset of its PNG file in images.bin
    size: int
    name: str
    caption: str
    label: int


@dataclass(frozen=True)
class _Records:
    """The examples of a split."""

    images: str  # the path of images.bin
    examples: Sequence[_Example]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        try:
            with open(self.images, "rb") as file:
                file.seek(example.start)
                content = file.read(example.size)
        except OSError as error:
            raise BadExampleError(f"cannot read {example.name} of {self.images} ({error.strerror})") from error
        image = decoded(content, f"{example.name} of {self.images}")
        return {"image": image, "label": example.label, "caption": example.caption}

    def name(self, index: int) -> str:
        return self.examples[index].name


def _prepared() -> Path:
    place = data_dir() / "nlvr"
    if not os.path.isdir(place):  # Path.is_dir raises without permission
        raise UserError(f"nlvr is not prepared: run {COMMAND}")
    return place


def _check(place: Path) -> None:
    """Raises UserError if a file differs from the manifest."""
    try:
        expected = dict(json.loads((place / MANIFEST).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(place / MANIFEST) from error
    for name in (IMAGES, EXAMPLES):
        try:
            with open(place / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(place / name) from error
        if digest != expected.get(name):
            raise _damaged(place / name)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} was damaged or changed after it was prepared: delete {path.parent} and run {COMMAND}")


def _files(folder: Path) -> dict[str, bytes]:
    """The contents of NLVR's json files and pictures, by name without folder."""
    try:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: name the one with NLVR's files by {COMMAND}")
        for root in (folder, folder / "nlvr"):
            if (root / "dev").is_dir():
                paths = (path.as_posix() for part in SCENES for path in sorted((root / part).rglob("*.*")))
                return {match[2]: Path(match[0]).read_bytes() for match in map(_FILE.fullmatch, paths) if match}
        for archive in sorted(folder.glob("nlvr*.tar.gz")):
            return dict(_unpacked(archive))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder} ({error.strerror}): make it readable") from error
    raise UserError(
        f"{folder} has neither NLVR's folders dev, test and hidden, nor nlvr with these in it, nor nlvr*.tar.gz: "
        f"name the folder that has by {COMMAND}"
    )


def _unpacked(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the files of an archive, in memory: nothing is written to paths that the archive names."""
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                if member.isfile() and (match := _FILE.fullmatch(member.name)):
                    yield match[2], members.extractfile(member).read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is damaged ({error}): download it again") from error


def _scenes(files: Mapping[str, bytes], folder: Path) -> list[_Scene]:
    """The scenes, in their order; checks that `files` has their pictures and no others."""
    scenes = []
    for part, count in SCENES.items():
        name = f"{part}.json"
        if name not in files:
            raise UserError(f"{folder} lacks NLVR's {name}: give the whole of it")
        listed = []
        for number, line in enumerate(files[name].splitlines(), 1):
            try:
                row = json.loads(line)
                listed.append(_Scene(f"{part}-{row['identifier']}", str(row["sentence"]), CLASSES.index(row["label"])))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"line {number} of {name} of {folder} is not NLVR's: it has to be a JSON object with "
                    'identifier, sentence and label ("true" or "false")'
                ) from error
        if len(listed) != count:
            raise UserError(f"{name} of {folder} has {len(listed)} scenes, NLVR's has {count}: give the whole of it")
        scenes += listed

    pictures = {picture for scene in scenes for picture in scene.pictures}
    found = {name for name in files if name.endswith(".png")}
    if missing := pictures - found:
        raise UserError(
            f"{folder} lacks {len(missing):,} of NLVR's {len(pictures):,} pictures, as {min(missing)}: "
            "give the whole of it"
        )
    if unknown := found - pictures:
        raise UserError(f"{folder} has {min(unknown)}, of which no json file tells: give NLVR as it was published")
    return scenes


def _pixels(files: Mapping[str, bytes], scenes: Sequence[_Scene]) -> dict[str, bytes]:
    """The sha256 of each picture's pixels."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    pictures = [picture for scene in scenes for picture in scene.pictures]
    pixels = {}
    for picture in track(pictures, "checking nlvr", console=console, transient=True, disable=not console.is_terminal):
        image = decoded(files[picture], picture)
        if image.shape != SHAPE:
            raise UserError(f"{picture} is of shape {image.shape}, NLVR's are {SHAPE}: give NLVR as it was published")
        pixels[picture] = hashlib.sha256(image).digest()
    return pixels


def _splits(scenes: Sequence[_Scene], pixels: Mapping[str, bytes]) -> list[str]:
    """The split of each scene.

    Scenes that share a picture or a sentence, directly or by way of other scenes, form a group. The hash of a
    group's alphabetically first sentence decides its split.
    """
    words = [" ".join(re.findall(r"\w+", scene.sentence.lower())) for scene in scenes]
    parent: dict[tuple, tuple] = {}  # a forest of sentences and pictures, with a tree for each group

    def root(node: tuple) -> tuple:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for scene, sentence in zip(scenes, words, strict=True):
        for picture in scene.pictures:
            # The smallest node is the root: a sentence, since 0 sorts before 1.
            least, other = sorted((root((0, sentence)), root((1, pixels[picture]))))
            parent[other] = least

    def drawn(sentence: str) -> str:
        share = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4], "big") / 2**32
        return "test" if share < 0.1 else "validation" if share < 0.2 else "train"

    return [drawn(root((0, sentence))[1]) for sentence in words]


def _write(place: Path, contents: Mapping[str, bytes]) -> None:
    """Writes the files and their manifest into a temporary folder, which is renamed when complete."""
    work = place.with_name(f".{place.name}-{os.getpid()}")
    manifest = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    try:
        shutil.rmtree(work, ignore_errors=True)  # left by a killed process with this id
        work.mkdir(parents=True)
        for name, content in contents.items():
            (work / name).write_bytes(content)
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        work.rename(place)
    except OSError as error:
        if not os.path.isdir(place):  # otherwise another process was first
            raise UserError(
                f"cannot write the data folder {place.parent} ({error.strerror}): "
                "set JAXGEN_DATA_DIR to a folder that can be written"
            ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
