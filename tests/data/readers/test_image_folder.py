"""Folders of one's own images: every kind of PNG and JPEG against values by hand, layouts, captions, damage."""

import hashlib
import io
import json
import os
import pickle
import re
import struct
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.options import Options
from jaxgen.data.readers import image_folder
from jaxgen.data.readers.image_folder import decoded, identity, read
from jaxgen.data.source import BadExampleError
from jaxgen.errors import UserError

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, colour, depth, rows, *chunks):
    """A PNG file made without Pillow, of rows of packed samples."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*x) for x in chunks), chunk(b"IDAT", content), chunk(b"IEND")]
    return SIGNATURE + b"".join(parts)


def unpng(content):
    """The pixels of a whole 8-bit RGB or RGBA PNG file that is not interlaced, decoded without Pillow."""
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    assert depth == 8
    assert content[28] == 0
    pixel = {RGB: 3, RGB_ALPHA: 4}[colour]
    compressed, position = b"", 8
    while position < len(content):
        (size,) = struct.unpack(">I", content[position : position + 4])
        if content[position + 4 : position + 8] == b"IDAT":
            compressed += content[position + 8 : position + 8 + size]
        position += 12 + size
    lines = np.frombuffer(zlib.decompress(compressed), np.uint8).reshape(height, 1 + width * pixel)
    out = np.zeros((height + 1, width + 1, pixel), np.uint8)  # with a row and a column of zeros before
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
        pytest.param(png(3, GREY, 8, [[0, 7, 255]]), [[[0], [7], [255]]], id="grey"),
        pytest.param(png(3, GREY, 1, [[0b01000000]]), [[[0], [255], [0]]], id="grey, 1 bit"),
        pytest.param(png(4, GREY, 2, [[0b00011011]]), [[[0], [85], [170], [255]]], id="grey, 2 bits"),
        pytest.param(
            png(3, GREY, 16, [b"\x12\x34\xff\xff\x00\xff"]), [[[0x12], [255], [0]]], id="grey, 16 bits: the high byte"
        ),
        pytest.param(png(2, GREY, 8, [[7, 9]], (b"tRNS", b"\0\7")), [[[255], [9]]], id="grey, 7 transparent"),
        pytest.param(png(2, GREY, 1, [[0b01000000]], (b"tRNS", b"\0\0")), [[[255], [255]]], id="1 bit, 0 transparent"),
        # 51 is a fifth of 255: 255 * 4 / 5 + 100 / 5 = 224
        pytest.param(png(3, GREY_ALPHA, 8, [[9, 255, 9, 0, 100, 51]]), [[[9], [255], [224]]], id="grey and alpha"),
        pytest.param(png(1, GREY_ALPHA, 16, [b"\x12\x34\xff\xff"]), [[[0x12] * 3]], id="grey and alpha, 16 bits: RGB"),
        pytest.param(png(2, RGB, 8, [[1, 2, 3, 4, 5, 6]]), [[[1, 2, 3], [4, 5, 6]]], id="RGB"),
        pytest.param(png(1, RGB, 16, [b"\x01\xff\x02\0\xff\xff"]), [[[1, 2, 255]]], id="RGB, 16 bits: the high bytes"),
        pytest.param(
            png(2, RGB, 8, [[1, 2, 3, 4, 5, 6]], (b"tRNS", b"\0\1\0\2\0\3")),
            [[[255, 255, 255], [4, 5, 6]]],
            id="RGB, a colour transparent",
        ),
        pytest.param(
            png(3, RGB_ALPHA, 8, [[1, 2, 3, 255, 1, 2, 3, 0, 0, 100, 255, 51]]),
            [[[1, 2, 3], [255, 255, 255], [204, 224, 255]]],
            id="RGB and alpha",
        ),
        pytest.param(
            png(2, PALETTE, 8, [[1, 0]], (b"PLTE", bytes([1, 2, 3, 7, 7, 7]))),
            [[[7, 7, 7], [1, 2, 3]]],
            id="palette, also of greys: RGB",
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
    """One colour survives JPEG, but for rounding."""
    for colour in ([200, 30, 90], [0, 0, 0], [255, 255, 0]):
        image = decoded(encoded(np.full((5, 9, 3), colour), "JPEG", quality=100), "name")
        assert image.shape == (5, 9, 3)
        assert np.abs(image.astype(int) - colour).max() <= 2
    grey = decoded(encoded(np.full((5, 9), 77), "JPEG", quality=100), "name")
    assert grey.shape == (5, 9, 1)
    assert np.abs(grey.astype(int) - 77).max() <= 1
    for inks, colour in {(255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 0): (255,) * 3, (0, 0, 0, 255): (0,) * 3}.items():
        file = io.BytesIO()
        Image.new("CMYK", (9, 5), inks).save(file, "JPEG", quality=100)
        image = decoded(file.getvalue(), "name")
        assert image.shape == (5, 9, 3)
        assert np.abs(image.astype(int) - colour).max() <= 2


# What turns a stored image upright, by the definitions of EXIF 2.3, section 4.6.4
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
    grey = UPRIGHT[orientation](NOISE[..., :1])
    np.testing.assert_array_equal(decoded(encoded(NOISE[..., 0], exif=exif), "name"), grey)
    photo = encoded(NOISE, "JPEG", quality=100, subsampling=0)
    turned = encoded(NOISE, "JPEG", quality=100, subsampling=0, exif=exif)
    np.testing.assert_array_equal(decoded(turned, "name"), UPRIGHT[orientation](decoded(photo, "name")))


@pytest.mark.parametrize("depth", [8, 16])
def test_16_bits_are_turned_too(depth):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = png(
        2, GREY, depth, [[1, 2], [3, 4]] if depth == 8 else [b"\1\0\2\0", b"\3\0\4\0"], (b"eXIf", exif.tobytes()[6:])
    )
    assert decoded(file, "name")[..., 0].tolist() == [[3, 1], [4, 2]]


WHOLE = {
    "png": encoded(NOISE),
    "jpeg": encoded(NOISE, "JPEG"),
    "progressive jpeg": encoded(NOISE, "JPEG", progressive=True),
    "smooth jpeg": encoded(np.add.outer(np.arange(100), np.arange(60)), "JPEG"),
    "grey jpeg": encoded(np.full((40, 40), 7), "JPEG"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_cut_off_anywhere_is_refused(kind):
    for length in range(len(WHOLE[kind])):
        with pytest.raises(
            BadExampleError, match=r"^cannot decode cut/off.png \(.+\): replace it by a whole PNG or JPEG"
        ):
            decoded(WHOLE[kind][:length], "cut/off.png")


def test_a_flipped_bit_of_a_png_is_never_shown():
    """Of few colours, where decoding alone passes over most."""
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
        (b"a text", "neither PNG nor JPEG"),
        (encoded(NOISE, "GIF"), "neither PNG nor JPEG"),
        (encoded(NOISE, "TIFF"), "neither PNG nor JPEG"),
    ],
)
def test_other_files_are_refused(content, reason):
    with pytest.raises(BadExampleError) as caught:
        decoded(content, "x.png")
    assert str(caught.value) == (f"cannot decode x.png ({reason}): replace it by a whole PNG or JPEG, or remove it")


def test_what_follows_the_image_does_not_matter():
    np.testing.assert_array_equal(decoded(WHOLE["png"] + b"more", "name"), NOISE)
    decoded(WHOLE["jpeg"] + b"more", "name")


def test_decompression_bombs():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 1, GREY, 0, 0, 0)
    bomb = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND")
    with pytest.raises(BadExampleError, match=r"bomb.png .*10000000000 pixels"):
        decoded(bomb, "bomb.png")


def test_over_the_limit_of_pixels(monkeypatch):
    """Pillow warns of what is over it, and refuses what is over twice the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11 * 13 - 1)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(BadExampleError, match=r"x.png \(13x11 pixels are over the 142 allowed\)"),
    ):
        decoded(WHOLE["png"], "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11 * 13)
    np.testing.assert_array_equal(decoded(WHOLE["png"], "x.png"), NOISE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(decoded(WHOLE["png"], "x.png"), NOISE)


def test_real_images():
    """Rows of real PNG files, of many filters, against the decoder above."""
    root = os.environ.get("JAXGEN_TEST_DATA")
    if not root:
        pytest.skip("needs JAXGEN_TEST_DATA")
    options = Options("image_folder", str(Path(root) / "cifar10_first4000"))
    source = read(options)
    assert {split: len(source.splits[split]) for split in source.splits} == {"train": 2, "validation": 1, "test": 1}
    assert source.classes == ()
    images = [example["image"] for records in source.splits.values() for example in records]
    assert [image.shape for image in images] == [(1000, 1024, 3)] * 4
    with Image.open(Path(options.data_from) / source.splits["test"].paths[0]) as image:
        part = image.crop((0, 100, 300, 160))
    assert len(set(part.tobytes())) > 200
    file = io.BytesIO()
    part.save(file, "PNG")
    np.testing.assert_array_equal(unpng(file.getvalue()), decoded(file.getvalue(), "part"))
    np.testing.assert_array_equal(unpng(file.getvalue()), source.splits["test"][0]["image"][100:160, :300])


def save(folder, *paths):
    """Images of one grey each, which counts up from 0."""
    for value, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if path.lower().endswith("png") else "JPEG"
        (folder / path).write_bytes(
            encoded(np.full((2, 3), value), kind, **({"quality": 100} if kind == "JPEG" else {}))
        )


def source(folder):
    return read(Options("image_folder", str(folder)))


def contents(records):
    """The grey of each image, with its label and caption if there are any."""
    examples = [dict(example) for example in records]
    for example in examples:
        image = example.pop("image")
        assert image.shape == (2, 3, 1)
        assert len(np.unique(image)) == 1
        example["grey"] = int(image[0, 0, 0])
    return [tuple(example[name] for name in ("grey", "label", "caption") if name in example) for example in examples]


def paths(read_source):
    return {split: list(records.paths) for split, records in read_source.splits.items()}


def message(folder):
    """The one line that tells what is wrong with a folder."""
    with pytest.raises(UserError) as caught:
        source(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SPLIT = [f"{split}/{i}.png" for split in ("train", "validation", "test") for i in range(2)]


def test_flat_split_folders(tmp_path):
    save(tmp_path, *SPLIT)
    got = source(tmp_path)
    assert list(got.splits) == ["train", "validation", "test"]
    assert {split: contents(x) for split, x in got.splits.items()} == {
        "train": [(0,), (1,)],
        "validation": [(2,), (3,)],
        "test": [(4,), (5,)],
    }
    assert got.classes == ()
    assert got.note == f"6 images of the folder {tmp_path}, in its own split folders"


def test_split_folders_with_classes(tmp_path):
    save(
        tmp_path,
        "TEST/cat/a.png",
        "val/cat/b.JPG",
        "val/dog/c.png",
        "Train/dog/x/d.jpeg",
        "Train/cat/e.PNG",
        "TEST/dog/f.png",
    )
    got = source(tmp_path)
    assert {split: contents(x) for split, x in got.splits.items()} == {
        "train": [(4, 0), (3, 1)],
        "validation": [(1, 0), (2, 1)],
        "test": [(0, 0), (5, 1)],
    }
    assert got.classes == ("cat", "dog")


def test_class_subfolders_in_natural_order(tmp_path):
    save(tmp_path, "10/a.png", "9/b.png", "9/deeper/c.png", "x2/d.png", "x10/e.png", "1/f.png")
    got = source(tmp_path)
    assert got.classes == ("1", "9", "10", "x2", "x10")
    everything = [x for split in got.splits.values() for x in contents(split)]
    assert sorted(everything) == [(0, 2), (1, 1), (2, 1), (3, 3), (4, 4), (5, 0)]


def test_natural_order_of_paths(tmp_path):
    names = ["10.png", "9.png", "09.png", "a10b2.png", "a10b10.png", "a9.png", "b/1.png", "b!.png"]
    save(tmp_path, *(f"train/x/{name}" for name in names), "val/x/0.png", "test/x/0.png")
    order = [path.removeprefix("train/x/") for path in source(tmp_path).splits["train"].paths]
    # b, a folder, is before b!.png, and 09 before 9, as text is
    assert order == ["09.png", "9.png", "10.png", "a9.png", "a10b2.png", "a10b10.png", "b/1.png", "b!.png"]


def test_a_class_may_be_called_as_a_split(tmp_path):
    save(tmp_path, "car/a.png", "plane/b.png", "train/c.png")
    assert source(tmp_path).classes == ("car", "plane", "train")


def share(path):
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") / 2**32


def test_drawn_splits(tmp_path):
    """The images are never opened to read a folder, so they can be empty here."""
    names = [f"é{i}.png" for i in range(400)]
    for name in names[:300]:
        (tmp_path / name).touch()
    before = paths(source(tmp_path))
    assert before == {
        "train": [name for name in names[:300] if share(name) >= 0.2],
        "validation": [name for name in names[:300] if 0.1 <= share(name) < 0.2],
        "test": [name for name in names[:300] if share(name) < 0.1],
    }
    assert 15 < len(before["test"]) < 45
    for name in names[300:]:
        (tmp_path / name).touch()
    after = paths(source(tmp_path))
    for split in before:
        assert set(before[split]) <= set(after[split])
    assert (
        source(tmp_path).note == f"400 images of the folder {tmp_path}, split about 80/10/10 by a hash of their paths"
    )


@pytest.mark.parametrize("count", range(3, 12))
@pytest.mark.parametrize("letter", "abcd")
def test_few_images(tmp_path, count, letter):
    """Each split has one at least: the ones of the least hashes are for testing, the next for validation."""
    for i in range(count):
        (tmp_path / f"{letter}{i}.png").touch()
    splits = paths(source(tmp_path))
    names = sorted((f"{letter}{i}.png" for i in range(count)), key=share)
    assert sorted(chain(*splits.values())) == sorted(names)
    assert all(splits.values())
    assert [*sorted(splits["test"], key=share), *sorted(splits["validation"], key=share)] == (
        names[: len(splits["test"]) + len(splits["validation"])]
    )


@pytest.mark.parametrize(("low", "high"), [(0, 0.1), (0.1, 0.2), (0.2, 1), (0, 0.2)])
def test_images_of_one_share(tmp_path, low, high):
    names = [name for name in (f"{i}.png" for i in range(200)) if low <= share(name) < high][:3]
    for name in names:
        (tmp_path / name).touch()
    test, validation, train = sorted(names, key=share)
    assert paths(source(tmp_path)) == {"train": [train], "validation": [validation], "test": [test]}


def test_too_few_images(tmp_path):
    save(tmp_path, "a.png")
    needed = "at least 3 are needed, one for each of train, validation, test"
    assert message(tmp_path) == f"{tmp_path} holds 1 image: {needed}"
    save(tmp_path, "a.png", "b.png")
    assert message(tmp_path) == f"{tmp_path} holds 2 images: {needed}"
    save(tmp_path, "a.png", "b.png", "c.png")
    assert [len(x) for x in source(tmp_path).splits.values()] == [1, 1, 1]


def test_no_folder(tmp_path):
    needed = "a folder of PNG or JPEG images"
    for function in (read, identity):
        with pytest.raises(UserError) as caught:
            function(Options("image_folder"))
        assert str(caught.value) == (
            f"image_folder needs {needed}: name it by --data-from FOLDER (--from in `jaxgen data`)"
        )
    named = f"--data-from (--from in `jaxgen data`) has to name {needed}"
    assert message(tmp_path / "no") == f"there is no folder {tmp_path / 'no'}: {named}"
    (tmp_path / "file.png").touch()
    assert message(tmp_path / "file.png") == f"{tmp_path / 'file.png'} is a file: {named}"
    assert message(tmp_path / "file.png" / "x") == f"there is no folder {tmp_path / 'file.png' / 'x'}: {named}"


def test_no_images(tmp_path):
    expected = f"{tmp_path} holds no image (.png, .jpg, .jpeg), nor do its subfolders"
    assert message(tmp_path) == expected
    (tmp_path / "cat").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".a.png").touch()
    (tmp_path / "captions.jsonl").touch()
    assert message(tmp_path) == expected


def test_mixed_layouts(tmp_path):
    save(tmp_path, "cat/a.png", "dog/b.png", "c.png")
    mends = "put either all or none of the images into class subfolders"
    assert message(tmp_path) == f"{tmp_path} mixes loose images (c.png) and subfolders of images (cat): {mends}"
    inner = tmp_path / "inner"
    save(inner, "train/cat/a.png", "train/b.png", "val/cat/c.png", "test/cat/d.png")
    assert message(inner) == f"{inner / 'train'} mixes loose images (b.png) and subfolders of images (cat): {mends}"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train/a.png", "test/b.png"], "test, train"),
        (["train/a.png", "val/b.png", "cat/c.png"], "train, val"),
        (["train/a.png", "val/b.png", "validation/c.png", "test/d.png"], "test, train, val, validation"),
        (["train/a.png"], "train"),
        (["train/a.png", "b.png"], "train"),
    ],
)
def test_split_folders_missing_or_twice(tmp_path, names, found):
    save(tmp_path, *names)
    assert message(tmp_path) == (
        f"{tmp_path} has the split folders {found}: "
        "each of train, validation (or val) and test is needed once, with images"
    )


