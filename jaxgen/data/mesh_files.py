"""Reads a file of meshes: OBJ, OFF, PLY and STL in all their encodings, GLB, and npz.

The positions of vertices are read in the file's order (of a GLB file's parts, by the order of their nodes' names), and
polygons are triangulated, in every format alike. Normals, colors, texture coordinates, materials, groups, lines and
points are ignored. Unsupported content that would change the surface (free-form geometry, vertices of four numbers,
triangle strips) is refused by name.
"""

import codecs
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.source import BadExampleError

OBJ_UNREAD = {
    *("vt", "vn", "vp", "l", "p", "g", "s", "o", "mg", "usemtl", "mtllib", "usemap", "maplib"),
    *("bevel", "c_interp", "d_interp", "lod", "shadow_obj", "trace_obj"),
}
"""OBJ statements that are ignored."""

OBJ_REFUSED = {
    name: what
    for what, names in {
        "free-form geometry": "cstype deg bmat step curv curv2 surf parm trim hole scrv sp end con ctech stech",
        "superseded free-form geometry": "bsp bzp cdc cdp res",
        "another file": "call csh",
    }.items()
    for name in names.split()
}
"""Map from unsupported OBJ statements that change the surface to what they belong to."""

OFF_KEY = r"((?:ST|C|N)*)(4?n?)OFF"
"""Pattern of an OFF file's first word: texture coordinates, colors, normals; other dimensions."""

OFF_MORE = {"ST": 2, "C": 4, "N": 3}
"""Extra numbers per vertex of a binary file, by the letters of its key."""

PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip

PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

FACEKIT = {"neutral", "identity", "faces"}
"""Arrays of the npz file of ICT FaceKit's head model (https://github.com/ICT-VGL/ICT-FaceKit) that are read."""

HEADS = 250
"""Heads that are drawn from it: neutral + sum_i w_i (identity_i - neutral), with w_i from N(0, 1)."""

DAMAGED = "cut short or damaged"


class UnreadError(ValueError):
    """A file with unsupported content; the message names it."""


LARGEST = 1e12
"""Largest absolute coordinate: float32 holds volumes, products of three."""


class Meshes(NamedTuple):
    """The meshes of a file."""

    vertices: np.ndarray  # float32 [meshes, V, 3], within +-LARGEST
    faces: np.ndarray  # int32 [F, 3], the vertices of each triangle
    note: str = ""  # how they were made, if the file does not hold the meshes themselves


def decoded(path: Path) -> Meshes:
    """The meshes of a file.

    Raises:
      BadExampleError: the message names the file, and what is wrong or unsupported in it.
    """
    suffix = path.suffix.lower()
    try:
        if not path.stat().st_size:
            raise BadExampleError(f"{path}: the file is empty")
        vertices, faces, *notes = READERS[suffix](path)
    except BadExampleError:
        raise
    except Exception as error:  # a damaged file makes a parser raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadExampleError(f"{path}: not readable as {suffix} ({reason})") from error
    if len(faces) == 0:
        raise BadExampleError(f"{path}: no faces; a mesh needs triangles")
    if vertices.ndim != 3 or vertices.shape[2] != 3 or vertices.dtype.kind != "f":
        raise BadExampleError(f"{path}: vertices are {_type(vertices)}; float [meshes, V, 3] are needed")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise BadExampleError(f"{path}: faces are {_type(faces)}; int [F, 3] are needed")
    outside = ((faces < 0) | (faces >= vertices.shape[1])).any(1)
    if outside.any():
        k = np.argmax(outside)
        raise BadExampleError(
            f"{path}: triangle {k} has the vertices {faces[k].tolist()}, counted from 0, of {vertices.shape[1]}"
        )
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, and are reported below
        vertices = vertices.astype(np.float32)
    bad = np.argwhere(~(np.abs(vertices) <= LARGEST).all(2))
    if len(bad):
        mesh, vertex = bad[0]
        found = vertices[mesh, vertex]
        what = f"has coordinates beyond {LARGEST:g}" if np.isfinite(found).all() else "is not finite"
        raise BadExampleError(f"{path}: vertex {vertex} of mesh {mesh} {what}: {found.tolist()}")
    return Meshes(vertices, faces.astype(np.int32), *notes)


