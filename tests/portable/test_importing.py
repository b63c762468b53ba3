"""Imported runs: they are the runs that were exported, and folders that are not whole are refused."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxgen import cli
from jaxgen.errors import UserError
from jaxgen.evaluation import Scoring, evaluate
from jaxgen.files import contents
from jaxgen.pictures import sample
from jaxgen.portable.exporting import export
from jaxgen.portable.importing import import_run
from jaxgen.training import Settings, folder, open_run, train
from jaxgen.training.status import DAMAGED, runs_below, standing, verified
from tests.portable.runs import STEP, ended, labeled

DENSE = {"generator_units": 16, "discriminator_units": 8, "pieces": 2, "latent_dim": 5, "optimizer": "adam"}

NOISE = """
import numpy as np
from jaxgen.data.source import Source

def read(options):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1)).astype(np.uint8)
    return Source({split: {"image": images} for split in ("train", "validation", "test")}, note="noise")
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run of a model of a user's own, given labels, with two seeds."""
    place = tmp_path_factory.mktemp("own")
    return ended(place / "own", labeled(place / "code"), {"size": 4}, Settings(seeds=(2, 5)))


@pytest.fixture(scope="module")
def exported(own):
    return export(own)


@pytest.fixture(scope="module")
def imported(exported):
    return import_run(exported, exported.parent / "again")


def test_the_run_has_the_same_digests_state_and_samples(own, imported):
    first, again = open_run(own), open_run(imported)
    assert again.digests() == first.digests()
    assert again.plan.described() == first.plan.described()
    for name in ("params", "opt_state", "extra", "step"):
        for one, other in zip(*(getattr(run.state, name).values() if name != "step" else [run.state.step]
                                for run in (first, again)), strict=True):  # fmt: skip
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    drawn = [sample(run, num=20, out=own.parent / f"{run.name}.npz").read_bytes() for run in (own, imported)]
    assert drawn[0] == drawn[1]


def test_the_run_stands_as_the_original_and_every_part_is_verified(own, imported):
    first, again = standing(own), standing(imported)
    assert again._replace(path=own) == first
    assert again.state == "done"
    parts = list(verified(imported))
    assert not [part for part in parts if part[2] == DAMAGED]
    assert ("samples", "0 sample grids", "ok") in parts
    assert json.loads((imported / "imported.json").read_text())["from"] == "own-export"


@pytest.mark.slow
def test_the_run_scores_as_the_original(own, imported):
    asked = Scoring(metrics=("sliced_wasserstein",), samples=100)
    first, again = (evaluate(run, asked)["rows"] for run in (own, imported))
    assert [row["values"] for row in again] == [row["values"] for row in first]
    assert len(first[1]["values"]["sliced_wasserstein"]) == 2


def test_an_exported_folder_is_no_run(own, exported):
    assert exported not in runs_below(own.parent)
    with pytest.raises(UserError, match="own-export is exported: `jaxgen import` makes a run of it"):
        open_run(exported)


