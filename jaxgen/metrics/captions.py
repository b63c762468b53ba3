"""Truth of the captions of `shapes`, from what an image shows.

A caption is parsed by the grammar of `jaxgen.data.readers.shapes`, an image is searched for objects, and the two are
compared. No code is shared with the drawing. There are two ways to see:

    see              strict: every pixel counts. It refuses any other shape, and tests the drawing
    see_tolerantly   for images that a model made, whose pixels are soft: a shape is the most similar of the four

In both, `image >= 128` by channel names the color of a pixel.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

DATASETS = ("shapes", "shapes_32")
"""Names of the datasets whose captions can be checked."""

NAMES = ("black", "blue", "green", "cyan", "red", "magenta", "yellow", "white")
"""Colors by the bits of red, green and blue."""

NUMBERS = ("a", "two", "three")

GROUP = re.compile(
    r"(a|two|three) (small |large |)(red|green|blue|yellow|magenta|cyan) (circle|square|triangle|star)(s?)\b"
)
LINK = re.compile(r" (and )?(?:(?:is|are) )?(?:(?:to the )?(left of|right of|above|over|below|under) )?")
SENTENCE = re.compile(r"(?:there (?:is|are) |a picture of )?(.+?)(?: on a (black|white) background)?")
BACKGROUND_FIRST = re.compile(r"a (black|white) background with (.+)")

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edges, in pixels."""


class Group(NamedTuple):
    """Objects of one kind, as a caption names them."""

    number: int
    size: str  # small, large, or "" if the caption does not say
    color: str
    shape: str


class Claim(NamedTuple):
    """Content of a caption."""

    background: str | None  # None if the caption does not say
    groups: tuple[Group, ...]
    relations: tuple[str | None, ...]  # of the first group to each group; None if the caption does not say

    @property
    def number(self) -> int:
        """Number of objects."""
        return sum(group.number for group in self.groups)


class Object(NamedTuple):
    """An object in an image."""

    color: str
    shape: str | None  # None if it is none of the four
    size: str  # small or large
    box: Box


class Seen(NamedTuple):
    """Content of an image."""

    background: str
    objects: tuple[Object, ...]


def parse(caption: str) -> Claim:
    """Parses a caption; raises ValueError if it is none of `shapes`."""
    if match := BACKGROUND_FIRST.fullmatch(caption):
        background, content = match.groups()
    else:
        match = SENTENCE.fullmatch(caption)
        content, background = match.groups() if match else ("", None)
    groups: list[Group] = []
    relations: list[str | None] = [None]
    position = 0
    while match := GROUP.match(content, position):
        number, size, color, shape, plural = match.groups()
        if (number == "a") != (plural == ""):
            break
        groups.append(Group(NUMBERS.index(number) + 1, size.strip(), color, shape))
        if match.end() == len(content):
            return Claim(background, tuple(groups), tuple(relations))
        link = LINK.match(content, match.end())
        if not link or not (link[1] or link[2]):
            break
        relations.append(link[2])
        position = link.end()
    raise ValueError(f"no caption of shapes: {caption!r}")


# What an image shows, strictly.


def shape_of(mask: np.ndarray) -> str | None:
    """Classifies a mask bool [height, width], cropped to its box, by its shape; None if it is none of the four.

    In the plane a circle, square, triangle and star fill pi/4, 1, 1/2 and 0.33 of their boxes. All fill their convex
    hulls except the star, which fills 0.47. Small shapes of pixels deviate from this by up to 0.13 and 0.2.
    """
    rows, columns = np.nonzero(mask)
    corners = np.concatenate([np.column_stack([rows + i, columns + j]) for i, j in product((0, 1), repeat=2)])
    of_hull, of_box = mask.sum() / ConvexHull(corners).volume, mask.mean()
    if ndimage.binary_fill_holes(mask).sum() > mask.sum():
        return None
    if of_hull < 0.75:
        return "star" if 0.3 < of_box < 0.53 else None
    if not 0.85 < mask.shape[0] / mask.shape[1] < 1.18:
        return None
    for shape, least, greatest in (("triangle", 0.47, 0.62), ("circle", 0.65, 0.92), ("square", 0.97, 1)):
        if least < of_box <= greatest:
            return shape
    return None


