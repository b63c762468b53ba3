"""From arrays in memory to batches: which examples each training step sees, and batches for evaluation.

Training data is an endless stream of shuffled epochs, cut into full batches; a batch may span the
end of an epoch, so nothing is dropped. The stream is a pure function of (key, step): resuming needs
no state, and the index arrays can be handed to a `lax.scan` over steps.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from jaxgen.errors import UserError
from jaxgen.model import Key


def epoch_order(key: Key, epoch: int, num_examples: int) -> np.ndarray:
    """The order of one epoch: int32 [num_examples], a permutation, read-only.

    The stable argsort of `jax.random.bits(fold_in(key, epoch))`, taken on the host: the same on every
    machine and device.
    """
    words = jax.device_get(jax.random.key_data(key))
    return _epoch_order(words.tobytes(), words.shape, jax.random.key_impl(key), epoch, num_examples)


@functools.lru_cache(maxsize=64)  # chunks of steps ask for the same epochs again and again, of every seed's own order
def _epoch_order(words: bytes, shape: tuple, impl, epoch: int, num_examples: int) -> np.ndarray:
    with jax.default_device(_host()):
        key = jax.random.wrap_key_data(np.frombuffer(words, np.uint32).reshape(shape), impl=impl)
        bits = jax.random.bits(jax.random.fold_in(key, epoch), (num_examples,), np.uint32)
    order = np.argsort(jax.device_get(bits), kind="stable").astype(np.int32)
    order.setflags(write=False)
    return order


def _host() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names no CPU; threefry's bits are the same on any device
        return jax.local_devices()[0]


def stream(key: Key, num_examples: int, batch_size: int, start: int, count: int) -> np.ndarray:
    """The examples of steps `start` to `start + count - 1`: int32 [count, batch_size].

    Raises:
      UserError: if `num_examples` or `batch_size` is below 1.
    """
    _check(num_examples, batch_size)
    return _positions(key, num_examples, start * batch_size, count * batch_size).reshape(count, batch_size)


def passes(key: Key, num_examples: int, batch_size: int, num_passes: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `num_passes` epochs of the same stream, and no more: each example exactly that often.

    Returns:
      The examples, int32 [steps, batch_size], and their weights, float32 [steps, batch_size]: 1, and 0
      where the last batch is filled up (with example 0).

    Raises:
      UserError: if `num_examples` or `batch_size` is below 1.
    """
    _check(num_examples, batch_size)
    total = num_passes * num_examples
    steps = -(-total // batch_size)
    indices = np.zeros(steps * batch_size, np.int32)
    indices[:total] = _positions(key, num_examples, 0, total)
    weights = (np.arange(steps * batch_size) < total).astype(np.float32)
    return indices.reshape(steps, batch_size), weights.reshape(steps, batch_size)


def batches(entries: dict[str, np.ndarray], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """All examples once, in order, in batches of one shape, for evaluation.

    Each batch has the entries and `weight` float32 [batch_size]: 1, and 0 where the last batch is
    filled up (with the first example).

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


def _positions(key: Key, num_examples: int, start: int, count: int) -> np.ndarray:
    """The stream's positions `start` to `start + count - 1`: int32 [count]."""
    indices = np.empty(count, np.int32)
    filled = 0
    while filled < count:
        epoch, offset = divmod(start + filled, num_examples)
        part = epoch_order(key, epoch, num_examples)[offset : offset + count - filled]
        indices[filled : filled + len(part)] = part
        filled += len(part)
    return indices


def _check(num_examples: int, batch_size: int) -> None:
    if num_examples < 1:
        raise UserError("the dataset has no examples")
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: it has to be at least 1")
