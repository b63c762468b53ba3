"""Settings of JAX that change bits: they are recorded, and what differs is refused or told."""

import json
import platform
import subprocess
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgen
from jaxgen.comparison.runs import changes
from jaxgen.errors import UserError
from jaxgen.pictures import sample
from jaxgen.training import Settings, open_run, train
from jaxgen.training.environment import OF_A_CPU, RECORDED, ROUNDING, commit, environment, processor
from jaxgen.training.folder import environment_changes

HOW = Settings(seeds=(0,), steps=1, log_every=1, sample_every=1, checkpoint_every=1)


def wide(function):
    """The function under 64-bit types, which alone heed jax_default_dtype_bits."""

    def under(*args):
        before = jax.config.jax_enable_x64
        try:
            jax.config.update("jax_enable_x64", True)
            return function(*args)
        finally:
            jax.config.update("jax_enable_x64", before)

    return under


PROBES = {
    "jax_enable_x64": (True, lambda: jnp.zeros(2)),
    "jax_explicit_x64_dtypes": ("allow", lambda: jnp.zeros(2, "float64")),
    "jax_default_dtype_bits": ("32", lambda: wide(jnp.zeros)(2)),
    "jax_default_prng_impl": ("rbg", lambda: jax.random.key_data(jax.random.key(0))),
    "jax_threefry_partitionable": (False, lambda: jax.random.bits(jax.random.key(0), (6,))),
    "jax_random_seed_offset": (7, lambda: jax.random.key_data(jax.random.key(0))),
    "jax_high_dynamic_range_gumbel": (True, lambda: jax.random.categorical(jax.random.key(0), jnp.zeros((64, 9)))),
    "jax_safer_randint": (False, lambda: jax.random.randint(jax.random.key(0), (64,), 0, 200, "uint8")),
}
"""Another value of each setting, and a result that it changes."""


@pytest.mark.parametrize("name", PROBES)
def test_settings_that_define_a_run_change_draws_or_dtypes(name):
    if name not in jax.config.values:
        pytest.skip("this version of JAX lacks it")
    before, (other, probe) = getattr(jax.config, name), PROBES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a dtype that is cut
        first = np.asarray(probe())
        try:
            jax.config.update(name, other)
            second = np.asarray(probe())
        finally:
            jax.config.update(name, before)
    assert first.dtype != second.dtype or first.shape != second.shape or (first != second).any()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train("naive_bayes", None, HOW, out=tmp_path_factory.mktemp("run") / "run", progress=False)


@pytest.fixture
def recorded(whole):
    """Changes what the run's environment.json holds, for one test."""
    file = whole.path / "environment.json"
    content = file.read_text()

    def change(name, value):
        past = json.loads(content)
        (past["jax_settings"] if name in past["jax_settings"] else past)[name] = value
        file.write_text(json.dumps(past))

    yield change
    file.write_text(content)


def test_every_setting_of_this_jax_is_recorded(whole):
    kept = environment(whole.plan.dataset)["jax_settings"]
    names = {name for name in (*PROBES, *ROUNDING, *RECORDED) if name in jax.config.values}
    assert set(kept) == names
    assert len(names) > 12
    assert kept["jax_enable_x64"] == "False"


@pytest.mark.parametrize("name", PROBES)
def test_a_run_under_another_setting_is_not_read(name, whole, recorded, tmp_path):
    if name not in jax.config.values:
        pytest.skip("this version of JAX lacks it")
    recorded(name, "other")
    words = f"{name.upper()}: other -> {getattr(jax.config, name)}"
    with pytest.raises(UserError, match=f"settings of JAX: {words}"):
        open_run(whole.path)
    with pytest.raises(UserError, match=f"settings of JAX: {words}"):
        sample(whole.path, out=tmp_path / "x.png")
    with pytest.raises(UserError, match=f"what differs: {words}"):
        train("naive_bayes", None, HOW, out=whole.path, resume=True, progress=False)
    assert words in changes(whole.path, whole.plan)


@pytest.mark.parametrize("name", [*ROUNDING, "xla_flags", "devices", *OF_A_CPU])
def test_what_rounds_otherwise_is_told(name, whole, recorded):
    """A comparison trains such a run anew, but for those of another processor."""
    now = environment(whole.plan.dataset)
    if name in ROUNDING and name not in now["jax_settings"]:
        pytest.skip("this version of JAX lacks it")
    recorded(name, "other")
    shown, value = (name.upper(), now["jax_settings"][name]) if name in ROUNDING else (name, now[name])
    assert environment_changes(whole.path, whole.plan) == {name: f"{shown}: other -> {value}"}
    assert open_run(whole.path).digests() == whole.digests()
    assert changes(whole.path, whole.plan) == ([] if name in OF_A_CPU else [f"{shown}: other -> {value}"])


@pytest.mark.parametrize("name", RECORDED)
def test_what_changes_no_bit_is_recorded_only(name, whole, recorded):
    recorded(name, "other")
    assert environment_changes(whole.path, whole.plan) == {}
    assert changes(whole.path, whole.plan) == []


X86 = """processor	: 0
model name	: A Processor @ 2.00GHz
flags		: fpu sse4_1 sse4_2 avx avx2 avx512_bf16

processor	: 1
model name	: A Processor @ 2.00GHz
flags		: fpu sse4_1 sse4_2 avx avx2 avx512_bf16
"""
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd sve\n"


@pytest.mark.parametrize(("told", "name", "instructions"), [(X86, "A Processor @ 2.00GHz", "avx2"), (ARM, None, "sve")])
def test_the_processor_as_linux_tells_it(told, name, instructions, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: {"/proc/cpuinfo": told}[str(path)])
    found = processor()
    assert found["instructions"] == instructions
    assert found["processor"] == (name or platform.processor() or platform.machine())


def test_the_processor_elsewhere(monkeypatch):
    def absent(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr("pathlib.Path.read_text", absent)
    assert processor() == {"processor": platform.processor() or platform.machine(), "instructions": ""}


def test_a_commit_is_marked_if_files_have_changes_but_kept_results(tmp_path, monkeypatch):
    def git(*words):
        own = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", "-C", str(tmp_path), *own, *words], capture_output=True, text=True, check=True)

    (tmp_path / "jaxgen").mkdir()
    (tmp_path / "experiments/results").mkdir(parents=True)
    monkeypatch.setattr(jaxgen, "__file__", str(tmp_path / "jaxgen/__init__.py"))
    assert commit() is None
    git("init")
    for name in ("jaxgen/__init__.py", "experiments/results/digits.json"):
        (tmp_path / name).write_text("before")
    git("add", "-A")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert commit() == head
    (tmp_path / "experiments/results/digits.json").write_text("after")
    (tmp_path / "experiments/results/new.json").write_text("new")
    assert commit() == head
    (tmp_path / "experiments/other.py").write_text("new")
    assert commit() == head + "+"
