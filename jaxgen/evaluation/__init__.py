"""Evaluation: metrics as pure functions of arrays, real before fake in every signature."""

from jaxgen.evaluation.frechet import frechet_distance

__all__ = ["frechet_distance"]
