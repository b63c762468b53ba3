"""Images of another system in every supported form, compared with the original images."""

import io
import pickle
import tarfile
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.data import Dataset
from jaxgen.data.readers.image_folder import folder_names
from jaxgen.errors import UserError
from jaxgen.evaluation.foreign import read_images
from jaxgen.model import Spec

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (7, 6, 5, 1), np.uint8)
COLOR = RNG.integers(0, 256, (7, 6, 5, 3), np.uint8)
GRAY.flat[:2] = COLOR.flat[:2] = 0, 255
CLASSES = ("T-shirt/top", "Trouser", "a.b", "caf\u00e9")


def dataset(channels, classes=()):
    spec = Spec({"image": jax.ShapeDtypeStruct((6, 5, channels), np.uint8)}, 9, len(classes) or None)
    return Dataset("mine", {"max_pixels": None}, spec, {}, {}, {}, "", "", classes)


def saved(tmp_path, array):
    np.savez(tmp_path / "theirs.npz", image=array)
    return tmp_path / "theirs.npz"


def refusal(path, of):
    with pytest.raises(UserError) as caught:
        read_images(path, of)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def alpha(images, value=255):
    return np.concatenate([images, np.full_like(images[..., :1], value)], axis=-1)


def first(images):
    return images.transpose(0, 3, 1, 2)


UNIT = (GRAY / 255).astype(np.float32)
AROUND_ZERO = (COLOR / 127.5 - 1).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "expected", "how"),
    [
        (GRAY, GRAY, ""),
        (GRAY[..., 0], GRAY, ""),
        (GRAY.repeat(3, -1), GRAY, "equal channels as gray"),
        (GRAY.astype(np.int64), GRAY, "int64 from 0 to 255 as levels"),
        (GRAY.astype(np.float64), GRAY, "float64 from 0 to 255 as levels"),
        (GRAY + np.float32(0.4), GRAY, "float32 from 0 to 255 as levels"),
        (UNIT, GRAY, "float32 from 0 to 1 as levels"),
        (UNIT.astype(np.float64)[..., 0], GRAY, "float64 from 0 to 1 as levels"),
        (UNIT.astype(np.float16), GRAY, "float16 from 0 to 1 as levels"),
        (UNIT * np.float32(1.0005) - np.float32(0.0003), GRAY, "float32 from 0 to 1 as levels"),
        (GRAY > 127, np.where(GRAY > 127, 255, 0), "bool from 0 to 1 as levels"),
        (first(GRAY), GRAY, "channels first"),
        (first(UNIT.repeat(3, -1)), GRAY, "channels first, float32 from 0 to 1 as levels, equal channels as gray"),
        (alpha(GRAY), GRAY, "opaque"),
        (alpha(GRAY.repeat(3, -1)), GRAY, "opaque, equal channels as gray"),
        (alpha(UNIT, 1), GRAY, "float32 from 0 to 1 as levels, opaque"),
        (np.zeros_like(UNIT), np.zeros_like(GRAY), "float32 from 0 to 1 as levels"),
        (np.zeros_like(GRAY), np.zeros_like(GRAY), ""),
        (COLOR, COLOR, ""),
        (first(COLOR), COLOR, "channels first"),
        (AROUND_ZERO, COLOR, "float32 from -1 to 1 as levels"),
        (first(AROUND_ZERO).astype(np.float64), COLOR, "channels first, float64 from -1 to 1 as levels"),
        (alpha(COLOR), COLOR, "opaque"),
        (first(alpha(COLOR)), COLOR, "channels first, opaque"),
        (alpha(AROUND_ZERO, 1), COLOR, "float32 from -1 to 1 as levels, opaque"),
    ],
)
def test_the_usual_forms_of_arrays(tmp_path, array, expected, how):
    values, labels, words = read_images(saved(tmp_path, array), dataset(expected.shape[-1]))
    assert values.dtype == np.uint8
    assert labels is None
    assert words == ", ".join(filter(None, ["read from an array", how]))
    np.testing.assert_array_equal(values, expected)
    np.save(tmp_path / "theirs.npy", array)
    np.testing.assert_array_equal(read_images(tmp_path / "theirs.npy", dataset(expected.shape[-1]))[0], expected)


def test_gray_images_for_a_dataset_in_color(tmp_path):
    values, _, words = read_images(saved(tmp_path, GRAY[..., 0]), dataset(3))
    np.testing.assert_array_equal(values, GRAY.repeat(3, -1))
    assert words == "read from an array, gray as color"


