"""Turns of the players of a GAN: the parameters each moves, its losses and penalties, its metrics.

Tested on tiny DCGANs, and on a linear G and a D with one hidden layer for features that a DCGAN lacks. The GANs'
steps, composed of turns, are tested in tests/adversarial/test_steps.py.
"""

import functools
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.tree_utils import tree_get

from jaxgen.adversarial.augmentation import augmented
from jaxgen.adversarial.losses import LOSSES
from jaxgen.adversarial.spectral import spectrally_normalized
from jaxgen.adversarial.turns import AdversarialConfig, Fakes, Judged, Nets, turns
from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import dcgan, gan
from jaxgen.nn.conv import conv
from tests.models.by_hand import drawn_state

SHAPE = (8, 8, 1)
SPEC = Spec({"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}, num_examples=64, mean=np.full(SHAPE, 0.3))
TINY = {"latent_dim": 3, "features": 2, "smallest": 2}
POLICY = ("cutout", "color")
GAMES = {
    "minimax, clipped": {"loss": "minimax", "clip": 0.01},
    "non_saturating": {"loss": "non_saturating"},
    "least_squares, joint": {"loss": "least_squares", "batches": "joint", "augment": ("color",), "consistency": 2.0},
    "hinge": {"loss": "hinge", "spectral_norm": True, "normalization": "none"},
    "wasserstein": {"loss": "wasserstein", "penalty": "one_centered", "normalization": "layer"},
    "one-centered on fakes": {"penalty": "one_centered", "penalty_at": "fake", "normalization": "none"},
    "r1": {"penalty": "zero_centered", "penalty_at": "real", "normalization": "none", "average": 0.9},
    "r2, consistent": {
        **{"penalty": "zero_centered", "penalty_at": "fake", "penalty_weight": 3.0, "normalization": "layer"},
        "consistency": 2.0,
    },
    "zero-centered between, augmented": {
        **{"loss": "wasserstein", "penalty": "zero_centered", "normalization": "none"},
        **{"augment": ("translation", *POLICY), "translation_ratio": 0.25, "cutout_probability": 0.5},
    },
}


@pytest.fixture(scope="module")
def batch():
    return images()


def images():
    drawn = np.random.default_rng(1).integers(0, 256, (8, *SHAPE), dtype=np.uint8)
    return {"image": drawn, "weight": np.ones(8, np.float32)}


def signed(batch):
    return jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1


def changed(before, after):
    return [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]


def close(actual, expected, rtol=1e-3):
    """Compares trees, each leaf up to rounding relative to its largest value."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5 * np.abs(b).max() + 1e-9),
        actual,
        expected,
    )


def moment(state, player):
    """Adam's first moment; after one step it is half the gradient, as beta1 is .5."""
    return tree_get(state.opt_state[player], "mu")


# The networks' modules in training mode, each compiled once for all games.


@jax.jit
def generated(params, averages, z):
    net = dcgan.Generator(dcgan.Config(**TINY), SHAPE, np.float32)
    return net.apply({"params": params, "batch_stats": averages}, z, training=True, mutable=["batch_stats"])[0]


@functools.partial(jax.jit, static_argnums=0)
def logits_of(normalization, params, averages, x):
    net = dcgan.Discriminator(dcgan.Config(**TINY, normalization=normalization), 2, np.float32)
    return net.apply({"params": params, "batch_stats": averages}, x, training=True, mutable=["batch_stats"])[0][:, 0]


seen = jax.jit(augmented, static_argnums=(2, 3, 4))
normalized = jax.jit(spectrally_normalized)


@functools.cache
def played(name):
    """Plays a game's turns on one batch, and computes the expected losses from the networks' modules."""
    config = dcgan.Config(**TINY, **GAMES[name])
    play = dcgan.players(config, SPEC)
    loss, joint = LOSSES[config.loss], config.batches == "joint"
    k_drawn, k_turn, k_generator = jax.random.split(jax.random.key(0), 3)

    def logits(params, extra, x):
        if config.spectral_norm:
            params = normalized(params, extra["vectors"])[0]
        return logits_of(config.normalization, params, extra["discriminator"], x)

    def both(params, extra, real, fake):
        if not joint:
            return logits(params, extra, real), logits(params, extra, fake)
        return jnp.split(logits(params, extra, jnp.concatenate([real, fake])), 2)

    def shown(key, real, fake):
        policy = config.augment, config.translation_ratio, config.cutout_probability
        return [seen(k, x, *policy) for k, x in zip(jax.random.split(key), (real, fake), strict=True)]

    def penalty(params, key, extra, real, fake):
        e = jax.random.uniform(key, (8, 1, 1, 1))
        at = {"real": real, "fake": fake, "between": e * real + (1 - e) * fake}[config.penalty_at]
        squares = (jax.grad(lambda x: logits(params, extra, x).sum())(at) ** 2).sum((1, 2, 3))
        return (squares / 2 if config.penalty == "zero_centered" else (jnp.sqrt(squares) - 1) ** 2).mean()

    def consistency(params, key, extra, real, fake):
        k_real, k_fake = jax.random.split(key)
        pairs = [(x, seen(k, x, ("translation",))) for k, x in ((k_real, real), (k_fake, fake))]
        return sum(((logits(params, extra, x) - logits(params, extra, y)) ** 2).mean() for x, y in pairs)

    def d_loss(params, extra, real, fake):
        k_shown, _, k_penalty, k_consistency, _ = jax.random.split(k_turn, 5)
        real, fake = shown(k_shown, real, fake)
        of_real, of_fake = both(params, extra, real, fake)
        parts = {"discriminator_loss": loss.discriminator(of_real, of_fake).mean()}
        parts |= {"real_score": loss.output(of_real).mean(), "fake_score": loss.output(of_fake).mean()}
        total = parts["discriminator_loss"]
        if config.penalty != "none":
            parts["penalty"] = penalty(params, k_penalty, extra, real, fake)
            total += config.penalty_weight * parts["penalty"]
        if config.consistency:
            parts["consistency"] = consistency(params, k_consistency, extra, real, fake)
            total += config.consistency * parts["consistency"]
        return total, parts

    def g_loss(params, state, z, real):
        fake = generated(params, state.extra["generator"], z)
        real, fake = shown(jax.random.split(k_generator, 3)[0], real, fake)
        return loss.generator(both(state.params["discriminator"], state.extra, real, fake)[1]).mean()

    @jax.jit
    def run(state, batch):
        fakes = play.generate(k_drawn, state, batch)
        after, of_d = play.discriminator_turn(k_turn, state, batch, fakes)
        later, of_g = play.generator_turn(k_generator, after, batch, fakes)
        return fakes.x, fakes.drawn, after, later, of_d | of_g

    @jax.jit
    def expected(state, after, real, fake, z):
        of_d = jax.grad(d_loss, has_aux=True)(state.params["discriminator"], state.extra, real, fake)
        return of_d, jax.value_and_grad(g_loss)(state.params["generator"], after, z, real)

    state, batch = drawn_state(play.init), images()
    fake, z, after, later, metrics = run(state, batch)
    (gradients, parts), (value, of_generator) = expected(state, after, signed(batch), fake, z)
    found = {
        **{"state": state, "fake": fake, "after": after, "later": later, "metrics": metrics, "k_turn": k_turn},
        "parts": parts | {"generator_loss": value},
        "gradients": {"discriminator": gradients, "generator": of_generator},
    }
    return config, found


@pytest.mark.parametrize("name", GAMES)
def test_each_turn_moves_its_own_player_only(name):
    config, found = played(name)
    state, after, later = (found[when] for when in ("state", "after", "later"))
    old, new = ({**s.params["discriminator"]} for s in (state, after))
    if config.loss in ("hinge", "wasserstein"):  # only differences of logits matter, so the last bias has no gradient
        old["Dense_0"], new["Dense_0"] = old["Dense_0"]["kernel"], new["Dense_0"]["kernel"]
    assert all(changed(old, new))
    assert not any(changed(state.params["generator"], after.params["generator"]))
    assert not any(changed(state.opt_state["generator"], after.opt_state["generator"]))
    assert not any(changed(state.extra["generator"], after.extra["generator"]))
    assert not any(changed(state.extra.get("average"), after.extra.get("average")))
    assert all(changed(state.extra["discriminator"], after.extra["discriminator"]))
    assert bool(jax.tree.leaves(after.extra["discriminator"])) == (config.normalization == "batch")
    if config.spectral_norm:  # the last layer's unit vector has one component: 1 or -1
        assert changed(state.extra["vectors"], after.extra["vectors"])[:2] == [True, True]

    assert all(changed(after.params["generator"], later.params["generator"]))
    assert not any(changed(after.params["discriminator"], later.params["discriminator"]))
    assert not any(changed(after.opt_state["discriminator"], later.opt_state["discriminator"]))
    assert not any(changed(after.extra, later.extra))


@pytest.mark.parametrize("name", GAMES)
def test_turns_descend_the_games_losses(name):
    """A turn's gradient is that of the loss written out: D's at the old D, G's total loss at the updated D."""
    config, found = played(name)
    metrics, parts = found["metrics"], found["parts"]
    for player, state in (("discriminator", found["after"]), ("generator", found["later"])):
        gradients = found["gradients"][player]
        norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in jax.tree.leaves(gradients)))
        np.testing.assert_allclose(metrics[f"{player}_gradient"], norm, rtol=1e-4)
        share = 1.0
        if config.clip:
            share = config.clip / norm
            assert share < 0.5
        close(moment(state, player), jax.tree.map(lambda g, share=share: g * share / 2, gradients))
    for part, value in parts.items():
        np.testing.assert_allclose(metrics[part], value, rtol=1e-4, atol=1e-6, err_msg=part)
    assert ("penalty" in metrics) == (config.penalty != "none")
    assert ("consistency" in metrics) == (config.consistency > 0)
    assert ("real_accuracy" in metrics) == ("fake_accuracy" in metrics) == (config.loss != "wasserstein")


