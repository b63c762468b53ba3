"""Tables of few examples: distances come with a warning, and what needs more is refused before a network is trained."""

import numpy as np
import pytest
from PIL import Image

from jaxgen import cli
from jaxgen.errors import UserError
from jaxgen.evaluation import Scoring, evaluate_images, networks

DISTANCES = "of {} examples with 64 features each say little: more examples than features are needed"


@pytest.mark.parametrize(
    ("metrics", "num", "titles"),
    [
        (("fd", "kid"), 2, "FD-digits and KID-digits"),
        (("fd",), 64, "FD-digits"),
        (("kid",), 63, "KID-digits"),
        (("fd", "kid"), 65, ""),
        (("neighbors",), 6, ""),
    ],
)
def test_distances_of_fewer_examples_than_features_are_warned_of(metrics, num, titles, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (num, 8, 8, 1), np.uint8))
    results = evaluate_images(tmp_path / "x.npy", "digits", Scoring(metrics=metrics), progress=False)
    assert results["warnings"] == ([f"{titles} {DISTANCES.format(num)}"] if titles else [])


@pytest.mark.parametrize("everything", [[], ["--all"]])
def test_the_warning_stands_below_the_table(everything, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = tmp_path / "run"
    assert cli.main(["train", "naive_bayes", "--steps", "1", "--out", str(run)]) == 0
    assert cli.main(["evaluate", str(run), "--metrics", "fd", "--samples", "12", *everything]) == 0
    assert f"warning: FD-digits {DISTANCES.format(12)}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ((), "metric neighbors needs 6 test examples or more, not 2"),
        (("fd", "neighbors"), "metric neighbors needs 6 test examples or more, not 2"),
        (("fd_infinity",), "metric fd_infinity needs 30 test examples or more, not 2"),
        (("fd", "log_prob"), "metric log_prob does not apply to these examples: a score of models only"),
        (
            ("modes", "nearest_neighbor"),
            "metric nearest_neighbor does not apply to these examples: its samples have no",
        ),
    ],
)
def test_what_is_known_beforehand_is_refused_before_a_network_is_trained(metrics, words, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 2), ("test", 2)):
        for number in range(count):
            path = tmp_path / "images" / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (40, 8, 8, 1), np.uint8))
    monkeypatch.setattr(networks, "_own", lambda *_: pytest.fail("a network was trained"))
    with pytest.raises(UserError, match=f"^{words}"):
        evaluate_images(
            tmp_path / "x.npy",
            "image_folder",
            Scoring(metrics=metrics),
            data_from=str(tmp_path / "images"),
            progress=False,
        )
