"""Corrupted images: what each corruption leaves as it is, what metrics say of them, and that a judge rejects them."""

import numpy as np
import pytest

from experiments import ladder
from jaxgen import data
from jaxgen.evaluation import corruptions, networks
from jaxgen.evaluation.extractor import Extractor, fitted
from jaxgen.evaluation.of_samples import Examples, recognized
from jaxgen.metrics import frechet_distance
from jaxgen.metrics.patches import sliced_wasserstein


def generator():
    return np.random.Generator(np.random.Philox(0))


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", image_size=16)


@pytest.fixture(scope="module")
def judged(digits):
    """Extractor and judge of the digits."""
    return networks.extractors(digits)


@pytest.fixture(scope="module")
def real(digits):
    return digits.train["image"][:], digits.train["label"][:]


def test_pixels_of_others_come_from_their_place_and_class():
    """Images of class c hold 100 c + their number in the class at the one place that is not 0, each class another."""
    labels = np.arange(60) % 3
    images = np.zeros((60, 4, 5, 2), np.uint8)
    for label in range(3):
        images[labels == label, label, 2 * label] = np.stack([100 * label + np.arange(20), np.arange(20)], -1)
    mixed = corruptions.independent_pixels(generator(), images, labels)
    for label in range(3):
        of = mixed[labels == label]
        there = of[:, label, 2 * label]
        np.testing.assert_array_equal(there[:, 0] - 100 * label, there[:, 1])  # channels stay together
        assert set(there[:, 1]) <= set(range(20))
        assert len(set(there[:, 1])) > 8  # from many images
        of[:, label, 2 * label] = 0
        assert not of.any()
    np.testing.assert_array_equal(corruptions.independent_pixels(generator(), images, labels, 0.0), images)


def test_shuffles_keep_the_pixels():
    images = generator().integers(0, 256, (6, 4, 6, 3), np.uint8)
    places, quarters = (
        shuffle(generator(), images) for shuffle in (corruptions.shuffled_places, corruptions.shuffled_quarters)
    )
    for shuffled in (places, quarters):
        assert (shuffled != images).any()
        for one, other in zip(shuffled, images, strict=True):
            assert sorted(map(tuple, one.reshape(-1, 3))) == sorted(map(tuple, other.reshape(-1, 3)))
    upper_left = {quarter.tobytes() for quarter in (images[0, 2:, 3:], images[0, 2:, 3:][::-1, ::-1])}
    assert quarters[0, :2, :3].tobytes() in upper_left


def test_strengths_are_what_they_say():
    gray = np.full((200, 16, 16, 1), 128, np.uint8)
    peppered = corruptions.salt_and_pepper(generator(), gray, 0.2)
    levels, counts = np.unique(peppered, return_counts=True)
    assert levels.tolist() == [0, 128, 255]
    np.testing.assert_allclose(counts / counts.sum(), [0.1, 0.8, 0.1], atol=0.01)
    assert corruptions.gaussian_noise(generator(), gray, 10.0).std() == pytest.approx(10, abs=0.1)
    point = np.zeros((1, 21, 21, 1), np.uint8)
    point[0, 10, 10] = 255
    blurred = corruptions.blur(generator(), point, 1.0)[0, :, :, 0]
    expected = 255 / (2 * np.pi) * np.exp(-(np.arange(3) ** 2) / 2)
    np.testing.assert_allclose(blurred[10, 10:13], expected, atol=0.7)


@pytest.mark.parametrize("labels", [np.arange(40) % 4, np.repeat([0, 1], [39, 1]), np.repeat([2, 3], [20, 20])])
def test_blends_are_means_of_two_classes(labels):
    images = np.broadcast_to((labels * 40).astype(np.uint8)[:, None, None, None], (40, 2, 2, 1))
    blended = corruptions.blends(generator(), images, labels)
    for label, image in zip(labels, blended, strict=True):
        assert image[0, 0, 0] in [20 * (label + other) for other in set(labels) - {label}]


def test_blends_of_one_class_are_means_of_two_images():
    images = (2 ** np.arange(1, 8)).astype(np.uint8)[:, None, None, None]
    for level, image in zip(images.ravel(), corruptions.blends(generator(), images, np.zeros(7)), strict=True):
        assert 2 * int(image.item()) - level in set(images.ravel().tolist()) - {level}


