"""Datasets by name: `load("digits")` returns decoded examples, their spec for models, and a fingerprint.

`DATASETS` is the table of jaxgen's own datasets; `jaxgen.data.readers.official` has those of TFDS. A row names the
reader (a module as `jaxgen.data.source` describes), which is imported when the dataset is loaded, so importing
`jaxgen.data` costs no more than NumPy. To add a dataset, write a reader and add a row.
"""

import dataclasses
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from jaxgen.config import configured
from jaxgen.data import given
from jaxgen.data.options import Options
from jaxgen.data.readers import official
from jaxgen.data.source import data_dir
from jaxgen.errors import UserError, suggest

if TYPE_CHECKING:
    from jaxgen.data.own import Reader
    from jaxgen.data.vocabulary import Vocabulary
    from jaxgen.model import Spec

__all__ = ["DATASETS", "Dataset", "Info", "Options", "data_dir", "identity", "info", "load", "prepare", "table"]


LOOKED_AT = 100
"""Maximum number of training images that are searched for gray levels."""


UNSET = (None, False, 0)
"""Values of the options below that leave a dataset as it is."""

OF_ENTRIES = {"labels": "label", "captions": "caption", "caption_length": "caption", "vocabulary_size": "caption"}
OF_ENTRIES |= {"flip": "image"}
"""Map from option to the entry that a dataset needs for it."""


class Captions(NamedTuple):
    """Captions of images that have several each."""

    tokens: np.ndarray  # int32 [captions, words], image after image
    ends: np.ndarray  # int [images], the row after the last caption of each


class Dataset(NamedTuple):
    """A dataset's splits, each a dict of entries with a leading example axis.

    image uint8 [n, H, W, C], label int32 [n], caption int32 [n, words], point float32 [n, 2], mesh float32
    [n, vertices, 3]: arrays. The image entry of data read while training decodes on indexing. Features of meshes
    (`jaxgen.data.mesh_features`) are computed when their entry is first read.
    """

    name: str  # of a user's own file, without its folder
    options: dict[str, Any]  # JSON-able; `load(name, **options)`, or of the file's path, gives the same dataset again
    spec: "Spec"  # for models, from the train split
    train: dict[str, Any]
    validation: dict[str, Any]  # selects checkpoints and settings
    test: dict[str, Any]  # scored; never selects
    fingerprint: str  # sha256 of the decoded content of the splits, in order
    note: str  # one sentence: source, splits, and what was done to the images
    classes: tuple[str, ...] = ()  # their names, by label
    vocabulary: "Vocabulary | None" = None  # of the captions
    captions: "Captions | None" = None  # all of the training images, if an image has several
    streamed: bool = False  # whether it is read while training
    kept: np.ndarray | None = None  # training examples that keep a label or caption, if the options hide others


class Info(NamedTuple):
    """A row of the table of datasets."""

    name: str
    what: str
    module: str  # the reader
    license: str
    examples: tuple[int, int, int] | None  # train, validation, test; None where it depends on the options
    shape: tuple[int | None, ...] = ()  # of an example's image, mesh or points; None where it varies
    classes: int | tuple[int, ...] = 0  # one for each config where they differ
    captions: bool = False
    # Made on first use, prepared by `jaxgen data prepare`, a user's own files, or a Python file of a user's own.
    comes: Literal["made", "prepared", "folder", "file"] = "made"
    configs: tuple[str, ...] = ()  # the first is the default of datasets that jaxgen makes

    @property
    def prepared(self) -> bool:
        """True if the cache folder holds the dataset, so that it can be loaded."""
        if self.module == "jaxgen.data.readers.official":
            return bool(list((data_dir() / "tfds" / self.name).glob(f"**/{official.MANIFEST}")))
        if self.comes == "prepared":
            return os.path.isdir(data_dir() / self.name)  # Path.is_dir raises without permission
        made = [self.name, *(f"{self.name}_{config}" for config in self.configs)]
        return any(path for name in made for path in (data_dir() / "decoded").glob(f"{name}-*"))


