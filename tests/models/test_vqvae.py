"""VQ-VAE's phases and its bound, against values by hand, enumeration and its own frozen parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.data import pipeline
from jaxgen.errors import UserError
from jaxgen.likelihoods import discretized_logistic_log_prob
from jaxgen.metrics.evidence import rate_distortion
from jaxgen.model import Spec
from jaxgen.models import vqvae
from jaxgen.nn.codebook import Codebook
from tests.models.contract import Contract
from tests.models.enumerated import assert_a_bound, far_apart, lively_state

CONTRACT = Contract(
    {"halvings": 1, "features": 4, "residual_features": 4, "residual_blocks": 1, "num_codes": 8, "code_dim": 3}
    | {"dim": 8, "heads": 2, "blocks": 1, "dropout": 0.0},
    likelihood="bound",
    prior="discrete",
    encodes=True,
    densities=True,
)

STEPS = 200
CONDITIONAL = {
    **{"halvings": 1, "features": 16, "residual_features": 16, "residual_blocks": 1, "num_codes": 16, "code_dim": 6},
    **{"prior": "pixelcnn", "gated_features": 12, "gated_layers": 1, "condition": "label"},
    **{"learning_rate": 3e-3, "prior_learning_rate": 1e-2, "code_steps": STEPS, "average": 0.95},
}


def of(metrics, name):
    return np.asarray(metrics[name], np.float64)


@pytest.fixture(scope="module")
def trained(digits):
    """A label-conditional model; its states at the start, after the codes' phase and at the end; both phases' metrics.

    Also a program that scores digits given labels, (state, batch) -> the terms of the bound.
    """
    model = vqvae.make(vqvae.Config(**CONDITIONAL), digits.spec)
    train = {name: jnp.asarray(digits.train[name]) for name in model.needs}
    states, metrics = [jax.jit(model.init)(jax.random.key(0))], []
    for n, phase in enumerate(model.phases):
        batches = pipeline.batches({name: digits.train[name] for name in model.needs}, 64)
        begun = phase.enter(jax.random.key(7), states[-1], batches)

        def take(state, key, phase=phase):
            rows = jax.random.choice(key, len(train["label"]), (64,))
            state, found = phase.step(key, state, {name: entry[rows] for name, entry in train.items()})
            return state._replace(step=state.step + 1), found

        state, found = jax.jit(lambda state, keys, take=take: jax.lax.scan(take, state, keys))(
            begun, jax.random.split(jax.random.key(1 + n), STEPS)
        )
        states.append(state)
        metrics.append(found)
    return model, states, metrics


def test_codes_are_learned_and_used(digits, trained):
    """The error falls below a quarter of the images' variance, and far below that of the mean image."""
    _, _, (metrics, _) = trained
    nmse = of(metrics, "nmse")
    mean = ((digits.train["image"] / 255 - digits.spec.mean) ** 2).mean() / (digits.train["image"] / 255).var()
    assert mean > 0.4
    assert nmse[-20:].mean() < 0.25
    assert of(metrics, "code_perplexity")[-1] > 6
    assert of(metrics, "code_used")[-1] > 0.8


def test_the_second_phase_leaves_the_nets_and_the_codebook_as_they_are(trained):
    """Equality is to the bit. The first phase leaves the prior as it is."""
    _, (start, codes, end), _ = trained
    jax.tree.map(np.testing.assert_array_equal, codes.params["net"], end.params["net"])
    jax.tree.map(np.testing.assert_array_equal, codes.extra, end.extra)
    jax.tree.map(np.testing.assert_array_equal, codes.opt_state["net"], end.opt_state["net"])
    jax.tree.map(np.testing.assert_array_equal, start.params["prior"], codes.params["prior"])
    moved = [
        (np.asarray(a) != np.asarray(b)).any()
        for old, new in ((start.params["net"], codes.params["net"]), (codes.params["prior"], end.params["prior"]))
        for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)
    ]
    assert all(moved)


def test_the_prior_knows_more_than_how_often_codes_occur(digits, trained):
    """Nats a code of test digits lie below the entropy of their own codes' frequencies, which is below log K.

    Images are most probable given their own label; a prior of wrong labels could tell none.
    """
    model, (_, _, state), _ = trained
    few = {name: entry[:300] for name, entry in digits.test.items()}

    @jax.jit
    def nats(state, batch):
        bound = model.likelihood.log_prob(jax.random.key(0), state, batch)
        codes = model.latents.encode(state, batch)
        image = model.latents.decode(state, codes, {})["image"]
        return bound, codes["code"], image

    bounds = []
    for label in range(10):
        bound, codes, image = nats(state, {**few, "label": np.full(300, label, np.int32)})
        bounds.append(np.asarray(bound))
    share = np.bincount(np.asarray(codes).ravel(), minlength=16) / codes.size
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    own = np.asarray(bounds)[few["label"], np.arange(300)]
    x = few["image"] / np.float32(255)
    rest = np.float64(discretized_logistic_log_prob(x, image, state.params["prior"]["log_scale"]))
    code_nats = -(own - rest).mean() / 16  # maps of 4x4; the decoded images are clipped to [0, 1]
    assert code_nats < entropy - 0.2
    assert entropy < np.log(16)
    assert (np.argmax(bounds, axis=0) == few["label"]).mean() > 0.6


