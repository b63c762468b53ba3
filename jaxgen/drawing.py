"""Images to look at: grids, PNG files, animations, and pictures of meshes and of points."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from jaxgen.fonts import lettering

PADDING = 128
"""Mid-gray, visible between dark and bright images, on light and dark pages."""

GAP = 4
"""Pixels between the grids of two seeds."""

CAPTION = 18
"""Height in pixels of a line of words above a picture or below an image."""

CAPTION_FONT = 12
"""Font size of a caption, in pixels."""

WEBP_SIDE = 16_383
"""Largest side of a WebP image, in pixels."""


def spread(num: int, examples: int, labels=None) -> np.ndarray:
    """Rows of at most `num` examples to show: as many of each class, evenly spaced within it.

    Examples are often sorted by class. Classes that have fewer leave their places to the others; where there are more
    classes than places, evenly spaced classes are shown.

    Args:
      num: maximum number of examples to show.
      examples: number of examples.
      labels: int [examples]; if None, the rows are evenly spaced over all examples.

    Returns:
      int [min(num, examples)], rising.
    """
    classes = [np.arange(examples)]
    if labels is not None and examples:
        classes = [np.flatnonzero(np.asarray(labels) == label) for label in np.unique(labels)]
    taken, left = [0] * len(classes), min(num, examples)
    while left:
        open_ = [n for n, members in enumerate(classes) if taken[n] < len(members)]
        for n in np.linspace(0, len(open_) - 1, min(left, len(open_))).astype(int):
            taken[open_[n]] += 1
        left -= min(left, len(open_))
    rows = [
        members[np.linspace(0, len(members) - 1, count).astype(int)]
        for members, count in zip(classes, taken, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def image_grid(images, columns: int) -> np.ndarray:
    """Lays images out in reading order, with one pixel of gray (128) between them and none around.

    Args:
      images: uint8 [n, H, W, C].
      columns: images per row; a grid of fewer images has as many columns as images. The rest of
        the last row is gray.

    Returns:
      uint8 [rows * (H + 1) - 1, columns * (W + 1) - 1, C].

    Raises:
      ValueError: no images, a wrong dtype or shape, or `columns` below 1.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(f"a grid needs images uint8 [n, H, W, C], n >= 1, got {images.dtype} {list(images.shape)}")
    if columns < 1:
        raise ValueError(f"a grid needs 1 column or more, got {columns}")
    n, height, width, channels = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    # each cell has its padding below and to the right; the padding of the last row and column is cut off
    cells = np.full((rows * columns, height + 1, width + 1, channels), PADDING, np.uint8)
    cells[:n, :height, :width] = images
    cells = cells.reshape(rows, columns, height + 1, width + 1, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), -1, channels)[:-1, :-1]


def cut(picture, shape: tuple[int, int], scale: int, grids: int) -> np.ndarray:
    """Images of a picture that `image_grid`, `stacked` and `enlarged` made of them.

    Args:
      picture: uint8 [H, W, C].
      shape: (height, width) of an image.
      scale: side of the square that each pixel became; the square's mean is taken.
      grids: number of grids that were stacked.

    Returns:
      uint8 [grids, places, height, width, C]; the last places may be gray.

    Raises:
      ValueError: the picture is of another size than such grids.
    """
    picture = np.asarray(picture)
    height, width = shape
    tall, wide = picture.shape[0] / scale, picture.shape[1] / scale
    columns, rows = (wide + 1) / (width + 1), ((tall + GAP) / grids - GAP + 1) / (height + 1)
    if not (columns.is_integer() and rows.is_integer()):
        raise ValueError(f"{list(picture.shape[:2])} pixels are no {grids} grids of images {height}x{width}")
    small = picture.reshape(int(tall), scale, int(wide), scale, -1).mean((1, 3)).round().astype(np.uint8)
    tops = np.arange(grids)[:, None] * (int(rows) * (height + 1) - 1 + GAP) + np.arange(int(rows)) * (height + 1)
    lefts = np.arange(int(columns)) * (width + 1)
    return np.array([[small[y : y + height, x : x + width] for y in of_grid for x in lefts] for of_grid in tops])


def to_png(images, scale: int = 1) -> bytes:
    """The bytes of a PNG file; the same pixels always give the same bytes.

    Args:
      images: uint8 [H, W, C], an image or a grid, or uint8 [n, H, W, C], laid out as a nearly square
        grid. C is 1 (gray) or 3 (RGB).
      scale: each pixel becomes a square of scale * scale pixels.

    Raises:
      ValueError: a wrong dtype, shape or number of channels, or `scale` below 1.
    """
    image = np.asarray(images)
    if image.ndim == 4:
        image = image_grid(image, math.ceil(math.sqrt(len(image))))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise ValueError(f"a PNG needs uint8 [H, W, C] with 1 or 3 channels, got {image.dtype} {list(image.shape)}")
    if scale < 1:
        raise ValueError(f"a PNG's scale is 1 or more, got {scale}")
    file = io.BytesIO()
    _to_pillow(enlarged(image, scale)).save(file, format="PNG", optimize=True)
    return file.getvalue()


