"""The VAE's terms against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen.losses import bernoulli_log_prob, gaussian_kl, gaussian_log_prob
from jaxgen.model import Spec
from jaxgen.models import vae


@pytest.fixture
def spec():
    image = jax.ShapeDtypeStruct((8, 8, 1), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((8, 8, 1), 0.3))


def images(num, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 1), dtype=np.uint8)


def test_kl_worked_by_hand():
    # 1/2 (m^2 + v - 1 - log v): (1, v 1) gives 1/2; (0, v e) gives (e - 2)/2; they add over latents.
    kl = gaussian_kl(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([[0.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(kl, [0.5 + (np.e - 2) / 2, 0.0], rtol=1e-6, atol=1e-7)


def test_kl_equals_a_monte_carlo_estimate():
    mean, log_variance = np.array([0.7, -1.2, 0.1]), np.array([-1.0, 0.5, -3.0])
    deviation = np.exp(log_variance / 2)
    z = mean + deviation * np.random.default_rng(0).standard_normal((1_000_000, 3))
    log_ratio = (scipy.stats.norm.logpdf(z, mean, deviation) - scipy.stats.norm.logpdf(z)).sum(1)
    error = log_ratio.std() / 1000
    kl = gaussian_kl(jnp.asarray(mean[None], jnp.float32), jnp.asarray(log_variance[None], jnp.float32))[0]
    assert abs(float(kl) - log_ratio.mean()) < 4 * error


def test_likelihoods_equal_scipy():
    rng = np.random.default_rng(1)
    x, logits = rng.integers(0, 2, (3, 4, 4, 1)), rng.normal(0, 3, (3, 4, 4, 1))
    expected = scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum((1, 2, 3))
    actual = bernoulli_log_prob(jnp.asarray(x, jnp.float32), jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)

    x, mean = rng.uniform(size=(3, 4, 4, 1)), rng.uniform(size=(3, 4, 4, 1))
    expected = scipy.stats.norm.logpdf(x, mean, 0.1).sum((1, 2, 3))
    actual = gaussian_log_prob(jnp.asarray(x, jnp.float32), jnp.asarray(mean, jnp.float32), 2 * float(np.log(0.1)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("logit", [1e2, 104.0, 1e4])
def test_bernoulli_log_prob_stays_finite(logit):
    """log(-expm1(log_sigmoid(l))) gives nan from a logit of 104 on."""
    x = jnp.array([[0.0], [1.0]])
    value, gradient = jax.value_and_grad(lambda logits: bernoulli_log_prob(x, logits).sum())(jnp.full((2, 1), logit))
    assert float(value) == pytest.approx(-logit)
    np.testing.assert_allclose(gradient, [[-1.0], [0.0]], atol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        bernoulli_log_prob(jnp.zeros((2, 4)), jnp.zeros((2, 1)))


def zeroed(params):
    return jax.tree.map(jnp.zeros_like, params)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_elbo_with_all_weights_zero_is_closed_form(spec, likelihood):
    """Zero weights: q(z|x) = N(0, I), so KL 0; logits 0, so p = 1/2 a bit, or mean 1/2 a level."""
    config = vae.Config(latent_dim=3, features=4, likelihood=likelihood, deviation=0.25)
    model = vae.make(config, spec)
    batch = {"image": images(5)}
    state = jax.jit(model.init)(jax.random.key(0), batch)
    state = state._replace(params=zeroed(state.params))
    elbo = jax.jit(model.log_prob)(jax.random.key(1), state, batch)
    if likelihood == "bernoulli":
        expected = np.full(5, -64 * np.log(2))
    else:
        expected = scipy.stats.norm.logpdf(batch["image"] / 255, 0.5, 0.25).sum((1, 2, 3))
    np.testing.assert_allclose(elbo, expected, rtol=1e-5)


def test_elbo_with_a_posterior_that_does_not_reach_the_decoder(spec):
    """Encoder biases set, decoder weights zero: ELBO = log p(x) - KL exactly, whatever z is drawn."""
    config = vae.Config(latent_dim=2, features=4)
    model = vae.make(config, spec)
    batch = {"image": images(4)}
    state = jax.jit(model.init)(jax.random.key(0), batch)
    params = zeroed(state.params)
    mean, raw = np.array([0.5, -1.0], np.float32), np.array([1.0, -2.0], np.float32)
    params["encoder"]["Dense_0"]["bias"] = jnp.asarray(mean)
    params["encoder"]["Dense_1"]["bias"] = jnp.asarray(raw)
    params["decoder"]["bias"] = jnp.full((8, 8, 1), 1.5)
    log_variance = 8 * np.tanh(raw / 8)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum()
    bits = batch["image"] >= 128
    p = 1 / (1 + np.exp(-1.5))
    log_likelihood = np.where(bits, np.log(p), np.log1p(-p)).sum((1, 2, 3))
    elbo = jax.jit(model.log_prob)(jax.random.key(3), state._replace(params=params), batch)
    np.testing.assert_allclose(elbo, log_likelihood - kl, rtol=1e-5)


def test_loss_is_minus_the_mean_elbo(spec):
    model = vae.make(vae.Config(latent_dim=2, features=4), spec)
    batch = {"image": images(6), "weight": np.ones(6, np.float32)}
    state = jax.jit(model.init)(jax.random.key(0), batch)
    key = jax.random.key(9)
    _, metrics = jax.jit(model.phases[0].step)(key, state, batch)
    np.testing.assert_allclose(metrics["loss"], -jax.jit(model.log_prob)(key, state, batch).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], metrics["kl"] - metrics["reconstruction"], rtol=1e-6)


def test_log_prob_equals_the_terms_worked_out_from_the_networks(spec):
    """The ELBO of an untouched model, in float64 from q's parameters and the same noise (drawn by the key)."""
    config = vae.Config(latent_dim=3, features=4)
    model = vae.make(config, spec)
    batch = {"image": images(5)}
    state = jax.jit(model.init)(jax.random.key(2), batch)
    key = jax.random.key(7)
    bits = (batch["image"] >= 128).astype(np.float32)
    encoder, decoder = vae.Encoder(config, 1, spec.compute_dtype), vae.Decoder(config, spec)
    mean, log_variance = encoder.apply({"params": state.params["encoder"]}, bits)
    np.testing.assert_allclose(model.encode(key, state, batch), mean, rtol=1e-5, atol=1e-6)
    mean, log_variance = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    z = mean + np.sqrt(np.exp(log_variance)) * np.asarray(jax.random.normal(key, mean.shape), np.float64)
    logits = np.asarray(decoder.apply({"params": state.params["decoder"]}, jnp.asarray(z, jnp.float32)), np.float64)
    np.testing.assert_allclose(model.decode(state, jnp.asarray(z, jnp.float32)), 1 / (1 + np.exp(-logits)), rtol=1e-5)
    expected = scipy.stats.bernoulli.logpmf(bits, 1 / (1 + np.exp(-logits))).sum((1, 2, 3))
    deviation = np.exp(log_variance / 2)
    expected -= (np.log(1 / deviation) + (deviation**2 + mean**2) / 2 - 0.5).sum(1)
    np.testing.assert_allclose(jax.jit(model.log_prob)(key, state, batch), expected, rtol=1e-5)


def test_first_decoded_images_are_the_data_mean_without_latents(spec):
    model = vae.make(vae.Config(latent_dim=2, features=4), spec)
    state = jax.jit(model.init)(jax.random.key(0), {"image": images(2)})
    params = {**state.params, "decoder": {**zeroed(state.params["decoder"]), "bias": state.params["decoder"]["bias"]}}
    np.testing.assert_allclose(model.decode(state._replace(params=params), jnp.zeros((1, 2))), 0.3, rtol=1e-5)
