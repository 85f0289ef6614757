"""The optimisation core: all that imports torch."""

from accentor.engine.accentuate import accentuate, accentuate_pairs
from accentor.engine.accentuation import Accentuation, SweepPoint
from accentor.engine.couplings import Alignment, Coupling, Diversity
from accentor.engine.dictionaries import Dictionary, fit_dictionary, load_dictionary
from accentor.engine.features import inline
from accentor.engine.models import Model, load_model
from accentor.engine.outputs.figures import figure_grid
from accentor.engine.outputs.notebook import gallery
from accentor.engine.running import Pair, StepReport

__all__ = [
    "Accentuation",
    "Alignment",
    "Coupling",
    "Dictionary",
    "Diversity",
    "Model",
    "Pair",
    "StepReport",
    "SweepPoint",
    "accentuate",
    "accentuate_pairs",
    "figure_grid",
    "fit_dictionary",
    "gallery",
    "inline",
    "load_dictionary",
    "load_model",
]
