"""Bounds against a model with a known likelihood: probabilistic PCA, x = W z + mu + noise, with a wrong q(z|x).

With the true posterior as q, all importance weights are equal, which would hide errors in a bound.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen.metrics.evidence import (
    FEW_CHAINS,
    active_units,
    annealed_importance,
    bits_per_dimension,
    importance_bound,
    rate_distortion,
)
from jaxgen.model import Latents, Prior


class Pca:
    """Probabilistic PCA in float64 with q(z|x) = N(A (x - mu) + b, L L^T), and its exact quantities."""

    def __init__(self, data_dim, latent_dim, noise, scale=1.0, seed=0):
        rng = np.random.default_rng(seed)
        self.W = scale * rng.normal(size=(data_dim, latent_dim))
        self.mu, self.noise = rng.normal(size=data_dim), noise
        self.covariance = self.W @ self.W.T + noise**2 * np.eye(data_dim)
        precision = np.eye(latent_dim) + self.W.T @ self.W / noise**2
        self.posterior_covariance = np.linalg.inv(precision)
        self.posterior_map = self.posterior_covariance @ self.W.T / noise**2
        self.true_q()

    def true_q(self):
        self.A, self.b = self.posterior_map, np.zeros(len(self.posterior_map))
        self.L = np.linalg.cholesky(self.posterior_covariance)
        return self

    def wrong_q(self, shrinking=0.97, shift=0.5, spread=1.4):
        """A wrong q: means shrunk and shifted (in posterior deviations), too wide, without correlations."""
        deviation = np.sqrt(np.diag(self.posterior_covariance))
        self.A, self.b = shrinking * self.posterior_map, shift * deviation
        self.L = np.diag(spread * deviation)
        return self

    def draw(self, num, seed=1):
        return np.random.default_rng(seed).multivariate_normal(self.mu, self.covariance, num)

    def log_prob(self, x):
        return scipy.stats.multivariate_normal(self.mu, self.covariance).logpdf(x)

    def kl_to_posterior(self, x):
        """KL(q(z|x) || p(z|x)), [num]."""
        shift = (x - self.mu) @ (self.A - self.posterior_map).T + self.b
        return gaussian_kl(shift, self.L @ self.L.T, self.posterior_covariance)

    def rate(self, x):
        """KL(q(z|x) || p(z)), [num]."""
        return gaussian_kl((x - self.mu) @ self.A.T + self.b, self.L @ self.L.T, np.eye(len(self.b)))

    def distortion(self, x):
        """-E_q[log p(x|z)], [num]."""
        residual = x - self.mu - ((x - self.mu) @ self.A.T + self.b) @ self.W.T
        spread = np.trace(self.W @ self.L @ self.L.T @ self.W.T)
        square = (residual**2).sum(1) + spread
        return 0.5 * square / self.noise**2 + self.mu.size * (np.log(self.noise) + 0.5 * np.log(2 * np.pi))

    def state(self):
        names = ("W", "mu", "noise", "A", "b", "L")
        return {name: jnp.asarray(getattr(self, name), jnp.float32) for name in names}


def product(a, b):
    return jnp.matmul(a, b, precision="highest")


def standard_normal(z):
    return -0.5 * (z**2).sum(-1) - z.shape[-1] * float(0.5 * np.log(2 * np.pi))


def sample_prior(key, state, num):
    return jax.random.normal(key, (num, state["W"].shape[1]))


def log_prior(state, z):
    return standard_normal(z)


def sample_posterior(key, state, batch):
    noise = jax.random.normal(key, (len(batch["x"]), state["W"].shape[1]))
    z = product(batch["x"] - state["mu"], state["A"].T) + state["b"] + product(noise, state["L"].T)
    return z, standard_normal(noise) - jnp.log(jnp.diag(state["L"])).sum()


def log_likelihood(state, batch, z):
    residual = (batch["x"] - state["mu"] - product(z, state["W"].T)) / state["noise"]
    return standard_normal(residual) - residual.shape[1] * jnp.log(state["noise"])


LATENTS = Latents(
    decode=None,
    prior=Prior(sample_prior, "gaussian", log_prior),
    posterior=sample_posterior,
    log_likelihood=log_likelihood,
)


def gaussian_kl(shift, covariance, other):
    """KL(N(m, covariance) || N(m - shift, other)) for each row of shift [num, dimensions]."""
    ratio = np.linalg.solve(other, covariance)
    square = (shift * np.linalg.solve(other, shift.T).T).sum(1)
    return 0.5 * (square + np.trace(ratio) - len(covariance) - np.linalg.slogdet(ratio)[1])


def as_batch(x):
    return {"x": jnp.asarray(x, jnp.float32)}


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def key(seed):
    return jax.random.key(seed)


PCA = Pca(64, 5, noise=1.0).wrong_q()
X = PCA.draw(2000)
BATCH = as_batch(X)


# The importance-weighted bound.


def test_importance_bound_rises_to_the_exact_likelihood():
    exact = PCA.log_prob(X)
    below = {
        samples: exact - np.asarray(importance_bound(key(samples), LATENTS, PCA.state(), BATCH, samples=samples))
        for samples in (1, 5, 50, 500)
    }
    for fewer, more in ((1, 5), (5, 50), (50, 500)):
        gain, error = mean_and_error(below[fewer] - below[more])
        assert gain > 3 * error
    # at K = 1 it is the ELBO, below by KL(q(z|x) || p(z|x)); at 500 it is not above, and almost tight
    excess, error = mean_and_error(below[1] - PCA.kl_to_posterior(X))
    assert abs(excess) < 3 * error
    left, error = mean_and_error(below[500])
    assert -3 * error < left < 0.02


def test_importance_bound_with_the_true_posterior_is_exact():
    """p(x, z) / p(z|x) = p(x) for every z."""
    state = Pca(64, 5, noise=1.0).true_q().state()
    for samples in (1, 50):
        bound = importance_bound(key(0), LATENTS, state, BATCH, samples=samples)
        np.testing.assert_allclose(bound, PCA.log_prob(X), rtol=1e-6)


def given_log_weight(state, batch, z):
    log_weight = state["scale"] * z + state["offset"]
    return jnp.where(z == state["nan at"], jnp.nan, jnp.where(z > state["zero to"], log_weight, -jnp.inf))


GIVEN_WEIGHTS = Latents(
    decode=None,
    prior=Prior(None, "gaussian", lambda state, z: jnp.zeros_like(z)),
    posterior=lambda key, state, batch: (jax.random.normal(key, batch["x"].shape), jnp.zeros_like(batch["x"])),
    log_likelihood=given_log_weight,
)
"""Log weights scale * z + offset of a standard normal draw z."""


def bound_of(key, num, *, scale=1.0, offset=0.0, zero_to=-np.inf, nan_at=np.inf, **options):
    """Returns the bound of such log weights, and its draws [samples, num]."""
    state = {"scale": scale, "offset": offset, "zero to": zero_to, "nan at": nan_at}
    state = {name: jnp.float32(value) for name, value in state.items()}
    bound = importance_bound(key, GIVEN_WEIGHTS, state, {"x": jnp.zeros(num)}, **options)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(options["samples"]))
    return np.asarray(bound), np.asarray(jax.vmap(lambda key: jax.random.normal(key, (num,)))(keys))


@pytest.mark.parametrize(("samples", "chunk"), [(75, 50), (5000, 1)])
def test_importance_bound_equals_a_float64_sum_of_its_weights(samples, chunk):
    """Log weights with a spread of about 60 nats around 0, and where exp overflows or underflows.

    Finally equal weights, of which a running logsumexp in float32 would lose some by rounding at each step.
    """
    for scale, offset in ((10, 0), (10, -1e4), (10, 1e4), (0, -231.836)):
        bound, z = bound_of(key(3), 6, scale=scale, offset=offset, samples=samples, chunk=chunk)
        log_weights = (np.float32(scale) * z + np.float32(offset)).astype(np.float64)
        expected = scipy.special.logsumexp(log_weights, axis=0) - np.log(samples)
        # two units in the last place; one is up to 1.2e-7 of a float32
        np.testing.assert_allclose(bound, expected, rtol=2.4e-7)


def test_weights_of_zero_count_as_zero_and_nan_is_not_hidden():
    options = {"samples": 75, "chunk": 50}
    half, z = bound_of(key(8), 6, zero_to=0, **options)
    # log sum w - log K: tolerates a unit in the last place of log K, which remains in values near 0
    unit = np.spacing(np.float32(np.log(75)))
    np.testing.assert_allclose(half, np.log(np.where(z > 0, np.exp(np.float64(z)), 0).mean(0)), rtol=0, atol=unit)
    none, _ = bound_of(key(8), 6, zero_to=np.inf, **options)
    np.testing.assert_array_equal(none, -np.inf)
    bad, _ = bound_of(key(8), 6, nan_at=z[60, 1], **options)
    np.testing.assert_array_equal(np.isnan(bad), np.arange(6) == 1)


SMALL = Pca(8, 3, noise=0.7).wrong_q()
SMALL_BATCH = as_batch(SMALL.draw(20))


def test_importance_bound_does_not_depend_on_the_chunk():
    expected = importance_bound(key(5), LATENTS, SMALL.state(), SMALL_BATCH, samples=100)
    bound = importance_bound(key(5), LATENTS, SMALL.state(), SMALL_BATCH, samples=100, chunk=7)
    np.testing.assert_allclose(bound, expected, rtol=1e-6)


def test_importance_bound_is_its_keys():
    first, again, other = (
        np.asarray(importance_bound(key(seed), LATENTS, SMALL.state(), SMALL_BATCH, samples=100)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_importance_bound_takes_seeds_by_vmap():
    given, keys = [SMALL.state(), Pca(8, 3, noise=0.4, seed=1).wrong_q().state()], jax.random.split(key(0), 2)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given)
    bounds = jax.vmap(lambda key, state: importance_bound(key, LATENTS, state, SMALL_BATCH, samples=100))(keys, states)
    for bound, k, state in zip(bounds, keys, given, strict=True):
        np.testing.assert_allclose(bound, importance_bound(k, LATENTS, state, SMALL_BATCH, samples=100), rtol=1e-5)


def test_importance_bound_takes_the_memory_of_one_chunk():
    def memory(samples):
        compiled = importance_bound.lower(key(0), LATENTS, SMALL.state(), SMALL_BATCH, samples=samples).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one = memory(100)
    assert one > 50 * 20 * 3 * 4  # the latents of a chunk
    assert memory(5000) < 1.5 * one


# Annealed importance sampling.


def test_annealed_weights_average_to_the_likelihood():
    """E[w] = p(x) exactly for any number of temperatures, if every move leaves its density invariant."""
    pca = Pca(3, 2, noise=1.0, scale=0.7)
    for x in pca.draw(3):
        batch = as_batch(np.tile(x, (20_000, 1)))
        annealed = annealed_importance(key(11), LATENTS, pca.state(), batch, temperatures=8, chains=2, leapfrog_steps=3)
        ratio, error = mean_and_error(np.exp(np.asarray(annealed.log_prob, np.float64) - pca.log_prob(x)))
        assert error < 0.02
        assert abs(ratio - 1) < 3 * error


def annealed_gap(pca, x, betas):
    """Expected gap between log p(x) and one chain's estimate if every move draws independently, [num].

    It is the sum of KL(f_{t-1} || f_t) between the annealed densities, which are all Gaussian.
    """
    steps = []
    for beta in betas:
        covariance = np.linalg.inv(np.eye(len(pca.b)) + beta * pca.W.T @ pca.W / pca.noise**2)
        steps.append(((x - pca.mu) @ pca.W @ covariance * beta / pca.noise**2, covariance))
    return sum(gaussian_kl(m - n, S, R) for (m, S), (n, R) in itertools.pairwise(steps))


def test_annealing_is_tighter_with_more_temperatures_and_chains_and_never_above():
    """The posterior is up to 50 times narrower than the prior, which requires steps of many sizes."""
    pca = Pca(16, 4, noise=0.1)
    x = pca.draw(200)

    def below(temperatures, chains):
        estimate = annealed_importance(
            key(1), LATENTS, pca.state(), as_batch(x), temperatures=temperatures, chains=chains
        )
        return pca.log_prob(x) - np.asarray(estimate.log_prob, np.float64)

    one, more_temperatures, more_chains = below(30, 1), below(300, 1), below(30, 8)
    for gains in (one - more_temperatures, one - more_chains):
        gain, error = mean_and_error(gains)
        assert gain > 3 * error
    # imperfect moves, which redraw about half, have some three times the gap of perfect ones
    sigmoid = scipy.special.expit(np.linspace(-4, 4, 301))
    perfect = annealed_gap(pca, x, (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])).mean()
    left, error = mean_and_error(more_temperatures)
    assert 3 * error < left < 4 * perfect


def test_annealing_beats_importance_sampling_from_a_bad_q():
    """One chain of 300 temperatures, which ignores q, beats 5,000 weights if q is off by four deviations."""
    pca = Pca(16, 4, noise=0.5).wrong_q(shift=4.0, spread=1.0)
    x = pca.draw(200)
    given = LATENTS, pca.state(), as_batch(x)
    importance = np.asarray(importance_bound(key(0), *given, samples=5000), np.float64)
    annealed = np.asarray(annealed_importance(key(0), *given, temperatures=300, chains=1).log_prob, np.float64)
    gain, error = mean_and_error(annealed - importance)
    assert gain > 3 * error
    above, error = mean_and_error(annealed - pca.log_prob(x))
    assert above < 3 * error


def test_annealing_is_its_keys_and_takes_latents_of_any_shape():
    """Draws and estimate are the same with z as [num, 2, 2] in place of [num, 4], and without q."""
    square = Latents(
        decode=None,
        prior=Prior(
            lambda key, state, num: sample_prior(key, state, num).reshape(num, 2, 2),
            "gaussian",
            lambda state, z: log_prior(state, z.reshape(len(z), 4)),
        ),
        log_likelihood=lambda state, batch, z: log_likelihood(state, batch, z.reshape(len(z), 4)),
    )
    pca = Pca(16, 4, noise=0.5)
    given, options = (pca.state(), as_batch(pca.draw(200))), {"temperatures": 30, "chains": 8}
    first, other = (annealed_importance(key(seed), LATENTS, *given, **options).log_prob for seed in (1, 2))
    np.testing.assert_allclose(annealed_importance(key(1), square, *given, **options).log_prob, first, rtol=1e-4)
    assert (first != other).all()


@pytest.mark.parametrize(
    ("data_dim", "latent_dim", "noise", "scale", "temperatures", "least", "most"),
    [
        (784, 16, 0.05, 0.1, 30, 100, 2000),  # the size and deviation
        (64, 5, 1.0, 1.0, 10, 3, 300),
        (64, 5, 1.0, 1.0, 400, -0.3, 0.3),
        (64, 2, 1.0, 0.2, 20, -0.3, 0.3),
    ],
)
def test_an_annealed_estimate_that_is_far_too_low_rests_on_few_chains(
    data_dim, latent_dim, noise, scale, temperatures, least, most
):
    pca = Pca(data_dim, latent_dim, noise=noise, scale=scale)
    x = pca.draw(8)
    found = annealed_importance(key(1), LATENTS, pca.state(), as_batch(x), temperatures=temperatures)
    gap = (pca.log_prob(x) - np.asarray(found.log_prob, np.float64)).mean()
    assert least < gap < most
    assert (found.effective.mean() < FEW_CHAINS) == (gap > 1)


def test_the_effective_number_of_chains_by_hand():
    """Weights at one temperature are p(x|z) of latents from the prior; here they are 1, 1, 3 and 3."""
    latents = Latents(
        decode=None,
        prior=Prior(lambda key, state, num: jnp.arange(float(num)), "gaussian", lambda state, z: jnp.zeros_like(z)),
        log_likelihood=lambda state, batch, z: jnp.where(z < 2, 0, jnp.log(3.0)),
    )
    found = annealed_importance(key(0), latents, {}, {"x": jnp.zeros(1)}, temperatures=1, chains=4, leapfrog_steps=1)
    np.testing.assert_allclose(found.effective, [8**2 / 20], rtol=1e-6)
    np.testing.assert_allclose(found.log_prob, [np.log(2)], rtol=1e-6)


def test_the_run_that_tunes_has_draws_of_its_own():
    """Step sizes that depended on the counted chains would invalidate the bound: each run has its own latents."""
    starts = []

    def sample(key, state, num):
        z = sample_prior(key, state, num)
        jax.debug.callback(lambda z: starts.append(np.asarray(z)), z)
        return z

    latents = LATENTS._replace(prior=LATENTS.prior._replace(sample=sample))
    options = {"temperatures": 1, "chains": 2, "leapfrog_steps": 1}
    jax.block_until_ready(annealed_importance(key(1), latents, SMALL.state(), SMALL_BATCH, **options))
    jax.effects_barrier()
    tuning, counted = starts
    assert tuning.shape == counted.shape == (40, 3)
    assert np.abs(np.corrcoef(tuning.ravel(), counted.ravel())[0, 1]) < 5 / np.sqrt(120)


# Rate and distortion.


def test_rate_and_distortion_equal_closed_forms():
    for values, expected in zip(
        rate_distortion(key(4), LATENTS, PCA.state(), BATCH), (PCA.rate(X), PCA.distortion(X)), strict=True
    ):
        assert expected.std() > 1
        excess, error = mean_and_error(values - expected)
        assert abs(excess) < 3 * error
        assert error < 0.01 * expected.mean()


def test_rate_and_distortion_are_the_bound_with_one_sample_and_means_with_more():
    state = PCA.state()
    rate, distortion = rate_distortion(key(6), LATENTS, state, BATCH)
    bound = importance_bound(key(6), LATENTS, state, BATCH, samples=1)
    np.testing.assert_allclose(-(rate + distortion), bound, rtol=1e-6)

    terms = []
    for k in range(3):
        z, log_q = sample_posterior(jax.random.fold_in(key(6), k), state, BATCH)
        terms.append((log_q - log_prior(state, z), -log_likelihood(state, BATCH, z)))
    expected = np.asarray(terms, np.float64).mean(0)
    result = rate_distortion(key(6), LATENTS, state, BATCH, samples=3)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_elbo_is_below_the_importance_bound():
    rate, distortion = (np.asarray(term, np.float64) for term in rate_distortion(key(1), LATENTS, PCA.state(), BATCH))
    bound = np.asarray(importance_bound(key(2), LATENTS, PCA.state(), BATCH, samples=5), np.float64)
    gain, error = mean_and_error(bound + rate + distortion)
    assert gain > 3 * error


# Functions of arrays.


def test_bits_per_dimension_by_hand():
    # 12 fair bits; 12 uniform levels; a uniform density on [0, 1]^12, which is 8 bits per dimension when dequantized
    assert bits_per_dimension(-12 * np.log(2), 12, "binary") == pytest.approx(1, rel=1e-15)
    assert bits_per_dimension(-12 * np.log(256), 12, "uint8") == pytest.approx(8, rel=1e-15)
    assert bits_per_dimension(0.0, 12, "continuous") == pytest.approx(8, rel=1e-15)
    # 2 dimensions, densities 1/4 and 16 over the unit square: 8 + 1 and 8 - 2
    np.testing.assert_allclose(bits_per_dimension(np.log([0.25, 16]), 2, "continuous"), [9, 6], rtol=1e-14)


def test_bits_of_levels_and_of_their_dequantized_density_agree():
    """A density constant on each level's cell, 256 P(level) per axis, has the same bits as the levels."""
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(256))
    levels = rng.integers(0, 256, (5, 7))
    of_levels = bits_per_dimension(np.log(share[levels]).sum(1), 7, "uint8")
    of_density = bits_per_dimension(np.log(256 * share[levels]).sum(1), 7, "continuous")
    np.testing.assert_allclose(of_density, of_levels, rtol=1e-13)
    assert of_density.dtype == np.float64


