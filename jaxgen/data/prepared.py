"""TFDS builders of our own, prepared as ArrayRecord without TensorFlow and read back as arrays.

TFDS writes to a folder `incomplete.*` and renames it when all is written. So a kill in the middle
leaves only such a folder, which is never read, and of two processes that prepare at once the second
finds the name taken and reads what the first wrote.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np

from jaxgen.errors import UserError


def fingerprint(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> str:
    """The sha256 (hex) of name, dtype, shape and bytes of each entry, by sorted name, train before test."""
    digest = hashlib.sha256()
    for split in (train, test):
        for name, entry in sorted(split.items()):
            digest.update(f"{name} {entry.dtype.str} {entry.shape}\n".encode())
            digest.update(np.ascontiguousarray(entry))
    return digest.hexdigest()


def arrays(builder: type, root: Path, expected: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The splits `train` and `test` of a builder, prepared below `root`/tfds if they are not.

    Args:
      builder: a `tfds.core.GeneratorBasedBuilder` class without configs, of features whose examples
        all have one shape. Integer labels are returned as int32.
      root: the cache folder.
      expected: the `fingerprint` of the two splits.

    Raises:
      UserError: if the folder cannot be written, or what was prepared is not what is expected.
    """
    folder = root / "tfds" / builder.name / str(builder.VERSION)
    if not os.path.exists(folder):  # Path.exists raises where it may not look
        _prepare(builder, folder)
    try:
        # A builder reads its folder when it is made, so this one is made after preparing. as_data_source
        # is tfds.data_source without the look-up of the builder by name.
        sources = builder(data_dir=root / "tfds", file_format="array_record").as_data_source(["train", "test"])
        train, test = (_stacked(source) for source in sources)
        intact = fingerprint(train, test) == expected
    except ImportError:
        raise
    except Exception as error:  # damage shows as whatever the reader stumbles over
        raise UserError(_damaged(folder)) from error
    if not intact:
        raise UserError(_damaged(folder))
    return train, test


def _prepare(builder: type, folder: Path) -> None:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it is about to do
            builder(data_dir=folder.parents[1], file_format="array_record").download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except (OSError, RuntimeError) as error:  # ArrayRecord's writer raises the latter on a full disk
        if os.path.exists(folder):  # another process was first
            return
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise UserError(
            f"cannot write the data folder {folder.parents[2]} ({reason}): "
            "set JAXGEN_DATA_DIR to a folder that can be written"
        ) from error


def _stacked(source) -> dict[str, np.ndarray]:
    examples = list(source)
    entries = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    return {name: x.astype(np.int32) if x.dtype == np.int64 else x for name, x in entries.items()}


def _damaged(folder: Path) -> str:
    return f"the prepared data in {folder} was damaged or changed: delete that folder, and it is prepared again"
