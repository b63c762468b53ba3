"""Models with Flax's layers equal jaxgen's, and contain none of jaxgen's layers."""

import re
from collections import Counter

import jax
import numpy as np
import pytest
from jaxgen.experiments.benchmarks import contenders
from jaxgen.experiments.benchmarks.stock import stock

from jaxgen import models


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
    # Adam's first step is only the gradients' signs, which rounding may flip if they are almost zero.
    rate = config.generator_learning_rate if name == "dcgan" else config.learning_rate
    pairs = zip(jax.tree.leaves(new.params), jax.tree.leaves(expected.params), strict=True)
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in pairs])
    assert np.quantile(apart, 0.999) < 0.01 * rate
    assert apart.max() <= 2.01 * rate


DEPTH = 3
"""Layers of each network, for images of 32 pixels."""

OPERATIONS = {
    "dcgan": {"conv": 4 * DEPTH, "conv_dx": 4 * DEPTH - 2, "conv_dw": 3 * DEPTH},
    "vae": {"conv": 2 * DEPTH, "conv_dx": 2 * DEPTH - 1, "conv_dw": 2 * DEPTH},
}
"""Convolutions of a step, counted by hand: a layer's maps, the gradient of its input, and that of its kernel.

DCGAN's D sees real images, fakes, and the fakes again in G's turn, which needs no gradient of D's kernels; D's turn
needs none of the images. The VAE's encoder and decoder run forward and back once; the images' gradient is not needed.
"""


@pytest.mark.parametrize("name", OPERATIONS)
def test_all_convolutions_of_the_copy_are_flaxs_and_all_of_the_model_jaxgens(name, untrained):
    module, data = models.load(name), contenders.made_up(32, 32, 3, 8)
    config = module.Config(features=4)
    ours = untrained(module.make(config, data.spec), data)
    theirs = ours._replace(phase=stock(name).make(config, data.spec).phases[0])
    assert operations(ours) == OPERATIONS[name]
    assert operations(theirs) == {"conv_general_dilated": sum(OPERATIONS[name].values())}


def operations(training):
    """Counts each convolution primitive in the program of one step, by name."""
    program = str(jax.make_jaxpr(contenders.one_step(training.phase))(*training.operands))
    return Counter(re.findall(r" (conv|conv_[a-z_]+)\[", program))
