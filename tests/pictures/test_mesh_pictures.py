"""Pictures of a run of meshes, against meshes decoded from the model one seed at a time."""

import jax
import numpy as np
import pytest
import trimesh
from PIL import Image

from jaxgen.data.mesh_files import decoded
from jaxgen.deformation import aligned
from jaxgen.drawing import AZIMUTH, TWO_SIDES, image_grid, mesh_images, stacked
from jaxgen.pictures import sample
from jaxgen.report import contents
from jaxgen.training import Settings, open_run, train

SEEDS = (4, 1)
SIDE = 128
V = 42
"""Vertices of a mesh."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps with two latents, on ellipsoids that bend."""
    folder, ball, rng = tmp_path_factory.mktemp("meshes"), trimesh.creation.icosphere(1), np.random.default_rng(0)
    (folder / "data").mkdir()
    meshes = ball.vertices * rng.uniform(0.5, 1.5, (30, 1, 3))
    meshes[..., 1] += rng.uniform(-1, 1, (30, 1)) * meshes[..., 0] ** 2
    np.savez(folder / "data" / "balls.npz", verts=meshes, faces=ball.faces)
    config = {"features": "aligned", "latent_dim": 2, "hidden": (8,)}
    settings = Settings(
        dataset="mesh_folder", data_from=str(folder / "data"), seeds=SEEDS, steps=2, batch_size=8, log_every=2
    )
    return train("meshvae", config, settings, out=folder / "run", progress=False)


@pytest.fixture(scope="module")
def opened(run):
    return open_run(run.path)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def of_seed(opened, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], opened.state)


def grids(opened, table):
    """The picture of a table of meshes [seeds, rows, columns, V, 3], each seen from two sides."""
    images = mesh_images(table.reshape(-1, *table.shape[3:]), opened.plan.dataset.spec.faces, SIDE, TWO_SIDES)
    images = images.reshape(*table.shape[:3], *images.shape[1:])
    return stacked([image_grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1]) for rows in images])


def test_an_interpolation_stands_above_the_straight_path_of_the_vertices(run, opened, tmp_path):
    found = arrays(sample(run.path, "interpolation", num=2, steps=3, out=tmp_path / "a.npz"))
    assert found["mesh"].shape == found["straight"].shape == (2, 2, 3, V, 3)
    for i, state in enumerate(of_seed(opened, i) for i in range(2)):
        codes = found["z"][i].reshape(6, 2)
        expected = opened.plan.model.latents.decode(state, codes, {})["mesh"]
        np.testing.assert_allclose(found["mesh"][i].reshape(6, V, 3), expected, atol=1e-5)
    first, last = found["mesh"][:, :, 0], found["mesh"][:, :, -1]
    for seed, row in np.ndindex(2, 2):
        end = aligned(last[seed, row][None], first[seed, row])[0]
        for step, share in enumerate((0, 0.5, 1)):
            straight = (1 - share) * first[seed, row] + share * end
            np.testing.assert_allclose(found["straight"][seed, row, step], straight, atol=1e-5)
    picture = pixels(sample(run.path, "interpolation", num=2, steps=3, out=tmp_path / "a.png"))
    table = np.stack([found["mesh"], found["straight"]], axis=2).reshape(2, 4, 3, V, 3)
    np.testing.assert_array_equal(picture, grids(opened, table))
    with Image.open(sample(run.path, "interpolation", num=2, steps=3, out=tmp_path / "a.gif")) as path:
        assert path.n_frames == 4  # there and back


def test_a_page_has_both_paths(run, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "PAIRS", 2)
    monkeypatch.setattr(contents, "STEPS", 3)
    found = arrays(sample(run.path, "interpolation", num=2, steps=3, out=tmp_path / "a.npz"))
    spec = opened.plan.dataset.spec
    row = contents.pictures({"run": opened}, opened.plan.dataset)["rows"]["run"]
    assert row["path_labels"] == ["decoded", "straight"] * 2
    for i, seed in enumerate(SEEDS):
        shown = row["interpolation"][seed]
        meshes = np.stack([found["mesh"][i], found["straight"][i]], axis=1).reshape(4 * 3, V, 3)
        expected = mesh_images(meshes, spec.faces, shown.shape[2])
        np.testing.assert_array_equal(shown.reshape(12, *shown.shape[2:]), expected)


