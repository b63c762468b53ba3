"""Convolution's three operations by minimal filtering, in float32 on a CPU: fewer multiplications than the definition.

Lavin & Gray 2016, "Fast algorithms for convolutional neural networks" (https://arxiv.org/abs/1509.09308), with the
algorithms of Toom and Cook. A convolution of stride s is one of stride 1 over s * s * C channels, the phases of x, of
r = ceil(k / s) taps. Tiles of m outputs and the n = m + r - 1 inputs that they depend on are taken, along each axis, to
n points by small constant matrices B, G, A, with

    <conv(x, w), g> = sum over tiles and points of (B x)(G w)(A g)

so that each of the n * n points of two axes needs one product of matrices:

    V = B x B'   [tiles, s * s * C]        conv = A' (V U) A
    U = G w G'   [s * s * C, F]            dx   = B' (W U') B
    W = A g A'   [tiles, F]                dw   = G' (W' V)' G

2x2 outputs of 2 taps take 9 products of the direct form's 16, 4x4 outputs 25 of 64. The results' errors are relative to
the largest of a tile's inputs: about those of the direct form for m = 2, and several times that for m = 4.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.experimental.xla_metadata import set_xla_metadata

from jaxgen.nn.conv_forms import CACHE, Geometry, by_chunks, chunks, pad, sum_by_chunks

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""Points at which the polynomials of x and w are evaluated, besides infinity: those of Barabasz et al. 2018
(https://arxiv.org/abs/1803.10986), whose errors are two fifths of those of 0, 1, -1, 2, -2."""

MOST_TAPS = 3
"""Taps of an axis at most: more would need more points."""

LEAST_TILES = 64
"""Minimum tiles of a chunk: products of matrices with fewer rows are slow."""


