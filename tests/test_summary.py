"""The small files of comparisons' results, and README's words of them."""

import contextlib
import io
import json

import pytest

from experiments import summary
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError

METRICS = [
    {"key": "fd", "title": "FD-digits", "better": "lower", "digits": 2, "note": "long"},
    {"key": "precision", "title": "precision", "better": "higher", "digits": 3, "note": "long"},
    {"key": "log_prob_binary", "title": "log p, binary", "better": "higher", "digits": 1, "note": "long"},
]


def row(name, model, kind="trained", **values):
    return {"name": name, "kind": kind, "model": model, "samples": 9, "values": values, "config": {}, "digests": {}}


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
    return {"name": "small", "seeds": [0, 1], "description": "long", "tables": tables, **more}


def test_what_is_kept():
    found = summary.kept(results(row("one", "vae", fd=[1.0, None])))
    assert "description" not in found
    (table,) = found["tables"]
    assert table["extractor"] == "ab"
    assert table["metrics"][0] == {"key": "fd", "title": "FD-digits", "better": "lower", "digits": 2}
    assert table["rows"] == [
        {"name": "one", "kind": "trained", "model": "vae", "samples": 9, "values": {"fd": [1.0, None]}}
    ]


def test_words_are_means_of_the_seeds_that_have_a_score():
    rows = (
        row("one", "vae", fd=[10.0, 20.5, None], log_prob_binary=[-60.0, -61.0, None], precision=[0.5, 0.5, None]),
        row("one, untrained", "vae", "untrained", fd=[900.0] * 3),
        row("other", "dcgan", fd=[None, None, None]),
    )
    comparisons = [summary.kept(results(*rows))]
    assert summary.measured("vae", comparisons) == "`small`: FD-digits 15.2, log p, binary -60.5"
    assert summary.measured("dcgan", comparisons) == "not measured yet"
    assert summary.measured("vae", [summary.kept(results(*rows, labels=("a", "b")))]).startswith(
        "`small, a`: FD-digits"
    )


def test_words_of_other_experiments():
    found = [{"measured": {"vae": "`own`: 3"}}, summary.kept(results(row("one", "vae", fd=[2.0]))), {"rates": [1]}]
    assert summary.measured("vae", found) == "`own`: 3; `small`: FD-digits 2.00"
    assert summary.measured("dcgan", found) == "not measured yet"


def test_several_arms_of_a_model_have_a_range():
    rows = (row("one", "dcgan", fd=[9.0, 10.0]), row("two", "dcgan", fd=[30.0]), row("three", "dcgan", fd=[20.0]))
    assert summary.measured("dcgan", [summary.kept(results(*rows))]) == "`small` of 3 arms: FD-digits 9.50 to 30.0"


def test_readme_is_written_from_all_that_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "README", tmp_path / "README.md")
    names = list(summary.MODELS)
    (tmp_path / "README.md").write_text("# Words\n" + "".join(f"| `{name}` | a | [b](c) | old |\n" for name in names))
    with (tmp_path / "README.md").open("a") as file:
        file.write("| `vae` | an experiment | old |\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps(results(row("one", "vae", fd=[3.0]))))
    (tmp_path / "benchmark.json").write_text("{}")
    with contextlib.redirect_stdout(io.StringIO()):
        summary.summarise((tmp_path / "run",))
    text = (tmp_path / "README.md").read_text()
    assert "| `vae` | a | [b](c) | `small`: FD-digits 3.00 |\n" in text
    assert "| `dcgan` | a | [b](c) | not measured yet |\n" in text
    assert text.endswith("| `vae` | an experiment | old |\n")
    assert summary.table(text) == text
    with pytest.raises(UserError, match="README's table of models has 0 rows of classifier"):
        summary.table("")


def test_a_folder_that_holds_no_comparison(tmp_path):
    for content in ("[]", "{}", "{", '{"tables": [], "name": "../x"}', '{"tables": [3], "name": "x"}'):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(UserError, match="results"):
            parse(summary.summarise, [str(tmp_path)], "summary")