DATASETS = (
    Info(
        name="digits",
        what="handwritten digits scanned at 8x8, from scikit-learn",
        module="jaxgen.data.readers.digits",
        license="CC BY 4.0",
        examples=(808, 90, 899),
        shape=(8, 8, 1),
        classes=10,
    ),
    Info(
        name="shapes",
        what="scenes of one to three colored shapes, each with a caption that is true of it",
        module="jaxgen.data.readers.shapes",
        license="none needed",
        examples=(20_000, 2_000, 2_000),
        shape=(64, 64, 3),
        classes=24,
        captions=True,
    ),
    Info(
        name="shapes_32",
        what="the same scenes, drawn with half as many pixels a side",
        module="jaxgen.data.readers.shapes",
        license="none needed",
        examples=(20_000, 2_000, 2_000),
        shape=(32, 32, 3),
        classes=24,
        captions=True,
    ),
    Info(
        name="gaussians",
        what="points of a mixture: ring, 8 modes on a circle, or grid, 25 in a square",
        module="jaxgen.data.readers.gaussians",
        license="none needed",
        examples=(100_000, 10_000, 10_000),
        shape=(2,),
        classes=(8, 25),
        configs=("ring", "grid"),
    ),
    Info(
        name="stacked_digits",
        what="three digits as the colors of an image: 1,000 modes",
        module="jaxgen.data.readers.stacked",
        license="CC BY 4.0",
        examples=(128_000, 10_000, 26_000),
        shape=(8, 8, 3),
        classes=1000,
    ),
    Info(
        name="stacked_mnist",
        what="the same of MNIST's digits, which has to be prepared",
        module="jaxgen.data.readers.stacked",
        license="CC BY-SA 3.0",
        examples=(128_000, 10_000, 26_000),
        shape=(28, 28, 3),
        classes=1000,
    ),
    Info(
        name="bars",
        what="meshes of a jointed, bending, twisting bar, one connectivity",
        module="jaxgen.data.readers.bars",
        license="none needed",
        examples=(2_000, 240, 240),
        shape=(658, 3),
        classes=4,
    ),
    Info(
        name="nlvr",
        what="drawings of blocks with a written sentence, true or false of it",
        module="jaxgen.data.readers.nlvr",
        license="CC BY 4.0",
        examples=(14_478, 1_842, 1_464),
        shape=(100, 400, 3),
        classes=2,
        captions=True,
        comes="prepared",
    ),
    Info(
        name="image_folder",
        what="your PNG, JPEG, WebP and TIFF images, with class folders, captions and labels where there are",
        module="jaxgen.data.readers.image_folder",
        license="yours",
        examples=None,
        shape=(None, None, None),
        comes="folder",
    ),
    Info(
        name="array",
        what="your images in an npz or npy file, or in Python's arrays, with labels and captions",
        module="jaxgen.data.readers.array",
        license="yours",
        examples=None,
        shape=(None, None, None),
        comes="folder",
    ),
    Info(
        name="hf_folder",
        what="your Hugging Face dataset: Parquet files of images, with labels and captions",
        module="jaxgen.data.readers.hf_folder",
        license="yours",
        examples=None,
        shape=(None, None, None),
        comes="folder",
    ),
    Info(
        name="webdataset",
        what="your WebDataset: tar files of images, with labels and captions",
        module="jaxgen.data.readers.webdataset",
        license="yours",
        examples=None,
        shape=(None, None, None),
        comes="folder",
    ),
    Info(
        name="mesh_folder",
        what="your meshes of one connectivity: .obj, .ply, .off or .npz",
        module="jaxgen.data.readers.mesh_folder",
        license="yours",
        examples=None,
        shape=(None, 3),
        comes="folder",
    ),
)


OF_IMAGE_FILES = ("image_folder", "hf_folder", "webdataset")

OF_SOME = {
    "data_from": (lambda row: row.comes in ("folder", "file"), "is not read from files of yours"),
    "split_blocks": (lambda row: row.comes == "folder", "has its own splits"),
    "columns": (lambda row: row.name == "hf_folder", "is not read from Parquet files of yours"),
    "image_bits": (lambda row: row.name in OF_IMAGE_FILES, "is not read from image files of yours"),
    "drop_duplicates": (lambda row: row.name == "mesh_folder", "is not read from mesh files of yours"),
    "max_objects": (lambda row: row.module == "jaxgen.data.readers.shapes", "has no scenes of objects"),
}
"""Map from option to whether a dataset, given its row, takes it, and what the others are instead."""


def table() -> tuple[Info, ...]:
    """The datasets there are, a row each: jaxgen's own, then TFDS's."""
    return DATASETS + tuple(
        Info(
            name=name,
            what=row.description,
            module="jaxgen.data.readers.official",
            license=row.license,
            examples=row.examples,
            shape=row.shape,
            classes=row.classes,
            captions=row.caption is not None,
            comes="prepared",
            configs=row.configs,
        )
        for name, row in official.OFFICIAL.items()
    )


