"""Deformations of a mesh as vectors of features, and back.

A feature describes a mesh relative to a reference mesh x of the same connectivity, with vertices p. Three kinds:

    aligned     the vertices after the rigid motion that brings them closest to a target: 3 V numbers
    rimd        rotation-invariant mesh differences: Gao et al. 2016, "Efficient and flexible deformation representation
                for data-driven surface modeling", as Tan et al. 2018 (https://arxiv.org/abs/1709.04307) use them
    gradients   the same of deformation gradients of the triangles instead of the vertices

The last two have a matrix T at every site, a vertex or a triangle, which minimizes the energy

    E = sum_s sum_(i, j) of s  w_ij |(p_i - p_j) - T_s (x_i - x_j)|^2,    T_s = R_s S_s

over the edges (i, j) at the site, with cotangent weights. R_s is a rotation and S_s is symmetric (polar decomposition).
The feature has log(R_s^T R_t), three numbers, of every pair of neighboring sites s < t, and then the six numbers of
every S_s. Rigid motions of p change none of them.

Back from a feature, which may be no mesh's: the rotations minimize sum |R_t - R_s exp(w_st)|^2 as matrices, one linear
least squares problem with one rotation fixed, and are projected (chordal averaging). The vertices then minimize E, a
Poisson equation. Its matrix depends on the reference alone and is factorized once. All computations are in float64.

A mesh is the minimum of the E of its triangles, with value 0, so gradients give back every mesh exactly. A one-ring is
seldom deformed by one matrix, so rimd gives back rigid and affine motions exactly, and other meshes approximately.
"""

from typing import Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from jaxgen.errors import UserError

Kind: TypeAlias = Literal["rimd", "gradients", "aligned"]
KINDS: tuple[Kind, ...] = ("rimd", "gradients", "aligned")

CLIP = 1e-3
"""Minimum cotangent weight of an edge at a vertex: with negative ones the fit of T is not a minimum."""

FLAT = 1e9
"""Condition number of a vertex's edges above which they lie in a plane, so that its normal is used as one more."""

SLIVER = 1e-10
"""Area of a triangle, in squares of its longest edge, below which it is degenerate."""

AT_ONCE = 2**21
"""Approximate number of matrices T that are decomposed at once."""

UPPER = np.triu_indices(3)
"""The six numbers of a symmetric matrix."""


def log_rotations(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors [..., 3] of rotation matrices [..., 3, 3]: the axis times the angle, in [0, pi] radians.

    log R^T = -log R except at pi, where the axis has two directions.
    """
    vectors = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec()
    return vectors.reshape(rotations.shape[:-1])


def exp_rotations(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3]."""
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)


def polar(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations R and symmetric S [..., 3, 3] with R S = `matrices`, R nearest to them among rotations.

    S has one negative eigenvalue, the smallest in size, where the determinant is negative.
    """
    left, values, right = np.linalg.svd(matrices)
    sign = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    left[..., 2] *= sign[..., None]
    values[..., 2] *= sign
    return left @ right, right.swapaxes(-1, -2) @ (values[..., None] * right)


def aligned(meshes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Meshes [n, V, 3] after the rotation and translation that bring each closest to the target [V, 3], float64.

    Source: Kabsch 1976, "A solution for the best rotation to relate two sets of vectors".
    """
    meshes, target = np.asarray(meshes, np.float64), np.asarray(target, np.float64)
    centered, center = meshes - meshes.mean(1, keepdims=True), target.mean(0)
    rotations, _ = polar(np.einsum("va,nvb->nab", target - center, centered))
    return centered @ rotations.swapaxes(1, 2) + center


def mean_shape(meshes: np.ndarray, iterations: int = 5) -> np.ndarray:
    """Mean of meshes [n, V, 3] that are aligned to it: generalized Procrustes analysis from the plain mean, [V, 3]."""
    mean = np.asarray(meshes, np.float64).mean(0)
    for _ in range(iterations):
        mean = aligned(meshes, mean).mean(0)
    return mean


def edges(faces: np.ndarray) -> np.ndarray:
    """Edges of triangles [F, 3], each once, int [E, 2] with the smaller vertex first, in rising order."""
    return np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)


def neighbors(faces: np.ndarray) -> np.ndarray:
    """Pairs of triangles [F, 3] that share an edge, int [P, 2] with the smaller number first, in rising order."""
    sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    order = np.lexsort(sides.T)
    face, sides = order // 3, sides[order]
    same = (sides[1:] == sides[:-1]).all(1)
    if (same[1:] & same[:-1]).any():
        a, b = sides[1:-1][same[1:] & same[:-1]][0].tolist()
        raise UserError(f"more than two triangles meet at the edge of vertices {a} and {b}, so features cannot be made")
    return np.unique(np.sort(np.stack([face[:-1], face[1:]], 1)[same], axis=1), axis=0)


def size(faces: np.ndarray, vertices: int, kind: Kind) -> int:
    """Number of features of a kind; raises UserError for rimd and gradients if an edge has three triangles."""
    if kind == "aligned":
        return 3 * vertices
    pairs = neighbors(faces)
    return 3 * len(edges(faces)) + 6 * vertices if kind == "rimd" else 3 * len(pairs) + 6 * len(faces)