def test_images_beside_split_folders(tmp_path):
    for name in ("a.png", "cat/a.png"):
        save(tmp_path, *SPLIT, name)
        assert message(tmp_path) == (
            f"{tmp_path} has {name} beside the split folders test, train, validation: move it into one of them, or out"
        )
        (tmp_path / name).unlink()


def test_classes_of_splits_differ(tmp_path):
    save(tmp_path, "train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/dog/d.png", "test/cat/e.png")
    assert message(tmp_path) == (
        f"{tmp_path / 'train'} has images of the class dog, {tmp_path / 'test'} has not: "
        "all splits need the same class subfolders"
    )
    save(tmp_path, "test/dog/e.png", "val/eel/f.png")
    assert message(tmp_path) == (
        f"{tmp_path / 'val'} has images of the class eel, {tmp_path / 'train'} has not: "
        "all splits need the same class subfolders"
    )


def test_hidden_and_other_files_are_passed_over(tmp_path):
    save(tmp_path, "a.png", "b.png", "c.png")
    before = paths(source(tmp_path)), identity(Options("image_folder", str(tmp_path)))
    for name in (
        ".DS_Store",
        "._a.png",
        ".hidden/d.png",
        "__MACOSX/._a.png",
        "notes.txt",
        "e.gif",
        "png",
        "x/captions.jsonl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    (tmp_path / "empty").mkdir()
    assert (paths(source(tmp_path)), identity(Options("image_folder", str(tmp_path)))) == before


def test_links(tmp_path):
    folder = tmp_path / "folder"
    save(folder, "cat/a.png", "cat/b.png")
    save(tmp_path / "elsewhere", "c.png", "deeper/d.png")
    (folder / "dog").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "loop").symlink_to(folder)
    (tmp_path / "elsewhere" / "deeper" / "loop").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "e.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    got = source(folder)
    assert sorted(chain(*paths(got).values())) == [
        "cat/a.png",
        "cat/b.png",
        "cat/e.png",
        "dog/c.png",
        "dog/deeper/d.png",
    ]
    assert got.classes == ("cat", "dog")
    (folder / "cat" / "f.png").symlink_to(tmp_path / "nothing.png")
    assert message(folder) == (
        f"cannot read {folder / 'cat' / 'f.png'} (No such file or directory): "
        f"make it readable, or move it out of {folder}"
    )


