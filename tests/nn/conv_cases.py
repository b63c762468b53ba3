"""Convolutions to test, by jaxgen's operations and by lax. Small integer inputs make float32 sums exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxgen.nn.conv import conv, conv_transpose


def whole(seed, *shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype))


def explicit(case):
    """Padding ((top, bottom), (left, right)) for "SAME" and "VALID", computed as TensorFlow documents it."""
    if case["padding"] == "VALID":
        return (0, 0), (0, 0)
    if case["padding"] != "SAME":
        return case["padding"]
    pads = []
    for n, k, s in zip(case["size"], case["kernel"], case["strides"], strict=True):
        total = max(k - s, 0) if n % s == 0 else max(k - n % s, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def output(case):
    axes = zip(case["size"], case["kernel"], case["strides"], explicit(case), strict=True)
    return tuple((n + sum(pad) - k) // s + 1 for n, k, s, pad in axes)


def arrays(case):
    """Returns x, kernel and a cotangent of conv's result."""
    x = whole(0, case["batch"], *case["size"], case["channels"][0])
    w = whole(1, *case["kernel"], *case["channels"])
    return x, w, whole(2, case["batch"], *output(case), case["channels"][1])


def operations(case):
    options = {"strides": case["strides"], "padding": case["padding"]}
    return (
        lambda x, w: conv(x, w, **options),
        lambda g, w: conv_transpose(g, w, output_size=case["size"], **options),
    )


def references(case):
    """The same operations from lax with explicit padding, as XLA's mixed padding and cropping cannot be trusted."""

    def reference(x, w):
        (top, bottom), (left, right) = explicit(case)
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)])
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, w, case["strides"], "VALID", dimension_numbers=layout)

    def adjoint(g, w):
        x = jnp.zeros((g.shape[0], *case["size"], w.shape[2]), g.dtype)
        return jax.vjp(lambda x: reference(x, w), x)[1](g)[0]

    return reference, adjoint


# A kernel of 4 with stride 2 as in DCGAN, an odd one on odd and non-square images, a stride wider than the kernel,
# padding wider than the kernel and crops, one output pixel, stride 1.
SOME = [
    {"size": (8, 8), "kernel": (4, 4), "strides": (2, 2), "padding": "SAME", "batch": 2, "channels": (3, 4)},
    {"size": (7, 5), "kernel": (5, 3), "strides": (2, 1), "padding": "SAME", "batch": 2, "channels": (1, 2)},
    {"size": (7, 8), "kernel": (1, 2), "strides": (2, 3), "padding": "VALID", "batch": 1, "channels": (2, 1)},
    {
        "size": (5, 9),
        "kernel": (2, 4),
        "strides": (2, 2),
        "padding": ((3, -1), (-2, 5)),
        "batch": 2,
        "channels": (2, 3),
    },
    {"size": (4, 4), "kernel": (4, 4), "strides": (1, 1), "padding": "VALID", "batch": 2, "channels": (3, 2)},
    {"size": (5, 4), "kernel": (3, 3), "strides": (1, 1), "padding": "SAME", "batch": 2, "channels": (2, 2)},
    {"size": (5, 6), "kernel": (1, 1), "strides": (2, 1), "padding": ((1, 0), (2, -1)), "batch": 2, "channels": (3, 2)},
]
NAMES = ["even", "odd", "wide-stride", "mixed-pads", "one-pixel", "stride-1", "one-tap"]
some = pytest.mark.parametrize("case", SOME, ids=NAMES)
