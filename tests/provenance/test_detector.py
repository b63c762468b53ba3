"""The detector of images unlike a reference: features by hand, and false alarms that are exact."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA

from experiments import detectors
from jaxgen import data
from jaxgen.provenance import detector
from jaxgen.provenance.detector import CANNOT_TELL, NOTHING, UNLIKE, answer, fit, p_values
from tests.provenance.changes import binarized, jpeg


def noise(num, seed, low=0, shape=(12, 12, 1)):
    return np.random.default_rng(seed).integers(low, 256, (num, *shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def fitted():
    return fit(noise(2000, 0))


def test_shares_of_gray_levels_by_hand():
    image = np.zeros((1, 2, 4, 1), np.uint8)
    image[0, 0, :, 0], image[0, 1, :, 0] = [0, 1, 3, 4], [63, 128, 254, 255]
    expected = [1, 2, 1, 1, 0, 1, 0, 1, 1]
    np.testing.assert_allclose(detector.histogram(image), [np.array(expected) / 8])


def test_differences_by_hand():
    """A ramp along x: differences of 51 / 255 = 0.2 along x, of 0 along y, and a Laplacian of 0."""
    ramp = np.broadcast_to((51 * np.arange(4, dtype=np.uint8))[:, None], (1, 4, 4, 1))
    np.testing.assert_allclose(detector.differences(ramp), [[0.2] * 4 + [0] * 8], atol=1e-12)


def test_a_wave_has_its_power_in_its_ring():
    """A wave of three periods of amplitude 0.4 has power (0.2 n)^2 at two frequencies of the ring of radius 3."""
    wave = np.rint(127.5 + 102 * np.cos(2 * np.pi * 3 * np.arange(16) / 16))
    image = np.broadcast_to(wave[:, None], (1, 16, 16, 1)).astype(np.uint8)
    rings = detector.spectrum(image)[0]
    assert len(rings) == 10
    assert rings.argmax() == 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(16) * 16, np.fft.fftfreq(16) * 16)).round()
    count = (radius == 3).sum()
    power = np.log((0.2 * 256) ** 2)
    assert rings[2] == pytest.approx((2 * power + (count - 2) * np.log(1e-4)) / count, abs=0.6)


def test_false_alarms_are_as_rare_as_they_say(fitted):
    """Ranks of new images of the same source are uniform, as far as 1,000 held out and 4,000 new ones can show."""
    p = p_values(fitted, noise(4000, 1))
    assert len(fitted.ranked) == 1000
    for level in (0.5, 0.1, 0.01):
        assert (p <= level).mean() == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) * (1 / 1000 + 1 / 4000)))
    assert p.min() >= 1 / 1001


def test_the_three_answers(fitted):
    same, brighter = noise(3, 5), noise(3, 6, low=128)
    assert answer(fitted, same)[::2] == (NOTHING, "")
    assert answer(fitted, brighter) == (UNLIKE, pytest.approx(2 / 1001), "")
    assert answer(fitted, brighter[:1])[:2] == (UNLIKE, pytest.approx(1 / 1001))
    assert answer(fitted, binarized(same))[:2] == (CANNOT_TELL, None)
    assert answer(fitted, same[:, :8]) == (CANNOT_TELL, None, "images of 8x12x1 pixels, and a reference of 12x12x1")
    few = fit(noise(100, 0))
    assert answer(few, same) == (CANNOT_TELL, None, "50 reference images held out give no p-value of 0.01")


def test_one_odd_image_among_many_is_not_the_answer_for_all(fitted):
    """Twice the mean of one p-value of 1/1001 and nine of about a half is far above 0.01."""
    says, p, _ = answer(fitted, np.concatenate([noise(9, 7), noise(1, 6, low=128)]))
    assert says == NOTHING
    assert p == pytest.approx(min(1, 2 * p_values(fitted, np.concatenate([noise(9, 7), noise(1, 6, low=128)])).mean()))


def test_another_level_of_black_is_another_source():
    """Digits a little brighter are unlike the others: the answer is about the source, not about who made the image."""
    digits = data.load("digits", image_size=16)
    fitted = fit(digits.train["image"])
    test = digits.test["image"][:100]
    assert answer(fitted, test)[0] == NOTHING
    assert answer(fitted, np.maximum(test, 4))[0] == UNLIKE


@pytest.mark.slow
def test_false_alarms_on_mnist(mnist):
    """Test images of MNIST are unlike its training images in 1% +- 0.4 points of cases at 1%; JPEG is found."""
    test, train = mnist
    fitted = fit(train[:6000])
    p = p_values(fitted, test)
    assert (p <= 0.01).mean() == pytest.approx(0.01, abs=0.004)
    assert (p_values(fitted, jpeg(test[:300], 75)) <= 0.01).mean() > 0.9


@pytest.mark.slow
def test_detectors_that_learn_from_generated_images_are_wrong_about_others(mnist):
    """Three made up models: independent pixels, a Gaussian of principal components, and real images made smoother.

    A regression that knows two of them has an AUC near 1 on these; of the third one family at least is confidently
    wrong. The one-class detector finds all three, with 1% false alarms, and binarized fewer.
    """
    test, train = mnist
    rng = np.random.default_rng(0)
    flat = train[6000:12000].reshape(6000, -1)
    pixels = rng.permuted(flat, axis=0)[:600]
    components = PCA(20, random_state=0).fit(flat)
    drawn = components.inverse_transform(rng.normal(size=(600, 20)) * np.sqrt(components.explained_variance_))
    smoother = gaussian_filter(train[12000:12600, ..., 0].astype(float), (0, 0.6, 0.6))
    made = {"pixels": pixels, "gaussian": drawn, "smoother": smoother}
    made = {name: np.clip(np.rint(of), 0, 255).astype(np.uint8).reshape(600, 28, 28, 1) for name, of in made.items()}
    images = detectors.Images(train[:6000], test[:2000], made)
    known, unknown = [], []
    for family in detectors.FAMILIES:
        for held_out in made:
            of = detectors.supervised(images, family, held_out)
            unknown.append(of.pop(held_out))
            known += of.values()
    assert np.median(known) > 0.98
    assert min(unknown) < 0.3
    found = detectors.one_class(images)
    assert found["false_alarms"] == pytest.approx(0.01, abs=0.006)
    assert all(of["auc"] > 0.9 for of in found["models"].values()), found
    bits = detectors.one_class(detectors.changed(images, "binarized"))
    assert bits["models"]["smoother"]["auc"] < 0.75
