"""Dataset files of a user's own: what they give, when they are read anew, and what is refused."""

import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.options import Options
from jaxgen.errors import UserError
from jaxgen.evaluation import networks
from jaxgen.training import Settings, open_run, train
from jaxgen.training.status import verified

WHOLE = """
import numpy as np
from jaxgen.data.source import Source

def read(options):
    def split(seed):
        rng = np.random.default_rng(seed)
        return {"image": rng.integers(0, 256, (9, 8, 8, 1), np.uint8), "label": np.arange(9) % 3}
    return Source({"test": split(2), "train": split(0), "validation": split(1)}, note="noise", classes=tuple("abc"))
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "digits.py").write_text(WHOLE)
    return tmp_path / "digits.py"


def test_its_content_is_loaded_under_its_own_name(file):
    found = data.load(str(file), progress=False)
    assert (found.name, found.classes, found.note) == ("digits.py", ("a", "b", "c"), "noise.")
    for seed, split in enumerate((found.train, found.validation, found.test)):
        expected = np.random.default_rng(seed).integers(0, 256, (9, 8, 8, 1), np.uint8)
        np.testing.assert_array_equal(split["image"], expected)
        np.testing.assert_array_equal(split["label"], np.arange(9) % 3)
    assert networks.SHIPPED.get(found.name) is None  # jaxgen's own digits have shipped networks


def test_a_run_is_opened_from_any_folder(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = Settings(dataset="./digits.py", seeds=(0,), steps=2, batch_size=3, log_every=2)
    run = train("naive_bayes", None, how, progress=False)
    assert run.path.name == "naive_bayes-digits.py"
    path = run.path.absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened = open_run(path)
    assert opened.digests() == run.digests()
    (tmp_path / "elsewhere" / "digits.py").write_text(WHOLE.replace("default_rng(seed)", "default_rng(7)"))
    expected = np.random.default_rng(2).integers(0, 256, (9, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(opened.plan.dataset.test["image"], expected)
    assert opened.plan.dataset.name == "digits.py"
    assert ("data", f"digits.py, fingerprint {run.plan.dataset.fingerprint[:12]}", "ok") in verified(path)
    train("naive_bayes", None, Settings(**{**vars(how), "dataset": str(file)}), out=path, resume=True, progress=False)
    file.write_text(WHOLE.replace("% 3", "% 2"))
    changed = Settings(**{**vars(how), "dataset": str(file), "steps": 4})
    with pytest.raises(UserError, match=r"content of dataset digits\.py"):
        train("naive_bayes", None, changed, out=path, resume=True, progress=False)


def test_it_is_read_anew_when_its_code_or_its_content_changes(file):
    def identity():
        return data.identity(str(file))

    first = identity()
    assert identity() == first
    file.write_text(WHOLE + "from beside import IDENTITY\ndef identity(options): return IDENTITY\n")
    (file.parent / "beside.py").write_text("IDENTITY = 'a'\n")
    second = identity()
    (file.parent / "beside.py").write_text("IDENTITY = 'a'  # the same\n")
    third = identity()
    (file.parent / "beside.py").write_text("from pathlib import Path\nIDENTITY = Path(__file__).name\n")
    assert len({first, second, third, identity()}) == 4


def test_it_takes_files(file):
    (file.parent / "seed").write_text("7")
    file.write_text(
        WHOLE.replace("default_rng(seed)", "default_rng(int(options.data_folder.read_text()))")
        + "def identity(options): return options.data_folder.read_text()\n"
    )
    found = data.load(str(file), data_from=str(file.parent / "seed"), progress=False)
    np.testing.assert_array_equal(
        found.train["image"], np.random.default_rng(7).integers(0, 256, (9, 8, 8, 1), np.uint8)
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import numpy as np", "import nmpy", "cannot be imported: ModuleNotFoundError: No module named 'nmpy'"),
        ("def read(", "def reed(", r"has no function read\(options\) that returns a jaxgen.data.source.Source"),
        ("return Source(", "return dict(", "read must return a jaxgen.data.source.Source, not dict"),
        (
            "    return Source(",
            "    1 / 0\n    return Source(",
            r"read raised ZeroDivisionError \(line 9\): division by",
        ),
        ("    return Source(", "    return 3\n    return Source(", "read must return a .*Source, not int"),
        ('"test": split(2), ', "", "splits must be a dict of train, validation, test"),
        ("np.uint8", "np.int64", r"image of test must be uint8 with 1 or 3 channels last, not int64 \[9, 8, 8, 1\]"),
        ("(9, 8, 8, 1)", "(9, 1, 8, 8)", r"image of test must be uint8 with 1 or 3 channels last, not uint8 \[9, 1, 8"),
        ("(9, 8, 8, 1)", "(9, 8, 8)", r"image of test must be an array of 4 axes with examples, not \[9, 8, 8\]"),
        ("(9, 8, 8, 1)", "(9, 8, 8 + seed, 1)", r"image of test is \[8, 10, 1\], that of train \[8, 8, 1\]"),
        ("np.arange(9)", "np.arange(8)", "entries of test differ in length: {'image': 9, 'label': 8}"),
        ("np.arange(9)", "np.arange(9.0)", "label of test must be whole numbers, not float64"),
        ('"label"', '"labels"', "test has an entry 'labels'; there are image, label, caption, point, mesh"),
        (', classes=tuple("abc")', "", "labels need classes, their names, in the Source"),
        ('tuple("abc")', 'tuple("ab")', "label 2 is out of range: there are 2 classes"),
    ],
)
def test_what_is_refused(file, old, new, message):
    assert old in WHOLE
    file.write_text(WHOLE.replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        data.load(str(file), progress=False)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(UserError, match=r"^there is no file \./absent\.py$"):
        data.load("./absent.py")
    assert Options("a/b/mine.py").shown == "mine.py"
    assert (Options("gaussians/grid").shown, Options("mnist").shown) == ("gaussians/grid", "mnist")
