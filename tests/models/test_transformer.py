"""The Transformer over pixels by what its tokens see, and its samples by how they are scored."""

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
from jaxgen.models import pixelcnn, pixelcnnpp, pixelrnn, transformer
from tests.models import autoregressive as ar
from tests.models.contract import Contract

CONTRACT = Contract({"dim": 8, "heads": 2, "layers": 1, "levels": 16}, likelihood="exact")

TINY = {"dim": 12, "heads": 3, "layers": 2}
HEADS = {
    "bits": ("bernoulli", 1, {}),
    "colors": ("categorical", 3, {"levels": 4}),
    "mixture": ("logistic", 3, {"mixtures": 2}),
    "patches": ("bernoulli", 1, {"patch": 2}),
}
WORDS, IDS = 4, 7
CAPTIONS = np.int32([[2, 5, 0, 0], [6, 1, 3, 2], [4, 0, 0, 0], [0, 0, 0, 0]])


@cache
def network(name, shape, words=0):
    """A network of random parameters for levels of `shape`, and what is made of it, compiled."""
    likelihood, channels, fields = HEADS[name]
    head = make_head(likelihood, channels, **fields)
    config = transformer.Config(likelihood=likelihood, **TINY, **fields)
    grid = (*shape[:2], head.groups)
    net = transformer.Decoder(config, head, grid, shape[-1] // head.groups, words, IDS, np.dtype("float32"))
    level, given = np.zeros((1, *shape), np.int32), np.zeros((1, words), np.int32)
    params = ar.lively(jax.eval_shape(net.init, jax.random.key(0), level, given)["params"])
    params["readout"]["kernel"] *= 3

    @jax.jit
    def outputs(level, given=None):
        return net.apply({"params": params}, level, jnp.zeros((len(level), 0), jnp.int32) if given is None else given)

    @jax.jit
    def drawn(key, level, rows, given=None):
        given = jnp.zeros((len(level), 0), jnp.int32) if given is None else given
        return transformer.drawn(net, params, key, level, rows, given)

    @jax.jit
    def log_prob(level):
        return head.log_prob(level, outputs(level))

    return SimpleNamespace(head=head, net=net, params=params, outputs=outputs, drawn=drawn, log_prob=log_prob)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [("bits", (3, 5, 1), 0), ("colors", (2, 3, 3), WORDS), ("mixture", (2, 3, 3), 0), ("patches", (2, 3, 1), 0)],
)
def test_a_token_sees_all_before_it_and_nothing_else(name, shape, words):
    """Another level changes the outputs of all later tokens, and not a bit of those up to its own.

    Where a token has three channels the other has the same levels, in another order.
    """
    net = network(name, shape, words)
    length = int(np.prod(net.net.grid))
    level = ar.random_levels(net.head, 1, shape)
    others = np.repeat(level, length, axis=0)
    for n, other in enumerate(others.reshape(length, length, -1)):
        other[n] = np.roll(other[n], 1) if name == "mixture" else (other[n] + 1) % net.head.levels
    given = np.broadcast_to(CAPTIONS[1:2], (1 + length, words)) if words else None
    found = np.asarray(net.outputs(np.concatenate([level, others]), given)).reshape(1 + length, length, -1)
    changed = (found[1:] != found[:1]).any(-1)  # [the one that is another, whose outputs]
    np.testing.assert_array_equal(changed, np.triu(np.ones((length, length), bool), 1))


