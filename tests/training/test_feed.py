"""A run sees the same data however they are read: in memory, or by grain during training."""

import json
import multiprocessing
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import data, dependencies
from jaxgen.data import pipeline
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.errors import UserError
from jaxgen.model import Phase
from jaxgen.training import Settings, engine, feed, open_run, train
from jaxgen.training.checkpoints import Checkpoints
from jaxgen.training.engine import streams
from jaxgen.training.folder import belonging
from tests.cases import some_slow

SMALL = {"network": "mlp", "hidden": (8,), "latent_dim": 3}
BATCH = 16

# Sums pixels weighted by the image's position in the batch and by the step, so any other order shows.
SPY = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Model, Phase, State

@dataclass(frozen=True)
class Config:
    steps: int = 0  # of a phase before all others
    passes: int = 0  # of a phase before the endless one
    captions: bool = False  # looked at in place of images

def make(config, spec):
    name = "caption" if config.captions else "image"
    def init(key):
        seen = jnp.zeros(spec.entries[name].shape, jnp.int32)
        return State(jnp.int32(0), {"seen": seen, "weight": jnp.float32(0)})
    def step(key, state, batch):
        places = (1 + jnp.arange(len(batch[name]))) * (1 + state.step) * batch["weight"].astype(jnp.int32)
        seen = state.params["seen"] + jnp.tensordot(places, batch[name].astype(jnp.int32), 1)
        weight = state.params["weight"] + batch["weight"].sum()
        return state._replace(params={"seen": seen, "weight": weight}), {"weight": batch["weight"].sum()}
    phases = [Phase("begun", step, steps=config.steps)] if config.steps else []
    phases += [Phase("counted", step, passes=config.passes)] if config.passes else []
    return Model(init, (*phases, Phase("endless", step)), (name,))
"""


@pytest.fixture
def spy(tmp_path):
    file = tmp_path / "spy.py"
    file.write_text(SPY)
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 training images, 6x5 and gray, with a distinct caption each."""
    folder, rng, lines = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for split, num in (("train", 40), ("validation", 1), ("test", 1)):
        (folder / split).mkdir()
        for n in range(num):
            Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).save(folder / split / f"{n}.png")
            lines.append(json.dumps({"file": f"{split}/{n}.png", "caption": f"picture {n}"}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines))
    return folder


def settings(**changes):
    return Settings(**{"steps": 24, "batch_size": BATCH, "log_every": 5, "checkpoint_every": 10**6} | changes)


def quiet(model, config, how, out, **kwargs):
    return train(model, config, how, out=out, progress=False, **kwargs)


def account(entry, seed=0, *, steps, before=0, passes=0, flip=False, bits=False):
    """Computes the spy's sums in NumPy: the stream by the run's step, replaced by passes from step `before` on."""
    key, num = streams(seed).data, len(entry)
    indices, weights = pipeline.stream(key, num, BATCH, 0, steps), np.ones((steps, BATCH))
    if passes:
        counted = pipeline.passes(key, num, BATCH, passes)
        end = before + len(counted[0])
        indices[before:end], weights[before:end] = (rows[: steps - before] for rows in counted)
    seen = np.zeros(entry.shape[1:], int)
    for step in range(steps):
        batch = entry[indices[step]].astype(int)
        if flip:
            turned = pipeline.mirrored(key, BATCH, step, 1)[0]
            assert 0 < turned.sum() < BATCH
            batch[turned] = batch[turned][:, :, ::-1]
        if bits:
            step_key = jax.random.fold_in(jax.random.fold_in(key, pipeline.BITS), step)
            batch = np.where(jax.random.uniform(step_key, batch.shape) < np.float32(batch / 255), 255, 0)
        for place in range(BATCH):
            seen += (1 + place) * (1 + step) * int(weights[step, place]) * batch[place]
    return seen, weights.sum()


def assert_saw(run, entry, **how):
    for n, seed in enumerate(run.plan.settings.seeds):
        order = seed if run.plan.settings.own_order else run.plan.settings.data_seed
        seen, weight = account(entry, order, **how)
        np.testing.assert_array_equal(run.state.params["seen"][n], seen)
        assert run.state.params["weight"][n] == weight


# What a model sees


