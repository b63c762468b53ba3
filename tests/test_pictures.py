import io

import numpy as np
import pytest
from PIL import Image

from jaxgen.pictures import image_grid, to_png


def test_a_grid_by_hand():
    images = np.uint8([1, 2, 3]).reshape(3, 1, 1, 1) * np.ones((1, 1, 2, 1), np.uint8)  # 1 high, 2 wide
    grid = image_grid(images, columns=2)
    assert grid.dtype == np.uint8
    assert grid[:, :, 0].tolist() == [
        [1, 1, 128, 2, 2],
        [128, 128, 128, 128, 128],
        [3, 3, 128, 128, 128],
    ]


def test_channels_and_pixels_keep_their_places():
    images = np.random.default_rng(0).integers(256, size=(6, 4, 5, 3)).astype(np.uint8)
    grid = image_grid(images, columns=3)
    assert grid.shape == (9, 17, 3)
    for i, image in enumerate(images):
        row, column = divmod(i, 3)
        np.testing.assert_array_equal(grid[5 * row : 5 * row + 4, 6 * column : 6 * column + 5], image)


def test_fewer_images_than_columns():
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    assert image_grid(images, columns=10)[:, :, 0].tolist() == [[0, 1, 128, 4, 5], [2, 3, 128, 6, 7]]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_holds_the_pixels(channels, mode):
    image = np.random.default_rng(1).integers(256, size=(3, 4, channels)).astype(np.uint8)
    read = Image.open(io.BytesIO(to_png(image, scale=2)))
    assert read.mode == mode
    pixels = np.asarray(read).reshape(6, 8, channels)
    for y, x in np.ndindex(6, 8):
        assert pixels[y, x].tolist() == image[y // 2, x // 2].tolist()


def test_png_of_several_images_is_their_grid():
    images = np.arange(20, dtype=np.uint8).reshape(5, 2, 2, 1)
    assert to_png(images) == to_png(image_grid(images, columns=3))


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 3, 3, 1), np.float32), np.zeros((3, 3, 1), np.uint8), np.zeros((0, 3, 3, 1), np.uint8)],
)
def test_grids_refused(images):
    with pytest.raises(ValueError, match="uint8"):
        image_grid(images, 2)


def test_more_refusals():
    with pytest.raises(ValueError, match="1 column or more"):
        image_grid(np.zeros((2, 3, 3, 1), np.uint8), 0)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        to_png(np.zeros((3, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        to_png(np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="scale"):
        to_png(np.zeros((3, 3, 1), np.uint8), scale=0)
