"""Metrics: pure functions of arrays, real before fake in every signature."""

from jaxgen.metrics.agreement import class_recall, label_agreement
from jaxgen.metrics.diversity import feature_diversity, ms_ssim, ssim, within_class_diversity
from jaxgen.metrics.evidence import (
    active_units,
    annealed_importance,
    bits_per_dimension,
    importance_bound,
    rate_distortion,
)
from jaxgen.metrics.frechet import frechet_distance, frechet_distance_infinity
from jaxgen.metrics.inception_score import inception_score
from jaxgen.metrics.kernel import gaussian_mmd, kernel_distance, squared_mmd
from jaxgen.metrics.mesh_errors import flipped_share, rigid_distances, vertex_errors
from jaxgen.metrics.modes import class_modes, point_modes
from jaxgen.metrics.neighbors import (
    clipped_scores,
    density_coverage,
    memorization,
    nearest_distances,
    nearest_neighbor_error,
    neighbor_scores,
    precision_recall,
)
from jaxgen.metrics.parzen import choose_deviation, parzen_log_likelihood
from jaxgen.metrics.reconstruction import reconstruction_errors
from jaxgen.metrics.two_sample import two_sample_test
from jaxgen.metrics.vendi import vendi_score

__all__ = [
    "active_units",
    "annealed_importance",
    "bits_per_dimension",
    "choose_deviation",
    "class_modes",
    "class_recall",
    "clipped_scores",
    "density_coverage",
    "feature_diversity",
    "flipped_share",
    "frechet_distance",
    "frechet_distance_infinity",
    "gaussian_mmd",
    "importance_bound",
    "inception_score",
    "kernel_distance",
    "label_agreement",
    "memorization",
    "ms_ssim",
    "nearest_distances",
    "nearest_neighbor_error",
    "neighbor_scores",
    "parzen_log_likelihood",
    "point_modes",
    "precision_recall",
    "rate_distortion",
    "reconstruction_errors",
    "rigid_distances",
    "squared_mmd",
    "ssim",
    "two_sample_test",
    "vendi_score",
    "vertex_errors",
    "within_class_diversity",
]
