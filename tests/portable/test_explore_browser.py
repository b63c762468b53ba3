"""Pages of `jaxgen explore` in a real browser, headless and offline: what they show, against JAX."""

import base64
import html
import io
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.pictures.latents import linear, spherical
from jaxgen.portable import explore as pages
from jaxgen.portable import live as lives
from jaxgen.portable.folded import folded
from tests.cases import some_slow
from tests.portable.test_explore import array, content_of, in_memory
from tests.portable.test_folded import FUNCTIONS
from tests.report.test_page_browser import BROWSER, DRIVER, browser, found

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium and chromedriver here")

RIGHT, HOME, END = "\ue014", "\ue011", "\ue010"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.set_window_size(1280, 900)
        yield driver


@pytest.fixture
def opened(chromium, tmp_path):
    """Function from a run to its page, opened and checked by itself, and the page's content."""

    def of(run):
        html, _ = pages._fitting(run)
        (tmp_path / "explore.html").write_bytes(html)
        chromium.get((tmp_path / "explore.html").as_uri())
        return content_of(html.decode())

    return of


def wait(driver, script):
    """Waits until a script returns a true value, which is returned."""
    return driver.execute_async_script(
        f"const done = arguments[0]; (function ask() {{ const value = (() => {{ {script} }})();"
        " if (value) done(value); else setTimeout(ask, 20); })()"
    )


def shown(driver, seed=0):
    """Levels of a seed's large image after the next frames, [H, W]; of gray images."""
    pixels = driver.execute_async_script(
        "const done = arguments[1], canvas = document.querySelectorAll('.seed canvas:not(.strip)')[arguments[0]];"
        "requestAnimationFrame(() => requestAnimationFrame(() => done([canvas.height, canvas.width,"
        " [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]])))",
        seed,
    )
    height, width, data = pixels
    return np.reshape(data, (height, width, 4))[:, :, 0]


def levels(run, z, condition=None, place=0):
    """Levels that JAX decodes from z [elements] of a seed, before rounding: [H, W]."""
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[place]), run.state)
    image = run.plan.model.latents.decode(state, jnp.float32(z)[None], condition or {})["image"]
    return 255 * np.clip(np.asarray(image)[0, :, :, 0], 0, 1)


def draws_of(content, place=0):
    return array(content["seeds"][place]["draws"]).reshape(32, -1)


NEAR = 0.5 + 255e-3
"""Largest difference of a level: rounding, and a thousandth of the range."""


@pytest.mark.slow
def test_every_operation_of_the_interpreter_gives_what_jax_gives(chromium):
    chromium.get("about:blank")
    script = (pages.FOLDER / "interpreter.js").read_text()
    for name, (function, x) in FUNCTIONS.items():
        program = folded(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
        half = "0" * len(program.constants)
        made = chromium.execute_script(
            f"{script}; const [program, weights, half, x] = arguments;"
            "const shapes = program.shapes.slice(1, 1 + half.length);"
            "const constants = interpreter.unpack(weights, shapes, half);"
            "return [...interpreter.compile(program, constants)(new Float32Array(interpreter.bytes(x)))]",
            json.loads(json.dumps(lives._plain(program))),
            lives._weights(program, half),
            half,
            lives.text_of(np.float32(x)),
        )
        wanted = np.asarray(function(jnp.asarray(x)), np.float64)
        np.testing.assert_allclose(np.reshape(made, wanted.shape), wanted, rtol=3e-5, atol=3e-6, err_msg=name)


MODELS = {
    "vae": {"features": 16, "latent_dim": 6},
    "cgan": {"features": 16},
    "infogan": {},
    "vqvae": {},
    "stackgan": {},
    "autoencoder": {},
    "dgdn": {},
    "gan": {},
    "dcgan": {"features": 16},
    "vaegan": {},
    "mggan": {},
    "transgan": {},
    "vqvae2": {},
}


@pytest.mark.parametrize("name", some_slow(MODELS, 1))
def test_the_page_differs_from_jax_by_less_than_a_thousandth(name, chromium, opened):
    """The page's own check, of two draws of each seed; and nothing is fetched, or complained of."""
    run = in_memory(name, **MODELS[name])
    chromium.get_log("browser")
    chromium.get_log("performance")
    content = opened(run)
    assert content["kind"] == "live"
    difference = float(wait(chromium, "return document.getElementById('checked').dataset.difference"))
    assert 0 < difference < 1e-3
    assert difference == pytest.approx(content["difference"], abs=3e-5)
    assert "4 images differ from JAX’s by at most" in found(chromium, "#checked")[0].text
    assert chromium.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    requested = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in requested if not url.startswith("data:")] == [chromium.current_url]


