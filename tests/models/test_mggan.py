"""MGGAN: parameters moved by each phase, the autoencoder's noise and loss, G's gradient from both discriminators."""

from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.adversarial.losses import LOSSES
from jaxgen.adversarial.turns import AdversarialConfig
from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import dcgan, gan, mggan
from tests.models.by_hand import anything, batch_norm, conv, conv_transpose, dense, drawn_state, in_float64, relu
from tests.models.contract import Contract

CONTRACT = Contract(
    {"features": 4, "smallest": 4, "latent_dim": 5, "code_dim": 3, "manifold_units": 8, "autoencoder_steps": 1},
    prior="uniform",
)

CODES = {"code_dim": 3, "manifold_units": 5, "autoencoder_steps": 2}
KINDS = {
    "images": CODES | {"latent_dim": 3, "features": 2, "smallest": 2},
    "points": CODES
    | {"latent_dim": 2, "generator_units": 6, "discriminator_units": 5, "pieces": 1, "dropout": 0.0}
    | {"optimizer": "adam", "learning_rate": 1e-3, "encoder_units": 6},
}
KINDS["packs"] = KINDS["points"] | {"packing": 2}
LOSS = LOSSES["non_saturating"]


def spec(kind):
    if kind in ("labels", "meshes"):
        entries = {"labels": {"label": ((), np.int32)}, "meshes": {"mesh": ((20, 3), np.float32)}}[kind]
        return Spec({name: jax.ShapeDtypeStruct(*of) for name, of in entries.items()}, num_examples=64)
    if kind != "images":
        return Spec({"point": jax.ShapeDtypeStruct((2,), np.float32)}, num_examples=64)
    image = jax.ShapeDtypeStruct((8, 8, 1), np.uint8)
    return Spec({"image": image}, num_examples=64, mean=np.full((8, 8, 1), 0.3))


def fetched(function):
    """Compiles a function; its results are NumPy's."""
    compiled = jax.jit(function)
    return lambda *given: jax.device_get(compiled(*given))


@pytest.fixture(scope="module", params=KINDS)
def start(request):
    """Model, parts and a batch for a kind of data, with the states before training and after a step of either phase.

    Also fakes of the state between the phases, and turns on them.
    """
    kind, rng = request.param, np.random.default_rng(3)
    batch = {"weight": np.ones(6, np.float32)}
    if kind != "images":
        batch["point"] = rng.normal(size=(6, 2)).astype(np.float32)
    else:
        batch["image"] = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    config = mggan.Config(**KINDS[kind])
    model, parts = mggan.make(config, spec(kind)), mggan.players(config, spec(kind))
    state = drawn_state(model.init)
    taught, metrics = jax.jit(model.phases[0].step)(jax.random.key(1), state, batch)
    after, _ = jax.jit(model.phases[1].step)(jax.random.key(2), taught, batch)
    taught, metrics, after = jax.device_get((taught, metrics, after))
    x = batch["image"].astype(np.float32) / 127.5 - 1 if kind == "images" else batch["point"]
    real = x.reshape(3, 2, 2) if kind == "packs" else x  # as D sees them
    play, between = parts.turns, parts.frozen(taught)
    fakes = jax.jit(lambda s: play.generate(jax.random.key(4), s, batch)._replace(pullback=None))(between)
    told = fetched(lambda s, x: play.generator_loss(jax.random.key(5), s, batch, fakes._replace(x=x)))
    turn = fetched(lambda s: play.discriminator_turn(jax.random.key(6), s, batch, fakes))
    return SimpleNamespace(**locals())


def same(a, b):
    """Tells for each leaf whether both are equal."""
    return [np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]


def split(tree, names):
    return {n: v for n, v in tree.items() if n in names}, {n: v for n, v in tree.items() if n not in names}


AUTOENCODER = ("encoder", "decoder", "autoencoder")


def test_the_first_phase_moves_the_autoencoder_only(start):
    for field in ("params", "opt_state", "extra"):
        (old, old_rest), (new, new_rest) = (split(getattr(s, field), AUTOENCODER) for s in (start.state, start.taught))
        assert not any(same(old, new))
        assert all(same(old_rest, new_rest))
    assert {phase.name: phase.steps for phase in start.model.phases} == {"autoencoder": 2, "adversarial": None}


