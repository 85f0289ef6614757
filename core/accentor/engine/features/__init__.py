"""The objective: the features of N pairs as functions of the activations of their T crops, with no loop over either."""

from accentor.engine.features.notes import notes_of
from accentor.engine.features.objective import Objective, layer_of, layers_of
from accentor.engine.features.positions import by_position
from accentor.engine.features.reading import inline

__all__ = ["Objective", "by_position", "inline", "layer_of", "layers_of", "notes_of"]
