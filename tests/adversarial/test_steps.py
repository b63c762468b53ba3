"""The training step of every GAN: its turns, their inputs, and which D's state G's turn uses.

Tested with turns that record their calls and, for two GANs, with the real turns.
"""

from functools import partial

import jax
import numpy as np
import pytest
from optax.tree_utils import tree_get_all_with_path

from jaxgen.adversarial.turns import Turns
from jaxgen.model import Spec, State
from jaxgen.models import cgan, dcgan, gan, infogan, mggan
from tests.models.by_hand import drawn_state

SIZE = 12
SPECS = {
    "image": Spec(
        {"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8), "label": jax.ShapeDtypeStruct((), np.int32)},
        num_examples=64,
        num_classes=3,
        mean=np.full((8, 8, 1), 0.3),
        batch_size=SIZE,
    ),
    "point": Spec({"point": jax.ShapeDtypeStruct((2,), np.float32)}, num_examples=64, batch_size=SIZE),
}
CASES = {
    "dcgan": (dcgan, "image", {}, False),
    "cgan, conv": (cgan, "image", {}, False),
    "cgan, maxout": (cgan, "image", {"network": "maxout"}, True),
    "infogan": (infogan, "image", {}, False),
    "gan, sgd": (gan, "point", {"unrolled": 3}, True),
    "gan, adam": (gan, "image", {"optimizer": "adam"}, False),
    "mggan of images": (mggan, "image", {}, False),
    "mggan of points, sgd": (mggan, "point", {}, True),
    "mggan of points, adam": (mggan, "point", {"optimizer": "adam", "unrolled": 3}, False),
}
"""Map from name to the model, its data, its fields, and whether both players move at once."""


def noting(notes):
    """Makes turns that record their arguments; states are distinguished by their step count."""

    def note(name, *arguments):
        notes.append((name, *arguments))

    def earlier_critic_turns(key, state, batch):
        note("earlier", key, state, batch)
        return state._replace(step=1), ("of fakes", "of D", "of G"), "part"

    def generate(key, state, batch):
        note("fakes", key, state.step, batch)
        return "fakes"

    def discriminator_turn(key, state, batch, fakes):
        note("D", key, state.step, batch, fakes)
        return state._replace(step=2), {"d": 1}

    def generator_turn(key, state, batch, fakes, past=None):
        note("G", key, state.step, batch, fakes, (past or state).step)
        return state._replace(step=3), {"g": 2}

    def finished(state, fakes):
        note("finished", state.step, fakes)
        return state._replace(step=4)

    def compared(batch, fakes):
        note("compared", batch, fakes)
        return {"spread": 3}

    return Turns(
        None, earlier_critic_turns, generate, discriminator_turn, generator_turn, finished, compared, None, None
    )


@pytest.mark.parametrize("name", CASES)
def test_a_step_takes_the_papers_turns(name, monkeypatch):
    """D's last turn and G's share their fakes; G's turn uses D after its update or, if both move at once, before it."""
    module, subject, fields, at_once = CASES[name]
    notes, rest = [], []

    def turns(config, nets, optimizers, *others):
        rest.extend(others)
        return noting(notes)

    monkeypatch.setattr(module, "turns", turns)
    phase = module.make(module.Config(**fields), SPECS[subject]).phases[-1]
    given = State(0, {"encoder": "E"}, (), {"encoder": "averages of E"})
    after, metrics = phase.step("key", given, "batch")
    first, *others = notes
    assert others[:4] == [
        ("fakes", "of fakes", 1, "part"),
        ("D", "of D", 1, "part", "fakes"),
        ("G", "of G", 2, "part", "fakes", 1 if at_once else 2),
        ("finished", 3, "fakes"),
    ]
    assert others[4:] == [("compared", "part", "fakes")]
    assert after == given._replace(step=4)
    assert metrics == {"d": 1, "g": 2, "spread": 3}
    with_e = {"encoder": {"params": "E", "batch_stats": "averages of E"}}
    assert first == ("earlier", "key", given._replace(extra=with_e) if module is mggan else given, "batch")
    assert sum(rest) == fields.get("unrolled", 0)
    assert phase.name == "adversarial"
    assert (phase.steps, phase.passes) == (None, None)


BATCHES = {
    "image": {"image": np.random.default_rng(1).integers(0, 256, (SIZE, 8, 8, 1), dtype=np.uint8)},
    "point": {"point": np.random.default_rng(2).normal(size=(SIZE, 2)).astype(np.float32)},
}
COMPUTED = {
    "dcgan": (
        {"latent_dim": 3, "features": 2, "smallest": 2, "discriminator_learning_rate": 0.01, "augment": ("color",)}
    ),
    "gan, sgd": {
        **{"latent_dim": 2, "generator_units": 6, "discriminator_units": 5, "discriminator_layers": 1, "pieces": 1}
    },
}
"""Fields whose draws use a turn's key: augmentation, and gan's dropout."""


def close(actual, expected):
    """Compares trees, each leaf up to rounding relative to its tree's largest value."""
    largest = max((float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected)), default=0)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5 * largest), actual, expected)


