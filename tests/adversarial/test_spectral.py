"""Spectral normalization against numpy's singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.adversarial.spectral import singular_vectors, spectrally_normalized


@pytest.fixture
def params():
    conv, dense, bias = jax.random.split(jax.random.key(0), 3)
    return {
        "Conv_0": {"kernel": jax.random.normal(conv, (4, 4, 3, 8)), "bias": jax.random.normal(bias, (8,))},
        "Dense_0": {"kernel": 0.01 * jax.random.normal(dense, (30, 5)), "bias": jnp.ones(5)},
    }


def singular_values(kernel):
    """Singular values of the paper's matrix [out, in * kernel height * kernel width], in float64."""
    matrix = np.moveaxis(np.asarray(kernel, np.float64), -1, 0).reshape(kernel.shape[-1], -1)
    return np.linalg.svd(matrix, compute_uv=False)


def converged(params, steps=200):
    vectors = singular_vectors(jax.random.key(1), params)
    step = jax.jit(spectrally_normalized)
    for _ in range(steps):
        normalized, vectors = step(params, vectors)
    return normalized, vectors


def test_every_kernel_is_divided_by_its_largest_singular_value(params):
    normalized, _ = converged(params)
    for name, layer in params.items():
        largest = singular_values(layer["kernel"])[0]
        np.testing.assert_allclose(normalized[name]["kernel"], layer["kernel"] / largest, rtol=1e-4)
        assert singular_values(normalized[name]["kernel"])[0] == pytest.approx(1, rel=1e-5)
        np.testing.assert_array_equal(normalized[name]["bias"], layer["bias"])


def test_a_step_of_the_iteration_is_the_papers(params):
    """Algorithm 1 in float64: v = unit(W' u), u = unit(W v), sigma = u' W v, with W [out, in]."""
    before = singular_vectors(jax.random.key(1), params)
    normalized, after = spectrally_normalized(params, before)
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"], np.float64)
        W = kernel.reshape(-1, kernel.shape[-1]).T
        u = np.asarray(before[name]["kernel"], np.float64)
        assert np.linalg.norm(u) == pytest.approx(1, rel=1e-5)
        assert before[name]["bias"] is None
        v = W.T @ u / np.linalg.norm(W.T @ u)
        u = W @ v / np.linalg.norm(W @ v)
        np.testing.assert_allclose(after[name]["kernel"], u, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(normalized[name]["kernel"], kernel / (u @ W @ v), rtol=1e-5)


def test_the_gradient_is_through_sigma(params):
    """The gradient of <g, W / s> at convergence is (g - <g, W / s> u v') / s (section 2.3), with numpy's u and v."""
    kernel = params["Dense_0"]["kernel"]
    g = jax.random.normal(jax.random.key(2), kernel.shape)
    _, vectors = converged(params)
    gradient = jax.jit(
        jax.grad(lambda kernel: (g * spectrally_normalized(kernel, vectors["Dense_0"]["kernel"])[0]).sum())
    )(kernel)
    v, s, u = np.linalg.svd(np.asarray(kernel, np.float64))
    g = np.asarray(g, np.float64)
    expected = (g - (g * kernel).sum() / s[0] * np.outer(v[:, 0], u[0])) / s[0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_gradient_holds_the_vectors_of_one_step_fixed(params):
    """Far from convergence, where v and u still move with W: (g - <g, W> u v' / sigma) / sigma, sigma = u' W v."""
    before = singular_vectors(jax.random.key(1), params)["Dense_0"]["kernel"]
    kernel = np.asarray(params["Dense_0"]["kernel"], np.float64)
    g = np.asarray(jax.random.normal(jax.random.key(2), kernel.shape), np.float64)
    gradient = jax.jit(jax.grad(lambda kernel: (jnp.float32(g) * spectrally_normalized(kernel, before)[0]).sum()))(
        params["Dense_0"]["kernel"]
    )
    v = kernel @ np.asarray(before, np.float64)
    v /= np.linalg.norm(v)
    u = kernel.T @ v / np.linalg.norm(kernel.T @ v)
    sigma = v @ kernel @ u
    expected = (g - (g * kernel).sum() / sigma * np.outer(v, u)) / sigma
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
