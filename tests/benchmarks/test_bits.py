"""Digests under different surroundings: how they are compared, and the kept ones, which docs/runs.md tells of."""

import json
from pathlib import Path

import pytest
from jaxgen.experiments.benchmarks import bits
from rich.console import Console

from jaxgen.errors import UserError
from jaxgen.training import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kept():
    return json.loads((ROOT / "experiments" / "results" / "bits-cpu.json").read_text())


def differing(kept, name):
    """Models whose bits differ between a surrounding and the one that it is compared with."""
    found = kept["surroundings"]
    mine, like = found[name]["digests"], found[found[name]["like"]]["digests"]
    assert mine.keys() == like.keys() == bits.MODELS.keys()
    assert all(len(digest) == 64 for digest in mine.values())
    return {model for model, digest in mine.items() if digest != like[model]}


def test_the_kept_digests_are_as_promised(kept):
    assert not kept["machine"]["commit"].endswith("+")
    assert {"sse4_2", "avx", "avx2"} <= set(kept["instructions"])
    of_machine = {name for name, one in bits.SURROUNDINGS.items() if one.instructions in ("", *kept["instructions"])}
    assert kept["surroundings"].keys() == of_machine
    for name in of_machine:
        surrounding = bits.SURROUNDINGS[name]
        assert kept["surroundings"][name]["cores"] == surrounding.cores
        assert kept["surroundings"][name]["like"] == surrounding.like
        if surrounding.same is not None:
            assert (not differing(kept, name)) == surrounding.same, name


def test_the_docs_tell_what_the_kept_digests_show(kept):
    """Each row of the table in docs/runs.md names the models whose bits are others, and there is a row for each."""
    lines = (ROOT / "docs" / "runs.md").read_text().splitlines()
    start = lines.index("| what differs | models whose bits differ |")
    told = {}
    for line in lines[start + 2 : lines.index("", start)]:
        name, models = (cell.strip() for cell in line.strip("|").split("|"))
        told[name] = set() if models == "none" else set(models.split(", "))
    assert told == {name: differing(kept, name) for name in kept["surroundings"] if name != "reference"}


def test_digests_are_compared_with_those_of_their_reference(monkeypatch):
    """A machine with AVX2 has no AVX-512; bits depend on the cores here, and on the hash seed of the VAE."""

    def digests(options, surrounding):
        seed = dict(surrounding.variables)["PYTHONHASHSEED"]
        return {"digests": {model: f"{surrounding.cores} {seed if model == 'vae' else ''}" for model in bits.MODELS}}

    monkeypatch.setattr(bits, "digests", digests)
    monkeypatch.setattr(environment, "instruction_sets", lambda: ("avx2", "avx", "sse4_2"))
    monkeypatch.setattr(environment, "cores", lambda: 2)
    result = bits.measure(bits.Options())
    equal = {name: one["equal"] for name, one in result["surroundings"].items()}
    assert "at most AVX512" not in equal
    assert "at most AVX2" in equal
    assert all(equal["reference"].values())
    assert not any(equal["1 core"].values())
    assert all(equal["1 core, again"].values())
    assert equal["another hash seed"] == {model: model != "vae" for model in bits.MODELS}
    console = Console(width=200)
    with console.capture() as capture:
        console.print(bits.shown(result | {"arguments": {"steps": 4}}))
    assert capture.get().count("differs") == len(bits.MODELS) + 1


def test_one_core_is_refused(monkeypatch):
    monkeypatch.setattr(environment, "cores", lambda: 1)
    with pytest.raises(UserError, match=r"between 1 and 2 cores, and this process may use 1$"):
        bits.measure(bits.Options())


@pytest.mark.slow
def test_a_process_is_in_its_surrounding(monkeypatch):
    monkeypatch.setattr(bits, "MODELS", {"one": ("naive_bayes", {})})
    first, second = (
        bits.digests(bits.Options(steps=1), bits.SURROUNDINGS[name]) for name in ("1 core", "another folder")
    )
    assert (first["cores"], second["cores"]) == (1, min(2, environment.cores()))
    assert first["instructions"] == environment.processor()["instructions"]
    assert first["digests"] == second["digests"]  # counts, which no surrounding changes
