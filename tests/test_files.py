"""Results' files: places that cannot be written are refused before the work, and no file is half written or lost."""

import threading
from pathlib import Path

import numpy as np
import pytest

from jaxgen import cli
from jaxgen.comparison import compare
from jaxgen.errors import UserError
from jaxgen.evaluation import evaluate, networks
from jaxgen.files import check_writable, new_folder, write_new, write_whole
from jaxgen.pictures import sampling
from jaxgen.training import Settings, folder, train

HOW = Settings(seeds=(0,), steps=2, log_every=2, sample_every=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train("naive_bayes", None, HOW, out=tmp_path_factory.mktemp("run") / "run", progress=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("folder").mkdir()
    np.save("images.npy", np.zeros((20, 8, 8, 1), np.uint8))
    return tmp_path


PLACES = {
    "file/x": "cannot write file/x{suffix}: Not a directory; choose another --out",
    "file/in/x": "cannot write file/in/x{suffix}: Not a directory; choose another --out",
    "/proc/x": "cannot write /proc/x{suffix}: No such file or directory; choose another --out",
    "x" * 300: "cannot write " + "x" * 300 + "{suffix}: File name too long; choose another --out",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        (["evaluate", "RUN"], ".json"),
        (["evaluate", "--images", "images.npy"], ".json"),
        (["sample", "RUN"], ".png"),
        (["sample", "RUN"], ".npz"),
        (["data", "show", "digits"], ".png"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command, suffix, place, run, here, monkeypatch, capsys
):
    def worked(*_, **__):
        raise AssertionError("it began to work")

    monkeypatch.setattr(networks, "extractors", worked)
    monkeypatch.setattr("jaxgen.pictures.contact_sheet.contact_sheet", worked)
    monkeypatch.setattr(sampling, "_content", worked)
    argv = [str(run.path) if word == "RUN" else word for word in command]
    before = sorted(here.rglob("*"))
    assert cli.main([*argv, "--out", place + suffix]) == 2
    assert capsys.readouterr().err == f"jaxgen: error: {PLACES[place].format(suffix=suffix)}\n"
    assert sorted(here.rglob("*")) == before


def test_a_place_that_can_be_written_leaves_nothing(here):
    for path in ("x.json", "new/folders/x.json", "file", str(here / "y.json")):
        check_writable(Path(path))
    assert sorted(path.name for path in here.iterdir()) == ["file", "folder", "images.npy"]
    with pytest.raises(UserError, match="folder is a folder; --out names a file"):
        check_writable(Path("folder"))


def test_scores_are_shown_before_they_are_written(run, here, monkeypatch, capsys):
    """A disk that fills up meanwhile loses no file."""

    def full(*_):
        raise OSError(28, "No space left on device", "x.json")

    monkeypatch.setattr(folder, "write_json", full)
    assert cli.main(["evaluate", str(run.path), "--metrics", "accuracy", "--out", "x.json"]) == 2
    out, err = capsys.readouterr()
    assert "accuracy" in out
    assert err == "jaxgen: error: cannot use x.json: No space left on device\n"


def test_scores_of_a_run_go_where_they_are_to(run, here, capsys):
    own = run.path / "evaluation.json"
    own.unlink(missing_ok=True)
    assert cli.main(["evaluate", str(run.path), "--metrics", "accuracy", "--out", "sub/scores.JSON"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "sub/scores.JSON"
    assert not own.exists()
    shown = []
    assert evaluate(run.path, show=shown.append, progress=False)["path"] == str(own)
    assert folder.read_json(own)["rows"] == shown[0]["rows"]
    accuracy = folder.read_json(Path("sub/scores.JSON"))["rows"][-2]["values"]["accuracy"]
    assert [row["values"]["accuracy"] for row in shown[0]["rows"] if row["kind"] == "trained"] == [accuracy]


def test_another_processes_file_is_not_replaced(tmp_path):
    path = tmp_path / "new" / "s.png"
    write_new(path, b"first")
    write_new(path, b"first")
    with pytest.raises(UserError, match=r"s\.png exists with another content; choose another --out"):
        write_new(path, b"second")
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"first", [path])
    write_whole(path, b"third")
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"third", [path])


def fill(path, content):
    with new_folder(path) as made:
        (made / "sub").mkdir()
        (made / "sub" / "file").write_bytes(content)


def test_a_folder_with_other_content_is_not_replaced(tmp_path):
    """Links and folders of empty folders neither; an empty folder, and one that is missing, become the new one."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        fill(tmp_path / name, b"first")
        fill(tmp_path / name, b"first")
        assert (tmp_path / name / "sub" / "file").read_bytes() == b"first"
    (tmp_path / "bare" / "sub").mkdir(parents=True)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "lost").symlink_to(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_bytes(b"first")
    before = sorted(tmp_path.rglob("*"))
    for name in ("bare", "link", "lost", "file", "more", "new"):
        with pytest.raises(UserError, match=rf"{name} exists with another content; choose another --out$"):
            fill(tmp_path / name, b"other")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "new" / "sub" / "file").read_bytes() == b"first"


def test_of_many_at_once_one_writes(tmp_path, monkeypatch):
    """Each with a process number of its own."""
    refused, numbers = [], threading.local()
    monkeypatch.setattr("jaxgen.files.os.getpid", lambda: numbers.own)
    barrier = threading.Barrier(8)

    def write(number):
        numbers.own = number
        barrier.wait()
        try:
            write_new(tmp_path / "x.npz", bytes([number]) * 100_000)
        except UserError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(range(8)) - set(refused)
    assert (tmp_path / "x.npz").read_bytes() == bytes([winner]) * 100_000


def test_a_run_folder_that_another_process_made_meanwhile(run, tmp_path, monkeypatch):
    out = tmp_path / "run"
    described = run.plan.described()

    def made_meanwhile(self):
        out.mkdir()
        (out / "theirs").write_text("theirs")
        return described

    monkeypatch.setattr(type(run.plan), "described", made_meanwhile)
    with pytest.raises(UserError, match=rf"^{out} exists; choose another --out$"):
        folder.create(out, run.plan)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "theirs"]


EXPERIMENT = """
from jaxgen.comparison.experiment import Arm, Experiment
from jaxgen.evaluation import Scoring
from jaxgen.training import Settings
experiment = Experiment(title="t", settings=Settings(seeds=(0, 1), steps=2), arms={"a": Arm("naive_bayes")},
    scoring=Scoring(metrics=("kid",), extractor="nowhere.safetensors"))
"""


def test_a_comparison_without_its_extractor_trains_nothing(here):
    Path("e.py").write_text(EXPERIMENT)
    with pytest.raises(UserError, match=r"^no extractor file nowhere\.safetensors$"):
        compare("e.py", out="out", progress=False)
    assert not Path("out").exists()
