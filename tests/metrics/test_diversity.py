import itertools
import math

import numpy as np
import pytest

from jaxgen.metrics.diversity import WEIGHTS, feature_diversity, ms_ssim, ssim, within_class_diversity


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def similar(images, seed, amount=40):
    """Adds noise of up to `amount` levels to images."""
    change = np.random.default_rng(seed).integers(-amount, amount + 1, size=images.shape)
    return np.clip(images.astype(int) + change, 0, 255).astype(np.uint8)


def pattern(height, width):
    """Makes a pair of images whose pixels are given by a formula."""
    i, j, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    first = (3 * i + 2 * j + 40 * c + (7 * i * j) % 31) % 256
    second = np.clip(first + (5 * i * j + 3 * i) % 47 - 20 * c, 0, 255)
    return first.astype(np.uint8)[None], second.astype(np.uint8)[None]


def plain_terms(a, b):
    """Mean SSIM and mean contrast-structure of one channel [H, W], window by window, from the definition."""
    weights = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)] for i in range(11)])
    weights /= weights.sum()
    similarities, structures = [], []
    for top, left in itertools.product(range(a.shape[0] - 10), range(a.shape[1] - 10)):
        x, y = a[top : top + 11, left : left + 11], b[top : top + 11, left : left + 11]
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
        structures.append((2 * covariance + 58.5225) / (variance_x + variance_y + 58.5225))
        similarities.append(luminance * structures[-1])
    return np.mean(similarities), np.mean(structures)


def plain_halved(image):
    """Means of 2x2 pixels, repeating the last row and column of odd sides."""
    height, width = image.shape
    halved = np.empty(((height + 1) // 2, (width + 1) // 2))
    for i, j in itertools.product(range(halved.shape[0]), range(halved.shape[1])):
        rows, columns = [2 * i, min(2 * i + 1, height - 1)], [2 * j, min(2 * j + 1, width - 1)]
        halved[i, j] = np.mean([image[row, column] for row in rows for column in columns])
    return halved


def plain_ms_ssim(a, b, weights):
    """MS-SSIM of one pair [H, W, C]."""
    of_channels = []
    for channel in range(a.shape[-1]):
        x, y = a[..., channel].astype(float), b[..., channel].astype(float)
        product = 1.0
        for scale, weight in enumerate(weights):
            if scale > 0:
                x, y = plain_halved(x), plain_halved(y)
            similarity, structure = plain_terms(x, y)
            product *= max(similarity if scale == len(weights) - 1 else structure, 0) ** (weight / sum(weights))
        of_channels.append(product)
    return np.mean(of_channels)


def test_constant_images():
    # only the luminance term remains: (2 * 50 * 100 + C1) / (50^2 + 100^2 + C1), C1 = 2.55^2
    a, b = np.full((1, 16, 12, 1), 50, np.uint8), np.full((1, 16, 12, 1), 100, np.uint8)
    assert ssim(a, b) == pytest.approx([(10_000 + 6.5025) / (12_500 + 6.5025)], rel=1e-12)


def test_equal_images():
    images = noise(0, 3, 44, 30, 3)
    assert ssim(images, images).tolist() == [1, 1, 1]
    assert ms_ssim(images, images).tolist() == [1, 1, 1]


def test_negatives_are_below_zero_and_cut_to_zero():
    images = noise(1, 2, 28, 28, 1)
    assert (ssim(images, 255 - images) < -0.5).all()
    assert ms_ssim(images, 255 - images).tolist() == [0, 0]
    assert ms_ssim(images, 255 - images, scales=1).tolist() == [0, 0]
    # opposite checkerboards on one image: opposite at the fine scale, equal at the coarse one
    ramp, board = np.add.outer(np.arange(28), np.arange(28)), np.indices((28, 28)).sum(axis=0) % 2
    a, b = (np.uint8(100 + ramp + 40 * shown)[None, ..., None] for shown in (board, 1 - board))
    assert ssim(a, b) < 0
    assert ms_ssim(a, b) == 0


@pytest.mark.parametrize("shape", [(11, 11, 1), (16, 13, 3)])
def test_ssim_window_by_window(shape):
    a = noise(2, 2, *shape)
    b = similar(a, 3)
    expected = [
        np.mean([plain_terms(x[..., c].astype(float), y[..., c].astype(float))[0] for c in range(shape[-1])])
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-11)


@pytest.mark.parametrize(("shape", "scales"), [((28, 28, 1), 2), ((21, 27, 3), 2), ((45, 41, 1), 3)])
def test_ms_ssim_window_by_window(shape, scales):
    a = noise(4, 2, *shape)
    b = similar(a, 5)
    expected = [plain_ms_ssim(x, y, WEIGHTS[:scales]) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ms_ssim(a, b), expected, rtol=1e-11)
    np.testing.assert_allclose(ms_ssim(a, b, scales=scales), expected, rtol=1e-11)
    with pytest.raises(ValueError, match=f"allow 1 to {scales} scales, got {scales + 1}$"):
        ms_ssim(a, b, scales=scales + 1)


def test_one_scale_is_ssim():
    a = noise(6, 3, 40, 40, 1)
    b = similar(a, 7)
    np.testing.assert_allclose(ms_ssim(a, b, scales=1), ssim(a, b), rtol=1e-12)


def test_five_scales_need_161_pixels():
    a, b = noise(8, 1, 161, 170, 1), noise(9, 1, 161, 170, 1)
    assert ms_ssim(a, b) == ms_ssim(a, b, scales=5)
    with pytest.raises(ValueError, match=r"images of 160x170 pixels allow 1 to 4 scales, got 5$"):
        ms_ssim(a[:, :160], b[:, :160], scales=5)


# tf.image.ssim(a, b, 255.0) and tf.image.ssim_multiscale(a, b, 255.0, power_factors) of TensorFlow 2.21 with the first
# weights, scaled to sum 1. Computed once, with its conversion of images to float32 replaced by one to float64;
# unmodified, its window sums to 1 only within float32, which changes these values by up to 1e-5.
TENSORFLOW = [
    (28, 28, 2, 0.5993100535565262, 0.8492993438932444),
    (65, 48, 3, 0.6640818245051906, 0.9244951889461909),
    (101, 90, 4, 0.6491230022736469, 0.9422274193746437),
    (176, 181, 5, 0.6555955116454234, 0.9505055327268036),
]


@pytest.mark.parametrize(("height", "width", "scales", "similarity", "multi_scale"), TENSORFLOW)
def test_against_tensorflow(height, width, scales, similarity, multi_scale):
    a, b = pattern(height, width)
    assert ssim(a, b) == pytest.approx([similarity], rel=1e-12)
    assert ms_ssim(a, b, scales=scales) == pytest.approx([multi_scale], rel=1e-12)


def test_many_pairs_are_those_of_each():
    # more pairs than are processed at once
    a, b = noise(10, 150, 12, 12, 1), noise(11, 150, 12, 12, 1)
    each = [ssim(a[i : i + 1], b[i : i + 1])[0] for i in (0, 63, 64, 149)]
    np.testing.assert_allclose(ssim(a, b)[[0, 63, 64, 149]], each, rtol=1e-12)
    assert ms_ssim(a, b).shape == (150,)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (noise(0, 2, 10, 12, 1), noise(0, 2, 10, 12, 1), "images need 11 pixels or more a side, got 10x12$"),
        (noise(0, 2, 12, 12, 1), noise(0, 3, 12, 12, 1), "first images have the shape .2, 12, 12, 1., second ones .3"),
        (noise(0, 2, 12, 12, 1) / 255, noise(0, 2, 12, 12, 1), "first images must be uint8"),
        (noise(0, 2, 12, 12, 1), noise(0, 2, 12, 12), r"second images must be \[num, H, W, 1 or 3\]"),
    ],
)
@pytest.mark.parametrize("function", [ssim, ms_ssim])
def test_what_is_refused(function, a, b, message):
    with pytest.raises(ValueError, match=message) as error:
        function(a, b)
    assert "\n" not in str(error.value)


