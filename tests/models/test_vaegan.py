"""VAE/GAN: whom each loss teaches, the losses written out, the equilibrium rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import vaegan

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
def game(batch, x):
    """(the players, a state, what `gradients` gives of it, every loss's gradient with respect to all players)."""
    play = vaegan.players(vaegan.Config(**CONFIG), spec())
    state = jax.jit(play.init)(jax.random.key(0), batch)
    found = jax.jit(play.gradients)(jax.random.key(1), state, x)

    def of(name):
        return jax.jit(jax.grad(lambda p: play.losses(p, jax.random.key(1), state.extra, x)[0][name]))(state.params)

    return play, state, found, {name: of(name) for name in TAUGHT}


def norm(tree):
    return float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(tree)))


def test_losses_reach_players_that_they_must_not_teach(game):
    """Without routing, the similarity would teach the discriminator and the game the encoder."""
    for name, by in game[3].items():
        assert {player for player in PLAYERS if norm(by[player]) > 0} == set(REACHED[name])


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("player", PLAYERS)
def test_whom_a_loss_teaches(name, player, game, x, monkeypatch):
    """With the other losses left out: exactly zero, or the loss's gradient times its weight, not zero in any leaf."""
    rows = {p: {n: w * (n == name) for n, w in row.items()} for p, row in vaegan.routing(0.25).items()}
    monkeypatch.setattr(vaegan, "routing", lambda gamma: rows)
    play = vaegan.players(vaegan.Config(**CONFIG), spec())
    only = jax.jit(play.gradients)(jax.random.key(1), game[1], x)[0][player]
    weight = TAUGHT[name].get(player)
    if weight is None:
        assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(only))
        return
    full = game[3][name][player]
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(full)) or name == "similarity"
    jax.tree.map(
        lambda g, whole: np.testing.assert_allclose(g, weight * whole, rtol=1e-4, atol=1e-5 * norm(full)), only, full
    )


def test_players_descend_the_sums_of_the_losses_that_teach_them(game):
    """RMSProp's first average of squares is a tenth of the gradient's, here written out; others' are as they were."""
    play, state, (gradients, _, halves, _), of = game
    after, _ = jax.jit(play.move)(state, gradients, halves)
    expected = {
        "encoder": jax.tree.map(lambda a, b: a + b, of["prior"]["encoder"], of["similarity"]["encoder"]),
        "decoder": jax.tree.map(lambda a, b: 0.25 * a - 0.75 * b, of["similarity"]["decoder"], of["gan"]["decoder"]),
        "discriminator": of["gan"]["discriminator"],
    }
    for player in PLAYERS:
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[player]))
        (squares,) = (part.nu for part in jax.tree.leaves(after.opt_state[player], is_leaf=is_rms) if is_rms(part))
        jax.tree.map(
            lambda nu, g, largest=largest: np.testing.assert_allclose(
                np.sqrt(10 * nu), jnp.abs(g), rtol=1e-3, atol=1e-4 * largest
            ),
            squares,
            expected[player],
        )


def is_rms(part):
    return hasattr(part, "nu")


@pytest.mark.parametrize("player", ["decoder", "discriminator"])
def test_a_player_that_is_held_stays_as_it_is_and_the_others_move(player, game):
    """By halves of L_GAN that hold it."""
    play, state, (gradients, *_), _ = game
    halves = {"decoder": (2.0, 0.7), "discriminator": (0.7, 0.1)}[player]
    after, moves = jax.jit(play.move)(
        state, gradients, dict(zip(("real", "fake"), map(jnp.float32, halves), strict=True))
    )
    for other in PLAYERS:
        pairs = [
            (np.asarray(a), np.asarray(b))
            for a, b in zip(
                *(jax.tree.leaves((s.params[other], s.opt_state[other])) for s in (state, after)), strict=True
            )
        ]
        assert bool(moves[other]) == (other != player)
        if other == player:
            assert all((a == b).all() for a, b in pairs)
        else:
            assert any((a != b).any() for a, b in pairs)


