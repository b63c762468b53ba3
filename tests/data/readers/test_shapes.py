"""Shapes against the checker of captions, which sees only an image and a caption, and shares no code with the drawing.

As a check of the checker, it must reject every caption with one word changed.
"""

import hashlib
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxgen.data.options import Options
from jaxgen.data.readers import shapes
from jaxgen.data.source import SPLITS
from jaxgen.metrics.captions import GROUP, is_true, parse, see, see_tolerantly
from tests.cases import some_slow

WORDS = """
    there is are a picture of on background with and two three small large black white
    red green blue yellow magenta cyan circle square triangle star circles squares triangles stars
    left right to the above over below under
"""


def falsehoods(caption):
    """Yields captions with one thing changed: (what, caption)."""
    for match in GROUP.finditer(caption):
        number, size, color, shape, plural = match.groups()
        changed = [("count", f"{n} {size}{color} {shape}{s}") for n, s in (("a", ""), ("two", "s"), ("three", "s"))]
        changed += [("color", f"{number} {size}{other} {shape}{plural}") for other in shapes.COLORS]
        changed += [("shape", f"{number} {size}{color} {other}{plural}") for other in shapes.SHAPES]
        changed += [("size", f"{number} {other}{color} {shape}{plural}") for other in ("small ", "large ") if size]
        for what, group in changed:
            if group != match[0]:
                yield what, caption[: match.start()] + group + caption[match.end() :]
    opposite = {"left": "right", "above": "below", "over": "under"}
    opposite |= {b: a for a, b in opposite.items()}
    for match in re.finditer(r"\b(left|right|above|below|over|under)\b", caption):
        yield "relation", caption[: match.start()] + opposite[match[0]] + caption[match.end() :]
    for match in re.finditer(r"\b(black|white)\b", caption):
        other = {"black": "white", "white": "black"}[match[0]]
        yield "background", caption[: match.start()] + other + caption[match.end() :]


def scenes_of(num, seed=0):
    return shapes.draw(np.random.Generator(np.random.PCG64(seed)), num)


@pytest.fixture(scope="module")
def source():
    return shapes.read(Options("shapes"))


def check(split, count):
    """Checks a split's first captions: they are true, all changes are false, and labels name the largest objects."""
    refused = Counter()
    for image, caption, label in zip(*(split[name][:count] for name in ("image", "caption", "label")), strict=True):
        seen = see(image)
        assert is_true(parse(caption), seen), (caption, seen)
        for what, falsehood in falsehoods(caption):
            assert not is_true(parse(falsehood), seen), (falsehood, seen)
            refused[what] += 1
        largest = max(seen.objects, key=lambda o: (o.box[2] - o.box[0]) * (o.box[3] - o.box[1]))
        assert shapes.CLASSES[label] == " ".join(largest[:2])
    return refused


@pytest.mark.parametrize(("split", "count"), some_slow([("test", 500), ("validation", 500), ("train", 1000)]))
def test_captions_and_labels_are_true_and_changed_captions_are_not(source, split, count):
    """Checks the first scenes; the slow test below checks all."""
    refused = check(source.splits[split], count)
    assert set(refused) == {"count", "color", "shape", "size", "relation", "background"}
    assert min(refused.values()) > count / 4


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_every_caption_and_label_is_true(source, split):
    check(source.splits[split], None)


def test_checker_refuses_what_is_no_scene():
    """Images without objects or with other shapes are rejected: a ring, a bar, two touching circles."""
    y, x = np.mgrid[:64, :64] - 31.5
    ring = (np.hypot(x, y) < 12) & (np.hypot(x, y) > 7)
    bar = (abs(x) < 11) & (abs(y) < 5)
    touching = (np.hypot(x - 7, y) < 7.2) | (np.hypot(x + 7, y) < 7.2)
    for mask in (np.zeros((64, 64), bool), ring, bar, touching):
        seen = see(mask[..., None] * np.array([255, 0, 0], np.uint8))
        assert not any(is_true(parse(f"a red {shape}"), seen) for shape in shapes.SHAPES)
        assert not is_true(parse("two red circles"), seen)


def shrunk(image, size):
    """The image resized to `size` and back, by Pillow's antialiased bicubic filter."""
    small = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((len(image),) * 2, Image.Resampling.BICUBIC))


