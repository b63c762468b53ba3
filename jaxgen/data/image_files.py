"""The pixels of one image file: PNG, JPEG, WebP or TIFF.

Pillow decodes a copy without metadata, so no profile, text, thumbnail or date can cause an error or a warning. Of the
metadata only the EXIF orientation is read.
"""

import contextlib
import io
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxgen.data.source import BadExampleError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff")

CONVERT = "convert it to PNG, JPEG, WebP or TIFF"

UNREAD = (
    ("a GIF", 0, (b"GIF8",), CONVERT),
    ("a BMP", 0, (b"BM",), CONVERT),
    ("an AVIF", 4, (b"ftypavif", b"ftypavis"), CONVERT),
    ("an HEIC", 4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), CONVERT),
    ("a JPEG 2000", 0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), CONVERT),
    ("a JPEG XL", 0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), CONVERT),
    ("a Git LFS pointer", 0, (b"version https://git-lfs",), "`git lfs pull` gets the image"),
    ("a text (HTML, XML or SVG)", 0, (b"<",), "replace it by an image, or remove it"),
)
"""Kinds of files that are not read: (what it is, the place of its first bytes, possible first bytes, advice)."""

MOST_PIXELS = 250_000_000
"""Default of `max_pixels`: 0.75 GB as RGB."""

DEPTH = 16
"""Maximum number of bits per channel."""

PNG_METADATA = frozenset(
    b"tEXt zTXt iTXt iCCP eXIf tIME sRGB gAMA cHRM cICP mDCV cLLI pHYs hIST sPLT bKGD sBIT acTL fcTL fdAT".split()
)
"""PNG chunks that no pixel depends on; the last three belong to an animation's later frames."""

TIFF_PIXELS = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339, 347}
    | set(range(512, 522))
    | {529, 530, 532}
)
"""TIFF tags that pixels depend on: sizes, samples, compression, colors, strips and tiles."""

TIFF_SINGLE = frozenset({256, 257, 259, 266, 277, 278, 284, 317, 322, 323})
"""TIFF tags that have one value; Pillow warns if there are more."""

TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes per value of each TIFF type."""

ORIENTATION = 274
"""Tag of the orientation in EXIF and TIFF."""

UPRIGHT: dict[int, Callable] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
"""Map from EXIF orientation to the function that turns stored pixels upright."""

CUT_SHORT = "it is cut short"


class _UnreadError(Exception):
    """An intact image of an unsupported kind; the message says what is supported."""


def is_image(path: str) -> bool:
    """True if a file's name says that it is an image."""
    return path.lower().endswith(SUFFIXES)


def decoded(content: bytes, name: str) -> np.ndarray:
    """An image file's pixels, by `pixels` with its defaults."""
    return pixels(content, name)[0]


def pixels(
    content: bytes, name: str, max_pixels: int | None = None, bits: int | None = None
) -> tuple[np.ndarray, int | None]:
    """An image file's pixels, and the highest value of an image with 16 bits per channel.

    The pixels are uint8 [H, W, 1] for gray and black-and-white images (WebP has none), [H, W, 3] for all others, turned
    upright by the EXIF orientation. Transparent pixels are blended with white. Palette, CMYK and 16-bit gray with alpha
    become RGB; color profiles are ignored. Of 16 bits per channel the upper 8 are kept, and the transparent level of
    16-bit gray is ignored. Animations and files of several pages give their first image.

    Args:
      content: the file's bytes.
      name: the file's name, for messages.
      max_pixels: maximum number of pixels; `MOST_PIXELS` if not given. Pillow's own limit is lifted.
      bits: bits that a 16-bit gray image uses, of which the upper 8 are kept; all if not given.

    Returns:
      (the pixels, the highest value of an image with 16 bits per channel, or None). For colors, of which only the high
      bytes are read, it is an upper bound.

    Raises:
      BadExampleError: if the file is empty, cut off, visibly damaged or of another format, has 32-bit numbers or too
        many pixels, or has values that take more than `bits`.
    """
    try:
        kind, bare, orientation = _bare(content)
        image, highest = _decoded(kind, bare, max_pixels or MOST_PIXELS, bits or DEPTH)
    except _UnreadError as error:
        raise BadExampleError(f"cannot decode {name}: {error}") from error
    except Exception as error:  # on damage, decoders raise any exception
        said = re.sub(r" <_io.*?>", "", str(error).partition("\n")[0])  # of Pillow, with an address in memory
        reason = CUT_SHORT if isinstance(error, (struct.error, IndexError)) else said
        raise BadExampleError(f"cannot decode {name} ({reason}): replace it by a whole image, or remove it") from error
    return np.ascontiguousarray(UPRIGHT.get(orientation, lambda x: x)(image)), highest


