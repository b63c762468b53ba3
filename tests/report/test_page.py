import base64
import copy
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxgen import report
from jaxgen.cli.tables import scores_tables
from jaxgen.drawing import image_grid, to_png
from jaxgen.errors import UserError
from jaxgen.provenance import credentials
from jaxgen.provenance import keys as signers
from jaxgen.report import galleries, plots
from jaxgen.report.page import write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements of the page in order, as (tag, attributes, own and inner text); fails on unbalanced tags."""

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
        """Returns (attributes, text) of all elements with this tag and these attributes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            (attrs, " ".join("".join(text).split()))
            for found, attrs, text in self.elements
            if found == tag and wanted.items() <= attrs.items()
        ]

    def cells(self, name, number=None):
        """Returns the texts of the cells in the table row of that name, or in one of several such rows."""
        rows = []
        for tag, _, text in self.elements:
            if tag == "tr":
                rows.append((" ".join("".join(text).split()), []))
            elif tag == "td":
                rows[-1][1].append(" ".join("".join(text).split()))
        found = [cells for text, cells in rows if text.startswith(name)]
        assert number is not None or len(found) == 1
        return found[number or 0]


def images(seed, n=7):
    return np.random.default_rng(seed).integers(256, size=(n, 4, 4, 1)).astype(np.uint8)


