"""Commands in unusual environments: JAX's variables, users without a home, streams that are not UTF-8, python -OO."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgen import cli
from jaxgen.training import Settings, open_run, train
from jaxgen.training.status import DAMAGED, verified
from tests.cases import some_slow


def jaxgen(*argv, **variables):
    """Runs a command in a new process with these environment variables; None removes one."""
    environment = {**os.environ, **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run([sys.executable, "-m", "jaxgen", *map(str, argv)], env=environment, capture_output=True)


def error(done) -> str:
    """Returns the one line of a user's mistake."""
    assert done.returncode == 2, done.stderr.decode()
    assert not done.stdout
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("jaxgen: error: ")
    return line.removeprefix("jaxgen: error: ")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = Settings(steps=1, seeds=(0,), log_every=1, sample_every=1, checkpoint_every=1)
    return train("naive_bayes", {}, settings, out=tmp_path_factory.mktemp("run") / "run", progress=False)


@pytest.mark.parametrize(
    ("variable", "value"),
    some_slow(
        [
            ("JAX_PLATFORMS", "cuda"),
            ("XLA_FLAGS", "--xla_force_host_platform_device_count=0"),
            ("JAX_PLATFORMS", "tpu"),
            ("JAX_PLATFORMS", "nonsense"),
            ("JAX_PLATFORM_NAME", "gpu"),
        ],
        quick=2,
    ),
)
def test_a_backend_that_is_not_here(variable, value, tmp_path):
    variables = dict.fromkeys(("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "XLA_FLAGS")) | {variable: value}
    done = jaxgen("train", "naive_bayes", "--out", tmp_path / "r", TPU_SKIP_MDS_QUERY="1", **variables)
    assert error(done).startswith(f"JAX cannot start with {variable}={value} (")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("command", some_slow(["digest", "verify", "runs"]))
def test_commands_that_only_read_use_the_cpu(command, run):
    done = jaxgen(command, run.path, JAX_PLATFORMS="cuda", JAX_PLATFORM_NAME="gpu")
    assert done.returncode == 0, done.stderr.decode()
    assert {"digest": run.digests()[0], "verify": "ok", "runs": "done"}[command] in done.stdout.decode()


@pytest.mark.parametrize(
    ("variable", "value"),
    some_slow([("JAX_ENABLE_X64", "maybe"), ("JAX_DEFAULT_MATMUL_PRECISION", "huge"), ("JAX_NUM_CPU_DEVICES", "x")]),
)
def test_values_that_jax_does_not_take(variable, value, run):
    words = error(jaxgen("digest", run.path, **{variable: value}))
    assert words.startswith("an environment variable of JAX has a value that it does not take: ")
    assert value in words


@pytest.mark.parametrize("guard", some_slow(["disallow", "disallow_explicit"]))
def test_transfers_that_jax_is_to_refuse(guard, run):
    words = error(jaxgen("digest", run.path, JAX_TRANSFER_GUARD=guard))
    assert words.endswith("refuse transfers to and from devices, which jaxgen needs: unset JAX_TRANSFER_GUARD")


@pytest.mark.parametrize(
    ("variable", "value", "name", "before"),
    some_slow(
        [
            ("JAX_ENABLE_X64", "1", "JAX_ENABLE_X64", "False"),
            ("JAX_DEFAULT_PRNG_IMPL", "rbg", "JAX_DEFAULT_PRNG_IMPL", "threefry2x32"),
            ("JAX_RANDOM_SEED_OFFSET", "7", "JAX_RANDOM_SEED_OFFSET", "0"),
        ]
    ),
)
def test_settings_that_make_another_run_are_refused(variable, value, name, before, run, tmp_path):
    """Sampling and resuming are refused, as the picture and the bits would differ."""
    now = {"1": "True"}.get(value, value)
    assert f"settings of JAX: {name}: {before} -> {now}" in error(jaxgen("sample", run.path, **{variable: value}))
    resume = ("train", "naive_bayes", "--seeds", 0, "--steps", 1, "--out", run.path, "--resume")
    same = ("--log-every", 1, "--sample-every", 1, "--checkpoint-every", 1)
    assert f"what differs: {name}: {before} -> {now}" in error(jaxgen(*resume, *same, **{variable: value}))


def test_settings_that_round_otherwise_are_told(run):
    resume = ("train", "naive_bayes", "--seeds", 0, "--steps", 2, "--out", run.path, "--resume")
    same = ("--log-every", 1, "--sample-every", 1, "--checkpoint-every", 1)
    done = jaxgen(*resume, *same, JAX_DEFAULT_MATMUL_PRECISION="highest")
    assert done.returncode == 0
    assert "JAX_DEFAULT_MATMUL_PRECISION: None -> highest" in " ".join(done.stderr.decode().split())


def homeless():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("argv", [["data", "list"], ["train", "naive_bayes", "--out"], ["evaluate", "--images"]])
def test_a_user_without_a_home(argv, monkeypatch, tmp_path, capsys):
    """The user has no entry in the password database and no variable that names a folder, as in some containers."""
    for variable in ("JAXGEN_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    given = {"train": [tmp_path / "r"], "evaluate": [tmp_path, "--dataset", "digits"]}.get(argv[0], [])
    assert cli.main([*argv, *map(str, given)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": JAXGEN_DATA_DIR names one")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["~/x", "~nobody-of-this-name/x"])
@pytest.mark.parametrize(
    "argv",
    [
        "train vae --dataset image_folder --data-from NAME",
        "data show mesh_folder --from NAME",
        "data prepare nlvr --from NAME",
        "evaluate --images NAME --dataset digits",
        "evaluate --images x.npy --dataset digits --extractor NAME",
        "data show digits --num 4 --out NAME",
        "train naive_bayes --steps 1 --out NAME",
        "sample RUN --out NAME",
    ],
)
def test_a_folder_in_a_home_that_is_not_there(name, argv, run, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.path.expanduser", os.fspath)  # as for such a user
    np.save("x.npy", np.zeros((20, 8, 8, 1), np.uint8))
    assert cli.main(argv.replace("NAME", name).replace("RUN", str(run.path)).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "shift_jis"])
def test_an_error_that_the_stream_cannot_encode_is_one_line(encoding, monkeypatch):
    """Characters that the encoding lacks are replaced, as those of names that are not UTF-8."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    for name in ("modèle-犬", "\udcff"):
        assert cli.main(["train", name]) == 2
        streams[1].flush()
    first, second = streams[1].buffer.getvalue().decode(encoding).splitlines()
    kept = "".join(letter if letter.encode(encoding, "replace") != b"?" else "?" for letter in "modèle-犬")
    assert first.startswith(f"jaxgen: error: unknown model '{kept}': ")
    assert second.startswith("jaxgen: error: unknown model '\\udcff': ")


@pytest.mark.parametrize("argv", some_slow([["train", "vae", "--help"], ["models"], ["metrics"], ["data", "list"]]))
def test_streams_that_are_not_utf8(argv):
    done = jaxgen(*argv, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    "argv", some_slow([["train", "--help"], ["--help"], ["compare", "x", "--help"], ["models", "--help"]])
)
def test_help_without_docstrings(argv):
    done = jaxgen(*argv, PYTHONOPTIMIZE="2")
    assert done.returncode == 0, done.stderr.decode()
    assert b"usage" in done.stdout.lower()


@pytest.mark.parametrize(
    "argv",
    some_slow(
        [
            "train naive_bayes --steps 1",
            "sample RUN --out x.png",
            "train naive_bayes --steps 1 --out x/y",
            "data show digits",
            "evaluate --images images --dataset digits",
            "evaluate RUN --metrics accuracy --out x.json",
            "compare digits",
        ],
        quick=2,
    ),
)
def test_a_current_folder_that_was_deleted(argv, run, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"rmdir {gone}; exec {sys.executable} -m jaxgen {argv.replace('RUN', str(run.path))}"
    done = subprocess.run(["bash", "-c", command], cwd=gone, capture_output=True, timeout=300)
    assert error(done) == "the current folder was deleted: change to one that exists"


@pytest.mark.parametrize("columns", some_slow(["0", "1", "19", "abc", "-5"]))
def test_a_terminal_of_no_width(columns, run):
    """Some containers have it so."""
    done = jaxgen("runs", run.path, COLUMNS=columns)
    assert done.returncode == 0
    assert run.path.name in done.stdout.decode()
    assert "naive_bayes" in done.stdout.decode()


@pytest.mark.parametrize("name", some_slow([b"by\xff", b"\xe9t\xe9", b"a/\x80/b"]))
def test_a_folder_whose_name_is_not_utf8_is_refused_before_the_work(name, tmp_path):
    out = os.path.join(os.fsencode(tmp_path), name)
    command = [sys.executable, "-m", "jaxgen", "train", "naive_bayes", "--steps", "1", "--out", out]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert error(done).endswith("the name is not UTF-8; choose another --out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "closed", some_slow(["2>&-", "2> >(head -c 1)", "<&- 2>&-", "2>/dev/full", "2>&1 | head -c 1"], quick=2)
)
def test_a_run_goes_on_to_its_end_without_a_stderr(closed, run, tmp_path):
    """Checks it also if the first file opened takes the closed stream's number."""
    argv = f"train naive_bayes --steps 1 --log-every 1 --sample-every 1 --checkpoint-every 1 --out {tmp_path / 'run'}"
    subprocess.run(["bash", "-c", f"{sys.executable} -m jaxgen {argv} {closed}"], capture_output=True, timeout=300)
    assert (tmp_path / "run" / "result.json").exists()
    assert open_run(tmp_path / "run").digests() == run.digests()


def test_a_run_without_any_stream(run, tmp_path):
    """Starts it as a daemon does: the lowest file numbers are free, and no file of the run may get one."""
    argv = f"train naive_bayes --steps 1 --log-every 1 --sample-every 1 --checkpoint-every 1 --out {tmp_path / 'run'}"
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m jaxgen {argv} <&- >&- 2>&-"], timeout=300)
    assert done.returncode == 0
    assert open_run(tmp_path / "run").digests() == run.digests()
    assert not [words for _, words, state in verified(tmp_path / "run") if state == DAMAGED]