@pytest.mark.parametrize("grain", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_a_run_sees_the_stream_and_flip_mirrors_half_of_it(spy, tmp_path, folder, grain, flip):
    how = settings(
        dataset="image_folder", data_from=str(folder), flip=flip, data_seed=3, pipeline="grain" if grain else "memory"
    )
    run = quiet(spy, None, how, tmp_path / "run")
    assert run.plan.dataset.streamed == grain
    images = data.load("image_folder", data_from=str(folder)).train["image"]
    assert_saw(run, images, steps=24, flip=flip)


def test_training_says_how_a_folder_of_ones_own_is_read(spy, tmp_path, folder, capfd):
    """The words are those of `jaxgen data show`, whatever the folder's name."""
    own = shutil.copytree(folder, tmp_path / "[bold]")
    (own / "notes.txt").touch()
    how = settings(dataset="image_folder", data_from=str(own), steps=1)
    run = quiet(spy, None, how, tmp_path / "run")
    words = "".join(capfd.readouterr().err.split())  # lines wrap at the terminal's width
    assert "".join(run.plan.dataset.note.split()) in words
    told = "/[bold], in its own split folders: 40 train, 1 validation, 1 test; no classes; captions from captions.jsonl"
    assert "".join(f"{told}; passed over: 1 .txt.".split()) in words
    quiet(spy, None, settings(steps=1), tmp_path / "digits")
    assert "scikit-learn" not in capfd.readouterr().err


@pytest.mark.parametrize("flip", [False, True])
def test_each_seeds_own_order_has_mirrored_images_of_its_own(spy, tmp_path, flip):
    how = settings(seeds=(4, 9), own_order=True, flip=flip, steps=10)
    run = quiet(spy, None, how, tmp_path / "run")
    assert_saw(run, run.plan.dataset.train["image"], steps=10, flip=flip)
    assert not np.array_equal(*run.state.params["seen"])


@pytest.mark.parametrize("cut", [None, 1, 2, 4, 7, 9])
@pytest.mark.parametrize("grain", [False, True])
def test_a_phase_of_passes_within_the_stream(spy, tmp_path, folder, cut, grain):
    """80 examples in 5 steps after the second; otherwise the stream by the run's own step. Stopped and resumed."""
    how = {"dataset": "image_folder", "data_from": str(folder), "flip": True, "steps": 12}
    how["pipeline"] = "grain" if grain else "memory"
    phases = {"steps": 2, "passes": 2}
    if cut:
        quiet(spy, phases, settings(**how | {"steps": cut}), tmp_path / "run")
    run = quiet(spy, phases, settings(**how), tmp_path / "run", resume=cut is not None)
    images = data.load("image_folder", data_from=str(folder)).train["image"]
    assert_saw(run, images, steps=12, before=2, passes=2, flip=True)


def test_a_last_batch_that_is_filled_up_weighs_less(spy, tmp_path):
    """808 digits in batches of 16 make 50 and a half."""
    memory, grain = (
        quiet(spy, {"passes": 1}, settings(steps=52, pipeline=how), tmp_path / how) for how in ("memory", "grain")
    )
    for run in (memory, grain):
        assert_saw(run, run.plan.dataset.train["image"], steps=52, passes=1)
        assert run.state.params["weight"][0] == 808 + BATCH


def test_captions_are_read_by_grain(spy, tmp_path, folder):
    options = {"dataset": "image_folder", "data_from": str(folder), "vocabulary_size": 20}
    run = quiet(spy, {"captions": True}, settings(**options, pipeline="grain"), tmp_path / "run")
    assert_saw(run, run.plan.dataset.train["caption"], steps=24)
    with pytest.raises(UserError, match=r"^own_order needs the data in memory"):
        quiet(spy, {"captions": True}, settings(**options, pipeline="grain", own_order=True), tmp_path / "other")


SAID = {  # how many captions each of six training images has, and how they are written
    "a": ["a one"],
    "b": ["b one", "b two"],
    "c": ["c one", "c two", "c three"],
    "d": ["d one"],
    "e": ["e one", "e two", "e three", "e four", "e five"],
    "f": ["f one", "f one"],
}


def captioned_folder(folder, form):
    """Images with several captions: by several lines, a list in one, metadata.jsonl or metadata.csv."""
    rows = []
    for split, names in (("train", SAID), ("validation", "vw"), ("test", "xy")):
        (folder / split).mkdir(parents=True)
        for name in names:
            Image.new("L", (4, 4), ord(name)).save(folder / split / f"{name}.png")
            rows += [(f"{split}/{name}.png", said) for said in SAID.get(name, [f"{name} one", f"{name} two"])]
    if form == "csv":
        text = "".join(f"{file},{said}\n" for file, said in [("file_name", "text"), *rows])
        (folder / "metadata.csv").write_text(text)
        return
    if form == "list":
        rows = [(file, [said for other, said in rows if other == file]) for file in dict(rows)]
    keys = ("file_name", "text") if form == "metadata" else ("file", "caption")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows]
    (folder / ("metadata.jsonl" if form == "metadata" else "captions.jsonl")).write_text("".join(lines))


