"""Reads another system's examples from a folder, a zip file or an array."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgen.data import Dataset
from jaxgen.data.arrays import NUMPY, ZIP, channels_last, check_numbers, levels, other_file, without_alpha
from jaxgen.data.image_files import is_image
from jaxgen.data.readers.image_folder import all_images, folder_names, nfc
from jaxgen.errors import UserError

AS_ARRAY = "save its images by numpy.savez(FILE, image=...), uint8 [num, height, width, channels]"


def read_images(path: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Reads images, or points, and converts them to the dataset's format.

    A folder or a zip file holds images at any depth. Subfolders give labels if they are named by class, as
    `folder_names` names classes, or by class number. An npz file holds `image` (or `point`; a single array may have
    any name) and optionally `label`; an npy file holds the images. Arrays are uint8, or floats from 0 to 1, -1 to 1 or
    0 to 255, with channels first or last. Images of equal channels become gray for a gray dataset, gray ones RGB for a
    color one.

    Returns:
        (images uint8 [num, H, W, C] or points float32 [num, 2], labels int32 [num] or None, how they were read).

    Raises:
        UserError: the file cannot be read, or its examples differ from the dataset's in kind, size or range.
    """
    if path.is_dir():
        return _files(path, dataset)
    if not path.is_file():
        raise UserError(f"there is no folder or file {path}")
    entry = dataset.spec.subject
    with path.open("rb") as file:
        head = file.read(512)
    if not head.startswith((NUMPY, ZIP)):
        raise UserError(other_file(path, head, AS_ARRAY))
    names = _zipped(path) if head.startswith(ZIP) else ()
    if names and (any(map(is_image, names)) or not any(name.endswith(".npy") for name in names)):
        if any(name.endswith("data.pkl") for name in names):
            raise UserError(f"{path} is a PyTorch file: {AS_ARRAY}")
        return _files(path, dataset)
    values, labels = _arrays(path, entry)
    values, how = _images(values, path, dataset) if entry == "image" else (_numbers(values, path, dataset), [])
    if labels is not None:
        labels = _checked_labels(labels, len(values), path, dataset)
    return values, labels, ", ".join(["read from an array", *how])


def _zipped(path: Path) -> list[str]:
    """Names in a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no npy, npz or zip file that can be read ({error})") from None


def _files(path: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None, str]:
    if dataset.spec.subject != "image":
        raise UserError(f"dataset {dataset.name} has no images; its examples come as an npz file")
    records, paths, not_read = all_images(path, dataset.options["max_pixels"])
    images, hows = [], {}
    for index in range(len(records)):
        image, how = _channels(records[index]["image"][None], records.name(index), dataset)
        if images and image.shape[1:] != images[0].shape:
            one, other = ("x".join(map(str, shape)) for shape in (image.shape[1:], images[0].shape))
            raise UserError(f"{records.name(index)} is {one}, but {records.name(0)} is {other}: all have to be alike")
        images.append(image[0])
        hows |= dict.fromkeys(how)
    values = _sized(np.stack(images), path, dataset)
    return values, _labels(path, paths, dataset), ", ".join(filter(None, ["given as files", *hows, not_read]))


def _labels(path: Path, paths: Sequence[str], dataset: Dataset) -> np.ndarray | None:
    """Labels by the subfolders that images lie in, named by class or number; None if the subfolders are not classes."""
    if not dataset.classes:
        return None
    by_name = {name: label for label, name in enumerate(folder_names(dataset.classes))}
    by_name |= {nfc(name): label for label, name in enumerate(dataset.classes)}
    by_number = {str(label): label for label in range(len(dataset.classes))}
    parts = [[nfc(part) for part in each.split("/")] for each in paths]
    while all(len(each) > 2 for each in parts) and len({each[0] for each in parts}) == 1 and parts[0][0] not in by_name:
        parts = [each[1:] for each in parts]  # a folder around the classes
    tops = [each[0] if len(each) > 1 else "" for each in parts]
    known = by_name if by_name.keys() & set(tops) else by_number
    unknown = sorted(set(tops) - known.keys())
    if unknown and len(unknown) < len(set(tops)):
        where = f"subfolder {unknown[0]!r}" if unknown[0] else "the folder itself, which holds images too,"
        raise UserError(f"{path}: {where} is no class of {dataset.name}, but others are")
    return None if unknown else np.array([known[top] for top in tops], np.int32)


def _arrays(path: Path, entry: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns (the array of examples, `label` or None) of an npz or npy file."""
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):  # of an .npy file
                return file, None
            names = [name for name in file.files if name != "label"]
            if entry not in names and len(names) != 1:
                raise UserError(
                    f"{path} has no array {entry!r}; it holds {', '.join(file.files)[:200] or 'nothing'}: name the "
                    f"{entry}s {entry!r}, and their labels 'label'"
                )
            return file[entry if entry in names else names[0]], file["label"] if "label" in file.files else None
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no npy or npz file that can be read ({str(error)[:200]})") from None