def test_what_training_reports_is_the_bound(trained):
    """The terms' sum is minus the loss, and nats a code are of 16 places."""
    _, _, (_, metrics) = trained
    np.testing.assert_allclose(of(metrics, "loss"), -of(metrics, "reconstruction") - of(metrics, "code"), rtol=1e-4)
    np.testing.assert_allclose(of(metrics, "code_nats"), -of(metrics, "code") / 16, rtol=1e-5)
    assert of(metrics, "code_nats")[0] == pytest.approx(np.log(16), rel=1e-5)  # its outputs begin at 0
    np.testing.assert_array_equal(of(metrics, "code_perplexity"), of(metrics, "code_perplexity")[0])


def test_labels_are_asked_for(trained):
    """Samples are most probable given the label that they were asked for."""
    model, (_, _, state), _ = trained
    label = np.repeat(np.int32([0, 1, 4]), 20)

    @jax.jit
    def scored(state):
        image = model.sampler.draw(jax.random.key(3), state, 60, {"label": label})["image"]
        given = [model.likelihood.log_prob(None, state, {"image": image, "label": 0 * label + y}) for y in (0, 1, 4)]
        return jnp.stack(given)

    assert (np.array([0, 1, 4])[np.asarray(scored(state)).argmax(0)] == label).mean() > 0.7
    assert model.sampler.note == "means of p(x|codes), codes drawn"
    assert model.likelihood.note.startswith("bound of log p(x|label)")


def by_hand(spec, state, image):
    """Pixels x of uint8 images; their z, the nearest codes' indices and vectors, and the decoded image."""
    net, params = vqvae.Net(vqvae.Config(**CONTRACT.small), 3, 1, np.dtype("float32")), {"params": state.params["net"]}
    x, mean = image / np.float32(255), np.float32(spec.mean)
    z, codes = np.float64(net.apply(params, x - mean, method="encode")), np.float64(state.extra["code"].codes)
    index = ((z[..., None, :] - codes) ** 2).sum(-1).argmin(-1)
    return x, z, index, codes[index], mean + net.apply(params, np.float32(codes[index]), method="decode")


@pytest.fixture(scope="module")
def small(digits, batch):
    """A small model with random parameters and counts of 2, its state, and a step of each phase."""
    model = vqvae.make(vqvae.Config(**CONTRACT.small), digits.spec)
    state = lively_state(model)
    codes = jnp.asarray(far_apart(by_hand(digits.spec, state, batch["image"])[1], 8), jnp.float32)
    state = state._replace(extra={"code": Codebook(codes, jnp.full(8, 2.0), 2 * codes)})
    return model, state, [jax.jit(phase.step)(jax.random.key(0), state, batch) for phase in model.phases]


def test_losses_worked_by_hand(digits, batch, small):
    """Codes, decoded images and the codebook's update from z by NumPy in float64."""
    model, state, ((new, metrics), (_, reported)) = small
    x, z, index, e, image = by_hand(digits.spec, state, batch["image"])
    assert len(set(index.ravel())) > 2
    decoded = jax.jit(lambda: model.latents.decode(state, model.latents.encode(state, batch), {})["image"])()
    np.testing.assert_allclose(decoded, np.clip(image, 0, 1), atol=1e-5)

    nmse = ((x - image) ** 2).mean() / x.var()
    commitment = ((z - e) ** 2).mean()
    found = [metrics[name] for name in ("nmse", "commitment", "loss")]
    np.testing.assert_allclose(found, [nmse, commitment, nmse + 0.25 * commitment], rtol=1e-4)
    hits = np.bincount(index.ravel(), minlength=8)
    np.testing.assert_allclose(new.extra["code"].counts, 0.99 * 2 + 0.01 * hits, rtol=1e-5)
    sums = [z[index == k].sum(0) for k in range(8)]
    moved = (0.99 * 2 * np.asarray(state.extra["code"].codes) + 0.01 * np.stack(sums)) / (0.99 * 2 + 0.01 * hits)[
        :, None
    ]
    np.testing.assert_allclose(new.extra["code"].codes, moved, rtol=1e-4, atol=1e-5)

    log_p = discretized_logistic_log_prob(x, image, state.params["prior"]["log_scale"])
    np.testing.assert_allclose(reported["reconstruction"], log_p.mean(), rtol=1e-4)


