"""Grids of samples: their conditions, and pictures of images, points and meshes."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.drawing import image_grid, mesh_images, point_image
from jaxgen.model import Model, Sampler, Spec
from jaxgen.pictures import sample
from jaxgen.report import contents
from jaxgen.training import Settings, open_run, train
from jaxgen.training.engine import streams
from jaxgen.training.record import grid_condition, pictured

SHAPES = {"image": (8, 8, 1), "point": (2,), "mesh": (4, 3)}
FACES = np.int32([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def spec_of(subject, num_classes=None):
    entries = {"label": jax.ShapeDtypeStruct((), np.int32), subject: jax.ShapeDtypeStruct(SHAPES[subject], np.float32)}
    return Spec(entries, 9, num_classes, faces=FACES)


def dataset_of(subject, num_classes=None, captions=()):
    return SimpleNamespace(spec=spec_of(subject, num_classes), test={"caption": np.int32(captions)})


def model_of(*conditions):
    return Model(None, (), (), sampler=Sampler(None, conditions))


@pytest.mark.parametrize(
    ("subject", "asked", "num", "columns"),
    [("image", None, 64, 8), ("image", 50, 50, 8), ("point", None, 1000, 1), ("point", 7, 7, 1), ("mesh", None, 16, 4)],
)
def test_a_grid_of_what_nothing_is_asked_of_is_square_and_points_are_one_picture(subject, asked, num, columns):
    assert grid_condition(model_of(), dataset_of(subject, 3), asked) == (num, columns, {})


@pytest.mark.parametrize(
    ("subject", "classes", "asked", "columns"),
    [
        ("image", 10, None, 6),
        ("image", 10, 29, 2),
        ("image", 100, None, 1),
        ("point", 8, None, 125),
        ("mesh", 3, None, 5),
    ],
)
def test_a_grid_of_labels_has_a_row_for_each_class(subject, classes, asked, columns):
    num, found, condition = grid_condition(model_of("label"), dataset_of(subject, classes), asked)
    assert (num, found, list(condition)) == (classes * columns, columns, ["label"])
    assert condition["label"].dtype == np.int32
    assert condition["label"].reshape(classes, columns).tolist() == [[label] * columns for label in range(classes)]


def test_a_grid_of_captions_has_a_row_for_each_of_the_first_that_differ():
    """Four captions with one twice: a grid of 4 or 5 images asks for two of them, a grid of 64 for all three."""
    dataset = dataset_of("image", captions=[[3, 1], [2, 0], [3, 1], [1, 1]])
    for asked, rows, columns in ((5, [[3, 1], [2, 0]], 2), (None, [[3, 1], [2, 0], [1, 1]], 8)):
        num, found, condition = grid_condition(model_of("caption"), dataset, asked)
        assert (num, found, list(condition)) == (len(rows) * columns, columns, ["caption"])
        assert condition["caption"].reshape(len(rows), columns, 2).tolist() == [[row] * columns for row in rows]


def test_a_model_that_does_not_sample_is_asked_for_nothing():
    assert grid_condition(Model(None, (), ()), dataset_of("image", 10)) == (64, 8, {})


def test_images_are_their_own_pictures():
    images = np.arange(2 * 3 * 64, dtype=np.uint8).reshape(2, 3, 8, 8, 1)
    np.testing.assert_array_equal(pictured(SimpleNamespace(spec=spec_of("image")), {"image": images}), images)


def test_points_are_one_picture_for_each_seed_around_the_training_points():
    """The frame is the training points' box extended on each side by a quarter of its length."""
    clouds = np.random.default_rng(0).normal(size=(2, 50, 2)).astype(np.float32)
    spec = spec_of("point")._replace(bounds=np.float32([[-2, 0], [2, 1]]))
    pictures = pictured(SimpleNamespace(spec=spec), {"point": clouds})
    assert pictures.shape == (2, 1, 240, 240, 3)
    for picture, points in zip(pictures, clouds, strict=True):
        np.testing.assert_array_equal(picture[0], point_image(points, 240, [[-3, -0.25], [3, 1.25]]))


