"""Scores of runs and of another system's images, through the functions and the command line."""

import contextlib
import dataclasses
import functools
import io
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxgen import cli, data, dependencies, models
from jaxgen.cli import tables
from jaxgen.data.images import Transform
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.errors import UserError
from jaxgen.evaluation import Scoring, evaluate, evaluate_images, of_models, of_samples
from jaxgen.evaluation.foreign import read_images
from jaxgen.evaluation.networks import extractors
from jaxgen.evaluation.scorer import Scorer
from jaxgen.metrics import evidence, frechet_distance
from jaxgen.metrics.captions import is_true, parse, see_tolerantly
from jaxgen.model import Sampler, Spec
from jaxgen.training import Settings, engine, open_run, train
from tests.models.contract import contracts

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A conditional model and one with latents, both barely trained."""
    folder = tmp_path_factory.mktemp("runs")
    settings = Settings(dataset="digits", image_size=16, seeds=SEEDS, steps=13, log_every=13)
    train("naive_bayes", {"likelihood": "bernoulli"}, settings, out=folder / "nb", progress=False)
    dense = {"network": "mlp", "hidden": (8,), "latent_dim": 3, "likelihood": "bernoulli"}
    train("vae", dense, settings, out=folder / "vae", progress=False)
    return folder


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", image_size=16)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """File of a cheap extractor: the mean of each block of 4x4 pixels."""
    file = tmp_path_factory.mktemp("extractor") / "blocks.py"
    file.write_text("def features(images):\n    return images.reshape(-1, 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16)\n")
    return str(file)


def rows(results):
    return {row["name"]: row for row in results["rows"]}


def refused(*argv) -> str:
    """Returns the one error line of a refused command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(word) for word in argv])
    lines = err.getvalue().splitlines()
    assert (status, out.getvalue(), len(lines)) == (2, "", 1), err.getvalue()
    return lines[0].removeprefix("jaxgen: error: ")