def _checked_labels(labels: np.ndarray, num: int, path: Path, dataset: Dataset) -> np.ndarray:
    num_classes = dataset.spec.num_classes
    if labels.shape != (num,) or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: label must be whole numbers [{num}], not {labels.dtype} {list(labels.shape)}")
    if num_classes is None or labels.min() < 0 or labels.max() >= num_classes:
        what = f"0 to {num_classes - 1}" if num_classes else "none"
        raise UserError(f"{path} has labels {labels.min()} to {labels.max()}; those of {dataset.name} are {what}")
    return labels.astype(np.int32)


def _numbers(values: np.ndarray, path: Path, dataset: Dataset) -> np.ndarray:
    """Returns points or meshes as float32, if their shape is the dataset's."""
    check_numbers(values, path)
    subject, wanted = dataset.spec.subject, dataset.spec.entries[dataset.spec.subject].shape
    if values.shape[1:] != wanted or not len(values):
        shape = ", ".join(map(str, ("num", *wanted)))
        raise UserError(f"{path} holds {list(values.shape)}, not {subject} [{shape}] as {dataset.name} has")
    return values.astype(np.float32)


def _images(values: np.ndarray, path: Path, dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """Converts an array in any of the usual forms to (uint8 images as the dataset's, what was done to them)."""
    check_numbers(values, path)
    height, width, _ = dataset.spec.image_shape
    found = channels_last(values) if values.ndim != 3 or values.shape[1:] == (height, width) else None
    if found is None:
        raise UserError(
            f"{path} holds {list(values.shape)}, not images [num, height, width, channels] or [num, channels, height, "
            f"width]; those of {dataset.name} are {height}x{width}"
        )
    values, how = found
    values, scaled = levels(values, path)
    values, colored = _channels(values, str(path), dataset)
    return _sized(values, path, dataset), how + scaled + colored


def _channels(values: np.ndarray, name: str, dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """Converts images, if that loses nothing, to (images with the dataset's channels, what was done)."""
    values, how = without_alpha(values, name)
    wanted = dataset.spec.image_shape[2]
    if values.shape[3] == 3 and wanted == 1:
        if (values != values[..., :1]).any():
            raise UserError(
                f"{name} is in color, and {dataset.name} is gray: make yours gray, or the dataset colored by "
                "--channels 3, whose scores rest on another extractor"
            )
        values = values[..., :1]
        how.append("equal channels as gray")
    elif values.shape[3] == 1 and wanted == 3:
        values = values.repeat(3, axis=3)
        how.append("gray as color")
    return values, how


def _sized(values: np.ndarray, path: Path, dataset: Dataset) -> np.ndarray:
    """Returns the images if their size is the dataset's, otherwise raises UserError."""
    if values.shape[1:] != (wanted := dataset.spec.image_shape):
        here, there = ("x".join(map(str, shape)) for shape in (values.shape[1:], wanted))
        raise UserError(
            f"the images of {path} are {here}, those of {dataset.name} {there}: --image-size, or --crop and --pad, "
            "bring the dataset's to the size of yours"
        )
    return values
