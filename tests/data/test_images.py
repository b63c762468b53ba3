"""Image transforms, against values by hand and a bicubic resampling written out."""

import numpy as np
import pytest

from jaxgen.data.images import Transform
from jaxgen.data.options import Options
from jaxgen.errors import UserError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (11, 14, 3), np.uint8)


def rows(*values):
    """Makes a gray image [H, W, 1]."""
    return np.array(values, np.uint8)[..., None]


def numbered(height, width):
    """Makes an image whose pixels are 10 times the row, plus the column."""
    return rows(*(10 * np.arange(height)[:, None] + np.arange(width)))


def cubic(x):
    """Keys's cubic kernel with a = -1/2."""
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def shrunk(image, size):
    """Downscales bicubically with the kernel widened to the new pixels; along rows, rounded, then along columns."""
    scale = len(image) / size
    centers = (np.arange(size) + 0.5) * scale
    weights = cubic((np.arange(len(image)) + 0.5 - centers[:, None]) / max(scale, 1))
    weights /= weights.sum(1, keepdims=True)
    along = np.clip(np.rint(np.einsum("sw,hwc->hsc", weights, image.astype(float))), 0, 255)
    return np.clip(np.rint(np.einsum("sh,hwc->swc", weights, along)), 0, 255)


@pytest.mark.parametrize(
    ("shape", "crop", "expected"),
    [
        ((5, 7), 3, [[12, 13, 14], [22, 23, 24], [32, 33, 34]]),
        ((4, 4), 3, [[0, 1, 2], [10, 11, 12], [20, 21, 22]]),  # an odd row and column are cut at the bottom and right
        ((4, 5), 1, [[12]]),
        ((2, 3), 2, [[0, 1], [10, 11]]),
    ],
)
def test_the_center_is_cut_out(shape, crop, expected):
    np.testing.assert_array_equal(Transform(crop=crop)(numbered(*shape)), rows(*expected))


@pytest.mark.parametrize("shape", [(3, 9), (9, 3)])
def test_an_image_smaller_than_the_crop(shape):
    with pytest.raises(UserError) as caught:
        Transform(crop=4)(numbered(*shape))
    assert str(caught.value) == f"crop 4: there is an image of {shape[0]}x{shape[1]}"


def test_gray_is_the_luma_of_itu_r_601():
    """The weights are 299 R + 587 G + 114 B, in thousandths."""
    colors = {
        (255, 0, 0): 76,  # 76.245
        (0, 255, 0): 150,  # 149.685
        (0, 0, 255): 29,  # 29.07
        (255, 255, 255): 255,
        (10, 20, 30): 18,  # 2.99 + 11.74 + 3.42
        (200, 100, 50): 124,  # 59.8 + 58.7 + 5.7
    }
    image = np.array([list(colors)], np.uint8)
    assert Transform(channels=1)(image)[0, :, 0].tolist() == list(colors.values())
    luma = COLOR.astype(int) @ [299, 587, 114]
    np.testing.assert_allclose(Transform(channels=1)(COLOR)[..., 0], luma / 1000, atol=0.501)


def test_color_repeats_the_gray():
    assert Transform(channels=3)(rows([7, 9])).tolist() == [[[7, 7, 7], [9, 9, 9]]]
    np.testing.assert_array_equal(Transform(channels=3)(COLOR), COLOR)
    np.testing.assert_array_equal(Transform(channels=1)(rows([7, 9])), rows([7, 9]))


@pytest.mark.parametrize(("size", "to"), [(11, 5), (12, 4), (30, 7), (5, 9), (8, 16)])
def test_resizing_is_bicubic_and_antialiased(size, to):
    """Pillow's weights are integers, so a value may round to the other side."""
    image = RNG.integers(0, 256, (size, size, 3), np.uint8)
    found = Transform(image_size=to)(image)
    assert found.dtype == np.uint8
    assert np.abs(found - shrunk(image, to)).max() <= 1
    np.testing.assert_array_equal(Transform(image_size=to)(image[..., 1:2]), found[..., 1:2])  # channels do not mix


@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_checkerboard_shrinks_to_mid_gray(times):
    """Nearest-neighbor sampling would give black or white if `times` is odd."""
    board = 255 * rows(*(np.add.outer(np.arange(8 * times), np.arange(8 * times)) % 2))
    shrunk_board = Transform(image_size=8)(board)
    inside = shrunk_board[2:-2, 2:-2]
    assert np.isin(inside, [127, 128]).all(), inside[..., 0]


def test_the_center_square_is_resized():
    wide = numbered(4, 9)
    np.testing.assert_array_equal(Transform(image_size=4)(wide), wide[:, 2:6])
    np.testing.assert_array_equal(Transform(image_size=4)(wide.swapaxes(0, 1)), wide[:, 2:6].swapaxes(0, 1))
    np.testing.assert_array_equal(Transform(image_size=6)(COLOR), Transform(image_size=6)(COLOR[:, 1:12]))


