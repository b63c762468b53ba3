"""Text files of bits, the format of the binarized MNIST: an image a line, its 784 bits parted by spaces."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.readers import idx
from jaxgen.errors import UserError

SIZE = 28
"""Height and width of an image."""


def read(path: Path) -> np.ndarray:
    """The images of a file: uint8 [n, 28, 28, 1] in {0, 1}.

    Raises:
      UserError: a line does not hold 784 bits, or the file has no line.
    """
    lines = path.read_bytes().replace(b" ", b"").rstrip().splitlines()
    for number, line in enumerate(lines, 1):
        if len(line) != SIZE * SIZE or line.strip(b"01"):
            raise UserError(f"line {number} of {path} does not hold {SIZE * SIZE} bits")
    if not lines:
        raise UserError(f"{path} is empty")
    return (np.frombuffer(b"".join(lines), np.uint8) - ord("0")).reshape(-1, SIZE, SIZE, 1)


def examples(data_path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (key, example) as TFDS's builder of the binarized MNIST does; images are PNG files. Raises as `read`."""
    for key, image in enumerate(read(data_path)):
        yield key, {"image": idx.png(image)}
