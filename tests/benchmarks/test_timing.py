"""Rounds, ratios and the shared command line, with contenders that advance a fake clock."""

import json
from dataclasses import dataclass

import jax
import pytest
from jaxgen.experiments.benchmarks import timing

from jaxgen.errors import UserError


@pytest.fixture(autouse=True)
def half_a_second(monkeypatch):
    """Sets the minimum duration of a timed call."""
    monkeypatch.setattr(timing, "LEAST", 0.5)


class Clock:
    """A clock that only contenders advance."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def contender(self, name, seconds, compiling=0.0):
        first = [compiling]

        def run(steps):
            self.calls.append((name, steps))
            self.now += seconds * steps + (first.pop() if first else 0)

        return run


def test_every_round_has_every_contender_once_in_a_rotated_order():
    clock = Clock()
    runs = {name: clock.contender(name, 1.0) for name in "abc"}
    timings = timing.interleaved(runs, 4, clock)
    rounds = [name for name, _ in clock.calls[-12:]]
    assert [rounds[n : n + 3] for n in range(0, 12, 3)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert all(timed == (1, [1.0] * 4) for timed in timings.values())


def test_a_call_lasts_long_enough_and_compiling_is_not_timed():
    clock = Clock()
    timings = timing.interleaved({"quick": clock.contender("quick", 0.001, compiling=30.0)}, 2, clock)
    steps, seconds = timings["quick"]
    assert 500 <= steps <= 600
    assert seconds == [pytest.approx(0.001)] * 2


def test_a_step_that_is_slow_for_a_while_does_not_settle_the_number_of_steps():
    clock = Clock()
    costs = [0.0, 0.6] + [0.01] * 100  # of calls: the second is slow, as if another process had the machine

    def run(steps):
        clock.now += costs.pop(0) * steps

    assert timing.interleaved({"run": run}, 1, clock)["run"].steps >= 50


def test_a_slow_contender_takes_one_step_a_call_in_three_rounds():
    clock = Clock()
    runs = {"slow": clock.contender("slow", 6.0), "quick": clock.contender("quick", 1.0)}
    timings = timing.interleaved(runs, 5, clock)
    assert timings["slow"] == (1, [6.0] * 3)
    assert timings["quick"] == (1, [1.0] * 5)
    assert [name for name, _ in clock.calls].count("slow") == 3 + 2  # and two warm-up calls: one compiles, one is timed
    assert timing.ratio(timings["slow"].seconds, timings["quick"].seconds) == {"ratio": 6, "low": 6, "high": 6}


def test_ratio_is_taken_within_rounds():
    assert timing.ratio([2, 9, 8, 1], [1, 3, 2]) == {"ratio": 3, "low": 2, "high": 4}
    assert timing.ratio([1, 1], [2, 4]) == {"ratio": 0.375, "low": 0.25, "high": 0.5}


def test_matmul_rate_is_operations_over_seconds(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.01)
    monkeypatch.setattr(timing, "interleaved", lambda runs, rounds: {name: timing.Timed(1, [2e-3]) for name in runs})
    assert timing.matmul_rate(size=100) == pytest.approx(2 * 100**3 / 2e-3 / 1e9)


def test_matmul_rate_runs(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.001)
    assert 0.01 < timing.matmul_rate("bfloat16", size=64) < 1e6


def test_the_machine_is_described(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    machine = timing.machine()
    assert machine["jax"] == jax.__version__
    assert machine["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    assert machine["memory_gib"] > 0.1
    assert {"cpu", "cores", "python", "platform", "backend", "device", "flax", "optax", "commit"} <= set(machine)
    json.dumps(machine)


# The shared command line


@dataclass(frozen=True)
class Options:
    """Add numbers up.

    To show a command.
    """

    terms: tuple[int, ...] = (1, 2)  # what is added
    rounds: int = 3  # how often


def measure(options):
    if not options.rounds:
        raise UserError("rounds must be\nabove 0")
    return {"sum": sum(options.terms)}


def call(*argv):
    return timing.main("adding", Options, measure, lambda result: f"it is {result['sum']}", argv)


def test_prints_a_table_or_one_object_and_writes_that_object(capsys, tmp_path):
    assert call("--terms", "3", "4") == 0
    assert capsys.readouterr().out == "it is 7\n"

    out = tmp_path / "result.json"
    out.write_text("an older result")
    assert call("--terms", "3", "4", "--json", "--out", str(out)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    assert (result["benchmark"], result["sum"]) == ("adding", 7)
    assert result["arguments"] == {"terms": [3, 4], "rounds": 3}
    assert len(result["date"]) == len("2026-01-31")
    assert result["machine"]["cores"] >= 1
    assert list(tmp_path.iterdir()) == [out]


def test_help_explains_every_option(capsys):
    assert call("--help") == 0
    words = " ".join(capsys.readouterr().out.split())
    for part in ("python -m experiments.benchmarks.adding", "Add numbers up.", "what is added", "how often", "--json"):
        assert part in words


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rounds", "many"], "--rounds takes a whole number, not 'many'"),
        (["--round", "1"], "Unrecognized options: --round"),
        (["--rounds", "0"], "rounds must be above 0"),
        (["--out", "missing/result.json"], "cannot write missing/result.json: there is no folder missing"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxgen: error: ")
    assert err.index("\n") == len(err) - 1
    assert words in err
