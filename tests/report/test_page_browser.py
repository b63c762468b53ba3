"""A comparison's page in a real browser: Debian's chromium, headless and offline."""

import contextlib
import json
import shutil

import pytest

from jaxgen.report.page import write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium comes with the extra test")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium and chromedriver here")

FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
GAN = "dcgan, with a wider generator"


@contextlib.contextmanager
def browser(profile, scripts=True):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def url(made_up, tmp_path_factory):
    return write_report(*made_up, tmp_path_factory.mktemp("page") / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(chromium, url):
    chromium.set_window_size(1280, 900)
    chromium.get(url)
    return chromium


def found(where, selector):
    return where.find_elements("css selector", selector)


def column(page, number):
    """Returns a column of the first dataset's table by group: (class, [(row name, value or None)])."""
    table = found(page, ".scores table")[0]
    return {
        body.get_attribute("class").split()[0]: [
            (
                row.find_element("css selector", "th").get_attribute("data-value"),
                found(row, "th, td")[number].get_attribute("data-value"),
            )
            for row in found(body, "tr:not(.group)")
        ]
        for body in found(table, "tbody")
    }


def header(page, number):
    return found(found(page, ".scores table")[0], "thead button")[number]


def sort_order(page, number):
    return found(found(page, ".scores table")[0], "thead th")[number].get_attribute("aria-sort")


def test_a_click_sorts_by_value_both_ways_and_back(page):
    before = column(page, 1)
    assert [len(rows) for rows in before.values()] == [1, 3, 3]
    assert list(before) == ["real", "trained", "untrained"]
    for order, sign in (("ascending", 1), ("descending", -1)):
        header(page, 1).click()
        assert sort_order(page, 1) == order
        after = column(page, 1)
        assert list(after) == list(before)  # groups stay separate and in place
        for kind, rows in after.items():
            assert rows == sorted(before[kind], key=lambda row: sign * float(row[1]))
    assert column(page, 1)["trained"] != before["trained"]
    header(page, 1).click()
    assert sort_order(page, 1) == "none"
    assert column(page, 1) == before


def test_names_sort_too_and_rows_without_a_value_come_last(page):
    header(page, 0).click()
    assert [name for name, _ in column(page, 0)["trained"]] == [GAN, "naive_bayes", "vae"]
    for expected in (["naive_bayes", "vae", GAN], ["vae", "naive_bayes", GAN]):  # the GAN has no likelihood
        header(page, 4).click()
        assert sort_order(page, 0) == "none"
        assert [name for name, _ in column(page, 4)["trained"]] == expected
    assert column(page, 4)["trained"][-1] == (GAN, None)


@pytest.mark.parametrize("key", ["\ue007", " "])  # Enter and Space
def test_the_keyboard_sorts(page, key):
    header(page, 2).send_keys(key)
    assert sort_order(page, 2) == "ascending"
    values = [float(value) for _, value in column(page, 2)["trained"]]
    assert values == sorted(values)


def test_every_seeds_value_on_hover_and_expanded(page):
    cell = found(page, ".scores tbody.trained td")[0]
    values = cell.get_attribute("title").split("\n")
    assert [value.partition(":")[0] for value in values] == [f"seed {seed}" for seed in range(5)]
    first = cell.find_element("css selector", ".seeds")
    scores = page.find_element("css selector", ".scores")
    assert not any(seeds.is_displayed() for seeds in found(scores, ".seeds"))
    scores.find_element("css selector", ".expand input").click()
    assert all(seeds.is_displayed() for seeds in found(scores, ".seeds"))
    assert first.text.split() == [value.partition(": ")[2] for value in values]


def shown(page, gallery=0):
    """Returns the alternative texts of the images shown in the first dataset's gallery."""
    section = found(page, ".pictures")[0]
    return [
        image.get_attribute("alt") for image in found(found(section, ".arms")[gallery], "img") if image.is_displayed()
    ]


def test_the_slider_moves_every_arm(page):
    at_end = shown(page)
    assert at_end == [
        "60 real examples",
        "samples of naive_bayes, seed 0, step 1,500",
        "samples of vae, seed 0, step 1,500",
        f"samples of {GAN}, seed 0, step 1,200",
    ]
    slider = found(page, ".pictures input[type=range]")[0]
    slider.send_keys("\ue011")  # Home
    assert shown(page) == [
        "60 real examples",
        *(f"samples of {name}, seed 0, step 0" for name in ("naive_bayes", "vae", GAN)),
    ]
    assert found(page, ".pictures output")[0].text == "0"
    # 0, 400, 500, 800, 1000, 1200, 1500 are the arms' steps: each arm shows its latest one up to there
    for _ in range(3):
        slider.send_keys("\ue014")  # to the right
    assert found(page, ".pictures output")[0].text == "800"
    assert slider.get_attribute("aria-valuetext") == "step 800"
    assert shown(page)[1:] == [
        "samples of naive_bayes, seed 0, step 0",
        "samples of vae, seed 0, step 500",
        f"samples of {GAN}, seed 0, step 800",
    ]
    captions = [caption.text for caption in found(page, ".pictures figure.steps figcaption") if caption.is_displayed()]
    assert captions[:3] == ["seed 0, step 0", "seed 0, step 500", "seed 0, step 800"]
    # the pixels change
    sources = {image.get_attribute("src") for image in found(page, "figure.steps[data-seed='0'] img")[:2]}
    assert len(sources) == 2


def test_a_seed_is_chosen_for_all_galleries(page):
    choices = found(found(page, ".pictures")[0], "input[type=radio]")
    assert [choice.get_attribute("value") for choice in choices] == ["0", "1", "2", "3", "4", "all"]
    choices[3].click()
    assert shown(page)[1:] == [
        "samples of naive_bayes, seed 3, step 1,500",
        "samples of vae, seed 3, step 1,500",
        f"samples of {GAN}, seed 3, step 1,200",
    ]
    assert found(page, ".pictures figure[data-seed='3'] figcaption")[2].text == "seed 3, diverged†, step 1,200"
    for gallery in (1, 2, 3):
        assert shown(page, gallery)
        assert all("seed 3" in alt for alt in shown(page, gallery))
    choices[5].click()
    assert len(shown(page)) == 1 + 3 * 5


def test_no_errors_and_nothing_is_fetched(page, url):
    page.get_log("performance")  # discards requests of the browser's own first page
    page.get(url)
    found(page, ".pictures input[type=range]")[0].send_keys("\ue011")
    header(page, 1).click()
    assert page.get_log("browser") == []
    entries = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [entry for entry in entries if not entry.startswith("data:")] == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requested = {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }
    assert url in requested
    assert {address for address in requested if not address.startswith("data:")} == {url}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(page, url, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    # the minimum width of a window exceeds a phone's
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.get(url)
        page.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")
        for choice in found(page, "input[value=all], .expand input"):
            choice.click()
        assert page.execute_script("return innerWidth") == width
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        # wider content scrolls in its own box
        wide = """return [...document.querySelectorAll("main *")].filter((element) =>
          element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll > *, svg svg"))
          .map((element) => element.outerHTML.slice(0, 200))"""
        assert page.execute_script(wide) == []
        color = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert color == {"light": "rgb(253, 253, 252)", "dark": "rgb(21, 23, 26)"}[scheme]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
def test_without_scripts_all_is_there_but_the_controls(url, tmp_path):
    with browser(tmp_path / "profile", scripts=False) as driver:
        driver.get(url)
        assert found(driver, "html.js") == []
        last = [f"samples of naive_bayes, seed {seed}, step 1,500" for seed in range(5)]
        last += [f"samples of vae, seed {seed}, step 1,500" for seed in range(5)]
        last += [f"samples of {GAN}, seed {seed}, step 1,200" for seed in range(5)]
        assert shown(driver)[1:] == last
        assert not found(driver, ".controls")[0].is_displayed()
        assert "4 comparisons were declared beforehand" in found(driver, "main")[0].text
        found(driver, ".expand input")[0].click()
        assert found(driver, ".scores .seeds")[0].is_displayed()
