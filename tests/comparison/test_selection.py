"""Choices of settings and of checkpoints by validation data, with states that are better there or on the test data."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.comparison import Arm, Scoring, Sweep, runs
from jaxgen.evaluation import scorer
from jaxgen.model import State
from jaxgen.training import Run, Settings
from jaxgen.training.plan import make_plan

VALIDATION, TEST = 0, 1
NUM = 40


@pytest.fixture(scope="module")
def plan():
    """A classifier whose parameter names the split that it is right on: a pixel has the class, another the split."""
    label = np.arange(NUM, dtype=np.int32) % 10

    def split(which):
        image = np.zeros((NUM, 8, 8, 1), np.uint8)
        image[:, 0, 0, 0], image[:, 0, 1, 0] = label, which
        return {"image": image, "label": label}

    def classify(state, batch):
        named, which = batch["image"][:, 0, 0, 0].astype(jnp.int32), batch["image"][:, 0, 1, 0]
        return jax.nn.one_hot(jnp.where(which == state.params, named, 9 - named), 10)

    settings = Settings(dataset="digits", seeds=(0, 1), steps=3, checkpoint_every=1)
    made = make_plan("naive_bayes", {}, settings)
    dataset = data.load("digits")._replace(validation=split(VALIDATION), test=split(TEST))
    return made._replace(dataset=dataset, model=made.model._replace(predict={"label": classify}))


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(scorer, "cached", lambda key, compute: compute())
    return runs.Context(SimpleNamespace(scoring=Scoring(), minutes=None), print, False)


def state_of(*right):
    """State of seeds that are right on these splits."""
    return State(np.zeros(len(right), np.int32), np.array(right, np.uint8))


def test_a_seeds_checkpoint_is_the_best_on_the_validation_split(plan, context, monkeypatch, tmp_path):
    """The first is chosen of equally good ones."""
    states = {1: state_of(TEST, VALIDATION), 2: state_of(VALIDATION, TEST), 3: state_of(VALIDATION, VALIDATION)}
    monkeypatch.setattr(runs.folder, "checkpoint_steps", lambda path: list(states))
    monkeypatch.setattr(runs.folder, "restore", lambda path, plan, step: SimpleNamespace(state=states[step]))
    chosen = runs.best_checkpoint(Run(tmp_path, plan, states[3], 3, {}), "accuracy", context)
    assert chosen.chosen == (2, 1)
    assert chosen.state.params.tolist() == [VALIDATION, VALIDATION]


def test_a_sweeps_candidate_is_the_best_on_the_validation_split(plan, context, monkeypatch, tmp_path):
    right = {"000": TEST, "001": VALIDATION, "002": TEST}
    monkeypatch.setattr(runs, "make_plan", lambda model, config, settings: plan._replace(settings=settings))
    monkeypatch.setattr(runs, "trained", lambda path, plan, *_: Run(path, plan, state_of(right[path.name]), 3, {}))
    monkeypatch.setattr(runs.folder, "read_result", lambda path: {"seconds": 1.0})
    options = [plan._replace(model_name=name) for name in right]
    arm = Arm("naive_bayes", sweep=Sweep({"smoothing": (0.1, 1.0, 10.0)}, "accuracy"))
    best, record = runs.tuned("counts", arm, "digits", options, tmp_path, context)
    assert best is options[1]
    assert [(trial["value"], trial["chosen"]) for trial in record["trials"]] == [(0, False), (1, True), (0, False)]
