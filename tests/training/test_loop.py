"""The loop: keys, phases, resuming, diverging seeds; with small test models and the table's."""

import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest

from jaxgen import data, models
from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.training import Settings, engine, loop, open_run, train
from jaxgen.training.checkpoints import Checkpoints, Keep
from jaxgen.training.display import Worries
from jaxgen.training.engine import streams
from jaxgen.training.plan import make_plan
from jaxgen.training.rows import read_rows
from tests.cases import some_slow
from tests.models.contract import contracts

HEADER = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Model, Phase, Sampler, State

@dataclass(frozen=True)
class Config:
    size: int = 3  # of something
"""

# Records the last bits of every step's key, and fails depending on the seed.
KEYS = (
    HEADER
    + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), {"start": jax.random.uniform(key), "bits": jnp.zeros((32, 2), jnp.uint32)})
    def step(key, state, batch):
        bits = state.params["bits"].at[state.step].set(jax.random.key_data(key))
        fails = (state.params["start"] > 0.5) & (state.step == 7)
        params = {**state.params, "bits": bits}
        return state._replace(params=params), {"loss": jnp.where(fails, jnp.nan, state.params["start"])}
    return Model(init, (Phase("train", step),), ("image",))
"""
)

# Three phases: one exact pass, five steps, then to the end; `enter` writes into the state.
PHASES = (
    HEADER
    + """
def make(config, spec):
    def init(key):
        zero = jnp.float32(0)
        return State(jnp.int32(0), {"seen": jnp.zeros(10), "entered": zero, "middle": zero, "last": zero})
    def count(key, state, batch):
        seen = state.params["seen"] + jnp.zeros(10).at[batch["label"]].add(batch["weight"])
        return state._replace(params={**state.params, "seen": seen}), {"total": seen.sum()}
    def enter(key, state, batches):
        total = sum(batch["weight"].sum() for batch in batches)
        noise = jax.random.uniform(key)
        return state._replace(params={**state.params, "entered": jnp.float32(total) + noise})
    def middle(key, state, batch):
        value = state.params["middle"] + jax.random.uniform(key)
        return state._replace(params={**state.params, "middle": value}), {"value": value}
    def last(key, state, batch):
        value = state.params["last"] + jax.random.uniform(key) * batch["label"].sum().astype(jnp.float32)
        return state._replace(params={**state.params, "last": value}), {"value": value}
    phases = (Phase("count", count, passes=1), Phase("middle", middle, steps=5, enter=enter), Phase("last", last))
    return Model(init, phases, ("image", "label"))
"""
)


# Updates by its key and its batch; samples are noise with the state's brightness.
WALK = (
    HEADER
    + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jax.random.uniform(key))
    def step(key, state, batch):
        pixels = batch["image"].astype(jnp.float32).mean()
        value = state.params + jax.random.uniform(key) * pixels
        return state._replace(params=value), {"value": value, "pixels": pixels}
    def draw(key, state, num, condition):
        noise = jax.random.uniform(key, (num, *spec.image_shape))
        return {"image": (255 * noise * state.params / (1 + state.params)).astype(jnp.uint8)}
    return Model(init, (Phase("train", step),), ("image",), Sampler(draw))
"""
)


@pytest.fixture
def model_file(tmp_path):
    def write(text):
        file = tmp_path / "mine.py"
        file.write_text(text)
        return str(file)

    return write


def settings(**changes):
    return Settings(**{"seeds": (0, 1), "steps": 30, "batch_size": 64, "log_every": 10, **changes})


def rows(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def quiet(model, config, how, out, **kwargs):
    return train(model, config, how, out=out, progress=False, **kwargs)


@pytest.mark.parametrize("axis", ["map", "vmap"])
def test_every_step_and_seed_has_its_key(model_file, tmp_path, axis):
    """The step's key is fold_in(train, step): all are known in advance, none is used twice."""
    run = quiet(model_file(KEYS), None, settings(seeds=(3, 8), steps=7, seeds_axis=axis), tmp_path / "run")
    bits = np.asarray(run.state.params["bits"])[:, :7]
    for seed, some in zip((3, 8), bits, strict=True):
        expected = [jax.random.key_data(jax.random.fold_in(streams(seed).train, step)) for step in range(7)]
        np.testing.assert_array_equal(some, expected)
    assert len({tuple(words) for words in bits.reshape(-1, 2)}) == 14


