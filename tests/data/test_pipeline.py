"""The stream of shuffled epochs against its definition, reading it with grain, and batches for evaluation."""

import os
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.data import pipeline
from jaxgen.data.pipeline import BITS, FLIPS, batches, bit_keys, mirrored, passes, read, stream, words_of
from jaxgen.errors import UserError


def philox(*words):
    """NumPy's generator of 64-bit words, seeded as documented."""
    return np.random.Philox(np.random.SeedSequence(list(words)))


def epoch_order(key, epoch, num_examples):
    return pipeline.epoch_order(words_of(key), epoch, num_examples)


def test_epoch_order_is_the_stated_sort():
    key = jax.random.key(3)
    for epoch in (0, 1, 40):
        bits = philox(*np.asarray(jax.random.key_data(key)).tolist(), epoch).random_raw(1000)
        by_bits = sorted(range(1000), key=lambda i: (bits[i], i))
        assert epoch_order(key, epoch, 1000).tolist() == by_bits


def test_epoch_order_is_constant():
    """Recorded values: any machine, device or version of JAX or NumPy must give the same."""
    first = epoch_order(jax.random.key(0), 0, 898)
    assert first.dtype == np.int32
    assert first[:8].tolist() == [652, 293, 617, 707, 693, 382, 793, 151]
    assert epoch_order(jax.random.key(7), 3, 898)[:8].tolist() == [258, 122, 241, 693, 727, 819, 240, 127]


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
    steps = 3 * num_examples  # batch_size whole passes, three times
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
    """Step 10**9 of batches of 100 from 1,000 examples begins epoch 10**8."""
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


def test_mirrored_is_the_stated_bit():
    key = jax.random.key(5)
    words = np.asarray(jax.random.key_data(key)).tolist()
    expected = [[bool(word & 1) for word in philox(*words, FLIPS, step).random_raw(7)] for step in range(3, 9)]
    assert mirrored(key, 7, 3, 6).tolist() == expected
    assert mirrored(jax.random.key(0), 8, 0, 2).astype(int).tolist() == [
        [0, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 1, 1, 1],
    ]


def test_half_of_the_images_are_mirrored():
    """The share is within five standard deviations of 1/2, also for each position in a batch."""
    flips = mirrored(jax.random.key(1), 16, 0, 4000)
    np.testing.assert_allclose(flips.mean(), 0.5, atol=5 * 0.5 / np.sqrt(flips.size))
    np.testing.assert_allclose(flips.mean(0), 0.5, atol=5 * 0.5 / np.sqrt(len(flips)))
    assert len(np.unique(flips, axis=0)) > 3700  # 4,000 draws of 65,536 collide about 120 times


def test_bit_keys_are_the_stated_ones_of_key_and_step():
    key = jax.random.key(2)
    found = jax.random.key_data(bit_keys(key, 3, 5))
    expected = [jax.random.fold_in(jax.random.fold_in(key, BITS), step) for step in range(3, 8)]
    np.testing.assert_array_equal(found, [jax.random.key_data(each) for each in expected])
    np.testing.assert_array_equal(jax.random.key_data(bit_keys(key, 5, 2)), found[2:4])
    assert len(np.unique(np.concatenate([found, jax.random.key_data(bit_keys(jax.random.key(3), 3, 5))]), axis=0)) == 10


