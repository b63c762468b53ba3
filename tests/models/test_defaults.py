"""Defaults that follow the data: the likelihood of pixels, and the side of the smallest map."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import autoencoder, cgan, dcgan, infogan, mggan, naive_bayes, vae, vaegan
from jaxgen.nn.image import pyramid


def spec(size=8, channels=1, *, binary=False):
    entries = {
        "image": jax.ShapeDtypeStruct((size, size, channels), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    return Spec(entries, 64, 2, mean=np.full((size, size, channels), 0.3), binary=binary)


@pytest.mark.parametrize(
    ("module", "channels", "binary", "space", "note"),
    [
        (vae, 1, True, "binary", "p(x|z) is of bits, 1 where a pixel is at least 128"),
        (vae, 3, True, "binary", "p(x|z) is of bits, 1 where a pixel is at least 128"),
        (vae, 1, False, "uint8", "p(x|z) is of the 256 levels"),
        (vae, 3, False, "uint8", "p(x|z) is of the 256 levels"),
        (naive_bayes, 1, True, "binary", "p(x|y) is of bits, 1 where a pixel is at least 128"),
        (naive_bayes, 1, False, "uint8", "p(x|y) is of the 256 levels, in 16 bins of equally likely ones"),
        (naive_bayes, 3, False, "uint8", "p(x|y) is of the 256 levels, in 16 bins of equally likely ones"),
    ],
)
def test_the_likelihood_follows_the_data(module, channels, binary, space, note):
    likelihood = module.make(module.Config(), spec(channels=channels, binary=binary)).likelihood
    assert likelihood.space == space
    assert likelihood.note.endswith(note)


@pytest.mark.parametrize(("module", "levels"), [(vae, "logistic"), (naive_bayes, "categorical")])
@pytest.mark.parametrize("chosen", ["bernoulli", "gaussian", None])
def test_a_likelihood_that_was_chosen_stays(module, levels, chosen):
    """Bits of gray levels can be chosen too; the note says that the levels are cut."""
    for binary in (False, True):
        note = module.make(module.Config(likelihood=chosen), spec(binary=binary)).likelihood.note
        expected = chosen or ("bernoulli" if binary else levels)
        assert note == module.make(module.Config(likelihood=expected), spec(binary=binary)).likelihood.note
        assert note.endswith("; gray levels are thresholded") == (chosen == "bernoulli" and not binary)


def test_by_default_the_levels_of_a_gray_image_are_told_apart():
    """Parameters of 0: each of 64 pixels is a logistic's mass of its level, mean 1/2, scale 1, in units of 255."""
    model = vae.make(vae.Config(latent_dim=2, features=4), spec())
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    for level in (3, 100, 200):  # as bits the last two would differ, and the first two be the same
        image = np.full((1, 8, 8, 1), level, np.uint8)
        found = jax.jit(model.likelihood.log_prob)(jax.random.key(0), state, {"image": image})
        ends = scipy.stats.logistic.cdf(np.array([level - 0.5, level + 0.5]) / 255 - 0.5)
        np.testing.assert_allclose(found, [64 * np.log(ends[1] - ends[0])], rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "smallest", "expected"),
    [
        # Side of the smallest map and halvings: 2 up to 16 pixels; 4 above, or as far as sides are even.
        (8, None, (2, 2)), (12, None, (3, 2)), (14, None, (7, 1)), (16, None, (2, 3)), (20, None, (5, 2)),
        (28, None, (7, 2)), (32, None, (4, 3)), (64, None, (4, 4)), (8, 4, (4, 1)), (16, 4, (4, 2)), (32, 2, (2, 4)),
    ],
)  # fmt: skip
def test_the_smallest_map_follows_the_images(size, smallest, expected):
    (height, width), depth = pyramid((size, size, 1), smallest, "net")
    assert (height, depth) == expected
    assert width == height


def test_images_that_are_not_square_are_small_where_both_sides_are():
    assert pyramid((8, 16, 3), None, "net") == ((2, 4), 2)
    assert pyramid((8, 24, 3), None, "net") == ((4, 12), 1)


@pytest.mark.parametrize(
    ("size", "fields", "units"),
    [
        (28, {}, 256),  # down to 7x7
        (14, {}, 256),
        (20, {"dense_units": 12}, 12),
        (28, {"dense_units": 0}, 0),
        (8, {}, 0),
        (16, {}, 0),
        (16, {"smallest": 4}, 0),
        (12, {"smallest": 5}, 256),  # down to 6x6
        (32, {}, 0),
        (28, {"network": "mlp", "hidden": (3,)}, 0),
    ],
)
def test_the_vaes_dense_layer_follows_the_maps(size, fields, units):
    """Next to z on both sides: the only matrices with so many columns, or rows, and latents on the other side."""
    config = vae.Config(**({"features": 2} if "network" not in fields else {}), **fields, latent_dim=5)
    params = jax.eval_shape(vae.make(config, spec(size)).init, jax.random.key(0)).params
    shapes = {
        side: [leaf.shape for leaf in jax.tree.leaves(params[side]) if leaf.ndim == 2]
        for side in ("encoder", "decoder")
    }
    if units:
        assert shapes["encoder"].count((units, 5)) == 2  # mean and log-variance
        assert (5, units) in shapes["decoder"]
    else:
        assert not any(256 in shape for side in shapes.values() for shape in side)


@pytest.mark.parametrize("module", [autoencoder, cgan, dcgan, infogan, mggan, vae, vaegan])
def test_every_model_of_maps_has_the_default(module):
    """Parameters at 16 pixels are those of smallest 2, and not of 4; at 32 pixels those of 4."""

    def sizes(size, smallest):
        config = dataclasses.replace(module.Config(features=2), smallest=smallest)
        params = jax.eval_shape(module.make(config, spec(size)).init, jax.random.key(0)).params
        return [leaf.shape for leaf in jax.tree.leaves(params)]

    assert sizes(16, None) == sizes(16, 2) != sizes(16, 4)
    assert sizes(32, None) == sizes(32, 4) != sizes(32, 2)
    with pytest.raises(UserError, match="smallest must be above 0"):
        sizes(16, 0)
