"""A run on two processes: the same bits as one process with two devices, signals to either, and death of one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgen.training import open_run
from jaxgen.training.status import verified
from tests.faults import peer

pytestmark = pytest.mark.slow

STEPS = 64


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("localhost", 0))
        return some.getsockname()[1]


def start(out: Path, steps: int, *resume: str, seeds: str = "0,1") -> list[subprocess.Popen]:
    port = free_port()
    command = [sys.executable, "-m", "tests.faults.peer", str(port)]
    return [
        subprocess.Popen(
            [*command, str(number), str(out), str(steps), seeds, *resume],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]


def ended(processes: list[subprocess.Popen]) -> list[tuple[int, list[str], str]]:
    """Returns each process's exit status, digests and stderr."""
    try:
        said = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    digests = [[line for line in out.splitlines() if line.startswith("digest")] for out, _ in said]
    return [(p.returncode, d, err) for p, d, (_, err) in zip(processes, digests, said, strict=True)]


def until_saved(out: Path, step: int, processes: list[subprocess.Popen]) -> None:
    end = time.monotonic() + 120
    while not (out / "checkpoints" / str(step)).exists():
        assert all(process.poll() is None for process in processes), ended(processes)
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of 64 uninterrupted steps on two processes, and its digests."""
    out = tmp_path_factory.mktemp("whole") / "run"
    (first, digests, _), second = ended(start(out, STEPS))
    assert (first, *second[:2]) == (0, 0, digests)
    return out, digests


def one_process(out: Path, seeds: str, steps: int) -> list[str]:
    """The digests of one process with two devices."""
    code = (
        "import sys; from jaxgen.training import train; from tests.faults import peer\n"
        f"how = peer.settings({steps}, ({seeds},))\n"
        f"run = train('vae', peer.CONFIG, how, out={str(out)!r}, progress=False)\n"
        "print(*(f'digest {seed} {digest}' for seed, digest in run.digests().items()), sep='\\n')"
    )
    environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return [line for line in done.stdout.splitlines() if line.startswith("digest")]


def test_seeds_divided_among_two_processes(whole, tmp_path):
    out, digests = whole
    assert one_process(tmp_path / "one", "0, 1", STEPS) == digests
    assert (out / "metrics.jsonl").read_text() == (tmp_path / "one" / "metrics.jsonl").read_text()
    run = open_run(out)
    assert [f"digest {seed} {digest}" for seed, digest in run.digests().items()] == digests
    assert all(is_whole for _, _, is_whole in verified(out))
    for seed in (0, 1):
        for step in (0, 20, STEPS):
            picture = f"samples/seed-{seed}/step-{step:07d}.png"
            assert (out / picture).read_bytes() == (tmp_path / "one" / picture).read_bytes()


def test_one_seeds_batches_divided_among_two_processes(tmp_path):
    (status, digests, err), second = ended(start(tmp_path / "two", 12, seeds="3"))
    assert status == 0, err
    assert second[1] == digests == one_process(tmp_path / "one", "3", 12)


@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_is_killed(whole, tmp_path, victim):
    """The other process ends with an error within the heartbeat, and both resume from the newest checkpoint."""
    out = tmp_path / "run"
    processes = start(out, STEPS)
    until_saved(out, 16, processes)
    processes[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    status, digests, err = ended(processes)[1 - victim]
    assert time.monotonic() - began < 2 * peer.HEARTBEAT
    assert (status, digests) == (2, []), err
    assert "jaxgen: another process of the run is gone, or cannot be reached; restart all of them with --resume" in err
    assert "Traceback" not in err
    resumed = ended(start(out, STEPS, "--resume"))
    assert [each[1] for each in resumed] == [whole[1]] * 2, resumed
    assert (out / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()


def test_what_the_first_process_cannot_write_ends_both(whole, tmp_path):
    """The samples' folder becomes a file midway: one process says why it ends, the other that another had an error."""
    out = tmp_path / "run"
    processes = start(out, STEPS)
    until_saved(out, 8, processes)
    (out / "samples").rename(out / "elsewhere")
    (out / "samples").touch()
    found = ended(processes)
    assert [each[0] for each in found] == [2, 2], found
    assert "samples" in found[0][2]
    assert "another process of the run had an error" in found[1][2]


def test_a_signal_to_one_stops_both_and_both_go_on(whole, tmp_path):
    out = tmp_path / "run"
    processes = start(out, STEPS)
    until_saved(out, 8, processes)
    processes[1].send_signal(signal.SIGTERM)
    found = ended(processes)
    assert [each[0] for each in found] == [75] * 2
    assert all("which is saved" in each[2] for each in found)
    resumed = ended(start(out, STEPS, "--resume"))
    assert [each[1] for each in resumed] == [whole[1]] * 2, resumed
    assert (out / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()


def test_what_the_first_process_is_refused_ends_both(whole):
    found = ended(start(whole[0], STEPS))
    assert [each[0] for each in found] == [2, 2]
    assert "exists; choose another --out" in found[0][2]
    assert "another process of the run had an error" in found[1][2]


def test_the_command_line_joins_the_processes_of_a_cluster(whole, tmp_path):
    """The processes are started as by Slurm."""
    out = tmp_path / "run"
    model = ("vae", "--network", "mlp", "--hidden", "16", "--latent-dim", "2", "--seeds", "0", "1")
    how = {**vars(peer.settings(STEPS)), "out": out}
    names = ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every", "out")
    options = [f"--{name.replace('_', '-')}={how[name]}" for name in names]
    command = [sys.executable, "-m", "jaxgen", "train", *model, *options, "--distributed"]
    environment = os.environ | {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    environment |= {"JAX_COORDINATOR_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)},
        )
        for number in (0, 1)
    ]
    found = ended(processes)
    assert [each[:2] for each in found] == [(0, whole[1])] * 2, found
