"""Training: one loop for all models, many seeds in one program, run folders and checkpoints."""

from jaxgen.training.loop import train
from jaxgen.training.run import Run, open_run
from jaxgen.training.sampling import sample
from jaxgen.training.settings import Settings

__all__ = ["Run", "Settings", "open_run", "sample", "train"]
