"""NLVR: a synthetic copy with every kind of fault, and the real one against its own description of the scenes."""

import hashlib
import io
import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.options import Options
from jaxgen.data.readers import nlvr
from jaxgen.data.source import BadExampleError
from jaxgen.errors import UserError

OPTIONS = Options("nlvr")
COMMAND = "jaxgen data prepare nlvr --from FOLDER"


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """Gives each test its own cache, so that it prepares the data itself."""
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "cache"))


# Map from part to (sentence, label). Scenes 1 and 2 of dev have pictures of the same boxes, see `written`.
SCENES = {
    "dev": [("There is a box.", "true"), ("A black square!", "false"), ("there is  A BOX", "false")],
    "test": [("Two towers.", "true"), ("Three towers", "true"), ("Four é towers", "false")],
    "hidden": [("two Towers", "false"), *((f"There are {i} blocks", "true") for i in range(12))],
}


def boxes(part, scene):
    """Gray level of each of a scene's three boxes."""
    if part == "dev" and scene < 2:
        return 1, 2, 3
    number = 3 * [*itertools.accumulate((len(x) for x in SCENES.values()), initial=0)][list(SCENES).index(part)]
    return tuple(number + 3 * scene + i + 10 for i in range(3))


def png(values, alpha=255):
    image = np.full((100, 400, 4), 211, np.uint8)
    for slot, value in enumerate(values):
        image[:, 150 * slot : 150 * slot + 100, :3] = value
    image[..., 3] = alpha
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A synthetic NLVR: FOLDER/nlvr/dev/dev.json and so on."""
    folder = tmp_path_factory.mktemp("made-up")
    for part, scenes in SCENES.items():
        (folder / "nlvr" / part / "images" / "0").mkdir(parents=True)
        rows = [
            {"sentence": sentence, "identifier": f"{10 + i}-{i % 4}", "label": label, "structured_rep": []}
            for i, (sentence, label) in enumerate(scenes)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "nlvr" / part / f"{part}.json").write_text(lines)
        for i, row in enumerate(rows):
            for order, values in enumerate(itertools.permutations(boxes(part, i))):
                path = folder / "nlvr" / part / "images" / "0" / f"{part}-{row['identifier']}-{order}.png"
                path.write_bytes(png(values))
    (folder / "README.md").write_text("read me")
    (folder / "nlvr" / "train").mkdir()
    (folder / "nlvr" / "train" / "train.json").write_text("not read")
    return folder


@pytest.fixture
def small(written, tmp_path, monkeypatch):
    """A copy to modify, with NLVR's expected sizes reduced to match."""
    monkeypatch.setattr(nlvr, "SCENES", {part: len(scenes) for part, scenes in SCENES.items()})
    shutil.copytree(written, tmp_path / "small")
    return tmp_path / "small"


def archive(folder, path, *more):
    """Makes a tar.gz file of a folder's content and further members, (info, content)."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for member, content in more:
            tar.addfile(member, io.BytesIO(content))
        tar.add(folder, ".")
    return path


def member(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def words(caption):
    return tuple(re.findall(r"\w+", caption.lower()))


def everything():
    return {split: list(records) for split, records in nlvr.read(OPTIONS).splits.items()}


def refused(folder):
    """Returns the one-line error of a failed preparation, and checks that nothing was prepared."""
    with pytest.raises(UserError) as caught:
        nlvr.prepare(folder)
    assert "\n" not in str(caught.value)
    assert not (nlvr.data_dir() / "nlvr").exists()
    return str(caught.value)


def test_made_up(small, capfd):
    place = nlvr.prepare(small)
    assert place == nlvr.data_dir() / "nlvr"
    assert os.listdir(place.parent) == ["nlvr"]
    source = nlvr.read(OPTIONS)
    assert list(source.splits) == ["train", "validation", "test"]
    assert source.classes == ("false", "true")
    examples = [example for records in source.splits.values() for example in records]
    got = {
        (example["caption"], source.classes[example["label"]], *(int(example["image"][5, x, 0]) for x in (5, 155, 305)))
        for example in examples
    }
    expected = {
        (sentence, label, *values)
        for part, scenes in SCENES.items()
        for i, (sentence, label) in enumerate(scenes)
        for values in itertools.permutations(boxes(part, i))
    }
    assert got == expected
    assert len(examples) == len(expected) == 19 * 6
    assert all(example["image"].shape == (100, 400, 3) for example in examples)
    assert all(example["image"].dtype == np.uint8 for example in examples)
    assert capfd.readouterr() == ("", "")  # no progress where stderr is no terminal


def test_splits_by_the_definition(small):
    """A group's first sentence in sorted order draws its split; {a black square, there is a box} is one group here."""
    nlvr.prepare(small)
    for split, examples in everything().items():
        for example in examples:
            sentence = " ".join(words(example["caption"]))
            first = "a black square" if sentence == "there is a box" else sentence
            share = int.from_bytes(hashlib.sha256(first.encode()).digest()[:4], "big") / 2**32
            assert split == ("test" if share < 0.1 else "validation" if share < 0.2 else "train")
    assert all(everything().values())  # otherwise little is tested


