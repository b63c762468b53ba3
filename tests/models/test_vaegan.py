"""VAE/GAN: the players each loss trains, the losses written out, the equilibrium rule."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen import data
from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import vaegan
from tests.models.by_hand import anything, drawn_state
from tests.models.contract import Contract

CONTRACT = Contract({"features": 4, "smallest": 4, "latent_dim": 3}, prior="gaussian", encodes=True)

CONFIG = {"latent_dim": 3, "features": 2, "smallest": 2, "gamma": 0.25}
PLAYERS = ("encoder", "decoder", "discriminator")
TAUGHT = {
    "prior": {"encoder": 1},
    "similarity": {"encoder": 1, "decoder": 0.25},
    "gan": {"decoder": -0.75, "discriminator": 1},
}
REACHED = {"prior": ("encoder",), "similarity": PLAYERS, "gan": PLAYERS}


def spec(size=8):
    image = jax.ShapeDtypeStruct((size, size, 1), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((size, size, 1), 0.3))


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    return {"image": images, "weight": np.ones(8, np.float32)}


@pytest.fixture(scope="module")
def x(batch):
    return jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def play():
    """The players' turns, compiled."""
    play = vaegan.players(vaegan.Config(**CONFIG), spec())
    return play._replace(gradients=jax.jit(play.gradients), move=jax.jit(play.move))


@pytest.fixture(scope="module")
def state(play):
    return drawn_state(play.init)


@pytest.fixture(scope="module")
def whole(play, state, x):
    """Gradients of every loss by every player's parameters, without routing: {player: leaves [losses, ...]}."""

    def losses(params):
        values = play.losses(params, jax.random.key(1), state.extra, x)[0]
        return jnp.stack([values[name] for name in TAUGHT])

    return jax.device_get(jax.jit(jax.jacrev(losses))(state.params))


def zero(tree):
    """Tells for each leaf whether it is all zeros."""
    return [not np.asarray(leaf).any() for leaf in jax.tree.leaves(tree)]


def test_losses_reach_players_that_they_must_not_teach(whole):
    """The similarity would train the discriminator, and L_GAN the encoder, without routing."""
    for i, (name, reached) in enumerate(REACHED.items()):
        of = {player: jax.tree.map(lambda leaf, i=i: leaf[i], whole[player]) for player in PLAYERS}
        assert {player for player in PLAYERS if not all(zero(of[player]))} == set(reached), name


@pytest.mark.parametrize("name", TAUGHT)
def test_whom_a_loss_teaches(name, play, state, x, whole):
    """One loss alone gives a player exactly zero, or the loss's gradient times its weight, which is nonzero."""
    rows = {p: {n: w * (n == name) for n, w in row.items()} for p, row in vaegan.routing(0.25).items()}
    only = play.gradients(jax.random.key(1), state, x, rows)[0]
    for player in PLAYERS:
        weight = TAUGHT[name].get(player)
        if weight is None:
            assert all(zero(only[player]))
            continue
        assert not all(zero(only[player]))
        expected = jax.tree.map(lambda leaf, w=weight: w * leaf[list(TAUGHT).index(name)], whole[player])
        check_close(only[player], expected)


def check_close(found, expected):
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * largest), found, expected)


