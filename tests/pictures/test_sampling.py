"""Pictures from small runs, against codes and images computed from the models one seed at a time."""

import io
import json
import re
import shutil
import textwrap
import time
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image
from rich.console import Console

from jaxgen import data, progress
from jaxgen.data.readers.image_folder import folder_names
from jaxgen.data.vocabulary import Vocabulary
from jaxgen.drawing import captioned, enlarged, image_grid, labeled, spread, stacked
from jaxgen.errors import UserError
from jaxgen.evaluation.foreign import read_images
from jaxgen.model import Latents, Model, Phase, Prior, Sampler, Spec, State
from jaxgen.models import infogan
from jaxgen.pictures import kinds, latents, sample, sampling
from jaxgen.pictures.kinds import KINDS
from jaxgen.training import Settings, open_run, train
from jaxgen.training.engine import streams

CLOTHES = ("T-shirt/top", "Trouser", "b:c", "d", "e?", "f", "g", "h", "i.", "j")  # Fashion-MNIST's, or harder
SEEDS = {"vae": (5, 3), "gan": (1,), "bands": (0, 2), "classifier": (4, 2), "infogan": (6, 2), "naive_bayes": (0, 2)}
SEEDS |= {"talk": (0, 3), "writer": (3, 1)}

# Conditional, with latents: z is the brightness of the row of the class.
BANDS = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Latents, Model, Phase, Prior, Sampler, State

@dataclass(frozen=True)
class Config:
    size: int = 2  # numbers of z

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.float32(0))
    def step(key, state, batch):
        return state._replace(params=state.params + 1), {"examples": state.params}
    def prior(key, state, num):
        return jax.random.uniform(key, (num, config.size), minval=-1, maxval=1)
    def decode(state, z, condition):
        row = jnp.arange(8) == condition["label"][:, None] % 8
        bright = jnp.where(row, (z[:, :1] + 1) / 2, 0.0)[:, :, None, None]
        return {"image": jnp.zeros((len(z), 8, 8, 1)) + bright}
    def encode(state, batch):
        return jnp.zeros((len(batch["label"]), config.size))
    def draw(key, state, num, condition):
        image = decode(state, prior(key, state, num), condition)["image"]
        return {"image": jnp.round(255 * image).astype(jnp.uint8)}
    def complete(key, state, batch, rows, condition):
        drawn = draw(key, state, len(batch["image"]), condition)["image"]
        return {"image": jnp.where(jnp.arange(8)[:, None, None] < rows, batch["image"], drawn)}
    return Model(init, (Phase("count", step, passes=1),), ("image", "label"),
                 Sampler(draw, ("label",), complete=complete),
                 latents=Latents(decode, Prior(prior, "uniform"), encode))
"""

# Given captions: an image's level is 10 times the id of the second word, plus z; between two captions, of their mean.
TALK = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Latents, Model, Phase, Prior, Sampler, State

@dataclass(frozen=True)
class Config:
    size: int = 1  # numbers of z

def make(config, spec):
    spec.entries["caption"]
    def init(key):
        return State(jnp.int32(0), jnp.float32(0))
    def step(key, state, batch):
        return state._replace(params=state.params + 1), {"words": batch["caption"].sum().astype(jnp.float32)}
    def prior(key, state, num):
        return jax.random.normal(key, (num, config.size))
    def level(z, words):
        image = (10 * words + z[:, 0]) / 255
        return {"image": jnp.broadcast_to(image[:, None, None, None], (len(z), 8, 8, 1))}
    def second(condition):
        return condition["caption"][:, 1].astype(jnp.float32)
    def decode(state, z, condition):
        return level(z, second(condition))
    def between(state, z, condition, other, share):
        return level(z, (1 - share) * second(condition) + share * second(other))
    def draw(key, state, num, condition):
        return {"image": jnp.round(255 * decode(state, prior(key, state, num), condition)["image"]).astype(jnp.uint8)}
    return Model(init, (Phase("count", step, passes=1),), ("image", "caption"), Sampler(draw, ("caption",)),
                 latents=Latents(decode, Prior(prior, "gaussian"), between=between))
"""


# Writes the image's brightness in tens, as words; the second seed one less.
WRITER = """
from dataclasses import dataclass
import jax.numpy as jnp
from jaxgen.model import Model, Phase, State

@dataclass(frozen=True)
class Config:
    pass

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.int32(0))
    def step(key, state, batch):
        return state, {}
    def caption(state, batch):
        tens = batch["image"][:, 0, 0, 0].astype(jnp.int32) // 10
        return jnp.where(jnp.arange(3) < tens[:, None], 2, 0) + jnp.where(jnp.arange(3) == 0, 1, 0)
    return Model(init, (Phase("none", step),), ("image", "caption"), predict={"caption": caption})
"""


def still(make):
    """Makes a model that does not train, with weights 9 times as large: gray images would all look alike."""

    def init(model, key):
        state = model.init(key)
        return state._replace(params=jax.tree.map(lambda leaf: 9 * leaf, state.params))

    def changed(config, spec):
        model = make(config, spec)
        phase = Phase("none", lambda key, state, batch: (state, {}))  # the model's own phase compiles slowly
        return model._replace(init=partial(init, model), phases=(phase,))

    return changed


@pytest.mark.parametrize("name", ["vae", "gan", "naive_bayes", "bands"])
def test_samples_as_arrays_are_those_of_the_file(name, opened, tmp_path):
    """Samples of a model given labels are equally many of each class, as the number is a multiple of the classes."""
    with np.load(sample(opened[name].path, num=20, out=tmp_path / "samples.npz")) as file:
        images, seeds = file["image"], file["seed"]
    found = opened[name].sample(20)
    assert (found.shape, found.dtype) == ((len(SEEDS[name]), 20, 8, 8, 1), np.uint8)
    for seed, of_seed in zip(SEEDS[name], found, strict=True):
        np.testing.assert_array_equal(of_seed, images[seeds == seed])


def test_samples_of_captions_are_those_of_the_file(opened, tmp_path):
    captions = ("a cat on the mat", "the dog")
    path = sample(opened["talk"].path, num=6, caption=captions, out=tmp_path / "samples.npz")
    with np.load(path) as file:
        np.testing.assert_array_equal(opened["talk"].sample(6, caption=captions).reshape(12, 8, 8, 1), file["image"])
    one = opened["talk"].sample(3, caption=captions[0])
    np.testing.assert_array_equal(one, opened["talk"].sample(3, caption=[captions[0]] * 3))


@pytest.mark.parametrize(
    ("num", "given", "rows"),
    [
        (7, {}, [0, 1, 2, 4, 5, 7, 0]),  # of the ten classes, spread; the row is the label modulo 8
        (6, {"label": [3, 8]}, [3, 3, 3, 0, 0, 0]),
        (5, {"label": ["5", 2]}, [5, 5, 5, 2, 2]),
        (2, {"label": "6"}, [6, 6]),
        (3, {"label": np.int32([1, 0, 1])}, [1, 0, 1]),
        (2, {"label": jnp.int32(4)}, [4, 4]),
        (np.int64(2), {"label": [np.int64(7), np.uint8(3)]}, [7, 3]),
    ],
)
def test_labels_of_samples(num, given, rows, opened):
    images = opened["bands"].sample(num, **given)
    assert images.shape == (2, num, 8, 8, 1)
    for of_seed in images:
        assert [np.flatnonzero(image.any((1, 2))).tolist() for image in of_seed] == [[row] for row in rows]


