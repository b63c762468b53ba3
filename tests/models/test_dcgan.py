"""DCGAN: whose parameters a turn moves, its losses, its normalisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.adversarial import LOSSES
from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import dcgan
from jaxgen.nn.spectral import spectrally_normalised


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


TINY = {"latent_dim": 3, "features": 2, "smallest": 2}
GAMES = {
    "minimax": {"loss": "minimax"},
    "non_saturating": {"loss": "non_saturating"},
    "least_squares": {"loss": "least_squares"},
    "hinge": {"loss": "hinge", "spectral_norm": True, "normalization": "none"},
    "wasserstein": {"loss": "wasserstein", "penalty": "gradient", "normalization": "layer"},
    "r1": {"loss": "non_saturating", "penalty": "r1", "normalization": "none", "average": 0.9},
}


@pytest.fixture(scope="module")
def small():
    images = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    return {"image": images, "weight": np.ones(8, np.float32)}


def signed(batch):
    return jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1


@pytest.mark.parametrize("name", GAMES)
def test_each_turn_moves_its_own_player_only(name, small):
    play = dcgan.players(dcgan.Config(**TINY, **GAMES[name]), spec(8))
    state = play.init(jax.random.key(0), small)
    fake, pullback, _ = play.generate(jax.random.key(1), state, 8)
    after, _ = play.discriminator_turn(jax.random.key(2), state, signed(small), fake)
    old, new = ({**s.params["discriminator"]} for s in (state, after))
    if name in ("hinge", "wasserstein"):  # they see differences of logits, so the last bias has no gradient
        old["Dense_0"], new["Dense_0"] = old["Dense_0"]["kernel"], new["Dense_0"]["kernel"]
    assert all(changed(old, new))
    assert not any(changed(state.params["generator"], after.params["generator"]))
    assert not any(changed(state.opt_state["generator"], after.opt_state["generator"]))
    assert not any(changed(state.extra["generator"], after.extra["generator"]))
    assert not any(changed(state.extra.get("average"), after.extra.get("average")))
    assert all(changed(state.extra["discriminator"], after.extra["discriminator"]))
    if name == "hinge":  # the last layer's unit vector has one component: 1 or -1
        assert changed(state.extra["vectors"], after.extra["vectors"]) == [True, True, False]

    later, _ = play.generator_turn(after, fake, pullback)
    assert all(changed(after.params["generator"], later.params["generator"]))
    assert not any(changed(after.params["discriminator"], later.params["discriminator"]))
    assert not any(changed(after.opt_state["discriminator"], later.opt_state["discriminator"]))
    assert not any(changed(after.extra, later.extra))


@pytest.mark.parametrize("name", GAMES)
def test_turns_descend_the_games_losses(name, small):
    """Each turn's gradient is that of the loss, written out with D's modules; Adam's first moment is a half of it."""
    config = dcgan.Config(**TINY, **GAMES[name])
    play, net = dcgan.players(config, spec(8)), dcgan.Discriminator(config, 2, np.float32)
    state, real = play.init(jax.random.key(0), small), signed(small)
    fake, _, _ = play.generate(jax.random.key(1), state, 8)
    key = jax.random.key(2)

    def logits(params, x):
        if config.spectral_norm:
            params = spectrally_normalised(params, state.extra["vectors"])[0]
        variables = {"params": params, "batch_stats": state.extra["discriminator"]}
        return net.apply(variables, x, training=True, mutable=["batch_stats"])[0]

    def penalty(params):
        if name == "wasserstein":
            e = jax.random.uniform(key, (8, 1, 1, 1))
            gradients = jax.grad(lambda x: logits(params, x).sum())(e * real + (1 - e) * fake)
            return ((jnp.sqrt((gradients**2).sum((1, 2, 3))) - 1) ** 2).mean()
        if name == "r1":
            return (jax.grad(lambda x: logits(params, x).sum())(real) ** 2).sum((1, 2, 3)).mean() / 2
        return 0.0

    def d_loss(params):
        return LOSSES[config.loss].discriminator(logits(params, real), logits(params, fake)).mean()

    after, metrics = play.discriminator_turn(key, state, real, fake)
    expected = jax.grad(lambda params: d_loss(params) + 10 * penalty(params))(state.params["discriminator"])
    jax.tree.map(
        lambda moment, g: np.testing.assert_allclose(moment, g / 2, rtol=1e-3, atol=1e-5 * float(jnp.abs(g).max())),
        after.opt_state["discriminator"][0].mu,
        expected,
    )
    np.testing.assert_allclose(metrics["discriminator_loss"], d_loss(state.params["discriminator"]), rtol=1e-5)
    output = LOSSES[config.loss].output
    np.testing.assert_allclose(
        metrics["real_score"], output(logits(state.params["discriminator"], real)).mean(), rtol=1e-4, atol=1e-6
    )
    assert ("penalty" in metrics) == (config.penalty != "none")
    if config.penalty != "none":
        np.testing.assert_allclose(metrics["penalty"], penalty(state.params["discriminator"]), rtol=1e-5)

    def g_loss(x):
        return LOSSES[config.loss].generator(logits(state.params["discriminator"], x)).mean()

    value, cotangent = play.generator_loss(state, fake)
    np.testing.assert_allclose(value, g_loss(fake), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(cotangent, jax.grad(g_loss)(fake), rtol=1e-4, atol=1e-7)


def test_a_step_divides_its_batch_among_the_discriminators_turns(small):
    """Algorithm 1: each turn of D with its own quarter and noise, all with one G; then G's, with the last noise."""
    config = dcgan.Config(**TINY, critic_steps=4, average=0.75, normalization="layer", penalty="gradient")
    model, play = dcgan.make(config, spec(8)), dcgan.players(config, spec(8))
    assert model.batch_parts == 4
    state, key = play.init(jax.random.key(0), small), jax.random.key(5)
    after, metrics = model.phases[0].step(key, state, small)
    jax.tree.map(np.testing.assert_array_equal, model.phases[0].step(key, state, small)[0], after)

    expected = state
    keys = jax.random.split(key, (4, 2))
    for part, (k_noise, k_penalty) in zip(signed(small).reshape(4, 2, 8, 8, 1), keys, strict=True):
        fake, pullback, averages = play.generate(k_noise, state, 2)
        expected, turn = play.discriminator_turn(k_penalty, expected, part, fake)
    expected, _ = play.generator_turn(expected, fake, pullback)
    for player in ("generator", "discriminator"):
        assert int(after.opt_state[player][0].count) == {"generator": 1, "discriminator": 4}[player]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * float(jnp.abs(b).max())),
            after.opt_state[player][0].mu,
            expected.opt_state[player][0].mu,
        )
    np.testing.assert_allclose(metrics["penalty"], turn["penalty"], rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after.extra["generator"], averages)

    # The averaged G: a quarter of the way from the initial one to the new, its running averages too.
    for part, old, new in (
        ("params", state.params, after.params),
        ("batch_stats", state.extra, after.extra),
    ):
        jax.tree.map(
            lambda a, b, c: np.testing.assert_allclose(a, 0.75 * b + 0.25 * c, rtol=1e-5, atol=1e-7),
            after.extra["average"][part],
            old["generator"],
            new["generator"],
        )
    average = after.extra["average"]
    plain = dcgan.make(dcgan.Config(**TINY), spec(8))
    as_newest = after._replace(params={"generator": average["params"]}, extra={"generator": average["batch_stats"]})
    samples = model.sample(jax.random.key(1), after, 16)["image"]
    np.testing.assert_array_equal(samples, plain.sample(jax.random.key(1), as_newest, 16)["image"])
    assert (model.sampling, plain.sampling) == (
        "the averaged " + plain.sampling,
        "G(z) with BatchNorm's running averages",
    )


