"""InfoGAN: the information by scipy, whom it trains, draws of z, Q's inference."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen import data
from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import infogan
from tests.models.by_hand import anything, batch_norm, conv, conv_transpose, dense, drawn_state, in_float64, relu
from tests.models.contract import Contract

CONTRACT = Contract(
    {"features": 4, "smallest": 4, "noise_dim": 3, "dense_units": 8, "code_units": 8},
    prior="mixed",
    predicts={"code": 10},
)

CONFIG = infogan.Config(
    noise_dim=3, categories=4, continuous=2, information_weight=0.5, features=2, smallest=2, dense_units=6, code_units=5
)


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
    return infogan.players(CONFIG, spec()).turns


@pytest.fixture(scope="module")
def state(play):
    return drawn_state(play.init)


@pytest.fixture(scope="module")
def z():
    return jax.jit(lambda key: infogan.draw_prior(CONFIG, key, 8))(jax.random.key(1))


@pytest.fixture(scope="module")
def turned(play, state, batch):
    """Fakes, the states after D's and then G's turn on them, with both gradients at `state`'s D, and the metrics."""

    @jax.jit
    def turns(state):
        fakes = play.generate(jax.random.key(1), state, batch)
        after, of_d = play.discriminator_turn(jax.random.key(3), state, batch, fakes)
        later, of_g = play.generator_turn(jax.random.key(4), after, batch, fakes, state)
        return fakes._replace(pullback=None), after, later, of_d | of_g

    return SimpleNamespace(**dict(zip(("fakes", "after", "later", "metrics"), turns(state), strict=True)))


@jax.jit
def generated(params, state, z):
    net = infogan.Generator(CONFIG, (8, 8, 1), np.float32)
    variables = {"params": params, "batch_stats": state.extra["generator"]}
    return net.apply(variables, z, training=True, mutable=["batch_stats"])[0]


@partial(jax.jit, static_argnames="training")
def judged(params, state, x, training=True):
    net = infogan.Discriminator(CONFIG, 2, np.float32)
    variables = {"params": params, "batch_stats": state.extra["discriminator"]}
    return net.apply(variables, x, training=training, mutable=["batch_stats"])[0]


def written_out(judged, z):
    """Computes log Q(c|x) for each z [n, 9], in jax."""
    logits, means = judged.codes
    log_category = jnp.log(jnp.exp(logits) / jnp.exp(logits).sum(1, keepdims=True))
    log_density = -((z[:, 7:] - means) ** 2) / 2 - 0.5 * jnp.log(2 * jnp.pi).astype(jnp.float32)
    return log_category[jnp.arange(len(z)), z[:, 3:7].argmax(1)] + log_density.sum(1)


def test_information_equals_scipy():
    """Compared for random outputs, and for perfect ones with the module's stated value."""
    z = np.asarray(infogan.draw_prior(CONFIG, jax.random.key(2), 50))
    rng = np.random.default_rng(0)
    logits, means = 3 * rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    outputs = infogan.Judged(jnp.zeros((50, 1)), (jnp.float32(logits), jnp.float32(means)))
    shares = scipy.special.softmax(logits, 1)
    of_category = [
        scipy.stats.multinomial.logpmf(c, 1, p) for c, p in zip(z[:, 3:7].astype(int), shares, strict=True)
    ] + scipy.stats.entropy(np.full(4, 1 / 4))
    of_continuous = scipy.stats.norm.logpdf(z[:, 7:], means).sum(1) + 2 * scipy.stats.uniform(-1, 2).entropy()
    expected = 0.5 * (of_category + of_continuous)
    np.testing.assert_allclose(infogan.information(CONFIG, outputs, z), expected, rtol=1e-5)
    perfect = infogan.Judged(outputs.logits, (jnp.float32(100 * z[:, 3:7]), jnp.float32(z[:, 7:])))
    expected = 0.5 * (np.log(4) - 2 * 0.2258)
    np.testing.assert_allclose(infogan.information(CONFIG, perfect, z), expected, atol=1e-4)


