"""jaxgen's models with Flax's convolution layers in place of those of `jaxgen.nn.conv`."""

from functools import partial
from pathlib import Path
from types import ModuleType

import flax.linen as nn

from jaxgen import models


def stock(name: str) -> ModuleType:
    """Loads a second copy of jaxgen/models/NAME.py with Flax's `Conv` and `ConvTranspose`.

    Only layers that the file itself names are replaced; those it imports within another model stay jaxgen's.
    Its parameters have the same names and shapes, and with the same values it is the same function: for kernels of
    4x4, stride 2 and "SAME", Flax's transposed convolution with `transpose_kernel` is the convolution's adjoint.
    """
    module = models.load(str(Path(models.__file__).with_name(f"{name}.py")))
    module.Conv, module.ConvTranspose = nn.Conv, partial(nn.ConvTranspose, transpose_kernel=True)
    return module