def test_a_run_beside_its_nulls(runs, digits, blocks):
    metrics = ("fd", "kid", "nearest_neighbor", "log_prob", "accuracy")
    scoring = Scoring(metrics=metrics, samples=300, extractor=blocks)
    results = evaluate(runs / "nb", scoring, progress=False)
    assert list(rows(results)) == ["real against real", "real as bits", "nb", "nb, untrained"]
    assert [metric["key"] for metric in results["metrics"]] == [
        "fd", "kid", "nearest_neighbor", "log_prob_binary", "accuracy"
    ]  # fmt: skip
    assert {row["samples"] for row in results["rows"]} == {300}
    assert (results["samples"], results["dataset"]["test"]) == (300, 899)
    assert "300 samples and the 899 test examples" in results["metrics"][0]["note"]
    path = runs / "nb" / "evaluation.json"
    assert json.loads(path.read_text()) | {"path": str(path)} == results
    real, trained, untrained = (rows(results)[name]["values"] for name in ("real against real", "nb", "nb, untrained"))
    assert real["fd"][0] < min(trained["fd"]) < max(trained["fd"]) < min(untrained["fd"])
    assert real["nearest_neighbor"][0] < 0.15
    assert max(trained["nearest_neighbor"]) < 0.5 < min(untrained["nearest_neighbor"])
    # the sampler's output for the stated seed and the labels of drawn training images is scored
    run = open_run(runs / "nb")
    keys = engine.all_streams(SEEDS).evaluate
    keys = jax.vmap(jax.random.split)(jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
    streams = [np.random.Generator(np.random.Philox(np.random.SeedSequence([0, seed]))) for seed in SEEDS]
    label = np.stack([digits.train["label"][stream.choice(808, 300)] for stream in streams])
    made = engine.sampler(run.plan.model)(keys[:, 0], run.state, 300, {"label": label})
    np.testing.assert_array_equal(made["label"], label)
    images = made["image"]
    extractor, _ = extractors(digits, blocks)
    expected = [frechet_distance(extractor.features(digits.test["image"]), extractor.features(some)) for some in images]
    np.testing.assert_allclose(trained["fd"], expected, rtol=1e-9)
    assert rows(results)["nb"]["sampling"] == "draws from p(x|y)"
    assert results["extractor"]["digest"] == extractor.digest


def test_real_rows_are_of_training_images(digits, monkeypatch):
    """Distinct ones are drawn, with their labels; none is a test image, which they are scored against."""
    scored = []
    monkeypatch.setattr(
        Scorer, "of_samples", lambda self, name, values, labels, *more, **how: scored.append((values, labels)) or {}
    )
    with Scorer(digits, Scoring(metrics=("parzen",), samples=700), False) as scorer:
        scorer.real_rows([])
    [(values, labels)] = scored
    of_training = {image.tobytes(): i for i, image in enumerate(digits.train["image"])}
    rows = [of_training[image.tobytes()] for image in values]
    assert len(set(rows)) == 700
    np.testing.assert_array_equal(labels, digits.train["label"][rows])


def test_samples_are_asked_for_what_drawn_training_examples_are(runs, digits):
    """Training images in even places have no label; then half of the remaining threes have none either."""
    label, rows = digits.train["label"], np.arange(808)
    known = (rows % 2 == 1) & ((label != 3) | (rows % 4 == 1))
    train = {**digits.train, "label": np.where(known, label, -1), "caption": 100 + rows[:, None]}
    plan = open_run(runs / "nb").plan
    plan = plan._replace(settings=dataclasses.replace(plan.settings, seeds=(0, 1, 5)))

    def asked(going, conditions=("label",), **scoring):
        model = plan.model._replace(sampler=Sampler(None, conditions))
        some = Scoring(metrics=("memorization",), samples=20_000, **scoring)
        with Scorer(digits._replace(train=train), some, False) as scorer:
            return scorer._conditions(plan._replace(model=model), np.array(going))

    found = asked([0, 1, 2])
    assert list(found) == ["label"]
    assert found["label"].shape == (3, 20_000)
    assert found["label"].dtype == label.dtype
    share = np.bincount(label[known], minlength=10) / known.sum()
    error = np.sqrt(share * (1 - share) / 20_000)
    for each in found["label"]:
        assert each.min() == 0
        assert (np.abs(np.bincount(each, minlength=10) / 20_000 - share) < 4 * error).all()
    first, second, third = found["label"]
    # Two independent draws agree on a label as often as two random examples do, give or take .3%.
    for other in (second, third, asked([0], sampling_seed=1)["label"][0]):
        assert abs((first == other).mean() - (share**2).sum()) < 0.015
    np.testing.assert_array_equal(asked([0, 1, 2])["label"], found["label"])
    np.testing.assert_array_equal(asked([2])["label"], [third])  # independent of the other seeds
    # All conditions come from one example.
    both = asked([0, 1], conditions=("caption", "label"))
    np.testing.assert_array_equal(label[both["caption"][..., 0] - 100], both["label"])
    np.testing.assert_array_equal(both["label"], found["label"][:2])
    unlabeled = asked([0], conditions=("caption",))["caption"] - 100
    train["caption"][::4] = 0  # images without a caption
    assert set((asked([0], conditions=("caption",))["caption"] - 100).ravel()) == set(rows[rows % 4 > 0])
    assert 0.4 < known[unlabeled].mean() < 0.6
    assert asked([0, 1], conditions=()) == {}


def test_captions_beside_real_images_shrunk_ones_and_others_captions(runs, monkeypatch):
    """A model that draws one training image satisfies the captions that are true of it."""
    monkeypatch.setattr("jaxgen.evaluation.scorer.cached", lambda key, compute: compute())
    dataset = data.load("shapes_32", max_objects=1)
    image = dataset.train["image"][0]

    def draw(key, state, num, condition):
        return {"image": jnp.broadcast_to(image, (num, *image.shape))}

    run = open_run(runs / "nb")
    plan = run.plan._replace(model=run.plan.model._replace(sampler=Sampler(draw, ("caption",)), likelihood=None))
    scoring = Scoring(metrics=("captions",), samples=120)
    with Scorer(dataset, scoring, False) as scorer:
        rows = {row["name"]: row["values"] for row in scorer.real_rows([plan.model])}
        given = scorer._conditions(plan, np.arange(len(SEEDS)))["caption"]
        found = scorer.values(plan, "one image", run.state, set())
        titles = [metric.title for metric in scorer.requested.columns(set(found))]
    real, shrunk, others = rows.values()
    assert list(rows) == ["real against real", "real at 16x16", "real, others' captions"]
    named = ["satisfied", "one object", "background", "color", "count", "shape", "size"]
    assert titles == named  # no caption is of two objects, or of a relation
    assert list(real) == ["satisfied", "satisfied_1", *(f"satisfied_{name}" for name in named[2:])]
    assert real["satisfied"][0] > 0.99
    assert 0.5 < shrunk["satisfied"][0] < 0.9 < shrunk["satisfied_color"][0]
    assert others["satisfied"][0] < 0.1
    assert 0.3 < others["satisfied_background"][0] < 0.7
    for tokens, score in zip(given, found["satisfied"], strict=True):
        texts = dataset.vocabulary.decode(tokens)
        expected = np.mean([is_true(parse(text), see_tolerantly(image)) for text in texts])
        assert score == pytest.approx(expected)


ALIKE = "no sign of quality, as the samples are nearly all alike"


@pytest.mark.parametrize(("noise", "alike"), [(0, True), (2, True), (60, False)])
def test_samples_that_are_all_alike_are_marked(runs, digits, noise, alike, capsys):
    """One seed draws a test image again and again, with noise in gray levels; the other draws all of them."""
    images = digits.test["image"]

    def draw(key, state, num, condition):
        first = jnp.where(jax.tree.leaves(state.params)[0].sum() == one, num, 0)  # the seed's own parameters
        some = jnp.asarray(images)[jnp.where(first, 5, jnp.arange(num))]
        noisy = some.astype(jnp.float32) + jax.random.normal(key, some.shape) * noise
        return {"image": jnp.clip(noisy, 0, 255).astype(jnp.uint8)}

    run = open_run(runs / "vae")
    one = jax.tree.leaves(run.state.params)[0][1].sum()
    plan = run.plan._replace(model=run.plan.model._replace(sampler=Sampler(draw, ("image",))))
    with Scorer(digits, Scoring(metrics=("neighbors", "recognized"), samples=100), False) as scorer:
        made = scorer.model_rows("vae", run._replace(plan=plan))
        results = scorer.results([*scorer.real_rows([]), *made], SEEDS)
    real, trained, untrained = results["rows"]
    assert "doubts" not in real
    assert "doubts" not in untrained
    assert trained["values"]["spread"][0] > 0.5
    if not alike:
        assert "doubts" not in trained
        assert results["warnings"] == []
        return
    assert trained["values"]["precision"][1] == trained["values"]["recognized"][1] == 1
    assert trained["values"]["spread"][1] < 0.01
    words = f"{ALIKE} (seed 1)"
    assert trained["doubts"] == {"precision": words, "density": words, "recognized": words}
    assert results["warnings"] == [f"vae: precision, density, recognized: {words}"]
    for show in (tables.compact_tables, tables.scores_tables):
        console = Console(width=200, file=io.StringIO())
        console.print(*show(results, console))
        shown = " ".join(console.file.getvalue().split())
        assert shown.count("*") == 3
        assert f"warning: vae: precision, density, recognized: {words}" in shown


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 200])
def test_the_variance_behind_the_spread(dtype, offset):
    """NumPy's in float64, of more examples than are held at once; exactly 0 for equal ones."""
    values = (offset + np.random.default_rng(0).integers(0, 9, (2500, 3, 2)) / 8).astype(dtype)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(of_samples._variance(values), wide.var(axis=0).sum(), rtol=1e-12)
    assert of_samples._variance(np.full((5, 2), 0.1 + offset, dtype)) == 0


