"""Variational autoencoder of deforming meshes: Tan, Gao, Lai & Xia 2018, https://arxiv.org/abs/1709.04307.

The data are features f of meshes of one connectivity (`jaxgen.deformation`), scaled to [-.95, .95]:

    p(z) = N(0, diag sigma_p^2),  q(z|f) = N(mu(f), diag sigma(f)^2),  p(f|z) = N(g(z), deviation^2 I)
    ELBO(f) = E_q[log p(f|z)] - KL(q(z|f) || p(z))
    KL = sum [log(sigma_p / sigma) + (sigma^2 + mu^2) / (2 sigma_p^2) - 1/2]

Encoder and decoder are dense layers of tanh units, and g ends with tanh, hence the scaling. Rotations' logarithms have
one range, and the symmetric matrices another; both are of the training data. sigma_p is 1, and in the extended model
chosen for each dimension: a smaller one makes its dimension cost more, so that the deformation concentrates in others.

`encode` and `decode` use z / sigma_p, whose prior is N(0, I). `decode` gives meshes, so it computes on the host
(`jax.pure_callback`); training does not. Samples are decoded means g(z).

Deviations from the paper: the inputs are centered, and g starts at the training data's mean, both of them constants;
the encoder's log-variance is bounded as in the other models here; the paper's weight alpha of the reconstruction is
1 / deviation^2 per feature.
"""

import functools
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.deformation import Deformation, Kind
from jaxgen.errors import UserError, check_positive
from jaxgen.likelihoods import gaussian_kl, gaussian_log_prob
from jaxgen.model import Array, Latents, Model, Phase, Prior, Sampler, Spec, State
from jaxgen.nn.dense import mean_and_log_variance
from jaxgen.nn.optimizer import decaying_rate, descend

LIMIT = 0.95
"""Largest scaled feature of the training data."""


@dataclass(frozen=True)
class Config:
    """A variational autoencoder of deforming meshes."""

    features: Kind = "rimd"  # invariant to rotation, at one-rings or as gradients of triangles; or aligned vertices
    latent_dim: int = 16  # dimensions of z
    hidden: tuple[int, ...] = (300,)  # units of the encoder's layers; the decoder's are reversed
    deviation: float = 0.01  # of p(f|z): scaled features differ by so much from the decoded ones
    prior_deviations: tuple[float, ...] = (1.0,)  # sigma_p of z's first dimensions; the last one is of all others
    learning_rate: float = 1e-3  # of Adam
    decay_steps: int | None = None  # steps in which the learning rate falls to 0 along a cosine; constant if None


class Encoder(nn.Module):
    """q(z|f)."""

    config: Config
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Centered features [batch, size] -> mean, log-variance [batch, latent_dim]."""
        for units in self.config.hidden:
            x = nn.tanh(nn.Dense(units, dtype=self.dtype)(x))
        return mean_and_log_variance(x, self.config.latent_dim, self.dtype)


class Decoder(nn.Module):
    """The mean g(z) of p(f|z), before its last tanh."""

    config: Config
    size: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Latents [batch, latent_dim] -> [batch, size]."""
        for units in reversed(self.config.hidden):
            z = nn.tanh(nn.Dense(units, dtype=self.dtype)(z))
        return nn.Dense(self.size, dtype=self.dtype)(z).astype(jnp.float32)


def extended_kl(mean: Array, log_variance: Array, prior_deviations: Array) -> Array:
    """KL(N(mean, exp(log_variance)) || N(0, prior_deviations^2)), nats [batch]; mean, log_variance [batch, latents]."""
    return gaussian_kl(mean / prior_deviations, log_variance - 2 * jnp.log(prior_deviations))


def scaled(scales: Any, features: Array) -> Array:
    """Features [batch, size], scaled to [-LIMIT, LIMIT] on the training data; constant ones to 0."""
    width = scales["high"] - scales["low"]
    share = (features - scales["low"]) / jnp.where(width > 0, width, 1)
    return jnp.where(width > 0, LIMIT * (2 * share - 1), 0)


def unscaled(scales: Any, values: Array) -> Array:
    """Inverse of `scaled`, except for constant features, which are restored."""
    return scales["low"] + (scales["high"] - scales["low"]) * (values / LIMIT + 1) / 2


