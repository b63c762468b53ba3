"""`jaxgen runs` and `jaxgen verify`: the state of runs, and parts that changed since they were written."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.text import Text

from jaxgen import cli
from jaxgen.errors import UserError
from jaxgen.pictures import sample
from jaxgen.training import Settings, folder, open_run, train
from jaxgen.training.checkpoints import Checkpoints, DamagedError
from jaxgen.training.lock import locked
from jaxgen.training.status import DAMAGED, runs_below, standing, verified
from tests.cases import some_slow
from tests.faults.test_damage import DAMAGES

SMALL = {"network": "mlp", "hidden": (8,), "latent_dim": 2}
HOW = Settings(seeds=(0, 1), steps=8, batch_size=8, log_every=4, sample_every=8, checkpoint_every=4)

# The seed whose first random number is above a half fails at step 5.
FAILING = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Model, Phase, State

@dataclass(frozen=True)
class Config:
    fails: float = 0.5  # above it

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), {"start": jax.random.uniform(key)})
    def step(key, state, batch):
        fails = (state.params["start"] > config.fails) & (state.step == 5)
        return state, {"loss": jnp.where(fails, jnp.nan, state.params["start"])}
    return Model(init, (Phase("train", step),), ("image",))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train("vae", SMALL, HOW, out=tmp_path_factory.mktemp("whole") / "run", progress=False)


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole.path, tmp_path / "run"))


def bad(run: Path) -> dict[str, str]:
    """Messages for the parts that changed since they were written."""
    return {what: words for what, words, state in verified(run) if state == DAMAGED}


def test_how_runs_stand(run, tmp_path, capsys):
    assert standing(run)[1:4] == ("done", 8, 8)
    (run / "result.json").unlink()
    assert standing(run)[1:4] == ("stopped", 8, 8)
    with locked(run):
        assert standing(run).state == "running"
        assert "process" in standing(run).note
        ((what, words, _),) = verified(run)
        assert (what, words.startswith("in use by process ")) == ("lock", True)
    (tmp_path / "fails.py").write_text(FAILING)
    how = dataclasses.replace(HOW, seeds=tuple(range(6)))
    failed = train(str(tmp_path / "fails.py"), None, how, out=tmp_path / "more" / "failed", progress=False)
    assert 0 < len(failed.diverged) < 6
    seeds = ", ".join(f"{seed} at step 5" for seed in failed.diverged)
    assert standing(failed.path)[1:4] == ("diverged", 8, 8)
    assert standing(failed.path).note.startswith("diverged: seed")
    assert standing(failed.path).note.endswith(seeds)
    assert not bad(failed.path)
    (failed.path / "model.py").write_text(FAILING + "\n")
    assert list(bad(failed.path)) == ["model.py"]
    (failed.path / "result.json").unlink()  # as while training, or after an interruption
    assert standing(failed.path).state == "stopped"
    assert standing(failed.path).note.endswith(seeds)
    shutil.copytree(run, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    assert standing(tmp_path / "broken")[1:4] == ("damaged", None, None)
    shutil.copytree(run, tmp_path / "lacking")
    (tmp_path / "lacking" / "environment.json").unlink()
    assert standing(tmp_path / "lacking").state == "damaged"
    assert runs_below(tmp_path) == [tmp_path / "broken", tmp_path / "lacking", failed.path, run]
    capsys.readouterr()
    assert cli.main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert [out.count(word) for word in ("damaged", "stopped")] == [2, 2], out
    assert cli.main(["runs", str(tmp_path / "broken" / "samples")]) == 0
    assert capsys.readouterr().err.startswith("no run below ")


@pytest.mark.parametrize("name", ["run of\tmine", "a/" + "long-" * 40, "new\nline", "été"])
def test_in_a_pipe_a_run_is_a_line(name, run, tmp_path, monkeypatch, capsys):
    """Tabs and ends of lines in names are spaces there; columns of the terminal do not matter."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x" / name).parent.mkdir(parents=True)
    run.rename(tmp_path / "x" / name)
    shutil.copytree(tmp_path / "x" / name, tmp_path / "x" / "ÿ")
    (tmp_path / "x" / "ÿ" / "result.json").unlink()
    (tmp_path / "x" / "ÿ" / "diverged.json").write_text('{"1": {"step": 5}}')
    seconds = round(json.loads((tmp_path / "x" / name / "result.json").read_text())["seconds"])
    capsys.readouterr()
    assert cli.main(["runs", "x"]) == 0
    first, second = capsys.readouterr().out.removesuffix("\n").split("\n")
    shown = "x/" + name.replace("\t", " ").replace("\n", " ")
    assert first.split("\t") == [shown, "done", "8", "8", "vae", "digits", "0 1", str(seconds), ""]
    assert second.split("\t") == ["x/ÿ", "stopped", "8", "8", "vae", "digits", "0 1", "", "diverged: seed 1 at step 5"]


