"""What all models have in common, over the table of models."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgen import data, models

SMALL = {
    "classifier": {"features": 4, "embedding_dim": 8},
    "naive_bayes": {},
    "vae": {"features": 4, "latent_dim": 3},
    "dcgan": {"features": 4, "latent_dim": 5},
}
ALL = list(models.MODELS)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def batch(digits):
    return {name: entry[:32] for name, entry in digits.train.items()} | {"weight": np.ones(32, np.float32)}


def make(name, spec, **fields):
    module = models.load(name)
    return module.make(module.Config(**{**SMALL[name], **fields}), spec)


def test_every_model_is_tested_here():
    assert set(SMALL) == set(models.MODELS)


@pytest.mark.parametrize("name", ALL)
def test_config_is_frozen_and_its_fields_have_defaults(name):
    config = models.load(name).Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


@pytest.mark.parametrize("name", ALL)
def test_needs_is_honest(name, digits, batch):
    """A step reads the entries it needs, `weight`, and no other; without one of them it cannot be traced."""
    model = make(name, digits.spec)
    given = {entry: batch[entry] for entry in (*model.needs, "weight")}
    state = jax.eval_shape(model.init, jax.random.key(0), given)
    for phase in model.phases:
        jax.eval_shape(phase.step, jax.random.key(1), state, given)
        for entry in model.needs:
            less = {k: v for k, v in given.items() if k != entry}
            with pytest.raises(KeyError):
                jax.eval_shape(phase.step, jax.random.key(1), state, less)


@pytest.mark.parametrize("name", ALL)
def test_steps_are_finite_pure_and_keep_the_state_a_fixed_point_of_types(name, digits, batch):
    model = make(name, digits.spec)
    state = jax.jit(model.init)(jax.random.key(0), batch)
    for phase in model.phases:
        step = jax.jit(phase.step)
        new, metrics = step(jax.random.key(1), state, batch)
        again, _ = step(jax.random.key(1), state, batch)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, new, again)
        for old_leaf, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
            assert (old_leaf.shape, old_leaf.dtype) == (leaf.shape, leaf.dtype)
            assert np.isfinite(leaf).all()
        assert all(m.shape == () and np.isfinite(m) for m in metrics.values())
        moved = [
            not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state.params, new.params)), strict=True)
        ]
        assert any(moved)


@pytest.mark.parametrize("name", ["classifier", "vae", "dcgan"])
def test_another_key_gives_another_start(name, digits, batch):
    model = make(name, digits.spec)
    init = jax.jit(model.init)
    a, b = (jax.tree.leaves(init(jax.random.key(seed), batch).params) for seed in (0, 1))
    assert any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", [n for n in ALL if n != "classifier"])
def test_samples_are_images_drawn_by_their_key(name, digits, batch):
    model = make(name, digits.spec)
    state = jax.jit(model.init)(jax.random.key(0), batch)
    for phase in model.phases:
        state, _ = jax.jit(phase.step)(jax.random.key(1), state, batch)
    first, again, other = (np.asarray(model.sample(jax.random.key(key), state, 10, None)["image"]) for key in (3, 3, 4))
    assert (first.shape, first.dtype) == ((10, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first.reshape(10, -1), axis=0)) == 10
    assert model.sampling


@pytest.mark.parametrize("name", ALL)
def test_log_prob_says_what_it_measures(name, digits):
    model = make(name, digits.spec)
    assert (model.log_prob is None) == (model.likelihood is None)
    if model.likelihood:
        assert model.likelihood.space in ("binary", "uint8", "continuous")
        assert model.likelihood.kind in ("exact", "bound")


@pytest.mark.parametrize(("name", "metric", "bound"), [("vae", "reconstruction", -3.0), ("classifier", "loss", 0.01)])
def test_one_batch_can_be_overfitted(name, metric, bound, digits, batch):
    """16 images learned by heart: the VAE's 64 bits to 3 nats, the classifier's labels to .01."""
    few = {entry: values[:16] for entry, values in batch.items()}
    fields = {
        "vae": {"features": 16, "latent_dim": 8, "learning_rate": 5e-3},
        "classifier": {"features": 8, "dropout": 0.0},
    }[name]
    model = make(name, digits.spec, **fields)
    state = jax.jit(model.init)(jax.random.key(0), few)

    @jax.jit
    def fit(state):
        def take(i, state):
            return model.phases[0].step(jax.random.fold_in(jax.random.key(1), i), state, few)[0]

        return jax.lax.fori_loop(0, 1000, take, state)

    _, metrics = jax.jit(model.phases[0].step)(jax.random.key(2), fit(state), few)
    assert metrics[metric] > bound if metric == "reconstruction" else metrics[metric] < bound


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("vae", "latent_dim", 0), ("vae", "deviation", -1.0), ("dcgan", "beta1", 1.0),
     ("dcgan", "generator_learning_rate", 0.0),
     ("classifier", "dropout", 1.0), ("naive_bayes", "smoothing", float("nan"))],
)  # fmt: skip
def test_values_that_cannot_be_run(name, field, value, digits):
    from jaxgen.errors import UserError

    with pytest.raises(UserError, match=field):
        make(name, digits.spec, **{field: value})
