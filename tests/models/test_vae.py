"""The VAE's terms against closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen.errors import UserError
from jaxgen.likelihoods import bernoulli_log_prob, discretized_logistic_log_prob, gaussian_kl, gaussian_log_prob
from jaxgen.metrics.evidence import annealed_importance, importance_bound
from jaxgen.model import Spec
from jaxgen.models import vae
from tests.cases import some_slow
from tests.models.by_hand import drawn_state
from tests.models.contract import Contract

CONTRACT = Contract(
    {"features": 4, "smallest": 4, "latent_dim": 3}, likelihood="bound", prior="gaussian", encodes=True, densities=True
)


@pytest.fixture(scope="module")
def spec():
    image = jax.ShapeDtypeStruct((8, 8, 1), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((8, 8, 1), 0.3), binary=True)


def images(num, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 1), dtype=np.uint8)


def test_kl_worked_by_hand():
    # 1/2 (m^2 + v - 1 - log v): (1, v 1) gives 1/2; (0, v e) gives (e - 2)/2; latents add up.
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
    """log(-expm1(log_sigmoid(l))) gives nan for logits from 104 on."""
    x = jnp.array([[0.0], [1.0]])
    value, gradient = jax.jit(jax.value_and_grad(lambda logits: bernoulli_log_prob(x, logits).sum()))(
        jnp.full((2, 1), logit)
    )
    assert float(value) == pytest.approx(-logit)
    np.testing.assert_allclose(gradient, [[-1.0], [0.0]], atol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        bernoulli_log_prob(jnp.zeros((2, 4)), jnp.zeros((2, 1)))


LIKELIHOODS = {"bernoulli": {"likelihood": "bernoulli"}, "gaussian": {"likelihood": "gaussian", "deviation": 0.25}}
"""Map from a likelihood's name in the tests to its fields."""


def no_label(num):
    return jnp.zeros((num, 0))


def zeroed(model):
    """Makes an initial state with all parameters 0."""
    state = drawn_state(model.init)
    return state._replace(params=jax.tree.map(np.zeros_like, state.params))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_elbo_with_all_weights_zero_is_closed_form(spec, likelihood):
    """Zero weights make q(z|x) = N(0, I), so KL is 0, and logits 0, so p = 1/2 a bit, or the mean is 1/2 a level."""
    model = vae.make(vae.Config(latent_dim=3, features=4, **LIKELIHOODS[likelihood]), spec)
    batch = {"image": images(5)}
    elbo = jax.jit(model.likelihood.log_prob)(jax.random.key(1), zeroed(model), batch)
    if likelihood == "bernoulli":
        expected = np.full(5, -64 * np.log(2))
    else:
        expected = scipy.stats.norm.logpdf(batch["image"] / 255, 0.5, 0.25).sum((1, 2, 3))
    np.testing.assert_allclose(elbo, expected, rtol=1e-5)


def test_elbo_with_a_posterior_that_does_not_reach_the_decoder(spec):
    """ELBO = log p(x) - KL exactly, for any draw of z, with encoder biases set and decoder weights zero."""
    config = vae.Config(latent_dim=2, features=4)
    model = vae.make(config, spec)
    batch = {"image": images(4)}
    state = zeroed(model)
    params = state.params
    mean, raw = np.array([0.5, -1.0], np.float32), np.array([1.0, -2.0], np.float32)
    params["encoder"]["Dense_0"]["bias"] = jnp.asarray(mean)
    params["encoder"]["Dense_1"]["bias"] = jnp.asarray(raw)
    params["decoder"]["bias"] = jnp.full((8, 8, 1), 1.5)
    log_variance = 8 * np.tanh(raw / 8)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum()
    bits = batch["image"] >= 128
    p = 1 / (1 + np.exp(-1.5))
    log_likelihood = np.where(bits, np.log(p), np.log1p(-p)).sum((1, 2, 3))
    elbo = jax.jit(model.likelihood.log_prob)(jax.random.key(3), state, batch)
    np.testing.assert_allclose(elbo, log_likelihood - kl, rtol=1e-5)


def test_loss_is_minus_the_mean_elbo(spec):
    model = vae.make(vae.Config(latent_dim=2, features=4), spec)
    batch = {"image": images(6), "weight": np.ones(6, np.float32)}
    state, key = drawn_state(model.init), jax.random.key(9)
    _, metrics = jax.jit(model.phases[0].step)(key, state, batch)
    nats = jax.jit(model.likelihood.log_prob)(key, state, batch)
    np.testing.assert_allclose(metrics["loss"], -nats.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], metrics["kl"] - metrics["reconstruction"], rtol=1e-6)


