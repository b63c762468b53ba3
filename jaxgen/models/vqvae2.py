"""VQ-VAE-2, Razavi, van den Oord & Vinyals 2019, Generating Diverse High-Fidelity Images with VQ-VAE-2.

    h_bottom = E_bottom(x),    h_top = E_top(h_bottom)
    e_top = Quantize(h_top),    e_bottom = Quantize(h_bottom, D_top(e_top))                         (algorithm 1)
    x^ = D(e_top, e_bottom),    L = |x - x^|^2 / var(x) + beta sum |z - sg(e)|^2                    (equation 2)
    p(top|y) p(bottom|top, y)                                                                       (algorithm 2)

https://arxiv.org/abs/1906.00446. The top codes hold what is global in an image, the bottom codes its details. Codes
follow running averages, and the gradient goes straight through them, as in VQ-VAE (`vqvae`). D sees the top's codes
through transposed convolutions beside the bottom's. With three `halvings` there is a middle level.

The second phase leaves all of this as it is and learns the priors: of the top codes a Transformer (the paper: a
PixelCNN with attention, PixelSNAIL) or a gated PixelCNN, of the codes below a gated PixelCNN without attention that is
given the codes above, through unmasked residual blocks, in every layer. Labels and captions are given to every prior;
PixelCNNs get a caption's words without their order.

The paper's rejection of samples by a classifier is not part of the model. Chosen here are sizes for small images, and
what `vqvae` chooses. The paper's for 256x256 pixels are --halvings 2 1 --features 128 --residual-features 64
--num-codes 512 --code-dim 64, and priors of 20 layers.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.errors import UserError
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
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.image import to_unit
from jaxgen.nn.optimizer import descend
from jaxgen.nn.residual import Down, Up

NAMES = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}


@dataclass(frozen=True)
class Config(QuantizedConfig):
    """A hierarchy of vector-quantized autoencoders and the priors of their codes."""

    halvings: tuple[int, ...] = (1, 1)  # strided layers from the image to the bottom codes, and to each level above


class Net(nn.Module):
    """Encoders and decoders of all levels; codes' vectors are lists from the top down."""

    config: Config
    code_dim: int
    channels: int
    dtype: np.dtype

    def setup(self):
        """Stacks from the bottom up."""
        halvings, features = self.config.halvings, self.config.features
        self.encoders = [Down(self.config, times, self.dtype) for times in halvings]
        self.to_code = [Conv(self.code_dim, (1, 1), dtype=self.dtype) for _ in halvings]
        self.to_level_below = [Up(self.config, times, features, self.dtype) for times in halvings[1:]]
        self.widened = [
            [ConvTranspose(self.code_dim, dtype=self.dtype) for _ in range(sum(halvings[1 : level + 1]))]
            for level in range(1, len(halvings))
        ]
        self.decoder = Up(self.config, halvings[0], self.channels, self.dtype)

    def encode(self, x: Array, quantize) -> list[Array]:
        """Centered images [batch, H, W, C] -> vectors of codes [batch, h, w, D] of each level.

        `quantize` (level from the top down, z float32 [batch, h, w, D]) -> vectors is called once a level.
        """
        features, found = [], []
        for encoder in self.encoders:
            x = encoder(x)
            features.append(x)
        for level in reversed(range(len(features))):
            x = features[level]
            if found:
                x = jnp.concatenate([x, self.to_level_below[level](found[-1]).astype(x.dtype)], axis=-1)
            found.append(quantize(len(found), self.to_code[level](x).astype(jnp.float32)))
        return found

    def decode(self, found: list[Array]) -> Array:
        """Codes' vectors -> centered images, float32 [batch, H, W, C]."""
        *upper, bottom = found
        for layers, x in zip(self.widened, reversed(upper), strict=True):
            for layer in layers:
                x = layer(x)
            bottom = jnp.concatenate([bottom, x.astype(bottom.dtype)], axis=-1)
        return self.decoder(bottom)

    def __call__(self, x: Array) -> Array:
        """Both in turn, without codes, for the parameters."""
        return self.decode(self.encode(x, lambda _, z: z))


