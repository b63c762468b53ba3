"""Captions that a model writes, scored by hand: BLEU, truth, variety, detail, nats a word."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.evaluation import of_models
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import FAMILIES
from jaxgen.metrics.captions import Object, Seen, parse
from jaxgen.metrics.sentences import bleu, detailed, scenes, truth
from jaxgen.model import Model, State


def test_bleu_by_hand():
    """The cat sat on the mat, of which the fourth word differs: 5 of 6 words, 3 of 5 pairs, 2 of 4, 1 of 3.

    The second candidate is right but for its last two words, which are missing: 5 of 5, 4 of 4, 3 of 3, 2 of 2, and
    11 words against 13.
    """
    first, other = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "sat", "in", "the", "mat"]
    second = ["a", "dog", "ran", "over", "a", "hill"]
    found = bleu([other, second[:5]], [first, [*second[:5], "steep", "hill"]])
    shares = [10 / 11, 7 / 9, 4 / 7, 2 / 5]
    assert bleu([other], [first]) == 0  # no four words are shared
    np.testing.assert_allclose(found, np.prod(shares) ** 0.25 * np.exp(1 - 13 / 11), rtol=1e-12)


def test_bleu_counts_a_word_as_often_as_its_reference_has_it():
    """Papineni's example: seven times "the", of which the reference has two; the pairs are none of its."""
    words = ["the"] * 7
    assert bleu([words], [["the", "cat", "is", "on", "the", "mat"]]) == 0
    # With the same words in front, 4 + 2 of 11 words, 3 of 10 pairs, 2 of 9, 1 of 8; a longer candidate has no penalty.
    found = bleu([["a", "b", "c", "d", *words]], [["a", "b", "c", "d", "x", "the", "y", "the"]])
    np.testing.assert_allclose(found, (6 / 11 * 3 / 10 * 2 / 9 * 1 / 8) ** 0.25, rtol=1e-12)
    assert bleu([[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5]]) == 1


CIRCLE, SQUARE = Object("red", "circle", "large", (2, 2, 24, 24)), Object("blue", "square", "small", (40, 5, 54, 19))
SCENE = Seen("black", (CIRCLE, SQUARE))


def test_truth_variety_and_detail_by_hand():
    captions = {
        "a large red circle left of a small blue square on a black background": (True, True),
        "a black background with a red circle and a blue square": (True, False),
        "there is a small red circle left of a small blue square on a black background": (False, True),
        "a red circle": (False, False),  # it names no square
        "a red a red": (False, False),  # no caption of shapes
    }
    for caption, (right, full) in captions.items():
        found = truth([SCENE], [caption])
        assert (found["caption_true"], found["caption_detail"]) == (right, full), caption
    texts = [*captions, "a red circle"]
    assert truth([SCENE] * 6, texts) == {
        "caption_true": 2 / 6,
        "caption_distinct": 5 / 6,
        "caption_detail": 2 / 6,
        "caption_words": (14 + 11 + 16 + 3 + 4 + 3) / 6,
    }
    assert detailed(parse("a large red star on a white background"))
    assert not detailed(parse("a large red star"))


@pytest.mark.parametrize("name", ["shapes", "shapes_32"])
def test_own_captions_of_scenes_are_true_and_those_of_others_are_not(name):
    """Strictly all; of pictures with half the pixels all but a few."""
    found = data.load(name)
    images, ids = found.test["image"][:60], found.test["caption"][:60]
    seen, captions = scenes(images), found.vocabulary.decode(ids)
    least = 1 if name == "shapes" else 0.95
    assert truth(seen, captions)["caption_true"] >= least
    assert truth(seen, captions[1:] + captions[:1])["caption_true"] < 0.05


def test_scores_of_a_model_worked_out():
    """Two seeds that give each word 1/4 and 1/2 of the probability, and write ids: 4 + 2 words with the ends."""
    vocabulary = Vocabulary(("a", "red", "circle"))
    given = np.int32([[2, 3, 4, 1], [2, 0, 0, 0], [0, 0, 0, 0]])  # the third image has no caption
    test = {"image": np.zeros((3, 64, 64, 3), np.uint8), "caption": given}
    dataset = data.load("digits")._replace(name="shapes", test=test, vocabulary=vocabulary)

    def word_log_prob(state, batch):
        known = jnp.pad(batch["caption"] > 0, ((0, 0), (1, 0)), constant_values=True)
        return jnp.where(known & (batch["caption"] > 0).any(1, keepdims=True), jnp.log(state.params), 0.0)

    def caption(state, batch):
        return jnp.broadcast_to(jnp.array([2, 3, 4, 0], jnp.int32), batch["caption"].shape)

    predict = {"caption": caption, "word_log_prob": word_log_prob}
    model = Model(lambda key: None, (), ("image", "caption"), predict=predict)
    state = State(jnp.zeros(2, jnp.int32), jnp.array([0.25, 0.5]))
    keys = jnp.stack([jnp.zeros(2, jnp.uint32)] * 2)
    columns = [column.key for name in ("written_captions", "caption_truth") for column in FAMILIES[name].columns]
    scores = of_models.written_captions(model, keys, state, dataset, Scoring())
    np.testing.assert_allclose(scores["caption_nats"], np.log([4, 2]), rtol=1e-6)
    np.testing.assert_allclose(scores["caption_perplexity"], [4, 2], rtol=1e-6)
    assert scores["bleu"] == [0, 0]
    found = of_models.caption_truth(model, keys, state, dataset, Scoring())
    assert found["caption_true"] == [0, 0]  # there is nothing in these images
    assert found["caption_distinct"] == [1 / 3] * 2
    assert found["caption_words"] == [3, 3]
    assert list(scores | found) == columns
