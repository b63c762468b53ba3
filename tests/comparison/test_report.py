import base64
import copy
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from jaxgen.comparison import report
from jaxgen.comparison.report import write_report
from jaxgen.errors import UserError
from jaxgen.pictures import image_grid

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The page's elements in order, as (tag, attributes, own and inner text); fails on unbalanced tags."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag, **attributes):
        """(attributes, text) of the elements of that tag that have these attributes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            (attrs, " ".join("".join(text).split()))
            for found, attrs, text in self.elements
            if found == tag and wanted.items() <= attrs.items()
        ]

    def cells(self, name):
        """The texts of the cells of the table row of that name."""
        rows = []
        for tag, _, text in self.elements:
            if tag == "tr":
                rows.append((" ".join("".join(text).split()), []))
            elif tag == "td":
                rows[-1][1].append(" ".join("".join(text).split()))
        (cells,) = [cells for text, cells in rows if text.startswith(name)]
        return cells


def images(seed, n=7):
    return np.random.default_rng(seed).integers(256, size=(n, 4, 4, 1)).astype(np.uint8)


@pytest.fixture
def results():
    return {
        "name": "digits",
        "title": "Two models on digits",
        "description": "Two models.\n\n    jaxgen compare experiments/digits.py\n\nA minute on\na laptop.\n",
        "command": "jaxgen compare experiments/digits.py",
        "dataset": {
            "name": "digits",
            "options": {"size": 8},
            "note": "Handwritten.",
            "fingerprint": "f1f2f3",
            "train": 898,
            "test": 1899,
        },
        "seeds": [10, 11, 12, 13, 14],
        "metrics": [
            {"key": "fd", "title": "FD-digits", "better": "lower", "digits": 2, "note": "899 samples."},
            {
                "key": "log_prob_binary",
                "title": "log p, binary digits",
                "better": "higher",
                "digits": 1,
                "note": "Binarised at 0.5.",
            },
        ],
        "rows": [
            {"name": "real against real", "kind": "real", "values": {"fd": [0.123]}, "note": "halves"},
            {
                "name": "vae",
                "kind": "trained",
                "title": "Auto-Encoding Variational Bayes",
                "steps": 1500,
                "seconds": 92.1,
                "values": {
                    "fd": [1.0, 2.0, 3.0, 4.0, 5.0],
                    "log_prob_binary": [-62.0, -61.0, -60.0, -59.0, -58.0],
                },
                "diverged": [],
                "digests": {"10": "ab12", "11": "cd34"},
                "notes": {"log_prob_binary": "bound, K=1"},
                "sampling": "means of p(x|z)",
                "config": {"latent_dim": 21},
            },
            {
                "name": "gan",
                "kind": "trained",
                "steps": 700,
                "values": {"fd": [7.0, 9.0, float("nan"), None, 71.25]},
                "diverged": [12, 14],
                "notes": {"log_prob_binary": "a GAN has no likelihood"},
            },
            {
                "name": "vae, untrained",
                "kind": "untrained",
                "values": {"fd": [801.5, 802.5, 803.5, 804.5, 805.5]},
            },
        ],
        "extractor": {"name": "digits classifier", "accuracy": 0.9713, "digest": "e1e2", "note": "64 units."},
        "judge": None,
        "environment": {"jax": "0.10.2", "device": "cpu"},
        "train_seconds": 412.3,
    }


@pytest.fixture
def pictures():
    return {
        "real": images(0),
        "vae": {seed: images(seed) for seed in (10, 11)},
        "gan": {10: images(1), 12: images(2)},
        "vae, untrained": {10: images(3)},
    }


@pytest.fixture
def curves():
    steps = np.array([0, 50, 100])
    return {
        "vae": {"loss": {10: (steps, np.array([0.0, 0.5, 1.0])), 11: (steps, np.array([1.0, 0.5, 0.5]))}},
        "gan": {"loss": {12: ([0, 50, 75, 100], [0.0, float("nan"), 0.5, 1.0])}},
    }


@pytest.fixture
def write(tmp_path, results, pictures, curves):
    """Writes the (changed) fixtures and returns the page's text."""
    return lambda: write_report(results, pictures, curves, tmp_path / "new" / "report.html").read_text()


def test_it_returns_the_path(results, pictures, curves, tmp_path):
    path = tmp_path / "a" / "b.html"
    assert write_report(results, pictures, curves, str(path)) == path
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_mean_interval_and_every_seed_by_hand(write):
    page = Page(write())
    # s^2 = 2.5, so that half the width is 2.776445 * sqrt(2.5 / 5) = 1.96324
    vae_fd, vae_log_prob = page.cells("vae Auto")
    assert vae_fd == "3.00 [1.04, 4.96] 1.00 2.00 3.00 4.00 5.00"
    assert vae_log_prob == "-60.0 [-62.0, -58.0] -62.0 -61.0 -60.0 -59.0 -58.0 bound, K=1"
    assert page.all("li", title="seed 13")[0][1] == "4.00"


