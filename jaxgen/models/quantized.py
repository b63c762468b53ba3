"""Parts that VQ-VAE and VQ-VAE-2 share: options, the choice of a codebook, metrics, and the bound of log p(x|y).

With codes k of an image x, the deterministic ones of the encoder, for each level given those above it,

    log p(x|y) >= log p(x|k) + log p(k_top|y) + ... + log p(k_bottom|k_top, ..., y)

since p(x|y) is a sum over all codes, of which this is one term. p(x|k) is a discretized logistic distribution around
the decoded image, with one scale for all pixels; the priors are those of `jaxgen.models.code_priors`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_not_negative, check_positive, check_share
from jaxgen.likelihoods import discretized_logistic_log_prob
from jaxgen.model import Array, Batch, Latents, Likelihood, Prior, Sampler, Spec, State
from jaxgen.models.code_priors import Codes, Priors
from jaxgen.nn import codebook
from jaxgen.nn.codebook import Codebook, Quantizer
from jaxgen.nn.image import from_unit, to_unit

ROUNDING = 1 / (12 * 255**2)
"""Variance of rounding to 256 levels, the least that is assumed of decoded images."""

LEAST_VARIANCE = 1e-4
"""Lower bound of the pixels' variance in a batch, by which its squared error is divided."""

REPLACING = 0.8
"""Share of the first phase in which unused codes are replaced; after it they must stand still for the priors."""


@dataclass(frozen=True)
class QuantizedConfig:
    """Options common to VQ-VAE and VQ-VAE-2."""

    features: int = 64  # channels of the encoder and of the decoder
    residual_features: int = 32  # channels within a residual block
    residual_blocks: int = 2  # of every stack
    codebook: Literal["euclidean", "cosine", "fsq"] = "euclidean"  # nearest by distance or cosine; or a fixed grid
    num_codes: int = 128  # of euclidean and cosine: K
    code_dim: int = 16  # of euclidean and cosine: dimensions of a code, to which features are projected
    fsq_levels: tuple[int, ...] = (8, 5, 5, 5)  # of fsq: of each dimension; K is their product
    commitment: float = 0.25  # of euclidean and cosine: beta, the weight of the commitment loss
    average: float = 0.99  # decay of the codebook's running averages
    keep_unused: bool = False  # of euclidean and cosine: unused codes stay, not replaced by vectors of a batch
    code_steps: int = 2000  # of the first phase, which trains all but the priors
    learning_rate: float = 1e-3  # of its Adam
    prior: Literal["transformer", "pixelcnn"] = "transformer"  # of the top level's codes
    condition: Literal["none", "label", "caption"] = "none"  # what the priors are given
    dim: int = 128  # of transformer: of a code
    heads: int = 4  # of transformer: they divide dim
    blocks: int = 4  # of transformer
    gated_features: int = 32  # of the gated PixelCNN: of a stack
    gated_layers: int = 5  # of the gated PixelCNN: after the first layer
    dropout: float = 0.1  # of the priors: share of each layer's features that is left out in training
    prior_learning_rate: float = 1e-3  # of the priors' Adam
    decay_steps: int | None = None  # over which that falls to 0 along a cosine
    clip: float = 1.0  # largest norm of the priors' gradient
    memory: float = 2.0  # of transformer: GiB a seed of attention, and of keys and values while codes are drawn
    temperature: float = 1.0  # of drawn codes: 1 draws from the priors


def check(config: QuantizedConfig, spec: Spec, halvings: Iterable[int]) -> None:
    """Raises UserError for values that cannot be, do not go together, or do not fit the images."""
    names = ("features", "residual_features", "num_codes", "code_dim", "code_steps", "learning_rate", "dim", "heads")
    more = ("blocks", "gated_features", "gated_layers", "prior_learning_rate", "clip", "memory")
    check_positive(config, *names, *more)
    check_not_negative(config, "residual_blocks", "commitment")
    check_share(config, "average", "dropout")
    learned = ("num_codes", "code_dim", "commitment", "keep_unused")
    check_idle(config, "codebook", {"euclidean": learned, "cosine": learned, "fsq": ("fsq_levels",)})
    check_idle(config, "prior", {"transformer": ("dim", "heads", "blocks", "memory")})
    if config.num_codes < 2:
        raise UserError(f"num_codes must be at least 2, not {config.num_codes}")
    if min(config.fsq_levels, default=0) < 2 or math.prod(config.fsq_levels) > 2**16:
        raise UserError(f"fsq_levels must be at least 2 each, with at most 65,536 codes, not {config.fsq_levels}")
    if config.dim % config.heads:
        raise UserError(f"heads must divide dim, {config.dim}, which {config.heads} does not")
    if min(halvings) < 1:
        raise UserError("halvings must be at least 1, a stride of 2 between levels")
    sides, times = spec.image_shape[:2], sum(halvings)
    if times > 12 or any(side % 2**times for side in sides):
        sizes = f"which images of {sides[0]}x{sides[1]} do not have"
        raise UserError(f"halvings {times} in all need sides that are multiples of 2^{times}, {sizes}")


