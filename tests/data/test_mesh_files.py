"""One small mesh in every encoding of OBJ, OFF and PLY, written by hand, and meshes that cannot be read."""

import itertools
import struct

import numpy as np
import pytest

from jaxgen.data.mesh_files import PLY_TYPES, decoded
from jaxgen.data.source import BadExampleError
from tests.data.readers.test_mesh_folder import FACES, VERTICES, obj, off, ply

QUADS = [[0, 1, 2, 3], [4, 1, 0, 3]]
QUAD_TRIANGLES = [[0, 1, 2], [4, 1, 0], [2, 3, 0], [0, 3, 4]]  # first halves, then second halves
MIXED = [[0, 1, 2, 3, 4], [0, 1, 2], [4, 3, 2, 1], [2, 1, 0]]
MIXED_TRIANGLES = [[0, 1, 2], [2, 1, 0], [4, 3, 2], [2, 1, 4], [0, 1, 2], [0, 2, 3], [0, 3, 4]]  # by corners, as fans
POLYGONS = {"triangles": (FACES, FACES.tolist()), "quads": (QUADS, QUAD_TRIANGLES), "mixed": (MIXED, MIXED_TRIANGLES)}


def read(folder, content, suffix, vertices=VERTICES, faces=FACES):
    """Asserts that a file holds exactly this mesh."""
    path = folder / f"mesh{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found, triangles = decoded(path)[:2]
    assert (found.dtype, triangles.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(found, vertices[None])
    assert triangles.tolist() == np.asarray(faces).tolist()


def refusal(folder, content, suffix):
    path = folder / f"mesh{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadExampleError) as caught:
        decoded(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: not readable as {suffix} ")


# PLY

ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
LISTS = [
    (count, index)
    for count, index in itertools.product(PLY_TYPES, repeat=2)
    if "f" not in PLY_TYPES[count] + PLY_TYPES[index]
]
SHORT = dict(zip(("char", "uchar", "short", "ushort", "int", "uint", "float", "double"), "bBhHiIfd", strict=True))
LETTERS = SHORT | {other: SHORT[name] for name in SHORT for other in PLY_TYPES if PLY_TYPES[other] == PLY_TYPES[name]}


def written(order, kind, value):
    """Encodes a value; text values are followed by a space."""
    if order:
        return struct.pack(order + LETTERS[kind], value)
    return f"{value} ".encode()


def any_ply(
    form, vertices, faces, count="uchar", index="int", *, name="vertex_indices", coordinate="float", extra=False,
    faces_first=False, end="\n",
):  # fmt: skip
    """Makes a PLY file; `extra` adds unused normals, colors, lists and elements before and after the required ones."""
    order, lines = ORDERS[form], ["ply", f"format {form} 1.0", "comment end_header would end it", "obj_info here"]
    own = [(coordinate, axis) for axis in "xyz"]
    if extra:
        own = [("float", "nx"), own[0], ("float", "ny"), *own[1:], ("uchar", "red"), ("double", "alpha")]
    blocks = {}
    rows = []
    for vertex in vertices.tolist():
        values = dict(zip("xyz", vertex, strict=True))
        row = [written(order, kind, values.get(axis, 7 if kind == "uchar" else 0.5)) for kind, axis in own]
        row += [written(order, "ushort", 2), *(written(order, "short", value) for value in (-5, 9))] if extra else []
        rows.append(b"".join(row) + (b"" if order else b"\n"))
    header = [f"property {kind} {axis}" for kind, axis in own]
    header += ["property list ushort short neighbors"] if extra else []
    blocks["vertex"] = (len(vertices), header, rows)
    rows = []
    for face in faces:
        row = [written(order, "uchar", 200)] if extra else []
        row += [written(order, count, len(face)), *(written(order, index, corner) for corner in face)]
        row += (
            [written(order, "uchar", len(face) % 3), *[written(order, "float", 0.25)] * (len(face) % 3)]
            if extra
            else []
        )
        rows.append(b"".join(row) + (b"" if order else b"\n"))
    header = ["property uchar flags"] * extra + [f"property list {count} {index} {name}"]
    blocks["face"] = (len(faces), header + ["property list uchar float texcoord"] * extra, rows)
    if extra:
        blocks["edge"] = (2, ["property int vertex1", "property int vertex2"], [written(order, "int", 3) * 2] * 2)
        blocks = {"material": (1, ["property uchar shine"], [written(order, "uchar", 9)])} | blocks
    for element in sorted(blocks) if faces_first else blocks:
        lines += [f"element {element} {blocks[element][0]}", *blocks[element][1]]
    body = b"".join(b"".join(blocks[element][2]) for element in (sorted(blocks) if faces_first else blocks))
    return (end.join([*lines, "end_header"]) + end).encode() + body


@pytest.mark.cases(12 * 12)
@pytest.mark.parametrize("form", ORDERS)
def test_ply_of_all_types_of_counts_and_indices(tmp_path, form):
    assert len(LISTS) == 12 * 12
    for count, index in LISTS:
        read(tmp_path, any_ply(form, VERTICES, FACES, count, index), ".ply")


@pytest.mark.cases(7)
@pytest.mark.parametrize("polygons", POLYGONS)
@pytest.mark.parametrize("form", ORDERS)
def test_ply_of_all_shapes(tmp_path, form, polygons):
    faces, triangles = POLYGONS[polygons]
    for how in (
        {},
        {"extra": True},
        {"faces_first": True},
        {"extra": True, "faces_first": True, "coordinate": "double"},
        {"name": "vertex_index", "coordinate": "float64"},
        {"end": "\r\n", "count": "uint8", "index": "uint32"},
        {"end": "\r"},
    ):
        read(tmp_path, any_ply(form, VERTICES, faces, **how), ".ply", faces=triangles)


@pytest.mark.parametrize("form", ORDERS)
def test_ply_with_a_byte_order_mark_and_whole_coordinates(tmp_path, form):
    vertices = np.float32([[0, 0, 0], [9, 0, 0], [0, -7, 0], [1, 2, 3], [4, 5, 100]])
    content = any_ply(form, vertices.astype(int), FACES, coordinate="char")
    read(tmp_path, b"\xef\xbb\xbf" + content, ".ply", vertices)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("format ascii 1.0", "format binary_middle_endian 1.0"), "('format binary_middle_endian 1.0' is none of"),
        (("format ascii 1.0", "format ascii 2.0"), "('format ascii 2.0' is none of a header's lines that are read)"),
        (("format ascii 1.0\n", ""), "(its header has no format)"),
        (("property float x", "property half x"), "('property half x' is none of a header's lines that are read)"),
        (("property float z", "property float w"), "(its vertices have no x, y and z)"),
        (("vertex_indices", "corners"), "(its faces have no list vertex_indices)"),
        (("element vertex", "element point"), "(its header has no vertex)"),
        (("element face 4", "element tristrips 4"), "(its surface is of triangle strips, which are not read)"),
        (("ply\n", "plx\n"), "(it does not begin with ply)"),
        (("\n3 0 2 1\n", "\n2 0 2\n"), "(a face of 2 corners; three or more are needed)"),
        (("\n3 0 2 1\n", "\n-3 0 2 1\n"), "(cut short or damaged)"),
        (("\n3 0 2 1\n", "\n3 0 2 1.5\n"), "(cut short or damaged)"),
        (("\n3 0 2 1\n", "\n3 0 2 1 1\n"), "(cut short or damaged)"),
    ],
)
def test_ply_that_is_not_read_is_named(tmp_path, change, says):
    text = ply("ascii").decode()
    assert change[0] in text
    assert refusal(tmp_path, text.replace(*change), ".ply").startswith(says)


