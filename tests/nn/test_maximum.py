import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.maximum import larger


def test_the_larger_and_its_gradient():
    a, b = jnp.asarray([1.0, 5, 2, np.nan, 0, np.inf]), jnp.asarray([3.0, 4, 2, 0, np.nan, -np.inf])
    np.testing.assert_array_equal(larger(a, b), np.maximum(a, b))
    to_a, to_b = jax.jit(jax.grad(lambda a, b: larger(a, b).sum(), argnums=(0, 1)))(a, b)
    np.testing.assert_array_equal(to_a, [0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(to_b, 1 - to_a)


def test_its_gradient_is_whole_where_what_it_compares_is_computed_anew():
    """The gradient neither compares with the result nor divides by the number of values equal to it."""
    program = str(jax.make_jaxpr(jax.grad(lambda a, b: larger(a, b).sum(), argnums=(0, 1)))(jnp.ones(3), jnp.ones(3)))
    assert " eq " not in program
    assert " div " not in program