LEVELS = "; images are whole numbers from 0 to 255, or floats from 0 to 1 or from -1 to 1: scale and clip them"


@pytest.mark.parametrize(
    ("array", "channels", "says"),
    [
        (UNIT * 1.5, 1, f" holds float32 from 0 to 1.5{LEVELS}"),
        (UNIT * 1.3 - 0.3, 1, f" holds float32 from -0.3 to 1{LEVELS}"),
        (AROUND_ZERO * 1.1, 3, f" holds float32 from -1.1 to 1.1{LEVELS}"),
        (UNIT * 700, 1, f" holds float32 from 0 to 700{LEVELS}"),
        (GRAY.astype(int) - 128, 1, f" holds int64 from -128 to 127{LEVELS}"),
        ((GRAY > 127).astype(np.uint8), 1, f" holds uint8 from 0 to 1{LEVELS}"),
        ((GRAY > 127).astype(np.int64), 1, f" holds int64 from 0 to 1{LEVELS}"),
        (
            COLOR,
            1,
            " is in color, and mine is gray: make yours gray, or the dataset colored by --channels 3, whose scores "
            "rest on another extractor",
        ),
        (alpha(GRAY, 254), 1, " is transparent in places: blend it with the ground that it is to stand on"),
        (first(alpha(COLOR, 7)), 3, " is transparent in places: blend it with the ground that it is to stand on"),
        (
            GRAY.reshape(7, -1),
            1,
            " holds [7, 30], not images [num, height, width, channels] or [num, channels, height, width]; those of "
            "mine are 6x5",
        ),
    ],
)
def test_arrays_that_are_refused_with_advice(tmp_path, array, channels, says):
    assert refusal(saved(tmp_path, array), dataset(channels)) == says


# Files


def write(folder, images, names):
    for image, name in zip(images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / name)
    return folder


def zipped(folder, path):
    """Zips as `zip -r` does, with the folder itself on top, plus the files that macOS adds."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
        archive.writestr("__MACOSX/._0.png", b"x")
        archive.writestr(f"{folder.name}/.DS_Store", b"x")
    return path


NAMES = [
    f"{name}/{i}.png"
    for i, name in enumerate(["T-shirt_top", "Trouser", "a.b", "cafe\u0301", "a.b", "Trouser", "Trouser"])
]
LABELS = [0, 0, 1, 2, 2, 3, 1]


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("how", ["names", "numbers", "around"])
def test_a_folder_with_labels(tmp_path, how, as_zip):
    """Images are in natural order of their paths; folders are named by `folder_names` of the classes, or by numbers."""
    of = dataset(1, CLASSES)
    tops = dict(zip(folder_names(CLASSES), range(4), strict=True)) | {"cafe\u0301": 3}
    labels = [tops[name.split("/")[0]] for name in NAMES]
    names = [f"{label}/{name.split('/')[1]}" for label, name in zip(labels, NAMES, strict=True)]
    folder = write(
        tmp_path / "theirs" / ("samples" if how == "around" else ""), GRAY, names if how == "numbers" else NAMES
    )
    folder = tmp_path / "theirs"
    values, found, words = read_images(zipped(folder, tmp_path / "x.zip") if as_zip else folder, of)
    order = np.argsort(labels, kind="stable")
    assert found.dtype == np.int32
    assert found.tolist() == [labels[i] for i in order]
    np.testing.assert_array_equal(values, GRAY[order])
    assert words == "given as files"


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_files_of_the_datasets_channels(tmp_path, as_zip):
    """Gray images saved in color, in any lossless format, are read as gray; skipped files are reported."""
    folder = tmp_path / "theirs"
    names = [f"{i}.{suffix}" for i, suffix in enumerate(("png", "webp", "tiff", "PNG", "png", "tif", "png"))]
    write(folder, GRAY.repeat(3, -1), [n if not n.endswith("webp") else "1.png" for n in names])
    (folder / "1.png").unlink()
    Image.fromarray(GRAY[1].repeat(3, -1)).save(folder / "1.webp", lossless=True)
    Image.fromarray(GRAY[4, ..., 0]).save(folder / "4.png")
    (folder / "more").mkdir()
    (folder / "more" / "x.gif").write_bytes(b"")
    path = zipped(folder, tmp_path / "x.zip") if as_zip else folder
    values, labels, words = read_images(path, dataset(1, CLASSES))
    assert labels is None
    np.testing.assert_array_equal(values, GRAY)
    bare = f"folders without images: {'theirs/' * as_zip}more"
    assert words == f"given as files, equal channels as gray, {bare}; passed over: 1 .gif"
    values, _, words = read_images(path, dataset(3))
    np.testing.assert_array_equal(values, GRAY.repeat(3, -1))
    assert words == f"given as files, gray as color, {bare}; passed over: 1 .gif"


def test_classes_of_names_that_some_systems_refuse(tmp_path):
    """Folders may have the classes' names, in any Unicode normalization, or those of `folder_names`."""
    classes = ("a:b", "c?", "caf\u00e9: d", "e")
    for names in (["a:b", "c?", "cafe\u0301: d", "e"], folder_names(classes)):
        folder = write(tmp_path / names[1], GRAY[:4], [f"{name}/{i}.png" for i, name in enumerate(names)])
        assert read_images(folder, dataset(1, classes))[1].tolist() == [0, 1, 2, 3]