def test_streams_are_distinct():
    words = {tuple(np.asarray(jax.random.key_data(key))) for seed in range(50) for key in streams(seed)}
    assert len(words) == 50 * 5


def test_a_diverged_seed_is_frozen_and_the_others_go_on(model_file, tmp_path):
    run = quiet(model_file(KEYS), None, settings(seeds=tuple(range(6)), steps=20), tmp_path / "run")
    start = np.asarray(run.state.params["start"])
    failed = {seed for seed in range(6) if start[seed] > 0.5}
    assert 0 < len(failed) < 6
    assert run.diverged == dict.fromkeys(failed, 7)
    written = np.asarray(run.state.params["bits"]).any(-1).sum(-1)
    assert written.tolist() == [7 if seed in failed else 20 for seed in range(6)]
    by_step = {}
    for row in rows(run):
        by_step.setdefault(row["step"], []).append(row["seed"])
        assert row["loss"] == pytest.approx(start[row["seed"]], rel=1e-5)  # the mean over the steps taken, never nan
    assert by_step == {10: list(range(6)), 20: [seed for seed in range(6) if seed not in failed]}
    reopened = open_run(run.path)
    assert reopened.diverged == run.diverged
    assert reopened.digests() == run.digests()
    result = json.loads((run.path / "result.json").read_text())
    assert result["diverged"] == {str(seed): 7 for seed in sorted(failed)}
    batch = pipeline.stream(streams(0).data, run.plan.dataset.spec.num_examples, run.plan.settings.batch_size, 7, 1)[
        0
    ].tolist()
    kept = json.loads((run.path / "diverged.json").read_text())
    assert kept == {str(seed): {"step": 7, "batch": batch} for seed in failed}


def test_parameters_that_overflow_are_not_kept(model_file, tmp_path):
    """The metric is computed before the update, so the step whose result is not finite is the one undone."""
    file = model_file(
        HEADER
        + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.float32(1))
    def step(key, state, batch):
        return state._replace(params=state.params * 1e20), {"value": state.params}
    return Model(init, (Phase("train", step),), ("image",))
"""
    )
    run = quiet(file, None, settings(seeds=(0,), steps=2), tmp_path / "run")
    assert float(run.state.params[0]) == pytest.approx(1e20)
    assert run.diverged == {0: 1}


def test_an_optimizer_that_overflows_ends_its_seed_before_the_parameters_do(model_file, tmp_path):
    file = model_file(
        HEADER
        + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.float32(1), jnp.float32(1))
    def step(key, state, batch):
        return state._replace(opt_state=state.opt_state * 1e20), {"value": state.params}
    return Model(init, (Phase("train", step),), ("image",))
"""
    )
    run = quiet(file, None, settings(seeds=(0,), steps=2), tmp_path / "run")
    assert run.diverged == {0: 1}


