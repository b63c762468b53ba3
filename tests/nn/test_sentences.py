"""Captions by a GRU: probabilities against NumPy's and enumeration, and three ways of writing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxgen.nn import sentences
from jaxgen.nn.sentences import Writer
from tests.models.by_hand import anything, in_float64

VOCABULARY, UNITS, CODE, WORDS = 4, 5, 3, 3
NET = Writer(VOCABULARY, UNITS, np.dtype("float32"))
CAPTIONS = np.int32([[2, 3, 1], [3, 0, 0], [1, 2, 0], [0, 0, 0]])
word_log_probs = jax.jit(sentences.word_log_probs, static_argnums=0)
written = jax.jit(sentences.written, static_argnums=(0, 3, 4, 5))


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda: NET.init(jax.random.key(0), jnp.zeros((1, CODE)), jnp.zeros(1, jnp.int32)))
    return jax.tree.map(lambda leaf: 2 * leaf, anything(shapes["params"], 4))  # far from uniform


@pytest.fixture(scope="module")
def code():
    return np.asarray(jax.random.normal(jax.random.key(1), (4, CODE)))


def dense(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def next_log_probs(params, code, words):
    """Log p of the next word after these, in float64, from the equations of a GRU."""
    params = in_float64(params)
    h, cell = np.tanh(dense(params["first"], np.asarray(code, np.float64))), params["cell"]
    for word in words:
        x = params["embed"]["embedding"][word]
        reset, update = (scipy.special.expit(dense(cell[f"i{g}"], x) + dense(cell[f"h{g}"], h)) for g in "rz")
        new = np.tanh(dense(cell["in"], x) + reset * dense(cell["hn"], h))
        h = (1 - update) * new + update * h
    return scipy.special.log_softmax(dense(params["readout"], h))


def every_caption(params, code):
    """Map from each caption of at most WORDS words to its log p; one that fills all places lacks the end's."""
    found = {}
    for words in itertools.product(range(VOCABULARY), repeat=WORDS):
        length = words.index(0) if 0 in words else WORDS
        if any(words[length:]):
            continue
        taken = words[: length + 1]
        found[words] = sum(next_log_probs(params, code, taken[:t])[word] for t, word in enumerate(taken))
    return found


def test_log_probs_are_those_of_a_gru_worked_out(params, code):
    found = word_log_probs(NET, params, code, CAPTIONS)
    expected = np.zeros((4, WORDS + 1))
    for n, caption in enumerate(CAPTIONS[:3]):
        length = np.count_nonzero(caption)
        for t, word in enumerate([*caption[:length], 0]):
            expected[n, t] = next_log_probs(params, code[n], caption[:t])[word]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (expected[:3, 0] < -1e-3).all()
    np.testing.assert_array_equal(found[3], 0)  # an unknown caption


def test_more_padding_changes_nothing(params, code):
    more = np.pad(CAPTIONS, ((0, 0), (0, 4)))
    found, of_more = (word_log_probs(NET, params, code, each) for each in (CAPTIONS, more))
    np.testing.assert_array_equal(of_more[:, : WORDS + 1], found)
    np.testing.assert_array_equal(of_more[:, WORDS + 1 :], 0)


def test_a_word_depends_on_the_words_before_it_alone(params, code):
    """The gradient of each word's log p with respect to the embedding of each place: a mask below the diagonal."""

    def of_words(embedded):
        h, found = NET.apply({"params": params}, code[0], method="begun"), []
        for t in range(WORDS):
            found.append(NET.apply({"params": params}, h, method="log_probs")[CAPTIONS[0, t]])
            h = NET.apply({"params": params}, h, embedded[t], method=lambda net, h, x: net.cell(h, x)[0])
        return jnp.stack(found)

    embedded = params["embed"]["embedding"][CAPTIONS[0]]
    expected = word_log_probs(NET, params, code, CAPTIONS)[0, :WORDS]
    np.testing.assert_allclose(jax.jit(of_words)(embedded), expected, rtol=1e-5)
    depends = (np.asarray(jax.jit(jax.jacobian(of_words))(embedded)) != 0).any(-1)
    np.testing.assert_array_equal(depends, np.tri(WORDS, k=-1, dtype=bool))
    changed = word_log_probs(NET, params, code, CAPTIONS + np.int32([[0, 0, 1]] + [[0, 0, 0]] * 3))
    np.testing.assert_array_equal(changed[0, :2], word_log_probs(NET, params, code, CAPTIONS)[0, :2])


def test_with_weights_of_0_it_is_a_unigram_model(params, code):
    share = np.array([0.4, 0.1, 0.2, 0.3])
    zero = jax.tree.map(np.zeros_like, params)
    zero["readout"]["bias"] = np.log(share).astype(np.float32)
    found = np.asarray(word_log_probs(NET, zero, code, CAPTIONS)).sum(1)
    np.testing.assert_allclose(found[:3], np.log([0.2 * 0.3 * 0.1 * 0.4, 0.3 * 0.4, 0.1 * 0.2 * 0.4]), rtol=1e-5)


def test_greedy_writing_takes_the_likeliest_word_and_stops(params, code):
    made = np.asarray(written(NET, params, code, 6, "greedy"))
    for n in range(4):
        words = []
        while len(words) < 6 and (not words or words[-1]):
            words.append(int(next_log_probs(params, code[n], words).argmax()))
        assert made[n].tolist() == words + [0] * (6 - len(words))
    ends = jax.tree.map(np.copy, params)
    ends["readout"]["bias"][0] += 100
    np.testing.assert_array_equal(written(NET, ends, code, 6, "greedy"), 0)
    assert len({tuple(words) for words in made.tolist()}) > 1  # it depends on the code


def test_a_beam_of_all_beginnings_finds_the_likeliest_caption(params, code):
    """64 beginnings of 3 words of 4: none is dropped. A beam of 1 is greedy."""
    made = np.asarray(written(NET, params, code, WORDS, "beam", 64))
    for n in range(4):
        every = every_caption(params, code[n])
        np.testing.assert_allclose(np.exp(list(every.values())).sum(), 1, rtol=1e-9)
        assert tuple(made[n].tolist()) == max(every, key=every.get)
    greedy = np.asarray(written(NET, params, code, WORDS, "greedy"))
    np.testing.assert_array_equal(written(NET, params, code, WORDS, "beam", 1), greedy)
    assert (greedy != made).any(axis=1).tolist() == [True, True, False, True]


def test_sampled_captions_have_their_probabilities(params, code):
    num = 4000
    copies = np.broadcast_to(code[1], (num, CODE))
    made = np.asarray(written(NET, params, copies, WORDS, "sampled", key=jax.random.key(3)))
    captions, counts = np.unique(made, axis=0, return_counts=True)
    every = every_caption(params, code[1])
    share = {tuple(words): count / num for words, count in zip(captions.tolist(), counts, strict=True)}
    assert share.keys() <= every.keys()
    for words, log_prob in every.items():
        p = np.exp(log_prob)
        assert abs(share.get(words, 0) - p) < 4.5 * np.sqrt(p * (1 - p) / num) + 1e-3