def to_animation(frames, milliseconds, suffix: str) -> bytes:
    """The bytes of a GIF or WebP file that loops; the same frames always give the same bytes.

    WebP, and GIF of gray images, are lossless. GIF of color images has a palette of 256 colors per frame.

    Args:
      frames: uint8 [H, W, C] each, of one shape; C is 1 (gray) or 3 (RGB).
      milliseconds: duration of each frame; GIF has a resolution of 10 ms.
      suffix: ".gif" or ".webp".

    Raises:
      ValueError: for .webp, a side of over 16,383 pixels, the format's limit.
    """
    if suffix == ".webp" and max(frames[0].shape) > WEBP_SIDE:
        height, width, _ = frames[0].shape
        raise ValueError(f"a WebP has at most {WEBP_SIDE:,} pixels a side, not {width:,} x {height:,}")
    first, *others = map(_to_pillow, frames)
    how = {".gif": {"optimize": False}, ".webp": {"lossless": True}}[suffix]
    file = io.BytesIO()
    first.save(
        file,
        format=suffix[1:].upper(),
        save_all=True,
        append_images=others,
        duration=list(milliseconds),
        loop=0,
        **how,
    )
    return file.getvalue()


def _to_pillow(image):
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges an image [H, W, C]: each pixel becomes a square of scale * scale pixels."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def stacked(grids) -> np.ndarray:
    """Stacks grids [H, W, C] of one width, such as a run's seeds, vertically with 4 black pixels between them."""
    gap = np.zeros((GAP, *grids[0].shape[1:]), np.uint8)
    return np.concatenate([part for grid in grids for part in (grid, gap)][:-1])


def captioned(image: np.ndarray, words: str) -> np.ndarray:
    """The image, uint8 [H, W, C], below black lines of 18 pixels with white words: uint8 [18 * lines + H, W, C]."""
    return np.concatenate([*(_line(line, image.shape[1:]) for line in _lines(words, image.shape[1])), image])


