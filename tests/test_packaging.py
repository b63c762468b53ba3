"""The wheel and the sdist contain everything that is needed, and no more."""

import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = {f"jaxgen/report/{name}" for name in ("page.html", "page_parts.html", "page.css", "page.js", "card.md")}
PAGE |= {f"jaxgen/portable/{name}" for name in ("interpreter.js", "page.html", "page.css", "page.js", "usage.md")}
WEIGHTS = {
    f"jaxgen/evaluation/weights/{name}-{role}.safetensors"
    for name in ("digits", "mnist", "fashion_mnist")
    for role in ("extractor", "judge")
}


def modules() -> set[str]:
    """Returns every Python file of the package, as named in the wheel."""
    files = [*(ROOT / "jaxgen").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    names = {str(file.relative_to(ROOT)) for file in files}
    return {re.sub("^experiments/", "jaxgen/experiments/", name) for name in names}


def test_every_package_is_listed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = {str(Path(file).parent).replace("/", ".") for file in modules() if file.endswith("/__init__.py")}
    assert set(config["options"]["packages"].split()) == folders


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Builds the sdist, and the wheel from it, with `python -m build` in a copy of the checkout."""
    pytest.importorskip("build", reason="`build` comes with the extra dev")
    folder = tmp_path_factory.mktemp("packaging")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("jaxgen", "experiments", "tests"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    ran = subprocess.run(
        [sys.executable, "-m", "build", *_isolation(), "--outdir", str(folder / "dist"), str(folder / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "dist"


def _isolation() -> list[str]:
    """Options for a build without isolation if its requirements are installed, which downloads nothing."""
    try:
        importlib.metadata.version("wheel")
        enough = int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        enough = False
    return ["--no-isolation"] if enough else []


@pytest.fixture(scope="module")
def wheel(built):
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(built):
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        yield archive


@pytest.mark.slow
def test_the_wheel_has_every_module_and_the_files_they_read(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert "jaxgen/experiments/digits.py" in names
    assert names == modules() | PAGE | WEIGHTS


@pytest.mark.slow
def test_the_wheel_says_what_it_is(wheel):
    names = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert wheel.read(names["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
    assert wheel.read(names["entry_points.txt"]).decode().split() == [
        "[console_scripts]", "jaxgen", "=", "jaxgen.cli:program",
    ]  # fmt: skip
    metadata = wheel.read(names["METADATA"]).decode()
    for line in (
        "Name: jaxgen",
        "Version: 0.1.0",
        "Requires-Python: >=3.11",
        "Description-Content-Type: text/markdown",
    ):
        assert line in metadata.splitlines()
    assert metadata.endswith((ROOT / "README.md").read_text())


@pytest.mark.slow
def test_the_sdist_has_what_the_wheel_is_made_of_and_no_tests(sdist):
    (top,) = {name.partition("/")[0] for name in sdist.getnames()}
    names = {member.name.removeprefix(f"{top}/") for member in sdist.getmembers() if member.isfile()}
    sources = {re.sub("^jaxgen/experiments/", "experiments/", name) for name in modules()}
    assert sources <= names
    assert {"setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"} <= names
    assert names >= PAGE | WEIGHTS
    assert not [name for name in names if name.startswith("tests")]
