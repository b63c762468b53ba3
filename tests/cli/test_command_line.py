"""The command line as a user meets it, in process where possible, else in a new process."""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from jaxgen import cli, data, models
from jaxgen.cli import commands
from jaxgen.data.options import Options
from jaxgen.pictures.kinds import KINDS
from jaxgen.training import Settings, open_run
from jaxgen.training.plan import make_plan
from jaxgen.training.settings import Records, Training

EXAMPLES = Path(__file__).parents[2] / "docs" / "own_models_and_data.md"
MODELS = list(models.MODELS)


class Result(NamedTuple):
    status: int
    out: str
    err: str


def call(*argv) -> Result:
    """Runs a command in process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(word) for word in argv])
    return Result(status, out.getvalue(), err.getvalue())


def did(*argv) -> str:
    """Returns the output of a command that must succeed."""
    result = call(*argv)
    assert result.status == 0, result.err
    return result.out


def content(folder: Path) -> dict[str, bytes | None]:
    """Map from every path below `folder` to a file's bytes, or None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refused(*argv) -> str:
    """Returns the one error line of a command that must fail and leave the current folder unchanged."""
    before = content(Path.cwd())
    status, out, err = call(*argv)
    assert status == 2, f"{status}: {out}{err}"
    assert out == ""
    assert err.startswith("jaxgen: error: ")
    assert err.index("\n") == len(err) - 1, err
    assert not re.search(r"[─│╭╯\x1b]|---", err), err  # nothing of tyro's box
    assert content(Path.cwd()) == before
    return err.removeprefix("jaxgen: error: ").rstrip("\n")


def python(*argv, **environment) -> subprocess.CompletedProcess:
    """Runs Python in a new process."""
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def digest_lines(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("digest ")]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Gives every test its own current folder, and a terminal wide enough for help texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Read-only run folders with two seeds, and the command's output."""
    folder = tmp_path_factory.mktemp("runs")
    printed = {
        name: did("train", name, *size, "--seeds", 5, 3, "--steps", 15, "--out", folder / name)
        for name, size in (("naive_bayes", ("--likelihood", "bernoulli")), ("classifier", ("--features", 4)))
    }
    return folder, printed


@pytest.fixture
def run(trained, here):
    """A Naive Bayes run that the test may change, at step 13."""
    return Path(shutil.copytree(trained[0] / "naive_bayes", "run"))


def train_again(*argv) -> tuple:
    """Repeats the command that made `run`, with more arguments."""
    return ("train", "naive_bayes", "--likelihood", "bernoulli", "--seeds", 5, 3, "--steps", 15, "--out", "run", *argv)