def test_padding_is_black_on_every_side():
    found = Transform(pad=2)(np.full((1, 2, 3), 200, np.uint8))
    assert found[..., 1].tolist() == [[0] * 6, [0] * 6, [0, 0, 200, 200, 0, 0], [0] * 6, [0] * 6]
    assert found.shape == (5, 6, 3)


def test_binarizing_begins_at_128():
    found = Transform(binarize="threshold")(rows([0, 1, 127, 128, 254, 255]))
    np.testing.assert_array_equal(found, rows([0, 0, 0, 255, 255, 255]))
    assert found.dtype == np.uint8


LEVELS = [0, 1, 64, 128, 254, 255]


@pytest.fixture(scope="module")
def drawn():
    """Bits of 2,000 images that differ only in an index: eight pixels for each of LEVELS."""
    images = np.zeros((2000, 8, 8, 1), np.uint8)
    images[:, :6] = np.array(LEVELS, np.uint8)[:, None, None]
    images[:, 6, :2, 0] = np.stack(np.divmod(np.arange(2000), 256), axis=1)
    found = Transform(binarize="dynamic").all(images)
    assert set(np.unique(found)) == {0, 255}
    assert found.dtype == np.uint8
    return found[:, :6, :, 0] / 255


def test_frozen_bits_are_drawn_by_the_gray_level(drawn):
    """Frequencies agree to four standard errors with 16,000 draws each; black and white are certain."""
    shares = np.array(LEVELS) / 255
    error = np.sqrt(shares * (1 - shares) / (8 * 2000))
    assert (np.abs(drawn.mean((0, 2)) - shares) <= 4 * error).all()


def test_frozen_bits_are_independent_over_images_and_pixels(drawn):
    """Correlations between successive images' bits and between adjacent pixels are 0, to four standard errors."""
    for level in (2, 3):
        bits = drawn[:, level]
        for one, other in ((bits[:-1], bits[1:]), (bits[:, :-1], bits[:, 1:])):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)


def test_frozen_bits_are_constant():
    """Recorded values: any machine must give the same, from the image alone."""
    image = np.full((2, 8, 1), 128, np.uint8)
    found = Transform(binarize="dynamic")(image)
    assert (found[..., 0] // 255).tolist() == [[1, 0, 0, 1, 1, 0, 1, 1], [0, 1, 1, 1, 1, 0, 1, 1]]
    np.testing.assert_array_equal(Transform(binarize="dynamic").all(np.stack([COLOR[:2, :8, :1], image]))[1], found)
    np.testing.assert_array_equal(Transform(binarize="dynamic")(np.asfortranarray(image)), found)


def test_training_images_stay_gray_to_be_drawn_in_each_step():
    options = Options(binarize="dynamic", pad=1)
    assert Transform.of(options, "train") == Transform(pad=1)
    for split in ("validation", "test"):
        assert Transform.of(options, split) == Transform.of(options) == Transform(pad=1, binarize="dynamic")
    assert Transform.of(Options(binarize="threshold"), "train") == Transform(binarize="threshold")


STEPS = {"crop": 5, "channels": 1, "image_size": 6, "pad": 1, "binarize": "threshold"}


def test_the_order_is_crop_channels_resize_pad_binarize():
    image = COLOR
    for name, value in STEPS.items():
        image = Transform(**{name: value})(image)
    np.testing.assert_array_equal(Transform(**STEPS)(COLOR), image)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("crop", "image_size"),
        ("crop", "pad"),
        ("channels", "image_size"),
        ("channels", "binarize"),
        ("image_size", "pad"),
        ("image_size", "binarize"),
    ],
)
def test_another_order_would_show(first, then):
    """The test above would fail for another order; only crop and channel conversion commute."""
    steps = {name: Transform(**{name: STEPS[name]}) for name in (first, then)}
    assert not np.array_equal(steps[then](steps[first](COLOR)), steps[first](steps[then](COLOR)))


def test_the_options_name_the_transform():
    options = Options(crop=3, image_size=5, pad=1, channels=3, binarize="threshold", flip=True, caption_length=9)
    assert Transform.of(options) == Transform(crop=3, channels=3, image_size=5, pad=1, binarize="threshold")
    assert Transform.of(Options()) == Transform()


def test_all_images_are_transformed_one_by_one():
    images = RNG.integers(0, 256, (3, 6, 7, 3), np.uint8)
    transform = Transform(crop=5, channels=1, image_size=4)
    np.testing.assert_array_equal(transform.all(images), [transform(image) for image in images])
    assert Transform().all(images) is images


def test_what_was_done_is_said():
    assert Transform().described() == ""
    assert Transform(crop=9, channels=1, image_size=4, pad=2, binarize="threshold").described() == (
        "the center 9x9 cut out, in gray, resized to 4x4 (Pillow, bicubic, antialiased), "
        "padded with 2 zeros on every side, binarized (128 and above is 255, the rest 0)"
    )
    assert Transform(channels=3).described() == "in color"
