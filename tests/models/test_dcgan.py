"""DCGAN: whose parameters a turn moves, its losses, its normalisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.losses import discriminator_minimax, generator_non_saturating
from jaxgen.model import Spec
from jaxgen.models import dcgan


def spec(size=8, channels=1):
    image = jax.ShapeDtypeStruct((size, size, channels), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((size, size, channels), 0.3))


CONFIG = dcgan.Config(latent_dim=6, features=4)


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1), dtype=np.uint8)
    return {"image": images, "weight": np.ones(16, np.float32)}


@pytest.fixture(scope="module")
def players():
    """The players of 16-pixel images, compiled."""
    play = dcgan.players(CONFIG, spec(16))
    return play._replace(
        init=jax.jit(play.init),
        generate=jax.jit(play.generate, static_argnums=2),
        discriminator_turn=jax.jit(play.discriminator_turn),
        generator_loss=jax.jit(play.generator_loss),
        generator_turn=jax.jit(play.generator_turn),
    )


def changed(before, after):
    return [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]


def test_each_turn_moves_its_own_player_only(players, batch):
    state = players.init(jax.random.key(0), batch)
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    fake, pullback, _ = players.generate(jax.random.key(1), state, 16)
    after, _ = players.discriminator_turn(state, real, fake)
    assert all(changed(state.params["discriminator"], after.params["discriminator"]))
    assert not any(changed(state.params["generator"], after.params["generator"]))
    assert not any(changed(state.opt_state["generator"], after.opt_state["generator"]))
    assert not any(changed(state.extra["generator"], after.extra["generator"]))
    assert all(changed(state.extra["discriminator"], after.extra["discriminator"]))

    later, _ = players.generator_turn(after, fake, pullback)
    assert all(changed(after.params["generator"], later.params["generator"]))
    assert not any(changed(after.params["discriminator"], later.params["discriminator"]))
    assert not any(changed(after.opt_state["discriminator"], later.opt_state["discriminator"]))
    assert not any(changed(after.extra["discriminator"], later.extra["discriminator"]))


def test_generators_gradient_is_that_of_its_loss_through_the_updated_discriminator(players, batch):
    """The shared forward pass and its pullback give the same gradient as differentiating the loss whole."""
    state = players.init(jax.random.key(0), batch)
    z = players.prior(jax.random.key(1), 16)

    def loss(params):
        g, d = dcgan.Generator(CONFIG, (16, 16, 1), np.float32), dcgan.Discriminator(CONFIG, 2, np.float32)
        fake, _ = g.apply(
            {"params": params, "batch_stats": state.extra["generator"]}, z, training=True, mutable=["batch_stats"]
        )
        variables = {"params": state.params["discriminator"], "batch_stats": state.extra["discriminator"]}
        logits, _ = d.apply(variables, fake, training=True, mutable=["batch_stats"])
        return -nn.log_sigmoid(logits).mean()

    value, expected = jax.jit(jax.value_and_grad(loss))(state.params["generator"])
    fake, pullback, _ = players.generate(jax.random.key(1), state, 16)
    actual_value, cotangent = players.generator_loss(state, fake)
    np.testing.assert_allclose(actual_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), pullback(cotangent)[0], expected)


def test_a_step_is_both_turns_on_one_set_of_fakes(players, batch):
    """D first, then G past the D just updated; both networks' running averages move."""
    model = dcgan.make(CONFIG, spec(16))
    state = players.init(jax.random.key(0), batch)
    key = jax.random.key(4)
    after, metrics = jax.jit(model.phases[0].step)(key, state, batch)
    fake, pullback, averages = players.generate(key, state, 16)
    expected, d_metrics = players.discriminator_turn(state, jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1, fake)
    expected, g_metrics = players.generator_turn(expected, fake, pullback)
    expected = expected._replace(extra={**expected.extra, "generator": averages})
    # Adam's moments hold the gradients; the parameters' first step is but their signs, which rounding may flip.
    for part in ("opt_state", "extra"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
            getattr(after, part),
            getattr(expected, part),
        )
    assert all(changed(state.params, after.params))
    for name, value in {**d_metrics, **g_metrics}.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5)
    _, early_metrics = players.generator_turn(state, fake, pullback)
    assert abs(float(early_metrics["generator_loss"]) - float(metrics["generator_loss"])) > 1e-4
    assert all(changed(state.extra["generator"], after.extra["generator"]))


