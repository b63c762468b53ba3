"""The benchmark of the metrics from the command line to its JSON, at sizes too small to measure speed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jaxgen.experiments.benchmarks import evaluation, timing

ROOT = Path(__file__).parents[2]
TINY = ["--real", "120", "--fake", "90", "--dimensions", "16", "--reference-real", "60"]
TINY += ["--subsets", "20", "--subset-size", "40"]


@pytest.fixture
def call(capsys):
    """Makes a function from the arguments to the exit status and the output."""

    def run(*argv):
        status = timing.main("evaluation", evaluation.Options, evaluation.measure, evaluation.shown, argv)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def in_this_process(monkeypatch):
    """Contenders run in this process, and take 1, 2, 3... s and 10, 20, 30... GiB in the order of their runs."""
    measured, runs = evaluation.measured, []

    def alone(name, options):
        runs.append(name)
        return measured(name, options) | {"seconds": 1.0 * len(runs), "peak_gib": 10.0 * len(runs)}

    monkeypatch.setattr(evaluation, "alone", alone)
    return runs


def test_a_process_of_its_own():
    """The peak includes memory allocated in the new process, but not this process's."""
    held = np.ones(2**26)  # half a GiB
    options = evaluation.Options(real=400, fake=400, dimensions=2**14, subsets=2, subset_size=40)
    run = evaluation.alone("kernel_distance, jaxgen", options)
    features = 4 * 2**14 * 800 / 2**30
    # the metric's float64 copies are twice as large
    assert features < run["before_gib"] < run["peak_gib"] - 2 * features
    assert run["peak_gib"] < held.nbytes / 2**30 < timing.peak_bytes() / 2**30
    assert run["seconds"] > 0
    assert run["scores"] == evaluation.measured("kernel_distance, jaxgen", options)["scores"]


@pytest.fixture
def stand_ins_leave():
    """Removes the modules that stand in for torchvision, and modules imported with them, after the test."""
    pytest.importorskip("torch", reason="PyTorch comes with the extra bench")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("torchvision", "torch_fidelity"):
            del sys.modules[name]


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed")
@pytest.mark.usefixtures("stand_ins_leave")
def test_all_contenders(call, in_this_process):
    pytest.importorskip("prdc")
    status, out, err = call(*TINY, "--rounds", "2", "--json")
    assert status == 0, err
    result = json.loads(out)
    names = list(evaluation.CONTENDERS)
    assert list(result["contenders"]) == names
    assert in_this_process == names + names[1:] + names[:1]
    assert result["contenders"][names[0]]["seconds"] == [1, 14]
    assert result["contenders"][names[0]]["median"] == 7.5
    assert [(one["peer"], one["jaxgen"]) for one in result["comparisons"]] == [
        ("frechet_distance, torch-fidelity", "frechet_distance, jaxgen"),
        ("neighbor_scores, prdc, smaller", "neighbor_scores, jaxgen, smaller"),
        ("kernel_distance, torch-fidelity", "kernel_distance, jaxgen"),
    ]
    # the seconds are 2 and 8 against 1 and 14, 5 and 11 against 4 and 10
    frechet, neighbors, kernel = result["comparisons"]
    assert (frechet["ratio"], frechet["low"], frechet["high"]) == (pytest.approx((2 + 8 / 14) / 2), 8 / 14, 2)
    assert (neighbors["low"], neighbors["memory_ratio"]) == (1.1, pytest.approx(1.1))
    assert neighbors["apart"] < 1e-6
    assert 0 < kernel["apart"] < result["contenders"]["kernel_distance, jaxgen"]["scores"]["deviation"]
    # 3 and 9 s, 30 and 90 GiB
    assert [(one["measured"], one["kept"]) for one in result["goals"]] == [(7.5, True), (6, True), (90, False)]
    assert set(result["references"]) == {"prdc", "torch", "torch_fidelity"}

    shown = timing.main("evaluation", evaluation.Options, lambda _: result, evaluation.shown, TINY)
    assert shown == 0


def test_what_is_missing_is_left_out_with_a_word(call, in_this_process, monkeypatch):
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda name: None)
    status, out, err = call(*TINY, "--rounds", "1", "--json", "--metrics", "neighbor_scores")
    assert status == 0
    assert "left out: neighbor_scores, prdc, smaller, which needs the package prdc" in err
    result = json.loads(out)
    assert list(result["contenders"]) == ["neighbor_scores, jaxgen", "neighbor_scores, jaxgen, smaller"]
    assert (result["comparisons"], result["references"]) == ([], {})


def test_other_scores_are_found_out():
    contenders = {
        name: {"seconds": [1.0], "peak_gib": [1.0], "scores": {"value": value}}
        for name, value in (("frechet_distance, jaxgen", 50.0), ("frechet_distance, torch-fidelity", 50.04))
    }
    peer = "frechet_distance, torch-fidelity"
    assert evaluation.compared(contenders, peer)["apart"] == pytest.approx(0.04)
    contenders[peer]["scores"]["value"] = 50.06
    with pytest.raises(RuntimeError, match="not the same metric"):
        evaluation.compared(contenders, peer)


def test_features_are_mixed_alike():
    """Rows of a larger set extend those of a smaller one; before rectification all sets span the same 64 directions."""
    real, more = (evaluation.features(num, 100, 1, 1.0) for num in (50, 2000))
    np.testing.assert_allclose(real, more[:50], rtol=1e-5, atol=1e-6)
    fake = evaluation.features(2000, 100, 2, 0.9)
    assert (fake.dtype, fake.min()) == (np.float32, 0)
    assert fake.mean() / more.mean() == pytest.approx(0.9, abs=0.05)
    # for normals with variance 1, the mean of the positive part is 1 / sqrt(2 pi)
    assert more.mean() == pytest.approx(1 / np.sqrt(2 * np.pi), abs=0.03)
    similar = np.corrcoef(more.mean(axis=0), fake.mean(axis=0))[0, 1]
    assert similar > 0.5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--real", "0"], "real must be above 0"),
        (["--rounds", "0"], "rounds must be above 0"),
        (["--fake", "500"], "subset size must be at most 500, not 1000"),
        (["--reference-real", "5"], "6 samples or more are needed"),
        (["--metrics", "inception_score"], "metrics"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(argv, words, call):
    status, out, err = call(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("jaxgen: error: ")
    assert words in err
    assert err.index("\n") == len(err) - 1


@pytest.mark.parametrize("package", ["experiments", "jaxgen.experiments"])
def test_help_imports_neither_jax_nor_torch(package):
    command = [sys.executable, "-X", "importtime", "-m", f"{package}.benchmarks.evaluation", "--help"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "python -m experiments.benchmarks.evaluation" in " ".join(ran.stdout.split())
    assert not [line for line in ran.stderr.splitlines() if line.rpartition("|")[2].strip() in ("jax", "torch")]