# Losses of Dis on real and generated images -> whether decoder and discriminator are moved; bounds .33 and 1.03.
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
    moves = vaegan.turns(*map(jnp.float32, halves))
    assert moves["encoder"]
    assert (bool(moves["decoder"]), bool(moves["discriminator"])) == TABLE[halves]


def test_without_the_rule_all_players_move(game, batch):
    play = vaegan.players(vaegan.Config(**CONFIG, equilibrium=False), spec())
    _, moves = play.move(game[1], game[2][0], {"real": jnp.float32(0), "fake": jnp.float32(0)})
    assert all(moves[player] for player in PLAYERS)


@pytest.mark.parametrize("sees", ["both", "prior"])
def test_losses_equal_scipy(sees, batch, x):
    """From the nets' outputs, one image at a time where no BatchNorm is: KL, the Gaussian in Dis_l, cross-entropies."""
    config = vaegan.Config(**CONFIG, discriminator_sees=sees)
    play, size = vaegan.players(config, spec()), len(x)
    state = jax.jit(play.init)(jax.random.key(0), batch)
    key = jax.random.key(5)
    values, (halves, _) = jax.jit(play.losses)(state.params, key, state.extra, x)

    def passed(net, player, given):
        variables = {"params": state.params[player], "batch_stats": state.extra[player]}
        return net.apply(variables, given, training=True, mutable=["batch_stats"])[0]

    mean, log_variance = passed(vaegan.Encoder(config, 2, np.float32), "encoder", x)
    mean, variance = np.asarray(mean, np.float64), np.exp(np.asarray(log_variance, np.float64))
    kl = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(1)
    np.testing.assert_allclose(values["prior"], kl.mean(), rtol=1e-4)
    k_posterior, k_prior = jax.random.split(key)
    z = mean + np.sqrt(variance) * np.asarray(jax.random.normal(k_posterior, mean.shape))
    z = np.concatenate([z, jax.random.normal(k_prior, mean.shape)]).astype(np.float32)
    made = passed(vaegan.Decoder(config, (8, 8, 1), np.float32), "decoder", z)
    net = vaegan.Discriminator(config, 2, np.float32)
    logits, hidden = zip(*(passed(net, "discriminator", image[None]) for image in (*x, *made)), strict=True)
    logits, hidden = np.concatenate(logits).astype(np.float64), np.concatenate(hidden)
    similarity = -scipy.stats.norm.logpdf(hidden[:size], hidden[size : 2 * size]).sum((1, 2, 3))
    np.testing.assert_allclose(values["similarity"], similarity.mean(), rtol=1e-4)
    real = -np.log(scipy.special.expit(logits[:size])).mean()
    fake = -np.log(scipy.special.expit(-logits[size if sees == "both" else 2 * size :])).mean()
    np.testing.assert_allclose([halves["real"], halves["fake"]], [real, fake], rtol=1e-4)
    np.testing.assert_allclose(values["gan"], real + fake, rtol=1e-4)


def test_a_step_moves_the_running_averages_by_one_pass_each(game, batch):
    """A tenth of the way from 0 to the means over all that a net was given; the discriminator has none."""
    _, state, (_, _, _, moved), _ = game
    after, _ = jax.jit(vaegan.make(vaegan.Config(**CONFIG), spec()).phases[0].step)(jax.random.key(1), state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.extra, moved)
    kernel = np.asarray(state.params["encoder"]["Conv_0"]["kernel"], np.float64)
    padded = np.pad(batch["image"] / 127.5 - 1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2, 0]
    mean = np.einsum("bpquv,uvo->o", windows, kernel[:, :, 0]) / (8 * 16)
    np.testing.assert_allclose(after.extra["encoder"]["BatchNorm_0"]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    assert after.extra["discriminator"] == {}


def test_images_that_cannot_be_halved_and_a_gamma_that_is_no_share():
    with pytest.raises(UserError, match="vaegan cannot make images of 9x9"):
        vaegan.make(vaegan.Config(), spec(9))
    with pytest.raises(UserError, match=r"gamma must be at least 0 and below 1, not 1\.0"):
        vaegan.make(vaegan.Config(gamma=1.0), spec())
