"""Files of a user's own that import others beside them; and runs that are opened without any of these."""

import os
import shutil
import sys
import typing
from pathlib import Path

import pytest

from jaxgen import cli, models
from jaxgen.comparison.experiment import load_experiment
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import chosen
from jaxgen.training import Settings, open_run, train
from jaxgen.training.status import DAMAGED, verified
from jaxgen.user_files import load_file

MODEL = """
from dataclasses import dataclass
import jax.numpy as jnp
from jaxgen.model import Model, Phase, State
{imports}

@dataclass(frozen=True)
class Config:
    width: int = WIDTH

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), {{"w": jnp.zeros(config.width)}})
    def step(key, state, batch):
        w = state.params["w"] + RATE
        return state._replace(params={{"w": w}}), {{"loss": w.sum()}}
    return Model(init, (Phase("train", step),), ("image",))
"""

BESIDE = {
    "from helper import RATE, WIDTH": {"helper.py": "WIDTH, RATE = 3, 2.0"},
    "import helper\nRATE, WIDTH = helper.RATE, helper.WIDTH": {"helper.py": "WIDTH, RATE = 3, 2.0"},
    "from layers.sizes import WIDTH\nfrom layers import RATE": {
        "layers/__init__.py": "RATE = 2.0",
        "layers/sizes.py": "WIDTH = 3",
    },
    "from outer import RATE, WIDTH": {"outer.py": "from inner import *\nRATE = 2.0", "inner.py": "WIDTH = 3"},
    "from spaced.part import RATE, WIDTH": {"spaced/part.py": "WIDTH, RATE = 3, 2.0"},  # without __init__.py
}


def write(folder: Path, imports: str, files: dict[str, str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "own.py").write_text(MODEL.format(imports=imports))
    return str(folder / "own.py")


HOW = Settings(seeds=(0,), steps=2, batch_size=8, log_every=2, sample_every=2, checkpoint_every=2)


@pytest.mark.parametrize("imports", BESIDE)
def test_a_model_imports_files_beside_it_and_its_run_stands_alone(imports, tmp_path):
    own = write(tmp_path / "mine", imports, BESIDE[imports])
    path, modules = list(sys.path), set(sys.modules)
    run = train(own, None, HOW, out=tmp_path / "run", progress=False)
    assert (run.state.params["w"] == 4.0).all()
    assert run.state.params["w"].shape == (1, 3)
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if name.partition(".")[0] in ("helper", "layers", "outer")}
    shutil.rmtree(tmp_path / "mine")
    assert open_run(tmp_path / "run").digests() == run.digests()
    assert not [words for _, words, state in verified(tmp_path / "run") if state == DAMAGED]
    assert set(run.plan.sources()) >= set(BESIDE[imports]) - {"layers/__init__.py"} - {"spaced/__init__.py"}
    name = next(iter(BESIDE[imports]))
    (tmp_path / "run" / name).write_text((tmp_path / "run" / name).read_text() + "\n")
    (words,) = [words for what, words, state in verified(tmp_path / "run") if state == DAMAGED and what == "model.py"]
    assert words == f"{tmp_path / 'run' / name} was changed since the run began (sha256)"


def test_a_run_is_not_resumed_with_a_changed_import(tmp_path):
    imports = "from helper import RATE, WIDTH"
    own = write(tmp_path / "mine", imports, {"helper.py": "WIDTH, RATE = 3, 2.0"})
    train(own, None, HOW, out=tmp_path / "run", progress=False)
    (tmp_path / "mine" / "helper.py").write_text("WIDTH, RATE = 3, 5.0  # another rate")
    with pytest.raises(UserError, match=r"what differs: .*helper\.py was changed since$"):
        train(own, None, HOW, out=tmp_path / "run", resume=True, progress=False)


def test_files_of_the_same_name_in_two_folders_are_two(tmp_path, monkeypatch):
    """Checks it also if one of them is imported already, as in a notebook."""
    for folder, width in (("one", 3), ("two", 5)):
        write(tmp_path / folder, "from helper import RATE, WIDTH", {"helper.py": f"WIDTH, RATE = {width}, 1.0"})
    monkeypatch.syspath_prepend(tmp_path / "two")
    helper = load_file(tmp_path / "two" / "helper.py", "model").module
    monkeypatch.setitem(sys.modules, "helper", helper)
    assert [models.load(str(tmp_path / each / "own.py")).Config().width for each in ("one", "two")] == [3, 5]
    assert models.imported(str(tmp_path / "two" / "own.py")) == {"helper.py": tmp_path / "two" / "helper.py"}
    assert sys.modules["helper"] is helper