def test_nets_equal_numpy(state, x, z):
    """Training mode has BatchNorm by the batch's statistics in all layers but D's first, slope .1, tanh in G."""
    params = anything(state.params)
    g, d = in_float64(params["generator"]), in_float64(params["discriminator"])
    h = relu(batch_norm(dense(g["Dense_0"], np.float64(z)), g["BatchNorm_0"]))
    h = relu(batch_norm(dense(g["Dense_1"], h), g["BatchNorm_1"])).reshape(8, 2, 2, 4)
    h = relu(batch_norm(conv_transpose(g["ConvTranspose_0"], h), g["BatchNorm_2"]))
    image = np.tanh(conv_transpose(g["ConvTranspose_1"], h))
    np.testing.assert_allclose(generated(params["generator"], state, z), image, rtol=1e-4, atol=1e-5)

    h = relu(conv(d["Conv_0"], np.float64(x)), 0.1)
    h = relu(batch_norm(conv(d["Conv_1"], h), d["BatchNorm_0"]), 0.1)
    shared = relu(batch_norm(dense(d["Dense_0"], h), d["BatchNorm_1"]), 0.1)
    of_q = relu(batch_norm(dense(d["Dense_1"], shared), d["BatchNorm_2"]), 0.1)
    expected = [dense(d["Dense_4"], shared), dense(d["Dense_2"], of_q), dense(d["Dense_3"], of_q)]
    logits, codes = judged(params["discriminator"], state, x)
    for found, by_numpy in zip((logits, *codes), expected, strict=True):
        np.testing.assert_allclose(found, by_numpy, rtol=1e-4, atol=1e-4)
    assert [out.shape[1] for out in expected] == [1, 4, 2]


def check_close(found, expected):
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * largest), found, expected)


def gradient(state):
    """Recovers the gradient from Adam's first step with beta1 .5."""
    return jax.tree.map(lambda moment: 2 * moment, state.mu)


def test_the_information_is_subtracted_from_both_losses(turned, state, x, z):
    """Gradients of D, Q and G equal those of the losses written out with the networks."""
    fake = turned.fakes.x
    np.testing.assert_array_equal(turned.fakes.drawn, z)

    def d_loss(params):
        of_real, of_fake = judged(params, state, x), judged(params, state, fake)
        alone = jax.nn.softplus(-of_real.logits).mean() + jax.nn.softplus(of_fake.logits).mean()
        return alone - 0.5 * written_out(of_fake, z).mean(), alone

    expected, alone = jax.jit(jax.grad(d_loss, has_aux=True))(state.params["discriminator"])
    check_close(gradient(turned.after.opt_state["discriminator"][0]), expected)
    np.testing.assert_allclose(turned.metrics["discriminator_loss"], alone, rtol=1e-5)

    def g_loss(params):
        of_fake = judged(state.params["discriminator"], state, generated(params, state, z))
        alone = jax.nn.softplus(-of_fake.logits).mean()
        return alone - 0.5 * written_out(of_fake, z).mean(), alone

    expected, alone = jax.jit(jax.grad(g_loss, has_aux=True))(state.params["generator"])
    check_close(gradient(turned.later.opt_state["generator"][0]), expected)
    np.testing.assert_allclose(turned.metrics["generator_loss"], alone, rtol=1e-5)


def test_each_player_has_its_rate(turned, state):
    """Adam's first step moves parameters by the learning rate: G's 1e-3, D's and Q's 2e-4."""
    for player, rate in (("generator", 1e-3), ("discriminator", 2e-4)):
        old, new = (np.asarray(s.params[player]["Dense_0"]["kernel"], np.float64) for s in (state, turned.later))
        np.testing.assert_allclose(np.median(np.abs(new - old)), rate, rtol=1e-2)


