"""Deep generative deconvolutional network with labels and captions, Pu et al. 2016, https://arxiv.org/abs/1609.08976.

    s ~ N(0, I), maps of the top layer;  z ~ uniform, a place in each block of the other layers
    S_L = D_L * s,  S_l = D_l * unpool(S_(l+1); z_l),  p(x|s, z) = N(S_1 + b, deviation^2 I), or bits of logits S_1 + b
    q(z_l|x) = softmax(eta_l),  q(s|x, z) = N(mu, diag sigma^2),  of the pooled maps of a convolutional encoder
    ELBO(x) = E_q[log p(x|s, z)] - KL(q(s|x, z) || p(s)) - KL(q(z|x) || uniform)
    objective = ELBO(x) + xi log p(Y|s),  xi = pixels / (outcomes rho)

with transposed convolutions D * and one non-zero entry in each block after unpooling (`jaxgen.nn.unpooling`). The
places that pool in the encoder unpool in the decoder. Y is a label, by a softmax or a Bayesian SVM of s
(`jaxgen.nn.labels`), or a caption, by a GRU (`jaxgen.nn.sentences`). rho is the share of a batch's images that have a
Y, and outcomes are classes or words: the last term's mean is pixels / outcomes times the mean over those images.

The gradient of eta is the score function's, with the mean of an image's other draws as the baseline, or that of
straight-through Gumbel noise, which is biased. Predictions of labels are averaged over codes; captions are written, and
scored, given the mean code at the likeliest places.

Deviations from the paper: the hinge's gradient in place of EM over lambda; the encoder's last layer is one of tanh
units over all maps; the decoder starts at the data's mean image; the deviation is fixed, or learned by gradient.
"""

from dataclasses import dataclass, replace
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.config import check_idle
from jaxgen.errors import UserError, check_not_negative, check_positive
from jaxgen.likelihoods import bernoulli_log_prob, bits_of, fitting, gaussian_kl, gaussian_log_prob
from jaxgen.model import Array, Latents, Likelihood, Model, Part, Phase, Prior, Sampler, Space, Spec, State
from jaxgen.nn.conv import Conv, ConvTranspose
from jaxgen.nn.dense import mean_and_log_variance
from jaxgen.nn.image import SMALL, from_unit, logits_of_mean, to_binary, to_unit
from jaxgen.nn.labels import LabelHead, averaged, label_log_prob
from jaxgen.nn.optimizer import decaying_rate, descend
from jaxgen.nn.sentences import Decoding, Writer, word_log_probs, written
from jaxgen.nn.unpooling import (
    blocks,
    draw_places,
    kl_to_uniform,
    layers,
    leave_one_out,
    log_prob_of_places,
    pool,
    unpool,
)

NOISE = 1 / 12
"""Initial variance of p(x|s, z), that of uniform noise on [0, 1]."""


@dataclass(frozen=True)
class Config:
    """A deep generative deconvolutional network."""

    maps: tuple[int, ...] = (30, 80)  # of each layer, from the image up
    kernels: tuple[int, ...] | None = None  # side of each layer's; default: a quarter of a map, the last's a half
    pool: int | None = None  # side of a block; default: 2 up to 16 pixels, else 3
    hidden: int = 300  # tanh units below the mean and variance of the code
    likelihood: Literal["bernoulli", "gaussian"] | None = None  # p(x|s, z): bits if binarized, else gaussian
    deviation: float | Literal["learned"] = 0.03  # of gaussian, pixels in [0, 1]; learned: one of all pixels
    predicts: Literal["label", "caption", "both", "nothing"] = "label"  # from the code
    label_head: LabelHead = "softmax"  # a linear layer's: probabilities, or one-against-all margins
    label_weight: float | None = None  # of a label's term; default: pixels / classes
    units: int = 128  # of the captions' GRU
    caption_weight: float | None = None  # of a caption's term; default: pixels / words in the vocabulary
    blind: bool = False  # captions without the code: a language model
    decoding: Decoding = "greedy"  # of written captions: the likeliest word, a drawn one, or the best of `beams`
    beams: int = 5  # of beam: beginnings of a caption that are kept
    gradient: Literal["score", "gumbel"] = "score"  # of the places: the score function's, or straight-through Gumbel's
    temperature: float = 1.0  # of gumbel: of the softmax whose gradient is taken
    draws: int = 2  # codes and places of an image in a training step
    codes: int = 10  # that a label's prediction is averaged over
    learning_rate: float = 1e-3  # of Adam
    decay_steps: int | None = None  # steps in which the learning rate falls to 0 along a cosine; constant if None


