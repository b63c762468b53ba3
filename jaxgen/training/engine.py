"""Models over the seed axis: every leaf of a state has a leading [seeds] axis, even for one seed.

One program takes a chunk of steps for all seeds, either side by side (`vmap`) or one seed after the other
(`map`). A table fixes the choice by backend; it is never timed at run time, since the two differ in bits. On
several devices first the seeds are divided among them, then each step's batch.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgen.compatibility import known_to_cpu_compiler
from jaxgen.errors import UserError
from jaxgen.model import Array, Batch, Condition, Key, Model, Phase, Sampler, Spec, State
from jaxgen.nn.image import drawn_bits

R = TypeVar("R")

SAMPLES_AT_ONCE = 512

KEPT = 32
"""Models and programs of each kind that a process keeps: a run that is opened again is not compiled again."""


def kept(function: Callable[..., R]) -> Callable[..., R]:
    """Makes a function return the same value again for the same arguments; those that have no hash are not kept."""
    cached = lru_cache(KEPT)(function)

    @wraps(function)
    def call(*args):
        try:
            hash(args)
        except TypeError:
            return function(*args)
        return cached(*args)

    return call


AXIS = {"cpu": "map", "gpu": "vmap", "tpu": "vmap"}
"""Map from backend to how the seed axis runs. On a CPU one seed's convolutions fill the cores and its maps the cache:
a step of three seeds of the VAE of experiments/vae_mnist_nll.py took 6.4 ms mapped and 8.5 ms vmapped."""

COMPILER_OPTIONS = {"cpu": {"xla_backend_optimization_level": 1}}
"""Compiler options of programs that initialize and train, by backend: DCGAN-64's step compiles in a tenth less time and
runs as fast; the first state of a VQ-VAE-2 takes two fifths of the time, and has the same bits."""


EIGEN = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_REDUCE"
}
"""Compiler options that leave products of matrices to Eigen on a CPU, and convolutions and sums to YNN: a step of
DCGAN-64 in float32 takes an eighth less time. In bfloat16 YNN is faster. jaxlibs before YNN lack the option."""


def compiler_options(platform: str, precision: str | None = None) -> dict[str, Any]:
    """Options of a backend, with `EIGEN` for training in float32, except those that XLA_FLAGS sets."""
    options: dict[str, Any] = dict(COMPILER_OPTIONS.get(platform, {}))
    if platform == "cpu" and precision == "float32":
        options |= {name: value for name, value in EIGEN.items() if known_to_cpu_compiler(name, value)}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if f"--{name}=" not in flags}


def axis(choice: str) -> str:
    """Returns how the seed axis runs, vmap or map; auto is looked up in `AXIS` for this backend."""
    return AXIS.get(jax.default_backend(), "vmap") if choice == "auto" else choice


def mesh_shape(num_seeds: int, batch_size: int, devices: int) -> tuple[int, int]:
    """Returns (parts of the seeds, parts of the batch): most devices that even parts can use, preferably by seeds."""
    parts = [
        (seeds, batch)
        for seeds in range(1, min(num_seeds, devices) + 1)
        for batch in range(1, min(batch_size, devices // seeds) + 1)
        if num_seeds % seeds == batch_size % batch == 0
    ]
    return max(parts, key=lambda shape: (math.prod(shape), shape))


def mesh(num_seeds: int, batch_size: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh ("seeds", "batch") of a run, in the `mesh_shape` of `devices`, by default all that this process sees."""
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(num_seeds, batch_size, len(devices))
    if jax.process_count() > 1 and math.prod(shape) < len(devices):
        words = f"{num_seeds} seeds and batches of {batch_size} do not divide evenly among {len(devices)} devices"
        raise UserError(f"{words}; over several processes they must")
    return jax.make_mesh(shape, ("seeds", "batch"), (AxisType.Auto,) * 2, devices=devices[: math.prod(shape)])


def placed(devices: Mesh, tree: Any, *, shared: bool = False) -> Any:
    """Puts `tree` on the devices of a run: its leading seed axis is divided among them or, if `shared`, replicated."""
    share = NamedSharding(devices, PartitionSpec(None if shared else "seeds"))

    def put(leaf):
        if share.is_fully_addressable:
            return jax.device_put(leaf, share)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        own = np.asarray(leaf)  # each process holds the whole leaf and puts its part
        return jax.make_array_from_callback(own.shape, share, lambda part: own[part])

    return jax.tree.map(put, tree)


@jax.jit
def of_seed(tree: Any, i: Array) -> Any:
    """The part of the `i`-th seed of a tree whose leaves have a leading seed axis; one program for all leaves."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


@jax.jit
def stacked(*trees: Any) -> Any:
    """Joins trees of one seed each: every leaf gets a leading seed axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class Streams(NamedTuple):
    """Named keys of one seed, each the root of all randomness for its purpose."""

    init: Key
    data: Key
    train: Key
    sample: Key
    evaluate: Key