def test_a_generator_of_one_image_is_marked(digits, tmp_path):
    np.save(tmp_path / "one.npy", np.repeat(digits.test["image"][5:6], 40, axis=0))
    results = evaluate_images(tmp_path / "one.npy", "digits", image_size=16, progress=False)
    given = results["rows"][-1]
    assert given["values"]["precision"] == given["values"]["recognized"] == [1.0]
    assert given["values"]["spread"] == [0.0]
    assert given["doubts"] == dict.fromkeys(("precision", "density", "recognized"), ALIKE)
    assert f"one.npy: precision, density, recognized: {ALIKE}" in results["warnings"]


def test_a_few_images_whose_chains_fail_lower_the_number_of_chains(runs, monkeypatch):
    """One image of ten rests on one chain of 16, the others on all: the mean is 14.5, the harmonic mean 6.4."""

    def annealed(key, latents, state, batch, **how):
        rows = jnp.arange(len(batch["image"]))
        return evidence.Annealed(rows.astype(jnp.float32), jnp.where(rows % 10 == 0, 1.0, 16.0))

    monkeypatch.setattr(evidence, "annealed_importance", annealed)
    run = open_run(runs / "vae")
    plan = run.plan
    found = of_models.ais(
        plan.model, jax.random.split(jax.random.key(0), 2), run.state, plan.dataset, Scoring(examples=50)
    )
    np.testing.assert_allclose(found["ais_chains"], [1 / (0.1 + 0.9 / 16)] * 2, rtol=1e-5)


