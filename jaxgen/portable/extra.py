"""Packages of the extra `export`."""

import importlib
from types import ModuleType

from jaxgen.errors import UserError


def imported(name: str) -> ModuleType:
    """Imports a module of the extra `export`; raises UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"this needs {name.partition('.')[0]}: pip install 'jaxgen[export]'") from None
