"""The mesh VAE's terms against closed forms, and meshes that are encoded and decoded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import trimesh

from jaxgen.data.mesh_features import Meshes
from jaxgen.deformation import KINDS, Deformation, aligned, size
from jaxgen.errors import UserError
from jaxgen.likelihoods import gaussian_kl
from jaxgen.model import Spec
from jaxgen.models import meshvae
from tests.models.by_hand import drawn_state
from tests.models.contract import Contract

CONTRACT = Contract(
    {"features": "aligned", "hidden": (8,), "latent_dim": 3}, dataset="bars", prior="gaussian", encodes=True
)

NUM = 24


@pytest.fixture(scope="module")
def data():
    """Bent and stretched ellipsoids of 42 vertices, their features, and their spec."""
    sphere, rng = trimesh.creation.icosphere(subdivisions=1), np.random.default_rng(2)
    faces, (x, y, z) = np.asarray(sphere.faces, np.int32), sphere.vertices.T * [[2], [1], [1]]
    bend, stretch = rng.uniform(-0.4, 0.4, (2, NUM, 1))
    turn = bend * x
    meshes = np.stack([(1 + stretch) * x - z * np.sin(turn), y + 0 * turn, z * np.cos(turn) + turn * x], axis=-1)
    split = {"mesh": meshes.astype(np.float32)}
    reference = split["mesh"][0]
    for kind in KINDS:
        split[kind] = Deformation(reference, faces, kind).features(meshes).astype(np.float32)
    entries = {name: jax.ShapeDtypeStruct(entry.shape[1:], np.float32) for name, entry in split.items()}
    return split, Spec(entries, NUM, faces=faces, reference=reference, batch_size=NUM)


def entered(model, state, split):
    """The state when training begins: two batches, the second padded with the first mesh."""
    padded = {name: np.concatenate([entry[16:], entry[:1].repeat(8, 0)]) for name, entry in split.items()}
    padded["weight"] = np.float32([1] * 8 + [0] * 8)
    first = {name: entry[:16] for name, entry in split.items()} | {"weight": np.ones(16, np.float32)}
    return model.phases[0].enter(jax.random.key(0), state, iter([first, padded]))


def test_extended_kl_worked_by_hand():
    """log(sigma_p/sigma) + (sigma^2 + mu^2)/(2 sigma_p^2) - 1/2: 0 at the prior; 1/2 one deviation away; and so on."""
    deviations = jnp.array([0.1, 0.1, 2.0])
    mean = jnp.array([[0, 0, 0], [0.1, 0, 0], [0, 0, 0]], jnp.float32)
    log_variance = jnp.log(jnp.array([[0.01, 0.01, 4], [0.01, 0.01, 4], [0.01, 0.01, 1]]))
    expected = [0, 0.5, np.log(2) + 1 / 8 - 1 / 2]
    np.testing.assert_allclose(meshvae.extended_kl(mean, log_variance, deviations), expected, atol=1e-5)


def test_extended_kl_equals_a_monte_carlo_estimate():
    mean, log_variance, prior = np.array([0.3, -0.1]), np.array([-2.0, 0.5]), np.array([0.2, 1.5])
    deviation = np.exp(log_variance / 2)
    z = mean + deviation * np.random.default_rng(0).standard_normal((500_000, 2))
    ratio = (scipy.stats.norm.logpdf(z, mean, deviation) - scipy.stats.norm.logpdf(z, 0, prior)).sum(1)
    kl = meshvae.extended_kl(*(jnp.asarray(a[None], jnp.float32) for a in (mean, log_variance)), jnp.float32(prior))
    assert abs(float(kl[0]) - ratio.mean()) < 4 * ratio.std() / np.sqrt(500_000)


def test_extended_kl_with_deviations_of_1_is_the_ordinary_one():
    mean, log_variance = jax.random.normal(jax.random.key(0), (2, 5, 4))
    found = meshvae.extended_kl(mean, log_variance, jnp.ones(4))
    np.testing.assert_array_equal(found, gaussian_kl(mean, log_variance))


def test_features_are_scaled_by_groups_of_the_training_data(data):
    split, spec = data
    model = meshvae.make(meshvae.Config(hidden=(4,), latent_dim=2), spec)
    scales = entered(model, drawn_state(model.init), split).extra
    turns = 3 * 120  # numbers of the 120 edges' rotations
    assert split["rimd"].shape[1] == turns + 6 * 42 == size(spec.faces, 42, "rimd")
    low = np.concatenate([np.full(turns, split["rimd"][:, :turns].min()), np.full(252, split["rimd"][:, turns:].min())])
    high = np.concatenate(
        [np.full(turns, split["rimd"][:, :turns].max()), np.full(252, split["rimd"][:, turns:].max())]
    )
    np.testing.assert_array_equal(scales["low"], low)
    np.testing.assert_array_equal(scales["high"], high)
    values = np.asarray(meshvae.scaled(scales, split["rimd"]))
    np.testing.assert_allclose(values, 0.95 * (2 * (split["rimd"] - low) / (high - low) - 1), atol=1e-6)
    for group in (values[:, :turns], values[:, turns:]):
        assert (group.min(), group.max()) == pytest.approx((-0.95, 0.95))
    np.testing.assert_allclose(scales["mean"], values.mean(0), atol=1e-6)
    np.testing.assert_allclose(meshvae.unscaled(scales, values), split["rimd"], atol=1e-5)


def test_constant_features_are_scaled_to_0_and_restored():
    scales = {"low": jnp.array([2.0, 0.0]), "high": jnp.array([2.0, 1.0])}
    values = meshvae.scaled(scales, jnp.array([[2.0, 1.0]]))
    np.testing.assert_allclose(values, [[0, 0.95]], rtol=1e-6)
    np.testing.assert_allclose(meshvae.unscaled(scales, values), [[2, 1]], rtol=1e-6)


def test_elbo_with_all_weights_zero_is_closed_form(data):
    """q = N(0, I) and g = the mean: KL to the extended prior, and a Gaussian density of the scaled features."""
    split, spec = data
    config = meshvae.Config(hidden=(4,), latent_dim=3, deviation=0.2, prior_deviations=(1.0, 0.5))
    model = meshvae.make(config, spec)
    state = entered(model, drawn_state(model.init), split)
    zero = state._replace(params=jax.tree.map(np.zeros_like, state.params))
    _, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), zero, split)
    values = np.asarray(meshvae.scaled(state.extra, split["rimd"]), np.float64)
    reconstruction = scipy.stats.norm.logpdf(values, values.mean(0), 0.2).sum(1).mean()
    kl = 2 * (np.log(0.5) + 1 / (2 * 0.25) - 0.5)
    np.testing.assert_allclose(metrics["reconstruction"], reconstruction, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], kl - reconstruction, rtol=1e-4)
    mesh = model.latents.decode(zero, jnp.zeros((1, 3)), {})["mesh"]
    expected = Deformation(spec.reference, spec.faces, "rimd").meshes(split["rimd"].mean(0, dtype=float)[None])
    np.testing.assert_allclose(mesh, expected, atol=1e-4)


def test_one_step_equals_the_networks_worked_out(data):
    """Both terms in float64, from the parameters and the noise drawn by the key."""
    split, spec = data
    config = meshvae.Config(features="gradients", hidden=(5, 4), latent_dim=3, prior_deviations=(0.7,), deviation=0.3)
    model = meshvae.make(config, spec)
    state, key = entered(model, drawn_state(model.init), split), jax.random.key(3)
    _, metrics = jax.jit(model.phases[0].step)(key, state, split)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)

    def dense(net, name, x):
        return x @ params[net][name]["kernel"] + params[net][name]["bias"]

    x = np.asarray(meshvae.scaled(state.extra, split["gradients"]), np.float64)
    h = np.tanh(dense("encoder", "Dense_1", np.tanh(dense("encoder", "Dense_0", x - x.mean(0)))))
    mean, log_variance = dense("encoder", "Dense_2", h), 8 * np.tanh(dense("encoder", "Dense_3", h) / 8)
    z = mean + np.exp(log_variance / 2) * np.asarray(jax.random.normal(key, mean.shape), np.float64)
    h = np.tanh(dense("decoder", "Dense_1", np.tanh(dense("decoder", "Dense_0", z))))
    g = np.tanh(np.arctanh(x.mean(0)) + dense("decoder", "Dense_2", h))
    deviation = np.exp(log_variance / 2)
    kl = (np.log(0.7 / deviation) + (deviation**2 + mean**2) / (2 * 0.49) - 0.5).sum(1).mean()
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(metrics["reconstruction"], scipy.stats.norm.logpdf(x, g, 0.3).sum(1).mean(), rtol=1e-4)
    np.testing.assert_allclose(model.latents.encode(state, split), mean / 0.7, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_meshes_are_learned_by_heart(data, kind):
    """Bend and stretch are found: decoded meshes differ from theirs by under a sixth of the mean mesh's distance."""
    split, spec = data
    config = meshvae.Config(features=kind, hidden=(32,), latent_dim=2, learning_rate=1e-2, decay_steps=400)
    model = meshvae.make(config, spec)
    state = entered(model, jax.jit(model.init)(jax.random.key(0)), split)

    @jax.jit
    def fit(state, keys):
        return jax.lax.scan(lambda state, key: (model.phases[0].step(key, state, split)[0], None), state, keys)[0]

    meshes = Deformation(spec.reference, spec.faces, kind).meshes(split[kind])  # as far as features give them back

    def error(codes):
        made = np.asarray(model.latents.decode(state, codes, {})["mesh"])
        placed = np.stack([aligned(a[None], b)[0] for a, b in zip(meshes, made, strict=True)])
        return np.linalg.norm(placed - made, axis=-1).mean()

    state = fit(state, jax.random.split(jax.random.key(1), 400))
    codes = model.latents.encode(state, split)
    assert error(codes) < error(jnp.zeros_like(codes)) / 6