def test_a_run_exported_at_a_step_is_resumed_to_the_same_bits(tmp_path):
    """Step 2 of 4: the optimizer's state, the order of the data and the rows up to there go with it."""
    model = labeled(tmp_path / "code")
    settings = Settings(seeds=(0, 1), steps=4, batch_size=8, checkpoint_every=2, keep_checkpoints=None, log_every=1)
    whole = train(model, {}, settings, out=tmp_path / "whole", progress=False)
    made = export(whole.path, checkpoint=2)
    assert not (made / "result.json").exists()
    assert {json.loads(line)["step"] for line in (made / "metrics.jsonl").read_text().splitlines()} == {1, 2}
    again = import_run(made, tmp_path / "again")
    assert standing(again).state == "stopped"
    resumed = train(model, {}, settings, out=again, resume=True, progress=False)
    assert resumed.digests() == whole.digests() != open_run(whole.path, 2).digests()
    assert (again / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


def test_best_checkpoints_of_several_steps_are_no_run(tmp_path, monkeypatch):
    run = ended(tmp_path / "run", labeled(tmp_path / "code"), {}, Settings(seeds=(0, 1), keep_best=("lowest", "loss")))
    opened = open_run(run)
    monkeypatch.setattr("jaxgen.portable.exporting.open_run", lambda *_: opened._replace(chosen=(3, STEP)))
    with pytest.raises(UserError, match="the seeds' best checkpoints, of steps 3, 7, are not those of one run"):
        export(run)


def test_own_data_are_found_where_they_are_on_this_machine(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "there").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "there" / f"{number}.png")
    settings = Settings(dataset="image_folder", data_from=str(tmp_path / "there"), seeds=(0,))
    run = ended(tmp_path / "run", "gan", DENSE, settings)
    wanted = np.asarray(open_run(run).plan.dataset.test["image"][:])
    made = export(run)
    (tmp_path / "there").rename(tmp_path / "here")
    with pytest.raises(
        UserError, match=r"^there is no file or folder .*nowhere, where --data-from says that the data "
    ):
        import_run(made, tmp_path / "found", data_from=tmp_path / "nowhere")
    found = import_run(made, tmp_path / "found", data_from=tmp_path / "here")
    np.testing.assert_array_equal(open_run(found).plan.dataset.test["image"][:], wanted)
    assert open_run(found).plan.settings.data_from == str(tmp_path / "here")
    lost = import_run(made, tmp_path / "lost")
    assert open_run(lost).digests() == open_run(found).digests()
    with pytest.raises(UserError, match=r"the data of .*lost cannot be read"):
        open_run(lost).plan.dataset.test["image"]


def test_an_own_dataset_file_is_found_where_it_is_on_this_machine(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "noise.py").write_text(NOISE)
    run = ended(tmp_path / "run", "gan", DENSE, Settings(dataset=str(tmp_path / "there" / "noise.py"), seeds=(0,)))
    made = export(run)
    (tmp_path / "there").rename(tmp_path / "here")
    found = import_run(made, tmp_path / "found", data_from=tmp_path / "here" / "noise.py")
    monkeypatch.chdir(found)
    dataset = open_run(found).plan.dataset
    np.testing.assert_array_equal(dataset.test["image"], np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1)))
    assert dataset.name == "noise.py"


