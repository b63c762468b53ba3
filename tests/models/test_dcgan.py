"""DCGAN: its networks, weights and optimizers. Its turns and step are tested in tests/adversarial."""

import jax
import numpy as np
import pytest
from optax.tree_utils import tree_get

from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import dcgan
from jaxgen.nn.optimizer import descend
from tests.models.by_hand import anything
from tests.models.contract import Contract

CONTRACT = Contract({"features": 4, "smallest": 4, "latent_dim": 5}, prior="uniform")


def spec(size=8, channels=1):
    image = jax.ShapeDtypeStruct((size, size, channels), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((size, size, channels), 0.3))


CONFIG = dcgan.Config(latent_dim=6, features=4)


def test_layer_norm_is_of_each_image_alone():
    config = dcgan.Config(latent_dim=3, features=2, smallest=2, normalization="layer")
    net, images = dcgan.Discriminator(config, 2, np.float32), np.random.default_rng(1).normal(size=(8, 8, 8, 1))
    images = images.astype(np.float32)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), images, training=False))
    logits = jax.jit(lambda x: net.apply({"params": anything(shapes["params"])}, x, training=True))
    others = np.concatenate([images[:1], 2 * images[1:] + 1])
    np.testing.assert_allclose(logits(others)[0], logits(images)[0], rtol=1e-5)
    assert not np.allclose(logits(others)[1:], logits(images)[1:], rtol=1e-2)


def test_the_decay_of_weights_is_added_to_the_gradient():
    """Adam's first moment after one step is half the gradient plus half of l2 times the weight."""
    optimizer = dcgan.optimizers(dcgan.Config(l2=0.25))["generator"]
    weights, gradients = np.float32([1.0, -2.0]), np.float32([0.5, 0.5])
    _, state = descend(optimizer, gradients, optimizer.init(weights), weights)
    np.testing.assert_allclose(tree_get(state, "mu"), [(0.5 + 0.25) / 2, (0.5 - 0.5) / 2], rtol=1e-6)


def test_each_player_has_its_rate():
    """Adam's first step has the size of the learning rate."""
    players = dcgan.optimizers(dcgan.Config(generator_learning_rate=0.03, discriminator_learning_rate=0.002))
    for player, rate in (("generator", 0.03), ("discriminator", 0.002)):
        moved, _ = descend(players[player], np.float32(5), players[player].init(np.float32(0)), np.float32(0))
        np.testing.assert_allclose(moved, -rate, rtol=1e-5)


def test_adam_has_the_betas_asked_for():
    """Adam's moments after one step from 0: (1 - beta1) g and (1 - beta2) g^2, of g = 5."""
    for optimizer in dcgan.optimizers(dcgan.Config(beta1=0.25, beta2=0.75)).values():
        _, state = descend(optimizer, np.float32(5), optimizer.init(np.float32(0)), np.float32(0))
        assert [float(tree_get(state, name)) for name in ("mu", "nu")] == [0.75 * 5, 0.25 * 25]


@pytest.mark.parametrize("side", [4, 5])
def test_kernels_have_the_side_asked_for(side):
    model = dcgan.make(dcgan.Config(latent_dim=3, features=2, kernel=side), spec(16))
    params = jax.eval_shape(model.init, jax.random.key(0)).params
    sides = {leaf.shape[:2] for leaf in jax.tree.leaves(params) if leaf.ndim == 4}
    assert sides == {(side, side)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"smallest": 8}, "smallest must be at most 7, as maps come down to under 8 a side, not 8"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
        ({"l2": -1.0}, "l2 must be at least 0"),
        ({"latent_dim": 0}, "latent_dim must be above 0"),
    ],
)
def test_values_that_cannot_be_run(fields, words):
    with pytest.raises(UserError, match=words):
        dcgan.make(dcgan.Config(**fields), spec(16))


@pytest.mark.parametrize(("size", "depth"), [(8, 2), (16, 3), (28, 2), (32, 3), (64, 4), (128, 5)])
def test_depth_follows_the_image_size(size, depth):
    model = dcgan.make(dcgan.Config(latent_dim=3, features=2), spec(size, 3))
    state = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(name.startswith("Conv_") for name in state.params["discriminator"]) == depth
    smallest = state.params["generator"]["Dense_0"]["kernel"].shape[1]
    assert smallest == (size >> depth) ** 2 * 2 * 2 ** (depth - 1)
    image = jax.eval_shape(lambda s: model.sampler.draw(jax.random.key(1), s, 4, {}), state)["image"]
    assert (image.shape, image.dtype) == ((4, size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [2, 7, 9, 18, 30, 36])
def test_sizes_that_do_not_halve(size):
    with pytest.raises(UserError, match=f"{size}x{size}"):
        dcgan.make(CONFIG, spec(size))


def test_initial_weights_are_the_papers():
    model = dcgan.make(dcgan.Config(features=32), spec(16))
    params = jax.jit(model.init)(jax.random.key(0)).params
    kernel = np.asarray(params["generator"]["Dense_0"]["kernel"])
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
    gains = np.concatenate([np.asarray(params["generator"][f"BatchNorm_{i}"]["scale"]) for i in (0, 1)])
    assert abs(gains.mean() - 1) < 0.01
    assert 0.012 < gains.std() < 0.028
    assert "bias" not in params["discriminator"]["Conv_1"]  # followed by BatchNorm


def test_prior_is_uniform():
    z = np.asarray(dcgan.draw_prior(CONFIG, jax.random.key(0), 20000))
    assert z.min() >= -1
    assert z.max() < 1
    assert abs(z.mean()) < 0.01
    assert z.var() == pytest.approx(1 / 3, rel=0.02)
