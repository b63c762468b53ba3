"""Real processes: killed, interrupted, and two on one run."""

import os
import resource
import signal
import subprocess
import time

import pytest

from jaxgen.errors import UserError
from jaxgen.signals import TOGETHER
from jaxgen.training.lock import is_locked, locked
from tests.faults import kills

pytestmark = pytest.mark.slow


RARELY = ("--checkpoint-every", "1000")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Digests and rows of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return kills.finish(kills.start(out)), (out / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def rarely(tmp_path_factory):
    """Digests and rows of an uninterrupted run that saves only at its end."""
    out = tmp_path_factory.mktemp("rarely") / "run"
    return kills.finish(kills.start(out, *RARELY)), (out / "metrics.jsonl").read_bytes()


def test_killed_at_random_moments(tmp_path):
    found = list(kills.kills(5, 1, tmp_path))
    assert [same for _, same in found] == [True] * 5
    assert len({step for step, _ in found}) > 1  # they were killed in the middle, not before or after


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 75),
        (signal.SIGINT, 130),
        (signal.SIGHUP, 129),
        (signal.SIGUSR1, 75),
        (signal.SIGUSR2, 75),
        (signal.SIGXCPU, 75),
    ],
)
def test_a_signal_saves_and_leaves_with_its_status(rarely, tmp_path, number, status):
    out = tmp_path / "run"
    process = kills.start(out, *RARELY)
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
        time.sleep(0.002)
    if number == signal.SIGXCPU:  # a limit that is passed: the signal comes at once and again every second
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (1, most))
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    (step,) = (int(each.name) for each in (out / "checkpoints").iterdir())
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"jaxgen: stopped at step {step} of 200, which is saved; --resume resumes from")
    assert "Traceback" not in err
    assert not is_locked(out)
    assert kills.finish(kills.start(out, *RARELY, "--resume")) == rarely[0]
    assert (out / "metrics.jsonl").read_bytes() == rarely[1]


def test_a_second_signal_ends_at_once_and_loses_no_checkpoint(whole, tmp_path):
    out = tmp_path / "run"
    process = kills.start(out)
    kills.until_checkpoint(out, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(TOGETHER + 0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 75
    assert kills.finish(kills.start(out, "--resume")) == whole[0]
    assert (out / "metrics.jsonl").read_bytes() == whole[1]


def test_a_second_process_is_refused_and_names_the_first(whole, tmp_path):
    out = tmp_path / "run"
    first = kills.start(out)
    kills.until_checkpoint(out, first)
    first.send_signal(signal.SIGSTOP)
    assert is_locked(out)
    second = kills.start(out, "--resume")
    _, err = second.communicate(timeout=300)
    first.send_signal(signal.SIGCONT)
    assert (second.returncode, err) == (
        2,
        f"jaxgen: error: {out} is in use by process {first.pid} on {os.uname().nodename}\n",
    )
    assert kills.finish(first) == whole[0]


def test_a_lock_left_by_a_dead_process_is_taken(tmp_path):
    held = subprocess.run(
        [
            kills.sys.executable,
            "-c",
            f"import os; open({str(tmp_path / 'lock')!r}, 'w').write('process 1 on x'); os._exit(9)",
        ]
    )
    assert held.returncode == 9
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(UserError, match=rf"^{tmp_path} is in use by process {os.getpid()} on "), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass
