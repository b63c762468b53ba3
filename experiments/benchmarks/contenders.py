"""JAX contenders: a model's training steps on synthetic images, as functions of a number of steps.

Each call of such a function continues from the state that the previous call left.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from jaxgen.model import Array, Metrics, Model, Phase, Spec, State
from jaxgen.training import engine
from jaxgen.training.settings import Settings

from .timing import Contender

MOST = Settings().log_every
"""Steps in one dispatch of the chunk program, the default of a jaxgen run."""


CLASSES = 10


class Data(NamedTuple):
    """Noise images with random labels, and the batches of them that the steps cycle through."""

    images: np.ndarray  # uint8 [examples, size, size, channels]
    labels: np.ndarray  # int32 [examples]
    indices: np.ndarray  # int32 [MOST, batch]
    spec: Spec
    arrays: dict[str, Array]  # the images and labels, on the device
    rows: list[Array]  # the indices, on the device
    weight: Array  # float32 [batch], all ones


def made_up(examples: int, size: int, channels: int, batch: int, precision: str = "float32") -> Data:
    """Draws uniform noise images, labels of 10 classes, and batches of them, from a fixed seed."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, size, size, channels), dtype=np.uint8)
    indices = rng.integers(0, examples, (MOST, batch), dtype=np.int32)
    labels = rng.integers(0, CLASSES, examples, dtype=np.int32)
    entries = {
        "image": jax.ShapeDtypeStruct(images.shape[1:], images.dtype),
        "label": jax.ShapeDtypeStruct((), labels.dtype),
    }
    mean = images.mean(0, dtype=np.float64) / 255
    # As if binarized: the VAE's likelihood is of bits, as PyTorch's is.
    spec = Spec(entries, examples, CLASSES, mean, binary=True, batch_size=batch, compute_dtype=jnp.dtype(precision))
    arrays = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    return Data(images, labels, indices, spec, arrays, list(jnp.asarray(indices)), jnp.ones(batch))


class Training(NamedTuple):
    """Inputs of training: a model's phase, the seeds' initial state, and the data. Contenders do not modify it."""

    phase: Phase
    keys: Array  # of training, [seeds]
    state: State  # every leaf [seeds, ...]
    data: Data

    @property
    def operands(self) -> tuple:
        """Operands of a `one_step` program for the first seed's first step."""
        state = jax.tree.map(lambda leaf: leaf[0], self.state)
        return self.keys[0], state, self.data.arrays, self.data.rows[0], self.data.weight

    def alone(self, n: int) -> "Training":
        """Returns the training of the n-th seed only."""
        state = jax.tree.map(lambda leaf: leaf[n : n + 1], self.state)
        return self._replace(keys=self.keys[n : n + 1], state=state)


def training(model: Model, data: Data, seeds: int = 1) -> Training:
    """Initializes training of the model's first phase for the seeds 0, 1, ..."""
    keys = engine.all_streams(tuple(range(seeds)))
    return Training(model.phases[0], keys.train, engine.initial_state(model, keys.init), data)


def one_step(phase: Phase) -> Callable:
    """Jits one step of one seed, with the chunk program's batch, key and step count but without freezing.

    (key, state, data, indices int32 [batch], weight float32 [batch]) -> (state, metrics); the state is donated.
    """

    def program(key, state, data, indices, weight):
        batch = {name: entry[indices] for name, entry in data.items()} | {"weight": weight}
        new, metrics = phase.step(jax.random.fold_in(key, state.step), state, batch)
        return new._replace(step=state.step + 1), metrics

    return jax.jit(program, donate_argnums=1)


def first_metrics(training: Training) -> Metrics:
    """Returns the metrics of the first seed's first step."""
    return jax.device_get(one_step(training.phase)(*training.operands)[1])


def jitted(training: Training) -> Contender:
    """Runs the first seed's steps, one per dispatch."""
    program, (key, state, arrays, _, weight) = one_step(training.phase), training.operands

    def run(steps: int) -> None:
        nonlocal state
        for n in range(steps):
            state, metrics = program(key, state, arrays, training.data.rows[n % MOST], weight)
        jax.block_until_ready((state, metrics))

    return run


def in_scan(training: Training, program: Callable | None = None) -> Contender:
    """Runs all seeds' steps in a chunk program, as the training loop does; in its own if none is given."""
    program = program or chunk_program(training)
    _, keys, state, data = training
    state = jax.tree.map(jnp.copy, state)  # donated
    weights, alive = np.ones(data.indices.shape, np.float32), jnp.ones(len(keys), bool)

    def run(steps: int) -> None:
        nonlocal state, alive
        for done in range(0, steps, MOST):
            count = np.int32(min(MOST, steps - done))
            state, alive, *sums = program(keys, state, alive, data.arrays, data.indices, weights, None, count)
        jax.block_until_ready((state, sums))

    return run


def compilation(trainings: Mapping[str, Training], times: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Measures seconds to trace and lower, and to compile, each contender jitted and in scan, `times` times in turn.

    Caches in memory are cleared before each measurement, and the cache on disk is disabled.
    """
    seconds = {name: {how: {"trace_and_lower": [], "compile": []} for how in PROGRAMS} for name in trainings}
    with no_persistent_cache():
        for _, how, (name, training) in itertools.product(range(times), PROGRAMS, trainings.items()):
            jax.clear_caches()
            program, operands = PROGRAMS[how](training)
            start = time.perf_counter()
            lowered = program.trace(*operands).lower()
            between = time.perf_counter()
            lowered.compile()
            seconds[name][how]["trace_and_lower"].append(between - start)
            seconds[name][how]["compile"].append(time.perf_counter() - between)
    return seconds


def chunk_program(training: Training, how: str = "auto") -> Callable:
    """Returns the program of a run, which takes many steps in one dispatch."""
    return engine.chunk_program(training.phase, engine.axis(how), str(training.data.spec.compute_dtype))


def scanned(training: Training) -> tuple[Callable, tuple]:
    """Returns a run's chunk program and its operands, of which the state is donated."""
    _, keys, state, data = training
    weights, alive = np.ones(data.indices.shape, np.float32), jnp.ones(len(keys), bool)
    operands = (keys, state, alive, data.arrays, data.indices, weights, None, np.int32(MOST))
    return chunk_program(training), operands


PROGRAMS = {
    "jitted": lambda training: (one_step(training.phase), training.operands),
    "in scan": scanned,
}


@contextlib.contextmanager
def no_persistent_cache() -> Iterator[None]:
    """Disables the compilation cache on disk."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX decides whether to use it at the first compilation
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
