"""GAN: its networks, its optimizer, packing and unrolling, points and their modes.

Its turns and step are tested in tests/adversarial.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.adversarial.augmentation import augmented
from jaxgen.data.readers import gaussians
from jaxgen.errors import UserError
from jaxgen.metrics.modes import point_modes
from jaxgen.model import Spec
from jaxgen.models import gan
from jaxgen.nn.dense import maxout
from jaxgen.nn.optimizer import descend
from tests.models import by_hand
from tests.models.by_hand import anything, drawn_state, energy_distance, in_float64, relu
from tests.models.contract import Contract

CONTRACT = Contract(
    {"generator_units": 16, "discriminator_units": 8, "pieces": 2, "latent_dim": 5}
    | {"optimizer": "adam", "learning_rate": 1e-3},
    prior="uniform",
)

POINTS = Spec(
    {"point": jax.ShapeDtypeStruct((2,), np.float32)}, 100_000, mixture=gaussians.modes("ring"), batch_size=12
)
MEAN = np.random.default_rng(0).uniform(0, 1, (4, 4, 1))
MEAN[0, 0] = 1e-7  # the initial value of a pixel that is 0 in all data
IMAGES = Spec({"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}, 64, mean=MEAN)
SMALL = {"generator_units": 16, "discriminator_units": 8, "latent_dim": 3}
FOR_POINTS = {"pieces": 1, "dropout": 0.0, "optimizer": "adam", "learning_rate": 5e-4, "prior": "gaussian"}


@pytest.fixture(scope="module")
def batch():
    points = gaussians.draw(np.random.default_rng(1), *gaussians.modes("ring"), 12)["point"]
    return {"point": points, "weight": np.ones(12, np.float32)}


def dense(params, x, name):
    return x @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(params[name]["bias"], np.float64)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"packing": 0}, "packing must be above 0"),
        ({"unrolled": -1}, "unrolled must be at least 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"pieces": 0}, "pieces must be above 0"),
        ({"packing": 2, "augment": ("color",)}, "packing takes neither augment nor consistency"),
        ({"packing": 2, "consistency": 1.0}, "packing takes neither augment nor consistency"),
        ({"loss": "wasserstein"}, "loss wasserstein takes a penalty between real and fake, or spectral_norm"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"batches": "joint"}, "batches joint is for a discriminator with BatchNorm"),
        ({"unrolled": 2, "clip": 1.0}, "unrolled takes no clip"),
        ({"beta1": 0.9}, r"beta1 only applies with --optimizer adam \(you chose sgd\)"),
        ({"packing": 3, "critic_steps": 2}, r"multiple of 6 \(critic_steps \* packing\), not 64"),
    ],
)
def test_values_that_cannot_be_run(fields, words):
    with pytest.raises(UserError, match=words) as raised:
        gan.make(gan.Config(**SMALL, **fields), IMAGES)
    assert "\n" not in str(raised.value)


def test_data_that_are_neither_images_nor_points():
    meshes = Spec({"mesh": jax.ShapeDtypeStruct((20, 3), np.float32)}, 64)
    with pytest.raises(UserError, match=r"^gan makes images or points: the data have mesh$"):
        gan.make(gan.Config(), meshes)


@pytest.mark.parametrize("prior", ["uniform", "gaussian"])
def test_points_are_decoded_draws_of_the_prior_as_they_are(prior):
    """Samples are G's unbounded outputs, by BatchNorm's running averages and G's average, whatever D's turns are."""
    config = gan.Config(**SMALL, prior=prior, critic_steps=3, packing=2, generator_batch_norm=True, average=0.5)
    model = gan.make(config, POINTS)
    assert model.needs == ("point",)
    assert model.sampler.note == "the averaged G(z) with BatchNorm's running averages"
    assert (model.latents.prior.kind, model.latents.encode) == (prior, None)
    state, key = drawn_state(model.init), jax.random.key(1)

    @jax.jit
    def drawn(state):
        z = model.latents.prior.sample(key, state, 5)
        return z, model.latents.decode(state, z, {}), model.sampler.draw(key, state, 5, {})

    z, decoded, samples = drawn(state)
    layers = in_float64(state.extra["average"])
    x = np.float64(z) * (np.sqrt(3) if prior == "uniform" else 1)
    for n in range(2):
        of = f"BatchNorm_{n}"
        x = by_hand.dense(layers["params"][f"Dense_{n}"], x)
        x = relu(by_hand.batch_norm(x, layers["params"][of], layers["batch_stats"][of]))
    expected = by_hand.dense(layers["params"]["Dense_2"], x)
    assert set(samples) == set(decoded) == {"point"}
    np.testing.assert_allclose(decoded["point"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(samples["point"], decoded["point"])
    assert np.abs(expected).max() > 1


def test_the_authors_schedule():
    """Rate .1 / 1.000004^n, momentum .5 + .2 n / 125,000: two steps by hand, and the values after 250 epochs."""
    optimizer = gan.optimizers(gan.Config())["generator"]
    params = jnp.float32(1.0)
    state = optimizer.init(params)
    params, state = descend(optimizer, jnp.float32(1.0), state, params)
    np.testing.assert_allclose(params, 1 - 0.1, rtol=1e-6)
    params, state = descend(optimizer, jnp.float32(2.0), state, params)
    momentum = 0.5 + 0.2 / 125_000
    np.testing.assert_allclose(params, 0.9 - 0.1 / 1.000004 * (2 + momentum), rtol=1e-6)

    def after(steps):
        return state._replace(hyperparams_states=jax.tree.map(lambda _: jnp.int32(steps), state.hyperparams_states))

    late = after(125_000)
    trace = 2 + momentum
    moved, late = descend(optimizer, jnp.float32(1.0), late, params)
    # float32's 1.000004^-1 is off by up to 3e-8, and so its 125,000th power by up to .4%.
    np.testing.assert_allclose(moved - params, -0.1 * np.exp(-0.5) * (1 + 0.7 * trace), rtol=4e-3)
    assert float(late.hyperparams["momentum"]) == pytest.approx(0.7, rel=1e-6)
    # Momentum stops rising.
    beyond = descend(optimizer, jnp.float32(1.0), after(10**6), params)[1]
    assert float(beyond.hyperparams["momentum"]) == pytest.approx(0.7, rel=1e-6)


def test_the_authors_initial_weights_and_ds_rate():
    """Biases are 0; weights lie within +-.05 at 1200 units, +-.005 at 240, wider if narrower; D has half G's rate.

    With Adam, weights are Flax's and both rates are equal.
    """
    spec = Spec({"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}, 64, mean=np.full((8, 8, 1), 0.3))
    units = {"generator_units": 200, "discriminator_units": 40}
    wider = (0.05 * np.sqrt(1200 / 200), 0.005 * np.sqrt(240 / 40))
    for fields, bounds in (({}, wider), ({"optimizer": "adam"}, None)):
        params = gan.nets(gan.Config(**units, **fields), spec).init(jax.random.key(0))
        for player, bound in zip(("generator", "discriminator"), bounds or (None, None), strict=True):
            for layer in (f"Dense_{n}" for n in range(3)):
                kernel = np.asarray(params[player]["params"][layer]["kernel"])
                if (player, layer) == ("generator", "Dense_2"):  # its bias starts at the data's marginals
                    assert list(params[player]["params"][layer]) == ["kernel"]
                else:
                    assert not np.asarray(params[player]["params"][layer]["bias"]).any()
                deviation = bound / np.sqrt(3) if bound else 1 / np.sqrt(len(kernel))
                assert kernel.std() == pytest.approx(deviation, rel=0.15)
                assert bound is None or 0.9 * bound < np.abs(kernel).max() < bound
    for player, units, bound in (("generator", 1200, 0.05), ("discriminator", 240, 0.005)):
        weights = np.asarray(gan.authors_weights(player, units)(jax.random.key(0), (1000,)))
        assert 0.99 * bound < np.abs(weights).max() < bound
    sgd = gan.optimizers(gan.Config(learning_rate=0.4))
    for player, rate in (("generator", 0.4), ("discriminator", 0.2)):
        update, _ = sgd[player].update(jnp.ones(2), sgd[player].init(jnp.zeros(2)), jnp.zeros(2))
        np.testing.assert_allclose(update, -rate, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "rates"),
    [
        ({"optimizer": "adam"}, (2e-4, 2e-4)),
        ({"optimizer": "adam", "learning_rate": 0.03}, (0.03, 0.03)),
        ({"optimizer": "sgd"}, (0.1, 0.05)),
    ],
)
def test_rates_where_none_is_given(fields, rates):
    """Rates of G and D, as Adam's first step has the size of the learning rate."""
    of = gan.optimizers(gan.Config(**fields))
    for player, rate in zip(("generator", "discriminator"), rates, strict=True):
        moved, _ = descend(of[player], jnp.float32(1), of[player].init(jnp.float32(0)), jnp.float32(0))
        np.testing.assert_allclose(moved, -rate, rtol=1e-5)


