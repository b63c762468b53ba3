"""Pages of `jaxgen explore`: their content, against the model in JAX; test_explore_browser.py runs them."""

import base64
import io
import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import cli
from jaxgen.model import Latents, Part, Prior, Sampler, State
from jaxgen.pictures.latents import spherical
from jaxgen.portable import explore as pages
from jaxgen.portable import live as lives
from jaxgen.portable import walks
from jaxgen.portable.evaluated import evaluated
from jaxgen.portable.explore import explore
from jaxgen.portable.folded import Equation, Program, Value
from jaxgen.training import Settings, train
from jaxgen.training.engine import streams
from jaxgen.training.folder import Run, open_run
from jaxgen.training.plan import make_plan
from tests.models.by_hand import drawn_state
from tests.models.contract import contracts

SEEDS = (5, 3)

# An image is the weighted sum of z, the same in all pixels, plus a tenth of the label.
SUM = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from jaxgen.model import Latents, Model, Phase, Prior, Sampler, State

@dataclass(frozen=True)
class Config:
    latents: bool = True
    samples: bool = True

def make(config, spec):
    def init(key):
        return State(jnp.int32(0), jnp.array([0.01, 0.05, 0.0, 0.03]))
    def step(key, state, batch):
        return state._replace(step=state.step + 1), {"zero": jnp.float32(0)}
    def prior(key, state, num):
        return jax.random.normal(key, (num, 4))
    def decode(state, z, condition):
        level = z @ state.params + condition["label"] / 10
        return {"image": jnp.broadcast_to(level[:, None, None, None], (len(z), 8, 8, 1))}
    def draw(key, state, num, condition):
        level = jnp.uint8(20) * condition["label"].astype(jnp.uint8)
        return {"image": jnp.broadcast_to(level[:, None, None, None], (num, 8, 8, 1))}
    return Model(init, (Phase("one", step),), ("image", "label"),
                 sampler=Sampler(draw, ("label",)) if config.samples else None,
                 latents=Latents(decode, Prior(prior, "gaussian")) if config.latents else None)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with the model file, and run folders of it: sum, with latents; blind, without; mute, without samples."""
    folder = tmp_path_factory.mktemp("explore")
    (folder / "sums.py").write_text(SUM)
    settings = Settings(seeds=SEEDS, steps=1, log_every=1)
    for name, config in {"sum": {}, "blind": {"latents": False}, "mute": {"samples": False}}.items():
        train(str(folder / "sums.py"), config, settings, out=folder / name, progress=False)
    return folder


def content_of(html):
    """The data of a page."""
    (data,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', html)
    return json.loads(data)


def array(text, dtype=np.float32):
    return np.frombuffer(base64.b64decode(text), dtype)


def in_memory(name, seeds=SEEDS, settings=None, **fields):
    """A run of a model with parameters drawn, or initial if it infers codes or their range: no folder, no step."""
    config = {**contracts()[name].small, **fields}
    plan = make_plan(name, config, Settings(dataset=contracts()[name].dataset, seeds=seeds, **(settings or {})))
    if name in ("autoencoder", "vqvae", "vqvae2"):
        states = [jax.jit(plan.model.init)(jax.random.key(n)) for n in range(len(seeds))]
    else:
        states = [drawn_state(plan.model.init, 7 * n) for n in range(len(seeds))]
    return Run("nowhere", plan, jax.tree.map(lambda *leaves: np.stack(leaves), *states), 12, {})


def program_of(content, seed):
    """A page's program with a seed's weights, rebuilt from what the page holds."""
    plain, weights = content["program"], content["seeds"][seed]["weights"]
    dtypes = [{"f": "float32", "i": "int32", "b": "bool"}[kind] for kind in plain["kinds"]]
    values = [Value(n, tuple(shape), dtypes[n]) for n, shape in enumerate(plain["shapes"])]
    parts = {"0": array(weights["full"]), "1": array(weights["half"], np.float16)}
    constants, first = [], plain["inputs"]
    for n, half in enumerate(content["half"]):
        size = int(np.prod(values[first + n].shape))
        constants.append(parts[half][:size].reshape(values[first + n].shape).astype(dtypes[first + n]))
        parts[half] = parts[half][size:]
    assert not any(map(len, parts.values()))
    results = first + len(constants)
    equations = [
        Equation(name, tuple(values[i] for i in operands), values[results + n], params)
        for n, (name, operands, params) in enumerate(plain["equations"])
    ]
    return Program(tuple(values[:first]), tuple(constants), tuple(equations), values[plain["output"]])


def test_the_page_holds_the_decoder_of_every_seed(folder):
    """A sum of four latents and a tenth of the label: its program, weights, draws, sliders, classes and images."""
    path, words = explore(folder / "sum", out=folder / "sum.html")
    assert path == folder / "sum.html"
    assert words.startswith("the decoder runs in the page with ")
    content = content_of(path.read_text())
    assert [seed["name"] for seed in content["seeds"]] == ["seed 5", "seed 3"]
    assert content["choices"] == [str(label) for label in range(10)]
    assert content["conditions"] == [[label] for label in range(10)]
    for place, seed in enumerate(SEEDS):
        key = jax.random.fold_in(streams(seed).sample, 2**31 + lives.STREAM)
        draws = np.asarray(jax.random.normal(key, (32, 4)))
        np.testing.assert_array_equal(array(content["seeds"][place]["draws"]).reshape(32, 4), draws)
        program = program_of(content, place)
        level = draws[1] @ [0.01, 0.05, 0, 0.03] + 0.7
        np.testing.assert_allclose(evaluated(program, draws[1:2], [7]), np.full((1, 8, 8, 1), level), atol=1e-6)
        levels = np.clip([draws[n] @ [0.01, 0.05, 0, 0.03] + n / 10 for n in range(2)], 0, 1)
        images = array(content["seeds"][place]["images"], np.uint16).reshape(2, 8, 8, 1) / 65535
        np.testing.assert_allclose(images, np.broadcast_to(levels[:, None, None, None], images.shape), atol=1e-5)
        # The latents by how far they move the image: not 0, 1, 2, 3.
        sliders = content["seeds"][place]["dimensions"]
        assert [slider["dimension"] for slider in sliders] == [1, 3, 0, 2]
        assert [(slider["name"], slider["range"]) for slider in sliders[:2]] == [("latent 1", 3.0), ("latent 3", 3.0)]


def test_the_same_call_writes_the_same_file(folder, tmp_path):
    first, second = (explore(folder / "sum", out=tmp_path / name)[0].read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert explore(folder / "sum", out=tmp_path / "a.html")[0].read_bytes() == first


def test_a_real_decoders_weights_are_halved_unless_images_would_change():
    """A VAE of two seeds: float16 differs by under 1e-3, which the page states; a stricter limit asks for float32."""
    run = in_memory("vae", features=16)
    with pytest.MonkeyPatch.context() as patch:
        half = lives.live(run)
        patch.setattr(lives, "CLOSE", 1e-5)
        full = lives.live(run)
    assert (half["dtype"], full["dtype"]) == ("float16", "float32")
    assert 1e-5 < half["difference"] < 1e-3
    assert full["difference"] < 1e-6
    for content in (half, full):
        for place in range(2):
            draws = array(content["seeds"][place]["draws"]).reshape(32, 3)
            state = jax.tree.map(lambda leaf, place=place: jnp.asarray(leaf[place]), run.state)
            wanted = run.plan.model.latents.decode(state, draws[4:5], {})["image"]
            made = evaluated(program_of(content, place), draws[4:5])
            np.testing.assert_allclose(made, wanted, atol=2 * content["difference"] + 1e-6)
    assert half["latents"]["encodes"]
    assert half["numbers"] == program_of(half, 0).size


def test_the_page_computes_in_float32_whatever_the_training_did():
    """A decoder trained in bfloat16 rounds to 8 bits; the page's images are those of float32."""
    run = in_memory("dcgan", seeds=(0,), settings={"precision": "bfloat16"})
    content = lives.live(run)
    same = in_memory("dcgan", seeds=(0,))
    assert content["difference"] < 1e-3
    assert content["seeds"][0]["images"] == lives.live(same)["seeds"][0]["images"]


