"""Both operations against PyTorch's conv2d and conv_transpose2d, if PyTorch is installed (the extra `bench`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxgen.nn.conv import conv, conv_transpose

torch = pytest.importorskip("torch")
functional = torch.nn.functional

PAIRS = {
    name: st.tuples(st.integers(*ends), st.integers(*ends))
    for name, ends in {"kernel": (1, 5), "strides": (1, 3)}.items()
}
CASES = st.fixed_dictionaries(
    PAIRS
    | {
        "size": st.tuples(st.integers(5, 12), st.integers(5, 12)),
        "pads": st.tuples(st.integers(0, 3), st.integers(0, 3)),  # PyTorch pads both ends equally
        "batch": st.integers(1, 4),
        "channels": st.tuples(st.integers(1, 6), st.integers(1, 6)),
        "seed": st.integers(0, 1000),
    }
)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def nchw(a):
    return torch.tensor(a).permute(0, 3, 1, 2).contiguous().requires_grad_()


def agree(actual, expected, what):
    """Checks agreement within float32 rounding of sums of up to 5 * 5 * 6 * 144 products of size 1."""
    np.testing.assert_allclose(
        actual, expected.detach().numpy(), rtol=1e-5, atol=2e-5 * np.sqrt(actual.size), err_msg=what
    )


@settings(deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_values_and_all_gradients_equal_pytorchs(case):
    padding = tuple((pad, pad) for pad in case["pads"])
    options = {"strides": case["strides"], "padding": padding}
    x = normal(case["seed"], case["batch"], *case["size"], case["channels"][0])
    w = normal(case["seed"] + 1, *case["kernel"], *case["channels"])
    y, pullback = jax.vjp(lambda x, w: conv(x, w, **options), jnp.asarray(x), jnp.asarray(w))
    g = normal(case["seed"] + 2, *y.shape)
    dx, dw = pullback(jnp.asarray(g))

    torch_x, torch_w = nchw(x), torch.tensor(w).permute(3, 2, 0, 1).contiguous().requires_grad_()
    torch_y = functional.conv2d(torch_x, torch_w, stride=case["strides"], padding=case["pads"])
    torch_dx, torch_dw = torch.autograd.grad(torch_y, (torch_x, torch_w), nchw(g).detach())
    agree(y, torch_y.permute(0, 2, 3, 1), "conv")
    agree(dx, torch_dx.permute(0, 2, 3, 1), "conv: gradient of x")
    agree(dw, torch_dw.permute(2, 3, 1, 0), "conv: gradient of the kernel")

    z, pullback = jax.vjp(
        lambda g, w: conv_transpose(g, w, output_size=case["size"], **options), jnp.asarray(g), jnp.asarray(w)
    )
    dg, dw = pullback(jnp.asarray(x))
    torch_g = nchw(g)
    axes = zip(case["size"], case["kernel"], case["strides"], case["pads"], g.shape[1:3], strict=True)
    left_over = [n - ((m - 1) * s - 2 * pad + k) for n, k, s, pad, m in axes]  # less than the stride
    torch_z = functional.conv_transpose2d(
        torch_g, torch_w, stride=case["strides"], padding=case["pads"], output_padding=left_over
    )
    torch_dg, torch_dw = torch.autograd.grad(torch_z, (torch_g, torch_w), nchw(x).detach())
    agree(z, torch_z.permute(0, 2, 3, 1), "conv_transpose")
    agree(dg, torch_dg.permute(0, 2, 3, 1), "conv_transpose: gradient of x")
    agree(dw, torch_dw.permute(2, 3, 1, 0), "conv_transpose: gradient of the kernel")