class Encoder(nn.Module):
    """q(z|x) and q(s|x, z), by drawn, given or the likeliest places."""

    config: Config
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, key: Array | None) -> tuple[Array, Array, list[Array], list[Array]]:
        """X [batch, H, W, C] -> mean, log-variance [batch, h, w, maps], and each layer's places and their logits.

        Without a key the places are the likeliest.
        """
        config, places, etas = self.config, [], []
        temperature = config.temperature if config.gradient == "gumbel" else None
        for level, (maps, side) in enumerate(zip(config.maps, config.kernels, strict=True)):
            x = Conv(maps, (side, side), padding="VALID", dtype=self.dtype)(x)
            if level == len(config.maps) - 1:
                break
            h = nn.tanh(nn.Dense(config.pool**2, dtype=self.dtype)(blocks(x, config.pool)))
            eta = nn.Dense(config.pool**2, dtype=self.dtype)(h).astype(jnp.float32)
            if key is None:
                place = jax.nn.one_hot(eta.argmax(-1), config.pool**2)
            else:
                place = draw_places(jax.random.fold_in(key, level), eta, temperature)
            x = pool(x, place, config.pool)
            places.append(place)
            etas.append(eta)
        h = nn.tanh(nn.Dense(config.hidden, dtype=self.dtype)(x.reshape(len(x), -1)))
        mean, log_variance = mean_and_log_variance(h, int(np.prod(x.shape[1:])), self.dtype)
        return mean.reshape(x.shape), log_variance.reshape(x.shape), places, etas


class Decoder(nn.Module):
    """S_1 + b: the mean of p(x|s, z), or the logits of bits."""

    config: Config
    spec: Spec

    @nn.compact
    def __call__(self, s: Array, places: list[Array]) -> Array:
        """Codes [batch, h, w, maps] and each layer's places -> [batch, H, W, C]."""
        config, spec = self.config, self.spec
        for level in reversed(range(len(config.maps))):
            features = config.maps[level - 1] if level else spec.image_shape[-1]
            unbiased = {"strides": (1, 1), "padding": "VALID", "use_bias": False, "dtype": spec.compute_dtype}
            s = ConvTranspose(features, (config.kernels[level],) * 2, **unbiased)(s)
            if level:
                s = unpool(s, places[level - 1], config.pool)
        bits = config.likelihood == "bernoulli"
        bias = self.param("bias", lambda _: logits_of_mean(spec.mean) if bits else jnp.asarray(spec.mean, jnp.float32))
        return s.astype(jnp.float32) + bias


def check(config: Config) -> None:
    """Raises UserError for invalid or incompatible values."""
    check_positive(config, "pool", "hidden", "units", "beams", "temperature", "draws", "codes", "learning_rate")
    if config.deviation != "learned":
        check_positive(config, "deviation")
    check_not_negative(config, "label_weight", "caption_weight")
    of_labels, of_captions = ("label_head", "label_weight", "codes"), ("units", "caption_weight", "blind", "decoding")
    uses = {"label": of_labels, "caption": (*of_captions, "beams"), "both": (*of_labels, *of_captions, "beams")}
    check_idle(config, "predicts", uses)
    check_idle(config, "likelihood", {"gaussian": ("deviation",)})
    check_idle(config, "decoding", {"beam": ("beams",)})
    check_idle(config, "gradient", {"gumbel": ("temperature",)})
    for name in ("maps", "kernels"):
        values = getattr(config, name)
        if values is not None and (min(values, default=0) < 1 or len(values) != len(config.maps)):
            raise UserError(f"{name} must be numbers above 0, one for each layer, not {values}")
    if config.gradient == "score" and config.draws < 2 and len(config.maps) > 1:
        raise UserError("draws must be at least 2 with gradient score, whose baseline is an image's other draws, not 1")


