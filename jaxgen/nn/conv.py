"""Convolution and transposed convolution, fast to differentiate to any order on a CPU, inside `lax.scan` too.

With T(x, w, g) = <conv(x, w), g>, linear in each argument, the three operations are T's derivatives,

    conv(x, w) = dT/dg    the convolution
    dx(g, w)   = dT/dx    its gradient with respect to the input, which is the transposed convolution
    dw(x, g)   = dT/dw    its gradient with respect to the kernel

so each one's gradients are the other two. They are defined as three bilinear JAX primitives: a closed family,
in which every derivative (a gradient penalty's second order, forward mode) is again one of the three and lowers
to a form that is fast on the platform. Autodiff of `lax.conv_general_dilated` instead leaves the canonical
layout, for which XLA:CPU has only naive code: inside loops (jax issue 12868), and anywhere for the gradient of a
transposed convolution with respect to its kernel.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgen.compatibility import made_varying, varying_axes

Padding = str | Sequence[Sequence[int]]  # "SAME", "VALID" or ((top, bottom), (left, right))


class Geometry(NamedTuple):
    """Geometry of a strided convolution, as pairs for (height, width); static, shared by the three operations."""

    size: tuple[int, int]  # H, W of x
    kernel: tuple[int, int]  # kh, kw of w
    strides: tuple[int, int]  # sh, sw
    padding: tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right), none negative

    @property
    def output(self) -> tuple[int, int]:
        """H', W' of g."""
        height, width = ((n + sum(pad) - k) // s + 1 for n, k, s, pad in zip(*self, strict=True))
        return height, width

    def axes(self):
        """Yields (size, kernel, stride, (lo, hi), output) for height and for width."""
        return zip(*self, self.output, strict=True)


# Forms: x [batch, H, W, in], w [kh, kw, in, out], g [batch, H', W', out]. First those of `lax`, for any platform.

LAYOUT = ("NHWC", "HWIO", "NHWC")


def _lax_conv(x, w, geometry):
    return lax.conv_general_dilated(x, w, geometry.strides, geometry.padding, dimension_numbers=LAYOUT)


def _lax_dx(g, w, geometry):
    x = jax.ShapeDtypeStruct((g.shape[0], *geometry.size, w.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _lax_conv(x, w, geometry), x)(g)[0]


def _lax_dw(x, g, geometry):
    w = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[3], g.shape[3]), x.dtype)
    return jax.linear_transpose(lambda w: _lax_conv(x, w, geometry), w)(g)[0]


# Forms for a CPU. They return float32 for narrower operands.


def _accumulator(a):
    return jnp.float32 if jnp.finfo(a.dtype).bits < 32 else a.dtype


def _pad(x, pads):
    """Pads the rows and columns of [batch, H, W, channels] with zeros; negative pads crop."""
    if all(lo == hi == 0 for lo, hi in pads):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])


def _split(pads):
    """Splits pads into their negative and positive parts."""
    return [(min(lo, 0), min(hi, 0)) for lo, hi in pads], [(max(lo, 0), max(hi, 0)) for lo, hi in pads]


def _canonical(x, w, pads, strides=(1, 1), dilation=(1, 1)):
    """Convolves in the only layout that XLA:CPU runs fast inside loops."""
    crop, pads = _split(pads)
    x = _pad(x, crop)  # first: XLA:CPU reads out of bounds if it mixes the two (openxla/xla issue 48713)
    options = {"dimension_numbers": LAYOUT, "preferred_element_type": _accumulator(x)}
    return lax.conv_general_dilated(x, w, strides, pads, rhs_dilation=dilation, **options)


def _varying(a, *, like):
    """Makes `a` varying over all axes of a shard_map that `like` varies over."""
    return made_varying(a, varying_axes(like) - varying_axes(a))


def _product(a, b, axis_a, axis_b):
    """Product of two matrices, contracted over one axis of each."""
    return lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((), ())), preferred_element_type=_accumulator(a))


CACHE = 2**22
"""Bytes processed at once: intermediate results of a whole batch would leave the cache. 4 MB was the
best of 1 to 64 for DCGAN-64's layers (2 cores with 1 MB of L2 each, 32 MB of L3): 350 to 420 GFLOP/s of a matrix
product's 450, compared with 190 to 350 for whole batches."""

LEAST_PIXELS = 512
"""Minimum output pixels per `_dw` chunk; smaller chunks cost more in summation than they save."""


def _chunks(batch: int, wanted: int) -> int:
    """Number of equal parts to cut a batch into: the smallest divisor from `wanted` on, or 1 if that is far off.

    It is also 1 if `wanted` is 2: the loop costs what it saves, and compiling it costs more.
    """
    wanted = min(wanted, batch)
    return next((parts for parts in range(wanted, 4 * wanted) if batch % parts == 0), 1) if wanted > 2 else 1