# Errors before anything is read


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "unknown command 'trian': did you mean train? there are models, train, runs, verify, sign, "
         "digest, sample, explore, verify-image, evaluate, metrics, compare, card, export, import, data, extractor, "
         "keys"),
        (["evalute"], "unknown command 'evalute': did you mean evaluate?"),
        (["sampel"], "unknown command 'sampel': did you mean sample?"),
        (["dataset"], "unknown command 'dataset': did you mean data?"),
        (["quux"], "unknown command 'quux': there are models"),
        (["train", "vae", "--lr", "1e-3"], "unknown option --lr: did you mean --learning-rate?"),
        (["train", "vae", "--foo", "1", "--lr", "2"], "unknown option --lr: did you mean --learning-rate?"),
        (["train", "dcgan", "--lr=1e-3"],
         "unknown option --lr=1e-3: did you mean --generator-learning-rate or --discriminator-learning-rate?"),
        (["train", "vae", "--epochs", "5"],
         "option --epochs: did you mean --steps? (training is counted in steps, each of --batch-size examples)"),
        (["train", "gan", "--num_epochs", "5"], "unknown option --num_epochs: did you mean --steps?"),
        (["train", "vae", "--steps", "3", "--bs", "5"], "unknown option --bs: did you mean --batch-size?"),
        (["train", "vae", "--z-dim", "5"], "unknown option --z-dim: did you mean --latent-dim?"),
        (["train", "infogan", "--nz", "5"], "Unrecognized options: --nz, 5"),  # which has no latent_dim
        (["data", "show", "digits", "--resolution", "5"], "unknown option --resolution: did you mean --image-size?"),
        (["evaluate", "run", "--metric", "fd"], "unknown option --metric: did you mean --metrics?"),
        (["--steps", "5", "train", "vae"], "unknown command '--steps'"),
        (["train"], "train needs a model first, as in `jaxgen train MODEL`"),
        (["train", "--steps", "5", "vae"], "train needs a model first"),
        (["digest"], "digest needs a run folder first"),
        (["compare"], "compare needs an experiment first"),
        (["export", "--to", "onnx"], "export needs a run folder first, as in `jaxgen export RUN`"),
        (["export", "RUN", "--to", "pickle"], "unknown format 'pickle': there are safetensors, stablehlo, onnx, hub"),
        (["import"], "import needs an exported folder first, as in `jaxgen import FOLDER`"),
        (["import", "nowhere"], "nowhere is no exported folder: it has no export.json"),
        (["data"], "data needs an action first, as in `jaxgen data list`"),
        (["data", "lst"], "unknown action 'lst' of `jaxgen data`: there are list, prepare, show"),
        (["data", "list", "all"], "Unrecognized options: all"),
        (["models", "--all"], "Unrecognized options: --all"),
        (["train", "vea"], "unknown model 'vea': did you mean vae? jaxgen has classifier"),
        (["train", "vae.yaml"], "a file of your own ends in .py"),
        (["train", "VAE"], "unknown model 'VAE': did you mean vae? jaxgen has classifier"),
        (["TRAIN", "vae"], "unknown command 'TRAIN': did you mean train? there are"),
        (["train", "vae", "--dataset", "MNIST"], "unknown dataset 'MNIST': did you mean mnist or"),
        (["train", "vae", "--dataset", "digit"], "unknown dataset 'digit': did you mean digits?"),
        (["train", "vae", "--latant-dim", "5"], "Perhaps you meant: --latent-dim INT dimensions of z (default: 16)"),
        (["train", "vae", "--latent-dim", "many"], "--latent-dim takes a whole number, not 'many'"),
        (["train", "vae", "--crop", "nan"], "--crop takes a whole number, not 'nan'"),
        (["train", "vae", "--keep-best", "most", "loss"], "--keep-best takes lowest or highest, and a metric's name"),
        (["train", "vae", "--learning-rate", "it's"], "--learning-rate takes a number, not \"it's\""),
        (["train", "gan", "--learning-rate", "abc"], "--learning-rate takes a number, not 'abc'"),
        (["train", "vae", "--latent-dim"], "Missing value for argument '--latent-dim'"),
        (["train", "vae", "--latent-dim", "0"], "latent_dim must be above 0"),
        (["train", "vae", "--latent-dim", "-4"], "latent_dim must be above 0"),
        (["train", "vae", "--learning-rate", "nan"], "learning_rate must be above 0"),
        (["train", "vae", "--learning-rate", "inf"], "learning_rate must be above 0"),
        (["train", "vae", "--learning-rate", "-1"], "learning_rate must be above 0"),
        (["train", "vae", "--likelihood", "poisson"], "invalid choice 'poisson' for argument '--likelihood'"),
        (["train", "vae", "vae"], "Unrecognized options: vae"),
        (["train", "vae", "--binarize", "yes"], "invalid choice 'yes' for argument '--binarize'"),
        (["train", "dcgan", "--image-size", "9"], "dcgan cannot make images of 9x9"),
        (["train", "vae", "--latent-dim", "99999999999"], "latent_dim must be above 0 and below 2^31, not 99999999999"),
        (["train", "vae", "--smallest", "5"], "smallest must be at most 4, half a side of images of 8x8, not 5"),
        (["train", "vae", "--learning-rate", "1e300"], "learning_rate must be above 0 and finite (from 1e-37 to 1e38)"),
        (["train", "dcgan", "--critic-steps", "5"], "batch_size must be a multiple of 5 (critic_steps), not 64"),
        (["train", "gan", "--packing", "3"], "batch_size must be a multiple of 3 (critic_steps * packing)"),
        (["train", "dcgan", "--loss", "wasserstein"], "loss wasserstein takes a penalty between real and fake"),
        (["train", "vae", "--image-size", "0"], "image size must be a whole number from 1 on, not 0"),
        (["train", "vae", "--image-size", "5000"], "image size must be at most 4096, not 5000"),
        (["train", "vae", "--crop", "9"], "crop 9: there is an image of 8x8"),
        (["train", "vae", "--dataset", "digits/odd"], "unknown config 'odd' of dataset digits: it has none"),
        (["train", "vae", "--dataset", "gaussians"], "vae needs image, but dataset gaussians has only point, label"),
        (["train", "cgan", "--dataset", "gaussians"], "cgan makes images of classes, from labels: the data have point"),
        (["train", "vae", "--dataset", "bars", "--flip"], "dataset bars has no images, so flip is not for it"),
        (["train", "vae", "--skip-bad"], "dataset digits has no files that could be damaged, so skip_bad is"),
        (["train", "vae", "--dataset", "mnist"], "mnist is not prepared yet: run jaxgen data prepare mnist"),
        (["train", "vae", "--dataset", "tfds:nope"], "tfds:nope is not prepared yet: run jaxgen data prepare"),
        (["train", "vae", "--data-from", "."], "dataset digits is not read from files of yours"),
        (["train", "vae", "--dataset", "image_folder"], "name it by --data-from FOLDER"),
        (["train", "vae", "--train-split", "train+test"], "the splits of digits overlap: train is train+test"),
        (["train", "vae", "--train-split", "train[:5"], "train_split train[:5 of digits"),
        (["train", "vae", "--caption-length", "5"], "dataset digits has no captions"),
        (["train", "vae", "--pipeline", "grain", "--own-order"], "own_order needs the data in memory"),
        (["train", "vae", "--labels", "5"], "labels must be at least 10, one for each class, not 5"),
        (["train", "vae", "--labeled-share", "0.5"], "labeled_share only applies with --labels or --captions"),
        (["train", "vae", "--labeled-share", "nan"], "labeled_share must be at most 1 and at least one example"),
        (["data", "show", "digits", "--labels", "10"], "Unrecognized options: --labels"),
        (["data", "prepare"], "data prepare needs a dataset first, as in `jaxgen data prepare mnist`"),
        (["data", "prepare", "digit"], "unknown dataset 'digit': did you mean digits?"),
        (["data", "prepare", "image_folder"], "image_folder needs no preparing: --data-from"),
        (["data", "prepare", "digits", "--from", "."], "digits is made by jaxgen itself, from no files"),
        (["data", "prepare", "nlvr"], "jaxgen data prepare nlvr --from FOLDER"),
        (["data", "show", "digits", "--num", "0"], "num must be at least 1, not 0"),
        (["data", "show", "image_folder", "--from", "nowhere"], "nowhere"),
        (["data", "show", "digits", "--data-from", "."], "--from FOLDER, in place of --dataset and --data-from"),
        (["data", "show", "gaussians", "--flip"], "Unrecognized options: --flip"),
        (["data", "show", "digits", "--out", "digits.jpg"], "a contact sheet is written as .png, not as 'digits.jpg'"),
        (["data", "prepare", "nlvr", "--from", "nowhere"], "nowhere is no folder"),
        (["train", "vae", "--seeds"], "seeds must name at least one seed"),
        (["train", "vae", "--seeds", "-1"], "seeds must lie between 0 and 2^32 - 1, not -1"),
        (["train", "vae", "--seeds", "4294967296"], "seeds must lie between 0 and 2^32 - 1"),
        (["train", "vae", "--seeds", "1", "0", "1"], "seeds given twice: 1"),
        (["train", "vae", "--seeds", "0,1"], "--seeds takes whole numbers with spaces between them, not '0,1'"),
        (["train", "vae", "--data-seed", "-1"], "data_seed must lie between 0 and 2^32 - 1, not -1"),
        (["train", "vae", "--resume", "True"], "Unrecognized options: True"),
        (["train", "vae", "--out", ""], "--out takes a path, not ''"),
        (["train", "vae", "--out="], "--out takes a path, not ''"),
        (["train", "vae", "--dataset", "image_folder", "--data-from", ""], "data from must name a folder, not ''"),
        (["data", "show", "image_folder", "--from="], "--from takes a path, not ''"),
        (["evaluate", "--images="], "--images takes a path, not ''"),
        (["train", "vae", "--workers", "100000"], "workers must be at most 256, not 100000"),
        (["compare", "missing.py"], "no experiment file missing.py; those that come with jaxgen: auto"),
        (["compare", "digits", "--steps", "0"], "steps must be at least 1, not 0"),
        (["compare", "digits", "--seeds"], "seeds must name at least one seed"),
        (["compare", "digits", "--seeds", "1", "1"], "seeds given twice: 1"),
        (["compare", "digits", "--out", ""], "--out takes a path, not ''"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(argv, words, here):
    (here / "file").write_text("kept")  # so that the current folder is not empty
    assert words in refused(*argv)


@pytest.mark.parametrize("name", ["steps", "batch_size", "log_every", "sample_every", "checkpoint_every"])
@pytest.mark.parametrize("value", ["0", "-3", "1.5", "x", ""])
def test_numbers_of_steps_are_positive_whole_numbers(name, value):
    option = "--" + name.replace("_", "-")
    line = refused("train", "naive_bayes", option, value)
    whole = value.lstrip("-").isdigit()
    assert line.startswith(
        f"{name} must be at least 1, not {value}" if whole else f"{option} takes a whole number, not "
    )


@pytest.mark.parametrize("name", ["steps", "batch_size", "log_every", "checkpoint_every"])
@pytest.mark.parametrize("value", ["2147483648", "9" * 30])
def test_numbers_of_steps_are_of_int32(name, value):
    line = refused("train", "naive_bayes", "--" + name.replace("_", "-"), value)
    assert line == f"{name} must be below 2^31, not {value}"


@pytest.mark.parametrize("command", ["digest", "sample", "evaluate"])
@pytest.mark.parametrize("path", ["missing", "folder", "file", ""])
def test_a_folder_that_is_no_run(command, path, here):
    (here / "folder").mkdir()
    (here / "file").write_text("")
    assert refused(command, path) == f"{path or '.'} is no run folder: it has no config.json"


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/jaxgen/run", "long" * 100])
@pytest.mark.parametrize("command", [["train", "naive_bayes"], ["train", "naive_bayes", "--resume"]])
def test_a_run_folder_that_cannot_be_made(command, out, here):
    (here / "file").write_text("kept")
    assert re.match(r"cannot (write|use)|file exists", refused(*command, "--out", out))


@pytest.mark.parametrize("out", ["run/config.json", "run/metrics.jsonl", "run/result.json", "mine.txt"])
def test_a_table_replaces_nothing_but_a_table(run, out, here):
    (here / "mine.txt").write_text("kept")
    before = Path(out).read_bytes()
    line = refused("evaluate", "run", "--metrics", "accuracy", "--out", out)
    assert line == f"{out} exists and is no evaluation; choose another --out"
    assert Path(out).read_bytes() == before


def test_a_table_replaces_an_earlier_one(run):
    titles = []
    for metric in ("accuracy", "log_prob"):
        did("evaluate", "run", "--metrics", metric, "--out", "scores.json")
        titles.append([column["key"] for column in json.loads(Path("scores.json").read_text())["metrics"]])
    assert titles[0] == ["accuracy"]
    assert titles[1]
    assert "accuracy" not in titles[1]


class Terminal(io.TextIOWrapper):
    """A stdout that looks like a terminal to tyro."""

    def isatty(self):
        return True


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("stdout", [Terminal, io.TextIOWrapper])
def test_a_mistake_is_as_plain_a_line_on_a_terminal(stdout, encoding, monkeypatch):
    """tyro draws a box: with colors on a terminal, with dashes if stdout is not UTF-8."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", stdout(io.BytesIO(), encoding=encoding))
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert cli.main(["train", "vae", "--latant-dim", "5"]) == 2
    assert err.getvalue() == (
        "jaxgen: error: Unrecognized options: --latant-dim, 5. "
        "Perhaps you meant: --latent-dim INT dimensions of z (default: 16)\n"
    )


def test_what_the_operating_system_refuses_is_one_line(monkeypatch):
    def full(argv):
        raise OSError(28, "No space left on device", "runs/vae/metrics.jsonl")

    monkeypatch.setitem(commands.COMMANDS, "models", full)
    assert refused("models") == "cannot use runs/vae/metrics.jsonl: No space left on device"


@pytest.mark.parametrize("size", [("vae", "--latent-dim", 2 * 10**9), ("classifier", "--features", 2**31 - 1)])
def test_memory_that_does_not_suffice_is_one_line(size):
    status, _, err = call("train", *size, "--steps", 1)
    assert status == 2
    assert "jaxgen: error: out of memory; a smaller model, --batch-size or number of seeds takes less" in err
    assert not Path(f"runs/{size[0]}-digits").exists()


def test_an_error_of_jaxgens_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setitem(commands.COMMANDS, "models", lambda argv: [][0])
    with pytest.raises(IndexError):
        cli.main(["models"])


# Existing runs


def test_an_existing_run_is_not_touched(run):
    assert refused(*train_again()) == "run exists; choose another --out, or --resume to continue it"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--batch-size", "32"], "run belongs to another run; what differs: batch_size: 64 -> 32"),
        (["--smoothing", "2"], "run belongs to another run; what differs: config smoothing: 1.0 -> 2.0"),
        (["--seeds", "5"], "run belongs to another run; what differs: seeds: [5, 3] -> [5]"),
        (["--image-size", "16"], "run belongs to another run; what differs: image_size: None -> 16"),
        (["--steps", "12"], "run is already at step 13; --steps 12 would go back"),
    ],
)
def test_resuming_with_another_config(run, argv, words):
    assert refused(*train_again("--resume", *argv)) == words


def test_resuming_names_every_difference_but_the_steps(run):
    line = refused(*train_again("--resume", "--batch-size", 32, "--data-seed", 7, "--steps", 99))
    assert line.endswith("what differs: batch_size: 64 -> 32; data_seed: 0 -> 7")


def test_resuming_with_another_model(run):
    line = refused("train", "classifier", "--seeds", 5, 3, "--steps", 15, "--out", "run", "--resume")
    assert line == "run belongs to another run; what differs: model: 'naive_bayes' -> 'classifier'"


def test_resuming_a_finished_run_prints_its_digests(run, trained):
    assert digest_lines(did(*train_again("--resume"))) == digest_lines(trained[1]["naive_bayes"])


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff\xfe", b'{"model": "naive_bayes"'])
@pytest.mark.parametrize(
    "command", [("digest", "run"), ("sample", "run"), ("evaluate", "run"), train_again("--resume")]
)
def test_a_damaged_config(run, command, damage):
    (run / "config.json").write_bytes(damage)
    assert refused(*command).startswith("cannot read run/config.json: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "vea"}, "unknown model 'vea': did you mean vae?"),
        ({"config": {"smooting": 1.0}}, "naive_bayes has no field 'smooting': did you mean smoothing?"),
        ({"config": {"smoothing": "1"}}, "naive_bayes's field smoothing takes float, not '1'"),
        ({"settings": {"stps": 15}}, "settings has no field 'stps': did you mean steps?"),
        ({"settings": None}, "run/config.json does not hold a run's model, config and settings"),
        ({"config": [1]}, "run/config.json does not hold a run's model, config and settings"),
        ({"model": 3}, "run/config.json does not hold a run's model, config and settings"),
    ],
)
def test_a_config_that_was_edited(run, change, words):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | change))
    assert words in refused("digest", "run")


@pytest.mark.parametrize("command", [("digest", "run"), train_again("--resume")], ids=lambda c: c[0])
@pytest.mark.parametrize("text", ["[]", "{}", "null", '"x"'])
def test_a_config_that_holds_something_else(run, command, text):
    (run / "config.json").write_text(text)
    assert refused(*command) == "run/config.json does not hold a run's model, config and settings"


def test_an_environment_that_holds_something_else(run):
    (run / "environment.json").write_text("{}")
    assert refused(*train_again("--resume")) == "run/environment.json does not hold a run's environment"


def test_a_damaged_checkpoint(run):
    for file in (run / "checkpoints/13").rglob("*"):
        if file.is_file():
            file.write_text("garbage")
    assert refused("digest", "run").startswith("run/checkpoints/13 is damaged: ")
    assert refused(*train_again("--resume")).startswith(
        "no checkpoint of run is left to resume from; run/checkpoints/13 is"
    )


def test_a_run_without_a_checkpoint(run):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    assert refused("digest", "run") == "run has no checkpoint yet"


# Output


def test_training_ends_with_a_digest_a_seed_and_digest_prints_the_same(trained):
    folder, printed = trained
    for name, out in printed.items():
        lines = out.splitlines()
        assert lines[0] == f"{folder / name}: {13 if name == 'naive_bayes' else 15} steps"
        assert [re.sub(r"[0-9a-f]{64}$", "HEX", line) for line in lines[1:]] == ["digest 5 HEX", "digest 3 HEX"]
        assert did("digest", folder / name).splitlines() == lines[1:]


def test_digests_tell_parameters_apart(trained):
    """Naive Bayes counts, so its seeds agree; a classifier's weights are random, so its seeds differ."""
    counted, drawn = ({line.split()[2] for line in digest_lines(trained[1][n])} for n in ("naive_bayes", "classifier"))
    assert (len(counted), len(drawn)) == (1, 2)


def test_a_run_is_in_runs_if_no_folder_is_given(here):
    out = did("train", "naive_bayes", "--steps", 1)
    assert out.startswith("runs/naive_bayes-digits: 1 steps\n")
    assert (here / "runs/naive_bayes-digits/config.json").is_file()


def test_the_last_of_a_repeated_option_counts(here):
    did("train", "naive_bayes", "--steps", 3, "--steps", 2, "--out", "run")
    assert json.loads((here / "run/config.json").read_text())["settings"]["steps"] == 2


def unboxed(text: str) -> str:
    return " ".join(re.sub(r"[─│╭╮╰╯]", " ", text).split())


def field_comments(name: str) -> dict[str, str]:
    """Map from field to comment, read from the source of a model's Config, its bases, Options and Settings."""
    *inherited, _ = models.load(name).Config.__mro__  # the last is object
    source = "".join(inspect.getsource(part) for part in (*reversed(inherited), Options, Training, Records))
    return dict(re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE))