def run_with(decode, prior):
    """A run of one seed, of a model of latents without parameters."""
    plan = make_plan("gan", contracts()["gan"].small, Settings(dataset=contracts()["gan"].dataset, seeds=(0,)))
    model = plan.model._replace(latents=Latents(decode, prior), sampler=Sampler(lambda *given: {}))
    return Run("nowhere", plan._replace(model=model), State(jnp.zeros(1), {}), 12, {})


def levels_of(z):
    """Gray images of levels z [num]."""
    return {"image": jnp.broadcast_to(z[:, None, None, None], (len(z), 8, 8, 1))}


@pytest.mark.parametrize("error", [0.3, np.nan])
def test_a_program_that_gives_other_images_than_jax_is_not_written(error, monkeypatch):
    monkeypatch.setattr(lives, "evaluated", lambda *given: evaluated(*given) + error)
    prior = Prior(lambda key, state, num: jax.random.uniform(key, (num, 1)) / 2, "uniform")
    run = run_with(lambda state, z, condition: levels_of(z[:, 0]), prior)
    with pytest.raises(lives.NotLive, match=rf"^its images differ from JAX's by {error:.1e}$"):
        lives.live(run)


def test_a_page_holds_no_number_that_json_does_not_have():
    """A browser could not read it, and would show nothing."""
    content = {"kind": "walk", "continuous": True, "count": np.nan, "choices": [""], "labels": False, "seeds": []}
    with pytest.raises(ValueError, match="not JSON compliant"):
        pages._page(run_with(None, None), content, "")


