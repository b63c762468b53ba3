"""Losses of the players and penalties of D: values and gradients by hand, and training with them."""

import functools
from typing import get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxgen.adversarial.losses import (
    LOSSES,
    PENALTIES,
    LossName,
    PenaltyName,
    PenaltyPlace,
    one_centered,
    penalized_at,
    zero_centered,
)
from jaxgen.adversarial.turns import AdversarialConfig, Judged, Nets, turns
from jaxgen.data.readers.gaussians import draw, modes
from jaxgen.nn.conv import conv
from tests.cases import some_slow
from tests.models.by_hand import energy_distance, stepped
from tests.versions import x64

LOGITS = np.array([-30.0, -3.0, -0.4, 0.0, 0.7, 2.0, 25.0])  # none at the hinge's kinks, -1 and 1


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


# Map from loss to D's terms for a real and a fake logit and G's for a fake one; each (value, derivative), float64.
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
    slopes = jax.jit(jax.grad(lambda a, b: loss.discriminator(a, b).sum(), (0, 1)))(a, b)
    np.testing.assert_allclose(slopes[0], real_slope, rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(slopes[1], fake_slope, rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda b: loss.generator(b).sum()))(b), slope, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_minimax_is_exact_at_logits_of_ten_thousand(name):
    """A wrong player pays the logit, with a gradient of 1, even if float32's sigmoid is 0 or 1."""
    loss, far = LOSSES[name], jnp.array([1e4, -1e4])
    np.testing.assert_array_equal(loss.discriminator(far, -far), [0, 2e4])
    np.testing.assert_array_equal(loss.generator(far), {"minimax": [-1e4, 0], "non_saturating": [0, 1e4]}[name])
    gradients = jax.jit(jax.grad(lambda a, b: loss.discriminator(a, b).sum(), (0, 1)))(far, -far)
    np.testing.assert_array_equal(gradients, [[0, -1], [0, 1]])
    np.testing.assert_array_equal(
        jax.jit(jax.grad(lambda b: loss.generator(b).sum()))(far), {"minimax": [-1, 0], "non_saturating": [0, -1]}[name]
    )


@pytest.mark.parametrize("name", LOSSES)
def test_all_are_finite_at_logits_of_ten_thousand(name):
    loss, far = LOSSES[name], jnp.array([1e4, -1e4])
    for value in (loss.discriminator(far, -far), loss.discriminator(far, far), loss.generator(far)):
        assert np.isfinite(value).all()


