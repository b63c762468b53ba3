"""Properties common to all models of images, tested for each one in the table of models."""

import dataclasses
import functools
import inspect

import jax
import numpy as np
import optax
import pytest

from jaxgen import models
from jaxgen.errors import UserError
from jaxgen.model import SUBJECTS, Spec
from tests.models.by_hand import drawn_state
from tests.models.contract import contracts

CONTRACTS = contracts()
ALL = [name for name in models.MODELS if CONTRACTS[name].dataset == "digits"]
GANS = ["gan", "dcgan", "cgan", "infogan", "mggan", "transgan"]
UNNORMALIZED = ["gan", "transgan"]  # their default generators are without BatchNorm
SAMPLED = [name for name in ALL if CONTRACTS[name].samples]
WITH_LATENTS = [name for name in ALL if CONTRACTS[name].prior]
CONTINUOUS = [name for name in WITH_LATENTS if CONTRACTS[name].prior != "discrete"]
POINTS = Spec({"point": jax.ShapeDtypeStruct((2,), np.float32)}, num_examples=64)


def make(name, spec, **fields):
    module = models.load(name)
    return module.make(module.Config(**{**CONTRACTS[name].small, **fields}), spec)


@pytest.fixture(scope="module")
def begun(digits):
    """Function from a model's name to it, its `init` and its phases' steps, each jitted once, and its initial state."""

    @functools.cache
    def of(name):
        model = make(name, digits.spec)
        init = jax.jit(model.init)
        return model, init, [jax.jit(phase.step) for phase in model.phases], init(jax.random.key(0))

    return of


@pytest.fixture(scope="module")
def drawn(begun, batch):
    """Function from a model's name to a program, compiled once: (key, state) -> (ten samples, decoded prior draws)."""

    @functools.cache
    def of(name):
        model = begun(name)[0]
        condition = asked(model, batch, 10)

        @jax.jit
        def both(key, state):
            decoded = {}
            if model.latents:
                decoded = model.latents.decode(state, model.latents.prior.sample(key, state, 10), condition)
            return model.sampler.draw(key, state, 10, condition), decoded

        return both

    return of


def needed(model, batch):
    """The entries that a model needs, and the weights."""
    return {entry: batch[entry] for entry in (*model.needs, "weight")}


def asked(model, batch, num):
    """Condition of a batch's first examples; {} for a model without conditions."""
    return {entry: batch[entry][:num] for entry in model.sampler.conditions}


def test_the_subject_is_what_the_examples_are():
    """The subject of an image with a label, a caption and a mesh is the image; labels alone have none."""
    shapes = {"image": (8, 8, 1), "point": (2,), "mesh": (20, 3), "label": (), "caption": (5,)}
    entries = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    assert SUBJECTS == ("image", "point", "mesh")
    for subject in SUBJECTS:
        assert Spec({name: entries[name] for name in ("caption", "label", subject)}, 64).subject == subject
    assert Spec({name: entries[name] for name in ("mesh", "label", "image")}, 64).subject == "image"
    with pytest.raises(KeyError, match="image or point or mesh"):
        _ = Spec({"label": entries["label"]}, 64).subject


@pytest.mark.parametrize("name", ALL)
def test_config_is_frozen_and_its_fields_have_defaults(name):
    config = models.load(name).Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


@pytest.mark.parametrize("name", ALL)
def test_init_needs_but_a_key_whatever_the_batch_size(name, digits, begun):
    """The program is the same for every batch size."""
    assert digits.spec.batch_size == 64
    programs, other = set(), make(name, digits.spec._replace(batch_size=6)).init
    for init in (begun(name)[1], jax.jit(other)):
        assert len(inspect.signature(init).parameters) == 1
        program = init.trace(jax.random.key(0)).jaxpr
        programs.add((str(program), *(np.asarray(constant).tobytes() for constant in program.consts)))
    assert len(programs) == 1


@pytest.mark.parametrize("name", ALL)
def test_needs_is_honest(name, batch, begun):
    """A step reads the entries it needs, and `weight`, and no others; without one of them it cannot be traced."""
    model, _, steps, state = begun(name)
    given = needed(model, batch)
    for step in steps:
        jax.eval_shape(step, jax.random.key(1), state, given)
        for entry in model.needs:
            less = {k: v for k, v in given.items() if k != entry}
            with pytest.raises(KeyError):
                jax.eval_shape(step, jax.random.key(1), state, less)