def make_quantizer(config: QuantizedConfig) -> Quantizer:
    """Returns the way to assign codes that the config asks for."""
    if config.codebook == "fsq":
        return codebook.finite_scalars(config.fsq_levels, config.average)
    return codebook.averages(config.num_codes, config.code_dim, config.average, config.codebook == "cosine")


def replacing(config: QuantizedConfig, step: Array) -> Array:
    """True, bool [], while unused codes are replaced."""
    return jnp.bool_(not config.keep_unused) & (step < int(REPLACING * config.code_steps))


def usage(name: str, book: Codebook) -> dict[str, Array]:
    """Running perplexity and share of used codes of a level, for the metrics."""
    return {f"{name}_perplexity": codebook.perplexity(book.counts), f"{name}_used": codebook.used(book.counts)}


def fitted_log_scale(decoded: Callable[[State, Batch], Array], state: State, batches: Iterable[Batch]) -> Array:
    """Log-scale of logistic noise with the variance of the decoded training images' errors: variance pi^2 scale^2 / 3.

    Args:
        decoded: (state, batch) -> decoded images [batch, H, W, C] of a batch, in [0, 1].
        state: the model's.
        batches: the training data once.
    """

    @jax.jit
    def squares(state, batch):
        error = (to_unit(batch["image"]) - decoded(state, batch)) ** 2
        return (batch["weight"] * error.mean((1, 2, 3))).sum(), batch["weight"].sum()

    total, num = np.sum([jax.device_get(squares(state, batch)) for batch in batches], axis=0, dtype=np.float64)
    return jnp.float32(np.log(3 * max(total / num, ROUNDING) / np.pi**2) / 2)


def abilities(
    priors: Priors, encode: Callable[[State, Batch], Codes], decoded: Callable[[State, Codes], Array]
) -> dict[str, Any]:
    """Returns a Model's `needs`, `sampler`, `likelihood` and `latents`.

    Args:
        priors: of the codes.
        encode: (state, batch) -> codes.
        decoded: (state, codes) -> means of p(x|codes) [batch, H, W, C]; codes may lack levels below the top.
    """
    given = priors.given
    conditions = () if given.entry == "none" else (given.entry,)

    def decode(state, codes, condition):
        return {"image": jnp.clip(decoded(state, codes), 0, 1)}

    def draw(key, state, num, condition):
        codes = priors.draw(state.params["prior"], key, given.ids(condition, num))
        return {"image": from_unit(decoded(state, codes))}

    def terms(state, batch, codes):
        return priors.terms(state.params["prior"], to_unit(batch["image"]), decoded(state, codes), codes, batch)

    def log_prob(key, state, batch):
        return sum(terms(state, batch, encode(state, batch)).values())

    def sample_prior(key, state, num):
        """Codes of an unknown label or caption."""
        return priors.draw(state.params["prior"], key, jnp.zeros((num, given.places), jnp.int32))

    def log_prior(state, codes):
        num = len(next(iter(codes.values())))
        return sum(priors.log_prob(state.params["prior"], codes, given.ids({}, num)).values())

    def posterior(key, state, batch):
        return encode(state, batch), jnp.zeros(len(batch["image"]))  # these codes with probability 1

    def log_likelihood(state, batch, codes):
        return discretized_logistic_log_prob(
            to_unit(batch["image"]), decoded(state, codes), state.params["prior"]["log_scale"]
        )

    prior = Prior(sample_prior, "discrete", num_codes=priors.num_codes)
    latents = Latents(decode, prior, encode, levels=tuple(priors.levels))
    if not conditions:
        prior = prior._replace(log_prob=log_prior)
        latents = latents._replace(prior=prior, posterior=posterior, log_likelihood=log_likelihood)
    of = f"log p(x|{given.entry})" if conditions else "log p(x)"
    note = f"bound of {of} by the encoder's codes, with their priors; p(x|codes) is of the 256 levels"
    return {
        "needs": ("image", *conditions),
        "sampler": Sampler(draw, conditions, f"means of p(x|codes), {priors.sampling}"),
        "likelihood": Likelihood(log_prob, "uint8", "bound", note),
        "latents": latents,
    }
