"""VQ-VAE, van den Oord, Vinyals & Kavukcuoglu 2017, Neural Discrete Representation Learning, arXiv 1711.00937.

    z = E(x),    k = argmin_j |z - e_j|^2 at every place of the map z,    x^ = D(e_k)               (equations 1 and 2)
    L = |x - x^|^2 / var(x) + beta |z - sg(e_k)|^2                                                  (equation 3)

https://arxiv.org/abs/1711.00937. The gradient of D's input goes straight through to z, sg stops it, and the codes e
follow running averages (appendix A.1; `jaxgen.nn.codebook`). Squared errors are means over all numbers, as in the
authors' example (Sonnet, vqvae_example), whose nets these are, with the batch's variance in place of the data's.

The second phase leaves encoder, decoder and codebook as they are and learns the prior of the codes (section 3.2), a
Transformer or a gated PixelCNN (the paper's), and one scale of p(x|k). With a uniform prior the codes' term would be
-n log K nats for maps of n codes.

Chosen here: codes begin at vectors of the data, and unused ones become such vectors again in the first four fifths of
the phase; images are centered by their mean. Options are codes by cosine, and finite scalar quantization.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.config import check_idle
from jaxgen.model import Array, Model, Phase, Spec, State
from jaxgen.models.code_priors import make_priors
from jaxgen.models.quantized import (
    LEAST_VARIANCE,
    QuantizedConfig,
    abilities,
    check,
    fitted_log_scale,
    make_quantizer,
    replacing,
    usage,
)
from jaxgen.nn.conv import Conv
from jaxgen.nn.image import to_unit
from jaxgen.nn.optimizer import descend
from jaxgen.nn.residual import Down, Up


@dataclass(frozen=True)
class Config(QuantizedConfig):
    """A vector-quantized autoencoder and the prior of its codes."""

    halvings: int = 2  # strided layers between an image and its map of codes: 28x28 pixels have 7x7 codes


class Net(nn.Module):
    """Encoder and decoder."""

    config: Config
    code_dim: int
    channels: int
    dtype: np.dtype

    def setup(self):
        """Both stacks."""
        self.encoder = Down(self.config, self.config.halvings, self.dtype)
        self.to_code = Conv(self.code_dim, (1, 1), dtype=self.dtype)
        self.decoder = Up(self.config, self.config.halvings, self.channels, self.dtype)

    def encode(self, x: Array) -> Array:
        """Centered images [batch, H, W, C] -> z, float32 [batch, h, w, D]."""
        return self.to_code(self.encoder(x)).astype(jnp.float32)

    def decode(self, code: Array) -> Array:
        """Codes' vectors [batch, h, w, D] -> centered images, float32 [batch, H, W, C]."""
        return self.decoder(code)

    def __call__(self, x: Array) -> Array:
        """Both in turn, without codes, for the parameters."""
        return self.decode(self.encode(x))


def make(config: Config, spec: Spec) -> Model:
    """A VQ-VAE for `spec`'s images. Raises UserError as `check` does, and for a prior that does not fit in memory."""
    check(config, spec, (config.halvings,))
    check_idle(config, "prior", {"pixelcnn": ("gated_features", "gated_layers")})
    height, width, channels = spec.image_shape
    quantizer, center = make_quantizer(config), jnp.asarray(spec.mean, jnp.float32)
    net = Net(config, quantizer.dim, channels, spec.compute_dtype)
    grid = height >> config.halvings, width >> config.halvings
    priors = make_priors(config, spec, quantizer.num, {"code": grid})
    optimizer = optax.adam(config.learning_rate)

    def init(key):
        k_net, k_codebook, k_prior = jax.random.split(key, 3)
        params = {"net": net.init(k_net, jnp.zeros((1, *spec.image_shape)))["params"], "prior": priors.init(k_prior)}
        opt_state = {"net": optimizer.init(params["net"]), "prior": priors.optimizer.init(params["prior"])}
        return State(jnp.int32(0), params, opt_state, {"code": quantizer.start(k_codebook)})

    def z(params, x):
        return net.apply({"params": params}, x - center, method="encode")

    def image(params, code):
        return center + net.apply({"params": params}, code, method="decode")

    # The first phase: encoder, decoder and codebook.

    def begin_codes(key, state, batches):
        """Starts the codebook at vectors of the first batch."""
        x = to_unit(jnp.asarray(next(iter(batches))["image"]))
        return state._replace(
            extra={"code": quantizer.begun(key, state.extra["code"], jax.jit(z)(state.params["net"], x))}
        )

    def train_codes(key, state, batch):
        x, book = to_unit(batch["image"]), state.extra["code"]

        def loss(params):
            found = quantizer(book, z(params, x))
            error = ((x - image(params, found.code)) ** 2).mean() / jnp.maximum(x.var(), LEAST_VARIANCE)
            commitment = quantizer.commitment(found)
            return error + config.commitment * commitment, (found, {"nmse": error, "commitment": commitment})

        (value, (found, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params["net"])
        params, opt_state = descend(optimizer, gradients, state.opt_state["net"], state.params["net"])
        book = quantizer.updated(key, book, found, replacing(config, state.step))
        return state._replace(
            params=state.params | {"net": params}, opt_state=state.opt_state | {"net": opt_state}, extra={"code": book}
        ), {"loss": value, **metrics, **usage("code", book)}

    # The second phase: the prior, and the scale of p(x|codes).

    def encode(state, batch):
        return {"code": quantizer(state.extra["code"], z(state.params["net"], to_unit(batch["image"]))).index}

    def decoded(state, codes):
        return image(state.params["net"], state.extra["code"].codes[codes["code"]])

    def begin_prior(key, state, batches):
        """Starts the scale of p(x|codes) at that of the training images' errors."""
        scale = fitted_log_scale(lambda state, batch: decoded(state, encode(state, batch)), state, batches)
        return state._replace(params=state.params | {"prior": state.params["prior"] | {"log_scale": scale}})

    def train_prior(key, state, batch):
        codes = encode(state, batch)
        x, mean = to_unit(batch["image"]), decoded(state, codes)

        def loss(prior):
            terms = priors.terms(prior, x, mean, codes, batch, key)
            return priors.loss(terms), terms

        gradients, terms = jax.grad(loss, has_aux=True)(state.params["prior"])
        prior, opt_state = descend(priors.optimizer, gradients, state.opt_state["prior"], state.params["prior"])
        return state._replace(
            params=state.params | {"prior": prior}, opt_state=state.opt_state | {"prior": opt_state}
        ), {**priors.metrics(terms), **usage("code", state.extra["code"])}

    phases = (
        Phase("codes", train_codes, config.code_steps, enter=begin_codes),
        Phase("prior", train_prior, enter=begin_prior),
    )
    return Model(init, phases, **abilities(priors, encode, decoded))