@pytest.mark.parametrize("name", MODELS)
def test_help_lists_every_field_with_its_comment(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # on a wider terminal boxes stand side by side
    comments = field_comments(name)
    fields = [field.name for part in (models.load(name).Config, Settings) for field in dataclasses.fields(part)]
    assert set(fields) <= set(comments), "a field without a comment"
    text = unboxed(did("train", name, "--help"))
    for field in fields:
        assert re.search(rf"--{field.replace('_', '-')}\b[^#]*{re.escape(unboxed(comments[field]))}", text), field


@pytest.mark.parametrize("name", MODELS)
def test_help_has_a_box_for_the_model_the_data_the_training_and_the_run(name, monkeypatch):
    """The model's first, headed by its paper; every option in the box where it belongs."""
    monkeypatch.setenv("COLUMNS", "100")
    text = did("train", name, "--help")
    boxes = {
        title: (words, set(re.findall(r"^  --([a-z][\w-]*)", words, re.MULTILINE)))
        for title, words in re.findall(
            r"^ ((?:\w+ )?options) *\n -+ *\n(.*?)(?=^ (?:\w+ )?options *\n|\Z)", text, re.MULTILINE | re.DOTALL
        )
    }
    assert list(boxes) == ["options", "model options", "data options", "training options", "run options"]
    entry = models.MODELS[name]
    assert unboxed(boxes["model options"][0]).startswith(f"{entry.title}: {entry.paper}, {entry.url} ")
    for title, part in (("model", models.load(name).Config), ("data", Options), ("training", Training)):
        fields = {field.name.replace("_", "-") for field in dataclasses.fields(part)}
        assert boxes[f"{title} options"][1] == fields
    assert boxes["run options"][1] == {
        "out", "resume", "deterministic", "distributed", "wandb", "log-every", "sample-every", "checkpoint-every",
        "keep-checkpoints", "keep-best",
    }  # fmt: skip


def test_networks_of_one_kind_have_one_name():
    """Networks that models choose from: conv stands for strided convolutions in each, and no synonym does."""
    choices = {name: get_type_hints(models.load(name).Config).get("network") for name in MODELS}
    names = {name: set(get_args(hint)) for name, hint in choices.items() if hint}
    assert {name for name, of in names.items() if "conv" in of} == {"vae", "autoencoder", "cgan"}
    known = {"conv", "mlp", "linear", "maxout", "strided", "logistic", "lenet", "vgg", "resnet"}
    known |= {"gated", "original", "diagonal", "row"}
    assert set.union(*names.values()) == known


@pytest.mark.parametrize("name", [name for name, entry in models.MODELS.items() if entry.recipes])
def test_recipes_in_the_help_can_be_run(name):
    """Each is one line of the help, and builds a model of the loss and the penalty of its paper."""
    text = did("train", name, "--help")
    expected = {
        "WGAN-GP, arXiv 1704.00028": ("wasserstein", "one_centered", False, 5),
        "R1, arXiv 1801.04406": ("non_saturating", "zero_centered", False, 1),
        "SN-GAN, arXiv 1802.05957": ("hinge", "none", True, 1),
    }
    if name == "transgan":
        expected = {"cifar, the authors'": ("wasserstein", "one_centered", False, 4)}
        expected |= {"stl, the authors'": ("wasserstein", "one_centered", False, 5)}
    assert models.MODELS[name].recipes.keys() == expected.keys()
    for paper, options in models.MODELS[name].recipes.items():
        assert re.search(rf"^  {re.escape(paper)} +{re.escape(options)}$", text, re.MULTILINE)
        words = [word.partition(" ") for word in options.removeprefix("--").split(" --")]
        fields = {field.replace("-", "_"): value_of(value) for field, _, value in words}
        batch_size, _ = fields.pop("batch_size", 64), fields.pop("flip", None)
        config = models.load(name).Config(**fields)
        make_plan(name, config, Settings(batch_size=batch_size))
        assert (config.loss, config.penalty, config.spectral_norm, config.critic_steps) == expected[paper]


def value_of(value: str) -> object:
    """True for no value, numbers as such, and a tuple of several."""
    if not value:
        return True
    if " " in value:
        return tuple(map(value_of, value.split()))
    return int(value) if value.isdigit() else float(value) if value[0].isdigit() else value


@pytest.mark.parametrize("command", list(commands.COMMANDS))
def test_every_command_says_what_it_does(command):
    first_line = commands.COMMANDS[command].__doc__.splitlines()[0]
    assert first_line in did(command, "--help")
    assert first_line in did("--help")


@pytest.mark.parametrize("columns", [36, 40, 80, 200])
def test_models_lists_every_model_whole(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = did("models")
    assert "…" not in out
    words = " ".join(re.sub("[│━┃]", " ", out).split()) if columns < 200 else out
    for name, entry in models.MODELS.items():
        assert re.search(rf"^(│ )?{name}( |$)", out, re.MULTILINE)
        assert entry.url in out or len(entry.url) > columns - 4
        for said in (entry.title, entry.paper, entry.url):
            assert said.replace(" ", "") in words.replace(" ", "")
    assert max(map(len, out.splitlines())) <= columns


@pytest.mark.parametrize("command", ["metrics", "data"])
def test_lists_fit_narrow_terminals(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = did(command, *["list"][: command == "data"])
    assert max(map(len, out.splitlines())) <= 40
    words = " ".join(out.split())
    if command == "data":
        assert "digits train 808; validation 90; test 899; shape 8x8x1; classes 10; prepared" in words
        assert "gaussians train 100,000; validation 10,000; test 10,000; shape 2; classes 8 or 25; prepared" in words
        assert "image_folder train varies; validation varies; test varies; shape ?x?x?; classes -; prepared" in words
    else:
        assert "fd of samples; what Fréchet distance of features (FID, by Inception-v3); needs features;" in words


@pytest.mark.parametrize(
    ("name", "needs", "can"),
    [
        ("classifier", "image, label", ["predict label", "predict features"]),
        ("naive_bayes", "image, label", ["sample given label", "log-likelihood (exact)", "predict label"]),
        ("vae", "image", ["sample", "log-likelihood (bound)", "encode", "decode"]),
        ("cgan", "image, label", ["sample given label", "decode"]),
        ("infogan", "image", ["sample", "decode", "predict code"]),
    ],
)
def test_models_lists_what_each_needs_and_can(name, needs, can, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    row = re.search(rf"│ {name} +│.*?(?=├|└)", did("models"), re.DOTALL)[0]
    cells = [[cell.strip() for cell in line.split("│")[3:5]] for line in row.splitlines() if "│" in line]
    assert [cell for cell, _ in cells if cell] == [needs]
    assert [cell for _, cell in cells if cell] == can


@pytest.mark.parametrize("columns", [80, 160])
def test_data_list(columns, monkeypatch):
    data.load("digits")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = did("data", "list").splitlines()
    assert max(map(len, lines)) <= columns
    rows = {line.split()[0]: line.split() for line in lines if not line.startswith(" ")}
    assert rows["digits"] == ["digits", "808", "90", "899", "8x8x1", "10", "yes"]
    assert rows["gaussians"][:8] == ["gaussians", "100,000", "10,000", "10,000", "2", "8", "or", "25"]
    assert list(rows) == ["dataset", *(info.name for info in data.table()), "tfds:NAME"]
    text = " ".join(" ".join(lines).split())
    for info in data.table():
        assert info.what.rstrip(".") in text
        assert f"license: {info.license}" in text
        assert ", ".join(info.configs) in text


@pytest.mark.parametrize("action", ["show", "prepare"])
@pytest.mark.parametrize("argv", [["--help"], ["gaussians", "--help"]])
def test_help_of_data_lists_what_may_be_given(action, argv):
    text = unboxed(did("data", action, *argv))
    assert text.startswith(f"usage: jaxgen data {action} NAME [-h]")
    assert "--from" in text
    assert ("--image-size" in text) == (action == "show")
    for option in ("--dataset", "--data-from", "--flip", "--pipeline", "--workers"):
        assert f"{option} " not in text


def test_each_help_of_evaluate_is_found_from_the_first():
    hint = "jaxgen evaluate --images FOLDER --help"
    assert hint in unboxed(did("evaluate", "--help"))
    assert "--images PATH" in unboxed(did(*hint.split()[1:]))


def test_data_show_and_prepare(here):
    note, path = did("data", "show", "digits", "--num", 12, "--image-size", 16, "--split", "test").splitlines()
    assert note == data.load("digits", image_size=16).note
    with Image.open(path) as sheet:
        assert (path, sheet.mode) == ("digits.png", "RGB")
    assert did("data", "show", "gaussians/grid", "--out", "grid.png").endswith("grid.png\n")
    assert did("data", "prepare", "bars").startswith("bars is made: ")
    Path("mine").mkdir()
    for n in range(4):
        Image.new("RGB", (8, 8), (60 * n, 0, 0)).save(f"mine/{n}.png")
    assert did("data", "show", "image_folder", "--from", "mine").endswith("image_folder.png\n")
    assert did("data", "show", "digits", "--out", "DIGITS.PNG").endswith("DIGITS.PNG\n")


def test_a_contact_sheet_replaces_no_other_file(here):
    sheet = ("data", "show", "digits", "--num", 4, "--out", "sheets/digits.png")
    assert did(*sheet) == did(*sheet)  # the same content may be written again
    Path("digits.png").write_text("mine")
    for argv, file in ((sheet[:5], "digits.png"), (("data", "show", "bars", *sheet[5:]), "sheets/digits.png")):
        assert refused(*argv) == f"{file} exists with another content; choose another --out"


@pytest.mark.parametrize("option", ["--out=~/{}", "--out=~/new/{}"])
@pytest.mark.parametrize("file", ["x.png", "X.PNG"])
def test_a_home_folder_that_no_shell_wrote_out(here, monkeypatch, option, file):
    """A shell expands ~ at the beginning of a word alone."""
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    did("data", "show", "digits", "--num", "4", option.format(file))
    assert (here / "home" / option.format(file).removeprefix("--out=~/")).is_file()
    assert not (here / "~").exists()


def test_version_and_no_command():
    assert did("--version") == "jaxgen 0.1.0\n"
    assert did() == did("--help") == did("-h")


def test_help_is_quick_and_imports_nothing_heavy():
    script = "import sys; from jaxgen.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    ran = python("-c", script)
    assert ran.returncode == 0
    assert "usage: jaxgen COMMAND" in ran.stdout
    heavy = {"jax", "flax", "numpy", "optax", "tyro", "rich", "tensorflow_datasets"}
    assert heavy.isdisjoint(re.findall(r"'([\w.]+)'", ran.stderr))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert python("-m", "jaxgen", "--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5


def test_models_and_training_do_without_tfds_grain_and_tyro():
    """tyro and TFDS serve the command line and datasets; a notebook with its own data needs neither, nor grain."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow_datasets', 'grain', 'tyro', 'tensorflow']))\n"
    ran = python("-W", "error::ImportWarning", "-c", blocked + "import jaxgen.models, jaxgen.training; print('done')")
    assert (ran.stdout, ran.returncode) == ("done\n", 0), ran.stderr


def test_a_mistake_in_a_process_of_its_own(here):
    ran = python("-m", "jaxgen", "train", "vea")
    assert ran.returncode == 2
    assert re.fullmatch(r"jaxgen: error: unknown model 'vea': did you mean vae\? .*\n", ran.stderr)


# Samples


def test_samples_as_arrays(trained, here):
    path = trained[0] / "naive_bayes"
    assert did("sample", path, "--num", 25, "--out", "one.npz") == "one.npz\n"
    assert did("sample", path, "--num", 25, "--out", "two.npz") == "two.npz\n"
    one, two = np.load("one.npz"), np.load("two.npz")
    assert sorted(one) == ["image", "label", "seed"]
    assert {name: (one[name].shape, one[name].dtype) for name in one} == {
        "image": ((40, 8, 8, 1), np.uint8),
        "label": ((40,), np.int32),
        "seed": ((40,), np.int64),
    }
    # 25 is rounded down to 2 per class; sorted by class within a seed, seeds in the run's order
    np.testing.assert_array_equal(one["label"], np.tile(np.repeat(np.arange(10), 2), 2))
    np.testing.assert_array_equal(one["seed"], np.repeat([5, 3], 20))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert set(np.unique(one["image"])) == {0, 255}  # of p(x|y) over bits
    assert (one["image"][:20] != one["image"][20:]).any()  # each seed draws its own


def test_samples_are_of_the_class_asked_for(trained, here):
    """The mean of many samples of a class is p(x_j = 1|y), known from the counts."""
    did("sample", trained[0] / "naive_bayes", "--num", 4000, "--out", "samples.npz")
    samples, train = np.load("samples.npz"), data.load("digits").train
    for label in range(10):
        drawn = samples["image"][samples["label"] == label]
        assert len(drawn) == 800
        x = train["image"][train["label"] == label] >= 128
        p = (x.sum(0) + 1) / (len(x) + 2)
        np.testing.assert_allclose((drawn == 255).mean(0), p, atol=5 * 0.5 / np.sqrt(800))


def test_samples_as_a_picture(run):
    assert did("sample", "run", "--num", 30) == "run/samples.png\n"
    with Image.open("run/samples.png") as picture:
        # 3 columns of 8 pixels with 1 between; two grids of 10 rows, 4 pixels between them
        assert (picture.size, picture.mode) == (
            (4 * (3 * 9 - 1), 4 * (2 * (10 * 9 - 1) + 4)),
            "L",
        )  # 8 pixels are shown as 32
    assert did("sample", "run", "--num", 30) == "run/samples.png\n"  # the same content may be written again


def test_samples_replace_no_other_file(run, here):
    (here / "mine.png").write_text("mine")
    assert refused("sample", "run", "--out", "mine.png") == (
        "mine.png exists with another content; choose another --out"
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--out", "samples.jpg"], "samples can be written as .png, .npz or a folder (/), not as 'samples.jpg'"),
        (["--out", "samples"], "samples can be written as .png, .npz or a folder (/), not as 'samples'"),
        (["--out", ""], "--out takes a path, not ''"),
        (["--out", "file/samples.png"], "cannot write file/samples.png: Not a directory"),
        (["--out", "/proc/samples.png"], "cannot write /proc/samples.png: "),
        (["--num", "0"], "--num must be at least 10, one a class, not 0"),
        (["--num", "1000001"], "--num must be at most 1,000,000, not 1000001"),
        (["--num", "9" * 30], "--num must be at most 1,000,000, not " + "9" * 30),
        (["--num", "-20"], "--num must be at least 10, one a class, not -20"),
        (["--num", "9"], "--num must be at least 10, one a class, not 9"),
        (["--nun", "9"], "Perhaps you meant: --num"),
        (
            ["--kind", "interpolation"],
            "naive_bayes does not decode latents; models that can: autoencoder, vae, vaegan, ",
        ),
        (["--kind", "reconstruction"], "invalid choice 'reconstruction'"),
        (["--kind", "animation", "--out", "a.png"], "animation can be written as .gif or .webp, not as 'a.png'"),
        (
            ["--kind", "attribute", "--groups", "1", "2"],
            "naive_bayes is given the label beside its codes; models that can: ",
        ),
        (["--groups", "1", "2", "3"], "--groups applies to arithmetic, attribute, not to samples"),
    ],
)
def test_samples_that_cannot_be_written(run, here, argv, words):
    (here / "file").write_text("kept")
    assert words in refused("sample", "run", *argv)


def test_a_model_that_cannot_sample_names_those_that_can(trained):
    line = refused("sample", trained[0] / "classifier")
    assert line.startswith("classifier cannot sample; models that can: ")
    able = set(line.partition("can: ")[2].split(", "))
    assert "classifier" not in able
    assert {"naive_bayes", "vae", "dcgan"} <= able


def test_every_kind_of_picture_has_its_name_on_the_command_line():
    (names,) = re.findall(r"--kind \{(.*?)\}", unboxed(did("sample", "run", "--help")))
    assert names.replace(" ", "").split(",") == list(KINDS)


def test_every_option_of_a_picture_is_handed_on(here, monkeypatch):
    monkeypatch.setattr("jaxgen.pictures.sample", lambda *given, **options: (given, options))
    printed = did("sample", "run", "--kind", "traversal", "--num", 3, "--steps", 5, "--dims", 1, 2, "--around", 4)
    options = {"checkpoint": "newest", "out": None, "progress": True, "num": 3, "steps": 5, "dims": (1, 2), "around": 4}
    options |= {"groups": None, "rejection": None, "caption": None, "captions": None}
    marks = {"watermark": None, "keyed": False, "sign": False}
    options |= marks
    assert printed == f"{(('run', 'traversal'), options)}\n"
    printed = did("sample", "run", "--kind", "arithmetic", "--groups", 7, 1, 4, "--checkpoint", "best")
    options = dict.fromkeys(options) | {"checkpoint": "best", "progress": True, "groups": ("7", "1", "4")} | marks
    assert printed == f"{(('run', 'arithmetic'), options)}\n"
    options |= {"groups": None, "rejection": 4, "checkpoint": "newest"}
    assert did("sample", "run", "--rejection", 4) == f"{(('run', 'samples'), options)}\n"
    options |= {"rejection": None, "watermark": 38.0, "keyed": True, "sign": True}
    printed = did("sample", "run", "--watermark", 38, "--keyed", "--sign")
    assert printed == f"{(('run', 'samples'), options)}\n"


def test_an_animation_of_training(run):
    assert did("sample", "run", "--kind", "animation") == "run/animation.gif\n"
    with Image.open("run/animation.gif") as moving:
        assert moving.n_frames == len(list(Path("run/samples/seed-5").iterdir()))


def test_models_of_images_are_not_among_those_for_points():
    assert not {"naive_bayes", "vae", "dcgan"} & set(
        models.that_can(lambda model: model.sampler is not None, data.load("gaussians").spec)
    )


# The user's own model file, the example in the documentation


@pytest.fixture
def own(here):
    """Writes the documentation's example of a counting model to the current folder."""
    blocks = re.findall(r"```python\n(.*?)```", EXAMPLES.read_text(), re.DOTALL)
    source = next(block for block in blocks if "def make" in block)
    (here / "pixel_mean.py").write_text(source)
    return here / "pixel_mean.py"


def test_the_readmes_model_counts_what_it_says(own, monkeypatch):
    did("train", "./pixel_mean.py", "--noise", 0.2, "--seeds", 0, 1, "--steps", 100, "--out", "runs/mean")
    run = open_run("runs/mean")
    assert run.plan.config.noise == 0.2
    np.testing.assert_array_equal(run.state.params["examples"], [808, 808])
    mean = np.asarray(run.state.params["sum"]) / 808
    np.testing.assert_allclose(mean, np.stack(2 * [data.load("digits").spec.mean]), atol=1e-5)
    assert did("sample", "runs/mean") == "runs/mean/samples.png\n"
    monkeypatch.setenv("COLUMNS", "100")
    text = unboxed(did("train", own, "--help"))
    assert "Samples are the mean of the training images plus noise: a baseline" in text
    assert "--noise FLOAT standard deviation of the samples' pixels" in text


def test_an_own_model_stopped_and_resumed_ends_with_the_same_bits(own):
    train = ("train", "pixel_mean.py", "--seeds", 2, 1)
    whole = did(*train, "--steps", 12, "--out", "whole")
    did(*train, "--steps", 5, "--out", "parts")
    parts = did(*train, "--steps", 12, "--out", "parts", "--resume")
    assert len(digest_lines(whole)) == 2
    assert digest_lines(parts) == digest_lines(whole)


def test_a_run_opens_without_the_file_it_was_trained_from(own):
    trained = did("train", "pixel_mean.py", "--steps", 3, "--out", "run")
    source = own.read_bytes()
    own.unlink()
    assert Path("run/model.py").read_bytes() == source
    assert digest_lines(did("digest", "run")) == digest_lines(trained)
    assert open_run("run").plan.config.noise == 0.1
    assert refused("train", "pixel_mean.py", "--steps", 9, "--out", "run", "--resume") == "no model file pixel_mean.py"


def test_a_run_is_not_resumed_with_a_changed_file(own):
    did("train", "pixel_mean.py", "--steps", 3, "--out", "run")
    own.write_text(own.read_text().replace("weight.sum()", "1"))
    line = refused("train", "pixel_mean.py", "--steps", 9, "--out", "run", "--resume")
    assert line == "run belongs to another run; what differs: pixel_mean.py was changed since"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('needs=("image",)', 'needs=("caption",)', "mean needs caption, but dataset digits has only image, label"),
        ("spec):\n", "spec):\n    spec.entries['mesh']\n", "mean needs mesh, but dataset digits has only image"),
        ("def make", "def build", "pixel_mean.py is no model: it does not define make"),
        ("class Config", "class Options", "pixel_mean.py is no model: it does not define Config"),
        ("def make", "def make(", "pixel_mean.py cannot be imported: SyntaxError: "),
        ("import jax\n", "import jax\nimport missing_package\n", "pixel_mean.py cannot be imported: ModuleNotFound"),
        ("noise", "steps", "pixel_mean.py: Config's field steps has the name of a setting of every run"),
        ("noise", "resume", "pixel_mean.py: Config's field resume has the name of a setting of every run"),
        ("@dataclass(frozen=True)", "", "pixel_mean.py: Config is no dataclass"),
        ("noise: float = 0.1", "noise: float", "--noise FLOAT"),
        ("import jax\n", "import sys\nsys.exit(3)\n", "pixel_mean.py cannot be imported: SystemExit: 3"),
    ],
)  # fmt: skip
def test_an_own_model_with_a_mistake(own, old, new, words):
    text = own.read_text()
    assert old in text
    own.write_text(text.replace(old, new))
    assert words in refused("train", "pixel_mean.py", "--steps", 3)


def test_no_model_file():
    assert refused("train", "missing.py") == "no model file missing.py"


# Experiments

HEAD = '''"""A small experiment."""
from jaxgen.comparison import Arm, Experiment
from jaxgen.training import Settings
S = Settings(seeds=(0, 1), steps=5)
'''


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "e.py declares no `experiment = Experiment(...)`"),
        ("experiment = 3", "e.py declares no `experiment = Experiment(...)`"),
        ("1 / 0", "e.py cannot be imported: ZeroDivisionError: division by zero"),
        ("def (", "e.py cannot be imported: SyntaxError: "),
        ("import sys; sys.exit(4)", "e.py cannot be imported: SystemExit: 4"),
        ("experiment = Experiment('t', {'a': Arm('vae', {'latant_dim': 3})}, S)",
         "vae has no field 'latant_dim': did you mean latent_dim?"),
        ("experiment = Experiment('t', {'a': Arm('vae', {'latent_dim': '3'})}, S)",
         "vae's field latent_dim takes int, not '3'"),
        ("experiment = Experiment('t', {'a': Arm('vae', {'likelihood': 'poisson'})}, S)",
         "vae's field likelihood takes 'bernoulli' or 'gaussian' or 'logistic' or nothing, not 'poisson'"),
        ("experiment = Experiment('t', {'a': Arm('naive_bayes'), 'b': Arm('vea')}, S)",
         "unknown model 'vea': did you mean vae?"),
        ("experiment = Experiment('t', {'a': Arm('mine.py')}, S)", "no model file mine.py"),
        ("experiment = Experiment('t', {'a': 'vae'}, S)", "e.py: arm 'a' is no Arm(model, config)"),
        ("experiment = Experiment('t', {'a': Arm(3)}, S)", "e.py: arm 'a' takes a model's name and a dict"),
        ("experiment = Experiment('t', {'a': Arm('vae', ['x'])}, S)", "e.py: arm 'a' takes a model's name and a dict"),
        ("experiment = Experiment('t', {}, S)", "e.py: arms is a dict of at least one Arm by its name"),
        ("experiment = Experiment('t', [Arm('vae')], S)", "e.py: arms is a dict of at least one Arm by its name"),
        ("experiment = Experiment('t', {'a/b': Arm('vae')}, S)", "e.py: arm name 'a/b' cannot be a folder's name"),
        ("experiment = Experiment('t', {'..': Arm('vae')}, S)", "e.py: arm name '..' cannot be a folder's name"),
        ("experiment = Experiment('t', {1: Arm('vae')}, S)", "e.py: arm name 1 cannot be a folder's name"),
        ("experiment = Experiment('t', {'a': Arm('vae')}, {'steps': 3})",
         "e.py: settings is a Settings(...), not {'steps': 3}"),
        ("experiment = Experiment('t', {'a': Arm('vae')}, Settings(steps='3'))",
         "settings's field steps takes int, not '3'"),
        ("experiment = Experiment('t', {'a': Arm('vae')}, Settings(seeds=0))",
         "settings's field seeds takes tuple[int, ...], not 0"),
        ("experiment = Experiment('t', {'a': Arm('vae')}, Settings(dataset='digit'))", "unknown dataset 'digit'"),
        ("experiment = Experiment('t', {'a': Arm('vae'), 'b': Arm('dcgan')}, Settings(image_size=9))",
         "cannot make images of 9x9"),
    ],
)  # fmt: skip
def test_an_experiment_with_a_mistake(here, source, words):
    (here / "e.py").write_text(HEAD + source + "\n")
    assert words in refused("compare", "e.py")


