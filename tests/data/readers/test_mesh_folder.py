import dataclasses
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import trimesh

from jaxgen import data
from jaxgen.data.mesh_files import decoded
from jaxgen.data.options import Options
from jaxgen.data.readers.mesh_folder import identity, read
from jaxgen.errors import UserError

VERTICES = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.1, 1 / 3, 2e-5], [7, 8, -9]])  # the last in no triangle
FACES = np.int32([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def obj(vertices=VERTICES, faces=FACES, corner="{}"):
    lines = ["v " + " ".join(map(repr, vertex)) for vertex in vertices.tolist()]
    return "\n".join(lines + ["f " + " ".join(corner.format(i + 1) for i in face) for face in faces]) + "\n"


def off(vertices=VERTICES, faces=FACES):
    lines = [" ".join(map(repr, vertex)) for vertex in vertices.tolist()]
    lines += [" ".join(map(str, [len(face), *face])) for face in faces]
    return "\n".join(["OFF", "# a comment", f"{len(vertices)} {len(faces)} 0", *lines]) + "\n"


def ply(kind, vertices=VERTICES, faces=FACES):
    header = (
        f"ply\nformat {kind} 1.0\ncomment here\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    if kind == "ascii":
        return header + off(vertices, faces).split("\n", 3)[3].encode()
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[kind]
    rows = [struct.pack(f"{order}B{len(face)}i", len(face), *face) for face in faces]
    return header + vertices.astype(order + "f4").tobytes() + b"".join(rows)


def write(folder, contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Options("mesh_folder", data_from=str(folder))


def one(folder, content, suffix):
    """Decodes a file with this content."""
    write(folder, {f"0{suffix}": content})
    return decoded(folder / f"0{suffix}")


def everything(source):
    """The meshes in the order of their files, collected from splits of ten by the rule."""
    splits = {split: list(entries["mesh"]) for split, entries in source.splits.items()}
    n = sum(map(len, splits.values()))
    wanted = [{1: "validation", 2: "test"}.get(i % 10, "train") for i in range(n)]
    return np.stack([splits[split].pop(0) for split in wanted])


FORMATS = {
    "obj": (obj(), ".obj"),
    "obj with normals": ("vn 0 0 1\nvn 0 1 0\n" + obj(corner="{}//1").replace("//1\nf", "//2\nf"), ".obj"),
    "obj with seams": (
        "vt 0 0\nvt 1 0\nvt 1 1\n" + obj(corner="{}/1/1").replace("2/1", "2/3"),
        ".OBJ",
    ),
    "obj of parts": (
        "mtllib a.mtl\no one\n" + obj(faces=FACES[:2]) + "usemtl b\n" + obj(VERTICES[:0], FACES[2:3]) + "g two\ns off\n"
        "usemtl c\nf 1 \\\n 4 3\n",
        ".obj",
    ),
    "obj with colors, of Windows": (obj().replace("\nf", " 1 0 1\nf", 1).replace("\n", "\r\n"), ".obj"),
    "obj counted back": (
        # Negative indices count from the last vertex read so far: of 4 first, then of 5.
        obj(faces=FACES[:2])
        .replace("v 7.0 8.0 -9.0\n", "")
        .replace("f 1 3 2", "f -4 -2 -3")
        .replace("f 1 2 4", "f -4/-1 2/-1 -1/-1")
        + "v 7 8 -9\nf -4 -3 -2\nf 1 -2 -3\n",
        ".obj",
    ),
    "off": (off(), ".off"),
    "off with its counts in the first line, and colors": (
        "# a comment\n" + off().replace("OFF\n# a comment\n", "COFF ").replace("3 0 1 3", "3 0 1 3 0.5 0.5 1"),
        ".off",
    ),
    "ascii ply": (ply("ascii"), ".ply"),
    "little-endian ply": (ply("binary_little_endian"), ".ply"),
    "big-endian ply": (ply("binary_big_endian"), ".ply"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_keeps_vertices_and_faces_exactly(tmp_path, form):
    found = one(tmp_path, *FORMATS[form])
    assert (found.vertices.dtype, found.faces.dtype, found.note) == (np.float32, np.int32, "")
    np.testing.assert_array_equal(found.faces, FACES)
    np.testing.assert_array_equal(found.vertices, VERTICES[None])


def test_ply_with_texture_coordinates(tmp_path):
    """Different texture coordinates at two corners of a vertex must not split the vertex."""
    text = ply("ascii").decode().replace("vertex_indices\n", "vertex_indices\nproperty list uchar float texcoord\n")
    head, rest = text.split("end_header\n")
    lines = rest.splitlines()
    for i in range(len(FACES)):
        lines[len(VERTICES) + i] += f" 6 0 0 {i} 0 {i} {i}"
    found = one(tmp_path, head + "end_header\n" + "\n".join(lines) + "\n", ".ply")
    np.testing.assert_array_equal(found.faces, FACES)
    np.testing.assert_array_equal(found.vertices, VERTICES[None])


@pytest.mark.parametrize(
    ("content", "suffix"),
    [(obj(faces=[[0, 1, 4, 2]]), ".obj"), (off(faces=[[0, 1, 4, 2]]), ".off")]
    + [(ply(kind, faces=[[0, 1, 4, 2]]), ".ply") for kind in ("ascii", "binary_little_endian", "binary_big_endian")],
)
def test_a_quadrilateral_is_two_triangles(tmp_path, content, suffix):
    faces = one(tmp_path, content, suffix).faces
    # the same corners in the same orientation, two triangles with a common diagonal
    assert faces.tolist() == [[0, 1, 4], [4, 2, 0]]


def test_natural_order_and_splits(tmp_path):
    names = [f"pose{i}.{suffix}" for i, suffix in enumerate(["obj", "off"] * 12)]
    meshes = np.stack([VERTICES + np.float32(i) for i in range(24)])
    contents = {name: (obj if name.endswith("obj") else off)(mesh) for name, mesh in zip(names, meshes, strict=True)}
    options = write(tmp_path, contents | {"notes.txt": "x", ".pose0.obj": "hidden", "a.mtl": ""})
    (tmp_path / "folder.obj").mkdir()
    source = read(options)
    assert list(source.splits) == ["train", "validation", "test"]
    offsets = {split: entries["mesh"][:, 0, 0].tolist() for split, entries in source.splits.items()}
    assert offsets["validation"] == [1, 11, 21]
    assert offsets["test"] == [2, 12, 22]
    assert offsets["train"] == [0, *range(3, 11), *range(13, 21), 23]
    np.testing.assert_array_equal(everything(source), meshes)
    assert source.note.startswith("24 meshes of 5 vertices and 4 triangles from the folder ")
    assert str(tmp_path.parent) not in source.note


def numbered(folder, count, first=0):
    """Writes meshes, each shifted by its number."""
    return write(folder, {f"{i}.obj": obj(VERTICES + np.float32(i)) for i in range(first, first + count)})


def offsets(source):
    return {split: entries["mesh"][:, 0, 0].astype(int).tolist() for split, entries in source.splits.items()}


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_blocks_of_consecutive_meshes_share_a_split(tmp_path, size):
    options = dataclasses.replace(numbered(tmp_path, 48), split_blocks=size)
    source = read(options)
    blocks = [range(start, min(start + size, 48)) for start in range(0, 48, size)]
    of = {"validation": 1, "test": 2}
    for split, place in of.items():
        assert offsets(source)[split] == [i for block in blocks[place::10] for i in block]
    assert offsets(source)["train"] == [
        i for place, block in enumerate(blocks) if place % 10 not in of.values() for i in block
    ]
    what = "meshes" if size == 1 else f"blocks of {size} meshes"
    assert f"; of every ten {what} in order, the second is for validation and the third for testing" in source.note


def test_too_few_blocks(tmp_path):
    options = numbered(tmp_path, 8)
    assert read(dataclasses.replace(options, split_blocks=3)).splits["test"]["mesh"].shape == (2, *VERTICES.shape)
    with pytest.raises(UserError, match=r"8 meshes in it in blocks of 4; at least 3 blocks are needed, one for each"):
        read(dataclasses.replace(options, split_blocks=4))


@pytest.mark.parametrize("bad", [0, 1, 2, 9, 11])
def test_a_bad_file_that_is_left_out_moves_no_other(tmp_path, bad):
    options = numbered(tmp_path, 24)
    before = offsets(read(options))
    (tmp_path / f"{bad}.obj").write_text("v 1 2\n")
    assert refused(options).endswith(r"(cut short or damaged at line 1); --skip-bad leaves such files out")
    source = read(dataclasses.replace(options, skip_bad=True))
    assert offsets(source) == {split: [i for i in those if i != bad] for split, those in before.items()}
    assert source.skipped == {split: int(bad in those) for split, those in before.items()}
    assert source.note.startswith("23 meshes of 5 vertices and 4 triangles from the folder ")


def test_bad_files_without_which_nothing_is_left(tmp_path):
    options = dataclasses.replace(numbered(tmp_path, 5), skip_bad=True)
    (tmp_path / "1.obj").write_text("v 1 2\n")
    with pytest.raises(UserError, match=r"no mesh is left for validation with --skip-bad: .*1\.obj: not readable"):
        read(options)
    write(tmp_path, {f"{i}.obj": "" for i in range(5)})
    with pytest.raises(
        UserError, match=r"no mesh is left for train with --skip-bad: .*0\.obj: the file is empty; .*1\."
    ):
        read(options)


def test_left_out_meshes_are_counted_in_the_note(tmp_path):
    options = numbered(tmp_path, 12)
    (tmp_path / "3.obj").write_text("")
    found = data.load("mesh_folder", data_from=options.data_from, skip_bad=True)
    assert found.note.endswith("; left out because they cannot be decoded: 1 of train.")


def test_what_is_passed_over_is_told(tmp_path):
    options = numbered(tmp_path, 4)
    assert "passed over" not in read(options).note
    before = identity(options)
    write(tmp_path, {"a.fbx": "", "b.FBX": "", "a.mtl": "", "README": "", ".hidden": ""})
    (tmp_path / "more.obj").mkdir()
    assert read(options).note.endswith("; passed over: 1 without suffix, 2 .fbx, 1 .mtl, 1 folder")
    assert identity(options) != before


def test_meshes_in_folders_inside(tmp_path):
    write(tmp_path / "b", {"0.PLY": ply("ascii")})
    write(tmp_path / "a", {"0.txt": ""})
    message = refused(Options("mesh_folder", data_from=str(tmp_path)))
    assert message == f"{tmp_path}: no meshes in it, but in its folder b; one folder is read: name it"


def test_copies_in_several_splits_are_refused(tmp_path):
    options = numbered(tmp_path, 24)
    assert "duplicates" not in read(options).note
    near = VERTICES + np.float32(2) + np.float32(3e-3)  # of a box whose diagonal is 57
    (tmp_path / "11.obj").write_text(off(near))
    (tmp_path / "11.obj").rename(tmp_path / "11.off")  # in validation; 2 is in test
    (tmp_path / "13.obj").write_text(obj(VERTICES + np.float32(12)))  # in train; 12 is in test
    (tmp_path / "14.obj").write_text(obj(VERTICES + np.float32(12)))
    (tmp_path / "23.obj").write_text(obj(VERTICES))  # in train, as 0 is
    assert refused(options) == (
        f"{tmp_path}: 11.off (for validation) repeats 2.obj (for test), 3 such in all; "
        "--drop-duplicates leaves out meshes that repeat an earlier one"
    )
    source = read(dataclasses.replace(options, drop_duplicates=True))
    assert offsets(source) == {
        "train": [0, *range(3, 11), *range(15, 21)], "validation": [1, 21], "test": [2, 12, 22]
    }  # fmt: skip
    assert source.skipped == {"train": 0, "validation": 0, "test": 0}
    assert "; duplicates left out: 4, the first 11.off, which repeats 2.obj" in source.note


def test_copies_within_a_split_are_told(tmp_path):
    options = numbered(tmp_path, 24)
    (tmp_path / "23.obj").write_text(obj(VERTICES + np.float32(5)))
    source = read(options)
    assert "; duplicates of its own split: 1, the first 23.obj, which repeats 5.obj" in source.note
    assert len(source.splits["train"]["mesh"]) == 18


def test_small_motions_are_no_copies(tmp_path):
    """Neighbors in an animation differ by little, here by 2e-4 of the diagonal of all meshes' box."""
    meshes = np.stack([VERTICES + n * np.float32([4e-3, 0, 0]) for n in range(6)])
    np.savez(tmp_path / "0.npz", verts=meshes, faces=FACES)
    assert "duplicates" not in read(Options("mesh_folder", data_from=str(tmp_path))).note


def test_dropped_copies_leave_nothing(tmp_path):
    options = write(tmp_path, {f"{i}.obj": obj() for i in range(4)})
    with pytest.raises(UserError, match=r"no mesh is left for validation without those that repeat an earlier one"):
        read(dataclasses.replace(options, drop_duplicates=True))


def test_vertices_without_a_triangle_are_told(tmp_path):
    note = read(numbered(tmp_path, 3)).note
    assert note.endswith("; vertices without a triangle: 1, the first 4")


def as_stl(vertices, faces):
    """A binary STL file, with normals of 0."""
    rows = [np.concatenate([np.zeros(3), vertices[face].ravel()]).astype("<f4").tobytes() + b"\0\0" for face in faces]
    return bytes(80) + struct.pack("<I", len(faces)) + b"".join(rows)


def test_corners_of_stl_at_one_place_are_one_vertex(tmp_path):
    """Vertices are numbered by their first corner; the one that is in no triangle is not in the file."""
    text = "solid\n" + "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex " + " ".join(map(repr, VERTICES[i].tolist())) + "\n" for i in face)
        + "endloop\nendfacet\n"
        for face in FACES
    )
    binary = as_stl(VERTICES, FACES)
    for content in (binary, text + "endsolid\n"):
        found = one(tmp_path, content, ".stl")
        np.testing.assert_array_equal(found.vertices, VERTICES[None, [0, 2, 1, 3]])
        assert found.faces.tolist() == [[0, 1, 2], [0, 2, 3], [2, 1, 3], [0, 3, 1]]
    for content in (binary[:-7], binary + b"\0", text, "solid\n"):
        write(tmp_path, {"0.stl": content})
        with pytest.raises(UserError, match=r"0\.stl: (not readable as \.stl|no faces)"):
            decoded(tmp_path / "0.stl")


def test_glb_keeps_vertices_and_faces(tmp_path):
    """Vertices at one place stay two; parts stand at their places."""
    seam = np.concatenate([VERTICES, VERTICES[:1]])
    faces = np.concatenate([FACES, [[5, 1, 3]]])
    found = one(tmp_path, trimesh.Trimesh(seam, faces, process=False).export(file_type="glb"), ".glb")
    np.testing.assert_array_equal(found.vertices, seam[None])
    np.testing.assert_array_equal(found.faces, faces)
    scene = trimesh.Scene()
    moved = np.eye(4)
    moved[:3, 3] = 1, 2, 3
    for name, transform in (("b", moved), ("a", np.eye(4))):
        part = trimesh.Trimesh(VERTICES, FACES, process=False)
        scene.add_geometry(part, node_name=name, geom_name=f"of {name}", transform=transform)
    content = scene.export(file_type="glb")
    found = one(tmp_path, content, ".glb")
    np.testing.assert_allclose(found.vertices[0], np.concatenate([VERTICES, VERTICES + np.float32([1, 2, 3])]))
    np.testing.assert_array_equal(found.faces, np.concatenate([FACES, FACES + 5]))
    write(tmp_path, {"0.glb": content[:-40]})
    with pytest.raises(UserError, match=r"0\.glb: not readable as \.glb"):
        decoded(tmp_path / "0.glb")


def test_heads_of_facekit_are_drawn(tmp_path):
    """Weights are standard normal, so vertices have the mean of the neutral head and the sum of squares as variance."""
    rng = np.random.default_rng(0)
    neutral, moves = VERTICES, rng.normal(0, 0.1, (4, *VERTICES.shape))
    arrays = {"neutral": neutral, "identity": (neutral + moves).astype(np.float32), "faces": FACES}
    np.savez(tmp_path / "heads.npz", **arrays, expression=arrays["identity"][:1], names=["a"])
    found = decoded(tmp_path / "heads.npz")
    assert found.vertices.shape == (250, *VERTICES.shape)
    away = (found.vertices - neutral).reshape(250, -1)
    weights, misfit = np.linalg.lstsq(moves.reshape(4, -1).T, away.T, rcond=None)[:2]
    assert misfit.max() < 1e-9
    assert scipy.stats.kstest(weights.ravel(), "norm").pvalue > 0.01
    np.testing.assert_allclose(np.cov(weights), np.eye(4), atol=0.25)
    source = read(Options("mesh_folder", data_from=str(tmp_path)))
    assert [len(entries["mesh"]) for entries in source.splits.values()] == [200, 25, 25]
    assert (
        "; 250 heads drawn from ICT FaceKit's 4 identities, with standard normal weights; of every ten" in source.note
    )


def test_npz_with_other_files(tmp_path):
    meshes = np.stack([VERTICES * np.float32(i) for i in range(1, 5)])
    np.savez(tmp_path / "10.npz", verts=meshes[1:], faces=FACES.astype(np.int64))
    options = write(tmp_path, {"9.obj": obj(meshes[0])})
    np.testing.assert_array_equal(everything(read(options)), meshes)


def test_identity_follows_the_files(tmp_path):
    options = write(tmp_path, {"1.obj": obj(), "2.obj": obj(), "a.txt": ""})
    before = identity(options)
    (tmp_path / "a.txt").write_text("passed over")
    assert identity(options) == before
    seen = {before}
    stat = (tmp_path / "1.obj").stat()
    os.utime(tmp_path / "1.obj", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    seen.add(identity(options))
    stat = (tmp_path / "2.obj").stat()
    (tmp_path / "2.obj").write_text(obj() + "\n")
    os.utime(tmp_path / "2.obj", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only the size differs
    seen.add(identity(options))
    (tmp_path / "2.obj").rename(tmp_path / "3.obj")
    seen.add(identity(options))
    assert len(seen) == 4
    assert all(len(x) == 64 for x in seen)


def refused(options):
    with pytest.raises(UserError) as error:
        read(options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_folders_refused(tmp_path):
    for function in (read, identity):
        with pytest.raises(UserError, match="--data-from FOLDER"):
            function(Options("mesh_folder"))
        with pytest.raises(UserError, match="none: No such file or directory; mesh_folder needs a folder"):
            function(Options("mesh_folder", data_from=str(tmp_path / "none")))
        with pytest.raises(UserError, match=r"no meshes in it; their files end in \.npz, \.obj, \.off, \.ply"):
            function(write(tmp_path, {"a.fbx": ""}))
    assert "2 meshes in it; at least 3" in refused(write(tmp_path, {"a.obj": obj(), "b.obj": obj()}))
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(Options("mesh_folder", data_from=str(tmp_path / "file")))


NAN = VERTICES.copy()
NAN[3, 1] = np.nan
HUGE = VERTICES.astype(np.float64) * 1e39  # float32 ends at 3.4e38

BAD = {
    "half an obj": ("a.obj", obj()[:20], r"not readable as \.obj \(cut short or damaged at line 2\)"),
    "half a face": ("a.obj", obj()[:-3], r"\(cut short or damaged at line 9\)"),
    "words": ("a.obj", obj().replace("v 1.0", "v one"), r"\(cut short or damaged at line 2\)"),
    "words after a long line": ("a.obj", "v 0 \\\n 0 0\nf a\n", r"\(cut short or damaged at line 3\)"),
    "two coordinates": ("a.obj", "v 1 2\nv 3 4\nv 5 6\nf 1 2 3\n", r"\(cut short or damaged at line 1\)"),
    "empty obj": ("a.obj", "", "the file is empty"),
    "no obj": ("a.obj", b"\x00\xff\x13 a picture", r"\(line 1: '\\x00.\\x13' is no statement of OBJ\)"),
    "counted from 0": ("a.obj", obj(faces=FACES - 1), r"triangle 0 has the vertices \[-1, 1, 0\]"),
    "beyond": ("a.obj", obj(faces=FACES + 2), r"triangle 1 has the vertices \[2, 3, 5\], counted from 0, of 5"),
    "back too far": (
        "a.obj",
        obj() + "f -5 -6 -4\n",
        r"triangle 4 has the vertices \[0, -1, 1\], counted from 0, of 5",
    ),
    "nan": ("a.obj", obj(NAN), "vertex 3 of mesh 0 is not finite"),
    "far": ("a.obj", obj(2e12 * VERTICES), r"vertex 1 of mesh 0 has coordinates beyond 1e\+12: \[1999999991808.0"),
    "huge": ("a.obj", obj(HUGE), r"vertex 1 of mesh 0 is not finite: \[inf, 0.0, 0.0\]"),
    "half an off": ("a.off", off()[:40], r"not readable as \.off \(cut short or damaged at line 5\)"),
    "half a face of an off": ("a.off", off()[:-3], r"\(cut short or damaged at line 12\)"),
    "an off without its last face": ("a.off", off()[:-8], r"\(cut short: it ends before its last face\)"),
    "no off": ("a.off", obj(), r"\(it does not begin with OFF\)"),
    "counts of an off": ("a.off", "OFF\n5\n", r"\(cut short or damaged at line 2\)"),
    "an off of one word": ("a.off", "OFF", r"\(cut short: it ends before its last face\)"),
    "off beyond": ("a.off", off(faces=FACES + 2), "vert"),
    "empty off": ("a.off", "", "the file is empty"),
    "half a ply": ("a.ply", ply("ascii")[:-50], r"not readable as \.ply \(cut short or damaged\)|no faces"),
    "half a binary ply": ("a.ply", ply("binary_big_endian")[:-3], r"not readable as \.ply \(cut short or damaged\)"),
    "half a header": ("a.ply", ply("ascii")[:60], r"not readable as \.ply \(cut short or damaged\)"),
    "empty ply": ("a.ply", b"", "the file is empty"),
    "points": ("a.ply", ply("ascii", faces=[]), "no faces"),
    "ply beyond": ("a.ply", ply("binary_little_endian", faces=FACES + 2), r"triangle 1 has the vertices \[2, 3, 5\]"),
    "ply negative": ("a.ply", ply("ascii", faces=FACES - 1), r"triangle 0 has the vertices \[-1, 1, 0\]"),
    "no npz": ("a.npz", obj(), r"not readable as \.npz \(no archive, or one cut short\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_files_are_named(tmp_path, bad):
    name, content, message = BAD[bad]
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, {"0.obj": obj(), name: content}))
    assert refused(write(tmp_path, {"0.obj": obj(), name: content})).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"verts": VERTICES[None]}, "it has verts, and not faces"),
        ({"neutral": VERTICES}, "it has neutral, and not verts and faces"),
        ({"verts": VERTICES, "faces": FACES}, r"vertices are float32 \[5, 3\]; float \[meshes, V, 3\]"),
        ({"verts": VERTICES[None].astype(int), "faces": FACES}, r"vertices are int64 \[1, 5, 3\]"),
        ({"verts": VERTICES[None], "faces": FACES.astype(float)}, r"faces are float64 \[4, 3\]; int \[F, 3\]"),
        ({"verts": VERTICES[None], "faces": FACES[:, :2]}, r"faces are int32 \[4, 2\]; int \[F, 3\]"),
        ({"verts": VERTICES[None], "faces": FACES[:0]}, "no faces"),
        ({"verts": np.stack([VERTICES, NAN]), "faces": FACES}, "vertex 3 of mesh 1 is not finite"),
        ({"verts": VERTICES[None], "faces": np.array([[None] * 3])}, "not readable"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read(Options(data_from=str(tmp_path)))
    assert refused(Options(data_from=str(tmp_path))).startswith(str(tmp_path / "a.npz"))


def test_truncated_npz(tmp_path):
    np.savez(tmp_path / "a.npz", verts=np.stack([VERTICES] * 100), faces=FACES)
    content = (tmp_path / "a.npz").read_bytes()
    assert "cut short" in refused(write(tmp_path, {"a.npz": content[: len(content) // 2]}))


def test_other_connectivity_is_named(tmp_path):
    fine = {"0.obj": obj(), "1.obj": obj()}
    cut = refused(write(tmp_path, fine | {"2.off": off(faces=FACES[:3])}))
    assert cut.startswith(f"{tmp_path / '2.off'}: 5 vertices and 3 triangles, but 0.obj has 5 and 4;")
    (tmp_path / "2.off").unlink()
    fewer = refused(write(tmp_path, fine | {"2.obj": obj(VERTICES[:4])}))
    assert fewer.startswith(f"{tmp_path / '2.obj'}: 4 vertices and 4 triangles, but 0.obj has 5 and 4;")
    turned = np.concatenate([FACES[:3], np.roll(FACES[3:], 1, axis=1)])
    other = refused(write(tmp_path, fine | {"2.obj": obj(faces=turned)}))
    assert other.startswith(f"{tmp_path / '2.obj'}: triangle 3 has the vertices [2, 0, 3], but 0.obj has [0, 3, 2]")


# Real meshes


@pytest.fixture
def real():
    folder = Path(os.environ.get("JAXGEN_TEST_DATA", "")) / "meshes"
    if "JAXGEN_TEST_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs JAXGEN_TEST_DATA, a folder with meshes/")
    return folder


def load(path):
    with np.load(path) as arrays:
        return dict(arrays)


def linked(folder, *files):
    for file in files:
        (folder / file.name).symlink_to(file)
    return Options("mesh_folder", data_from=str(folder))


def sizes(source):
    return [len(entries["mesh"]) for entries in source.splits.values()]


def test_horses(real, tmp_path):
    """The second half of the gallop repeats the first within 4e-5 of the diagonal."""
    options = linked(tmp_path, real / "horse-gallop.npz", real / "horse-poses.npz")
    assert refused(options).startswith(
        f"{tmp_path}: mesh 25 of horse-gallop.npz (for train) repeats mesh 1 of horse-gallop.npz (for validation), "
    )
    source = read(dataclasses.replace(options, drop_duplicates=True))
    gallop, poses = (load(real / f"horse-{name}.npz") for name in ("gallop", "poses"))
    assert sizes(source) == [26, 4, 4]
    np.testing.assert_array_equal(source.faces, gallop["faces"])
    distinct = np.concatenate([gallop["verts"][:24], poses["verts"]])
    np.testing.assert_array_equal(
        np.sort(np.concatenate([entries["mesh"] for entries in source.splits.values()]).sum((1, 2))),
        np.sort(distinct.sum((1, 2))),
    )


def test_cows(real, tmp_path):
    source = read(linked(tmp_path, real / "pcow.npz"))
    assert sizes(source) == [162, 21, 21]
    np.testing.assert_array_equal(source.faces, load(real / "pcow.npz")["faces"])


def test_heads(real, tmp_path):
    heads = load(real / "ict_facekit_verts.npz")
    source = read(linked(tmp_path, real / "ict_facekit_verts.npz"))
    assert sizes(source) == [200, 25, 25]
    np.testing.assert_array_equal(source.faces, heads["faces"])
    (tmp_path / "ict_facekit_verts.npz").unlink()
    np.savez(tmp_path / "heads.npz", verts=heads["expression"], faces=heads["faces"])
    assert sizes(read(Options("mesh_folder", data_from=str(tmp_path)))) == [45, 6, 6]


def test_real_meshes_of_two_kinds_are_refused(real, tmp_path):
    message = refused(linked(tmp_path, real / "horse-poses.npz", real / "pcow.npz"))
    assert "pcow.npz: 2904 vertices and 5804 triangles, but horse-poses.npz has 8431 and 16843" in message


def test_a_real_mesh_through_every_format(real, tmp_path):
    cow = load(real / "pcow.npz")
    vertices, faces = cow["verts"][100], cow["faces"]
    contents = {"0.obj": obj(vertices, faces), "1.off": off(vertices, faces)}
    for i, kind in enumerate(("ascii", "binary_little_endian", "binary_big_endian")):
        contents[f"{i + 2}.ply"] = ply(kind, vertices, faces)
    write(tmp_path, contents)
    for name in contents:
        found = decoded(tmp_path / name)
        np.testing.assert_array_equal(found.faces, faces)
        np.testing.assert_array_equal(found.vertices, vertices[None])
