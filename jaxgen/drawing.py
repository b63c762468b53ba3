"""Images to look at: grids, PNG files, animations, and pictures of meshes and of points."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PADDING = 128
"""Mid-gray: seen between dark images and bright ones, on a light page and a dark one."""

GAP = 4
"""Pixels between the grids of two seeds."""

CAPTION = 18
"""Pixels of height of a line of words above a picture or below an image."""

CAPTION_FONT = 12
"""Pixels of its letters."""

WEBP_SIDE = 16_383
"""The most pixels a side that the format has."""


def spread(num: int, examples: int, labels=None) -> np.ndarray:
    """The rows of `num` of so many examples to be shown: as many of each class, evenly spaced within it.

    Examples are often sorted by class. Classes that have fewer leave their places to the others; where there are more
    classes than places, evenly spaced classes are shown.

    Args:
      num: examples, at most.
      examples: that there are.
      labels: of each, int [examples]; None where there are none, and the rows are evenly spaced over all.

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
      columns: images a row; a grid of fewer images has as many columns as images. What is left of
        the last row is gray.

    Returns:
      uint8 [rows * (H + 1) - 1, columns * (W + 1) - 1, C].

    Raises:
      ValueError: no images, another dtype or shape, or `columns` below 1.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(f"a grid needs images uint8 [n, H, W, C], n >= 1, got {images.dtype} {list(images.shape)}")
    if columns < 1:
        raise ValueError(f"a grid needs 1 column or more, got {columns}")
    n, height, width, channels = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    # each cell carries its padding below and to the right; the grid's own last ones are cut off
    cells = np.full((rows * columns, height + 1, width + 1, channels), PADDING, np.uint8)
    cells[:n, :height, :width] = images
    cells = cells.reshape(rows, columns, height + 1, width + 1, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), -1, channels)[:-1, :-1]


