"""Conditional GAN: the label's inputs to the networks and players, the maxout networks written out, samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxgen import data
from jaxgen.adversarial.augmentation import augmented
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import extractors
from jaxgen.metrics import label_agreement
from jaxgen.model import Spec
from jaxgen.models import cgan
from jaxgen.nn.conv import conv, conv_transpose
from tests.models import by_hand
from tests.models.by_hand import anything, batch_norm, dense, drawn_state, in_float64, relu
from tests.models.contract import Contract

CONTRACT = Contract({"features": 4, "smallest": 4, "latent_dim": 5}, conditional=True, prior="uniform")

TINY = {
    "conv": {"latent_dim": 3, "features": 2, "smallest": 2},
    "maxout": {
        "network": "maxout", "latent_dim": 3, "generator_units": (4, 5, 6), "discriminator_units": (4, 3, 5)
    },
}  # fmt: skip
NETWORKS = list(TINY)


def spec(size=8, **fields):
    entries = {
        "image": jax.ShapeDtypeStruct((size, size, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    mean = np.linspace(0.2, 0.6, size * size).reshape(size, size, 1)
    return Spec(entries, 64, 3, mean=mean, batch_size=6)._replace(**fields)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    return {"image": images, "label": np.array([0, 1, 2, 0, 1, 1], np.int32), "weight": np.ones(6, np.float32)}


@pytest.fixture(scope="module")
def start():
    """Map from network to config, model and initial state, with kernels large enough to show a label's effect."""
    made = {}
    for network, fields in TINY.items():
        config = cgan.Config(**fields)
        model = cgan.make(config, spec())
        made[network] = config, model, drawn_state(model.init)
    return made


def nets(config, state):
    """G of (params, z, y) and D of (params, x, y), as in sampling."""

    def net(i, player):
        module = cgan.NETWORKS[config.network][i](config, spec())
        averages = state.extra[player]
        return jax.jit(lambda params, x, y: module.apply({"params": params, "batch_stats": averages}, x, y, False))

    return net(0, "generator"), net(1, "discriminator")


def inputs(batch):
    z = jax.random.uniform(jax.random.key(7), (6, 3), minval=-1)
    return {"generator": z, "discriminator": jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1}