def test_decoded_latents(opened):
    """z and its label are an image's brightness and row; codes are the same for all seeds, or each seed's own."""
    bands = opened["bands"]
    images = bands.decode([[0.2, 9], [1, 9]], label=["2", 5])
    expected = np.zeros((2, 2, 8, 8, 1))
    expected[:, 0, 2], expected[:, 1, 5] = 153, 255
    np.testing.assert_array_equal(images, expected)
    assert images.dtype == np.uint8
    own = bands.decode(np.array([[[0.2, 0.0]], [[-0.6, 0.0]]]), label=1)
    assert own[:, 0, 1, 0, 0].tolist() == [153, 51]
    z = np.random.default_rng(0).normal(size=(2, 5, 10))
    check_decoded(opened["vae"], opened["vae"].decode(z), z)
    np.testing.assert_array_equal(opened["vae"].decode(z[0])[0], opened["vae"].decode(z)[0])


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("vae", lambda run: run.sample(0), "the number of samples must be a whole number from 1 to 1,000,000, not 0"),
        (
            "vae",
            lambda run: run.sample(2.0),
            "the number of samples must be a whole number from 1 to 1,000,000, not 2.0",
        ),
        ("vae", lambda run: run.sample(2, label=1), "vae is given nothing, not label"),
        ("bands", lambda run: run.sample(2, lable=1), "./bands.py is given label, not lable"),
        ("bands", lambda run: run.sample(2, label=10), "a label is a class or its number, 0 to 9, not 10"),
        ("bands", lambda run: run.sample(2, label=-1), "a label is a class or its number, 0 to 9, not -1"),
        (
            "vae",
            lambda run: run.sample(True),
            "the number of samples must be a whole number from 1 to 1,000,000, not True",
        ),
        ("bands", lambda run: run.sample(2, label=[True, 1]), "a label is a class or its number, 0 to 9, not True"),
        ("bands", lambda run: run.sample(2, label=1.0), "a label is a class or its number, 0 to 9, not 1.0"),
        ("bands", lambda run: run.sample(2, label="x"), "dataset digits has no class 'x': there are 0, 1, 2"),
        ("bands", lambda run: run.sample(2, label=[1, 2, 3]), "3 labels are given for 2: give from 1 to 2"),
        ("bands", lambda run: run.sample(2, label=[]), "0 labels are given for 2: give from 1 to 2"),
        ("bands", lambda run: run.decode([[0, 0]]), "./bands.py is given label: name the label, as in label=0"),
        ("talk", lambda run: run.sample(2), "./talk.py is given caption: name the caption, as in caption='a red cir"),
        ("talk", lambda run: run.sample(2, caption="Zebra!"), "caption 'Zebra!' has no word of the run's captions, s"),
        ("talk", lambda run: run.sample(2, caption=3), "a caption is a text, not 3"),
        ("classifier", lambda run: run.sample(2), "classifier cannot sample; models that can: naive_bayes, "),
        ("naive_bayes", lambda run: run.decode([[0]]), "naive_bayes does not decode latents; models that can: "),
        (
            "vae",
            lambda run: run.decode(np.zeros((3, 9))),
            "z of vae is float32 [num, 10], or float32 [2, num, 10] of each seed, not float64 [3, 9]",
        ),
        ("vae", lambda run: run.decode(np.zeros((3, 4, 10))), "z of vae is float32 [num, 10], or float32 [2, num, 10]"),
        ("vae", lambda run: run.decode(np.zeros((0, 10))), "z of vae is float32 [num, 10], or float32 [2, num, 10]"),
        (
            "vae",
            lambda run: run.sample(10**9),
            "the number of samples must be a whole number from 1 to 1,000,000, not 1000",
        ),
        ("vae", lambda run: run.decode([[0.0] * 9 + [np.nan]]), "z has numbers that are not finite"),
        ("vae", lambda run: run.decode([[0, 0], [1]]), "z is no array: "),
        ("vae", lambda run: run.decode(0), "z of vae is float32 [num, 10], or float32 [2, num, 10]"),
        ("vae", lambda run: run.decode([["a"] * 10]), "z of vae is float32 [num, 10], or float32 [2, num, 10] of"),
    ],
)
def test_arrays_that_cannot_be_drawn(name, call, message, opened):
    with pytest.raises(UserError) as caught:
        call(opened[name])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_latents_of_several_arrays(opened):
    """Codes of integers and of floats stay what they are; an image's level is 10 times the first plus the second."""

    def decode(state, z, condition):
        level = (10 * z["top"][:, 0].astype(jnp.float32) + z["bottom"][:, 0, 1] + state.params) / 255
        return {"image": jnp.broadcast_to(level[:, None, None, None], (len(level), 2, 2, 1))}

    def prior(key, state, num):
        return {"top": jnp.zeros((num, 1), jnp.int32), "bottom": jnp.zeros((num, 3, 2))}

    run = opened["vae"]
    model = Model(None, (), ("image",), latents=Latents(decode, Prior(prior, "mixed")))
    run = run._replace(plan=run.plan._replace(model=model), state=State(jnp.zeros(2), jnp.float32([0, 100])))
    z = {"top": np.array([[3], [7]]), "bottom": np.tile([0.0, 4.0], (2, 3, 1))}
    assert run.decode(z)[..., 0, 0, 0].tolist() == [[34, 74], [134, 174]]
    own = z | {"top": np.array([[[3], [7]], [[1], [2]]])}
    assert run.decode(own)[..., 0, 0, 0].tolist() == [[34, 74], [114, 124]]
    for wrong in (z | {"top": z["top"] / 1}, {"top": z["top"]}, z["top"], z | {"bottom": z["bottom"][:1]}):
        with pytest.raises(UserError, match=r"^z of vae is \['bottom'\] float32 \[num, 3, 2\] and \['top'\] int32"):
            run.decode(wrong)


def test_codes_that_there_are_not(opened):
    """An index beyond the codebook would be clamped; one beyond int32 would wrap around."""

    def decode(state, z, condition):
        return {"image": jnp.broadcast_to((z[:, :, None, None] / 255).astype(jnp.float32), (len(z), 2, 2, 1))}

    prior = Prior(lambda key, state, num: jnp.zeros((num, 2), jnp.int32), "discrete", num_codes=8)
    model, run = Model(None, (), ("image",), latents=Latents(decode, prior)), opened["vae"]
    run = run._replace(plan=run.plan._replace(model=model), state=State(jnp.zeros(2), jnp.zeros(2)))
    assert run.decode([[0, 7]])[..., 0, 0].tolist() == [[[0, 7]]] * 2
    for wrong in (8, -1, 2**32):
        with pytest.raises(UserError, match=f"^codes of vae are 0 to 7, not {wrong}$"):
            run.decode([[7, wrong]])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders by name, read-only."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "bands.py").write_text(BANDS)
    some = {"steps": 30, "sample_every": 10, "checkpoint_every": 30, "log_every": 30}
    dense = {"network": "mlp", "hidden": (8,), "latent_dim": 10}
    train("vae", dense, Settings(seeds=SEEDS["vae"], **some), out=folder / "vae")
    small = {"latent_dim": 6, "generator_units": 8, "discriminator_units": 4, "pieces": 1}
    train("gan", small, Settings(seeds=SEEDS["gan"], **some), out=folder / "gan")
    train(str(folder / "bands.py"), None, Settings(seeds=SEEDS["bands"], **some), out=folder / "bands")
    small = {"noise_dim": 3, "categories": 4, "features": 2, "smallest": 2, "dense_units": 8, "code_units": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infogan, "make", still(infogan.make))
        train("infogan", small, Settings(seeds=SEEDS["infogan"], **some), out=folder / "infogan")
    (folder / "talk.py").write_text(TALK)
    (folder / "told").mkdir()
    told = [f"a {animal} on the mat" for animal in ("cat", "dog", "eel", "fox") for _ in range(3)]
    for i, caption in enumerate(told):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / "told" / f"{i}.png")
        with open(folder / "told" / "captions.jsonl", "a") as file:
            file.write(json.dumps({"file": f"{i}.png", "caption": caption}) + "\n")
    of_told = Settings(
        dataset="image_folder", data_from=str(folder / "told"), seeds=SEEDS["talk"], batch_size=2, **some
    )
    train(str(folder / "talk.py"), None, of_told, out=folder / "talk")
    train("naive_bayes", None, Settings(seeds=SEEDS["naive_bayes"], **some), out=folder / "naive_bayes")
    logistic = {"network": "logistic", "learning_rate": 0.01}
    train("classifier", logistic, Settings(seeds=SEEDS["classifier"], **some), out=folder / "classifier")
    lines = []
    for split, tens in (("train", (1, 2)), ("validation", (1,)), ("test", (1, 2, 3))):
        (folder / "images" / split).mkdir(parents=True)
        for n in tens:
            Image.new("L", (8, 8), 10 * n).save(folder / "images" / split / f"{n}.png")
            lines.append(json.dumps({"file": f"{split}/{n}.png", "caption": "dark dark very very very gray"}))
    (folder / "images" / "captions.jsonl").write_text("\n".join(lines))
    (folder / "writer.py").write_text(WRITER)
    own = {"dataset": "image_folder", "data_from": str(folder / "images"), "batch_size": 2, "caption_length": 3}
    train(str(folder / "writer.py"), None, Settings(seeds=SEEDS["writer"], **own, **some), out=folder / "writer")
    return folder