def test_an_annealed_estimate_of_few_chains_is_marked(runs):
    """The first seed's chains have all of the weight on one; the second's are even."""
    run = open_run(runs / "vae")
    with Scorer(run.plan.dataset, Scoring(metrics=("ais",)), False) as scorer:
        rows = [
            {
                "name": name,
                "kind": "trained",
                "notes": {},
                "values": {"ais_binary": [-90.0, -80.0], "ais_chains": chains},
            }
            for name, chains in (("short", [2.9, 3.0]), ("shorter", [1.0, None]), ("long", [3.0, 16.0]))
        ]
        before = {**rows[1], "kind": "untrained"}  # whose numbers nobody takes for good
        results = scorer.results([*rows, before], SEEDS)
    words = "may be nats too low, as fewer than 3 chains carry it: raise --temperatures"
    assert [row.get("doubts") for row in results["rows"]] == [
        {"ais_binary": f"{words} (seed 0)"}, {"ais_binary": words}, None, None,
    ]  # fmt: skip
    assert results["warnings"] == [f"short: AIS, bits: {words} (seed 0)", f"shorter: AIS, bits: {words}"]


def test_evaluation_has_the_labels_that_models_do_not_see(digits):
    hidden = data.load("digits", image_size=16, labels=10)
    assert (hidden.train["label"] < 0).sum() == 798
    with Scorer(hidden, Scoring(metrics=("memorization",)), False) as scorer:
        np.testing.assert_array_equal(scorer.dataset.train["label"], digits.train["label"])


def test_images_that_training_draws_as_bits_are_scored_as_bits(digits, blocks):
    """Real images are binarized once too, like the test images; there is no row of gray real images."""
    dynamic = data.load("digits", image_size=16, binarize="dynamic")
    bits = models.load("naive_bayes").make(models.load("naive_bayes").Config("bernoulli"), digits.spec)
    scoring = Scoring(metrics=("fd",), samples=200, extractor=blocks)
    with Scorer(dynamic, scoring, False) as scorer:
        train = Transform(binarize="dynamic").all(digits.train["image"])
        np.testing.assert_array_equal(scorer.sides.train.values, train)
        made = scorer.real_rows([bits])
    assert [row["name"] for row in made] == ["real against real"]
    with Scorer(digits, scoring, False) as scorer:
        made += scorer.real_rows([bits])
    # Gray against gray and bits against bits are each of one distribution; thresholded bits are of another.
    dynamic, gray, threshold = (row["values"]["fd"][0] for row in made)
    assert max(dynamic, gray) < threshold / 2


def test_another_sampling_seed_gives_other_samples(runs, blocks):
    scoring = Scoring(metrics=("fd",), samples=100, extractor=blocks)
    one = rows(evaluate(runs / "nb", scoring, progress=False))
    two = rows(evaluate(runs / "nb", dataclasses.replace(scoring, sampling_seed=1), progress=False))
    for name in one:
        assert one[name]["values"]["fd"] != two[name]["values"]["fd"]


def test_scores_are_kept_by_content(runs, monkeypatch):
    scoring = Scoring(metrics=("fd", "log_prob"), samples=120)
    first = evaluate(runs / "vae", scoring, progress=False)

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr("jaxgen.metrics.checks.features", never)
    assert evaluate(runs / "vae", scoring, progress=False) == first
    with pytest.raises(AssertionError, match="computed again"):
        evaluate(runs / "vae", Scoring(metrics=("fd",), samples=121), progress=False)
    monkeypatch.setattr("jaxgen.evaluation.scorer.sources", lambda *_: "another version")
    with pytest.raises(AssertionError, match="computed again"):
        evaluate(runs / "vae", scoring, progress=False)


def keys_of(dataset, scoring, monkeypatch):
    """Map from metric of samples to the cache key of its scores of 20 training images."""
    keys = {}
    monkeypatch.setattr("jaxgen.evaluation.scorer.cached", lambda key, compute: keys.update({key[0]: str(key)}) or {})
    with Scorer(dataset, scoring, False) as scorer:
        scorer.of_samples("some", dataset.train["image"][:20], dataset.train["label"][:20], ["a digit"] * 20)
    return keys


