"""PixelCNN++ by what it sees, and its samples by how they are scored."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.heads import make_head
from jaxgen.model import Spec
from jaxgen.models import pixelcnnpp
from tests.models import autoregressive as ar
from tests.models.contract import Contract

CONTRACT = Contract({"features": 4, "layers": 1, "scales": 1, "mixtures": 2}, likelihood="exact")


@cache
def network(likelihood, channels, scales, scale=1.0):
    """A network of random parameters, given the second of two labels: `forward`, and `drawn` of `pixelcnnpp`."""
    config = pixelcnnpp.Config(likelihood, features=6, layers=1, scales=scales, mixtures=2)
    head = make_head(likelihood, channels, mixtures=2)
    net = pixelcnnpp.PixelCNNPP(config, head, np.dtype("float32"))
    y = jnp.float32([[0, 1]])
    params = ar.lively(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 4, 4, channels)), y)["params"])
    last = max((name for name in params if name.startswith("Conv_")), key=lambda name: int(name[5:]))
    params[last]["kernel"] *= scale

    def forward(x):
        return net.apply({"params": params}, x, jnp.repeat(y, len(x), axis=0))

    def drawn(key, given, rows):
        return pixelcnnpp.drawn(net, params, key, given, rows, jnp.repeat(y, len(given), axis=0))

    @jax.jit
    def log_prob(level):
        return head.log_prob(level, forward(head.scaled(level)))

    return SimpleNamespace(head=head, forward=jax.jit(forward), drawn=jax.jit(drawn), log_prob=log_prob)


@pytest.mark.parametrize(("likelihood", "shape"), [("bernoulli", (4, 6, 1)), ("logistic", (2, 4, 3))])
def test_a_pixel_sees_all_pixels_before_it_and_nothing_else(likelihood, shape):
    """The Jacobian is 0, exactly, of the own pixel and of all later ones, with maps halved once."""
    net = network(likelihood, shape[-1], 2)
    np.testing.assert_array_equal(ar.seen(net.forward, net.head, shape), ar.the_past(net.head, shape))


def test_samples_have_the_models_probabilities():
    """Probabilities of all images sum to 1; draws by repeated passes keep given rows and have these probabilities."""
    net = network("bernoulli", 1, 2, scale=2.0)
    ar.assert_a_distribution(net.log_prob, 2, (2, 2, 1))
    given = jnp.asarray(ar.random_levels(net.head, 2000, (2, 2, 1)))
    level, passes = net.drawn(jax.random.key(2), given, 0)
    ar.assert_drawn_as_scored(level, net.log_prob, 2)
    assert 2 < passes <= 5
    np.testing.assert_array_equal(net.drawn(jax.random.key(2), given, 1)[0][:, :1], given[:, :1])


def test_concat_elu_by_hand():
    """ELU is x above 0 and e^x - 1 below."""
    found = pixelcnnpp.concat_elu(jnp.float32([[2, -1]]))
    np.testing.assert_allclose(found, [[2, np.exp(-1) - 1, np.exp(-2) - 1, 1]], rtol=1e-6)


def test_the_gated_residual_layer_equals_its_equations():
    """A 1x1 kernel, a shortcut and a label: x + a sigmoid(b)."""
    layer = pixelcnnpp.GatedResidual(pixelcnnpp.partial(pixelcnnpp.Conv, kernel_size=(1, 1), dtype=np.float32), 0.5)
    rng = np.random.default_rng(0)
    x, shortcut, y = (np.float32(rng.normal(size=size)) for size in ((1, 1, 1, 2), (1, 1, 1, 3), (1, 2)))
    shapes = jax.eval_shape(lambda key: layer.init(key, x, shortcut, y, False), jax.random.key(0))
    params = ar.lively(shapes["params"])
    found = layer.apply({"params": params}, x, shortcut, y, False)

    def elu(x):
        both = np.concatenate([x, -x])
        return np.where(both > 0, both, np.exp(both) - 1)

    weights = jax.tree.map(np.float64, params)
    h = elu(x.ravel()) @ weights["Conv_0"]["kernel"][0, 0] + weights["Conv_0"]["bias"]
    h = h + elu(shortcut.ravel()) @ weights["Conv_1"]["kernel"][0, 0] + weights["Conv_1"]["bias"]
    h = elu(h) @ weights["Conv_2"]["kernel"][0, 0] + weights["Conv_2"]["bias"] + y[0] @ weights["Dense_0"]["kernel"]
    a, b = np.split(h, 2)
    np.testing.assert_allclose(found.ravel(), x.ravel() + a / (1 + np.exp(-b)), rtol=1e-5)


def test_a_label_changes_the_probabilities(digits, batch):
    config = pixelcnnpp.Config("bernoulli", conditional=True, features=4, layers=1, scales=1, dropout=0.0)
    ar.assert_labels_are_heard(pixelcnnpp.make(config, digits.spec), batch)


@pytest.mark.parametrize(
    ("fields", "shape", "words"),
    [
        ({}, (30, 32, 3), "3 scales need sides that 4 divides, unlike 30x32"),
        (
            {"likelihood": "bernoulli"},
            (8, 8, 3),
            "bernoulli fits images of one channel here, not of 3: ",
        ),
        ({"likelihood": "categorical"}, (8, 8, 3), "categorical fits images of one channel here, not of 3"),
        ({"scales": 0}, (8, 8, 3), "scales must be above 0"),
        ({"mixtures": 0}, (8, 8, 3), "mixtures must lie between 1 and 1000, not 0"),
    ],
)
def test_values_that_cannot_be(fields, shape, words):
    spec = Spec({"image": jax.ShapeDtypeStruct(shape, np.uint8)}, 64)
    with pytest.raises(UserError, match=words):
        pixelcnnpp.make(pixelcnnpp.Config(**fields), spec)
