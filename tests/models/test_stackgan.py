"""StackGAN: networks of the paper's sizes, conditioning augmentation, frozen parts, and which images samples are."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.model import Spec
from jaxgen.models import stackgan
from jaxgen.models.stackgan_nets import Augmentation, Discriminator, Generator, drawn
from jaxgen.nn.text import Matching
from jaxgen.training import Settings
from jaxgen.training.plan import make_plan
from tests.cases import some_slow
from tests.models.by_hand import anything, drawn_state, in_float64, stepped
from tests.models.contract import Contract

TINY = {"features": 4, "word_dim": 3, "text_dim": 6, "latent_dim": 3, "condition_dim": 2, "blocks": 1}
CONTRACT = Contract(TINY, dataset="shapes", conditional=True, prior="gaussian")


def spec(side=16, batch_size=6, channels=3):
    image = jax.ShapeDtypeStruct((side, side, channels), np.uint8)
    entries = {"image": image, "caption": jax.ShapeDtypeStruct((4,), np.int32)}
    return Spec(entries, 64, num_words=9, batch_size=batch_size)


def kernels(params):
    """Sorted shapes of the kernels."""
    return sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim in (2, 4))


def test_networks_have_the_papers_sizes():
    """G of 128 channels for 64x64 and then 256x256 pixels, with four blocks on maps of 16x16; D of 64 channels."""
    config = stackgan.Config(features=128, discriminator_features=64, scale=4, blocks=4, halvings=2)
    augmentation = [(128, 128)] * 2
    code, noise = jnp.zeros((1, 128)), jnp.zeros((1, 228))
    first = partial(Generator(config, (64, 64, 3), np.float32).init, training=False)
    params = jax.eval_shape(first, jax.random.key(0), code, noise)["params"]
    expected = [*augmentation, (228, 16 * 1024), (1, 1, 1024, 256), (3, 3, 256, 256), (3, 3, 256, 1024)]
    expected += [(3, 3, 1024, 512), (1, 1, 512, 128), (3, 3, 128, 128), (3, 3, 128, 512), (3, 3, 512, 256)]
    assert kernels(params) == sorted([*expected, (3, 3, 256, 128), (3, 3, 128, 3)])
    second = partial(Generator(config, (256, 256, 3), np.float32).init, training=False)
    params = jax.eval_shape(second, jax.random.key(0), code, noise[:, :128], jnp.zeros((1, 64, 64, 3)))["params"]
    expected = [*augmentation, (3, 3, 3, 128), (4, 4, 128, 256), (4, 4, 256, 512), (3, 3, 512 + 128, 512)]
    expected += [*8 * [(3, 3, 512, 512)], (3, 3, 512, 256), (3, 3, 256, 128), (3, 3, 128, 64), (3, 3, 64, 32)]
    assert kernels(params) == sorted([*expected, (3, 3, 32, 3)])
    judge = partial(Discriminator(config, np.float32).init, training=False)
    params = jax.eval_shape(judge, jax.random.key(0), jnp.zeros((1, 64, 64, 3)), code)["params"]
    expected = [(4, 4, 3, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512), (1, 1, 512, 128)]
    expected += [(3, 3, 128, 128), (3, 3, 128, 512), (128, 128), (1, 1, 512 + 128, 512), (4, 4, 512, 1)]
    assert kernels(params) == sorted(expected)


def test_initial_weights():
    """The paper's but for dense layers', within 5 standard errors; biases are 0, running averages 0 and 1.

    Convolutions' kernels are N(0, .02), gains N(1, .02), and those of D's only dense layer, of 8 inputs, N(0, 1 / 8).
    """
    net = Discriminator(stackgan.Config(features=16), np.float32)
    init = partial(net.init, x=jnp.zeros((1, 16, 16, 3)), code=jnp.zeros((1, 8)), training=False)
    found = jax.jit(lambda key: drawn(key, init))(jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(found["params"])
    for name, axes, mean, deviation in (("kernel", 4, 0, 0.02), ("scale", 1, 1, 0.02), ("kernel", 2, 0, 8**-0.5)):
        values = np.concatenate([np.ravel(leaf) for path, leaf in leaves if (path[-1].key, leaf.ndim) == (name, axes)])
        assert abs(values.mean() - mean) < 5 * deviation / np.sqrt(len(values))
        assert abs(values.std() - deviation) < 5 * deviation / np.sqrt(2 * len(values))
        assert len(np.unique(values)) > 0.9 * len(values)
    assert not any(leaf.any() for path, leaf in leaves if path[-1].key == "bias")
    assert all(
        (np.asarray(leaf) == float(path[-1].key == "var")).all()
        for path, leaf in jax.tree_util.tree_leaves_with_path(found["batch_stats"])
    )
    assert jax.tree.structure(found) == jax.tree.structure(jax.eval_shape(init, jax.random.key(0)))


def test_the_condition_tells_captions_apart_before_training():
    """Mu of codes of mean square 1 varies as N(0, 1): it is not drowned by sigma^2, whose logarithm does too."""
    net = Augmentation(400, np.float32)
    codes = jax.random.normal(jax.random.key(1), (64, 100))
    codes /= jnp.sqrt((codes**2).mean(-1, keepdims=True))
    mean, log_variance = net.apply(drawn(jax.random.key(0), partial(net.init, code=codes)), codes)
    for values in (mean, log_variance):
        assert abs(values.std() - 1) < 5 / np.sqrt(2 * 400 * 64) + 5 / np.sqrt(2 * 400 * 100)


def test_codes_of_captions_have_mean_square_1():
    net, captions = Matching(9, 3, 6, 4, np.dtype("float32")), jnp.asarray([[3, 2, 1, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    codes, _ = net.init_with_output(jax.random.key(0), captions, jnp.zeros((3, 8, 8, 3)))[0]
    np.testing.assert_allclose((codes**2).mean(-1), [1, 1, 0], atol=1e-5)


def test_the_divergence_of_the_condition():
    """Closed form in NumPy, and a Monte Carlo estimate within 4 standard errors; 0 with weights of 0, and finite."""
    net = Generator(stackgan.Config(**TINY), (8, 8, 3), np.float32)
    code = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    shapes = jax.eval_shape(partial(net.init, training=False), jax.random.key(0), code, jnp.zeros((3, 5)))["params"]
    params = anything(shapes)
    own = in_float64(params["augmentation"])
    divergence = jax.jit(lambda params, code: net.apply({"params": params}, code, method="divergence"))

    def heads(code):
        mean, log_variance = (code @ own[f"Dense_{i}"]["kernel"] + own[f"Dense_{i}"]["bias"] for i in (0, 1))
        return mean, 8 * np.tanh(log_variance / 8)

    mean, log_variance = heads(code)
    deviation = np.exp(log_variance / 2)
    expected = (-log_variance / 2 + (deviation**2 + mean**2 - 1) / 2).sum(1)
    np.testing.assert_allclose(divergence(params, code), expected, rtol=1e-4)
    noise = np.random.default_rng(1).normal(size=(40_000, 3, 2))
    c = mean + deviation * noise
    ratios = (0.5 * (c**2 - noise**2) - np.log(deviation)).sum(-1)  # log N(c; mean, deviation) - log N(c; 0, 1)
    assert (np.abs(ratios.mean(0) - expected) < 4 * ratios.std(0) / 200).all()
    assert not divergence(jax.tree.map(np.zeros_like, params), code).any()
    assert (divergence(params, code) > 0).all()
    gradient = jax.jit(jax.grad(lambda params: divergence(params, 1e3 * code).sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def lively(variables):
    """Draws kernels by He et al.'s rule, with BatchNorm as it starts: images are neither gray nor saturated."""
    rng = np.random.default_rng(4)

    def drawn(path, leaf):
        if leaf.ndim > 1:
            return rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    return jax.tree.map_with_path(drawn, variables)


