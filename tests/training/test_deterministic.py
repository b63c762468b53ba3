"""`deterministic`: two short runs are compared first, and a program whose bits differ is refused."""

import os
import subprocess
import sys

import jax
import pytest

from jaxgen.errors import UserError
from jaxgen.training import Settings, deterministic, train

HOW = Settings(seeds=(3, 5), steps=6, batch_size=8, log_every=3)

# Its second phase adds an external counter's value, which differs in every run.
OTHER = """
from dataclasses import dataclass
import itertools
import jax, jax.numpy as jnp
import numpy as np
from jaxgen.model import Model, Phase, State

COUNT = itertools.count()

@dataclass(frozen=True)
class Config:
    noise: str = ""  # counted by the program as it runs, or as it is traced

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), {"a": jax.random.uniform(key)})
    def quiet(key, state, batch):
        return state, {"loss": state.params["a"]}
    def noisy(key, state, batch):
        a = state.params["a"] + jax.random.uniform(key)
        if config.noise == "running":
            a += jax.pure_callback(lambda _: np.float32(next(COUNT)), jnp.float32(0), state.step)
        if config.noise == "traced":
            a += next(COUNT)
        return state._replace(params={"a": a}), {"loss": a}
    return Model(init, (Phase("quiet", quiet, steps=3), Phase("noisy", noisy)), ("image",))
"""


def test_what_gives_other_bits_is_refused_and_leaves_nothing(tmp_path, capfd):
    (tmp_path / "other.py").write_text(OTHER)
    model = str(tmp_path / "other.py")
    for noise in ("running", "traced"):
        with pytest.raises(UserError, match=r"^not deterministic: two runs of the same 8 steps .* bits for seeds 3 5$"):
            train(model, {"noise": noise}, HOW, out=tmp_path / "run", deterministic=True)
        assert not (tmp_path / "run").exists()
    capfd.readouterr()
    run = train(model, None, HOW, out=tmp_path / "run", deterministic=True, progress=False)
    said = " ".join(capfd.readouterr().err.split())
    assert said.startswith("deterministic: two runs of 8 steps ended with the same bits, in ")
    assert deterministic.COSTS[jax.default_backend()] in said
    plain = train(model, None, HOW, out=tmp_path / "plain", progress=False)
    assert run.digests() == plain.digests()  # the short runs leave nothing behind
    assert (run.path / "metrics.jsonl").read_text() == (plain.path / "metrics.jsonl").read_text()


def test_a_gpu_must_have_been_told(monkeypatch, tmp_path):
    monkeypatch.setattr(deterministic.jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_foo=1")
    with pytest.raises(UserError, match="a GPU needs XLA_FLAGS=--xla_gpu_deterministic_ops=true before JAX starts"):
        deterministic.check_deterministic(None, None)
    deterministic.prepare()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_foo=1 --xla_gpu_deterministic_ops=true"


def test_a_cpus_flags_are_left_and_xla_takes_what_a_gpu_needs(tmp_path):
    """XLA ends a process with unknown flags in XLA_FLAGS, so it knows this one."""
    code = (
        "import os; from jaxgen import cli; from jaxgen.training import deterministic; import jax\n"
        "deterministic.prepare(); print(jax.default_backend(), os.environ.get('XLA_FLAGS'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["cpu", "None"], done.stderr