def test_rate_and_distortion_are_the_terms_of_the_bound(batch, small):
    model, state, (_, (_, reported)) = small
    found = rate_distortion(jax.random.key(0), model.latents, state, batch)
    np.testing.assert_allclose(found.rate.mean(), -reported["code"], rtol=1e-5)
    np.testing.assert_allclose(found.distortion.mean(), -reported["reconstruction"], rtol=1e-5)
    log_prob = jax.jit(model.likelihood.log_prob)(None, state, batch)
    np.testing.assert_allclose(log_prob, -found.rate - found.distortion, rtol=1e-5)


def test_the_bound_is_below_the_sum_over_all_codes():
    """Images of 2x2 pixels have one of two codes."""
    fields = {"halvings": 1, "features": 4, "residual_blocks": 0, "num_codes": 2, "code_dim": 2}
    spec = Spec({"image": jax.ShapeDtypeStruct((2, 2, 1), np.uint8)}, 64, mean=np.full((2, 2, 1), 0.5))
    model = vqvae.make(vqvae.Config(**fields, dim=4, heads=2, blocks=1), spec)
    assert_a_bound(model, {"code": (1, 1)}, 2, (2, 2, 1))


def test_phases_begin_with_the_data(digits, small):
    """The codebook begins at vectors of the first batch, and the scale at the errors' of all images."""
    model, state, _ = small
    entries = {"image": digits.train["image"][:70]}
    begun = model.phases[0].enter(jax.random.key(1), state, pipeline.batches(entries, 32))
    x, z, _, _, image = by_hand(digits.spec, state, entries["image"])
    vectors = z[:32].reshape(-1, 3)
    nearest = np.abs(np.asarray(begun.extra["code"].codes)[:, None] - vectors).max(-1).min(1)
    np.testing.assert_allclose(nearest, 0, atol=1e-5)

    begun = model.phases[1].enter(jax.random.key(1), state, pipeline.batches(entries, 32))
    error = np.float64((x - image) ** 2).mean()  # of logistic noise: pi^2 scale^2 / 3
    np.testing.assert_allclose(begun.params["prior"]["log_scale"], np.log(3 * error / np.pi**2) / 2, rtol=1e-4)


def test_finite_scalars_take_the_codebooks_place(digits, batch):
    """The codes stay on their grid, and nothing is committed."""
    config = {k: v for k, v in CONTRACT.small.items() if k not in ("num_codes", "code_dim")}
    model = vqvae.make(vqvae.Config(**config, codebook="fsq", fsq_levels=(3, 2)), digits.spec)
    state = jax.jit(model.init)(jax.random.key(0))
    new, metrics = jax.jit(model.phases[0].step)(jax.random.key(0), state, batch)
    np.testing.assert_array_equal(new.extra["code"].codes, [[a, b] for a in (-1, 0, 1) for b in (-1, 0)])
    assert metrics["commitment"] == 0
    assert metrics["loss"] == metrics["nmse"]


def test_samples_say_how_codes_were_drawn():
    spec = Spec({"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}, 64, mean=np.full((8, 8, 1), 0.5))
    model = vqvae.make(vqvae.Config(temperature=0.5), spec)
    assert model.sampler.note == "means of p(x|codes), codes drawn at temperature 0.5"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_codes": 1}, "num_codes must be at least 2, not 1"),
        ({"halvings": 4}, "halvings 4 in all need sides that are multiples of 2^4, which images of 8x8 do not have"),
        ({"halvings": 0}, "halvings must be at least 1"),
        ({"codebook": "fsq", "fsq_levels": (5, 1)}, "fsq_levels must be at least 2 each"),
        ({"codebook": "fsq", "num_codes": 64}, "num_codes only applies with --codebook euclidean or cosine"),
        ({"fsq_levels": (5, 5)}, "fsq_levels only applies with --codebook fsq (you chose euclidean)"),
        ({"gated_layers": 3}, "gated_layers only applies with --prior pixelcnn (you chose transformer)"),
        ({"prior": "pixelcnn", "blocks": 3}, "blocks only applies with --prior transformer (you chose pixelcnn)"),
        ({"dim": 30}, "heads must divide dim, 30, which 4 does not"),
        ({"average": 1.0}, "average must be at least 0 and below 1, not 1.0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        (
            {"halvings": 1, "memory": 1e-5},
            "attention of a batch of 64 images of 16 tokens: 0.000244 GiB, above memory, 1e-05; take a smaller "
            "batch_size or more halvings, or raise memory",
        ),
    ],
)
def test_values_that_cannot_be(fields, words):
    spec = Spec({"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}, 64, mean=np.full((8, 8, 1), 0.5))
    with pytest.raises(UserError) as raised:
        vqvae.make(vqvae.Config(**fields), spec)
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)
