"""Model cards: every fact is that of the run's files, and the header is YAML as the hub reads it."""

import json
from types import SimpleNamespace

import pytest

from jaxgen import cli
from jaxgen.errors import UserError
from jaxgen.provenance import keys
from jaxgen.report import card
from jaxgen.report.card import write_card
from jaxgen.training import Settings, folder, signing
from jaxgen.training.plan import make_plan

yaml = pytest.importorskip("yaml", reason="PyYAML comes with Flax")

DIGESTS = {"3": "a1" * 32, "5": "b2" * 32, "8": "c3" * 32}
RESULT = {"step": 40, "seconds": 12.345, "diverged": {}, "digests": DIGESTS}

OWN_MODEL = """
from dataclasses import dataclass
import jax.numpy as jnp
from jaxgen.model import Model, Phase, Sampler, State

@dataclass(frozen=True)
class Config:
    level: int = 7  # gray level of every sample

def make(config, spec):
    def draw(key, state, num, condition):
        return {"image": jnp.full((num, *spec.image_shape), config.level, jnp.uint8)}

    def step(key, state, batch):
        return state._replace(step=state.step + 1), {"loss": jnp.float32(0)}

    init = lambda key: State(jnp.int32(0), {"w": jnp.zeros(1)})
    return Model(init, (Phase("train", step),), ("image",), Sampler(draw), None, None, {})
"""


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Plans by model's name: one with samples and log p, one without samples, and a user's own."""
    own = tmp_path_factory.mktemp("own") / "plain_gray.py"
    own.write_text(OWN_MODEL)
    settings = Settings(image_size=16, seeds=(3, 5, 8), steps=40)
    names = {"naive_bayes": {"likelihood": "bernoulli"}, "classifier": {"features": 4}, str(own): {}}
    return {name.rpartition("/")[2]: make_plan(name, config, settings) for name, config in names.items()}


@pytest.fixture
def ended(plans, tmp_path):
    """Function that makes the folder of a run that has ended; nothing is trained."""

    def made(name, path="my runs/nb"):
        folder.create(tmp_path / path, plans[name])
        folder.write_json(tmp_path / path / "result.json", RESULT)
        return tmp_path / path

    return made


@pytest.fixture
def run(ended):
    return ended("naive_bayes")


def scores(name="nb", values=(-60.0, -61.0, -65.0), digests=DIGESTS):
    """A table of three metrics: one that all rows have, one in which a seed diverged, and one that no row has."""
    metrics = [
        {"key": "log_prob_binary", "title": "log p | bits", "better": "higher", "digits": 1, "note": "In nats."},
        {"key": "fd", "title": "FD", "better": "lower", "digits": 2, "note": "To\nthe digits."},
        {"key": "ssim", "title": "SSIM", "better": "higher", "digits": 2, "note": "Of windows."},
    ]
    rows = [
        {"name": "real against real", "kind": "real", "values": {"fd": [0.125]}},
        {
            "name": name,
            "kind": "trained",
            "values": {"log_prob_binary": list(values), "fd": [1e-5, None, 1e-5], "ssim": []},
            "steps": 40,
            "checkpoints": None,
            "digests": digests,
        },
        {"name": f"{name}, untrained", "kind": "untrained", "values": {"log_prob_binary": [-177.0, -177.0, -177.0]}},
        {"name": "other, untrained", "kind": "untrained", "values": {"log_prob_binary": [-1.0, -1.0, -1.0]}},
    ]
    return {"seeds": [3, 5, 8], "metrics": metrics, "rows": rows, "samples": 808}


def header(text):
    """The YAML header, and the text below it."""
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def read(file):
    return header(file.read_text())


def cells(body, first):
    """Cells of the line of a table that begins with `first`."""
    (line,) = [line for line in body.splitlines() if line.startswith(f"| {first} |")]
    return line.strip("| ").split(" | ")


def test_the_header_has_means_and_students_intervals_of_the_evaluation(run, plans):
    """Mean -62, deviation sqrt(7), t = 4.3027 with 2 degrees of freedom: 62 -+ 4.3027 sqrt(7 / 3)."""
    folder.write_json(run / "evaluation.json", scores())
    front, _ = read(write_card(run))
    (index,) = front.pop("model-index")
    assert front == {
        "license": "unknown",
        "library_name": "jaxgen",
        "pipeline_tag": "other",  # the hub has no task of drawing images by class
        "tags": ["jaxgen", "jax", "flax", "naive_bayes"],
        "datasets": ["digits"],
    }
    (result,) = index["results"]
    assert (index["name"], result["task"]) == ("nb", {"type": "other"})
    fingerprint = plans["naive_bayes"].dataset.fingerprint
    assert result["dataset"] == {"type": "digits", "name": "digits", "split": "test", "revision": fingerprint}
    first, second = result["metrics"]
    args = first.pop("args")
    assert first == {"type": "log_prob_binary", "name": "log p | bits", "value": -62.0}
    half = 4.302652729911275 * (7 / 3) ** 0.5
    bounds = pytest.approx(-62 - half), pytest.approx(-62 + half)
    assert args == {
        "statistic": "mean over training seeds",
        "seeds": 3,
        "low_95": bounds[0],
        "high_95": bounds[1],
    }
    assert (second["type"], second["value"], second["args"]["seeds"]) == ("fd", 1e-5, 2)  # a number, not text


def test_the_scores_stand_beside_real_and_untrained_rows(run):
    folder.write_json(run / "evaluation.json", scores())
    _, body = read(write_card(run))
    assert cells(body, "metric") == ["metric", "better", "this model", "real against real", "nb, untrained"]
    line = cells(body, r"log p \| bits")
    assert line == [r"log p \| bits", "higher", "-62.0 [-68.6, -55.4]", "—", "-177.0 [-177.0, -177.0]"]
    assert cells(body, "FD") == ["FD", "lower", "0.00 [0.00, 0.00] (2 of 3 seeds)", "0.12", "—"]
    assert "SSIM" not in body
    assert "at step 40" in body
    assert "808 samples per seed" in body
    assert "- log p | bits: In nats." in body


def test_the_body_has_the_facts_of_the_runs_files(run, plans):
    _, body = read(write_card(run))
    plan, environment = plans["naive_bayes"], folder.read_environment(run)
    assert plan.dataset.note in body
    assert cells(body, "dataset") == ["dataset", "digits"]
    assert cells(body, "license") == ["license", "CC BY 4.0"]
    assert cells(body, "image_size") == ["image_size", "16"]
    assert f"`{plan.dataset.fingerprint}`" in body
    assert cells(body, "training examples")[1] == "808"
    assert cells(body, "seeds")[1] == "(3, 5, 8)"
    assert cells(body, "steps")[1] == "40"
    assert cells(body, "naive_bayes: likelihood")[1] == "bernoulli"
    assert "naive_bayes: pseudo_count" not in body  # a default
    assert cells(body, "seconds")[1] == "12.3"
    assert cells(body, "jax")[1] == environment["jax"]
    for seed, digest in DIGESTS.items():
        assert cells(body, seed) == [seed, f"`{digest}`"]
    assert "draws images of 16x16x1 like those of digits, and nothing else, given a label." in body
    assert f"Samples: {plan.model.sampler.note}." in body
    assert f"is exact: {plan.model.likelihood.note}." in body
    assert "jaxgen sample nb --num 64 --out samples.png" in body
    assert "must not be passed off as real ones" in body
    assert "diverged" not in body


def test_a_run_without_scores_says_so(run):
    front, body = read(write_card(run))
    assert "model-index" not in front
    assert "This run has no scores: `jaxgen evaluate nb` scores it" in body


def test_seeds_that_diverged_are_named(run):
    folder.write_json(run / "result.json", RESULT | {"diverged": {"5": 20, "8": 30}})
    assert "- 2 of the seeds diverged and were stopped: 5, 8." in read(write_card(run))[1]


def test_the_scores_of_a_comparison(run, tmp_path):
    """Chooses the table with the run's folder, and the answers about this arm there and over all tables."""
    here, there = scores("small", values=(1.0, 2.0, 6.0)), scores("large")
    here["rows"][1]["run"], there["rows"][1]["run"] = "nb", "elsewhere/nb"
    asked = [("small", "other", "d"), ("other", "small", None), ("other", "third", "d"), ("small", "other", "e")]
    verdicts = [{"a": a, "b": b, "table": t, "sentence": f"{a} and {b} on {t}."} for a, b, t in asked]
    tables = [there | {"label": "e"}, here | {"label": "d"}]
    file = run.parent / "results.json"
    folder.write_json(file, {"seeds": [3, 5, 8], "tables": tables, "verdicts": verdicts})
    folder.write_json(run / "evaluation.json", scores())
    front, body = read(write_card(run, comparison=file, out=tmp_path / "card.md"))
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 3.0
    assert cells(body, "metric")[-1] == "small, untrained"
    assert "- small and other on d.\n- other and small on None.\n" in body
    assert "third" not in body
    assert "on e." not in body
    here["rows"][1]["run"] = "moved"
    folder.write_json(file, {"seeds": [3, 5, 8], "tables": tables, "verdicts": verdicts})
    with pytest.raises(UserError, match=r"has no scores of .*nb; it has those of .*elsewhere/nb, .*moved"):
        write_card(run, comparison=file, out=tmp_path / "again.md")
    with pytest.raises(UserError, match=r"is no results\.json of `jaxgen compare`"):
        write_card(run, comparison=run / "evaluation.json", out=tmp_path / "again.md")


