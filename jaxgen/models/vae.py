"""Auto-Encoding Variational Bayes, Kingma & Welling 2014, https://arxiv.org/abs/1312.6114.

    p(z) = N(0, I),  q(z|x) = N(mu(x), diag sigma(x)^2),  p(x|z) Bernoulli or Gaussian     (section 3)
    ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z))                       (equation 3; the review's 7-19)
    z = mu + sigma * eps,  eps ~ N(0, I)                              (section 2.4, reparameterisation)

Sums over pixels and latents, in nats; the mean over the batch is taken last. Encoder and decoder
are convolutional, as deep as the image size allows (4x4 kernels, stride 2).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.errors import check_positive
from jaxgen.losses import bernoulli_log_prob, gaussian_kl, gaussian_log_prob
from jaxgen.model import Array, Likelihood, Model, Phase, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.image import from_unit, pyramid, to_binary, to_unit
from jaxgen.nn.optimizer import descend


@dataclass(frozen=True)
class Config:
    """A convolutional variational autoencoder."""

    latent_dim: int = 16  # dimensions of z
    features: int = 32  # channels at half the image size, doubled at every further halving
    smallest: int = 4  # side of the smallest map: images are halved while they stay at least so large
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"  # p(x|z): of binary pixels, or of levels
    deviation: float = 0.1  # of the Gaussian p(x|z), with pixels in [0, 1]; not used by bernoulli
    learning_rate: float = 1e-3  # of Adam


class Encoder(nn.Module):
    """q(z|x)."""

    config: Config
    depth: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """X [batch, H, W, C] -> mean, log-variance [batch, latent_dim]."""
        for level in range(self.depth):
            x = nn.relu(Conv(self.config.features << level, (4, 4), strides=(2, 2), dtype=self.dtype)(x))
        x = x.reshape(x.shape[0], -1)
        mean = nn.Dense(self.config.latent_dim, dtype=self.dtype)(x).astype(jnp.float32)
        log_variance = nn.Dense(self.config.latent_dim, dtype=self.dtype)(x).astype(jnp.float32)
        # Bounded, so that no early step overflows exp: variances from e^-8 to e^8.
        return mean, 8 * jnp.tanh(log_variance / 8)


class Decoder(nn.Module):
    """p(x|z), as logits: of the bits (Bernoulli) or of the mean (Gaussian)."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Latents z [batch, latent_dim] -> logits [batch, H, W, C]."""
        (height, width), depth = pyramid(self.spec.image_shape, self.config.smallest, "vae")
        layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), dtype=self.spec.compute_dtype)
        features = self.config.features << (depth - 1)
        x = nn.Dense(height * width * features, dtype=self.spec.compute_dtype)(z)
        x = nn.relu(x).reshape(-1, height, width, features)
        for level in reversed(range(depth - 1)):
            x = nn.relu(layer(self.config.features << level)(x))
        x = layer(self.spec.image_shape[-1], use_bias=False)(x).astype(jnp.float32)
        # Starting at the data's mean image leaves the latents to explain what differs from it.
        mean = np.clip(self.spec.mean, 0.01, 0.99)
        bias = np.log(mean / (1 - mean)).astype(np.float32)
        return x + self.param("bias", lambda _: jnp.asarray(bias))


def make(config: Config, spec: Spec) -> Model:
    """The VAE for `spec`'s images. Raises UserError for an image size that does not halve."""
    check_positive(config, "latent_dim", "features", "smallest", "deviation", "learning_rate")
    _, depth = pyramid(spec.image_shape, config.smallest, "vae")
    encoder, decoder = Encoder(config, depth, spec.compute_dtype), Decoder(config, spec)
    optimizer = optax.adam(config.learning_rate)
    binary = config.likelihood == "bernoulli"

    def data(batch):
        return to_binary(batch["image"]) if binary else to_unit(batch["image"])

    def init(key, batch):
        k_encoder, k_decoder = jax.random.split(key)
        params = {
            "encoder": encoder.init(k_encoder, data(batch))["params"],
            "decoder": decoder.init(k_decoder, jnp.zeros((1, config.latent_dim)))["params"],
        }
        return State(jnp.int32(0), params, optimizer.init(params))

    def elbo_terms(key, params, x):
        """E_q[log p(x|z)] by one z an example, and KL(q(z|x) || p(z)); nats [batch]."""
        mean, log_variance = encoder.apply({"params": params["encoder"]}, x)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        logits = decoder.apply({"params": params["decoder"]}, z)
        if binary:
            reconstruction = bernoulli_log_prob(x, logits)
        else:
            log_variance_x = 2 * float(np.log(config.deviation))
            reconstruction = gaussian_log_prob(x, nn.sigmoid(logits), log_variance_x)
        return reconstruction, gaussian_kl(mean, log_variance)

    def step(key, state, batch):
        def loss(params):
            reconstruction, kl = elbo_terms(key, params, data(batch))
            return -(reconstruction - kl).mean(), (reconstruction.mean(), kl.mean())

        (value, (reconstruction, kl)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        metrics = {"loss": value, "reconstruction": reconstruction, "kl": kl}
        return state._replace(params=params, opt_state=opt_state), metrics

    def decode(state, z):
        return nn.sigmoid(decoder.apply({"params": state.params["decoder"]}, z))

    def sample(key, state, num, condition=None):
        z = jax.random.normal(key, (num, config.latent_dim))
        return {"image": from_unit(decode(state, z))}

    def log_prob(key, state, batch):
        reconstruction, kl = elbo_terms(key, state.params, data(batch))
        return reconstruction - kl

    def encode(key, state, batch):
        return encoder.apply({"params": state.params["encoder"]}, data(batch))[0]

    return Model(
        init,
        (Phase("train", step),),
        needs=("image",),
        sample=sample,
        sampling="means of p(x|z), z from the prior",
        log_prob=log_prob,
        likelihood=Likelihood("binary", "bound", "ELBO, one z an image; bits are pixels >= 128")
        if binary
        else Likelihood("continuous", "bound", "ELBO, one z an image; pixels in [0, 1], not dequantised"),
        encode=encode,
        decode=decode,
        precisions=("float32", "bfloat16"),
    )
