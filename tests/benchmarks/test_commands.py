"""Each benchmark from the command line to its JSON, at sizes too small to measure speed."""

import contextlib
import json
import math
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jaxgen.experiments.benchmarks import (
    checkpoints,
    convolutions,
    memory,
    meshes,
    pipeline,
    sampling,
    scaling,
    seeds,
    start,
    timing,
    tpu_programs,
    train_step,
)
from jaxgen.experiments.kept import RESULTS
from rich.console import Console

from jaxgen.data.pipeline import stream
from jaxgen.data.readers import bars
from jaxgen.model import Model, Phase, State
from jaxgen.training import engine
from jaxgen.training.settings import Settings

ROOT = Path(__file__).parents[2]
TINY = ["--image-size", "8", "--batch", "4", "--features", "4", "--rounds", "2"]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    for module in (timing, convolutions, scaling):
        monkeypatch.setattr(module, "LEAST", 0.01)
    monkeypatch.setattr(train_step, "COMPILATIONS", 1)


@pytest.fixture
def call(capsys):
    """Makes a function from a benchmark and its arguments to the exit status and the output."""

    def run(module, *argv):
        name = module.__name__.rpartition(".")[2]
        status = timing.main(name, module.Options, module.measure, module.shown, argv)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def measured(call):
    """Makes a function that returns the JSON of a benchmark that must succeed, and also prints its table."""

    def run(module, *argv):
        status, out, err = call(module, *argv, "--json")
        assert status == 0, err
        result = json.loads(out)
        assert timing.main(result["benchmark"], module.Options, lambda _: result, module.shown, ["--rounds", "1"]) == 0
        return result

    return run


def check_ratios(result):
    """Checks that every ratio is that of the rounds' seconds."""
    contenders = result["contenders"]
    for name, contender in contenders.items():
        assert len(contender["seconds_a_step"]) == result["arguments"]["rounds"], name
        assert contender["median"] == pytest.approx(np.median(contender["seconds_a_step"]))
    for one in result["comparisons"]:
        ours = contenders.get(one["jaxgen"]) or contenders[f"jaxgen {one['jaxgen']}"]
        theirs = contenders[one["peer"]]
        by_round = np.divide(theirs["seconds_a_step"], ours["seconds_a_step"])
        assert one["ratio"] == pytest.approx(np.median(by_round))
        assert (one["low"], one["high"]) == (by_round.min(), by_round.max())


@pytest.mark.slow
def test_train_step_against_flax(measured):
    result = measured(train_step, *TINY, "--against", "flax", "flax-scan")
    check_ratios(result)
    assert list(result["contenders"]) == ["jaxgen jitted", "jaxgen in scan", "flax jitted", "flax in scan"]
    assert [(one["peer"], one["jaxgen"]) for one in result["comparisons"]] == [
        ("flax jitted", "jitted"), ("flax in scan", "in scan"),
    ]  # fmt: skip
    ours = result["contenders"]["jaxgen jitted"]
    assert ours["images_a_second"] == pytest.approx(4 / ours["median"])
    rate = result["useful_gflop_a_step"] / ours["median"]
    assert ours["share_of_limit"] == pytest.approx(rate / result["matmul_gflop_a_second"])
    compilation = result["compilation"]
    for comparison, how in zip(compilation["comparisons"], ("jitted", "in scan"), strict=True):
        total = {layers: sum(compilation["medians"][layers][how].values()) for layers in ("flax", "jaxgen")}
        assert comparison["ratio"] == pytest.approx(total["flax"] / total["jaxgen"])


def test_train_step_against_torch(measured):
    pytest.importorskip("torch", reason="PyTorch comes with the extra bench")
    result = measured(train_step, "--model", "vae", *TINY, "--against", "torch", "--precision", "bfloat16")
    check_ratios(result)
    layouts = {name: result["contenders"][name]["median"] for name in ("torch contiguous", "torch channels_last")}
    assert [one["peer"] for one in result["comparisons"]] == [min(layouts, key=layouts.get)] * 2
    assert list(result["compilation"]["seconds"]) == ["jaxgen"]
    assert "torch" in result["machine"]