def test_an_experiment_is_a_python_file(here):
    (here / "e.yaml").write_text("")
    assert refused("compare", "e.yaml") == "e.yaml is no Python file"


def test_a_comparison_goes_into_no_other_folder(here):
    (here / "e.py").write_text(HEAD + "experiment = Experiment('t', {'a': Arm('naive_bayes')}, S)\n")
    (here / "full").mkdir()
    (here / "full/mine").write_text("mine")
    assert refused("compare", "e.py", "--out", "full") == (
        "full exists and holds no run of this comparison; choose another --out"
    )
    assert refused("compare", "e.py", "--out", "e.py") == "cannot use e.py: Not a directory"


@pytest.mark.slow
def test_a_comparison_and_an_evaluation(own, here):
    """The table has every arm and its untrained row; the same command continues, other seeds rename the old runs."""
    source = textwrap.dedent(
        """
        experiment = Experiment(
            "Two baselines",
            {"nb": Arm("naive_bayes"), "mean": Arm("pixel_mean.py", {"noise": 0.2})},
            Settings(seeds=(4, 2), steps=15),
        )
        """
    )
    (here / "two.py").write_text(HEAD + source)
    out = did("compare", "two.py")
    assert out.rstrip().endswith("runs/two/report.html")
    results = json.loads(Path("runs/two/results.json").read_text())
    assert results["seeds"] == [4, 2]
    (table,) = results["tables"]
    rows = {row["name"]: row for row in table["rows"]}
    assert {"real against real", "nb", "nb, untrained", "mean", "mean, untrained"} <= set(rows)
    recorded = [f"digest {seed} {digest}" for seed, digest in rows["mean"]["digests"].items()]
    assert digest_lines(did("digest", "runs/two/mean")) == recorded
    # real images are recognized more often than the noisy mean image
    assert rows["real against real"]["values"]["recognized"][0] > max(rows["mean"]["values"]["recognized"])

    did("compare", "two.py")  # finished, so it is only scored again
    again = json.loads(Path("runs/two/results.json").read_text())
    assert [row["values"] for row in again["tables"][0]["rows"]] == [row["values"] for row in table["rows"]]

    assert did("evaluate", "runs/two/nb").rstrip().endswith("runs/two/nb/evaluation.json")
    evaluation = {row["name"]: row for row in json.loads(Path("runs/two/nb/evaluation.json").read_text())["rows"]}
    assert evaluation["nb"]["values"] == rows["nb"]["values"]
    did("compare", "two.py", "--seeds", 4)
    assert digest_lines(did("digest", "runs/two/mean.aside-1")) == recorded
    assert digest_lines(did("digest", "runs/two/mean")) == recorded[:1]
