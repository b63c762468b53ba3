"""`array`: images of an npz or npy file or of arrays in Python, with labels and captions where there are.

An npy file holds images. An npz file, or a dict in Python (`jaxgen.data.given`), holds images and, if there are any,
labels and captions, one a split or one for all, under the names that programs give them: x_train, train_images,
testLabels, images, y, captions, arr_0. Names are split into words; a word names the split (`image_folder`'s words) or
the entry (`ENTRIES`). A single array may have any name.

Images are [num, H, W], [num, H, W, C] or [num, C, H, W]: uint8, or numbers from 0 to 1, -1 to 1 or 0 to 255. Labels are
whole numbers from 0 on, which name the classes, or names. What was done to them is told in the note. A missing split is
taken from train by a hash of the position (`drawn_splits`), so images appended later move no others.
"""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.arrays import NUMPY, ZIP, channels_last, check_numbers, levels, other_file, without_alpha
from jaxgen.data.given import arrays_of
from jaxgen.data.options import Options
from jaxgen.data.readers.image_folder import SPLIT_FOLDERS, drawn_splits, natural, nfc, words_of
from jaxgen.data.source import SPLITS, Source
from jaxgen.errors import UserError

ENTRIES = {
    **dict.fromkeys(("image", "images", "img", "imgs", "x", "data", "samples"), "image"),
    **dict.fromkeys(("label", "labels", "y", "target", "targets", "class", "classes"), "label"),
    **dict.fromkeys(("caption", "captions", "text", "texts"), "caption"),
}
"""Map from a word of an array's name to the entry it holds."""

AS_ARRAY = "save your images by numpy.savez(FILE, images=...), [num, height, width, channels]"

MOST_CLASSES = 100_000
"""Largest number of classes; a larger label is a mistake, or an identity."""

Arrays = dict[str, np.ndarray]
"""Map from entry to array."""


