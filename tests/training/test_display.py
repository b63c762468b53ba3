"""Progress of a run: lines if stderr is not a terminal, and a bar that fits a terminal's width."""

import io
import math
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from jaxgen import progress
from jaxgen.data import store
from jaxgen.data.images import Transform
from jaxgen.training import display

PLAN = SimpleNamespace(model_name="gan", settings=SimpleNamespace(seeds=(0, 1), batch_size=8))
ROWS = {
    0: {"gradient": 7.0, "loss": 1.0, "the_other_loss": 2.0},
    1: {"gradient": 8.0, "loss": 3.0, "the_other_loss": 2},
}


@pytest.fixture
def clock(monkeypatch):
    """Seconds, by which both the rates and rich's time left are taken."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(display.time, "monotonic", lambda: now.seconds)
    return now


def shown(monkeypatch, width: int) -> str:
    """Shows a run at step 1,200 of 20,000 on a terminal of so many columns."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(display, "Console", lambda **_: console)
    bar = display.Progress(PLAN, shown=True)
    bar.start(0, 20_000)
    bar.compiled(0)
    bar.advance(1200, ROWS)
    with console.capture() as captured:
        for part in bar._bar.get_renderables():
            console.print(part)
    return captured.get()


@pytest.mark.parametrize("width", [200, 80, 60, 59, 40])
def test_every_width_shows_the_step_and_the_loss(monkeypatch, clock, width):
    lines = shown(monkeypatch, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "gan, 2 seeds" in lines[0]
    assert "1200/20000" in lines[0]
    assert lines[1].startswith("loss 2  the_other_loss 2")
    assert bool(set("━╸") & set(lines[0])) == (width >= display.NARROW)


@pytest.mark.parametrize(
    ("name", "title", "first", "second"),
    [
        ("", "gan, 2 seeds", "gan: note", "seed 1 diverged"),
        ("gan", "gan, 2 seeds", "gan: note", "gan: seed 1 diverged"),
        ("wide", "wide: gan, 2 seeds", "wide: gan: note", "wide: seed 1 diverged"),
    ],
)
def test_lines_of_an_arm_name_it_once(monkeypatch, name, title, first, second):
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    monkeypatch.setattr(display, "Console", lambda **_: console)
    bar = display.Progress(PLAN, shown=False, name=name)
    bar.start(0, 9)
    assert bar._line() == f"{title}: step 0 of 9, compiling"
    bar.say("gan: note")
    bar.say("seed 1 diverged")
    assert console.file.getvalue().splitlines() == [first, second]


def test_compiling_ends_when_it_ends_and_the_first_rows_have_a_rate(clock):
    bar = display.Progress(PLAN, shown=False)
    assert bar._line() == ""
    bar.start(100, 400)
    assert bar._line() == "gan, 2 seeds: step 100 of 400, compiling"
    clock.seconds = 60.0
    bar.compiled(100)
    assert bar._line() == "gan, 2 seeds: step 100 of 400"
    clock.seconds = 62.0
    bar.advance(150, ROWS)  # 50 steps of 8 images of 2 seeds in 2 seconds, without those of compiling
    line = bar._line()
    assert line.startswith("gan, 2 seeds: step 150 of 400, ")
    assert line.endswith("400 images/s, loss 2, the_other_loss 2, gradient 7.5")
    clock.seconds = 62.1
    bar.advance(200, ROWS)  # dispatched ahead: too soon for a rate
    assert "step 200 of 400" in bar._line()
    assert "400 images/s" in bar._line()


@pytest.mark.parametrize(
    ("limit", "left"), [(math.inf, "0:03:08"), (600.0, "0:03:08"), (100.9, "0:01:40"), (-1, "0:00:00")]
)
def test_the_time_left_is_that_of_the_steps_or_of_the_minutes(monkeypatch, clock, limit, left):
    """1,200 of 20,000 steps in 12 seconds leave 188 seconds."""
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(display, "Console", lambda **_: console)
    bar = display.Progress(PLAN, shown=True)
    bar._bar.get_time = lambda: clock.seconds
    bar.start(0, 20_000, lambda: limit)
    bar.compiled(0)
    for step in (600, 1200):
        clock.seconds = step / 100
        bar.advance(step, ROWS)
    with console.capture() as captured:
        console.print(*bar._bar.get_renderables())
    assert f" {left} " in captured.get()
    assert (f", {left} left" in bar._line()) == (left != "0:00:00")


def test_lines_come_ever_more_seldom(monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0.05)
    monkeypatch.setattr(progress, "LAST", 0.2)
    console, count = Console(file=io.StringIO(), width=20), 0

    def line():
        nonlocal count
        count += 1
        return "" if count == 2 else f"[run] is at step {count}, and long"

    begun = time.monotonic()
    with progress.Lines(console, line):
        while count < 4:  # after 0.05, 0.15, 0.35, 0.55 seconds
            time.sleep(0.01)
    assert time.monotonic() - begun > 0.5
    said = console.file.getvalue().splitlines()
    assert said == [f"[run] is at step {n}, and long" for n in (1, 3, 4)]
    time.sleep(0.3)
    assert count == 4


@pytest.mark.parametrize(("shown", "terminal"), [(False, False), (False, True), (True, True)])
def test_no_lines_on_a_terminal_nor_where_none_are_asked_for(monkeypatch, shown, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal)
    monkeypatch.setattr(display, "Console", lambda **_: console)
    with display.Progress(PLAN, shown=shown) as bar:
        bar.start(0, 10)
        assert bar._lines is None
    assert "gan, 2 seeds: step" not in console.file.getvalue()


def test_evaluation_says_its_metric_in_lines(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=False)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    monkeypatch.setattr(progress, "FIRST", 0.05)
    with progress.Progress(True) as bar:
        assert bar._line() == ""
        bar.start("", 0)
        assert bar._line() == ""
        bar.more(4)
        bar.say("run: kid")
        bar.advance()
        while not console.file.getvalue():
            time.sleep(0.01)
    assert console.file.getvalue().splitlines()[0] == "run: kid: 1 of 4"


class Slow:
    """Records that take their time."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        time.sleep(0.01)
        return {"image": np.full((2, 2, 1), index, np.uint8)}


@pytest.mark.parametrize("shown", [True, False])
def test_reading_says_how_far_it_is_in_lines(monkeypatch, shown):
    console = Console(file=io.StringIO(), force_terminal=False, width=10)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    monkeypatch.setattr(progress, "FIRST", 0.02)
    monkeypatch.setattr(store, "AT_ONCE", 1)
    read = store._examples(Slow(), "mine train", Transform(), shown, False)
    assert [example["image"][0, 0, 0] for _, example in read] == list(range(40))
    lines = console.file.getvalue().splitlines()
    assert bool(lines) == shown
    counts = [int(re.fullmatch(r"reading mine train: (\d+) of 40", line)[1]) for line in lines]
    assert counts == sorted(counts)
    assert not shown or counts[-1] > 0
