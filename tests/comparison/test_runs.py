"""Runs of a comparison: reused, renamed and restored; and choices among them by validation data."""

import json

import numpy as np
import pytest

from jaxgen import data
from jaxgen.comparison import Scoring, compare
from jaxgen.errors import UserError
from jaxgen.evaluation.scorer import Scorer
from jaxgen.training import engine, folder, loop, open_run

pytestmark = pytest.mark.slow

EXPERIMENT = '''
"""Two datasets, a sweep, chosen checkpoints."""
from jaxgen.comparison import Arm, Comparison, Experiment, Scoring, Sweep
from jaxgen.training import Settings

DECIDES = "log_prob_binary"
SMALL = {"features": 4, "latent_dim": 3, "likelihood": "bernoulli"}
experiment = Experiment(
    title="Chosen",
    settings=Settings(seeds=(0, 1, 2, 3), steps=60, log_every=60, checkpoint_every=20, sample_every=60),
    datasets={"gray": {"dataset": "digits"}, "bits": {"dataset": "digits", "binarize": "threshold"}},
    arms={
        "counts": Arm("naive_bayes", {"likelihood": "bernoulli"}),
        "latent": Arm("vae", SMALL, Sweep({"learning_rate": (1e-5, 0.01)}, DECIDES)),
    },
    scoring=Scoring(metrics=("log_prob", "recognized"), samples=50),
    checkpoint=DECIDES,
    comparisons=(Comparison("counts", "latent", DECIDES), Comparison("latent", "counts", "recognized", "bits")),
)
'''

OWN = '''
"""The mean image."""
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Model, Phase, Sampler, State
from jaxgen.nn.image import from_unit, to_unit


@dataclass(frozen=True)
class Config:
    noise: float = 0.1


def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.zeros(spec.image_shape))

    def step(key, state, batch):
        return state._replace(params=state.params + to_unit(batch["image"]).mean(0) * FACTOR), {"one": jnp.float32(1)}

    def sample(key, state, num, condition):
        return {"image": from_unit(jax.random.uniform(key, (num, *spec.image_shape)))}

    return Model(init, (Phase("sum", step),), needs=("image",), sampler=Sampler(sample))
'''


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    path = tmp_path_factory.mktemp("chosen")
    (path / "chosen.py").write_text(EXPERIMENT)
    return path, compare(path / "chosen.py", out=path / "out", progress=False)


@pytest.fixture
def untrained(monkeypatch):
    """Makes any training fail."""

    def never(*_):
        raise AssertionError("trained")

    monkeypatch.setattr(loop, "_train", never)


def row(results, label, name):
    return next(
        row for table in results["tables"] if table["label"] == label for row in table["rows"] if row["name"] == name
    )


def test_a_table_a_dataset(compared):
    _, results = compared
    assert [table["label"] for table in results["tables"]] == ["gray", "bits"]
    assert [table["dataset"]["options"].get("binarize") for table in results["tables"]] == [None, "threshold"]
    names = [[row["name"] for row in table["rows"] if row["kind"] == "real"] for table in results["tables"]]
    assert names == [["real against real", "real as bits"], ["real against real"]]
    assert row(results, "bits", "counts")["run"] == "bits/counts"
    page = (compared[0] / "out" / "report.html").read_text()
    assert all(verdict["sentence"].partition(" (")[0] in page for verdict in results["verdicts"])


def test_the_sweep_is_decided_by_validation_data_and_counted(compared):
    path, results = compared
    assert [(tuning["arm"], tuning["table"]) for tuning in results["tuning"]] == [
        ("latent", "gray"),
        ("latent", "bits"),
    ]
    for tuning in results["tuning"]:
        low, high = tuning["trials"]
        assert (low["config"], high["config"]) == ({"learning_rate": 1e-5}, {"learning_rate": 0.01})
        assert low["value"] < high["value"]
        assert (low["chosen"], high["chosen"]) == (False, True)
        assert (tuning["runs"], tuning["split"]) == (2, "validation")
        assert row(results, tuning["table"], "latent")["config"]["learning_rate"] == 0.01
        run = open_run(path / "out" / tuning["table"] / "tuning" / "latent" / "001")
        assert run.plan.settings.seeds == (1000,)
        with Scorer(run.plan.dataset, Scoring(("log_prob",)), False, split="validation") as scorer:
            assert scorer.dataset.test is run.plan.dataset.validation
            assert scorer.values(run.plan, "", run.state, set())["log_prob_binary"] == [high["value"]]


