"""Errors and statistics of meshes of one connectivity, and PCA as the baseline of their reconstruction."""

import numpy as np

from jaxgen.deformation import aligned, edges, neighbors, polar

AT_ONCE = 2**20
"""Approximate number of pairs of meshes whose distances are computed at once."""


def box_diagonal(mesh) -> float:
    """Length of the diagonal of the box around a mesh [V, 3]."""
    return float(np.linalg.norm(np.ptp(np.asarray(mesh, np.float64), axis=0)))


def vertex_errors(real, fake) -> np.ndarray:
    """Mean distance of a mesh's vertices from those of its reconstruction, after rigid alignment: float64 [n].

    Args:
      real: float [n, V, 3].
      fake: as real, the reconstruction of each.

    Raises:
      ValueError: the shapes differ.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if real.shape != fake.shape:
        raise ValueError(f"real meshes have the shape {list(real.shape)}, fake ones {list(fake.shape)}")
    placed = np.concatenate([aligned(a[None], b) for a, b in zip(fake, real, strict=True)])
    return np.linalg.norm(placed - real, axis=-1).mean(1)


def rigid_distances(meshes, others) -> np.ndarray:
    """Root mean square distance of the vertices of all pairs after the best rigid alignment, float64 [n, m].

    With centered vertices x and y and the singular values s of sum x y^T, the mean square is
    (|x|^2 + |y|^2 - 2 (s_1 + s_2 +- s_3)) / V, the sign that of the determinant (Kabsch 1976).

    Args:
      meshes: float [n, V, 3].
      others: float [m, V, 3].
    """
    x, y = (np.asarray(each, np.float64) for each in (meshes, others))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    found, some = [], max(1, AT_ONCE // len(y))
    for part in (x[i : i + some] for i in range(0, len(x), some)):
        products = np.tensordot(part, y, axes=(1, 1)).transpose(0, 2, 1, 3)  # [some, m, 3, 3]
        best = np.trace(polar(products)[1], axis1=-2, axis2=-1)
        found.append((part**2).sum((1, 2))[:, None] + (y**2).sum((1, 2)) - 2 * best)
    return np.sqrt(np.maximum(np.concatenate(found), 0) / x.shape[1])


def pca_reconstructed(train, test, components: int) -> np.ndarray:
    """Test vectors [n, d] projected onto the mean and the first principal components of the training vectors [N, d].

    There are at most N - 1 components, and d.
    """
    from sklearn.decomposition import PCA  # takes long to import

    train = np.asarray(train, np.float64)
    components = min(components, len(train) - 1, train.shape[1])
    solver = "arpack" if components < min(train.shape) else "full"
    pca = PCA(components, svd_solver=solver, random_state=0).fit(train)
    return pca.inverse_transform(pca.transform(np.asarray(test, np.float64)))


def edge_lengths(meshes, faces) -> np.ndarray:
    """Lengths of the edges of meshes [n, V, 3]: float64 [n, E]."""
    i, j = edges(np.asarray(faces)).T
    return np.linalg.norm(np.asarray(meshes, np.float64)[:, i] - np.asarray(meshes, np.float64)[:, j], axis=-1)


def volumes(meshes, faces) -> np.ndarray:
    """Volumes enclosed by meshes [n, V, 3], float64 [n]; nan if the surface is not closed."""
    faces = np.asarray(faces)
    if 2 * len(neighbors(faces)) != 3 * len(faces):
        return np.full(len(meshes), np.nan)
    a, b, c = (np.asarray(meshes, np.float64)[:, corner] for corner in faces.T)
    return np.abs((a * np.cross(b, c)).sum((1, 2))) / 6


def flipped_share(meshes, faces) -> np.ndarray:
    """Share of the triangles whose normal turned against their neighbors', float64 [n].

    Those are triangles whose normal has a negative product with the sum of the unit normals of the triangles beside
    them, as where a surface folds back or has a spike.

    Args:
      meshes: float [n, V, 3].
      faces: int [F, 3].
    """
    faces = np.asarray(faces)
    a, b, c = (np.asarray(meshes, np.float64)[:, corner] for corner in faces.T)
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), np.finfo(float).tiny)
    i, j = neighbors(faces).T
    around = np.zeros_like(normals)
    for one, other in ((i, j), (j, i)):
        for axis in range(3):
            around[..., axis] += np.stack([np.bincount(one, each[other, axis], len(faces)) for each in normals])
    return ((normals * around).sum(-1) < 0).mean(1)


def middle_changes(ends, middle, faces) -> tuple[np.ndarray, np.ndarray]:
    """Change of edge lengths and of the volume from the mean of two meshes to a mesh between them, float64 [n] each.

    Both are shares: the mean over the edges of |length / mean length of the ends - 1|, and the same of the volume.

    Args:
      ends: float [2, n, V, 3].
      middle: float [n, V, 3].
      faces: int [F, 3].
    """
    lengths = (edge_lengths(ends[0], faces) + edge_lengths(ends[1], faces)) / 2
    volume = (volumes(ends[0], faces) + volumes(ends[1], faces)) / 2
    change = np.abs(edge_lengths(middle, faces) / lengths - 1).mean(1)
    return change, np.abs(volumes(middle, faces) / volume - 1)