@pytest.mark.parametrize("moment", ["in a save", "after resuming"])
def test_stopped_by_an_error_and_resumed(model_file, tmp_path, monkeypatch, moment):
    """A run interrupted twice has the digests and rows of an uninterrupted one."""
    how, file = settings(steps=40, checkpoint_every=10), model_file(WALK)
    whole = quiet(file, None, how, tmp_path / "whole")

    def broken(*_):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        save = Checkpoints.save
        patch.setattr(
            Checkpoints, "save", lambda self, step, *rest: broken() if step == 30 else save(self, step, *rest)
        )
        with pytest.raises(OSError, match="no space"):
            quiet(file, None, how, tmp_path / "cut")
    assert [row["step"] for row in read_rows(tmp_path / "cut" / "metrics.jsonl")][-1] == 30  # beyond the checkpoint
    assert not (tmp_path / "cut" / "result.json").exists()
    if moment == "after resuming":
        with monkeypatch.context() as patch:
            patch.setattr(loop.engine, "chunk_program", broken)
            with pytest.raises(OSError, match="no space"):
                quiet(file, None, how, tmp_path / "cut", resume=True)
        assert [row["step"] for row in read_rows(tmp_path / "cut" / "metrics.jsonl")] == [10, 10, 20, 20]
    resumed = quiet(file, None, how, tmp_path / "cut", resume=True)
    assert resumed.digests() == whole.digests()
    assert rows(resumed) == rows(whole)