def test_each_seed_has_its_best_checkpoint(compared):
    path, results = compared
    assert results["checkpoint"].endswith("that is best by log p, binary on the validation split")
    for label in ("gray", "bits"):
        run = open_run(path / "out" / label / "latent")
        steps = folder.checkpoint_steps(run.path)
        assert steps == [20, 40, 60]
        states = [folder.restore(run.path, run.plan, step)[0] for step in steps]
        with Scorer(run.plan.dataset, Scoring(("log_prob",), samples=50), False, split="validation") as scorer:
            scores = [scorer.values(run.plan, "", state, set())["log_prob_binary"] for state in states]
        best = np.argmax(scores, axis=0)
        found = row(results, label, "latent")
        assert found["checkpoints"] == [steps[i] for i in best]
        for seed, i in enumerate(best):
            assert found["digests"][str(seed)] == engine.digests(run.plan.settings.seeds, states[i])[seed]


def test_verdicts_are_of_the_seeds_scores(compared):
    _, results = compared
    over_both, bits = results["verdicts"]
    assert (over_both["table"], bits["table"]) == (None, "bits")
    for label in ("gray", "bits"):
        scores = [row(results, label, name)["values"]["log_prob_binary"] for name in ("counts", "latent")]
        assert min(scores[0]) > max(scores[1])
    assert over_both["verdict"] == "better"
    # counts have one training: every sign of 4 seeds' ranks against its mean, within each of two datasets
    assert over_both["p"] == pytest.approx(2 / 2 ** (2 * 4))
    means = [np.mean(row(results, "bits", name)["values"]["recognized"]) for name in ("latent", "counts")]
    assert bits["effect"] == pytest.approx(means[0] - means[1])
    (across,) = results["across"]
    both = [row(results, label, "counts")["values"]["recognized"] for label in ("gray", "bits")]
    middle = np.sort(np.ravel(both))[2:6]
    assert across["rows"][0]["interquartile_mean"] == pytest.approx(middle.mean())


def test_what_is_there_is_used_again(compared, untrained):
    path, results = compared
    again = compare(path / "chosen.py", out=path / "out", progress=False)
    assert again["tables"] == results["tables"]
    assert again["verdicts"] == results["verdicts"]
    assert not list((path / "out").rglob("*aside*"))


def test_a_changed_model_is_trained_anew_and_comes_back(tmp_path, monkeypatch, capsys):
    (tmp_path / "own.py").write_text(OWN.replace("FACTOR", "1.0"))
    (tmp_path / "two.py").write_text(
        '"""Two."""\nfrom jaxgen.comparison import Arm, Experiment, Scoring\nfrom jaxgen.training import Settings\n'
        'experiment = Experiment("Two", {"mine": Arm("own.py"), "counts": Arm("naive_bayes")},\n'
        '    Settings(seeds=(0, 1), steps=3), scoring=Scoring(metrics=("parzen",), samples=20))\n'
    )

    def compared(**changes):
        table = compare(tmp_path / "two.py", out=tmp_path / "out", **changes)["tables"][0]
        return {row["name"]: row["digests"] for row in table["rows"] if row["kind"] == "trained"}

    first = compared()
    capsys.readouterr()
    (tmp_path / "own.py").write_text(OWN.replace("FACTOR", "2.0"))
    second = compared()
    said = capsys.readouterr().err
    assert "mine is trained anew: " in said
    assert "own.py was changed since" in said
    assert second["counts"] == first["counts"]
    assert second["mine"] != first["mine"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [
        "counts",
        "mine",
        "mine.aside-1",
    ]

    (tmp_path / "own.py").write_text(OWN.replace("FACTOR", "1.0"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train", None)
        assert compared() == first
    assert "mine is the run that was " in capsys.readouterr().err

    third = compared(seeds=(0, 1, 2))  # all seeds of an arm in one run
    assert sorted(third["mine"]) == ["0", "1", "2"]
    assert third["mine"]["0"] == first["mine"]["0"]
    environment = json.loads((tmp_path / "out" / "counts" / "environment.json").read_text())
    environment["sources"]["jaxgen/likelihoods.py"] = "0" * 64
    environment["cores"] = 64  # changes bits, but not the result's identity
    (tmp_path / "out" / "counts" / "environment.json").write_text(json.dumps(environment))
    capsys.readouterr()
    compared(seeds=(0, 1, 2))
    said = capsys.readouterr().err
    assert "counts is trained anew: jaxgen/likelihoods.py was changed. " in said
    assert "mine is trained anew" not in said


def test_a_foreign_folder_is_no_run(tmp_path):
    (tmp_path / "two.py").write_text(EXPERIMENT)
    (tmp_path / "out" / "bits" / "latent").mkdir(parents=True)
    with pytest.raises(UserError, match="latent"):
        compare(tmp_path / "two.py", out=tmp_path / "out", progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bits"]
    assert data.load("digits").spec.num_examples == 808