@pytest.mark.parametrize("name", ALL)
def test_steps_are_finite_pure_and_keep_the_state_a_fixed_point_of_types(name, batch, begun):
    model, _, steps, state = begun(name)
    given = needed(model, batch)
    for step in steps:
        new, metrics = step(jax.random.key(1), state, given)
        again, _ = step(jax.random.key(1), state, given)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, new, again)
        for old_leaf, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
            assert (old_leaf.shape, old_leaf.dtype) == (leaf.shape, leaf.dtype)
            assert np.isfinite(leaf).all()
        assert all(m.shape == () and np.isfinite(m) for m in metrics.values())
        moved = [
            not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state.params, new.params)), strict=True)
        ]
        assert any(moved)


@pytest.mark.parametrize("name", ["classifier", "naive_bayes", "cgan"])
def test_examples_without_a_label_leave_the_state_finite(name, batch, begun):
    """Models that read labels take -1 for an unknown one, and batches that hold nothing else."""
    model, _, steps, state = begun(name)
    assert "label" in model.needs
    for unknown in (np.arange(32) % 2 == 0, np.full(32, True)):
        given = needed(model, batch)
        new, metrics = steps[0](jax.random.key(1), state, given | {"label": np.where(unknown, -1, batch["label"])})
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((new, metrics)))


@pytest.mark.parametrize("name", [name for name in ALL if CONTRACTS[name].layers])
def test_another_key_gives_another_start(name, begun):
    _, init, _, state = begun(name)
    a, b = map(jax.tree.leaves, (state.params, init(jax.random.key(1)).params))
    assert any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_are_images_drawn_by_their_key(name, batch, begun, drawn):
    model, _, steps, state = begun(name)
    normalized = any(getattr(path[-1], "key", "") == "var" for path, _ in jax.tree.leaves_with_path(state.extra))
    for step in steps:
        for i in range(50 if normalized else 1):  # until running averages are close to the maps of small weights
            state, _ = step(jax.random.fold_in(jax.random.key(1), i), state, needed(model, batch))
    first, again, other = (np.asarray(drawn(name)(jax.random.key(key), state)[0]["image"]) for key in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first.reshape(10, -1), axis=0)) == 10
    assert model.sampler.note


@pytest.mark.parametrize(
    ("name", "subject"), [*((name, "image") for name in SAMPLED), ("gan", "point"), ("mggan", "point")]
)
def test_what_is_drawn_are_entries_of_the_data(name, subject, digits, batch):
    """Samples have the requested number and the data's shape and dtype, and exclude the conditions.

    Models draw no condition themselves: a conditional one requires it.
    """
    if subject == "image":
        spec, model = digits.spec, make(name, digits.spec)
    else:
        spec, model = POINTS, models.load(name).make(models.load(name).Config(), POINTS)
    state = jax.eval_shape(model.init, jax.random.key(0))

    def draw(condition):
        return jax.eval_shape(lambda s: model.sampler.draw(jax.random.key(1), s, 5, condition), state)

    made = draw(asked(model, batch, 5))
    assert set(made) == {subject}
    assert (made[subject].shape, made[subject].dtype) == (
        (5, *spec.entries[subject].shape),
        spec.entries[subject].dtype,
    )
    assert model.sampler.conditions == (("label",) if CONTRACTS[name].conditional else ())
    if model.sampler.conditions:
        with pytest.raises(KeyError, match="label"):
            draw({})


@pytest.mark.parametrize("name", ALL)
def test_log_prob_says_what_it_measures(name, batch, begun):
    model, _, _, state = begun(name)
    assert (model.likelihood and model.likelihood.kind) == CONTRACTS[name].likelihood
    if model.likelihood:
        assert model.likelihood.space in ("binary", "uint8", "continuous")
        nats = jax.eval_shape(model.likelihood.log_prob, jax.random.key(1), state, batch)
        assert (nats.shape, nats.dtype) == ((32,), np.float32)


