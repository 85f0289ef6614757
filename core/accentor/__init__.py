"""Feature accentuation: what does this feature see in this image, and where.

``import accentor`` is light; the first use of the engine imports torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from accentor.spec import Feature, Recipe, parse_feature

if TYPE_CHECKING:
    from accentor.engine import Accentuation, Model, load_model
    from accentor.engine.accentuate import accentuate
    from accentor.metadata import read_metadata

__version__ = "0.1.0"

__all__ = ["Accentuation", "Feature", "Model", "Recipe", "accentuate", "load_model", "parse_feature", "read_metadata"]

_ENGINE = frozenset({"Accentuation", "Model", "accentuate", "load_model"})


def __getattr__(name: str) -> Any:
    if name in _ENGINE:
        try:
            return getattr(importlib.import_module("accentor.engine"), name)
        except ModuleNotFoundError as error:
            raise ImportError(f"accentor.{name} needs {error.name}: pip install 'accentor[engine]'") from error
    if name == "read_metadata":
        return importlib.import_module("accentor.metadata").read_metadata
    raise AttributeError(f"module 'accentor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