def test_log_prob_equals_the_terms_worked_out_from_the_networks(spec):
    """The ELBO in float64, from q's parameters and the same noise, drawn by the key."""
    config = vae.Config(latent_dim=3, features=4)
    (model, state), key = moved(spec, "bernoulli", latent_dim=3), jax.random.key(7)
    batch = {"image": images(5)}
    bits = (batch["image"] >= 128).astype(np.float32)
    encoder, decoder = vae.Encoder(config, 2, spec.compute_dtype), vae.Decoder(config, spec)
    mean, log_variance = jax.jit(encoder.apply)({"params": state.params["encoder"]}, bits, no_label(5))
    np.testing.assert_allclose(jax.jit(model.latents.encode)(state, batch), mean, rtol=1e-5, atol=1e-6)
    mean, log_variance = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    z = mean + np.sqrt(np.exp(log_variance)) * np.asarray(jax.random.normal(key, mean.shape), np.float64)
    z = z.astype(np.float32)
    logits = np.asarray(jax.jit(decoder.apply)({"params": state.params["decoder"]}, z, no_label(5)), np.float64)
    decoded = jax.jit(model.latents.decode)(state, z, {})["image"]
    np.testing.assert_allclose(decoded, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    expected = scipy.stats.bernoulli.logpmf(bits, 1 / (1 + np.exp(-logits))).sum((1, 2, 3))
    deviation = np.exp(log_variance / 2)
    expected -= (np.log(1 / deviation) + (deviation**2 + mean**2) / 2 - 0.5).sum(1)
    np.testing.assert_allclose(jax.jit(model.likelihood.log_prob)(key, state, batch), expected, rtol=1e-5)


def test_first_decoded_images_are_the_data_mean_without_latents(spec):
    model = vae.make(vae.Config(latent_dim=2, features=4), spec)
    state = jax.jit(model.init)(jax.random.key(0))
    no_weights = jax.tree.map(jnp.zeros_like, state.params["decoder"]) | {"bias": state.params["decoder"]["bias"]}
    state = state._replace(params={**state.params, "decoder": no_weights})
    np.testing.assert_allclose(model.latents.decode(state, jnp.zeros((1, 2)), {})["image"], 0.3, rtol=1e-5)


def moved(spec, likelihood, scale=0.3, **fields):
    """Makes a model and a state whose weights are large enough that q(z|x) is far from N(0, I)."""
    network = {} if fields.get("network") == "mlp" else {"features": 4}
    model = vae.make(vae.Config(**network, **LIKELIHOODS[likelihood], **fields), spec)
    state, rng = drawn_state(model.init), np.random.default_rng(4)

    def drawn(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim in (2, 4) else np.inf  # as Flax draws kernels; biases stay 0
        width = np.sqrt(1 / fan_in + scale**2)
        return (width * rng.standard_normal(leaf.shape)).astype(np.float32)

    params = jax.tree.map(drawn, state.params)
    params["decoder"]["bias"] += np.float32(np.log(0.3 / 0.7))
    return model, state._replace(params=params)


def encoded(spec, state, batch, likelihood):
    """Mean and log-variance of q(z|x), float32 [batch, 3]."""
    x = (batch["image"] >= 128).astype(np.float32) if likelihood == "bernoulli" else np.float32(batch["image"] / 255)
    encoder = vae.Encoder(vae.Config(features=4, latent_dim=3), 2, spec.compute_dtype)
    return jax.jit(encoder.apply)({"params": state.params["encoder"]}, x, no_label(len(x)))


def posterior(spec, state, batch, likelihood):
    """Mean and deviation of q(z|x), float64 [batch, 3]."""
    mean, log_variance = (np.asarray(a, np.float64) for a in encoded(spec, state, batch, likelihood))
    return mean, np.exp(log_variance / 2)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_latent_densities_equal_scipy(spec, likelihood):
    model, state = moved(spec, likelihood, latent_dim=3)
    batch, key = {"image": images(5)}, jax.random.key(2)

    @jax.jit
    def densities(state):
        latents = model.latents
        z, log_q = latents.posterior(key, state, batch)
        nats = latents.prior.log_prob(state, z), latents.log_likelihood(state, batch, z)
        return z, log_q, *nats, latents.decode(state, z, {})["image"], model.likelihood.log_prob(key, state, batch)

    z, log_q, log_prior, log_likelihood, mean, log_prob = densities(state)
    expected = scipy.stats.norm.logpdf(z, *posterior(spec, state, batch, likelihood)).sum(1)
    np.testing.assert_allclose(log_q, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(log_prior, scipy.stats.norm.logpdf(z).sum(1), rtol=1e-5)

    mean = np.asarray(mean, np.float64)
    if likelihood == "bernoulli":
        expected = scipy.stats.bernoulli.logpmf(batch["image"] >= 128, mean)
    else:
        expected = scipy.stats.norm.logpdf(batch["image"] / 255, mean, 0.25)
    np.testing.assert_allclose(log_likelihood, expected.sum((1, 2, 3)), rtol=1e-5)

    kl = gaussian_kl(*encoded(spec, state, batch, likelihood))
    np.testing.assert_allclose(log_prob, log_likelihood - kl, rtol=1e-6)  # the same key, the same z


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_latents_are_drawn_from_q_and_from_the_prior(spec, likelihood):
    model, state = moved(spec, likelihood, latent_dim=3)
    batch = {"image": np.repeat(images(1), 4000, axis=0)}
    z, _ = jax.jit(model.latents.posterior)(jax.random.key(1), state, batch)
    mean, deviation = posterior(spec, state, batch, likelihood)
    assert np.abs(np.log(deviation[0])).max() > 0.1  # far from N(0, I)
    of_prior = model.latents.prior.sample(jax.random.key(3), state, 4000)
    for standard in (*((z - mean) / deviation).T, *of_prior.T):
        assert scipy.stats.kstest(standard, "norm").pvalue > 1e-3


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_latent_densities_average_to_the_elbo(spec, likelihood):
    """Averages E_q[log p(x|z) + log p(z) - log q(z|x)], with a sampled KL; log_prob has the analytic one."""
    model, state = moved(spec, likelihood, latent_dim=3)
    batch = {"image": np.repeat(images(1), 5000, axis=0)}
    log_weights = np.asarray(importance_bound(jax.random.key(5), model.latents, state, batch, samples=1), np.float64)
    elbo = np.asarray(jax.jit(model.likelihood.log_prob)(jax.random.key(6), state, batch), np.float64)
    error = np.sqrt((log_weights.var() + elbo.var()) / 5000)
    assert abs(log_weights.mean() - elbo.mean()) < 3 * error


def test_estimates_average_to_the_integral_over_one_latent(spec):
    """Integrates p(x) = int N(z) p(x|z) on a grid: the expectation of both estimates' exponentials."""
    model, state = moved(spec, "bernoulli", scale=0.05, latent_dim=1, network="mlp", hidden=(8,))
    grid = np.linspace(-8, 8, 1001)
    log_likelihood, log_prob = jax.jit(model.latents.log_likelihood), jax.jit(model.likelihood.log_prob)
    for image in images(2)[:, None]:
        batch = {"image": np.repeat(image, len(grid), axis=0)}
        values = log_likelihood(state, batch, np.float32(grid[:, None]))
        terms = np.asarray(values, np.float64) + scipy.stats.norm.logpdf(grid) + np.log(grid[1] - grid[0])
        exact = scipy.special.logsumexp(terms)
        batch = {"image": np.repeat(image, 400, axis=0)}
        importance = importance_bound(jax.random.key(1), model.latents, state, batch, samples=200)
        annealed = annealed_importance(
            jax.random.key(2), model.latents, state, batch, temperatures=50, chains=1, leapfrog_steps=3
        ).log_prob
        for estimate in (importance, annealed):
            ratio = np.exp(np.asarray(estimate, np.float64) - exact)
            error = ratio.std() / 20
            assert error < 0.05
            assert abs(ratio.mean() - 1) < 3 * error
        elbo = np.asarray(log_prob(jax.random.key(3), state, batch), np.float64)
        assert elbo.mean() + 3 * elbo.std() / 20 < exact


# The discretized logistic


def logistic_mass(level, mean, scale):
    """Log of the logistic distribution's mass on each level, by SciPy in float64."""
    upper = np.where(level == 255, np.inf, (level + 0.5) / 255)
    lower = np.where(level == 0, -np.inf, (level - 0.5) / 255)
    # Above the mean by the survival function: a difference of distribution functions would lose all digits.
    logistic = scipy.stats.logistic(mean, scale)
    above = logistic.sf(lower) - logistic.sf(upper)
    return np.log(np.where(lower > mean, above, logistic.cdf(upper) - logistic.cdf(lower)))


@jax.jit
def of_levels(mean, log_scale):
    """Computes log p of all 256 levels, [num, 256], for means and log-scales [num, 1]."""
    x = jnp.broadcast_to(jnp.arange(256, dtype=jnp.float32) / 255, (len(mean), 256)).reshape(-1, 1)
    mean, log_scale = (jnp.repeat(a, 256, axis=0) for a in (mean, log_scale))
    return discretized_logistic_log_prob(x, mean, log_scale).reshape(-1, 256)


def test_discretized_logistic_sums_to_1_over_the_levels():
    """The mean is inside, at an edge or outside; the scale from a millionth to a million of a level."""
    means, log_scales = np.meshgrid(
        [-3.0, 0.0, 0.2, 0.5 / 255, 0.7313, 1.0, 40.0], np.log([4e-9, 1e-4, 0.003, 0.1, 1e6])
    )
    mass = of_levels(jnp.float32(means.reshape(-1, 1)), jnp.float32(log_scales.reshape(-1, 1)))
    assert np.isfinite(mass).all()
    np.testing.assert_allclose(np.exp(np.asarray(mass, np.float64)).sum(1), 1, rtol=3e-5)


def test_discretized_logistic_equals_differences_of_the_distribution_function():
    means, scales = np.array([[0.0], [0.31], [0.9], [1.3]]), np.array([[0.02], [0.05], [0.4], [3.0]])
    mass = of_levels(jnp.float32(means), jnp.float32(np.log(scales)))
    np.testing.assert_allclose(mass, logistic_mass(np.arange(256), means, scales), rtol=2e-5, atol=2e-5)


def test_discretized_logistic_adds_pixels_up():
    x, mean = images(3) / 255, np.random.default_rng(3).uniform(size=(3, 8, 8, 1))
    actual = discretized_logistic_log_prob(jnp.float32(x), jnp.float32(mean), float(np.log(0.2)))
    np.testing.assert_allclose(actual, logistic_mass(np.round(255 * x), mean, 0.2).sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("log_scale", [-20.0, 0.0, 20.0])
def test_discretized_logistic_stays_finite(log_scale):
    """The log-probability is linear like the logistic's tails for means from -1e4 to 1e4, with finite gradients."""
    x = jnp.float32([[0.0], [0.0], [1.0], [1.0], [0.5], [0.5]])
    mean = jnp.float32([[1e4], [-1e4], [1e4], [-1e4], [1e4], [-1e4]])
    value, gradient = jax.jit(
        jax.value_and_grad(
            lambda mean, log_scale: discretized_logistic_log_prob(x, mean, log_scale).sum(), argnums=(0, 1)
        )
    )(mean, jnp.float32(log_scale))
    assert all(np.isfinite(leaf).all() for leaf in (value, *gradient))
    if log_scale == 0.0:
        # Level 0 far below the mean: log sigmoid(a) = a = .5 / 255 - 1e4; far above it, no loss.
        np.testing.assert_allclose(gradient[0][:4, 0], [-1, 0, 0, 1], atol=1e-6)
        np.testing.assert_allclose(value, -4e4 - 2 * np.log(255), rtol=1e-3)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "logistic"])
def test_log_likelihoods_stay_finite_at_logits_of_10000(spec, likelihood):
    model = vae.make(vae.Config(latent_dim=2, network="mlp", hidden=(), likelihood=likelihood), spec)
    batch, state = {"image": images(2)}, zeroed(model)

    @jax.jit
    def gradient(params):
        def total(params):
            return model.latents.log_likelihood(state._replace(params=params), batch, jnp.zeros((2, 2))).sum()

        return jax.value_and_grad(total)(params)

    for logit in (-1e4, 1e4):
        state.params["decoder"]["bias"] = np.full((8, 8, 1), logit, np.float32)
        value, slopes = gradient(state.params)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
        if likelihood == "bernoulli":
            wrong = (batch["image"] >= 128) != (logit > 0)
            np.testing.assert_allclose(value, -1e4 * wrong.sum(), rtol=1e-6)


# The deviation of the Gaussian, and the logistic's scale


def gaussian_of(spec, **fields):
    """Makes a model with the mlp and random weights, its state, and a batch."""
    config = vae.Config(**{"latent_dim": 2, "network": "mlp", "hidden": (6,), "likelihood": "gaussian"} | fields)
    model = vae.make(config, spec)
    state = drawn_state(model.init)
    start = {"log_scale": np.float32(np.log(1 / 12) / 2)} if "log_scale" in state.params else {}
    return model, state._replace(params=state.params | start), {"image": images(6)}


def decode(model, state, z):
    """Decodes to the images' means, float64, with a model without labels."""
    return np.asarray(jax.jit(model.latents.decode)(state, z, {})["image"], np.float64)


def test_optimal_deviation_is_the_root_mean_squared_error_of_the_batch(spec):
    """The batch's mean log p(x|z) is then -D/2 (log(2 pi mse) + 1) (Rybkin et al. 2021, equation 8)."""
    model, state, batch = gaussian_of(spec, deviation="optimal")
    key, x = jax.random.key(3), batch["image"] / 255
    z, _ = jax.jit(model.latents.posterior)(key, state, batch)  # the step's own z, by the same key
    mean = decode(model, state, z)
    mse = ((x - mean) ** 2).mean()
    new, metrics = jax.jit(model.phases[0].step)(key, state, batch)
    np.testing.assert_allclose(metrics["reconstruction"], -32 * (np.log(2 * np.pi * mse) + 1), rtol=1e-5)
    np.testing.assert_allclose(new.extra, mse, rtol=1e-5)
    worse = scipy.stats.norm.logpdf(x, mean, np.reshape([1.1, 0.9], (2, 1, 1, 1, 1)) * np.sqrt(mse)).sum((2, 3, 4))
    assert (worse.mean(1) < float(metrics["reconstruction"])).all()


def test_optimal_deviation_is_averaged_over_the_steps_and_stored(spec):
    """A plain mean at first, 1/(1 + n) of the new value; later at least 1% of it. An example's log p uses it alone."""
    model, state, batch = gaussian_of(spec, deviation="optimal")
    step, key = jax.jit(model.phases[0].step), jax.random.key(3)
    mse = float(step(key, state, batch)[0].extra)
    for steps, share in ((0, 1), (1, 1 / 2), (3, 1 / 4), (99, 1 / 100), (5000, 1 / 100)):
        new, _ = step(key, state._replace(step=jnp.int32(steps), extra=jnp.float32(2.0)), batch)
        np.testing.assert_allclose(new.extra, 2 + share * (mse - 2), rtol=1e-5)
    state = state._replace(extra=jnp.float32(0.04))
    z, log_likelihood = jnp.ones((6, 2)), jax.jit(model.latents.log_likelihood)
    expected = scipy.stats.norm.logpdf(batch["image"] / 255, decode(model, state, z), 0.2).sum((1, 2, 3))
    np.testing.assert_allclose(log_likelihood(state, batch, z), expected, rtol=1e-5)
    one = {"image": np.concatenate([batch["image"][:1], 255 - batch["image"][1:]])}
    np.testing.assert_allclose(log_likelihood(state, one, z)[0], expected[0], rtol=1e-5)


def test_optimal_deviation_of_images_learned_by_heart_is_that_of_rounding(spec):
    model, _, _ = gaussian_of(spec, deviation="optimal")
    state = zeroed(model)
    state.params["decoder"]["bias"] = np.full((8, 8, 1), np.log(51 / 204), np.float32)
    batch = {"image": np.full((4, 8, 8, 1), 51, np.uint8)}  # 51 / 255 = 1/5, the mean that is decoded
    new, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)
    np.testing.assert_allclose(new.extra, (1 / 255) ** 2 / 12, rtol=1e-6)
    assert np.isfinite(metrics["loss"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))


def test_learned_deviations_gradient(spec):
    """The gradient of log p(x|z) by log s is SSE / s^2 - D per image, and 0 if s^2 is the mean squared error."""
    model, state, batch = gaussian_of(spec, deviation="learned")
    z = jnp.float32(np.random.default_rng(0).normal(size=(6, 2)))
    start = jax.jit(lambda key: model.init(key).params["log_scale"])(jax.random.key(0))
    np.testing.assert_allclose(np.exp(2 * start), 1 / 12, rtol=1e-6)

    @jax.jit
    def gradient(log_scale):
        def total(log_scale):
            new = state._replace(params=state.params | {"log_scale": log_scale})
            return model.latents.log_likelihood(new, batch, z).sum()

        return jax.grad(total)(log_scale)

    square = ((batch["image"] / 255 - decode(model, state, z)) ** 2).sum()
    for deviation in (0.1, 0.5):
        expected = square / deviation**2 - 6 * 64
        np.testing.assert_allclose(gradient(jnp.float32(np.log(deviation))), expected, rtol=1e-4)
    assert abs(gradient(jnp.float32(np.log(square / (6 * 64)) / 2))) < 0.01


# Objectives


def test_importance_weighted_objective_equals_the_one_in_float64(spec):
    """Equation 8 of Burda et al., from q's parameters and the same noise; gradients use normalized weights."""
    k = 4
    model, state, batch = gaussian_of(spec, importance_samples=k, deviation=0.7)
    key = jax.random.key(5)
    new, metrics = jax.jit(model.phases[0].step)(key, state, batch)
    mean, deviation = (np.repeat(a, k, 0) for a in q_of(model, state, batch))
    noise = np.asarray(jax.random.normal(key, mean.shape), np.float64)
    z = mean + deviation * noise
    decoded = decode(model, state, np.float32(z))
    x = np.repeat(batch["image"] / 255, k, 0)
    reconstruction = scipy.stats.norm.logpdf(x, decoded, 0.7).sum((1, 2, 3))
    log_weight = reconstruction + (scipy.stats.norm.logpdf(z) - scipy.stats.norm.logpdf(z, mean, deviation)).sum(1)
    bound = scipy.special.logsumexp(log_weight.reshape(6, k), axis=1) - np.log(k)
    np.testing.assert_allclose(metrics["loss"], -bound.mean(), rtol=1e-5)
    share = np.exp(log_weight - np.repeat(bound + np.log(k), k))
    slope = (x - decoded) / 0.7**2 * decoded * (1 - decoded)  # of log p(x|z) by the decoder's bias
    gradient = -(share[:, None, None, None] * slope).sum(0) / 6
    first_moment = new.opt_state[0].mu["decoder"]["bias"]  # after one step of Adam, a tenth of the gradient
    np.testing.assert_allclose(first_moment, 0.1 * gradient, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(metrics["reconstruction"], reconstruction.mean(), rtol=1e-5)
    kl = (mean**2 + deviation**2 - 1 - 2 * np.log(deviation)).sum(1) / 2
    np.testing.assert_allclose(metrics["kl"], kl.mean(), rtol=1e-5)


def q_of(model, state, batch):
    """Recovers mean and deviation of q(z|x), float64, from the mean and a draw with known noise."""
    key = jax.random.key(0)
    mean, (z, _) = jax.jit(lambda s: (model.latents.encode(s, batch), model.latents.posterior(key, s, batch)))(state)
    mean = np.asarray(mean, np.float64)
    return mean, (np.asarray(z, np.float64) - mean) / np.asarray(jax.random.normal(key, mean.shape), np.float64)


def fixed_kl(spec, **fields):
    """Makes a step whose q(z|x) is fixed by biases: means (.5, -1, 0, 0), variances 1, so KL (1/8, 1/2, 0, 0)."""
    config = vae.Config(latent_dim=4, network="mlp", hidden=(), **fields)
    model = vae.make(config, spec)
    batch, state = {"image": images(4)}, zeroed(model)
    state.params["encoder"]["Dense_0"]["bias"] = np.float32([0.5, -1, 0, 0])
    return jax.jit(model.phases[0].step), state, batch


RECONSTRUCTION = -64 * np.log(2)  # for decoded logits 0


@pytest.mark.parametrize(
    ("fields", "steps", "cost"),
    [
        ({}, 0, 0.625),
        ({"beta": 4.0}, 7, 2.5),
        ({"warmup_steps": 10}, 0, 0.0),
        ({"warmup_steps": 10}, 4, 0.25),
        ({"warmup_steps": 10}, 10, 0.625),
        ({"warmup_steps": 10}, 25, 0.625),
        ({"warmup_steps": 10, "beta": 2.0}, 4, 0.5),
        ({"free_bits": 0.25}, 0, 0.25 + 0.5 + 0.25 + 0.25),
        ({"free_bits": 0.25, "warmup_steps": 10}, 4, 0.5),
    ],
)
def test_beta_warmup_and_free_bits_worked_by_hand(spec, fields, steps, cost):
    step, state, batch = fixed_kl(spec, **fields)
    _, metrics = step(jax.random.key(1), state._replace(step=jnp.int32(steps)), batch)
    np.testing.assert_allclose(metrics["loss"], cost - RECONSTRUCTION, rtol=1e-6)
    np.testing.assert_allclose([metrics["kl"], metrics["reconstruction"]], [0.625, RECONSTRUCTION], rtol=1e-6)


def test_free_bits_are_of_the_batchs_mean_and_have_no_gradient_below(spec):
    """Latent 0 has a mean KL of 1/4, below .3: it costs .3, and q's mean does not move. Latent 1 is above."""
    config = vae.Config(latent_dim=2, network="mlp", hidden=(), free_bits=0.3)
    model = vae.make(config, spec)
    batch, state = (
        {"image": np.stack([np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 255, np.uint8)])},
        zeroed(model),
    )
    state.params["encoder"]["Dense_0"]["kernel"] = np.full((64, 2), 1 / 64, np.float32)  # means (0, 0) and (1, 1)
    state.params["encoder"]["Dense_0"]["bias"] = np.float32([0, 1])  # (0, 1) and (1, 2): KL 0, 1/2 and 1/2, 2
    new, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)
    np.testing.assert_allclose(metrics["loss"], 0.3 + 1.25 - RECONSTRUCTION, rtol=1e-6)
    moved = np.asarray(new.params["encoder"]["Dense_0"]["bias"]) - [0, 1]
    np.testing.assert_allclose(moved, [0, -config.learning_rate], rtol=1e-3, atol=1e-7)