@pytest.fixture(scope="module")
def opened(runs):
    return {name: open_run(runs / name) for name in SEEDS}


def drawn(path, kind, **options):
    """The arrays of an npz file, and the pixels of the same call's PNG at original scale; drawn together once."""
    folder, row, made = path.parent / f"drawn-{len(list(path.parent.iterdir()))}", KINDS[kind], []

    def once(run, asked):
        if not made:
            made.append(row.draw(run, asked))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, kind, row._replace(draw=once))
        with np.load(sample(path, kind, out=folder / "arrays.npz", **options)) as file:
            arrays = dict(file)
        with Image.open(sample(path, kind, out=folder / "picture.png", **options)) as picture:
            pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels, pixels[::4, ::4].repeat(4, 0).repeat(4, 1))
    return arrays, pixels[::4, ::4]


def cells(pixels, num_seeds, rows, columns, height=8):
    """Splits a picture of grids, with lines of a pixel and gaps of four, into [seeds, rows, columns, height, 8, 1]."""
    tall = rows * (height + 1) - 1
    assert pixels.shape == (num_seeds * (tall + 4) - 4, columns * 9 - 1)
    images = [
        pixels[seed * (tall + 4) + row * (height + 1) :, column * 9 :][:height, :8]
        for seed, row, column in np.ndindex(num_seeds, rows, columns)
    ]
    return np.reshape(images, (num_seeds, rows, columns, height, 8, 1))


def of_seed(run, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], run.state)


def check_decoded(run, images, codes):
    """Checks that images [seeds, ..., H, W, C] are those of codes [seeds, ..., d], up to rounding."""
    for i in range(len(codes)):
        flat = jnp.float32(codes[i].reshape(-1, codes.shape[-1]))
        expected = 255 * np.asarray(
            jax.jit(run.plan.model.latents.decode)(of_seed(run, i), flat, {})["image"], np.float64
        )
        assert np.abs(images[i].reshape(expected.shape) - expected).max() < 0.501
    assert len(np.unique(images.reshape(-1, 64), axis=0)) > images[..., 0, 0, 0].size / 2


def key_of(seed, kind):
    place = {
        "captions": 11,
        "samples": 0,
        "interpolation": 1,
        "traversal": 2,
        "arithmetic": 3,
        "reconstructions": 4,
        "codes": 9,
    }[kind]
    return jax.random.fold_in(streams(seed).sample, 2**31 + place)


def codes_of(run, image):
    """Codes [seeds, num, d], from one call per seed."""
    encode = jax.jit(run.plan.model.latents.encode)
    return np.stack([encode(of_seed(run, i), {"image": image}) for i in range(len(run.state[0]))])


def evenly(num, of):
    """Rows that are evenly spaced, the first and the last among them."""
    return np.linspace(0, of - 1, num).astype(int)


def members_of(examples, label, num):
    """Rows of a class, evenly spaced among its own."""
    rows = np.flatnonzero(examples["label"] == label)
    return rows[evenly(num, len(rows))]


# Interpolation


@pytest.mark.parametrize(
    ("name", "size", "draw", "path"),
    [
        ("vae", 10, jax.random.normal, latents.spherical),
        ("gan", 6, lambda key, shape: jax.random.uniform(key, shape, minval=-1, maxval=1), latents.linear),
    ],
)
def test_interpolations_are_images_on_the_path_between_two_draws(name, size, draw, path, runs, opened):
    arrays, pixels = drawn(runs / name, "interpolation", num=4, steps=5)
    shares = [0, 0.25, 0.5, 0.75, 1]
    ends = [np.asarray(draw(key_of(seed, "interpolation"), (8, size))) for seed in SEEDS[name]]
    codes = np.stack([path(each[:4], each[4:], shares) for each in ends])
    np.testing.assert_array_equal(arrays["z"], codes.astype(np.float32))
    check_decoded(opened[name], arrays["image"], codes)
    assert arrays["share"].tolist() == shares
    assert arrays["seed"].tolist() == list(SEEDS[name])
    assert set(arrays) == {"image", "z", "share", "seed"}
    np.testing.assert_array_equal(cells(pixels, len(SEEDS[name]), 4, 5), arrays["image"])


@pytest.mark.parametrize(("name", "num"), [("gan", 7), ("vae", 5), ("naive_bayes", 20)])
def test_samples_as_a_folder_come_back(name, num, runs, tmp_path, opened):
    """A PNG file per image, in a folder per class if there is one, can be read by `jaxgen evaluate --images`."""
    with np.load(sample(runs / name, num=num, out=tmp_path / "arrays.NPZ")) as file:
        arrays = dict(file)
    dataset = opened[name].plan.dataset._replace(classes=CLOTHES)
    out = f"{tmp_path}/theirs.v1/"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sampling, "open_run", lambda *_: opened[name]._replace(plan=opened[name].plan._replace(dataset=dataset))
        )
        assert sample(runs / name, num=num, out=out) == sample(runs / name, num=num, out=out) == tmp_path / "theirs.v1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.NPZ", "theirs.v1"]
    values, labels, how = read_images(tmp_path / "theirs.v1", dataset)
    assert how == "given as files"
    names = [f"seed-{seed}-{i:05}.png" for seed in SEEDS[name] for i in range(num)]
    if name == "naive_bayes":
        names = [f"{folder_names(CLOTHES)[label]}/{n}" for label, n in zip(arrays["label"], names, strict=True)]
        assert names[0].startswith("T-shirt_top/seed-0-00000")
    files = [path.relative_to(tmp_path / "theirs.v1").as_posix() for path in (tmp_path / "theirs.v1").rglob("*.png")]
    assert sorted(files) == sorted(names)
    order = sorted(range(len(names)), key=lambda i: names[i])  # the classes' names sort by their indices
    np.testing.assert_array_equal(values, arrays["image"][order])
    assert (labels is None) == ("label" not in arrays)
    if labels is not None:
        np.testing.assert_array_equal(labels, arrays["label"][order])


def test_folders_that_samples_are_not_written_to(runs, tmp_path, opened):
    (tmp_path / "there").mkdir()
    sample(runs / "gan", num=2, out=tmp_path / "there")  # an empty folder is accepted
    assert len(list((tmp_path / "there").iterdir())) == 2
    for change in ("notes.txt", "seed-1-00001.png"):
        shutil.copytree(tmp_path / "there", tmp_path / change)
        (tmp_path / change / change).write_bytes(b"x")
        with pytest.raises(
            UserError, match=rf"^{tmp_path / change} exists with another content; choose another --out$"
        ):
            sample(runs / "gan", num=2, out=f"{tmp_path / change}/")
        assert (tmp_path / change / change).read_bytes() == b"x"
    words = r"interpolation can be written as .png, .npz, .gif or .webp, not as 'a.png/'"
    with pytest.raises(UserError, match=words):
        sample(runs / "gan", "interpolation", out=f"{tmp_path}/a.png/")
    points = opened["gan"].plan.dataset._replace(
        spec=Spec({"point": jax.ShapeDtypeStruct((2,), np.float32)}, 1), name="gaussians"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sampling,
            "open_run",
            lambda *_: opened["gan"]._replace(plan=opened["gan"].plan._replace(dataset=points)),
        )
        with pytest.raises(
            UserError, match=r"samples of gaussians are not images, so they cannot be a folder of files: choose "
        ):
            sample(runs / "gan", out=f"{tmp_path}/points/")