def before_norm(found, x):
    """Mean and variance of each channel at the input of D's only BatchNorm."""
    d = found["state"].params["discriminator"]
    x = conv(x, d["Conv_0"]["kernel"], strides=(2, 2)) + d["Conv_0"]["bias"]
    x = conv(nn.leaky_relu(x, 0.2), d["Conv_1"]["kernel"], strides=(2, 2))
    return x.mean((0, 1, 2)), x.var((0, 1, 2))


def test_running_averages_pass_from_real_to_fake(batch):
    """D's average after the turn is .81 old + .09 real + .1 fake statistics, as momentum is .9."""
    _, found = played("non_saturating")
    averages = found["after"].extra["discriminator"]["BatchNorm_0"]
    (real_mean, real_var), (fake_mean, fake_var) = (before_norm(found, x) for x in (signed(batch), found["fake"]))
    np.testing.assert_allclose(averages["mean"], 0.09 * real_mean + 0.1 * fake_mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(averages["var"], 0.81 + 0.09 * real_var + 0.1 * fake_var, rtol=1e-4)


def test_a_joint_batch_moves_running_averages_once(batch):
    _, found = played("least_squares, joint")
    averages = found["after"].extra["discriminator"]["BatchNorm_0"]
    k_real, k_fake = jax.random.split(jax.random.split(found["k_turn"], 5)[0])
    shown = [seen(k, x, ("color",)) for k, x in ((k_real, signed(batch)), (k_fake, found["fake"]))]
    mean, var = before_norm(found, jnp.concatenate(shown))
    np.testing.assert_allclose(averages["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * var, rtol=1e-4)


def test_with_spectral_norm_the_scale_of_kernels_does_not_matter(batch):
    config = dcgan.Config(**TINY, spectral_norm=True, normalization="none")
    play = dcgan.players(config, SPEC)
    state = drawn_state(play.init)

    @jax.jit
    def turn(state):
        return play.discriminator_turn(jax.random.key(2), state, batch, play.generate(jax.random.key(1), state, batch))

    scaled = jax.tree.map(lambda p: 7 * p if p.ndim > 1 else p, state.params["discriminator"])
    scaled = state._replace(params={**state.params, "discriminator": scaled})
    (after, metrics), (other, expected) = turn(scaled), turn(state)
    for name, value in expected.items():
        if name != "discriminator_gradient":  # of kernels 7 times as large
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(after.extra["vectors"]), jax.tree.leaves(other.extra["vectors"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # One iteration from the turn's initial parameters, however often D is applied.
    once = spectrally_normalized(state.params["discriminator"], state.extra["vectors"])[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), other.extra["vectors"], once)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"loss": "wasserstein"},
            r"or spectral_norm, in a discriminator without BatchNorm \(norm",
        ),
        (
            {"loss": "wasserstein", "penalty": "one_centered", "penalty_at": "real", "normalization": "none"},
            "loss wasserstein takes a penalty between",
        ),
        ({"penalty": "one_centered"}, r"penalty one_centered takes .* \(normalization layer or none\)"),
        ({"penalty": "zero_centered"}, r"penalty zero_centered takes .* \(normalization layer or none\)"),
        ({"spectral_norm": True}, "spectral_norm takes normalization none"),
        ({"spectral_norm": True, "normalization": "layer"}, "spectral_norm takes normalization none"),
        ({"batches": "joint", "normalization": "layer"}, "batches joint is for a discriminator with BatchNorm"),
        ({"critic_steps": 0}, "critic_steps must be above 0"),
        ({"penalty_weight": 0.0}, "penalty_weight must be above 0"),
        (
            {"penalty_weight": 3.0},
            "penalty_weight only applies with a penalty: choose penalty one_centered or zero_centered",
        ),
        ({"penalty_at": "real"}, "penalty_at only applies with a penalty"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
        ({"average": 0.9, "average_half_life": 10.0}, "average and average_half_life are two ways to set one average"),
        ({"average": 0.9, "average_warmup": 0.1}, "average_warmup only applies with an average_half_life"),
        ({"drift": -1.0}, "drift must be at least 0"),
        (
            {"augment": ("cutout",), "translation_ratio": 0.2},
            "translation_ratio only applies with --augment translation",
        ),
        ({"cutout_probability": 0.3}, "cutout_probability only applies with --augment cutout"),
        ({"cutout_probability": 0.0}, "cutout_probability must be above 0 and at most 1, not 0.0"),
        ({"translation_ratio": 1.0}, "translation_ratio must be at least 0 and below 1"),
        ({"consistency": -1.0}, "consistency must be at least 0"),
        ({"clip": -1.0}, "clip must be at least 0"),
        ({"critic_steps": 3}, r"^batch_size must be a multiple of 3 \(critic_steps\), not 64$"),
    ],
)
def test_what_does_not_go_together(fields, words):
    with pytest.raises(UserError, match=words) as raised:
        dcgan.make(dcgan.Config(**fields), SPEC)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("fields", [{"augment": ("translation",)}, {"consistency": 1.0}])
def test_points_are_not_shifted(fields):
    points = Spec({"point": jax.ShapeDtypeStruct((2,), np.float32)}, num_examples=64)
    (name,) = fields
    with pytest.raises(UserError, match=f"{name} is for images, which can be shifted: not for points"):
        gan.make(gan.Config(**fields), points)


# Networks made by hand: G(z) = z A + b in the plane, D(x) = tanh(x W) V with a row of codes beside its logits.


@dataclass(frozen=True)
class Toy(AdversarialConfig):
    """Hyperparameters of Adam and the networks."""

    heads: tuple[float, ...] = (1.0,)
    informed: bool = False
    noisy: bool = False  # noise drawn by D's key
    unrolled: int = 0


RATE, BETA1, BETA2, ROOT = 0.05, 0.5, 0.9, 1e-12
POINTS = {"point": np.random.default_rng(2).normal(0.5, 1, (12, 2)).astype(np.float32)}


@jax.jit
def made(params, drawn):
    return drawn @ params["A"] + params["b"]


@jax.jit
def judged(params, x):
    hidden = jnp.tanh(x @ params["W"])
    return Judged(hidden @ params["V"] + params["bias"], hidden @ params["codes"])


def noised(key, params, x):
    """Adds to the logits of `judged`, if D is noisy, a normal draw per example times a parameter."""
    out = judged(params, x)
    if "noise" not in params:
        return out
    return out._replace(logits=out.logits + params["noise"] * jax.random.normal(key, (len(x), 1)))


@jax.jit
def gained(codes, drawn):
    """Information, in nats [batch], that codes carry about the first two components of the fakes' latents."""
    return -((codes - drawn[:, :2]) ** 2).sum(1)


def toy(config):
    """Makes the toy networks' turns."""

    def init(key):
        keys = jax.random.split(key, 4)
        shapes = {"A": (3, 2), "W": (2, 5), "V": (5, len(config.heads)), "codes": (5, 2)}
        drawn = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
        of_g = {"A": drawn.pop("A"), "b": jnp.zeros(2)}
        of_d = {**drawn, "bias": jnp.zeros(len(config.heads))} | ({"noise": jnp.float32(1)} if config.noisy else {})
        return {"generator": {"params": of_g}, "discriminator": {"params": of_d}}

    nets = Nets(
        init,
        real=lambda batch: batch["point"],
        draw=lambda key, batch: jax.random.normal(key, (len(batch["point"]), 3)),
        generate=lambda params, extra, drawn: (made(params, drawn), extra["generator"]),
        discriminate=lambda key, params, extra, x, batch: (noised(key, params, x), extra["discriminator"]),
        sample=lambda variables, drawn: made(variables["params"], drawn),
        information=(lambda out, drawn: gained(out.codes, drawn)) if config.informed else None,
        heads=dict(zip(("", "second_"), config.heads, strict=False)),
        look=lambda x: {"furthest": jnp.abs(x).max()},
    )
    optimizer = optax.adam(RATE, BETA1, BETA2, eps_root=ROOT)
    return turns(config, nets, {"generator": optimizer, "discriminator": optimizer}, config.unrolled)


def midway(play):
    """Makes a state in mid-training, after two steps, including Adam's moments."""
    rng, state = np.random.default_rng(5), drawn_state(play.init)

    def told(path, leaf):
        if leaf.dtype == np.int32:  # the step count
            return np.int32(2)
        drawn = rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        return 0.01 + np.abs(drawn) if "nu" in jax.tree_util.keystr(path) else drawn

    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), state.params)
    return state._replace(params=params, opt_state=jax.tree.map_with_path(told, state.opt_state))


