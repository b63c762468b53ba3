"""PixelCNN's networks by what they see, and their samples by how they are scored."""

from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.autoregressive import drawn_by_fixed_point
from jaxgen.errors import UserError
from jaxgen.heads import make_head
from jaxgen.model import Spec
from jaxgen.models import pixelcnn
from tests.models import autoregressive as ar
from tests.models.by_hand import drawn_state
from tests.models.contract import Contract

CONTRACT = Contract(
    {"features": 4, "layers": 1, "first_kernel": 3, "head_features": 4, "levels": 16}, likelihood="exact"
)

SMALL = {"features": 9, "layers": 2, "first_kernel": 5, "head_features": 24}
NETWORKS = {"gated": pixelcnn.Gated, "original": pixelcnn.Original}
HEADS = {"bits": ("bernoulli", 1, {}), "colors": ("categorical", 3, {"levels": 4}), "mixture": ("logistic", 3, {})}


@cache
def network(name, head="bits", classes=0, scale=1.0):
    """A network of random parameters: `forward`, and `drawn` as `pixelcnn.drawn`, both compiled."""
    likelihood, channels, fields = HEADS[head]
    config = pixelcnn.Config(network=name, likelihood=likelihood, **SMALL, **fields)
    distributions = make_head(likelihood, channels, **fields)
    net = NETWORKS[name](config, distributions, np.dtype("float32"))
    x, y = jnp.zeros((1, 2, 2, channels)), jnp.zeros((1, classes))
    params = ar.lively(jax.eval_shape(net.init, jax.random.key(0), x, y)["params"])
    params["readout" if name == "gated" else "Readout_0"]["MaskedConv_1"]["kernel"] *= scale

    def forward(x, y=None):
        return net.apply({"params": params}, x, jnp.zeros((len(x), 0)) if y is None else y)

    def drawn(key, given, rows, y=None):
        return pixelcnn.drawn(net, params, key, given, rows, jnp.zeros((len(given), 0)) if y is None else y)

    @jax.jit
    def log_prob(level):
        return distributions.log_prob(level, forward(distributions.scaled(level)))

    return SimpleNamespace(head=distributions, forward=jax.jit(forward), drawn=jax.jit(drawn), log_prob=log_prob)


def receptive_field(name, head, shape):
    """Receptive field by hand: a kernel of 5, then two layers with kernels of 3."""
    image = ar.own(head, shape)
    if name == "original":  # with a blind spot: nothing right of a line to the upper right
        found = ar.read(image, ar.taps(3, 2, 2), "A")
        for _ in range(2):
            found |= ar.read(found, ar.taps(2, 1, 1))
        return found
    wide, narrow = ([(i, j) for i in range(-k, 1) for j in range(-k, k + 1)] for k in (2, 1))
    vertical = ar.read(ar.read(image, [(-1, 0)], None), wide, None)
    found = ar.read(image, ar.taps(1, 2, 0), "A") | vertical
    for _ in range(2):
        vertical = ar.read(vertical, narrow, None)
        found |= ar.read(found, ar.taps(1, 1, 0)) | vertical
    return found


@pytest.mark.parametrize(
    ("name", "head", "shape"),
    [("gated", "bits", (6, 8, 1)), ("original", "bits", (6, 8, 1)), ("gated", "colors", (3, 5, 3)),
     ("original", "colors", (3, 5, 3)), ("gated", "mixture", (3, 5, 3))],
)  # fmt: skip
def test_a_pixel_sees_its_receptive_field_and_nothing_else(name, head, shape):
    """The Jacobian is 0, exactly, of the own channel and of all later ones."""
    net = network(name, head)
    seen = ar.seen(net.forward, net.head, shape)
    assert not (seen & ~ar.the_past(net.head, shape)).any()
    np.testing.assert_array_equal(seen, receptive_field(name, net.head, shape))