def _bare(content: bytes) -> tuple[str, bytes, int]:
    """Returns (Pillow's name of the format, the file without metadata, its orientation)."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        bare, exif = _bare_png(content)
        return "PNG", bare, _exif_orientation(exif)
    if content.startswith(b"\xff\xd8\xff"):
        bare, exif = _bare_jpeg(content)
        return "JPEG", bare, _exif_orientation(exif)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        bare, exif = _bare_webp(content)
        return "WEBP", bare, _exif_orientation(exif)
    if content.startswith((b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")):
        return "TIFF", *_bare_tiff(content)
    for what, place, begins, advice in UNREAD:
        if content.startswith(begins, place):
            raise _UnreadError(f"it is {what}: {advice}")
    raise ValueError("none of PNG, JPEG, WebP and TIFF" if content else "empty")


def _bare_png(content: bytes) -> tuple[bytes, bytes]:
    """Returns (the chunks that pixels depend on, the EXIF data); checks the checksums of all but metadata."""
    kept, exif, place, kind = [content[:8]], b"", 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        chunk = content[place : place + 12 + length]
        if len(chunk) < 12 + length:
            raise ValueError(CUT_SHORT)
        place += len(chunk)
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind == b"eXIf" and whole:
            exif = chunk[8:-4]
        if not whole and kind not in PNG_METADATA:
            raise ValueError(f"the checksum of its {kind.decode('latin-1')} is wrong")
        if kind == b"tRNS" or kind[:1].isupper():  # other lower-case chunks are not needed
            kept.append(chunk)
    return b"".join(kept), exif


def _bare_jpeg(content: bytes) -> tuple[bytes, bytes]:
    """Returns (the segments that pixels depend on, the EXIF data)."""
    kept, exif, place = [content[:2]], b"", 2
    while True:
        while content[place] != 0xFF or content[place + 1] in (0, 0xFF):  # padding between segments
            place += 1
        marker = content[place + 1]
        if marker == 0xDA:  # the image begins
            return b"".join(kept) + content[place:], exif
        if marker == 0xD9:
            raise ValueError("it ends before its image")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a segment
            place += 2
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        segment = content[place : place + 2 + length]
        if marker == 0xE1 and segment[4:8] == b"Exif":
            exif = exif or segment[4:]
        if marker != 0xFE and not (0xE1 <= marker <= 0xEF and marker != 0xEE):  # 0xEE says how colors are stored
            kept.append(segment)
        place += 2 + max(2, length)


def _bare_webp(content: bytes) -> tuple[bytes, bytes]:
    """Returns (the chunks that pixels depend on, the EXIF data)."""
    kept, exif, place = [b"WEBP"], b"", 12
    end = min(len(content), 8 + int.from_bytes(content[4:8], "little"))
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, place)
        chunk = content[place : place + 8 + length]
        place += 8 + length + length % 2
        if kind == b"EXIF":
            exif = chunk[8:]
        elif kind not in (b"XMP ", b"ICCP"):
            if len(chunk) < 8 + length:
                raise ValueError(CUT_SHORT)
            kept.append(chunk + bytes(length % 2))
    body = b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body, exif


def _bare_tiff(content: bytes) -> tuple[bytes, int]:
    """Returns (the file with only the entries of its first directory that pixels depend on, the orientation)."""
    order = "<" if content[:2] == b"II" else ">"
    big = 43 in content[2:4]
    if big and order == ">":
        raise _UnreadError("it is a big-endian BigTIFF; classic TIFF and little-endian BigTIFF are read")
    number, entry, inline = (f"{order}Q", f"{order}HHQ8s", 8) if big else (f"{order}I", f"{order}HHI4s", 4)
    (place,) = struct.unpack_from(number, content, 8 if big else 4)
    counter = struct.Struct(number if big else f"{order}H")
    (count,) = counter.unpack_from(content, place)
    kept, orientation, at = [], 1, place + counter.size
    for _ in range(count):
        tag, kind, length, value = struct.unpack_from(entry, content, at)
        at += struct.calcsize(entry)
        size = TIFF_SIZES.get(kind, 1) * length
        if tag == ORIENTATION and kind == 3:
            (orientation,) = struct.unpack_from(f"{order}H", value)
        if tag not in TIFF_PIXELS:
            continue
        if (size > inline and struct.unpack(number, value)[0] + size > len(content)) or kind not in TIFF_SIZES:
            raise ValueError(CUT_SHORT)
        if tag in TIFF_SINGLE and length != 1:
            raise ValueError(f"its tag {tag} has {length} values")
        kept.append(struct.pack(entry, tag, kind, length, value))
    directory = counter.pack(len(kept)) + b"".join(kept) + struct.pack(number, 0)  # 0: no further page
    if place + len(directory) > len(content):
        raise ValueError(CUT_SHORT)
    return content[:place] + directory + content[place + len(directory) :], orientation


def _exif_orientation(exif: bytes) -> int:
    """The orientation in the first directory of EXIF data; 1 (upright) if none can be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "<")
    with contextlib.suppress(struct.error):
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, place)
        for index in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, place + 2 + 12 * index)
            if (tag, kind) == (ORIENTATION, 3):
                return value
    return 1