def test_no_scales():
    a = noise(0, 2, 28, 28, 1)
    with pytest.raises(ValueError, match=r"images of 28x28 pixels allow 1 to 2 scales, got 0$"):
        ms_ssim(a, a, scales=0)


def test_classes_of_two_images():
    # one possible pair in each class, never an image and itself
    images = noise(12, 6, 14, 14, 1)
    labels = np.array([4, 0, 9, 0, 4, 9])
    diversity = within_class_diversity(images, labels, pairs=20)
    assert diversity.classes.tolist() == [0, 4, 9]
    np.testing.assert_allclose(diversity.mean, ms_ssim(images[[1, 0, 2]], images[[3, 4, 5]]), rtol=1e-12)
    np.testing.assert_allclose(diversity.deviation, 0, atol=1e-12)


def test_a_collapsed_class():
    images = np.concatenate([np.repeat(noise(13, 1, 16, 16, 1), 30, axis=0), noise(14, 30, 16, 16, 1)])
    diversity = within_class_diversity(images, np.repeat([0, 1], 30))
    assert diversity.mean[0] == 1
    assert diversity.mean[1] < 0.3


def test_feature_distances_by_hand():
    features = [[0.0, 0.0], [10.0, 0.0], [3.0, 4.0], [10.0, 1.0]]
    diversity = feature_diversity(features, [0, 1, 0, 1], pairs=7)
    assert diversity.mean.tolist() == [5, 1]
    assert diversity.deviation.tolist() == [0, 0]


def test_random_pairs_are_all_as_likely():
    features = np.random.default_rng(15).normal(size=(12, 3))
    labels = np.repeat([0, 1], 6)
    n = 20_000
    diversity = feature_diversity(features, labels, pairs=n, seed=1)
    for label in range(2):
        possible = [np.linalg.norm(x - y) for x, y in itertools.combinations(features[labels == label], 2)]
        standard_error = np.std(possible) / math.sqrt(n)
        assert diversity.mean[label] == pytest.approx(np.mean(possible), abs=4 * standard_error)
        assert diversity.deviation[label] == pytest.approx(np.std(possible), rel=0.05)


def test_the_seed_decides():
    features, labels = np.random.default_rng(16).normal(size=(50, 3)), np.zeros(50, int)
    first, again, other = (feature_diversity(features, labels, pairs=10, seed=seed).mean[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("labels", "pairs", "message"),
    [
        ([0, 0, 5], 10, "a pair needs 2 samples of a class; class 5 has 1$"),
        ([0, 0, 0], 0, "1 pair or more is needed, got 0$"),
        ([0, 0], 10, r"sampled labels must be integers \[3\]"),
        ([0.0, 0.0, 0.0], 10, r"sampled labels must be integers \[3\]"),
    ],
)
def test_labels_that_are_refused(labels, pairs, message):
    with pytest.raises(ValueError, match=message):
        within_class_diversity(noise(0, 3, 12, 12, 1), labels, pairs=pairs)
    with pytest.raises(ValueError, match=message):
        feature_diversity(np.ones((3, 2)), labels, pairs=pairs)
