import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from jaxgen.data.readers.bars import bars
from jaxgen.data.readers.bars import faces as bar_faces
from jaxgen.drawing import (
    AMBIENT,
    AZIMUTH,
    BACKGROUND,
    LIGHT,
    MARGIN,
    SURFACE,
    camera,
    captioned,
    enlarged,
    image_grid,
    labeled,
    mesh_images,
    point_image,
    spread,
    stacked,
    to_animation,
    to_png,
)


@pytest.mark.parametrize(
    ("num", "labels", "expected"),
    [
        # Without labels evenly spaced, the first and the last among them.
        (3, None, [0, 4, 9]),
        (1, None, [0]),
        (99, None, list(range(10))),
        # Sorted by class, as folders are: as many of each, from its first to its last.
        (4, [0] * 5 + [1] * 5, [0, 4, 5, 9]),
        (6, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2], [0, 2, 3, 5, 6, 9]),
        (4, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2], [0, 2, 3, 6]),
        # A class of one image, and its places to the others.
        (5, [0] * 8 + [1, 2], [0, 3, 7, 8, 9]),
        # More classes than places: evenly spaced ones.
        (3, list(range(10)), [0, 4, 9]),
        # In any order; labels that are not known are a class.
        (4, [1, 0, 1, 0, 1, 0, 1, 0, 1, 0], [0, 1, 8, 9]),
        (4, [-1, -1, 3, 3, 3, 3, 3, 3, 3, -1], [0, 2, 8, 9]),
        (99, [2, 1] * 5, list(range(10))),
    ],
)
def test_examples_that_are_shown_are_spread_over_the_classes(num, labels, expected):
    assert spread(num, 10, labels).tolist() == expected


@pytest.mark.parametrize("num", [1, 7, 16, 40])
def test_of_classes_of_any_size_none_is_shown_twice_nor_more_often_than_it_must(num):
    labels = np.random.default_rng(0).choice(6, 60, p=[0.7, 0.2, 0.04, 0.03, 0.02, 0.01])
    rows = spread(num, 60, labels)
    assert len(set(rows)) == num
    shown, there = (np.bincount(of, minlength=6) for of in (labels[rows], labels))
    for taken, members in zip(shown, there, strict=True):
        assert taken >= min(members, shown.max() - 1) or num < 6
    assert spread(0, 60, labels).tolist() == spread(5, 0, []).tolist() == []


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