def both_turns(config):
    """Plays both turns from a mid-training state; returns the states, the metrics, and the fakes' latents."""
    play = toy(config)

    @jax.jit
    def run(state):
        fakes = play.generate(jax.random.key(2), state, POINTS)
        after, of_d = play.discriminator_turn(jax.random.key(3), state, POINTS, fakes)
        later, of_g = play.generator_turn(jax.random.key(4), after, POINTS, fakes)
        return after, later, of_d | of_g, fakes.drawn

    state = midway(play)
    return state, *run(state)


def gradient_taken(before, after, player):
    """Recovers a turn's gradient from Adam's first moments before and after."""
    return jax.tree.map(
        lambda old, new: (new - BETA1 * old) / (1 - BETA1), moment(before, player), moment(after, player)
    )


def toy_d_loss(config, params, x, key=None):
    """D's non-saturating loss on POINTS and fakes x, written out; a noisy D uses the turn's key."""
    k_real, k_fake = jax.random.split(jax.random.split(key, 5)[1]) if config.noisy else (None, None)
    of_real, of_fake = noised(k_real, params, POINTS["point"]).logits, noised(k_fake, params, x).logits
    return (jnp.log1p(jnp.exp(-of_real)) + jnp.log1p(jnp.exp(of_fake))).mean(0).sum()


