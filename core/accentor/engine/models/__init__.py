"""Models: a network with everything accentuation needs to know of it, and where to load one from."""

from accentor.engine.models.defaults import default_regularization_layer
from accentor.engine.models.devices import best_device, read_device
from accentor.engine.models.loading import REFERENCE, available_models, load_model
from accentor.engine.models.model import Model
from accentor.engine.models.timm_source import TIMM
from accentor.engine.models.torchvision_source import TORCHVISION, UNTRAINED

__all__ = [
    "REFERENCE",
    "TIMM",
    "TORCHVISION",
    "UNTRAINED",
    "Model",
    "available_models",
    "best_device",
    "default_regularization_layer",
    "load_model",
    "read_device",
]
