"""TransGAN: its networks against NumPy and the authors' sizes, its step, D's noise and augmentation, memory."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxgen.adversarial.augmentation import augmented
from jaxgen.adversarial.turns import Turns
from jaxgen.errors import UserError
from jaxgen.model import Spec, State
from jaxgen.models import transgan
from tests.cases import some_slow
from tests.models.by_hand import anything, dense, drawn_state, in_float64
from tests.models.contract import Contract

TINY = {"dim": 16, "depths": (1, 1), "discriminator_dim": 8, "discriminator_depth": 1, "heads": 2, "latent_dim": 3}
CONTRACT = Contract(
    TINY
    | {"depths": (1,), "critic_steps": 1, "average_half_life": 0.0}
    | {"loss": "hinge", "penalty": "none", "augment": ()},  # which compile in a third of the time
    prior="gaussian",
)


def spec(size=8, channels=1, **fields):
    entries = {
        "image": jax.ShapeDtypeStruct((size, size, channels), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    return Spec(entries, 64, 3, mean=np.full((size, size, channels), 0.3), **{"batch_size": 8, **fields})


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# The networks, in NumPy's float64 from the paper and the authors' code.


def by_hand_norm(params, name, x):
    """LayerNorm with the layer's gains, or a root mean square of 1 if there is none."""
    if name not in params:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-8)
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * params[name]["scale"] + params[name]["bias"]


