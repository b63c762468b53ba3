"""Prepares official datasets by TFDS's builders; `jaxgen.data.readers.official` reads them.

The builders need TensorFlow, but for those of MNIST and its kin, whose files jaxgen reads (`READERS`).

A dataset is prepared in a temporary folder, which is renamed when complete. So prepared data are always
complete, and the next attempt removes what an interrupted one left.
"""

import contextlib
import fcntl
import gzip
import importlib
import importlib.util
import io
import json
import logging
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import jax

from jaxgen.data.readers import bits, idx
from jaxgen.data.readers.official import (
    MANIFEST,
    OFFICIAL,
    check,
    image_features,
    lookup,
    prepared,
    sha256,
)
from jaxgen.data.source import data_dir
from jaxgen.errors import UserError, did_you_mean, suggest

READERS: dict[str, Callable[..., Iterator[tuple[int, dict[str, Any]]]]] = {
    "mnist": idx.examples,
    "fashion_mnist": idx.examples,
    "kmnist": idx.examples,
    "binarized_mnist": bits.examples,
}
"""Readers of a dataset's files in place of TFDS's builder, which needs TensorFlow for the files of other datasets."""

CATALOG = "https://www.tensorflow.org/datasets/catalog lists all"
UNZIPPED = {
    # mnist: t10k-images, t10k-labels, train-images, train-labels
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    # fashion_mnist: the same
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
}
"""Map from the sha256 of a published .gz to that of its content, to check unzipped or re-zipped files."""


def prepare(name: str, folder: Path | None, progress: bool = True) -> Path:
    """Prepares a dataset, unless it is prepared already and intact.

    Args:
      name: a name in `jaxgen.data.readers.official.OFFICIAL`, or tfds:NAME or tfds:NAME/CONFIG.
      folder: holds the published files, at any depth; .gz files may be unzipped, and others zipped, if the content
        can be checked. Without a folder, TFDS downloads the files.
      progress: show progress on stderr.

    Returns:
      The prepared folder.

    Raises:
      UserError: if the dataset is unknown or has no images, TensorFlow or another package is missing, files are
        missing or not as published, the data folder cannot be written, or TFDS fails.
    """
    tfds_name, _ = lookup(name)
    if ready := _ready(name, tfds_name, progress):
        return ready
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one with the downloaded files of {name}")
    _check_known(tfds_name.partition("/")[0])
    if tfds_name not in READERS and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f'jaxgen data prepare {name} needs TensorFlow, to prepare only: pip install "jaxgen[tensorflow]"'
        )
    with _work_folder(tfds_name, progress) as work:
        if ready := _ready(name, tfds_name, progress):  # another process was first
            return ready
        with _failures(name, folder):
            written = _build(name, tfds_name, folder, work, progress)
        final = _destination(written, work)
        with _writable():
            write_manifest(written, name)
            final.parent.mkdir(parents=True, exist_ok=True)
            written.rename(final)
    return final


