"""Notebooks: as executed and committed, and executed again with small settings."""

import json
import os
import re
import struct
from base64 import b64decode
from pathlib import Path

import pytest

from jaxgen.training import open_run

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
PICTURES = ["digits", "curves", *("samples", "interpolation") * 2, "reconstructions"]


def code_cells(notebook) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


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


def grid_size(rows: int, columns: int) -> tuple[int, int]:
    """Size of a grid of 16-pixel images with lines of one pixel, enlarged twofold."""
    return 2 * (17 * columns - 1), 2 * (17 * rows - 1)


def check(notebook, seeds: int, steps: int) -> None:
    """Checks properties of the executed quickstart that hold for any settings."""
    assert [cell["execution_count"] for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert all(output["output_type"] != "error" for output in outputs(notebook))
    text = printed(notebook)
    for model in ("vae", "dcgan"):
        assert f"{model}: {steps} steps, 0 of {seeds} seeds diverged" in text
    assert len(re.findall(r"^  digest \d [0-9a-f]{16}", text, re.MULTILINE)) == 2 * seeds
    sizes = picture_sizes(notebook)
    del sizes[PICTURES.index("curves")]
    assert sizes == [grid_size(2, 16), *[grid_size(seeds, 16)] * 4, grid_size(1 + seeds, 16)]


def test_the_quickstart_is_committed_as_executed_with_its_own_settings():
    written = QUICKSTART.read_text()
    default = {name: int(value) for name, value in re.findall(r'JAXGEN_NOTEBOOK_(\w+)\\", (\d+)', written)}
    check(json.loads(written), default["SEEDS"], default["STEPS"])
    assert len(written) < 1_000_000
    # an absolute path would be specific to the machine that executed it
    assert not re.findall(r"(?<![\w./:<])/(?!/)[\w.-]+/[\w./-]+", printed(json.loads(written)))


@pytest.mark.slow
def test_the_quickstart_is_executed_with_small_settings(tmp_path, monkeypatch):
    for name in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} comes with the extra notebook")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("JAXGEN_NOTEBOOK_SEEDS", "2")
    monkeypatch.setenv("JAXGEN_NOTEBOOK_STEPS", "60")
    notebook = nbformat.read(QUICKSTART, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    check(notebook, seeds=2, steps=60)
    runs = tmp_path / "runs" / "quickstart-2-seeds-60-steps"
    text = printed(notebook)
    for model in ("vae", "dcgan"):
        for seed, digest in open_run(runs / model).digests().items():
            assert f"digest {seed} {digest[:16]}" in text
    # the comparison reused the runs, and says what so few seeds allow
    assert not list(runs.glob("*.aside-*"))
    assert text.count("Not enough seeds to tell") == 2
    assert (runs / "report.html").stat().st_size > 0