def test_minimax_and_non_saturating_gradients_differ_by_the_odds():
    """The gradients are -D and D - 1: same direction, ratio D / (1 - D). The losses add up to minus the logit."""
    logits = jnp.asarray(LOGITS[1:-1], jnp.float32)
    slopes = {name: jax.jit(jax.grad(lambda b, name=name: LOSSES[name].generator(b).sum()))(logits) for name in LOSSES}
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
    """The cost of a logit as a real and as a fake example, by the closed forms. Wasserstein has no boundary."""
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
    np.testing.assert_allclose(one_centered(critic, x), np.full(4, (norm - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(zero_centered(critic, x), np.full(4, norm**2 / 2), rtol=1e-5)
    # Two-sided: a gradient that is too small is penalized too.
    small = one_centered(lambda x: critic(x) / norm / 2, x)
    np.testing.assert_allclose(small, np.full(4, 0.25), rtol=1e-5)


def test_penalties_of_a_quadratic_critic():
    """D(x) = |x|^2 / 2 has the gradient x."""

    def critic(x):
        return 0.5 * (x**2).sum((1, 2, 3))

    norms = np.sqrt((np.asarray(images(1), np.float64) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(zero_centered(critic, images(1)), 0.5 * norms**2, rtol=1e-5)
    np.testing.assert_allclose(one_centered(critic, images(1)), (norms - 1) ** 2, rtol=1e-5)


@pytest.mark.parametrize("place", get_args(PenaltyPlace))
def test_where_it_is_penalized(place):
    """Penalties at real examples, at fakes, or on the line between each pair, at a random position per example."""
    real, fake, key = images(1), images(2), jax.random.key(3)
    at = np.asarray(penalized_at(key, place, real, fake), np.float64)
    if place != "between":
        np.testing.assert_array_equal(at, {"real": real, "fake": fake}[place])
        return
    shares = (at - fake) / (np.asarray(real, np.float64) - fake)  # every pixel of an example has the same share
    e = np.median(shares.reshape(4, -1), axis=1)
    np.testing.assert_allclose(at, e.reshape(4, 1, 1, 1) * real + (1 - e).reshape(4, 1, 1, 1) * fake, atol=1e-5)
    np.testing.assert_allclose(e, np.ravel(jax.random.uniform(key, (4, 1, 1, 1))), rtol=1e-4)
    assert len(set(e)) == 4
    # Uniform: mean and variance of 20,000 shares, within 5 standard errors.
    many = np.asarray(penalized_at(key, place, jnp.ones((20_000, 1)), jnp.zeros((20_000, 1))), np.float64)
    assert abs(many.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / 20_000)
    assert abs(many.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 20_000)


def test_where_a_gradient_is_zero_the_penalty_is_one_and_pulls_nowhere():
    def penalty(scale):
        return one_centered(lambda x: scale * x.sum((1, 2, 3)), images(1)).sum()

    value, slope = jax.value_and_grad(penalty)(0.0)
    assert (value, slope) == (4, 0)


@functools.partial(jax.jit, static_argnums=0)
def penalty_of_kernels(name, kernels, at):
    """Mean penalty of a critic with two convolutions, compiled once for all places."""

    def critic(x):
        for kernel in kernels:
            x = jnp.tanh(conv(x, kernel, strides=(2, 2)))
        return x.sum((1, 2, 3))

    return PENALTIES[name](critic, at).mean()


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("place", get_args(PenaltyPlace))
def test_second_derivatives_through_a_convolutional_critic(name, place):
    """Gradients of the penalty by D's kernels in float64, against finite differences."""
    with x64():
        keys = jax.random.split(jax.random.key(0), 4)
        kernels = [jax.random.normal(keys[0], (4, 4, 2, 3)) / 4, jax.random.normal(keys[1], (4, 4, 3, 2)) / 4]
        real, fake = (jax.random.normal(key, (3, 8, 8, 2)) for key in keys[2:])
        at = penalized_at(jax.random.key(5), place, real, fake)
        penalty = functools.partial(penalty_of_kernels, name, at=at)
        check_grads(penalty, (kernels,), order=1, modes=["rev"], rtol=1e-6)


# Training with each loss in a GAN's turns.

ARMS = {
    "minimax": {"loss": "minimax"},
    "non_saturating": {"loss": "non_saturating"},
    "least_squares": {"loss": "least_squares"},
    "hinge": {"loss": "hinge"},
    "wasserstein": {"loss": "wasserstein", "penalty": "one_centered", "penalty_weight": 1.0},
    "non_saturating, r1": {"penalty": "zero_centered", "penalty_at": "real", "penalty_weight": 0.1},
}


class MLP(nn.Module):
    """Two hidden layers of leaky ReLU."""

    outputs: int

    @nn.compact
    def __call__(self, x):
        dense = functools.partial(nn.Dense, kernel_init=nn.initializers.he_normal())
        for _ in range(2):
            x = nn.leaky_relu(dense(32)(x), 0.2)
        return dense(self.outputs)(x)


@pytest.fixture(scope="module")
def players():
    """G and D with initial variables shared by all tests, and G's samples for a state, compiled."""
    G, D = MLP(2), MLP(1)
    of_g, of_d = G.init(jax.random.key(0), jnp.zeros((1, 4))), D.init(jax.random.key(1), jnp.zeros((1, 2)))

    @jax.jit
    def made(params):
        return G.apply({"params": params}, jax.random.normal(jax.random.key(4), (300, 4)))

    return G, D, {"generator": of_g, "discriminator": of_d}, made


@pytest.mark.parametrize("arm", some_slow(ARMS, quick=("hinge", "wasserstein")))
def test_every_loss_trains_a_generator_of_a_ring(arm, players):
    """300 steps, each with three turns of D on 64 points, reduce the distance to the ring to a third.

    The final distance is the mean after 150, 200, 250 and 300 steps, as the players circle the optimum.
    """
    G, D, variables, made = players
    rng = np.random.default_rng(0)
    points, real = (draw(rng, *modes("ring"), num)["point"] for num in (20_000, 300))
    nets = Nets(
        init=lambda key: variables,
        real=lambda batch: batch["point"],
        draw=lambda key, batch: jax.random.normal(key, (len(batch["point"]), 4)),
        generate=lambda params, extra, z: (G.apply({"params": params}, z), {}),
        discriminate=lambda key, params, extra, x, batch: (Judged(D.apply({"params": params}, x)), {}),
        sample=G.apply,
    )
    adam = optax.adam(2e-3, b1=0.0, b2=0.9)
    config = AdversarialConfig(**ARMS[arm], critic_steps=3)
    play = turns(config, nets, {"generator": adam, "discriminator": adam})

    @jax.jit
    def trained(state, keys):
        def step(state, key):
            k_rows, k_step = jax.random.split(key)
            rows = jax.random.randint(k_rows, (3 * 64,), 0, len(points))
            return stepped(play, k_step, state, {"point": jnp.asarray(points)[rows]})[0], None

        return jax.lax.scan(step, state, keys)[0]

    def distance(state):
        return energy_distance(made(state.params["generator"]), real)

    state = play.init(jax.random.key(0))
    along = [distance(state)]
    for keys in jax.random.split(jax.random.key(2), (6, 50)):
        state = trained(state, keys)
        along.append(distance(state))
    assert np.mean(along[-4:]) < along[0] / 3
