"""Parquet files of Hugging Face datasets: columns, splits, damage; against the same images in a folder."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxgen import data
from jaxgen.data.options import Options
from jaxgen.data.readers import hf_folder
from jaxgen.data.source import BadExampleError
from jaxgen.errors import UserError
from tests.data.test_image_files import encoded

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = [0, 0, 1, 1, 2, 2] * 2
NAMES = ["cat", "dog", "eel"]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": NAMES, "_type": "ClassLabel"},
    "text": {"dtype": "string", "_type": "Value"},
}
FILES = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")
ROWS = (range(4), range(4, 6), range(6, 12))
"""Rows of each file."""


def images_of(contents):
    return pa.array(
        [{"bytes": x, "path": None} for x in contents], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )


def columns_of(rows):
    """Columns as the datasets library writes them."""
    return {
        "image": images_of([encoded(IMAGES[i], "PNG") for i in rows]),
        "label": pa.array([LABELS[i] for i in rows], pa.int64()),
        "text": pa.array([f"a {NAMES[LABELS[i]]}" for i in rows]),
    }


def save(path, columns, features=FEATURES):
    """Writes a file of row groups of three rows."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features is not None else None
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path, row_group_size=3)


@pytest.fixture
def folder(tmp_path):
    """A dataset as the hub has it."""
    for name, rows in zip(FILES, ROWS, strict=True):
        save(tmp_path / "hub" / name, columns_of(rows))
    (tmp_path / "hub" / "README.md").write_text("A dataset card.")
    (tmp_path / "hub" / ".gitattributes").write_text("")
    return tmp_path / "hub"


def options(folder, **more):
    return Options("hf_folder", data_from=str(folder), **more)