def test_rejected_images_are_of_every_kind(real):
    images, labels = real
    made = corruptions.rejected(images, labels, 3)
    assert made.shape == (202, 16, 16, 1)
    assert (corruptions.rejected(images, labels, 3) == made).all()
    assert (corruptions.rejected(images, labels, 4) != made).any()
    kinds = len(corruptions.REJECTED)
    uniform, coins, flat = (made[i::kinds] for i in range(3))
    assert (np.ptp(uniform, axis=(1, 2, 3)) > 200).all()
    assert len(np.unique(uniform)) > 200
    assert set(np.unique(coins)) == {0, 255}
    assert (np.ptp(flat, axis=(1, 2, 3)) == 0).all()


@pytest.mark.parametrize("name", ["distance of features", "distance of patches", "share recognized"])
def test_each_strength_of_a_fault_is_worse_than_the_one_before(name, digits, judged, real):
    """Shares recognized see no missing classes and no copies, so they climb the other faults alone."""
    extractor, judge = judged
    test = digits.test["image"][:]

    def score(images):
        if name == "distance of features":
            return frechet_distance(extractor.features(test), extractor.features(images))
        if name == "distance of patches":
            return sliced_wasserstein(test, images).mean()
        return 1 - recognized(None, Examples(images, None, extractor, judge))["recognized"]

    rungs = {rung: score(images) for rung, (images, _) in ladder.rungs(*real).items()}
    for fault in list(ladder.RUNGS)[: 4 if name == "share recognized" else None]:
        scores = [rungs["real"], *(value for rung, value in rungs.items() if rung.startswith(fault))]
        assert len(scores) == 4
        assert scores == sorted(scores), (fault, scores)
        assert scores[-1] > scores[0]
    # What Naive Bayes draws is worse than what fewer examples show
    assert rungs["pixels of others of the class: 100%"] > 2 * rungs["different images: 50%"]


def test_a_judge_rejects_what_shows_no_class(digits, judged):
    """Nearly all real images are recognized, and hardly any of noise and others' pixels, unseen kinds included."""
    judge = judged[1]
    images, labels = digits.test["image"][:300], digits.test["label"][:300]
    rng = generator()
    stripes = np.broadcast_to(np.where(np.arange(16) % 2, 0, 255).astype(np.uint8)[:, None, None], images.shape)
    sets = {
        "uniform": corruptions.uniform_noise(rng, images),
        "white": np.full_like(images, 255),
        "independent": corruptions.independent_pixels(rng, images, labels),
        "stripes": stripes,
    }
    sure = {name: np.exp(judge.log_probabilities(some)).max(-1) >= 0.9 for name, some in sets.items()}
    assert all(share.mean() < 0.3 for share in sure.values()), {name: share.mean() for name, share in sure.items()}
    real = np.exp(judge.log_probabilities(images))
    assert (real.max(-1) >= 0.9).mean() > 0.95
    assert (real.sum(-1) <= 1 + 1e-5).all()


def test_probabilities_of_three_channels_are_products_and_leave_those_of_no_class():
    """Two classes of .5 and .3 in each channel: the four pairs have products, and .36 of the mass is of no class."""
    rows = np.log(np.array([[0.5, 0.3]], np.float32))
    one = Extractor("", "", np.asarray, lambda images: rows.repeat(len(images), 0), rejects=True)
    both = fitted(one, (4, 4, 1)).log_probabilities(np.zeros((2, 4, 4, 2), np.uint8))
    np.testing.assert_allclose(np.exp(both), [[0.25, 0.15, 0.15, 0.09]] * 2, rtol=1e-6)
    softmax = one._replace(rejects=False).log_probabilities(np.zeros((1, 4, 4, 1), np.uint8))
    np.testing.assert_allclose(np.exp(softmax), [[5 / 8, 3 / 8]], rtol=1e-6)


def test_distances_are_in_deviations_of_real_scores():
    scores = {"real": {"fd": 6.0, "recall": 0.9}, "worse": {"fd": 10.0, "recall": 0.7}, "models": {"fd": 4.0}}
    names, keys, worse = ladder.distances({"scores": scores, "deviations": {"fd": 0.5, "recall": 0.1}})
    assert (names, keys) == (["worse", "models"], ["fd", "recall"])
    np.testing.assert_allclose(worse, [[8, 2], [-4, np.nan]])


def test_images_and_further_ones_are_read_by_rows():
    first, more = np.arange(5)[:, None] * 10, np.arange(3)[:, None] + 100
    joined = networks.Extended(first, more)
    assert len(joined) == 8
    rows = np.array([[0, 7], [5, 4]])
    np.testing.assert_array_equal(joined[rows][..., 0], [[0, 102], [100, 40]])
    assert first[0] == 0  # and not written over
