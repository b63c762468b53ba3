"""Operation counts against loops over pixels, and against convolutions of ones."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxgen.experiments.benchmarks import contenders
from jaxgen.experiments.benchmarks.flops import taps, useful_flops
from jaxgen.experiments.benchmarks.stock import stock

from jaxgen import models
from jaxgen.models import dcgan
from jaxgen.nn.conv import conv, conv_transpose


def by_loops(size, kernel, stride, lo, outputs, dilation, kernel_dilation):
    """Counts taps by loops: pixels lie `dilation` positions apart, and each output checks every tap's position."""
    pixels = [n * dilation for n in range(size)]
    return sum(
        p * stride + u * kernel_dilation - lo in pixels for p, u in itertools.product(range(outputs), range(kernel))
    )


def test_taps_equal_loops():
    counted = 0
    for case in itertools.product((1, 4, 7), (1, 3, 4), (1, 2, 3), (-1, 0, 2), (1, 5), (1, 2), (1, 3)):
        size, kernel, stride, lo, outputs, dilation, kernel_dilation = case
        got = taps(size, kernel, stride, lo, outputs, dilation=dilation, kernel_dilation=kernel_dilation)
        assert got == by_loops(*case), case
        counted += got
    assert counted > 1000


def test_taps_of_the_usual_layer_in_closed_form():
    """The first and the last output each have one tap outside, with 4 taps, stride 2 and one pixel of padding."""
    for n in (2, 4, 8, 64):
        assert taps(n, 4, 2, 1, n // 2) == 2 * n - 2


GEOMETRIES = [
    ((8, 8), (4, 4), (2, 2), "SAME"),
    ((7, 5), (5, 3), (2, 1), "SAME"),
    ((7, 8), (1, 2), (2, 3), "VALID"),
    ((5, 9), (2, 4), (2, 2), ((3, 1), (0, 5))),
    ((6, 9), (3, 4), (1, 2), ((-1, 1), (2, -2))),
]
geometries = pytest.mark.parametrize(("size", "kernel", "strides", "padding"), GEOMETRIES)


@geometries
def test_jaxgens_operations_equal_sums_over_ones(size, kernel, strides, padding):
    """A convolution of ones with ones adds 1 for every product of an image pixel and a tap."""
    x, w = jnp.ones((2, *size, 3)), jnp.ones((*kernel, 3, 4))

    def forward(x, w):
        return conv(x, w, strides=strides, padding=padding)

    y = forward(x, w)
    products = int(y.sum())
    assert useful_flops(forward, x, w) == 2 * products

    def transposed(y, w):
        return conv_transpose(y, w, strides=strides, padding=padding, output_size=size)

    assert useful_flops(transposed, y, w) == 2 * products

    def gradients(x, w):
        return jax.vjp(forward, x, w)[1](y)

    assert useful_flops(gradients, x, w) == 3 * 2 * products  # includes the forward pass
    assert useful_flops(lambda x, w: jax.vjp(lambda w: forward(x, w), w)[1](y), x, w) == 2 * 2 * products
    seeds = useful_flops(jax.vmap(gradients), jnp.stack([x] * 3), jnp.stack([w] * 3))
    assert seeds == 3 * 3 * 2 * products


@pytest.mark.parametrize("groups", [{}, {"feature_group_count": 2}, {"batch_group_count": 2}])
@pytest.mark.parametrize("dilations", [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 1)), ((2, 2), (1, 2))])
def test_stock_convolutions_equal_sums_over_ones(groups, dilations):
    options = {
        "window_strides": (2, 1),
        "padding": ((1, 2), (3, 0)),
        "lhs_dilation": dilations[0],
        "rhs_dilation": dilations[1],
        "dimension_numbers": ("NCHW", "HWIO", "NHWC"),
    } | groups
    x = jnp.ones((4, 4, 7, 6))
    w = jnp.ones((3, 2, 2 if "feature_group_count" in groups else 4, 6))

    def forward(x, w):
        return lax.conv_general_dilated(x, w, **options)

    assert useful_flops(forward, x, w) == 2 * int(forward(x, w).sum())


def test_matrix_products():
    a, b = jnp.ones((5, 3, 4)), jnp.ones((5, 4, 7))
    assert useful_flops(lambda a, b: a @ b, a, b) == 2 * 5 * 3 * 4 * 7
    assert useful_flops(lambda a: jnp.sin(a) + 1, a) == 0
    assert useful_flops(lambda a, b: jnp.einsum("sij,tjk->stik", a, b), a, b) == 2 * 5 * 5 * 3 * 4 * 7