@pytest.mark.parametrize("form", ["lines", "list", "metadata", "csv"])
def test_images_with_several_captions(tmp_path, form):
    captioned_folder(tmp_path / "images", form)
    loaded = data.load("image_folder", data_from=str(tmp_path / "images"), progress=False)
    said = [text for texts in SAID.values() for text in texts]
    assert loaded.vocabulary.decode(loaded.captions.tokens) == said
    assert loaded.captions.ends.tolist() == [1, 3, 6, 7, 12, 14]
    for split, first in (("train", [texts[0] for texts in SAID.values()]), ("test", ["<unk> one", "<unk> one"])):
        assert loaded.vocabulary.decode(getattr(loaded, split)["caption"]) == first
    assert "1 to 5 an image, of which each epoch of training draws one" in loaded.note
    again = data.load("image_folder", data_from=str(tmp_path / "images"), progress=False)
    assert (again.fingerprint, again.captions.tokens.tolist()) == (loaded.fingerprint, loaded.captions.tokens.tolist())


def test_one_caption_of_each_image_is_drawn_each_epoch():
    """Each equally likely, of the image's own, by key and step: however the steps are cut."""
    ends, key, epochs = np.array([1, 3, 6, 7, 12, 14]), jax.random.key(3), 3000
    images = pipeline.stream(key, 6, 6, 0, epochs)  # a step is an epoch
    rows = pipeline.captioned(key, images, ends, 0)
    assert ((rows < ends[images]) & (rows >= (ends - [1, 2, 3, 1, 5, 2])[images])).all()
    counts = np.bincount(rows.ravel(), minlength=14) / epochs
    expected = np.repeat([1, 1 / 2, 1 / 3, 1, 1 / 5, 1 / 2], [1, 2, 3, 1, 5, 2])
    np.testing.assert_allclose(counts, expected, atol=4 * np.sqrt(0.25 / epochs))
    np.testing.assert_array_equal(pipeline.captioned(key, images[7:20], ends, 7), rows[7:20])
    assert (pipeline.captioned(jax.random.key(4), images, ends, 0) != rows).mean() > 0.3


@pytest.mark.parametrize("how", ["memory", "grain", "own_order", "resumed"])
def test_a_run_sees_the_captions_that_are_drawn(spy, tmp_path, how):
    captioned_folder(tmp_path / "images", "lines")
    options = {"dataset": "image_folder", "data_from": str(tmp_path / "images"), "seeds": (0, 1)}
    options |= {"memory": {}, "resumed": {}}.get(how, {"pipeline": "grain"} if how == "grain" else {how: True})
    if how == "resumed":
        quiet(spy, {"captions": True}, settings(**options, steps=7), tmp_path / "run")
    given = settings(**options)
    run = quiet(spy, {"captions": True}, given, tmp_path / "run", resume=how == "resumed")
    captions = data.load("image_folder", data_from=str(tmp_path / "images"), progress=False).captions
    for n, seed in enumerate((0, 1)):
        key = streams(seed if how == "own_order" else given.data_seed).data
        rows = pipeline.captioned(key, pipeline.stream(key, 6, BATCH, 0, 24), captions.ends, 0)
        weights = np.arange(1, 25)[:, None] * np.arange(1, BATCH + 1)  # by step and place in the batch
        seen = np.tensordot(weights, captions.tokens[rows].astype(int), 2)
        np.testing.assert_array_equal(run.state.params["seen"][n], seen)


# Batches of two streams


def labeled(share, **changes):
    return settings(labels=20, subset=1, labeled_share=share, **changes)


