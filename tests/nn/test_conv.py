"""Convolutions against lax's and NumPy's; sums are exact, so most comparisons are bitwise."""

from functools import partial

import flax.linen as nn
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax import lax
from jax.test_util import check_grads

from jaxgen.nn import conv_forms
from jaxgen.nn.conv import Conv, ConvTranspose, conv, conv_transpose
from jaxgen.nn.conv_forms import Geometry
from tests.cases import some_slow
from tests.nn.conv_cases import NAMES, SOME, arrays, explicit, operations, output, references, some, whole
from tests.versions import x64


def drawn(examples):
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(deadline=None, derandomize=True, max_examples=examples, suppress_health_check=checks)


def fits(case):
    """Tells whether the image is nonempty after cropping and the kernel fits into it."""
    axes = zip(case["size"], case["kernel"], explicit(case), strict=True)
    return all(n + min(lo, 0) + min(hi, 0) > 0 and n + lo + hi >= k for n, k, (lo, hi) in axes)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


CASES = st.fixed_dictionaries(
    {
        "size": pairs(1, 9),
        "kernel": pairs(1, 5),
        "strides": pairs(1, 3),
        "padding": st.sampled_from(["SAME", "VALID"]) | st.tuples(pairs(-3, 6), pairs(-3, 6)),
        "batch": st.integers(1, 3),
        "channels": pairs(1, 5),
    }
).filter(fits)


def conv64(x, w, case):
    """The convolution's defining sum in float64 NumPy, pixel by pixel."""
    (top, _), (left, _) = explicit(case)
    x, w, (sh, sw) = np.float64(x), np.float64(w), case["strides"]
    y = np.zeros((x.shape[0], *output(case), w.shape[3]))
    for p, q, u, v in np.ndindex(*output(case), *case["kernel"]):
        row, column = p * sh + u - top, q * sw + v - left
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            y[:, p, q] += x[:, row, column] @ w[u, v]
    return y


few = pytest.mark.parametrize("case", [SOME[0], SOME[1], SOME[3]], ids=[NAMES[0], NAMES[1], NAMES[3]])
most_slow = pytest.mark.parametrize("case", some_slow(SOME, quick=[SOME[0], SOME[3], SOME[6]]), ids=NAMES)


def with_gradients(f):
    """Maps (a, b, cotangent, tangents) to the value, both gradients, and the directional derivative."""

    def derivatives(a, b, ct, da, db):
        y, pullback = jax.vjp(f, a, b)
        return y, *pullback(ct), jax.jvp(f, (a, b), (da, db))[1]

    return derivatives


@drawn(15)
@given(CASES)
def test_both_operations_and_all_first_derivatives_equal_lax(case):
    x, w, g = arrays(case)
    dx, dw, dg = whole(3, *x.shape), whole(4, *w.shape), whole(5, *g.shape)

    def both(convolution, transposed):
        def derivatives(x, w, g, dx, dw, dg):  # arguments, since XLA would fold constants by different code
            ours = with_gradients(convolution)(x, w, g, dx, dw)
            return ours, with_gradients(transposed)(g, w, x, dg, dw)

        return jax.jit(derivatives)(x, w, g, dx, dw, dg)

    jax.tree.map(np.testing.assert_array_equal, both(*operations(case)), both(*references(case)))


@drawn(20)
@given(CASES)
def test_adjoint_identity_against_float64_numpy(case):
    x, w, g = arrays(case)
    convolution, transposed = operations(case)
    y = conv64(x, w, case)
    found, adjoint = jax.jit(lambda x, w, g: (convolution(x, w), transposed(g, w)))(x, w, g)
    np.testing.assert_array_equal(found, y)
    assert np.sum(y * np.float64(g)) == np.sum(np.float64(x) * np.float64(adjoint))


@most_slow
def test_second_order_gradients_in_both_modes(case):
    x, w, g = arrays(case)
    convolution, transposed = operations(case)
    with x64():
        x, w, g = (jnp.asarray(np.float64(a)) for a in (x, w, g))
        check_grads(jax.jit(convolution), (x, w), order=2, modes=["fwd", "rev"])
        check_grads(jax.jit(transposed), (g, w), order=2, modes=["fwd", "rev"])


