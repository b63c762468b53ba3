"""Weights & Biases, where asked for: a run a seed, with the calls of TensorBoard's writer."""

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.training.run import read_json, write_json

IDS = "wandb.json"


def check_wandb(project: str) -> None:
    """Raises UserError where nothing could be sent to W&B: a project of no name, no package, not logged in."""
    if not project.strip():
        raise UserError("wandb must name a project")
    try:
        import wandb
    except ImportError:
        raise UserError("wandb is not installed: pip install 'jaxgen[wandb]'") from None
    if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False):
        raise UserError("not logged in to W&B: run `wandb login`, or set WANDB_MODE=offline to send the runs later")


class WandbWriter:
    """A seed's W&B run, in the group of the run's folder, where W&B keeps its own files too; resumed with the run."""

    def __init__(self, project: str, path: Path, described: dict[str, Any], seed: int):
        import wandb

        ids = read_json(path / IDS) if (path / IDS).exists() else {}
        if str(seed) not in ids:
            write_json(path / IDS, ids := ids | {str(seed): secrets.token_hex(8)})
        self._image = wandb.Image
        self._run = wandb.init(
            project=project, group=path.name, name=f"{path.name}-seed-{seed}", id=ids[str(seed)], resume="allow",
            config=described | {"seed": seed}, dir=path, reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A number of a step; steps come in order."""
        self._run.log({name: value}, step=step)

    def add_image(self, name: str, image: np.ndarray, step: int, dataformats: str) -> None:
        """A picture of a step, uint8 [H, W, C]."""
        self._run.log({name: self._image(image)}, step=step)

    def close(self) -> None:
        """Waits until all is written."""
        self._run.finish()
