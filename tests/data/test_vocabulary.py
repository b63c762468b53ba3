"""Captions to ids and back, by hand and as properties of arbitrary text."""

import json
import re
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.data.vocabulary import PADDING, UNKNOWN, Vocabulary, longest, tokenize
from jaxgen.errors import UserError

CAPTIONS = ["A red box.", "a RED, red ball", "the blue box"]
# red 3; a, box 2; "," "." ball, blue, the 1: ties in order of code points
WORDS = ("red", "a", "box", ",", ".", "ball", "blue", "the")

PROPERTY = settings(deadline=None, derandomize=True)


def test_tokens_by_hand():
    assert tokenize("Don't stop!  x_2\n\u2013 (ok)") == ["don", "'", "t", "stop", "!", "x_2", "\u2013", "(", "ok", ")"]
    assert tokenize("ÇA va? НЕТ 猫") == ["ça", "va", "?", "нет", "猫"]
    assert tokenize("") == tokenize(" \t\n\u00a0") == []


def test_two_spellings_of_a_letter_are_one():
    assert tokenize("caf\u00e9") == tokenize("cafe\u0301") == tokenize("CAFE\u0301") == ["caf\u00e9"]


def test_words_by_frequency_then_alphabet():
    assert Vocabulary.of(CAPTIONS).words == WORDS
    assert Vocabulary.of(CAPTIONS, size=2).words == ("red", "a")
    assert Vocabulary.of(CAPTIONS, size=99).words == WORDS
    assert len(Vocabulary.of(CAPTIONS, size=2)) == 4
    assert Vocabulary.of(reversed(CAPTIONS)) == Vocabulary.of(CAPTIONS)
    assert Vocabulary.of([]).words == ()


def test_ids_by_hand():
    vocabulary = Vocabulary(WORDS)
    tokens = vocabulary.encode(["a red box.", "A green, green BALL", ""], 4)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [[3, 2, 4, 6], [3, UNKNOWN, 5, UNKNOWN], [PADDING] * 4]
    assert vocabulary.decode(tokens) == ["a red box .", "a <unk> , <unk>", ""]
    assert vocabulary.encode([], 4).shape == (0, 4)
    assert vocabulary.encode(np.array(["the red"]), 3).tolist() == [[9, 2, PADDING]]


def test_unknown_words_by_hand():
    vocabulary = Vocabulary(("a", "cat"))
    assert vocabulary.unknown("A cat, a dog and a DOG") == [",", "dog", "and"]
    assert vocabulary.unknown("a cat") == vocabulary.unknown("") == []


def test_longest():
    assert longest(CAPTIONS) == 5
    assert longest([]) == longest([""]) == 0


@PROPERTY
@given(st.lists(st.text(), min_size=1))
def test_decoding_undoes_encoding(captions):
    vocabulary = Vocabulary.of(captions)
    tokens = vocabulary.encode(captions, max(1, longest(captions)))
    assert vocabulary.decode(tokens) == [" ".join(tokenize(caption)) for caption in captions]
    assert UNKNOWN not in tokens
    assert sorted(set(tokens.ravel().tolist()) - {PADDING}) == list(range(2, len(vocabulary)))  # every word, once


@PROPERTY
@given(st.lists(st.text(st.sampled_from("ab .İΣς\u0301"))), st.integers(1, 5), st.integers(1, 4))
def test_cut_off_and_unknown(captions, length, size):
    """Encoding agrees with the definition, word for word."""
    vocabulary = Vocabulary.of(captions, size)
    tokens = vocabulary.encode(captions, length)
    assert len(vocabulary.words) <= size
    for caption, row in zip(captions, tokens, strict=True):
        for position in range(length):
            words = tokenize(caption)
            if position >= len(words):
                assert row[position] == PADDING
            elif words[position] in vocabulary.words:
                assert vocabulary.words[row[position] - 2] == words[position]
            else:
                assert row[position] == UNKNOWN


@PROPERTY
@given(st.text())
def test_tokens_are_their_own_tokens(caption):
    """Tokenizing is idempotent: a decoded caption has the same ids, and each saved word is one token."""
    tokens = tokenize(caption)
    assert tokenize(" ".join(tokens)) == tokens
    assert all(tokenize(token) == [token] for token in tokens)
    # Only white space is lost.
    assert "".join(tokens) == re.sub(r"\s", "", unicodedata.normalize("NFC", caption.lower()))


def test_every_character_is_its_own_token():
    characters = map(chr, range(sys.maxunicode + 1))
    tokens = {token for character in characters for token in tokenize(character)}
    assert all(tokenize(token) == [token] for token in tokens)


@PROPERTY
@given(st.lists(st.text()))
def test_saved_and_loaded(tmp_path_factory, captions):
    path = tmp_path_factory.getbasetemp() / "vocabulary.json"
    vocabulary = Vocabulary.of(captions)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"),
        (b'{"words": ["a", "b', "no JSON"),
        (b'{"words": ["\xff"]}', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'["a"]', 'no list of "words"'),
        (b'{"word": ["a"]}', 'no list of "words"'),
        (b'{"words": "a"}', 'no list of "words"'),
        (b'{"words": ["a", 1]}', "1 is no word"),
        (b'{"words": ["a", "B"]}', "'B' is no word"),
        (b'{"words": ["a", "two words"]}', "'two words' is no word"),
        (b'{"words": ["a", ""]}', "'' is no word"),
        (b'{"words": ["a", "b", "a"]}', "'a' is there twice"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Vocabulary.load(path)
    assert str(caught.value) == (
        f"the vocabulary {path} was damaged or changed ({reason}): restore it, or make it again from the captions"
    )


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_a_file_cut_off_is_refused(tmp_path, length):
    path = tmp_path / "words.json"
    Vocabulary(tuple(f"word{i}" for i in range(20))).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="no JSON"):
        Vocabulary.load(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the vocabulary .*words.json \(No such file or directory\)"):
        Vocabulary.load(tmp_path / "words.json")
    with pytest.raises(UserError, match=r"cannot write the vocabulary .*words.json \(No such file or directory\)"):
        Vocabulary(WORDS).save(tmp_path / "folder" / "words.json")


def test_the_file_is_plain_json(tmp_path):
    Vocabulary(("é", "a")).save(tmp_path / "words.json")
    assert json.loads((tmp_path / "words.json").read_bytes()) == {"words": ["é", "a"]}


def test_sizes_below_one():
    with pytest.raises(UserError, match="vocabulary size 0: it has to be at least 1"):
        Vocabulary.of(CAPTIONS, size=0)
    with pytest.raises(UserError, match="caption length -3: it has to be at least 1"):
        Vocabulary(WORDS).encode(CAPTIONS, -3)


def test_fast_for_many_captions():
    captions = [f"there are {i % 9} blue boxes, and a yellow circle touches the wall." for i in range(100_000)]
    start = time.perf_counter()
    tokens = Vocabulary.of(captions).encode(captions, longest(captions))
    assert tokens.shape == (100_000, 14)
    assert time.perf_counter() - start < 15  # about a second; several times that on a busy machine
