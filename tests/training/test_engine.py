"""Building blocks of the seed axis."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.likelihoods import gaussian_log_prob
from jaxgen.model import Model, Phase, Sampler, State
from jaxgen.training import engine
from jaxgen.training.engine import SAMPLES_AT_ONCE, alike, finite, sampler


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2048,), (64, 32), (2048, 1), (4, 4, 16, 8)])
def test_one_number_that_is_not_finite_is_found(shape, mapped):
    """Checked in the compiled program, where a compiler might treat a product with 0 as 0; separately for each seed."""
    found = jax.jit(jax.vmap(finite) if mapped else finite)
    numbers = np.random.default_rng(0).uniform(-3e38, 3e38, ((2, *shape) if mapped else shape)).astype(np.float32)
    tree = {"numbers": numbers, "counts": np.full((2,), 7, np.int32)}
    assert np.all(found(tree))
    for place in {0, numbers.size // 2, numbers.size - 1}:
        for bad in (np.nan, np.inf, -np.inf):
            changed = numbers.copy()
            changed.reshape(-1)[place] = bad
            per_seed = changed.reshape(2, -1) if mapped else changed.reshape(1, -1)
            assert np.atleast_1d(found(tree | {"numbers": changed})).tolist() == np.isfinite(per_seed).all(1).tolist()


def test_samples_come_with_what_was_asked_for():
    """Samples are drawn in parts of 512 with a key each, from each seed's own state and condition."""

    def draw(key, state, num, condition):
        return {"noise": jax.random.uniform(key, (num,)), "times": state.params * condition["label"]}

    model = Model(None, (), (), sampler=Sampler(draw, ("label",)))
    keys, state = jax.random.split(jax.random.key(0), 2), State(jnp.zeros(2, jnp.int32), jnp.array([2, 3]))
    label = np.arange(2200, dtype=np.int32).reshape(2, 1100)
    made = sampler(model)(keys, state, 1100, {"label": label})
    assert set(made) == {"noise", "times", "label"}
    np.testing.assert_array_equal(made["label"], label)
    np.testing.assert_array_equal(made["times"], label * [[2], [3]])
    for seed, key in enumerate(keys):
        for part, num in enumerate((SAMPLES_AT_ONCE, SAMPLES_AT_ONCE, 76)):
            expected = jax.random.uniform(jax.random.fold_in(key, part), (num,))
            np.testing.assert_array_equal(made["noise"][seed, part * SAMPLES_AT_ONCE :][:num], expected)


def test_a_condition_can_be_alike_for_all_seeds():
    assert {name: entry.tolist() for name, entry in alike({"label": np.array([4, 7])}, 3).items()} == {
        "label": [[4, 7]] * 3
    }
    assert alike({}, 3) == {}


@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_a_cpu_alone_sums_and_looks_for_what_is_not_finite_by_a_product(platform):
    """The platform is that for which a program is lowered, on any machine."""
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    for function in (finite, lambda x: gaussian_log_prob(x, x, 0.0)):
        text = jax.jit(function).trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.dot_general") == (1 if platform == "cpu" else 0)


def test_sums_of_metrics_of_any_kind_are_exact():
    """300 steps of metrics that their own dtype could not sum: 300 times 200 is no byte, and 256 + 1 no bfloat16."""

    def step(key, state, batch):
        metrics = {"byte": jnp.uint8(200), "half": jnp.bfloat16(1), "true": state.step % 3 == 0}
        return state, metrics | {"whole": state.step, "loss": batch["point"].sum()}

    program = engine.chunk_program(Phase("train", step), "vmap", "float32")
    keys, state = jax.random.split(jax.random.key(0), 2), State(jnp.zeros(2, jnp.int32), jnp.ones((2, 3)))
    rows = jnp.zeros((300, 4), jnp.int32), jnp.ones((300, 4)), None, jnp.int32(300)
    *_, sums, steps = program(keys, state, jnp.ones(2, bool), {"point": jnp.ones((5, 2))}, *rows)
    assert steps.tolist() == [300, 300]
    expected = {"byte": 60000, "half": 300, "true": 100, "whole": 300 * 299 / 2, "loss": 300 * 8}
    assert {name: total.tolist() for name, total in sums.items()} == {name: [x, x] for name, x in expected.items()}


