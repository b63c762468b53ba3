"""Checks of autoregressive models of pixels: they are causal and a distribution, and are drawn as they are scored.

A network under test is `forward`, scaled images [batch, H, W, C] -> outputs [batch, H, W, groups, outputs].
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen.nn import conv
from jaxgen.nn.minimal_filtering import computes
from tests.models.by_hand import drawn_state


def lively(tree, seed=0):
    """Parameters like these, of normal numbers by their fan-in: nothing is 0, and gates do not saturate."""
    rng = np.random.default_rng(seed)

    def start(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
        return rng.normal(0, 1.5 / np.sqrt(fan_in), leaf.shape).astype(np.float32)

    return jax.tree.map(start, tree)


def every(levels, *shape):
    """All images of these levels, int32 [levels^pixels, *shape]."""
    return np.int32(list(itertools.product(range(levels), repeat=int(np.prod(shape))))).reshape(-1, *shape)


# What a network sees.


def seen(forward, head, shape, images=16):
    """Entries of a network's Jacobian that are not exactly 0 at one of some images: bool [H, W, groups, H, W, C].

    Layers that may be computed by minimal filtering, which is not local, are.
    """
    height, width, _ = shape

    @jax.jit
    def jacobian(x):
        return jax.jacfwd(lambda x: jnp.abs(forward(x[None])[0]).sum(-1))(x)

    found = np.zeros((height, width, head.groups, *shape), bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "best_tile", lambda geometry, *_: 4 if computes(geometry) else None)
        for x in np.random.default_rng(0).uniform(-1, 1, (images, *shape)):
            found |= np.asarray(jacobian(jnp.float32(x))) != 0
    return found


def the_past(head, shape):
    """Channels that come before each pixel's groups in raster order: bool [H, W, groups, H, W, C]."""
    number = np.arange(np.prod(shape)).reshape(shape)  # of a channel
    first = number.reshape(*shape[:2], head.groups, -1)[..., 0]  # the first channel of a group
    return first[..., None, None, None] > number


def own(head, shape):
    """Features that each see their own pixel's group: bool [H, W, groups, H, W, C]."""
    number = np.arange(np.prod(shape)).reshape(shape)
    return (number.reshape(*shape[:2], head.groups, -1, 1, 1, 1) == number).any(3)


def taps(rows, left, right):
    """Offsets (row, column) of a kernel of its own row and those above, without what comes after its own pixel."""
    return [(i, j) for i in range(1 - rows, 1) for j in range(-left, right + 1) if i < 0 or j <= 0]


def read(features, offsets, mask="B"):
    """Features of a layer that reads others at these offsets, by mask A, B or None at (0, 0)."""
    height, width, groups = features.shape[:3]
    found = np.zeros_like(features)
    for i, j in itertools.product(range(height), range(width)):
        for di, dj in offsets:
            if not (0 <= i + di < height and 0 <= j + dj < width):
                continue
            there = features[i + di, j + dj]
            for group in range(groups):
                seen_groups = {"A": group, "B": group + 1}.get(mask, groups) if (di, dj) == (0, 0) else groups
                found[i, j, group] |= there[:seen_groups].any(0)
    return found


# What its head and sampler make of it.


def assert_a_distribution(log_prob, levels, shape, images_each=1):
    """The probabilities of all images sum to 1, and are far from equal. A level stands for so many images."""
    level = every(levels, *shape)
    each = np.asarray(log_prob(level), np.float64)
    assert abs((np.exp(each) * images_each).sum() - 1) < 1e-4
    assert np.ptp(each) > 2


def assert_drawn_as_scored(level, log_prob, levels):
    """Counts of draws int32 [num, H, W, C] against the probabilities of all images, by chi-square."""
    shape = level.shape[1:]
    images = every(levels, *shape)
    p = np.exp(np.asarray(log_prob(images), np.float64))
    places = levels ** np.arange(int(np.prod(shape)))[::-1]
    counts = np.bincount(np.asarray(level).reshape(len(level), -1) @ places, minlength=len(images))
    expected = len(level) * p / p.sum()
    often = expected > 5
    assert often.sum() > 3
    counts, expected = (np.append(a[often], a[~often].sum()) for a in (counts, expected))
    if expected[-1] < 5:
        assert counts[-1] < 20
        counts, expected = counts[:-1], expected[:-1] * counts[:-1].sum() / expected[:-1].sum()
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def random_levels(head, num, shape, seed=0):
    """Levels int32 [num, H, W, C]."""
    return np.random.default_rng(seed).integers(0, head.levels, (num, *shape), dtype=np.int32)


def assert_labels_are_heard(model, batch):
    """A step's loss is -log p(x|y) of its labels, by which Bayes' rule gives log p(x, y); images' labels differ in it.

    Labels are equally likely before training. Of the sum of p(x, y) over labels, log p(x) is the logarithm.
    """
    state = drawn_state(model.init)
    state = state._replace(extra=jnp.zeros(state.extra.shape, jnp.uint32))
    few = {name: entry[:8] for name, entry in batch.items()}
    joint = np.float64(jax.jit(model.predict["label"])(state, few))
    step, (_, classes) = jax.jit(model.phases[0].step), joint.shape
    for label in (0, classes - 1):
        loss = step(jax.random.key(0), state, {**few, "label": np.full(8, label, np.int32)})[1]["loss"]
        np.testing.assert_allclose(loss, -(joint[:, label] + np.log(classes)).mean(), rtol=1e-5)
    assert np.ptp(joint, axis=1).min() > 0.1
    log_prob = jax.jit(model.likelihood.log_prob)(None, state, few)
    np.testing.assert_allclose(log_prob, np.logaddexp.reduce(joint, axis=1), rtol=1e-5)
