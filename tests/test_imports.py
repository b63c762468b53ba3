"""Modules that tests import from each other."""

from importlib.machinery import PathFinder
from pathlib import Path

import tests

ROOT = Path(__file__).parents[1]


def test_an_installed_package_of_the_same_name_does_not_hide_the_tests(tmp_path):
    """A package with a file of its own is found before one without, however early that stands in the path."""
    other = tmp_path / "tests" / "__init__.py"
    other.parent.mkdir()
    other.touch()
    assert PathFinder.find_spec("tests", [str(tmp_path)]).origin == str(other)
    assert PathFinder.find_spec("tests", [str(ROOT), str(tmp_path)]).origin == str(ROOT / "tests" / "__init__.py")
    assert Path(tests.__file__) == ROOT / "tests" / "__init__.py"