def test_scores_of_other_parameters_are_refused_and_those_of_other_checkpoints_named(run, tmp_path):
    table = scores(digests=DIGESTS | {"5": "d4" * 32})
    folder.write_json(run / "evaluation.json", table)
    with pytest.raises(UserError, match="are of other parameters than the run's"):
        write_card(run)
    table["rows"][1] |= {"checkpoints": [30, 40, 20]}
    folder.write_json(run / "evaluation.json", table)
    assert "of the parameters at step 20, 30, 40," in read(write_card(run))[1]


def test_a_signed_run_and_one_that_was_changed_since(run, tmp_path, monkeypatch):
    pytest.importorskip("cryptography", reason="cryptography comes with the extra provenance")
    assert "The run is not signed." in read(write_card(run))[1]
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(tmp_path / "keys"))
    keys.make(tmp_path / "keys")
    signing.sign(run, keys.own_keys())
    line = signing.check(run, keys.own_keys().root)
    body = read(write_card(run, out=tmp_path / "signed.md"))[1]
    assert f"The run is signed (`model.sig`, OpenSSF Model Signing): {line}." in body
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(tmp_path / "none"))
    body = read(write_card(run, out=tmp_path / "unknown.md"))[1]
    assert "no root is trusted" in body
    folder.write_json(run / "result.json", RESULT | {"seconds": 1.0})
    with pytest.raises(UserError, match=r"no card of a run that was changed: .*result\.json was changed"):
        write_card(run, out=tmp_path / "changed.md")


