"""Libraries that only some outputs need."""

import importlib
from typing import Any


def needed(module: str, extra: str, purpose: str) -> Any:
    """Return the module.

    Raises
    ------
    ImportError
        With the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"{purpose} needs {error.name}: pip install 'accentor[{extra}]'", name=error.name) from error
