"""What all models have in common, over the table of models."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxgen import models
from jaxgen.adversarial import turns

SMALL = {
    "classifier": {"features": 4, "embedding_dim": 8},
    "naive_bayes": {},
    "autoencoder": {"features": 4, "latent_dim": 3},
    "vae": {"features": 4, "latent_dim": 3},
    "vaegan": {"features": 4, "latent_dim": 3},
    "gan": {
        **{"generator_units": 16, "discriminator_units": 8, "pieces": 2, "latent_dim": 5},
        **{"optimizer": "adam", "learning_rate": 1e-3},
    },
    "dcgan": {"features": 4, "latent_dim": 5},
    "cgan": {"features": 4, "latent_dim": 5},
    "mggan": {"features": 4, "latent_dim": 5, "code_dim": 3, "manifold_units": 8, "autoencoder_steps": 1},
    "infogan": {"features": 4, "noise_dim": 3, "dense_units": 8, "code_units": 8},
}
ALL = list(models.MODELS)
GANS = ["gan", "dcgan", "cgan", "infogan", "mggan"]
WITH_LATENTS = ["vae"]
WITH_PRIOR = {"autoencoder": "gaussian", "vae": "gaussian", "vaegan": "gaussian"}
WITH_PRIOR |= dict.fromkeys(("gan", "dcgan", "cgan", "mggan"), "uniform")


def make(name, spec, **fields):
    module = models.load(name)
    return module.make(module.Config(**{**SMALL[name], **fields}), spec)


@pytest.fixture(scope="module")
def begun(digits, batch):
    """Of a model by name: it, its initial state, its phases' steps, jitted once for all tests."""

    @functools.cache
    def of(name):
        model = make(name, digits.spec)
        return model, jax.jit(model.init)(jax.random.key(0), batch), [jax.jit(phase.step) for phase in model.phases]

    return of


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
def test_steps_are_finite_pure_and_keep_the_state_a_fixed_point_of_types(name, batch, begun):
    _, state, steps = begun(name)
    for step in steps:
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


@pytest.mark.parametrize("name", [name for name in ALL if name != "naive_bayes"])
def test_another_key_gives_another_start(name, batch, begun):
    model, state, _ = begun(name)
    a, b = map(jax.tree.leaves, (state.params, jax.jit(model.init)(jax.random.key(1), batch).params))
    assert any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", [n for n in ALL if n != "classifier"])
def test_samples_are_images_drawn_by_their_key(name, batch, begun):
    model, state, steps = begun(name)
    for step in steps:  # until BatchNorm's running averages are near to the maps of small initial weights
        for i in range(50):
            state, _ = step(jax.random.fold_in(jax.random.key(1), i), state, batch)
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


@pytest.mark.parametrize("name", WITH_LATENTS)
def test_latent_densities_are_of_each_example_alone(name, digits, batch):
    """Another z or image for one example leaves the others' densities as they are; gradients are finite."""
    model = make(name, digits.spec)
    assert model.likelihood
    latent, few = model.latent, {entry: values[:6] for entry, values in batch.items()}
    state = jax.jit(model.init)(jax.random.key(0), few)
    z, log_q = latent.sample_posterior(jax.random.key(1), state, few)
    prior = latent.sample_prior(jax.random.key(2), state, 6)
    assert (z.shape, z.dtype) == (prior.shape, prior.dtype) == ((6, *prior.shape[1:]), np.float32)

    def densities(batch, z):
        return latent.log_prior(state, z), latent.log_likelihood(state, batch, z)

    before = (*densities(few, z), log_q)
    assert all((density.shape, density.dtype) == ((6,), np.float32) for density in before)
    others = np.arange(6) != 2
    for old, new in zip(before, densities(few, z.at[2].set(prior[2])), strict=False):
        np.testing.assert_allclose(new[others], old[others], rtol=1e-6)
        assert abs(new[2] - old[2]) > 1e-3
    changed = {entry: np.concatenate([values[:2], values[:1], values[3:]]) for entry, values in few.items()}
    new = (*densities(changed, z), latent.sample_posterior(jax.random.key(1), state, changed)[1])
    for old, density in zip(before, new, strict=True):
        np.testing.assert_allclose(density[others], old[others], rtol=1e-6)
    gradient = jax.grad(lambda z: sum(density.sum() for density in densities(few, z)))(z)
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any(axis=tuple(range(1, z.ndim))).all()


@pytest.mark.parametrize("name", ALL)
def test_models_with_latent_densities_are_tested_for_them(name, digits):
    assert (make(name, digits.spec).latent is not None) == (name in WITH_LATENTS)


