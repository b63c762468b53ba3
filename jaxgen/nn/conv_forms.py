"""Direct forms of convolution's three operations: `lax`'s for any platform, and others that are fast on a CPU.

Operands: x [batch, H, W, in], the kernel w [kh, kw, in, out], g [batch, H', W', out]. The forms are linear in both
operands, and return conv(x, w), dx(g, w) or dw(x, g) of `jaxgen.nn.conv`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.compatibility import made_varying, varying_axes


class Geometry(NamedTuple):
    """Geometry of a strided convolution, as pairs for (height, width); static, shared by the three operations."""

    size: tuple[int, int]  # H, W of x
    kernel: tuple[int, int]  # kh, kw of w
    strides: tuple[int, int]  # sh, sw
    padding: tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right), none negative
    local: bool = False  # whether results depend on the inputs under their kernel alone, to the bit

    @property
    def output(self) -> tuple[int, int]:
        """H', W' of g."""
        height, width = (
            (n + sum(pad) - k) // s + 1
            for n, k, s, pad in zip(self.size, self.kernel, self.strides, self.padding, strict=True)
        )
        return height, width

    def axes(self):
        """Yields (size, kernel, stride, (lo, hi), output) for height and for width."""
        return zip(self.size, self.kernel, self.strides, self.padding, self.output, strict=True)


# Of `lax`, for any platform.

LAYOUT = ("NHWC", "HWIO", "NHWC")


def lax_conv(x, w, geometry):
    """Convolves."""
    return lax.conv_general_dilated(x, w, geometry.strides, geometry.padding, dimension_numbers=LAYOUT)


def lax_dx(g, w, geometry):
    """Gradient of `lax_conv` with respect to x."""
    x = jax.ShapeDtypeStruct((g.shape[0], *geometry.size, w.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: lax_conv(x, w, geometry), x)(g)[0]


def lax_dw(x, g, geometry):
    """Gradient of `lax_conv` with respect to the kernel."""
    w = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[3], g.shape[3]), x.dtype)
    return jax.linear_transpose(lambda w: lax_conv(x, w, geometry), w)(g)[0]


# For a CPU. They return float32 for narrower operands.


def _accumulator(a):
    return jnp.float32 if jnp.finfo(a.dtype).bits < 32 else a.dtype


def pad(x, pads):
    """Pads the rows and columns of [batch, H, W, channels] with zeros; negative pads crop."""
    if all(lo == hi == 0 for lo, hi in pads):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])


def split(pads):
    """Splits pads into their negative and positive parts."""
    return [(min(lo, 0), min(hi, 0)) for lo, hi in pads], [(max(lo, 0), max(hi, 0)) for lo, hi in pads]


def _canonical(x, w, pads, strides=(1, 1), dilation=(1, 1)):
    """Convolves in the only layout that XLA:CPU runs fast inside loops."""
    crop, pads = split(pads)
    x = pad(x, crop)  # first: XLA:CPU reads out of bounds if it mixes the two (openxla/xla issue 48713)
    options = {"dimension_numbers": LAYOUT, "preferred_element_type": _accumulator(x)}
    return lax.conv_general_dilated(x, w, strides, pads, rhs_dilation=dilation, **options)


def varying(a, *, like):
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
"""Minimum output pixels per `direct_dw` chunk; smaller chunks cost more in summation than they save."""


def chunks(batch: int, wanted: int) -> int:
    """Number of equal parts to cut a batch into: the smallest divisor from `wanted` on, or 1 if that is far off.

    It is also 1 if `wanted` is 2: the loop costs what it saves, and compiling it costs more.
    """
    wanted = min(wanted, batch)
    return next((parts for parts in range(wanted, 4 * wanted) if batch % parts == 0), 1) if wanted > 2 else 1


def by_chunks(form, batch, parts):
    """Applies `form` to a batch in that many equal parts, one after the other."""
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


def sum_by_chunks(form, batches, parts):
    """Sum of what `form` makes of each of that many equal parts of batches."""
    if parts == 1:
        return form(*batches)
    cut = [batch.reshape(parts, -1, *batch.shape[1:]) for batch in batches]
    one = jax.eval_shape(form, *(batch[0] for batch in cut))
    total = varying(jnp.zeros(one.shape, one.dtype), like=batches[0])
    return lax.scan(lambda total, chunk: (total + form(*chunk), None), total, cut)[0]


def _pixels(x, geometry):
    """Input pixels seen by a kernel of one tap: [batch * H' * W', in]."""
    x = pad(x, [(lo, (m - 1) * s + 1 - n - lo) for n, _, s, (lo, _), m in geometry.axes()])
    sh, sw = geometry.strides
    return x[:, ::sh, ::sw].reshape(-1, x.shape[3])


def direct_conv(x, w, geometry):
    """Convolves by a product of matrices for one tap, else by XLA's convolution."""
    if geometry.kernel == (1, 1):
        return _product(_pixels(x, geometry), w[0, 0], 1, 0).reshape(-1, *geometry.output, w.shape[3])
    return _canonical(x, w, geometry.padding, geometry.strides)


def direct_dx(g, w, geometry):
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
        return pad(y, [(-lo, n + lo - m) for n, (lo, _), m in ends])

    patches = g.size // g.shape[3] * len(matrix) * zero.dtype.itemsize
    return by_chunks(form, g, chunks(len(g), -(-patches // CACHE)))


def direct_dw(x, g, geometry):
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
    return sum_by_chunks(form, (x, g), chunks(len(x), wanted))