def test_enlarged_and_stacked_by_hand():
    image = np.uint8([[1, 2], [3, 4]])[:, :, None]
    assert enlarged(image, 2)[:, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    both = stacked([image, image + 4])[:, :, 0].tolist()
    assert both == [[1, 2], [3, 4], [0, 0], [0, 0], [0, 0], [0, 0], [5, 6], [7, 8]]


@pytest.mark.parametrize("channels", [1, 3])
def test_words_stand_above_a_picture(channels):
    picture = np.random.default_rng(2).integers(256, size=(5, 90, channels)).astype(np.uint8)
    whole = captioned(picture, "step 1,500")
    assert whole.shape == (23, 90, channels)
    np.testing.assert_array_equal(whole[18:], picture)
    line = Image.new("L", (90, 18))
    ImageDraw.Draw(line).text((4, 2), "step 1,500", 255, ImageFont.load_default(12))
    expected = np.asarray(line)
    assert expected.max() == 255
    assert not expected[[0, -1]].any()  # no letter is cut off
    assert not expected[:, -4:].any()
    for channel in range(channels):
        np.testing.assert_array_equal(whole[:18, :, channel], expected)


def test_words_that_do_not_fit_stand_in_several_lines():
    """Lines are filled word by word; a word too long for the picture has a line of its own."""
    picture = np.zeros((5, 90, 1), np.uint8)
    lines = ["two red circles", "above a", "bluebluebluebluesquare", "there"]
    font = ImageFont.load_default(12)
    fits = [
        font.getlength(line) <= 90 - 8 for line in (*lines, "two red circles above", "above a bluebluebluebluesquare")
    ]
    assert fits == [True, True, False, True, False, False]
    whole = captioned(picture, " ".join(lines))
    np.testing.assert_array_equal(whole, np.concatenate([*(captioned(picture[:0], line) for line in lines), picture]))
    assert whole.shape == (4 * 18 + 5, 90, 1)


def test_words_stand_below_images():
    images = np.random.default_rng(2).integers(256, size=(2, 5, 21, 1)).astype(np.uint8)
    words = [("is Ankle boot", "as 3"), ("is 3", "as 3")]
    whole = labeled(images, words)
    font = ImageFont.load_default(12)
    width = int(np.ceil(font.getlength("is Ankle boot"))) + 8
    assert whole.shape == (2, 5 + 18 + 18, width, 1)
    left = (width - 21) // 2
    np.testing.assert_array_equal(whole[:, :5, left : left + 21], images)
    assert not whole[:, :5, :left].any()
    assert not whole[:, :5, left + 21 :].any()
    for cell, lines in zip(whole, words, strict=True):
        for place, line in enumerate(lines):
            expected = Image.new("L", (width, 18))
            ImageDraw.Draw(expected).text((4, 2), line, 255, font)
            shown = cell[5 + 18 * place :][:18, :, 0]
            np.testing.assert_array_equal(shown, np.asarray(expected))
            assert shown.max() > 200
            assert not shown[:, -4:].any()  # no letter is cut off
    assert labeled(images[:, :, :, [0, 0, 0]], [("a",), ("b",)]).shape == (2, 5 + 18, 21, 3)  # wider than their text


# Animations


def moving(channels):
    return list(np.random.default_rng(3).integers(256, size=(4, 21, 30, channels)).astype(np.uint8))


@pytest.mark.parametrize(("suffix", "channels"), [(".gif", 1), (".webp", 1), (".webp", 3)])
def test_an_animation_holds_every_pixel_and_time(suffix, channels):
    """Every frame contains all 256 grays."""
    frames, milliseconds = moving(channels), [100, 250, 30, 2000]
    content = to_animation(frames, milliseconds, suffix)
    assert content == to_animation(frames, milliseconds, suffix)
    with Image.open(io.BytesIO(content)) as read:
        assert (read.n_frames, read.info["loop"]) == (4, 0)  # loops forever
        for i, frame in enumerate(frames):
            read.seek(i)
            np.testing.assert_array_equal(np.asarray(read.convert("RGB")), np.broadcast_to(frame, (21, 30, 3)))
            assert read.info["duration"] == milliseconds[i]


def test_a_gif_of_few_colors_holds_them():
    frames = [frame // 128 * 255 for frame in moving(3)]  # eight colors
    with Image.open(io.BytesIO(to_animation(frames, [100] * 4, ".gif"))) as read:
        for i, frame in enumerate(frames):
            read.seek(i)
            np.testing.assert_array_equal(np.asarray(read.convert("RGB")), frame)


def test_a_webp_that_is_too_large():
    frame = np.zeros((16_384, 1, 1), np.uint8)
    with pytest.raises(ValueError, match="at most 16,383 pixels a side, not 1 x 16,384"):
        to_animation([frame], [100], ".webp")
    assert to_animation([frame[1:]], [100], ".webp")
    assert to_animation([frame], [100], ".gif")


# Meshes

SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def lit(cosine):
    return np.round((AMBIENT + (1 - AMBIENT) * cosine) * SURFACE)


def from_camera(points):
    """Converts points given as (right, up, toward the camera) to the mesh's axes."""
    return np.asarray(points, np.float64) @ camera(AZIMUTH)


def test_camera_and_light_are_of_length_one():
    np.testing.assert_allclose(camera(AZIMUTH) @ camera(AZIMUTH).T, np.eye(3), atol=1e-15)
    assert np.linalg.det(camera(AZIMUTH)) > 0  # no reflection
    np.testing.assert_allclose(np.linalg.norm(LIGHT), 1)
    to_the_right, upwards, toward = camera(AZIMUTH)
    assert to_the_right[0] > 0.8
    assert upwards[1] > 0.9
    assert toward[2] > 0.7
    assert to_the_right[1] == 0  # the horizon is level


def test_a_square_that_faces_the_camera():
    (image,) = mesh_images(from_camera(SQUARE)[None], SQUARE_FACES, 50)
    assert image.dtype == np.uint8
    assert image.shape == (50, 50, 3)
    assert MARGIN * 50 == 2
    assert (image[3:-3, 3:-3] == lit(LIGHT[2])).all()  # no seam at the diagonal
    outside = np.ones((50, 50), bool)
    outside[1:-1, 1:-1] = False
    assert (image[outside] == BACKGROUND).all()


def test_edges_are_smooth():
    """A square turned by 45 degrees covers the pixels along its sides by a half on average."""
    turned = from_camera([[-1, 0, 0], [0, -1, 0], [1, 0, 0], [0, 1, 0]])
    (image,) = mesh_images(turned[None], SQUARE_FACES, 100)
    covered = (image - BACKGROUND) / (lit(LIGHT[2]) - BACKGROUND)
    assert len(np.unique(np.round(covered, 3))) > 4
    np.testing.assert_allclose(covered.mean((0, 1)), 0.92**2 / 2, rtol=0.03)


@pytest.mark.parametrize("side", [1, -1])
def test_lamberts_cosine_on_both_sides(side):
    """Triangles face the light, are at 60 degrees to it, and face away from it."""
    edge_on = np.cross(LIGHT, [0, 0, 1])
    edge_on /= np.linalg.norm(edge_on)
    beside = np.cross(edge_on, LIGHT)
    for normal, cosine in (
        (LIGHT, 1),
        (np.cos(np.pi / 3) * LIGHT + np.sin(np.pi / 3) * beside, 0.5),
        (np.array([0.8, 0, 0.36]), 0),
    ):
        assert normal[2] > 0
        u = np.cross(normal, [0, 1, 0])
        v = np.cross(normal, u)
        triangle = from_camera([u, -u + v, -u - v])
        (image,) = mesh_images(triangle[None], np.array([[0, 1, 2][::side]]), 60)
        colors, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        surface = colors[[not (c == BACKGROUND).all() for c in colors]]
        counts = counts[[not (c == BACKGROUND).all() for c in colors]]
        np.testing.assert_allclose(surface[np.argmax(counts)], lit(cosine), atol=1)


@pytest.mark.parametrize("nearer", [0, 1])
def test_the_nearer_hides_the_farther(nearer):
    tilted = SQUARE + np.array([0, 0, 1]) * SQUARE[:, :1] * 0.5  # a different shade
    squares = [tilted, SQUARE]
    squares[nearer] = np.add(squares[nearer], [0, 0, 3])
    faces = np.concatenate([SQUARE_FACES, SQUARE_FACES + 4])
    both = mesh_images(from_camera(np.concatenate(squares))[None], faces, 30)
    alone = mesh_images(from_camera(squares[nearer])[None], SQUARE_FACES, 30)
    np.testing.assert_array_equal(both, alone)
    np.testing.assert_array_equal(mesh_images(from_camera(np.concatenate(squares))[None], faces[::-1], 30), both)


def test_one_scale_and_one_place_for_all_meshes():
    small = SQUARE / 2 + [0.5, 0.5, 0]  # the upper right quarter
    images = mesh_images(from_camera([SQUARE, small]), SQUARE_FACES, 50)
    inner = lit(LIGHT[2])
    assert (images[1, 3:24, 26:-3] == inner).all()
    assert (images[1, 27:] == BACKGROUND).all()
    assert (images[1, :, :23] == BACKGROUND).all()
    np.testing.assert_array_equal(images[0], mesh_images(from_camera([SQUARE]), SQUARE_FACES, 50)[0])


def ray_cast(vertices, faces, size, samples):
    """Draws one mesh by another method: the nearest triangle at `samples`^2 points of every pixel."""
    seen = vertices @ camera(AZIMUTH).T
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    side = (high - low).max() / (1 - 2 * MARGIN)
    ticks = ((np.arange(size * samples) + 0.5) / (size * samples) - 0.5) * side
    x, y = np.meshgrid((low + high)[0] / 2 + ticks, (low + high)[1] / 2 - ticks)
    depth = np.full(x.shape, -np.inf)
    picture = np.tile(BACKGROUND.astype(float), (*x.shape, 1))
    for a, b, c in seen[faces]:
        normal = np.cross(b - a, c - a)
        if normal[2] <= 0:
            continue  # on a closed surface with outward faces, only these are visible
        rows = np.flatnonzero((y[:, 0] >= min(a[1], b[1], c[1])) & (y[:, 0] <= max(a[1], b[1], c[1])))
        columns = np.flatnonzero((x[0] >= min(a[0], b[0], c[0])) & (x[0] <= max(a[0], b[0], c[0])))
        box = np.ix_(rows, columns)
        inside = np.ones((len(rows), len(columns)), bool)
        for p, q in ((a, b), (b, c), (c, a)):
            inside &= (q[0] - p[0]) * (y[box] - p[1]) - (q[1] - p[1]) * (x[box] - p[0]) >= 0
        z = a[2] - (normal[0] * (x[box] - a[0]) + normal[1] * (y[box] - a[1])) / normal[2]
        nearer = inside & (z > depth[box])
        depth[box] = np.where(nearer, z, depth[box])
        cosine = max(normal @ LIGHT / np.linalg.norm(normal), 0)
        picture[box] = np.where(nearer[..., None], lit(cosine), picture[box])
    return picture.reshape(size, samples, size, samples, 3).mean((1, 3))


@pytest.mark.parametrize("direction", range(4))
def test_pictures_equal_ray_casting(direction):
    """The mesh is a bar that is bent, twisted and partly hidden by itself."""
    angle = np.pi / 2 * direction
    joints = 1.3 * np.stack([np.full(3, np.cos(angle)), np.full(3, np.sin(angle))], -1)
    (mesh,) = bars(joints[None], np.zeros((1, 2)), np.array([6.0]), np.array([2.0]), np.array([0.7]))
    (image,) = mesh_images(mesh[None], bar_faces(), 60)
    expected = ray_cast(mesh, bar_faces(), 60, 4)
    shown = (expected != BACKGROUND).any(-1)
    assert shown.mean() > 0.05
    difference = np.abs(image - expected)
    assert np.median(difference[shown]) < 2  # of 255
    assert difference[shown].mean() < 4  # mostly at edges, which the method above samples


def test_corners_that_are_not_finite_are_left_out():
    vertices = np.stack([np.concatenate([SQUARE, np.add(SQUARE, [3, 0, 0])])] * 2).astype(float)
    faces = np.concatenate([SQUARE_FACES, SQUARE_FACES + 4])
    broken = vertices.copy()
    broken[1, 4] = np.nan
    broken[1, 6] = np.inf
    images = mesh_images(from_camera(vertices[:1]), faces, 40)
    left = mesh_images(broken, faces, 40)
    assert (left[0] != BACKGROUND).any()
    np.testing.assert_array_equal(left[1], mesh_images(np.stack([vertices[0], broken[1]]), SQUARE_FACES, 40)[1])
    assert images.shape == (1, 40, 40, 3)
    assert (mesh_images(np.full((2, 4, 3), np.nan), SQUARE_FACES, 8) == BACKGROUND).all()


def test_degenerate_meshes_are_drawn():
    assert mesh_images(np.zeros((1, 4, 3)), SQUARE_FACES, 9).shape == (1, 9, 9, 3)
    assert (mesh_images(from_camera(SQUARE)[None], SQUARE_FACES[:0], 9) == BACKGROUND).all()


@pytest.mark.parametrize(
    ("vertices", "faces", "size", "message"),
    [
        (np.zeros((4, 3)), SQUARE_FACES, 8, r"\[n, V, 3\]"),
        (np.zeros((0, 4, 3)), SQUARE_FACES, 8, "n >= 1"),
        (np.zeros((1, 4, 2)), SQUARE_FACES, 8, r"\[1, 4, 2\]"),
        (np.zeros((1, 4, 3)), np.zeros((1, 4), int), 8, r"\[F, 3\]"),
        (np.zeros((1, 4, 3)), SQUARE_FACES, 0, "1 pixel or more, got 0"),
    ],
)
def test_meshes_refused(vertices, faces, size, message):
    with pytest.raises(ValueError, match=message):
        mesh_images(vertices, faces, size)


# Points


def brightness(image):
    return (image[:, :, 0] - BACKGROUND[0]) / (SURFACE[0] - BACKGROUND[0])


def test_points_lie_where_they_are():
    image = point_image(np.float32([[0, 0], [10, 0], [10, 4], [np.nan, 50], [np.inf, 0]]), 100)
    assert image.dtype == np.uint8
    assert image.shape == (100, 100, 3)
    # 10 units are 92 pixels, from 4 to 96; 4 units are 36.8, half of them above the middle and half below
    rows, columns = np.nonzero(brightness(image) == 1)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(31, 96), (68, 4), (68, 96)]
    lit_pixels = np.argwhere((image != BACKGROUND).any(-1))
    assert len(lit_pixels) == 27  # three dots of 3 by 3


def test_brightness_is_the_logarithm_of_the_number():
    image = point_image(np.repeat([[0.0, 0], [0, 1], [1, 0]], [1, 7, 63], axis=0), 50)
    shown = brightness(image)
    assert shown[48, 48] == shown.max() == 1
    np.testing.assert_allclose([shown[48, 2], shown[2, 2]], [np.log(2) / np.log(64), np.log(8) / np.log(64)], atol=0.01)
    np.testing.assert_allclose([shown[48, 3], shown[47, 3]], np.log([1.5, 1.25]) / np.log(64), atol=0.01)


def test_few_points_and_small_pictures():
    center = point_image([[3.0, -8.0]] * 5, 9)
    assert np.argwhere(brightness(center) == 1).tolist() == [[4, 4]]
    assert (point_image(np.zeros((0, 2)), 4) == BACKGROUND).all()
    assert point_image(np.random.default_rng(0).normal(size=(100, 2)), 1).tolist() == [[SURFACE.tolist()]]


def test_points_refused():
    with pytest.raises(ValueError, match=r"\[n, 2\], got \[3\]"):
        point_image(np.zeros(3), 8)
    with pytest.raises(ValueError, match=r"\[n, 2\], got \[4, 3\]"):
        point_image(np.zeros((4, 3)), 8)
    with pytest.raises(ValueError, match="1 pixel or more"):
        point_image(np.zeros((4, 2)), 0)


def test_points_are_drawn_in_the_frame_of_others():
    """A point in the middle of the frame is in the middle of the picture; one outside is left out."""
    frame = [[-1, -1], [1, 1]]
    inside = point_image([[0.0, 0.0]], 51, frame)
    assert np.argwhere((inside == inside.max((0, 1))).all(-1)).tolist() == [[25, 25]]
    np.testing.assert_array_equal(point_image([[0.0, 0.0], [5.0, 0.0], [0.0, -1.2]], 51, frame), inside)
    np.testing.assert_array_equal(point_image([[3.0, 0.0]], 51, frame), np.full((51, 51, 3), [40, 44, 52]))
