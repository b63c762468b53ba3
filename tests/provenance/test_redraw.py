"""Search of images among draws: the nearest, and the rank of its cosine."""

import numpy as np
import pytest

from jaxgen.provenance.redraw import nearest
from tests.provenance.changes import binarized, jpeg, noisy


def draws(num, seed, shape=(16, 16, 1)):
    """Random blobs, uint8 [num, *shape]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = np.zeros((num, *shape))
    for _ in range(3):
        at = rng.uniform(2, shape[0] - 2, (2, num, 1, 1))
        images[..., 0] += np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 4)
    return (255 * np.clip(images, 0, 1)).astype(np.uint8)


def test_the_nearest_by_hand():
    """About the center (1, 1): the image (2, 0) is along the second draw, and opposite to the first."""
    own = np.array([[0, 2], [2, 0]])
    others = np.array([[[1, 3], [1, -1]], [[1, 1], [1, 1]]])  # their mean is the center, too
    found = nearest(np.array([[2, 0]]), own, others)
    assert found.index.tolist() == [1]
    np.testing.assert_allclose([found.cosine, found.second], [[1], [-1]], atol=1e-6)
    assert found.p == pytest.approx(1 / 3)  # the others' best cosines are 0.71 and 0
    found = nearest(np.array([[1, 4]]), own, others)
    assert found.p == pytest.approx(2 / 3)  # 0.71 among its own, 1 among the first others'


@pytest.mark.parametrize("change", [lambda x: x, lambda x: jpeg(x, 20), binarized, lambda x: noisy(x, 30)])
def test_changed_draws_are_found(change):
    own = draws(200, 0)
    others = np.stack([draws(200, 1 + i) for i in range(19)])
    found = nearest(change(own[:50]), own, others)
    assert found.index.tolist() == list(range(50))
    assert found.p == 0.05
    assert (found.cosine > found.second).all()


def test_p_values_of_other_images_are_uniform():
    """Images of yet another key rank anywhere among twenty sets."""
    sets = [draws(20, seed) for seed in range(20)]
    p = [nearest(draws(1, 1000 + i), sets[0], np.stack(sets[1:])).p for i in range(200)]
    ranks = np.round(np.array(p) * 20).astype(int)
    assert ranks.min() >= 1
    assert abs(np.mean(ranks) - 10.5) < 4 * np.sqrt(400 / 12 / 200) + 3  # one set may by chance be nearer to all


def test_images_that_are_all_alike():
    """A collapsed model: all draws are one, and none is nearer."""
    own = np.full((3, 4, 4, 1), 9, np.uint8)
    found = nearest(own[:1], own, np.stack([own, own]))
    assert (found.cosine.item(), found.p) == (0, 1)
