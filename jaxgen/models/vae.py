"""Auto-Encoding Variational Bayes, Kingma & Welling 2014, https://arxiv.org/abs/1312.6114.

    p(z) = N(0, I),  q(z|x) = N(mu(x), diag sigma(x)^2),  p(x|z) of independent pixels          (section 3)
    ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z))                       (equation 3; the review's 7-19)
    z = mu + sigma * eps,  eps ~ N(0, I)                              (section 2.4, reparameterization)

With K importance samples the objective is that of Burda et al. 2016 (https://arxiv.org/abs/1509.00519, equation 8),

    L_K(x) = E[log 1/K sum_k p(x, z_k) / q(z_k|x)],  z_k ~ q(z|x)

In a conditional VAE everything but p(z) is given the label y: p(x|y) = integral of p(z) p(x|z, y) dz (Sohn et al.
2015, with a prior independent of y). Terms are sums over pixels and latents, in nats; the batch mean is taken last.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_not_negative, check_positive
from jaxgen.likelihoods import (
    bernoulli_log_prob,
    bits_of,
    discretized_logistic_log_prob,
    fitting,
    gaussian_kl,
    gaussian_log_prob,
)
from jaxgen.model import Array, Latents, Likelihood, Model, Phase, Prior, Sampler, Space, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.dense import mean_and_log_variance
from jaxgen.nn.image import from_unit, logits_of_mean, pyramid, to_binary, to_unit
from jaxgen.nn.optimizer import descend
from jaxgen.nn.stacks import doubled, halved

STAGES = 8
DENSE_UNITS = 256
NEVER = 2**31 - 1
"""Largest int32 step, assigned to stages that no run reaches."""
NOISE = 1 / 12
"""Variance of uniform noise on [0, 1]: initial variance of p(x|z)."""
ROUNDING = 1 / (12 * 255**2)
"""Variance of rounding to 256 levels: the minimum for optimal, else memorized images have unbounded density."""


@dataclass(frozen=True)
class Config:
    """A variational autoencoder."""

    latent_dim: int = 16  # dimensions of z
    network: Literal["conv", "mlp"] = "conv"  # encoder and decoder: convolutions, or dense layers of tanh units
    features: int = 32  # of conv: channels at half the image size, doubled at every further halving
    smallest: int | None = None  # of conv: side that maps are halved to; default: 2 up to 16 pixels, else 4
    dense_units: int | None = None  # of conv: of a dense layer next to z; default: 256 above maps of 4x4, else 0
    hidden: tuple[int, ...] = (200, 200)  # of mlp: units of the encoder's layers; the decoder's are reversed
    likelihood: Literal["bernoulli", "gaussian", "logistic"] | None = None  # p(x|z): bits if binarized, else logistic
    deviation: float | Literal["learned", "optimal"] = 0.1  # of gaussian, pixels in [0, 1]; optimal: each batch's RMSE
    conditional: bool = False  # encoder and decoder are given the label: p(x|y)
    beta: float = 1.0  # weight of the KL term
    warmup_steps: int = 0  # steps over which that weight rises linearly from 0
    free_bits: float = 0.0  # nats of each latent's KL, averaged over the batch, that are not penalized
    importance_samples: int = 1  # latents per example, K of the importance-weighted objective; 1 is the ELBO
    learning_rate: float = 1e-3  # of Adam
    adam_epsilon: float = 1e-8  # of Adam
    stage_steps: int | None = None  # of IWAE's first of 8 stages; each next is 3 times as long, at 10^(-1/7) the rate


class Encoder(nn.Module):
    """q(z|x), or q(z|x, y)."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, y: Array) -> tuple[Array, Array]:
        """X [batch, H, W, C], one-hot y [batch, classes or 0] -> mean, log-variance [batch, latent_dim]."""
        if self.config.network == "conv":
            maps = jnp.broadcast_to(y[:, None, None], (*x.shape[:3], y.shape[1]))
            layer = partial(Conv, kernel_size=(4, 4), strides=(2, 2), dtype=self.dtype)
            x = halved(layer, jnp.concatenate([x, maps], axis=-1), self.config.features, self.depth)
            if self.config.dense_units:
                x = nn.relu(nn.Dense(self.config.dense_units, dtype=self.dtype)(x))
        else:
            x = jnp.concatenate([x.reshape(x.shape[0], -1), y], axis=-1)
            for units in self.config.hidden:
                x = nn.tanh(nn.Dense(units, dtype=self.dtype)(x))
        return mean_and_log_variance(x, self.config.latent_dim, self.dtype)