def test_losses_worked_by_hand():
    logits = np.array([-3.0, 0.0, 2.0])
    sigmoid = 1 / (1 + np.exp(-logits))
    d = discriminator_minimax(jnp.asarray(logits, jnp.float32), jnp.asarray(logits[::-1].copy(), jnp.float32))
    np.testing.assert_allclose(d, -np.log(sigmoid) - np.log(1 - sigmoid[::-1]), rtol=1e-5)
    np.testing.assert_allclose(generator_non_saturating(jnp.asarray(logits, jnp.float32)), -np.log(sigmoid), rtol=1e-5)
    assert float(generator_non_saturating(jnp.array([-1e4]))[0]) == pytest.approx(1e4)
    assert float(discriminator_minimax(jnp.array([1e4]), jnp.array([-1e4]))[0]) == 0


def test_running_averages_pass_from_real_to_fake(players, batch):
    """momentum .9: after the turn, D's average is .81 old + .09 real's + .1 fake's statistics."""
    state = players.init(jax.random.key(0), batch)
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    fake, _, _ = players.generate(jax.random.key(1), state, 16)
    after, _ = players.discriminator_turn(state, real, fake)

    from jaxgen.nn.conv import conv

    def before_norm(x):
        d = state.params["discriminator"]
        x = conv(x, d["Conv_0"]["kernel"], strides=(2, 2)) + d["Conv_0"]["bias"]
        x = conv(nn.leaky_relu(x, 0.2), d["Conv_1"]["kernel"], strides=(2, 2))
        return x.mean((0, 1, 2)), x.var((0, 1, 2))

    averages = after.extra["discriminator"]["BatchNorm_0"]
    (real_mean, real_var), (fake_mean, fake_var) = before_norm(real), before_norm(fake)
    np.testing.assert_allclose(averages["mean"], 0.09 * real_mean + 0.1 * fake_mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(averages["var"], 0.81 + 0.09 * real_var + 0.1 * fake_var, rtol=1e-4)


@pytest.mark.parametrize(("size", "depth"), [(8, 1), (16, 2), (28, 2), (32, 3), (64, 4), (128, 5)])
def test_depth_follows_the_image_size(size, depth):
    model = dcgan.make(dcgan.Config(latent_dim=3, features=2), spec(size, 3))
    batch = {"image": jax.ShapeDtypeStruct((4, size, size, 3), np.uint8)}
    state = jax.eval_shape(model.init, jax.random.key(0), batch)
    assert sum(name.startswith("Conv_") for name in state.params["discriminator"]) == depth
    smallest = state.params["generator"]["Dense_0"]["kernel"].shape[1]
    assert smallest == (size >> depth) ** 2 * 2 * 2 ** (depth - 1)
    image = jax.eval_shape(lambda s: model.sample(jax.random.key(1), s, 4, None), state)["image"]
    assert (image.shape, image.dtype) == ((4, size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [4, 7, 9, 18, 30, 36])
def test_sizes_that_do_not_halve(size):
    with pytest.raises(UserError, match=f"{size}x{size}"):
        dcgan.make(CONFIG, spec(size))


def test_initial_weights_are_the_papers(batch):
    model = dcgan.make(dcgan.Config(features=32), spec(16))
    params = jax.jit(model.init)(jax.random.key(0), batch).params
    kernel = np.asarray(params["generator"]["Dense_0"]["kernel"])
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
    gains = np.concatenate([np.asarray(params["generator"][f"BatchNorm_{i}"]["scale"]) for i in (0, 1)])
    assert abs(gains.mean() - 1) < 0.01
    assert 0.012 < gains.std() < 0.028
    assert "bias" not in params["discriminator"]["Conv_1"]  # BatchNorm follows


def test_prior_is_uniform():
    z = np.asarray(dcgan.players(CONFIG, spec(16)).prior(jax.random.key(0), 20000))
    assert z.min() >= -1
    assert z.max() < 1
    assert abs(z.mean()) < 0.01
    assert z.var() == pytest.approx(1 / 3, rel=0.02)
