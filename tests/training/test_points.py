"""A run on points: pictures of their positions, during training and afterwards."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.drawing import point_image
from jaxgen.errors import UserError
from jaxgen.pictures import sample
from jaxgen.pictures.kinds import KINDS
from jaxgen.report import contents
from jaxgen.training import Settings, open_run, train
from jaxgen.training.engine import streams

SMALL = {"latent_dim": 2, "generator_units": 4, "discriminator_units": 4, "pieces": 1, "optimizer": "adam"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = Settings(dataset="gaussians/grid", steps=4, sample_every=4, checkpoint_every=4, seeds=(3, 1))
    return train("gan", SMALL, settings, out=tmp_path_factory.mktemp("runs") / "gan", progress=False)


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_samples_are_drawn_in_the_frame_of_real_points(run, tmp_path):
    """The frame is the training points' box enlarged by half, so that pictures of all steps are comparable."""
    files = [sample(run.path, "samples", out=tmp_path / name, num=50) for name in ("a.npz", "a.png")]
    with np.load(files[0]) as arrays:
        points, seeds = arrays["point"], arrays["seed"]
    assert seeds.tolist() == [3] * 50 + [1] * 50
    real = data.load("gaussians/grid").train["point"]
    low, high = real.min(0), real.max(0)
    box = [low - (high - low) / 4, high + (high - low) / 4]
    first, second = (point_image(points[seeds == seed], 240, box) for seed in (3, 1))
    picture = pixels(files[1])
    np.testing.assert_array_equal(picture[:240], first)
    np.testing.assert_array_equal(picture[-240:], second)
    assert not np.array_equal(first, second)
    opened = open_run(run.path)
    key = jax.random.fold_in(jax.random.fold_in(streams(3).sample, 2**31), 0)
    state = jax.tree.map(lambda leaf: np.asarray(leaf)[0], opened.state)
    expected = jax.jit(opened.plan.model.sampler.draw, static_argnums=2)(key, state, 50, {})["point"]
    np.testing.assert_allclose(points[:50], expected, rtol=1e-5, atol=1e-6)


def test_training_leaves_a_picture_of_every_sampling_step(run):
    files = sorted(path.relative_to(run.path).as_posix() for path in run.path.glob("samples/*/*.png"))
    assert files == [f"samples/seed-{seed}/step-{step:07d}.png" for seed in (1, 3) for step in (0, 4)]
    before, after = (pixels(run.path / file) for file in files[:2])
    assert before.shape == (240, 240, 3)
    assert not np.array_equal(before, after)
    animation = sample(run.path, "animation", out=run.path / "training.gif")
    with Image.open(animation) as picture:
        assert picture.n_frames == 2


def test_points_as_arrays(run, tmp_path):
    with np.load(sample(run.path, "samples", out=tmp_path / "a.npz", num=50)) as file:
        np.testing.assert_array_equal(run.sample(50).reshape(-1, 2), file["point"])
    z = np.float32(np.random.default_rng(0).normal(size=(7, 2)))
    for i, found in enumerate(run.decode(z)):
        state = jax.tree.map(lambda leaf, i=i: leaf[i], run.state)
        expected = jax.jit(run.plan.model.latents.decode)(state, z, {})["point"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_latents_of_points_make_no_images(run, tmp_path):
    """A GAN of points has latents, but pictures of latents require images."""
    assert open_run(run.path).plan.model.latents is not None
    for kind in set(KINDS) - {"samples", "animation"}:
        with pytest.raises(UserError, match=f"{kind} shows images, which dataset gaussians/grid does not have"):
            sample(run.path, kind, out=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_page_shows_points_without_paths_between_latents(run):
    """The page has one picture of real points, and none of latents or nearest training images."""
    opened = open_run(run.path)
    shown = contents.pictures({"gan": opened}, opened.plan.dataset)
    (real,) = shown["real"]
    train = opened.plan.dataset.train["point"]
    low, high = train.min(0), train.max(0)
    box = [low - (high - low) / 4, high + (high - low) / 4]
    shares = [np.flatnonzero(opened.plan.dataset.train["label"] == label) for label in range(25)]  # 40 of each mode
    rows = [share[np.linspace(0, len(share) - 1, 40).astype(int)] for share in shares]
    np.testing.assert_array_equal(real, point_image(train[np.sort(np.concatenate(rows))], 240, box))
    row = shown["rows"]["gan"]
    assert (row["interpolation"], row["nearest"], row["classes"], row["columns"]) == (None, None, None, 1)
    assert sorted(row["progress"][1]) == sorted(row["progress"][3]) == [0, 4]