def test_data_from_is_for_a_users_own_data(exported, tmp_path):
    with pytest.raises(UserError, match="dataset digits is not read from files of yours, so data_from is not for it"):
        import_run(exported, tmp_path / "x", data_from=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_orbax_cannot_save_in_is_refused(exported, tmp_path):
    with pytest.raises(UserError, match=r"a run cannot be saved in .*a\[b: orbax takes \[ for a pattern"):
        import_run(exported, tmp_path / "a[b")
    assert not list(tmp_path.iterdir())


def test_the_command(own, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", str(exported)]) == 0
    digests = [f"digest {seed} {digest}" for seed, digest in open_run(own).digests().items()]
    assert capsys.readouterr().out.splitlines() == ["runs/own-export", *digests]
    assert cli.main(["import", str(exported)]) == 2
    assert capsys.readouterr().err == "jaxgen: error: runs/own-export exists; choose another --out\n"


# Folders that are refused


def described(place, **entries):
    """Changes entries of export.json."""
    folder.write_json(place / "export.json", json.loads((place / "export.json").read_text()) | entries)


def listed(place):
    """Lists every file as it is now in export.json, as a careful forger would."""
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents(place).items()}
    del files["export.json"]
    described(place, files=files)


def flipped(place):
    file = place / "seed-5" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1  # of the parameters
    file.write_bytes(content)


def forged(place):
    flipped(place)
    listed(place)


def another_config(place):
    content = json.loads((place / "config.json").read_text())
    content["config"]["size"] = 5
    folder.write_json(place / "config.json", content)
    listed(place)


def another_seed(place):
    content = json.loads((place / "config.json").read_text())
    content["settings"]["seeds"] = [2, 6]
    folder.write_json(place / "config.json", content)
    listed(place)


def fewer_weights(place):
    file = place / "seed-2" / "model.safetensors"
    kept = safetensors.numpy.load_file(file)
    del kept["params/w"]
    safetensors.numpy.save_file(kept, file)
    listed(place)


def torn(place):
    file = place / "seed-2" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    listed(place)


def another_model(place):
    content = json.loads((place / "config.json").read_text())
    folder.write_json(place / "config.json", content | {"model": "diffusion", "config": {}})
    (place / "model.py").unlink()
    listed(place)


def torn_dataset(place):
    (place / "dataset.npz").write_bytes(b"PK")
    listed(place)


def placed(name):
    """A further file, listed as one that the model file imports."""

    def place_it(place):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
        content = json.loads((place / "environment.json").read_text())
        content["model_imports"][name] = hashlib.sha256().hexdigest()
        folder.write_json(place / "environment.json", content)
        listed(place)

    return place_it


BAD = {
    "nothing": (shutil.rmtree, r"bad is no exported folder: it has no export\.json$"),
    "a run": (lambda place: (place / "export.json").unlink(), "it is a run's, which `jaxgen export` exports"),
    "no JSON": (lambda place: (place / "export.json").write_text("{"), r"cannot read .*export\.json"),
    "other JSON": (lambda place: (place / "export.json").write_text("[1]"), "does not describe an exported folder"),
    "lacking entries": (
        lambda place: (place / "export.json").write_text('{"format": 1}'), "does not describe an exported folder"
    ),
    "a later format": (
        lambda place: described(place, format=2, jaxgen="9.0"),
        r"bad was exported by a later jaxgen \(9\.0\): update jaxgen",
    ),
    "no weights": (
        lambda place: described(place, formats=["onnx"]), "has no weights to import: it was exported to onnx only"
    ),
    "a lost file": (lambda place: (place / "seed-2" / "model.safetensors").unlink(), r"bad lacks seed-2/model\.safet"),
    "a changed file": (flipped, r"seed-5/model\.safetensors was changed since it was exported \(sha256\)"),
    "changed weights": (forged, r"the weights in .*bad have other digests than export\.json has"),
    "a file outside": (
        lambda place: described(place, files={"../own/config.json": "0"}), r"names a file outside .* '\.\./own/conf"
    ),
    "a further file": (
        lambda place: (place / "diverged.json").write_text("{}"), r"diverged\.json is not a file that was exported"
    ),
    "a checkpoint's file": (placed("./checkpoints/7.py"), r"environment\.json names checkpoints/7\.py, which no model"),
    "a lock": (placed("lock/a.py"), r"environment\.json names lock/a\.py, which no model file can import"),
    "scores": (placed("evaluation.json"), r"environment\.json names evaluation\.json, which no model file can import"),
    "another config": (another_config, r"seed-2 and the model differ in opt_state/moment: float32 .*4, 64. there, flo"),
    "another seed": (another_seed, r"export\.json and config\.json differ in their seeds"),
    "fewer weights": (fewer_weights, "seed-2 and the model differ: params/w is only in the model"),
    "torn weights": (torn, r"cannot read .*seed-2/optimizer\.safetensors"),
    "another model": (another_model, "unknown model 'diffusion'"),
    "a torn dataset": (torn_dataset, "cannot read what .*bad keeps of its dataset"),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_a_bad_folder_is_refused_in_one_line(how, exported, tmp_path, capsys):
    """Nothing is left behind."""
    bad = shutil.copytree(exported, tmp_path / "bad")
    change, words = BAD[how]
    change(bad)
    with pytest.raises(UserError, match=words):
        import_run(bad, tmp_path / "out" / "run")
    assert cli.main(["import", str(bad), "--out", str(tmp_path / "out" / "run")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("jaxgen: error: ")
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not (tmp_path / "out").exists()