def test_each_head_has_its_weight_in_the_generators_loss_and_all_are_penalized():
    """D's loss is the sum of its heads' losses, penalties and drifts; each head has its own scores."""
    config = Toy(heads=(1.0, 0.25), penalty="zero_centered", penalty_at="fake", penalty_weight=3.0, drift=0.5)
    state, after, later, metrics, drawn = both_turns(config)

    def d_loss(params):
        x = made(state.params["generator"], drawn)
        slopes = jax.vmap(jax.jacrev(lambda x: judged(params, x).logits.reshape(2)))(x)  # [examples, heads, 2]
        return toy_d_loss(config, params, x) + 3 * (slopes**2).sum((1, 2)).mean() / 2 + 0.5 * drift(params)

    def drift(params):
        return (judged(params, POINTS["point"]).logits.mean(0) ** 2).sum()

    def g_loss(params):
        logits = judged(after.params["discriminator"], made(params, drawn)).logits
        return (jnp.log1p(jnp.exp(-logits)) * jnp.array([1.0, 0.25])).sum(1).mean()

    close(gradient_taken(state, after, "discriminator"), jax.jit(jax.grad(d_loss))(state.params["discriminator"]))
    close(gradient_taken(after, later, "generator"), jax.jit(jax.grad(g_loss))(state.params["generator"]))
    np.testing.assert_allclose(metrics["generator_loss"], jax.jit(g_loss)(state.params["generator"]), rtol=1e-5)
    np.testing.assert_allclose(
        metrics["discriminator_loss"],
        toy_d_loss(config, state.params["discriminator"], made(state.params["generator"], drawn)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(metrics["drift"], drift(state.params["discriminator"]), rtol=1e-5)
    first, second = judged(state.params["discriminator"], POINTS["point"]).logits.T
    np.testing.assert_allclose(metrics["real_score"], (1 / (1 + np.exp(-first))).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["second_real_score"], (1 / (1 + np.exp(-second))).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["second_real_accuracy"], (second > 0).mean(), rtol=1e-6)


def test_both_players_make_the_information_large():
    """Both losses include the information; the losses shown as metrics do not."""
    config = Toy(informed=True)
    state, after, later, metrics, drawn = both_turns(config)

    def gain(d, g):
        x = made(g, drawn)
        return gained(judged(d, x).codes, drawn).mean()

    def d_loss(params):
        return toy_d_loss(config, params, made(state.params["generator"], drawn)) - gain(
            params, state.params["generator"]
        )

    def g_loss(params):
        logits = judged(after.params["discriminator"], made(params, drawn)).logits
        return jnp.log1p(jnp.exp(-logits)).mean() - gain(after.params["discriminator"], params)

    of_d = gradient_taken(state, after, "discriminator")
    close(of_d, jax.jit(jax.grad(d_loss))(state.params["discriminator"]))
    assert np.abs(of_d["codes"]).min() > 0
    close(gradient_taken(after, later, "generator"), jax.jit(jax.grad(g_loss))(state.params["generator"]))
    before = [state.params[player] for player in ("discriminator", "generator")]
    np.testing.assert_allclose(metrics["information"], gain(*before), rtol=1e-5)
    np.testing.assert_allclose(
        metrics["discriminator_loss"], toy_d_loss(config, before[0], made(before[1], drawn)), rtol=1e-5
    )
    plain = judged(after.params["discriminator"], made(before[1], drawn)).logits
    np.testing.assert_allclose(metrics["generator_loss"], jnp.log1p(jnp.exp(-plain)).mean(), rtol=1e-5)


def test_gs_turn_is_past_the_d_of_another_state_where_it_is_told_so():
    """G's gradient uses D before its turn; the returned state has D after it."""
    play = toy(Toy())
    state = midway(play)

    @jax.jit
    def run(state):
        fakes = play.generate(jax.random.key(2), state, POINTS)
        after, _ = play.discriminator_turn(jax.random.key(3), state, POINTS, fakes)
        return after, *play.generator_turn(jax.random.key(4), after, POINTS, fakes, state), fakes.drawn

    after, later, metrics, z = run(state)

    def g_loss(params, d):
        return jnp.log1p(jnp.exp(-judged(d, made(params, z)).logits)).mean()

    gradient = jax.jit(jax.value_and_grad(g_loss))
    (value, expected), (_, other) = (
        gradient(state.params["generator"], s.params["discriminator"]) for s in (state, after)
    )
    close(gradient_taken(state, later, "generator"), expected)
    np.testing.assert_allclose(metrics["generator_loss"], value, rtol=1e-5)
    assert np.abs(expected["A"] - other["A"]).max() > 1e-3 * np.abs(expected["A"]).max()
    assert not any(changed(later.params["discriminator"], after.params["discriminator"]))
    assert not any(changed(later.opt_state["discriminator"], after.opt_state["discriminator"]))


@pytest.mark.parametrize(("unrolled", "noisy"), [(1, False), (2, True)])
def test_the_generator_looks_ahead_through_the_discriminators_updates(unrolled, noisy):
    """G's gradient goes through Adam's updates of D, written out here; D itself takes one step, as without unrolling.

    Each unrolled step has its own key, which a noisy D reveals.
    """
    config = Toy(unrolled=unrolled, noisy=noisy)
    state, after, later, metrics, drawn = both_turns(config)
    _, k_judge, k_ahead = jax.random.split(jax.random.key(4), 3)

    def ahead(x, keys):
        """D's parameters after one Adam step per key from `after`, on the same examples."""
        d = after.params["discriminator"]
        first, second, count = (tree_get(after.opt_state["discriminator"], part) for part in ("mu", "nu", "count"))
        for step, key in enumerate(keys, 1):
            g = jax.grad(lambda d, key=key: toy_d_loss(config, d, x, key))(d)
            first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, g)
            second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g**2, second, g)
            taken = (count + step).astype(jnp.float32)
            bias1, bias2 = 1 - BETA1**taken, 1 - BETA2**taken
            d = jax.tree.map(
                lambda p, m, v, b=bias1, c=bias2: p - RATE * (m / b) / (jnp.sqrt(v / c + ROOT) + 1e-8), d, first, second
            )
        return d

    def g_loss(params, keys, fixed=False):
        x = made(params, drawn)
        d = ahead(x, keys)
        logits = noised(k_judge, jax.lax.stop_gradient(d) if fixed else d, x).logits
        return jnp.log1p(jnp.exp(-logits)).mean()

    keys = list(jax.random.split(k_ahead, unrolled))

    @jax.jit
    def gradients(params):
        """Gradients of G's loss and of variants to differ from: no unrolling, no gradient through D's updates.

        A third variant, for a noisy D, has one key for all unrolled steps.
        """
        others = [([], False), (keys, True), *([([keys[0]] * unrolled, False)] if noisy else [])]
        return jax.value_and_grad(g_loss)(params, keys), [jax.grad(g_loss)(params, *other) for other in others]

    (value, expected), others = gradients(state.params["generator"])
    taken = gradient_taken(after, later, "generator")
    close(taken, expected)
    np.testing.assert_allclose(metrics["generator_loss"], value, rtol=1e-5)
    for other in others:
        assert np.abs(taken["A"] - other["A"]).max() > 1e-3 * np.abs(taken["A"]).max()

    assert int(tree_get(after.opt_state["discriminator"], "count")) == 3
    assert not any(changed(after.params["discriminator"], later.params["discriminator"]))
    assert not any(changed(after.opt_state["discriminator"], later.opt_state["discriminator"]))
    # From the same state, D's turn is the same as without unrolling.
    fake = made(state.params["generator"], drawn)
    of_d = jax.jit(jax.grad(lambda d: toy_d_loss(config, d, fake, jax.random.key(3))))(state.params["discriminator"])
    close(gradient_taken(state, after, "discriminator"), of_d)


