"""Evaluation of runs, and of images that other systems made: one table of metrics, extractors, the scorer."""

from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.scorer import evaluate, evaluate_images

__all__ = ["Scoring", "evaluate", "evaluate_images"]
