"""Warnings that a row of metrics gives, by the metrics' names."""

from collections.abc import Mapping

from jaxgen.model import FEW

SURE = 0.99
"""A discriminator has won where its accuracy on real and on fake examples is above this."""

ALIKE = 0.05
"""Samples have collapsed where their variance is below this share of real examples' variance."""


def symptoms(metrics: Mapping[str, float]) -> list[str]:
    """Warnings, a line each, that the means of a step's metrics give.

    Read are NAMEreal_accuracy and NAMEfake_accuracy of a discriminator, `spread` (the variance of samples over that of
    real examples), and `modes` and `real_modes` (shares of the known modes).
    """
    found = []
    for head in [name.removesuffix("real_accuracy") for name in metrics if name.endswith("real_accuracy")]:
        if min(metrics[f"{head}{name}_accuracy"] for name in ("real", "fake")) > SURE:
            which = f"{head.replace('_', ' ')}discriminator"
            found.append(f"the {which} has won: it tells over 99% of real and of fake examples apart")
    if metrics.get("spread", 1.0) < ALIKE:
        found.append("the samples have collapsed: they vary less than a twentieth as much as real ones")
    elif metrics.get("modes", 1.0) < FEW * metrics.get("real_modes", 1.0):
        found.append("modes are missing: samples fall on fewer than half as many as real examples")
    return found