def test_learning_rate_falls_by_iwaes_stages(spec):
    """Stages of 2, 6, 18 and 54 steps, each with 10^(-1/7) of the previous rate, which is the size of Adam's steps."""
    config = vae.Config(latent_dim=2, network="mlp", hidden=(), stage_steps=2, adam_epsilon=1e-4, beta=1e4)
    model = vae.make(config, spec)
    batch = {"image": np.zeros((4, 8, 8, 1), np.uint8)}  # so that only biases move q
    state = zeroed(model)
    # The KL's gradient is beta times the bias, almost constant for 100 steps.
    state.params["encoder"]["Dense_0"]["bias"] = np.float32([10, 10])

    def take(state, key):
        new, _ = model.phases[0].step(key, state, batch)
        bias = new.params["encoder"]["Dense_0"]["bias"], state.params["encoder"]["Dense_0"]["bias"]
        return new, bias[1] - bias[0]

    _, sizes = jax.jit(lambda state: jax.lax.scan(take, state, jax.random.split(jax.random.key(1), 100)))(state)
    stage = np.searchsorted([2, 8, 26, 80], np.arange(100), side="right")
    for n in range(5):
        np.testing.assert_allclose(np.mean(sizes[stage == n]), 1e-3 * 10 ** (-n / 7), rtol=0.01)