def gradients(state, player):
    """Returns the moments that hold a player's gradients: Adam's first moment, or SGD's trace."""
    found = [part for name in ("mu", "trace") for part in tree_get_all_with_path(state.opt_state[player], name)]
    (moments,) = (value for _, value in found if isinstance(value, dict))
    return moments


@pytest.mark.parametrize("name", COMPUTED)
def test_a_step_divides_its_batch_among_the_discriminators_turns(name):
    """Goodfellow et al., algorithm 1: each of D's turns has a third of the batch and its own fakes, all from one G.

    G's turn follows with the last fakes, then the running average of G, including BatchNorm's averages.
    """
    module, subject, _, at_once = CASES[name]
    config = module.Config(**COMPUTED[name], critic_steps=3, average=0.75)
    spec, batch = SPECS[subject], BATCHES[subject]
    model, play = module.make(config, spec), module.players(config, spec)
    state, key = drawn_state(model.init), jax.random.key(5)
    after, metrics = jax.jit(model.phases[0].step)(key, state, batch)

    @jax.jit
    def discriminators(key, k_drawn, state, part):
        fakes = play.generate(k_drawn, state, part)
        return *play.discriminator_turn(key, state, part, fakes), fakes._replace(pullback=None)

    @jax.jit
    def generators(key, k_drawn, state, part, past):
        return play.generator_turn(key, state, part, play.generate(k_drawn, state, part), past)

    keys = jax.random.split(key, (3, 3))
    first, second, last = ({entry: values[i : i + 4] for entry, values in batch.items()} for i in (0, 4, 8))
    before, _, _ = discriminators(keys[0, 1], keys[0, 0], state, first)
    before, _, _ = discriminators(keys[1, 1], keys[1, 0], before, second)
    updated, of_d, fakes = discriminators(keys[2, 1], keys[2, 0], before, last)
    past, other = (before, updated) if at_once else (updated, before)
    expected, of_g = generators(keys[2, 2], keys[2, 0], updated, last, past)
    elsewhere = generators(keys[2, 2], keys[2, 0], updated, last, other)[1]["generator_loss"]
    assert abs(float(elsewhere - of_g["generator_loss"])) > 1e-3 * abs(float(elsewhere))

    # Adam's first steps are only the gradients' signs, which rounding may flip.
    for player, count in (("generator", 1), ("discriminator", 3)):
        close(gradients(after, player), gradients(expected, player))
        assert {int(value) for _, value in tree_get_all_with_path(after.opt_state[player], "count")} == {count}
    for name, value in (of_d | of_g).items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    assert set(metrics) == {*of_d, *of_g, "spread"}
    # Spread of the last third's fakes relative to its real examples.
    real = last[subject] / (127.5 if subject == "image" else 1)
    spreads = [np.asarray(x, np.float64).reshape(4, -1).var(0).sum() for x in (fakes.x, real)]
    np.testing.assert_allclose(metrics["spread"], spreads[0] / spreads[1], rtol=1e-4)
    close(after.extra["discriminator"], expected.extra["discriminator"])
    close(after.extra["generator"], fakes.averages)
    newest = {"params": after.params["generator"], "batch_stats": fakes.averages}
    average = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state.extra["average"], newest)
    close(after.extra["average"], average)