@some
def test_gradient_penalty_equals_lax(case):
    x, w, _ = arrays(case)

    def penalty(f, w, x):
        def critic(x):
            return jnp.sum(f(x, w) ** 2)

        return jnp.sum(jax.grad(critic)(x) ** 2)

    ours, plain = operations(case)[0], references(case)[0]
    got, expected = (jax.jit(jax.grad(lambda w, x, f=f: penalty(f, w, x)))(w, x) for f in (ours, plain))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@few
@pytest.mark.parametrize("axes", [(0, None), (None, 3), (4, 2)])
def test_vmap_equals_a_loop(case, axes):
    convolution, transposed = operations(case)
    x, w, g = arrays(case)

    def kernel_gradient(x, g):
        return jax.vjp(lambda w: convolution(x, w), w)[1](g)[0]

    def stacked(seed, *pair):
        """Stacks three of each operand along its vmapped axis."""
        return [
            a if axis is None else np.stack([whole(seed + n, *a.shape) for n in range(3)], axis)
            for a, axis in zip(pair, axes, strict=True)
        ]

    def looped(f):
        def pick(n, a, axis):
            return a if axis is None else jnp.take(a, n, axis)

        return lambda a, b: jnp.stack([f(pick(n, a, axes[0]), pick(n, b, axes[1])) for n in range(3)])

    functions = convolution, transposed, kernel_gradient
    pairs = stacked(0, x, w), stacked(3, g, w), stacked(6, x, g)
    got, expected = (
        jax.jit(lambda pairs, how=how: [how(f)(*pair) for f, pair in zip(functions, pairs, strict=True)])(pairs)
        for how in (partial(jax.vmap, in_axes=axes), looped)
    )
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@few
def test_nested_vmap_and_gradients_under_vmap_equal_loops(case):
    convolution = jax.jit(operations(case)[0])
    x, w, _ = arrays(case)
    xs, ws = np.asarray(whole(0, 2, *x.shape)), np.asarray(whole(1, 3, *w.shape))  # for 2 draws and 3 seeds
    rows = [np.stack([convolution(x, w) for x in xs]) for w in ws]
    grid = jax.vmap(jax.vmap(convolution, (0, None)), (None, 0))
    np.testing.assert_array_equal(jax.jit(grid)(xs, ws), np.stack(rows))
    ws2 = np.stack([ws, ws + 1])
    seeds = jax.jit(jax.vmap(jax.vmap(convolution, (None, 0)), (0, 0)))(xs, ws2)
    rows = [np.stack([convolution(x, w) for w in ws]) for x, ws in zip(xs, ws2, strict=True)]
    np.testing.assert_array_equal(seeds, np.stack(rows))

    gradient = jax.jit(jax.grad(lambda w, x: jnp.sum(convolution(x, w) ** 2)))
    got = jax.jit(jax.vmap(gradient, (0, None)))(ws, x)
    np.testing.assert_array_equal(got, np.stack([gradient(w, x) for w in ws]))


@few
def test_in_scan_and_jitted_equals_eager(case):
    convolution, transposed = operations(case)
    x, w, g = arrays(case)

    def step(x, g, w, n):
        y, pullback = jax.vjp(convolution, x, w)
        z, transposed_pullback = jax.vjp(transposed, g, w)
        gradients = pullback(y), transposed_pullback(z)
        return jnp.sign(w + gradients[0][1] - gradients[1][1] + n), (y, z, gradients)

    _, got = jax.jit(lambda x, g, w: lax.scan(partial(step, x, g), w, jnp.arange(2.0)))(x, g, w)
    once = step if case is SOME[0] else jax.jit(step)
    for n in range(2):
        w, expected = once(x, g, w, jnp.float32(n))
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda a, n=n: np.asarray(a)[n], got), expected)


@few
def test_where_jit_is_disabled_the_operations_are_the_same(case):
    """JAX_DISABLE_JIT is for debuggers, which step through a model."""
    convolution, transposed = operations(case)
    x, w, g = arrays(case)

    def results(x, w, g):
        y, pullback = jax.vjp(convolution, x, w)
        return y, pullback(g), transposed(g, w), jax.vmap(convolution)(x[None], w[None])

    expected = jax.jit(results)(x, w, g)
    with jax.disable_jit():
        jax.tree.map(np.testing.assert_array_equal, results(x, w, g), expected)


