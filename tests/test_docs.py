"""README.md and docs/ agree with the code: tables, commands, options, links and examples.

The example of a counting model is also trained, in tests/cli/test_command_line.py.
"""

import importlib.util
import inspect
import json
import re
import shlex
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from experiments import detectors, ladder, summary
from jaxgen import data, models
from jaxgen.cli import commands
from jaxgen.comparison.experiment import Experiment, load_experiment, shipped
from jaxgen.evaluation.networks import SHIPPED, WEIGHTS, load_classifier
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import FAMILIES
from jaxgen.model import Model, Spec
from jaxgen.models import load
from jaxgen.pictures.kinds import KINDS
from jaxgen.training import Settings, train
from jaxgen.training.rows import read_rows
from tests.faults import tally

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES["README.md"]

SETTINGS = {f"--{name.replace('_', '-')}" for name in (*Settings.__dataclass_fields__, *Scoring.__dataclass_fields__)}


def python(page):
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)


def shell(text):
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def rows(page, start):
    """Returns the cells of the table whose header begins with `start`."""
    lines = PAGES[page].partition(f"| {start} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert lines, f"{page} has no table {start}"
    return [line.strip("| ").split(" | ") for line in lines]


def names(cell):
    """Returns a cell's words in code, without options' values."""
    return re.findall(r"`([^`\s]+)[^`]*`", cell)


# Tables


def test_the_table_of_models_is_written_from_the_results():
    """The table must be what `python -m experiments.summary` writes."""
    assert summary.table(README) == README


def test_the_faults_are_those_that_were_counted():
    """The table must be what `python -m tests.faults.tally` writes."""
    assert tally.table(PAGES["runs.md"]) == PAGES["runs.md"]


def test_every_command_has_a_row_and_an_example():
    table = [(row[0].split()[1].strip("`"), row[2].split()[1].strip("`")) for row in rows("README.md", "command")]
    expected = "models train runs verify keys sign digest sample explore verify-image evaluate evaluate metrics compare"
    expected += " card export import data data data extractor"
    assert table == [(name, name) for name in expected.split()]
    assert {name for name, _ in table} == set(commands.COMMANDS)


def test_the_table_of_kinds_of_pictures():
    table = {names(row[0])[0]: row[2] if len(row) > 2 else "" for row in rows("pictures.md", "kind")}
    assert set(table) == set(KINDS)
    for kind, options in table.items():
        assert set(re.findall(r"--(\w+)", options)) == set(KINDS[kind].takes), kind


def test_the_table_of_metrics():
    table = {names(row[0])[0]: (row[0].startswith("**"), names(row[2])) for row in rows("evaluation.md", "family")}
    expected = {name: (family.usual, [column.key for column in family.columns]) for name, family in FAMILIES.items()}
    assert table == expected


def test_the_accuracy_of_the_shipped_classifiers():
    table = {name: row[1:] for row in rows("evaluation.md", "dataset") for name in names(row[0])}
    assert set(table) == set(SHIPPED)
    for name, shown in table.items():
        files = (WEIGHTS / f"{SHIPPED[name]}-{role}.safetensors" for role in ("extractor", "judge"))
        assert shown == [f"{100 * load_classifier(file).accuracy:.2f}%" for file in files]


def test_the_table_of_datasets():
    table = {name: row[1] for row in rows("datasets.md", "name") for name in names(row[0])}
    assert {name.partition("/")[0] for name in table} == {row.name for row in data.table()} | {"tfds:NAME"}
    for row in data.table():
        shown = [counts for name, counts in table.items() if name.partition("/")[0] == row.name]
        if "jaxgen data list" not in shown[0] and row.examples:
            assert set(shown) == {" / ".join(f"{count:,}" for count in row.examples)}, row.name


def test_what_is_said_of_the_ladder():
    """Each sentence about what a metric sees holds in the stored scores."""
    results = json.loads((ROOT / "experiments" / "results" / "ladder.json").read_text())
    text = " ".join((ROOT / "docs" / "evaluation.md").read_text().split())
    for name, each in results.items():
        scores, (rungs, keys, worse) = each["scores"], ladder.distances(each)
        seen = {rung: dict(zip(keys, row, strict=True)) for rung, row in zip(rungs, worse, strict=True)}
        for fault, strengths in ladder.RUNGS.items():
            names = ["real", *(f"{fault}: {strength}" for strength in strengths)]
            for key in ("fd", "kid"):
                assert [scores[rung][key] for rung in names] == sorted(scores[rung][key] for rung in names)
            single = fault not in ("classes left", "different images")
            for key in ("sliced_wasserstein", "recognized") if single else ():
                assert [seen[rung][key] for rung in names[1:]] == sorted(seen[rung][key] for rung in names[1:])
        for key in ("fd", "kid", "sliced_wasserstein"):  # the models are in the order that eyes give them
            models = [scores[rung][key] for rung in ("real", "dcgan", "vae", "naive_bayes", "uniform noise")]
            assert models == sorted(models), (name, key)
        for fault, strengths in ladder.RUNGS.items():
            effective = [
                scores[rung]["vendi"] for rung in ("real", *(f"{fault}: {strength}" for strength in strengths))
            ]
            assert effective == sorted(set(effective), reverse=True)
        assert seen["naive_bayes"]["recognized"] > 100
        assert abs(seen["different images: 10%"]["recognized"]) < 10
        assert seen["different images: 10%"]["recall"] > 30
        for rung in ("naive_bayes", "blur, deviation of pixels: 0.5"):
            assert scores[rung]["precision"] > scores["real"]["precision"] - 0.001
    digits = results["digits"]["scores"]
    one, noise = digits["classes left: 1"]["fd"], digits["uniform noise"]["fd"]
    assert f"one class alone has an FD-digits of {one:,.0f}, uniform noise {noise:,.0f}" in text
    five = digits["classes left: 5"]["clipped_coverage"]
    assert f"`clipped_coverage` is {five:.2f} for five of ten classes" in text
    found = [digits["uniform noise"][key] for key in ("clipped_density", "clipped_coverage", "precision")]
    assert "Uniform noise scores {:.2f} and {:.2f}, where `precision` is {:.2f}.".format(*found) in text
    rungs, keys, worse = ladder.distances(results["digits"])
    mmd = dict(zip(rungs, worse[:, keys.index("mmd")], strict=True))
    for fault, strengths in ladder.RUNGS.items():
        names = [f"{fault}: {strength}" for strength in strengths]
        for key, sign in (("vendi", -1), ("mmd", 1)):
            ordered = [sign * digits[rung][key] for rung in ("real", *names)]
            assert ordered == sorted(set(ordered)), (fault, key)
        if fault == "classes left":
            assert all(digits[rung]["clipped_density"] == 1 for rung in names)
        elif fault != "different images":
            assert digits[names[0]]["clipped_density"] == digits[names[0]]["clipped_coverage"] == 1
        assert fault == "classes left" or mmd[names[0]] < 3
        assert mmd[names[-1]] > 4
    mnist = results["mnist"]["scores"]
    for rung in ("classes left: 9", "different images: 10%"):
        assert mnist[rung]["sliced_wasserstein"] < mnist["real"]["sliced_wasserstein"]


def test_the_table_of_detectors():
    """The table must be of the results that are kept."""
    results = json.loads((ROOT / "experiments" / "results" / "detectors.json").read_text())["results"]
    names, shown = list(detectors.RECIPES), rows("verification.md", "detector")
    assert len(shown) == 12
    for detector, change, *aucs, known, found, alarms in shown:
        one, of = results[change]["one_class"], results[change]["supervised"].get(detector)
        if of:
            lowest = min(of[a][b] for a in names for b in names if a != b)
            assert (aucs, known) == ([f"{of[name][name]:.3f}" for name in names], f"{lowest:.3f}")
        else:
            assert aucs == [f"{one['models'][name]['auc']:.3f}" for name in names]
            assert found == ", ".join(f"{100 * one['models'][name]['found']:.0f}%" for name in names)
            assert alarms == f"{100 * one['false_alarms']:.1f}%"


def test_the_table_of_experiments():
    assert {names(row[0])[0] for row in rows("experiments.md", "experiment")} == set(shipped())


def test_the_fields_of_an_experiment_and_of_a_model():
    fields = {name for row in rows("experiments.md", "field") for name in names(row[0])}
    assert fields == set(Experiment.__dataclass_fields__)
    assert [names(row[0]) for row in rows("own_models_and_data.md", "field of `Model`")] == [[f] for f in Model._fields]


# Commands and options


class ParsedError(Exception):
    """Raised when a command would begin its work."""


@pytest.fixture
def parsed(monkeypatch):
    """Replaces the functions that commands call; models are built for data that are not read."""

    def stop(*args, **kwargs):
        raise ParsedError

    def made(model, config, settings, **kwargs):
        label = jax.ShapeDtypeStruct((), np.int32)
        if settings.dataset == "bars":  # a model of meshes takes their faces, which are data
            raise ParsedError
        if settings.dataset.startswith("gaussians"):
            entries = {"point": jax.ShapeDtypeStruct((2,), np.float32), "label": label}
        else:
            side = settings.image_size or {"mnist": 28, "shapes_32": 32}.get(settings.dataset, 8)
            channels = 3 if settings.dataset == "shapes_32" else 1
            entries = {"image": jax.ShapeDtypeStruct((side, side, channels), np.uint8), "label": label}
            entries["caption"] = jax.ShapeDtypeStruct((9,), np.int32)
        mean = np.full(entries["image"].shape, 0.5) if "image" in entries else None
        models.load(model).make(config, Spec(entries, 1000, 10, mean, num_words=40, batch_size=settings.batch_size))
        raise ParsedError

    places = {
        "jaxgen.training": "open_run",
        "jaxgen.training.status": "runs_below",
        "jaxgen.training.signing": "sign",
        "jaxgen.provenance.keys": "make",
        "jaxgen.pictures.checking": "check",
        "jaxgen.pictures": "sample",
        "jaxgen.portable.explore": "explore",
        "jaxgen.evaluation": "evaluate",
        "jaxgen.comparison": "compare",
        "jaxgen.report.card": "write_card",
        "jaxgen.portable.exporting": "export",
        "jaxgen.portable.importing": "import_run",
        "jaxgen.evaluation.inception": "convert",
        "jaxgen.cli.tables": "models_table",
    }
    for place, name in places.items():
        monkeypatch.setattr(f"{place}.{name}", stop)
    for name in ("own_keys", "trusted_root"):
        monkeypatch.setattr(f"jaxgen.provenance.keys.{name}", stop)
    for name in ("metrics_table", "datasets_table"):
        monkeypatch.setattr(f"jaxgen.cli.tables.{name}", stop)
    monkeypatch.setattr("jaxgen.evaluation.evaluate_images", stop)
    monkeypatch.setattr("jaxgen.training.train", made)
    monkeypatch.setattr("jaxgen.training.compiled.keep_compiled", lambda: None)
    for name in ("prepare", "load"):
        monkeypatch.setattr(data, name, stop)


EXAMPLES = [row[2].strip("`") for row in rows("README.md", "command")]
EXAMPLES += [
    line for text in PAGES.values() for line in shell(text) if re.match(r"jaxgen (?!(train|data show) \./)", line)
]


@pytest.mark.parametrize("example", dict.fromkeys(EXAMPLES))
def test_a_command_is_understood(example, parsed):
    command, *argv = shlex.split(example)[1:]
    with pytest.raises(ParsedError):
        commands.COMMANDS[command](argv)


def test_every_option_is_one():
    known = set(SETTINGS) | {"--out", "--resume", "--deterministic", "--distributed", "--wandb", "--all"}  # commands'
    known |= {"--comparison", "--to"}
    known |= {"--kind", "--num", "--steps", "--dims", "--around", "--groups", "--checkpoint", "--images", "--from"}
    known |= {"--caption", "--captions", "--watermark", "--keyed", "--sign", "--trust", "--key", "--run", "--reference"}
    for name in models.MODELS:
        known |= {f"--{field.replace('_', '-')}" for field in models.load(name).Config.__dataclass_fields__}
    others = {
        "--dist",
        "--slow",
        "--help",
        "--noise",
        "--signal",
    }  # pytest's, jaxgen's own, the example of a model's, Slurm's
    others |= {
        "--xla-force-host-platform-device-count",
        "--count",
        "--json",
        "--against",
        "--model",
        "--batch",
        "--signature",
        "--figure",
    }
    for page, text in PAGES.items():
        unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w_])", text)) - known - others
        assert not unknown, page


