"""BLEU against NLTK's, from the same words."""

import numpy as np
import pytest

from jaxgen.metrics.sentences import bleu

bleu_score = pytest.importorskip("nltk.translate.bleu_score")


def test_corpus_bleu_is_nltks():
    rng = np.random.default_rng(0)
    references = [rng.integers(0, 4, rng.integers(6, 12)).tolist() for _ in range(50)]
    candidates = [[w if rng.random() < 0.8 else 9 for w in words[: rng.integers(5, 12)]] for words in references]
    expected = bleu_score.corpus_bleu([[words] for words in references], candidates)
    np.testing.assert_allclose(bleu(candidates, references), expected, rtol=1e-12)
    assert 0.1 < expected < 0.9