CONFIG = stackgan.Config(**TINY, text_steps=2, stage1_steps=3, average=0.5)


@pytest.fixture(scope="module")
def start():
    """A model of two stages, a batch, a state with nothing at 0, and the states and metrics after a step of each phase.

    Wrong captions and G's last images are read from the turns of both stages.
    """
    model, rng = stackgan.make(CONFIG, spec()), np.random.default_rng(3)
    batch = {
        "image": rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8),
        "caption": rng.integers(0, 9, (6, 4)).astype(np.int32),
        "weight": np.ones(6, np.float32),
    }
    state = drawn_state(model.init)
    state = state._replace(extra=jax.tree.map(lambda leaf: np.abs(leaf) + np.float32(0.1), state.extra))
    for name in ("stage1", "stage2"):
        state.extra[name]["average"] = lively(state.extra[name]["average"])
    steps = [jax.jit(phase.step) for phase in model.phases]
    after, metrics = zip(*(step(jax.random.key(1), state, batch) for step in steps), strict=True)
    after, metrics = (dict(zip(("text", "stage1", "stage2"), each, strict=True)) for each in (after, metrics))
    decode = jax.jit(model.latents.decode)
    return SimpleNamespace(**locals())


def same(a, b):
    return [np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]


@pytest.mark.parametrize("phase", ["text", "stage1", "stage2"])
def test_a_phase_moves_its_own_nets_and_leaves_the_others_to_the_bit(phase, start):
    """Parameters, optimizers' states, BatchNorm's averages and the running average of G."""
    old, new = start.state, start.after[phase]
    for field in ("params", "opt_state", "extra"):
        of_old, of_new = getattr(old, field), getattr(new, field)
        assert of_old.keys() == of_new.keys()
        for name in of_old:
            assert all(same(of_old[name], of_new[name])) == (name != phase), (field, name)
    assert [each.steps for each in start.model.phases] == [2, 3, None]
    if phase != "text":
        assert set(start.after[phase].extra[phase]) == {"generator", "discriminator", "average"}


