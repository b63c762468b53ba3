"""One of two processes training a run: `python -m tests.faults.peer PORT NUMBER OUT STEPS SEEDS [--resume]`.

Prints the digests, and exits as the command line does.
"""

import os
import sys

import jax

from jaxgen.errors import Stopped, UserError
from jaxgen.training import Settings, train

HEARTBEAT = 10  # seconds
CONFIG = {"network": "mlp", "hidden": (16,), "latent_dim": 2}


def settings(steps: int, seeds: tuple[int, ...] = (0, 1)) -> Settings:
    """Settings of the run; with two seeds these are divided among the processes, with one its batches are."""
    return Settings(seeds=seeds, steps=steps, batch_size=16, log_every=4, sample_every=20, checkpoint_every=8)


def main(port: str, number: str, out: str, steps: str, seeds: str, *resume: str) -> int:
    """Trains and returns the exit status."""
    jax.distributed.initialize(f"localhost:{port}", 2, int(number), heartbeat_timeout_seconds=HEARTBEAT)
    how = settings(int(steps), tuple(map(int, seeds.split(","))))
    try:
        run = train("vae", CONFIG, how, out=out, resume=bool(resume), progress=False)
    except (UserError, Stopped, OSError) as error:
        print(f"jaxgen: {error}", file=sys.stderr, flush=True)
        return getattr(error, "status", 2)
    for seed, digest in run.digests().items():
        print(f"digest {seed} {digest}", flush=True)
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stderr.flush()
    if status:
        os._exit(status)  # as the command line does: JAX would wait for the other process, which waits for this one