def test_order_is_as_listed(small):
    nlvr.prepare(small)
    listed = [sentence for scenes in SCENES.values() for sentence, _ in scenes for _ in range(6)]
    for examples in everything().values():
        captions = [example["caption"] for example in examples]
        assert captions == [sentence for sentence in listed if sentence in captions]


def test_folders_that_will_do(small, tmp_path, monkeypatch):
    """Equivalent forms: the extracted archive, its folder nlvr, the archive, and one with another top folder."""
    archive(small, tmp_path / "packed" / "nlvr_dev_test_hidden.tar.gz")
    archive(small.parent, tmp_path.parent / f"{tmp_path.name}-packed" / "nlvr-master.tar.gz")
    identities = set()
    for i, folder in enumerate(
        [small, small / "nlvr", tmp_path / "packed", tmp_path.parent / f"{tmp_path.name}-packed"]
    ):
        monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / f"cache{i}"))
        identities.add((nlvr.prepare(folder) / nlvr.MANIFEST).read_bytes())
    assert len(identities) == 1


def test_nothing_of_an_archive_is_written(small, tmp_path):
    """Nothing is extracted outside the folder or through links; members that are not files are skipped."""
    outside = tmp_path / "outside"
    evil = [
        member("../../evil/dev/images/0/evil.png", b"x"),
        member(str(outside / "absolute.png"), b"x"),
        member("link", type=tarfile.SYMTYPE, linkname=str(outside)),
        member("link/written.png", b"x"),
        member("hard", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        member("dev/dev.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("dev/images/0/dev-99-0-0.png", type=tarfile.FIFOTYPE),
        member("._dev.json", b"x"),
        member("dev/._dev.json", b"x"),
    ]
    before = sorted(tmp_path.rglob("*"))
    packed = archive(small, tmp_path / "packed" / "nlvr.tar.gz", *evil)
    nlvr.prepare(packed.parent)
    after = {path for path in tmp_path.rglob("*") if tmp_path / "cache" not in path.parents}
    assert after - set(before) == {tmp_path / "cache", packed.parent, packed}
    assert sum(map(len, everything().values())) == 19 * 6


def test_an_archive_cut_off(small, tmp_path):
    """Every truncation fails except within the last tenth, which contains padding."""
    packed = archive(small, tmp_path / "packed" / "nlvr.tar.gz")
    content = packed.read_bytes()
    for kept in np.linspace(0, 0.9, 50):
        packed.write_bytes(content[: int(kept * len(content))])
        assert re.fullmatch(rf"{packed} is damaged \(.+\): download it again", refused(packed.parent))


def test_an_archive_of_other_bytes(tmp_path):
    (tmp_path / "nlvr.tar.gz").write_bytes(b"a page that says that there is none" * 100)
    assert re.fullmatch(r".*nlvr.tar.gz is damaged \(.+\): download it again", refused(tmp_path))


def test_no_folder():
    assert refused(None) == (
        f"nlvr is prepared from a folder: git clone https://github.com/lil-lab/nlvr, and give it: {COMMAND}"
    )


def test_another_folder(tmp_path):
    assert refused(tmp_path) == (
        f"{tmp_path} has neither NLVR's folders dev, test and hidden, nor nlvr with these in it, nor nlvr*.tar.gz: "
        f"name the folder that has by {COMMAND}"
    )
    nothing = tmp_path / "nothing"
    assert refused(nothing) == f"{nothing} is no folder: name the one with NLVR's files by {COMMAND}"


def test_a_file_that_cannot_be_read(small, monkeypatch):
    path = small / "nlvr" / "dev" / "dev.json"
    path.unlink()
    path.symlink_to(path)
    assert re.fullmatch(rf"cannot read {path} \(.+\): make it readable", refused(small))


def test_missing_files(small):
    dev = small / "nlvr" / "dev"
    (dev / "images" / "0" / "dev-11-1-5.png").unlink()
    (dev / "images" / "0" / "dev-12-2-0.png").unlink()
    assert refused(small) == f"{small} lacks 2 of NLVR's 114 pictures, as dev-11-1-5.png: give the whole of it"
    (dev / "dev.json").unlink()
    assert refused(small) == f"{small} lacks NLVR's dev.json: give the whole of it"


def test_a_picture_of_no_scene(small):
    images = small / "nlvr" / "test" / "images" / "0"
    shutil.copy(images / "test-10-0-0.png", images / "test-10-0-6.png")
    assert refused(small) == (
        f"{small} has test-10-0-6.png, of which no json file tells: give NLVR as it was published"
    )


def test_another_number_of_scenes(small, monkeypatch):
    path = small / "nlvr" / "hidden" / "hidden.json"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert refused(small) == f"hidden.json of {small} has 12 scenes, NLVR's has 13: give the whole of it"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        "",
        '{"identifier": "1-0", "label": "true"}',
        '{"identifier": "1-0", "label": true, "sentence": "x"}',
        '{"identifier": "1-0", "label": "maybe", "sentence": "x"}',
        '{"label": "true", "sentence": "x"}',
    ],
)
def test_a_line_that_is_not_of_nlvr(small, line):
    path = small / "nlvr" / "test" / "test.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, lines[2]]))
    assert refused(small) == (
        f"line 2 of test.json of {small} is not NLVR's: it has to be a JSON object with identifier, sentence "
        'and label ("true" or "false")'
    )


