"""Warnings of common failures of training, by the names and values of metrics."""

from collections.abc import Mapping

from jaxgen.model import FEW

SURE = 0.99
"""A discriminator has won if its accuracies on real and on fake examples exceed this."""

ALIKE = 0.05
"""Samples have collapsed if their variance is below this share of the real examples' variance."""

IGNORED = 0.05
"""A discriminator ignores conditions if its output for real examples with those of others is this close to that with
their own."""

UNUSED = 0.05
"""A codebook has collapsed if the share of its codes that are used is at most this."""


def symptoms(metrics: Mapping[str, float]) -> list[str]:
    """Warnings, one line each, that follow from a row's mean metrics.

    The metrics read are a discriminator's NAMEreal_accuracy and NAMEfake_accuracy, `real_score` and `wrong_score` (its
    output for real examples with their own conditions and with those of others), `spread` (the variance of samples
    over that of real examples), `modes` and `real_modes` (shares of the known modes), and LEVEL_used (the share of the
    codes of a codebook that are used).
    """
    found = []
    for head in [name.removesuffix("real_accuracy") for name in metrics if name.endswith("real_accuracy")]:
        if min(metrics[f"{head}{name}_accuracy"] for name in ("real", "fake")) > SURE:
            which = f"{head.replace('_', ' ')}discriminator"
            found.append(f"the {which} has won: it tells over 99% of real and of fake examples apart")
    if "wrong_score" in metrics and metrics["real_score"] - metrics["wrong_score"] < IGNORED:
        found.append("the discriminator ignores conditions: real examples with those of others pass as well")
    for level in [name.removesuffix("_used") for name in metrics if name.endswith("_used")]:
        if metrics[f"{level}_used"] <= UNUSED:
            found.append(f"the {level} codebook has collapsed: a twentieth of its codes or less are used")
    if metrics.get("spread", 1.0) < ALIKE:
        found.append("the samples have collapsed: they vary less than a twentieth as much as real ones")
    elif metrics.get("modes", 1.0) < FEW * metrics.get("real_modes", 1.0):
        found.append("modes are missing: samples fall on fewer than half as many as real examples")
    return found