def test_codes_come_before_noise_and_categories_have_no_slider():
    """Noise 1 changes the image most and code 0 least, but codes come first; the category's three numbers are left."""
    weights = jnp.array([0.2, 0.3, 9.0, 9.0, 9.0, 0.1])
    parts = (Part("noise", 2, "gaussian"), Part("category", 3, "categorical"), Part("code", 1, "uniform"))

    def decode(state, z, condition):
        return levels_of(0.5 + z @ weights / 100)

    prior = Prior(lambda key, state, num: jax.random.normal(key, (num, 6)), "mixed", parts=parts)
    content = lives.live(run_with(decode, prior))
    assert content["seeds"][0]["dimensions"] == [
        {"dimension": 5, "name": "code 0", "range": 1.0},
        {"dimension": 1, "name": "noise 1", "range": 3.0},
        {"dimension": 0, "name": "noise 0", "range": 3.0},
    ]
    assert content["latents"]["parts"][1] == {"name": "category", "size": 3, "kind": "categorical"}


def test_codes_of_maps_come_with_their_levels():
    """The number of codes is that of the codebook, not of the codes drawn."""
    content = lives.live(in_memory("vqvae2", seeds=(0,)))
    assert content["latents"]["levels"] == [
        {"name": "bottom", "shape": [4, 4], "codes": 6},
        {"name": "top", "shape": [2, 2], "codes": 6},
    ]
    assert array(content["seeds"][0]["draws"]).reshape(32, 20).max() < 6


TABLE = jnp.arange(5.0) / 5


@pytest.mark.parametrize(
    ("shape", "level", "words"),
    [
        ((2, 3), lambda z: jax.nn.one_hot(z, 5) @ TABLE, "its decoder does not look codes up in a table"),
        ((6,), lambda z: TABLE[z][:, None], "its codes are not maps of rows and columns"),
    ],
)
def test_codes_that_the_page_cannot_show_are_not_live(shape, level, words):
    """One decoder multiplies a table by one-hot codes, the other one has a row of codes."""
    prior = Prior(lambda key, state, num: jax.random.randint(key, (num, *shape), 0, 5), "discrete")
    run = run_with(lambda state, z, condition: levels_of(level(z).mean((1, 2))), prior)
    with pytest.raises(lives.NotLive, match=f"^{words}$"):
        lives.live(run)


