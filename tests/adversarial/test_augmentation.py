"""DiffAugment: pixel values after translation, cutout and color changes, and gradients."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgen.adversarial.augmentation import augmented, color, cutout, translation

KEY = jax.random.key(3)


def images(num, *shape):
    """Random images without zeros and, practically, without equal pixels."""
    return np.random.default_rng(0).uniform(0.1, 1, (num, *shape)).astype(np.float32)


def shifted(image, down, right):
    """Shifts an image, filling with zeros."""
    height, width = image.shape[:2]
    out = np.zeros_like(image)
    for i, j in product(range(height), range(width)):
        if 0 <= i - down < height and 0 <= j - right < width:
            out[i, j] = image[i - down, j - right]
    return out


@pytest.mark.parametrize(("ratio", "down", "right"), [((), 2, 1), ((0.3,), 5, 2)])
def test_translation_is_by_up_to_a_share_of_each_side(ratio, down, right):
    """Shifts are rounded, by an eighth up to 2 for a side of 16 and up to 1 for a side of 6; all are equally likely."""
    x = np.repeat(images(1, 16, 6, 2), 1800, axis=0)
    made = np.asarray(jax.jit(lambda x: translation(KEY, x, *ratio))(x))
    pairs = list(product(range(-down, down + 1), range(-right, right + 1)))
    counts = dict.fromkeys((shifted(x[0], *by).tobytes() for by in pairs), 0)
    for image in made:
        counts[image.tobytes()] += 1
    share = 1 / len(pairs)
    error = np.sqrt(1800 * share * (1 - share))
    assert max(abs(count - 1800 * share) for count in counts.values()) < 5 * error


def test_a_cutout_is_of_half_of_each_side_with_its_center_in_the_image():
    """A cutout covers 4 of 8 rows around any of 9 edges and 3 of 6 columns around any of 6, all equally likely."""
    x = images(2700, 8, 6, 2)
    made = np.asarray(jax.jit(cutout)(KEY, x))
    gone = (made == 0).all(-1)
    np.testing.assert_array_equal(made, np.where(gone[..., None], 0, x))
    places = {}
    for edge, middle in product(range(9), range(6)):
        mask = np.zeros((8, 6), bool)
        mask[max(edge - 2, 0) : edge + 2, max(middle - 1, 0) : middle + 2] = True
        places[mask.tobytes()] = edge, middle
    assert len(places) == 54
    counts = dict.fromkeys(places.values(), 0)
    for mask in gone:
        counts[places[mask.tobytes()]] += 1
    error = np.sqrt(2700 * (1 / 54) * (53 / 54))
    assert max(abs(count - 50) for count in counts.values()) < 5 * error


def test_color_is_brightness_then_saturation_then_contrast():
    x = images(500, 4, 4, 3)
    made = np.asarray(jax.jit(color)(KEY, x), np.float64)
    brightness, saturation, contrast = np.asarray(jax.random.uniform(KEY, (3, 500, 1, 1, 1)), np.float64)
    bright = x + (brightness - 0.5)
    gray = bright.mean(-1, keepdims=True)
    vivid = gray + 2 * saturation * (bright - gray)
    mean = vivid.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(made, mean + (0.5 + contrast) * (vivid - mean), atol=1e-5)
    # The ranges, as seen in the images: brightness moves the mean, contrast scales grays, saturation also colors.
    moved = made.mean((1, 2, 3)) - x.mean((1, 2, 3))
    old, new = ((a.mean(-1) - a.mean((1, 2, 3))[:, None, None]).reshape(500, -1) for a in (np.float64(x), made))
    contrasts = (old * new).sum(1) / (old**2).sum(1)
    old, new = ((a - a.mean(-1, keepdims=True)).reshape(500, -1) for a in (np.float64(x), made))
    saturations = (old * new).sum(1) / (old**2).sum(1) / contrasts
    for found, low, high in ((moved, -0.5, 0.5), (contrasts, 0.5, 1.5), (saturations, 0, 2)):
        assert low - 1e-5 <= found.min() < low + 0.02 * (high - low)
        assert high + 1e-5 >= found.max() > high - 0.02 * (high - low)
        assert abs(found.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(12 * 500)
    assert abs(np.corrcoef([moved, contrasts, saturations]) - np.eye(3)).max() < 5 / np.sqrt(500)


def test_a_policy_is_in_order_each_with_a_key_of_its_own():
    x = jnp.asarray(images(5, 8, 8, 3))
    np.testing.assert_array_equal(augmented(KEY, x, ()), x)
    rest, first = jax.random.split(KEY)
    _, second = jax.random.split(rest)
    np.testing.assert_array_equal(augmented(KEY, x, ("cutout",)), cutout(first, x))
    expected = color(second, translation(first, x))
    np.testing.assert_array_equal(augmented(KEY, x, ("translation", "color")), expected)
    # In the other order, pixels shifted in are not recolored: they stay 0.
    assert not np.array_equal(augmented(KEY, x, ("color", "translation")), expected)


def test_the_policy_has_a_ratio_of_shifts_and_a_probability_of_cutting_out():
    """About 30% of 400 calls cut out, each in all images; the rest leave them whole."""
    x = jnp.asarray(images(3, 16, 6, 2))
    (_, first) = jax.random.split(KEY)
    np.testing.assert_array_equal(augmented(KEY, x, ("translation",), 0.3), translation(first, x, 0.3))
    cut = jax.jit(jax.vmap(lambda key: (augmented(key, x, ("cutout",), probability=0.3) == 0).any((1, 2, 3))))(
        jax.random.split(KEY, 400)
    )
    assert (cut.all(1) | ~cut.any(1)).all()
    assert abs(cut[:, 0].mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 400)


@pytest.mark.parametrize("name", ["translation", "cutout"])
def test_gradients_flow_to_the_pixels_that_are_kept(name):
    """A kept pixel has the gradient of its copy in the output; other pixels have none."""
    x, weights = jnp.asarray(images(40, 8, 8, 2)), images(40, 8, 8, 2)
    made = np.asarray(augmented(KEY, x, (name,)))
    gradient = np.asarray(jax.jit(jax.grad(lambda x: (augmented(KEY, x, (name,)) * weights).sum()))(x))
    for image, new, g, w in zip(np.asarray(x), made, gradient, weights, strict=True):
        copies = {value: w[place] for place, value in np.ndenumerate(new) if value}
        expected = [copies.get(value, 0.0) for value in image.ravel()]
        np.testing.assert_array_equal(g.ravel(), expected)


def test_gradients_of_color():
    check_grads(lambda x: color(KEY, x), (jnp.asarray(images(3, 2, 2, 3)),), order=1, modes=["rev"], rtol=1e-2)
