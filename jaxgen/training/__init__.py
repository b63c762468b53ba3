"""Training: one loop for all models, many seeds in one program, run folders and checkpoints."""

from jaxgen.training.folder import Run, open_run
from jaxgen.training.loop import train
from jaxgen.training.settings import Settings

__all__ = ["Run", "Settings", "open_run", "train"]