def test_a_step_descends_for_each_player_the_losses_that_teach_it(state, batch, whole):
    """RMSProp's first average of squares is a tenth of the squared gradient, written out here by algorithm 1."""
    model = vaegan.make(vaegan.Config(**CONFIG, moves="all"), spec())
    after, _ = jax.device_get(jax.jit(model.phases[0].step)(jax.random.key(1), state, batch))
    rows = {"encoder": (1, 1, 0), "decoder": (0, 0.25, -0.75), "discriminator": (0, 0, 1)}
    for player, weights in rows.items():
        expected = jax.tree.map(
            lambda leaf, w=weights: np.abs(w[0] * leaf[0] + w[1] * leaf[1] + w[2] * leaf[2]), whole[player]
        )
        (squares,) = (part.nu for part in after.opt_state[player] if hasattr(part, "nu"))
        check_close(jax.tree.map(lambda nu: np.sqrt(10 * nu), squares), expected)
    # Running averages: a tenth of the way from 0 to the means over all inputs of a network; Dis has none.
    kernel = np.asarray(state.params["encoder"]["Conv_0"]["kernel"], np.float64)
    padded = np.pad(batch["image"] / 127.5 - 1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2, 0]
    mean = np.einsum("bpquv,uvo->o", windows, kernel[:, :, 0]) / (8 * 16)
    np.testing.assert_allclose(after.extra["encoder"]["BatchNorm_0"]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    assert after.extra["discriminator"] == {}


@pytest.mark.parametrize("player", ["decoder", "discriminator"])
def test_a_player_that_is_held_stays_as_it_is_and_the_others_move(player, play, state, x):
    gradients = play.gradients(jax.random.key(1), state, x, vaegan.routing(0.25))[0]
    halves = {"decoder": (2.0, 0.7), "discriminator": (0.7, 0.1)}[player]
    after, moves = play.move(state, gradients, dict(zip(("real", "fake"), map(jnp.float32, halves), strict=True)))
    for other in PLAYERS:
        before, now = ((s.params[other], s.opt_state[other]) for s in (state, after))
        same = zero(jax.tree.map(lambda a, b: a != b, before, now))
        assert bool(moves[other]) == (other != player)
        assert all(same) if other == player else not any(same)


# Map from Dis's losses on real and generated images to whether decoder and discriminator move; bounds .33 and 1.03.
TABLE = {
    (0.69, 0.69): (True, True),
    (0.34, 1.02): (True, True),
    (0.32, 0.69): (True, False),  # the discriminator is ahead
    (0.69, 0.32): (True, False),
    (0.10, 0.10): (True, False),
    (1.04, 0.69): (False, True),  # the decoder is ahead
    (0.69, 1.04): (False, True),
    (2.00, 2.00): (False, True),
    (0.32, 1.04): (True, True),  # neither would be moved
    (1.04, 0.32): (True, True),
}


@pytest.mark.parametrize("halves", TABLE)
def test_the_equilibrium_rule(halves):
    moves = vaegan.equilibrium(*map(jnp.float32, halves))
    assert moves["encoder"]
    assert (bool(moves["decoder"]), bool(moves["discriminator"])) == TABLE[halves]


@pytest.fixture(scope="module")
def passing(state):
    """Map from player to its network in training mode, compiled."""
    config = vaegan.Config(**CONFIG)
    nets = {
        "encoder": vaegan.Encoder(config, 2, np.float32),
        "decoder": vaegan.Decoder(config, (8, 8, 1), np.float32),
        "discriminator": vaegan.Discriminator(config, 2, np.float32),
    }

    def of(player):
        variables = {"params": state.params[player], "batch_stats": state.extra[player]}
        return jax.jit(lambda given: nets[player].apply(variables, given, training=True, mutable=["batch_stats"])[0])

    return {player: of(player) for player in PLAYERS}


@pytest.mark.parametrize("sees", ["both", "prior"])
def test_losses_equal_scipy(sees, state, x, passing):
    """Losses from the networks' outputs, image by image in Dis: KL, the Gaussian in Dis_l, cross-entropies."""
    config = vaegan.Config(**CONFIG, discriminator_sees=sees)
    losses, size, key = jax.jit(vaegan.players(config, spec()).losses), len(x), jax.random.key(5)
    values, (halves, _) = losses(state.params, key, state.extra, x)
    mean, log_variance = passing["encoder"](x)
    mean, variance = np.asarray(mean, np.float64), np.exp(np.asarray(log_variance, np.float64))
    kl = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(1)
    np.testing.assert_allclose(values["prior"], kl.mean(), rtol=1e-4)
    k_posterior, k_prior = jax.random.split(key)
    z = mean + np.sqrt(variance) * np.asarray(jax.random.normal(k_posterior, mean.shape))
    z = np.concatenate([z, jax.random.normal(k_prior, mean.shape)]).astype(np.float32)
    alone = [passing["discriminator"](image[None]) for image in (*x, *passing["decoder"](z))]
    logits, hidden = (np.concatenate(each).astype(np.float64) for each in zip(*alone, strict=True))
    similarity = -scipy.stats.norm.logpdf(hidden[:size], hidden[size : 2 * size]).sum((1, 2, 3))
    np.testing.assert_allclose(values["similarity"], similarity.mean(), rtol=1e-4)
    real = -np.log(scipy.special.expit(logits[:size])).mean()
    fake = -np.log(scipy.special.expit(-logits[size if sees == "both" else 2 * size :])).mean()
    np.testing.assert_allclose([halves["real"], halves["fake"]], [real, fake], rtol=1e-4)
    np.testing.assert_allclose(values["gan"], real + fake, rtol=1e-4)


def test_codes_are_of_one_image_alone(state, batch, x):
    """The encoder uses the running averages, so an image's code does not depend on the others in its batch."""
    averages = jax.tree.map(np.abs, anything(state.extra["encoder"], seed=3))
    state = state._replace(extra={**state.extra, "encoder": averages})
    encode = jax.jit(vaegan.make(vaegan.Config(**CONFIG), spec()).latents.encode)
    codes = encode(state, batch)
    net = vaegan.Encoder(vaegan.Config(**CONFIG), 2, np.float32)
    expected, _ = net.apply({"params": state.params["encoder"], "batch_stats": averages}, x, training=False)
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)
    others = np.concatenate([batch["image"][:1], 255 - batch["image"][1:]])
    np.testing.assert_array_equal(encode(state, {"image": others})[0], codes[0])


def test_images_that_cannot_be_halved_and_a_gamma_that_is_no_share():
    with pytest.raises(UserError, match="vaegan cannot make images of 9x9"):
        vaegan.make(vaegan.Config(), spec(9))
    with pytest.raises(UserError, match=r"gamma must be at least 0 and below 1, not 1\.0"):
        vaegan.make(vaegan.Config(gamma=1.0), spec())


@pytest.mark.slow
def test_one_batch_is_reconstructed_and_deceives():
    """The error on Dis's features, which is trained, halves for 16 digits; the pixels' falls; Dis is kept uncertain."""
    dataset = data.load("digits")
    model = vaegan.make(
        vaegan.Config(latent_dim=8, features=8, smallest=2, gamma=0.5, learning_rate=2e-3), dataset.spec
    )
    batch = {"image": dataset.train["image"][:16]}
    step = model.phases[0].step

    @jax.jit
    def found(state):
        made = model.latents.decode(state, model.latents.encode(state, batch), {})["image"]
        metrics = step(jax.random.key(3), state, batch)[1]
        features = metrics["similarity"] - 64 / 2 * math.log(2 * math.pi)  # 2x2x16 features of variance 1
        return ((made - batch["image"] / 255.0) ** 2).mean(), features, metrics

    @jax.jit
    def fit(state):
        def take(i, state):
            return step(jax.random.fold_in(jax.random.key(2), i), state, batch)[0]._replace(step=state.step + 1)

        return jax.lax.fori_loop(0, 200, take, state)

    state = jax.jit(model.init)(jax.random.key(0))
    pixels, features, _ = found(state)
    pixels_after, features_after, metrics = found(fit(state))
    assert 0 < features_after < features / 2
    assert pixels_after < pixels
    assert 0.1 < max(metrics["real_loss"], metrics["fake_loss"]) < 3
