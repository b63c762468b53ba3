"""`mesh_folder`: meshes of one connectivity from the files of a folder.

A mesh is a file of its own, .obj, .ply, .off, .stl or .glb (`jaxgen.data.mesh_files`), or one of several in an .npz
with `verts` float [meshes, V, 3] and `faces` int [F, 3], or is drawn from the model of heads in ICT FaceKit's .npz.
Files are taken in the natural order of their names (horse2 before horse10). Hidden files are ignored; other files and
folders inside are ignored too, and counted in the note.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.spatial

from jaxgen.data.mesh_files import READERS, Meshes, decoded
from jaxgen.data.options import Options
from jaxgen.data.source import SPLITS, BadExampleError, Source, passed_over
from jaxgen.errors import UserError

SAME = 1e-4
"""Largest difference of coordinates between meshes that count as one, as a share of the diagonal of all meshes' box."""


def identity(options: Options) -> str:
    """The sha256 (hex) of the names, sizes and modification times of the meshes' files, and of what is ignored.

    Raises UserError if there is no such folder, or no mesh in it.
    """
    files, others = _files(options.data_folder)
    found = [(path.name, path.stat()) for path in files]
    listed = [(name, s.st_size, s.st_mtime_ns) for name, s in found]
    return hashlib.sha256(repr((listed, sorted(others.items()))).encode()).hexdigest()