def test_every_program_is_one():
    programs = {
        name for text in PAGES.values() for name in re.findall(r"python -m ((?:experiments|tests)[\w.]*)", text)
    }
    assert programs >= {"experiments.summary", "experiments.pictures", "experiments.gallery", "tests.faults.tally"}
    assert all(importlib.util.find_spec(name) for name in programs)


# Links and pictures


def anchors(text):
    """Returns the anchors of a page's headings, as Markdown renderers name them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]) if not link.startswith("https://")]
    for link in links:
        path, _, anchor = link.partition("#")
        target = folder / path if path else folder / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_pictures_are_small_files():
    for name, width in (("samples", None), ("page", 1280)):
        file = ROOT / "docs" / f"{name}.png"
        assert file.stat().st_size < 400_000
        with Image.open(file) as picture:
            picture.load()
            assert width in (None, picture.width)


# Examples


@pytest.mark.slow
def test_the_example_in_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (source,) = python("README.md")
    quick = source.replace("steps=1500", "steps=4").replace(
        '"latent_dim": 5', '"latent_dim": 5, "features": 2, "smallest": 4'
    )
    quick = quick.replace("(0, 1, 2)", "(0, 1)").replace('"log_prob"))', '"log_prob"), samples=50)')
    assert quick != source
    left = {}
    exec(compile(quick, "README.md", "exec"), left)
    digests, *scores = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\{0: '[0-9a-f]{64}', 1: '[0-9a-f]{64}'\}", digests)
    for name, num in (("images", 64), ("decoded", 1)):
        assert (left[name].shape, left[name].dtype) == ((2, num, 16, 16, 1), np.uint8)
    assert [line.partition(" {")[0] for line in scores] == [
        "real against real",
        "first",
        "first, untrained",
    ]


def test_the_example_of_a_model_that_counts():
    """Samples are the mean image of the counted examples plus noise of the given deviation."""
    module = types.ModuleType("pixel_mean")
    exec(next(block for block in python("own_models_and_data.md") if "def make" in block), module.__dict__)
    spec = data.load("digits").spec
    image = np.random.default_rng(0).integers(70, 186, (5, 8, 8, 1), dtype=np.uint8)
    weight = np.float32([1, 1, 1, 0, 1])
    for noise in (0.0, 0.1):
        model = module.make(module.Config(noise=noise), spec)
        (phase,) = model.phases
        state, metrics = phase.step(None, model.init(None), {"image": image, "weight": weight})
        made = np.asarray(model.sampler.draw(jax.random.key(1), state, 2000, {})["image"])
        assert (made.shape, made.dtype, metrics["examples"]) == ((2000, 8, 8, 1), np.uint8, 4)
        mean = np.average(image, axis=0, weights=weight)
        np.testing.assert_allclose(made.mean(0), mean, atol=0.51 + 5 * 255 * noise / np.sqrt(2000))
        np.testing.assert_allclose((made - mean).std(), 255 * noise, atol=0.51)
    assert (model.needs, model.sampler.conditions, model.sampler.note) == (("image",), (), "the mean image with noise")
    assert (phase.passes, model.likelihood, model.latents, dict(model.predict)) == (1, None, None, {})


@pytest.fixture
def masked(tmp_path):
    """The module of the example of masked convolutions."""
    source = next(block for block in python("own_models_and_data.md") if "PixelCNN" in block)
    (tmp_path / "masked.py").write_text(source)
    return load(str(tmp_path / "masked.py"))


def test_the_example_of_masked_convolutions(masked):
    """The probabilities of all images of 2x3 bits add up to 1, and samples have them."""
    spec = Spec({"image": jax.ShapeDtypeStruct((2, 3, 1), np.uint8)}, 6)
    model = masked.make(masked.Config(features=4), spec)
    state = model.init(jax.random.key(0))
    drawn = jax.random.normal(jax.random.key(1), (64,))
    params = jax.tree.map(lambda leaf: leaf + 0.8 * jnp.resize(drawn, leaf.shape), state.params)
    state = state._replace(params=params)
    every = np.array(list(np.ndindex((2,) * 6)), np.uint8)
    images = {"image": 255 * every.reshape(64, 2, 3, 1)}
    probability = np.exp(np.asarray(model.likelihood.log_prob(None, state, images), np.float64))
    assert probability.sum() == pytest.approx(1, rel=1e-5)
    assert probability.max() > 4 / 64  # far from uniform
    samples = np.asarray(model.sampler.draw(jax.random.key(2), state, 4000, {})["image"]).reshape(4000, 6) // 255
    counts = np.bincount(samples @ (2 ** np.arange(5, -1, -1)), minlength=64)
    assert scipy.stats.chisquare(counts, 4000 * probability / probability.sum()).pvalue > 1e-3


@pytest.mark.slow
def test_the_example_of_masked_convolutions_is_trained(masked, tmp_path, capfd):
    """The loss comes well below 64 log 2, and no convolution is slow."""
    settings = Settings(binarize="threshold", steps=60, log_every=20, sample_every=60)
    run = train(inspect.getfile(masked), {"features": 8}, settings, out=tmp_path / "run", progress=False)
    assert read_rows(run.path / "metrics.jsonl")[-1]["loss"] < 0.8 * 64 * np.log(2)
    said = capfd.readouterr().err
    assert "./masked.py: log p(x), exact: bits are pixels >= 128" in " ".join(said.split())
    assert "jaxgen.nn.conv" not in said


@pytest.fixture
def flow(tmp_path):
    """Module of the example of a neural network."""
    source = next(block for block in python("own_models_and_data.md") if "Flow matching" in block)
    (tmp_path / "flow.py").write_text(source)
    return load(str(tmp_path / "flow.py"))


def test_the_example_of_a_neural_network(flow):
    """The loss for v = 0 is the distance of noise to images; samples are noise; v = x + 1 is integrated in steps."""
    image = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)
    spec = Spec({"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}, 6, batch_size=6)
    model = flow.make(flow.Config(features=2, euler_steps=3, learning_rate=1e-2), spec)
    state = model.init(jax.random.key(0))
    still = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    key = jax.random.key(1)

    _, metrics = jax.jit(model.phases[0].step)(key, still, {"image": image})
    noise = jax.random.normal(jax.random.split(key)[0], image.shape)
    expected = ((image / 127.5 - 1 - noise) ** 2).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)

    noise = jax.random.normal(key, (5, 4, 4, 1))
    drawn = model.sampler.draw(key, still, 5, {})["image"]
    np.testing.assert_array_equal(drawn, np.round(np.clip((noise + 1) / 2, 0, 1) * 255))

    # Only the last layer's bias is nonzero: dx/dt = 0.3, so three steps of a third add 0.3.
    last = max(still.params, key=lambda name: int(name.partition("_")[2]))
    moving = jax.tree.map(lambda leaf: leaf, still.params)
    moving[last]["bias"] = jnp.full_like(moving[last]["bias"], 0.3)
    drawn = model.sampler.draw(key, still._replace(params=moving), 5, {})["image"]
    np.testing.assert_allclose(drawn, np.clip((noise + 1.3) / 2, 0, 1) * 255, atol=0.6)


@pytest.mark.slow
def test_the_example_of_a_neural_network_is_trained(flow, tmp_path):
    """The loss falls well below that of v = 0: E|x_1|^2, plus 1 for each pixel of noise."""
    settings = Settings(seeds=(0, 1), steps=100, log_every=20, batch_size=32)
    config = {"features": 4, "layers": 2, "learning_rate": 1e-2}
    run = train(inspect.getfile(flow), config, settings, out=tmp_path / "run", progress=False)
    still = ((run.plan.dataset.train["image"] / 127.5 - 1) ** 2 + 1).sum((1, 2, 3)).mean()
    last = [row["loss"] for row in read_rows(run.path / "metrics.jsonl") if row["step"] == 100]
    assert len(last) == 2
    assert max(last) < 0.7 * still


def test_the_example_of_an_experiment(tmp_path):
    (source,) = python("experiments.md")
    (tmp_path / "example.py").write_text(source)
    loaded = load_experiment(tmp_path / "example.py")
    assert list(loaded.experiment.arms) == ["fixed", "tuned"]
    assert loaded.experiment.arms["tuned"].sweep.draws == 6


def test_a_dataset_added_as_it_says_is_loaded(tmp_path):
    text = next(block for block in python("own_models_and_data.md") if "def read(options)" in block)
    file = tmp_path / "stripes.py"
    file.write_text(text)
    dataset = data.load(str(file), image_size=16)
    assert [len(split["image"]) for split in dataset[3:6]] == [800, 100, 200]
    assert dataset.spec.image_shape == (16, 16, 1)
    native = data.load(str(file)).train
    for label, axis in ((0, 2), (1, 1)):  # constant along a row, along a column
        assert np.ptp(native["image"][native["label"] == label], axis=axis).max() == 0
