"""Convolution and transposed convolution, fast to differentiate to any order on a CPU, inside `lax.scan` too.

With T(x, w, g) = <conv(x, w), g>, linear in each argument, the three operations are T's derivatives,

    conv(x, w) = dT/dg    the convolution
    dx(g, w)   = dT/dx    its gradient with respect to the input, which is the transposed convolution
    dw(x, g)   = dT/dw    its gradient with respect to the kernel

so each one's gradients are the other two. They are defined as three bilinear JAX primitives: a closed family,
in which every derivative (a gradient penalty's second order, forward mode) is again one of the three and lowers
to a form that is fast on the platform: `lax`'s or, on a CPU, a direct one (`jaxgen.nn.conv_forms`) or minimal
filtering (`jaxgen.nn.minimal_filtering`). Autodiff of `lax.conv_general_dilated` instead leaves the canonical
layout, for which XLA:CPU has only naive code: inside loops (jax issue 12868), and anywhere for the gradient of a
transposed convolution with respect to its kernel.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgen.nn.conv_forms import (
    Geometry,
    direct_conv,
    direct_dw,
    direct_dx,
    lax_conv,
    lax_dw,
    lax_dx,
    pad,
    split,
    varying,
)
from jaxgen.nn.minimal_filtering import best_tile, minimal_conv, minimal_dw, minimal_dx

Padding = str | Sequence[Sequence[int]]  # "SAME", "VALID" or ((top, bottom), (left, right))


# The primitives. All operands and results have a leading axis of seeds (1 if nothing is vmapped): seed n of a
# result depends on seed n of both operands. Lowering, where the platform is known, decides how the seeds are run.


def _primitive(name: str, form: Callable, cpu_form: Callable, shape: Callable, own_axes) -> Primitive:
    """Makes a primitive of two operands a, b.

    `form` and, for a CPU, `cpu_form`: (a, b, geometry) -> the result, all without the axis of seeds;
    `shape`: (a.shape, b.shape, geometry) -> the result's shape, with that axis; `own_axes`: for a and for b, an
    axis that the other operand lacks, and its place in the result.
    """
    primitive = Primitive(name)
    compiled = jax.jit(primitive.bind, static_argnames="geometry")

    @primitive.def_impl
    def _(a, b, *, geometry):
        with jax.disable_jit(False):  # with JAX_DISABLE_JIT it would call itself
            return compiled(a, b, geometry=geometry)

    @primitive.def_abstract_eval
    def _(a, b, *, geometry):
        return a.update(shape=shape(a.shape, b.shape, geometry), weak_type=False)

    def lowered(a, b, *, geometry):
        if a.shape[0] == 1:
            return form(a[0], b[0], geometry)[None]
        return jax.vmap(partial(form, geometry=geometry))(a, b)

    def cpu_lowered(a, b, *, geometry):  # unrolled: XLA:CPU has only naive code for grouped convolutions
        results = [cpu_form(a[n], b[n], geometry).astype(a.dtype) for n in range(a.shape[0])]
        return jnp.stack(results) if len(results) > 1 else results[0][None]

    mlir.register_lowering(primitive, mlir.lower_fun(lowered, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu_lowered, multiple_results=False), platform="cpu")

    def batched(operands, axes, *, geometry):
        operands, axis = list(operands), 0
        both = None not in axes
        for n in range(2):
            if axes[n] is not None:  # fold into the seeds or, if the other operand is not mapped, into an own axis
                size = operands[n].shape[axes[n]]
                into, axis = (0, 0) if both else own_axes[n]
                moved = jnp.moveaxis(operands[n], axes[n], into)
                shape = moved.shape
                operands[n] = moved.reshape(*shape[:into], size * shape[into + 1], *shape[into + 2 :])
        y = primitive.bind(*operands, geometry=geometry)
        return y.reshape(*y.shape[:axis], size, y.shape[axis] // size, *y.shape[axis + 1 :]), axis

    batching.primitive_batchers[primitive] = batched
    return primitive


def _y_shape(x, w, geometry):
    return *x[:2], *geometry.output, w[4]


def _x_shape(g, w, geometry):
    return *g[:2], *geometry.size, w[3]


def _w_shape(x, g, geometry):
    return x[0], *geometry.kernel, x[4], g[4]


def _for_cpu(direct: Callable, minimal: Callable, channels: Callable) -> Callable:
    """Form for a CPU: by minimal filtering where that is faster, else the direct one.

    `channels`: (a.shape, b.shape) -> channels of x and of g.
    """

    def form(a, b, geometry):
        if geometry.local or a.dtype != jnp.float32:
            return direct(a, b, geometry)
        tile = best_tile(geometry, len(a), *channels(a.shape, b.shape))
        return direct(a, b, geometry) if tile is None else minimal(a, b, geometry, tile)

    return form


_conv_for_cpu = _for_cpu(direct_conv, minimal_conv, lambda x, w: w[2:])
_dx_for_cpu = _for_cpu(direct_dx, minimal_dx, lambda g, w: w[2:])
_dw_for_cpu = _for_cpu(direct_dw, minimal_dw, lambda x, g: (x[3], g[3]))
conv_p = _primitive("conv", lax_conv, _conv_for_cpu, _y_shape, own_axes=((1, 1), (4, 4)))
dx_p = _primitive("conv_dx", lax_dx, _dx_for_cpu, _x_shape, own_axes=((1, 1), (3, 4)))
dw_p = _primitive("conv_dw", lax_dw, _dw_for_cpu, _w_shape, own_axes=((4, 3), (4, 4)))
ad.defbilinear(conv_p, lambda g, x, w, **k: dx_p.bind(g, w, **k), lambda g, x, w, **k: dw_p.bind(x, g, **k))
ad.defbilinear(dx_p, lambda x, g, w, **k: conv_p.bind(x, w, **k), lambda x, g, w, **k: dw_p.bind(x, g, **k))
ad.defbilinear(dw_p, lambda w, x, g, **k: dx_p.bind(g, w, **k), lambda w, x, g, **k: conv_p.bind(x, w, **k))


# The functions.


def conv(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    local: bool = False,
) -> Array:
    """Cross-correlates images with a kernel.

        y[b, p, q, o] = sum_{u, v, i} x[b, p * sh + u - top, q * sw + v - left, i] * kernel[u, v, i, o]

    Args:
        x: [batch, height, width, in], floating.
        kernel: [kernel height, kernel width, in, out], of x's dtype.
        strides: (sh, sw), positive.
        padding: "SAME" (ceil(size / stride) outputs), "VALID", or ((top, bottom), (left, right)); below 0 crops.
        local: whether an output depends, to the bit, on the inputs under its kernel alone, as causal layers need.
            Minimal filtering, faster on a CPU, lets a neighbor change an output by rounding, or make it NaN if the
            neighbor is not finite.

    Returns:
        [batch, height', width', out] of x's dtype, accumulated in float32 if that is narrower.

    Raises:
        TypeError: the dtypes differ or are not floating.
        ValueError: shapes, strides and padding do not fit together.
    """
    x, kernel = _operands("conv", x, kernel, contracted=2)
    geometry, crop = _geometry("conv", x.shape[1:3], kernel.shape[:2], strides, padding, local)
    return conv_p.bind(pad(x, crop)[None], kernel[None], geometry=geometry)[0]


def conv_transpose(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, int] = (2, 2),
    padding: Padding = "SAME",
    output_size: tuple[int, int] | None = None,
    local: bool = False,
) -> Array:
    """Applies the adjoint of `conv` with this kernel, strides and padding ("deconvolution").

        <conv(y, kernel), x> = <y, conv_transpose(x, kernel)>    for every y [batch, height', width', out]

    Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", section 4.

    Args:
        x: [batch, height, width, in], floating.
        kernel: [kernel height, kernel width, out, in], of x's dtype; the layout is that of the adjoint `conv`,
            whose input has this op's output channels.
        strides: (sh, sw), positive.
        padding: the adjoint `conv`'s: what it pads is cropped here, what it crops is zero here.
        output_size: (height', width'), any that `conv` maps to (height, width). Default: height * sh for
            "SAME", (height - 1) * sh + kernel height - top - bottom otherwise.
        local: as `conv`'s.

    Returns:
        [batch, height', width', out] of x's dtype, accumulated in float32 if that is narrower.

    Raises:
        TypeError: the dtypes differ or are not floating.
        ValueError: shapes, strides, padding and output_size do not fit together.
    """
    x, kernel = _operands("conv_transpose", x, kernel, contracted=3)
    if output_size is None:
        sizes = zip(x.shape[1:3], kernel.shape[:2], _pair("strides", strides), _pads(padding), strict=True)
        output_size = [m * s if given is None else (m - 1) * s + k - sum(given) for m, k, s, given in sizes]
    geometry, crop = _geometry("conv_transpose", output_size, kernel.shape[:2], strides, padding, local)
    if geometry.output != x.shape[1:3]:
        raise ValueError(
            f"conv_transpose: no output_size {tuple(output_size)} from {x.shape[1:3]}: a convolution with kernel "
            f"{geometry.kernel}, strides {geometry.strides}, padding {padding} takes it to {geometry.output}"
        )
    y = dx_p.bind(x[None], kernel[None], geometry=geometry)[0]
    return pad(y, [(-lo, -hi) for lo, hi in crop])


def _operands(name, x, kernel, contracted):
    for what, a in (("x", x), ("kernel", kernel)):
        if jnp.ndim(a) != 4:
            raise ValueError(f"{name}: {what} must have 4 axes, not shape {jnp.shape(a)}")
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: x and kernel must share a floating dtype, not {x.dtype} and {kernel.dtype}")
    if x.shape[3] != kernel.shape[contracted]:
        raise ValueError(
            f"{name}: x {x.shape} has {x.shape[3]} channels, kernel {kernel.shape} takes {kernel.shape[contracted]}"
        )
    # If one operand varies in a shard_map, both are made to, so that the other's gradient is summed over the devices.
    return varying(x, like=kernel), varying(kernel, like=x)


def _pair(what, value):
    if not (isinstance(value, Sequence) and len(value) == 2 and all(n >= 1 for n in value)):
        raise ValueError(f"{what} must be two positive integers, not {value}")
    return tuple(map(int, value))


def _pads(padding):
    """Returns ((top, bottom), (left, right)), with None for a pair that depends on the size."""
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return (None, None) if padding == "SAME" else ((0, 0), (0, 0))
    try:
        (top, bottom), (left, right) = padding
        return (int(top), int(bottom)), (int(left), int(right))
    except (TypeError, ValueError):
        message = f'padding must be "SAME", "VALID" or ((top, bottom), (left, right)), not {padding!r}'
        raise ValueError(message) from None


def _geometry(name, size, kernel, strides, padding, local):
    """Returns the convolution without negative pads, and the crop (pads of 0 or less) to apply before it."""
    size, strides, pads = _pair(f"{name}: image size", size), _pair("strides", strides), []
    for n, k, s, given in zip(size, kernel, strides, _pads(padding), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads.append((total // 2, total - total // 2) if given is None else given)
    crop, pads = split(pads)
    cropped = tuple(n + sum(pad) for n, pad in zip(size, crop, strict=True))
    geometry = Geometry(cropped, tuple(kernel), strides, tuple(pads), local)
    if min(cropped) < 1 or min(geometry.output) < 1:
        raise ValueError(f"{name}: kernel {tuple(kernel)} does not fit images {size} with padding {padding}")
    return geometry, crop


# The modules.


def _dtype(module, x):
    dtype = module.dtype or x.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{type(module).__name__}: x must be floating, not {x.dtype}; scale it first")
    return dtype


class Conv(nn.Module):
    """`conv` with parameters "kernel" [*kernel_size, in, features] and "bias" [features], float32.

    dtype is what it computes in and returns, the input's if None. mask, of the kernel's shape or one that broadcasts
    to it, is multiplied with the kernel: a weight with 0 is never used, and has a gradient of 0. With a mask, or if
    local is set, it is local as `conv` says.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros
    dtype: jnp.dtype | None = None
    mask: Array | np.ndarray | None = None
    local: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, height, width, in] -> [batch, height', width', features]."""
        dtype = _dtype(self, x)
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        if self.mask is not None:
            kernel = kernel * jnp.broadcast_to(jnp.asarray(self.mask, kernel.dtype), kernel.shape)
        local = self.local or self.mask is not None
        y = conv(x.astype(dtype), kernel.astype(dtype), strides=self.strides, padding=self.padding, local=local)
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,)).astype(dtype)
        return y


class ConvTranspose(nn.Module):
    """`conv_transpose` with parameters "kernel" [*kernel_size, features, in] and "bias" [features], float32.

    dtype is what it computes in and returns, the input's if None. local is that of `conv`.
    """

    features: int
    kernel_size: tuple[int, int] = (4, 4)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)  # fan-in: kh * kw * in
    bias_init: Callable = nn.initializers.zeros
    dtype: jnp.dtype | None = None
    local: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, height, width, in] -> [batch, height', width', features]."""
        dtype = _dtype(self, x)
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, self.features, x.shape[-1]))
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        y = conv_transpose(x, kernel, strides=self.strides, padding=self.padding, local=self.local)
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,)).astype(dtype)
        return y
