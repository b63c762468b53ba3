"""Mistakes in a user's model file are reported in one line that names the field."""

import json
from pathlib import Path

import pytest

from jaxgen import cli, training
from jaxgen.errors import UserError
from jaxgen.training import open_run

WHOLE = """
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxgen.model import Latents, Likelihood, Model, Phase, Prior, Sampler, State


@dataclass(frozen=True)
class Config:
    rate: float = 0.1


def make(config, spec):
    def init(key):
        return State(jnp.int32(0), {"mean": jnp.zeros(spec.image_shape)})

    def step(key, state, batch):
        mean = state.params["mean"]
        mean = mean + config.rate * (batch["image"].astype(jnp.float32).mean(0) - mean)
        return state._replace(params={"mean": mean}), {"size": jnp.abs(mean).mean()}

    def draw(key, state, num, condition):
        return {"image": jnp.broadcast_to(state.params["mean"], (num, *spec.image_shape)).astype(jnp.uint8)}

    def log_prob(key, state, batch):
        return -((batch["image"].astype(jnp.float32) - state.params["mean"]) ** 2).sum((1, 2, 3))

    def decode(state, z, condition):
        return {"image": jnp.broadcast_to(state.params["mean"] / 255, (len(z), *spec.image_shape))}

    def predicted(state, batch):
        return jnp.zeros((len(batch["image"]), 10))

    prior = Prior(lambda key, state, num: jax.random.normal(key, (num, 2)), "gaussian")
    return Model(
        init,
        (Phase("train", step),),
        needs=("image",),
        sampler=Sampler(draw),
        likelihood=Likelihood(log_prob, "uint8", "exact"),
        latents=Latents(decode, prior),
        predict={"label": predicted},
    )
"""

CONFIG = """
@dataclass(frozen=True)
class Config:
    rate: float = 0.1
"""

MISTAKES = {
    "a model of another kind": (
        "return Model(",
        "return (lambda *_, **__: {})(",
        "make must return a jaxgen.model.Model, not dict",
    ),
    "an error in make": (
        "def init(key):",
        "raise ValueError('no such rate')",
        "make raised ValueError (line 16): no such rate",
    ),
    "a state of another kind": ('return State(jnp.int32(0), {"', 'return ({"', "init must give a jaxgen.model.State"),
    "a step that is no int": ("State(jnp.int32(0)", "State(jnp.float32(0)", "init: State.step must be an int32 scalar"),
    "results in another order": (
        'return state._replace(params={"mean": mean}), {"size": jnp.abs(mean).mean()}',
        'return {"size": jnp.abs(mean).mean()}, state._replace(params={"mean": mean})',
        "step of phase 'train' must return (state, metrics), metrics a dict, not tuple",
    ),
    "a state that grows": (
        'params={"mean": mean})',
        'params={"mean": mean[None]})',
        "step of phase 'train' changes state.params['mean'] from float32 [8, 8, 1] to float32 [1, 8, 8, 1]",
    ),
    "a metric that is no scalar": (
        "jnp.abs(mean).mean()",
        "jnp.abs(mean).mean(0)",
        "step of phase 'train': metric 'size' must be a scalar, not [8, 1]",
    ),
    "an error in the step": (
        'batch["image"].astype(jnp.float32).mean(0) - mean',
        'batch["image"].astype(jnp.float32) @ jnp.zeros((3, 3))',
        "step of phase 'train' raised TypeError (line 21)",
    ),
    "samples of floats": (
        "*spec.image_shape)).astype(jnp.uint8)}",
        "*spec.image_shape))}",
        "sampler.draw: image must be uint8 ['num', 8, 8, 1], not float32 [3, 8, 8, 1]",
    ),
    "an entry that the data have not": (
        'return {"image": jnp.broadcast_to(state.params["mean"], ',
        'return {"picture": jnp.broadcast_to(state.params["mean"], ',
        "sampler.draw gives 'picture', which is no entry of the data: image",
    ),
    "one density for all": (".sum((1, 2, 3))", ".sum()", "likelihood.log_prob must give one number an example"),
    "decoded of another shape": (
        "(len(z), *spec",
        "(len(z), 1, *spec",
        "latents.decode: image must be ['num', 8, 8, 1]",
    ),
    "classes without a batch": (
        'jnp.zeros((len(batch["image"]), 10))',
        "jnp.zeros(10)",
        "predict['label'] must give [batch, ...] logits",
    ),
    "other classes": ("10))\n\n", "7))\n\n", "predict['label'] must give 10 logits, not 7"),
    "a phase alone": (
        '(Phase("train", step),)',
        'Phase("train", step)',
        "phases must be tuple[jaxgen.model.Phase, ...]",
    ),
    "a step for a phase": ('(Phase("train", step),)', "(step,)", "phases must be tuple[jaxgen.model.Phase, ...], not "),
    "two phases of one name": (
        '(Phase("train", step),)',
        '(Phase("train", step, 3), Phase("train", step))',
        "each Phase needs a name of its own, not 'train', 'train'",
    ),
    "no phase": ('(Phase("train", step),)', "()", "phases must hold at least one Phase"),
    "a phase's name": ('Phase("train", step)', "Phase(step, step)", "phases.name must be str, not function"),
    "a phase's steps": (
        'Phase("train", step)',
        'Phase("train", step, 1.5)',
        "phases.steps must be int or nothing",
    ),
    "needs of one name": ('needs=("image",)', 'needs="image"', "needs must be tuple[str, ...], not 'image'"),
    "conditions of one name": ("Sampler(draw)", 'Sampler(draw, "label")', "sampler.conditions must be tuple[str, ...]"),
    "a function for a sampler": ("=Sampler(draw)", "=draw", "sampler must be Sampler or nothing, not function"),
    "no function in a sampler": ("Sampler(draw)", "Sampler(3)", "sampler.draw must be a function, not 3"),
    "a function for a likelihood": (
        '=Likelihood(log_prob, "uint8", "exact")',
        "=log_prob",
        "likelihood must be Likelihood or nothing, not function",
    ),
    "a likelihood's space that is an array": (
        '"uint8", "exact"',
        'jnp.zeros(3), "exact"',
        "likelihood.space must be ",
    ),
    "a likelihood's kind": ('"uint8", "exact"', '"uint8", "x"', "likelihood.kind must be 'exact' or 'bound', not 'x'"),
    "a likelihood's space": (
        '"uint8", "exact"',
        '"bits", "exact"',
        "likelihood.space must be 'binary' or 'uint8' or 'continuous', not 'bits'",
    ),
    "a function for latents": (
        "=Latents(decode, prior)",
        "=decode",
        "latents must be Latents or nothing",
    ),
    "a function for a prior": (
        "Latents(decode, prior)",
        "Latents(decode, draw)",
        "latents.prior must be Prior",
    ),
    "a prior's kind": ('(num, 2)), "gaussian")', '(num, 2)), "normal")', "latents.prior.kind must be 'gaussian' or "),
    "a function for predictions": ('={"label": predicted}', "=predicted", "predict must be "),
    "a metric with a number for a name": (
        '{"size": jnp',
        "{1: jnp",
        "step of phase 'train': a metric's name ",
    ),
    "a metric with a space in its name": ('{"size": jnp', '{"a size": jnp', "step of phase 'train': a metric's name "),
    "a metric that is called as the step": ('{"size": jnp', '{"step": jnp', "step of phase 'train': a metric's name "),
    "a metric that is called as the seed": ('{"size": jnp', '{"seed": jnp', "step of phase 'train': a metric's name "),
    "a complex metric": (
        "jnp.abs(mean).mean()",
        "mean.mean().astype(jnp.complex64)",
        "step of phase 'train': metric 'size' must be a real number, not complex64",
    ),
    "make exits": ("def init(key):", "raise SystemExit(0)", "make raised SystemExit (line 16): 0"),
}


