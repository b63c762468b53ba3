"""The deconvolutional network's terms against NumPy's; which parameters images, labels and captions move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import dgdn
from jaxgen.nn.sentences import Writer, word_log_probs
from tests.models.by_hand import dense, drawn_state, in_float64
from tests.models.contract import Contract

SMALL = {"maps": (3, 4), "hidden": 6, "units": 8, "deviation": "learned", "likelihood": "gaussian"}
CONTRACT = Contract(
    {"maps": (3, 4), "hidden": 6, "codes": 2},
    likelihood="bound",
    prior="mixed",
    encodes=True,
    predicts={"label": 10},
)
NUM, WORDS, VOCABULARY = 32, 3, 7


@pytest.fixture(scope="module")
def pictures(digits, batch):
    """Digits with captions of one or two words, by their label; every third has no label, every fourth no caption."""
    label, row = batch["label"], np.arange(NUM)
    caption = np.stack([2 + label % 3, np.where(label > 4, 6, 0), 0 * label], axis=1)
    given = {
        "image": batch["image"],
        "label": np.where(row % 3 == 0, -1, label).astype(np.int32),
        "caption": np.where(row[:, None] % 4 == 0, 0, caption).astype(np.int32),
    }
    entries = {name: jax.ShapeDtypeStruct(entry.shape[1:], entry.dtype) for name, entry in given.items()}
    return given, Spec(entries, NUM, 10, digits.spec.mean, num_words=VOCABULARY)


@pytest.fixture(scope="module")
def both(pictures):
    """A model of labels and captions, its jitted step, and a state of drawn parameters."""
    model = dgdn.make(dgdn.Config(**SMALL, predicts="both", learning_rate=1e-2), pictures[1])
    state = drawn_state(model.init)
    state.params["log_deviation"] = np.float32(-0.5)
    return model, jax.jit(model.phases[0].step), state


@pytest.fixture(scope="module")
def trained(both, pictures):
    """State of that model after 300 steps on one batch, from the start that `init` gives."""
    model, step, _ = both
    state = jax.jit(model.init)(jax.random.key(0))
    for n in range(300):
        state, _ = step(jax.random.fold_in(jax.random.key(1), n), state, pictures[0])
    return state


# The networks in float64: 3x3 kernels and blocks of 2 from 8x8 to 3x3, then 2x2 kernels to 2x2


def convolved(layer, x):
    """Maps [batch, H, W, in] -> valid [batch, H', W', out]."""
    kernel = layer["kernel"]
    height, width = (n - k + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True))
    places = np.ndindex(*kernel.shape[:2])
    return sum(x[:, u : u + height, v : v + width] @ kernel[u, v] for u, v in places) + layer["bias"]


def transposed(layer, x):
    """Adds each pixel's patch: [batch, H, W, in] -> [batch, H + k - 1, W + k - 1, out]."""
    kernel = layer["kernel"]
    (batch, height, width, _), (k, _, features, _) = x.shape, kernel.shape
    y = np.zeros((batch, height + k - 1, width + k - 1, features))
    for u, v in np.ndindex(k, k):
        y[:, u : u + height, v : v + width] += x @ kernel[u, v].T
    return y


def in_blocks(x):
    """Maps [batch, 6, 6, maps] -> [batch, 3, 3, maps, 4]."""
    return np.stack([x[:, u::2, v::2] for u, v in np.ndindex(2, 2)], axis=-1)


def encoded(net, x, noise):
    """Mean and log-variance [batch, 16], places and log eta [batch, 3, 3, 3, 4]."""
    blocks = in_blocks(convolved(net["Conv_0"], x))
    h = np.tanh(blocks @ net["Dense_0"]["kernel"] + net["Dense_0"]["bias"])
    eta = h @ net["Dense_1"]["kernel"] + net["Dense_1"]["bias"]
    place = np.eye(4)[(eta + noise).argmax(-1)]
    h = np.tanh(dense(net["Dense_2"], convolved(net["Conv_1"], (blocks * place).sum(-1))))
    log_variance = 8 * np.tanh(dense(net["Dense_4"], h) / 8)
    return dense(net["Dense_3"], h), log_variance, place, scipy.special.log_softmax(eta, axis=-1)


def decoded(net, s, place):
    maps = transposed(net["ConvTranspose_0"], s.reshape(-1, 2, 2, 4))
    unpooled = np.zeros((len(s), 6, 6, 3))
    for n, (u, v) in enumerate(np.ndindex(2, 2)):
        unpooled[:, u::2, v::2] = maps * place[..., n]
    return transposed(net["ConvTranspose_1"], unpooled) + net["bias"]


