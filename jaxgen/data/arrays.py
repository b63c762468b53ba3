"""Images in the forms in which programs save arrays: floats in a few ranges, channels first or last, with alpha."""

from pathlib import Path

import numpy as np

from jaxgen.errors import UserError

NUMPY, ZIP = b"\x93NUMPY", b"PK"
"""First bytes of npy files, and of zip files (npz among them)."""

OTHERS = (
    ("an image, alone", "name the folder that it lies in", (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")),
    (
        "a compressed archive",
        "unpack it, and name the folder",
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"),
    ),
    ("a PyTorch file", "", (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19",)),
    ("a pickle", "", tuple(bytes([0x80, protocol]) for protocol in range(2, 6))),
    ("an HDF5 file", "", (b"\x89HDF",)),
    ("a MATLAB file", "", (b"MATLAB ",)),
    ("a Parquet file", "", (b"PAR1",)),
)
"""Kinds of files that are not read: (what it is, advice, possible first bytes)."""

ROUNDING = 1e-3
"""Tolerance at the ends of a range of floats."""

DARK = 32
"""Minimum of the largest float for a range of 0 to 255; smaller ones may overshoot another range a little."""


def other_file(path: Path, head: bytes, as_array: str) -> str:
    """Error message for a file that is not read, by its first bytes: what it is, and what to do."""
    for what, advice, begins in OTHERS:
        if head.startswith(begins):
            return f"{path} is {what}: {advice or as_array}"
    if head[257:262] == b"ustar":
        return f"{path} is a tar archive: unpack it, and name the folder"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return f"{path} is an image, alone: name the folder that it lies in"
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return f"{path} is a safetensors file: {as_array}"
    return f"{path} is no folder, zip, npz or npy file: {as_array}"


def check_numbers(values: np.ndarray, path: Path | str) -> None:
    """Raises UserError for an array at `path` of anything but finite numbers."""
    if values.dtype.kind not in "fiub":
        raise UserError(f"{path} holds {values.dtype}, no numbers")
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds non-finite values")


def channels_last(values: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
    """Converts images [num, H, W], [num, H, W, C] or [num, C, H, W] to ([num, H, W, C], what was done); else None.

    C is at most 4; if both places could be the channels', it is the last one.
    """
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or not values.size or not {values.shape[1], values.shape[3]} & {1, 2, 3, 4}:
        return None
    if values.shape[3] in (1, 2, 3, 4):
        return values, []
    return values.transpose(0, 2, 3, 1), ["channels first"]


def without_alpha(values: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Drops the alpha channel of images uint8 [num, H, W, C], which must be opaque: (images, what was done)."""
    if values.shape[3] not in (2, 4):
        return values, []
    if (values[..., -1] != 255).any():
        raise UserError(f"{name} is transparent in places: blend it with the ground that it is to stand on")
    return values[..., :-1], ["opaque"]


def levels(values: np.ndarray, path: Path | str) -> tuple[np.ndarray, list[str]]:
    """Converts images of any dtype, in one of the usual ranges, to (uint8 images, what was done)."""
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu"
    if values.dtype.kind == "b" or (not whole and low >= -ROUNDING and high <= 1 + ROUNDING):
        begin, end = 0, 1
    elif not whole and -1 - ROUNDING <= low < -0.5 and high <= 1 + ROUNDING:
        begin, end = -1, 1
    elif round(low) >= 0 and round(high) <= 255 and (high >= DARK or (whole and high != 1)):
        begin, end = 0, 255
    else:
        raise UserError(
            f"{path} holds {values.dtype} from {low:g} to {high:g}; images are whole numbers from 0 to 255, or floats "
            "from 0 to 1 or from -1 to 1: scale and clip them"
        )
    if values.dtype == np.uint8:
        return values, []
    found = np.empty(values.shape, np.uint8)
    for level, value in zip(found, values, strict=True):  # one by one, since float64 of all may fill the memory
        level[...] = np.clip(np.rint((value.astype(np.float64) - begin) * (255 / (end - begin))), 0, 255)
    return found, [f"{values.dtype} from {begin} to {end} as levels"]
