"""Runs that have ended without training, whose parameters are drawn by NumPy: nothing is compiled."""

import json

import jax
import numpy as np

from jaxgen.training import folder
from jaxgen.training.checkpoints import Checkpoints, Keep
from jaxgen.training.plan import make_plan
from tests.models.by_hand import drawn_state

STEP = 7

LABELED = """
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from beside import levels
from jaxgen.model import Latents, Model, Phase, Prior, Sampler, State


@dataclass(frozen=True)
class Config:
    size: int = 3  # numbers of z


def make(config, spec):
    height, width, channels = spec.image_shape

    def init(key):
        shape = (spec.num_classes, config.size, height * width * channels)
        params = {"w": jax.random.normal(key, shape)}
        return State(jnp.int32(0), params, {"moment": jnp.zeros(shape)}, {"count": jnp.float32(0)})

    def decode(state, z, condition):
        rows = jnp.einsum("nd,ndp->np", z, state.params["w"][condition["label"]])
        return {"image": jax.nn.sigmoid(rows).reshape(-1, height, width, channels)}

    def draw(key, state, num, condition):
        z = jax.random.normal(key, (num, config.size))
        return {"image": levels(decode(state, z, condition)["image"])}

    def step(key, state, batch):
        change = jax.random.normal(key, state.params["w"].shape) * batch["weight"].mean()
        moment = 0.5 * state.opt_state["moment"] + change
        state = state._replace(params={"w": state.params["w"] - 0.1 * moment}, opt_state={"moment": moment})
        return state._replace(extra={"count": state.extra["count"] + 1}), {"loss": jnp.square(moment).mean()}

    prior = Prior(lambda key, state, num: jax.random.normal(key, (num, config.size)), "gaussian")
    sampler = Sampler(draw, ("label",))
    return Model(init, (Phase("train", step),), ("image", "label"), sampler, None, Latents(decode, prior))
"""
"""A model file of a user's own: images of classes from codes, by one matrix for each class."""

BESIDE = """
import jax.numpy as jnp


def levels(x):
    return jnp.round(255 * x).astype(jnp.uint8)
"""
"""A file that it imports."""


def labeled(place):
    """Writes the model file of LABELED; returns its path."""
    place.mkdir(exist_ok=True)
    (place / "beside.py").write_text(BESIDE)
    (place / "labeled.py").write_text(LABELED)
    return str(place / "labeled.py")


def state_of(plan):
    """A state of every seed, each of other numbers: leaves [seeds, ...]."""
    states = [drawn_state(plan.model.init, seed=10 * seed) for seed in plan.settings.seeds]
    states = [state._replace(step=np.int32(STEP)) for state in states]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def ended(path, model, config, settings):
    """Makes the folder of a run that ended at STEP; returns its path."""
    plan = make_plan(model, config, settings)
    folder.create(path, plan)
    belongs = folder.belonging(plan.described(), plan.dataset.fingerprint)
    content = {"belongs": belongs, "seconds": 1.5, "order": "a" * 64, "scores": {}}
    with Checkpoints(path / folder.CHECKPOINTS, Keep()) as checkpoints:
        checkpoints.save(STEP, state_of(plan)._asdict(), content)
    rows = [{"step": STEP, "seed": seed, "phase": "train"} for seed in settings.seeds]
    (path / folder.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    digests = folder.open_run(path).named_digests()
    folder.write_json(path / folder.RESULT, {"step": STEP, "seconds": 1.5, "diverged": {}, "digests": digests})
    return path
