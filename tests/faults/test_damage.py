"""Damaged checkpoints: they are renamed with a message and the previous one is used, or the run is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.training import Settings, open_run, train
from jaxgen.training.checkpoints import Checkpoints, Keep, best_steps
from jaxgen.training.folder import checkpoint_steps
from jaxgen.training.rows import read_rows

# Arrays updated by the step's key and batch: quick to compile.
WALK = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Model, Phase, State

@dataclass(frozen=True)
class Config:
    size: int = 600  # numbers of an array

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), {"a": jax.random.uniform(key, (config.size,)), "b": jnp.zeros(3)})
    def step(key, state, batch):
        a = state.params["a"] + jax.random.normal(key, (config.size,)) * batch["image"].astype(jnp.float32).mean()
        return state._replace(params={**state.params, "a": a}), {"first": a[0]}
    return Model(init, (Phase("walk", step),), ("image",))
"""
HOW = Settings(seeds=(0, 1), steps=8, batch_size=8, log_every=4, sample_every=100, checkpoint_every=4)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """File of the model."""
    file = tmp_path_factory.mktemp("model") / "walk.py"
    file.write_text(WALK)
    return str(file)


@pytest.fixture(scope="module")
def whole(walk, tmp_path_factory):
    return train(walk, None, HOW, out=tmp_path_factory.mktemp("whole") / "run", progress=False)


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole.path, tmp_path / "run"))


def largest(folder: Path) -> Path:
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def flip(folder: Path) -> None:
    file = largest(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(folder: Path) -> None:
    file = largest(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(folder: Path) -> None:
    largest(folder).write_bytes(b"")


def without_metadata(folder: Path) -> None:
    (folder / "state" / "_METADATA").unlink()


def without_data(folder: Path) -> None:
    shutil.rmtree(folder / "data")


def another_record(folder: Path) -> None:
    file = folder / "data" / "metadata"
    content = json.loads(file.read_text())
    content["content"]["seconds"] += 1
    file.write_text(json.dumps(content))


def copy_of_another_step(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("8" if folder.name == "4" else "4"), folder)


DAMAGES = [flip, truncate, empty, without_metadata, without_data, another_record, copy_of_another_step]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_set_aside_and_the_one_before_is_used(walk, whole, run, damage, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    damage(run / "checkpoints" / "8")
    with pytest.raises(UserError, match=rf"^{run}/checkpoints/8 is damaged: .*resumes from the one before$"):
        open_run(run)
    assert (run / "checkpoints" / "8").is_dir()  # reading changes nothing
    capfd.readouterr()
    resumed = train(walk, None, HOW, out=run, resume=True, progress=False)
    assert resumed.digests() == whole.digests()
    assert open_run(run).digests() == whole.digests()
    assert (run / "damaged" / "8").is_dir()
    err = capfd.readouterr().err
    assert "checkpoints/8 is damaged: " in err
    rows = (run / "metrics.jsonl").read_text()
    assert rows == (whole.path / "metrics.jsonl").read_text()


def test_where_all_are_damaged_nothing_is_begun_anew(walk, run):
    for step in (4, 8):
        flip(run / "checkpoints" / str(step))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != "lock"}
    with pytest.raises(UserError, match=rf"^no checkpoint of {run} is left to resume from; .*8 is damaged.*; 1 more$"):
        train(walk, None, HOW, out=run, resume=True, progress=False)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != "lock"} == before


def test_every_flipped_bit_is_found(tmp_path, record_property):
    """Restoring is refused, or all restored values are unchanged, for flipped bits in any file of a checkpoint."""
    tree = {"a": np.arange(64, dtype=np.float32), "b": {"c": np.int32(5)}}
    with Checkpoints(tmp_path / "all", Keep()) as checkpoints:
        checkpoints.save(1, tree, {"belongs": {"model": "m"}, "seconds": 2.0})
    refused = tried = 0
    rng = np.random.default_rng(0)
    files = sorted(file for file in (tmp_path / "all" / "1").rglob("*") if file.is_file() and file.stat().st_size)
    for number, file in enumerate(files * 6):
        copy = Path(shutil.copytree(tmp_path / "all", tmp_path / str(number)))
        victim = copy / file.relative_to(tmp_path / "all")
        content = bytearray(victim.read_bytes())
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        victim.write_bytes(content)
        tried += 1
        try:
            with Checkpoints(copy) as checkpoints:
                restored, content = checkpoints.restore(1, tree, {"model": "m"})
                assert content["seconds"] == 2
        except UserError:
            refused += 1
            continue
        jax.tree.map(np.testing.assert_array_equal, restored, tree)
    assert 0 < refused < tried
    record_property("cases", tried)


def test_a_changed_parameter_is_named(tmp_path):
    tree = {"params": {"kernel": np.zeros((2, 3), np.float32)}}
    with Checkpoints(tmp_path, Keep()) as checkpoints:
        checkpoints.save(1, tree, {"belongs": {}})
    for other, words in [
        (np.zeros((2, 4), np.float32), r"params/kernel: float32 \[2, 3\] there, float32 \[2, 4\] here"),
        (np.zeros((2, 3), np.float16), r"params/kernel: float32 \[2, 3\] there, float16 \[2, 3\] here"),
    ]:
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=words):
            checkpoints.restore(1, {"params": {"kernel": other}}, {})
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="params/bias is only in the model"):
        checkpoints.restore(1, {"params": {"kernel": tree["params"]["kernel"], "bias": np.zeros(3)}}, {})