def test_another_model_is_found_out():
    train_step.check_agreement({"loss": 1.0005}, {"loss": 1.0}, 1e-3)
    for other in (1.01, float("nan")):
        with pytest.raises(RuntimeError, match="after one step loss is"):
            train_step.check_agreement({"loss": other}, {"loss": 1.0}, 1e-3)


def test_pytorchs_better_format_by_the_median_is_compared():
    timings = {
        "jaxgen jitted": timing.Timed(1, [1.0, 1.0, 1.0]),
        "jaxgen in scan": timing.Timed(1, [2.0, 2.0, 2.0]),
        "torch contiguous": timing.Timed(1, [1.0, 6.0, 6.0]),
        "torch channels_last": timing.Timed(1, [9.0, 4.0, 4.0]),
    }
    assert train_step.comparisons(timings) == [
        {"peer": "torch channels_last", "jaxgen": "jitted", "ratio": 4, "low": 4, "high": 9},
        {"peer": "torch channels_last", "jaxgen": "in scan", "ratio": 2, "low": 2, "high": 4.5},
    ]


@pytest.mark.slow
def test_seeds(measured):
    result = measured(seeds, "--model", "vae", *TINY, "--seeds", "2")
    check_ratios(result)
    assert list(result["contenders"]) == ["map", "vmap", "in turn", "one seed"]
    assert result["headline"]["jaxgen"] == result["chosen"] == "map"
    assert result["headline"] in result["comparisons"]
    seconds = {name: contender["seconds_a_step"] for name, contender in result["contenders"].items()}
    by_round = np.divide(seconds["map"], seconds["one seed"])
    assert result["times_one_seed"] == {
        "ratio": pytest.approx(np.median(by_round)),
        "low": pytest.approx(by_round.min()),
        "high": pytest.approx(by_round.max()),
    }


@pytest.mark.slow
def test_checkpoints(measured):
    result = measured(checkpoints, "--model", "vae", *TINY, "--every", "5", "--steps", "20")
    seconds = {name: contender["seconds_a_step"] for name, contender in result["contenders"].items()}
    by_round = np.divide(seconds["with checkpoints"], seconds["without"])
    assert result["headline"] == {
        "ratio": pytest.approx(np.median(by_round)),
        "low": pytest.approx(by_round.min()),
        "high": pytest.approx(by_round.max()),
        "goal": 1.05,
    }
    assert 0 < result["save"]["megabytes"] < 1


@pytest.mark.parametrize(("model", "goal"), [("pixelcnn", 100), ("transformer", 50)])
def test_sampling(model, goal, measured):
    """A pass per pixel takes 64 times as long as one pass over 8x8 pixels."""
    result = measured(sampling, "--model", model, "--layers", "1", *TINY)
    seconds = {name: contender["seconds_a_step"] for name, contender in result["contenders"].items()}
    by_round = 64 * np.divide(seconds["one forward pass"], seconds["cached sampling"])
    assert result["headline"] == {
        "ratio": pytest.approx(np.median(by_round)),
        "low": pytest.approx(by_round.min()),
        "high": pytest.approx(by_round.max()),
        "goal": goal,
    }
    assert result["images_a_second"] == pytest.approx(4 / np.median(seconds["cached sampling"]))


def test_convolutions(measured, monkeypatch):
    small = {"wide": (8, 3, 1, 128, 128), "few": (9, 3, 2, 3, 8), "tap": (8, 1, 1, 4, 4)}
    monkeypatch.setattr(convolutions, "LAYERS", {name: convolutions.Layer(*layer) for name, layer in small.items()})
    result = measured(convolutions, "--layers", *small, "--batch", "8", "--rounds", "2")
    assert result["chosen"] == {"wide": 4, "few": None, "tap": None}
    forms = {"wide": ("direct", "2x2", "4x4"), "few": ("direct", "2x2", "4x4"), "tap": ("direct",)}
    names = [f"{name} {op} {form}" for name in small for op in ("conv", "dx", "dw") for form in forms[name]]
    assert list(result["contenders"]) == names
    for name, contender in result["contenders"].items():
        assert 0 < contender["error"] < (1e-5 if name.endswith("4x4") else 2e-6), name
        size, kernel, stride, channels, features = small[name.split()[0]]
        one = 2e-9 * 8 * math.ceil(size / stride) ** 2 * kernel**2 * channels * features
        assert contender["gflop_a_second"] == pytest.approx(4 * one / contender["median"])


