"""Text files of bits: images of hand-written files, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.readers import bits
from jaxgen.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 2, (3, 28, 28), np.uint8)
LINES = [" ".join(map(str, image.ravel())) for image in IMAGES]


@pytest.fixture
def file(tmp_path):
    def write(content):
        (tmp_path / "test.amat").write_text(content)
        return tmp_path / "test.amat"

    return write


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n", "", "\n\n"])
def test_images_are_in_the_files_order(file, end):
    path = file((end.replace("\n\n", "\n") or "\n").join(LINES) + end)
    np.testing.assert_array_equal(bits.read(path), np.loadtxt(path, dtype=np.uint8).reshape(3, 28, 28, 1))
    found = list(bits.examples(path))
    assert [key for key, _ in found] == [0, 1, 2]
    np.testing.assert_array_equal([np.asarray(Image.open(io.BytesIO(x["image"]))) for _, x in found], IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "{} is empty"),
        (f"{LINES[0]}\n{LINES[1]} 1\n", "line 2 of {} does not hold 784 bits"),
        (f"{LINES[0]}\n{LINES[1][:-2]}\n", "line 2 of {} does not hold 784 bits"),
        (f"{LINES[0]}\n\n{LINES[1]}", "line 2 of {} does not hold 784 bits"),
        (f"2{LINES[0][1:]}", "line 1 of {} does not hold 784 bits"),
        ("0" * 783 + "é", "line 1 of {} does not hold 784 bits"),
    ],
    ids=["empty", "long", "short", "blank", "two", "no digit"],
)
def test_files_that_are_refused(file, content, message):
    path = file(content)
    with pytest.raises(UserError) as caught:
        bits.read(path)
    assert str(caught.value) == message.format(path)
