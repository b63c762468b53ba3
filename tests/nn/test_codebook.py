"""Codebooks against a hand-worked update, closed forms, and the gradients that they pass on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn import codebook as cb
from jaxgen.nn.codebook import Codebook

KEY = jax.random.key(0)
nearest, perplexity, used = (jax.jit(function) for function in (cb.nearest, cb.perplexity, cb.used))


def book(codes, counts):
    """Codebook with these codes and counts, and the sums that go with them."""
    codes, counts = np.float32(codes), np.float32(counts)
    return Codebook(jnp.asarray(codes), jnp.asarray(counts), jnp.asarray(codes * counts[:, None]))


def test_an_update_worked_by_hand():
    """Codes 0 and 10, vectors 1, 2 and 9: n = (2, 1), sums 3 and 9, N = (1.1, 1), m = (.3, 9.9), e = m / N."""
    before, z = book([[0], [10]], [1, 1]), jnp.array([[1.0], [2.0], [9.0]])
    index = nearest(before.codes, z)
    np.testing.assert_array_equal(index, [0, 0, 1])
    after = cb.moved(before, z, index, 0.9, smoothing=0.0)
    np.testing.assert_allclose(after.counts, [1.1, 1.0], rtol=1e-6)
    np.testing.assert_allclose(after.sums[:, 0], [0.3, 9.9], rtol=1e-6)
    np.testing.assert_allclose(after.codes[:, 0], [0.272727, 9.9], rtol=2e-6)
    # Smoothed by 1/2: N~ = (1.6, 1.5) / 3.1 * 2.1, and N itself is as before.
    smooth = cb.moved(before, z, index, 0.9, smoothing=0.5)
    np.testing.assert_allclose(smooth.codes[:, 0], [0.3 / (1.6 / 3.1 * 2.1), 9.9 / (1.5 / 3.1 * 2.1)], rtol=1e-6)
    np.testing.assert_allclose(smooth.counts, after.counts)


def test_the_nearest_code_is_the_first_of_several():
    """Far from 0 too, where squares of 1e6 would leave no digits for the differences."""
    rng = np.random.default_rng(0)
    codes, z = rng.normal(size=(7, 3)), rng.normal(size=(5, 4, 3))
    expected = ((z[..., None, :] - codes) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(nearest(jnp.float32(codes), jnp.float32(z)), expected)
    assert nearest(jnp.array([[1.0], [2.0], [2.0], [1.0]]), jnp.array([1.9])) == 1
    found = nearest(jnp.array([[0.0], [0.5]]), jnp.array([[1000.2], [1000.3]]) - 1000)
    np.testing.assert_array_equal(found, [0, 1])


@pytest.mark.parametrize("cosine", [False, True])
def test_gradients_pass_the_codes_and_commit_the_vectors(cosine):
    """d loss / d z = d loss / d q + 2 beta (z - e) / n; codes get none.

    With cosines this is the gradient of the vectors of length 1.
    """
    quantizer = cb.averages(5, 3, 0.99, cosine)
    codebook = quantizer.start(KEY)
    rng = np.random.default_rng(1)
    z, weight, beta = jnp.float32(rng.normal(size=(4, 2, 3))), jnp.float32(rng.normal(size=(4, 2, 3))), 0.25
    z = cb.unit(z) if cosine else z

    def loss(z, codes):
        found = quantizer(codebook._replace(codes=codes), z)
        return (jnp.sin(found.code) * weight).sum() + beta * quantizer.commitment(found)

    of_z, of_codes = jax.jit(jax.grad(loss, (0, 1)))(z, codebook.codes)
    found = quantizer(codebook, z)
    q = np.asarray(codebook.codes)[np.asarray(found.index)]
    np.testing.assert_array_equal(found.code, q)  # to the bit: codes alone decode to the same
    expected = np.cos(q) * weight + 2 * beta * (z - q) / z.size
    if cosine:  # the projection that keeps the length
        expected -= (expected * z).sum(-1, keepdims=True) * z
    np.testing.assert_allclose(of_z, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(of_codes, 0)


def test_a_code_without_a_vector_stays_where_it_is():
    """A start from counts of 0 instead, as in another code, throws it out to 1e5 times its length at once."""
    quantizer = cb.averages(8, 4, 0.99)
    z = 0.1 * jax.random.normal(KEY, (50, 4)) + quantizer.start(KEY).codes[3]

    @jax.jit
    def after(codebook, steps):
        def step(_, codebook):
            return quantizer.updated(KEY, codebook, quantizer(codebook, z), False)

        return jax.lax.fori_loop(0, steps, step, codebook)

    start = quantizer.start(KEY)
    unhit = np.setdiff1d(np.arange(8), quantizer(start, z).index)
    assert len(unhit) >= 5
    for steps in (1, 200):
        found = after(start, steps)
        np.testing.assert_allclose(found.codes[unhit], start.codes[unhit], rtol=1e-4)
        np.testing.assert_allclose(found.counts[unhit], 0.99**steps, rtol=1e-4)
    assert np.linalg.norm(found.codes[3] - z.mean(0)) < 0.2
    elsewhere = after(start._replace(counts=jnp.zeros(8)), 1)
    assert np.linalg.norm(elsewhere.codes[unhit], axis=1).min() > 1e3


def test_a_dead_code_is_replaced_whole():
    """Counts 10, .01 and 2 have a mean of 4.003; .2 is the least at a share of .05, so only the second is dead."""
    before = book([[1, 1], [50, 50], [-1, 2]], [10, 0.01, 2])
    z = jnp.array([[3.0, 4.0], [5.0, 6.0]])
    after = cb.replaced(KEY, before, z, share=0.05)
    least = 0.05 * 12.01 / 3
    np.testing.assert_allclose(after.counts, [10, 2 * least, 2], rtol=1e-6)
    assert after.codes[1].tolist() in z.tolist()
    np.testing.assert_allclose(after.sums[1], 2 * least * after.codes[1], rtol=1e-6)
    for kept in (0, 2):
        np.testing.assert_array_equal(after.codes[kept], before.codes[kept])
        np.testing.assert_array_equal(after.sums[kept], before.sums[kept])
    # Without a vector it is where it was, and its count falls: nothing of the old average comes back.
    later = cb.moved(after, jnp.array([[1.0, 1.0]]), jnp.array([0]), 0.99)
    np.testing.assert_allclose(later.codes[1], after.codes[1], rtol=1e-3)


def test_all_codes_come_into_use():
    """16 clusters, one code among them and 15 far away, which alone would stay there for good."""
    rng = np.random.default_rng(0)
    centers = jnp.float32(rng.normal(size=(16, 8)))
    quantizer = cb.averages(16, 8, 0.9)
    start = book(rng.normal(size=(16, 8)) + 100 * (np.arange(16) > 0)[:, None], np.ones(16))

    @jax.jit
    def trained(replacing):
        def step(i, codebook):
            k_which, k_noise, k_dead = jax.random.split(jax.random.fold_in(KEY, i), 3)
            z = centers[jax.random.randint(k_which, (200,), 0, 16)] + 0.01 * jax.random.normal(k_noise, (200, 8))
            return quantizer.updated(k_dead, codebook, quantizer(codebook, z), replacing)

        return jax.lax.fori_loop(0, 100, step, start)

    alive, dead = trained(True), trained(False)
    assert used(dead.counts) == 1 / 16
    assert perplexity(dead.counts) < 1.01
    assert used(alive.counts) > 0.8
    assert perplexity(alive.counts) > 12


def test_codes_by_cosine_have_length_1():
    """The largest cosine decides, not the distance; after an update a code is its average's direction."""
    quantizer = cb.averages(2, 2, 0.5, cosine=True)
    codebook = book([[1, 0], [0, 1]], [1, 1])
    found = quantizer(codebook, jnp.array([[30.0, 40.0], [0.04, 0.03]]))
    np.testing.assert_array_equal(found.index, [1, 0])
    np.testing.assert_allclose(found.z, [[0.6, 0.8], [0.8, 0.6]], rtol=1e-6)
    after = quantizer.updated(KEY, codebook, found, False)
    np.testing.assert_allclose(after.sums, [[0.9, 0.3], [0.3, 0.9]], rtol=1e-6)
    np.testing.assert_allclose(after.codes, np.array([[0.9, 0.3], [0.3, 0.9]]) / np.sqrt(0.9), rtol=1e-6)