@pytest.mark.slow
def test_memory(call):
    """Larger images take more of it; a fault of a contender is one line."""
    pytest.importorskip("torch", reason="PyTorch comes with the extra bench")
    small = ["--model", "vae", "--features", "128", "--steps", "1", "--json"]
    found = []
    for size in ("16", "64"):
        status, out, err = call(memory, *small, "--image-size", size)
        assert status == 0, err
        found.append(json.loads(out))
    for few, many in zip(*(result["contenders"].values() for result in found), strict=True):
        assert 0 < few["bytes"] < many["bytes"]
    ours, direct, *torch = found[1]["contenders"].values()
    assert 0 < direct["temporaries"] < ours["temporaries"] < ours["bytes"]
    assert found[1]["headline"] == {
        "memory_over_torch": ours["bytes"] / min(each["bytes"] for each in torch),
        "temporaries_over_direct": ours["temporaries"] / direct["temporaries"],
    }
    status, _, err = call(memory, "--image-size", "17")
    assert status == 2
    assert err.splitlines()[-1].startswith("jaxgen: error: jaxgen: dcgan cannot make images of 17x17: ")


def test_rows_of_the_scaling_change_one_size():
    for model, scale in scaling.SCALES.items():
        first, *others = scaling.rows(model)
        assert first == scale.base
        assert all(sum(a != b for a, b in zip(row, first, strict=True)) == 1 for row in others)
        for name, values in zip(scaling.VARIED, scale[1:], strict=True):
            assert {getattr(row, name) for row in [first, *others]} == {*values, getattr(first, name)}
    assert scaling.rows("vae", 1) == [
        (64, 64, 64),
        (16, 64, 64),
        (64, 16, 64),
        (64, 32, 64),
        (64, 64, 16),
        (64, 64, 32),
    ]


def test_scaling(measured, monkeypatch, tmp_path):
    pytest.importorskip("torch", reason="PyTorch comes with the extra bench")
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra notebook")
    tiny = scaling.Scale(scaling.Sizes(4, 8, 4), (4,), (8, 16), (4,))
    monkeypatch.setattr(scaling, "SCALES", {"gan": tiny, "classifier": tiny})
    figure = tmp_path / "ratios.png"
    result = measured(scaling, "--models", "gan", "classifier", "--rounds", "2", "--figure", str(figure))
    assert [(row["model"], row["image_size"]) for row in result["rows"]] == [
        ("gan", 8), ("gan", 16), ("classifier", 8), ("classifier", 16),
    ]  # fmt: skip
    for row in result["rows"]:
        assert set(row["contenders"]) == {"jaxgen", "torch contiguous", "torch channels_last"}
        theirs, ours = (row["contenders"][name]["seconds_a_step"] for name in (row["peer"], "jaxgen"))
        assert row["ratio"] == pytest.approx(np.median(np.divide(theirs, ours)))
        assert row["contenders"][row["peer"]]["median"] == min(
            each["median"] for name, each in row["contenders"].items() if name != "jaxgen"
        )
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("commit", "words"), [("0123456789+", "of 0123456 with changes"), (None, "of no commit"), ("0123456789", "above 0")]
)
def test_a_kept_result_is_of_a_clean_commit(commit, words, call, monkeypatch):
    """The commit is looked at before anything is measured."""
    monkeypatch.setattr("jaxgen.training.environment.commit", lambda: commit)
    out = RESULTS / "not-written.json"
    status, _, err = call(convolutions, "--batch", "0", "--out", str(out))
    assert (status, err.count("\n")) == (2, 1)
    assert words in err
    assert not out.exists()


