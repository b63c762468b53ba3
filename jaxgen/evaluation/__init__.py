"""Evaluation of runs, and of images that other systems made: one table of metrics, extractors, the scorer."""

from jaxgen.evaluation.evaluate import evaluate, evaluate_images
from jaxgen.evaluation.options import Scoring

__all__ = ["Scoring", "evaluate", "evaluate_images"]
