"""JAX's own convolutions under a gradient, found in a step's jaxpr and told of on a CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxgen.model import Model, Phase, Spec, State
from jaxgen.nn import conv
from jaxgen.training import Settings
from jaxgen.training.contract import slow_convolutions
from jaxgen.training.plan import make_plan

SPEC = Spec({"image": jax.ShapeDtypeStruct((6, 6, 2), np.uint8)}, 8)
KERNEL = jnp.ones((3, 3, 2, 2))


def module(layer):
    """An image through a Flax layer whose parameters are `kernel` alone."""
    return lambda kernel, x: layer.apply({"params": {"kernel": kernel}}, x)


def repeated(kernel, x):
    return lax.scan(lambda x, _: (FLAX(kernel, x), None), x, length=2)[0]


def channels_first(kernel, x):
    return lax.conv(x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "SAME")


def in_a_branch(kernel, x):
    return lax.cond(x.sum() > 0, lambda: FLAX(kernel, x), lambda: x)


FLAX = module(nn.Conv(2, (3, 3), use_bias=False))

FUNCTIONS = {
    "flax": (FLAX, True),
    "flax, stride 2": (module(nn.Conv(2, (3, 3), strides=(2, 2), use_bias=False)), True),
    "flax, transposed": (module(nn.ConvTranspose(2, (3, 3), strides=(2, 2), use_bias=False)), True),
    "flax, in a scan": (repeated, True),
    "flax, in a branch": (in_a_branch, True),
    "flax, checkpointed": (jax.checkpoint(FLAX), True),
    "flax, of one tap": (lambda w, x: module(nn.Conv(2, (1, 1), use_bias=False))(w[:1, :1], x), True),
    "lax, channels first": (channels_first, True),
    "jaxgen": (module(conv.Conv(2, use_bias=False)), False),
    "jaxgen, transposed": (module(conv.ConvTranspose(2, (3, 3), use_bias=False)), False),
    "flax, not learned": (lambda w, x: FLAX(KERNEL, x) * w[0, 0, 0], False),
    "flax, each channel its own": (
        lambda w, x: module(nn.Conv(2, (3, 3), feature_group_count=2, use_bias=False))(w[:, :, :1], x),
        False,
    ),
    "flax, of rows": (lambda w, x: module(nn.Conv(2, (3,), use_bias=False))(w[0], x[:, 0]), False),
    "none": (lambda w, x: x * w[0, 0, 0], False),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("phase", [0, 1])
def test_steps_with_slow_convolutions(name, phase):
    function, expected = FUNCTIONS[name]

    def step(key, state, batch):
        x = batch["image"].astype(jnp.float32)
        gradient = jax.jit(jax.grad(lambda kernel: (function(kernel, x) ** 2).sum()))(state.params)
        return state._replace(params=state.params - gradient), {"size": gradient.sum()}

    def still(key, state, batch):
        return state, {}

    steps = [still, still]
    steps[phase] = step
    phases = tuple(Phase(str(n), each) for n, each in enumerate(steps))
    model = Model(lambda key: State(jnp.int32(0), KERNEL), phases, needs=("image",))
    assert slow_convolutions(model, SPEC, 4) == expected


FILE = """
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.model import Model, Phase, State
from jaxgen.nn.conv import Conv


@dataclass(frozen=True)
class Config:
    rate: float = 0.1


def make(config, spec):
    net = LAYER(2, (3, 3))

    def init(key):
        return State(jnp.int32(0), net.init(key, jnp.zeros((1, *spec.image_shape))))

    def step(key, state, batch):
        gradient = jax.jit(jax.grad(lambda params: net.apply(params, batch["image"] / 255).sum()))(state.params)
        return state._replace(params=gradient), {}

    return Model(init, (Phase("train", step),), needs=("image",))
"""


@pytest.mark.parametrize(
    ("layer", "backend", "count"), [("nn.Conv", "cpu", 1), ("Conv", "cpu", 0), ("nn.Conv", "gpu", 0)]
)
def test_a_file_with_slow_convolutions_is_told_of_once_on_a_cpu(tmp_path, monkeypatch, layer, backend, count):
    (tmp_path / "mine.py").write_text(FILE.replace("LAYER", layer))
    plan = make_plan(str(tmp_path / "mine.py"), None, Settings())
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    told = [line for line in plan.told() if "jaxgen.nn.conv" in line]
    assert len(told) == count
    assert all(line.startswith("./mine.py: ") and "flax.linen.Conv" in line for line in told)
