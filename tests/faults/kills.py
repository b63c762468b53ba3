"""Kills training runs at random moments, resumes them, and compares them with an uninterrupted run.

    python -m tests.faults.kills --count 50

Each run is a new process with a checkpoint every 2 steps. SIGKILL comes at a time drawn uniformly between the
uninterrupted run's first checkpoint and its end; `--resume` then finishes the run. Its digests must equal the
uninterrupted run's, and its metrics.jsonl must have the same bytes.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = (
    *(sys.executable, "-m", "jaxgen", "train", "vae", "--network", "mlp", "--hidden", "32", "--latent-dim", "4"),
    *("--seeds", "0", "1", "--steps", "200", "--batch-size", "16", "--log-every", "4"),
    *("--sample-every", "100", "--checkpoint-every", "2"),
)


def start(out: Path, *more: str) -> subprocess.Popen:
    """Starts a training process."""
    return subprocess.Popen([*TRAIN, "--out", out, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> list[str]:
    """Returns the digests that a process prints at its end."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return [line for line in out.splitlines() if line.startswith("digest")]


def until_checkpoint(out: Path, process: subprocess.Popen) -> None:
    """Waits until a run has saved its first checkpoint or ended."""
    while process.poll() is None and not any((out / "checkpoints").glob("[0-9]")):
        time.sleep(0.002)


def kills(count: int, seed: int, folder: Path):
    """Yields, for each of `count` kills, the step of the newest checkpoint after it, and True if nothing was lost."""
    whole = start(folder / "whole")
    until_checkpoint(folder / "whole", whole)
    began = time.monotonic()
    expected = finish(whole)
    length = time.monotonic() - began
    rows = (folder / "whole" / "metrics.jsonl").read_bytes()
    moments = random.Random(seed)
    for number in range(count):
        out = folder / str(number)
        process = start(out)
        until_checkpoint(out, process)
        time.sleep(moments.uniform(0, length))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.communicate()
        step = max(
            (int(each.name) for each in (out / "checkpoints").glob("[0-9]*") if each.name.isdecimal()), default=0
        )
        digests = finish(start(out, "--resume"))
        yield step, digests == expected and (out / "metrics.jsonl").read_bytes() == rows


def main() -> None:
    """Prints one line per kill, then the number of runs that lost nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (step, same) in enumerate(kills(given.count, given.seed, Path(folder)), 1):
            survived += same
            print(f"kill {number}: went on from step {step}, {'the same' if same else 'NOT the same'}", flush=True)
    print(f"{survived} of {given.count} runs ended with the digests and rows of the uninterrupted one")
    sys.exit(survived != given.count)


if __name__ == "__main__":
    main()
