"""The models with Flax's layers are the same models."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from jaxgen.experiments.benchmarks import contenders
from jaxgen.experiments.benchmarks.stock import stock

from jaxgen import models
from jaxgen.models import dcgan
from jaxgen.nn.conv import Conv


@pytest.mark.parametrize("name", ["dcgan", "vae"])
def test_a_step_from_the_same_state_is_the_same_step(name, untrained):
    module, data = models.load(name), contenders.made_up(32, 32, 3, 8)
    config = module.Config(features=4)
    ours = untrained(module.make(config, data.spec), data)
    other = stock(name).make(config, data.spec)
    theirs = jax.eval_shape(other.init, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), ours.operands[1], theirs)

    steps = [contenders.one_step(phase)(*ours.operands) for phase in (ours.phase, other.phases[0])]
    (new, metrics), (expected, expected_metrics) = jax.device_get(steps)
    for metric, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[metric], value, rtol=1e-4, err_msg=metric)
    # The moments hold the gradients, and the averages the maps' statistics.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()),
        (new.opt_state, new.extra),
        (expected.opt_state, expected.extra),
    )
    # The first step of Adam is but the gradients' signs, which rounding may turn where they are all but zero.
    rate = config.generator_learning_rate if name == "dcgan" else config.learning_rate
    pairs = zip(jax.tree.leaves(new.params), jax.tree.leaves(expected.params), strict=True)
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in pairs])
    assert np.quantile(apart, 0.999) < 0.01 * rate
    assert apart.max() <= 2.01 * rate


def test_only_the_copy_has_flaxs_layers():
    module = stock("dcgan")
    assert module is not dcgan
    assert module.Conv is nn.Conv
    assert dcgan.Conv is Conv
