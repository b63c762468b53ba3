"""Malformed commands, experiment files, images, meshes, checkpoints and extractors.

Each is refused in one line, or accepted and correct by an independent check; nothing else is raised. JAXGEN_FUZZ is the
number of cases of each kind, by default 200; slow kinds have a half or a quarter of it.
"""

import contextlib
import importlib
import io
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxgen import cli, data
from jaxgen.cli import commands
from jaxgen.comparison.experiment import load_experiment
from jaxgen.comparison.runs import plans
from jaxgen.data import image_files
from jaxgen.data.mesh_files import decoded
from jaxgen.data.options import Options
from jaxgen.data.readers import image_folder, mesh_folder
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import WEIGHTS, load_classifier
from jaxgen.training import Settings, loop, open_run, train
from tests.data.readers.test_mesh_folder import FACES, VERTICES, as_stl, obj, off, ply

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("JAXGEN_FUZZ", "200"))


def cases(share: int = 1):
    """Number of cases for a test, the same in each session; divided by `share` if a case is slow."""
    count, slow = max(1, CASES // share), (HealthCheck.too_slow, HealthCheck.data_too_large)
    how = settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=slow)
    return lambda test: pytest.mark.cases(count)(how(test))


def tried(call):
    """Returns (result, None), or (None, message) if the call is refused."""
    try:
        return call(), None
    except UserError as error:
        words = str(error)
    assert words.strip()
    return None, words


EDITS = st.lists(
    st.tuples(
        st.sampled_from(("flip", "cut", "drop", "insert", "twice")),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits) -> bytes:
    """Flips a bit, truncates, or drops, inserts or repeats bytes, as disks, transfers and people do."""
    for how, share, byte, length in edits:
        at = int(share * len(content))
        content = {
            "flip": content[:at] + bytes(b ^ (1 << byte % 8) for b in content[at : at + 1]) + content[at + 1 :],
            "cut": content[:at],
            "drop": content[:at] + content[at + length :],
            "insert": content[:at] + bytes([byte]) * length + content[at:],
            "twice": content[: at + length] + content[at:],
        }[how]
    return content


WORDS = (
    *commands.COMMANDS,
    *("vae", "dcgan", "gan", "mggan", "naive_bayes", "classifier", "digits", "gaussians", "mnist", "shapes", "prepare"),
    *(
        "list",
        "show",
        "convert",
        "--help",
        "--version",
        "-h",
        "--",
        "-",
        "",
        " ",
        "none",
        "runs",
        "x/../y",
        "\0",
        "--out",
    ),
    *("--out", "--steps", "--seeds", "--num", "--kind", "--dims", "--groups", "--latent-dim", "--hidden", "--features"),
    *("--batch-size", "--learning-rate", "--image-size", "--dataset", "--resume", "--images", "--metrics", "--samples"),
    *("--keep-best", "lowest", "highest", "loss", "--checkpoint", "best", "--precision", "--minutes", "--binarize"),
    *("0", "1", "-1", "3", "1e400", "nan", "inf", "2147483648", "99999999999999999999", "0.5", "1e-300", "a,b", "🙂"),
)


@cases(4)
@given(
    st.one_of(st.sampled_from(sorted(commands.COMMANDS)), st.sampled_from(WORDS)),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), max_size=6),
)
def test_commands(tmp_path_factory, first, rest):
    """The exit status is 0, or 2 with one line on stderr. Training and downloads are replaced by an error."""
    argv = [first, *rest]

    def begun(*_, **__):
        raise UserError("it would begin")

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as held:
        folder = tmp_path_factory.mktemp("here")
        patch.chdir(folder)
        patch.setattr(loop, "_train", begun)
        patch.setattr(data, "prepare", begun)
        patch.setattr(importlib.import_module("jaxgen.comparison.compare"), "trained", begun)
        out, err = io.StringIO(), io.StringIO()
        held.enter_context(contextlib.redirect_stdout(out))
        held.enter_context(contextlib.redirect_stderr(err))
        status = cli.main(argv)
    assert status in (0, 2), argv
    if status:
        (line,) = err.getvalue().splitlines()
        assert line.startswith("jaxgen: error: "), argv
    shutil.rmtree(folder)