def test_the_second_phase_leaves_the_autoencoder_as_it_is(start):
    for field in ("params", "opt_state", "extra"):
        (old, _), (new, _) = (split(getattr(s, field), AUTOENCODER) for s in (start.taught, start.after))
        assert jax.tree.structure(old) == jax.tree.structure(new)
        assert all(same(old, new))
    for player in ("generator", "discriminator"):
        assert not any(same(start.taught.params[player], start.after.params[player]))


def test_the_autoencoder_descends_the_absolute_error_of_clean_examples(start):
    """Adam's first moment is a tenth of the gradient of sum |x - Dec(E(x~))|, with x~ drawn by the step's key.

    E's BatchNorm uses the statistics of x~, which also update its running averages.
    """
    config, params = start.config, start.state.params
    encoder, decoder = (net(config, start.x.shape[1:], np.float32) for net in (mggan.Encoder, mggan.Decoder))
    shown = mggan.noisy(config, jax.random.key(1), jnp.asarray(start.x))
    assert not np.array_equal(shown, start.x)

    def loss(params):
        variables = {"params": params["encoder"], "batch_stats": start.state.extra["encoder"]}
        z, moved = encoder.apply(variables, shown, training=True, mutable=["batch_stats"])
        error = start.x - decoder.apply({"params": params["decoder"]}, z)
        return jnp.abs(error).sum() / len(start.x), moved.get("batch_stats", {})

    old = {name: params[name] for name in ("encoder", "decoder")}
    (value, averages), gradients = fetched(jax.value_and_grad(loss, has_aux=True))(old)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), start.taught.extra["encoder"], averages)
    assert bool(averages) == (start.kind == "images")
    np.testing.assert_allclose(start.metrics["reconstruction"], value, rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients))
    jax.tree.map(
        lambda moment, g: np.testing.assert_allclose(moment, g / 10, rtol=1e-3, atol=1e-5 * largest),
        start.taught.opt_state["autoencoder"][0].mu,
        gradients,
    )


def test_nets_of_images_equal_numpy():
    """E by the batch's statistics and, frozen, by running averages; the decoder; D_m with slope .2."""
    config, shape, rng = mggan.Config(**KINDS["images"]), (8, 8, 1), np.random.default_rng(4)
    x, z = (rng.normal(size=size).astype(np.float32) for size in ((6, *shape), (6, 3)))
    encoder, decoder = (net(config, shape, np.float32) for net in (mggan.Encoder, mggan.Decoder))
    judge = mggan.ManifoldDiscriminator(config, np.float32)
    variables = jax.eval_shape(lambda: encoder.init(jax.random.key(0), x, training=False))
    averages = jax.tree.map(np.abs, anything(variables["batch_stats"], seed=1))
    e = anything(variables["params"])
    of_decoder, of_judge = (
        anything(jax.eval_shape(net.init, jax.random.key(0), z)["params"]) for net in (decoder, judge)
    )
    given = {"params": e, "batch_stats": averages}
    of_batch = jax.jit(lambda x: encoder.apply(given, x, training=True, mutable=["batch_stats"])[0])(x)
    of_averages = jax.jit(lambda x: encoder.apply(given, x, training=False))(x)
    for found, by in ((of_batch, {}), (of_averages, in_float64(averages))):
        h = np.float64(x)
        for level in range(2):
            norm = f"BatchNorm_{level}"
            h = relu(batch_norm(conv(in_float64(e[f"Conv_{level}"]), h), in_float64(e[norm]), by.get(norm)))
        np.testing.assert_allclose(found, dense(in_float64(e["Dense_0"]), h), rtol=1e-4, atol=1e-4)

    p = in_float64(of_decoder)
    h = relu(dense(p["Dense_0"], np.float64(z))).reshape(6, 2, 2, 4)
    h = np.tanh(conv_transpose(p["ConvTranspose_1"], relu(conv_transpose(p["ConvTranspose_0"], h))))
    np.testing.assert_allclose(jax.jit(decoder.apply)({"params": of_decoder}, z), h, rtol=1e-4, atol=1e-5)
    assert set(p["ConvTranspose_1"]) == {"kernel"}

    p, h = in_float64(of_judge), np.float64(z)
    for layer in ("Dense_0", "Dense_1"):
        h = relu(dense(p[layer], h), 0.2)
    logits = jax.jit(judge.apply)({"params": of_judge}, z)
    np.testing.assert_allclose(logits, dense(p["Dense_2"], h), rtol=1e-4, atol=1e-5)