def label_parts(config, player, params):
    """Map from each layer that gets the label to the parameters with the label's weights there set to 0."""

    def cut(path, rows):
        *names, name = path
        changed = jax.tree.map(lambda leaf: leaf, params)
        inner = changed
        for each in names:
            inner = inner[each]
        inner[name] = inner[name].copy()
        inner[name][rows] = 0
        return changed

    if config.network == "maxout":
        return {"hidden": cut(("Dense_1", "kernel"), slice(None))}
    places = {name: cut((name, "kernel"), slice(None)) for name in params if name.startswith("label_")}
    return places | {"dense": cut(("Dense_0", "kernel"), slice(-3, None))}


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_label_reaches_every_layer(network, player, start, batch):
    """Another label changes the output through each layer that gets the label, and through no other."""
    config, _, state = start[network]
    apply = nets(config, state)[player == "discriminator"]
    given, params = inputs(batch)[player], state.params[player]
    y, other = (np.eye(3, dtype=np.float32)[(batch["label"] + i) % 3] for i in (0, 1))
    parts = label_parts(config, player, params)
    assert len(parts) == (3 if network == "conv" else 1)  # 8x8 is halved twice
    none = params
    for name in parts:
        none = label_parts(config, player, none)[name]

    def change(params):
        return np.abs(apply(params, given, y) - apply(params, given, other)).reshape(6, -1).max(1)

    assert change(none).max() == 0  # only these weights distinguish labels
    for name, without in parts.items():
        only = jax.tree.map(lambda p, cut, whole: whole + p - cut, params, without, none)
        assert change(only).min() > 1e-4, name
        assert np.abs(apply(params, given, y) - apply(without, given, y)).max() > 1e-4


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kernel", [4, 5])
def test_a_labeled_layer_is_the_layer_of_the_label_appended_at_every_pixel(transposed, kernel):
    from functools import partial

    import flax.linen as nn

    layer = partial(
        cgan.ConvTranspose if transposed else cgan.Conv, kernel_size=(kernel,) * 2, strides=(2, 2), use_bias=False
    )

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            return cgan.labeled(layer, 5, x, y, "label")

    x, y = jax.random.normal(jax.random.key(0), (4, 6, 8, 2)), jax.nn.one_hot(np.array([2, 0, 1, 2]), 3)
    params = anything(jax.eval_shape(Net().init, jax.random.key(1), x, y)["params"])
    of_maps = params["ConvTranspose_0" if transposed else "Conv_0"]["kernel"]
    of_label = params["label"]["kernel"]
    maps = jnp.concatenate([x, jnp.broadcast_to(y[:, None, None], (4, 6, 8, 3))], axis=-1)
    if transposed:  # kernels [kh, kw, out, in]
        joined = jnp.concatenate([of_maps, of_label.reshape(kernel, kernel, 3, 5).swapaxes(2, 3)], axis=3)
        expected = conv_transpose(maps, joined, strides=(2, 2))
    else:
        joined = jnp.concatenate([of_maps, of_label.reshape(kernel, kernel, 3, 5)], axis=2)
        expected = conv(maps, joined, strides=(2, 2))
    found = jax.jit(Net().apply)({"params": params}, x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_d_is_given_the_batchs_label_with_real_and_with_fake_images(start, batch):
    """Both players' losses, from D's outputs: -log D(x|y) - log(1 - D(G|y)), and -log D(G|y)."""
    config, _, state = start["conv"]
    play = cgan.players(config, spec())
    net = cgan.ConvolutionalDiscriminator(config, spec())
    variables = {"params": state.params["discriminator"], "batch_stats": state.extra["discriminator"]}

    @jax.jit
    def turns(state):
        fakes = play.generate(jax.random.key(1), state, batch)
        (_, value), _ = play.generator_loss(jax.random.key(2), state, batch, fakes)
        metrics = play.discriminator_turn(jax.random.key(2), state, batch, fakes)[1]
        return fakes._replace(pullback=None), metrics["discriminator_loss"], value

    fakes, of_discriminator, of_generator = turns(state)
    np.testing.assert_array_equal(fakes.drawn[1], np.eye(3)[batch["label"]])

    @jax.jit
    def logits(x, label):
        return net.apply(variables, x, jax.nn.one_hot(label, 3), True, mutable=["batch_stats"])[0][:, 0]

    def losses(label):
        real, fake = (
            np.asarray(logits(x, label), np.float64) for x in (inputs(batch)["discriminator"], fakes.x)
        )  # fmt: skip
        log_sigmoid = scipy.special.log_expit
        return -log_sigmoid(real).mean() - log_sigmoid(-fake).mean(), -log_sigmoid(fake).mean()

    (d_loss, g_loss), others = losses(batch["label"]), losses((batch["label"] + 1) % 3)
    np.testing.assert_allclose(of_discriminator, d_loss, rtol=1e-4)
    np.testing.assert_allclose(of_generator, g_loss, rtol=1e-4)
    assert abs(others[0] - d_loss) > 1e-2 * d_loss
    assert abs(others[1] - g_loss) > 1e-2 * g_loss


@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
def test_normalization_has_no_scale_or_shift_and_layers_no_bias(normalization):
    config = cgan.Config(**TINY["conv"], normalization=normalization)
    state = jax.eval_shape(cgan.make(config, spec()).init, jax.random.key(0))
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(state.params)}
    assert names == {"kernel"}
    assert bool(state.extra["discriminator"]) == (normalization == "batch")
    assert set(state.extra["generator"]) == {"BatchNorm_0", "BatchNorm_1"}