def streams(seed: int) -> Streams:
    """Splits a seed's root key into its named streams."""
    return Streams(*jax.random.split(jax.random.key(seed), len(Streams._fields)))


def all_streams(seeds: tuple[int, ...]) -> Streams:
    """Named streams of all seeds, each a key array [seeds]."""
    return stacked(*map(streams, seeds))


def blank_batch(spec: Spec, needs: tuple[str, ...], batch_size: int) -> dict[str, Array]:
    """Returns a batch of zeros, for abstract evaluation."""
    batch = {name: jnp.zeros((batch_size, *spec.entries[name].shape), spec.entries[name].dtype) for name in needs}
    return batch | {"weight": jnp.ones(batch_size)}


@kept
def of_all_seeds(init: Callable[[Key], State]) -> Callable[[Array], State]:
    """Returns the function from the keys [seeds] to the states [seeds, ...]; the same one again for the same `init`."""
    return jax.vmap(init)


def initial_state(model: Model, keys: Array) -> State:
    """State of every seed before training, [seeds, ...]."""
    init = jax.jit(of_all_seeds(model.init), compiler_options=compiler_options(jax.default_backend()))
    return init(jax.vmap(jax.random.fold_in, (0, None))(keys, 0))


@kept
def over_seeds(function: Callable, in_axes: tuple[int | None, ...]) -> Callable:
    """Returns the program of a function of one seed for all seeds; the same one again for the same function."""
    return jax.jit(jax.vmap(function, in_axes=in_axes))


def entered(phase: Phase, index: int, keys: Array, state: State, batches: Callable[[], Any]) -> State:
    """Applies the phase's `enter` to `state` seed by seed, with the init stream's key for phase `index`."""
    if phase.enter is None:
        return state
    states = [
        phase.enter(jax.random.fold_in(key, 1 + index), of_seed(state, i), batches()) for i, key in enumerate(keys)
    ]
    return stacked(*states)


class Anew(NamedTuple):
    """Random flips and bits for each step's images, [most, ...], or [seeds, most, ...] with `own_order`."""

    mirrored: Array | None  # bool [most, batch]: True for images that are mirrored left to right
    bits: Key | None  # keys [most] for drawing gray pixels as bits
    captions: Array | None = None  # int32 [most, batch]: rows of `data`'s captions, which then holds all of each image


def chunk_program(
    phase: Phase, how: str, precision: str, devices: Mesh | None = None, own_order: bool = False
) -> Callable:
    """Returns the jitted program that takes many training steps in one dispatch; `how` is vmap or map over the seeds.

    `precision` is the dtype that the phase's layers compute in; compiler options depend on it.

    (train keys [seeds], state, alive bool [seeds], data, indices int32 [most, batch],
    weights float32 [most, batch], anew `Anew` or None, count int32 [])
    -> (state, alive, sums, steps)

    It takes `count` <= most steps. `count` is not static, so a run uses the same program however its steps are
    cut into chunks: stopping and resuming cannot change a bit. State is donated. `data` holds the whole training
    arrays; row i of `indices` is step i's batch, and row i of `anew` the flips and bits of its images. Both have a
    leading seed axis if each seed has its own order (`own_order`). `sums` are the metrics summed over the chunk's
    steps, and `steps`, float32 [seeds], is their number.

    On several devices (a `mesh`) each has its share of the seeds, and of every step's batch. The seeds need no
    collective operations; for the batch XLA divides the step and adds up the sums. (On CPUs the convolutions' loops
    over chunks of a batch are not divided: several CPU devices are for tests.)

    A seed whose metrics or new state (parameters, optimizer, averages) are not finite is frozen in its state before
    that step, and stays on the axis.
    """
    platform = jax.default_backend() if devices is None else devices.devices.flat[0].platform
    return _chunk_program(phase, how, devices, own_order, tuple(compiler_options(platform, precision).items()))


