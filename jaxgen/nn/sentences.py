"""Captions word by word: a GRU from a code to the words, their probabilities, and three ways of writing.

    h_1 = tanh(C s),  h_{t+1} = GRU(h_t, w_t),  p(w_t | w_1, ..., w_{t-1}, s) = softmax(V h_t)

Captions are ids int32 [batch, words], 0 past the end. The first 0 is a word too, the end; a caption that fills all
places is followed by it, so that more padding changes nothing. A caption of zeros alone is unknown.
"""

from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.model import Array, Key

Decoding: TypeAlias = Literal["greedy", "sampled", "beam"]

END = 0
"""Id of a caption's end, which pads it (`jaxgen.data.vocabulary.PADDING`)."""


class Writer(nn.Module):
    """GRU over words."""

    vocabulary: int
    units: int
    dtype: np.dtype

    def setup(self):
        """Layers."""
        self.first, self.readout = nn.Dense(self.units, dtype=self.dtype), nn.Dense(self.vocabulary, dtype=self.dtype)
        self.embed, self.cell = nn.Embed(self.vocabulary, self.units), nn.GRUCell(self.units, dtype=self.dtype)

    def begun(self, code: Array) -> Array:
        """Codes [batch, d] -> the first state [batch, units]."""
        return nn.tanh(self.first(code))

    def log_probs(self, h: Array) -> Array:
        """States [..., units] -> log-probabilities of the next word, float32 [..., vocabulary]."""
        return nn.log_softmax(self.readout(h).astype(jnp.float32))

    def following(self, h: Array, word: Array) -> Array:
        """States [..., units] and the words int32 [...] written in them -> the next states."""
        return self.cell(h, self.embed(word))[0]

    def __call__(self, code: Array, word: Array) -> Array:
        """Log-probabilities of a second word, after the code [batch, d] and a first [batch]."""
        return self.log_probs(self.following(self.begun(code), word))


def word_log_probs(net: Writer, params: Any, code: Array, caption: Array) -> Array:
    """Log p of each word and of the end, given the words before: nats [batch, words + 1], 0 past the end.

    Args:
        net: the GRU.
        params: its parameters.
        code: [batch, d].
        caption: int32 [batch, words]; one that is unknown gives zeros.
    """
    words = jnp.pad(caption, ((0, 0), (0, 1)), constant_values=END)

    def take(h, word):
        log_prob = net.apply({"params": params}, h, method="log_probs")
        log_prob = jnp.take_along_axis(log_prob, word[:, None], axis=-1)[:, 0]
        return net.apply({"params": params}, h, word, method="following"), log_prob

    _, found = lax.scan(take, net.apply({"params": params}, code, method="begun"), words.T)
    before = jnp.pad(words[:, :-1] != END, ((0, 0), (1, 0)), constant_values=True)  # the word before is no padding
    known = before & (caption != END).any(axis=-1, keepdims=True)
    return jnp.where(known, found.T, 0.0)


def written(
    net: Writer, params: Any, code: Array, words: int, decoding: Decoding, beams: int = 1, key: Key | None = None
) -> Array:
    """Writes a caption from each code: ids int32 [batch, words], 0 from the end on.

    Args:
        net: the GRU.
        params: its parameters.
        code: [batch, d].
        words: the most words of a caption.
        decoding: "greedy" takes the likeliest word each time; "sampled" draws it; "beam" keeps the `beams` likeliest
            beginnings, and returns the likeliest caption among those it ends with.
        beams: number of beginnings.
        key: of the draws.
    """
    width, num = beams if decoding == "beam" else 1, len(code)
    h = net.apply({"params": params}, code, method="begun")
    h = jnp.repeat(h[:, None], width, axis=1)
    score = jnp.broadcast_to(jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf), (num, width))  # all begin alike
    only_end = jnp.where(jnp.arange(net.vocabulary) == END, 0.0, -jnp.inf)

    def take(carry, t):
        h, score, caption, ended = carry
        log_prob = net.apply({"params": params}, h, method="log_probs")
        log_prob = jnp.where(ended[..., None], only_end, log_prob)
        if decoding == "sampled":
            word = jax.random.categorical(jax.random.fold_in(key, t), log_prob).astype(jnp.int32)
        else:
            total = (score[..., None] + log_prob).reshape(num, -1)
            score, best = lax.top_k(total, width)
            parent, word = best // net.vocabulary, best % net.vocabulary
            rows = jnp.arange(num)[:, None]
            h, caption, ended = (of[rows, parent] for of in (h, caption, ended))
        caption = caption.at[:, :, t].set(word)
        h = net.apply({"params": params}, h, word, method="following")
        return (h, score, caption, ended | (word == END)), None

    caption, ended = jnp.full((num, width, words), END, jnp.int32), jnp.zeros((num, width), bool)
    (_, _, caption, _), _ = lax.scan(take, (h, score, caption, ended), jnp.arange(words))
    return caption[:, 0]