def test_bad_pictures(small):
    path = small / "nlvr" / "dev" / "images" / "0" / "dev-12-2-3.png"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert refused(small) == (
        "cannot decode dev-12-2-3.png (it is cut short): replace it by a whole image, or remove it"
    )
    file = io.BytesIO()
    Image.new("RGB", (400, 99)).save(file, "PNG")
    path.write_bytes(file.getvalue())
    assert refused(small) == (
        "dev-12-2-3.png is of shape (99, 400, 3), NLVR's are (100, 400, 3): give NLVR as it was published"
    )


def test_transparency_is_white(small):
    path = small / "nlvr" / "dev" / "images" / "0" / "dev-11-1-3.png"
    path.write_bytes(png((0, 0, 0), alpha=0))
    nlvr.prepare(small)
    images = [x["image"] for examples in everything().values() for x in examples if x["caption"] == "A black square!"]
    assert [bool((image == 255).all()) for image in images] == [False, False, False, True, False, False]


def test_prepared_once(small):
    place = nlvr.prepare(small)
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    assert nlvr.prepare(None) == nlvr.prepare(Path("/nothing")) == place
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before


def test_not_prepared():
    for function in (nlvr.read, nlvr.identity):
        with pytest.raises(UserError) as caught:
            function(OPTIONS)
        assert str(caught.value) == f"nlvr is not prepared: run {COMMAND}"


