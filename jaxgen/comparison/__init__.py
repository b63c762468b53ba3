"""Comparisons: experiments as files, scores beside their nulls, statistics over seeds, the page."""

from jaxgen.comparison.compare import compare
from jaxgen.comparison.experiment import Arm, Comparison, Experiment, LogUniform, Sweep, Uniform
from jaxgen.comparison.scoring import evaluate, evaluate_images
from jaxgen.evaluation.scoring import Scoring

__all__ = [
    "Arm",
    "Comparison",
    "Experiment",
    "LogUniform",
    "Scoring",
    "Sweep",
    "Uniform",
    "compare",
    "evaluate",
    "evaluate_images",
]