def sprites(content):
    """Images of a walk: [seeds, choices, count, H, W]."""
    found = []
    for seed in content["seeds"]:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(seed["images"]))))
        rows, count = len(content["choices"]), content["count"]
        found.append(pixels.reshape(rows, 8, count, 8).transpose(0, 2, 1, 3))
    return np.stack(found)


def test_a_decoder_that_is_too_slow_gets_a_walk(folder, tmp_path, monkeypatch):
    """Eight draws, with seven images from each to the next along the arc, for each class."""
    monkeypatch.setattr(lives, "SLOWEST", 3)
    path, words = explore(folder / "sum", out=tmp_path / "walk.html")
    assert "since ./sums.py cannot run in a page: its decoder takes 0 million multiplications an image" in words
    content = content_of(path.read_text())
    assert (content["kind"], content["continuous"], content["count"]) == ("walk", True, 64)
    images = sprites(content)
    for place, seed in enumerate(SEEDS):
        draws = np.asarray(jax.random.normal(jax.random.fold_in(streams(seed).sample, 2**31 + lives.STREAM), (8, 4)))
        codes = spherical(draws, np.roll(draws, -1, axis=0), np.arange(8) / 8).reshape(64, 4)
        levels = codes @ [0.01, 0.05, 0, 0.03] + np.arange(10)[:, None] / 10
        wanted = np.broadcast_to(255 * np.clip(levels, 0, 1)[:, :, None, None], images[place].shape)
        np.testing.assert_allclose(images[place], wanted, atol=0.51)
    assert "The walk leads through draws of the prior and back to the first." in path.read_text()


def test_a_model_without_latents_gets_samples_of_every_class(folder, tmp_path):
    path, words = explore(folder / "blind", out=tmp_path / "samples.html")
    assert words.startswith(
        "64 images of each seed, computed beforehand, since ./sums.py cannot run in a page: it has no lat"
    )
    content = content_of(path.read_text())
    assert not content["continuous"]
    wanted = np.broadcast_to(20 * np.arange(10)[:, None, None, None], (2, 10, 64, 8, 8))
    np.testing.assert_array_equal(sprites(content), wanted)


def test_seeds_that_do_not_fit_are_left_out(folder, tmp_path, monkeypatch):
    whole, _ = explore(folder / "sum", out=tmp_path / "whole.html")
    size = len(whole.read_bytes())
    for module in (lives, pages):
        monkeypatch.setattr(module, "LARGEST", size - 1)
    less, words = explore(folder / "sum", out=tmp_path / "less.html")
    assert words.startswith("the decoder runs in the page, 1 of 2 seeds, with")
    assert [seed["name"] for seed in content_of(less.read_text())["seeds"]] == ["seed 5"]
    assert "1 of 2 seeds is left out" in less.read_text()


def test_images_classes_and_seeds_that_do_not_fit_are_left_out(folder, tmp_path, monkeypatch):
    """Nothing is drawn that should not fit, by an estimate of half a byte of a PNG file for a pixel, in base64."""
    assert [*walks.falling(2, 3)] == [
        (2, 3, 64), (2, 3, 32), (2, 3, 16), (2, 3, 8), (2, 2, 8), (2, 1, 8), (1, 1, 8), (1, 1, 4), (1, 1, 2)
    ]  # fmt: skip
    run, drawn, asked = open_run(folder / "blind"), walks.drawn_samples, []
    monkeypatch.setattr(walks, "drawn_samples", lambda *given: asked.append(given[3]) or drawn(*given))
    for numbers in ((2, 10, 32), (2, 5, 8), (1, 1, 8), (1, 1, 2)):
        asked.clear()
        largest = np.ceil(np.prod(numbers) * 8 * 8 / 2 * 4 / 3)
        content = next(walks.walk(run, largest))
        seeds, classes, count = numbers
        assert asked == [count] * classes
        assert [seed["name"] for seed in content["seeds"]] == ["seed 5", "seed 3"][:seeds]
        assert (content["choices"], content["offered"]) == ([str(label) for label in range(classes)], 10)
        wanted = np.broadcast_to(20 * np.arange(classes)[:, None, None, None], (seeds, classes, count, 8, 8))
        np.testing.assert_array_equal(sprites(content), wanted)
    # Images that are larger than was estimated are left out afterwards.
    whole, _ = explore(folder / "blind", out=tmp_path / "all.html")
    monkeypatch.setattr(walks, "PACKED", 0)
    monkeypatch.setattr(pages, "LARGEST", len(whole.read_bytes()) - 1)
    fewer, words = explore(folder / "blind", out=tmp_path / "fewer.html")
    assert words.startswith("32 images of each seed")
    assert content_of(fewer.read_text())["count"] == 32