def test_reconstructions_stand_below_their_meshes(run, opened, tmp_path):
    found = arrays(sample(run.path, "reconstructions", num=3, out=tmp_path / "a.npz"))
    test, spec = opened.plan.dataset.test, opened.plan.dataset.spec
    expected = aligned(test["mesh"][found["example"]], spec.reference)
    for i, state in enumerate(of_seed(opened, i) for i in range(2)):
        np.testing.assert_allclose(found["mesh"][i, :, 0], expected, atol=1e-5)
        latents = opened.plan.model.latents
        codes = latents.encode(state, {"aligned": test["aligned"][found["example"]]})
        np.testing.assert_allclose(found["mesh"][i, :, 1], latents.decode(state, codes, {})["mesh"], atol=1e-4)
    picture = pixels(sample(run.path, "reconstructions", num=3, out=tmp_path / "a.png"))
    # three pairs in a grid of three columns, a pair being one image
    images = mesh_images(found["mesh"].reshape(-1, V, 3), spec.faces, SIDE, TWO_SIDES)
    pairs = images.reshape(2, 3, 2 * SIDE, 2 * SIDE, 3)
    np.testing.assert_array_equal(picture, stacked([image_grid(each, 3) for each in pairs]))


@pytest.mark.parametrize(("kind", "shape"), [("traversal", (2, 2, 5)), ("manifold", (2, 5, 5))])
def test_other_codes_are_decoded_too(kind, shape, run, opened, tmp_path):
    found = arrays(sample(run.path, kind, steps=5, out=tmp_path / "a.npz"))
    assert found["mesh"].shape == (*shape, V, 3)
    expected = opened.plan.model.latents.decode(of_seed(opened, 1), found["z"][1].reshape(-1, 2), {})["mesh"]
    np.testing.assert_allclose(found["mesh"][1].reshape(-1, V, 3), expected, atol=1e-5)
    assert "straight" not in found
    np.testing.assert_array_equal(
        pixels(sample(run.path, kind, steps=5, out=tmp_path / "a.png")), grids(opened, found["mesh"])
    )


def test_samples_as_a_folder_are_files_of_meshes(run, tmp_path):
    """Reads them back: the meshes of the npz, in the data's connectivity."""
    folder = sample(run.path, num=2, out=f"{tmp_path}/meshes/")
    found = arrays(sample(run.path, num=2, out=tmp_path / "a.npz"))
    names = [f"seed-{seed}-{i:05}.ply" for seed in SEEDS for i in range(2)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name, mesh in zip(names, found["mesh"], strict=True):
        vertices, faces = decoded(folder / name)[:2]
        np.testing.assert_array_equal(vertices[0], mesh)
        np.testing.assert_array_equal(faces, open_run(run.path).plan.dataset.spec.faces)


def test_two_views_are_turned_by_a_quarter():
    """A rod along x is long from z and a dot from x; the first view is the one of a single view."""
    rod = np.array([[-1, 0, 0], [1, 0, 0], [0, 0.05, 0]], float)
    faces = np.array([[0, 1, 2]])
    (image,) = mesh_images(rod[None], faces, 64, (0, np.pi / 2))
    lit = (image != image[0, 0]).any(2)
    assert image.shape == (64, 128, 3)
    assert np.ptp(np.flatnonzero(lit[:, :64].any(0))) > 50
    assert lit[:, 64:].any(0).sum() <= 2
    np.testing.assert_array_equal(mesh_images(rod[None], faces, 64, (AZIMUTH,)), mesh_images(rod[None], faces, 64))