def test_what_cannot_be_trained_at_all_leaves_no_folder(tmp_path, monkeypatch):
    """An existing run keeps its folder."""

    def broken(*_):
        raise MemoryError("too large")

    how = settings(seeds=(0,), steps=20)
    quiet("naive_bayes", None, settings(seeds=(0,), steps=5), tmp_path / "there")
    monkeypatch.setattr(loop.engine, "chunk_program", broken)
    for name in ("new", "there"):
        with pytest.raises(MemoryError):
            quiet("naive_bayes", None, how, tmp_path / name, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert open_run(tmp_path / "there").step == 5


def test_a_config_with_a_tuple_is_resumed(model_file, tmp_path):
    file = model_file(KEYS.replace("size: int = 3", "widths: tuple[int, ...] = (4, 8)"))
    quiet(file, {"widths": (2, 3)}, settings(steps=5), tmp_path / "run")
    run = quiet(file, {"widths": (2, 3)}, settings(steps=6), tmp_path / "run", resume=True)
    assert run.plan.config.widths == (2, 3)
    assert open_run(run.path).plan.config.widths == (2, 3)
    with pytest.raises(UserError, match=r"widths: \[2, 3\] -> \[2, 4\]"):
        quiet(file, {"widths": (2, 4)}, settings(steps=6), tmp_path / "run", resume=True)


def test_resumed_with_the_compiler_options_of_users(model_file, tmp_path, monkeypatch):
    """The tests' own XLA_FLAGS leave them out."""
    monkeypatch.setenv("XLA_FLAGS", "")
    file = model_file(KEYS)
    quiet(file, None, settings(steps=3), tmp_path / "cut")
    resumed = quiet(file, None, settings(steps=5), tmp_path / "cut", resume=True)
    assert resumed.digests() == quiet(file, None, settings(steps=5), tmp_path / "whole").digests()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_compiled_for_its_precision(precision, tmp_path, monkeypatch):
    asked = []

    def options(platform, precision=None):
        asked.append(precision)
        return {}

    monkeypatch.setattr(engine, "compiler_options", options)
    config = models.load("vae").Config(network="mlp", hidden=(4,), latent_dim=2, likelihood="gaussian")
    quiet("vae", config, settings(dataset="digits", steps=1, precision=precision), tmp_path / "run")
    assert precision in asked


def test_another_environment_is_said_and_kept(model_file, tmp_path, capfd):
    file = model_file(PHASES)
    run = quiet(file, None, settings(steps=10), tmp_path / "run")
    past = json.loads((run.path / "environment.json").read_text())
    (run.path / "environment.json").write_text(json.dumps(past | {"jax": "0.9.9"}))
    capfd.readouterr()
    quiet(file, None, settings(steps=20), tmp_path / "run", resume=True)
    assert f"jax: 0.9.9 -> {jax.__version__}" in " ".join(capfd.readouterr().err.split())
    now = json.loads((run.path / "environment.json").read_text())
    assert (now["jax"], now["before"]["jax"]) == (jax.__version__, "0.9.9")


def test_values_from_python_are_checked_as_from_the_command_line(tmp_path):
    from jaxgen.models import naive_bayes

    words = "likelihood takes 'bernoulli' or 'gaussian' or 'categorical' or nothing, not 'Bernoulli'"
    with pytest.raises(UserError, match=words):
        quiet("naive_bayes", naive_bayes.Config("Bernoulli"), settings(), tmp_path / "run")
    with pytest.raises(UserError, match="steps takes int, not '3'"):
        quiet("naive_bayes", None, settings(steps="3"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_diverged_stays_diverged_on_resuming(model_file, tmp_path):
    file = model_file(KEYS)
    whole = quiet(file, None, settings(seeds=tuple(range(6)), steps=20), tmp_path / "whole")
    quiet(file, None, settings(seeds=tuple(range(6)), steps=10), tmp_path / "cut")
    cut = quiet(file, None, settings(seeds=tuple(range(6)), steps=20), tmp_path / "cut", resume=True)
    assert cut.digests() == whole.digests()
    assert cut.diverged == whole.diverged


def test_what_lasts_is_said_once_a_seed(model_file, tmp_path, capfd):
    """A symptom in three successive rows is reported with the third one's step; it starts at step 30, and in some seeds
    it pauses from 50 to 60.
    """
    file = model_file(
        HEADER
        + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jax.random.uniform(key))
    def step(key, state, batch):
        quiet = (state.params > 0.5) & (state.step >= 50) & (state.step < 60)
        return state, {"spread": jnp.where((state.step >= 30) & ~quiet, 0.04, 0.06)}
    return Model(init, (Phase("train", step),), ("image",))
"""
    )
    run = quiet(file, None, settings(steps=120, seeds=tuple(range(6))), tmp_path / "run")
    interrupted = np.asarray(run.state.params) > 0.5
    assert 0 < interrupted.sum() < 6
    worry = "the samples have collapsed: they vary less than a twentieth as much as real ones"
    expected = []
    for step, seeds in ((60, np.flatnonzero(~interrupted)), (90, np.flatnonzero(interrupted))):
        expected.append(f"step {step}, seed{'s'[: len(seeds) > 1]} {' '.join(map(str, seeds))}: {worry}")
    assert " ".join(capfd.readouterr().err.split()) == " ".join(expected)


def test_worries_are_counted_by_seed_and_line():
    worries = Worries()
    rows = [("a", "a"), ("ab", ""), ("ba", "a"), ("ab", "a"), ("", "a"), ("a", ""), ("a", "a"), ("a", "a"), ("", "a")]
    heard = [worries.heard({0: list(first), 1: list(second)}) for first, second in rows]
    # For seed 0, "a" in its third row and "b" in its fourth; for seed 1, "a" in the third row after a pause. Once each.
    assert heard == [{}, {}, {"a": [0]}, {"b": [0]}, {"a": [1]}, {}, {}, {}, {}]
    assert Worries().heard({0: ["a"], 1: ["a"]}) == {}
    both = Worries()
    assert [both.heard({0: ["a"], 2: ["a"]}) for _ in range(4)] == [{}, {}, {"a": [0, 2]}, {}]


def test_phases_follow_each_other(model_file, tmp_path):
    run = quiet(model_file(PHASES), None, settings(steps=30), tmp_path / "run")
    digits = data.load("digits")
    counts = np.bincount(digits.train["label"], minlength=10)
    np.testing.assert_array_equal(run.state.params["seen"], [counts, counts])
    first = math.ceil(808 / 64)  # 13
    key = streams(0).train
    middle = sum(float(jax.random.uniform(jax.random.fold_in(key, step))) for step in range(first, first + 5))
    np.testing.assert_allclose(run.state.params["middle"][0], middle, rtol=1e-5)
    index = pipeline.stream(streams(0).data, 808, 64, first + 5, 30 - first - 5)  # the stream follows the run's step
    labels = digits.train["label"][index].sum(1)
    last = sum(
        float(jax.random.uniform(jax.random.fold_in(key, first + 5 + i))) * int(total) for i, total in enumerate(labels)
    )
    np.testing.assert_allclose(run.state.params["last"][0], last, rtol=1e-5)
    entered = np.asarray(run.state.params["entered"])
    assert (entered > 808).all()
    assert (entered < 809).all()
    assert entered[0] != entered[1]
    assert [row["phase"] for row in rows(run) if row["seed"] == 0] == ["count", "count", "middle", "last", "last"]


def test_a_run_that_ends_before_a_phase_says_so(model_file, tmp_path, capfd):
    file = model_file(PHASES)
    for steps, expected in ((13, ["13 steps end before phase middle begins"]), (30, [])):
        quiet(file, None, settings(steps=steps), tmp_path / str(steps))
        assert [line for line in capfd.readouterr().err.splitlines() if "end before" in line] == expected


@pytest.fixture(scope="module")
def whole_digests(tmp_path_factory):
    """Digests of 30 uninterrupted steps of PHASES."""
    folder = tmp_path_factory.mktemp("phases")
    (folder / "mine.py").write_text(PHASES)
    return quiet(str(folder / "mine.py"), None, settings(steps=30), folder / "whole").digests()


@pytest.mark.parametrize("cut", [1, 10, 15, 17, 20, 29])
def test_stopping_anywhere_in_the_phases_changes_no_bit(model_file, tmp_path, cut, whole_digests):
    file = model_file(PHASES)
    quiet(file, None, settings(steps=cut), tmp_path / "cut")
    resumed = quiet(file, None, settings(steps=30), tmp_path / "cut", resume=True)
    assert resumed.digests() == whole_digests


@pytest.mark.parametrize("name", some_slow(models.MODELS, quick=("naive_bayes", "vae", "gan")))
def test_twenty_steps_equal_ten_and_ten(name, tmp_path, monkeypatch):
    """Every model has the same bits; also if the first ten steps are taken twice."""
    module, made = models.load(name), []
    make, small = module.make, contracts()[name].small

    def once(config, spec):
        if not made:
            made.append(make(config, spec))
        return made[0]

    # Compilation dominates the time, so all three runs share one program.
    monkeypatch.setattr(module, "make", once)
    monkeypatch.setattr(loop.engine, "chunk_program", functools.cache(loop.engine.chunk_program))

    def how(steps):  # naive_bayes's single pass, 13 steps, is not finished after ten
        batch = 64 if name == "naive_bayes" else 16
        dataset = contracts()[name].dataset
        return settings(
            steps=steps, batch_size=batch, log_every=4, sample_every=10, checkpoint_every=10, dataset=dataset
        )

    whole = quiet(name, small, how(20), tmp_path / "whole")
    half = quiet(name, small, how(10), tmp_path / "half")
    assert half.step == 10
    halved = half.digests()
    resumed = quiet(name, small, how(20), tmp_path / "half", resume=True)
    assert resumed.digests() == whole.digests()
    assert len(set(whole.digests().values())) == (2 if name != "naive_bayes" else 1)
    assert halved != whole.digests()
    assert rows(resumed) == rows(whole)
    assert open_run(tmp_path / "whole", 10).digests() == halved
    assert open_run(tmp_path / "half").digests() == whole.digests()


def test_resuming_a_finished_run_changes_nothing(model_file, tmp_path):
    file = model_file(WALK)
    run = quiet(file, None, settings(steps=10), tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.png")}
    assert len(before) == 4
    again = quiet(file, None, settings(steps=10), tmp_path / "run", resume=True)
    assert again.digests() == run.digests()
    assert rows(again) == rows(run)
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.png")} == before


def test_resuming_before_the_first_checkpoint_starts_at_zero(model_file, tmp_path, capfd):
    file = model_file(WALK)
    whole = quiet(file, None, settings(steps=10), tmp_path / "whole")
    quiet(file, None, settings(steps=10), tmp_path / "cut")
    for checkpoint in (tmp_path / "cut" / "checkpoints").iterdir():
        checkpoint.rename(tmp_path / "elsewhere")
    (tmp_path / "cut" / "result.json").unlink()
    capfd.readouterr()
    resumed = quiet(file, None, settings(steps=10), tmp_path / "cut", resume=True)
    assert resumed.digests() == whole.digests()
    assert "step 0" in capfd.readouterr().err


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(UserError, match="exists"):
            quiet("vae", contracts()["vae"].small, settings(), tmp_path / "run", resume=resume)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_seeds_in_turn_equal_seeds_side_by_side_to_rounding(tmp_path):
    dense = {"network": "mlp", "hidden": (8,), "latent_dim": 3}
    runs = [quiet("vae", dense, settings(steps=20, seeds_axis=axis), tmp_path / axis) for axis in ("map", "vmap")]
    for a, b in zip(*(jax.tree.leaves(run.state.params) for run in runs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


# Records the first label of every step's batch.
ORDER = (
    HEADER
    + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.zeros(40, jnp.int32))
    def step(key, state, batch):
        first = batch["label"][0]
        return state._replace(params=state.params.at[state.step].set(first)), {"first": first.astype(jnp.float32)}
    return Model(init, (Phase("train", step),), ("label",))
"""
)


def first_labels(seed):
    return data.load("digits").train["label"][pipeline.stream(streams(seed).data, 808, 64, 0, 40)[:, 0]]


@pytest.mark.parametrize("axis", ["map", "vmap"])
def test_each_seed_can_have_an_order_of_its_own(tmp_path, model_file, axis):
    """The order is that of the seed's own data stream, independent of the run's other seeds."""
    file = model_file(ORDER)
    run = quiet(file, None, settings(steps=40, seeds=(3, 5), own_order=True, seeds_axis=axis), tmp_path / "run")
    np.testing.assert_array_equal(run.state.params, [first_labels(3), first_labels(5)])


def test_a_pass_in_an_order_of_its_own_sees_every_example_once(tmp_path):
    own, shared = (
        quiet("naive_bayes", None, settings(own_order=own), tmp_path / str(own)).digests() for own in (True, False)
    )
    assert own == shared  # counts are exact, so the order cannot show


def test_a_seed_has_the_same_data_order_as_the_others(tmp_path, model_file):
    """Seeds share the order of `data_seed`; another data_seed gives another order."""
    file = model_file(ORDER)
    one = quiet(file, None, settings(steps=40), tmp_path / "one").state.params
    other = quiet(file, None, settings(steps=40, data_seed=1), tmp_path / "other").state.params
    np.testing.assert_array_equal(one[0], one[1])
    np.testing.assert_array_equal(one[0], first_labels(0))
    assert not np.array_equal(one[0], other[0])


def test_what_a_run_leaves(model_file, tmp_path):
    """Rows for each seed and logging step, events that TensorBoard reads, a grid for each seed, the environment."""
    run = quiet(model_file(WALK), {"size": 4}, settings(steps=20, sample_every=10), tmp_path / "run")
    assert [(row["step"], row["seed"]) for row in rows(run)] == [(10, 0), (10, 1), (20, 0), (20, 1)]
    assert {"value", "pixels"} < set(rows(run)[0])
    names = sorted(file.name for file in (run.path / "samples" / "seed-1").iterdir())
    assert names == ["step-0000000.png", "step-0000010.png", "step-0000020.png"]
    for seed in (0, 1):
        (file,) = (run.path / "events" / f"seed-{seed}").iterdir()
        values = {value.tag: value for event in events(file) for value in event.summary.value}
        assert {"config/text_summary", "samples", "value", "pixels"} == set(values)
        (text,) = values["config/text_summary"].tensor.string_val
        assert json.loads(text) == json.loads((run.path / "config.json").read_text())
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["jax"] == jax.__version__
    assert environment["dataset"]["fingerprint"] == data.load("digits").fingerprint
    assert environment["seeds_axis"] == "map"
    config = json.loads((run.path / "config.json").read_text())
    assert config["settings"]["seeds"] == [0, 1]
    assert config["config"] == {"size": 4}


def test_batches_larger_than_the_data_are_told_of(model_file, tmp_path, capfd):
    """A batch of the stream then repeats examples; one of a pass is padded with examples of weight 0."""
    said = "batches of 1000 repeat examples: there are 808 to train on"
    for model, expected in ((model_file(WALK), [said]), ("naive_bayes", [])):
        quiet(model, None, settings(seeds=(0,), steps=1, batch_size=1000), tmp_path / f"run-{len(expected)}")
        assert [line for line in capfd.readouterr().err.splitlines() if "repeat" in line] == expected


@pytest.mark.parametrize(
    ("model", "config", "options", "expected"),
    [
        (
            "naive_bayes",
            {},
            {},
            ["naive_bayes: log p(x), exact: p(x|y) is of the 256 levels, in 16 bins of equally likely ones"],
        ),
        (
            "vae",
            {},
            {"binarize": "dynamic"},
            ["vae: log p(x), a lower bound: ELBO, one z per image; p(x|z) is of bits, 1 where a pixel is at least 128"],
        ),
        (
            "vae",
            {"likelihood": "bernoulli", "conditional": True},
            {},
            [
                "vae: log p(x), a lower bound: ELBO of log p(x|label), one z per image; p(x|z) is of bits, 1 where a "
                "pixel is at least 128; gray levels are thresholded"
            ],
        ),
        ("dcgan", {}, {}, []),
    ],
)
def test_what_a_likelihood_is_of_is_said_before_training(model, config, options, expected):
    assert make_plan(model, config, settings(**options)).told() == expected


def test_paths_are_shared_by_their_last_names():
    """Only whole ones: not a path that begins or ends like another."""
    plan = make_plan("naive_bayes", None, settings())
    dataset = plan.dataset._replace(options={"data_from": "/data/my (scans)"})
    plan = plan._replace(settings=dataclasses.replace(plan.settings, data_from="/data"), dataset=dataset)
    content = {
        "renamed": ["/data", "/data/", "/data/my (scans)", "/data/my (scans)/a.png"],
        "kept": ["/database/x", "/data-2", "/data_2", "/data.zip", "/mnt/data", "x/data", "./data", 7, None],
    }
    assert plan.shared(content) == content | {
        "renamed": ["data", "data/", "my (scans)", "my (scans)/a.png"],
    }
    assert plan.shared("7 images of '/data', of /data. And /database") == "7 images of 'data', of data. And /database"


def test_a_model_made_again_shares_programs_but_only_of_equal_data():
    """A mean of other training images, of the same shapes, is another model's."""
    plans = [make_plan("vae", {"latent_dim": size}, settings()) for size in (8, 8, 9)]
    other = make_plan("vae", {"latent_dim": 8}, settings(train_split="train[:700]"))
    models_made = [plan.model for plan in (*plans, other)]
    first, again, *others = [engine.chunk_program(model.phases[0], "map", "float32") for model in models_made]
    assert first is again
    assert len({id(program) for program in (first, *others)}) == 3
    assert len({id(engine.sample_program(model.sampler)) for model in models_made}) == 3


def test_every_line_about_a_run_begins_with_its_name(model_file, tmp_path, capfd):
    """Warnings and notes alike, as in a comparison of several arms."""
    how = settings(seeds=(0,), steps=1, batch_size=1000)
    quiet(model_file(WALK), None, how, tmp_path / "run", name="arm a, candidate 3")
    quiet("naive_bayes", None, settings(steps=1), tmp_path / "other", name="counts")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "arm a, candidate 3: batches of 1000 repeat examples: there are 808 to train on"
    assert lines[-1].startswith("counts: naive_bayes: log p(x), exact: ")
    assert all(line.startswith(("arm a, candidate 3: ", "counts: ")) for line in lines)


def test_what_a_killed_save_left_is_removed_without_a_word(tmp_path, caplog):
    left = tmp_path / "3.orbax-checkpoint-tmp"
    with Checkpoints(tmp_path, Keep()) as checkpoints:
        left.mkdir()
        checkpoints.save(3, {"a": np.arange(2, dtype=np.int32)}, {"belongs": {"model": "m"}, "seconds": 1.5})
        assert checkpoints.content(3)["seconds"] == 1.5
    assert not left.exists()
    assert not caplog.records
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(3, {"a": np.arange(2, dtype=np.int32)}, {"model": "m"})[0]["a"].tolist() == [0, 1]


def events(file):
    """Reads a TensorBoard file's events; a record is a length, 8 bytes, its checksum, 4, the event, a checksum, 4."""
    from tensorboardX.proto.event_pb2 import Event

    data, start, found = file.read_bytes(), 0, []
    while start < len(data):
        length = int.from_bytes(data[start : start + 8], "little")
        found.append(Event.FromString(data[start + 12 : start + 12 + length]))
        start += 16 + length
    return found


def test_a_run_by_time_ends_early_and_can_be_made_again_by_its_steps(model_file, tmp_path, monkeypatch):
    """Each chunk takes a minute by the fake clock; the first one, which compiles, is not counted."""
    file, ticks = model_file(WALK), iter(range(0, 10**9, 60))
    monkeypatch.setattr(loop.Clock, "now", lambda self: next(ticks))
    long = settings(seeds=(0, 1), steps=1000, log_every=5)
    timed = quiet(file, None, long, tmp_path / "timed", minutes=3)
    assert timed.step == timed.plan.settings.steps == 25
    assert json.loads((tmp_path / "timed" / "config.json").read_text())["settings"]["steps"] == 25
    assert json.loads((tmp_path / "timed" / "result.json").read_text())["minutes"] == 3
    by_steps = quiet(file, None, settings(seeds=(0, 1), steps=25, log_every=5), tmp_path / "steps")
    assert by_steps.digests() == timed.digests()

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train", None)
        again = quiet(file, None, long, tmp_path / "timed", minutes=3, resume=True)
    assert again.digests() == timed.digests()
    assert again.plan.settings.steps == 25
    (tmp_path / "timed" / "result.json").write_text("{")
    again = quiet(file, None, long, tmp_path / "timed", minutes=3, resume=True)
    assert (again.step, again.digests()) == (25, timed.digests())
    assert json.loads((tmp_path / "timed" / "result.json").read_text())["minutes"] == 3
    # with three more minutes none is lost: earlier minutes count, and a process's first chunk does not
    longer = quiet(file, None, long, tmp_path / "timed", minutes=6, resume=True)
    assert longer.step == 50
    for minutes in (0, -1, math.nan, math.inf):
        with pytest.raises(UserError, match="minutes must be above 0"):
            quiet(file, None, long, tmp_path / "never", minutes=minutes)
    assert not (tmp_path / "never").exists()


def test_metrics_are_means_since_the_last_row(tmp_path, model_file):
    file = model_file(
        HEADER
        + """
def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.float32(0))
    def step(key, state, batch):
        return state._replace(params=state.params + 1), {"value": state.params}
    return Model(init, (Phase("train", step),), ("image",))
"""
    )
    run = quiet(file, None, settings(steps=25, sample_every=7, checkpoint_every=1000), tmp_path / "run")
    values = {row["step"]: row["value"] for row in rows(run) if row["seed"] == 0}
    assert values == {7: 3.0, 10: 8.0, 14: 11.5, 20: 16.5, 21: 20.0, 25: 22.5}
