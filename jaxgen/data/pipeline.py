"""Batches of a split: the examples of each training step, reading them, and batches for evaluation.

Training data is an endless stream of shuffled epochs, cut into full batches; a batch may span the
end of an epoch, so nothing is dropped. The stream is a pure function of (key, step): resuming needs
no state but the step, the index arrays can be passed to a `lax.scan` over steps, and data in memory
and data that grain reads while training come in the same order.
"""

import functools
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxgen.errors import UserError
from jaxgen.model import Key

GUARD = (
    "worker processes import the main script, which would train in each of them: keep what it does below "
    '`if __name__ == "__main__":`'
)

FLIPS = 2**32 - 1
"""Seed word used in place of an epoch to draw which images are mirrored."""

BITS = 2**32 - 2
"""Constant folded into the key to derive the keys for dynamic binarization."""


CAPTIONS = 2**32 - 3
"""Stands in place of an epoch number in the seed of the bits that choose captions."""

KEPT = 2**32 - 4
"""Constant folded into the key to derive the key of the order of examples that keep a label or caption."""


def words_of(key: Key) -> tuple[int, ...]:
    """The integers of a key's data, which seed NumPy's generators."""
    return tuple(jax.device_get(jax.random.key_data(key)).tolist())


@functools.lru_cache(maxsize=64)  # consecutive chunks of steps need the same epochs, for each seed
def epoch_order(words: tuple[int, ...], epoch: int, num_examples: int) -> np.ndarray:
    """The order of one epoch: int32 [num_examples], a permutation, read-only.

    It is the stable argsort of the 64-bit words of NumPy's Philox, seeded by the key's words and the epoch: on the
    host, the same on every machine.
    """
    bits = np.random.Philox(np.random.SeedSequence([*words, epoch])).random_raw(num_examples)
    order = np.argsort(bits, kind="stable").astype(np.int32)
    order.setflags(write=False)
    return order


def mirrored(key: Key, batch_size: int, start: int, count: int) -> np.ndarray:
    """Mask of the images to mirror in `count` steps from `start`, half on average: bool [count, batch_size]."""
    words = words_of(key)
    steps = (np.random.SeedSequence([*words, FLIPS, step]) for step in range(start, start + count))
    return np.stack([np.random.Philox(step).random_raw(batch_size) & 1 for step in steps]).astype(bool)


def captioned(key: Key, indices: np.ndarray, ends: np.ndarray, start: int) -> np.ndarray:
    """Draws a caption for each image of the steps from `start` on.

    The captions are rows of a table that holds each image's captions one after the other, images in order.

    Args:
      key: key of the data order; key and step determine the draws.
      indices: images of each step, int32 [count, batch_size].
      ends: row after the last caption of each image, int [images].

    Returns:
      Rows of the table, int32 [count, batch_size]. An image's captions are equally likely.
    """
    steps = (np.random.SeedSequence([*words_of(key), CAPTIONS, start + step]) for step in range(len(indices)))
    bits = np.stack([np.random.Philox(step).random_raw(indices.shape[1]) for step in steps])
    counts = np.diff(ends, prepend=0)[indices].astype(np.uint64)
    return (ends[indices] - 1 - (bits % counts).astype(np.int64)).astype(np.int32)