def test_seeds_are_decoded_together_as_one_by_one(data):
    _, spec = data
    model = meshvae.make(meshvae.Config(hidden=(4,), latent_dim=2), spec)
    states = jax.tree.map(lambda *leaves: np.stack(leaves), drawn_state(model.init, 0), drawn_state(model.init, 5))
    states.extra["high"][:] = np.abs(states.extra["high"]) + 1
    z = jax.random.normal(jax.random.key(0), (2, 5, 2))
    decode = jax.jit(jax.vmap(lambda state, z: model.latents.decode(state, z, {})["mesh"]))
    both = decode(states, z)
    assert both.shape == (2, 5, 42, 3)
    for seed in range(2):
        own = jax.tree.map(lambda leaf, seed=seed: np.asarray(leaf)[seed], states)
        np.testing.assert_allclose(model.latents.decode(own, z[seed], {})["mesh"], both[seed], atol=1e-4)


def test_decoded_latents_are_in_units_of_the_prior(data):
    _, spec = data
    fields = {"hidden": (4,), "latent_dim": 3}
    plain = meshvae.make(meshvae.Config(**fields), spec)
    extended = meshvae.make(meshvae.Config(**fields, prior_deviations=(2.0, 0.1)), spec)
    state, z = jax.jit(plain.init)(jax.random.key(0)), jnp.array([[1.0, 2.0, -3.0]])
    expected = plain.latents.decode(state, z * jnp.array([2, 0.1, 0.1]), {})["mesh"]
    np.testing.assert_allclose(extended.latents.decode(state, z, {})["mesh"], expected, atol=1e-6)
    samples = extended.sampler.draw(jax.random.key(7), state, 4, {})["mesh"]
    drawn = extended.latents.prior.sample(jax.random.key(7), state, 4)
    np.testing.assert_array_equal(samples, extended.latents.decode(state, drawn, {})["mesh"])