@pytest.fixture
def table():
    return {
        "label": "digits",
        "dataset": {
            "name": "digits",
            "options": {"size": 8},
            "note": "Handwritten.",
            "fingerprint": "f1f2f3",
            "train": 898,
            "test": 1899,
        },
        "samples": 898,
        "scoring": {"metrics": ["fd", "iwae"], "extractor": None},
        "metrics": [
            {"key": "fd", "title": "FD-digits", "better": "lower", "digits": 2, "note": "899 samples."},
            {
                "key": "log_prob_binary",
                "title": "log p, binary digits",
                "better": "higher",
                "digits": 1,
                "note": "Binarized at 0.5.",
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
                "run": "digits/vae",
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
        "left_out": {},
        "warnings": [],
    }


@pytest.fixture
def results(table):
    return {
        "name": "digits",
        "title": "Two models on digits",
        "description": "Two models.\n\n    jaxgen compare experiments/digits.py\n\nA minute on\na laptop.\n",
        "command": "jaxgen compare experiments/digits.py",
        "checkpoint": "the last checkpoint of every seed",
        "seeds": [10, 11, 12, 13, 14],
        "tables": [table],
        "verdicts": [],
        "across": None,
        "tuning": [],
        "environment": {"jax": "0.10.2", "device": "cpu"},
        "train_seconds": 412.3,
    }


@pytest.fixture
def curves():
    steps = np.array([0, 50, 100])
    return {
        "vae": {"loss": {10: (steps, np.array([0.0, 0.5, 1.0])), 11: (steps, np.array([1.0, 0.5, 0.5]))}},
        "gan": {"loss": {12: ([0, 50, 75, 100], [0.0, float("nan"), 0.5, 1.0])}},
    }


@pytest.fixture
def pictures(curves, tmp_path):
    """Grids with 2 rows of 3 images of 4x4 pixels, enlarged twofold; the GAN's rows are two classes."""

    def progress(seed, steps):
        files = {step: tmp_path / f"{seed}-{step}.png" for step in steps}
        for step, file in files.items():
            file.write_bytes(to_png(image_grid(images(1000 * seed + step, 6), 3), 2))
        return files

    pairs = np.stack([images(3, 3), images(4, 3)])
    return {
        "digits": {
            "real": images(0),
            "curves": curves,
            "rows": {
                "vae": {
                    "progress": {seed: progress(seed, (0, 500, 1500)) for seed in (10, 11)},
                    "columns": 3,
                    "classes": None,
                    "interpolation": {10: pairs},
                    "path_labels": None,
                    "nearest": {10: (images(5, 12), images(6, 12))},
                    "captioned": {11: images(9, 1)[0]},
                },
                "gan": {
                    "progress": {12: progress(12, (0, 700))},
                    "columns": 3,
                    "classes": ["ship", "aeroplane"],
                    "interpolation": None,
                    "path_labels": None,
                    "nearest": None,
                },
            },
        }
    }


@pytest.fixture
def write(results, pictures, tmp_path):
    """Function that writes the page of the fixtures in their current state and returns its text."""
    return lambda: write_report(results, pictures, tmp_path / "new" / "page.html").read_text()


def test_it_returns_the_path(results, pictures, tmp_path):
    path = tmp_path / "a" / "b.html"
    assert write_report(results, pictures, str(path)) == path
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_mean_interval_and_every_seed_by_hand(write):
    page = Page(write())
    # s^2 = 2.5, so half the width is 2.776445 * sqrt(2.5 / 5) = 1.96324
    vae_fd, vae_log_prob = page.cells("vae 1,500")
    assert vae_fd == "3.00 [1.04, 4.96] 1.00 2.00 3.00 4.00 5.00"
    assert vae_log_prob == "-60.0 [-62.0, -58.0] -62.0 -61.0 -60.0 -59.0 -58.0 bound, K=1"
    assert page.all("li", title="seed 13")[0][1] == "4.00"


def test_diverged_and_missing_seeds(write):
    page = Page(write())
    # 71.25 is a diverged seed's finite score, which counts: the mean of 7, 9 and 71.25 is 29.0833, their
    # s is 36.5311 and t_2 at 97.5% is 4.302653, so half the width is 90.7483
    gan_fd, gan_log_prob = page.cells("gan")
    assert gan_fd == "29.08 [-61.66, 119.83] n = 3 of 5 7.00 9.00 nan† — 71.25†"
    assert gan_log_prob == "— a GAN has no likelihood"
    assert page.all("span", title="a GAN has no likelihood")[0][1] == "—"
    text = page.all("main")[0][1]
    assert "gan, 2 of 5 (seeds 12 and 14)." in text
    assert "2 of 5 seeds diverged†" in text


def test_numbers_that_mislead_are_marked(write, table):
    table["rows"][1]["doubts"] = {"fd": "too low (seed 12)"}
    table["warnings"] = ["vae: FD-digits: too low (seed 12)"]
    page = Page(write())
    fd, log_prob = page.cells("vae", 0)
    assert fd.startswith("3.00* [")
    assert fd.endswith("*too low (seed 12)")
    assert "*" not in log_prob
    assert "Warning: vae: FD-digits: too low (seed 12)." in page.all("main")[0][1]


def test_references_are_set_apart(write):
    page = Page(write())
    assert page.cells("real against real") == ["0.12", "— not measured"]  # no interval without seeds
    assert page.cells("vae, untrained")[0] == "803.50 [801.54, 805.46] 801.50 802.50 803.50 804.50 805.50"
    assert [attrs["class"] for attrs, _ in page.all("tbody") if "class" in attrs] == [
        "real apart",
        "trained",
        "untrained apart",
    ]


def test_one_seed_has_no_interval(write, results, table):
    results["seeds"] = [3]
    table["rows"] = [{"name": "vae", "kind": "trained", "values": {"fd": [-0.001]}}]
    # a value that rounds to zero has no sign
    assert Page(write()).cells("vae")[0] == "0.00 one seed, no interval 0.00"


def test_a_rate_has_the_interval_of_a_count(write, results, table):
    table["metrics"] = [
        {"key": "collapsed", "title": "collapsed", "better": "lower", "digits": 2, "note": "", "rate": True}
    ]
    table["rows"] = [{"name": "vae", "kind": "trained", "values": {"collapsed": [0, 0, 0, 0, 0]}}]
    # none of five: up to 1 - .025^(1/5)
    assert Page(write()).cells("vae")[0].startswith("0.00 [0.00, 0.52]")
    console = Console(width=100, file=io.StringIO())
    console.print(*scores_tables(results | table | {"dataset": {"test": 1}, "warnings": []}, console))
    assert "0.00 [0.00, 0.52]" in console.file.getvalue()


def test_a_score_that_a_seed_has_not_is_none_in_the_terminal():
    """A seed may have no score without having diverged, e.g. a KL over modes if no sample is near one."""
    metric = {"key": "modes_kl", "title": "KL", "better": "lower", "digits": 2, "group": "samples"}
    row = {"name": "wgan_gp", "kind": "trained", "values": {"modes_kl": [0.5, None, 1.5]}, "diverged": []}
    console = Console(width=100, file=io.StringIO())
    results = {
        "metrics": [metric],
        "rows": [row],
        "seeds": [0, 1, 2],
        "samples": 9,
        "dataset": {"test": 1},
        "left_out": {},
        "warnings": [],
    }
    console.print(*scores_tables(results, console))
    assert "0.50 none 1.50" in console.file.getvalue()
    assert "diverged" not in console.file.getvalue()


def test_words(write):
    text = Page(write()).all("main")[0][1]
    assert "Trained on digits (size 8): 898 training and 1,899 test examples. Handwritten." in text
    assert "5 training seeds a model: 10, 11, 12, 13 and 14." in text
    assert "Checkpoint scored: the last checkpoint of every seed. Training took 7 min (device: cpu)." in text
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
        "1,500 steps, 92.1\N{NO-BREAK SPACE}s",
        "digits/vae",
        "metricsfd, iwae",
        "Scores are of 898 samples a seed.",
        "Auto-Encoding Variational Bayes",
        "samples: means of p(x|z)",
    ):
        assert " ".join(kept.split()) in text
    # without declared comparisons there is no claim; only Inception's features give a FID
    assert "No comparison was declared beforehand, so this page tests no difference" in text
    for refused in ("best", "winner", "significant", "FID"):
        assert refused not in text


def declared(verdict, **changed):
    whole = {"a": "gan", "b": "vae", "metric": "FD-digits", "table": "digits", "paired": False, "verdict": verdict}
    whole |= {"sentence": f"A sentence: {verdict}.", "p": 0.0079365, "p_holm": 0.015873, "needed": 6}
    return whole | {"effect": 25.7251, "low": 15.4, "high": 36.0} | changed


def test_verdicts_come_first_and_as_declared(write, results):
    results["verdicts"] = [
        declared("not enough seeds to tell", low=None, high=None),
        declared("worse", paired=True),
        declared("no difference can be told"),
        declared("better"),
    ]
    page = Page(write())
    assert [attrs["id"] for attrs, _ in page.all("h2")][:2] == ["verdict", "table-1"]
    text = page.all("main")[0][1]
    assert (
        "4 comparisons were declared beforehand: there is a difference in 2; no difference can be told in 1; "
        "there are not enough seeds to tell in 1."
    ) in text
    assert "tests no difference" not in text
    shown = [(attrs["data-verdict"], text) for attrs, text in page.all("li") if "data-verdict" in attrs]
    assert shown == [
        ("not enough seeds to tell", "too few seeds A sentence: not enough seeds to tell."),
        ("worse", "a difference A sentence: worse."),
        ("no difference can be told", "no difference told A sentence: no difference can be told."),
        ("better", "a difference A sentence: better."),
    ]
    assert page.cells("gan against vae", 0) == [
        "FD-digits", "25.7", "—", "0.0079", "0.016", "unpaired", "6", "not enough seeds to tell",
    ]  # fmt: skip
    assert page.cells("gan against vae", 1)[2:6] == ["[15.4, 36.0]", "0.0079", "0.016", "paired"]
    assert "4 comparisons" in text
    assert "2 of 5 (seeds 12 and 14)" in text


@pytest.mark.parametrize("verdict", report.page.VERDICTS)
def test_one_verdict(write, results, verdict):
    results["verdicts"] = [declared(verdict)]
    assert (
        f"One comparison was declared beforehand: {report.page.VERDICTS[verdict][1]}."
        in Page(write()).all("main")[0][1]
    )


def test_several_tables(write, results, table):
    other = copy.deepcopy(table) | {"label": "shapes", "rows": table["rows"][1:2]}
    other["rows"][0]["values"] = {"fd": [11.0, 12.0, 13.0, 14.0, 15.0]}
    results["tables"].append(other)
    rows = [{"name": name, "interquartile_mean": 8.123456, "low": low, "high": 12.0, "n_runs": 5, "n_tasks": 2}
            for name, low in (("vae", 4.0), ("gan", float("-inf")))]  # fmt: skip
    results["across"] = [{"metric": "FD", "better": "lower", "rows": rows}]
    results["verdicts"] = [declared("better", table=None), declared("worse", table="shapes")]
    page = Page(write())
    assert page.cells("vae", 0) == ["8.123 [4.000, 12.00] 5 seeds, 2 datasets"]
    assert page.cells("vae 1,500", 1)[0] == "13.00 [11.04, 14.96] 11.00 12.00 13.00 14.00 15.00"
    assert [text for attrs, text in page.all("li") if "data-verdict" in attrs] == [
        "a difference A sentence: better. over all datasets",
        "a difference A sentence: worse. shapes",
    ]
    text = page.all("main")[0][1]
    assert "Diverged on digits: gan, 2 of 5 (seeds 12 and 14). No seed diverged on shapes." in text
    # the bar without a finite end appears only in the table: 4 to 12 with 5% on either side
    bars = [(attrs["x1"], attrs["x2"]) for attrs, _ in page.all("line", class_="bar")][:2]
    assert bars[0] == ("4.55%", "95.45%")


def test_tuning(write, results):
    trials = [
        {"config": {"rate": 1e-3, "width": 64}, "value": 17.81, "seconds": 61.0, "steps": 1200, "chosen": True},
        {"config": {"rate": 1e-2, "width": 64}, "value": None, "seconds": 42.0, "steps": 300, "chosen": False},
    ]
    results["tuning"] = [
        {"arm": "gan", "table": "digits", "metric": "FD-digits", "trials": trials, "seconds": 103.0, "runs": 2,
         "split": "validation"}
    ]  # fmt: skip
    page = Page(write())
    text = page.all("main")[0][1]
    assert "2 trials, 2 runs, 103.0 s; by FD-digits on the validation split." in text
    assert page.cells("rate 0.001") == ["rate 0.001, width 64 (chosen)", "17.81", "1,200", "61.0 s"]
    assert page.cells("rate 0.01") == ["rate 0.01, width 64", "—", "300", "42.0 s"]


def pixels(attrs):
    """Decodes a gray image of the page to uint8 [H, W]."""
    kind, data = attrs["src"].split(",")
    assert kind in ("data:image/webp;base64", "data:image/png;base64")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert (image == image[:, :, :1]).all()
    return image[:, :, 0]


def grid(images, columns):
    return image_grid(images, columns)[:, :, 0]


def test_every_picture(write, pictures):
    page = Page(write())
    shown = {attrs["alt"]: attrs for attrs, _ in page.all("img")}
    assert len(shown) == len(page.all("img")) == 1 + 3 + 3 + 2 + 3 + 1 + 1 + 1
    rows, real = pictures["digits"]["rows"], pictures["digits"]["real"]
    assert shown["7 real examples"]["width"] == "112"  # 8 * (3 * 5 - 1): pixels as large as the samples'
    np.testing.assert_array_equal(pixels(shown["7 real examples"]), grid(real, 3))
    for name, seed, step in (("vae", 10, 0), ("vae", 11, 500), ("vae", 10, 1500), ("gan", 12, 700)):
        attrs = shown[f"samples of {name}, seed {seed}, step {step:,}"]
        saved = np.asarray(Image.open(rows[name]["progress"][seed][step]))
        np.testing.assert_array_equal(pixels(attrs), saved)
        assert (attrs["width"], attrs["height"]) == ("28", "18")  # as saved, 2 * (3 * 5 - 1)
        assert ("hidden" in attrs) == (step not in (700, 1500))  # without scripts, the last step
    np.testing.assert_array_equal(
        pixels(shown["interpolations of vae, seed 10"]), grid(np.concatenate([images(3, 3), images(4, 3)]), 3)
    )
    np.testing.assert_array_equal(
        pixels(shown["test images above the captions that vae, seed 11, writes"]), images(9, 1)[0, :, :, 0]
    )
    # 12 pairs make ten and two
    samples, neighbors, blank = images(5, 12), images(6, 12), np.full((8, 4, 4, 1), 128, np.uint8)
    pairs = np.concatenate([samples[:10], neighbors[:10], samples[10:], blank, neighbors[10:], blank])
    np.testing.assert_array_equal(
        pixels(shown["samples of vae, seed 10, and below each its nearest training image"]), grid(pairs, 10)
    )


def test_strips_show_one_noise_a_column(write):
    page = Page(write())
    shown = {attrs["alt"]: pixels(attrs) for attrs, _ in page.all("img")}
    steps = [images(10_000 + step, 6)[:3] for step in (0, 500, 1500)]  # the upper row
    np.testing.assert_array_equal(shown["vae, seed 10: the same noise, by step"], grid(np.concatenate(steps), 3))
    # in a grid of classes, the first image of each: the 1st and the 4th
    steps = [images(12_000 + step, 6)[::3] for step in (0, 700)]
    np.testing.assert_array_equal(shown["gan, seed 12: the same noise, by step"], grid(np.concatenate(steps), 2))
    labels = [text for attrs, text in page.all("div", class_="labels")]
    assert labels == ["shipaeroplane", "05001,500", "05001,500", "0700", "samplenearestsamplenearest"]


def test_a_diverged_seed_is_marked_at_its_pictures(write):
    captions = [text for _, text in Page(write()).all("figcaption")]
    assert "seed 12, diverged†, step 700" in captions
    assert "seed 10, step 1,500" in captions


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (2, [0, 90]),
        (3, [0, 40, 90]),
        (4, [0, 30, 60, 90]),
        (10, list(range(0, 100, 10))),
        (99, list(range(0, 100, 10))),
    ],
)
def test_steps_are_thinned_evenly(most, expected):
    assert galleries.thinned(list(range(0, 100, 10)), most) == expected