@pytest.mark.parametrize("form", ORDERS)
def test_ply_cut_short_or_with_more_than_its_header_says(tmp_path, form):
    content = any_ply(form, VERTICES, MIXED, extra=True)
    for cut in (4, 9, 20, 60):
        assert refusal(tmp_path, content[:-cut], ".ply") == "(cut short or damaged)"
    assert refusal(tmp_path, content + b" 1", ".ply") == "(cut short or damaged)"
    read(tmp_path, content + b"\n\n", ".ply", faces=MIXED_TRIANGLES)
    assert (
        refusal(tmp_path, any_ply(form, VERTICES, []), ".ply")
        == f"{tmp_path}/mesh.ply: no faces; a mesh needs triangles"
    )


# OFF

MORE = {"C": [0.25, 0.5, 0.75, 1.0], "N": [0.0, 0.0, 1.0], "ST": [0.5, 0.5]}
KEYS = [("",), ("C",), ("N",), ("ST",), ("C", "N"), ("ST", "C"), ("ST", "C", "N"), ("N", "C")]


def binary_off(key, vertices, faces, colors=0):
    more = [number for letters in key for number in MORE[letters]]
    rows = [struct.pack(f">{3 + len(more)}f", *vertex, *more) for vertex in vertices.tolist()]
    rows += [
        struct.pack(f">{len(face) + 1}i", len(face), *face) + struct.pack(f">i{colors}f", colors, *[0.5] * colors)
        for face in faces
    ]
    return f"{''.join(key)}OFF BINARY\n".encode() + struct.pack(">3i", len(vertices), len(faces), 0) + b"".join(rows)


