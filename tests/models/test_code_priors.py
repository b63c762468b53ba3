"""Priors of maps of codes: they are distributions, causal, drawn as they are scored, and given codes, labels, words."""

import itertools
from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.autoregressive import drawn_by_fixed_point
from jaxgen.heads import make_code_head
from jaxgen.model import Spec
from jaxgen.models import pixelcnn
from jaxgen.models.code_priors import CodePixelCNN, make_given, make_priors
from jaxgen.models.quantized import QuantizedConfig
from tests.models import autoregressive as ar

SPEC = Spec(
    {
        "image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
        "caption": jax.ShapeDtypeStruct((4,), np.int32),
    },
    64,
    num_classes=3,
    num_words=6,
)
SMALL = {"dim": 12, "heads": 2, "blocks": 1, "gated_features": 6, "gated_layers": 1} | {
    "residual_features": 4, "residual_blocks": 1
}  # fmt: skip
K, GRIDS = 3, {"top": (1, 1), "bottom": (2, 2)}


@cache
def priors(prior, condition):
    """Priors of both levels with random parameters: `log_prob` of each and `draw`, both compiled."""
    fields = (
        SMALL if prior == "transformer" else {k: v for k, v in SMALL.items() if k not in ("dim", "heads", "blocks")}
    )
    made = make_priors(QuantizedConfig(prior=prior, condition=condition, **fields), SPEC, K, GRIDS)
    params = ar.lively(jax.eval_shape(made.init, jax.random.key(0)))

    @jax.jit
    def log_prob(codes, ids):
        return made.log_prob(params, codes, ids)

    @jax.jit
    def draw(key, ids):
        return made.draw(params, key, ids)

    return SimpleNamespace(made=made, params=params, log_prob=log_prob, draw=draw)


def all_codes():
    """All codes of both levels, K^5 of them."""
    each = np.int32(list(itertools.product(range(K), repeat=5)))
    return {"top": each[:, :1].reshape(-1, 1, 1), "bottom": each[:, 1:].reshape(-1, 2, 2)}


@pytest.mark.parametrize(("prior", "condition"), [("transformer", "label"), ("pixelcnn", "caption")])
def test_codes_have_a_distribution_and_are_drawn_from_it(prior, condition):
    """Probabilities sum to 1 over the bottom's codes given each of the top's, and over the top's; another y, another p.

    Counts of draws are compared by chi-square.
    """
    net, codes = priors(prior, condition), all_codes()
    y = np.int32([[2]] if condition == "label" else [[3, 2, 0, 0]])
    log_p = {k: np.float64(v) for k, v in net.log_prob(codes, np.broadcast_to(y, (len(codes["top"]), y.size))).items()}
    given_top = np.exp(log_p["bottom"]).reshape(K, -1)
    np.testing.assert_allclose(given_top.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_p["top"]).reshape(K, -1)[:, 0].sum(), 1, rtol=1e-5)
    assert np.abs(given_top[0] - given_top[1]).sum() > 0.1  # the top's codes are heard
    assert np.ptp(log_p["bottom"]) > 2
    assert np.ptp(log_p["top"]) > 0.1

    other = net.log_prob(codes, np.broadcast_to(0 * y + 1, (len(codes["top"]), y.size)))
    for level in GRIDS:
        assert np.abs(other[level] - log_p[level]).max() > 0.05

    drawn = net.draw(jax.random.key(1), jnp.broadcast_to(y, (20_000, y.size)))
    assert {name: (d.shape, d.dtype) for name, d in drawn.items()} == {
        name: ((20_000, *grid), np.int32) for name, grid in GRIDS.items()
    }
    flat = np.concatenate([np.asarray(drawn[name]).reshape(20_000, -1) for name in GRIDS], axis=1)
    joint = log_p["top"] + log_p["bottom"]
    ar.assert_drawn_as_scored(flat[:, None, :, None], lambda _: joint, K)


def test_each_level_drops_features_in_training_alone():
    net, codes = priors("transformer", "label"), {name: part[:8] for name, part in all_codes().items()}
    ids = np.ones((8, 1), np.int32)
    dropped = jax.jit(lambda key: net.made.log_prob(net.params, codes, ids, key))
    plain = jax.jit(lambda: net.made.log_prob(net.params, codes, ids))()
    one, other, plain = jax.device_get((dropped(jax.random.key(0)), dropped(jax.random.key(1)), plain))
    for level in GRIDS:
        assert np.abs(one[level] - other[level]).max() > 1e-3
        assert np.abs(one[level] - plain[level]).max() > 1e-3