def test_salt_and_pepper():
    """A share of pixels changes, half black and half white, in all channels at once; within 5 standard errors."""
    x = jnp.full((40, 16, 16, 3), 0.1)
    noisy = np.asarray(mggan.salted(jax.random.key(0), x, 0.25))
    assert (noisy == noisy[..., :1]).all()
    pixels = noisy[..., 0]
    assert set(np.unique(pixels)) == {np.float32(-1), np.float32(0.1), np.float32(1)}
    for value, share in ((-1, 0.125), (1, 0.125), (np.float32(0.1), 0.75)):
        assert abs((pixels == value).mean() - share) < 5 * np.sqrt(share * (1 - share) / pixels.size)
    points = np.asarray(mggan.noisy(mggan.Config(deviation=0.3), jax.random.key(0), jnp.ones((20_000, 2)))) - 1
    assert abs(points.mean()) < 5 * 0.3 / np.sqrt(points.size)
    assert abs(points.std() - 0.3) < 5 * 0.3 / np.sqrt(2 * points.size)


def base_of(kind):
    """The base's model and turns with the same fields."""
    base = dcgan if kind == "images" else gan
    config = base.Config(**{n: v for n, v in KINDS[kind].items() if n in base.Config.__dataclass_fields__})
    return base.make(config, spec(kind)), base.players(config, spec(kind))


def judged(start, params, x):
    """Logits, [batch] each, of D and of D_m on E's codes, by the networks themselves."""
    config, extra = start.config, start.taught.extra
    if start.kind != "images":
        of_examples = gan.Discriminator(config, np.float32).apply({"params": params["image"]}, x, training=True)
    else:
        variables = {"params": params["image"], "batch_stats": extra["discriminator"]["image"]}
        net = dcgan.Discriminator(config, 2, np.float32)
        of_examples, _ = net.apply(variables, x, training=True, mutable=["batch_stats"])
    shape = start.x.shape[1:]
    encoder = mggan.Encoder(config, shape, np.float32)
    variables = {"params": start.taught.params["encoder"], "batch_stats": extra["encoder"]}
    codes = encoder.apply(variables, x.reshape(-1, *shape), training=False).reshape(len(x), -1)
    of_codes = mggan.ManifoldDiscriminator(config, np.float32).apply({"params": params["manifold"]}, codes)
    return of_examples[:, 0], of_codes[:, 0]