def labeled(images, words) -> np.ndarray:
    """Puts black lines of 18 pixels with white words below each image; all are as wide as the widest words need.

    Args:
      images: uint8 [n, H, W, C].
      words: the lines of each image, equally many for all.

    Returns:
      uint8 [n, H + 18 * lines, W', C], the images centered on black.
    """
    texts = [lettering(line, CAPTION_FONT) for lines in words for line in lines]
    wanted = max(math.ceil(font.getlength(text)) + 2 * GAP for text, font in texts)
    space = max(wanted - images.shape[2], 0)
    images = np.pad(images, ((0, 0), (0, 0), (space // 2, space - space // 2), (0, 0)))
    return np.stack(
        [
            np.concatenate([image, *(_line(line, image.shape[1:]) for line in lines)])
            for image, lines in zip(images, words, strict=True)
        ]
    )


def _lines(words: str, width: int) -> list[str]:
    """Words in lines that fit a width; a word that is too long for one has a line of its own."""
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        text, font = lettering(longer, CAPTION_FONT)
        if lines[-1] and font.getlength(text) > width - 2 * GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _line(words: str, shape: tuple[int, int]) -> np.ndarray:
    """A black line with white words, uint8 [18, *shape]."""
    line = Image.new("L", (shape[0], CAPTION))
    text, font = lettering(words, CAPTION_FONT)
    ImageDraw.Draw(line).text((GAP, 2), text, 255, font)
    return np.broadcast_to(np.asarray(line)[:, :, None], (CAPTION, *shape))


def legible_scale(height: int) -> int:
    """The scale for `to_png` that shows images of up to 16 pixels about 32 pixels high."""
    return max(1, 32 // height)


# Meshes and points

BACKGROUND = np.array([40, 44, 52])
"""RGB of the background."""

SURFACE = np.array([255, 214, 165])
"""RGB of a fully lit surface, and of the densest points."""

MARGIN = 0.04
"""Empty margin on every side, as a fraction of the picture's side."""

SUPERSAMPLING = 4
"""Factor by which meshes are drawn larger and averaged down, for smooth edges."""

AZIMUTH, ELEVATION = np.radians([35, 20])
"""Direction to the camera, in radians: azimuth from z toward x, and elevation toward y."""

TWO_SIDES = (AZIMUTH, AZIMUTH + np.pi / 2)
"""Azimuths of two views."""

LIGHT = np.array([-0.36, 0.48, 0.8])
"""Unit vector to the light in the camera's axes: from the left, above and behind the camera."""

AMBIENT = 0.2
"""Share of ambient light."""

DOT = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
"""Weights with which a point is splatted onto its pixel and the neighbors."""


def camera(azimuth: float) -> np.ndarray:
    """The camera's axes, one per row: right, up and toward the camera."""
    return np.array(
        [
            [np.cos(azimuth), 0, -np.sin(azimuth)],
            [-np.sin(azimuth) * np.sin(ELEVATION), np.cos(ELEVATION), -np.cos(azimuth) * np.sin(ELEVATION)],
            [np.sin(azimuth) * np.cos(ELEVATION), np.sin(ELEVATION), np.cos(azimuth) * np.cos(ELEVATION)],
        ]
    )


def mesh_images(vertices, faces, size: int, azimuths=(AZIMUTH,)) -> np.ndarray:
    """Shaded pictures of meshes, all of one scale, so that they are comparable.

    The camera is orthographic, with y upwards, and looks slightly from above; by default from larger z and from the
    right. Triangles are painted from the farthest to the nearest, each in one color: Lambert's cosine of the angle
    between its normal, on the visible side, and the light.

    Args:
      vertices: float [n, V, 3]; triangles with a corner that is not finite are left out.
      faces: int [F, 3], the vertices of each triangle, the same for all meshes.
      size: pixels a side.
      azimuths: directions to the camera, in radians, from z toward x: a view of each, side by side.

    Returns:
      uint8 [n, size, size * views, 3], RGB.

    Raises:
      ValueError: a wrong shape, no meshes, or `size` below 1.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or len(vertices) == 0 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            "pictures of meshes need vertices [n, V, 3], n >= 1, and faces [F, 3], "
            f"got {list(vertices.shape)} and {list(faces.shape)}"
        )
    vertices = np.where(np.isfinite(vertices), vertices, np.nan)  # infinity times 0 would warn
    seen = np.stack([vertices @ camera(azimuth).T for azimuth in azimuths])
    places = _to_pixels(seen[..., :2], size)
    views = [
        [_mesh_image(*mesh, faces, size) for mesh in zip(*view, strict=True)] for view in zip(seen, places, strict=True)
    ]
    return np.concatenate(views, axis=2)


def _mesh_image(seen, places, faces, size):
    """Draws a mesh from its vertices in the camera's axes [V, 3] and in the picture [V, 2], and faces [F, 3]."""
    faces = faces[np.isfinite(seen[faces]).all((1, 2))]
    faces = faces[np.argsort(seen[faces, 2].sum(1), kind="stable")]
    a, b, c = seen[faces].swapaxes(0, 1)
    normals = np.cross(b - a, c - a)
    normals *= np.where(normals[:, 2:] < 0, -1, 1)
    cosines = normals @ LIGHT / np.maximum(np.linalg.norm(normals, axis=1), np.finfo(float).tiny)
    light = AMBIENT + (1 - AMBIENT) * np.maximum(cosines, 0)
    colors = np.round(light[:, None] * SURFACE).astype(int)
    corners = places[faces].reshape(-1, 6) * SUPERSAMPLING  # Pillow takes the pixels that contain these
    image = Image.new("RGB", (size * SUPERSAMPLING,) * 2, tuple(BACKGROUND.tolist()))
    draw = ImageDraw.Draw(image)
    for triangle, color in zip(corners.tolist(), colors.tolist(), strict=True):
        draw.polygon(triangle, fill=tuple(color))
    return np.asarray(image.reduce(SUPERSAMPLING))


def point_image(points, size: int, around=None) -> np.ndarray:
    """A picture of the density of points: the more points, the brighter.

    Brightness is logarithmic in their number, so that single points are visible beside many. The picture shows the
    smallest square that holds `around`, with a small margin; x goes to the right and y upwards.

    Args:
      points: float [n, 2]; those not finite, and those outside the picture, are left out.
      size: pixels a side.
      around: float [m, 2], points that define the visible square of several pictures; `points` if not given.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      ValueError: a wrong shape, or `size` below 1.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"a picture of points needs them as [n, 2], got {list(points.shape)}")
    points = points[np.isfinite(points).all(1)]
    places = _to_pixels(points, size, around)
    columns, rows = np.floor(places[((places >= 0) & (places < size)).all(1)]).astype(int).T
    counts = np.zeros((size + 2, size + 2))  # with a border for the dots' sides
    for (row, column), share in np.ndenumerate(DOT):
        np.add.at(counts, (rows + row, columns + column), share)
    density = np.log1p(counts[1:-1, 1:-1, None])
    return np.round(BACKGROUND + density / (density.max() or 1) * (SURFACE - BACKGROUND)).astype(np.uint8)


def _to_pixels(points, size, around=None):
    """Maps points [..., 2], y upwards, to pixels from the upper left corner, so that `around` (or they) fit inside."""
    if size < 1:
        raise ValueError(f"a picture's size is 1 pixel or more, got {size}")
    around = points if around is None else np.asarray(around, np.float64)
    finite = around[np.isfinite(around).all(-1)]
    low, high = (finite.min(0), finite.max(0)) if len(finite) else np.zeros((2, 2))
    scale = (1 - 2 * MARGIN) * size / ((high - low).max() or 1)
    return size / 2 + scale * (points - (low + high) / 2) * [1, -1]