def test_convolutional_nets_equal_numpy(start, batch):
    """Training mode has label maps beside each layer's, BatchNorm by the batch's statistics, slope .2, tanh in G."""
    config, _, state = start["conv"]
    G, D = (net(config, spec()) for net in cgan.NETWORKS["conv"])
    given, y, params = inputs(batch), np.eye(3)[batch["label"]], anything(state.params)
    g, d = in_float64(params["generator"]), in_float64(params["discriminator"])

    def found(net, player):
        variables = {"params": params[player], "batch_stats": state.extra[player]}
        return jax.jit(lambda x: net.apply(variables, x, jnp.float32(y), True, mutable=["batch_stats"])[0])(
            given[player]
        )

    def labeled(layer, of_maps, of_label, x):
        """Adds a layer of maps and a layer of the label, which has kernels for each class."""
        maps = np.broadcast_to(y[:, None, None], (*x.shape[:3], 3))
        kernel = of_label["kernel"].reshape(4, 4, 3, -1)
        if layer is by_hand.conv_transpose:
            kernel = kernel.swapaxes(2, 3)
        return layer(of_maps, x) + layer({"kernel": kernel}, maps)

    h = dense(g["Dense_0"], np.concatenate([given["generator"], y], axis=1)).reshape(6, 2, 2, 4)
    h = labeled(by_hand.conv_transpose, g["ConvTranspose_0"], g["label_1"], relu(batch_norm(h)))
    h = labeled(by_hand.conv_transpose, g["ConvTranspose_1"], g["label_0"], relu(batch_norm(h)))
    np.testing.assert_allclose(found(G, "generator"), np.tanh(h), rtol=1e-4, atol=1e-5)

    h = relu(labeled(by_hand.conv, d["Conv_0"], d["label_0"], np.float64(given["discriminator"])), 0.2)
    h = relu(batch_norm(labeled(by_hand.conv, d["Conv_1"], d["label_1"], h)), 0.2)
    logits = dense(d["Dense_0"], np.concatenate([h.reshape(6, -1), y], axis=1))
    np.testing.assert_allclose(found(D, "discriminator"), logits, rtol=1e-4, atol=1e-4)


