"""The players' losses and D's penalties: values and gradients by hand, and what they train."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxgen.adversarial import (
    LOSSES,
    PENALTIES,
    LossName,
    PenaltyName,
    PenaltyPlace,
    one_centred,
    penalised_at,
    zero_centred,
)
from jaxgen.data.gaussians import modes
from jaxgen.nn.conv import conv
from jaxgen.nn.optimizer import descend

LOGITS = np.array([-30.0, -3.0, -0.4, 0.0, 0.7, 2.0, 25.0])  # none at a kink of the hinge, at 1 and -1


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


# By loss: of D with respect to a real and to a fake logit, of G to a fake one; each (value, derivative) in float64.
CLOSED_FORMS = {
    "minimax": (
        lambda a: (-np.log(sigmoid(a)), sigmoid(a) - 1),
        lambda a: (-np.log(sigmoid(-a)), sigmoid(a)),
        lambda a: (np.log(sigmoid(-a)), -sigmoid(a)),
    ),
    "non_saturating": (
        lambda a: (-np.log(sigmoid(a)), sigmoid(a) - 1),
        lambda a: (-np.log(sigmoid(-a)), sigmoid(a)),
        lambda a: (-np.log(sigmoid(a)), sigmoid(a) - 1),
    ),
    "least_squares": (
        lambda a: ((a - 1) ** 2 / 2, a - 1),
        lambda a: (a**2 / 2, a),
        lambda a: ((a - 1) ** 2 / 2, a - 1),
    ),
    "hinge": (
        lambda a: (np.maximum(0, 1 - a), np.where(a < 1, -1, 0)),
        lambda a: (np.maximum(0, 1 + a), np.where(a > -1, 1, 0)),
        lambda a: (-a, -np.ones_like(a)),
    ),
    "wasserstein": (
        lambda a: (-a, -np.ones_like(a)),
        lambda a: (a, np.ones_like(a)),
        lambda a: (-a, -np.ones_like(a)),
    ),
}


def test_every_name_is_in_its_table():
    assert set(get_args(LossName)) == set(LOSSES) == set(CLOSED_FORMS)
    assert set(get_args(PenaltyName)) == {"none", *PENALTIES}


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_the_closed_forms(name):
    real, fake = LOGITS, LOGITS[::-1].copy()
    (real_value, real_slope), (fake_value, fake_slope), (value, slope) = (
        form(logits) for form, logits in zip(CLOSED_FORMS[name], (real, fake, fake), strict=True)
    )
    loss, a, b = LOSSES[name], jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    np.testing.assert_allclose(loss.discriminator(a, b), real_value + fake_value, rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(loss.generator(b), value, rtol=2e-6, atol=1e-12)
    slopes = jax.grad(lambda a, b: loss.discriminator(a, b).sum(), (0, 1))(a, b)
    np.testing.assert_allclose(slopes[0], real_slope, rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(slopes[1], fake_slope, rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda b: loss.generator(b).sum())(b), slope, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_minimax_is_exact_at_logits_of_ten_thousand(name):
    """Where float32's sigmoid is 0 or 1: a player that is wrong pays the logit, with a gradient of one."""
    loss, far = LOSSES[name], jnp.array([1e4, -1e4])
    np.testing.assert_array_equal(loss.discriminator(far, -far), [0, 2e4])
    np.testing.assert_array_equal(loss.generator(far), {"minimax": [-1e4, 0], "non_saturating": [0, 1e4]}[name])
    gradients = jax.grad(lambda a, b: loss.discriminator(a, b).sum(), (0, 1))(far, -far)
    np.testing.assert_array_equal(gradients, [[0, -1], [0, 1]])
    np.testing.assert_array_equal(
        jax.grad(lambda b: loss.generator(b).sum())(far), {"minimax": [-1, 0], "non_saturating": [0, -1]}[name]
    )


@pytest.mark.parametrize("name", LOSSES)
def test_all_are_finite_at_logits_of_ten_thousand(name):
    loss, far = LOSSES[name], jnp.array([1e4, -1e4])
    for value in (loss.discriminator(far, -far), loss.discriminator(far, far), loss.generator(far)):
        assert np.isfinite(value).all()


def test_minimax_and_non_saturating_gradients_differ_by_the_odds():
    """-D against D - 1: the same direction, D / (1 - D) times as long. The losses add up to minus the logit."""
    logits = jnp.asarray(LOGITS[1:-1], jnp.float32)
    slopes = {name: jax.grad(lambda b, name=name: LOSSES[name].generator(b).sum())(logits) for name in LOSSES}
    odds = np.exp(LOGITS[1:-1])
    np.testing.assert_allclose(slopes["minimax"] / slopes["non_saturating"], odds, rtol=1e-5)
    total = LOSSES["non_saturating"].generator(logits) + LOSSES["minimax"].generator(logits)
    np.testing.assert_allclose(total, -logits, rtol=1e-5, atol=1e-6)