@kept
def _chunk_program(
    phase: Phase, how: str, devices: Mesh | None, own_order: bool, options: tuple[tuple[str, Any], ...]
) -> Callable:
    several = devices is not None and devices.size > 1
    share_of_batch = several and NamedSharding(devices, PartitionSpec("batch"))

    def one_seed(key, state, alive, data, indices, anew, weights, count):
        def batch_of(i):
            batch = {name: entry[indices[i]] for name, entry in data.items()}
            if anew and anew.mirrored is not None:
                flip = anew.mirrored[i][:, None, None, None]
                batch["image"] = jnp.where(flip, batch["image"][..., ::-1, :], batch["image"])
            if anew and anew.bits is not None:
                batch["image"] = drawn_bits(anew.bits[i], batch["image"])
            if anew and anew.captions is not None:
                batch["caption"] = data["caption"][anew.captions[i]]
            batch |= {"weight": weights[i]}
            return jax.lax.with_sharding_constraint(batch, share_of_batch) if several else batch

        def take(i, carry):
            state, alive, sums, steps = carry
            new, metrics = step(jax.random.fold_in(key, state.step), state, batch_of(i))
            new = new._replace(step=state.step + 1)
            alive = alive & finite((metrics, new))
            state = jax.tree.map(partial(jnp.where, alive), new, state)
            sums = jax.tree.map(lambda s, m: s + jnp.where(alive, m.astype(s.dtype), 0), sums, metrics)
            return state, alive, sums, steps + alive.astype(jnp.float32)

        # Jitted, so that `eval_shape` and the loop share one trace.
        step = jax.jit(phase.step)
        _, metrics = jax.eval_shape(step, key, state, batch_of(0))
        sums = jax.tree.map(lambda m: jnp.zeros(m.shape, float), metrics)  # a sum of bytes or bfloat16 would not grow
        return jax.lax.fori_loop(0, count, take, (state, alive, sums, jnp.float32(0)))

    def chunk(keys, state, alive, data, indices, weights, anew, count):
        def one(own):
            key, state, alive, *order = own
            return one_seed(key, state, alive, data, *(order or (indices, anew)), weights, count)

        own = (keys, state, alive, *((indices, anew) if own_order else ()))
        return jax.vmap(one)(own) if how == "vmap" else jax.lax.map(one, own)

    if several:
        shares, whole = PartitionSpec("seeds"), PartitionSpec()
        rows = shares if own_order else whole
        chunk = jax.shard_map(
            chunk,
            mesh=devices,
            in_specs=(shares, shares, shares, whole, rows, whole, rows, whole),
            out_specs=shares,
            axis_names={"seeds"},
            check_vma=False,  # otherwise a scan in a user's model would have to declare what varies over the seeds
        )
    return jax.jit(chunk, donate_argnums=1, compiler_options=dict(options))


def finite(tree: Any) -> Array:
    """True, bool [], if all numbers of `tree` are finite.

    On CPUs large arrays are multiplied by zeros, since a number that is not finite times 0 is NaN. XLA takes this
    product in a fraction of the time of `isfinite`, a third of a small model's step. (It would drop a product of one.)
    """

    def plain(leaf):
        return jnp.isfinite(leaf).all()

    def on_cpu(leaf):
        small = leaf.size < 1024 or leaf.shape[-1] == 1
        if small or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return plain(leaf)
        return (leaf @ jnp.zeros(leaf.shape[-1], leaf.dtype) == 0).all()

    def every(all_of):
        return lambda leaves: jnp.stack([all_of(leaf) for leaf in leaves]).all()

    return jax.lax.platform_dependent(jax.tree.leaves(tree), cpu=every(on_cpu), default=every(plain))


@kept
def sample_program(sampler: Sampler) -> Callable:
    """Returns the jitted program that draws samples of every seed, with `num` static.

    (keys [seeds], state, num, condition) -> {"image": uint8 [seeds, num, H, W, C], ...}, the condition's entries
    [seeds, num, ...] among them.
    """

    @partial(jax.jit, static_argnums=2)
    def program(keys, state, num, condition):
        made = jax.vmap(lambda key, state, asked: sampler.draw(key, state, num, asked))(keys, state, condition)
        return {**condition, **made}

    return program


def sample_parts(model: Model) -> Callable:
    """Returns the function that draws samples of every seed, compiled once for each number of samples.

    (keys [seeds], state, num, condition) -> an iterator over parts of at most 512 samples per seed, {"image": uint8
    [seeds, part, H, W, C], ...} on the device: dispatched without waiting, each part with its own key. The
    condition's entries [seeds, num, ...] are among those of the samples.
    """
    program = sample_program(model.sampler)

    def draw(keys: Array, state: State, num: int, condition: Condition) -> Iterator[Batch]:
        for part, start in enumerate(range(0, num, SAMPLES_AT_ONCE)):
            some = min(SAMPLES_AT_ONCE, num - start)
            asked = {name: entry[:, start : start + some] for name, entry in condition.items()}
            part_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, part)
            yield program(part_keys, state, some, asked)

    return draw


def alike(condition: Condition, num_seeds: int) -> Condition:
    """Repeats a condition [num, ...] for every seed: [seeds, num, ...]."""
    return {name: np.broadcast_to(entry, (num_seeds, *entry.shape)) for name, entry in condition.items()}


def gathered(parts: Iterable[Batch]) -> dict[str, np.ndarray]:
    """Fetches and joins the parts on the host: entries [seeds, num, ...]."""
    parts = [jax.device_get(part) for part in parts]
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def sampler(model: Model) -> Callable:
    """Returns the function (keys [seeds], state, num, condition) -> samples' entries [seeds, num, ...] on the host."""
    parts = sample_parts(model)

    def draw(keys: Array, state: State, num: int, condition: Condition) -> dict[str, np.ndarray]:
        return gathered(parts(keys, state, num, condition))

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