def test_folders_that_are_refused(tmp_path):
    of = dataset(1, CLASSES)
    folder = write(tmp_path / "theirs", GRAY[:3], ["Trouser/0.png", "4/1.png", "a.b/2.png"])
    assert refusal(folder, of) == ": subfolder '4' is no class of mine, but others are"
    folder = write(tmp_path / "numbers", GRAY[:3], ["0/0.png", "4/1.png", "2/2.png"])
    assert refusal(folder, of) == ": subfolder '4' is no class of mine, but others are"
    folder = write(tmp_path / "color", COLOR[:2], ["0.png", "1.png"])
    assert refusal(folder, of).startswith("/0.png is in color, and mine is gray: make yours gray, or the dataset ")
    folder = write(tmp_path / "sizes", [GRAY[0], GRAY[0, :5]], ["0.png", "1.png"])
    assert refusal(folder, of) == f"/1.png is 5x5x1, but {folder}/0.png is 6x5x1: all have to be alike"
    folder = write(tmp_path / "small", GRAY[:2, :4], ["0.png", "1.png"])
    with pytest.raises(UserError) as caught:
        read_images(folder, of)
    assert str(caught.value) == (
        f"the images of {folder} are 4x5x1, those of mine 6x5x1: --image-size, or --crop and --pad, bring the "
        "dataset's to the size of yours"
    )


def content(kind):
    file = io.BytesIO()
    if kind == "torch":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("samples/data.pkl", b"")
            archive.writestr("samples/data/0", b"")
    elif kind == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.png"))
    elif kind == "zip of texts":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", b"")
    elif kind == "objects":
        np.save(file, np.array([None]))
    else:
        Image.fromarray(COLOR[0]).save(file, kind)
    return file.getvalue()


ARRAY = ": save its images by numpy.savez(FILE, image=...), uint8 [num, height, width, channels]"
ALONE = " is an image, alone: name the folder that it lies in"
ARCHIVE = " is a compressed archive: unpack it, and name the folder"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        *((content(kind), ALONE) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF")),
        (content("torch"), f" is a PyTorch file{ARRAY}"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", f" is a PyTorch file{ARRAY}"),
        *((pickle.dumps([1], protocol), f" is a pickle{ARRAY}") for protocol in range(2, 6)),
        (b"\x1f\x8b\x08\0", ARCHIVE),
        (b"7z\xbc\xaf\x27\x1c", ARCHIVE),
        (b"Rar!\x1a\7\1\0", ARCHIVE),
        (content("tar"), " is a tar archive: unpack it, and name the folder"),
        (b"\x89HDF\r\n\x1a\n", f" is an HDF5 file{ARRAY}"),
        (b"MATLAB 5.0 MAT-file", f" is a MATLAB file{ARRAY}"),
        (b"PAR1", f" is a Parquet file{ARRAY}"),
        (b'\x10\0\0\0\0\0\0\0{"a":{}}', f" is a safetensors file{ARRAY}"),
        (b"1,2,3\n4,5,6\n", f" is no folder, zip, npz or npy file{ARRAY}"),
        (b"", f" is no folder, zip, npz or npy file{ARRAY}"),
        (
            content("zip of texts"),
            " holds no image (.png, .jpg, .jpeg, .jfif, .webp, .tif, .tiff), nor do its subfolders",
        ),
        (b"PK\3\4", " is no npy, npz or zip file that can be read (File is not a zip file)"),
        (content("torch")[:-9], " is no npy, npz or zip file that can be read (File is not a zip file)"),
        (
            content("objects"),
            " is no npy or npz file that can be read (Object arrays cannot be loaded when allow_pickle=False)",
        ),
    ],
)
def test_each_other_file_gets_a_line_of_its_own(tmp_path, file, says):
    """The message is one line whatever the file's name."""
    for name in ("theirs.npz", "theirs.pt", "theirs"):
        (tmp_path / name).write_bytes(file)
        assert refusal(tmp_path / name, dataset(3)) == says


