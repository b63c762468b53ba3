"""Deterministic training: the flags that a backend needs, and a check by two short runs."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

from jaxgen.errors import UserError
from jaxgen.model import Model
from jaxgen.training.folder import Run
from jaxgen.training.plan import Plan

FLAGS = {"gpu": "--xla_gpu_deterministic_ops=true"}
"""Map from backend to the XLA flags it needs before it starts: no atomic additions, no choice of kernels by timing."""

COSTS = {
    "gpu": "scatters and sums run in a fixed order and kernels are not chosen by timing, so steps take longer",
    "cpu": "a CPU needs nothing for it: the bits are the same for the same processor and number of cores, and no step "
    "takes longer",
    "tpu": "a TPU needs nothing for it, and no step takes longer",
}

SHORT = 4  # steps of each phase


def prepare() -> None:
    """Sets XLA_FLAGS to what the backend needs; must be called before JAX starts a backend."""
    before = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = " ".join([before, *FLAGS.values()]).strip()
    if jax.default_backend() not in FLAGS:  # already read; a run records only the flags that matter to it
        os.environ["XLA_FLAGS"] = before
        if not before:
            del os.environ["XLA_FLAGS"]


def check_deterministic(plan: Plan, train: Callable[[Plan, Path], Run]) -> str:
    """Takes a few steps of every phase twice, from the start; returns a line with the result and its cost.

    train: (plan, an empty folder) -> the run.

    Raises:
        UserError: the backend lacks the flags it needs, or the two runs end with different bits.
    """
    backend = jax.default_backend()
    flag = FLAGS.get(backend, "")
    if flag not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(f"deterministic on a {backend.upper()} needs XLA_FLAGS={flag} before JAX starts")
    began = time.monotonic()
    settings = dataclasses.replace(plan.settings, steps=SHORT * len(plan.model.phases), keep_best=None)
    digests = []
    for _ in range(2):
        short = plan._replace(model=_short(plan.model), settings=settings)
        with tempfile.TemporaryDirectory() as folder:
            digests.append(train(short, Path(folder)).digests())
    differ = [str(seed) for seed, digest in digests[0].items() if digests[1][seed] != digest]
    if differ:
        words = f"two runs of the same {settings.steps} steps ended with other bits for seed{'s'[: len(differ) > 1]}"
        raise UserError(f"not deterministic: {words} {' '.join(differ)}")
    cost = COSTS.get(backend, "what it costs here was not measured")
    took = time.monotonic() - began
    return f"deterministic: two runs of {settings.steps} steps ended with the same bits, in {took:.1f} s; {cost}"


def _short(model: Model) -> Model:
    """The model with short phases and functions of its own, so that each run traces and compiles them anew."""
    phases = [phase._replace(step=partial(phase.step), steps=SHORT, passes=None) for phase in model.phases]
    return model._replace(init=partial(model.init), phases=tuple(phases))