def test_inner_programs_are_counted_as_often_as_they_run():
    a = jnp.ones((6, 6))
    once = 2 * 6**3

    @jax.custom_vjp
    def product(a):
        return a @ a

    product.defvjp(lambda a: (a @ a, a), lambda a, ct: (ct @ a.T + a.T @ ct,))
    assert useful_flops(jax.jit(product), a) == once
    assert useful_flops(jax.grad(lambda a: product(a).sum()), a) == 3 * once
    assert useful_flops(jax.grad(jax.checkpoint(lambda a: jnp.sin(a @ a).sum())), a) >= 3 * once
    assert useful_flops(lambda a: lax.scan(lambda a, _: (a @ a, None), a, length=5), a) == 5 * once
    assert useful_flops(lambda a: lax.map(lambda row: a @ row, a), a) == once
    assert useful_flops(lambda a: lax.cond(a[0, 0] > 0, lambda: a @ a, lambda: a @ a.T), a) == once
    with pytest.raises(ValueError, match="branches of a cond"):
        useful_flops(lambda a: lax.cond(a[0, 0] > 0, lambda: a @ a, lambda: a), a)


def test_of_forms_by_platform_that_for_any_is_counted():
    a = jnp.ones((6, 6))

    def by_platform(cpu, default):
        return useful_flops(lambda a: lax.platform_dependent(a, cpu=cpu, default=default), a)

    assert by_platform(cpu=lambda a: a @ a, default=jnp.sin) == 0
    assert by_platform(cpu=jnp.sin, default=lambda a: a @ a) == 2 * 6**3


def test_a_while_wants_its_trip_count():
    a = jnp.ones((6, 6))

    def loop(a, count):
        return lax.fori_loop(0, count, lambda _, a: a @ a, a)

    with pytest.raises(ValueError, match="trip count"):
        useful_flops(loop, a, 3)
    assert useful_flops(loop, a, 3, trips=3) == 3 * 2 * 6**3
    assert useful_flops(lambda a, n: lax.fori_loop(0, n, lambda _, a: a + 1, a), a, 3) == 0  # nothing to count


def step_flops(phase, model, data):
    """Counts a step of `phase` from a state of `model`, without computing anything."""
    operands = jax.eval_shape(lambda: contenders.training(model, data).operands)
    return useful_flops(contenders.one_step(phase), *operands)


def conv_flops(size, inputs, outputs):
    """Operations of a 4x4 layer with stride 2 on one image of side `size`; each axis has 2 * size - 2 pairs."""
    return 2 * (2 * size - 2) ** 2 * inputs * outputs


def test_a_step_of_dcgan_counted_by_hand():
    """G runs forward and back once; D forward on real, on fake, and on fake again; see the passes below."""
    features, batch = 8, 4
    data = contenders.made_up(16, 16, 3, batch)
    config = dcgan.Config(features=features, latent_dim=10, smallest=4)
    model = dcgan.make(config, data.spec)
    outer, inner = conv_flops(16, 3, features), conv_flops(8, features, 2 * features)
    head = 2 * 4 * 4 * 2 * features
    projection = 2 * 10 * 4 * 4 * 2 * features
    discriminator = (
        2 * (outer + inner + head)  # forward on real and on fake
        + 2 * (outer + inner + head)  # gradients of the weights
        + 2 * (inner + head)  # of the maps; the images' gradient is not needed
    )
    generators_turn = (outer + inner + head) + (outer + inner + head)  # D forward, and back to the images
    generator = (projection + inner + outer) + (projection + inner + outer) + (inner + outer)  # no gradient of z
    expected = batch * (discriminator + generators_turn + generator)
    assert step_flops(model.phases[0], model, data) == expected


@pytest.mark.parametrize("name", ["dcgan", "vae"])
def test_flaxs_layers_count_the_same(name):
    """The count is the same however gradients are written: dilated images or kernels, or jaxgen's operations."""
    data, module = contenders.made_up(16, 16, 3, 4), models.load(name)
    config = module.Config(features=8)
    ours, theirs = module.make(config, data.spec), stock(name).make(config, data.spec)
    counts = [step_flops(model.phases[0], ours, data) for model in (ours, theirs)]
    assert counts[0] == counts[1] > math.prod((16, 16, 3, 4))


def test_data_are_the_same_every_time():
    first, again = contenders.made_up(16, 8, 3, 4), contenders.made_up(16, 8, 3, 4)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.indices.shape == (contenders.MOST, 4)
    assert first.indices.max() < 16
    assert abs(first.images.mean() - 127.5) < 5
