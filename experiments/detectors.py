"""Detectors of generated images: learned from other models' images they fail, from real images alone they do not.

    jaxgen data prepare mnist
    python -m experiments.detectors --out experiments/results/detectors.json

Naive Bayes, a VAE and a DCGAN are trained on MNIST for a few steps, and draw 1,200 images each. A logistic regression
on one family of features (shares of gray levels, spectrum, differences of neighbors) learns real images against those
of two models, and is tested on real images against those of the third: a row of AUCs, in which far below 0.5 is
confidently wrong. The one-class detector of `jaxgen.provenance.detector` learns from the same real images alone. All
images are used as drawn, after JPEG 75 of the real and the drawn ones alike, and binarized. False alarms are at p <=
0.01.

Time: 100 s of processor time, in jax 0.10.2 on a CPU. Measured (experiments/results/detectors.json): the regressions
have AUCs of 0.74 to 1.00 as drawn on the two models that they learned from, and of 0.00 to 1.00 on the third; the
one-class detector has 1.00 on each as drawn, 0.90 to 1.00 after JPEG, and 0.44 and 0.59 on binarized images of the VAE
and the DCGAN, with 0.9 to 1.8% false alarms. What it sees is the statistics of gray levels, not content.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxgen import data
from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.pictures import sample
from jaxgen.provenance import detector
from jaxgen.training import Settings, train
from jaxgen.training.environment import environment
from jaxgen.training.folder import write_json

from .watermarks import jpeg

RECIPES: dict[str, dict[str, Any]] = {
    "naive_bayes": {"likelihood": "categorical"},
    "vae": {"latent_dim": 16},
    "dcgan": {"features": 16},
}
"""Map from model to its config."""

STEPS, SEED = 800, 0

FAMILIES = {"histogram": detector.histogram, "spectrum": detector.spectrum, "differences": detector.differences}
"""Families of features that a regression learns from."""

CHANGES = {
    "as drawn": lambda images: images,
    "JPEG 75": lambda images: jpeg(images, 75),
    "binarized": lambda images: np.where(images >= 128, 255, 0).astype(np.uint8),
}
"""Map from name to a change of real and drawn images."""


class Images(NamedTuple):
    """Real images to learn from and to test on, and those of every model: uint8 [num, H, W, C]."""

    train: np.ndarray
    test: np.ndarray
    drawn: dict[str, np.ndarray]


def supervised(images: Images, family: str, held_out: str) -> dict[str, float]:
    """AUC, by model, of a regression that learned real images against those of all models but one.

    It learns from the first half of each model's images and is tested on the second.
    """
    features = FAMILIES[family]
    known = [of[: len(of) // 2] for name, of in images.drawn.items() if name != held_out]
    fakes = np.concatenate(known)
    rows = np.concatenate([features(images.train[: len(fakes)]), features(fakes)])
    labels = np.repeat([0, 1], [len(rows) - len(fakes), len(fakes)])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(rows, labels)
    real = fitted.decision_function(features(images.test))
    found = {name: fitted.decision_function(features(of[len(of) // 2 :])) for name, of in images.drawn.items()}
    return {name: auc(real, scores) for name, scores in found.items()}


def one_class(images: Images) -> dict[str, Any]:
    """The one-class detector: its false alarms, and by model its AUC and the share found at the same level."""
    fitted = detector.fit(images.train)
    real = detector.scores(fitted, images.test)
    alarms = (detector.p_values(fitted, images.test) <= detector.LEVEL).mean()
    rows = {}
    for name, of in images.drawn.items():
        share = (detector.p_values(fitted, of) <= detector.LEVEL).mean()
        rows[name] = {"auc": auc(real, detector.scores(fitted, of)), "found": float(share)}
    return {"false_alarms": float(alarms), "models": rows}


def auc(real: np.ndarray, drawn: np.ndarray) -> float:
    """Area under the ROC curve of scores that are higher for drawn images."""
    return float(roc_auc_score(np.repeat([0, 1], [len(real), len(drawn)]), np.concatenate([real, drawn])))


def changed(images: Images, change: str) -> Images:
    """Images after one of CHANGES."""
    how = CHANGES[change]
    return Images(how(images.train), how(images.test), {name: how(of) for name, of in images.drawn.items()})


def measure(images: Images) -> dict[str, Any]:
    """Results by change: AUCs of regressions by family, held out model and model, and of the one-class detector."""
    results = {}
    for change in CHANGES:
        each = changed(images, change)
        learned = {family: {name: supervised(each, family, name) for name in images.drawn} for family in FAMILIES}
        results[change] = {"supervised": learned, "one_class": one_class(each)}
    return results


def drawn(folder: Path, num: int) -> dict[str, np.ndarray]:
    """Map from model to images that it draws, after a short training in `folder`, or by the runs that are there."""
    images = {}
    for name, config in RECIPES.items():
        settings = Settings("mnist", seeds=(SEED,), steps=STEPS, batch_size=64)
        run = train(name, config, settings, out=folder / name, resume=True)
        with np.load(sample(run.path, num=num, out=folder / f"{name}-{num}.npz")) as arrays:
            images[name] = arrays["image"]
    return images


def compare(num: int = 1200, runs: Path = Path("runs/detectors"), out: Path | None = None) -> None:
    """Detectors of generated images: learned from other models' images, and from real images alone.

    Args:
        num: images of each model
        runs: folder of the runs; existing runs are resumed
        out: JSON file for the results
    """
    mnist = data.load("mnist")
    images = Images(mnist.train["image"][: detector.MOST], mnist.test["image"][: 2 * num], drawn(runs, num))
    results = measure(images)
    table = Table(
        "images", "detector", "learned without", *(f"AUC {name}" for name in RECIPES), "found", "false alarms"
    )
    for change, found in results.items():
        for family, rows in found["supervised"].items():
            for held_out, of in rows.items():
                table.add_row(change, family, held_out, *(f"{of[name]:.3f}" for name in RECIPES))
        models = found["one_class"]["models"]
        shares = " ".join(f"{100 * models[name]['found']:.0f}" for name in RECIPES)
        aucs = [f"{models[name]['auc']:.3f}" for name in RECIPES]
        table.add_row(change, "one-class", "all", *aucs, shares, f"{found['one_class']['false_alarms']:.4f}")
    Console(width=160).print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {"num": num, "steps": STEPS, "environment": environment(mnist), "results": results})
        print(out)


if __name__ == "__main__":
    try:
        parse(compare, sys.argv[1:], "python -m experiments.detectors")
    except (UserError, OSError) as error_:  # OSError comes from writing --out
        sys.exit(fail(str(error_)))
