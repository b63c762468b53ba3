"""jaxgen's models with Flax's own convolution layers: the same model, as it would be without `jaxgen.nn.conv`."""

from functools import partial
from pathlib import Path
from types import ModuleType

import flax.linen as nn

from jaxgen import models


def stock(name: str) -> ModuleType:
    """A second copy of jaxgen/models/NAME.py, whose `Conv` and `ConvTranspose` are Flax's.

    The model's file must name all its layers: those of another model's file stay jaxgen's.
    Its parameters have the same names and shapes, and with the same values it is the same function: for kernels of
    4x4, stride 2 and "SAME", the transposed convolution of Flax with `transpose_kernel` is the convolution's adjoint.
    """
    module = models.load(str(Path(models.__file__).with_name(f"{name}.py")))
    module.Conv, module.ConvTranspose = nn.Conv, partial(nn.ConvTranspose, transpose_kernel=True)
    return module
