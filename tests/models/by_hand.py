"""Layers in numpy's float64 from Flax's parameters: 4x4 convolutions with stride 2, and their adjoints.

Also a distance between two samples.
"""

import jax
import numpy as np

from jaxgen.model import State


def in_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def anything(tree, seed=0):
    """Normal draws in the shape of these parameters: none is 0 or 1, which could hide a misplaced one."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0.1, 0.4, leaf.shape).astype(np.float32), tree)


def drawn_state(init, seed=0):
    """Initial state with parameters drawn by NumPy, to avoid compilation; running averages are 0 and 1.

    Other vectors and averages in `extra` are nonzero draws too.
    """
    state = jax.eval_shape(init, jax.random.key(0))

    def start(path, leaf):
        name = path[-1].key if path else ""
        if name in ("mean", "var"):
            return np.full(leaf.shape, name == "var", np.float32)
        return anything(leaf, seed + 1)

    return State(
        np.int32(0),
        anything(state.params, seed),
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state.opt_state),
        jax.tree.map_with_path(start, state.extra),
    )


def stepped(play, key, state, batch):
    """Plays all turns of a GAN's step, G's after D's update; returns the state and the metrics."""
    state, (k_fakes, k_discriminator, k_generator), batch = play.earlier_critic_turns(key, state, batch)
    fakes = play.generate(k_fakes, state, batch)
    state, of_discriminator = play.discriminator_turn(k_discriminator, state, batch, fakes)
    state, of_generator = play.generator_turn(k_generator, state, batch, fakes)
    return play.finished(state, fakes), of_discriminator | of_generator


def dense(layer, x):
    return x.reshape(len(x), -1) @ layer["kernel"] + layer.get("bias", 0)


def conv(layer, x):
    """Maps x [batch, 2h, 2w, in], padded with zeros, to [batch, h, w, out]; kernels are [4, 4, in, out]."""
    _, height, width, _ = x.shape
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [(u, v) for u in range(4) for v in range(4)]
    y = sum(x[:, u : u + height : 2, v : v + width : 2] @ layer["kernel"][u, v] for u, v in places)
    return y + layer.get("bias", 0)


def conv_transpose(layer, x):
    """Maps x [batch, h, w, in] to [batch, 2h, 2w, out], adding each pixel at 4x4 places; kernels [4, 4, out, in]."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 2, 2 * width + 2, layer["kernel"].shape[2]))
    for u in range(4):
        for v in range(4):
            y[:, u : u + 2 * height : 2, v : v + 2 * width : 2] += x @ layer["kernel"][u, v].T
    return y[:, 1:-1, 1:-1] + layer.get("bias", 0)


def batch_norm(x, layer=None, averages=None):
    """Normalizes channels by the batch's statistics or by running averages, then scales and shifts by a layer."""
    axes = tuple(range(x.ndim - 1))
    mean, var = (averages["mean"], averages["var"]) if averages else (x.mean(axes), x.var(axes))
    x = (x - mean) / np.sqrt(var + 1e-5)
    return x * layer["scale"] + layer["bias"] if layer else x


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def energy_distance(x, y):
    """Energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'|, 0 for equal distributions; Szekely & Rizzo 2013."""

    def mean_distance(a, b):
        return np.linalg.norm(np.float64(a)[:, None] - b[None], axis=-1).mean()

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)