@pytest.mark.parametrize(("share", "own"), [(0.4, 6), (1.0, 16)])
def test_a_share_of_each_batch_is_of_labeled_examples(share, own):
    """The first `own` of 16 are a stream of the 20 kept ones, the others of all 808: each kept one equally often."""
    found, how, keys = data.load("digits", labels=20, subset=1), labeled(share), streams(0).data
    phase = Phase("train", None)
    rows, weights = feed.chunk_rows(phase, keys, 808, how, 0, 40, 80, 50, found.kept)
    assert rows.shape == (50, BATCH)
    assert rows.dtype == np.int32
    assert (weights[:40] == 1).all()
    rows = rows[:40]
    kept_key = jax.random.fold_in(keys, pipeline.KEPT)
    np.testing.assert_array_equal(rows[:, :own], found.kept[pipeline.stream(kept_key, 20, own, 40, 40)])
    assert np.ptp(np.bincount(rows[:, :own].ravel(), minlength=808)[found.kept]) == 0
    if own < BATCH:
        np.testing.assert_array_equal(rows[:, own:], pipeline.stream(keys, 808, BATCH - own, 40, 40))
    passed, weights = feed.chunk_rows(Phase("count", None, passes=1), keys, 808, how, 0, 0, 51, 51, found.kept)
    np.testing.assert_array_equal(np.sort(passed.ravel()[:808]), np.arange(808))  # phases of passes are as ever


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_sees_batches_of_two_streams(spy, tmp_path, resumed):
    """Each seed's own order has both streams of its own."""
    if resumed:
        quiet(spy, None, labeled(0.4, seeds=(4, 9), own_order=True, steps=9), tmp_path / "run")
    run = quiet(spy, None, labeled(0.4, seeds=(4, 9), own_order=True), tmp_path / "run", resume=resumed)
    found = data.load("digits", labels=20, subset=1)
    for n, seed in enumerate((4, 9)):
        rows = pipeline.mixed(streams(seed).data, 808, found.kept, 6, BATCH, 0, 24)
        weights = np.arange(1, 25)[:, None] * np.arange(1, BATCH + 1)
        seen = np.tensordot(weights, found.train["image"][rows].astype(int), 2)
        np.testing.assert_array_equal(run.state.params["seen"][n], seen)
    described = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert (described["options"]["labels"], described["options"]["subset"]) == (20, 1)
    assert "labels of 20 of the 808 training examples kept (subset 1, " in described["note"]
    np.testing.assert_array_equal(open_run(run.path).plan.dataset.train["label"], found.train["label"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"labels": 20, "labeled_share": 0.01},
            "must be at most 1 and at least one example of a batch of 16",
        ),
        (
            {"labels": 20, "labeled_share": 1.1},
            "must be at most 1 and at least one example of a batch of 16",
        ),
        ({"labeled_share": 0.5}, "labeled_share only applies with --labels or --captions"),
        ({"labels": 20, "labeled_share": 0.5, "pipeline": "grain"}, "labeled_share needs the data in memory"),
    ],
)
def test_shares_that_cannot_be(spy, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        quiet(spy, None, settings(**changes), tmp_path / "run")


# The table's models


@pytest.mark.parametrize(("model", "config"), [("naive_bayes", None), ("vae", SMALL)])
def test_digests_are_those_of_data_in_memory(tmp_path, model, config):
    """20 steps with mirrored images; by grain, stopped and resumed within the first epoch of 50 and a half steps."""

    def how(**changes):
        return settings(**{"steps": 20, "flip": True} | changes)

    memory = quiet(model, config, how(), tmp_path / "memory").digests()
    cut = quiet(model, config, how(pipeline="grain", steps=7), tmp_path / "grain")
    assert cut.step == 7
    assert cut.digests() != memory
    assert quiet(model, config, how(pipeline="grain"), tmp_path / "grain", resume=True).digests() == memory


def test_worker_processes_change_nothing(spy, tmp_path, folder):
    how = settings(dataset="image_folder", data_from=str(folder), pipeline="grain", workers=2)
    run = quiet(spy, None, how, tmp_path / "run")
    assert_saw(run, data.load("image_folder", data_from=str(folder)).train["image"], steps=24)
    assert not multiprocessing.active_children()


# Large examples


@pytest.mark.parametrize("workers", some_slow([2, 1]))
def test_no_word_of_workers_when_a_program_ends(tmp_path, folder, workers):
    argv = f"train naive_bayes --dataset image_folder --data-from {folder} --image-size 4 --pipeline grain --steps 9"
    argv = argv.replace("naive_bayes", "vae --network mlp --hidden 4 --latent-dim 2").split()
    command = [sys.executable, "-m", "jaxgen", *argv, "--batch-size", "8", "--workers", str(workers)]
    done = subprocess.run([*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert "leaked" not in done.stderr
    assert "Warning" not in done.stderr


SCRIPT = """
import sys
from jaxgen.training import Settings, train
how = Settings(dataset="image_folder", data_from=sys.argv[1], pipeline="grain", workers=int(sys.argv[2]), steps=2)
GUARD
    train("vae", {"network": "mlp", "hidden": (4,), "latent_dim": 2}, how, out=sys.argv[3], progress=False)
"""


@pytest.mark.parametrize(
    ("guard", "workers", "trains"),
    some_slow(
        [
            ("if __name__ == '__main__':", 1, True),
            ("if True:", 1, False),
            ("if True:", 0, True),
            ("for _ in range(1):", 1, False),
        ],
        quick=2,
    ),
)
def test_a_script_with_workers_needs_a_guard_and_is_told(tmp_path, folder, guard, workers, trains):
    (tmp_path / "script.py").write_text(SCRIPT.replace("GUARD", guard))
    command = [sys.executable, str(tmp_path / "script.py"), str(folder), str(workers), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) == trains, done.stderr
    assert (tmp_path / "run").exists() == trains
    last = "jaxgen.errors.UserError: a process that reads the data has ended (worker processes import the main script"
    assert done.stderr.splitlines()[-1].startswith(last) if not trains else "Error" not in done.stderr


@pytest.mark.slow
def test_trainings_in_threads_are_those_of_one_after_the_other(tmp_path):
    """Each of another model, so that all are parsed, compiled and saved at once."""
    kinds = [("vae", SMALL), ("naive_bayes", None), ("autoencoder", {"network": "linear"})]
    found, how = {}, settings(steps=4, seeds=(0, 1))

    def go(name, config):
        found[name] = quiet(name, config, how, tmp_path / f"{name}-threads").digests()

    dependencies._read.cache_clear()
    threads = [threading.Thread(target=go, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: quiet(name, config, how, tmp_path / name).digests() for name, config in kinds}


@pytest.mark.parametrize(("bytes_", "most"), [(64 * BATCH * 3, 3), (64 * BATCH * 4 - 1, 3), (1, 1), (2**28, 5)])
def test_few_steps_at_once_where_examples_are_large(spy, tmp_path, monkeypatch, bytes_, most):
    """An 8x8 image has 64 bytes, and metrics are written every five steps."""
    monkeypatch.setattr(feed, "MOST_BYTES", bytes_)
    devices = engine.mesh(1, BATCH)
    grain = data.load("digits", pipeline="grain")
    assert feed.Feed(grain, ("image",), settings(), devices).most == most
    assert feed.Feed(data.load("digits"), ("image",), settings(), devices).most == 5  # in memory all are anyway
    run = quiet(spy, None, settings(pipeline="grain"), tmp_path / "run")
    assert_saw(run, run.plan.dataset.train["image"], steps=24)


def test_what_is_held_at_once(folder):
    """A chunk has at most the requested number of steps, whose rows are all read; the remaining rows are zero."""
    dataset = data.load("image_folder", data_from=str(folder), pipeline="grain")
    how, devices = settings(dataset="image_folder", log_every=4), engine.mesh(1, BATCH)
    fed = feed.Feed(dataset, ("image",), how, devices)
    phase = type("phase", (), {"passes": None})
    images = data.load("image_folder", data_from=str(folder)).train["image"]
    with fed.phase(phase, 0, 2, 9) as take:
        for step, stop in ((2, 6), (6, 7), (7, 9)):
            read, indices, weights, anew = take(step, stop)
            assert read["image"].shape == (4 * BATCH, 6, 5, 1)
            assert indices.shape == weights.shape == (4, BATCH)
            assert anew is None
            rows = pipeline.stream(streams(0).data, 40, BATCH, step, stop - step)
            np.testing.assert_array_equal(read["image"][indices[: stop - step]], images[rows])


@pytest.mark.parametrize("grain", [False, True])
def test_dynamic_binarization_draws_each_steps_images_anew(spy, tmp_path, folder, grain):
    """40 images in 24 steps of 16 are seen about ten times each; bits do not depend on how the data are read."""
    options = {"dataset": "image_folder", "data_from": str(folder), "binarize": "dynamic"}
    how = settings(**options, flip=True, data_seed=3, pipeline="grain" if grain else "memory")
    run = quiet(spy, None, how, tmp_path / "run")
    assert run.plan.dataset.streamed == grain
    assert_saw(run, data.load("image_folder", data_from=str(folder)).train["image"], steps=24, flip=True, bits=True)


def test_each_seeds_own_order_has_bits_of_its_own(spy, tmp_path):
    run = quiet(spy, None, settings(seeds=(4, 9), own_order=True, binarize="dynamic", steps=10), tmp_path / "run")
    assert_saw(run, run.plan.dataset.train["image"], steps=10, bits=True)


def test_stopping_does_not_change_the_bits(spy, tmp_path):
    whole = quiet(spy, None, settings(binarize="dynamic", steps=12), tmp_path / "whole")
    quiet(spy, None, settings(binarize="dynamic", steps=7), tmp_path / "parts")
    parts = quiet(spy, None, settings(binarize="dynamic", steps=12), tmp_path / "parts", resume=True)
    assert parts.digests() == whole.digests()


# What a run folder holds


def test_own_order_needs_the_data_in_memory(spy, tmp_path):
    with pytest.raises(UserError) as caught:
        quiet(spy, None, settings(pipeline="grain", own_order=True), tmp_path / "run")
    assert (
        str(caught.value) == "own_order needs the data in memory (pipeline memory): what grain reads, all seeds share"
    )
    assert not (tmp_path / "run").exists()


def test_images_only_can_be_flipped(tmp_path):
    with pytest.raises(UserError, match=r"^dataset gaussians has no images, so flip is not for it$"):
        quiet("vae", None, settings(dataset="gaussians", flip=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_holds_its_datas_fingerprint_and_refuses_others(spy, tmp_path, folder):
    own = shutil.copytree(folder, tmp_path / "images")
    how = settings(dataset="image_folder", data_from=str(own), steps=3)
    run = quiet(spy, None, how, tmp_path / "run")
    fingerprint = data.load("image_folder", data_from=str(folder)).fingerprint
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["dataset"]["fingerprint"] == fingerprint == run.plan.dataset.fingerprint
    assert environment["dataset"]["options"]["data_from"] == str(own)
    like = jax.eval_shape(lambda: run.state)._asdict()
    belongs = belonging(run.plan.described(), fingerprint)
    assert fingerprint in belongs.values()
    with Checkpoints(run.path / "checkpoints") as checkpoints:
        restored, _ = checkpoints.restore(3, like, belongs)
    np.testing.assert_array_equal(restored["params"]["seen"], run.state.params["seen"])
    with (
        Checkpoints(run.path / "checkpoints") as checkpoints,
        pytest.raises(UserError, match=r"checkpoints/3 was trained with another data_seed: 0, not 1$"),
    ):
        checkpoints.restore(3, like, belongs | {"data_seed": 1})

    Image.new("L", (5, 6)).save(own / "train" / "7.png")
    with pytest.raises(UserError) as caught:
        quiet(spy, None, settings(**vars(how) | {"steps": 5}), tmp_path / "run", resume=True)
    assert str(caught.value) == (
        f"{run.path} belongs to another run; what differs: the content of dataset image_folder (fingerprint)"
    )
    opened = open_run(run.path)  # from its own files
    assert opened.digests() == run.digests()
    with pytest.raises(UserError, match=r"dataset image_folder, have changed since it was trained \(fingerprint\)"):
        opened.plan.dataset.test["image"]


def test_a_run_holds_its_vocabulary(spy, tmp_path, folder):
    how = settings(dataset="image_folder", data_from=str(folder), vocabulary_size=9, caption_length=1, steps=2)
    run = quiet(spy, {"captions": True}, how, tmp_path / "run")
    kept = Vocabulary.load(run.path / "vocabulary.json")
    assert kept == run.plan.dataset.vocabulary
    assert kept.words == ("picture", "0", "1", "10", "11", "12", "13", "14", "15")
    assert open_run(run.path).plan.dataset.vocabulary == kept
    quiet(spy, None, settings(steps=1), tmp_path / "digits")
    assert not (tmp_path / "digits" / "vocabulary.json").exists()
