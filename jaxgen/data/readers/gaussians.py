"""`gaussians`: points of mixtures of 2-D Gaussians, for counting the modes that a model covers.

    ring   8 on a circle of radius 1, standard deviation 0.01
    grid   25 with means {-4, -2, 0, 2, 4}^2, standard deviation 0.05

Both have equal weights, and 100,000 points to train on. These are the 2D-ring and 2D-grid of Srivastava et al.
2017 (VEEGAN, https://arxiv.org/abs/1705.07761); all numbers are those of the code of Lin et al. 2018 (PacGAN,
https://arxiv.org/abs/1712.04086, https://github.com/fjxmlzn/PacGAN).
"""

import numpy as np

from jaxgen.data.options import Options
from jaxgen.data.source import Source
from jaxgen.errors import UserError

CONFIGS = ("ring", "grid")

EXAMPLES = {"train": 100_000, "validation": 10_000, "test": 10_000}


def modes(config: str = "") -> tuple[np.ndarray, float]:
    """The means, float64 [modes, 2] in the order of the labels, and the standard deviation on both axes.

    The ring begins at (1, 0) and goes counterclockwise; on the grid, the second coordinate varies fastest.

    Args:
      config: one of CONFIGS; "" is the ring.

    Raises:
      UserError: if there is no such config.
    """
    if config in ("", "ring"):
        angle = 2 * np.pi * np.arange(8) / 8
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1), 0.01
    if config == "grid":
        axis = np.arange(-4.0, 5.0, 2.0)
        return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2), 0.05
    raise UserError(f"gaussians has no config {config!r}: there are {' and '.join(CONFIGS)}")


def identity(options: Options) -> str:
    """Version of the sampling rule."""
    del options  # the identity covers both configs
    return "1"


def read(options: Options) -> Source:
    """The splits, with `point` float32 [n, 2] and `label` int32 [n], the index of the point's mode.

    Raises:
      UserError: if there is no such config.
    """
    means, deviation = modes(options.dataset_config)
    splits = {
        split: draw(np.random.Generator(np.random.PCG64(seed)), means, deviation, num)
        for seed, (split, num) in enumerate(EXAMPLES.items())
    }
    note = (
        f"a mixture of {len(means)} Gaussians in the plane with standard deviation {deviation}, "
        "each split drawn independently of the others"
    )
    classes = tuple(f"({x:g}, {y:g})" for x, y in np.round(means, 2) + 0.0)  # which turns -0 to 0
    return Source(splits, note, classes)


def draw(rng: np.random.Generator, means: np.ndarray, deviation: float, num: int) -> dict[str, np.ndarray]:
    """Points of the mixture with equal weights: `point` float32 [num, 2] and `label` int32 [num], their modes."""
    label = rng.integers(len(means), size=num, dtype=np.int32)
    point = means[label] + deviation * rng.standard_normal((num, 2))
    return {"point": point.astype(np.float32), "label": label}
