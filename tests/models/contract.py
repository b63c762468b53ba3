"""Promises of a model: CONTRACT in its own test file, which the tests common to all models check."""

import functools
import importlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from jaxgen.models import MODELS


class Contract(NamedTuple):
    """A model's promises, and a config of it that compiles quickly."""

    small: Mapping[str, Any]  # fields of the Config
    dataset: str = "digits"
    likelihood: Literal["exact", "bound"] | None = None
    samples: bool = True  # False if the model draws no images
    conditional: bool = False  # samples need a label
    prior: str | None = None  # kind of the latents' prior; None without latents
    encodes: bool = False
    densities: bool = False  # the latents have the densities of prior, posterior and likelihood
    predicts: Mapping[str, int] = {}  # width of each prediction on the digits
    layers: bool = True  # False if it has none: its start is fixed, and bfloat16 is refused


@functools.cache
def contracts() -> dict[str, Contract]:
    """Returns every model's contract."""
    return {name: importlib.import_module(f"tests.models.test_{name}").CONTRACT for name in MODELS}
