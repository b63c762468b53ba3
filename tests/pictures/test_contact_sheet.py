"""Contact sheets, compared pixel by pixel where possible: positions of images and the text below them."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from jaxgen import data
from jaxgen.data.readers import bars
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.drawing import mesh_images, point_image
from jaxgen.model import Spec
from jaxgen.pictures.contact_sheet import BACKGROUND, CAPTION_WIDTH, INK, contact_sheet

GAP = 8
RNG = np.random.default_rng(0)


def dataset(classes=(), vocabulary=None, faces=None, **entries):
    kinds = {name: jax.ShapeDtypeStruct(entry.shape[1:], entry.dtype) for name, entry in entries.items()}
    nothing = {name: entry[:1] for name, entry in entries.items()}
    num = len(next(iter(entries.values())))
    return data.Dataset(
        "mine", {}, Spec(kinds, num, faces=faces), entries, nothing, nothing, "", "", tuple(classes), vocabulary
    )


def plain(num, height, width):
    """Images of one distinct color each, which no text or background has."""
    colors = np.stack([np.arange(num) * 3 + 50, np.full(num, 0), np.full(num, 200)], -1).astype(np.uint8)
    return np.tile(colors[:, None, None], (1, height, width, 1))


def places(sheet, images):
    """Finds (top, left) of each single-colored image, and the number of its pixels."""
    found = []
    for color in images[:, 0, 0]:
        rows, columns = np.nonzero((sheet == color).all(-1))
        found.append((rows.min(), columns.min(), len(rows)) if len(rows) else None)
    return found


def ink(part):
    """Tells which pixels are darker than the background and any faint edge of a letter."""
    return (part.astype(int).sum(-1) < 3 * 128).sum()


def written(words):
    """Renders words in black and white with Pillow's own font."""
    image = Image.new("RGB", (CAPTION_WIDTH, 14), BACKGROUND)
    ImageDraw.Draw(image).text((0, 0), words, INK, ImageFont.load_default(11))
    return np.asarray(image)


def test_images_stand_unscaled_from_the_corner_on():
    """The first image is one gap from the corner, the next one gap from it, on a light ground; sides are 40 or more."""
    images = RNG.integers(0, 256, (2, 40, 50, 3), np.uint8)
    sheet = contact_sheet(dataset(image=images))
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[8:48, 8:58], images[0])
    np.testing.assert_array_equal(sheet[8:48, 66:116], images[1])
    frame = sheet.copy()
    frame[8:48, 8:58] = frame[8:48, 66:116] = BACKGROUND
    assert (frame == BACKGROUND).all()


@pytest.mark.parametrize(("size", "scale"), [(8, 4), (16, 2), (28, 2), (32, 2), (33, 1)])
def test_small_gray_images_are_enlarged(size, scale):
    images = RNG.integers(0, 256, (1, size, size, 1), np.uint8)
    sheet = contact_sheet(dataset(image=images))
    shown = sheet[GAP : GAP + size * scale, GAP : GAP + size * scale]
    np.testing.assert_array_equal(shown, images[0].repeat(scale, 0).repeat(scale, 1).repeat(3, 2))
    assert (sheet[:, GAP + size * scale :] == BACKGROUND).all()


def test_examples_are_evenly_spaced_over_the_split():
    """Five of nine are every second one, in reading order."""
    images = plain(9, 40, 40)
    sheet = contact_sheet(dataset(image=images), num=5)
    found = places(sheet, images)
    assert [place is not None for place in found] == [True, False] * 4 + [True]
    assert all(place[2] == 1600 for place in found[::2])
    assert found[::2] == sorted(found[::2])
    assert found[0][:2] == (8, 8)
    assert {(column - 8) % 48 for _, column, _ in found[::2]} == {0}


@pytest.mark.parametrize("num", [1, 3, 40])
def test_fewer_examples_than_asked(num):
    images = plain(3, 40, 40)
    found = places(contact_sheet(dataset(image=images), num), images)
    assert sum(place is not None for place in found) == min(num, 3)
    assert found[0][:2] == (8, 8)