@pytest.mark.parametrize("kind", KINDS)
def test_before_training_meshes_are_close_to_the_reference(data, kind):
    _, spec = data
    model = meshvae.make(meshvae.Config(features=kind, hidden=(4,), latent_dim=2), spec)
    state = jax.jit(model.init)(jax.random.key(0))
    at_rest = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    np.testing.assert_allclose(
        model.latents.decode(at_rest, jnp.zeros((1, 2)), {})["mesh"][0], spec.reference, atol=1e-4
    )


def test_needs_are_honest_and_features_of_a_split_serve(data):
    split, spec = data
    for kind in KINDS:
        model = meshvae.make(meshvae.Config(features=kind, hidden=(4,), latent_dim=2), spec)
        assert model.needs == (kind,)
        lazy = Meshes({"mesh": split["mesh"]}, spec.faces, spec.reference, spec.reference)
        assert lazy.keys() == {"mesh"}
        state = jax.eval_shape(model.init, jax.random.key(0))
        new, metrics = jax.eval_shape(model.phases[0].step, jax.random.key(1), state, {kind: split[kind]})
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), state
        )
        assert {name: metric.shape for name, metric in metrics.items()} == {"loss": (), "reconstruction": (), "kl": ()}
        with pytest.raises(KeyError, match=kind):
            jax.eval_shape(model.phases[0].step, jax.random.key(1), state, {"mesh": split["mesh"]})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"latent_dim": 0}, "latent_dim must be above 0"),
        ({"deviation": 0.0}, "deviation must be above 0"),
        ({"hidden": (10, 0)}, "hidden must be numbers above 0"),
        ({"prior_deviations": (1.0, -0.1)}, "prior_deviations must be numbers above 0"),
        ({"prior_deviations": ()}, "prior_deviations must be 1 to 16 numbers, as latent_dim is, not 0"),
        ({"latent_dim": 1, "prior_deviations": (1.0, 0.1)}, "prior_deviations must be 1 to 1 numbers"),
        ({"decay_steps": 0}, "decay_steps must be above 0"),
    ],
)
def test_values_that_cannot_be_run(data, fields, words):
    with pytest.raises(UserError, match=words):
        meshvae.make(meshvae.Config(**fields), data[1])