@pytest.mark.parametrize(
    ("kind", "suffix"), [("samples", ".PNG"), ("interpolation", ".Gif"), ("interpolation", ".WEBP")]
)
def test_suffixes_in_upper_case(kind, suffix, runs, tmp_path):
    written = [sample(runs / "vae", kind, num=2, out=tmp_path / f"x{each}") for each in (suffix, suffix.lower())]
    assert written[0].name == f"x{suffix}"
    assert written[0].read_bytes() == written[1].read_bytes()


@pytest.mark.parametrize("shown", [True, False])
def test_slow_drawing_says_so(shown, runs, tmp_path, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=False)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    monkeypatch.setattr(progress, "FIRST", 0.01)
    row = KINDS["samples"]

    def slow(run, asked):
        time.sleep(0.1)
        return row.draw(run, asked)

    monkeypatch.setitem(KINDS, "samples", row._replace(draw=slow))
    sample(runs / "vae", num=2, out=tmp_path / "x.png", progress=shown)
    assert {*console.file.getvalue().splitlines()} == ({"drawing samples"} if shown else set())


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_path_moves_there_and_back(suffix, runs, tmp_path):
    options = {"num": 3, "steps": 4}
    images, _ = drawn(runs / "vae", "interpolation", **options)
    file = sample(runs / "vae", "interpolation", out=tmp_path / f"path{suffix}", **options)
    with Image.open(file) as moving:
        frames = []
        for i in range(moving.n_frames):
            moving.seek(i)
            frames.append(np.asarray(moving.convert("L"))[::4, ::4])
            assert moving.info["duration"] == 100
    assert len(frames) == 6
    for frame, step in zip(frames, [0, 1, 2, 3, 2, 1], strict=True):
        shown = cells(frame, 2, 2, 2).reshape(2, 4, 8, 8, 1)
        np.testing.assert_array_equal(shown[:, :3], images["image"][:, :, step])
        assert (shown[:, 3] == 128).all()  # three rows in a grid of four places


def test_a_conditional_models_label_is_kept_along_a_path(runs):
    arrays, pixels = drawn(runs / "bands", "interpolation", num=12, steps=3)
    labels = arrays["label"]  # of test examples of all classes
    assert np.bincount(labels).tolist() == [2, 1, 1, 1, 1, 1, 1, 1, 1, 2]
    for seed, row, step in np.ndindex(2, 12, 3):
        bright = 255 * (arrays["z"][seed, row, step, 0] + 1) / 2
        image = arrays["image"][seed, row, step, :, :, 0]
        assert (np.abs(image[labels[row] % 8] - bright) < 0.501).all()
        assert not np.delete(image, labels[row] % 8, axis=0).any()
    np.testing.assert_array_equal(cells(pixels, 2, 12, 3), arrays["image"])


# Traversals


def test_traversals_move_the_most_active_dimensions(runs, opened):
    arrays, pixels = drawn(runs / "vae", "traversal", num=4, steps=5)
    codes = codes_of(opened["vae"], data.load("digits").test["image"]).astype(np.float64)
    dims = [sorted(range(10), key=lambda d, each=each: -each[:, d].var())[:4] for each in codes]
    assert arrays["dimension"].tolist() == dims
    assert dims[0] != dims[1]
    assert arrays["value"].tolist() == [-3, -1.5, 0, 1.5, 3]
    expected = np.zeros((2, 4, 5, 10))
    for seed, row in np.ndindex(2, 4):
        expected[seed, row, :, dims[seed][row]] = [-3, -1.5, 0, 1.5, 3]
    np.testing.assert_array_equal(arrays["z"], expected)
    check_decoded(opened["vae"], arrays["image"], expected)
    np.testing.assert_array_equal(cells(pixels, 2, 4, 5), arrays["image"])


def test_traversals_of_chosen_dimensions_around_an_image(runs, opened):
    arrays, _ = drawn(runs / "vae", "traversal", dims=(7, 0, 9), around=11, steps=4)
    codes = codes_of(opened["vae"], data.load("digits").test["image"][11:12])
    assert arrays["dimension"].tolist() == [[7, 0, 9]] * 2
    expected = np.tile(codes[:, :, None], (1, 3, 4, 1))
    for row, dimension in enumerate((7, 0, 9)):
        expected[:, row, :, dimension] = [-3, -1, 1, 3]
    np.testing.assert_allclose(arrays["z"], expected, rtol=1e-4, atol=1e-5)
    check_decoded(opened["vae"], arrays["image"], arrays["z"])