@pytest.mark.parametrize(("name", "shape"), [("bits", (2, 3, 1)), ("colors", (1, 2, 3)), ("patches", (1, 2, 1))])
def test_probabilities_sum_to_1(name, shape):
    net = network(name, shape)
    images_each = (256 // net.head.levels) ** np.prod(shape) if net.head.space == "uint8" else 1
    ar.assert_a_distribution(net.log_prob, net.head.levels, shape, images_each)


@pytest.mark.parametrize(("name", "shape"), [("bits", (2, 3, 1)), ("patches", (1, 2, 1))])
def test_samples_have_the_models_probabilities(name, shape):
    net = network(name, shape)
    level, _ = net.drawn(jax.random.key(2), np.zeros((20_000, *shape), np.int32), 0)
    ar.assert_drawn_as_scored(level, net.log_prob, net.head.levels)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [("bits", (3, 5, 1), 0), ("colors", (2, 3, 3), WORDS), ("mixture", (2, 3, 3), 0), ("patches", (3, 3, 1), 0)],
)
def test_drawing_with_a_memory_is_drawing_without(name, shape, words):
    """The outputs for given images; and samples, which are fixed points at the same noise."""
    net = network(name, shape, words)
    level = ar.random_levels(net.head, len(CAPTIONS), shape)
    given = CAPTIONS if words else None
    same, outputs = net.drawn(jax.random.key(1), level, shape[0], given)
    np.testing.assert_array_equal(same, level)
    np.testing.assert_allclose(outputs, net.outputs(level, given), rtol=1e-4, atol=1e-5)

    found = np.asarray(net.drawn(jax.random.key(1), level, 1, given)[0])
    np.testing.assert_array_equal(found[:, :1], level[:, :1])
    assert (found[:, 1:] != level[:, 1:]).any()

    def forward(scaled):
        return net.outputs(jnp.round((scaled + 1) * ((net.head.levels - 1) / 2)).astype(jnp.int32), given)

    fixed, passes = jax.jit(partial(drawn_by_fixed_point, head=net.head, forward=forward, rows=1))(
        jax.random.key(1), given=level
    )
    np.testing.assert_array_equal(found, fixed)
    assert passes > 2


@pytest.mark.parametrize(("name", "words"), [("bits", 0), ("colors", WORDS)])
def test_long_sequences_are_drawn_in_parts(name, words, monkeypatch):
    """The outputs are those of one part; the parts' caches grow to the whole sequence."""
    net = network(name, (3, 5, HEADS[name][1]), words)
    level = ar.random_levels(net.head, len(CAPTIONS), (3, 5, HEADS[name][1]))
    given = CAPTIONS if words else np.zeros((len(level), 0), np.int32)
    monkeypatch.setattr(transformer, "SHORT", 14)
    sizes, extended = [], transformer.Cache.extended
    monkeypatch.setattr(transformer.Cache, "extended", lambda *a: sizes.append(a[1]) or extended(*a))

    def drawn(key, level):
        return transformer.drawn(net.net, net.params, key, level, 3, given)

    same, outputs = jax.jit(drawn)(jax.random.key(1), level)
    np.testing.assert_array_equal(same, level)
    np.testing.assert_allclose(outputs, net.outputs(level, given), rtol=1e-4, atol=1e-5)
    length = int(np.prod(net.net.grid))
    assert sizes[:: TINY["layers"]] == [words + part[-1] + 1 for part in np.array_split(np.arange(length), 4)]


def test_padding_changes_nothing():
    """Two more words' places, whatever they hold; the caption's own words do change the outputs."""
    net, longer = network("colors", (2, 3, 3), WORDS), network("colors", (2, 3, 3), WORDS + 2)
    places = np.concatenate([net.params["word_place"]["embedding"], np.full((2, TINY["dim"]), 1e3, np.float32)])
    longer = jax.jit(partial(longer.net.apply, {"params": {**net.params, "word_place": {"embedding": places}}}))
    level = ar.random_levels(net.head, len(CAPTIONS), (2, 3, 3))
    outputs = np.asarray(net.outputs(level, CAPTIONS))
    np.testing.assert_allclose(longer(level, np.pad(CAPTIONS, ((0, 0), (0, 2)))), outputs, rtol=1e-6, atol=1e-6)
    assert (np.abs(np.asarray(net.outputs(level, CAPTIONS[::-1])) - outputs) > 1e-3).any((1, 2, 3, 4)).all()


# Models.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"likelihood": "bernoulli"}, 64 * np.log(2)),
        ({"likelihood": "bernoulli", "patch": 2}, 64 * np.log(2)),
        ({}, 64 * np.log(256)),
    ],
)
def test_an_untrained_model_gives_all_images_the_same_probability(fields, expected, digits, batch):
    model = transformer.make(transformer.Config(**TINY, **fields), digits.spec)
    found = jax.jit(lambda: model.likelihood.log_prob(None, model.init(jax.random.key(0)), batch))()
    np.testing.assert_allclose(found, -expected, rtol=1e-6)
    space = "binary" if fields else "uint8"
    assert (model.likelihood.kind, model.likelihood.space) == ("exact", space)


