"""The optimisation core: all that imports torch."""

from accentor.engine.accentuate import Pair, StepReport, accentuate, accentuate_pairs
from accentor.engine.accentuation import Accentuation
from accentor.engine.features import inline
from accentor.engine.models import Model, load_model

__all__ = ["Accentuation", "Model", "Pair", "StepReport", "accentuate", "accentuate_pairs", "inline", "load_model"]
