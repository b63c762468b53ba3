"""Captions that a model writes of images: BLEU, and of scenes of `shapes` truth, variety and detail."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from jaxgen.metrics.captions import Claim, Seen, is_true, parse, see, see_tolerantly

STRICT = (64, 64, 3)
"""Shape of the pictures of `shapes` as they are drawn, in which `see` counts every pixel."""


def bleu(candidates: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> float:
    """Corpus BLEU-4 of one reference each: from 0 to 1.

    The geometric mean of the shares of n-grams, of 1 to 4 words, that the references have too (each at most as often
    as its reference has it), times exp(1 - r / c) if the candidates' words c are fewer than the references' r. It is 0
    if no n-gram of a length is shared: nothing is smoothed.

    Args:
        candidates: words, of any kind that can be compared.
        references: the same, one of each candidate.

    Source: Papineni et al. 2002, https://aclanthology.org/P02-1040.
    """
    shared, total = np.zeros(4), np.zeros(4)
    for candidate, reference in zip(candidates, references, strict=True):
        for n in range(4):
            own, given = (_ngrams(words, n + 1) for words in (candidate, reference))
            shared[n] += (own & given).total()
            total[n] += own.total()
    if not shared.all():
        return 0.0
    own, given = (sum(map(len, texts)) for texts in (candidates, references))
    return float(np.exp(np.log(shared / total).mean() + min(0.0, 1 - given / own)))


def _ngrams(words: Sequence[int], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def scenes(images: np.ndarray) -> list[Seen]:
    """Content of images uint8 [num, side, side, 3] of `shapes`: seen strictly at 64x64, else tolerantly."""
    return [(see if image.shape == STRICT else see_tolerantly)(image) for image in images]


def detailed(claim: Claim) -> bool:
    """True if a caption says all that one can: the background, all sizes, and relations between groups."""
    return claim.background is not None and all(group.size for group in claim.groups) and all(claim.relations[1:])


def true_of(seen: Sequence[Seen], captions: Sequence[str]) -> list[bool]:
    """True for each caption that is true of what its image shows; one that `shapes` has no grammar for is false."""
    claims = map(_claim, captions)
    return [claim is not None and is_true(claim, there) for claim, there in zip(claims, seen, strict=True)]


def truth(seen: Sequence[Seen], captions: Sequence[str]) -> dict[str, float]:
    """Shares of written captions that are true of what images show, differ from each other, and say all.

    Returns:
        caption_true, caption_distinct (different captions over all), caption_detail (`detailed`), caption_words (mean
        number of words).
    """
    claims = [_claim(caption) for caption in captions]
    return {
        "caption_true": float(np.mean(true_of(seen, captions))),
        "caption_distinct": len(set(captions)) / len(captions),
        "caption_detail": float(np.mean([claim is not None and detailed(claim) for claim in claims])),
        "caption_words": float(np.mean([len(caption.split()) for caption in captions])),
    }


def _claim(caption: str) -> Claim | None:
    try:
        return parse(caption)
    except ValueError:
        return None
