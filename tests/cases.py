"""Cases of a parametrized test, of which a few run always and the others with --slow."""

from collections.abc import Iterable
from typing import Any

import pytest


def some_slow(cases: Iterable[Any], quick: Any = 1) -> list[Any]:
    """Marks cases as slow: all but the first `quick`, or all but those in `quick`."""
    cases = list(cases)
    kept = cases[:quick] if isinstance(quick, int) else [case for case in cases if case in quick]
    return [
        case if case in kept else pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.slow)
        for case in cases
    ]