def noisy(image, deviation):
    noise = np.random.default_rng(image.sum()).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "changed", "least", "most", "falsehoods_accepted"),
    some_slow(
        [
            (32, lambda image: image, 0.99, 1, {}),
            (64, lambda image: shrunk(image, 32), 0.85, 0.93, {"shape": 0.02}),
            (64, lambda image: image, 1, 1, {}),
            (64, lambda image: noisy(image, 40), 0.99, 1, {}),
            (32, lambda image: noisy(image, 20), 0.97, 1, {}),
            (32, lambda image: shrunk(image, 16), 0.45, 0.6, {"shape": 0.08, "size": 0.02}),
        ],
        quick=2,
    ),
)
def test_what_the_tolerant_checker_accepts(size, changed, least, most, falsehoods_accepted):
    """Shares of 200 true captions that are accepted, and of captions with one thing changed, none where not stated."""
    rng = np.random.Generator(np.random.PCG64(2))
    scenes = shapes.draw(rng, 200)
    captions, accepted, wrongly = shapes.captions(rng, scenes), [], {}
    for image, caption in zip(shapes.render(scenes, size), captions, strict=True):
        seen = see_tolerantly(changed(image))
        accepted.append(is_true(parse(caption), seen))
        for what, falsehood in falsehoods(caption):
            wrongly.setdefault(what, []).append(is_true(parse(falsehood), seen))
    assert least <= np.mean(accepted) <= most
    assert set(wrongly) == {"count", "color", "shape", "size", "relation", "background"}
    for what, each in wrongly.items():
        assert np.mean(each) <= falsehoods_accepted.get(what, 0), what


def test_small_pictures_are_the_same_scenes():
    """A pixel is the mean of four, up to the antialiasing at the edges of a shape."""
    scenes = scenes_of(50)
    large, small = shapes.render(scenes), shapes.render(scenes, 32).astype(float)
    means = large.reshape(50, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - means).max() < 255 / 2
    assert np.abs(small - means).mean() < 0.5


@pytest.mark.parametrize("most", some_slow([2, 1]))
def test_scenes_of_fewer_objects(most):
    """The captions of the sources themselves, and classes that are as frequent as before."""
    found = shapes.read(Options("shapes_32", max_objects=most)).splits["validation"]
    assert found["image"].shape == (2_000, 32, 32, 3)
    numbers = Counter(parse(caption).number for caption in found["caption"])
    assert set(numbers) == set(range(1, most + 1))
    if most == 2:  # one arrangement of one object, two of two
        assert abs(numbers[1] - 2_000 / 3) < 4 * np.sqrt(2_000 * 2 / 9)
    frequency = np.bincount(found["label"], minlength=24)
    assert frequency.max() - frequency.min() <= 1
    seen = [see_tolerantly(image) for image in found["image"][:40]]
    assert all(is_true(parse(caption), each) for caption, each in zip(found["caption"], seen, strict=False))


def test_splits(source):
    assert tuple(source.splits) == SPLITS
    for split, num in zip(source.splits.values(), (20_000, 2_000, 2_000), strict=True):
        assert split["image"].shape == (num, 64, 64, 3)
        assert split["image"].dtype == np.uint8
        assert split["label"].dtype == np.int32
        frequency = np.bincount(split["label"], minlength=24)
        assert len(frequency) == len(source.classes) == 24
        assert frequency.max() - frequency.min() <= 1
        assert len(split["caption"]) == num


def test_no_image_is_there_twice(source):
    images = {hashlib.sha256(image).digest() for split in source.splits.values() for image in split["image"]}
    assert len(images) == 24_000


def test_captions_are_varied_and_of_few_words(source):
    captions = source.splits["train"]["caption"]
    frequency = Counter(word for caption in captions for word in caption.split())
    assert set(frequency) == set(WORDS.split())
    assert min(frequency.values()) > 700  # every word is frequent enough to be learned
    assert len(set(captions)) > 10_000
    # the six arrangements, by the numbers of objects in the groups
    arrangements = Counter(tuple(sorted(group.number for group in parse(caption).groups)) for caption in captions)
    assert arrangements.keys() == {(1,), (2,), (1, 1), (3,), (1, 2), (1, 1, 1)}
    # 4 standard deviations of a binomial with 20,000 draws and probability 1/6
    assert all(abs(count - 20_000 / 6) < 4 * 53 for count in arrangements.values())


def test_objects_keep_their_distances():
    scenes = scenes_of(5_000)
    low, high = scenes.center - scenes.side[..., None] / 2, scenes.center + scenes.side[..., None] / 2
    present = scenes.group >= 0
    assert low[present].min() >= 2
    assert high[present].max() <= 62
    for i, j in combinations(range(3), 2):
        apart = np.maximum(low[:, i] - high[:, j], low[:, j] - high[:, i]).max(axis=1)
        assert apart[present[:, i] & present[:, j]].min() >= 4 - 1e-9