def test_nothing_is_loaded_from_outside(write):
    html = write()
    page = Page(html)
    for _, attrs, _ in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
            assert attrs.get(name, "data:").startswith(("data:", "#"))
        assert "style" not in attrs
    for refused in ("url(", "@import", "http://", "https://"):
        assert refused not in html
    # and a browser is told to load nothing, and to run and apply only what the page itself contains
    (script,), (style,) = (re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL) for tag in ("script", "style"))
    known = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    ((policy, _),) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == (
        f"default-src 'none'; script-src 'sha256-{known[0]}'; style-src 'sha256-{known[1]}'; img-src data:"
    )


def test_html_in_names_is_escaped(write, results, table, pictures):
    bad = "<script>alert(1)</script>\"'><img src=x>"
    results.update(title=bad, description=bad, command=bad, checkpoint=bad, environment={bad: bad, "device": bad})
    results["verdicts"] = [declared("better", a=bad, b=bad, metric=bad, sentence=bad)]
    trial = {"config": {bad: bad}, "value": 1.0, "seconds": 1.0, "steps": 1, "chosen": True}
    results["tuning"] = [
        {"arm": bad, "table": bad, "metric": bad, "trials": [trial], "seconds": 1.0, "runs": 1, "split": bad}
    ]
    table["label"] = bad
    table["scoring"] = {bad: bad}
    table["dataset"].update(name=bad, note=bad, options={bad: bad}, fingerprint=bad)
    table["metrics"][0].update(title=bad, note=bad)
    table["extractor"].update(name=bad, digest=bad, note=bad)
    table["rows"][1].update(name=bad, title=bad, sampling=bad, note=bad, config={bad: bad}, digests={bad: bad}, run=bad)
    table["rows"][1]["notes"]["fd"] = bad
    pictures[bad] = of = pictures.pop("digits")
    of["rows"][bad] = of["rows"].pop("vae") | {"classes": [bad, bad]}
    of["curves"] = {bad: {bad: of["curves"]["vae"]["loss"]}}
    page = Page(write())
    assert len(page.all("script")) == 1
    assert not page.all("img", src="x")
    assert page.all("title")[0][1] == bad
    assert len(page.all("img")) == 15


