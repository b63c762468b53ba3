"""The stream of shuffled epochs against its definition, and batches for evaluation against hand-made ones."""

import jax
import numpy as np
import pytest

from jaxgen.data.pipeline import batches, epoch_order, passes, stream
from jaxgen.errors import UserError


def test_epoch_order_is_the_stated_sort():
    key = jax.random.key(3)
    for epoch in (0, 1, 40):
        bits = np.asarray(jax.random.bits(jax.random.fold_in(key, epoch), (1000,)))
        by_bits = sorted(range(1000), key=lambda i: (bits[i], i))
        assert epoch_order(key, epoch, 1000).tolist() == by_bits


def test_epoch_order_is_constant():
    """Measured once; another machine, device or version of JAX has to give the same."""
    first = epoch_order(jax.random.key(0), 0, 898)
    assert first.dtype == np.int32
    assert first[:8].tolist() == [702, 495, 100, 679, 180, 28, 64, 707]
    assert epoch_order(jax.random.key(7), 3, 898)[:8].tolist() == [49, 558, 531, 171, 91, 93, 172, 695]


def test_epoch_order_depends_on_key_epoch_and_kind_of_key():
    orders = [
        epoch_order(jax.random.key(seed, impl=kind), epoch, 50).tolist()
        for kind in ("threefry2x32", "unsafe_rbg")
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)


def test_a_cached_order_cannot_be_spoilt():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(jax.random.key(0), 0, 10)[0] = 5


@pytest.mark.parametrize(("num_examples", "batch_size"), [(10, 5), (10, 4), (10, 10), (7, 3), (5, 13), (1, 4)])
def test_stream_covers_every_example_once_an_epoch(num_examples, batch_size):
    key = jax.random.key(1)
    steps = 3 * num_examples  # batch_size whole passes, three times over
    indices = stream(key, num_examples, batch_size, 0, steps)
    assert indices.shape == (steps, batch_size)
    assert indices.dtype == np.int32
    epochs = indices.reshape(-1, num_examples)
    for epoch, order in enumerate(epochs):
        np.testing.assert_array_equal(order, epoch_order(key, epoch, num_examples))
        assert sorted(order) == list(range(num_examples))


@pytest.mark.parametrize(("num_examples", "batch_size"), [(10, 4), (7, 3), (5, 13)])
def test_stream_in_pieces_is_the_same(num_examples, batch_size):
    key = jax.random.key(2)
    whole = stream(key, num_examples, batch_size, 0, 20)
    for cut in range(21):
        first, second = (
            stream(key, num_examples, batch_size, 0, cut),
            stream(key, num_examples, batch_size, cut, 20 - cut),
        )
        np.testing.assert_array_equal(np.concatenate([first, second]), whole)


def test_stream_far_out_needs_no_more_than_its_epochs():
    """Step 10**9 of batches of 100 of 1,000 examples begins epoch 10**8."""
    key = jax.random.key(0)
    np.testing.assert_array_equal(stream(key, 1000, 100, 10**9, 10).ravel(), epoch_order(key, 10**8, 1000))


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "num_passes", "steps"),
    [(10, 4, 1, 3), (10, 4, 2, 5), (10, 5, 3, 6), (3, 8, 2, 1), (3, 8, 5, 2)],
)
def test_passes_see_every_example_exactly_that_often(num_examples, batch_size, num_passes, steps):
    key = jax.random.key(4)
    indices, weights = passes(key, num_examples, batch_size, num_passes)
    assert indices.shape == weights.shape == (steps, batch_size)
    assert indices.dtype == np.int32
    assert weights.dtype == np.float32
    seen = np.bincount(indices.ravel(), weights.ravel(), num_examples)
    np.testing.assert_array_equal(seen, np.full(num_examples, num_passes))
    total = num_examples * num_passes
    np.testing.assert_array_equal(weights.ravel(), [1] * total + [0] * (steps * batch_size - total))
    np.testing.assert_array_equal(indices.ravel()[total:], 0)
    same = stream(key, num_examples, batch_size, 0, steps)
    np.testing.assert_array_equal(indices.ravel()[:total], same.ravel()[:total])


def test_batches_are_padded_with_the_first_example():
    entries = {
        "image": np.arange(10, dtype=np.uint8).reshape(5, 2),
        "label": np.array([7, 8, 9, 6, 5], np.int32),
    }
    first, second = batches(entries, 3)
    assert {name: x.tolist() for name, x in first.items()} == {
        "image": [[0, 1], [2, 3], [4, 5]],
        "label": [7, 8, 9],
        "weight": [1, 1, 1],
    }
    assert {name: x.tolist() for name, x in second.items()} == {
        "image": [[6, 7], [8, 9], [0, 1]],
        "label": [6, 5, 7],
        "weight": [1, 1, 0],
    }
    assert [x.dtype for x in second.values()] == [np.uint8, np.int32, np.float32]


@pytest.mark.parametrize(("batch_size", "weights"), [(5, [[1] * 5]), (1, [[1]] * 5), (7, [[1] * 5 + [0] * 2])])
def test_batches_weights(batch_size, weights):
    found = [batch["weight"].tolist() for batch in batches({"label": np.arange(5)}, batch_size)]
    assert found == weights


def test_mistakes_are_one_line():
    key = jax.random.key(0)
    with pytest.raises(UserError, match=r"^batch size 0: it has to be at least 1$"):
        stream(key, 10, 0, 0, 1)
    with pytest.raises(UserError, match=r"^the dataset has no examples$"):
        passes(key, 0, 4, 1)
    with pytest.raises(UserError, match=r"^the dataset has no examples$"):
        next(batches({"label": np.zeros(0)}, 4))
