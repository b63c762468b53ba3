"""PixelRNN's networks by what they see, and their samples by how they are scored."""

import itertools
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
from jaxgen.models import pixelrnn
from tests.models import autoregressive as ar
from tests.models.contract import Contract

CONTRACT = Contract(
    {"features": 4, "layers": 1, "first_kernel": 3, "head_features": 4, "levels": 16}, likelihood="exact"
)

SMALL = {"features": 6, "layers": 2, "first_kernel": 3, "head_features": 24}
HEADS = {"bits": ("bernoulli", 1, {}), "colors": ("categorical", 3, {"levels": 4})}
CASES = [("diagonal", "bits"), ("row", "bits"), ("diagonal", "colors"), ("row", "colors")]


@cache
def network(name, head="bits", scale=1.0):
    """A network of random parameters, given the second of two labels: `forward`, and `drawn` as `pixelrnn.drawn`."""
    likelihood, channels, fields = HEADS[head]
    config = pixelrnn.Config(network=name, likelihood=likelihood, **SMALL, **fields)
    distributions = make_head(likelihood, channels, **fields)
    net = pixelrnn.PixelRNN(config, distributions, np.dtype("float32"))
    y = jnp.float32([[0, 1]])
    params = ar.lively(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 2, 2, channels)), y)["params"])
    params["readout"]["MaskedConv_1"]["kernel"] *= scale

    def forward(x):
        return net.apply({"params": params}, x, jnp.repeat(y, len(x), axis=0))

    def drawn(key, given, rows):
        return pixelrnn.drawn(net, params, key, given, rows, jnp.repeat(y, len(given), axis=0))

    @jax.jit
    def log_prob(level):
        return distributions.log_prob(level, forward(distributions.scaled(level)))

    return SimpleNamespace(head=distributions, forward=jax.jit(forward), drawn=jax.jit(drawn), log_prob=log_prob)


def receptive_field(name, head, shape):
    """Receptive field of two layers by hand: a state sees its inputs and what its previous states see."""
    height, width, _ = shape
    found = ar.read(ar.own(head, shape), ar.taps(2, 1, 1), "A")
    before = {"row": [(-1, -1), (-1, 0), (-1, 1)], "diagonal": [(0, -1), (-1, 0)]}[name]

    def states(inputs, before, columns):
        h = inputs.copy()
        for i, j in itertools.product(range(height), columns):
            for di, dj in before:
                if i + di >= 0 and 0 <= j + dj < width:
                    h[i, j] |= h[i + di, j + dj].any(0)
        return h

    for _ in range(2):
        left = states(ar.read(found, ar.taps(1, 1 if name == "row" else 0, 0)), before, range(width))
        if name == "diagonal":
            above = ar.read(found, [(-1, 0)], None)
            left |= states(above, [(0, 1), (-1, 0)], range(width)[::-1])
        found = found | ar.read(left, [(0, 0)])
    return found


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_pixel_sees_its_receptive_field_and_nothing_else(name, head):
    """The Jacobian is 0, exactly, of the own channel and of all later ones."""
    net, shape = network(name, head), {"bits": (5, 7, 1), "colors": (3, 4, 3)}[head]
    seen = ar.seen(net.forward, net.head, shape)
    assert not (seen & ~ar.the_past(net.head, shape)).any()
    np.testing.assert_array_equal(seen, receptive_field(name, net.head, shape))


def test_the_diagonal_network_does_not_see_the_last_row_s_end():
    """Pixels of 5x7 left of the last two do not see the last one of the row above, with a first kernel of 3."""
    head = make_head("bernoulli", 1)
    unseen = ar.the_past(head, (5, 7, 1)) & ~receptive_field("diagonal", head, (5, 7, 1))
    pairs = {((i, j), (a, b)) for i, j, _, a, b, _ in np.argwhere(unseen)}
    assert pairs == {((i, j), (i - 1, 6)) for i in range(1, 5) for j in range(5)}


