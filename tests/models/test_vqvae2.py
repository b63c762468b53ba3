"""VQ-VAE-2: levels of codes, what each sees, and the priors of both."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import vqvae2
from jaxgen.nn import codebook
from jaxgen.nn.codebook import Codebook
from jaxgen.pictures.kinds import Asked, reconstructions
from tests.models.contract import Contract
from tests.models.enumerated import assert_a_bound, far_apart, lively_state

CONTRACT = Contract(
    {"features": 4, "residual_features": 4, "residual_blocks": 1, "num_codes": 6, "code_dim": 3}
    | {"dim": 8, "heads": 2, "blocks": 1, "gated_features": 4, "gated_layers": 1, "dropout": 0.0},
    likelihood="bound",
    prior="discrete",
    encodes=True,
    densities=True,
)

SPEC = Spec(
    {"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8), "caption": jax.ShapeDtypeStruct((2,), np.int32)},
    64,
    num_words=6,
    batch_size=32,
    mean=np.full((8, 8, 1), 0.4),
)
STEPS = 150


def shapes(num, seed=0):
    """Images with a bright quarter, which the caption names, of one of two textures, which its second word names."""
    rng = np.random.default_rng(seed)
    quarter, texture = rng.integers(0, 3, num), rng.integers(0, 2, num)
    image = rng.integers(0, 60, (num, 8, 8, 1))
    for n, (place, fine) in enumerate(zip(quarter, texture, strict=True)):
        i, j = 4 * (place // 2), 4 * (place % 2)
        pattern = np.indices((4, 4)).sum(0) % 2 if fine else np.indices((4, 4))[0] // 2 % 2
        image[n, i : i + 4, j : j + 4, 0] += 120 + 70 * pattern
    return {"image": image.astype(np.uint8), "caption": np.int32(np.stack([quarter + 1, texture + 4], axis=1))}


@pytest.fixture(scope="module")
def trained():
    """A caption-conditional model, its states after both phases, and their metrics."""
    config = vqvae2.Config(
        **{**CONTRACT.small, "features": 12, "num_codes": 8, "gated_features": 12, "dim": 16, "condition": "caption"},
        learning_rate=5e-3, prior_learning_rate=1e-2, code_steps=STEPS, average=0.9,
    )  # fmt: skip
    model, data = vqvae2.make(config, SPEC), {name: jnp.asarray(entry) for name, entry in shapes(256).items()}
    state, states, metrics = jax.jit(model.init)(jax.random.key(0)), [], []
    for n, phase in enumerate(model.phases):
        state = phase.enter(jax.random.key(7), state, iter([shapes(32) | {"weight": np.ones(32, np.float32)}]))

        def take(state, key, phase=phase):
            rows = jax.random.choice(key, 256, (32,))
            state, found = phase.step(key, state, {name: entry[rows] for name, entry in data.items()})
            return state._replace(step=state.step + 1), found

        state, found = jax.jit(lambda state, keys, take=take: jax.lax.scan(take, state, keys))(
            state, jax.random.split(jax.random.key(1 + n), STEPS)
        )
        states.append(state)
        metrics.append({name: np.asarray(values, np.float64) for name, values in found.items()})
    return model, states, metrics


def test_both_levels_are_learned_and_then_left_as_they_are(trained):
    _, (codes, end), (first, second) = trained
    assert first["nmse"][-10:].mean() < 0.3
    for level in ("top", "bottom"):
        assert first[f"{level}_perplexity"][-1] > 2
        assert second[f"{level}_nats"][0] == pytest.approx(np.log(8), rel=1e-5)
        # The prior given captions knows more than how often each code occurs, whose entropy is log(perplexity).
        assert second[f"{level}_nats"][-10:].mean() < np.log(second[f"{level}_perplexity"][-1]) - 0.1
    np.testing.assert_allclose(
        second["loss"], -second["reconstruction"] - second["top"] - second["bottom"], rtol=1e-4, atol=1e-3
    )
    jax.tree.map(np.testing.assert_array_equal, codes.params["net"], end.params["net"])
    jax.tree.map(np.testing.assert_array_equal, codes.extra, end.extra)


def test_captions_are_learned_and_asked_for(trained):
    """Images are more probable given their own caption than given another; samples, given the one asked for."""
    model, (_, state), _ = trained
    test = shapes(60, seed=1)
    log_prob = jax.jit(model.likelihood.log_prob)
    other = {**test, "caption": test["caption"] % [[3, 1]] + [[1, 0]]}  # another quarter
    assert (log_prob(None, state, test) > log_prob(None, state, other)).mean() > 0.9

    asked = {"caption": test["caption"]}
    image = np.asarray(jax.jit(lambda: model.sampler.draw(jax.random.key(3), state, 60, asked)["image"])())
    quarters = np.float64(image[..., 0]).reshape(60, 2, 4, 2, 4).mean((2, 4)).reshape(60, 4)
    assert (quarters.argmax(1) + 1 == test["caption"][:, 0]).mean() > 0.8


def test_the_levels_follow_the_algorithm(batch, digits):
    """Codes and image of algorithm 1 step by step; the bottom's depend on the top's, which are quantized first.

    Also the update of both codebooks, and the loss.
    """
    config = vqvae2.Config(**CONTRACT.small)
    model = vqvae2.make(config, digits.spec)
    state, codes = lively_state(model), {}
    net = vqvae2.Net(config, 3, 1, np.dtype("float32")).bind({"params": state.params["net"]})
    x, mean = batch["image"] / np.float32(255), np.float32(digits.spec.mean)
    bottom = net.encoders[0](x - mean)
    z_top = np.asarray(net.to_code[1](net.encoders[1](bottom)))
    codes["top"] = far_apart(z_top, 6)
    top = ((z_top[..., None, :] - codes["top"]) ** 2).sum(-1).argmin(-1)
    e_top = codes["top"][top]
    z_bottom = np.asarray(net.to_code[0](jnp.concatenate([bottom, net.to_level_below[0](e_top)], axis=-1)))
    codes["bottom"] = far_apart(z_bottom, 6)
    below = ((z_bottom[..., None, :] - codes["bottom"]) ** 2).sum(-1).argmin(-1)
    e_bottom = codes["bottom"][below]
    assert min(len(set(index.ravel())) for index in (top, below)) > 2
    counts = jnp.full(6, 2.0)
    state = state._replace(extra={name: Codebook(jnp.asarray(e), counts, 2 * e) for name, e in codes.items()})
    image = mean + net.decoder(jnp.concatenate([e_bottom, net.widened[0][0](e_top)], axis=-1))

    @jax.jit
    def both(state):
        found = model.latents.encode(state, batch)
        return (
            found,
            model.latents.decode(state, found, {})["image"],
            model.phases[0].step(jax.random.key(0), state, batch),
        )

    found, decoded, (new, metrics) = both(state)
    np.testing.assert_array_equal(found["top"], top)
    np.testing.assert_array_equal(found["bottom"], below)
    assert (found["top"].shape, found["bottom"].shape) == ((32, 2, 2), (32, 4, 4))
    np.testing.assert_allclose(decoded, np.clip(image, 0, 1), atol=2e-6)
    commitment = ((z_top - e_top) ** 2).mean() + ((z_bottom - e_bottom) ** 2).mean()
    nmse = ((x - image) ** 2).mean() / x.var()
    np.testing.assert_allclose(metrics["loss"], nmse + 0.25 * commitment, rtol=1e-4)
    for name, index in (("top", top), ("bottom", below)):
        hits = np.bincount(index.ravel(), minlength=6)
        np.testing.assert_allclose(new.extra[name].counts, 0.99 * 2 + 0.01 * hits, rtol=1e-5)
        np.testing.assert_allclose(
            metrics[f"{name}_perplexity"], codebook.perplexity(new.extra[name].counts), rtol=1e-5
        )


def test_levels_are_pictured_one_by_one(digits, batch):
    """Images stand above what the top's codes decode to, with the bottom's mean code everywhere, and above both's."""
    config = vqvae2.Config(**CONTRACT.small)
    model = vqvae2.make(config, digits.spec)
    state = model.phases[0].enter(jax.random.key(2), lively_state(model), iter([batch]))
    counts = jnp.arange(6.0)
    state = state._replace(extra={name: book._replace(counts=counts) for name, book in state.extra.items()})
    plan = SimpleNamespace(model=model, dataset=digits, settings=SimpleNamespace(seeds=(0,)))
    run = SimpleNamespace(plan=plan, state=jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state))
    found = reconstructions(run, Asked(num=5)).arrays
    assert found["image"].shape == (1, 5, 3, 8, 8, 1)
    shown = digits.test["image"][found["example"]]
    np.testing.assert_array_equal(found["image"][0, :, 0], shown)

    net = vqvae2.Net(config, 3, 1, np.dtype("float32"))

    @jax.jit
    def decoded(state):
        codes = model.latents.encode(state, {"image": shown})
        return codes, model.latents.decode(state, codes, {})["image"]

    codes, both = decoded(state)
    mean = np.float32(np.average(state.extra["bottom"].codes, axis=0, weights=counts))
    vectors = [state.extra["top"].codes[codes["top"]], jnp.broadcast_to(mean, (5, 4, 4, 3))]
    top = np.float32(digits.spec.mean) + net.apply({"params": state.params["net"]}, vectors, method="decode")
    for row, image in ((1, np.clip(top, 0, 1)), (2, both)):
        assert np.abs(np.float64(found["image"][0, :, row]) - 255 * np.float64(image)).max() < 0.51