@pytest.mark.cases(9)
@pytest.mark.parametrize("polygons", POLYGONS)
@pytest.mark.parametrize("key", KEYS, ids="".join)
def test_off_of_all_keys(tmp_path, key, polygons):
    faces, triangles = POLYGONS[polygons]
    more = "".join(f" {number}" for letters in key if letters for number in MORE[letters])
    plain = off(VERTICES, faces).removeprefix("OFF\n# a comment\n").split("\n")
    lines = [line + more if 0 < i <= len(VERTICES) else line for i, line in enumerate(plain)]
    name = f"{''.join(key)}OFF"
    for text in (
        "\n".join([name, *lines]),
        "\r\n".join([f"{name} # of a tool", "# counts", "", *lines]),
        " ".join([name, lines[0]]) + "\n" + "\n".join(lines[1:]),
        "\n".join([name, *(f"\t{line}  # {i}" for i, line in enumerate(lines) if line)]),
        "\n".join([f"\ufeff{name}", *lines[: 1 + len(VERTICES)], *(f"{line} 255 0 0" for line in lines[6:] if line)]),
    ):
        read(tmp_path, text, ".off", faces=triangles)
    read(tmp_path, "\n".join([name, *lines]).encode("utf-16"), ".off", faces=triangles)
    for colors in (0, 3, 4):
        read(
            tmp_path,
            binary_off([letters for letters in key if letters], VERTICES, faces, colors),
            ".off",
            faces=triangles,
        )


def test_off_without_its_key_and_with_colors_that_it_does_not_name(tmp_path):
    text = off().removeprefix("OFF\n")
    read(tmp_path, text, ".off")
    lines = off().split("\n")
    colored = [f"{line} 255 0 0" if 3 <= i < 3 + len(VERTICES) else line for i, line in enumerate(lines)]
    read(tmp_path, "\n".join(colored), ".off")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (off().replace("OFF", "4OFF"), "(4OFF is of other dimensions than three, which is not read)"),
        (off().replace("OFF", "C4nOFF"), "(4nOFF is of other dimensions than three, which is not read)"),
        (off().replace("OFF", "nOFF\n2"), "(nOFF is of other dimensions than three, which is not read)"),
        (off().replace("OFF", "OFFS"), "(it does not begin with OFF)"),
        (
            off().replace("\n1.0 0.0 0.0\n", " 1.0 0.0 0.0\n"),
            "(line 5 has 3 numbers, not 6; one vertex a line is read)",
        ),
        (off().replace("\n", " "), "(cut short: it ends before its last face)"),  # all of it is a comment
        (
            off().replace("# a comment\n", "").replace("\n", " "),
            "(line 1 has more than counts; one vertex a line is read)",
        ),
        (off().replace("\n3 0 2 1\n", "\n2 0 2\n"), "(a face of 2 corners; three or more are needed)"),
        (b"4OFF BINARY\n", "(4OFF is of other dimensions than three, which is not read)"),
        (binary_off((), VERTICES, [[0, 1]]), "(a face of 2 corners; three or more are needed)"),
        (binary_off((), VERTICES, FACES)[:-1], "(cut short or damaged)"),
        (binary_off((), VERTICES, FACES)[:60], "(cut short or damaged)"),
        (binary_off((), VERTICES, FACES) + b"\0", "(cut short or damaged)"),
    ],
)
def test_off_that_is_not_read_is_named(tmp_path, content, says):
    assert refusal(tmp_path, content, ".off") == says


# OBJ


def with_vertices(faces, before=()):
    """Makes an OBJ file of face lines."""
    return "\n".join([*before, *obj().splitlines()[: len(VERTICES)], *faces]) + "\n"


CORNERS = {
    "v": "{0}", "v/": "{0}/", "v//": "{0}//", "v/vt": "{0}/1", "v//vn": "{0}//2", "v/vt/vn": "{0}/1/2",
    "negative": "{1}", "negative v/vt/vn": "{1}/-1/-1",
}  # fmt: skip