@pytest.fixture(scope="module")
def captioned(digits):
    entries = digits.spec.entries | {"caption": jax.ShapeDtypeStruct((2,), np.int32)}
    return digits._replace(spec=digits.spec._replace(entries=entries), vocabulary=Vocabulary(("a", "digit")))


EVERY = {"fd", "recognized", "parzen", "classification_accuracy", "r_precision"}
"""Metrics by the extractor, the judge, pixels, a classifier trained on the samples, and a trained text encoder."""


@pytest.mark.parametrize(
    ("file", "metrics"),
    [
        ("models/classifier.py", EVERY),  # loaded by its name, as are the models below
        ("nn/optimizer.py", EVERY),
        ("evaluation/extractor.py", EVERY),
        ("evaluation/inception.py", EVERY),
        ("models/stackgan.py", {"r_precision"}),
        ("nn/text.py", {"r_precision"}),
        ("metrics/frechet.py", {"fd"}),
        ("metrics/parzen.py", {"parzen"}),
        ("cli/lines.py", set()),
    ],
)
def test_scores_depend_on_the_files_that_they_are_computed_by(file, metrics, captioned, monkeypatch):
    scoring, found, read = Scoring(metrics=tuple(EVERY)), {}, dependencies._read
    for edited in (None, Path(dependencies.PACKAGE, file)):
        monkeypatch.setattr(
            dependencies,
            "_read",
            lambda path, edited=edited: ("edited", read(path)[1]) if path == edited else read(path),
        )
        found[edited] = keys_of(captioned, scoring, monkeypatch)
    before, after = found.values()
    assert set(before) == EVERY
    assert {name for name in EVERY if before[name] != after[name]} == metrics


@pytest.mark.parametrize(
    ("name", "changed", "metrics"),
    [
        ("networks.fit", lambda *given, **options: None, EVERY),
        ("networks.STEPS", 599, EVERY),
        ("networks.RETRIEVAL_STEPS", 1999, {"r_precision"}),
        ("of_samples.PARZEN_DEVIATIONS", np.ones(3), {"parzen"}),
        ("of_samples.Examples.judged", functools.cached_property(lambda examples: None), EVERY),
    ],
)
def test_scores_depend_on_the_code_and_constants_that_they_are_computed_by(
    name, changed, metrics, captioned, monkeypatch
):
    scoring = Scoring(metrics=tuple(EVERY))
    before = keys_of(captioned, scoring, monkeypatch)
    monkeypatch.setattr(f"jaxgen.evaluation.{name}", changed)
    after = keys_of(captioned, scoring, monkeypatch)
    assert {name for name in EVERY if before[name] != after[name]} == metrics


def test_latents_only_where_there_are(runs):
    scoring = Scoring(metrics=("iwae", "ais", "active_units"), importance_samples=5, temperatures=3, examples=20)
    results = evaluate(runs / "vae", scoring, progress=False)
    values = rows(results)["vae"]["values"]
    assert len(values["iwae_binary"]) == len(values["ais_binary"]) == 2
    assert np.isfinite([*values["iwae_binary"], *values["ais_binary"]]).all()
    assert all(1 <= chains <= 16 for chains in values["ais_chains"])
    assert rows(results)["real against real"]["values"] == {}
    assert "K = 5" in results["metrics"][0]["note"]


@pytest.fixture(scope="module")
def unlabeled(digits, tmp_path_factory):
    """A VAE barely trained on images without labels, and their folder."""
    path = tmp_path_factory.mktemp("unlabeled")
    for i, image in enumerate(digits.train["image"][:300]):
        (path / "images").mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path / "images" / f"{i}.png")
    settings = Settings(dataset="image_folder", data_from=str(path / "images"), steps=3)
    train("vae", {"network": "mlp", "hidden": (4,), "latent_dim": 2}, settings, out=path / "run", progress=False)
    return path


NO_LABELS = "the data have no labels to train an extractor on: --extractor FILE names one, such as Inception-v3"