SPEC = Spec(
    {
        "image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
        "caption": jax.ShapeDtypeStruct((2,), np.int32),
    },
    64,
    num_classes=3,
    num_words=5,
    batch_size=32,
    binary=True,
)


def striped(label, seed=0):
    """Noisy images 4x4 of a label: its column, or all columns of label 2, are white; the caption's word names it."""
    noise = np.random.default_rng(seed).random((len(label), 4, 4, 1)) < 0.1
    white = (np.arange(4) == label[:, None]) | (label[:, None] == 2)
    image = np.where(white[:, None, :, None] ^ noise, 255, 0).astype(np.uint8)
    return {"image": image, "label": label, "caption": np.stack([label + 2, 0 * label], axis=1)}


@cache
def trained(condition):
    """A model, its state after some steps on stripes, half of them of label 1, and its scores of a batch.

    Scores are log p(x) and, given labels, log p(x, y).
    """
    model = transformer.make(transformer.Config(condition=condition, learning_rate=1e-2, **TINY), SPEC)
    data = striped(np.tile(np.int32([0, 1, 1, 2]), 64))

    @jax.jit
    def fit():
        def take(state, key):
            rows = jax.random.choice(key, 256, (32,))
            state, metrics = model.phases[0].step(key, state, {k: jnp.asarray(v)[rows] for k, v in data.items()})
            return state, metrics["loss"]

        return jax.lax.scan(take, model.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 150))

    state, losses = fit()
    assert losses[0] == pytest.approx(16 * np.log(2))
    assert losses[-20:].mean() < 8

    @jax.jit
    def scores(state, batch):
        return model.likelihood.log_prob(None, state, batch), *(f(state, batch) for f in model.predict.values())

    return model, jax.device_get(state), lambda *given: jax.device_get(scores(*given))


def test_a_label_is_learned_and_asked_for():
    """Images are most probable of their own label; p(x) = sum_y p(y) p(x|y), p(y) as seen in training."""
    model, state, scores = trained("label")
    test = striped(np.tile(np.int32([0, 1, 2]), 20), seed=1)
    found, logits = scores(state, test)
    logits = np.float64(logits)
    assert (logits.argmax(-1) == test["label"]).mean() > 0.95
    np.testing.assert_allclose(found, np.logaddexp.reduce(logits, axis=-1), rtol=1e-5)
    seen = np.asarray(state.extra)
    assert seen.sum() == 150 * 32
    assert 0.4 < seen[1] / seen.sum() < 0.6
    even = scores(state._replace(extra=np.zeros_like(state.extra)), test)[1]
    np.testing.assert_allclose(even - logits, np.tile(np.log(1 / 3) - np.log(seen / seen.sum()), (60, 1)), atol=1e-3)

    step = jax.jit(model.phases[0].step)
    labels = [np.full(60, label, np.int32) for label in (-1, 0, 1, 2)]  # the first is unknown
    losses = [float(step(jax.random.key(0), state, {**test, "label": label})[1]["loss"]) for label in labels]
    assert min(np.diff(np.sort(losses))) > 1e-3


def test_samples_and_completions_are_of_the_label_asked_for():
    """80% of them are most probable of it; a completion keeps the upper half, and another label changes the rest."""
    model, state, scores = trained("label")
    label, image = np.repeat(np.int32([0, 1, 2]), 20), striped(np.int32([2]))["image"]

    @jax.jit
    def drawn(label):
        given = {"image": jnp.broadcast_to(image, (60, 4, 4, 1))}
        completed = model.sampler.complete(jax.random.key(5), state, given, 2, {"label": label})
        return completed["image"], model.sampler.draw(jax.random.key(3), state, 60, {"label": label})["image"]

    (completed, samples), (others, _) = drawn(label), drawn(label[::-1])
    batch = {**striped(label), "image": samples}
    assert (scores(state, batch)[1].argmax(-1) == label).mean() > 0.8
    np.testing.assert_array_equal(completed[:, :2], np.broadcast_to(image[:, :2], (60, 2, 4, 1)))
    assert (completed[label != 1, 2:] != others[label != 1, 2:]).any((1, 2, 3)).mean() > 0.9