def test_diverged_and_missing_seeds(write):
    page = Page(write())
    # 71.25 is a diverged seed's, finite and counted: the mean of 7, 9 and 71.25 is 29.0833, their
    # s is 36.5311 and t_2 at 97.5% is 4.302653, so that half the width is 90.7483
    gan_fd, gan_log_prob = page.cells("gan")
    assert gan_fd == "29.08 [-61.66, 119.83] n = 3: 2 of 5 missing or not finite 7.00 9.00 nan† — 71.25†"
    assert gan_log_prob == "— a GAN has no likelihood"
    assert page.all("span", title="a GAN has no likelihood")[0][1] == "—"
    text = page.all("main")[0][1]
    assert "gan, 2 of 5 (seeds 12 and 14)." in text
    assert "2 of 5 seeds diverged†" in text


def test_references_are_set_apart(write):
    page = Page(write())
    assert page.cells("real against real") == ["0.12", "— not measured"]  # no interval: it has no seeds
    assert page.cells("vae, untrained")[0] == "803.50 [801.54, 805.46] 801.50 802.50 803.50 804.50 805.50"
    assert [attrs["class"] for attrs, _ in page.all("tbody")] == ["real apart", "trained", "untrained apart"]


def test_one_seed_has_no_interval(write, results):
    results["seeds"] = [3]
    results["rows"] = [{"name": "vae", "kind": "trained", "values": {"fd": [-0.001]}}]
    # and what rounds to zero has no sign
    assert Page(write()).cells("vae")[0] == "0.00 one seed, no interval 0.00"


def test_words(write, results):
    text = Page(write()).all("main")[0][1]
    assert "The models vae and gan were trained on digits (size 8): 898 training and 1,899 test examples." in text
    assert "5 training seeds a model: 10, 11, 12, 13 and 14." in text
    assert "Steps of training: 1,500 (vae) and 700 (gan). Training took 7 min (device: cpu)." in text
    assert "accuracy 97.1%" in text
    assert "A minute on a laptop." in text
    for kept in (
        "f1f2f3",
        "e1e2",
        "ab12",
        "cd34",
        "0.10.2",
        '"latent_dim": 21',
        "899 samples.",
        "92.1\N{NO-BREAK SPACE}s",
    ):
        assert " ".join(kept.split()) in text
    # no verdict, and the name FID only for Inception's features
    for refused in ("better", "best", "winner", "significant", "FID"):
        assert refused not in text


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        # 2 / C(10, 5) = 0.00794 a pair
        (
            2,
            "the one pair in a column, the smallest p that an exact permutation test can reach is 0.0079.",
        ),
        (
            3,
            "3 pairs of models in a column, the smallest p that an exact permutation test can reach is 0.024",
        ),
        # 10 pairs: 0.079; with six seeds 20 / C(12, 6) = 0.0216
        (5, "is 0.079 after Holm’s correction; 6 seeds a model are the fewest that allow 0.05."),
    ],
)
def test_what_so_many_seeds_can_tell(write, results, models, expected):
    vae = results["rows"][1]
    results["rows"] = [{**vae, "name": f"vae {i}"} for i in range(models)]
    text = Page(write()).all("main")[0][1]
    assert expected in text
    assert ("Not enough seeds to tell" in text) == (models == 5)


def test_every_picture(write, pictures):
    pictures["gan"][10] = np.random.default_rng(5).integers(256, size=(60, 16, 16, 3)).astype(np.uint8)
    shown = {}
    for attrs, _ in Page(write()).all("img"):
        kind, data = attrs["src"].split(",")
        assert kind == "data:image/png;base64"
        shown[attrs["alt"]] = (np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), attrs)
    assert list(shown) == [
        "7 images: real images",
        "7 images: vae, seed 10",
        "7 images: vae, seed 11",
        "60 images: gan, seed 10",
        "7 images: gan, seed 12, diverged",
        "7 images: vae, untrained, seed 10",
    ]
    np.testing.assert_array_equal(
        shown["7 images: vae, seed 11"][0], image_grid(pictures["vae"][11], columns=7)[:, :, 0]
    )
    # ten columns of 16 pixels, each pixel two CSS pixels wide: 2 * (10 * 17 - 1)
    pixels, attrs = shown["60 images: gan, seed 10"]
    np.testing.assert_array_equal(pixels, image_grid(pictures["gan"][10], columns=10))
    assert (attrs["width"], attrs["height"]) == ("338", "202")