def test_a_rate_below_its_floor_stays():
    """The floor ends the rate's decay; it does not raise a rate."""
    for player, share in (("generator", 1), ("discriminator", 0.5)):
        sgd = gan.annealed_sgd(1e-7, 0.5, least=1e-6)[player]
        moved, _ = descend(sgd, jnp.float32(1), sgd.init(jnp.float32(0)), jnp.float32(0))
        np.testing.assert_allclose(moved, -share * 1e-7, rtol=1e-5)


def test_images_of_g_equal_numpy():
    """Two ReLU layers on z of variance 1, then a sigmoid with the marginals as its bias."""
    G = gan.Generator(gan.Config(**SMALL), (4, 4, 1), MEAN, np.float32)
    z = np.random.default_rng(5).uniform(-1, 1, (6, 3))
    params = jax.jit(lambda key: G.init(key, jnp.float32(z), training=False))(jax.random.key(0))["params"]
    np.testing.assert_allclose(1 / (1 + np.exp(-params["marginals"])), MEAN, rtol=1e-5)
    params = anything(params)
    layers = in_float64(params)
    x = relu(dense(layers, relu(dense(layers, np.sqrt(3) * z, "Dense_0")), "Dense_1"))
    x = (x @ layers["Dense_2"]["kernel"]).reshape(6, 4, 4, 1) + layers["marginals"]
    np.testing.assert_allclose(G.apply({"params": params}, jnp.float32(z), False), 1 / (1 + np.exp(-x)), rtol=1e-4)


