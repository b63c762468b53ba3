"""`shapes` and `shapes_32`: pictures of one to three colored shapes with an English caption each, drawn by rule.

A scene has a plain background and one to three objects: circles, squares, triangles and stars that do not
touch. Objects of one kind form a group. Groups differ in color, so a color identifies a group. A single
group is small or large; of several groups, the first is one large object and the others are small.

Every color is a corner of the RGB cube, so `image >= 128` names the color of every pixel, antialiased edges
too, and an image alone decides whether a caption is true. The captions are

    caption  = ["there" be | "a picture of"] scene ["on a" background "background"]
             | "a" background "background with" scene
    scene    = group {"and" group} | group [be] relation group ["and" relation group]
    group    = ("a" | "two" | "three") [size] color shape, the shape with an s after "two" and "three"
    be       = "is" | "are"

with the words of BACKGROUNDS, SIZES, COLORS, SHAPES and RELATIONS. A caption is true of an image with the
named background and sizes (where it names them), with the named objects and no others, and where the first
group is in the stated relation to the group that follows the relation. `jaxgen.metrics.captions` checks it.

The pictures of `shapes_32` are the same scenes, drawn with half as many pixels a side.
"""

from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import Source

IMAGE_SIZE = 64
"""Side of a picture of `shapes`, the unit of all lengths here."""

SMALL_SIZE = 32
"""Side of a picture of `shapes_32`, in pixels."""

COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
}
BACKGROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255)}

SHAPES = ("circle", "square", "triangle", "star")
"""Shapes, each filling a square box: a triangle points up, as high as wide; a star is a pentagram with a tip up."""

SIZES = {"small": (12.0, 15.0), "large": (20.0, 24.0)}
"""The smallest and largest side of an object's box, in pixels."""

MARGIN = 2
"""Minimum distance of an object's box from the picture's edges, in pixels."""

GAP = 4
"""Minimum distance between the boxes of two objects, horizontally or vertically, in pixels."""

RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
"""Wordings of the relations between groups: all of one group is left of, right of, above or below the other."""

CLASSES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
"""Classes: the color and the shape of an image's largest object."""

EXAMPLES = {"train": 20_000, "validation": 2_000, "test": 2_000}

# The group of each object, rows equally likely; NONE is no object.
NONE = -1
ARRANGEMENTS = np.array([(0, NONE, NONE), (0, 0, NONE), (0, 1, NONE), (0, 0, 0), (0, 1, 1), (0, 1, 2)])

CHUNK = 500  # scenes rendered at once, so that the arrays fit in the processor's cache
NUMBERS = ("a", "two", "three")
STATEMENTS = ("{content}", "{content} on a {background} background")  # which may take a verb
TEMPLATES = (
    *STATEMENTS,
    "there {be} {content}",
    "there {be} {content} on a {background} background",
    "a picture of {content}",
    "a picture of {content} on a {background} background",
    "a {background} background with {content}",
)

# Corners in the box [-1, 1]^2 with y down, clockwise. A pentagram's line goes from each tip to the next but one.
_ANGLE = 0.8 * np.pi * np.arange(5)
OUTLINES = {
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]),
    "triangle": np.array([(0, -1), (1, 1), (-1, 1)]),
    "star": np.column_stack(
        # divided by its width and height, which are 1.90 and 1.81 if the tips are on a circle of radius 1
        [np.sin(_ANGLE) / np.sin(0.4 * np.pi), 2 * (1 - np.cos(_ANGLE)) / (1 - np.cos(0.8 * np.pi)) - 1]
    ),
}


class Scenes(NamedTuple):
    """The content of n pictures, of at most three objects; values of absent objects are arbitrary."""

    background: np.ndarray  # int [n], index of BACKGROUNDS
    group: np.ndarray  # int [n, 3], of each object; NONE if absent. Group 1 begins at object 1, group 2 at object 2.
    size: np.ndarray  # int [n, 3], index of SIZES
    color: np.ndarray  # int [n, 3], index of COLORS
    shape: np.ndarray  # int [n, 3], index of SHAPES
    side: np.ndarray  # float64 [n, 3], of the object's box, in pixels
    center: np.ndarray  # float64 [n, 3, 2], of the object's box, x and y in pixels from the top left corner


