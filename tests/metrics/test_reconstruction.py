import math

import numpy as np
import pytest

from jaxgen.metrics.diversity import ssim
from jaxgen.metrics.reconstruction import reconstruction_errors


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def test_by_hand():
    real, fake = np.zeros((3, 2, 2, 1), np.uint8), np.zeros((3, 2, 2, 1), np.uint8)
    fake[0] = 51  # a fifth everywhere
    fake[1, 0, 0] = 255  # one pixel of four
    errors = reconstruction_errors(real, fake)
    assert errors.mse == pytest.approx([0.04, 0.25, 0], rel=1e-12)
    assert errors.mae == pytest.approx([0.2, 0.25, 0], rel=1e-12)
    # -10 log10 of 1/25 and of 1/4
    assert errors.psnr == pytest.approx([20 * math.log10(5), 20 * math.log10(2), math.inf], rel=1e-12)
    assert all(values.dtype == np.float64 for values in errors)


def test_the_direction_of_an_error_does_not_matter():
    # where 8-bit arithmetic would wrap around
    real, fake = noise(0, 4, 9, 5, 3), noise(1, 4, 9, 5, 3)
    difference = real / 255 - fake / 255
    for errors in (reconstruction_errors(real, fake), reconstruction_errors(fake, real)):
        np.testing.assert_allclose(errors.mse, (difference**2).mean(axis=(1, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(errors.mae, abs(difference).mean(axis=(1, 2, 3)), rtol=1e-12)


def test_black_against_white_is_0_db():
    black = np.zeros((1, 3, 3, 3), np.uint8)
    errors = reconstruction_errors(black, black + 255)
    assert (errors.mse, errors.mae, errors.psnr) == (1, 1, 0)


def test_structural_similarity_from_11_pixels_on():
    real, fake = noise(2, 3, 11, 14, 1), noise(3, 3, 11, 14, 1)
    np.testing.assert_array_equal(reconstruction_errors(real, fake).ssim, ssim(real, fake))
    assert np.isnan(reconstruction_errors(real[:, :10], fake[:, :10]).ssim).tolist() == [True] * 3


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (
            noise(0, 3, 4, 4, 1),
            noise(0, 2, 4, 4, 1),
            "shape .3, 4, 4, 1., fake ones .2, 4, 4, 1.$",
        ),
        (noise(0, 3, 4, 4, 1), noise(0, 3, 4, 4, 3), "real images have the shape"),
        (noise(0, 3, 4, 4, 1), noise(0, 3, 4, 4, 1) / 255, "fake images must be uint8"),
        (noise(0, 3, 4, 4), noise(0, 3, 4, 4), r"real images must be \[num, H, W, 1 or 3\]"),
    ],
)
def test_what_is_refused(real, fake, message):
    with pytest.raises(ValueError, match=message) as error:
        reconstruction_errors(real, fake)
    assert "\n" not in str(error.value)
