"""Folded programs, run by NumPy, against JAX; and the equations and constants that they consist of."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxgen import data, models
from jaxgen.nn.conv import conv, conv_transpose
from jaxgen.portable.evaluated import evaluated
from jaxgen.portable.folded import OPERATIONS, NotPortable, folded
from tests.cases import some_slow
from tests.models.by_hand import drawn_state
from tests.models.contract import contracts

CONTRACTS = contracts()
DECODED = [name for name in models.MODELS if CONTRACTS[name].prior and name != "meshvae"]
RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 6, 4)).astype(np.float32)
W = RNG.normal(size=(3, 3, 4, 5)).astype(np.float32)
IDS = np.array([[2, 0, 1], [1, 1, 0]], np.int32)


@functools.cache
def dataset(name):
    return data.load(name)


def names(program):
    return [equation.operation for equation in program.equations]


def test_equations_of_known_operands_are_evaluated():
    """x exp(w) + 3 with w known: a product and a sum remain, and the constants are exp(w) and 3."""
    w = jnp.log(jnp.array([[2.0, 5.0]]))
    program = folded(lambda x: x * jnp.exp(w) + 3, jax.ShapeDtypeStruct((1, 2), np.float32))
    assert names(program) == ["mul", "add"]
    np.testing.assert_allclose(np.concatenate([c.ravel() for c in program.constants]), [2, 5, 3], rtol=1e-6)
    assert evaluated(program, [[10, 1]]) == pytest.approx(np.array([[23, 8]]))
    assert (program.size, program.products) == (3, 0)


def test_unused_equations_are_left_out_and_reshapes_become_one():
    def function(x):
        _ = jnp.exp(x)
        return x.reshape(6, 2).reshape(3, 4).reshape(2, 6)

    program = folded(function, jax.ShapeDtypeStruct((12,), np.float32))
    assert names(program) == ["reshape"]
    assert program.equations[0].operands == program.inputs
    assert program.output.shape == (2, 6)


def test_a_constant_is_not_stored_once_per_pixel():
    """A bias of 5 channels added to 12x12 pixels stays 5 numbers."""
    bias = jnp.arange(5.0)
    program = folded(lambda x: x - jnp.broadcast_to(bias, (12, 12, 5)), jax.ShapeDtypeStruct((12, 12, 5), np.float32))
    assert program.size == 5
    assert evaluated(program, np.ones((12, 12, 5)))[3, 4].tolist() == [1, 0, -1, -2, -3]


def test_a_loop_stores_its_constants_once():
    """h = tanh(h w + x + b exp(b)) of 4 steps, from zeros [2, 3]: 9 numbers of w, 3 of b exp(b), and the 6 zeros."""
    w, b = jnp.asarray(X[0, :3, :3]), jnp.asarray(X[0, 0, :3])

    def function(x):
        return lax.scan(lambda h, row: (jnp.tanh(h @ w + row + b * jnp.exp(b)), None), jnp.zeros((2, 3)), x)[0]

    program = folded(function, jax.ShapeDtypeStruct((4, 2, 3), np.float32))
    assert names(program).count("tanh") == 4
    assert program.size == 9 + 3 + 6


def test_products_are_counted_by_hand():
    """conv: 6x6 pixels, 3x3 places, 4 to 5 channels; its adjoint the same; matmul: 2x3 sums of 7."""
    image, kernel = jax.ShapeDtypeStruct((1, 6, 6, 4), np.float32), jnp.asarray(W)
    assert folded(lambda x: conv(x, kernel), image).products == 36 * 9 * 4 * 5
    maps = jax.ShapeDtypeStruct((1, 6, 6, 5), np.float32)
    assert folded(lambda x: conv_transpose(x, kernel, strides=(1, 1)), maps).products == 36 * 9 * 4 * 5
    matrix = jnp.ones((7, 3))
    assert folded(lambda x: x @ matrix, jax.ShapeDtypeStruct((2, 7), np.float32)).products == 2 * 3 * 7


FUNCTIONS = {
    "unary": (lambda x: jnp.tanh(jnp.exp(-x)) + jnp.sqrt(jnp.abs(x)) + jax.nn.sigmoid(x) + lax.rsqrt(x**2 + 1), X),
    "rounded": (lambda x: jnp.floor(x) + jnp.ceil(2 * x) * jnp.sign(x) + jnp.round(3 * x), X),
    "circular": (lambda x: jnp.sin(x) * jnp.cos(2 * x) + jnp.log1p(x**2) - jnp.expm1(x) / jnp.log(x**2 + 2), X),
    "gelu": (lambda x: jax.nn.gelu(x, approximate=False) + lax.erf(x), X),
    "compared": (lambda x: jnp.where((x > 0) & (x <= 1) | ~(x >= -1), x, -3 * x), X),
    "clamped": (lambda x: jnp.clip(x, -0.5, 0.7) + jnp.maximum(x, 0) + jnp.minimum(x, 1), X),
    "powers": (lambda x: x**3 + 1 / x**2 + x**-3 + jnp.abs(x) ** 1.5, X),
    "integers": (lambda n: (n * 7 - 9) // 2 + lax.div(n - 2, jnp.int32(2)) + (n - 5) % 3 + lax.rem(n - 5, 3), IDS),
    "cast": (lambda x: (2.7 * x).astype(jnp.int32).astype(jnp.float32) + (x > 0).astype(jnp.float32), X),
    "moved": (lambda x: jnp.concatenate([x.transpose(0, 2, 1), jnp.ones((2, 4, 1))], axis=2), X),
    "cut": (lambda x: lax.rev(lax.slice(x, (0, 1, 1), (2, 6, 4), (1, 2, 1)), (0, 2)), X),
    "padded": (lambda x: lax.pad(x, jnp.float32(0.5), [(1, 0, 0), (-2, 3, 0), (0, -1, 0)]), X),
    "split": (lambda x: sum(part * n for n, part in enumerate(jnp.split(x, [1, 3, 4], axis=1)[:1], 2)), X),
    "unstacked": (lambda x: sum(part * n for n, part in enumerate(jnp.unstack(x, axis=1), 2)), X),
    "stacked": (lambda x: jnp.stack([x, jnp.ones((2, 6, 4)), 2 * x], axis=1), X),
    "repeated": (lambda x: x.repeat(2, axis=1)[:, :, None] * jnp.ones((1, 3, 1)), X),
    "reduced": (lambda x: jax.nn.softmax(x, axis=1).sum(1) + x.max(1) - x.min(1) + x.mean((0, 1)), X),
    "argmax": (lambda x: x.argmax(1) + jnp.cumsum(x, axis=2).argmax(1), X),
    "cumsum": (lambda x: jnp.cumsum(x, axis=1), X),
    "embedded": (lambda n: jnp.asarray(X[0])[n], IDS),
    "one_hot": (lambda n: jax.nn.one_hot(n, 4), IDS),
    "products": (lambda x: jnp.einsum("bij,bkj,lk->bil", x, x, np.ones((3, 6), np.float32) * X[0, :, 0]), X),
    "transposed_products": (lambda x: jnp.einsum("bij,lj->lib", x, X[0, :3]), X),
    "conv": (lambda x: conv(x[None], jnp.asarray(W), strides=(2, 1)), RNG.normal(size=(7, 6, 4)).astype(np.float32)),
    "conv_transpose": (
        lambda x: conv_transpose(x[None], jnp.asarray(W), strides=(2, 3), output_size=(13, 17)),
        RNG.normal(size=(7, 6, 5)).astype(np.float32),
    ),
    "valid": (lambda x: conv(x[None], jnp.asarray(W), padding=((1, -2), (0, 2))), np.ones((7, 6, 4), np.float32)),
    "computed_kernel": (lambda w: conv(jnp.ones((1, 6, 6, 4)), w), W),
    "scan": (lambda x: lax.scan(lambda h, row: (jnp.tanh(h + row), h * 2), jnp.ones((6, 4)), x)[1], X),
    "scan_of_known_rows": (lambda x: lax.scan(lambda h, n: (h * n + 1, n), x, jnp.arange(1.0, 4))[0], X),
    "reversed_scan": (lambda x: lax.scan(lambda h, row: (h / 2 + row, h), jnp.ones((6, 4)), x, reverse=True)[1], X),
    "cond": (lambda x: lax.cond(jnp.int32(3) > 2, jnp.sin, jnp.cos, x), X),
    "jit": (jax.jit(lambda x: jax.checkpoint(jax.nn.relu)(x) + jax.jit(jnp.exp)(x)), X),
    "narrow": (lambda x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32), np.float32(X.astype(jnp.bfloat16))),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_programs_give_what_jax_gives(name):
    function, x = FUNCTIONS[name]
    program = folded(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert set(names(program)) <= set(OPERATIONS)
    assert json.dumps([dict(equation.params) for equation in program.equations])  # plain numbers
    wanted = np.asarray(function(jnp.asarray(x)))
    made = evaluated(program, x)
    assert made.shape == wanted.shape == program.output.shape
    np.testing.assert_allclose(made, wanted, rtol=2e-5, atol=2e-6)


def test_functions_that_operations_cannot_express_are_told():
    x = jax.ShapeDtypeStruct((3,), np.float32)
    with pytest.raises(NotPortable, match="the primitive sort"):
        folded(jnp.sort, x)
    with pytest.raises(NotPortable, match="a branch that depends on the inputs"):
        folded(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), x)
    with pytest.raises(NotPortable, match="the primitive while"):
        folded(lambda x: lax.while_loop(lambda x: x[0] < 9, lambda x: x + 1, x), x)
    with pytest.raises(ValueError, match="returns one array, not 2"):
        folded(lambda x: (x, x), x)


@pytest.mark.parametrize("name", some_slow(DECODED, quick=["vae", "cgan"]))
def test_decoders_give_what_jax_gives(name):
    """Two draws of every model's latents, decoded in float64 from the constants of a program in float32."""
    given = dataset(CONTRACTS[name].dataset)
    module = models.load(name)
    model = module.make(module.Config(**CONTRACTS[name].small), given.spec)
    discrete = CONTRACTS[name].prior == "discrete"
    initial = discrete or name == "transgan"  # drawn parameters give it images outside [0, 1], which are clipped
    state = jax.jit(model.init)(jax.random.key(0)) if initial else drawn_state(model.init)
    examples = {entry: values[:2] for entry, values in given.train.items()}
    condition = {entry: examples[entry] for entry in model.conditions}
    if discrete:
        shapes = jax.eval_shape(model.latents.encode, state, examples)
        codes = jax.tree.map(lambda leaf: RNG.integers(0, 6, leaf.shape).astype(np.int32), shapes)
    else:
        codes = model.latents.prior.sample(jax.random.key(1), state, 2)

    def decode(codes, condition):
        return model.latents.decode(state, codes, condition)["image"]

    program = folded(decode, codes, condition)
    wanted = np.asarray(jax.jit(decode)(codes, condition))
    assert wanted.std() > 0.01
    made = evaluated(program, *jax.tree.leaves((codes, condition)))
    np.testing.assert_allclose(made, wanted, atol=2e-6)