@pytest.mark.parametrize("name", ALL)
def test_predictions_are_of_each_example(name, batch, begun):
    model, _, _, state = begun(name)
    widths = CONTRACTS[name].predicts
    assert set(model.predict) == set(widths)
    for what, predict in model.predict.items():
        made = jax.eval_shape(predict, state, batch)
        assert (made.shape, made.dtype) == ((32, widths[what]), np.float32)


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if CONTRACTS[name].densities])
def test_latent_densities_are_of_each_example_alone(name, batch, begun):
    """Another z or image for one example leaves the others' densities unchanged; gradients are finite."""
    model, _, _, state = begun(name)
    assert model.likelihood
    latents, few = model.latents, {entry: values[:6] for entry, values in batch.items()}
    prior = jax.jit(lambda: latents.prior.sample(jax.random.key(2), state, 6))()

    @jax.jit
    def drawn(batch):
        return latents.posterior(jax.random.key(1), state, batch)

    @jax.jit
    def densities(batch, z):
        return latents.prior.log_prob(state, z), latents.log_likelihood(state, batch, z)

    z, log_q = drawn(few)
    assert (z.shape, z.dtype) == (prior.shape, prior.dtype) == ((6, *prior.shape[1:]), np.float32)
    before = (*densities(few, z), log_q)
    assert all((density.shape, density.dtype) == ((6,), np.float32) for density in before)
    others = np.arange(6) != 2
    for old, new in zip(before, densities(few, z.at[2].set(prior[2])), strict=False):
        np.testing.assert_allclose(new[others], old[others], rtol=1e-6)
        assert abs(new[2] - old[2]) > 1e-3
    changed = {entry: np.concatenate([values[:2], values[:1], values[3:]]) for entry, values in few.items()}
    for old, density in zip(before, (*densities(changed, z), drawn(changed)[1]), strict=True):
        np.testing.assert_allclose(density[others], old[others], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda z: sum(density.sum() for density in densities(few, z))))(z)
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any(axis=tuple(range(1, z.ndim))).all()