def test_mirrored_depends_on_key_and_step_only():
    whole = mirrored(jax.random.key(2), 9, 0, 12)
    for cut in range(1, 12):
        pieces = mirrored(jax.random.key(2), 9, 0, cut), mirrored(jax.random.key(2), 9, cut, 12 - cut)
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert not np.array_equal(mirrored(jax.random.key(3), 9, 0, 12), whole)
    assert not np.array_equal(mirrored(jax.random.key(2), 9, 1, 12), whole)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """17 training images of two classes with a caption each; gray, 6x4, random."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    files = [f"train/{'ab'[n % 2]}/{n}.png" for n in range(17)]
    files += [f"{split}/{name}/0.png" for split in ("validation", "test") for name in "ab"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 4), np.uint8)).save(folder / file)
    lines = [f'{{"file": "{file}", "caption": "number {n} of all"}}\n' for n, file in enumerate(files)]
    (folder / "captions.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def splits(folder):
    """The training split, in memory and read by grain."""
    options = {"data_from": str(folder), "progress": False}
    memory, grain = (data.load("image_folder", **options, pipeline=pipeline) for pipeline in ("memory", "grain"))
    assert isinstance(memory.train["image"], np.ndarray)
    assert not isinstance(grain.train["image"], np.ndarray)
    assert len(memory.train["image"]) == 17
    return memory.train, grain.train


def assert_reads(reading, train, indices):
    """Checks that reading gives exactly the batches of these rows, as separate arrays."""
    for batch, rows in zip(reading, indices, strict=True):
        assert set(batch) == set(train)
        for name, entry in batch.items():
            assert type(entry) is np.ndarray
            assert entry.dtype == train[name].dtype
            np.testing.assert_array_equal(entry, train[name][rows])


@pytest.mark.parametrize("workers", [0, 2])
def test_what_grain_reads_is_the_stream(splits, workers):
    """Reads from the middle of the first epoch into the fourth."""
    key = jax.random.key(6)
    memory, grain = splits
    reading = read(key, grain, 5, 2, 11, workers=workers)
    assert_reads(reading, memory, stream(key, 17, 5, 2, 9))
    reading.close()


@pytest.mark.parametrize(("start", "workers"), [(0, 0), (3, 0), (4, 2)])
def test_what_grain_reads_of_passes(splits, start, workers):
    """34 examples are followed by the first one again, in place of a 35th."""
    key = jax.random.key(7)
    memory, grain = splits
    indices, weights = passes(key, 17, 5, 2)
    assert weights.sum() == 34
    reading = read(key, grain, 5, start, 7, passes=2, workers=workers)
    assert_reads(reading, memory, indices[start:])
    reading.close()


@pytest.mark.parametrize("num_passes", [None, 1])
@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_processes_make_up_the_batch(splits, processes, num_passes):
    key = jax.random.key(8)
    memory, grain = splits
    shares = [read(key, grain, 6, 1, 3, passes=num_passes, share=(n, processes)) for n in range(processes)]
    indices = stream(key, 17, 6, 1, 2) if num_passes is None else passes(key, 17, 6, num_passes)[0][1:]
    for *parts, rows in zip(*shares, indices, strict=True):
        assert {len(part["image"]) for part in parts} == {6 // processes}
        for name, entry in memory.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), entry[rows])


def test_a_batch_that_processes_cannot_share(splits):
    with pytest.raises(UserError, match=r"^a batch of 64 cannot be divided evenly among 3 processes$"):
        read(jax.random.key(0), splits[1], 64, 0, 1, share=(0, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_damaged_since_is_named(folder, splits, workers):
    """The error is raised in this process, whichever process reads the image."""
    path = folder / "train" / "b" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:30])
    try:
        reading = read(jax.random.key(0), splits[1], 17, 0, 1, workers=workers)
        with pytest.raises(UserError, match=r"^cannot decode .*/train/b/3\.png \("):
            next(reading)
        reading.close()
    finally:
        path.write_bytes(whole)


def test_a_reading_given_up_leaves_nothing(folder):
    """Closing leaves no process and no output from workers, whether at the end, before it, or by Ctrl-C.

    SIGINT is handled as in a command: Python may drop a KeyboardInterrupt while grain frees a batch.
    """
    code = """
        import multiprocessing, sys
        import jax
        from jaxgen import data, signals
        from jaxgen.data.pipeline import read

        train = data.load("image_folder", data_from=sys.argv[1], pipeline="grain", progress=False).train

        def begun(workers):
            reading = read(jax.random.key(0), train, 4, 0, 10**6, workers=workers)
            return reading, next(reading)["image"]

        def interrupted():
            reading, image = begun(2)
            try:
                for n in range(10**6):
                    next(reading)
                    if n == 4:  # both have read by now
                        print(len(multiprocessing.active_children()), flush=True)
            except KeyboardInterrupt:
                reading.close()
            assert not multiprocessing.active_children()

        unused, image = begun(0)
        with signals.handled(signals.end):
            interrupted()
        begun(1)
        print(image.shape)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "2\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
    err = "".join(line for line in err.splitlines(keepends=True) if "profiling requires jaxlib" not in line)  # grain's
    assert (out, err, process.returncode) == ("(4, 6, 4, 1)\n", "", 0)


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