def test_the_split_is_the_one_asked_for():
    images = plain(2, 40, 40)
    mine = dataset(image=images)._replace(test={"image": images[1:]})
    assert [place is not None for place in places(contact_sheet(mine, split="test"), images)] == [False, True]


def test_class_names_stand_below_their_images():
    images = np.full((2, 60, 60, 3), 255, np.uint8)
    labels = np.array([1, 0], np.int32)
    sheet = contact_sheet(dataset(["", "cats"], image=images, label=labels))
    below = sheet[8 + 60 :]
    np.testing.assert_array_equal(below[2:16, 8:68], written("cats")[:, :60])
    assert ink(below[:, :76]) > 20
    assert ink(below[:, 76:]) == 0  # that class has no name
    assert ink(contact_sheet(dataset(image=images))) == 0
    other = contact_sheet(dataset(["", "dogs"], image=images, label=labels))
    assert (other != sheet).any()


def test_a_long_class_name_is_cut_off():
    """Ten letters of 6 pixels fit below 60."""
    images = np.full((1, 60, 60, 3), 255, np.uint8)
    sheet = contact_sheet(dataset(["pseudopseudohypoparathyroidism"], image=images, label=np.zeros(1, np.int32)))
    np.testing.assert_array_equal(sheet[8 + 60 + 2 : 8 + 60 + 16, 8:68], written("pseudopseu")[:, :60])


@pytest.mark.parametrize("labels", [False, True])
def test_captions_stand_below_their_images_and_labels(labels):
    """A caption uses as many lines of 28 letters as it needs, which sets the width of its cell."""
    images = np.full((2, 60, 60, 3), 255, np.uint8)
    captions = ["a small red circle left of a large blue square", "a star"]
    vocabulary = Vocabulary.of(captions)
    entries = {"image": images, "caption": vocabulary.encode(captions, 10)}
    lines = ["a small red circle left of a", "large blue square"]
    if labels:
        entries["label"] = np.array([0, 0], np.int32)
        lines = ["scene", *lines]
    sheet = contact_sheet(dataset(["scene"], vocabulary, **entries))
    for n, line in enumerate(lines):
        top = 8 + 60 + 2 + 14 * n
        np.testing.assert_array_equal(sheet[top : top + 14, 8 : 8 + CAPTION_WIDTH], written(line))
    beside = 8 + CAPTION_WIDTH + 8
    top = 8 + 60 + 2 + 14 * (len(lines) - 2)
    np.testing.assert_array_equal(sheet[top : top + 14, beside : beside + CAPTION_WIDTH], written("a star"))
    assert sheet.shape == (8 + 60 + 8 + 14 * len(lines) + 8, 8 + 2 * (CAPTION_WIDTH + 8), 3)


def test_points_are_all_in_one_picture():
    points = RNG.normal(size=(500, 2)).astype(np.float32)
    mine = dataset(["a"], point=points, label=np.zeros(500, np.int32))
    np.testing.assert_array_equal(contact_sheet(mine, num=3), point_image(points, 480))


def test_meshes_are_drawn():
    some = bars.read(data.Options("bars")).splits["test"]
    mine = dataset(bars.CLASSES, faces=bars.faces(), mesh=some["mesh"][:9], label=some["label"][:9])
    sheet = contact_sheet(mine, num=2)
    label = some["label"][:9]
    rows = sorted([label.tolist().index(label.min()), label.tolist().index(label.max())])
    first, last = mesh_images(some["mesh"][rows], bars.faces(), 160)
    np.testing.assert_array_equal(sheet[8:168, 8:168], first)
    np.testing.assert_array_equal(sheet[8:168, 176:336], last)
    below = sheet[170:184, 8:168]
    np.testing.assert_array_equal(below, written(bars.CLASSES[label[rows[0]]])[:, :160])


def test_what_is_read_while_training_is_shown_too(tmp_path):
    for n, image in enumerate(plain(12, 40, 40)):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    memory, grain = (data.load("image_folder", data_from=str(tmp_path), pipeline=x) for x in ("memory", "grain"))
    assert not isinstance(grain.train["image"], np.ndarray)
    np.testing.assert_array_equal(contact_sheet(grain), contact_sheet(memory))
