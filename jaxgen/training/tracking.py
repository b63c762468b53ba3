"""Writer for Weights & Biases, with the methods of TensorBoard's writer: one W&B run per seed."""

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.training.folder import read_json, write_json

IDS = "wandb.json"


def check_wandb(project: str) -> None:
    """Raises UserError if nothing could be sent to W&B: no package, an invalid project name, not logged in."""
    try:
        import wandb
    except ImportError:
        raise UserError("wandb is not installed: pip install 'jaxgen[wandb]'") from None
    if not project.strip():
        raise UserError("wandb must name a project")
    try:
        wandb.Settings(project=project)
        logged_in = wandb.setup().settings.mode != "online" or wandb.login(prompt=False)
    except (wandb.errors.Error, ValueError) as error:  # the latter is pydantic's
        raise UserError(f"W&B failed: {' '.join(str(error).split())[:200]}") from None
    if not logged_in:
        raise UserError("not logged in to W&B: run `wandb login`, or set WANDB_MODE=offline to send the runs later")


class WandbWriter:
    """A seed's W&B run, in the group of the run's folder, where W&B keeps its own files too.

    It is resumed with the run. If a run is killed after its last checkpoint and resumed, W&B keeps the values first
    sent for the repeated steps; metrics.jsonl and TensorBoard's events have the later ones.

    Raises UserError if W&B refuses.
    """

    def __init__(self, project: str, path: Path, described: dict[str, Any], seed: int):
        import wandb

        ids = read_json(path / IDS) if (path / IDS).exists() else {}
        if str(seed) not in ids:
            write_json(path / IDS, ids := ids | {str(seed): secrets.token_hex(8)})
        self._image, name = wandb.Image, path.resolve().name
        try:
            self._run = wandb.init(
                project=project, group=name, name=f"{name}-seed-{seed}", id=ids[str(seed)], resume="allow",
                config=described | {"seed": seed}, dir=path, reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )  # fmt: skip
        except wandb.errors.Error as error:
            raise UserError(f"W&B failed: {' '.join(str(error).split())[:200]}") from None

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Sends a number of a step; steps come in order."""
        self._run.log({name: value}, step=step)

    def add_image(self, name: str, image: np.ndarray, step: int, dataformats: str) -> None:
        """Sends a picture of a step, uint8 [H, W, C]."""
        self._run.log({name: self._image(image)}, step=step)

    def close(self, failed: bool) -> None:
        """Waits until everything is written; `failed` is True if training ended by an error."""
        self._run.finish(exit_code=int(failed))