def test_a_model_without_samples(ended):
    front, body = read(write_card(ended("classifier")))
    assert front["pipeline_tag"] == "image-classification"
    assert "- It draws no samples, but predicts labels.\n" in body
    assert "jaxgen sample nb" not in body


def test_a_model_of_the_users_own(ended):
    front, body = read(write_card(ended("plain_gray.py")))
    assert front["tags"] == ["jaxgen", "jax", "flax"]
    assert front["pipeline_tag"] == "unconditional-image-generation"
    assert "`./plain_gray.py`, a model file of the author's own" in body
    assert "This runs the model file of the folder: read it first." in body


@pytest.mark.parametrize(
    ("subject", "conditions", "expected"),
    [
        ("image", ("caption",), "text-to-image"),
        ("image", (), "unconditional-image-generation"),
        ("mesh", (), "other"),
        ("image", ("caption", "label"), "other"),
    ],
)
def test_the_task_of_a_model(subject, conditions, expected):
    model = SimpleNamespace(sampler=SimpleNamespace(conditions=conditions), predict={})
    dataset = SimpleNamespace(spec=SimpleNamespace(subject=subject))
    assert card._task(SimpleNamespace(model=model, dataset=dataset)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist", ("mnist", "mnist", "CC BY-SA 3.0", False)),
        ("tfds:eurosat", ("tfds:eurosat", "eurosat", "", False)),
        ("image_folder", ("image_folder", None, None, True)),
        ("/home/me/scans.py", ("scans.py", None, None, True)),
    ],
)
def test_the_data_without_paths_of_the_machine(name, expected, monkeypatch):
    monkeypatch.setattr("os.path.isfile", lambda _: False)  # the dataset file may be gone
    options = {"dataset": name, "data_from": "/home/me/scans", "image_size": 32, "binarize": None}
    plan = SimpleNamespace(settings=SimpleNamespace(dataset=name), dataset=SimpleNamespace(options=options))
    found = card._data(plan)
    assert found.pop("options") == {"image_size": 32}
    assert tuple(found.values()) == expected


def test_the_command(run, capsys, monkeypatch):
    """The card is written beside the run's files; a text of the author's own is not replaced."""
    monkeypatch.chdir(run.parent)
    assert cli.main(["card", "nb"]) == 0
    assert capsys.readouterr().out == "nb/README.md\n"
    (run / "README.md").write_text("mine")
    assert cli.main(["card", "nb"]) == 2
    assert capsys.readouterr().err == "jaxgen: error: nb/README.md exists with another content; choose another --out\n"
    assert (run / "README.md").read_text() == "mine"
    (run / "result.json").unlink()
    assert cli.main(["card", "nb", "--out", "x.md"]) == 2
    assert capsys.readouterr().err == "jaxgen: error: nb has not ended: `jaxgen train --resume` ends it\n"
    assert cli.main(["card", "elsewhere"]) == 2
    assert capsys.readouterr().err == "jaxgen: error: elsewhere is no run folder: it has no config.json\n"


def test_the_hubs_own_program_reads_the_header(run):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    folder.write_json(run / "evaluation.json", scores())
    first, second = hub.ModelCard.load(write_card(run)).data.eval_results
    assert (first.metric_type, first.metric_value, first.dataset_name) == ("log_prob_binary", -62.0, "digits")
    assert json.loads(json.dumps(second.metric_args))["seeds"] == 2
