"""The reader of mesh_folder: meshes of one connectivity from the files of a folder.

A mesh is a file of its own, .obj, .ply (text or binary) or .off, or one of several in an .npz with `verts` float
[meshes, V, 3] and `faces` int [F, 3]. Files are taken in the natural order of their names (horse2 before horse10);
hidden files, other files and folders inside are passed over. Vertices keep the file's order; normals, colours,
texture coordinates, materials and groups are not read. Polygons of more than three corners are cut into triangles,
in every file alike.
"""

import hashlib
import re
import zipfile
from pathlib import Path

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import Source
from jaxgen.errors import UserError


def identity(options: Options) -> str:
    """A sha256 of the names, sizes and times of modification of the meshes' files.

    Raises UserError where there is no such folder, or no mesh in it.
    """
    files = [(path.name, path.stat()) for path in _files(options.data_folder)]
    return hashlib.sha256(repr([(name, s.st_size, s.st_mtime_ns) for name, s in files]).encode()).hexdigest()


def read(options: Options) -> Source:
    """The meshes of `options.data_folder`: mesh float32 [n, V, 3], in the files' own units.

    Of every ten meshes in their order, the second is for validation and the third for testing.

    Raises:
      UserError: no such folder, fewer than three meshes in it, a file that cannot be read, vertices that are not
        finite, no faces, a face of vertices that there are not, or meshes of another connectivity than the first's.
    """
    files = _files(options.data_folder)
    first, faces = _decode(files[0])
    parts = [first]
    for path in files[1:]:
        vertices, own_faces = _decode(path)
        if vertices.shape[1] != first.shape[1] or len(own_faces) != len(faces):
            raise UserError(
                f"{path}: {vertices.shape[1]} vertices and {len(own_faces)} triangles, but {files[0].name} has "
                f"{first.shape[1]} and {len(faces)}; the meshes of a folder need one connectivity"
            )
        if len(differing := np.flatnonzero((own_faces != faces).any(1))):
            k = differing[0]
            raise UserError(
                f"{path}: triangle {k} has the vertices {own_faces[k].tolist()}, but {files[0].name} has "
                f"{faces[k].tolist()} there; the meshes of a folder need one connectivity"
            )
        parts.append(vertices)
    mesh = np.concatenate(parts)
    if len(mesh) < 3:
        raise UserError(f"{options.data_folder}: {len(mesh)} meshes in it; at least 3 are needed, one for each split")
    place = np.arange(len(mesh)) % 10
    return Source(
        splits={
            "train": {"mesh": mesh[(place != 1) & (place != 2)]},
            "validation": {"mesh": mesh[place == 1]},
            "test": {"mesh": mesh[place == 2]},
        },
        note=f"{len(mesh):,} meshes of {mesh.shape[1]:,} vertices and {len(faces):,} triangles "
        f"from the folder {options.data_folder.absolute().name}; "
        "of every ten in order, the second is for validation and the third for testing",
        faces=faces,
    )


def _files(folder: Path | None) -> list[Path]:
    """The files of meshes, in natural order."""
    if folder is None:
        raise UserError("mesh_folder needs a folder of meshes: --data-from FOLDER (--from in jaxgen data) names it")
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in READERS and path.is_file()]
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; mesh_folder needs a folder of meshes") from error
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise UserError(f"{folder}: no meshes in it; their files end in {', '.join(READERS)}")
    return sorted(files, key=_natural)


