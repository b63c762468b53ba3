"""A ladder of corruptions for the metrics of samples: which metric sees what.

    jaxgen data prepare mnist
    python -m experiments.ladder digits mnist --out experiments/results/ladder.json --figure docs/ladder.png

Real training images are scored as if a model had made them: as they are, then with noise, with black and white pixels,
blurred, with pixels of other images of the class, without some classes, and with copies in place of different images,
each in three strengths. Beside them stand samples of Naive Bayes, whose pixels are independent given the class, of a
VAE, of a DCGAN, and of no model at all. Every metric should find real images best and each strength worse than the one
before; one that does not, does not see that fault.

The figure shows how far each score is from that of real images, in deviations over random halves of them. It needs
`pip install ".[notebook]"`.

Time: 13 minutes of processor time (jax 0.10.2). What was found is in docs/evaluation.md, the scores are in
experiments/results/ladder.json.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxgen import data
from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.evaluation import corruptions
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.scorer import Scorer
from jaxgen.evaluation.table import COLUMNS
from jaxgen.pictures import sample
from jaxgen.training import Settings, train
from jaxgen.training.environment import environment
from jaxgen.training.folder import write_json

from .digits import experiment
from .kept import check_kept

SIZES = {"digits": 16, "mnist": None}
"""Map from dataset to pixels a side; None for its own."""

METRICS = (
    *("fd", "kid", "mmd", "sliced_wasserstein", "neighbors", "clipped", "vendi"),
    *("inception_score", "recognized", "agreement", "two_sample"),
)

MOST, HALVES, SEED = 5_000, 8, 0

Images = tuple[np.ndarray, np.ndarray]  # uint8 [num, H, W, C] and labels [num]
Corruption = Callable[[np.random.Generator, np.ndarray, np.ndarray], Images]


def _changed(function: Callable, *given: Any) -> Corruption:
    """A corruption that changes images and keeps their labels."""
    return lambda rng, images, labels: (function(rng, images, *given), labels)


def _mixed(share: float) -> Corruption:
    return lambda rng, images, labels: (corruptions.independent_pixels(rng, images, labels, share), labels)


def _chosen(allowed: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> Corruption:
    """A corruption that draws as many examples from the allowed rows alone."""

    def corrupted(rng, images, labels):
        rows = rng.choice(allowed(rng, labels), len(labels))
        return images[rows], labels[rows]

    return corrupted


def _distinct(share: float) -> Corruption:
    return _chosen(lambda rng, labels: rng.permutation(len(labels))[: max(1, round(share * len(labels)))])


def _classes(num: int) -> Corruption:
    return _chosen(lambda rng, labels: np.flatnonzero(labels < num))


RUNGS: dict[str, dict[str, Corruption]] = {
    "noise, deviation of levels": {str(sd): _changed(corruptions.gaussian_noise, sd) for sd in (16, 32, 96)},
    "black and white pixels": {f"{s:.0%}": _changed(corruptions.salt_and_pepper, s) for s in (0.01, 0.1, 0.4)},
    "blur, deviation of pixels": {str(sd): _changed(corruptions.blur, sd) for sd in (0.5, 1, 2)},
    "pixels of others of the class": {f"{share:.0%}": _mixed(share) for share in (0.1, 0.4, 1.0)},
    "classes left": {str(num): _classes(num) for num in (9, 5, 1)},
    "different images": {f"{share:.0%}": _distinct(share) for share in (0.5, 0.1, 0.01)},
}
"""Map from fault to strength to corruption, from weak to strong."""


def rungs(images: np.ndarray, labels: np.ndarray) -> dict[str, Images]:
    """Map from the names of the rungs to corrupted images; "real" are the images themselves."""
    made = {"real": (images, labels)}
    for fault, strengths in RUNGS.items():
        for strength, corrupted in strengths.items():
            made[f"{fault}: {strength}"] = corrupted(np.random.Generator(np.random.Philox(SEED)), images, labels)
    return made


def drawn(name: str, num: int, runs: Path) -> dict[str, Images]:
    """Samples of the models of experiments/digits.py, trained on a dataset with one seed, and of no model."""
    made = {}
    for arm, of in experiment.arms.items():
        settings = Settings(name, image_size=SIZES[name], seeds=(SEED,), steps=experiment.settings.steps, batch_size=64)
        run = train(of.model, of.config, settings, out=runs / name / arm, resume=True)
        with np.load(sample(run.path, num=num, out=runs / name / f"{arm}-{num}.npz")) as arrays:
            images = arrays["image"]
            made[arm] = images, arrays["label"] if "label" in arrays else np.full(len(images), -1)
    noise = corruptions.uniform_noise(np.random.Generator(np.random.Philox(SEED)), made["vae"][0])
    return made | {"uniform noise": (noise, np.full(num, -1))}


def measure(name: str, runs: Path) -> dict[str, Any]:
    """Scores of a dataset's rungs and models, and the deviations of real images' scores over random halves."""
    dataset = data.load(name, image_size=SIZES[name])
    num = min(MOST, dataset.spec.num_examples)
    rows = np.sort(np.random.Generator(np.random.Philox(SEED)).permutation(dataset.spec.num_examples)[:num])
    images, labels = dataset.train["image"][rows], dataset.train["label"][rows]
    with Scorer(dataset, Scoring(metrics=METRICS, samples=num), progress=True) as scorer:

        def scores(rung: str, some: np.ndarray, of: np.ndarray) -> dict[str, float]:
            found = scorer.of_samples(f"{name}, {rung}", some, of if (of >= 0).all() else None)
            return {key: value for key, value in found.items() if key in COLUMNS}

        found = {rung: scores(rung, *pair) for rung, pair in (rungs(images, labels) | drawn(name, num, runs)).items()}
        rng, halves = np.random.Generator(np.random.Philox(SEED)), []
        for i in range(HALVES):
            half = rng.permutation(num)[: num // 2]
            halves.append(scores(f"half {i}", images[half], labels[half]))
    deviations = {key: float(np.std([half[key] for half in halves], ddof=1)) for key in halves[0]}
    return {"scores": found, "deviations": deviations, "environment": environment(dataset)}


def distances(results: dict[str, Any]) -> tuple[list[str], list[str], np.ndarray]:
    """Rungs, columns, and how much worse than real images each is, in deviations: [rungs, columns], nan where absent.

    A metric whose deviation is 0 gets a thousandth of its real score as one.
    """
    found = results["scores"]
    keys = [key for key in COLUMNS if key in found["real"] and COLUMNS[key].better]
    real = np.array([found["real"][key] for key in keys])
    unit = np.array([results["deviations"][key] for key in keys])
    unit = np.maximum(unit, np.abs(real) / 1000 + 1e-12)
    sign = np.where([COLUMNS[key].better == "lower" for key in keys], 1, -1)
    names = [rung for rung in found if rung != "real"]
    scores = np.array([[found[rung].get(key, np.nan) for key in keys] for rung in names])
    return names, keys, sign * (scores - real) / unit


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws the figure, a panel for each dataset: columns are metrics, rows the faults from weak to strong."""
    try:
        import matplotlib
        import matplotlib.pyplot as plt
    except ImportError:
        raise UserError("the figure needs matplotlib: pip install 'jaxgen[notebook]'") from None
    matplotlib.use("agg")
    figure, panels = plt.subplots(1, len(results), figsize=(7 * len(results), 8.5), squeeze=False, layout="constrained")
    for panel, (name, each) in zip(panels[0], results.items(), strict=True):
        names, keys, worse = distances(each)
        shown = np.sign(worse) * np.log10(1 + np.abs(worse))
        picture = panel.imshow(shown, cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
        panel.set_xticks(
            range(len(keys)), [COLUMNS[key].title.format(short=f"-{name}", fd=f"FD-{name}") for key in keys]
        )
        panel.tick_params(axis="x", rotation=90, top=True, labeltop=True, bottom=False, labelbottom=False)
        panel.set_yticks(range(len(names)), names if panel is panels[0, 0] else [""] * len(names))
        panel.set_title(name)
    bar = figure.colorbar(picture, ax=panels[0].tolist(), shrink=0.5, ticks=(-3, -2, -1, 0, 1, 2, 3))
    bar.ax.set_yticklabels(["1,000 better", "100", "10", "as real", "10", "100", "1,000 worse"])
    bar.set_label("deviations of real images' score")
    figure.savefig(path, dpi=80)


def climb(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ("digits",),
    runs: Path = Path("runs/ladder"),
    out: Path | None = None,
    figure: Path | None = None,
) -> None:
    """Score real images with faults from weak to strong by every metric of samples.

    Args:
        names: datasets, digits or mnist
        runs: folder of the models' runs; existing runs are resumed
        out: JSON file for the results
        figure: PNG file for the figure
    """
    if unknown := [name for name in names if name not in SIZES]:
        raise UserError(f"no ladder of {unknown[0]!r}: there are {', '.join(SIZES)}")
    check_kept(out)
    results = {name: measure(name, runs) for name in names}
    for name, each in results.items():
        keys = list(each["scores"]["real"])
        table = Table(name, *keys)
        for rung, scores in each["scores"].items():
            table.add_row(rung, *(f"{scores[key]:.{COLUMNS[key].digits}f}" if key in scores else "—" for key in keys))
        Console(width=220).print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, results)
        print(out)
    if figure:
        draw(results, figure)
        print(figure)


if __name__ == "__main__":
    try:
        parse(climb, sys.argv[1:], "python -m experiments.ladder")
    except (UserError, OSError) as error_:  # OSError comes from writing --out
        sys.exit(fail(str(error_)))