@pytest.mark.parametrize("columns", some_slow([30, 40, 80, 200]))
def test_names_are_whole_in_the_list_of_runs_however_narrow(run, tmp_path, columns, monkeypatch, capsys):
    """Each run has a paragraph if a table does not fit, and a run that ended before its steps reads as done."""
    name = "a run of a rather long name/with-words-that-are-not-to-be-broken/and_a_last_one"
    (tmp_path / name).parent.mkdir(parents=True)
    run.rename(tmp_path / name)
    counted = train("naive_bayes", None, dataclasses.replace(HOW, steps=999), out=tmp_path / "counted", progress=False)
    (tmp_path / name / "result.json").unlink()
    (tmp_path / name / "diverged.json").write_text('{"1": {"step": 5}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    capsys.readouterr()
    assert cli.main(["runs", "."]) == 0
    out = Text.from_ansi(capsys.readouterr().out).plain
    assert name in out
    assert counted.step == 101  # one pass over 808 examples, in batches of 8
    words = out if columns == 200 else " ".join(out.split())
    assert "101 of 101" in words
    assert "diverged: seed 1 at step 5" in words
    assert all(len(line) <= columns for line in out.splitlines() if name not in line)


def test_a_run_that_is_whole(run, whole, capsys):
    files = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert not bad(run)
    assert cli.main(["verify", str(run.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(run)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["ok", name]
        for name in (
            *("config.json", "environment.json", "data", "metrics.jsonl", "samples", "checkpoints/4", "checkpoints/8"),
            "result.json",
        )
    ] + [["unsigned", "model.sig"]]
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == files


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_found(run, damage):
    damage(run / "checkpoints" / "4")
    assert list(bad(run)) == ["checkpoints/4"]


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_each_other_part_that_is_damaged_is_found(run, capsys):
    rows = (run / "metrics.jsonl").read_text()
    for text, words in [
        (rows[:-9], "is torn"),
        ("".join(rows.splitlines(keepends=True)[:3]), "lacks 1 rows, the first of seed 1 at step 8"),
        ("", "lacks 4 rows, the first of seed 0 at step 4"),
        (rows + rows.splitlines()[0] + "\n", "line 5 of .* is not a row after those before"),
        (rows.replace('"seed": 1', '"seed": 2'), "line 2 of .* is not a row after those before"),
        (rows[4:], "cannot read"),
        ("7\n", "line 1 of .* is no row: it has no step and seed"),
        ('{"step": [], "seed": {}}\n', "line 1 of .* is no row"),
    ]:
        (run / "metrics.jsonl").write_text(text)
        found = bad(run)
        assert list(found) == ["metrics.jsonl"]
        assert re.search(words, found["metrics.jsonl"])
    (run / "metrics.jsonl").write_text(rows)
    edit(run / "result.json", lambda result: result["digests"].update({"1": result["digests"]["0"]}))
    assert "has other digests than checkpoint 8" in bad(run)["result.json"]
    (run / "result.json").write_text("[]")
    assert "does not hold a run's result" in bad(run)["result.json"]
    (run / "result.json").unlink()
    picture = run / "samples" / "seed-1" / "step-0000008.png"
    whole_picture = picture.read_bytes()
    picture.write_bytes(whole_picture[:60])
    assert bad(run)["samples"].startswith(f"{picture} cannot be decoded: ")
    picture.write_bytes(b"none")
    assert bad(run)["samples"] == f"{picture} is no picture"
    picture.unlink()
    assert bad(run)["samples"] == f"{run / 'samples'} lacks the grids of 1 steps, the first 8"
    picture.write_bytes(whole_picture)
    edit(run / "environment.json", lambda content: content["dataset"].update(fingerprint="0" * 64))
    assert list(bad(run)) == ["checkpoints/4", "checkpoints/8"]
    capsys.readouterr()
    assert cli.main(["verify", str(run)]) == 2
    out, err = capsys.readouterr()
    assert out.count("DAMAGED") == 2
    assert err == f"jaxgen: error: 2 of 8 parts of {run} are not as they were written\n"
    kept = (run / "environment.json").read_text()
    edit(run / "environment.json", lambda content: content.update(model_imports=3))
    assert "does not hold a run's environment" in bad(run)["environment.json"]
    (run / "environment.json").write_text(kept)
    for odd in ({"log_every": 0}, {"log_every": "4"}):
        kept = (run / "config.json").read_text()
        edit(run / "config.json", lambda content, odd=odd: content["settings"].update(odd))
        assert "config.json" in bad(run)
        (run / "config.json").write_text(kept)
    (run / "diverged.json").write_text('{"x": {"step": 1}}')
    assert "metrics.jsonl" not in bad(run)
    (run / "diverged.json").unlink()
    edit(run / "config.json", lambda content: content["config"].update(latent_dims=3))
    assert "no field 'latent_dims'" in bad(run)["plan"]
    for change in (
        lambda content: content["settings"].pop("seeds"),
        lambda content: content["settings"].update(seeds="0"),
        lambda content: content.update(settings=[]),
    ):
        edit(run / "config.json", change)
        assert "config.json" in bad(run)
        assert standing(run).state == "damaged"
    (run / "config.json").unlink()
    assert cli.main(["verify", str(run)]) == 2


@pytest.mark.parametrize("content", ["[]", "{", None, "other"])
def test_a_result_that_is_not_the_runs_is_made_again_on_resuming(run, whole, content, capsys):
    if content == "other":
        edit(run / "result.json", lambda result: result["digests"].update({"1": result["digests"]["0"]}))
    elif content:
        (run / "result.json").write_text(content)
    else:
        (run / "result.json").unlink()
    assert train("vae", SMALL, HOW, out=run, resume=True).digests() == whole.digests()
    assert not bad(run)
    assert capsys.readouterr().err.count("written anew") == bool(content)


def test_rows_that_are_lost_are_told_of_on_resuming(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[2:]))
    train("vae", SMALL, dataclasses.replace(HOW, steps=12), out=run, resume=True)
    words = " ".join(capsys.readouterr().err.split())
    assert "metrics.jsonl lacks 2 rows, the first of seed 0 at step 4; they are not written again" in words


def test_a_run_whose_checkpoints_are_lost_is_not_begun_anew(run):
    shutil.rmtree(run / "checkpoints")
    files = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != "lock"}
    for _ in range(2):
        with pytest.raises(UserError, match=r"no checkpoint of .* is left to resume from, though it came to step 8"):
            train("vae", SMALL, dataclasses.replace(HOW, checkpoint_every=4), out=run, resume=True, progress=False)
        assert {file: file.read_bytes() for file in files} == files
    assert bad(run)["checkpoints"].startswith("there is none, though the run is done")
    (run / "result.json").unlink()
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(rows + rows.replace('"step": 8', '"step": 9').replace('"step": 4', '"step": 9'))
    with pytest.raises(UserError, match="though it came to step 9"):
        train("vae", SMALL, HOW, out=run, resume=True, progress=False)


def test_a_checkpoint_that_is_removed_while_it_is_read_is_not_damaged(run, whole, monkeypatch):
    """The run continues training; its newest checkpoint is then read."""
    read, seen = folder.restore, []
    newest = (run / "checkpoints" / "8").rename(run / "8")

    def removed_first(path, plan, step):
        seen.append(step)
        if len(seen) == 1:
            newest.rename(run / "checkpoints" / "8")
            shutil.rmtree(run / "checkpoints" / "4")
            raise DamagedError(run / "checkpoints" / "4", "NOT_FOUND")
        return read(path, plan, step)

    monkeypatch.setattr(folder, "restore", removed_first)
    opened = folder.open_run(run)
    assert seen == [4, 8]
    assert opened.digests() == whole.digests()


def test_a_folder_that_was_left_before_the_first_step_is_gone_on_with(run, whole):
    """The folder is from a process that was killed."""
    for file in ("metrics.jsonl", "result.json"):
        (run / file).unlink()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="exists; choose another --out, or --resume"):
        train("vae", SMALL, HOW, out=run, progress=False)
    assert train("vae", SMALL, HOW, out=run, resume=True, progress=False).digests() == whole.digests()
    assert not bad(run)


