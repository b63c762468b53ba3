"""Comparisons: experiments as files, trained and scored, and verdicts over seeds."""

from jaxgen.comparison.compare import compare
from jaxgen.comparison.experiment import Arm, Comparison, Experiment, LogUniform, Sweep, Uniform
from jaxgen.evaluation.options import Scoring

__all__ = [
    "Arm",
    "Comparison",
    "Experiment",
    "LogUniform",
    "Scoring",
    "Sweep",
    "Uniform",
    "compare",
]
