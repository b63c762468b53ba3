"""Image files against values by hand: every kind of PNG, JPEG, WebP and TIFF, metadata, limits, damage."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.image_files import CONVERT, MOST_PIXELS, decoded, pixels
from jaxgen.data.source import BadExampleError

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's color types
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, color, depth, rows, *chunks):
    """Makes a PNG file without Pillow, from rows of packed samples."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*x) for x in chunks), chunk(b"IDAT", content), chunk(b"IEND")]
    return SIGNATURE + b"".join(parts)


def unpng(content):
    """Decodes the pixels of a complete 8-bit RGB or RGBA PNG file without interlacing, without Pillow."""
    width, height, depth, color = struct.unpack(">IIBB", content[16:26])
    assert depth == 8
    assert content[28] == 0
    pixel = {RGB: 3, RGB_ALPHA: 4}[color]
    compressed, position = b"", 8
    while position < len(content):
        (size,) = struct.unpack(">I", content[position : position + 4])
        if content[position + 4 : position + 8] == b"IDAT":
            compressed += content[position + 8 : position + 8 + size]
        position += 12 + size
    lines = np.frombuffer(zlib.decompress(compressed), np.uint8).reshape(height, 1 + width * pixel)
    out = np.zeros((height + 1, width + 1, pixel), np.uint8)  # with a row and a column of zeros in front
    for y, line in enumerate(lines, 1):
        kind, row = line[0], line[1:].reshape(width, pixel)
        for x in range(1, width + 1):
            left, up, corner = (out[i].astype(int) for i in ((y, x - 1), (y - 1, x), (y - 1, x - 1)))
            nearest = np.stack([left, up, corner])[np.argmin(np.abs(left + up - corner - [left, up, corner]), axis=0)]
            paeth = nearest[range(pixel), range(pixel)]
            guess = (np.zeros(pixel, int), left, up, (left + up) // 2, paeth)[kind]
            out[y, x] = (row[x - 1] + guess) % 256
    return out[1:, 1:]


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(file, kind, **options)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        pytest.param(png(3, GRAY, 8, [[0, 7, 255]]), [[[0], [7], [255]]], id="gray"),
        pytest.param(png(3, GRAY, 1, [[0b01000000]]), [[[0], [255], [0]]], id="gray, 1 bit"),
        pytest.param(png(4, GRAY, 2, [[0b00011011]]), [[[0], [85], [170], [255]]], id="gray, 2 bits"),
        pytest.param(
            png(3, GRAY, 16, [b"\x12\x34\xff\xff\x00\xff"]), [[[0x12], [255], [0]]], id="gray, 16 bits: the high byte"
        ),
        pytest.param(png(2, GRAY, 8, [[7, 9]], (b"tRNS", b"\0\7")), [[[255], [9]]], id="gray, 7 transparent"),
        pytest.param(png(2, GRAY, 1, [[0b01000000]], (b"tRNS", b"\0\0")), [[[255], [255]]], id="1 bit, 0 transparent"),
        # 51 is a fifth of 255: 255 * 4 / 5 + 100 / 5 = 224
        pytest.param(png(3, GRAY_ALPHA, 8, [[9, 255, 9, 0, 100, 51]]), [[[9], [255], [224]]], id="gray and alpha"),
        pytest.param(png(1, GRAY_ALPHA, 16, [b"\x12\x34\xff\xff"]), [[[0x12] * 3]], id="gray and alpha, 16 bits: RGB"),
        pytest.param(png(2, RGB, 8, [[1, 2, 3, 4, 5, 6]]), [[[1, 2, 3], [4, 5, 6]]], id="RGB"),
        pytest.param(png(1, RGB, 16, [b"\x01\xff\x02\0\xff\xff"]), [[[1, 2, 255]]], id="RGB, 16 bits: the high bytes"),
        pytest.param(
            png(2, RGB, 8, [[1, 2, 3, 4, 5, 6]], (b"tRNS", b"\0\1\0\2\0\3")),
            [[[255, 255, 255], [4, 5, 6]]],
            id="RGB, a color transparent",
        ),
        pytest.param(
            png(3, RGB_ALPHA, 8, [[1, 2, 3, 255, 1, 2, 3, 0, 0, 100, 255, 51]]),
            [[[1, 2, 3], [255, 255, 255], [204, 224, 255]]],
            id="RGB and alpha",
        ),
        pytest.param(
            png(2, PALETTE, 8, [[1, 0]], (b"PLTE", bytes([1, 2, 3, 7, 7, 7]))),
            [[[7, 7, 7], [1, 2, 3]]],
            id="palette, also of grays: RGB",
        ),
        pytest.param(
            png(2, PALETTE, 1, [[0b10000000]], (b"PLTE", bytes([1, 2, 3, 7, 7, 7]))),
            [[[7, 7, 7], [1, 2, 3]]],
            id="palette, 1 bit",
        ),
        pytest.param(
            png(3, PALETTE, 8, [[0, 1, 2]], (b"PLTE", bytes([1, 2, 3, 0, 100, 255, 4, 5, 6])), (b"tRNS", b"\0\x33")),
            [[[255, 255, 255], [204, 224, 255], [4, 5, 6]]],
            id="palette with alpha",
        ),
    ],
)
def test_kinds_of_png(file, expected):
    image = decoded(file, "name")
    assert image.dtype == np.uint8
    assert image.tolist() == expected


