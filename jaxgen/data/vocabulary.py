r"""Vocabulary: captions as ids of words, and back.

A caption's tokens are the matches of `\w+|[^\w\s]` in its lower-cased, NFC-normalized text: words of letters,
digits and underscores in any script, and single punctuation marks. "Don't stop!" has five: don ' t stop !
"""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxgen.errors import UserError

PADDING = 0  # the id that pads a short caption
UNKNOWN = 1  # the id of a word that is not in the vocabulary
UNKNOWN_WORD = "<unk>"  # the text of UNKNOWN: not a single token, so no word equals it

_TOKEN = re.compile(r"\w+|[^\w\s]")


def tokenize(caption: str) -> list[str]:
    """The caption's tokens, in order."""
    caption = caption.lower()  # before NFC, since lower-casing can decompose: İ becomes i and a dot
    return _TOKEN.findall(caption if caption.isascii() else unicodedata.normalize("NFC", caption))


def longest(captions: Iterable[str]) -> int:
    """The number of tokens of the longest caption; 0 for no captions."""
    return max((len(tokenize(caption)) for caption in captions), default=0)


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids: PADDING, UNKNOWN, and then the words in order. `len` is the number of ids."""

    words: tuple[str, ...]  # words[0] has id 2

    @classmethod
    def of(cls, captions: Iterable[str], size: int | None = None) -> "Vocabulary":
        """The `size` most frequent words of the captions, or all, by decreasing frequency, ties alphabetical.

        Raises:
          UserError: if `size` is below 1.
        """
        if size is not None and size < 1:
            raise UserError(f"vocabulary size {size}: it has to be at least 1")
        counts = Counter(word for caption in captions for word in tokenize(caption))
        return cls(tuple(sorted(counts, key=lambda word: (-counts[word], word))[:size]))

    def __len__(self) -> int:
        return 2 + len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: id_ for id_, word in enumerate(self.words, 2)}

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """The captions' ids: int32 [captions, length], truncated or padded with PADDING at the end.

        Raises:
          UserError: if `length` is below 1.
        """
        if length < 1:
            raise UserError(f"caption length {length}: it has to be at least 1")
        tokens = np.full((len(captions), length), PADDING, np.int32)
        for row, caption in zip(tokens, captions, strict=True):
            ids = [self._ids.get(word, UNKNOWN) for word in tokenize(caption)[:length]]
            row[: len(ids)] = ids
        return tokens

    def unknown(self, caption: str) -> list[str]:
        """The caption's words that are not in the vocabulary, each once, in order."""
        return [word for word in dict.fromkeys(tokenize(caption)) if word not in self._ids]

    def decode(self, tokens: np.ndarray) -> list[str]:
        """The captions of integer tokens [captions, length], words joined by spaces, UNKNOWN as UNKNOWN_WORD."""
        words = ("", UNKNOWN_WORD, *self.words)
        return [" ".join(words[id_] for id_ in row if id_ != PADDING) for row in np.asarray(tokens).tolist()]

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON file of the words.

        Raises:
          UserError: if it cannot be written.
        """
        try:
            with open(path, "w", encoding="ascii") as file:
                json.dump({"words": self.words}, file)
        except OSError as error:
            raise UserError(f"cannot write the vocabulary {path} ({error.strerror})") from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
          UserError: if it cannot be read, or is no JSON file of distinct tokens.
        """
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except OSError as error:
            raise UserError(f"cannot read the vocabulary {path} ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise UserError(_damaged(path, "no JSON")) from error
        words = content.get("words") if isinstance(content, dict) else None
        if not isinstance(words, list):
            raise UserError(_damaged(path, 'no list of "words"'))
        for word in words:
            if not isinstance(word, str) or tokenize(word) != [word]:
                raise UserError(_damaged(path, f"{word!r} is no word"))
        if repeated := [word for word, count in Counter(words).items() if count > 1]:
            raise UserError(_damaged(path, f"{repeated[0]!r} is there twice"))
        return cls(tuple(words))


def _damaged(path: str | os.PathLike, reason: str) -> str:
    return f"the vocabulary {path} was damaged or changed ({reason}): restore it, or make it again from the captions"