def see(image: np.ndarray) -> Seen:
    """Finds background and objects of an image uint8 [64, 64, 3] as `shapes` draws it. Every pixel counts."""
    codes = (image >= 128) @ np.array([4, 2, 1])
    objects = []
    for code in set(np.unique(codes)) - {codes[0, 0]}:
        for mask, box in _components(codes == code):
            size = "small" if max(mask.shape) <= 16 else "large"
            objects.append(Object(NAMES[code], shape_of(mask), size, box))
    return Seen(NAMES[codes[0, 0]], tuple(objects))


def _components(mask: np.ndarray) -> list[tuple[np.ndarray, Box]]:
    """Connected parts of a mask, diagonally too: each cropped to its box, and the box."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    return [
        (labels[y, x] == i, (x.start, y.start, x.stop, y.stop))
        for i, (y, x) in enumerate(ndimage.find_objects(labels), 1)
    ]


# What an image shows, tolerantly.

SCENE = 64
"""Unit of lengths below: pixels a side of a picture of `shapes`."""

ENLARGED = 128
"""Pixels a side that images are enlarged to, so that soft edges give boundaries finer than their pixels."""

LEAST = 20
"""Minimum area of an object."""

SMALL = 17.5
"""Maximum side of a small object's box: between 15, the largest small side, and 20, the smallest large one."""

SIMILAR = 0.6
"""Minimum similarity of an object to one of the four shapes."""

SIDES = np.arange(9.0, 28.0)
"""Sides of the ideal shapes that objects are compared with."""

CELLS = 24
"""Side of the squares that masks are compared in."""

_TURN = np.arange(10) * np.pi / 5
_STAR = np.column_stack([np.sin(_TURN), -np.cos(_TURN)]) * np.where(np.arange(10) % 2, (3 - 5**0.5) / 2, 1)[:, None]
_CIRCLE = 2 * np.pi * np.arange(100) / 100
CORNERS = {
    "circle": np.column_stack([np.cos(_CIRCLE), np.sin(_CIRCLE)]),
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]),
    "triangle": np.array([(0, -1), (1, 1), (-1, 1)]),
    "star": 2 * (_STAR - _STAR.min(axis=0)) / np.ptp(_STAR, axis=0) - 1,
}
"""Corners of each shape in its box [-1, 1]^2, y down."""


def see_tolerantly(image: np.ndarray) -> Seen:
    """Finds background and objects of an image uint8 [side, side, 3] with soft pixels, such as a model's.

    The background is the most frequent color. An object's shape and side are those of the ideal shape most similar to
    it when it is drawn in pixels of this size: the ratio of intersection to union, in a square. Specks do not count.

    Of 600 pictures of `shapes` it accepts the captions of all, of `shapes_32` of 99.8%, with noise of a deviation of 40
    of 255 of all, shrunk to 32 pixels a side and enlarged again of 89% (97% of those of one object); of one-word
    falsehoods none, but of shrunk pictures 1% of those about the shape.
    """
    side = len(image)
    codes = (_enlarged(image) >= 128) @ np.array([4, 2, 1])
    background = np.bincount(codes.ravel(), minlength=8).argmax()
    unit, objects = ENLARGED / SCENE, []
    for code in set(np.unique(codes)) - {background}:
        for mask, box in _components(codes == code):
            if mask.sum() >= LEAST * unit**2:
                shape, length = _most_similar(mask, side)
                size = "small" if length <= SMALL else "large"
                objects.append(Object(NAMES[code], shape, size, box))
    return Seen(NAMES[background], tuple(objects))


def _enlarged(image: np.ndarray) -> np.ndarray:
    scale = ENLARGED / len(image)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _square(mask: np.ndarray) -> np.ndarray:
    """A mask as float [CELLS, CELLS]."""
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize((CELLS, CELLS), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) / 255


def _most_similar(mask: np.ndarray, side: int) -> tuple[str | None, float]:
    """Shape and side of the ideal shape most similar to a mask; (None, the mask's side) if none is similar."""
    length = sum(mask.shape) / 2 / (ENLARGED / SCENE)
    if not 0.7 < mask.shape[0] / mask.shape[1] < 1.43:
        return None, length
    own, best = _square(mask), (SIMILAR, None, length)
    for shape, (lengths, squares) in _ideals(side).items():
        nearest = np.abs(lengths - length).argmin()
        similarity = np.minimum(own, squares[nearest]).sum() / np.maximum(own, squares[nearest]).sum()
        if similarity >= best[0]:
            best = (similarity, shape, SIDES[nearest])
    return best[1:]