def test_kinds_of_jpeg():
    """A uniform color survives JPEG up to rounding."""
    for color in ([200, 30, 90], [0, 0, 0], [255, 255, 0]):
        image = decoded(encoded(np.full((5, 9, 3), color), "JPEG", quality=100), "name")
        assert image.shape == (5, 9, 3)
        assert np.abs(image.astype(int) - color).max() <= 2
    gray = decoded(encoded(np.full((5, 9), 77), "JPEG", quality=100), "name")
    assert gray.shape == (5, 9, 1)
    assert np.abs(gray.astype(int) - 77).max() <= 1
    for inks, color in {(255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 0): (255,) * 3, (0, 0, 0, 255): (0,) * 3}.items():
        file = io.BytesIO()
        Image.new("CMYK", (9, 5), inks).save(file, "JPEG", quality=100)
        image = decoded(file.getvalue(), "name")
        assert image.shape == (5, 9, 3)
        assert np.abs(image.astype(int) - color).max() <= 2


# Transforms that turn a stored image upright, by the definitions of EXIF 2.3, section 4.6.4
UPRIGHT = {
    1: lambda x: x,  # row 0 is the top, column 0 the left side
    2: lambda x: x[:, ::-1],  # top, right
    3: lambda x: x[::-1, ::-1],  # bottom, right
    4: lambda x: x[::-1],  # bottom, left
    5: lambda x: x.swapaxes(0, 1),  # left, top
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda x: x.swapaxes(0, 1)[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = UPRIGHT[orientation](NOISE)
    np.testing.assert_array_equal(decoded(encoded(NOISE, exif=exif), "name"), expected)
    gray = UPRIGHT[orientation](NOISE[..., :1])
    np.testing.assert_array_equal(decoded(encoded(NOISE[..., 0], exif=exif), "name"), gray)
    photo = encoded(NOISE, "JPEG", quality=100, subsampling=0)
    turned = encoded(NOISE, "JPEG", quality=100, subsampling=0, exif=exif)
    np.testing.assert_array_equal(decoded(turned, "name"), UPRIGHT[orientation](decoded(photo, "name")))
    for options in (
        {"format": "WEBP", "lossless": True},
        {"format": "TIFF"},
        {"format": "TIFF", "compression": "tiff_lzw"},
    ):
        file = io.BytesIO()
        Image.fromarray(NOISE).save(file, exif=exif, **options)
        np.testing.assert_array_equal(decoded(file.getvalue(), "name"), expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_16_bits_are_turned_too(depth):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = png(
        2, GRAY, depth, [[1, 2], [3, 4]] if depth == 8 else [b"\1\0\2\0", b"\3\0\4\0"], (b"eXIf", exif.tobytes()[6:])
    )
    assert decoded(file, "name")[..., 0].tolist() == [[3, 1], [4, 2]]


WHOLE = {
    "png": encoded(NOISE),
    "jpeg": encoded(NOISE, "JPEG"),
    "progressive jpeg": encoded(NOISE, "JPEG", progressive=True),
    "smooth jpeg": encoded(np.add.outer(np.arange(100), np.arange(60)), "JPEG"),
    "gray jpeg": encoded(np.full((40, 40), 7), "JPEG"),
    "webp": encoded(NOISE, "WEBP"),
    "lossless webp": encoded(NOISE[:8], "WEBP", lossless=True),
    "webp with alpha": encoded(np.concatenate([NOISE, NOISE[..., :1]], -1), "WEBP"),
    **{f"tiff, {how}": encoded(NOISE, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")},
    "gray tiff": encoded(NOISE[..., 0], "TIFF"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_cut_off_anywhere_is_refused(kind):
    for length in range(len(WHOLE[kind])):
        with pytest.raises(
            BadExampleError, match=r"^cannot decode cut/off.png \(.+\): replace it by a whole image, or"
        ):
            decoded(WHOLE[kind][:length], "cut/off.png")


def test_a_flipped_bit_of_a_png_is_never_shown():
    """The image has few colors, where plain decoding misses most flipped bits."""
    image = NOISE // 128 * 255
    file = encoded(image)
    refused = []
    for position in range(len(file)):
        flipped = bytearray(file)
        flipped[position] ^= 16
        try:
            np.testing.assert_array_equal(decoded(bytes(flipped), "name"), image)
        except BadExampleError as error:
            refused.append(str(error))
    assert len(refused) > 0.9 * len(file)
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"a text", "none of PNG, JPEG, WebP and TIFF"),
        (png(0, GRAY, 8, [[], []]), "cannot identify image file"),
    ],
)
def test_other_files_are_refused(content, reason):
    with pytest.raises(BadExampleError) as caught:
        decoded(content, "x.png")
    assert str(caught.value) == f"cannot decode x.png ({reason}): replace it by a whole image, or remove it"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (encoded(NOISE, "GIF"), f"it is a GIF: {CONVERT}"),
        (encoded(NOISE, "BMP"), f"it is a BMP: {CONVERT}"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", f"it is an HEIC: {CONVERT}"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", f"it is an AVIF: {CONVERT}"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", f"it is a JPEG 2000: {CONVERT}"),
        (b"\xff\x0a\xfa\x7f", f"it is a JPEG XL: {CONVERT}"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer: `git lfs pull` gets the image"),
        (b"<!DOCTYPE html>", "it is a text (HTML, XML or SVG): replace it by an image, or remove it"),
    ],
)
def test_a_file_of_another_kind_is_named(content, says):
    """A suffix does not make an image: photographs of telephones, pages of errors, files that were not fetched."""
    with pytest.raises(BadExampleError) as caught:
        decoded(content, "x.png")
    assert str(caught.value) == f"cannot decode x.png: {says}"


def test_what_follows_the_image_does_not_matter():
    np.testing.assert_array_equal(decoded(WHOLE["png"] + b"more", "name"), NOISE)
    decoded(WHOLE["jpeg"] + b"more", "name")


# WebP and TIFF


def test_kinds_of_webp():
    np.testing.assert_array_equal(decoded(encoded(NOISE, "WEBP", lossless=True), "name"), NOISE)
    flat = decoded(encoded(np.full((5, 9, 3), [200, 30, 90]), "WEBP"), "name")
    assert flat.shape == (5, 9, 3)
    assert np.abs(flat.astype(int) - [200, 30, 90]).max() <= 4
    gray = decoded(encoded(NOISE[..., 0], "WEBP", lossless=True), "name")
    np.testing.assert_array_equal(gray, NOISE[..., :1].repeat(3, -1))  # WebP has no gray
    glass = np.array([[[1, 2, 3, 255], [1, 2, 3, 0], [0, 100, 255, 51]]])
    clear = decoded(encoded(glass, "WEBP", lossless=True, exact=True), "name")
    assert clear.tolist() == [[[1, 2, 3], [255, 255, 255], [204, 224, 255]]]
    first, second = (Image.fromarray(image) for image in (NOISE, 255 - NOISE))
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(decoded(file.getvalue(), "name"), NOISE)


def tiff(order, entries, data, *, big=False, pages=1):
    """Makes a TIFF file without Pillow from {tag: (type, values)} and the bytes that tag 273 points to.

    All pages have these entries; the second and later ones have pixels of zeros.
    """
    number, size = ("Q", 8) if big else ("I", 4)
    head = struct.pack(f"{order}2sHHHQ", b"II" if order == "<" else b"MM", 43, 8, 0, 16) if big else b""
    head = head or struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    directory = 2 + len(entries) * 12 + 4 if not big else 8 + len(entries) * 20 + 8
    place, parts = len(head), [head]
    for page in range(pages):
        after, outside, rows = place + directory, b"", b""
        own = data if page == 0 else bytes(len(data))
        for tag, (kind, values) in sorted((entries | {273: (4, [after])}).items()):
            letter = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 7: "B"}[kind]
            count = len(values) // len(letter)
            packed = struct.pack(order + letter * count, *values)
            if len(packed) > size:
                outside += packed
                packed = struct.pack(order + number, after + len(own) + len(outside) - len(packed))
            rows += struct.pack(f"{order}HH{number}{size}s", tag, kind, count, packed)
        end = after + len(own) + len(outside)
        counted = struct.pack(order + ("Q" if big else "H"), len(entries))
        parts.append(counted + rows + struct.pack(order + number, end if page + 1 < pages else 0) + own + outside)
        place = end
    return b"".join(parts)


def entries(width, height, bits, photometric, **more):
    samples = len(bits)
    own = {
        256: (3, [width]), 257: (3, [height]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric]), 273: (4, [0]),
        277: (3, [samples]), 278: (3, [height]), 279: (4, [-(-width * sum(bits) // 8) * height]),
    }  # fmt: skip
    return own | {int(tag[1:]): value for tag, value in more.items()}


WHITE_IS_ZERO, BLACK_IS_ZERO, COLORS, INDEXED = range(4)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_kinds_of_tiff(order, big):
    def shown(entries, data):
        return decoded(tiff(order, entries, data, big=big), "name").tolist()

    def words(*values):
        return struct.pack(f"{order}{len(values)}H", *values)

    assert shown(entries(3, 1, [8], BLACK_IS_ZERO), bytes([0, 7, 255])) == [[[0], [7], [255]]]
    assert shown(entries(3, 1, [8], WHITE_IS_ZERO), bytes([0, 7, 255])) == [[[255], [248], [0]]]
    assert shown(entries(3, 1, [1], BLACK_IS_ZERO), bytes([0b01000000])) == [[[0], [255], [0]]]
    assert shown(entries(2, 1, [16], BLACK_IS_ZERO), words(0x1234, 0xFF00)) == [[[0x12], [255]]]
    if order == "<":  # the byte order that Pillow reads
        assert shown(entries(2, 1, [16], WHITE_IS_ZERO), words(0x1234, 0xFF00)) == [[[0xED], [0]]]
        assert shown(entries(2, 1, [12], BLACK_IS_ZERO), bytes([0x12, 0x3F, 0xFF])) == [[[0x12], [0xFF]]]
    assert shown(entries(2, 1, [8, 8, 8], COLORS), bytes(range(1, 7))) == [[[1, 2, 3], [4, 5, 6]]]
    assert shown(entries(1, 1, [16] * 3, COLORS), words(0x1FF, 0x200, 0xFFFF)) == [[[1, 2, 255]]]
    palette = [0] * 768
    palette[5], palette[256 + 5], palette[512 + 5] = 0x0100, 0x0200, 0x0300
    assert shown(entries(2, 1, [8], INDEXED, t320=(3, palette)), bytes([5, 0])) == [[[1, 2, 3], [0, 0, 0]]]
    alpha = {"t338": (3, [2])}
    assert shown(entries(2, 1, [8] * 4, COLORS, **alpha), bytes([0, 100, 255, 51, 9, 9, 9, 0])) == [
        [[204, 224, 255], [255, 255, 255]]
    ]
    assert shown(entries(2, 1, [8] * 2, BLACK_IS_ZERO, **alpha), bytes([100, 51, 9, 255])) == [[[224], [9]]]


def test_a_tiff_that_pillow_takes_for_another():
    content = tiff(">", entries(3, 1, [8], BLACK_IS_ZERO), bytes([0, 7, 255]), big=True)
    with pytest.raises(BadExampleError, match=r"^cannot decode x: it is a big-endian BigTIFF; classic TIFF and "):
        decoded(content, "x")


@pytest.mark.parametrize("how", ["raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(how):
    np.testing.assert_array_equal(decoded(encoded(NOISE, "TIFF", compression=how), "name"), NOISE)


@pytest.mark.parametrize("big", [False, True], ids=["classic", "BigTIFF"])
def test_the_first_page_of_a_tiff(big):
    content = tiff("<", entries(3, 1, [8], BLACK_IS_ZERO), bytes([0, 7, 255]), pages=3, big=big)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert decoded(content, "name").tolist() == [[[0], [7], [255]]]


@pytest.mark.parametrize(
    "more", [{"t339": (3, [3]), "t258": (3, [32])}, {"t339": (3, [2]), "t258": (3, [32])}, {"t339": (3, [2])}]
)
def test_tiff_of_numbers_that_are_no_levels(more):
    content = tiff("<", entries(2, 1, [16], BLACK_IS_ZERO, **more), bytes(8))
    with pytest.raises(BadExampleError) as caught:
        decoded(content, "x.tif")
    says = "its pixels are signed or of 32 bits; unsigned ones of 8 or 16 bits are read"
    assert str(caught.value) == f"cannot decode x.tif: {says}"


# Metadata


def webp(*chunks, flags=0):
    """Makes a lossless WebP of NOISE with further chunks around it."""
    content = encoded(NOISE, "WEBP", lossless=True)[12:]
    header = bytes([flags, 0, 0, 0, 12, 0, 0, 10, 0, 0])
    chunks = [struct.pack("<4sI", kind, size or len(part)) + part + bytes(len(part) % 2) for kind, part, size in chunks]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + header + content + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(*segments):
    content = encoded(NOISE, "JPEG", quality=100, subsampling=0)
    return (
        content[:2] + b"".join(bytes([0xFF, m]) + struct.pack(">H", 2 + len(s)) + s for m, s in segments) + content[2:]
    )


def with_chunks(*chunks):
    """Makes a PNG of NOISE with further chunks."""
    return png(13, RGB, 8, NOISE.reshape(11, -1), *chunks)


def noise_tiff(**more):
    return tiff("<", entries(13, 11, [8] * 3, COLORS, **more), NOISE.tobytes())


def bad_checksum(content, kind):
    """Flips a bit of that chunk's checksum."""
    start = content.index(kind) - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    return content[: end - 1] + bytes([content[end - 1] ^ 1]) + content[end:]


CORRUPT = {
    "more entries than there are": b"II*\0\x08\0\0\0\xff\xff",
    "a value that lies beyond": struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x9286, 7, 900, 5000, 0),
    "many values of one": struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0100, 3, 2, 7, 0),
    "a directory that lies beyond": b"MM\0*\0\0\xff\xff",
    "no TIFF": b"garbage",
    "nothing": b"",
}
"""EXIF data for which Pillow warns or raises."""

LONG = zlib.compress(bytes(70_000_000))  # longer than Pillow allows for text

STRANGE = {
    **{f"exif of a png: {what}": with_chunks((b"eXIf", exif)) for what, exif in CORRUPT.items()},
    **{f"exif of a jpeg: {what}": jpeg((0xE1, b"Exif\0\0" + exif)) for what, exif in CORRUPT.items()},
    **{f"exif of a webp: {what}": webp((b"EXIF", exif, 0), flags=8) for what, exif in CORRUPT.items()},
    "a long text": with_chunks((b"zTXt", b"a\0\0" + LONG)),
    "a long international text": with_chunks((b"iTXt", b"a\0\1\0\0\0" + LONG)),
    "a long profile": with_chunks((b"iCCP", b"a\0\0" + LONG)),
    "a text that is not compressed": with_chunks((b"zTXt", b"a\0\0garbage")),
    "a text's checksum": bad_checksum(with_chunks((b"tEXt", b"a\0b")), b"tEXt"),
    "a time's checksum": bad_checksum(with_chunks((b"tIME", bytes(7))), b"tIME"),
    "a time of no length": with_chunks((b"tIME", b"")),
    "a resolution of no length": with_chunks((b"pHYs", b"")),
    "an animation of no frames": with_chunks((b"acTL", bytes(8)), (b"fcTL", b"")),
    "a chunk of one's own": with_chunks((b"abCd", b"garbage")),
    "a jpeg's profile": jpeg((0xE2, b"ICC_PROFILE\0\1\1garbage"), (0xE2, b"ICC_PROFILE\0\7\3garbage")),
    "a jpeg of many pictures": jpeg((0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")),
    "a jpeg's resources": jpeg((0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\xff\xff"), (0xFE, b"\xff\0\xd9")),
    "a jpeg's description": jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken"), (0xEF, b"")),
    "a jpeg with space between its parts": jpeg((0xE1, b"Exif\0\0"), (0xFE, b"")).replace(
        b"\xff\xfe", b"\xff\xff\xff\xfe"
    ),
    "a webp's profile": webp((b"ICCP", b"garbage", 0), (b"XMP ", b"<broken", 0), flags=0x24),
    "a webp's exif that ends beyond": webp((b"EXIF", b"II", 5000), flags=8),
    "a webp that says it has more": webp(flags=0x2C),
    "a tiff's exif that lies beyond": noise_tiff(t34665=(4, [9_999_999])),
    "a tiff's title that lies beyond": noise_tiff(t270=(2, [65] * 9))[:-5],
    "a tiff's resolution over nothing": noise_tiff(t282=(5, [1, 0]), t283=(5, [1, 0]), t296=(3, [2])),
    "a tiff's resolutions": noise_tiff(t282=(3, [1, 2]), t296=(3, [2, 2])),
    "a tiff's profile": noise_tiff(t34675=(7, [1] * 9)),
    "a tiff's orientations": noise_tiff(t274=(2, [65, 66])),
}


@pytest.mark.parametrize("what", STRANGE)
def test_metadata_neither_refuses_an_image_nor_warns(what):
    """Warnings are errors here."""
    expected = decoded(jpeg(), "name") if STRANGE[what].startswith(b"\xff") else NOISE
    np.testing.assert_array_equal(decoded(STRANGE[what], "name"), expected)


@pytest.mark.filterwarnings("ignore")
def test_what_is_strange_is_so_for_pillow():
    """Pillow warns or raises for at least half of the cases, so that they test something."""

    def objects(content):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
                    image.getexif()
            except Exception:
                return True
        return False

    objected = {what for what in STRANGE if objects(STRANGE[what])}
    assert len(objected) >= len(STRANGE) // 2, sorted(set(STRANGE) - objected)


def test_a_checksum_of_what_pixels_depend_on():
    clear = png(2, GRAY, 8, [[7, 9]], (b"tRNS", b"\0\7"))
    for content, kind in [
        (clear, b"tRNS"),
        (with_chunks(), b"IDAT"),
        (with_chunks(), b"IHDR"),
        (with_chunks(), b"IEND"),
    ]:
        with pytest.raises(BadExampleError, match=f"the checksum of its {kind.decode()} is wrong"):
            decoded(bad_checksum(content, kind), "name")


# Limits


def test_decompression_bombs():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 1, GRAY, 0, 0, 0)
    bomb = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND")
    with pytest.raises(BadExampleError) as caught:
        decoded(bomb, "bomb.png")
    says = "its 100,000x100,000 pixels are more than 250,000,000; --max-pixels allows others"
    assert str(caught.value) == f"cannot decode bomb.png: {says}"
    assert MOST_PIXELS == 250_000_000


FORMATS = {
    kind: encoded(NOISE, kind, **({"lossless": True} if kind == "WEBP" else {})) for kind in ("PNG", "WEBP", "TIFF")
}
FORMATS["JPEG"] = WHOLE["jpeg"]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_limit_of_pixels_is_ours(kind, monkeypatch):
    """Pillow's limit, which warns above it and raises above twice it, is not applied, and is left unchanged."""
    with pytest.raises(
        BadExampleError, match=r"cannot decode x: its 13x11 pixels are more than 142; --max-pixels allows"
    ):
        pixels(FORMATS[kind], "x", 142)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    image, highest = pixels(FORMATS[kind], "x", 143)
    assert highest is None
    assert Image.MAX_IMAGE_PIXELS == 7
    np.testing.assert_array_equal(image, decoded(FORMATS[kind], "x"))


def test_pillows_limit_stays_whatever_threads_decode(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    bad = []

    def decode():
        for _ in range(30):
            for content in FORMATS.values():
                if decoded(content, "x").shape != NOISE.shape:
                    bad.append(content)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad
    assert Image.MAX_IMAGE_PIXELS == 7


# 16 bits


def deep(*values, color=GRAY):
    return png(len(values) // (1 if color == GRAY else 3), color, 16, [struct.pack(f">{len(values)}H", *values)])


def test_the_highest_value_of_16_bits():
    assert pixels(deep(0, 4095, 17), "x")[1] == 4095
    assert pixels(deep(0, 65535, 17), "x")[1] == 65535
    assert pixels(deep(0, 0x0F12, 17, color=RGB), "x")[1] == 0x0FFF  # an upper bound, as low bytes are not read
    assert pixels(png(1, GRAY, 8, [[7]]), "x")[1] is None
    assert pixels(tiff(">", entries(2, 1, [16], BLACK_IS_ZERO), struct.pack(">2H", 3, 700)), "x")[1] == 700
    twelve = tiff("<", entries(2, 1, [12], BLACK_IS_ZERO), bytes([0x12, 0x3F, 0xFF]))
    assert pixels(twelve, "x")[1] is None  # the file states its range of values


@pytest.mark.parametrize("bits", range(8, 17))
def test_the_bits_that_are_used(bits):
    most = 2**bits - 1
    image, highest = pixels(deep(0, most, most // 2, 2 ** (bits - 8)), "x", bits=bits)
    assert image[0, :, 0].tolist() == [0, 255, 127, 1]
    assert highest == (65535 if bits == 16 else None)
    if bits < 16:
        with pytest.raises(BadExampleError) as caught:
            pixels(deep(0, most + 1), "x", bits=bits)
        assert str(caught.value) == (
            f"cannot decode x: its values reach {most + 1:,}, over the {most:,} of --image-bits {bits}"
        )
        with pytest.raises(
            BadExampleError, match=r"cannot decode x: it has colors of 16 bits, of which the upper 8 are"
        ):
            pixels(deep(0, 1, 2, color=RGB), "x", bits=bits)
    assert pixels(png(1, GRAY, 8, [[7]]), "x", bits=bits)[0].tolist() == [[[7]]]
