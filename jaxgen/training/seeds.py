"""Models over the seed axis: every leaf of a state has a leading [seeds] axis, on a CPU too.

A step is taken by all seeds in one program, either side by side (`vmap`) or one after the other
(`map`). Which of them is fixed by backend in one table, never chosen by a timing at run time, since
the two differ in bits.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.keys import Streams, streams
from jaxgen.model import Array, Batch, Condition, Model, Phase, Spec, State

SAMPLES_AT_ONCE = 512

AXIS = {"cpu": "map", "gpu": "vmap", "tpu": "vmap"}
"""How the seed axis runs, by backend. On a CPU one seed's convolutions fill the cores and its maps the
cache: four seeds of DCGAN-32 took 193 ms a step mapped, 231 ms vmapped, and compiled in a third of the time."""


def axis(choice: str) -> str:
    """How the seed axis runs, vmap or map: the table's for this backend where `choice` is auto."""
    return AXIS.get(jax.default_backend(), "vmap") if choice == "auto" else choice


def over_seeds(function: Callable, how: str) -> Callable:
    """`function(key, state, batch)` over keys and states [seeds], all with the same batch."""
    if how == "vmap":
        return jax.vmap(function, in_axes=(0, 0, None))
    return lambda keys, state, batch: jax.lax.map(lambda one: function(*one, batch), (keys, state))


def all_streams(seeds: tuple[int, ...]) -> Streams:
    """The named streams of all seeds, each a key array [seeds]."""
    return jax.tree.map(lambda *keys: jnp.stack(keys), *map(streams, seeds))


def blank_batch(spec: Spec, needs: tuple[str, ...], batch_size: int) -> dict[str, Array]:
    """A batch of zeros, for `init` and for abstract evaluation."""
    batch = {name: jnp.zeros((batch_size, *spec.entries[name].shape), spec.entries[name].dtype) for name in needs}
    return batch | {"weight": jnp.ones(batch_size)}


def initial_state(model: Model, keys: Array, batch: Batch) -> State:
    """The state of every seed before training, [seeds, ...]."""
    return jax.jit(jax.vmap(model.init, in_axes=(0, None)))(jax.vmap(jax.random.fold_in, (0, None))(keys, 0), batch)


def entered(phase: Phase, index: int, keys: Array, state: State, batches: Callable[[], Any]) -> State:
    """`state` after the phase's `enter`, seed by seed; the init stream's key for phase `index`."""
    if phase.enter is None:
        return state
    states = [
        phase.enter(jax.random.fold_in(key, 1 + index), jax.tree.map(lambda leaf, i=i: leaf[i], state), batches())
        for i, key in enumerate(keys)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def chunk_program(phase: Phase, how: str) -> Callable:
    """The jitted program that takes many training steps in one dispatch; `how` the seed axis runs.

    (train keys [seeds], state, alive bool [seeds], data, indices int32 [most, batch],
    weights float32 [most, batch], count int32 []) -> (state, alive, sums, steps)

    It takes `count` <= most steps; `count` is not static, so that a run takes its steps through the
    same program however they are cut into chunks: stopping and resuming cannot change a bit. State
    is donated. `data` holds the whole training arrays; row i of `indices` is step i's batch. `sums`
    are the metrics summed over the chunk's steps and `steps` float32 [seeds] their number.

    A seed whose metrics or new parameters are not finite is frozen as it was before that step, and
    stays on the axis.
    """
    step = over_seeds(phase.step, how)

    def chunk(keys, state, alive, data, indices, weights, count):
        def take(i, carry):
            state, alive, sums, steps = carry
            batch = {name: entry[indices[i]] for name, entry in data.items()} | {"weight": weights[i]}
            step_keys = jax.vmap(jax.random.fold_in)(keys, state.step)
            new, metrics = step(step_keys, state, batch)
            new = new._replace(step=state.step + 1)
            alive = alive & finite((metrics, new.params))
            state = jax.tree.map(lambda n, o: jnp.where(_like(alive, n), n, o), new, state)
            sums = jax.tree.map(lambda s, m: s + jnp.where(alive, m, 0), sums, metrics)
            return state, alive, sums, steps + alive.astype(jnp.float32)

        batch = {name: entry[indices[0]] for name, entry in data.items()} | {"weight": weights[0]}
        _, metrics = jax.eval_shape(step, keys, state, batch)
        sums = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
        return jax.lax.fori_loop(0, count, take, (state, alive, sums, jnp.zeros(len(alive))))

    return jax.jit(chunk, donate_argnums=1)


def finite(tree: Any) -> Array:
    """Whether all that a seed has in `tree`, leaves [seeds, ...], is finite: bool [seeds]."""
    leaves = jax.tree.leaves(jax.tree.map(lambda x: jnp.isfinite(x).reshape(len(x), -1).all(1), tree))
    return jnp.stack(leaves).all(0)


def _like(alive: Array, leaf: Array) -> Array:
    """`alive` [seeds] with as many axes as `leaf`."""
    return alive.reshape(alive.shape + (1,) * (leaf.ndim - 1))


def sampler(model: Model) -> Callable:
    """The function that draws samples of every seed, compiled once a number of samples.

    (keys [seeds], state, num, condition=None) -> {"image": uint8 [seeds, num, H, W, C], ...} on the
    host; the condition's entries [num, ...] are the same for all seeds. At most 512 a seed are drawn
    in one dispatch, each part with a key of its own.
    """

    @partial(jax.jit, static_argnums=2)
    def program(keys, state, num, condition):
        return jax.vmap(lambda key, state: model.sample(key, state, num, condition))(keys, state)

    def draw(keys: Array, state: State, num: int, condition: Condition | None = None) -> dict[str, np.ndarray]:
        parts = []
        for part, start in enumerate(range(0, num, SAMPLES_AT_ONCE)):
            some = min(SAMPLES_AT_ONCE, num - start)
            given = condition and {name: entry[start : start + some] for name, entry in condition.items()}
            part_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, part)
            parts.append(jax.device_get(program(part_keys, state, some, given)))
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}

    return draw


def digests(seeds: tuple[int, ...], state: State) -> dict[int, str]:
    """sha256 of each seed's params and extra: names, dtypes, shapes and bytes of all leaves, in order."""
    leaves = jax.tree_util.tree_leaves_with_path((state.params, state.extra))
    hashes = {seed: hashlib.sha256() for seed in seeds}
    for path, leaf in leaves:
        leaf = np.asarray(leaf)
        for seed, row in zip(seeds, leaf, strict=True):
            hashes[seed].update(f"{jax.tree_util.keystr(path)} {row.dtype} {row.shape}\n".encode())
            hashes[seed].update(np.ascontiguousarray(row).tobytes())
    return {seed: value.hexdigest() for seed, value in hashes.items()}