def test_nothing_is_loaded_from_outside(write):
    html = write()
    page = Page(html)
    for _, attrs, _ in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
            assert attrs.get(name, "data:").startswith("data:")
        assert "style" not in attrs
    assert not page.all("script")
    for refused in ("url(", "@import", "http://", "https://"):
        assert refused not in html
    # and a browser is told to load nothing
    ((policy, _),) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_html_in_names_is_escaped(write, results, pictures, curves):
    bad = "<script>alert(1)</script>\"'><img src=x>"
    results.update(title=bad, description=bad, command=bad, environment={bad: bad, "device": bad})
    results["dataset"].update(name=bad, note=bad, options={bad: bad}, fingerprint=bad)
    results["metrics"][0].update(title=bad, note=bad)
    results["extractor"].update(name=bad, digest=bad, note=bad)
    results["rows"][1].update(name=bad, title=bad, sampling=bad, note=bad, config={bad: bad}, digests={bad: bad})
    results["rows"][1]["notes"]["fd"] = bad
    pictures[bad] = pictures.pop("vae")
    curves[bad] = {bad: curves.pop("vae")["loss"]}
    page = Page(write())
    assert not page.all("script")
    assert not page.all("img", src="x")
    assert page.all("title")[0][1] == bad
    assert len(page.all("img")) == 8


def test_the_same_bytes_twice(results, pictures, curves, tmp_path):
    paths = [
        write_report(copy.deepcopy(results), copy.deepcopy(pictures), copy.deepcopy(curves), tmp_path / name)
        for name in ("a.html", "b.html")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_size_is_capped(write, monkeypatch, tmp_path):
    size = len(write().encode())
    assert size < 100_000
    assert report.MAX_BYTES == 20_000_000
    monkeypatch.setattr(report, "MAX_BYTES", size)
    write()
    monkeypatch.setattr(report, "MAX_BYTES", size - 1)
    (tmp_path / "new" / "report.html").unlink()
    with pytest.raises(UserError, match="give fewer pictures"):
        write()
    assert not (tmp_path / "new" / "report.html").exists()


def test_curves_by_hand(write):
    lines = [attrs["points"] for attrs, _ in Page(write()).all("polyline")]
    # the panel is 228 wide from 48 and 118 high up to 126; a margin of 4% makes the range -0.04 to 1.04:
    # 0 is at 126 - 118 * 0.04 / 1.08 = 121.6, 0.5 at 67 and 1 at 12.4
    assert lines[:2] == ["48.0,121.6 162.0,67.0 276.0,12.4", "48.0,12.4 162.0,67.0 276.0,67.0"]
    # broken at the value that is not finite; a point alone is a line to itself
    assert lines[2:] == ["48.0,121.6 48.0,121.6", "219.0,67.0 276.0,12.4"]


def test_a_spike_does_not_flatten_its_panel(write, curves):
    values = np.tile([1.0, 2.0], 500)
    values[300] = 1e30
    curves["gan"]["loss"] = {12: (np.arange(1000), values)}
    page = Page(write())
    (points,) = [attrs["points"] for attrs, _ in page.all("polyline") if "s2" in attrs["class"]]
    heights = [float(y) for y in re.findall(r",(\S+)", points)]
    # 1 and 2 stay apart (the panel's range is 1 to 3), and the spike leaves the panel at its top
    assert max(heights) - sorted(heights)[1] > 40
    assert min(heights) < report.PANEL_TOP
    assert len(heights) <= 600
    assert "1 values outside the panel" in page.all("main")[0][1]


def test_interval_plot_by_hand(write, results):
    results["rows"][2:3] = []
    page = Page(write())
    # the range holds real and trained seeds and intervals, 0.123 to 5, with a margin of 5%
    width = 1.1 * (5 - 0.123)
    low = 0.123 - 0.05 * (5 - 0.123)
    dots = [float(attrs["cx"].rstrip("%")) for attrs, _ in page.all("circle")]
    expected = [100 * (value - low) / width for value in (0.123, 1, 2, 3, 4, 5)]
    assert dots[:6] == pytest.approx(expected, abs=0.006)
    bars = [float(attrs["x1"].rstrip("%")) for attrs, _ in page.all("line", class_="bar")]
    assert bars[0] == pytest.approx(100 * (3 - 1.96324 - low) / width, abs=0.006)
    # the untrained model is far outside, which is said
    assert "803.50 [801.54, 805.46] 5 outside →" in page.all("main")[0][1]


def test_least_input(write, results, pictures, curves):
    pictures.clear()
    curves.clear()
    results["rows"] = []
    results["metrics"] = []
    results["extractor"] = None
    assert "No model was trained" in Page(write()).all("main")[0][1]


def test_a_value_a_seed_is_demanded(write, results):
    results["rows"][1]["values"]["fd"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="row 'vae' has 2 values of fd for 5 seeds"):
        write()


def test_an_unknown_kind_is_refused(write, results):
    results["rows"][1]["kind"] = "pretrained"
    with pytest.raises(ValueError, match="row 'vae' is of kind 'pretrained'"):
        write()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-3, 17, ["0", "5", "10", "15"]),
        (0.0101, 0.0119, ["0.0105", "0.0110", "0.0115"]),
        (-2e7, 2e7, ["-2e+07", "-1e+07", "0", "1e+07", "2e+07"]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert [text for _, text in report._ticks(low, high, 6)] == expected