def _by_chunks(form, batch, example_bytes):
    """Applies `form` to a batch one chunk at a time; an example takes `example_bytes` of cache."""
    parts = _chunks(len(batch), -(-len(batch) * example_bytes // CACHE))
    if parts == 1:
        return form(batch)
    cut = batch.reshape(parts, -1, *batch.shape[1:])
    one = jax.eval_shape(form, cut[0])
    # Overwritten entirely. Zeros, as in `lax.map`, would be shared by all loops and copied: half as much memory again.
    y = jnp.broadcast_to(batch[(0,) * batch.ndim].astype(one.dtype), (parts, *one.shape))

    def take(i, y):
        chunk = lax.dynamic_index_in_dim(cut, i, keepdims=False, allow_negative_indices=False)
        return lax.dynamic_update_index_in_dim(y, form(chunk), i, 0, allow_negative_indices=False)

    return lax.fori_loop(0, parts, take, y).reshape(-1, *one.shape[1:])


def _pixels(x, geometry):
    """Input pixels seen by a kernel of one tap: [batch * H' * W', in]."""
    x = _pad(x, [(lo, (m - 1) * s + 1 - n - lo) for n, _, s, (lo, _), m in geometry.axes()])
    sh, sw = geometry.strides
    return x[:, ::sh, ::sw].reshape(-1, x.shape[3])


def _conv(x, w, geometry):
    """Convolves by a product of matrices for one tap, else by XLA's convolution."""
    if geometry.kernel == (1, 1):
        return _product(_pixels(x, geometry), w[0, 0], 1, 0).reshape(-1, *geometry.output, w.shape[3])
    return _canonical(x, w, geometry.padding, geometry.strides)


def _dx(g, w, geometry):
    """Multiplies g by the kernel, which gives a patch of x per pixel, and adds up the patches where they overlap.

    With tap u = s * j + phase, the patch of pixel p reaches x at s * (p + j) + phase - lo: as a map of
    [rows, columns, phases] the patches' pieces j overlap shifted by j, and nothing is multiplied by zeros.
    """
    (kh, kw), (sh, sw), (rows, columns), features = geometry.kernel, geometry.strides, geometry.output, w.shape[2]
    (jh, jw), matrix = (-(-kh // sh), -(-kw // sw)), w.reshape(-1, w.shape[3])
    zero, whole = jnp.zeros((), _accumulator(g)), (0, 0, 0)

    def form(g):
        y = _product(g.reshape(-1, g.shape[3]), matrix, 1, 1).reshape(-1, rows, columns, kh, kw, features)
        y = lax.pad(y, zero, [whole, whole, whole, (0, jh * sh - kh, 0), (0, jw * sw - kw, 0), whole])
        y = y.reshape(-1, rows, columns, jh, sh, jw, sw * features)
        pieces = [
            lax.pad(y[:, :, :, i, :, j], zero, [whole, (i, jh - 1 - i, 0), (j, jw - 1 - j, 0), whole, whole])
            for i, j in np.ndindex(jh, jw)
        ]
        y = jnp.swapaxes(sum(pieces[1:], pieces[0]), 2, 3)
        y = y.reshape(-1, (rows + jh - 1) * sh, (columns + jw - 1) * sw, features)
        ends = zip(geometry.size, geometry.padding, y.shape[1:3], strict=True)
        return _pad(y, [(-lo, n + lo - m) for n, (lo, _), m in ends])

    return _by_chunks(form, g, math.prod((rows, columns, *matrix.shape[:1])) * zero.dtype.itemsize)


def _dw(x, g, geometry):
    """Convolves x with its batch and channels exchanged; the kernel is g, dilated.

    One tap is a product of matrices. For more taps the product would need transposed patches: three times slower.
    """
    if geometry.kernel == (1, 1):
        return _product(_pixels(x, geometry), g.reshape(-1, g.shape[3]), 0, 0)[None, None]

    def form(x, g):
        pads = [(lo, k + (m - 1) * s - n - lo) for n, k, s, (lo, _), m in geometry.axes()]
        x, g = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(g, (1, 2, 0, 3))
        return jnp.transpose(_canonical(x, g, pads, dilation=geometry.strides), (1, 2, 0, 3))

    wanted = min(-(-4 * x.nbytes // CACHE), len(g) * math.prod(geometry.output) // LEAST_PIXELS)
    parts = _chunks(len(x), wanted)
    if parts == 1:
        return form(x, g)
    cut = [a.reshape(parts, -1, *a.shape[1:]) for a in (x, g)]
    total = _varying(jnp.zeros((*geometry.kernel, x.shape[3], g.shape[3]), _accumulator(x)), like=x)
    return lax.scan(lambda total, chunk: (total + form(*chunk), None), total, cut)[0]


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


conv_p = _primitive("conv", _lax_conv, _conv, _y_shape, own_axes=((1, 1), (4, 4)))
dx_p = _primitive("conv_dx", _lax_dx, _dx, _x_shape, own_axes=((1, 1), (3, 4)))
dw_p = _primitive("conv_dw", _lax_dw, _dw, _w_shape, own_axes=((4, 3), (4, 4)))
ad.defbilinear(conv_p, lambda g, x, w, **k: dx_p.bind(g, w, **k), lambda g, x, w, **k: dw_p.bind(x, g, **k))
ad.defbilinear(dx_p, lambda x, g, w, **k: conv_p.bind(x, w, **k), lambda x, g, w, **k: dw_p.bind(x, g, **k))
ad.defbilinear(dw_p, lambda w, x, g, **k: dx_p.bind(g, w, **k), lambda w, x, g, **k: conv_p.bind(x, w, **k))


# The functions.


def conv(x: Array, kernel: Array, *, strides: tuple[int, int] = (1, 1), padding: Padding = "SAME") -> Array:
    """Cross-correlates images with a kernel.

        y[b, p, q, o] = sum_{u, v, i} x[b, p * sh + u - top, q * sw + v - left, i] * kernel[u, v, i, o]

    Args:
        x: [batch, height, width, in], floating.
        kernel: [kernel height, kernel width, in, out], of x's dtype.
        strides: (sh, sw), positive.
        padding: "SAME" (ceil(size / stride) outputs), "VALID", or ((top, bottom), (left, right)); below 0 crops.

    Returns:
        [batch, height', width', out] of x's dtype, accumulated in float32 if that is narrower.

    Raises:
        TypeError: the dtypes differ or are not floating.
        ValueError: shapes, strides and padding do not fit together.
    """
    x, kernel = _operands("conv", x, kernel, contracted=2)
    geometry, crop = _geometry("conv", x.shape[1:3], kernel.shape[:2], strides, padding)
    return conv_p.bind(_pad(x, crop)[None], kernel[None], geometry=geometry)[0]


def conv_transpose(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, int] = (2, 2),
    padding: Padding = "SAME",
    output_size: tuple[int, int] | None = None,
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

    Returns:
        [batch, height', width', out] of x's dtype, accumulated in float32 if that is narrower.

    Raises:
        TypeError: the dtypes differ or are not floating.
        ValueError: shapes, strides, padding and output_size do not fit together.
    """
    x, kernel = _operands("conv_transpose", x, kernel, contracted=3)
    if output_size is None:
        sizes = zip(x.shape[1:3], kernel.shape[:2], _pair("strides", strides), _pads(padding), strict=True)
        output_size = [m * s if pad is None else (m - 1) * s + k - sum(pad) for m, k, s, pad in sizes]
    geometry, crop = _geometry("conv_transpose", output_size, kernel.shape[:2], strides, padding)
    if geometry.output != x.shape[1:3]:
        raise ValueError(
            f"conv_transpose: no output_size {tuple(output_size)} from {x.shape[1:3]}: a convolution with kernel "
            f"{geometry.kernel}, strides {geometry.strides}, padding {padding} takes it to {geometry.output}"
        )
    y = dx_p.bind(x[None], kernel[None], geometry=geometry)[0]
    return _pad(y, [(-lo, -hi) for lo, hi in crop])


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
    return _varying(x, like=kernel), _varying(kernel, like=x)


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


def _geometry(name, size, kernel, strides, padding):
    """Returns the convolution without negative pads, and the crop (pads of 0 or less) to apply before it."""
    size, strides, pads = _pair(f"{name}: image size", size), _pair("strides", strides), []
    for n, k, s, pad in zip(size, kernel, strides, _pads(padding), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads.append((total // 2, total - total // 2) if pad is None else pad)
    crop, pads = _split(pads)
    cropped = tuple(n + sum(pad) for n, pad in zip(size, crop, strict=True))
    geometry = Geometry(cropped, tuple(kernel), strides, tuple(pads))
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
    to it, is multiplied with the kernel: a weight with 0 is never used, and has a gradient of 0.
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

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, height, width, in] -> [batch, height', width', features]."""
        dtype = _dtype(self, x)
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        if self.mask is not None:
            kernel = kernel * jnp.broadcast_to(jnp.asarray(self.mask, kernel.dtype), kernel.shape)
        y = conv(x.astype(dtype), kernel.astype(dtype), strides=self.strides, padding=self.padding)
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,)).astype(dtype)
        return y


class ConvTranspose(nn.Module):
    """`conv_transpose` with parameters "kernel" [*kernel_size, features, in] and "bias" [features], float32.

    dtype is what it computes in and returns, the input's if None.
    """

    features: int
    kernel_size: tuple[int, int] = (4, 4)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)  # fan-in: kh * kw * in
    bias_init: Callable = nn.initializers.zeros
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, height, width, in] -> [batch, height', width', features]."""
        dtype = _dtype(self, x)
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, self.features, x.shape[-1]))
        y = conv_transpose(x.astype(dtype), kernel.astype(dtype), strides=self.strides, padding=self.padding)
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,)).astype(dtype)
        return y