def test_a_deletion_that_a_kill_broke_off_is_ended_and_no_damage(run, monkeypatch):
    left = run / "checkpoints" / "removed" / "2"
    shutil.copytree(run / "checkpoints" / "4", left)
    shutil.rmtree(left / "data")
    assert not bad(run)
    assert standing(run).state == "done"
    train("vae", SMALL, dataclasses.replace(HOW, steps=16), out=run, resume=True, progress=False)
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["12", "16"]
    monkeypatch.setattr(Checkpoints, "_sweep", lambda self: None)  # stops between the two halves of a deletion
    train("vae", SMALL, dataclasses.replace(HOW, steps=20), out=run, resume=True, progress=False)
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["16", "20", "removed"]
    assert {file.name for file in (run / "checkpoints" / "removed" / "12").iterdir()} > {"data", "state"}


def test_a_folder_that_orbax_would_take_for_a_pattern_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be saved in .*a\[1\]/run: orbax takes \[ for a pattern"):
        train("vae", SMALL, HOW, out=tmp_path / "a[1]" / "run", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    """A run, its samples, the folder of images that it was trained on, and a copy of it."""
    folder = tmp_path_factory.mktemp("of_images")
    images = folder / "images"
    for number in range(40):
        image = np.full((8, 8), 5 * number, np.uint8)
        (images / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / str(number % 2) / f"{number}.png")
    settings = Settings(dataset="image_folder", data_from=str(images), channels=1, steps=2, seeds=(0, 1))
    trained = train("naive_bayes", None, settings, out=folder / "run", progress=False)
    first = sample(trained.path, out=folder / "before.png").read_bytes()
    shutil.copytree(images, folder / "kept")
    return trained, first, images, folder / "kept"


def save(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(path)


def emptied(images: Path) -> None:
    shutil.rmtree(images)
    images.mkdir()


CHANGES = {
    "moved": (lambda images: images.rename(images.with_name("elsewhere")), "cannot be read: there is no folder"),
    "an image more": (lambda images: save(images / "0" / "more.png"), CHANGED := "have changed since it was trained"),
    "an image changed": (lambda images: save(images / "0" / "0.png"), CHANGED),
    "an image less": (lambda images: (images / "0" / "0.png").unlink(), CHANGED),
    "an image damaged": (lambda images: (images / "0" / "0.png").write_bytes(b"x"), "cannot decode"),
    "an image renamed": (lambda images: (images / "1" / "1.png").rename(images / "1" / "x.png"), CHANGED),
    "a class renamed": (lambda images: (images / "1").rename(images / "2"), CHANGED),
    "a class more": (lambda images: save(images / "2" / "0.png"), CHANGED),
    "emptied": (emptied, "holds no image"),
    "a file in its place": (lambda images: (shutil.rmtree(images), images.write_bytes(b"")), "images is a file"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_are_not_there_are_not_checked(change, of_images, tmp_path, capsys):
    """Digest, samples and other checks need no data; checks that do say so."""
    trained, first, images, kept = of_images
    images.unlink() if images.is_file() else shutil.rmtree(images, ignore_errors=True)
    shutil.copytree(kept, images)
    alter, words = CHANGES[change]
    alter(images)
    assert open_run(trained.path).digests() == trained.digests()
    assert sample(trained.path, out=tmp_path / "after.png").read_bytes() == first
    assert cli.main(["verify", str(trained.path)]) == 0
    out = capsys.readouterr().out
    assert out.count("not checked") == 1
    assert "DAMAGED" not in out
    assert cli.main(["evaluate", str(trained.path), "--metrics", "accuracy"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_what_a_run_keeps_of_its_dataset_is_checked(run):
    """The dataset's description and arrays are covered by one sha256."""
    described = run / "dataset.json"
    whole = described.read_text()
    for change in ({"num_examples": 7}, {"classes": ["a"]}, {"sha256": "0" * 64}):
        edit(described, lambda content, change=change: content.update(change))
        with pytest.raises(UserError, match="keeps of its dataset"):
            open_run(run)
        assert "plan" in bad(run)
        described.write_text(whole)
    (run / "dataset.npz").write_bytes(b"none")
    with pytest.raises(UserError, match="keeps of its dataset"):
        open_run(run)
    described.unlink()
    with pytest.raises(UserError, match=r"cannot read .*dataset\.json"):
        open_run(run)