def test_unreadable_folder(tmp_path, monkeypatch):
    save(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png")
    scandir = os.scandir

    def refuse(path):  # even if root, who may look everywhere, runs the tests
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    expected = f"cannot read {tmp_path / 'dog'} (Permission denied): make it readable, or move it out of {tmp_path}"
    assert message(tmp_path) == expected
    with pytest.raises(UserError, match=re.escape(expected)):
        identity(Options("image_folder", str(tmp_path)))


def test_bad_examples_name_their_file(tmp_path):
    save(tmp_path, *SPLIT)
    (tmp_path / "train" / "0.png").write_bytes(b"")
    (tmp_path / "train" / "1.png").write_bytes(WHOLE["jpeg"][:-9])
    (tmp_path / "train" / "2.png").write_bytes(WHOLE["jpeg"])  # the content counts, not the name
    train = source(tmp_path).splits["train"]
    mends = "replace it by a whole PNG or JPEG, or remove it"
    with pytest.raises(BadExampleError) as caught:
        train[0]
    assert str(caught.value) == f"cannot decode {tmp_path}/train/0.png (empty): {mends}"
    with pytest.raises(BadExampleError, match=r"^cannot decode .*/train/1.png \(image file is truncated .*\): "):
        train[1]
    assert train[2]["image"].shape == NOISE.shape
    (tmp_path / "train" / "2.png").unlink()
    with pytest.raises(BadExampleError) as caught:
        train[2]
    assert str(caught.value) == (
        f"cannot read {tmp_path}/train/2.png (No such file or directory): make it readable, or remove it"
    )


def test_records(tmp_path, monkeypatch):
    """They end, can be pickled, and do not mind another working folder."""
    save(tmp_path / "x", "train/cat/a.png", "val/cat/a.png", "test/cat/a.png")
    monkeypatch.chdir(tmp_path)
    train = source("x").splits["train"]
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(train))
    assert contents(copy) == contents(train) == [(0, 0)]
    assert len(copy) == 1
    assert copy[np.int64(0)]["label"] == 0
    with pytest.raises(IndexError):
        copy[1]


