"""Docstrings begin with a noun or a verb, so that `help()` reads well without the line above them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNFIT = re.compile(
    r"(Of|What|Which|Whether|Where|By|How|In|As|At|To|For|From|With|Without|That|Those|Than|If|When|On|Beside|Before|"
    r"After|Between|Above|Below|Not|So|Also|Its|Their|It|They|Them|Else)\b"
)


def unfit(source: str) -> list[tuple[int, str]]:
    """Returns (line number, first line) of docstrings, those of constants included, with an unfit first word."""
    bodies = [body for node in ast.walk(ast.parse(source)) if isinstance(body := getattr(node, "body", None), list)]
    texts = [(part.lineno, part.value.value) for body in bodies for part in body if _is_text(part)]
    return sorted((line, text.strip().splitlines()[0]) for line, text in texts if UNFIT.match(text.strip()))


def _is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


@pytest.mark.parametrize("package", ["jaxgen", "experiments", "tests"])
def test_no_docstring_begins_with_an_unfit_word(package):
    found = [
        f"{file.relative_to(ROOT)}:{line}: {words}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for line, words in unfit(file.read_text(encoding="utf-8"))
    ]
    assert not found, "the first word of a docstring must be a noun or a verb:\n" + "\n".join(found)


def test_unfit_words_are_found_by_hand():
    source = '''"""Offers a module."""
WIDTH = 3
"""Of an image."""
def f():
    """
    What f returns.

    More.
    """
    "Formed differently."
class C:
    """In fields."""
    x: int
    """Number of x."""
'''
    assert unfit(source) == [(3, "Of an image."), (5, "What f returns."), (12, "In fields.")]