@most_slow
def test_bfloat16_is_float32_rounded_once(case):
    convolution, transposed = operations(case)

    @jax.jit
    def results(x, w, g):
        _, pullback = jax.vjp(convolution, x, w)
        return convolution(x, w), transposed(g, w), *pullback(g), jax.vmap(convolution)(x[None], w[None])

    narrow = [a.astype(jnp.bfloat16) for a in arrays(case)]
    for got, exact in zip(results(*narrow), results(*arrays(case)), strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_array_equal(got, exact.astype(jnp.bfloat16))


def test_a_batch_is_cut_evenly_or_not_at_all():
    cuts = [(64, 1), (64, 2), (64, 3), (64, 16), (7, 3), (61, 4), (61, 16), (8, 100), (0, 0), (2, 5)]
    assert [conv_forms.chunks(*cut) for cut in cuts] == [1, 1, 4, 16, 7, 1, 61, 8, 1, 1]


@drawn(6)
@given(CASES.filter(lambda case: np.all(case["kernel"] > np.array(explicit(case)).T)))
def test_forms_for_a_cpu_equal_those_for_other_platforms(case):
    """Under vmap as there; without wider padding, which XLA:CPU gets wrong in the other forms (openxla/xla 48713)."""
    pads = tuple((max(lo, 0), max(hi, 0)) for lo, hi in explicit(case))
    geometry = Geometry(case["size"], case["kernel"], case["strides"], pads)
    x = whole(0, 2, case["batch"], *case["size"], case["channels"][0])
    w = whole(1, 2, *case["kernel"], *case["channels"])
    g = whole(2, 2, case["batch"], *geometry.output, case["channels"][1])

    def forms(x, w, g, *, conv, dx, dw):
        return conv(x, w, geometry), dx(g, w, geometry), dw(x, g, geometry)

    cpu = partial(forms, conv=conv_forms.direct_conv, dx=conv_forms.direct_dx, dw=conv_forms.direct_dw)
    others = partial(forms, conv=conv_forms.lax_conv, dx=conv_forms.lax_dx, dw=conv_forms.lax_dw)
    expected = jax.jit(jax.vmap(others))(x, w, g)
    found = jax.jit(cpu)(*(np.asarray(a)[1] for a in (x, w, g)))
    jax.tree.map(lambda e, got: np.testing.assert_array_equal(got, np.asarray(e)[1]), expected, found)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_seeds_are_unrolled_on_a_cpu_only(platform):
    f = jax.jit(jax.vmap(lambda x, w: conv(x, w)))
    text = f.trace(whole(0, 3, 1, 8, 8, 2), whole(1, 3, 3, 3, 2, 2)).lower(lowering_platforms=(platform,))
    assert text.as_text().count("stablehlo.convolution") == (3 if platform == "cpu" else 1)


@pytest.mark.parametrize(
    ("padding", "size"),
    [("SAME", (10, 6)), ("VALID", (13, 9)), (((1, 0), (-2, 1)), (12, 10))],
)
def test_conv_transpose_default_size(padding, size):
    y = conv_transpose(whole(0, 1, 5, 3, 2), whole(1, 5, 5, 3, 2), strides=(2, 2), padding=padding)
    assert y.shape == (1, *size, 3)


def test_values_worked_out_by_hand():
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    w = jnp.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    assert conv(x, w, padding="VALID").ravel().tolist() == [321.0, 432.0]
    assert conv(x, w).ravel().tolist() == [210.0, 321.0, 432.0, 43.0]
    assert conv(x, w, strides=(1, 2)).ravel().tolist() == [321.0, 43.0]
    assert conv(x, w, padding=((0, 0), (1, -2))).ravel().tolist() == [210.0]
    two = conv_transpose(x[:, :, :2], w, strides=(1, 2), padding="VALID")
    assert two.ravel().tolist() == [1.0, 10.0, 102.0, 20.0, 200.0]
    assert conv_transpose(x[:, :, :2], w, strides=(1, 2)).ravel().tolist() == [1.0, 10.0, 102.0, 20.0]


def test_modules_equal_flax():
    case = SOME[1]
    options = {"kernel_size": case["kernel"], "strides": case["strides"]}
    x = whole(0, 2, *case["size"], 3)
    ours, flax = Conv(4, **options), nn.Conv(4, **options)
    variables = ours.init(jax.random.key(0), x)
    variables["params"]["bias"] += 1.0
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, flax.init(jax.random.key(0), x))
    np.testing.assert_allclose(ours.apply(variables, x), flax.apply(variables, x), atol=1e-5)

    ours = ConvTranspose(4, **options)
    variables = ours.init(jax.random.key(0), x)
    variables["params"]["bias"] += 1.0
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (*case["kernel"], 4, 3)
    adjoint = conv_transpose(x, kernel, strides=case["strides"])
    np.testing.assert_allclose(ours.apply(variables, x), adjoint + bias, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (3, 3, 1, 1), (1, 1, 2, 4), (3, 1, 1, 4)])