def one(shape, side, center, color="red", background="black"):
    """The picture of one object."""
    index = [list(shapes.BACKGROUNDS).index(background), list(shapes.COLORS).index(color)]
    return shapes.render(
        shapes.Scenes(
            background=np.array(index[:1]),
            group=np.array([[0, -1, -1]]),
            size=np.zeros((1, 3), int),
            color=np.full((1, 3), index[1]),
            shape=np.full((1, 3), shapes.SHAPES.index(shape)),
            side=np.full((1, 3), float(side)),
            center=np.full((1, 3, 2), center, float),
        )
    )[0]


def test_square_by_hand():
    """Side 12 around (20.25, 30) covers columns 15 to 25 fully, 14 by 3/4 and 26 by 1/4; rows 24 to 35 fully."""
    expected = np.zeros((64, 64, 3), np.uint8)
    expected[24:36, 15:26] = (255, 255, 0)
    expected[24:36, 14] = (191, 191, 0)  # 0.75 * 255 = 191.25
    expected[24:36, 26] = (64, 64, 0)  # 0.25 * 255 = 63.75
    np.testing.assert_array_equal(one("square", 12, (20.25, 30), "yellow"), expected)
    on_white = np.where(expected[..., :1] > 0, 255 - expected[..., :1], 255) * np.array([0, 0, 1])
    on_white = on_white + np.array([255, 255, 0])
    np.testing.assert_array_equal(one("square", 12, (20.25, 30), "yellow", "white"), on_white)


# A pentagram's ten corners, tips on a circle of radius 1 and the others on one of 0.382, and its box.
TURN = np.arange(10) * np.pi / 5
STAR = np.column_stack([np.sin(TURN), -np.cos(TURN)]) * np.where(np.arange(10) % 2, (3 - 5**0.5) / 2, 1)[:, None]
STAR = 2 * (STAR - STAR.min(axis=0)) / np.ptp(STAR, axis=0) - 1


@pytest.mark.parametrize("shape", shapes.SHAPES)
@pytest.mark.parametrize(("side", "center"), [(12, (20.3, 31.8)), (14.2, (32.5, 40)), (23.7, (30.1, 25.7))])
def test_shapes_are_those_of_pillow(shape, side, center):
    """Compares with Pillow's shapes drawn 16 times as large and averaged; antialiasing differs a little at edges."""
    large = Image.new("L", (1024, 1024))
    draw = ImageDraw.Draw(large)
    corners = {"square": [(-1, -1), (1, -1), (1, 1), (-1, 1)], "triangle": [(0, -1), (1, 1), (-1, 1)], "star": STAR}
    if shape == "circle":
        corners["circle"] = [(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 200)]
    points = 16 * (np.array(center) + side / 2 * np.array(corners[shape])) - 0.5
    draw.polygon([tuple(p) for p in points], fill=255)
    expected = np.array(large, float).reshape(64, 16, 64, 16).mean(axis=(1, 3)) / 255
    opacity = one(shape, side, center)[..., 0] / 255
    assert opacity.sum() == pytest.approx(expected.sum(), rel=0.03)
    assert np.abs(opacity - expected).max() < 0.4  # at a star's tips
    assert np.abs(opacity - expected).mean() * 4096 < 0.1 * side * 4  # a tenth of a pixel along the box


def test_drawing_in_chunks_changes_nothing(monkeypatch):
    scenes = scenes_of(70)
    whole = shapes.render(scenes)
    monkeypatch.setattr(shapes, "CHUNK", 32)
    np.testing.assert_array_equal(shapes.render(scenes), whole)


def test_content_is_the_recorded_one(source):
    """A change of the rule or of NumPy's random streams changes the content; `identity` must then change too."""
    digests = {}
    for name, split in source.splits.items():
        digest = hashlib.sha256(split["image"])
        digest.update(split["label"].astype("<i4"))
        digest.update("\n".join(split["caption"]).encode())
        digests[name] = digest.hexdigest()
    assert shapes.identity(Options("shapes")) == "1"
    assert digests == {
        "train": "d5f32ad6adeb95ef2a45ebfc791e1065ef3320363a02fb198d72ba623b488215",
        "validation": "24dcb16e4c709f42d00d203c21922f23f3af44f64ea28182d3088221cc0a1d12",
        "test": "3a4f5f112876d713d9d911a2cb1cca5a31afc738aad8dbe6d331a5b4edc2a54c",
    }