def test_images_of_zero_to_one_are_altered_as_if_signed():
    """DiffAugment and consistency for images in [0, 1]: D sees (T(2x - 1) + 1) / 2 in both turns."""
    config = Toy(augment=("color",), consistency=2.0)
    rng = np.random.default_rng(3)
    d = {"W": jnp.float32(rng.normal(size=(16, 5))), "V": jnp.float32(rng.normal(size=(5, 1)))}
    g, batch = {"A": jnp.float32(rng.normal(size=(3, 16)))}, {"image": jnp.float32(rng.uniform(size=(12, 4, 4, 1)))}

    def logits(params, x):
        return jnp.tanh(x.reshape(len(x), -1) @ params["W"]) @ params["V"]

    nets = Nets(
        init=lambda key: {"generator": {"params": g}, "discriminator": {"params": d}},
        real=lambda batch: batch["image"],
        draw=lambda key, batch: jax.random.normal(key, (len(batch["image"]), 3)),
        generate=lambda params, extra, z: (nn.sigmoid(z @ params["A"]).reshape(-1, 4, 4, 1), {}),
        discriminate=lambda key, params, extra, x, batch: (Judged(logits(params, x)), {}),
        sample=lambda variables, z: None,
        signed=False,
    )
    play = turns(config, nets, dict.fromkeys(("generator", "discriminator"), optax.sgd(0.1)))
    k_turn, k_generator = jax.random.key(2), jax.random.key(3)

    @jax.jit
    def run():
        state = play.init(jax.random.key(0))
        fakes = play.generate(jax.random.key(1), state, batch)
        after, of_d = play.discriminator_turn(k_turn, state, batch, fakes)
        _, of_g = play.generator_turn(k_generator, after, batch, fakes)
        return after.params["discriminator"], fakes.x, of_d | of_g

    def altered(key, x, policy=config.augment):
        return (seen(key, 2 * x - 1, policy) + 1) / 2

    later, fake, found = run()
    k_shown, _, _, k_consistency, _ = jax.random.split(k_turn, 5)
    examples = [altered(k, x) for k, x in zip(jax.random.split(k_shown), (batch["image"], fake), strict=True)]
    of_real, of_fake = (logits(d, x) for x in examples)
    pairs = zip(jax.random.split(k_consistency), examples, strict=True)
    changes = [((logits(d, x) - logits(d, altered(k, x, ("translation",)))) ** 2).mean() for k, x in pairs]
    k_fake = jax.random.split(jax.random.split(k_generator, 3)[0])[1]
    expected = {
        "discriminator_loss": (nn.softplus(-of_real) + nn.softplus(of_fake)).mean(),
        "consistency": sum(changes),
        "generator_loss": nn.softplus(-logits(later, altered(k_fake, fake))).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("batches", ["separate", "joint"])
def test_wrong_pairs_and_fakes_have_half_the_weight_each(batches):
    """D's loss is 2 log 2 at logits of 0, and its derivatives are -1/2, 1/4 and 1/4; G learns nothing of wrong pairs.

    Real examples are 1, fakes 0; the condition says whose it is, and a wrong pair has that of the next example.
    """
    batch = {"x": jnp.ones((4, 1)), "own": jnp.arange(4.0)}

    def discriminate(key, params, extra, x, given):
        wrong = (x[:, 0] == 1) & (given["own"] != jnp.tile(batch["own"], len(x) // 4))
        kind = jnp.where(x[:, 0] == 1, wrong.astype(jnp.int32), 2)
        return Judged(params["logit"][kind][:, None] + 0 * x), {}

    def nets(**more):
        return Nets(
            init=lambda key: {"generator": {"params": {"g": jnp.zeros(1)}}, "discriminator": {"params": d}},
            real=lambda batch: batch["x"],
            draw=lambda key, batch: 3.0,
            generate=lambda params, extra, z: (jnp.zeros((4, 1)) + params["g"], {}),
            discriminate=discriminate,
            sample=lambda variables, z: None,
            **more,
        )

    d = {"logit": jnp.zeros(3)}
    optimizers = dict.fromkeys(("generator", "discriminator"), optax.sgd(1.0))
    config = AdversarialConfig(batches=batches)

    def played(**more):
        play = turns(config, nets(**more), optimizers)

        @jax.jit
        def run():
            state = play.init(jax.random.key(0))
            fakes = play.generate(jax.random.key(1), state, batch)
            state, of_d = play.discriminator_turn(jax.random.key(2), state, batch, fakes)
            after, of_g = play.generator_turn(jax.random.key(3), state, batch, fakes)
            return state.params["discriminator"]["logit"], after.params["generator"]["g"], of_d, of_g

        return run()

    rolled = {"mismatched": lambda batch: {**batch, "own": jnp.roll(batch["own"], 1)}}
    logit, g, of_d, of_g = played(**rolled)
    np.testing.assert_allclose(of_d["discriminator_loss"], 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(logit, [0.5, -0.25, -0.25], rtol=1e-6)  # against the derivatives, real, wrong, fake
    assert {name for name in of_d if "wrong" in name} == {"wrong_score", "wrong_accuracy"}
    np.testing.assert_allclose(of_g["generator_loss"], np.log1p(np.exp(0.25)), rtol=1e-6)
    assert not g.any()
    np.testing.assert_allclose(played()[0], [0.5, 0, -0.5], rtol=1e-6)

    # G's own term: its gradient is added, and its metrics.
    own = {"regularizer": lambda params, z: (z * params["g"].sum(), {"kl": z})}
    _, g, _, of_g = played(**rolled, **own)
    np.testing.assert_allclose(g, -3, rtol=1e-6)
    assert of_g["kl"] == 3


@pytest.mark.parametrize(("loss", "boundary"), [("non_saturating", 0), ("least_squares", 0.5), ("hinge", 0)])
def test_accuracies_are_numpys(loss, boundary):
    play = toy(Toy(loss=loss))
    state = midway(play)

    @jax.jit
    def run(state):
        fakes = play.generate(jax.random.key(7), state, POINTS)
        return fakes.x, play.discriminator_turn(jax.random.key(8), state, POINTS, fakes)[1]

    x, metrics = run(state)
    d = jax.tree.map(lambda p: np.asarray(p, np.float64), state.params["discriminator"])
    real, fake = ((np.tanh(x @ d["W"]) @ d["V"] + d["bias"])[:, 0] for x in (POINTS["point"], np.float64(x)))
    np.testing.assert_allclose(metrics["real_accuracy"], (real > boundary).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["fake_accuracy"], (fake <= boundary).mean(), rtol=1e-6)
    if boundary:
        assert (real > 0).mean() != (real > boundary).mean() or (fake > 0).mean() != (fake > boundary).mean()


def fakes_of(x):
    return Fakes(jnp.asarray(x), None, None, {})


def test_fakes_are_compared_with_real_examples():
    """Metrics compare the spread of fakes with that of real examples, and `look` is applied to both."""
    x = np.random.default_rng(6).normal(0, 3, (12, 2)).astype(np.float32)
    metrics = toy(Toy()).compared(POINTS, fakes_of(x))
    assert set(metrics) == {"spread", "furthest", "real_furthest"}
    np.testing.assert_allclose(metrics["spread"], x.var(0).sum() / POINTS["point"].var(0).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["furthest"], np.abs(x).max(), rtol=1e-6)
    np.testing.assert_allclose(metrics["real_furthest"], np.abs(POINTS["point"]).max(), rtol=1e-6)


def test_one_example_has_no_spread():
    """A single real example has no spread to compare the fakes with."""
    one = {"point": POINTS["point"][:1]}
    assert set(toy(Toy()).compared(one, fakes_of(one["point"]))) == {"furthest", "real_furthest"}


def test_samples_are_of_gs_running_average():
    """The average is a quarter of the way from the old one to the new G after a step; without one, samples are G's."""
    averaged, plain = toy(Toy(average=0.75)), toy(Toy())
    state, z = drawn_state(averaged.init), np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32)
    (new, old), fakes = (state.params["generator"], state.extra["average"]["params"]), fakes_of(POINTS["point"])
    assert all(changed(new, old))
    after = averaged.finished(state, fakes)
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, old, new)
    close(after.extra["average"]["params"], expected, rtol=1e-6)
    np.testing.assert_allclose(averaged.sampled(after, z), z @ expected["A"] + expected["b"], rtol=1e-5)
    np.testing.assert_allclose(plain.sampled(after, z), z @ new["A"] + new["b"], rtol=1e-5)
    assert set(plain.finished(drawn_state(plain.init), fakes).extra) == {"generator", "discriminator"}


@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_an_average_by_half_life(warmup):
    """The share of the first G in the average halves every three updates; an average of equal Gs is the same G.

    With a warm-up the half-life is at most that share of the earlier updates, as in TransGAN's code in images: 192 of
    them are three updates of 64.
    """
    play = toy(Toy(average_half_life=3.0, average_warmup=warmup))
    state, fakes, left = drawn_state(play.init), fakes_of(POINTS["point"]), 1.0
    first, state = state.extra["average"]["params"], state._replace(extra={**state.extra, "updates": np.int32(0)})
    newest = state.params["generator"]
    for update in range(12):
        state = play.finished(state, fakes)
        images = min(192.0, 64 * update * warmup) if warmup else 192.0
        left *= 0.5 ** (64 / images) if images else 0.0
        expected = jax.tree.map(lambda a, b, left=left: left * a + (1 - left) * b, first, newest)
        close(state.extra["average"]["params"], expected, rtol=1e-5)
        if update == 2 and not warmup:
            assert left == pytest.approx(0.5)
        if warmup and update == 0:  # from here on another G, since the first update forgets all before it
            first, left = newest, 1.0
            newest = jax.tree.map(lambda leaf: 1 - 2 * leaf, newest)
            state = state._replace(params={**state.params, "generator": newest})
    assert int(state.extra["updates"]) == 12
    same = state._replace(params={**state.params, "generator": state.extra["average"]["params"]})
    close(play.finished(same, fakes).extra["average"], state.extra["average"], rtol=1e-6)
    z = np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32)
    found = state.extra["average"]["params"]
    np.testing.assert_allclose(play.sampled(state, z), z @ found["A"] + found["b"], rtol=1e-5)