@pytest.mark.slow
def test_a_caption_is_learned():
    """More than 90% of 60 images are more probable given their own caption than given another."""
    model, state, scores = trained("caption")
    test = striped(np.tile(np.int32([0, 1, 2]), 20), seed=1)
    (right,) = scores(state, test)
    (wrong,) = scores(state, {**test, "caption": np.roll(test["caption"], 1, axis=0)})
    assert (right > wrong).mean() > 0.9
    assert model.likelihood.note == "p(x|caption) is of bits, 1 where a pixel is at least 128"


def test_images_are_scored_and_drawn_in_parts_that_fit():
    """Images get the same scores two at a time, and of samples drawn three at a time no parts are alike."""
    fields = {**TINY, "condition": "label"}
    cache = 2 * 2 * 17 * 12 * 4 / 2**30  # keys and values of two layers, an image
    _, state, scores = trained("label")
    config, spec = transformer.Config(memory=3 * cache, **fields), SPEC._replace(batch_size=1)
    assert transformer.images_at_once(config, 17, spec) == (2, 3)  # a layer's attention is 4 * 3 * 17^2 bytes
    small = transformer.make(config, spec)
    test = striped(np.tile(np.int32([0, 1, 2]), 20), seed=1)
    found = jax.jit(small.likelihood.log_prob)(None, state, {name: entry[:5] for name, entry in test.items()})
    np.testing.assert_allclose(found, scores(state, test)[0][:5], rtol=1e-5)
    label = {"label": np.zeros(6, np.int32)}
    drawn = np.asarray(jax.jit(lambda: small.sampler.draw(jax.random.key(3), state, 6, label)["image"])())
    assert (drawn[:3] != drawn[3:]).any()


@pytest.mark.parametrize("condition", ["label", "caption"])
def test_a_condition_that_the_data_have_not(condition):
    """The error is the name of the missing entry; the run then lists the entries that exist."""
    spec = Spec({"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}, 64)
    with pytest.raises(KeyError, match=condition):
        transformer.make(transformer.Config(condition=condition), spec)


@pytest.mark.parametrize("module", [pixelcnn, pixelcnnpp, pixelrnn])
def test_labels_that_the_data_have_not(module):
    spec = Spec({"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}, 64)
    with pytest.raises(KeyError, match="label"):
        module.make(module.Config(conditional=True), spec)


def test_rows_of_patches_are_completed_together():
    spec = Spec({"image": jax.ShapeDtypeStruct((6, 6, 1), np.uint8)}, 64, binary=True)
    assert transformer.make(transformer.Config(patch=2), spec).sampler.rows_at_once == 2
    assert transformer.make(transformer.Config(), spec).sampler.rows_at_once == 1


@pytest.mark.parametrize(
    ("fields", "shape", "words"),
    [
        (
            {"likelihood": "categorical", "levels": 17},
            (8, 8, 1),
            "levels must be a power of two from 2 to 256",
        ),
        ({"patch": 3}, (8, 8, 1), "patch must divide images of 8x8, which 3 does not"),
        ({"patch": 4}, (8, 8, 1), "patch must lie between 1 and 3, of at most 12 bits, not 4"),
        ({"patch": 2, "likelihood": "logistic"}, (8, 8, 1), "patch only applies with --likelihood bernoulli"),
        ({"top": 2}, (8, 8, 1), "top only applies with --likelihood categorical (you chose bernoulli)"),
        ({"dim": 30}, (8, 8, 1), "heads must divide dim, 30, which 4 does not"),
        ({}, (64, 64, 3), "attention of a batch of 64 images of 12,288 tokens: 144.0 GiB, above memory, 2; "),
        (
            {"layers": 2000, "dim": 400},
            (32, 32, 1),
            "keys and values of an image of 1,024 tokens: 6.1 GiB, above memory, 2; take a smaller dim, layers or ",
        ),
    ],
)
def test_values_that_cannot_be(fields, shape, words):
    spec = Spec({"image": jax.ShapeDtypeStruct(shape, np.uint8)}, 64, binary=True)
    with pytest.raises(UserError) as raised:
        transformer.make(transformer.Config(**fields), spec)
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)