@pytest.mark.parametrize("name", ALL)
def test_models_with_a_prior_are_tested_for_it(name, digits):
    model = make(name, digits.spec)
    assert (model.prior and model.prior.kind) == WITH_PRIOR.get(name)
    assert model.decode or not model.prior


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_the_prior_is_of_its_kind(name, begun):
    """The first four moments of N(0, 1) or of uniform numbers in (-1, 1), within 5 standard errors."""
    model, state, _ = begun(name)
    z = np.asarray(model.prior.sample(jax.random.key(5), state, 20_000))
    assert z.dtype == np.float32
    even = {"gaussian": [1, 1, 3, 15, 105], "uniform": [1, 1 / 3, 1 / 5, 1 / 7, 1 / 9]}[model.prior.kind]
    for order in (1, 2, 3, 4):
        moment = 0 if order % 2 else even[order // 2]
        error = np.sqrt((even[order] - moment**2) / z.size)
        assert abs((z.astype(np.float64) ** order).mean() - moment) < 5 * error
    assert abs(np.corrcoef(z[:, 0], z[:, 1])[0, 1]) < 5 / np.sqrt(len(z))


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_samples_are_decoded_draws_of_the_prior(name, batch, begun):
    """At the same key, after a step: what BatchNorm's mode or the range of pixels would show."""
    model, state, steps = begun(name)
    state, _ = steps[0](jax.random.key(1), state, batch)
    given = [{entry: batch[entry][:10] for entry in model.conditions}] if model.conditions else []
    image = np.asarray(model.sample(jax.random.key(3), state, 10, *given)["image"])
    pixels = model.decode(state, model.prior.sample(jax.random.key(3), state, 10), *given)
    assert np.abs(255 * np.asarray(pixels, np.float64) - image).max() < 0.501
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize("name", GANS)
def test_a_gan_worries_as_the_game_does(name, digits):
    assert make(name, digits.spec).worries is turns.worries


@pytest.mark.parametrize(("name", "fields", "parts"), [*((n, {}, 2) for n in GANS), ("gan", {"packing": 3}, 6)])
def test_a_step_divides_its_batch_among_the_discriminators_turns(name, fields, parts, digits):
    """And a dense GAN's each turn's part among packs."""
    assert make(name, digits.spec, critic_steps=2, **fields).batch_parts == parts


@pytest.mark.parametrize("name", GANS)
def test_samples_are_drawn_from_the_averaged_generator(name, digits, batch):
    """Those of a model without average whose newest G is the averaged one, parameters and BatchNorm's averages both."""
    model, plain = make(name, digits.spec, average=0.5), make(name, digits.spec)
    state = jax.jit(model.init)(jax.random.key(0), batch)
    average = jax.tree.map(lambda leaf: 10 * leaf, state.extra["average"])
    assert bool(average["batch_stats"]) == (name != "gan")
    state = state._replace(extra={**state.extra, "average": average})

    as_newest = state._replace(
        params={**state.params, "generator": average["params"]},
        extra={**state.extra, "generator": average["batch_stats"]},
    )
    parameters_only = as_newest._replace(extra=state.extra)
    given = [(model, state), (plain, as_newest), (plain, state), (plain, parameters_only)]
    images = jax.jit(lambda: [m.sample(jax.random.key(3), s, 8, None)["image"] for m, s in given])()
    of_average, expected, of_newest, mixed = map(np.asarray, images)
    np.testing.assert_array_equal(of_average, expected)
    assert not np.array_equal(of_average, of_newest)
    assert np.array_equal(of_average, mixed) == (name == "gan")  # which has no BatchNorm
    assert (model.sampling, "averaged" in plain.sampling) == (f"the averaged {plain.sampling}", False)


@pytest.mark.parametrize(
    ("name", "metric", "bound"),
    [("vae", "reconstruction", -3.0), ("autoencoder", "loss", 0.02), ("classifier", "loss", 0.01)],
)
def test_one_batch_can_be_overfitted(name, metric, bound, digits, batch):
    """16 images learned by heart: the VAE's 64 bits to 3 nats, 64 pixels to .02, the classifier's labels to .01."""
    few = {entry: values[:16] for entry, values in batch.items()}
    fields = {
        "vae": {"features": 16, "latent_dim": 8, "learning_rate": 5e-3},
        "autoencoder": {"features": 16, "latent_dim": 8, "learning_rate": 5e-3},
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
    [("autoencoder", "decay_steps", 0), ("vae", "latent_dim", 0), ("vae", "deviation", -1.0), ("vaegan", "gamma", 1.0),
     ("dcgan", "beta1", 1.0), ("gan", "packing", 0),
     ("dcgan", "generator_learning_rate", 0.0),
     ("classifier", "dropout", 1.0), ("naive_bayes", "smoothing", float("nan"))],
)  # fmt: skip
def test_values_that_cannot_be_run(name, field, value, digits):
    from jaxgen.errors import UserError

    with pytest.raises(UserError, match=field):
        make(name, digits.spec, **{field: value})
