"""Examples that another system made, from a folder or an npz file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxgen.data import Dataset
from jaxgen.data.readers.image_folder import all_images
from jaxgen.errors import UserError


def read_images(path: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """(examples as the dataset's: images uint8, points or meshes float32, [num, ...]; labels int32 [num], or None).

    A folder holds PNG or JPEG files at any depth; subfolders that have the names of the dataset's classes are labels.
    An npz file holds `image` (or `point`, `mesh`), or it is its only array, and of choice `label`; an npy file the
    examples.

    Raises:
        UserError: a file that cannot be read, or examples of another kind, size or range than the dataset's.
    """
    if path.is_dir():
        values, labels = _folder(path, dataset)
    elif path.is_file():
        values, labels = _npz(path, dataset.spec.subject)
    else:
        raise UserError(f"there is no folder or file {path}")
    values = _checked(values, path, dataset)
    if labels is None:
        return values, None
    num_classes = dataset.spec.num_classes
    if labels.shape != (len(values),) or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: label must be whole numbers [{len(values)}], not {labels.dtype} {list(labels.shape)}")
    if num_classes is None or labels.min() < 0 or labels.max() >= num_classes:
        what = f"0 to {num_classes - 1}" if num_classes else "none"
        raise UserError(f"{path} has labels {labels.min()} to {labels.max()}; those of {dataset.name} are {what}")
    return values, labels.astype(np.int32)


def _folder(path: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    if dataset.spec.subject != "image":
        raise UserError(f"dataset {dataset.name} has no images; its examples come as an npz file")
    records, subfolders = all_images(path)
    images = []
    for index in range(len(records)):
        image = records[index]["image"]
        if images and image.shape != images[0].shape:
            one, other = ("x".join(map(str, each.shape)) for each in (image, images[0]))
            raise UserError(f"{records.name(index)} is {one}, but {records.name(0)} is {other}: all have to be alike")
        images.append(image)
    unknown = sorted(set(subfolders) - set(dataset.classes))
    if unknown and len(unknown) < len(set(subfolders)):
        where = f"subfolder {unknown[0]!r}" if unknown[0] else "the folder itself, which holds images too,"
        raise UserError(f"{path}: {where} is no class of {dataset.name}, but others are")
    labels = None if unknown else np.array([dataset.classes.index(name) for name in subfolders])
    return np.stack(images), labels


def _npz(path: Path, entry: str) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):  # of an .npy file
                return file, None
            names = [name for name in file.files if name != "label"]
            if entry not in names and len(names) != 1:
                raise UserError(f"{path} has no array {entry!r}; it holds {', '.join(file.files) or 'nothing'}")
            return file[entry if entry in names else names[0]], file["label"] if "label" in file.files else None
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no npy or npz file that can be read ({str(error)[:200]})") from None


def _checked(values: np.ndarray, path: Path, dataset: Dataset) -> np.ndarray:
    """The examples, if they are as the dataset's."""
    if values.dtype.kind not in "fiub":
        raise UserError(f"{path} holds {values.dtype}, no numbers")
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds non-finite values")
    subject = dataset.spec.subject
    if subject != "image":
        wanted = dataset.spec.entries[subject].shape
        if values.shape[1:] != wanted or not len(values):
            sides = ", ".join(map(str, wanted))
            raise UserError(f"{path} holds {list(values.shape)}, not {subject} [num, {sides}] as {dataset.name} has")
        return values.astype(np.float32)
    if values.dtype != np.uint8:
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        raise UserError(f"{path} holds {values.dtype} from {low:g} to {high:g}; images are uint8, 0 to 255")
    wanted = dataset.spec.image_shape
    if values.ndim == 3 and wanted[-1] == 1:
        values = values[..., None]
    if values.ndim != 4 or not len(values):
        raise UserError(f"{path} holds {list(values.shape)}, not images [num, height, width, channels]")
    if values.shape[1:] != wanted:
        here, there = ("x".join(map(str, shape)) for shape in (values.shape[1:], wanted))
        raise UserError(
            f"the images of {path} are {here}, those of {dataset.name} {there}: --image-size and --channels "
            "bring the dataset's to the size of yours"
        )
    return values