@cache
def _ideals(side: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ideal shapes of all SIDES in images of `side` pixels: seen sides [sides], masks [sides, CELLS, CELLS]."""
    pixel, fine, canvas = SCENE / side, 8, side // 2
    found = {}
    for shape, corners in CORNERS.items():
        lengths, squares = [], []
        for length in SIDES:
            seen = []
            for shift in product((0.25, 0.75), repeat=2):  # of the center within a pixel
                center = canvas // 2 + np.array(shift)
                large = Image.new("L", (canvas * fine,) * 2)
                points = fine * (center + length / pixel / 2 * corners) - 0.5
                ImageDraw.Draw(large).polygon([tuple(point) for point in points], fill=255)
                image = np.asarray(large.reduce(fine))
                again = np.asarray(Image.fromarray(image).resize((ENLARGED // 2,) * 2, Image.Resampling.LANCZOS))
                seen.append(max((mask for mask, _ in _components(again >= 128)), key=np.sum))
            lengths.append(np.mean([mask.shape for mask in seen]) / (ENLARGED / SCENE))
            squares.append(np.mean([_square(mask) for mask in seen], axis=0))
        found[shape] = np.array(lengths), np.array(squares)
    return found


# Whether the two agree.


def is_true(claim: Claim, seen: Seen) -> bool:
    """True if an image shows what a caption names, and nothing else."""
    named, there = Counter(), Counter((each.color, each.shape) for each in seen.objects)
    for group in claim.groups:
        named[group.color, group.shape] += group.number
    members = [[each for each in seen.objects if each[:2] == group[2:]] for group in claim.groups]
    return (
        claim.background in (None, seen.background)
        and named == there
        and all(
            group.size in ("", each.size) for group, some in zip(claim.groups, members, strict=True) for each in some
        )
        and all(_stand(members[0], relation, some) for relation, some in zip(claim.relations, members, strict=True))
    )


def _stand(first: Sequence[Object], relation: str | None, others: Sequence[Object]) -> bool:
    """True if all of the first objects stand in a relation to all of the others."""

    def stands(box: Box, other: Box) -> bool:
        match relation:
            case "left of":
                return box[2] <= other[0]
            case "right of":
                return box[0] >= other[2]
            case "above" | "over":
                return box[3] <= other[1]
            case "below" | "under":
                return box[1] >= other[3]
            case _:
                return True

    return all(stands(a.box, b.box) for a in first for b in others)


def attributes(claim: Claim, seen: Seen) -> dict[str, bool]:
    """Map from each attribute that a caption states to whether it alone is true, whatever the others are.

    background; count: of all objects; color, shape, size: the same ones are there as are named; relation: between the
    groups, which are found by their colors.
    """
    found = {
        "count": len(seen.objects) == claim.number,
        "color": {each.color for each in seen.objects} == {group.color for group in claim.groups},
        "shape": {each.shape for each in seen.objects} == {group.shape for group in claim.groups},
    }
    if claim.background:
        found["background"] = claim.background == seen.background
    if sizes := {group.size for group in claim.groups} - {""}:
        found["size"] = {each.size for each in seen.objects} == sizes
    if any(claim.relations):
        members = [[each for each in seen.objects if each.color == group.color] for group in claim.groups]
        pairs = zip(claim.relations, members, strict=True)
        found["relation"] = all(members) and all(_stand(members[0], relation, some) for relation, some in pairs)
    return found


ATTRIBUTES = ("background", "color", "count", "shape", "size", "relation")


def satisfied(images: np.ndarray, captions: Sequence[str]) -> dict[str, float]:
    """Shares of images uint8 [num, side, side, 3] of which their captions are true, as `see_tolerantly` sees them.

    Returns:
        satisfied: of all. satisfied_1, satisfied_2, satisfied_3: of captions of so many objects. satisfied_NAME: of
        captions that state an attribute, this attribute alone. Without those that no caption is of.
    """
    scores: dict[str, list[bool]] = {}
    for image, caption in zip(images, captions, strict=True):
        claim, seen = parse(caption), see_tolerantly(image)
        right = is_true(claim, seen)
        for name, value in {"": right, str(claim.number): right, **attributes(claim, seen)}.items():
            scores.setdefault(name, []).append(value)
    names = ("", "1", "2", "3", *ATTRIBUTES)
    return {
        "_".join(filter(None, ("satisfied", name))): float(np.mean(scores[name])) for name in names if name in scores
    }
