"""Draws the README's pictures: samples of thirteen models, and the page of a comparison.

    python -m experiments.pictures

Every model is trained with one seed on scikit-learn's handwritten digits, resampled to 16x16, and draws 50 samples. The
page is that of digits.py with fewer steps; a headless browser renders its top at a width of 1,280 pixels. That needs
`pip install ".[test]"` and Debian's packages chromium and chromium-driver. Both pictures go into docs/.

Time: an estimated 25 minutes on 2 CPU cores; over an hour on shared cores. Expected: digits in every panel, and the
digit of its row in those of models given labels. Naive Bayes draws each pixel independently, so its digits are
speckled; those of the VAE and the autoencoder are blurred, as they show pixel means.
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import data
from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.comparison import compare
from jaxgen.drawing import GAP, captioned, enlarged, image_grid, stacked, to_png
from jaxgen.errors import UserError
from jaxgen.pictures import sample
from jaxgen.training import Settings, train

from .digits import experiment

DOCS = Path(__file__).parents[1] / "docs"

SETTINGS = {"dataset": "digits", "image_size": 16, "seeds": (0,), "steps": 1500, "batch_size": 64}
NETS = {"features": 32, "smallest": 2}
RATES = {"generator_learning_rate": 1e-3}
LABELED = {"conditional": True, "dropout": 0.3, "learning_rate": 3e-3}

CONFIGS: dict[str, dict[str, Any]] = {
    "naive_bayes": dict(experiment.arms["naive_bayes"].config),
    "autoencoder": {**NETS, "latent_dim": 5},
    "vae": dict(experiment.arms["vae"].config),
    "vaegan": {**NETS, "latent_dim": 5, "learning_rate": 1e-3},
    "gan": {"generator_units": 256, "discriminator_units": 128, "optimizer": "adam", "latent_dim": 10},
    "dcgan": dict(experiment.arms["dcgan"].config),
    "cgan": {**NETS, "latent_dim": 10, "learning_rate": 1e-3},
    "infogan": {**NETS, **RATES, "noise_dim": 10, "dense_units": 256},
    "mggan": {**NETS, **RATES, "latent_dim": 10, "manifold_units": 128, "code_dim": 16},
    "transformer": {"likelihood": "bernoulli", "patch": 2, "condition": "label", "dim": 48, "layers": 3, "dropout": 0.3}
    | {"learning_rate": 2e-3, "decay_steps": 1500},
    "pixelcnn": {**LABELED, "likelihood": "bernoulli", "layers": 5, "decay_steps": 1000},
    "pixelrnn": {**LABELED, "likelihood": "bernoulli", "layers": 2, "decay_steps": 1000},
    "pixelcnnpp": {**LABELED, "likelihood": "logistic", "mixtures": 1, "features": 24, "layers": 1, "decay_steps": 800},
}
"""Map from model to its Config's fields, in the order of the panels. A decaying learning rate ends the training."""

COLUMNS, ROWS, SCALE = 5, 10, 2  # of a panel, and its enlargement
ACROSS = 7  # panels in a row

PAGE_STEPS = 400  # of the comparison
WIDTH, HEIGHT = 1280, 2000  # of the page's picture
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1")


def panel(name: str, images: np.ndarray) -> np.ndarray:
    """Arranges images, uint8 [num, H, W, C], in a grid below a caption."""
    return captioned(enlarged(image_grid(images, COLUMNS), SCALE), name)


def samples(runs: Path) -> bytes:
    """Returns a PNG file of real images and every model's samples; models with a run in `runs` are not retrained."""
    settings = Settings(**SETTINGS)
    real = data.load("digits", image_size=settings.image_size).train
    rows = [np.flatnonzero(real["label"] == digit)[:COLUMNS] for digit in range(ROWS)]
    panels = [panel("real digits", real["image"][np.concatenate(rows)])]
    for name, config in CONFIGS.items():
        steps = config.get("decay_steps", settings.steps)
        run = train(name, config, replace(settings, steps=steps), out=runs / name, resume=True)
        drawn = sample(run.path, num=COLUMNS * ROWS, out=runs / f"{name}.npz")
        with np.load(drawn) as arrays:
            panels.append(panel(name, arrays["image"]))
    gap = np.zeros((panels[0].shape[0], GAP, 1), np.uint8)
    lines = [panels[i : i + ACROSS] for i in range(0, len(panels), ACROSS)]
    beside = [np.concatenate([part for each in line for part in (each, gap)][:-1], axis=1) for line in lines]
    return to_png(stacked(beside))


def page(runs: Path) -> bytes:
    """Returns a PNG file of the top of a comparison's page."""
    from selenium import webdriver

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        raise UserError("chromium and chromedriver are not installed: they show the page")
    report = Path(compare("digits", out=runs / "page", steps=PAGE_STEPS)["report"])
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"):
            options.add_argument(flag)
        window = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            window.get(report.absolute().as_uri())
            return window.get_screenshot_as_png()
        finally:
            window.quit()


def draw(runs: Path = Path("runs/pictures")) -> None:
    """Draw the README's pictures: samples of thirteen models, and the page of a comparison.

    Args:
        runs: folder of the runs; existing runs are not retrained
    """
    DOCS.mkdir(exist_ok=True)
    for name, content in (("samples", samples(runs)), ("page", page(runs))):
        (DOCS / f"{name}.png").write_bytes(content)
        print(DOCS / f"{name}.png")


if __name__ == "__main__":
    try:
        parse(draw, sys.argv[1:], "python -m experiments.pictures")
    except UserError as error:
        sys.exit(fail(str(error)))