def test_images_without_labels_are_scored_by_what_can_be(unlabeled, capsys):
    """And what was left out is told, with the reason, in the results and on the terminal."""
    assert cli.main(["evaluate", str(unlabeled / "run")]) == 0
    results = json.loads((unlabeled / "run" / "evaluation.json").read_text())
    assert [metric["key"] for metric in results["metrics"]] == [
        "sliced_wasserstein", "parzen", "memorization", "log_prob_uint8", "bits_per_dimension"
    ]  # fmt: skip
    assert np.isfinite(list(rows(results)["run"]["values"].values())).all()
    assert results["left_out"] == {
        "fd": NO_LABELS,
        "neighbors": NO_LABELS,
        "recognized": "the data have no labels, which a judge needs",
        "accuracy": "it does not classify",
    }
    out = " ".join(capsys.readouterr().out.split())
    assert f"left out: fd, neighbors: {NO_LABELS}" in out
    assert "left out: recognized: the data have no labels, which a judge needs" in out


def test_images_of_another_system_without_labels_are_scored_too(unlabeled, digits, tmp_path):
    np.savez(tmp_path / "theirs.npz", image=digits.test["image"][:20])
    results = evaluate_images(
        tmp_path / "theirs.npz", "image_folder", data_from=str(unlabeled / "images"), progress=False
    )
    assert rows(results)["theirs.npz"]["values"].keys() == {"sliced_wasserstein", "parzen", "memorization"}
    assert set(results["left_out"]) == {"fd", "neighbors", "recognized", "log_prob", "accuracy"}
    assert results["left_out"]["log_prob"] == "a score of models only"


@pytest.mark.parametrize(
    "name", ["fd", "fd_infinity", "kid", "mmd", "neighbors", "clipped", "vendi", "two_sample", "inception_score"]
)
def test_a_metric_of_features_that_is_asked_for_names_itself(unlabeled, name):
    line = refused("evaluate", unlabeled / "run", "--metrics", name, "--samples", 40)
    assert line == f"metric {name} does not apply to vae: {NO_LABELS}"


@pytest.mark.parametrize("name", ["recognized", "modes", "diversity", "agreement"])
def test_a_metric_of_labels_that_is_asked_for_names_itself(unlabeled, name):
    line = refused("evaluate", unlabeled / "run", "--metrics", name, "--samples", 40)
    assert line == f"metric {name} does not apply to vae: the data have no labels, which a judge needs"


@pytest.mark.parametrize(
    ("extractor", "judge", "expected"),
    [
        (
            0.557,
            0.91,
            ["extractor: e, 55.7% of real test images", "by its features say little", "judge: j, 91.0%"],
        ),
        (0.98, 0.7999, ["extractor: e, 98.0%", "judge: j, 80.0%", "what it recognizes says little"]),
        (0.8, 0.8, ["extractor: e, 80.0%", "judge: j, 80.0%"]),
        (None, 0.1, ["judge: j, 10.0%", "what it recognizes says little"]),  # as Inception-v3
        (0.3, None, ["extractor: e, 30.0%", "by its features say little"]),
        (None, None, []),
    ],
)
def test_the_accuracy_of_classifiers_stands_above_a_table(extractor, judge, expected):
    """A line each, and a warning below 80%."""
    named = {"extractor": {"name": "e", "accuracy": extractor}, "judge": judge and {"name": "j", "accuracy": judge}}
    lines = tables.classifiers_told(named).plain.splitlines()
    assert len(lines) == len(expected)
    assert all(words in line for words, line in zip(expected, lines, strict=True))
    assert sum(line.startswith("warning: a classifier right on fewer than 80% is weak") for line in lines) == sum(
        accuracy is not None and accuracy < 0.8 for accuracy in (extractor, judge)
    )