def test_draws_sliders_and_the_path_give_jaxs_images(chromium, opened):
    run = in_memory("vae", **MODELS["vae"])
    content = opened(run)
    draws = [draws_of(content, place) for place in range(2)]
    assert [heading.text for heading in found(chromium, ".seed h2")] == ["seed 5", "seed 3"]
    for place in range(2):
        np.testing.assert_allclose(shown(chromium, place), levels(run, draws[place][0], place=place), atol=NEAR)
    # The next draw, and the one before the first.
    found(chromium, "#next")[0].click()
    np.testing.assert_allclose(shown(chromium, 1), levels(run, draws[1][1], place=1), atol=NEAR)
    assert found(chromium, "#draw")[0].text == "draw 2 of 32"
    for _ in range(2):
        found(chromium, "#previous")[0].click()
    np.testing.assert_allclose(shown(chromium), levels(run, draws[0][31]), atol=NEAR)
    # A slider, by the keyboard, moves its own latent of its own seed to the end of its range.
    slider, dimension = found(chromium, ".sliders input")[0], content["seeds"][0]["dimensions"][0]["dimension"]
    slider.send_keys(END)
    z = draws[0][31].copy()
    z[dimension] = 3
    np.testing.assert_allclose(shown(chromium), levels(run, z), atol=NEAR)
    np.testing.assert_allclose(shown(chromium, 1), levels(run, draws[1][31], place=1), atol=NEAR)
    assert found(chromium, ".sliders output")[0].text == "3.00"
    assert slider.get_attribute("aria-label") == f"latent {dimension} of seed 5"
    # A tenth of the arc from the last draw to the fifth.
    found(chromium, "#toward option")[4].click()
    found(chromium, "#share")[0].send_keys(HOME, *[RIGHT] * 10)
    assert found(chromium, "#share-text")[0].text == "10%"
    on_arc = spherical(draws[0][[31]], draws[0][[4]], [0.1])[0, 0]
    np.testing.assert_allclose(shown(chromium), levels(run, on_arc), atol=NEAR)
    found(chromium, "#mean")[0].click()
    np.testing.assert_allclose(shown(chromium), levels(run, np.zeros(6)), atol=NEAR)


def strip(driver, number, count, side=8):
    """Levels of the images of a strip, [count, H, W], when the last one is painted."""
    driver.execute_script("return new Promise((done) => setTimeout(done, 1500))")
    pixels = driver.execute_script(
        "const canvas = document.querySelectorAll('canvas.strip')[arguments[0]];"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]",
        number,
    )
    rows = np.reshape(pixels, (side, -1, 4))[:, :, 0]
    return np.stack([rows[:, n * (side + 1) : n * (side + 1) + side] for n in range(count)])


@pytest.mark.slow
def test_classes_and_paths_are_shown_beside_each_other(chromium, opened):
    run = in_memory("cgan", seeds=(0,), features=16)
    content = opened(run)
    draws = draws_of(content)
    found(chromium, "#choice option")[7].click()
    np.testing.assert_allclose(shown(chromium), levels(run, draws[0], {"label": jnp.array([7])}), atol=NEAR)
    for n, image in enumerate(strip(chromium, 1, 10)):
        np.testing.assert_allclose(image, levels(run, draws[0], {"label": jnp.array([n])}), atol=NEAR)
    for n, image in enumerate(strip(chromium, 0, 7)):
        z = linear(draws[[0]], draws[[1]], [n / 6])[0, 0]
        np.testing.assert_allclose(image, levels(run, z, {"label": jnp.array([7])}), atol=NEAR)
    assert "Every class, from the same latents: 0, 1, 2" in found(chromium, "figcaption")[1].text


@pytest.mark.slow
def test_categories_are_chosen(chromium, opened):
    run = in_memory("infogan", seeds=(0,))
    z = draws_of(opened(run))[0].copy()  # noise, ten categories, two codes
    category = found(chromium, ".category")[0]
    shown(chromium)
    assert category.get_property("value") == str(z[3:13].argmax())
    found(category, "option")[4].click()
    z[3:13] = np.eye(10)[4]
    np.testing.assert_allclose(shown(chromium), levels(run, z), atol=NEAR)
    for n, image in enumerate(strip(chromium, 1, 10)):
        z[3:13] = np.eye(10)[n]
        np.testing.assert_allclose(image, levels(run, z), atol=NEAR)


@pytest.mark.slow
def test_a_code_of_a_map_is_changed(chromium, opened):
    run = in_memory("vqvae", seeds=(0,))
    content = opened(run)
    (level,) = content["latents"]["levels"]
    codes = draws_of(content)[0].astype(int)
    buttons = found(chromium, ".codes button")
    shown(chromium)
    assert [int(button.text) for button in buttons] == codes.tolist()
    buttons[6].click()
    found(chromium, ".sliders input")[0].send_keys(END)
    codes[6] = level["codes"] - 1
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), run.state)
    maps = {level["name"]: jnp.asarray(codes.reshape(1, *level["shape"]), jnp.int32)}
    image = run.plan.model.latents.decode(state, maps, {})["image"]
    np.testing.assert_allclose(shown(chromium), 255 * np.asarray(image)[0, :, :, 0], atol=NEAR)
    assert buttons[6].get_attribute("aria-pressed") == "true"
    assert int(buttons[6].text) == codes[6]