def _type(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _read_npz(path):
    if not zipfile.is_zipfile(path):
        raise ValueError("no archive, or one cut short")
    with np.load(path) as arrays:
        if set(arrays) >= FACEKIT:
            return _drawn_heads(**{name: arrays[name] for name in FACEKIT})
        if missing := [name for name in ("verts", "faces") if name not in arrays]:
            raise ValueError(f"it has {', '.join(arrays)}, and not {' and '.join(missing)}")
        return arrays["verts"], arrays["faces"]


def _drawn_heads(neutral, identity, faces):
    """Heads of ICT FaceKit's linear model, from the neutral head [V, 3] and its identities [n, V, 3]."""
    weights = np.random.Generator(np.random.Philox(0)).standard_normal((HEADS, len(identity)))
    moved = (identity.astype(np.float64) - neutral).reshape(len(identity), -1)
    heads = neutral + (weights @ moved).reshape(HEADS, *neutral.shape)
    note = f"{HEADS} heads drawn from ICT FaceKit's {len(identity)} identities, with standard normal weights"
    return heads, faces, note


def _read_glb(path):
    import trimesh

    scene = trimesh.load_scene(path, process=False)
    vertices, faces, count = [], [], 0
    for node in sorted(scene.graph.nodes_geometry):
        place, name = scene.graph[node]
        part = scene.geometry[name]
        if isinstance(part, trimesh.Trimesh):  # others are points and lines
            vertices.append(trimesh.transformations.transform_points(part.vertices, place))
            faces.append(part.faces + count)
            count += len(part.vertices)
    return np.concatenate(vertices or [np.zeros((0, 3))])[None], np.concatenate(faces or [np.zeros((0, 3), int)])


def _read_stl(path):
    import trimesh

    found = trimesh.load_mesh(path, process=False)
    vertices, faces = np.asarray(found.vertices, np.float64)[None], np.asarray(found.faces)
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(84)
    binary = len(head) == 84 and 84 + 50 * int.from_bytes(head[80:], "little") == size
    if not binary and not path.read_bytes().rstrip().rpartition(b"\n")[2].lstrip().startswith(b"endsolid"):
        raise ValueError(DAMAGED)
    # a triangle has corners of its own: those at one place are one vertex, numbered by its first corner
    _, first, vertex = np.unique(vertices[0], axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return vertices[:, first[order]], np.argsort(order)[vertex.reshape(-1)][faces]


def _text(content: bytes) -> str:
    """Decodes a text file: UTF-8 or, by its byte order mark, UTF-16, with any line ends."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_obj(path):
    # trimesh's reader repeats a vertex for each of its normals, texture coordinates and materials
    vertices, polygons, begun = [], [], ""
    for number, line in enumerate(_text(path.read_bytes()).split("\n"), 1):
        line = begun + line.partition("#")[0].rstrip()  # a comment may end in \ too
        begun = ""
        if line.endswith("\\"):  # continues on the next line
            begun = line[:-1] + " "
            continue
        kind, *words = line.split() or [""]
        try:
            if kind == "v":
                vertices.append(_position(words))
            elif kind in ("f", "fo"):
                corners = [int(word.partition("/")[0]) for word in words]
                # Indices count from 1, or back from the last vertex read so far, which is -1.
                polygons.append(_polygon([i + len(vertices) if i < 0 else i - 1 for i in corners]))
            elif kind in OBJ_REFUSED:
                raise UnreadError(f"line {number}: {kind} is of {OBJ_REFUSED[kind]}, which is not read")
            elif kind and kind not in OBJ_UNREAD:
                raise UnreadError(f"line {number}: {kind[:40]!r} is no statement of OBJ")
        except UnreadError:
            raise
        except ValueError as error:
            raise ValueError(f"{DAMAGED} at line {number}") from error
    if begun:
        raise ValueError("cut short: its last line is to go on")
    return np.array([vertices], np.float64), _triangles(polygons)


def _read_off(path):
    # trimesh's reader accepts a file that ends before its last face
    content = path.read_bytes()
    if binary := re.match(OFF_KEY.encode() + rb" +BINARY *\r?\n", content):
        _check_dimensions(binary[2].decode())
        return _binary_off(content[binary.end() :], binary[1].decode())
    text = re.sub("#.*", "", _text(content))
    key = re.match(rf"\s*(?:{OFF_KEY}(?!\S)|(?=[\d]))", text)  # the key may be left out
    if key is None:
        raise ValueError("it does not begin with OFF")
    _check_dimensions(key[2] or "")
    vertices, polygons, counts, width = [], [], (), 0
    for number, line in enumerate(text[key.end() :].split("\n"), 1 + key[0].count("\n")):
        words = line.split()
        try:
            if words and not counts:
                if len(words) > 3:
                    raise UnreadError(f"line {number} has more than counts; one vertex a line is read")
                num_vertices, num_faces, *_ = counts = [int(word) for word in words]
            elif words and len(vertices) < num_vertices:
                vertices.append(_position(words))
                width = width or len(words)
                if len(words) != width:
                    raise UnreadError(f"line {number} has {len(words)} numbers, not {width}; one vertex a line is read")
            elif words and len(polygons) < num_faces:
                corners = int(words[0])  # colors may follow them
                polygons.append(_polygon([int(word) for word in words[1 : corners + 1]], corners))
        except UnreadError:
            raise
        except ValueError as error:
            raise ValueError(f"{DAMAGED} at line {number}") from error
    if not counts or len(polygons) < num_faces:
        raise ValueError("cut short: it ends before its last face")
    return np.array([vertices], np.float64), _triangles(polygons)


def _check_dimensions(key: str) -> None:
    if key:
        raise UnreadError(f"{key}OFF is of other dimensions than three, which is not read")


def _binary_off(content: bytes, letters: str):
    """Reads what follows the key: big-endian; after each face, the number of its colors and the colors."""
    try:
        num_vertices, num_faces, _ = struct.unpack_from(">3i", content)
        width = 3 + sum(OFF_MORE[letter] for letter in re.findall("ST|C|N", letters))
        vertices = np.frombuffer(content, ">f4", num_vertices * width, 12).reshape(num_vertices, width)
        offset, polygons = 12 + vertices.nbytes, []
        for _ in range(num_faces):
            (corners,) = struct.unpack_from(">i", content, offset)
            polygons.append(_polygon(struct.unpack_from(f">{corners}i", content, offset + 4), corners))
            (colors,) = struct.unpack_from(">i", content, offset + 4 + 4 * corners)
            offset += 8 + 4 * corners + 4 * colors
    except UnreadError:
        raise
    except (ValueError, struct.error) as error:
        raise ValueError(DAMAGED) from error
    if offset != len(content):
        raise ValueError(DAMAGED)
    return vertices[None, :, :3].astype(np.float64), _triangles(polygons)


def _position(words):
    x, y, z = map(float, words[:3])
    return x, y, z


def _polygon(corners, num=None):
    """Checks the corners of a face, and their number if the file gives it."""
    if num is not None and num < 3:
        raise UnreadError(f"a face of {num} corners; three or more are needed")
    if len(corners) < (num or 3):
        raise ValueError
    return corners


@dataclass(frozen=True)
class _Property:
    name: str
    type: str  # NumPy's type of a value
    count: str  # NumPy's type of a list's length; "" if it is no list


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


def _read_ply(path):
    # trimesh's reader re-indexes vertices at texture seams, and takes only lists of one length in binary files
    order, elements, body = _ply_header(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    found = {element.name: element for element in elements}
    if "tristrips" in found and "face" not in found:
        raise UnreadError("its surface is of triangle strips, which are not read")
    if not {"x", "y", "z"} <= {each.name for each in found["vertex"].properties if not each.count}:
        raise UnreadError("its vertices have no x, y and z")
    corners = {each.name for each in found["face"].properties if each.count} if "face" in found else {"vertex_indices"}
    if not (named := sorted(corners & {"vertex_indices", "vertex_index"})):
        raise UnreadError("its faces have no list vertex_indices")
    try:
        read = _ply_text(body, elements) if not order else _ply_binary(body, elements, order)
        vertices = np.stack([read["vertex"][axis] for axis in "xyz"], axis=-1).astype(np.float64)
    except Exception as error:  # on damage, NumPy and struct raise any exception
        raise ValueError(DAMAGED) from error
    polygons = read["face"][named[0]] if found.get("face") and found["face"].count else []
    if few := [len(polygon) for polygon in polygons if len(polygon) < 3]:
        raise UnreadError(f"a face of {few[0]} corners; three or more are needed")
    return vertices[None], _triangles(polygons)


def _ply_header(content: bytes) -> tuple[str, list[_Element], bytes]:
    """Returns (NumPy's sign of the byte order, "" for text; the elements; what follows the header)."""
    first = re.match(rb"ply[ \t]*(\r\n|\n|\r)", content)
    if first is None:
        raise ValueError("it does not begin with ply")
    head, end, body = _split(content, rb"[\r\n]end_header[ \t]*" + first[1])
    order, elements = None, []
    if not end:
        raise ValueError(DAMAGED)
    for line in head[first.end() :].decode("utf-8", "replace").splitlines():
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, "1.0"] if name in PLY_ORDERS:
                order = PLY_ORDERS[name]
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name, int(count), []))
            case ["property", "list", count, kind, name] if {count, kind} <= PLY_TYPES.keys() and elements:
                elements[-1].properties.append(_Property(name, PLY_TYPES[kind], PLY_TYPES[count]))
            case ["property", kind, name] if kind in PLY_TYPES and elements:
                elements[-1].properties.append(_Property(name, PLY_TYPES[kind], ""))
            case _:
                raise UnreadError(f"{line[:80]!r} is none of a header's lines that are read")
    if order is None:
        raise UnreadError("its header has no format")
    if "vertex" not in {element.name for element in elements}:
        raise UnreadError("its header has no vertex")
    return order, elements, body