EXPERIMENT = '''"""Fuzzed."""
from jaxgen.comparison import Arm, Comparison, Experiment, LogUniform, Scoring, Sweep, Uniform
from jaxgen.training import Settings

experiment = Experiment(
    title={title},
    settings=Settings(seeds={seeds}, steps={steps}, batch_size={batch}),
    arms={{{name}: Arm({model}, {config}, {sweep})}},
    scoring=Scoring(metrics={metrics}, samples={samples}),
    minutes={minutes},
    checkpoint={checkpoint},
    comparisons={comparisons},
)
'''

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**33),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(("vae", "fd", "log_prob", "one", "../x", (0, 1), (), [1], {}, {"latent_dim": 2}, {"a": 1})),
    st.tuples(st.integers(-1, 2), st.integers(-1, 2)),
)

SOUND = {
    "title": "T",
    "seeds": (0, 1),
    "steps": 4,
    "batch": 8,
    "name": "one",
    "model": "vae",
    "config": {"latent_dim": 2},
    "sweep": None,
    "metrics": ("log_prob",),
    "samples": 10,
    "minutes": None,
    "checkpoint": None,
    "comparisons": (),
}


@cases(2)
@given(st.dictionaries(st.sampled_from(sorted(SOUND)), VALUES, min_size=1, max_size=3), st.one_of(st.none(), EDITS))
def test_experiment_files(tmp_path_factory, changes, edits):
    """An accepted file is planned with the values written in it."""
    file = tmp_path_factory.mktemp("experiment") / "fuzzed.py"
    text = EXPERIMENT.format(**{name: repr(value) for name, value in (SOUND | changes).items()})
    names = {"nan": float("nan"), "inf": float("inf")}
    text = "nan, inf = float('nan'), float('inf')\n" + text if any(n in text for n in names) else text
    file.write_bytes(edited(text.encode("utf-8", "replace"), edits or []))
    planned, refused = tried(lambda: plans(load_experiment(file).experiment))
    if not refused and edits is None:
        for arms in planned.values():
            for name, (plan, *_) in arms.items():
                assert name == (SOUND | changes)["name"]
                assert plan.settings.steps == (SOUND | changes)["steps"]
                assert plan.settings.seeds == tuple((SOUND | changes)["seeds"])


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


@cases()
@given(st.sampled_from(("png", "jpeg")), EDITS)
def test_images(kind, edits):
    """A PNG has checksums: it is refused or shows the same image. A JPEG has none: it is refused or shows any image."""
    content = edited(encoded(kind), edits)
    image, refused = tried(lambda: image_files.decoded(content, "an image"))
    if refused:
        assert refused.startswith("cannot decode an image")
        return
    assert image.dtype == np.uint8
    assert image.shape[2] in (1, 3)
    if kind == "png":
        np.testing.assert_array_equal(image, PIXELS)