class Deformation:
    """Features of a kind, relative to one reference mesh."""

    def __init__(self, reference: np.ndarray, faces: np.ndarray, kind: Kind, target: np.ndarray | None = None):
        """Factorizes the Poisson equation.

        Args:
          reference: float [V, 3].
          faces: int [F, 3].
          kind: the features.
          target: float [V, 3], the mesh that others are aligned to; the reference if not given.

        Raises:
          UserError: for rimd and gradients, a mesh in several pieces, a vertex without a triangle, an edge of three
            triangles, or a degenerate triangle in the reference.
        """
        self.kind, self.faces = kind, np.asarray(faces)
        self.reference = np.asarray(reference, np.float64)
        self.target = self.reference if target is None else np.asarray(target, np.float64)
        if kind == "aligned":
            self.size = self.reference.size
            self.groups: tuple[slice, ...] = (slice(0, self.size),)
            return
        vertices, cotangents = len(self.reference), _half_cotangents(self.reference, self.faces)
        opposite = self.faces[:, [[1, 2], [2, 0], [0, 1]]]  # the edge of each corner
        shared = neighbors(self.faces)
        if kind == "gradients":
            self._sites, self.pairs = len(self.faces), shared
            ends, weights = opposite.reshape(-1, 2), cotangents.ravel()
            site = np.repeat(np.arange(self._sites), 3)
        else:
            self._sites, self.pairs = vertices, edges(self.faces)
            total = sp.csr_array((cotangents.ravel(), opposite.reshape(-1, 2).T), (vertices, vertices))
            once = np.maximum((total + total.T)[*self.pairs.T], CLIP)
            ends, weights = np.concatenate([self.pairs, self.pairs[:, ::-1]]), np.tile(once, 2)
            site = ends[:, 0]
        self._check_connected()
        self.size = 3 * len(self.pairs) + 6 * self._sites
        self.groups = (slice(0, 3 * len(self.pairs)), slice(3 * len(self.pairs), self.size))

        # E = |W^(1/2) (D p - X T)|^2: D takes differences along the edges, X holds those of the reference.
        count = len(ends)
        rows = np.repeat(np.arange(count), 2)
        difference = sp.csr_array((np.tile([1.0, -1.0], count), (rows, ends.ravel())), (count, vertices))
        along = difference @ self.reference
        columns = 3 * site[:, None] + np.arange(3)
        held = sp.csr_array(
            (along.ravel(), (np.repeat(np.arange(count), 3), columns.ravel())), (count, 3 * self._sites)
        )
        weighted = difference.T @ sp.diags_array(weights)
        self._to_source = (weighted @ held).tocsr()
        self._laplacian = splu((weighted @ difference).tocsc()[1:, 1:])

        # T_s = (sum w (p_i - p_j) (x_i - x_j)^T + [flat] n' n^T) G_s^-1, n the normals of length sqrt(area)
        moments = np.zeros((self._sites, 3, 3))
        np.add.at(moments, site, weights[:, None, None] * along[:, :, None] * along[:, None, :])
        normals = self._normals(self.reference[None])[0]
        flat = np.linalg.cond(moments) > FLAT if kind == "rimd" else np.ones(self._sites, bool)
        normals *= flat[:, None]
        inverse = np.linalg.inv(moments + normals[:, :, None] * normals[:, None, :])
        self._dual_normals = np.einsum("sa,sab->sb", normals, inverse)
        self._flat = bool(flat.any())
        block = sp.bsr_array((inverse, np.arange(self._sites), np.arange(self._sites + 1)))
        self._gradient = (block @ self._to_source.T).tocsr()

        # A fill-reducing order of the sites, for the rotations' equations
        pattern = sp.csr_array((np.ones(len(self.pairs)), self.pairs.T), (self._sites, self._sites))
        pattern = (pattern + pattern.T + sp.eye_array(self._sites) * self._sites).tocsc()
        place = splu(pattern, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).perm_c
        self._place = np.where(place == 0, place[0], np.where(place == place[0], 0, place))  # site 0 is eliminated
        i, j = self._place[self.pairs].T
        diagonal = np.arange(self._sites)
        block_rows, block_columns = np.concatenate([diagonal, i, j]), np.concatenate([diagonal, j, i])
        self._block_order = np.lexsort([block_columns, block_rows])
        self._block_columns = block_columns[self._block_order]
        self._block_starts = np.searchsorted(block_rows[self._block_order], np.arange(self._sites + 1))
        self._degrees = np.bincount(np.concatenate([i, j]), minlength=self._sites)

    def _check_connected(self) -> None:
        used = np.zeros(len(self.reference), bool)
        used[self.faces] = True
        if not used.all():
            raise UserError(f"vertex {np.argmin(used)} belongs to no triangle, so {self.kind} features cannot be made")
        graph = sp.csr_array((np.ones(len(self.pairs)), self.pairs.T), (self._sites, self._sites))
        pieces, _ = connected_components(graph, directed=False)
        if pieces > 1:
            raise UserError(
                f"the mesh has {pieces} pieces whose places {self.kind} features do not relate; "
                "features aligned has no such limit"
            )

    def _normals(self, meshes: np.ndarray) -> np.ndarray:
        """Normals of the sites [n, sites, 3], each with the square root of the area of its triangles as length."""
        a, b, c = (meshes[:, corner] for corner in self.faces.T)
        areas = np.cross(b - a, c - a) / 2
        if self.kind == "rimd":
            corners = self.faces.ravel(), np.repeat(np.arange(len(self.faces)), 3)
            sums = sp.csr_array((np.ones(self.faces.size), corners), (self._sites, len(self.faces)))
            areas = np.stack([sums @ each for each in areas])
        lengths = np.linalg.norm(areas, axis=-1, keepdims=True)
        return areas / np.sqrt(np.where(lengths > 0, lengths, 1))

    def matrices(self, meshes: np.ndarray) -> np.ndarray:
        """T of meshes [n, V, 3]: float64 [n, sites, 3, 3]."""
        meshes = np.asarray(meshes, np.float64)
        side_by_side = meshes.transpose(1, 0, 2).reshape(len(self.reference), -1)
        found = (self._gradient @ side_by_side).reshape(self._sites, 3, len(meshes), 3).transpose(2, 0, 3, 1)
        if not self._flat:
            return found
        return found + self._normals(meshes)[..., None] * self._dual_normals[:, None, :]

    def features(self, meshes: np.ndarray) -> np.ndarray:
        """Features of meshes [n, V, 3]: float64 [n, size]."""
        if self.kind == "aligned":
            return aligned(meshes, self.target).reshape(len(meshes), -1)
        some = max(1, AT_ONCE // self._sites)
        return np.concatenate([self._features(meshes[i : i + some]) for i in range(0, len(meshes), some)])

    def _features(self, meshes: np.ndarray) -> np.ndarray:
        rotations, stretches = polar(self.matrices(meshes))
        i, j = self.pairs.T
        turns = log_rotations(rotations[:, i].swapaxes(-1, -2) @ rotations[:, j])
        numbers = stretches[..., UPPER[0], UPPER[1]]
        return np.concatenate([turns.reshape(len(meshes), -1), numbers.reshape(len(meshes), -1)], axis=1)

    def meshes(self, features: np.ndarray) -> np.ndarray:
        """Meshes of features [n, size]: float64 [n, V, 3], aligned to the target."""
        features = np.asarray(features, np.float64)
        if self.kind == "aligned":
            return features.reshape(len(features), -1, 3)
        sources = np.concatenate([self._to_source @ self._transposed(each) for each in features], axis=1)
        found = np.zeros((len(self.reference), sources.shape[1]))  # the first vertex stays at the origin
        found[1:] = self._laplacian.solve(sources[1:])
        return aligned(found.reshape(len(self.reference), -1, 3).swapaxes(0, 1), self.target)

    def _transposed(self, feature: np.ndarray) -> np.ndarray:
        """T of one feature [size], transposed: [3 sites, 3]."""
        turns, numbers = (feature[group].reshape(-1, width) for group, width in zip(self.groups, (3, 6), strict=True))
        stretches = np.empty((self._sites, 3, 3))
        stretches[:, UPPER[0], UPPER[1]] = stretches[:, UPPER[1], UPPER[0]] = numbers
        return (stretches @ self.rotations(exp_rotations(turns)).swapaxes(1, 2)).reshape(-1, 3)

    def rotations(self, turns: np.ndarray) -> np.ndarray:
        """Rotations R [sites, 3, 3] that minimize sum |R_t - R_s turns_st|^2 before their projection; R_0 = I.

        turns: rotations [pairs, 3, 3]. Source: Martinec & Pajdla 2007, "Robust rotation and translation estimation in
        multiview reconstruction", section 3.
        """
        degrees = self._degrees[:, None, None] * np.eye(3)
        blocks = np.concatenate([degrees, -turns, -turns.swapaxes(1, 2)])[self._block_order]
        system = sp.bsr_array((blocks, self._block_columns, self._block_starts)).tocsc()
        options = {"SymmetricMode": True}
        solved = splu(system[3:, 3:], permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options)
        stacked = np.concatenate([np.eye(3), solved.solve(-system[3:, :3].toarray())])  # R^T of each place
        return polar(stacked.reshape(-1, 3, 3)[self._place].swapaxes(1, 2))[0]


def _half_cotangents(mesh: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Half the cotangents of the triangles' angles [F, 3]; raises UserError for a degenerate triangle."""
    corners = mesh[faces]
    u, v = np.roll(corners, -1, 1) - corners, np.roll(corners, -2, 1) - corners
    doubled = np.linalg.norm(np.cross(u[:, 0], v[:, 0]), axis=-1)
    bad = np.flatnonzero(doubled <= SLIVER * (u**2).sum(-1).max(1))
    if len(bad):
        raise UserError(
            f"triangle {bad[0]}, of vertices {faces[bad[0]].tolist()}, has no area in the reference mesh, "
            "so features cannot be made; features aligned needs none"
        )
    return (u * v).sum(-1) / doubled[:, None] / 2