@pytest.mark.parametrize("name", ALL)
def test_models_with_latents_are_tested_for_them(name, digits):
    latents = make(name, digits.spec).latents
    assert (latents and latents.prior.kind) == CONTRACTS[name].prior
    if latents:
        densities = [latents.prior.log_prob, latents.posterior, latents.log_likelihood]
        assert [density is not None for density in densities] == [CONTRACTS[name].densities] * 3
        assert (latents.encode is not None) == CONTRACTS[name].encodes
        assert bool(latents.prior.parts) == (latents.prior.kind == "mixed")
        assert bool(latents.prior.num_codes) == (latents.prior.kind == "discrete")


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_prior_is_of_its_kind(name, begun):
    """Each part's first four moments are those of N(0, 1) or of U(-1, 1), within 5 standard errors.

    Categorical parts are one-hot with equal shares. Components of different parts are uncorrelated.
    """
    model, _, _, state = begun(name)
    prior = model.latents.prior
    z = np.asarray(jax.jit(lambda: prior.sample(jax.random.key(5), state, 20_000))())
    assert z.dtype == np.float32
    even = {"gaussian": [1, 1, 3, 15, 105], "uniform": [1, 1 / 3, 1 / 5, 1 / 7, 1 / 9]}
    parts = [(part.kind, part.size) for part in prior.parts] or [(prior.kind, z.shape[1])]
    assert sum(size for _, size in parts) == z.shape[1]
    columns = np.split(z.astype(np.float64), np.cumsum([size for _, size in parts])[:-1], axis=1)
    for (kind, size), part in zip(parts, columns, strict=True):
        if kind == "categorical":
            np.testing.assert_array_equal(np.sort(part, axis=1), np.eye(size)[[-1]].repeat(len(z), axis=0))
            assert (np.abs(part.mean(0) - 1 / size) < 5 * np.sqrt(1 / size * (1 - 1 / size) / len(z))).all()
            continue
        for order in (1, 2, 3, 4):
            moment = 0 if order % 2 else even[kind][order // 2]
            error = np.sqrt((even[kind][order] - moment**2) / part.size)
            assert abs((part**order).mean() - moment) < 5 * error
    numbers = np.concatenate([part for (kind, _), part in zip(parts, columns, strict=True) if kind != "categorical"], 1)
    correlations = np.corrcoef(numbers.T)[~np.eye(numbers.shape[1], dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(len(z))


@pytest.mark.parametrize("name", WITH_LATENTS)
def test_samples_are_decoded_draws_of_the_prior(name, batch, begun, drawn):
    """Compared at the same key after a step, which reveals a wrong BatchNorm mode or pixel range."""
    model, _, steps, state = begun(name)
    state, _ = steps[0](jax.random.key(1), state, needed(model, batch))
    samples, decoded = jax.device_get(drawn(name)(jax.random.key(3), state))
    assert set(samples) == set(decoded) == {"image"}
    assert np.abs(255 * np.float64(decoded["image"]) - samples["image"]).max() < 0.501
    assert decoded["image"].min() >= 0
    assert decoded["image"].max() <= 1


@pytest.mark.parametrize(
    ("name", "fields", "parts"),
    [*((name, {}, "2 (critic_steps)") for name in GANS), ("gan", {"packing": 3}, "6 (critic_steps * packing)")],
)
def test_a_batch_that_cannot_be_divided_among_the_discriminators_turns(name, fields, parts, digits):
    """A dense GAN also divides each turn's part among packs."""
    make(name, digits.spec._replace(batch_size=12), critic_steps=2, **fields)
    with pytest.raises(UserError) as raised:
        make(name, digits.spec._replace(batch_size=9), critic_steps=2, **fields)
    assert str(raised.value) == f"batch_size must be a multiple of {parts}, not 9"


@pytest.mark.parametrize("name", GANS)
def test_every_players_adam_has_the_betas_asked_for(name, digits, monkeypatch):
    asked, adam = [], optax.adam

    def noted(rate, b1=0.9, b2=0.999, **more):
        asked.append((b1, b2))
        return adam(rate, b1, b2, **more)

    monkeypatch.setattr(optax, "adam", noted)
    has_beta2 = "beta2" in {field.name for field in dataclasses.fields(models.load(name).Config)}
    fields = {"gan": {"optimizer": "adam"}, "cgan": {"network": "conv"}}.get(name, {})
    make(name, digits.spec, **fields, beta1=0.25, **({"beta2": 0.75} if has_beta2 else {}))
    of_encoder = {(0.9, 0.999)} if name == "mggan" else set()  # trained first, alone
    assert set(asked) == {(0.25, 0.75 if has_beta2 else 0.999)} | of_encoder


@pytest.mark.parametrize("name", GANS)
def test_samples_are_drawn_from_the_averaged_generator(name, digits, batch):
    """Samples equal those of a model without average whose G has the average's parameters and BatchNorm averages."""
    model, plain = make(name, digits.spec, average=0.5), make(name, digits.spec)
    state = drawn_state(model.init)
    average = jax.tree.map(np.abs, state.extra["average"])  # includes variances
    assert bool(average["batch_stats"]) == (name not in UNNORMALIZED)
    average["batch_stats"] = jax.tree.map(lambda leaf: leaf + np.float32(0.5), average["batch_stats"])
    state = state._replace(extra={**state.extra, "average": average})

    as_newest = state._replace(
        params={**state.params, "generator": average["params"]},
        extra={**state.extra, "generator": average["batch_stats"]},
    )
    parameters_only = as_newest._replace(extra=state.extra)
    condition = asked(model, batch, 8)

    def drawn(model):
        return jax.jit(lambda state: model.sampler.draw(jax.random.key(3), state, 8, condition)["image"])

    of_average, of_plain = np.asarray(drawn(model)(state)), drawn(plain)
    expected, of_newest, mixed = (np.asarray(of_plain(s)) for s in (as_newest, state, parameters_only))
    np.testing.assert_array_equal(of_average, expected)
    assert not np.array_equal(of_average, of_newest)
    assert np.array_equal(of_average, mixed) == (name in UNNORMALIZED)
    assert (model.sampler.note, "averaged" in plain.sampler.note) == (f"the averaged {plain.sampler.note}", False)


@pytest.mark.parametrize(
    ("name", "metric", "bound"),
    [("vae", "reconstruction", -3.0), ("autoencoder", "loss", 0.02), ("classifier", "loss", 0.01)],
)
def test_one_batch_can_be_overfitted(name, metric, bound, digits, batch):
    """16 images are memorized: the VAE's 64 bits to 3 nats, 64 pixels to .02, the classifier's labels to .01."""
    few = {entry: values[:16] for entry, values in batch.items()}
    fields = {
        "vae": {"features": 16, "latent_dim": 8, "learning_rate": 5e-3, "likelihood": "bernoulli"},
        "autoencoder": {"features": 16, "latent_dim": 8, "learning_rate": 5e-3},
        "classifier": {"features": 8, "dropout": 0.0},
    }[name]
    model = make(name, digits.spec, **fields)

    @jax.jit
    def fit(state, keys):
        def take(state, key):
            state, metrics = model.phases[0].step(key, state, few)
            return state, metrics[metric]

        return jax.lax.scan(take, state, keys)[1]

    found = fit(jax.jit(model.init)(jax.random.key(0)), jax.random.split(jax.random.key(1), 1001))[-1]
    assert found > bound if metric == "reconstruction" else found < bound


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("autoencoder", "decay_steps", 0), ("vae", "latent_dim", 0), ("vae", "deviation", -1.0), ("vaegan", "gamma", 1.0),
     ("dcgan", "beta1", 1.0), ("gan", "packing", 0),
     ("dcgan", "generator_learning_rate", 0.0),
     ("classifier", "dropout", 1.0), ("naive_bayes", "smoothing", float("nan"))],
)  # fmt: skip
def test_values_that_cannot_be_run(name, field, value, digits):
    with pytest.raises(UserError, match=field):
        make(name, digits.spec, **{field: value})
