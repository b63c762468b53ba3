"""Exported runs: what is written, that it gives the run's own pixels, and what is refused."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import cli
from jaxgen.errors import UserError
from jaxgen.files import contents
from jaxgen.pictures import sample
from jaxgen.portable import exporting, onnx_files, programs, weights
from jaxgen.portable.exporting import export
from jaxgen.training import Settings, folder, open_run
from tests.portable.runs import STEP, ended, labeled, state_of

for package in ("flatbuffers", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} comes with the extra export")

from jax import export as of_jax  # noqa: E402 - needs flatbuffers
from safetensors import safe_open  # noqa: E402

EVERY = ("safetensors", "stablehlo", "onnx", "hub")
DENSE = {"generator_units": 16, "discriminator_units": 8, "pieces": 2, "latent_dim": 5, "optimizer": "adam"}


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    """A run of one seed, whose number needs 32 bits."""
    return ended(tmp_path_factory.mktemp("runs") / "gan", "gan", DENSE, Settings(seeds=(3_000_000_000,)))


@pytest.fixture(scope="module")
def exported(gan):
    """The export of `gan` to every format."""
    return export(gan, EVERY)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run of a model of a user's own, given labels, with two seeds."""
    place = tmp_path_factory.mktemp("own")
    return ended(place / "own", labeled(place / "code"), {"size": 4}, Settings(seeds=(2, 5)))


@pytest.fixture(scope="module")
def own_exported(own):
    return export(own, ("stablehlo,onnx",), out=own.parent / "given")


@pytest.fixture(scope="module")
def drawn(gan):
    """Arrays of `jaxgen sample RUN --num 64 --out x.npz`."""
    with np.load(sample(gan, num=64, out=gan.parent / "x.npz")) as arrays:
        return dict(arrays)


def read(file):
    return json.loads(file.read_text())


def called(file, *operands):
    return np.asarray(of_jax.deserialize(bytearray(file.read_bytes())).call(*operands))


# Weights


def test_each_seeds_weights_are_the_checkpoints_to_the_bit(own, own_exported):
    run = open_run(own)
    wanted = state_of(run.plan)
    for index, seed in enumerate((2, 5)):
        with safe_open(own_exported / f"seed-{seed}" / "model.safetensors", "numpy") as file:
            assert set(file.keys()) == {"params/w", "extra/count", "step"}
            assert file.get_tensor("params/w").tobytes() == wanted.params["w"][index].tobytes()
            assert file.get_tensor("step") == STEP
            header = json.loads(file.metadata()["jaxgen"])
        assert header["config"] == {"size": 4}
        assert header["digest"] == run.named_digests()[str(seed)]
        with safe_open(own_exported / f"seed-{seed}" / "optimizer.safetensors", "numpy") as file:
            assert file.keys() == ["opt_state/moment"]


def test_export_json_has_the_sha256_of_every_other_file(exported):
    described = read(exported / "export.json")
    files = contents(exported)
    del files["export.json"]
    assert described["files"].keys() == files.keys()
    assert described["digests"] == read(exported / "result.json")["digests"]
    assert described["formats"] == list(EVERY)
    assert (described["step"], described["seeds"]) == (STEP, [3_000_000_000])


# Programs


def test_the_program_draws_the_pixels_of_jaxgen_sample(exported, drawn):
    own = weights.load(exported / "seed-3000000000", [weights.MODEL])
    images = called(exported / "programs" / "sample-64.jaxexport", own, np.uint32(3_000_000_000))
    np.testing.assert_array_equal(images, drawn["image"])
    assert images.std() > 10
    others = called(exported / "programs" / "sample-64.jaxexport", own, np.uint32(0))
    assert (others != images).mean() > 0.5


def test_of_two_seeds_given_labels_each_draws_its_own(own, own_exported):
    """The 60 images of `jaxgen sample`, six of each class; the last four are of other labels.

    The run's program computes both seeds at once, which can round a number to the next pixel value.
    """
    with np.load(sample(own, num=64, out=own.parent / "x.npz")) as arrays:
        wanted, labels = arrays["image"].reshape(2, 60, 8, 8, 1), arrays["label"].reshape(2, 60)
    for index, seed in enumerate((2, 5)):
        asked = {"label": np.concatenate([labels[index], np.arange(4, dtype=np.int32)])}
        own_weights = weights.load(own_exported / f"seed-{seed}", [weights.MODEL])
        images = called(own_exported / "programs" / "sample-64.jaxexport", own_weights, np.uint32(seed), asked)[:60]
        apart = np.abs(images.astype(int) - wanted[index])
        assert apart.max() <= 1
        assert (apart > 0).mean() < 1e-3