TREE = {"a": np.zeros(3, np.float32)}


def kept(folder: Path, keep: Keep, scores: list[dict]) -> list[int]:
    """Saves one checkpoint per score, half of them in an earlier process, and returns the steps that remain."""
    for part in (scores[: len(scores) // 2], scores[len(scores) // 2 :]):
        with Checkpoints(folder, keep) as checkpoints:
            first = len(checkpoints.steps()) and checkpoints.steps()[-1]
            for step, row in enumerate(part, first + 1):
                checkpoints.save(step, TREE, {"belongs": {}, "scores": row})
    with Checkpoints(folder) as checkpoints:
        return checkpoints.steps()


def test_a_score_that_is_not_finite_is_never_the_best_and_evicts_nothing(tmp_path):
    nan, inf = float("nan"), float("inf")
    values = [3.0, nan, 1.0, -inf, nan, 2.0, inf, None]
    assert kept(tmp_path / "lowest", Keep(2, "lowest"), [{"0": value} for value in values]) == [3, 7, 8]
    assert kept(tmp_path / "highest", Keep(2, "highest"), [{"0": value} for value in values]) == [1, 7, 8]
    assert kept(tmp_path / "none", Keep(2, "lowest"), [{"0": nan}] * 6) == [5, 6]
    assert kept(tmp_path / "all", Keep(None, "lowest"), [{"0": nan}] * 4) == [1, 2, 3, 4]


def test_the_best_of_every_seed_stays(tmp_path):
    rows = [{"0": 1.0, "7": 5.0}, {"0": 2.0, "7": 5.0}, {"0": 3.0, "7": 4.0}, {"0": 4.0}, {"0": 5.0, "7": None}]
    assert kept(tmp_path, Keep(1, "lowest"), rows) == [1, 3, 5]
    assert best_steps(dict(enumerate(rows, 1)), "lowest") == {"0": 1, "7": 3}
    assert best_steps(dict(enumerate(rows, 1)), "highest") == {"0": 5, "7": 1}


def test_a_run_keeps_and_opens_each_seeds_best(walk, tmp_path, capsys):
    how = dataclasses.replace(HOW, steps=24, checkpoint_every=3, log_every=3, keep_checkpoints=1)
    every = train(walk, None, dataclasses.replace(how, keep_checkpoints=None), out=tmp_path / "all", progress=False)
    run = train(
        walk, None, dataclasses.replace(how, keep_best=("highest", "first")), out=tmp_path / "run", progress=False
    )
    assert run.digests() == every.digests()
    rows = read_rows(run.path / "metrics.jsonl")
    best = {
        seed: max((row["first"], -row["step"]) for row in rows if row["seed"] == seed)[1] * -1 for seed in HOW.seeds
    }
    assert checkpoint_steps(run.path) == sorted({*best.values(), 24})
    opened = open_run(run.path, "best")
    assert opened.chosen == tuple(best.values())
    for seed, step in best.items():
        assert opened.digests()[seed] == open_run(every.path, step).digests()[seed]
    with pytest.raises(UserError, match=r"run has no checkpoint 25; it has newest, .*24$"):
        open_run(run.path, 25)
    with pytest.raises(UserError, match="all was trained without keep_best"):
        open_run(every.path, "best")
    with pytest.raises(UserError, match=r"keep_best: .*/walk\.py has no metric losss; it has first$"):
        train(walk, None, dataclasses.replace(how, keep_best=("lowest", "losss")), out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_another_order_of_the_data_is_refused(walk, run, monkeypatch):
    """A later version might shuffle differently, which the fingerprint and the seed do not show."""
    stream = pipeline.stream
    monkeypatch.setattr(pipeline, "stream", lambda *args: stream(*args)[:, ::-1])
    (run / "result.json").unlink()
    with pytest.raises(UserError, match=rf"the order of dataset digits has changed since step 8 of {run}"):
        train(walk, None, dataclasses.replace(HOW, steps=12), out=run, resume=True, progress=False)
