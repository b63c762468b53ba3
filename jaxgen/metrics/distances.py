"""Exact Euclidean distances: which pairs are closer than a limit, and nearest neighbors.

The matrix product in |a|^2 + |b|^2 - 2ab is fast but cancels if a and b are close, and its rounding depends on a
pair's place in the matrix: copies would be neither at 0 nor equally far. Here it gives lower bounds, which rule out all
but few pairs. Those are decided by the sum of (a - b)^2 in float64: the same bits in any place.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 2**25
"""Distances held at once (128 MiB in float32, and three times that for intermediate results)."""

PAIRS = 2**20
"""Features of pairs held at once (8 MiB of differences)."""


class Block(NamedTuple):
    """All pairs of some queries with all references."""

    rows: slice  # of the queries
    queries: np.ndarray  # [rows, dimensions]
    references: np.ndarray  # [columns, dimensions]
    lower: np.ndarray  # [rows, columns], bounds on the squared distances, in the unit
    query_rounding: np.ndarray  # [rows]; the bounds are loose by twice the pair's sum of both at most
    reference_rounding: np.ndarray  # [columns]
    unit: np.float64  # a squared length


def blocks(queries: np.ndarray, references: np.ndarray) -> Iterator[Block]:
    """The pairs of every query with every reference, by blocks of queries."""
    center = references.mean(axis=0, dtype=np.float64)
    # scales the largest coordinate to 1, so that float32 products neither overflow nor vanish
    scale = max(np.maximum(x.max(axis=0) - center, center - x.min(axis=0)).max() for x in (queries, references)) or 1.0
    right, reference_rounding = _bounding(references, center, scale)
    num = max(1, BLOCK // len(references))
    for start in range(0, len(queries), num):
        rows = slice(start, start + num)
        left, query_rounding = _bounding(queries[rows], center, scale)
        left[:, :-2] *= -2
        left[:, -2:] = left[:, :-3:-1]  # each side's square meets the other's 1
        lower = left @ right.T
        yield Block(rows, queries[rows], references, lower, query_rounding, reference_rounding, np.square(scale))


def _bounding(features: np.ndarray, center: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """[samples, dimensions + 2]: centered features a, |a|^2 less what rounding may add to a distance, and 1.

    The rounding, [samples], plus that of the other sample bounds all rounding errors from the
    features to a comparison: of centering, of a product of dimensions + 2 terms (at most that many
    half-units in the last place of |a|^2 + |b|^2 + 2 |a| |b|), of the limit compared with, and of
    the direct sum in float64.
    """
    num, dimensions = features.shape
    bounding = np.ones((num, dimensions + 2), features.dtype)
    centered = bounding[:, :dimensions]
    np.subtract(features, center, out=centered, casting="same_kind")
    centered /= scale
    squares = np.einsum("nd,nd->n", centered, centered, dtype=np.float64)
    of_type, of_double = np.finfo(features.dtype), np.finfo(np.float64)
    share = (dimensions + 16) * of_type.eps + 2 * dimensions * of_double.eps
    rounding = share * squares + dimensions * of_type.tiny
    bounding[:, dimensions] = squares - rounding
    return bounding, rounding.astype(features.dtype)


def _limits(block: Block, squared: np.ndarray) -> np.ndarray:
    """Converts squared distances to limits for the lower bounds; nothing is closer than 0."""
    return np.where(squared > 0, squared / block.unit, -np.inf).astype(block.lower.dtype)


def closer(block: Block, squared: np.ndarray) -> np.ndarray:
    """Mask of pairs closer than these squared distances, [columns] or [rows, 1]: bool [rows, columns]."""
    limits = _limits(block, squared)
    closer = block.lower < limits
    loose = 2 * np.add.outer(block.query_rounding, block.reference_rounding)
    row, column = _pairs(closer & (block.lower >= limits - loose))
    closer[row, column] = _squared(block, row, column) < np.broadcast_to(squared, closer.shape)[row, column]
    return closer


def nearest(queries: np.ndarray, references: np.ndarray, k: int, own: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest references of every query, the nearest first: squared distances [queries, k] and indices.

    With `own` the queries are the references, and none is its own neighbor.
    """
    found = []
    for block in blocks(queries, references):
        rows = np.arange(len(block.lower))
        itself = (rows, block.rows.start + rows) if own else ([], [])
        near = block.lower <= _small(block.lower, k + own)
        near[itself] = False
        # any k of these give an upper limit of the k-th nearest distance; bounds beyond it are ruled out
        row, column = _pairs(near)
        some = np.searchsorted(row, rows)[:, None] + np.arange(k)
        limits = _squared(block, row[some].ravel(), column[some].ravel()).reshape(-1, k).max(axis=1, keepdims=True)
        near = block.lower < _limits(block, limits)
        near[itself] = False
        near[row[some], column[some]] = True
        found.append(_smallest(block, near, k))
    squared, indices = zip(*found, strict=True)
    return np.concatenate(squared), np.concatenate(indices)


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of every sample to the k-th nearest of the others, float64 [samples]."""
    return nearest(features, features, k, own=True)[0][:, -1]


def _small(lower: np.ndarray, k: int) -> np.ndarray:
    """Value [rows, 1] that k or a few more entries of each row do not exceed.

    It is the k-th smallest of the minima of 256 k groups of columns: far fewer to sort.
    """
    rows, columns = lower.shape
    size = max(1, columns // (256 * k))
    groups = columns // size
    minima = lower[:, : size * groups].reshape(rows, size, groups).min(axis=1)
    return np.partition(minima, k - 1, axis=1)[:, k - 1 : k]


def _smallest(block: Block, near: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest squared distances of each row and their columns, [rows, k], among the pairs marked by `near`."""
    row, column = _pairs(near)
    squared = _squared(block, row, column)
    order = np.lexsort((squared, row))  # stable: of equal distances the first column
    first = np.searchsorted(row, np.arange(len(near)))
    chosen = order[first[:, None] + np.arange(k)]
    return squared[chosen], column[chosen]


def _pairs(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a matrix's true entries: twenty times as fast as np.nonzero."""
    return np.divmod(np.flatnonzero(marked), marked.shape[1])


def _squared(block: Block, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Squared distances of these pairs, float64 [pairs]."""
    squared = np.empty(len(row))
    num = max(1, PAIRS // block.references.shape[1])
    for start in range(0, len(row), num):
        some = slice(start, start + num)
        difference = np.subtract(block.queries[row[some]], block.references[column[some]], dtype=np.float64)
        np.einsum("nd,nd->n", difference, difference, out=squared[some])
    return squared