def identity(options: Options) -> str:
    """The sha256 (hex) of the file's path, size and modification time; of arrays that of their content.

    Raises:
      UserError: if there is no such file.
    """
    if options.dataset_config:
        return options.dataset_config
    path = _file(options)
    status = path.stat()
    return hashlib.sha256(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()


def read(options: Options) -> Source:
    """The images as uint8 [num, H, W, C], and label and caption if there are any.

    Raises:
      UserError: if the file cannot be read, has no array of images, or its arrays are not what their names say.
    """
    path, arrays = _content(options)
    found, passed = _sorted_out(path, arrays)
    given = {split: arrays for split, arrays in found.items() if split}
    if not given:
        given = {"train": found[""]}
    if "train" not in given:
        raise UserError(f"{path} has no training images, only {' and '.join(given)}: name them train_images")
    if options.split_blocks and len(given) == len(SPLITS):
        raise UserError(f"{path} has splits of its own, so split_blocks is not for it")
    told: dict[str, None] = {}
    for split, arrays in given.items():
        arrays["image"], how = _images(arrays["image"], f"{split} images of {path}", path)
        told |= dict.fromkeys(how)
    _alike(path, given)
    given, classes = labeled(path, given)
    for arrays in given.values():
        if "caption" in arrays:
            arrays["caption"] = arrays["caption"].astype(object)
    splits, how = _split(path, given, options.split_blocks or 1)
    sizes = ", ".join(f"{len(splits[split]['image']):,} {split}" for split in SPLITS)
    what = "images given as arrays" if options.dataset_config else f"images of the file {path}"
    parts = [f"{what}, {how}: {sizes}", ", ".join(told)]
    parts.append(f"passed over: {', '.join(passed)}" if passed else "")
    note = "; ".join(filter(None, parts))
    return Source({split: splits[split] for split in SPLITS}, note=note, classes=classes, compared=True)


def _content(options: Options) -> tuple[Path | str, Arrays]:
    """Returns (what the arrays are in, for messages; the arrays by name)."""
    if not options.dataset_config:
        path = _file(options)
        return path, _loaded(path)
    if options.data_from is not None:
        raise UserError("arrays given in Python come from no file: leave data_from out")
    return f"dataset {options.dataset_name}", arrays_of(options.dataset_config)


def _file(options: Options) -> Path:
    path = options.data_folder
    if path is None:
        raise UserError(
            "array needs an npz or npy file: name it by --data-from FILE (--from in `jaxgen data`); in Python, give "
            "arrays by Settings(dataset=arrays)"
        )
    if not os.path.isfile(path):
        wrong = f"{path} is a folder (image_folder reads those)" if os.path.isdir(path) else f"there is no file {path}"
        raise UserError(f"{wrong}: --data-from (--from in `jaxgen data`) has to name an npz or npy file")
    return path


def _loaded(path: Path) -> Arrays:
    """The arrays of the file, by name; of an npy file "images"."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
            if not head.startswith((NUMPY, ZIP)):
                raise UserError(other_file(path, head, AS_ARRAY))
            stream.seek(0)
            file = np.load(stream, allow_pickle=False)
            return {"images": file} if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        words = str(error)
        if "allow_pickle" in words:
            raise UserError(
                f"{path} holds Python objects, which are not loaded: save captions as an array of str"
            ) from None
        raise UserError(f"{path} is no npz or npy file that can be read ({words[:200]})") from None


def _sorted_out(path: Path | str, arrays: Arrays) -> tuple[dict[str, Arrays], list[str]]:
    """Returns (map from split, or "" for all, to its arrays by entry; names that say nothing)."""
    found: dict[str, Arrays] = {}
    passed = []
    for name, array in arrays.items():
        words = words_of(name)
        entries = {ENTRIES[word] for word in words if word in ENTRIES} or ({"image"} if len(arrays) == 1 else set())
        if not entries and words == ["arr"] and array.ndim > 2:
            entries = {"image"}
        splits = {SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS} or {""}
        if len(entries) != 1 or len(splits) != 1:
            passed.append(name)
            continue
        [entry], [split] = entries, splits
        if entry in found.setdefault(split, {}):
            raise UserError(f"{path} has several arrays of {f'{split} {entry}'.strip()}s, {name} among them")
        found[split][entry] = array
    if "" in found and len(found) > 1:
        others = " and ".join(filter(None, found))
        raise UserError(f"{path} has arrays of {others} and {' and '.join(found[''])}s of no split: name their split")
    for split, entries in found.items():
        if "image" not in entries:
            raise UserError(f"{path} has {' and '.join(entries)}s {f'of {split} ' if split else ''}without images")
    if not found:
        raise UserError(f"{path} has no images; it holds {', '.join(passed)[:200] or 'nothing'}: {AS_ARRAY}")
    return found, passed


def _images(values: np.ndarray, name: str, path: Path | str) -> tuple[np.ndarray, list[str]]:
    check_numbers(values, path)
    found = channels_last(values)
    if found is None:
        raise UserError(
            f"{name} are {list(values.shape)}, not [num, height, width], [num, height, width, channels] or [num, "
            "channels, height, width]"
        )
    images, how = found
    images, scaled = levels(images, path)
    images, opaque = without_alpha(images, name)
    return np.ascontiguousarray(images), how + scaled + opaque


def _alike(path: Path | str, given: dict[str, Arrays]) -> None:
    """Raises UserError unless all splits have images of one size and the same entries, one for each image."""
    first, first_split = given["train"], "train"
    for split, arrays in given.items():
        if arrays.keys() != first.keys():
            here, there = (" and ".join(f"{entry}s" for entry in each) for each in (arrays, first))
            raise UserError(f"{path} has {here} of {split}, but {there} of {first_split}")
        if arrays["image"].shape[1:] != first["image"].shape[1:]:
            here, there = ("x".join(map(str, each["image"].shape[1:])) for each in (arrays, first))
            raise UserError(f"images of {split} in {path} are {here}, those of {first_split} {there}")
        for entry, array in arrays.items():
            if array.shape[1:] == (1,) and entry != "image":
                array = arrays[entry] = array[:, 0]
            if entry == "label" and array.ndim == 2:
                raise UserError(f"label in {path} is {list(array.shape)}, not [num]: take the argmax of one-hot labels")
            if entry != "image" and array.shape != arrays["image"].shape[:1]:
                raise UserError(f"{entry} in {path} is {list(array.shape)} for {len(arrays['image'])} images")
            if entry == "caption" and array.dtype.kind == "S":
                array = arrays[entry] = np.char.decode(array, "utf-8", "replace")
            if entry == "caption" and array.dtype.kind != "U":
                raise UserError(f"captions in {path} are {array.dtype}, not text")


def labeled(path: Path | str, given: dict[str, Arrays]) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Returns (the splits with labels int32, the classes' names)."""
    if "label" not in given["train"]:
        return given, ()
    labels = {split: arrays["label"] for split, arrays in given.items()}
    kinds = {each.dtype.kind for each in labels.values()}
    if kinds <= {"U", "S"}:
        texts = {
            split: [nfc(str(x, "utf-8", "replace") if isinstance(x, bytes) else str(x)) for x in each]
            for split, each in labels.items()
        }
        classes = tuple(sorted({text for each in texts.values() for text in each}, key=natural))
        number = {name: label for label, name in enumerate(classes)}
        made = {split: np.array([number[text] for text in each], np.int32) for split, each in texts.items()}
    elif kinds <= set("iub"):
        low, high = (int(of([of(each) for each in labels.values()])) for of in (np.min, np.max))
        if low < 0 or high >= MOST_CLASSES:
            raise UserError(f"labels in {path} are from {low} to {high}, not from 0 to {MOST_CLASSES - 1:,}")
        classes = tuple(map(str, range(high + 1)))
        made = {split: each.astype(np.int32) for split, each in labels.items()}
    else:
        raise UserError(f"labels in {path} are {labels['train'].dtype}, neither whole numbers nor names")
    return {split: arrays | {"label": made[split]} for split, arrays in given.items()}, classes


def _split(path: Path | str, given: dict[str, Arrays], size: int) -> tuple[dict[str, Any], str]:
    """Returns (all splits, how they were made)."""
    missing = [split for split in SPLITS if split not in given]
    if not missing:
        return given, "in splits of its own"
    whole = given["train"]
    drawn = drawn_splits(path, [str(i) for i in range(len(whole["image"]))], missing, size)
    made = {
        split: {entry: array[np.array(rows, int)] for entry, array in whole.items()} for split, rows in drawn.items()
    }
    how = "split about 80/10/10 by a hash of their positions"
    if len(given) > 1:
        how = f"a tenth of train for {' and another for '.join(missing)} by a hash of their positions"
    return given | made, how + (f" in blocks of {size}" if size > 1 else "")