def test_the_same_bytes_twice(results, pictures, tmp_path):
    paths = [
        write_report(copy.deepcopy(results), copy.deepcopy(pictures), tmp_path / name) for name in ("a.html", "b.html")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Keys of a signer."""
    pytest.importorskip("c2pa", reason="c2pa-python comes with the extra provenance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_KEYS_DIR", str(tmp_path_factory.mktemp("keys") / "own"))
        signers.make(signers.keys_dir())
        return signers.own_keys()


def files(page):
    """Content of the pictures of a page, in order."""
    return [base64.b64decode(attrs["src"].partition(",")[2]) for attrs, _ in page.all("img")]


def chunks(riff):
    """Map from name to content of the chunks of a WebP file."""
    found, at = {}, 12
    while at < len(riff):
        size = int.from_bytes(riff[at + 4 : at + 8], "little")
        found[riff[at : at + 4]], at = riff[at + 8 : at + 8 + size], at + 8 + size + size % 2
    return found


def webp(found):
    """A WebP file of these chunks."""
    parts = [name + len(of).to_bytes(4, "little") + of + bytes(len(of) % 2) for name, of in found.items()]
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(content).to_bytes(4, "little") + content


def test_every_picture_is_signed(results, pictures, write, keys, tmp_path):
    """A picture saved from the page is trusted, shows the same, and says which arm, seed and step it is of."""
    results["tables"][0]["rows"][1] |= {"model": "vae_model", "checkpoints": [500, 1000, 1500, 1500, 1500]}
    plain = Page(write())
    assert "is signed" not in plain.all("main")[0][1]
    page = Page(write_report(results, pictures, tmp_path / "signed.html", keys).read_text())
    assert "Every picture is signed" in page.all("main")[0][1]
    checked = [credentials.check(content, keys.root) for content in files(page)]
    assert {found.state for found in checked} == {credentials.TRUSTED}
    for one, two in zip(files(plain), files(page), strict=True):
        assert 2500 < len(two) - len(one) < 4500
        np.testing.assert_array_equal(*(np.asarray(Image.open(io.BytesIO(of))) for of in (one, two)))
    described = [found.described for found in checked]
    names = ("kind", "model", "arm", "seed", "step", "parameters_sha256")
    assert [tuple(of.get(name) for name in names) for of in described] == [
        ("page real examples", None, None, None, None, None),
        *(("page samples", "vae_model", "vae", seed, step, None) for seed in (10, 11) for step in (0, 500, 1500)),
        *(("page samples", "gan", "gan", 12, step, None) for step in (0, 700)),
        *(("page strips", "vae_model", "vae", seed, None, None) for seed in (10, 11)),
        ("page strips", "gan", "gan", 12, None, None),
        ("page interpolations", "vae_model", "vae", 10, 500, "ab12"),
        ("page captioned", "vae_model", "vae", 11, 1000, "cd34"),
        ("page nearest", "vae_model", "vae", 10, 500, "ab12"),
    ]
    for of in described:
        assert (of["comparison"], of["dataset"]) == ("digits", {"name": "digits", "fingerprint": "f1f2f3"})
    made, mixed = b"trainedAlgorithmicMedia", b"compositeWithTrainedAlgorithmicMedia"
    origin = re.compile(b"digitalsourcetype/(" + b"|".join((mixed, b"composite", made)) + b")")
    assert [origin.search(content)[1] for content in files(page)] == [b"composite", *[made] * 12, mixed, mixed]


def test_one_changed_pixel_breaks_a_picture_of_the_page(results, pictures, keys, tmp_path):
    content = files(Page(write_report(results, pictures, tmp_path / "signed.html", keys).read_text()))[1]
    pixels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    assert webp(chunks(content)) == content
    pixels[0, 0] ^= 1
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    forged = webp(chunks(content) | {b"VP8L": chunks(file.getvalue())[b"VP8L"]})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(forged)).convert("RGB")), pixels)
    found = credentials.check(forged, keys.root)
    assert found.state == credentials.BROKEN
    assert "assertion.dataHash.mismatch" in found.reason


def test_a_signed_page_is_capped_too(results, pictures, keys, monkeypatch, tmp_path):
    """The signatures count: one of the VAE's three steps is left out, and then too many remain."""
    path = tmp_path / "signed.html"
    size = write_report(results, pictures, path, keys).stat().st_size
    monkeypatch.setattr(report.page, "MAX_BYTES", size - 2000)
    page = Page(write_report(results, pictures, path, keys).read_text())
    assert len(page.all("img")) == 13
    assert "3 of the 4 saved steps are shown" in page.all("main")[0][1]
    monkeypatch.setattr(report.page, "MAX_BYTES", size // 2)
    with pytest.raises(UserError, match="or leave --sign out"):
        write_report(results, pictures, path, keys)


def test_the_size_is_capped(results, monkeypatch, tmp_path):
    assert report.page.MAX_BYTES == 20_000_000
    rng = np.random.Generator(np.random.Philox(1))
    files = {step: tmp_path / f"{step}.png" for step in range(0, 100, 10)}
    for file in files.values():  # noise, which WebP cannot compress either
        file.write_bytes(to_png(rng.integers(256, size=(99, 99, 3)).astype(np.uint8)))
    row = {
        "progress": {10: files},
        "columns": 1,
        "classes": None,
        "interpolation": None,
        "path_labels": None,
        "nearest": None,
    }
    pictures = {"digits": {"rows": {"vae": row}}}

    def steps(most):
        monkeypatch.setattr(report.page, "MAX_BYTES", most)
        page = Page(write_report(results, pictures, tmp_path / "capped.html").read_text())
        assert (tmp_path / "capped.html").stat().st_size <= most
        return [int(attrs["data-step"]) for attrs, _ in page.all("img")], page

    whole, page = steps(20_000_000)
    assert whole == list(range(0, 100, 10))
    assert "20 MB" not in page.all("main")[0][1]
    size = (tmp_path / "capped.html").stat().st_size
    assert 10 * 99 * 99 * 3 * 4 / 3 < size < 500_000
    assert steps(size)[0] == whole
    thinned, page = steps(size - 1)
    assert thinned == [0, 10, 20, 30, 40, 60, 70, 80, 90]
    assert "9 of the 10 saved steps are shown, evenly chosen." in page.all("main")[0][1]
    # as many as fit: a step is 4 / 3 of 99 * 99 * 3 bytes, 39 kB, and 6 must go
    assert steps(size - 230_000)[0] == [0, 30, 60, 90]
    # less than two steps without loss
    lossy, page = steps(80_000)
    assert lossy[0] == 0
    assert lossy[-1] == 90
    assert "compressed with some loss of detail" in page.all("main")[0][1]
    (tmp_path / "capped.html").unlink()
    with pytest.raises(UserError, match="compare fewer arms"):
        steps(40_000)
    assert not (tmp_path / "capped.html").exists()


def test_curves_by_hand(write):
    lines = [attrs["points"] for attrs, _ in Page(write()).all("polyline")]
    # the panel is 228 wide from 48 and 118 high up to 126; a margin of 4% makes the range -0.04 to 1.04:
    # 0 is at 126 - 118 * 0.04 / 1.08 = 121.6, 0.5 at 67 and 1 at 12.4
    assert lines[:2] == ["48.0,121.6 162.0,67.0 276.0,12.4", "48.0,12.4 162.0,67.0 276.0,67.0"]
    # broken at the non-finite value; a single point is its own line
    assert lines[2:] == ["48.0,121.6 48.0,121.6", "219.0,67.0 276.0,12.4"]
    alone = ["alone" in attrs["class"] for attrs, _ in Page(write()).all("polyline")]
    assert alone == [False, False, True, False]


def test_a_curve_of_one_step_is_a_dot_in_the_middle(write, curves):
    curves["gan"]["loss"] = {12: (np.array([40]), np.array([0.7]))}
    (attrs,) = [attrs for attrs, _ in Page(write()).all("polyline") if "s2" in attrs["class"]]
    assert "alone" in attrs["class"]
    assert {point.split(",")[0] for point in attrs["points"].split()} == {"162.0"}


def test_a_spike_does_not_flatten_its_panel(write, curves):
    values = np.tile([1.0, 2.0], 500)
    values[300] = 1e30
    curves["gan"]["loss"] = {12: (np.arange(1000), values)}
    page = Page(write())
    (points,) = [attrs["points"] for attrs, _ in page.all("polyline") if "s2" in attrs["class"]]
    heights = [float(y) for y in re.findall(r",(\S+)", points)]
    # 1 and 2 stay distinct (the panel's range is 1 to 3), and the spike leaves the panel at its top
    assert max(heights) - sorted(heights)[1] > 40
    assert min(heights) < plots.PANEL_TOP
    assert len(heights) <= 600
    assert "1 values outside the panel" in page.all("main")[0][1]


def test_interval_plot_by_hand(write, table):
    table["rows"][2:3] = []
    page = Page(write())
    # the range covers real and trained seeds and intervals, 0.123 to 5, with a margin of 5%
    width = 1.1 * (5 - 0.123)
    low = 0.123 - 0.05 * (5 - 0.123)
    dots = [float(attrs["cx"].rstrip("%")) for attrs, _ in page.all("circle")]
    expected = [100 * (value - low) / width for value in (0.123, 1, 2, 3, 4, 5)]
    assert dots[:6] == pytest.approx(expected, abs=0.006)
    bars = [float(attrs["x1"].rstrip("%")) for attrs, _ in page.all("line", class_="bar")]
    assert bars[0] == pytest.approx(100 * (3 - 1.96324 - low) / width, abs=0.006)
    # the untrained model is far outside, which the page says
    assert "803.50 [801.54, 805.46] 5 outside →" in page.all("main")[0][1]


def test_least_input(write, results, table, pictures):
    pictures.clear()
    table["rows"] = []
    table["metrics"] = []
    table["extractor"] = None
    assert "No model was trained" in Page(write()).all("main")[0][1]
    pictures["digits"] = {"real": np.zeros((0, 4, 4, 1), np.uint8), "curves": {}, "rows": {}}
    assert not Page(write()).all("img")


def test_a_value_a_seed_is_demanded(write, table):
    table["rows"][1]["values"]["fd"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="row 'vae' has 2 values of fd for 5 seeds"):
        write()


def test_an_unknown_kind_is_refused(write, table):
    table["rows"][1]["kind"] = "pretrained"
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
    assert [text for _, text in plots.round_ticks(low, high, 6)] == expected