class Decoder(nn.Module):
    """p(x|z), or p(x|z, y), as logits: of the bits (Bernoulli) or of the mean (the others)."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, z: Array, y: Array) -> Array:
        """Latents z [batch, latent_dim], one-hot y [batch, classes or 0] -> logits [batch, H, W, C]."""
        config, shape, dtype = self.config, self.spec.image_shape, self.spec.compute_dtype
        x = jnp.concatenate([z, y], axis=-1)
        if config.network == "conv":
            smallest, depth = pyramid(shape, config.smallest, "vae")
            layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), dtype=dtype)
            if config.dense_units:
                x = nn.relu(nn.Dense(config.dense_units, dtype=dtype)(x))
            x = doubled(layer, x, smallest, config.features, shape[-1], depth, dtype)
        else:
            for units in reversed(config.hidden):
                x = nn.tanh(nn.Dense(units, dtype=dtype)(x))
            x = nn.Dense(int(np.prod(shape)), use_bias=False, dtype=dtype)(x).reshape(-1, *shape)
        # The bias starts at the data's mean image, so that latents need to explain only the difference.
        return x.astype(jnp.float32) + self.param("bias", lambda _: logits_of_mean(self.spec.mean))


def check(config: Config) -> None:
    """Raises UserError for invalid or incompatible values."""
    names = ("latent_dim", "features", "smallest", "beta", "importance_samples", "learning_rate", "adam_epsilon")
    check_positive(config, *names)
    for name in ("deviation", "stage_steps"):
        if isinstance(getattr(config, name), int | float):
            check_positive(config, name)
    check_not_negative(config, "dense_units", "warmup_steps", "free_bits")
    check_idle(config, "network", {"conv": ("features", "smallest", "dense_units"), "mlp": ("hidden",)})
    check_idle(config, "likelihood", {"gaussian": ("deviation",)})
    if min(config.hidden, default=1) < 1:
        raise UserError(f"hidden must be numbers above 0, not {config.hidden}")
    if config.importance_samples > 1 and (config.beta, config.warmup_steps, config.free_bits) != (1, 0, 0):
        raise UserError(
            "beta, warmup_steps and free_bits weight the ELBO's KL term, which the importance-weighted objective "
            "does not have: leave them out, or importance_samples at 1"
        )
    if config.importance_samples > 1 and (config.likelihood, config.deviation) == ("gaussian", "optimal"):
        raise UserError("deviation optimal is the ELBO's optimum: leave importance_samples at 1, or have it learned")


def make(config: Config, spec: Spec) -> Model:
    """The VAE for `spec`'s images. Raises UserError as `check` does, and for an image size that conv cannot halve."""
    config = replace(config, likelihood=fitting(config.likelihood, spec, bits="bernoulli", levels="logistic"))
    check(config)
    smallest, depth = (0, 0), 0
    if config.network == "conv":
        smallest, depth = pyramid(spec.image_shape, config.smallest, "vae")
    if config.dense_units is None:  # a net of few halvings, as of 28x28, is too nearly linear in z without
        config = replace(config, dense_units=DENSE_UNITS if min(smallest) > 4 else 0)
    encoder, decoder = Encoder(config, depth, spec.compute_dtype), Decoder(config, spec)
    rate = config.learning_rate
    if config.stage_steps is not None:
        ends = [min(config.stage_steps * (3**stage - 1) // 2, NEVER) for stage in range(1, STAGES)]
        rate = optax.piecewise_constant_schedule(rate, dict.fromkeys(ends, 10 ** (-1 / (STAGES - 1))))
    optimizer = optax.adam(rate, eps=config.adam_epsilon)
    likelihood, classes = config.likelihood, spec.num_classes if config.conditional else 0
    learned = likelihood == "logistic" or (likelihood, config.deviation) == ("gaussian", "learned")
    optimal = (likelihood, config.deviation) == ("gaussian", "optimal")

    def pixels(batch):
        return to_binary(batch["image"]) if likelihood == "bernoulli" else to_unit(batch["image"])

    def label(batch, num):
        """One-hot labels [num, classes], with 0 classes if the model is not conditional."""
        return jax.nn.one_hot(batch["label"], classes) if config.conditional else jnp.zeros((num, 0))

    def init(key):
        k_encoder, k_decoder = jax.random.split(key)
        x, y, z = jnp.zeros((1, *spec.image_shape)), jnp.zeros((1, classes)), jnp.zeros((1, config.latent_dim))
        params = {
            "encoder": encoder.init(k_encoder, x, y)["params"],
            "decoder": decoder.init(k_decoder, z, y)["params"],
        }
        if learned:
            # Shared by all pixels: with its own scale, a pixel that never changes would have an unbounded density.
            params["log_scale"] = jnp.float32(np.log(NOISE) / 2)
        return State(jnp.int32(0), params, optimizer.init(params), jnp.float32(NOISE) if optimal else ())

    def posterior(params, batch):
        """Mean and log-variance of q(z|x), [batch, latent_dim] each."""
        x = pixels(batch)
        return encoder.apply({"params": params["encoder"]}, x, label(batch, len(x)))

    def draw(key, mean, log_variance):
        return mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)

    def logits(params, z, batch):
        return decoder.apply({"params": params["decoder"]}, z, label(batch, len(z)))

    def pixels_log_prob(params, variance, x, logits):
        """Log p(x|z), nats [batch]; only optimal uses `variance`."""
        if likelihood == "bernoulli":
            return bernoulli_log_prob(x, logits)
        if likelihood == "logistic":
            return discretized_logistic_log_prob(x, nn.sigmoid(logits), params["log_scale"])
        if optimal:
            log_variance = jnp.log(variance)
        else:
            log_variance = 2 * (params["log_scale"] if learned else float(np.log(config.deviation)))
        return gaussian_log_prob(x, nn.sigmoid(logits), log_variance)

    def objective(params, key, batch, step):
        """Returns the loss, and the mean reconstruction and KL terms, nats, with the variance of optimal or None."""
        k = config.importance_samples
        mean, log_variance = (jnp.repeat(a, k, axis=0) for a in posterior(params, batch))  # K copies of each
        batch = {name: jnp.repeat(entry, k, axis=0) for name, entry in batch.items()}
        z, x = draw(key, mean, log_variance), pixels(batch)
        decoded = logits(params, z, batch)
        # The maximum-likelihood variance is the mean squared error: Rybkin et al. 2021, section 4.
        variance = jnp.maximum(((x - nn.sigmoid(decoded)) ** 2).mean(), ROUNDING) if optimal else None
        reconstruction, kl = pixels_log_prob(params, variance, x, decoded), gaussian_kl(mean, log_variance)
        terms = (reconstruction.mean(), kl.mean(), variance)
        if k > 1:
            log_weight = reconstruction + log_prior(None, z) - gaussian_log_prob(z, mean, log_variance)
            return -(jax.nn.logsumexp(log_weight.reshape(-1, k), axis=1) - float(np.log(k))).mean(), terms
        if config.free_bits:  # Kingma et al. 2016, equation 15, with a group per latent
            each = gaussian_kl(mean.reshape(-1, 1), log_variance.reshape(-1, 1)).reshape(mean.shape)
            kl = jnp.maximum(each.mean(0), config.free_bits).sum()
        beta = config.beta
        if config.warmup_steps:
            beta *= jnp.minimum(step.astype(jnp.float32) / config.warmup_steps, 1)
        return -(reconstruction - beta * kl).mean(), terms

    def step(key, state, batch):
        gradient = jax.value_and_grad(objective, has_aux=True)
        (value, (reconstruction, kl, variance)), gradients = gradient(state.params, key, batch, state.step)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        state = state._replace(params=params, opt_state=opt_state)
        if optimal:  # the mean over all batches at first, then over about the last hundred
            share = jnp.maximum(1 / (1 + state.step.astype(jnp.float32)), 0.01)
            state = state._replace(extra=(1 - share) * state.extra + share * variance)
        return state, {"loss": value, "reconstruction": reconstruction, "kl": kl}

    def decode(state, z, condition):
        return {"image": nn.sigmoid(logits(state.params, z, condition))}

    def sample_prior(key, state, num):
        return jax.random.normal(key, (num, config.latent_dim))

    def log_prior(state, z):
        return gaussian_log_prob(z, jnp.zeros_like(z), 0.0)

    def sample_posterior(key, state, batch):
        mean, log_variance = posterior(state.params, batch)
        z = draw(key, mean, log_variance)
        return z, gaussian_log_prob(z, mean, log_variance)

    def log_likelihood(state, batch, z):
        # With optimal the stored variance is used, so that log p(x) of an example does not depend on its batch.
        return pixels_log_prob(state.params, state.extra, pixels(batch), logits(state.params, z, batch))

    def sample(key, state, num, condition):
        return {"image": from_unit(decode(state, sample_prior(key, state, num), condition)["image"])}

    def log_prob(key, state, batch):
        mean, log_variance = posterior(state.params, batch)
        return log_likelihood(state, batch, draw(key, mean, log_variance)) - gaussian_kl(mean, log_variance)

    def encode(state, batch):
        return posterior(state.params, batch)[0]

    spaces: dict[str, tuple[Space, str]] = {
        "bernoulli": ("binary", bits_of(spec)),
        "gaussian": ("continuous", "pixels in [0, 1], not dequantized"),
        "logistic": ("uint8", "the 256 levels"),
    }
    space, note = spaces[likelihood]
    bound = "ELBO of log p(x|label)" if config.conditional else "ELBO"
    conditions = ("label",) if config.conditional else ()
    return Model(
        init,
        (Phase("train", step),),
        needs=("image", *conditions),
        sampler=Sampler(sample, conditions, "means of p(x|z), z from the prior"),
        likelihood=Likelihood(log_prob, space, "bound", f"{bound}, one z per image; p(x|z) is of {note}"),
        latents=Latents(decode, Prior(sample_prior, "gaussian", log_prior), encode, sample_posterior, log_likelihood),
    )