def test_whom_the_information_teaches(state, z):
    """G, Q and the layers Q shares with D are trained; not D's last layer, which gives only the logit for real."""

    def gain(params):
        fake = generated(params["generator"], state, z)
        return written_out(judged(params["discriminator"], state, fake), z).mean()

    taught = jax.jit(jax.grad(gain))(state.params)
    flat, _ = jax.tree_util.tree_flatten_with_path(taught)
    untaught = {jax.tree_util.keystr(path[:2]) for path, leaf in flat if not np.asarray(leaf).any()}
    assert untaught == {"['discriminator']['Dense_4']"}
    assert taught["discriminator"]["Dense_4"]["kernel"].shape == (6, 1)


def test_a_weight_of_zero_teaches_nothing(batch):
    """D's gradient is then the same as without Q, and Q's own layers have none."""
    play = infogan.players(dataclasses.replace(CONFIG, information_weight=0.0), spec()).turns

    @jax.jit
    def turn(state):
        fakes = play.generate(jax.random.key(1), state, batch)
        return play.discriminator_turn(jax.random.key(3), state, batch, fakes)

    after, metrics = turn(drawn_state(play.init))
    moments = after.opt_state["discriminator"][0].mu
    assert metrics["information"] == 0
    for layer in ("Dense_1", "Dense_2", "Dense_3"):
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(moments[layer]))
    assert np.asarray(moments["Dense_0"]["kernel"]).any()


def test_z_is_drawn_as_stated():
    """There is as much noise as there are continuous codes, since one key would give equal draws of one shape."""
    config = infogan.Config(noise_dim=2, categories=5, continuous=2)
    z = np.asarray(infogan.draw_prior(config, jax.random.key(0), 20_000), np.float64)
    assert z.shape == (20_000, 9)
    for code in (*z[:, :2].T, *z[:, 7:].T):
        assert code.min() >= -1
        assert code.max() < 1
        assert scipy.stats.kstest(code, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-6
    category = z[:, 2:7]
    assert set(np.unique(category)) == {0, 1}
    assert (category.sum(1) == 1).all()
    assert (np.abs(category.mean(0) - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 20_000)).all()
    independent = np.ones((9, 9), bool)
    independent[2:7, 2:7] = False
    correlations = np.corrcoef(z.T)[independent & ~np.eye(9, dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)


def test_what_is_told_of_z(z):
    """Parts have the components of z in order; without continuous codes there are two parts."""
    prior = infogan.make(CONFIG, spec()).latents.prior
    assert (prior.kind, prior.log_prob) == ("mixed", None)
    assert [tuple(part) for part in prior.parts] == [
        ("noise", 3, "uniform"), ("category", 4, "categorical"), ("continuous", 2, "uniform"),
    ]  # fmt: skip
    np.testing.assert_array_equal(prior.sample(jax.random.key(1), None, 8), z)
    without = infogan.make(dataclasses.replace(CONFIG, continuous=0), spec()).latents.prior
    assert [tuple(part) for part in without.parts] == [("noise", 3, "uniform"), ("category", 4, "categorical")]


def test_the_category_is_inferred(state, batch, x):
    """Q is in evaluation mode, with running averages, so an image's logits do not depend on other images."""
    model = infogan.make(CONFIG, spec())
    averages = jax.tree.map(np.abs, anything(state.extra["discriminator"], seed=3))
    state = state._replace(extra={**state.extra, "discriminator": averages})
    infer = jax.jit(model.predict["code"])
    logits = infer(state, batch)
    expected = judged(state.params["discriminator"], state, x, training=False).codes[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    others = np.concatenate([batch["image"][:1], 255 - batch["image"][1:]])
    np.testing.assert_array_equal(infer(state, {"image": others})[0], logits[0])


def test_without_continuous_codes(batch, x):
    """No parameter is empty, and the information is that of the category alone."""
    config = dataclasses.replace(CONFIG, continuous=0)
    model, net = infogan.make(config, spec()), infogan.Discriminator(config, 2, np.float32)
    state = drawn_state(model.init)
    assert all(leaf.size for leaf in jax.tree.leaves(state))
    assert "information" in jax.eval_shape(model.phases[0].step, jax.random.key(1), state, batch)[1]
    variables = {"params": state.params["discriminator"], "batch_stats": state.extra["discriminator"]}
    z = infogan.draw_prior(config, jax.random.key(2), 8)
    outputs = jax.jit(lambda x: net.apply(variables, x, training=False))(x)
    of_category = (np.asarray(jax.nn.log_softmax(outputs.codes[0]), np.float64) * z[:, 3:]).sum(1)
    np.testing.assert_allclose(
        infogan.information(config, outputs, z), 0.5 * (of_category + np.log(4)), rtol=1e-4, atol=1e-6
    )


@jax.jit
def moved_averages(params, averages, x):
    net = infogan.Discriminator(CONFIG, 2, np.float32)
    return net.apply({"params": params, "batch_stats": averages}, x, training=True, mutable=["batch_stats"])[1]


def test_running_averages_pass_from_real_to_fake(turned, state, x):
    """Q's average after D's turn is .09 of real's plus .1 of fake's mean, with momentum .9 from 0."""
    moved = state.extra["discriminator"]
    for given in (x, turned.fakes.x):
        moved = moved_averages(state.params["discriminator"], moved, given)["batch_stats"]
    check_close(turned.after.extra["discriminator"], moved)
    jax.tree.map(np.testing.assert_array_equal, turned.later.extra, turned.after.extra)


def test_the_papers_nets_for_mnist():
    """Layer shapes follow appendix C.1, table 1."""
    state = jax.eval_shape(infogan.make(infogan.Config(), spec(28)).init, jax.random.key(0))
    kernels = {
        player: sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
        for player, params in state.params.items()
    }
    # Transposed convolutions' kernels are [height, width, out, in].
    assert kernels["generator"] == sorted([(74, 1024), (1024, 7 * 7 * 128), (4, 4, 64, 128), (4, 4, 1, 64)])
    assert kernels["discriminator"] == sorted(
        [(4, 4, 1, 64), (4, 4, 64, 128), (7 * 7 * 128, 1024), (1024, 1), (1024, 128), (128, 10), (128, 2)]
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"categories": 1}, "categories must be at least 2, so that there is something to tell, not 1"),
        ({"continuous": -1}, "continuous must be at least 0"),
        ({"information_weight": -0.1}, "information_weight must be at least 0"),
        ({"noise_dim": 0}, "noise_dim must be above 0"),
        ({"categories": 99_999_999_999}, r"categories must be above 0 and below 2\^31"),
        ({"penalty": "one_centered"}, "infogan's D has BatchNorm"),
        ({"penalty_weight": 3.0}, "infogan's D has BatchNorm"),
        ({"loss": "wasserstein"}, "no penalty, spectral_norm or loss wasserstein"),
    ],
)
def test_values_that_cannot_be_run(fields, words):
    with pytest.raises(UserError, match=words):
        infogan.make(infogan.Config(**fields), spec())


