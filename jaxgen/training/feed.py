"""Inputs of a run's training program: whole arrays and the rows of each step, or batches read while training."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxgen.data import Dataset, pipeline
from jaxgen.errors import UserError
from jaxgen.model import Array, Phase
from jaxgen.training import engine
from jaxgen.training.engine import streams
from jaxgen.training.settings import Settings

MOST_BYTES = 2**28
"""Most bytes of examples in a chunk of steps, if examples are read while training; two chunks are held at once."""


class Take(Protocol):
    """Function (step, stop) -> data, indices, weights, anew of the steps from `step` to `stop`, for `chunk_program`.

    It is called for consecutive ranges of steps.
    """

    def __call__(self, step: int, stop: int) -> tuple[dict[str, Array], np.ndarray, np.ndarray, engine.Anew | None]:
        """Returns the inputs; the program does not read rows beyond stop - step."""
        ...


class Feed:
    """A dataset's training split, fed to the steps of one run."""

    def __init__(self, dataset: Dataset, needs: tuple[str, ...], settings: Settings, devices: Mesh):
        self._settings, self._devices, self._streamed = settings, devices, dataset.streamed
        self.entries = {name: dataset.train[name] for name in needs}
        self._num_examples = dataset.spec.num_examples
        self._anew = "image" in needs and (settings.flip or settings.binarize == "dynamic")
        self._kept = dataset.kept if settings.labeled_share is not None else None
        self._captions = dataset.captions if "caption" in needs else None
        of_seeds = engine.all_streams(settings.seeds).data
        self._keys = of_seeds if settings.own_order else streams(settings.data_seed).data
        self.most = settings.log_every
        if dataset.streamed:
            spec = dataset.spec.entries
            example = sum(int(np.prod(spec[name].shape)) * spec[name].dtype.itemsize for name in needs)
            self.most = max(1, min(self.most, MOST_BYTES // (settings.batch_size * example)))

    def indices(self, phase: Phase, first: int, step: int, seed: int) -> list[int]:
        """Indices of the training examples in the batch of one step, for the run's seed at index `seed`."""
        rows = self._rows(phase, first, step)
        return (rows[seed] if self._settings.own_order else rows)[0].tolist()

    def order(self, phase: Phase, first: int, step: int) -> str:
        """sha256 of the indices and weights of one step's batches; it changes with the order of the data."""
        return hashlib.sha256(self._rows(phase, first, step).tobytes()).hexdigest()

    def _rows(self, phase: Phase, first: int, step: int) -> np.ndarray:
        return self._chunk_rows(phase, first, step, step + 1, 1)[0]

    def _chunk_rows(self, phase: Phase, first: int, step: int, stop: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        return chunk_rows(phase, self._keys, self._num_examples, self._settings, first, step, stop, most, self._kept)

    @contextmanager
    def phase(self, phase: Phase, first: int, start: int, last: int) -> Iterator[Take]:
        """Yields the `Take` of a phase that begins at step `first`, for the steps from `start` to `last`."""

        def rows(step: int, stop: int) -> tuple[np.ndarray, ...]:
            return self._chunk_rows(phase, first, step, stop, self.most)

        captions = {"caption": self._captions.tokens} if self._captions else {}
        captions = engine.placed(self._devices, captions, shared=True)

        def anew(step: int, stop: int, indices: np.ndarray) -> engine.Anew | None:
            found = chunk_anew(self._keys, self._settings, step, stop, self.most) if self._anew else None
            if self._captions:
                drawn = np.zeros_like(indices)
                for n in np.ndindex(self._keys.shape):
                    drawn[n] = pipeline.captioned(self._keys[n], indices[n], self._captions.ends, step)
                found = (found or engine.Anew(None, None))._replace(captions=drawn)
            return found

        if not self._streamed:
            arrays = engine.placed(self._devices, self.entries, shared=True) | captions

            def whole(step: int, stop: int) -> tuple[Any, ...]:
                indices, weights = rows(step, stop)
                return arrays, indices, weights, anew(step, stop, indices)

            yield whole
            return
        batch_size = self._settings.batch_size
        origin = 0 if phase.passes is None else first  # passes are counted from the phase's first step
        batches = pipeline.read(
            self._keys,
            self.entries,
            batch_size,
            start - origin,
            last - origin,
            passes=phase.passes,
            workers=self._settings.workers,
        )
        within = np.arange(self.most * batch_size, dtype=np.int32).reshape(self.most, batch_size)

        def take(step: int, stop: int) -> tuple[Any, ...]:
            try:
                some = [next(batches) for _ in range(stop - step)]
            except RuntimeError as error:
                if "Worker process was terminated" not in str(error):
                    raise
                raise UserError(f"a process that reads the data has ended ({pipeline.GUARD})") from None
            read = {name: np.zeros((self.most, *entry.shape), entry.dtype) for name, entry in some[0].items()}
            for name, entry in read.items():
                for n, batch in enumerate(some):
                    entry[n] = batch[name]
            data = {name: entry.reshape(-1, *entry.shape[2:]) for name, entry in read.items()}
            data = engine.placed(self._devices, data, shared=True) | captions
            indices, weights = rows(step, stop)
            return data, within, weights, anew(step, stop, indices)

        try:
            yield take
        finally:
            batches.close()


def chunk_rows(
    phase: Phase,
    keys: Array,
    num_examples: int,
    settings: Settings,
    first: int,
    step: int,
    stop: int,
    most: int,
    kept: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (indices int32, weights float32) of the steps from `step` to `stop`, as `chunk_program` takes them.

    Both are [most, batch_size]; indices are [seeds, most, batch_size] if each seed has its own key. `kept`: the rows of
    which each batch has a `labeled_share`; not of phases with passes, which see every example equally often.
    """
    count, batch = stop - step, settings.batch_size
    indices = np.zeros((*keys.shape, most, batch), np.int32)
    weights = np.ones((most, batch), np.float32)
    for n in np.ndindex(keys.shape):
        if phase.passes is None and kept is not None:
            indices[n][:count] = pipeline.mixed(
                keys[n], num_examples, kept, round(settings.labeled_share * batch), batch, step, count
            )
        elif phase.passes is None:
            indices[n][:count] = pipeline.stream(keys[n], num_examples, batch, step, count)
        else:
            all_indices, all_weights = pipeline.passes(keys[n], num_examples, batch, phase.passes)
            indices[n][:count] = all_indices[step - first : stop - first]
            weights[:count] = all_weights[step - first : stop - first]
    return indices, weights


def chunk_anew(keys: Array, settings: Settings, step: int, stop: int, most: int) -> engine.Anew:
    """Random flips and bits for the images of the steps from `step` to `stop`, as `chunk_program` takes them."""
    mirrored, bits = None, None
    if settings.flip:
        mirrored = np.zeros((*keys.shape, most, settings.batch_size), bool)
        for n in np.ndindex(keys.shape):
            mirrored[n][: stop - step] = pipeline.mirrored(keys[n], settings.batch_size, step, stop - step)
    if settings.binarize == "dynamic":
        each = [pipeline.bit_keys(key, step, most) for key in keys.reshape(-1)]
        bits = jnp.stack(each).reshape(*keys.shape, most)
    return engine.Anew(mirrored, bits)