# A mesh plus noise; the mesh grows by its own size at each step.
GROWING = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Model, Phase, Sampler, State

@dataclass(frozen=True)
class Config:
    noise: float = 0.1  # of each coordinate

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.float32(0))
    def step(key, state, batch):
        return state._replace(params=state.params + batch["mesh"].mean()), {"size": state.params}
    def draw(key, state, num, condition):
        shape = (num, *spec.entries["mesh"].shape)
        return {"mesh": state.params + config.noise * jax.random.normal(key, shape)}
    return Model(init, (Phase("grow", step),), ("mesh",), Sampler(draw))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on 20 tetrahedra."""
    folder = tmp_path_factory.mktemp("meshes")
    (folder / "growing.py").write_text(GROWING)
    (folder / "data").mkdir()
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    triangles = "".join("f " + " ".join(str(i + 1) for i in face) + "\n" for face in FACES)
    for i in range(20):
        vertices = "".join("v {} {} {}\n".format(*corner) for corner in (1 + i / 10) * corners)
        (folder / "data" / f"{i}.obj").write_text(vertices + triangles)
    settings = Settings(
        dataset="mesh_folder", data_from=str(folder / "data"), seeds=(3, 1), steps=4, batch_size=4,
        sample_every=2, checkpoint_every=4,
    )  # fmt: skip
    return train(str(folder / "growing.py"), None, settings, out=folder / "run", progress=False)


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_a_run_of_meshes_leaves_their_pictures(run):
    opened = open_run(run.path)
    files = sorted(path.relative_to(run.path).as_posix() for path in run.path.glob("samples/*/*.png"))
    assert files == [f"samples/seed-{seed}/step-{step:07d}.png" for seed in (1, 3) for step in (0, 2, 4)]
    for i, seed in enumerate((3, 1)):
        key = jax.random.fold_in(streams(seed).sample, 0)
        state = jax.tree.map(lambda leaf, i=i: leaf[i], opened.state)
        meshes = jax.jit(opened.plan.model.sampler.draw, static_argnums=2)(key, state, 16, {})["mesh"]
        grid = image_grid(mesh_images(meshes, opened.plan.dataset.spec.faces, 160), 4)
        np.testing.assert_array_equal(pixels(run.path / f"samples/seed-{seed}/step-0000004.png"), grid)
    assert not np.array_equal(*(pixels(run.path / f"samples/seed-{seed}/step-0000004.png") for seed in (3, 1)))


def test_samples_of_a_run_of_meshes(run, tmp_path):
    with np.load(sample(run.path, out=tmp_path / "a.npz", num=5)) as file:
        meshes, seeds = file["mesh"], file["seed"]
    assert seeds.tolist() == [3] * 5 + [1] * 5
    picture = pixels(sample(run.path, out=tmp_path / "a.png", num=5))
    faces = open_run(run.path).plan.dataset.spec.faces
    of_each = [image_grid(mesh_images(meshes[seeds == seed], faces, 160), 3) for seed in (3, 1)]
    np.testing.assert_array_equal(picture[: len(of_each[0])], of_each[0])
    np.testing.assert_array_equal(picture[-len(of_each[1]) :], of_each[1])
    with Image.open(sample(run.path, "animation", out=tmp_path / "a.gif")) as animation:
        assert animation.n_frames == 3


def test_a_page_shows_meshes(run):
    opened = open_run(run.path)
    dataset = opened.plan.dataset
    shown = contents.pictures({"grows": opened}, dataset)
    np.testing.assert_array_equal(shown["real"], mesh_images(dataset.train["mesh"][:16], dataset.spec.faces, 160))
    row = shown["rows"]["grows"]
    assert (row["interpolation"], row["nearest"], row["columns"]) == (None, None, 4)