def to_png(images, scale: int = 1) -> bytes:
    """The bytes of a PNG file; the same pixels always give the same bytes.

    Args:
      images: uint8 [H, W, C], an image or a grid, or uint8 [n, H, W, C], laid out as a grid about as
        many images wide as high. C is 1 (gray) or 3 (RGB).
      scale: each pixel becomes a square of scale * scale pixels.

    Raises:
      ValueError: another dtype, shape or number of channels, or `scale` below 1.
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
    """The bytes of a GIF or WebP file that begins again and again; the same frames always give the same bytes.

    WebP, and GIF of gray images, keep every pixel as it is. GIF has 256 colors a frame, chosen for each.

    Args:
      frames: uint8 [H, W, C] each, of one shape; C is 1 (gray) or 3 (RGB).
      milliseconds: how long each is shown; GIF counts in tens.
      suffix: ".gif" or ".webp".

    Raises:
      ValueError: for .webp, a side of over 16,383 pixels, which the format cannot hold.
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
    """An image [H, W, C], each pixel of which becomes a square of scale * scale pixels."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def stacked(grids) -> np.ndarray:
    """Grids [H, W, C] of one width, one below the other with 4 pixels of black between them: the seeds of a run."""
    gap = np.zeros((GAP, *grids[0].shape[1:]), np.uint8)
    return np.concatenate([part for grid in grids for part in (grid, gap)][:-1])


def captioned(image: np.ndarray, words: str) -> np.ndarray:
    """The image, uint8 [H, W, C], below a black line of 18 pixels with white words: uint8 [18 + H, W, C]."""
    return np.concatenate([_line(words, image.shape[1:]), image])


def labeled(images, words) -> np.ndarray:
    """Images, each above black lines of 18 pixels with white words, all as wide as the widest words need.

    Args:
      images: uint8 [n, H, W, C].
      words: the lines of each image, as many of all.

    Returns:
      uint8 [n, H + 18 * lines, W', C], the images in the middle of black.
    """
    font = ImageFont.load_default(CAPTION_FONT)
    wanted = max(math.ceil(font.getlength(line)) + 2 * GAP for lines in words for line in lines)
    space = max(wanted - images.shape[2], 0)
    images = np.pad(images, ((0, 0), (0, 0), (space // 2, space - space // 2), (0, 0)))
    return np.stack(
        [
            np.concatenate([image, *(_line(line, image.shape[1:]) for line in lines)])
            for image, lines in zip(images, words, strict=True)
        ]
    )


def _line(words: str, shape: tuple[int, int]) -> np.ndarray:
    """A black line with white words, uint8 [18, *shape]."""
    line = Image.new("L", (shape[0], CAPTION))
    ImageDraw.Draw(line).text((GAP, 2), words, 255, ImageFont.load_default(CAPTION_FONT))
    return np.broadcast_to(np.asarray(line)[:, :, None], (CAPTION, *shape))


def legible_scale(height: int) -> int:
    """The scale of `to_png` that shows images of up to 16 pixels about 32 high, for people to look at."""
    return max(1, 32 // height)


# Meshes and points

BACKGROUND = np.array([40, 44, 52])
"""RGB of where nothing is."""

SURFACE = np.array([255, 214, 165])
"""RGB of a surface in full light, and of the densest points."""

MARGIN = 0.04
"""What is left free on every side, as a share of the picture's."""

SUPERSAMPLING = 4
"""Meshes are drawn so many times larger and averaged down, for smooth edges."""

AZIMUTH, ELEVATION = np.radians([35, 20])
"""Where the camera stands: so far from z toward x, and so high toward y."""

CAMERA = np.array(
    [
        [np.cos(AZIMUTH), 0, -np.sin(AZIMUTH)],
        [-np.sin(AZIMUTH) * np.sin(ELEVATION), np.cos(ELEVATION), -np.cos(AZIMUTH) * np.sin(ELEVATION)],
        [np.sin(AZIMUTH) * np.cos(ELEVATION), np.sin(ELEVATION), np.cos(AZIMUTH) * np.cos(ELEVATION)],
    ]
)
"""Its axes, a row each: to the right, upwards and toward it."""

LIGHT = np.array([-0.36, 0.48, 0.8])
"""The direction to the light, of length 1, in the camera's axes: to the left, above and behind it."""

AMBIENT = 0.2
"""The share of light that comes from everywhere."""

DOT = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
"""How a point counts in the pixels around its own."""


def mesh_images(vertices, faces, size: int) -> np.ndarray:
    """Shaded pictures of meshes, all by one camera and at one scale, so that they compare.

    The camera is orthographic, with y upwards, and sees the side of larger z, a little from above and from the
    right. Triangles are painted from the farthest to the nearest, each in one color: Lambert's cosine of the angle
    between its normal, on the side that is seen, and the light.

    Args:
      vertices: float [n, V, 3]; triangles with a corner that is not finite are left out.
      faces: int [F, 3], the vertices of each triangle, the same for all meshes.
      size: pixels a side.

    Returns:
      uint8 [n, size, size, 3], RGB.

    Raises:
      ValueError: another shape, no meshes, or `size` below 1.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or len(vertices) == 0 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            "pictures of meshes need vertices [n, V, 3], n >= 1, and faces [F, 3], "
            f"got {list(vertices.shape)} and {list(faces.shape)}"
        )
    vertices = np.where(np.isfinite(vertices), vertices, np.nan)  # infinities times 0 would warn
    seen = vertices @ CAMERA.T
    places = _to_pixels(seen[..., :2], size)
    return np.stack([_mesh_image(*mesh, faces, size) for mesh in zip(seen, places, strict=True)])


def _mesh_image(seen, places, faces, size):
    """One mesh: its vertices in the camera's axes [V, 3] and in the picture [V, 2], and faces [F, 3]."""
    faces = faces[np.isfinite(seen[faces]).all((1, 2))]
    faces = faces[np.argsort(seen[faces, 2].sum(1), kind="stable")]
    a, b, c = seen[faces].swapaxes(0, 1)
    normals = np.cross(b - a, c - a)
    normals *= np.where(normals[:, 2:] < 0, -1, 1)
    cosines = normals @ LIGHT / np.maximum(np.linalg.norm(normals, axis=1), np.finfo(float).tiny)
    light = AMBIENT + (1 - AMBIENT) * np.maximum(cosines, 0)
    colors = np.round(light[:, None] * SURFACE).astype(int)
    corners = places[faces].reshape(-1, 6) * SUPERSAMPLING  # Pillow takes the pixels that these lie in
    image = Image.new("RGB", (size * SUPERSAMPLING,) * 2, tuple(BACKGROUND.tolist()))
    draw = ImageDraw.Draw(image)
    for triangle, color in zip(corners.tolist(), colors.tolist(), strict=True):
        draw.polygon(triangle, fill=tuple(color))
    return np.asarray(image.reduce(SUPERSAMPLING))


def point_image(points, size: int, around=None) -> np.ndarray:
    """A picture of where points lie: the more of them, the brighter.

    Brightness is the logarithm of their number, so that single points are seen beside many. The smallest square
    around all of them, or around others, is shown, with a small margin; x goes to the right and y upwards.

    Args:
      points: float [n, 2]; those not finite, and those outside the picture, are left out.
      size: pixels a side.
      around: float [m, 2], the points that the picture is of, so that several pictures compare; `points` if not given.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      ValueError: another shape, or `size` below 1.
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
    """Points [..., 2], y upwards, in pixels from the upper left corner; all of `around` (or they) within the margin."""
    if size < 1:
        raise ValueError(f"a picture's size is 1 pixel or more, got {size}")
    around = points if around is None else np.asarray(around, np.float64)
    finite = around[np.isfinite(around).all(-1)]
    low, high = (finite.min(0), finite.max(0)) if len(finite) else np.zeros((2, 2))
    scale = (1 - 2 * MARGIN) * size / ((high - low).max() or 1)
    return size / 2 + scale * (points - (low + high) / 2) * [1, -1]