@pytest.mark.parametrize(
    ("name", "head", "shape"),
    [("gated", "bits", (2, 3, 1)), ("original", "bits", (2, 3, 1)), ("gated", "colors", (1, 2, 3)),
     ("original", "colors", (1, 2, 3))],
)  # fmt: skip
def test_probabilities_sum_to_1(name, head, shape):
    net = network(name, head, scale=3.0)
    images_each = (256 // net.head.levels) ** np.prod(shape) if net.head.space == "uint8" else 1
    ar.assert_a_distribution(net.log_prob, net.head.levels, shape, images_each)


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_have_the_models_probabilities(name):
    net = network(name, scale=3.0)
    level, _ = net.drawn(jax.random.key(2), jnp.zeros((20_000, 2, 2, 1), jnp.int32), 0)
    ar.assert_drawn_as_scored(level, net.log_prob, 2)


@pytest.mark.parametrize(
    ("name", "head"), [("gated", "bits"), ("original", "colors"), ("gated", "colors"), ("gated", "mixture")]
)
def test_drawing_with_a_memory_is_drawing_without(name, head):
    """The outputs for given images; and samples, which are fixed points at the same noise. Images have two labels."""
    net, y = network(name, head, classes=2), jnp.eye(2)[jnp.array([0, 1, 1, 0])]
    given = jnp.asarray(ar.random_levels(net.head, 4, (5, 6, HEADS[head][1])))
    level, outputs = net.drawn(jax.random.key(1), given, 5, y)
    np.testing.assert_array_equal(level, given)
    np.testing.assert_allclose(outputs, net.forward(net.head.scaled(given), y), rtol=1e-4, atol=1e-4)

    level, _ = net.drawn(jax.random.key(1), given, 2, y)
    np.testing.assert_array_equal(level[:, :2], given[:, :2])
    fixed, passes = jax.jit(partial(drawn_by_fixed_point, head=net.head, forward=partial(net.forward, y=y), rows=2))(
        jax.random.key(1), given=given
    )
    np.testing.assert_array_equal(level, fixed)
    assert 2 < passes < 5 * 6 * 3
    assert (level[:, 2:] != given[:, 2:]).any()


# A network by hand, and training.


def convolved(x, layer, offsets, mask=1):
    """Convolves maps [H, W, in] with a kernel whose taps are at these offsets, in the order of `taps`."""
    height, width, _ = x.shape
    kernel = np.float64(layer["kernel"]).reshape(-1, *layer["kernel"].shape[2:])
    y = np.zeros((height, width, kernel.shape[-1])) + np.float64(layer["bias"])
    for i, j in np.ndindex(height, width):
        for (di, dj), tap in zip(offsets, kernel, strict=True):
            if 0 <= i + di < height and 0 <= j + dj < width:
                y[i, j] += x[i + di, j + dj] @ (tap * (mask if (di, dj) == (0, 0) else 1))
    return y


def test_the_gated_network_equals_its_equations():
    """Two conditional layers by NumPy in float64; a vertical kernel of 3 reads rows i-2 and i-1 for row i."""
    rng = np.random.default_rng(0)
    config = pixelcnn.Config(features=3, layers=1, first_kernel=3, head_features=2)
    net = pixelcnn.Gated(config, make_head("bernoulli", 1), np.dtype("float32"))
    x, y = np.float32(rng.choice([-1, 1], (1, 3, 4, 1))), np.float32([[0, 1]])
    params = ar.lively(jax.eval_shape(net.init, jax.random.key(0), x, y)["params"])
    found = jax.jit(net.apply)({"params": params}, x, y)[0, :, :, 0]

    def gate(x, label):
        f, g = np.split(x + label, 2, axis=-1)
        return np.tanh(f) / (1 + np.exp(-g))

    square = [(i, j) for i in (-1, 0) for j in (-1, 0, 1)]
    v, h, skips = np.concatenate([np.zeros((1, 4, 1)), x[0, :-1]]), np.float64(x[0]), 0
    for n in (0, 1):
        layer = params[f"stack_{n}"]
        label = np.split(np.float64(layer["label"]["kernel"])[1], 2)  # of the second class
        v = convolved(v, layer["vertical"], square)
        link = convolved(v, layer["link"], [(0, 0)])
        v = gate(v, label[0])
        a = gate(convolved(h, layer["horizontal"], [(0, -1), (0, 0)], mask=n) + link, label[1])
        skips += convolved(a, layer["skip"], [(0, 0)])
        h = convolved(a, layer["residual"], [(0, 0)]) if n == 0 else None
    hidden = convolved(skips.clip(0), params["readout"]["MaskedConv_0"], [(0, 0)]).clip(0)
    np.testing.assert_allclose(found, convolved(hidden, params["readout"]["MaskedConv_1"], [(0, 0)]), rtol=1e-4)


@pytest.mark.parametrize(("network", "likelihood"), [("gated", "bernoulli"), ("original", "categorical")])
def test_an_untrained_network_gives_all_images_the_same_probability(network, likelihood, digits, batch):
    """64 pixels have 2 or 256 levels each."""
    fields = {"features": 4, "layers": 1, "head_features": 4}
    config = pixelcnn.Config(network, likelihood, **fields)
    model = pixelcnn.make(config, digits.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    found = jax.jit(model.likelihood.log_prob)(None, state, batch)
    np.testing.assert_allclose(found, -64 * np.log({"bernoulli": 2, "categorical": 256}[likelihood]), rtol=1e-6)
    assert (model.likelihood.kind, model.likelihood.space) == (
        "exact",
        {"bernoulli": "binary", "categorical": "uint8"}[likelihood],
    )


@pytest.fixture(scope="module")
def conditional(digits):
    """A model given labels; and, for labels of the training images, its state after some steps and their losses."""
    config = pixelcnn.Config(
        likelihood="bernoulli", conditional=True, features=12, layers=1, first_kernel=5, learning_rate=1e-2
    )
    model = pixelcnn.make(config, digits.spec)

    @jax.jit
    def fit(label):
        def take(state, key):
            rows = jax.random.choice(key, len(label), (64,))
            batch = {"image": jnp.asarray(digits.train["image"])[rows], "label": label[rows]}
            state, metrics = model.phases[0].step(key, state, batch)
            return state, metrics["loss"]

        return jax.lax.scan(take, model.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 150))

    return model, fit


@pytest.mark.slow
def test_the_label_is_learned_and_asked_for(digits, conditional):
    """Over 80% of the test digits, as bits, are most probable of their own class; of labels without a meaning, 10%.

    p(x) is the mean of p(x|y) over the labels that were seen. Samples of two classes differ, at the same key, as do
    completions of one image's upper half.
    """
    model, fit = conditional
    state, losses = fit(jnp.asarray(digits.train["label"]))
    assert losses[0] == pytest.approx(64 * np.log(2))
    assert losses[-20:].mean() < 18
    classify = jax.jit(model.predict["label"])
    logits = classify(state, digits.test)
    assert (logits.argmax(-1) == digits.test["label"]).mean() > 0.8

    few = {name: entry[:5] for name, entry in digits.test.items()}
    np.testing.assert_allclose(
        model.likelihood.log_prob(None, state, few), np.logaddexp.reduce(np.float64(logits[:5]), axis=-1), rtol=1e-5
    )
    seen = np.asarray(state.extra)
    assert seen.sum() == 150 * 64
    one = state._replace(extra=jnp.zeros_like(state.extra).at[3].set(7))  # p(y = 3) = 1
    share = np.log(seen[3] / seen.sum())
    np.testing.assert_allclose(classify(one, digits.test)[:, 3], logits[:, 3] - share, rtol=1e-5)

    @jax.jit
    def complete(rows, label):
        batch = {"image": jnp.broadcast_to(digits.test["image"][:1], (8, 8, 8, 1))}
        return model.sampler.complete(jax.random.key(5), state, batch, rows, {"label": jnp.full(8, label)})["image"]

    ones, zeros, given = complete(0, 1), complete(0, 0), complete(4, 1)
    assert (ones != zeros).any(axis=(1, 2, 3)).all()
    as_bits = np.where(digits.test["image"][0, :4] >= 128, 255, 0)
    np.testing.assert_array_equal(given[:, :4], np.broadcast_to(as_bits, (8, 4, 8, 1)))
    assert len(np.unique(np.asarray(given[:, 4:]).reshape(8, -1), axis=0)) > 4
    for asked, made in enumerate((zeros, ones)):
        assert (classify(state, {"image": made}).argmax(-1) == asked).mean() > 0.6

    shuffled = fit(jax.random.permutation(jax.random.key(2), digits.train["label"]))[0]
    assert (classify(shuffled, digits.test).argmax(-1) == digits.test["label"]).mean() < 0.3


def test_given_rows_are_completed_unchanged():
    """Although a level stands for 64 gray levels, of which one is drawn where nothing is given."""
    spec = Spec({"image": jax.ShapeDtypeStruct((6, 5, 3), np.uint8)}, 64)
    model = pixelcnn.make(pixelcnn.Config(**SMALL, likelihood="categorical", levels=4), spec)
    state = jax.jit(model.init)(jax.random.key(0))
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    made = jax.jit(model.sampler.complete)(jax.random.key(1), state, {"image": image}, 2, {})["image"]
    np.testing.assert_array_equal(made[:, :2], image[:, :2])
    assert (made[:, 2:] // 64 != image[:, 2:] // 64).mean() == pytest.approx(3 / 4, abs=0.15)  # untrained: uniform


def test_a_label_changes_the_probabilities_of_the_original_network_too(digits, batch):
    config = pixelcnn.Config("original", "bernoulli", conditional=True, features=4, layers=1, head_features=4)
    ar.assert_labels_are_heard(pixelcnn.make(config, digits.spec), batch)


def test_without_dropout_a_step_is_that_of_the_loss(digits, batch):
    """Dropout leaves features out in training, and none where log p is asked for."""
    fields = {"features": 8, "layers": 1, "head_features": 8}
    losses = []
    for dropout in (0.0, 0.5):
        model = pixelcnn.make(pixelcnn.Config(likelihood="bernoulli", dropout=dropout, **fields), digits.spec)
        state = drawn_state(model.init)
        losses.append(float(jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)[1]["loss"]))
        log_prob = jax.jit(model.likelihood.log_prob)(None, state, batch).mean()
        assert (losses[-1] == pytest.approx(-float(log_prob), rel=1e-5)) == (dropout == 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kernel": 4}, "kernel must be odd, not 4"),
        ({"first_kernel": 2}, "first_kernel must be odd, not 2"),
        ({"kernel": 2**31 - 1}, r"kernel must be below 2\^15, not 2147483647"),
        ({"likelihood": "categorical", "levels": 17}, "levels must be a power of two from 2 to 256"),
        ({"likelihood": "bernoulli", "levels": 16}, "levels only applies with --likelihood categorical"),
        ({"likelihood": "categorical", "mixtures": 3}, "mixtures only applies with --likelihood logistic"),
        ({"features": 2}, "features must be at least 3, one for each color channel, not 2"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_values_that_cannot_be(fields, words):
    spec = Spec({"image": jax.ShapeDtypeStruct((8, 8, 3), np.uint8)}, 64)
    with pytest.raises(UserError, match=words):
        pixelcnn.make(pixelcnn.Config(**fields), spec)
