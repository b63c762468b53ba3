"""Labels of codes: the hinge loss as the pseudo-likelihood of a Bayesian SVM, and averaged predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from jaxgen.nn import labels

label_log_prob, averaged = (jax.jit(f, static_argnums=0) for f in (labels.label_log_prob, labels.averaged))


@jax.jit
def margin_log_prob(margins):
    """Log pseudo-likelihood of one class alone, whose y is 1."""
    return label_log_prob("svm", margins[:, None], jnp.zeros(len(margins), jnp.int32))


@pytest.mark.parametrize("margin", [-2.0, -0.5, 0.0, 0.9, 3.0])
def test_the_hinge_is_a_mixture_of_gaussians(margin):
    """The integral over lambda = u^2, which has no singularity, of exp(-(1 + lambda - m)^2 / (2 lambda))."""

    def density(u):
        return 2 / np.sqrt(2 * np.pi) * np.exp(-((1 + u**2 - margin) ** 2) / (2 * u**2)) if u else 0.0

    integral, _ = scipy.integrate.quad(density, 0, np.inf, limit=200)
    np.testing.assert_allclose(margin_log_prob(np.float32([margin])), [np.log(integral)], atol=1e-5)


def test_each_class_stands_against_the_others():
    """Label 1 of three: 2 (1 - 0.5) for its own margin, 2 (1 - 0.2) and 2 (1 + 3) less for the others."""
    outputs = np.float32([[-0.2, 0.5, 3.0], [-1.0, 2.0, -5.0]])
    np.testing.assert_allclose(label_log_prob("svm", outputs, np.int32([1, 1])), [-1 - 1.6 - 8, 0], rtol=1e-6)
    p = np.exp(outputs[0]) / np.exp(outputs[0]).sum()
    np.testing.assert_allclose(
        np.asarray(label_log_prob("softmax", outputs, np.int32([2, 0])))[0], np.log(p[2]), rtol=1e-5
    )


@pytest.mark.parametrize("head", ["softmax", "svm"])
def test_an_unknown_label_adds_nothing_and_has_no_gradient(head):
    outputs, label = jax.random.normal(jax.random.key(0), (4, 3)), np.int32([0, -1, 2, -1])
    assert (np.asarray(label_log_prob(head, outputs, label)) == 0).tolist() == [False, True, False, True]
    gradient = jax.jit(jax.grad(lambda outputs: label_log_prob(head, outputs, label).sum()))(outputs)
    assert np.asarray(gradient).any(axis=1).tolist() == [True, False, True, False]


def test_the_slope_at_the_kink_is_one_of_the_subgradients():
    slope = jax.jit(jax.grad(lambda m: margin_log_prob(m).sum()))(np.float32([0.99, 1.0, 1.01]))
    slope = np.asarray(slope)
    assert (slope[0], slope[2]) == (2, 0)
    assert 0 <= slope[1] <= 2


def test_em_over_lambda_climbs_to_the_optimum_of_the_hinge():
    """E: the mean of 1 / lambda is 1 / |1 - y b's|. M: a ridge regression with these weights. Both are the reference.

    Each step raises the penalized pseudo-likelihood, up to the optimum that SciPy finds of the same.
    """
    rng, ridge = np.random.default_rng(0), 2.0
    s = rng.normal(size=(60, 3))
    y = np.sign(s @ [1.0, -2.0, 0.5] + rng.normal(size=60))

    def objective(beta):
        return float(np.sum(margin_log_prob(np.float32(y * (s @ beta))))) - ridge / 2 * beta @ beta

    beta, found = np.zeros(3), []
    for _ in range(300):
        weight = 1 / np.maximum(np.abs(1 - y * (s @ beta)), 1e-6)
        beta = np.linalg.solve((s * weight[:, None]).T @ s + ridge * np.eye(3), s.T @ (y * (1 + weight)))
        found.append(objective(beta))
    assert (np.diff(found) > -1e-3).all()  # float32
    assert found[-1] > found[0] + 0.5
    best = scipy.optimize.minimize(lambda beta: -objective(beta), beta + 0.1, method="Nelder-Mead", tol=1e-6)
    np.testing.assert_allclose(beta, best.x, atol=0.02)
    np.testing.assert_allclose(found[-1], -best.fun, atol=0.01)


def test_predictions_are_averaged_over_codes():
    """Two codes with p = 0.9 and 0.2 have the mean 0.55; margins are averaged themselves."""
    outputs = np.log(np.float32([[[0.9, 0.1]], [[0.2, 0.8]]])) + 3
    np.testing.assert_allclose(np.exp(averaged("softmax", outputs)), [[0.55, 0.45]], rtol=1e-5)
    np.testing.assert_allclose(averaged("svm", np.float32([[[1.0, -4.0]], [[2.0, 0.0]]])), [[1.5, -2]])