def make(config: Config, spec: Spec) -> Model:
    """The model for `spec`'s meshes; raises UserError for an invalid value, or meshes without such features."""
    check_positive(config, "latent_dim", "deviation", "learning_rate")
    count = len(config.prior_deviations)
    for name in ("hidden", "prior_deviations"):
        if not min(getattr(config, name), default=1) > 0:
            raise UserError(f"{name} must be numbers above 0, not {getattr(config, name)}")
    if not 1 <= count <= config.latent_dim:
        raise UserError(f"prior_deviations must be 1 to {config.latent_dim} numbers, as latent_dim is, not {count}")
    vertices, kind, dtype = spec.entries["mesh"].shape[0], config.features, spec.compute_dtype
    (size,) = spec.entries[kind].shape
    encoder, decoder, optimizer = (
        Encoder(config, dtype),
        Decoder(config, size, dtype),
        optax.adam(decaying_rate(config)),
    )
    prior_deviations = np.resize(np.float32(config.prior_deviations[-1]), config.latent_dim)
    prior_deviations[:count] = config.prior_deviations
    log_variance_of_features = 2 * float(np.log(config.deviation))

    @functools.cache
    def deformation():
        return Deformation(spec.reference, spec.faces, kind)

    def init(key):
        k_encoder, k_decoder = jax.random.split(key)
        params = {
            "encoder": encoder.init(k_encoder, jnp.zeros((1, size)))["params"],
            "decoder": decoder.init(k_decoder, jnp.zeros((1, config.latent_dim)))["params"],
        }
        # Replaced when training begins; before it, meshes differ little from the reference.
        if kind == "aligned":
            rest = jnp.asarray(spec.reference, jnp.float32).reshape(-1)
        else:
            sites = vertices if kind == "rimd" else len(spec.faces)
            identity = jnp.tile(jnp.array([1.0, 0, 0, 1, 0, 1]), sites)
            rest = jnp.concatenate([jnp.zeros(size - 6 * sites), identity])
        scales = {"low": rest - 0.1, "high": rest + 0.1, "mean": jnp.zeros(size)}
        return State(jnp.int32(0), params, optimizer.init(params), scales)

    def enter(key, state, batches):
        """Ranges and mean of the training features."""
        low, high, total, num = np.full(size, np.inf), np.full(size, -np.inf), np.zeros(size), 0
        for batch in batches:
            some = np.asarray(batch[kind], np.float64)[np.asarray(batch["weight"]) > 0]
            low, high = np.minimum(low, some.min(0)), np.maximum(high, some.max(0))
            total, num = total + some.sum(0), num + len(some)
        for group in deformation().groups:
            low[group], high[group] = low[group].min(), high[group].max()
        scales = {"low": jnp.float32(low), "high": jnp.float32(high)}
        return state._replace(extra=scales | {"mean": scaled(scales, jnp.float32(total / num))})

    def posterior(params, scales, batch):
        """Scaled features [batch, size], and mean and log-variance of q(z|f), [batch, latent_dim] each."""
        x = scaled(scales, batch[kind])
        return x, *encoder.apply({"params": params["encoder"]}, x - scales["mean"])

    def decoded(params, scales, z):
        """g(z), [batch, size]."""
        return nn.tanh(jnp.arctanh(scales["mean"]) + decoder.apply({"params": params["decoder"]}, z))

    def elbo(params, key, scales, batch):
        """The two terms of the ELBO, nats [batch] each."""
        x, mean, log_variance = posterior(params, scales, batch)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        reconstruction = gaussian_log_prob(x, decoded(params, scales, z), log_variance_of_features)
        return reconstruction, extended_kl(mean, log_variance, prior_deviations)

    def step(key, state, batch):
        def loss(params):
            reconstruction, kl = elbo(params, key, state.extra, batch)
            return -(reconstruction - kl).mean(), (reconstruction.mean(), kl.mean())

        (value, (reconstruction, kl)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        metrics = {"loss": value, "reconstruction": reconstruction, "kl": kl}
        return state._replace(params=params, opt_state=opt_state), metrics

    def encode(state, batch):
        return posterior(state.params, state.extra, batch)[1] / prior_deviations

    def decode(state, z, condition):
        features = unscaled(state.extra, decoded(state.params, state.extra, z * prior_deviations))
        shape = jax.ShapeDtypeStruct((len(z), vertices, 3), np.float32)
        return {"mesh": jax.pure_callback(solved, shape, features, vmap_method="broadcast_all")}

    def solved(features):
        """Meshes [..., V, 3] of features [..., size]."""
        features = np.asarray(features)
        meshes = deformation().meshes(features.reshape(-1, size))
        return meshes.reshape(*features.shape[:-1], vertices, 3).astype(np.float32)

    def sample_prior(key, state, num):
        return jax.random.normal(key, (num, config.latent_dim))

    def sample(key, state, num, condition):
        return decode(state, sample_prior(key, state, num), condition)

    return Model(
        init,
        (Phase("train", step, enter=enter),),
        needs=(kind,),
        sampler=Sampler(sample, note="meshes of the means of p(f|z), z from the prior"),
        latents=Latents(decode, Prior(sample_prior, "gaussian"), encode),
    )
