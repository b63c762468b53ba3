"""Paths through latents against closed forms; codes and images of several seeds against the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.model import Latents, Model, Prior, Sampler, State
from jaxgen.models import gan, vae
from jaxgen.pictures import latents
from jaxgen.training import draws, engine

RNG = np.random.default_rng(0)
SHARES = np.linspace(0, 1, 9)
DIMENSIONS = 16


@pytest.fixture(scope="module")
def ends():
    return RNG.normal(size=(2, 50, DIMENSIONS)).astype(np.float32)


def angle(u, v):
    u, v = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (u, v))
    return np.arccos((u * v).sum(-1))


# Spherical


def test_an_arc_by_hand():
    """A quarter circle in steps of 30 degrees."""
    points = latents.spherical([[1.0, 0]], [[0.0, 1]], [0, 1 / 3, 2 / 3, 1])
    half, root = 0.5, np.sqrt(3) / 2
    np.testing.assert_allclose(points, [[[1, 0], [root, half], [half, root], [0, 1]]], atol=1e-15)


def test_the_length_changes_at_equal_speed_too():
    """The middle of an arc of 60 degrees, from length 1 to length 4, has length 2.5 at 30 degrees."""
    a, b = [[2.0, 0]], [[2.0, 2 * np.sqrt(3)]]
    np.testing.assert_allclose(
        latents.spherical(a, b, [0.5]), [[[3 * np.cos(np.pi / 6), 3 * np.sin(np.pi / 6)]]], atol=1e-15
    )


@pytest.mark.parametrize("path", [latents.spherical, latents.linear])
def test_ends_are_exact(path, ends):
    points = path(*ends, SHARES)
    assert points.dtype == np.float64
    assert points.shape == (50, 9, DIMENSIONS)
    np.testing.assert_array_equal(points[:, 0].astype(np.float32), ends[0])
    np.testing.assert_array_equal(points[:, -1].astype(np.float32), ends[1])


def test_equal_angles_and_lengths_on_a_line(ends):
    """A point at t is at t of the angle from a and 1 - t from b, in their plane."""
    points, (a, b) = latents.spherical(*ends, SHARES), ends.astype(np.float64)
    whole = angle(a, b)
    between, t = points[:, 1:-1], SHARES[1:-1]
    np.testing.assert_allclose(angle(between, a[:, None]), whole[:, None] * t, rtol=1e-9)
    np.testing.assert_allclose(angle(between, b[:, None]), whole[:, None] * (1 - t), rtol=1e-9)
    length_a, length_b = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    expected = np.outer(length_a, 1 - SHARES) + np.outer(length_b, SHARES)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), expected, rtol=1e-12)


def test_between_vectors_of_length_one_it_is_slerp(ends):
    """Slerp by Shoemake's formula, with the arc cosine."""
    a, b = (end / np.linalg.norm(end, axis=-1, keepdims=True) for end in ends.astype(np.float64))
    w = np.arccos((a * b).sum(-1))[:, None, None]
    t = SHARES[None, :, None]
    expected = (np.sin((1 - t) * w) * a[:, None] + np.sin(t * w) * b[:, None]) / np.sin(w)
    points = latents.spherical(a, b, SHARES)
    np.testing.assert_allclose(points, expected, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("small", [1e-4, 1e-6, 3e-8, 1e-12, 0.0])
def test_small_angles_lose_no_digits(small):
    """The arc passes smoothly into the line: at w = 1e-7 they differ by w squared."""
    a, b = [[1.0, 0]], [[np.cos(small), np.sin(small)]]
    expected = np.stack([np.cos(SHARES * small), np.sin(SHARES * small)], -1)
    np.testing.assert_allclose(latents.spherical(a, b, SHARES)[0], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([3.0, 4.0], [6.0, 8.0]),  # parallel
        ([3.0, 4.0], [-3.0, -4.0]),  # opposite: all half circles are equally near
        ([0.0, 0.0], [1.0, 2.0]),  # no direction
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.5], [-0.5]),  # one dimension
        ([1.5], [2.5]),
    ],
)
def test_where_no_arc_is_nearer_it_is_the_line(a, b):
    a, b = np.array([a]), np.array([b])
    expected = [a[0] + t * (b[0] - a[0]) for t in SHARES]
    np.testing.assert_allclose(latents.spherical(a, b, SHARES)[0], expected, atol=1e-12)


def test_nearly_opposite_ends_turn_by_half_a_circle():
    b = [[-np.cos(1e-5), np.sin(1e-5)]]
    points = latents.spherical([[1.0, 0]], b, SHARES)[0]
    turned = SHARES * (np.pi - 1e-5)
    np.testing.assert_allclose(points, np.stack([np.cos(turned), np.sin(turned)], -1), atol=1e-9)


def test_latents_of_any_shape_are_one_vector(ends):
    flat = latents.spherical(*ends, SHARES)
    np.testing.assert_array_equal(
        latents.spherical(*ends.reshape(2, 50, 2, 2, 4), SHARES), flat.reshape(50, 9, 2, 2, 4)
    )
    np.testing.assert_array_equal(
        latents.linear(*ends.reshape(2, 50, 2, 8), SHARES), latents.linear(*ends, SHARES).reshape(50, 9, 2, 8)
    )