@pytest.mark.parametrize("how", ["map", "vmap"])
@pytest.mark.parametrize("fails", ["metric", "state"])
def test_a_seed_stops_before_the_step_that_fails(how, fails):
    """Five seeds: failing in the middle of a chunk, never, at its first step, at its last, and before it."""
    first, bad = np.int32([10, 20, 12, 40, 30]), np.int32([12, 0, 12, 43, 0])

    def step(key, state, batch):
        broken = jnp.where(state.step == state.extra, jnp.nan, 0.0)
        moved = state.params + batch["point"].sum() + state.step.astype(jnp.float32)
        state = state._replace(params=moved + (broken if fails == "state" else 0.0))
        return state, {"loss": moved + (broken if fails == "metric" else 0.0)}

    program = engine.chunk_program(Phase("train", step), how, "float32")
    keys, state = jax.random.split(jax.random.key(0), 5), State(jnp.array(first), jnp.zeros(5), (), jnp.array(bad))
    data, rows = {"point": jnp.arange(5.0)[:, None]}, (jnp.arange(5)[:, None], jnp.ones((5, 1)), None)
    alive = jnp.array([True, True, True, True, False])
    state, alive, sums, steps = program(keys, state, alive, data, *rows, jnp.int32(4))
    taken = np.array([2, 4, 0, 3, 0])
    moved = [np.cumsum(at + 2 * np.arange(num)) for at, num in zip(first, taken, strict=True)]  # by point and number
    assert alive.tolist() == [False, True, False, False, False]
    assert steps.tolist() == taken.tolist()
    assert state.step.tolist() == (first + taken).tolist()
    assert state.params.tolist() == [values[-1] if values.size else 0 for values in moved]
    assert sums["loss"].tolist() == [values.sum() for values in moved]
    for count in (0, 3):
        before = jax.device_get((alive, state))
        state, alive, sums, steps = program(keys, state, alive, data, *rows, jnp.int32(count))
        assert steps.tolist() == [0, count, 0, 0, 0]
        assert alive.tolist() == before[0].tolist()
        for new, old in zip(jax.tree.leaves(state), jax.tree.leaves(before[1]), strict=True):
            assert np.delete(new, 1).tolist() == np.delete(old, 1).tolist()


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("", {"xla_backend_optimization_level": 1}),
        ("--xla_force_host_platform_device_count=2", {"xla_backend_optimization_level": 1}),
        ("--xla_backend_optimization_level=3", {}),
    ],
)
def test_flags_of_the_user_go_before_the_compiler_options(flags, options, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert engine.compiler_options("cpu") == options
    assert engine.compiler_options("rocm") == {}


def test_products_of_float32_are_eigens_where_the_compiler_has_the_choice(monkeypatch):
    """jaxlib has the option since 0.10; before, products were Eigen's."""
    monkeypatch.setenv("XLA_FLAGS", "")
    own, known = engine.COMPILER_OPTIONS["cpu"], tuple(map(int, jax.__version__.split(".")[:2])) >= (0, 10)
    options = engine.compiler_options("cpu", "float32")
    assert options == own | (engine.EIGEN if known else {})
    assert engine.compiler_options("cpu") == engine.compiler_options("cpu", "bfloat16") == own
    product = jax.jit(lambda x: x @ x, compiler_options=options).lower(jnp.ones((8, 8))).compile()
    assert " dot(" in product.as_text()
    monkeypatch.setattr(engine, "EIGEN", {"xla_no_such_option": "1"})
    assert engine.compiler_options("cpu", "float32") == own


@pytest.mark.parametrize(("known_to", "compiles"), [("tpu", False), ("cpu", True)])
def test_a_chunk_is_compiled_with_the_options_of_its_devices(known_to, compiles, monkeypatch):
    """The options are not those of JAX's default backend."""
    monkeypatch.setattr(engine, "COMPILER_OPTIONS", {known_to: {"no_such_option": 1}})
    devices = Mock(size=1, devices=np.array([[Mock(platform="tpu")]]))
    phase = Phase("train", lambda key, state, batch: (state, {"loss": batch["point"].sum()}))
    program = engine.chunk_program(phase, "vmap", "float32", devices)
    keys, state = jax.random.split(jax.random.key(0), 1), State(jnp.zeros(1, jnp.int32), jnp.ones((1, 3)))
    rows = jnp.zeros((2, 4), jnp.int32), jnp.ones((2, 4)), None, jnp.int32(1)
    lowered = program.lower(keys, state, jnp.ones(1, bool), {"point": jnp.ones((5, 2))}, *rows)
    if compiles:
        lowered.compile()
    else:
        with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
            lowered.compile()