def test_the_documented_convolutions_are_the_kept_ones():
    result = json.loads((ROOT / "experiments/results/convolutions-cpu.json").read_text())
    assert list(result["chosen"]) == list(convolutions.LAYERS)
    documented = (ROOT / "docs/speed.md").read_text()
    for name, tile in result["chosen"].items():
        layer, form = convolutions.LAYERS[name], f"{tile}x{tile}" if tile else "direct"
        row = f"| {layer.size}, {layer.channels} to {layer.features} | {layer.kernel}x{layer.kernel}, {layer.stride} |"
        for used in ("direct", form):
            rates = [result["contenders"][f"{name} {op} {used}"]["gflop_a_second"] for op in ("conv", "dx", "dw")]
            row += f" {', '.join(f'{rate:.0f}' for rate in rates)} |"
        error = max(result["contenders"][f"{name} {op} {form}"]["error"] for op in ("conv", "dx", "dw"))
        assert f"{row} {form} | {error:.0e} |" in documented


def test_the_documented_autoregressive_models_are_the_kept_ones():
    documented = " ".join((ROOT / "docs/speed.md").read_text().split())
    for model in ("pixelcnn", "pixelrnn", "transformer"):
        kept = json.loads((RESULTS / f"sampling-{model}-cpu.json").read_text())
        seconds = kept["contenders"]["cached sampling"]["median"]
        ratio = f"{kept['headline']['ratio']:,.0f}"
        assert f"| `{model}` | {seconds:.2g} s, {ratio} times as fast |" in documented
    for model in ("pixelcnn", "transformer"):
        kept = json.loads((RESULTS / f"train_step-{model}-28-cpu.json").read_text())
        one = next(one for one in kept["comparisons"] if one["jaxgen"] == "in scan")
        assert f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f})" in documented


def test_the_documented_memory_is_the_kept_one():
    documented = (ROOT / "docs/speed.md").read_text()
    for name, model in (("DCGAN", "dcgan"), ("VAE", "vae")):
        kept = json.loads((RESULTS / f"memory-{model}-64-cpu.json").read_text())["contenders"]
        mebibytes = {contender: each["bytes"] / 2**20 for contender, each in kept.items()}
        ours, direct, *theirs = mebibytes.values()
        assert f"| {name} | {ours:.0f} MiB | {direct:.0f} MiB | {min(theirs):.0f} MiB |" in documented


def test_meshes(measured):
    """Closed surfaces: V - E + F = 2, 3 F = 2 E; gradients give every mesh back."""
    result = measured(meshes, "--features", "gradients", "--vertices", "1030", "--meshes", "2", "--rounds", "1")
    vertices, triangles = result["vertices"], result["triangles"]
    assert (vertices, triangles) == (10 * 103 + 2, 2 * 10 * 103)
    assert result["numbers"] == 3 * 3 * triangles // 2 + 6 * triangles
    assert result["headline"]["error_percent"] < 1e-7
    assert all(part["seconds"] > 0 and part["peak_bytes"] > 2**26 for part in result["parts"].values())
    assert len(bars.faces()) == 1312  # those of the dataset are as before


@pytest.mark.slow
def test_pipeline(measured):
    result = measured(pipeline, "--batch", "32", "--features", "4", "--rounds", "2")
    assert result["arguments"] == {
        "pipeline": "memory", "image_size": 28, "examples": 60_000, "chunk": 50, "workers": 0,
        "batch": 32, "features": 4, "rounds": 2,
    }  # fmt: skip
    read, train = (result["contenders"][name] for name in ("pipeline", "training"))
    assert read["images_a_second"] == pytest.approx(32 / read["median"])
    assert read["steps_a_call"] % 50 == 0
    assert 0 < result["share_of_training"]["ratio"] < 1
    by_round = np.divide(read["seconds_a_step"], train["seconds_a_step"])
    assert result["share_of_training"]["ratio"] == pytest.approx(np.median(by_round))
    assert result["goal"] == 500_000


GRAIN = ["--pipeline", "grain", *TINY, "--examples", "20", "--chunk", "2"]


@pytest.mark.slow
def test_pipeline_by_grain(measured):
    result = measured(pipeline, *GRAIN)
    seconds = {name: contender["seconds_a_step"] for name, contender in result["contenders"].items()}
    assert list(seconds) == ["reading by threads", "training in memory", "training fed by threads"]
    by_round = np.divide(seconds["training in memory"], seconds["training fed by threads"])
    share = result["share_of_rate_in_memory"]["threads"]
    assert share == {
        "ratio": pytest.approx(np.median(by_round)),
        "low": pytest.approx(by_round.min()),
        "high": pytest.approx(by_round.max()),
    }
    assert result["kept_fed"] == {"threads": share["ratio"] >= 0.95}