def test_the_line_leaves_the_sphere_that_draws_are_near_and_the_arc_does_not():
    """Draws in d dimensions have length sqrt(d), give or take 1; the midpoint of two has sqrt(d / 2)."""
    a, b = RNG.normal(size=(2, 200, 400))
    middle = {path: np.linalg.norm(path(a, b, [0.5]), axis=-1).mean() for path in (latents.spherical, latents.linear)}
    assert middle[latents.spherical] == pytest.approx(20, abs=0.2)
    assert middle[latents.linear] == pytest.approx(np.sqrt(200), abs=0.2)


# Traversals


def test_a_traversal_by_hand():
    code = np.array([[10.0, 20], [30, 40]])
    points = latents.traversed(code, [3, 0], [-1, 0, 1])
    assert points.tolist() == [
        [[[10, 20], [30, -1]], [[10, 20], [30, 0]], [[10, 20], [30, 1]]],
        [[[-1, 20], [30, 40]], [[0, 20], [30, 40]], [[1, 20], [30, 40]]],
    ]


def test_active_dimensions_by_hand():
    codes = np.array([[0.0, 5, 1, 0], [0, -5, 3, 4], [0, 5, 1, 0], [0, -5, 3, 4]])
    assert latents.active_dimensions(codes).tolist() == [1, 3, 2, 0]
    assert latents.active_dimensions(codes.reshape(4, 2, 2)).tolist() == [1, 3, 2, 0]


# Several seeds


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def states(digits):
    """Map from model to (model, keys, state of three seeds), untrained."""

    def of_three(module, **config):
        model = module.make(module.Config(latent_dim=5, **config), digits.spec)
        streams = engine.all_streams((4, 2, 9))
        return model, streams.sample, engine.initial_state(model, streams.init)

    return {
        "vae": of_three(vae, network="mlp", hidden=(8,)),
        "gan": of_three(gan, generator_units=8, discriminator_units=4, pieces=1),
    }


def of_seed(state, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], state)


@pytest.mark.parametrize(("name", "num"), [("vae", 7), ("gan", 7), ("vae", draws.AT_ONCE + 3)])
def test_images_of_codes_are_the_models(name, num, states):
    model, _, state = states[name]
    codes = RNG.normal(size=(3, num, 5))
    images = draws.decoded(model, state, codes, {})
    assert images.shape == (3, num, 8, 8, 1)
    for i in range(3):
        decoded = jax.jit(model.latents.decode)(of_seed(state, i), jnp.float32(codes[i]), {})
        expected = 255 * np.asarray(decoded["image"], np.float64)
        assert np.abs(images[i] - expected).max() < 0.501  # from rounding
    assert len(np.unique(images.reshape(-1, 64), axis=0)) > num


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_draws_of_the_prior_are_each_seeds_own(name, states):
    model, keys, state = states[name]
    draws = latents.drawn(model, keys, state, 6)
    for i in range(3):
        np.testing.assert_array_equal(draws[i], model.latents.prior.sample(keys[i], of_seed(state, i), 6))
    assert len(np.unique(draws)) == 90


def test_codes_of_images_are_the_models(digits, states):
    model, _, state = states["vae"]
    entries = {"image": digits.test["image"][: draws.AT_ONCE + 20]}
    codes = latents.encoded(model, state, entries)
    assert codes.shape == (3, draws.AT_ONCE + 20, 5)
    for i in range(3):
        expected = jax.jit(model.latents.encode)(of_seed(state, i), entries)
        np.testing.assert_allclose(codes[i], expected, rtol=1e-4, atol=1e-5)


def test_reconstructions_are_images_of_codes(digits, states):
    model, _, state = states["vae"]
    entries = {"image": digits.test["image"][:9]}
    images = latents.reconstructed(model, state, entries)
    for i in range(3):
        own = of_seed(state, i)
        pixels = model.latents.decode(own, jax.jit(model.latents.encode)(own, entries), {})["image"]
        assert np.abs(images[i] - 255 * np.asarray(pixels, np.float64)).max() < 0.501


def test_conditions_go_with_their_images():
    """A conditional model's image is its code times its label."""

    def decode(state, z, condition):
        return {"image": z * condition["label"].astype(jnp.float32)[:, None, None, None] / 255}

    def encode(state, batch):
        return batch["image"].astype(jnp.float32)

    model = Model(
        None,
        (),
        ("image", "label"),
        sampler=Sampler(None, ("label",)),
        latents=Latents(decode, Prior(None, "uniform"), encode),
    )
    state = State(jnp.zeros(2), ())
    image, label = np.full((300, 1, 1, 1), 5, np.uint8), np.arange(300, dtype=np.int32) % 50
    images = latents.reconstructed(model, state, {"image": image, "label": label})
    np.testing.assert_array_equal(images, np.tile(5 * label, (2, 1)).reshape(2, 300, 1, 1, 1))
    codes = np.full((2, 300, 1, 1, 1), 3.0)
    images = draws.decoded(model, state, codes, {"label": label})
    np.testing.assert_array_equal(images, np.tile(3 * label, (2, 1)).reshape(2, 300, 1, 1, 1))