def identity(options: Options) -> str:
    """The version of the rule."""
    del options  # it is one rule for all
    return "1"


def read(options: Options) -> Source:
    """The splits, of `image` uint8 [n, 64, 64, 3], `caption` str [n] and `label` int32 [n], an index of CLASSES.

    `options.max_objects` leaves out scenes of more objects.
    """
    size = SMALL_SIZE if options.dataset_name == "shapes_32" else IMAGE_SIZE
    splits = {}
    for seed, (split, num) in enumerate(EXAMPLES.items()):
        rng = np.random.Generator(np.random.PCG64(seed))
        scenes = draw(rng, num, options.max_objects or 3)
        splits[split] = {"image": render(scenes, size), "caption": captions(rng, scenes), "label": labels(scenes)}
    return Source(
        splits, "pictures and captions drawn by jaxgen's own rule, each split independently of the others", CLASSES
    )


def draw(rng: np.random.Generator, num: int, most: int = 3) -> Scenes:
    """Random scenes of at most `most` objects, with equally frequent classes (to within one)."""
    arrangements = ARRANGEMENTS[(ARRANGEMENTS != NONE).sum(axis=1) <= most]
    group = arrangements[rng.integers(len(arrangements), size=num)]
    # Attributes are drawn for three groups, then assigned to the objects.
    several = (group > 0).any(axis=1)
    size = np.column_stack([several | (rng.random(num) < 0.5), np.zeros((num, 2), bool)]).astype(int)
    color, shape = np.divmod(rng.permutation(np.arange(num) % len(CLASSES)), len(SHAPES))
    # different steps along the cycle of colors lead to different colors
    steps = rng.permuted(np.tile(np.arange(1, len(COLORS)), (num, 1)), axis=1)
    color = np.column_stack([color, (color[:, None] + steps[:, :2]) % len(COLORS)])
    shape = np.column_stack([shape, rng.integers(len(SHAPES), size=(num, 2))])
    size, color, shape = (np.take_along_axis(x, group, axis=1) for x in (size, color, shape))
    least, greatest = np.moveaxis(np.array(list(SIZES.values()))[size], -1, 0)
    side = rng.uniform(least, greatest)
    background = rng.integers(len(BACKGROUNDS), size=num)
    return Scenes(background, group, size, color, shape, side, _place(rng, side, group != NONE))