def test_images_in_a_zip_that_cannot_be_read(tmp_path):
    folder = write(tmp_path / "theirs", GRAY[:2], ["0.png", "1.png"])
    path = zipped(folder, tmp_path / "x.zip")
    whole = path.read_bytes()
    at = whole.index(b"IDAT")  # within the first image, which is stored uncompressed
    path.write_bytes(whole[:at] + b"idat" + whole[at + 4 :])
    with pytest.raises(UserError, match=r"^cannot read .*x.zip/theirs/0.png \(Bad CRC-32.*\): unpack .*x.zip yourself"):
        read_images(path, dataset(1))
    locked = bytearray(whole)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # all files flagged as encrypted
        start = -1
        while (start := whole.find(mark, start + 1)) >= 0:
            locked[start + flags] |= 1
    path.write_bytes(bytes(locked))
    with pytest.raises(UserError, match=r"^cannot read .*x.zip/theirs/0.png \(.*encrypted.*\): unpack "):
        read_images(path, dataset(1))


@pytest.mark.parametrize("form", ["{}", "./{}", "/{}", "../{}"])
def test_paths_in_a_zip_as_other_systems_write_them(tmp_path, form):
    """Folders keep their labels: Windows PowerShell 5 writes backslashes."""
    folder = write(tmp_path / "theirs", GRAY[:3], ["1/a.png", "0/b.png", "1/c.png"])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in folder.rglob("*.png"):
            name = form.format(file.relative_to(folder))
            archive.writestr(name.replace("/", "\\") if form == "{}" else name, file.read_bytes())
        archive.writestr(form.format(".hidden/d.png"), b"no image")
        archive.writestr(form.format("notes.npy"), b"no image")
    values, labels, words = read_images(tmp_path / "x.zip", dataset(1, CLASSES))
    np.testing.assert_array_equal(values, GRAY[[1, 0, 2]])
    assert labels.tolist() == [0, 1, 1]
    assert words == "given as files, passed over: 1 .npy"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_images_of_one_name_in_a_zip(tmp_path):
    """Reading by name alone would score the last one twice."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a/1.png", "a\\1.png", "2.png"):
            archive.writestr(name, b"")
    assert refusal(tmp_path / "x.zip", dataset(1)) == " holds 2 files called a/1.png: give each a name of its own"


def test_arrays_that_do_not_fit_in_memory(tmp_path):
    np.save(tmp_path / "x.npy", GRAY)
    content = (tmp_path / "x.npy").read_bytes()
    assert content.count(b"(7, 6, 5, 1), }            ") == 1
    (tmp_path / "x.npy").write_bytes(content.replace(b"(7, 6, 5, 1), }            ", b"(7000000000000, 6, 5, 1), }"))
    assert "no npy or npz file that can be read (Unable to allocate" in refusal(tmp_path / "x.npy", dataset(1))


def test_arrays_of_other_names(tmp_path):
    np.savez(tmp_path / "x.npz", arr_0=GRAY, arr_1=np.zeros(7, int))
    says = " has no array 'image'; it holds arr_0, arr_1: name the images 'image', and their labels 'label'"
    assert refusal(tmp_path / "x.npz", dataset(1)) == says


def test_names_of_folders():
    assert folder_names(CLASSES) == ["T-shirt_top", "Trouser", "a.b", "caf\u00e9"]
    assert folder_names(["a/b", ".hidden", "dots..", "space ", "", "a\\b:c", "tab\t", "x"]) == [
        *("a_b", "_hidden", "dots._", "space_", "_", "a_b_c", "tab_", "x"),
    ]
    assert folder_names(["a/b", "a_b"]) == ["0 a_b", "1 a_b"]
    assert folder_names(["A", "b", "a"]) == ["0 A", "1 b", "2 a"]
    assert folder_names(["cafe\u0301"]) == ["caf\u00e9"]