class _Limit:
    """Lifts Pillow's limit on pixels in a `with` block; threads may overlap."""

    def __init__(self):
        self._lock, self._inside, self._own = threading.Lock(), 0, None

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        from PIL import Image

        with self._lock:
            if not self._inside:
                self._own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    Image.MAX_IMAGE_PIXELS = self._own


PILLOWS_LIMIT = _Limit()


def _decoded(kind: str, bare: bytes, max_pixels: int, bits: int) -> tuple[np.ndarray, int | None]:
    from PIL import Image, TiffImagePlugin

    with PILLOWS_LIMIT.lifted(), Image.open(io.BytesIO(bare), formats=(kind,)) as image:
        if image.width * image.height > max_pixels:
            size = f"{image.width:,}x{image.height:,}"
            raise _UnreadError(f"its {size} pixels are more than {max_pixels:,}; --max-pixels allows others")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            tags = image.tag_v2
        else:
            tags = {258: (bare[24] if kind == "PNG" else 8,)}
        depth = tags.get(258, (1,))[0]  # bits per channel
        if image.mode.startswith("I;16") or (kind, image.mode) == ("PNG", "I"):
            return _deep(np.asarray(image), depth, bits, white_is_zero=tags.get(262) == 0)
        if image.mode in ("I", "F"):
            raise _UnreadError("its pixels are signed or of 32 bits; unsigned ones of 8 or 16 bits are read")
        if depth < DEPTH:
            return _shallow(image), None
        if bits < DEPTH:
            raise _UnreadError("it has colors of 16 bits, of which the upper 8 are read; --image-bits is for gray")
        found = _shallow(image)
        return found, int(found.max()) << 8 | 255


def _deep(values: np.ndarray, depth: int, bits: int, white_is_zero: bool) -> tuple[np.ndarray, int | None]:
    """Reduces 16-bit gray to uint8 [H, W, 1]; also returns the highest value, or None if fewer bits are used."""
    if white_is_zero:
        values = ~values
    used, highest = min(depth, bits), int(values.max())
    if highest >= 2**used:
        raise _UnreadError(f"its values reach {highest:,}, over the {2**used - 1:,} of --image-bits {used}")
    return (values >> (used - 8)).astype(np.uint8)[..., None], highest if used == DEPTH else None


def _shallow(image: Any) -> np.ndarray:
    """Converts a PIL image to uint8 [H, W, 1 or 3]."""
    from PIL import Image

    is_gray = image.mode in ("1", "L", "LA", "La")
    mode = "L" if is_gray else "RGB"
    if image.mode in ("La", "LA", "PA", "RGBa", "RGBA") or "transparency" in image.info:
        image = image.convert("LA" if is_gray else "RGBA")
        # White, as paper: drawings on a transparent background are mostly dark.
        opaque = Image.new(mode, image.size, "white")
        opaque.paste(image.convert(mode), mask=image.getchannel("A"))
        image = opaque
    image = image if image.mode == mode else image.convert(mode)  # avoids a copy, which is large at 100 megapixels
    return np.asarray(image).reshape(image.height, image.width, -1)