def message(folder, **more):
    """The one-line error for a dataset."""
    with pytest.raises(UserError) as caught:
        data.load("hf_folder", data_from=str(folder), progress=False, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_are_read_as_they_were_written(folder):
    source = hf_folder.read(options(folder))
    assert source.classes == ("cat", "dog", "eel")
    np.testing.assert_array_equal([example["image"] for example in source.splits["test"]], IMAGES[6:])
    assert [example["label"] for example in source.splits["test"]] == LABELS[6:]
    rows = {}
    for split in ("train", "validation"):
        for example in pickle.loads(pickle.dumps(source.splits[split])):
            (row,) = np.flatnonzero((example["image"] == IMAGES).all((1, 2, 3)))
            rows[int(row)] = split
            assert (example["label"], example["caption"]) == (LABELS[row], f"a {NAMES[LABELS[row]]}")
    assert sorted(rows) == list(range(6))
    assert list(rows.values()).count("validation") == 3  # by chance: about a tenth of many
    assert source.note == (
        f"12 images of {folder}, in splits that their names tell, about a tenth of train for validation by a hash of "
        "their names: 3 train, 3 validation, 6 test; 3 classes: cat 4, dog 4, eel 4; "
        "labels from column label, captions from column text; passed over: 1 .md"
    )


def test_the_same_images_in_a_folder_have_the_same_fingerprint(folder, tmp_path):
    save(folder / "data" / "validation-00000-of-00001.parquet", columns_of(range(6)))
    lines = []
    for split, rows in (("train", range(6)), ("val", range(6)), ("test", range(6, 12))):
        for i in rows:
            path = tmp_path / "images" / split / NAMES[LABELS[i]] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(IMAGES[i], "PNG"))
            lines.append({"file": f"{split}/{NAMES[LABELS[i]]}/{i}.png", "caption": f"a {NAMES[LABELS[i]]}"})
    (tmp_path / "images" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    expected = data.load("image_folder", data_from=str(tmp_path / "images"), image_size=4, progress=False)
    for pipeline in ("memory", "grain"):
        found = data.load("hf_folder", data_from=str(folder), image_size=4, progress=False, pipeline=pipeline)
        assert found.fingerprint == expected.fingerprint
        assert found.streamed == (pipeline == "grain")
        np.testing.assert_array_equal(found.train["image"][[5, 0, 3]], expected.train["image"][[5, 0, 3]])
    assert found.vocabulary == expected.vocabulary
    assert "6 of validation are in train too" in found.note


def test_plain_columns_by_their_names(tmp_path):
    """Files without metadata: image files as bytes, texts as labels, several captions of an image."""
    columns = {
        "img_bytes": pa.array([encoded(image, "PNG") for image in IMAGES], pa.binary()),
        "class_name": pa.array([NAMES[label] for label in LABELS]).dictionary_encode(),
        "captions": pa.array([[f"a {NAMES[label]}", "it"] if label else ["a cat"] for label in LABELS]),
        "url": pa.array(["x"] * 12),
        "width": pa.array([5.0] * 12),
    }
    save(tmp_path / "all.parquet", columns, None)
    source = hf_folder.read(options(tmp_path))
    assert source.classes == tuple(NAMES)
    together = [example for records in source.splits.values() for example in records]
    assert len(together) == 12
    for example in together:
        row = np.flatnonzero((example["image"] == IMAGES).all((1, 2, 3)))[0]
        name = NAMES[LABELS[row]]
        assert (source.classes[example["label"]], example["caption"]) == (
            name,
            [f"a {name}", "it"] if LABELS[row] else "a cat",
        )
    assert "split about 80/10/10 by a hash of their names: " in source.note
    assert "columns passed over: url, width" in source.note
    alone = hf_folder.read(options(tmp_path / "all.parquet", split_blocks=4))
    assert [len(records) for records in alone.splits.values()] == [4, 4, 4]


def test_metadata_of_another_form_is_no_metadata(tmp_path):
    save(tmp_path / "all.parquet", columns_of(range(12)), ["image", "label"])
    assert hf_folder.read(options(tmp_path)).classes == ("0", "1", "2")


def test_columns_that_are_named(folder):
    features = {
        "img": {"_type": "Image"},
        "mask": {"_type": "Image"},
        "fine": {"names": NAMES, "_type": "ClassLabel"},
        "coarse": {"names": ["all"], "_type": "ClassLabel"},
        "said": {"dtype": "string", "_type": "Value"},
    }
    for name, rows in zip(FILES, ROWS, strict=True):
        made = columns_of(rows)
        zeros = pa.array([0] * len(rows))
        save(
            folder / name,
            {"img": made["image"], "mask": made["image"], "fine": made["label"], "coarse": zeros, "said": made["text"]},
            features,
        )
    assert message(folder) == (
        f"{folder / FILES[0]} has several columns of images, img, mask: name those to read, as in --columns img"
    )
    assert message(folder, columns=("mask", "fine", "coarse")).endswith(
        "has several columns of labels, fine, coarse: name those to read, as in --columns mask fine"
    )
    found = data.load("hf_folder", data_from=str(folder), columns=("mask", "coarse", "said"), progress=False)
    assert found.classes == ("all",)
    assert found.vocabulary.decode(found.test["caption"][2:4]) == ["a dog"] * 2
    assert "columns passed over: img, fine" in found.note
    assert data.load("hf_folder", progress=False, **found.options).fingerprint == found.fingerprint
    assert set(data.load("hf_folder", data_from=str(folder), columns=("img",), progress=False).train) == {"image"}


def test_images_that_cannot_be_decoded(folder):
    """Messages name the file and the row, and the images can be left out."""
    made = columns_of(ROWS[2])
    contents = [x["bytes"] for x in made["image"].to_pylist()]
    contents[4] = contents[4][:30]
    contents[5] = None
    save(folder / FILES[2], made | {"image": images_of(contents)})
    records = hf_folder.read(options(folder)).splits["test"]
    path = folder / FILES[2]
    for row, reason in ((4, f"cannot decode row 4 of {path} ("), (5, f"row 5 of {path} holds no image")):
        with pytest.raises(BadExampleError) as caught:
            records[row]
        assert str(caught.value).startswith(reason)
    assert message(folder).startswith(f"cannot decode row 4 of {path} (")
    found = data.load("hf_folder", data_from=str(folder), skip_bad=True, progress=False)
    np.testing.assert_array_equal(found.test["image"], IMAGES[6:10])
    assert "left out because they cannot be decoded: 2 of test" in found.note


def test_a_changed_file_is_read_anew(folder):
    def images():
        return [example["image"] for example in hf_folder.read(options(folder)).splits["test"]]

    before = hf_folder.identity(options(folder))
    assert hf_folder.identity(options(folder)) == before
    np.testing.assert_array_equal(images(), IMAGES[6:])
    save(folder / FILES[2], columns_of(range(6)))
    assert hf_folder.identity(options(folder)) != before
    np.testing.assert_array_equal(images(), IMAGES[:6])


def without(name):
    return {x: y for x, y in columns_of(ROWS[0]).items() if x != name}


def damaged(path):
    content = bytearray(path.read_bytes())
    content[-60:-20] = bytes(40)  # within the footer
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "{path} is damaged, cut short or cannot be read ("),
        (damaged, "{path} is damaged, cut short or cannot be read ("),
        (lambda path: path.write_bytes(b""), "{path} is no Parquet file: it is empty"),
        (lambda path: path.write_text("<html>"), "{path} is no Parquet file: it is of another format or damaged"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
            "{path} is a Git LFS pointer: `git lfs pull` gets the file",
        ),
        (lambda path: path.unlink(), "{folder} lacks 1 of the 2 shards of data/train, number 0 first: get them, or "),
        (
            lambda path: path.rename(path.with_name("train-00000-of-00003.parquet")),
            "{folder} holds shards of several versions of data/train: leave one, or name one by a pattern",
        ),
        (
            lambda path: save(path.parents[1] / "other" / path.name, without("")),
            "{folder} holds data/train and other/train, which are both for train: name one folder, or a pattern",
        ),
        (
            lambda path: save(path, without("image")),
            "{path} has no column of images to read; it has label (ClassLabel), text (string)",
        ),
        (lambda path: save(path, without("text")), "{other} has other columns or classes than {path}"),
        (
            lambda path: save(path, without(""), FEATURES | {"label": {"names": NAMES[::-1], "_type": "ClassLabel"}}),
            "{other} has other columns or classes than {path}",
        ),
        (
            lambda path: save(
                path, without(""), FEATURES | {"label": {"names": ["a", "b", "a"], "_type": "ClassLabel"}}
            ),
            "column label has several classes of one name, 'a'",
        ),
        (
            lambda path: save(path, without("") | {"label": pa.array([0, 1, -1, 0])}),
            "{folder} has the label -1, which is of no class, for train: leave labels out, by --columns image text, or",
        ),
        (
            lambda path: save(path, without("") | {"label": pa.array([0, 1, 7, 0])}),
            "{folder} has the label 7, of 3 classes, for train: leave labels out, by --columns image text, or",
        ),
        (
            lambda path: save(path, without("") | {"label": pa.array([0, 1, None, 0])}),
            "row 2 of {path} has no label in column label",
        ),
        (
            lambda path: save(path, without("") | {"text": pa.array(["a", None, "c", "d"])}),
            "row 1 of {path} has no caption in column text",
        ),
        (
            lambda path: save(path, without("") | {"text": pa.array([["a"], ["b"], ["c", None], ["d"]])}),
            "row 2 of {path} has no caption in column text",
        ),
        (
            lambda path: save(path, without("") | {"image": images_of([encoded(IMAGES[0, :3], "PNG")] * 4)}),
            "hf_folder, ",
        ),
        (
            lambda path: path.rename(path.with_name("train-test-0.parquet")),
            "{folder}/data/train-test is named after tr",
        ),
    ],
)
def test_what_is_refused(folder, change, expected):
    path = folder / FILES[0]
    change(path)
    assert message(folder).startswith(expected.format(path=path, other=folder / FILES[1], folder=folder))


def test_options_and_places_that_are_refused(folder, tmp_path):
    wanted = folder / FILES[0]
    assert message(folder, columns=("imge",)) == f"{wanted} has no column 'imge': did you mean image?"
    assert message(folder, columns=("text",)).startswith(
        f"{wanted} has no column of images to read; it has image (Image"
    )
    assert message(folder / "data" / "test*") == f"{folder / 'data'} holds shards for test, and none for training"
    assert message(tmp_path / "absent").startswith(f"there is no folder or file {tmp_path / 'absent'}: --data-from")
    (tmp_path / "arrow").mkdir()
    (tmp_path / "arrow" / "data-00000-of-00001.arrow").touch()
    assert message(tmp_path / "arrow") == (
        f"{tmp_path / 'arrow'} holds no .parquet file: save the dataset as Parquet files, by its method to_parquet"
    )
    with pytest.raises(UserError, match=r"^hf_folder needs a folder of \.parquet files: name it by --data-from FOLDER"):
        data.load("hf_folder")
    with pytest.raises(UserError, match=r"^dataset digits is not read from Parquet files of yours, so columns is not"):
        data.load("digits", columns=("image",))
