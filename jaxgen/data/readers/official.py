"""Official datasets prepared by TFDS (`jaxgen.data.readers.preparing`), read without TensorFlow.

A dataset is named as in `OFFICIAL`, or tfds:NAME or tfds:NAME/CONFIG for any other TFDS dataset with images.
Prepared data lie in `data_dir()`/tfds/NAME[/CONFIG]/VERSION, with a manifest of their files' checksums.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.readers.slices import ranges
from jaxgen.data.source import SPLITS, BadExampleError, Source, data_dir
from jaxgen.errors import UserError, suggest

MANIFEST = "jaxgen.json"
"""Manifest of a prepared folder: dataset, number of examples of each TFDS split, size and sha256 of each file."""


class Official(NamedTuple):
    """A TFDS dataset and the parts that are read; splits are in TFDS's slicing syntax and never overlap."""

    description: str
    license: str
    shape: tuple[int | None, int | None, int]  # of an image [H, W, C]; None where it varies
    train: str
    validation: str
    test: str
    examples: tuple[int, int, int] | None = None  # in these splits; None where it depends on the config
    classes: int = 0  # 0 where there are no labels
    configs: tuple[str, ...] = ()  # TFDS's; the only one need not be given
    image: str = "image"  # TFDS's name of the feature
    label: str | None = None
    caption: str | None = None  # nested names joined by /; of several captions, the first is read
    white: int = 255  # the value of a white pixel in TFDS's images, which is scaled to 255
    unlabeled: str | None = None  # TFDS's split without labels; if it is used, no labels are read
    note: str = ""


_LSUN_CONFIGS = (
    *("classroom", "bedroom", "bridge", "church_outdoor", "conference_room"),
    *("dining_room", "kitchen", "living_room", "restaurant", "tower"),
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining_table", "dog", "horse", "motorbike", "person", "potted_plant", "sheep", "sofa", "train", "tv-monitor"),
)

