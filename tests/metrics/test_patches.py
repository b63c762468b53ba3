import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from jaxgen import data
from jaxgen.metrics import patches
from jaxgen.metrics.patches import sliced_wasserstein

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    monkeypatch.setattr(patches, "PATCHES", 2**13)
    monkeypatch.setattr(patches, "DIRECTIONS", 128)


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pyramid(image):
    """Levels of one channel, by two-dimensional convolutions."""
    levels = []
    while min(image.shape) // 2 >= 16 and not (image.shape[0] % 2 or image.shape[1] % 2):
        halved = scipy.ndimage.convolve(image, BINOMIAL, mode="mirror")[::2, ::2]
        spread = np.zeros_like(image)
        spread[::2, ::2] = halved
        levels.append(image - scipy.ndimage.convolve(spread, 4 * BINOMIAL, mode="mirror"))
        image = halved
    return [*levels, image]


def by_definition(real, fake, seed):
    """The distances by loops over patches, channels and directions."""
    rng = np.random.Generator(np.random.Philox(seed))
    order = rng.permutation(patches.PATCHES)
    which = [np.sort(order % len(images)) for images in (real, fake)]
    levels = [[[pyramid(image[..., c] / 255) for c in range(image.shape[-1])] for image in x] for x in (real, fake)]
    found = []
    for level in range(len(levels[0][0][0])):
        height, width = levels[0][0][0][level].shape
        rows, columns = (rng.integers(0, side - 6, patches.PATCHES) for side in (height, width))
        directions = rng.normal(size=(patches.DIRECTIONS, 49 * real.shape[-1])).astype(np.float32)
        sets = []
        for images, of in zip(levels, which, strict=True):
            x = np.stack([
                np.stack([images[i][c][level][r : r + 7, k : k + 7] for c in range(real.shape[-1])], -1)
                for i, r, k in zip(of, rows, columns, strict=True)
            ])  # fmt: skip
            x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
            sets.append(x.reshape(len(x), -1))
        along = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        distances = [scipy.stats.wasserstein_distance(sets[0] @ each, sets[1] @ each) for each in along]
        found.append(1000 * np.mean(distances))
    return found


@pytest.mark.parametrize("shape", [(16, 12, 1), (32, 34, 3), (64, 32, 1), (33, 40, 1)])
def test_by_definition(shape, monkeypatch):
    monkeypatch.setattr(patches, "PATCHES", 60)
    monkeypatch.setattr(patches, "DIRECTIONS", 40)
    monkeypatch.setattr(patches, "AT_ONCE", 16)
    real, fake = noise(0, 9, *shape), noise(1, 7, *shape) // 3
    found = sliced_wasserstein(real, fake, seed=5)
    assert len(found) == {32: 2, 64: 2}.get(shape[0], 1)
    np.testing.assert_allclose(found, by_definition(real, fake, 5), rtol=1e-4)


def test_a_set_against_itself_is_0_and_a_constant_one_far_away():
    real = noise(2, 40, 16, 16, 1)
    assert sliced_wasserstein(real, real).tolist() == [0]
    # of constant images nothing is left; a normalized projection's mean distance from 0 is about sqrt(2 / pi)
    assert sliced_wasserstein(real, np.full_like(real, 7))[0] == pytest.approx(1000 * np.sqrt(2 / np.pi), rel=0.02)


@pytest.fixture(scope="module")
def digits():
    found = data.load("digits", image_size=16, progress=False)
    return found.train["image"][:800], found.test["image"][:800]


def test_corruptions_are_ordered_by_strength(digits):
    """A classifier's features hardly see the noise."""
    train, test = digits
    rng = np.random.default_rng(3)

    def peppered(share):
        hit = rng.random(train.shape) < share
        return np.where(hit, rng.integers(0, 2, train.shape) * 255, train).astype(np.uint8)

    def blurred(sd):
        return scipy.ndimage.gaussian_filter(train, (0, sd, sd, 0))

    real = sliced_wasserstein(test, train)[0]
    for ladder in (map(peppered, (0.01, 0.05, 0.2)), map(blurred, (0.5, 0.8, 1.5))):
        scores = [real, *(sliced_wasserstein(test, images)[0] for images in ladder)]
        assert scores == sorted(scores)
        assert scores[-1] > 5 * real
    shuffled = np.stack([rng.permutation(image.ravel()).reshape(image.shape) for image in train])
    assert sliced_wasserstein(test, shuffled)[0] > 10 * real


def test_the_seed_decides(digits):
    train, test = digits
    one, again, other = (sliced_wasserstein(test, train, seed=seed)[0] for seed in (0, 0, 1))
    assert one == again != other
    assert other == pytest.approx(one, rel=0.15)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (noise(0, 2, 6, 9, 1), noise(0, 2, 6, 9, 1), r"7 pixels a side or more are needed, got \[6, 9\]"),
        (noise(0, 2, 8, 8, 1), noise(0, 2, 8, 9, 1), r"real images are \[8, 8, 1\], fake ones \[8, 9, 1\]"),
        (np.zeros((2, 8, 8, 1)), noise(0, 2, 8, 8, 1), "real images must be uint8"),
    ],
)
def test_what_is_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(real, fake)