def test_g_is_told_by_both_discriminators_the_second_at_half_the_weight(start):
    """The fakes' gradient, through the frozen E in evaluation mode, is that of L_image + L_manifold / 2."""
    (_, value), cotangent = start.told(start.between, start.fakes.x)

    def parts(x):
        of_examples, of_codes = judged(start, start.taught.params["discriminator"], x)
        return jnp.stack([LOSS.generator(of_examples).mean(), LOSS.generator(of_codes).mean()])

    values, gradients = fetched(lambda x: (parts(x), jax.jacrev(parts)(x)))(start.fakes.x)
    np.testing.assert_allclose(value, values[0] + values[1] / 2, rtol=1e-5)
    expected = gradients[0] + gradients[1] / 2
    np.testing.assert_allclose(cotangent, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert np.abs(gradients).max(axis=tuple(range(1, gradients.ndim))).min() > 0  # D_m's gradient passes through E


def test_without_the_manifolds_weight_g_is_told_what_the_base_tells_it(start):
    """The fakes' gradient equals the base's without the weight, and differs with the paper's weight."""
    without = mggan.players(replace(start.config, manifold_weight=0.0), spec(start.kind)).turns
    _, base = base_of(start.kind)
    params, extra = start.taught.params, start.taught.extra
    of_base = start.taught._replace(
        params={"generator": params["generator"], "discriminator": params["discriminator"]["image"]},
        extra={"generator": extra["generator"], "discriminator": extra["discriminator"]["image"]},
    )
    ((_, value), cotangent), ((_, expected_value), expected) = (
        jax.jit(lambda s, play=play: play.generator_loss(jax.random.key(5), s, start.batch, start.fakes))(state)
        for play, state in ((without, start.between), (base, of_base))
    )
    atol = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(cotangent, expected, rtol=1e-5, atol=atol)
    assert not np.allclose(start.told(start.between, start.fakes.x)[1], expected, rtol=1e-5, atol=atol)


def with_discriminators(state, **params):
    return state._replace(params={**state.params, "discriminator": {**state.params["discriminator"], **params}})


def test_codes_are_of_each_example_alone(start):
    """E is in evaluation mode: with D off, changing one example leaves the others' gradients unchanged."""
    off = jax.tree.map(np.zeros_like, start.between.params["discriminator"]["image"])
    state, x = with_discriminators(start.between, image=off), start.fakes.x
    before, after = (np.asarray(start.told(state, given)[1]) for given in (x, x.at[-1].add(0.5)))
    assert np.abs(before).max(axis=tuple(range(1, x.ndim))).min() > 0
    np.testing.assert_allclose(after[:-1], before[:-1], rtol=1e-5, atol=1e-6 * np.abs(before).max())
    assert np.abs(after[-1] - before[-1]).max() > 1e-3 * np.abs(before).max()


def moments(state):
    """Adam's first moments of both discriminators."""
    parts = jax.tree.leaves(state.opt_state["discriminator"], is_leaf=lambda part: hasattr(part, "mu"))
    return next(part.mu for part in parts if hasattr(part, "mu"))


@pytest.mark.parametrize("player", ["image", "manifold"])
def test_a_discriminator_learns_nothing_from_the_other(player, start):
    """A discriminator's gradient does not depend on the other's parameters at all."""
    other = {"image": "manifold", "manifold": "image"}[player]
    changed = jax.tree.map(lambda leaf: 1.5 * leaf + 0.01, start.between.params["discriminator"][other])
    state = with_discriminators(start.between, **{other: changed})
    one, two = (start.turn(given)[0] for given in (start.between, state))
    assert all(same(moments(one)[player], moments(two)[player]))
    assert all(same(one.params["discriminator"][player], two.params["discriminator"][player]))
    assert not all(same(moments(one)[other], moments(two)[other]))
    assert all(leaf.any() for leaf in jax.tree.leaves(moments(one)[player]))


def test_each_discriminator_learns_from_its_own_loss(start):
    """Adam's first moment of each is half the gradient of its loss, with weight 1 for both."""
    params = start.taught.params["discriminator"]

    def loss(params):
        pairs = zip(judged(start, params, jnp.asarray(start.real)), judged(start, params, start.fakes.x), strict=True)
        return sum(LOSS.discriminator(real, fake).mean() for real, fake in pairs)

    gradients = fetched(jax.grad(loss))(params)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients))
    jax.tree.map(
        lambda moment, g: np.testing.assert_allclose(moment, g / 2, rtol=1e-3, atol=1e-5 * largest),
        moments(start.turn(start.between)[0]),
        gradients,
    )


def test_samples_are_the_bases(start):
    """MGGAN's parameters give the same samples, and latents the same examples, in a base with the same G."""
    other, _ = base_of(start.kind)
    (entry,) = start.model.needs
    assert entry == ("image" if start.kind == "images" else "point")

    def drawn(model):
        @jax.jit
        def of(state):
            z = model.latents.prior.sample(jax.random.key(7), state, 5)
            return model.sampler.draw(jax.random.key(7), state, 5, {}), model.latents.decode(state, z, {})

        return of(start.after)

    jax.tree.map(np.testing.assert_array_equal, drawn(start.model), drawn(other))


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("images", {"packing": 2}, "packing does not apply to images: see `jaxgen train mggan --help`"),
        ("images", {"encoder_units": 8}, "encoder_units does not apply to images"),
        ("images", {"deviation": 0.2}, "deviation does not apply to images"),
        ("points", {"noise": 0.5}, "noise does not apply to points: see `jaxgen train mggan --help`"),
        ("points", {"features": 8}, "features does not apply to points"),
        ("images", {"noise": 1.0}, r"noise must be at least 0 and below 1, not 1\.0"),
        ("images", {"code_dim": 0}, "code_dim must be above 0"),
        ("points", {"deviation": -1.0}, "deviation must be at least 0"),
        ("points", {"manifold_weight": -0.5}, "manifold_weight must be at least 0"),
        ("images", {"smallest": 8}, "smallest must be at most 7"),
        ("images", {"critic_steps": 3}, r"multiple of 3 \(critic_steps\), not 64"),
        ("points", {"critic_steps": 3, "packing": 2}, r"multiple of 6 \(critic_steps \* packing\), not 64"),
        ("meshes", {}, "mggan makes images or points: the data have mesh"),
    ],
)
def test_what_cannot_be_run(kind, fields, words):
    with pytest.raises(UserError, match=words) as raised:
        mggan.make(mggan.Config(**fields), spec(kind))
    assert "\n" not in str(raised.value)