def terms(params, key, x):
    """Code [batch, 16], and the ELBO's terms [batch]: log p(x|s, z), KL of s, KL of z."""
    k_places, k_code = jax.random.split(key)
    noise = np.asarray(jax.random.gumbel(jax.random.fold_in(k_places, 0), (len(x), 3, 3, 3, 4)), np.float64)
    mean, log_variance, place, log_eta = encoded(params["encoder"], x, noise)
    s = mean + np.exp(log_variance / 2) * np.asarray(jax.random.normal(k_code, (len(x), 2, 2, 4))).reshape(-1, 16)
    deviation = np.exp(params["log_deviation"])
    reconstruction = scipy.stats.norm.logpdf(x, decoded(params["decoder"], s, place), deviation).sum((1, 2, 3))
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1)
    return s, reconstruction, kl, (np.exp(log_eta) * (log_eta + np.log(4))).sum((1, 2, 3, 4))


def test_one_step_equals_the_networks_worked_out(both, pictures):
    """Two draws of each image; labels' and captions' terms are means over the images that have one, times weights.

    The weights are 64 pixels over 10 classes and over 7 words.
    """
    model, step, state = both
    key, x = jax.random.key(3), np.tile(pictures[0]["image"] / 255, (2, 1, 1, 1))
    _, metrics = step(key, state, pictures[0])
    s, reconstruction, kl, places_kl = terms(in_float64(state.params), key, x)
    label, caption = (np.concatenate([pictures[0][name]] * 2) for name in ("label", "caption"))
    log_p = scipy.special.log_softmax(dense(in_float64(state.params["label"]), s), axis=-1)
    of_label = -log_p[label >= 0, label[label >= 0]].mean()
    writer = Writer(VOCABULARY, 8, np.dtype("float32"))
    words = word_log_probs(writer, state.params["caption"], jnp.float32(s), caption).sum(1)
    of_caption = -words[caption.any(1)].mean()
    expected = {
        "reconstruction": reconstruction.mean(),
        "kl": kl.mean(),
        "places_kl": places_kl.mean(),
        "label_loss": of_label,
        "caption_loss": of_caption,
        "loss": (kl + places_kl - reconstruction).mean() + 6.4 * of_label + 64 / 7 * of_caption,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    found = jax.jit(model.likelihood.log_prob)(key, state, pictures[0])
    _, *elbo = terms(in_float64(state.params), key, x[:NUM])
    np.testing.assert_allclose(found, elbo[0] - elbo[1] - elbo[2], rtol=1e-4)


def test_codes_of_images_are_means_at_the_likeliest_places(both, pictures):
    model, _, state = both
    z = np.asarray(jax.jit(model.latents.encode)(state, pictures[0]))
    params = in_float64(state.params)
    mean, _, place, _ = encoded(params["encoder"], pictures[0]["image"] / 255, 0)
    np.testing.assert_allclose(z[:, :16], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(z[:, 16:], place.reshape(NUM, -1))
    assert [part.size for part in model.latents.prior.parts] == [16] + [4] * 27
    made = jax.jit(lambda state, z: model.latents.decode(state, z, {}))(state, z)["image"]
    np.testing.assert_allclose(made, np.clip(decoded(params["decoder"], mean, place), 0, 1), atol=1e-4)


def test_every_parameter_is_moved_and_those_of_labels_by_labels_alone(both, pictures):
    """Adam moves every number whose gradient is not 0. Images without label and caption move the others as ever."""
    _, step, state = both
    new, _ = step(jax.random.key(3), state, pictures[0])
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), new.params, state.params)
    words = moved["caption"]["embed"].pop("embedding")
    assert words.any(1).tolist() == [False, False, True, True, True, False, True]  # the words of the captions
    assert words[[2, 3, 4, 6]].all()
    for path, leaf in jax.tree_util.tree_leaves_with_path(moved):
        assert leaf.all(), path
    label, caption = np.full(NUM, -1, np.int32), np.zeros((NUM, WORDS), np.int32)
    alone = pictures[0] | {"label": label, "caption": caption}
    new, metrics = step(jax.random.key(3), state, alone)
    assert (metrics["label_loss"], metrics["caption_loss"]) == (0, 0)
    np.testing.assert_allclose(
        metrics["loss"], metrics["kl"] + metrics["places_kl"] - metrics["reconstruction"], rtol=1e-6
    )
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), new.params, state.params)
    assert all(jax.tree.leaves((moved["encoder"], moved["decoder"])))
    assert not any(jax.tree.leaves((moved["label"], moved["caption"])))


def test_a_batch_is_learned(both, pictures, trained):
    """Squared errors of reconstructions fall, labels are found, and captions written, of images that have them."""
    model, _, _ = both
    given, begun = pictures[0], jax.jit(model.init)(jax.random.key(0))

    @jax.jit
    def predicted(state):
        made = model.latents.decode(state, model.latents.encode(state, given), {})["image"]
        return made, model.predict["label"](state, given), model.predict["caption"](state, given)

    (before, *_), (made, logits, caption) = predicted(begun), predicted(trained)
    errors = [float(((each - given["image"] / 255) ** 2).mean()) for each in (before, made)]
    assert errors[1] < 0.7 * errors[0]
    known = given["label"] >= 0
    assert (logits.argmax(-1) == given["label"])[known].mean() > 0.9
    assert (caption == given["caption"])[given["caption"].any(1)].all(1).mean() > 0.9
    assert (caption.dtype, caption.shape) == (np.int32, (NUM, WORDS))
    assert np.abs(np.exp(logits).sum(1) - 1).max() < 1e-5  # they are log p