def test_with_spectral_norm_the_scale_of_kernels_does_not_matter(small):
    config = dcgan.Config(**TINY, spectral_norm=True, normalization="none")
    play = dcgan.players(config, spec(8))
    state = play.init(jax.random.key(0), small)
    fake, _, _ = play.generate(jax.random.key(1), state, 8)
    scaled = jax.tree.map(lambda p: 7 * p if p.ndim > 1 else p, state.params["discriminator"])
    scaled = state._replace(params={**state.params, "discriminator": scaled})
    (after, metrics), (other, expected) = (
        play.discriminator_turn(jax.random.key(2), s, signed(small), fake) for s in (scaled, state)
    )
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(after.extra["vectors"]), jax.tree.leaves(other.extra["vectors"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # One step of the iteration from the turn's own parameters, whatever passes through D.
    once = spectrally_normalised(state.params["discriminator"], state.extra["vectors"])[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), other.extra["vectors"], once)


def test_layer_norm_is_of_each_image_alone(small):
    config = dcgan.Config(**TINY, normalization="layer")
    net, play = dcgan.Discriminator(config, 2, np.float32), dcgan.players(config, spec(8))
    params = play.init(jax.random.key(0), small).params["discriminator"]
    both = net.apply({"params": params}, signed(small), training=True)
    alone = net.apply({"params": params}, signed(small)[:1], training=True)
    np.testing.assert_allclose(alone[0], both[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"loss": "wasserstein"}, "loss wasserstein takes penalty gradient or spectral_norm"),
        ({"loss": "wasserstein", "penalty": "r1", "normalization": "none"}, "loss wasserstein takes penalty gradient"),
        ({"penalty": "gradient"}, "penalty gradient takes normalization layer or none"),
        ({"penalty": "r1"}, "penalty r1 takes normalization layer or none"),
        ({"spectral_norm": True}, "spectral_norm takes normalization none"),
        ({"spectral_norm": True, "normalization": "layer"}, "spectral_norm takes normalization none"),
        ({"critic_steps": 0}, "critic_steps must be above 0"),
        ({"penalty_weight": 0.0}, "penalty_weight must be above 0"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
    ],
)
def test_what_does_not_go_together(fields, words):
    with pytest.raises(UserError, match=words):
        dcgan.make(dcgan.Config(**fields), spec(16))


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
    ((k_noise, k_penalty),) = jax.random.split(key, (1, 2))
    fake, pullback, averages = players.generate(k_noise, state, 16)
    expected, d_metrics = players.discriminator_turn(k_penalty, state, signed(batch), fake)
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
    assert not np.isclose(early_metrics["generator_loss"], metrics["generator_loss"], rtol=2e-5, atol=0)
    assert all(changed(state.extra["generator"], after.extra["generator"]))


def test_running_averages_pass_from_real_to_fake(players, batch):
    """momentum .9: after the turn, D's average is .81 old + .09 real's + .1 fake's statistics."""
    state = players.init(jax.random.key(0), batch)
    real = signed(batch)
    fake, _, _ = players.generate(jax.random.key(1), state, 16)
    after, _ = players.discriminator_turn(jax.random.key(2), state, real, fake)

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
