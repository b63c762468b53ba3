"""The watermark in pixels: an exact test over keys, marks that survive compression, and what it cannot do."""

import hashlib
import json
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from experiments import watermarks
from jaxgen import data
from jaxgen.errors import UserError
from jaxgen.provenance import watermark
from jaxgen.provenance.watermark import (
    check_markable,
    embed,
    features,
    p_of_angle,
    p_value,
    pattern,
    size_of_band,
    turned,
    unable,
)
from tests.provenance.changes import binarized, jpeg, noisy

KEY = b"k" * 32


def keys(num):
    return [i.to_bytes(32, "big") for i in range(num)]


def smooth(num, shape, seed=0):
    """Smooth gray images with noise, as photographs are, uint8 [num, *shape, 1]."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 1, (num, *shape))
    images = np.stack([gaussian_filter(each, 2) for each in rough]) * 400 + 128 + rng.normal(0, 1, rough.shape)
    return np.clip(images, 0, 255).astype(np.uint8)[..., None]


def psnr(images, changed):
    error = ((images.astype(float) - changed) ** 2).mean((1, 2, 3))
    return 10 * np.log10(255**2 / error)


def found(images, key=KEY):
    """The share of images whose mark is found at p < 1e-6, one by one."""
    return np.mean([p_value(image[None], key) < 1e-6 for image in images])


def test_a_pattern_is_the_quantiles_of_a_hash():
    """The first two numbers from SHAKE-256 by Python's own integers and normal distribution."""
    stream = hashlib.shake_256(b"jaxgen.watermark.1\0" + KEY + (410).to_bytes(8, "big")).digest(16)
    shares = [((int.from_bytes(stream[i : i + 8], "big") >> 11) + 0.5) / 2**53 for i in (0, 8)]
    expected = [NormalDist().inv_cdf(share) for share in shares]
    np.testing.assert_allclose(pattern(KEY, 410)[:2], expected, rtol=1e-12)
    assert scipy.stats.kstest(pattern(KEY, 20_000), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(pattern(KEY, 2000), pattern(b"l" * 32, 2000))[0, 1]) < 0.1


def test_features_are_those_of_scipy():
    """The band's frequencies are counted by hand at 8x8: those with 0.64 <= y^2 + x^2 < 40.96."""
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 20, 3)).astype(np.float64)
    y = images @ [0.299, 0.587, 0.114]
    detail = np.stack([each - gaussian_filter(each, 1) for each in y])
    deviation = np.sqrt([gaussian_filter(each**2, 1) + 1e-6 for each in detail])
    coefficients = dctn(detail / (1 + deviation), axes=(1, 2), norm="ortho")
    radius = np.hypot(np.arange(28)[:, None] / 28, np.arange(20) / 20)
    expected = coefficients[:, (radius >= 0.1) & (radius < 0.8)]
    np.testing.assert_allclose(features(images), expected, atol=1e-12)
    np.testing.assert_allclose(features(jnp.float32(images)), expected, atol=2e-5)
    inside = sum(0.64 <= y * y + x * x < 40.96 for y in range(8) for x in range(8))
    assert size_of_band(8, 8) == inside == 38
    assert [size_of_band(side, side) for side in (16, 28, 32, 64)] == [136, 410, 528, 2074]


@pytest.mark.parametrize("num", [1, 5])
def test_p_values_over_keys_are_uniform_for_any_images(num):
    """Images are random, flat with one bright line, or marked by another key; several are tested together."""
    line = np.full((1, 28, 28, 1), 10, np.uint8)
    line[0, 13] = 250
    marked = embed(smooth(num, (28, 28)), KEY, 34)
    for images in (smooth(num, (28, 28), 1), line.repeat(num, axis=0), marked):
        p = [p_value(images, key) for key in keys(1000)]
        assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3