def test_active_units_by_hand():
    # variances 1, 0, .0121 and .0081 of four latents
    means = np.float32([[1, 3, 0.11, 5.09], [-1, 3, -0.11, 4.91]])
    active, variances = active_units(means)
    assert active == 2
    np.testing.assert_allclose(variances, [1, 0, 0.0121, 0.0081], rtol=1e-5)


# Errors.

GIVEN = key(0), LATENTS, SMALL.state(), as_batch(SMALL.draw(3))


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (importance_bound, "samples", 0),
        (importance_bound, "samples", 2.5),
        (importance_bound, "chunk", 0),
        (annealed_importance, "temperatures", 0),
        (annealed_importance, "chains", -1),
        (annealed_importance, "leapfrog_steps", 0),
        (rate_distortion, "samples", 0),
    ],
)
def test_counts_are_one_or_more(function, name, value):
    options = {"samples": 5} if function is importance_bound else {}
    with pytest.raises(ValueError, match=f"{name} must be an integer of 1 or more, not {value}"):
        function(*GIVEN, **{**options, name: value})


@pytest.mark.parametrize("function", [importance_bound, annealed_importance, rate_distortion])
def test_models_without_densities_and_wrong_densities_are_refused(function):
    options = {"samples": 5} if function is importance_bound else {}
    first, latents, state, batch = GIVEN
    without = latents._replace(prior=latents.prior._replace(log_prob=None)), latents._replace(log_likelihood=None)
    for lacking in (None, *without):
        with pytest.raises(ValueError, match=r"does not give the densities of its latents, p\(z\) and p\(x\|z\)"):
            function(first, lacking, state, batch, **options)
    # [3, 1] and [3] would broadcast to [3, 3]
    column = latents._replace(prior=latents.prior._replace(log_prob=lambda state, z: log_prior(state, z)[:, None]))
    with pytest.raises(ValueError, match=r"densities of 3 examples must be \[3\], got the shape \(3, 1\)"):
        function(first, column, state, batch, **options)


def test_only_annealing_needs_no_inferred_latents():
    """Annealing without q is tested in `test_annealing_is_its_keys_and_takes_latents_of_any_shape`."""
    first, latents, state, batch = GIVEN
    for function, options in ((importance_bound, {"samples": 5}), (rate_distortion, {})):
        with pytest.raises(ValueError, match=r"does not give the density of inferred latents, q\(z\|x\)"):
            function(first, latents._replace(posterior=None), state, batch, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0, "uint8"), "num_dimensions must be an integer of 1 or more, not 0"),
        ((0.0, 3, "float"), "space must be"),
        (([0.0, np.nan], 3, "uint8"), "log-likelihoods have non-finite values"),
    ],
)
def test_bits_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bits_per_dimension(*arguments)


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (np.zeros(3), r"latent features must be \[samples, dimensions\]"),
        (np.zeros((1, 3)), "2 samples or more are needed; latent features have 1"),
        ([[0.0], [np.inf]], "latent features have non-finite values"),
    ],
)
def test_means_that_are_refused(means, message):
    with pytest.raises(ValueError, match=message):
        active_units(means)
