"""Codes for tests of models with codebooks, and sums over all codes, against which a bound is checked."""

import itertools

import jax
import numpy as np

from jaxgen.model import State
from tests.models import autoregressive as ar


def far_apart(z, num):
    """Vectors among z [..., D], each the farthest from those before: no two are near, as codes drawn at random are."""
    z = np.asarray(z).reshape(-1, z.shape[-1])
    chosen = z[:1]
    while len(chosen) < num:
        distance = np.linalg.norm(z[:, None] - chosen, axis=-1).min(1)
        chosen = np.concatenate([chosen, z[[distance.argmax()]]])
    return chosen


def lively_state(model):
    """Initial state with random parameters, such that maps neither vanish nor grow."""
    state = jax.eval_shape(model.init, jax.random.key(0))
    extra = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), (state.opt_state, state.extra))
    return State(np.int32(0), ar.lively(state.params), *extra)


def assert_a_bound(model, grids, num, shape):
    """The bound of random images is at most log p(x) = log sum p(codes) p(x|codes), and is one of the sum's terms.

    Parameters are random, and the codes are those of some images. `grids` are the levels' sizes, of `num` codes each,
    and `shape` is the images'.
    """
    sizes = [int(np.prod(grid)) for grid in grids.values()]
    every = np.int32(list(itertools.product(range(num), repeat=sum(sizes))))
    parts = np.split(every, np.cumsum(sizes)[:-1], axis=1)
    codes = {name: part.reshape(-1, *grid) for (name, grid), part in zip(grids.items(), parts, strict=True)}
    state = lively_state(model)
    state.params["prior"]["log_scale"] = np.float32(-1)
    images = np.random.default_rng(2).integers(0, 256, (12, *shape), dtype=np.uint8)
    state = model.phases[0].enter(jax.random.key(3), state, iter([{"image": images}]))

    @jax.jit
    def terms(state, image):
        log_prior = model.latents.prior.log_prob(state, codes)
        batch = {"image": jax.numpy.broadcast_to(image, (len(every), *shape))}
        return log_prior, log_prior + model.latents.log_likelihood(state, batch, codes)

    bound = np.float64(jax.jit(model.likelihood.log_prob)(None, state, {"image": images}))
    chosen = set()
    for image, of_image in zip(images, bound, strict=True):
        log_prior, joint = map(np.float64, terms(state, image))
        np.testing.assert_allclose(np.exp(log_prior).sum(), 1, rtol=1e-5)
        assert of_image < np.logaddexp.reduce(joint) + 1e-4
        difference = np.abs(joint - of_image)
        assert difference.min() < 1e-3
        chosen.add(int(difference.argmin()))
    assert len(chosen) > 1  # different images, different codes
