"""Trains the classifiers that jaxgen ships as feature extractors and judges.

    python -m experiments.extractors mnist fashion_mnist digits --out FOLDER

Time: about two minutes for digits, a quarter of an hour for each of the others, on 2 CPU cores. Each file holds its
accuracy on the dataset's test images, the recipe and the sha256 of its weights. To replace the shipped files, pass a
checkout's jaxgen/evaluation/weights as FOLDER. mnist and fashion_mnist must be prepared first
(`jaxgen data prepare NAME`).

Measured on a CPU (jax 0.10.2), accuracy on the test images:

                     extractor   judge
    digits           97.89%      98.00%       (899 test images)
    mnist            99.40%      99.24%       (10,000)
    fashion_mnist    92.60%      92.17%       (10,000)
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxgen import data
from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import EXTRACTOR, JUDGE, load_classifier, save_classifier


@dataclass(frozen=True)
class Recipe:
    """Training settings for a dataset's networks."""

    steps: int
    batch_size: int
    image_size: int | None = None  # pixels a side; None for the dataset's own


RECIPES = {
    "digits": Recipe(steps=2000, batch_size=64, image_size=16),
    "mnist": Recipe(steps=6000, batch_size=128),
    "fashion_mnist": Recipe(steps=6000, batch_size=128),
}


def train(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(RECIPES), out: Path = Path("weights")
) -> None:
    """Train the classifiers that jaxgen ships as feature extractors and judges.

    Args:
        names: datasets; all if not given
        out: folder for the files
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UserError(f"no recipe for {unknown[0]!r}: there are {', '.join(RECIPES)}")
    for name in names:
        recipe = RECIPES[name]
        dataset = data.load(name, image_size=recipe.image_size)
        for network in (EXTRACTOR, JUDGE):
            path = out / f"{name}-{network.name}.safetensors"
            save_classifier(path, network._replace(steps=recipe.steps, batch_size=recipe.batch_size), dataset)
            made = load_classifier(path)
            print(f"{path}: accuracy {made.accuracy:.4f}, sha256 {made.digest}", flush=True)


if __name__ == "__main__":
    try:
        parse(train, sys.argv[1:], "python -m experiments.extractors")
    except UserError as error:
        sys.exit(fail(str(error)))