def captions(folder, *lines):
    (folder / "captions.jsonl").write_text("\n".join(lines), "utf-8")


def line(file, caption):
    return json.dumps({"file": file, "caption": caption})


def test_captions(tmp_path):
    save(tmp_path, "train/x/a.png", "val/x/b.png", "test/x/c.png", "train/x/d.png")
    captions(
        tmp_path,
        "\ufeff" + line("test/x/c.png", "see"),
        '{"file": "train/x/a.png", "caption": "\u00e9\u2028 a", "more": 1}\r',
        "",
        line("./train//x/d.png", ""),
        line("val/x/b.png", "bee"),
        "",
    )
    got = source(tmp_path)
    assert {split: contents(x) for split, x in got.splits.items()} == {
        "train": [(0, 0, "é\u2028 a"), (3, 0, "")],
        "validation": [(1, 0, "bee")],
        "test": [(2, 0, "see")],
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{'file': 'c.png'}", '{where} is no JSON: it has to be like {{"file": "a.png", "caption": "a cat"}}'),
        ("[" * 100_000, '{where} is no JSON: it has to be like {{"file": "a.png", "caption": "a cat"}}'),
        ('["c.png", "c"]', '{where} lacks a text "file" or "caption": it has to be an object with both'),
        ('{"file": "c.png"}', '{where} lacks a text "file" or "caption": it has to be an object with both'),
        (
            '{"file": "c.png", "caption": null}',
            '{where} lacks a text "file" or "caption": it has to be an object with both',
        ),
        (line("d.png", "d"), "{where} is a caption without image: there is no image d.png in {folder}"),
        (line("../c.png", "d"), "{where} is a caption without image: there is no image ../c.png in {folder}"),
        (line("a.png", "again"), "{where} is a second caption of a.png: an image has one"),
        ("", "{path} leaves c.png an image without caption: every image needs a line, or remove it"),
    ],
)
def test_wrong_captions(tmp_path, wrong, says):
    save(tmp_path, "a.png", "b.png", "c.png")
    captions(tmp_path, line("a.png", "a"), line("b.png", "b"), wrong)
    path = tmp_path / "captions.jsonl"
    assert message(tmp_path) == says.format(path=path, where=f"line 3 of {path}", folder=tmp_path)