def info(dataset: str) -> Info:
    """The row of a dataset: NAME, NAME/CONFIG, tfds:NAME or a Python file.

    Raises:
      UserError: an unknown name or config, or there is no such file.
    """
    if dataset.endswith(".py"):
        if not os.path.isfile(os.path.expanduser(dataset)):
            raise UserError(f"there is no file {dataset}")
        return Info(Path(dataset).name, "a file of yours", dataset, "yours", None, comes="file")
    if dataset.startswith("tfds:"):
        return Info(dataset, "", "jaxgen.data.readers.official", "", None, (None, None, None), comes="prepared")
    rows = {row.name: row for row in table()}
    name, _, config = dataset.partition("/")
    if name not in rows:
        hint = suggest(name, rows)
        others = "" if hint.endswith("?") else ", tfds:NAME for any other of TFDS that has images, or your own FILE.py"
        raise UserError(f"unknown dataset {dataset!r}: {hint}{others}")
    row = rows[name]
    if "/" in dataset and config not in row.configs and name != given.DATASET:
        there = f"there are {', '.join(row.configs)}" if row.configs else "it has none"
        raise UserError(f"unknown config {config!r} of dataset {name}: {there}")
    if (row.module.endswith("official")) and row.configs and not config:
        official.lookup(dataset)
    return row


def identity(name: str, **options: Any) -> str:
    """Identity of a prepared dataset: a text that changes whenever its content may have changed."""
    return _reader(name).identity(Options(dataset=name, **options))


def prepare(name: str, folder: str | os.PathLike | None = None, *, progress: bool = True) -> str:
    """Prepares a dataset in `data_dir()`, unless it is prepared already; returns what was done, in a line.

    Args:
      name: NAME or NAME/CONFIG of `table()`, or tfds:NAME.
      folder: holds files already downloaded, gzipped or not, which are used instead of a download.
      progress: show progress on stderr.

    Raises:
      UserError: files are missing or not as published, a TFDS dataset needs TensorFlow and it is missing, the dataset
        needs no preparing, or the cache folder cannot be written.
    """
    row, place = info(name), None if folder is None else Path(folder)
    if row.comes == "folder":
        raise UserError(f"{name} needs no preparing: --data-from (--from of `jaxgen data show`) names its files")
    if row.module == "jaxgen.data.readers.official":
        from jaxgen.data.readers.preparing import prepare as by_tfds

        return f"{name} is prepared in {by_tfds(name, place, progress)}"
    if row.comes == "prepared":
        return f"{name} is prepared in {importlib.import_module(row.module).prepare(place)}"
    if folder is not None:
        raise UserError(f"{name} is made by jaxgen itself, from no files")
    return f"{name} is made: {load(name, progress=progress).note}"


def _reader(name: str) -> "ModuleType | Reader":
    row = info(name)
    if row.comes == "file":
        from jaxgen.data.own import Reader

        return Reader(Path(row.module).expanduser().absolute())
    return importlib.import_module(row.module)


