"""idx files: bytes of hand-written files, and what is refused."""

import gzip
import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.readers import idx
from jaxgen.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
HEADER = b"\0\0\x08\x03" + b"\0\0\0\x03" + b"\0\0\0\x1c" * 2
LABELS = b"\0\0\x08\x01\0\0\0\x03\x07\x00\x09"


@pytest.fixture
def file(tmp_path):
    def write(content, name="images-idx3-ubyte.gz"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize("zipped", [False, True])
def test_bytes_of_a_file(file, zipped):
    pack = partial(gzip.compress, mtime=0) if zipped else bytes  # told by the content, since a name may lack .gz
    np.testing.assert_array_equal(idx.read(file(pack(HEADER + IMAGES.tobytes()))), IMAGES)
    np.testing.assert_array_equal(idx.read(file(pack(LABELS))), [7, 0, 9])


def test_examples_are_in_the_files_order_under_their_position(file):
    paths = file(HEADER + IMAGES.tobytes()), file(gzip.compress(LABELS, mtime=0), "labels")
    found = list(idx.examples(3, *paths))
    assert [(key, example["label"]) for key, example in found] == [(0, 7), (1, 0), (2, 9)]
    pixels = [np.asarray(Image.open(io.BytesIO(example["image"]))) for _, example in found]
    np.testing.assert_array_equal(pixels, IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no idx file of bytes: it begins with nothing, not with 00 00 08"),
        (b"\x89PNG\r\n\x1a\n", "is no idx file of bytes: it begins with 89 50 4e 47, not with 00 00 08"),
        (LABELS.replace(b"\x08", b"\x0d"), "is no idx file of bytes: it begins with 00 00 0d 01"),  # floats
        (LABELS[:-1], "has 10 bytes, which its header of 3 bytes does not fit"),
        (LABELS + b"\0", "has 12 bytes, which its header of 3 bytes does not fit"),
        ((HEADER + IMAGES.tobytes())[:-300], "has 2,068 bytes, which its header of 3x28x28 bytes does not fit"),
        (HEADER[:9], "has 9 bytes, which its header of no bytes does not fit"),
        (gzip.compress(LABELS, mtime=0)[:-5], "is no whole gzip file"),
        (b"\x1f\x8b and no more", "is no whole gzip file"),
    ],
)
def test_files_that_are_refused(file, content, message):
    path = file(content)
    with pytest.raises(UserError) as caught:
        idx.read(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)


def test_numbers_of_examples_that_differ(file):
    images, labels = file(HEADER + IMAGES.tobytes()), file(LABELS, "labels")
    for num, paths in ((4, (images, labels)), (3, (labels, images)), (3, (labels, labels))):
        with pytest.raises(UserError, match=rf"bytes, .* not {num} of 28 x 28$"):
            list(idx.examples(num, *paths))