@lru_cache
def algorithm(outputs: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom-Cook matrices B [n, n], G [n, taps], A [n, outputs], n = outputs + taps - 1, of one axis.

    With them y_p = sum_u x_(p + u) w_u is A' ((B x) * (G w)). The last point is infinity, for the highest coefficients.
    """
    n = outputs + taps - 1
    points = POINTS[: n - 1]
    of_x, of_kernel, of_g = np.zeros((n, n)), np.zeros((n, taps)), np.zeros((n, outputs))
    for k, at in enumerate(points):
        others = [point for point in points if point != at]
        of_x[k, : n - 1] = np.polynomial.polynomial.polyfromroots(others)
        of_kernel[k] = np.power(at, range(taps)) / np.prod([at - other for other in others])
        of_g[k] = np.power(at, range(outputs))
    of_x[-1] = np.polynomial.polynomial.polyfromroots(points)
    of_kernel[-1, -1] = of_g[-1, -1] = 1
    return of_x, of_kernel, of_g


class Axis(NamedTuple):
    """One axis of a geometry, cut into tiles."""

    size: int  # of x
    kernel: int
    stride: int
    low: int  # padding before x
    outputs: int
    tile: int  # m, outputs of a tile

    @property
    def taps(self) -> int:
        """Taps of the convolution of phases, r."""
        return -(-self.kernel // self.stride)

    @property
    def tiles(self) -> int:
        """Number of tiles, the last of which may be partly beyond the outputs."""
        return -(-self.outputs // self.tile)

    @property
    def points(self) -> int:
        """Points of a tile, n."""
        return self.tile + self.taps - 1

    @property
    def rows(self) -> int:
        """Rows of phases that all tiles read."""
        return self.tiles * self.tile + self.taps - 1

    @property
    def pads(self) -> tuple[int, int]:
        """Padding of x to these rows; below 0 crops."""
        return self.low, self.stride * self.rows - self.size - self.low

    @property
    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """B, G, A."""
        return algorithm(self.tile, self.taps)


Axes = tuple[Axis, Axis]


TILES = (2, 4)
"""Sides of tiles to choose from."""

TRANSFORM = 60
"""Multiply-adds of a matrix product that take as long as the transform of one number to or from one point."""

WIDE = 128
"""Features that XLA's convolution is fast with."""

DIRECT, NARROW = 1.2, 2.1
"""Times of a multiply-add in the direct forms, in those of a matrix product: for `WIDE` or more features, and fewer."""


def computes(geometry: Geometry) -> bool:
    """True for geometries that minimal filtering can compute: of 2 to `MOST_TAPS` taps on both axes."""
    taps = [axis.taps for axis in axes_of(geometry, TILES[0])]
    return min(taps) > 1 and max(taps) <= MOST_TAPS


def best_tile(geometry: Geometry, batch: int, channels: int, features: int) -> int | None:
    """Side of the tiles whose operations are estimated to take the least time, or None if the direct forms take less.

    It depends on the batch, so an image's results may differ by rounding with the images beside it. The time is counted
    in multiply-adds, with constants for an AMD EPYC (Zen 4): experiments/benchmarks/convolutions.py measures layers.
    """
    pixels = batch * math.prod((*geometry.output, *geometry.kernel))
    direct = DIRECT if features >= WIDE else NARROW
    time: dict[int | None, float] = {None: direct * pixels * channels * features}
    for tile in TILES if computes(geometry) else ():
        h, w = axes_of(geometry, tile)
        tiles, phases = batch * h.tiles * w.tiles, channels * h.stride * w.stride
        numbers = phases * features + tiles * (phases + features)
        time[tile] = h.points * w.points * (tiles * phases * features + TRANSFORM * numbers)
    return min(time, key=time.__getitem__)


def axes_of(geometry: Geometry, tile: int) -> Axes:
    """Height and width in tiles of tile x tile outputs."""
    height, width = (
        Axis(size, kernel, stride, low, outputs, tile) for size, kernel, stride, (low, _), outputs in geometry.axes()
    )
    return height, width


def opaque(function: Callable) -> Callable:
    """`function` of an array and static axes as a call that XLA:CPU leaves alone, a boundary that no fusion crosses.

    Fused with one another the transforms become scalar code; `lax.optimization_barrier` is gone before XLA fuses. To
    merge axes in such a call costs the vectors too; outside of it that is free.
    """
    compiled = jax.jit(function, static_argnames="axes")

    def call(x, axes):
        with set_xla_metadata(inlineable="false"):
            return compiled(x, axes=axes)

    return call


def _in_order(x):
    """`x` in row-major order: XLA would otherwise leave the transposition that made it to all who read it."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _combinations(matrix, arrays):
    """Sums of arrays with the coefficients of each row, without products by 0 and 1."""
    return [_combination(row, arrays) for row in matrix]


def _combination(coefficients, arrays):
    y = None
    for c, a in sorted(zip(coefficients, arrays, strict=True), key=lambda pair: pair[0] < 0):
        if c == 0:
            continue
        part = a if abs(c) == 1 else np.float32(abs(c)) * a
        y = (part if c > 0 else -part) if y is None else (y + part if c > 0 else y - part)
    return y


# Of x [batch, H, W, C], to its points [n * n, tiles, s * s * C] and back.


@opaque
def _phases(x, axes):
    h, w = axes
    x = pad(x, [h.pads, w.pads])
    if h.stride == w.stride == 1:
        return x
    return _in_order(x.reshape(-1, h.rows, h.stride, w.rows, w.stride * x.shape[3]).transpose(0, 1, 3, 2, 4))


@opaque
def _rows_of_x(x, axes):
    h, _ = axes
    parts = [x[:, i : i + h.tile * (h.tiles - 1) + 1 : h.tile] for i in range(h.points)]
    return jnp.stack(_combinations(h.matrices[0], parts))


@opaque
def _columns_of_x(x, axes):
    _, w = axes
    parts = [x[:, :, :, j : j + w.tile * (w.tiles - 1) + 1 : w.tile] for j in range(w.points)]
    return jnp.stack(_combinations(w.matrices[0], parts), 1)


def points_of_x(x, axes):
    """Returns V."""
    h, w = axes
    x = _phases(x, axes).reshape(len(x), h.rows, w.rows, -1)
    return _columns_of_x(_rows_of_x(x, axes), axes).reshape(h.points * w.points, -1, x.shape[3])


def _overlapped(own, tile, taps, axis):
    """Adds each tile's last taps - 1 rows to the first of the next tile: `tile` arrays with one tile more."""

    def at(a, low):
        pads = [(0, 0, 0)] * a.ndim
        pads[axis] = (low, 1 - low, 0)
        return lax.pad(a, np.float32(0), pads)

    return [at(own[i], 0) + at(own[tile + i], 1) if i < taps - 1 else at(own[i], 0) for i in range(tile)]


@opaque
def _columns_to_x(points, axes):
    _, w = axes
    own = _combinations(w.matrices[0].T, [points[:, j] for j in range(w.points)])
    return jnp.stack(_overlapped(own, w.tile, w.taps, axis=3), 4)


@opaque
def _rows_to_x(points, axes):
    h, w = axes
    own = _combinations(h.matrices[0].T, [row[:, :, : w.rows] for row in points])
    return jnp.stack(_overlapped(own, h.tile, h.taps, axis=1), 2)


@opaque
def _from_phases(x, axes):
    return _in_order(x.transpose(0, 1, 3, 2, 4))


def points_to_x(points, axes):
    """Adjoint of `points_of_x`."""
    h, w = axes
    channels = points.shape[2]
    points = _columns_to_x(points.reshape(h.points, w.points, -1, h.tiles, w.tiles, channels), axes)
    points = _rows_to_x(points.reshape(*points.shape[:3], -1, channels), axes)
    x = points.reshape(len(points), -1, w.rows, channels)[:, : h.rows]
    if not h.stride == w.stride == 1:
        x = _from_phases(x.reshape(len(x), h.rows, w.rows, h.stride, -1), axes)
        x = x.reshape(len(x), h.rows * h.stride, w.rows * w.stride, -1)
    return pad(x, [(-low, -high) for low, high in (h.pads, w.pads)])


# Of the kernel [kh, kw, C, F], to its points [n * n, s * s * C, F], or those transposed, and back.


@opaque
def _taps_of_kernel(kernel, axes):
    h, w = axes
    missing = [(0, axis.taps * axis.stride - axis.kernel, 0) for axis in axes]
    kernel = lax.pad(kernel, np.float32(0), [*missing, (0, 0, 0), (0, 0, 0)])
    return _in_order(kernel.reshape(h.taps, h.stride, w.taps, w.stride, *kernel.shape[2:]).transpose(0, 2, 1, 3, 4, 5))


@opaque
def _rows_of_taps(taps, axes):
    return jnp.stack(_combinations(axes[0].matrices[1], list(taps)))


@opaque
def _columns_of_taps(taps, axes):
    _, w = axes
    return jnp.stack(_combinations(w.matrices[1], [taps[:, j] for j in range(w.taps)]), 1)


def points_of_kernel(kernel, axes, *, transposed=False):
    """Returns U, or its matrices transposed."""
    h, w = axes
    taps = _taps_of_kernel(kernel, axes).reshape(h.taps, w.taps, -1, kernel.shape[3])
    points = _columns_of_taps(_rows_of_taps(jnp.swapaxes(taps, 2, 3) if transposed else taps, axes), axes)
    return points.reshape(-1, *points.shape[2:])


@opaque
def _rows_to_taps(points, axes):
    return jnp.stack(_combinations(axes[0].matrices[1].T, list(points)))


@opaque
def _columns_to_taps(points, axes):
    _, w = axes
    return jnp.stack(_combinations(w.matrices[1].T, [points[:, j] for j in range(w.points)]), 1)


@opaque
def _kernel_of_taps(taps, axes):
    return _in_order(taps.transpose(0, 3, 1, 4, 5, 2))


def transposed_points_to_kernel(points, axes):
    """Adjoint of `points_of_kernel` with transposed=True."""
    h, w = axes
    taps = _columns_to_taps(_rows_to_taps(points.reshape(h.points, w.points, *points.shape[1:]), axes), axes)
    kernel = _kernel_of_taps(taps.reshape(*taps.shape[:3], h.stride, w.stride, -1), axes)
    kernel = kernel.reshape(h.taps * h.stride, w.taps * w.stride, *kernel.shape[4:])
    return kernel[: h.kernel, : w.kernel]


# Of g [batch, H', W', F], to its points [n * n, tiles, F] and back.


@opaque
def _rows_of_g(g, axes):
    h, _ = axes
    return jnp.stack(_combinations(h.matrices[2], [g[:, :, i] for i in range(h.tile)]))


@opaque
def _columns_of_g(g, axes):
    _, w = axes
    return jnp.stack(_combinations(w.matrices[2], [g[:, :, :, :, j] for j in range(w.tile)]), 1)


def points_of_g(g, axes):
    """Returns W."""
    h, w = axes
    features = g.shape[3]
    g = pad(g, [(0, axis.tiles * axis.tile - axis.outputs) for axis in axes])
    rows = _rows_of_g(g.reshape(-1, h.tiles, h.tile, w.tiles, w.tile, features), axes)
    return _columns_of_g(rows, axes).reshape(h.points * w.points, -1, features)


@opaque
def _rows_to_g(points, axes):
    return jnp.stack(_combinations(axes[0].matrices[2].T, list(points)), 3)


@opaque
def _columns_to_g(points, axes):
    return jnp.stack(_combinations(axes[1].matrices[2].T, list(points)), 3)


def points_to_g(points, axes):
    """Adjoint of `points_of_g`."""
    h, w = axes
    features = points.shape[2]
    rows = _rows_to_g(points.reshape(h.points, w.points, -1, h.tiles, w.tiles, features), axes)
    g = _columns_to_g(rows.reshape(w.points, -1, h.tiles * h.tile, w.tiles, features), axes)
    return g.reshape(-1, h.tiles * h.tile, w.tiles * w.tile, features)[:, : h.outputs, : w.outputs]


# The operations.


def _parts(batch, channels, axes, least=LEAST_TILES):
    """Parts to cut a batch into whose points of x, of so many channels, stay in the cache."""
    h, w = axes
    tiles = h.tiles * w.tiles
    wanted = -(-batch * tiles * h.points * w.points * channels * 4 // CACHE)
    return chunks(batch, min(wanted, batch * tiles // least))


def _products(left, right, contracted_left, contracted_right):
    """Product of the matrices of each point."""
    return lax.dot_general(left, right, (((contracted_left,), (contracted_right,)), ((0,), (0,))))


def minimal_conv(x, kernel, geometry: Geometry, tile: int):
    """Convolves, in tiles of tile x tile outputs."""
    axes = axes_of(geometry, tile)
    of_kernel = points_of_kernel(kernel, axes)

    def form(x):
        return points_to_g(_products(points_of_x(x, axes), of_kernel, 2, 1), axes)

    return by_chunks(form, x, _parts(len(x), of_kernel.shape[1], axes))


def minimal_dx(g, kernel, geometry: Geometry, tile: int):
    """Gradient of `minimal_conv` with respect to x."""
    axes = axes_of(geometry, tile)
    of_kernel = points_of_kernel(kernel, axes, transposed=True)

    def form(g):
        return points_to_x(_products(points_of_g(g, axes), of_kernel, 2, 1), axes)

    return by_chunks(form, g, _parts(len(g), of_kernel.shape[2], axes))


def minimal_dw(x, g, geometry: Geometry, tile: int):
    """Gradient of `minimal_conv` with respect to the kernel."""
    axes = axes_of(geometry, tile)

    def form(x, g):  # transposed, for XLA copies the left operand, and W is usually smaller than V
        return _products(points_of_g(g, axes), points_of_x(x, axes), 1, 1)

    phases, features = x.shape[3] * axes[0].stride * axes[1].stride, g.shape[3]
    # Fewer tiles would cost more in sums of points than they save.
    parts = _parts(len(x), phases, axes, max(LEAST_TILES, features // 2))
    return transposed_points_to_kernel(sum_by_chunks(form, (x, g), parts), axes)