def _split(content: bytes, pattern: bytes) -> tuple[bytes, bytes, bytes]:
    """Splits the content into the parts before, in and after the first match."""
    found = re.search(pattern, content)
    return (content[: found.start()], found[0], content[found.end() :]) if found else (content, b"", b"")


def _ply_text(body: bytes, elements: list[_Element]) -> dict[str, dict[str, Any]]:
    """Map from element and property to its values; a list property has a list per row."""
    words, place, found = body.split(), 0, {}
    for element in elements:
        columns = {each.name: [] for each in element.properties}
        for _ in range(element.count):
            for each in element.properties:
                count = int(words[place]) if each.count else 1
                start = place + bool(each.count)
                place = start + count
                if count < 0 or place > len(words):
                    raise ValueError
                values = [float(word) if each.type[0] == "f" else int(word) for word in words[start:place]]
                columns[each.name].append(values if each.count else values[0])
        found[element.name] = columns
    if place < len(words):
        raise ValueError
    return found


def _ply_binary(body: bytes, elements: list[_Element], order: str) -> dict[str, dict[str, Any]]:
    """Returns the same as `_ply_text`, but as arrays if all rows have lists of the same lengths."""
    place, found = 0, {}
    for element in elements:
        if not element.count:
            found[element.name] = {each.name: [] for each in element.properties}
            continue
        row = _ply_row(body, place, element, order)
        size = row.itemsize * element.count
        rows: Any = np.frombuffer(body, row, element.count, place) if place + size <= len(body) else ()
        alike = len(rows) == element.count and all(
            (rows[f"{each.name} count"] == rows[each.name].shape[1]).all() for each in element.properties if each.count
        )
        if alike:
            found[element.name] = {each.name: rows[each.name] for each in element.properties}
            place += size
            continue
        columns = {each.name: [] for each in element.properties}
        for _ in range(element.count):
            row = _ply_row(body, place, element, order)
            (values,) = np.frombuffer(body, row, 1, place)
            place += row.itemsize
            for each in element.properties:
                columns[each.name].append(values[each.name])
        found[element.name] = columns
    if body[place:].strip():
        raise ValueError
    return found


def _ply_row(body: bytes, place: int, element: _Element, order: str) -> np.dtype:
    """The dtype of the row at `place`: for each list its length, and that many values."""
    fields = []
    for each in element.properties:
        if each.count:
            start = place + np.dtype(fields).itemsize
            (length,) = np.frombuffer(body, order + each.count, 1, start)
            fields += [(f"{each.name} count", order + each.count), (each.name, order + each.type, (int(length),))]
        else:
            fields.append((each.name, order + each.type))
    return np.dtype(fields)


def _triangles(polygons):
    from trimesh.geometry import triangulate_quads

    return triangulate_quads(polygons)


READERS = {
    ".npz": _read_npz,
    ".obj": _read_obj,
    ".off": _read_off,
    ".ply": _read_ply,
    ".glb": _read_glb,
    ".stl": _read_stl,
}
