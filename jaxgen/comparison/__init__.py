"""Comparisons: experiments as files, scores beside their nulls, statistics over seeds, the page."""

from jaxgen.comparison.compare import compare
from jaxgen.comparison.experiment import Arm, Experiment
from jaxgen.comparison.scoring import evaluate

__all__ = ["Arm", "Experiment", "compare", "evaluate"]
