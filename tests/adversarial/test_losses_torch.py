"""Losses and penalties of a convolutional D against PyTorch's, if PyTorch is installed (the extra `bench`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.adversarial.losses import LOSSES, PENALTIES, penalized_at
from jaxgen.nn.conv import conv

torch = pytest.importorskip("torch")
functional = torch.nn.functional

REAL, FAKE = (np.random.default_rng(seed).normal(size=(5, 8, 8, 2)).astype(np.float32) for seed in (0, 1))
PARAMS = [
    np.random.default_rng(2).normal(scale=0.2, size=(4, 4, 2, 3)).astype(np.float32),
    np.random.default_rng(3).normal(scale=0.2, size=(4, 4, 3, 4)).astype(np.float32),
    np.random.default_rng(4).normal(scale=0.5, size=(2 * 2 * 4,)).astype(np.float32),
]


def logits(params, x):
    """Logits [batch] of a D with jaxgen's convolutions."""
    for kernel in params[:2]:
        x = jax.nn.leaky_relu(conv(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1))), 0.2)
    return x.reshape(len(x), -1) @ params[2]


def torch_logits(params, x):
    """Logits of the same D with PyTorch's convolutions; x is [batch, H, W, C] here too."""
    x = x.permute(0, 3, 1, 2)
    for kernel in params[:2]:
        x = functional.leaky_relu(functional.conv2d(x, kernel.permute(3, 2, 0, 1), stride=2, padding=1), 0.2)
    return x.permute(0, 2, 3, 1).flatten(1) @ params[2]


def torch_losses(name, real, fake):
    """Returns (D's loss, G's loss) [batch], by PyTorch's own functions where they exist."""
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    entropy = functional.binary_cross_entropy_with_logits
    each = {"reduction": "none"}
    if name in ("minimax", "non_saturating"):
        of_d = entropy(real, ones, **each) + entropy(fake, zeros, **each)
        of_g = entropy(fake, ones, **each) if name == "non_saturating" else -entropy(fake, zeros, **each)
        return of_d, of_g
    if name == "least_squares":
        squares = functional.mse_loss
        of_d = (squares(real, ones, **each) + squares(fake, zeros, **each)) / 2
        return of_d, squares(fake, ones, **each) / 2
    if name == "hinge":
        return (1 - real).clamp(min=0) + (1 + fake).clamp(min=0), -fake
    return fake - real, -fake


def torch_params():
    return [torch.tensor(p, requires_grad=True) for p in PARAMS]


def agree(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        b = b.detach().numpy()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_equal_pytorchs(name):
    def losses(params, fake):
        of_real, of_fake = logits(params, REAL), logits(params, fake)
        return LOSSES[name].discriminator(of_real, of_fake).mean(), LOSSES[name].generator(of_fake).mean()

    params = [jnp.asarray(p) for p in PARAMS]
    values = losses(params, FAKE)
    of_d = jax.jit(jax.grad(lambda params: losses(params, FAKE)[0]))(params)
    of_g = jax.jit(jax.grad(lambda fake: losses(params, fake)[1]))(FAKE)

    theirs, fake = torch_params(), torch.tensor(FAKE, requires_grad=True)
    d_loss, g_loss = torch_losses(name, torch_logits(theirs, torch.tensor(REAL)), torch_logits(theirs, fake))
    agree(values, (d_loss.mean(), g_loss.mean()))
    agree(of_d, torch.autograd.grad(d_loss.mean(), theirs, retain_graph=True))
    agree([of_g], torch.autograd.grad(g_loss.mean(), [fake]))


@pytest.mark.parametrize("place", ["between", "real", "fake"])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_and_their_gradients_equal_pytorchs(name, place):
    key = jax.random.key(5)
    at = penalized_at(key, place, jnp.asarray(REAL), jnp.asarray(FAKE))
    params = [jnp.asarray(p) for p in PARAMS]
    value, gradients = jax.jit(
        jax.value_and_grad(lambda params: PENALTIES[name](lambda x: logits(params, x), at).mean())
    )(params)

    e = torch.tensor(np.asarray(jax.random.uniform(key, (5, 1, 1, 1))))
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    x = {"between": e * real + (1 - e) * fake, "real": real, "fake": fake}[place].requires_grad_()
    theirs = torch_params()
    (slopes,) = torch.autograd.grad(torch_logits(theirs, x).sum(), x, create_graph=True)
    norms = slopes.flatten(1).norm(dim=1)
    penalty = ((norms - 1) ** 2 if name == "one_centered" else norms**2 / 2).mean()
    agree([value], [penalty])
    agree(gradients, torch.autograd.grad(penalty, theirs))