@pytest.mark.parametrize(("name", "head"), CASES)
def test_probabilities_sum_to_1(name, head):
    net, shape = network(name, head, scale=3.0), {"bits": (2, 3, 1), "colors": (1, 2, 3)}[head]
    images_each = (256 // net.head.levels) ** np.prod(shape) if net.head.space == "uint8" else 1
    ar.assert_a_distribution(net.log_prob, net.head.levels, shape, images_each)


@pytest.mark.parametrize("name", ["diagonal", "row"])
def test_samples_have_the_models_probabilities(name):
    net = network(name, scale=3.0)
    level, _ = net.drawn(jax.random.key(2), jnp.zeros((20_000, 2, 2, 1), jnp.int32), 0)
    ar.assert_drawn_as_scored(level, net.log_prob, 2)


@pytest.mark.parametrize(("name", "head"), [("diagonal", "colors"), ("row", "colors")])
def test_drawing_with_a_memory_is_drawing_without(name, head):
    """The outputs for given images; and samples, which are fixed points at the same noise."""
    net = network(name, head)
    given = jnp.asarray(ar.random_levels(net.head, 4, (4, 5, HEADS[head][1])))
    level, outputs = net.drawn(jax.random.key(1), given, 4)
    np.testing.assert_array_equal(level, given)
    np.testing.assert_allclose(outputs, net.forward(net.head.scaled(given)), rtol=1e-4, atol=1e-4)

    level, _ = net.drawn(jax.random.key(1), given, 2)
    np.testing.assert_array_equal(level[:, :2], given[:, :2])
    fixed, passes = jax.jit(partial(drawn_by_fixed_point, head=net.head, forward=net.forward, rows=2))(
        jax.random.key(1), given=given
    )
    np.testing.assert_array_equal(level, fixed)
    assert 2 < passes < 4 * 5 * 3
    assert (level[:, 2:] != given[:, 2:]).any()


def test_the_row_lstm_equals_its_equations():
    """One layer by NumPy, a row after the other; the inputs are of a pixel and the one before it."""
    config = pixelrnn.Config(network="row", features=2)
    layer = pixelrnn.RowLSTM(config, partial(pixelrnn.MaskedConv, dtype=np.dtype("float32")))
    rng = np.random.default_rng(0)
    x, y = np.float32(rng.normal(size=(1, 3, 4, 4))), np.float32([[1, 0]])
    params = ar.lively(jax.eval_shape(lambda key: layer.init(key, x, (), y, False, None), jax.random.key(0))["params"])
    found = jax.jit(lambda params: layer.apply({"params": params}, x, (), y, False, None))(params)

    weights = jax.tree.map(np.float64, params)
    (before, own), label = weights["inputs"]["kernel"][0], weights["label"]["kernel"][0]
    h, c = np.zeros((3, 6, 2)), np.zeros((3, 6, 2))  # a column of zeros at each side
    for i in range(3):
        for j in range(4):
            gates = x[0, i, j] @ own + (x[0, i, j - 1] @ before if j else 0) + weights["inputs"]["bias"] + label
            for n in range(3):
                gates = gates + (h[i - 1, j + n] if i else np.zeros(2)) @ weights["state"][0, n]
            opened = 1 / (1 + np.exp(-gates[:6]))
            old = c[i - 1, j + 1] if i else 0
            c[i, j + 1] = opened[2:4] * old + opened[4:] * np.tanh(gates[6:])
            h[i, j + 1] = opened[:2] * np.tanh(c[i, j + 1])
    expected = x[0] + h[:, 1:-1] @ weights["up"]["kernel"][0, 0] + weights["up"]["bias"]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)


def test_a_label_changes_the_probabilities(digits, batch):
    fields = {"features": 4, "layers": 1, "first_kernel": 3, "head_features": 4}
    config = pixelrnn.Config(likelihood="bernoulli", conditional=True, **fields)
    ar.assert_labels_are_heard(pixelrnn.make(config, digits.spec), batch)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"first_kernel": 2}, "first_kernel must be odd, not 2"),
        ({"features": 2}, "features must be at least 3, one for each color channel, not 2"),
        ({"layers": 0}, "layers must be above 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"likelihood": "logistic", "top": 3}, "top only applies with --likelihood categorical"),
    ],
)
def test_values_that_cannot_be(fields, words):
    spec = Spec({"image": jax.ShapeDtypeStruct((8, 8, 3), np.uint8)}, 64)
    with pytest.raises(UserError, match=words):
        pixelrnn.make(pixelrnn.Config(**fields), spec)
