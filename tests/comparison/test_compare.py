"""A whole small comparison: 200 digits of 8x8 and a few steps of dense networks."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgen import data, models
from jaxgen.comparison import compare
from jaxgen.comparison.compare import _answers, _foretold
from jaxgen.comparison.experiment import Arm, Comparison, Experiment, load_experiment, shipped
from jaxgen.config import configured
from jaxgen.errors import UserError
from jaxgen.evaluation import evaluate
from jaxgen.model import Spec
from jaxgen.training import Settings

EXPERIMENT = '''
"""Three small models.

What for: the test.
"""
from jaxgen.comparison import Arm, Comparison, Experiment
from jaxgen.training import Settings

bits = {"likelihood": "bernoulli"}
experiment = Experiment(
    title="Small",
    settings=Settings(train_split="train[:200]", seeds=(0, 1), steps=160, log_every=40, checkpoint_every=80),
    arms={
        "counts": Arm("naive_bayes", bits),
        "latent": Arm("vae", {"network": "mlp", "hidden": (32,), "latent_dim": 3, "learning_rate": 3e-3, **bits}),
        "game": Arm("gan", {"latent_dim": 5, "generator_units": 16, "discriminator_units": 8, "pieces": 2}),
    },
    comparisons=(Comparison("latent", "counts", "log_prob_binary"), Comparison("latent", "game", "fd")),
)
'''


# The same run of one arm, and a cheap score.
ONE_ARM = """
import dataclasses
from jaxgen.comparison import Scoring
arms = {"latent": experiment.arms["latent"]}
experiment = dataclasses.replace(experiment, arms=arms, comparisons=(), scoring=Scoring(metrics=("log_prob",)))
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    (folder / "small.py").write_text(EXPERIMENT)
    results = compare(folder / "small.py", out=folder / "out", progress=False)
    return folder, results


def table(results):
    """Returns the only table."""
    (only,) = results["tables"]
    return only


def by_name(table):
    return {row["name"]: row for row in table["rows"]}


def test_rows_and_columns(compared):
    results = table(compared[1])
    names = ["real against real", "real as bits", "counts", "latent", "game"]
    names += ["counts, untrained", "latent, untrained", "game, untrained"]
    assert [row["name"] for row in results["rows"]] == names
    keys = [metric["key"] for metric in results["metrics"]]
    neighbors = ["precision", "recall", "density", "coverage"]
    assert keys == ["fd", "sliced_wasserstein", *neighbors, "recognized", "classes", "log_prob_binary", "accuracy"]
    rows = by_name(results)
    for row in results["rows"][2:]:
        assert all(len(values) == 2 and np.isfinite(values).all() for values in row["values"].values())
    assert "log_prob_binary" not in rows["game"]["values"]
    assert set(rows["latent"]["values"]) == {*keys, "spread"} - {"accuracy"}
    assert {row["samples"] for row in results["rows"]} == {200}
    assert results["extractor"]["name"] == "digits extractor"
    assert "16x16" in results["extractor"]["resizing"]


def test_nulls_frame_the_models(compared):
    """Real images are nearest to real images, and training moves there from the untrained model."""
    rows = by_name(table(compared[1]))
    real = rows["real against real"]["values"]["fd"][0]
    for name in ("counts", "latent", "game"):
        trained, untrained = rows[name]["values"]["fd"], rows[f"{name}, untrained"]["values"]["fd"]
        assert real < min(trained)
        if name != "game":  # which so few steps only make worse
            assert max(trained) < min(untrained)
    assert min(rows["counts"]["values"]["log_prob_binary"]) > max(
        rows["counts, untrained"]["values"]["log_prob_binary"]
    )


def test_untrained_naive_bayes_is_a_fair_coin(compared):
    values = by_name(table(compared[1]))["counts, untrained"]["values"]["log_prob_binary"]
    np.testing.assert_allclose(values, -64 * np.log(2), rtol=1e-5)


def test_seeds_that_count_the_same_are_no_replicas(compared):
    """Each question has its own reason why two seeds are too few."""
    counts, game = (verdict["sentence"] for verdict in compared[1]["verdicts"])
    assert "7 seeds of latent would be enough for 2 declared comparisons, as all seeds of counts trained" in counts
    assert game.startswith("Not enough seeds to tell latent and game apart by FD-digits (2 seeds each;")