OFFICIAL: dict[str, Official] = {
    "mnist": Official(
        "Handwritten digits, gray.",
        license="CC BY-SA 3.0",
        shape=(28, 28, 1),
        train="train[:55000]",
        validation="train[55000:]",
        test="test",
        examples=(55_000, 5_000, 10_000),
        classes=10,
        label="label",
    ),
    "fashion_mnist": Official(
        "Zalando's pictures of clothes, gray, in the format of MNIST.",
        license="MIT",
        shape=(28, 28, 1),
        train="train[:55000]",
        validation="train[55000:]",
        test="test",
        examples=(55_000, 5_000, 10_000),
        classes=10,
        label="label",
    ),
    "kmnist": Official(
        "Handwritten cursive Japanese characters, gray, in the format of MNIST.",
        license="CC BY-SA 4.0",
        shape=(28, 28, 1),
        train="train[:55000]",
        validation="train[55000:]",
        test="test",
        examples=(55_000, 5_000, 10_000),
        classes=10,
        label="label",
    ),
    "binarized_mnist": Official(
        "The fixed binarization of MNIST on which likelihoods are compared.",
        license="not stated; MNIST's is CC BY-SA 3.0",
        shape=(28, 28, 1),
        train="train",
        validation="validation",
        test="test",
        examples=(50_000, 10_000, 10_000),
        white=1,
        note="pixels 0 and 1 are read as 0 and 255",
    ),
    "omniglot": Official(
        "Handwritten characters of 50 alphabets, black on white, 20 drawings of each.",
        license="MIT",
        shape=(105, 105, 3),
        train="train[:17000]",
        validation="train[17000:]",
        test="test",
        examples=(17_000, 2_280, 13_180),
        classes=1_623,
        label="label",
        note="labels are characters, and the test split's alphabets and characters are not among the training ones",
    ),
    "cifar10": Official(
        "Small color photographs of 10 kinds of animals and vehicles.",
        license="not stated",
        shape=(32, 32, 3),
        train="train[:45000]",
        validation="train[45000:]",
        test="test",
        examples=(45_000, 5_000, 10_000),
        classes=10,
        label="label",
    ),
    "cifar100": Official(
        "Small color photographs of 100 kinds of things.",
        license="not stated",
        shape=(32, 32, 3),
        train="train[:45000]",
        validation="train[45000:]",
        test="test",
        examples=(45_000, 5_000, 10_000),
        classes=100,
        label="label",
        note="labels are the 100 fine classes",
    ),
    "svhn_cropped": Official(
        "Digits cropped from photographs of house numbers.",
        license="non-commercial use only",
        shape=(32, 32, 3),
        train="train[:66000]",
        validation="train[66000:]",
        test="test",
        examples=(66_000, 7_257, 26_032),
        classes=10,
        label="label",
        note="a split extra has 531,131 easier ones",
    ),
    "celeb_a": Official(
        "Faces of celebrities, aligned and cropped.",
        license="non-commercial research only",
        shape=(218, 178, 3),
        train="train",
        validation="validation",
        test="test",
        examples=(162_770, 19_867, 19_962),
        note="the 40 attributes are not read",
    ),
    "lsun": Official(
        "Photographs of one of 10 kinds of scenes or 20 of objects.",
        license="not stated",
        shape=(None, None, 3),
        train="train[:-20000]",
        validation="train[-20000:-10000]",
        test="train[-10000:]",
        configs=_LSUN_CONFIGS,
        note="the split validation of its scenes, 300 images, is not read",
    ),
    "stl10": Official(
        "Color photographs of 10 kinds of animals and vehicles, few of them labeled.",
        license="not stated",
        shape=(96, 96, 3),
        train="train[:4500]",
        validation="train[4500:]",
        test="test",
        examples=(4_500, 500, 8_000),
        classes=10,
        label="label",
        unlabeled="unlabeled",
        note="a split unlabeled has 100,000 more, of other kinds too",
    ),
    "oxford_flowers102": Official(
        "Photographs of 102 kinds of flowers.",
        license="not stated",
        shape=(None, None, 3),
        train="train",
        validation="validation",
        test="test",
        examples=(1_020, 1_020, 6_149),
        classes=102,
        label="label",
    ),
    "coco_captions": Official(
        "Photographs of everyday scenes, each with about five sentences on it.",
        license="captions CC BY 4.0; images under the Flickr license of each",
        shape=(None, None, 3),
        train="train+restval",
        validation="val",
        test="test",
        examples=(113_287, 5_000, 5_000),
        configs=("2014",),
        caption="captions/text",
        note="splits by Karpathy and Li (2015); the first caption of each image is read",
    ),
}


def identity(options: Options) -> str:
    """The sha256 (hex) of the splits, the manifest, and the files' sizes and times. Raises UserError as `read` does."""
    name, row = lookup(options.dataset)
    folder = _prepared(options.dataset, name)
    manifest = read_manifest(folder)
    files = {file: _state(folder / file) for file in manifest["files"]}
    splits = _splits(options, row or _carved(manifest["examples"]))
    return hashlib.sha256(repr((name, row, splits, manifest, files)).encode()).hexdigest()


