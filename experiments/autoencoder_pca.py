"""The linear autoencoder against PCA, and the convolutional one against both.

    jaxgen data prepare mnist
    python -m experiments.autoencoder_pca --out experiments/results/autoencoder_pca.json

Codes have ten dimensions. A linear autoencoder has the same minimum as PCA (Baldi & Hornik 1989): its training error
should be within 1% of scikit-learn's PCA, and the largest principal angle between its decoder's span and PCA's subspace
below 5 degrees. The error is the squared error, summed over pixels in [0, 1] and averaged over images. On training
images it is computed from the affine maps' real-valued output, on test images after rounding to 256 levels.

Time: 9 minutes on 2 shared CPU cores. Expected: all ratios below 1.001 and all angles below 5 degrees; a convolutional
error on MNIST's test images of about half of PCA's.

Measured on a CPU (jax 0.10.2), three seeds:

              train: PCA   linear    largest angle      test: PCA   linear   convolutional
    digits        1.2127    1.2127   0.01 to 0.02 deg       1.188    1.188   0.643 to 0.700
    mnist        26.9775   26.9780   0.47 deg              25.788   25.788   11.87 to 11.92
"""

import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.model import PyTree
from jaxgen.pictures import latents
from jaxgen.training import Settings, train
from jaxgen.training.folder import ENVIRONMENT, Run, read_json, write_json

LATENT_DIM = 10


class Recipe(NamedTuple):
    """Training settings and model configs for a dataset, each (linear, convolutional)."""

    settings: tuple[dict[str, Any], dict[str, Any]]
    configs: tuple[dict[str, Any], dict[str, Any]]


LINEAR = {"network": "linear", "learning_rate": 1e-2}
CONV = {"network": "conv", "learning_rate": 3e-3}
RECIPES = {
    "digits": Recipe(
        ({"steps": 2000, "batch_size": 128}, {"steps": 2000, "batch_size": 64}), (LINEAR, {**CONV, "smallest": 2})
    ),
    "mnist": Recipe(
        ({"steps": 6000, "batch_size": 128}, {"steps": 3000, "batch_size": 64}), (LINEAR, {**CONV, "features": 16})
    ),
}


def trained(name: str, seeds: tuple[int, ...], folder: Path) -> tuple[Run, Run]:
    """Trains the linear and the convolutional autoencoder on a dataset, or resumes their runs in `folder`."""
    runs = []
    for settings, config in zip(*RECIPES[name], strict=True):
        config = {**config, "latent_dim": LATENT_DIM, "decay_steps": settings["steps"]}
        out = folder / f"{name}-{config['network']}"
        runs.append(train("autoencoder", config, Settings(name, seeds=seeds, **settings), out=out, resume=True))
    return tuple(runs)


def rows(images: np.ndarray) -> np.ndarray:
    """Flattens uint8 images [num, ...] to float64 [num, pixels] in [0, 1]."""
    return images.reshape(len(images), -1) / 255.0


def error(x: np.ndarray, reconstructed: np.ndarray) -> float:
    """Squared error, summed over pixels and averaged over images [num, pixels]."""
    return float(((x - reconstructed) ** 2).sum(1).mean())


def against_pca(params: PyTree, mean: np.ndarray, pca: PCA, x: np.ndarray) -> tuple[float, float]:
    """Returns a linear autoencoder's error on images x [num, pixels] and its largest angle to PCA's subspace, degrees.

    `mean` is the mean of the training images, which the encoder subtracts from x.
    """
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    encoder, decoder = params["encoder"]["Dense_0"], params["decoder"]
    z = (x - mean.reshape(-1)) @ encoder["kernel"] + encoder["bias"]
    span = decoder["Dense_0"]["kernel"]  # [latent_dim, pixels]
    angle = np.rad2deg(subspace_angles(span.T, pca.components_.T).max())
    return error(x, z @ span + decoder["bias"].reshape(-1)), float(angle)


def shown_errors(run: Run) -> list[float]:
    """Returns each seed's error on the test images, from reconstructions rounded to 256 levels."""
    images = run.plan.dataset.test["image"]
    shown = latents.reconstructed(run.plan.model, run.state, {"image": images})
    return [error(rows(images), rows(each)) for each in shown]


def measure(name: str, seeds: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Measures PCA and both autoencoders on a dataset; the autoencoders' values are lists over seeds."""
    linear, conv = trained(name, seeds, folder)
    dataset = linear.plan.dataset
    x, test = rows(dataset.train["image"]), rows(dataset.test["image"])
    pca = PCA(LATENT_DIM, svd_solver="covariance_eigh").fit(x)
    train_pca, test_pca = (pca.inverse_transform(pca.transform(images)) for images in (x, test))
    of_seeds = [jax.tree.map(lambda leaf, i=i: leaf[i], linear.state.params) for i in range(len(seeds))]
    errors, angles = zip(*(against_pca(params, dataset.spec.mean, pca, x) for params in of_seeds), strict=True)
    return {
        "pca": {"train": error(x, train_pca), "test": error(test, np.round(test_pca.clip(0, 1) * 255) / 255)},
        "linear": {"train": errors, "angle": angles, "test": shown_errors(linear)},
        "conv": {"test": shown_errors(conv)},
        "environments": [read_json(run.path / ENVIRONMENT) for run in (linear, conv)],
    }


def scores(name: str, of: dict[str, Any]) -> dict[str, Any]:
    """Converts a dataset's measurements to the layout of a comparison's results: values by row, column and seed."""
    pca, linear, conv = of["pca"], of["linear"], of["conv"]
    values = {
        "pca": {"train_error": [pca["train"]], "test_error": [pca["test"]]},
        "linear": {"train_error": linear["train"], "angle": linear["angle"], "test_error": linear["test"]},
        "conv": {"test_error": conv["test"]},
    }
    return {
        "label": name,
        "rows": [{"name": row, "values": each} for row, each in values.items()],
        "environments": of["environments"],
    }


def compare(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(RECIPES),
    seeds: tuple[int, ...] = (0, 1, 2),
    runs: Path = Path("runs/autoencoder_pca"),
    out: Path | None = None,
) -> None:
    """The linear autoencoder against PCA, and the convolutional one against both.

    Args:
        names: datasets; all if not given
        seeds: training seeds
        runs: folder of the runs; existing runs are resumed
        out: JSON file for the results
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UserError(f"no recipe for {unknown[0]!r}: there are {', '.join(RECIPES)}")
    found = {name: measure(name, seeds, runs) for name in names}
    table = Table("dataset", "seed", "PCA", "linear", "ratio", "angle", "test: PCA", "linear", "conv")
    for name, of in found.items():
        linear = zip(*of["linear"].values(), strict=True)
        for seed, (train_error, angle, shown), conv in zip(seeds, linear, of["conv"]["test"], strict=True):
            pca = of["pca"]
            numbers = (pca["train"], train_error, train_error / pca["train"])
            numbers = [
                *(f"{n:.4f}" for n in numbers),
                f"{angle:.2f}",
                *(f"{n:.3f}" for n in (pca["test"], shown, conv)),
            ]
            table.add_row(name, str(seed), *numbers)
    Console().print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        tables = [scores(name, of) for name, of in found.items()]
        write_json(out, {"latent_dim": LATENT_DIM, "seeds": seeds, "tables": tables})
        print(out)


if __name__ == "__main__":
    try:
        parse(compare, sys.argv[1:], "python -m experiments.autoencoder_pca")
    except (UserError, OSError) as error_:  # OSError comes from writing --out
        sys.exit(fail(str(error_)))