def train(path, capsys):
    status = cli.main(["train", str(path), "--steps", "1", "--seeds", "0", "--out", str(path.parent / "run")])
    return status, capsys.readouterr().err


def test_a_model_without_a_mistake(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(WHOLE)
    assert train(tmp_path / "mine.py", capsys)[0] == 0


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_field_of_a_mistake_is_named(mistake, tmp_path, capsys):
    right, wrong, words = MISTAKES[mistake]
    assert WHOLE.count(right) == 1
    path = tmp_path / "mine.py"
    path.write_text(WHOLE.replace(right, wrong if "raise" not in wrong else f"{wrong}\n\n    {right}"))
    status, said = train(path, capsys)
    assert status == 2
    (line,) = said.splitlines()
    assert f"{path}: {words}" in line
    assert not (tmp_path / "run").exists()


KINDS = """
class Mode(enum.Enum):
    FAST = 0.5
    EXACT = 0.1


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    mode: Mode = Mode.FAST
    place: Path = Path("there")
    inner: Inner = Inner()
"""


def with_config(changed, imports):
    """The model with another Config."""
    assert WHOLE.count(CONFIG) == 1
    return imports + WHOLE.replace(CONFIG, changed)


def test_a_config_of_paths_enums_and_dataclasses_is_kept_and_resumed(tmp_path, capsys):
    """Members go by their names on the command line, and dataclasses by their fields."""
    path, run = tmp_path / "mine.py", tmp_path / "run"
    path.write_text(with_config(KINDS, "import enum\nfrom pathlib import Path\n"))
    options = ["--mode", "EXACT", "--place", "a/b", "--width", "7", "--seeds", "0", "--out", str(run)]
    assert cli.main(["train", str(path), "--steps", "1", *options]) == 0
    kept = json.loads((run / "config.json").read_text())["config"]
    assert kept == {"rate": 0.1, "mode": "EXACT", "place": "a/b", "inner": {"width": 7}}
    assert cli.main(["train", str(path), "--steps", "2", *options, "--resume"]) == 0
    config = open_run(run).plan.config
    assert (config.mode.value, config.place, config.inner.width) == (0.1, Path("a/b"), 7)
    capsys.readouterr()
    options[1] = "FAST"
    assert cli.main(["train", str(path), "--steps", "3", *options, "--resume"]) == 2
    assert "mode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("frozenset", "frozenset({1})"),
        ("object", "jnp.zeros(2)"),
        ("object", "len"),
        ("bytes", "b'x'"),
        ("dict", "{1: 2}"),
    ],
)
def test_a_config_that_json_cannot_hold_is_refused_before_training(annotation, value, tmp_path):
    path = tmp_path / "mine.py"
    field = f"    odd: {annotation} = dataclasses.field(default_factory=lambda: {value})\n"
    path.write_text(with_config(CONFIG + field, "import dataclasses\n"))
    with pytest.raises(UserError, match=r"mine.py's field odd holds .*, which a run's config.json cannot keep"):
        training.train(str(path), None, training.Settings(steps=1), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
