"""Captions of `shapes` and what images show, by hand; how often each is accepted is tested with the drawing."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxgen.metrics import captions
from jaxgen.metrics.captions import Claim, Group, Object, Seen, attributes, is_true, parse, see, see_tolerantly


@pytest.mark.parametrize(
    ("caption", "claim"),
    [
        ("a red circle", Claim(None, (Group(1, "", "red", "circle"),), (None,))),
        (
            "there are two small blue stars on a white background",
            Claim("white", (Group(2, "small", "blue", "star"),), (None,)),
        ),
        (
            "a black background with a large red square and three small cyan circles",
            Claim("black", (Group(1, "large", "red", "square"), Group(3, "small", "cyan", "circle")), (None, None)),
        ),
        (
            "two cyan triangles are above a red square and to the left of a green star",
            Claim(
                None,
                (Group(2, "", "cyan", "triangle"), Group(1, "", "red", "square"), Group(1, "", "green", "star")),
                (None, "above", "left of"),
            ),
        ),
    ],
)
def test_parsed_by_hand(caption, claim):
    assert parse(caption) == claim
    assert claim.number == sum(group.number for group in claim.groups)


@pytest.mark.parametrize(
    "caption",
    ["", "a cat", "two red circle", "a red circle a blue star", "a red circle and", "red circle", "a red circles"],
)
def test_other_sentences_are_refused(caption):
    with pytest.raises(ValueError, match="no caption of shapes"):
        parse(caption)


def at(left, top, color="red", shape="circle", size="small"):
    return Object(color, shape, size, (left, top, left + 12, top + 12))


def test_truth_by_hand():
    """A red circle with a blue star to its right, lower by half; then one thing in the image is another."""
    star = at(30, 6, "blue", "star")
    seen = Seen("white", (at(2, 0), star))
    true = ["a red circle and a blue star", "a red circle left of a blue star", "a blue star is right of a red circle"]
    true += ["there is a small red circle and a small blue star on a white background"]
    assert all(is_true(parse(caption), seen) for caption in true)
    for other in (
        Seen("white", (at(2, 0),)),
        Seen("white", (at(2, 0), star, star)),
        Seen("white", (at(2, 0), star._replace(shape="circle"))),
        Seen("white", (at(2, 0), star._replace(shape=None))),
        Seen("white", (at(2, 0), star._replace(color="green"))),
        Seen("white", (at(2, 0), star, at(2, 40, "green"))),
    ):
        assert not any(is_true(parse(caption), other) for caption in true)
    false = ["a red circle above a blue star", "a red circle right of a blue star", "two red circles and a blue star"]
    false += ["a large red circle and a small blue star", "a black background with a red circle and a blue star"]
    assert not any(is_true(parse(caption), seen) for caption in false)


def test_attributes_by_hand():
    """Each attribute is judged alone; the one that a caption does not state is left out."""
    seen = Seen("white", (at(2, 0), at(2, 30), at(30, 6, "blue", "star", "large")))
    claim = parse("two small red circles left of a large blue star on a white background")
    every = dict.fromkeys(captions.ATTRIBUTES, True)
    assert attributes(claim, seen) == every
    assert attributes(parse("three red circles"), seen) == {"count": True, "color": False, "shape": False}
    for attribute, other in {
        "background": seen._replace(background="black"),
        "color": Seen("white", (*seen.objects[:2], at(30, 6, "blue", "star", "large"), at(50, 50, "cyan"))),
        "count": seen._replace(objects=seen.objects[1:]),
        "shape": seen._replace(objects=(at(2, 0, shape="square"), *seen.objects[1:])),
        "size": seen._replace(objects=(at(2, 0), at(2, 30), at(30, 6, "blue", "star"))),
        "relation": seen._replace(objects=(at(2, 0), at(25, 30), at(30, 6, "blue", "star", "large"))),
    }.items():
        wrong = {name for name, value in attributes(claim, other).items() if not value}
        assert wrong == {attribute} | ({"count"} if attribute == "color" else set())
        assert not is_true(claim, other)
    without = seen._replace(objects=(at(2, 0), at(2, 30)))
    assert not attributes(claim, without)["relation"]  # there is nothing that they could be left of


def picture(*shapes, size=64, background="black"):
    """Draws (kind, color, box) with Pillow's own circles and polygons, 8 times as large, reduced."""
    large = Image.new("RGB", (size * 8,) * 2, background)
    draw = ImageDraw.Draw(large)
    for kind, color, (left, top, right, bottom) in shapes:
        box = tuple(8 * x for x in (left, top, right, bottom))
        if kind == "circle":
            draw.ellipse(box, fill=color)
        elif kind == "square":
            draw.rectangle(box, fill=color)
        else:
            draw.polygon([((box[0] + box[2]) / 2, box[1]), (box[2], box[3]), (box[0], box[3])], fill=color)
    return np.asarray(large.reduce(8))


def test_a_picture_of_pillows_is_seen_by_both():
    image = picture(("circle", "red", (4, 5, 17, 18)), ("square", "cyan", (30, 30, 53, 53)), background="white")
    expected = {("red", "circle", "small"), ("cyan", "square", "large")}
    for seen, scale in ((see(image), 1), (see_tolerantly(image), 2)):
        assert seen.background == "white"
        assert {each[:3] for each in seen.objects} == expected
        boxes = {each.color: each.box for each in seen.objects}
        np.testing.assert_allclose(boxes["red"], np.multiply((4, 5, 17, 18), scale), atol=2)
        np.testing.assert_allclose(boxes["cyan"], np.multiply((30, 30, 53, 53), scale), atol=2)


def test_what_the_tolerant_eye_leaves_out():
    """Specks of less than 20 pixels do not count; a bar is an object of no shape."""
    speck = ("square", "blue", (50, 50, 54, 54))
    image = picture(("triangle", "yellow", (10, 10, 32, 32)), speck)
    assert {each[:3] for each in see_tolerantly(image).objects} == {("yellow", "triangle", "large")}
    assert len(see(image).objects) == 2
    bar = picture(("square", "yellow", (10, 10, 40, 16)))
    assert [each[:2] for each in see_tolerantly(bar).objects] == [("yellow", None)]
    small = picture(("triangle", "yellow", (5, 5, 16, 16)), size=32)
    assert {each[:3] for each in see_tolerantly(small).objects} == {("yellow", "triangle", "large")}


def test_shares_by_hand():
    """The second of four images has another color, the last another background and shape than its caption says."""
    circle, triangle = ("circle", "red", (4, 5, 17, 18)), ("triangle", "red", (4, 5, 17, 18))
    images = [picture(circle), picture(circle), picture(circle, ("square", "cyan", (30, 30, 53, 53)))]
    images.append(picture(triangle, background="white"))
    texts = ["a small red circle", "a green circle", "a red circle left of a cyan square"]
    texts.append("a red circle on a black background")
    assert captions.satisfied(np.stack(images), texts) == {
        "satisfied": 0.5,
        "satisfied_1": pytest.approx(1 / 3),
        "satisfied_2": 1.0,
        "satisfied_background": 0.0,
        "satisfied_color": 0.75,
        "satisfied_count": 1.0,
        "satisfied_shape": 0.75,
        "satisfied_size": 1.0,
        "satisfied_relation": 1.0,
    }