@pytest.mark.parametrize("damage", ["deleted", "emptied", "shortened", "flipped"])
@pytest.mark.parametrize("name", [nlvr.IMAGES, nlvr.EXAMPLES, nlvr.MANIFEST])
def test_damage_is_found(small, name, damage):
    place = nlvr.prepare(small)
    identity = nlvr.identity(OPTIONS)
    content = bytearray((place / name).read_bytes())
    content[len(content) // 3] ^= 2
    if damage == "deleted":
        (place / name).unlink()
    else:
        (place / name).write_bytes({"emptied": b"", "shortened": content[:-3], "flipped": content}[damage])
    # A manifest with another checksum is indistinguishable from a file with other content.
    named = nlvr.IMAGES if (name, damage) == (nlvr.MANIFEST, "flipped") else name
    remedy = f"was damaged or changed after it was prepared: delete {place} and run {COMMAND}"
    for function in (lambda: nlvr.read(OPTIONS), lambda: nlvr.prepare(small)):
        with pytest.raises(UserError) as caught:
            function()
        assert str(caught.value) == f"{place / named} {remedy}"
    if damage == "deleted":
        with pytest.raises(UserError) as caught:
            nlvr.identity(OPTIONS)
        assert str(caught.value) == f"{place / named} {remedy}"
    else:
        assert nlvr.identity(OPTIONS) != identity
    shutil.rmtree(place)
    nlvr.prepare(small)
    assert sum(map(len, everything().values())) == 19 * 6


def test_records(small):
    nlvr.prepare(small)
    train = nlvr.read(OPTIONS).splits["train"]
    copy = pickle.loads(pickle.dumps(train))
    assert len(copy) == len(train)
    for index in (0, np.int64(7), len(train) - 1):
        np.testing.assert_array_equal(copy[index]["image"], train[index]["image"])
        assert copy[index]["caption"] == train[index]["caption"]
    with pytest.raises(IndexError):
        copy[len(train)]
    path = nlvr.data_dir() / "nlvr" / nlvr.IMAGES
    path.write_bytes(path.read_bytes()[:1000])  # while it is being read
    with pytest.raises(BadExampleError, match=rf"^cannot decode \w+-.*\.png of {path} \(.+\): "):
        train[5]
    path.unlink()
    with pytest.raises(BadExampleError) as caught:
        train[0]
    assert re.fullmatch(rf"cannot read \w+-.*\.png of {path} \(No such file or directory\)", str(caught.value))


def test_a_folder_that_cannot_be_written(small, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError) as caught:
        nlvr.prepare(small)
    assert str(caught.value) == (
        f"cannot write the data folder {tmp_path}/file (Not a directory): "
        "set JAXGEN_DATA_DIR to a folder that can be written"
    )


def run(code, *arguments):
    """Runs code in a new Python with warnings as errors and NLVR's sizes reduced to the synthetic copy's."""
    start = f"from jaxgen.data.readers import nlvr; nlvr.SCENES = { {part: len(x) for part, x in SCENES.items()} }\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", start + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_full_disk(small):
    code = """
        import pathlib, resource, signal, sys
        from jaxgen import errors

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            nlvr.prepare(pathlib.Path(sys.argv[1]))
        except errors.UserError as error:
            print(error)
    """
    process = run(code, small)
    assert (process.stdout, process.stderr) == (
        f"cannot write the data folder {nlvr.data_dir()} (File too large): "
        "set JAXGEN_DATA_DIR to a folder that can be written\n",
        "",
    )
    assert os.listdir(nlvr.data_dir()) == []


def test_a_kill_in_the_middle_leaves_nothing_that_is_used(small):
    code = """
        import os, pathlib, signal, sys

        pathlib.Path.write_text = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # of the manifest
        nlvr.prepare(pathlib.Path(sys.argv[1]))
    """
    assert run(code, small).returncode == -9
    (left,) = nlvr.data_dir().iterdir()
    assert sorted(path.name for path in left.iterdir()) == [nlvr.EXAMPLES, nlvr.IMAGES]
    with pytest.raises(UserError, match="not prepared"):
        nlvr.read(OPTIONS)
    nlvr.prepare(small)
    assert sum(map(len, everything().values())) == 19 * 6


def test_another_process_is_first(small, monkeypatch):
    """The other process finishes just before this one would."""
    rename = Path.rename
    renamed = []

    def late(path, target):
        monkeypatch.setattr(Path, "rename", rename)
        renamed.append(path)
        shutil.copytree(path, target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    place = nlvr.prepare(small)
    assert len(renamed) == 1
    assert os.listdir(place.parent) == ["nlvr"]
    assert sum(map(len, everything().values())) == 19 * 6


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real NLVR: its prepared folder, its splits, and its lines by the prefix of their pictures' names."""
    root = os.environ.get("JAXGEN_TEST_DATA")
    if not root:
        pytest.skip("needs JAXGEN_TEST_DATA")
    folder = Path(root) / "nlvr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_DATA_DIR", str(tmp_path_factory.mktemp("real")))
        place = nlvr.prepare(folder)
        source = nlvr.read(OPTIONS)
    scenes = {}
    with tarfile.open(next(folder.glob("*.tar.gz"))) as tar:
        for part in nlvr.SCENES:
            for line in tar.extractfile(f"nlvr/{part}/{part}.json"):
                row = json.loads(line)
                scenes[f"{part}-{row['identifier']}"] = row
    return place, source, scenes


@pytest.mark.slow
def test_real_counts(real):
    place, source, scenes = real
    assert {split: len(x) for split, x in source.splits.items()} == {
        "train": 14_478,
        "validation": 1_842,
        "test": 1_464,
    }
    assert len(scenes) == 2_964
    names = {example.name for records in source.splits.values() for example in records.examples}
    assert names == {f"{scene}-{order}.png" for scene in scenes for order in range(6)}
    assert len(names) == 17_784
    assert json.loads((place / nlvr.MANIFEST).read_bytes()) == {
        "images.bin": "932890c919943f97f1e7724cb99b4674aa999dbd4a4fb1e83ec1dd30852fb8fe",
        "examples.json": "90819cc8356c0a64e4c72320bfac7c6c9f4dec3c4f4527789f2483db273bdc1a",
    }


@pytest.mark.slow
def test_real_pictures_show_their_scenes_and_splits_share_nothing(real):
    """The center of every object in every picture has the object's color.

    Picture k has the boxes in their k-th order; a box is 100 pixels wide and starts 150 after the previous one.
    """
    _, source, scenes = real
    colors = {"#0099ff": (0, 153, 255), "Yellow": (255, 255, 0), "Black": (0, 0, 0)}
    orders = list(itertools.permutations(range(3)))
    # By split: its pictures, its sentences, and the presentations from which its scenes come.
    pictures, sentences, presentations = ({split: set() for split in source.splits} for _ in range(3))
    objects = 0
    for split, records in source.splits.items():
        for listed, example in zip(records.examples, records, strict=True):
            scene, order = re.fullmatch(r"(.+)-(\d)\.png", listed.name).groups()
            row, image = scenes[scene], example["image"]
            assert example["caption"] == row["sentence"]
            assert source.classes[example["label"]] == row["label"]
            for slot, box in enumerate(orders[int(order)]):
                for item in row["structured_rep"][box]:
                    y, x = item["y_loc"] + item["size"] // 2, item["x_loc"] + item["size"] // 2
                    assert tuple(image[y, 150 * slot + x].tolist()) == colors[item["color"]]
                    objects += 1
            pictures[split].add(hashlib.sha256(image).digest())
            sentences[split].add(words(row["sentence"]))
            presentations[split].add(row["identifier"].partition("-")[0])
    assert objects > 100_000
    for sets, total in ((pictures, 16_546), (sentences, 670), (presentations, 799)):
        assert len(set.union(*sets.values())) == sum(map(len, sets.values())) == total