def test_captions_that_cannot_be_read(tmp_path, monkeypatch):
    save(tmp_path, "a.png", "b.png", "c.png")
    path = tmp_path / "captions.jsonl"
    path.write_bytes(b'{"file": "a.png", "caption": "\xff"}')
    assert message(tmp_path) == f"{path} is not UTF-8 text (byte 30): save it as UTF-8"

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(image_folder, "open", refuse, raising=False)
    assert message(tmp_path) == f"cannot read {path} (Permission denied): make it readable, or remove it"


def test_identity(tmp_path):
    options = Options("image_folder", str(tmp_path / "x"))
    save(tmp_path / "x", "cat/a.png", "cat/b.png", "dog/c.png")
    seen = [identity(options)]

    def has_changed():
        seen.append(identity(options))
        return seen[-1] not in seen[:-1]

    assert not has_changed()
    os.utime(tmp_path / "x" / "cat" / "a.png", ns=(1, 10**18))
    assert has_changed()
    os.utime(tmp_path / "x" / "cat" / "a.png", ns=(1, 10**18 + 1))
    assert has_changed()
    (tmp_path / "x" / "cat" / "a.png").write_bytes(b"other")
    os.utime(tmp_path / "x" / "cat" / "a.png", ns=(1, 10**18 + 1))
    assert has_changed()
    (tmp_path / "x" / "cat").rename(tmp_path / "x" / "cow")
    assert has_changed()
    captions(tmp_path / "x", "{}")
    assert has_changed()
    captions(tmp_path / "x", "{} ")
    assert has_changed()
    (tmp_path / "x" / "dog" / "c.png").unlink()
    assert has_changed()
    # It is of the content, wherever that lies.
    (tmp_path / "x").rename(tmp_path / "y")
    assert identity(Options("image_folder", str(tmp_path / "y"))) == seen[-1]


def test_identity_by_hand(tmp_path):
    save(tmp_path, "b10.png", "b9.png")
    for name in ("b10.png", "b9.png"):
        os.utime(tmp_path / name, ns=(7, 7))
    sizes = {name: (tmp_path / name).stat().st_size for name in ("b10.png", "b9.png")}
    lines = "".join("\0".join([name, str(size), "7"]) + "\n" for name, size in sizes.items())
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert identity(Options("image_folder", str(tmp_path))) == expected


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"\xff.png")
    try:
        save(tmp_path, name, "b.png", "c.png")
    except OSError:
        pytest.skip("this file system takes text only")
    assert sorted(chain(*paths(source(tmp_path)).values())) == ["b.png", "c.png", name]
    assert len(identity(Options("image_folder", str(tmp_path)))) == 64
