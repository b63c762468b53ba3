"""Warnings from the metrics of a row."""

import pytest

from jaxgen.training.symptoms import symptoms

WON = "the {}discriminator has won: it tells over 99% of real and of fake examples apart"
COLLAPSED = "the samples have collapsed: they vary less than a twentieth as much as real ones"
UNUSED = "the {} codebook has collapsed: a twentieth of its codes or less are used"
IGNORED = "the discriminator ignores conditions: real examples with those of others pass as well"
MISSING = "modes are missing: samples fall on fewer than half as many as real examples"


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"loss": 3.0, "accuracy": 1.0}, []),
        ({"real_accuracy": 0.991, "fake_accuracy": 0.991}, [WON.format("")]),
        ({"real_accuracy": 1.0, "fake_accuracy": 0.99}, []),
        ({"real_accuracy": 0.99, "fake_accuracy": 1.0}, []),
        (
            {"real_accuracy": 0.5, "fake_accuracy": 1.0, "on_codes_real_accuracy": 1.0, "on_codes_fake_accuracy": 1.0},
            [WON.format("on codes ")],
        ),
        (
            {name: 1.0 for head in ("", "manifold_") for name in (f"{head}real_accuracy", f"{head}fake_accuracy")},
            [WON.format(""), WON.format("manifold ")],
        ),
        ({"real_score": 0.8, "wrong_score": 0.76}, [IGNORED]),
        ({"real_score": 0.8, "wrong_score": 0.74}, []),
        ({"top_used": 0.05, "bottom_used": 0.051}, [UNUSED.format("top")]),
        ({"spread": 0.049}, [COLLAPSED]),
        ({"spread": 0.05}, []),
        ({"modes": 0.49, "real_modes": 1.0}, [MISSING]),
        ({"modes": 0.5, "real_modes": 1.0}, []),
        ({"modes": 0.3, "real_modes": 0.6}, []),  # a small batch of real examples also covers few modes
        ({"modes": 0.29, "real_modes": 0.6}, [MISSING]),
        ({"modes": 0.04, "real_modes": 1.0, "spread": 0.01}, [COLLAPSED]),  # then no other warning is added
        (
            {"real_accuracy": 1.0, "fake_accuracy": 1.0, "spread": 0.9, "modes": 0.1, "real_modes": 0.9},
            [WON.format(""), MISSING],
        ),
    ],
)
def test_what_a_row_of_metrics_warns_of(metrics, expected):
    assert symptoms(metrics) == expected