def test_judge_and_extractor_differ_and_are_good(compared):
    results = table(compared[1])
    assert results["extractor"]["digest"] != results["judge"]["digest"]
    assert results["extractor"]["accuracy"] > 0.95
    assert results["judge"]["accuracy"] > 0.95


def test_what_is_written(compared):
    folder, results = compared
    saved = json.loads((folder / "out" / "results.json").read_text())
    assert saved == {key: value for key, value in results.items() if key != "report"}
    assert saved["description"].startswith("Three small models.")
    page = (folder / "out" / "report.html").read_text()
    for row in table(results)["rows"]:
        assert row["name"] in page
    assert data.load("digits", train_split="train[:200]").fingerprint in page
    for row in table(results)["rows"]:
        for digest in row.get("digests", {}).values():
            assert digest in page
    assert (folder / "out" / "latent" / "metrics.jsonl").exists()


def test_again_and_after_a_lost_arm_it_ends_with_the_same_table(compared, tmp_path):
    """The comparison is stopped midway, one arm not started and another at half its steps, and started again."""
    folder, results = compared
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    shutil.rmtree(out / "game")
    shutil.rmtree(out / "latent")
    (tmp_path / "half.py").write_text(EXPERIMENT + ONE_ARM)
    half = compare(tmp_path / "half.py", out=tmp_path / "half", steps=80, progress=False)
    shutil.copytree(tmp_path / "half" / "latent", out / "latent")
    again = compare(folder / "small.py", out=out, progress=False)
    for one, other in zip(table(results)["rows"], table(again)["rows"], strict=True):
        assert one["values"] == other["values"]
        assert one.get("digests") == other.get("digests")
    assert by_name(table(half))["latent"]["digests"] != by_name(table(results))["latent"]["digests"]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_table(compared, tmp_path):
    """The comparison is killed in the third arm's training, then after training but before scoring, then not at all."""
    killed = """
import os, signal, sys, time
from jaxgen import cli
from jaxgen.comparison import compare
from jaxgen.training.record import Record

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

metrics = Record.metrics
def write(self, step, *rest):
    if step == 120 and self._path.name == "game":
        while not (self._path / "checkpoints" / "80").is_dir():  # saved in the background
            time.sleep(0.01)
        kill()
    return metrics(self, step, *rest)

at = sys.argv.pop(1)
if at == "training":
    Record.metrics = write
if at == "scoring":
    sys.modules[compare.__module__]._table = kill
sys.exit(cli.main())
"""

    def run(at):
        command = [sys.executable, "-c", killed, at, "compare", str(compared[0] / "small.py"), "--out", "out"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    out = tmp_path / "out"
    assert run("training").returncode == -signal.SIGKILL
    assert {file.parent.name for file in out.glob("*/result.json")} == {"counts", "latent"}
    assert (out / "game" / "checkpoints" / "80").is_dir()
    kept = {name: (out / name / "result.json").stat().st_mtime_ns for name in ("counts", "latent")}
    again = run("scoring")
    assert again.returncode == -signal.SIGKILL
    assert "resuming out/game at step 80" in again.stderr
    assert not (out / "results.json").exists()
    last = run("never")
    assert last.returncode == 0
    assert {name: (out / name / "result.json").stat().st_mtime_ns for name in kept} == kept
    results = json.loads((out / "results.json").read_text())
    for row, before in zip(table(results)["rows"], table(compared[1])["rows"], strict=True):
        assert row["values"] == before["values"]
        assert row.get("digests") == before.get("digests")
    assert results["verdicts"] == compared[1]["verdicts"]


def test_another_comparison_in_the_folder_is_refused(compared, tmp_path):
    folder, _ = compared
    before = (folder / "out" / "results.json").read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        compare(folder / "small.py", out=tmp_path / "out", progress=False)
    with pytest.raises(UserError, match="would go back"):
        compare(folder / "small.py", out=folder / "out", steps=80, progress=False)
    config = json.loads((folder / "out" / "latent" / "config.json").read_text())
    assert config["settings"]["steps"] == 160
    assert (folder / "out" / "results.json").read_bytes() == before
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["precious.txt"]
    (tmp_path / "other" / "game").mkdir(parents=True)  # the last arm's folder, not a run of this comparison
    with pytest.raises(UserError, match="game"):
        compare(folder / "small.py", out=tmp_path / "other", progress=False)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["game"]  # nothing was trained before the error


def test_evaluate_gives_the_comparisons_numbers(compared):
    folder, results = compared
    scores = by_name(evaluate(folder / "out" / "latent", progress=False))
    for name in ("real against real", "latent", "latent, untrained"):
        assert scores[name]["values"] == by_name(table(results))[name]["values"]
    saved = json.loads((folder / "out" / "latent" / "evaluation.json").read_text())
    assert by_name(saved)["latent"]["values"] == by_name(table(results))["latent"]["values"]


def test_experiments_come_with_the_package():
    assert "digits" in shipped()


@pytest.mark.parametrize("name", shipped())
def test_shipped_experiments_can_be_made(name):
    """Arms can be made for 28x28 images in ten classes, scenes, points or meshes; docstrings give what a user needs."""
    loaded = load_experiment(name)
    for part in (f"jaxgen compare experiments/{name}.py", "Time: ", "Expected"):
        assert part in loaded.description
    entries = {"image": jax.ShapeDtypeStruct((28, 28, 1), np.uint8), "label": jax.ShapeDtypeStruct((), np.int32)}
    if loaded.experiment.settings.dataset_name == "gaussians":
        entries = {"point": jax.ShapeDtypeStruct((2,), np.float32)}
    batch_size = loaded.experiment.settings.batch_size
    spec = Spec(entries, 55_000, 10, np.full((28, 28, 1), 0.13), batch_size=batch_size)
    if loaded.experiment.settings.dataset_name.startswith("shapes"):
        side = 32 if loaded.experiment.settings.dataset_name == "shapes_32" else 64
        images = {"image": ((side, side, 3), np.uint8), "caption": ((26,), np.int32)}
        entries |= {entry: jax.ShapeDtypeStruct(*of) for entry, of in images.items()}
        spec = Spec(entries, 20_000, 10, np.full((side, side, 3), 0.5), num_words=40, batch_size=batch_size)
    if loaded.experiment.settings.dataset_name in ("bars", "mesh_folder"):
        spec = data.load("bars", progress=False).spec
    for arm in loaded.experiment.arms.values():
        module = models.load(arm.model)
        assert module.make(configured(module.Config, arm.config, name), spec).needs


def test_an_arm_is_compared_with_a_column_of_its_own_by_pairs_of_seeds():
    """Nine seeds below the column each: sign flips give p = 2 / 2^9 for both questions, and their columns differ."""
    comparisons = [Comparison(arm, "vertex_error_pca", "vertex_error") for arm in ("small", "large")]
    settings = Settings(dataset="bars", seeds=tuple(range(9)))
    chosen = Experiment("Meshes", dict.fromkeys(("small", "large"), Arm("meshvae")), settings, comparisons=comparisons)
    errors, of_pca = np.linspace(1, 2, 9), {"small": 3.0, "large": 2.5}
    rows = [
        {
            "kind": "trained",
            "name": arm,
            "values": {"vertex_error": [*errors], "vertex_error_pca": [pca] * 9},
            "digests": {str(seed): f"{arm} {seed}" for seed in range(9)},
        }
        for arm, pca in of_pca.items()
    ]
    titles = [{"key": "vertex_error", "title": "vertex error"}]
    small, large = _answers(chosen, [{"label": "bars", "rows": rows, "metrics": titles}])
    for answer, pca in ((small, 3.0), (large, 2.5)):
        assert (answer["paired"], answer["verdict"], answer["p"]) == (True, "better", pytest.approx(2 / 2**9))
        assert answer["effect"] == pytest.approx(pca - 1.5)
    assert large["sentence"].startswith(
        "large has a lower vertex error than large's PCA of vertices (9 pairs of seeds)"
    )
    alike = [row | {"digests": dict.fromkeys(row["digests"], "one")} for row in rows]
    small, _ = _answers(chosen, [{"label": "bars", "rows": alike, "metrics": titles}])
    assert (small["verdict"], small["p"], small["p_holm"], small["needed"]) == ("not tested", None, None, None)
    few = dataclasses.replace(chosen, settings=Settings(dataset="bars", seeds=(0, 1, 2)))
    assert _foretold(few, 1)[0].endswith("by vertex_error: 3 pairs of seeds; 7 would do for 2 declared comparisons")

    # A seed that diverged has neither score, and counts against the arm alone: three of nine signs are not its own
    for row in rows:
        row["values"] = {key: [*values[:6], None, None, None] for key, values in row["values"].items()}
    small, _ = _answers(chosen, [{"label": "bars", "rows": rows, "metrics": titles}])
    assert small["verdict"] == "no difference can be told"
    assert "3 of small's and 0 of small's PCA of vertices's diverged" in small["sentence"]
