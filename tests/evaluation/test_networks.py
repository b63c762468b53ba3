"""Extractor files: shipped ones, trained ones, and rejected ones."""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import scipy.ndimage

from jaxgen import data, dependencies, progress
from jaxgen.errors import UserError
from jaxgen.evaluation import networks
from jaxgen.evaluation.networks import (
    EXTRACTOR,
    JUDGE,
    SHIPPED,
    WEIGHTS,
    chosen,
    load_classifier,
    save_classifier,
    write_weights,
)
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import Context, columns
from jaxgen.metrics import frechet_distance

FILES = sorted({f"{base}-{network.name}" for base in SHIPPED.values() for network in (EXTRACTOR, JUDGE)})


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", image_size=16)


def mnist():
    """MNIST's test set from the published files: (images uint8 [10000, 28, 28, 1], labels)."""
    folder = Path(os.environ.get("JAXGEN_TEST_DATA", "nowhere")) / "mnist"
    if not folder.is_dir():
        pytest.skip("JAXGEN_TEST_DATA names no folder with mnist/")
    read = [gzip.decompress((folder / f"t10k-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")]
    return np.frombuffer(read[0], np.uint8, offset=16).reshape(-1, 28, 28, 1), np.frombuffer(
        read[1], np.uint8, offset=8
    )


@pytest.mark.parametrize("name", FILES)
def test_shipped_files_are_whole_and_small(name):
    made = load_classifier(WEIGHTS / f"{name}.safetensors")
    assert made.accuracy > {"digits": 0.97, "mnist": 0.99, "fashion_mnist": 0.91}[name.rpartition("-")[0]]
    assert "steps of" in made.note
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 1_000_000


def test_shipped_accuracy_is_what_it_has(digits):
    extractor, judge = networks.extractors(digits)
    for made in (extractor, judge):
        right = made.logits(digits.test["image"]).argmax(-1) == digits.test["label"]
        assert right.mean() == pytest.approx(made.accuracy, abs=1e-9)
    assert extractor.digest != judge.digest


def test_shipped_accuracy_on_mnist():
    images, labels = mnist()
    made = load_classifier(WEIGHTS / "mnist-extractor.safetensors")
    assert (made.logits(images).argmax(-1) == labels).mean() == pytest.approx(made.accuracy, abs=2e-4)


@pytest.mark.slow
def test_fd_of_mnist_grows_with_noise_blur_and_dropped_classes():
    images, labels = mnist()
    made = load_classifier(WEIGHTS / "mnist-extractor.safetensors")
    real = made.features(images)
    assert abs(frechet_distance(real, real)) < 1e-6

    def distances(sets):
        return [frechet_distance(real, made.features(some)) for some in sets]

    rng = np.random.Generator(np.random.Philox(0))
    noise = rng.normal(size=images.shape)
    noisy = [np.clip(images + scale * noise, 0, 255).astype(np.uint8) for scale in (10, 20, 40, 80, 160)]
    blurred = [scipy.ndimage.gaussian_filter(images, (0, sd, sd, 0)) for sd in (0.5, 1, 1.5, 2, 3)]
    fewer = [images[labels < classes] for classes in (9, 7, 5, 3, 1)]
    for sets in (noisy, blurred, fewer):
        found = distances(sets)
        assert found[0] > 1e-3
        assert found == sorted(found)


def test_stacked_digits_are_judged_by_channel():
    stacked = data.load("stacked_digits")
    extractor, judge = networks.extractors(stacked)
    images, labels = stacked.test["image"][:500], stacked.test["label"][:500]
    assert judge.logits(images).shape == (500, 1000)
    assert (judge.logits(images).argmax(-1) == labels).mean() > 0.9  # three correct digits at .977 each
    assert extractor.features(images).shape == (500, 192)


def test_of_other_data_one_is_trained_and_kept(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "FIRST", 0.01)
    monkeypatch.setattr(networks, "STEPS", 30)
    monkeypatch.setenv("JAXGEN_DATA_DIR", str(tmp_path))
    padded = data.load("digits", pad=4)  # differs from the shipped extractors' data
    small = networks.EXTRACTOR._replace(config={"features": 4, "embedding_dim": 8}, steps=30)
    monkeypatch.setattr(networks, "EXTRACTOR", small)
    monkeypatch.setattr(networks, "JUDGE", small._replace(name="judge", seed=1))
    first, judge = networks.extractors(padded, progress=True)
    said = capfd.readouterr().err.splitlines()
    assert {"training digits judge: 0 of 1", "training digits extractor: 0 of 1"} <= set(said)  # lines, in a log file
    assert (first.name, judge.name) == ("digits 16x16x1 extractor", "digits 16x16x1 judge")
    (column,) = columns(Context(padded, first, judge, None, True), Scoring(), 10, {"fd"})
    assert column.title == "FD-digits 16x16x1"  # not the shipped extractor's title
    files = sorted((tmp_path / "extractors").iterdir())
    assert len(files) == 2
    before = [file.stat().st_mtime_ns for file in files]
    again, _ = networks.extractors(padded, progress=False)
    assert again.digest == first.digest
    assert [file.stat().st_mtime_ns for file in files] == before
    save_classifier(tmp_path / "again.safetensors", small, padded, progress=False)
    assert load_classifier(tmp_path / "again.safetensors").digest == first.digest  # the same bits


@pytest.mark.parametrize("changed", ["models/classifier.py", "data/pipeline.py", "fit", "cli/lines.py"])
def test_a_kept_network_is_of_the_code_that_trained_it(changed, digits, monkeypatch):
    before, read = networks._kept(EXTRACTOR, digits), dependencies._read
    if changed == "fit":
        monkeypatch.setattr(networks, "fit", lambda *given, **options: None)
    edited = Path(dependencies.PACKAGE, changed)
    monkeypatch.setattr(dependencies, "_read", lambda path: ("edited", read(path)[1]) if path == edited else read(path))
    assert (networks._kept(EXTRACTOR, digits) == before) == (changed == "cli/lines.py")


def test_hidden_labels_change_no_network(monkeypatch):
    asked = []
    monkeypatch.setattr(networks, "save_classifier", lambda path, *_: asked.append(path))
    monkeypatch.setattr(networks, "load_classifier", lambda path: networks.Extractor("", "", np.asarray))
    for options in ({}, {"labels": 20, "subset": 3}):
        networks.extractors(data.load("digits", crop=6, **options), progress=False)
    assert len(set(asked)) == 2  # extractor and judge
    assert asked[:2] == asked[2:]


def test_a_changed_or_foreign_file_is_refused(tmp_path):
    good = WEIGHTS / "digits-extractor.safetensors"
    with safetensors.safe_open(good, framework="numpy") as file:
        header = file.metadata()
    arrays = safetensors.numpy.load_file(good)
    name = sorted(arrays)[0]
    changed = arrays | {name: arrays[name] + np.float16(1e-3)}
    safetensors.numpy.save_file(changed, tmp_path / "changed.safetensors", metadata=header)
    with pytest.raises(UserError, match="was changed"):
        chosen(tmp_path / "changed.safetensors")

    described = json.loads(header["jaxgen"])
    told = described | {"accuracy": 0.999}
    safetensors.numpy.save_file(arrays, tmp_path / "told.safetensors", metadata={"jaxgen": json.dumps(told)})
    with pytest.raises(UserError, match="was changed: what its header says"):
        chosen(tmp_path / "told.safetensors")

    del described["header_sha256"]
    write_weights(tmp_path / "other.safetensors", arrays, described | {"config": {"features": 8}})
    with pytest.raises(UserError, match="does not hold a classifier"):
        chosen(tmp_path / "other.safetensors")

    for content in (b"", b"\0" * 100, good.read_bytes()[:1000]):
        (tmp_path / "damaged.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="no extractor file"):
            chosen(tmp_path / "damaged.safetensors")
    with pytest.raises(UserError, match="no extractor file"):
        chosen(tmp_path / "absent.safetensors")


def test_a_function_of_the_users(tmp_path, digits):
    (tmp_path / "mine.py").write_text("def features(images):\n    return images.reshape(len(images), -1) / 255\n")
    made = chosen(tmp_path / "mine.py")
    assert made.features(digits.test["image"][:3]).shape == (3, 256)
    assert (made.name, made.logits) == ("mine", None)
    before = made.digest
    (tmp_path / "mine.py").write_text("def features(images):\n    return images.mean()\n")
    assert chosen(tmp_path / "mine.py").digest != before
    with pytest.raises(UserError, match="gave the shape"):
        chosen(tmp_path / "mine.py").features(digits.test["image"][:3])
    (tmp_path / "mine.py").write_text("1 / 0")
    with pytest.raises(UserError, match="cannot be imported: ZeroDivisionError"):
        chosen(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(UserError, match=r"no function features\(images\)"):
        chosen(tmp_path / "mine.py")


def test_data_without_labels_have_no_networks_but_a_choice(tmp_path):
    from PIL import Image

    for i in range(9):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    folder = data.load("image_folder", data_from=str(tmp_path))
    assert networks.extractors(folder) == networks.extractors(data.load("bars")) == (None, None)
    shutil.copy(WEIGHTS / "digits-extractor.safetensors", tmp_path / "one.safetensors")
    made, judge = networks.extractors(folder, str(tmp_path / "one.safetensors"))
    assert made.name == "digits extractor"
    assert judge is None


@pytest.mark.slow
def test_a_retriever_learns_to_find_captions(monkeypatch):
    """Codes of a test image and of its caption are alike far more often than the chance of 1 in 100."""
    monkeypatch.setattr(networks, "RETRIEVAL_STEPS", 200)
    dataset, said = data.load("shapes_32", max_objects=1), []
    captions = dataset.vocabulary.decode(dataset.test["caption"][:100])
    found = networks.retriever(dataset, said.append)(dataset.test["image"][:100], captions)
    assert said == ["training a text encoder"]
    assert found.shape == (100, 100)
    assert np.abs(found).max() <= 1 + 1e-5
    assert (found.argmax(1) == np.arange(100)).mean() > 0.1