def test_training_is_kept_fed_from_95_percent_on(call, monkeypatch):
    """A chunk, timed in calls of three, takes 10 s in memory, 10.5 s fed by threads and 10.6 s fed by processes."""
    chunks = {"training in memory": 10.0, "training fed by threads": 10.5, "training fed by 1 processes": 10.6}

    def interleaved(runs, rounds):
        return {name: timing.Timed(3, [chunks.get(name, 1.0)] * rounds) for name in runs}

    @contextlib.contextmanager
    def fed(model, data, settings):
        yield settings

    monkeypatch.setattr(timing, "interleaved", interleaved)
    monkeypatch.setattr(pipeline, "fed", fed)
    status, out, err = call(pipeline, *GRAIN, "--workers", "1", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["contenders"]["reading by 1 processes"] == {
        "steps_a_call": 6, "seconds_a_step": [0.5, 0.5], "median": 0.5, "images_a_second": 8,
    }  # fmt: skip
    assert result["share_of_rate_in_memory"]["threads"]["ratio"] == pytest.approx(10 / 10.5)
    assert result["kept_fed"] == {"threads": True, "1 processes": False}


@pytest.mark.parametrize("from_files", [False, True])
def test_the_pipeline_has_the_batches_of_the_training_loop(from_files, monkeypatch, tmp_path):
    """Batches match the loop's, in chunks of three steps: 15 steps see one and a half times the examples."""
    batches = []

    def program(keys, state, alive, data, indices, weights, anew, count):
        batches.extend(np.asarray(data["image"])[indices[:count]])
        assert (weights == 1).all()
        assert anew is None
        return state, alive, {}, np.ones(1)

    monkeypatch.setattr(engine, "chunk_program", lambda phase, how, precision, devices: program)
    pictures = pipeline.cut_out(10, 4)
    data = pipeline.dataset(pictures, pipeline.stored(tmp_path, pictures) if from_files else None)
    model = Model(lambda key: State(jnp.int32(0), ()), (Phase("read", None),), needs=("image",))
    with pipeline.fed(model, data, Settings(batch_size=1, log_every=3)) as run:
        run(3)
        run(2)
    rows = stream(engine.streams(0).data, 10, 1, 0, 15)
    np.testing.assert_array_equal(batches, pictures[rows])


def test_pictures_are_cut_out_of_one_and_stored_without_loss(tmp_path):
    pictures = pipeline.cut_out(12, 64)
    assert len(np.unique(pictures, axis=0)) == 12
    files = pipeline.stored(tmp_path, pictures)
    np.testing.assert_array_equal(files[:], pictures)
    size = sum(file.stat().st_size for file in (tmp_path / "train").iterdir())
    assert 0.7 < size / pictures.nbytes < 0.8


@pytest.mark.slow
def test_start(measured):
    result = measured(start, "--image-size", "8", "--features", "4", "--rounds", "1")
    assert {name: len(values) for name, values in result["seconds"].items()} == {
        "help": 5, "first_step_empty_cache": 1, "first_step_warm_cache": 1,
    }  # fmt: skip
    medians = result["medians"]
    assert 0 < medians["help"] < medians["first_step_warm_cache"] < medians["first_step_empty_cache"]
    assert result["goals"].keys() == medians.keys()


@pytest.mark.parametrize(
    ("module", "argv", "words"),
    [
        (train_step, ["--image-size", "9", "--against", "flax"], "dcgan cannot make images of 9x9"),
        (train_step, ["--rounds", "0"], "rounds must be above 0"),
        (train_step, ["--batch", "-1"], "batch must be above 0"),
        (
            train_step,
            ["--model", "classifier"],
            "Expected one of ('dcgan', 'vae', 'pixelcnn', 'transformer', 'transgan",
        ),
        (train_step, ["--model", "pixelcnn"], "pixelcnn is measured against PyTorch only: --against torch"),
        (train_step, ["--against", "keras"], "against"),
        (train_step, ["--precision", "float16"], "Expected one of ('float32', 'bfloat16')"),
        (convolutions, ["--layers", "dcgan-64-9"], "layers must be of dcgan-64-1, dcgan-64-2"),
        (convolutions, ["--batch", "0"], "batch must be above 0"),
        (scaling, ["--models", "dcgna"], "models must be of dcgan, vae, classifier, gan, not dcgna"),
        (memory, ["--steps", "0"], "steps must be above 0"),
        (scaling, ["--rounds", "0"], "rounds must be above 0"),
        (seeds, ["--seeds", "0"], "seeds must be above 0"),
        (seeds, ["--model", "vae", "--image-size", "18"], "vae cannot make images of 18x18"),
        (pipeline, ["--features", "0"], "features must be above 0"),
        (pipeline, ["--pipeline", "grain", "--image-size", "9"], "dcgan cannot make images of 9x9"),
        (pipeline, ["--pipeline", "grain", "--workers", "-1"], "workers must be a whole number from 0 on, not -1"),
        (start, ["--image-size", "5000", "--rounds", "1"], "image size must be at most 4096, not 5000"),
        (tpu_programs, ["--effort", "1.5"], "effort must lie between -1 and 1, not 1.5"),
        (tpu_programs, ["--cases", "dcgan", "dcgna"], "no case dcgna: there are classifier, classifier-logistic"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(module, argv, words, call):
    status, out, err = call(module, *argv)
    *progress, last = err.splitlines()
    assert (status, out) == (2, "")
    assert last.startswith("jaxgen: error: ")
    assert words in last
    assert not [line for line in progress if "error" in line]


def test_torch_is_asked_for_where_it_is_missing(call, monkeypatch):
    monkeypatch.setattr(train_step.importlib.util, "find_spec", lambda name: None)
    status, _, err = call(train_step, "--against", "torch-compile")
    assert status == 2
    assert err == "jaxgen: error: --against torch-compile needs PyTorch: pip install torch\n"


def test_the_compiler_for_tpus_is_asked_for_where_it_is_missing(call, monkeypatch):
    """The message names the version that JAX requires."""
    monkeypatch.setattr(tpu_programs.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        tpu_programs.importlib.metadata,
        "requires",
        lambda name: ["numpy>=2.0", "jaxlib==1.2; extra == 'tpu'", 'libtpu==0.3.*; extra == "tpu"'],
    )
    status, out, err = call(tpu_programs, "--cases", "dcgan")
    assert (status, out) == (2, "")
    assert err == "jaxgen: error: this needs libtpu, which has the compiler for TPUs: pip install 'libtpu==0.3.*'\n"


def test_what_the_compiler_for_tpus_states_in_a_table(capsys):
    """The table is in kB; a program that does not compile shows the error."""
    bytes_of = {"state": 61_696, "arguments": 350_208, "outputs": 68_096, "temporaries": 3_286_016, "code": 415_744}
    stated = {"seconds": 2.04, "flops": 538_000.0, "useful_flops": 327_680, "collectives": {"all-reduce": 10}}
    programs = [
        {"case": "dcgan-devices", "program": "adversarial"} | stated | bytes_of,
        {"case": "vae", "program": "train", "error": "INTERNAL: no\nmore of it"},
    ]
    result = {"chip": "TPU v5 lite", "libtpu": "0.3.1", "arguments": {"effort": -1.0}, "programs": programs}
    Console(width=200).print(tpu_programs.shown(result))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in capsys.readouterr().out.splitlines()]
    numbers = ["2.0", "0.538", "0.328", "62", "350", "68", "3,286", "416"]
    assert ["dcgan-devices, adversarial (10 all-reduce)", *numbers] in rows
    assert ["vae, train", "does not compile: INTERNAL: no", *[""] * 7] in rows


@pytest.mark.parametrize("package", ["experiments", "jaxgen.experiments"])
def test_help_of_every_command_from_a_checkout_and_installed(package):
    """No help text imports jax."""
    for name in ("train_step", "seeds", "pipeline", "start", "tpu_programs"):
        command = [sys.executable, "-X", "importtime", "-m", f"{package}.benchmarks.{name}", "--help"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert f"python -m experiments.benchmarks.{name}" in " ".join(ran.stdout.split())
        assert not [line for line in ran.stderr.splitlines() if line.rpartition("|")[2].strip() in ("jax", "torch")]