@pytest.mark.parametrize("stage_steps", [2**21, 2**31 - 1])
def test_stages_that_no_run_comes_to(spec, stage_steps):
    """Later stages start beyond int32's range; the first stages are unaffected."""
    model = vae.make(vae.Config(latent_dim=2, network="mlp", hidden=(), stage_steps=stage_steps), spec)
    state = drawn_state(model.init)
    new, _ = jax.jit(model.phases[0].step)(jax.random.key(1), state, {"image": images(4)})
    change = new.params["encoder"]["Dense_0"]["bias"] - state.params["encoder"]["Dense_0"]["bias"]
    np.testing.assert_allclose(np.abs(change), 1e-3, rtol=1e-3)  # Adam's first step has the size of the learning rate


# A linear-Gaussian VAE, whose exact likelihood is probabilistic PCA's


def test_bounds_rise_to_the_exact_likelihood_of_a_linear_gaussian_vae(spec):
    """Linear encoder and decoder, and a deliberately wrong q(z|x): ELBO < IWAE-5 < IWAE-50 < exact.

    Over the latents that occur, the decoder's sigmoid is linear to one part in 100 of the noise, which is checked.
    """
    noise, num = 0.05, 2000
    rng = np.random.default_rng(0)
    kernel = 0.07 * rng.normal(size=(3, 64))  # for logits; a quarter of it for pixels in [0, 1]
    loadings = kernel / 4
    precision = np.eye(3) + loadings @ loadings.T / noise**2
    exact_map = np.linalg.solve(precision, loadings) / noise**2  # E[z|x] = map (x - 1/2)
    spread = np.sqrt(np.diag(np.linalg.inv(precision)))
    model = vae.make(
        vae.Config(latent_dim=3, network="mlp", hidden=(), likelihood="gaussian", deviation=noise),
        spec._replace(mean=np.full((8, 8, 1), 0.5)),
    )
    z = rng.normal(size=(num, 3))
    levels = 255 * (0.5 + z @ loadings + noise * rng.normal(size=(num, 64)))
    batch = {"image": np.clip(np.round(levels), 0, 255).astype(np.uint8).reshape(num, 8, 8, 1)}
    state = drawn_state(model.init)
    wrong_map = 0.97 * exact_map
    params = {
        "encoder": {
            "Dense_0": {"kernel": wrong_map.T, "bias": spread - wrong_map.sum(1) / 2},
            "Dense_1": {"kernel": np.zeros((64, 3)), "bias": 8 * np.arctanh(2 * np.log(1.4 * spread) / 8)},
        },
        "decoder": {"Dense_0": {"kernel": kernel}, "bias": np.zeros((8, 8, 1))},
    }
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    state = state._replace(params=jax.tree.map(np.float32, params))
    curved = decode(model, state, np.float32(z)).reshape(num, 64) - (0.5 + z @ loadings)
    assert np.sqrt((curved**2).mean()) < noise / 100
    x = batch["image"].reshape(num, 64) / 255
    exact = scipy.stats.multivariate_normal(np.full(64, 0.5), loadings.T @ loadings + noise**2 * np.eye(64)).logpdf(x)
    bounds = [jax.jit(model.likelihood.log_prob)(jax.random.key(1), state, batch)]
    bounds += [importance_bound(jax.random.key(k), model.latents, state, batch, samples=k) for k in (5, 50)]
    rising = [*(np.asarray(bound, np.float64) for bound in bounds), exact]
    for lower, higher in itertools.pairwise(rising):
        gain = higher - lower
        assert gain.mean() > 3 * gain.std() / np.sqrt(num)
    assert (exact - rising[2]).mean() < 0.3