def codes(start, caption):
    net = Matching(9, CONFIG.word_dim, CONFIG.text_dim, CONFIG.features, np.dtype("float32"))
    return net.apply({"params": start.state.params["text"]}, caption, method="text")


def first_images(start, z, code, variables=None):
    """Images of Stage I's averaged generator, by its running averages."""
    variables = variables or start.state.extra["stage1"]["average"]
    return Generator(CONFIG, (8, 8, 3), np.float32).apply(variables, code, z[:, :5], training=False)


@pytest.mark.parametrize("stage", some_slow(["stage2", "stage1"]))
def test_a_stages_step_is_its_turns(stage, start):
    """D's turn, then G's, on images shrunk by their means, given codes, noise and images of the frozen Stage I."""
    k_noise, k_turns = jax.random.split(jax.random.key(1))
    z = jax.random.normal(k_noise, (6, 3 + 2 + 2))

    @jax.jit
    def by_hand(state):
        code = codes(start, start.batch["caption"])
        given = {**start.batch, "code": code, "noise": z[:, :5]}
        if stage == "stage2":
            given |= {"noise": z[:, 5:], "first": first_images(start, z, code)}
        shapes = ((8, 8, 3), None) if stage == "stage1" else ((16, 16, 3), (8, 8, 3))
        own = state._replace(**{field: getattr(state, field)[stage] for field in ("params", "opt_state", "extra")})
        return stepped(stackgan.stage(CONFIG, spec(), *shapes), k_turns, own, given)

    own, metrics = by_hand(start.state)
    for name, value in metrics.items():
        np.testing.assert_allclose(start.metrics[stage][name], value, rtol=1e-3, err_msg=name)
    found = start.after[stage]

    def close(a, b):
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(b))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4 * largest), a, b)

    close(found.extra[stage], own.extra)
    close(found.opt_state[stage]["generator"][0].mu, own.opt_state["generator"][0].mu)


def test_both_heads_of_the_augmentation_learn(start):
    for stage in ("stage1", "stage2"):
        moments = start.after[stage].opt_state[stage]["generator"][0].mu["augmentation"]
        mean, log_variance = (np.asarray(moments[f"Dense_{i}"]["kernel"]) for i in (0, 1))
        assert (mean != 0).all()
        assert (log_variance != 0).all()
        assert np.abs(mean - log_variance).max() > 1e-3 * np.abs(mean).max()


SINGLE = {name: value for name, value in TINY.items() if name != "blocks"}


def captured(monkeypatch, **fields):
    """The nets that Stage I gives to its turns."""
    found, turns = [], stackgan.turns
    with monkeypatch.context() as patch:
        patch.setattr(stackgan, "turns", lambda config, nets, *rest: found.append(nets) or turns(config, nets, *rest))
        stackgan.make(stackgan.Config(**SINGLE, **{"stages": "one"} | fields), spec())
    return found[0]