@pytest.mark.slow
def test_a_caption_is_read_as_the_vocabulary_reads_it(chromium, opened):
    run = in_memory("stackgan", seeds=(0,), **MODELS["stackgan"])
    content = opened(run)
    dataset, z = run.plan.dataset, draws_of(content)[0]
    field = found(chromium, "#caption")[0]
    for words, known in (("A RED circle", True), ("a zebra, a red zebra", False)):
        field.clear()
        field.send_keys(words)
        unknown = dataset.vocabulary.unknown(words)
        assert found(chromium, "#unknown")[0].text == (f"Read as unknown: {', '.join(unknown)}." if unknown else "")
        assert (unknown == []) == known
        ids = dataset.vocabulary.encode([words], dataset.spec.entries["caption"].shape[0])
        np.testing.assert_allclose(shown(chromium), levels(run, z, {"caption": jnp.asarray(ids)}), atol=NEAR)
    assert found(chromium, "summary")[0].text == f"The {len(dataset.vocabulary.words)} words that it knows"


def test_a_walk_is_moved_through_and_played(chromium, opened, monkeypatch):
    monkeypatch.setattr(lives, "SLOWEST", 0)
    run = in_memory("cgan", seeds=(0,))
    content = opened(run)
    assert content["kind"] == "walk"
    sprite = np.asarray(Image.open(io.BytesIO(base64.b64decode(content["seeds"][0]["images"]))))
    wait(chromium, "return document.querySelector('#place-text').textContent === '1 of 64'")
    found(chromium, "#place")[0].send_keys(HOME, RIGHT, RIGHT)
    found(chromium, "#choice option")[3].click()
    np.testing.assert_array_equal(shown(chromium), sprite[24:32, 16:24])
    assert found(chromium, "#place-text")[0].text == "3 of 64"
    assert "computed beforehand, since the model cannot run in a page" in found(chromium, "footer")[0].text
    found(chromium, "#play")[0].click()
    wait(chromium, "return document.querySelector('#place').value > 4")
    found(chromium, "#play")[0].click()
    place = int(found(chromium, "#place")[0].get_property("value"))
    np.testing.assert_array_equal(shown(chromium), sprite[24:32, 8 * place : 8 * place + 8])


@pytest.mark.slow
def test_the_page_runs_in_a_notebooks_frame(chromium, tmp_path):
    """The frame of docs/explore.md: the page as the srcdoc of an iframe."""
    page, _ = pages._fitting(in_memory("vae", seeds=(0,)))
    frame = f'<iframe srcdoc="{html.escape(page.decode())}" style="width: 100%; height: 900px; border: 0"></iframe>'
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><p>output</p>{frame}")
    chromium.get((tmp_path / "notebook.html").as_uri())
    chromium.switch_to.frame(0)
    try:
        assert float(wait(chromium, "return document.getElementById('checked').dataset.difference")) < 1e-3
    finally:
        chromium.switch_to.default_content()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stackgan", "vqvae2"])
def test_nothing_overflows(name, chromium, opened):
    opened(in_memory(name, **MODELS[name]))
    url = chromium.current_url
    try:
        for width, scheme in itertools.product((1280, 390), ("light", "dark")):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
            chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            chromium.get(url)
            wait(chromium, "return document.getElementById('checked').dataset.difference")
            assert chromium.execute_script("return innerWidth") == width
            assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
            wide = """return [...document.querySelectorAll("main *")].filter((element) =>
              element.getBoundingClientRect().right > innerWidth + 1)
              .map((element) => element.outerHTML.slice(0, 200))"""
            assert chromium.execute_script(wide) == []
            color = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert color == {"light": "rgb(253, 253, 252)", "dark": "rgb(21, 23, 26)"}[scheme]
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


UNNAMED = """return [...document.querySelectorAll("button, input, select, canvas")].filter((element) =>
  !element.getAttribute("aria-label") && !(element.labels && [...element.labels].some((label) =>
    [...label.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim())))
  && !(element.tagName === "BUTTON" && element.textContent.trim())).map((element) => element.outerHTML)"""
"""Controls without a label's own text, which the options of a select and the numbers beside a slider are not."""


def test_classes_are_chosen_and_every_control_has_a_name(chromium, opened):
    run = in_memory("cgan", seeds=(0,), features=16)
    z = draws_of(opened(run))[0]
    found(chromium, "#choice option")[7].click()
    np.testing.assert_allclose(shown(chromium), levels(run, z, {"label": jnp.array([7])}), atol=NEAR)
    assert chromium.execute_script(UNNAMED) == []
    chromium.execute_script("document.querySelector('#choice').parentElement.firstChild.remove()")
    assert [element.split(">")[0] for element in chromium.execute_script(UNNAMED)] == ['<select id="choice"']
