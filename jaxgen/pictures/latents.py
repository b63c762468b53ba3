"""Paths through a model's latents, codes of examples, and images or meshes of codes.

Paths are taken in float64 with NumPy: they are the same on every device.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import ndtri

from jaxgen.data import pipeline
from jaxgen.model import Array, Batch, Condition, Latents, Model, Prior, State
from jaxgen.nn.image import from_unit
from jaxgen.nn.optimizer import descend
from jaxgen.training.draws import AT_ONCE, example
from jaxgen.training.engine import kept, of_seed, over_seeds

PARALLEL = 1e-7
"""Sine of the angle between two directions below which the line replaces the arc."""

STARTS, START, DESCENT, DESCENT_STEPS = 3, 0.3, 0.05, 250
"""Inversion of a decoder: number of starts, their standard deviation, first rate of Adam, and steps."""

RANGE = {"gaussian": 3.0, "uniform": 1.0}
"""Map from kind of prior to how far each number of z moves from 0: three standard deviations; the full range."""


def linear(a, b, shares) -> np.ndarray:
    """Points on the line from a to b, at equal speed: (1 - t) a + t b.

    Args:
        a, b: [rows, ...], finite.
        shares: t [steps], from 0, which gives a, to 1, which gives b.

    Returns:
        float64 [rows, steps, ...].
    """
    a, b = (np.asarray(end, np.float64)[:, None] for end in (a, b))
    t = np.reshape(shares, (1, -1) + (1,) * (a.ndim - 2))
    return (1 - t) * a + t * b


def spherical(a, b, shares) -> np.ndarray:
    """Points from a to b that turn at equal speed about the origin, while their length changes linearly.

        z(t) = ((1 - t)|a| + t|b|) (sin((1 - t) w) a/|a| + sin(t w) b/|b|) / sin w,    w the angle of a and b

    Draws of a Gaussian in many dimensions lie near a sphere, which the line between two of them leaves: its middle
    is shorter than nearly every draw. If the arc is not unique (parallel or opposite to within 1e-7, an
    end of length 0, latents of one dimension), the points are those of the line.

    Args:
        a, b: [rows, ...], finite; the axes after the first form one vector.
        shares: t [steps], from 0, which gives a, to 1, which gives b.

    Returns:
        float64 [rows, steps, ...].

    Source: Shoemake 1985, "Animating rotation with quaternion curves", slerp, for vectors of length 1; between prior
    draws, White 2016 (https://arxiv.org/abs/1609.04468), which weights a and b themselves: the same at equal lengths.
    """
    a, b, t = (np.asarray(each, np.float64) for each in (a, b, shares))
    t = t[None, :, None]
    (u, length_a), (v, length_b) = (_direction(end.reshape(len(end), 1, -1)) for end in (a, b))
    # Kahan's formula: exact to rounding at every angle, unlike the arc cosine at small ones
    angle = 2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1))[..., None]
    arc = (np.sin(angle) > PARALLEL) & (length_a > 0) & (length_b > 0)
    sine = np.where(arc, np.sin(angle), 1)
    points = ((1 - t) * length_a + t * length_b) * (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / sine
    line = linear(a, b, shares)
    return np.where(arc, points, line.reshape(points.shape)).reshape(line.shape)


def _direction(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors [..., d] scaled to length 1, and their lengths [..., 1]; one of length 0 stays 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1), length


def even(kind: str, num: int) -> np.ndarray:
    """Ascending numbers, float64 [num], with equal probability between neighbors under a prior of this kind.

    The quantiles at (i + 1/2) / num of N(0, 1), or of the uniform distribution over (-1, 1).
    """
    shares = (np.arange(num) + 0.5) / num
    return ndtri(shares) if kind == "gaussian" else 2 * shares - 1


PATHS: dict[str, Callable] = {"gaussian": spherical, "uniform": linear}
"""Map from kind of prior to the path between two of its draws that stays in regions of typical draws."""


def traversed(code, dimensions, values) -> np.ndarray:
    """Copies of a code in which one dimension takes each of the values.

    Args:
        code: [...]; dimensions index its flattened numbers.
        dimensions: int [rows].
        values: [steps].

    Returns:
        float64 [rows, steps, ...].
    """
    code = np.asarray(code, np.float64)
    copies = np.tile(code.reshape(-1), (len(dimensions), len(values), 1))
    copies[np.arange(len(dimensions)), :, dimensions] = values
    return copies.reshape(len(dimensions), len(values), *code.shape)


def active_dimensions(codes) -> np.ndarray:
    """Dimensions of codes [num, ...] sorted by falling variance over the examples: int [dimensions]."""
    variances = np.asarray(codes, np.float64).reshape(len(codes), -1).var(0)
    return np.argsort(-variances, kind="stable")


# Functions of all seeds of a run, whose states have a leading seed axis


def drawn(model: Model, keys: Array, state: State, num: int) -> np.ndarray:
    """Latents drawn from the prior: float32 [seeds, num, ...]."""
    return jax.device_get(over_seeds(_prior_draws(model.latents.prior, num), (0, 0))(keys, state))


def encoded(model: Model, state: State, entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Codes of examples, entries [num, ...]: float32 [seeds, num, ...]."""
    return _over_examples(model.latents.encode, state, entries)


def reconstructed(
    model: Model, state: State, entries: Mapping[str, np.ndarray], levels: Sequence[str] = ()
) -> np.ndarray:
    """Examples decoded from the codes of examples, entries [num, ...], as `decoded` gives them: [seeds, num, ...].

    They are decoded from the codes of `levels` alone, if any are given.
    """
    return _over_examples(_reconstruction(model.latents, model.conditions, tuple(levels)), state, entries)


def inverted(model: Model, state: State, images: np.ndarray, condition: Condition) -> np.ndarray:
    """Codes whose images come near given ones, by gradient descent from several starts: float32 [seeds, num, ...].

    Of the starts the one is taken that ends nearest. Codes of a uniform prior stay within its range by a tanh.

    Args:
        model: a model with a Gaussian or uniform prior.
        state: the model's, [seeds, ...].
        images: uint8 [num, H, W, C].
        condition: entries [num, ...], the same for all seeds.
    """
    within = jnp.tanh if model.latents.prior.kind == "uniform" else lambda v: v
    optimizer = optax.adam(optax.cosine_decay_schedule(DESCENT, DESCENT_STEPS))
    wanted = jnp.float32(images) / 255

    def errors(v, state):
        made = model.latents.decode(state, within(v), condition)["image"]
        return ((made - wanted) ** 2).sum((1, 2, 3))

    def descended(start, state):
        def step(carried, _):
            v, moments = carried
            gradient = jax.grad(lambda v: errors(v, state).sum())(v)
            return descend(optimizer, gradient, moments, v), None

        (v, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=DESCENT_STEPS)
        return within(v), errors(v, state)

    keys = jax.random.split(jax.random.key(0), STARTS)
    shape = jax.eval_shape(_prior_draws(model.latents.prior, len(images)), keys[0], of_seed(state, 0)).shape
    starts = START * jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    run = jax.jit(jax.vmap(jax.vmap(descended, in_axes=(0, None)), in_axes=(None, 0)))
    codes, left = jax.device_get(run(starts, state))  # [seeds, starts, num, ...]
    best = left.argmin(1)
    return codes[np.arange(len(codes))[:, None], best, np.arange(len(images))]


def logits(model: Model, state: State, entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits of the labels of examples, entries [num, ...]: float32 [seeds, num, classes]."""
    return _over_examples(model.predict["label"], state, entries)


def captions(model: Model, state: State, entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Captions that a model writes of examples, entries [num, ...]: int32 [seeds, num, words]."""
    return _over_examples(model.predict["caption"], state, entries)


def between(model: Model, state: State, codes: Any, captions: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Images of codes, given what lies between two captions: uint8 [seeds, num, H, W, C].

    Args:
        model: one whose latents have `between`.
        state: the model's, [seeds, ...].
        codes: [seeds, num, ...].
        captions: int32 [2, words].
        shares: of the second caption, [num].
    """

    def drawn(state, codes, shares):
        two = ({"caption": jnp.broadcast_to(each, (len(shares), len(each)))} for each in captions)
        return from_unit(model.latents.between(state, codes, *two, shares)["image"])

    jitted = jax.jit(jax.vmap(drawn, in_axes=(0, 0, None)))
    starts = range(0, len(shares), AT_ONCE)
    parts = [(np.float32(codes[:, i : i + AT_ONCE]), np.float32(shares[i : i + AT_ONCE])) for i in starts]
    return np.concatenate([jax.device_get(jitted(state, *part)) for part in parts], axis=1)


# Functions of one seed: the same one again for the same model, so that `over_seeds` has its program


@kept
def _prior_draws(prior: Prior, num: int) -> Callable:
    return lambda key, state: prior.sample(key, state, num)


@kept
def _reconstruction(of: Latents, conditions: tuple[str, ...], levels: tuple[str, ...]) -> Callable:
    def reconstruct(state: State, batch: Batch) -> Array:
        condition, codes = {name: batch[name] for name in conditions}, of.encode(state, batch)
        return example(of.decode, state, {name: codes[name] for name in levels} if levels else codes, condition)

    return reconstruct


def _over_examples(function: Callable, state: State, entries: Mapping[str, np.ndarray]) -> np.ndarray:
    """Applies `function` (state, batch) -> [batch, ...] for every seed to all examples: [seeds, num, ...]."""
    jitted = over_seeds(function, (0, None))
    num = len(next(iter(entries.values())))
    parts = [jax.device_get(jitted(state, batch)) for batch in pipeline.batches(entries, min(num, AT_ONCE))]
    return np.concatenate(parts, axis=1)[:, :num]