def test_wrong_captions_are_rolled_without_the_images(monkeypatch):
    batch = {"image": np.arange(6), "code": jnp.arange(12.0).reshape(6, 2), "noise": np.ones(6)}
    wrong = captured(monkeypatch).mismatched(batch)
    assert wrong["image"] is batch["image"]
    assert wrong["noise"] is batch["noise"]
    np.testing.assert_array_equal(wrong["code"], np.asarray(batch["code"])[[5, 0, 1, 2, 3, 4]])
    assert captured(monkeypatch, wrong_pairs="none").mismatched is None
    assert captured(monkeypatch, augmentation="none").regularizer is None


def test_images_for_the_first_stage_are_means(monkeypatch):
    nets, image = captured(monkeypatch), np.zeros((1, 16, 16, 3), np.uint8)
    image[0, 0, 0], image[0, 3, 2] = 255, (0, 255, 0)
    np.testing.assert_array_equal(nets.real({"image": image})[0, 0, 0], [1, 1, 1])
    small = np.asarray(captured(monkeypatch, stages="first").real({"image": image}))
    assert small.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(small[0, 0, 0], [-0.5] * 3)
    np.testing.assert_allclose(small[0, 1, 1], [-1, -0.5, -1])


def test_samples_are_of_the_stage_that_is_trained(start):
    """Images of Stage I, enlarged, until the first step of Stage II; then those of Stage II, given the former."""
    z = np.random.default_rng(5).normal(size=(6, 7)).astype(np.float32)
    condition = {"caption": start.batch["caption"]}

    @jax.jit
    def by_hand(z):
        code = codes(start, condition["caption"])
        first = first_images(start, z, code)
        net = Generator(CONFIG, (16, 16, 3), np.float32)
        return first, net.apply(start.state.extra["stage2"]["average"], code, z[:, 5:], first, training=False)

    first, second = ((1 + np.asarray(x)) / 2 for x in by_hand(z))
    for step, expected in ((0, first), (5, first), (6, second)):
        found = start.decode(start.state._replace(step=jnp.int32(step)), z, condition)["image"]
        if expected is first:
            expected = expected.repeat(2, axis=1).repeat(2, axis=2)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("step", [0, 6])
def test_captions_and_noise_move_the_image(step, start):
    """The same noise with another caption, and the same caption with other z, or other epsilon of either stage."""
    state, z = start.state._replace(step=jnp.int32(step)), np.ones((6, 7), np.float32)
    condition = {"caption": start.batch["caption"]}
    found = np.asarray(start.decode(state, z, condition)["image"])
    other = np.asarray(start.decode(state, z, {"caption": np.roll(condition["caption"], 1, axis=0)})["image"])
    assert np.abs(found - other).max(axis=(1, 2, 3)).min() > 1e-3
    for columns, moves in (([0, 1, 2], True), ([3, 4], True), ([5, 6], step == 6)):
        changed = z.copy()
        changed[:, columns] = -1
        moved = np.abs(np.asarray(start.decode(state, changed, condition)["image"]) - found).max(axis=(1, 2, 3))
        assert (moved > 1e-3).all() == moves
        assert moves or not moved.any()


@pytest.mark.parametrize(("augmentation", "in_training", "in_samples"), [("training", 1, 0), ("none", 0, 0)])
def test_where_the_condition_is_drawn(augmentation, in_training, in_samples):
    config = stackgan.Config(**TINY, augmentation=augmentation)
    net, code = Generator(config, (8, 8, 3), np.float32), np.ones((4, 6), np.float32)
    z = np.random.default_rng(6).normal(size=(2, 4, 5)).astype(np.float32)
    z[1, :, :3] = z[0, :, :3]  # the same z; only epsilon differs
    variables = jax.jit(partial(net.init, training=False))(jax.random.key(0), code, z[0])
    variables = variables | {"params": anything(variables["params"])}

    @partial(jax.jit, static_argnums=1)
    def made(z, training):
        return net.apply(variables, code, z, training=training, mutable=["batch_stats"] if training else False)

    a, b = (made(each, True)[0] for each in z)
    assert np.array_equal(a, b) == (not in_training)
    a, b = (made(each, False) for each in z)
    assert np.array_equal(a, b) == (not in_samples)


def test_needs_is_honest(start):
    assert start.model.needs == ("image", "caption")
    assert start.model.conditions == ("caption",)
    state = jax.eval_shape(start.model.init, jax.random.key(0))
    for phase in start.model.phases:
        for entry in start.model.needs:
            less = {name: value for name, value in start.batch.items() if name != entry}
            with pytest.raises(KeyError):
                jax.eval_shape(phase.step, jax.random.key(1), state, less)