def _place(rng: np.random.Generator, side: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Centers [n, 3, 2] of boxes that keep MARGIN and GAP; each scene is redrawn until it does."""
    margin = MARGIN + side / 2
    center = np.empty((*side.shape, 2))
    pending = np.arange(len(side))
    while pending.size:
        low = margin[pending, :, None]
        center[pending] = rng.uniform(low, IMAGE_SIZE - low, (*low.shape[:2], 2))
        close = np.zeros(pending.size, bool)
        for i, j in combinations(range(3), 2):
            distance = np.abs(center[pending, i] - center[pending, j]).max(axis=-1)
            apart = distance - (side[pending, i] + side[pending, j]) / 2 >= GAP
            close |= present[pending, i] & present[pending, j] & ~apart
        pending = pending[close]
    return center


def labels(scenes: Scenes) -> np.ndarray:
    """The class of each scene, int32 [n]: the first object is as large as any other."""
    return (scenes.color[:, 0] * len(SHAPES) + scenes.shape[:, 0]).astype(np.int32)


def render(scenes: Scenes, size: int = IMAGE_SIZE) -> np.ndarray:
    """The pictures, uint8 [n, size, size, 3]: antialiased, each object in its plain color on the plain background."""
    colors, backgrounds = (np.array(list(x.values()), np.int16) for x in (COLORS, BACKGROUNDS))
    num = len(scenes.background)
    images = np.empty((num, size, size, 3), np.uint8)
    for start in range(0, num, CHUNK):
        part = Scenes(*(x[start : start + CHUNK] for x in scenes))
        background = backgrounds[part.background][:, None, None]
        pixels = np.tile(background, (1, size, size, 1))
        for i in range(3):
            for shape, name in enumerate(SHAPES):
                (rows,) = np.nonzero((part.group[:, i] != NONE) & (part.shape[:, i] == shape))
                opacity = _opacity(name, part.center[rows, i], part.side[rows, i], size)
                contrast = colors[part.color[rows, i]][:, None, None] - background[rows]
                pixels[rows] += opacity[..., None] * (contrast // 255)
        images[start : start + CHUNK] = pixels
    return images


def _opacity(shape: str, center: np.ndarray, side: np.ndarray, size: int) -> np.ndarray:
    """Coverage of each pixel by n objects of one shape, int16 [n, size, size], 0 to 255.

    It is approximated as linear in the distance to the outline, over a width of one pixel.
    """
    center, side = (lengths * (size / IMAGE_SIZE) for lengths in (center, side))
    pixel = np.arange(size, dtype=np.float32) + np.float32(0.5)
    x, y = np.moveaxis(pixel - center.astype(np.float32)[..., None], 1, 0)
    distance = _distance(shape, x[:, None, :], y[:, :, None], side.astype(np.float32)[:, None, None] / 2)
    return np.rint(255 * np.clip(0.5 - distance, 0, 1)).astype(np.int16)


def _distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance from (x, y) to the outline of a shape in the box [-radius, radius]^2; negative inside.

    For a polygon it is the distance to the nearest line through a side.
    """
    if shape == "circle":
        return np.sqrt(x**2 + y**2) - radius
    greatest = second = np.float32(-np.inf)
    for (x0, y0), (x1, y1) in pairwise([*OUTLINES[shape], OUTLINES[shape][0]]):
        normal = np.array([y1 - y0, x0 - x1]) / np.hypot(x1 - x0, y1 - y0)
        a, b, c = np.float32([*normal, normal @ (x0, y0)])
        beyond = a * x + (b * y - c * radius)
        second = np.maximum(second, np.minimum(greatest, beyond))
        greatest = np.maximum(greatest, beyond)
    # a point inside a pentagram is outside at most one of its five lines
    return second if shape == "star" else greatest


def captions(rng: np.random.Generator, scenes: Scenes) -> np.ndarray:
    """A true caption of each scene, str [n], in random words."""
    return np.array([_caption(rng, Scenes(*scene)) for scene in zip(*scenes, strict=True)])


def _caption(rng: np.random.Generator, scene: Scenes) -> str:
    """The caption of one scene, whose arrays lack the leading axis."""
    low, high = (scene.center + sign * scene.side[:, None] / 2 for sign in (-1, 1))
    numbers = np.bincount(scene.group[scene.group != NONE])
    sized = rng.integers(2)
    names, boxes = [], []
    for g, number in enumerate(numbers):
        size = scene.size[g] if sized else None
        names.append(_name(number, size, scene.color[g], scene.shape[g]))
        members = scene.group == g
        boxes.append((*low[members].min(axis=0), *high[members].max(axis=0)))

    first, *others = rng.permutation(len(numbers))
    relations = [_relation(boxes[first], boxes[g]) for g in others]
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    be = "is" if numbers[first] == 1 else "are"
    if others and all(relations) and rng.random() < 0.75:
        verb = f" {be} " if template in STATEMENTS and rng.integers(2) else " "
        wordings = [RELATIONS[relation][rng.integers(2)] for relation in relations]
        related = " and ".join(f"{wording} {names[g]}" for wording, g in zip(wordings, others, strict=True))
        content = names[first] + verb + related
    else:
        content = " and ".join(names[g] for g in (first, *others))
    return template.format(content=content, be=be, background=list(BACKGROUNDS)[scene.background])


def _name(number: int, size: int | None, color: int, shape: int) -> str:
    """Noun phrase for a group: a red circle, two small blue squares."""
    words = [NUMBERS[number - 1], list(COLORS)[color], SHAPES[shape] + ("s" if number > 1 else "")]
    return " ".join(words if size is None else [words[0], list(SIZES)[size], *words[1:]])


def _relation(box: tuple, other: tuple) -> str | None:
    """The relation (key of RELATIONS) of a box (left, top, right, bottom) to another; of two, the wider apart."""
    apart = {
        "left": other[0] - box[2],
        "right": box[0] - other[2],
        "above": other[1] - box[3],
        "below": box[1] - other[3],
    }
    widest = max(apart, key=apart.get)
    return widest if apart[widest] >= GAP else None
