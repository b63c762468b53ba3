"""Changes that mutation testing makes."""

import pytest

from tests.mutations import ROOT, TESTS, mutations


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a + b", ["a - b"]),
        ("(a) * (b)", ["(a) / (b)"]),
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("a ** 2", ["a * 2", "a ** 3"]),
        ("é != -1.5", ["é == -1.5", "é != -3.0"]),
        ("f(True, 0.0)", ["f(0.0, True)", "f(False, 0.0)", "f(True, 1.0)"]),
        ("jax.lax.stop_gradient(f(x))", ["f(x)"]),
        ("f(x,  g(y), z)", ["f(g(y),  x, z)"]),
        ("f(*x, y, a=b)", []),
        ("np.minimum(min(x, y), z)", []),
        ("f'{1 + 2}'", []),
        ("x: Literal[1] | None = None", []),
        ("def f(x: int = 1) -> 2: '''3'''", ["def f(x: int = 2) -> 2: '''3'''"]),
        ("a and not b in c", []),
    ],
)
def test_changes_by_hand(source, expected):
    encoded = source.encode()
    assert sorted(change.applied(encoded).decode() for change in mutations(encoded)) == sorted(expected)


def test_every_file_has_its_tests():
    assert not [name for paths in TESTS.items() for name in (paths[0], *paths[1]) if not (ROOT / name).is_file()]