def test_maxout_nets_equal_numpy(start, batch):
    config, model, state = start["maxout"]
    generate, discriminate = nets(config, state)
    params = state.params
    z, y = np.asarray(inputs(batch)["generator"], np.float64), np.eye(3)[batch["label"]]
    x = batch["image"].reshape(6, -1) / 255
    g, d = (jax.tree.map(lambda p: np.asarray(p, np.float64), params[p]) for p in ("generator", "discriminator"))

    hidden = np.concatenate([dense(g["Dense_0"], np.sqrt(3) * z), dense(g["Dense_1"], y)], axis=1).clip(0)
    hidden = dense(g["Dense_2"], hidden).clip(0)
    image = scipy.special.expit(dense(g["Dense_3"], hidden).reshape(6, 8, 8, 1) + g["marginals"])
    np.testing.assert_allclose(generate(params["generator"], z.astype(np.float32), y), image, rtol=1e-4)
    start = jax.jit(model.init)(jax.random.key(0)).params["generator"]["marginals"]
    np.testing.assert_allclose(scipy.special.expit(start), spec().mean, rtol=1e-5)

    def largest(layer, x, units, pieces):
        return dense(layer, x).reshape(6, units, pieces).max(2)

    hidden = np.concatenate([largest(d["Dense_0"], x, 4, 5), largest(d["Dense_1"], y, 3, 5)], axis=1)
    logits = dense(d["Dense_3"], largest(d["Dense_2"], hidden, 5, 4))
    given = (x.reshape(6, 8, 8, 1).astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose(discriminate(params["discriminator"], *given), logits, rtol=1e-4)
    decoded = jax.jit(model.latents.decode)(state, z.astype(np.float32), {"label": batch["label"]})
    np.testing.assert_allclose(decoded["image"], image, rtol=1e-4)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_maxout_drops_half_of_the_hidden_units(player, batch):
    """Each unit of the three layers is 0 or doubled in training mode, which the next layers see."""
    units = (300, 400, 500)
    config = cgan.Config(network="maxout", latent_dim=3, generator_units=units, discriminator_units=units)
    net = cgan.NETWORKS["maxout"][player == "discriminator"](config, spec())
    x, y = jnp.abs(inputs(batch)[player]), jax.nn.one_hot(batch["label"], 3)
    params = anything(jax.eval_shape(lambda: net.init(jax.random.key(0), x, y, training=False))["params"])
    captured = {"rngs": {"dropout": jax.random.key(1)}, "capture_intermediates": True, "mutable": ["intermediates"]}
    out, state = jax.jit(lambda x: net.apply({"params": params}, x, y, True, **captured))(x)
    outputs = state["intermediates"]
    seen = {name: np.float64(outputs[name]["__call__"][0]) for name in outputs if name != "__call__"}
    for i, pieces in enumerate(cgan.PIECES):
        linear, kept = seen[f"Dense_{i}"], seen[f"Dropout_{i}"]
        unit = linear.clip(0) if player == "generator" else linear.reshape(6, units[i], pieces).max(2)
        factors = (kept / np.where(unit == 0, 1, unit))[unit != 0]
        np.testing.assert_allclose(factors, np.where(factors > 1, 2, 0), rtol=1e-5)
        assert abs((factors > 1).mean() - 0.5) < 5 * 0.5 / np.sqrt(factors.size)
        assert factors.size > 500
    both = np.concatenate([seen["Dropout_0"], seen["Dropout_1"]], axis=1)
    np.testing.assert_allclose(seen["Dense_2"], dense(in_float64(params["Dense_2"]), both), rtol=1e-4, atol=1e-3)
    last = dense(in_float64(params["Dense_3"]), seen["Dropout_2"])
    if player == "generator":
        last = scipy.special.expit(last.reshape(6, 8, 8, 1) + params["marginals"])
    np.testing.assert_allclose(out, last, rtol=1e-4, atol=1e-3)


def test_maxouts_dropout_is_drawn_in_both_turns_by_their_keys(start, batch):
    """G's dropout uses the key of its fakes; D's in G's turn uses the second of three keys split from the turn's."""
    config, _, state = start["maxout"]
    play, (G, D) = cgan.players(config, spec()), (net(config, spec()) for net in cgan.NETWORKS["maxout"])
    g, d = ({"params": state.params[player]} for player in ("generator", "discriminator"))

    @jax.jit
    def run():
        fakes = play.generate(jax.random.key(1), state, batch)
        z, y, key = fakes.drawn
        (_, value), _ = play.generator_loss(jax.random.key(2), state, batch, fakes)
        k_judge = jax.random.split(jax.random.key(2), 3)[1]
        images = [G.apply(g, z, y, training, rngs={"dropout": key}) for training in (True, False)]
        logits = [D.apply(d, fakes.x, y, training, rngs={"dropout": k_judge}) for training in (True, False)]
        return (fakes.x, *images), (value, *(jax.nn.softplus(-each).mean() for each in logits))

    for found, dropped, whole in run():
        np.testing.assert_allclose(found, dropped, rtol=1e-5)
        assert np.abs(found - whole).max() > 0.01


def test_maxouts_images_are_augmented_in_their_range(start, batch):
    """D's loss uses (T(2x - 1) + 1) / 2 for real and fake images, as images are in [0, 1]."""
    _, _, state = start["maxout"]
    config = cgan.Config(**TINY["maxout"], dropout=0.0, augment=("color",))
    play, D = cgan.players(config, spec()), cgan.MaxoutDiscriminator(config, spec())
    variables, key = {"params": state.params["discriminator"]}, jax.random.key(2)
    k_real, k_fake = jax.random.split(jax.random.split(key, 5)[0])

    @jax.jit
    def run():
        fakes = play.generate(jax.random.key(1), state, batch)
        pairs = ((k_real, batch["image"].astype(np.float32) / 255), (k_fake, fakes.x))
        seen = [(augmented(k, 2 * x - 1, config.augment) + 1) / 2 for k, x in pairs]
        of_real, of_fake = (D.apply(variables, x, fakes.drawn[1], False) for x in seen)
        metrics = play.discriminator_turn(key, state, batch, fakes)[1]
        return metrics["discriminator_loss"], (jax.nn.softplus(-of_real) + jax.nn.softplus(of_fake)).mean()

    np.testing.assert_allclose(*run(), rtol=1e-5)


def test_optimizers_are_the_papers():
    """Maxout: rate .1 / 1.00004^n down to 1e-6, momentum .5 to .7; conv: Adam with 2e-4, or the given rate."""
    for player, share in (("generator", 1), ("discriminator", 0.5)):
        sgd = cgan.optimizers(cgan.Config(network="maxout"))[player]
        state = sgd.init(jnp.zeros(2))
        for count, rate, momentum in ((0, 0.1, 0.5), (62_500, 0.1 / 1.00004**62_500, 0.6), (500_000, 1e-6, 0.7)):
            then = jax.tree.map(lambda leaf, n=count: jnp.int32(n) if leaf.dtype == jnp.int32 else leaf, state)
            _, after = sgd.update(jnp.ones(2), then, jnp.zeros(2))
            np.testing.assert_allclose(after.hyperparams["learning_rate"], share * rate, rtol=1e-3)
            np.testing.assert_allclose(after.hyperparams["momentum"], momentum, rtol=1e-5)
    for given, rate in ((None, 2e-4), (0.03, 0.03)):
        adam = cgan.optimizers(cgan.Config(learning_rate=given))["generator"]
        with jax.numpy_dtype_promotion("standard"):
            update, _ = adam.update(jnp.full(2, 5.0), adam.init(jnp.zeros(2)))
        np.testing.assert_allclose(update, -rate, rtol=1e-4)  # Adam's first step is the gradient's sign


@pytest.mark.parametrize("network", NETWORKS)
def test_samples_are_of_the_labels_asked_for(network, start):
    """The model draws no labels itself, so without a condition it gives no samples."""
    _, model, state = start[network]
    label, key = np.arange(12, dtype=np.int32) % 3, jax.random.key(1)
    draw = jax.jit(lambda label: model.sampler.draw(key, state, 12, {"label": label}))
    decode = jax.jit(lambda z, label: model.latents.decode(state, z, {"label": label})["image"])
    made, z = draw(label), model.latents.prior.sample(key, state, 12)
    assert set(made) == {"image"}
    images = np.asarray(made["image"], np.float64)
    assert np.abs(255 * np.asarray(decode(z, label)) - images).max() < 0.501
    assert np.abs(255 * np.asarray(decode(z, (label + 1) % 3)) - images).max() > 1
    with pytest.raises(KeyError, match="label"):
        model.sampler.draw(key, state, 12, {})


@pytest.mark.parametrize(
    ("fields", "of_spec", "words"),
    [
        ({}, {"size": 9}, "cgan cannot make images of 9x9"),
        ({}, {"entries": {"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}}, "from labels: the data have image"),
        ({}, {"entries": {"point": jax.ShapeDtypeStruct((2,), np.float32)}}, "makes images of classes.*have point"),
        ({}, {"num_classes": None}, "makes images of classes"),
        ({"learning_rate": 0.0}, {}, "learning_rate must be above 0"),
        ({"network": "maxout", "dropout": 1.0}, {}, "dropout must be at least 0 and below 1"),
        (
            {"network": "maxout", "generator_units": (4, 0, 4)},
            {},
            r"generator_units must be three numbers above 0, not \(4",
        ),
        ({"network": "maxout", "discriminator_units": (4, 4)}, {}, "discriminator_units must be three numbers"),
        ({"penalty": "zero_centered"}, {}, "penalty zero_centered takes a discriminator without BatchNorm"),
        ({"dropout": 0.3}, {}, r"dropout only applies with --network maxout \(you chose conv\)"),
        (
            {"network": "maxout", "features": 8},
            {},
            r"features only applies with --network conv \(you chose maxout\)",
        ),
        ({"network": "maxout", "batches": "joint"}, {}, "batches joint is for a discriminator with BatchNorm"),
        ({"critic_steps": 4}, {}, r"batch_size must be a multiple of 4 \(critic_steps\), not 6"),
    ],
)
def test_what_cannot_be(fields, of_spec, words):
    with pytest.raises(UserError, match=words) as raised:
        cgan.make(cgan.Config(**fields), spec(**of_spec))
    assert "\n" not in str(raised.value)


def test_maxout_makes_images_that_cannot_be_halved():
    model = cgan.make(cgan.Config(**TINY["maxout"]), spec(9))
    state, condition = jax.eval_shape(model.init, jax.random.key(0)), {"label": np.zeros(4, np.int32)}
    made = jax.eval_shape(lambda s: model.sampler.draw(jax.random.key(1), s, 4, condition), state)
    assert made["image"].shape == (4, 9, 9, 1)


@pytest.mark.slow
def test_a_judge_names_the_labels_asked_for():
    digits = data.load("digits")
    config = cgan.Config(latent_dim=16, features=16, smallest=2, learning_rate=1e-3)
    model = cgan.make(config, digits.spec)
    train = {name: jnp.asarray(digits.train[name]) for name in model.needs}

    @jax.jit
    def trained(state):
        def take(state, i):
            k_rows, k_step = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
            rows = jax.random.randint(k_rows, (64,), 0, len(train["label"]))
            part = {name: entry[rows] for name, entry in train.items()}
            return model.phases[0].step(k_step, state, part)[0], None

        return jax.lax.scan(take, state, jnp.arange(600))[0]

    state = trained(jax.jit(model.init)(jax.random.key(0)))
    _, judge = extractors(digits, progress=False)
    label = np.arange(500, dtype=np.int32) % 10
    made = model.sampler.draw(jax.random.key(2), state, 500, {"label": label})
    found = label_agreement(judge.logits(np.asarray(made["image"])).argmax(1), label)
    print("agreement", found)
    assert found > 0.8
