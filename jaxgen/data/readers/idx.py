"""idx files, the format of MNIST: 0 0, the type and the number of axes, the length of each axis, and the numbers."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError

GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""

BYTES = b"\0\0\x08"
"""First bytes of an idx file of bytes; the number of axes is next."""


def read(path: Path) -> np.ndarray:
    """The bytes of an idx file, gzipped or not: uint8, read-only.

    Raises:
      UserError: it is no idx file of bytes, or its length is not the one that its header gives.
    """
    content = path.read_bytes()
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path} is no whole gzip file ({error})") from None
    if not content.startswith(BYTES) or len(content) < 4:
        begins = content[:4].hex(" ") or "nothing"
        raise UserError(f"{path} is no idx file of bytes: it begins with {begins}, not with 00 00 08")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if len(content) >= start else ()
    if len(content) != start + int(np.prod(shape, dtype=np.int64)):
        size = "x".join(map(str, shape)) or "no"
        raise UserError(f"{path} has {len(content):,} bytes, which its header of {size} bytes does not fit")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def examples(num_examples: int, data_path: Path, label_path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (key, example) as TFDS's builder of MNIST does, whose parameters these are; images are PNG files.

    Raises:
      UserError: as `read` does, or there are other numbers of images and labels.
    """
    images, labels = read(data_path), read(label_path)
    if images.shape != (num_examples, 28, 28) or labels.shape != (num_examples,):
        found = [" x ".join(map(str, array.shape)) for array in (images, labels)]
        raise UserError(f"{data_path} has {found[0]} bytes, {label_path} {found[1]}: not {num_examples:,} of 28 x 28")
    for key, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        yield key, {"image": png(image), "label": label}


def png(image: np.ndarray) -> bytes:
    """A PNG file of a gray image, uint8 [H, W] or [H, W, 1]."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.reshape(image.shape[:2])).save(file, "PNG")
    return file.getvalue()