def test_more_codes_do_not_worsen_a_label(batch, pictures, trained):
    """Log p of the labels that the model has not seen: of the mean over 20 codes, and over 1."""
    given, spec = pictures
    hidden, losses = given["label"] < 0, []
    for codes in (1, 20):
        model = dgdn.make(dgdn.Config(**SMALL, predicts="both", codes=codes), spec)
        logits = np.asarray(jax.jit(model.predict["label"])(trained, given))
        losses.append(-logits[np.arange(NUM), batch["label"]][hidden].mean())
    assert losses[1] < losses[0]


def test_bits_margins_and_gumbel_of_zero_weights_are_closed_form(pictures):
    """64 bits of probability 1/2, margins of 0: 2 for each of 10 classes; q is the prior."""
    fields = {"maps": (3, 4), "hidden": 6, "likelihood": "bernoulli", "label_head": "svm"}
    model = dgdn.make(dgdn.Config(**fields, gradient="gumbel", draws=1), pictures[1])
    state = drawn_state(model.init)
    zero = state._replace(params=jax.tree.map(np.zeros_like, state.params))
    step = jax.jit(model.phases[0].step)
    _, metrics = step(jax.random.key(1), zero, pictures[0])
    np.testing.assert_allclose(metrics["reconstruction"], -64 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose((metrics["kl"], metrics["places_kl"]), 0, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], 64 * np.log(2) + 6.4 * 20, rtol=1e-5)
    new, _ = step(jax.random.key(1), state, pictures[0])
    assert (new.params["encoder"]["Dense_1"]["kernel"] != state.params["encoder"]["Dense_1"]["kernel"]).all()
    assert (model.likelihood.space, model.likelihood.note) == (
        "binary",
        "ELBO, one code per image; p(x|s, z) is of bits, 1 where a pixel is at least 128; gray levels are thresholded",
    )


def test_a_blind_model_writes_the_same_of_every_image(pictures):
    given, spec = pictures
    model = dgdn.make(dgdn.Config(**SMALL, predicts="caption", blind=True, decoding="beam", beams=2), spec)
    state = drawn_state(model.init)
    caption, nats = jax.jit(lambda state: [model.predict[name](state, given) for name in model.predict])(state)
    assert list(model.predict) == ["caption", "word_log_prob"]
    np.testing.assert_array_equal(caption, np.broadcast_to(caption[:1], caption.shape))
    same = (given["caption"] == given["caption"][1]).all(1)
    assert same.sum() > 1
    np.testing.assert_array_equal(nats[same], np.broadcast_to(nats[1], nats[same].shape))
    assert nats.shape == (NUM, WORDS + 1)


def test_what_a_model_needs(pictures):
    of_caption = ("caption", "word_log_prob")
    for predicts, needs, given in [
        ("nothing", (), ()),
        ("label", ("label",), ("label",)),
        ("caption", ("caption",), of_caption),
        ("both", ("label", "caption"), ("label", *of_caption)),
    ]:
        model = dgdn.make(dgdn.Config(maps=(3, 4), predicts=predicts), pictures[1])
        assert model.needs == ("image", *needs)
        assert tuple(model.predict) == given
    images = Spec({"image": pictures[1].entries["image"]}, NUM, mean=pictures[1].mean)
    for predicts in ("label", "caption"):
        with pytest.raises(KeyError, match=predicts):
            dgdn.make(dgdn.Config(maps=(3, 4), predicts=predicts), images)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"maps": ()}, "maps must be numbers above 0, one for each layer"),
        ({"maps": (3, 0)}, "maps must be numbers above 0"),
        ({"kernels": (3,)}, "kernels must be numbers above 0, one for each layer, not"),
        ({"kernels": (4, 2)}, "blocks of 2x2 .pool. do not divide layer 1's maps from 8x8"),
        ({"draws": 1}, "draws must be at least 2 with gradient score"),
        ({"temperature": 0.5}, "temperature only applies with --gradient gumbel .you chose score"),
        ({"blind": True}, "blind only applies with --predicts caption or both .you chose label"),
        ({"predicts": "caption", "label_head": "svm"}, "label_head only applies with --predicts label or both"),
        ({"predicts": "caption", "beams": 3}, "beams only applies with --decoding beam .you chose greedy"),
        ({"deviation": 0.0}, "deviation must be above 0"),
        ({"likelihood": "bernoulli", "deviation": 0.1}, "deviation only applies with --likelihood gaussian"),
        ({"label_weight": -1.0}, "label_weight must be at least 0"),
        ({"decay_steps": 0}, "decay_steps must be above 0"),
    ],
)
def test_values_that_cannot_be_run(pictures, fields, words):
    with pytest.raises(UserError, match=words):
        dgdn.make(dgdn.Config(**fields), pictures[1])
