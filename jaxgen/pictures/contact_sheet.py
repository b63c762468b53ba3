"""Contact sheet of a dataset: examples side by side, each with its class and caption below it."""

import math
import textwrap

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.data import Dataset
from jaxgen.drawing import legible_scale, mesh_images, point_image, spread
from jaxgen.fonts import lettering

BACKGROUND, INK = (250, 250, 250), (30, 30, 30)
FONT_SIZE, LINE = 11, 14  # pixels
LETTER = 6  # average width of the font's letters, pixels
CAPTION_WIDTH = 168  # minimum width of a cell with a caption, pixels
MESH_SIZE, POINTS_SIZE = 160, 480


def contact_sheet(dataset: Dataset, num: int = 40, split: str = "train") -> np.ndarray:
    """Draws examples, spread over a split's classes: uint8 [H, W, 3]. Points are all shown in one picture.

    Args:
      dataset: a dataset of images, meshes or points.
      num: maximum number of examples.
      split: train, validation or test.
    """
    entries, subject = getattr(dataset, split), dataset.spec.subject
    if subject == "point":
        return point_image(entries["point"], POINTS_SIZE)
    length = len(next(iter(entries.values())))
    rows = spread(num, length, entries.get("label"))
    if subject == "mesh":
        pictures = mesh_images(entries["mesh"][rows], dataset.spec.faces, MESH_SIZE)
    else:
        pictures = entries["image"][rows]
        scale = max(legible_scale(pictures.shape[1]), 1 if pictures.shape[1] > 32 else 2)
        pictures = np.broadcast_to(pictures, (*pictures.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    captions = [""] * len(rows)
    if dataset.vocabulary:
        captions = dataset.vocabulary.decode(entries["caption"][rows])
    classes = [dataset.classes[label] for label in entries["label"][rows]] if "label" in entries else captions
    height, width = pictures.shape[1:3]
    cell = max(width, CAPTION_WIDTH if dataset.vocabulary else 0)
    texts = [
        [name[: max(8, cell // _letter(name))], *_wrapped(caption, cell)]
        if "label" in entries
        else _wrapped(caption, cell)
        for name, caption in zip(classes, captions, strict=True)
    ]
    columns = max(1, min(len(rows), round(math.sqrt(len(rows) * height / width * 1.6)), 1600 // (cell + 8)))
    return _laid_out(pictures, texts, columns, cell)


def _letter(words: str) -> int:
    """Pixels of the average letter of words; those of Asian scripts are wider."""
    text, font = lettering(words, FONT_SIZE)
    return LETTER if text.isascii() else max(LETTER, round(font.getlength(text) / len(text)))


def _wrapped(caption: str, cell: int) -> list[str]:
    return textwrap.wrap(caption, cell // _letter(caption))


def _laid_out(pictures: np.ndarray, texts: list[list[str]], columns: int, cell: int) -> np.ndarray:
    gap, height = 8, pictures.shape[1]
    row_height = height + gap + LINE * max(map(len, texts))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (gap + columns * (cell + gap), gap + rows * (row_height + gap)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for n, (picture, lines) in enumerate(zip(pictures, texts, strict=True)):
        row, column = divmod(n, columns)
        left, top = gap + column * (cell + gap), gap + row * (row_height + gap)
        sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (left, top))
        for line, words in enumerate(lines):
            text, font = lettering(words, FONT_SIZE)
            draw.text((left, top + height + 2 + line * LINE), text, INK, font)
    return np.asarray(sheet)