def test_the_bound_is_below_the_sum_over_all_codes():
    """Images of 4x4 pixels have one of 2 codes at the top and four at the bottom, 32 in all."""
    fields = {**CONTRACT.small, "residual_blocks": 0, "num_codes": 2}
    spec = Spec({"image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8)}, 64, mean=np.full((4, 4, 1), 0.5))
    assert_a_bound(vqvae2.make(vqvae2.Config(**fields), spec), {"top": (1, 1), "bottom": (2, 2)}, 2, (4, 4, 1))


def test_a_third_level_lies_between():
    """Images of 16x32 have maps of 8x16, 2x4 and 1x2 codes by halvings of 1, 2 and 1."""
    image = jax.ShapeDtypeStruct((16, 32, 3), np.uint8)
    spec = Spec({"image": image}, 64, mean=np.full((16, 32, 3), 0.5))
    model = vqvae2.make(vqvae2.Config(**CONTRACT.small, halvings=(1, 2, 1)), spec)
    state = jax.eval_shape(model.init, jax.random.key(0))
    batch = {"image": jnp.zeros((5, 16, 32, 3), jnp.uint8)}
    codes = jax.eval_shape(model.latents.encode, state, batch)
    assert {name: code.shape for name, code in codes.items()} == {
        "top": (5, 1, 2),
        "middle": (5, 2, 4),
        "bottom": (5, 8, 16),
    }
    made = jax.eval_shape(lambda state: model.sampler.draw(jax.random.key(0), state, 5, {}), state)
    assert made["image"].shape == (5, 16, 32, 3)
    for phase in model.phases:
        jax.eval_shape(phase.step, jax.random.key(0), state, batch)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"halvings": (2,)}, "halvings must be 2 or 3 numbers, one a level, not (2,); vqvae has one level"),
        ({"halvings": (1, 0)}, "halvings must be at least 1, a stride of 2 between levels"),
        ({"halvings": (2, 2)}, "halvings 4 in all need sides that are multiples of 2^4, which images of 8x8 do not"),
        ({"gated_layers": 0}, "gated_layers must be above 0"),
    ],
)
def test_values_that_cannot_be(fields, words):
    with pytest.raises(UserError) as raised:
        vqvae2.make(vqvae2.Config(**fields), SPEC)
    assert str(raised.value).startswith(words)