def test_traversals_without_an_encoder_start_from_a_draw(runs, opened):
    """The first dimensions, eight or as many as there are, vary over the whole uniform prior."""
    arrays, _ = drawn(runs / "gan", "traversal", steps=3)
    assert arrays["dimension"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert arrays["value"].tolist() == [-1, 0, 1]
    z = arrays["z"][0]
    fixed = {tuple(np.delete(z[row, step], row)) for row, step in np.ndindex(6, 3)}
    code = z[1, 0, 0], *z[0, 0, 1:]
    assert fixed == {tuple(np.delete(code, row)) for row in range(6)}
    assert np.abs(code).max() < 1
    assert len(set(code)) == 6
    check_decoded(opened["gan"], arrays["image"], arrays["z"])


def test_a_traversal_around_an_image_has_its_label(runs):
    labels = data.load("digits").test["label"]
    assert labels[3] % 8 != labels[0] % 8
    for options, label in (({"around": 3}, labels[3]), ({}, labels[0])):
        arrays, _ = drawn(runs / "bands", "traversal", steps=2, **options)
        assert arrays["label"].tolist() == [label] * 2
        bright = arrays["image"][0, 0, :, :, 0, 0]  # z of the first dimension is -1, then 1
        assert bright[0].max() == 0
        assert bright[1].tolist() == [255 * (row == label % 8) for row in range(8)]


# Arithmetic


def test_arithmetic_of_classes(runs, opened):
    arrays, pixels = drawn(runs / "vae", "arithmetic", groups=("7", "1", "4"), num=6)
    test = data.load("digits").test
    members = np.stack([test["image"][members_of(test, label, 6)] for label in (7, 1, 4)])
    a, b, c = (codes_of(opened["vae"], each).astype(np.float64) for each in members)  # [2, 6, 10]
    rows = np.stack([a, b, c, a - b + c], axis=2)
    means = [each.mean(1) for each in (a, b, c)]
    last = np.stack([*means, means[0] - means[1] + means[2]], axis=1)
    np.testing.assert_allclose(arrays["z"][:, :6], rows, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(arrays["z"][:, 6], last, rtol=1e-4, atol=1e-5)
    assert arrays["image"].shape == (2, 7, 4, 8, 8, 1)
    for seed in range(2):
        np.testing.assert_array_equal(arrays["image"][seed, :6, :3], members.swapaxes(0, 1))
    check_decoded(opened["vae"], arrays["image"][:, :6, 3], arrays["z"][:, :6, 3])
    check_decoded(opened["vae"], arrays["image"][:, 6], arrays["z"][:, 6])
    np.testing.assert_array_equal(cells(pixels, 2, 7, 4), arrays["image"])


# Attribute vectors


def test_attribute_vectors_are_differences_of_mean_codes(runs, opened):
    arrays, pixels = drawn(runs / "vae", "attribute", groups=("7", "1"), num=3, steps=5)
    test = data.load("digits").test
    a, b = (codes_of(opened["vae"], test["image"][test["label"] == label]).astype(np.float64) for label in (7, 1))
    vector = a.mean(1) - b.mean(1)  # [2, 10]
    shares = np.array([0, 0.25, 0.5, 0.75, 1])
    starts = b[:, evenly(3, b.shape[1])]
    expected = starts[:, :, None] + shares[:, None] * vector[:, None, None]
    np.testing.assert_allclose(arrays["z"], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(vector).max() > 0.01
    assert arrays["share"].tolist() == shares.tolist()
    assert arrays["example"].tolist() == members_of(test, 1, 3).tolist()
    check_decoded(opened["vae"], arrays["image"], arrays["z"])
    np.testing.assert_array_equal(cells(pixels, 2, 3, 5), arrays["image"])


# Reconstructions


def test_reconstructions_stand_below_their_images(runs, opened):
    arrays, pixels = drawn(runs / "vae", "reconstructions", num=7)
    test = data.load("digits").test
    assert sorted(test["label"][arrays["example"]]) == [0, 1, 3, 4, 6, 7, 9]  # seven of ten classes, evenly spaced
    image = test["image"][arrays["example"]]
    assert arrays["image"].shape == (2, 7, 2, 8, 8, 1)
    for seed in range(2):
        np.testing.assert_array_equal(arrays["image"][seed, :, 0], image)
    check_decoded(opened["vae"], arrays["image"][:, :, 1], codes_of(opened["vae"], image))
    shown = cells(pixels, 2, 2, 4, height=16).reshape(2, 8, 2, 8, 8, 1)  # pairs, four in a row
    np.testing.assert_array_equal(shown[:, :7], arrays["image"])
    assert (shown[:, 7] == 128).all()


def test_a_conditional_model_reconstructs_by_its_labels(runs):
    arrays, _ = drawn(runs / "bands", "reconstructions", num=20)
    test = data.load("digits").test
    rows = np.sort(np.concatenate([members_of(test, label, 2) for label in range(10)]))
    assert arrays["example"].tolist() == rows.tolist()
    labels = test["label"][rows]
    expected = np.zeros((2, 20, 8, 8, 1))
    expected[:, np.arange(20), labels % 8] = 128  # (0 + 1) / 2 of 255, rounded to even
    np.testing.assert_array_equal(arrays["image"][:, :, 1], expected)


# Completions


def test_completions_stand_beside_their_images(runs):
    """The upper half is the test image's; the lower one is drawn for its label, anew in each column, by each seed."""
    arrays, pixels = drawn(runs / "bands", "completions", num=20, steps=3)
    test = data.load("digits").test
    rows = arrays["example"]
    np.testing.assert_array_equal(np.bincount(test["label"][rows]), 2)  # of each class
    image, labels = test["image"][rows], test["label"][rows]
    assert arrays["image"].shape == (2, 20, 3, 8, 8, 1)
    np.testing.assert_array_equal(
        arrays["image"][:, :, :, :4], np.broadcast_to(image[None, :, None, :4], (2, 20, 3, 4, 8, 1))
    )
    lower = arrays["image"][:, :, :, 4:].max(axis=(4, 5))  # [seeds, images, columns, rows]
    bright = lower[:, labels % 8 >= 4]
    np.testing.assert_array_equal(
        bright.argmax(-1),
        np.broadcast_to((labels % 8 - 4)[labels % 8 >= 4, None], bright.shape[1:3])[None].repeat(2, 0),
    )
    assert (lower[:, labels % 8 < 4] == 0).all()
    assert len(np.unique(bright.max(-1))) > bright.max(-1).size / 2
    shown = cells(pixels, 2, 20, 4)
    np.testing.assert_array_equal(shown[:, :, 0], np.broadcast_to(image, (2, 20, 8, 8, 1)))
    np.testing.assert_array_equal(shown[:, :, 1:], arrays["image"])


# Animations of training


@pytest.mark.parametrize(("name", "suffix"), [("vae", ".gif"), ("vae", ".webp"), ("gan", ".gif")])
def test_an_animation_of_training_is_its_saved_grids(name, suffix, runs, tmp_path):
    file = sample(runs / name, "animation", out=tmp_path / f"training{suffix}")
    grids = [sorted((runs / name / "samples" / f"seed-{seed}").iterdir()) for seed in SEEDS[name]]
    steps = [0, 10, 20, 30]
    with Image.open(file) as moving:
        assert (moving.n_frames, moving.info["loop"]) == (4, 0)
        for i, files in enumerate(zip(*grids, strict=True)):
            moving.seek(i)
            frame = np.asarray(moving.convert("L"))
            saved = [np.asarray(Image.open(io.BytesIO(grid.read_bytes()))) for grid in files]
            height = saved[0].shape[0]
            for place, grid in enumerate(saved):
                np.testing.assert_array_equal(frame[18 + place * (height + 4) :][:height], grid)
            assert len(frame) == 18 + len(saved) * (height + 4) - 4
            words = captioned(np.zeros((0, frame.shape[1], 1), np.uint8), f"step {steps[i]}")
            np.testing.assert_array_equal(frame[:18], words[:, :, 0])
            assert moving.info["duration"] == (2000 if i == 3 else 250)


def test_only_steps_of_all_seeds_are_shown(runs, tmp_path):
    run = shutil.copytree(runs / "vae", tmp_path / "run")
    (run / "samples/seed-3/step-0000010.png").unlink()
    (run / "samples/seed-5/step-mine.png").write_text("mine")
    file = sample(run, "animation")
    assert file == run / "animation.gif"
    with Image.open(file) as moving:
        assert moving.n_frames == 3
    (run / "samples/seed-3/step-0000020.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    with pytest.raises(UserError, match=r"cannot read .*step-0000020\.png"):
        sample(run, "animation", out=tmp_path / "other.gif")
    shutil.rmtree(run / "samples")
    with pytest.raises(UserError, match=r"run has no sample grids: .* every --sample-every steps"):
        sample(run, "animation", out=tmp_path / "other.gif")


# Manifolds


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_a_manifold_is_a_plane_of_codes(kind, runs, opened, monkeypatch):
    """Rows go down and columns right; quantiles divide the prior into equal shares."""
    run = opened["bands"]
    of_bands = run.plan.model.latents
    model = run.plan.model._replace(latents=of_bands._replace(prior=of_bands.prior._replace(kind=kind)))
    monkeypatch.setattr(
        "jaxgen.pictures.sampling.open_run", lambda path, checkpoint: run._replace(plan=run.plan._replace(model=model))
    )
    arrays, pixels = drawn(runs / "bands", "manifold", steps=4)
    shares = np.array([1, 3, 5, 7]) / 8
    values = scipy.stats.norm.ppf(shares) if kind == "gaussian" else scipy.stats.uniform(-1, 2).ppf(shares)
    np.testing.assert_allclose(arrays["column"], values, rtol=1e-12)
    np.testing.assert_array_equal(arrays["row"], arrays["column"][::-1])
    for seed, row, column in np.ndindex(2, 4, 4):
        np.testing.assert_allclose(arrays["z"][seed, row, column], [values[column], values[3 - row]], rtol=1e-6)
    label = data.load("digits").test["label"][0]
    np.testing.assert_array_equal(arrays["label"], [label] * 4)
    bright = np.clip(255 * (arrays["z"][..., 0] + 1) / 2, 0, 255)
    assert np.abs(arrays["image"][:, :, :, label % 8, :, 0] - bright[..., None]).max() < 0.501
    np.testing.assert_array_equal(cells(pixels, 2, 4, 4), arrays["image"])


# Images classified correctly and wrongly


def test_classified_images_stand_above_their_classes(runs, opened, tmp_path):
    test = data.load("digits").test
    with np.load(sample(runs / "classifier", "classified", out=tmp_path / "a.npz", num=10)) as file:
        arrays = dict(file)
    expected, titles = {name: [] for name in ("image", "label", "predicted", "probability", "seed")}, []
    for i, seed in enumerate(SEEDS["classifier"]):
        classify = jax.jit(opened["classifier"].plan.model.predict["label"])
        logits = np.asarray(classify(of_seed(opened["classifier"], i), test), np.float64)
        predicted = logits.argmax(-1)
        probability = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).max(-1)
        for how, chosen in (("rightly", predicted == test["label"]), ("wrongly", predicted != test["label"])):
            titles.append(f"seed {seed}: {how} classified, {chosen.sum()} of 899")
            entries = {
                "image": test["image"],
                "label": test["label"],
                "predicted": predicted,
                "probability": probability,
            }
            rows = np.flatnonzero(chosen)
            rows = rows[spread(10, len(rows), test["label"][rows])]
            assert len(set(test["label"][rows])) == min(10, len(set(test["label"][chosen])))
            for name, entry in entries.items():
                expected[name].extend(entry[rows])
            expected["seed"].extend([seed] * 10)
    assert set(arrays) == set(expected)
    for name, entry in expected.items():
        np.testing.assert_allclose(arrays[name], entry, rtol=1e-5)
    assert len(arrays["seed"]) == 40
    assert (arrays["predicted"][:20] != arrays["predicted"][20:]).any()

    with Image.open(sample(runs / "classifier", "classified", out=tmp_path / "a.png", num=10)) as picture:
        pixels = np.asarray(picture)[:, :, None]
    words = [(f"is {a}", f"as {b}") for a, b in zip(arrays["label"], arrays["predicted"], strict=True)]
    cells = labeled(arrays["image"].repeat(7, 1).repeat(7, 2), words)  # 56 pixels high
    height, width = cells.shape[1:3]
    assert height == 56 + 36
    tall = 18 + 2 * (height + 1) - 1  # ten places need two rows of eight
    assert pixels.shape == (4 * (tall + 4) - 4, 8 * (width + 1) - 1, 1)
    for block in range(4):
        shown = pixels[block * (tall + 4) :][:tall]
        np.testing.assert_array_equal(shown[:18], captioned(shown[:0], titles[block]))
        assert not shown[:18, -4:].any()  # no letter is cut off
        for place in range(16):
            row, column = divmod(place, 8)
            cell = shown[18 + row * (height + 1) :, column * (width + 1) :][:height, :width]
            np.testing.assert_array_equal(cell, cells[10 * block + place] if place < 10 else np.full_like(cell, 128))


def test_a_classifier_that_is_always_right(opened, tmp_path, monkeypatch):
    """Places for wrongly classified images are gray."""
    run = opened["classifier"]
    model = run.plan.model._replace(predict={"label": lambda state, batch: 50 * jax.nn.one_hot(batch["label"], 10)})
    changed = run._replace(plan=run.plan._replace(model=model))
    monkeypatch.setattr("jaxgen.pictures.sampling.open_run", lambda path, checkpoint: changed)
    with np.load(sample("run", "classified", out=tmp_path / "a.npz", num=3)) as file:
        assert file["seed"].tolist() == [4, 4, 4, 2, 2, 2]
        np.testing.assert_array_equal(file["label"], file["predicted"])
    with Image.open(sample("run", "classified", out=tmp_path / "a.png", num=3)) as picture:
        pixels = np.asarray(picture)
    assert (pixels[18 + 92 + 4 + 18 :][:92] == 128).all()


# Written captions


def test_written_captions_stand_below_their_images(runs, tmp_path):
    """Ids from 2 on are gray, very, dark by frequency: three of very, two of dark, one of gray in each caption."""
    with np.load(sample(runs / "writer", "captioned", out=tmp_path / "a.npz")) as file:
        arrays = dict(file)
    images = np.stack([np.full((8, 8, 1), 10 * n, np.uint8) for n in (1, 2, 3)])
    np.testing.assert_array_equal(arrays["image"], images)
    assert arrays["example"].tolist() == [0, 1, 2]
    assert arrays["seed"].tolist() == [3, 1]
    assert "true" not in arrays
    np.testing.assert_array_equal(arrays["caption"], [[[3, 0, 0], [3, 2, 0], [3, 2, 2]]] * 2)
    words = open_run(runs / "writer").plan.dataset.vocabulary.words
    first, second = words[1], words[0]
    texts = [[first], [f"{first} {second}"], [f"{first} {second} {second}"]]
    with Image.open(sample(runs / "writer", "captioned", out=tmp_path / "a.png")) as picture:
        pixels = np.asarray(picture)[:, :, None]
    cells = labeled(images.repeat(7, 1).repeat(7, 2), texts)
    grids = [captioned(image_grid(cells, 4), f"seed {seed}") for seed in (3, 1)]
    np.testing.assert_array_equal(pixels, stacked(grids))


def test_captions_of_scenes_are_marked_and_long_ones_are_broken():
    """The second caption is the first image's: false of its own."""
    found = data.load("shapes_32", max_objects=1)
    rows = kinds._spread(SimpleNamespace(plan=SimpleNamespace(dataset=found)), 3)
    written = found.test["caption"][rows[[0, 0, 2]]]
    model = Model(None, (), ("image",), predict={"caption": lambda state, batch: jnp.asarray(written)})
    plan = SimpleNamespace(model=model, dataset=found, settings=SimpleNamespace(seeds=(0,)))
    drawn = kinds.written_captions(SimpleNamespace(plan=plan, state=jnp.zeros(1)), kinds.Asked(num=3))
    assert drawn.arrays["true"].tolist() == [[True, False, True]]
    texts = [textwrap.wrap(text, 28) for text in found.vocabulary.decode(written)]
    most = max(map(len, texts))
    assert most > 1
    lines = [[*t, *[""] * (most - len(t)), m] for t, m in zip(texts, ("true", "FALSE", "true"), strict=True)]
    cells = labeled(found.test["image"][rows].repeat(2, 1).repeat(2, 2), lines)
    np.testing.assert_array_equal(drawn.grids[0], captioned(image_grid(cells, 4), "seed 0"))


# Inferred codes


@pytest.mark.parametrize("num", [None, 5])
def test_each_code_moves_along_its_rows(num, runs, opened, tmp_path):
    """The categorical code's columns are its categories; a continuous one goes from -2 to 2, row i with category i."""
    run, options = opened["infogan"], {} if num is None else {"num": num}
    with np.load(sample(runs / "infogan", "codes", out=tmp_path / "a.npz", **options)) as file:
        arrays = dict(file)
    rows, steps = num or 4, [-2, -2 / 3, 2 / 3, 2]
    expected = np.zeros((2, 3, rows, 4, 9))
    for i, seed in enumerate(SEEDS["infogan"]):
        drawn = run.plan.model.latents.prior.sample(key_of(seed, "codes"), of_seed(run, i), rows)
        for row, column in np.ndindex(rows, 4):
            expected[i, :, row, column] = drawn[row]
            expected[i, :, row, column, 3:7] = 0
            expected[i, 0, row, column, 3 + column] = 1
            expected[i, 1:, row, column, 3 + row % 4] = 1
            expected[i, 1, row, column, 7] = steps[column]
            expected[i, 2, row, column, 8] = steps[column]
    np.testing.assert_array_equal(arrays["z"], expected.astype(np.float32))
    np.testing.assert_allclose(arrays["value"], steps, rtol=1e-12)
    assert arrays["seed"].tolist() == list(SEEDS["infogan"])
    assert arrays["image"].shape == (2, 3, rows, 4, 8, 8, 1)
    check_decoded(run, arrays["image"], expected)

    with Image.open(sample(runs / "infogan", "codes", out=tmp_path / "a.png", **options)) as picture:
        pixels = np.asarray(picture)[:, :, None]
    titles = ("categorical code", "continuous code 1, -2 to 2", "continuous code 2, -2 to 2")
    tall = 36 + 4 * (9 * rows - 1)  # the words in two lines, and the images enlarged
    assert pixels.shape == (6 * (tall + 4) - 4, 4 * (9 * 4 - 1), 1)
    for i, block in np.ndindex(2, 3):
        shown = pixels[(3 * i + block) * (tall + 4) :][:tall]
        words = captioned(shown[:0], f"seed {SEEDS['infogan'][i]}: {titles[block]}")
        np.testing.assert_array_equal(shown[:36], words)
        images = cells(shown[36::4, ::4, 0], 1, rows, 4)[0]
        np.testing.assert_array_equal(images, arrays["image"][i, block])


def test_a_kinds_keys_are_its_own_for_good():
    """A changed number would draw another picture for the same command."""
    assert {name: kind.stream for name, kind in KINDS.items()} == {
        "samples": 0, "interpolation": 1, "traversal": 2, "arithmetic": 3, "reconstructions": 4, "animation": 5,
        "manifold": 6, "classified": 7, "attribute": 8, "codes": 9, "completions": 10,
        "captions": 11, "captioned": 12,
    }  # fmt: skip


# Files, and errors


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_same_call_writes_the_same_file_and_no_other_over_it(kind, runs, tmp_path):
    run = shutil.copytree(
        runs
        / {
            "captions": "talk",
            "manifold": "bands",
            "classified": "classifier",
            "codes": "infogan",
            "completions": "bands",
            "captioned": "writer",
        }.get(kind, "vae"),
        tmp_path / "run",
    )
    groups = {"arithmetic": ("0", "1", "2"), "attribute": ("0", "1")}
    options = {"groups": groups[kind]} if kind in groups else {}
    options |= {"caption": ("a cat", "a dog")} if kind == "captions" else {}
    file = sample(run, kind, **options)
    assert file == run / f"{kind}{'.gif' if kind == 'animation' else '.png'}"
    first = file.read_bytes()
    file.unlink()
    assert sample(run, kind, **options).read_bytes() == first
    assert sample(run, kind, **options) == file  # writes over its own file
    file.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists with another content; choose another --out"):
        sample(run, kind, **options)
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "kind", "options", "words"),
    [
        ("vae", "samples", {"num": 0}, "--num must be at least 1, not 0"),
        ("vae", "interpolations", {}, "unknown kind 'interpolations': there are samples, interpolation, traversal, "),
        ("vae", "interpolation", {"num": -1}, "--num must be at least 1, not -1"),
        ("vae", "interpolation", {"steps": 1}, "--steps must be at least 2, not 1"),
        ("vae", "interpolation", {"out": "a.jpg"},
         "interpolation can be written as .png, .npz, .gif or .webp, not as 'a.jpg'"),
        ("vae", "interpolation", {"dims": (1,)}, "--dims applies to traversal, not to interpolation"),
        ("vae", "samples", {"steps": 3},
         "--steps applies to interpolation, traversal, manifold, attribute, completions, captions, not to samples"),
        ("vae", "reconstructions", {"groups": ("1", "2", "3")},
         "--groups applies to arithmetic, attribute, not to reconstructions"),
        ("vae", "animation", {"num": 3}, "not to animation"),
        ("vae", "samples", {"rejection": 2}, "--rejection applies to models given labels, not to vae"),
        ("vae", "animation", {"out": "a.png"}, "animation can be written as .gif or .webp, not as 'a.png'"),
        ("vae", "arithmetic", {}, "--kind arithmetic needs --groups A B C, three classes of digits"),
        ("vae", "arithmetic", {"groups": ("1", "2")}, "--kind arithmetic needs --groups A B C, three classes"),
        ("vae", "attribute", {}, "--kind attribute needs --groups A B, two classes of digits"),
        ("vae", "attribute", {"groups": ("1", "2", "3")}, "--kind attribute needs --groups A B, two classes"),
        ("vae", "attribute", {"groups": ("ten", "2")}, "unknown class 'ten': digits has 0, 1, 2, 3"),
        ("vae", "attribute", {"groups": ("2", "1"), "num": 92},
         "--num must be at most 91, the test images of class 1, not 92"),
        ("vae", "arithmetic", {"groups": ("1", "2", "ten")},
         "unknown class 'ten': digits has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("vae", "arithmetic", {"groups": ("1", "2", "3"), "num": 100},
         "--num must be at most 91, the test images of class 1, not 100"),
        ("vae", "reconstructions", {"num": 900}, "--num must be at most 899, the test images of digits, not 900"),
        ("vae", "traversal", {"num": 11}, "--num must be at most 10, the dimensions of a code, not 11"),
        ("vae", "traversal", {"dims": (0, 10)}, "--dims must lie between 0 and 9, not 10"),
        ("vae", "traversal", {"dims": (-1,)}, "--dims must lie between 0 and 9, not -1"),
        ("vae", "traversal", {"dims": ()}, "--dims must name at least one dimension"),
        ("vae", "traversal", {"dims": (1,), "num": 3}, "--dims says which rows there are: leave --num out"),
        ("vae", "traversal", {"around": 899}, "--around must lie between 0 and 898, not 899"),
        ("vae", "attribute", {"groups": ("7", "7")}, "--groups must name two classes, not 7 twice"),
        ("vae", "manifold", {}, "a manifold needs latents of 2 dimensions (--latent-dim 2), not 10"),
        ("vae", "manifold", {"num": 3}, "--num applies to samples, interpolation, traversal, "),
        ("gan", "traversal", {"around": 0}, "gan does not encode images: leave --around out"),
        ("gan", "reconstructions", {},
         "gan does not encode images; models that can: autoencoder, vae, dgdn, vqvae, vqvae2, vaegan"),
        ("gan", "arithmetic", {"groups": ("1", "2", "3")},
         "gan does not encode images; models that can: autoencoder, vae, vaegan"),
        ("bands", "arithmetic", {"groups": ("1", "2", "3")},
         "./bands.py is given the label beside its codes; models that can: autoencoder, vae, vaegan"),
        ("vae", "codes", {}, "vae infers no codes; models that can: infogan"),
        ("infogan", "codes", {"steps": 5}, "--steps applies to interpolation"),
        ("infogan", "interpolation", {},
         "infogan has no gaussian or uniform prior to move in; models that can: autoencoder, vae"),
        ("vae", "completions", {},
         "vae does not complete images; models that can: "),
        ("vae", "samples", {"caption": ("a cat",)}, "vae is given no captions"),
        ("vae", "interpolation", {"caption": ("a cat",)}, "--caption applies to samples, captions, not to interp"),
        ("vae", "captions", {"caption": ("a", "b")}, "vae has no images between two captions; models that can: none"),
        ("talk", "captions", {}, "--kind captions needs two captions, as in --caption 'a red circle' 'a blue square'"),
        ("talk", "captions", {"caption": ("a cat",)}, "--kind captions needs two captions"),
        ("talk", "samples", {"caption": ()}, "--caption must give at least one caption"),
        ("talk", "samples", {"caption": ("a cat", "a dog", "a fox"), "num": 2},
         "--num must be at least 3, one a caption, not 2"),
        ("talk", "samples", {"caption": ("a cat", "Zebras!")},
         "caption 'Zebras!' has no word of the run's captions, such as a, mat, on, the, "),
        ("talk", "samples", {"caption": (" ",)}, "caption ' ' has no word of the run's captions"),
        ("talk", "samples", {"captions": "nowhere.txt"}, "cannot read nowhere.txt (No such file or directory)"),
        ("talk", "samples", {"captions": "nowhere.txt", "caption": ("a cat",)},
         "captions are given by --caption or by the file --captions, not by both"),
        ("vae", "captioned", {}, "vae writes no captions; models that can: none"),
        ("writer", "captioned", {"num": 4}, "--num must be at most 3, the test images of image_folder, not 4"),
        ("vae", "classified", {}, "vae does not classify; models that can: classifier, naive_bayes"),
        ("bands", "samples", {"num": 9}, "--num must be at least 10, one a class, not 9"),
        ("classifier", "interpolation", {}, "classifier does not decode latents; models that can: autoencoder, vae"),
        ("classifier", "samples", {},
         "classifier cannot sample; models that can: naive_bayes, autoencoder, vae, "),
        ("classifier", "animation", {},
         "classifier cannot sample; models that can: naive_bayes, autoencoder, vae, "),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(name, kind, options, words, runs, opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxgen.pictures.sampling.open_run", lambda path, checkpoint: opened[name])
    before = sorted(runs.rglob("*.*"))
    with pytest.raises(UserError, match=re.escape(words)) as raised:
        sample(runs / name, kind, **options)
    assert "\n" not in str(raised.value)
    assert sorted(runs.rglob("*.*")) == before
    assert not list(tmp_path.iterdir())


def test_data_without_labels_or_images(runs, opened, monkeypatch):
    dataset = opened["vae"].plan.dataset

    def with_data(changed):
        run = opened["vae"]._replace(plan=opened["vae"].plan._replace(dataset=changed))
        monkeypatch.setattr("jaxgen.pictures.sampling.open_run", lambda path, checkpoint: run)

    with_data(dataset._replace(test={"image": dataset.test["image"]}))
    with pytest.raises(UserError, match="--groups names classes, which dataset digits does not have"):
        sample("run", "arithmetic", groups=("1", "2", "3"))
    with_data(dataset._replace(test={**dataset.test, "label": np.maximum(dataset.test["label"], 1)}))
    with pytest.raises(UserError, match="dataset digits has no test images of class 0"):
        sample("run", "attribute", groups=("0", "1"))
    unlabeled = dataset._replace(test={"image": dataset.test["image"]})
    classify = {"label": lambda state, batch: jnp.zeros((len(batch["image"]), 10))}
    model = opened["vae"].plan.model._replace(predict=classify)
    run = opened["vae"]._replace(plan=opened["vae"].plan._replace(dataset=unlabeled, model=model))
    monkeypatch.setattr("jaxgen.pictures.sampling.open_run", lambda path, checkpoint: run)
    with pytest.raises(UserError, match="classified images stand above their classes, which dataset digits does not"):
        sample("run", "classified")
    with_data(dataset._replace(name="ring", spec=Spec({"point": jax.ShapeDtypeStruct((2,), np.float32)}, 1)))
    for kind in set(KINDS) - {"samples", "animation"}:
        with pytest.raises(UserError, match=f"{kind} shows images, which dataset ring does not have"):
            sample("run", kind)


def test_a_webp_of_many_seeds_that_is_too_large(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxgen.drawing.WEBP_SIDE", 100)
    with pytest.raises(UserError, match=r"a WebP has at most 100 pixels a side, not .*; choose \.gif"):
        sample(runs / "vae", "interpolation", out=tmp_path / "path.webp")


CAPTIONS = ("a dog on the mat", "A CAT")


def ids(run, captions):
    return run.plan.dataset.vocabulary.encode(captions, 5)


@pytest.mark.parametrize(("num", "columns"), [(None, 8), (7, 3)])
def test_samples_of_given_captions(num, columns, runs, opened, tmp_path):
    """Equally many of each caption, in the order given, below the words as they were given."""
    out, dataset = tmp_path / "a.npz", opened["talk"].plan.dataset
    with np.load(sample(runs / "talk", caption=CAPTIONS, num=num, out=out)) as file:
        arrays = dict(file)
    encoded = ids(opened["talk"], CAPTIONS)
    assert dataset.vocabulary.decode(encoded[1:]) == ["a cat"]
    np.testing.assert_array_equal(arrays["caption"], np.tile(encoded.repeat(columns, axis=0), (2, 1)))
    assert arrays["seed"].tolist() == [0] * 2 * columns + [3] * 2 * columns
    levels = arrays["image"][:, 0, 0, 0].astype(float)
    np.testing.assert_array_less(np.abs(levels - 10 * arrays["caption"][:, 1]), 5)
    with Image.open(sample(runs / "talk", caption=CAPTIONS, num=num, out=tmp_path / "a.png")) as picture:
        pixels = np.asarray(picture)[:, :, None]
    rows = arrays["image"].reshape(2, 2, columns, 8, 8, 1)
    rows = [[enlarged(image_grid(row, columns), 7) for row in of_seed] for of_seed in rows]
    grids = [stacked([captioned(*each) for each in zip(of_seed, CAPTIONS, strict=True)]) for of_seed in rows]
    np.testing.assert_array_equal(pixels, stacked(grids))


def test_captions_of_a_file_are_those_of_its_lines(runs, tmp_path):
    (tmp_path / "a.txt").write_text("a dog on the mat\n\n  A CAT \n", encoding="utf-8-sig")
    given = sample(runs / "talk", caption=CAPTIONS, out=tmp_path / "a.png").read_bytes()
    assert sample(runs / "talk", captions=tmp_path / "a.txt", out=tmp_path / "b.png").read_bytes() == given
    (tmp_path / "a.txt").write_bytes(b"a \xff")
    for content, words in ((b"a \xff", r"is not UTF-8 text \(byte 2\)"), (b"\n", "has no captions: write one a line")):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(UserError, match=words):
            sample(runs / "talk", captions=tmp_path / "a.txt", out=tmp_path / "c.png")


@pytest.mark.parametrize("shown", [True, False])
def test_words_that_are_unknown_or_too_many_are_told(shown, runs, tmp_path, capsys):
    captions = ("a big cat, big", "a dog on the mat on the mat")
    sample(runs / "talk", caption=captions, num=2, out=tmp_path / "a.png", progress=shown)
    expected = (
        "caption 'a big cat, big': not in the vocabulary, so read as unknown: big, ,\n"
        "caption 'a dog on the mat on the mat': only the first 5 of its 8 words are read\n"
    )
    assert capsys.readouterr().err == (expected if shown else "")


def test_between_two_captions_the_noise_stays(runs, opened, tmp_path):
    """Each row has its own z from the first caption's images to the second's, in even steps."""
    options = {"caption": ("a cat", "a fox"), "num": 3, "steps": 5}
    with np.load(sample(runs / "talk", "captions", out=tmp_path / "a.npz", **options)) as file:
        arrays = dict(file)
    prior = opened["talk"].plan.model.latents.prior
    z = np.stack([prior.sample(key_of(seed, "captions"), None, 3) for seed in SEEDS["talk"]])
    np.testing.assert_array_equal(arrays["z"], z)
    (cat, fox), shares = ids(opened["talk"], options["caption"])[:, 1], np.array([0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(arrays["share"], shares)
    expected = 10 * ((1 - shares) * cat + shares * fox) + z  # [seeds, rows, steps]
    assert np.abs(arrays["image"][..., 0, 0, 0] - expected).max() < 0.501
    assert arrays["image"].shape == (2, 3, 5, 8, 8, 1)
    with Image.open(sample(runs / "talk", "captions", out=tmp_path / "a.png", **options)) as picture:
        pixels = np.asarray(picture)[:, :, None]
    grids = [enlarged(image_grid(rows.reshape(15, 8, 8, 1), 5), 7) for rows in arrays["image"]]
    np.testing.assert_array_equal(pixels, stacked([captioned(grid, "a cat -> a fox") for grid in grids]))
    with Image.open(sample(runs / "talk", "captions", out=tmp_path / "a.gif", **options)) as moving:
        assert moving.n_frames == 8


def test_samples_given_captions_are_rows_below_them():
    """The drawn images are as bright as ten times the id of the caption's second word."""
    vocabulary = Vocabulary(("a", "cat", "dog"))
    captions = vocabulary.encode(["a cat", "a dog"], 3)

    def draw(key, state, num, condition):
        brightness = (10 * condition["caption"][:, 1]).astype(jnp.uint8)
        return {"image": jnp.broadcast_to(brightness[:, None, None, None], (num, 8, 8, 1))}

    spec = Spec({"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}, 9)
    dataset = SimpleNamespace(spec=spec, test={"caption": captions}, vocabulary=vocabulary)
    model = Model(None, (), (), sampler=Sampler(draw, ("caption",)))
    plan = SimpleNamespace(model=model, dataset=dataset, settings=SimpleNamespace(seeds=(0, 1)))
    drawn = kinds.samples(SimpleNamespace(plan=plan, state=jnp.zeros(2)), kinds.Asked(num=5))
    cells = [np.full((2, 8, 8, 1), 10 * word, np.uint8) for word in (3, 4)]
    rows = [enlarged(image_grid(cell, 2), 7) for cell in cells]
    expected = stacked([captioned(*each) for each in zip(rows, ("a cat", "a dog"), strict=True)])
    assert drawn.legible
    for grid in drawn.grids:
        np.testing.assert_array_equal(grid, expected)
    assert (len(drawn.grids), drawn.arrays["caption"].shape, drawn.arrays["image"].shape) == (2, (8, 3), (8, 8, 8, 1))