def make(config: Config, spec: Spec) -> Model:
    """A VQ-VAE-2 for `spec`'s images. Raises UserError as `check` does, and for a prior that does not fit in memory."""
    if len(config.halvings) not in NAMES:
        raise UserError(f"halvings must be 2 or 3 numbers, one a level, not {config.halvings}; vqvae has one level")
    check(config, spec, config.halvings)
    height, width, channels = spec.image_shape
    names, quantizer, center = NAMES[len(config.halvings)], make_quantizer(config), jnp.asarray(spec.mean, jnp.float32)
    net = Net(config, quantizer.dim, channels, spec.compute_dtype)
    shifts = [sum(config.halvings[: len(names) - n]) for n in range(len(names))]
    grids = {name: (height >> shift, width >> shift) for name, shift in zip(names, shifts, strict=True)}
    priors = make_priors(config, spec, quantizer.num, grids)
    optimizer = optax.adam(config.learning_rate)

    def init(key):
        k_net, k_prior, *k_codebooks = jax.random.split(key, 2 + len(names))
        params = {"net": net.init(k_net, jnp.zeros((1, *spec.image_shape)))["params"], "prior": priors.init(k_prior)}
        opt_state = {"net": optimizer.init(params["net"]), "prior": priors.optimizer.init(params["prior"])}
        books = {name: quantizer.start(k_codebook) for name, k_codebook in zip(names, k_codebooks, strict=True)}
        return State(jnp.int32(0), params, opt_state, books)

    def quantized(params, books, x):
        """The vectors of an image's codes, a list for the decoder; and by level all that the quantizer found."""
        found = {}

        def quantize(level, z):
            name = names[level]
            found[name] = quantizer(books[name], z)
            return found[name].code

        return net.apply({"params": params}, x - center, quantize, method="encode"), found

    def image(params, vectors):
        return center + net.apply({"params": params}, vectors, method="decode")

    # The first phase: encoders, decoders and codebooks.

    def begin_codes(key, state, batches):
        """Starts the codebooks at vectors of the first batch, from the top down."""
        x, books, found = to_unit(jnp.asarray(next(iter(batches))["image"])), state.extra, jax.jit(quantized)
        for n, name in enumerate(names):
            z = found(state.params["net"], books, x)[1][name].z
            books = books | {name: quantizer.begun(jax.random.fold_in(key, n), books[name], z)}
        return state._replace(extra=books)

    def train_codes(key, state, batch):
        x, books = to_unit(batch["image"]), state.extra

        def loss(params):
            vectors, found = quantized(params, books, x)
            error = ((x - image(params, vectors)) ** 2).mean() / jnp.maximum(x.var(), LEAST_VARIANCE)
            commitment = sum(quantizer.commitment(each) for each in found.values())
            return error + config.commitment * commitment, (found, {"nmse": error, "commitment": commitment})

        (value, (found, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params["net"])
        params, opt_state = descend(optimizer, gradients, state.opt_state["net"], state.params["net"])
        for n, name in enumerate(names):
            k_level = jax.random.fold_in(key, n)
            books = books | {name: quantizer.updated(k_level, books[name], found[name], replacing(config, state.step))}
            metrics |= usage(name, books[name])
        return state._replace(
            params=state.params | {"net": params}, opt_state=state.opt_state | {"net": opt_state}, extra=books
        ), {"loss": value, **metrics}

    # The second phase: the priors, and the scale of p(x|codes).

    def encode(state, batch):
        found = quantized(state.params["net"], state.extra, to_unit(batch["image"]))[1]
        return {name: found[name].index for name in names}

    def decoded(state, codes):
        """Means of p(x|codes); a level that is left out has its mean code everywhere."""
        vectors, num = [], len(codes["top"])
        for name, book in ((name, state.extra[name]) for name in names):
            mean = book.counts @ book.codes / book.counts.sum()
            blank = jnp.broadcast_to(mean, (num, *grids[name], quantizer.dim))
            vectors.append(book.codes[codes[name]] if name in codes else blank)
        return image(state.params["net"], vectors)

    def begin_priors(key, state, batches):
        """Starts the scale of p(x|codes) at that of the training images' errors."""
        scale = fitted_log_scale(lambda state, batch: decoded(state, encode(state, batch)), state, batches)
        return state._replace(params=state.params | {"prior": state.params["prior"] | {"log_scale": scale}})

    def train_priors(key, state, batch):
        codes = encode(state, batch)
        x, mean = to_unit(batch["image"]), decoded(state, codes)

        def loss(prior):
            terms = priors.terms(prior, x, mean, codes, batch, key)
            return priors.loss(terms), terms

        gradients, terms = jax.grad(loss, has_aux=True)(state.params["prior"])
        prior, opt_state = descend(priors.optimizer, gradients, state.opt_state["prior"], state.params["prior"])
        metrics = priors.metrics(terms)
        for name in names:
            metrics |= usage(name, state.extra[name])
        return state._replace(
            params=state.params | {"prior": prior}, opt_state=state.opt_state | {"prior": opt_state}
        ), metrics

    phases = (
        Phase("codes", train_codes, config.code_steps, enter=begin_codes),
        Phase("prior", train_priors, enter=begin_priors),
    )
    return Model(init, phases, **abilities(priors, encode, decoded))