def read(options: Options) -> Source:
    """Checks the files against the manifest, and returns the dataset's splits as `TfdsRecords`.

    For tfds:NAME the image is the feature `image` or else the first image feature; the label is `label` or the first
    one, and a caption is read if there is one. Splits are those named train, validation (or val) and test. A missing
    test split is train[80%:]. A missing validation split is train[90%:], or train[70%:80%] if both are missing.

    Raises:
      UserError: if the dataset is unknown, not prepared, was changed since, or has no 8-bit gray or color
        images; if a split is not in TFDS's syntax, is empty, or overlaps another.
    """
    import tensorflow_datasets as tfds

    name, row = lookup(options.dataset)
    folder = _prepared(options.dataset, name)
    check(folder)
    info = tfds.builder_from_directory(folder).info
    if row is None:
        counts = {split: details.num_examples for split, details in info.splits.items()}
        row = _carved(counts)._replace(**image_features(name, info.features))
    splits = _splits(options, row)
    parts = ranges(options.dataset, splits, {name: split.num_examples for name, split in info.splits.items()})
    if row.unlabeled in {split for some in parts.values() for split, _, _ in some}:
        row = row._replace(label=None)
    return Source(
        splits={
            kind: TfdsRecords(
                options.dataset,
                folder,
                splits[kind],
                sum(end - start for _, start, end in parts[kind]),
                row.image,
                row.label,
                row.caption,
                255 // row.white,
            )
            for kind in SPLITS
        },
        note=f"TFDS's {info.full_name}, of which {splits['train']} is for training, {splits['validation']} for "
        f"validation and {splits['test']} for testing" + (f"; {row.note}" if row.note else ""),
        classes=tuple(info.features[row.label].names) if row.label else (),
        sliced=True,
    )


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """The examples of a split: image uint8 [H, W, C] in 0..255, and label int and caption str if there are any.

    They are read from the ArrayRecord files on access; a process that unpickles the records opens the files anew.
    Images are decoded by Pillow, because TFDS would use OpenCV if installed, which decodes JPEGs to other pixels.
    """

    dataset: str
    folder: Path
    split: str  # in TFDS's slicing syntax
    size: int
    image: str  # TFDS's names of the features
    label: str | None
    caption: str | None
    scale: int  # factor of TFDS's pixels

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(f"{index} of {self.size} examples")
        try:
            source, features, decoders, mode = self._opened
            record = source[int(index)]
        except Exception as error:  # the reader raises any exception
            raise UserError(f"{self.folder} can no longer be read: {_line(error)}") from error
        try:
            record = features.deserialize_example_np(record, decoders=decoders)
            example = {"image": _decoded(record[self.image], mode) * np.uint8(self.scale)}
            if self.label:
                example["label"] = int(record[self.label])
            if self.caption:
                example["caption"] = _first_text(record, self.caption)
        except Exception as error:  # on damage, decoders raise any exception
            raise BadExampleError(f"{self.name(index)} cannot be decoded: {_line(error)}") from error
        return example

    def name(self, index: int) -> str:  # noqa: D102 - as `Records` has it
        return f"example {index} of {self.dataset}, split {self.split},"

    @functools.cached_property
    def _opened(self):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self.folder)
        source = builder.as_data_source(self.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        read = [name.partition("/")[0] for name in (self.image, self.label, self.caption) if name]
        features = tfds.features.FeaturesDict({name: builder.info.features[name] for name in read})
        mode = "L" if features[self.image].shape[-1] == 1 else "RGB"
        return source, features, {self.image: tfds.decode.SkipDecoding()}, mode

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def lookup(dataset: str) -> tuple[str, Official | None]:
    """TFDS's name of a dataset, NAME or NAME/CONFIG, and its row in `OFFICIAL`, or None.

    Raises:
      UserError: if there is no row and no prefix tfds:, or the row lacks the config.
    """
    name, _, config = dataset.removeprefix("tfds:").partition("/")
    row = OFFICIAL.get(name)
    if row is None:
        if not dataset.startswith("tfds:"):
            raise UserError(f"unknown dataset {dataset}: {suggest(name, OFFICIAL)}")
        if not re.fullmatch(r"\w+(/[\w.-]*\w)?", dataset.removeprefix("tfds:")):
            raise UserError(f"{dataset} is no name of a dataset: it is tfds:NAME or tfds:NAME/CONFIG")
        return dataset.removeprefix("tfds:"), None
    if not row.configs:
        if config:
            raise UserError(f"{name} has no configs: it is {name}, not {name}/{config}")
        return name, row
    if not config and len(row.configs) == 1:
        config = row.configs[0]
    if config not in row.configs:
        raise UserError(f"{name} is {name}/CONFIG: {suggest(config, row.configs)}")
    return f"{name}/{config}", row


def prepared(name: str) -> Path | None:
    """The folder of the newest prepared version of a dataset, by TFDS's name; None if there is none."""
    folders = [path.parent for path in (data_dir() / "tfds" / name).glob(f"*/{MANIFEST}")]
    versions = [path for path in folders if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder: dataset, examples {split: count}, files {name: [size, sha256]}."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return {key: manifest[key] for key in ("dataset", "examples", "files")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST} cannot be read: delete {folder} and prepare the dataset again") from error


def check(folder: Path) -> None:
    """Raises UserError if a file of a prepared folder differs from the manifest."""
    manifest = read_manifest(folder)

    def intact(file: str) -> bool:
        size, digest = manifest["files"][file]
        path = folder / file
        return path.is_file() and path.stat().st_size == size and sha256(path) == digest

    with ThreadPoolExecutor() as pool:
        for file, good in zip(manifest["files"], pool.map(intact, manifest["files"]), strict=True):
            if not good:
                raise UserError(
                    f"{folder / file} was damaged or changed after it was prepared: "
                    f"delete {folder} and run jaxgen data prepare {manifest['dataset']} again"
                )


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_features(name: str, features: Mapping[str, Any]) -> dict[str, Any]:
    """Finds the features with images, labels and captions; returns them as fields of `Official`.

    Raises:
      UserError: if the dataset has no images of 8 bits and 1 or 3 channels.
    """
    import tensorflow_datasets as tfds

    # Subclasses such as LabeledImage are masks, not pictures.
    image = _preferred("image", [key for key, x in features.items() if type(x) is tfds.features.Image])
    if image is None:
        raise UserError(f"tfds:{name} has no images; its features are {', '.join(features)}")
    dtype, shape = features[image].np_dtype, features[image].shape
    if dtype != np.uint8 or len(shape) != 3 or shape[-1] not in (1, 3):
        raise UserError(f"the images of tfds:{name} are {np.dtype(dtype)} {shape}, not uint8 of 1 or 3 channels")
    label = _preferred("label", [key for key, x in features.items() if isinstance(x, tfds.features.ClassLabel)])
    captions = [_caption(key, features[key]) for key in ("caption", "captions", "text") if key in features]
    return {"image": image, "label": label, "caption": next(filter(None, captions), None)}


def _preferred(name: str, keys: list[str]) -> str | None:
    """The name if it is among the keys, or else the first of them."""
    return name if name in keys else next(iter(keys), None)


def _caption(key: str, feature: Any) -> str | None:
    """The name of the text in a feature that is a text, a sequence of texts, or has an entry `text`; else None."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    if isinstance(feature, tfds.features.FeaturesDict):
        return f"{key}/text" if "text" in feature else None
    return key if feature.np_dtype == np.object_ else None


def _carved(examples: Mapping[str, int]) -> Official:
    """The row of a dataset not in `OFFICIAL`, with the splits described in `read`."""
    validation = next((split for split in ("validation", "val") if split in examples), None)
    match validation, "test" in examples:
        case None, False:
            splits = "train[:70%]", "train[70%:80%]", "train[80%:]"
        case None, True:
            splits = "train[:90%]", "train[90%:]", "test"
        case _, False:
            splits = "train[:80%]", validation, "train[80%:]"
        case _:
            splits = "train", validation, "test"
    return Official("", "", (None, None, 3), *splits)


def _prepared(dataset: str, name: str) -> Path:
    """Returns the same as `prepared`, but raises UserError instead of returning None."""
    folder = prepared(name)
    if folder is None:
        raise UserError(f"{dataset} is not prepared yet: run jaxgen data prepare {dataset}")
    return folder


def _splits(options: Options, row: Official) -> dict[str, str]:
    """Map from split to its slice of TFDS's splits, by the options or else the row."""
    return {kind: getattr(options, f"{kind}_split") or getattr(row, kind) for kind in SPLITS}


def _state(path: Path) -> tuple[int, int] | None:
    """The size and modification time of a file; None if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _decoded(encoded: bytes, mode: str) -> np.ndarray:
    """An image file's content as uint8 [H, W, C], in Pillow's mode L (gray) or RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if mode == "L" else pixels


def _first_text(record: Mapping[str, Any], name: str) -> str:
    value = functools.reduce(lambda entries, key: entries[key], name.split("/"), record)
    texts = np.asarray(value, dtype=object).ravel()
    return texts[0].decode() if texts.size else ""


def _line(error: Exception) -> str:
    """The last line of an error's message, where TFDS gives the reason, without parts useless to a user."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\. (See|Please) .*| <_io.*>|\.$", "", lines[-1]) if lines else type(error).__name__
