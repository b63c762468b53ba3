"""Sentence codes, learned by matching captions and images.

A caption's code is that of a bidirectional GRU over its words, and an image's that of a small convolutional net. Both
learn that a caption be most similar to its own image among those of a batch, and an image to its own caption: the
sentence part of the matching loss of Xu et al. 2018 (AttnGAN, https://arxiv.org/abs/1711.10485, section 3.2). Captions
of the same words are no negatives of each other's images.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxgen.model import Array
from jaxgen.nn.conv import Conv
from jaxgen.nn.dense import uniform_within
from jaxgen.nn.image import pyramid
from jaxgen.nn.recurrent import gru
from jaxgen.nn.stacks import halved

SHARPNESS = 10.0
"""Factor of cosines in the softmax, gamma_3 of AttnGAN."""

UNRELATED = -1e9
"""Logit of a pair that is neither a match nor a negative."""


class Recurrent(nn.Module):
    """A GRU over the words of sentences in one direction."""

    features: int
    dtype: np.dtype

    @nn.compact
    def __call__(self, x: Array, known: Array, reverse: bool) -> Array:
        """Words x [batch, words, d], known bool [batch, words] -> the state after the last known one [batch, features].

        Words are taken one by one, so that further padding changes no bit.
        """
        sizes = (x.shape[-1], 3 * self.features), (self.features, 3 * self.features)
        of_word = self.param("word", nn.initializers.lecun_normal(), sizes[0]).astype(self.dtype)
        of_state = self.param("state", nn.initializers.orthogonal(), sizes[1]).astype(self.dtype)
        biases = self.param("bias", nn.initializers.zeros, (2, 3 * self.features))

        def take(h, word):
            x, known = word
            gates = (x.astype(self.dtype) @ of_word).astype(jnp.float32) + biases[0]
            own = (h.astype(self.dtype) @ of_state).astype(jnp.float32) + biases[1]
            return jnp.where(known[:, None], gru(gates, own, h), h), None

        h = jnp.zeros((len(x), self.features))
        return lax.scan(take, h, (x.swapaxes(0, 1), known.T), reverse=reverse)[0]


class Matching(nn.Module):
    """Codes of captions and of images in one space."""

    num_words: int
    word_dim: int
    text_dim: int  # of a code, half from each direction
    features: int  # channels of the largest map of images, doubled at every further halving
    dtype: np.dtype

    def setup(self):
        """Both sides."""
        self.word = nn.Embed(self.num_words, self.word_dim, embedding_init=uniform_within(0.1))
        self.forward, self.backward = (Recurrent(self.text_dim // 2, self.dtype) for _ in range(2))

    def text(self, caption: Array) -> Array:
        """Captions int32 [batch, words], 0 for padding -> codes float32 [batch, text_dim], of mean square 1.

        The matching loss is of directions alone; a code of no words is 0.
        """
        x, known = self.word(caption), caption > 0
        code = jnp.concatenate([self.forward(x, known, False), self.backward(x, known, True)], axis=-1)
        return code * lax.rsqrt((code**2).mean(-1, keepdims=True) + 1e-12)

    @nn.compact
    def image(self, x: Array) -> Array:
        """Images [batch, H, W, C] in [-1, 1] -> codes float32 [batch, text_dim]."""
        layer = partial(Conv, kernel_size=(4, 4), strides=(2, 2), dtype=self.dtype)
        x = halved(layer, x, self.features, pyramid(x.shape[1:], 4, "a text encoder")[1])
        return nn.Dense(self.text_dim, dtype=self.dtype)(x).astype(jnp.float32)

    def __call__(self, caption: Array, x: Array) -> tuple[Array, Array]:
        """Both codes."""
        return self.text(caption), self.image(x)


def similarities(texts: Array, images: Array) -> Array:
    """Cosines of codes [n, d] and [m, d]: [n, m]; 0 for a code of length 0."""
    texts, images = (x * lax.rsqrt((x**2).sum(-1, keepdims=True) + 1e-12) for x in (texts, images))
    return texts @ images.T


def matching_losses(texts: Array, images: Array, caption: Array) -> tuple[Array, Array]:
    """Cross-entropy of each pair's match in both directions, nats [batch], and whether the caption finds its image.

    texts, images: codes [batch, d]. caption: their words, int32 [batch, words].
    """
    logits = SHARPNESS * similarities(texts, images)
    own = jnp.arange(len(caption))
    alike = (caption[:, None] == caption[None]).all(-1) & (own[:, None] != own)
    logits = jnp.where(alike, UNRELATED, logits)
    losses = [optax.softmax_cross_entropy_with_integer_labels(each, own) for each in (logits, logits.T)]
    return losses[0] + losses[1], logits.argmax(-1) == own