def test_the_decoder_is_the_models(own, own_exported):
    """sigmoid(z W[label]), by NumPy in float64."""
    own_weights = weights.load(own_exported / "seed-5", [weights.MODEL])
    z = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32)
    made = called(own_exported / "programs" / "decode-1.jaxexport", own_weights, z, {"label": np.int32([7])})
    logits = z.astype(float) @ own_weights["params/w"].astype(float)[7]
    np.testing.assert_allclose(made.reshape(1, -1), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_programs_are_for_all_platforms_and_name_no_file_of_this_machine(exported):
    for name, of in read(exported / "export.json")["programs"].items():
        content = (exported / name).read_bytes()
        assert of_jax.deserialize(bytearray(content)).platforms == ("cpu", "cuda", "tpu")
        assert of["platforms"] == ["cpu", "cuda", "tpu"]
        assert not re.findall(rb"[/\\][\w.]+\.py", content)
    assert read(exported / "export.json")["programs"]["programs/decode-1.jaxexport"] == {
        "arguments": ["z float32 [1, 5]"],
        "result": "image float32 [1, 8, 8, 1]",
        "platforms": ["cpu", "cuda", "tpu"],
        "jax": jax.__version__,
    }


EXAMPLE = """
import sys
sys.modules["jaxgen"] = None  # an import of it fails
{code}
np.savez("drawn", {subject}={subject})
assert not [name for name in sys.modules if name.startswith("jaxgen.")]
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gan", "own"])
def test_the_readmes_example_runs_without_jaxgen(name, exported, own_exported, drawn):
    place = {"gan": exported, "own": own_exported}[name]
    (code,) = re.findall(r"```python\n(.*?)```", (place / "README.md").read_text(), re.DOTALL)
    assert len(code.split("\n\n")[1].splitlines()) == 3 + (name == "own")  # which has labels
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", EXAMPLE.format(code=code, subject="image")]
    ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    made = np.load(place / "drawn.npz")["image"]
    (place / "drawn.npz").unlink()
    if name == "gan":
        np.testing.assert_array_equal(made, drawn["image"])
    else:
        assert made.shape == (64, 8, 8, 1)


def test_the_readme_says_which_pixels_are_the_same_and_quotes_names(own, own_exported, exported, tmp_path):
    one, several = ((place / "README.md").read_text() for place in (exported, own_exported))
    assert "draws what `jaxgen sample` draws for it. Any other number" in one
    assert "for it, given the same labels in the same order, up to the rounding of rare pixels, as" in several
    made = export(shutil.copytree(own, tmp_path / "my run"))
    commands = "jaxgen import 'my run-export' --out 'runs/my run'\njaxgen sample 'runs/my run'\n"
    assert commands in (made / "README.md").read_text()


# ONNX


def test_the_onnx_decoder_is_the_models(own, own_exported):
    """sigmoid(z W[label]), by NumPy in float64; the file needs no weights beside it."""
    z = np.random.default_rng(2).normal(size=(64, 4)).astype(np.float32)
    labels = (np.arange(64) % 10).astype(np.int32)
    made = onnx_files.run((own_exported / "seed-2" / "decode-64.onnx").read_bytes(), {"z": z, "label": labels})
    w = state_of(open_run(own).plan).params["w"][0].astype(float)
    wanted = 1 / (1 + np.exp(-np.einsum("nd,ndp->np", z.astype(float), w[labels])))
    np.testing.assert_allclose(made.reshape(64, -1), wanted, atol=1e-6)


# The hub


def test_the_hubs_folder_has_a_card_with_its_files(exported, gan):
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Flax")
    _, front, body = (exported / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(front)
    assert header["library_name"] == "jaxgen"
    assert header["datasets"] == ["digits"]
    assert "![Samples](samples.png)" in body
    assert "jaxgen import gan-export --out runs/gan" in body
    assert "`seed-3000000000/decode-64.onnx`" in body
    assert "jaxgen sample gan --num" not in body
    assert not (exported / "croissant.json").exists()  # the digits are public
    with Image.open(exported / "samples.png") as picture, Image.open(sample(gan, out=gan.parent / "own.png")) as wanted:
        np.testing.assert_array_equal(picture, wanted)


def test_scores_are_those_of_the_comparison_that_the_run_is_an_arm_of(gan, tmp_path):
    metrics = [{"key": "fd", "title": "FD", "better": "lower", "digits": 2, "note": "To digits."}]
    digests = read(gan / "result.json")["digests"]
    row = {"name": "gan", "kind": "trained", "values": {"fd": [12.5]}, "steps": STEP, "checkpoints": None}
    rows = [row | {"digests": digests, "run": "gan"}]
    table = {"label": "digits", "metrics": metrics, "rows": rows, "samples": 808}
    folder.write_json(gan.parent / "results.json", {"seeds": [3_000_000_000], "tables": [table], "verdicts": []})
    try:
        made = export(gan, ("hub",), out=tmp_path / "x")
    finally:
        (gan.parent / "results.json").unlink()
    assert "| FD | lower | 12.50 |" in (made / "README.md").read_text()
    assert "onnx" not in read(made / "export.json")["formats"]


def pictures_of(place, folder_name="my scans"):
    """Writes a folder of images of two classes; returns its path."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (place / folder_name / name).mkdir(parents=True)
        for number in range(30):
            image = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(image).save(place / folder_name / name / f"{number}.png")
    return place / folder_name


def test_own_data_are_described_without_the_machines_folders(tmp_path):
    scans = pictures_of(tmp_path)
    settings = Settings(dataset="image_folder", data_from=str(scans), seeds=(0,))
    run = ended(tmp_path / "run", "gan", DENSE, settings)
    made = export(run, ("hub",))
    for name, content in contents(made).items():
        assert str(tmp_path).encode() not in content, name
    assert read(made / "config.json")["settings"]["data_from"] == "my scans"
    described = read(made / "croissant.json")
    assert described["name"] == "my scans"
    assert described["identifier"] == f"sha256:{open_run(run).plan.dataset.fingerprint}"
    classes, examples = described["recordSet"]
    assert classes["data"] == [{"classes/name": "cat"}, {"classes/name": "dog"}]
    assert [field["@id"] for field in examples["field"]] == ["examples/image", "examples/class"]
    (transform,) = [field["source"]["transform"] for field in examples["field"] if "transform" in field["source"]]
    assert re.match(transform["regex"], "my scans/cat/3.png")[1] == "cat"


def test_patterns_are_described_by_their_folder_and_arrays_by_no_files(gan):
    plan = open_run(gan).plan

    def described(**fields):
        changed = plan._replace(settings=dataclasses.replace(plan.settings, **fields))
        return exporting.hub.croissant.described(changed)

    for pattern, includes in {"train-*.tar": "birds/train-*.tar", "*/[0-9].tar": "birds/*/[0-9].tar"}.items():
        shards = described(dataset="webdataset", data_from=f"/nowhere/birds/{pattern}")
        assert shards["name"] == "birds"
        assert [each["includes"] for each in shards["distribution"]] == [[includes]]
    assert described(dataset="webdataset", data_from="/nowhere/birds")["distribution"][0]["includes"] == [
        "birds/**/*.*"
    ]
    assert described(dataset="array/0123456789abcdef")["distribution"] == []


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_the_croissant_library_reads_the_description(tmp_path):
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    scans = pictures_of(tmp_path)
    run = ended(tmp_path / "run", "gan", DENSE, Settings(dataset="image_folder", data_from=str(scans), seeds=(0,)))
    described = exporting.hub.croissant.described(open_run(run).plan)
    folder.write_json(tmp_path / "croissant.json", described)
    found = croissant.Dataset(tmp_path / "croissant.json")
    assert not found.metadata.issues.errors
    assert [row["classes/name"] for row in found.records("classes")] == ["cat", "dog"]
    rows = list(found.records("examples"))
    assert sorted(row["examples/class"] for row in rows) == [b"cat"] * 30 + [b"dog"] * 30
    assert rows[0]["examples/image"].size == (8, 8)


# What is refused


def changed(name):
    """Replaces a function of the export by one whose result is off by a little: (module, function, its replacement)."""
    before = {"weights": weights.save, "programs": programs.exported, "onnx": onnx_files.written}[name]

    def of_weights(place, state, described):
        other = jax.tree.map(np.copy, state)
        np.ravel(jax.tree.leaves(other.opt_state)[-1])[...] += 1
        before(place, other, described)

    def of_programs(program, given):
        return before(program._replace(function=lambda *operands: program.function(*operands)[::-1]), given)

    def of_onnx(program, inputs):
        shifted = tuple(each + np.float32(1e-3) if each.dtype == np.float32 else each for each in program.constants)
        return before(program._replace(constants=shifted), inputs)

    return {
        "weights": (weights, "save", of_weights),
        "programs": (programs, "exported", of_programs),
        "onnx": (onnx_files, "written", of_onnx),
    }[name]


@pytest.mark.parametrize(
    ("name", "to", "words"),
    [
        ("weights", "safetensors", "the exported weights are not read back as the run's"),
        ("programs", "stablehlo", r"programs/sample-64\.jaxexport differs from the run in .* numbers of seed 2"),
        ("onnx", "onnx", r"seed-2/decode-1\.onnx differs from the run by more than 1e-05"),
    ],
)
def test_a_difference_from_the_run_leaves_nothing_behind(name, to, words, own, tmp_path, monkeypatch):
    module, function, other = changed(name)
    monkeypatch.setattr(module, function, other)
    with pytest.raises(UserError, match=words):
        export(own, (to,), out=tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_content_is_refused_and_the_same_is_left(own, tmp_path):
    made = export(own, out=tmp_path / "x")
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert export(own, out=tmp_path / "x") == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    (made / "README.md").write_text("mine")
    with pytest.raises(UserError, match="x exists with another content; choose another --out"):
        export(own, out=made)
    assert (made / "README.md").read_text() == "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    (tmp_path / "file").touch()
    for name in ("mine", "file"):
        with pytest.raises(UserError, match=f"{name} exists with another content"):
            export(own, out=tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert export(own, out=tmp_path / "empty") == tmp_path / "empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "mine", "x"]


def test_the_command(own, gan, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(own.parent)
    monkeypatch.setattr("jaxgen.training.compiled.keep_compiled", lambda: None)
    assert cli.main(["export", "own", "--out", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x'}\n"

    def refused(*argv):
        assert cli.main(["export", *argv]) == 2
        return capsys.readouterr().err.removeprefix("jaxgen: error: ").strip()

    assert refused("own", "--to", "safetensor") == "unknown format 'safetensor': did you mean safetensors?"
    assert refused("own", "--to", "onnx,pickle", "hub").startswith("unknown format 'pickle': there are safetensors, ")
    assert refused("own", "--to", ",") == "--to takes at least one of safetensors, stablehlo, onnx, hub"
    assert refused("nowhere") == "nowhere is no run folder: it has no config.json"
    assert refused("own", "--checkpoint", "3") == "own has no checkpoint 3; it has newest, 7"
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert refused("own", "--to", "hub") == "this needs flatbuffers: pip install 'jaxgen[export]'"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refused("own", "--to", "onnx") == "this needs onnxruntime: pip install 'jaxgen[export]'"
    result = (own / "result.json").read_text()
    monkeypatch.delitem(sys.modules, "flatbuffers")
    (own / "result.json").unlink()
    try:
        assert refused("own", "--to", "hub") == "own has not ended: `jaxgen train --resume` ends it"
    finally:
        (own / "result.json").write_text(result)


def test_models_without_a_program_or_a_decoder_are_told(tmp_path):
    settings = Settings(seeds=(0,), dataset="bars", train_split="train[:64]")
    meshes = ended(tmp_path / "meshes", "meshvae", {"features": "aligned", "hidden": (8,), "latent_dim": 3}, settings)
    with pytest.raises(UserError, match="meshvae draws with the help of Python on the host, so there is no program"):
        export(meshes, ("stablehlo",))
    with pytest.raises(UserError, match="meshvae cannot be written in onnx: its decoder needs the primitive"):
        export(meshes, ("onnx",))
    classes = ended(tmp_path / "classes", "classifier", {"network": "logistic"}, Settings(seeds=(0,)))
    with pytest.raises(UserError, match="classifier draws no samples, so there is no program of it in stablehlo"):
        export(classes, ("stablehlo",))
    with pytest.raises(UserError, match="classifier does not decode latents, so there is nothing of it in onnx"):
        export(classes, ("onnx",))
    made = export(classes, ("hub",))
    assert read(made / "export.json")["formats"] == ["safetensors", "hub"]
    assert not list(made.glob("**/*.jaxexport"))
