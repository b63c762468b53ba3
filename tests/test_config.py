"""Configs as JSON holds them, and back."""

import enum
import json
import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from jaxgen.config import configured, plain
from jaxgen.errors import UserError, did_you_mean


class Mode(enum.Enum):
    """Members that are not their values."""

    FAST = "f"
    EXACT = 3


@dataclass(frozen=True)
class Inner:
    """A dataclass in another."""

    width: int = 3
    modes: tuple[Mode, ...] = (Mode.EXACT,)


@dataclass(frozen=True)
class Config:
    """Fields of every kind that is held."""

    rate: float = 0.1
    words: str = "é"
    flag: bool = False
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[Literal["a", "b"], float] | None = None
    place: Path = Path("some/where")
    places: tuple[Path, ...] = ()
    mode: Mode = Mode.FAST
    maybe: Mode | None = None
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()


HELD = [
    Config(),
    Config(rate=3.5, pair=("a", 2.0), place=Path("/x"), places=(Path("a"), Path("b/c"))),
    Config(mode=Mode.EXACT, maybe=Mode.FAST, inner=Inner(7, (Mode.FAST, Mode.EXACT))),
    Config(inners=(Inner(), Inner(9, ())), widths=()),
    Config(rate=math.inf),
]


@pytest.mark.parametrize("config", HELD)
def test_json_gives_the_same_config_back(config):
    held = json.loads(json.dumps(plain(config, "mine")))
    assert held == plain(config, "mine")
    back = configured(Config, held, "mine")
    assert back == config
    assert [type(getattr(back, each.name)) for each in fields(back)] == [
        type(getattr(config, each.name)) for each in fields(config)
    ]


def test_what_json_holds_by_hand():
    config = Config(place=Path("a/b"), mode=Mode.EXACT, inner=Inner(5), pair=("b", 1.0))
    held = plain(config, "mine")
    assert held["place"] == "a/b"
    assert held["mode"] == "EXACT"
    assert held["inner"] == {"width": 5, "modes": ["EXACT"]}
    assert held["pair"] == ["b", 1.0]
    assert held["maybe"] is None


def test_an_integer_is_a_float_where_a_float_is_wanted():
    made = configured(Config, {"rate": 2, "pair": ["a", 1]}, "mine")
    assert (made.rate, made.pair) == (2.0, ("a", 1.0))
    assert type(made.rate) is type(made.pair[1]) is float


@pytest.mark.parametrize(
    "value",
    [{1, 2}, np.zeros(3), np.float32(1), len, b"bytes", 1j, object(), {1: 2}, range(3), Mode],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_with_its_field(value):
    @dataclass(frozen=True)
    class Odd:
        other: int = 1
        thing: Any = field(default_factory=lambda: value)

    with pytest.raises(
        UserError, match=r"^mine's field thing holds .*, which a run's config.json cannot keep"
    ) as caught:
        plain(Odd(), "mine")
    assert "\n" not in str(caught.value)


def test_what_would_come_back_as_another_is_refused():
    """An Enum where the annotation does not say so would come back as its name."""

    @dataclass(frozen=True)
    class Odd:
        mode: Any = Mode.FAST

    with pytest.raises(UserError, match="mine's field mode holds"):
        plain(Odd(), "mine")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "SLOW"}, "mine's field mode takes FAST or EXACT, not 'SLOW'"),
        ({"mode": 3}, "mine's field mode takes FAST or EXACT, not 3"),
        ({"maybe": "f"}, "mine's field maybe takes FAST or EXACT or nothing, not 'f'"),
        ({"place": 3}, "mine's field place takes Path, not 3"),
        ({"inner": {"width": "wide"}}, "Inner's field width takes int, not 'wide'"),
        ({"inner": {"with": 3}}, "Inner has no field 'with': did you mean width"),
        ({"inner": 3}, "mine's field inner takes Inner, not 3"),
    ],
)
def test_a_value_of_another_kind_is_refused(values, words):
    with pytest.raises(UserError) as caught:
        configured(Config, values, "mine")
    assert words in str(caught.value)
    assert replace(Config()) == Config()


@dataclass(frozen=True)
class Together:
    """Fields that are valid only together, one of them required."""

    use: int
    limit: int = 0
    sizes: list[int] = field(default_factory=lambda: [1, 2])

    def __post_init__(self):
        if self.use > self.limit:
            raise ValueError("use exceeds limit")


def test_fields_that_are_valid_only_together_are_kept():
    config = Together(use=2, limit=3)
    assert plain(config, "mine") == {"use": 2, "limit": 3, "sizes": [1, 2]}
    assert configured(Together, plain(config, "mine"), "mine") == config


def test_names_that_end_with_the_unknown_one_are_meant():
    assert did_you_mean("rate", ["text_rate", "rats", "own_rate"]) == "did you mean text_rate or own_rate? "
    assert did_you_mean("rate", ["rats", "operate"]) == "did you mean rats? "