def test_a_mask_equals_flaxs(shape):
    """Outputs and gradients; a smaller mask is broadcast, as Flax's are not."""
    x, mask = whole(0, 2, 5, 6, 2), np.random.default_rng(1).integers(0, 2, shape)
    ours, flax = Conv(4, mask=mask), nn.Conv(4, (3, 3), mask=np.broadcast_to(mask, (3, 3, 2, 4)).astype(np.float32))
    variables = ours.init(jax.random.key(0), x)

    def both(net):
        return jax.jit(jax.value_and_grad(lambda variables: (net.apply(variables, x) ** 2).sum()))(variables)

    found = both(ours)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, both(flax))
    kernel = np.asarray(found[1]["params"]["kernel"])
    assert not kernel[np.broadcast_to(mask, kernel.shape) == 0].any()


def test_a_mask_computes_in_the_layers_dtype_and_has_to_fit():
    x = jnp.ones((1, 4, 4, 3), jnp.bfloat16)
    for mask in (np.ones((3, 3, 1, 1), bool), jnp.ones((3, 3, 3, 2), jnp.int32)):
        y, params = Conv(2, mask=mask, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x)
        assert (y.dtype, params["params"]["kernel"].dtype) == (jnp.bfloat16, jnp.float32)
    with pytest.raises(ValueError, match="broadcast"):
        Conv(2, mask=np.ones((2, 2, 1, 1))).init(jax.random.key(0), x)


@pytest.mark.parametrize("module", [Conv, ConvTranspose])
def test_modules_dtype_and_initial_scale(module):
    layer = module(8, kernel_size=(4, 4), dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 128))
    params = layer.init(jax.random.key(1), x)["params"]
    assert {name: p.dtype for name, p in params.items()} == {"kernel": jnp.float32, "bias": jnp.float32}
    assert layer.apply({"params": params}, x).dtype == jnp.bfloat16
    # LeCun: variance 1 / fan-in, where the fan-in is 4 * 4 * 128 for either layout.
    np.testing.assert_allclose(jnp.var(params["kernel"]) * 4 * 4 * 128, 1.0, rtol=0.05)
    assert layer.clone(dtype=None).apply({"params": params}, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    bare = module(8, use_bias=False)
    assert list(bare.init(jax.random.key(1), x)["params"]) == ["kernel"]
    with pytest.raises(TypeError, match=r"must be floating, not uint8"):
        layer.clone(dtype=None).apply({"params": params}, x.astype(jnp.uint8))


X, W = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv(X[0], W), ValueError, r"conv: x must have 4 axes, not shape \(4, 4, 3\)"),
        (lambda: conv(X, W[0]), ValueError, r"kernel must have 4 axes"),
        (lambda: conv(X, W.astype(jnp.bfloat16)), TypeError, r"share a floating dtype, not float32 and bfloat16"),
        (lambda: conv(X.astype(int), W.astype(int)), TypeError, r"share a floating dtype"),
        (lambda: conv(X[..., :2], W), ValueError, r"has 2 channels, kernel .* takes 3"),
        (lambda: conv_transpose(X, W), ValueError, r"has 3 channels, kernel .* takes 2"),
        (lambda: conv(X, W, strides=(0, 1)), ValueError, r"strides must be two positive integers, not \(0, 1\)"),
        (lambda: conv(X, W, strides=2), ValueError, r"strides must be two positive integers, not 2"),
        (lambda: conv(X, W, padding="same"), ValueError, r"padding must be \"SAME\", \"VALID\" or .* not 'same'"),
        (lambda: conv(X, W, padding=1), ValueError, r"padding must be"),
        (lambda: conv(X[:, :2], W, padding="VALID"), ValueError, r"kernel \(3, 3\) does not fit .* \(2, 4\)"),
        (lambda: conv(X, W, padding=((-2, -2), (0, 0))), ValueError, r"does not fit"),
        (
            lambda: conv_transpose(X[..., :2], W, output_size=(9, 8)),
            ValueError,
            r"no output_size \(9, 8\) from \(4, 4\): .* takes it to \(5, 4\)",
        ),
        (lambda: conv_transpose(X[..., :2], W, output_size=8), ValueError, r"must be two positive integers"),
    ],
)
def test_error_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()