def _names(line: str, path: str) -> bool:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return json.loads(line)["file"] == path
    return False


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@cases(2)
@given(
    st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6),
    st.one_of(st.none(), st.lists(st.one_of(st.text(max_size=20), st.tuples(NAMES, st.text(max_size=9))), max_size=6)),
)
def test_folders_of_images(tmp_path_factory, files, captions):
    """An accepted folder has each of its images once, with the right label and caption."""
    folder = tmp_path_factory.mktemp("images")
    written = {}
    for place, name in files:
        if {place, name} & {".", ".."} or len(f"{name}.png".encode()) > 200:
            continue
        path = folder / place / f"{name}.png"
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded("png"))
            written[f"{place}/{name}.png"] = place
    if captions is not None:
        lines = [c if isinstance(c, str) else json.dumps({"file": c[0], "caption": c[1]}) for c in captions]
        lines += [json.dumps({"file": path, "caption": "c"}) for path in written][: len(captions)]
        (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    source, refused = tried(lambda: image_folder.read(Options("image_folder", data_from=str(folder))))
    if refused:
        return
    splits = list(source.splits.values())
    named = [Path(records.name(i)) for records in splits for i in range(len(records))]
    hidden = [path for path in written if any(part.startswith(".") for part in path.split("/"))]
    assert len(named) == len(set(named))
    assert {str(path.relative_to(folder)) for path in named} >= set(written) - set(hidden)
    for records in splits:
        for i in range(len(records)):
            example = records[i]
            np.testing.assert_array_equal(example["image"], PIXELS)
            if captions is not None:
                own = Path(records.name(i)).relative_to(folder).as_posix()
                texts = [json.loads(line)["caption"] for line in lines if _names(line, own)]
                assert [example["caption"]] == texts
            if source.classes:
                own = unicodedata.normalize("NFC", Path(records.name(i)).relative_to(folder).as_posix())
                assert source.classes[example["label"]] in own.split("/")


MESHES = {
    ".obj": lambda vertices: obj(vertices).encode(),
    ".off": lambda vertices: off(vertices).encode(),
    ".ply": lambda vertices: ply("ascii", vertices),
    ".PLY": lambda vertices: ply("binary_little_endian", vertices),
    ".stl": lambda vertices: as_stl(vertices, FACES),
    ".glb": lambda vertices: trimesh.Trimesh(vertices, FACES, process=False).export(file_type="glb"),
}


@cases()
@given(st.sampled_from(sorted(MESHES)), EDITS)
@example(".glb", [("insert", 0.9375, 0, 1)])  # a coordinate of 4e19, whose square float32 does not hold
def test_meshes(tmp_path_factory, suffix, edits):
    """Accepted meshes have finite vertices, faces with valid indices, and the same connectivity."""
    folder = tmp_path_factory.mktemp("meshes")
    for size, name in enumerate("abc", 1):
        content = MESHES[suffix](np.float32(size) * VERTICES)
        (folder / f"{name}{suffix}").write_bytes(edited(content, edits) if name == "b" else content)
    source, refused = tried(lambda: mesh_folder.read(Options("mesh_folder", data_from=str(folder))))
    if refused:
        return
    first = decoded(folder / f"a{suffix}")
    np.testing.assert_array_equal(source.faces, first.faces)
    if suffix != ".stl":
        np.testing.assert_array_equal(source.faces, FACES)
    for split in source.splits.values():
        assert split["mesh"].shape == first.vertices.shape
        assert np.isfinite(split["mesh"]).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    how = Settings(seeds=(0,), steps=2, batch_size=8, log_every=2, checkpoint_every=2, sample_every=9)
    small = {"network": "mlp", "hidden": (4,), "latent_dim": 2}
    return train("vae", small, how, out=tmp_path_factory.mktemp("fuzzed") / "run", progress=False)


@cases(2)
@given(st.floats(0, 1, exclude_max=True), EDITS)
def test_runs(run, tmp_path_factory, which, edits):
    """A run with any file damaged is refused, or opens with the saved parameters."""
    copy = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(run.path, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file())
    file = files[int(which * len(files))]
    file.write_bytes(edited(file.read_bytes(), edits))
    opened, refused = tried(lambda: open_run(copy))
    assert refused or opened.digests() == run.digests()
    shutil.rmtree(copy.parent)


CLASSIFIER = min(WEIGHTS.glob("*.safetensors"), key=lambda file: file.stat().st_size)


@cases(4)
@given(st.sampled_from((1.0, 0.02)), EDITS)
def test_extractors(tmp_path_factory, near, edits):
    """The file is refused, or gives the same extractor; half of the edits are in the header."""
    file = tmp_path_factory.mktemp("extractor") / "edited.safetensors"
    content = CLASSIFIER.read_bytes()
    file.write_bytes(edited(content, [(how, near * share, byte, length) for how, share, byte, length in edits]))
    loaded, refused = tried(lambda: load_classifier(file))
    file.unlink()
    if refused:
        return
    expected = load_classifier(CLASSIFIER)
    told, written = ({name: v for name, v in e._asdict().items() if not callable(v)} for e in (loaded, expected))
    assert told == written
