"""Likelihoods of latent-variable models, p(x) = integral of p(z) p(x|z) dz: bounds, bits, information in the latents.

Estimates are of one state: vmap them over (key, state) for several seeds. They are float32, in nats, of every
example; the caller drops those of examples with weight 0. Functions of `latents` are compiled once for
each `Latents` and each size.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import checks
from jaxgen.model import Array, Batch, Key, Latents, State


@partial(jax.jit, static_argnames=("latents", "samples", "chunk"))
def importance_bound(key: Key, latents: Latents, state: State, batch: Batch, *, samples: int, chunk: int = 50) -> Array:
    """The importance-weighted bound on log p(x), with K = `samples` latents per example.

        log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x),  z_k ~ q(z|x)
        bound = log sum_k w_k - log K

    In expectation it is the ELBO at K = 1, never falls with K, and never exceeds log p(x) (theorem 1). It
    is biased downwards by about var(w) / (2 K p(x)^2): compare models at the same K only.

    Latent k is drawn by fold_in(key, k), so the draws do not depend on `chunk`, and those of a smaller K
    are the first of a larger one's. The sum is accumulated in chunks with its largest term factored out, so
    log weights of any size neither overflow nor lose digits: a sum in float64 gives the same number, to a
    unit or two in float32's last place.

    Args:
      key: of this batch.
      latents: the model's.
      state: the model's, without seed axis.
      batch: as the model reads it, its examples independent of each other.
      samples: K, 1 or more; papers use 5,000.
      chunk: maximum number of latents per example processed at once; memory grows with it, not with K.

    Returns:
      float32 [batch], nats, in the space of the model's `likelihood`.

    Raises:
      ValueError: `latents` lack one of them, its densities are not [batch], or `samples` or `chunk` is not 1 or more.

    Source: Burda, Grosse & Salakhutdinov 2016 (https://arxiv.org/abs/1509.00519), equation 8.
    """
    _check(latents, samples=samples, chunk=chunk)
    num_chunks = -(-samples // chunk)
    chunk = -(-samples // num_chunks)  # evened out: less of the last one is thrown away

    def log_weight(k):
        log_likelihood, log_prior, log_q = _densities(jax.random.fold_in(key, k), latents, state, batch)
        return log_likelihood + log_prior - log_q

    def add(carry, indices):
        largest, total = carry  # the weights so far add up to total * exp(largest)
        log_weights = jnp.where(indices[:, None] < samples, jax.vmap(log_weight)(indices), -jnp.inf)
        new = jnp.maximum(largest, log_weights.max(0))
        shift = _finite(new)
        total = total * jnp.exp(largest - shift) + jnp.exp(log_weights - shift).sum(0)
        return (new, total), None

    num = _num_examples(batch)
    indices = jnp.arange(num_chunks * chunk).reshape(num_chunks, chunk)
    (largest, total), _ = jax.lax.scan(add, (jnp.full(num, -jnp.inf, jnp.float32), jnp.zeros(num)), indices)
    return _finite(largest) + (jnp.log(total) - math.log(samples))


CHAINS = 16
"""Default number of chains per example in annealed importance sampling."""

FEW_CHAINS = 3
"""Effective number of `CHAINS` chains below which an annealed estimate may be a nat or more too low.

On Gaussian models with a known p(x) estimates that were 1.5 to 7,000 nats too low had 2.7 or less, and those with 3.1
or more were at most 0.8 nats too low. The acceptance rate was 64% in both, as step sizes are tuned toward 65%.
"""


class Annealed(NamedTuple):
    """Estimate of the log-likelihood, and how many chains it rests on."""

    log_prob: Array  # float32 [batch], nats
    effective: Array  # float32 [batch], from 1 to the number of chains


@partial(jax.jit, static_argnames=("latents", "temperatures", "chains", "leapfrog_steps"))
def annealed_importance(
    key: Key,
    latents: Latents,
    state: State,
    batch: Batch,
    *,
    temperatures: int = 1000,
    chains: int = CHAINS,
    leapfrog_steps: int = 10,
) -> Annealed:
    """Annealed importance sampling of log p(x), from the prior to the posterior; needs no q(z|x).

    For f_t(z) = p(z) p(x|z)^beta_t, with 0 = beta_0 < ... < beta_T = 1 evenly spaced through a sigmoid,

        z_0 ~ p(z),  log w += (beta_t - beta_{t-1}) log p(x|z_{t-1}),  z_t ~ a move that leaves f_t invariant

    and the estimate is the log of the mean weight over `chains`. That mean's expectation is p(x) for any
    T and moves, so the estimate is a stochastic lower bound of log p(x), tighter with more
    temperatures and chains. If it is not tight it is too low by an amount that depends on the model, and the
    weights tell: where they differ much between the chains, few chains make up the mean, in effect
    (sum w)^2 / sum w^2 of them (Kong 1992). Below `FEW_CHAINS` raise `temperatures`. Chains that all miss the same
    mode of the posterior have equal weights and go unnoticed.

    The moves are Hamiltonian Monte Carlo with unit masses. A separate run of the same length, with its own key,
    tunes a step size for each example and temperature, toward 65% acceptance; the run that counts keeps them
    fixed. Adapting within that run, as is often done, would make the moves depend on the chain's past and
    invalidate the proof of the bound.

    Takes about 2 T (leapfrog_steps + 2) gradients of the decoder for each chain: for small decoders.

    Args:
      key: of this batch.
      latents: the model's; z is one array of floats, in which p(z) and p(x|z) are differentiable.
      state: the model's, without seed axis.
      batch: as the model reads it, its examples independent of each other.
      temperatures: T, 1 or more; at 1 it is importance sampling from the prior.
      chains: chains per example, side by side in memory.
      leapfrog_steps: leapfrog steps per move.

    Returns:
      The estimate, float32 [batch], nats, in the space of the model's `likelihood`, and the effective number of chains,
      float32 [batch].

    Raises:
      ValueError: `latents` lack one of them, its densities are not [batch], or a number is not 1 or more.

    Source: Neal 2001 (https://arxiv.org/abs/physics/9803008); for decoders, with Hamiltonian moves, Wu et al. 2017
    (https://arxiv.org/abs/1611.04273).
    """
    _check(latents, inferred=False, temperatures=temperatures, chains=chains, leapfrog_steps=leapfrog_steps)
    num = _num_examples(batch)
    betas = _sigmoid_schedule(temperatures)

    # over z [chains, batch, ...], nats [chains, batch]
    log_prior = jax.vmap(lambda z: _per_example(latents.prior.log_prob(state, z), num))
    log_likelihood = jax.vmap(lambda z: _per_example(latents.log_likelihood(state, batch, z), num))

    def start(key):
        z = latents.prior.sample(key, state, chains * num)
        return z.reshape(chains, num, *z.shape[1:])

    def move(key, z, beta, step_size):
        return _hamiltonian_move(key, lambda z: log_prior(z) + beta * log_likelihood(z), z, step_size, leapfrog_steps)

    def tune(carry, inputs):
        z, log_step_size = carry
        key, beta = inputs
        z, acceptance = move(key, z, beta, jnp.exp(log_step_size))
        log_step_size += ADAPTATION * (acceptance.mean(0) - ACCEPTANCE)
        return (z, log_step_size), jnp.exp(log_step_size)

    def anneal(carry, inputs):
        z, log_weight = carry
        key, beta, difference, step_size = inputs
        log_weight += difference * log_likelihood(z)
        z, _ = move(key, z, beta, step_size)
        return (z, log_weight), None

    k_tune_start, k_tune, k_start, k_anneal = jax.random.split(key, 4)
    beta, difference = jnp.asarray(betas[1:], jnp.float32), jnp.asarray(np.diff(betas), jnp.float32)
    tuned = (start(k_tune_start), jnp.full(num, math.log(FIRST_STEP_SIZE), jnp.float32))
    _, step_sizes = jax.lax.scan(tune, tuned, (jax.random.split(k_tune, temperatures), beta))
    annealed = (start(k_start), jnp.zeros((chains, num)))
    inputs = (jax.random.split(k_anneal, temperatures), beta, difference, step_sizes)
    (_, log_weights), _ = jax.lax.scan(anneal, annealed, inputs)
    weights = jnp.exp(log_weights - _finite(log_weights.max(0)))  # of the heaviest chain 1
    effective = weights.sum(0) ** 2 / (weights**2).sum(0)
    return Annealed(jax.nn.logsumexp(log_weights, 0) - math.log(chains), jnp.clip(effective, 1, chains))


FIRST_STEP_SIZE = 0.5
"""Initial leapfrog step size of the tuning: near the best for a standard normal prior of up to some 100 latents."""
ACCEPTANCE = 0.65
"""Target acceptance rate, the best in high dimensions (Beskos et al. 2010, https://arxiv.org/abs/1001.4460)."""
ADAPTATION = 0.5
"""Increase of the log step size per unit of acceptance above `ACCEPTANCE`."""


def _sigmoid_schedule(temperatures: int) -> np.ndarray:
    """Betas float64 [temperatures + 1] from 0 to 1: a sigmoid of -4 to 4, stretched.

    Grosse, Ghahramani & Adams 2015 (https://arxiv.org/abs/1511.02543), section 6.
    """
    sigmoid = 1 / (1 + np.exp(-np.linspace(-4, 4, temperatures + 1)))
    return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


def _hamiltonian_move(key, log_density, z, step_size, leapfrog_steps):
    """Returns z [chains, batch, ...] after a move that leaves exp(log_density) invariant, and its acceptance rates.

    step_size [batch]; acceptance [chains, batch]. Neal 2011 (https://arxiv.org/abs/1206.1901), section 3.
    """
    k_momentum, k_accept = jax.random.split(key)
    gradient = jax.grad(lambda z: log_density(z).sum())  # examples and chains are independent
    step_size = step_size.reshape(-1, *[1] * (z.ndim - 2))

    def kinetic(momentum):
        return 0.5 * (momentum**2).reshape(*momentum.shape[:2], -1).sum(-1)

    def leapfrog(_, carry):
        z, momentum, slope = carry
        momentum = momentum + step_size / 2 * slope
        z = z + step_size * momentum
        slope = gradient(z)
        return z, momentum + step_size / 2 * slope, slope

    momentum = jax.random.normal(k_momentum, z.shape)
    proposed, final, _ = jax.lax.fori_loop(0, leapfrog_steps, leapfrog, (z, momentum, gradient(z)))
    log_ratio = log_density(proposed) - kinetic(final) - log_density(z) + kinetic(momentum)
    # a divergent trajectory is rejected
    acceptance = jnp.where(jnp.isnan(log_ratio), 0, jnp.exp(jnp.minimum(log_ratio, 0)))
    accepted = jax.random.uniform(k_accept, acceptance.shape) < acceptance
    return jnp.where(accepted.reshape(*accepted.shape, *[1] * (z.ndim - 2)), proposed, z), acceptance


class RateDistortion(NamedTuple):
    """Coding cost of the latents, and of the example given the latents; rate + distortion = -ELBO."""

    rate: Array  # E_q[log q(z|x) - log p(z)], float32 [batch], nats; 0 or more in expectation
    distortion: Array  # -E_q[log p(x|z)], float32 [batch], nats


@partial(jax.jit, static_argnames=("latents", "samples"))
def rate_distortion(key: Key, latents: Latents, state: State, batch: Batch, *, samples: int = 1) -> RateDistortion:
    """Rate and distortion of every example, as means over `samples` latents of q(z|x).

    Both are unbiased for any number of samples; with one their means over the examples have little noise.
    Latent k is drawn by fold_in(key, k), as in `importance_bound`, whose value at K = 1 is
    -(rate + distortion). For continuous pixels the distortion is of a density, and can be negative.

    Args:
      key: of this batch.
      latents: the model's.
      state: the model's, without seed axis.
      batch: as the model reads it.
      samples: latents per example, 1 or more, drawn one after the other.

    Returns:
      rate and distortion, each float32 [batch], nats.

    Raises:
      ValueError: `latents` lack one of them, its densities are not [batch], or `samples` is not 1 or more.

    Source: Alemi et al. 2018 (https://arxiv.org/abs/1711.00464), section 2.
    """
    _check(latents, samples=samples)

    def add(totals, k):
        log_likelihood, log_prior, log_q = _densities(jax.random.fold_in(key, k), latents, state, batch)
        return RateDistortion(totals.rate + (log_q - log_prior), totals.distortion - log_likelihood), None

    zeros = jnp.zeros(_num_examples(batch))
    totals, _ = jax.lax.scan(add, RateDistortion(zeros, zeros), jnp.arange(samples))
    return RateDistortion(totals.rate / samples, totals.distortion / samples)


class ActiveUnits(NamedTuple):
    """Number of latents that vary with the example, and each latent's variance."""

    active: int  # number of latents with a variance over ACTIVE_VARIANCE
    variances: np.ndarray  # Var_x E[z|x], float64 [dimensions]


ACTIVE_VARIANCE = 0.01
"""Variance above which a latent is active."""


def active_units(means) -> ActiveUnits:
    """The number of active latents: those with Var_x E_q(z|x)[z] > 0.01.

    Args:
      means: [examples, dimensions], E_q(z|x)[z] of each example, as `encode` gives it.

    Returns:
      Their number, and each latent's variance over the examples (divided by their number).

    Raises:
      ValueError: `means` is not [examples, dimensions], of fewer than 2 examples, or not finite.

    Source: Burda, Grosse & Salakhutdinov 2016 (https://arxiv.org/abs/1509.00519), section 5.2.
    """
    variances = checks.features(means, "latent", least=2).var(axis=0)
    return ActiveUnits(int((variances > ACTIVE_VARIANCE).sum()), variances)


def bits_per_dimension(log_prob, num_dimensions: int, space: str) -> np.ndarray:
    """Bits per dimension (pixel and channel) of an image, from its log-likelihood.

        binary, uint8:  -log p(x) / (D log 2)
        continuous:     -(log p(x) - D log 256) / (D log 2) = -log p(x) / (D log 2) + 8

    A `continuous` log-likelihood must be of the density over [0, 1]^D of x = (level + u) / 256, u uniform in
    [0, 1)^D: dequantized, and scaled from [0, 256]^D, whose log Jacobian is log 256 per dimension. Then
    the bits are an upper bound of those of the 256 levels themselves (Theis et al. 2016,
    https://arxiv.org/abs/1511.01844, section 3.1), and are comparable with those of `uint8`. Without
    dequantization they are meaningless: the density has no upper limit, and its bits have no lower one.
    A lower bound of log p(x) gives an upper bound of the bits.

    Args:
      log_prob: nats, any shape.
      num_dimensions: D, height x width x channels, 1 or more.
      space: the likelihood's space, as in `jaxgen.model.Likelihood`: "binary", "uint8" or "continuous".

    Returns:
      float64, of `log_prob`'s shape.

    Raises:
      ValueError: `log_prob` is not finite, `num_dimensions` is not 1 or more, or `space` is another.
    """
    _check_counts(num_dimensions=num_dimensions)
    if space not in ("binary", "uint8", "continuous"):
        raise ValueError(f'space must be "binary", "uint8" or "continuous", not {space!r}')
    log_prob = np.asarray(log_prob, np.float64)
    if not np.isfinite(log_prob).all():
        raise ValueError("log-likelihoods have non-finite values")
    bits = -log_prob / (num_dimensions * math.log(2))
    return bits + 8 if space == "continuous" else bits


def _densities(key, latents, state, batch):
    """Log p(x|z), log p(z) and log q(z|x) of one z per example, drawn from q; nats [batch] each."""
    num = _num_examples(batch)
    z, log_q = latents.posterior(key, state, batch)
    densities = latents.log_likelihood(state, batch, z), latents.prior.log_prob(state, z), log_q
    return tuple(_per_example(density, num) for density in densities)


def _per_example(density, num):
    """Returns a density, which must be [num]: another shape would silently broadcast to a wrong number."""
    if density.shape != (num,):
        raise ValueError(f"densities of {num} examples must be [{num}], got the shape {density.shape}")
    return density


def _finite(largest):
    """Shift that makes the largest log weight 0; no shift if it is infinite or nan."""
    return jnp.where(jnp.isfinite(largest), largest, 0)


def _num_examples(batch) -> int:
    return len(next(iter(batch.values())))


def _check(latents, inferred=True, **counts):
    """Raises ValueError if `latents` lack a density, q(z|x) only if `inferred`, or a count is under 1."""
    if latents is None or None in (latents.prior.log_prob, latents.log_likelihood):
        raise ValueError("the model does not give the densities of its latents, p(z) and p(x|z)")
    if inferred and latents.posterior is None:
        raise ValueError("the model does not give the density of inferred latents, q(z|x)")
    _check_counts(**counts)


def _check_counts(**counts):
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name} must be an integer of 1 or more, not {count}")