def test_images_that_cannot_be_halved():
    with pytest.raises(UserError, match="infogan cannot make images of 9x9"):
        infogan.make(infogan.Config(), spec(9))


@pytest.mark.slow
def test_the_information_rises_toward_its_bound():
    """Information on digits rises from that of uninformative codes, log categories below the bound, to near it."""
    dataset = data.load("digits")
    small = {"noise_dim": 8, "features": 8, "smallest": 2, "dense_units": 32, "code_units": 16}
    config = infogan.Config(**small, generator_learning_rate=5e-3, discriminator_learning_rate=2e-3)
    model = infogan.make(config, dataset.spec)
    batch = {"image": dataset.train["image"][:64], "weight": np.ones(64, np.float32)}

    @jax.jit
    def fit(state):
        def take(state, i):
            state, metrics = model.phases[0].step(jax.random.fold_in(jax.random.key(2), i), state, batch)
            return state, metrics["information"]

        return jax.lax.scan(take, state, jnp.arange(400))[1]

    found = fit(jax.jit(model.init)(jax.random.key(0)))
    most = np.log(10) - 2 * 0.2258
    assert found[0] < most - np.log(10)
    assert found[-20:].mean() > most - 0.4
    assert found.max() < most + 0.2  # a batch's mean over continuous codes varies about the bound