def bit_keys(key: Key, start: int, count: int) -> Key:
    """Keys [count] for dynamic binarization in `count` steps from `start`.

    They depend on the order's key and the step: seeds that share the data order share the bits.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, BITS), np.arange(start, start + count))


def stream(key: Key, num_examples: int, batch_size: int, start: int, count: int) -> np.ndarray:
    """The examples of steps `start` to `start + count - 1`: int32 [count, batch_size].

    Raises:
      UserError: if `num_examples` or `batch_size` is below 1.
    """
    _check(num_examples, batch_size)
    rows = _positions(words_of(key), num_examples, start * batch_size, count * batch_size)
    return rows.reshape(count, batch_size)


def mixed(
    key: Key, num_examples: int, kept: np.ndarray, own: int, batch_size: int, start: int, count: int
) -> np.ndarray:
    """Batches of two streams: `own` examples of `kept`, then the others of all examples: int32 [count, batch_size].

    Args:
      key: key of the data order.
      num_examples: number of all examples.
      kept: rows that the first stream is of, int [kept].
      own: examples of a batch from the first stream; the batch's size for none of the second.
      batch_size: examples per step.
      start: the first step.
      count: number of steps.
    """
    first = kept[stream(jax.random.fold_in(key, KEPT), len(kept), own, start, count)]
    if own == batch_size:
        return first.astype(np.int32)
    return np.concatenate([first, stream(key, num_examples, batch_size - own, start, count)], axis=1, dtype=np.int32)


def passes(key: Key, num_examples: int, batch_size: int, num_passes: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `num_passes` epochs of the stream: each example exactly `num_passes` times.

    Returns:
      The examples, int32 [steps, batch_size], and their weights, float32 [steps, batch_size]: 1, and 0
      where the last batch is padded (with example 0).

    Raises:
      UserError: if `num_examples` or `batch_size` is below 1.
    """
    _check(num_examples, batch_size)
    total = num_passes * num_examples
    steps = -(-total // batch_size)
    indices = np.zeros(steps * batch_size, np.int32)
    indices[:total] = _positions(words_of(key), num_examples, 0, total)
    weights = (np.arange(steps * batch_size) < total).astype(np.float32)
    return indices.reshape(steps, batch_size), weights.reshape(steps, batch_size)


def batches(entries: Mapping[str, Any], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """All examples once, in order, in batches of one shape, for evaluation.

    Each batch has the entries and `weight` float32 [batch_size]: 1, and 0 where the last batch is
    padded (with the first example).

    Raises:
      UserError: if there is no example or `batch_size` is below 1.
    """
    num_examples = len(next(iter(entries.values())))
    _check(num_examples, batch_size)
    for start in range(0, num_examples, batch_size):
        indices = np.arange(start, start + batch_size)
        weight = (indices < num_examples).astype(np.float32)
        indices[indices >= num_examples] = 0
        yield {name: entry[indices] for name, entry in entries.items()} | {"weight": weight}


def _positions(words: tuple[int, ...], num_examples: int, start: int, count: int) -> np.ndarray:
    """The stream's positions `start` to `start + count - 1`: int32 [count]."""
    indices = np.empty(count, np.int32)
    filled = 0
    while filled < count:
        epoch, offset = divmod(start + filled, num_examples)
        part = epoch_order(words, epoch, num_examples)[offset : offset + count - filled]
        indices[filled : filled + len(part)] = part
        filled += len(part)
    return indices


class _Stream:
    """Map from a position of the stream to its example; picklable, for grain's workers."""

    def __init__(self, key: Key, entries: Mapping[str, Any], end: float):
        self._words, self._entries, self._end = words_of(key), entries, end
        self._num_examples = len(next(iter(entries.values())))

    def __call__(self, position: int) -> dict[str, np.ndarray]:
        epoch, offset = divmod(position, self._num_examples)
        # Past the end the last batch is padded with example 0, as in `passes`.
        row = epoch_order(self._words, epoch, self._num_examples)[offset] if position < self._end else 0
        return {name: entry[row] for name, entry in self._entries.items()}


def read(
    key: Key,
    entries: Mapping[str, Any],
    batch_size: int,
    start: int,
    stop: int,
    *,
    passes: int | None = None,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Any:
    """The batches of `stream`, or of `passes`, for the steps from `start` to `stop - 1`, read ahead by grain.

    Args:
      key: key of the data order.
      entries: entries of a split; indexed by one integer at a time.
      batch_size: examples per step, over all processes.
      start: the first step; the iterator has no other state, so resuming means reading from a later step.
      stop: one past the last step.
      passes: epochs after which batches are padded with example 0; None for an endless stream.
      workers: reader processes; 0 for threads of this process.
      share: (this process's index, number of processes): each reads its own part of every batch.

    Returns:
      grain's iterator over batches, entries [batch_size / processes, ...]; close it after use.

    Raises:
      UserError: if a batch cannot be divided among the processes; while iterating, what reading an example raises.
    """
    import grain
    from absl import flags

    part, parts = share
    if batch_size % parts:
        raise UserError(f"a batch of {batch_size} cannot be divided evenly among {parts} processes")
    own = batch_size // parts
    end = math.inf if passes is None else passes * len(next(iter(entries.values())))
    example = _Stream(key, entries, end)

    def position(n: int) -> int:
        step, offset = divmod(n, own)
        return (start + step) * batch_size + part * own + offset

    dataset = grain.MapDataset.range((stop - start) * own).map(position).map(example).batch(own)
    # Read ahead a few batches' worth; more would only hold memory.
    reading = dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=4))
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads an absl flag, which only absl's own main parses
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        # As bytes: arrays would come in shared memory, which grain leaves behind where the program ends.
        reading = reading.map(pickle.dumps).mp_prefetch(options, _unstirred).map(pickle.loads)
    return iter(reading)


def check_not_a_worker() -> None:
    """Raises UserError in a worker process that imports the main script of the process that started it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # so multiprocessing knows it itself
        raise UserError(GUARD)


def _unstirred(*_: int) -> None:
    """Makes a worker ignore Ctrl-C, which the main process handles, and exit if the main process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(process: Any) -> None:
    process.join()
    os._exit(1)


def _check(num_examples: int, batch_size: int) -> None:
    if num_examples < 1:
        raise UserError("the dataset has no examples")
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: it has to be at least 1")
