"""Rejection of samples by a classifier: of several samples of a class, the one that is most surely of it is kept.

Source: Razavi, van den Oord & Vinyals 2019 (https://arxiv.org/abs/1906.00446), section 3.4, which ranks samples by the
probability that a classifier gives to their class.
"""

from collections.abc import Callable

import numpy as np

from jaxgen.errors import UserError
from jaxgen.evaluation.extractor import Extractor
from jaxgen.model import Array, Condition, Model, State
from jaxgen.training import engine


def rejecting_sampler(model: Model, judge: Extractor | None, times: int) -> Callable:
    """Returns a function like `jaxgen.training.engine.sampler`'s that keeps the best of `times` draws for a sample.

    The best draw has the highest probability of its label by the judge. With `times` of 1 all are kept. Raises
    UserError if the model is not given labels, or if there is no judge, for data without them.
    """
    draw = engine.sampler(model)
    if times == 1:
        return draw
    if "label" not in model.conditions:
        raise UserError("rejection needs a model that is given labels")
    if judge is None or judge.logits is None:
        raise UserError("rejection needs a judge, a classifier of the data's labels")

    def best(keys: Array, state: State, num: int, condition: Condition) -> dict[str, np.ndarray]:
        asked = {name: np.repeat(entry, times, axis=1) for name, entry in condition.items()}
        drawn = draw(keys, state, num * times, asked)
        images, labels = drawn["image"], drawn["label"].reshape(-1, 1)
        sure = np.take_along_axis(judge.log_probabilities(images.reshape(-1, *images.shape[2:])), labels, axis=-1)
        kept = sure.reshape(-1, num, times).argmax(-1)  # [seeds, num]
        return {name: _chosen(entry, kept, times) for name, entry in drawn.items()}

    return best


def _chosen(entry: np.ndarray, kept: np.ndarray, times: int) -> np.ndarray:
    """Entries [seeds, num * times, ...] of the kept draws: [seeds, num, ...]."""
    seeds, num = kept.shape
    return entry.reshape(seeds, num, times, *entry.shape[2:])[np.arange(seeds)[:, None], np.arange(num), kept]


def rejection_note(times: int) -> str:
    """Words on rejection for the note on how samples were drawn; "" without it."""
    return "" if times == 1 else f"the best of {times} by the judge"