@pytest.mark.parametrize("polygons", POLYGONS)
@pytest.mark.parametrize("corner", CORNERS)
def test_obj_of_all_corners(tmp_path, corner, polygons):
    faces, triangles = POLYGONS[polygons]
    lines = ["f " + " ".join(CORNERS[corner].format(i + 1, i - len(VERTICES)) for i in face) for face in faces]
    before = ["vt 0 0", "vn 0 0 1", "vn 0 1 0", "vt 1 1"]
    read(tmp_path, with_vertices(lines, before), ".obj", faces=triangles)
    read(tmp_path, with_vertices([line.replace(" ", " \\\n\t") for line in lines], before), ".obj", faces=triangles)


FACE_LINES = ["f 1 3 2", "f 1 2 4", "f 2 3 4", "f 1 4 3"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeff" + with_vertices(FACE_LINES), id="a byte-order mark"),
        pytest.param(with_vertices(FACE_LINES).encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xfe\xff" + with_vertices(FACE_LINES).encode("utf-16-be"), id="UTF-16, big-endian"),
        pytest.param(with_vertices(f"{line} # {line}" for line in FACE_LINES), id="comments after faces"),
        pytest.param(with_vertices(f"{line}# a" for line in FACE_LINES), id="comments without a space"),
        pytest.param(with_vertices(FACE_LINES, ["# made in C:\\meshes\\", "#v 1 2 3"]), id="a comment ends in \\"),
        pytest.param(with_vertices(FACE_LINES).replace("\n", "\r"), id="line ends of old Macs"),
        pytest.param(with_vertices(FACE_LINES, ["o a\u2028v 1 2 3", "g b\x0bv 1 2 3"]), id="odd spaces in names"),
        pytest.param(with_vertices(FACE_LINES, ["usemtl caf\xe9"]).encode("latin-1"), id="Latin-1 in a name"),
        pytest.param(with_vertices([f"  {line}\t" for line in FACE_LINES]), id="indented"),
        pytest.param(with_vertices([line.replace("f", "fo") for line in FACE_LINES]), id="faces of version 2"),
        pytest.param(
            with_vertices(
                ["p 1 2", "l 1 2 3", "s 1", "mg 1 2", "lod 3", "bevel on", "c_interp off", "d_interp on", *FACE_LINES],
                ["mtllib a b.mtl", "maplib x", "usemap off", "shadow_obj s.obj", "trace_obj t.obj", "vp 0.5 1"],
            ),
            id="statements that are passed over",
        ),
        pytest.param(
            with_vertices(FACE_LINES)
            .replace("1.0 0.0 0.0", "1.0 0.0 0.0 1.0")
            .replace("0.0 1.0 0.0", "0 1 0 .5 .5 .5"),
            id="weights and colors",
        ),
    ],
)
def test_obj_is_read_whatever_surrounds_it(tmp_path, text):
    read(tmp_path, text, ".obj")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("V 1 2 3", "(line 2: 'V' is no statement of OBJ)"),
        ("vertex 1 2 3", "(line 2: 'vertex' is no statement of OBJ)"),
        ("\u200bv 1 2 3", "(line 2: '\\u200bv' is no statement of OBJ)"),
        ("// a comment", "(line 2: '//' is no statement of OBJ)"),
        ("<html>", "(line 2: '<html>' is no statement of OBJ)"),
        ("v1 2 3", "(line 2: 'v1' is no statement of OBJ)"),
        ("surf 0 1 0 1 1 2 3", "(line 2: surf is of free-form geometry, which is not read)"),
        ("cstype bspline", "(line 2: cstype is of free-form geometry, which is not read)"),
        ("curv 0 1 1 2", "(line 2: curv is of free-form geometry, which is not read)"),
        ("bzp 1 2 3", "(line 2: bzp is of superseded free-form geometry, which is not read)"),
        ("call other.obj", "(line 2: call is of another file, which is not read)"),
        ("f 1 2", "(cut short or damaged at line 2)"),
        ("f 1 2 3,5", "(cut short or damaged at line 2)"),
        ("v 1,5 2 3", "(cut short or damaged at line 2)"),
    ],
)
def test_obj_that_is_not_read_is_named(tmp_path, line, says):
    assert refusal(tmp_path, f"# 1\n{line}\n{with_vertices(FACE_LINES)}", ".obj") == says


def test_obj_whose_last_line_is_to_go_on(tmp_path):
    text = with_vertices(FACE_LINES)
    assert refusal(tmp_path, text + "f 1 2 \\", ".obj") == "(cut short: its last line is to go on)"
    assert refusal(tmp_path, text + "f 1 2 \\\n", ".obj") == "(cut short or damaged at line 11)"