def test_the_accuracy_is_printed_before_the_scores(runs, capsys):
    assert cli.main(["evaluate", str(runs / "nb"), "--metrics", "fd", "--samples", "50"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("extractor: digits extractor, 97.9% of real test images right\n")
    assert "judge: digits judge, 98.0%" in out.splitlines()[1]


@pytest.fixture
def folder(digits, tmp_path):
    """60 test images as files, in folders by class."""
    for i in range(60):
        path = tmp_path / "theirs" / str(digits.test["label"][i]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.test["image"][i, ..., 0]).save(path)
    return tmp_path / "theirs"


def test_images_of_another_system(folder, digits):
    """Files and an npz file of them have the same scores, equal to the metric's."""
    scoring = Scoring(metrics=("fd", "recognized", "nearest_neighbor"))
    results = evaluate_images(folder, "digits", scoring, progress=False, image_size=16)
    assert json.loads(Path(f"{folder}.evaluation.json").read_text()) == {
        k: v for k, v in results.items() if k != "path"
    }
    values = rows(results)["theirs"]["values"]
    assert rows(results)["theirs"]["samples"] == rows(results)["real against real"]["samples"] == 60
    images, labels = digits.test["image"][:60], digits.test["label"][:60]
    for name, arrays in (
        ("image.npz", {"image": images, "label": labels}),
        ("any.npz", {"x": images, "label": labels}),
    ):
        np.savez(folder.parent / name, **arrays)
        out = folder.parent / "out.json"
        again = evaluate_images(folder.parent / name, "digits", scoring, out=out, progress=False, image_size=16)
        assert rows(again)[name]["values"]["fd"] == pytest.approx(values["fd"])  # in another order
        assert rows(again)[name]["values"]["nearest_neighbor"] == values["nearest_neighbor"]
        out.unlink()
    extractor, _ = extractors(digits)
    expected = frechet_distance(extractor.features(digits.test["image"]), extractor.features(images))
    assert values["fd"] == [pytest.approx(expected, rel=1e-9)]


def test_folders_that_are_no_classes_are_no_labels(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / f"class {path.name}")
    said = refused("evaluate", "--images", folder, "--image-size", 16, "--metrics", "nearest_neighbor")
    assert said == "metric nearest_neighbor does not apply to these examples: its samples have no labels"


def test_a_diverged_seed_has_no_score_and_leaves_the_others_theirs(runs, blocks):
    run = open_run(runs / "vae")
    scoring = Scoring(("fd", "log_prob", "active_units", "reconstruction"), samples=60, extractor=blocks)
    with Scorer(run.plan.dataset, scoring, False) as scorer:
        both = scorer.values(run.plan, "", run.state, set())
        one = scorer.values(run.plan, "", run.state, {SEEDS[0]})
        assert scorer.values(run.plan, "", run.state, set(SEEDS)) == {}
    assert both.keys() == one.keys()
    for key, (_, second) in both.items():
        assert one[key][0] is None
        assert one[key][1] == pytest.approx(second, rel=1e-5)


def test_a_users_extractor(runs, tmp_path, digits):
    (tmp_path / "mine.py").write_text("def features(images):\n    return images.reshape(len(images), -1)[:, 100:110]\n")
    scoring = Scoring(metrics=("fd",), samples=50, extractor=str(tmp_path / "mine.py"))
    results = evaluate(runs / "vae", scoring, progress=False)
    assert results["metrics"][0]["title"] == "FD-mine"
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef features(images):\n    return np.full((len(images), 2), np.nan)\n"
    )
    said = refused("evaluate", runs / "vae", "--metrics", "fd", "--extractor", tmp_path / "mine.py")
    assert said == "metric fd: real features have non-finite values"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--metrics", "fid"], "unknown metric 'fid': did you mean fd? there are fd, fd_infinity, kid, "),
        (
            ["--metrics", "accuracy"],
            "metric accuracy does not apply to vae: it does not classify; models that can: classifier",
        ),
        (
            ["--metrics", "nearest_neighbor"],
            "does not apply to vae: its samples have no labels; models that can: naive_bayes",
        ),
        (["--metrics", "fd", "--samples", "1"], "metric fd needs 2 samples or more, not 1"),
        (["--metrics", "neighbors", "--samples", "5"], "metric neighbors needs 6 samples or more, not 5"),
        (["--samples", "0"], "samples must be at least 1, not 0"),
        (["--importance-samples", "0"], "importance_samples must be at least 1, not 0"),
        (["--sampling-seed", "-1"], "sampling_seed must lie between 0 and 2^31 - 1, not -1"),
        (["--extractor", "absent.safetensors"], "no extractor file absent.safetensors"),
    ],
)
def test_what_a_run_cannot_be_asked(runs, argv, words):
    assert words in refused("evaluate", runs / "vae", *argv)