def test_codes_begin_at_vectors_of_the_data():
    quantizer = cb.averages(6, 2, 0.99)
    z = jnp.float32(np.random.default_rng(0).normal(size=(3, 4, 2)))
    found = quantizer.begun(KEY, quantizer.start(KEY), z)
    rows = np.asarray(z).reshape(-1, 2).tolist()
    assert all(code in rows for code in found.codes.tolist())
    np.testing.assert_array_equal(found.sums, found.codes)
    np.testing.assert_array_equal(found.counts, 1)


def test_perplexity_and_use_in_closed_form():
    assert perplexity(jnp.full(8, 3.0)) == pytest.approx(8)
    assert perplexity(jnp.array([5.0, 0, 0])) == pytest.approx(1)
    p = np.array([0.5, 0.25, 0.25])
    assert perplexity(jnp.float32(4 * p)) == pytest.approx(np.prod(p**-p))
    assert used(jnp.array([20.0, 20, 0.9, 1.1])) == 0.75  # the mean is 10.5, a tenth of it 1.05
    # Of 20 codes one has all vectors, the others were just replaced: they do not count as used.
    collapsed = cb.replaced(KEY, book(np.ones((20, 1)), [1000.0] + [0.0] * 19), jnp.ones((4, 1)))
    assert used(collapsed.counts) == pytest.approx(1 / 20)