class Unit(nn.Module):
    """Three maxout units of `pieces` pieces."""

    pieces: int

    @nn.compact
    def __call__(self, x):
        return maxout(x, 3, self.pieces, np.dtype("float32"))


def test_maxout_is_the_largest_of_its_pieces():
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    variables = Unit(4).init(jax.random.key(0), x)
    linear = dense(variables["params"], x, "Dense_0")
    expected = linear.reshape(7, 3, 4).max(2)
    np.testing.assert_allclose(Unit(4).apply(variables, x), expected, rtol=1e-4, atol=1e-6)
    assert (expected < 0).any()  # no ReLU
    variables = Unit(1).init(jax.random.key(0), x)
    expected = np.maximum(dense(variables["params"], x, "Dense_0"), 0)
    np.testing.assert_allclose(Unit(1).apply(variables, x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_dropout_is_of_inputs_and_of_hidden_units_while_training(share):
    """D sums its 1,000 inputs through hidden units with one input each; kept values are scaled up."""
    net = gan.Discriminator(
        gan.Config(pieces=1, discriminator_units=1000, discriminator_layers=1, dropout=share), np.dtype("float32")
    )
    weights = {"Dense_0": {"kernel": jnp.eye(1000), "bias": jnp.zeros(1000)}}
    weights["Dense_1"] = {"kernel": jnp.ones((1000, 1)), "bias": jnp.zeros(1)}
    x = jnp.ones((8, 1000))

    def logits(training, key):
        return np.asarray(net.apply({"params": weights}, x, training, rngs={"dropout": key}), np.float64)[:, 0]

    np.testing.assert_allclose(logits(False, jax.random.key(0)), 1000)
    kept = (1 - 0.4 * share) * (1 - share)
    counts = logits(True, jax.random.key(0)) * kept  # the number of inputs kept with their unit
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-2)
    assert abs(counts.sum() - 8000 * kept) < 5 * np.sqrt(8000 * kept * (1 - kept))
    assert len(set(counts)) > 1
    assert not np.array_equal(counts, logits(True, jax.random.key(1)) * kept)


def test_d_draws_its_dropout_by_its_key(batch):
    for dropout in (0.0, 0.5):
        nets = gan.nets(gan.Config(**SMALL, dropout=dropout), POINTS)
        params = anything(jax.eval_shape(nets.init, jax.random.key(0))["discriminator"]["params"])
        given = (params, {"discriminator": {}}, batch["point"], batch)
        judge = jax.jit(lambda key, nets=nets, given=given: nets.discriminate(key, *given)[0].logits)
        a, b = (np.asarray(judge(jax.random.key(seed))) for seed in (2, 3))
        assert np.array_equal(a, b) == (dropout == 0.0)


def test_images_start_at_the_datas_marginals():
    """Pixels that are always off or on start at .01 and .99; only the last layer's kernel makes images depend on z."""
    model = gan.make(gan.Config(**SMALL), IMAGES)
    state = jax.jit(model.init)(jax.random.key(0))
    params = state.params["generator"]
    last = jax.tree.map(jnp.zeros_like, params["Dense_2"])
    state = state._replace(params={"generator": {**params, "Dense_2": last}})
    z = np.random.default_rng(1).uniform(-1, 1, (3, 3)).astype(np.float32)
    np.testing.assert_allclose(model.latents.decode(state, z, {})["image"], np.stack([MEAN] * 3), rtol=1e-5)


def test_packs_are_judged_as_one_example(batch):
    """A step's loss by hand: six packs of two points, each one vector of four numbers for D, all real or all fake."""
    model = gan.make(gan.Config(**SMALL, **FOR_POINTS, packing=2), POINTS)
    state = drawn_state(model.init)
    after, metrics = jax.jit(model.phases[0].step)(jax.random.key(5), state, batch)
    assert state.params["discriminator"]["Dense_0"]["kernel"].shape == (4, 8)
    k_drawn = jax.random.split(jax.random.key(5), (1, 3))[0, 0]
    x = np.asarray(jax.random.normal(k_drawn, (12, 3)), np.float64)
    for layer in ("Dense_0", "Dense_1"):
        x = np.maximum(dense(state.params["generator"], x, layer), 0)
    fake = dense(state.params["generator"], x, "Dense_2")

    def softplus_of(params, points, sign):
        x = np.float64(points).reshape(6, 4)
        for layer in ("Dense_0", "Dense_1"):
            x = np.maximum(dense(params, x, layer), 0)
        return np.logaddexp(0, sign * dense(params, x, "Dense_2")).mean()

    d = state.params["discriminator"]
    expected = softplus_of(d, batch["point"], -1) + softplus_of(d, fake, 1)
    np.testing.assert_allclose(metrics["discriminator_loss"], expected, rtol=1e-5)
    expected = softplus_of(after.params["discriminator"], fake, -1)
    np.testing.assert_allclose(metrics["generator_loss"], expected, rtol=1e-5)
    spreads = [np.float64(x).reshape(6, 4).var(0).sum() for x in (fake, batch["point"])]
    np.testing.assert_allclose(metrics["spread"], spreads[0] / spreads[1], rtol=1e-5)


def test_images_are_augmented_in_their_range():
    """D's loss uses (T(2x - 1) + 1) / 2 for real and fake images, as images are in [0, 1]."""
    config = gan.Config(**SMALL, dropout=0.0, augment=("color",))
    play, key = gan.players(config, IMAGES), jax.random.key(2)
    images = {"image": np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)}
    k_real, k_fake = jax.random.split(jax.random.split(key, 5)[0])
    state = drawn_state(play.init)

    @jax.jit
    def run():
        fakes = play.generate(jax.random.key(1), state, images)
        pairs = ((k_real, images["image"].astype(np.float32) / 255), (k_fake, fakes.x))
        seen = [(augmented(k, 2 * x - 1, config.augment) + 1) / 2 for k, x in pairs]
        D = gan.Discriminator(config, np.float32)
        of_real, of_fake = (D.apply({"params": state.params["discriminator"]}, x, False) for x in seen)
        metrics = play.discriminator_turn(key, state, images, fakes)[1]
        return metrics["discriminator_loss"], (nn.softplus(-of_real) + nn.softplus(of_fake)).mean()

    np.testing.assert_allclose(*run(), rtol=1e-5)


