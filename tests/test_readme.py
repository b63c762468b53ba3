"""README.md says what is so: its table of models, its commands, its dataset (its model: cli/test_command_line.py)."""

import re
import shlex
import sys
import types
from pathlib import Path

import numpy as np

from experiments import summary
from jaxgen import data, models
from jaxgen.cli import commands
from jaxgen.data import Info
from jaxgen.evaluation.networks import SHIPPED, WEIGHTS, load_classifier
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import FAMILIES
from jaxgen.training.settings import Settings
from tests.faults import tally

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_table_of_models_is_the_programs():
    table = README.partition("## Models")[2].partition("## Commands")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if re.match(r"\| `\w+` \|", line)]
    expected = [
        [f"`{name}`", entry.title, entry.section, f"[{entry.paper}]({entry.url})"]
        for name, entry in models.MODELS.items()
    ]
    assert [row[:4] for row in rows] == expected


def test_the_measured_results_are_those_that_are_kept():
    """`python -m experiments.summary` writes them."""
    assert summary.table(README) == README


def test_the_faults_are_those_that_were_counted():
    """`python -m tests.faults.tally` writes them."""
    assert tally.table(README) == README


def test_every_command_has_a_row_and_an_example():
    rows = re.findall(r"^\| `jaxgen (\w+)[^`]*` \| .+ \| `jaxgen (\w+)[^`]*` \|$", README, re.MULTILINE)
    names = "models train runs verify digest sample evaluate evaluate metrics compare data data data extractor"
    assert rows == [(name, name) for name in names.split()]
    assert {name for name, _ in rows} == set(commands.COMMANDS)


def test_the_options_of_the_examples_exist():
    known = {f"--{name.replace('_', '-')}" for name in Settings.__dataclass_fields__} | {"--out", "--num", "--resume"}
    known |= {f"--{name.replace('_', '-')}" for name in Scoring.__dataclass_fields__} | {"--images"}
    known |= {"--kind", "--steps", "--dims", "--around", "--groups"}  # of `jaxgen sample`
    known |= {"--deterministic", "--latent-dim", "--noise", "--from"}  # of the VAE, and of the README's own model
    known |= {f"--{name.replace('_', '-')}" for name in models.load("gan").Config.__dataclass_fields__}
    examples = re.findall(r"`(jaxgen (?:train|sample|evaluate|compare|data|extractor) [^`]+)`", README)
    examples += re.findall(r"^(jaxgen .+)$", README, re.MULTILINE)
    options = {word for example in examples for word in shlex.split(example) if word.startswith("--")}
    assert options - {"--help"} <= known


def test_the_table_of_metrics_is_the_programs():
    table = README.partition("## Evaluation")[2].partition("Every table")[0]
    cells = [line.partition(" | ")[0] for line in table.splitlines() if re.match(r"\| (\*\*)?`", line)]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(FAMILIES)
    bold = {name for cell in cells for name in re.findall(r"\*\*`(\w+)`\*\*", cell)}
    assert bold == {name for name, family in FAMILIES.items() if family.usual}


def test_the_accuracy_of_the_shipped_classifiers():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\d.]+)% \| ([\d.]+)% \|$", README, re.MULTILINE)
    named = {name: row[1:] for row in rows for name in re.findall(r"\w+", row[0])}
    assert set(named) == set(SHIPPED)
    for name, shown in named.items():
        files = (WEIGHTS / f"{SHIPPED[name]}-{role}.safetensors" for role in ("extractor", "judge"))
        assert shown == tuple(f"{100 * load_classifier(file).accuracy:.2f}" for file in files)


def test_a_dataset_added_as_it_says_is_loaded(monkeypatch):
    module = types.ModuleType("jaxgen.data.readers.stripes")
    exec(next(block for block in PYTHON if "def identity" in block), module.__dict__)
    info = eval(next(block for block in PYTHON if block.startswith("Info(")), {"Info": Info})
    monkeypatch.setitem(sys.modules, info.module, module)
    monkeypatch.setattr(data, "DATASETS", (*data.DATASETS, info))

    dataset = data.load("stripes", image_size=16)
    assert tuple(len(split["image"]) for split in dataset[3:6]) == info.examples
    assert dataset.spec.image_shape == (16, 16, 1)
    native = data.load("stripes").train
    for label, axis in ((0, 2), (1, 1)):  # constant along a row, along a column
        assert np.ptp(native["image"][native["label"] == label], axis=axis).max() == 0
