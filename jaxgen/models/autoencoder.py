"""The autoencoder: Bank, Koenigstein & Giryes 2021, https://arxiv.org/abs/2003.05991; section 2.3.3 of the review.

    min_{A, B}  E |x - B(A(x))|^2,    A the encoder, B the decoder                                     (equation 1)

The squared error is summed over pixels in [0, 1]; the mean over the batch is taken last. If A and B are one affine
map each, the minimum is PCA's: B spans the first principal components, and any other stationary point is a saddle
(Baldi & Hornik 1989, "Neural networks and principal component analysis").

An autoencoder has no prior to draw codes from, so a Gaussian is fitted to the codes of the training data. Its mean
and covariance are averages over all batches at first, then over about the last hundred; they lag behind the parameters
by that many steps, and are exact once the learning rate has decayed to 0. `encode` and `decode` use whitened
coordinates, in which that Gaussian is N(0, I), the `prior`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.config import check_idle
from jaxgen.errors import check_positive
from jaxgen.model import Array, Latents, Model, Phase, Prior, Sampler, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.image import from_unit, logits_of_mean, pyramid, to_unit
from jaxgen.nn.optimizer import decaying_rate, descend
from jaxgen.nn.stacks import doubled, halved

FLOOR = 1e-6
"""Share of the codes' total variance added to each one's, so that a constant code has a scale too."""


@dataclass(frozen=True)
class Config:
    """An autoencoder."""

    latent_dim: int = 16  # dimensions of a code
    network: Literal["conv", "linear"] = "conv"  # encoder and decoder: convolutions, or one affine map each
    features: int = 32  # of conv: channels at half the image size, doubled at every further halving
    smallest: int | None = None  # of conv: side that maps are halved to; default: 2 up to 16 pixels, else 4
    learning_rate: float = 1e-3  # of Adam
    decay_steps: int | None = None  # steps in which the learning rate falls to 0 along a cosine; constant if None


class Encoder(nn.Module):
    """A: images to codes."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """X in [0, 1] [batch, H, W, C] -> codes [batch, latent_dim]."""
        config, dtype = self.config, self.spec.compute_dtype
        x = x - jnp.asarray(self.spec.mean, jnp.float32)  # still affine, and converges faster
        if config.network == "conv":
            layer = partial(Conv, kernel_size=(4, 4), strides=(2, 2), dtype=dtype)
            x = halved(layer, x, config.features, pyramid(x.shape[1:], config.smallest, "autoencoder")[1])
        return nn.Dense(config.latent_dim, dtype=dtype)(x.reshape(x.shape[0], -1)).astype(jnp.float32)


class Decoder(nn.Module):
    """B: codes to images."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, z: Array) -> Array:
        """Codes z [batch, latent_dim] -> pixels [batch, H, W, C], in (0, 1) except with linear."""
        config, shape, dtype = self.config, self.spec.image_shape, self.spec.compute_dtype
        # The bias starts at the data's mean image, so that codes need to explain only the difference.
        if config.network == "linear":
            x = nn.Dense(int(np.prod(shape)), use_bias=False, dtype=dtype)(z).reshape(-1, *shape)
            return x.astype(jnp.float32) + self.param("bias", lambda _: jnp.asarray(self.spec.mean, jnp.float32))
        smallest, depth = pyramid(shape, config.smallest, "autoencoder")
        layer = partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), dtype=dtype)
        x = doubled(layer, z, smallest, config.features, shape[-1], depth, dtype).astype(jnp.float32)
        return nn.sigmoid(x + self.param("bias", lambda _: logits_of_mean(self.spec.mean)))


def moved(moments: dict[str, Array], z: Array, share: Array) -> dict[str, Array]:
    """Mean [d] and covariance [d, d] of a mixture of codes z [batch, d], with weight `share`, and `moments`."""
    mean = z.mean(0)
    covariance = jnp.matmul((z - mean).T, z - mean, precision="highest") / len(z)
    difference = mean - moments["mean"]
    between = share * (1 - share) * jnp.outer(difference, difference)
    return {
        "mean": moments["mean"] + share * difference,
        "covariance": (1 - share) * moments["covariance"] + share * covariance + between,
    }


def make(config: Config, spec: Spec) -> Model:
    """The autoencoder for `spec`'s images.

    Raises UserError for a value that is invalid or belongs to another network, or an image size that conv cannot halve.
    """
    check_positive(config, "latent_dim", "features", "smallest", "learning_rate")
    check_idle(config, "network", {"conv": ("features", "smallest")})
    if config.network == "conv":
        pyramid(spec.image_shape, config.smallest, "autoencoder")
    encoder, decoder, optimizer = Encoder(config, spec), Decoder(config, spec), optax.adam(decaying_rate(config))

    def init(key):
        k_encoder, k_decoder = jax.random.split(key)
        params = {
            "encoder": encoder.init(k_encoder, jnp.zeros((1, *spec.image_shape)))["params"],
            "decoder": decoder.init(k_decoder, jnp.zeros((1, config.latent_dim)))["params"],
        }
        moments = {"mean": jnp.zeros(config.latent_dim), "covariance": jnp.eye(config.latent_dim)}
        return State(jnp.int32(0), params, optimizer.init(params), moments)

    def step(key, state, batch):
        def loss(params):
            x = to_unit(batch["image"])
            z = encoder.apply({"params": params["encoder"]}, x)
            error = ((x - decoder.apply({"params": params["decoder"]}, z)) ** 2).sum((1, 2, 3))
            return error.mean(), z

        (value, z), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        share = jnp.maximum(1 / (1 + state.step.astype(jnp.float32)), 0.01)
        moments = moved(state.extra, z, share)
        return state._replace(params=params, opt_state=opt_state, extra=moments), {"loss": value}

    def scale(state):
        """Cholesky factor L of the codes' covariance L L': z = mean + L u, with u from N(0, I)."""
        covariance = state.extra["covariance"]
        floor = FLOOR * jnp.trace(covariance) + jnp.finfo(jnp.float32).tiny
        return jnp.linalg.cholesky(covariance + floor * jnp.eye(config.latent_dim))

    def encode(state, batch):
        z = encoder.apply({"params": state.params["encoder"]}, to_unit(batch["image"]))
        return jax.scipy.linalg.solve_triangular(scale(state), (z - state.extra["mean"]).T, lower=True).T

    def decode(state, u, condition):
        z = state.extra["mean"] + jnp.matmul(u, scale(state).T, precision="highest")
        return {"image": jnp.clip(decoder.apply({"params": state.params["decoder"]}, z), 0, 1)}

    def prior(key, state, num):
        return jax.random.normal(key, (num, config.latent_dim))

    def sample(key, state, num, condition):
        return {"image": from_unit(decode(state, prior(key, state, num), condition)["image"])}

    return Model(
        init,
        (Phase("train", step),),
        needs=("image",),
        sampler=Sampler(sample, note="decoded draws of a Gaussian fitted to the codes of the training images"),
        latents=Latents(decode, Prior(prior, "gaussian"), encode),
    )