def make(config: Config, spec: Spec) -> Model:
    """The model for `spec`'s images, labels and captions; raises UserError as `check` and `layers` do."""
    likelihood = fitting(config.likelihood, spec, bits="bernoulli", levels="gaussian")
    config = replace(config, likelihood=likelihood)
    check(config)
    shape, block = spec.image_shape, config.pool or (2 if max(spec.image_shape[:2]) <= SMALL else 3)
    kernels, maps = layers(shape, config.kernels or len(config.maps), block)
    config = replace(config, kernels=kernels, pool=block)
    labels, captions = config.predicts in ("label", "both"), config.predicts in ("caption", "both")
    bits, pixels = likelihood == "bernoulli", int(np.prod(shape))
    *pooled, code = [(*side, num) for side, num in zip(maps, config.maps, strict=True)]
    size, places_of = int(np.prod(code)), [(*each, block**2) for each in pooled]
    encoder, decoder = Encoder(config, spec.compute_dtype), Decoder(config, spec)
    optimizer, needs = optax.adam(decaying_rate(config)), ("image",)
    weights: dict[str, float] = {}
    if labels:
        if not spec.num_classes:
            raise KeyError("label")
        classifier, needs = nn.Dense(spec.num_classes, dtype=spec.compute_dtype), (*needs, "label")
        weights["label"] = pixels / spec.num_classes if config.label_weight is None else config.label_weight
    if captions:
        words, needs = spec.entries["caption"].shape[0], (*needs, "caption")
        writer = Writer(spec.num_words, config.units, spec.compute_dtype)
        weights["caption"] = pixels / spec.num_words if config.caption_weight is None else config.caption_weight

    observed, learned = to_binary if bits else to_unit, not bits and config.deviation == "learned"

    def init(key):
        k_encoder, k_decoder, k_label, k_caption = jax.random.split(key, 4)
        s, places = jnp.zeros((1, *code)), [jnp.zeros((1, *each)) for each in places_of]
        params = {
            "encoder": encoder.init(k_encoder, jnp.zeros((1, *spec.image_shape)), None)["params"],
            "decoder": decoder.init(k_decoder, s, places)["params"],
        }
        if learned:
            params["log_deviation"] = jnp.float32(np.log(NOISE) / 2)
        if labels:
            params["label"] = classifier.init(k_label, jnp.zeros((1, size)))["params"]
        if captions:
            params["caption"] = writer.init(k_caption, jnp.zeros((1, size)), jnp.zeros(1, jnp.int32))["params"]
        return State(jnp.int32(0), params, optimizer.init(params))

    def drawn(params, key, x):
        """Code s [batch, *code], places and logits of one draw from q, with both terms of its KL, nats [batch]."""
        k_places, k_code = jax.random.split(key)
        mean, log_variance, places, etas = encoder.apply({"params": params["encoder"]}, x, k_places)
        s = mean + jnp.exp(log_variance / 2) * jax.random.normal(k_code, mean.shape)
        kl = gaussian_kl(mean.reshape(len(x), -1), log_variance.reshape(len(x), -1))
        return s, places, etas, kl, sum(map(kl_to_uniform, etas), jnp.zeros(len(x)))

    def mean_code(params, batch):
        """Mean of q(s|x, z) at the likeliest places z, and those: [batch, *code], each layer's."""
        mean, _, places, _ = encoder.apply({"params": params["encoder"]}, observed(batch["image"]), None)
        return mean, places

    def decoded(params, s, places):
        return decoder.apply({"params": params["decoder"]}, s, places)

    def pixels_log_prob(params, x, made):
        if bits:
            return bernoulli_log_prob(x, made)
        return gaussian_log_prob(x, made, 2 * (params["log_deviation"] if learned else float(np.log(config.deviation))))

    def classified(params, s):
        return classifier.apply({"params": params["label"]}, s.reshape(len(s), -1)).astype(jnp.float32)

    def told(s):
        """Codes as the GRU is given them: [batch, size]."""
        return jnp.zeros((len(s), size)) if config.blind else s.reshape(len(s), -1)

    def caption_log_probs(params, s, caption):
        return word_log_probs(writer, params["caption"], told(s), caption)

    def supervised(params, s, batch):
        """Terms of labels and captions, nats [images]: 0 where there is none; and the masks of those there are."""
        found = {}
        if labels:
            log_prob = label_log_prob(config.label_head, classified(params, s), batch["label"])
            found["label"] = log_prob, (batch["label"] >= 0).astype(jnp.float32)
        if captions:
            log_prob = caption_log_probs(params, s, batch["caption"]).sum(-1)
            found["caption"] = log_prob, (batch["caption"] > 0).any(axis=-1).astype(jnp.float32)
        return found

    def objective(params, key, batch):
        """Loss with the gradient of its expectation over the draws, and its terms' means."""
        k = config.draws
        batch = {name: jnp.tile(batch[name], (k, *[1] * (batch[name].ndim - 1))) for name in needs}  # draw by draw
        x = observed(batch["image"])
        s, places, etas, kl, places_kl = drawn(params, key, x)
        reconstruction = pixels_log_prob(params, x, decoded(params, s, places))
        cost = kl + places_kl - reconstruction
        terms = {"reconstruction": reconstruction.mean(), "kl": kl.mean(), "places_kl": places_kl.mean()}
        for name, (log_prob, known) in supervised(params, s, batch).items():
            share = jnp.maximum(known.mean(), 1 / len(known))  # rho
            cost -= weights[name] / share * log_prob
            terms[f"{name}_loss"] = -log_prob.mean() / share
        terms["loss"] = cost.mean()
        if config.gradient == "score" and places_of:
            log_q = sum(log_prob_of_places(*each) for each in zip(places, etas, strict=True))
            cost = leave_one_out(cost.reshape(k, -1), log_q.reshape(k, -1))
        return cost.mean(), terms

    def step(key, state, batch):
        gradients, terms = jax.grad(objective, has_aux=True)(state.params, key, batch)
        params, opt_state = descend(optimizer, gradients, state.opt_state, state.params)
        return state._replace(params=params, opt_state=opt_state), terms

    def packed(s, places):
        return jnp.concatenate([each.reshape(len(s), -1) for each in (s, *places)], axis=1)

    def unpacked(z):
        """Codes and places of latents [num, size and all blocks' entries]."""
        parts = jnp.split(z, np.cumsum([size, *(int(np.prod(each)) for each in places_of)])[:-1], axis=1)
        return parts[0].reshape(-1, *code), [p.reshape(-1, *each) for p, each in zip(parts[1:], places_of, strict=True)]

    def sample_prior(key, state, num):
        k_code, k_places = jax.random.split(key)
        keys = jax.random.split(k_places, len(places_of))
        places = [draw_places(k, jnp.zeros((num, *each))) for k, each in zip(keys, places_of, strict=True)]
        return packed(jax.random.normal(k_code, (num, *code)), places)

    def decode(state, z, condition):
        made = decoded(state.params, *unpacked(z))
        return {"image": nn.sigmoid(made) if bits else jnp.clip(made, 0, 1)}

    def encode(state, batch):
        return packed(*mean_code(state.params, batch))

    def sample(key, state, num, condition):
        return {"image": from_unit(decode(state, sample_prior(key, state, num), condition)["image"])}

    def log_prob(key, state, batch):
        x = observed(batch["image"])
        s, places, _, kl, places_kl = drawn(state.params, key, x)
        return pixels_log_prob(state.params, x, decoded(state.params, s, places)) - kl - places_kl

    def label(state, batch):
        """Predictions averaged over codes, which a fixed key draws."""

        def of_draw(key):
            return classified(state.params, drawn(state.params, key, observed(batch["image"]))[0])

        keys = jax.random.split(jax.random.key(0), config.codes)
        return averaged(config.label_head, jax.lax.map(of_draw, keys))

    def caption(state, batch):
        code, key = told(mean_code(state.params, batch)[0]), jax.random.key(0)
        return written(writer, state.params["caption"], code, words, config.decoding, config.beams, key)

    def word_log_prob(state, batch):
        return caption_log_probs(state.params, mean_code(state.params, batch)[0], batch["caption"])

    spaces: dict[str, tuple[Space, str]] = {
        "bernoulli": ("binary", bits_of(spec)),
        "gaussian": ("continuous", "pixels in [0, 1], not dequantized"),
    }
    space, note = spaces[config.likelihood]
    predictions = {
        "label": (label, labels),
        "caption": (caption, captions),
        "word_log_prob": (word_log_prob, captions),
    }
    num_blocks = sum(int(np.prod(each[:-1])) for each in places_of)
    parts = Part("code", size, "gaussian"), *(Part(f"place_{n}", block**2, "categorical") for n in range(num_blocks))
    return Model(
        init,
        (Phase("train", step),),
        needs,
        sampler=Sampler(sample, note="means of p(x|s, z), s and z from the prior"),
        likelihood=Likelihood(log_prob, space, "bound", f"ELBO, one code per image; p(x|s, z) is of {note}"),
        latents=Latents(decode, Prior(sample_prior, "mixed", parts=parts), encode),
        predict={name: function for name, (function, there) in predictions.items() if there},
    )