@pytest.mark.parametrize("name", ["model", "samples/part", "checkpoints/part", "lock/part"])
def test_an_import_that_has_a_name_of_the_run_folder(name, tmp_path, capsys):
    imports = f"from {name.replace('/', '.')} import RATE, WIDTH"
    own = write(tmp_path / "mine", imports, {f"{name}.py": "WIDTH, RATE = 3, 2.0"})
    assert cli.main(["train", own, "--steps", "2", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith("whose name a run's folder has too: rename it\n")
    assert not (tmp_path / "run").exists()


def test_experiments_and_extractors_import_files_beside_them(tmp_path):
    (tmp_path / "common.py").write_text(
        "SEEDS = (0, 7)\ndef features(images):\n    return images.reshape(len(images), -1)"
    )
    (tmp_path / "e.py").write_text(
        "from common import SEEDS\nfrom jaxgen.comparison.experiment import Arm, Experiment\n"
        "from jaxgen.training import Settings\n"
        "experiment = Experiment(title='t', arms={'a': Arm('vae')}, settings=Settings(seeds=SEEDS))"
    )
    (tmp_path / "x.py").write_text("from common import features")
    assert load_experiment(tmp_path / "e.py").experiment.settings.seeds == (0, 7)
    assert chosen(tmp_path / "x.py").name == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere_beside", "ModuleNotFoundError: No module named 'nowhere_beside'"),
        ("from broken import x", "SyntaxError: "),
        ("from own import Config", "ImportError: cannot import name 'Config'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_an_import_that_fails_is_one_line(text, words, tmp_path, capsys):
    (tmp_path / "broken.py").write_text("x = (")
    (tmp_path / "own.py").write_text(text)
    assert cli.main(["train", str(tmp_path / "own.py"), "--steps", "1", "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jaxgen: error: {tmp_path / 'own.py'} cannot be imported: {words}")


def test_a_package_without_init_is_imported_anew_each_time(tmp_path):
    """The second load sees the file as it is then, and two folders may have packages of one name."""
    for folder, width in (("one", 3), ("two", 5)):
        write(
            tmp_path / folder,
            "from nets import unet\nRATE, WIDTH = 1.0, unet.WIDTH",
            {"nets/unet.py": f"WIDTH = {width}"},
        )
    loaded = [load_file(tmp_path / folder / "own.py", "model") for folder in ("one", "two", "one")]
    assert [each.module.WIDTH for each in loaded] == [3, 5, 3]
    assert all(list(each.imported) == ["nets/unet.py"] for each in loaded)
    (tmp_path / "one" / "nets" / "unet.py").write_text("WIDTH = 30  # edited")
    assert load_file(tmp_path / "one" / "own.py", "model").module.WIDTH == 30


def test_a_file_is_executed_once_until_it_or_an_import_changes(tmp_path, capsys):
    imports = "from helper import RATE, WIDTH\nprint('executed')"
    own = write(tmp_path / "mine", imports, {"helper.py": "WIDTH, RATE = 3, 2.0"})
    assert cli.main(["train", own, "--steps", "2", "--batch-size", "8", "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.splitlines().count("executed") == 1
    assert cli.main(["verify", str(tmp_path / "run")]) == 0  # the copy in the run folder is another file
    assert cli.main(["digest", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.splitlines().count("executed") == 1
    (tmp_path / "mine" / "helper.py").write_text("WIDTH, RATE = 4, 2.0")
    assert [models.load(own).Config().width for _ in range(2)] == [4, 4]
    assert capsys.readouterr().out.splitlines().count("executed") == 1
    write(tmp_path / "mine", imports.replace("RATE, WIDTH", "RATE, WIDTH as W\nWIDTH = 2 * W"), {})
    assert [models.load(own).Config().width for _ in range(2)] == [8, 8]
    assert capsys.readouterr().out.splitlines().count("executed") == 1
    (tmp_path / "mine" / "helper.py").unlink()
    with pytest.raises(UserError, match="No module named 'helper'"):
        models.load(own)


CONFIG = """
from dataclasses import dataclass
from enum import Enum

class Kind(Enum):
    ODD = 1

class Parts:
    @dataclass(frozen=True)
    class Of:
        rate: float = 0.5

@dataclass(frozen=True)
class Config:
    width: int = {width}  # numbers of w
    kind: Kind = Kind.ODD
    part: Parts.Of = Parts.Of()
"""


@pytest.mark.parametrize("name", ["own.py", "helper.py"])
def test_an_edit_of_equal_size_within_a_second(name, tmp_path, monkeypatch):
    """Python's bytecode cache compares sizes and whole seconds."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    files = {"own.py": "from helper import B\nA = 1", "helper.py": "B = 1"}
    for each, text in files.items():
        (tmp_path / each).write_text(text)
    before = load_file(tmp_path / "own.py", "model").module
    assert (before.A, before.B) == (1, 1)
    status = (tmp_path / name).stat()
    (tmp_path / name).write_text(files[name].replace("= 1", "= 2"))
    os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load_file(tmp_path / "own.py", "model").module
    expected = {each: 1 + (each == name) for each in files}
    assert expected == {"own.py": after.A, "helper.py": after.B}


def test_an_edit_while_a_file_is_imported(tmp_path):
    """The file as it was executed counts, so the edit is seen the next time."""
    edits = "import pathlib\nA = 1\npathlib.Path(__file__).write_text('A = 2')"
    (tmp_path / "own.py").write_text(edits)
    assert [load_file(tmp_path / "own.py", "model").module.A for _ in range(2)] == [1, 2]


def test_a_mistake_that_is_undone(tmp_path):
    """The module of before stands in Python's table again: annotations are looked up there."""
    (tmp_path / "helper.py").write_text("T = int")
    text = "from __future__ import annotations\nfrom helper import T\nclass Config:\n    width: T = 3\n"
    (tmp_path / "own.py").write_text(text)
    before = load_file(tmp_path / "own.py", "model").module
    (tmp_path / "own.py").write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_file(tmp_path / "own.py", "model")
    (tmp_path / "own.py").write_text(text)
    after = load_file(tmp_path / "own.py", "model").module
    assert after is before
    assert typing.get_type_hints(after.Config) == {"width": int}
    assert "helper" not in sys.modules


@pytest.mark.parametrize("first", ["", "from __future__ import annotations\n"])
def test_a_config_is_read_from_a_file_beside(first, tmp_path, capsys, monkeypatch):
    """Two folders have files of the same names; annotations may be texts."""
    monkeypatch.setenv("COLUMNS", "100")
    model = MODEL.replace("@dataclass(frozen=True)\nclass Config:\n    width: int = WIDTH\n", "")
    for folder, width in (("one", 3), ("two", 5)):
        own = write(tmp_path / folder, "", {"options.py": first + CONFIG.format(width=width)})
        Path(own).write_text(first + model.format(imports="from options import Config\nRATE = 2.0"))
    for folder, width in (("one", 3), ("two", 5), ("one", 3)):
        assert cli.main(["train", str(tmp_path / folder / "own.py"), "--help"]) == 0
        assert f"numbers of w (default: {width})" in capsys.readouterr().out
    train = ["train", str(tmp_path / "one" / "own.py"), "--steps", "1", "--batch-size", "8", "--width", "7"]
    assert cli.main([*train, "--rate", "0.25", "--out", str(tmp_path / "run")]) == 0
    config = open_run(tmp_path / "run").plan.config
    assert (config.width, config.kind.name, config.part.rate) == (7, "ODD", 0.25)
    assert cli.main([*train, "--kind", "EVEN", "--out", str(tmp_path / "other")]) == 2


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("Whole", "name 'Whole' is not defined"),  # which only a type checker knows
        ("jnp.nothing", "module 'jax.numpy' has no attribute 'nothing'"),
        ("list[int] | 3", "unsupported operand type(s) for |"),
        ("'int |'", "Forward reference must be an expression"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_one_line(annotation, words, tmp_path, capsys):
    text = "from __future__ import annotations\n" + MODEL.format(imports="WIDTH, RATE = 3, 1.0")
    (tmp_path / "own.py").write_text(text.replace("width: int", f"width: {annotation}"))
    assert cli.main(["train", str(tmp_path / "own.py"), "--steps", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    told = f"jaxgen: error: {tmp_path / 'own.py'}: the annotations of Config cannot be read: {words}"
    assert line.startswith(told)