# Conditional


@pytest.fixture(scope="module")
def two_classes():
    """Label 0: the left half is on with probability .9, the right with .1; label 1, a quarter: vice versa."""
    rng = np.random.default_rng(0)
    label = (np.arange(4000) % 4 == 0).astype(np.int32)
    on = np.stack([np.where(np.arange(8) < 4, 0.9, 0.1), np.where(np.arange(8) < 4, 0.1, 0.9)])
    on = np.broadcast_to(on[:, None, :, None], (2, 8, 8, 1))
    image = np.where(rng.uniform(size=(4000, 8, 8, 1)) < on[label], 255, 0).astype(np.uint8)
    entries = {"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8), "label": jax.ShapeDtypeStruct((), np.int32)}
    spec = Spec(entries, 4000, 2, mean=image.mean(0) / 255, binary=True)
    return {"image": image, "label": label}, spec, on


def trained(model, batch, steps, size=100):
    state = jax.jit(model.init)(jax.random.key(0))

    @jax.jit
    def fit(state):
        def take(i, state):
            k_rows, k_step = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
            rows = jax.random.randint(k_rows, (size,), 0, len(batch["image"]))
            state, _ = model.phases[0].step(
                k_step, state, {name: jnp.asarray(entry)[rows] for name, entry in batch.items()}
            )
            return state._replace(step=state.step + 1)

        return jax.lax.fori_loop(0, steps, take, state)

    return fit(state)


@pytest.mark.parametrize("fields", some_slow([{"network": "mlp", "hidden": (32,)}, {"features": 8}]))
def test_conditional_vae_learns_each_labels_distribution(two_classes, fields):
    """Pixels are independent given the label; the loss reaches the entropy, 64 x .325 nats; samples match labels."""
    batch, spec, on = two_classes
    model = vae.make(vae.Config(latent_dim=2, conditional=True, learning_rate=1e-2, **fields), spec)
    assert (model.needs, model.sampler.conditions) == (("image", "label"), ("label",))
    state = trained(model, batch, 400)
    entropy = -64 * (0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    log_prob = jax.jit(model.likelihood.log_prob)
    value = np.asarray(log_prob(jax.random.key(2), state, batch), np.float64)
    assert abs(value.mean() + entropy) < 0.6
    # With the wrong label, 51.2 of 64 pixels lose log 9 nats each, of which z recovers less than half.
    wrong = log_prob(jax.random.key(2), state, batch | {"label": 1 - batch["label"]})
    assert np.mean(wrong) < value.mean() - 51.2 * np.log(9) / 2
    condition = {"label": np.repeat(np.int32([0, 1]), 50)}
    drawn = jax.jit(lambda state: model.sampler.draw(jax.random.key(3), state, 100, condition))(state)
    assert set(drawn) == {"image"}
    np.testing.assert_allclose(np.asarray(drawn["image"][:50]).mean(0) / 255, on[0], atol=0.08)
    np.testing.assert_allclose(np.asarray(drawn["image"][50:]).mean(0) / 255, on[1], atol=0.08)
    means = jax.jit(model.latents.decode)(state, jnp.zeros((2, 2)), {"label": np.int32([1, 0])})["image"]
    np.testing.assert_allclose(means, on[::-1], atol=0.08)
    with pytest.raises(KeyError, match="label"):  # which no model draws itself
        model.sampler.draw(jax.random.key(3), state, 100, {})


# Memorization


@pytest.mark.parametrize(
    ("fields", "steps", "bound"),
    [
        # All of 16 images distinguished and decoded: bits to 3 nats; levels to 2 bits a pixel, from 8.
        ({"network": "mlp", "hidden": (64,)}, 1000, -3.0),
        ({"network": "mlp", "hidden": (64,), "likelihood": "logistic"}, 2500, -64 * 2 * np.log(2)),
    ],
)
def test_variants_learn_images_by_heart(spec, fields, steps, bound):
    batch = {"image": images(16)}
    model = vae.make(vae.Config(latent_dim=8, learning_rate=5e-3, **fields), spec)

    @jax.jit
    def fit(state, keys):
        def take(state, key):
            state, metrics = model.phases[0].step(key, state, batch)
            return state, metrics["reconstruction"]

        return jax.lax.scan(take, state, keys)[1]

    found = fit(jax.jit(model.init)(jax.random.key(0)), jax.random.split(jax.random.key(1), steps))
    assert found[0] < bound < found[-1]


@pytest.mark.parametrize(
    ("fields", "scale"),
    [({"likelihood": "gaussian", "deviation": "learned"}, 0.1), ({"likelihood": "logistic"}, 0.05)],
)
def test_learned_scales_find_the_noise(spec, fields, scale):
    """Pixels of .5 plus noise of a known scale, with nothing to encode; the scale is found to 5%."""
    rng = np.random.default_rng(0)
    draw = rng.normal if fields["likelihood"] == "gaussian" else rng.logistic
    noise = draw(0, scale, (500, 8, 8, 1))
    batch = {"image": np.clip(np.round(255 * (0.5 + noise)), 0, 255).astype(np.uint8)}
    config = vae.Config(latent_dim=1, network="mlp", hidden=(), learning_rate=1e-2, beta=10.0, **fields)
    state = trained(vae.make(config, spec), batch, 600)
    np.testing.assert_allclose(np.exp(state.params["log_scale"]), scale, rtol=0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "mlp", "hidden": (8, 4), "importance_samples": 3},
        {"features": 4, "likelihood": "logistic", "conditional": True},
        {"features": 4, "likelihood": "gaussian", "deviation": "optimal", "free_bits": 0.1},
    ],
)
def test_bfloat16_is_of_layers_only(spec, two_classes, fields):
    batch = {name: entry[:8] for name, entry in two_classes[0].items()}
    model = vae.make(vae.Config(latent_dim=2, **fields), two_classes[1]._replace(compute_dtype=jnp.dtype("bfloat16")))
    full = vae.make(vae.Config(latent_dim=2, **fields), two_classes[1])
    state = drawn_state(model.init)
    new, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((new.params, metrics)))
    _, expected = jax.jit(full.phases[0].step)(jax.random.key(1), state, batch)
    assert metrics["loss"] != expected["loss"]
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=0.02)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"importance_samples": 5, "beta": 2.0}, "leave them out, or importance_samples at 1"),
        ({"importance_samples": 5, "warmup_steps": 9}, "leave them out, or importance_samples at 1"),
        ({"importance_samples": 5, "free_bits": 0.1}, "leave them out, or importance_samples at 1"),
        (
            {"importance_samples": 5, "likelihood": "gaussian", "deviation": "optimal"},
            "deviation optimal is the ELBO's",
        ),
        ({"importance_samples": 0}, "importance_samples must be above 0"),
        ({"free_bits": -0.1}, "free_bits must be at least 0"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
        ({"warmup_steps": 2**31}, r"warmup_steps must be at least 0 and below 2\^31"),
        ({"stage_steps": 0}, "stage_steps must be above 0"),
        ({"network": "mlp", "hidden": (10, 0)}, "hidden must be numbers above 0"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"network": "mlp", "features": 8}, r"features only applies with --network conv \(you chose mlp\)"),
        ({"network": "mlp", "smallest": 2}, r"smallest only applies with --network conv \(you chose mlp\)"),
        ({"hidden": (50,)}, r"hidden only applies with --network mlp \(you chose conv\)"),
        ({"deviation": 0.5}, r"deviation only applies with --likelihood gaussian \(you chose bernoulli\)"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(spec, fields, words):
    with pytest.raises(UserError, match=words) as caught:
        vae.make(vae.Config(**fields), spec)
    assert "\n" not in str(caught.value)