def test_a_p_value_by_hand():
    """Features (3, 4) and direction (1, 0) give c = 0.6, t = 0.75, which is exceeded with probability 0.295."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watermark, "features", lambda images: np.array([[3.0, 4.0]]))
        patch.setattr(watermark, "pattern", lambda key, size: np.array([2.0, 0.0]))
        assert p_value(np.zeros((1, 2, 2, 1)), KEY) == pytest.approx(0.5 - np.arctan(0.75) / np.pi)


@pytest.mark.parametrize("shape", [(28, 28), (24, 40)])
def test_marks_are_found_by_their_key_alone(shape):
    images = smooth(12, shape)
    for db in (34, 38):
        marked = embed(images, KEY, db)
        assert (marked.shape, marked.dtype) == (images.shape, np.uint8)
        np.testing.assert_allclose(psnr(images, marked), db, atol=0.3)
        assert found(marked) == 1
        assert found(marked, b"l" * 32) == found(images) == 0
    together = embed(images, KEY, 50)
    assert p_value(together, KEY) < 1e-3 * np.median([p_value(image[None], KEY) for image in together])


def test_color_images_are_marked_and_many_at_once_are_as_one_by_one():
    images = np.concatenate([smooth(3, (20, 20), seed) for seed in range(3)], axis=-1)
    marked = embed(images, KEY, 36)
    np.testing.assert_allclose(psnr(images, marked), 36, atol=0.3)
    assert found(marked) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watermark, "AT_ONCE", 2)
        np.testing.assert_array_equal(embed(images, KEY, 36), marked)


def test_what_can_say_nothing_says_so():
    assert unable(smooth(1, (28, 28))) == ""
    assert unable(smooth(1, (8, 8))) == "8x8 pixels have 38 frequencies in the band, not 200"
    assert unable(binarized(smooth(1, (28, 28)))) == "images of at most two levels hold no mark"
    assert unable(np.full((2, 28, 28, 1), 7, np.uint8)) == "images of at most two levels hold no mark"
    assert unable(np.zeros((1, 28, 28, 2), np.uint8)) == "images of 2 channels are neither gray nor RGB"
    assert p_value(np.full((2, 28, 28, 1), 7, np.uint8), KEY) == 1
    marked = embed(smooth(1, (28, 28)), KEY, 38)
    flat = np.full((1, 28, 28, 1), 7, np.uint8)  # a constant image beside others changes nothing
    assert p_value(np.concatenate([marked, flat]), KEY) == pytest.approx(p_value(marked, KEY))


def test_what_cannot_be_marked_is_refused():
    check_markable(28, 28, 38)
    words = (
        r"^images of 16x16 pixels are too small for --watermark: they have 136 frequencies in the watermark's band, "
    )
    with pytest.raises(UserError, match=words):
        check_markable(16, 16, 38)
    for db in (24.9, 60.1, float("nan")):
        with pytest.raises(UserError, match=r"^--watermark must be from 25 to 60 dB, such as 38, not "):
            check_markable(28, 28, db)


def test_marks_of_images_of_8x8_are_not_found():
    """A change of 34 dB, plain to see, is found in no more than 1% of the digits."""
    digits = data.load("digits").test["image"][:200]
    assert found(embed(digits, KEY, 34)) <= 0.01


def test_forging_and_removing_by_averaging_marked_images():
    """The mean of ten marked images' features marks other images, and unmarks marked ones: marks are not secure."""
    images = smooth(30, (28, 28))
    marked = embed(images[:20], KEY, 38)
    f = features(marked[:10].astype(np.float64))
    stolen = (f / np.linalg.norm(f, axis=1, keepdims=True)).mean(0)
    assert found(turned(images[20:], stolen, 38)) == 1
    assert found(turned(marked[10:], -stolen, 38)) == 0


def test_the_program_that_measures_marks(tmp_path, monkeypatch, capsys):
    """Measures the digits where no other images are there, in which nothing is found."""
    monkeypatch.setattr(watermarks, "KEYS", 10)
    monkeypatch.setenv("COLUMNS", "200")
    watermarks.compare(tmp_path, num=30, out=tmp_path / "new" / "out.json")
    rows = json.loads((tmp_path / "new" / "out.json").read_text())["rows"]
    assert [(row["images"], row["size"], row["db"]) for row in rows] == [("digits", 38, 34), ("digits-16", 136, 34)]
    assert {rows[0][name] for name in (*watermarks.CHANGES, "forged")} == {0}
    assert rows[0]["removed"] is None  # there was nothing to remove
    assert "digits-16" in capsys.readouterr().out


# Real images


def shares(images, db, *changes):
    marked = embed(images, KEY, db)
    return [found(change(marked)) for change in changes]


@pytest.mark.slow
def test_marks_in_mnist_survive_a_little_compression_and_no_binarization(mnist):
    images = mnist[0][:300]
    clean, little, much, bits = shares(images, 38, lambda x: x, lambda x: jpeg(x, 90), lambda x: jpeg(x, 50), binarized)
    assert clean >= 0.99
    assert little >= 0.95
    assert much <= 0.05
    assert bits == 0
    assert found(images) == 0


@pytest.mark.slow
def test_marks_in_photographs(cifar):
    """Images of 64x64 pixels are four of CIFAR's in a square."""
    (clean,) = shares(cifar[:300], 38, lambda x: x)
    assert clean >= 0.92
    large = cifar[:400].reshape(100, 2, 2, 32, 32, 3).transpose(0, 1, 3, 2, 4, 5).reshape(100, 64, 64, 3)
    clean, much, noise = shares(large, 38, lambda x: x, lambda x: jpeg(x, 50), lambda x: noisy(x, 10))
    assert clean == 1
    assert much >= 0.95
    assert noise >= 0.95


@pytest.mark.slow
def test_two_million_p_values_of_real_images(mnist):
    """Over keys and images the share below each level is right to a tenth; over the images of one key it spreads."""
    f = features(mnist[0][:1000].astype(np.float64))
    p = np.stack([p_of_angle(f, pattern(key, f.shape[1])) for key in keys(2000)], axis=1)
    for level in (1e-2, 1e-3, 1e-4):
        assert (p < level).mean() == pytest.approx(level, rel=0.1)
    of_keys = (p < 1e-3).mean(0)
    assert np.quantile(of_keys, 0.9) > 1.5e-3
    assert of_keys.max() > 5e-3