def linear(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def by_hand_block(params, x, size, heads, window=None):
    """A block on tokens [batch, tokens, dim], of which the last are a map's; queries attend within their window."""
    attend, (batch, tokens, dim) = params["MapAttention_0"], x.shape
    y = by_hand_norm(params, "LayerNorm_0", x)
    q, k, v = np.moveaxis(linear(attend["Dense_0"], y).reshape(batch, tokens, 3, heads, -1), 2, 0)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(dim // heads)
    if size:
        before, side = tokens - size[0] * size[1], window or max(size)
        places = list(enumerate(product(range(size[0]), range(size[1])), before))
        for (query, (i, j)), (key, (m, n)) in product(places, places):
            if (i // side, j // side) == (m // side, n // side):
                height, width = (window, window) if window else size
                scores[:, :, query, key] += attend["bias"][i - m + height - 1, j - n + width - 1]
            else:
                scores[:, :, query, key] = -np.inf
    mixed = np.einsum("bhqk,bkhd->bqhd", scipy.special.softmax(scores, -1), v).reshape(x.shape)
    x = x + linear(attend["Dense_1"], mixed)
    y = linear(params["Dense_0"], by_hand_norm(params, "LayerNorm_1", x))
    return x + linear(params["Dense_1"], y * (1 + scipy.special.erf(y / np.sqrt(2))) / 2)


def by_hand_generator(config, params, z, y, size, channels, window=None):
    """Images of a G of two stages, the second after a pixel shuffle."""
    half = size // 2
    x = dense(params["Dense_0"], z).reshape(len(z), half * half, -1) + params["position_0"]
    if config.conditional:
        x = np.concatenate([linear(params["token"], y)[:, None], x], 1)
    x = by_hand_block(params["block_0_0"], x, (half, half), config.heads)[:, -half * half :]
    x = x.reshape(len(z), half, half, -1, 2, 2).transpose(0, 1, 4, 2, 5, 3)  # channel 4 c + 2 i + j
    x = x.reshape(len(z), size * size, -1) + params["position_1"]
    x = by_hand_block(params["block_1_0"], x, (size, size), config.heads, window)
    return linear(params["Dense_1"], x).reshape(len(z), size, size, channels)


def by_hand_discriminator(config, params, x, y, window=None):
    """Logits without noise: patches of two sides, a map averaged down, and a class token."""
    (batch, size, *_), parts = x.shape, []
    for layer, side in ((params["Dense_0"], config.patch), (params["Dense_1"], 2 * config.patch)):
        pieces = [
            x[:, i : i + side, j : j + side].reshape(batch, 1, -1)
            for i, j in product(range(0, size, side), range(0, size, side))
        ]
        parts.append(linear(layer, np.concatenate(pieces, 1)))
    side, (fine, coarse) = size // config.patch, parts
    fine = by_hand_block(params["block_0_0"], fine + params["position_0"], (side, side), config.heads, window)
    fine = fine.reshape(batch, side // 2, 2, side // 2, 2, -1).mean((2, 4)).reshape(batch, (side // 2) ** 2, -1)
    x = np.concatenate([fine, coarse], -1) + params["position_1"]
    x = by_hand_block(params["block_1_0"], x, (side // 2, side // 2), config.heads)
    x = np.concatenate([linear(params["token"], y)[:, None], x], 1)
    x = by_hand_block(params["block_token"], x, None, config.heads)[:, 0]
    return linear(params["Dense_2"], by_hand_norm(params, "LayerNorm_0", x))


def quiet(params):
    """D's parameters with scales of noise at 0, where they begin."""
    return jax.tree.map_with_path(lambda path, leaf: leaf * (path[-1].key != "noise"), params)


@pytest.mark.parametrize(
    ("fields", "size", "window"),
    [
        ({"conditional": True}, 8, None),
        ({"normalization": "pixel", "whole": 4, "window": 2, "patch": 1}, 8, 2),  # of maps of 8x8
    ],
)
def test_networks_equal_numpy(fields, size, window):
    """G goes beyond black and white, as it has no tanh, and is clipped in uint8 only."""
    config, channels = transgan.Config(**TINY, **fields), 2
    z, x, y = normal(3, 3), normal(3, size, size, channels), np.eye(3, dtype=np.float32)
    y = y if config.conditional else np.ones((3, 1), np.float32)
    g = transgan.Generator(config, (size, size, channels), np.dtype("float32"))
    d = transgan.Discriminator(config, np.dtype("float32"))
    key = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    of_g, of_d = (anything(jax.eval_shape(net.init, key, example, y)["params"]) for net, example in ((g, z), (d, x)))
    of_d = quiet(of_d)
    made = jax.jit(g.apply)({"params": of_g}, z, y)
    expected = by_hand_generator(config, in_float64(of_g), np.float64(z), y, size, channels, window)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
    logits = jax.jit(d.apply)({"params": of_d}, x, y, rngs={"noise": jax.random.key(5)})
    expected = by_hand_discriminator(config, in_float64(of_d), np.float64(x), y, window)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(made).max() > 1


def block(player, size):
    return transgan.Block(transgan.Config(**TINY), player, size, np.dtype("float32"))


def test_without_positions_a_block_does_not_see_the_order_of_tokens():
    x, order = normal(2, 4, 8), np.array([2, 0, 3, 1])
    for size in (None, (2, 2)):
        net = block("generator", size)
        params = anything(jax.eval_shape(net.init, jax.random.key(0), x))
        apply = jax.jit(partial(net.apply, params))
        same = np.allclose(apply(x[:, order]), np.asarray(apply(x))[:, order], rtol=1e-4, atol=1e-5)
        assert same == (size is None)


def test_the_discriminators_noise_begins_at_none_and_is_one_number_a_token():
    """Every key gives the same with a scale of 0, and where kernels sum to 0 over a token's numbers; else not."""
    x, net = normal(2, 4, 8), block("discriminator", None)
    params = anything(jax.eval_shape(net.init, {"params": jax.random.key(0), "noise": jax.random.key(0)}, x)["params"])
    kernel = params["MapAttention_0"]["Dense_0"]["kernel"]
    centered = {**params["MapAttention_0"], "Dense_0": {"kernel": kernel - kernel.mean(0)}}
    apply = jax.jit(lambda params, key: net.apply({"params": params}, x, rngs={"noise": jax.random.key(key)}))

    def apart(params):
        return np.abs(apply(params, 0) - apply(params, 1)).max((1, 2))

    assert (apart(quiet(params)) == 0).all()
    assert (apart({**params, "MapAttention_0": centered}) < 1e-5).all()
    assert (apart(params) > 1e-3).all()


def authors_blocks(dim, window, depth=1, gains=True):
    """Number of parameters of blocks with 4 heads: q, k and v without biases, three more layers, the table, norms."""
    layers = 3 * dim**2 + (dim + 1) * dim + (dim + 1) * 4 * dim + (4 * dim + 1) * dim
    return depth * (layers + 4 * (2 * window - 1) ** 2 * bool(window) + 4 * dim * gains)


@pytest.mark.parametrize(
    ("size", "fields", "side", "depths", "latent_dim"),
    [
        (32, {}, 8, (5, 4, 2), 256),
        (48, {"latent_dim": 512, "depths": (7, 5, 3), "normalization": "pixel"}, 12, (7, 5, 3), 512),
    ],
)
def test_the_recipes_have_the_authors_parameters(size, fields, side, depths, latent_dim):
    """Counts for CIFAR-10 and STL-10 follow from their code's layers; D has a scale of noise a block."""
    model = transgan.make(transgan.Config(**fields), spec(size, 3))
    found = {
        player: sum(leaf.size for leaf in jax.tree.leaves(params))
        for player, params in jax.eval_shape(model.init, jax.random.key(0)).params.items()
    }
    gains = "normalization" not in fields
    maps = [(1024 >> 2 * stage, side << stage) for stage in range(3)]
    generator = (latent_dim + 1) * side**2 * 1024 + 3 * (64 + 1)
    generator += sum(dim * width**2 for dim, width in maps)
    generator += sum(authors_blocks(*one, depth, gains) for one, depth in zip(maps, depths, strict=True))
    fine, coarse, width = 288, 96, size // 2
    discriminator = (3 * 2**2 + 1) * fine + (3 * 4**2 + 1) * coarse + fine * width**2 + 384 * (width // 2) ** 2
    discriminator += authors_blocks(fine, width, 3, gains) + authors_blocks(384, width // 2, 3, gains) + 3 + 3
    discriminator += 384 + authors_blocks(384, 0, 1, gains) + 1 + 2 * 384 * gains + 384 + 1
    assert found == {"generator": generator, "discriminator": discriminator}


@pytest.mark.parametrize(
    ("size", "maps", "dims", "of_d"),
    some_slow(
        [
            (28, (7, 14, 28), (256, 64, 16), (14, 7)),
            (64, (8, 16, 32, 64), (1024, 1024, 256, 64), (32, 16)),
            (16, (4, 8, 16), (128, 32, 8), (8, 4)),
            (32, (8, 16, 32), (1024, 256, 64), (16, 8)),
            (128, (8, 16, 32, 64, 128), (1024, 1024, 1024, 256, 64), (64, 32)),
        ],
        quick=2,
    ),
)
def test_maps_and_widths_follow_the_image_size(size, maps, dims, of_d):
    """Tables of biases show windows: 31 offsets of 16x16 pixels on maps above 48 pixels, else those of the map."""
    model = transgan.make(transgan.Config(), spec(size))
    state = jax.eval_shape(model.init, jax.random.key(0))
    g, d = state.params["generator"], state.params["discriminator"]
    for stage, (side, dim) in enumerate(zip(maps, dims, strict=True)):
        assert g[f"position_{stage}"].shape == (side**2, dim)
        offsets = 2 * (16 if side > 48 else side) - 1
        assert g[f"block_{stage}_0"]["MapAttention_0"]["bias"].shape == (offsets, offsets, 4)
    assert [d[f"position_{scale}"].shape[0] for scale in (0, 1)] == [side**2 for side in of_d]
    image = jax.eval_shape(lambda s: model.sampler.draw(jax.random.key(1), s, 4, {}), state)["image"]
    assert (image.shape, image.dtype) == ((4, size, size, 1), np.uint8)


def test_initial_weights_are_the_authors():
    """PyTorch's default in G, within 1 / sqrt(inputs); N(0, .02) in D, its biases 0; Glorot's as of convolutions."""
    config, keys = transgan.Config(), {"params": jax.random.key(0), "noise": jax.random.key(0)}
    nets = [transgan.Block(config, player, (8, 8), np.dtype("float32")) for player in ("generator", "discriminator")]
    g, d = jax.jit(lambda: [net.init(keys, jnp.zeros((1, 64, 64)))["params"] for net in nets])()
    for layer, inputs in ((g["Dense_0"], 64), (g["Dense_1"], 256), (g["MapAttention_0"]["Dense_1"], 64)):
        for values in layer.values():
            assert 0.9 * inputs**-0.5 < np.abs(values).max() <= inputs**-0.5
        assert layer["kernel"].var() == pytest.approx(1 / (3 * inputs), rel=0.05)
    for layer in (d["Dense_0"], d["Dense_1"]):
        assert layer["kernel"].std() == pytest.approx(0.02, rel=0.05)
        assert not layer["bias"].any()
    assert d["noise"] == 0
    assert g["MapAttention_0"]["bias"].std() == pytest.approx(0.02, rel=0.1)
    start = transgan.of_pixels(4, 4, 48)  # 2x2 pixels to 48 channels: 4 inputs, 192 outputs
    for name, bound in (("kernel_init", np.sqrt(6 / 196)), ("bias_init", 1 / 2)):
        assert 0.95 * bound < np.abs(start[name](jax.random.key(1), (500,))).max() <= bound


# The step.


def test_the_generators_update_has_fakes_of_its_own(monkeypatch):
    """G has `generator_batch` fakes, of the batch's first labels; D's last update has its part of the batch."""
    notes, keys = [], jax.random.split(jax.random.key(3), 3)
    part, batch = {"image": np.zeros(4)}, {"image": np.arange(8), "label": np.arange(8)}

    def note(name, *arguments):
        notes.append((name, arguments))

    def generate(key, state, batch):
        note("fakes", state, batch)
        return jax.random.key_data(key).tolist()

    made = Turns(
        None,
        lambda key, state, batch: (1, tuple(keys), part),
        generate,
        lambda key, state, batch, fakes: (note("D", state, batch, fakes), (2, {"d": 1}))[1],
        lambda key, state, batch, fakes: (note("G", state, batch, fakes), (3, {"g": 2}))[1],
        lambda state, fakes: (note("finished", state, fakes), 4)[1],
        lambda batch, fakes: (note("compared", batch, fakes), {"spread": 3})[1],
        None,
        None,
    )
    monkeypatch.setattr(transgan, "turns", lambda *given: made)
    for number in (None, 6):
        notes.clear()
        model = transgan.make(transgan.Config(**TINY, generator_batch=number), spec())
        after, metrics = model.phases[0].step("key", 0, batch)
        beside = {name: entry[: number or 4].tolist() for name, entry in batch.items()}
        (first, of_d, second, of_g, finished, compared), fakes = notes, jax.random.key_data(keys[0]).tolist()
        assert first == ("fakes", (1, part))
        assert of_d == ("D", (1, part, fakes))
        assert [name for name, _ in (second, of_g)] == ["fakes", "G"]
        state, given = second[1]
        assert (state, {name: entry.tolist() for name, entry in given.items()}) == (2, beside)
        fresh = of_g[1][2]
        assert fresh not in [jax.random.key_data(key).tolist() for key in keys]
        assert finished == ("finished", (3, fresh))
        assert compared == ("compared", (part, fakes))
        assert (after, metrics) == (4, {"d": 1, "g": 2, "spread": 3})


@pytest.fixture(scope="module")
def turn():
    """Plays D's turn on a batch: the config, the state before and after it, the fakes and the metrics."""
    fields = TINY | {"depths": (1,), "augment": ("color",), "drift": 0.5, "conditional": True, "clip": 0.5}
    config = transgan.Config(**fields, critic_steps=1)
    config = transgan.sized(config, spec())
    play = transgan.players(config, spec())
    state = drawn_state(play.init)
    batch = {"image": np.random.default_rng(1).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)}
    batch["label"] = np.int32([0, 1, 2, 0, 1, 2, 0, -1])

    @jax.jit
    def run(state):
        fakes = play.generate(jax.random.key(1), state, batch)
        return fakes.x, *play.discriminator_turn(jax.random.key(2), state, batch, fakes)

    return config, state, batch, *run(state)


def test_augmentation_is_inside_the_discriminator(turn):
    """The penalty is of D(T(x)) between images as they are; D sees another T of real and of fake images."""
    config, state, batch, fake, _, metrics = turn
    params, real = state.params["discriminator"], jnp.float32(batch["image"]) / 127.5 - 1
    net = transgan.Discriminator(config, np.dtype("float32"))

    @jax.jit
    def logits(key, x):
        k_augment, k_noise = jax.random.split(key)
        y = jax.nn.one_hot(batch["label"], 3)
        return net.apply({"params": params}, augmented(k_augment, x, ("color",)), y, rngs={"noise": k_noise})[:, 0]

    _, k_judge, k_penalty, _, k_critic = jax.random.split(jax.random.key(2), 5)
    of_real, of_fake = (logits(k, x) for k, x in zip(jax.random.split(k_judge), (real, fake), strict=True))
    share = jax.random.uniform(k_penalty, (8, 1, 1, 1))
    slopes = jax.jit(jax.grad(lambda x: logits(k_critic, x).sum()))(share * real + (1 - share) * fake)
    np.testing.assert_allclose(metrics["discriminator_loss"], of_fake.mean() - of_real.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["drift"], of_real.mean() ** 2, rtol=1e-4)
    norms = np.sqrt((np.float64(slopes) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(metrics["penalty"], ((norms - 1) ** 2).mean(), rtol=1e-4)


def test_a_clipped_gradient_of_second_order_is_finite(turn):
    """Adam's first moment, with beta1 0, is D's gradient: finite, none is left out, its global norm at most .5."""
    _, _, _, _, after, metrics = turn
    moments = optax.tree_utils.tree_get(after.opt_state["discriminator"], "mu")
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(moments))
    norm = np.sqrt(sum((np.float64(leaf) ** 2).sum() for leaf in jax.tree.leaves(moments)))
    assert metrics["discriminator_gradient"] > 1
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_blocks_computed_again_have_the_same_gradients_from_less_memory():
    """A block keeps its input only: 64 tokens of 16 numbers for each of 4 images, beside the parameters.

    What the backward pass is given is the pullback's leaves. Compilers for CPUs undo the second computation.
    """
    z, kept, gradients = normal(4, 3), [], []
    for again in (False, True):
        config = transgan.Config(**{**TINY, "depths": (3,)}, rematerialize=again)
        net = transgan.Generator(config, (8, 8, 1), np.dtype("float32"))
        params = anything(jax.eval_shape(net.init, jax.random.key(0), z, None))

        def loss(params, net=net):
            return (net.apply(params, z, None) ** 2).sum()

        pullback = jax.eval_shape(lambda params, loss=loss: jax.vjp(loss, params)[1], params)
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(pullback)))
        gradients.append(jax.jit(jax.grad(loss))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()), *gradients)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert kept[1] < numbers + 6 * 4 * 64 * 16
    assert kept[0] - numbers > 10 * (kept[1] - numbers)


def test_labels_are_asked_for_and_samples_are_clipped():
    """A last bias of 3 makes all pixels white; samples need a label, and are of the averaged G."""
    model = transgan.make(transgan.Config(**TINY, conditional=True), spec())
    assert (model.needs, model.sampler.conditions) == (("image", "label"), ("label",))
    assert model.sampler.note == "the averaged G(z|y)"
    state = State(*drawn_state(model.init))
    average = jax.tree.map(np.zeros_like, state.extra["average"]["params"])
    average["Dense_1"]["bias"] = np.full(1, 3, np.float32)
    state = state._replace(extra={**state.extra, "average": {"params": average, "batch_stats": {}}})
    asked = {"label": np.int32([0, 1])}
    samples = jax.jit(lambda state: model.sampler.draw(jax.random.key(0), state, 2, asked)["image"])(state)
    assert (samples == 255).all()


@pytest.mark.parametrize(
    ("fields", "size", "words"),
    [
        ({"depths": ()}, 8, "depths must be numbers above 0, one for each map of G, not ()"),
        (
            {"depths": (1, 1, 1, 1)},
            8,
            "depths (1, 1, 1, 1) double G's first map, of 2 to 48 a side, 3 times: not to 8x8",
        ),
        ({"depths": (1,)}, 64, "depths (1,) double G's first map, of 2 to 48 a side, 0 times: not to 64x64"),
        ({"patch": 3}, 16, "patch must divide half of each side of images of 16x16, not be 3"),
        ({"dim": 60}, 16, "dim must be a multiple of 64, 16 times heads"),
        ({"discriminator_dim": 40}, 16, "discriminator_dim must be a multiple of 16, 4 times heads"),
        ({"window": 5}, 64, "window must divide maps of over 48 a side, as 5 does not"),
        ({"generator_batch": 9}, 16, "generator_batch must be at most batch_size, 8, not 9"),
        ({"spectral_norm": True}, 16, "transgan takes no spectral_norm: the norms before its layers undo a kernel's"),
        ({"average": 0.9}, 16, "average and average_half_life are two ways to set one average: choose one"),
        ({"heads": 0}, 16, "heads must be above 0"),
    ],
)
def test_values_that_cannot_be(fields, size, words):
    with pytest.raises(UserError) as raised:
        transgan.make(transgan.Config(**fields), spec(size))
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


def test_labels_that_the_data_have_not():
    unlabeled = replace_classes(spec())
    with pytest.raises(UserError, match="conditional takes images with labels: the data have image"):
        transgan.make(transgan.Config(conditional=True), unlabeled)


def replace_classes(told):
    return told._replace(entries={"image": told.entries["image"]}, num_classes=None)