def test_finite_scalars_are_rounded_and_numbered_in_order():
    """Levels 4 and 3: numbers -2, -1, 0, 1 over 2, and -1, 0, 1; the middle of the bound is 0 for both."""
    quantizer = cb.finite_scalars((4, 3), 0.9)
    codebook = quantizer.start(KEY)
    expected = [[a / 2, b] for a, b in itertools.product((-2, -1, 0, 1), (-1, 0, 1))]
    np.testing.assert_allclose(codebook.codes, expected)
    assert (quantizer.num, quantizer.dim) == (12, 2)
    far = jnp.float32(50 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1], [0, 0]]))
    np.testing.assert_array_equal(quantizer(codebook, far).index, [0, 2, 9, 11, 7])
    np.testing.assert_allclose(quantizer.compared(jnp.zeros(2)), 0, atol=1e-6)

    z = jnp.float32(np.random.default_rng(0).normal(size=(300, 2)))
    found = quantizer(codebook, z)
    distance = ((np.asarray(found.z)[:, None] - np.asarray(codebook.codes)) * [2, 1]) ** 2
    np.testing.assert_array_equal(found.index, distance.sum(-1).argmin(-1))
    np.testing.assert_array_equal(found.code, codebook.codes[found.index])
    assert quantizer.commitment(found) == 0
    gradient = jax.jit(jax.grad(lambda z: quantizer(codebook, z).code.sum()))(z)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(lambda z: quantizer.compared(z).sum()))(z))
    assert (gradient > 0).all()

    after = quantizer.updated(KEY, codebook, found, True)
    hits = np.bincount(np.asarray(found.index), minlength=12)
    np.testing.assert_allclose(after.counts, 0.9 + 0.1 * hits, rtol=1e-6)
    np.testing.assert_array_equal(after.codes, codebook.codes)
    assert quantizer.begun(KEY, codebook, z) is codebook
