"""Notebooks: as executed and committed, and executed again with small settings."""

import json
import os
import re
import struct
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jaxgen.training import open_run

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
QUICKSTART_PICTURES = ["digits", "curves", *("samples", "interpolation") * 2, "reconstructions"]


def read(name: str) -> dict[str, Any]:
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())


def code_cells(notebook) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def sources(notebook) -> list[str]:
    return ["".join(cell["source"]) for cell in code_cells(notebook)]


def outputs(notebook) -> list[dict]:
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def printed(notebook) -> str:
    """Returns the cells' stdout, and checks that nothing went to another stream."""
    streams = [output for output in outputs(notebook) if output["output_type"] == "stream"]
    by_pip = {"stderr"} if os.environ.get("JAXGEN_NOTEBOOK_SOURCE") else set()  # pip's warnings, if it is run
    assert {"stdout"} <= {output["name"] for output in streams} <= {"stdout"} | by_pip
    return "".join("".join(output["text"]) for output in streams)


def picture_sizes(notebook) -> list[tuple[int, int]]:
    """Returns (width, height) of every picture, from its PNG header."""
    pictures = [output["data"]["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})]
    return [struct.unpack(">II", b64decode("".join(picture))[16:24]) for picture in pictures]


def grid_size(rows: int, columns: int, side: int = 16, scale: int = 2) -> tuple[int, int]:
    """Size of a grid of images with lines of one pixel, enlarged."""
    return scale * ((side + 1) * columns - 1), scale * ((side + 1) * rows - 1)


# Checks of an executed notebook that hold for any settings


def check_quickstart(notebook, settings) -> None:
    seeds, steps, text = settings["SEEDS"], settings["STEPS"], printed(notebook)
    for model in ("vae", "dcgan"):
        assert f"{model}: {steps} steps, 0 of {seeds} seeds diverged" in text
    assert len(re.findall(r"^  digest \d [0-9a-f]{16}", text, re.MULTILINE)) == 2 * seeds
    sizes = picture_sizes(notebook)
    del sizes[QUICKSTART_PICTURES.index("curves")]
    assert sizes == [grid_size(2, 16), *[grid_size(seeds, 16)] * 4, grid_size(1 + seeds, 16)]


def check_convolutions(notebook, settings) -> None:
    text = printed(notebook)
    # worked out by hand: 1 - 1 = 0, 2 - 4 = -2, 3 - 2 = 1, 1 - 5 = -4
    assert text.count("[[ 0. -2.]\n [ 1. -4.]]") == 2
    assert text.count("[[ 0.  2.]\n [-1.  4.]]") == 1
    assert len(re.findall(r"^equal: .* and SciPy$", text, re.MULTILINE)) == 6
    assert text.count("equal: ") == 17
    assert "pixel lies in 1 or 2 or 4 patches" in text
    assert "inside, a pixel lies in 4 patches" in text
    assert len(picture_sizes(notebook)) == 3


def check_read_a_model(notebook, settings) -> None:
    text = printed(notebook)
    # the loss of a step, by the model and by hand, is the same number
    terms = re.search(r"^\{'kl': (.*), 'loss': (.*), 'reconstruction': (.*)\}$", text, re.MULTILINE)
    by_hand = re.search(r"^by hand: loss (.*), reconstruction (.*), kl (.*)$", text, re.MULTILINE)
    assert terms
    assert by_hand
    kl, loss, reconstruction = map(float, terms.groups())
    assert abs(loss - (kl - reconstruction)) < 0.02
    assert [float(value) for value in by_hand.groups()] == pytest.approx([loss, reconstruction, kl], abs=0.011)
    assert "each moved by 0.001, as by hand" in text
    for arm in ("five", "two"):
        (scores,) = re.findall(rf"^{arm} +((?:-\d+\.\d+ *)+)$", text, re.MULTILINE)
        assert len(scores.split()) == settings["SEEDS"]
    few = settings["SEEDS"] < 4  # 2 / 6 and 2 / 20 are over .05, 2 / 70 is not
    assert ("Not enough seeds to tell" in text) == few
    assert len(picture_sizes(notebook)) == 1


def check_text_to_image(notebook, settings) -> None:
    text = printed(notebook)
    assert f"{settings['STEPS']} steps, 0 of 1 seed diverged" in text
    assert "20,000 training pictures, 2,000 test pictures" in text
    rows = re.findall(r"^(real.*?|stackgan.*?)  +((?: *[01]\.\d{3}){5})$", text, re.MULTILINE)
    shares = {name: float(values.split()[0]) for name, values in rows}
    assert len(shares) == 5
    assert shares["real against real"] > 0.98
    assert 0.6 < shares["real at 16x16"] < 0.85
    assert shares["real, others' captions"] < 0.1
    assert len(picture_sizes(notebook)) == 4


def check_likelihoods(notebook, settings) -> None:
    text, steps = printed(notebook), settings["STEPS"]
    for model in ("vae", "pixelcnn", "transformer"):
        assert f"{model}: {steps} steps, {'bound' if model == 'vae' else 'exact'}, uint8" in text
    rows = re.findall(r"^(\S+(?:, untrained)?) +(exact|bound) +(-\d+\.\d) +(\d+\.\d\d)$", text, re.MULTILINE)
    assert [name for name, *_ in rows[::2]] == ["naive_bayes", "vae", "pixelcnn", "transformer"]
    for _, _, nats, bits in rows:  # 64 log 2 = 44.3614
        assert float(bits) == pytest.approx(-float(nats) / 44.3614, abs=0.01)
    scores = {name: float(nats) for name, _, nats, _ in rows}
    if steps * 32 >= 808:  # it only counts, and has counted each image
        assert scores["naive_bayes"] == pytest.approx(-116.4, abs=0.1)
    else:
        assert -130 < scores["naive_bayes"] < -116.4
    assert all(scores[name] > scores[f"{name}, untrained"] for name in ("vae", "pixelcnn", "transformer"))
    assert "difference: 354.6" in text  # 64 log 255
    assert picture_sizes(notebook)[1:] == [grid_size(5, 16, side=8, scale=3)]


class Notebook(NamedTuple):
    """A notebook's check, its smallest settings, and what its pictures may take."""

    check: Callable[[Any, dict[str, int]], None]
    smallest: dict[str, int]
    size: int = 400_000


OF = {
    "quickstart": Notebook(check_quickstart, {"SEEDS": 2, "STEPS": 60}, 1_000_000),
    "convolutions": Notebook(check_convolutions, {}),
    "read_a_model": Notebook(check_read_a_model, {"SEEDS": 2, "STEPS": 20}),
    "text_to_image": Notebook(check_text_to_image, {"STEPS": 8}),
    "likelihoods": Notebook(check_likelihoods, {"SEEDS": 1, "STEPS": 20}),
}


def check(name: str, notebook, settings: dict[str, int]) -> None:
    assert [cell["execution_count"] for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert all(output["output_type"] != "error" for output in outputs(notebook))
    OF[name].check(notebook, settings)


def executed(name: str, folder: Path, monkeypatch):
    """Executes a notebook in a folder with its smallest settings."""
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} comes with the extra notebook")
    import nbformat
    from nbclient import NotebookClient

    for setting, value in OF[name].smallest.items():
        monkeypatch.setenv(f"JAXGEN_NOTEBOOK_{setting}", str(value))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def test_every_notebook_is_tested_and_installs_jaxgen_alike():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(OF)
    for name in OF:
        assert sources(read(name))[:1] == sources(read("quickstart"))[:1]


@pytest.mark.parametrize("name", OF)
def test_a_notebook_is_committed_as_executed_with_its_own_settings(name):
    notebook, written = read(name), (NOTEBOOKS / f"{name}.ipynb").read_text()
    default = {
        key: int(value) for key, value in re.findall(r'JAXGEN_NOTEBOOK_(\w+)", (\d+)', "".join(sources(notebook)))
    }
    assert set(default) == set(OF[name].smallest)
    check(name, notebook, default)
    assert len(written) < OF[name].size
    # an absolute path would be specific to the machine that executed it
    assert not re.findall(r"(?<![\w./:<])/(?!/)[\w.-]+/[\w./-]+", printed(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OF if name != "quickstart"])
def test_a_notebook_is_executed_with_small_settings(name, tmp_path, monkeypatch):
    check(name, executed(name, tmp_path, monkeypatch), OF[name].smallest)


@pytest.mark.slow
def test_the_quickstart_is_executed_with_small_settings(tmp_path, monkeypatch):
    notebook = executed("quickstart", tmp_path, monkeypatch)

    check("quickstart", notebook, OF["quickstart"].smallest)
    runs = tmp_path / "runs" / "quickstart-2-seeds-60-steps"
    text = printed(notebook)
    for model in ("vae", "dcgan"):
        for seed, digest in open_run(runs / model).digests().items():
            assert f"digest {seed} {digest[:16]}" in text
    # the comparison reused the runs, and says what so few seeds allow
    assert not list(runs.glob("*.aside-*"))
    assert text.count("Not enough seeds to tell") == 2
    assert (runs / "report.html").stat().st_size > 0