def test_looking_ahead_past_units_that_are_off_has_a_gradient(batch):
    """Gradients are exactly 0 with all hidden units of D off, where the square root in Adam has no derivative."""
    config = gan.Config(**SMALL, **FOR_POINTS, unrolled=2)
    play = gan.players(config, POINTS)
    state = drawn_state(play.init)
    d = state.params["discriminator"]
    off = {**d, "Dense_0": {**d["Dense_0"], "bias": np.full(8, -100, np.float32)}}
    off["Dense_1"] = {**d["Dense_1"], "bias": np.full(8, -100, np.float32)}

    @jax.jit
    def turn(state):
        return play.generator_turn(jax.random.key(5), state, batch, play.generate(jax.random.key(1), state, batch))

    for params in (d, off):
        after, metrics = turn(state._replace(params={**state.params, "discriminator": params}))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
        assert (float(metrics["generator_gradient"]) == 0) == (params is off)


def test_modes_seen_are_point_modes(batch):
    """Compared for a step's fakes, around some of the fakes, and for real points with noise."""
    config = gan.Config(**SMALL, **FOR_POINTS)
    play = gan.players(config, POINTS)
    state = drawn_state(play.init)
    fakes = jax.jit(lambda: play.generate(jax.random.key(1), state, batch)._replace(pullback=None))()
    fake = np.asarray(fakes.x)
    mixture = np.float64([fake[0], fake[0] + 10, fake[fake[:, 0].argmax()], fake[0] - 10]), 0.005
    metrics = gan.players(config, POINTS._replace(mixture=mixture)).compared(batch, fakes)
    found = point_modes(fake, *mixture)
    assert 0 < found.modes < 4
    np.testing.assert_allclose(metrics["modes"], found.modes / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["high_quality"], found.high_quality, rtol=1e-6)

    rng = np.random.default_rng(2)
    points = gaussians.draw(rng, *gaussians.modes("ring"), 40)["point"][:7]
    points = np.concatenate([points, points + rng.normal(0, 0.02, points.shape).astype(np.float32)])
    found, seen = point_modes(points, *POINTS.mixture), gan.seen_modes(POINTS, jnp.asarray(points))
    assert 0 < found.high_quality < 1
    np.testing.assert_allclose([seen["modes"], seen["high_quality"]], [found.modes / 8, found.high_quality], rtol=1e-6)
    assert gan.seen_modes(POINTS._replace(mixture=None), jnp.asarray(points)) == {}