def test_ids_of_labels_and_words():
    """Labels are numbered from 1 on, -1 is 0, unknown; words are counted but for padding."""
    given = make_given(QuantizedConfig(condition="label"), SPEC)
    ids = given.ids({"label": jnp.array([2, -1])}, 2)
    np.testing.assert_array_equal(ids, [[3], [0]])
    np.testing.assert_array_equal(given.bag(ids), [[0, 0, 1], [0, 0, 0]])
    given = make_given(QuantizedConfig(condition="caption"), SPEC)
    ids = given.ids({"caption": jnp.array([[5, 1, 5, 0]])}, 1)
    np.testing.assert_array_equal(given.bag(ids), [[1, 0, 0, 0, 2]])
    given = make_given(QuantizedConfig(), SPEC)
    assert given.bag(given.ids({}, 2)).shape == (2, 0)
    with pytest.raises(KeyError, match="caption"):
        make_given(QuantizedConfig(condition="caption"), SPEC._replace(entries={"image": SPEC.entries["image"]}))


@pytest.fixture(scope="module")
def lower():
    """A PixelCNN of 4x6 codes given 2x3 and 1x3 codes above and labels: `outputs` for numbered codes, and `drawn`."""
    config = pixelcnn.Config(features=6, layers=1, first_kernel=3, head_features=6)
    head, grids = make_code_head(5), ((1, 3), (2, 3))
    net = CodePixelCNN(
        config, QuantizedConfig(residual_features=4, residual_blocks=1), head, (4, 6), 2, np.dtype("float32")
    )
    above = [jnp.zeros((1, *grid), jnp.int32) for grid in grids]
    blank = jnp.zeros((1, 4, 6, 1))
    params = ar.lively(jax.eval_shape(net.init, jax.random.key(0), blank, above, jnp.zeros((1, 2)))["params"])
    rng, label = np.random.default_rng(0), jnp.array([[0.0, 1.0]])
    above = [jnp.int32(rng.integers(0, 5, (1, *grid))) for grid in grids]

    def outputs(x, above):
        above = [jnp.broadcast_to(codes, (len(x), *codes.shape[1:])) for codes in above]
        return net.apply({"params": params}, x, above, jnp.broadcast_to(label, (len(x), 2)))

    def drawn(key, level, rows):
        given = [jnp.broadcast_to(codes, (len(level), *codes.shape[1:])) for codes in above]
        y = net.apply({"params": params}, given, jnp.broadcast_to(label, (len(level), 2)), method="condition")
        return pixelcnn.drawn(net, params, key, level, rows, y)

    return SimpleNamespace(head=head, outputs=jax.jit(outputs), drawn=jax.jit(drawn), above=above)


def test_a_code_sees_those_before_it_and_all_above(lower):
    """Another code changes no bit up to its own place, and changes what comes next; one above changes all near it."""
    level = np.random.default_rng(1).integers(0, 5, (1, 4, 6, 1), dtype=np.int32)
    others = np.repeat(level, 24, axis=0).reshape(24, 24)
    others[np.arange(24), np.arange(24)] = (others[0] + 1) % 5
    x = lower.head.scaled(jnp.asarray(np.concatenate([level, others.reshape(24, 4, 6, 1)])))
    found = np.asarray(lower.outputs(x, lower.above)).reshape(25, 24, -1)
    changed = (found[1:] != found[:1]).any(-1)  # [the one that is another, whose outputs]
    assert not np.tril(changed).any()
    assert all(changed[n, n + 1] for n in range(23) if n % 6 < 5)  # the next one, but at the end of a row
    assert changed[np.arange(18), np.arange(6, 24)].all()  # and the one below

    for above, place in ((0, (0, 1)), (1, (1, 2))):
        codes = [*lower.above]
        codes[above] = codes[above].at[0, *place].set((codes[above][0, *place] + 1) % 5)
        differs = (np.asarray(lower.outputs(x[:1], codes)) != found[:1].reshape(1, 4, 6, 1, 5)).any((0, 3, 4))
        rows, columns = (4, 2) if above == 0 else (2, 2)  # the block that stands for one code above
        assert differs[place[0] * rows : (place[0] + 1) * rows, place[1] * columns : (place[1] + 1) * columns].all()


def test_codes_are_drawn_with_a_memory_as_without(lower):
    """The outputs for given codes; and draws, which are fixed points at the same noise."""
    level = jnp.asarray(np.random.default_rng(2).integers(0, 5, (3, 4, 6, 1), dtype=np.int32))
    same, outputs = lower.drawn(jax.random.key(1), level, 4)
    np.testing.assert_array_equal(same, level)
    np.testing.assert_allclose(outputs, lower.outputs(lower.head.scaled(level), lower.above), rtol=1e-4, atol=1e-5)
    drawn, _ = lower.drawn(jax.random.key(1), level, 0)
    forward = partial(lower.outputs, above=lower.above)
    fixed, passes = jax.jit(partial(drawn_by_fixed_point, head=lower.head, forward=forward))(
        jax.random.key(1), given=level
    )
    np.testing.assert_array_equal(drawn, fixed)
    assert 2 < passes < 24