def write_manifest(folder: Path, dataset: str) -> dict[str, Any]:
    """Writes, and returns, the manifest of a folder that TFDS has prepared."""
    import tensorflow_datasets as tfds

    splits = tfds.builder_from_directory(folder).info.splits
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    manifest = {
        "dataset": dataset,
        "examples": {split: details.num_examples for split, details in splits.items()},
        "files": {path.name: [path.stat().st_size, sha256(path)] for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    return manifest


def _ready(name: str, tfds_name: str, progress: bool) -> Path | None:
    """The folder of a prepared dataset, after checking it; None if it is not prepared."""
    folder = prepared(tfds_name)
    if folder is not None:
        check(folder)
        if progress:
            print(f"{name} is prepared already, in {folder}", file=sys.stderr)
    return folder


def _check_known(name: str) -> None:
    """Raises UserError if TFDS has no dataset of this name."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name not in known:
        hint = did_you_mean(name, known, 3, "tfds:").rstrip()
        raise UserError(f"TFDS has no dataset {name}: {hint or CATALOG}")


def _destination(written: Path, work: Path) -> Path:
    """Final path of a folder written below `work`."""
    return data_dir() / "tfds" / written.relative_to(work)


def _build(name: str, tfds_name: str, folder: Path | None, work: Path, progress: bool) -> Path:
    """Prepares the dataset by TFDS's builder; returns the folder below `work` that it wrote."""
    # Set before TensorFlow is imported, whose C++ part would print hints about the processor.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow_datasets as tfds

    base, _, config = tfds_name.partition("/")
    configs = list(tfds.builder_cls(base).builder_configs)
    if configs and not config:
        raise UserError(f"{name} has configs: give one, as tfds:{base}/{configs[0]}; {suggest('', configs)}")
    if config and config not in configs:
        hint = suggest(config, configs) if configs else f"it is tfds:{base}"
        raise UserError(f"tfds:{base} has no config {config}: {hint}")
    builder = tfds.builder(tfds_name, data_dir=work, file_format="array_record")
    written = Path(builder.data_path)
    final = _destination(written, work)
    if final.exists():
        raise UserError(f"{final} is there already, but not of jaxgen data prepare: move or delete it")
    if base == "lsun":
        importlib.import_module("tensorflow_io")  # fails now rather than after a download of 46 GB
    if base not in OFFICIAL:
        image_features(tfds_name, builder.info.features)  # raises before anything is downloaded
    make_manager, published = builder._make_download_manager, builder.url_infos or {}

    def manager(**options: Any) -> Any:
        made = make_manager(**options)
        if folder is not None:
            made = _Given(made, published, folder, work)
        return _Packed(made) if base in READERS else made

    builder._make_download_manager = manager
    if base in READERS:
        builder._generate_examples = READERS[base]
    tfds.display_progress_bar(progress)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # no message for every retry
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it is about to do
        builder.download_and_prepare(
            download_dir=data_dir() / "downloads",
            download_config=tfds.download.DownloadConfig(
                extract_dir=work / "extracted", manual_dir=folder, try_download_gcs=False
            ),
        )
    return written


class _Packed:
    """A download manager for TFDS that leaves files packed, since TFDS would unpack them with TensorFlow."""

    def __init__(self, manager):
        self._manager = manager

    def __getattr__(self, name: str):
        return getattr(self._manager, name)

    def download_and_extract(self, urls):
        return self._manager.download(urls)


class _Given:
    """A download manager for TFDS that takes files from a folder instead of downloading them."""

    def __init__(self, manager, published: Mapping[str, Any], folder: Path, work: Path):
        self._manager, self._published, self._folder, self._work = manager, published, folder, work
        self._files: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._files.setdefault(path.name, []).append(path)

    def __getattr__(self, name: str):
        return getattr(self._manager, name)

    def download(self, urls):
        return jax.tree.map(lambda resource: resource.path, self._located(urls))

    def download_and_extract(self, urls):
        return self._manager.extract(self._located(urls))

    def _located(self, urls):
        """Turns nested URLs, or TFDS resources, into resources with the paths of files."""
        import tensorflow_datasets as tfds
        from etils import epath

        resources = jax.tree.map(lambda x: tfds.download.Resource(url=x) if isinstance(x, str) else x, urls)
        missing = {}
        for resource in jax.tree.leaves(resources):
            if path := self._file(resource.url):
                resource.path = epath.Path(path)
            else:
                missing[resource.url] = f"{self._name(resource.url)} (from {resource.url})"
        if missing:
            more = f" and {len(missing) - 12} more" if len(missing) > 12 else ""
            raise UserError(f"{self._folder} lacks {', '.join([*missing.values()][:12])}{more}")
        return resources

    def _name(self, url: str) -> str:
        info = self._published.get(url)
        return (info and info.filename) or Path(urlparse(url).path).name

    def _file(self, url: str) -> Path | None:
        """A file with the content published at a URL; None if no file has its name.

        Raises:
          UserError: if the files of this name have other content, or cannot be checked.
        """
        name = self._name(url)
        named = self._files.get(name, [])
        if url not in self._published:  # TFDS has no checksum either, and accepts any content
            return next(iter(named), None)
        expected = self._published[url].checksum
        tries = [(path, expected, False) for path in named]  # (path, expected sha256, whether to unzip it first)
        if name.endswith(".gz"):
            content = UNZIPPED.get(expected)
            tries += [(path, content, False) for path in self._files.get(name.removesuffix(".gz"), [])]
            tries += [(path, content, True) for path in named if content]
        else:
            tries += [(path, expected, True) for path in self._files.get(f"{name}.gz", [])]
        found = []
        for path, digest, zipped in tries:
            file = self._unzipped(path) if zipped else path
            found.append(sha256(file) if file else "of no whole gzip file")
            if found[-1] == digest:
                return file
        if not tries:
            return None
        path, digest, _ = tries[0]
        if digest is None:
            raise UserError(f"{path} cannot be checked: give {name}, as published at {url}")
        raise UserError(f"{path} is not what was published at {url}: its sha256 is {found[0]}, not {digest}")

    def _unzipped(self, path: Path) -> Path | None:
        """An unzipped copy; None if the file is incomplete or damaged."""
        copy = self._work / "unzipped" / path.relative_to(self._folder).with_suffix("")
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with gzip.open(path) as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return None
        return copy


@contextlib.contextmanager
def _work_folder(tfds_name: str, progress: bool) -> Iterator[Path]:
    """An empty folder, locked by one process at a time and removed afterwards."""
    work = data_dir() / "tfds" / ".preparing" / tfds_name.replace("/", "-")
    with contextlib.ExitStack() as stack:
        with _writable():
            work.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(f"{work}.lock", "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                print(f"waiting for another process, which prepares {tfds_name}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        with _writable():
            shutil.rmtree(work, ignore_errors=True)  # left by a killed process
            work.mkdir()
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


@contextlib.contextmanager
def _writable() -> Iterator[None]:
    """Raises UserError if the data folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the data folder {data_dir()} ({error.strerror or error}): "
            "set JAXGEN_DATA_DIR to a folder that can be written"
        ) from error


@contextlib.contextmanager
def _failures(name: str, folder: Path | None) -> Iterator[None]:
    """Turns any exception of TFDS into UserError: a dataset's builder may raise anything."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error  # TFDS's own error has no `name`
        raise UserError(f"preparing {name} needs {cause.name}, which is missing: pip install {cause.name}") from error
    except Exception as error:
        hint = "" if folder else "; files downloaded by hand can be given too"
        raise UserError(f"TFDS could not prepare {name}: {' '.join(str(error).split())}{hint}") from error