def _natural(path: Path):
    parts = [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", path.name)]
    return parts, path.name


def _decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A file's vertices, finite float32 [meshes, V, 3], and faces, int32 [F, 3] within them."""
    suffix = path.suffix.lower()
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty")
    try:
        vertices, faces = READERS[suffix](path)
    except Exception as error:  # a damaged file makes a parser raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not readable as {suffix} ({reason})") from error
    if len(faces) == 0:
        raise UserError(f"{path}: no faces; a mesh needs triangles")
    if vertices.ndim != 3 or vertices.shape[2] != 3 or vertices.dtype.kind != "f":
        raise UserError(f"{path}: vertices are {_type(vertices)}; float [meshes, V, 3] are needed")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise UserError(f"{path}: faces are {_type(faces)}; int [F, 3] are needed")
    outside = ((faces < 0) | (faces >= vertices.shape[1])).any(1)
    if outside.any():
        k = np.argmax(outside)
        raise UserError(
            f"{path}: triangle {k} has the vertices {faces[k].tolist()}, counted from 0, of {vertices.shape[1]}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told below
        vertices = vertices.astype(np.float32)
    bad = np.argwhere(~np.isfinite(vertices).all(2))
    if len(bad):
        mesh, vertex = bad[0]
        raise UserError(f"{path}: vertex {vertex} of mesh {mesh} is not finite: {vertices[mesh, vertex].tolist()}")
    return vertices, faces.astype(np.int32)


def _type(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _read_npz(path):
    if not zipfile.is_zipfile(path):
        raise ValueError("no archive, or one cut short")
    with np.load(path) as arrays:
        if missing := [name for name in ("verts", "faces") if name not in arrays]:
            raise ValueError(f"it has {', '.join(arrays)}, and not {' and '.join(missing)}")
        return arrays["verts"], arrays["faces"]


def _read_obj(path):
    # not trimesh's: that one repeats a vertex for each of its normals, texture coordinates and materials
    vertices, polygons, begun = [], [], ""
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if line.endswith("\\"):  # goes on in the next one
            begun += line[:-1] + " "
            continue
        kind, *words = (begun + line).split() or [""]
        begun = ""
        try:
            if kind == "v":
                vertices.append(_position(words))
            elif kind == "f":
                corners = [int(word.partition("/")[0]) for word in words]
                # From 1 on, or back from the last vertex read so far, which is -1.
                polygons.append(_polygon([i + len(vertices) if i < 0 else i - 1 for i in corners]))
        except ValueError as error:
            raise ValueError(f"cut short or damaged at line {number}") from error
    return np.array([vertices], np.float64), _triangles(polygons)


def _read_off(path):
    # not trimesh's: that one takes a file that ends before its last face
    vertices, polygons, counts = [], [], ()
    head, _, text = re.sub("#.*", "", path.read_text("utf-8", "replace")).partition("OFF")
    if head.strip("\ufeff\nSTCN "):  # STOFF and the like have more in the vertices' lines
        raise ValueError("it does not begin with OFF")
    for number, line in enumerate(text.splitlines(), 1 + head.count("\n")):
        words = line.split()
        try:
            if words and not counts:
                num_vertices, num_faces = counts = [int(word) for word in words[:2]]
            elif words and len(vertices) < num_vertices:
                vertices.append(_position(words))
            elif words and len(polygons) < num_faces:
                corners = int(words[0])  # colours may follow them
                polygons.append(_polygon([int(word) for word in words[1 : corners + 1]], corners))
        except ValueError as error:
            raise ValueError(f"cut short or damaged at line {number}") from error
    if not counts or len(polygons) < num_faces:
        raise ValueError("cut short: it ends before its last face")
    return np.array([vertices], np.float64), _triangles(polygons)


def _position(words):
    x, y, z = map(float, words[:3])
    return x, y, z


def _polygon(corners, num=3):
    if len(corners) < max(num, 3):
        raise ValueError
    return corners


def _read_ply(path):
    # trimesh's loader of one format, since what turns its result into a mesh may drop vertices that no face has
    from trimesh.exchange.ply import load_ply

    try:
        with path.open("rb") as file:  # nothing split along the seams of a texture
            mesh = load_ply(file, fix_texture=False, skip_materials=True)
        return mesh["vertices"][None], _triangles(mesh.get("faces", ()))
    except Exception as error:  # of damage, it raises whatever it stumbles over
        raise ValueError("cut short or damaged") from error


def _triangles(polygons):
    from trimesh.geometry import triangulate_quads

    return triangulate_quads(polygons)


READERS = {".npz": _read_npz, ".obj": _read_obj, ".off": _read_off, ".ply": _read_ply}
