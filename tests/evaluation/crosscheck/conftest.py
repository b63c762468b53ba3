"""Stubs for torchvision, which torch-fidelity imports but the functions compared here do not use."""

import sys
import types

NAMES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")


def _stand_in(name):
    def attribute(word):
        if word.startswith("__"):
            raise AttributeError(word)
        return sys.modules.get(f"{name}.{word}", type(word, (), {}))

    module = types.ModuleType(name)
    module.__path__ = []  # a package
    module.__getattr__ = attribute
    return module


try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):  # absent, or built for another torch
    for name in NAMES:
        sys.modules[name] = _stand_in(name)