def test_augmentation_is_the_layers():
    """A mean and a log-variance, each by a layer of its own."""
    params = jax.eval_shape(Augmentation(2, np.float32).init, jax.random.key(0), jnp.zeros((1, 6)))["params"]
    assert kernels(params) == [(6, 2), (6, 2)]


@pytest.mark.parametrize(
    ("fields", "of", "words"),
    [
        ({}, {"batch_size": 1}, "batch_size must be at least 2, two for each turn of D, not 1: wrong captions are"),
        ({"critic_steps": 2}, {"batch_size": 2}, "batch_size must be at least 4, two for each turn of D, not 2"),
        ({"critic_steps": 4}, {"batch_size": 6}, "batch_size must be a multiple of 4"),
        ({"text_dim": 7}, {}, "text_dim must be even, half for each direction of reading, not 7"),
        ({"scale": 3}, {}, "scale must be a power of two that divides images of 16x16, not 3"),
        ({"scale": 32}, {}, "scale must be a power of two that divides images of 16x16, not 32"),
        ({"scale": 4}, {}, "scale 4 needs images of at least 32x32, not 16x16"),
        ({"stages": "one"}, {"side": 4}, "stackgan makes images of at least 8x8, not 4x4"),
        ({}, {"side": 100}, "stackgan cannot make images of 50x50"),
        ({"halvings": 4}, {}, "halvings must leave maps of Stage I's 8 pixels whole, not 4"),
        ({"stages": "one", "blocks": 3}, {}, r"blocks only applies with --stages two \(you chose one\)"),
        ({"stages": "one", "scale": 4}, {}, r"scale only applies with --stages two or first \(you chose one\)"),
        ({"augmentation": "none", "kl": 2.0}, {}, "kl only applies with --augmentation always or training"),
        ({"kl": -1.0}, {}, "kl must be at least 0"),
        ({"features": 0}, {}, "features must be above 0"),
        ({"penalty": "zero_centered"}, {}, "penalty zero_centered takes a discriminator without BatchNorm"),
    ],
)
def test_what_cannot_be_run(fields, of, words):
    with pytest.raises(UserError, match=words) as raised:
        stackgan.make(stackgan.Config(**fields), spec(**of))
    assert "\n" not in str(raised.value)


def test_data_without_captions():
    with pytest.raises(UserError, match=r"^stackgan needs caption, but dataset digits has only image, label$"):
        make_plan("stackgan", None, Settings(batch_size=8))


@pytest.mark.slow
def test_samples_obey_their_captions():
    """Images are of one color each, with gray pixels, and captions name the color: samples have it."""
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    fields = {**SINGLE, "features": 8, "text_dim": 16, "condition_dim": 8, "stages": "one", "text_steps": 60}
    rates = {f"{player}_learning_rate": 2e-3 for player in ("generator", "discriminator")}
    model = stackgan.make(stackgan.Config(**fields, **rates), spec(side=8, batch_size=24))

    def batch_of(key):
        k_label, k_gray = jax.random.split(key)
        label = jax.random.randint(k_label, (24,), 0, 3)
        caption = jnp.stack([jnp.full_like(label, 2), 3 + label, *2 * [jnp.zeros_like(label)]], axis=1)
        gray = jax.random.uniform(k_gray, (24, 8, 8, 1)) < 0.25
        image = jnp.where(gray, jnp.uint8(128), jnp.asarray(colors)[label][:, None, None])
        return {"image": image, "caption": caption, "weight": jnp.ones(24)}

    def trained(state, phase, steps):
        def take(state, key):
            k_batch, k_step = jax.random.split(key)
            return model.phases[phase].step(k_step, state, batch_of(k_batch))[0], None

        return jax.lax.scan(take, state, jax.random.split(jax.random.key(phase), steps))[0]

    state = jax.jit(lambda key: trained(trained(model.init(key), 0, 60), 1, 700))(jax.random.key(0))
    caption = batch_of(jax.random.key(8))["caption"]
    made = jax.jit(lambda state: model.sampler.draw(jax.random.key(9), state, 24, {"caption": caption}))(state)
    named = np.asarray(made["image"], float).mean((1, 2)).argmax(-1)
    assert (named == np.asarray(caption)[:, 1] - 3).mean() > 0.8