def test_the_page_and_the_command_say_what_is_left_out(folder, tmp_path, monkeypatch):
    run = open_run(folder / "blind")
    monkeypatch.setattr(pages, "walk", lambda *_: walks.walk(run, 342))  # 8 images of 8x8 pixels, half a byte a pixel
    path, words = explore(folder / "blind", out=tmp_path / "few.html")
    assert "; only 1 of 2 seeds and 1 of 10 classes fit; " in words
    for left_out in (
        "9 of 10 classes are left out",
        "1 of 2 seeds is left out",
        '<select id="choice"><option>0</option>',
    ):
        assert left_out in path.read_text()


def test_images_of_which_not_even_two_fit_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST", 1000)
    with pytest.raises(
        pages.UserError, match=r"^\./sums\.py cannot run in a page: it has no latents to move; and two of"
    ):
        explore(folder / "blind", out=tmp_path / "none.html")
    assert not list(tmp_path.iterdir())


def test_a_diverged_seed_is_named(folder, tmp_path, monkeypatch):
    run = open_run(folder / "sum")._replace(diverged={3: 1})
    monkeypatch.setattr(pages, "open_run", lambda *_: run)
    for slowest in (lives.SLOWEST, 0):  # the decoder in the page, and a walk
        monkeypatch.setattr(lives, "SLOWEST", slowest)
        path, _ = explore("sum", out=tmp_path / f"{slowest}.html")
        assert [seed["name"] for seed in content_of(path.read_text())["seeds"]] == ["seed 5", "seed 3 (diverged)"]


def test_words_of_the_data_cannot_end_the_script():
    """Names of classes are the user's: one of them closes a script, another one a string."""
    run = in_memory("cgan", seeds=(0,))
    names = ("</script><script>alert(1)</script>", '"', "<!--", *"defghij")
    run = run._replace(plan=run.plan._replace(dataset=run.plan.dataset._replace(classes=names)))
    html = pages._page(run, lives.live(run), "").decode()
    assert html.count("</script>") == 2
    assert "<!--" not in html
    assert tuple(content_of(html)["choices"]) == names


def test_the_command_prints_the_file_and_mistakes_are_one_line(folder, tmp_path, monkeypatch, capsys):
    """The command runs on the CPU, so that it writes the same file on every device."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert cli.main(["explore", "sum"]) == 0
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    words, path = capsys.readouterr().out.splitlines()
    assert path == "sum/explore.html"
    assert re.fullmatch(r"the decoder runs in the page with [\d,]+ numbers a seed as float16; .*; 0\.\d+ MB", words)
    (folder / "other.html").write_text("mine")
    mistakes = {
        ("sum", "--out", "other.html"): "other.html exists with another content; choose another --out",
        ("sum", "--out", "page.png"): "a page is written as .html, not as 'page.png'",
        ("sum", "--checkpoint", "7"): "sum has no checkpoint 7; it has newest, 1",
        ("nothing",): "nothing is no run folder: it has no config.json",
        ("mute",): r"./sums.py makes no images to explore; models that do: naive_bayes, .*",
        (): "explore needs a run folder first, as in `jaxgen explore RUN`",
    }
    for argv, words in mistakes.items():
        assert cli.main(["explore", *argv]) == 2
        out, err = capsys.readouterr()
        assert (out, re.fullmatch(f"jaxgen: error: {words}\n", err) is not None) == ("", True), err