def test_what_d_puts_out():
    logits = jnp.array([-2.0, 0.0, 3.0])
    for name, loss in LOSSES.items():
        expected = sigmoid(np.asarray(logits)) if name in ("minimax", "non_saturating") else logits
        np.testing.assert_allclose(loss.output(logits), expected, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_boundary_is_where_a_mistake_of_either_kind_costs_the_same(name):
    """A logit's cost as a real and as a fake example, by the closed forms. Wasserstein's D names no such logit."""
    as_real, as_fake, _ = CLOSED_FORMS[name]
    if name == "wasserstein":
        assert LOSSES[name].boundary is None
        return
    at = LOSSES[name].boundary
    np.testing.assert_allclose(as_real(np.float64(at))[0], as_fake(np.float64(at))[0])
    assert as_real(np.float64(at + 0.1))[0] < as_fake(np.float64(at + 0.1))[0]


# Penalties.


def images(seed, num=4, size=6):
    return jax.random.normal(jax.random.key(seed), (num, size, size, 2))


def test_penalties_of_a_linear_critic():
    """D(x) = <a, x> has the gradient a everywhere: (|a| - 1)^2, and |a|^2 / 2."""
    a, x = 0.3 * images(0, 1)[0], images(1)

    def critic(x):
        return (a * x).sum((1, 2, 3))

    norm = np.linalg.norm(np.asarray(a, np.float64))
    np.testing.assert_allclose(one_centred(critic, x), np.full(4, (norm - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(zero_centred(critic, x), np.full(4, norm**2 / 2), rtol=1e-5)
    # Two-sided: too small a gradient is penalised too.
    small = one_centred(lambda x: critic(x) / norm / 2, x)
    np.testing.assert_allclose(small, np.full(4, 0.25), rtol=1e-5)


def test_penalties_of_a_quadratic_critic():
    """D(x) = |x|^2 / 2 has the gradient x."""

    def critic(x):
        return 0.5 * (x**2).sum((1, 2, 3))

    norms = np.sqrt((np.asarray(images(1), np.float64) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(zero_centred(critic, images(1)), 0.5 * norms**2, rtol=1e-5)
    np.testing.assert_allclose(one_centred(critic, images(1)), (norms - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize("place", get_args(PenaltyPlace))
def test_where_it_is_penalised(place):
    """On real or on fake examples, or between the pair of each example, which has a share of its own."""
    real, fake, key = images(1), images(2), jax.random.key(3)
    at = np.asarray(penalised_at(key, place, real, fake), np.float64)
    if place != "between":
        np.testing.assert_array_equal(at, {"real": real, "fake": fake}[place])
        return
    shares = (at - fake) / (np.asarray(real, np.float64) - fake)  # every number of an example has the same
    e = np.median(shares.reshape(4, -1), axis=1)
    np.testing.assert_allclose(at, e.reshape(4, 1, 1, 1) * real + (1 - e).reshape(4, 1, 1, 1) * fake, atol=1e-5)
    np.testing.assert_allclose(e, np.ravel(jax.random.uniform(key, (4, 1, 1, 1))), rtol=1e-4)
    assert len(set(e)) == 4
    # Uniform: the mean and the variance of 20,000 shares, within 5 standard errors.
    many = np.asarray(penalised_at(key, place, jnp.ones((20_000, 1)), jnp.zeros((20_000, 1))), np.float64)
    assert abs(many.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / 20_000)
    assert abs(many.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 20_000)


def test_where_a_gradient_is_zero_the_penalty_is_one_and_pulls_nowhere():
    def penalty(scale):
        return one_centred(lambda x: scale * x.sum((1, 2, 3)), images(1)).sum()

    value, slope = jax.value_and_grad(penalty)(0.0)
    assert (value, slope) == (4, 0)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("place", get_args(PenaltyPlace))
def test_second_derivatives_through_a_convolutional_critic(name, place):
    """In float64, against finite differences of the penalty with respect to D's kernels."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        kernels = [jax.random.normal(keys[0], (4, 4, 2, 3)) / 4, jax.random.normal(keys[1], (4, 4, 3, 2)) / 4]
        real, fake = (jax.random.normal(key, (3, 8, 8, 2)) for key in keys[2:])
        at = penalised_at(jax.random.key(5), place, real, fake)

        def critic(kernels, x):
            for kernel in kernels:
                x = jnp.tanh(conv(x, kernel, strides=(2, 2)))
            return x.sum((1, 2, 3))

        @jax.jit
        def penalty(kernels):
            return PENALTIES[name](lambda x: critic(kernels, x), at).mean()

        check_grads(penalty, (kernels,), order=1, modes=["rev"], rtol=1e-6)


# What they train. One program for all: the loss is chosen by its index, the penalties by their weights.

ARMS = {  # loss, weights of the gradient penalty and of R1
    "minimax": ("minimax", 0.0, 0.0),
    "non_saturating": ("non_saturating", 0.0, 0.0),
    "least_squares": ("least_squares", 0.0, 0.0),
    "hinge": ("hinge", 0.0, 0.0),
    "wasserstein": ("wasserstein", 1.0, 0.0),
    "non_saturating, r1": ("non_saturating", 0.0, 0.1),
}


@pytest.fixture(scope="module")
def distances():
    """{arm: (energy distance to the ring before training, after)}, of 400 steps of G, three of D for each.

    After: the mean after 250, 300, 350 and 400 steps, as games go around what they approach.
    """
    means = jnp.asarray(modes("ring")[0], jnp.float32)
    initialise, apply = mlp()
    optimizer = optax.adam(2e-3, b1=0.0, b2=0.9)

    def generate(params, key, num):
        return apply(params, jax.random.normal(key, (num, 4)))

    def ring(key, num):
        k_mode, k_noise = jax.random.split(key)
        return means[jax.random.randint(k_mode, (num,), 0, 8)] + 0.01 * jax.random.normal(k_noise, (num, 2))

    def trained(index, between, on_real):
        def by_loss(player, *logits):
            return jax.lax.switch(index, [getattr(loss, player) for loss in LOSSES.values()], *logits).mean()

        def d_loss(params, key, real, fake):
            def critic(x):
                return apply(params, x)[:, 0]

            penalty = between * one_centred(critic, penalised_at(key, "between", real, fake))
            penalty += on_real * zero_centred(critic, real)
            return by_loss("discriminator", critic(real), critic(fake)) + penalty.mean()

        def g_loss(params, critic, key):
            return by_loss("generator", apply(critic, generate(params, key, 128))[:, 0])

        def step(players, key):
            G, D, g_state, d_state = players

            def critic_step(carry, key):
                k_real, k_noise, k_penalty = jax.random.split(key, 3)
                gradients = jax.grad(d_loss)(carry[0], k_penalty, ring(k_real, 128), generate(G, k_noise, 128))
                return descend(optimizer, gradients, carry[1], carry[0]), None

            *critic_keys, k_noise = jax.random.split(key, 4)
            (D, d_state), _ = jax.lax.scan(critic_step, (D, d_state), jnp.stack(critic_keys))
            G, g_state = descend(optimizer, jax.grad(g_loss)(G, D, k_noise), g_state, G)
            return (G, D, g_state, d_state), None

        G, D = initialise(jax.random.key(0), 4, 2), initialise(jax.random.key(1), 2, 1)
        players = (G, D, optimizer.init(G), optimizer.init(D))
        keys = jax.random.split(jax.random.key(2), (8, 50))
        _, along = jax.lax.scan(lambda now, keys: (jax.lax.scan(step, now, keys)[0],) * 2, players, keys)
        real = ring(jax.random.key(3), 500)

        def distance(params):
            return energy_distance(generate(params, jax.random.key(4), 500), real)

        last = jax.tree.map(lambda leaf: leaf[-4:], along[0])
        return distance(G), jax.lax.map(distance, last).mean()

    names = list(LOSSES)
    index, between, on_real = zip(*[(names.index(loss), *weights) for loss, *weights in ARMS.values()], strict=True)
    before, after = jax.jit(jax.vmap(trained))(jnp.array(index), jnp.array(between), jnp.array(on_real))
    return dict(zip(ARMS, zip(np.asarray(before), np.asarray(after), strict=True), strict=True))


def mlp(width=64):
    def initialise(key, inputs, outputs):
        keys = jax.random.split(key, 3)
        sizes = zip((inputs, width, width), (width, width, outputs), strict=True)
        return [
            (jax.random.normal(k, size) * (2 / size[0]) ** 0.5, jnp.zeros(size[1]))
            for k, size in zip(keys, sizes, strict=True)
        ]

    def apply(params, x):
        for kernel, bias in params[:-1]:
            x = jax.nn.leaky_relu(x @ kernel + bias, 0.2)
        return x @ params[-1][0] + params[-1][1]

    return initialise, apply


def energy_distance(x, y):
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, 0 for equal distributions; Szekely & Rizzo 2013."""

    def mean_distance(a, b):
        return optax.safe_norm(a[:, None] - b[None], 0.0, axis=-1).mean()

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


@pytest.mark.parametrize("arm", ARMS)
def test_every_loss_trains_a_generator_of_a_ring(arm, distances):
    before, after = distances[arm]
    assert after < before / 3
