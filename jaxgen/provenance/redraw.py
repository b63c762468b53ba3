"""Search of images among a run's own draws: samples are functions of the run, the seed and the key, so they come back.

Nothing is put into the images. The nearest draw is recognized after heavy compression, since unrelated draws differ
much more; a model that has collapsed draws near-duplicates, between which the index is a guess.
"""

from typing import NamedTuple

import numpy as np


class Nearest(NamedTuple):
    """The nearest draws of images."""

    index: np.ndarray  # int [images], the draw nearest to each
    cosine: np.ndarray  # float32 [images], its cosine
    second: np.ndarray  # float32 [images], that of the second nearest
    p: float  # of all images together


def nearest(images: np.ndarray, own: np.ndarray, others: np.ndarray) -> Nearest:
    """Finds the draws nearest to images by the cosine about the mean of all draws.

    The p-value is the rank of the images' mean cosine among those with sets drawn under other keys: exact, since all
    sets are exchangeable if the images have nothing to do with `own`. It is at least 1 / (sets + 1).

    Args:
        images: [images, ...].
        own: the run's draws, [num, ...].
        others: draws under other keys, [sets, num, ...].
    """
    sets = np.concatenate([own[None], others]).reshape(1 + len(others), len(own), -1).astype(np.float32)
    center = sets.mean((0, 1))
    wanted = _directions(images.reshape(len(images), -1).astype(np.float32) - center)
    cosines = wanted @ _directions(sets[0] - center).T
    best = [(wanted @ _directions(each - center).T).max(1).mean() for each in sets[1:]]
    ranked = np.sort(cosines, axis=1)
    as_near = sum(value >= ranked[:, -1].mean() for value in best)
    second = ranked[:, -2] if len(own) > 1 else np.full(len(images), -1, np.float32)
    return Nearest(cosines.argmax(1), ranked[:, -1], second, (1 + int(as_near)) / (1 + len(others)))


def _directions(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
