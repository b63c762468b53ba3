"""Codes of sentences against a loop in NumPy, and the matching loss by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from jaxgen.nn.text import Matching, matching_losses, similarities
from tests.models.by_hand import anything, in_float64

CAPTIONS = np.array([[3, 4, 5, 0, 0], [5, 4, 3, 0, 0], [2, 6, 2, 3, 4], [0, 0, 0, 0, 0]], np.int32)
NET = Matching(num_words=7, word_dim=3, text_dim=8, features=2, dtype=np.dtype("float32"))
IMAGES = np.random.default_rng(1).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    return anything(jax.eval_shape(NET.init, jax.random.key(0), CAPTIONS, IMAGES)["params"])


def text(params, caption):
    return jax.jit(lambda caption: NET.apply({"params": params}, caption, method="text"))(caption)


def test_codes_are_those_of_a_loop(params):
    """Both directions over the words of each sentence alone, in float64, scaled to a mean square of 1."""
    found, wide = text(params, CAPTIONS), in_float64(params)

    def read(side, words):
        h = np.zeros(4)
        for word in words:
            own, given = h @ side["state"] + side["bias"][1], word @ side["word"] + side["bias"][0]
            r, u = (expit(given[part] + own[part]) for part in (slice(0, 4), slice(4, 8)))
            h = u * h + (1 - u) * np.tanh(given[8:] + r * own[8:])
        return h

    for code, caption in zip(found, CAPTIONS, strict=True):
        words = wide["word"]["embedding"][caption[caption > 0]]
        expected = np.concatenate([read(wide["forward"], words), read(wide["backward"], words[::-1])])
        expected /= np.sqrt(np.mean(expected**2)) if len(words) else 1
        np.testing.assert_allclose(code, expected, rtol=1e-5, atol=1e-6)


def test_padding_changes_no_bit_and_the_order_of_words_does(params):
    found = np.asarray(text(params, CAPTIONS))
    for more in (1, 9):
        np.testing.assert_array_equal(text(params, np.pad(CAPTIONS, ((0, 0), (0, more)))), found)
    assert np.abs(found[0] - found[1]).max() > 0.01  # the same three words
    assert not found[3].any()


def test_every_weight_learns_with_a_caption_of_no_words_in_the_batch(params):
    def loss(params):
        return matching_losses(*NET.apply({"params": params}, CAPTIONS, IMAGES), CAPTIONS)[0].mean()

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() and np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))
    words = gradients["word"]["embedding"]
    assert not words[:2].any()  # padding, and a word in no caption
    assert np.abs(words[2:]).min(axis=1).all()


def test_similarities_are_cosines():
    texts, images = np.float32([[3, 4], [0, 0]]), np.float32([[4, 3], [-6, -8], [0, 1]])
    np.testing.assert_allclose(similarities(texts, images), [[0.96, -1, 0.8], [0, 0, 0]], atol=1e-6)


def test_the_matching_loss_by_hand():
    """Softmax of ten times the cosines both ways; an image with the same caption is no negative."""
    rng = np.random.default_rng(2)
    texts, images = rng.normal(size=(2, 4, 3))
    caption = np.array([[2, 3], [3, 2], [2, 3], [4, 0]], np.int32)
    cosines = (texts @ images.T) / np.linalg.norm(texts, axis=1)[:, None] / np.linalg.norm(images, axis=1)
    logits = 10 * cosines
    logits[[0, 2], [2, 0]] = -np.inf
    expected = -np.diag(log_softmax(logits, 1)) - np.diag(log_softmax(logits, 0))
    losses, found = matching_losses(*(jnp.asarray(x, jnp.float32) for x in (texts, images)), jnp.asarray(caption))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_array_equal(found, logits.argmax(1) == np.arange(4))