def read(options: Options) -> Source:
    """The meshes of `options.data_folder`: mesh float32 [n, V, 3], in the files' own units.

    Of every ten meshes in order, or of every ten blocks of `split_blocks` meshes, the second is for validation and the
    third for testing. A file that is left out because it cannot be read still counts, as does a mesh that repeats an
    earlier one and is left out with `drop_duplicates`.

    Raises:
      UserError: no such folder, fewer than three meshes or blocks in it, a file that cannot be read, vertices that are
        not finite or beyond 1e12, no faces, a face with a vertex out of range, a mesh with another connectivity than
        the first, or one that repeats a mesh of another split.
    """
    folder, blocks, (files, others) = options.data_folder, options.split_blocks or 1, _files(options.data_folder)
    meshes, names, first, bad, notes = [], [], None, [], []
    for path in files:
        try:
            found = decoded(path)
        except BadExampleError as error:
            if not options.skip_bad:
                raise UserError(f"{error}; --skip-bad leaves such files out") from error
            bad.append(str(error))
            meshes.append(None)
            names.append(path.name)
            continue
        first = first or (path, found)
        _check_connectivity(path, found, *first)
        meshes += list(found.vertices)
        alone = len(found.vertices) == 1
        names += [path.name if alone else f"mesh {n} of {path.name}" for n in range(len(found.vertices))]
        notes.append(found.note)
    if -(-len(meshes) // blocks) < len(SPLITS):
        words = f" in blocks of {blocks}" if blocks > 1 else ""
        what = f"{len(meshes)} meshes in it{words}; at least 3{words and ' blocks'} are needed, one for each split"
        raise UserError(f"{folder}: {what}")
    place = np.arange(len(meshes)) // blocks % 10
    places = {"train": (place != 1) & (place != 2), "validation": place == 1, "test": place == 2}
    whole = np.array([mesh is not None for mesh in meshes])
    repeats = _repeats(meshes)
    if options.drop_duplicates:
        whole[list(repeats)] = False
    else:
        _check_apart(folder, repeats, names, {i: split for split, here in places.items() for i in np.flatnonzero(here)})
    splits = {split: [meshes[i] for i in np.flatnonzero(here & whole)] for split, here in places.items()}
    if empty := [split for split, some in splits.items() if not some]:
        why = f"with --skip-bad: {'; '.join(bad[:3])}" if bad else "without those that repeat an earlier one"
        raise UserError(f"{folder}: no mesh is left for {empty[0]} {why}")
    of = "meshes" if blocks == 1 else f"blocks of {blocks} meshes"
    parts = [
        f"{sum(map(len, splits.values())):,} meshes of {first[1].vertices.shape[1]:,} vertices and "
        f"{len(first[1].faces):,} triangles from the folder {folder.absolute().name}",
        *notes,
        f"of every ten {of} in order, the second is for validation and the third for testing",
        _told(repeats, names, options.drop_duplicates),
        _unused(first[1]),
        passed_over(others),
    ]
    return Source(
        splits={split: {"mesh": np.stack(some)} for split, some in splits.items()},
        note="; ".join(filter(None, parts)),
        faces=first[1].faces,
        skipped={split: sum(meshes[i] is None for i in np.flatnonzero(here)) for split, here in places.items()},
    )


def _repeats(meshes: list[np.ndarray | None]) -> dict[int, int]:
    """Map from each mesh that repeats an earlier one, which repeats none itself, to the first such."""
    there = [i for i, mesh in enumerate(meshes) if mesh is not None]
    if not there:
        return {}
    low, high = (np.stack([side(meshes[i], axis=0) for i in there]) for side in (np.min, np.max))
    most = SAME * np.linalg.norm(high.max(0) - low.min(0))
    # Meshes whose vertices are close have close boxes and means: few pairs are left to compare whole.
    summary = np.concatenate([low, high, [meshes[i].mean(0) for i in there]], axis=1)
    close = scipy.spatial.cKDTree(summary).query_ball_point(summary, most, p=np.inf)
    found: dict[int, int] = {}
    for place, others in enumerate(close):
        for other in sorted(others):
            earlier, later = there[other], there[place]
            if other < place and earlier not in found and np.abs(meshes[earlier] - meshes[later]).max() <= most:
                found[later] = earlier
                break
    return found


def _check_apart(folder: Path, repeats: dict[int, int], names: list[str], split: dict[int, str]) -> None:
    """Raises UserError, naming two, if meshes of different splits are the same."""
    leaks = [(later, earlier) for later, earlier in repeats.items() if split[later] != split[earlier]]
    if leaks:
        later, earlier = leaks[0]
        raise UserError(
            f"{folder}: {names[later]} (for {split[later]}) repeats {names[earlier]} (for {split[earlier]}), "
            f"{len(leaks)} such in all; --drop-duplicates leaves out meshes that repeat an earlier one"
        )


def _told(repeats: dict[int, int], names: list[str], dropped: bool) -> str:
    """Number of repeated meshes and the first of them, as part of a note; "" if there are none."""
    if not repeats:
        return ""
    later, earlier = next(iter(repeats.items()))
    what = "left out" if dropped else "of its own split"
    return f"duplicates {what}: {len(repeats):,}, the first {names[later]}, which repeats {names[earlier]}"


def _unused(meshes: Meshes) -> str:
    """Number of vertices without a triangle, as part of a note; "" if there are none."""
    unused = np.setdiff1d(np.arange(meshes.vertices.shape[1]), meshes.faces)
    return f"vertices without a triangle: {len(unused):,}, the first {unused[0]}" if len(unused) else ""


def _check_connectivity(path: Path, meshes: Meshes, first: Path, others: Meshes) -> None:
    """Raises UserError, naming the difference, if a file's meshes have other faces than the first file's."""
    vertices, faces, first_vertices, first_faces = meshes.vertices, meshes.faces, others.vertices, others.faces
    if vertices.shape[1] != first_vertices.shape[1] or len(faces) != len(first_faces):
        raise UserError(
            f"{path}: {vertices.shape[1]} vertices and {len(faces)} triangles, but {first.name} has "
            f"{first_vertices.shape[1]} and {len(first_faces)}; the meshes of a folder need one connectivity"
        )
    if len(differing := np.flatnonzero((faces != first_faces).any(1))):
        k = differing[0]
        raise UserError(
            f"{path}: triangle {k} has the vertices {faces[k].tolist()}, but {first.name} has "
            f"{first_faces[k].tolist()} there; the meshes of a folder need one connectivity"
        )


def _files(folder: Path | None) -> tuple[list[Path], Counter[str]]:
    """The mesh files, in natural order, and the number of other files, by suffix."""
    if folder is None:
        raise UserError("mesh_folder needs a folder of meshes: --data-from FOLDER (--from in jaxgen data) names it")
    try:
        everything = [path for path in folder.iterdir() if not path.name.startswith(".")]
        files = [path for path in everything if path.suffix.lower() in READERS and path.is_file()]
        folders = [path for path in everything if path.is_dir()]
        inside = [] if files else [p for p in folders if any(each.suffix.lower() in READERS for each in p.iterdir())]
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; mesh_folder needs a folder of meshes") from error
    if inside:
        raise UserError(f"{folder}: no meshes in it, but in its folder {min(inside).name}; one folder is read: name it")
    if not files:
        raise UserError(f"{folder}: no meshes in it; their files end in {', '.join(READERS)}")
    others = Counter("folder" if path in folders else path.suffix.lower() for path in set(everything) - set(files))
    return sorted(files, key=_natural), others


def _natural(path: Path):
    parts = [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", path.name)]
    return parts, path.name