@pytest.mark.slow
def test_a_ring_is_learned():
    """The documented small network for points, 6,000 steps of 128: a third of the distance, half of the modes."""
    points = gaussians.draw(np.random.default_rng(0), *POINTS.mixture, 100_000)["point"]
    config = gan.Config(
        **FOR_POINTS | {"generator_units": 128, "discriminator_units": 128, "latent_dim": 2, "penalty": "none"}
    )
    model = gan.make(config, POINTS._replace(batch_size=128))
    before = jax.jit(model.init)(jax.random.key(0))

    @jax.jit
    def trained(state):
        def step(state, key):
            k_rows, k_step = jax.random.split(key)
            rows = jax.random.randint(k_rows, (128,), 0, len(points))
            return model.phases[0].step(k_step, state, {"point": jnp.asarray(points)[rows]})

        return jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 6000))

    after, metrics = trained(before)
    made = [np.asarray(model.sampler.draw(jax.random.key(2), state, 2500, {})["point"]) for state in (before, after)]
    distances = [energy_distance(x[:1000], points[:1000]) for x in made]
    found = [point_modes(x, *POINTS.mixture) for x in made]
    assert distances[1] < distances[0] / 3
    assert found[1].modes >= found[0].modes + 3
    assert metrics["high_quality"][-100:].mean() > metrics["high_quality"][:100].mean()