def test_data_without_examples():
    with pytest.raises(KeyError, match="image or point or mesh"):
        mggan.make(mggan.Config(), spec("labels"))


def test_images_that_cannot_be_halved():
    image = Spec({"image": jax.ShapeDtypeStruct((9, 9, 1), np.uint8)}, num_examples=64)
    with pytest.raises(UserError, match=r"^mggan cannot make images of 9x9"):
        mggan.make(mggan.Config(), image)


OWN = {"autoencoder_steps", "autoencoder_learning_rate", "code_dim", "manifold_units", "manifold_weight"}
OWN |= {"noise", "deviation", "encoder_units"}
"""Fields of the autoencoder and D_m, which no base has."""
GIVEN = {
    "loss": "hinge", "penalty": "one_centered", "penalty_at": "real", "augment": ("color",), "batches": "joint",
    "kernel": 5, "normalization": "layer", "prior": "gaussian", "optimizer": "adam",
}  # fmt: skip
"""Non-default values of fields that are not numbers."""


def fields_of(config):
    """Map from field to (type, default)."""
    return {field.name: (field.type, field.default) for field in fields(config)}


def another(name, default):
    """Returns a value that differs from the field's default."""
    return GIVEN[name] if name in GIVEN else not default if isinstance(default, bool) else (default or 0) + 1


def test_fields_are_those_of_both_bases_as_they_are_there():
    """No field is missing or has another type or default, and all further fields are the autoencoder's and D_m's."""
    of_bases = fields_of(dcgan.Config) | fields_of(gan.Config)
    own = fields_of(mggan.Config)
    assert own.keys() == of_bases.keys() | OWN
    assert not OWN & of_bases.keys()
    assert {name: own[name] for name in of_bases} == of_bases
    common = fields_of(dcgan.Config).keys() & fields_of(gan.Config).keys()
    assert common == {"latent_dim", "beta1", "beta2", *fields_of(AdversarialConfig)}
    assert {n: fields_of(dcgan.Config)[n] for n in common} == {n: fields_of(gan.Config)[n] for n in common}


@pytest.mark.parametrize(("subject", "base", "other"), [("image", dcgan, gan), ("point", gan, dcgan)])
def test_each_field_of_the_base_is_passed_on_and_each_of_the_other_refused(subject, base, other):
    of_base, of_other = (fields_of(module.Config) for module in (base, other))
    given = {name: another(name, default) for name, (_, default) in of_base.items()}
    assert mggan.base_config(mggan.Config(**given), subject) == base.Config(**given)
    for name in of_other.keys() - of_base.keys():
        config = mggan.Config(**{name: another(name, of_other[name][1])})
        with pytest.raises(UserError, match=f"^{name} does not apply to {subject}s"):
            mggan.base_config(config, subject)


@pytest.mark.slow
def test_codes_keep_where_points_are():
    """The first phase reconstructs the ring's points to a tenth of their distance from the mean, 1."""
    dataset = data.load("gaussians/ring")
    config = mggan.Config(**KINDS["points"] | {"code_dim": 2, "encoder_units": 32, "deviation": 0.05})
    model = mggan.make(config, dataset.spec)
    points = jnp.asarray(dataset.train["point"][:4096])

    @jax.jit
    def fit(state):
        def take(i, state):
            rows = jax.random.randint(jax.random.fold_in(jax.random.key(8), i), (64,), 0, len(points))
            return model.phases[0].step(jax.random.fold_in(jax.random.key(9), i), state, {"point": points[rows]})[0]

        return jax.lax.fori_loop(0, 2000, take, state)

    state = fit(jax.jit(model.init)(jax.random.key(0)))
    encoder, decoder = (net(config, (2,), np.float32) for net in (mggan.Encoder, mggan.Decoder))
    codes = encoder.apply({"params": state.params["encoder"]}, points, training=False)
    made = decoder.apply({"params": state.params["decoder"]}, codes)
    assert np.linalg.norm(made - points, axis=1).mean() < 0.1