def test_a_model_without_a_likelihood(tmp_path):
    settings = Settings(dataset="digits", steps=1, batch_size=8)
    small = {"latent_dim": 3, "generator_units": 4, "discriminator_units": 4, "pieces": 1}
    train("gan", small, settings, out=tmp_path / "gan", progress=False)
    bounded = [name for name, contract in contracts().items() if contract.densities and contract.prior != "discrete"]
    scored = [name for name, contract in contracts().items() if contract.likelihood]
    for name, able in (("log_prob", ", ".join(scored)), ("iwae", ", ".join(bounded))):
        assert f"metric {name} does not apply to gan: it has" in refused(
            "evaluate", tmp_path / "gan", "--metrics", name
        )
        assert refused("evaluate", tmp_path / "gan", "--metrics", name).endswith(f"models that can: {able}")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((5, 16, 16, 1), 700.0), "holds float64 from 700 to 700; images are whole numbers from 0 to 255, or "),
        (np.full((5, 16, 16, 1), np.nan), "holds non-finite values"),
        (np.zeros((5, 8, 8, 1), np.uint8), "are 8x8x1, those of digits 16x16x1: --image-size, or --crop and"),
        (np.zeros((0, 16, 16, 1), np.uint8), "not images [num, height, width, channels]"),
        (np.zeros(7, np.uint8), "holds [7], not images [num, height, width, channels]"),
        (np.array(["a"]), "no numbers"),
    ],
)
def test_arrays_that_are_no_such_images(tmp_path, array, words):
    np.savez(tmp_path / "x.npz", image=array)
    said = refused("evaluate", "--images", tmp_path / "x.npz", "--dataset", "digits", "--image-size", 16)
    assert words in said
    assert not list(tmp_path.glob("*.json"))


def test_files_that_are_no_such_images(folder, tmp_path, digits):
    def said(path, *more):
        return refused("evaluate", "--images", path, "--dataset", "digits", "--image-size", 16, *more)

    assert "there is no folder or file" in said(tmp_path / "absent")
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4")
    assert "is no npy, npz or zip file that can be read" in said(tmp_path / "bad.npz")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    assert "has no array 'image'; it holds a, b" in said(tmp_path / "two.npz")
    np.savez(tmp_path / "labels.npz", image=digits.test["image"][:9], label=np.arange(9) + 5)
    assert "has labels 5 to 13; those of digits are 0 to 9" in said(tmp_path / "labels.npz")
    np.savez(tmp_path / "labels.npz", image=digits.test["image"][:9], label=np.zeros(8, int))
    assert "label must be whole numbers [9]" in said(tmp_path / "labels.npz")
    (tmp_path / "empty").mkdir()
    assert "holds no image" in said(tmp_path / "empty")
    assert "holds 60 examples, not the 61 of samples" in said(folder, "--samples", 61)
    (folder / "7").rename(folder / "seven")
    assert "subfolder 'seven' is no class of digits, but others are" in said(folder)
    (folder / "seven").rename(folder / "7")
    assert "is a folder; --out names a file" in said(folder, "--out", tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "0" / "zz.png")
    assert "all have to be alike" in said(folder)
    (folder / "0" / "zz.png").unlink()
    whole = (folder / "1").glob("*.png").__next__()
    whole.write_bytes(whole.read_bytes()[:-20])
    assert f"cannot decode {whole}" in said(folder)


def test_examples_that_are_no_images(tmp_path):
    """Points and meshes come in an npz file, by their entry's name or as its only array."""

    def of(subject, shape):
        spec = Spec({subject: jax.ShapeDtypeStruct(shape, np.float32)}, 9)
        return SimpleNamespace(spec=spec, name="theirs")

    for subject, shape, words in (("point", (2,), "point [num, 2]"), ("mesh", (4, 3), "mesh [num, 4, 3]")):
        values = np.arange(5 * np.prod(shape), dtype=np.float64).reshape(5, *shape)
        for arrays in ({subject: values, "other": values + 1}, {"x": values}):
            np.savez(tmp_path / "x.npz", **arrays)
            found, labels, _ = read_images(tmp_path / "x.npz", of(subject, shape))
            np.testing.assert_array_equal(found, values)
            assert (found.dtype, labels) == (np.float32, None)
        for wrong in (values[:0], values[..., :1], values[0], np.float64(3)):
            np.savez(tmp_path / "x.npz", x=wrong)
            with pytest.raises(UserError) as raised:
                read_images(tmp_path / "x.npz", of(subject, shape))
            assert str(raised.value).endswith(f"x.npz holds {list(wrong.shape)}, not {words} as theirs has")
        with pytest.raises(UserError, match="dataset theirs has no images; its examples come as an npz file"):
            read_images(tmp_path, of(subject, shape))
