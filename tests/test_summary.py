"""Stored results of comparisons, and the README's table of models written from them."""

import contextlib
import io
import json

import pytest

from experiments import summary
from experiments.summary import Measured
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError

METRICS = [
    {"key": "fd", "title": "FD-digits", "better": "lower", "digits": 2, "note": "long"},
    {"key": "log_prob_binary", "title": "log p, binary", "better": "higher", "digits": 1, "note": "long"},
]


def row(name, model, kind="trained", **values):
    return {
        "name": name,
        "kind": kind,
        "model": model,
        "samples": 9,
        "values": values,
        "config": {},
        "digests": {"0": "ab"},
    }


def results(*rows, labels=("digits",)):
    tables = [
        {
            "label": label,
            "dataset": {"name": label},
            "metrics": METRICS,
            "rows": list(rows),
            "extractor": {"digest": "ab"},
        }
        for label in labels
    ]
    more = dict.fromkeys(("title", "checkpoint", "verdicts", "tuning", "train_seconds", "environment"))
    more["environment"] = {"commit": "0123456789"}
    return {"name": "small", "seeds": [0, 1], "description": "long", "tables": tables, **more}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Replaces the folder experiments/results and the README; every model's row is read from `small`."""
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "README", tmp_path / "README.md")
    measured = Measured("small", "digits", "one", "fd", "FD {:.1f}", "2 of real images; {other arm:.0f}", "shorter")
    monkeypatch.setattr(summary, "ROWS", dict.fromkeys(summary.MODELS, measured))
    return tmp_path


def test_what_is_kept():
    found = summary.kept(results(row("one", "vae", fd=[1.0, None])))
    assert "description" not in found
    (table,) = found["tables"]
    assert table["extractor"] == "ab"
    assert table["metrics"][0] == {"key": "fd", "title": "FD-digits", "better": "lower", "digits": 2}
    assert table["rows"] == [
        {
            "name": "one",
            "kind": "trained",
            "model": "vae",
            "samples": 9,
            "values": {"fd": [1.0, None]},
            "digests": {"0": "ab"},
        }
    ]


def test_a_number_is_the_mean_of_the_seeds_that_have_a_score():
    rows = (row("one", "vae", fd=[10.0, 20.5, None]), row("other arm", "vae", fd=[900.0]), row("none", "vae"))
    found = results(*rows, labels=("ring", "grid"))
    found["tables"][1]["rows"] = [row("one", "vae", fd=[3.0])]
    asked = Measured("small", "ring", "one", "fd", "", "", "")
    assert summary.means(asked, found) == {"one": 15.25, "other arm": 900.0}
    assert summary.means(asked._replace(table="grid"), found) == {"one": 3.0}


def test_the_readme_is_written_from_what_is_kept(folder):
    (folder / "README.md").write_text(f"# Words\n\n{summary.FIRST}| old |\n\nMore\n\nwords\n")
    (folder / "run").mkdir()
    rows = (row("one", "vae", fd=[3.0, 4.0]), row("other arm", "vae", fd=[9.0]))
    (folder / "run" / "results.json").write_text(json.dumps(results(*rows)))
    with contextlib.redirect_stdout(io.StringIO()):
        summary.summarize((folder / "run",))
    text = (folder / "README.md").read_text()
    before, _, after = text.partition(summary.FIRST)
    table, _, after = after.partition("\n\n")
    assert (before, after) == ("# Words\n\n", "More\n\nwords\n")
    assert len(table.splitlines()) == len(summary.MODELS)
    paper = "[Kingma & Welling 2014, Auto-Encoding Variational Bayes](https://arxiv.org/abs/1312.6114); 2.3.3"
    expected = f"| `vae` | Variational autoencoder | {paper} | FD 3.5 (`small`) | 2 of real images; 9 | shorter |"
    assert expected in table.splitlines()
    assert summary.table(text) == text
    with pytest.raises(UserError, match="the README has no table of models"):
        summary.table("")


@pytest.mark.parametrize(
    ("commit", "words"), [(None, "of no commit"), ("0123456789+", "of 0123456 with changes"), ("", "of no commit")]
)
def test_results_of_no_clean_commit_are_refused(folder, commit, words):
    (folder / "README.md").write_text(f"{summary.FIRST}| old |\n\n")
    found = results(row("one", "vae", fd=[1.0]), row("other arm", "vae", fd=[9.0]))
    (folder / "results.json").write_text(json.dumps(found | {"environment": {"commit": commit}}))
    with pytest.raises(UserError, match=f"was made by code {words}: run it again from a clean checkout"):
        summary.summarize((folder,))
    assert not (folder / "small.json").exists()
    assert "old" in (folder / "README.md").read_text()


@pytest.mark.parametrize("change", [{"arm": "two"}, {"column": "kid"}, {"table": "mnist"}, {"experiment": "large"}])
def test_a_number_that_is_not_kept(folder, change):
    summary.write_json(folder / "small.json", results(row("one", "vae", fd=[1.0]), row("other arm", "vae", fd=[9.0])))
    assert "FD 1.0" in summary.row("vae")
    summary.ROWS["vae"] = summary.ROWS["vae"]._replace(**change)
    with pytest.raises(UserError, match=r"small\.json does not hold|large\.json"):
        summary.row("vae")


def test_a_model_without_a_number(monkeypatch):
    monkeypatch.delitem(summary.ROWS, "vae")
    paper = "[Kingma & Welling 2014, Auto-Encoding Variational Bayes](https://arxiv.org/abs/1312.6114); 2.3.3"
    assert summary.row("vae") == f"| `vae` | Variational autoencoder | {paper} | not yet |  |  |\n"


def test_a_folder_that_holds_no_comparison(tmp_path):
    for content in ("[]", "{}", "{", '{"tables": [], "name": "../x"}', '{"tables": [3], "name": "x"}'):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(UserError, match="results"):
            parse(summary.summarize, [str(tmp_path)], "summary")