def load(name: Any, *, progress: bool = True, **options: Any) -> Dataset:
    """A dataset by name, decoded into `data_dir()` on first use and checked on every later one.

    Args:
      name: NAME or NAME/CONFIG of `table()`, tfds:NAME, the path of a Python file (`jaxgen.data.own`), or arrays
        (`jaxgen.data.given`).
      progress: show the progress of decoding on stderr.
      **options: the fields of `Options`.

    Raises:
      UserError: the name is unknown, an option's value is invalid, the data are not prepared, cannot be decoded, are
        inconsistent or were changed since, or the cache folder cannot be written.
    """
    from jaxgen.data import subsets
    from jaxgen.data.store import decoded

    name = name if isinstance(name, str) else given.named(name)
    chosen = configured(Options, {"dataset": name, **options}, "a dataset")
    chosen.check()
    row = info(name)
    for option, (takes, otherwise) in OF_SOME.items():
        if getattr(chosen, option) not in UNSET and not takes(row):
            raise UserError(f"dataset {name} {otherwise}, so {option} is not for it")
    manifest, splits, mean, faces = decoded(chosen, _reader(name), progress=progress)
    if row.name == given.DATASET and chosen.dataset_config:
        given.release(chosen.dataset_config)
    for option, entry in OF_ENTRIES.items():
        if getattr(chosen, option) not in UNSET and entry not in splits["train"]:
            raise UserError(f"dataset {name} has no {entry}s, so {option} is not for it")
    if chosen.skip_bad and not manifest.files and row.name != "mesh_folder":
        raise UserError(f"dataset {name} has no files that could be damaged, so skip_bad is not for it")
    reference = None
    if faces is not None:
        from jaxgen.data.mesh_features import Meshes, reference_and_target  # imports much of scipy

        reference, target = reference_and_target(splits["train"]["mesh"])
        splits = {split: Meshes(entries, faces, reference, target) for split, entries in splits.items()}
    kept, note = subsets.hide(splits["train"], chosen)
    splits, vocabulary, captions = _encoded(splits, chosen)
    if manifest.skipped:
        counts = ", ".join(f"{count} of {split}" for split, count in manifest.skipped.items())
        note += f"; left out because they cannot be decoded: {counts}"
    asked = dataclasses.asdict(chosen)
    del asked["dataset"]
    spec = _spec(
        splits["train"],
        manifest.classes,
        mean,
        faces,
        reference,
        vocabulary,
        _mixture(row.name, chosen),
        chosen.binarize is not None or _binary(splits["train"]),
    )
    return Dataset(
        name=chosen.shown,
        options=asked,
        spec=spec,
        **splits,
        fingerprint=manifest.fingerprint,
        note=f"{manifest.note}{note}.",
        classes=manifest.classes,
        vocabulary=vocabulary,
        captions=captions,
        streamed=chosen.pipeline == "grain" or manifest.records is not None,
        kept=kept,
    )


def _encoded(splits, options: Options) -> tuple[Any, "Vocabulary | None", Captions | None]:
    """Splits with the words of captions as numbers, their vocabulary, and all captions where images have several.

    Raises:
      UserError: mirrored images would make their captions false.
    """
    from jaxgen.data.vocabulary import Vocabulary, longest

    if "caption" not in splits["train"]:
        return splits, None, None
    of_images = [[each] if isinstance(each, str) else each for each in splits["train"]["caption"]]
    texts = [text for some in of_images for text in some]
    vocabulary = Vocabulary.of(texts, options.vocabulary_size)
    if options.flip and (sides := {"left", "right"} & set(vocabulary.words)):
        words = " and ".join(sorted(sides))
        raise UserError(f"captions of {options.dataset} say {words}, which flip would make false: leave it out")
    length = options.caption_length or max(1, longest(texts))
    captions = None
    if len(texts) > len(of_images):
        captions = Captions(vocabulary.encode(texts, length), np.cumsum([len(some) for some in of_images]))
    splits = {
        split: entries | {"caption": vocabulary.encode([_first(each) for each in entries["caption"]], length)}
        for split, entries in splits.items()
    }
    return splits, vocabulary, captions


def _first(captions: str | list[str]) -> str:
    return captions if isinstance(captions, str) else captions[0]


def _mixture(name: str, options: Options) -> tuple[np.ndarray, float] | None:
    if name != "gaussians":
        return None
    from jaxgen.data.readers.gaussians import modes

    return modes(options.dataset_config)


def _binary(train: dict[str, Any]) -> bool:
    """True if evenly spaced images have no pixels but 0 and 255; the same images for data in memory and streamed."""
    images = train.get("image")
    if images is None:
        return False
    some = np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)
    return all(np.isin(images[i], (0, 255)).all() for i in np.unique(some))


def _spec(train, classes, mean, faces, reference, vocabulary, mixture, binary) -> "Spec":
    import jax

    from jaxgen.data import subsets
    from jaxgen.model import Spec

    entries = {
        name: jax.ShapeDtypeStruct(entry.shape[1:], entry.dtype)
        for name, entry in train.items()
        if name != subsets.ALL_LABELS
    }
    if faces is not None:
        from jaxgen.data.mesh_features import sizes

        features = sizes(faces, len(reference))
        entries |= {kind: jax.ShapeDtypeStruct((size,), np.float32) for kind, size in features.items()}
    return Spec(
        entries=entries,
        num_examples=len(next(iter(train.values()))),
        num_classes=len(classes) or None,
        mean=mean,
        binary=binary,
        num_words=vocabulary and len(vocabulary),
        faces=faces,
        reference=reference,
        mixture=mixture,
        bounds=np.stack([train["point"].min(0), train["point"].max(0)]) if "point" in train else None,
    )
